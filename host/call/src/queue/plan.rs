//! A policy's placement, checked before it is believed, and the default that holds without one.
//!
//! Called by the domain with the answer of a policy. Pure arithmetic.

use crate::Name;
use crate::model::Workgroup;
use crate::policy::{Entry, Fault, MAX_PLAN_STEPS, Native, Placement, PlanAction, Policies};

/// A key may lie at most so far from the arrival: a year.
const MAX_KEY_DISTANCE_MS: i64 = 366 * 24 * 3_600_000;
/// A step may come at most so late: a day.
const MAX_STEP_AFTER_MS: u64 = 24 * 3_600_000;

/// The default: first come, first served, with ten seconds for a point of priority.
pub(crate) fn default_placement(entry: &Entry) -> Placement {
    let none: Name = "".into();
    Native
        .place(&none, &none, &none, entry)
        .unwrap_or(Placement { key_ms: entry.arrived_ms, plan: Vec::new() })
}

/// Nonsense is refused whole, with what is wrong. The plan comes back in the order of its times.
pub(crate) fn check(
    entry: &Entry,
    placement: Placement,
    skills: u32,
    workgroups: u32,
) -> Result<Placement, Fault> {
    let nonsense = |text: String| Err(Fault::Nonsense(text));
    let Placement { key_ms, mut plan } = placement;
    if key_ms.checked_sub(entry.arrived_ms).is_none_or(|d| d.abs() > MAX_KEY_DISTANCE_MS) {
        return nonsense(format!(
            "the key {key_ms} is more than a year from the arrival {}",
            entry.arrived_ms
        ));
    }
    if plan.len() > MAX_PLAN_STEPS {
        return nonsense(format!("a plan of {} steps: at most {MAX_PLAN_STEPS}", plan.len()));
    }
    for step in &plan {
        if step.after_ms > MAX_STEP_AFTER_MS {
            return nonsense(format!("a step after {} ms: at most a day", step.after_ms));
        }
        match &step.action {
            PlanAction::DropSkills(drop) => {
                if let Some(skill) = drop.iter().find(|s| **s >= skills) {
                    return nonsense(format!("skill {skill}: the tenant has {skills}"));
                }
            }
            PlanAction::RaiseMs(ms) => {
                if ms.checked_abs().is_none_or(|ms| ms > MAX_KEY_DISTANCE_MS) {
                    return nonsense(format!("a raise of {ms} ms is more than a year"));
                }
            }
            PlanAction::Overflow(workgroup) => {
                if *workgroup >= workgroups {
                    return nonsense(format!(
                        "overflow to workgroup {workgroup}: the tenant has {workgroups}"
                    ));
                }
            }
        }
    }
    plan.sort_by_key(|step| step.after_ms);
    Ok(Placement { key_ms, plan })
}

/// The settings of an agent's own queue: those of the agent's first workgroup, without its policy.
pub(crate) fn direct_workgroup(name: Name, like: Option<&Workgroup>) -> Workgroup {
    match like {
        Some(workgroup) => {
            Workgroup { name, policy: None, round: 1, refuse_without_agents: false, ..workgroup.clone() }
        }
        None => Workgroup {
            name,
            policy: None,
            ring_timeout_ms: 20_000,
            wrap_up_ms: 0,
            max_waiting: 100,
            round: 1,
            max_misses: 2,
            miss_back_off_ms: 10_000,
            lease_ms: 60_000,
            music: None,
            refuse_without_agents: false,
            expected_handle_ms: 180_000,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PlanStep;

    const ENTRY: Entry =
        Entry { arrived_ms: 1_000, now_ms: 1_000, priority: 5, skills: Vec::new(), misses: 0 };

    fn plan(after_ms: u64, action: PlanAction) -> Placement {
        Placement { key_ms: 1_000, plan: vec![PlanStep { after_ms, action }] }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_wrong() {
        for (placement, word) in [
            (Placement { key_ms: i64::MIN, plan: Vec::new() }, "year"),
            (Placement { key_ms: i64::MAX, plan: Vec::new() }, "year"),
            (plan(u64::MAX, PlanAction::RaiseMs(1)), "a day"),
            (plan(1, PlanAction::RaiseMs(i64::MIN)), "year"),
            (plan(1, PlanAction::DropSkills(vec![0, 3])), "skill 3"),
            (plan(1, PlanAction::Overflow(2)), "workgroup 2"),
        ] {
            match check(&ENTRY, placement.clone(), 3, 2) {
                Err(Fault::Nonsense(text)) => assert!(text.contains(word), "{text}"),
                other => panic!("{placement:?} gave {other:?}"),
            }
        }
        let step = PlanStep { after_ms: 1, action: PlanAction::RaiseMs(1) };
        let long = Placement { key_ms: 1_000, plan: vec![step; MAX_PLAN_STEPS + 1] };
        assert!(check(&ENTRY, long, 3, 2).is_err());
    }

    #[test]
    fn a_plan_comes_back_in_the_order_of_its_times() {
        let mut placement = plan(60, PlanAction::RaiseMs(1));
        placement.plan.push(PlanStep { after_ms: 30, action: PlanAction::DropSkills(vec![2]) });
        let checked = check(&ENTRY, placement, 3, 2).expect("sensible");
        assert_eq!(checked.plan.iter().map(|s| s.after_ms).collect::<Vec<_>>(), [30, 60]);
    }

    #[test]
    fn without_a_policy_a_point_of_priority_is_worth_ten_seconds() {
        assert_eq!(default_placement(&ENTRY).key_ms, 1_000 - 50_000);
    }
}

//! What happens while a caller waits: skills are dropped, the place is raised, another workgroup
//! helps out. The host keeps the timers; the plan says when.

use cordboard_sdk::policy::*;

/// Adds the steps that the settings ask for, in the order of their time.
pub(crate) fn soften(mut placement: Placement, entry: &Entry) -> Placement {
    let mut steps: Vec<(u64, Action)> = Vec::new();
    let widen_after_s = setting_or("widen_after_s", 30_u64);
    let widen_step_s = setting_or("widen_step_s", 0_u64);
    if widen_after_s > 0 && !entry.skills.is_empty() {
        if widen_step_s == 0 {
            steps.push((widen_after_s, Action::DropSkills(entry.skills.clone())));
        } else {
            // The last is the least important; when there are too many for a plan, the rest goes
            // with the final step.
            let most = MAX_STEPS - 2;
            let mut left = entry.skills.clone();
            let mut after_s = widen_after_s;
            while let Some(last) = left.pop() {
                let mut dropped = vec![last];
                if steps.len() + 1 == most {
                    dropped.append(&mut left);
                }
                steps.push((after_s, Action::DropSkills(dropped)));
                after_s = after_s.saturating_add(widen_step_s);
            }
        }
    }
    let raise_after_s = setting_or("raise_after_s", 0_u64);
    if raise_after_s > 0 {
        let raise_s = setting_or("raise_s", 60_i64).clamp(0, 86_400);
        steps.push((raise_after_s, Action::RaiseMs(raise_s * 1_000)));
    }
    let overflow_after_s = setting_or("overflow_after_s", 0_u64);
    if overflow_after_s > 0 {
        match setting("overflow_to").map(|text| text.trim().parse()) {
            Some(Ok(workgroup)) => steps.push((overflow_after_s, Action::Overflow(workgroup))),
            _ => log::warn!("overflow_after_s needs overflow_to, the number of a workgroup"),
        }
    }
    steps.sort_by_key(|(after_s, _)| *after_s);
    for (after_s, action) in steps {
        placement = placement.after_s(after_s, action);
    }
    placement
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordboard_sdk::policy::testing::entry;
    use cordboard_sdk::testing::settings;

    fn plan(skills: &[u32]) -> Vec<Step> {
        let entry = entry(0, 0, skills);
        soften(by_arrival(&entry), &entry).plan
    }

    fn step(after_s: u64, action: Action) -> Step {
        Step { after_ms: after_s * 1_000, action }
    }

    #[test]
    fn by_default_all_skills_are_dropped_after_half_a_minute() {
        settings([]);
        assert_eq!(plan(&[4, 2]), [step(30, Action::DropSkills(vec![4, 2]))]);
        assert!(plan(&[]).is_empty());
    }

    #[test]
    fn skills_can_be_dropped_one_by_one_from_the_last() {
        settings([("widen_after_s", "20"), ("widen_step_s", "10")]);
        assert_eq!(
            plan(&[4, 2, 9]),
            [
                step(20, Action::DropSkills(vec![9])),
                step(30, Action::DropSkills(vec![2])),
                step(40, Action::DropSkills(vec![4]))
            ]
        );
    }

    #[test]
    fn steps_are_in_the_order_of_their_time() {
        settings([
            ("widen_after_s", "60"),
            ("raise_after_s", "30"),
            ("raise_s", "90"),
            ("overflow_after_s", "45"),
            ("overflow_to", "2"),
        ]);
        assert_eq!(
            plan(&[1]),
            [
                step(30, Action::RaiseMs(90_000)),
                step(45, Action::Overflow(2)),
                step(60, Action::DropSkills(vec![1]))
            ]
        );
    }

    #[test]
    fn a_plan_for_many_skills_fits_and_drops_every_skill_once() {
        settings([
            ("widen_after_s", "1"),
            ("widen_step_s", "1"),
            ("raise_after_s", "500"),
            ("overflow_after_s", "600"),
            ("overflow_to", "1"),
        ]);
        let skills: Vec<u32> = (0..40).collect();
        let plan = plan(&skills);
        assert_eq!(plan.len(), MAX_STEPS);
        let mut dropped: Vec<u32> = plan
            .iter()
            .flat_map(|step| match &step.action {
                Action::DropSkills(skills) => skills.clone(),
                _ => Vec::new(),
            })
            .collect();
        dropped.sort_unstable();
        assert_eq!(dropped, skills);
        assert_eq!(plan[15].action, Action::Overflow(1));
    }

    #[test]
    fn nothing_is_planned_when_everything_is_switched_off() {
        settings([("widen_after_s", "0"), ("overflow_after_s", "9")]);
        assert!(plan(&[1, 2]).is_empty());
    }
}

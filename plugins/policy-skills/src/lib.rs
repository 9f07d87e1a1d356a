//! Queue policy `skills`: the agent who is best in what the caller needs, and demands that soften
//! while the caller waits.
//!
//! Callers stand by arrival less a bonus for priority. Agents: the preferred one, then by level in
//! the required skills, then whoever has the fewest skills in all (a specialist for many things is
//! kept free for whom nobody else can serve), then the longest idle. `demands` is the plan.

mod demands;

use std::cmp::Reverse;

use cordboard_sdk::policy::*;

/// The policy.
pub struct Skills;

impl Policy for Skills {
    fn place(entry: &Entry) -> Placement {
        let point_s = setting_or("point_s", 10_i64).clamp(0, 3_600);
        demands::soften(by_arrival(entry).sooner_s(point_s * i64::from(entry.priority)), entry)
    }

    fn rank(_: &Entry, candidates: &Candidates) -> Vec<u32> {
        candidates.best_first(|agent| {
            (
                candidates.preferred[agent],
                candidates.skill_level[agent],
                Reverse(candidates.skill_count[agent]),
                candidates.idle_ms[agent],
            )
        })
    }
}

cordboard_sdk::queue_policy!(Skills);

#[cfg(test)]
mod tests {
    use super::*;
    use cordboard_sdk::policy::testing::{candidates, entry};
    use cordboard_sdk::testing::settings;

    #[test]
    fn level_comes_before_versatility_and_versatility_before_idleness() {
        let mut agents = candidates(4);
        agents.skill_level = vec![7, 9, 9, 9];
        agents.skill_count = vec![1, 5, 2, 2];
        agents.idle_ms = vec![900, 900, 10, 20];
        assert_eq!(Skills::rank(&entry(0, 0, &[3]), &agents), [3, 2, 1, 0]);
    }

    #[test]
    fn the_preferred_agent_comes_before_the_best() {
        let mut agents = candidates(2);
        agents.skill_level = vec![10, 1];
        agents.preferred = vec![0, 1];
        assert_eq!(Skills::rank(&entry(0, 0, &[3]), &agents), [1, 0]);
    }

    #[test]
    fn nobody_is_ranked_when_there_is_nobody() {
        assert!(Skills::rank(&entry(0, 0, &[]), &candidates(0)).is_empty());
    }

    #[test]
    fn every_agent_is_ranked_exactly_once() {
        let mut agents = candidates(256);
        for agent in 0..256_u64 {
            agents.skill_level[agent as usize] = agent * 7919 % 11;
            agents.skill_count[agent as usize] = agent * 104_729 % 5;
        }
        let mut order = Skills::rank(&entry(0, 0, &[1]), &agents);
        order.sort_unstable();
        assert_eq!(order, (0..256).collect::<Vec<u32>>());
    }

    #[test]
    fn priority_places_sooner_and_no_priority_makes_it_overflow() {
        settings([("point_s", "3600")]);
        assert_eq!(Skills::place(&entry(1_000, 100, &[])).key_ms, 1_000 - 360_000_000);
        assert_eq!(Skills::place(&entry(i64::MIN, 255, &[])).key_ms, i64::MIN);
    }
}

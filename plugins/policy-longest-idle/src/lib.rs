//! Queue policy `longest-idle`: callers by arrival less a bonus for priority, and the agent who
//! has been idle longest. The policy that people expect when they ask for none.
//!
//! Setting `point_s`: what a point of priority is worth, in seconds of waiting (10).

use std::cmp::Reverse;

use cordboard_sdk::policy::*;

/// The policy.
pub struct LongestIdle;

impl Policy for LongestIdle {
    fn place(entry: &Entry) -> Placement {
        by_arrival(entry).sooner_s(point_s() * i64::from(entry.priority))
    }

    fn rank(_: &Entry, candidates: &Candidates) -> Vec<u32> {
        // The preferred agent before all others; among equally idle ones whoever took fewer calls.
        candidates.best_first(|agent| {
            (candidates.preferred[agent], candidates.idle_ms[agent], Reverse(candidates.calls[agent]))
        })
    }
}

fn point_s() -> i64 {
    setting_or("point_s", 10_i64).clamp(0, 3_600)
}

cordboard_sdk::queue_policy!(LongestIdle);

#[cfg(test)]
mod tests {
    use super::*;
    use cordboard_sdk::policy::testing::{candidates, entry};
    use cordboard_sdk::testing::settings;

    #[test]
    fn the_longest_idle_agent_is_asked_first() {
        let mut agents = candidates(3);
        agents.idle_ms = vec![10, 30, 20];
        assert_eq!(LongestIdle::rank(&entry(0, 0, &[]), &agents), [1, 2, 0]);
    }

    #[test]
    fn equally_idle_agents_are_asked_by_calls_taken() {
        let mut agents = candidates(3);
        agents.calls = vec![4, 1, 4];
        assert_eq!(LongestIdle::rank(&entry(0, 0, &[]), &agents), [1, 0, 2]);
    }

    #[test]
    fn the_preferred_agent_comes_before_the_longest_idle() {
        let mut agents = candidates(2);
        agents.idle_ms = vec![100, 1];
        agents.preferred = vec![0, 1];
        assert_eq!(LongestIdle::rank(&entry(0, 0, &[]), &agents), [1, 0]);
    }

    #[test]
    fn a_point_of_priority_is_worth_ten_seconds_of_waiting() {
        settings([]);
        let waiting = LongestIdle::place(&entry(0, 0, &[]));
        let urgent = LongestIdle::place(&entry(49_000, 5, &[]));
        let urgent_late = LongestIdle::place(&entry(51_000, 5, &[]));
        assert!(urgent.key_ms < waiting.key_ms && waiting.key_ms < urgent_late.key_ms);
    }

    #[test]
    fn the_place_does_not_change_when_the_entry_is_placed_anew() {
        settings([]);
        let mut again = entry(5_000, 2, &[1]);
        let first = LongestIdle::place(&again);
        again.now_ms = 90_000;
        again.misses = 2;
        assert_eq!(LongestIdle::place(&again), first);
    }

    #[test]
    fn what_a_point_is_worth_is_a_setting() {
        settings([("point_s", "60")]);
        assert_eq!(LongestIdle::place(&entry(0, 2, &[])).key_ms, -120_000);
    }
}

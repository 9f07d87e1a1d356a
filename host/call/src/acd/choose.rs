//! The order in which agents are asked: the policy's, when its answer is sensible, else the default.
//!
//! Called by the domain with at most [`MAX_CANDIDATES`](crate::policy::MAX_CANDIDATES) agents that it
//! has filtered. Never looks at an agent that was not given.

use crate::policy::{Candidates, Fault};

/// The default order: the preferred agent, then the longest idle, then the first in the list.
pub(crate) fn default_order(c: &Candidates) -> Vec<u32> {
    let mut order: Vec<u32> = (0..c.agents.len() as u32).collect();
    order.sort_by_key(|i| {
        let i = *i as usize;
        (std::cmp::Reverse(c.preferred[i]), std::cmp::Reverse(c.idle_ms[i]), c.agents[i])
    });
    order
}

/// A ranking must name candidates, each at most once. Empty is sensible: nobody yet.
pub(crate) fn check(ranking: Vec<u32>, candidates: usize) -> Result<Vec<u32>, Fault> {
    if ranking.len() > candidates {
        return Err(Fault::Nonsense(format!("{} ranked of {candidates} candidates", ranking.len())));
    }
    let mut seen = vec![false; candidates];
    for index in &ranking {
        match seen.get_mut(*index as usize) {
            None => return Err(Fault::Nonsense(format!("index {index} of {candidates} candidates"))),
            Some(true) => return Err(Fault::Nonsense(format!("index {index} is ranked twice"))),
            Some(fresh) => *fresh = true,
        }
    }
    Ok(ranking)
}

/// One candidate as a row, before it becomes columns.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    pub(crate) agent: u32,
    pub(crate) idle_ms: u64,
    pub(crate) calls: u64,
    pub(crate) busy_ms: u64,
    pub(crate) skill_level: u64,
    pub(crate) skill_count: u64,
    pub(crate) preferred: bool,
}

/// The rows as columns.
pub(crate) fn columns(rows: &[Row]) -> Candidates {
    Candidates {
        agents: rows.iter().map(|r| r.agent).collect(),
        idle_ms: rows.iter().map(|r| r.idle_ms).collect(),
        calls: rows.iter().map(|r| r.calls).collect(),
        busy_ms: rows.iter().map(|r| r.busy_ms).collect(),
        skill_level: rows.iter().map(|r| r.skill_level).collect(),
        skill_count: rows.iter().map(|r| r.skill_count).collect(),
        preferred: rows.iter().map(|r| u64::from(r.preferred)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_names_candidates_once() {
        assert_eq!(check(vec![2, 0], 3), Ok(vec![2, 0]));
        assert_eq!(check(vec![], 3), Ok(vec![]));
        assert!(check(vec![3], 3).is_err());
        assert!(check(vec![1, 1], 3).is_err());
        assert!(check(vec![0, 1, 2, 0], 3).is_err());
    }

    #[test]
    fn the_default_asks_the_preferred_then_the_longest_idle() {
        let rows = [
            Row { agent: 0, idle_ms: 5, ..Row::default() },
            Row { agent: 1, idle_ms: 9, ..Row::default() },
            Row { agent: 2, idle_ms: 1, preferred: true, ..Row::default() },
            Row { agent: 3, idle_ms: 5, ..Row::default() },
        ];
        assert_eq!(default_order(&columns(&rows)), [2, 1, 0, 3]);
    }
}

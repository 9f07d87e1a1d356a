//! Places: one queue a workgroup, and one for each agent who is called directly.
//!
//! ```text
//!             offer               accepted             agent vanished
//!  waiting ─────────> offered ───────────────> taken ───────────────> returned
//!     ^                  │                       │                  (offered again as waiting is)
//!     └── not accepted ──┘                       └── talk ended ──> ended
//! ```
//!
//! The order holds every place that is kept: waiting, returned and offered. A place's key and its
//! arrival number never change by a return, so neither does the order. What may be offered is
//! indexed a second time, by required skills, so that a free agent looks at one head for each set
//! of skills and never at the whole queue.
//!
//! Called by the domain. Never chooses an agent and never sends.

pub(crate) mod estimate;
pub(crate) mod ghosts;
pub(crate) mod plan;

use std::collections::{BTreeMap, BTreeSet};

use cordboard_base::{Id, TimerId};

use self::estimate::{Estimator, Staff};
use crate::Name;
use crate::messages::TicketState;
use crate::model::Workgroup;
use crate::policy::PlanStep;

/// What orders a queue: the policy's key, then the order of arrival.
pub(crate) type Key = (i64, u64);
/// Sorted numbers of the tenant's skill table.
pub(crate) type Skills = Vec<u32>;

/// A queue, by tenant and slot. Slots outlive reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct QueueRef {
    pub(crate) tenant: u16,
    pub(crate) queue: u32,
}

/// A place.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) interaction: Id,
    pub(crate) home: QueueRef,
    /// The number of the enqueue within its interaction.
    pub(crate) number: u32,
    pub(crate) key: Key,
    pub(crate) arrived_ms: i64,
    /// When this caller came (later than `arrived_ms` for one who has called back).
    pub(crate) entered_ms: i64,
    /// Waits since then: on its arrival, or since an agent returned it.
    pub(crate) waiting_since_ms: i64,
    pub(crate) caller: String,
    pub(crate) skill_names: Vec<Name>,
    /// Required now: the plan may have dropped some.
    pub(crate) required: Skills,
    pub(crate) priority: u8,
    pub(crate) preferred: Option<u32>,
    pub(crate) misses: u32,
    pub(crate) state: TicketState,
    /// Tokens that ring, or the one that talks.
    pub(crate) tokens: Vec<Id>,
    pub(crate) protected: bool,
    /// In the offerable index of these queues of the tenant; the first is the home.
    pub(crate) offer_to: Vec<u32>,
    pub(crate) indexed: bool,
    /// Steps to come, the next one last.
    pub(crate) plan: Vec<PlanStep>,
    pub(crate) plan_timer: Option<TimerId>,
    /// Leases that ran out in a row: a shard that died does not get the call for ever.
    pub(crate) lease_strikes: u8,
    /// As last told to the shard.
    pub(crate) told_position: u32,
    pub(crate) told_ns: u64,
    /// The first estimate.
    pub(crate) estimate_ms: Option<u64>,
    /// The policy said 'nobody yet' and will be asked again.
    pub(crate) deferred: bool,
}

impl Entry {
    /// Whether the place waits for an agent.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.state, TicketState::Waiting | TicketState::Returned)
    }
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) config: Workgroup,
    /// The index in the model; none for an agent's own queue and for a removed workgroup.
    pub(crate) index: Option<u32>,
    /// An agent's own queue.
    pub(crate) agent: Option<u32>,
    /// Waiting, returned and offered places.
    pub(crate) order: BTreeMap<Key, Id>,
    offerable: BTreeMap<Skills, BTreeMap<Key, Id>>,
    /// Free agents with a phone, the longest idle first.
    pub(crate) ready: BTreeSet<(u64, u32)>,
    pub(crate) logged_in: u32,
    pub(crate) working: u32,
    pub(crate) offered: u32,
    pub(crate) taken: u32,
    pub(crate) estimator: Estimator,
    pub(crate) entered: u64,
    pub(crate) served: u64,
    pub(crate) abandoned: u64,
    pub(crate) sweep: Sweep,
    /// Places whose policy said 'nobody yet'.
    pub(crate) deferred: Vec<Id>,
    pub(crate) deferred_timer: Option<TimerId>,
}

/// The lazy numbering of a queue: a walk over the order in batches, at most one a second.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) dirty: bool,
    pub(crate) timer: Option<TimerId>,
    /// Where the running walk goes on, and with which position.
    pub(crate) cursor: Option<(Key, u32)>,
    pub(crate) last_ns: Option<u64>,
}

impl Queue {
    pub(crate) fn new(config: Workgroup, index: Option<u32>, agent: Option<u32>) -> Self {
        Self {
            estimator: Estimator::new(config.expected_handle_ms),
            config,
            index,
            agent,
            order: BTreeMap::new(),
            offerable: BTreeMap::new(),
            ready: BTreeSet::new(),
            logged_in: 0,
            working: 0,
            offered: 0,
            taken: 0,
            entered: 0,
            served: 0,
            abandoned: 0,
            sweep: Sweep::default(),
            deferred: Vec::new(),
            deferred_timer: None,
        }
    }

    pub(crate) fn staff(&self) -> Staff {
        Staff { logged_in: self.logged_in, working: self.working, ready: self.ready.len() as u32 }
    }

    /// The estimate for a caller at `position`.
    pub(crate) fn wait_ms(&self, position: u32) -> Option<u64> {
        self.estimator.wait_ms(position, self.staff())
    }

    /// The position of a key that is in the order: counted from both ends at once, so that it
    /// costs the distance to the nearer end.
    pub(crate) fn position(&self, key: Key) -> u32 {
        let mut before = self.order.range(..key);
        let mut from = self.order.range(key..);
        let mut steps = 0;
        loop {
            if before.next().is_none() {
                return steps + 1;
            }
            if from.next().is_none() {
                // `steps` entries stand at the key or behind it.
                return self.order.len() as u32 - steps + 1;
            }
            steps += 1;
        }
    }

    /// Lists a place for agents.
    pub(crate) fn list(&mut self, required: &Skills, key: Key, ticket: Id) {
        match self.offerable.get_mut(required) {
            Some(class) => {
                class.insert(key, ticket);
            }
            None => {
                self.offerable.insert(required.clone(), BTreeMap::from([(key, ticket)]));
            }
        }
    }

    /// Takes a place off the list.
    pub(crate) fn unlist(&mut self, required: &Skills, key: Key) {
        if let Some(class) = self.offerable.get_mut(required) {
            class.remove(&key);
            if class.is_empty() {
                self.offerable.remove(required);
            }
        }
    }

    /// The first place that an agent with these skills may take, leaving out those in `tried`.
    pub(crate) fn head(&self, skills: &[(u32, u8)], tried: &[Key]) -> Option<(Key, Id)> {
        self.offerable
            .iter()
            .filter(|(required, _)| has_skills(skills, required))
            .filter_map(|(_, class)| class.iter().find(|(key, _)| !tried.contains(key)))
            .min()
            .map(|(key, ticket)| (*key, *ticket))
    }

    /// How many places agents may be offered.
    pub(crate) fn listed(&self) -> usize {
        self.offerable.values().map(BTreeMap::len).sum()
    }
}

/// Whether an agent (skills sorted by number) has all that is required (sorted).
pub(crate) fn has_skills(skills: &[(u32, u8)], required: &[u32]) -> bool {
    required.iter().all(|skill| skills.binary_search_by_key(skill, |(s, _)| *s).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue::new(crate::queue::plan::direct_workgroup("support".into(), None), Some(0), None)
    }

    #[test]
    fn positions_are_counted_from_the_nearer_end() {
        let mut q = queue();
        for i in 0..1_000_u64 {
            q.order.insert((i as i64 * 10, i), Id(u128::from(i)));
        }
        for i in [0_u64, 1, 2, 499, 500, 501, 998, 999] {
            assert_eq!(q.position((i as i64 * 10, i)), i as u32 + 1);
        }
        assert_eq!(q.position((-5, 5_000)), 1);
        assert_eq!(q.position((1_000_000, 5_000)), 1_001);
    }

    #[test]
    fn an_agent_sees_the_earliest_place_that_its_skills_allow() {
        let mut q = queue();
        q.list(&vec![1], (10, 0), Id(1));
        q.list(&vec![], (20, 1), Id(2));
        q.list(&vec![1, 2], (5, 2), Id(3));
        assert_eq!(q.head(&[], &[]), Some(((20, 1), Id(2))));
        assert_eq!(q.head(&[(1, 5)], &[]), Some(((10, 0), Id(1))));
        assert_eq!(q.head(&[(1, 5), (2, 1)], &[]), Some(((5, 2), Id(3))));
        assert_eq!(q.head(&[(1, 5), (2, 1)], &[(5, 2)]), Some(((10, 0), Id(1))));
        q.unlist(&vec![1, 2], (5, 2));
        q.unlist(&vec![1], (10, 0));
        q.unlist(&vec![], (20, 1));
        assert_eq!(q.head(&[(1, 5), (2, 1)], &[]), None);
        assert!(q.offerable.is_empty(), "no empty class stays behind");
    }
}

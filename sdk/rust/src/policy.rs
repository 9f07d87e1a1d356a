//! World `queue-policy`: in what order callers wait and which agent is asked.
//!
//! A policy is a type with [`Policy`]. One instance serves one workgroup and answers within 5 ms,
//! so everything is numbers in columns. A policy proposes; the host checks and commits. Its
//! answers must follow from the question alone, or a decision could not be replayed.
//!
//! ```
//! use cordboard_sdk::policy::*;
//!
//! struct LongestIdle;
//!
//! impl Policy for LongestIdle {
//!     fn place(entry: &Entry) -> Placement {
//!         by_arrival(entry).sooner_s(10 * i64::from(entry.priority))
//!     }
//!     fn rank(_: &Entry, candidates: &Candidates) -> Vec<u32> {
//!         candidates.best_first(|agent| candidates.idle_ms[agent])
//!     }
//! }
//!
//! cordboard_sdk::queue_policy!(LongestIdle);
//! ```

#[doc(hidden)]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unsafe_op_in_unsafe_fn
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/policy/0.1.0",
        world: "queue-policy",
        pub_export_macro: true,
        default_bindings_module: "cordboard_sdk::policy::bindings",
        additional_derives: [PartialEq, Eq],
    });
}

use std::cmp::Reverse;

pub use bindings::cordboard::policy::types::{Action, Candidates, Entry, Number, Placement, Step};

pub use crate::{log, setting, setting_or, setting_required};

/// The most steps that a placement's plan may have.
pub const MAX_STEPS: usize = 16;

/// The order of one workgroup's queue and the choice of its agents.
pub trait Policy {
    /// Where a new (or returned, or replaced) entry stands, and what happens while it waits.
    fn place(entry: &Entry) -> Placement;

    /// Which agents to ask for this entry: indices into the columns, best first, each at most
    /// once. Empty means nobody yet.
    fn rank(entry: &Entry, candidates: &Candidates) -> Vec<u32>;

    /// What the plugin says about itself beside name, version and about, as name and value.
    fn attributes() -> Vec<(String, String)> {
        Vec::new()
    }
}

/// First come, first served: the key is the arrival, and nothing is planned.
pub fn by_arrival(entry: &Entry) -> Placement {
    Placement { key_ms: entry.arrived_ms, plan: Vec::new() }
}

impl Placement {
    /// Counts the entry as if it had arrived so many seconds sooner.
    #[must_use]
    pub fn sooner_s(mut self, seconds: i64) -> Self {
        self.key_ms = self.key_ms.saturating_sub(seconds.saturating_mul(1_000));
        self
    }

    /// After so many seconds of waiting, the host does this. Steps beyond [`MAX_STEPS`] are
    /// dropped, as the host would refuse the placement.
    #[must_use]
    pub fn after_s(mut self, seconds: u64, action: Action) -> Self {
        if self.plan.len() < MAX_STEPS {
            self.plan.push(Step { after_ms: seconds.saturating_mul(1_000), action });
        }
        self
    }
}

impl Entry {
    /// The value of a number that the configuration gave the entry.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.numbers.iter().find(|number| number.name == name).map(|number| number.value)
    }
}

impl Candidates {
    /// How many agents there are.
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// The agents with the greatest key first; equal ones stay in the host's order. The key is
    /// given the agent's index, and `Reverse` turns the order of a part of it around.
    pub fn best_first<K: Ord>(&self, key: impl Fn(usize) -> K) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_by_key(|&agent| Reverse(key(agent as usize)));
        order
    }
}

#[doc(hidden)]
pub fn __place<P: Policy>(entry: &Entry) -> Placement {
    crate::__enter();
    P::place(entry)
}

#[doc(hidden)]
pub fn __rank<P: Policy>(entry: &Entry, candidates: &Candidates) -> Vec<u32> {
    crate::__enter();
    P::rank(entry, candidates)
}

#[doc(hidden)]
pub fn __describe<P: Policy>(name: &str, version: &str, about: &str) -> bindings::Description {
    crate::__enter();
    bindings::Description {
        name: name.to_owned(),
        version: version.to_owned(),
        about: about.to_owned(),
        attributes: P::attributes(),
    }
}

/// Makes a type with [`Policy`](crate::policy::Policy) the component's queue policy. Name,
/// version and about come from the plugin's `Cargo.toml`.
#[macro_export]
macro_rules! queue_policy {
    ($policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;
            impl $crate::policy::bindings::Guest for Component {
                fn describe() -> $crate::policy::bindings::Description {
                    $crate::policy::__describe::<$policy>(
                        env!("CARGO_PKG_NAME"),
                        env!("CARGO_PKG_VERSION"),
                        env!("CARGO_PKG_DESCRIPTION"),
                    )
                }
                fn place(entry: $crate::policy::Entry) -> $crate::policy::Placement {
                    $crate::policy::__place::<$policy>(&entry)
                }
                fn rank(entry: $crate::policy::Entry, candidates: $crate::policy::Candidates) -> Vec<u32> {
                    $crate::policy::__rank::<$policy>(&entry, &candidates)
                }
            }
    $crate::policy::bindings::export!(Component with_types_in $crate::policy::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::policy::Entry) -> $crate::policy::Placement = $crate::policy::__place::<$policy>;
    };
}

#[cfg(not(target_arch = "wasm32"))]
pub mod testing {
    //! Questions for native tests of policies.

    use super::{Candidates, Entry};

    /// An entry that has waited no time, of this priority and with these skills.
    pub fn entry(arrived_ms: i64, priority: u8, skills: &[u32]) -> Entry {
        Entry {
            arrived_ms,
            now_ms: arrived_ms,
            priority,
            skills: skills.to_vec(),
            misses: 0,
            numbers: Vec::new(),
        }
    }

    /// So many agents, numbered from 0, all alike; a test then writes the columns it is about.
    pub fn candidates(count: u32) -> Candidates {
        let zeros = vec![0; count as usize];
        Candidates {
            agents: (0..count).collect(),
            idle_ms: zeros.clone(),
            calls: zeros.clone(),
            busy_ms: zeros.clone(),
            skill_level: zeros.clone(),
            skill_count: zeros.clone(),
            preferred: zeros,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_agents_stay_in_the_hosts_order() {
        let mut candidates = testing::candidates(4);
        candidates.idle_ms = vec![5, 9, 5, 9];
        assert_eq!(candidates.best_first(|agent| candidates.idle_ms[agent]), [1, 3, 0, 2]);
        assert_eq!(candidates.best_first(|agent| Reverse(candidates.idle_ms[agent])), [0, 2, 1, 3]);
    }

    #[test]
    fn a_plan_never_grows_beyond_what_the_host_takes() {
        let mut placement = by_arrival(&testing::entry(1_000, 0, &[]));
        for step in 0..100 {
            placement = placement.after_s(step, Action::RaiseMs(1));
        }
        assert_eq!(placement.plan.len(), MAX_STEPS);
        assert_eq!(placement.sooner_s(i64::MAX).key_ms, i64::MIN + 1_000 + 1);
    }
}

//! What the redirect role knows of the call-centre nodes, and its choice among them.

use std::collections::BTreeMap;

use cordboard_base::{Now, ms};

use crate::Name;

/// A node that has not been heard of for so long is not named.
pub const SILENT_MS: u64 = 2_000;
/// The most contacts of one 302.
pub const MAX_CONTACTS: usize = 4;

/// What a node says of itself, several times a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The node.
    pub id: Name,
    /// Its call-centre listener as a SIP URI without a user, such as `sip:10.0.0.1:5070`.
    pub contact: String,
    /// Calls that it is configured for.
    pub capacity: u32,
    /// Calls that it has.
    pub calls: u32,
    /// It takes no new calls.
    pub draining: bool,
}

/// The redirect policy's answer for one class of calls (a trunk's name, or `default`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// The trunk's name, or `default`.
    pub class: Name,
    /// Nodes and their weights, 0 to 1,000; all zero: spare capacity.
    pub nodes: Vec<(Name, u32)>,
}

#[derive(Debug)]
struct Node {
    beat: Beat,
    at_ns: u64,
}

/// The nodes by name, with their last beats and the policy's weights while these hold.
#[derive(Debug, Default)]
pub struct Plan {
    nodes: BTreeMap<Name, Node>,
    weights: Vec<Weights>,
    weights_until_ns: u64,
}

impl Plan {
    /// A node is alive.
    pub fn beat(&mut self, now: Now, beat: Beat) {
        self.nodes.insert(beat.id.clone(), Node { beat, at_ns: now.mono_ns });
    }

    /// The policy's answer holds for a time; after that, spare capacity again.
    pub fn weigh(&mut self, now: Now, weights: Vec<Weights>, ttl_ms: u64) {
        self.weights = weights;
        self.weights_until_ns = now.after_ns(ms(ttl_ms));
    }

    /// The nodes that may be named now, for the policy's question.
    pub fn live(&self, now: Now) -> impl Iterator<Item = &Beat> {
        let oldest = now.mono_ns.saturating_sub(ms(SILENT_MS));
        self.nodes.values().filter(move |n| n.at_ns >= oldest && !n.beat.draining).map(|n| &n.beat)
    }

    /// Contacts for a call of `class`, best first: each node comes first in proportion to its weight, and
    /// the same number gets the same order (weighted rendezvous hashing).
    #[must_use]
    pub fn choose(&self, now: Now, class: &str, number: u64) -> Vec<&str> {
        let weights = self.weights_of(now, class);
        let mut scored: Vec<(f64, &str)> = self
            .live(now)
            .filter_map(|beat| {
                let weight = match weights {
                    Some(w) => w.nodes.iter().find(|(id, _)| *id == beat.id).map_or(0, |(_, weight)| *weight),
                    // A full node is named last and not never: its 503 sends the caller to the next.
                    None => beat.capacity.saturating_sub(beat.calls).max(1),
                };
                (weight > 0).then(|| (score(number, &beat.id, weight), beat.contact.as_str()))
            })
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.truncate(MAX_CONTACTS);
        scored.into_iter().map(|(_, contact)| contact).collect()
    }

    fn weights_of(&self, now: Now, class: &str) -> Option<&Weights> {
        if now.mono_ns >= self.weights_until_ns {
            return None;
        }
        let of = |class: &str| self.weights.iter().find(|w| &*w.class == class);
        let weights = of(class).or_else(|| of("default"))?;
        // Only nodes that live count: weights for the dead alone must not lose the call.
        let any = self.live(now).any(|b| weights.nodes.iter().any(|(id, w)| *id == b.id && *w > 0));
        any.then_some(weights)
    }
}

/// The larger, the earlier: -weight / ln(u) with u from the number and the node's name.
fn score(number: u64, id: &str, weight: u32) -> f64 {
    let mut hash = number ^ 0x9e37_79b9_7f4a_7c15;
    for byte in id.bytes() {
        hash = mix(hash ^ u64::from(byte));
    }
    let u = ((mix(hash) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / u.ln()
}

/// The finaliser of SplitMix64.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(id: &str, calls: u32) -> Beat {
        Beat { id: id.into(), contact: format!("sip:{id}"), capacity: 100, calls, draining: false }
    }

    #[test]
    fn nodes_come_first_in_proportion_to_their_spare_capacity() {
        let (now, mut plan) = (Now::default(), Plan::default());
        plan.beat(now, beat("a", 0));
        plan.beat(now, beat("b", 75));
        let first_a = (0..10_000).filter(|n| plan.choose(now, "t", mix(*n))[0] == "sip:a").count();
        assert!((7_800..8_200).contains(&first_a), "{first_a} of 10000; 100 to 25 is 8000");
        assert_eq!(plan.choose(now, "t", 5), plan.choose(now, "t", 5));
        assert_eq!(plan.choose(now, "t", 5).len(), 2);
    }

    #[test]
    fn a_node_that_is_silent_or_draining_is_not_named() {
        let (now, mut plan) = (Now::default(), Plan::default());
        plan.beat(now, beat("a", 0));
        plan.beat(now, Beat { draining: true, ..beat("b", 0) });
        assert_eq!(plan.choose(now, "t", 1), ["sip:a"]);
        assert_eq!(plan.choose(now.plus_ns(ms(2_000)), "t", 1), ["sip:a"]);
        assert!(plan.choose(now.plus_ns(ms(2_001)), "t", 1).is_empty());
    }

    #[test]
    fn the_policy_s_weights_hold_for_their_class_and_time_and_never_lose_a_call() {
        let (now, mut plan) = (Now::default(), Plan::default());
        plan.beat(now, beat("a", 0));
        plan.beat(now, beat("b", 0));
        let w = |class: &str, nodes: &[(&str, u32)]| Weights {
            class: class.into(),
            nodes: nodes.iter().map(|(n, w)| ((*n).into(), *w)).collect(),
        };
        plan.weigh(
            now,
            vec![w("default", &[("a", 1)]), w("t", &[("b", 1), ("a", 0)]), w("dead", &[("x", 9)])],
            1_000,
        );
        assert_eq!(plan.choose(now, "t", 1), ["sip:b"]);
        assert_eq!(plan.choose(now, "other", 1), ["sip:a"]);
        assert_eq!(plan.choose(now, "dead", 1).len(), 2);
        assert_eq!(plan.choose(now.plus_ns(ms(1_000)), "t", 1).len(), 2);
    }
}

//! What the redirect role knows of the call-centre nodes: kept by one, in beats and weights, and
//! shown to the doors as a [`Board`] whenever something has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use cordboard_base::{Now, ms};

use super::board::{Board, Named};
use crate::Name;
use crate::model::Model;

/// A node that has not been heard of for so long is not named.
pub const SILENT_MS: u64 = 2_000;
/// Spare capacity counts in steps of this part of the capacity.
const STEPS: u32 = 16;

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
    /// It lives in this process, and is told of the calls that it is named for.
    pub beside: bool,
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
    /// Its weight by spare capacity.
    spare: u32,
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
        let before = self.nodes.get(&beat.id).filter(|n| n.beat.capacity == beat.capacity);
        let spare = spare(&beat, before.map(|n| n.spare));
        self.nodes.insert(beat.id.clone(), Node { beat, at_ns: now.mono_ns, spare });
    }

    /// Forgets the nodes that `keep` does not name: the configuration has lost them.
    pub fn retain(&mut self, keep: impl Fn(&Name) -> bool) {
        self.nodes.retain(|id, _| keep(id));
    }

    /// A node takes no calls, and says so; its next beat puts it back.
    pub fn refuse(&mut self, id: &str) {
        self.nodes.remove(id);
    }

    /// The policy's answer holds for a time; after that, spare capacity again.
    pub fn weigh(&mut self, now: Now, weights: Vec<Weights>, ttl_ms: u64) {
        self.weights = weights;
        self.weights_until_ns = now.after_ns(ms(ttl_ms));
    }

    /// The nodes that may be named now, for the policy's question.
    pub fn live(&self, now: Now) -> impl Iterator<Item = &Beat> {
        self.named(now).map(|n| &n.beat)
    }

    fn named(&self, now: Now) -> impl Iterator<Item = &Node> {
        let oldest = now.mono_ns.saturating_sub(ms(SILENT_MS));
        self.nodes.values().filter(move |n| n.at_ns >= oldest && !n.beat.draining)
    }

    /// What the doors need to know from now on: the trunks of `model`, who may be named and until when
    /// without another beat, and the weights by trunk.
    #[must_use]
    pub fn board(&self, now: Now, model: Arc<Model>) -> Board {
        let nodes: Vec<Named> = self
            .named(now)
            .map(|n| Named::new(&n.beat, n.spare, n.at_ns.saturating_add(ms(SILENT_MS))))
            .collect();
        let of = |class: &str| self.weights.iter().find(|w| &*w.class == class);
        let by_trunk = |weights: &Weights| {
            let weight =
                |node: &Named| weights.nodes.iter().find(|(id, _)| *id == node.id).map_or(0, |(_, w)| *w);
            nodes.iter().map(weight).collect::<Vec<u32>>()
        };
        let weights = model
            .trunks
            .iter()
            .map(|trunk| of(&trunk.name).or_else(|| of("default")).map(by_trunk).unwrap_or_default())
            .collect();
        Board::new(model, nodes, weights, self.weights_until_ns)
    }
}

/// A node's weight by what it has left, in steps: while it stays within three quarters of a step of where it was,
/// nothing changes, so that a retransmission finds the same answer though calls come and go meanwhile.
fn spare(beat: &Beat, before: Option<u32>) -> u32 {
    // A full node is named last and not never: its 503 sends the caller to the next.
    let left = beat.capacity.saturating_sub(beat.calls).max(1);
    let step = (beat.capacity / STEPS).max(1);
    match before {
        Some(before) if before.abs_diff(left) * 4 <= step * 3 => before,
        _ => (left / step * step).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Limits, Trunk};

    fn beat(id: &str, calls: u32) -> Beat {
        let contact = format!("sip:{id}");
        Beat { id: id.into(), contact, capacity: 100, calls, draining: false, beside: false }
    }

    fn choose(plan: &Plan, made: Now, at: Now, trunk: &str, number: u64) -> Vec<String> {
        let trunk = Trunk { name: trunk.into(), sources: vec![], ..Trunk::default() };
        let model =
            Model { node: "r".into(), trunks: vec![trunk], tenants: vec![], limits: Limits::default() };
        let board = plan.board(made, Arc::new(model));
        board.choose(at.mono_ns, 0, number).iter().map(|i| board.node(*i).contact.clone()).collect()
    }

    #[test]
    fn nodes_come_first_in_proportion_to_their_spare_capacity() {
        let (now, mut plan) = (Now::default(), Plan::default());
        plan.beat(now, beat("a", 0));
        plan.beat(now, beat("b", 75));
        let first_a = (0..10_000_u64)
            .filter(|n| choose(&plan, now, now, "t", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))[0] == "sip:a")
            .count();
        assert!((7_800..8_300).contains(&first_a), "{first_a} of 10000; 96 to 24 is 8000");
        assert_eq!(choose(&plan, now, now, "t", 5), choose(&plan, now, now, "t", 5));
        assert_eq!(choose(&plan, now, now, "t", 5).len(), 2);
    }

    #[test]
    fn a_few_calls_more_or_less_change_no_answer_and_many_do() {
        let (now, mut plan) = (Now::default(), Plan::default());
        plan.beat(now, beat("a", 50));
        plan.beat(now, beat("b", 50));
        let all = |plan: &Plan| (0..200).map(|n| choose(plan, now, now, "t", n << 40)).collect::<Vec<_>>();
        let before = all(&plan);
        for calls in [51, 47, 54, 49] {
            plan.beat(now, beat("a", calls));
            assert_eq!(all(&plan), before, "{calls}");
        }
        plan.beat(now, beat("a", 95));
        assert_ne!(all(&plan), before);
        let first_a = all(&plan).iter().filter(|c| c[0] == "sip:a").count();
        assert!(first_a < 60, "{first_a} of 200");
    }

    #[test]
    fn a_node_that_is_silent_or_draining_is_not_named() {
        let (now, mut plan) = (Now::default(), Plan::default());
        plan.beat(now, beat("a", 0));
        plan.beat(now, Beat { draining: true, ..beat("b", 0) });
        assert_eq!(choose(&plan, now, now, "t", 1), ["sip:a"]);
        // Also by a door that still has the board of then.
        assert_eq!(choose(&plan, now, now.plus_ns(ms(2_000)), "t", 1), ["sip:a"]);
        assert!(choose(&plan, now, now.plus_ns(ms(2_001)), "t", 1).is_empty());
        let later = now.plus_ns(ms(2_001));
        assert!(choose(&plan, later, later, "t", 1).is_empty());
        plan.beat(now, beat("b", 0));
        plan.refuse("a");
        assert_eq!(choose(&plan, now, now, "t", 1), ["sip:b"]);
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
        assert_eq!(choose(&plan, now, now, "t", 1), ["sip:b"]);
        assert_eq!(choose(&plan, now, now, "other", 1), ["sip:a"]);
        assert_eq!(choose(&plan, now, now, "dead", 1).len(), 2);
        assert_eq!(choose(&plan, now, now.plus_ns(ms(1_000)), "t", 1).len(), 2);
        // The only node with a weight falls silent: the other takes its calls.
        let later = now.plus_ns(ms(900));
        plan.weigh(now, vec![w("t", &[("b", 1)])], 10_000);
        plan.beat(later, beat("a", 0));
        assert_eq!(choose(&plan, later, now.plus_ns(ms(2_001)), "t", 1), ["sip:a"]);
    }
}

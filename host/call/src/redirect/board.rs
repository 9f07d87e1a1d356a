//! The nodes as the doors see them: ready to be written into an answer, chosen by a number.
//!
//! Made by [`super::Plan::board`], never changed, shared by all doors. Knows of each node until when
//! it may be named, so that a dead one leaves the answers in time whoever has the board.

use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Beat;
use crate::Name;
use crate::model::Model;

/// The most contacts of one 302.
pub const MAX_CONTACTS: usize = 4;

/// A node that may be named.
#[derive(Debug)]
pub struct Named {
    /// Its name.
    pub id: Name,
    /// Its listener as a SIP URI without a user.
    pub contact: String,
    /// It lives in this process.
    pub beside: bool,
    seed: u64,
    spare: u32,
    until_ns: u64,
}

impl Named {
    pub(super) fn new(beat: &Beat, spare: u32, until_ns: u64) -> Self {
        let seed = beat.id.bytes().fold(0x9e37_79b9_7f4a_7c15, |hash, byte| mix(hash ^ u64::from(byte)));
        let (id, contact) = (beat.id.clone(), beat.contact.clone());
        Self { id, contact, beside: beat.beside, seed, spare, until_ns }
    }

    /// Appends its URI with the dialled user: it finds the number where the trunk has put it.
    pub fn append_uri(&self, user: Option<&str>, out: &mut Vec<u8>) {
        match (user, self.contact.split_once(':')) {
            (Some(user), Some((scheme, rest))) => {
                for part in [scheme, ":", user, "@", rest] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
            _ => out.extend_from_slice(self.contact.as_bytes()),
        }
    }
}

/// Nodes by their index, best first.
pub type Choice = SmallVec<[usize; MAX_CONTACTS]>;

/// See the module.
#[derive(Debug)]
pub struct Board {
    model: Arc<Model>,
    nodes: Vec<Named>,
    /// The policy's, by trunk and node; empty for a trunk that it says nothing of.
    weights: Vec<Vec<u32>>,
    weights_until_ns: u64,
}

impl Board {
    pub(super) fn new(
        model: Arc<Model>,
        nodes: Vec<Named>,
        weights: Vec<Vec<u32>>,
        weights_until_ns: u64,
    ) -> Self {
        Self { model, nodes, weights, weights_until_ns }
    }

    /// The configuration.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Which trunk a sender is.
    #[must_use]
    pub fn trunk_of(&self, from: SocketAddr) -> Option<usize> {
        self.model.trunk_from(from)
    }

    /// A node of a choice.
    #[must_use]
    pub fn node(&self, index: usize) -> &Named {
        &self.nodes[index]
    }

    /// Nodes for a call of a trunk, best first: each comes first in proportion to its weight, and the
    /// same number gets the same order (weighted rendezvous hashing), however the others come and go.
    #[must_use]
    pub fn choose(&self, now_ns: u64, trunk: usize, number: u64) -> Choice {
        let number = mix(number);
        let planned = self.weights.get(trunk).filter(|w| !w.is_empty() && now_ns < self.weights_until_ns);
        let chosen = planned.map(|w| self.best(now_ns, number, |i| w[i])).unwrap_or_default();
        // Weights for the dead alone must not lose the call.
        if chosen.is_empty() { self.best(now_ns, number, |i| self.nodes[i].spare) } else { chosen }
    }

    fn best(&self, now_ns: u64, number: u64, weight: impl Fn(usize) -> u32) -> Choice {
        let mut best: SmallVec<[(f64, usize); MAX_CONTACTS + 1]> = SmallVec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let weight = weight(i);
            if weight == 0 || now_ns > node.until_ns {
                continue;
            }
            let score = score(number, node.seed, weight);
            let at = best.iter().position(|(other, _)| score > *other).unwrap_or(best.len());
            if at < MAX_CONTACTS {
                best.insert(at, (score, i));
                best.truncate(MAX_CONTACTS);
            }
        }
        best.into_iter().map(|(_, i)| i).collect()
    }
}

/// The larger, the earlier: -weight / ln(u), with u from the number and the node.
fn score(number: u64, seed: u64, weight: u32) -> f64 {
    let u = ((mix(number ^ seed) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / u.ln()
}

/// The finaliser of SplitMix64.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

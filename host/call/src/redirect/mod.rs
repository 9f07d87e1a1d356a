//! Steps 3 and 4: the redirect server, which names call-centre nodes without keeping state.
//!
//! One keeper has the [`Plan`]: what is known of the nodes, refreshed by their beats and by the redirect
//! policy. From it come [`Board`]s, from which any number of [`Door`]s answer datagrams. Called by the
//! shell of the redirect role. Keeps no transaction and no call: the same request gets the same bytes,
//! at whichever door. Only a node that dies, drains, or fills and empties by more than a step in the
//! seconds of a retransmission makes them differ, for then the old answer would be the wrong one.

mod board;
mod plan;
mod server;

pub use board::{Board, Choice, MAX_CONTACTS, Named};
pub use plan::{Beat, Plan, SILENT_MS, Weights};
pub use server::{Counts, Door, Replies};

use serde::{Deserialize, Serialize};

/// What the redirect role tells the node that it has named, so that the call's timeline begins
/// with steps 3 and 4. Kept by the shard for a short time, by Call-ID; the oldest go first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Of the INVITE.
    pub call_id: String,
    /// Of the INVITE.
    pub cseq: u32,
    /// When the INVITE came, monotonic nanoseconds and Unix milliseconds.
    pub invite_at: (u64, i64),
    /// When the 302 left.
    pub answered_at: (u64, i64),
    /// The contacts that were named, best first.
    pub contacts: Vec<String>,
}

/// The header in which a centre tells a trunk that asks by OPTIONS how many calls it has, and of how
/// many: `12/1000`. So a redirect role elsewhere knows its spare capacity.
pub const LOAD: &str = "Cordboard-Load";

/// Reads the value of [`LOAD`]: calls, and calls at most.
#[must_use]
pub fn load(value: &str) -> Option<(u32, u32)> {
    let (calls, most) = value.trim().split_once('/')?;
    Some((calls.parse().ok()?, most.parse().ok().filter(|most| *most > 0)?))
}

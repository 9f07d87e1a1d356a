//! Steps 3 and 4: the redirect server, which names call-centre nodes without keeping state.
//!
//! [`Redirect`] answers datagrams on a listener of its own; [`Plan`] is what it knows of the nodes,
//! refreshed from outside by their beats and by the redirect policy. Called by the shell of the
//! redirect role. Keeps no transaction and no call: the same request gets the same bytes.

mod plan;
mod server;

pub use plan::{Beat, MAX_CONTACTS, Plan, SILENT_MS, Weights};
pub use server::{Counts, Redirect, Reply};

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

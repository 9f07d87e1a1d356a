//! The threads of a node: each is a loop around one pure machine. A loop wakes up, reads the clock
//! once, hands in what has come, and carries out what comes back. No loop waits for another, except
//! the journal for the shard's inbox, which the shard always empties.
//!
//! ```text
//!   UDP ──▶ redirect ──note──▶ shard ◀──────▶ media threads
//!   UDP ◀────────────────────▶   │ ▲
//!                        envelope│ │envelopes, when durable
//!                                ▼ │
//!   API, plugins ──command──▶ domain ──batch──▶ journal ──▶ release: shard, replies, watchers, adapters
//! ```

pub mod domain;
pub mod gate;
pub mod plugins;
pub mod questions;
pub mod redirect;
pub mod release;
pub mod shard;
pub mod sockets;

use std::time::Duration;

use cordboard_base::{Now, Random};

/// Randomness from the operating system.
///
/// # Panics
/// When the system has none: identifiers that can be guessed are worse than no start.
#[must_use]
pub fn entropy() -> Random {
    Random::from_entropy(seed())
}

/// 32 random bytes from the operating system.
///
/// # Panics
/// As [`entropy`].
#[must_use]
pub fn seed() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// How long to sleep until a deadline on the monotonic clock, at most `longest`.
fn until(now: Now, deadline_ns: Option<u64>, longest: Duration) -> Duration {
    match deadline_ns {
        // A little late rather than a little early: a wake-up before the deadline would be wasted.
        Some(at) => Duration::from_nanos(at.saturating_sub(now.mono_ns)).min(longest),
        None => longest,
    }
}

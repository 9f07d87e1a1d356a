//! The end-to-end suite's harness: a real `cordboard serve` process with real peers around it
//! (pjsua2, SIPp, baresip, tshark, and datagrams written by hand).
//!
//! Used by `tests/main.rs` alone. It looks only at what a stranger could see: SIP, RTP, the admin
//! API, exit codes and the log. It never links the host's crates, so it cannot share their mistakes.
//! What a test needs and does not find (a program, a component) fails it with a word on how to get it.

pub mod baresip;
pub mod capture;
pub mod carrier;
pub mod centre;
pub mod component;
pub mod http;
pub mod kamailio;
pub mod names;
pub mod phone;
pub mod place;
pub mod play;
pub mod raw;
pub mod relay;
pub mod scene;
pub mod setup;
pub mod sipp;
pub mod sound;
pub mod webhook;

use std::time::{Duration, Instant};

/// Asks `look` every 20 ms until it gives something.
///
/// # Panics
/// After `within`, saying what was waited for.
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {within:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Seconds, for readable tests.
#[must_use]
pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds, for readable tests.
#[must_use]
pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

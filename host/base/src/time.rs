//! Time as an argument. The shells read the clocks once a batch and hand the reading in.

use serde::{Deserialize, Serialize};

/// A reading of both clocks.
///
/// Deadlines of protocols are monotonic; deadlines that must survive the process are wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Now {
    /// Monotonic nanoseconds since an arbitrary start of the process (or of the simulation).
    pub mono_ns: u64,
    /// Milliseconds since the Unix epoch, UTC.
    pub wall_ms: i64,
}

impl Now {
    /// A reading `ns` nanoseconds later on both clocks.
    #[must_use]
    pub fn plus_ns(self, ns: u64) -> Self {
        let before_ms = self.mono_ns / 1_000_000;
        let mono_ns = self.mono_ns + ns;
        Self { mono_ns, wall_ms: self.wall_ms + (mono_ns / 1_000_000 - before_ms) as i64 }
    }

    /// The monotonic deadline `ns` nanoseconds from now.
    #[must_use]
    pub fn after_ns(self, ns: u64) -> u64 {
        self.mono_ns.saturating_add(ns)
    }
}

/// Milliseconds as nanoseconds.
#[must_use]
pub const fn ms(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// Seconds as nanoseconds.
#[must_use]
pub const fn secs(s: u64) -> u64 {
    s.saturating_mul(1_000_000_000)
}

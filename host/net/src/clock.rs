//! The two clocks of the machine, read together.
//!
//! Called once a batch by every loop of the process; the reading is handed to the pure machines.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cordboard_base::Now;

/// Reads `CLOCK_MONOTONIC` and `CLOCK_REALTIME`.
///
/// Copies share their start, so that readings of different threads can be compared.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now, at one second (so that "some time ago" is never below 0).
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let wall_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        };
        Now { mono_ns: 1_000_000_000 + self.start.elapsed().as_nanos() as u64, wall_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_wall_time_is_after_this_was_written() {
        let clock = Clock::start();
        let (a, b) = (clock.now(), clock.now());
        assert!(a.mono_ns <= b.mono_ns && a.mono_ns >= 1_000_000_000);
        assert!(a.wall_ms > 1_700_000_000_000);
    }
}

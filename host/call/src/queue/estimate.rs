//! The estimate of the wait, and how good it has been.
//!
//! Called by the queue when a place is given, moves, or is left for an agent. Numbers only.

use crate::messages::OfferResult;

/// One part in this many of each new handle time enters the mean.
const WEIGHT: f64 = 8.0;

/// Who could answer, at the moment of an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Staff {
    pub(crate) logged_in: u32,
    /// Logged in and not set not-ready.
    pub(crate) working: u32,
    /// Free now.
    pub(crate) ready: u32,
}

/// Handle times and the errors of past estimates of one queue.
#[derive(Debug, Clone)]
pub(crate) struct Estimator {
    handle_ms: f64,
    samples: u64,
    error_sum_ms: u64,
    errors: u64,
}

impl Estimator {
    pub(crate) fn new(expected_handle_ms: u64) -> Self {
        Self { handle_ms: expected_handle_ms.max(1) as f64, samples: 0, error_sum_ms: 0, errors: 0 }
    }

    /// A reload names another expectation; it holds until calls have been handled.
    pub(crate) fn expect(&mut self, expected_handle_ms: u64) {
        if self.samples == 0 {
            self.handle_ms = expected_handle_ms.max(1) as f64;
        }
    }

    /// A call was handled: talking and wrap-up together.
    pub(crate) fn handled(&mut self, ms: u64) {
        self.handle_ms += (ms as f64 - self.handle_ms) / WEIGHT;
        self.samples += 1;
    }

    /// The wait of the caller at `position` (1 is the head): those ahead share the working agents.
    /// None when nobody is logged in: then nothing is known.
    pub(crate) fn wait_ms(&self, position: u32, staff: Staff) -> Option<u64> {
        if staff.logged_in == 0 {
            return None;
        }
        let ahead = position.saturating_sub(staff.ready);
        let servers = staff.working.max(1);
        Some((f64::from(ahead) * self.handle_ms / f64::from(servers)) as u64)
    }

    /// What the wait then was.
    pub(crate) fn check(&mut self, estimate_ms: u64, actual_ms: u64) {
        self.error_sum_ms = self.error_sum_ms.saturating_add(estimate_ms.abs_diff(actual_ms));
        self.errors += 1;
    }

    /// Mean absolute error so far.
    pub(crate) fn error_ms(&self) -> Option<u64> {
        self.error_sum_ms.checked_div(self.errors)
    }
}

/// Milliseconds as the seconds that callers are told, rounded up.
pub(crate) fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// The word for an outcome in events and metrics.
pub(crate) fn word(result: &OfferResult) -> &'static str {
    match result {
        OfferResult::Accepted => "accepted",
        OfferResult::NoAnswer => "no-answer",
        OfferResult::Busy => "busy",
        OfferResult::Declined { .. } => "declined",
        OfferResult::Unreachable { .. } => "unreachable",
        OfferResult::Lost => "lost",
        OfferResult::CallerGone => "caller-gone",
        OfferResult::Revoked => "revoked",
        OfferResult::NoCall => "no-call",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_while_nobody_is_logged_in() {
        let e = Estimator::new(120_000);
        assert_eq!(e.wait_ms(1, Staff::default()), None);
        assert_eq!(e.wait_ms(1, Staff { logged_in: 1, working: 0, ready: 0 }), Some(120_000));
    }

    #[test]
    fn those_ahead_share_the_working_agents_and_a_free_agent_means_no_wait() {
        let e = Estimator::new(120_000);
        assert_eq!(e.wait_ms(4, Staff { logged_in: 3, working: 2, ready: 0 }), Some(240_000));
        assert_eq!(e.wait_ms(1, Staff { logged_in: 3, working: 3, ready: 1 }), Some(0));
    }

    #[test]
    fn learns_handle_times_and_reports_its_error() {
        let mut e = Estimator::new(100_000);
        for _ in 0..200 {
            e.handled(20_000);
        }
        let wait = e.wait_ms(1, Staff { logged_in: 1, working: 1, ready: 0 }).expect("known");
        assert!((19_999..20_010).contains(&wait), "{wait}");
        e.expect(1);
        assert!(
            e.wait_ms(1, Staff { logged_in: 1, working: 1, ready: 0 }) == Some(wait),
            "measured beats expected"
        );
        assert_eq!(e.error_ms(), None);
        e.check(10_000, 14_000);
        e.check(10_000, 8_000);
        assert_eq!(e.error_ms(), Some(3_000));
    }
}

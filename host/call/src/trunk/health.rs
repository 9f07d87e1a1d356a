//! Whether a destination of a trunk serves: OPTIONS and what calls met there, with hysteresis.
//!
//! ```text
//!            down_after failures in a row
//!      Up  ------------------------------>  Down
//!          <------------------------------
//!             up_after answers in a row
//! ```
//! A destination that is down, or that asked for a rest (503 with Retry-After), is tried last, never
//! left out: with nothing better a call has nothing to lose.

use cordboard_base::{Now, ms};

use super::terms::Health as Terms;

/// How long a destination is passed over after a failure when no OPTIONS says that it is back.
const REST_MS: u64 = 15_000;
/// The longest that a destination may rest by its own Retry-After.
const MAX_REST_MS: u64 = 300_000;

/// What is known of one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    down: bool,
    /// In a row, of what speaks against the present state.
    against: u32,
    /// Passed over until then, monotonic.
    rests_until_ns: u64,
    /// The last final status heard, or 0 for silence; none before anything was heard.
    last: Option<u16>,
}

impl Health {
    /// Whether calls are better sent here than to one that is not.
    #[must_use]
    pub fn serves(&self, now: Now) -> bool {
        !self.down && now.mono_ns >= self.rests_until_ns
    }

    /// Whether OPTIONS has found it down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down
    }

    /// The last final status, 0 for silence.
    #[must_use]
    pub fn last(&self) -> Option<u16> {
        self.last
    }

    /// It has answered; the new state if that changes it.
    pub fn answered(&mut self, status: u16, terms: Option<&Terms>) -> Option<bool> {
        self.last = Some(status);
        self.rests_until_ns = 0;
        if !self.down {
            self.against = 0;
            return None;
        }
        self.turn(terms.map_or(1, |t| t.up_after), false)
    }

    /// It was silent (`status` 0), or cannot serve (408, 5xx); the new state if that changes it.
    pub fn failed(
        &mut self,
        now: Now,
        status: u16,
        retry_after_s: Option<u32>,
        terms: Option<&Terms>,
    ) -> Option<bool> {
        self.last = Some(status);
        let rest_ms = match (retry_after_s, terms) {
            (Some(s), _) => (u64::from(s) * 1_000).min(MAX_REST_MS),
            // Nobody asks it whether it is back: calls do, after a while.
            (None, None) => REST_MS,
            (None, Some(_)) => 0,
        };
        self.rests_until_ns = self.rests_until_ns.max(now.after_ns(ms(rest_ms)));
        if self.down || terms.is_none() {
            self.against = 0;
            return None;
        }
        self.turn(terms.map_or(1, |t| t.down_after), true)
    }

    fn turn(&mut self, after: u32, down: bool) -> Option<bool> {
        self.against += 1;
        if self.against < after {
            return None;
        }
        self.against = 0;
        self.down = down;
        Some(!down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { every_ms: 1_000, down_after: 2, up_after: 3 };

    #[test]
    fn one_failure_is_none_and_one_answer_is_no_recovery() {
        let (mut h, now) = (Health::default(), Now::default());
        assert_eq!(h.failed(now, 0, None, Some(&TERMS)), None);
        assert_eq!(h.answered(200, Some(&TERMS)), None);
        assert_eq!(h.failed(now, 0, None, Some(&TERMS)), None, "counted in a row");
        assert!(h.serves(now));
        assert_eq!(h.failed(now, 503, None, Some(&TERMS)), Some(false));
        assert!(!h.serves(now) && h.is_down());
        assert_eq!(h.answered(200, Some(&TERMS)), None);
        assert_eq!(h.failed(now, 0, None, Some(&TERMS)), None);
        for expected in [None, None, Some(true)] {
            assert_eq!(h.answered(405, Some(&TERMS)), expected, "any answer will do");
        }
        assert!(h.serves(now));
    }

    #[test]
    fn without_options_a_failure_passes_by_itself() {
        let (mut h, now) = (Health::default(), Now::default());
        h.failed(now, 0, None, None);
        assert!(!h.serves(now) && !h.is_down());
        assert!(h.serves(now.plus_ns(ms(REST_MS))));
        h.failed(now, 503, Some(60), None);
        assert!(!h.serves(now.plus_ns(ms(59_999))) && h.serves(now.plus_ns(ms(60_000))));
    }
}

//! How often a thread begins a round: at once when little happens, and gathering when much does.
//!
//! A wake-up costs a thread some ten microseconds whatever it then does, so a busy thread that is
//! woken for each message spends most of its time on waking. Used by the shard, the redirect doors and the journal;
//! it decides nothing about what a round does.

/// A leaky bucket of rounds. While fewer than the rate are wanted nothing waits; when more are, a
/// burst still passes, and then rounds begin an interval apart, each with all that came meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    interval_ns: u64,
    burst_ns: u64,
    /// When the bucket is empty again (the theoretical arrival time of the generic cell rate algorithm).
    empty_ns: u64,
}

impl Pace {
    /// A round every `interval_ns` in the long run, and `burst` rounds at once before that holds.
    #[must_use]
    pub fn new(interval_ns: u64, burst: u64) -> Self {
        Self { interval_ns, burst_ns: interval_ns.saturating_mul(burst), empty_ns: 0 }
    }

    /// How long the next round has to wait, in nanoseconds; 0: it may begin.
    #[must_use]
    pub fn wait_ns(&self, now_ns: u64) -> u64 {
        self.empty_ns.saturating_sub(self.burst_ns).saturating_sub(now_ns)
    }

    /// Notes that a round begins.
    pub fn begin(&mut self, now_ns: u64) {
        self.empty_ns = self.empty_ns.max(now_ns).saturating_add(self.interval_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ms;

    /// How many rounds begin in a second when one is wanted every `wanted_ns`.
    fn rounds(mut pace: Pace, wanted_ns: u64) -> u64 {
        let (mut now_ns, mut rounds) = (0, 0);
        while now_ns < ms(1_000) {
            now_ns += pace.wait_ns(now_ns);
            pace.begin(now_ns);
            rounds += 1;
            now_ns += wanted_ns;
        }
        rounds
    }

    #[test]
    fn below_the_rate_no_round_waits() {
        let mut pace = Pace::new(ms(5), 4);
        for at in 0..200 {
            assert_eq!(pace.wait_ns(ms(at * 6)), 0);
            pace.begin(ms(at * 6));
        }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut pace = Pace::new(ms(5), 4);
        let now_ns = ms(100);
        for _ in 0..4 {
            assert_eq!(pace.wait_ns(now_ns), 0);
            pace.begin(now_ns);
        }
        assert_eq!(pace.wait_ns(now_ns), 0, "the bucket is full, not over");
        pace.begin(now_ns);
        assert_eq!(pace.wait_ns(now_ns), ms(5));
        assert!((200..=206).contains(&rounds(Pace::new(ms(5), 4), 1_000)));
    }

    #[test]
    fn rest_refills_the_burst() {
        let mut pace = Pace::new(ms(5), 4);
        (0..5).for_each(|_| pace.begin(0));
        assert!(pace.wait_ns(0) > 0);
        assert_eq!(pace.wait_ns(ms(25)), 0);
        (0..4).for_each(|_| pace.begin(ms(25)));
        assert_eq!(pace.wait_ns(ms(25)), 0);
    }
}

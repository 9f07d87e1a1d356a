//! Every timer of RFC 3261 table 4 and RFC 6026, with its value and its section, in one place.

use cordboard_base::ms;

/// The three constants that all timers are made of (RFC 3261 17.1.1.1, 17.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// T1, the round-trip estimate.
    pub t1_ns: u64,
    /// T2, the longest retransmission interval of non-INVITE requests and INVITE responses.
    pub t2_ns: u64,
    /// T4, the longest life of a message in the network.
    pub t4_ns: u64,
}

impl Times {
    /// From milliseconds.
    #[must_use]
    pub fn from_ms(t1_ms: u64, t2_ms: u64, t4_ms: u64) -> Self {
        Self { t1_ns: ms(t1_ms), t2_ns: ms(t2_ms), t4_ns: ms(t4_ms) }
    }

    /// 64 times T1: how long a transaction is tried.
    #[must_use]
    pub fn give_up_ns(self) -> u64 {
        self.t1_ns.saturating_mul(64)
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::from_ms(500, 4_000, 5_000)
    }
}

/// A timer of a transaction. Timer C belongs to proxies (16.6), which Cordboard is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// INVITE request retransmission, UDP only: T1, doubling without limit (17.1.1.2).
    A,
    /// INVITE transaction time-out: 64 T1 (17.1.1.2).
    B,
    /// Wait for repeated final responses to an INVITE: 32 s at least on UDP, none on TCP (17.1.1.2).
    D,
    /// Non-INVITE request retransmission, UDP only: T1, doubling up to T2 (17.1.2.2).
    E,
    /// Non-INVITE transaction time-out: 64 T1 (17.1.2.2).
    F,
    /// INVITE final response retransmission, UDP only: T1, doubling up to T2 (17.2.1).
    G,
    /// Wait for the ACK: 64 T1 (17.2.1).
    H,
    /// Wait for repeated ACKs: T4 on UDP, none on TCP (17.2.1).
    I,
    /// Wait for repeated non-INVITE requests: 64 T1 on UDP, none on TCP (17.2.2).
    J,
    /// Wait for repeated responses to a non-INVITE: T4 on UDP, none on TCP (17.1.2.2).
    K,
    /// Wait for repeated INVITEs after a 2xx: 64 T1 (RFC 6026 7.1).
    L,
    /// Wait for repeated 2xx, and for those of other forks: 64 T1 (RFC 6026 7.2).
    M,
    /// Ours: a request that nobody answered here for 64 T1; its client has given up (Timer F).
    Unanswered,
}

impl Timer {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::A,
        Self::B,
        Self::D,
        Self::E,
        Self::F,
        Self::G,
        Self::H,
        Self::I,
        Self::J,
        Self::K,
        Self::L,
        Self::M,
        Self::Unanswered,
    ];

    /// Whether it repeats a message; the others end a state.
    #[must_use]
    pub fn retransmits(self) -> bool {
        matches!(self, Self::A | Self::E | Self::G)
    }

    /// Its first interval; `None` when it does not run on this transport.
    #[must_use]
    pub fn first_ns(self, times: Times, reliable: bool) -> Option<u64> {
        let on_udp = |ns| if reliable { 0 } else { ns };
        match self {
            Self::A | Self::E | Self::G => (!reliable).then_some(times.t1_ns),
            Self::B | Self::F | Self::H | Self::L | Self::M | Self::Unanswered => Some(times.give_up_ns()),
            Self::D => Some(on_udp(times.give_up_ns().max(ms(32_000)))),
            Self::J => Some(on_udp(times.give_up_ns())),
            Self::I | Self::K => Some(on_udp(times.t4_ns)),
        }
    }

    /// The interval after `interval_ns` of a retransmission timer.
    #[must_use]
    pub fn next_ns(self, times: Times, interval_ns: u64) -> u64 {
        let twice = interval_ns.saturating_mul(2);
        if self == Self::A { twice } else { twice.min(times.t2_ns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_table_4() {
        let times = Times::default();
        let udp = |t: Timer| t.first_ns(times, false).map(|ns| ns / 1_000_000);
        let tcp = |t: Timer| t.first_ns(times, true).map(|ns| ns / 1_000_000);
        for t in [Timer::A, Timer::E, Timer::G] {
            assert_eq!((udp(t), tcp(t)), (Some(500), None));
        }
        for t in [Timer::B, Timer::F, Timer::H, Timer::L, Timer::M] {
            assert_eq!((udp(t), tcp(t)), (Some(32_000), Some(32_000)));
        }
        for t in [Timer::D, Timer::J] {
            assert_eq!((udp(t), tcp(t)), (Some(32_000), Some(0)));
        }
        for t in [Timer::I, Timer::K] {
            assert_eq!((udp(t), tcp(t)), (Some(5_000), Some(0)));
        }
    }

    #[test]
    fn timer_a_doubles_for_ever_and_the_others_up_to_t2() {
        let times = Times::default();
        let run = |t: Timer| {
            std::iter::successors(t.first_ns(times, false), |ns| Some(t.next_ns(times, *ns)))
                .map(|ns| ns / 1_000_000)
                .take(6)
                .collect::<Vec<_>>()
        };
        assert_eq!(run(Timer::A), [500, 1_000, 2_000, 4_000, 8_000, 16_000]);
        assert_eq!(run(Timer::E), [500, 1_000, 2_000, 4_000, 4_000, 4_000]);
    }
}

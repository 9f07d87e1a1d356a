//! Where a leg's packets may come from, and so where ours go (symmetric RTP).
//!
//! Owned by a leg. A source is believed at once when it is the signalled one, and with the second
//! of two packets in sequence when it is not (a phone behind NAT). It is then kept: another source
//! takes its place only when the signalled address changes or proves itself, or after a silence, so
//! that a stray or hostile stream cannot steal a call that is up. Garbage never gets this far.
//!
//! ```text
//!             signalled, or 2 in sequence
//!   Waiting ------------------------------> Latched --+ 2 in sequence from elsewhere, and
//!      ^                                       |  ^---+ (elsewhere is signalled, or silent for 2 s)
//!      +--- the signalled address changes -----+
//! ```

use std::net::SocketAddr;

use cordboard_base::ms;

/// A latched source that was silent for so long may be replaced.
pub const RELATCH_AFTER_NS: u64 = ms(2000);
/// After the signalled address changed, packets still under way from the old source are not
/// believed to be a new one for so long.
const FORMER_FOR_NS: u64 = ms(400);

/// Sources looked at together.
const CANDIDATES: usize = 4;

/// The latch of one leg.
#[derive(Debug, Clone, Default)]
pub struct Latch {
    signalled: Option<SocketAddr>,
    current: Option<SocketAddr>,
    heard_ns: u64,
    /// Sources that have sent one packet: several, so that a stray stream cannot keep the true one
    /// from sending two in a row.
    candidates: [Option<Candidate>; CANDIDATES],
    next_candidate: usize,
    former: Option<(SocketAddr, u64)>,
}

#[derive(Debug, Clone)]
struct Candidate {
    from: SocketAddr,
    ssrc: u32,
    next: u16,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the leg's.
    Accept,
    /// It is the leg's, and its source is new.
    Latched,
    /// It is not, or not yet.
    Refuse,
}

impl Latch {
    /// The signalled address, again after each offer and answer.
    pub fn signal(&mut self, now_ns: u64, address: SocketAddr) {
        if self.signalled == Some(address) {
            return;
        }
        self.signalled = Some(address);
        self.candidates = Default::default();
        // If the packets come from there already, nothing changes.
        if self.current != Some(address) {
            self.former = self.current.take().map(|old| (old, now_ns.saturating_add(FORMER_FOR_NS)));
        }
    }

    /// Where to send: to the source, or before one is known to the signalled address.
    #[must_use]
    pub fn target(&self) -> Option<SocketAddr> {
        self.current.or(self.signalled)
    }

    /// The source that is latched.
    #[must_use]
    pub fn current(&self) -> Option<SocketAddr> {
        self.current
    }

    /// Judges a well-formed packet of an agreed payload type.
    pub fn judge(&mut self, now_ns: u64, from: SocketAddr, ssrc: u32, sequence: u16) -> Verdict {
        if self.current == Some(from) {
            self.heard_ns = now_ns;
            return Verdict::Accept;
        }
        if let Some((old, until_ns)) = self.former {
            if now_ns >= until_ns {
                self.former = None;
            } else if old == from {
                return if self.current.is_none() { Verdict::Accept } else { Verdict::Refuse };
            }
        }
        let is_signalled = self.signalled == Some(from);
        // A packet or two may be lost on the way.
        let proven = self
            .candidates
            .iter()
            .flatten()
            .any(|c| c.from == from && c.ssrc == ssrc && sequence.wrapping_sub(c.next) < 3);
        let open = match self.current {
            None => is_signalled || proven,
            Some(_) => proven && (is_signalled || now_ns.saturating_sub(self.heard_ns) > RELATCH_AFTER_NS),
        };
        if open {
            (self.current, self.heard_ns, self.candidates) = (Some(from), now_ns, Default::default());
            Verdict::Latched
        } else {
            self.propose(Candidate { from, ssrc, next: sequence.wrapping_add(1) });
            Verdict::Refuse
        }
    }

    /// Keeps a source in mind, instead of its last packet or of the oldest other one.
    fn propose(&mut self, candidate: Candidate) {
        let known = self.candidates.iter().position(|c| c.as_ref().is_some_and(|c| c.from == candidate.from));
        let place = known.unwrap_or_else(|| {
            self.next_candidate = (self.next_candidate + 1) % CANDIDATES;
            self.next_candidate
        });
        self.candidates[place] = Some(candidate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn latched(from: SocketAddr) -> Latch {
        let mut latch = Latch::default();
        latch.signal(0, at(1));
        for sequence in 0..2 {
            latch.judge(0, from, 7, sequence);
        }
        assert_eq!(latch.current(), Some(from));
        latch
    }

    #[test]
    fn the_signalled_source_is_believed_at_once() {
        let mut latch = Latch::default();
        latch.signal(0, at(1));
        assert_eq!(latch.target(), Some(at(1)));
        assert_eq!(latch.judge(0, at(1), 7, 100), Verdict::Latched);
    }

    #[test]
    fn another_source_must_send_two_in_sequence() {
        let mut latch = Latch::default();
        latch.signal(0, at(1));
        assert_eq!(latch.judge(0, at(2), 7, 100), Verdict::Refuse);
        assert_eq!(latch.judge(0, at(2), 8, 101), Verdict::Refuse);
        assert_eq!(latch.judge(0, at(2), 8, 900), Verdict::Refuse);
        assert_eq!(latch.target(), Some(at(1)));
        assert_eq!(latch.judge(0, at(2), 8, 901), Verdict::Latched);
        assert_eq!(latch.target(), Some(at(2)));
    }

    #[test]
    fn streams_that_jump_about_do_not_keep_the_true_one_out() {
        let mut latch = Latch::default();
        latch.signal(0, at(1));
        for stray in [3, 4, 5] {
            assert_eq!(latch.judge(0, at(stray), 9, 500), Verdict::Refuse);
        }
        assert_eq!(latch.judge(0, at(2), 8, 900), Verdict::Refuse);
        for stray in [3, 4, 5] {
            assert_eq!(latch.judge(0, at(stray), 9, 500), Verdict::Refuse);
        }
        assert_eq!(latch.judge(0, at(2), 8, 901), Verdict::Latched);
    }

    #[test]
    fn a_second_stream_cannot_steal_a_live_leg() {
        let mut latch = latched(at(2));
        for sequence in 0..200_u16 {
            let now_ns = u64::from(sequence) * ms(20);
            assert_eq!(latch.judge(now_ns, at(2), 7, 2 + sequence), Verdict::Accept);
            assert_eq!(latch.judge(now_ns, at(3), 9, sequence), Verdict::Refuse);
        }
    }

    #[test]
    fn after_a_silence_a_new_source_may_come() {
        let mut latch = latched(at(2));
        let later = RELATCH_AFTER_NS + 1;
        assert_eq!(latch.judge(later, at(3), 9, 5), Verdict::Refuse);
        assert_eq!(latch.judge(later, at(3), 9, 6), Verdict::Latched);
    }

    #[test]
    fn the_signalled_address_can_take_its_leg_back() {
        let mut latch = latched(at(2));
        assert_eq!(latch.judge(1, at(1), 5, 1), Verdict::Refuse);
        assert_eq!(latch.judge(1, at(1), 5, 2), Verdict::Latched);
    }

    #[test]
    fn after_a_new_offer_the_old_source_s_late_packets_do_not_latch_again() {
        let mut latch = latched(at(2));
        latch.signal(ms(1000), at(5));
        assert_eq!(latch.target(), Some(at(5)));
        for sequence in 2..10 {
            assert_eq!(latch.judge(ms(1100), at(2), 7, sequence), Verdict::Accept);
        }
        assert_eq!(latch.target(), Some(at(5)));
        assert_eq!(latch.judge(ms(1200), at(5), 8, 1), Verdict::Latched);
        assert_eq!(latch.judge(ms(1300), at(2), 7, 11), Verdict::Refuse);
    }

    #[test]
    fn a_phone_that_keeps_its_source_over_a_new_offer_is_latched_again() {
        let mut latch = latched(at(2));
        latch.signal(ms(1000), at(5));
        assert_eq!(latch.judge(ms(1500), at(2), 7, 30), Verdict::Refuse);
        assert_eq!(latch.judge(ms(1520), at(2), 7, 31), Verdict::Latched);
    }
}

//! The RTP header (RFC 3550 section 5.1) and what a receiver knows of a source (appendix A).
//!
//! Called by [`crate::leg`] for every packet. Never allocates, never copies a payload and never
//! panics on what a header might claim.

use std::ops::Range;

/// Octets of a header without contributing sources and extension: what we send.
pub const HEADER_LEN: usize = 12;

/// The fixed part of an RTP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The marker bit: for audio, the first packet after a silence.
    pub marker: bool,
    /// The payload type, 0 to 127.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The timestamp in units of the codec's clock (8 kHz here).
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
}

impl Header {
    /// Reads the header of a datagram and finds its payload; `None` if it is not RTP.
    ///
    /// Contributing sources, extension and padding are skipped. A second octet of 192 to 223 is an
    /// RTCP packet type that strayed to this port (RFC 5761 section 4), so it is not RTP either.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(Self, Range<usize>)> {
        if bytes.len() < HEADER_LEN || bytes[0] >> 6 != 2 || (192..=223).contains(&bytes[1]) {
            return None;
        }
        let mut start = HEADER_LEN + 4 * usize::from(bytes[0] & 0x0f);
        if bytes[0] & 0x10 != 0 {
            let words = bytes.get(start + 2..start + 4)?;
            start += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        }
        let mut end = bytes.len();
        if bytes[0] & 0x20 != 0 {
            let padding = usize::from(bytes[end - 1]);
            if padding == 0 || padding > end {
                return None;
            }
            end -= padding;
        }
        if start > end {
            return None;
        }
        let header = Self {
            marker: bytes[1] & 0x80 != 0,
            payload_type: bytes[1] & 0x7f,
            sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
            timestamp: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            ssrc: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
        };
        Some((header, start..end))
    }

    /// The header's octets, without contributing sources, extension or padding.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = 0x80;
        out[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        out[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        out
    }
}

/// A sequence number may jump ahead by so much before it counts as a restart (RFC 3550 A.1).
const MAX_DROPOUT: u16 = 3000;
/// And lie back by so much before it counts as one (RFC 3550 A.1).
const MAX_MISORDER: u16 = 100;

/// Where a packet stands in its source's sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The next one, or a later one after a loss.
    Ahead,
    /// Out of order, or a duplicate.
    Late,
    /// The source has begun a new sequence, with the second packet of it.
    Restarted,
    /// Far away from the sequence; believed only when the next one follows it.
    Strange,
}

/// What we know of a source that sends to us: RFC 3550 A.1, A.3 and A.8.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its identifier.
    pub ssrc: u32,
    base: u16,
    max: u16,
    cycles: u32,
    strange: Option<u16>,
    received: u32,
    expected_prior: u32,
    received_prior: u32,
    transit: Option<u32>,
    jitter_16ths: u32,
}

impl Source {
    /// A source whose first packet has just come (it is not counted yet: see [`Self::note`]).
    #[must_use]
    pub fn new(ssrc: u32, sequence: u16) -> Self {
        Self {
            ssrc,
            base: sequence,
            max: sequence.wrapping_sub(1),
            cycles: 0,
            strange: None,
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            transit: None,
            jitter_16ths: 0,
        }
    }

    /// Counts a packet by its sequence number (RFC 3550 A.1).
    pub fn note(&mut self, sequence: u16) -> Order {
        let ahead = sequence.wrapping_sub(self.max);
        if (1..MAX_DROPOUT).contains(&ahead) {
            if sequence < self.max && self.received > 0 {
                self.cycles = self.cycles.wrapping_add(1 << 16);
            }
            self.max = sequence;
            self.received += 1;
            self.strange = None;
            Order::Ahead
        } else if ahead == 0 || ahead > u16::MAX - MAX_MISORDER {
            self.received += 1;
            Order::Late
        } else if self.strange == Some(sequence) {
            let (ssrc, transit, jitter) = (self.ssrc, self.transit, self.jitter_16ths);
            *self = Self::new(ssrc, sequence);
            (self.transit, self.jitter_16ths) = (transit, jitter);
            self.max = sequence;
            self.received = 1;
            Order::Restarted
        } else {
            self.strange = Some(sequence.wrapping_add(1));
            Order::Strange
        }
    }

    /// Takes an audio packet into the interarrival jitter (RFC 3550 A.8).
    pub fn note_arrival(&mut self, now_ns: u64, timestamp: u32) {
        let transit = ticks(now_ns).wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let d = (transit.wrapping_sub(before) as i32).unsigned_abs();
            // A jump of more than a second is a new timeline, not jitter.
            if d < 8000 {
                self.jitter_16ths = self.jitter_16ths + d - ((self.jitter_16ths + 8) >> 4);
            }
        }
    }

    /// The extended highest sequence number received.
    #[must_use]
    pub fn highest(&self) -> u32 {
        self.cycles.wrapping_add(u32::from(self.max))
    }

    /// Packets expected less packets received, since the source's first (RFC 3550 A.3).
    #[must_use]
    pub fn lost(&self) -> i64 {
        i64::from(self.expected()) - i64::from(self.received)
    }

    /// Jitter in timestamp units.
    #[must_use]
    pub fn jitter(&self) -> u32 {
        self.jitter_16ths >> 4
    }

    /// The share lost since the last call, in 256ths (RFC 3550 A.3).
    pub fn fraction_lost(&mut self) -> u8 {
        let expected = self.expected();
        let interval = expected.wrapping_sub(self.expected_prior);
        let got = self.received.wrapping_sub(self.received_prior);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost = i64::from(interval) - i64::from(got);
        if interval == 0 || lost <= 0 { 0 } else { ((lost << 8) / i64::from(interval)).min(255) as u8 }
    }

    fn expected(&self) -> u32 {
        if self.received == 0 {
            return 0;
        }
        self.highest().wrapping_sub(u32::from(self.base)).wrapping_add(1)
    }
}

/// Monotonic nanoseconds as ticks of the 8 kHz clock.
#[must_use]
pub const fn ticks(ns: u64) -> u32 {
    (ns / 125_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { marker: true, payload_type: 101, sequence: 65535, timestamp: 0xfeed_beef, ssrc: 7 }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut packet = header().to_bytes().to_vec();
        packet.extend([1, 2, 3]);
        assert_eq!(Header::parse(&packet), Some((header(), 12..15)));
    }

    #[test]
    fn csrc_extension_and_padding_are_skipped() {
        let mut packet = header().to_bytes().to_vec();
        packet[0] = 0x80 | 0x20 | 0x10 | 2;
        packet.extend([0; 8]); // two contributing sources
        packet.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]); // one word of extension
        packet.extend([5, 6, 0, 2]); // payload, padding
        let (_, payload) = Header::parse(&packet).expect("valid");
        assert_eq!(packet[payload], [5, 6]);
    }

    #[test]
    fn lies_about_lengths_are_no_rtp() {
        let good = header().to_bytes();
        for (octet, value) in [(0, 0x40), (0, 0x8f), (0, 0x90), (1, 200), (0, 0xa0)] {
            let mut packet = good.to_vec();
            packet[octet] = value;
            packet[11] = if value == 0xa0 { 77 } else { packet[11] };
            assert_eq!(Header::parse(&packet), None, "{value:#x}");
        }
        assert_eq!(Header::parse(&good[..11]), None);
    }

    #[test]
    fn loss_reordering_and_wrap_are_counted() {
        let mut s = Source::new(1, 65533);
        for sequence in [65533, 65534, 0, 65535, 2] {
            s.note(sequence);
        }
        assert_eq!(s.highest(), 0x1_0002);
        assert_eq!(s.lost(), 1);
        assert_eq!(s.fraction_lost(), 42); // one of six
        assert_eq!(s.fraction_lost(), 0);
    }

    #[test]
    fn a_restart_is_believed_with_its_second_packet() {
        let mut s = Source::new(1, 10);
        assert_eq!(s.note(10), Order::Ahead);
        assert_eq!(s.note(30_000), Order::Strange);
        assert_eq!(s.note(11), Order::Ahead);
        assert_eq!(s.note(40_000), Order::Strange);
        assert_eq!(s.note(40_001), Order::Restarted);
        assert_eq!(s.note(40_002), Order::Ahead);
        assert_eq!(s.note(40_000), Order::Late);
    }

    #[test]
    fn jitter_follows_the_formula_of_the_rfc() {
        let mut s = Source::new(1, 0);
        for i in 0..200_u32 {
            let late_ns = if i % 2 == 0 { 0 } else { 5_000_000 };
            s.note_arrival(u64::from(i) * 20_000_000 + late_ns, i * 160);
        }
        // Every difference is 5 ms: 40 ticks.
        assert!((38..=40).contains(&s.jitter()), "{}", s.jitter());
    }
}

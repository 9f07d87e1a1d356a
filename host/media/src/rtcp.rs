//! RTCP (RFC 3550 section 6): sender and receiver reports, SDES with CNAME, BYE.
//!
//! Called by [`crate::leg`] every five seconds or so. Reads compound packets by the checks of
//! appendix A.2 and writes them; keeps no state. Never panics on what a length might claim.

/// One source's reception, as a receiver reports it (section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// The source that is reported on.
    pub ssrc: u32,
    /// The share lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost since the beginning; 24 bits, signed.
    pub lost: i32,
    /// The extended highest sequence number received.
    pub highest: u32,
    /// Jitter in timestamp units.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report; 0 for none.
    pub last_sr: u32,
    /// The delay since it, in 65536ths of a second.
    pub delay_since_sr: u32,
}

/// What a sender says of itself (section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// NTP time: seconds since 1900 and 2^32ths.
    pub ntp: u64,
    /// The same instant as an RTP timestamp.
    pub timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload octets sent.
    pub octets: u32,
}

/// One packet of a compound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// SR or RR.
    Report {
        /// Who reports.
        ssrc: u32,
        /// Its sender part, for an SR.
        sender: Option<Sender>,
        /// What it received.
        blocks: Vec<Block>,
    },
    /// SDES: the first chunk's source and its CNAME, if it has one.
    Description {
        /// The source.
        ssrc: u32,
        /// Its canonical name.
        cname: Option<&'a [u8]>,
    },
    /// BYE of a source.
    Bye {
        /// The first source that leaves.
        ssrc: u32,
    },
    /// APP, feedback and what else there is.
    Other(u8),
}

const SR: u8 = 200;
const RR: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;

/// Reads a compound packet; `None` unless it passes the checks of RFC 3550 A.2 from end to end.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Vec<Packet<'_>>> {
    let first = bytes.first_chunk::<4>()?;
    // Version 2, no padding in the first packet, and it is a report.
    if first[0] & 0xe0 != 0x80 || !matches!(first[1], SR | RR) {
        return None;
    }
    let mut packets = Vec::with_capacity(3);
    let mut rest = bytes;
    while !rest.is_empty() {
        let head = rest.first_chunk::<4>()?;
        let len = 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
        if head[0] >> 6 != 2 || len > rest.len() {
            return None;
        }
        let (packet, after) = rest.split_at(len);
        rest = after;
        let padding = if head[0] & 0x20 != 0 { usize::from(packet[len - 1]) } else { 0 };
        if (head[0] & 0x20 != 0 && padding == 0) || padding > len - 4 {
            return None;
        }
        packets.push(parse_one(head[0] & 0x1f, head[1], &packet[4..len - padding])?);
    }
    Some(packets)
}

fn parse_one(count: u8, kind: u8, mut body: &[u8]) -> Option<Packet<'_>> {
    match kind {
        SR | RR => {
            let ssrc = word(&mut body)?;
            let sender = if kind == SR {
                Some(Sender {
                    ntp: u64::from(word(&mut body)?) << 32 | u64::from(word(&mut body)?),
                    timestamp: word(&mut body)?,
                    packets: word(&mut body)?,
                    octets: word(&mut body)?,
                })
            } else {
                None
            };
            let blocks = (0..count).map(|_| block(&mut body)).collect::<Option<_>>()?;
            Some(Packet::Report { ssrc, sender, blocks })
        }
        SDES if count > 0 => {
            let ssrc = word(&mut body)?;
            let mut cname = None;
            while let [kind @ 1..=255, len, rest @ ..] = body {
                let value = rest.get(..usize::from(*len))?;
                if *kind == 1 {
                    cname = Some(value);
                    break;
                }
                body = &rest[value.len()..];
            }
            Some(Packet::Description { ssrc, cname })
        }
        BYE if count > 0 => Some(Packet::Bye { ssrc: word(&mut body)? }),
        other => Some(Packet::Other(other)),
    }
}

fn word(body: &mut &[u8]) -> Option<u32> {
    let (word, rest) = body.split_first_chunk::<4>()?;
    *body = rest;
    Some(u32::from_be_bytes(*word))
}

fn block(body: &mut &[u8]) -> Option<Block> {
    let ssrc = word(body)?;
    let loss = word(body)?;
    Some(Block {
        ssrc,
        fraction_lost: (loss >> 24) as u8,
        // Sign-extends the 24 bits.
        lost: ((loss << 8) as i32) >> 8,
        highest: word(body)?,
        jitter: word(body)?,
        last_sr: word(body)?,
        delay_since_sr: word(body)?,
    })
}

/// Writes a compound packet: SR (with `sender`) or RR, SDES with the CNAME, and BYE if asked.
pub fn write(
    ssrc: u32,
    sender: Option<Sender>,
    block: Option<Block>,
    cname: &str,
    bye: bool,
    out: &mut Vec<u8>,
) {
    out.clear();
    let count = u8::from(block.is_some());
    let words = 1 + if sender.is_some() { 5 } else { 0 } + 6 * u16::from(count);
    head(out, count, if sender.is_some() { SR } else { RR }, words);
    put(out, ssrc);
    if let Some(s) = sender {
        for word in [(s.ntp >> 32) as u32, s.ntp as u32, s.timestamp, s.packets, s.octets] {
            put(out, word);
        }
    }
    if let Some(b) = block {
        let lost = b.lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        let loss = u32::from(b.fraction_lost) << 24 | lost;
        for word in [b.ssrc, loss, b.highest, b.jitter, b.last_sr, b.delay_since_sr] {
            put(out, word);
        }
    }
    let cname = &cname.as_bytes()[..cname.len().min(255)];
    // Items end with at least one zero octet and fill whole words (section 6.5).
    let padded = (2 + cname.len()) / 4 * 4 + 4;
    head(out, 1, SDES, (1 + padded / 4) as u16);
    put(out, ssrc);
    let end = out.len() + padded;
    out.extend([1, cname.len() as u8]);
    out.extend(cname);
    out.resize(end, 0);
    if bye {
        head(out, 1, BYE, 1);
        put(out, ssrc);
    }
}

fn head(out: &mut Vec<u8>, count: u8, kind: u8, words: u16) {
    out.extend([0x80 | count, kind]);
    out.extend(words.to_be_bytes());
}

fn put(out: &mut Vec<u8>, word: u32) {
    out.extend(word.to_be_bytes());
}

/// NTP time (64 bits) of nanoseconds since the Unix epoch.
#[must_use]
pub fn ntp(unix_ns: u64) -> u64 {
    const UNIX_EPOCH_IN_NTP_S: u64 = 2_208_988_800;
    let (s, ns) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
    ((s + UNIX_EPOCH_IN_NTP_S) << 32) | ((ns << 32) / 1_000_000_000)
}

/// The middle 32 bits of an NTP time: 65536ths of a second.
#[must_use]
pub const fn ntp_middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let sender = Sender { ntp: ntp(1_700_000_000_500_000_000), timestamp: 5, packets: 6, octets: 7 };
        let block = Block {
            ssrc: 9,
            fraction_lost: 128,
            lost: -3,
            highest: 70_000,
            jitter: 4,
            last_sr: 5,
            delay_since_sr: 6,
        };
        for cname in ["", "a", "ab", "abc", "leg7@cordboard"] {
            let mut out = Vec::new();
            write(1, Some(sender), Some(block), cname, true, &mut out);
            assert_eq!(out.len() % 4, 0);
            let expected = vec![
                Packet::Report { ssrc: 1, sender: Some(sender), blocks: vec![block] },
                Packet::Description { ssrc: 1, cname: Some(cname.as_bytes()) },
                Packet::Bye { ssrc: 1 },
            ];
            assert_eq!(parse(&out), Some(expected));
        }
    }

    #[test]
    fn a_compound_that_fails_a_check_is_refused_whole() {
        let mut good = Vec::new();
        write(1, None, None, "x", false, &mut good);
        assert!(parse(&good).is_some());
        assert!(parse(&good[..good.len() - 1]).is_none());
        assert!(parse(&good[8..]).is_none()); // SDES first
        let mut bad = good.clone();
        bad[0] = 0x85; // five blocks claimed
        assert!(parse(&bad).is_none());
        assert!(parse(&[]).is_none());
    }

    #[test]
    fn ntp_counts_from_1900() {
        assert_eq!(ntp(0) >> 32, 2_208_988_800);
        assert_eq!(ntp_middle(ntp(500_000_000)) & 0xffff, 0x8000);
    }
}

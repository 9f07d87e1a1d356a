//! DNS messages (RFC 1035 4, with RFC 2782, 3403, 3596 and 6891): one question out, the records of its
//! answer in.
//!
//! Bytes and values only. A name is followed through CNAMEs within one answer; what does not belong to it is
//! not believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cordboard_sip::resolve::{Kind, Question, Record};

const CNAME: u16 = 5;
const SOA: u16 = 6;
const OPT: u16 = 41;
const IN: u16 = 1;
/// What fits through nearly every path in one piece (RFC 6891 6.2.5 and the flag day of 2020).
const PAYLOAD: u16 = 1_232;
/// CNAMEs in a row that are followed.
const MAX_CHAIN: usize = 8;

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// Records, with the shortest time that any of them may be kept, in seconds.
    Records(Vec<Record>, u32),
    /// There are none: NXDOMAIN or no such kind; how long that may be kept (RFC 2308 5).
    Absent(u32),
    /// It did not fit: ask by TCP.
    Truncated,
    /// The server cannot or will not say: the response code.
    Refused(u8),
}

const fn number(kind: Kind) -> u16 {
    match kind {
        Kind::A => 1,
        Kind::Aaaa => 28,
        Kind::Srv => 33,
        Kind::Naptr => 35,
    }
}

/// The question as a message; `None` when the name is none.
pub(super) fn ask(id: u16, question: &Question) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question, one additional record.
    out.extend_from_slice(&[0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in question.name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|l| (1..=63).contains(l))?;
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    if out.len() > 12 + 255 {
        return None;
    }
    out.extend_from_slice(&number(question.kind).to_be_bytes());
    out.extend_from_slice(&IN.to_be_bytes());
    // OPT: the root, how much we take, nothing else.
    out.push(0);
    out.extend_from_slice(&OPT.to_be_bytes());
    out.extend_from_slice(&PAYLOAD.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
    Some(out)
}

/// Reads the answer to a question; `None` when it is not one.
pub(super) fn read(bytes: &[u8], id: u16, question: &Question) -> Option<Said> {
    let mut r = Reader { bytes, at: 0 };
    if r.u16()? != id {
        return None;
    }
    let flags = r.u16()?;
    let (questions, answers, authorities) = (r.u16()?, r.u16()?, r.u16()?);
    r.u16()?;
    let is_response = flags & 0x8000 != 0 && flags & 0x7800 == 0;
    if !is_response || questions != 1 {
        return None;
    }
    let asked = (r.name()?, r.u16()?, r.u16()?);
    let name = question.name.trim_end_matches('.').to_ascii_lowercase();
    if asked != (name.clone(), number(question.kind), IN) {
        return None;
    }
    if flags & 0x0200 != 0 {
        return Some(Said::Truncated);
    }
    let code = (flags & 15) as u8;
    if !matches!(code, 0 | 3) {
        return Some(Said::Refused(code));
    }
    let mut found: Vec<Found> = Vec::new();
    for _ in 0..answers {
        found.push(r.record()?);
    }
    let mut owner = name;
    let mut least = u32::MAX;
    for _ in 0..MAX_CHAIN {
        let mut records = Vec::new();
        for f in found.iter().filter(|f| f.owner == owner && f.kind == number(question.kind)) {
            if let Some(record) = data(bytes, f) {
                least = least.min(f.ttl_s);
                records.push(record);
            }
        }
        if !records.is_empty() {
            return Some(Said::Records(records, least));
        }
        let Some(alias) = found.iter().find(|f| f.owner == owner && f.kind == CNAME) else { break };
        least = least.min(alias.ttl_s);
        owner = Reader { bytes, at: alias.at }.name()?;
    }
    let mut keep_s = 0;
    for _ in 0..authorities {
        let f = r.record()?;
        if f.kind == SOA {
            let mut soa = Reader { bytes, at: f.at };
            soa.name()?;
            soa.name()?;
            soa.at += 16;
            keep_s = soa.u32()?.min(f.ttl_s);
        }
    }
    Some(Said::Absent(keep_s.min(least)))
}

/// A record as it stands in the message.
struct Found {
    owner: String,
    kind: u16,
    ttl_s: u32,
    at: usize,
    end: usize,
}

fn data(bytes: &[u8], f: &Found) -> Option<Record> {
    let mut r = Reader { bytes: bytes.get(..f.end)?, at: f.at };
    // Names in the data may point back into the message before it, which the slice still has.
    Some(match f.kind {
        1 => Record::Address(IpAddr::V4(Ipv4Addr::from(r.u32()?))),
        28 => {
            let octets: [u8; 16] = r.take(16)?.try_into().ok()?;
            Record::Address(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        33 => {
            let (priority, weight, port) = (r.u16()?, r.u16()?, r.u16()?);
            let target = r.name()?;
            Record::Srv {
                priority,
                weight,
                port,
                target: if target.is_empty() { ".".to_owned() } else { target },
            }
        }
        35 => {
            let (order, preference) = (r.u16()?, r.u16()?);
            let (flags, service, regexp) = (r.text()?, r.text()?, r.text()?);
            Record::Naptr { order, preference, flags, service, regexp, replacement: r.name()? }
        }
        _ => return None,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let part = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(part)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A character string (3.3).
    fn text(&mut self) -> Option<String> {
        let length = usize::from(*self.take(1)?.first()?);
        self.take(length).map(|b| String::from_utf8_lossy(b).into_owned())
    }

    /// A name in small letters, its pointers followed backwards only (4.1.4), so that it ends.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let (mut at, mut behind) = (self.at, None);
        loop {
            let length = usize::from(*self.bytes.get(at)?);
            match length {
                0 => {
                    self.at = behind.unwrap_or(at + 1);
                    return Some(name);
                }
                1..=63 => {
                    let label = self.bytes.get(at + 1..at + 1 + length)?;
                    if name.len() + length > 254 {
                        return None;
                    }
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
                    at += 1 + length;
                }
                192.. => {
                    let to = (length & 63) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    behind.get_or_insert(at + 2);
                    if to >= at {
                        return None;
                    }
                    at = to;
                }
                _ => return None,
            }
        }
    }

    fn record(&mut self) -> Option<Found> {
        let owner = self.name()?;
        let (kind, class, ttl_s) = (self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let at = self.at;
        self.take(length)?;
        // A class of another world answers nothing.
        let kind = if class == IN { kind } else { 0 };
        // RFC 2181 8: a time with its highest bit set is none.
        Some(Found { owner, kind, ttl_s: if ttl_s > i32::MAX as u32 { 0 } else { ttl_s }, at, end: self.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: Kind) -> Question {
        Question { name: name.to_owned(), kind }
    }

    /// An answer to a question: flags, counts, and what follows the question.
    fn answer(q: &Question, flags: u16, counts: (u8, u8), rest: &[u8]) -> Vec<u8> {
        let asked = ask(7, q).unwrap();
        let mut out = asked[..asked.len() - 11].to_vec();
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        out[6..12].copy_from_slice(&[0, counts.0, 0, counts.1, 0, 0]);
        out.extend_from_slice(rest);
        out
    }

    #[test]
    fn a_question_is_a_message_with_one_question_and_says_how_much_we_take() {
        let bytes = ask(0x1234, &question("a.test", Kind::Srv)).unwrap();
        assert_eq!(bytes[..12], [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(bytes[12..24], [1, b'a', 4, b't', b'e', b's', b't', 0, 0, 33, 0, 1]);
        assert_eq!(bytes[24..], [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        assert!(ask(1, &question("a..test", Kind::A)).is_none());
        assert!(ask(1, &question(&"x".repeat(64), Kind::A)).is_none());
    }

    #[test]
    fn srv_through_an_alias_and_its_time() {
        let q = question("_sip.a.test", Kind::Srv);
        // _sip.a.test CNAME b.test (60 s); b.test SRV 1 2 5070 h.test (30 s).
        let mut rest = vec![0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 8, 1, b'b', 4, b'T', b'e', b's', b't', 0];
        let b_at = 12 + 13 + 4 + 12;
        rest.extend([0xc0, b_at as u8, 0, 33, 0, 1, 0, 0, 0, 30, 0, 10, 0, 1, 0, 2, 0x13, 0xce, 1, b'h']);
        rest.extend([0xc0, b_at as u8 + 2]);
        let bytes = answer(&q, 0x8180, (2, 0), &rest);
        let srv = Record::Srv { priority: 1, weight: 2, port: 5_070, target: "h.test".into() };
        assert_eq!(read(&bytes, 7, &q), Some(Said::Records(vec![srv], 30)));
        assert_eq!(read(&bytes, 8, &q), None, "another question's");
        assert_eq!(read(&bytes, 7, &question("_sip.b.test", Kind::Srv)), None);
        for cut in 0..bytes.len() {
            let _ = read(&bytes[..cut], 7, &q);
        }
    }

    #[test]
    fn absence_is_kept_as_long_as_the_zone_says() {
        let q = question("x.test", Kind::A);
        let soa = [
            0xc0, 14, 0, 6, 0, 1, 0, 0, 0, 99, 0, 22, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1,
            0, 0, 0, 45,
        ];
        assert_eq!(read(&answer(&q, 0x8183, (0, 1), &soa), 7, &q), Some(Said::Absent(45)));
        assert_eq!(read(&answer(&q, 0x8180, (0, 0), &[]), 7, &q), Some(Said::Absent(0)));
        assert_eq!(read(&answer(&q, 0x8182, (0, 0), &[]), 7, &q), Some(Said::Refused(2)));
        assert_eq!(read(&answer(&q, 0x8380, (0, 0), &[]), 7, &q), Some(Said::Truncated));
        assert_eq!(read(&answer(&q, 0x0100, (0, 0), &[]), 7, &q), None, "a question, not an answer");
    }

    #[test]
    fn a_name_that_points_at_itself_ends() {
        let q = question("x.test", Kind::A);
        let rest = [0xc0, 24, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 127, 0, 0, 1];
        assert_eq!(read(&answer(&q, 0x8180, (1, 0), &rest), 7, &q), None);
    }
}

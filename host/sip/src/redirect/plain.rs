//! An INVITE as nearly everybody writes it, read in one pass and answered into a buffer that is there.
//!
//! Called by the redirect role for each INVITE, where the answer costs less than the system calls
//! around it. Never judges: whatever is unusual in the least (a fold, a bare line end, a header
//! twice, a To tag, Max-Forwards 0, a body cut short) is not plain, and goes by [`Message`], which
//! says what is wrong with it. Both ways give the same octets; a property test holds them to it.
//!
//! [`Message`]: crate::wire::Message

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::Key;
use crate::wire::text::{is_token, number, trim};
use crate::wire::{Builder, MAX_MESSAGE, Name, NameAddr, Uri, Via};

/// More header lines than this are unusual.
const MOST_LINES: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Plain<'a> {
    user: Option<&'a str>,
    via: Via<'a>,
    vias: SmallVec<[&'a str; 8]>,
    from: &'a str,
    from_tag: &'a str,
    to: &'a str,
    call_id: &'a str,
    cseq: &'a str,
    cseq_number: u32,
}

impl<'a> Plain<'a> {
    /// Reads a datagram; `None` when it is anything else than a plain INVITE.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        const METHOD: &str = "INVITE ";
        if !bytes.starts_with(METHOD.as_bytes()) || bytes.len() > MAX_MESSAGE {
            return None;
        }
        let head_end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 2;
        let head = std::str::from_utf8(&bytes[..head_end]).ok()?;
        let body_len = bytes.len() - head_end - 2;
        let (request_line, mut rest) = line(&head[METHOD.len()..])?;
        let uri = Uri::parse(request_line.strip_suffix(" SIP/2.0")?).ok()?;
        if uri.scheme != "sip" || !uri.headers.is_empty() {
            return None;
        }
        let mut vias = SmallVec::new();
        let [mut from, mut to, mut call_id, mut cseq] = [None; 4];
        let [mut max_forwards, mut content_length, mut content_type] = [None; 3];
        let mut lines = 0;
        while !rest.is_empty() {
            let (text, next) = line(rest)?;
            rest = next;
            lines += 1;
            let (name, value) = text.split_once(':')?;
            // A fold begins with a blank, which is in no token.
            if lines > MOST_LINES || !is_token(name) {
                return None;
            }
            let single = match Name::recognise(name.as_bytes()) {
                Name::Via => {
                    vias.push(trim(value));
                    continue;
                }
                Name::From => &mut from,
                Name::To => &mut to,
                Name::CallId => &mut call_id,
                Name::CSeq => &mut cseq,
                Name::MaxForwards => &mut max_forwards,
                Name::ContentLength => &mut content_length,
                Name::ContentType => &mut content_type,
                _ => continue,
            };
            let value = trim(value);
            if value.is_empty() || single.replace(value).is_some() {
                return None;
            }
        }
        if content_length.is_some_and(|text| number(text).is_none_or(|n| n as usize > body_len))
            || max_forwards.is_some_and(|text| number(text).is_none_or(|n| n == 0 || n > 255))
            || vias.iter().any(|via: &&str| via.contains(',') || Via::parse(via).is_none())
        {
            return None;
        }
        let (from, to, cseq) = (from?, to?, cseq?);
        let (from_address, to_address) = (NameAddr::parse(from)?, NameAddr::parse(to)?);
        if from_address.parsed_uri().is_err()
            || to_address.parsed_uri().is_err()
            || to_address.tag().is_some()
        {
            return None;
        }
        let (digits, method) = cseq.split_once(' ')?;
        let cseq_number = number(digits).filter(|n| *n < 1 << 31)?;
        if method != "INVITE" {
            return None;
        }
        Some(Self {
            user: uri.user,
            via: Via::parse(vias.first()?)?,
            vias,
            from,
            from_tag: from_address.tag().unwrap_or(""),
            to,
            call_id: call_id?,
            cseq,
            cseq_number,
        })
    }

    /// The user of the Request-URI.
    #[must_use]
    pub fn user(&self) -> Option<&'a str> {
        self.user
    }

    /// Call-ID.
    #[must_use]
    pub fn call_id(&self) -> &'a str {
        self.call_id
    }

    /// CSeq's number.
    #[must_use]
    pub fn cseq_number(&self) -> u32 {
        self.cseq_number
    }

    /// Where its answers go: to where it came from; without `rport` to the port that the Via names
    /// (18.2.2, RFC 3581 4).
    #[must_use]
    pub fn reply_to(&self, from: SocketAddr) -> SocketAddr {
        super::reply_to(Some(&self.via), from)
    }

    /// As [`Key::number`].
    #[must_use]
    pub fn number(&self, key: &Key) -> u64 {
        key.of(self.call_id, self.via.branch.unwrap_or(""), self.from_tag, self.cseq_number)
    }

    /// Appends the 302: what every response copies (8.2.6.2), the tag that `number` gives, and the
    /// whole Contact lines that `contacts` appends.
    pub fn moved(
        &self,
        source: SocketAddr,
        number: u64,
        contacts: impl FnOnce(&mut Vec<u8>),
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"SIP/2.0 302 Moved Temporarily\r\n");
        for (i, line) in self.vias.iter().enumerate() {
            out.extend_from_slice(b"Via: ");
            if i == 0 {
                Builder::append_via(out, line.as_bytes(), &self.via, source);
            } else {
                out.extend_from_slice(line.as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
        let copied =
            [("From: ", self.from), ("Call-ID: ", self.call_id), ("CSeq: ", self.cseq), ("To: ", self.to)];
        for (i, (name, value)) in copied.into_iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"" } else { b"\r\n" });
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(b";tag=");
        for shift in (0..16).rev() {
            out.push(b"0123456789abcdef"[(number >> (shift * 4)) as usize & 15]);
        }
        out.extend_from_slice(b"\r\n");
        contacts(out);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }
}

/// The line at the beginning without its CRLF, and what follows; `None` for any other line end.
fn line(text: &str) -> Option<(&str, &str)> {
    let end = memchr::memchr2(b'\r', b'\n', text.as_bytes())?;
    text[end..].strip_prefix("\r\n").map(|rest| (&text[..end], rest))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::answer_302;
    use super::*;
    use crate::wire::Message;

    const KEY: Key = Key::new([3; 16]);
    const CONTACTS: [(&str, u16); 2] = [("sip:100@10.0.0.2:5070", 1_000), ("sip:100@10.0.0.3:5070", 500)];

    /// The answer of the short way, if the request is plain.
    fn short(bytes: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
        let plain = Plain::read(bytes)?;
        let mut out = Vec::new();
        let contacts = |out: &mut Vec<u8>| {
            for (uri, q_milli) in CONTACTS {
                let line = format!("Contact: <{uri}>;q={}.{:03}\r\n", q_milli / 1_000, q_milli % 1_000);
                out.extend_from_slice(line.as_bytes());
            }
        };
        plain.moved(source, plain.number(&KEY), contacts, &mut out);
        Some(out)
    }

    /// Whatever is plain has nothing wrong with it, and gets the octets of the long way.
    fn agree(bytes: &[u8], source: SocketAddr) -> bool {
        let Some(short) = short(bytes, source) else { return false };
        let message = Message::parse(Bytes::copy_from_slice(bytes)).expect("it is whole");
        message.check().expect("nothing is wrong with it");
        let long = answer_302(&message, source, &KEY, &CONTACTS);
        assert_eq!(String::from_utf8_lossy(&short), String::from_utf8_lossy(&long));
        let uri = Uri::parse(message.request_uri()).unwrap();
        let plain = Plain::read(bytes).unwrap();
        assert_eq!((plain.user(), plain.call_id()), (uri.user, message.call_id()));
        assert_eq!(Some(plain.cseq_number()), message.cseq().map(|(n, _)| n));
        true
    }

    fn usual() -> String {
        "INVITE sip:+4930;x=1@10.0.0.1:5060;user=phone SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1:5080;rport;branch=z9hG4bKa\r\n\
         Via: SIP/2.0/TCP pbx.example;branch=z9hG4bKb\r\nMax-Forwards: 70\r\nFrom: \"J\u{fc}rgen \\\" <B>\" <sip:1@x>;tag=a\r\n\
         To: <sip:+4930@10.0.0.1>\r\nCall-ID: c1@x\r\nCSeq: 3 INVITE\r\nContact: <sip:1@10.0.1.1>\r\n\
         Content-Type: application/sdp\r\nContent-Length: 4\r\n\r\nv=0\n"
            .into()
    }

    #[test]
    fn a_usual_invite_is_plain_wherever_it_comes_from() {
        for source in ["10.0.1.1:5080", "10.0.1.1:1024", "192.0.2.7:9", "[2001:db8::1]:5060"] {
            assert!(agree(usual().as_bytes(), source.parse().unwrap()), "{source}");
        }
        let without_rport = usual().replace(";rport", "").replace("5080", "5080;q=\"a b\";x=[::1]");
        for source in ["10.0.1.1:1024", "192.0.2.7:9"] {
            assert!(agree(without_rport.as_bytes(), source.parse().unwrap()), "{source}");
        }
    }

    #[test]
    fn what_is_unusual_or_wrong_is_not_plain() {
        let source = "10.0.1.1:5080".parse().unwrap();
        let table = [
            ("INVITE sip:", "OPTIONS sip:"),
            (" SIP/2.0\r\n", " SIP/3.0\r\n"),
            ("INVITE sip:", "INVITE sips:"),
            ("user=phone ", "user=phone?X=y "),
            ("Max-Forwards: 70", "Max-Forwards: 0"),
            ("Max-Forwards: 70", "Max-Forwards: x"),
            ("To: <sip:+4930@10.0.0.1>", "To: <sip:+4930@10.0.0.1>;tag=b"),
            ("To: <sip:+4930@10.0.0.1>", "To: <sip:+4930@10.0.0.1"),
            ("Call-ID: c1@x\r\n", ""),
            ("Call-ID: c1@x\r\n", "Call-ID: c1@x\r\nCall-ID: c1@x\r\n"),
            ("Call-ID: c1@x\r\n", "Call-ID: c1@x\n"),
            ("CSeq: 3 INVITE", "CSeq: 3 ACK"),
            ("CSeq: 3 INVITE", "CSeq: 4294967296 INVITE"),
            ("Contact: ", "Contact : "),
            ("Contact: ", "Subject: a\r\n b\r\nContact: "),
            ("Content-Length: 4", "Content-Length: 5"),
            ("branch=z9hG4bKa", "branch=z9hG4bKa, SIP/2.0/UDP z"),
            ("\r\n\r\n", "\r\n"),
        ];
        for (from, to) in table {
            let text = usual().replacen(from, to, 1);
            assert!(text != usual() && !agree(text.as_bytes(), source), "{to:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn both_ways_agree_on_any_damage(
            edits in prop::collection::vec((0_usize..600, prop::sample::select(&b"\r\n\0 \t:;,<>\"=@?[]%aV0/\xc3"[..]), 0_u8..3), 1..4),
            source in prop::sample::select(&["10.0.1.1:5080", "192.0.2.7:9"][..]),
        ) {
            let mut bytes = usual().into_bytes();
            for (at, byte, how) in edits {
                let at = at % bytes.len();
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => { bytes.remove(at); }
                }
            }
            agree(&bytes, source.parse().unwrap());
        }
    }
}

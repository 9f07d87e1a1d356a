//! The stateless user agent server of steps 3 and 4 (RFC 3261 8.2.7, 8.3).

use std::net::SocketAddr;

use bytes::Bytes;
use cordboard_base::Now;
use cordboard_sip::redirect::{Key, Plain, answer, answer_302, answer_503, reply_to};
use cordboard_sip::wire::{Builder, Message, Method, Uri};
use serde::Serialize;

use super::Note;
use super::board::{Board, Choice};

/// What there is to send after a batch of datagrams, in buffers that are used again.
#[derive(Debug, Default)]
pub struct Replies {
    octets: Vec<u8>,
    ends: Vec<(SocketAddr, usize)>,
    /// For the timelines of calls that a node of this process was named for.
    pub notes: Vec<Note>,
}

impl Replies {
    /// Where to (RFC 3261 18.2.2, RFC 3581 4) and what, in order.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        self.ends.iter().zip(starts).map(|((to, end), start)| (*to, &self.octets[start..*end]))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets all of it and keeps the room.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.ends.clear();
        self.notes.clear();
    }

    fn push(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.octets.extend_from_slice(bytes);
        self.close(to);
    }

    /// What was appended to the octets since the last one is a datagram.
    fn close(&mut self, to: SocketAddr) {
        self.ends.push((to, self.octets.len()));
    }
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// INVITEs answered with 302, retransmissions included.
    pub redirected: u64,
    /// INVITEs answered with 503, since no node could be named.
    pub without_node: u64,
    /// Requests refused: unknown source, other methods, what cannot be redirected.
    pub refused: u64,
    /// Datagrams that were no SIP request.
    pub malformed: u64,
}

/// One of the doors of the redirect role: all of them answer the same request alike.
#[derive(Debug)]
pub struct Door {
    key: Key,
    counts: Counts,
}

const ALLOW: &str = "INVITE, ACK, OPTIONS, CANCEL";

impl Door {
    /// A door with the key of all doors of an address.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self { key, counts: Counts::default() }
    }

    /// Totals since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Answers one datagram, if it wants an answer. A plain INVITE and an ACK take no allocation
    /// (but for the note of a node in this process).
    pub fn handle(&mut self, now: Now, board: &Board, from: SocketAddr, bytes: &[u8], out: &mut Replies) {
        // To a final response of ours: nothing is kept that it could confirm (8.2.7).
        if bytes.starts_with(b"ACK ") {
            return;
        }
        let plain = Plain::read(bytes);
        let trunk = plain.as_ref().and_then(|_| board.trunk_of(from));
        if let (Some(plain), Some(trunk)) = (plain, trunk) {
            let number = plain.number(&self.key);
            let choice = board.choose(now.mono_ns, trunk, number);
            if !choice.is_empty() {
                let append = |octets: &mut Vec<u8>| append_contacts(board, &choice, plain.user(), octets);
                plain.moved(from, number, append, &mut out.octets);
                out.close(plain.reply_to(from));
                self.counts.redirected += 1;
                note(
                    now,
                    board,
                    &choice,
                    (plain.call_id(), plain.cseq_number(), plain.user()),
                    &mut out.notes,
                );
                return;
            }
        }
        self.unusual(now, board, from, Bytes::copy_from_slice(bytes), out);
    }

    /// Whatever is no plain INVITE of a known trunk.
    fn unusual(&mut self, now: Now, board: &Board, from: SocketAddr, bytes: Bytes, out: &mut Replies) {
        let checked = Message::parse(bytes).and_then(|m| m.check().map(|()| m));
        let request = match checked {
            Ok(message) if message.is_request() => message,
            Ok(_) => return,
            Err(error) => {
                self.counts.malformed += 1;
                if let (Some(status), Some(message)) = (error.status, error.message) {
                    let bytes = Builder::response_to(&message, Some(from), status, &error.reason).finish();
                    out.push(reply_to(message.top_via().as_ref(), from), &bytes);
                }
                return;
            }
        };
        let to = reply_to(request.top_via().as_ref(), from);
        let answer = |status, headers: &[(&str, &str)]| answer(&request, from, &self.key, status, headers);
        let bytes = match request.method() {
            Method::Ack => return,
            Method::Invite => return self.invite(now, board, from, to, &request, out),
            // 8.3: a 2xx ends its transaction; the INVITE was answered finally before it came.
            Method::Cancel => answer(200, &[]),
            Method::Options => answer(200, &[("Allow", ALLOW)]),
            // Of a dialog that cannot be ours (12.2.2).
            _ if request.to().is_some_and(|t| t.tag().is_some()) => answer(481, &[]),
            // 21.5.2, 21.4.6
            Method::Other(_) => answer(501, &[("Allow", ALLOW)]),
            _ => answer(405, &[("Allow", ALLOW)]),
        };
        if !matches!(request.method(), Method::Options | Method::Cancel) {
            self.counts.refused += 1;
        }
        out.push(to, &bytes);
    }

    fn invite(
        &mut self,
        now: Now,
        board: &Board,
        from: SocketAddr,
        to: SocketAddr,
        request: &Message,
        out: &mut Replies,
    ) {
        let refused = match (Uri::parse(request.request_uri()), board.trunk_of(from)) {
            (_, None) => Err(403),
            // A re-INVITE of a dialog that cannot be ours (12.2.2).
            _ if request.to().is_some_and(|t| t.tag().is_some()) => Err(481),
            // What may go no further is sent no further (16.3): two servers may name each other.
            _ if request.max_forwards() == Some(0) => Err(483),
            // 21.4.14; sips would be left for less (8.1.3.4).
            (Ok(uri), _) if !["sip", "tel"].iter().any(|s| uri.scheme.eq_ignore_ascii_case(s)) => Err(416),
            (Ok(uri), Some(trunk)) => Ok((trunk, uri.user)),
            (Err(_), _) => Err(400),
        };
        let (trunk, user) = match refused {
            Ok(known) => known,
            Err(status) => {
                self.counts.refused += 1;
                return out.push(to, &answer(request, from, &self.key, status, &[]));
            }
        };
        let choice = board.choose(now.mono_ns, trunk, self.key.number(request));
        if choice.is_empty() {
            self.counts.without_node += 1;
            let retry_after_s = board.model().limits.retry_after_s;
            return out.push(to, &answer_503(request, from, &self.key, retry_after_s));
        }
        let uris: Vec<String> = choice.iter().map(|i| uri_of(board, *i, user)).collect();
        let contacts: Vec<(&str, u16)> =
            uris.iter().enumerate().map(|(i, uri)| (uri.as_str(), q_milli(i, uris.len()))).collect();
        out.push(to, &answer_302(request, from, &self.key, &contacts));
        self.counts.redirected += 1;
        let cseq = request.cseq().map_or(0, |(n, _)| n);
        note(now, board, &choice, (request.call_id(), cseq, user), &mut out.notes);
    }
}

/// The preference of the `i`th of `count` contacts, in thousandths.
fn q_milli(i: usize, count: usize) -> u16 {
    1_000 - (1_000 / count.max(1) * i) as u16
}

fn append_contacts(board: &Board, choice: &Choice, user: Option<&str>, out: &mut Vec<u8>) {
    for (i, node) in choice.iter().enumerate() {
        out.extend_from_slice(b"Contact: <");
        board.node(*node).append_uri(user, out);
        let q = q_milli(i, choice.len());
        let digit = |unit: u16| b'0' + (q / unit % 10) as u8;
        out.extend_from_slice(b">;q=");
        out.extend_from_slice(&[digit(1_000), b'.', digit(100), digit(10), digit(1)]);
        out.extend_from_slice(b"\r\n");
    }
}

fn uri_of(board: &Board, node: usize, user: Option<&str>) -> String {
    let mut uri = Vec::new();
    board.node(node).append_uri(user, &mut uri);
    String::from_utf8_lossy(&uri).into_owned()
}

/// The note belongs to the node that is tried; only one in this process can be told.
fn note(
    now: Now,
    board: &Board,
    choice: &Choice,
    (call_id, cseq, user): (&str, u32, Option<&str>),
    notes: &mut Vec<Note>,
) {
    if !choice.iter().any(|i| board.node(*i).beside) {
        return;
    }
    let at = (now.mono_ns, now.wall_ms);
    let contacts = choice.iter().map(|i| uri_of(board, *i, user)).collect();
    notes.push(Note { call_id: call_id.to_owned(), cseq, invite_at: at, answered_at: at, contacts });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Limits, Model, Network, Trunk};
    use crate::redirect::{Beat, Plan};

    const FROM: &str = "10.0.1.1:5080";

    /// A door and what it stands in.
    struct House {
        door: Door,
        plan: Plan,
        model: Arc<Model>,
        now: Now,
    }

    fn house(nodes: &[&str]) -> House {
        let trunk = Trunk {
            name: "t".into(),
            sources: vec![Network { address: "10.0.1.0".parse().unwrap(), prefix: 24, port: None }],
            ..Trunk::default()
        };
        let model =
            Model { node: "r".into(), trunks: vec![trunk], tenants: vec![], limits: Limits::default() };
        let (now, mut plan) = (Now::default(), Plan::default());
        for id in nodes {
            let (contact, beside) = (format!("sip:{id}:5070"), id.ends_with("11"));
            plan.beat(
                now,
                Beat { id: (*id).into(), contact, capacity: 10, calls: 0, draining: false, beside },
            );
        }
        House { door: Door::new(Key::new([7; 16])), plan, model: Arc::new(model), now }
    }

    struct Got {
        to: SocketAddr,
        bytes: Vec<u8>,
        message: Message,
        note: Option<Note>,
    }

    impl House {
        fn send_from(&mut self, from: &str, bytes: &[u8]) -> Option<Got> {
            let (mut out, board) = (Replies::default(), self.plan.board(self.now, self.model.clone()));
            self.door.handle(self.now, &board, from.parse().unwrap(), bytes, &mut out);
            let got: Vec<_> = out.iter().map(|(to, bytes)| (to, bytes.to_vec())).collect();
            assert!(got.len() <= 1);
            let (to, bytes) = got.into_iter().next()?;
            let message = Message::parse(bytes.clone().into()).unwrap();
            // What was wrong with a request may be missing from its 400 too.
            assert!(message.status() == 400 || message.check().is_ok());
            Some(Got { to, bytes, message, note: out.notes.pop() })
        }

        fn send(&mut self, text: &str) -> Option<Got> {
            self.send_from(FROM, text.as_bytes())
        }

        fn status(&mut self, text: &str) -> u16 {
            self.send(text).map_or(0, |got| got.message.status())
        }
    }

    fn request(method: &str, branch: &str) -> String {
        let uri = "sip:+4930@10.0.0.1";
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1:5080;rport;branch=z9hG4bK{branch}\r\nFrom: <sip:1@x>;tag=a\r\n\
             To: <{uri}>\r\nCall-ID: c1\r\nCSeq: 3 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
    }

    /// The same request in a way that is not plain.
    fn folded(text: &str) -> String {
        text.replace("Max-Forwards: 70", "Max-Forwards:\r\n 70")
    }

    #[test]
    fn an_invite_gets_contacts_with_the_dialled_user_and_a_retransmission_the_same_bytes() {
        let mut house = house(&["10.0.0.11", "10.0.0.12"]);
        let invite = request("INVITE", "x");
        let first = house.send(&invite).unwrap();
        assert_eq!((first.message.status(), first.to), (302, FROM.parse().unwrap()));
        let contacts: Vec<_> = first.message.contacts().map(|c| (c.uri.to_owned(), c.q_milli())).collect();
        assert!(
            contacts.iter().all(|(uri, _)| uri.starts_with("sip:+4930@10.0.0.1") && uri.ends_with(":5070"))
        );
        assert_eq!((contacts.len(), contacts[0].1, contacts[1].1), (2, 1_000, 500));
        let note = first.note.unwrap();
        assert_eq!(
            (note.call_id.as_str(), note.cseq, note.contacts[0].as_str()),
            ("c1", 3, contacts[0].0.as_str())
        );
        house.now = house.now.plus_ns(1_000_000_000);
        assert_eq!(house.send(&invite).unwrap().bytes, first.bytes);
        assert_eq!(house.send(&folded(&invite)).unwrap().bytes, first.bytes, "the long way is the same way");
        assert!(house.send(&request("ACK", "x")).is_none());
        assert_eq!(house.door.counts(), Counts { redirected: 3, ..Counts::default() });
    }

    #[test]
    fn every_contact_has_its_q_and_there_are_four_at_most() {
        let nodes = ["10.0.0.12", "10.0.0.13", "10.0.0.14", "10.0.0.15", "10.0.0.16"];
        for (count, q) in [(1, vec![1_000]), (3, vec![1_000, 667, 334]), (5, vec![1_000, 750, 500, 250])] {
            let mut house = house(&nodes[..count]);
            let got = house.send(&request("INVITE", "x")).unwrap();
            assert_eq!(got.message.contacts().map(|c| c.q_milli()).collect::<Vec<_>>(), q);
            assert_eq!(got.note, None, "none of them is beside us");
            assert_eq!(house.send(&folded(&request("INVITE", "x"))).unwrap().bytes, got.bytes);
        }
    }

    #[test]
    fn calls_spread_over_the_nodes() {
        let mut house = house(&["10.0.0.11", "10.0.0.12"]);
        let mut first = |i: u32| {
            let got = house.send(&request("INVITE", &i.to_string())).unwrap();
            got.message.contact().unwrap().uri.contains("0.11")
        };
        let count = (0..1_000).filter(|i| first(*i)).count();
        assert!((420..580).contains(&count), "{count} of 1000");
    }

    #[test]
    fn without_a_node_it_is_503_with_a_time_to_come_back() {
        let mut house = house(&["10.0.0.11"]);
        house.now = house.now.plus_ns(2_000_000_001);
        let got = house.send(&request("INVITE", "x")).unwrap();
        assert_eq!(
            (got.message.status(), got.message.other("Retry-After"), got.note),
            (503, Some("5"), None)
        );
    }

    #[test]
    fn everything_else_has_its_answer() {
        let mut house = house(&["10.0.0.11"]);
        let table =
            [("OPTIONS", 200), ("CANCEL", 200), ("BYE", 405), ("REGISTER", 405), ("FOO", 501), ("ACK", 0)];
        for (method, status) in table {
            assert_eq!(house.status(&request(method, "x")), status, "{method}");
        }
        let invite = request("INVITE", "x");
        let table = [
            ("Max-Forwards: 70", "Max-Forwards: 0", 483),
            ("To: <sip:+4930@10.0.0.1>", "To: <sip:+4930@10.0.0.1>;tag=b", 481),
            ("INVITE sip:+4930@10.0.0.1 ", "INVITE sips:+4930@10.0.0.1 ", 416),
            ("INVITE sip:+4930@10.0.0.1 ", "INVITE http://x ", 416),
            (" SIP/2.0\r\n", " SIP/3.0\r\n", 505),
            ("CSeq: 3 INVITE", "CSeq: 3 BYE", 400),
            ("Call-ID: c1\r\n", "", 400),
        ];
        for (from, to, status) in table {
            assert_eq!(house.status(&invite.replacen(from, to, 1)), status, "{to:?}");
        }
        assert_eq!(house.status(&request("BYE", "x").replacen("0.1>", "0.1>;tag=b", 1)), 481);
        let stranger = house.send_from("192.0.2.1:5060", invite.as_bytes()).unwrap();
        assert_eq!(stranger.message.status(), 403);
        for garbage in
            [&b"\xff\0"[..], b"SIP/2.0 200 OK\r\n\r\n", b"\r\n\r\n", b"INVITE sip:x SIP/2.0\r\n\r\n"]
        {
            assert!(house.send_from(FROM, garbage).is_none());
        }
    }

    #[test]
    fn a_tel_uri_becomes_the_user_of_the_contacts() {
        let mut house = house(&["10.0.0.11"]);
        let text =
            request("INVITE", "x").replacen("INVITE sip:+4930@10.0.0.1 ", "INVITE tel:+4930;ext=1 ", 1);
        assert_eq!(house.send(&text).unwrap().message.contact().unwrap().uri, "sip:+4930@10.0.0.11:5070");
    }

    #[test]
    fn a_sender_without_rport_is_answered_at_the_port_of_its_via() {
        let mut house = house(&["10.0.0.11"]);
        for method in ["OPTIONS", "INVITE"] {
            let got = house.send(&request(method, "x").replace("5080;rport", "5099")).unwrap();
            assert_eq!(got.to, "10.0.1.1:5099".parse().unwrap());
        }
    }
}

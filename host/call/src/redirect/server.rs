//! The stateless user agent server of steps 3 and 4 (RFC 3261 8.2.7).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cordboard_base::Now;
use cordboard_sip::redirect::{Key, answer, answer_302, answer_503};
use cordboard_sip::wire::{Builder, Message, Method, Uri};
use serde::Serialize;

use super::{Note, Plan};
use crate::model::Model;

/// Something to send, and what to tell the node that was named first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Where to (RFC 3261 18.2.2, RFC 3581 4).
    pub to: SocketAddr,
    /// The response.
    pub bytes: Vec<u8>,
    /// For the call's timeline, when it was redirected.
    pub note: Option<Note>,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// INVITEs answered with 302, retransmissions included.
    pub redirected: u64,
    /// INVITEs answered with 503, since no node could be named.
    pub without_node: u64,
    /// Requests refused: unknown source, other methods.
    pub refused: u64,
    /// Datagrams that were no SIP request.
    pub malformed: u64,
}

/// The redirect role.
#[derive(Debug)]
pub struct Redirect {
    key: Key,
    model: Arc<Model>,
    /// What is known of the nodes.
    pub plan: Plan,
    counts: Counts,
}

impl Redirect {
    /// A role that knows no node yet. `secret` makes To tags and choices; nodes that answer for one address share it.
    #[must_use]
    pub fn new(secret: [u8; 32], model: Arc<Model>) -> Self {
        Self { key: Key::new(secret), model, plan: Plan::default(), counts: Counts::default() }
    }

    /// Takes a new configuration.
    pub fn configure(&mut self, model: Arc<Model>) {
        self.model = model;
    }

    /// Totals since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Answers one datagram, if it wants an answer.
    pub fn handle(&mut self, now: Now, from: SocketAddr, bytes: Bytes) -> Option<Reply> {
        let checked = Message::parse(bytes).and_then(|m| m.check().map(|()| m));
        let request = match checked {
            Ok(message) if message.is_request() => message,
            Ok(_) => return None,
            Err(error) => {
                self.counts.malformed += 1;
                let (status, message) = (error.status?, error.message?);
                let bytes = Builder::response_to(&message, Some(from), status, &error.reason).finish();
                return Some(Reply { to: reply_to(&message, from), bytes, note: None });
            }
        };
        let to = reply_to(&request, from);
        let reply = |bytes| Some(Reply { to, bytes, note: None });
        match request.method() {
            // To a final response of ours: nothing is kept that it could confirm.
            Method::Ack => None,
            Method::Invite => self.invite(now, from, to, &request),
            Method::Options => reply(answer(&request, from, &self.key, 200, &[("Allow", ALLOW)])),
            // What they would end was answered finally before they came.
            Method::Cancel | Method::Bye => {
                self.counts.refused += 1;
                reply(answer(&request, from, &self.key, 481, &[]))
            }
            _ => {
                self.counts.refused += 1;
                reply(answer(&request, from, &self.key, 405, &[("Allow", ALLOW)]))
            }
        }
    }

    fn invite(&mut self, now: Now, from: SocketAddr, to: SocketAddr, request: &Message) -> Option<Reply> {
        let reply = |bytes| Some(Reply { to, bytes, note: None });
        let trunk = self.model.trunks.iter().find(|t| t.sources.iter().any(|n| n.contains(from)));
        let Some(trunk) = trunk else {
            self.counts.refused += 1;
            return reply(answer(request, from, &self.key, 403, &[]));
        };
        let chosen = self.plan.choose(now, &trunk.name, self.key.number(request));
        if chosen.is_empty() {
            self.counts.without_node += 1;
            return reply(answer_503(request, from, &self.key, self.model.limits.retry_after_s));
        }
        let contacts: Vec<String> = chosen.iter().map(|node| contact(node, request.request_uri())).collect();
        let step = 1_000 / contacts.len() as u16;
        let with_q: Vec<(&str, u16)> =
            contacts.iter().enumerate().map(|(i, c)| (c.as_str(), 1_000 - step * i as u16)).collect();
        let bytes = answer_302(request, from, &self.key, &with_q);
        self.counts.redirected += 1;
        let at = (now.mono_ns, now.wall_ms);
        let note = Note {
            call_id: request.call_id().to_owned(),
            cseq: request.cseq().map_or(0, |(n, _)| n),
            invite_at: at,
            answered_at: at,
            contacts,
        };
        Some(Reply { to, bytes, note: Some(note) })
    }
}

const ALLOW: &str = "INVITE, ACK, OPTIONS, CANCEL";

/// The node's URI with the dialled user: the node finds the number where the trunk has put it.
fn contact(node: &str, dialled: &str) -> String {
    let user = Uri::parse(dialled).ok().and_then(|uri| uri.user);
    match (user, node.split_once(':')) {
        (Some(user), Some((scheme, rest))) => format!("{scheme}:{user}@{rest}"),
        _ => node.to_owned(),
    }
}

/// To where it came from; without `rport` to the port that the Via names.
fn reply_to(request: &Message, from: SocketAddr) -> SocketAddr {
    match request.top_via() {
        Some(via) if via.rport.is_none() => SocketAddr::new(from.ip(), via.port.unwrap_or(5060)),
        _ => from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Limits, Network, Trunk};
    use crate::redirect::Beat;

    const FROM: &str = "10.0.1.1:5080";

    fn role() -> Redirect {
        let trunk = Trunk {
            name: "t".into(),
            sources: vec![Network { address: "10.0.1.0".parse().unwrap(), prefix: 24, port: None }],
            ..Trunk::default()
        };
        let model =
            Model { node: "r".into(), trunks: vec![trunk], tenants: vec![], limits: Limits::default() };
        Redirect::new([7; 32], Arc::new(model))
    }

    fn beat(role: &mut Redirect, now: Now, id: &str) {
        let contact = format!("sip:{id}:5070");
        role.plan.beat(now, Beat { id: id.into(), contact, capacity: 10, calls: 0, draining: false });
    }

    fn request(method: &str, branch: &str) -> Bytes {
        let uri = "sip:+4930@10.0.0.1";
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1:5080;rport;branch=z9hG4bK{branch}\r\nFrom: <sip:1@x>;tag=a\r\n\
             To: <{uri}>\r\nCall-ID: c1\r\nCSeq: 3 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
        .into()
    }

    fn send(role: &mut Redirect, now: Now, bytes: Bytes) -> Option<(Reply, Message)> {
        let reply = role.handle(now, FROM.parse().unwrap(), bytes)?;
        let message = Message::parse(reply.bytes.clone().into()).unwrap();
        Some((reply, message))
    }

    #[test]
    fn an_invite_gets_contacts_with_the_dialled_user_and_a_retransmission_the_same_bytes() {
        let (mut role, now) = (role(), Now::default());
        beat(&mut role, now, "10.0.0.11");
        beat(&mut role, now, "10.0.0.12");
        let (first, message) = send(&mut role, now, request("INVITE", "x")).unwrap();
        assert_eq!((message.status(), first.to), (302, FROM.parse().unwrap()));
        let contacts: Vec<_> = message.contacts().map(|c| (c.uri.to_owned(), c.q_milli())).collect();
        assert!(
            contacts.iter().all(|(uri, _)| uri.starts_with("sip:+4930@10.0.0.1") && uri.ends_with(":5070"))
        );
        assert_eq!((contacts.len(), contacts[0].1, contacts[1].1), (2, 1_000, 500));
        let note = first.note.clone().unwrap();
        assert_eq!(
            (note.call_id.as_str(), note.cseq, note.contacts[0].as_str()),
            ("c1", 3, contacts[0].0.as_str())
        );
        let later = now.plus_ns(1_000_000_000);
        let (again, _) = send(&mut role, later, request("INVITE", "x")).unwrap();
        assert_eq!(again.bytes, first.bytes);
        assert!(send(&mut role, later, request("ACK", "x")).is_none());
    }

    #[test]
    fn calls_spread_over_the_nodes() {
        let (mut role, now) = (role(), Now::default());
        beat(&mut role, now, "10.0.0.11");
        beat(&mut role, now, "10.0.0.12");
        let first = |m: &Message| m.contact().unwrap().uri.to_owned();
        let count = (0..1_000)
            .filter(|i| {
                first(&send(&mut role, now, request("INVITE", &i.to_string())).unwrap().1).contains("0.11")
            })
            .count();
        assert!((420..580).contains(&count), "{count} of 1000");
    }

    #[test]
    fn without_a_node_it_is_503_with_a_time_to_come_back() {
        let (mut role, now) = (role(), Now::default());
        beat(&mut role, now, "10.0.0.11");
        let later = now.plus_ns(2_000_000_001);
        let (reply, message) = send(&mut role, later, request("INVITE", "x")).unwrap();
        assert_eq!((message.status(), message.other("Retry-After"), reply.note), (503, Some("5"), None));
    }

    #[test]
    fn everything_else_has_its_answer() {
        let (mut role, now) = (role(), Now::default());
        let table = [("OPTIONS", 200), ("BYE", 481), ("CANCEL", 481), ("REGISTER", 405), ("FOO", 405)];
        for (method, status) in table {
            assert_eq!(send(&mut role, now, request(method, "x")).unwrap().1.status(), status, "{method}");
        }
        beat(&mut role, now, "10.0.0.11");
        let stranger = role.handle(now, "192.0.2.1:5060".parse().unwrap(), request("INVITE", "x")).unwrap();
        assert!(stranger.bytes.starts_with(b"SIP/2.0 403 "));
        for garbage in
            [&b"\xff\0"[..], b"SIP/2.0 200 OK\r\n\r\n", b"\r\n\r\n", b"INVITE sip:x SIP/2.0\r\n\r\n"]
        {
            assert!(role.handle(now, FROM.parse().unwrap(), garbage.to_vec().into()).is_none());
        }
    }

    #[test]
    fn a_sender_without_rport_is_answered_at_the_port_of_its_via() {
        let (mut role, now) = (role(), Now::default());
        let text = String::from_utf8(request("OPTIONS", "x").to_vec()).unwrap().replace("5080;rport", "5099");
        let (reply, _) = send(&mut role, now, text.into()).unwrap();
        assert_eq!(reply.to, "10.0.1.1:5099".parse().unwrap());
    }
}

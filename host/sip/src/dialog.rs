//! Dialogs (RFC 3261 12): what two sides remember of each other, as plain data.
//!
//! Made by the endpoint's legs from an INVITE and its response; asked where the next request goes
//! and whether a received one is in order. Sends nothing, knows no transaction and no time.

use std::sync::Arc;

use crate::transport::Hop;
use crate::wire::{Message, Name, NameAddr, Uri};

/// One side's view of a dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: Arc<str>,
    /// Our From (in requests that we send), whole, with our tag.
    pub local: Box<str>,
    /// Our To in requests that we send: the other side, whole, with its tag.
    pub remote: Box<str>,
    /// The other side's tag; empty for a peer of RFC 2543 that sent none (12.1.1).
    pub remote_tag: Box<str>,
    /// The remote target: the other side's Contact URI.
    pub target: Box<str>,
    /// The route set, in the order in which we send it.
    pub routes: Vec<Box<str>>,
    /// The CSeq number of the last request that we sent.
    pub local_cseq: u32,
    /// The CSeq number of the last request that came, if one did.
    pub remote_cseq: Option<u32>,
}

/// The Request-URI and the Route values of a request inside a dialog (12.2.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'a> {
    /// The Request-URI.
    pub uri: &'a str,
    /// The Route headers, in order.
    pub routes: Vec<&'a str>,
    /// Where it is sent when that is an address: the first route, or the remote target.
    pub hop: Option<Hop>,
}

impl Dialog {
    /// The caller's dialog, from our INVITE's CSeq and From and a response with a To tag (12.1.2).
    ///
    /// `fallback_target` stands in for a Contact that is missing from the response.
    #[must_use]
    pub fn caller(
        call_id: &Arc<str>,
        local: &str,
        invite_cseq: u32,
        response: &Message,
        fallback_target: &str,
    ) -> Self {
        // "The route set MUST be set to the list of URIs in the Record-Route header field from the
        // response, taken in reverse order and preserving all URI parameters."
        let mut routes: Vec<Box<str>> = response.headers(Name::RecordRoute).map(Into::into).collect();
        routes.reverse();
        let to = response.header(Name::To).unwrap_or("");
        Self {
            call_id: call_id.clone(),
            local: local.into(),
            remote: to.into(),
            remote_tag: NameAddr::parse(to).and_then(|a| a.tag()).unwrap_or("").into(),
            target: response.contact().map_or(fallback_target, |c| c.uri).into(),
            routes,
            local_cseq: invite_cseq,
            // "The remote sequence number MUST be empty"
            remote_cseq: None,
        }
    }

    /// The callee's dialog, from the INVITE and the To tag that we answer with (12.1.1).
    #[must_use]
    pub fn callee(call_id: &Arc<str>, invite: &Message, local_tag: &str) -> Self {
        let to = invite.header(Name::To).unwrap_or("");
        let from = invite.header(Name::From).unwrap_or("");
        let from_addr = NameAddr::parse(from);
        let local = match NameAddr::parse(to) {
            // Without brackets a `;tag` would still be the header's, so it can be appended as it stands.
            Some(_) => format!("{to};tag={local_tag}"),
            None => format!("<sip:invalid>;tag={local_tag}"),
        };
        Self {
            call_id: call_id.clone(),
            local: local.into(),
            remote: from.into(),
            remote_tag: from_addr.and_then(|a| a.tag()).unwrap_or("").into(),
            target: invite.contact().map(|c| c.uri).or(from_addr.map(|a| a.uri)).unwrap_or("").into(),
            // "taken in order and preserving all URI parameters"
            routes: invite.headers(Name::RecordRoute).map(Into::into).collect(),
            // "The local sequence number MUST be empty": the first request that we send has 1.
            local_cseq: 0,
            remote_cseq: invite.cseq().map(|(n, _)| n),
        }
    }

    /// Takes the number of a received request (12.2.2): false when it is out of order, which is
    /// answered with 500 and changes nothing. ACK and CANCEL are not asked about.
    #[must_use]
    pub fn accept_cseq(&mut self, number: u32) -> bool {
        if self.remote_cseq.is_some_and(|last| number < last) {
            return false;
        }
        self.remote_cseq = Some(number);
        true
    }

    /// The next number for a request of ours.
    pub fn next_cseq(&mut self) -> u32 {
        self.local_cseq += 1;
        self.local_cseq
    }

    /// Takes the Contact of a target refresh request or of its 2xx (12.2.1.2, 12.2.2).
    pub fn refresh_target(&mut self, message: &Message) {
        if let Some(contact) = message.contact()
            && *contact.uri != *self.target
        {
            self.target = contact.uri.into();
        }
    }

    /// Where the next request goes (12.2.1.1).
    #[must_use]
    pub fn path(&self) -> Path<'_> {
        path(&self.target, self.routes.iter().map(AsRef::as_ref))
    }
}

/// Request-URI and Routes from a remote target and a route set (12.2.1.1).
pub fn path<'a>(target: &'a str, routes: impl Iterator<Item = &'a str>) -> Path<'a> {
    let mut routes: Vec<&str> = routes.collect();
    let Some(first) = routes.first().map(|r| route_uri(r)) else {
        return Path { uri: target, routes, hop: hop(target) };
    };
    let hop = hop(first);
    if Uri::parse(first).is_ok_and(|u| u.params.has("lr")) {
        return Path { uri: target, routes, hop };
    }
    // A strict router: its URI becomes the Request-URI, "the remainder of the route set values in
    // order, including all parameters", then the remote target.
    routes.remove(0);
    routes.push(target);
    Path { uri: first, routes, hop }
}

/// The URI inside a Route or Record-Route value.
fn route_uri(route: &str) -> &str {
    NameAddr::parse(route).map_or(route, |a| a.uri)
}

fn hop(uri: &str) -> Option<Hop> {
    Hop::of(&Uri::parse(uri).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn hop(text: &str) -> Option<Hop> {
        Some(Hop { address: text.parse().unwrap(), transport: None, name: None })
    }

    fn message(text: &str) -> Message {
        let text = text.trim_start().replace('\n', "\r\n") + "\r\n\r\n";
        Message::parse(Bytes::from(text)).unwrap()
    }

    const INVITE: &str = "INVITE sip:b@192.0.2.2 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1
Record-Route: <sip:192.0.2.8;lr>, <sip:192.0.2.9;lr;x=1>
From: A <sip:a@x>;tag=aa
To: <sip:b@y>
Call-ID: c
CSeq: 7 INVITE
Contact: <sip:a@192.0.2.1:5062>
";

    #[test]
    fn the_callee_takes_routes_in_order_and_the_caller_reversed() {
        let callee = Dialog::callee(&"c1".into(), &message(INVITE), "bb");
        assert_eq!(callee.path().routes, ["<sip:192.0.2.8;lr>", "<sip:192.0.2.9;lr;x=1>"]);
        assert_eq!(callee.path().hop, hop("192.0.2.8:5060"));
        assert_eq!((&*callee.local, &*callee.remote_tag), ("<sip:b@y>;tag=bb", "aa"));
        let response = message(
            "SIP/2.0 200 OK
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1
Record-Route: <sip:192.0.2.8;lr>, <sip:192.0.2.9;lr;x=1>
From: A <sip:a@x>;tag=aa
To: <sip:b@y>;tag=bb
Call-ID: c
CSeq: 7 INVITE
Contact: <sip:b@192.0.2.2:5064>
",
        );
        let caller = Dialog::caller(&"c1".into(), "A <sip:a@x>;tag=aa", 7, &response, "sip:b@y");
        assert_eq!(caller.path().routes, ["<sip:192.0.2.9;lr;x=1>", "<sip:192.0.2.8;lr>"]);
        assert_eq!((caller.path().uri, &*caller.remote_tag), ("sip:b@192.0.2.2:5064", "bb"));
    }

    #[test]
    fn a_strict_router_gets_its_own_uri_and_the_target_last() {
        let routes = ["<sip:192.0.2.9;x=1>", "<sip:192.0.2.8;lr>"];
        let p = path("sip:b@192.0.2.2", routes.into_iter());
        assert_eq!(p.uri, "sip:192.0.2.9;x=1");
        assert_eq!(p.routes, ["<sip:192.0.2.8;lr>", "sip:b@192.0.2.2"]);
        assert_eq!(p.hop, hop("192.0.2.9:5060"));
    }

    #[test]
    fn numbers_may_stay_or_rise_but_never_fall() {
        let mut d = Dialog::callee(&"c1".into(), &message(INVITE), "bb");
        assert!(d.accept_cseq(8) && d.accept_cseq(8) && d.accept_cseq(100));
        assert!(!d.accept_cseq(99));
        assert_eq!(d.remote_cseq, Some(100));
        assert_eq!((d.next_cseq(), d.next_cseq()), (1, 2));
    }

    #[test]
    fn a_new_contact_moves_the_target() {
        let mut d = Dialog::callee(&"c1".into(), &message(INVITE), "bb");
        d.refresh_target(&message(&INVITE.replace("5062", "5099")));
        assert_eq!(d.path().hop, hop("192.0.2.8:5060"));
        assert_eq!(&*d.target, "sip:a@192.0.2.1:5099");
    }
}

//! What comes in: framing errors, matching, the screening of new requests (RFC 3261 8.2), and who
//! hears of each message.

use std::net::SocketAddr;

use bytes::Bytes;
use cordboard_base::Now;

use super::Endpoint;
use super::compose::{self, SDP};
use super::txns::{Owner, Told, Txn};
use super::types::{Event, Flow, RequestFailure, TxnId};
use super::uac::has_one_via;
use crate::transaction::{Class, Input};
use crate::wire::{Builder, Fault, Message, Method, Name, NameAddr, Uri, WireError, q_milli, text};

impl Endpoint {
    pub(super) fn on_datagram(&mut self, now: Now, source: Flow, bytes: Bytes) {
        self.core.totals.received += 1;
        // A listener of somebody else's, or a stream without a connection: nothing could be answered.
        let listener = self.core.listener(source.listener);
        if listener.is_none_or(|l| l.transport.is_reliable() != source.connection.is_some()) {
            self.core.totals.malformed += 1;
            return;
        }
        if let Some(connection) = source.connection {
            self.core.flows.opened(connection);
        }
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => return self.on_unusable(source, &error),
        };
        if let Err(error) = message.check() {
            return self.on_unusable(source, &error);
        }
        if message.is_request() {
            self.on_request(now, source, &message)
        } else {
            self.on_response(now, source, &message)
        }
    }

    /// Answers what can be answered, without state, and drops the rest.
    fn on_unusable(&mut self, source: Flow, error: &WireError) {
        if error.fault == Fault::KeepAlive {
            return;
        }
        self.core.totals.malformed += 1;
        if let (Some(status), Some(request)) = (error.status, &error.message) {
            self.respond_stateless(source, request, status, &error.reason);
        }
    }

    /// 8.2.7: a response without a transaction; its To tag is the same for each repetition.
    fn respond_stateless(&mut self, source: Flow, request: &Message, status: u16, reason: &str) {
        let tag = self.txns.stable_tag(request);
        let mut builder = Builder::response_to(request, Some(source.remote), status, reason).to_tag(&tag);
        if status == 503 {
            builder = builder.format(Name::RetryAfter, 1 + self.core.random.below(5));
        }
        self.core.send_once(response_flow(request, source), builder.finish());
    }

    fn on_request(&mut self, now: Now, source: Flow, request: &Message) {
        let method = request.method();
        let Some(identity) = self.txns.identity(request, method) else { return };
        if let Some(txn) = self.txns.find_server(&identity, method) {
            if method != Method::Ack {
                self.core.totals.absorbed += 1;
                self.txns.step(&mut self.core, now, txn, Input::Request);
            } else if matches!(self.txns.step(&mut self.core, now, txn, Input::Ack), Told::Deliver) {
                // An ACK to a 2xx with the INVITE's branch: a broken client, understood all the same.
                self.on_ack(now, request);
            }
            return;
        }
        if method == Method::Ack {
            return self.on_ack(now, request);
        }
        // BYE and CANCEL free something, so they get in when all is full.
        let full = self.txns.len() >= self.core.config.max_transactions;
        if full && !matches!(method, Method::Bye | Method::Cancel) {
            self.core.totals.refused_full += 1;
            return self.respond_stateless(source, request, 503, "");
        }
        let merged = method != Method::Cancel && self.txns.is_merged(source.listener, request);
        let to = response_flow(request, source);
        let txn = self.txns.start_server(&mut self.core, now, &identity, request, to);
        if merged {
            return self.respond_with(now, txn, 482, |b| b);
        }
        match method {
            Method::Cancel => self.on_cancel(now, txn, request),
            _ if request.to().is_some_and(|t| t.tag().is_some()) => {
                self.on_in_dialog(now, txn, source, request)
            }
            _ => self.on_new_request(now, txn, source, request),
        }
    }

    /// A request without To tag.
    fn on_new_request(&mut self, now: Now, txn: u64, source: Flow, request: &Message) {
        let method = request.method();
        match method {
            Method::Other(_) => {
                return self.respond_with(now, txn, 501, |b| b.header(Name::Allow, compose::ALLOW));
            }
            // These mean something only in a dialog (12.2.2; RFC 3311 5.2; RFC 3262 3; RFC 6086 4.2.1).
            Method::Bye | Method::Update | Method::Prack | Method::Info => {
                return self.respond_with(now, txn, 481, |b| b);
            }
            _ => {}
        }
        // 8.2.2.1: "If the Request-URI uses a scheme not supported by the UAS, it SHOULD reject the request
        // with a 416".
        let scheme = Uri::parse(request.request_uri()).map(|u| u.scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Ok("sip" | "sips" | "tel")) {
            return self.respond_with(now, txn, 416, |b| b);
        }
        if !self.screen(now, txn, request) {
            return;
        }
        if method == Method::Register
            && let Some(text) = unusable_register(request)
        {
            return self.refuse_with_text(now, txn, 400, text);
        }
        if method != Method::Invite {
            return self.hand_over(txn, None, source, request);
        }
        // We are a back-to-back user agent: the call goes on from here with one hop less (RFC 7332 4).
        if request.max_forwards() == Some(0) {
            return self.respond_with(now, txn, 483, |b| b);
        }
        // 8.1.1.8: "The Contact header field MUST be present and contain exactly one SIP or SIPS URI". A client
        // of RFC 2543 may leave it out, and is reached at its From (torture test 3.4.1).
        let old =
            request.top_via().is_some_and(|v| !v.is_rfc3261()) && request.header(Name::Contact).is_none();
        if !old && request.contact().and_then(|c| c.parsed_uri().ok()).is_none() {
            return self.refuse_with_text(now, txn, 400, "INVITE without a usable Contact");
        }
        self.on_new_invite(now, txn, source, request);
    }

    /// What no request may have here: extensions that we lack (8.2.2.3), bodies that we cannot read
    /// (8.2.3), no wish for what we answer with (20.1). False when the request has been refused.
    fn screen(&mut self, now: Now, txn: u64, request: &Message) -> bool {
        let config = &self.core.config;
        let registrars: &[&str] =
            if request.method() == Method::Register { config.registrar_options } else { &[] };
        let required: Vec<&str> = request
            .headers(Name::Require)
            .filter(|o| !compose::is_supported(config, o))
            .filter(|o| !registrars.iter().any(|r| r.eq_ignore_ascii_case(o)))
            .collect();
        if !required.is_empty() {
            let list = required.join(", ");
            self.respond_with(now, txn, 420, |b| b.header(Name::Unsupported, &list));
            return false;
        }
        // 20.11, RFC 5621 4: what is not optional has to be understood, each part of it.
        // A PRACK is answered with 2xx whatever it brings (RFC 3262 3), an ACK not at all.
        if !matches!(request.method(), Method::Invite | Method::Update) {
            return true;
        }
        if request.not_understood(&[SDP]).is_some() {
            self.respond_with(now, txn, 415, |b| {
                b.header(Name::Accept, compose::ACCEPTED).header(Name::AcceptEncoding, "identity")
            });
            return false;
        }
        if !takes_sdp(request) {
            self.refuse_with_text(
                now,
                txn,
                406,
                "the answer would be application/sdp, which Accept leaves out",
            );
            return false;
        }
        true
    }

    fn refuse_with_text(&mut self, now: Now, txn: u64, status: u16, text: &str) {
        // 20.43: 399 is the code of a warning in free text.
        let warning = format!("399 cordboard \"{text}\"");
        self.respond_with(now, txn, status, |b| b.header(Name::Warning, &warning));
    }

    /// A request with a To tag (12.2.2).
    fn on_in_dialog(&mut self, now: Now, txn: u64, source: Flow, request: &Message) {
        // "If the UAS wishes to reject the request because it does not wish to recreate the dialog, it
        // MUST respond to the request with a 481".
        let Some(leg_id) = self.find_leg(request) else {
            if self.on_resubscribe(now, txn, source, request) {
                return;
            }
            return self.respond_with(now, txn, 481, |b| b);
        };
        let number = request.cseq().map_or(0, |(n, _)| n);
        let in_order = self
            .legs
            .get_mut(leg_id)
            .and_then(|leg| leg.dialog_with(request.from().and_then(|f| f.tag()).unwrap_or("")))
            .is_none_or(|dialog| dialog.accept_cseq(number));
        if !in_order {
            return self.refuse_with_text(now, txn, 500, "CSeq is lower than that of an earlier request");
        }
        if let Method::Other(_) = request.method() {
            return self.respond_with(now, txn, 501, |b| b.header(Name::Allow, compose::ALLOW));
        }
        if source.connection.is_some() {
            self.heard_on(leg_id, source);
        }
        if !self.screen(now, txn, request) {
            return;
        }
        match request.method() {
            Method::Bye => self.on_bye(now, txn, leg_id, request),
            Method::Invite | Method::Update => self.on_offer(now, txn, leg_id, request),
            Method::Prack => self.on_prack(now, txn, leg_id, request),
            Method::Refer if self.is_up(leg_id) => self.on_refer(now, txn, leg_id, request),
            _ if self.is_audible(leg_id) => self.hand_over(txn, Some(leg_id), source, request),
            _ => self.respond_with(now, txn, 481, |b| b),
        }
    }

    fn is_up(&self, leg_id: u64) -> bool {
        use super::leg::Phase::Talking;
        self.legs.get(leg_id).is_some_and(|leg| matches!(&leg.phase, Talking(s) if s.bye.is_none()))
    }

    /// Whether the leg's user still hears events.
    fn is_audible(&self, leg_id: u64) -> bool {
        use super::leg::Phase::{Calling, Cancelling, Ending, Ringing, Talking};
        self.legs.get(leg_id).is_some_and(|leg| match &leg.phase {
            Calling(_) | Ringing(_) => true,
            Talking(session) => session.bye.is_none(),
            Cancelling(_) | Ending { .. } => false,
        })
    }

    fn hand_over(&mut self, txn: u64, leg: Option<u64>, source: Flow, request: &Message) {
        if let Some(txn) = self.txns.get_mut(txn) {
            txn.owner = Owner::Respond;
        }
        let leg = leg.map(super::types::LegId);
        self.core.tell(Event::Request { txn: TxnId(txn), leg, source, request: request.clone() });
    }

    fn on_response(&mut self, now: Now, source: Flow, response: &Message) {
        // 8.1.3.3: "If more than one Via header field value is present in a response, the UAC SHOULD
        // discard the message."
        let txn_id = self.txns.find_client(response).filter(|_| has_one_via(response));
        let Some(txn_id) = txn_id else {
            self.core.totals.unmatched += 1;
            return;
        };
        let told = self.txns.received(&mut self.core, now, txn_id, response);
        if !matches!(told, Told::Deliver) {
            return;
        }
        let Some(txn) = self.txns.get(txn_id) else { return };
        let (owner, method) = (txn.owner, txn.method());
        if source.connection.is_some()
            && let Owner::Leg(leg) | Owner::Offer(leg) = owner
        {
            self.heard_on(leg, source);
        }
        let class = Class::of(response.status());
        if method == Method::Invite {
            match class {
                Class::Provisional => match owner {
                    Owner::Leg(leg) => return self.on_invite_progress(now, txn_id, leg, response),
                    Owner::Nobody => return self.disown_invite(now, txn_id),
                    _ => return,
                },
                Class::Success => return self.on_invite_success(now, txn_id, response),
                Class::Failure => {}
            }
        } else if class == Class::Provisional {
            return;
        }
        // Final: the request is not needed by the transaction any more.
        let request = self.txns.take_request(txn_id);
        self.on_final(now, txn_id, owner, method, &request, Ok(response));
    }

    /// The dialog of a leg lives on this connection from now on.
    fn heard_on(&mut self, leg_id: u64, source: Flow) {
        if let Some(leg) = self.legs.get_mut(leg_id) {
            leg.peer = source;
        }
    }

    /// A transaction of ours ended without an answer.
    pub(super) fn on_no_response(&mut self, now: Now, txn_id: u64, txn: &Txn, why: RequestFailure) {
        if txn.is_client() {
            self.on_final(now, txn_id, txn.owner, txn.method(), &txn.last, Err(why));
        }
    }

    /// Every final response but the 2xx to INVITE, or why none came.
    fn on_final(
        &mut self,
        now: Now,
        txn_id: u64,
        owner: Owner,
        method: Method<'static>,
        request: &Bytes,
        response: Result<&Message, RequestFailure>,
    ) {
        match owner {
            Owner::Nobody | Owner::Respond => {}
            Owner::Leg(leg) => self.on_invite_failure(now, leg, txn_id, request, response),
            Owner::Offer(leg) => self.on_offer_final(now, txn_id, leg, method, request, response),
            Owner::Bye(leg) => {
                if let Some(response) = response.ok().filter(|r| matches!(r.status(), 401 | 407))
                    && self.retry_in_dialog(now, leg, Method::Bye, owner, request, response)
                {
                    return;
                }
                if matches!(response, Err(RequestFailure::Unreachable)) && self.bye_again(now, leg) {
                    return;
                }
                self.on_bye_done(leg);
            }
            Owner::InLeg(leg, number) => {
                self.on_in_leg_done(now, txn_id, (leg, number), method, request, response);
            }
            Owner::Subscription(number) => self.on_notified(now, number, response),
            Owner::Request(number) => {
                if let Some(response) = response.ok().filter(|r| matches!(r.status(), 401 | 407))
                    && self.retry_request(now, number, txn_id, method, request, response)
                {
                    return;
                }
                self.requests.remove(&number);
                let result = response.cloned();
                self.core.tell(Event::Response { request: number, result });
            }
        }
    }
}

/// Whether the sender takes a session description: without an Accept it does (20.1).
fn takes_sdp(request: &Message) -> bool {
    if request.header(Name::Accept).is_none() {
        return true;
    }
    request.headers(Name::Accept).any(|range| {
        let (kind, params) = text::split_outside(range, b';');
        let refused = text::Params::new(params.unwrap_or("")).get("q").and_then(q_milli) == Some(0);
        let kind = text::trim(kind);
        !refused && [SDP, "application/*", "*/*"].iter().any(|k| k.eq_ignore_ascii_case(kind))
    })
}

/// Why no registrar could serve a REGISTER (10.3): the address-of-record in To must be a SIP or SIPS URI, and
/// each Contact an address (of any scheme, 10.2.1).
fn unusable_register(request: &Message) -> Option<&'static str> {
    let to = request.to().and_then(|to| to.parsed_uri().ok());
    if !to.is_some_and(|uri| uri.is_sip()) {
        return Some("To is no SIP URI");
    }
    let readable = |c: &str| c == "*" || NameAddr::parse(c).is_some_and(|a| a.parsed_uri().is_ok());
    (!request.headers(Name::Contact).all(readable)).then_some("a Contact cannot be read")
}

/// Where responses go: on a stream back the way that the request came; on UDP to the source when the
/// client asks for it (RFC 3581 4), else to its address and the port of sent-by (18.2.2).
fn response_flow(request: &Message, source: Flow) -> Flow {
    match request.top_via() {
        Some(via) if via.rport.is_none() && source.connection.is_none() => {
            Flow::udp(source.listener, SocketAddr::new(source.remote.ip(), via.port.unwrap_or(5060)))
        }
        _ => source,
    }
}

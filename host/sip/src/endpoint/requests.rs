//! Requests outside dialogs, ours, and the answers to theirs.

use bytes::Bytes;
use cordboard_base::Now;

use super::compose::{self, Changes, Writer};
use super::leg::Auth;
use super::txns::Owner;
use super::types::{Event, OutRequest, RequestFailure};
use super::uac::is_writable;
use super::{Endpoint, auth};
use crate::dialog::path;
use crate::wire::{Message, Method, Name};

/// A request of ours without a final response.
#[derive(Debug)]
pub(super) struct Pending {
    auth: Option<Auth>,
    cseq: u32,
}

impl Endpoint {
    pub(super) fn send_request(&mut self, now: Now, request: OutRequest) -> u64 {
        self.next_request += 1;
        let number = self.next_request;
        if let Err(failure) = self.try_request(now, number, request) {
            self.core.tell(Event::Response { request: number, result: Err(failure) });
        }
        number
    }

    fn try_request(&mut self, now: Now, number: u64, request: OutRequest) -> Result<(), RequestFailure> {
        if self.txns.len() >= self.core.config.max_transactions {
            return Err(RequestFailure::Full);
        }
        let headers = || request.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let addresses = [&request.from, &request.to].into_iter();
        let special =
            matches!(Method::recognise(&request.method), Method::Invite | Method::Ack | Method::Cancel);
        if special
            || !crate::wire::text::is_token(&request.method)
            || request.body.as_ref().is_some_and(|(t, _)| !compose::is_clean(t))
            || !is_writable(&request.target, addresses, request.call_id.as_deref(), headers())
        {
            return Err(RequestFailure::BadValue);
        }
        let routes = headers().filter(|(n, _)| n.eq_ignore_ascii_case("Route")).map(|(_, v)| v);
        let hop = path(&request.target, routes).hop;
        let to =
            self.first_flow(request.listener, request.destination, request.connection, request.name, hop)?;
        let tag = self.core.mint("", 0xffff_ffff);
        let call_id: Box<str> = match &request.call_id {
            Some(id) => id.as_str().into(),
            None => self.core.mint_call_id(),
        };
        let cseq = request.cseq.unwrap_or(1);
        let method = Method::recognise(&request.method).known().unwrap_or(Method::Other(""));
        self.txns.start_client(
            &mut self.core,
            now,
            Owner::Request(number),
            to,
            method,
            |core, listener, branch| {
                let mut w = Writer::request(&request.method, &request.target);
                w.via(listener, branch);
                if !headers().any(|(n, _)| n.eq_ignore_ascii_case("Max-Forwards")) {
                    w.header("Max-Forwards", "70");
                }
                w.with_tag("From", &compose::bracketed(&request.from), &tag);
                w.header("To", &compose::bracketed(&request.to));
                w.header("Call-ID", &call_id);
                w.cseq(cseq, &request.method);
                core.write_agent(&mut w, "User-Agent");
                for (name, value) in headers() {
                    w.header(name, value);
                }
                w.finish(request.body.as_ref().map(|(t, b)| (t.as_str(), b.as_slice())))
            },
        );
        let auth = request.credentials.map(Auth::from);
        self.requests.insert(number, Pending { auth, cseq });
        Ok(())
    }

    /// Sends a challenged request again with credentials (22.2).
    pub(super) fn retry_request(
        &mut self,
        now: Now,
        number: u64,
        txn_id: u64,
        method: Method<'static>,
        request: &Bytes,
        response: &Message,
    ) -> bool {
        let Some(pending) = self.requests.get_mut(&number) else { return false };
        let Some(auth) = &mut pending.auth else { return false };
        let Some(to) = self.txns.get(txn_id).map(|t| t.flow) else { return false };
        let Some((name, value)) = auth::answer(&mut self.core.random, auth, response, request) else {
            return false;
        };
        let Some(before) = self.core.listener(to.listener) else { return false };
        pending.cseq += 1;
        let cseq = pending.cseq;
        self.txns.start_client(
            &mut self.core,
            now,
            Owner::Request(number),
            to,
            method,
            |_, listener, branch| {
                let headers = &[(name, value.as_str())];
                let changes = Changes { uri: None, listener, before, branch, cseq, headers };
                compose::again(request, &changes).unwrap_or_default()
            },
        );
        true
    }

    pub(super) fn answer_request(
        &mut self,
        now: Now,
        txn_id: u64,
        status: u16,
        headers: &[(&str, &str)],
        body: Option<(&str, &[u8])>,
    ) {
        let Some(txn) = self.txns.get(txn_id) else { return };
        let Some(request) = txn.request.as_ref().filter(|_| txn.owner == Owner::Respond) else { return };
        // 11.2: the answer to OPTIONS SHOULD have Allow; 21.4.6: a 405 MUST.
        let allow = (status == 405 || request.method() == Method::Options && (200..300).contains(&status))
            && !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("Allow"));
        let status = if (100..700).contains(&status) { status } else { 500 };
        self.respond_with(now, txn_id, status, |mut b| {
            if allow {
                b = b.header(Name::Allow, compose::ALLOW);
            }
            b = headers.iter().fold(b, |b, (name, value)| b.header(name, value));
            match body {
                Some((content_type, body)) => b.body(content_type, body),
                None => b,
            }
        });
    }
}

//! Calls that we place: INVITE out, provisional and final responses in, CANCEL, forks, credentials
//! and redirects (RFC 3261 8.1.3, 9.1, 13.2, 22).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cordboard_base::{Now, ms};

use super::compose::{self, Changes, SDP, Writer};
use super::core::{Core, LegTimer, Wake};
use super::leg::{Auth, Calling, Cancelling, Leg, Phase, Session};
use super::txns::{Accepted, Machine, Owner, Txn};
use super::types::{Event, Flow, Full, Invite, LegId, RequestFailure};
use super::{Endpoint, auth};
use crate::dialog::{Dialog, path};
use crate::transaction::invite_client::State;
use crate::transport::Hop;
use crate::wire::{MAGIC_COOKIE, Message, Method, Name, NameAddr, Uri, text};

/// Headers that the endpoint writes itself; a caller that names one has made a mistake.
const OWN_HEADERS: [&str; 7] = ["Via", "From", "To", "Call-ID", "CSeq", "Content-Length", "Content-Type"];

/// Whether the shell's part of a request can be written as it is: a URI, addresses without tags, a
/// Call-ID of one word, headers that are not ours and break nothing open.
pub(super) fn is_writable<'a>(
    uri: &str,
    mut addresses: impl Iterator<Item = &'a String>,
    call_id: Option<&str>,
    mut headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> bool {
    Uri::parse(uri).is_ok()
        && addresses.all(|a| compose::is_clean(a) && NameAddr::parse(a).is_some_and(|a| a.tag().is_none()))
        && call_id.is_none_or(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic()))
        && headers.all(|(name, value)| {
            crate::wire::text::is_token(name)
                && compose::is_clean(value)
                && !OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name))
        })
}

impl Endpoint {
    pub(super) fn start_invite(&mut self, now: Now, invite: Invite) -> Result<LegId, Full> {
        if self.legs.len() >= self.core.config.max_legs {
            return Err(Full::Legs);
        }
        if self.txns.len() >= self.core.config.max_transactions {
            return Err(Full::Transactions);
        }
        let headers = || invite.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let names = [&invite.from, &invite.to].into_iter();
        if !is_writable(&invite.target, names, invite.call_id.as_deref(), headers()) {
            return Err(Full::BadValue);
        }
        let routes = headers().filter(|(n, _)| n.eq_ignore_ascii_case("Route")).map(|(_, v)| v);
        let hop = path(&invite.target, routes).hop;
        let peer = self
            .first_flow(invite.listener, invite.destination, invite.connection, invite.name, hop)
            .map_err(|_| Full::NoDestination)?;
        let leg_id = self.legs.next_id();
        let tag = self.core.mint("", leg_id);
        let call_id: Arc<str> = match &invite.call_id {
            Some(id) => id.as_str().into(),
            None => self.core.mint_call_id().into(),
        };
        let expires_s = self.core.config.session_expires_s;
        let txn = self.txns.start_client(
            &mut self.core,
            now,
            Owner::Leg(leg_id),
            peer,
            Method::Invite,
            |core, listener, branch| {
                let mut w = Writer::request("INVITE", &invite.target);
                w.via(listener, branch);
                if !headers().any(|(n, _)| n.eq_ignore_ascii_case("Max-Forwards")) {
                    w.header("Max-Forwards", "70");
                }
                w.with_tag("From", &compose::bracketed(&invite.from), &tag);
                w.header("To", &compose::bracketed(&invite.to));
                w.header("Call-ID", &call_id);
                w.cseq(1, "INVITE");
                if !headers().any(|(n, _)| n.eq_ignore_ascii_case("Contact")) {
                    w.contact(listener);
                }
                w.header("Allow", compose::ALLOW);
                let supported = compose::supported(&core.config, invite.sdp.is_some());
                w.header("Supported", supported);
                if expires_s > 0 {
                    w.header("Session-Expires", &expires_s.to_string());
                }
                core.write_agent(&mut w, "User-Agent");
                for (name, value) in headers() {
                    w.header(name, value);
                }
                w.finish(invite.sdp.as_ref().map(|sdp| (SDP, sdp.as_bytes())))
            },
        );
        let calling = Calling {
            txn,
            offered: invite.sdp.is_some(),
            provisional: false,
            redirects: invite.redirects,
            silent_target_ns: ms(invite.silent_target_ms),
            silent: None,
            targets: VecDeque::new(),
            seen: Vec::new(),
            early: Vec::new(),
        };
        self.legs.insert(Leg {
            tag,
            call_id,
            invite_cseq: 1,
            caller: true,
            peer,
            auth: invite.credentials.map(|c| Box::new(Auth::from(c))),
            dialog: None,
            ours: None,
            theirs: None,
            timer: None,
            min_se_s: 0,
            allows_update: false,
            referred: false,
            said: invite.sdp.map(Into::into),
            phase: Phase::Calling(calling),
        });
        if invite.silent_first && invite.silent_target_ms > 0 {
            self.await_sign(now, leg_id, ms(invite.silent_target_ms));
        }
        Ok(LegId(leg_id))
    }

    /// A provisional response to an INVITE of ours.
    pub(super) fn on_invite_progress(&mut self, now: Now, txn: u64, leg_id: u64, response: &Message) {
        let Some(leg) = self.legs.get_mut(leg_id) else {
            return self.disown_invite(now, txn);
        };
        match &mut leg.phase {
            Phase::Calling(calling) if calling.txn == txn => {
                calling.provisional = true;
                self.core.stop(&mut calling.silent);
                if response.status() > 100 && self.is_news(now, txn, leg_id, response) {
                    self.core.tell(Event::Progress {
                        leg: LegId(leg_id),
                        status: response.status(),
                        response: response.clone(),
                    });
                }
            }
            // 9.1: "If no provisional response has been received, the CANCEL request MUST NOT be sent;
            // rather, the client MUST wait for the arrival of a provisional response"
            Phase::Cancelling(cancelling) if !cancelling.sent => {
                cancelling.sent = true;
                let reason = cancelling.reason.clone();
                self.txns.start_cancel(&mut self.core, now, txn, reason.as_deref());
            }
            _ => {}
        }
    }

    /// A 2xx to an INVITE of ours, the first or another.
    pub(super) fn on_invite_success(&mut self, now: Now, txn_id: u64, response: &Message) {
        let Some(txn) = self.txns.get(txn_id) else { return };
        let tag = response.to().and_then(|t| t.tag()).unwrap_or("");
        // 13.2.2.4: the ACK is sent again for every repetition of its 2xx.
        if let Some(accepted) = txn.accepted.iter().find(|a| *a.tag == *tag) {
            self.core.totals.absorbed += 1;
            let (flow, ack) = (accepted.flow, accepted.ack.clone());
            return self.core.resend(flow, &ack);
        }
        match txn.owner {
            Owner::Leg(leg_id) => self.on_answer(now, txn_id, leg_id, response),
            Owner::Offer(leg_id) => self.on_reoffer_success(now, txn_id, leg_id, response),
            _ => self.hang_up_stranger(now, txn_id, response),
        }
    }

    fn on_answer(&mut self, now: Now, txn_id: u64, leg_id: u64, response: &Message) {
        let Some(txn) = self.txns.get(txn_id) else { return };
        let Some(leg) = self.legs.get_mut(leg_id) else {
            return self.hang_up_stranger(now, txn_id, response);
        };
        let (uri, local) = dialog_parts(txn);
        let tag = response.to().and_then(|t| t.tag()).unwrap_or("");
        let mut early = None;
        let mut reason = None;
        let (offered, crossed) = match &mut leg.phase {
            Phase::Calling(calling) if calling.txn == txn_id => {
                self.core.stop(&mut calling.silent);
                early = calling.early.drain(..).find(|e| *e.dialog.remote_tag == *tag);
                (calling.offered, false)
            }
            Phase::Cancelling(cancelling) if cancelling.txn == txn_id => {
                // Why the call is not wanted is as true of the BYE.
                reason = cancelling.reason.take();
                (cancelling.offered, true)
            }
            Phase::Talking(session) => {
                // The 2xx that waits for the answer in its ACK is repeated until then.
                if session.owed_ack.as_ref().is_some_and(|(_, first)| same_to_tag(first, response)) {
                    self.core.totals.absorbed += 1;
                    return;
                }
                return self.hang_up_stranger(now, txn_id, response);
            }
            // 13.2.2.4: the 2xx of another fork, after the first one was taken.
            _ => return self.hang_up_stranger(now, txn_id, response),
        };
        let mut dialog = Dialog::caller(&leg.call_id, &local, leg.invite_cseq, response, &uri);
        if let Some(early) = early {
            // 13.2.2.4: the route set is computed anew; the numbers go on.
            dialog.local_cseq = early.dialog.local_cseq;
            dialog.remote_cseq = early.dialog.remote_cseq;
        }
        leg.dialog = Some(dialog);
        leg.phase = Phase::Talking(Session::default());
        self.timer_granted(now, leg_id, response);
        if crossed {
            // A 200 met our CANCEL: "the UAC ... MUST ... send an ACK ... and a BYE" (9.1, 15).
            self.send_ack(txn_id, leg_id, response, None);
            return self.send_bye(now, leg_id, reason.as_deref(), true);
        }
        if offered {
            self.send_ack(txn_id, leg_id, response, None);
        } else if let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) {
            session.owed_ack = Some((txn_id, response.clone()));
        }
        self.core.tell(Event::Answered { leg: LegId(leg_id), response: response.clone() });
    }

    /// Sends the ACK to a 2xx inside the leg's dialog and keeps it for repetitions (13.2.2.4).
    pub(super) fn send_ack(&mut self, txn_id: u64, leg_id: u64, response: &Message, sdp: Option<&str>) {
        let Some(leg) = self.legs.get(leg_id) else { return };
        let Some(dialog) = &leg.dialog else { return };
        let (flow, cseq) = (leg.flow(&self.core), response.cseq().map_or(1, |(n, _)| n));
        let Some(txn) = self.txns.get_mut(txn_id) else { return };
        acknowledge(&mut self.core, txn, dialog, flow, cseq, sdp);
    }

    /// ACK and BYE for a 2xx that nobody wants: another fork's, or one after all was over.
    fn hang_up_stranger(&mut self, now: Now, txn_id: u64, response: &Message) {
        let Some(txn) = self.txns.get_mut(txn_id) else { return };
        let (uri, local) = dialog_parts(txn);
        let cseq = response.cseq().map_or(1, |(n, _)| n);
        let mut dialog = Dialog::caller(&response.call_id().into(), &local, cseq, response, &uri);
        let flow = self.core.flow_in_dialog(txn.flow, &dialog.path());
        acknowledge(&mut self.core, txn, &dialog, flow, cseq, None);
        self.send_bye_of(now, &mut dialog, flow, Owner::Nobody, None);
    }

    /// A final failure of an INVITE of ours, or why there is none.
    ///
    /// `request` is the INVITE that failed.
    pub(super) fn on_invite_failure(
        &mut self,
        now: Now,
        leg_id: u64,
        txn: u64,
        request: &Bytes,
        response: Result<&Message, RequestFailure>,
    ) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let calling = match &mut leg.phase {
            Phase::Calling(calling) if calling.txn == txn => calling,
            Phase::Cancelling(cancelling) if cancelling.txn == txn => {
                self.legs.remove(leg_id);
                return self.core.tell(Event::Released { leg: LegId(leg_id), crossed: false });
            }
            _ => return,
        };
        self.core.stop(&mut calling.silent);
        let status = response.map_or_else(RequestFailure::status, Message::status);
        if let Ok(response) = response {
            if matches!(status, 401 | 407)
                && let Some(auth) = &mut leg.auth
                && let Some((name, value)) = auth::answer(&mut self.core.random, auth, response, request)
            {
                let to = leg.peer;
                return self.send_invite_again(now, leg_id, request, None, to, &[(name, &value)]);
            }
            // RFC 4028 7.3: the interval was too small for somebody on the way.
            if status == 422
                && let Some(min_se_s) = response.header(Name::MinSe).and_then(text::number)
                && min_se_s > leg.min_se_s
            {
                leg.min_se_s = min_se_s;
                let (to, value) = (leg.peer, min_se_s.to_string());
                let headers = [("Session-Expires", value.as_str()), ("Min-SE", value.as_str())];
                return self.send_invite_again(now, leg_id, request, None, to, &headers);
            }
            if (300..400).contains(&status) && calling.redirects > 0 {
                calling.redirects -= 1;
                for (i, uri) in
                    contacts(&self.core, leg.peer.listener, response, &calling.seen).into_iter().enumerate()
                {
                    calling.seen.push(uri.clone());
                    // Better than what is left of an earlier redirect: it is newer.
                    calling.targets.insert(i, uri);
                }
            }
        }
        // A target that a redirect named and that cannot serve is no verdict on the call: the next one
        // is asked. Any other failure from 400 is the answer of someone who could have served.
        let moved = (300..400).contains(&status);
        let unserved = !calling.seen.is_empty() && matches!(status, 408 | 500 | 502..=504);
        if (moved || unserved) && self.send_to_next_target(now, leg_id, request) {
            return;
        }
        let reason = match response {
            Err(RequestFailure::Timeout) => "no answer: the INVITE timed out (Timer B)".to_owned(),
            Err(_) => "no connection to the target could be made, or it broke".to_owned(),
            Ok(r) => format!("{} {}", r.status(), r.reason()),
        };
        self.legs.remove(leg_id);
        let response = response.ok().cloned();
        self.core.tell(Event::Rejected { leg: LegId(leg_id), status, response, reason });
    }

    /// 8.1.3.4: "To create a request based on a contact address in a 3xx response, a UAC MUST copy the
    /// entire URI from the target set into the Request-URI", and it keeps To, From and Call-ID.
    fn send_to_next_target(&mut self, now: Now, leg_id: u64, request: &Bytes) -> bool {
        let Some(leg) = self.legs.get_mut(leg_id) else { return false };
        let Phase::Calling(calling) = &mut leg.phase else { return false };
        let Some(uri) = calling.targets.pop_front() else { return false };
        let hop = Uri::parse(&uri).ok().and_then(|u| Hop::of(&u));
        let Some(to) = hop.and_then(|hop| self.core.flow_to_contact(leg.peer.listener, hop)) else {
            return false;
        };
        let silent_ns = calling.silent_target_ns;
        self.send_invite_again(now, leg_id, request, Some(&uri), to, &[]);
        if silent_ns > 0 {
            self.await_sign(now, leg_id, silent_ns);
        }
        self.core.tell(Event::Redirected { leg: LegId(leg_id), to: uri });
        true
    }

    /// Gives the target up unless it says something, be it 100, in this time.
    fn await_sign(&mut self, now: Now, leg_id: u64, silent_ns: u64) {
        if let Some(leg) = self.legs.get_mut(leg_id)
            && let Phase::Calling(calling) = &mut leg.phase
        {
            calling.silent = Some(self.core.wake(now, silent_ns, Wake::Leg(leg_id, LegTimer::Silent)));
        }
    }

    fn send_invite_again(
        &mut self,
        now: Now,
        leg_id: u64,
        request: &Bytes,
        uri: Option<&str>,
        to: Flow,
        headers: &[(&str, &str)],
    ) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Phase::Calling(calling) = &mut leg.phase else { return };
        let Some(before) = self.core.listener(leg.peer.listener) else { return };
        leg.invite_cseq += 1;
        leg.peer = to;
        let cseq = leg.invite_cseq;
        calling.provisional = false;
        calling.early.clear();
        calling.txn = self.txns.start_client(
            &mut self.core,
            now,
            Owner::Leg(leg_id),
            leg.peer,
            Method::Invite,
            |_, listener, branch| {
                let changes = Changes { uri, listener, before, branch, cseq, headers };
                compose::again(request, &changes).unwrap_or_default()
            },
        );
    }

    /// A redirect target has said nothing for `silent_target_ms`.
    pub(super) fn on_silent_target(&mut self, now: Now, leg_id: u64) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Phase::Calling(calling) = &mut leg.phase else { return };
        calling.silent = None;
        let txn = calling.txn;
        let Some(request) = self.txns.get(txn).map(|t| t.last.clone()) else { return };
        self.txns.abandon(&mut self.core, txn);
        self.core.totals.timed_out += 1;
        if self.send_to_next_target(now, leg_id, &request) {
            return;
        }
        self.legs.remove(leg_id);
        self.core.tell(Event::Rejected {
            leg: LegId(leg_id),
            status: 408,
            response: None,
            reason: "no target said anything within silent_target_ms".to_owned(),
        });
    }

    /// Gives up our INVITE.
    pub(super) fn cancel_invite(&mut self, now: Now, leg_id: u64, reason: Option<&str>) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Phase::Calling(calling) = &mut leg.phase else { return };
        self.core.stop(&mut calling.silent);
        let (txn, sent, offered) = (calling.txn, calling.provisional, calling.offered);
        leg.phase = Phase::Cancelling(Cancelling { txn, sent, offered, reason: reason.map(str::to_owned) });
        if sent {
            self.txns.start_cancel(&mut self.core, now, txn, reason);
        }
    }

    /// An INVITE of ours whose leg is gone: cancelled as soon as that is allowed, and a 2xx that comes
    /// all the same gets its ACK and BYE.
    pub(super) fn disown_invite(&mut self, now: Now, txn_id: u64) {
        let Some(txn) = self.txns.get_mut(txn_id) else { return };
        txn.owner = Owner::Nobody;
        if txn.machine == Machine::InviteClient(State::Proceeding) {
            self.txns.start_cancel(&mut self.core, now, txn_id, None);
        }
    }
}

/// The Request-URI and the From of an INVITE of ours.
pub(super) fn dialog_parts(txn: &Txn) -> (String, String) {
    let uri = compose::start_line(&txn.last).map_or("", |(_, uri, _)| uri);
    (uri.to_owned(), compose::find(&txn.last, "From").unwrap_or("").to_owned())
}

fn same_to_tag(a: &Message, b: &Message) -> bool {
    a.to().and_then(|t| t.tag()) == b.to().and_then(|t| t.tag())
}

/// Writes and sends the ACK to a 2xx, with the credentials of its INVITE (22.1).
fn acknowledge(core: &mut Core, txn: &mut Txn, dialog: &Dialog, flow: Flow, cseq: u32, sdp: Option<&str>) {
    let branch = core.mint(MAGIC_COOKIE, 0xffff_ffff);
    let credentials =
        ["Authorization", "Proxy-Authorization"].map(|name| (name, compose::find(&txn.last, name)));
    let ack = core.in_dialog(dialog, flow.listener, "ACK", cseq, &branch, |w| {
        for (name, value) in credentials {
            if let Some(value) = value {
                w.header(name, value);
            }
        }
    });
    let ack = Bytes::from(ack.finish(sdp.map(|sdp| (SDP, sdp.as_bytes()))));
    core.send(flow, &ack);
    txn.accepted.push(Accepted { tag: dialog.remote_tag.clone(), ack, flow });
}

/// More contacts of a 3xx are not looked at: each is compared with each.
const MAX_CONTACTS: usize = 32;

/// The contacts of a 3xx that we can reach and have not seen, best first.
fn contacts(core: &Core, listener: u16, response: &Message, seen: &[String]) -> Vec<String> {
    let mut found: Vec<(u16, &str)> = Vec::new();
    for contact in response.contacts().take(MAX_CONTACTS) {
        // 19.1.1: headers of a URI are for a form, and may not stand in a Request-URI.
        let uri = contact.uri.split('?').next().unwrap_or("");
        let Ok(parsed) = Uri::parse(uri) else { continue };
        let known = |other: &str| Uri::parse(other).is_ok_and(|o| o.same_as(&parsed));
        if Hop::of(&parsed).and_then(|hop| core.flow_to_contact(listener, hop)).is_some()
            && !seen.iter().any(|s| known(s))
            && !found.iter().any(|f| known(f.1))
        {
            found.push((contact.q_milli(), uri));
        }
    }
    found.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
    found.into_iter().map(|(_, uri)| uri.to_owned()).collect()
}

/// Whether the request that a response answers was for this message's first Via alone (8.1.3.3).
pub(super) fn has_one_via(response: &Message) -> bool {
    response.headers(Name::Via).nth(1).is_none()
}

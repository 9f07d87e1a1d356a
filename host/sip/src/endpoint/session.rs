//! Inside a dialog: BYE both ways, re-INVITE and UPDATE both ways with glare, INFO and the like
//! (RFC 3261 12.2, 14, 15; RFC 3311).

use bytes::Bytes;
use cordboard_base::{Now, ms};

use super::compose::{self, Changes, SDP};
use super::core::{Flow, LegTimer, Wake};
use super::leg::{Leg, OurOffer, Phase};
use super::txns::Owner;
use super::types::{DialogRecord, End, Event, LegId, RequestFailure};
use super::{Endpoint, auth};
use crate::dialog::Dialog;
use crate::wire::{Message, Method, Name, NameAddr};

/// After so many 491 in a row the re-INVITE is given up.
const MAX_GLARES: u8 = 8;

impl Endpoint {
    /// The leg that a request inside a dialog belongs to (12.2.2): our tag is in To.
    pub(super) fn find_leg(&self, request: &Message) -> Option<u64> {
        let to = request.to()?;
        let slot = super::core::minted_slot(to.tag()?)?;
        let (id, leg) = self.legs.in_slot(slot)?;
        let from = request.from();
        let remote_tag = from.as_ref().and_then(NameAddr::tag).unwrap_or("");
        let fits = *leg.tag == *to.tag()?
            && *leg.call_id == *request.call_id()
            && leg.dialog.as_ref().is_none_or(|d| *d.remote_tag == *remote_tag);
        fits.then_some(id)
    }

    /// Ends a leg as its phase asks.
    pub(super) fn end_leg(&mut self, now: Now, leg_id: u64, reason: Option<&str>) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        match &mut leg.phase {
            Phase::Calling(_) => self.cancel_invite(now, leg_id, reason),
            Phase::Ringing(_) => {
                let reason = reason.map(|r| ("Reason", r));
                self.send_refusal(now, leg_id, 480, reason.as_slice());
                self.core.tell(Event::Released { leg: LegId(leg_id), crossed: false });
            }
            Phase::Talking(session) => {
                if session.bye.is_some() {
                    return;
                }
                // 15: "the callee's UA ... MUST NOT send a BYE on a confirmed dialog until it has received
                // an ACK for its 2xx response or until the server transaction times out."
                if session.unacked.as_ref().is_some_and(|u| u.initial) {
                    session.bye = Some(reason.map(str::to_owned));
                    return;
                }
                if let Some((txn, response)) = session.owed_ack.take() {
                    self.send_ack(txn, leg_id, &response, None);
                }
                self.send_bye(now, leg_id, reason, false);
            }
            Phase::Cancelling(_) | Phase::Ending { .. } => {}
        }
    }

    /// Sends the BYE of a leg and waits for its response.
    pub(super) fn send_bye(&mut self, now: Now, leg_id: u64, reason: Option<&str>, crossed: bool) {
        self.settle_session(now, leg_id);
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        leg.phase = Phase::Ending { crossed };
        let flow = leg.flow();
        let Some(mut dialog) = leg.dialog.take() else { return };
        self.send_bye_of(now, &mut dialog, flow, Owner::Bye(leg_id), reason);
        if let Some(leg) = self.legs.get_mut(leg_id) {
            leg.dialog = Some(dialog);
        }
    }

    /// The leg ends for a reason of the protocol: BYE, and nobody waits for its response.
    pub(super) fn end_with_bye(&mut self, now: Now, leg_id: u64, cause: End) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let flow = leg.flow();
        let dialog = leg.dialog.take();
        let released = leg.session().is_some_and(|s| s.bye.is_some());
        if let Some(mut dialog) = dialog {
            self.send_bye_of(now, &mut dialog, flow, Owner::Nobody, None);
        }
        self.drop_leg(now, leg_id);
        let leg = LegId(leg_id);
        self.core.tell(if released {
            Event::Released { leg, crossed: false }
        } else {
            Event::Ended { leg, cause }
        });
    }

    pub(super) fn send_bye_of(
        &mut self,
        now: Now,
        dialog: &mut Dialog,
        flow: Flow,
        owner: Owner,
        reason: Option<&str>,
    ) {
        let cseq = dialog.next_cseq();
        self.txns.start_client(&mut self.core, now, owner, flow, Method::Bye, |core, branch| {
            let w = core.in_dialog(dialog, flow.listener, "BYE", cseq, branch, |w| {
                if let Some(reason) = reason {
                    w.foreign("Reason", reason);
                }
            });
            w.finish(None)
        });
    }

    pub(super) fn send_orphan_bye(&mut self, now: Now, record: &DialogRecord, reason: &str) {
        let mut dialog = Dialog {
            call_id: record.call_id.as_str().into(),
            local: record.local.as_str().into(),
            remote: record.remote.as_str().into(),
            remote_tag: NameAddr::parse(&record.remote).and_then(|a| a.tag()).unwrap_or("").into(),
            target: record.target.as_str().into(),
            routes: record.routes.iter().map(|r| r.as_str().into()).collect(),
            // Requests of the former life after the record was made have taken some numbers.
            local_cseq: record.local_cseq.saturating_add(1_000).min((1 << 31) - 2),
            remote_cseq: record.remote_cseq,
        };
        let texts = [&record.call_id, &record.local, &record.remote, &record.target];
        if self.core.local(record.listener).is_none() || texts.iter().any(|t| !compose::is_clean(t)) {
            return;
        }
        let to = dialog.path().next_hop.unwrap_or(record.destination);
        let flow = super::leg::flow(record.listener, to);
        self.send_bye_of(now, &mut dialog, flow, Owner::Nobody, Some(reason));
    }

    /// The final response to our BYE came, or none will.
    pub(super) fn on_bye_done(&mut self, leg_id: u64) {
        let Some(leg) = self.legs.get(leg_id) else { return };
        let Phase::Ending { crossed } = leg.phase else { return };
        self.legs.remove(leg_id);
        self.core.tell(Event::Released { leg: LegId(leg_id), crossed });
    }

    /// Their BYE, answered whatever the phase (15.1.2).
    pub(super) fn on_bye(&mut self, now: Now, txn_id: u64, leg_id: u64, bye: &Message) {
        self.respond_with(now, txn_id, 200, |b| b);
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let id = LegId(leg_id);
        let event = match &mut leg.phase {
            // BYE crossed BYE: ours is answered in the same way.
            Phase::Ending { .. } => return,
            Phase::Ringing(ringing) => {
                let txn = ringing.txn;
                self.respond_with(now, txn, 487, |b| b);
                Event::Ended { leg: id, cause: End::Bye(bye.clone()) }
            }
            // Only a callee whose 2xx we never saw hangs up now (13.3.1.4).
            Phase::Calling(calling) => {
                let txn = calling.txn;
                self.disown_invite(now, txn);
                Event::Ended { leg: id, cause: End::Bye(bye.clone()) }
            }
            Phase::Cancelling(cancelling) => {
                let (txn, sent) = (cancelling.txn, cancelling.sent);
                if let Some(txn) = self.txns.get_mut(txn).filter(|_| sent) {
                    txn.owner = Owner::Nobody;
                } else {
                    self.disown_invite(now, txn);
                }
                Event::Released { leg: id, crossed: true }
            }
            Phase::Talking(session) if session.bye.is_some() => Event::Released { leg: id, crossed: false },
            Phase::Talking(session) => {
                // A 2xx without its ACK would be repeated for half a minute by a peer that is gone; its
                // BYE says that it has not waited.
                session.owed_ack = None;
                Event::Ended { leg: id, cause: End::Bye(bye.clone()) }
            }
        };
        self.drop_leg(now, leg_id);
        self.core.tell(event);
    }

    /// Closes what is open inside a dialog that ends.
    fn settle_session(&mut self, now: Now, leg_id: u64) {
        let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) else { return };
        let mut session = std::mem::take(session);
        session.stop_timers(&mut self.core);
        // 15.1.2: "The UAS MUST still respond to any pending requests received for that dialog. It is
        // RECOMMENDED that a 487 (Request Terminated) response be generated".
        if let Some(txn) = session.theirs {
            self.respond_with(now, txn, 487, |b| b);
        }
        if let Some(txn) = session.ours.and_then(|o| o.txn) {
            self.disown_invite(now, txn);
        }
        for (number, txn) in session.requests {
            if let Some(txn) = self.txns.get_mut(txn) {
                txn.owner = Owner::Nobody;
            }
            self.core.tell(Event::Response { request: number, result: Err(RequestFailure::LegGone) });
        }
    }

    /// Frees a leg.
    pub(super) fn drop_leg(&mut self, now: Now, leg_id: u64) {
        self.settle_session(now, leg_id);
        if let Some(mut leg) = self.legs.remove(leg_id) {
            leg.stop_timers(&mut self.core);
        }
    }

    /// A re-INVITE or an UPDATE (14.2; RFC 3311 5.2).
    pub(super) fn on_offer(&mut self, now: Now, txn_id: u64, leg_id: u64, request: &Message) {
        let invite = request.method() == Method::Invite;
        let offers = invite || !request.body().is_empty();
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let (mine, theirs) = match &leg.phase {
            Phase::Talking(s) => {
                let theirs =
                    s.theirs.is_some_and(|t| self.txns.get(t).is_some_and(super::txns::Txn::is_open));
                // A 2xx of ours without ACK: our side of that exchange is not over (RFC 5407 3.1.4).
                let open = s.ours.as_ref().is_some_and(|o| o.txn.is_some()) || s.owed_ack.is_some();
                (open || invite && s.unacked.is_some(), theirs)
            }
            // Before the answer: our offer is out, or theirs is.
            Phase::Calling(_) => (true, false),
            Phase::Ringing(_) => (false, true),
            Phase::Cancelling(_) | Phase::Ending { .. } => {
                return self.respond_with(now, txn_id, 481, |b| b);
            }
        };
        // 14.2: a second INVITE before the final response to the first "MUST" get 500 with a Retry-After
        // "with a randomly chosen value of between 0 and 10 seconds".
        if offers && theirs {
            let after = self.core.random.below(11).to_string();
            return self.respond_with(now, txn_id, 500, |b| b.header(Name::RetryAfter, &after));
        }
        // 14.2: "A UAS that receives an INVITE on a dialog while an INVITE it had sent on that dialog is in
        // progress MUST return a 491".
        if offers && mine {
            return self.respond_with(now, txn_id, 491, |b| b);
        }
        if let Some(dialog) = &mut leg.dialog {
            dialog.refresh_target(request);
        }
        let Some(session) = leg.session().filter(|_| offers) else {
            return self.respond_in_dialog(now, txn_id, 200, None);
        };
        session.theirs = Some(txn_id);
        if let Some(txn) = self.txns.get_mut(txn_id) {
            txn.owner = Owner::Offer(leg_id);
        }
        if invite {
            self.respond_with(now, txn_id, 100, |b| b);
        }
        if self.legs.get_mut(leg_id).and_then(Leg::session).is_some_and(|s| s.bye.is_some()) {
            // The user has hung up and hears nothing any more.
            return self.answer_offer(now, leg_id, 488, None);
        }
        self.core.tell(Event::Offer { leg: LegId(leg_id), request: request.clone() });
    }

    /// Answers their offer: 200 with `sdp`, or a failure.
    pub(super) fn answer_offer(&mut self, now: Now, leg_id: u64, status: u16, sdp: Option<&str>) {
        let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) else { return };
        let Some(txn_id) = session.theirs.take() else { return };
        let Some(request) = self.txns.get(txn_id).and_then(|t| t.request.clone()) else { return };
        if status >= 300 {
            return self.respond_with(now, txn_id, status, |b| b);
        }
        self.respond_in_dialog(now, txn_id, status, sdp);
        if request.method() == Method::Invite {
            self.await_ack(now, leg_id, txn_id, request.cseq().map_or(0, |(n, _)| n), false);
        }
    }

    /// Sends our re-INVITE, if nothing is in its way (14.1).
    pub(super) fn start_reoffer(&mut self, now: Now, leg_id: u64, sdp: &str) -> bool {
        let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) else { return false };
        let busy = session.ours.is_some()
            || session.theirs.is_some_and(|t| self.txns.get(t).is_some_and(super::txns::Txn::is_open))
            || session.unacked.is_some()
            || session.owed_ack.is_some()
            || session.bye.is_some();
        if busy || self.txns.len() >= self.core.config.max_transactions {
            return false;
        }
        session.ours = Some(OurOffer { sdp: sdp.to_owned(), txn: None, retry: None, glares: 0 });
        self.send_reoffer(now, leg_id);
        true
    }

    fn send_reoffer(&mut self, now: Now, leg_id: u64) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let flow = leg.flow();
        let Some(dialog) = &mut leg.dialog else { return };
        let Phase::Talking(session) = &mut leg.phase else { return };
        let Some(ours) = &mut session.ours else { return };
        let cseq = dialog.next_cseq();
        let Some(local) = self.core.local(flow.listener) else { return };
        let sdp = &ours.sdp;
        let start = |core: &mut super::core::Core, branch: &str| {
            let w = core.in_dialog(dialog, flow.listener, "INVITE", cseq, branch, |w| {
                w.contact(local);
                w.header("Allow", compose::ALLOW);
            });
            w.finish(Some((SDP, sdp.as_bytes())))
        };
        let txn =
            self.txns.start_client(&mut self.core, now, Owner::Offer(leg_id), flow, Method::Invite, start);
        ours.txn = Some(txn);
    }

    pub(super) fn on_reoffer_success(&mut self, now: Now, txn_id: u64, leg_id: u64, response: &Message) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return self.disown_success(now, txn_id, response) };
        let Some(session) = leg.session() else { return self.disown_success(now, txn_id, response) };
        if session.ours.as_ref().and_then(|o| o.txn) == Some(txn_id) {
            session.ours = None;
        }
        if let Some(dialog) = &mut leg.dialog {
            dialog.refresh_target(response);
        }
        self.send_ack(txn_id, leg_id, response, None);
        self.core.tell(Event::OfferResult { leg: LegId(leg_id), result: Ok(response.clone()) });
    }

    fn disown_success(&mut self, now: Now, txn_id: u64, response: &Message) {
        if let Some(txn) = self.txns.get_mut(txn_id) {
            txn.owner = Owner::Nobody;
        }
        self.on_invite_success(now, txn_id, response);
    }

    pub(super) fn on_reoffer_failure(
        &mut self,
        now: Now,
        txn_id: u64,
        leg_id: u64,
        request: &Bytes,
        response: Option<&Message>,
    ) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let status = response.map_or(408, Message::status);
        let caller = leg.caller;
        if let Some(response) = response
            && matches!(status, 401 | 407)
            && self.retry_in_dialog(now, leg_id, Method::Invite, Owner::Offer(leg_id), request, response)
        {
            return;
        }
        let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) else { return };
        let Some(ours) = session.ours.as_mut().filter(|o| o.txn == Some(txn_id)) else { return };
        ours.txn = None;
        if status == 491 && ours.glares < MAX_GLARES {
            ours.glares += 1;
            // 14.1: "If the UAC is the owner of the Call-ID ... T has a randomly chosen value between 2.1 and
            // 4 seconds in units of 10 ms", otherwise between 0 and 2 seconds.
            let wait_ms = if caller {
                2_100 + 10 * self.core.random.below(191)
            } else {
                10 * self.core.random.below(201)
            };
            ours.retry = Some(self.core.wake(now, ms(wait_ms), Wake::Leg(leg_id, LegTimer::Reoffer)));
            return;
        }
        session.ours = None;
        self.core.tell(Event::OfferResult { leg: LegId(leg_id), result: Err(status) });
        // 12.2.1.2: "If the response for a request within a dialog is a 481 or a 408, the UAC SHOULD
        // terminate the dialog", and so when none comes.
        if matches!(status, 408 | 481) {
            self.end_with_bye(now, leg_id, End::NoAnswer);
        }
    }

    pub(super) fn on_reoffer_timer(&mut self, now: Now, leg_id: u64) {
        let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) else { return };
        let theirs = session.theirs.is_some_and(|t| self.txns.get(t).is_some_and(super::txns::Txn::is_open));
        let busy = theirs || session.unacked.is_some();
        let Some(ours) = &mut session.ours else { return };
        ours.retry = None;
        if busy {
            // Theirs won and is not through yet.
            ours.retry = Some(self.core.wake(now, ms(500), Wake::Leg(leg_id, LegTimer::Reoffer)));
            return;
        }
        self.send_reoffer(now, leg_id);
    }

    /// Sends a request of the dialog again with credentials.
    pub(super) fn retry_in_dialog(
        &mut self,
        now: Now,
        leg_id: u64,
        method: Method<'static>,
        owner: Owner,
        request: &Bytes,
        response: &Message,
    ) -> bool {
        let Some(leg) = self.legs.get_mut(leg_id) else { return false };
        let flow = leg.flow();
        let (Some(auth), Some(dialog)) = (&mut leg.auth, &mut leg.dialog) else { return false };
        let Some((name, value)) = auth::answer(&mut self.core.random, auth, response, request) else {
            return false;
        };
        let Some(local) = self.core.local(flow.listener) else { return false };
        let cseq = dialog.next_cseq();
        let txn = self.txns.start_client(&mut self.core, now, owner, flow, method, |_, branch| {
            let changes = Changes { uri: None, local, branch, cseq, header: Some((name, &value)) };
            compose::again(request, &changes).unwrap_or_default()
        });
        if let Phase::Talking(session) = &mut leg.phase {
            match owner {
                Owner::Offer(_) => {
                    if let Some(ours) = &mut session.ours {
                        ours.txn = Some(txn);
                    }
                }
                Owner::InLeg(_, number) => session.requests.push((number, txn)),
                _ => {}
            }
        }
        true
    }

    pub(super) fn send_in_leg(
        &mut self,
        now: Now,
        leg_id: u64,
        method: &str,
        body: Option<(&str, &[u8])>,
    ) -> Option<u64> {
        let full = self.txns.len() >= self.core.config.max_transactions;
        let leg = self.legs.get_mut(leg_id)?;
        let flow = leg.flow();
        let dialog = leg.dialog.as_mut()?;
        let Phase::Talking(session) = &mut leg.phase else { return None };
        let ours = ["INVITE", "ACK", "CANCEL", "BYE", "UPDATE"];
        if full || ours.contains(&method) || session.bye.is_some() || !crate::wire::text::is_token(method) {
            return None;
        }
        let local = self.core.local(flow.listener)?;
        let cseq = dialog.next_cseq();
        self.next_request += 1;
        let number = self.next_request;
        let known = Method::recognise(method).known().unwrap_or(Method::Other(""));
        let owner = Owner::InLeg(leg_id, number);
        let txn = self.txns.start_client(&mut self.core, now, owner, flow, known, |core, branch| {
            // 12.1.1: target refresh requests and those that make a usage carry a Contact.
            core.in_dialog(dialog, flow.listener, method, cseq, branch, |w| w.contact(local)).finish(body)
        });
        session.requests.push((number, txn));
        Some(number)
    }

    /// The final response to a request inside a leg's dialog, or none.
    pub(super) fn on_in_leg_done(
        &mut self,
        now: Now,
        txn_id: u64,
        (leg_id, number): (u64, u64),
        method: Method<'static>,
        request: &Bytes,
        response: Option<&Message>,
    ) {
        if let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) {
            session.requests.retain(|(_, txn)| *txn != txn_id);
        }
        let status = response.map_or(408, Message::status);
        if let Some(response) = response
            && matches!(status, 401 | 407)
            && self.retry_in_dialog(now, leg_id, method, Owner::InLeg(leg_id, number), request, response)
        {
            return;
        }
        let result = response.cloned().ok_or(RequestFailure::Timeout);
        self.core.tell(Event::Response { request: number, result });
        if matches!(status, 408 | 481) && self.legs.get_mut(leg_id).and_then(Leg::session).is_some() {
            self.end_with_bye(now, leg_id, End::NoAnswer);
        }
    }

    pub(super) fn record(&self, leg_id: u64) -> Option<DialogRecord> {
        let leg = self.legs.get(leg_id)?;
        let dialog = leg.dialog.as_ref()?;
        if !matches!(leg.phase, Phase::Talking(_)) {
            return None;
        }
        let flow = leg.flow();
        Some(DialogRecord {
            call_id: dialog.call_id.to_string(),
            local: dialog.local.to_string(),
            remote: dialog.remote.to_string(),
            target: dialog.target.to_string(),
            routes: dialog.routes.iter().map(ToString::to_string).collect(),
            local_cseq: dialog.local_cseq,
            remote_cseq: dialog.remote_cseq,
            listener: flow.listener,
            destination: flow.to,
        })
    }
}

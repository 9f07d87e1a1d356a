//! Inside a dialog: BYE both ways, INFO and the like (RFC 3261 12.2, 15).

use bytes::Bytes;
use cordboard_base::Now;

use super::compose::{self, Changes};
use super::leg::{Leg, Phase};
use super::txns::Owner;
use super::types::{DialogRecord, End, Event, Flow, LegId, RequestFailure};
use super::{Endpoint, auth};
use crate::dialog::Dialog;
use crate::wire::{Message, Method, NameAddr};

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
        leg.phase = Phase::Ending { crossed, again: false };
        let flow = leg.flow(&self.core);
        let Some(mut dialog) = leg.dialog.take() else { return };
        self.send_bye_of(now, &mut dialog, flow, Owner::Bye(leg_id), reason);
        if let Some(leg) = self.legs.get_mut(leg_id) {
            leg.dialog = Some(dialog);
        }
    }

    /// The leg ends for a reason of the protocol: BYE, and nobody waits for its response.
    pub(super) fn end_with_bye(&mut self, now: Now, leg_id: u64, cause: End) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let flow = leg.flow(&self.core);
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
        self.txns.start_client(&mut self.core, now, owner, flow, Method::Bye, |core, _, branch| {
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
        if self.core.listener(record.listener).is_none() || texts.iter().any(|t| !compose::is_clean(t)) {
            return;
        }
        let peer = Flow::udp(record.listener, record.destination);
        let flow = self.core.flow_in_dialog(peer, &dialog.path());
        self.send_bye_of(now, &mut dialog, flow, Owner::Nobody, Some(reason));
    }

    /// The connection of our BYE broke, and it may be lost: it is sent once more, by another.
    pub(super) fn bye_again(&mut self, now: Now, leg_id: u64) -> bool {
        let Some(leg) = self.legs.get_mut(leg_id) else { return false };
        let Phase::Ending { again: again @ false, .. } = &mut leg.phase else { return false };
        *again = true;
        let flow = leg.flow(&self.core);
        let Some(mut dialog) = leg.dialog.take() else { return false };
        self.send_bye_of(now, &mut dialog, flow, Owner::Bye(leg_id), None);
        if let Some(leg) = self.legs.get_mut(leg_id) {
            leg.dialog = Some(dialog);
        }
        true
    }

    /// The final response to our BYE came, or none will.
    pub(super) fn on_bye_done(&mut self, leg_id: u64) {
        let Some(leg) = self.legs.get(leg_id) else { return };
        let Phase::Ending { crossed, .. } = leg.phase else { return };
        if let Some(mut leg) = self.legs.remove(leg_id) {
            self.keep_for_refers(leg_id, &mut leg);
        }
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
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        if let Some(mut timer) = leg.timer.take() {
            timer.stop(&mut self.core);
        }
        let (theirs, ours) = (leg.theirs.take(), leg.ours.take());
        let session = leg.session().map(std::mem::take);
        // 15.1.2: "The UAS MUST still respond to any pending requests received for that dialog. It is
        // RECOMMENDED that a 487 (Request Terminated) response be generated".
        if let Some(txn) = theirs {
            self.respond_with(now, txn, 487, |b| b);
        }
        if let Some(mut ours) = ours {
            self.core.stop(&mut ours.retry);
            if let Some(txn) = ours.txn {
                self.disown_invite(now, txn);
            }
        }
        let Some(mut session) = session else { return };
        session.stop_timers(&mut self.core);
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
            self.keep_for_refers(leg_id, &mut leg);
        }
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
        let flow = leg.flow(&self.core);
        let (Some(auth), Some(dialog)) = (&mut leg.auth, &mut leg.dialog) else { return false };
        let Some((name, value)) = auth::answer(&mut self.core.random, auth, response, request) else {
            return false;
        };
        let cseq = dialog.next_cseq();
        let txn = self.txns.start_client(&mut self.core, now, owner, flow, method, |_, listener, branch| {
            let headers = &[(name, value.as_str())];
            let changes = Changes { uri: None, listener, before: listener, branch, cseq, headers };
            compose::again(request, &changes).unwrap_or_default()
        });
        match (owner, &mut leg.ours, &mut leg.phase) {
            (Owner::Offer(_), Some(ours), _) => ours.txn = Some(txn),
            (Owner::InLeg(_, number), _, Phase::Talking(session)) => session.requests.push((number, txn)),
            _ => {}
        }
        true
    }

    pub(super) fn send_in_leg(
        &mut self,
        now: Now,
        leg_id: u64,
        method: &str,
        headers: &[(&str, &str)],
        body: Option<(&str, &[u8])>,
    ) -> Option<u64> {
        let full = self.txns.len() >= self.core.config.max_transactions;
        let leg = self.legs.get_mut(leg_id)?;
        let flow = leg.flow(&self.core);
        let dialog = leg.dialog.as_mut()?;
        let Phase::Talking(session) = &mut leg.phase else { return None };
        let ours = ["INVITE", "ACK", "CANCEL", "BYE", "UPDATE", "PRACK"];
        if full || ours.contains(&method) || session.bye.is_some() || !crate::wire::text::is_token(method) {
            return None;
        }
        let cseq = dialog.next_cseq();
        self.next_request += 1;
        let number = self.next_request;
        let known = Method::recognise(method).known().unwrap_or(Method::Other(""));
        let owner = Owner::InLeg(leg_id, number);
        let txn =
            self.txns.start_client(&mut self.core, now, owner, flow, known, |core, listener, branch| {
                // 12.1.1: target refresh requests and those that make a usage carry a Contact.
                core.in_dialog(dialog, flow.listener, method, cseq, branch, |w| {
                    w.contact(listener);
                    for (name, value) in headers {
                        w.foreign(name, value);
                    }
                })
                .finish(body)
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
        response: Result<&Message, RequestFailure>,
    ) {
        if let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) {
            session.requests.retain(|(_, txn)| *txn != txn_id);
        }
        let status = response.map_or_else(RequestFailure::status, Message::status);
        if let Ok(response) = response
            && matches!(status, 401 | 407)
            && self.retry_in_dialog(now, leg_id, method, Owner::InLeg(leg_id, number), request, response)
        {
            return;
        }
        let result = response.cloned();
        self.core.tell(Event::Response { request: number, result });
        // 12.2.1.2; but an OPTIONS asks whether the other side is there, and its user judges the answer.
        if matches!(status, 408 | 481)
            && method != Method::Options
            && self.legs.get_mut(leg_id).and_then(Leg::session).is_some()
        {
            self.end_with_bye(now, leg_id, End::NoAnswer);
        }
    }

    pub(super) fn record(&self, leg_id: u64) -> Option<DialogRecord> {
        let leg = self.legs.get(leg_id)?;
        let dialog = leg.dialog.as_ref()?;
        if !matches!(leg.phase, Phase::Talking(_)) {
            return None;
        }
        let flow = leg.flow(&self.core);
        Some(DialogRecord {
            call_id: dialog.call_id.to_string(),
            local: dialog.local.to_string(),
            remote: dialog.remote.to_string(),
            target: dialog.target.to_string(),
            routes: dialog.routes.iter().map(ToString::to_string).collect(),
            local_cseq: dialog.local_cseq,
            remote_cseq: dialog.remote_cseq,
            listener: flow.listener,
            destination: flow.remote,
        })
    }
}

//! Offers inside a dialog, ours and theirs: re-INVITE and UPDATE, before the answer too, with glare
//! (RFC 3261 14, RFC 3311). The refreshes of a session timer take the same road.

use bytes::Bytes;
use cordboard_base::{Now, ms};

use super::Endpoint;
use super::compose::{self, SDP};
use super::core::{Core, LegTimer, Wake};
use super::leg::{Leg, OurOffer, Phase};
use super::refresh::MIN_SE_S;
use super::txns::{Owner, Txn};
use super::types::{End, Event, LegId, Listener, RequestFailure};
use crate::wire::{Message, Method, Name, text};

/// After so many 491 in a row the offer is given up.
const MAX_GLARES: u8 = 8;

impl Endpoint {
    // ---- Theirs ----

    /// A re-INVITE or an UPDATE (14.2; RFC 3311 5.2).
    pub(super) fn on_offer(&mut self, now: Now, txn_id: u64, leg_id: u64, request: &Message) {
        if self.refuses_interval(now, txn_id, request) {
            return;
        }
        let invite = request.method() == Method::Invite;
        let offers = invite || request.has_sdp();
        let tag = request.from().and_then(|f| f.tag()).unwrap_or("");
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let theirs = leg.theirs.is_some_and(|t| self.txns.get(t).is_some_and(Txn::is_open));
        let ours = leg.ours.as_ref().is_some_and(|o| o.txn.is_some() && o.offers());
        let (mine, theirs) = match &leg.phase {
            // A 2xx of ours without ACK: our side of that exchange is not over (RFC 5407 3.1.4).
            Phase::Talking(s) => (ours || s.owed_ack.is_some() || invite && s.unacked.is_some(), theirs),
            // Before the answer our offer is out, unless a reliable response has answered it.
            Phase::Calling(calling) => {
                let answered = calling.early.iter().any(|e| e.answered && *e.dialog.remote_tag == *tag);
                (ours || invite || !answered, theirs)
            }
            // Theirs is out, unless a reliable response of ours has answered it.
            Phase::Ringing(ringing) => {
                let answered = ringing.reliable.as_ref().is_some_and(|r| r.answered);
                (ours, theirs || invite || !answered)
            }
            Phase::Cancelling(_) | Phase::Ending { .. } => {
                return self.respond_with(now, txn_id, 481, |b| b);
            }
        };
        // 14.2: a second INVITE before the final response to the first "MUST" get 500 with a Retry-After
        // "with a randomly chosen value of between 0 and 10 seconds".
        if offers && theirs {
            let after = self.core.random.below(11);
            return self.respond_with(now, txn_id, 500, |b| b.format(Name::RetryAfter, after));
        }
        // 14.2: "A UAS that receives an INVITE on a dialog while an INVITE it had sent on that dialog is in
        // progress MUST return a 491".
        if offers && mine {
            return self.respond_with(now, txn_id, 491, |b| b);
        }
        if let Some(dialog) = leg.dialog_with(tag) {
            dialog.refresh_target(request);
        }
        if !offers {
            return self.accept_session(now, leg_id, txn_id, None);
        }
        if invite {
            self.respond_with(now, txn_id, 100, |b| b);
        }
        self.hand_offer_over(txn_id, leg_id, request);
        if self.legs.get_mut(leg_id).and_then(Leg::session).is_some_and(|s| s.bye.is_some()) {
            // The user has hung up and hears nothing any more.
            self.answer_offer(now, leg_id, 488, None);
        }
    }

    /// Tells the user of an offer, and waits for the answer.
    pub(super) fn hand_offer_over(&mut self, txn_id: u64, leg_id: u64, request: &Message) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        leg.theirs = Some(txn_id);
        if let Some(txn) = self.txns.get_mut(txn_id) {
            txn.owner = Owner::Offer(leg_id);
        }
        if leg.session().is_none_or(|s| s.bye.is_none()) {
            self.core.tell(Event::Offer { leg: LegId(leg_id), request: request.clone() });
        }
    }

    /// Answers their offer: 200 with `sdp`, or a failure.
    pub(super) fn answer_offer(&mut self, now: Now, leg_id: u64, status: u16, sdp: Option<&str>) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Some(txn_id) = leg.theirs.take() else { return };
        let Some(request) = self.txns.get(txn_id).and_then(|t| t.request.clone()) else { return };
        if status >= 300 {
            return self.respond_with(now, txn_id, status, |b| b);
        }
        self.accept_session(now, leg_id, txn_id, sdp);
        if request.method() == Method::Invite {
            self.await_ack(now, leg_id, txn_id, request.cseq().map_or(0, |(n, _)| n), false);
        }
    }

    // ---- Ours ----

    /// Whether nothing is in the way of an offer or a refresh of ours (14.1, RFC 3311 5.1).
    pub(super) fn may_offer(&mut self, leg_id: u64) -> bool {
        let full = self.txns.len() >= self.core.config.max_transactions;
        let Some(leg) = self.legs.get_mut(leg_id) else { return false };
        let theirs = leg.theirs.is_some_and(|t| self.txns.get(t).is_some_and(Txn::is_open));
        if full || theirs || leg.ours.is_some() {
            return false;
        }
        match &leg.phase {
            Phase::Talking(s) => s.unacked.is_none() && s.owed_ack.is_none() && s.bye.is_none(),
            Phase::Calling(calling) => calling.early.iter().any(|e| e.answered),
            Phase::Ringing(ringing) => ringing.reliable.as_ref().is_some_and(|r| r.answered),
            Phase::Cancelling(_) | Phase::Ending { .. } => false,
        }
    }

    /// Sends our offer by re-INVITE or UPDATE, if nothing is in its way.
    pub(super) fn start_offer(&mut self, now: Now, leg_id: u64, sdp: &str, update: bool) -> bool {
        let talks = self.legs.get_mut(leg_id).and_then(Leg::session).is_some();
        if !self.may_offer(leg_id) || !(update || talks) {
            return false;
        }
        let Some(leg) = self.legs.get_mut(leg_id) else { return false };
        let sdp = Some(sdp.to_owned());
        leg.ours = Some(OurOffer { sdp, update, asked: true, txn: None, retry: None, glares: 0 });
        self.send_offer(now, leg_id);
        true
    }

    pub(super) fn send_offer(&mut self, now: Now, leg_id: u64) {
        let timer_s = self.core.config.session_expires_s;
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let (peer, min_se_s) = (leg.peer, leg.min_se_s);
        // What was agreed goes on: the same interval, the same refresher.
        let (interval_s, refresher) = match &leg.timer {
            Some(timer) => {
                (timer.interval_s, if timer.we_refresh { ";refresher=uac" } else { ";refresher=uas" })
            }
            None => (timer_s, ""),
        };
        let interval_s = if interval_s > 0 { interval_s.max(min_se_s) } else { 0 };
        let Some((dialog, ours)) = leg.dialog_and_offer() else { return };
        let flow = self.core.flow_in_dialog(peer, &dialog.path());
        let cseq = dialog.next_cseq();
        let (name, method) =
            if ours.update { ("UPDATE", Method::Update) } else { ("INVITE", Method::Invite) };
        let sdp = &ours.sdp;
        let start = |core: &mut Core, listener: Listener, branch: &str| {
            let w = core.in_dialog(dialog, flow.listener, name, cseq, branch, |w| {
                w.contact(listener);
                w.header("Allow", compose::ALLOW);
                w.header("Supported", compose::supported(&core.config, true));
                if interval_s > 0 {
                    w.header("Session-Expires", &format!("{interval_s}{refresher}"));
                    w.header("Min-SE", &min_se_s.max(MIN_SE_S).to_string());
                }
            });
            w.finish(sdp.as_ref().map(|sdp| (SDP, sdp.as_bytes())))
        };
        let txn = self.txns.start_client(&mut self.core, now, Owner::Offer(leg_id), flow, method, start);
        ours.txn = Some(txn);
    }

    /// The 2xx to our re-INVITE.
    pub(super) fn on_reoffer_success(&mut self, now: Now, txn_id: u64, leg_id: u64, response: &Message) {
        if self.legs.get_mut(leg_id).and_then(Leg::session).is_none() {
            return self.disown_success(now, txn_id, response);
        }
        if let Some(dialog) = self.legs.get_mut(leg_id).and_then(|leg| leg.dialog.as_mut()) {
            dialog.refresh_target(response);
        }
        self.send_ack(txn_id, leg_id, response, None);
        self.offer_taken(now, txn_id, leg_id, response);
    }

    /// Our offer or refresh was accepted.
    fn offer_taken(&mut self, now: Now, txn_id: u64, leg_id: u64, response: &Message) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Some(ours) = leg.ours.take_if(|o| o.txn == Some(txn_id)) else { return };
        if let Some(sdp) = ours.sdp {
            leg.said = Some(sdp.into());
        }
        self.timer_granted(now, leg_id, response);
        if ours.asked {
            self.core.tell(Event::OfferResult { leg: LegId(leg_id), result: Ok(response.clone()) });
        }
    }

    fn disown_success(&mut self, now: Now, txn_id: u64, response: &Message) {
        if let Some(txn) = self.txns.get_mut(txn_id) {
            txn.owner = Owner::Nobody;
        }
        self.on_invite_success(now, txn_id, response);
    }

    /// The final response to an UPDATE of ours, a failure of a re-INVITE, or none of either.
    pub(super) fn on_offer_final(
        &mut self,
        now: Now,
        txn_id: u64,
        leg_id: u64,
        method: Method<'static>,
        request: &Bytes,
        response: Result<&Message, RequestFailure>,
    ) {
        let status = response.map_or_else(RequestFailure::status, Message::status);
        if let Ok(response) = response {
            if (200..300).contains(&status) {
                let tag = response.to().and_then(|t| t.tag()).unwrap_or("");
                if let Some(dialog) = self.legs.get_mut(leg_id).and_then(|leg| leg.dialog_with(tag)) {
                    dialog.refresh_target(response);
                }
                return self.offer_taken(now, txn_id, leg_id, response);
            }
            if matches!(status, 401 | 407)
                && self.retry_in_dialog(now, leg_id, method, Owner::Offer(leg_id), request, response)
            {
                return;
            }
        }
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Some(ours) = leg.ours.as_mut().filter(|o| o.txn == Some(txn_id)) else { return };
        ours.txn = None;
        if status == 491 && ours.glares < MAX_GLARES {
            ours.glares += 1;
            // 14.1: "If the UAC is the owner of the Call-ID ... T has a randomly chosen value between 2.1 and
            // 4 seconds in units of 10 ms", otherwise between 0 and 2 seconds.
            let wait_ms = if leg.caller {
                2_100 + 10 * self.core.random.below(191)
            } else {
                10 * self.core.random.below(201)
            };
            ours.retry = Some(self.core.wake(now, ms(wait_ms), Wake::Leg(leg_id, LegTimer::Reoffer)));
            return;
        }
        // RFC 4028 7.4: the interval was too small for somebody on the way.
        if status == 422
            && let Some(min_se_s) = response.ok().and_then(|r| r.header(Name::MinSe)).and_then(text::number)
            && min_se_s > leg.min_se_s
        {
            leg.min_se_s = min_se_s;
            return self.send_offer(now, leg_id);
        }
        // Whoever has no UPDATE after all is refreshed by re-INVITE, at the next turn.
        leg.allows_update &= !(ours.update && matches!(status, 405 | 501));
        let asked = ours.asked;
        leg.ours = None;
        if asked {
            self.core.tell(Event::OfferResult { leg: LegId(leg_id), result: Err(status) });
        }
        // 12.2.1.2: "If the response for a request within a dialog is a 481 or a 408, the UAC SHOULD
        // terminate the dialog", and so when none comes.
        if matches!(status, 408 | 481) && self.legs.get_mut(leg_id).and_then(Leg::session).is_some() {
            self.end_with_bye(now, leg_id, End::NoAnswer);
        }
    }

    pub(super) fn on_reoffer_timer(&mut self, now: Now, leg_id: u64) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let theirs = leg.theirs.is_some_and(|t| self.txns.get(t).is_some_and(Txn::is_open));
        let busy = theirs || leg.session().is_some_and(|s| s.unacked.is_some());
        let Some(ours) = &mut leg.ours else { return };
        ours.retry = None;
        if busy {
            // Theirs won and is not through yet.
            ours.retry = Some(self.core.wake(now, ms(500), Wake::Leg(leg_id, LegTimer::Reoffer)));
            return;
        }
        self.send_offer(now, leg_id);
    }
}

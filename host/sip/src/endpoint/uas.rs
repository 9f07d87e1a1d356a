//! Calls that come in: INVITE, our responses to it, CANCEL, and the ACK (RFC 3261 8.2, 9.2, 13.3).

use std::sync::Arc;

use cordboard_base::{Now, TimerId, secs};

use super::Endpoint;
use super::compose::{self, SDP};
use super::core::{LegTimer, Wake};
use super::leg::{Leg, Phase, Ringing, Session, Unacked};
use super::reliable::Wants;
use super::txns::Owner;
use super::types::{End, Event, Flow, LegId};
use crate::dialog::Dialog;
use crate::transaction::{Class, Input};
use crate::wire::{Builder, Message, Method, Name};

impl Endpoint {
    /// A new INVITE outside any dialog, screened and with its transaction.
    pub(super) fn on_new_invite(&mut self, now: Now, txn_id: u64, source: Flow, request: &Message) {
        if self.legs.len() >= self.core.config.max_legs {
            self.core.totals.refused_full += 1;
            let after = (1 + self.core.random.below(5)).to_string();
            return self.respond_with(now, txn_id, 503, |b| b.header(Name::RetryAfter, &after));
        }
        if self.refuses_interval(now, txn_id, request) {
            return;
        }
        let Ok(replaces) = self.replaced(now, txn_id, request) else { return };
        let leg_id = self.legs.next_id();
        let tag = self.core.mint("", leg_id);
        let call_id: Arc<str> = request.call_id().into();
        let dialog = Dialog::callee(&call_id, request, &tag);
        let Some(txn) = self.txns.get_mut(txn_id) else { return };
        txn.owner = Owner::Leg(leg_id);
        txn.to_tag = tag.clone();
        self.legs.insert(Leg {
            tag,
            call_id,
            invite_cseq: request.cseq().map_or(0, |(n, _)| n),
            caller: false,
            peer: source,
            auth: None,
            dialog: Some(dialog),
            ours: None,
            theirs: None,
            timer: None,
            min_se_s: 0,
            allows_update: request.headers(Name::Allow).any(|m| m == "UPDATE"),
            referred: false,
            said: None,
            phase: Phase::Ringing(Ringing {
                txn: txn_id,
                remind: None,
                offered: request.has_sdp(),
                wants: Wants::of(request),
                reliable: None,
            }),
        });
        // 17.2.1: 100 at once, since how long the user takes is not known.
        self.respond_with(now, txn_id, 100, |b| b);
        self.core.tell(Event::Incoming { leg: LegId(leg_id), source, request: request.clone(), replaces });
    }

    pub(super) fn send_progress(&mut self, now: Now, leg_id: u64, status: u16, sdp: Option<&str>) {
        if !(101..200).contains(&status) {
            return;
        }
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Phase::Ringing(ringing) = &mut leg.phase else { return };
        self.core.stop(&mut ringing.remind);
        ringing.remind = Some(self.core.wake(now, secs(60), Wake::Leg(leg_id, LegTimer::Remind)));
        let txn = ringing.txn;
        if !self.send_reliably(now, leg_id, status, sdp) {
            self.respond_in_dialog(now, txn, status, sdp, |b| b);
        }
    }

    /// 13.3.1.1: a provisional response is repeated every minute, so that no proxy gives the call up.
    pub(super) fn on_remind(&mut self, now: Now, leg_id: u64) {
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Phase::Ringing(ringing) = &mut leg.phase else { return };
        ringing.remind = Some(self.core.wake(now, secs(60), Wake::Leg(leg_id, LegTimer::Remind)));
        let txn = ringing.txn;
        self.txns.step(&mut self.core, now, txn, Input::Request);
    }

    pub(super) fn send_answer(&mut self, now: Now, leg_id: u64, sdp: Option<&str>) {
        if self.hold_answer(leg_id, sdp) {
            return;
        }
        let Some(leg) = self.legs.get_mut(leg_id) else { return };
        let Phase::Ringing(ringing) = &mut leg.phase else { return };
        self.core.stop(&mut ringing.remind);
        let (txn, cseq) = (ringing.txn, leg.invite_cseq);
        leg.phase = Phase::Talking(Session::default());
        self.accept_session(now, leg_id, txn, sdp);
        self.await_ack(now, leg_id, txn, cseq, true);
    }

    /// 13.3.1.4: the 2xx is repeated by us, not by the transaction, until its ACK.
    pub(super) fn await_ack(&mut self, now: Now, leg_id: u64, txn: u64, cseq: u32, initial: bool) {
        let times = self.core.times;
        let repeat = Some(self.core.wake(now, times.t1_ns, Wake::Leg(leg_id, LegTimer::Repeat2xx)));
        let limit = Some(self.core.wake(now, times.give_up_ns(), Wake::Leg(leg_id, LegTimer::NoAck)));
        if let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) {
            let interval_ns = times.t1_ns;
            session.unacked = Some(Unacked { txn, cseq, initial, repeat, limit, interval_ns });
        }
    }

    pub(super) fn on_repeat_2xx(&mut self, now: Now, leg_id: u64) {
        let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) else { return };
        let Some(unacked) = &mut session.unacked else { return };
        unacked.interval_ns = unacked.interval_ns.saturating_mul(2).min(self.core.times.t2_ns);
        let wake: TimerId = self.core.wake(now, unacked.interval_ns, Wake::Leg(leg_id, LegTimer::Repeat2xx));
        unacked.repeat = Some(wake);
        let txn = unacked.txn;
        self.txns.step(&mut self.core, now, txn, Input::Respond(Class::Success));
    }

    /// 13.3.1.4: "If the server retransmits the 2xx response for 64*T1 seconds without receiving an
    /// ACK, the dialog is confirmed, but the session SHOULD be terminated. This is accomplished with a BYE".
    pub(super) fn on_no_ack(&mut self, now: Now, leg_id: u64) {
        let Some(session) = self.legs.get_mut(leg_id).and_then(Leg::session) else { return };
        if let Some(mut unacked) = session.unacked.take() {
            self.core.stop(&mut unacked.repeat);
        }
        match session.bye.take() {
            Some(reason) => self.send_bye(now, leg_id, reason.as_deref(), false),
            None => self.end_with_bye(now, leg_id, End::NoAck),
        }
    }

    /// The ACK to a 2xx of ours, found by its To tag.
    pub(super) fn on_ack(&mut self, now: Now, ack: &Message) {
        let Some(leg_id) = self.find_leg(ack) else {
            self.core.totals.unmatched += 1;
            return;
        };
        let number = ack.cseq().map(|(n, _)| n);
        let waiting = self.legs.get_mut(leg_id).and_then(Leg::session);
        let Some(session) = waiting.filter(|s| s.unacked.as_ref().map(|u| u.cseq) == number) else {
            self.core.totals.absorbed += 1;
            return;
        };
        let Some(mut unacked) = session.unacked.take() else { return };
        self.core.stop(&mut unacked.repeat);
        self.core.stop(&mut unacked.limit);
        if let Some(txn) = self.txns.get_mut(unacked.txn) {
            // Nobody asks for the 2xx again.
            txn.last = bytes::Bytes::new();
        }
        if let Some(reason) = session.bye.take() {
            return self.send_bye(now, leg_id, reason.as_deref(), false);
        }
        // The ACK of a re-INVITE says something only when it brings the answer.
        if unacked.initial || ack.has_sdp() {
            self.core.tell(Event::Confirmed { leg: LegId(leg_id), ack: ack.clone() });
        }
    }

    /// Refuses an unanswered call; the leg is gone.
    pub(super) fn send_refusal(
        &mut self,
        now: Now,
        leg_id: u64,
        status: u16,
        headers: &[(&str, &str)],
    ) -> bool {
        let Some(leg) = self.legs.get(leg_id) else { return false };
        let Phase::Ringing(ringing) = &leg.phase else { return false };
        let (txn, status) = (ringing.txn, if (300..700).contains(&status) { status } else { 500 });
        self.respond_with(now, txn, status, |b| headers.iter().fold(b, |b, (n, v)| b.header(n, v)));
        self.drop_leg(now, leg_id);
        true
    }

    /// 9.2: answers the CANCEL, and the INVITE that it names if that has no final response.
    pub(super) fn on_cancel(&mut self, now: Now, txn_id: u64, cancel: &Message) {
        let target = self
            .txns
            .identity(cancel, Method::Invite)
            .and_then(|identity| self.txns.find_server(&identity, Method::Invite))
            .and_then(|id| self.txns.get(id).map(|t| (id, t.owner, t.is_open(), t.to_tag.clone())));
        let Some((invite, owner, open, to_tag)) = target else {
            return self.respond_with(now, txn_id, 481, |b| b);
        };
        // "the To tag of the response to the CANCEL and the To tag in the response to the original
        // request SHOULD be the same"
        if let Some(txn) = self.txns.get_mut(txn_id) {
            txn.to_tag = to_tag;
        }
        self.respond_with(now, txn_id, 200, |b| b);
        if !open {
            return;
        }
        self.respond_with(now, invite, 487, |b| b);
        match owner {
            Owner::Leg(leg_id) => {
                self.drop_leg(now, leg_id);
                self.core.tell(Event::Ended { leg: LegId(leg_id), cause: End::Cancelled(cancel.clone()) });
            }
            Owner::Offer(leg_id) => {
                if let Some(leg) = self.legs.get_mut(leg_id) {
                    leg.theirs = None;
                }
            }
            _ => {}
        }
    }

    /// A response that makes or refreshes a dialog: with our Contact (12.1.1), and SDP if there is any.
    pub(super) fn respond_in_dialog(
        &mut self,
        now: Now,
        txn_id: u64,
        status: u16,
        sdp: Option<&str>,
        more: impl FnOnce(Builder) -> Builder,
    ) {
        let Some(listener) = self.txns.get(txn_id).and_then(|t| self.core.listener(t.flow.listener)) else {
            return;
        };
        let supported = compose::supported(&self.core.config, true);
        self.respond_with(now, txn_id, status, |b| {
            let b = b.format(Name::Contact, compose::Contact(listener));
            // 13.3.1.4: the 2xx SHOULD have Allow and Supported.
            let b = if status >= 200 {
                b.header(Name::Allow, compose::ALLOW).header(Name::Supported, supported)
            } else {
                b
            };
            let b = more(b);
            match sdp {
                Some(sdp) => b.body(SDP, sdp.as_bytes()),
                None => b,
            }
        });
    }

    /// Responds to the request of a server transaction that is still open; `more` adds headers.
    pub(super) fn respond_with(
        &mut self,
        now: Now,
        txn_id: u64,
        status: u16,
        more: impl FnOnce(Builder) -> Builder,
    ) {
        let Some(txn) = self.txns.get_mut(txn_id) else { return };
        let Some(request) = &txn.request else { return };
        if status > 100 && txn.to_tag.is_empty() && request.to().is_some_and(|t| t.tag().is_none()) {
            txn.to_tag = self.core.mint("", 0xffff_ffff);
        }
        let mut builder = Builder::response_to(request, Some(txn.flow.remote), status, "");
        if status > 100 && !txn.to_tag.is_empty() {
            builder = builder.to_tag(&txn.to_tag);
        }
        if !self.core.config.user_agent.is_empty() && status > 100 {
            builder = builder.header(Name::Server, &self.core.config.user_agent);
        }
        let bytes = more(builder).finish();
        self.txns.respond(&mut self.core, now, txn_id, status, bytes);
    }
}

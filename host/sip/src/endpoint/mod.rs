//! One shard's SIP stack, without input or output: datagrams and the time go in, datagrams and
//! events come out of [`Endpoint::poll`].
//!
//! It holds the transactions (RFC 3261 17, RFC 6026), the dialogs (12) and the INVITE usages
//! ("legs", 13 to 15), and settles inside itself all that a call has no opinion on:
//! retransmissions, ACK, CANCEL and its crossings, digest challenges and redirects as a client.
//! The signalling shard calls it; it never touches a socket, a clock or a call's media.

//!
//! A datagram travels `inbound` -> `txns` -> one of `uac`, `uas`, `session`, `requests`; what those
//! write comes from `compose`. The phases of a leg are drawn in `leg`.

mod auth;
mod compose;
mod core;
mod flows;
mod inbound;
mod leg;
mod offers;
mod refer;
mod refresh;
mod reliable;
mod requests;
mod session;
mod slots;
mod subscribe;
mod txns;
mod types;
mod uac;
mod uas;

use std::sync::Arc;

use bytes::Bytes;
use cordboard_base::{Map, Now, Random};

use self::core::{Core, LegTimer, Wake};
use self::leg::Leg;
use self::slots::Slots;
use self::txns::{Told, Txns};
use crate::transaction::Input;

pub use crate::transport::Transport;
pub use types::*;

/// The SIP stack of one shard. See the module.
#[derive(Debug)]
pub struct Endpoint {
    core: Core,
    txns: Txns,
    legs: Slots<Leg>,
    requests: Map<u64, requests::Pending>,
    refers: Map<u64, refer::Refer>,
    subscriptions: Map<u64, subscribe::Subscription>,
    next_request: u64,
}

impl Endpoint {
    /// An endpoint without calls.
    #[must_use]
    pub fn new(config: Config, random: Random) -> Self {
        Self {
            core: Core::new(config, random),
            txns: Txns::default(),
            legs: Slots::default(),
            requests: Map::default(),
            refers: Map::default(),
            subscriptions: Map::default(),
            next_request: 0,
        }
    }

    /// Takes one datagram, or one whole message of a stream, whose connection has its number in `flow`. Bad
    /// input is answered or dropped and counted.
    pub fn receive(&mut self, now: Now, flow: Flow, bytes: Bytes) {
        self.on_datagram(now, flow, bytes);
    }

    /// A connection has closed, whoever closed it. What waits for its first answer there fails; responses
    /// that are still owed take a new connection (RFC 3261 18.2.2, 18.4).
    /// `users` are the flows of those [`Output::Send`] that named no connection and took this one.
    pub fn flow_closed(&mut self, now: Now, flow: Flow, users: &[Flow]) {
        self.on_flow_closed(now, flow, users);
    }

    /// No connection could be made for a [`Output::Send`] that named none; `flow` is that of the send.
    pub fn flow_failed(&mut self, now: Now, flow: Flow) {
        self.on_flow_failed(now, flow);
    }

    /// A listener of a transport: the one named if it is, else the nearest.
    #[must_use]
    pub fn listener_for(&self, transport: Transport, near: u16) -> Option<u16> {
        self.core.listener_for(transport, near).map(|l| l.id)
    }

    /// Runs the timers that are due.
    pub fn tick(&mut self, now: Now) {
        while let Some(wake) = self.core.timers.expired(now.mono_ns) {
            match wake {
                Wake::Txn(id, timer) => {
                    if let Told::Over(txn, why) = self.txns.step(&mut self.core, now, id, Input::Fired(timer))
                    {
                        self.on_no_response(now, id, &txn, why);
                    }
                }
                Wake::Refer(number) => self.on_refer_guard(number),
                Wake::Leg(id, LegTimer::Repeat2xx) => self.on_repeat_2xx(now, id),
                Wake::Leg(id, LegTimer::NoAck) => self.on_no_ack(now, id),
                Wake::Leg(id, LegTimer::Remind) => self.on_remind(now, id),
                Wake::Leg(id, LegTimer::Silent) => self.on_silent_target(now, id),
                Wake::Leg(id, LegTimer::Reoffer) => self.on_reoffer_timer(now, id),
                Wake::Leg(id, LegTimer::RepeatReliable) => self.on_repeat_reliable(now, id),
                Wake::Leg(id, LegTimer::NoPrack) => self.on_no_prack(now, id),
                Wake::Leg(id, LegTimer::Refresh) => self.on_refresh(now, id),
                Wake::Leg(id, LegTimer::Expire) => self.on_expire(now, id),
            }
        }
    }

    /// When the next timer is due, on the monotonic clock.
    pub fn next_deadline_ns(&mut self) -> Option<u64> {
        self.core.timers.next_deadline()
    }

    /// The next thing to send or to hear, until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.core.out.pop_front()
    }

    /// Places a call.
    ///
    /// # Errors
    /// When a limit is reached, or nothing says where to send.
    pub fn invite(&mut self, now: Now, invite: Invite) -> Result<LegId, Full> {
        self.start_invite(now, invite)
    }

    /// Sends a provisional response, 101 to 199, to an incoming leg.
    pub fn progress(&mut self, now: Now, leg: LegId, status: u16, sdp: Option<&str>) {
        self.send_progress(now, leg.0, status, sdp);
    }

    /// Answers an incoming leg with 200, retransmitted until the ACK (RFC 3261 13.3.1.4).
    pub fn answer(&mut self, now: Now, leg: LegId, sdp: Option<&str>) {
        self.send_answer(now, leg.0, sdp);
    }

    /// Refuses an unanswered incoming leg with a 3xx to 6xx. The leg is gone; no event follows.
    pub fn reject(&mut self, now: Now, leg: LegId, status: u16, headers: &[(&str, &str)]) {
        self.send_refusal(now, leg.0, status, headers);
    }

    /// Ends a leg by CANCEL, BYE or a final response, as its state asks. `Released` follows, and nothing else.
    /// `reason` is the value of a Reason header (RFC 3326).
    pub fn hang_up(&mut self, now: Now, leg: LegId, reason: Option<&str>) {
        self.end_leg(now, leg.0, reason);
    }

    /// Sends the ACK with the answer, when the 2xx to our INVITE had the offer.
    pub fn ack(&mut self, _now: Now, leg: LegId, sdp: &str) {
        let Some(session) = self.legs.get_mut(leg.0).and_then(Leg::session) else { return };
        if let Some((txn, response)) = session.owed_ack.take() {
            self.send_ack(txn, leg.0, &response, Some(sdp));
            if let Some(leg) = self.legs.get_mut(leg.0) {
                leg.said = Some(sdp.into());
            }
        }
    }

    /// Offers again by re-INVITE; after a 491 once more (RFC 3261 14.1). False when it cannot be done now.
    pub fn reoffer(&mut self, now: Now, leg: LegId, sdp: &str) -> bool {
        self.start_offer(now, leg.0, sdp, false)
    }

    /// Offers by UPDATE (RFC 3311), before the answer too once a reliable provisional response has answered
    /// the INVITE's offer. `OfferResult` follows. False when it cannot be done now.
    pub fn update(&mut self, now: Now, leg: LegId, sdp: &str) -> bool {
        self.start_offer(now, leg.0, sdp, true)
    }

    /// Sets the session interval that is asked for and granted from now on; 0: no session timers.
    pub fn set_session_expires_s(&mut self, seconds: u32) {
        self.core.config.session_expires_s = seconds;
    }

    /// The interval of the leg's session timer in seconds, if there is one (RFC 4028): it is how long a peer
    /// that is gone may stay undiscovered.
    #[must_use]
    pub fn session_interval_s(&self, leg: LegId) -> Option<u32> {
        self.legs.get(leg.0)?.timer.as_ref().map(|t| t.interval_s)
    }

    /// The user has found out that the other side is gone: BYE, and [`Event::Ended`] with [`End::NoAnswer`].
    pub fn give_up(&mut self, now: Now, leg: LegId) {
        if self.legs.get_mut(leg.0).and_then(Leg::session).is_some() {
            self.end_with_bye(now, leg.0, End::NoAnswer);
        }
    }

    /// Accepts the offer of a re-INVITE or UPDATE; `None` when there is nothing to answer with.
    pub fn accept_offer(&mut self, now: Now, leg: LegId, sdp: Option<&str>) {
        self.answer_offer(now, leg.0, 200, sdp);
    }

    /// Refuses the offer of a re-INVITE or UPDATE with a status from 400; the session goes on as before.
    pub fn refuse_offer(&mut self, now: Now, leg: LegId, status: u16) {
        self.answer_offer(now, leg.0, if (400..700).contains(&status) { status } else { 488 }, None);
    }

    /// Sends a request outside any dialog. A `Response` event with this number follows.
    pub fn request(&mut self, now: Now, request: OutRequest) -> u64 {
        self.send_request(now, request)
    }

    /// Sends a request inside a confirmed dialog: INFO, REFER, MESSAGE. `None` when the leg cannot.
    pub fn leg_request(
        &mut self,
        now: Now,
        leg: LegId,
        method: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Option<u64> {
        self.send_in_leg(now, leg.0, method, &[], content_type.map(|t| (t, body)))
    }

    /// Asks the other side of a confirmed leg to call somebody (RFC 3515): `refer_to` is a name-addr. Its
    /// `Response` says whether it will; how it goes comes in NOTIFYs, as requests of the leg.
    pub fn refer(&mut self, now: Now, leg: LegId, refer_to: &str, referred_by: Option<&str>) -> Option<u64> {
        let mut headers = vec![("Refer-To", refer_to)];
        headers.extend(referred_by.map(|value| ("Referred-By", value)));
        self.send_in_leg(now, leg.0, "REFER", &headers, None)
    }

    /// Accepts an [`Event::Refer`]; say how it goes by `refer_news`. `None` when that cannot be.
    pub fn accept_refer(&mut self, now: Now, txn: TxnId, leg: LegId) -> Option<ReferId> {
        self.start_refer(now, txn.0, leg.0)
    }

    /// Reports how a transfer goes: the status of the call that was placed for it. A final one ends the
    /// report.
    pub fn refer_news(&mut self, now: Now, refer: ReferId, status: u16) {
        self.notify(now, refer.0, status);
    }

    /// Accepts a SUBSCRIBE that came as [`Event::Request`]: 200 with this Expires. A NOTIFY must follow
    /// (RFC 6665 4.2.1.2). `None` when that cannot be; then it is answered.
    pub fn accept_subscription(&mut self, now: Now, txn: TxnId, expires_s: u32) -> Option<SubscriptionId> {
        self.start_subscription(now, txn.0, expires_s)
    }

    /// Accepts an [`Event::Resubscribe`]: 200 with this Expires. A NOTIFY must follow.
    pub fn renew_subscription(&mut self, now: Now, txn: TxnId, expires_s: u32) {
        self.renew(now, txn.0, expires_s);
    }

    /// Tells a watcher; with a state that is `terminated` the subscription is gone.
    pub fn notify_subscription(&mut self, now: Now, subscription: SubscriptionId, news: Notification) {
        self.notify_watcher(now, subscription.0, news);
    }

    /// Answers an [`Event::Request`] or refuses an [`Event::Refer`] or [`Event::Resubscribe`].
    pub fn respond(
        &mut self,
        now: Now,
        txn: TxnId,
        status: u16,
        headers: &[(&str, &str)],
        body: Option<(&str, &[u8])>,
    ) {
        self.answer_request(now, txn.0, status, headers, body);
    }

    /// The dialog of a confirmed leg as plain data.
    #[must_use]
    pub fn dialog(&self, leg: LegId) -> Option<DialogRecord> {
        self.record(leg.0)
    }

    /// The Call-ID of a leg, incoming or outgoing, from its first message on.
    #[must_use]
    pub fn call_id(&self, leg: LegId) -> Option<&Arc<str>> {
        self.legs.get(leg.0).map(|l| &l.call_id)
    }

    /// The CSeq of the leg's INVITE, incoming or outgoing.
    #[must_use]
    pub fn cseq(&self, leg: LegId) -> Option<u32> {
        self.legs.get(leg.0).map(|l| l.invite_cseq)
    }

    /// Sends a BYE for a dialog of a former life of the process, with a CSeq well above the recorded one.
    /// No event follows.
    pub fn end_orphan(&mut self, now: Now, record: &DialogRecord, reason: &str) {
        self.send_orphan_bye(now, record, reason);
    }

    /// What lives now, and totals.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            legs: self.legs.len(),
            transactions: self.txns.len(),
            timers: self.core.timers.len(),
            requests: self.requests.len(),
            flows: self.core.flows.len(),
            refers: self.refers.len(),
            subscriptions: self.subscriptions.len(),
            ..self.core.totals
        }
    }
}

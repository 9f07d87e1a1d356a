//! Steps 16 to 18: the one judge of an offer, and the conversation that comes out of it.
//!
//! ```text
//!   Offer --> media leg, INVITE, ring timer --+-- 200 -------> Join, Accepted; the others Lost
//!                                             +-- 4xx..6xx --> Busy, Declined, Unreachable
//!                                             +-- timer -----> NoAnswer
//!                                             +-- revoke ----> Revoked
//!                                             +-- caller ----> CallerGone
//!   Whatever comes first settles the token; a 200 that crosses is met by ACK and BYE.
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;

use cordboard_base::Id;
use cordboard_media::control::{self, Command};
use cordboard_sip::endpoint::{End, Flow, Invite, LegId};
use cordboard_sip::sdp::Direction;
use cordboard_sip::wire::Message;

use super::call::{Call, Native, Side, Wake};
use super::core::Core;
use super::names::{Asker, Way};
use crate::bridge::{self, Ring, Round, Talk, elapsed_ms};
use crate::center::cause::Said;
use crate::center::{self, Party};
use crate::handoff::Station;
use crate::messages::{
    CallCommand, Offer, OfferResult, Outcome, Settled, TalkEnd, TicketState, ToDomain, ToShard,
};
use crate::timeline::Step;
use crate::trunk::hunt;

/// Redirects of an agent's phone that are followed.
const REDIRECTS: u8 = 4;

impl Core {
    /// What the domain says of a call that lives.
    pub(super) fn told(&mut self, call: &mut Call, body: ToShard) {
        match body {
            ToShard::Offer(offer) => self.offer(call, offer),
            ToShard::Revoke { token } => self.revoke(call, token),
            ToShard::Confirm { token } => self.confirm(call, token),
            ToShard::Lapsed { token } => self.lapsed(call, token),
            _ if call.ended.is_some() => {}
            ToShard::Enqueued { key, result } => self.enqueued(call, key, result),
            ToShard::Ticket { ticket, state, position, wait_s } => {
                self.ticket(call, ticket, state, position, wait_s)
            }
            ToShard::Left { request, result } => self.left(call, request, result),
            ToShard::Located { request, phone } => self.located(call, request, phone),
            ToShard::Command(command) => self.command(call, command),
            ToShard::Refuse { status, text } => {
                let status = if (400..700).contains(&status) { status } else { 503 };
                self.finish_with(call, center::cause::of_status(status), "host", &text, status);
            }
            ToShard::Registered { .. } | ToShard::AgentState { .. } => {}
        }
    }

    /// An offer for a call that this shard does not have (any more).
    pub(super) fn no_call(&mut self, interaction: Option<Id>, offer: Offer) {
        for agent in offer.agents {
            self.totals.offers_other += 1;
            let settled = Settled {
                token: agent.token,
                ticket: offer.ticket,
                agent: agent.agent,
                result: OfferResult::NoCall,
                rang_ms: 0,
            };
            self.envelope(interaction, Vec::new(), ToDomain::Settled(settled));
        }
    }

    /// Step 16.
    fn offer(&mut self, call: &mut Call, offer: Offer) {
        let waits = call.place.as_ref().is_some_and(|p| p.ticket == offer.ticket);
        if call.ended.is_some() || !waits || call.taken() || call.round.is_some() || offer.agents.is_empty() {
            return self.no_call(Some(call.interaction), offer);
        }
        self.hand_off(call, Station::Agent);
        if let Some(place) = &mut call.place {
            place.state = TicketState::Offered;
        }
        let mut rings = Vec::with_capacity(offer.agents.len());
        for agent in offer.agents {
            let media = self.open_media(call.key);
            let party = Party::new(media, self.random.next_u64());
            self.tokens.insert(agent.token, call.key);
            rings.push(Ring {
                token: agent.token,
                agent: agent.agent,
                uri: agent.uri,
                flow: agent.flow,
                addresses: VecDeque::new(),
                party,
            });
        }
        call.round = Some(Round {
            ticket: offer.ticket,
            workgroup: offer.workgroup,
            since: self.now,
            ring_timeout_ms: offer.ring_timeout_ms,
            lease_ms: offer.lease_ms,
            rings,
        });
        self.arm(call, Wake::Ring, offer.ring_timeout_ms);
        self.arm(call, Wake::Renew, (offer.lease_ms / 3).max(1));
    }

    /// The media leg of a ring is open: the phone can be told where to send.
    pub(super) fn ring(&mut self, call: &mut Call, media: control::LegId, address: SocketAddr) {
        let Some(ring) = call.round.as_mut().and_then(|r| r.by_media(media)) else { return };
        ring.party.address = Some(address);
        if let Some(flow) = ring.flow {
            return self.ring_at(call, media, flow);
        }
        let uri = ring.uri.clone();
        match self.way_to(&uri, Asker::Ring(call.key, media)) {
            Way::Known(addresses) => self.ring_resolved(call, media, Ok(addresses)),
            Way::Asked(_) => {}
            Way::Lost(why) => self.ring_resolved(call, media, Err(why)),
        }
    }

    /// Where the phone is.
    pub(super) fn ring_resolved(
        &mut self,
        call: &mut Call,
        media: control::LegId,
        answer: Result<VecDeque<Flow>, String>,
    ) {
        let Some(ring) = call.round.as_mut().and_then(|r| r.by_media(media)) else { return };
        match answer {
            Ok(mut addresses) if !addresses.is_empty() => {
                let Some(first) = addresses.pop_front() else { return };
                ring.addresses = addresses;
                self.ring_at(call, media, first);
            }
            nowhere => {
                let why = nowhere.err().unwrap_or_else(|| "it has no address".to_owned());
                let (agent, token) = (ring.agent.clone(), ring.token);
                self.line(call, Step::After, format!("{agent}: {why}")).token = Some(token);
                self.settle_media(call, media, OfferResult::Unreachable { status: 0 });
            }
        }
    }

    fn ring_at(&mut self, call: &mut Call, media: control::LegId, at: Flow) {
        let codecs = center::codecs(call.caller.codec(), &call.trunk().codecs);
        let mut headers = call.own_headers();
        let Some(round) = &mut call.round else { return };
        let workgroup = round.workgroup.to_string();
        let (ticket, ring_timeout_ms) = (round.ticket, round.ring_timeout_ms);
        let Some(ring) = round.by_media(media) else { return };
        let sdp = ring.party.make_offer(&codecs, Direction::SendRecv);
        headers.extend([
            ("X-Cordboard-Interaction".to_owned(), call.interaction.to_string()),
            ("X-Cordboard-Workgroup".to_owned(), workgroup),
        ]);
        let (token, agent) = (ring.token, ring.agent.clone());
        let invite = Invite {
            listener: at.listener,
            target: ring.uri.clone(),
            destination: Some(at.remote),
            connection: at.connection,
            name: at.name,
            from: self.caller_header(at.listener, &call.number, &call.name),
            to: format!("<{}>", ring.uri),
            headers,
            sdp,
            redirects: REDIRECTS,
            silent_target_ms: call.model.limits.silent_target_ms,
            // The next address of the same name is asked before the ring timer has run.
            silent_first: !ring.addresses.is_empty(),
            ..Invite::default()
        };
        match self.invite(call.key, invite) {
            Ok(leg) => {
                ring.party.leg = Some(leg);
                let detail = format!("{agent}, rings up to {ring_timeout_ms} ms");
                let line = self.leg_line(call, Some(leg), Step::SentToAgent, detail);
                line.token = Some(token);
                line.ticket = Some(ticket);
                // So that whoever watches sees it ring, and not only what came of it.
                self.tell(call, ToDomain::Note);
            }
            Err(full) => {
                self.line(call, Step::After, format!("{agent}: {full}"));
                self.settle_media(call, media, OfferResult::Unreachable { status: 0 });
            }
        }
    }

    /// The From of a leg that we dial: the caller, at our address.
    pub(super) fn caller_header(&self, listener: u16, number: &str, name: &str) -> String {
        let local = self.config.listeners.iter().find(|l| l.id == listener).or(self.config.listeners.first());
        let host = local.map_or_else(|| ([0, 0, 0, 0], 5060).into(), |l| l.local);
        center::from_header(number, name, host)
    }

    // ---- Judging ----

    /// Step 17: an agent's 200.
    pub(super) fn accepted(&mut self, call: &mut Call, leg: LegId, response: &Message) {
        let Some(round) = &mut call.round else { return };
        let Some(mut ring) = round.take_leg(leg) else { return };
        let remote = match ring.party.accept(response.sdp().unwrap_or_default()) {
            Ok(remote) => remote,
            Err(error) => {
                let (agent, token) = (ring.agent.clone(), ring.token);
                self.line(call, Step::After, format!("{agent}: {error}")).token = Some(token);
                self.settle(call, ring, OfferResult::Unreachable { status: 488 }, "Q.850;cause=65");
                return self.round_over(call, token);
            }
        };
        // The two hear each other before anything else happens.
        if let (Some(a), Some(b)) = (call.caller.media, ring.party.media) {
            self.media(Command::Remote { leg: b, remote });
            self.media(Command::Join { a, b });
        }
        self.dialog_up(leg, call.interaction);
        let Some(round) = call.round.take() else { return };
        let settled = round.settle(self.now, &ring, OfferResult::Accepted);
        let (ticket, lease_ms) = (round.ticket, round.lease_ms);
        self.hand_off(call, Station::Bridge);
        let line = self.leg_line(call, Some(leg), Step::Bridged, ring.agent.to_string());
        line.token = Some(ring.token);
        line.ticket = Some(ticket);
        self.stop_ring_timer(call, ring.token, "cancelled: answered");
        self.totals.offers_accepted += 1;
        let again = settled.clone();
        self.tell(call, ToDomain::Settled(settled));
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.settled_twice {
            self.tell(call, ToDomain::Settled(again.clone()));
        }
        drop(again);
        let others = round.rings.len();
        call.round = (others > 0).then_some(round);
        while let Some(token) = call.round.as_ref().and_then(|r| r.rings.first()).map(|r| r.token) {
            self.settle_token(
                call,
                token,
                OfferResult::Lost,
                "SIP;cause=200;text=\"Call completed elsewhere\"",
            );
        }
        call.round = None;
        if let Some(place) = &mut call.place {
            place.state = TicketState::Taken;
        }
        self.watch(&ring.party, call.model.limits.rtp_silence_ms);
        call.talk = Some(Box::new(Talk {
            token: ring.token,
            ticket,
            agent: ring.agent,
            party: ring.party,
            since: self.now,
            lease_ms,
            held: false,
        }));
        self.arm(call, Wake::Renew, (lease_ms / 3).max(1));
        self.taken(call, ticket);
        if !call.answered {
            // A caller who was queued without being answered is answered by the agent.
            self.want_answer(call);
        }
    }

    fn stop_ring_timer(&mut self, call: &mut Call, token: Id, how: &'static str) {
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.ring_timer_leaked {
            return;
        }
        self.disarm(call, Wake::Ring);
        self.line(call, Step::RingTimer, how).token = Some(token);
    }

    /// Gives a ring its one outcome: the phone is told, the media leg closed, the domain told.
    fn settle(&mut self, call: &mut Call, ring: Ring, result: OfferResult, reason: &str) {
        self.tokens.remove(&ring.token);
        match result {
            OfferResult::NoAnswer => self.totals.offers_no_answer += 1,
            _ => self.totals.offers_other += 1,
        }
        if let Some(leg) = ring.party.leg {
            #[cfg(feature = "seeded-bugs")]
            if self.bugs.cancel_crossing_ignored {
                self.legs.remove(&leg);
            }
            if self.legs.contains_key(&leg) {
                self.hang_up(leg, reason);
            }
        }
        if let Some(media) = ring.party.media {
            self.close_media(media);
        }
        let Some(round) = &call.round else { return };
        let settled = round.settle(self.now, &ring, result);
        self.tell(call, ToDomain::Settled(settled));
    }

    fn settle_token(&mut self, call: &mut Call, token: Id, result: OfferResult, reason: &str) {
        if let Some(ring) = call.round.as_mut().and_then(|r| r.take(token)) {
            self.settle(call, ring, result, reason);
        }
    }

    pub(super) fn settle_media(&mut self, call: &mut Call, media: control::LegId, result: OfferResult) {
        if let Some(ring) = call.round.as_mut().and_then(|r| r.take_media(media)) {
            let token = ring.token;
            self.settle(call, ring, result, "Q.850;cause=47");
            self.round_over(call, token);
        }
    }

    /// When the last phone of a round has said no, the caller waits again at the same place.
    fn round_over(&mut self, call: &mut Call, token: Id) {
        if call.round.as_ref().is_none_or(|r| !r.rings.is_empty()) {
            return;
        }
        call.round = None;
        self.disarm(call, Wake::Renew);
        if call.timers[Wake::Ring as usize].is_some() {
            self.stop_ring_timer(call, token, "cancelled: nobody is left to ring");
        }
        if let Some(place) = &mut call.place {
            place.state = TicketState::Returned;
            self.hand_off(call, Station::Queue);
        } else {
            self.hand_off(call, Station::Ivr);
            if call.script.is_none() {
                self.finish(call, 41, "host", "the place in the queue has ended");
            }
        }
    }

    /// A phone's final refusal.
    pub(super) fn rejected(
        &mut self,
        call: &mut Call,
        leg: LegId,
        status: u16,
        reason: &str,
        response: Option<&Message>,
    ) {
        match call.party_of_leg(leg) {
            Some(Side::Ringing) => {
                let ring = call.round.as_mut().and_then(|r| r.by_leg(leg));
                if let Some(ring) = ring.filter(|_| hunt::goes_on(status))
                    && let Some(next) = ring.addresses.pop_front()
                    && let Some(media) = ring.party.media
                {
                    ring.party.restart();
                    let detail = format!("{}: {status} {reason}; it has another address", ring.agent);
                    self.line(call, Step::After, detail);
                    return self.ring_at(call, media, next);
                }
                let Some(mut ring) = call.round.as_mut().and_then(|r| r.take_leg(leg)) else { return };
                ring.party.leg = None;
                let token = ring.token;
                let detail = format!("{}: {status} {reason}", ring.agent);
                self.line(call, Step::After, detail).token = Some(token);
                self.settle(call, ring, bridge::judge(status), "");
                self.round_over(call, token);
            }
            Some(Side::Dialled) => {
                if let Some(dial) = &mut call.dial {
                    dial.party.leg = None;
                }
                self.dial_refused(call, status, reason, response);
            }
            _ => {}
        }
    }

    /// Step 18, when the timer fires. A dialled address rings by the same timer.
    pub(super) fn ring_timeout(&mut self, call: &mut Call) {
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.ring_timer_leaked && call.talk.is_some() {
            return self.talk_ends(call, TalkEnd::AgentLeft, "Q.850;cause=19");
        }
        if call.dial.as_ref().is_some_and(|d| !d.answered) {
            return self.dial_failed(call, 408, "no answer");
        }
        let Some(round) = &call.round else { return };
        let Some(last) = round.rings.last().map(|r| r.token) else { return };
        let detail = format!("fired after {} ms", elapsed_ms(round.since, self.now));
        self.line(call, Step::RingTimer, detail).token = Some(last);
        while let Some(token) = call.round.as_ref().and_then(|r| r.rings.first()).map(|r| r.token) {
            self.settle_token(call, token, OfferResult::NoAnswer, "Q.850;cause=19;text=\"No answer\"");
        }
        self.round_over(call, last);
    }

    fn revoke(&mut self, call: &mut Call, token: Id) {
        // Accepted already, or settled: its one outcome is on its way.
        let Some(ring) = call.round.as_mut().and_then(|r| r.take(token)) else { return };
        self.settle(call, ring, OfferResult::Revoked, "Q.850;cause=31;text=\"Withdrawn\"");
        self.round_over(call, token);
    }

    /// The domain asks whether a token still stands. One that does not has had its outcome, which
    /// the domain hears before it could hear an answer.
    fn confirm(&mut self, call: &mut Call, token: Id) {
        let rings = call.round.as_ref().is_some_and(|r| r.rings.iter().any(|r| r.token == token));
        if rings || call.talk.as_ref().is_some_and(|t| t.token == token) {
            self.tell(call, ToDomain::Renew { tokens: vec![token] });
        }
    }

    /// The domain has given a token up for lost, and may offer the place and the agent anew at once:
    /// what is left of it here ends, or the agent would have two calls.
    fn lapsed(&mut self, call: &mut Call, token: Id) {
        if call.talk.as_ref().is_some_and(|t| t.token == token) {
            self.line(call, Step::After, "the lease ran out: the conversation ends").token = Some(token);
            self.talk_ends(call, TalkEnd::AgentVanished, "Q.850;cause=41");
        } else {
            self.revoke(call, token);
        }
    }

    /// Leases run anew while phones ring and people talk.
    pub(super) fn renew(&mut self, call: &mut Call) {
        let (tokens, lease_ms) = match (&call.talk, &call.round) {
            (Some(talk), _) => (vec![talk.token], talk.lease_ms),
            (None, Some(round)) => (round.rings.iter().map(|r| r.token).collect(), round.lease_ms),
            (None, None) => return,
        };
        self.tell(call, ToDomain::Renew { tokens });
        self.arm(call, Wake::Renew, (lease_ms / 3).max(1));
    }

    // ---- Talking ----

    /// The other side of a leg ended it, or the protocol did.
    pub(super) fn leg_ended(&mut self, call: &mut Call, leg: LegId, cause: &End, vanished: bool) {
        let said = match cause {
            End::Bye(request) | End::Cancelled(request) => Said::of(request),
            End::NoAck | End::NoPrack | End::NoAnswer => Said::default(),
        };
        let normal = said.cause().unwrap_or(16);
        call.said = Some(said);
        self.side_ended(call, leg, cause, normal, vanished);
        // Whatever ends the call later has reasons of its own.
        call.said = None;
    }

    fn side_ended(&mut self, call: &mut Call, leg: LegId, cause: &End, normal: u8, vanished: bool) {
        match call.party_of_leg(leg) {
            Some(Side::Caller) => {
                call.caller.leg = None;
                let (cause, by, text, status) = match cause {
                    End::Bye(_) => (normal, "caller", "hung up", 200),
                    End::Cancelled(_) => (normal, "caller", "hung up before the answer", 487),
                    End::NoAck => (102, "host", "the caller never acknowledged our answer", 200),
                    End::NoPrack => (102, "host", "the caller never acknowledged our progress", 504),
                    End::NoAnswer => (41, "host", "the caller's side does not answer any more", 200),
                };
                self.finish_with(call, cause, by, text, status);
            }
            Some(Side::Agent) => {
                if let Some(talk) = &mut call.talk {
                    talk.party.leg = None;
                }
                if vanished {
                    self.agent_vanished(call, "the agent's phone does not answer any more");
                } else {
                    self.talk_ends(call, TalkEnd::AgentLeft, "");
                }
            }
            Some(Side::Dialled) => {
                if let Some(dial) = &mut call.dial {
                    dial.party.leg = None;
                }
                let (cause, text) = if vanished {
                    (41, "the other party does not answer any more")
                } else {
                    (normal, "the other party hung up")
                };
                self.finish(call, cause, "agent", text);
            }
            // An early dialog can end by a BYE of a phone that has lost its mind.
            Some(Side::Ringing) => {
                let Some(mut ring) = call.round.as_mut().and_then(|r| r.take_leg(leg)) else { return };
                ring.party.leg = None;
                let token = ring.token;
                self.settle(call, ring, OfferResult::Unreachable { status: 0 }, "");
                self.round_over(call, token);
            }
            None => {}
        }
    }

    pub(super) fn agent_vanished(&mut self, call: &mut Call, why: &'static str) {
        self.totals.agents_vanished += 1;
        self.line(call, Step::After, why);
        self.talk_ends(call, TalkEnd::AgentVanished, "Q.850;cause=41");
    }

    /// A conversation is over and the caller is still there.
    pub(super) fn talk_ends(&mut self, call: &mut Call, how: TalkEnd, reason: &str) {
        let Some(talk) = call.talk.take() else { return };
        // Somebody else has the caller, or is being called for: nothing ends, and nobody else gets a turn.
        let moves = call.dial.is_some();
        let how = if moves && how == TalkEnd::AgentVanished { TalkEnd::AgentLeft } else { how };
        self.disarm(call, Wake::Renew);
        self.tokens.remove(&talk.token);
        let ticket = talk.ticket;
        let talked_ms = elapsed_ms(talk.since, self.now);
        let agent = talk.agent.to_string();
        if talk.held || talk.party.held {
            self.stop(&call.caller, call.caller.play);
        }
        self.drop_party(call, talk.party, reason);
        let back = how == TalkEnd::AgentVanished;
        let line =
            self.line(call, Step::After, if back { "back to the same place" } else { "the agent has left" });
        line.token = Some(talk.token);
        line.ticket = Some(ticket);
        self.tell(call, ToDomain::TalkEnded { token: talk.token, ticket, talked_ms, how });
        if let Some(cause) = call.script.as_ref().and_then(|s| s.hang_up).filter(|_| !moves) {
            return self.finish(call, cause, "script", "");
        }
        if back && !moves {
            if let Some(place) = &mut call.place {
                place.state = TicketState::Returned;
            }
            self.hand_off(call, Station::Queue);
            self.tell_ticket(call, ticket, TicketState::Returned, 0, None);
            if call.script.is_none() {
                call.native = Native::Queue;
            }
            // Music at once; a script's next prompt replaces it.
            self.native_music(call);
        } else {
            call.place = None;
            if !moves {
                self.hand_off(call, Station::Ivr);
            }
            self.tell_ticket(call, ticket, TicketState::Ended, 0, None);
        }
        let end = if back { "returned" } else { "agent-left" }.to_owned();
        self.talk_over(call, ticket, Outcome { end, agent, talked_ms });
        if !back && !moves && call.script.is_none() {
            let cause = call.said.as_ref().and_then(Said::cause).unwrap_or(16);
            self.finish(call, cause, "agent", "the agent hung up");
        }
    }

    /// Parts and ends the other party's legs.
    pub(super) fn drop_party(&mut self, call: &Call, party: Party, reason: &str) {
        if let (Some(a), Some(b)) = (call.caller.media, party.media) {
            self.media(Command::Part { a, b });
        }
        if let Some(leg) = party.leg {
            self.hang_up(leg, reason);
        }
        if let Some(media) = party.media {
            self.close_media(media);
        }
    }

    /// A third party's command.
    fn command(&mut self, call: &mut Call, command: CallCommand) {
        let pair = call.talk.as_ref().and_then(|t| Some((call.caller.media?, t.party.media?, t.held)));
        match (command, pair) {
            (CallCommand::Clear { cause }, _) => {
                self.finish(call, cause.clamp(1, 127), "operator", "cleared")
            }
            (CallCommand::Hold, Some((a, b, false))) => {
                self.media(Command::Part { a, b });
                if let Some(music) = self.music(call) {
                    self.play(&mut call.caller, vec![music], true, false);
                }
                self.set_held(call, true);
            }
            (CallCommand::Retrieve, Some((a, b, true))) => {
                self.media(Command::Join { a, b });
                self.set_held(call, false);
            }
            (CallCommand::Hold | CallCommand::Retrieve, _) => {}
        }
    }

    fn set_held(&mut self, call: &mut Call, held: bool) {
        if let Some(talk) = &mut call.talk {
            talk.held = held;
        }
        self.line(call, Step::After, if held { "held by command" } else { "retrieved by command" });
    }
}

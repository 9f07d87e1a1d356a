//! The caller's leg and whatever it is joined to: answers, offers, hold, music, and what the media
//! plane reports.

use std::sync::Arc;

use cordboard_media::control::{Command, Event, Item};
use cordboard_sip::endpoint::LegId;
use cordboard_sip::sdp::{Direction, Session};
use cordboard_sip::wire::{Message, Method};

use super::call::{Call, Native, Side, Wake};
use super::core::Core;
use crate::center::{self, BOTH, Party};
use crate::ivr::Doing;
use crate::messages::OfferResult;
use crate::timeline::Step;

/// A session timer of so many probes' time makes the probes needless.
const TIMED_ENOUGH: u64 = 4;

impl Core {
    // ---- Answering the caller ----

    /// Answers the call as soon as it can be, and says [`Core::caller_ready`] when audio can flow.
    pub(super) fn want_answer(&mut self, call: &mut Call) {
        if call.answered {
            if call.caller.ready() {
                self.caller_ready(call);
            }
            return;
        }
        call.answer_wanted = true;
        self.try_answer(call);
    }

    pub(super) fn try_answer(&mut self, call: &mut Call) {
        let Some(leg) = call.caller.leg.filter(|_| call.answer_wanted && !call.answered) else { return };
        if call.caller.address.is_none() {
            return;
        }
        if call.caller.offer.is_some() || call.caller.ready() {
            match self.caller_sdp(call) {
                Ok(sdp) => {
                    call.answered = true;
                    // From here on the endpoint alone has to know it.
                    call.caller.said = None;
                    self.answer(leg, Some(&sdp));
                }
                Err(status) => return self.finish_with(call, 65, "host", "no codec in common", status),
            }
        } else {
            let codecs = center::codecs(None, &call.trunk().codecs);
            let Some(offer) = call.caller.make_offer(&codecs, Direction::SendRecv) else { return };
            call.answered = true;
            call.delayed_offer = true;
            self.answer(leg, Some(&offer));
        }
        // Written down before the ACK: a crash in between must not leave a caller in a call of nobody's.
        self.dialog_up(leg, call.interaction);
        self.totals.answered += 1;
        self.watch(&call.caller, call.model.limits.rtp_silence_ms);
        self.arm_probe(call);
        if call.caller.ready() {
            self.caller_ready(call);
        }
    }

    fn arm_probe(&mut self, call: &mut Call) {
        let every_ms = call.model.limits.dialog_probe_ms;
        if every_ms > 0 {
            self.arm(call, Wake::Probe, every_ms);
        }
    }

    /// Asks the phones of the call whether they are still there. A phone without RTP, or one that lost its
    /// power, is found in no other way, unless the session has a timer of its own (RFC 4028).
    pub(super) fn probe(&mut self, call: &mut Call) {
        let talk = call.talk.as_ref().map(|t| &t.party);
        let dial = call.dial.as_ref().filter(|d| d.answered).map(|d| &d.party);
        for party in [Some(&call.caller), talk, dial].into_iter().flatten() {
            let Some(leg) = party.leg.filter(|_| !party.ignores_options) else { continue };
            let timer_s = self.endpoint.session_interval_s(leg);
            if timer_s
                .is_some_and(|s| u64::from(s) * 1_000 <= TIMED_ENOUGH * call.model.limits.dialog_probe_ms)
            {
                continue;
            }
            // A dialog that is not up is not asked now.
            if let Some(request) = self.endpoint.leg_request(self.now, leg, "OPTIONS", None, &[]) {
                self.probes.insert(request, leg);
            }
        }
        self.pump();
        self.arm_probe(call);
    }

    /// A probe has no answer, or one that says that there is no such call: the media plane is asked whether
    /// the party was heard meanwhile, before it counts as gone.
    pub(super) fn doubt(&mut self, call: &mut Call, leg: LegId) {
        let media = call.party_of_leg(leg).and_then(|side| call.party(side)).and_then(|p| p.media);
        match media {
            Some(leg) => self.media(Command::Ask { leg }),
            None => self.give_up(leg),
        }
    }

    /// The media plane's answer: who was heard while OPTIONS went unanswered does not know OPTIONS.
    fn judged(&mut self, call: &mut Call, side: Side, ago_ms: Option<u64>) {
        // From the probe to its time-out, and once more for a phone that pauses.
        let lately_ms = 2 * 64 * self.config.t1_ms;
        let Some(party) = call.party(side) else { return };
        let held = party.held;
        if ago_ms.is_some_and(|ago| ago < lately_ms || held) {
            party.ignores_options = true;
            let text = "a phone leaves OPTIONS unanswered, and is heard: it is not asked again";
            self.line(call, Step::After, text);
        } else if let Some(leg) = party.leg {
            self.give_up(leg);
        }
    }

    /// Ends a leg whose other side is gone.
    fn give_up(&mut self, leg: LegId) {
        self.endpoint.give_up(self.now, leg);
        self.pump();
    }

    /// Our answer to the caller's offer: made once, and repeated in the 200 after early media.
    pub(super) fn caller_sdp(&mut self, call: &mut Call) -> Result<Arc<str>, u16> {
        if let Some(offer) = call.caller.offer.take() {
            let codecs = call.trunk().codecs.clone();
            let codecs = if codecs.is_empty() { BOTH } else { &codecs };
            let (_, remote) =
                call.caller.answer(&offer, codecs).map_err(|e| e.map_or(500, |e| e.status()))?;
            if let Some(leg) = call.caller.media {
                self.media(Command::Remote { leg, remote });
            }
        }
        call.caller.said.clone().ok_or(500)
    }

    /// Audio can flow: what has waited for it begins.
    pub(super) fn caller_ready(&mut self, call: &mut Call) {
        let script = call.script.as_mut();
        let waiting = script.and_then(|s| s.pending.take_if(|p| matches!(p.doing, Doing::Answering(_))));
        if let Some(pending) = waiting
            && let Doing::Answering(verb) = pending.doing
        {
            self.run_verb(call, pending.verb, *verb);
        }
        match call.native {
            Native::Queue => self.native_music(call),
            Native::Announce { play: 0, cause } => {
                let prompt = match &call.tenant().fallback {
                    crate::model::Fallback::Announce { prompt: Some(prompt), .. } => prompt.clone(),
                    _ => return self.finish(call, cause, "host", "fallback"),
                };
                match self.prompts.clip(&call.tenant().name, &prompt) {
                    Some(clip) => {
                        let play = self.play(&mut call.caller, vec![Item::Clip(clip)], false, false);
                        call.native = Native::Announce { play, cause };
                    }
                    None => self.finish(call, cause, "host", "fallback"),
                }
            }
            Native::No | Native::Announce { .. } => {}
        }
    }

    /// The ACK to our 200.
    pub(super) fn confirmed(&mut self, call: &mut Call, leg: LegId, ack: &Message) {
        self.dialog_up(leg, call.interaction);
        let Some(side) = call.party_of_leg(leg) else { return };
        if !ack.has_sdp() {
            if side == Side::Caller && call.delayed_offer && !call.caller.ready() {
                self.finish(call, 127, "host", "the ACK has no answer to our offer");
            }
            return;
        }
        let Some(party) = call.party(side) else { return };
        let first = !party.ready();
        match party.accept(ack.sdp().unwrap_or_default()) {
            Ok(remote) => {
                if let Some(leg) = party.media {
                    self.media(Command::Remote { leg, remote });
                }
                self.watch_side(call, side);
                if side == Side::Caller && first {
                    self.caller_ready(call);
                }
            }
            Err(error) => {
                if side == Side::Caller && first {
                    self.finish(call, 65, "host", &error.to_string());
                }
            }
        }
    }

    // ---- Offers during the call ----

    /// A re-INVITE or UPDATE: hold, resume, a moved port, or a refresh.
    pub(super) fn reoffered(&mut self, call: &mut Call, leg: LegId, request: &Message) {
        let now = self.now;
        let side = call.party_of_leg(leg).filter(|s| *s != Side::Ringing);
        let Some(side) = side else {
            self.endpoint.refuse_offer(now, leg, 488);
            return self.pump();
        };
        let trunk_codecs = call.trunk().codecs.clone();
        let Some(party) = call.party(side) else { return };
        let Some(offer) = request.sdp() else {
            let codecs = center::codecs(party.codec(), &trunk_codecs);
            let offer = match request.method() {
                Method::Update => None,
                _ => party.make_offer(&codecs, Direction::SendRecv),
            };
            self.endpoint.accept_offer(now, leg, offer.as_deref());
            return self.pump();
        };
        let codecs =
            if side == Side::Caller && !trunk_codecs.is_empty() { trunk_codecs.as_slice() } else { BOTH };
        let was_held = party.held;
        let answer = Session::parse(offer)
            .map_err(|e| e.status())
            .and_then(|offer| party.answer(&offer, codecs).map_err(|e| e.map_or(500, |e| e.status())));
        match answer {
            Ok((sdp, remote)) => {
                let (media, held) = (party.media, party.held);
                if let Some(leg) = media {
                    self.media(Command::Remote { leg, remote });
                }
                self.endpoint.accept_offer(now, leg, Some(&sdp));
                self.pump();
                self.watch_side(call, side);
                if held != was_held {
                    self.held(call, side, held);
                }
            }
            Err(status) => {
                self.endpoint.refuse_offer(now, leg, status);
                self.pump();
            }
        }
    }

    /// A party has put the other on hold, or is back: the other hears music meanwhile.
    fn held(&mut self, call: &mut Call, by: Side, held: bool) {
        if !call.taken() || call.talk.as_ref().is_some_and(|t| t.held) {
            return;
        }
        let who = if by == Side::Caller { "the caller" } else { "the other party" };
        self.line(call, Step::After, format!("{who} {}", if held { "holds" } else { "is back" }));
        let music = self.music(call);
        let listener = if by == Side::Caller { call.other() } else { Some(&mut call.caller) };
        let Some(listener) = listener else { return };
        if held {
            if let Some(clip) = music {
                self.play(listener, vec![clip], true, false);
            }
        } else if let Some(leg) = listener.media {
            self.media(Command::Stop { leg, play: Some(listener.play) });
        }
    }

    // ---- Playing ----

    /// Plays to a party; the play's number.
    pub(super) fn play(&mut self, party: &mut Party, items: Vec<Item>, repeat: bool, barge: bool) -> u64 {
        party.play += 1;
        let play = party.play;
        if let Some(leg) = party.media {
            self.media(Command::Play { leg, play, items, repeat, barge });
        }
        play
    }

    pub(super) fn stop(&mut self, party: &Party, play: u64) {
        if let Some(leg) = party.media {
            self.media(Command::Stop { leg, play: Some(play) });
        }
    }

    /// The music of the place that the call has or had.
    pub(super) fn music(&self, call: &Call) -> Option<Item> {
        let tenant = call.tenant();
        let place = call.place.as_ref();
        let name = place.and_then(|p| p.music.as_ref()).or_else(|| {
            tenant.workgroup(place.map_or("", |p| &*p.workgroup)).and_then(|w| w.music.as_ref())
        })?;
        self.prompts.clip(&tenant.name, name).map(Item::Clip)
    }

    /// The workgroup's music to a caller who waits, if audio can flow.
    pub(super) fn native_music(&mut self, call: &mut Call) {
        if call.taken() || !call.caller.ready() || call.place.is_none() {
            return;
        }
        if let Some(music) = self.music(call) {
            self.music_line(call, "native treatment");
            self.play(&mut call.caller, vec![music], true, false);
        }
    }

    /// Line 13, at the first sound of a wait.
    pub(super) fn music_line(&mut self, call: &mut Call, what: &'static str) {
        let Some(place) = call.place.as_mut().filter(|p| !p.heard) else { return };
        place.heard = true;
        let ticket = place.ticket;
        self.line(call, Step::MusicStarted, what).ticket = Some(ticket);
    }

    /// Has silence of a party reported, if the party may be expected to speak.
    pub(super) fn watch(&mut self, party: &Party, silence_ms: u32) {
        if let Some(leg) = party.media {
            let silent_after_ms = if party.speaks() { silence_ms } else { 0 };
            self.media(Command::Watch { leg, silent_after_ms });
        }
    }

    fn watch_side(&mut self, call: &mut Call, side: Side) {
        let silence_ms = call.model.limits.rtp_silence_ms;
        if let Some(party) = call.party(side) {
            self.watch(party, silence_ms);
        }
    }

    // ---- What the media plane reports ----

    pub(super) fn heard(&mut self, call: &mut Call, event: Event) {
        let leg = event.leg();
        let Some(side) = call.party_of_media(leg) else { return };
        match event {
            Event::Opened { mut address, .. } => {
                if address.ip().is_unspecified() {
                    address.set_ip(self.config.advertised_media);
                }
                match side {
                    Side::Ringing => self.ring(call, leg, address),
                    Side::Dialled => self.dial_opened(call, address),
                    Side::Caller => {
                        call.caller.address = Some(address);
                        self.try_answer(call);
                    }
                    Side::Agent => {}
                }
            }
            Event::OpenFailed { reason, .. } => {
                self.media.remove(&leg);
                match side {
                    Side::Caller => {
                        call.caller.media = None;
                        self.finish_with(call, 47, "host", &format!("no media: {reason}"), 503);
                    }
                    Side::Ringing => self.settle_media(call, leg, OfferResult::Unreachable { status: 0 }),
                    Side::Dialled => {
                        if let Some(dial) = &mut call.dial {
                            dial.party.media = None;
                        }
                        self.dial_failed(call, 503, "no media");
                    }
                    Side::Agent => {}
                }
            }
            Event::PlayEnded { play, reason, .. } if side == Side::Caller => {
                self.play_ended(call, play, reason)
            }
            Event::Digit { digit, .. } if side == Side::Caller => self.digit(call, digit, false),
            Event::Recorded { recording, duration_ms, .. } if side == Side::Caller => {
                self.recorded(call, recording, Ok(duration_ms));
            }
            Event::RecordFailed { recording, reason, .. } if side == Side::Caller => {
                self.recorded(call, recording, Err(reason));
            }
            Event::Heard { ago_ms, .. } => self.judged(call, side, ago_ms),
            // What was reported before a hold that has come meanwhile says nothing.
            Event::Silent { .. } if call.party(side).is_some_and(|p| !p.speaks()) => {}
            Event::Silent { .. } => match side {
                Side::Caller => self.finish(call, 41, "host", "the caller's audio stopped"),
                Side::Agent => self.agent_vanished(call, "the agent's audio stopped"),
                Side::Dialled => self.finish(call, 41, "host", "the other party's audio stopped"),
                Side::Ringing => {}
            },
            Event::Closed { .. } => {
                self.media.remove(&leg);
            }
            _ => {}
        }
    }
}

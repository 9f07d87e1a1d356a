//! A second party without a queue: a router's bridge and a script's transfer, to an address or out by a
//! trunk. The same legs and the same join as an agent's, without a token.
//!
//! ```text
//!   dial --> media leg --+-- an address ---------------------------> its next host address --> INVITE
//!                        +-- trunks: enter one --> its next destination --^      ^               |
//!                              ^                          ^                      |               | silent,
//!                              +-- full, none left -------+-- none left ---------+---------------+ 408, 5xx
//!   Whatever else comes back is the answer: 2xx joins, a refusal ends, the ring timer bounds it all.
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;

use cordboard_media::control::{Command, Item};
use cordboard_sip::endpoint::{Flow, Full, Invite, LegId};
use cordboard_sip::sdp::Direction;
use cordboard_sip::wire::Message;

use super::call::{Call, Wake};
use super::core::Core;
use super::names::{Asker, Way};
use crate::bridge::Dial;
use crate::center::cause::{self, Said};
use crate::center::{self, Party};
use crate::handoff::Station;
use crate::messages::ToDomain;
use crate::router::MAX_RING_MS;
use crate::script::Failure;
use crate::timeline::Step;
use crate::trunk::diversion::Why;
use crate::trunk::hunt::{self, Hunt, Target};
use crate::trunk::outgoing::{self, Who};
use crate::trunk::rules;
use crate::trunk::terms::{Diversion, EarlyMedia};

impl Core {
    /// Opens the second leg.
    pub(super) fn dial(&mut self, call: &mut Call, address: String, ring_timeout_ms: u64, transfer: bool) {
        self.hand_off(call, Station::Bridge);
        self.line(call, Step::After, format!("dials {address}"));
        let media = self.open_media(call.key);
        let party = Party::new(media, self.random.next_u64());
        let ring_timeout_ms = ring_timeout_ms.clamp(1_000, MAX_RING_MS);
        // What is no URI either fails when it is dialled.
        let target = Target::parse(&address).unwrap_or_else(|_| Target::Uri(address.clone()));
        let elsewhere =
            matches!(&target, Target::Trunks { number: Some(number), .. } if *number != call.called);
        let hunt = Hunt::new(target, &call.called);
        // A router that names a trunk alone passes the call through; another number is a diversion of it.
        let leaves = match (transfer || call.transfer.is_some(), elsewhere) {
            (true, _) => Some(Why::Deflection),
            (false, true) => Some(Why::Unconditional),
            (false, false) => None,
        };
        call.dial = Some(Box::new(Dial {
            party,
            address,
            ring_timeout_ms,
            answered: false,
            transfer,
            leaves,
            since: self.now,
            early: false,
            hunt,
            ring_only: false,
        }));
        self.arm(call, Wake::Ring, ring_timeout_ms);
        if call.answered {
            // ETSI TR 101 041: the ringing tone of most of Europe, 425 Hz, one second in five.
            let tone = [Item::Tone { hz: 425, ms: 1_000, level_dbm0: -10 }, Item::Silence { ms: 4_000 }];
            self.play(&mut call.caller, tone.to_vec(), true, false);
        }
    }

    pub(super) fn dial_opened(&mut self, call: &mut Call, address: SocketAddr) {
        let Some(dial) = &mut call.dial else { return };
        dial.party.address = Some(address);
        self.next_way(call);
    }

    /// Sends the call to the next address that may serve it; with none left it has failed.
    fn next_way(&mut self, call: &mut Call) {
        loop {
            let Some(dial) = &mut call.dial else { return };
            let hunt = &mut dial.hunt;
            if let Some(to) = hunt.next_address() {
                let (trunk, uri) = (hunt.at.clone(), hunt.tried.clone().unwrap_or_default());
                let sent = match &trunk {
                    Some(trunk) => self.invite_by_trunk(call, trunk, &uri, to),
                    None => self.invite_address(call, &uri, to),
                };
                match sent {
                    Ok(()) => return,
                    Err(full @ (Full::Legs | Full::Transactions)) => {
                        return self.dial_failed(call, 500, &full.to_string());
                    }
                    Err(bad) => self.note_failure(call, 500, &format!("{uri}: {bad}")),
                }
            } else if let Some(uri) = hunt.next_destination() {
                if call.transfer.is_some() && call.dial.as_ref().is_some_and(|d| d.hunt.at.is_none()) {
                    return self.locate(call, uri);
                }
                let Some(dial) = &mut call.dial else { return };
                let hunt = &mut dial.hunt;
                let peer = hunt.at.as_ref().and_then(|trunk| self.trunks.way_to_peer(trunk, &uri, self.now));
                let way = match peer {
                    Some(flow) => Way::Known(VecDeque::from([flow])),
                    None => self.way_to(&uri, Asker::Dial(call.key)),
                };
                if !self.takes(call, &uri, way) {
                    return;
                }
            } else if !self.next_trunk(call) {
                return;
            }
        }
    }

    /// Takes what is known of a destination's addresses. False while it is being asked for.
    fn takes(&mut self, call: &mut Call, uri: &str, way: Way) -> bool {
        let Some(dial) = &mut call.dial else { return false };
        match way {
            Way::Known(addresses) => dial.hunt.addresses = addresses,
            Way::Asked(ask) => {
                dial.hunt.waiting = Some(ask);
                return false;
            }
            Way::Lost(why) => self.note_failure(call, 500, &format!("{uri}: {why}")),
        }
        true
    }

    /// The colleague whose phone a transfer rings. When the agent asked through us first (RFC 3891), the dialog that
    /// is to be replaced is ours, and no phone would know it: the call comes back here as it is written.
    fn rung_colleague(&self, call: &Call, uri: &str) -> Option<String> {
        let replaces = call.transfer.iter().flat_map(|t| &t.headers).find(|(name, _)| name == "Replaces");
        let ours = replaces.is_some_and(|(_, value)| self.endpoint.holds(value));
        self.colleague(call, uri).filter(|_| !ours)
    }

    /// Whom an agent hands the caller on to may be somebody with a phone here: the domain knows where that is.
    fn locate(&mut self, call: &mut Call, uri: String) {
        let request = self.number();
        let user = self.rung_colleague(call, &uri);
        if let Some(dial) = &mut call.dial {
            dial.hunt.waiting = Some(request);
        }
        self.tell(call, ToDomain::Locate { request, user, uri });
    }

    pub(super) fn located(&mut self, call: &mut Call, request: u64, phone: Option<(String, Option<Flow>)>) {
        let Some(dial) = call.dial.as_mut().filter(|d| d.hunt.waiting == Some(request)) else { return };
        dial.hunt.waiting = None;
        let written = dial.hunt.tried.clone().unwrap_or_default();
        let (uri, flow) = match phone {
            Some(phone) => phone,
            None => match self.rung_colleague(call, &written) {
                Some(user) => {
                    self.note_failure(call, 480, &format!("{user} has no phone that is registered"));
                    return self.next_way(call);
                }
                None => (written, None),
            },
        };
        if let Some(dial) = &mut call.dial {
            dial.hunt.tried = Some(uri.clone());
        }
        let way = match flow {
            Some(flow) => Way::Known(VecDeque::from([flow])),
            None => self.way_to(&uri, Asker::Dial(call.key)),
        };
        if self.takes(call, &uri, way) {
            self.next_way(call);
        }
    }

    /// Leaves the trunk that the call is at and enters the next that may take it. False when there is none.
    fn next_trunk(&mut self, call: &mut Call) -> bool {
        let Some(dial) = &mut call.dial else { return false };
        self.leave_trunk(dial);
        let Some(trunk) = dial.hunt.trunks.pop_front() else {
            let nowhere = || (503, "no trunk has a destination".to_owned());
            let (status, reason) = dial.hunt.failure.take().unwrap_or_else(nowhere);
            call.said = dial.hunt.said.take();
            self.dial_failed(call, status, &reason);
            call.said = None;
            return false;
        };
        let leaves = dial.leaves.is_some();
        let max = self.model.trunk(&trunk).and_then(|t| t.out.as_ref()).map(|out| out.max_diversions);
        if let Some(max) = max.filter(|max| leaves && call.diversions.is_at_its_limit(*max)) {
            let times = call.diversions.count();
            let why =
                format!("trunk {trunk}: the call was diverted {times} times already, {max} are allowed");
            self.note_failure(call, 482, &why);
            return true;
        }
        let tenant = call.tenant().name.clone();
        match self.enter_trunk(&trunk, &tenant) {
            Ok(order) => {
                if let Some(dial) = &mut call.dial {
                    dial.hunt.left = order;
                    dial.hunt.at = Some(trunk);
                }
            }
            Err(why) => {
                self.line(call, Step::After, why.clone());
                // What somebody out there has said goes before our own limits.
                if let Some(dial) = &mut call.dial {
                    dial.hunt.failure.get_or_insert((503, why));
                }
            }
        }
        true
    }

    /// What DNS says of the destination's name.
    pub(super) fn dial_resolved(
        &mut self,
        call: &mut Call,
        ask: u64,
        answer: Result<VecDeque<Flow>, String>,
    ) {
        let Some(dial) = call.dial.as_mut().filter(|d| d.hunt.waiting == Some(ask)) else { return };
        dial.hunt.waiting = None;
        match answer {
            Ok(addresses) => dial.hunt.addresses = addresses,
            Err(why) => {
                let way = dial.hunt.at.clone().zip(dial.hunt.tried.clone());
                if let Some((trunk, uri)) = way {
                    self.trunk_met(&trunk, &uri, 0, None);
                }
                self.note_failure(call, 502, &why);
            }
        }
        self.next_way(call);
    }

    /// Remembers what the caller is told when no other way works.
    fn note_failure(&mut self, call: &mut Call, status: u16, why: &str) {
        self.line(call, Step::After, why.to_owned());
        if let Some(dial) = &mut call.dial {
            dial.hunt.failure = Some((status, why.to_owned()));
            dial.hunt.said = None;
        }
    }

    fn invite_address(&mut self, call: &mut Call, uri: &str, to: Flow) -> Result<(), Full> {
        let offered =
            call.caller.offer.as_deref().and_then(|o| cordboard_sip::sdp::agreed(o).ok()).map(|a| a.codec);
        let codecs = center::codecs(call.caller.codec().or(offered), &call.trunk().codecs);
        let from = self.caller_header(to.listener, &call.number, &call.name);
        let mut headers = call.own_headers();
        headers.extend(call.transfer.iter().flat_map(|t| t.headers.clone()));
        let Some(dial) = &mut call.dial else { return Ok(()) };
        let invite = Invite {
            listener: to.listener,
            target: uri.to_owned(),
            destination: Some(to.remote),
            connection: to.connection,
            name: to.name,
            from,
            to: format!("<{uri}>"),
            headers,
            sdp: dial.party.make_offer(&codecs, Direction::SendRecv),
            redirects: 8,
            silent_target_ms: call.model.limits.silent_target_ms,
            silent_first: true,
            ..Invite::default()
        };
        let leg = self.invite(call.key, invite)?;
        dial.party.leg = Some(leg);
        self.leg_line(call, Some(leg), Step::After, "rings");
        Ok(())
    }

    fn invite_by_trunk(
        &mut self,
        call: &mut Call,
        trunk: &crate::Name,
        uri: &str,
        to: Flow,
    ) -> Result<(), Full> {
        let model = self.model.clone();
        let Some((terms, out)) = model.trunk(trunk).and_then(|t| Some((t, t.out.as_ref()?))) else {
            return Err(Full::NoDestination);
        };
        let local = self.config.listeners.iter().find(|l| l.id == to.listener).map(|l| l.local);
        let who = Who { caller: &call.who, brought: &call.brought };
        let local = local.ok_or(Full::NoDestination)?;
        let mut own = call.own_headers();
        let Some(dial) = &mut call.dial else { return Ok(()) };
        let number = rules::normalised(&out.called, dial.hunt.number.clone());
        let target = hunt::uri_of(&number, uri);
        if out.diversion != Diversion::None {
            let mut diversions = call.diversions.clone();
            if let Some(why) = dial.leaves {
                let host = out.domain.clone().unwrap_or_else(|| local.to_string());
                let left = hunt::uri_of(
                    &rules::normalised(&out.called, call.called.clone()),
                    &format!("sip:{host}"),
                );
                diversions.push(left, why, call.who.privacy.history);
            }
            own.extend(diversions.headers(out, &target));
        }
        let (from, headers) = outgoing::identify(out, who, local, own);
        // The trunk's own order: it was agreed with whoever runs it.
        let codecs = center::codecs(None, &terms.codecs);
        dial.ring_only = out.early_media == EarlyMedia::Ring;
        let invite = Invite {
            listener: to.listener,
            from,
            to: format!("<{target}>"),
            target,
            destination: Some(to.remote),
            connection: to.connection,
            name: to.name,
            headers,
            sdp: dial.party.make_offer(&codecs, Direction::SendRecv),
            credentials: super::trunks::credentials(out),
            redirects: 8,
            silent_target_ms: out.silent_ms,
            silent_first: true,
            ..Invite::default()
        };
        let leg = self.invite(call.key, invite)?;
        dial.party.leg = Some(leg);
        self.trunks.calls(to.remote.ip(), self.now);
        self.trunk_called(trunk, uri);
        self.leg_line(call, Some(leg), Step::After, format!("trunk {trunk}: {number} at {uri}"));
        Ok(())
    }

    /// The second party's final refusal, or none: the end of the attempt, and of the call unless another
    /// destination may do better.
    pub(super) fn dial_refused(
        &mut self,
        call: &mut Call,
        status: u16,
        reason: &str,
        response: Option<&Message>,
    ) {
        let Some(dial) = &mut call.dial else { return };
        let (trunk, uri) = (dial.hunt.at.clone(), dial.hunt.tried.clone().unwrap_or_default());
        let last = trunk.is_none() && !dial.hunt.goes_on();
        let over = dial.answered || last || !hunt::goes_on(status);
        if let Some(trunk) = &trunk {
            let met = if response.is_none() && status == 408 { 0 } else { status };
            self.trunk_met(trunk, &uri, met, response);
        }
        // Statuses between us and the other side (our credentials, a redirection) mean nothing to the caller.
        let said = match (response, status) {
            (Some(response), 401 | 407 | 300..=399) => Some(Said::of(response)),
            (response, _) => response.map(Said::of_refusal),
        };
        let Some(dial) = call.dial.as_mut().filter(|_| !over) else {
            call.said = said;
            self.dial_failed(call, status, reason);
            call.said = None;
            return;
        };
        dial.party.restart();
        if std::mem::take(&mut dial.early)
            && let (Some(a), Some(b)) = (call.caller.media, dial.party.media)
        {
            self.media(Command::Part { a, b });
        }
        let by = trunk.map_or_else(String::new, |trunk| format!("trunk {trunk}, "));
        self.note_failure(call, status, &format!("{by}{uri}: {reason}"));
        if let Some(dial) = &mut call.dial {
            dial.hunt.said = said;
        }
        self.next_way(call);
    }

    /// 180 and 183 of the second leg go through to a caller who was not answered, with their audio.
    pub(super) fn progressed(&mut self, call: &mut Call, leg: LegId, status: u16, response: &Message) {
        let Some(dial) = &mut call.dial else { return };
        if dial.party.leg != Some(leg) || dial.answered {
            return;
        }
        if call.answered {
            // An answer that came reliably with a provisional response is not repeated in the 2xx.
            if response.has_sdp() && !dial.party.ready() {
                let _ = dial.party.accept(response.sdp().unwrap_or_default());
            }
            return self.transfer_progress(call, status);
        }
        let Some(caller) = call.caller.leg else { return };
        if !response.has_sdp()
            || dial.ring_only
            || call.caller.address.is_none()
            || (call.caller.offer.is_none() && !call.caller.ready())
        {
            // Where a 183 would promise audio that does not come, ringing is the truth that is left.
            let status = if status == 183 && !dial.ring_only { 183 } else { 180 };
            return self.progress(caller, status, None);
        }
        let Ok(remote) = dial.party.accept(response.sdp().unwrap_or_default()) else { return };
        let (media, first) = (dial.party.media, !dial.early);
        dial.early = true;
        if let Some(leg) = media {
            self.media(Command::Remote { leg, remote });
        }
        let Ok(sdp) = self.caller_sdp(call) else { return };
        self.progress(caller, 183, Some(&sdp));
        if let (Some(a), Some(b), true) = (call.caller.media, media, first) {
            self.media(Command::Join { a, b });
        }
    }

    pub(super) fn dial_answered(&mut self, call: &mut Call, leg: LegId, response: &Message) {
        let Some(dial) = &mut call.dial else { return };
        let remote = match dial.party.accept(response.sdp().unwrap_or_default()) {
            Ok(remote) => Some(remote),
            // The answer may have come with the 183 alone.
            Err(_) if dial.party.ready() => None,
            Err(error) => return self.dial_failed(call, 488, &error.to_string()),
        };
        dial.answered = true;
        dial.since = self.now;
        let media = dial.party.media;
        if let Some((trunk, uri)) = dial.hunt.at.clone().zip(dial.hunt.tried.clone()) {
            self.trunk_met(&trunk, &uri, 200, None);
        }
        if let Some(dial) = &mut call.dial {
            dial.hunt.found();
        }
        if let (Some(leg), Some(remote)) = (media, remote) {
            self.media(Command::Remote { leg, remote });
        }
        self.dialog_up(leg, call.interaction);
        self.disarm(call, Wake::Ring);
        if let (Some(a), Some(b)) = (call.caller.media, media) {
            self.media(Command::Join { a, b });
        }
        if let Some(dial) = &call.dial {
            self.watch(&dial.party, call.model.limits.rtp_silence_ms);
        }
        self.leg_line(call, Some(leg), Step::After, "answered, joined");
        self.transferred(call);
        self.want_answer(call);
    }

    /// The second party refused, did not answer, or could not be dialled.
    pub(super) fn dial_failed(&mut self, call: &mut Call, status: u16, reason: &str) {
        let Some(mut dial) = call.dial.take() else { return };
        self.leave_trunk(&mut dial);
        self.disarm(call, Wake::Ring);
        self.line(call, Step::After, format!("{}: {status} {reason}", dial.address));
        let (transfer, moved) = (dial.transfer, call.transfer.is_some());
        self.drop_party(call, dial.party, "Q.850;cause=19");
        if self.transfer_failed_over(call, status) {
            return;
        }
        if !(transfer || moved) || call.script.is_none() {
            // Statuses that mean something between us and the other side mean nothing to the caller.
            let mapped = match status {
                401 | 407 | 300..=399 => 500,
                487 | 408 => 480,
                400..=699 => status,
                _ => 500,
            };
            let cause = call.said.as_ref().and_then(Said::cause).unwrap_or(cause::of_status(mapped));
            return self.finish_with(call, cause, "host", reason, mapped);
        }
        if let Some(leg) = call.caller.media.filter(|_| !moved) {
            self.media(Command::Stop { leg, play: Some(call.caller.play) });
        }
        if let Some(cause) = call.script.as_ref().and_then(|s| s.hang_up).filter(|_| moved) {
            return self.finish(call, cause, "script", "");
        }
        self.hand_off(call, Station::Ivr);
        let failure = match status {
            408 | 480 | 487 => Failure::Timeout,
            _ => Failure::Other(format!("{status} {reason}")),
        };
        self.transfer_failed(call, failure);
    }
}

//! A second party without a queue: a router's bridge and a script's transfer. The same legs and the
//! same join as an agent's, without a token.

use std::net::SocketAddr;

use cordboard_media::control::{Command, Item};
use cordboard_sip::endpoint::{Invite, LegId};
use cordboard_sip::sdp::Direction;
use cordboard_sip::wire::Message;

use super::call::{Call, Wake};
use super::core::Core;
use crate::bridge::Dial;
use crate::center::{self, Party, cause};
use crate::handoff::Station;
use crate::router::MAX_RING_MS;
use crate::script::Failure;
use crate::timeline::Step;

impl Core {
    /// Opens the second leg.
    pub(super) fn dial(&mut self, call: &mut Call, address: String, ring_timeout_ms: u64, transfer: bool) {
        self.hand_off(call, Station::Bridge);
        self.line(call, Step::After, format!("dials {address}"));
        let media = self.open_media(call.key);
        let party = Party::new(media, self.random.next_u64());
        let ring_timeout_ms = ring_timeout_ms.clamp(1_000, MAX_RING_MS);
        call.dial = Some(Dial {
            party,
            address,
            ring_timeout_ms,
            answered: false,
            transfer,
            since: self.now,
            early: false,
        });
        self.arm(call, Wake::Ring, ring_timeout_ms);
        if call.answered {
            // ETSI TR 101 041: the ringing tone of most of Europe, 425 Hz, one second in five.
            let tone = [Item::Tone { hz: 425, ms: 1_000, level_dbm0: -10 }, Item::Silence { ms: 4_000 }];
            self.play(&mut call.caller, tone.to_vec(), true, false);
        }
    }

    pub(super) fn dial_opened(&mut self, call: &mut Call, address: SocketAddr) {
        let offered =
            call.caller.offer.as_deref().and_then(|o| cordboard_sip::sdp::agreed(o).ok()).map(|a| a.codec);
        let codecs = center::codecs(call.caller.codec().or(offered), &call.trunk().codecs);
        let from = self.caller_header(self.config.center_listener, &call.number, &call.name);
        let Some(dial) = &mut call.dial else { return };
        dial.party.address = Some(address);
        let invite = Invite {
            listener: self.config.center_listener,
            target: dial.address.clone(),
            from,
            to: format!("<{}>", dial.address),
            // A call that is bridged back to us again and again must end some time (RFC 7332 4).
            headers: vec![("Max-Forwards".to_owned(), call.hops.to_string())],
            sdp: dial.party.make_offer(&codecs, Direction::SendRecv),
            redirects: 8,
            silent_target_ms: call.model.limits.silent_target_ms,
            ..Invite::default()
        };
        match self.invite(call.key, invite) {
            Ok(leg) => {
                dial.party.leg = Some(leg);
                self.leg_line(call, Some(leg), Step::After, "rings");
            }
            Err(full) => self.dial_failed(call, 500, &full.to_string()),
        }
    }

    /// 180 and 183 of the second leg go through to a caller who was not answered, with their audio.
    pub(super) fn progressed(&mut self, call: &mut Call, leg: LegId, status: u16, response: &Message) {
        let Some(dial) = &mut call.dial else { return };
        if dial.party.leg != Some(leg) || dial.answered || call.answered {
            return;
        }
        let Some(caller) = call.caller.leg else { return };
        if !response.has_sdp()
            || call.caller.address.is_none()
            || (call.caller.offer.is_none() && !call.caller.ready())
        {
            return self.progress(caller, if status == 183 { 183 } else { 180 }, None);
        }
        let Ok(remote) = dial.party.accept(response.body()) else { return };
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
        let remote = match dial.party.accept(response.body()) {
            Ok(remote) => Some(remote),
            // The answer may have come with the 183 alone.
            Err(_) if dial.party.ready() => None,
            Err(error) => return self.dial_failed(call, 488, &error.to_string()),
        };
        dial.answered = true;
        dial.since = self.now;
        let media = dial.party.media;
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
        self.want_answer(call);
    }

    /// The second party refused, did not answer, or could not be dialled.
    pub(super) fn dial_failed(&mut self, call: &mut Call, status: u16, reason: &str) {
        let Some(dial) = call.dial.take() else { return };
        self.disarm(call, Wake::Ring);
        self.line(call, Step::After, format!("{}: {status} {reason}", dial.address));
        let transfer = dial.transfer;
        self.drop_party(call, dial.party, "Q.850;cause=19");
        if !transfer || call.script.is_none() {
            // Statuses that mean something between us and the other side mean nothing to the caller.
            let mapped = match status {
                401 | 407 | 300..=399 => 500,
                487 | 408 => 480,
                400..=699 => status,
                _ => 500,
            };
            return self.finish_with(call, cause::of_status(mapped), "host", reason, mapped);
        }
        if let Some(leg) = call.caller.media {
            self.media(Command::Stop { leg, play: Some(call.caller.play) });
        }
        self.hand_off(call, Station::Ivr);
        let failure = match status {
            408 | 480 | 487 => Failure::Timeout,
            _ => Failure::Other(format!("{status} {reason}")),
        };
        self.transfer_failed(call, failure);
    }
}

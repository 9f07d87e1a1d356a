//! An agent's phone hands its caller on: REFER, blind or to a party that it has asked first, and the
//! INVITE that takes the place of a leg (RFC 3515, RFC 3891).
//!
//! ```text
//!   REFER from the agent --> 202, the target is dialled, the agent's leg stays
//!        target answers  --> joined with the caller; NOTIFY 200; the agent's leg ends
//!        target refuses  --> NOTIFY with its status; the caller is still the agent's,
//!                            or goes on alone if the agent has hung up meanwhile
//! ```
//! A target that is a phone of the tenant's (an agent or a user here, or a contact that has registered) is rung
//! where the domain knows it to be, through its flow. The attended transfer differs in one header: the target gets Replaces, and puts our call where the
//! agent's consultation was. When that consultation runs through us, the INVITE comes back here and
//! takes the place of the agent's other leg.

use cordboard_media::control::Command;
use cordboard_sip::endpoint::{LegId, ReferId, TxnId};
use cordboard_sip::sdp::Session;
use cordboard_sip::wire::{Message, Uri};

use super::Shard;
use super::call::{Call, Side};
use super::core::{Core, LegEntry};
use crate::center::BOTH;
use crate::messages::TalkEnd;
use crate::model::{Agent, Phone};
use crate::timeline::Step;

/// How long the target may ring.
const RING_MS: u64 = 60_000;

/// A transfer that is under way.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Where the agent's phone hears how it goes.
    refer: Option<ReferId>,
    /// Replaces and Referred-By of the call to the target.
    pub(super) headers: Vec<(String, String)>,
}

/// What a REFER asks for.
pub(super) struct Asked {
    pub(super) target: String,
    pub(super) replaces: Option<String>,
    pub(super) referred_by: Option<String>,
}

impl Core {
    /// A REFER inside a call.
    pub(super) fn transfer_asked(&mut self, call: &mut Call, leg: LegId, txn: TxnId, asked: Asked) {
        // A caller has nobody to hand on, and one transfer at a time is enough.
        let may = call.party_of_leg(leg) == Some(Side::Agent) && call.dial.is_none() && call.ended.is_none();
        if !may {
            return self.respond(txn, 603, &[]);
        }
        let Some(refer) = self.endpoint.accept_refer(self.now, txn, leg) else { return self.pump() };
        self.pump();
        let attended = asked.replaces.is_some();
        let mut headers = Vec::new();
        headers.extend(asked.replaces.map(|value| ("Replaces".to_owned(), value)));
        headers.extend(asked.referred_by.map(|value| ("Referred-By".to_owned(), value)));
        call.transfer = Some(Transfer { refer: Some(refer), headers });
        let how = if attended { "attended" } else { "blind" };
        self.leg_line(
            call,
            Some(leg),
            Step::After,
            format!("the agent transfers to {} ({how})", asked.target),
        );
        self.dial(call, asked.target, RING_MS, false);
    }

    /// The user of a URI that names an agent of the tenant's, or the user of its phone, at our own address or in the
    /// tenant's realm.
    pub(super) fn colleague(&self, call: &Call, uri: &str) -> Option<String> {
        let uri = Uri::parse(uri).ok()?;
        let tenant = call.tenant();
        let ours = uri.ip().is_some_and(|ip| self.config.listeners.iter().any(|l| l.local.ip() == ip))
            || uri.host.eq_ignore_ascii_case(&tenant.realm);
        let user = uri.user_text();
        let is = |agent: &Agent| {
            *agent.name == *user || matches!(&agent.phone, Phone::Registered { user: u, .. } if *u == user)
        };
        (ours && tenant.agents.iter().any(is)).then(|| user.into_owned())
    }

    /// The target rings, or says how far it is.
    pub(super) fn transfer_progress(&mut self, call: &Call, status: u16) {
        if let Some(refer) = call.transfer.as_ref().and_then(|t| t.refer) {
            self.endpoint.refer_news(self.now, refer, status);
            self.pump();
        }
    }

    /// The target is joined with the caller: the agent is free.
    pub(super) fn transferred(&mut self, call: &mut Call) {
        let Some(transfer) = call.transfer.take() else { return };
        self.report(&transfer, 200);
        if call.talk.is_some() {
            self.talk_ends(call, TalkEnd::AgentLeft, "SIP;cause=200;text=\"Transferred\"");
        }
    }

    /// The target cannot be had. True when the agent still has the caller, so that nothing else changes.
    pub(super) fn transfer_failed_over(&mut self, call: &mut Call, status: u16) -> bool {
        let Some(transfer) = call.transfer.take() else { return false };
        self.report(&transfer, if (300..700).contains(&status) { status } else { 503 });
        if call.talk.is_none() {
            return false;
        }
        // What the caller heard instead of the agent ends; the relay was never parted.
        if let Some(leg) = call.caller.media {
            self.media(Command::Stop { leg, play: Some(call.caller.play) });
        }
        true
    }

    fn report(&mut self, transfer: &Transfer, status: u16) {
        if let Some(refer) = transfer.refer {
            self.endpoint.refer_news(self.now, refer, status);
            self.pump();
        }
    }

    /// A new leg takes the place of one of the call's: answered at once, the old one is hung up.
    fn replace(&mut self, call: &mut Call, new: LegId, old: LegId, offer: Option<&Session>) {
        let side = call.party_of_leg(old).filter(|side| *side != Side::Ringing && call.ended.is_none());
        let Some(side) = side else { return self.reject(new, 481, &[]) };
        let trunk_codecs = call.trunk().codecs.clone();
        let codecs =
            if side == Side::Caller && !trunk_codecs.is_empty() { trunk_codecs.as_slice() } else { BOTH };
        let Some((party, offer)) = call.party(side).zip(offer) else {
            // An offer of ours would need the media plane twice; phones that transfer have one themselves.
            return self.reject(new, 488, &[]);
        };
        let (sdp, remote) = match party.answer(offer, codecs) {
            Ok(answer) => answer,
            Err(error) => return self.reject(new, error.map_or(500, |e| e.status()), &[]),
        };
        party.leg = Some(new);
        party.ignores_options = false;
        if let Some(leg) = party.media {
            self.media(Command::Remote { leg, remote });
        }
        self.legs.insert(new, LegEntry { call: call.key, up: false, dying: false });
        self.endpoint.answer(self.now, new, Some(&sdp));
        self.pump();
        self.hang_up(old, "SIP;cause=200;text=\"Replaced\"");
        self.leg_line(call, Some(new), Step::After, "a new leg takes the place of the old one (Replaces)");
        self.dialog_up(new, call.interaction);
    }
}

impl Shard {
    /// An INVITE with Replaces that names a leg of ours: whoever knows its tags may take its place.
    pub(super) fn arrive_in_place(&mut self, new: LegId, old: LegId, request: &Message) {
        let offer = match request.sdp().map(Session::parse) {
            Some(Ok(offer)) => Some(offer),
            Some(Err(error)) => return self.core.reject(new, error.status(), &[]),
            None => None,
        };
        match self.core.legs.get(&old).copied().filter(|e| !e.dying) {
            Some(entry) => self.with(entry.call, |core, call| core.replace(call, new, old, offer.as_ref())),
            None => self.core.reject(new, 481, &[]),
        }
    }
}

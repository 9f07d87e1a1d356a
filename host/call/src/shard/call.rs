//! One call: what the shard knows of it, and nothing that it can do.
//!
//! Lives in the shard's slab from its admission to its `Gone`.

use std::sync::Arc;

use cordboard_base::{Id, Now, TimerId};
use cordboard_media::control;
use cordboard_sip::endpoint::LegId;

use super::transfer::Transfer;
use crate::bridge::{Dial, Round, Talk};
use crate::center::Party;
use crate::center::cause::Said;
use crate::handoff::Station;
use crate::ivr::{Script, TypedAhead};
use crate::messages::{CallEnded, Outcome, TicketState};
use crate::model::{Model, Tenant, Trunk};
use crate::timeline::Line;
use crate::trunk::diversion::Diversions;
use crate::trunk::identity;
use crate::trunk::passages::{self, Passages};
use crate::{Attributes, Name};

/// A call's place in the slab, and a number that no other call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CallKey {
    pub(super) slot: u32,
    pub(super) serial: u32,
}

/// The timers of a call: at most one of each kind runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// The router has not been heard of.
    Route,
    /// The ring timer: of an offer's round, or of a dialled address.
    Ring,
    /// Leases run anew.
    Renew,
    /// A verb's time.
    Verb,
    /// The script's grace after the end.
    Grace,
    /// The phones are asked whether they are still there.
    Probe,
}

pub(super) const WAKES: usize = 6;

/// A place in a queue, as last heard or judged.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) ticket: Id,
    pub(super) workgroup: Name,
    pub(super) music: Option<Name>,
    pub(super) state: TicketState,
    /// Line 13 is written.
    pub(super) heard: bool,
}

/// What an unscripted call is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Native {
    /// A script has it, or nothing yet.
    No,
    /// It is to be queued as soon as it is answered, and waits with music.
    Queue,
    /// The announcement plays; the call then ends with this cause.
    Announce { play: u64, cause: u8 },
}

pub(super) struct Call {
    pub(super) key: CallKey,
    pub(super) interaction: Id,
    /// The configuration that it came in under.
    pub(super) model: Arc<Model>,
    pub(super) trunk: u32,
    pub(super) tenant: u32,
    pub(super) station: Station,
    pub(super) began: Now,
    pub(super) caller: Party,
    /// Who calls, as far as that may be shown.
    pub(super) number: String,
    pub(super) name: String,
    /// Who calls, all that is known.
    pub(super) who: identity::Caller,
    /// The numbers that it was dialled to before.
    pub(super) diversions: Diversions,
    pub(super) called: String,
    pub(super) call_id: Arc<str>,
    /// Headers of the caller's INVITE for calls that leave by a trunk that copies them.
    pub(super) brought: Attributes,
    /// Its ways through here, this one included.
    pub(super) passages: Passages,
    /// Max-Forwards of the legs that we dial for it.
    pub(super) hops: u8,
    /// The final response to the caller's INVITE is sent.
    pub(super) answered: bool,
    /// It is to be answered as soon as its media leg is open.
    pub(super) answer_wanted: bool,
    /// Our 200 had the offer; the ACK has the answer.
    pub(super) delayed_offer: bool,
    pub(super) ask: Option<u64>,
    pub(super) native: Native,
    pub(super) script: Option<Script>,
    pub(super) enqueues: u32,
    /// The workgroup of the last enqueue.
    pub(super) asked: String,
    pub(super) place: Option<Place>,
    pub(super) round: Option<Round>,
    // Boxed, as most of a call's life has none of them.
    pub(super) talk: Option<Box<Talk>>,
    pub(super) dial: Option<Box<Dial>>,
    /// The dialled party is who an agent hands the caller on to.
    pub(super) transfer: Option<Transfer>,
    /// The last conversation's ticket and outcome, for a script that asks late.
    pub(super) outcome: Option<(Id, Outcome)>,
    pub(super) digits: TypedAhead,
    pub(super) recordings: Vec<String>,
    pub(super) lines: Vec<Line>,
    pub(super) timers: [Option<TimerId>; WAKES],
    /// Why the leg that has just ended did so, for the other one.
    pub(super) said: Option<Said>,
    /// How it ended; told to the domain when nothing more can be added.
    pub(super) ended: Option<Box<CallEnded>>,
    /// Nothing is left of it: it leaves the slab.
    pub(super) gone: bool,
}

impl Call {
    pub(super) fn tenant(&self) -> &Tenant {
        &self.model.tenants[self.tenant as usize]
    }

    pub(super) fn trunk(&self) -> &Trunk {
        &self.model.trunks[self.trunk as usize]
    }

    /// Whether another party has the caller, or an agent has promised the caller to one: verbs on the caller fail.
    pub(super) fn taken(&self) -> bool {
        self.talk.is_some() || self.transfer.is_some() || self.dial.as_ref().is_some_and(|d| d.answered)
    }

    /// What every leg that is dialled for it has: a call that comes back to us again and again ends (RFC 7332 4).
    pub(super) fn own_headers(&self) -> Vec<(String, String)> {
        let passages = match self.transfer {
            Some(_) => self.passages.of_transfer().value(),
            None => self.passages.value(),
        };
        vec![("Max-Forwards".to_owned(), self.hops.to_string()), (passages::HEADER.to_owned(), passages)]
    }

    /// The party of a SIP leg that is joined or answered.
    pub(super) fn party_of_leg(&mut self, leg: LegId) -> Option<Side> {
        let is = |p: &Party| p.leg == Some(leg);
        if is(&self.caller) {
            Some(Side::Caller)
        } else if self.talk.as_ref().is_some_and(|t| is(&t.party)) {
            Some(Side::Agent)
        } else if self.dial.as_ref().is_some_and(|d| is(&d.party)) {
            Some(Side::Dialled)
        } else if self.round.as_ref().is_some_and(|r| r.rings.iter().any(|r| is(&r.party))) {
            Some(Side::Ringing)
        } else {
            None
        }
    }

    pub(super) fn party_of_media(&mut self, media: control::LegId) -> Option<Side> {
        let is = |p: &Party| p.media == Some(media);
        if is(&self.caller) {
            Some(Side::Caller)
        } else if self.talk.as_ref().is_some_and(|t| is(&t.party)) {
            Some(Side::Agent)
        } else if self.dial.as_ref().is_some_and(|d| is(&d.party)) {
            Some(Side::Dialled)
        } else if self.round.as_ref().is_some_and(|r| r.rings.iter().any(|r| is(&r.party))) {
            Some(Side::Ringing)
        } else {
            None
        }
    }

    /// The party on that side, when there is just one.
    pub(super) fn party(&mut self, side: Side) -> Option<&mut Party> {
        match side {
            Side::Caller => Some(&mut self.caller),
            Side::Agent => self.talk.as_mut().map(|t| &mut t.party),
            Side::Dialled => self.dial.as_mut().map(|d| &mut d.party),
            Side::Ringing => None,
        }
    }

    /// Who talks with the caller.
    pub(super) fn other(&mut self) -> Option<&mut Party> {
        match (&mut self.talk, &mut self.dial) {
            (Some(talk), _) => Some(&mut talk.party),
            (None, Some(dial)) => Some(&mut dial.party),
            (None, None) => None,
        }
    }
}

/// Which leg of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Caller,
    Agent,
    Dialled,
    Ringing,
}

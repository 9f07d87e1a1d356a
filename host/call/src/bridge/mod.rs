//! Steps 16 to 18: the judge of an offer, and what joins two parties.
//!
//! A [`Round`] is one offer of the domain: each agent has a token and a leg, and each token gets
//! exactly one outcome. [`Talk`] is a conversation that came out of it, [`Dial`] a second party
//! without a queue. Called by the shard, which sends what they return. Never chooses an agent.

use std::collections::VecDeque;

use cordboard_base::{Id, Now};
use cordboard_media::control;
use cordboard_sip::endpoint::{Flow, LegId};

use crate::Name;
use crate::center::Party;
use crate::messages::{OfferResult, Settled};
use crate::trunk::diversion::Why;
use crate::trunk::hunt::Hunt;

/// One agent's phone of a round.
///
/// ```text
///                 media open            2xx            (round over, others Lost)
///   reserved --> Opening --> Ringing --> Accepted
///                   |           |-- final status, timer, revoke, caller gone --> settled
///                   +-----------+
/// ```
#[derive(Debug)]
pub struct Ring {
    /// The offer's token.
    pub token: Id,
    /// Who.
    pub agent: Name,
    /// The request URI.
    pub uri: String,
    /// Through which listener and to which address, when the phone registered.
    pub flow: Option<crate::messages::Flow>,
    /// Ways to the phone that were not tried, when its URI has a name.
    pub addresses: VecDeque<Flow>,
    /// The leg.
    pub party: Party,
}

/// An offer that rings.
#[derive(Debug)]
pub struct Round {
    /// For which place.
    pub ticket: Id,
    /// For the agents' displays.
    pub workgroup: Name,
    /// When it began.
    pub since: Now,
    /// The ring timer.
    pub ring_timeout_ms: u64,
    /// The tokens' lease.
    pub lease_ms: u64,
    /// Those that still ring: a settled one is taken out, so it cannot be settled twice.
    pub rings: Vec<Ring>,
}

impl Round {
    /// Takes the ring with that token out, for its one outcome.
    pub fn take(&mut self, token: Id) -> Option<Ring> {
        let at = self.rings.iter().position(|r| r.token == token)?;
        Some(self.rings.remove(at))
    }

    /// Takes the ring of a SIP leg out.
    pub fn take_leg(&mut self, leg: LegId) -> Option<Ring> {
        let at = self.rings.iter().position(|r| r.party.leg == Some(leg))?;
        Some(self.rings.remove(at))
    }

    /// Takes the ring of a media leg out.
    pub fn take_media(&mut self, media: control::LegId) -> Option<Ring> {
        let at = self.rings.iter().position(|r| r.party.media == Some(media))?;
        Some(self.rings.remove(at))
    }

    /// The ring of a SIP leg.
    pub fn by_leg(&mut self, leg: LegId) -> Option<&mut Ring> {
        self.rings.iter_mut().find(|r| r.party.leg == Some(leg))
    }

    /// The ring of a media leg.
    pub fn by_media(&mut self, media: control::LegId) -> Option<&mut Ring> {
        self.rings.iter_mut().find(|r| r.party.media == Some(media))
    }

    /// The outcome of a ring of this round.
    #[must_use]
    pub fn settle(&self, now: Now, ring: &Ring, result: OfferResult) -> Settled {
        Settled {
            token: ring.token,
            ticket: self.ticket,
            agent: ring.agent.clone(),
            result,
            rang_ms: elapsed_ms(self.since, now),
        }
    }
}

/// A conversation with an agent.
#[derive(Debug)]
pub struct Talk {
    /// The token that was accepted.
    pub token: Id,
    /// The place it was accepted from.
    pub ticket: Id,
    /// Who.
    pub agent: Name,
    /// The leg.
    pub party: Party,
    /// Since.
    pub since: Now,
    /// The token's lease.
    pub lease_ms: u64,
    /// The caller was put on hold by a third party's command.
    pub held: bool,
}

/// A second party without a queue: a router's bridge, or a script's transfer.
#[derive(Debug)]
pub struct Dial {
    /// The leg.
    pub party: Party,
    /// The request URI.
    pub address: String,
    /// How long it may ring.
    pub ring_timeout_ms: u64,
    /// It has answered.
    pub answered: bool,
    /// A script waits for the outcome.
    pub transfer: bool,
    /// The call leaves the number that it came to, and why.
    pub leaves: Option<Why>,
    /// Since the answer, or the start.
    pub since: Now,
    /// Audio of before the answer flows.
    pub early: bool,
    /// The ways that it may still take.
    pub hunt: Hunt,
    /// Audio of before the answer is not wanted: the caller is told that it rings.
    pub ring_only: bool,
}

/// What a phone's final status means for its offer.
#[must_use]
pub const fn judge(status: u16) -> OfferResult {
    match status {
        486 | 600 => OfferResult::Busy,
        404 | 408 | 410 | 503 | 500..=502 | 504..=599 | 604 => OfferResult::Unreachable { status },
        _ => OfferResult::Declined { status },
    }
}

/// Milliseconds between two readings of the monotonic clock.
#[must_use]
pub const fn elapsed_ms(from: Now, to: Now) -> u64 {
    to.mono_ns.saturating_sub(from.mono_ns) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_s_status_has_one_meaning() {
        assert_eq!(judge(486), OfferResult::Busy);
        assert_eq!(judge(603), OfferResult::Declined { status: 603 });
        assert_eq!(judge(480), OfferResult::Declined { status: 480 });
        assert_eq!(judge(404), OfferResult::Unreachable { status: 404 });
        assert_eq!(judge(408), OfferResult::Unreachable { status: 408 });
        assert_eq!(judge(503), OfferResult::Unreachable { status: 503 });
    }
}

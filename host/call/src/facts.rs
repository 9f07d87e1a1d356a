//! What the journal holds: facts, not inputs. Recovery applies them, so an upgrade or another
//! policy loses no place. Each variant may only gain new siblings; a changed one gets a new name.

use std::net::SocketAddr;
use std::sync::Arc;

use cordboard_base::Id;
use cordboard_sip::endpoint::DialogRecord;
use serde::{Deserialize, Serialize};

use crate::messages::{CallEnded, OfferResult, TalkEnd};
use crate::timeline::Line;
use crate::{Attributes, Name};

/// Where a phone is reached when the process has begun anew. Connections do not live that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The listener.
    pub listener: u16,
    /// The phone's address as seen there.
    pub remote: SocketAddr,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// An interaction was created.
    Opened {
        /// Which.
        interaction: Id,
        /// Whose.
        tenant: Name,
        /// Where from.
        trunk: Name,
        /// Calling number.
        caller: String,
        /// Calling name.
        caller_name: String,
        /// Dialled number.
        called: String,
        /// Of the caller's leg.
        call_id: String,
        /// Unix milliseconds.
        wall_ms: i64,
        /// The shard that owns the call, and its life.
        shard: (u16, u64),
    },
    /// A place was given.
    Queued {
        /// Which place.
        ticket: Id,
        /// Of which interaction.
        interaction: Id,
        /// The enqueue's number within the interaction.
        key: u32,
        /// Whose.
        tenant: Name,
        /// Where.
        workgroup: Name,
        /// A direct call's agent.
        direct: Option<Name>,
        /// The sort key.
        key_ms: i64,
        /// The arrival that it is counted from.
        arrived_ms: i64,
        /// For a caller who calls back after a crash.
        caller: String,
        /// Numbers of the tenant's skill table.
        skills: Vec<Name>,
        /// 0 to 100.
        priority: u8,
    },
    /// A place's key changed (raised by its plan, or placed anew by another policy).
    Placed {
        /// Which place.
        ticket: Id,
        /// The new key.
        key_ms: i64,
    },
    /// An agent was reserved.
    Offered {
        /// The offer.
        token: Id,
        /// For which place.
        ticket: Id,
        /// Whose.
        tenant: Name,
        /// Who.
        agent: Name,
        /// When the lease ends, Unix milliseconds.
        lease_until_ms: i64,
    },
    /// An offer ended; with `Accepted` the place is taken, otherwise it waits again.
    Settled {
        /// The offer.
        token: Id,
        /// For which place.
        ticket: Id,
        /// How.
        result: OfferResult,
        /// Unix milliseconds.
        wall_ms: i64,
    },
    /// A conversation ended.
    TalkEnded {
        /// The offer.
        token: Id,
        /// The place; with `AgentVanished` it waits again.
        ticket: Id,
        /// How.
        how: TalkEnd,
        /// How long.
        talked_ms: u64,
    },
    /// A place is gone.
    Unqueued {
        /// Which.
        ticket: Id,
        /// `left`, `caller-gone`, `served`, `lease`…
        why: String,
    },
    /// An agent's state changed.
    AgentState {
        /// Whose.
        tenant: Name,
        /// Who.
        agent: Name,
        /// The state.
        state: crate::commands::AgentStateName,
        /// The reason, for not-ready.
        reason: String,
        /// Unanswered offers in a row.
        misses: u32,
        /// Unix milliseconds.
        wall_ms: i64,
    },
    /// A phone registered, refreshed or went (expiry in the past).
    Bound {
        /// Whose.
        tenant: Name,
        /// Address-of-record user.
        user: String,
        /// Where.
        uri: String,
        /// Through which edge.
        flow: Edge,
        /// Unix milliseconds.
        expires_ms: i64,
    },
    /// An interaction is over; the record is whole. The journal writes the record beside the facts, and [`Self::Recorded`].
    Closed(Arc<Record>),
    /// A leg's dialog was confirmed (written by the shard).
    DialogUp {
        /// A name of the leg, unique in the shard's life.
        leg: u64,
        /// Of which interaction.
        interaction: Id,
        /// What a BYE needs.
        dialog: Arc<DialogRecord>,
    },
    /// A leg's dialog is over.
    DialogDown {
        /// The leg.
        leg: u64,
    },
    /// Attributes were set; an empty value removed one.
    AttributesSet {
        /// Of which interaction.
        interaction: Id,
        /// Names and values.
        set: Attributes,
    },
    /// The caller was lost; the place is kept for one who calls back.
    Ghost {
        /// Which place.
        ticket: Id,
        /// Unix milliseconds; forgotten then.
        until_ms: i64,
    },
    /// Events of the tenant may bear numbers up to this one.
    Sequence {
        /// Whose.
        tenant: Name,
        /// The highest.
        up_to: u64,
    },
    /// What a live interaction has behind it; only in a snapshot, after its `Opened`.
    Carried(Box<Carried>),
    /// An interaction is over, and its record stands among the records.
    Recorded {
        /// Which.
        interaction: Id,
    },
}

/// The past of a live interaction, as a snapshot of the journal carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// Which.
    pub interaction: Id,
    /// As they stand.
    pub attributes: Attributes,
    /// Every offer so far.
    pub offers: Vec<OfferRecord>,
    /// The last workgroup.
    pub workgroup: String,
    /// When it first queued, Unix milliseconds.
    pub first_queued_ms: Option<i64>,
    /// When an agent first accepted, Unix milliseconds.
    pub first_accepted_ms: Option<i64>,
}

/// The detail record of an interaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which.
    pub interaction: Id,
    /// Whose.
    pub tenant: Name,
    /// Where from.
    pub trunk: Name,
    /// Calling number.
    pub caller: String,
    /// Dialled number.
    pub called: String,
    /// Of the caller's leg.
    pub call_id: String,
    /// Unix milliseconds.
    pub began_ms: i64,
    /// Unix milliseconds.
    pub ended_ms: i64,
    /// How it ended. After a crash: by `host`, text `node-lost`.
    pub end: CallEnded,
    /// Attributes at the end.
    pub attributes: Attributes,
    /// Every offer, in order.
    pub offers: Vec<OfferRecord>,
    /// The last workgroup, empty without one.
    pub workgroup: String,
    /// The last agent who talked, empty without one.
    pub agent: String,
    /// In queues, all places together.
    pub waited_ms: u64,
    /// With agents, all together.
    pub talked_ms: u64,
    /// The first estimate of the wait, and what it then was, both in milliseconds.
    pub estimate_ms: Option<(u64, u64)>,
    /// The timeline.
    pub lines: Vec<Arc<Line>>,
}

/// The detail record of an offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferRecord {
    /// The offer.
    pub token: Id,
    /// The place.
    pub ticket: Id,
    /// Who.
    pub agent: Name,
    /// Unix milliseconds.
    pub offered_ms: i64,
    /// How it ended; none after a crash.
    pub result: Option<OfferResult>,
    /// How long it rang.
    pub rang_ms: u64,
    /// How long they talked.
    pub talked_ms: u64,
}

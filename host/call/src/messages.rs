//! What the authorities say to each other over the bus. Everything here can be serialised, and in
//! tests it always is, so that nothing is smuggled through memory.

use cordboard_base::Id;
pub use cordboard_sip::endpoint::Flow;
use serde::{Deserialize, Serialize};

use crate::timeline::Line;
use crate::{Attributes, Name};

/// A message with what makes it safe to hear twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<M> {
    /// The sender's shard number, or the domain's number.
    pub from: u16,
    /// A life of the sender: grows with every start.
    pub epoch: u64,
    /// Counts the sender's messages to this receiver, from 1. With `epoch` it is the idempotency key.
    pub seq: u64,
    /// Whose call it is about, if any.
    pub interaction: Option<Id>,
    /// Timeline lines of that interaction that the sender has written since its last message.
    /// A line whose `bus_seq` is none is completed with `seq` by the receiver.
    pub lines: Vec<Line>,
    /// The message.
    pub body: M,
}

/// From a shard to a domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToDomain {
    /// Step 5 is done: create the interaction (once, however often this comes).
    CallNew(CallNew),
    /// The script or a CTI client has set attributes.
    Attributes {
        /// Names and values; an empty value removes.
        set: Attributes,
    },
    /// Step 9. `key` counts the enqueues of the interaction from 1: asking twice queues once.
    Enqueue {
        /// The key.
        key: u32,
        /// The workgroup, or `agent:NAME`.
        workgroup: String,
        /// How.
        request: QueueRequest,
    },
    /// The script gives a place up, or the router's call did. Answered by `Left`.
    Leave {
        /// Repeated in the answer.
        request: u64,
        /// Which place.
        ticket: Id,
    },
    /// A span in which the caller must not be taken. Answered by `Left`.
    Protect {
        /// Repeated in the answer.
        request: u64,
        /// Which place.
        ticket: Id,
        /// On or off.
        on: bool,
    },
    /// Where a phone is that an agent hands its caller on to. Answered by `Located`.
    Locate {
        /// Repeated in the answer.
        request: u64,
        /// An agent's name, or the user that its phone registers, when the target is somebody of the tenant's.
        user: Option<String>,
        /// The target as it was written: it may be the contact of a phone that is registered.
        uri: String,
    },
    /// The one outcome of a token.
    Settled(Settled),
    /// The shard still works on these tokens: their leases run anew.
    Renew {
        /// Offered or taken.
        tokens: Vec<Id>,
    },
    /// A conversation is over: wrap-up begins.
    TalkEnded {
        /// The token that was accepted.
        token: Id,
        /// The place it was accepted from.
        ticket: Id,
        /// How long they talked.
        talked_ms: u64,
        /// Who ended it.
        how: TalkEnd,
    },
    /// The call is over. Whatever it held is free.
    CallEnded(CallEnded),
    /// A connection that phones have registered over has closed: they cannot be reached on it any more.
    FlowClosed(Flow),
    /// Only timeline lines.
    Note,
    /// A phone's REGISTER whose digest was right. Answered by `Registered`.
    Register(Register),
    /// Somebody at this shard's phones watches an agent, or nobody does any more. Answered by `AgentState`, now
    /// and at each change.
    Watch {
        /// Whose.
        tenant: Name,
        /// Whom.
        agent: Name,
        /// Whether somebody does.
        on: bool,
    },
    /// A shard has started anew: its earlier life's calls are dead.
    ShardUp,
}

/// A call was admitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallNew {
    /// Whose.
    pub tenant: Name,
    /// Where from.
    pub trunk: Name,
    /// Calling number, empty when withheld.
    pub caller: String,
    /// Calling name.
    pub caller_name: String,
    /// Dialled number.
    pub called: String,
    /// Of the caller's leg.
    pub call_id: String,
    /// From the trunk.
    pub attributes: Attributes,
}

/// How to queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueRequest {
    /// Required.
    pub skills: Vec<String>,
    /// 0 to 100.
    pub priority: u8,
    /// Asked first, if free.
    pub preferred_agent: Option<String>,
    /// Added to the interaction's.
    pub attributes: Attributes,
}

/// Why a call may not queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// `no-workgroup`, `full`, `no-agents`, `skills`, `no-agent`, `qualified`…
    pub reason: String,
    /// For a person.
    pub text: String,
}

/// The state of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TicketState {
    /// In the queue.
    Waiting,
    /// It rings at an agent; the place is kept.
    Offered,
    /// An agent has the call.
    Taken,
    /// It came back from an agent and waits at its old place.
    Returned,
    /// Gone.
    Ended,
}

/// How a token ended. Exactly one a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// Which offer.
    pub token: Id,
    /// For which place.
    pub ticket: Id,
    /// To whom.
    pub agent: Name,
    /// How.
    pub result: OfferResult,
    /// How long it rang.
    pub rang_ms: u64,
}

/// The shard's judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OfferResult {
    /// The agent has the call.
    Accepted,
    /// The ring timer fired.
    NoAnswer,
    /// 486, 600.
    Busy,
    /// 603, 403, 480…
    Declined {
        /// The phone's status.
        status: u16,
    },
    /// 404, 408, 503, or no media: the phone is not there.
    Unreachable {
        /// The status, or 0.
        status: u16,
    },
    /// Another agent of the round was faster.
    Lost,
    /// The caller hung up.
    CallerGone,
    /// The domain withdrew it in time (log-out, supervisor).
    Revoked,
    /// The shard did not know the call (any more).
    NoCall,
}

/// How a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TalkEnd {
    /// The agent hung up; the caller is still there.
    AgentLeft,
    /// The caller hung up.
    CallerGone,
    /// The agent's phone vanished: the caller goes back to the same place.
    AgentVanished,
    /// The agent sent the call on or back.
    Transferred,
}

/// What a script hears when an agent has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `agent-left`, `returned`, `caller-gone`.
    pub end: String,
    /// Who.
    pub agent: String,
    /// How long.
    pub talked_ms: u64,
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallEnded {
    /// Q.850.
    pub cause: u8,
    /// Who ended it: `caller`, `script`, `agent`, `host`, `operator`.
    pub by: String,
    /// In words.
    pub text: String,
    /// The final SIP status when it was refused, else 200 or 487.
    pub status: u16,
    /// Whether it was answered.
    pub answered: bool,
    /// From the INVITE to the end.
    pub duration_ms: u64,
    /// Names of recordings.
    pub recordings: Vec<String>,
}

/// A REGISTER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// Repeated in the answer.
    pub request: u64,
    /// Whose agents' phones.
    pub tenant: Name,
    /// Address-of-record user.
    pub user: String,
    /// RFC 3261 10.3 step 7.
    pub call_id: String,
    /// RFC 3261 10.3 step 7.
    pub cseq: u32,
    /// `Contact: *` with `Expires: 0`.
    pub remove_all: bool,
    /// What it binds, refreshes or, with an expiry of 0, takes away.
    pub contacts: Vec<Contact>,
    /// The edge: through which listener and connection, to which address.
    pub flow: Flow,
}

/// One contact of a REGISTER or of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The URI, as the phone wrote it.
    pub uri: String,
    /// Seconds that it lasts.
    pub expires_s: u32,
    /// Preference in thousandths.
    pub q: u16,
    /// `+sip.instance` without its quotes: the phone itself, whatever its address (RFC 5626 4.1).
    pub instance: Option<String>,
    /// `reg-id`: which of the phone's flows (RFC 5626 4.2); 0 when it names none.
    pub reg_id: u32,
}

/// From a domain to a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToShard {
    /// The answer to `Enqueue`; it leaves when the fact is durable.
    Enqueued {
        /// The request's key.
        key: u32,
        /// The place, or why not.
        result: Result<Place, Refusal>,
    },
    /// The place as it stands: sent when its state or position changes.
    Ticket {
        /// Which.
        ticket: Id,
        /// What holds.
        state: TicketState,
        /// 1 for the head.
        position: u32,
        /// The estimate.
        wait_s: Option<u32>,
    },
    /// The answer to `Leave` and `Protect`.
    Left {
        /// The request's number.
        request: u64,
        /// Whether it could be done.
        result: crate::script::Left,
    },
    /// Step 16: ring these phones. The shard is the judge from here on.
    Offer(Offer),
    /// Withdraw a token; the shard answers with the token's one outcome, which may be `Accepted`.
    Revoke {
        /// Which.
        token: Id,
    },
    /// A token's lease has run out: is it still worked on? Answered by `Renew`, unless its outcome is on
    /// its way already.
    Confirm {
        /// Which.
        token: Id,
    },
    /// Nobody confirmed the token, and the domain has given it up: the agent is free and the place waits
    /// again. A shard that lives after all withdraws the offer, or ends the conversation; the caller
    /// goes back to the place.
    Lapsed {
        /// Which.
        token: Id,
    },
    /// The answer to `Register`.
    Registered {
        /// The request's number.
        request: u64,
        /// 200 or an error.
        status: u16,
        /// Current contacts with their remaining seconds.
        contacts: Vec<Contact>,
    },
    /// The answer to `Locate`.
    Located {
        /// The request's number.
        request: u64,
        /// The Request-URI, and the flow of a phone that has registered; none: no phone of the tenant's.
        phone: Option<(String, Option<Flow>)>,
    },
    /// How an agent is whom somebody watches.
    AgentState {
        /// Whose.
        tenant: Name,
        /// Who.
        agent: Name,
        /// None: there is no such agent.
        state: Option<crate::commands::AgentStateName>,
    },
    /// A third party's command on a call.
    Command(CallCommand),
    /// The domain does not take the call (table full, unknown tenant): refuse it.
    Refuse {
        /// A SIP status.
        status: u16,
        /// Why.
        text: String,
    },
}

/// A place in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its name for ever.
    pub ticket: Id,
    /// The workgroup it is in (the domain may have chosen another).
    pub workgroup: Name,
    /// Waits for one named agent.
    pub direct: bool,
    /// 1 for the head.
    pub position: u32,
    /// The estimate of the wait.
    pub wait_s: Option<u32>,
    /// Native treatment, when no script runs.
    pub music: Option<Name>,
}

/// A round of offers for one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// For which place.
    pub ticket: Id,
    /// Each with a token of its own. Not empty.
    pub agents: Vec<Offered>,
    /// The ring timer, and it is the only one.
    pub ring_timeout_ms: u64,
    /// The tokens' lease: renew in time.
    pub lease_ms: u64,
    /// For the agents' displays.
    pub workgroup: Name,
}

/// One agent of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offered {
    /// Who.
    pub agent: Name,
    /// The offer's token.
    pub token: Id,
    /// The request URI.
    pub uri: String,
    /// Through the phone's flow, when it registered.
    pub flow: Option<Flow>,
}

/// What a third party may ask of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallCommand {
    /// ECMA-269 ClearCall.
    Clear {
        /// Q.850.
        cause: u8,
    },
    /// ECMA-269 HoldCall: the caller hears the workgroup's music.
    Hold,
    /// ECMA-269 RetrieveCall.
    Retrieve,
}

//! What operators, desktops and the command line ask of a domain, and its answers.

use std::sync::Arc;

use cordboard_base::Id;
use serde::{Deserialize, Serialize};

use crate::facts::Record;
use crate::messages::CallCommand;
use crate::timeline::Line;
use crate::{Attributes, Name};

/// The states of an agent, in ECMA-269's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentStateName {
    /// agentNull: not logged in.
    LoggedOut,
    /// agentNotReady
    NotReady,
    /// agentReady
    Ready,
    /// Offered a call; the phone rings.
    Reserved,
    /// agentBusy
    Busy,
    /// agentWorkingAfterCall
    WorkingAfterCall,
}

/// A request. Each gets exactly one [`Reply`], when what it changed is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Log in; ready, or not-ready with a reason.
    LogIn {
        /// Whose.
        tenant: String,
        /// Who.
        agent: String,
        /// At once.
        ready: bool,
    },
    /// Log out; an offer that rings is revoked, a conversation goes on and the log-out follows it.
    LogOut {
        /// Whose.
        tenant: String,
        /// Who.
        agent: String,
    },
    /// Change state.
    SetReady {
        /// Whose.
        tenant: String,
        /// Who.
        agent: String,
        /// Ready, or not-ready (during a call: when it is over).
        ready: bool,
        /// For not-ready.
        reason: String,
    },
    /// All agents.
    Agents,
    /// All queues.
    Queues,
    /// Live interactions.
    Calls,
    /// One live interaction; the store knows those that have ended.
    Call {
        /// Which.
        interaction: Id,
    },
    /// A third party's command on a call.
    Control {
        /// Which.
        interaction: Id,
        /// What.
        command: CallCommand,
    },
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// To `Agents`.
    Agents(Vec<AgentView>),
    /// To `Queues`.
    Queues(Vec<QueueView>),
    /// To `Calls`.
    Calls(Vec<CallView>),
    /// To `Call`.
    Call(Box<Record>),
    /// It cannot be done.
    Error {
        /// An HTTP status: 404 not found, 409 the state does not allow it, 400 asked wrongly.
        status: u16,
        /// Who is at fault and what to do.
        text: String,
    },
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentView {
    /// Whose.
    pub tenant: Name,
    /// Who.
    pub agent: Name,
    /// State.
    pub state: AgentStateName,
    /// For not-ready.
    pub reason: String,
    /// In the state since, Unix milliseconds.
    pub since_ms: i64,
    /// With or offered which interaction.
    pub interaction: Option<Id>,
    /// Unanswered offers in a row.
    pub misses: u32,
    /// Calls taken since log-in.
    pub calls: u64,
    /// Whether a phone is known: always for an address, while registered otherwise.
    pub reachable: bool,
    /// Workgroups.
    pub workgroups: Vec<Name>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueView {
    /// Whose.
    pub tenant: Name,
    /// Which.
    pub workgroup: Name,
    /// Waiting, not offered.
    pub waiting: u32,
    /// Offered.
    pub offered: u32,
    /// Talking.
    pub taken: u32,
    /// Of the head, in milliseconds.
    pub longest_wait_ms: u64,
    /// The estimate for a caller who comes now.
    pub estimate_s: Option<u32>,
    /// Logged in, ready.
    pub agents_ready: u32,
    /// Logged in.
    pub agents_logged_in: u32,
    /// Places given since the start.
    pub entered: u64,
    /// Served since the start.
    pub served: u64,
    /// Callers who gave up waiting since the start.
    pub abandoned: u64,
    /// Mean absolute error of the estimates so far, in milliseconds.
    pub estimate_error_ms: Option<u64>,
    /// The entries in order.
    pub entries: Vec<EntryView>,
}

/// An entry of a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryView {
    /// The place.
    pub ticket: Id,
    /// Of which interaction.
    pub interaction: Id,
    /// Who waits.
    pub caller: String,
    /// 1 for the head.
    pub position: u32,
    /// State.
    pub state: crate::messages::TicketState,
    /// So far.
    pub waited_ms: u64,
    /// Waits in memory of a caller who was lost in a crash and may call back.
    pub awaiting_call_back: bool,
}

/// A live interaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallView {
    /// Which.
    pub interaction: Id,
    /// Whose.
    pub tenant: Name,
    /// Calling number.
    pub caller: String,
    /// Dialled number.
    pub called: String,
    /// `ivr`, `waiting`, `offered`, `talking`.
    pub state: String,
    /// Since, Unix milliseconds.
    pub began_ms: i64,
    /// The workgroup, if any.
    pub workgroup: Option<Name>,
    /// The agent, if any.
    pub agent: Option<Name>,
    /// Attributes.
    pub attributes: Attributes,
    /// The last line of its timeline.
    pub last: Option<Arc<Line>>,
}

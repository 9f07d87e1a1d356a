//! The timeline of a call: one line a step of the eighteen, each with its evidence.

use std::borrow::Cow;
use std::sync::Arc;

use cordboard_base::Id;
use serde::{Deserialize, Serialize};

/// The steps as the flow numbers them; what comes after the eighteen has no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// 3
    InviteToRedirect,
    /// 4
    Redirected,
    /// 5
    NewCall,
    /// 6
    CtiTold,
    /// 7
    InteractionCreated,
    /// 8
    ScriptStarted,
    /// 9
    SentToWorkgroup,
    /// 10
    EnteredQueue,
    /// 11
    Qualified,
    /// 12
    QueueTime,
    /// 13
    MusicStarted,
    /// 14
    AgentReserved,
    /// 15
    ExitsQueue,
    /// 16
    SentToAgent,
    /// 17
    Bridged,
    /// 18, the timer was stopped or it fired (the detail says which).
    RingTimer,
    /// Not one of the eighteen: held, returned, recorded, ended…; the detail says what.
    After,
}

impl Step {
    /// The step's number in the flow; 0 for what comes after.
    #[must_use]
    pub fn number(self) -> u8 {
        if self == Self::After { 0 } else { self as u8 + 3 }
    }

    /// The step in words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::InviteToRedirect => "INVITE to the redirect server",
            Self::Redirected => "302 to a call-centre node",
            Self::NewCall => "new call",
            Self::CtiTold => "call centre tells CTI",
            Self::InteractionCreated => "interaction created",
            Self::ScriptStarted => "IVR script started",
            Self::SentToWorkgroup => "IVR sends the call to a workgroup",
            Self::EnteredQueue => "call enters the queue",
            Self::Qualified => "qualified",
            Self::QueueTime => "queue time estimated",
            Self::MusicStarted => "music and promotions",
            Self::AgentReserved => "agent available, reserved",
            Self::ExitsQueue => "call exits the queue",
            Self::SentToAgent => "to the agent, screen first",
            Self::Bridged => "agent accepts, bridged",
            Self::RingTimer => "ring timeout cancelled",
            Self::After => "after",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which step.
    pub step: Step,
    /// Monotonic nanoseconds on the node that wrote it.
    pub mono_ns: u64,
    /// Unix milliseconds.
    pub wall_ms: i64,
    /// Of the leg concerned.
    pub call_id: Option<Arc<str>>,
    /// Of the request concerned.
    pub cseq: Option<u32>,
    /// Of the message on the bus that carried the step.
    pub bus_seq: Option<u64>,
    /// The place in the queue.
    pub ticket: Option<Id>,
    /// The offer.
    pub token: Option<Id>,
    /// For a person.
    pub detail: Cow<'static, str>,
}

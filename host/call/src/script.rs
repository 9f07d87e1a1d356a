//! What a running script and its call say to each other.
//!
//! A script is a peer of the core: a verb that waits arrives as an input, its completion leaves
//! as an output, so that a script can be a WebAssembly instance, or a recorded one in a test.

use std::path::PathBuf;
use std::sync::Arc;

use cordboard_base::Id;
use cordboard_media::clip::Clip;

use crate::messages::{Outcome, QueueRequest, Refusal, TicketState};
use crate::{Attributes, Name};

/// One run of a script on one call. Minted by the shard, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScriptId(pub u64);

/// What a script knows when it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct CallInfo {
    /// The interaction's identifier.
    pub interaction: Id,
    /// Whose call it is.
    pub tenant: Name,
    /// Where it came in.
    pub trunk: Name,
    /// The calling number, empty when withheld.
    pub caller: String,
    /// The calling name.
    pub caller_name: String,
    /// The dialled number.
    pub called: String,
    /// From the router.
    pub attributes: Attributes,
}

/// From the script's side to the shard.
#[derive(Debug, Clone)]
pub enum FromScript {
    /// A verb that waits. One at a time; `verb` numbers grow. `attributes` were set since the last verb.
    Verb {
        /// The number that the completion repeats.
        verb: u32,
        /// Attributes that the script has set since its last verb.
        attributes: Attributes,
        /// What to do.
        what: Verb,
    },
    /// The script is over. Its instance is gone.
    Ended {
        /// How.
        how: ScriptEnd,
        /// Attributes that the script has set since its last verb.
        attributes: Attributes,
    },
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptEnd {
    /// `run` returned.
    Returned,
    /// `run` returned an error for the operator.
    Error(String),
    /// It trapped, looped, took too much memory, or could not be started.
    Fault(crate::policy::Fault),
    /// It was dropped when its grace time after the hang-up was over.
    Abandoned,
}

/// Something to hear, already fetched: names and texts are resolved before a verb is sent.
#[derive(Debug, Clone)]
pub enum Sound {
    /// A clip, with the prompt's name or the text for the timeline.
    Clip {
        /// The prompt's name, or the text that is said.
        name: String,
        /// The audio.
        clip: Arc<Clip>,
    },
    /// Silence.
    Silence {
        /// Its length.
        ms: u32,
    },
}

/// A verb that waits.
#[derive(Debug, Clone)]
pub enum Verb {
    /// Answer the call.
    Answer,
    /// Play sounds, one after the other. Answers first if need be.
    Play {
        /// What to play.
        sounds: Vec<Sound>,
        /// The first digit stops it.
        barge_in: bool,
        /// Forget digits typed before.
        clear_digits: bool,
    },
    /// Play sounds that the first digit stops, then collect digits.
    Gather {
        /// What to play.
        sounds: Vec<Sound>,
        /// At least so many digits are wanted.
        min_digits: u8,
        /// Complete with so many.
        max_digits: u8,
        /// To the first digit.
        first_timeout_ms: u32,
        /// Between digits.
        digit_timeout_ms: u32,
        /// The digit that ends the input.
        finish: Option<char>,
        /// Forget digits typed before.
        clear_digits: bool,
    },
    /// Loop a clip for a time, until a digit, or until an agent answers.
    PlayMusic {
        /// What to loop.
        sound: Sound,
        /// How long.
        for_ms: u32,
    },
    /// Record the caller.
    Record {
        /// Where the WAV file goes.
        path: PathBuf,
        /// Its name for the script and the records.
        name: String,
        /// At most so long.
        max_ms: u32,
        /// End after so long a silence; 0: never.
        silence_ms: u32,
        /// A tone first.
        beep: bool,
        /// Digits that end it.
        finish: String,
    },
    /// Send DTMF to the caller's side.
    SendDigits {
        /// 0 to 9, `*`, `#`, A to D.
        digits: String,
    },
    /// Hand the call to an address.
    Transfer {
        /// A SIP URI.
        address: String,
        /// How long it may ring.
        ring_timeout_ms: u64,
    },
    /// Put the call into a queue.
    Enqueue {
        /// The workgroup, or `agent:NAME` for a direct call.
        workgroup: String,
        /// How.
        request: QueueRequest,
    },
    /// Give up a place.
    Leave {
        /// Which.
        ticket: Id,
    },
    /// Declare a span in which the caller must not be taken.
    Protect {
        /// Which place.
        ticket: Id,
        /// On or off.
        on: bool,
    },
    /// Wait until the agent has left.
    Outcome {
        /// Whose conversation.
        ticket: Id,
    },
    /// Do nothing for a time.
    Wait {
        /// How long.
        ms: u32,
    },
    /// End the call. It has no completion: `HungUp` follows.
    HangUp {
        /// Q.850.
        cause: u8,
    },
}

/// From the shard to the script's side.
#[derive(Debug, Clone)]
pub enum ToScript {
    /// A verb is complete.
    Done {
        /// Which.
        verb: u32,
        /// With what.
        result: Result<Done, Failure>,
    },
    /// A ticket's snapshot has changed.
    Ticket {
        /// Which.
        ticket: Id,
        /// What holds now.
        state: TicketState,
        /// 1 for the head; 0 when not waiting.
        position: u32,
        /// The estimate of the remaining wait; none while unknown.
        wait_s: Option<u32>,
    },
    /// The caller is gone: a verb that waits has been completed with `HungUp`; drop the script after the grace time.
    HungUp,
}

/// How a verb went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Nothing to say.
    Ok,
    /// A play or music ended.
    Played {
        /// A digit stopped it.
        by_digit: bool,
    },
    /// Digits.
    Gathered {
        /// Without the finishing digit.
        digits: String,
        /// Why it ended.
        end: GatherEnd,
    },
    /// A recording.
    Recorded {
        /// Its name.
        name: String,
        /// Its length.
        duration_ms: u32,
    },
    /// The answer to `Enqueue`.
    Queued {
        /// The place.
        ticket: Id,
        /// It waits for one named agent.
        direct: bool,
        /// At first.
        position: u32,
        /// At first.
        wait_s: Option<u32>,
    },
    /// The answer to `Enqueue`.
    Refused(Refusal),
    /// The answer to `Leave` and `Protect`.
    Left(Left),
    /// The answer to `Outcome`.
    Outcome(Outcome),
}

/// Why collecting digits ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatherEnd {
    /// As many digits as wanted.
    Complete,
    /// The finishing digit.
    FinishDigit,
    /// Time.
    Timeout,
}

/// Whether a place could still be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Left {
    /// Yes.
    Left,
    /// It rings at an agent.
    Offered,
    /// An agent has the call.
    Taken,
}

/// Why a verb failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The caller is gone.
    HungUp,
    /// An agent has the call.
    Taken,
    /// Nobody answered in time.
    Timeout,
    /// Not granted.
    Denied(String),
    /// Audio failed.
    Media(String),
    /// Anything else; the text says what.
    Other(String),
}

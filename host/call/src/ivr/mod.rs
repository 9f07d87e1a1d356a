//! Step 8: the verbs of the script that runs on a call, as small machines.
//!
//! [`Script`] says what the shard knows of a running script and which verb it waits for;
//! [`TypedAhead`] keeps digits between verbs; [`Collector`] collects them. Called by the shard,
//! which does what they return. Nothing here touches media, SIP or the clock.

use cordboard_base::Id;

use crate::Name;
use crate::script::{GatherEnd, ScriptId, Sound, Verb};
use cordboard_media::control::Item;

/// The most digits that are kept for the next `gather`.
pub const MAX_TYPED_AHEAD: usize = 64;

/// A script that runs on a call.
#[derive(Debug)]
pub struct Script {
    /// Which run.
    pub id: ScriptId,
    /// Which plugin.
    pub plugin: Name,
    /// It has shown life: line 8 is written.
    pub seen: bool,
    /// The verb that waits, if one does.
    pub pending: Option<Pending>,
    /// It wants the call ended with this cause as soon as the agent has left.
    pub hang_up: Option<u8>,
}

impl Script {
    /// A script that is being started.
    #[must_use]
    pub fn new(id: ScriptId, plugin: Name) -> Self {
        Self { id, plugin, seen: false, pending: None, hang_up: None }
    }
}

/// A verb that waits, and what for.
#[derive(Debug)]
pub struct Pending {
    /// Its number.
    pub verb: u32,
    /// For what.
    pub doing: Doing,
}

/// What a verb waits for.
///
/// ```text
///              not answered yet              audio can flow
///   verb ---> Answering(verb) ------------------------------> its own state ---> Done
///      \-------------------------------------------------------^
///   at any moment: the caller hangs up -> HungUp; an agent accepts -> Taken (not Outcome)
/// ```
#[derive(Debug)]
pub enum Doing {
    /// The call is being answered; then this verb runs.
    Answering(Box<Verb>),
    /// A play's end.
    Play {
        /// The play.
        play: u64,
        /// The first digit ends it.
        barge_in: bool,
        /// A digit has come.
        by_digit: bool,
    },
    /// Digits, and before them perhaps the end of a prompt.
    Gather(Collector),
    /// The end of the time, or a digit.
    Music {
        /// The play.
        play: u64,
    },
    /// The end of a recording.
    Record {
        /// The recording.
        recording: u64,
        /// Its name for the script.
        name: String,
        /// Digits that end it are not typed ahead.
        finish: String,
    },
    /// The time that sending or doing nothing takes.
    Time,
    /// The other party's answer, then the end of the call.
    Transfer,
    /// The domain's `Enqueued`.
    Enqueue {
        /// The request's key.
        key: u32,
    },
    /// The domain's `Left`.
    Left {
        /// The request's number.
        request: u64,
        /// `Leave` gives the place up; `Protect` only answers.
        leave: bool,
    },
    /// The agent's leaving.
    Outcome {
        /// Whose conversation.
        ticket: Id,
    },
}

/// Digits that no verb has used yet.
#[derive(Debug, Default)]
pub struct TypedAhead(String);

impl TypedAhead {
    /// Keeps a digit; the oldest are kept when there are too many.
    pub fn push(&mut self, digit: char) {
        if self.0.len() < MAX_TYPED_AHEAD {
            self.0.push(digit);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives digits to a collector until it is complete.
    pub fn feed(&mut self, collector: &mut Collector) -> Option<GatherEnd> {
        let mut used = 0;
        let end = self.0.chars().find_map(|digit| {
            used += digit.len_utf8();
            collector.digit(digit)
        });
        self.0.drain(..used);
        end
    }
}

/// Collects the digits of a `gather`.
///
/// ```text
///    prompt plays --(ends)--> first timeout runs --digit--> digit timeout runs --digit--> again
///         \---------digit: stops the prompt----------------------^
///    complete: max digits, the finishing digit, or time (Complete when enough digits are there)
/// ```
#[derive(Debug)]
pub struct Collector {
    /// So far.
    pub digits: String,
    /// The prompt that plays, if it still does.
    pub play: Option<u64>,
    min: usize,
    max: usize,
    finish: Option<char>,
    /// To the first digit after the prompt.
    pub first_timeout_ms: u32,
    /// Between digits.
    pub digit_timeout_ms: u32,
}

impl Collector {
    /// For these bounds; they are brought to 1 to 32.
    #[must_use]
    pub fn new(min: u8, max: u8, finish: Option<char>, first_timeout_ms: u32, digit_timeout_ms: u32) -> Self {
        let max = usize::from(max.clamp(1, 32));
        let min = usize::from(min.max(1)).min(max);
        Self { digits: String::new(), play: None, min, max, finish, first_timeout_ms, digit_timeout_ms }
    }

    /// One more digit; the end, if it completes the input.
    pub fn digit(&mut self, digit: char) -> Option<GatherEnd> {
        if Some(digit) == self.finish {
            return Some(GatherEnd::FinishDigit);
        }
        self.digits.push(digit);
        (self.digits.len() >= self.max).then_some(GatherEnd::Complete)
    }

    /// The time is up.
    #[must_use]
    pub fn timeout(&self) -> GatherEnd {
        if self.digits.len() >= self.min { GatherEnd::Complete } else { GatherEnd::Timeout }
    }

    /// The timeout that holds now: none while the prompt plays and no digit has come.
    #[must_use]
    pub fn wait_ms(&self) -> Option<u32> {
        match (self.digits.is_empty(), self.play) {
            (true, Some(_)) => None,
            (true, None) => Some(self.first_timeout_ms),
            (false, _) => Some(self.digit_timeout_ms),
        }
    }
}

/// Whether a verb needs audio, and so an answered call.
#[must_use]
pub fn needs_audio(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Answer
            | Verb::Play { .. }
            | Verb::Gather { .. }
            | Verb::PlayMusic { .. }
            | Verb::Record { .. }
            | Verb::SendDigits { .. }
    )
}

/// Sounds as the media plane takes them.
#[must_use]
pub fn items(sounds: Vec<Sound>) -> Vec<Item> {
    sounds
        .into_iter()
        .map(|sound| match sound {
            Sound::Clip { clip, .. } => Item::Clip(clip),
            Sound::Silence { ms } => Item::Silence { ms },
        })
        .collect()
}

/// How long sending `digits` takes at the shard's speed.
#[must_use]
pub fn sending_ms(digits: &str) -> u64 {
    digits.chars().map(|d| if d == ',' { 1_000 } else { u64::from(DIGIT_MS + GAP_MS) }).sum()
}

/// The length of a digit that we send.
pub const DIGIT_MS: u32 = 100;
/// The pause after it.
pub const GAP_MS: u32 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_typed_ahead_are_used_up_to_the_end_of_the_input_and_the_rest_is_kept() {
        let mut ahead = TypedAhead::default();
        "12#345".chars().for_each(|d| ahead.push(d));
        let mut c = Collector::new(1, 4, Some('#'), 5_000, 2_000);
        assert_eq!(ahead.feed(&mut c), Some(GatherEnd::FinishDigit));
        assert_eq!(c.digits, "12");
        let mut c = Collector::new(1, 2, None, 5_000, 2_000);
        assert_eq!((ahead.feed(&mut c), c.digits.as_str()), (Some(GatherEnd::Complete), "34"));
        let mut c = Collector::new(1, 2, None, 5_000, 2_000);
        assert_eq!((ahead.feed(&mut c), ahead.is_empty()), (None, true));
        (0..100).for_each(|_| ahead.push('1'));
        assert_eq!(ahead.0.len(), MAX_TYPED_AHEAD);
    }

    #[test]
    fn time_completes_an_input_that_is_long_enough() {
        let mut c = Collector::new(2, 4, None, 5_000, 2_000);
        c.play = Some(1);
        assert_eq!((c.wait_ms(), c.timeout()), (None, GatherEnd::Timeout));
        c.play = None;
        assert_eq!(c.wait_ms(), Some(5_000));
        c.digit('1');
        assert_eq!((c.wait_ms(), c.timeout()), (Some(2_000), GatherEnd::Timeout));
        c.digit('2');
        assert_eq!(c.timeout(), GatherEnd::Complete);
    }
}

//! What a script hands to the verbs: prompts, and how to gather, record and queue.

use super::{Attribute, GatherOptions, Prompt, QueueRequest, RecordOptions, Speech};

/// A prompt of the tenant's library, by name.
pub fn audio(name: impl Into<String>) -> Prompt {
    Prompt::Audio(name.into())
}

/// Text for the synthesiser, in English unless [`Prompt::lang`] says otherwise.
pub fn say(text: impl Into<String>) -> Prompt {
    Prompt::Speech(Speech { text: text.into(), language: "en".to_owned(), fallback: None })
}

/// Silence of so many milliseconds.
pub fn silence(ms: u32) -> Prompt {
    Prompt::SilenceMs(ms)
}

impl Prompt {
    /// The language of the spoken text (BCP 47, such as `fr`). Recorded audio has its own.
    #[must_use]
    pub fn lang(mut self, language: &str) -> Self {
        if let Prompt::Speech(speech) = &mut self {
            language.clone_into(&mut speech.language);
        }
        self
    }

    /// The prompt of the library to play where there is no synthesiser.
    #[must_use]
    pub fn or_audio(mut self, name: impl Into<String>) -> Self {
        if let Prompt::Speech(speech) = &mut self {
            speech.fallback = Some(name.into());
        }
        self
    }
}

/// Which digits [`Call::gather`](super::Call::gather) waits for. By default digits may be typed
/// ahead, the first may take 5 s, each further one 3 s, and no digit ends the input.
#[derive(Clone, Debug)]
pub struct Digits(GatherOptions);

impl Digits {
    /// From `min` to `max` digits, 1 to 32.
    pub fn between(min: u8, max: u8) -> Self {
        Digits(GatherOptions {
            min_digits: min.clamp(1, 32),
            max_digits: max.clamp(min.clamp(1, 32), 32),
            first_timeout_ms: 5_000,
            digit_timeout_ms: 3_000,
            finish: String::new(),
            clear_digits: false,
            attributes: Vec::new(),
        })
    }

    /// So many digits, 1 to 32.
    pub fn exactly(count: u8) -> Self {
        Digits::between(count, count)
    }

    /// How long the first digit may take after the prompts have ended, in seconds.
    #[must_use]
    pub fn first_within_s(mut self, seconds: u32) -> Self {
        self.0.first_timeout_ms = seconds.saturating_mul(1_000);
        self
    }

    /// How long each further digit may take, in seconds.
    #[must_use]
    pub fn each_within_s(mut self, seconds: u32) -> Self {
        self.0.digit_timeout_ms = seconds.saturating_mul(1_000);
        self
    }

    /// The digit that ends the input and is no part of it.
    #[must_use]
    pub fn finish(mut self, digit: char) -> Self {
        self.0.finish = digit.to_string();
        self
    }

    /// Forgets what was typed ahead.
    #[must_use]
    pub fn clear(mut self) -> Self {
        self.0.clear_digits = true;
        self
    }
}

/// Every field in the author's hand, unchecked: the host refuses what is out of range.
impl From<GatherOptions> for Digits {
    fn from(options: GatherOptions) -> Self {
        Digits(options)
    }
}

impl From<Digits> for GatherOptions {
    fn from(digits: Digits) -> Self {
        digits.0
    }
}

/// How [`Call::record`](super::Call::record) records. By default: no beep, no end by silence, and
/// any digit goes on recording.
#[derive(Clone, Debug)]
pub struct Record(RecordOptions);

impl Record {
    /// At most so many seconds; the label is a part of the file's name (letters, digits, dashes).
    pub fn up_to_s(seconds: u32, label: impl Into<String>) -> Self {
        Record(RecordOptions {
            max_ms: seconds.saturating_mul(1_000),
            silence_ms: 0,
            beep: false,
            finish: String::new(),
            label: label.into(),
        })
    }

    /// A beep before it begins.
    #[must_use]
    pub fn beep(mut self) -> Self {
        self.0.beep = true;
        self
    }

    /// Any of these digits ends it.
    #[must_use]
    pub fn finish(mut self, digits: impl Into<String>) -> Self {
        self.0.finish = digits.into();
        self
    }

    /// Ends after so many seconds of silence.
    #[must_use]
    pub fn until_silent_s(mut self, seconds: u32) -> Self {
        self.0.silence_ms = seconds.saturating_mul(1_000);
        self
    }
}

/// Every field in the author's hand, unchecked: the host refuses what is out of range.
impl From<RecordOptions> for Record {
    fn from(options: RecordOptions) -> Self {
        Record(options)
    }
}

impl From<Record> for RecordOptions {
    fn from(record: Record) -> Self {
        record.0
    }
}

/// How a call asks for a place in a queue: no skills, priority 0 and no preferred agent, unless
/// told.
#[derive(Clone, Debug)]
pub struct Request(QueueRequest);

impl Request {
    /// A request without wishes.
    pub fn new() -> Self {
        Request(QueueRequest {
            skills: Vec::new(),
            priority: 0,
            preferred_agent: None,
            attributes: Vec::new(),
        })
    }

    /// A skill that the agent must have.
    #[must_use]
    pub fn skill(mut self, skill: impl Into<String>) -> Self {
        self.0.skills.push(skill.into());
        self
    }

    /// 0 to 100; each point is worth ten seconds of waiting by the shipped policies.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.0.priority = priority.min(100);
        self
    }

    /// An agent to ask first, if free.
    #[must_use]
    pub fn preferred(mut self, agent: impl Into<String>) -> Self {
        self.0.preferred_agent = Some(agent.into());
        self
    }

    /// Something that the agent's desktop and the adapters see.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.attributes.push(Attribute { name: name.into(), value: value.into() });
        self
    }
}

impl Default for Request {
    fn default() -> Self {
        Request::new()
    }
}

/// Every field in the author's hand, unchecked: the host refuses what is out of range.
impl From<QueueRequest> for Request {
    fn from(options: QueueRequest) -> Self {
        Request(options)
    }
}

impl From<Request> for QueueRequest {
    fn from(request: Request) -> Self {
        request.0
    }
}

//! A caller in virtual time, for tests of scripts that run natively.
//!
//! A test says what the caller and the agents do ([`Caller`]), runs a script against it and
//! reads what the caller heard ([`Report`]). Verbs take virtual time: prompts last as long as
//! they would roughly take to say, and nothing sleeps. The double keeps the contract's rules
//! (type-ahead, barge-in, `taken`, protection, the place kept); it does not imitate media.
//!
//! ```
//! use cordboard_sdk::ivr::{*, testing::Caller};
//!
//! struct Hello;
//! impl Script for Hello {
//!     fn run(call: &Call) -> Result<(), End> {
//!         let pressed = call.menu([audio("menu")], 5)?;
//!         call.play([audio(if pressed == Some('1') { "one" } else { "other" })])?;
//!         Ok(())
//!     }
//! }
//!
//! let report = Caller::new().types("1").run::<Hello>();
//! assert_eq!(report.result, Ok(()));
//! assert_eq!(report.heard, ["menu", "one"]);
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::{
    Attribute, CallInfo, Failure, GatherEnd, GatherOptions, Gathered, Left, LocalTime, Outcome, PlayEnd,
    PlayOptions, Prompt, QueueRequest, RecordOptions, Recording, Refusal, Script, TicketState,
};

/// A caller whom nothing keeps hangs up after this: it bounds a script that waits for ever.
const PATIENCE_MS: u64 = 3_600_000;

/// What happens to the call from outside, at a time of the scenario.
#[derive(Clone, Debug)]
pub enum Event {
    /// The caller presses a digit.
    Presses(char),
    /// The caller hangs up.
    HangsUp,
    /// An agent's phone begins to ring for the call, if it is waiting and not protected.
    Rings,
    /// An agent takes the call, if it is waiting and not protected, and talks so long.
    Takes {
        /// The agent's name.
        agent: &'static str,
        /// How long they talk, in seconds.
        talks_s: u64,
        /// How it ends: `agent-left`, `returned` or `caller-gone`.
        end: &'static str,
    },
}

/// A scenario: what the caller and the agents will do.
#[derive(Clone, Debug)]
pub struct Caller {
    info: CallInfo,
    answers: VecDeque<Option<String>>,
    events: Vec<(u64, Event)>,
    hours: BTreeMap<String, bool>,
    now: LocalTime,
    position: u32,
    wait_s: Option<u32>,
    refusal: Option<Refusal>,
    direct: bool,
    recordings: VecDeque<u32>,
    broken: Vec<String>,
}

impl Default for Caller {
    fn default() -> Self {
        Caller::new()
    }
}

impl Caller {
    /// A caller with time, on a Monday morning.
    pub fn new() -> Self {
        Caller {
            info: CallInfo {
                interaction: "01TESTCALL0000000000000000".to_owned(),
                tenant: "test".to_owned(),
                trunk: "test".to_owned(),
                caller: "+4930111".to_owned(),
                caller_name: String::new(),
                called: "+4930100".to_owned(),
                attributes: Vec::new(),
            },
            answers: VecDeque::new(),
            events: Vec::new(),
            hours: BTreeMap::new(),
            now: LocalTime {
                year: 2026,
                month: 3,
                day: 2,
                hour: 10,
                minute: 0,
                second: 0,
                weekday: 1,
                utc_offset_minutes: 60,
            },
            position: 1,
            wait_s: None,
            refusal: None,
            direct: false,
            recordings: VecDeque::new(),
            broken: Vec::new(),
        }
    }

    /// The numbers of the call.
    #[must_use]
    pub fn numbers(mut self, caller: &str, called: &str) -> Self {
        caller.clone_into(&mut self.info.caller);
        called.clone_into(&mut self.info.called);
        self
    }

    /// An attribute that the call brings with it.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.info.attributes.push(Attribute { name: name.to_owned(), value: value.to_owned() });
        self
    }

    /// What the caller types at the next question; a question beyond these is left unanswered.
    #[must_use]
    pub fn types(mut self, digits: &str) -> Self {
        self.answers.push_back(Some(digits.to_owned()));
        self
    }

    /// The caller says nothing to the next question.
    #[must_use]
    pub fn keeps_silent(mut self) -> Self {
        self.answers.push_back(None);
        self
    }

    /// Something happens at a time after the call's arrival, in seconds.
    #[must_use]
    pub fn at_s(mut self, seconds: u64, event: Event) -> Self {
        self.events.push((seconds * 1_000, event));
        self.events.sort_by_key(|(at_ms, _)| *at_ms);
        self
    }

    /// A calendar of the tenant, and whether it is open.
    #[must_use]
    pub fn hours(mut self, name: &str, open: bool) -> Self {
        self.hours.insert(name.to_owned(), open);
        self
    }

    /// The tenant's local time.
    #[must_use]
    pub fn local_time(mut self, now: LocalTime) -> Self {
        self.now = now;
        self
    }

    /// The place in the queue and the estimated wait in seconds.
    #[must_use]
    pub fn queue(mut self, position: u32, wait_s: Option<u32>) -> Self {
        self.position = position;
        self.wait_s = wait_s;
        self
    }

    /// The workgroup refuses the call.
    #[must_use]
    pub fn refused(mut self, reason: &str, text: &str) -> Self {
        self.refusal = Some(Refusal { reason: reason.to_owned(), text: text.to_owned() });
        self
    }

    /// The interaction manager makes it a direct call.
    #[must_use]
    pub fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    /// How long the caller speaks into the next recording, in milliseconds.
    #[must_use]
    pub fn speaks_ms(mut self, ms: u32) -> Self {
        self.recordings.push_back(ms);
        self
    }

    /// Playing this prompt fails with `media`.
    #[must_use]
    pub fn without_prompt(mut self, name: &str) -> Self {
        self.broken.push(name.to_owned());
        self
    }

    /// Runs a script against the scenario.
    pub fn run<S: Script>(self) -> Report {
        ENVIRONMENT.with_borrow_mut(|(hours, now)| {
            hours.clone_from(&self.hours);
            *now = self.now;
        });
        let world = Rc::new(RefCell::new(World {
            attributes: self
                .info
                .attributes
                .iter()
                .map(|attribute| (attribute.name.clone(), attribute.value.clone()))
                .collect(),
            caller: self,
            now_ms: 0,
            typed: VecDeque::new(),
            gone: false,
            cause: None,
            taken: false,
            protected: false,
            ticket: None,
            outcome: None,
            heard: Vec::new(),
            names: Vec::new(),
            requests: Vec::new(),
            transferred: None,
            recorded: Vec::new(),
            sent: String::new(),
        }));
        let result = super::__run::<S>(super::Call::from(RawCall(Rc::clone(&world))));
        let world = world.borrow();
        Report {
            result,
            heard: world.heard.clone(),
            prompt_names: world.names.clone(),
            attributes: world.attributes.clone(),
            requests: world.requests.clone(),
            recorded: world.recorded.clone(),
            cause: world.cause,
            caller_gone: world.gone,
            ticket: world.ticket,
            ended_at_ms: world.now_ms,
        }
    }
}

/// What became of the call.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the host would be told.
    pub result: Result<(), String>,
    /// In order: names of recorded prompts, spoken texts, and `music:NAME`.
    pub heard: Vec<String>,
    /// Every name of the prompt library that was used, fallbacks and music included.
    pub prompt_names: Vec<String>,
    /// The attributes at the end.
    pub attributes: BTreeMap<String, String>,
    /// The queues that were asked for, and how.
    pub requests: Vec<(String, QueueRequest)>,
    /// The labels of the recordings that were made, and their length in milliseconds.
    pub recorded: Vec<(String, u32)>,
    /// The cause with which the script hung up, if it did.
    pub cause: Option<u8>,
    /// Whether the caller hung up.
    pub caller_gone: bool,
    /// The ticket's state at the end.
    pub ticket: Option<TicketState>,
    /// The virtual time at which the script ended.
    pub ended_at_ms: u64,
}

impl Report {
    /// Whether a prompt whose name or text contains this was heard.
    pub fn has_heard(&self, part: &str) -> bool {
        self.heard.iter().any(|heard| heard.contains(part))
    }
}

type Environment = (BTreeMap<String, bool>, LocalTime);

thread_local! {
    static ENVIRONMENT: RefCell<Environment> = RefCell::new((BTreeMap::new(), Caller::new().now));
}

pub(super) fn now() -> LocalTime {
    ENVIRONMENT.with_borrow(|(_, now)| *now)
}

pub(super) fn open(hours: &str) -> Option<bool> {
    ENVIRONMENT.with_borrow(|(calendars, _)| calendars.get(hours).copied())
}

#[derive(Debug)]
struct World {
    caller: Caller,
    now_ms: u64,
    typed: VecDeque<char>,
    gone: bool,
    cause: Option<u8>,
    taken: bool,
    protected: bool,
    ticket: Option<TicketState>,
    outcome: Option<(u64, Outcome)>,
    attributes: BTreeMap<String, String>,
    heard: Vec<String>,
    names: Vec<String>,
    requests: Vec<(String, QueueRequest)>,
    transferred: Option<String>,
    recorded: Vec<(String, u32)>,
    sent: String,
}

impl World {
    fn check(&self) -> Result<(), Failure> {
        if self.gone || self.cause.is_some() || self.transferred.is_some() {
            return Err(Failure::HungUp);
        }
        if self.taken {
            return Err(Failure::Taken);
        }
        Ok(())
    }

    /// Lets time pass; `true` when a digit that may stop the verb came.
    fn pass(&mut self, ms: u64, stop_at_digit: bool) -> Result<bool, Failure> {
        self.check()?;
        let until_ms = self.now_ms + ms;
        while let Some((at_ms, _)) = self.caller.events.first()
            && *at_ms <= until_ms
        {
            let (at_ms, event) = self.caller.events.remove(0);
            self.now_ms = self.now_ms.max(at_ms);
            let waiting = matches!(
                self.ticket,
                Some(TicketState::Waiting | TicketState::Offered | TicketState::Returned)
            );
            match event {
                Event::Presses(digit) => {
                    self.typed.push_back(digit);
                    if stop_at_digit {
                        return Ok(true);
                    }
                }
                Event::HangsUp => self.gone = true,
                Event::Rings if waiting && !self.protected => self.ticket = Some(TicketState::Offered),
                Event::Takes { agent, talks_s, end } if waiting && !self.protected => {
                    self.ticket = Some(TicketState::Taken);
                    self.taken = true;
                    let talked_ms = talks_s * 1_000;
                    self.outcome = Some((
                        self.now_ms + talked_ms,
                        Outcome { end: end.to_owned(), agent: agent.to_owned(), talked_ms },
                    ));
                }
                Event::Rings | Event::Takes { .. } => {}
            }
            self.check()?;
        }
        self.now_ms = until_ms;
        if self.now_ms > PATIENCE_MS {
            self.gone = true;
        }
        self.check()?;
        Ok(false)
    }

    fn play(&mut self, prompts: &[Prompt], barge_in: bool) -> Result<PlayEnd, Failure> {
        self.check()?;
        for prompt in prompts {
            if barge_in && !self.typed.is_empty() {
                return Ok(PlayEnd::Digit);
            }
            let (heard, name, ms) = match prompt {
                Prompt::Audio(name) => (name.clone(), Some(name.clone()), 2_000),
                Prompt::Speech(speech) => {
                    (speech.text.clone(), speech.fallback.clone(), 60 * speech.text.chars().count() as u64)
                }
                Prompt::SilenceMs(ms) => (String::new(), None, u64::from(*ms)),
            };
            if let Prompt::Audio(name) = prompt
                && self.caller.broken.contains(name)
            {
                return Err(Failure::Media(format!("prompt {name} is not in the library")));
            }
            if !heard.is_empty() {
                self.heard.push(heard);
            }
            self.names.extend(name);
            if self.pass(ms, barge_in)? {
                return Ok(PlayEnd::Digit);
            }
        }
        Ok(PlayEnd::Finished)
    }

    fn gather(&mut self, prompts: &[Prompt], options: &GatherOptions) -> Result<Gathered, Failure> {
        if options.clear_digits {
            self.typed.clear();
        }
        self.play(prompts, true)?;
        if self.typed.is_empty()
            && options.first_timeout_ms > 0
            && let Some(answer) = self.caller.answers.pop_front()
        {
            match answer {
                Some(digits) => self.typed.extend(digits.chars()),
                None => {
                    self.pass(u64::from(options.first_timeout_ms), false)?;
                    return Ok(Gathered { digits: String::new(), end: GatherEnd::Timeout });
                }
            }
        }
        let mut digits = String::new();
        let mut timeout_ms = options.first_timeout_ms;
        loop {
            if self.typed.is_empty() && !self.pass(u64::from(timeout_ms), true)? {
                return Ok(Gathered { digits, end: GatherEnd::Timeout });
            }
            timeout_ms = options.digit_timeout_ms;
            let Some(digit) = self.typed.pop_front() else { continue };
            if options.finish.contains(digit) {
                return Ok(Gathered { digits, end: GatherEnd::FinishDigit });
            }
            digits.push(digit);
            if digits.len() >= usize::from(options.max_digits) {
                return Ok(Gathered { digits, end: GatherEnd::Complete });
            }
        }
    }

    fn leave(&self) -> Left {
        match self.ticket {
            Some(TicketState::Offered) => Left::Offered,
            Some(TicketState::Taken) => Left::Taken,
            _ => Left::Left,
        }
    }
}

/// The double behind [`Call`](super::Call).
#[derive(Debug)]
pub struct RawCall(Rc<RefCell<World>>);

pub(super) enum RawEnqueued {
    Queued(RawTicket),
    Direct(RawTicket),
    Refused(Refusal),
}

impl RawCall {
    pub(super) fn info(&self) -> CallInfo {
        self.0.borrow().caller.info.clone()
    }

    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        self.0.borrow().attributes.get(name).cloned()
    }

    pub(super) fn set_attribute(&self, name: &str, value: &str) -> Result<(), Failure> {
        let world = &mut *self.0.borrow_mut();
        if world.attributes.len() >= 64 || value.len() > 4_096 {
            return Err(Failure::Other("at most 64 attributes of 4 KiB".to_owned()));
        }
        world.attributes.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    pub(super) fn answer(&self) -> Result<(), Failure> {
        self.0.borrow_mut().check()
    }

    pub(super) fn play(&self, prompts: &[Prompt], options: PlayOptions) -> Result<PlayEnd, Failure> {
        let world = &mut *self.0.borrow_mut();
        if options.clear_digits {
            world.typed.clear();
        }
        world.play(prompts, options.barge_in)
    }

    pub(super) fn gather(&self, prompts: &[Prompt], options: &GatherOptions) -> Result<Gathered, Failure> {
        self.0.borrow_mut().gather(prompts, options)
    }

    pub(super) fn play_music(&self, music: &str, for_ms: u32) -> Result<PlayEnd, Failure> {
        let world = &mut *self.0.borrow_mut();
        world.check()?;
        if !world.typed.is_empty() {
            return Ok(PlayEnd::Digit);
        }
        world.heard.push(format!("music:{music}"));
        world.names.push(music.to_owned());
        Ok(if world.pass(u64::from(for_ms), true)? { PlayEnd::Digit } else { PlayEnd::Finished })
    }

    pub(super) fn record(&self, options: &RecordOptions) -> Result<Recording, Failure> {
        let world = &mut *self.0.borrow_mut();
        let duration_ms = world.caller.recordings.pop_front().unwrap_or(0).min(options.max_ms);
        world.pass(u64::from(duration_ms), false)?;
        let name = format!("{}-{}.wav", options.label, world.recorded.len() + 1);
        world.recorded.push((options.label.clone(), duration_ms));
        Ok(Recording { name, duration_ms })
    }

    pub(super) fn send_digits(&self, digits: &str) -> Result<(), Failure> {
        let world = &mut *self.0.borrow_mut();
        world.check()?;
        world.sent.push_str(digits);
        Ok(())
    }

    pub(super) fn transfer(&self, address: &str, _ring_timeout_s: u16) -> Result<(), Failure> {
        let world = &mut *self.0.borrow_mut();
        world.check()?;
        world.transferred = Some(address.to_owned());
        Ok(())
    }

    pub(super) fn enqueue(&self, workgroup: &str, request: &QueueRequest) -> Result<RawEnqueued, Failure> {
        let world = &mut *self.0.borrow_mut();
        world.check()?;
        world.requests.push((workgroup.to_owned(), request.clone()));
        if let Some(refusal) = &world.caller.refusal {
            return Ok(RawEnqueued::Refused(refusal.clone()));
        }
        world.ticket = Some(TicketState::Waiting);
        let ticket = RawTicket(Rc::clone(&self.0));
        Ok(if world.caller.direct { RawEnqueued::Direct(ticket) } else { RawEnqueued::Queued(ticket) })
    }

    pub(super) fn wait(&self, ms: u32) -> Result<(), Failure> {
        self.0.borrow_mut().pass(u64::from(ms), false).map(drop)
    }

    pub(super) fn hang_up(&self, cause: u8) {
        let world = &mut *self.0.borrow_mut();
        if world.check().is_ok() {
            world.cause = Some(cause);
        }
    }
}

/// The double behind [`Ticket`](super::Ticket).
#[derive(Debug)]
pub(super) struct RawTicket(Rc<RefCell<World>>);

impl RawTicket {
    pub(super) fn id(&self) -> String {
        "test-1".to_owned()
    }

    pub(super) fn state(&self) -> TicketState {
        self.0.borrow().ticket.unwrap_or(TicketState::Ended)
    }

    pub(super) fn position(&self) -> u32 {
        let world = self.0.borrow();
        match world.ticket {
            Some(TicketState::Waiting | TicketState::Returned) => world.caller.position,
            _ => 0,
        }
    }

    pub(super) fn wait_s(&self) -> Option<u32> {
        self.0.borrow().caller.wait_s
    }

    pub(super) fn leave(&self) -> Result<Left, Failure> {
        let world = &mut *self.0.borrow_mut();
        world.check()?;
        let left = world.leave();
        if left == Left::Left {
            world.ticket = Some(TicketState::Ended);
            world.protected = false;
        }
        Ok(left)
    }

    pub(super) fn protect(&self, on: bool) -> Result<Left, Failure> {
        let world = &mut *self.0.borrow_mut();
        world.check()?;
        let left = world.leave();
        if left == Left::Left {
            world.protected = on;
        }
        Ok(left)
    }

    pub(super) fn outcome(&self) -> Result<Outcome, Failure> {
        let world = &mut *self.0.borrow_mut();
        loop {
            if world.gone {
                return Err(Failure::HungUp);
            }
            if let Some((ends_at_ms, outcome)) = world.outcome.take() {
                world.now_ms = ends_at_ms;
                // What was to happen during the conversation happened to the agent.
                world.caller.events.retain(|(at_ms, _)| *at_ms > ends_at_ms);
                world.taken = false;
                world.ticket = Some(match outcome.end.as_str() {
                    "returned" => TicketState::Returned,
                    _ => TicketState::Ended,
                });
                world.gone = outcome.end == "caller-gone";
                return Ok(outcome);
            }
            match world.pass(PATIENCE_MS, false) {
                Err(Failure::Taken) => {}
                Err(failure) => return Err(failure),
                Ok(_) => return Err(Failure::Timeout),
            }
        }
    }
}

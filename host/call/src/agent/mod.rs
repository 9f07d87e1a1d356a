//! An agent's state, as a machine: what happens goes in, what must follow comes out.
//!
//! ```text
//!              log in                      reserve             accept
//! logged-out ─────────> not-ready <────> ready ───────> reserved ───────> busy
//!      ^                    ^              ^                │               │ talk ended
//!      │                    │              ├──── released ──┘               v
//!      └───── log out ──────┴──────────────┴──── wrap-up over ── working-after-call
//! ```
//!
//! A log-out or a not-ready that comes while a call is there waits until it is over (`pending`).
//! Called by the domain for every change. Never sends, sets a timer or reserves: [`Effects`] says
//! what the domain has to do.

pub(crate) mod bindings;
pub(crate) mod presence;

use cordboard_base::{Id, Now};

use crate::Name;
use crate::commands::AgentStateName as State;

/// Why an agent who did not answer is not ready.
pub(crate) const RING_NO_ANSWER: &str = "ring-no-answer";
/// Why an agent who declined again and again is not ready.
pub(crate) const DECLINED: &str = "declined";
/// The phone could not be reached.
pub(crate) const PHONE_UNREACHABLE: &str = "phone-unreachable";
/// The phone vanished in a conversation.
pub(crate) const PHONE_LOST: &str = "phone-lost";
/// Ready, but left alone for a while after an unanswered offer.
const BACK_OFF: &str = "back-off";
/// The longest reason that is kept, in bytes.
const MAX_REASON: usize = 128;

/// What waits for the end of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pending {
    LogOut,
    NotReady(String),
}

/// What the journal holds of an agent: the state to return to if all calls vanished, its reason, the
/// misses, and since when.
pub(crate) type Told = (State, String, u32, i64);

/// One agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) name: Name,
    pub(crate) state: State,
    pub(crate) reason: String,
    pub(crate) since_ms: i64,
    pending: Option<Pending>,
    pub(crate) misses: u32,
    /// Calls taken since log-in.
    pub(crate) calls: u64,
    /// Talking and wrap-up since log-in.
    pub(crate) busy_ms: u64,
    /// Since when free, on the monotonic clock: the longest idle is asked first.
    pub(crate) idle_since_ns: u64,
    /// Left alone after an unanswered offer.
    pub(crate) back_off: bool,
    /// The offer that rings, or the conversation.
    pub(crate) token: Option<Id>,
    /// What the journal last heard.
    told: Option<Told>,
}

/// What happens to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    LogIn {
        ready: bool,
    },
    LogOut,
    SetReady {
        ready: bool,
        reason: String,
    },
    /// An offer is made.
    Reserve(Id),
    /// The offer was accepted.
    Accept,
    /// The offer or the conversation is over.
    Release(Release),
    /// The wrap-up timer fired.
    WrapUpOver,
    /// The back-off timer fired.
    BackOffOver,
}

/// How an agent comes free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Release {
    /// Not the agent's doing: ready again, at the old place among the idle.
    Free,
    /// Did not answer, or declined.
    Missed { max_misses: u32, back_off_ms: u64, reason: &'static str },
    /// Busy elsewhere.
    BackOff { ms: u64 },
    /// The phone is not there.
    NotReady(&'static str),
    /// A conversation is over.
    Talked { wrap_up_ms: u64, talked_ms: u64 },
}

/// What the domain does after a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Effects {
    /// The state or its reason is another.
    pub(crate) changed: bool,
    /// A running wrap-up or back-off timer has lost its meaning.
    pub(crate) stop_timer: bool,
    /// Start the wrap-up timer.
    pub(crate) wrap_up_ms: Option<u64>,
    /// Start the back-off timer.
    pub(crate) back_off_ms: Option<u64>,
    /// Withdraw the offer that rings.
    pub(crate) revoke: Option<Id>,
}

/// The state does not allow it; the text is for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Illegal(pub(crate) String);

impl Agent {
    /// An agent at the start of the centre.
    pub(crate) fn new(name: Name, ready: bool, now: Now) -> Self {
        Self {
            name,
            state: if ready { State::Ready } else { State::LoggedOut },
            reason: String::new(),
            since_ms: now.wall_ms,
            pending: None,
            misses: 0,
            calls: 0,
            busy_ms: 0,
            idle_since_ns: now.mono_ns,
            back_off: false,
            token: None,
            // The configuration says so, and the journal need not.
            told: None,
        }
    }

    /// Takes up the state of a former life.
    pub(crate) fn restore(&mut self, state: State, reason: String, misses: u32, wall_ms: i64) {
        self.told = Some((state, reason.clone(), misses, wall_ms));
        self.state = state;
        self.reason = reason;
        self.misses = misses;
        self.since_ms = wall_ms;
    }

    /// Whether an offer may be made, as far as the agent's own state goes.
    pub(crate) fn is_free(&self) -> bool {
        self.state == State::Ready && !self.back_off
    }

    pub(crate) fn is_logged_in(&self) -> bool {
        self.state != State::LoggedOut
    }

    /// Logged in and not set not-ready: takes calls now or after the present one.
    pub(crate) fn is_working(&self) -> bool {
        !matches!(self.state, State::LoggedOut | State::NotReady)
    }

    /// The state to return to if all calls vanished: what the journal holds.
    pub(crate) fn at_rest(&self) -> (State, &str, u32) {
        match (&self.pending, self.state) {
            (_, State::LoggedOut) => (State::LoggedOut, "", self.misses),
            (_, State::NotReady) => (State::NotReady, &self.reason, self.misses),
            (Some(Pending::LogOut), _) => (State::LoggedOut, "", self.misses),
            (Some(Pending::NotReady(reason)), _) => (State::NotReady, reason, self.misses),
            (None, _) => (State::Ready, "", self.misses),
        }
    }

    /// What the journal has to hear, once, if it has not heard it.
    pub(crate) fn untold(&mut self, now: Now) -> Option<Told> {
        let (state, reason, misses) = self.at_rest();
        if self.told.as_ref().is_some_and(|(s, r, m, _)| *s == state && r == reason && *m == misses) {
            return None;
        }
        let told = (state, reason.to_owned(), misses, now.wall_ms);
        self.told = Some(told.clone());
        Some(told)
    }

    /// The journal's last word; none while it never heard of this agent.
    pub(crate) fn told(&self) -> Option<&Told> {
        self.told.as_ref()
    }

    /// One step of the machine.
    pub(crate) fn apply(&mut self, now: Now, event: Event) -> Result<Effects, Illegal> {
        let before = (self.state, self.reason.clone());
        let mut effects = Effects::default();
        match (self.state, event) {
            (State::LoggedOut, Event::LogIn { ready }) => {
                self.calls = 0;
                self.busy_ms = 0;
                self.misses = 0;
                self.set_ready(now, ready, String::new());
            }
            (_, Event::LogIn { ready }) => {
                return self.apply(now, Event::SetReady { ready, reason: String::new() });
            }
            (State::LoggedOut, Event::LogOut) => {}
            (State::Reserved, Event::LogOut) => {
                self.pending = Some(Pending::LogOut);
                effects.revoke = self.token;
            }
            (State::Busy, Event::LogOut) => self.pending = Some(Pending::LogOut),
            (_, Event::LogOut) => {
                effects.stop_timer = true;
                self.back_off = false;
                self.enter(now, State::LoggedOut, String::new());
            }
            (State::LoggedOut, Event::SetReady { .. }) => {
                return Err(Illegal(format!("agent {} is not logged in: log in first", self.name)));
            }
            (State::Reserved | State::Busy, Event::SetReady { ready, reason }) => {
                self.pending = if ready { None } else { Some(Pending::NotReady(clip(reason))) };
                if ready {
                    self.misses = 0;
                }
            }
            (_, Event::SetReady { ready, reason }) => {
                effects.stop_timer = true;
                self.back_off = false;
                self.misses = 0;
                self.set_ready(now, ready, reason);
            }
            (State::Ready, Event::Reserve(token)) if !self.back_off => {
                self.token = Some(token);
                self.enter(now, State::Reserved, String::new());
            }
            (State::Reserved, Event::Accept) => {
                self.misses = 0;
                self.calls += 1;
                self.enter(now, State::Busy, String::new());
            }
            (State::Reserved | State::Busy, Event::Release(how)) => self.release(now, how, &mut effects),
            (State::WorkingAfterCall, Event::WrapUpOver) => {
                self.busy_ms += (now.wall_ms - self.since_ms).max(0) as u64;
                self.idle_since_ns = now.mono_ns;
                self.rest(now);
            }
            (State::Ready, Event::BackOffOver) => {
                self.back_off = false;
                self.reason.clear();
            }
            (state, event) => {
                return Err(Illegal(format!("agent {} is {state:?}: {event:?} cannot happen", self.name)));
            }
        }
        effects.changed = before.0 != self.state || before.1 != self.reason;
        Ok(effects)
    }

    fn release(&mut self, now: Now, how: Release, effects: &mut Effects) {
        self.token = None;
        match how {
            Release::Free => self.rest(now),
            Release::Missed { max_misses, back_off_ms, reason } => {
                self.misses += 1;
                self.idle_since_ns = now.mono_ns;
                if self.pending.is_none() && self.misses >= max_misses.max(1) {
                    self.enter(now, State::NotReady, reason.to_owned());
                } else {
                    self.rest_after(now, back_off_ms, effects);
                }
            }
            Release::BackOff { ms } => {
                self.idle_since_ns = now.mono_ns;
                self.rest_after(now, ms, effects);
            }
            Release::NotReady(reason) => {
                self.idle_since_ns = now.mono_ns;
                if self.pending.is_none() {
                    self.pending = Some(Pending::NotReady(reason.to_owned()));
                }
                self.rest(now);
            }
            Release::Talked { wrap_up_ms, talked_ms } => {
                self.busy_ms += talked_ms;
                self.idle_since_ns = now.mono_ns;
                if wrap_up_ms == 0 || self.pending == Some(Pending::LogOut) {
                    self.rest(now);
                } else {
                    effects.wrap_up_ms = Some(wrap_up_ms);
                    self.enter(now, State::WorkingAfterCall, String::new());
                }
            }
        }
    }

    /// The call is over: what was asked for during it, or ready.
    fn rest(&mut self, now: Now) {
        match self.pending.take() {
            Some(Pending::LogOut) => self.enter(now, State::LoggedOut, String::new()),
            Some(Pending::NotReady(reason)) => self.set_ready(now, false, reason),
            None => self.enter(now, State::Ready, String::new()),
        }
    }

    /// As `rest`, but left alone for a while.
    fn rest_after(&mut self, now: Now, back_off_ms: u64, effects: &mut Effects) {
        self.rest(now);
        if self.state == State::Ready && back_off_ms > 0 {
            self.back_off = true;
            self.reason = BACK_OFF.to_owned();
            effects.back_off_ms = Some(back_off_ms);
        }
    }

    fn set_ready(&mut self, now: Now, ready: bool, reason: String) {
        if ready {
            if self.state != State::Ready {
                self.idle_since_ns = now.mono_ns;
            }
            self.enter(now, State::Ready, String::new());
        } else {
            self.enter(now, State::NotReady, clip(reason));
        }
    }

    fn enter(&mut self, now: Now, state: State, reason: String) {
        if matches!(state, State::LoggedOut | State::NotReady | State::Ready) {
            self.pending = None;
        }
        if self.state != state {
            self.since_ms = now.wall_ms;
        }
        self.state = state;
        self.reason = reason;
    }
}

fn clip(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        let end = (0..=MAX_REASON).rev().find(|i| reason.is_char_boundary(*i)).unwrap_or(0);
        reason.truncate(end);
    }
    reason
}

//! One running script: what it holds, and how its verbs travel to the call's shard and back.
//!
//! [`crate::scripts`] starts it. A verb that waits is sent as [`FromScript::Verb`] and the fibre
//! sleeps until [`ToScript::Done`] comes; what only reads is answered from the snapshot here; what
//! only writes goes with the next verb. Nothing here decides anything about the call.

mod host;
mod mailbox;
mod prompts;
mod tickets;
mod verbs;

use std::path::PathBuf;
use std::sync::Arc;

use cordboard_base::Id;
use cordboard_call::Attributes;
use cordboard_call::Name;
use cordboard_call::script::{CallInfo, Done, Failure, FromScript, ScriptId, Verb};

pub(crate) use mailbox::Mailbox;
pub use prompts::{Fetch, Prompts};

use crate::worlds::ivr::cordboard::ivr::calls as wit;

/// The tenant's clock and calendars. Called on a guest's thread: it must not block.
pub trait Hours: Send + Sync + 'static {
    /// The tenant's local time.
    fn now(&self, tenant: &Name) -> LocalTime;
    /// Whether a business-hours calendar of the tenant is open now; none of that name: none.
    fn open(&self, tenant: &Name, hours: &str) -> Option<bool>;
}

/// A local time as the contract has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalTime {
    /// Such as 2026.
    pub year: u16,
    /// 1 to 12
    pub month: u8,
    /// 1 to 31
    pub day: u8,
    /// 0 to 23
    pub hour: u8,
    /// 0 to 59
    pub minute: u8,
    /// 0 to 59
    pub second: u8,
    /// 1 is Monday, 7 is Sunday (ISO 8601)
    pub weekday: u8,
    /// Minutes east of UTC.
    pub utc_offset_minutes: i16,
}

/// Where a script's verbs go: to the call's shard. Called on a guest's thread: it must not block.
pub trait VerbSink: Send + Sync + 'static {
    /// Hands a verb or the end of the script to the shard.
    fn send(&self, script: ScriptId, message: FromScript);
}

impl<F: Fn(ScriptId, FromScript) + Send + Sync + 'static> VerbSink for F {
    fn send(&self, script: ScriptId, message: FromScript) {
        self(script, message);
    }
}

/// The guest's handle of its call. There is one call a script, so it holds nothing.
#[allow(unreachable_pub, reason = "the bindings re-export it")]
pub struct CallHandle;

/// The guest's handle of a ticket; its number is an index into [`State::tickets`].
#[allow(unreachable_pub, reason = "the bindings re-export it")]
pub struct TicketHandle;

/// What all scripts of a host share.
pub(crate) struct Around {
    pub(crate) prompts: Arc<dyn Prompts>,
    pub(crate) hours: Arc<dyn Hours>,
    /// Recordings go to `RECORDINGS/TENANT/NAME`.
    pub(crate) recordings: PathBuf,
}

/// The state of a script.
pub(crate) struct State {
    pub(crate) id: ScriptId,
    pub(crate) info: CallInfo,
    /// Set since the last verb.
    pub(crate) unsent: Attributes,
    /// The places it has been given, by the number of their handle.
    pub(crate) tickets: Vec<Id>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) sink: Arc<dyn VerbSink>,
    pub(crate) around: Arc<Around>,
    verbs: u32,
    recordings: u32,
}

impl State {
    pub(crate) fn new(
        id: ScriptId,
        info: CallInfo,
        mailbox: Arc<Mailbox>,
        sink: Arc<dyn VerbSink>,
        around: Arc<Around>,
    ) -> Self {
        Self {
            id,
            info,
            unsent: Vec::new(),
            tickets: Vec::new(),
            mailbox,
            sink,
            around,
            verbs: 0,
            recordings: 0,
        }
    }

    /// Sends a verb and waits until it is done.
    async fn verb(&mut self, what: Verb) -> Result<Done, wit::Failure> {
        self.verbs += 1;
        let verb = self.verbs;
        if !self.mailbox.expect(verb) {
            return Err(wit::Failure::HungUp);
        }
        let attributes = std::mem::take(&mut self.unsent);
        self.sink.send(self.id, FromScript::Verb { verb, attributes, what });
        self.mailbox.done(verb).await.map_err(failure)
    }

    /// Sends the one verb that has no completion. What follows is `hung-up`.
    fn hang_up(&mut self, cause: u8) {
        self.verbs += 1;
        if self.mailbox.hang_up() {
            let attributes = std::mem::take(&mut self.unsent);
            self.sink.send(
                self.id,
                FromScript::Verb { verb: self.verbs, attributes, what: Verb::HangUp { cause } },
            );
        }
    }
}

/// A completion of another verb: the shard and this host disagree, which a test excludes.
fn misplaced(done: &Done) -> wit::Failure {
    wit::Failure::Other(format!("the host answered the verb with something else: {done:?}"))
}

fn other(text: impl Into<String>) -> wit::Failure {
    wit::Failure::Other(text.into())
}

fn failure(failure: Failure) -> wit::Failure {
    match failure {
        Failure::HungUp => wit::Failure::HungUp,
        Failure::Taken => wit::Failure::Taken,
        Failure::Timeout => wit::Failure::Timeout,
        Failure::Denied(text) => wit::Failure::Denied(text),
        Failure::Media(text) => wit::Failure::Media(text),
        Failure::Other(text) => wit::Failure::Other(text),
    }
}

impl State {
    /// For a component that is only asked for its description: it has no call.
    pub(crate) fn silent(mailbox: Arc<Mailbox>) -> Self {
        struct Nothing;
        impl Prompts for Nothing {
            fn clip(&self, _: &Name, _: &str) -> Fetch {
                Fetch::Now(Err("`describe` has no call".into()))
            }

            fn speech(&self, _: &Name, _: &str, _: &str) -> Fetch {
                Fetch::Now(Err("`describe` has no call".into()))
            }
        }
        impl Hours for Nothing {
            fn now(&self, _: &Name) -> LocalTime {
                LocalTime::default()
            }

            fn open(&self, _: &Name, _: &str) -> Option<bool> {
                None
            }
        }
        let around =
            Around { prompts: Arc::new(Nothing), hours: Arc::new(Nothing), recordings: PathBuf::new() };
        let info = CallInfo {
            interaction: Id::default(),
            tenant: "".into(),
            trunk: "".into(),
            caller: String::new(),
            caller_name: String::new(),
            called: String::new(),
            attributes: Vec::new(),
        };
        Self::new(ScriptId(0), info, mailbox, Arc::new(|_, _| ()), Arc::new(around))
    }
}

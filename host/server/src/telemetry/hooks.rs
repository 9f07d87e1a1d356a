//! What plugins were asked on behalf of calls, as spans: which hook, how long, and how it ended.
//!
//! The shell's threads note a question when it is put and when it is answered; the exporter makes spans
//! of it below the call's. Without a collector nothing is noted. Nobody waits: what finds no room is lost
//! and counted with the calls.

use std::sync::{Arc, Mutex, PoisonError};

use cordboard_base::{Id, Map, Now};
use cordboard_call::Name;
use cordboard_call::policy::{Candidates, Entry, Fault, Placement, Policies};
use cordboard_call::script::{FromScript, ScriptEnd, ScriptId};
use cordboard_net::Clock;
use tokio::sync::mpsc;

/// Questions that wait for the exporter.
pub(super) const WAITING: usize = 8_192;
/// Scripts whose end is awaited; beyond that they have no span.
const SCRIPTS: usize = 100_000;

/// One question to a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Of which call.
    pub interaction: Id,
    /// `router`, `script`, `policy place`, `policy rank` or `adapter`.
    pub hook: &'static str,
    /// Who was asked.
    pub plugin: Name,
    /// When it was asked.
    pub began: Now,
    /// When it had answered.
    pub ended: Now,
    /// What the answer was, or why there was none.
    pub outcome: Result<String, String>,
}

/// Notes questions. A clone notes for the same exporter; the default one notes nothing.
#[derive(Debug, Clone, Default)]
pub struct Hooks(Option<Arc<Noting>>);

#[derive(Debug)]
struct Noting {
    clock: Clock,
    queue: mpsc::Sender<Hook>,
    scripts: Mutex<Map<ScriptId, (Id, Name, Now)>>,
}

/// A question that was put.
#[derive(Debug)]
pub struct Asked(Option<(Arc<Noting>, Id, &'static str, Name, Now)>);

impl Hooks {
    pub(super) fn new(clock: Clock) -> (Self, mpsc::Receiver<Hook>) {
        let (queue, inbox) = mpsc::channel(WAITING);
        (Self(Some(Arc::new(Noting { clock, queue, scripts: Mutex::default() }))), inbox)
    }

    /// A question is put now.
    #[must_use]
    pub fn ask(&self, interaction: Id, hook: &'static str, plugin: &Name) -> Asked {
        Asked(self.0.clone().map(|noting| {
            let now = noting.clock.now();
            (noting, interaction, hook, plugin.clone(), now)
        }))
    }

    /// A script begins.
    pub fn script_begins(&self, script: ScriptId, interaction: Id, plugin: &Name) {
        let Some(noting) = &self.0 else { return };
        let mut scripts = noting.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        if scripts.len() < SCRIPTS {
            scripts.insert(script, (interaction, plugin.clone(), noting.clock.now()));
        }
    }

    /// A script says something: its end ends the span.
    pub fn script_says(&self, script: ScriptId, message: &FromScript) {
        let (Some(noting), FromScript::Ended { how, .. }) = (&self.0, message) else { return };
        let begun = noting.scripts.lock().unwrap_or_else(PoisonError::into_inner).remove(&script);
        let Some((interaction, plugin, began)) = begun else { return };
        let outcome = match how {
            ScriptEnd::Returned => Ok("returned".to_owned()),
            ScriptEnd::Abandoned => Ok("abandoned at the end of its grace".to_owned()),
            ScriptEnd::Error(why) => Err(why.clone()),
            ScriptEnd::Fault(fault) => Err(fault.to_string()),
        };
        noting.note(interaction, "script", plugin, began, outcome);
    }
}

impl Noting {
    fn note(
        &self,
        interaction: Id,
        hook: &'static str,
        plugin: Name,
        began: Now,
        outcome: Result<String, String>,
    ) {
        let ended = self.clock.now();
        let _ = self.queue.try_send(Hook { interaction, hook, plugin, began, ended, outcome });
    }
}

impl Asked {
    /// It is answered; `outcome` is only asked for when somebody wants to know.
    pub fn answered(self, outcome: impl FnOnce() -> Result<String, String>) {
        if let Some((noting, interaction, hook, plugin, began)) = self.0 {
            noting.note(interaction, hook, plugin, began, outcome());
        }
    }
}

/// Queue policies whose questions are noted.
pub struct Noted<P> {
    policies: P,
    hooks: Hooks,
    interaction: Id,
}

impl<P> Noted<P> {
    /// Around the policies that answer.
    pub fn new(policies: P, hooks: Hooks) -> Self {
        Self { policies, hooks, interaction: Id(0) }
    }
}

impl<P: Policies> Policies for Noted<P> {
    fn about(&mut self, interaction: Id) {
        self.interaction = interaction;
        self.policies.about(interaction);
    }

    fn place(
        &mut self,
        tenant: &Name,
        workgroup: &Name,
        plugin: &Name,
        entry: &Entry,
    ) -> Result<Placement, Fault> {
        let asked = self.hooks.ask(self.interaction, "policy place", plugin);
        let answer = self.policies.place(tenant, workgroup, plugin, entry);
        asked.answered(|| match &answer {
            Ok(placement) => Ok(format!("key {}, {} steps", placement.key_ms, placement.plan.len())),
            Err(fault) => Err(fault.to_string()),
        });
        answer
    }

    fn rank(
        &mut self,
        tenant: &Name,
        workgroup: &Name,
        plugin: &Name,
        entry: &Entry,
        candidates: &Candidates,
    ) -> Result<Vec<u32>, Fault> {
        let asked = self.hooks.ask(self.interaction, "policy rank", plugin);
        let answer = self.policies.rank(tenant, workgroup, plugin, entry, candidates);
        asked.answered(|| match &answer {
            Ok(order) => Ok(format!("{} of {} candidates", order.len(), candidates.agents.len())),
            Err(fault) => Err(fault.to_string()),
        });
        answer
    }
}

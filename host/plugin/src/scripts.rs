//! Runs `ivr-script` plugins: an instance a call, from its start to its end.
//!
//! Called by the server for a shard: [`Scripts::start`] when the shard starts a script,
//! [`Scripts::tell`] for what the shard says to it. Verbs and the end go to the shard's
//! [`VerbSink`]. A script never holds up its call, and a script that traps is never run again.

use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cordboard_base::Map;
use cordboard_call::Name;
use cordboard_call::policy::Fault;
use cordboard_call::script::{CallInfo, FromScript, ScriptEnd, ScriptId, ToScript};
use wasmtime::component::Resource;

use crate::engine::Code;
use crate::guest::{self, Guest};
use crate::limits::ms;
use crate::meter::{Meter, metered};
use crate::question::Settled;
use crate::registry::{Registry, Version};
use crate::script::{Around, CallHandle, Hours, Mailbox, Prompts, State, VerbSink};
use crate::world::World;

/// The scripts of a host. A clone is another handle of the same.
#[derive(Clone)]
pub struct Scripts(Arc<Inner>);

struct Inner {
    registry: Registry,
    around: Arc<Around>,
    running: Mutex<Map<ScriptId, Arc<Mailbox>>>,
}

impl std::fmt::Debug for Scripts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scripts").field("running", &self.running()).finish_non_exhaustive()
    }
}

impl Scripts {
    /// On these plugins. Recordings go to `recordings/TENANT/NAME`.
    #[must_use]
    pub fn new(
        registry: Registry,
        prompts: Arc<dyn Prompts>,
        hours: Arc<dyn Hours>,
        recordings: PathBuf,
    ) -> Self {
        let around = Arc::new(Around { prompts, hours, recordings });
        Self(Arc::new(Inner { registry, around, running: Mutex::default() }))
    }

    /// Starts a script. Whatever happens, `sink` gets exactly one [`FromScript::Ended`], and
    /// nothing after it; a script that cannot be started ends at once. `sink` is never called on
    /// the caller's thread, which may be the one that empties the queue behind it.
    ///
    /// The identifier must not be in use: a second script of the same one ends at once.
    pub fn start(&self, id: ScriptId, plugin: &Name, info: CallInfo, sink: Arc<dyn VerbSink>) {
        let engine = self.0.registry.engine();
        let end = |fault| {
            let sink = sink.clone();
            engine.runtime().spawn(async move {
                let how = ScriptEnd::Fault(fault);
                sink.send(id, FromScript::Ended { how, attributes: Vec::new() });
            });
        };
        let Some(version) = self.0.registry.serving(plugin, World::IvrScript) else {
            return end(Fault::Missing);
        };
        let mailbox = Arc::new(Mailbox::default());
        {
            let mut running = self.0.running();
            let (most, runs) = (engine.limits().scripts, running.len());
            let full = match running.entry(id) {
                Entry::Vacant(place) if runs < most => {
                    place.insert(mailbox.clone());
                    None
                }
                Entry::Vacant(_) => {
                    Some(format!("{most} scripts run, as many as may at once: raise `max_scripts`"))
                }
                Entry::Occupied(_) => Some(format!("a script of the number {} runs already", id.0)),
            };
            drop(running);
            if let Some(text) = full {
                let fault = Fault::Full(text);
                self.0.registry.fault(&version, &fault);
                return end(fault);
            }
        }
        version.context.stats.questions.fetch_add(1, Relaxed);
        version.context.stats.running.fetch_add(1, Relaxed);
        let inner = self.0.clone();
        engine.runtime().spawn(async move {
            let stats = version.context.stats.clone();
            let interaction = info.interaction;
            let state = State::new(id, info, mailbox.clone(), sink.clone(), inner.around.clone());
            let meter = Meter::new(version.context.limits.script_cpu_ms);
            let guest = Guest::new(version.context.clone(), meter.clone(), Some(interaction), state);
            let mut store = Settled(guest::store(&version.engine, guest));
            guest::give_way(&mut store.0);
            let how = run(&inner.registry, &version, meter, &mailbox, &mut store).await;
            let attributes = std::mem::take(&mut store.0.data_mut().world.unsent);
            // The instance is gone before the shard hears of it.
            drop(store);
            stats.running.fetch_sub(1, Relaxed);
            inner.running().remove(&id);
            match &how {
                ScriptEnd::Fault(fault) => inner.registry.fault(&version, fault),
                ScriptEnd::Error(_) => drop(stats.errors.fetch_add(1, Relaxed)),
                ScriptEnd::Abandoned => drop(stats.abandoned.fetch_add(1, Relaxed)),
                ScriptEnd::Returned => {}
            }
            sink.send(id, FromScript::Ended { how, attributes });
        });
    }

    /// Tells a script what its shard says. For a script that has ended it is nothing.
    pub fn tell(&self, id: ScriptId, message: ToScript) {
        let mailbox = self.0.running().get(&id).cloned();
        if let Some(mailbox) = mailbox {
            mailbox.put(message);
        }
    }

    /// Scripts that run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.running().len()
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, Map<ScriptId, Arc<Mailbox>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From the instance's first instruction to its last.
async fn run(
    registry: &Registry,
    version: &Version,
    meter: Arc<Meter>,
    mailbox: &Mailbox,
    store: &mut Settled<State>,
) -> ScriptEnd {
    let Code::Script(pre) = &*version.code else { return ScriptEnd::Fault(Fault::Missing) };
    let ended = {
        let store = &mut store.0;
        let script = metered(meter, registry.engine().0.ticker.clone(), async move {
            let instance = pre.instantiate_async(&mut *store).await?;
            instance.call_run(&mut *store, Resource::<CallHandle>::new_own(0)).await
        });
        let grace = async {
            mailbox.hung_up().await;
            tokio::time::sleep(ms(version.context.limits.grace_ms)).await;
        };
        let mut script = pin!(script);
        tokio::select! {
            biased;
            ended = &mut script => Some(ended),
            () = grace => None,
        }
    };
    match ended {
        None => ScriptEnd::Abandoned,
        Some(Ok(Ok(()))) => ScriptEnd::Returned,
        Some(Ok(Err(text))) => ScriptEnd::Error(guest::clip(&text, 1_024).to_owned()),
        Some(Err(e)) => ScriptEnd::Fault(guest::fault(&e, &store.0)),
    }
}

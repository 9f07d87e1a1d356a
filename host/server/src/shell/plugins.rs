//! The shard's way to the plugins: what a round asks of routers and scripts travels as one batch.
//!
//! The shard's thread fills a batch and hands it over at the end of a round; one task on the plugins'
//! runtime carries the batches out in their order. So a round wakes that runtime once, however many
//! scripts it speaks to, and a script hears of its start before it hears of anything else.

use std::cell::RefCell;
use std::sync::Arc;

use cordboard_base::Id;
use cordboard_bus::Outlet;
use cordboard_call::Name;
use cordboard_call::router::Incoming;
use cordboard_call::script::{CallInfo, FromScript, ScriptId, ToScript};
use cordboard_plugin::{Registry, Routers, Scripts, VerbSink};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::shard::{Plugins, ShardMail, post};
use crate::dns::Dns;
use crate::library::{Library, wall_ms};
use crate::telemetry::hooks::Hooks;

/// What the shard asks for.
enum Work {
    Route(u64, Name, Id, Box<Incoming>),
    Start(ScriptId, Name, Box<CallInfo>),
    Tell(ScriptId, ToScript),
}

/// The shard's end.
pub struct ToPlugins {
    batch: RefCell<Vec<Work>>,
    /// Without a bound, for the shard must not wait; what is in it is bounded by the calls that are up.
    batches: UnboundedSender<Vec<Work>>,
    dns: Dns,
    shard: Outlet<ShardMail>,
}

impl ToPlugins {
    /// Starts the task that carries out what `shard` asks for; it ends with this.
    #[must_use]
    pub fn new(
        registry: &Registry,
        scripts: Scripts,
        library: Arc<Library>,
        dns: Dns,
        shard: Outlet<ShardMail>,
        hooks: Hooks,
    ) -> Self {
        let (batches, received) = unbounded_channel();
        let (verbs, heard) = (shard.clone(), hooks.clone());
        let sink: Arc<dyn VerbSink> = Arc::new(move |script: ScriptId, from: FromScript| {
            heard.script_says(script, &from);
            post(&verbs, ShardMail::Script(script, from));
        });
        let routers = Routers::new(registry.clone());
        let carrier = Carrier { routers, scripts, library, sink, shard: shard.clone(), hooks };
        registry.engine().runtime().spawn(carrier.run(received));
        Self { batch: RefCell::default(), batches, dns, shard }
    }
}

impl Plugins for ToPlugins {
    fn ask_route(&self, ask: u64, plugin: Name, interaction: Id, incoming: Box<Incoming>) {
        self.batch.borrow_mut().push(Work::Route(ask, plugin, interaction, incoming));
    }

    fn resolve(&self, ask: u64, uri: String) {
        let shard = self.shard.clone();
        self.dns.resolve(uri, move |answer| post(&shard, ShardMail::Resolved(ask, answer)));
    }

    fn start_script(&self, script: ScriptId, plugin: Name, info: CallInfo) {
        self.batch.borrow_mut().push(Work::Start(script, plugin, Box::new(info)));
    }

    fn tell_script(&self, script: ScriptId, message: ToScript) {
        self.batch.borrow_mut().push(Work::Tell(script, message));
    }

    fn flush(&self) {
        let batch = std::mem::take(&mut *self.batch.borrow_mut());
        if !batch.is_empty() {
            // The carrier ends only with the runtime, and then nobody runs what is asked for.
            let _ = self.batches.send(batch);
        }
    }
}

/// The runtime's end.
struct Carrier {
    routers: Routers,
    scripts: Scripts,
    library: Arc<Library>,
    sink: Arc<dyn VerbSink>,
    shard: Outlet<ShardMail>,
    hooks: Hooks,
}

impl Carrier {
    async fn run(self, mut batches: UnboundedReceiver<Vec<Work>>) {
        while let Some(batch) = batches.recv().await {
            for work in batch {
                match work {
                    Work::Route(ask, plugin, interaction, incoming) => {
                        let local = self.library.local_time(&incoming.tenant, wall_ms());
                        let shard = self.shard.clone();
                        let asked = self.hooks.ask(interaction, "router", &plugin);
                        self.routers.ask(plugin, incoming, local, move |answer| {
                            asked.answered(|| match &answer {
                                Ok(route) => Ok(route.kind().to_owned()),
                                Err(fault) => Err(fault.to_string()),
                            });
                            post(&shard, ShardMail::Routed(ask, answer));
                        });
                    }
                    Work::Start(script, plugin, info) => {
                        self.hooks.script_begins(script, info.interaction, &plugin);
                        self.scripts.start(script, &plugin, *info, self.sink.clone());
                    }
                    Work::Tell(script, message) => self.scripts.tell(script, message),
                }
            }
        }
    }
}

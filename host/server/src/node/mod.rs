//! A node: what `serve` starts, what the API and the watchers work on while it runs, and how it ends.
//!
//! [`start`] builds it in order: the store is opened and read, plugins are vetted and put into service,
//! sockets are bound, the former life is recovered (its interactions close, its dialogs get their BYE),
//! and only then is the first datagram read. [`reload`] changes what runs, [`health`] says whether it
//! does, [`weigh`] keeps the redirect role's weights fresh. End: no new calls, live ones finish, then
//! everything stops.

pub mod health;
pub mod reload;
mod start;
mod weigh;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use cordboard_bus::Outlet;
use cordboard_call::Name;
use cordboard_call::commands::{Command, Reply};
use cordboard_call::messages::CallCommand;
use cordboard_net::Clock;
use cordboard_net::media::{MediaHandle, MediaThread};
use cordboard_plugin::{Registry, Scripts};
use cordboard_store::{Journal, Records, StoreError};
use serde::Serialize;

pub use self::health::Health;
pub use self::reload::{Loaded, ReloadError, Reloaded};
use crate::api::Problem;
use crate::config::{Config, Overrides, Role};
use crate::cti::Delivery;
use crate::library::Library;
use crate::shell::domain::{DomainMail, DomainView};
use crate::shell::gate::Gate;
use crate::shell::redirect::{RedirectMail, RedirectView};
use crate::shell::release::{Releaser, Told};
use crate::shell::shard::{self, ShardMail, ShardView};
use crate::speech::Speech;
use crate::telemetry::Exporter;
use crate::trace::Trace;

/// What the API, the watchers and the command line work on.
pub struct Shared {
    config: ArcSwap<Config>,
    overrides: Overrides,
    /// The clock of the process.
    pub clock: Clock,
    started: Instant,
    /// Plugins.
    pub registry: Registry,
    /// Scripts that run.
    pub scripts: Scripts,
    /// The journal.
    pub journal: Journal<Vec<Told>>,
    /// Where outputs go.
    pub releaser: Arc<Releaser>,
    /// Prompts.
    pub library: Arc<Library>,
    /// The synthesiser.
    pub speech: Arc<Speech>,
    /// Events on their way.
    pub delivery: Delivery,
    /// The centre's threads; none without the role.
    pub centre: Option<Centre>,
    /// The redirect role's thread; none without the role.
    pub redirect: Option<(Outlet<RedirectMail>, Arc<RedirectView>)>,
    /// Before all listeners.
    pub gate: Gate,
    /// Whether new calls are refused.
    pub draining: Arc<AtomicBool>,
    /// The calls' SIP.
    pub trace: Arc<Trace>,
    /// The export of spans; none without a collector.
    pub exporter: Option<Arc<Exporter>>,
    reloading: Mutex<()>,
    watch: health::Watch,
    /// What each plugin was on disk when it was last put into service from there.
    from_disk: Mutex<BTreeMap<Name, u64>>,
}

/// The threads of centre and domain, seen from outside.
pub struct Centre {
    /// Mail to the shard.
    pub shard: Outlet<ShardMail>,
    /// What it does.
    pub shard_view: Arc<ShardView>,
    /// Mail to the domain.
    pub domain: Outlet<DomainMail>,
    /// What it does.
    pub domain_view: Arc<DomainView>,
    /// The media thread.
    pub media: MediaHandle,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("node", &self.config().node).finish_non_exhaustive()
    }
}

/// `GET /v1/node`
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// Its name.
    pub node: Name,
    /// Of the program.
    pub version: &'static str,
    /// What it does.
    pub roles: Vec<String>,
    /// Where the redirect role listens.
    pub redirect: Option<SocketAddr>,
    /// Where the centre listens.
    pub centre: Option<SocketAddr>,
    /// Since the start.
    pub uptime_s: u64,
    /// Calls that are up.
    pub calls: u64,
    /// Scripts that run.
    pub scripts: usize,
    /// Whether new calls are refused.
    pub draining: bool,
}

impl Shared {
    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// The store's file.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.journal.path().to_owned()
    }

    /// Asks the domain.
    pub async fn ask(&self, command: Command) -> Reply {
        match &self.centre {
            Some(centre) => self.releaser.ask(&centre.domain, command).await,
            None => Reply::Error {
                status: 409,
                text: "this process has no domain: ask a node that has the role".into(),
            },
        }
    }

    /// Reads records, where reading may wait.
    ///
    /// # Errors
    /// As a problem of the API.
    pub async fn with_records<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Records) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let path = self.store_path();
        let result =
            tokio::task::spawn_blocking(move || Records::open(&path).and_then(|records| read(&records)))
                .await;
        result
            .map_err(|_| Problem::new(500, "the look-up ended early"))?
            .map_err(|e| Problem::new(500, e.to_string()))
    }

    /// Whether calls can be served.
    /// What this node is.
    #[must_use]
    pub fn about(&self) -> About {
        let config = self.config();
        About {
            node: config.node.clone(),
            version: env!("CARGO_PKG_VERSION"),
            roles: config.roles.iter().map(|r| format!("{r:?}").to_lowercase()).collect(),
            redirect: config.has(Role::Redirect).then_some(config.listen.redirect),
            centre: config.has(Role::Centre).then_some(config.listen.centre),
            uptime_s: self.started.elapsed().as_secs(),
            calls: self.centre.as_ref().map_or(0, |c| c.shard_view.calls.load(Relaxed)),
            scripts: self.scripts.running(),
            draining: self.draining.load(Relaxed),
        }
    }

    /// Refuses new calls from now on; live ones go on.
    pub fn drain(&self) {
        if !self.draining.swap(true, Relaxed) {
            tracing::info!("draining: new calls are refused, live calls go on");
            if let Some(centre) = &self.centre {
                shard::post(&centre.shard, ShardMail::Drain);
            }
        }
    }
}

/// Everything that runs.
#[derive(Debug)]
pub struct Node {
    /// What others work on.
    pub shared: Arc<Shared>,
    /// Where the API listens.
    pub api: SocketAddr,
    service: Option<tokio::runtime::Runtime>,
    media: Option<MediaThread>,
    journal: Option<cordboard_store::journal::Running<Vec<Told>>>,
    threads: Vec<JoinHandle<()>>,
    domain: Option<JoinHandle<()>>,
}

/// What `serve` may be told beside the file.
#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// Instead of the file's.
    pub overrides: Overrides,
    /// Go on from the whole part of a damaged journal.
    pub journal_keep_whole: bool,
}

impl Node {
    /// Runs what must run on the service runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        match &self.service {
            Some(service) => service.block_on(future),
            None => unreachable!("the runtime goes with the node"),
        }
    }

    /// Refuses new calls, waits until the live ones have ended (at most as long as the configuration
    /// says, or until `hurry` says so), and clears those that are left.
    pub async fn drain(&self, hurry: &AtomicBool) {
        let shared = &self.shared;
        shared.drain();
        let Some(centre) = &shared.centre else { return };
        let limit = Duration::from_millis(shared.config().drain_timeout_ms);
        let began = Instant::now();
        let idle = || centre.shard_view.calls.load(Relaxed) == 0 && centre.shard_view.idle.load(Relaxed);
        // The view is told several times a second: one look would be too early.
        tokio::time::sleep(Duration::from_millis(300)).await;
        while !idle() && began.elapsed() < limit && !hurry.load(Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if !idle() {
            if let Reply::Calls(calls) = shared.ask(Command::Calls).await {
                tracing::warn!(calls = calls.len(), "calls that are still up are cleared");
                for call in calls {
                    let command = Command::Control {
                        interaction: call.interaction,
                        command: CallCommand::Clear { cause: 41 },
                    };
                    let _ = shared.ask(command).await;
                }
            }
            let began = Instant::now();
            while !idle() && began.elapsed() < Duration::from_secs(2) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Stops all threads; what was decided is durable afterwards.
    pub fn stop(mut self) {
        if let Some(centre) = &self.shared.centre {
            shard::post(&centre.shard, ShardMail::Stop);
        }
        if let Some((redirect, _)) = &self.shared.redirect {
            redirect.send_waiting(RedirectMail::Stop);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Some(centre) = &self.shared.centre {
            centre.domain.send_waiting(DomainMail::Compact);
            centre.domain.send_waiting(DomainMail::Stop);
        }
        if let Some(domain) = self.domain.take() {
            let _ = domain.join();
        }
        drop(self.media.take());
        if self.journal.take().is_some_and(|journal| !journal.stop()) {
            tracing::error!("the last facts could not be written: the disk refuses them");
        }
        if let Some(service) = self.service.take() {
            service.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

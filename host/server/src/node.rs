//! A node: what `serve` starts, in order, and how it ends.
//!
//! Start: the store is opened and read, plugins are vetted and put into service, sockets are bound,
//! the former life is recovered (its interactions close, its dialogs get their BYE), and only then
//! is the first datagram read. End: no new calls, live ones finish, then everything stops.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use cordboard_bus::{Link, Outlet};
use cordboard_call::Name;
use cordboard_call::commands::{Command, Reply};
use cordboard_call::facts::Fact;
use cordboard_call::messages::CallCommand;
use cordboard_call::redirect::Weights;
use cordboard_call::router::Incoming;
use cordboard_call::script::{CallInfo, FromScript, ScriptId, ToScript};
use cordboard_call::shard::ShardConfig;
use cordboard_net::Clock;
use cordboard_net::media::{MediaHandle, MediaThread};
use cordboard_net::udp::{Options as PortOptions, Port};
use cordboard_plugin::{
    Adapters, Engine, EngineConfig, Grants, Install, LogLine, Manifest, PluginEvent, Redirects, Registry,
    Routers, Scripts, VerbSink, WasmPolicies, World,
};
use cordboard_sip::endpoint::{DialogRecord, Listener};
use cordboard_store::{Durability, Journal, Options as StoreOptions, Records, StoreError};
use serde::Serialize;

use crate::api::Problem;
use crate::config::{self, Config, Overrides, Problems, Role};
use crate::cti::Delivery;
use crate::http::HttpClient;
use crate::library::{ForScripts, Library, wall_ms};
use crate::shell::domain::{DomainMail, DomainSetup, DomainView};
use crate::shell::redirect::{Beside, RedirectMail, RedirectSetup, RedirectView};
use crate::shell::release::{Releaser, Told};
use crate::shell::shard::{self, Plugins, ShardMail, ShardSetup, ShardView, SharedPrompts};
use crate::shell::{self, domain, redirect};
use crate::speech::Speech;
use crate::telemetry::Exporter;

/// The centre's listener in the shard.
const CENTRE: u16 = 1;
/// Messages that wait for a thread.
const INBOX: usize = 262_144;

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
    /// Whether new calls are refused.
    pub draining: Arc<AtomicBool>,
    reloading: Mutex<()>,
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

/// `GET /v1/healthz`
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Whether calls can be served.
    pub ok: bool,
    /// `serving`, `draining`, `journal-failing`.
    pub state: &'static str,
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

/// The outcome of a reload.
#[derive(Debug, Clone, Serialize)]
pub struct Reloaded {
    /// Keys whose new values take a restart; the old ones hold.
    pub needs_restart: Vec<&'static str>,
    /// Plugins that were put into service, with their digests.
    pub plugins: BTreeMap<String, String>,
}

/// A version in service.
#[derive(Debug, Clone, Serialize)]
pub struct Loaded {
    /// The plugin.
    pub plugin: String,
    /// The component's digest.
    pub digest: String,
    /// What it says of itself.
    pub description: cordboard_plugin::Description,
}

/// Why a reload did not happen; what was in force stays.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file is wrong.
    #[error(transparent)]
    Config(#[from] Problems),
    /// A plugin is refused.
    #[error("the plugin `{0}`: {1}")]
    Plugin(String, String),
    /// The prompts cannot be read.
    #[error("{0}")]
    Prompts(String),
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
    #[must_use]
    pub fn health(&self) -> Health {
        if self.journal.stats().failing.load(Relaxed) {
            Health { ok: false, state: "journal-failing" }
        } else if self.draining.load(Relaxed) {
            Health { ok: false, state: "draining" }
        } else {
            Health { ok: true, state: "serving" }
        }
    }

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

    /// Puts a component into service under a configured plugin's name, settings, grants and manifest.
    ///
    /// # Errors
    /// As a problem of the API.
    pub fn install(&self, name: &str, bytes: &[u8]) -> Result<Loaded, Problem> {
        let config = self.config();
        let plugin = config.plugins.iter().find(|p| &*p.name == name).ok_or_else(|| {
            let names = config.plugins.iter().map(|p| &*p.name);
            Problem::new(
                404,
                format!("the configuration has no plugin `{name}`{}", config::suggest(name, names)),
            )
        })?;
        let loaded = install(&self.registry, plugin, bytes).map_err(|why| Problem::new(422, why))?;
        if std::fs::read(&plugin.file).is_ok_and(|on_disk| on_disk == bytes) {
            let mut from_disk = self.from_disk.lock().unwrap_or_else(PoisonError::into_inner);
            from_disk.insert(plugin.name.clone(), fingerprint(plugin, bytes));
        }
        Ok(loaded)
    }

    /// Reads the configuration anew and applies it without dropping a call.
    ///
    /// # Errors
    /// What is wrong; nothing has changed then, unless a plugin is refused only when it is put into
    /// service: those named before it in the file are in service already.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.config();
        let new = config::load(&old.file, &self.overrides)?;
        let (new, needs_restart) = config::reload::merge(&old, new);
        let new = Arc::new(new);
        let vetter = self.registry.engine().vetter();
        let mut components = Vec::new();
        for plugin in &new.plugins {
            let refused = |why: String| ReloadError::Plugin(plugin.name.to_string(), why);
            let bytes = std::fs::read(&plugin.file)
                .map_err(|e| refused(format!("{}: {e}", plugin.file.display())))?;
            vetter.check(&bytes, plugin.expected_world()).map_err(|problems| {
                refused(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            })?;
            components.push(bytes);
        }
        self.library.reload(&new).map_err(ReloadError::Prompts)?;
        if let Err(error) = make_folders(&new) {
            tracing::error!(%error, folder = %new.store.recordings.display(), "folders for recordings cannot be made");
        }
        let mut plugins = BTreeMap::new();
        let mut from_disk = self.from_disk.lock().unwrap_or_else(PoisonError::into_inner);
        for (plugin, bytes) in new.plugins.iter().zip(&components) {
            // What has not changed on disk stays as it is in service, be it loaded or rolled back since.
            let mark = fingerprint(plugin, bytes);
            if from_disk.get(&plugin.name) == Some(&mark) {
                continue;
            }
            let loaded = install(&self.registry, plugin, bytes)
                .map_err(|why| ReloadError::Plugin(plugin.name.to_string(), why))?;
            from_disk.insert(plugin.name.clone(), mark);
            plugins.insert(loaded.plugin, loaded.digest);
        }
        for gone in old.plugins.iter().filter(|p| new.plugins.iter().all(|n| n.name != p.name)) {
            self.registry.remove(&gone.name);
            from_disk.remove(&gone.name);
        }
        drop(from_disk);
        self.config.store(new.clone());
        self.delivery.configure(adapters(&new));
        if let Some(centre) = &self.centre {
            centre.domain.send_waiting(DomainMail::Configure(new.model.clone()));
            shard::post(
                &centre.shard,
                ShardMail::Configure(new.model.clone(), SharedPrompts(self.library.clone())),
            );
        }
        if let Some((redirect, _)) = &self.redirect {
            redirect.send_waiting(RedirectMail::Configure(new.model.clone(), new.redirect.nodes.clone()));
        }
        tracing::info!(?needs_restart, "the configuration was read anew");
        Ok(Reloaded { needs_restart, plugins })
    }
}

/// Folders that must be there before a call wants to write into them.
fn make_folders(config: &Config) -> std::io::Result<()> {
    for tenant in &config.model.tenants {
        std::fs::create_dir_all(config.store.recordings.join(&*tenant.name))?;
    }
    Ok(())
}

/// Which adapters get whose events.
fn adapters(config: &Config) -> BTreeMap<Name, BTreeSet<Name>> {
    let mut wanted: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for tenant in &config.model.tenants {
        for adapter in &tenant.adapters {
            wanted.entry(adapter.clone()).or_default().insert(tenant.name.clone());
        }
    }
    wanted
}

/// A component as it is on disk, with everything that makes a version of it.
fn fingerprint(plugin: &config::Plugin, bytes: &[u8]) -> u64 {
    let mut hash = std::hash::DefaultHasher::new();
    let manifest = plugin.manifest.as_ref().and_then(|file| std::fs::read(file).ok());
    (bytes, manifest, &plugin.world, &plugin.grant_http, &plugin.settings).hash(&mut hash);
    hash.finish()
}

/// Checks a component and puts it into service.
fn install(registry: &Registry, plugin: &config::Plugin, bytes: &[u8]) -> Result<Loaded, String> {
    let manifest = match &plugin.manifest {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| format!("the manifest {} cannot be read: {e}", path.display()))?;
            Some(Manifest::parse(&text).map_err(|e| format!("the manifest {}: {e}", path.display()))?)
        }
        None => None,
    };
    let world: Option<World> = match &plugin.world {
        Some(world) => Some(world.parse().map_err(|e: cordboard_plugin::NoSuchWorld| e.to_string())?),
        None => None,
    };
    let version = registry
        .install(&Install {
            name: &plugin.name,
            world,
            bytes,
            manifest,
            settings: plugin.settings.clone(),
            grant: Grants { http: plugin.grant_http.clone() },
        })
        .map_err(|e| e.to_string())?;
    Ok(Loaded {
        plugin: plugin.name.to_string(),
        digest: version.digest().to_string(),
        description: version.description().clone(),
    })
}

/// The shard's way to the plugins.
struct ToPlugins {
    routers: Routers,
    scripts: Scripts,
    library: Arc<Library>,
    sink: Arc<dyn VerbSink>,
    shard: Outlet<ShardMail>,
}

impl Plugins for ToPlugins {
    fn ask_route(&self, ask: u64, plugin: Name, incoming: Box<Incoming>) {
        let local = self.library.local_time(&incoming.tenant, wall_ms());
        let shard = self.shard.clone();
        self.routers
            .ask(plugin, incoming, local, move |answer| shard::post(&shard, ShardMail::Routed(ask, answer)));
    }

    fn start_script(&self, script: ScriptId, plugin: Name, info: CallInfo) {
        self.scripts.start(script, &plugin, info, self.sink.clone());
    }

    fn tell_script(&self, script: ScriptId, message: ToScript) {
        self.scripts.tell(script, message);
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
    /// Starts everything that the configuration names.
    ///
    /// # Errors
    /// What could not be started, and what to do.
    pub fn start(config: Config, options: ServeOptions) -> Result<Self> {
        cordboard_base::map::seed_hashes(shell::entropy().next_u64());
        let config = Arc::new(config);
        let clock = Clock::start();
        let service = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("service")
            .enable_all()
            .build()
            .context("the service runtime cannot be started")?;
        let releaser = Arc::new(Releaser::new(config.serialise_bus));

        let exporter = config
            .otlp
            .as_ref()
            .map(|url| Exporter::start(url, &config.node, service.handle(), releaser.watch()));
        drop(exporter);
        let told = releaser.clone();
        let store = StoreOptions {
            durability: if config.store.power { Durability::Power } else { Durability::Process },
            keep_whole: options.journal_keep_whole,
            ..StoreOptions::new(&config.store.path)
        };
        let (journal, running, recovered) = Journal::open(store, move |committed| {
            told.publish(committed.events);
            told.release(committed.held);
        })?;
        if recovered.rows_given_up > 0 {
            tracing::warn!(rows = recovered.rows_given_up, "damaged rows of the journal were given up");
        }

        make_folders(&config)
            .with_context(|| format!("store.recordings: {}", config.store.recordings.display()))?;

        let policy_changed: Arc<std::sync::OnceLock<Outlet<DomainMail>>> = Arc::default();
        let registry = start_plugins(&config, policy_changed.clone())?;
        for plugin in &config.plugins {
            let bytes = std::fs::read(&plugin.file)
                .with_context(|| format!("the component {}", plugin.file.display()))?;
            if let Err(why) = install(&registry, plugin, &bytes) {
                bail!("the plugin `{}` ({}): {why}", plugin.name, plugin.file.display());
            }
        }
        let speech = Arc::new(Speech::new(config.speech.clone(), service.handle().clone()));
        let library = Arc::new(Library::load(&config, speech.clone()).map_err(anyhow::Error::msg)?);
        let for_scripts = Arc::new(ForScripts(library.clone()));
        let scripts =
            Scripts::new(registry.clone(), for_scripts.clone(), for_scripts, config.store.recordings.clone());
        let http = Arc::new(HttpClient::new(service.handle().clone()));
        let delivery = Delivery::new(
            service.handle().clone(),
            Adapters::new(registry.clone(), http),
            journal.clone(),
            releaser.clone(),
            clock,
        );
        delivery.configure(adapters(&config));

        let from_disk = config
            .plugins
            .iter()
            .filter_map(|p| Some((p.name.clone(), fingerprint(p, &std::fs::read(&p.file).ok()?))))
            .collect();
        let draining = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let (mut media, mut domain_thread) = (None, None);
        let centre = if config.has(Role::Centre) {
            let plugins = |shard: Outlet<ShardMail>| {
                let verbs = shard.clone();
                let sink: Arc<dyn VerbSink> = Arc::new(move |script: ScriptId, from: FromScript| {
                    shard::post(&verbs, ShardMail::Script(script, from))
                });
                ToPlugins {
                    routers: Routers::new(registry.clone()),
                    scripts: scripts.clone(),
                    library: library.clone(),
                    sink,
                    shard,
                }
            };
            let (centre, media_thread, shard_thread, domain) = start_centre(
                &config,
                clock,
                &journal,
                &releaser,
                &registry,
                recovered.facts,
                &library,
                plugins,
            )?;
            let _ = policy_changed.set(centre.domain.clone());
            media = Some(media_thread);
            domain_thread = Some(domain);
            threads.push(shard_thread);
            Some(centre)
        } else {
            None
        };
        let redirect = if config.has(Role::Redirect) {
            let (outlet, view, thread) = start_redirect(&config, clock, centre.as_ref(), &draining)?;
            threads.push(thread);
            Some((outlet, view))
        } else {
            None
        };
        let shared = Arc::new(Shared {
            config: ArcSwap::new(config.clone()),
            overrides: options.overrides,
            clock,
            started: Instant::now(),
            registry,
            scripts,
            journal,
            releaser,
            library,
            speech,
            delivery,
            centre,
            redirect,
            draining,
            reloading: Mutex::new(()),
            from_disk: Mutex::new(from_disk),
        });
        let (api, serving) = service
            .block_on(crate::api::serve(config.api.listen, shared.clone()))
            .with_context(|| format!("api.listen: {} cannot be bound", config.api.listen))?;
        service.spawn(serving);
        service.spawn(crate::watch::housekeeping(shared.clone()));
        service.spawn(crate::watch::plugin_folder(shared.clone()));
        if shared.redirect.is_some() {
            service.spawn(weigh(shared.clone()));
        }
        Ok(Self {
            shared,
            api,
            service: Some(service),
            media,
            journal: Some(running),
            threads,
            domain: domain_thread,
        })
    }

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

fn start_plugins(
    config: &Config,
    policy_changed: Arc<std::sync::OnceLock<Outlet<DomainMail>>>,
) -> Result<Registry> {
    let mut engine = EngineConfig::new(Arc::new(|line: LogLine| {
        let interaction = line.interaction.map(|id| id.to_string()).unwrap_or_default();
        match line.level {
            cordboard_plugin::Level::Debug => {
                tracing::debug!(plugin = %line.plugin, interaction, "{}", line.text)
            }
            cordboard_plugin::Level::Info => {
                tracing::info!(plugin = %line.plugin, interaction, "{}", line.text)
            }
            cordboard_plugin::Level::Warn => {
                tracing::warn!(plugin = %line.plugin, interaction, "{}", line.text)
            }
            cordboard_plugin::Level::Error => {
                tracing::error!(plugin = %line.plugin, interaction, "{}", line.text)
            }
        }
    }));
    let limits = config.plugin_limits;
    engine.limits.memory_bytes = limits.memory_mib as usize * (1 << 20);
    engine.limits.script_cpu_ms = limits.script_cpu_ms;
    engine.limits.scripts = limits.max_scripts as usize;
    // Room for the questions of the other worlds beside the scripts.
    engine.instances = limits.max_scripts + 200;
    engine.limits.quarantine_faults = limits.quarantine_faults;
    engine.limits.grace_ms = config.model.limits.script_grace_ms;
    engine.cache = config.store.path.parent().map(|folder| folder.join("code"));
    let engine = Engine::new(engine)?;
    let sizing = engine.sizing();
    match &sizing.limited_by {
        Some(why) => tracing::warn!(
            instances = sizing.instances,
            wanted = sizing.wanted,
            why,
            "the machine allows fewer plugin instances than wanted"
        ),
        None => {
            tracing::info!(instances = sizing.instances, pagemap_scan = sizing.pagemap_scan, "plugin engine")
        }
    }
    Ok(Registry::new(engine, move |event| {
        let changed = match event {
            PluginEvent::Installed { plugin, digest, replaced } => {
                tracing::info!(%plugin, %digest, replaced = replaced.is_some(), "plugin in service");
                plugin
            }
            PluginEvent::Quarantined { plugin, digest, fault, now } => {
                tracing::error!(%plugin, %digest, %fault, rolled_back = now.is_some(), "plugin in quarantine after too many faults");
                plugin
            }
            PluginEvent::RolledBack { plugin, to, .. } => {
                tracing::warn!(%plugin, %to, "plugin rolled back");
                plugin
            }
            PluginEvent::OnProbation { plugin, digest } => {
                tracing::warn!(%plugin, %digest, "plugin tried again after its quarantine");
                plugin
            }
            PluginEvent::Removed { plugin } => {
                tracing::info!(%plugin, "plugin out of service");
                plugin
            }
        };
        if let Some(domain) = policy_changed.get() {
            // Of no consequence for a plugin that is no policy; a full inbox places anew at the next change.
            let _ = domain.send(DomainMail::PolicyChanged(changed));
        }
    }))
}

/// Dialogs that were up when the former life ended.
fn orphans(facts: &[Fact]) -> Vec<(u64, DialogRecord)> {
    let mut up = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::DialogUp { leg, dialog, .. } => {
                up.insert(*leg, dialog.clone());
            }
            Fact::DialogDown { leg } => {
                up.remove(leg);
            }
            _ => {}
        }
    }
    up.into_iter().collect()
}

#[allow(clippy::too_many_arguments, reason = "it is called once, and each is a part of the centre")]
fn start_centre(
    config: &Arc<Config>,
    clock: Clock,
    journal: &Journal<Vec<Told>>,
    releaser: &Arc<Releaser>,
    registry: &Registry,
    facts: Vec<Fact>,
    library: &Arc<Library>,
    plugins: impl FnOnce(Outlet<ShardMail>) -> ToPlugins,
) -> Result<(Centre, MediaThread, JoinHandle<()>, JoinHandle<()>)> {
    let orphans = orphans(&facts);
    let port = Port::bind(config.listen.centre, PortOptions::default())
        .with_context(|| format!("listen.centre: {} cannot be bound", config.listen.centre))?;
    tracing::info!(address = %port.local_addr(), receive_buffer = port.receive_buffer(), "centre listens");
    let (poll, waker) = shard::poll().context("the shard cannot be woken")?;
    let (shard, inbox) = cordboard_bus::inbox(INBOX, waker.clone());
    releaser.connect(shard.clone());

    // A life's number grows with every start, also when the clock was set back a little.
    let epoch = wall_ms().max(0) as u64;
    let (ready, is_ready) = std::sync::mpsc::channel();
    let policies = registry.clone();
    let domain_view = Arc::new(DomainView::default());
    let setup = DomainSetup {
        model: config.model.clone(),
        epoch,
        clock,
        facts,
        policies: move || WasmPolicies::new(policies),
        journal: journal.clone(),
        releaser: releaser.clone(),
        view: domain_view.clone(),
    };
    let domain_thread = domain::start(setup, INBOX, move |outlet| drop(ready.send(outlet)))
        .context("the domain's thread cannot be started")?;
    let domain = is_ready.recv().context("the domain ended while it recovered")?;

    let mut media_config = cordboard_net::media::Config::new(
        config.media.address,
        config.media.advertised,
        config.media.ports.0..=config.media.ports.1,
        shell::seed(),
    );
    media_config.max_legs = config.media.max_legs as usize;
    let to_shard = shard.clone();
    let media = MediaThread::start(media_config, clock, move |events| {
        shard::post(&to_shard, ShardMail::Media(events))
    })
    .context("the media thread cannot be started")?;
    let shard_view = Arc::new(ShardView::default());
    let notes = journal.clone();
    let listener = Listener {
        id: CENTRE,
        local: SocketAddr::new(config.centre_advertised().ip(), port.local_addr().port()),
    };
    let setup = ShardSetup {
        config: ShardConfig::new(1, epoch, vec![listener], config.media.advertised),
        model: config.model.clone(),
        prompts: SharedPrompts(library.clone()),
        clock,
        ports: vec![(CENTRE, port)],
        poll,
        waker,
        inbox,
        domain: Link::new(domain.clone(), config.serialise_bus),
        media: media.handle(),
        plugins: plugins(shard.clone()),
        note: Box::new(move |facts| notes.try_note(facts)),
        orphans,
        view: shard_view.clone(),
    };
    let shard_thread = shard::start(setup).context("the shard's thread cannot be started")?;
    // The former lives' facts are recovered: from here on the journal begins with what holds now.
    domain.send_waiting(DomainMail::Compact);
    let handle = media.handle();
    Ok((Centre { shard, shard_view, domain, domain_view, media: handle }, media, shard_thread, domain_thread))
}

fn start_redirect(
    config: &Arc<Config>,
    clock: Clock,
    centre: Option<&Centre>,
    draining: &Arc<AtomicBool>,
) -> Result<(Outlet<RedirectMail>, Arc<RedirectView>, JoinHandle<()>)> {
    let port = Port::bind(config.listen.redirect, PortOptions::default())
        .with_context(|| format!("listen.redirect: {} cannot be bound", config.listen.redirect))?;
    tracing::info!(address = %port.local_addr(), receive_buffer = port.receive_buffer(), "redirect role listens");
    let (poll, waker) = shard::poll().context("the redirect role cannot be woken")?;
    let (outlet, inbox) = cordboard_bus::inbox(1_024, waker.clone());
    let view = Arc::new(RedirectView::default());
    let beside = centre.filter(|_| config.redirect.name_self).map(|centre| Beside {
        id: config.node.clone(),
        contact: format!("sip:{}", config.centre_advertised()),
        capacity: config.redirect.capacity,
        view: centre.shard_view.clone(),
        draining: draining.clone(),
        shard: centre.shard.clone(),
    });
    let setup = RedirectSetup {
        model: config.model.clone(),
        nodes: config.redirect.nodes.clone(),
        beside,
        clock,
        port,
        poll,
        waker,
        inbox,
        view: view.clone(),
    };
    let thread = redirect::start(setup).context("the redirect role's thread cannot be started")?;
    Ok((outlet, view, thread))
}

/// Asks the redirect policy for weights, again when they grow old.
async fn weigh(shared: Arc<Shared>) {
    let Some((outlet, view)) = &shared.redirect else { return };
    let policies = Redirects::new(shared.registry.clone());
    let (mut calls_before, mut asked) = (0, Instant::now());
    loop {
        let config = shared.config();
        let mut wait = Duration::from_secs(1);
        if let Some(policy) = &config.redirect.policy {
            let calls_now = shared.centre.as_ref().map_or(0, |c| c.shard_view.calls_total.load(Relaxed));
            let since = asked.elapsed().as_secs_f64().max(0.1);
            let rate = (calls_now.saturating_sub(calls_before) as f64 / since) as u32;
            (calls_before, asked) = (calls_now, Instant::now());
            let live = view.live();
            let nodes: Vec<_> = live
                .iter()
                .map(|beat| cordboard_plugin::Node {
                    id: beat.id.to_string(),
                    capacity: beat.capacity,
                    calls: beat.calls,
                    calls_per_s: if beat.id == config.node { rate } else { 0 },
                    attributes: Vec::new(),
                })
                .collect();
            let classes: Vec<String> = config.model.trunks.iter().map(|t| t.name.to_string()).collect();
            if !nodes.is_empty() {
                match policies.plan(policy, &nodes, &classes).await {
                    Ok(plan) => {
                        wait = Duration::from_millis(u64::from(plan.ttl_ms).clamp(100, 5_000));
                        let weights = plan
                            .classes
                            .into_iter()
                            .map(|(class, weights)| Weights {
                                class: class.as_str().into(),
                                nodes: live.iter().map(|beat| beat.id.clone()).zip(weights).collect(),
                            })
                            .collect();
                        let _ = outlet.send(RedirectMail::Weigh(weights, u64::from(plan.ttl_ms)));
                    }
                    Err(fault) => {
                        tracing::warn!(%policy, %fault, "the redirect policy failed; spare capacity is taken")
                    }
                }
            }
        }
        tokio::time::sleep(wait).await;
    }
}

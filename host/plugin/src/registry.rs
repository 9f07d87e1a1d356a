//! Which plugins are in service: by configured name, with their versions.
//!
//! The server installs here (from the configuration, a watched folder, or the API); the runners ask
//! for the version in service at every question, without a lock. A swap is one pointer: who holds
//! the old version ends on it. Many faults in a short time put a version in quarantine and the
//! last good one back into service.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use cordboard_call::Name;
use cordboard_call::policy::Fault;
use serde::Serialize;

use crate::Digest;
use crate::engine::{Code, Engine};
use crate::guest::{Context, Level, LogLine};
use crate::limits::ms;
use crate::manifest::{BadManifest, Grants, Manifest};
use crate::stats::{Snapshot, Stats};
use crate::vet::Problem;
use crate::world::World;

/// Versions of a plugin that are remembered, the one in service included.
const REMEMBERED: usize = 4;

/// What is to be installed.
#[derive(Debug, Clone)]
pub struct Install<'a> {
    /// The name in the configuration.
    pub name: &'a str,
    /// The world that the configuration needs it for; none: the component's own.
    pub world: Option<World>,
    /// The component.
    pub bytes: &'a [u8],
    /// Its `plugin.toml`, if it came with one.
    pub manifest: Option<Manifest>,
    /// From the configuration.
    pub settings: BTreeMap<String, String>,
    /// What the operator lets it reach.
    pub grant: Grants,
}

/// Why a plugin was not installed. What was in service stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The component has these problems.
    #[error("the component is refused: {}", join(.0))]
    Component(Vec<Problem>),
    /// The manifest, or the settings for it, have a problem.
    #[error(transparent)]
    Manifest(#[from] BadManifest),
    /// No plugin of that name is installed.
    #[error("no plugin `{0}` is installed")]
    NoPlugin(String),
    /// There is no version to go back to.
    #[error("plugin `{0}` has no earlier version to go back to")]
    NoEarlier(String),
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// One line.
    pub about: String,
    /// Anything else.
    pub attributes: Vec<(String, String)>,
}

/// One version of a plugin: its code, its settings, its grants. Never changes.
pub struct Version {
    pub(crate) context: Arc<Context>,
    pub(crate) code: Arc<Code>,
    pub(crate) engine: wasmtime::Engine,
    world: World,
    description: Description,
    generation: u64,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Faults {
    recent: VecDeque<Instant>,
    /// Since when it is in quarantine.
    quarantined: Option<Instant>,
}

impl Version {
    /// The component's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.context.digest
    }

    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Grows with every version that comes into service in this host.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What it may reach.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.context.grants
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.context.plugin, self.context.digest.short())
    }
}

/// One plugin: what is in service, and what was.
pub(crate) struct Plugin {
    pub(crate) name: Name,
    pub(crate) world: World,
    active: ArcSwapOption<Version>,
    stats: Arc<Stats>,
    history: Mutex<Vec<Arc<Version>>>,
}

/// What happened to a plugin, for the log, the metrics and the event feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginEvent {
    /// A version came into service.
    Installed {
        /// Which plugin.
        plugin: Name,
        /// The version.
        digest: Digest,
        /// What it replaced.
        replaced: Option<Digest>,
    },
    /// Too many faults in too short a time.
    Quarantined {
        /// Which plugin.
        plugin: Name,
        /// The version.
        digest: Digest,
        /// The last fault.
        fault: Fault,
        /// What is in service now; none: nothing, and the defaults hold.
        now: Option<Digest>,
    },
    /// The operator went back to an earlier version.
    RolledBack {
        /// Which plugin.
        plugin: Name,
        /// From this version.
        from: Option<Digest>,
        /// To this one.
        to: Digest,
    },
    /// A version rested in quarantine, without an earlier one to take over, and is tried again.
    OnProbation {
        /// Which plugin.
        plugin: Name,
        /// The version.
        digest: Digest,
    },
    /// It is out of service.
    Removed {
        /// Which plugin.
        plugin: Name,
    },
}

/// One line of `cordboard plugin list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The name in the configuration.
    pub name: Name,
    /// Its world.
    pub world: World,
    /// The version in service.
    pub active: Option<Digest>,
    /// What that says of itself.
    pub description: Option<Description>,
    /// What it may reach by HTTP.
    pub http: Vec<String>,
    /// Earlier versions, the newest first, and whether each is in quarantine.
    pub earlier: Vec<(Digest, bool)>,
    /// Whether the version in service is in quarantine.
    pub quarantined: bool,
    /// Its counters.
    pub stats: Snapshot,
}

type Events = dyn Fn(PluginEvent) + Send + Sync;

/// The plugins of a host. A clone is another handle of the same.
#[derive(Clone)]
pub struct Registry(Arc<Shelf>);

struct Shelf {
    engine: Engine,
    plugins: ArcSwap<BTreeMap<Name, Arc<Plugin>>>,
    /// Held by an installation from beginning to end, so that the last one asked for is the one in
    /// service. Taken before `changing`, and by nobody whom a call waits for.
    installing: Mutex<()>,
    /// Held while something is changed: for microseconds, since a domain's thread takes it when its
    /// policy goes into quarantine. Nothing is compiled or asked under it.
    changing: Mutex<()>,
    /// When the log last had a line about a full host, in milliseconds since `born`; 0: never.
    told_full_ms: AtomicU64,
    born: Instant,
    generations: AtomicU64,
    events: Box<Events>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.plugins.load().keys()).finish()
    }
}

impl Registry {
    /// An empty registry. `events` is called on whichever thread something happened: it must not
    /// block and must not call the registry's changing functions.
    pub fn new(engine: Engine, events: impl Fn(PluginEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shelf {
            engine,
            plugins: ArcSwap::default(),
            installing: Mutex::new(()),
            changing: Mutex::new(()),
            told_full_ms: AtomicU64::new(0),
            born: Instant::now(),
            generations: AtomicU64::new(0),
            events: Box::new(events),
        }))
    }

    /// The engine that they run on.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Checks a component and puts it into service: new calls take it, running ones end on theirs.
    ///
    /// Blocks for the time of compiling (65 ms to seconds, on a thread of low priority), so it must
    /// not be called where a call waits. The same component with the same settings, when already
    /// in service, is no change.
    ///
    /// # Errors
    /// Everything that is wrong; what was in service stays.
    pub fn install(&self, install: &Install<'_>) -> Result<Arc<Version>, Refused> {
        let inner = &self.0.engine.0;
        let declared = install.manifest.as_ref().map(Manifest::world).transpose()?;
        let wanted = install.world.or(declared);
        let vetted = inner.vetter.check(install.bytes, wanted).map_err(Refused::Component)?;
        if declared.is_some_and(|declared| declared != vetted.world) {
            let world = vetted.world;
            return Err(BadManifest(format!(
                "plugin.toml says it is another world than the component is, {world}"
            ))
            .into());
        }
        let manifest = install.manifest.clone().unwrap_or_else(|| Manifest::bare(install.name, vetted.world));
        let settings = manifest.settings(&install.settings)?;
        // A component without a manifest asks for nothing in particular: the operator's grant stands.
        let request = if install.manifest.is_some() { &manifest.grants } else { &install.grant };
        let grants = Grants::cut_down(request, &install.grant, &settings);

        let _installing = self.0.installing.lock().unwrap_or_else(PoisonError::into_inner);
        let name: Name = install.name.into();
        let (world, digest) = (vetted.world, vetted.digest);
        if let Some(active) = self.plugin(&name).filter(|held| held.world == world).and_then(|p| p.active())
            && active.digest() == digest
            && active.context.settings == settings
            && active.context.grants == grants
            && active.faults().quarantined.is_none()
        {
            return Ok(active);
        }
        let failed = |text: String| Refused::Component(vec![Problem::Failed(text)]);
        let (tier, heavy) = inner.tier(&vetted.needs).map_err(failed)?;
        let stats = self
            .plugin(&name)
            .filter(|held| held.world == world)
            .map_or_else(Arc::default, |held| held.stats.clone());
        let context = Arc::new(Context {
            plugin: name.clone(),
            digest,
            settings,
            grants,
            limits: inner.limits.clone(),
            stats: stats.clone(),
            logs: inner.logs.clone(),
            heavy,
        });
        let (code, description) = at_low_priority(|| {
            let code = inner.ready(tier, world, digest, install.bytes)?;
            let description = crate::describe::ask(&self.0.engine, &tier.engine, &context, &code)?;
            Ok((Arc::new(code), description))
        })
        .map_err(failed)?;
        // Only now, since what waits for this lock may be the thread that a call waits for. Meanwhile
        // the plugin may have been removed, rolled back or put in quarantine.
        let _changing = self.0.changing();
        let version = Arc::new(Version {
            context,
            code,
            engine: tier.engine.clone(),
            world,
            description,
            generation: self.0.generations.fetch_add(1, Relaxed) + 1,
            faults: Mutex::default(),
        });
        let held = self.plugin(&name).filter(|held| held.world == world);
        let replaced = match held {
            Some(plugin) => plugin.put(version.clone()),
            None => {
                let plugin = Plugin {
                    name: name.clone(),
                    world,
                    active: ArcSwapOption::empty(),
                    stats,
                    history: Mutex::default(),
                };
                plugin.put(version.clone());
                let mut other_world = None;
                self.0.shelve(|plugins| other_world = plugins.insert(name.clone(), Arc::new(plugin)));
                if let Some(other_world) = other_world {
                    other_world.active.store(None);
                }
                None
            }
        };
        (self.0.events)(PluginEvent::Installed { plugin: name, digest, replaced });
        Ok(version)
    }

    /// Goes back to the newest earlier version that is not in quarantine.
    ///
    /// # Errors
    /// There is no such plugin, or no such version.
    pub fn roll_back(&self, name: &str) -> Result<Arc<Version>, Refused> {
        let _changing = self.0.changing();
        let plugin = self.plugin(name).ok_or_else(|| Refused::NoPlugin(name.into()))?;
        let from = plugin.active.load_full();
        let to = plugin.earlier_good(from.as_deref()).ok_or_else(|| Refused::NoEarlier(name.into()))?;
        let to = self.0.renew(&to);
        plugin.put(to.clone());
        let from = from.map(|version| version.digest());
        (self.0.events)(PluginEvent::RolledBack { plugin: plugin.name.clone(), from, to: to.digest() });
        Ok(to)
    }

    /// Takes a plugin out of service. What runs on it ends on it.
    pub fn remove(&self, name: &str) -> bool {
        let _changing = self.0.changing();
        let mut removed = None;
        self.0.shelve(|plugins| removed = plugins.remove(name));
        if let Some(removed) = &removed {
            // Whoever holds the plugin sees that nothing is in service.
            removed.active.store(None);
            (self.0.events)(PluginEvent::Removed { plugin: name.into() });
        }
        removed.is_some()
    }

    /// All plugins, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.0.plugins.load().values().map(|plugin| plugin.listed()).collect()
    }

    /// The version in service.
    #[must_use]
    pub fn active(&self, name: &str) -> Option<Arc<Version>> {
        self.plugin(name)?.active.load_full()
    }

    /// The counters of a plugin.
    #[must_use]
    pub fn stats(&self, name: &str) -> Option<Snapshot> {
        Some(self.plugin(name)?.stats.snapshot())
    }

    pub(crate) fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        self.0.plugins.load().get(name).cloned()
    }

    /// The version to ask, if it is of this world and not resting in quarantine.
    pub(crate) fn serving(&self, name: &str, world: World) -> Option<Arc<Version>> {
        let version = self.active(name).filter(|version| version.world == world)?;
        let mut faults = version.faults();
        if let Some(since) = faults.quarantined {
            if since.elapsed() < ms(version.context.limits.quarantine_rest_ms) {
                return None;
            }
            faults.quarantined = None;
            faults.recent.clear();
            drop(faults);
            let plugin = version.context.plugin.clone();
            (self.0.events)(PluginEvent::OnProbation { plugin, digest: version.digest() });
        } else {
            drop(faults);
        }
        Some(version)
    }

    /// Notes that a version has failed, and puts it in quarantine when it does too often.
    pub(crate) fn fault(&self, version: &Version, fault: &Fault) {
        version.context.stats.count(fault);
        match fault {
            Fault::Missing | Fault::Error(_) => return,
            Fault::Full(_) => return self.0.tell_full(version, fault),
            _ => {}
        }
        let limits = &version.context.limits;
        let now = Instant::now();
        {
            let mut faults = version.faults();
            if faults.quarantined.is_some() {
                return;
            }
            let window = ms(limits.quarantine_window_ms);
            while faults.recent.front().is_some_and(|at| now.duration_since(*at) > window) {
                faults.recent.pop_front();
            }
            faults.recent.push_back(now);
            if faults.recent.len() < limits.quarantine_faults.max(1) as usize {
                return;
            }
            faults.recent.clear();
            faults.quarantined = Some(now);
        }
        self.quarantine(version, fault);
    }

    fn quarantine(&self, version: &Version, fault: &Fault) {
        let _changing = self.0.changing();
        let Some(plugin) = self.plugin(&version.context.plugin) else { return };
        // A version that has been replaced meanwhile is only marked.
        let active = plugin.active.load_full();
        let mut now = active.as_ref().map(|active| active.digest());
        if active.is_some_and(|active| std::ptr::eq(&raw const *active, version)) {
            now = plugin.earlier_good(Some(version)).map(|earlier| {
                let earlier = self.0.renew(&earlier);
                plugin.put(earlier.clone());
                earlier.digest()
            });
        }
        (self.0.events)(PluginEvent::Quarantined {
            plugin: plugin.name.clone(),
            digest: version.digest(),
            fault: fault.clone(),
            now,
        });
    }
}

impl Shelf {
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs that there is no room, at most once a second: there may be as many of it as calls.
    fn tell_full(&self, version: &Version, fault: &Fault) {
        let now_ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let told_ms = self.told_full_ms.load(Relaxed);
        let due = told_ms == 0 || now_ms.saturating_sub(told_ms) >= 1_000;
        if due && self.told_full_ms.compare_exchange(told_ms, now_ms, Relaxed, Relaxed).is_ok() {
            let context = &version.context;
            context.logs.line(LogLine {
                plugin: context.plugin.clone(),
                digest: context.digest,
                interaction: None,
                level: Level::Error,
                text: format!("{fault} ({} times so far)", context.stats.snapshot().no_room),
            });
        }
    }

    fn shelve(&self, change: impl FnOnce(&mut BTreeMap<Name, Arc<Plugin>>)) {
        let mut plugins = BTreeMap::clone(&self.plugins.load());
        change(&mut plugins);
        self.plugins.store(Arc::new(plugins));
    }

    /// The same version under a new generation, with a clean record.
    fn renew(&self, version: &Version) -> Arc<Version> {
        Arc::new(Version {
            context: version.context.clone(),
            code: version.code.clone(),
            engine: version.engine.clone(),
            world: version.world,
            description: version.description.clone(),
            generation: self.generations.fetch_add(1, Relaxed) + 1,
            faults: Mutex::default(),
        })
    }
}

impl Plugin {
    /// The generation in service, 0 for none. Cheap: a policy asks at every question.
    pub(crate) fn generation(&self) -> u64 {
        self.active.load().as_ref().map_or(0, |version| version.generation)
    }

    fn active(&self) -> Option<Arc<Version>> {
        self.active.load_full()
    }

    fn history(&self) -> MutexGuard<'_, Vec<Arc<Version>>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a version into service; says what it replaced.
    fn put(&self, version: Arc<Version>) -> Option<Digest> {
        let mut history = self.history();
        history.push(version.clone());
        if history.len() > REMEMBERED {
            history.remove(0);
        }
        self.active.swap(Some(version)).map(|replaced| replaced.digest())
    }

    /// The newest version before this one that is another one and not in quarantine.
    fn earlier_good(&self, than: Option<&Version>) -> Option<Arc<Version>> {
        let history = self.history();
        let candidates = history.iter().rev().filter(|held| {
            than.is_none_or(|than| {
                held.digest() != than.digest() || held.context.settings != than.context.settings
            })
        });
        candidates.into_iter().find(|held| held.faults().quarantined.is_none()).cloned()
    }

    fn listed(&self) -> Listed {
        let active = self.active.load_full();
        let earlier = self
            .history()
            .iter()
            .rev()
            .filter(|held| !active.as_ref().is_some_and(|active| Arc::ptr_eq(active, held)))
            .map(|held| (held.digest(), held.faults().quarantined.is_some()))
            .collect();
        Listed {
            name: self.name.clone(),
            world: self.world,
            description: active.as_ref().map(|version| version.description.clone()),
            http: active.as_ref().map_or_else(Vec::new, |version| version.context.grants.http.clone()),
            quarantined: active.as_ref().is_some_and(|version| version.faults().quarantined.is_some()),
            active: active.map(|version| version.digest()),
            earlier,
            stats: self.stats.snapshot(),
        }
    }
}

/// Runs something long on a thread that gives way to everything else, and waits for it.
fn at_low_priority<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("plugin-compile".into()).spawn_scoped(scope, || {
            // SAFETY: setpriority takes plain numbers; on Linux 0 names the calling thread.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
            work()
        });
        match thread {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|_| Err("compiling it broke the compiler: please report it".into())),
            Err(e) => Err(format!("no thread to compile on: {e}")),
        }
    })
}

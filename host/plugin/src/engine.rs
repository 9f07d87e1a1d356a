//! The engines that run guests: wasmtime's configuration, the pool of places, the runtime of the
//! scripts, and what both were sized from.
//!
//! Made once at start by the server. There are two engines: the light one for components of Rust, C
//! and Zig, made at start, and the heavy one for Go, JavaScript and Python, made when the first
//! such component comes. Every setting here was measured (host/docs, the design's wasm page). The
//! engine knows no plugin: [`crate::registry`] does.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::runtime::Runtime;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::cache::Cache;
use crate::guest::Logs;
use crate::limits::Limits;
use crate::sizing::{Machine, Sizing};
use crate::ticker::Ticker;
use crate::vet::{HEAVY, LIGHT, Needs, Vetter};
use crate::world::World;
use crate::worlds::{cti, ivr, policy, redirect, router};
use crate::{Digest, wasi};

/// How an engine is made.
#[derive(Clone)]
pub struct EngineConfig {
    /// The limits that plugins live under.
    pub limits: Limits,
    /// Places for instances that are wanted; the machine may allow fewer.
    pub instances: u32,
    /// Places for instances of heavy languages.
    pub heavy_instances: u32,
    /// Threads that run scripts, routers and adapters.
    pub workers: usize,
    /// Where compiled code is kept between starts; none: nowhere. Nobody else may write there.
    pub cache: Option<PathBuf>,
    /// Where guests' log lines go.
    pub logs: Arc<dyn Logs>,
}

impl EngineConfig {
    /// The defaults: 9,000 places, 200 heavy ones, a worker a core and two at least: what the host
    /// does for one guest does not give way to others.
    #[must_use]
    pub fn new(logs: Arc<dyn Logs>) -> Self {
        let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2);
        Self { limits: Limits::default(), instances: 9_000, heavy_instances: 200, workers, cache: None, logs }
    }
}

impl fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineConfig")
            .field("instances", &self.instances)
            .field("heavy_instances", &self.heavy_instances)
            .field("workers", &self.workers)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The machine does not give what is asked for.
    #[error("the plugin engine cannot be made: {0}; fewer `instances` in the configuration may help")]
    Pool(String),
    /// A thread could not be started.
    #[error("a thread of the plugin engine cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The contract in this binary is broken.
    #[error("the contract in this binary does not parse: {0}")]
    Contract(String),
}

/// The engines. A clone is another handle of the same.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    light: Tier,
    heavy: OnceLock<Result<Tier, String>>,
    heavy_instances: u32,
    sizing: Sizing,
    machine: Machine,
    pub(crate) vetter: Vetter,
    pub(crate) cache: Cache,
    pub(crate) limits: Arc<Limits>,
    pub(crate) logs: Arc<dyn Logs>,
    pub(crate) ticker: Arc<Ticker>,
    runtime: Option<Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Scripts that still run are dropped with it; the last handle may be dropped on one of the
        // runtime's own threads, which must not wait for itself.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.0.sizing).finish()
    }
}

/// An engine with the linkers of the five worlds.
pub(crate) struct Tier {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) router: Linker<router::Data>,
    pub(crate) ivr: Linker<ivr::Data>,
    pub(crate) policy: Linker<policy::Data>,
    pub(crate) redirect: Linker<redirect::Data>,
    pub(crate) cti: Linker<cti::Data>,
}

/// Code that is ready to be instantiated.
pub(crate) enum Code {
    Router(router::CallRouterPre<router::Data>),
    Script(ivr::IvrScriptPre<ivr::Data>),
    Policy(policy::QueuePolicyPre<policy::Data>),
    Redirect(redirect::RedirectPolicyPre<redirect::Data>),
    Cti(cti::CtiAdapterPre<cti::Data>),
}

impl Engine {
    /// Sizes and makes the light engine, and starts its threads.
    ///
    /// # Errors
    /// The machine does not give what is asked for; the text says what to change.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let machine = Machine::look();
        let sizing = Sizing::of(&machine, config.instances);
        let ticker = Arc::new(Ticker::start()?);
        let light = Tier::new(&LIGHT, sizing.instances, sizing.pagemap_scan, &config.limits)
            .map_err(|e| EngineError::Pool(format!("{e:#}")))?;
        ticker.add(light.engine.weak());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.workers.max(1))
            .thread_name("plugin")
            // After so many tasks the runtime looks at timers and messages: with the usual 61,
            // looping guests would hold them up for hundreds of milliseconds.
            .event_interval(8)
            .enable_time()
            .build()?;
        let vetter = Vetter::new(&config.limits).map_err(EngineError::Contract)?;
        Ok(Self(Arc::new(Inner {
            light,
            heavy: OnceLock::new(),
            heavy_instances: config.heavy_instances,
            sizing,
            machine,
            vetter,
            cache: Cache::new(config.cache),
            limits: Arc::new(config.limits),
            logs: config.logs,
            ticker,
            runtime: Some(runtime),
        })))
    }

    /// What the pool was sized from: a line for the log at start.
    #[must_use]
    pub fn sizing(&self) -> &Sizing {
        &self.0.sizing
    }

    /// The examiner of components.
    #[must_use]
    pub fn vetter(&self) -> &Vetter {
        &self.0.vetter
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The runtime that guests run on, for the server's own work beside them (a synthesiser's task).
    #[must_use]
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.0.runtime().handle()
    }
}

impl Inner {
    pub(crate) fn runtime(&self) -> &Runtime {
        match &self.runtime {
            Some(runtime) => runtime,
            // It is taken in `drop` alone.
            None => unreachable!("the engine is gone"),
        }
    }

    /// The engine that a component with such needs runs on.
    pub(crate) fn tier(&self, needs: &Needs) -> Result<(&Tier, bool), String> {
        if needs.fits(&LIGHT) {
            return Ok((&self.light, false));
        }
        if !needs.fits(&HEAVY) {
            return Err(format!(
                "an instance of it would take {} core instances, {} memories and a table of {} elements; the limits are {}, {} and {}",
                needs.core_instances,
                needs.memories,
                needs.table_elements,
                HEAVY.core_instances,
                HEAVY.memories,
                HEAVY.table_elements
            ));
        }
        let heavy = self.heavy.get_or_init(|| {
            let instances = Sizing::heavy(&self.machine, &self.sizing, self.heavy_instances);
            let tier = Tier::new(&HEAVY, instances, self.sizing.pagemap_scan, &self.limits)
                .map_err(|e| format!("{e:#}"))?;
            self.ticker.add(tier.engine.weak());
            Ok(tier)
        });
        heavy
            .as_ref()
            .map(|tier| (tier, true))
            .map_err(|e| format!("the engine for heavy languages cannot be made: {e}"))
    }

    /// Compiles, or takes from the cache, and links.
    pub(crate) fn ready(
        &self,
        tier: &Tier,
        world: World,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<Code, String> {
        let component = self.cache.component(&tier.engine, digest, bytes)?;
        tier.link(world, &component).map_err(|e| format!("it does not fit {world}: {e:#}"))
    }
}

impl Tier {
    fn new(most: &Needs, instances: u32, pagemap_scan: bool, limits: &Limits) -> wasmtime::Result<Self> {
        let heavy = most.core_instances > LIGHT.core_instances;
        let memory_bytes = if heavy { limits.heavy_memory_bytes } else { limits.memory_bytes };
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_core_instances(instances.saturating_mul(if heavy { most.core_instances } else { 4 }))
            .total_memories(instances.saturating_mul(most.memories))
            .total_tables(instances.saturating_mul(if heavy { 4 } else { 2 }))
            .total_stacks(instances)
            .max_core_instances_per_component(most.core_instances)
            .max_memories_per_component(most.memories)
            .max_tables_per_component(most.tables)
            .max_memory_size(memory_bytes)
            .table_elements(most.table_elements as usize)
            .linear_memory_keep_resident(128 << 10)
            .table_keep_resident(64 << 10)
            .async_stack_keep_resident(64 << 10)
            .pagemap_scan(if pagemap_scan { Enabled::Yes } else { Enabled::No });
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .concurrency_support(false)
            .epoch_interruption(true)
            .gc_support(false)
            .memory_may_move(false)
            // 4 GiB make bounds checks unnecessary; the heavy engine would run out of addresses.
            .memory_reservation(if heavy { 256 << 20 } else { 4 << 30 })
            .memory_guard_size(32 << 20)
            .max_wasm_stack(256 << 10)
            .async_stack_size(512 << 10)
            // Compiling runs on one thread of low priority.
            .parallel_compilation(false)
            .wasm_backtrace_max_frames(NonZeroUsize::new(8));
        let engine = wasmtime::Engine::new(&config)?;
        let mut tier = Self {
            router: Linker::new(&engine),
            ivr: Linker::new(&engine),
            policy: Linker::new(&engine),
            redirect: Linker::new(&engine),
            cti: Linker::new(&engine),
            engine,
        };
        wasi::link_async(&mut tier.router)?;
        wasi::link_async(&mut tier.ivr)?;
        wasi::link_sync(&mut tier.policy)?;
        wasi::link_async(&mut tier.redirect)?;
        wasi::link_async(&mut tier.cti)?;
        router::CallRouter::add_to_linker::<_, HasSelf<_>>(&mut tier.router, |guest| guest)?;
        ivr::IvrScript::add_to_linker::<_, HasSelf<_>>(&mut tier.ivr, |guest| guest)?;
        policy::QueuePolicy::add_to_linker::<_, HasSelf<_>>(&mut tier.policy, |guest| guest)?;
        redirect::RedirectPolicy::add_to_linker::<_, HasSelf<_>>(&mut tier.redirect, |guest| guest)?;
        cti::CtiAdapter::add_to_linker::<_, HasSelf<_>>(&mut tier.cti, |guest| guest)?;
        Ok(tier)
    }

    fn link(&self, world: World, component: &Component) -> wasmtime::Result<Code> {
        Ok(match world {
            World::CallRouter => {
                Code::Router(router::CallRouterPre::new(self.router.instantiate_pre(component)?)?)
            }
            World::IvrScript => Code::Script(ivr::IvrScriptPre::new(self.ivr.instantiate_pre(component)?)?),
            World::QueuePolicy => {
                Code::Policy(policy::QueuePolicyPre::new(self.policy.instantiate_pre(component)?)?)
            }
            World::RedirectPolicy => {
                Code::Redirect(redirect::RedirectPolicyPre::new(self.redirect.instantiate_pre(component)?)?)
            }
            World::CtiAdapter => Code::Cti(cti::CtiAdapterPre::new(self.cti.instantiate_pre(component)?)?),
        })
    }
}

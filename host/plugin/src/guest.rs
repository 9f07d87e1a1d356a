//! What every instance of a plugin has, whatever its world: its limits, its log, its settings and
//! its WASI.
//!
//! A store's data is a [`Guest`] around the world's own state. It is made for one instance and
//! dropped with it; nothing passes from one instance to the next.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use cordboard_base::Id;
use cordboard_call::Name;
use cordboard_call::policy::Fault;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, Trap, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::limits::Limits;
use crate::manifest::Grants;
use crate::meter::Meter;
use crate::stats::Stats;
use crate::{Digest, wasi};

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// Worth a line in the trace.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed. What a guest writes to standard error (a panic's text) is here too.
    Error,
}

/// A line that a guest has logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Which plugin.
    pub plugin: Name,
    /// Which version.
    pub digest: Digest,
    /// On which call, if on one.
    pub interaction: Option<Id>,
    /// How loud.
    pub level: Level,
    /// At most [`Limits::log_line_bytes`].
    pub text: String,
}

/// Where guests' lines go. Called on the guest's thread: it must not block.
pub trait Logs: Send + Sync + 'static {
    /// Takes a line.
    fn line(&self, line: LogLine);
}

impl<F: Fn(LogLine) + Send + Sync + 'static> Logs for F {
    fn line(&self, line: LogLine) {
        self(line);
    }
}

/// What all instances of one version share.
pub(crate) struct Context {
    pub(crate) plugin: Name,
    pub(crate) digest: Digest,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) grants: Grants,
    pub(crate) limits: Arc<Limits>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) logs: Arc<dyn Logs>,
    pub(crate) heavy: bool,
}

impl Context {
    pub(crate) fn memory_limit(&self) -> usize {
        if self.heavy { self.limits.heavy_memory_bytes } else { self.limits.memory_bytes }
    }
}

/// The data of a store.
pub(crate) struct Guest<W> {
    pub(crate) context: Arc<Context>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) log: Log,
    pub(crate) limiter: Limiter,
    pub(crate) world: W,
    calls: CallRate,
    wasi: Option<Box<Wasi>>,
    /// The time and the seed that a guest sees which must be replayable; none: the real ones.
    pub(crate) question: Option<Arc<wasi::Question>>,
}

struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
}

impl<W> Guest<W> {
    pub(crate) fn new(context: Arc<Context>, meter: Arc<Meter>, interaction: Option<Id>, world: W) -> Self {
        let log = Log(Arc::new(std::sync::Mutex::new(LogState {
            context: context.clone(),
            interaction,
            lines_left: context.limits.log_lines,
        })));
        let limiter =
            Limiter { memory_bytes: 0, limit_bytes: context.memory_limit(), denied: false, peak_bytes: 0 };
        Self { context, meter, log, limiter, world, calls: CallRate::default(), wasi: None, question: None }
    }

    /// To be called by every import: counts it against the limit of host calls.
    pub(crate) fn host_call(&mut self) -> wasmtime::Result<()> {
        self.calls.count(self.context.limits.host_calls_per_s)
    }

    pub(crate) fn setting(&self, key: &str) -> Option<String> {
        self.context.settings.get(key).cloned()
    }
}

impl<W: Send> WasiView for Guest<W> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // Most guests in Rust never touch WASI, so it is made at the first touch.
        let wasi = self.wasi.get_or_insert_with(|| {
            let ctx = wasi::context(&self.log, self.question.clone());
            let mut table = ResourceTable::new();
            table.set_max_capacity(256);
            Box::new(Wasi { ctx, table })
        });
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}

/// The log of one instance, shared with its standard error.
#[derive(Clone)]
pub(crate) struct Log(Arc<std::sync::Mutex<LogState>>);

struct LogState {
    context: Arc<Context>,
    interaction: Option<Id>,
    lines_left: u32,
}

impl Log {
    pub(crate) fn line(&self, level: Level, text: &str) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let stats = &state.context.stats;
        if state.lines_left == 0 {
            stats.log_lines_dropped.fetch_add(1, Relaxed);
            return;
        }
        stats.log_lines.fetch_add(1, Relaxed);
        state.lines_left -= 1;
        let mut text: String = clip(text, state.context.limits.log_line_bytes).to_owned();
        if state.lines_left == 0 {
            text.push_str(" [the last line: the log of this instance is full]");
        }
        state.context.logs.line(LogLine {
            plugin: state.context.plugin.clone(),
            digest: state.context.digest,
            interaction: state.interaction,
            level,
            text,
        });
    }

    /// A long-living instance (a policy) gets its lines anew with each question.
    pub(crate) fn refill(&self) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.lines_left = state.context.limits.log_lines;
    }
}

/// The longest prefix of at most `max` bytes that ends at a character.
pub(crate) fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Host calls within the current second.
#[derive(Default)]
struct CallRate {
    count: u32,
    since_ns: u64,
}

impl CallRate {
    fn count(&mut self, limit: u32) -> wasmtime::Result<()> {
        self.count += 1;
        if self.count <= limit {
            return Ok(());
        }
        // Only now is the clock worth reading.
        let now_ns = crate::meter::clock_ns(libc::CLOCK_MONOTONIC);
        if now_ns.saturating_sub(self.since_ns) < 1_000_000_000 {
            return Err(Broken::HostCalls(limit).into());
        }
        self.since_ns = now_ns;
        self.count = 1;
        Ok(())
    }
}

/// Memory and tables of one instance.
pub(crate) struct Limiter {
    memory_bytes: usize,
    limit_bytes: usize,
    /// The guest was refused memory: if it dies now, that is why.
    pub(crate) denied: bool,
    pub(crate) peak_bytes: usize,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.limit_bytes || maximum.is_some_and(|maximum| desired > maximum) {
            self.denied = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        self.peak_bytes = self.peak_bytes.max(total);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.denied = true;
        Ok(())
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 20_000)
    }

    fn instances(&self) -> usize {
        100
    }

    fn tables(&self) -> usize {
        100
    }

    fn memories(&self) -> usize {
        16
    }
}

/// A limit that ends a guest, as the error that unwinds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("it made more than {0} calls into the host within a second")]
    HostCalls(u32),
    #[error("it used up its CPU")]
    Cpu,
}

/// A store for one instance, with its limits set.
pub(crate) fn store<W: Send + 'static>(engine: &wasmtime::Engine, guest: Guest<W>) -> Store<Guest<W>> {
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.limiter);
    store
}

/// Makes a guest that runs on a fibre give way after each slice, and end when its CPU is used up.
pub(crate) fn give_way<W: Send + 'static>(store: &mut Store<Guest<W>>) {
    let slice_ms = store.data().context.limits.slice_ms.clamp(1, 100);
    let slice_ns = slice_ms * 1_000_000;
    store.set_epoch_deadline(slice_ms);
    store.epoch_deadline_callback(move |guest| {
        let meter = &guest.data().meter;
        let lasted_ns = meter.slice_ns();
        if meter.exhausted(lasted_ns) {
            return Err(Broken::Cpu.into());
        }
        // The deadline of a script that has just been woken is long past: it has used nothing yet.
        if lasted_ns < slice_ns {
            Ok(UpdateDeadline::Continue(slice_ms))
        } else {
            Ok(UpdateDeadline::Yield(slice_ms))
        }
    });
}

/// Names what ended a guest.
pub(crate) fn fault<W>(error: &wasmtime::Error, store: &Store<Guest<W>>) -> Fault {
    let denied = store.data().limiter.denied;
    if let Some(broken) = error.downcast_ref::<Broken>() {
        return match broken {
            Broken::Cpu => Fault::Timeout,
            Broken::HostCalls(_) => Fault::Trap(broken.to_string()),
        };
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Fault::Full(
            "every place for an instance is taken: raise the pool or vm.max_map_count".into(),
        );
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Fault::Timeout,
        // An allocator that was refused memory ends in `unreachable`.
        Some(_) if denied => Fault::Memory,
        Some(trap) => Fault::Trap(describe(error, *trap)),
        None if denied => Fault::Memory,
        None => Fault::Trap(format!("{error:#}")),
    }
}

/// The trap and the innermost functions with names.
fn describe(error: &wasmtime::Error, trap: Trap) -> String {
    let mut text = trap.to_string();
    if let Some(backtrace) = error.downcast_ref::<wasmtime::WasmBacktrace>() {
        let names: Vec<&str> = backtrace.frames().iter().filter_map(|f| f.func_name()).take(4).collect();
        if !names.is_empty() {
            text = format!("{text} (in {})", names.join(", called by "));
        }
    }
    text
}

/// Books what an instance has used, when it is done.
pub(crate) fn settle<W>(store: &Store<Guest<W>>) {
    let guest = store.data();
    let stats = &guest.context.stats;
    stats.cpu_ns.fetch_add(guest.meter.book_ns(), Relaxed);
    stats.memory_peak_bytes.fetch_max(guest.limiter.peak_bytes as u64, Relaxed);
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.plugin, self.digest)
    }
}

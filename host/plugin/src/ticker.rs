//! The clock of fairness: it moves the engines' epoch on while guests run.
//!
//! A guest looks at the epoch at every loop and call, so a tick is what ends an endless loop. The
//! thread ticks every millisecond while a guest is inside WebAssembly, looks every 25
//! milliseconds when none was at the last look, and sleeps when there was none for a while: an
//! idle host costs nothing. Whoever runs a guest holds an [`Inside`].

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use wasmtime::EngineWeak;

const TICK: Duration = Duration::from_millis(1);
const LOOK: Duration = Duration::from_millis(25);
/// Looks without a guest before the thread sleeps.
const LOOKS_BEFORE_SLEEP: u32 = 8;

/// The ticking thread. Dropping it ends the thread.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    handle: Thread,
}

struct Shared {
    inside: AtomicU32,
    asleep: AtomicBool,
    stop: AtomicBool,
    engines: Mutex<Vec<EngineWeak>>,
}

/// While it lives, its thread may be inside a guest.
pub(crate) struct Inside<'a>(&'a AtomicU32);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Ticker {
    pub(crate) fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            inside: AtomicU32::new(0),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            engines: Mutex::new(Vec::new()),
        });
        let thread = std::thread::Builder::new().name("plugin-epoch".into()).spawn({
            let shared = shared.clone();
            move || run(&shared)
        })?;
        let handle = thread.thread().clone();
        Ok(Self { shared, thread: Some(thread), handle })
    }

    pub(crate) fn add(&self, engine: EngineWeak) {
        lock(&self.shared.engines).push(engine);
    }

    /// To be held while a guest runs.
    pub(crate) fn enter(&self) -> Inside<'_> {
        // Sequentially consistent with the sleeper's store of `asleep` and load of `inside`: one
        // of the two sees the other, so a guest never runs without ticks.
        self.shared.inside.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.handle.unpark();
        }
        Inside(&self.shared.inside)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.handle.unpark();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    let mut idle = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.inside.load(Ordering::SeqCst) > 0 {
            idle = 0;
            std::thread::sleep(TICK);
            for engine in lock(&shared.engines).iter().filter_map(EngineWeak::upgrade) {
                engine.increment_epoch();
            }
        } else if idle < LOOKS_BEFORE_SLEEP {
            idle += 1;
            std::thread::sleep(LOOK);
        } else {
            shared.asleep.store(true, Ordering::SeqCst);
            if shared.inside.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

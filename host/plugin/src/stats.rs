//! What is counted about a plugin, over all its versions.
//!
//! Written by the runners with relaxed atomics, read by metrics and by `cordboard plugin list`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cordboard_call::policy::Fault;
use serde::Serialize;

/// Counters of one plugin.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) questions: AtomicU64,
    pub(crate) running: AtomicU64,
    pub(crate) traps: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) memory: AtomicU64,
    pub(crate) nonsense: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) no_room: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    pub(crate) cpu_ns: AtomicU64,
    pub(crate) memory_peak_bytes: AtomicU64,
    pub(crate) log_lines: AtomicU64,
    pub(crate) log_lines_dropped: AtomicU64,
    pub(crate) http_requests: AtomicU64,
    pub(crate) denied: AtomicU64,
}

/// A reading of [`Stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Questions asked, scripts started, batches handed over.
    pub questions: u64,
    /// Instances at work now.
    pub running: u64,
    /// Faults of the kind `Trap`.
    pub traps: u64,
    /// Faults of the kind `Timeout`, time or CPU.
    pub timeouts: u64,
    /// Faults of the kind `Memory`.
    pub memory: u64,
    /// Faults of the kind `Nonsense`.
    pub nonsense: u64,
    /// Answers that were an error for the operator.
    pub errors: u64,
    /// Questions and scripts that the host had no room to run.
    pub no_room: u64,
    /// Scripts dropped at the end of their grace time.
    pub abandoned: u64,
    /// CPU of all instances in nanoseconds.
    pub cpu_ns: u64,
    /// The largest linear memory of one instance in bytes.
    pub memory_peak_bytes: u64,
    /// Lines that guests have logged.
    pub log_lines: u64,
    /// Lines beyond the limit.
    pub log_lines_dropped: u64,
    /// Outgoing HTTP requests.
    pub http_requests: u64,
    /// What no grant covered.
    pub denied: u64,
}

impl Stats {
    /// Reads all counters; each is exact, together they are not of one instant.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            questions: self.questions.load(Relaxed),
            running: self.running.load(Relaxed),
            traps: self.traps.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            memory: self.memory.load(Relaxed),
            nonsense: self.nonsense.load(Relaxed),
            errors: self.errors.load(Relaxed),
            no_room: self.no_room.load(Relaxed),
            abandoned: self.abandoned.load(Relaxed),
            cpu_ns: self.cpu_ns.load(Relaxed),
            memory_peak_bytes: self.memory_peak_bytes.load(Relaxed),
            log_lines: self.log_lines.load(Relaxed),
            log_lines_dropped: self.log_lines_dropped.load(Relaxed),
            http_requests: self.http_requests.load(Relaxed),
            denied: self.denied.load(Relaxed),
        }
    }

    pub(crate) fn count(&self, fault: &Fault) {
        let counter = match fault {
            Fault::Trap(_) => &self.traps,
            Fault::Timeout => &self.timeouts,
            Fault::Memory => &self.memory,
            Fault::Nonsense(_) => &self.nonsense,
            Fault::Error(_) => &self.errors,
            Fault::Full(_) => &self.no_room,
            Fault::Missing => return,
        };
        counter.fetch_add(1, Relaxed);
    }
}

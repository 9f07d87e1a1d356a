//! Every limit that a plugin lives under, by name, with its default.
//!
//! Read by all of this crate; filled in by the server from the configuration. What happens at each
//! limit is said in its line, and [`crate::stats::Stats`] counts it.

use std::time::Duration;

/// The limits of a host. A tenant's override is another value of the same type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance in bytes. More: `memory.grow` fails, and if the guest dies of
    /// it the fault is `Memory`.
    pub memory_bytes: usize,
    /// Linear memory of one instance of a heavy language (Python, JavaScript, Go) in bytes.
    pub heavy_memory_bytes: usize,
    /// CPU that one script may use in all, in milliseconds. More: `Timeout`.
    pub script_cpu_ms: u64,
    /// How long any guest may run before others get their turn, in milliseconds (1 to 100).
    pub slice_ms: u64,
    /// Answer time of a `call-router`, in milliseconds of wall time.
    pub route_ms: u64,
    /// Answer time of a `queue-policy`, in milliseconds of CPU (it cannot wait for anything).
    pub policy_ms: u64,
    /// Answer time of a `redirect-policy`, in milliseconds of wall time.
    pub redirect_ms: u64,
    /// Time of a `cti-adapter` for one batch, in milliseconds of wall time. It waits for HTTP.
    pub adapter_ms: u64,
    /// CPU of a `cti-adapter` for one batch, in milliseconds.
    pub adapter_cpu_ms: u64,
    /// Answer time of `describe`, in milliseconds of wall time.
    pub describe_ms: u64,
    /// How long a script may tidy up after its caller hung up, in milliseconds.
    pub grace_ms: u64,
    /// Calls into the host that one instance may make within a second. One more: `Trap`.
    pub host_calls_per_s: u32,
    /// Log lines of one instance. Further lines are dropped and counted.
    pub log_lines: u32,
    /// Bytes of one log line. The rest is cut off.
    pub log_line_bytes: usize,
    /// Attributes that a script may set on its call. One more is refused.
    pub attributes: usize,
    /// Bytes of an attribute's name and value. More is refused.
    pub attribute_bytes: usize,
    /// Tickets that one script may hold. One more enqueue is refused.
    pub tickets: usize,
    /// Prompts in one verb. One more is refused.
    pub prompts: usize,
    /// Bytes of an HTTP body in either direction. More is an error for the guest.
    pub http_body_bytes: usize,
    /// HTTP requests of one instance. One more is denied.
    pub http_requests: u32,
    /// Scripts that run at once. One more is not started: `Full`, and a line in the log.
    pub scripts: usize,
    /// Bytes of a component.
    pub component_bytes: usize,
    /// So many faults…
    pub quarantine_faults: u32,
    /// …within so many milliseconds put a version in quarantine.
    pub quarantine_window_ms: u64,
    /// How long a version in quarantine rests when there is no earlier one to go back to.
    pub quarantine_rest_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            heavy_memory_bytes: 128 << 20,
            script_cpu_ms: 2_000,
            slice_ms: 1,
            route_ms: 50,
            policy_ms: 5,
            redirect_ms: 1_000,
            adapter_ms: 30_000,
            adapter_cpu_ms: 2_000,
            describe_ms: 1_000,
            grace_ms: 2_000,
            host_calls_per_s: 20_000,
            log_lines: 256,
            log_line_bytes: 1_024,
            attributes: 64,
            attribute_bytes: 4_096,
            tickets: 16,
            prompts: 32,
            http_body_bytes: 1 << 20,
            http_requests: 64,
            scripts: 9_000,
            component_bytes: 64 << 20,
            quarantine_faults: 10,
            quarantine_window_ms: 60_000,
            quarantine_rest_ms: 30_000,
        }
    }
}

/// Milliseconds as a duration.
pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

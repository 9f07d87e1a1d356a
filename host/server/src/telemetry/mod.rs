//! What the process says of itself: its log, and one span tree a call.
//!
//! Started by `serve` and by the node. Neither ever waits for whoever reads it: what finds no room is
//! dropped and counted.

pub mod hooks;
pub mod limit;
pub mod log;
pub mod traces;

pub use self::log::{flush, start_log};
pub use self::traces::Exporter;

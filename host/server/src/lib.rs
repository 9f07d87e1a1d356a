//! Everything between the pure machines and the world: configuration, threads, plugins, the journal,
//! the admin API, telemetry and the command line. The `cordboard` binary is [`cli`].
//!
//! Used by the binary, and by tests that run a whole node in their own process.

pub mod api;
pub mod cli;
pub mod config;
pub mod cti;
pub mod dns;
pub mod http;
pub mod library;
pub mod node;
pub mod shell;
pub mod speech;
pub mod telemetry;
pub mod trace;
pub mod watch;

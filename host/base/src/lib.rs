//! What every pure crate of the host needs and nothing else: time as an argument, a timer queue,
//! maps whose order does not depend on the process, and injected randomness.
//!
//! Called by all other crates. Never reads a clock, a socket or the environment.

pub mod id;
pub mod map;
pub mod pace;
pub mod random;
pub mod time;
pub mod timer;

pub use id::Id;
pub use map::{Map, Set};
pub use pace::Pace;
pub use random::Random;
pub use time::{Now, ms, secs};
pub use timer::{TimerId, Timers};

//! The edge to the network: the media threads, the batched UDP port of the SIP reactor, the clock.
//!
//! Called by `cordboard-server`, which wires it to the shards. It moves bytes and reads clocks; it
//! decides nothing about a call.

pub mod clock;
pub mod media;
mod mmsg;
pub mod stream;
pub mod udp;

pub use clock::Clock;

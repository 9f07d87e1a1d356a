//! Media as pure values: RTP, RTCP, G.711, DTMF, tones, WAV, and the state of one media leg.
//!
//! Called by `cordboard-net`, whose media thread owns the sockets, and by the shards, which speak
//! [`control`] to it. Never opens a socket, reads a clock or a file: time and bytes are arguments.

pub mod clip;
pub mod control;

pub use clip::Clip;

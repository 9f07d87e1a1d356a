//! Media as pure values: RTP, RTCP, G.711, DTMF, tones, WAV, and the state of one media leg.
//!
//! Called by `cordboard-net`, whose media thread owns the sockets, and by the shards, which speak
//! [`control`] to it. Never opens a socket, reads a clock or a file: time and bytes are arguments.

pub mod clip;
pub mod control;
pub mod dtmf;
pub mod g711;
pub mod leg;
pub mod player;
pub mod recorder;
pub mod resample;
pub mod rtcp;
pub mod rtp;
pub mod tone;
pub mod wav;

pub use clip::Clip;

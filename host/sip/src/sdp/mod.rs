//! Session descriptions (RFC 4566) and the offer/answer of audio (RFC 3264).
//!
//! Called by the shards, which say where their media is and what they would like, and learn where
//! to send what. Pure text in and out: no name is resolved, no port is opened.

mod answer;
mod session;

pub use answer::{Agreed, Codec, Local, agreed, answer, offer};
pub use session::{Connection, Direction, Line, Media, Session};

use std::fmt;

/// Why a description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SdpError {
    /// Not SDP: the line (from 1) and what was expected there.
    Malformed(usize, &'static str),
    /// No audio stream is offered, or the answer refuses it (port 0).
    NoAudio,
    /// No codec in common.
    NoCodec,
    /// No `c=` that holds an address literal.
    NoAddress,
}

impl SdpError {
    /// The status that answers an offer like this (RFC 3261 13.3.1.3, 21.4.26).
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(..) => 400,
            Self::NoAudio | Self::NoCodec | Self::NoAddress => 488,
        }
    }
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(line, expected) => {
                write!(f, "the other side's SDP is malformed in line {line}: expected {expected}")
            }
            Self::NoAudio => f.write_str("the other side has no audio stream that is open"),
            Self::NoCodec => f.write_str("no codec in common: this side speaks PCMU and PCMA over RTP/AVP"),
            Self::NoAddress => f.write_str("the other side's SDP names no address for its audio"),
        }
    }
}

impl std::error::Error for SdpError {}

//! A clip: audio ready to be sent.
//!
//! Made once by whoever loads prompts and music, then shared by every leg that plays it. Both laws
//! are computed beforehand, so that playing is a copy of octets. Never decodes while it plays.

use std::fmt;

/// Audio at 8 kHz, mono, in both G.711 laws.
#[derive(Clone, PartialEq, Eq)]
pub struct Clip {
    pcmu: Box<[u8]>,
    pcma: Box<[u8]>,
}
impl fmt::Debug for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clip({} ms)", self.pcmu.len() / 8)
    }
}

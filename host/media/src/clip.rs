//! A clip: audio ready to be sent.
//!
//! Made once by whoever loads prompts and music, then shared by every leg that plays it. Both laws
//! are computed beforehand, so that playing is a copy of octets. Never decodes while it plays.

use std::fmt;

use crate::control::Law;
use crate::wav::{self, WavError};

/// Audio at 8 kHz, mono, in both G.711 laws: 16 octets of memory a millisecond.
#[derive(Clone, PartialEq, Eq)]
pub struct Clip {
    pcmu: Box<[u8]>,
    pcma: Box<[u8]>,
}

impl Clip {
    /// From linear samples at 8 kHz.
    #[must_use]
    pub fn from_samples(samples: &[i16]) -> Self {
        let encode = |law: Law| samples.iter().map(|sample| law.encode(*sample)).collect();
        Self { pcmu: encode(Law::Pcmu), pcma: encode(Law::Pcma) }
    }

    /// From the bytes of a WAV file: see [`wav::read`].
    ///
    /// # Errors
    /// The file is not a WAV file that we read; the error says what it is.
    pub fn from_wav(bytes: &[u8]) -> Result<Self, WavError> {
        Ok(Self::from_samples(&wav::read(bytes)?))
    }

    /// The octets in one law, 8 a millisecond.
    #[must_use]
    pub fn octets(&self, law: Law) -> &[u8] {
        match law {
            Law::Pcmu => &self.pcmu,
            Law::Pcma => &self.pcma,
        }
    }

    /// How many samples it has.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.pcmu.len()
    }

    /// Its length in milliseconds, rounded up.
    #[must_use]
    pub fn ms(&self) -> u32 {
        self.pcmu.len().div_ceil(8) as u32
    }
}

impl fmt::Debug for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clip({} ms)", self.ms())
    }
}

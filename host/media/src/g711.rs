//! G.711: mu-law and A-law to linear samples and back, and from one law to the other.
//!
//! Called wherever audio is decoded or made. Tables are computed at compile time; converting an
//! octet never branches on its value.

use crate::control::Law;

/// Silence in mu-law.
pub const PCMU_SILENCE: u8 = 0xff;
/// Silence in A-law.
pub const PCMA_SILENCE: u8 = 0xd5;

static PCMU: [i16; 256] = decode_table(Law::Pcmu);
static PCMA: [i16; 256] = decode_table(Law::Pcma);
static PCMU_TO_PCMA: [u8; 256] = cross_table(Law::Pcmu);
static PCMA_TO_PCMU: [u8; 256] = cross_table(Law::Pcma);

impl Law {
    /// The octet of silence.
    #[must_use]
    pub const fn silence(self) -> u8 {
        match self {
            Self::Pcmu => PCMU_SILENCE,
            Self::Pcma => PCMA_SILENCE,
        }
    }

    /// One octet as a linear 16-bit sample.
    #[must_use]
    pub fn decode(self, octet: u8) -> i16 {
        self.table()[usize::from(octet)]
    }

    /// The table of all 256 octets as linear samples.
    #[must_use]
    pub fn table(self) -> &'static [i16; 256] {
        match self {
            Self::Pcmu => &PCMU,
            Self::Pcma => &PCMA,
        }
    }

    /// One linear 16-bit sample as an octet.
    #[must_use]
    pub const fn encode(self, sample: i16) -> u8 {
        match self {
            Self::Pcmu => encode_pcmu(sample),
            Self::Pcma => encode_pcma(sample),
        }
    }

    /// Rewrites octets of this law to the other law, in place.
    pub fn transcode(self, octets: &mut [u8]) {
        let table = match self {
            Self::Pcmu => &PCMU_TO_PCMA,
            Self::Pcma => &PCMA_TO_PCMU,
        };
        for octet in octets {
            *octet = table[usize::from(*octet)];
        }
    }
}

const fn encode_pcmu(sample: i16) -> u8 {
    const BIAS: i32 = 0x84;
    const CLIP: i32 = 32635;
    let wide = sample as i32;
    let sign = if wide < 0 { 0x80 } else { 0 };
    let magnitude = if wide < 0 { -wide } else { wide };
    let magnitude = (if magnitude > CLIP { CLIP } else { magnitude }) + BIAS;
    // The bias puts the leading one between bits 7 and 14: its place is the segment.
    let segment = 24 - magnitude.leading_zeros() as i32;
    let step = (magnitude >> (segment + 3)) & 0x0f;
    !(sign | segment << 4 | step) as u8
}

const fn decode_pcmu(octet: u8) -> i16 {
    let octet = !octet as i32;
    let magnitude = (((octet & 0x0f) << 3) + 0x84) << ((octet >> 4) & 7);
    (if octet & 0x80 != 0 { 0x84 - magnitude } else { magnitude - 0x84 }) as i16
}

const fn encode_pcma(sample: i16) -> u8 {
    let wide = (sample as i32) >> 3;
    // Even bits are inverted on the line; the sign bit is set for positive samples.
    let (mask, magnitude) = if wide >= 0 { (0xd5, wide) } else { (0x55, -wide - 1) };
    let segment = if magnitude < 0x20 { 0 } else { 27 - magnitude.leading_zeros() as i32 };
    let step = if segment < 2 { magnitude >> 1 } else { magnitude >> segment };
    ((segment << 4 | step & 0x0f) ^ mask) as u8
}

const fn decode_pcma(octet: u8) -> i16 {
    let octet = (octet ^ 0x55) as i32;
    let segment = (octet & 0x70) >> 4;
    let step = (octet & 0x0f) << 4;
    let magnitude = match segment {
        0 => step + 8,
        _ => (step + 0x108) << (segment - 1),
    };
    (if octet & 0x80 != 0 { magnitude } else { -magnitude }) as i16
}

const fn decode_table(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = match law {
            Law::Pcmu => decode_pcmu(octet as u8),
            Law::Pcma => decode_pcma(octet as u8),
        };
        octet += 1;
    }
    table
}

const fn cross_table(from: Law) -> [u8; 256] {
    let linear = decode_table(from);
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = match from {
            Law::Pcmu => encode_pcma(linear[octet]),
            Law::Pcma => encode_pcmu(linear[octet]),
        };
        octet += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_values_of_the_recommendation() {
        assert_eq!(Law::Pcmu.decode(0xff), 0);
        assert_eq!(Law::Pcmu.decode(0x00), -32124);
        assert_eq!(Law::Pcmu.decode(0x80), 32124);
        assert_eq!(Law::Pcma.decode(0xd5), 8);
        assert_eq!(Law::Pcma.decode(0x2a), -32256);
        assert_eq!(Law::Pcma.decode(0xaa), 32256);
        assert_eq!(Law::Pcmu.encode(0), 0xff);
        assert_eq!(Law::Pcma.encode(0), 0xd5);
    }

    #[test]
    fn every_octet_survives_decoding_and_encoding() {
        for law in [Law::Pcmu, Law::Pcma] {
            for octet in 0..=255_u8 {
                let back = law.encode(law.decode(octet));
                // mu-law has a negative zero.
                assert!(back == octet || (law == Law::Pcmu && octet == 0x7f), "{law:?} {octet:#x} {back:#x}");
            }
        }
    }

    #[test]
    fn every_sample_is_within_half_a_step_of_its_octet() {
        for law in [Law::Pcmu, Law::Pcma] {
            for sample in i16::MIN..=i16::MAX {
                let error = (i32::from(law.decode(law.encode(sample))) - i32::from(sample)).abs();
                let step = (i32::from(sample).abs() / 16).max(16);
                assert!(error <= step / 2 + 8 || sample.unsigned_abs() > 32_124, "{law:?} {sample} {error}");
            }
        }
    }

    #[test]
    fn transcoding_keeps_the_sound() {
        for octet in 0..=255_u8 {
            let mut other = [octet];
            Law::Pcmu.transcode(&mut other);
            let (a, b) = (i32::from(Law::Pcmu.decode(octet)), i32::from(Law::Pcma.decode(other[0])));
            assert!((a - b).abs() <= a.abs() / 16 + 16, "{a} {b}");
        }
    }
}

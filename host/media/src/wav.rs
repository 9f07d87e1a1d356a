//! WAV files: any common kind in, 8 kHz mono 16-bit out; and the header of what we record.
//!
//! Called when prompts and music are loaded, and by whoever writes recordings. Works on bytes, never
//! on files, and never panics on what a chunk might claim.

use std::fmt;

use crate::control::Law;
use crate::resample::Resampler;
use crate::tone::RATE;

/// Why a file was not read: the file's fault, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WavError {
    /// No `RIFF`/`WAVE` at its beginning.
    NotWav,
    /// A chunk says that it is longer than the file, or the format is too short.
    Damaged(&'static str),
    /// A codec, width, rate or number of channels that we do not read.
    Unsupported(String),
}

impl fmt::Display for WavError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWav => f.write_str("not a WAV file: it does not begin with RIFF and WAVE"),
            Self::Damaged(what) => write!(f, "damaged WAV file: {what}"),
            Self::Unsupported(what) => {
                write!(
                    f,
                    "{what} is not read: use PCM (8 to 32 bits), float, mu-law or A-law, mono or stereo, 4 to 96 kHz"
                )
            }
        }
    }
}

impl std::error::Error for WavError {}

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Unsigned8,
    Signed16,
    Signed24,
    Signed32,
    Float32,
    Float64,
    Law(Law),
}

#[derive(Debug, Clone, Copy)]
struct Format {
    coding: Coding,
    channels: usize,
    rate: u32,
}

/// Reads a WAV file as samples at 8 kHz, mono; stereo is mixed down.
///
/// A data chunk that claims more than there is (as of a recording that was cut off, or a stream of
/// unknown length) is read as far as it goes.
///
/// # Errors
/// It is no WAV file, it is damaged, or of a kind that we do not read.
pub fn read(bytes: &[u8]) -> Result<Vec<i16>, WavError> {
    if bytes.len() < 12 || &bytes[..4] != b"RIFF" || &bytes[8..12] != b"WAVE" {
        return Err(WavError::NotWav);
    }
    let mut format = None;
    let mut rest = &bytes[12..];
    while let Some((head, body)) = rest.split_first_chunk::<8>() {
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        match &head[..4] {
            b"data" => {
                let format = format.ok_or(WavError::Damaged("the data comes before the format"))?;
                return Ok(decode(format, &body[..len.min(body.len())]));
            }
            b"fmt " => {
                let chunk = body.get(..len).ok_or(WavError::Damaged("the format chunk is cut off"))?;
                format = Some(parse_format(chunk)?);
            }
            _ => {}
        }
        // Chunks begin at even places.
        rest = body.get(len.saturating_add(len & 1)..).unwrap_or_default();
    }
    Err(WavError::Damaged("it has no data chunk"))
}

fn parse_format(chunk: &[u8]) -> Result<Format, WavError> {
    let Some(f) = chunk.first_chunk::<16>() else {
        return Err(WavError::Damaged("the format chunk is too short"));
    };
    let mut tag = u16::from_le_bytes([f[0], f[1]]);
    let channels = u16::from_le_bytes([f[2], f[3]]);
    let rate = u32::from_le_bytes([f[4], f[5], f[6], f[7]]);
    let bits = u16::from_le_bytes([f[14], f[15]]);
    // WAVE_FORMAT_EXTENSIBLE: the codec is in the first two octets of the sub-format.
    if tag == 0xfffe && chunk.len() >= 26 {
        tag = u16::from_le_bytes([chunk[24], chunk[25]]);
    }
    let coding = match (tag, bits) {
        (1, 8) => Coding::Unsigned8,
        (1, 16) => Coding::Signed16,
        (1, 24) => Coding::Signed24,
        (1, 32) => Coding::Signed32,
        (3, 32) => Coding::Float32,
        (3, 64) => Coding::Float64,
        (6, 8) => Coding::Law(Law::Pcma),
        (7, 8) => Coding::Law(Law::Pcmu),
        _ => return Err(WavError::Unsupported(format!("codec {tag} of {bits} bits"))),
    };
    if !(1..=2).contains(&channels) {
        return Err(WavError::Unsupported(format!("a file of {channels} channels")));
    }
    if !(4000..=96_000).contains(&rate) {
        return Err(WavError::Unsupported(format!("a rate of {rate} Hz")));
    }
    Ok(Format { coding, channels: usize::from(channels), rate })
}

fn decode(format: Format, data: &[u8]) -> Vec<i16> {
    let width = match format.coding {
        Coding::Unsigned8 | Coding::Law(_) => 1,
        Coding::Signed16 => 2,
        Coding::Signed24 => 3,
        Coding::Signed32 | Coding::Float32 => 4,
        Coding::Float64 => 8,
    };
    // Full scale is 32768, as of 16-bit samples, so that those pass unchanged.
    let one = |s: &[u8]| match format.coding {
        Coding::Unsigned8 => (f32::from(s[0]) - 128.0) * 256.0,
        Coding::Law(law) => f32::from(law.decode(s[0])),
        Coding::Signed16 => f32::from(i16::from_le_bytes([s[0], s[1]])),
        Coding::Signed24 => (i32::from_le_bytes([0, s[0], s[1], s[2]]) >> 8) as f32 / 256.0,
        Coding::Signed32 => i32::from_le_bytes([s[0], s[1], s[2], s[3]]) as f32 / 65536.0,
        Coding::Float32 => f32::from_le_bytes([s[0], s[1], s[2], s[3]]) * 32768.0,
        Coding::Float64 => {
            f64::from_le_bytes([s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]]) as f32 * 32768.0
        }
    };
    let mono: Vec<f32> = data
        .chunks_exact(width * format.channels)
        .map(|all| all.chunks_exact(width).map(one).sum::<f32>() / format.channels as f32)
        .collect();
    let at_8k =
        if format.rate as usize == RATE { mono } else { Resampler::new(format.rate, RATE as u32).run(&mono) };
    // The cast saturates, and makes 0 of what is not a number.
    at_8k.into_iter().map(|x| x.round() as i16).collect()
}

/// Octets of the header that [`header`] makes.
pub const HEADER_LEN: usize = 44;

/// The header of an 8 kHz mono 16-bit file with so many samples after it (little-endian each).
#[must_use]
pub fn header(samples: u32) -> [u8; HEADER_LEN] {
    let data = samples.saturating_mul(2).min(u32::MAX - 36);
    let mut out = [0; HEADER_LEN];
    out[..4].copy_from_slice(b"RIFF");
    out[4..8].copy_from_slice(&(data + 36).to_le_bytes());
    out[8..16].copy_from_slice(b"WAVEfmt ");
    out[16..20].copy_from_slice(&16_u32.to_le_bytes());
    out[20..22].copy_from_slice(&1_u16.to_le_bytes());
    out[22..24].copy_from_slice(&1_u16.to_le_bytes());
    out[24..28].copy_from_slice(&(RATE as u32).to_le_bytes());
    out[28..32].copy_from_slice(&(RATE as u32 * 2).to_le_bytes());
    out[32..34].copy_from_slice(&2_u16.to_le_bytes());
    out[34..36].copy_from_slice(&16_u16.to_le_bytes());
    out[36..40].copy_from_slice(b"data");
    out[40..].copy_from_slice(&data.to_le_bytes());
    out
}

/// A whole file of 8 kHz mono 16-bit samples.
#[must_use]
pub fn write(samples: &[i16]) -> Vec<u8> {
    let mut out = header(samples.len() as u32).to_vec();
    out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone::{Detector, amplitude};

    /// Codec, bits, and how a sample is written.
    type Kind = (u16, u16, fn(f64) -> Vec<u8>);

    /// A file of a 440 Hz sine, made by hand.
    fn file(tag: u16, bits: u16, channels: u16, rate: u32, encode: impl Fn(f64) -> Vec<u8>) -> Vec<u8> {
        let mut data = Vec::new();
        for n in 0..rate {
            let x = 0.25 * (2.0 * std::f64::consts::PI * 440.0 * f64::from(n) / f64::from(rate)).sin();
            (0..channels).for_each(|_| data.extend(encode(x)));
        }
        let mut out = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
        out.extend(tag.to_le_bytes());
        out.extend(channels.to_le_bytes());
        out.extend(rate.to_le_bytes());
        out.extend([0; 6]);
        out.extend(bits.to_le_bytes());
        out.extend(b"LIST\x03\0\0\0abc\0"); // a chunk of odd length, to be skipped
        out.extend(b"data");
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data);
        out
    }

    fn pcm16(x: f64) -> Vec<u8> {
        ((x * 32767.0) as i16).to_le_bytes().to_vec()
    }

    /// How much of the sound is the tone, and its level against what was put in, in dB.
    fn tone_and_level(samples: &[i16]) -> (bool, f64) {
        let middle = &samples[800..samples.len() - 800];
        let rms = (middle.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / middle.len() as f64).sqrt();
        let wanted = 32767.0 * 0.25 / 2.0_f64.sqrt();
        (Detector::new(440).feed(middle.iter().copied()).is_some(), 20.0 * (rms / wanted).log10())
    }

    #[test]
    fn every_width_reads_as_the_same_sound() {
        let kinds: [Kind; 8] = [
            (1, 8, |x| vec![(x * 127.0 + 128.0) as u8]),
            (1, 16, pcm16),
            (1, 24, |x| ((x * 8_388_607.0) as i32).to_le_bytes()[..3].to_vec()),
            (1, 32, |x| ((x * 2_147_483_647.0) as i32).to_le_bytes().to_vec()),
            (3, 32, |x| (x as f32).to_le_bytes().to_vec()),
            (3, 64, |x| x.to_le_bytes().to_vec()),
            (6, 8, |x| vec![Law::Pcma.encode((x * 32767.0) as i16)]),
            (7, 8, |x| vec![Law::Pcmu.encode((x * 32767.0) as i16)]),
        ];
        for (tag, bits, encode) in kinds {
            let samples = read(&file(tag, bits, 1, 8000, encode)).expect("reads");
            assert_eq!(samples.len(), 8000);
            let (heard, level) = tone_and_level(&samples);
            assert!(heard && level.abs() < 0.3, "{tag} {bits}: {level} dB");
        }
    }

    #[test]
    fn every_common_rate_keeps_tone_level_and_length() {
        for rate in [8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000] {
            for channels in [1, 2] {
                let samples = read(&file(1, 16, channels, rate, pcm16)).expect("reads");
                assert!((7999..=8001).contains(&samples.len()), "{rate}: {}", samples.len());
                let (heard, level) = tone_and_level(&samples);
                assert!(heard && level.abs() < 0.1, "{rate} {channels}: {level} dB");
            }
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let samples: Vec<i16> =
            (0..1000).map(|n| (crate::tone::sample(300, n, amplitude(-3))) as i16).collect();
        assert_eq!(read(&write(&samples)), Ok(samples));
    }

    #[test]
    fn a_file_that_is_cut_off_is_read_as_far_as_it_goes() {
        let mut whole = write(&[1, 2, 3, 4]);
        whole.truncate(HEADER_LEN + 5);
        assert_eq!(read(&whole), Ok(vec![1, 2]));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert_eq!(read(b"OggS"), Err(WavError::NotWav));
        assert!(
            matches!(read(&file(2, 4, 1, 8000, pcm16)), Err(WavError::Unsupported(what)) if what.contains("codec 2"))
        );
        assert!(matches!(read(&file(1, 16, 6, 8000, pcm16)), Err(WavError::Unsupported(_))));
        assert!(matches!(read(&file(1, 16, 1, 192_000, pcm16)), Err(WavError::Unsupported(_))));
        assert!(matches!(read(&write(&[1])[..30]), Err(WavError::Damaged(_))));
    }
}

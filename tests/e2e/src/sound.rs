//! Prompts made for the tests: each a pure tone, so that what a party hears tells which it was.

use std::path::Path;

/// What the music sounds like, in hertz.
pub const MUSIC_HZ: u32 = 440;
/// What every spoken prompt sounds like.
pub const PROMPT_HZ: u32 = 300;
/// What the promotions sound like.
pub const PROMOTION_HZ: [u32; 2] = [550, 650];

/// A WAV file (8 kHz, 16 bit, mono) with one tone. Whole periods a second, so a loop does not click.
///
/// # Panics
/// When it cannot be written.
pub fn tone(file: &Path, hz: u32, millis: u32) {
    let samples = 8 * millis;
    let data: Vec<u8> = (0..samples)
        .flat_map(|n| {
            let angle = f64::from(n) * f64::from(hz) * std::f64::consts::TAU / 8_000.0;
            ((angle.sin() * 9_000.0) as i16).to_le_bytes()
        })
        .collect();
    let mut wav = Vec::with_capacity(44 + data.len());
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + data.len() as u32).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&8_000_u32.to_le_bytes());
    wav.extend_from_slice(&16_000_u32.to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data");
    wav.extend_from_slice(&(data.len() as u32).to_le_bytes());
    wav.extend_from_slice(&data);
    std::fs::write(file, wav).expect("the prompt is written");
}

/// Every prompt that `ivr-support` names, short, and music and promotions that can be told apart.
///
/// # Panics
/// When the folder cannot be written.
pub fn library(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder for prompts");
    let listed = std::fs::read_to_string(crate::place::beside("../plugins/ivr-support/prompts.toml"))
        .expect("the list of prompts");
    for name in listed.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')) {
        tone(&folder.join(format!("{name}.wav")), PROMPT_HZ, 100);
    }
    tone(&folder.join("music.wav"), MUSIC_HZ, 1_000);
    for (i, hz) in PROMOTION_HZ.into_iter().enumerate() {
        tone(&folder.join(format!("promotion-{}.wav", i + 1)), hz, 500);
    }
}

/// How much of a 16-bit mono WAV file is a tone, in milliseconds, frame by frame of 20 ms.
///
/// # Panics
/// When it is no such file.
#[must_use]
pub fn heard_ms(file: &Path, hz: u32) -> u32 {
    let wav = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let rate = u32::from_le_bytes(wav[24..28].try_into().expect("a WAV header"));
    let data = wav.windows(4).position(|w| w == b"data").expect("a data chunk") + 8;
    let samples: Vec<i16> = wav[data..].chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    tone_ms(&samples, rate, hz)
}

/// How much of some sound is a tone, in milliseconds, frame by frame of 20 ms. Tones that are 50 Hz or more
/// apart, at multiples of 50 Hz, are told apart exactly.
#[must_use]
pub fn tone_ms(samples: &[i16], rate: u32, hz: u32) -> u32 {
    let coefficient = 2.0 * (std::f64::consts::TAU * f64::from(hz) / f64::from(rate)).cos();
    let mut heard = 0;
    for frame in samples.chunks_exact((rate / 50) as usize) {
        let energy = frame.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / frame.len() as f64;
        let (mut a, mut b) = (0.0, 0.0);
        for s in frame {
            (a, b) = (f64::from(*s) + coefficient * a - b, a);
        }
        let power = (a * a + b * b - coefficient * a * b) / (frame.len() * frame.len()) as f64 * 4.0;
        if energy > 2_500.0 && power > energy {
            heard += 20;
        }
    }
    heard
}

/// A sample of mu-law (ITU-T G.711).
#[must_use]
pub fn from_ulaw(octet: u8) -> i16 {
    let code = !octet;
    let magnitude = ((i16::from(code & 0x0f) << 3) + 0x84) << ((code >> 4) & 7);
    if code & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

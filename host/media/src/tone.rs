//! Tones: the octets of a sine, DTMF as sound, and a detector for one frequency (Goertzel).
//!
//! Called by the player for tones and by the leg for detection. Never keeps a phase: a sample is a
//! function of its place, so a tone may be cut anywhere.

use std::f32::consts::PI;
use std::sync::OnceLock;

/// Samples a second, everywhere in this crate.
pub const RATE: usize = 8000;

/// One period of one hertz. All frequencies are whole hertz, so they are steps through this table.
fn sine() -> &'static [f32; RATE] {
    static TABLE: OnceLock<Box<[f32; RATE]>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Box::new([0.0; RATE]);
        for (i, value) in table.iter_mut().enumerate() {
            *value = (2.0 * PI * i as f32 / RATE as f32).sin();
        }
        table
    })
}

/// The level of a full-scale sine in mu-law (ITU-T G.711; in A-law it is 0.03 dB less).
const FULL_SCALE_DBM0: f32 = 3.17;

/// The peak of a sine of a level in dBm0.
#[must_use]
pub fn amplitude(level_dbm0: i8) -> f32 {
    (32767.0 * 10_f32.powf((f32::from(level_dbm0) - FULL_SCALE_DBM0) / 20.0)).min(32767.0)
}

/// The sample number `n` of a tone.
#[must_use]
pub fn sample(hz: u16, n: usize, amplitude: f32) -> f32 {
    sine()[(n % RATE) * usize::from(hz) % RATE] * amplitude
}

/// The two frequencies of a DTMF digit (ITU-T Q.23), low one first.
#[must_use]
pub fn dtmf_pair(digit: char) -> Option<(u16, u16)> {
    const LOW: [u16; 4] = [697, 770, 852, 941];
    const HIGH: [u16; 4] = [1209, 1336, 1477, 1633];
    let place = "123A456B789C*0#D".find(digit.to_ascii_uppercase())?;
    Some((LOW[place / 4], HIGH[place % 4]))
}

/// Milliseconds after which a tone is reported.
pub const REPORT_AFTER_MS: u32 = 60;
/// Samples looked at together: 20 ms, so a frequency is told from its neighbours 50 Hz away.
const BLOCK: usize = 160;

/// Hears one frequency in a stream of samples.
#[derive(Debug, Clone)]
pub struct Detector {
    hz: u16,
    coefficient: f32,
    s1: f32,
    s2: f32,
    energy: f32,
    seen: usize,
    heard_ms: u32,
    missed: u8,
    reported: bool,
}

impl Detector {
    /// A detector for a frequency below 4 kHz.
    #[must_use]
    pub fn new(hz: u16) -> Self {
        let coefficient = 2.0 * (2.0 * PI * f32::from(hz) / RATE as f32).cos();
        Self {
            hz,
            coefficient,
            s1: 0.0,
            s2: 0.0,
            energy: 0.0,
            seen: 0,
            heard_ms: 0,
            missed: 0,
            reported: false,
        }
    }

    /// The frequency.
    #[must_use]
    pub fn hz(&self) -> u16 {
        self.hz
    }

    /// Takes samples; says how long the tone has lasted when it is first sure of it.
    pub fn feed(&mut self, samples: impl Iterator<Item = i16>) -> Option<u32> {
        let mut report = None;
        for sample in samples {
            let x = f32::from(sample);
            let s0 = x + self.coefficient * self.s1 - self.s2;
            (self.s2, self.s1) = (self.s1, s0);
            self.energy += x * x;
            self.seen += 1;
            if self.seen == BLOCK {
                report = self.block().or(report);
            }
        }
        report
    }

    fn block(&mut self) -> Option<u32> {
        let power = self.s1 * self.s1 + self.s2 * self.s2 - self.coefficient * self.s1 * self.s2;
        // 1 for a pure sine of this frequency, whatever its level.
        let purity = if self.energy > 0.0 { 2.0 * power / (BLOCK as f32 * self.energy) } else { 0.0 };
        // About -45 dBm0: below it is the noise of the line.
        let loud = self.energy / BLOCK as f32 > 100.0 * 100.0;
        (self.s1, self.s2, self.energy, self.seen) = (0.0, 0.0, 0.0, 0);
        if loud && purity > 0.6 {
            self.heard_ms += (BLOCK / 8) as u32;
            self.missed = 0;
        } else {
            self.missed = self.missed.saturating_add(1);
            // One bad block (a lost packet, a block cut by the onset) does not end a tone.
            if self.missed > 2 {
                (self.heard_ms, self.reported) = (0, false);
            }
        }
        if self.heard_ms >= REPORT_AFTER_MS && !self.reported {
            self.reported = true;
            return Some(self.heard_ms);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Law;

    fn tone(hz: u16, samples: usize, level: i8) -> impl Iterator<Item = i16> {
        (0..samples).map(move |n| Law::Pcmu.decode(Law::Pcmu.encode(sample(hz, n, amplitude(level)) as i16)))
    }

    #[test]
    fn a_tone_is_heard_once_each_time_it_begins() {
        let mut d = Detector::new(440);
        assert_eq!(d.feed(tone(440, 4000, -10)), Some(60));
        assert_eq!(d.feed(tone(440, 4000, -10)), None);
        assert_eq!(d.feed(std::iter::repeat_n(0, 1600)), None);
        assert_eq!(d.feed(tone(440, 4000, -30)), Some(60));
    }

    #[test]
    fn other_tones_noise_and_silence_are_not_heard() {
        let mut d = Detector::new(440);
        assert_eq!(d.feed(tone(600, 8000, -10)), None);
        assert_eq!(d.feed(tone(350, 8000, -10)), None);
        assert_eq!(d.feed(std::iter::repeat_n(0, 8000)), None);
        let mut x = 1_u32;
        let noise = (0..80_000).map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 16) as i16 / 4
        });
        assert_eq!(d.feed(noise), None);
    }

    #[test]
    fn level_is_as_asked() {
        let power =
            |level| (0..8000).map(|n| f64::from(sample(1000, n, amplitude(level))).powi(2)).sum::<f64>();
        let db = 10.0 * (power(-10) / power(-30)).log10();
        assert!((db - 20.0).abs() < 0.01, "{db}");
    }

    #[test]
    fn digits_have_their_pairs() {
        assert_eq!(dtmf_pair('1'), Some((697, 1209)));
        assert_eq!(dtmf_pair('d'), Some((941, 1633)));
        assert_eq!(dtmf_pair('0'), Some((941, 1336)));
        assert_eq!(dtmf_pair('x'), None);
    }
}

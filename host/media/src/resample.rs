//! From one sample rate to another: a polyphase filter with a windowed sinc.
//!
//! Called when a WAV file is loaded, never while it plays. The pass band reaches to 94 % of what the
//! lower of the two rates can carry; what would fold back is 60 dB down or more.

use std::f64::consts::PI;

/// Zero crossings of the sinc on each side.
const CROSSINGS: usize = 24;
/// Where the filter's edge lies, as a share of the lower rate's half.
const EDGE: f64 = 0.94;
/// The Kaiser window's shape: about 70 dB.
const BETA: f64 = 7.0;

/// A filter for one pair of rates.
#[derive(Debug)]
pub struct Resampler {
    /// Output samples for each `down` input samples.
    up: usize,
    down: usize,
    /// Taps of each of `up` phases, one phase after the other.
    taps: Vec<f32>,
    len: usize,
}

impl Resampler {
    /// A filter from one rate in hertz to another; neither may be zero.
    #[must_use]
    pub fn new(from: u32, to: u32) -> Self {
        let divisor = gcd(from, to).max(1);
        let (up, down) = ((to / divisor) as usize, (from / divisor) as usize);
        let cutoff = EDGE * (f64::from(to) / f64::from(from)).min(1.0);
        let half = (CROSSINGS as f64 / cutoff).ceil() as usize;
        let len = 2 * half;
        let mut taps = Vec::with_capacity(up * len);
        for phase in 0..up {
            // The phase lies so far behind the input sample number `half - 1` of its window.
            let fraction = phase as f64 / up as f64;
            let row: Vec<f64> = (0..len)
                .map(|i| {
                    let x = i as f64 - (half as f64 - 1.0) - fraction;
                    sinc(cutoff * x) * kaiser(x / half as f64)
                })
                .collect();
            // Each phase passes a constant unchanged, or the phases would be heard as a tone.
            let sum: f64 = row.iter().sum();
            taps.extend(row.iter().map(|tap| (tap / sum) as f32));
        }
        Self { up, down, taps, len }
    }

    /// Converts a whole recording.
    #[must_use]
    pub fn run(&self, input: &[f32]) -> Vec<f32> {
        let count = (input.len() * self.up).div_ceil(self.down);
        let half = self.len / 2;
        (0..count)
            .map(|n| {
                let (place, phase) = (n * self.down / self.up, n * self.down % self.up);
                let taps = &self.taps[phase * self.len..(phase + 1) * self.len];
                // The window begins `half - 1` before the place; before and after the input is silence.
                let skipped = (half - 1).saturating_sub(place);
                let first = (place + skipped + 1).saturating_sub(half);
                let window = input.get(first..).unwrap_or_default();
                taps[skipped..].iter().zip(window).map(|(tap, x)| tap * x).sum()
            })
            .collect()
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

fn kaiser(x: f64) -> f64 {
    if x.abs() > 1.0 { 0.0 } else { bessel(BETA * (1.0 - x * x).sqrt()) / bessel(BETA) }
}

/// The modified Bessel function of the first kind and order zero, by its series.
fn bessel(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..40 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_db(from: u32, hz: f64) -> f64 {
        let input: Vec<f32> =
            (0..from).map(|n| (2.0 * PI * hz * f64::from(n) / f64::from(from)).sin() as f32).collect();
        let out = Resampler::new(from, 8000).run(&input);
        let middle = &out[1000..7000];
        let power = middle.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / middle.len() as f64;
        10.0 * (2.0 * power).log10()
    }

    #[test]
    fn the_telephone_band_passes_and_what_would_fold_back_does_not() {
        for from in [11_025, 16_000, 44_100, 48_000] {
            for hz in [300.0, 1000.0, 3000.0, 3400.0] {
                let level = level_db(from, hz);
                assert!(level.abs() < 0.1, "{from} {hz}: {level} dB");
            }
            for hz in [4300.0, 5000.0, 5400.0] {
                let level = level_db(from, hz);
                assert!(level < -55.0, "{from} {hz}: {level} dB");
            }
        }
    }

    #[test]
    fn lower_rates_come_up_and_tiny_inputs_do_no_harm() {
        let out = Resampler::new(4000, 8000).run(&[1.0; 100]);
        assert_eq!(out.len(), 200);
        assert!((out[100] - 1.0).abs() < 1e-3);
        assert_eq!(Resampler::new(44_100, 8000).run(&[]).len(), 0);
        assert_eq!(Resampler::new(44_100, 8000).run(&[1.0]).len(), 1);
    }
}

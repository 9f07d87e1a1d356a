//! Records what one leg sends us: a jitter window, gaps filled with silence, and when to stop.
//!
//! Owned by a leg, fed with its packets and with time, so that a source that says nothing (or sends
//! nothing) still makes a recording of the right length. Hands samples out in pieces; writing them
//! is for others, and never waited for.

use std::collections::VecDeque;

use crate::control::{Law, RecordEnd};

/// How long a late packet may still take its place: 200 ms.
const WINDOW: u64 = 1600;
/// A packet this far from its moment begins a new timeline: 400 ms.
const MAX_SKEW: i64 = 3200;
/// Samples that are handed out together: 1 s.
const PIECE: usize = 8000;
/// The mean square above which 20 ms count as speech: about -42 dBm0.
const SPEECH: u64 = 200 * 200;
/// Samples of the blocks in which speech is looked for.
const BLOCK: u64 = 160;

/// A running recording.
#[derive(Debug, Clone)]
pub struct Recorder {
    start_ns: u64,
    max: u64,
    end_silence: Option<u64>,
    /// Samples from `done` on that have come but may still be joined by others.
    window: VecDeque<i16>,
    /// Samples that left the window.
    done: u64,
    piece: Vec<i16>,
    /// The source and what its timestamp lacks to our place.
    timeline: Option<(u32, u32)>,
    quiet: u64,
    block: (u64, u64),
}

impl Recorder {
    /// A recording that begins at `start_ns` (which may lie ahead).
    #[must_use]
    pub fn new(start_ns: u64, max_ms: u32, end_silence_ms: Option<u32>) -> Self {
        Self {
            start_ns,
            max: u64::from(max_ms) * 8,
            end_silence: end_silence_ms.map(|ms| u64::from(ms) * 8),
            window: VecDeque::new(),
            done: 0,
            piece: Vec::new(),
            timeline: None,
            quiet: 0,
            block: (0, 0),
        }
    }

    /// Takes a packet's audio to its place.
    pub fn audio(&mut self, now_ns: u64, ssrc: u32, timestamp: u32, law: Law, octets: &[u8]) {
        if now_ns < self.start_ns {
            return;
        }
        let here = self.place(now_ns);
        let offset = match self.timeline {
            Some((source, offset)) if source == ssrc && skew(timestamp, offset, here).abs() <= MAX_SKEW => {
                offset
            }
            _ => {
                let offset = (here as u32).wrapping_sub(timestamp);
                self.timeline = Some((ssrc, offset));
                offset
            }
        };
        let place = here as i64 + skew(timestamp, offset, here) - self.done as i64;
        for (i, octet) in octets.iter().enumerate() {
            let Ok(at) = usize::try_from(place + i as i64) else { continue };
            if at >= self.window.len() {
                // The skew bounds this to a second or so.
                self.window.resize(at + 1, 0);
            }
            self.window[at] = law.decode(*octet);
        }
    }

    /// Lets the window move on. `Some` when the recording has ended by itself.
    pub fn tick(&mut self, now_ns: u64) -> Option<RecordEnd> {
        self.finish_until(self.place(now_ns).saturating_sub(WINDOW))
    }

    /// A piece of samples, if a whole one is ready.
    pub fn take_piece(&mut self) -> Option<Vec<i16>> {
        (self.piece.len() >= PIECE).then(|| std::mem::take(&mut self.piece))
    }

    /// Ends the recording here: the remaining samples, and the whole length in milliseconds.
    pub fn finish(mut self, now_ns: u64) -> (Vec<i16>, u32) {
        self.finish_until(self.place(now_ns));
        (self.piece, (self.done / 8) as u32)
    }

    /// Ends it where it is, after [`Self::tick`] said why.
    pub fn finish_ended(self) -> (Vec<i16>, u32) {
        (self.piece, (self.done / 8) as u32)
    }

    fn place(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.start_ns) / 125_000
    }

    fn finish_until(&mut self, until: u64) -> Option<RecordEnd> {
        while self.done < until {
            if self.done >= self.max {
                return Some(RecordEnd::MaxTime);
            }
            let sample = self.window.pop_front().unwrap_or(0);
            self.piece.push(sample);
            self.done += 1;
            self.block = (self.block.0 + 1, self.block.1 + u64::from(sample.unsigned_abs()).pow(2));
            if self.block.0 == BLOCK {
                let speaks = self.block.1 / BLOCK > SPEECH;
                self.quiet = if speaks { 0 } else { self.quiet + BLOCK };
                self.block = (0, 0);
                if self.end_silence.is_some_and(|most| self.quiet >= most) {
                    return Some(RecordEnd::Silence);
                }
            }
        }
        (self.done >= self.max).then_some(RecordEnd::MaxTime)
    }
}

/// How far a timestamp's place lies from `here`, in samples.
fn skew(timestamp: u32, offset: u32, here: u64) -> i64 {
    i64::from(timestamp.wrapping_add(offset).wrapping_sub(here as u32) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAW: Law = Law::Pcmu;

    /// Feeds packets given as (arrival ms, sequence in units of 20 ms, sample), ticking each 20 ms.
    fn record(packets: &[(u64, u32, i16)], end_ms: u64) -> Vec<i16> {
        let mut r = Recorder::new(0, 60_000, None);
        let mut all = Vec::new();
        for now in 0..=end_ms {
            for (_, place, sample) in packets.iter().filter(|p| p.0 == now) {
                r.audio(
                    now * 1_000_000,
                    1,
                    5_000_u32.wrapping_add(place * 160),
                    LAW,
                    &[LAW.encode(*sample); 160],
                );
            }
            if now % 20 == 0 {
                assert_eq!(r.tick(now * 1_000_000), None);
                all.extend(r.take_piece().unwrap_or_default());
            }
        }
        let (rest, ms) = r.finish(end_ms * 1_000_000);
        all.extend(rest);
        assert_eq!(all.len(), ms as usize * 8);
        all
    }

    #[test]
    fn late_and_swapped_packets_take_their_places_and_a_lost_one_is_silence() {
        let got = record(&[(0, 0, 1000), (60, 2, 3000), (61, 1, 2000), (170, 4, 5000)], 400);
        let level = |block: usize| got[block * 160 + 80];
        for (block, sample) in [(0, 1000_i16), (1, 2000), (2, 3000), (3, 0), (4, 5000), (5, 0)] {
            assert_eq!(level(block), LAW.decode(LAW.encode(sample)), "block {block}");
        }
        assert_eq!(got.len(), 3200);
    }

    #[test]
    fn a_source_that_changes_its_timeline_goes_on_at_the_present() {
        let mut r = Recorder::new(0, 60_000, None);
        r.audio(0, 1, 1000, LAW, &[LAW.encode(1000); 160]);
        r.audio(20_000_000, 1, 9_000_000, LAW, &[LAW.encode(2000); 160]);
        r.audio(40_000_000, 2, 5, LAW, &[LAW.encode(3000); 160]);
        let (all, ms) = r.finish(60_000_000);
        assert_eq!(ms, 60);
        assert!(all[0] < all[160] && all[160] < all[320] && all[0] > 900);
    }

    #[test]
    fn it_ends_at_its_longest_time_to_the_sample_even_without_a_packet() {
        let mut r = Recorder::new(0, 500, None);
        let ended = (0..).find_map(|i| r.tick(i * 20_000_000).map(|why| (i, why)));
        assert_eq!(ended, Some((35, RecordEnd::MaxTime)));
        let (samples, ms) = r.finish_ended();
        assert_eq!((samples.len(), ms), (4000, 500));
    }

    #[test]
    fn silence_ends_it_only_when_it_lasts() {
        let mut r = Recorder::new(0, 60_000, Some(1000));
        let mut why = None;
        let mut at_ms = 0;
        for i in 0..200_u32 {
            let speaks = (10..30).contains(&i) || (60..70).contains(&i);
            let sample = if speaks { 4000 } else { 20 };
            at_ms = u64::from(i) * 20;
            r.audio(at_ms * 1_000_000, 1, i * 160, LAW, &[LAW.encode(sample); 160]);
            why = r.tick(at_ms * 1_000_000);
            if why.is_some() {
                break;
            }
        }
        assert_eq!(why, Some(RecordEnd::Silence));
        assert!((2580..=2640).contains(&at_ms), "{at_ms}");
    }
}

//! Plays items one after the other in frames of 20 ms, once or for ever.
//!
//! Owned by a leg, which asks it for a frame each time its slot of the clock comes. Never decodes a
//! clip, never allocates, and may be dropped between any two frames.

use crate::control::{Item, Law};
use crate::tone;

/// Octets of a frame: 20 ms at 8 kHz.
pub const FRAME: usize = 160;

/// A running play.
#[derive(Debug, Clone)]
pub struct Player {
    items: Vec<Item>,
    repeat: bool,
    item: usize,
    /// Samples of the item that were played.
    place: usize,
}

impl Player {
    /// Starts at the first item. A repeated list without any audio is played once.
    #[must_use]
    pub fn new(items: Vec<Item>, repeat: bool) -> Self {
        let repeat = repeat && items.iter().any(|item| length(item) > 0);
        Self { items, repeat, item: 0, place: 0 }
    }

    /// Adds an item at the end.
    pub fn push(&mut self, item: Item) {
        self.items.push(item);
    }

    /// Fills a frame, with silence after the end, and says whether anything is left to play.
    pub fn frame(&mut self, law: Law, out: &mut [u8; FRAME]) -> bool {
        let mut filled = 0;
        while filled < FRAME {
            let Some(item) = self.items.get(self.item) else {
                out[filled..].fill(law.silence());
                return false;
            };
            let count = (length(item) - self.place).min(FRAME - filled);
            render(item, self.place, law, &mut out[filled..filled + count]);
            filled += count;
            self.advance(count);
        }
        self.item < self.items.len()
    }

    /// Whether nothing is left to play.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.item >= self.items.len()
    }

    /// Goes on by some samples of the current item, then past every item that is used up.
    fn advance(&mut self, count: usize) {
        self.place += count;
        // At most one lap: a list that repeats holds at least one sample.
        while self.items.get(self.item).is_some_and(|item| self.place >= length(item)) {
            self.place = 0;
            self.item += 1;
            if self.item == self.items.len() && self.repeat {
                self.item = 0;
            }
        }
    }
}

/// The length of an item in samples.
fn length(item: &Item) -> usize {
    match item {
        Item::Clip(clip) => clip.samples(),
        Item::Silence { ms } | Item::Tone { ms, .. } => *ms as usize * 8,
        Item::Digits { digits, tone_ms, gap_ms } => {
            let each = (*tone_ms as usize + *gap_ms as usize) * 8;
            digits.chars().filter(|digit| tone::dtmf_pair(*digit).is_some()).count() * each
        }
    }
}

/// Writes the samples of an item from a place on; the caller stays within its length.
fn render(item: &Item, place: usize, law: Law, out: &mut [u8]) {
    match item {
        Item::Clip(clip) => out.copy_from_slice(&clip.octets(law)[place..place + out.len()]),
        Item::Silence { .. } => out.fill(law.silence()),
        Item::Tone { hz, level_dbm0, .. } => {
            let amplitude = tone::amplitude(*level_dbm0);
            for (i, octet) in out.iter_mut().enumerate() {
                *octet = law.encode(tone::sample(*hz, place + i, amplitude) as i16);
            }
        }
        Item::Digits { digits, tone_ms, gap_ms } => {
            let (tone_len, each) = (*tone_ms as usize * 8, (*tone_ms as usize + *gap_ms as usize) * 8);
            // Levels of a telephone: the high tone 2 dB above the low one (ITU-T Q.23 and its kin).
            let (low_peak, high_peak) = (tone::amplitude(-9), tone::amplitude(-7));
            let mut pairs = digits.chars().filter_map(tone::dtmf_pair).skip(place / each);
            let mut pair = pairs.next();
            for (i, octet) in out.iter_mut().enumerate() {
                let n = (place + i) % each;
                if n == 0 && i > 0 {
                    pair = pairs.next();
                }
                *octet = match pair {
                    Some((low, high)) if n < tone_len => {
                        law.encode((tone::sample(low, n, low_peak) + tone::sample(high, n, high_peak)) as i16)
                    }
                    _ => law.silence(),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clip::Clip;
    use crate::tone::Detector;

    fn frames(player: &mut Player, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for _ in 0..most {
            let mut out = [0; FRAME];
            let more = player.frame(Law::Pcmu, &mut out);
            all.extend(out);
            if !more {
                break;
            }
        }
        all
    }

    #[test]
    fn clips_follow_without_a_gap_and_the_last_frame_is_filled_with_silence() {
        let (a, b) = (Clip::from_samples(&[1000; 100]), Clip::from_samples(&[-1000; 100]));
        let mut player =
            Player::new(vec![Item::Clip(Arc::new(a.clone())), Item::Clip(Arc::new(b.clone()))], false);
        let heard = frames(&mut player, 10);
        let law = Law::Pcmu;
        assert_eq!(heard, [a.octets(law), b.octets(law), &[0xff; 120]].concat());
    }

    #[test]
    fn a_loop_goes_on_exactly_where_it_ended() {
        let samples: Vec<i16> = (0..250).map(|i| i * 100).collect();
        let clip = Clip::from_samples(&samples);
        let mut player = Player::new(vec![Item::Clip(Arc::new(clip.clone()))], true);
        let heard = frames(&mut player, 25);
        assert_eq!(heard.len(), 25 * FRAME);
        assert!(heard.iter().zip(clip.octets(Law::Pcmu).iter().cycle()).all(|(a, b)| a == b));
    }

    #[test]
    fn a_loop_of_nothing_ends() {
        let nothing = vec![Item::Silence { ms: 0 }, Item::Clip(Arc::new(Clip::from_samples(&[])))];
        assert_eq!(frames(&mut Player::new(nothing, true), 10).len(), FRAME);
        assert_eq!(frames(&mut Player::new(vec![], true), 10).len(), FRAME);
    }

    #[test]
    fn tones_and_digits_are_what_they_say() {
        let items = vec![
            Item::Tone { hz: 440, ms: 200, level_dbm0: -10 },
            Item::Digits { digits: "x5".into(), tone_ms: 200, gap_ms: 100 },
        ];
        let heard = frames(&mut Player::new(items, false), 100);
        assert_eq!(heard.len(), 500 * 8);
        let samples =
            |range: std::ops::Range<usize>| heard[range].iter().map(|octet| Law::Pcmu.decode(*octet));
        assert!(Detector::new(440).feed(samples(0..1600)).is_some());
        // Each tone of a pair has less than the 0.6 of the energy that the detector wants.
        assert!(samples(1600..3200).any(|s| s.abs() > 8000));
        assert!(samples(3200..4000).all(|s| s == 0));
    }
}

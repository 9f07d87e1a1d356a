//! The pool of RTP ports: even ones, each with the odd one above it for RTCP (RFC 3550 section 11).
//!
//! Owned by the media thread. Ports are handed out round the range, so that one just given back
//! rests as long as possible and late packets of an old call do not reach a new one.

use std::ops::RangeInclusive;

/// Free and used port pairs of a range.
#[derive(Debug)]
pub(super) struct Ports {
    first: u16,
    used: Vec<bool>,
    next: usize,
    free: usize,
}

impl Ports {
    /// All even ports of a range whose odd neighbour also lies in it. `start` says where to begin.
    pub(super) fn new(range: &RangeInclusive<u16>, start: u64) -> Self {
        let first = range.start().saturating_add(range.start() & 1).max(2);
        let end = u32::from(*range.end()) + 1;
        let count = (end.saturating_sub(u32::from(first)) / 2) as usize;
        Self {
            first,
            used: vec![false; count],
            next: if count == 0 { 0 } else { (start % count as u64) as usize },
            free: count,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.used.len()
    }

    /// Takes the next free port.
    pub(super) fn take(&mut self) -> Option<u16> {
        if self.free == 0 {
            return None;
        }
        let count = self.used.len();
        let index = (0..count).map(|i| (self.next + i) % count).find(|index| !self.used[*index])?;
        self.used[index] = true;
        self.free -= 1;
        self.next = (index + 1) % count;
        Some(self.first + 2 * index as u16)
    }

    /// Gives a port back.
    pub(super) fn give(&mut self, port: u16) {
        let index = usize::from(port.saturating_sub(self.first)) / 2;
        if let Some(used @ true) = self.used.get_mut(index) {
            *used = false;
            self.free += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_even_have_a_neighbour_and_rest_before_they_come_again() {
        let mut ports = Ports::new(&(10_001..=10_008), 0);
        assert_eq!(ports.len(), 3); // 10002, 10004, 10006; 10008 lacks 10009
        assert_eq!(ports.take(), Some(10_002));
        ports.give(10_002);
        assert_eq!(
            [ports.take(), ports.take(), ports.take(), ports.take()],
            [Some(10_004), Some(10_006), Some(10_002), None]
        );
        ports.give(10_006);
        ports.give(10_006);
        assert_eq!([ports.take(), ports.take()], [Some(10_006), None]);
    }

    #[test]
    fn odd_ranges_are_no_trouble() {
        assert_eq!(Ports::new(&(9..=9), 5).take(), None);
        #[allow(clippy::reversed_empty_ranges, reason = "a configuration may say so")]
        let mut backwards = Ports::new(&(20..=10), 5);
        assert_eq!(backwards.take(), None);
        assert_eq!(Ports::new(&(0..=65_535), 32_766).take(), Some(65_534));
    }
}

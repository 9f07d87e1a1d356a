//! One queue of timers with reasons: every wake-up says what it is for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A handle to a running timer. Spent handles are harmless: cancelling one does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId {
    slot: u32,
    generation: u32,
}

/// Timers ordered by deadline, then by the order in which they were set.
#[derive(Debug)]
pub struct Timers<K> {
    heap: BinaryHeap<Reverse<(u64, u64, u32, u32)>>,
    slots: Vec<(u32, Option<K>)>,
    free: Vec<u32>,
    sequence: u64,
    live: usize,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), sequence: 0, live: 0 }
    }
}

impl<K> Timers<K> {
    /// Starts a timer that is due at `deadline_ns` on the monotonic clock.
    pub fn set(&mut self, deadline_ns: u64, reason: K) -> TimerId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.1 = Some(reason);
        let generation = entry.0;
        self.sequence += 1;
        self.live += 1;
        self.heap.push(Reverse((deadline_ns, self.sequence, slot, generation)));
        TimerId { slot, generation }
    }

    /// Stops a timer and gives its reason back, unless it has fired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> Option<K> {
        let reason = self.take(id.slot, id.generation)?;
        // Cancelled entries stay in the heap until they surface; rebuild when they are the many.
        if self.heap.len() > 64 && self.heap.len() > self.live * 4 {
            let slots = &self.slots;
            self.heap.retain(|Reverse((_, _, slot, generation))| {
                let (current, reason) = &slots[*slot as usize];
                current == generation && reason.is_some()
            });
        }
        Some(reason)
    }

    /// When the next timer is due.
    pub fn next_deadline(&mut self) -> Option<u64> {
        while let Some(Reverse((deadline, _, slot, generation))) = self.heap.peek() {
            let (current, reason) = &self.slots[*slot as usize];
            if current == generation && reason.is_some() {
                return Some(*deadline);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the next timer that is due at `now_ns`, if any.
    pub fn expired(&mut self, now_ns: u64) -> Option<K> {
        if self.next_deadline()? > now_ns {
            return None;
        }
        let Reverse((_, _, slot, generation)) = self.heap.pop()?;
        self.take(slot, generation)
    }

    /// How many timers are running.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no timer is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    fn take(&mut self, slot: u32, generation: u32) -> Option<K> {
        let entry = self.slots.get_mut(slot as usize)?;
        if entry.0 != generation {
            return None;
        }
        let reason = entry.1.take()?;
        entry.0 = entry.0.wrapping_add(1);
        self.free.push(slot);
        self.live -= 1;
        Some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_in_order_of_deadline_then_of_setting() {
        let mut t = Timers::default();
        t.set(20, 'b');
        t.set(10, 'a');
        t.set(20, 'c');
        assert_eq!(t.next_deadline(), Some(10));
        assert_eq!(t.expired(9), None);
        let order: Vec<_> = std::iter::from_fn(|| t.expired(20)).collect();
        assert_eq!(order, ['a', 'b', 'c']);
        assert!(t.is_empty());
    }

    #[test]
    fn a_spent_handle_cannot_cancel_the_slot_s_next_timer() {
        let mut t = Timers::default();
        let old = t.set(1, 'x');
        assert_eq!(t.cancel(old), Some('x'));
        let new = t.set(2, 'y');
        assert_eq!(t.cancel(old), None);
        assert_eq!(t.expired(2), Some('y'));
        assert_eq!(t.cancel(new), None);
    }

    #[test]
    fn cancelled_timers_do_not_pile_up() {
        let mut t = Timers::default();
        for i in 0..10_000 {
            let id = t.set(1_000_000 + i, i);
            t.cancel(id);
        }
        assert!(t.heap.len() <= 128, "{}", t.heap.len());
    }
}

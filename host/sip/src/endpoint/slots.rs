//! A table whose handles go stale: slot and generation in 64 bits.
//!
//! Used for legs and transactions, whose handles travel in tags and branches and come back late.

/// Values in numbered slots; a slot that is used again has another generation.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<(u32, Option<Box<T>>)>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// The handle that the next `insert` will give.
    pub(super) fn next_id(&self) -> u64 {
        match self.free.last() {
            Some(slot) => handle(*slot, self.entries[*slot as usize].0),
            // Generations begin at 1, so that no handle is zero.
            None => handle(self.entries.len() as u32, 1),
        }
    }

    pub(super) fn insert(&mut self, value: T) -> u64 {
        let id = self.next_id();
        let slot = id as u32 as usize;
        if self.free.pop().is_none() {
            self.entries.push((1, None));
        }
        self.entries[slot].1 = Some(Box::new(value));
        id
    }

    pub(super) fn get(&self, id: u64) -> Option<&T> {
        let (generation, value) = self.entries.get(id as u32 as usize)?;
        if *generation == (id >> 32) as u32 { value.as_deref() } else { None }
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let (generation, value) = self.entries.get_mut(id as u32 as usize)?;
        if *generation == (id >> 32) as u32 { value.as_deref_mut() } else { None }
    }

    /// The value in a slot, whatever its generation, and its handle: for handles that come in
    /// through a tag or branch, which the caller then compares whole.
    pub(super) fn in_slot(&self, slot: u32) -> Option<(u64, &T)> {
        let (generation, value) = self.entries.get(slot as usize)?;
        Some((handle(slot, *generation), value.as_deref()?))
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Box<T>> {
        let slot = id as u32;
        let (generation, value) = self.entries.get_mut(slot as usize)?;
        if *generation != (id >> 32) as u32 {
            return None;
        }
        let value = value.take()?;
        *generation = generation.wrapping_add(1).max(1);
        self.free.push(slot);
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

fn handle(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_names_nothing() {
        let mut slots = Slots::default();
        let a = slots.insert('a');
        assert_eq!(slots.remove(a).as_deref(), Some(&'a'));
        let expected = slots.next_id();
        let b = slots.insert('b');
        assert_eq!(b, expected);
        assert_ne!(a, b);
        assert_eq!((slots.get(a), slots.get(b), slots.len()), (None, Some(&'b'), 1));
        assert_eq!(slots.in_slot(0), Some((b, &'b')));
        assert!(slots.remove(a).is_none());
    }
}

//! One thread's messages by Call-ID, bounded in bytes, in messages a Call-ID, and in time.
//!
//! A dialog that is up is kept until it ends, however long that takes; what has ended, and what was never
//! a dialog, goes a while after its last message. When the bytes run out the longest silent goes first,
//! what has ended before what is up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cordboard_base::{Map, Now, ms};
use slab::Slab;

use super::scan::Head;
use super::{Found, Message};

/// The first messages of a Call-ID, which are always kept.
const FIRST: usize = 64;
/// The last ones.
const LAST: usize = 192;
/// A dialog that is silent for so long is not up any more, whatever it seems: 12 h.
const UP_MS: u64 = 12 * 3_600_000;
/// What a message costs beside its bytes.
const OVERHEAD: u64 = 160;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) keep_ms: u64,
    pub(super) max_bytes: u64,
}

#[derive(Debug)]
struct Dialog {
    call_id: Arc<str>,
    first: Vec<Message>,
    last: VecDeque<Message>,
    left_out: u64,
    bytes: u64,
    up: bool,
    /// Its place in `up` or `down`, and when that was.
    turn: u64,
    silent_since_ns: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Store {
    by_call_id: Map<Arc<str>, usize>,
    dialogs: Slab<Dialog>,
    /// By the turn of their last message.
    up: BTreeMap<u64, usize>,
    down: BTreeMap<u64, usize>,
    turn: u64,
    bytes: u64,
}

fn cost(message: &Message) -> u64 {
    message.bytes.len() as u64 + OVERHEAD
}

impl Store {
    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Call-IDs that are kept.
    pub(super) fn len(&self) -> usize {
        self.dialogs.len()
    }

    /// Keeps a message.
    pub(super) fn keep(&mut self, head: Head<'_>, message: Message, bounds: Bounds) {
        let at = message.at;
        let slot = match self.by_call_id.get(head.call_id) {
            Some(slot) => *slot,
            None => {
                let call_id = Arc::<str>::from(head.call_id);
                let slot = self.dialogs.insert(Dialog {
                    call_id: call_id.clone(),
                    first: Vec::with_capacity(8),
                    last: VecDeque::new(),
                    left_out: 0,
                    bytes: 0,
                    up: false,
                    turn: 0,
                    silent_since_ns: 0,
                });
                self.by_call_id.insert(call_id, slot);
                slot
            }
        };
        let dialog = &mut self.dialogs[slot];
        let before = dialog.bytes;
        dialog.bytes += cost(&message);
        if dialog.first.len() < FIRST {
            dialog.first.push(message);
        } else {
            if dialog.last.len() == LAST
                && let Some(gone) = dialog.last.pop_front()
            {
                dialog.bytes -= cost(&gone);
                dialog.left_out += 1;
            }
            dialog.last.push_back(message);
        }
        self.bytes = self.bytes + dialog.bytes - before;
        let was = if dialog.up { &mut self.up } else { &mut self.down };
        was.remove(&dialog.turn);
        dialog.up = (dialog.up || head.answers) && !head.ends;
        self.turn += 1;
        (dialog.turn, dialog.silent_since_ns) = (self.turn, at.mono_ns);
        let is = if dialog.up { &mut self.up } else { &mut self.down };
        is.insert(self.turn, slot);
        self.sweep(at, bounds);
    }

    /// Lets go of what was kept for long enough, and of what has no room.
    pub(super) fn sweep(&mut self, now: Now, bounds: Bounds) {
        while let Some(slot) = self.surplus(now, bounds) {
            let dialog = self.dialogs.remove(slot);
            self.by_call_id.remove(&dialog.call_id);
            self.bytes -= dialog.bytes;
            self.up.remove(&dialog.turn);
            self.down.remove(&dialog.turn);
        }
    }

    fn surplus(&self, now: Now, bounds: Bounds) -> Option<usize> {
        let oldest = |turns: &BTreeMap<u64, usize>| turns.first_key_value().map(|(_, slot)| *slot);
        let silent = |slot: &usize, for_ms| {
            now.mono_ns.saturating_sub(self.dialogs[*slot].silent_since_ns) >= ms(for_ms)
        };
        let (down, up) = (oldest(&self.down), oldest(&self.up));
        if self.bytes > bounds.max_bytes {
            return down.or(up);
        }
        let up_ms = if bounds.keep_ms == 0 { 0 } else { UP_MS };
        down.filter(|slot| silent(slot, bounds.keep_ms)).or_else(|| up.filter(|slot| silent(slot, up_ms)))
    }

    /// Adds the messages of a Call-ID.
    pub(super) fn find(&self, call_id: &str, found: &mut Found) {
        let Some(dialog) = self.by_call_id.get(call_id).map(|slot| &self.dialogs[*slot]) else { return };
        found.messages.extend(dialog.first.iter().chain(&dialog.last).cloned());
        found.left_out += dialog.left_out;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cordboard_base::Random;
    use cordboard_sip::transport::Transport;

    const BOUNDS: Bounds = Bounds { keep_ms: 10_000, max_bytes: 1 << 20 };

    fn at(mono_ms: u64) -> Now {
        Now { mono_ns: mono_ms * 1_000_000, wall_ms: mono_ms as i64 }
    }

    fn message(seq: u64, at: Now, size: usize) -> Message {
        let address = "127.0.0.1:5060".parse().unwrap();
        Message {
            seq,
            at,
            role: "centre",
            sent: false,
            transport: Transport::Udp,
            local: address,
            remote: address,
            bytes: Bytes::from(vec![b'x'; size]),
        }
    }

    fn head(call_id: &str) -> Head<'_> {
        Head { call_id, answers: false, ends: false }
    }

    fn count(store: &Store, call_id: &str) -> usize {
        let mut found = Found::default();
        store.find(call_id, &mut found);
        found.messages.len()
    }

    #[test]
    fn a_dialog_that_is_up_stays_and_what_has_ended_goes_in_time() {
        let mut s = Store::default();
        s.keep(head("up"), message(0, at(0), 100), BOUNDS);
        s.keep(Head { answers: true, ..head("up") }, message(1, at(0), 100), BOUNDS);
        s.keep(head("refused"), message(2, at(0), 100), BOUNDS);
        s.sweep(at(9_999), BOUNDS);
        assert_eq!((count(&s, "up"), count(&s, "refused")), (2, 1));
        s.sweep(at(10_000), BOUNDS);
        assert_eq!((count(&s, "up"), count(&s, "refused")), (2, 0));
        s.keep(Head { ends: true, ..head("up") }, message(3, at(3_600_000), 100), BOUNDS);
        s.sweep(at(3_609_999), BOUNDS);
        assert_eq!(count(&s, "up"), 3);
        s.sweep(at(3_610_000), BOUNDS);
        assert_eq!((s.len(), s.bytes()), (0, 0));
    }

    #[test]
    fn a_call_with_very_many_messages_keeps_its_beginning_and_its_end() {
        let mut s = Store::default();
        for seq in 0..1_000 {
            s.keep(head("a"), message(seq, at(seq), 10), BOUNDS);
        }
        let mut found = Found::default();
        s.find("a", &mut found);
        let seqs: Vec<_> = found.messages.iter().map(|m| m.seq).collect();
        let expected: Vec<_> = (0..FIRST as u64).chain(1_000 - LAST as u64..1_000).collect();
        assert_eq!((seqs, found.left_out), (expected, 1_000 - (FIRST + LAST) as u64));
        assert_eq!(s.bytes(), (FIRST + LAST) as u64 * (10 + OVERHEAD));
    }

    #[test]
    fn when_bytes_run_out_what_has_ended_goes_before_what_is_up() {
        let bounds = Bounds { max_bytes: 3 * (1_000 + OVERHEAD), ..BOUNDS };
        let mut s = Store::default();
        s.keep(Head { answers: true, ..head("up") }, message(0, at(0), 1_000), bounds);
        for (seq, call_id) in [(1, "b"), (2, "c"), (3, "d")] {
            s.keep(head(call_id), message(seq, at(seq), 1_000), bounds);
        }
        assert_eq!(["up", "b", "c", "d"].map(|id| count(&s, id)), [1, 0, 1, 1]);
    }

    #[test]
    fn whatever_comes_the_bounds_hold_and_the_tables_agree() {
        let mut random = Random::from_entropy([7; 32]);
        let bounds = Bounds { keep_ms: 500, max_bytes: 20_000 };
        let mut s = Store::default();
        for seq in 0..20_000 {
            let call_id = format!("c{}", random.next_u64() % 60);
            let kind = random.next_u64() % 8;
            let head = Head { call_id: &call_id, answers: kind == 0, ends: kind == 1 };
            s.keep(head, message(seq, at(seq * 7), (random.next_u64() % 900) as usize), bounds);
            assert!(s.bytes() <= bounds.max_bytes);
            assert_eq!(s.by_call_id.len(), s.dialogs.len());
            assert_eq!(s.up.len() + s.down.len(), s.dialogs.len());
        }
        let bytes: u64 = s.dialogs.iter().map(|(_, d)| d.bytes).sum();
        assert_eq!(bytes, s.bytes());
    }
}

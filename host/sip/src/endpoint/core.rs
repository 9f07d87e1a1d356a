//! What every part of the endpoint needs: configuration, timers, the output queue, minted names.

use std::collections::VecDeque;

use bytes::Bytes;
use cordboard_base::{Now, Random, Timers};

use super::compose::Writer;
use super::flows::Flows;
use super::types::{Config, Counts, Datagram, Event, Flow, Listener, Output};
use crate::dialog::Dialog;
use crate::transaction::{Timer, Times};

/// Why the endpoint wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// A timer of a transaction.
    Txn(u64, Timer),
    /// A timer of a leg.
    Leg(u64, LegTimer),
    /// A transfer that nobody has reported on.
    Refer(u64),
}

/// The timers of a leg; those of its transactions are their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LegTimer {
    /// Send the 2xx again: T1, doubling up to T2 (13.3.1.4).
    Repeat2xx,
    /// No ACK for 64 T1 (13.3.1.4).
    NoAck,
    /// Send the last provisional response again: every minute (13.3.1.1).
    Remind,
    /// A redirect target has said nothing.
    Silent,
    /// Send the re-INVITE again after a 491 (14.1).
    Reoffer,
    /// Send the reliable provisional response again: T1, doubling (RFC 3262 3).
    RepeatReliable,
    /// No PRACK for 64 T1 (RFC 3262 3).
    NoPrack,
    /// Refresh the session (RFC 4028 7.4).
    Refresh,
    /// Nobody has refreshed the session (RFC 4028 10).
    Expire,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: Config,
    pub(super) times: Times,
    pub(super) random: Random,
    pub(super) timers: Timers<Wake>,
    pub(super) out: VecDeque<Output>,
    pub(super) totals: Counts,
    pub(super) flows: Flows,
}

impl Core {
    pub(super) fn new(config: Config, random: Random) -> Self {
        // An interval of zero would repeat without end at one moment.
        let times = Times::from_ms(config.t1_ms.max(1), config.t2_ms.max(1), config.t4_ms);
        Self {
            config,
            times,
            random,
            timers: Timers::default(),
            out: VecDeque::new(),
            totals: Counts::default(),
            flows: Flows::default(),
        }
    }

    pub(super) fn send(&mut self, flow: Flow, bytes: &[u8]) {
        self.totals.sent += 1;
        let bytes = bytes.to_vec();
        self.out.push_back(Output::Send(Datagram { flow, bytes }));
    }

    /// For a message that nobody will ask to repeat.
    pub(super) fn send_once(&mut self, flow: Flow, bytes: Vec<u8>) {
        self.totals.sent += 1;
        self.out.push_back(Output::Send(Datagram { flow, bytes }));
    }

    pub(super) fn resend(&mut self, flow: Flow, bytes: &Bytes) {
        self.totals.retransmitted += 1;
        self.send(flow, bytes);
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    pub(super) fn listener(&self, id: u16) -> Option<Listener> {
        self.config.listeners.iter().find(|l| l.id == id).copied()
    }

    /// Whether nothing is repeated on the way.
    pub(super) fn is_reliable(&self, listener: u16) -> bool {
        self.listener(listener).is_some_and(|l| l.transport.is_reliable())
    }

    pub(super) fn wake(&mut self, now: Now, after_ns: u64, wake: Wake) -> cordboard_base::TimerId {
        self.timers.set(now.after_ns(after_ns), wake)
    }

    pub(super) fn stop(&mut self, timer: &mut Option<cordboard_base::TimerId>) {
        if let Some(id) = timer.take() {
            self.timers.cancel(id);
        }
    }

    pub(super) fn write_agent(&self, w: &mut Writer, name: &str) {
        if !self.config.user_agent.is_empty() {
            w.foreign(name, &self.config.user_agent);
        }
    }

    /// A request inside a dialog (12.2.1.1) as far as its method does not matter.
    pub(super) fn in_dialog(
        &self,
        dialog: &Dialog,
        listener: u16,
        method: &str,
        cseq: u32,
        branch: &str,
        more: impl FnOnce(&mut Writer),
    ) -> Writer {
        let path = dialog.path();
        let mut w = Writer::request(method, path.uri);
        if let Some(listener) = self.listener(listener) {
            w.via(listener, branch);
        }
        w.header("Max-Forwards", "70");
        for route in &path.routes {
            w.route(route);
        }
        w.header("From", &dialog.local);
        w.header("To", &dialog.remote);
        w.header("Call-ID", &dialog.call_id);
        w.cseq(cseq, method);
        self.write_agent(&mut w, "User-Agent");
        more(&mut w);
        w
    }

    /// `prefix`, then shard, slot and 64 random bits in hexadecimal. Tags and branches begin with
    /// the shard that owns them and the slot to look in; the random part makes them unguessable.
    pub(super) fn mint(&mut self, prefix: &str, slot: u64) -> Box<str> {
        let mut text = String::with_capacity(prefix.len() + 26);
        text.push_str(prefix);
        push_hex(&mut text, u64::from(self.config.shard), 2);
        push_hex(&mut text, slot & 0xffff_ffff, 8);
        push_hex(&mut text, self.random.next_u64(), 16);
        text.into_boxed_str()
    }

    /// A Call-ID of ours: shard and 128 random bits.
    pub(super) fn mint_call_id(&mut self) -> Box<str> {
        let mut text = String::with_capacity(34);
        push_hex(&mut text, u64::from(self.config.shard), 2);
        push_hex(&mut text, self.random.next_u64(), 16);
        push_hex(&mut text, self.random.next_u64(), 16);
        text.into_boxed_str()
    }
}

/// The slot in a name that [`Core::mint`] gave, `prefix` taken off.
pub(super) fn minted_slot(name: &str) -> Option<u32> {
    if name.len() != 26 {
        return None;
    }
    u32::from_str_radix(name.get(2..10)?, 16).ok()
}

fn push_hex(text: &mut String, value: u64, digits: u32) {
    for i in (0..digits).rev() {
        text.push(char::from(b"0123456789abcdef"[(value >> (4 * i)) as usize & 15]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_name_gives_its_slot_back() {
        let mut core = Core::new(Config { shard: 0xa7, ..Config::default() }, Random::seeded(1));
        let tag = core.mint("", 7 << 32 | 0x1234);
        assert!(tag.starts_with("a700001234"));
        assert_eq!(minted_slot(&tag), Some(0x1234));
        assert_eq!(minted_slot("short"), None);
        assert_ne!(core.mint("", 0x1234), tag);
    }
}

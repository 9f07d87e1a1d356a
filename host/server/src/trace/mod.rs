//! The SIP of each call, as it was on the wire: kept in memory while the call is up and for a time after,
//! for `cordboard call ID --sip` and `--pcap`, and sent to a Homer as HEP3 when one is configured.
//!
//! Every thread with a SIP socket holds a [`Tap`] and hands it each message that it reads or sends; the API
//! asks [`Trace`] for those of some Call-IDs. Off, a tap costs one look at a flag a message; on, it never
//! waits for a reader for longer than it takes to copy one call's list, and copies no message.

mod hep;
mod scan;
mod store;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use cordboard_base::Now;
use cordboard_sip::capture::Packet;
use cordboard_sip::transport::Transport;

use self::store::{Bounds, Store};

/// What is kept, from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a call's SIP is kept after its end; 0: nothing is kept.
    pub keep_ms: u64,
    /// The most bytes of messages that one thread keeps.
    pub max_bytes: u64,
    /// A Homer that gets every message.
    pub hep: Option<SocketAddr>,
    /// The number by which the Homer knows this node.
    pub hep_id: u32,
}

/// One message as it was on the wire.
#[derive(Debug, Clone)]
pub struct Message {
    /// Orders messages of all threads.
    pub seq: u64,
    /// When.
    pub at: Now,
    /// The role whose socket it was: `redirect` or `centre`.
    pub role: &'static str,
    /// Whether we sent it.
    pub sent: bool,
    /// How.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The other's.
    pub remote: SocketAddr,
    /// Byte for byte.
    pub bytes: Bytes,
}

impl Message {
    /// As it is written into capture files and sent to a Homer.
    #[must_use]
    pub fn packet(&self) -> Packet<'_> {
        let (from, to) = if self.sent { (self.local, self.remote) } else { (self.remote, self.local) };
        // The wall clock gives the millisecond, the monotonic one what is below it.
        let at_unix_us = self.at.wall_ms.max(0) as u64 * 1_000 + self.at.mono_ns % 1_000_000 / 1_000;
        Packet { at_unix_us, transport: self.transport, from, to, payload: &self.bytes }
    }
}

/// The messages of some Call-IDs.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// In the order in which they were read or sent.
    pub messages: Vec<Message>,
    /// Messages that were too many and are no longer there.
    pub left_out: u64,
}

/// See the module. Shared by all threads.
#[derive(Debug, Default)]
pub struct Trace {
    on: AtomicBool,
    keep_ms: AtomicU64,
    max_bytes: AtomicU64,
    seq: AtomicU64,
    stores: Mutex<Vec<Arc<Mutex<Store>>>>,
    hep: ArcSwapOption<hep::Exporter>,
}

impl Trace {
    /// Takes over settings; what is kept already stays within the new bounds.
    pub fn configure(&self, settings: Settings) {
        self.keep_ms.store(settings.keep_ms, Relaxed);
        self.max_bytes.store(settings.max_bytes, Relaxed);
        let wanted = settings.hep.map(|to| (to, settings.hep_id));
        if self.hep.load().as_ref().map(|hep| hep.aim()) != wanted {
            let exporter = wanted.and_then(|(to, id)| match hep::Exporter::start(to, id) {
                Ok(exporter) => Some(Arc::new(exporter)),
                Err(error) => {
                    tracing::error!(%error, %to, "nothing is sent to the Homer");
                    None
                }
            });
            self.hep.store(exporter);
        }
        self.on.store(settings.keep_ms > 0 || self.hep.load().is_some(), Relaxed);
    }

    /// Whether anything is kept.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keep_ms.load(Relaxed) > 0
    }

    /// The tap of one more thread.
    #[must_use]
    pub fn tap(self: &Arc<Self>, role: &'static str) -> Tap {
        let store = Arc::<Mutex<Store>>::default();
        self.stores().push(store.clone());
        Tap { trace: self.clone(), store, role }
    }

    fn stores(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Mutex<Store>>>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The messages of some Call-IDs.
    #[must_use]
    pub fn find<'a>(&self, call_ids: impl IntoIterator<Item = &'a str>) -> Found {
        let stores = self.stores().clone();
        let mut found = Found::default();
        for call_id in call_ids {
            for store in &stores {
                lock(store).find(call_id, &mut found);
            }
        }
        found.messages.sort_unstable_by_key(|message| message.seq);
        found
    }

    /// Bytes and Call-IDs that are kept, and messages that the Homer's queue had no room for.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        let (mut bytes, mut call_ids) = (0, 0);
        for store in self.stores().iter() {
            let store = lock(store);
            bytes += store.bytes();
            call_ids += store.len() as u64;
        }
        (bytes, call_ids, self.hep.load().as_ref().map_or(0, |hep| hep.dropped()))
    }

    fn bounds(&self) -> Bounds {
        Bounds { keep_ms: self.keep_ms.load(Relaxed), max_bytes: self.max_bytes.load(Relaxed) }
    }
}

fn lock(store: &Mutex<Store>) -> std::sync::MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread's end of the trace.
#[derive(Debug)]
pub struct Tap {
    trace: Arc<Trace>,
    store: Arc<Mutex<Store>>,
    role: &'static str,
}

/// Between whom a message went, and how.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// Whether we sent it.
    pub sent: bool,
    /// How.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The other's.
    pub remote: SocketAddr,
}

impl Tap {
    /// Whether messages are wanted at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.trace.on.load(Relaxed)
    }

    /// Takes a message; what is no SIP is nobody's.
    pub fn message(&self, at: Now, path: Path, bytes: &Bytes) {
        let Some(head) = scan::head(bytes) else { return };
        let Path { sent, transport, local, remote } = path;
        let message = Message {
            seq: self.trace.seq.fetch_add(1, Relaxed),
            at,
            role: self.role,
            sent,
            transport,
            local,
            remote,
            bytes: bytes.clone(),
        };
        if let Some(hep) = &*self.trace.hep.load() {
            hep.send(&message, head.call_id);
        }
        let bounds = self.trace.bounds();
        if bounds.keep_ms > 0 {
            lock(&self.store).keep(head, message, bounds);
        }
    }

    /// Lets go of what has been kept for long enough: several times a second.
    pub fn sweep(&self, now: Now) {
        let bounds = self.trace.bounds();
        let mut store = lock(&self.store);
        if store.len() > 0 {
            store.sweep(now, bounds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_is_switched_on_and_off_keeps_and_forgets() {
        let trace = Arc::new(Trace::default());
        let (redirect, centre) = (trace.tap("redirect"), trace.tap("centre"));
        let at = |s: u64| Now { mono_ns: s * 1_000_000_000, wall_ms: s as i64 * 1_000 };
        let path = Path {
            sent: false,
            transport: Transport::Udp,
            local: "127.0.0.1:5060".parse().unwrap(),
            remote: "127.0.0.1:7000".parse().unwrap(),
        };
        let invite = Bytes::from_static(b"INVITE sip:1@x SIP/2.0\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n\r\n");
        assert!(!centre.is_on());
        let mut settings = Settings { keep_ms: 10_000, max_bytes: 1 << 20, hep: None, hep_id: 0 };
        trace.configure(settings);
        assert!(centre.is_on() && trace.keeps());
        redirect.message(at(1), path, &invite);
        centre.message(at(2), path, &invite);
        redirect.message(at(1), path, &Bytes::from_static(b"\r\n\r\n"));
        let found = trace.find(["a", "b"]);
        let roles: Vec<_> = found.messages.iter().map(|m| m.role).collect();
        assert_eq!((roles, found.left_out), (vec!["redirect", "centre"], 0));
        settings.keep_ms = 0;
        trace.configure(settings);
        assert!(!centre.is_on());
        for tap in [&centre, &redirect] {
            tap.sweep(at(3));
        }
        assert_eq!((trace.find(["a"]).messages.len(), trace.counts()), (0, (0, 0, 0)));
    }
}

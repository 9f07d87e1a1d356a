//! The redirect role's thread: its own socket around a [`Redirect`], the beats of the node beside it,
//! and OPTIONS to nodes elsewhere, whose answers are their beats.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use cordboard_base::{Now, Random, ms};
use cordboard_bus::{Inbox, Outlet, Waker};
use cordboard_call::Name;
use cordboard_call::model::Model;
use cordboard_call::redirect::{Beat, Counts, Redirect, Weights};
use cordboard_net::Clock;
use cordboard_net::udp::{BATCH, Port};
use cordboard_sip::transport::Transport;
use cordboard_sip::wire::Message;
use mio::{Events, Interest, Poll, Token};

use super::shard::{ShardMail, ShardView};
use super::until;
use crate::config::Node;
use crate::trace::{Path, Tap};

/// What the thread is sent.
#[derive(Debug)]
pub enum RedirectMail {
    /// A new configuration.
    Configure(Arc<Model>, Vec<Node>),
    /// The policy's answer.
    Weigh(Vec<Weights>, u64),
    /// End the thread.
    Stop,
}

/// The centre in this process, as the redirect role sees it.
#[derive(Debug, Clone)]
pub struct Beside {
    /// Its name.
    pub id: Name,
    /// Its listener.
    pub contact: String,
    /// Calls that it is made for.
    pub capacity: u32,
    /// What it does.
    pub view: Arc<ShardView>,
    /// Whether it takes no new calls.
    pub draining: Arc<AtomicBool>,
    /// For the notes of its calls.
    pub shard: Outlet<ShardMail>,
}

/// What others may know of the thread.
#[derive(Debug, Default)]
pub struct RedirectView {
    counts: Mutex<Counts>,
    live: Mutex<Vec<Beat>>,
    /// Rounds of the loop.
    pub rounds: AtomicU64,
}

impl RedirectView {
    /// Totals.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes that may be named now.
    #[must_use]
    pub fn live(&self) -> Vec<Beat> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the thread is made of.
#[derive(Debug)]
pub struct RedirectSetup {
    /// The model: trunks.
    pub model: Arc<Model>,
    /// Nodes elsewhere.
    pub nodes: Vec<Node>,
    /// The centre in this process.
    pub beside: Option<Beside>,
    /// The clock of the process.
    pub clock: Clock,
    /// The socket.
    pub port: Port,
    /// The poll that the waker wakes.
    pub poll: Poll,
    /// Wakes the thread.
    pub waker: Waker,
    /// What it is sent.
    pub inbox: Inbox<RedirectMail>,
    /// What is seen of the SIP.
    pub tap: Tap,
    /// What others may know.
    pub view: Arc<RedirectView>,
}

const PORT: Token = Token(0);
/// How often nodes beat, and are asked for a beat.
const BEAT: Duration = Duration::from_millis(500);

/// Starts the thread.
///
/// # Errors
/// When the system gives no thread.
pub fn start(setup: RedirectSetup) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("redirect".into()).spawn(move || run(setup))
}

struct Loop {
    role: Redirect,
    nodes: Vec<Node>,
    beside: Option<Beside>,
    random: Random,
    /// Call-IDs of the probes under way, with their node.
    probes: BTreeMap<String, usize>,
    sending: Vec<(SocketAddr, Vec<u8>)>,
    local: SocketAddr,
    tap: Tap,
}

fn run(setup: RedirectSetup) {
    let RedirectSetup { model, nodes, beside, clock, mut port, mut poll, waker, inbox, tap, view } = setup;
    if let Err(error) = poll.registry().register(&mut port, PORT, Interest::READABLE | Interest::WRITABLE) {
        tracing::error!(%error, "the redirect role's socket cannot be watched");
        return;
    }
    let mut l = Loop {
        role: Redirect::new(super::seed(), model),
        nodes,
        beside,
        random: super::entropy(),
        probes: BTreeMap::new(),
        sending: Vec::new(),
        local: port.local_addr(),
        tap,
    };
    let mut events = Events::with_capacity(8);
    let mut now = clock.now();
    let mut beat_at = now.mono_ns;
    let mut more = true;
    loop {
        let sleep = if more { Duration::ZERO } else { until(now, Some(beat_at), BEAT) };
        if let Err(error) = poll.poll(&mut events, Some(sleep))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            panic!("polling failed: {error}");
        }
        waker.clear();
        now = clock.now();
        view.rounds.fetch_add(1, Relaxed);
        more |= events.iter().any(|e| e.token() == PORT && e.is_readable());
        if events.iter().any(|e| e.token() == PORT && e.is_writable()) {
            port.flush();
        }
        while let Some(mail) = inbox.take() {
            match mail {
                RedirectMail::Configure(model, nodes) => {
                    l.role.configure(model);
                    l.nodes = nodes;
                    l.probes.clear();
                }
                RedirectMail::Weigh(weights, ttl_ms) => l.role.plan.weigh(now, weights, ttl_ms),
                RedirectMail::Stop => return,
            }
        }
        if now.mono_ns >= beat_at {
            beat_at = now.mono_ns + ms(500);
            l.beat(now);
            l.tap.sweep(now);
            *view.counts.lock().unwrap_or_else(PoisonError::into_inner) = l.role.counts();
            *view.live.lock().unwrap_or_else(PoisonError::into_inner) =
                l.role.plan.live(now).cloned().collect();
        }
        if more {
            more = match port.recv_batch(|from, bytes| l.datagram(now, from, bytes)) {
                Ok(count) => count == BATCH,
                Err(error) => {
                    tracing::error!(%error, "the redirect role's socket cannot be read");
                    false
                }
            };
        }
        if !l.sending.is_empty() {
            let datagrams: Vec<(SocketAddr, &[u8])> =
                l.sending.iter().map(|(to, bytes)| (*to, &**bytes)).collect();
            port.send_batch(&datagrams);
            l.sending.clear();
        }
    }
}

impl Loop {
    fn datagram(&mut self, now: Now, from: SocketAddr, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        if bytes.starts_with(b"SIP/2.0") {
            self.probed(now, &bytes);
            return;
        }
        let path = |sent, remote| Path { sent, transport: Transport::Udp, local: self.local, remote };
        let seen = self.tap.is_on();
        if seen {
            self.tap.message(now, path(false, from), &bytes);
        }
        let Some(reply) = self.role.handle(now, from, bytes) else { return };
        if seen {
            self.tap.message(now, path(true, reply.to), &Bytes::copy_from_slice(&reply.bytes));
        }
        self.sending.push((reply.to, reply.bytes));
        // The note belongs to the node that is tried first; here only the one beside us can get it.
        if let (Some(note), Some(beside)) = (reply.note, &self.beside) {
            let host = beside.contact.trim_start_matches("sip:");
            if note.contacts.iter().any(|contact| contact.ends_with(host)) {
                let _ = beside.shard.send(ShardMail::Note(note));
            }
        }
    }

    /// The nodes that need no probing beat, and the others are asked.
    fn beat(&mut self, now: Now) {
        if let Some(beside) = &self.beside {
            let draining = beside.draining.load(Relaxed);
            let calls = beside.view.calls.load(Relaxed) as u32;
            let beat = Beat {
                id: beside.id.clone(),
                contact: beside.contact.clone(),
                capacity: beside.capacity,
                calls,
                draining,
            };
            self.role.plan.beat(now, beat);
        }
        self.probes.clear();
        for i in 0..self.nodes.len() {
            let node = &self.nodes[i];
            if node.probe {
                let (call_id, branch, tag) = (self.random.token(), self.random.token(), self.random.token());
                let (to, local) = (node.address, self.local);
                let options = format!(
                    "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bK{branch}\r\nMax-Forwards: 1\r\n\
                     From: <sip:redirect@{local}>;tag={tag}\r\nTo: <sip:{to}>\r\nCall-ID: {call_id}@{local}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
                );
                self.probes.insert(format!("{call_id}@{local}"), i);
                self.sending.push((to, options.into_bytes()));
            } else {
                self.heard(now, i);
            }
        }
    }

    /// An answer to a probe.
    fn probed(&mut self, now: Now, bytes: &Bytes) {
        let Ok(message) = Message::parse(bytes.clone()) else { return };
        // 503 means that the node is full or draining: alive, and not to be named.
        if message.status() == 200
            && let Some(node) = self.probes.remove(message.call_id())
        {
            self.heard(now, node);
        }
    }

    fn heard(&mut self, now: Now, node: usize) {
        let Some(node) = self.nodes.get(node) else { return };
        let beat = Beat {
            id: node.id.clone(),
            contact: format!("sip:{}", node.address),
            capacity: node.capacity,
            calls: 0,
            draining: false,
        };
        self.role.plan.beat(now, beat);
    }
}

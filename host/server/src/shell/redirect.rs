//! The redirect role's threads: one that keeps the plan, and the doors, each with a socket of its own
//! at the same address, so that the kernel deals senders out among them.
//!
//! The keeper has the beats of the node beside it and asks nodes elsewhere by OPTIONS, whose answers
//! are their beats; ten times a second it shows the doors a board. A door does nothing but receive a
//! batch, answer it and send: no lock, no allocation, one system call each way for up to 64 datagrams.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use cordboard_base::{Now, Pace, Random, ms};
use cordboard_bus::{Inbox, Outlet, Waker};
use cordboard_call::Name;
use cordboard_call::model::Model;
use cordboard_call::redirect::{Beat, Board, Counts, Door, LOAD, Plan, Replies, Weights, load};
use cordboard_net::Clock;
use cordboard_net::udp::{BATCH, Counters, Port};
use cordboard_sip::redirect::Key;
use cordboard_sip::transport::Transport;
use cordboard_sip::wire::Message;
use mio::{Events, Interest, Poll, Token};

use super::gate::Gate;
use super::shard::{ShardMail, ShardView};
use super::until;
use crate::config::Node;
use crate::trace::{Path, Tap};

/// What the keeper is sent.
#[derive(Debug)]
pub enum RedirectMail {
    /// A new configuration.
    Configure(Arc<Model>, Vec<Node>),
    /// The policy's answer.
    Weigh(Vec<Weights>, u64),
    /// End the threads.
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

/// What others may know of the threads.
#[derive(Debug, Default)]
pub struct RedirectView {
    doors: Mutex<Vec<(Counts, Counters)>>,
    live: Mutex<Vec<Beat>>,
    /// Rounds of the keeper.
    pub rounds: AtomicU64,
}

impl RedirectView {
    /// Totals of all doors, at most a quarter of a second old.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for (counts, _) in self.doors.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            sum.redirected += counts.redirected;
            sum.without_node += counts.without_node;
            sum.refused += counts.refused;
            sum.malformed += counts.malformed;
        }
        sum
    }

    /// What the doors' sockets have done.
    #[must_use]
    pub fn ports(&self) -> Vec<Counters> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(_, c)| *c).collect()
    }

    /// Nodes that may be named now.
    #[must_use]
    pub fn live(&self) -> Vec<Beat> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, door: usize, counts: Counts, port: Counters) {
        if let Some(entry) = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get_mut(door) {
            *entry = (counts, port);
        }
    }
}

/// What the threads are made of.
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
    /// The doors' sockets, all at one address.
    pub doors: Vec<Port>,
    /// Sockets for asking nodes, one of each address family that there is.
    pub probes: Vec<Port>,
    /// The poll that the waker wakes.
    pub poll: Poll,
    /// Wakes the keeper.
    pub waker: Waker,
    /// Asked about whoever is no trunk.
    pub gate: Gate,
    /// What it is sent.
    pub inbox: Inbox<RedirectMail>,
    /// What is seen of the SIP.
    pub tap: Arc<Tap>,
    /// What others may know.
    pub view: Arc<RedirectView>,
}

/// How often nodes beat, and are asked for a beat.
const BEAT_MS: u64 = 500;
/// How often the doors get a new board when nobody has said anything.
const BOARD: Duration = Duration::from_millis(100);
/// How long a door waits for a datagram before it looks whether it is to end.
const WAIT: Duration = Duration::from_millis(200);
/// The interval of batches in the long run, unless the last was full, and how many may come at once
/// before that: under load, what comes meanwhile shares one wake-up.
const ROUND_NS: u64 = 500_000;
const ROUNDS_AT_ONCE: u64 = 8;

/// Starts the keeper, which starts the doors and ends after them.
///
/// # Errors
/// When the system gives no thread, or the sockets cannot be watched.
pub fn start(mut setup: RedirectSetup) -> std::io::Result<JoinHandle<()>> {
    for (i, port) in setup.probes.iter_mut().enumerate() {
        setup.poll.registry().register(port, Token(i), Interest::READABLE)?;
    }
    let secret = super::seed();
    let mut half = [0; 16];
    half.copy_from_slice(&secret[..16]);
    let key = Key::new(half);
    let board = Plan::default().board(setup.clock.now(), setup.model.clone());
    let shown = Arc::new(Shown { board: ArcSwap::from_pointee(board), stop: AtomicBool::new(false) });
    *setup.view.doors.lock().unwrap_or_else(PoisonError::into_inner) =
        vec![Default::default(); setup.doors.len()];
    let mut doors = Vec::new();
    for (number, port) in std::mem::take(&mut setup.doors).into_iter().enumerate() {
        port.set_waiting(WAIT)?;
        let stand = Stand {
            number,
            port,
            door: Door::new(key.clone()),
            clock: setup.clock,
            shown: shown.clone(),
            view: setup.view.clone(),
            gate: setup.gate.clone(),
            tap: setup.tap.clone(),
            shard: setup.beside.as_ref().map(|b| b.shard.clone()),
        };
        let name = format!("redirect-{number}");
        doors.push(std::thread::Builder::new().name(name).spawn(move || stand.run())?);
    }
    std::thread::Builder::new().name("redirect".into()).spawn(move || {
        keep(setup, &shown);
        shown.stop.store(true, Relaxed);
        for door in doors {
            let _ = door.join();
        }
    })
}

/// What the keeper shows the doors.
struct Shown {
    board: ArcSwap<Board>,
    stop: AtomicBool,
}

/// A door and what stands around it.
struct Stand {
    number: usize,
    port: Port,
    door: Door,
    clock: Clock,
    shown: Arc<Shown>,
    view: Arc<RedirectView>,
    gate: Gate,
    tap: Arc<Tap>,
    shard: Option<Outlet<ShardMail>>,
}

impl Stand {
    fn run(self) {
        let Self { number, mut port, mut door, clock, shown, view, gate, tap, shard } = self;
        let local = port.local_addr();
        let path = |sent, remote| Path { sent, transport: Transport::Udp, local, remote };
        let mut replies = Replies::default();
        let (mut pace, mut told_ns, mut full) = (Pace::new(ROUND_NS, ROUNDS_AT_ONCE), 0, false);
        while !shown.stop.load(Relaxed) {
            let wait_ns = pace.wait_ns(clock.now().mono_ns);
            if !full && wait_ns > 0 {
                std::thread::sleep(Duration::from_nanos(wait_ns));
            }
            // Read after the wait, once a batch: a datagram must not be judged by an old clock or board.
            let mut at: Option<(Now, arc_swap::Guard<Arc<Board>>)> = None;
            let got = port.wait_batch(|from, bytes| {
                let (now, board) = at.get_or_insert_with(|| (clock.now(), shown.board.load()));
                if tap.is_on() {
                    tap.message(*now, path(false, from), &Bytes::copy_from_slice(bytes));
                }
                // Trunks pass without a question.
                let known = board.trunk_of(from).is_some();
                if known || gate.lets_in(*now, from, bytes) {
                    let before = replies.len();
                    door.handle(*now, board, from, bytes, &mut replies);
                    if !known && let Some((to, answer)) = replies.iter().nth(before) {
                        gate.answered(*now, to, answer);
                    }
                }
            });
            match got {
                Ok(count) => full = count == BATCH,
                Err(error) => {
                    tracing::error!(%error, "a socket of the redirect role cannot be read");
                    std::thread::sleep(WAIT);
                }
            }
            if let Some((now, _)) = at {
                pace.begin(now.mono_ns);
                for (to, bytes) in replies.iter().filter(|_| tap.is_on()) {
                    tap.message(now, path(true, to), &Bytes::copy_from_slice(bytes));
                }
            }
            // What the kernel did not take before goes first, also when nothing is new.
            port.flush();
            send(&mut port, &replies);
            if let Some(shard) = &shard
                && !replies.notes.is_empty()
            {
                // Of no consequence for the call when the shard takes no more.
                let _ = shard.send(ShardMail::Notes(std::mem::take(&mut replies.notes)));
            }
            replies.clear();
            let now_ns = clock.now().mono_ns;
            if now_ns.saturating_sub(told_ns) > ms(WAIT.as_millis() as u64) {
                told_ns = now_ns;
                view.tell(number, door.counts(), port.counters());
            }
        }
    }
}

/// Hands the replies to the kernel, without an allocation.
fn send(port: &mut Port, replies: &Replies) {
    let nowhere = (SocketAddr::from(([0, 0, 0, 0], 0)), &[][..]);
    let mut batch = [nowhere; BATCH];
    let mut count = 0;
    for reply in replies.iter() {
        batch[count] = reply;
        count += 1;
        if count == BATCH {
            port.send_batch(&batch);
            count = 0;
        }
    }
    if count > 0 {
        port.send_batch(&batch[..count]);
    }
}

struct Keeper {
    plan: Plan,
    nodes: Vec<Node>,
    beside: Option<Beside>,
    random: Random,
    /// Call-IDs of the probes under way, with their node.
    probes: BTreeMap<String, usize>,
    ports: Vec<Port>,
}

fn keep(setup: RedirectSetup, shown: &Shown) {
    let RedirectSetup {
        mut model,
        nodes,
        beside,
        clock,
        mut poll,
        waker,
        inbox,
        tap,
        view,
        probes: ports,
        ..
    } = setup;
    let mut keeper = Keeper {
        plan: Plan::default(),
        nodes,
        beside,
        random: super::entropy(),
        probes: BTreeMap::new(),
        ports,
    };
    let mut events = Events::with_capacity(8);
    let mut now = clock.now();
    let mut beat_at = now.mono_ns;
    loop {
        if let Err(error) = poll.poll(&mut events, Some(until(now, Some(beat_at), BOARD)))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            panic!("polling failed: {error}");
        }
        waker.clear();
        now = clock.now();
        view.rounds.fetch_add(1, Relaxed);
        while let Some(mail) = inbox.take() {
            match mail {
                RedirectMail::Configure(new, nodes) => {
                    model = new;
                    keeper.configure(nodes);
                    beat_at = now.mono_ns;
                }
                RedirectMail::Weigh(weights, ttl_ms) => keeper.plan.weigh(now, weights, ttl_ms),
                RedirectMail::Stop => return,
            }
        }
        keeper.listen(now);
        if now.mono_ns >= beat_at {
            beat_at = now.mono_ns + ms(BEAT_MS);
            keeper.ask(now);
            tap.sweep(now);
        }
        keeper.beat_beside(now);
        shown.board.store(Arc::new(keeper.plan.board(now, model.clone())));
        *view.live.lock().unwrap_or_else(PoisonError::into_inner) = keeper.plan.live(now).cloned().collect();
    }
}

impl Keeper {
    fn configure(&mut self, nodes: Vec<Node>) {
        self.nodes = nodes;
        self.probes.clear();
        let Self { plan, nodes, beside, .. } = self;
        plan.retain(|id| {
            beside.as_ref().is_some_and(|b| b.id == *id) || nodes.iter().any(|node| node.id == *id)
        });
    }

    /// The node beside us is as well as its thread: silence is told by its own view.
    fn beat_beside(&mut self, now: Now) {
        let Some(beside) = &self.beside else { return };
        let beat = Beat {
            id: beside.id.clone(),
            contact: beside.contact.clone(),
            capacity: beside.capacity,
            calls: beside.view.calls.load(Relaxed) as u32,
            draining: beside.draining.load(Relaxed),
            beside: true,
        };
        self.plan.beat(now, beat);
    }

    /// Asks the nodes elsewhere; those that are not to be asked are well.
    fn ask(&mut self, now: Now) {
        // An answer that takes longer than a beat is of no use: the next question is under way.
        self.probes.clear();
        for i in 0..self.nodes.len() {
            let (to, probe) = (self.nodes[i].address, self.nodes[i].probe);
            if !probe {
                self.heard(now, i, None);
                continue;
            }
            let Some(port) = self.ports.iter_mut().find(|p| p.local_addr().is_ipv4() == to.is_ipv4()) else {
                continue;
            };
            let (call_id, branch, tag) = (self.random.token(), self.random.token(), self.random.token());
            let local = port.local_addr();
            let options = format!(
                "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bK{branch}\r\nMax-Forwards: 1\r\n\
                 From: <sip:redirect@{local}>;tag={tag}\r\nTo: <sip:{to}>\r\nCall-ID: {call_id}@{local}\r\nCSeq: 1 OPTIONS\r\n\
                 Accept: application/sdp\r\nContent-Length: 0\r\n\r\n"
            );
            self.probes.insert(format!("{call_id}@{local}"), i);
            port.send_batch(&[(to, options.as_bytes())]);
        }
    }

    fn listen(&mut self, now: Now) {
        let mut answers = Vec::new();
        for port in &mut self.ports {
            loop {
                match port.recv_batch(|_, bytes| answers.push(Bytes::copy_from_slice(bytes))) {
                    Ok(BATCH) => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::error!(%error, "answers to OPTIONS cannot be read");
                        break;
                    }
                }
            }
        }
        for bytes in answers {
            let Ok(message) = Message::parse(bytes) else { continue };
            let Some(node) = self.probes.get(message.call_id()).copied() else { continue };
            match message.status() {
                0..200 => continue,
                // Alive and not to be named: full, draining, out of order.
                408 | 480 | 500.. => {
                    if let Some(node) = self.nodes.get(node) {
                        self.plan.refuse(&node.id);
                    }
                }
                // Whatever it thinks of OPTIONS, it is there.
                _ => self.heard(now, node, message.other(LOAD).and_then(load)),
            }
            self.probes.remove(message.call_id());
        }
    }

    fn heard(&mut self, now: Now, node: usize, load: Option<(u32, u32)>) {
        let Some(node) = self.nodes.get(node) else { return };
        let (calls, capacity) = load.unwrap_or((0, node.capacity));
        let beat = Beat {
            id: node.id.clone(),
            contact: format!("sip:{}", node.address),
            capacity: capacity.min(node.capacity),
            calls,
            draining: false,
            beside: false,
        };
        self.plan.beat(now, beat);
    }
}

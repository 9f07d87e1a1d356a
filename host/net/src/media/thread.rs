//! The loop of the media thread.
//!
//! A turn: wait for a readiness or the clock, read sockets (and relay at once), obey commands, run
//! the slots of the clock that are due and the deadlines, then hand out the events of the turn.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::Duration;

use cordboard_base::{Map, Now, Random, TimerId, Timers, ms};
use cordboard_media::control::{Command, Event, LegId};
use cordboard_media::leg::{FileJob, Leg, Output, PACKET_LEN};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use super::ports::Ports;
use super::timer::Timer;
use super::writer::{Failed, Job};
use super::{Config, Shared};
use crate::clock::Clock;
use crate::mmsg;

pub(super) const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);
/// Set in the token of a leg's RTCP socket.
const RTCP: usize = 1 << 40;
/// Milliseconds of a frame, and so the number of slots.
const SLOTS: usize = 20;
/// The slot of legs that may not send: their players run on, and nobody hears by which millisecond.
const MUTE: usize = SLOTS;
/// Legs in a slot before another slot is begun: a few packets in a millisecond are no burst, and a
/// slot without legs costs no wake-up.
const SHARED: usize = 8;
/// A loop that was held up for longer than this leaves frames out instead of sending them in a burst.
const MAX_CATCH_UP_MS: u64 = 100;
/// Datagrams read from one socket with one system call. Fewer come nearly always, which tells that it
/// is drained without asking once more.
const READ: usize = 4;
/// Datagrams read from one socket in one turn at most: a flood must not starve the others.
const MOST_READS: usize = 16;
/// Longer than any packet of a telephone call; longer datagrams are cut off and dropped.
const DATAGRAM: usize = 2048;
/// Commands obeyed between two looks at the clock.
const COMMANDS: usize = 512;
/// Ports tried for one leg when others hold ports of our range.
const BIND_TRIES: usize = 64;
/// Expedited forwarding (RFC 3246) for voice.
const EXPEDITED: u32 = 0xb8;

/// A thread with nothing to do shows that it lives.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);

/// A leg and what the thread holds for it.
struct Entry {
    leg: Leg,
    rtp: UdpSocket,
    port: u16,
    rtcp: Rtcp,
    peer: Option<usize>,
    slot: Option<usize>,
    timer: Option<(TimerId, u64)>,
    /// Its last events must wait for those of the writer.
    recorded: bool,
}

/// The socket that is bound when it is first needed: descriptors are scarce.
enum Rtcp {
    Unbound,
    Bound(UdpSocket),
    /// Another program has the port: this leg goes without.
    Refused,
}

pub(super) struct Thread {
    config: Config,
    clock: Clock,
    poll: Poll,
    timer: Timer,
    shared: Arc<Shared>,
    ports: Ports,
    random: Random,
    inbox: Receiver<Command>,
    jobs: Sender<Job>,
    failures: Receiver<Failed>,
    events: Arc<dyn Fn(Vec<Event>) + Send + Sync>,
    legs: Slab<Entry>,
    by_id: Map<LegId, usize>,
    slots: [Vec<usize>; SLOTS + 1],
    /// The next millisecond of the clock to be run.
    next_ms: u64,
    timers: Timers<usize>,
    out: Output,
    /// What the writer's channel did not take yet.
    backlog: VecDeque<Job>,
    buffers: mmsg::Receiver<READ>,
    report: Vec<u8>,
}

impl Thread {
    #[allow(clippy::too_many_arguments, reason = "called once, by start")]
    pub(super) fn new(
        config: Config,
        clock: Clock,
        poll: Poll,
        shared: Arc<Shared>,
        ports: Ports,
        random: Random,
        inbox: Receiver<Command>,
        jobs: Sender<Job>,
        failures: Receiver<Failed>,
        events: Arc<dyn Fn(Vec<Event>) + Send + Sync>,
    ) -> io::Result<Self> {
        let timer = Timer::new()?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Self {
            config,
            clock,
            poll,
            timer,
            shared,
            ports,
            random,
            inbox,
            jobs,
            failures,
            events,
            legs: Slab::new(),
            by_id: Map::default(),
            slots: Default::default(),
            next_ms: 0,
            timers: Timers::default(),
            out: Output::default(),
            backlog: VecDeque::new(),
            buffers: mmsg::Receiver::new(DATAGRAM),
            report: Vec::new(),
        })
    }

    pub(super) fn run(mut self) {
        let mut ready = Events::with_capacity(1024);
        let mut now = self.clock.now();
        while !self.shared.stop.load(Acquire) {
            let due_ns = self.next_due_ns(now);
            self.timer.arm(self.clock.now().mono_ns, due_ns);
            if let Err(error) = self.poll.poll(&mut ready, Some(LONGEST_SLEEP))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the media thread cannot wait for its sockets and ends");
                break;
            }
            now = self.clock.now();
            self.shared.counters.rounds.fetch_add(1, Relaxed);
            for event in &ready {
                match event.token() {
                    WAKER | TIMER => {}
                    Token(token) if token & RTCP != 0 => self.read_rtcp(now, token & !RTCP),
                    Token(key) => self.read_rtp(now, key),
                }
            }
            self.obey(now);
            now = self.clock.now();
            self.run_slots(now);
            self.run_deadlines(now);
            self.hand_out();
        }
        let now = self.clock.now();
        let all: Vec<usize> = self.legs.iter().map(|(key, _)| key).collect();
        for key in all {
            self.close(now, key);
        }
        self.hand_out();
        // The writer ends when its channel closes; what is still here goes there first.
        for job in self.backlog.drain(..) {
            let _ = self.jobs.send(job);
        }
    }

    // ---- sockets ----

    fn read_rtp(&mut self, now: Now, key: usize) {
        let mut total = 0;
        while let Some(entry) = self.legs.get(key) {
            let count = match self.buffers.receive(entry.rtp.as_raw_fd()) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            for index in 0..count {
                self.relay(now, key, index);
            }
            total += count;
            if count < READ {
                break;
            }
            if total >= MOST_READS {
                // Readiness is told once: ask for it again, after the others had their turn.
                let fd = self.legs[key].rtp.as_raw_fd();
                let _ = self.poll.registry().reregister(&mut SourceFd(&fd), Token(key), Interest::READABLE);
                break;
            }
        }
        self.shared.counters.received.fetch_add(total as u64, Relaxed);
    }

    /// Takes the datagram in one of the buffers for its leg, and passes it on to the joined leg.
    fn relay(&mut self, now: Now, key: usize, index: usize) {
        let Some((bytes, from, _)) = self.buffers.datagram(index) else { return };
        let entry = &mut self.legs[key];
        let events = self.out.events.len();
        let was_ticking = entry.slot.is_some();
        let inbound = entry.leg.on_packet(now, bytes, from, &mut self.out);
        let peer = entry.peer;
        if self.out.events.len() > events {
            // The first packet starts the watch.
            self.arm(now, key);
        }
        if !was_ticking {
            self.tick(now, key);
        }
        let (Some(inbound), Some(peer)) = (inbound, peer) else { return };
        let Some((bytes, ..)) = self.buffers.datagram(index) else { return };
        let Some(other) = self.legs.get_mut(peer) else { return };
        match other.leg.forward(now, &inbound, bytes) {
            Some((range, to)) => {
                let sent = other.rtp.send_to(&bytes[range], to);
                let counter =
                    if sent.is_ok() { &self.shared.counters.relayed } else { &self.shared.counters.unsent };
                counter.fetch_add(1, Relaxed);
            }
            // A digit may have become sound.
            None => self.tick(now, peer),
        }
    }

    fn read_rtcp(&mut self, now: Now, key: usize) {
        for _ in 0..MOST_READS {
            let Some(Entry { leg, rtcp: Rtcp::Bound(socket), .. }) = self.legs.get_mut(key) else { return };
            let Ok(count) = self.buffers.receive(socket.as_raw_fd()) else { return };
            for index in 0..count {
                if let Some((bytes, from, false)) = self.buffers.datagram(index) {
                    leg.on_rtcp(now, bytes, from);
                }
            }
            if count < READ {
                return;
            }
        }
    }

    // ---- commands ----

    fn obey(&mut self, now: Now) {
        // Cleared first: a command that comes after the last look rings again.
        if self.shared.woken.swap(false, AcqRel) {
            for _ in 0..COMMANDS {
                match self.inbox.try_recv() {
                    Ok(command) => self.command(now, command),
                    Err(_) => break,
                }
            }
            if !self.inbox.is_empty() && !self.shared.woken.swap(true, AcqRel) {
                let _ = self.shared.waker.wake();
            }
        }
        while let Ok((leg, recording)) = self.failures.try_recv() {
            if let Some(key) = self.by_id.get(&leg) {
                self.legs[*key].leg.abandon_record(recording);
            }
        }
    }

    fn command(&mut self, now: Now, command: Command) {
        let leg = command.leg();
        if let Command::Open { leg } = command {
            let event = match self.open(now, leg) {
                Ok(address) => Event::Opened { leg, address },
                Err(reason) => Event::OpenFailed { leg, reason },
            };
            self.out.events.push(event);
            return;
        }
        let Some(key) = self.by_id.get(&leg).copied() else {
            self.stray(command);
            return;
        };
        let entry = &mut self.legs[key];
        match command {
            Command::Open { .. } => {}
            Command::Remote { remote, .. } => {
                entry.leg.set_remote(now, remote);
                if entry.leg.expects_rtcp() {
                    self.bind_rtcp(key);
                }
            }
            Command::Play { play, items, repeat, barge, .. } => {
                entry.leg.play(play, items, repeat, barge, &mut self.out)
            }
            Command::Stop { play, .. } => entry.leg.stop(play, &mut self.out),
            Command::Join { a, b } => {
                if let Some(other) = self.by_id.get(&b).copied()
                    && a != b
                {
                    self.join(key, other);
                }
            }
            Command::Part { b, .. } => {
                if let Some(other) = self.by_id.get(&b).copied()
                    && entry.peer == Some(other)
                {
                    self.part(key);
                }
            }
            Command::Record { recording, path, max_ms, end_silence_ms, beep, finish_digits, .. } => {
                entry.recorded = true;
                entry.leg.record(
                    now,
                    recording,
                    path,
                    max_ms,
                    end_silence_ms,
                    beep,
                    finish_digits,
                    &mut self.out,
                );
            }
            Command::StopRecord { recording, .. } => entry.leg.stop_record(now, recording, &mut self.out),
            Command::SendDigits { digits, duration_ms, gap_ms, .. } => {
                entry.leg.send_digits(&digits, duration_ms, gap_ms)
            }
            Command::Watch { silent_after_ms, .. } => entry.leg.watch(now, silent_after_ms),
            Command::Ask { leg } => {
                let ago_ms = entry.leg.heard_ago_ms(now);
                self.out.events.push(cordboard_media::control::Event::Heard { leg, ago_ms });
            }
            Command::Detect { hz, .. } => entry.leg.detect(hz),
            Command::Close { .. } => {
                self.close(now, key);
                return;
            }
        }
        self.tick(now, key);
        self.arm(now, key);
    }

    /// A command for a leg that is gone; what was promised to be reported is reported.
    fn stray(&mut self, command: Command) {
        let event = match command {
            Command::Play { leg, play, .. } => {
                Event::PlayEnded { leg, play, reason: cordboard_media::control::PlayEnd::Stopped }
            }
            Command::Record { leg, recording, .. } => {
                Event::RecordFailed { leg, recording, reason: "the leg is closed".into() }
            }
            _ => return,
        };
        self.out.events.push(event);
    }

    fn open(&mut self, now: Now, leg: LegId) -> Result<SocketAddr, String> {
        if self.by_id.contains_key(&leg) {
            return Err(format!("leg {} is open already", leg.0));
        }
        if self.legs.len() >= self.config.max_legs {
            return Err(format!(
                "all {} media legs are in use: raise the limit or add a node",
                self.config.max_legs
            ));
        }
        let (rtp, port) = self.bind_rtp()?;
        let entry = self.legs.vacant_entry();
        let key = entry.key();
        self.poll
            .registry()
            .register(&mut SourceFd(&rtp.as_raw_fd()), Token(key), Interest::READABLE)
            .map_err(|error| format!("the RTP socket cannot be watched: {error}"))
            .inspect_err(|_| self.ports.give(port))?;
        let leg_state = Leg::new(leg, now, &mut self.random);
        entry.insert(Entry {
            leg: leg_state,
            rtp,
            port,
            rtcp: Rtcp::Unbound,
            peer: None,
            slot: None,
            timer: None,
            recorded: false,
        });
        self.by_id.insert(leg, key);
        self.shared.counters.legs.store(self.legs.len() as u64, Relaxed);
        Ok(SocketAddr::new(self.config.advertised, port))
    }

    fn bind_rtp(&mut self) -> Result<(UdpSocket, u16), String> {
        let mut passed = Vec::new();
        let mut result = Err("all ports of the RTP range are in use: widen the range".to_owned());
        for _ in 0..BIND_TRIES {
            let Some(port) = self.ports.take() else { break };
            match bind(SocketAddr::new(self.config.bind, port)) {
                Ok(socket) => {
                    result = Ok((socket, port));
                    break;
                }
                Err(error) => {
                    passed.push(port);
                    result = Err(format!("RTP port {port} cannot be bound: {error}"));
                    // Another program has the port: the next may be free. All else would fail again.
                    if error.kind() != io::ErrorKind::AddrInUse {
                        break;
                    }
                }
            }
        }
        passed.into_iter().for_each(|port| self.ports.give(port));
        result
    }

    fn bind_rtcp(&mut self, key: usize) {
        let entry = &mut self.legs[key];
        if !matches!(entry.rtcp, Rtcp::Unbound) {
            return;
        }
        let bound = bind(SocketAddr::new(self.config.bind, entry.port + 1)).and_then(|socket| {
            let fd: RawFd = socket.as_raw_fd();
            self.poll.registry().register(&mut SourceFd(&fd), Token(key | RTCP), Interest::READABLE)?;
            Ok(socket)
        });
        entry.rtcp = match bound {
            Ok(socket) => Rtcp::Bound(socket),
            Err(error) => {
                tracing::debug!(port = entry.port + 1, %error, "a leg goes without RTCP");
                Rtcp::Refused
            }
        };
    }

    fn join(&mut self, a: usize, b: usize) {
        if self.legs[a].peer == Some(b) {
            return;
        }
        self.part(a);
        self.part(b);
        for (one, other) in [(a, b), (b, a)] {
            let entry = &mut self.legs[one];
            entry.peer = Some(other);
            entry.leg.joined(&mut self.out);
        }
    }

    fn part(&mut self, key: usize) {
        if let Some(peer) = self.legs[key].peer.take() {
            self.legs[key].leg.parted();
            if let Some(other) = self.legs.get_mut(peer) {
                other.peer = None;
                other.leg.parted();
            }
        }
    }

    fn close(&mut self, now: Now, key: usize) {
        self.part(key);
        self.legs[key].leg.close(now, &mut self.out);
        if self.legs[key].leg.owes_bye() {
            self.send_report(now, key, true);
        }
        let entry = self.legs.remove(key);
        self.by_id.remove(&entry.leg.id());
        if let Some((timer, _)) = entry.timer {
            self.timers.cancel(timer);
        }
        if let Some(slot) = entry.slot {
            self.slots[slot].retain(|other| *other != key);
            self.shared.counters.ticking.fetch_sub(1, Relaxed);
        }
        self.ports.give(entry.port);
        self.shared.counters.legs.store(self.legs.len() as u64, Relaxed);
        let closed = Event::Closed { leg: entry.leg.id(), stats: entry.leg.stats() };
        if entry.recorded {
            // After what the writer still has to say of this leg.
            self.queue_files();
            self.backlog.push_back(Job::Emit(closed));
        } else {
            self.out.events.push(closed);
        }
    }

    // ---- the clock ----

    /// Gives a leg that needs the clock the slot with the fewest others.
    fn tick(&mut self, now: Now, key: usize) {
        let entry = &mut self.legs[key];
        if entry.slot.is_some() || !entry.leg.is_ticking() {
            return;
        }
        if self.slots.iter().all(Vec::is_empty) {
            self.next_ms = now.mono_ns / ms(1) + 1;
        }
        let slot = if entry.leg.may_send() { self.free_slot() } else { MUTE };
        let entry = &mut self.legs[key];
        entry.slot = Some(slot);
        self.slots[slot].push(key);
        self.shared.counters.ticking.fetch_add(1, Relaxed);
    }

    /// One that is in use and has room, or else the emptiest; of equals the one that comes first.
    fn free_slot(&self) -> usize {
        let first = self.next_ms as usize;
        (0..SLOTS)
            .map(|i| (first + i) % SLOTS)
            .min_by_key(|slot| match self.slots[*slot].len() {
                1..SHARED => 0,
                legs => 1 + legs,
            })
            .unwrap_or(0)
    }

    fn run_slots(&mut self, now: Now) {
        let now_ms = now.mono_ns / ms(1);
        if self.slots.iter().all(Vec::is_empty) {
            self.next_ms = now_ms + 1;
            return;
        }
        if self.next_ms + MAX_CATCH_UP_MS < now_ms {
            self.shared.counters.skipped_ms.fetch_add(now_ms - MAX_CATCH_UP_MS - self.next_ms, Relaxed);
            self.next_ms = now_ms - MAX_CATCH_UP_MS;
        }
        while self.next_ms <= now_ms {
            let due = Now { mono_ns: ms(self.next_ms), wall_ms: now.wall_ms };
            let slot = (self.next_ms % SLOTS as u64) as usize;
            self.next_ms += 1;
            if !self.slots[slot].is_empty() {
                self.shared.counters.late_us.fetch_max((now.mono_ns - due.mono_ns) / 1000, Relaxed);
                self.run_slot(due, slot);
            }
            if slot == 0 && !self.slots[MUTE].is_empty() {
                self.run_slot(due, MUTE);
                self.unmute(due);
            }
        }
    }

    /// Moves legs that may send by now to a slot of their own.
    fn unmute(&mut self, due: Now) {
        let (may, mute): (Vec<usize>, _) =
            std::mem::take(&mut self.slots[MUTE]).into_iter().partition(|key| self.legs[*key].leg.may_send());
        self.slots[MUTE] = mute;
        for key in may {
            self.legs[key].slot = None;
            self.shared.counters.ticking.fetch_sub(1, Relaxed);
            self.tick(due, key);
        }
    }

    fn run_slot(&mut self, due: Now, slot: usize) {
        let mut packet = [0; PACKET_LEN];
        let mut keys = std::mem::take(&mut self.slots[slot]);
        let (mut sent, mut unsent) = (0, 0);
        keys.retain(|key| {
            let entry = &mut self.legs[*key];
            if let Some((len, to)) = entry.leg.on_frame(due, &mut packet, &mut self.out) {
                let ok = entry.rtp.send_to(&packet[..len], to).is_ok();
                *(if ok { &mut sent } else { &mut unsent }) += 1;
            }
            let stays = entry.leg.is_ticking();
            if !stays {
                entry.slot = None;
                self.shared.counters.ticking.fetch_sub(1, Relaxed);
            }
            stays
        });
        self.slots[slot] = keys;
        self.shared.counters.played.fetch_add(sent, Relaxed);
        self.shared.counters.unsent.fetch_add(unsent, Relaxed);
    }

    /// Sets a leg's timer to its next deadline. A later deadline is left for the timer to find out.
    fn arm(&mut self, now: Now, key: usize) {
        let entry = &mut self.legs[key];
        let Some(deadline_ns) = entry.leg.next_deadline_ns() else { return };
        let deadline_ns = deadline_ns.max(now.mono_ns);
        if let Some((timer, armed_ns)) = entry.timer {
            if armed_ns <= deadline_ns {
                return;
            }
            self.timers.cancel(timer);
        }
        entry.timer = Some((self.timers.set(deadline_ns, key), deadline_ns));
    }

    fn run_deadlines(&mut self, now: Now) {
        while let Some(key) = self.timers.expired(now.mono_ns) {
            let entry = &mut self.legs[key];
            entry.timer = None;
            if entry.leg.on_deadline(now, &mut self.out) {
                self.bind_rtcp(key);
                self.send_report(now, key, false);
            }
            self.arm(now, key);
        }
    }

    fn send_report(&mut self, now: Now, key: usize, bye: bool) {
        let Entry { leg, rtcp: Rtcp::Bound(socket), .. } = &mut self.legs[key] else { return };
        if let Some(to) = leg.write_rtcp(now, bye, &mut self.report) {
            // A lost report is followed by the next.
            let _ = socket.send_to(&self.report, to);
        }
    }

    fn next_due_ns(&mut self, now: Now) -> Option<u64> {
        let first = self.next_ms;
        let slot_ns = (first..first + SLOTS as u64)
            .find(|at_ms| {
                let slot = (at_ms % SLOTS as u64) as usize;
                !self.slots[slot].is_empty() || slot == 0 && !self.slots[MUTE].is_empty()
            })
            .map(ms);
        // The writer's channel was full: look again soon.
        let writer_ns = (!self.backlog.is_empty()).then(|| now.after_ns(ms(20)));
        [slot_ns, self.timers.next_deadline(), writer_ns].into_iter().flatten().min()
    }

    // ---- what leaves ----

    fn hand_out(&mut self) {
        // First: the writer may pass on a `Closed`, which is a leg's last event.
        if !self.out.events.is_empty() {
            (self.events)(std::mem::take(&mut self.out.events));
        }
        self.queue_files();
        while let Some(job) = self.backlog.pop_front() {
            if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = self.jobs.try_send(job) {
                self.backlog.push_front(job);
                break;
            }
        }
    }

    /// Moves the turn's pieces of recordings to the writer's queue; gives up a recording for which
    /// there is no room.
    fn queue_files(&mut self) {
        for job in self.out.files.drain(..) {
            if let FileJob::Samples { leg, recording, .. } = &job
                && self.backlog.len() >= self.config.max_pieces
            {
                let (leg, recording) = (*leg, *recording);
                if let Some(key) = self.by_id.get(&leg) {
                    self.legs[*key].leg.abandon_record(recording);
                }
                let reason = "the disk is too slow for the recordings under way".to_owned();
                self.backlog.push_back(Job::Abort { leg, recording, reason });
                continue;
            }
            self.backlog.push_back(Job::File(job));
        }
    }
}

/// Binds a socket of a leg.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket =
        Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    // Without the mark audio goes as well, only not before other traffic.
    let _ = if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_tclass_v6(EXPEDITED)
    } else {
        socket.set_tos_v4(EXPEDITED)
    };
    socket.bind(&address.into())?;
    Ok(socket.into())
}

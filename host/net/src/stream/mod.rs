//! SIP over connections: TCP, TLS, WebSocket in the clear and over TLS.
//!
//! Called by a signalling shard's loop, on the shard's own poll: each event of the poll is shown to
//! [`Connections::event`], then [`Connections::turn`] does what can be done without waiting, and
//! [`Connections::poll`] says what happened. [`Connections::send`] takes a message, and dials when it must.
//! Whole messages go in and out; framing, TLS, upgrades, keep-alives and limits stay here. It never parses
//! a message and decides nothing about a call.
//!
//! ```text
//!   accept --> settle (TLS, upgrade) --> open: read, write, ping --> closed
//!   dial --> connect --^                    |
//!                                           +--> Message, Known --> the shard
//! ```
//!
//! A connection ends within a turn and never between two: until the shell has polled what the turn brought, all that
//! goes to one flow goes to one connection, so that an end is told to exactly those who used what ended.
//!
//! Everything is bounded: connections in all and of one source, what one turn accepts and reads, the
//! size of a message, the time that it may take, and what may wait for a peer who does not read.

mod channel;
mod connection;
mod frames;
mod link;
mod names;
mod socket;
pub mod tls;
mod types;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use cordboard_base::{Map, Now, Set, Timers, ms};
use mio::event::Event as Ready;
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use slab::Slab;

use self::channel::Channel;
use self::connection::{Blocked, Connection, Stage};
use self::link::{Door, Got, Link};
use self::names::Names;
use self::types::is_web;
pub use self::types::{Closed, Counters, Event, Flow, Limits, Listen, NameId, Renewal, Shown, Transport};

/// Tokens below are the shell's own.
const FIRST: usize = 1 << 16;
/// Listeners at most; connections' tokens come after.
const LISTENERS: usize = 1 << 10;
/// A connection's number holds its place in the lower bits, and above them a count that never repeats.
const PLACE_BITS: u32 = 20;
/// Connections accepted by one listener in one turn, and connections that go on with TLS in one turn:
/// a handshake costs about half a millisecond of the shard.
const SETTLED_A_TURN: usize = 8;
/// Octets read from one connection in one turn.
const READ_A_TURN: usize = 64 * 1024;
/// Connections read in one turn: what a turn brings is 4 MiB at most.
const READERS_A_TURN: usize = 64;
/// When accepting failed for want of descriptors.
const ACCEPT_AGAIN_MS: u64 = 100;

/// Why the connections wake up.
#[derive(Debug, Clone, Copy)]
enum Wake {
    Connection(u64),
    Accept,
}

#[derive(Debug)]
struct Listener {
    listen: Listen,
    socket: TcpListener,
    ready: bool,
}

/// A peer as new requests name it: transport, address, and the name that it must have proved.
type Peer = (Transport, SocketAddr, Option<Arc<str>>);

/// See the module.
#[derive(Debug)]
pub struct Connections {
    registry: Registry,
    limits: Limits,
    client: Option<Arc<ClientConfig>>,
    server_names: Map<SocketAddr, Arc<str>>,
    names: Names,
    listeners: Vec<Listener>,
    connections: Slab<Connection>,
    serial: u64,
    by_peer: Map<Peer, u64>,
    per_source: Map<IpAddr, usize>,
    /// To be set up further or read, in order.
    ready: VecDeque<u64>,
    /// With something to send.
    dirty: Vec<u64>,
    /// To be ended by the next turn.
    doomed: Vec<u64>,
    /// Flows for which no connection could be made since the last turn.
    failed: Set<Flow>,
    timers: Timers<Wake>,
    events: VecDeque<Event>,
    counters: Counters,
    buffer: Box<[u8]>,
    /// Of the last turn.
    now: Now,
}

impl Connections {
    /// None yet. `registry` is that of the poll whose events will be shown.
    #[must_use]
    pub fn new(now: Now, registry: Registry, renewal: Renewal) -> Self {
        let mut connections = Self {
            registry,
            limits: Limits::default(),
            client: None,
            server_names: Map::default(),
            names: Names::default(),
            listeners: Vec::new(),
            connections: Slab::new(),
            serial: 0,
            by_peer: Map::default(),
            per_source: Map::default(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            doomed: Vec::new(),
            failed: Set::default(),
            timers: Timers::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
            buffer: vec![0; 16 * 1024].into_boxed_slice(),
            now,
        };
        connections.renew(renewal);
        connections
    }

    /// Listens; says which address is bound (of interest for port 0).
    ///
    /// # Errors
    /// The address is not ours or taken, or there are too many listeners.
    pub fn listen(&mut self, listen: Listen) -> io::Result<SocketAddr> {
        let index = self.listeners.len();
        if index == LISTENERS
            || !listen.transport.is_reliable()
            || (listen.transport.is_secure() && listen.tls.is_none())
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut socket = socket::listen(listen.address)?;
        self.registry.register(&mut socket, Token(FIRST + index), Interest::READABLE)?;
        let bound = socket.local_addr()?;
        self.listeners.push(Listener { listen, socket, ready: true });
        Ok(bound)
    }

    /// Takes new limits, certificates and names, for connections that begin from now on.
    pub fn renew(&mut self, renewal: Renewal) {
        self.limits = renewal.limits;
        self.client = renewal.client;
        let names = renewal.server_names.into_iter().map(|(at, name)| (at, Arc::from(name))).collect();
        let before = std::mem::replace(&mut self.server_names, names);
        for (_, connection) in &mut self.connections {
            let remote = connection.flow.remote;
            if connection.transport.is_secure() && before.get(&remote) != self.server_names.get(&remote) {
                // Its flows go on by one that has proved the new name, and hear of that one's end.
                connection.users.clear();
            }
        }
        for Shown { listener: number, tls, origins } in renewal.listeners {
            for listener in self.listeners.iter_mut().filter(|l| l.listen.listener == number) {
                if tls.is_some() {
                    listener.listen.tls = tls.clone();
                }
                listener.listen.origins = origins.clone();
            }
        }
    }

    /// The number of a name, for [`Flow::name`]: what was asked for when DNS gave the flow's address (RFC 5922 4).
    pub fn name(&mut self, name: &str) -> NameId {
        self.names.number(name)
    }

    /// Notes an event of the poll; false when it is none of ours.
    pub fn event(&mut self, event: &Ready) -> bool {
        let token = event.token().0;
        if !(FIRST..usize::MAX).contains(&token) {
            return false;
        }
        if let Some(listener) = self.listeners.get_mut(token - FIRST) {
            listener.ready = true;
        } else if let Some(connection) = self.connections.get_mut(token.wrapping_sub(FIRST + LISTENERS)) {
            // One of the place's former tenant does no harm: the socket says that there is nothing.
            if event.is_readable() || connection.stage != Stage::Open {
                connection.readable = true;
                if !std::mem::replace(&mut connection.queued, true) {
                    self.ready.push_back(connection.number);
                }
            }
            if event.is_writable() && !std::mem::replace(&mut connection.dirty, true) {
                self.dirty.push(connection.number);
            }
        }
        true
    }

    /// Does what can be done now: accepts whom `lets_in` does, sets up, reads if `read`, sends, closes what took too
    /// long. Whether there is more to do at once.
    pub fn turn(
        &mut self,
        now: Now,
        read: bool,
        mut lets_in: impl FnMut(Transport, SocketAddr) -> bool,
    ) -> bool {
        self.now = now;
        self.failed.clear();
        self.end_doomed();
        while let Some(wake) = self.timers.expired(now.mono_ns) {
            match wake {
                Wake::Accept => self.listeners.iter_mut().for_each(|l| l.ready = true),
                Wake::Connection(number) => self.overdue(number),
            }
        }
        let mut more = false;
        for index in 0..self.listeners.len() {
            more |= self.accept(index, &mut lets_in);
        }
        let (mut settled, mut readers) = (0, 0);
        for _ in 0..self.ready.len() {
            let Some(number) = self.ready.pop_front() else { break };
            let Some(connection) = self.connection(number) else { continue };
            if connection.stage != Stage::Open {
                if settled == SETTLED_A_TURN {
                    self.ready.push_back(number);
                    more = true;
                    continue;
                }
                settled += 1;
                self.settle(number);
            }
            let Some(connection) = self.connection(number) else { continue };
            connection.queued = false;
            if connection.stage == Stage::Open && connection.readable {
                if read && readers < READERS_A_TURN {
                    readers += 1;
                    more |= self.read(number);
                } else {
                    connection.queued = true;
                    self.ready.push_back(number);
                    more |= read;
                }
            }
        }
        self.flush();
        self.end_doomed();
        more
    }

    /// The next thing that happened.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::turn`] has something to do even without an event.
    pub fn next_deadline_ns(&mut self) -> Option<u64> {
        let at_once = !self.events.is_empty() || !self.doomed.is_empty();
        if at_once { Some(0) } else { self.timers.next_deadline() }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { open: self.connections.len(), ..self.counters }
    }

    /// The listeners: number, transport, and the address that is bound.
    pub fn addresses(&self) -> impl Iterator<Item = (u16, Transport, SocketAddr)> + '_ {
        self.listeners.iter().map(|l| {
            let at = l.socket.local_addr().unwrap_or(l.listen.address);
            (l.listen.listener, l.listen.transport, at)
        })
    }

    /// Takes a message for a flow; it leaves with the next [`Self::flush`], in the order in which it was
    /// given. Without a connection in the flow any to that peer will do, and one is dialled if there is
    /// none. What cannot be sent is told by [`Event::Failed`] or [`Event::Closed`], or was by the latter.
    pub fn send(&mut self, flow: Flow, bytes: Vec<u8>) {
        let now = self.now;
        let number = match flow.connection {
            Some(number) => Some(number).filter(|n| self.connection(*n).is_some()),
            // The failure that is about to be told is this message's, too.
            None if self.failed.contains(&flow) => None,
            None => match self.reach(flow) {
                Ok(number) => Some(number),
                Err(why) => {
                    tracing::debug!(remote = %flow.remote, %why, "no connection could be made");
                    self.counters.closed[why.index()] += 1;
                    self.failed.insert(flow);
                    self.events.push_back(Event::Failed(flow, why));
                    None
                }
            },
        };
        let Some(connection) = number.and_then(|n| self.connection(n)) else {
            self.counters.unsent += 1;
            return;
        };
        if flow.connection.is_none() && !connection.users.contains(&flow) {
            connection.users.push(flow);
        }
        if connection.doomed.is_some() {
            self.counters.unsent += 1;
            return;
        }
        connection.used_ns = now.mono_ns;
        let taken = connection.link.send(bytes);
        let number = connection.number;
        if connection.stage == Stage::Open && !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(number);
        }
        match taken {
            Ok(()) => self.counters.sent += 1,
            Err(why) => {
                self.counters.unsent += 1;
                self.doom(number, why);
            }
        }
    }

    /// Sends what was given since the last time.
    pub fn flush(&mut self) {
        for number in std::mem::take(&mut self.dirty) {
            self.flush_one(number);
        }
    }

    fn flush_one(&mut self, number: u64) {
        let since_ns = self.now.mono_ns;
        let Some(connection) = self.connection(number) else { return };
        connection.dirty = false;
        if connection.stage != Stage::Open || connection.doomed.is_some() {
            return;
        }
        match connection.link.flush() {
            Ok(true) => connection.blocked = None,
            Ok(false) => {
                // Whoever is slow and goes on has as long again: what waits is bounded by itself.
                let sent = connection.link.sent();
                if connection.blocked.is_none_or(|blocked| blocked.sent != sent) {
                    connection.blocked = Some(Blocked { since_ns, sent });
                }
                self.arm(number);
            }
            Err(why) => self.doom(number, why),
        }
    }

    /// Ends a connection with the next turn.
    fn doom(&mut self, number: u64, why: Closed) {
        if let Some(connection) = self.connection(number)
            && connection.doomed.is_none()
        {
            connection.doomed = Some(why);
            self.doomed.push(number);
        }
    }

    fn end_doomed(&mut self) {
        for number in std::mem::take(&mut self.doomed) {
            if let Some(why) = self.connection(number).and_then(|c| c.doomed.take()) {
                self.close(number, why);
            }
        }
    }

    /// Ends, with the next turn, the accepted connections of the sources that are `banned`, an IPv6 network by its
    /// first address, except those to `spare`. Whether some are being set up, of which more will be known later.
    pub fn shut_out(&mut self, banned: impl Fn(IpAddr) -> bool, spare: impl Fn(Flow) -> bool) -> bool {
        let sources: Set<IpAddr> = self.per_source.keys().copied().filter(|ip| banned(*ip)).collect();
        if sources.is_empty() {
            return false;
        }
        let theirs = |c: &&Connection| !c.dialled && sources.contains(&source(c.flow.remote.ip()));
        let (open, settling): (Vec<_>, Vec<_>) =
            self.connections.iter().map(|(_, c)| c).filter(theirs).partition(|c| c.stage == Stage::Open);
        let later = !settling.is_empty();
        let flows: Vec<Flow> = open.iter().map(|c| c.full_flow()).filter(|flow| !spare(*flow)).collect();
        for number in flows.iter().filter_map(|flow| flow.connection) {
            self.doom(number, Closed::Banned);
        }
        later
    }

    /// Ends all connections and listens no more.
    pub fn close_all(&mut self) {
        self.listeners.clear();
        let numbers: Vec<u64> = self.connections.iter().map(|(_, c)| c.number).collect();
        for number in numbers {
            if let Some(connection) = self.connection(number) {
                connection.link.goodbye();
            }
            self.close(number, Closed::Idle);
        }
    }

    fn connection(&mut self, number: u64) -> Option<&mut Connection> {
        let place = (number & ((1 << PLACE_BITS) - 1)) as usize;
        self.connections.get_mut(place).filter(|c| c.number == number)
    }

    /// Accepts a few; whether there may be more.
    fn accept(&mut self, index: usize, lets_in: &mut impl FnMut(Transport, SocketAddr) -> bool) -> bool {
        let now = self.now;
        for _ in 0..SETTLED_A_TURN {
            let Some(listener) = self.listeners.get_mut(index).filter(|l| l.ready) else { return false };
            let (socket, remote) = match listener.socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    listener.ready = false;
                    return false;
                }
                // The peer was quicker to leave.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, address = %listener.listen.address, "a connection cannot be accepted");
                    listener.ready = false;
                    self.timers.set(now.mono_ns + ms(ACCEPT_AGAIN_MS), Wake::Accept);
                    return false;
                }
            };
            let source = source(remote.ip());
            let of_source = self.per_source.get(&source).copied().unwrap_or(0);
            if self.connections.len() >= self.limits.connections.min(1 << PLACE_BITS)
                || of_source >= self.limits.per_source
                || !lets_in(listener.listen.transport, remote)
            {
                self.counters.refused += 1;
                continue;
            }
            socket::tune(&socket);
            let listen = &listener.listen;
            let (number, transport) = (listen.listener, listen.transport);
            let channel = match listen.tls.clone().filter(|_| transport.is_secure()) {
                None => Ok(Channel::plain(socket)),
                Some(config) => Channel::accepted(socket, config),
            };
            let Ok(channel) = channel else {
                self.counters.refused += 1;
                continue;
            };
            let link = if is_web(transport) {
                let door = Door { origins: listen.origins.clone(), max_message: self.limits.message_bytes };
                Link::web(channel, door, self.limits.waiting_bytes)
            } else {
                Link::stream(channel, false, self.limits.message_bytes, self.limits.waiting_bytes)
            };
            let flow = Flow { listener: number, remote, connection: None, name: None };
            if self.adopt(Connection::new(flow, transport, false, None, link, now)).is_some() {
                self.counters.accepted += 1;
                *self.per_source.entry(source).or_insert(0) += 1;
            } else {
                self.counters.refused += 1;
            }
        }
        true
    }

    /// Gives a connection its place and number, and watches it.
    fn adopt(&mut self, mut connection: Connection) -> Option<u64> {
        let now = self.now;
        self.serial += 1;
        let entry = self.connections.vacant_entry();
        let place = entry.key();
        connection.number = self.serial << PLACE_BITS | place as u64;
        let number = connection.number;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let socket = &mut connection.link.channel()?.socket;
        if let Err(error) = self.registry.register(socket, Token(FIRST + LISTENERS + place), interest) {
            tracing::warn!(%error, "a connection cannot be watched");
            return None;
        }
        connection.queued = true;
        connection.readable = true;
        let peer = (connection.transport, connection.flow.remote, connection.name.clone());
        // Who connected to us over TLS has shown nothing that a new request could rely on.
        let reusable = connection.dialled || !connection.transport.is_secure();
        entry.insert(connection);
        if reusable {
            self.by_peer.entry(peer).or_insert(number);
        }
        self.ready.push_back(number);
        self.arm_at(number, now.mono_ns + ms(self.limits.setup_ms));
        Some(number)
    }

    /// The connection for what is sent to a peer by address: one that is there, or a new one.
    fn reach(&mut self, flow: Flow) -> Result<u64, Closed> {
        let now = self.now;
        let listener =
            self.listeners.iter().find(|l| l.listen.listener == flow.listener).ok_or(Closed::NoWay)?;
        let (transport, local) = (listener.listen.transport, listener.listen.address);
        let name = match (self.server_names.get(&flow.remote), flow.name) {
            _ if !transport.is_secure() => None,
            (Some(configured), _) => Some(configured.clone()),
            (None, Some(id)) => Some(self.names.name(id).ok_or_else(forgotten)?),
            (None, None) => None,
        };
        if let Some(number) = self.by_peer.get(&(transport, flow.remote, name.clone())).copied()
            && self.connection(number).is_some()
        {
            return Ok(number);
        }
        if is_web(transport) {
            return Err(Closed::NoWay);
        }
        if self.connections.len() >= self.limits.connections.min(1 << PLACE_BITS) {
            return Err(Closed::Full);
        }
        let socket = socket::connect(local, flow.remote).map_err(|e| Closed::Socket(e.to_string()))?;
        let channel = if transport.is_secure() {
            let client = self.client.clone().ok_or(Closed::NoWay)?;
            let server = match &name {
                Some(name) => {
                    ServerName::try_from(name.to_string()).map_err(|e| Closed::Tls(e.to_string()))?
                }
                None => ServerName::from(flow.remote.ip()),
            };
            Channel::dialled(socket, client, server).map_err(|e| Closed::Tls(e.to_string()))?
        } else {
            Channel::plain(socket)
        };
        let link = Link::stream(channel, true, self.limits.message_bytes, self.limits.waiting_bytes);
        let connection = Connection::new(flow, transport, true, name, link, now);
        self.counters.dialled += 1;
        self.adopt(connection).ok_or(Closed::Full)
    }

    /// Goes on with connecting, TLS and the upgrade.
    fn settle(&mut self, number: u64) {
        let now = self.now;
        let Some(connection) = self.connection(number) else { return };
        match connection.settle() {
            Ok(false) => {}
            Ok(true) => {
                connection.stage = Stage::Open;
                connection.heard_ns = now.mono_ns;
                connection.used_ns = now.mono_ns;
                let flow = connection.full_flow();
                let names = connection.link.channel().map(|c| c.peer_names()).unwrap_or_default();
                if !std::mem::replace(&mut connection.dirty, true) {
                    self.dirty.push(number);
                }
                if !names.is_empty() {
                    self.events.push_back(Event::Known(flow, names.into()));
                }
                self.arm(number);
            }
            Err(why) => self.close(number, why),
        }
    }

    /// Reads; whether there is more.
    fn read(&mut self, number: u64) -> bool {
        let now = self.now;
        let place = (number & ((1 << PLACE_BITS) - 1)) as usize;
        let Self { connections, buffer, events, counters, .. } = self;
        let Some(connection) = connections.get_mut(place) else { return false };
        let flow = connection.full_flow();
        let (mut messages, mut alive) = (0, false);
        let result = connection.link.read(now, flow.remote, buffer, READ_A_TURN, |got| match got {
            Got::Message(bytes) => {
                messages += 1;
                events.push_back(Event::Message(flow, bytes));
            }
            Got::Alive => alive = true,
        });
        counters.received += messages;
        connection.messages += messages;
        connection.heard_ns = now.mono_ns;
        // A peer keeps a connection that it has opened by keep-alives too; ours only by being of use.
        if messages > 0 || (alive && !connection.dialled) {
            connection.used_ns = now.mono_ns;
        }
        if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(number);
        }
        let more = match result {
            Ok(more) => more,
            Err(why) => {
                self.close(number, why);
                return false;
            }
        };
        connection.readable = more;
        let unfinished = connection.link.unfinished_since_ns();
        if unfinished != connection.unfinished_ns {
            connection.unfinished_ns = unfinished;
            self.arm(number);
        }
        if more && let Some(connection) = self.connection(number) {
            connection.queued = true;
            self.ready.push_back(number);
        }
        more
    }

    /// A deadline of a connection has come, or one that was moved since.
    fn overdue(&mut self, number: u64) {
        let now = self.now;
        let limits = self.limits;
        if self.connection(number).is_some_and(|c| c.blocked.is_some()) {
            // The kernel calls only when a good part of its buffer is free.
            self.flush_one(number);
        }
        let Some(connection) = self.connection(number) else { return };
        connection.timer = None;
        match connection.overdue(now.mono_ns, &limits) {
            Err(why) => return self.close(number, why),
            Ok(true) => {
                connection.pinged_ns = now.mono_ns;
                let pinged = connection.link.ping();
                if !std::mem::replace(&mut connection.dirty, true) {
                    self.dirty.push(number);
                }
                if let Err(why) = pinged {
                    return self.close(number, why);
                }
            }
            Ok(false) => {}
        }
        self.arm(number);
    }

    fn arm(&mut self, number: u64) {
        let limits = self.limits;
        if let Some(connection) = self.connection(number) {
            let at = connection.deadline_ns(&limits);
            self.arm_at(number, at);
        }
    }

    fn arm_at(&mut self, number: u64, at_ns: u64) {
        let Some(timer) = self.connection(number).map(|c| c.timer) else { return };
        match timer {
            // Later deadlines are found when the earlier one comes: messages move no timer.
            Some((_, set_ns)) if set_ns <= at_ns => return,
            Some((id, _)) => drop(self.timers.cancel(id)),
            None => {}
        }
        let id = self.timers.set(at_ns, Wake::Connection(number));
        if let Some(connection) = self.connection(number) {
            connection.timer = Some((id, at_ns));
        }
    }

    fn close(&mut self, number: u64, why: Closed) {
        let place = (number & ((1 << PLACE_BITS) - 1)) as usize;
        if self.connection(number).is_none() {
            return;
        }
        let mut connection = self.connections.remove(place);
        tracing::debug!(remote = %connection.flow.remote, transport = %connection.transport, dialled = connection.dialled,
            %why, "connection closed");
        self.counters.closed[why.index()] += 1;
        // What goes on by another connection proves the same name.
        connection.flow.name.map(|id| self.names.name(id));
        if let Some((timer, _)) = connection.timer {
            self.timers.cancel(timer);
        }
        if connection.stage == Stage::Open {
            connection.link.goodbye();
        }
        let peer = (connection.transport, connection.flow.remote, connection.name.take());
        if self.by_peer.get(&peer) == Some(&number) {
            self.by_peer.remove(&peer);
        }
        if !connection.dialled {
            let source = source(connection.flow.remote.ip());
            if let Some(count) = self.per_source.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.per_source.remove(&source);
                }
            }
        }
        let users = std::mem::take(&mut connection.users);
        if connection.stage == Stage::Open {
            self.events.push_back(Event::Closed { flow: connection.full_flow(), users, why });
        } else {
            self.events.extend(users.into_iter().map(|user| Event::Failed(user, why.clone())));
        }
        if let Some(channel) = connection.link.channel() {
            let _ = self.registry.deregister(&mut channel.socket);
        }
    }
}

/// Sooner than a name that was forgotten is taken for another, nothing is sent.
fn forgotten() -> Closed {
    Closed::Tls("the name that the peer must prove was asked for too long ago".to_owned())
}

/// Whom a limit by source counts together: one IPv4 address, or the 64 bits that a customer gets of IPv6.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

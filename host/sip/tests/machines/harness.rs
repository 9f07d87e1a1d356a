//! Endpoints joined by a virtual network: time jumps to whatever is due next, so half a minute of
//! SIP timers costs microseconds. Datagrams to addresses of nobody are kept for tests to read, and
//! tests may send raw text from such an address.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use cordboard_base::{Now, Random, ms};
use cordboard_sip::endpoint::{Config, Counts, Endpoint, Event, Flow, Invite, LegId, Listener, Output};
use cordboard_sip::wire::Message;

pub(crate) const SDP_A: &str =
    "v=0\r\no=a 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
pub(crate) const SDP_B: &str =
    "v=0\r\no=b 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n";

/// What the network does to one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Pass,
    Drop,
    /// Arrives this much later than it would.
    Late(u64),
    Twice,
}

/// What is under way.
enum Parcel {
    Datagram(SocketAddr, SocketAddr, Bytes),
    Stream(u64, usize, Bytes),
    Closed(usize, Flow, Vec<Flow>),
    Failed(usize, Flow),
}

/// Decides about a datagram from its sender's number and its text.
type Filter = Box<dyn FnMut(usize, &Message) -> Fate>;

pub(crate) struct Net {
    pub(crate) ends: Vec<Endpoint>,
    pub(crate) now: Now,
    pub(crate) random: Random,
    /// One way, milliseconds: from, spread.
    pub(crate) delay_ms: (u64, u64),
    pub(crate) loss_per_mille: u64,
    pub(crate) twice_per_mille: u64,
    pub(crate) filter: Option<Filter>,
    /// Events not yet read, an end each.
    pub(crate) events: Vec<VecDeque<Event>>,
    /// What was sent to nobody.
    pub(crate) stray: VecDeque<(SocketAddr, Message)>,
    /// Every message on the wire: who sent it, and its first line.
    pub(crate) wire: Vec<(usize, String)>,
    in_flight: BTreeMap<(u64, u64), Parcel>,
    /// Open connections: the two ends, and their addresses.
    pub(crate) streams: BTreeMap<u64, [(usize, SocketAddr); 2]>,
    /// What each was dialled with; the end that dialled it stands first.
    pub(crate) dialled: BTreeMap<u64, Flow>,
    /// The flows without a connection that each end has sent on each.
    users: BTreeMap<(u64, usize), Vec<Flow>>,
    next_stream: u64,
    /// Nobody takes connections.
    pub(crate) refuse: bool,
    sequence: u64,
}

pub(crate) fn address(end: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, end as u8 + 1], 5060))
}

impl Net {
    pub(crate) fn new(ends: usize) -> Self {
        Self::with(ends, 1, |_| {})
    }

    pub(crate) fn with(ends: usize, seed: u64, tune: impl Fn(&mut Config)) -> Self {
        let end = |i: usize| {
            let mut config = Config {
                listeners: vec![Listener::udp(0, address(i))],
                shard: i as u8,
                user_agent: "test".to_owned(),
                ..Config::default()
            };
            tune(&mut config);
            Endpoint::new(config, Random::seeded(seed * 1_000 + i as u64))
        };
        Self {
            ends: (0..ends).map(end).collect(),
            now: Now { mono_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 },
            random: Random::seeded(seed),
            delay_ms: (5, 0),
            loss_per_mille: 0,
            twice_per_mille: 0,
            filter: None,
            events: (0..ends).map(|_| VecDeque::new()).collect(),
            stray: VecDeque::new(),
            wire: Vec::new(),
            in_flight: BTreeMap::new(),
            streams: BTreeMap::new(),
            dialled: BTreeMap::new(),
            users: BTreeMap::new(),
            next_stream: 0,
            refuse: false,
            sequence: 0,
        }
    }

    /// Takes everything that the endpoints want sent or heard.
    fn drain(&mut self) {
        for i in 0..self.ends.len() {
            while let Some(output) = self.ends[i].poll() {
                match output {
                    Output::Event(event) => self.events[i].push_back(event),
                    Output::Send(datagram) => {
                        let bytes = Bytes::from(datagram.bytes);
                        let message = Message::parse(bytes.clone()).expect("what we send can be read");
                        // A 400 echoes what was wrong with its request.
                        if message.status() != 400 {
                            message.check().expect("what we send is whole");
                        }
                        if datagram.flow.listener == 0 {
                            assert_eq!(datagram.flow.connection, None);
                            self.carry(i, datagram.flow.remote, bytes, &message);
                        } else {
                            self.carry_on_stream(i, datagram.flow, bytes);
                        }
                    }
                }
            }
        }
    }

    fn send_off(&mut self, delay_ms: u64, parcel: Parcel) {
        self.sequence += 1;
        self.in_flight.insert((self.now.after_ns(ms(delay_ms)), self.sequence), parcel);
    }

    /// As the shell does it: on the connection named, on one that leads there, or on a new one.
    fn carry_on_stream(&mut self, from: usize, flow: Flow, bytes: Bytes) {
        let text = String::from_utf8_lossy(&bytes);
        self.wire.push((from, text.lines().next().unwrap_or("").to_owned()));
        let far = |ends: &[(usize, SocketAddr); 2]| ends[usize::from(ends[0].0 == from)];
        let number = match flow.connection {
            Some(number) => Some(number).filter(|n| self.streams.contains_key(n)),
            None => {
                let leads = |s: &&u64| {
                    let ends = &self.streams[*s];
                    let proved = self.dialled.get(s).is_none_or(|d| d.name == flow.name);
                    ends.iter().any(|e| e.0 == from) && far(ends).1 == flow.remote && proved
                };
                let known = self.streams.keys().find(leads).copied();
                let there = (0..self.ends.len()).find(|i| address(*i) == flow.remote && *i != from);
                match (known, there) {
                    (Some(number), _) => Some(number),
                    (None, Some(there)) if !self.refuse => {
                        self.next_stream += 1;
                        let mut here = address(from);
                        here.set_port(40_000 + self.next_stream as u16);
                        self.streams.insert(self.next_stream, [(from, here), (there, flow.remote)]);
                        self.dialled.insert(self.next_stream, flow);
                        Some(self.next_stream)
                    }
                    _ => return self.send_off(self.delay_ms.0, Parcel::Failed(from, flow)),
                }
            }
        };
        // What is sent on a connection that is gone is lost; its end has been told.
        if let Some(number) = number {
            let to = far(&self.streams[&number]).0;
            let users = self.users.entry((number, from)).or_default();
            if flow.connection.is_none() && !users.contains(&flow) {
                users.push(flow);
            }
            self.send_off(self.delay_ms.0, Parcel::Stream(number, to, bytes));
        }
    }

    /// Cuts a connection: what is under way on it is lost, both ends hear of it.
    pub(crate) fn cut(&mut self, number: u64) {
        let Some(ends) = self.streams.remove(&number) else { return };
        self.in_flight.retain(|_, parcel| !matches!(parcel, Parcel::Stream(n, ..) if *n == number));
        for i in 0..2 {
            let flow = Flow { listener: 1, remote: ends[1 - i].1, connection: Some(number), name: None };
            let users = self.users.remove(&(number, ends[i].0)).unwrap_or_default();
            self.send_off(self.delay_ms.0, Parcel::Closed(ends[i].0, flow, users));
        }
    }

    fn carry(&mut self, from: usize, to: SocketAddr, bytes: Bytes, message: &Message) {
        let text = String::from_utf8_lossy(&bytes);
        self.wire.push((from, text.lines().next().unwrap_or("").to_owned()));
        let mut fate = self.filter.as_mut().map_or(Fate::Pass, |f| f(from, message));
        if fate == Fate::Pass && self.random.below(1000) < self.loss_per_mille {
            fate = Fate::Drop;
        }
        if fate == Fate::Pass && self.random.below(1000) < self.twice_per_mille {
            fate = Fate::Twice;
        }
        let copies = match fate {
            Fate::Drop => 0,
            Fate::Twice => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let mut delay_ms = self.delay_ms.0 + self.random.below(self.delay_ms.1 + 1);
            if let Fate::Late(more) = fate {
                delay_ms += more;
            }
            self.send_off(delay_ms, Parcel::Datagram(address(from), to, bytes.clone()));
        }
    }

    /// Sends raw text, lines ended as they are in the source, from an address of nobody.
    pub(crate) fn raw(&mut self, from: &str, to: usize, text: &str) {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let head = head.trim().replace('\n', "\r\n");
        let text = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let from = from.parse().expect("an address");
        let now = self.now;
        self.ends[to].receive(now, Flow::udp(0, from), Bytes::from(text));
        self.drain();
    }

    /// One step: the next datagram or timer. False when nothing is left to happen.
    pub(crate) fn step(&mut self, until_ns: u64) -> bool {
        self.drain();
        let packet = self.in_flight.keys().next().map(|(due, _)| *due);
        let timer = self.ends.iter_mut().filter_map(Endpoint::next_deadline_ns).min();
        let next = match (packet, timer) {
            (Some(p), Some(t)) => p.min(t),
            (Some(p), None) => p,
            (None, Some(t)) => t,
            (None, None) => return false,
        };
        if next > until_ns {
            return false;
        }
        if next > self.now.mono_ns {
            self.now = self.now.plus_ns(next - self.now.mono_ns);
        }
        if packet.is_some_and(|p| timer.is_none_or(|t| p <= t)) {
            match self.in_flight.pop_first().expect("looked at above").1 {
                Parcel::Datagram(from, to, bytes) => match (0..self.ends.len()).find(|i| address(*i) == to) {
                    Some(end) => self.ends[end].receive(self.now, Flow::udp(0, from), bytes),
                    None => self.stray.push_back((to, Message::parse(bytes).expect("readable"))),
                },
                Parcel::Stream(number, end, bytes) => {
                    if let Some(ends) = self.streams.get(&number) {
                        let remote = ends[usize::from(ends[0].0 == end)].1;
                        let dialled = self.dialled.get(&number).filter(|_| ends[0].0 == end);
                        let name = dialled.and_then(|d| d.name);
                        let flow = Flow { listener: 1, remote, connection: Some(number), name };
                        self.ends[end].receive(self.now, flow, bytes);
                    }
                }
                Parcel::Closed(end, flow, users) => self.ends[end].flow_closed(self.now, flow, &users),
                Parcel::Failed(end, flow) => self.ends[end].flow_failed(self.now, flow),
            }
        } else {
            for end in &mut self.ends {
                end.tick(self.now);
            }
        }
        self.drain();
        true
    }

    pub(crate) fn run_ms(&mut self, for_ms: u64) {
        let until = self.now.after_ns(ms(for_ms));
        while self.step(until) {}
        if until > self.now.mono_ns {
            self.now = self.now.plus_ns(until - self.now.mono_ns);
        }
    }

    /// The next event of an end, within `within_ms`.
    pub(crate) fn next(&mut self, end: usize, within_ms: u64) -> Option<Event> {
        let until = self.now.after_ns(ms(within_ms));
        loop {
            self.drain();
            if let Some(event) = self.events[end].pop_front() {
                return Some(event);
            }
            if !self.step(until) {
                return self.events[end].pop_front();
            }
        }
    }

    /// The events of an end that are there now.
    pub(crate) fn drained(&mut self, end: usize) -> Vec<Event> {
        self.drain();
        self.events[end].drain(..).collect()
    }

    /// 64 seconds and more in which nobody does anything: nothing may be left.
    pub(crate) fn assert_nothing_left(&mut self) {
        self.run_ms(100_000);
        for (i, end) in self.ends.iter().enumerate() {
            let Counts { legs, transactions, timers, requests, .. } = end.counts();
            assert_eq!((legs, transactions, timers, requests), (0, 0, 0, 0), "end {i} leaks");
        }
    }

    pub(crate) fn invite(&self, to: usize) -> Invite {
        Invite {
            listener: 0,
            target: format!("sip:bob@{}", address(to)),
            from: "\"Alice\" <sip:alice@10.0.0.1>".to_owned(),
            to: format!("<sip:bob@{}>", address(to)),
            sdp: Some(SDP_A.to_owned()),
            ..Invite::default()
        }
    }

    pub(crate) fn place(&mut self, from: usize, invite: Invite) -> LegId {
        let now = self.now;
        self.ends[from].invite(now, invite).expect("placed")
    }

    /// End 0 calls end 1 and is answered and acknowledged.
    pub(crate) fn established(&mut self) -> (LegId, LegId) {
        let a = self.place(0, self.invite(1));
        let b = self.incoming(1);
        let now = self.now;
        self.ends[1].answer(now, b, Some(SDP_B));
        assert!(matches!(self.next(0, 10_000), Some(Event::Answered { leg, .. }) if leg == a));
        assert!(matches!(self.next(1, 10_000), Some(Event::Confirmed { leg, .. }) if leg == b));
        (a, b)
    }

    /// The leg of the INVITE that comes in next.
    pub(crate) fn incoming(&mut self, end: usize) -> LegId {
        match self.next(end, 10_000) {
            Some(Event::Incoming { leg, .. }) => leg,
            other => panic!("expected an incoming call, got {other:?}"),
        }
    }

    /// How many messages whose first line begins with `start` an end has sent.
    pub(crate) fn sent(&self, end: usize, start: &str) -> usize {
        self.wire.iter().filter(|(from, line)| *from == end && line.starts_with(start)).count()
    }
}

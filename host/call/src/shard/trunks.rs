//! What trunks do beside calls: registrations are kept up and destinations asked by OPTIONS; and the
//! choice of a destination when a call leaves.
//!
//! Called by the shard for its timers, for responses to requests of its own, and by `dial`. Each trunk
//! that calls leave by has one state, from the reload that brings its terms to the one that changes them; then it stays
//! until its registration is taken back, under no name.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use cordboard_base::{Map, Now, TimerId, ms, secs};
use cordboard_sip::endpoint::{Flow, OutRequest, RequestFailure, Transport};
use cordboard_sip::wire::{Message, Uri};
use serde::{Deserialize, Serialize};

use super::Output;
use super::core::{Core, Timer};
use super::names::{Asker, Way};
use crate::Name;
use crate::bridge::Dial;
use crate::trunk::health::Health;
use crate::trunk::hunt::{self, escape_user};
use crate::trunk::register::{self, Registration, Rest, State};
use crate::trunk::terms::{Outbound, Register};
use crate::trunk::{Refused, Totals};

/// An address that a trunk's requests went to is known for so long.
const KNOWN_S: u64 = 3_600;
/// So many of them at most; one more is a stranger until others are forgotten.
const MAX_KNOWN: usize = 4_096;

/// Why a trunk wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrunkWake {
    /// The next REGISTER.
    Register,
    /// The next OPTIONS to the destination of that number.
    Probe(usize),
}

/// A request of ours that waits for its response.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Register(u64),
    Probe(u64, usize),
}

#[derive(Debug, Default)]
struct Peer {
    health: Health,
    /// The OPTIONS without an answer.
    pending: Option<u64>,
    timer: Option<TimerId>,
    calls: u64,
    failed: u64,
}

#[derive(Debug)]
struct TrunkState {
    name: Name,
    out: Outbound,
    /// The secret in the contact of its registration.
    line: String,
    registration: Option<Registration>,
    /// The registrar's name is being asked for.
    resolving: bool,
    /// A reload has ended it.
    leaving: bool,
    /// The state whose binding has to be taken back first, since it is at the same registrar.
    after: Option<u64>,
    timer: Option<TimerId>,
    peers: Vec<Peer>,
}

/// All of them, by a number that is never used again.
#[derive(Debug, Default)]
pub(super) struct Trunks {
    states: Map<u64, TrunkState>,
    ids: Map<Name, u64>,
    asked: Map<u64, Asked>,
    next: u64,
    /// Peers that have registered here.
    bound: Map<Name, Bound>,
    bound_at: Map<SocketAddr, Name>,
    /// Where requests of trunks went, and until when (monotonic) that makes it known.
    called: Map<IpAddr, u64>,
}

/// Where a peer that registers is.
#[derive(Debug)]
pub(super) struct Bound {
    /// As it has registered it.
    pub(super) contact: String,
    /// The same without its user, to be dialled.
    uri: String,
    from: Flow,
    until_ns: u64,
}

impl Bound {
    pub(super) fn left_s(&self, now: Now) -> u64 {
        self.until_ns.saturating_sub(now.mono_ns).div_ceil(1_000_000_000)
    }
}

/// A registration of ours that an INVITE was sent to.
#[derive(Debug)]
pub(super) struct ToRegistration {
    pub(super) trunk: Name,
    pub(super) user: String,
}

impl Trunks {
    /// Whose registration an INVITE was sent to.
    pub(super) fn registered(&self, request: &Message) -> Option<ToRegistration> {
        let line = crate::trunk::line_of(request)?;
        let state = self.states.values().find(|s| s.registration.is_some() && s.line == line)?;
        let user = state.out.register.as_ref()?.user.clone();
        Some(ToRegistration { trunk: state.name.clone(), user })
    }

    /// Notes that a trunk's request goes there, by its configuration or by what DNS says of it.
    pub(super) fn calls(&mut self, at: IpAddr, now: Now) {
        let until_ns = now.after_ns(secs(KNOWN_S));
        if let Some(known) = self.called.get_mut(&at) {
            *known = until_ns;
            return;
        }
        if self.called.len() >= MAX_KNOWN {
            self.called.retain(|_, until_ns| *until_ns > now.mono_ns);
        }
        if self.called.len() < MAX_KNOWN {
            self.called.insert(at, until_ns);
        }
    }

    /// Whether a trunk's requests went to this address lately.
    pub(super) fn has_called(&self, at: IpAddr, now: Now) -> bool {
        self.called.get(&at).is_some_and(|until_ns| *until_ns > now.mono_ns)
    }

    /// The state that still has to take a binding of the same address-of-record back: the contact may be the same, too.
    fn leaves(&self, terms: &Register) -> Option<u64> {
        let same = |r: &Register| r.registrar == terms.registrar && r.user == terms.user;
        let leaves = |s: &TrunkState| s.leaving && s.out.register.as_ref().is_some_and(same);
        self.states.iter().filter(|(_, s)| leaves(s)).map(|(id, _)| *id).max()
    }

    /// The trunk whose peer has registered by this way: over the same connection, if it was one.
    pub(super) fn peer_at(&self, flow: Flow, now: Now) -> Option<&Name> {
        let name = self.bound_at.get(&flow.remote)?;
        self.bound(name, now).filter(|b| b.from == flow).map(|_| name)
    }

    pub(super) fn bound(&self, trunk: &Name, now: Now) -> Option<&Bound> {
        self.bound.get(trunk).filter(|b| b.until_ns > now.mono_ns)
    }

    /// The way to a peer that has registered, when `uri` is its own: back on the connection that it came by.
    pub(super) fn way_to_peer(&self, trunk: &Name, uri: &str, now: Now) -> Option<Flow> {
        self.bound(trunk, now).filter(|b| b.uri == uri).map(|b| b.from)
    }

    /// Timers that run all the time.
    pub(super) fn timers(&self) -> usize {
        let of = |s: &TrunkState| {
            usize::from(s.timer.is_some()) + s.peers.iter().filter(|p| p.timer.is_some()).count()
        };
        self.states.values().map(of).sum()
    }

    fn by_name(&mut self, name: &Name) -> Option<&mut TrunkState> {
        self.states.get_mut(self.ids.get(name)?)
    }
}

/// A trunk, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrunkView {
    /// Its name.
    pub trunk: Name,
    /// Calls that came in by it and are up.
    pub calls_in: u32,
    /// Calls that left by it and are up.
    pub calls_out: u32,
    /// Calls at once, both directions.
    pub max_calls: u32,
    /// Calls in that were admitted since the start.
    pub admitted: u64,
    /// Calls in that a limit has refused.
    pub refused: u64,
    /// Calls that went out.
    pub out: u64,
    /// Calls that a limit has kept from going out here.
    pub out_full: u64,
    /// Where its peer has registered from, if it is one that registers here.
    pub peer: Option<String>,
    /// Its registration, if it keeps one.
    pub registration: Option<RegistrationView>,
    /// Where calls out go.
    pub destinations: Vec<DestinationView>,
}

/// A registration, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistrationView {
    /// `asking`, `registered`, `failed` or `removed`.
    pub state: String,
    /// Seconds until the binding ends unless it is refreshed.
    pub expires_in_s: Option<u64>,
    /// The last final status; 0 for none.
    pub status: Option<u16>,
    /// Why it failed.
    pub reason: String,
    /// Failures in a row.
    pub failures: u32,
}

/// A destination, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DestinationView {
    /// As configured.
    pub uri: String,
    /// As configured.
    pub priority: u16,
    /// As configured.
    pub weight: u16,
    /// Whether calls are sent there before those that do not serve.
    pub serves: bool,
    /// The last final status heard from it; 0 for silence.
    pub last_status: Option<u16>,
    /// Calls sent there.
    pub calls: u64,
    /// Those that it could not serve.
    pub failed: u64,
}

impl Core {
    /// Begins trunks that are new, ends those that have gone; one whose terms have changed is both.
    pub(super) fn set_trunks(&mut self) {
        let model = self.model.clone();
        let ids: Vec<u64> = self.trunks.states.keys().copied().collect();
        for id in ids {
            let Some(state) = self.trunks.states.get_mut(&id).filter(|s| !s.leaving) else { continue };
            let same = model.trunk(&state.name).and_then(|t| t.out.as_ref()).is_some_and(|o| *o == state.out);
            if !same {
                state.leaving = true;
                self.trunks.ids.remove(&state.name);
                self.end_trunk(id);
            }
        }
        let gone: Vec<Name> = self.trunks.bound.keys().cloned().collect();
        for name in gone.iter().filter(|n| model.trunk(n).is_none_or(|t| t.peer.is_none())) {
            self.unbind_peer(name);
        }
        for trunk in &model.trunks {
            let Some(out) = trunk.out.clone().filter(|_| !self.trunks.ids.contains_key(&trunk.name)) else {
                continue;
            };
            self.trunks.next += 1;
            let id = self.trunks.next;
            let registration =
                out.register.as_ref().map(|r| Registration::new(r.expires_s, &mut self.random));
            let state = TrunkState {
                name: trunk.name.clone(),
                line: self.random.token(),
                after: out.register.as_ref().and_then(|r| self.trunks.leaves(r)),
                registration,
                resolving: false,
                leaving: false,
                timer: None,
                peers: out.destinations.iter().map(|_| Peer::default()).collect(),
                out,
            };
            let registers = state.registration.is_some() && state.after.is_none();
            let probes = state.out.health.is_some();
            let peers = state.peers.len();
            self.trunks.ids.insert(trunk.name.clone(), id);
            self.trunks.states.insert(id, state);
            if self.draining {
                continue;
            }
            if registers {
                let wait_ns = register::first_wait_ns(&mut self.random);
                self.trunk_timer(id, TrunkWake::Register, wait_ns);
            }
            for peer in (0..peers).filter(|_| probes) {
                let wait_ns = register::first_wait_ns(&mut self.random);
                self.trunk_timer(id, TrunkWake::Probe(peer), wait_ns);
            }
        }
    }

    /// Takes bindings back and asks no more: carriers send their calls elsewhere from now on.
    pub(super) fn rest_trunks(&mut self) {
        let ids: Vec<u64> = self.trunks.states.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end_trunk(id));
    }

    fn end_trunk(&mut self, id: u64) {
        let Some(state) = self.trunks.states.get_mut(&id) else { return };
        let timers = state.peers.iter_mut().filter_map(|p| p.timer.take()).chain(state.timer.take());
        for timer in timers {
            self.timers.cancel(timer);
        }
        if state.leaving {
            // Of what is still asked nobody wants to know.
            state.peers.clear();
            state.out.destinations.clear();
        }
        if let Some(registration) = &mut state.registration {
            registration.remove();
        }
        self.take_back(id);
    }

    /// Takes a registration that was removed back, as far as that is still to be done, and forgets a state of which
    /// nothing is left.
    fn take_back(&mut self, id: u64) {
        let Some(state) = self.trunks.states.get(&id) else { return };
        let (resolving, leaving) = (state.resolving, state.leaving);
        match state.registration.as_ref().map_or(Rest::Nothing, Registration::rest) {
            _ if resolving => {}
            Rest::Wait => {}
            Rest::TakeBack => self.send_register(id),
            Rest::Nothing if leaving => {
                self.trunks.states.remove(&id);
                let waits = self.trunks.states.iter_mut().filter(|(_, s)| s.after == Some(id));
                let next: Vec<u64> = waits
                    .map(|(next, state)| {
                        state.after = None;
                        *next
                    })
                    .collect();
                if self.draining {
                    return;
                }
                for next in next {
                    let wait_ns = register::first_wait_ns(&mut self.random);
                    self.trunk_timer(next, TrunkWake::Register, wait_ns);
                }
            }
            Rest::Nothing => {}
        }
    }

    fn trunk_timer(&mut self, id: u64, wake: TrunkWake, after_ns: u64) {
        let Some(state) = self.trunks.states.get_mut(&id) else { return };
        let slot = match wake {
            TrunkWake::Register => &mut state.timer,
            TrunkWake::Probe(peer) => match state.peers.get_mut(peer) {
                Some(peer) => &mut peer.timer,
                None => return,
            },
        };
        if let Some(old) = slot.take() {
            self.timers.cancel(old);
        }
        *slot = Some(self.timers.set(self.now.after_ns(after_ns), Timer::Trunk(id, wake)));
    }

    pub(super) fn trunk_wakes(&mut self, id: u64, wake: TrunkWake) {
        let Some(state) = self.trunks.states.get_mut(&id) else { return };
        match wake {
            TrunkWake::Register => {
                state.timer = None;
                self.send_register(id);
            }
            TrunkWake::Probe(at) => {
                let Some(every_ms) = state.out.health.map(|h| h.every_ms) else { return };
                let Some(peer) = state.peers.get_mut(at) else { return };
                peer.timer = None;
                if peer.pending.take().is_some() {
                    self.peer_failed(id, at, 0, None);
                }
                self.send_probe(id, at);
                self.trunk_timer(id, TrunkWake::Probe(at), ms(every_ms));
            }
        }
    }

    // ---- Peers that register here ----

    pub(super) fn bind_peer(&mut self, trunk: &Name, contact: &str, from: Flow, expires_s: u32) {
        let new = !self.trunks.bound.contains_key(trunk);
        self.forget_peer(trunk);
        let uri = without_user(contact);
        let until_ns = self.now.after_ns(secs(expires_s.into()));
        let bound = Bound { contact: contact.to_owned(), uri, from, until_ns };
        self.trunks.bound.insert(trunk.clone(), bound);
        self.trunks.bound_at.insert(from.remote, trunk.clone());
        if new {
            let text = format!("trunk {trunk}: its peer has registered from {}", from.remote);
            self.out.push(Output::Notice { well: true, text });
        }
    }

    pub(super) fn unbind_peer(&mut self, trunk: &Name) {
        if self.forget_peer(trunk) {
            let text = format!("trunk {trunk}: its peer has left");
            self.out.push(Output::Notice { well: false, text });
        }
    }

    fn forget_peer(&mut self, trunk: &Name) -> bool {
        let Some(old) = self.trunks.bound.remove(trunk) else { return false };
        if self.trunks.bound_at.get(&old.from.remote) == Some(trunk) {
            self.trunks.bound_at.remove(&old.from.remote);
        }
        true
    }

    /// A connection is gone: the peer that registered over it cannot be reached until it comes again.
    pub(super) fn peer_cut_off(&mut self, connection: u64) {
        let mut bound = self.trunks.bound.iter();
        let cut = bound.find(|(_, b)| b.from.connection == Some(connection)).map(|(name, _)| name.clone());
        cut.inspect(|trunk| self.unbind_peer(trunk));
    }

    // ---- Requests of our own ----

    fn send_register(&mut self, id: u64) {
        let Some(state) = self.trunks.states.get_mut(&id) else { return };
        let Some(terms) = &state.out.register else { return };
        let uri = terms.proxy.as_ref().unwrap_or(&terms.registrar).clone();
        state.resolving = true;
        match self.way_to(&uri, Asker::Register(id)) {
            Way::Known(addresses) => self.register_resolved(id, Ok(addresses)),
            Way::Asked(_) => {}
            Way::Lost(why) => self.register_resolved(id, Err(why)),
        }
    }

    /// Where the registrar is. After failures its addresses are tried in turn.
    pub(super) fn register_resolved(&mut self, id: u64, answer: Result<VecDeque<Flow>, String>) {
        let Some(state) = self.trunks.states.get_mut(&id) else { return };
        state.resolving = false;
        let Some(registration) = &state.registration else { return };
        if *registration.state() == State::Removed && registration.rest() != Rest::TakeBack {
            // It was to be asked for when it was removed.
            return self.take_back(id);
        }
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                let at = addresses[registration.failures() as usize % addresses.len()];
                self.send_register_to(id, at);
            }
            Ok(_) => self.register_outcome(id, Err("the registrar's name has no address")),
            Err(why) => self.register_outcome(id, Err(&why)),
        }
    }

    fn send_register_to(&mut self, id: u64, at: Flow) {
        let Some(listener) = self.config.listeners.iter().find(|l| l.id == at.listener) else { return };
        // What comes for the contact comes by the same transport.
        let (local, transport) = (listener.local, listener.transport);
        let by = if transport == Transport::Udp {
            String::new()
        } else {
            format!(";transport={}", transport.param())
        };
        let Some(state) = self.trunks.states.get_mut(&id) else { return };
        let (Some(terms), Some(registration)) = (&state.out.register, &mut state.registration) else {
            return;
        };
        let request = registration.request();
        let mut user = String::new();
        escape_user(&mut user, &terms.user);
        let host = host_of(&terms.registrar);
        let aor = format!("<sip:{user}@{host}>");
        let contact = if terms.bulk {
            // RFC 6140 5.2: no user, and all numbers at once.
            format!("<sip:{local};bnc{by}>")
        } else {
            format!("<sip:{user}@{local};line={}{by}>", state.line)
        };
        let mut headers =
            vec![("Contact".to_owned(), contact), ("Expires".to_owned(), request.expires_s.to_string())];
        if terms.bulk {
            headers.extend(["Require", "Proxy-Require"].map(|n| (n.to_owned(), "gin".to_owned())));
        }
        let request = OutRequest {
            listener: at.listener,
            method: "REGISTER".to_owned(),
            target: terms.registrar.clone(),
            destination: Some(at.remote),
            name: at.name,
            from: aor.clone(),
            to: aor,
            call_id: Some(request.call_id),
            cseq: Some(request.cseq),
            headers,
            credentials: credentials(&state.out),
            ..OutRequest::default()
        };
        self.trunks.calls(at.remote.ip(), self.now);
        let number = self.endpoint.request(self.now, request);
        self.trunks.asked.insert(number, Asked::Register(id));
        self.pump();
    }

    fn send_probe(&mut self, id: u64, at: usize) {
        let destination = self.trunks.states.get(&id).and_then(|s| s.out.destinations.get(at));
        let Some(uri) = destination.map(|d| d.uri.clone()) else { return };
        match self.way_to(&uri, Asker::Probe(id, at)) {
            Way::Known(addresses) => self.probe_resolved(id, at, Ok(addresses)),
            Way::Asked(_) => {}
            Way::Lost(why) => self.probe_resolved(id, at, Err(why)),
        }
    }

    /// Where a destination is: the first of its addresses speaks for it.
    pub(super) fn probe_resolved(&mut self, id: u64, at: usize, answer: Result<VecDeque<Flow>, String>) {
        match answer.ok().and_then(|mut addresses| addresses.pop_front()) {
            Some(to) => self.send_probe_to(id, at, to),
            None => self.peer_failed(id, at, 0, None),
        }
    }

    fn send_probe_to(&mut self, id: u64, at: usize, to: Flow) {
        let from = self.caller_header(to.listener, "cordboard", "");
        let Some(state) = self.trunks.states.get(&id) else { return };
        let Some(target) = state.out.destinations.get(at).map(|d| d.uri.clone()) else { return };
        let request = OutRequest {
            listener: to.listener,
            method: "OPTIONS".to_owned(),
            to: format!("<{target}>"),
            target,
            destination: Some(to.remote),
            connection: to.connection,
            name: to.name,
            from,
            headers: vec![("Accept".to_owned(), "application/sdp".to_owned())],
            credentials: credentials(&state.out),
            ..OutRequest::default()
        };
        self.trunks.calls(to.remote.ip(), self.now);
        let number = self.endpoint.request(self.now, request);
        self.trunks.asked.insert(number, Asked::Probe(id, at));
        if let Some(peer) = self.trunks.states.get_mut(&id).and_then(|s| s.peers.get_mut(at)) {
            peer.pending = Some(number);
        }
        self.pump();
    }

    /// The outcome of a request outside calls; of any other nothing is to be done.
    pub(super) fn trunk_heard(&mut self, request: u64, result: Result<Message, RequestFailure>) {
        match self.trunks.asked.remove(&request) {
            None => {}
            Some(Asked::Register(id)) => self.register_heard(id, &result),
            Some(Asked::Probe(id, at)) => {
                let peer = self.trunks.states.get_mut(&id).and_then(|s| s.peers.get_mut(at));
                // One that is late was counted as silence.
                if peer.is_none_or(|p| p.pending != Some(request)) {
                    return;
                }
                if let Some(peer) = self.trunks.states.get_mut(&id).and_then(|s| s.peers.get_mut(at)) {
                    peer.pending = None;
                }
                match result {
                    // Whoever answers is there, whatever it thinks of OPTIONS, unless it says that it cannot serve.
                    Ok(r) if !matches!(r.status(), 408 | 502..=504) => self.peer_answered(id, at, r.status()),
                    Ok(r) => self.peer_failed(id, at, r.status(), retry_after(&r)),
                    Err(_) => self.peer_failed(id, at, 0, None),
                }
            }
        }
    }

    fn register_heard(&mut self, id: u64, result: &Result<Message, RequestFailure>) {
        let outcome = match result {
            Ok(response) => Ok(response),
            Err(RequestFailure::Timeout) => Err("the registrar does not answer"),
            Err(RequestFailure::NoDestination) => Err("the registrar's name has no address"),
            Err(RequestFailure::Full) => Err("this node has too many transactions"),
            Err(RequestFailure::Unreachable) => Err("no connection to the registrar"),
            Err(RequestFailure::LegGone | RequestFailure::BadValue) => Err("the REGISTER cannot be written"),
        };
        self.register_outcome(id, outcome);
    }

    fn register_outcome(&mut self, id: u64, outcome: Result<&Message, &str>) {
        let (now, line) = (self.now, self.trunks.states.get(&id).map(|s| s.line.clone()).unwrap_or_default());
        let Some(state) = self.trunks.states.get_mut(&id) else { return };
        let bulk = state.out.register.as_ref().is_some_and(|r| r.bulk);
        let ours =
            |uri: &Uri<'_>| if bulk { uri.param("bnc").is_some() } else { uri.param("line") == Some(&line) };
        let Some(registration) = &mut state.registration else { return };
        let before = registration.state().clone();
        let wait_ms = registration.outcome(now, &mut self.random, outcome, ours);
        if before == State::Removed {
            return self.take_back(id);
        }
        let name = &state.name;
        let notice = match (&before, registration.state()) {
            (State::Registered { .. }, State::Registered { .. }) => None,
            (_, State::Registered { .. }) => Some((true, format!("trunk {name}: registered"))),
            (State::Failed { reason: old, .. }, State::Failed { reason, .. }) if old == reason => None,
            (_, State::Failed { reason, .. }) => {
                Some((false, format!("trunk {name}: the registration failed: {reason}")))
            }
            _ => None,
        };
        if let Some((well, text)) = notice {
            self.out.push(Output::Notice { well, text });
        }
        if let Some(wait_ms) = wait_ms.filter(|_| !self.draining) {
            self.trunk_timer(id, TrunkWake::Register, ms(wait_ms));
        }
    }

    // ---- What is known of destinations ----

    fn peer_answered(&mut self, id: u64, at: usize, status: u16) {
        let Some(state) = self.trunks.states.get_mut(&id) else { return };
        let Some(peer) = state.peers.get_mut(at) else { return };
        if peer.health.answered(status, state.out.health.as_ref()) == Some(true) {
            let text = format!("trunk {}: {} is back", state.name, state.out.destinations[at].uri);
            self.out.push(Output::Notice { well: true, text });
        }
    }

    fn peer_failed(&mut self, id: u64, at: usize, status: u16, retry_after_s: Option<u32>) {
        let now = self.now;
        let Some(state) = self.trunks.states.get_mut(&id) else { return };
        let Some(peer) = state.peers.get_mut(at) else { return };
        if peer.health.failed(now, status, retry_after_s, state.out.health.as_ref()) == Some(false) {
            let how = if status == 0 { "is silent".to_owned() } else { format!("answers {status}") };
            let text = format!(
                "trunk {}: {} {how}: calls try others first",
                state.name, state.out.destinations[at].uri
            );
            self.out.push(Output::Notice { well: false, text });
        }
    }

    /// What a call has met at a destination: a final or provisional status, 0 for silence.
    pub(super) fn trunk_met(&mut self, trunk: &Name, uri: &str, status: u16, response: Option<&Message>) {
        let Some(id) = self.trunks.ids.get(trunk).copied() else { return };
        let Some(state) = self.trunks.states.get_mut(&id) else { return };
        let Some(at) = state.out.destinations.iter().position(|d| d.uri == uri) else { return };
        let cannot = matches!(status, 0 | 408 | 500..=599);
        if cannot && let Some(peer) = state.peers.get_mut(at) {
            peer.failed += 1;
        }
        match status {
            0 | 408 | 502..=504 => self.peer_failed(id, at, status, response.and_then(retry_after)),
            _ => self.peer_answered(id, at, status),
        }
    }

    // ---- The choice ----

    /// Enters a trunk for a call: it counts there until [`Self::leave_trunk`]. The order of its destinations.
    ///
    /// # Errors
    /// Why the call cannot leave here.
    pub(super) fn enter_trunk(&mut self, name: &Name, tenant: &str) -> Result<VecDeque<String>, String> {
        let model = self.model.clone();
        let none = || format!("no call of this tenant leaves by a trunk `{name}`");
        let trunk = model.trunk(name).ok_or_else(none)?;
        let out = trunk.out.as_ref().filter(|out| out.serves(tenant)).ok_or_else(none)?;
        self.admission.admit_out(self.now, trunk, out).map_err(|refused| match refused {
            Refused::TrunkRate => format!("trunk {name}: has had its calls of this second"),
            _ => format!("trunk {name}: all its channels are in use"),
        })?;
        if trunk.peer.is_some() {
            let Some(bound) = self.trunks.bound(name, self.now) else {
                self.admission.release_out(name);
                return Err(format!("trunk {name}: its peer has not registered"));
            };
            return Ok(VecDeque::from([bound.uri.clone()]));
        }
        let (now, random) = (self.now, &mut self.random);
        let Some(state) = self.trunks.by_name(name) else { return Err(none()) };
        Ok(hunt::order(
            &out.destinations,
            |i| state.peers.get(i).is_some_and(|p| p.health.serves(now)),
            random,
        ))
    }

    /// The call does not count at its trunk any more.
    pub(super) fn leave_trunk(&mut self, dial: &mut Dial) {
        if let Some(trunk) = dial.hunt.at.take() {
            self.admission.release_out(&trunk);
        }
    }

    /// A call is sent to a destination.
    pub(super) fn trunk_called(&mut self, trunk: &Name, uri: &str) {
        if let Some(state) = self.trunks.by_name(trunk)
            && let Some(at) = state.out.destinations.iter().position(|d| d.uri == uri)
            && let Some(peer) = state.peers.get_mut(at)
        {
            peer.calls += 1;
        }
    }

    pub(super) fn trunk_views(&self, now: Now) -> Vec<TrunkView> {
        let view = |trunk: &crate::model::Trunk| {
            let (calls_in, calls_out, totals) = self.admission.of(&trunk.name);
            let Totals { admitted, refused, out, out_full } = totals;
            let state = self.trunks.ids.get(&trunk.name).and_then(|id| self.trunks.states.get(id));
            TrunkView {
                trunk: trunk.name.clone(),
                calls_in,
                calls_out,
                max_calls: trunk.max_calls,
                admitted,
                refused,
                out,
                out_full,
                peer: self.trunks.bound(&trunk.name, now).map(|b| b.from.remote.to_string()),
                registration: state.and_then(|s| s.registration.as_ref()).map(|r| registration_view(r, now)),
                destinations: state.map_or_else(Vec::new, |s| {
                    let of = |(d, p): (&crate::trunk::terms::Destination, &Peer)| DestinationView {
                        uri: d.uri.clone(),
                        priority: d.priority,
                        weight: d.weight,
                        serves: p.health.serves(now),
                        last_status: p.health.last(),
                        calls: p.calls,
                        failed: p.failed,
                    };
                    s.out.destinations.iter().zip(&s.peers).map(of).collect()
                }),
            }
        };
        self.model.trunks.iter().map(view).collect()
    }
}

fn registration_view(registration: &Registration, now: Now) -> RegistrationView {
    let (state, status, reason, expires_in_s) = match registration.state() {
        State::Asking => ("asking", None, String::new(), None),
        State::Registered { until_ns } => {
            let left_s = until_ns.saturating_sub(now.mono_ns) / 1_000_000_000;
            ("registered", Some(200), String::new(), Some(left_s))
        }
        State::Failed { status, reason } => ("failed", Some(*status), reason.clone(), None),
        State::Removed => ("removed", None, String::new(), None),
    };
    let failures = registration.failures();
    RegistrationView { state: state.to_owned(), expires_in_s, status, reason, failures }
}

pub(super) fn credentials(out: &Outbound) -> Option<cordboard_sip::endpoint::Credentials> {
    out.credentials
        .as_ref()
        .map(|c| cordboard_sip::endpoint::Credentials { user: c.user.clone(), password: c.password.clone() })
}

fn retry_after(response: &Message) -> Option<u32> {
    let value = response.header(cordboard_sip::wire::Name::RetryAfter)?.trim_start();
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    value[..end].parse().ok()
}

/// A contact as a destination: without its user, and without what is the registrar's alone (RFC 6140 5.2).
fn without_user(contact: &str) -> String {
    let (scheme, rest) = contact.split_once(':').unwrap_or(("sip", contact));
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    let host = host.split('?').next().unwrap_or(host);
    let kept: Vec<&str> = host.split(';').filter(|p| !p.eq_ignore_ascii_case("bnc")).collect();
    format!("{scheme}:{}", kept.join(";"))
}

/// The host of a URI, as it stands in an address-of-record: without port and parameters.
fn host_of(uri: &str) -> String {
    match Uri::parse(uri) {
        Ok(uri) if uri.host.contains(':') => format!("[{}]", uri.host),
        Ok(uri) => uri.host.to_owned(),
        Err(_) => String::new(),
    }
}

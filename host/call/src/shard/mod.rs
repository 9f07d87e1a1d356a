//! The shard: one owner of many calls. It joins the stations of a call over one SIP stack, one
//! media plane and one queue of timers, and it is the judge of every offer.
//!
//! Called by the shell of a signalling thread, or by the simulation, with one input at a time.
//! Never waits, never runs a plugin, and never looks over all calls: each input finds its call by
//! a table.
//!
//! ```text
//!   datagram --> endpoint --event--> table of legs ---+
//!   media event -------------------> table of media --+--> one call --> endpoint, media, bus, script
//!   bus, script, router, timer ----> their tables ----+    (arrive, session, verbs, offer, dial, end)
//! ```

mod arrive;
mod call;
mod core;
mod dial;
mod end;
mod names;
mod offer;
mod requests;
mod session;
mod transfer;
mod trunks;
mod verbs;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use cordboard_base::{Id, Now, Random};
use cordboard_media::clip::Clip;
use cordboard_media::control;
use cordboard_sip::endpoint::{self, DialogRecord, End, Event, Flow, LegId, RequestFailure};
use cordboard_sip::transport::Hop;
use serde::Serialize;
use slab::Slab;

use crate::Name;
use crate::facts::Fact;
use crate::messages::{CallEnded, Envelope, ToDomain, ToShard};
use crate::model::Model;
use crate::policy::Fault;
use crate::redirect::Note;
use crate::router::{Incoming, Route};
use crate::script::{CallInfo, Failure, FromScript, ScriptId, ToScript};
use crate::timeline::Step;
use crate::trunk::passages;
use call::{Call, CallKey, Side, Wake};
use core::{Core, Timer};

pub use trunks::{DestinationView, RegistrationView, TrunkView};

/// What happens to a shard.
#[derive(Debug)]
pub enum Input {
    /// A datagram arrived, or a whole message of a stream.
    Datagram {
        /// Through which listener and connection, from where.
        flow: Flow,
        /// What.
        bytes: Bytes,
    },
    /// The other end of a connection has proved its names by a certificate. Before its first message.
    FlowKnown {
        /// Which.
        flow: Flow,
        /// In lower case.
        names: Arc<[String]>,
    },
    /// A connection has closed.
    FlowClosed {
        /// Which.
        flow: Flow,
        /// The flows without a connection that it was chosen for.
        users: Vec<Flow>,
    },
    /// No connection could be made for a send that named none.
    FlowFailed {
        /// As the send had it.
        flow: Flow,
    },
    /// The domain says.
    Bus(Envelope<ToShard>),
    /// The media plane says.
    Media(control::Event),
    /// The router plugin has answered, or failed to.
    Routed {
        /// The question's number.
        ask: u64,
        /// The answer.
        answer: Result<Route, Fault>,
    },
    /// A script says.
    Script(ScriptId, FromScript),
    /// The redirect role sent a call our way.
    Redirected(Note),
    /// What DNS says of a name.
    Resolved {
        /// The question's number.
        ask: u64,
        /// Where to send, in the order in which it is to be tried, or why there is nothing.
        answer: Result<Vec<Hop>, String>,
    },
    /// The clock has reached a deadline.
    Tick,
    /// Take no new calls; live ones finish.
    Drain,
}

/// What a shard wants done.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram, or a message on a stream.
    Send {
        /// Through which listener and connection, where to.
        flow: Flow,
        /// What.
        bytes: Vec<u8>,
    },
    /// Tell the domain.
    Bus(Envelope<ToDomain>),
    /// Tell the media plane.
    Media(control::Command),
    /// Ask the router plugin; answer with [`Input::Routed`].
    AskRoute {
        /// The question's number.
        ask: u64,
        /// Which plugin.
        plugin: Name,
        /// Of which call.
        interaction: Id,
        /// The question.
        incoming: Box<Incoming>,
    },
    /// Resolve the host of a URI (RFC 3263); answer with [`Input::Resolved`].
    Resolve {
        /// The question's number.
        ask: u64,
        /// A SIP URI whose host is a name.
        uri: String,
    },
    /// Start a script; it answers with [`Input::Script`].
    StartScript {
        /// Its number.
        script: ScriptId,
        /// Which plugin.
        plugin: Name,
        /// What it knows.
        info: Box<CallInfo>,
    },
    /// Tell a script.
    Script(ScriptId, ToScript),
    /// Write down a dialog's life.
    Fact(Fact),
    /// Something about a trunk that an operator should read.
    Notice {
        /// Whether it is good news.
        well: bool,
        /// What.
        text: String,
    },
    /// Somebody asked for an address-of-record that nobody has, and was not told so.
    Stranger {
        /// From where.
        remote: std::net::SocketAddr,
    },
    /// A call is over and nothing of it is left.
    Gone {
        /// Which.
        interaction: Id,
    },
}

/// The prompts' library, by tenant and name. A pure look-up: what is asked for is in memory or is not there.
pub trait Prompts: Send + Sync {
    /// The clip of that name.
    fn clip(&self, tenant: &Name, name: &str) -> Option<Arc<Clip>>;
}

/// A library without prompts.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPrompts;

impl Prompts for NoPrompts {
    fn clip(&self, _: &Name, _: &str) -> Option<Arc<Clip>> {
        None
    }
}

/// How a shard is set up. Fixed for its life.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Its number: part of every Call-ID, tag and branch, and its address on the bus.
    pub number: u8,
    /// A life of the shard: grows with every start.
    pub epoch: u64,
    /// The sockets that the shell has bound for it.
    pub listeners: Vec<endpoint::Listener>,
    /// The listener that its own calls leave from.
    pub center_listener: u16,
    /// Written into SDP when the media plane is bound to no particular address.
    pub advertised_media: IpAddr,
    /// User-Agent and Server; left out when empty.
    pub user_agent: String,
    /// RFC 3261 T1 in milliseconds, 500.
    pub t1_ms: u64,
    /// RFC 3261 T2 in milliseconds, 4,000.
    pub t2_ms: u64,
    /// RFC 3261 T4 in milliseconds, 5,000.
    pub t4_ms: u64,
    /// SIP legs at once.
    pub max_legs: usize,
    /// SIP transactions at once.
    pub max_transactions: usize,
    /// Longer requests to UDP targets go by TCP (RFC 3261 18.1.1); 0 for never.
    pub stream_above_bytes: usize,
    /// What all nodes of the centre sign the passages of calls with; none: a key of this life of the shard alone.
    pub passages: Option<passages::Key>,
}

impl ShardConfig {
    /// Usual timers and sizes.
    #[must_use]
    pub fn new(number: u8, epoch: u64, listeners: Vec<endpoint::Listener>, advertised_media: IpAddr) -> Self {
        let usual = endpoint::Config::default();
        Self {
            number,
            epoch,
            center_listener: listeners.first().map_or(0, |l| l.id),
            listeners,
            advertised_media,
            user_agent: "Cordboard".to_owned(),
            t1_ms: usual.t1_ms,
            t2_ms: usual.t2_ms,
            t4_ms: usual.t4_ms,
            max_legs: usual.max_legs,
            max_transactions: usual.max_transactions,
            stream_above_bytes: usual.stream_above_bytes,
            passages: None,
        }
    }

    fn endpoint(&self) -> endpoint::Config {
        endpoint::Config {
            listeners: self.listeners.clone(),
            t1_ms: self.t1_ms,
            t2_ms: self.t2_ms,
            t4_ms: self.t4_ms,
            max_transactions: self.max_transactions,
            max_legs: self.max_legs,
            shard: self.number,
            user_agent: self.user_agent.clone(),
            stream_above_bytes: self.stream_above_bytes,
            registrar_options: requests::REGISTRAR_OPTIONS,
            ..endpoint::Config::default()
        }
    }
}

/// What lives now, and totals since the start: a leak is a number that does not come back to zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls in the slab.
    pub calls: usize,
    /// SIP legs, those included that are being ended.
    pub legs: usize,
    /// Media legs that were not closed.
    pub media_legs: usize,
    /// Media legs that were closed and have not said so yet.
    pub closing_media_legs: usize,
    /// Scripts that have not ended.
    pub scripts: usize,
    /// Offers that ring or talk.
    pub tokens: usize,
    /// Questions to routers without an answer.
    pub asks: usize,
    /// REGISTERs that the domain has not answered.
    pub registers: usize,
    /// Running timers, without those that trunks and subscriptions keep all the time.
    pub timers: usize,
    /// The SIP stack's.
    pub endpoint: endpoint::Counts,
    /// Since the start.
    pub totals: Totals,
}

impl Counts {
    /// Nothing lives: a drained shard may stop.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.calls == 0
            && self.legs == 0
            && self.media_legs == 0
            && self.closing_media_legs == 0
            && self.scripts == 0
            && self.tokens == 0
            && self.asks == 0
            && self.registers == 0
            && self.timers == 0
            && self.endpoint.legs == 0
    }
}

/// Totals since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Calls admitted.
    pub calls: u64,
    /// Calls answered.
    pub answered: u64,
    /// Calls refused: the source is no trunk.
    pub refused_source: u64,
    /// Calls refused: the number is nobody's.
    pub refused_number: u64,
    /// Calls refused: a trunk's or the shard's limit.
    pub refused_limit: u64,
    /// Calls refused while draining.
    pub refused_draining: u64,
    /// Calls refused: their session description does not fit.
    pub refused_media: u64,
    /// Scripts started.
    pub scripts: u64,
    /// Scripts that faulted or ended with an error.
    pub script_faults: u64,
    /// Routers that faulted, timed out or answered nonsense.
    pub router_faults: u64,
    /// Offers accepted.
    pub offers_accepted: u64,
    /// Offers that the ring timer ended.
    pub offers_no_answer: u64,
    /// Offers that ended any other way.
    pub offers_other: u64,
    /// Answers that crossed our CANCEL.
    pub crossed: u64,
    /// Conversations that ended with the agent's phone vanishing.
    pub agents_vanished: u64,
    /// Messages of the domain that came twice.
    pub duplicates: u64,
    /// Hand-offs that the table does not have: a fault of this program.
    pub illegal_hand_offs: u64,
}

/// Faults that a simulation must find. All off by default.
#[cfg(feature = "seeded-bugs")]
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Bugs {
    /// An agent's phone that is no longer wanted is forgotten instead of cancelled.
    pub cancel_crossing_ignored: bool,
    /// The ring timer goes on after an accept.
    pub ring_timer_leaked: bool,
    /// An accept is reported twice.
    pub settled_twice: bool,
    /// A caller's hang-up leaves the offers that ring without an outcome.
    pub settled_never_on_caller_hang_up: bool,
    /// About every second media leg is never closed.
    pub media_leg_leaked: bool,
    /// A script does not hear that an agent has the call.
    pub taken_not_delivered: bool,
    /// The end of a call is reported twice.
    pub call_ended_twice: bool,
}

/// Sequence numbers of the domain that were seen: the highest, and a bit for each of the 128 up to it.
#[derive(Debug, Default)]
struct Seen {
    epoch: u64,
    highest: u64,
    bits: u128,
}

impl Seen {
    /// Notes a message; whether it is new.
    fn take(&mut self, epoch: u64, seq: u64) -> bool {
        if epoch < self.epoch {
            return false;
        }
        if epoch > self.epoch {
            *self = Self { epoch, highest: 0, bits: 0 };
        }
        if seq > self.highest {
            let ahead = seq - self.highest;
            self.bits = if ahead < 128 { self.bits << ahead | 1 } else { 1 };
            self.highest = seq;
            return true;
        }
        let behind = self.highest - seq;
        let bit = if behind < 128 { 1_u128 << behind } else { return false };
        let new = self.bits & bit == 0;
        self.bits |= bit;
        new
    }
}

/// One owner of many calls. See the module.
pub struct Shard {
    core: Core,
    calls: Slab<Box<Call>>,
    serial: u32,
    seen: Seen,
    up: bool,
    /// Trunks are begun and ended with the next input, which has the time.
    trunks_changed: bool,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("number", &self.core.config.number)
            .field("counts", &self.counts())
            .finish()
    }
}

impl Shard {
    /// A shard without calls. Its first output says to the domain that it is up.
    #[must_use]
    pub fn new(
        config: ShardConfig,
        model: Arc<Model>,
        prompts: Arc<dyn Prompts>,
        random: Random,
        now: Now,
    ) -> Self {
        Self {
            core: Core::new(config, model, prompts, random, now),
            calls: Slab::new(),
            serial: 0,
            seen: Seen::default(),
            up: false,
            trunks_changed: true,
        }
    }

    /// Takes one input and appends what it leads to, in causal order.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.enter(now, out);
        match input {
            Input::Datagram { flow, bytes } => {
                self.core.endpoint.receive(now, flow, bytes);
                self.core.pump();
            }
            Input::FlowKnown { flow, names } => {
                flow.connection.map(|n| self.core.proved.insert(n, names));
            }
            Input::FlowClosed { flow, users } => self.core.flow_closed(flow, &users),
            Input::FlowFailed { flow } => {
                self.core.endpoint.flow_failed(now, flow);
                self.core.pump();
            }
            Input::Bus(envelope) => self.bus(envelope),
            Input::Media(event) => self.media(event),
            Input::Routed { ask, answer } => {
                if let Some(key) = self.core.asks.get(&ask).copied() {
                    self.with(key, |core, call| core.routed(call, ask, answer));
                }
            }
            Input::Script(script, from) => self.script(script, from),
            Input::Redirected(note) => match self.core.call_ids.get(note.call_id.as_str()).copied() {
                Some(key) => self.with(key, |core, call| core.note_lines(call, note)),
                None => self.core.keep_note(note),
            },
            Input::Resolved { ask, answer } => self.resolved(ask, answer),
            Input::Tick => {}
            Input::Drain => {
                self.core.draining = true;
                self.core.rest_trunks();
            }
        }
        self.leave(out);
    }

    /// When to hand in the next [`Input::Tick`], on the monotonic clock.
    pub fn next_deadline_ns(&mut self) -> Option<u64> {
        if self.trunks_changed {
            return Some(0);
        }
        match (self.core.timers.next_deadline(), self.core.endpoint.next_deadline_ns()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Takes a new configuration. Calls that are up go on under the one they came in with.
    pub fn configure(&mut self, model: Arc<Model>, prompts: Arc<dyn Prompts>) {
        self.core.endpoint.set_session_expires_s(model.limits.session_expires_s);
        self.core.model = model;
        self.core.prompts = prompts;
        self.trunks_changed = true;
    }

    /// Ends the dialogs of a former life of the process.
    pub fn end_orphans(&mut self, now: Now, dialogs: Vec<DialogRecord>, out: &mut Vec<Output>) {
        self.enter(now, out);
        for dialog in &dialogs {
            self.core.endpoint.end_orphan(now, dialog, "Q.850;cause=41;text=\"the node was restarted\"");
        }
        self.core.pump();
        self.leave(out);
    }

    /// Whether a call that came in with this Call-ID is up.
    #[must_use]
    pub fn knows(&self, call_id: &str) -> bool {
        self.core.call_ids.contains_key(call_id)
    }

    /// Whether a sender is a trunk's: by its address, by its registration here, by its certificate, or since our own
    /// requests go there (see [`Self::calls_to`]).
    #[must_use]
    pub fn is_trunk(&self, now: Now, flow: Flow) -> bool {
        let core = &self.core;
        let proved = || flow.connection.and_then(|n| core.proved.get(&n));
        let certified = |names: &[String]| {
            core.model.trunks.iter().any(|t| t.certificates.iter().any(|name| names.contains(name)))
        };
        core.model.trunk_from(flow.remote).is_some()
            || core.trunks.peer_at(flow, now).is_some()
            || proved().is_some_and(|names| certified(names))
            || self.calls_to(now, flow.remote.ip())
    }

    /// Whether a trunk's calls, REGISTER or OPTIONS went to this address lately: a carrier that we only call out to is
    /// no stranger. It may not send calls for that.
    #[must_use]
    pub fn calls_to(&self, now: Now, address: IpAddr) -> bool {
        self.core.trunks.has_called(address, now)
    }

    /// Whether the next call of a sender would be refused by a limit of its trunk or of ours.
    #[must_use]
    pub fn is_full_for(&self, now: Now, source: std::net::SocketAddr) -> bool {
        let (core, model) = (&self.core, &self.core.model);
        let trunk = model.trunk_from(source).map(|at| &model.trunks[at]);
        core.draining || trunk.is_some_and(|t| core.admission.is_full(now, &model.limits, t))
    }

    /// What lives now, and totals.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let core = &self.core;
        Counts {
            calls: self.calls.len(),
            legs: core.legs.len(),
            media_legs: core.media.len(),
            closing_media_legs: core.closing.len(),
            scripts: core.scripts.len(),
            tokens: core.tokens.len(),
            asks: core.asks.len(),
            registers: core.registers.len(),
            timers: core.timers.len() - core.trunks.timers() - core.watches.timers(),
            endpoint: core.endpoint.counts(),
            totals: core.totals,
        }
    }

    /// What the trunks are doing.
    #[must_use]
    pub fn trunks(&self, now: Now) -> Vec<TrunkView> {
        self.core.trunk_views(now)
    }

    /// Plants faults, for a simulation that must find them.
    #[cfg(feature = "seeded-bugs")]
    #[doc(hidden)]
    pub fn seed_bugs(&mut self, bugs: Bugs) {
        self.core.bugs = bugs;
    }

    fn enter(&mut self, now: Now, out: &mut Vec<Output>) {
        self.core.now = now;
        std::mem::swap(&mut self.core.out, out);
        if !self.up {
            self.up = true;
            self.core.envelope(None, Vec::new(), ToDomain::ShardUp);
        }
        if std::mem::take(&mut self.trunks_changed) {
            self.core.set_trunks();
        }
    }

    fn leave(&mut self, out: &mut Vec<Output>) {
        // Deadlines that have passed are run with whatever input comes first.
        let now = self.core.now;
        if self.core.endpoint.next_deadline_ns().is_some_and(|at| at <= now.mono_ns) {
            self.core.endpoint.tick(now);
            self.core.pump();
        }
        self.drain_events();
        while let Some(timer) = self.core.timers.expired(now.mono_ns) {
            self.timer(timer);
            self.drain_events();
        }
        let dirty = self.core.take_dirty();
        for key in &dirty {
            self.with(*key, |core, call| {
                if !call.lines.is_empty() {
                    core.tell(call, ToDomain::Note);
                }
            });
        }
        self.core.give_back_dirty(dirty);
        std::mem::swap(&mut self.core.out, out);
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.core.events.pop_front() {
            self.event(event);
            self.core.pump();
        }
    }

    /// Runs `f` on a call, if it still lives, and takes it out of the slab when it is gone.
    fn with(&mut self, key: CallKey, f: impl FnOnce(&mut Core, &mut Call)) {
        let Some(call) = self.calls.get_mut(key.slot as usize).filter(|c| c.key == key) else { return };
        f(&mut self.core, call);
        if call.gone {
            self.calls.remove(key.slot as usize);
        }
    }

    fn with_leg(&mut self, leg: LegId, f: impl FnOnce(&mut Core, &mut Call)) {
        if let Some(entry) = self.core.legs.get(&leg).copied().filter(|e| !e.dying) {
            self.with(entry.call, f);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Incoming { leg, source, request, replaces: None } => self.arrive(leg, source, &request),
            Event::Incoming { leg, request, replaces: Some(old), .. } => {
                self.arrive_in_place(leg, old, &request)
            }
            Event::Refer { leg, txn, target, replaces, referred_by, quiet: _ } => {
                match self.core.legs.get(&leg).copied().filter(|e| !e.dying) {
                    Some(entry) => self.with(entry.call, |core, call| {
                        let asked = transfer::Asked { target, replaces, referred_by };
                        core.transfer_asked(call, leg, txn, asked);
                    }),
                    None => self.core.respond(txn, 481, &[]),
                }
            }
            Event::Progress { leg, status, response } => {
                self.with_leg(leg, |core, call| core.progressed(call, leg, status, &response));
            }
            Event::Redirected { leg, to } => self.with_leg(leg, |core, call| {
                core.leg_line(call, Some(leg), Step::After, format!("the phone redirects to {to}"));
            }),
            Event::Answered { leg, response } => {
                self.with_leg(leg, |core, call| match call.party_of_leg(leg) {
                    Some(Side::Ringing) => core.accepted(call, leg, &response),
                    Some(Side::Dialled) => core.dial_answered(call, leg, &response),
                    _ => core.hang_up(leg, "Q.850;cause=31"),
                });
            }
            Event::Rejected { leg, status, reason, response } => {
                self.with_leg(leg, |core, call| core.rejected(call, leg, status, &reason, response.as_ref()));
                self.core.leg_gone(leg);
            }
            Event::Confirmed { leg, ack } => {
                self.with_leg(leg, |core, call| core.confirmed(call, leg, &ack));
            }
            Event::Offer { leg, request } => match self.core.legs.get(&leg).copied() {
                Some(entry) if !entry.dying => {
                    self.with(entry.call, |core, call| core.reoffered(call, leg, &request))
                }
                _ => self.core.endpoint.refuse_offer(self.core.now, leg, 481),
            },
            // The shard never offers again on its own.
            Event::OfferResult { .. } => {}
            Event::Response { request, result } => {
                let Some(leg) = self.core.probes.remove(&request) else {
                    return self.core.trunk_heard(request, result);
                };
                let lost = match &result {
                    Ok(response) => matches!(response.status(), 408 | 481),
                    Err(why) => matches!(why, RequestFailure::Timeout | RequestFailure::Unreachable),
                };
                if lost {
                    self.with_leg(leg, |core, call| core.doubt(call, leg));
                }
            }
            Event::Resubscribe { subscription, txn, request } => {
                self.core.resubscribe(subscription, txn, &request);
            }
            Event::SubscriptionEnded { subscription } => self.core.watch_ended(subscription),
            Event::Request { txn, leg, source, request } => self.request(txn, leg, source, &request),
            Event::Ended { leg, cause } => {
                let entry = self.core.leg_gone(leg);
                if let Some(entry) = entry.filter(|e| !e.dying) {
                    let vanished = matches!(cause, End::NoAnswer | End::NoAck | End::NoPrack);
                    self.with(entry.call, |core, call| core.leg_ended(call, leg, &cause, vanished));
                }
            }
            Event::Released { leg, crossed } => {
                let entry = self.core.leg_gone(leg);
                if crossed && let Some(entry) = entry {
                    self.core.totals.crossed += 1;
                    self.with(entry.call, |core, call| {
                        if call.ended.is_none() {
                            let text = "an agent's answer crossed our CANCEL: acknowledged and hung up";
                            core.line(call, Step::After, text);
                        }
                    });
                }
            }
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Call(key, wake) => self.with(key, |core, call| {
                call.timers[wake as usize] = None;
                match wake {
                    Wake::Route => {
                        if let Some(ask) = call.ask {
                            core.routed(call, ask, Err(Fault::Timeout));
                        }
                    }
                    Wake::Ring => core.ring_timeout(call),
                    Wake::Renew => core.renew(call),
                    Wake::Verb => core.verb_time(call),
                    Wake::Grace => core.close_up(call),
                    Wake::Probe => core.probe(call),
                }
            }),
            Timer::Register(request) => self.core.register_silent(request),
            Timer::Watch(subscription) => self.core.watch_expired(subscription),
            Timer::Trunk(id, wake) => self.core.trunk_wakes(id, wake),
        }
    }

    fn bus(&mut self, envelope: Envelope<ToShard>) {
        if !self.seen.take(envelope.epoch, envelope.seq) {
            self.core.totals.duplicates += 1;
            return;
        }
        let key = envelope.interaction.and_then(|i| self.core.interactions.get(&i).copied());
        match (envelope.body, key) {
            (ToShard::Registered { request, status, contacts }, _) => {
                self.core.registered(request, status, &contacts);
            }
            (ToShard::AgentState { tenant, agent, state }, _) => {
                self.core.agent_state(tenant, agent, state);
            }
            (body, Some(key)) => self.with(key, |core, call| core.told(call, body)),
            (ToShard::Offer(offer), None) => self.core.no_call(envelope.interaction, offer),
            // Whatever it is about is over, and the domain knows or is about to hear.
            (_, None) => {}
        }
    }

    fn media(&mut self, event: control::Event) {
        let leg = event.leg();
        if let Some(key) = self.core.media.get(&leg).copied() {
            self.with(key, |core, call| core.heard(call, event));
        } else if matches!(event, control::Event::Closed { .. } | control::Event::OpenFailed { .. }) {
            self.core.closing.remove(&leg);
        }
    }

    fn script(&mut self, script: ScriptId, from: FromScript) {
        let Some(key) = self.core.scripts.get(&script).copied() else { return };
        let lives = self.calls.get(key.slot as usize).is_some_and(|c| c.key == key);
        match &from {
            FromScript::Ended { .. } => {
                self.core.scripts.remove(&script);
            }
            // A script in its grace whose call has left: it is told so until it ends.
            FromScript::Verb { verb, .. } if !lives => {
                let done = ToScript::Done { verb: *verb, result: Err(Failure::HungUp) };
                self.core.out.push(Output::Script(script, done));
            }
            FromScript::Verb { .. } => {}
        }
        self.with(key, |core, call| core.script_says(call, script, from));
    }
}

/// How a call ended, for [`crate::messages::ToDomain::CallEnded`].
pub(crate) fn ended(cause: u8, by: &str, text: &str, status: u16) -> CallEnded {
    CallEnded {
        cause,
        by: by.to_owned(),
        text: text.to_owned(),
        status,
        answered: false,
        duration_ms: 0,
        recordings: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn a_message_is_taken_once_whatever_the_order() {
        let mut seen = Seen::default();
        let taken = |seen: &mut Seen, list: &[u64]| list.iter().map(|n| seen.take(1, *n)).collect::<Vec<_>>();
        assert_eq!(taken(&mut seen, &[1, 3, 2, 2, 3, 4, 1]), [true, true, true, false, false, true, false]);
        assert_eq!(taken(&mut seen, &[500, 4, 499]), [true, false, true]);
        assert!(!seen.take(0, 501), "an older life");
        assert!(seen.take(2, 1), "a newer life");
    }
}

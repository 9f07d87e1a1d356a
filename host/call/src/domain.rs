//! The domain: one owner of tenants. It joins the stations `cti`, `interaction`, `queue`, `acd`
//! and `agent`, so that nothing can come between "not ready" and "reserve".
//!
//! Called by the shell of a domain thread, or by the simulation, with one input at a time. What it
//! returns is held by the shell until the facts among it are durable. It asks policies inside a
//! decision, and nothing else of the world.
//!
//! What one event costs is bounded: a place or an agent that may be matched is put into the
//! backlog, and of the backlog at most [`BATCH`] pieces are worked off for each input. The rest
//! makes [`Domain::next_deadline_ns`] answer "now".

mod bus;
mod clock;
mod command;
pub mod counts;
mod enqueue;
mod ledger;
mod offers;
mod places;
mod recover;
mod tenant;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use cordboard_base::{Id, Map, Now, Random};
use serde::Serialize;

use self::clock::Clock;
use self::counts::Totals;
use self::tenant::Tenant;
use crate::Name;
use crate::acd::reservations::Reservations;
use crate::commands::{Command, Reply};
use crate::cti::{self, Subject};
use crate::events::Event;
use crate::facts::Fact;
use crate::interaction::Interactions;
use crate::messages::{Envelope, ToDomain, ToShard};
use crate::model::Model;
use crate::policy::{Fault, Policies};
use crate::queue::{Entry, Key, QueueRef};
use crate::timeline::{Line, Step};

/// Pieces of put-off work for each input.
pub const BATCH: usize = 64;

/// Whether a seeded bug is on. Without the feature there is none.
#[cfg(feature = "seeded-bugs")]
macro_rules! bug {
    ($domain:expr, $name:ident) => {
        $domain.bugs.$name
    };
}
#[cfg(not(feature = "seeded-bugs"))]
macro_rules! bug {
    ($domain:expr, $name:ident) => {
        false
    };
}
pub(crate) use bug;

/// Bugs that the simulation must find. All off by default.
#[cfg(feature = "seeded-bugs")]
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Bugs {
    /// A late outcome of a spent token is applied all the same.
    pub cas_removed: bool,
    /// A place that comes back goes to the end.
    pub place_reset_on_return: bool,
    /// The lease's timer goes on when its token is spent.
    pub lease_timer_leaked: bool,
    /// Unanswered offers are not counted.
    pub miss_not_counted: bool,
    /// No working-after-call time.
    pub wrap_up_skipped: bool,
    /// A reserved agent is still listed as free.
    pub double_offer_same_agent: bool,
    /// A log-out during ringing withdraws nothing.
    pub revoke_ignored: bool,
}

/// What happens to a domain.
#[derive(Debug)]
pub enum Input {
    /// A shard says.
    Bus(Envelope<ToDomain>),
    /// An operator, desktop or adapter asks.
    Command {
        /// Repeated in the reply.
        request: u64,
        /// What.
        command: Command,
    },
    /// The configuration has changed.
    Configure(std::sync::Arc<crate::model::Model>),
    /// The queue policy of a plugin name was exchanged: place waiting entries anew.
    PolicyChanged {
        /// The plugin's name.
        plugin: crate::Name,
    },
    /// The clock has reached a deadline.
    Tick,
}

/// What a domain wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// Make durable before anything after it is told.
    Fact(Fact),
    /// Tell a shard, by number.
    Bus(u16, Envelope<ToShard>),
    /// Publish.
    Event(Event),
    /// Answer a command.
    Reply {
        /// The request's number.
        request: u64,
        /// The answer.
        reply: Reply,
    },
    /// For whoever watches a call live: a line was added to its timeline.
    Line(cordboard_base::Id, Arc<crate::timeline::Line>),
    /// A plugin failed and the default was taken.
    PolicyFault {
        /// The plugin's name.
        plugin: crate::Name,
        /// How.
        fault: crate::policy::Fault,
    },
}

/// An agent, by tenant and slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AgentRef {
    pub(crate) tenant: u16,
    pub(crate) agent: u32,
}

/// A shard that has spoken.
#[derive(Debug, Default)]
struct Link {
    epoch: u64,
    /// The highest sequence number heard, and which of the 64 before it were.
    highest: u64,
    window: u64,
    /// The last sequence number that we used.
    sent: u64,
}

/// Work that is done in batches.
#[derive(Debug, Default)]
struct Backlog {
    /// Places to be placed anew.
    replace: VecDeque<Id>,
    /// Places that may find an agent, the earliest first.
    places: BTreeSet<(Key, Id)>,
    /// Agents who may find a place, the longest idle first.
    agents: BTreeSet<(u64, AgentRef)>,
    /// Queues whose positions are being told.
    sweeps: VecDeque<QueueRef>,
}

impl Backlog {
    fn len(&self) -> usize {
        self.replace.len() + self.places.len() + self.agents.len() + self.sweeps.len()
    }
}

/// One owner of tenants. See the module.
#[derive(Debug)]
pub struct Domain {
    model: Arc<Model>,
    number: u16,
    epoch: u64,
    random: Random,
    now: Now,
    links: BTreeMap<u16, Link>,
    tenants: Vec<Tenant>,
    tenant_slots: Map<Name, u16>,
    interactions: Interactions,
    entries: Map<Id, Entry>,
    reservations: Reservations,
    clock: Clock,
    backlog: Backlog,
    /// Shards that hear of an agent.
    watchers: BTreeMap<AgentRef, BTreeSet<u16>>,
    /// Numbers places in the order of their arrival.
    arrivals: u64,
    totals: Totals,
    #[cfg(feature = "seeded-bugs")]
    bugs: Bugs,
}

impl Domain {
    /// A domain without calls. `number` names it on the bus, `epoch` is higher in every life.
    #[must_use]
    pub fn new(model: Arc<Model>, number: u16, epoch: u64, random: Random, now: Now) -> Self {
        let mut domain = Self {
            model: Arc::clone(&model),
            number,
            epoch,
            random,
            now,
            links: BTreeMap::new(),
            tenants: Vec::new(),
            tenant_slots: Map::default(),
            interactions: Interactions::default(),
            entries: Map::default(),
            reservations: Reservations::default(),
            clock: Clock::default(),
            backlog: Backlog::default(),
            watchers: BTreeMap::new(),
            arrivals: 0,
            totals: Totals::default(),
            #[cfg(feature = "seeded-bugs")]
            bugs: Bugs::default(),
        };
        domain.configure(model, &mut Vec::new());
        domain
    }

    /// Switches bugs on.
    #[cfg(feature = "seeded-bugs")]
    #[doc(hidden)]
    pub fn seed_bugs(&mut self, bugs: Bugs) {
        self.bugs = bugs;
        self.reservations.spent = bugs.cas_removed.then(Map::default);
    }

    /// Takes one input; what is to be done is appended to `out` in causal order.
    pub fn handle(&mut self, now: Now, input: Input, policies: &mut dyn Policies, out: &mut Vec<Output>) {
        self.now = now;
        match input {
            Input::Bus(envelope) => self.on_bus(envelope, policies, out),
            Input::Command { request, command } => {
                let reply = self.on_command(command, out);
                out.push(Output::Reply { request, reply });
            }
            Input::Configure(model) => self.configure(model, out),
            Input::PolicyChanged { plugin } => self.on_policy_changed(&plugin),
            Input::Tick => self.run_timers(out),
        }
        self.work(policies, out);
    }

    /// When the next [`Input::Tick`] is wanted, on the monotonic clock; a time that has passed while work was put off.
    pub fn next_deadline_ns(&mut self) -> Option<u64> {
        if self.backlog.len() > 0 {
            return Some(self.now.mono_ns);
        }
        self.clock.next_deadline()
    }

    fn fact(&mut self, out: &mut Vec<Output>, fact: Fact) {
        self.totals.facts += 1;
        out.push(Output::Fact(fact));
    }

    fn event<D: Serialize>(
        &mut self,
        out: &mut Vec<Output>,
        tenant: u16,
        subject: Subject<'_>,
        kind: &str,
        data: &D,
    ) {
        self.totals.events += 1;
        let held = &mut self.tenants[tenant as usize];
        let (number, reserve) = held.sequence.next();
        if let Some(up_to) = reserve {
            self.totals.facts += 1;
            out.push(Output::Fact(Fact::Sequence { tenant: held.name.clone(), up_to }));
        }
        out.push(Output::Event(cti::event(number, &held.name, self.now.wall_ms, subject, kind, data)));
    }

    /// Appends a line to a timeline and shows it to whoever watches.
    fn write(&mut self, out: &mut Vec<Output>, interaction: Id, line: Line, last: bool) {
        let Some(held) = self.interactions.get_mut(interaction) else { return };
        let line = Arc::new(line);
        if held.write(line.clone(), last) {
            out.push(Output::Line(interaction, line));
        } else {
            self.totals.dropped += 1;
        }
    }

    /// A line of the domain's own.
    fn line(&self, step: Step, detail: String) -> Line {
        Line {
            step,
            mono_ns: self.now.mono_ns,
            wall_ms: self.now.wall_ms,
            call_id: None,
            cseq: None,
            bus_seq: None,
            ticket: None,
            token: None,
            detail: detail.into(),
        }
    }

    /// Tells a shard; the message's sequence number is returned as evidence.
    fn send(&mut self, out: &mut Vec<Output>, shard: u16, interaction: Option<Id>, body: ToShard) -> u64 {
        let link = self.links.entry(shard).or_default();
        link.sent += 1;
        let seq = link.sent;
        let envelope =
            Envelope { from: self.number, epoch: self.epoch, seq, interaction, lines: Vec::new(), body };
        out.push(Output::Bus(shard, envelope));
        seq
    }

    fn policy_fault(&mut self, out: &mut Vec<Output>, plugin: &Name, fault: Fault) {
        self.totals.policy_faults += 1;
        out.push(Output::PolicyFault { plugin: plugin.clone(), fault });
    }
}

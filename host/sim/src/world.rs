//! A whole centre in virtual time: one shard, one domain, a network that loses, doubles, delays
//! and reorders, a journal that commits late, and people who do everything at the wrong moment.
//!
//! The clock jumps to the next thing that happens, so an hour of calls takes seconds; the same
//! seed gives the same run, to the last packet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use cordboard_base::{Id, Now, Random, ms, secs};
use cordboard_call::commands::{Command, Reply};
use cordboard_call::domain::{self, Domain};
use cordboard_call::messages::{Envelope, OfferResult, Settled, TalkEnd, ToDomain, ToShard};
use cordboard_call::model::Model;
use cordboard_call::policy::{Fault, Native};
use cordboard_call::router::Route;
use cordboard_call::script::{FromScript, ScriptId, ToScript};
use cordboard_call::shard::{self, Shard, ShardConfig};
use cordboard_call::{Name, facts::Fact};
use cordboard_media::control::Event as MediaEvent;
use cordboard_sip::endpoint::{self, Endpoint, Flow, Listener};

use crate::judge::Judge;
use crate::media::Media;
use crate::phones::{Act, Phones};
use crate::scripts::Scripts;

const CENTRE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5060);
const CALLERS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)), 5060);
const AGENTS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 2, 1)), 5060);

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything random comes from it.
    pub seed: u64,
    /// How many calls.
    pub calls: u32,
    /// On average.
    pub calls_per_s: u32,
    /// Packets lost, of a thousand.
    pub lost_per_mille: u64,
    /// Packets doubled, of a thousand.
    pub doubled_per_mille: u64,
    /// The longest delay of a packet: what makes them overtake each other.
    pub jitter_ms: u64,
    /// Who serves whom.
    pub model: Arc<Model>,
    /// Seeded bugs of the domain.
    pub domain_bugs: domain::Bugs,
    /// Seeded bugs of the shard.
    pub shard_bugs: shard::Bugs,
}

/// What a run was.
#[derive(Debug, Default)]
pub struct Report {
    /// What must not be; empty in a good run.
    pub violations: Vec<String>,
    /// Offers that an agent accepted.
    pub accepted: u64,
    /// Offers that ended otherwise.
    pub unanswered: u64,
    /// Pairs of caller and agent who were found joined both ways.
    pub heard: u64,
    /// Packets lost on the way.
    pub lost: u64,
    /// 200s that met our CANCEL, and other releases, by the callers' and agents' side.
    pub refused: BTreeMap<u16, u64>,
    /// Verbs ended by `taken`.
    pub taken: u64,
    /// Scripts that ended in a fault.
    pub script_faults: u64,
    /// Virtual seconds.
    pub seconds: f64,
    /// Inputs handled in all.
    pub steps: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Shard,
    Domain,
    Callers,
    Agents,
}

#[derive(Debug)]
enum Happening {
    Packet {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
    Tick(Who),
    ToShard(Envelope<ToShard>),
    ToDomain(Envelope<ToDomain>),
    Release(Vec<domain::Output>),
    Media(MediaEvent),
    FromScript(ScriptId, FromScript),
    ToScript(ScriptId, ToScript),
    Routed(u64, Result<Route, Fault>),
    Act(Who, Act),
    Call(u32),
    Operator,
    Command(Command),
    Inspect,
    Stray,
    /// An agent has answered a moment ago: the script must know by now.
    Aware(Id, Id),
}

struct Due(u64, u64, Happening);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct World {
    now: Now,
    options: Options,
    random: Random,
    due: BinaryHeap<Reverse<Due>>,
    order: u64,
    armed: BTreeMap<Who, u64>,
    shard: Shard,
    domain: Domain,
    callers: Phones,
    agents: Phones,
    media: Media,
    scripts: Scripts,
    judge: Judge,
    last_release_ns: u64,
    last_bus_ns: [u64; 2],
    last_script_ns: u64,
    commands: BTreeMap<u64, Command>,
    next_command: u64,
    settled: Vec<Settled>,
    talking: BTreeMap<Id, Name>,
    event_sequence: u64,
    report: Report,
    calls_over_ns: u64,
}

/// Prompts of the simulation: every name is one second of silence.
struct Silence(Arc<cordboard_media::clip::Clip>);

impl cordboard_call::shard::Prompts for Silence {
    fn clip(&self, _: &Name, _: &str) -> Option<Arc<cordboard_media::clip::Clip>> {
        Some(self.0.clone())
    }
}

/// Runs a centre from its first call until everything is quiet.
#[must_use]
pub fn run(options: Options) -> Report {
    let mut random = Random::seeded(options.seed);
    let now = Now { mono_ns: secs(1), wall_ms: 1_780_000_000_000 };
    let phone = |local, shard, random: &mut Random| {
        let config = endpoint::Config {
            listeners: vec![Listener::udp(0, local)],
            shard,
            ..endpoint::Config::default()
        };
        Endpoint::new(config, Random::seeded(random.next_u64()))
    };
    let callers = Phones::new(phone(CALLERS, 101, &mut random), CALLERS, false);
    let agents = Phones::new(phone(AGENTS, 102, &mut random), AGENTS, true);
    let config = ShardConfig::new(1, 1, vec![Listener::udp(0, CENTRE)], CENTRE.ip());
    let silence = Silence(Arc::new(cordboard_media::clip::Clip::from_samples(&[0; 8_000])));
    let mut shard =
        Shard::new(config, options.model.clone(), Arc::new(silence), Random::seeded(random.next_u64()), now);
    shard.seed_bugs(options.shard_bugs);
    let mut domain = Domain::new(options.model.clone(), 1, 1, Random::seeded(random.next_u64()), now);
    domain.seed_bugs(options.domain_bugs);
    let workgroups = options.model.tenants[0].workgroups.iter().map(|w| w.name.to_string()).collect();
    let mut world = World {
        now,
        random,
        due: BinaryHeap::new(),
        order: 0,
        armed: BTreeMap::new(),
        shard,
        domain,
        callers,
        agents,
        media: Media::default(),
        scripts: Scripts::new(workgroups),
        judge: Judge::new(options.model.clone()),
        last_release_ns: 0,
        last_bus_ns: [0; 2],
        last_script_ns: 0,
        commands: BTreeMap::new(),
        next_command: 0,
        settled: Vec::new(),
        talking: BTreeMap::new(),
        event_sequence: 0,
        report: Report::default(),
        calls_over_ns: 0,
        options,
    };
    world.run();
    world.report
}

impl World {
    fn run(&mut self) {
        let mut at = self.now.mono_ns + ms(10);
        for number in 0..self.options.calls {
            at += self.random.below(secs(2) / u64::from(self.options.calls_per_s.max(1)));
            self.at(at, Happening::Call(number));
        }
        self.calls_over_ns = at;
        self.after(ms(500), Happening::Operator);
        self.after(ms(700), Happening::Inspect);
        self.after(ms(900), Happening::Stray);
        self.rearm();
        let end = at + secs(600);
        while let Some(Reverse(Due(when, _, happening))) = self.due.pop() {
            if when > end {
                break;
            }
            self.now = self.now.plus_ns(when - self.now.mono_ns);
            self.report.steps += 1;
            self.happen(happening);
            self.rearm();
        }
        self.at_rest();
    }

    fn at(&mut self, when: u64, happening: Happening) {
        self.order += 1;
        self.due.push(Reverse(Due(when.max(self.now.mono_ns), self.order, happening)));
    }

    fn after(&mut self, ns: u64, happening: Happening) {
        self.at(self.now.mono_ns + ns, happening);
    }

    fn rearm(&mut self) {
        let wanted = [
            (Who::Shard, self.shard.next_deadline_ns()),
            (Who::Domain, self.domain.next_deadline_ns()),
            (Who::Callers, self.callers.endpoint.next_deadline_ns()),
            (Who::Agents, self.agents.endpoint.next_deadline_ns()),
        ];
        for (who, deadline) in wanted {
            let Some(deadline) = deadline else { continue };
            if self.armed.get(&who).is_none_or(|armed| deadline < *armed) {
                self.armed.insert(who, deadline);
                self.at(deadline, Happening::Tick(who));
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Packet { from, to, bytes } => self.packet(from, to, bytes),
            Happening::Tick(who) => {
                self.armed.remove(&who);
                match who {
                    Who::Shard => self.shard(shard::Input::Tick),
                    Who::Domain => self.domain(domain::Input::Tick),
                    Who::Callers => self.callers.endpoint.tick(self.now),
                    Who::Agents => self.agents.endpoint.tick(self.now),
                }
                self.drain(who);
            }
            Happening::ToShard(envelope) => self.shard(shard::Input::Bus(envelope)),
            Happening::ToDomain(envelope) => {
                self.judge.to_domain(self.now, &envelope);
                match &envelope.body {
                    ToDomain::Settled(settled) => {
                        self.accepted(settled);
                        self.settled.push(settled.clone());
                    }
                    ToDomain::TalkEnded { token, ticket, how, .. } => self.talk_ended(*token, *ticket, *how),
                    _ => {}
                }
                // At least once: some messages are heard twice.
                if self.random.below(50) == 0 {
                    self.domain(domain::Input::Bus(envelope.clone()));
                }
                self.domain(domain::Input::Bus(envelope));
            }
            Happening::Release(outputs) => outputs.into_iter().for_each(|output| self.release(output)),
            Happening::Media(event) => {
                if self.media.still(&event) {
                    self.shard(shard::Input::Media(event));
                }
            }
            Happening::FromScript(script, said) => self.shard(shard::Input::Script(script, said)),
            Happening::ToScript(script, message) => {
                let later = self.scripts.hear(script, message, &mut self.random);
                self.say(later);
            }
            Happening::Routed(ask, answer) => self.shard(shard::Input::Routed { ask, answer }),
            Happening::Act(who, act) => self.act(who, act),
            Happening::Call(number) => {
                let caller = format!("+4930{number:07}");
                let target = format!("sip:+49800100@{CENTRE}");
                if let Some((_, acts)) = self.callers.call(self.now, &caller, &target, &mut self.random) {
                    self.acts(Who::Callers, acts);
                }
                self.drain(Who::Callers);
            }
            Happening::Operator => self.operator(),
            Happening::Command(command) => self.command(command),
            Happening::Inspect => {
                self.command(Command::Queues);
                let counts = self.domain.counts();
                if counts.timers.leases != counts.ringing + counts.talking {
                    let text = format!(
                        "{} leases run for {} tokens",
                        counts.timers.leases,
                        counts.ringing + counts.talking
                    );
                    self.judge.wrong(self.now, text);
                }
                if self.now.mono_ns < self.calls_over_ns + secs(200) {
                    self.after(secs(2), Happening::Inspect);
                }
            }
            Happening::Stray => self.stray(),
            Happening::Aware(token, ticket) => {
                if self.talking.contains_key(&token) && self.scripts.waits_unaware(ticket) {
                    let text = format!("the script of {ticket} does not know that an agent has its call");
                    self.judge.wrong(self.now, text);
                }
            }
        }
    }

    /// A copy of an old outcome from elsewhere, with another result: it must change nothing.
    fn stray(&mut self) {
        let count = self.settled.len() as u64;
        if count > 0 {
            let mut settled = self.settled[self.random.below(count) as usize].clone();
            settled.result =
                if self.random.below(2) == 0 { OfferResult::Accepted } else { OfferResult::NoAnswer };
            let envelope = Envelope {
                from: 99,
                epoch: 1,
                seq: self.report.steps,
                interaction: None,
                lines: Vec::new(),
                body: ToDomain::Settled(settled),
            };
            self.domain(domain::Input::Bus(envelope));
        }
        if self.now.mono_ns < self.calls_over_ns + secs(60) {
            self.after(ms(300), Happening::Stray);
        }
    }

    fn operator(&mut self) {
        let tenant = &self.options.model.tenants[0];
        let agent = &tenant.agents[self.random.below(tenant.agents.len() as u64) as usize];
        let (tenant, agent) = (tenant.name.to_string(), agent.name.to_string());
        let set = |ready| Command::SetReady {
            tenant: tenant.clone(),
            agent: agent.clone(),
            ready,
            reason: "pause".to_owned(),
        };
        match self.random.below(6) {
            0 => {
                self.command(Command::LogOut { tenant: tenant.clone(), agent: agent.clone() });
                self.after(secs(4), Happening::Command(Command::LogIn { tenant, agent, ready: true }));
            }
            1 => {
                self.command(set(false));
                self.after(secs(2), Happening::Command(set(true)));
            }
            _ => self.command(set(true)),
        }
        if self.now.mono_ns < self.calls_over_ns + secs(200) {
            let pause = self.random.below(secs(2));
            self.after(pause, Happening::Operator);
        }
    }

    fn command(&mut self, command: Command) {
        self.next_command += 1;
        let request = self.next_command;
        self.commands.insert(request, command.clone());
        self.domain(domain::Input::Command { request, command });
    }

    fn shard(&mut self, input: shard::Input) {
        let mut out = Vec::new();
        self.shard.handle(self.now, input, &mut out);
        for output in out {
            match output {
                shard::Output::Send { flow, bytes } => self.send(CENTRE, flow.remote, bytes.into()),
                shard::Output::Bus(envelope) => {
                    let envelope = through_the_wire(&envelope);
                    let at = self.bus_time(0);
                    self.at(at, Happening::ToDomain(envelope));
                }
                shard::Output::Media(command) => {
                    for (after, event) in self.media.obey(command, &mut self.random) {
                        self.after(after, Happening::Media(event));
                    }
                }
                shard::Output::AskRoute { ask, .. } => self.route(ask),
                shard::Output::StartScript { script, .. } => {
                    let later = self.scripts.start(script, &mut self.random);
                    self.say(later);
                }
                shard::Output::Script(script, message) => {
                    self.last_script_ns = self.last_script_ns.max(self.now.mono_ns) + 1_000;
                    self.at(self.last_script_ns, Happening::ToScript(script, message));
                }
                shard::Output::Fact(Fact::DialogUp { .. } | Fact::DialogDown { .. })
                | shard::Output::Notice { .. }
                // Nobody in a simulation has a name.
                | shard::Output::Resolve { .. }
                | shard::Output::Stranger { .. }
                | shard::Output::Gone { .. } => {}
                shard::Output::Fact(other) => {
                    self.judge.wrong(self.now, format!("the shard writes a fact of the domain: {other:?}"));
                }
            }
        }
    }

    fn route(&mut self, ask: u64) {
        let after = ms(1) + self.random.below(ms(15));
        let answer = match self.random.below(30) {
            0 => Err(Fault::Trap("seeded".to_owned())),
            1 => Ok(Route::Refuse { status: 603, cause: 21, text: "seeded".to_owned() }),
            2 | 3 => Ok(Route::Workgroup {
                workgroup: self.options.model.tenants[0].workgroups[0].name.to_string(),
                skills: Vec::new(),
                priority: 1,
                attributes: Vec::new(),
            }),
            4 => return, // never answered: the shard's own guard
            _ => Ok(Route::Script { script: "support".to_owned(), attributes: Vec::new() }),
        };
        self.after(after, Happening::Routed(ask, answer));
    }

    fn say(&mut self, later: Option<crate::scripts::Later>) {
        if let Some((after, script, said)) = later {
            self.after(after, Happening::FromScript(script, said));
        }
    }

    fn domain(&mut self, input: domain::Input) {
        let log_out = match &input {
            domain::Input::Command { command: Command::LogOut { agent, .. }, .. } => {
                Some(Name::from(agent.as_str()))
            }
            _ => None,
        };
        let mut out = Vec::new();
        self.domain.handle(self.now, input, &mut Native, &mut out);
        if let Some(agent) = log_out {
            self.judge.logged_out(self.now, &agent, &out);
        }
        // The judge sees decisions in the order in which they are made, not when they are told.
        for output in &out {
            match output {
                domain::Output::Fact(fact) => self.judge.fact(self.now, fact),
                domain::Output::Bus(_, envelope) => self.judge.to_shard(self.now, envelope),
                domain::Output::Reply { request, reply } => self.replied(*request, reply),
                _ => {}
            }
        }
        if out.is_empty() {
            return;
        }
        let commit = self.now.mono_ns + 200_000 + self.random.below(ms(3));
        self.last_release_ns = self.last_release_ns.max(commit);
        self.at(self.last_release_ns, Happening::Release(out));
    }

    fn replied(&mut self, request: u64, reply: &Reply) {
        let Some(command) = self.commands.remove(&request) else {
            return self.judge.wrong(self.now, format!("request {request} is answered twice"));
        };
        match (command, reply) {
            (Command::Queues, reply) => self.judge.queues(self.now, reply),
            (Command::LogIn { agent, ready, .. } | Command::SetReady { agent, ready, .. }, Reply::Done) => {
                self.judge.agent_set(&agent.as_str().into(), ready, !ready);
            }
            (Command::LogOut { agent, .. }, Reply::Done) => {
                self.judge.agent_set(&agent.as_str().into(), false, true)
            }
            _ => {}
        }
    }

    fn release(&mut self, output: domain::Output) {
        match output {
            domain::Output::Bus(_, envelope) => {
                let envelope = through_the_wire(&envelope);
                let at = self.bus_time(1);
                self.at(at, Happening::ToShard(envelope));
            }
            domain::Output::Event(event) => {
                if event.sequence != self.event_sequence + 1 {
                    let text = format!("event {} follows {}", event.sequence, self.event_sequence);
                    self.judge.wrong(self.now, text);
                }
                self.event_sequence = event.sequence;
            }
            _ => {}
        }
    }

    /// An agent has accepted: caller and agent must hear each other now, by the media plane's own word.
    fn accepted(&mut self, settled: &Settled) {
        if settled.result != OfferResult::Accepted {
            return;
        }
        self.talking.insert(settled.token, settled.agent.clone());
        self.after(ms(20), Happening::Aware(settled.token, settled.ticket));
        let user = format!("sip:{}@", settled.agent);
        let Some(line) = self.agents.lines.values().find(|l| l.up && l.who.starts_with(&user)) else {
            return;
        };
        let Some(port) = line.far_port else { return };
        match self.media.other_end(port) {
            Some(far) if far.ip() == CALLERS.ip() => self.report.heard += 1,
            Some(far) => self.judge.wrong(self.now, format!("agent {} is joined to {far}", settled.agent)),
            // The caller may have gone, or holds the line, in the same moment.
            None => {}
        }
    }

    /// A conversation is over: it was not ended over the agent's head.
    fn talk_ended(&mut self, token: Id, ticket: Id, how: TalkEnd) {
        let Some(agent) = self.talking.remove(&token) else { return };
        let user = format!("sip:{agent}@");
        let up = self.agents.lines.values().any(|line| line.up && line.who.starts_with(&user));
        if how == TalkEnd::AgentLeft && up {
            self.judge.wrong(self.now, format!("agent {agent} is said to have left {ticket} and has not"));
        }
    }

    fn bus_time(&mut self, link: usize) -> u64 {
        let at = self.now.mono_ns + 30_000 + self.random.below(ms(1));
        self.last_bus_ns[link] = self.last_bus_ns[link].max(at);
        self.last_bus_ns[link]
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let copies = 1 + u64::from(self.random.below(1_000) < self.options.doubled_per_mille);
        for _ in 0..copies {
            if self.random.below(1_000) < self.options.lost_per_mille {
                self.report.lost += 1;
                continue;
            }
            let delay = 100_000 + self.random.below(ms(self.options.jitter_ms.max(1)));
            self.after(delay, Happening::Packet { from, to, bytes: bytes.clone() });
        }
    }

    fn packet(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        if from == AGENTS || to == AGENTS {
            let dark = |call_id: &String| bytes.windows(call_id.len()).any(|w| w == call_id.as_bytes());
            if self.agents.dark.values().any(dark) {
                return;
            }
        }
        if to == CENTRE {
            self.shard(shard::Input::Datagram { flow: Flow::udp(0, from), bytes });
        } else if to == CALLERS {
            self.callers.endpoint.receive(self.now, Flow::udp(0, from), bytes);
            self.drain(Who::Callers);
        } else if to == AGENTS {
            self.agents.endpoint.receive(self.now, Flow::udp(0, from), bytes);
            self.drain(Who::Agents);
        }
    }

    fn act(&mut self, who: Who, act: Act) {
        let phones = if who == Who::Callers { &mut self.callers } else { &mut self.agents };
        let vanished = phones.act(self.now, act);
        if vanished
            && let Act::Vanish(leg) = act
            && let Some(line) = phones.lines.remove(&leg)
            && let Some(leg) = line.far_port.and_then(|port| self.media.leg_at(port))
        {
            self.after(secs(15), Happening::Media(MediaEvent::Silent { leg }));
        }
        self.drain(who);
    }

    fn acts(&mut self, who: Who, acts: Vec<(u64, Act)>) {
        for (after, act) in acts {
            self.after(after, Happening::Act(who, act));
        }
    }

    fn drain(&mut self, who: Who) {
        let ring_timeout_ms = self.options.model.tenants[0].workgroups[0].ring_timeout_ms;
        loop {
            let (phones, address) = match who {
                Who::Callers => (&mut self.callers, CALLERS),
                Who::Agents => (&mut self.agents, AGENTS),
                Who::Shard | Who::Domain => return,
            };
            match phones.endpoint.poll() {
                Some(endpoint::Output::Send(datagram)) => {
                    self.send(address, datagram.flow.remote, datagram.bytes.into())
                }
                Some(endpoint::Output::Event(event)) => {
                    let acts = phones.hear(self.now, event, ring_timeout_ms, &mut self.random);
                    self.acts(who, acts);
                }
                None => return,
            }
        }
    }

    fn at_rest(&mut self) {
        let now = self.now;
        self.judge.at_rest(now);
        let mut left = Vec::new();
        left.extend((self.media.open() > 0).then(|| format!("{} media legs are open", self.media.open())));
        left.extend((self.scripts.running() > 0).then(|| format!("{} scripts run", self.scripts.running())));
        let dark = self.agents.dark.len();
        for (whose, endpoint, may) in
            [("callers", &self.callers.endpoint, 0), ("agents", &self.agents.endpoint, dark)]
        {
            let counts = endpoint.counts();
            if counts.legs > may || (may == 0 && counts.transactions > 0) {
                left.push(format!(
                    "the {whose}' phones hold {} legs and {} transactions",
                    counts.legs, counts.transactions
                ));
            }
        }
        let shard = self.shard.counts();
        if !shard.idle() {
            left.push(format!("the shard is not at rest: {shard:?}"));
        }
        let domain = self.domain.counts();
        let at_rest = domain.interactions == 0
            && domain.waiting + domain.offered + domain.taken + domain.listed == 0
            && domain.ringing + domain.talking + domain.agents_reserved + domain.agents_busy == 0
            && domain.backlog == 0
            && domain.timers.leases + domain.timers.agents + domain.timers.plans + domain.timers.positions
                == 0
            && domain.timers.deferred == 0;
        if !at_rest {
            left.push(format!("the domain is not at rest: {domain:?}"));
        }
        for text in left {
            self.judge.wrong(now, text);
        }
        self.report.violations = std::mem::take(&mut self.judge.violations);
        self.report.accepted = self.judge.accepted;
        self.report.unanswered = self.judge.unanswered;
        self.report.taken = self.scripts.taken;
        self.report.script_faults = self.scripts.faults;
        self.report.refused = self.callers.refused.clone();
        self.report.seconds = (now.mono_ns - secs(1)) as f64 / 1e9;
    }
}

/// What a message is after it was written down and read: nothing else can reach the other side.
fn through_the_wire<M: serde::Serialize + serde::de::DeserializeOwned>(
    envelope: &Envelope<M>,
) -> Envelope<M> {
    let bytes = postcard::to_stdvec(envelope).expect("a message can be written");
    postcard::from_bytes(&bytes).expect("a message can be read back")
}

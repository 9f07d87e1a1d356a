//! A shard in virtual time, with real SIP endpoints as the caller's and the agents' phones, and with
//! the domain, the media plane and the script as scripted neighbours. Every message on the bus is
//! serialised on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cordboard_base::{Id, Now, Random, ms};
use cordboard_call::Name;
use cordboard_call::facts::Fact;
use cordboard_call::messages::*;
use cordboard_call::model::*;
use cordboard_call::policy::Fault;
use cordboard_call::router::{Incoming, Route};
use cordboard_call::script::*;
use cordboard_call::shard::{Input, Output, Prompts, Shard, ShardConfig};
use cordboard_call::timeline::{Line, Step};
use cordboard_media::clip::Clip;
use cordboard_media::control::{self, Command, PlayEnd};
use cordboard_sip::endpoint::{self, Endpoint, Event, Flow, Invite, LegId, Listener};
use cordboard_sip::sdp::{self, Codec, Direction, Local, Session};
use cordboard_sip::wire::{Message, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub const SHARD: &str = "10.0.0.1:5060";
pub const CALLER: &str = "10.0.1.1:5060";

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Where agent `n`'s phone is.
pub fn agent_at(n: usize) -> SocketAddr {
    at(&format!("10.0.2.{n}:5060"))
}

pub struct OneClip(Arc<Clip>);

impl Prompts for OneClip {
    fn clip(&self, _: &Name, name: &str) -> Option<Arc<Clip>> {
        (name != "absent").then(|| self.0.clone())
    }
}

/// A phone: a real SIP endpoint, whose user is the test.
pub struct Phone {
    pub sip: Endpoint,
    pub at: SocketAddr,
    pub events: Vec<Event>,
    pub media_port: u16,
    pub codecs: Vec<Codec>,
    /// Silent and deaf: the cable is out.
    pub unplugged: bool,
    /// What it answers an OPTIONS with.
    pub answers_options: u16,
}

impl Phone {
    pub fn new(at: SocketAddr, seed: u64) -> Self {
        let listeners = vec![Listener::udp(1, at)];
        // Without session timers, so that the probes have something to do.
        let config = endpoint::Config {
            listeners,
            shard: seed as u8,
            session_expires_s: 0,
            // Some of them play registrars.
            registrar_options: &["gin"],
            ..endpoint::Config::default()
        };
        let sip = Endpoint::new(config, Random::seeded(seed));
        Self {
            sip,
            at,
            events: Vec::new(),
            media_port: 4_000,
            codecs: vec![Codec::Pcma],
            unplugged: false,
            answers_options: 200,
        }
    }

    pub fn sdp(&self, direction: Direction) -> String {
        let local = Local { address: self.at.ip(), port: self.media_port, session_id: 1, version: 1 };
        sdp::offer(&local, &self.codecs, direction)
    }

    /// The leg of the last INVITE that rings here.
    pub fn ringing(&self) -> Option<LegId> {
        self.events
            .iter()
            .rev()
            .find_map(|e| if let Event::Incoming { leg, .. } = e { Some(*leg) } else { None })
    }

    pub fn invites(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::Incoming { .. })).count()
    }

    pub fn ended(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::Ended { .. })).count()
    }

    /// How often it was asked by OPTIONS.
    pub fn probed(&self) -> usize {
        let options =
            |e: &&Event| matches!(e, Event::Request { request, .. } if request.method() == Method::Options);
        self.events.iter().filter(options).count()
    }

    pub fn invite(&self, i: usize) -> Message {
        let requests = self
            .events
            .iter()
            .filter_map(|e| if let Event::Incoming { request, .. } = e { Some(request) } else { None });
        requests.clone().nth(i).cloned().expect("an INVITE")
    }

    /// The final status that refused our call.
    pub fn refused(&self) -> Option<(u16, Option<Message>)> {
        self.events.iter().find_map(|e| match e {
            Event::Rejected { status, response, .. } => Some((*status, response.clone())),
            _ => None,
        })
    }
}

/// What the media plane has done, as far as a test can see.
#[derive(Default)]
pub struct Media {
    pub open: BTreeSet<control::LegId>,
    pub opened: Vec<control::LegId>,
    pub playing: BTreeMap<control::LegId, (u64, bool)>,
    pub joined: BTreeSet<(control::LegId, control::LegId)>,
    pub remotes: BTreeMap<control::LegId, control::Remote>,
    pub watch: BTreeMap<control::LegId, u32>,
    pub digits: Vec<(control::LegId, String)>,
    pub recording: BTreeMap<control::LegId, u64>,
    pub hold_opens: bool,
    pub fail_opens: bool,
    pub held: Vec<control::LegId>,
    /// What is answered to who asks when a leg was heard.
    pub heard_ago_ms: Option<u64>,
}

/// Whether a datagram from the one to the other gets lost.
pub type Lose = Box<dyn Fn(SocketAddr, SocketAddr, &[u8]) -> bool>;

pub struct World {
    pub now: Now,
    pub shard: Shard,
    pub caller: Phone,
    pub agents: Vec<Phone>,
    pub media: Media,
    pub told: Vec<(Option<Id>, ToDomain)>,
    pub lines: Vec<Line>,
    pub facts: Vec<Fact>,
    /// Who asked for somebody whom nobody has.
    pub strangers: Vec<SocketAddr>,
    pub gone: Vec<Id>,
    /// Names that were asked for.
    pub names: Vec<(u64, String)>,
    /// Phones that the domain knows: user, contact, and the flow of one that has registered.
    pub phones: Vec<(String, String, Option<Flow>)>,
    /// What operators are told of trunks.
    pub notices: Vec<(bool, String)>,
    pub asked: Vec<(u64, Name, Incoming)>,
    pub started: Vec<(ScriptId, Name, CallInfo)>,
    pub heard: Vec<(ScriptId, ToScript)>,
    pub order: Vec<String>,
    pub leg: Option<LegId>,
    pub ids: u128,
    /// Datagrams between these addresses get lost.
    pub lose: Option<Lose>,
    /// Answers every `Enqueue` with a place.
    pub queue: bool,
    /// Session descriptions reach the shard as parts of bodies.
    pub in_parts: bool,
    /// Scripts end when they hear of the hang-up.
    pub scripts_end: bool,
    seq: u64,
    port: u16,
    wire: VecDeque<(SocketAddr, SocketAddr, Bytes)>,
    back: VecDeque<Input>,
    bus_seq: u64,
}

/// The same message with its session description as the second of two parts.
fn wrapped(bytes: Bytes) -> Bytes {
    const KIND: &str = "Content-Type: application/sdp\r\n";
    let text = std::str::from_utf8(&bytes).expect("phones write text");
    let Some((head, sdp)) = text.split_once("\r\n\r\n").filter(|(head, _)| head.contains(KIND)) else {
        return bytes;
    };
    let other = "Content-Disposition: x;handling=optional\r\n\r\nhello";
    let body = format!("--b\r\n{other}\r\n--b\r\n{KIND}\r\n{sdp}\r\n--b--\r\n");
    let head = head
        .replace(KIND, "Content-Type: multipart/mixed;boundary=b\r\n")
        .replace(&format!("Content-Length: {}", sdp.len()), &format!("Content-Length: {}", body.len()));
    format!("{head}\r\n\r\n{body}").into()
}

fn through_the_bus<T: Serialize + DeserializeOwned>(message: &T) -> T {
    serde_json::from_str(&serde_json::to_string(message).unwrap()).unwrap()
}

pub fn model() -> Model {
    let agent = |n: usize, name: &str| Agent {
        name: name.into(),
        phone: if n == 3 {
            Phone_::Registered { user: "carol".to_owned(), password: "secret".to_owned() }
        } else {
            Phone_::Address(format!("sip:{name}@{}", agent_at(n)))
        },
        workgroups: vec!["support".into()],
        skills: Vec::new(),
        ready_at_start: true,
    };
    Model {
        node: "node".into(),
        trunks: vec![Trunk {
            name: "trunk".into(),
            sources: vec![Network { address: "10.0.1.0".parse().unwrap(), prefix: 24, port: None }],
            max_calls: 100,
            max_calls_per_s: 100,
            pass_headers: vec!["P-Asserted-Identity".to_owned(), "X-Extra".to_owned()],
            ..Trunk::default()
        }],
        tenants: vec![Tenant {
            name: "demo".into(),
            numbers: vec!["+49*".to_owned()],
            router: None,
            script: Some("ivr".into()),
            fallback: Fallback::Announce { prompt: Some("sorry".into()), cause: 31 },
            adapters: Vec::new(),
            skills: Vec::new(),
            workgroups: vec![Workgroup {
                name: "support".into(),
                policy: None,
                ring_timeout_ms: 20_000,
                wrap_up_ms: 0,
                max_waiting: 10,
                round: 1,
                max_misses: 2,
                miss_back_off_ms: 0,
                lease_ms: 60_000,
                music: Some("music".into()),
                refuse_without_agents: false,
                expected_handle_ms: 60_000,
            }],
            agents: vec![agent(1, "alice"), agent(2, "bob"), agent(3, "carol")],
            qualify: Vec::new(),
            realm: "demo.test".to_owned(),
            call_back_grace_ms: 0,
        }],
        limits: Limits::default(),
    }
}

use cordboard_call::model::Phone as Phone_;

impl World {
    pub fn new() -> Self {
        Self::with(model())
    }

    pub fn with(model: Model) -> Self {
        Self::tuned(model, 1, |_| {})
    }

    pub fn tuned(model: Model, seed: u64, tune: impl Fn(&mut ShardConfig)) -> Self {
        let now = Now { mono_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
        let listeners = vec![Listener::udp(1, at(SHARD))];
        let mut config = ShardConfig::new(1, 7, listeners, at(SHARD).ip());
        tune(&mut config);
        let prompts = Arc::new(OneClip(Arc::new(Clip::from_samples(&[0; 800]))));
        Self {
            now,
            shard: Shard::new(config, Arc::new(model), prompts, Random::seeded(seed), now),
            caller: Phone::new(at(CALLER), 11),
            agents: (1..=3).map(|n| Phone::new(agent_at(n), 20 + n as u64)).collect(),
            media: Media::default(),
            told: Vec::new(),
            lines: Vec::new(),
            facts: Vec::new(),
            strangers: Vec::new(),
            gone: Vec::new(),
            names: Vec::new(),
            phones: Vec::new(),
            notices: Vec::new(),
            asked: Vec::new(),
            started: Vec::new(),
            heard: Vec::new(),
            order: Vec::new(),
            leg: None,
            ids: 1000,
            lose: None,
            queue: true,
            in_parts: false,
            scripts_end: true,
            seq: 0,
            port: 10_000,
            wire: VecDeque::new(),
            back: VecDeque::new(),
            bus_seq: 0,
        }
    }

    pub fn id(&mut self) -> Id {
        self.ids += 1;
        Id(self.ids)
    }

    // ---- Moving ----

    pub fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.shard.handle(self.now, input, &mut out);
        for output in out {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        self.order.push(match &output {
            Output::Send { bytes, .. } => {
                format!("send {}", String::from_utf8_lossy(bytes).split("\r\n").next().unwrap_or(""))
            }
            Output::Bus(e) => {
                format!("bus {:?}", e.body).split(['(', ' ', '{']).take(2).collect::<Vec<_>>().join(" ")
            }
            Output::Media(c) => {
                format!("media {c:?}").split([' ', '{']).take(2).collect::<Vec<_>>().join(" ")
            }
            Output::Script(_, ToScript::Done { result, .. }) => format!("script {result:?}"),
            Output::Script(..) => "script".to_owned(),
            _ => "other".to_owned(),
        });
        match output {
            Output::Send { flow, bytes } => self.wire.push_back((at(SHARD), flow.remote, bytes.into())),
            Output::Bus(envelope) => {
                let envelope = through_the_bus(&envelope);
                self.bus_seq += 1;
                assert_eq!((envelope.from, envelope.epoch, envelope.seq), (1, 7, self.bus_seq));
                self.lines.extend(envelope.lines);
                if let (true, ToDomain::Enqueue { key, .. }) = (self.queue, &envelope.body) {
                    let (key, ticket) = (*key, self.id());
                    let place = Place {
                        ticket,
                        workgroup: "support".into(),
                        direct: false,
                        position: 1,
                        wait_s: None,
                        music: Some("music".into()),
                    };
                    let body = ToShard::Enqueued { key, result: Ok(place) };
                    let input = self.envelope(envelope.interaction, body);
                    self.back.push_back(input);
                }
                if let ToDomain::Locate { request, user, uri } = &envelope.body {
                    let known =
                        |p: &&(String, String, Option<Flow>)| Some(&p.0) == user.as_ref() || p.1 == *uri;
                    let phone = self.phones.iter().find(known).map(|(_, uri, flow)| (uri.clone(), *flow));
                    let body = ToShard::Located { request: *request, phone };
                    let input = self.envelope(envelope.interaction, body);
                    self.back.push_back(input);
                }
                self.told.push((envelope.interaction, envelope.body));
            }
            Output::Media(command) => self.command(command),
            Output::AskRoute { ask, plugin, incoming, .. } => self.asked.push((ask, plugin, *incoming)),
            Output::StartScript { script, plugin, info } => self.started.push((script, plugin, *info)),
            Output::Script(script, to) => {
                if matches!(to, ToScript::HungUp) && self.scripts_end {
                    let ended = FromScript::Ended { how: ScriptEnd::Returned, attributes: Vec::new() };
                    self.back.push_back(Input::Script(script, ended));
                }
                self.heard.push((script, to));
            }
            Output::Fact(fact) => self.facts.push(through_the_bus(&fact)),
            Output::Resolve { ask, uri } => self.names.push((ask, uri)),
            Output::Notice { well, text } => self.notices.push((well, text)),
            Output::Stranger { remote } => self.strangers.push(remote),
            Output::Gone { interaction } => self.gone.push(interaction),
        }
    }

    fn command(&mut self, command: Command) {
        let m = &mut self.media;
        let leg = command.leg();
        let mut say = |event| self.back.push_back(Input::Media(event));
        match command {
            Command::Open { .. } if m.fail_opens => {
                say(control::Event::OpenFailed { leg, reason: "no ports".into() })
            }
            Command::Open { .. } => {
                m.open.insert(leg);
                m.opened.push(leg);
                if m.hold_opens {
                    m.held.push(leg);
                } else {
                    self.port += 2;
                    say(control::Event::Opened { leg, address: SocketAddr::new(at(SHARD).ip(), self.port) });
                }
            }
            _ if !m.open.contains(&leg) => {}
            Command::Remote { remote, .. } => {
                m.remotes.insert(leg, remote);
            }
            Command::Play { play, repeat, .. } => {
                if let Some((old, _)) = m.playing.insert(leg, (play, repeat)) {
                    say(control::Event::PlayEnded { leg, play: old, reason: PlayEnd::Replaced });
                }
            }
            Command::Stop { play, .. } => {
                if let Some((playing, _)) =
                    m.playing.get(&leg).copied().filter(|(p, _)| play.is_none_or(|w| w == *p))
                {
                    m.playing.remove(&leg);
                    say(control::Event::PlayEnded { leg, play: playing, reason: PlayEnd::Stopped });
                }
            }
            Command::Join { a, b } => {
                m.joined.insert((a, b));
                for leg in [a, b] {
                    if let Some((play, _)) = m.playing.remove(&leg) {
                        say(control::Event::PlayEnded { leg, play, reason: PlayEnd::Joined });
                    }
                }
            }
            Command::Part { a, b } => {
                m.joined.remove(&(a, b));
            }
            Command::Record { recording, .. } => {
                m.recording.insert(leg, recording);
            }
            Command::StopRecord { recording, .. } => {
                if m.recording.remove(&leg).is_some() {
                    say(control::Event::Recorded {
                        leg,
                        recording,
                        duration_ms: 500,
                        reason: control::RecordEnd::Stopped,
                    });
                }
            }
            Command::Watch { silent_after_ms, .. } => {
                m.watch.insert(leg, silent_after_ms);
            }
            Command::SendDigits { digits, .. } => m.digits.push((leg, digits)),
            Command::Detect { .. } => {}
            Command::Ask { .. } => {
                let ago_ms = m.heard_ago_ms;
                say(control::Event::Heard { leg, ago_ms });
            }
            Command::Close { .. } => {
                m.open.remove(&leg);
                m.playing.remove(&leg);
                m.joined.retain(|(a, b)| *a != leg && *b != leg);
                say(control::Event::Closed { leg, stats: control::Stats::default() });
            }
        }
    }

    /// Delivers what is under way until nothing moves; time stands still.
    pub fn run(&mut self) {
        loop {
            let mut moved = false;
            for phone in std::iter::once(&mut self.caller).chain(&mut self.agents) {
                while let Some(output) = phone.sip.poll() {
                    moved = true;
                    match output {
                        endpoint::Output::Send(d) if !phone.unplugged => {
                            self.wire.push_back((phone.at, d.flow.remote, d.bytes.into()));
                        }
                        endpoint::Output::Send(_) => {}
                        endpoint::Output::Event(e) => {
                            if let (Event::Request { txn, request, .. }, now) = (&e, self.now)
                                && request.method() == Method::Options
                            {
                                phone.sip.respond(now, *txn, phone.answers_options, &[], None);
                            }
                            if let (Event::Request { txn, request, .. }, now) = (&e, self.now)
                                && request.method() == Method::Notify
                            {
                                phone.sip.respond(now, *txn, 200, &[], None);
                            }
                            phone.events.push(e);
                        }
                    }
                }
            }
            if let Some(input) = self.back.pop_front() {
                moved = true;
                self.input(input);
            }
            if let Some((from, to, bytes)) = self.wire.pop_front() {
                moved = true;
                if !self.lose.as_ref().is_some_and(|lose| lose(from, to, &bytes)) {
                    self.deliver(from, to, bytes);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let bytes = if self.in_parts && to == at(SHARD) { wrapped(bytes) } else { bytes };
        if to == at(SHARD) {
            return self.input(Input::Datagram { flow: Flow::udp(1, from), bytes });
        }
        let now = self.now;
        let mut phones = std::iter::once(&mut self.caller).chain(&mut self.agents);
        if let Some(phone) = phones.find(|p| p.at == to && !p.unplugged) {
            phone.sip.receive(now, Flow::udp(1, from), bytes);
        }
    }

    /// Lets time pass, timer by timer.
    pub fn pass(&mut self, after_ms: u64) {
        self.run();
        let end = self.now.after_ns(ms(after_ms));
        loop {
            let phones = std::iter::once(&mut self.caller).chain(&mut self.agents);
            let phones = phones.filter_map(|p| p.sip.next_deadline_ns()).min();
            let shard = self.shard.next_deadline_ns();
            let next = phones.into_iter().chain(shard).min().unwrap_or(u64::MAX);
            let to = next.clamp(self.now.mono_ns, end.max(self.now.mono_ns));
            self.now = self.now.plus_ns(to - self.now.mono_ns);
            if next > end {
                return;
            }
            let now = self.now;
            for phone in std::iter::once(&mut self.caller).chain(&mut self.agents) {
                phone.sip.tick(now);
            }
            self.input(Input::Tick);
            self.run();
        }
    }

    // ---- The domain's part ----

    fn envelope(&mut self, interaction: Option<Id>, body: ToShard) -> Input {
        self.seq += 1;
        let envelope = Envelope { from: 0, epoch: 1, seq: self.seq, interaction, lines: Vec::new(), body };
        Input::Bus(through_the_bus(&envelope))
    }

    pub fn tell(&mut self, body: ToShard) {
        let interaction = Some(self.interaction());
        let input = self.envelope(interaction, body);
        self.input(input);
        self.run();
    }

    pub fn interaction(&self) -> Id {
        self.told
            .iter()
            .find_map(|(i, m)| matches!(m, ToDomain::CallNew(_)).then_some(*i))
            .flatten()
            .expect("a call")
    }

    /// An offer that is not told yet.
    pub fn make_offer(&mut self, ticket: Id, agents: &[usize]) -> (Vec<Id>, ToShard) {
        let names = ["", "alice", "bob", "carol"];
        let agents: Vec<Offered> = agents
            .iter()
            .map(|n| Offered {
                agent: names[*n].into(),
                token: self.id(),
                uri: format!("sip:{}@{}", names[*n], agent_at(*n)),
                flow: None,
            })
            .collect();
        let tokens = agents.iter().map(|a| a.token).collect();
        let offer =
            Offer { ticket, agents, ring_timeout_ms: 20_000, lease_ms: 60_000, workgroup: "support".into() };
        (tokens, ToShard::Offer(offer))
    }

    pub fn offer(&mut self, ticket: Id, agents: &[usize]) -> Vec<Id> {
        let (tokens, offer) = self.make_offer(ticket, agents);
        self.tell(offer);
        tokens
    }

    /// What the shard has said of a token.
    pub fn settled(&self, token: Id) -> Vec<OfferResult> {
        self.told
            .iter()
            .filter_map(|(_, m)| match m {
                ToDomain::Settled(s) if s.token == token => Some(s.result.clone()),
                _ => None,
            })
            .collect()
    }

    pub fn ended(&self) -> Vec<CallEnded> {
        self.told
            .iter()
            .filter_map(|(_, m)| if let ToDomain::CallEnded(e) = m { Some(e.clone()) } else { None })
            .collect()
    }

    pub fn talk_ends(&self) -> Vec<TalkEnd> {
        self.told
            .iter()
            .filter_map(|(_, m)| if let ToDomain::TalkEnded { how, .. } = m { Some(*how) } else { None })
            .collect()
    }

    pub fn steps(&self) -> Vec<Step> {
        self.lines.iter().map(|l| l.step).filter(|s| *s != Step::After).collect()
    }

    pub fn line(&self, step: Step) -> &Line {
        self.lines
            .iter()
            .find(|l| l.step == step)
            .unwrap_or_else(|| panic!("no line {step:?} in {:#?}", self.lines))
    }

    // ---- The caller's part ----

    pub fn dial(&mut self, number: &str, sdp: bool) {
        self.dial_with(number, sdp, "\"Ann\" <sip:+331@10.0.1.1>", &[("X-Extra", "extra")]);
    }

    /// A call with this From and these headers.
    pub fn dial_with(&mut self, number: &str, sdp: bool, from: &str, headers: &[(&str, &str)]) {
        let sdp = sdp.then(|| self.caller.sdp(Direction::SendRecv));
        let invite = Invite {
            listener: 1,
            target: format!("sip:{number}@{SHARD}"),
            from: from.to_owned(),
            to: format!("<sip:{number}@{SHARD}>"),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            sdp,
            ..Invite::default()
        };
        let leg = self.caller.sip.invite(self.now, invite).unwrap();
        self.leg = Some(leg);
        self.run();
    }

    pub fn hang_up(&mut self) {
        let leg = self.leg.expect("a call");
        self.caller.sip.hang_up(self.now, leg, None);
        self.run();
    }

    // ---- An agent's part ----

    pub fn agent(&mut self, n: usize) -> &mut Phone {
        &mut self.agents[n - 1]
    }

    pub fn ring(&mut self, n: usize) {
        let (now, phone) = (self.now, &mut self.agents[n - 1]);
        let leg = phone.ringing().expect("an INVITE at the agent's phone");
        phone.sip.progress(now, leg, 180, None);
        self.run();
    }

    pub fn accept_unrun(&mut self, n: usize) {
        let (now, phone) = (self.now, &mut self.agents[n - 1]);
        let leg = phone.ringing().expect("an INVITE at the agent's phone");
        let offer = Session::parse(phone.invite(phone.invites() - 1).body()).expect("an offer");
        let local = Local { address: phone.at.ip(), port: phone.media_port, session_id: 5, version: 1 };
        let (answer, _) = sdp::answer(&offer, &local, &phone.codecs, Direction::SendRecv).expect("an answer");
        phone.sip.answer(now, leg, Some(&answer));
    }

    pub fn accept(&mut self, n: usize) {
        self.accept_unrun(n);
        self.run();
    }

    pub fn refuse(&mut self, n: usize, status: u16) {
        let (now, phone) = (self.now, &mut self.agents[n - 1]);
        let leg = phone.ringing().expect("an INVITE at the agent's phone");
        phone.sip.reject(now, leg, status, &[]);
        self.run();
    }

    pub fn agent_hangs_up(&mut self, n: usize) {
        let (now, phone) = (self.now, &mut self.agents[n - 1]);
        let leg = phone.ringing().expect("an INVITE at the agent's phone");
        phone.sip.hang_up(now, leg, None);
        self.run();
    }

    // ---- The router's and the script's part ----

    pub fn route(&mut self, answer: Result<Route, Fault>) {
        let ask = self.asked.last().expect("a question").0;
        self.input(Input::Routed { ask, answer });
        self.run();
    }

    /// Begins a verb of the last script.
    pub fn verb(&mut self, what: Verb) -> u32 {
        let script = self.started.last().expect("a script").0;
        let verb = self.id().0 as u32;
        self.input(Input::Script(script, FromScript::Verb { verb, attributes: Vec::new(), what }));
        self.run();
        verb
    }

    /// How a verb ended, if it has.
    pub fn result(&self, verb: u32) -> Option<Result<Done, Failure>> {
        let mut results = self.heard.iter().filter_map(|(_, to)| match to {
            ToScript::Done { verb: v, result } if *v == verb => Some(result.clone()),
            _ => None,
        });
        let result = results.next();
        assert!(results.next().is_none(), "a verb completes once");
        result
    }

    /// Runs a verb that completes at once.
    pub fn does(&mut self, what: Verb) -> Result<Done, Failure> {
        let verb = self.verb(what);
        self.result(verb).expect("the verb completes at once")
    }

    pub fn script_ends(&mut self, how: ScriptEnd) {
        let script = self.started.last().expect("a script").0;
        self.input(Input::Script(script, FromScript::Ended { how, attributes: Vec::new() }));
        self.run();
    }

    pub fn hung_up_told(&self) -> usize {
        self.heard.iter().filter(|(_, to)| matches!(to, ToScript::HungUp)).count()
    }

    pub fn digit(&mut self, digit: char) {
        let leg = self.media.opened[0];
        self.input(Input::Media(control::Event::Digit { leg, digit, duration_ms: 100 }));
        self.run();
    }

    pub fn play_ends(&mut self, reason: PlayEnd) {
        let leg = self.media.opened[0];
        let (play, _) = self.media.playing.remove(&leg).expect("something plays");
        self.input(Input::Media(control::Event::PlayEnded { leg, play, reason }));
        self.run();
    }

    pub fn caller_hears_music(&self) -> bool {
        self.media.playing.get(&self.media.opened[0]).is_some_and(|(_, repeat)| *repeat)
    }

    // ---- Whole ways ----

    /// Dials, and the script answers and queues; the ticket.
    pub fn queued(&mut self) -> Id {
        self.dial("+4930", true);
        assert_eq!(self.does(Verb::Answer), Ok(Done::Ok));
        self.enqueue()
    }

    pub fn enqueue(&mut self) -> Id {
        let what = Verb::Enqueue { workgroup: "support".to_owned(), request: QueueRequest::default() };
        match self.does(what) {
            Ok(Done::Queued { ticket, .. }) => ticket,
            other => panic!("{other:?}"),
        }
    }

    /// Queued, offered to alice, accepted; ticket and token.
    pub fn talking(&mut self) -> (Id, Id) {
        let ticket = self.queued();
        let token = self.offer(ticket, &[1])[0];
        self.accept(1);
        assert_eq!(self.settled(token), [OfferResult::Accepted]);
        assert_eq!(self.media.joined.len(), 1);
        (ticket, token)
    }

    /// The end of everything: nothing is left anywhere, and each thing that must be said was said once.
    pub fn over(&mut self) -> CallEnded {
        self.pass(70_000);
        let ended = self.ended();
        assert_eq!(ended.len(), 1, "the end is told once: {ended:?}");
        assert_eq!(self.gone, [self.interaction()]);
        let counts = self.shard.counts();
        assert!(counts.idle(), "{counts:#?}");
        assert_eq!(counts.totals.illegal_hand_offs, 0, "{:#?}", self.lines);
        assert_eq!(counts.endpoint.transactions, 0);
        assert!(self.media.open.is_empty());
        let up = self.facts.iter().filter(|f| matches!(f, Fact::DialogUp { .. })).count();
        let down = self.facts.iter().filter(|f| matches!(f, Fact::DialogDown { .. })).count();
        assert_eq!(up, down, "every dialog that went up came down");
        for phone in std::iter::once(&self.caller).chain(&self.agents).filter(|p| !p.unplugged) {
            assert_eq!(phone.sip.counts().legs, 0, "a leg is left at {}", phone.at);
        }
        let mut tokens: Vec<Id> = Vec::new();
        for (_, message) in &self.told {
            if let ToDomain::Settled(s) = message {
                assert!(!tokens.contains(&s.token), "a token is settled once");
                tokens.push(s.token);
            }
        }
        let after = |m: &ToDomain| match m {
            ToDomain::Settled(s) => s.result != OfferResult::NoCall,
            _ => true,
        };
        let last = self.told.iter().rposition(|(_, m)| after(m)).unwrap();
        assert!(matches!(self.told[last].1, ToDomain::CallEnded(_)), "the end is the last word");
        ended.into_iter().next().unwrap()
    }
}

//! The signalling thread: sockets, inbox and timers around one [`Shard`].
//!
//! While the domain is behind (its inbox is full) or the media thread or the journal takes no more,
//! the loop stops reading its sockets, so that callers are slowed by SIP's own retransmissions;
//! what is already in the house goes on. The inbox is always emptied.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use cordboard_base::{Id, Now, Pace, ms};
use cordboard_bus::{Carrier, Inbox, Link, Outlet, Waker};
use cordboard_call::Name;
use cordboard_call::facts::Fact;
use cordboard_call::messages::ToShard;
use cordboard_call::model::Model;
use cordboard_call::policy::Fault;
use cordboard_call::redirect::Note;
use cordboard_call::router::{Incoming, Route};
use cordboard_call::script::{CallInfo, FromScript, ScriptId, ToScript};
use cordboard_call::shard::{Counts, Input, Output, Prompts, Shard, ShardConfig, TrunkView};
use cordboard_media::control;
use cordboard_net::Clock;
use cordboard_net::media::MediaHandle;
use cordboard_net::stream::{self, Connections};
use cordboard_net::udp::Port;
use cordboard_sip::defence::What;
use cordboard_sip::endpoint::{DialogRecord, Flow};
use cordboard_sip::redirect::{Key, Plain, answer_503};
use cordboard_sip::resolve::Target;
use cordboard_sip::transport::Hop;
use cordboard_sip::wire::Message;
use mio::{Events, Poll, Token};

use super::domain::DomainMail;
use super::gate::Gate;
use super::questions::Questions;
use super::sockets::{Sockets, Traffic};
use super::until;
use crate::trace::{Path, Tap};

/// What a shard's thread is sent.
#[derive(Debug)]
pub enum ShardMail {
    /// From the domain.
    Bus(Carrier<ToShard>),
    /// From a media thread.
    Media(Vec<control::Event>),
    /// From the router plugin.
    Routed(u64, Result<Route, Fault>),
    /// From DNS.
    Resolved(u64, Result<Vec<Target>, String>),
    /// From a script.
    Script(ScriptId, FromScript),
    /// From the redirect role, of one batch.
    Notes(Vec<Note>),
    /// A new configuration.
    Configure(Arc<Model>, SharedPrompts),
    /// New certificates and limits of connections.
    Renew(Box<stream::Renewal>),
    /// Take no new calls.
    Drain,
    /// End the thread.
    Stop,
}

/// The prompts' library as the shard asks it.
#[derive(Clone)]
pub struct SharedPrompts(pub Arc<dyn Prompts>);

impl std::fmt::Debug for SharedPrompts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedPrompts")
    }
}

impl From<Carrier<ToShard>> for ShardMail {
    fn from(carrier: Carrier<ToShard>) -> Self {
        Self::Bus(carrier)
    }
}

/// Who runs what a shard only asks for. Called on the shard's thread: it must not wait.
pub trait Plugins: Send + 'static {
    /// Asks a router; the answer comes as [`ShardMail::Routed`].
    fn ask_route(&self, ask: u64, plugin: Name, interaction: Id, incoming: Box<Incoming>);
    /// Resolves the host of a URI; the answer comes as [`ShardMail::Resolved`].
    fn resolve(&self, ask: u64, uri: String);
    /// Starts a script.
    fn start_script(&self, script: ScriptId, plugin: Name, info: CallInfo);
    /// Tells a script.
    fn tell_script(&self, script: ScriptId, message: ToScript);
    /// A batch is complete: what was said above has to be carried out now.
    fn flush(&self);
}

/// What others may know of a shard's thread.
#[derive(Debug, Default)]
pub struct ShardView {
    counts: Mutex<Option<Counts>>,
    trunks: Mutex<Vec<TrunkView>>,
    traffic: Mutex<Traffic>,
    /// Calls that are up.
    pub calls: AtomicU64,
    /// Calls since the start.
    pub calls_total: AtomicU64,
    /// Whether nothing is left of any call.
    pub idle: AtomicBool,
    /// Times that reading the sockets was put off since others were behind.
    pub held_back: AtomicU64,
    /// New calls that got 503 since datagrams came faster than they could be served.
    pub shed: AtomicU64,
    /// OPTIONS and the like that were passed over for the same reason.
    pub passed_over: AtomicU64,
    /// Rounds of the loop.
    pub rounds: AtomicU64,
}

impl ShardView {
    /// The machine's counts, at most a quarter of a second old.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        *self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What the trunks are doing, at most a quarter of a second old.
    #[must_use]
    pub fn trunks(&self) -> Vec<TrunkView> {
        self.trunks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The sockets' counters.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Takes facts without waiting; gives them back when it cannot.
pub type Notes = Box<dyn FnMut(Vec<Fact>) -> Result<(), Vec<Fact>> + Send>;

/// What a shard's thread is made of.
pub struct ShardSetup<P> {
    /// The machine's configuration.
    pub config: ShardConfig,
    /// The model.
    pub model: Arc<Model>,
    /// The library.
    pub prompts: SharedPrompts,
    /// The clock of the process.
    pub clock: Clock,
    /// The UDP sockets, by listener.
    pub ports: Vec<(u16, Port)>,
    /// What else listens, watched by [`Self::poll`].
    pub connections: Connections,
    /// The poll that [`Self::waker`] wakes.
    pub poll: Poll,
    /// Wakes the thread.
    pub waker: Waker,
    /// What it is sent.
    pub inbox: Inbox<ShardMail>,
    /// To the domain.
    pub domain: Link<DomainMail>,
    /// To the media thread.
    pub media: MediaHandle,
    /// To the plugins.
    pub plugins: P,
    /// Takes facts without waiting; gives them back when it cannot.
    pub note: Notes,
    /// Dialogs of a former life, with the names of their legs.
    pub orphans: Vec<(u64, DialogRecord)>,
    /// What is seen of the SIP.
    pub tap: Tap,
    /// Asked about whoever is no trunk.
    pub gate: Gate,
    /// What others may know.
    pub view: Arc<ShardView>,
}

const WAKE: Token = Token(usize::MAX);
/// Under load rounds begin so far apart, in milliseconds: what comes meanwhile shares one wake-up,
/// here and at everybody who is told. As long as a packet of audio, and no audio passes here.
const ROUND_MS: u64 = 20;
/// Rounds that begin at once before that holds: a call by itself never waits.
const ROUNDS_AT_ONCE: u64 = 20;
/// Rounds in a row that left the sockets full after which calls above a limit are shed at the door.
const PRESSED: u32 = 2;
/// The same, for every new call, whoever's it is: shedding those above a limit has not helped.
const PRESSED_LONG: u32 = 16;
/// Mail taken before the sockets get their turn.
const MAIL: usize = 4_096;

/// A poll and the coalescing waker for it.
///
/// # Errors
/// When the system gives no descriptors.
pub fn poll() -> std::io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), WAKE)?;
    Ok((poll, Waker::new(move || drop(waker.wake()))))
}

/// Starts the thread.
///
/// # Errors
/// When the system gives no thread.
pub fn start<P: Plugins>(setup: ShardSetup<P>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("shard-{}", setup.config.number)).spawn(move || run(setup))
}

struct Loop<P> {
    shard: Shard,
    sockets: Sockets,
    domain: Link<DomainMail>,
    media: MediaHandle,
    commands: VecDeque<control::Command>,
    plugins: P,
    note: Notes,
    facts: Vec<Fact>,
    clock: Clock,
    tap: Tap,
    out: Vec<Output>,
    now: Now,
    gate: Gate,
    model: Arc<Model>,
    key: Key,
    /// Rounds in a row that could not empty the sockets.
    pressed: u32,
    shed: u64,
    questions: Questions,
    passed_over: u64,
    /// The bans that had begun when it was last looked whose connections are up.
    bans: u64,
    /// A banned source may still turn out to be a trunk's.
    doubt: bool,
}

fn run<P: Plugins>(setup: ShardSetup<P>) {
    let ShardSetup {
        config,
        model,
        prompts,
        clock,
        ports,
        connections,
        mut poll,
        waker,
        inbox,
        domain,
        media,
        plugins,
        note,
        orphans,
        tap,
        gate,
        view,
    } = setup;
    let sockets = match Sockets::new(&poll, ports, connections) {
        Ok(sockets) => sockets,
        Err(error) => {
            tracing::error!(%error, "a socket cannot be watched; the shard ends");
            return;
        }
    };
    let mut secret = [0; 16];
    secret.copy_from_slice(&super::seed()[..16]);
    let shard = Shard::new(config, model.clone(), prompts.0, super::entropy(), clock.now());
    let mut l = Loop {
        shard,
        sockets,
        domain,
        media,
        commands: VecDeque::new(),
        plugins,
        note,
        facts: Vec::new(),
        clock,
        tap,
        out: Vec::new(),
        now: clock.now(),
        gate,
        model,
        key: Key::new(secret),
        pressed: 0,
        shed: 0,
        questions: Questions::default(),
        passed_over: 0,
        bans: 0,
        doubt: false,
    };
    let mut now = clock.now();
    let mut pace = Pace::new(ms(ROUND_MS), ROUNDS_AT_ONCE);
    // Before any new call can use the same names.
    l.facts.extend(orphans.iter().map(|(leg, _)| Fact::DialogDown { leg: *leg }));
    let dialogs: Vec<_> = orphans.into_iter().map(|(_, dialog)| dialog).collect();
    if !dialogs.is_empty() {
        tracing::info!(dialogs = dialogs.len(), "dialogs of the former life get their BYE");
    }
    l.shard.end_orphans(now, dialogs, &mut l.out);
    l.carry_out();
    let mut events = Events::with_capacity(64);
    let mut told = 0_u64;
    let mut busy = false;
    loop {
        // Before the poll and not after it: a busy thread then sleeps once a round and not twice.
        let wait_ns = pace.wait_ns(now.mono_ns);
        if !busy && wait_ns > 0 {
            std::thread::sleep(Duration::from_nanos(wait_ns));
            now = clock.now();
        }
        let sleep = if busy {
            Duration::ZERO
        } else {
            let deadlines = [l.shard.next_deadline_ns(), l.sockets.next_deadline_ns()];
            until(now, deadlines.into_iter().flatten().min(), Duration::from_millis(250))
        };
        if let Err(error) = poll.poll(&mut events, Some(sleep))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            panic!("polling failed: {error}");
        }
        // Before draining: whatever comes from now on wakes again.
        waker.clear();
        now = clock.now();
        l.now = now;
        pace.begin(now.mono_ns);
        view.rounds.fetch_add(1, Relaxed);
        for event in &events {
            l.sockets.event(event);
        }
        busy = false;
        let mut mail = 0;
        while let Some(message) = inbox.take() {
            if matches!(message, ShardMail::Stop) {
                l.carry_out();
                l.sockets.close();
                return;
            }
            // Mail may be younger than the round: what it brings about is not dated before it.
            now = clock.now();
            l.mail(now, message);
            mail += 1;
            if mail == MAIL {
                busy = true;
                break;
            }
        }
        l.carry_out();
        let caught_up = l.caught_up();
        busy |= l.read(now, caught_up);
        if !caught_up {
            view.held_back.fetch_add(1, Relaxed);
        }
        if l.shard.next_deadline_ns().is_some_and(|at| at <= now.mono_ns) {
            l.shard.handle(now, Input::Tick, &mut l.out);
        }
        l.carry_out();
        if now.mono_ns >= told {
            told = now.mono_ns + 200_000_000;
            l.tap.sweep(now);
            l.shut_out(now);
            l.tell(now, &view);
        }
    }
}

impl<P: Plugins> Loop<P> {
    fn mail(&mut self, now: Now, message: ShardMail) {
        let out = &mut self.out;
        match message {
            ShardMail::Bus(carrier) => match carrier.open() {
                Ok(envelope) => self.shard.handle(now, Input::Bus(envelope), out),
                Err(error) => tracing::error!(%error, "an envelope from the domain cannot be read"),
            },
            ShardMail::Media(events) => {
                for event in events {
                    self.shard.handle(now, Input::Media(event), out);
                }
            }
            ShardMail::Routed(ask, answer) => self.shard.handle(now, Input::Routed { ask, answer }, out),
            ShardMail::Resolved(ask, answer) => {
                let hop = |Target { address, transport, server_name }| {
                    let name = transport.is_secure().then(|| self.sockets.name(&server_name));
                    Hop { address, transport: Some(transport), name }
                };
                let answer = answer.map(|targets| targets.into_iter().map(hop).collect());
                self.shard.handle(now, Input::Resolved { ask, answer }, out);
            }
            ShardMail::Script(script, from) => self.shard.handle(now, Input::Script(script, from), out),
            ShardMail::Notes(notes) => {
                for note in notes {
                    self.shard.handle(now, Input::Redirected(note), out);
                }
            }
            ShardMail::Configure(model, prompts) => {
                self.model = model.clone();
                self.shard.configure(model, prompts.0);
            }
            ShardMail::Renew(renewal) => self.sockets.renew(*renewal),
            ShardMail::Drain => self.shard.handle(now, Input::Drain, out),
            ShardMail::Stop => {}
        }
    }

    /// Reads the sockets if `read`; whether there is more to do at once.
    fn read(&mut self, now: Now, read: bool) -> bool {
        let Self {
            sockets,
            shard,
            tap,
            clock,
            out,
            gate,
            model,
            key,
            pressed,
            shed,
            questions,
            passed_over,
            doubt,
            ..
        } = self;
        questions.turn();
        let seen = tap.is_on();
        let (mut count, shed_before) = (0_u64, *shed + *passed_over);
        let more = sockets.turn(now, read, |transport, remote| {
            let banned = gate.is_banned(now, remote.ip()) && !shard.calls_to(now, remote.ip());
            // Where a trunk is known by its certificate, it is heard before it is shut out.
            let may_prove =
                || transport.is_secure() && model.trunks.iter().any(|trunk| !trunk.certificates.is_empty());
            let lets_in = !banned || may_prove();
            *doubt |= banned && lets_in;
            lets_in
        });
        let more = more
            | sockets.take(read, |at, input| {
                let (Some((transport, local)), Input::Datagram { flow, bytes }) = (at, &input) else {
                    return shard.handle(now, input, out);
                };
                count += 1;
                if seen {
                    let path = Path { sent: false, transport, local, remote: flow.remote };
                    tap.message(clock.now(), path, bytes);
                }
                // Trunks pass without a question.
                if !shard.is_trunk(now, *flow) && !gate.lets_in(now, flow.remote, bytes) {
                    return;
                }
                // Before any call: what only asks.
                // Silence is an answer over UDP alone, where a client asks again (RFC 3261 17.1.2.2).
                if *pressed >= PRESSED && flow.connection.is_none() && questions.waits(flow.remote, bytes) {
                    *passed_over += 1;
                    return;
                }
                // First those whose limits refuse them anyway; when that does not help, everybody.
                if *pressed >= PRESSED
                    && (*pressed >= PRESSED_LONG || shard.is_full_for(now, flow.remote))
                    && let Some((to, bytes)) = too_many(shard, model, key, *flow, bytes)
                {
                    *shed += 1;
                    return out.push(Output::Send { flow: to, bytes });
                }
                shard.handle(now, input, out);
            });
        *pressed = match more {
            false => 0,
            // A flood that is being shed is no reason to shed others.
            true if (*shed + *passed_over - shed_before) * 2 > count => (*pressed).max(PRESSED),
            true => *pressed + 1,
        };
        more
    }

    /// Ends the connections of those who were banned since the last time.
    fn shut_out(&mut self, now: Now) {
        let begun = self.gate.begun();
        if std::mem::replace(&mut self.bans, begun) != begun || self.doubt {
            let Self { sockets, shard, gate, .. } = self;
            self.doubt = sockets.shut_out(|ip| gate.is_banned(now, ip), |flow| shard.is_trunk(now, flow));
        }
    }

    /// Carries out what the machine wants done, in order for each receiver.
    fn carry_out(&mut self) {
        let seen = (!self.out.is_empty() && self.tap.is_on()).then(|| self.clock.now());
        for output in self.out.drain(..) {
            match output {
                Output::Send { flow, bytes } => {
                    if let Some(offence) = Gate::offence(&bytes)
                        && !self.shard.is_trunk(self.now, flow)
                    {
                        self.gate.note(self.now, flow.remote, offence);
                    }
                    if let Some(now) = seen
                        && let Some((transport, local)) = self.sockets.address(flow.listener)
                    {
                        let path = Path { sent: true, transport, local, remote: flow.remote };
                        self.tap.message(now, path, &Bytes::copy_from_slice(&bytes));
                    }
                    self.sockets.send(flow, bytes);
                }
                Output::Bus(envelope) => self.domain.put(envelope),
                Output::Media(command) => {
                    if !self.commands.is_empty() {
                        self.commands.push_back(command);
                    } else if let Err(cordboard_net::media::Refused::Full(command)) = self.media.put(command)
                    {
                        self.commands.push_back(*command);
                    }
                }
                Output::AskRoute { ask, plugin, interaction, incoming } => {
                    self.plugins.ask_route(ask, plugin, interaction, incoming);
                }
                Output::Resolve { ask, uri } => self.plugins.resolve(ask, uri),
                Output::StartScript { script, plugin, info } => {
                    self.plugins.start_script(script, plugin, *info)
                }
                Output::Script(script, message) => self.plugins.tell_script(script, message),
                Output::Fact(fact) => self.facts.push(fact),
                Output::Notice { well: true, text } => tracing::info!("{text}"),
                Output::Notice { well: false, text } => tracing::warn!("{text}"),
                Output::Stranger { remote } => self.gate.note(self.now, remote, What::UnknownTarget),
                Output::Gone { .. } => {}
            }
        }
        self.domain.flush();
        self.media.wake();
        self.plugins.flush();
        self.sockets.flush();
        if !self.facts.is_empty()
            && let Err(facts) = (self.note)(std::mem::take(&mut self.facts))
        {
            self.facts = facts;
        }
    }

    /// Hands on what is held; whether nothing is held any more.
    fn caught_up(&mut self) -> bool {
        while let Some(command) = self.commands.pop_front() {
            if let Err(cordboard_net::media::Refused::Full(command)) = self.media.send(command) {
                self.commands.push_front(*command);
                break;
            }
        }
        self.domain.flush() && self.commands.is_empty() && self.facts.is_empty()
    }

    fn tell(&self, now: Now, view: &ShardView) {
        let counts = self.shard.counts();
        view.shed.store(self.shed, Relaxed);
        view.passed_over.store(self.passed_over, Relaxed);
        view.calls.store(counts.calls as u64, Relaxed);
        view.calls_total.store(counts.totals.calls, Relaxed);
        view.idle.store(counts.idle(), Relaxed);
        *view.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(counts);
        *view.trunks.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = self.shard.trunks(now);
        *view.traffic.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = self.sockets.traffic();
    }
}

/// 503 for a new call, with neither transaction nor plugin: what is left of the processor belongs to the
/// calls that are up. A retransmission of an INVITE that we have is none.
fn too_many(shard: &Shard, model: &Model, key: &Key, from: Flow, bytes: &Bytes) -> Option<(Flow, Vec<u8>)> {
    let plain = Plain::read(bytes).filter(|invite| !shard.knows(invite.call_id()))?;
    let message = Message::parse(bytes.clone()).ok()?;
    let to =
        if from.connection.is_none() { Flow { remote: plain.reply_to(from.remote), ..from } } else { from };
    Some((to, answer_503(&message, from.remote, key, model.limits.retry_after_s)))
}

/// Sends to a shard from a thread that may wait a moment: the shard always empties its inbox.
pub fn post(to: &Outlet<ShardMail>, mail: ShardMail) {
    to.send_waiting(mail);
}

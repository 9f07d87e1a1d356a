//! The domain's thread: an inbox in batches around one [`Domain`], with the queue policies in the
//! same thread, and every output held until the facts of its batch are durable.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cordboard_base::Now;
use cordboard_bus::{Carrier, Inbox, Parker};
use cordboard_call::Name;
use cordboard_call::commands::Command;
use cordboard_call::domain::counts::{Board, Counts};
use cordboard_call::domain::{Domain, Input, Output};
use cordboard_call::facts::Fact;
use cordboard_call::messages::ToDomain;
use cordboard_call::model::Model;
use cordboard_call::policy::Policies;
use cordboard_net::Clock;
use cordboard_store::{Batch, Journal};

use super::release::{Releaser, Told};
use super::until;

/// What a domain's thread is sent.
#[derive(Debug)]
pub enum DomainMail {
    /// From a shard.
    Bus(Carrier<ToDomain>),
    /// From the API; the number names the reply.
    Command(u64, Command),
    /// A new configuration.
    Configure(Arc<Model>),
    /// Another version of a policy is in service.
    PolicyChanged(Name),
    /// Replace the journal by a snapshot.
    Compact,
    /// End the thread.
    Stop,
}

impl From<Carrier<ToDomain>> for DomainMail {
    fn from(carrier: Carrier<ToDomain>) -> Self {
        Self::Bus(carrier)
    }
}

/// What others may know of a domain's thread.
#[derive(Debug, Default)]
pub struct DomainView {
    counts: Mutex<Option<Counts>>,
    board: Mutex<Option<Arc<Board>>>,
    /// Rounds of the loop.
    pub rounds: AtomicU64,
    /// Batches that needed no commit.
    pub released_at_once: AtomicU64,
}

impl DomainView {
    /// The machine's counts, at most a quarter of a second old.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues and agents in figures, at most a quarter of a second old.
    #[must_use]
    pub fn board(&self) -> Option<Arc<Board>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a domain's thread is made of. The thread makes the rest itself, since parts of it may not move.
pub struct DomainSetup<P> {
    /// The model.
    pub model: Arc<Model>,
    /// A life of the domain.
    pub epoch: u64,
    /// The clock of the process.
    pub clock: Clock,
    /// The facts of former lives.
    pub facts: Vec<Fact>,
    /// Makes the policies, on the thread.
    pub policies: P,
    /// The journal.
    pub journal: Journal<Vec<Told>>,
    /// Where outputs go.
    pub releaser: Arc<Releaser>,
    /// What others may know.
    pub view: Arc<DomainView>,
}

/// Inputs handled before their outputs are handed on.
const BATCH: usize = 512;

/// Starts the thread. `ready` gets the sending end of its inbox once the former life is recovered.
///
/// # Errors
/// When the system gives no thread.
pub fn start<P, F>(
    setup: DomainSetup<F>,
    capacity: usize,
    ready: impl FnOnce(cordboard_bus::Outlet<DomainMail>) + Send + 'static,
) -> std::io::Result<JoinHandle<()>>
where
    P: Policies,
    F: FnOnce() -> P + Send + 'static,
{
    std::thread::Builder::new().name("domain".into()).spawn(move || {
        let parker = Parker::new();
        let (outlet, inbox) = cordboard_bus::inbox(capacity, parker.waker());
        let DomainSetup { model, epoch, clock, facts, policies, journal, releaser, view } = setup;
        let policies = policies();
        let now = clock.now();
        let mut domain = Domain::new(model, 0, epoch, super::entropy(), now);
        let mut l = Loop { out: domain.recover(now, facts), domain, policies, journal, releaser, view };
        l.hand_on(now);
        ready(outlet);
        l.run(clock, &parker, &inbox);
    })
}

struct Loop<P> {
    domain: Domain,
    policies: P,
    journal: Journal<Vec<Told>>,
    releaser: Arc<Releaser>,
    view: Arc<DomainView>,
    out: Vec<Output>,
}

impl<P: Policies> Loop<P> {
    fn run(&mut self, clock: Clock, parker: &Parker, inbox: &Inbox<DomainMail>) {
        let mut now = clock.now();
        let mut told = 0;
        loop {
            let sleep = until(now, self.domain.next_deadline_ns(), Duration::from_millis(250));
            if !sleep.is_zero() && inbox.is_empty() {
                parker.park(sleep);
            }
            now = clock.now();
            self.view.rounds.fetch_add(1, Relaxed);
            for _ in 0..BATCH {
                let Some(mail) = inbox.take() else { break };
                // Mail may be younger than the round: what it brings about is not dated before it.
                now = clock.now();
                match mail {
                    DomainMail::Stop => {
                        self.hand_on(now);
                        return;
                    }
                    DomainMail::Compact => {
                        self.hand_on(now);
                        self.journal.compact(self.domain.snapshot());
                    }
                    mail => self.take(now, mail),
                }
            }
            if self.domain.next_deadline_ns().is_some_and(|at| at <= now.mono_ns) {
                self.domain.handle(now, Input::Tick, &mut self.policies, &mut self.out);
            }
            self.hand_on(now);
            if self.journal.wants_snapshot() {
                self.journal.compact(self.domain.snapshot());
            }
            if now.mono_ns >= told {
                told = now.mono_ns + 200_000_000;
                *self.view.counts.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.domain.counts());
                let board = Some(Arc::new(self.domain.board(now.wall_ms)));
                *self.view.board.lock().unwrap_or_else(PoisonError::into_inner) = board;
            }
        }
    }

    fn take(&mut self, now: Now, mail: DomainMail) {
        let input = match mail {
            DomainMail::Bus(carrier) => match carrier.open() {
                Ok(envelope) => Input::Bus(envelope),
                Err(error) => {
                    tracing::error!(%error, "an envelope from a shard cannot be read");
                    return;
                }
            },
            DomainMail::Command(request, command) => Input::Command { request, command },
            DomainMail::Configure(model) => Input::Configure(model),
            DomainMail::PolicyChanged(plugin) => Input::PolicyChanged { plugin },
            DomainMail::Compact | DomainMail::Stop => return,
        };
        self.domain.handle(now, input, &mut self.policies, &mut self.out);
    }

    /// Hands the outputs of a batch to the journal, or releases them at once when none of them, and
    /// nothing before them, waits for a commit.
    fn hand_on(&mut self, now: Now) {
        if self.out.is_empty() {
            return;
        }
        let mut batch = Batch { facts: Vec::new(), events: Vec::new(), held: Vec::new() };
        for output in self.out.drain(..) {
            match output {
                Output::Fact(fact) => {
                    if let Fact::Closed(record) = &fact {
                        batch.held.push(Told::Closed(record.clone()));
                    }
                    batch.facts.push(fact);
                }
                Output::Bus(shard, envelope) => batch.held.push(Told::Bus(shard, Box::new(envelope))),
                Output::Event(event) => {
                    if self.releaser.wants_events(&event.tenant) {
                        batch.events.push(event);
                    }
                }
                Output::Reply { request, reply } => batch.held.push(Told::Reply(request, Box::new(reply))),
                Output::Line(interaction, line) => {
                    if self.releaser.is_watched() {
                        batch.held.push(Told::Line(interaction, line));
                    }
                }
                Output::PolicyFault { plugin, fault } => {
                    tracing::warn!(%plugin, %fault, "a queue policy failed; longest idle, first in first out is taken");
                }
            }
        }
        if batch.facts.is_empty() && batch.events.is_empty() && self.journal.is_idle() {
            self.view.released_at_once.fetch_add(1, Relaxed);
            self.releaser.release(batch.held);
        } else if self.journal.submit(batch).is_err() {
            tracing::error!(
                at_ms = now.wall_ms,
                "the journal is closed: what the domain decides is not told any more"
            );
        }
    }
}

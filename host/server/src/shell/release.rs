//! What becomes of a domain's outputs when they may be told: envelopes go to their shard, replies
//! to whoever asked, lines to whoever watches, closed records to the tracing export.
//!
//! Called by the journal's thread after each commit, and by the domain's thread when there was
//! nothing to commit; never by both at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use cordboard_base::{Id, Map};
use cordboard_bus::{Carrier, Outlet};
use cordboard_call::Name;
use cordboard_call::commands::{Command, Reply};
use cordboard_call::facts::Record;
use cordboard_call::messages::{Envelope, ToShard};
use cordboard_call::timeline::Line;
use cordboard_store::Stored;
use tokio::sync::{broadcast, oneshot};

use super::domain::DomainMail;
use super::shard::ShardMail;

/// Something that waits for a commit.
#[derive(Debug)]
pub enum Told {
    /// To a shard.
    Bus(u16, Box<Envelope<ToShard>>),
    /// To whoever asked.
    Reply(u64, Box<Reply>),
    /// To whoever watches.
    Line(Id, Arc<Line>),
    /// A record is whole.
    Closed(Arc<Record>),
}

/// What a watcher hears.
#[derive(Debug, Clone)]
pub enum Watched {
    /// A line was added to a call's timeline.
    Line(Id, Arc<Line>),
    /// A call is over.
    Closed(Arc<Record>),
}

/// Where outputs go.
#[derive(Debug)]
pub struct Releaser {
    shard: OnceLock<Outlet<ShardMail>>,
    serialise: bool,
    replies: Mutex<Map<u64, oneshot::Sender<Reply>>>,
    requests: AtomicU64,
    watchers: broadcast::Sender<Watched>,
    events: broadcast::Sender<Arc<Vec<Stored>>>,
    tenants_with_adapters: ArcSwap<BTreeSet<Name>>,
    /// Closed calls.
    pub closed: AtomicU64,
}

/// Lines that a slow watcher may be behind; then it is told that it missed some.
const WATCHER_LINES: usize = 4_096;
/// Batches of events that an adapter may be behind; then it reads them from the outbox.
const EVENT_BATCHES: usize = 4_096;

impl Releaser {
    /// Without a shard yet.
    #[must_use]
    pub fn new(serialise: bool) -> Self {
        Self {
            shard: OnceLock::new(),
            serialise,
            replies: Mutex::default(),
            requests: AtomicU64::new(1),
            watchers: broadcast::Sender::new(WATCHER_LINES),
            events: broadcast::Sender::new(EVENT_BATCHES),
            tenants_with_adapters: ArcSwap::default(),
            closed: AtomicU64::new(0),
        }
    }

    /// Says where envelopes go. The first call wins.
    pub fn connect(&self, shard: Outlet<ShardMail>) {
        let _ = self.shard.set(shard);
    }

    /// Says whose events are kept for adapters.
    pub fn keep_events_of(&self, tenants: BTreeSet<Name>) {
        self.tenants_with_adapters.store(Arc::new(tenants));
    }

    /// Whether events of this tenant are kept for adapters.
    #[must_use]
    pub fn wants_events(&self, tenant: &Name) -> bool {
        self.tenants_with_adapters.load().contains(tenant)
    }

    /// Whether anybody watches calls live.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.watchers.receiver_count() > 0
    }

    /// Lines and closed calls from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Watched> {
        self.watchers.subscribe()
    }

    /// Durable events from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Vec<Stored>>> {
        self.events.subscribe()
    }

    /// Tells what was held, in order.
    pub fn release(&self, held: Vec<Told>) {
        for told in held {
            match told {
                Told::Bus(_, envelope) => {
                    if let Some(shard) = self.shard.get() {
                        // The shard always empties its inbox, so this cannot wait for long.
                        shard.send_waiting(ShardMail::Bus(Carrier::pack(*envelope, self.serialise)));
                    }
                }
                Told::Reply(request, reply) => {
                    let asked = self.replies.lock().unwrap_or_else(PoisonError::into_inner).remove(&request);
                    if let Some(asked) = asked {
                        let _ = asked.send(*reply);
                    }
                }
                Told::Line(interaction, line) => {
                    let _ = self.watchers.send(Watched::Line(interaction, line));
                }
                Told::Closed(record) => {
                    self.closed.fetch_add(1, Relaxed);
                    if self.is_watched() {
                        let _ = self.watchers.send(Watched::Closed(record));
                    }
                }
            }
        }
    }

    /// Tells adapters of events that have become durable.
    pub fn publish(&self, events: Vec<Stored>) {
        if !events.is_empty() && self.events.receiver_count() > 0 {
            let _ = self.events.send(Arc::new(events));
        }
    }

    /// Asks the domain and waits for the reply, which comes when what it changed is durable.
    pub async fn ask(&self, domain: &Outlet<DomainMail>, command: Command) -> Reply {
        let request = self.requests.fetch_add(1, Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).insert(request, sender);
        let sent = domain.send(DomainMail::Command(request, command)).is_ok();
        let reply = if sent {
            tokio::time::timeout(Duration::from_secs(10), receiver).await.ok().and_then(Result::ok)
        } else {
            None
        };
        reply.unwrap_or_else(|| {
            self.replies.lock().unwrap_or_else(PoisonError::into_inner).remove(&request);
            let text = if sent {
                "the domain did not answer within 10 s: the journal may be failing (see /v1/healthz)"
            } else {
                "the domain is overloaded or has ended: try again"
            };
            Reply::Error { status: 503, text: text.into() }
        })
    }
}

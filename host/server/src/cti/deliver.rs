//! One task an adapter: takes durable events, hands them to the plugin in batches, some at once, and
//! moves the cursor. A slow adapter delays no call and no other adapter.
//!
//! Live events come by a broadcast; when the task is behind, it reads the outbox instead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cordboard_call::Name;
use cordboard_net::Clock;
use cordboard_plugin::{Adapters, CloudEvent, Fault, Verdict};
use cordboard_store::{Journal, Outbox, Stored};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::{AbortHandle, JoinSet};

use super::lanes::{Lanes, Tries, runs};
use crate::shell::release::{Releaser, Told};
use crate::telemetry::hooks::Hooks;

/// Events of one batch.
const BATCH: usize = 64;
/// A batch that is not full waits so long after the one before it: an instance and a request a batch
/// are what delivery costs. The first event after a pause goes at once.
const GATHER_NS: u64 = 50_000_000;
/// Batches at once.
const IN_FLIGHT: usize = 4;
/// Events in memory; beyond it they stay in the outbox.
const MAX_OPEN: usize = 8_192;
/// Faults with one event alone, after which it is a dead letter.
const MAX_FAULTS: u32 = 8;
/// How long an adapter may ask for an event again.
const MAX_AGE_MS: i64 = 24 * 3_600_000;

/// Counters of one adapter.
#[derive(Debug, Default)]
pub struct AdapterView {
    /// Dealt with.
    pub delivered: AtomicU64,
    /// Asked for again.
    pub retried: AtomicU64,
    /// Dead letters.
    pub dead: AtomicU64,
    /// Batches that ended in a fault of the plugin.
    pub faults: AtomicU64,
    /// Not dealt with, now.
    pub waiting: AtomicU64,
    /// The cursor.
    pub cursor: AtomicU64,
}

/// The tasks of all adapters.
pub struct Delivery {
    runtime: tokio::runtime::Handle,
    adapters: Adapters,
    journal: Journal<Vec<Told>>,
    releaser: Arc<Releaser>,
    store: PathBuf,
    clock: Clock,
    hooks: Hooks,
    tasks: Mutex<BTreeMap<Name, Task>>,
}

struct Task {
    tenants: BTreeSet<Name>,
    abort: AbortHandle,
    view: Arc<AdapterView>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Delivery {
    /// Without adapters yet.
    #[must_use]
    pub fn new(
        runtime: tokio::runtime::Handle,
        adapters: Adapters,
        journal: Journal<Vec<Told>>,
        releaser: Arc<Releaser>,
        clock: Clock,
        hooks: Hooks,
    ) -> Self {
        let store = journal.path().to_owned();
        Self { runtime, adapters, journal, releaser, store, clock, hooks, tasks: Mutex::default() }
    }

    /// Says which adapters get whose events. Tasks of adapters that stay as they are go on.
    pub fn configure(&self, wanted: BTreeMap<Name, BTreeSet<Name>>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|name, task| {
            let stays = wanted.get(name) == Some(&task.tenants);
            if !stays {
                task.abort.abort();
            }
            stays
        });
        // Before any event of a new tenant is kept, so that the cursor stands before it.
        self.journal.adapters(wanted.keys().map(ToString::to_string).collect());
        self.releaser.keep_events_of(wanted.values().flatten().cloned().collect());
        for (name, tenants) in wanted {
            if tasks.contains_key(&name) {
                continue;
            }
            let view = Arc::new(AdapterView::default());
            let worker = Worker {
                name: name.clone(),
                tenants: tenants.clone(),
                adapters: self.adapters.clone(),
                journal: self.journal.clone(),
                store: self.store.clone(),
                clock: self.clock,
                hooks: self.hooks.clone(),
                view: view.clone(),
            };
            let events = self.releaser.events();
            let abort = self.runtime.spawn(worker.run(events)).abort_handle();
            tasks.insert(name, Task { tenants, abort, view });
        }
    }

    /// The counters, by adapter.
    #[must_use]
    pub fn views(&self) -> Vec<(Name, Arc<AdapterView>)> {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().map(|(name, task)| (name.clone(), task.view.clone())).collect()
    }
}

struct Worker {
    name: Name,
    tenants: BTreeSet<Name>,
    adapters: Adapters,
    journal: Journal<Vec<Told>>,
    store: PathBuf,
    clock: Clock,
    hooks: Hooks,
    view: Arc<AdapterView>,
}

type Answered = (Vec<(Stored, Tries)>, Result<Vec<Verdict>, Fault>);

impl Worker {
    async fn run(self, mut live: tokio::sync::broadcast::Receiver<Arc<Vec<Stored>>>) {
        // The cursor is written by the journal's thread, a moment after this task was started.
        let (mut cursor, outbox) = loop {
            match Outbox::open(&self.store).and_then(|outbox| Ok((outbox.cursor(&self.name)?, outbox))) {
                Ok((Some(cursor), outbox)) => break (cursor, outbox),
                Ok((None, _)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => {
                    tracing::error!(adapter = %self.name, %error, "the outbox cannot be read; tried again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        let outbox = Arc::new(Mutex::new(outbox));
        let mut lanes = Lanes::new(cursor);
        let mut flying: JoinSet<Answered> = JoinSet::new();
        let mut behind = true;
        let mut backing_off_ms = 0_u64;
        let mut gathered_ns = 0_u64;
        let mut tell = tokio::time::interval(Duration::from_millis(250));
        tell.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if behind && lanes.len() < MAX_OPEN / 2 {
                behind = self.catch_up(&outbox, &mut lanes).await;
            }
            while !behind {
                match live.try_recv() {
                    Ok(events) => behind = !self.take_in(&mut lanes, &events),
                    Err(TryRecvError::Lagged(_)) => behind = true,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Closed) => return,
                }
            }
            let now_ns = self.clock.now().mono_ns;
            let mut next = lanes.wake(now_ns);
            // While a batch gathers, further events wake nobody: they are taken in when it goes.
            let mut gathers = false;
            while flying.len() < IN_FLIGHT {
                if now_ns < gathered_ns + GATHER_NS && lanes.takeable() < BATCH {
                    gathers = lanes.takeable() > 0;
                    if gathers {
                        let at = gathered_ns + GATHER_NS;
                        next = Some(next.map_or(at, |n| n.min(at)));
                    }
                    break;
                }
                let batch = lanes.take(BATCH);
                if batch.is_empty() {
                    break;
                }
                gathered_ns = now_ns;
                let adapters = self.adapters.clone();
                let name = self.name.clone();
                let asked: Vec<_> = runs(&batch)
                    .into_iter()
                    .filter_map(|(subject, count)| {
                        Some((self.hooks.ask(subject.parse().ok()?, "adapter", &name), count))
                    })
                    .collect();
                flying.spawn(async move {
                    let events = batch.iter().map(|(stored, _)| cloud_event(stored)).collect();
                    let verdicts = adapters.handle(&name, events).await;
                    for (asked, count) in asked {
                        asked.answered(|| match &verdicts {
                            Ok(_) => Ok(format!("{count} events")),
                            Err(fault) => Err(fault.to_string()),
                        });
                    }
                    (batch, verdicts)
                });
            }
            self.view.waiting.store(lanes.len() as u64, Relaxed);
            let sleep = next.map_or(Duration::from_secs(60), |at| {
                Duration::from_nanos(at.saturating_sub(self.clock.now().mono_ns))
            });
            tokio::select! {
                events = live.recv(), if !behind && !gathers => match events {
                    Ok(events) => behind = !self.take_in(&mut lanes, &events),
                    Err(RecvError::Lagged(_)) => behind = true,
                    Err(RecvError::Closed) => return,
                },
                Some(answered) = flying.join_next(), if !flying.is_empty() => {
                    if let Ok((batch, verdicts)) = answered {
                        backing_off_ms = self.settle(&mut lanes, batch, verdicts, backing_off_ms);
                    }
                }
                _ = tell.tick() => {
                    if lanes.cursor() > cursor && self.journal.advance(&self.name, lanes.cursor()) {
                        cursor = lanes.cursor();
                        self.view.cursor.store(cursor, Relaxed);
                    }
                }
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Reads what the outbox holds beyond what was seen; whether there may be more.
    async fn catch_up(&self, outbox: &Arc<Mutex<Outbox>>, lanes: &mut Lanes) -> bool {
        let (after, reader) = (lanes.seen(), outbox.clone());
        let found = tokio::task::spawn_blocking(move || {
            reader.lock().unwrap_or_else(PoisonError::into_inner).after(after, MAX_OPEN / 2)
        })
        .await;
        match found {
            Ok(Ok(events)) => {
                let more = !events.is_empty();
                events.into_iter().for_each(|event| self.take(lanes, event));
                more
            }
            Ok(Err(error)) => {
                tracing::error!(adapter = %self.name, %error, "the outbox cannot be read; tried again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                true
            }
            Err(_) => true,
        }
    }

    /// False when there is no room: they stay in the outbox.
    fn take_in(&self, lanes: &mut Lanes, events: &[Stored]) -> bool {
        let room = lanes.len() + events.len() <= MAX_OPEN;
        if room {
            events.iter().for_each(|event| self.take(lanes, event.clone()));
        }
        room
    }

    fn take(&self, lanes: &mut Lanes, event: Stored) {
        if self.tenants.contains(&event.event.tenant) { lanes.push(event) } else { lanes.pass(event.place) }
    }

    /// Applies the verdicts; the new back-off after faults.
    fn settle(
        &self,
        lanes: &mut Lanes,
        batch: Vec<(Stored, Tries)>,
        verdicts: Result<Vec<Verdict>, Fault>,
        backing_off_ms: u64,
    ) -> u64 {
        let now = self.clock.now();
        let at = |ms: u64| Some(now.mono_ns + ms * 1_000_000);
        match verdicts {
            Ok(verdicts) => {
                let mut verdicts = verdicts.into_iter();
                let mut events = batch.iter();
                for (subject, count) in runs(&batch) {
                    let mut dealt_with = 0;
                    let mut rest = None;
                    let mut again = None;
                    for _ in 0..count {
                        let (Some((stored, tries)), Some(verdict)) = (events.next(), verdicts.next()) else {
                            break;
                        };
                        if rest.is_some() {
                            continue;
                        }
                        let first_ms = if tries.first_ms == 0 { now.wall_ms } else { tries.first_ms };
                        match verdict {
                            Verdict::Done => {
                                dealt_with += 1;
                                self.view.delivered.fetch_add(1, Relaxed);
                            }
                            Verdict::Dead(reason) => {
                                dealt_with += 1;
                                self.bury(stored, &reason, now.wall_ms);
                            }
                            Verdict::Retry(_) if now.wall_ms - first_ms > MAX_AGE_MS => {
                                dealt_with += 1;
                                self.bury(
                                    stored,
                                    "the adapter has asked for it again for a day",
                                    now.wall_ms,
                                );
                            }
                            Verdict::Retry(ms) => {
                                self.view.retried.fetch_add(1, Relaxed);
                                rest = at(u64::from(ms.max(1)));
                                again = Some(Tries { first_ms, faults: 0 });
                            }
                        }
                    }
                    lanes.done(&subject, dealt_with, rest, again);
                }
                0
            }
            Err(fault) => {
                self.view.faults.fetch_add(1, Relaxed);
                let pause = (backing_off_ms * 2).clamp(250, 60_000);
                let alone = batch.len() == 1;
                // Without a plugin in service nothing can be said against the event.
                let counts = !matches!(fault, Fault::Missing | Fault::Full(_));
                tracing::warn!(adapter = %self.name, %fault, events = batch.len(), retry_in_ms = pause, "an adapter failed; its events are kept");
                let mut events = batch.iter();
                for (subject, count) in runs(&batch) {
                    let first = events.next();
                    events.by_ref().take(count - 1).for_each(drop);
                    let Some((stored, tries)) = first else { continue };
                    let faults = tries.faults + u32::from(counts);
                    if alone && faults >= MAX_FAULTS {
                        self.bury(stored, &fault.to_string(), now.wall_ms);
                        lanes.done(&subject, 1, None, None);
                    } else {
                        let first_ms = if tries.first_ms == 0 { now.wall_ms } else { tries.first_ms };
                        lanes.done(&subject, 0, at(pause), Some(Tries { first_ms, faults }));
                    }
                }
                pause
            }
        }
    }

    fn bury(&self, stored: &Stored, reason: &str, wall_ms: i64) {
        self.view.dead.fetch_add(1, Relaxed);
        tracing::warn!(adapter = %self.name, event = %stored.event.kind, subject = %stored.event.subject, reason, "an event became a dead letter");
        self.journal.bury(&self.name, stored.clone(), reason, wall_ms);
    }
}

fn cloud_event(stored: &Stored) -> CloudEvent {
    let event = &stored.event;
    let time = jiff::Timestamp::from_millisecond(event.wall_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    CloudEvent {
        sequence: event.sequence,
        id: format!("{}-{}", event.tenant, event.sequence),
        source: format!("/tenants/{}", event.tenant),
        kind: event.kind.clone(),
        subject: event.subject.clone(),
        time: time.to_string(),
        data: event.data.clone(),
    }
}

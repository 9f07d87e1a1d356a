//! The journal: facts become durable here before anyone is told.
//!
//! One thread of its own takes all that is pending into one transaction (a group commit) and then
//! hands the held outputs back in order. Called by the domain's thread, which submits batches and
//! gets its outputs released; by the shard's thread, for dialogs; by the delivery of events, for
//! cursors. Never drops a batch while it runs: when its queue is full, `submit` waits, and when the
//! disk fails, it tries again until the disk is well, while everything that depends on it is held.
//! Only when it is being stopped does a disk that stays ill have the last word.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cordboard_base::{Pace, ms};
use cordboard_call::events::Event;
use cordboard_call::facts::Fact;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use rusqlite::{Connection, OptionalExtension};

use crate::codec::{self, Blob};
use crate::outbox::{self, Stored};
use crate::{StoreError, records, schema};

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The death of the process: written to the system before anyone is told.
    #[default]
    Process,
    /// The loss of power: on the disk before anyone is told. Each commit waits for the disk.
    Power,
}

/// How a journal is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file; made with its folder when it is not there.
    pub path: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// Batches that may wait for their commit. One more makes `submit` wait.
    pub max_pending: usize,
    /// Under load commits begin so far apart, in milliseconds, each with all that came meanwhile; a
    /// few at a time begin at once. 0: all do.
    pub gather_ms: u64,
    /// Rows of the journal after which [`Journal::wants_snapshot`] says yes.
    pub compact_after_rows: u64,
    /// Bytes of the journal after which [`Journal::wants_snapshot`] says yes.
    pub compact_after_bytes: u64,
    /// Events that wait for delivery; beyond it the oldest are given up and counted.
    pub max_outbox: u64,
    /// When a row cannot be read: keep what stands before it and go on, instead of an error.
    pub keep_whole: bool,
    /// How long [`Running::stop`] goes on trying when commits fail, in milliseconds. Then what is
    /// not durable is given up, and nobody is told of it.
    pub stop_patience_ms: u64,
}

impl Options {
    /// Defaults for a file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            durability: Durability::Process,
            max_pending: 65_536,
            gather_ms: 20,
            compact_after_rows: 200_000,
            compact_after_bytes: 64 << 20,
            max_outbox: 2_000_000,
            keep_whole: false,
            stop_patience_ms: 5_000,
        }
    }
}

/// What becomes durable together, and what may be told then.
#[derive(Debug)]
pub struct Batch<T> {
    /// In order.
    pub facts: Vec<Fact>,
    /// For the adapters, in order.
    pub events: Vec<Event>,
    /// Handed to the release function when all of the above is durable.
    pub held: T,
}

/// What has been committed, handed to the release function in order.
#[derive(Debug)]
pub struct Committed<T> {
    /// The events of the batch with their places in the outbox.
    pub events: Vec<Stored>,
    /// What was held.
    pub held: T,
}

enum Job<T> {
    Batch(Batch<T>),
    Facts(Vec<Fact>),
    Snapshot(Vec<Fact>),
    Cursor { adapter: String, at: u64 },
    Dead { adapter: String, event: Box<Stored>, reason: String, wall_ms: i64 },
    Forget { letter: i64 },
    Adapters(Vec<String>),
    Retain { before_ms: i64 },
    Stop,
}

/// Totals since the start, and the state.
#[derive(Debug, Default)]
pub struct Stats {
    /// Transactions.
    pub commits: AtomicU64,
    /// Facts made durable.
    pub facts: AtomicU64,
    /// Events made durable.
    pub events: AtomicU64,
    /// Rows in the journal now.
    pub rows: AtomicU64,
    /// Bytes in the journal now.
    pub bytes: AtomicU64,
    /// Compactions.
    pub compactions: AtomicU64,
    /// Commits that failed and were tried again.
    pub failures: AtomicU64,
    /// Events given up since the outbox was full.
    pub events_dropped: AtomicU64,
    /// Nanoseconds spent in transactions.
    pub busy_ns: AtomicU64,
    /// Whether the last commit failed: outputs are being held.
    pub failing: AtomicBool,
    /// Turns of the loop and tries to commit, one a quarter of a second at least unless a commit takes
    /// longer: whoever watches sees that the thread lives.
    pub rounds: AtomicU64,
}

/// What a file held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The facts of former lives, in order.
    pub facts: Vec<Fact>,
    /// Rows that could not be read and were given up (`keep_whole`).
    pub rows_given_up: u64,
}

/// The writing end of the store. Clones share the thread.
#[derive(Debug)]
pub struct Journal<T> {
    jobs: Sender<Job<T>>,
    shared: Arc<Shared>,
}

impl<T> Clone for Journal<T> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), shared: self.shared.clone() }
    }
}

#[derive(Debug)]
struct Shared {
    submitted: AtomicU64,
    released: AtomicU64,
    stats: Arc<Stats>,
    compact_after_rows: u64,
    compact_after_bytes: u64,
    snapshot_asked: AtomicBool,
    stopping: AtomicBool,
    path: PathBuf,
}

/// Holds the journal's thread; [`Running::stop`] commits what is pending and closes the file.
#[derive(Debug)]
pub struct Running<T> {
    jobs: Sender<Job<T>>,
    thread: JoinHandle<bool>,
    shared: Arc<Shared>,
}

impl<T> Running<T> {
    /// Commits and releases all that was submitted before, then closes the file. False when the
    /// disk would not take it within [`Options::stop_patience_ms`]: the rest was given up, untold.
    pub fn stop(self) -> bool {
        self.shared.stopping.store(true, SeqCst);
        // Fails only when the thread has given up already.
        let _ = self.jobs.send(Job::Stop);
        self.thread.join().unwrap_or(false)
    }
}

impl<T: Send + 'static> Journal<T> {
    /// Opens the file, reads what it holds, and starts the thread. `release` runs on that thread,
    /// once a batch, in the order of submission.
    ///
    /// # Errors
    /// When the file cannot be opened, is in use, is of a later version, or is damaged.
    pub fn open(
        options: Options,
        release: impl FnMut(Committed<T>) + Send + 'static,
    ) -> Result<(Self, Running<T>, Recovered), StoreError> {
        let (db, lock) = schema::open_writer(&options.path, options.durability)?;
        let (recovered, next_seq, bytes) = load(&db, &options.path, options.keep_whole)?;
        let next_event = outbox::next_id(&db, &options.path)?;
        let stats = Arc::new(Stats::default());
        stats.rows.store(count(&db, &options.path)?, Relaxed);
        stats.bytes.store(bytes, Relaxed);
        let shared = Arc::new(Shared {
            submitted: AtomicU64::new(0),
            released: AtomicU64::new(0),
            stats,
            compact_after_rows: options.compact_after_rows,
            compact_after_bytes: options.compact_after_bytes,
            snapshot_asked: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            path: options.path.clone(),
        });
        let (jobs, inbox) = bounded(options.max_pending);
        let mut dialogs = BTreeMap::new();
        for fact in &recovered.facts {
            track(&mut dialogs, fact);
        }
        let writer = Writer {
            db,
            _lock: lock,
            options,
            next_seq,
            next_event,
            dialogs,
            blobs: Default::default(),
            retaining_ms: None,
            give_up: None,
            shared: shared.clone(),
            release,
        };
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&inbox))
            .map_err(|source| StoreError::Io { what: "starting the journal's thread".into(), source })?;
        let running = Running { jobs: jobs.clone(), thread, shared: shared.clone() };
        Ok((Self { jobs, shared }, running, recovered))
    }

    /// Makes a batch durable and then releases what it holds. Waits while `max_pending` batches wait.
    ///
    /// # Errors
    /// When the store is closed; the batch comes back.
    pub fn submit(&self, batch: Batch<T>) -> Result<(), Box<Batch<T>>> {
        self.shared.submitted.fetch_add(1, SeqCst);
        self.jobs.send(Job::Batch(batch)).map_err(|e| match e.into_inner() {
            Job::Batch(batch) => Box::new(batch),
            _ => unreachable!("a batch was sent"),
        })
    }

    /// Whether every batch so far has been released, so that what needs no durability may be told
    /// at once without overtaking. Only meaningful to the one thread that submits batches.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.submitted.load(SeqCst) == self.shared.released.load(SeqCst)
    }

    /// Makes facts durable that nobody waits for, without waiting itself (a shard's dialogs).
    ///
    /// # Errors
    /// When `max_pending` jobs wait, the facts come back: keep them, in order, and try again.
    pub fn try_note(&self, facts: Vec<Fact>) -> Result<(), Vec<Fact>> {
        match self.jobs.try_send(Job::Facts(facts)) {
            Err(TrySendError::Full(Job::Facts(facts))) => Err(facts),
            _ => Ok(()),
        }
    }

    /// Makes facts durable that nobody waits for; waits while `max_pending` jobs wait.
    pub fn note(&self, facts: Vec<Fact>) {
        let _ = self.jobs.send(Job::Facts(facts));
    }

    /// Whether the journal has grown so much that the domain's snapshot should replace it. Says yes once.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        let stats = &self.shared.stats;
        (stats.rows.load(Relaxed) > self.shared.compact_after_rows
            || stats.bytes.load(Relaxed) > self.shared.compact_after_bytes)
            && !self.shared.snapshot_asked.swap(true, SeqCst)
    }

    /// Replaces all that was submitted before by a snapshot. Live dialogs are kept by the journal itself.
    pub fn compact(&self, snapshot: Vec<Fact>) {
        let _ = self.jobs.send(Job::Snapshot(snapshot));
    }

    /// Moves an adapter's cursor: all events up to and with `at` are dealt with. Never waits; false
    /// when `max_pending` jobs wait: try again later.
    #[must_use]
    pub fn advance(&self, adapter: &str, at: u64) -> bool {
        self.jobs.try_send(Job::Cursor { adapter: adapter.into(), at }).is_ok()
    }

    /// Puts an event among the dead letters.
    pub fn bury(&self, adapter: &str, event: Stored, reason: &str, wall_ms: i64) {
        let _ = self.jobs.send(Job::Dead {
            adapter: adapter.into(),
            event: Box::new(event),
            reason: reason.into(),
            wall_ms,
        });
    }

    /// Deletes a dead letter.
    pub fn forget(&self, letter: i64) {
        let _ = self.jobs.send(Job::Forget { letter });
    }

    /// Says which adapters there are: a new one begins with the next event, and the cursors of
    /// those that are no more are deleted, so that events no longer wait for them.
    pub fn adapters(&self, names: Vec<String>) {
        let _ = self.jobs.send(Job::Adapters(names));
    }

    /// Deletes records and dead letters that ended before a time: in short steps between the
    /// commits, until none is left.
    pub fn retain(&self, before_ms: i64) {
        let _ = self.jobs.send(Job::Retain { before_ms });
    }

    /// Totals.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.shared.stats
    }

    /// Jobs that wait for a commit now.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.jobs.len()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }
}

struct Writer<F> {
    db: Connection,
    _lock: File,
    options: Options,
    next_seq: i64,
    next_event: u64,
    dialogs: BTreeMap<u64, Fact>,
    /// Room for the facts and the events of a commit.
    blobs: (Blob, Blob),
    /// Records that ended before this time are being deleted, a step a commit.
    retaining_ms: Option<i64>,
    /// Set at the first commit that fails while the journal is being stopped.
    give_up: Option<Instant>,
    shared: Arc<Shared>,
    release: F,
}

/// A blob is closed at this size, so that one row never grows beyond what is handy.
const ROW_BYTES: usize = 256 << 10;
/// A thread with nothing to do shows that it lives.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// Commits that begin at once before [`Options::gather_ms`] holds: a call by itself never waits.
const COMMITS_AT_ONCE: u64 = 10;
/// The most jobs of one transaction.
const GROUP: usize = 8_192;

impl<F> Writer<F> {
    /// Until it is stopped; whether all that was submitted is durable then.
    fn run<T>(mut self, inbox: &Receiver<Job<T>>) -> bool
    where
        F: FnMut(Committed<T>),
    {
        let mut group = Vec::new();
        let began = Instant::now();
        let mut pace = Pace::new(ms(self.options.gather_ms), COMMITS_AT_ONCE);
        loop {
            let wait_ns = pace.wait_ns(began.elapsed().as_nanos() as u64);
            if wait_ns > 0 {
                std::thread::sleep(Duration::from_nanos(wait_ns));
            }
            // While there is something to delete, an empty queue is the time for it.
            let first = if self.retaining_ms.is_some() {
                inbox.try_recv()
            } else {
                inbox.recv_timeout(LONGEST_SLEEP).map_err(|e| match e {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                })
            };
            self.shared.stats.rounds.fetch_add(1, Relaxed);
            match first {
                Ok(first) => {
                    pace.begin(began.elapsed().as_nanos() as u64);
                    group.push(first);
                    group.extend(inbox.try_iter().take(GROUP));
                }
                Err(TryRecvError::Empty) if self.retaining_ms.is_none() => continue,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return true,
            }
            let stop = group.iter().any(|job| matches!(job, Job::Stop));
            if !self.commit(&mut group) {
                let jobs = group.len() + inbox.len();
                tracing::error!(path = %self.options.path.display(), jobs, "journal: closed without its last jobs; nobody was told of them");
                return false;
            }
            if stop {
                let _ = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
                return true;
            }
        }
    }

    /// Commits a group, however often it takes, and releases it. False when it was given up, which
    /// happens only while the journal is being stopped.
    fn commit<T>(&mut self, group: &mut Vec<Job<T>>) -> bool
    where
        F: FnMut(Committed<T>),
    {
        let stats = self.shared.stats.clone();
        let mut pause = Duration::from_millis(50);
        let (seq, event) = (self.next_seq, self.next_event);
        let written = loop {
            let began = Instant::now();
            match self.write(group) {
                Ok(written) => {
                    stats.busy_ns.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
                    if stats.failing.swap(false, Relaxed) {
                        tracing::info!(path = %self.options.path.display(), "journal: commits go through again");
                    }
                    break written;
                }
                Err(error) => {
                    // Rolled back: the same group is tried again, and everything it holds stays held.
                    let _ = self.db.execute_batch("ROLLBACK");
                    (self.next_seq, self.next_event) = (seq, event);
                    stats.failures.fetch_add(1, Relaxed);
                    stats.rounds.fetch_add(1, Relaxed);
                    if !stats.failing.swap(true, Relaxed) {
                        tracing::error!(path = %self.options.path.display(), %error, "journal: a commit failed; outputs are held and it is tried again");
                    }
                    if self.shared.stopping.load(SeqCst) {
                        let now = Instant::now();
                        let patience = Duration::from_millis(self.options.stop_patience_ms);
                        let give_up = *self.give_up.get_or_insert(now + patience);
                        if now >= give_up {
                            return false;
                        }
                        pause = pause.min(give_up - now);
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
            }
        };
        stats.commits.fetch_add(1, Relaxed);
        stats.facts.fetch_add(written.facts, Relaxed);
        stats.events.fetch_add(self.next_event - event, Relaxed);
        stats.events_dropped.fetch_add(written.dropped, Relaxed);
        self.retaining_ms = written.retaining_ms;
        if let Some((rows, bytes)) = written.compacted {
            stats.rows.store(rows, Relaxed);
            stats.bytes.store(bytes, Relaxed);
            stats.compactions.fetch_add(1, Relaxed);
            self.shared.snapshot_asked.store(false, SeqCst);
        }
        stats.rows.fetch_add(written.rows, Relaxed);
        stats.bytes.fetch_add(written.bytes, Relaxed);
        let mut place = event;
        for job in group.drain(..) {
            if let Job::Batch(batch) = job {
                let events = batch
                    .events
                    .into_iter()
                    .map(|event| {
                        place += 1;
                        Stored { place: place - 1, event: Arc::new(event) }
                    })
                    .collect();
                (self.release)(Committed { events, held: batch.held });
                self.shared.released.fetch_add(1, SeqCst);
            }
        }
        true
    }

    /// One transaction. Every step may be repeated after a rollback.
    fn write<T>(&mut self, group: &[Job<T>]) -> rusqlite::Result<Written> {
        let mut written = Written { retaining_ms: self.retaining_ms, ..Written::default() };
        let (mut facts, mut events) = std::mem::take(&mut self.blobs);
        let mut closed = Vec::new();
        let mut trim = false;
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        for job in group {
            match job {
                Job::Batch(Batch { facts: new, .. }) | Job::Facts(new) => {
                    for fact in new {
                        track(&mut self.dialogs, fact);
                        if let Fact::Closed(record) = fact {
                            closed.push(record);
                            facts.push(&Fact::Recorded { interaction: record.interaction });
                        } else {
                            facts.push(fact);
                        }
                        written.facts += 1;
                        if facts.size() > ROW_BYTES {
                            self.row(&mut facts, &mut written)?;
                        }
                    }
                    if let Job::Batch(batch) = job {
                        for event in &batch.events {
                            events.push(event);
                            if events.size() > ROW_BYTES {
                                self.events(&mut events)?;
                            }
                        }
                    }
                }
                Job::Snapshot(snapshot) => {
                    // What was gathered so far is part of the snapshot.
                    facts.clear();
                    self.db.execute("DELETE FROM journal", [])?;
                    let mut anew = Written::default();
                    for fact in snapshot
                        .iter()
                        .filter(|f| !matches!(f, Fact::DialogUp { .. } | Fact::DialogDown { .. }))
                    {
                        facts.push(fact);
                        if facts.size() > ROW_BYTES {
                            self.row(&mut facts, &mut anew)?;
                        }
                    }
                    for dialog in self.dialogs.values() {
                        facts.push(dialog);
                    }
                    self.row(&mut facts, &mut anew)?;
                    written.compacted = Some((anew.rows, anew.bytes));
                    (written.rows, written.bytes) = (0, 0);
                }
                Job::Cursor { adapter, at } => {
                    self.db
                        .prepare_cached("INSERT INTO cursors VALUES (?1, ?2) ON CONFLICT (adapter) DO UPDATE SET at = excluded.at")?
                        .execute((adapter, *at as i64))?;
                    trim = true;
                }
                Job::Dead { adapter, event, reason, wall_ms } => {
                    self.db
                        .prepare_cached("INSERT INTO dead_letters (adapter, event, wall_ms, reason, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
                        .execute((adapter, event.place as i64, wall_ms, reason, codec::encode(&*event.event)))?;
                }
                Job::Forget { letter } => {
                    self.db.execute("DELETE FROM dead_letters WHERE id = ?1", [letter])?;
                }
                Job::Adapters(names) => {
                    // What was gathered belongs to the adapters of before.
                    self.events(&mut events)?;
                    for name in names {
                        self.db
                            .prepare_cached(
                                "INSERT INTO cursors VALUES (?1, ?2) ON CONFLICT (adapter) DO NOTHING",
                            )?
                            .execute((name, self.next_event as i64 - 1))?;
                    }
                    let names = serde_json::to_string(names).unwrap_or_default();
                    self.db.execute(
                        "DELETE FROM cursors WHERE adapter NOT IN (SELECT value FROM json_each(?1))",
                        [names],
                    )?;
                    trim = true;
                }
                Job::Retain { before_ms } => {
                    written.retaining_ms = written.retaining_ms.max(Some(*before_ms));
                    self.db.execute("DELETE FROM dead_letters WHERE wall_ms < ?1", [before_ms])?;
                }
                Job::Stop => {}
            }
        }
        self.row(&mut facts, &mut written)?;
        self.events(&mut events)?;
        for record in closed {
            records::insert(&self.db, record)?;
        }
        if let Some(before_ms) = written.retaining_ms
            && !records::retain(&self.db, before_ms)?
        {
            written.retaining_ms = None;
        }
        if trim {
            outbox::trim(&self.db)?;
        }
        if self.next_event > self.options.max_outbox {
            written.dropped = outbox::drop_oldest(&self.db, self.next_event - self.options.max_outbox)?;
        }
        self.db.execute_batch("COMMIT")?;
        self.blobs = (facts, events);
        Ok(written)
    }

    fn row(&mut self, facts: &mut Blob, written: &mut Written) -> rusqlite::Result<()> {
        if facts.is_empty() {
            return Ok(());
        }
        let body = facts.finish();
        self.db.prepare_cached("INSERT INTO journal VALUES (?1, ?2)")?.execute((self.next_seq, body))?;
        self.next_seq += 1;
        written.rows += 1;
        written.bytes += body.len() as u64;
        facts.clear();
        Ok(())
    }

    fn events(&mut self, events: &mut Blob) -> rusqlite::Result<()> {
        let count = events.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let (first, body) = (self.next_event, events.finish());
        self.db.prepare_cached("INSERT INTO outbox VALUES (?1, ?2, ?3)")?.execute((
            first as i64,
            (first + count - 1) as i64,
            body,
        ))?;
        self.next_event += count;
        events.clear();
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Written {
    facts: u64,
    rows: u64,
    bytes: u64,
    dropped: u64,
    compacted: Option<(u64, u64)>,
    /// What is still to be deleted.
    retaining_ms: Option<i64>,
}

/// Keeps the dialogs that are up. Applying the same facts again changes nothing, so a transaction may be repeated.
fn track(dialogs: &mut BTreeMap<u64, Fact>, fact: &Fact) {
    match fact {
        Fact::DialogUp { leg, .. } => {
            dialogs.insert(*leg, fact.clone());
        }
        Fact::DialogDown { leg } => {
            dialogs.remove(leg);
        }
        _ => {}
    }
}

fn count(db: &Connection, path: &Path) -> Result<u64, StoreError> {
    db.query_row("SELECT count(*) FROM journal", [], |row| row.get::<_, i64>(0))
        .map(|n| n as u64)
        .map_err(StoreError::sqlite(path))
}

/// Reads all facts in order; the next free row number and the bytes come along.
fn load(db: &Connection, path: &Path, keep_whole: bool) -> Result<(Recovered, i64, u64), StoreError> {
    let wrong = StoreError::sqlite(path);
    let rows = count(db, path)?;
    let (mut recovered, mut bytes, mut read) = (Recovered::default(), 0, 0_u64);
    let mut expected: Option<i64> = None;
    let mut statement = db.prepare("SELECT seq, body FROM journal ORDER BY seq").map_err(&wrong)?;
    let mut cursor = statement.query([]).map_err(&wrong)?;
    let damage = loop {
        let row = match cursor.next() {
            Ok(Some(row)) => row,
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        };
        let seq: i64 = row.get(0).map_err(&wrong)?;
        if expected.is_some_and(|e| e != seq) {
            break Some(format!(
                "row number {seq} follows {}: rows between are missing",
                expected.unwrap_or(0) - 1
            ));
        }
        let body = match row.get_ref(1).and_then(|v| v.as_blob().map_err(Into::into)) {
            Ok(body) => body,
            Err(error) => break Some(error.to_string()),
        };
        match codec::decode::<Fact>(body) {
            Ok(facts) => recovered.facts.extend(facts),
            Err(what) => break Some(what),
        }
        bytes += body.len() as u64;
        expected = Some(seq + 1);
        read += 1;
    };
    drop(cursor);
    drop(statement);
    if let Some(what) = damage {
        if !keep_whole {
            return Err(StoreError::Damaged {
                path: path.into(),
                row: read + 1,
                rows: rows.max(read + 1),
                what,
            });
        }
        db.execute("DELETE FROM journal WHERE seq >= ?1", [expected.unwrap_or(i64::MIN)]).map_err(&wrong)?;
        recovered.rows_given_up = rows.saturating_sub(read).max(1);
    }
    let next = db
        .query_row("SELECT max(seq) FROM journal", [], |row| row.get::<_, Option<i64>>(0))
        .optional()
        .map_err(&wrong)?
        .flatten()
        .map_or(1, |seq| seq + 1);
    Ok((recovered, next, bytes))
}

//! The media thread: sockets, the paced clock, and the legs of `cordboard-media`.
//!
//! Started by the server, spoken to by the shards in the words of [`cordboard_media::control`]. It
//! owns its legs alone; commands come by a bounded channel, events leave in batches. It never waits
//! for a disk, for a shard or for a plugin.
//!
//! Relaying is driven by arrival. What the clock drives (players, digits, recorders) is spread over
//! twenty slots of a millisecond, so that a thousand legs do not send in one burst.

mod ports;
mod thread;
mod timer;
mod writer;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use cordboard_base::Random;
use cordboard_media::control::{Command, Event};
use crossbeam_channel::{Sender, TrySendError};
use mio::{Poll, Waker};

use crate::clock::Clock;
use thread::Thread;

/// What a media thread is given at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address that its ports are bound to; may be unspecified.
    pub bind: IpAddr,
    /// The address that stands in SDP; must not be unspecified.
    pub advertised: IpAddr,
    /// The range of ports. Even ones carry RTP, the odd one above each its RTCP.
    pub ports: RangeInclusive<u16>,
    /// Legs at most; a further one is refused.
    pub max_legs: usize,
    /// Commands that may wait for the thread.
    pub max_commands: usize,
    /// Pieces of recordings (a second each) that may wait for the disk.
    pub max_pieces: usize,
    /// Seeds the SSRCs and the beginnings of sequences: from the system's randomness in production.
    pub seed: [u8; 32],
}

impl Config {
    /// The usual sizes for an address and a range.
    #[must_use]
    pub fn new(bind: IpAddr, advertised: IpAddr, ports: RangeInclusive<u16>, seed: [u8; 32]) -> Self {
        Self { bind, advertised, ports, max_legs: 4096, max_commands: 16_384, max_pieces: 1024, seed }
    }
}

/// Why a command was not taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// So many wait already ([`Config::max_commands`]): the thread is overloaded. Shed calls.
    Full(Box<Command>),
    /// The thread has ended.
    Stopped,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the media thread is overloaded: its queue of commands is full"),
            Self::Stopped => f.write_str("the media thread has ended"),
        }
    }
}

impl std::error::Error for Refused {}

/// Figures of a media thread, for metrics; each is a total since its start unless it says otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Legs open now.
    pub legs: AtomicU64,
    /// Legs that need the 20 ms clock now.
    pub ticking: AtomicU64,
    /// Datagrams received on RTP ports.
    pub received: AtomicU64,
    /// Packets relayed to a joined leg.
    pub relayed: AtomicU64,
    /// Packets sent by the clock: audio that is played, and digits.
    pub played: AtomicU64,
    /// Packets that the kernel did not take.
    pub unsent: AtomicU64,
    /// Frames of the clock that were left out because the thread was held up for over 100 ms.
    pub skipped_ms: AtomicU64,
    /// The longest delay of a slot of the clock, in microseconds.
    pub late_us: AtomicU64,
    /// Turns of the loop, four a second at least: whoever watches sees that the thread lives.
    pub rounds: AtomicU64,
}

/// What the handles and the thread share.
struct Shared {
    waker: Waker,
    /// A wake-up is under way: further commands need none.
    woken: AtomicBool,
    stop: AtomicBool,
    counters: Counters,
}

/// Speaks to a media thread. Cheap to clone.
#[derive(Clone)]
pub struct MediaHandle {
    commands: Sender<Command>,
    shared: Arc<Shared>,
}

impl MediaHandle {
    /// Sends a command; never blocks.
    ///
    /// # Errors
    /// The queue is full, or the thread has ended.
    pub fn send(&self, command: Command) -> Result<(), Refused> {
        self.put(command)?;
        self.wake();
        Ok(())
    }

    /// Sends a command without waking the thread: call [`Self::wake`] after the last of a batch.
    ///
    /// # Errors
    /// The queue is full, or the thread has ended.
    pub fn put(&self, command: Command) -> Result<(), Refused> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(command) => {
                self.wake();
                Refused::Full(Box::new(command))
            }
            TrySendError::Disconnected(_) => Refused::Stopped,
        })
    }

    /// Wakes the thread for commands that were put.
    pub fn wake(&self) {
        if !self.commands.is_empty()
            && !self.shared.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.shared.waker.wake()
        {
            tracing::error!(%error, "the media thread cannot be woken");
        }
    }

    /// Its figures.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

impl fmt::Debug for MediaHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaHandle").field("counters", &self.shared.counters).finish_non_exhaustive()
    }
}

/// A running media thread; ends, with all its legs, when it is dropped.
#[derive(Debug)]
pub struct MediaThread {
    handle: MediaHandle,
    threads: Vec<JoinHandle<()>>,
}

impl MediaThread {
    /// Starts it. `events` gets what happens, a batch at a time, on the media thread and on the thread
    /// that writes recordings: it must not block (send to a channel, wake a reactor).
    ///
    /// # Errors
    /// The advertised address or the range is of no use, or the system has no descriptors or threads left.
    pub fn start(
        config: Config,
        clock: Clock,
        events: impl Fn(Vec<Event>) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if config.advertised.is_unspecified() {
            return wrong("the media address for SDP must be a real one: set `advertised`");
        }
        if config.advertised.is_ipv4() != config.bind.is_ipv4() {
            return wrong("`bind` and `advertised` must be of the same family");
        }
        let mut random = Random::from_entropy(config.seed);
        let ports = ports::Ports::new(&config.ports, random.next_u64());
        if ports.len() == 0 {
            return wrong("the port range holds no even port with an odd one above it");
        }
        let poll = Poll::new()?;
        let shared = Arc::new(Shared {
            waker: Waker::new(poll.registry(), thread::WAKER)?,
            woken: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            counters: Counters::default(),
        });
        let (commands, inbox) = crossbeam_channel::bounded(config.max_commands);
        let (jobs, job_inbox) = crossbeam_channel::bounded(config.max_pieces);
        // One entry a recording, and a leg has one recording.
        let (failed, failures) = crossbeam_channel::bounded(config.max_legs.max(16));
        let events: Arc<dyn Fn(Vec<Event>) + Send + Sync> = Arc::new(events);
        let writer_events = Arc::clone(&events);
        let writer = std::thread::Builder::new()
            .name("media-writer".into())
            .spawn(move || writer::run(&job_inbox, &failed, &*writer_events))?;
        let handle = MediaHandle { commands, shared: Arc::clone(&shared) };
        let thread = Thread::new(config, clock, poll, shared, ports, random, inbox, jobs, failures, events)?;
        let media = std::thread::Builder::new().name("media".into()).spawn(move || thread.run())?;
        Ok(Self { handle, threads: vec![media, writer] })
    }

    /// A handle for a shard.
    #[must_use]
    pub fn handle(&self) -> MediaHandle {
        self.handle.clone()
    }

    /// Sends a command: see [`MediaHandle::send`].
    ///
    /// # Errors
    /// The queue is full, or the thread has ended.
    pub fn send(&self, command: Command) -> Result<(), Refused> {
        self.handle.send(command)
    }
}

impl Drop for MediaThread {
    fn drop(&mut self) {
        self.handle.shared.stop.store(true, Ordering::Release);
        self.handle.shared.woken.store(false, Ordering::Release);
        self.handle.wake();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

//! The log: lines by `tracing`, as text or JSON, to standard error through a bounded queue.
//!
//! Whoever logs hands a finished line over and goes on, whatever becomes of it: a terminal that was
//! stopped, a full pipe or a slow disk behind it stalls the thread "log" and no other. Lines that find
//! no room are dropped, counted, and told of when there is room again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::limit::Limiter;
use crate::config::Log;

/// Lines that wait for standard error.
const LINES: usize = 8_192;
/// Their bytes.
const BYTES: usize = 8 << 20;
/// How often what was left out is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What became of lines; totals since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Lines that found the queue full.
    pub dropped: AtomicU64,
    /// Repeated warnings that were left out.
    pub repeated: AtomicU64,
    waiting: AtomicUsize,
    bytes: AtomicUsize,
}

/// Hands lines to the thread that writes them. A clone fills the same queue.
#[derive(Debug, Clone)]
struct Lines {
    queue: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

impl Write for Lines {
    /// Takes a whole line, as `tracing_subscriber` hands it over; never waits and never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let fits = self.counts.bytes.fetch_add(line.len(), SeqCst) + line.len() <= BYTES;
        self.counts.waiting.fetch_add(1, SeqCst);
        if !fits || self.queue.try_send(line.to_vec()).is_err() {
            self.counts.bytes.fetch_sub(line.len(), SeqCst);
            self.counts.waiting.fetch_sub(1, SeqCst);
            self.counts.dropped.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Writes lines to `sink` until nobody can send any more; calls `each_second` about so often.
fn write_out(
    lines: &Receiver<Vec<u8>>,
    counts: &Counts,
    mut sink: impl Write,
    mut each_second: impl FnMut(),
) {
    let mut told = Instant::now();
    loop {
        match lines.recv_timeout(TELL_EVERY) {
            Ok(line) => {
                // Standard error that is gone is no reason to end.
                let _ = sink.write_all(&line);
                counts.bytes.fetch_sub(line.len(), SeqCst);
                counts.waiting.fetch_sub(1, SeqCst);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            each_second();
        }
    }
}

static COUNTS: OnceLock<Arc<Counts>> = OnceLock::new();

/// The counts of the process's log; none before [`start_log`].
#[must_use]
pub fn counts() -> Option<&'static Counts> {
    COUNTS.get().map(|counts| &**counts)
}

/// Waits until the lines so far are written, but not longer than `patience`: for the end of the process.
pub fn flush(patience: Duration) {
    let Some(counts) = counts() else { return };
    let end = Instant::now() + patience;
    while counts.waiting.load(SeqCst) > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts the log of the process. The environment's `CORDBOARD_LOG` goes before the configuration.
/// A second start in one process (tests) keeps the first.
pub fn start_log(log: &Log) {
    let filter = EnvFilter::try_from_env("CORDBOARD_LOG").unwrap_or_else(|_| EnvFilter::new(&log.level));
    let counts = Arc::new(Counts::default());
    let (queue, inbox) = sync_channel(LINES);
    let lines = Lines { queue, counts: counts.clone() };
    let limiter = Limiter::new(counts.clone());
    let told = limiter.clone();
    let base = tracing_subscriber::registry().with(filter).with(limiter);
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(lines);
    let started = if log.json {
        base.with(layer.json()).try_init()
    } else {
        base.with(layer.with_target(false).compact()).try_init()
    };
    if started.is_err() || COUNTS.set(counts.clone()).is_err() {
        return;
    }
    let mut dropped_before = 0;
    let writing = std::thread::Builder::new().name("log".into()).spawn(move || {
        // These lines go into the queue that this thread empties: like all others, they never wait.
        let each_second = || {
            told.tell();
            let dropped = counts.dropped.load(Relaxed);
            // While the queue is full this line would be dropped too.
            if dropped > dropped_before && counts.waiting.load(SeqCst) < LINES / 2 {
                let lines = dropped - dropped_before;
                dropped_before = dropped;
                tracing::warn!(lines, "standard error could not keep up: lines of the log were dropped");
            }
        };
        write_out(&inbox, &counts.clone(), io::stderr(), each_second);
    });
    if let Err(error) = writing {
        eprintln!("cordboard: the log's thread cannot be started, nothing will be logged: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A sink that a test can stop.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stopped_reader_stalls_nobody_and_what_found_no_room_is_counted() {
        let counts = Arc::new(Counts::default());
        let (queue, inbox) = sync_channel(LINES);
        let mut lines = Lines { queue, counts: counts.clone() };
        let sink = Sink::default();
        let stopped = sink.0.lock().unwrap();
        let writer = {
            let (sink, counts) = (sink.clone(), counts.clone());
            std::thread::spawn(move || write_out(&inbox, &counts, sink, || {}))
        };
        let began = Instant::now();
        let sent = LINES + 1_000;
        for i in 0..sent {
            lines.write_all(format!("{i}\n").as_bytes()).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let dropped = counts.dropped.load(Relaxed) as usize;
        assert!((999..=1_000).contains(&dropped), "{dropped}");
        drop(stopped);
        drop(lines);
        writer.join().unwrap();
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let written: Vec<usize> = written.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(written.len(), sent - dropped);
        assert!(written[..LINES].iter().copied().eq(0..LINES) && written.is_sorted());
        assert_eq!(counts.waiting.load(SeqCst) + counts.bytes.load(SeqCst), 0);
    }

    #[test]
    fn a_few_huge_lines_are_bounded_too() {
        let counts = Arc::new(Counts::default());
        let (queue, _inbox) = sync_channel(LINES);
        let mut lines = Lines { queue, counts: counts.clone() };
        let huge = vec![b'x'; BYTES / 4];
        for _ in 0..6 {
            lines.write_all(&huge).unwrap();
        }
        assert_eq!(counts.dropped.load(Relaxed), 2);
    }
}

//! Whether calls can be served: what `/v1/healthz` and `cordboard_up` say.
//!
//! Every thread that a call depends on counts its rounds, four a second at least. A task of the service
//! runtime looks at the counters twice a second; a thread whose counter stands still for seconds is hung,
//! or the machine gives it no time, and either way calls are not served. Nothing is asked of any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Shared;

/// A thread that makes no progress for so long does not serve calls.
const STALLED: Duration = Duration::from_secs(4);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// `GET /v1/healthz`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether calls can be served.
    pub ok: bool,
    /// `serving`, `draining`, `journal-failing`, `stalled`.
    pub state: &'static str,
    /// Threads that make no progress.
    pub stalled: Vec<&'static str>,
}

/// Threads that are watched, in the order of [`Shared::rounds`].
const THREADS: [&str; 5] = ["shard", "domain", "media", "redirect", "journal"];

/// Which threads were found standing still.
#[derive(Debug, Default)]
pub struct Watch([AtomicBool; THREADS.len()]);

impl Watch {
    /// The names of the threads that stand still.
    fn stalled(&self) -> Vec<&'static str> {
        let standing = THREADS.iter().zip(&self.0).filter(|(_, stalled)| stalled.load(Relaxed));
        standing.map(|(name, _)| *name).collect()
    }
}

/// When each counter was last seen to grow.
struct Rounds([Option<(u64, Instant)>; THREADS.len()]);

impl Rounds {
    /// Takes a reading; which threads have stood still for too long.
    fn look(&mut self, rounds: [Option<u64>; THREADS.len()], now: Instant) -> [bool; THREADS.len()] {
        let mut stalled = [false; THREADS.len()];
        for (i, rounds) in rounds.into_iter().enumerate() {
            match (rounds, &mut self.0[i]) {
                (Some(rounds), Some((seen, at))) if *seen == rounds => {
                    stalled[i] = now.duration_since(*at) >= STALLED;
                }
                (rounds, last) => *last = rounds.map(|rounds| (rounds, now)),
            }
        }
        stalled
    }
}

impl Shared {
    /// Whether calls can be served.
    #[must_use]
    pub fn health(&self) -> Health {
        let stalled = self.watch.stalled();
        let state = if self.journal.stats().failing.load(Relaxed) {
            "journal-failing"
        } else if !stalled.is_empty() {
            "stalled"
        } else if self.draining.load(Relaxed) {
            "draining"
        } else {
            "serving"
        };
        Health { ok: state == "serving", state, stalled }
    }

    /// The counters of rounds; none of threads that this process does not have.
    fn rounds(&self) -> [Option<u64>; THREADS.len()] {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let centre = self.centre.as_ref();
        [
            centre.map(|c| read(&c.shard_view.rounds)),
            centre.map(|c| read(&c.domain_view.rounds)),
            centre.map(|c| read(&c.media.counters().rounds)),
            self.redirect.as_ref().map(|(_, view)| read(&view.rounds)),
            Some(read(&self.journal.stats().rounds)),
        ]
    }
}

/// Looks at the threads as long as the node runs.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut seen = Rounds([None; THREADS.len()]);
    loop {
        let stalled = seen.look(shared.rounds(), Instant::now());
        for ((name, told), stalled) in THREADS.iter().zip(&shared.watch.0).zip(stalled) {
            match (told.swap(stalled, Relaxed), stalled) {
                (false, true) => tracing::error!(
                    thread = name,
                    seconds = STALLED.as_secs(),
                    "a thread makes no progress: calls are not served"
                ),
                (true, false) => tracing::warn!(thread = name, "the thread makes progress again"),
                _ => {}
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_stalled_when_its_rounds_stand_still_and_not_a_moment_longer() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut seen = Rounds([None; 5]);
        let one = |rounds| [Some(rounds), None, None, None, None];
        assert_eq!(seen.look(one(7), at(0)), [false; 5]);
        assert_eq!(seen.look(one(8), at(3_000)), [false; 5]);
        assert_eq!(seen.look(one(8), at(6_900)), [false; 5]);
        assert_eq!(seen.look(one(8), at(7_000)), [true, false, false, false, false]);
        assert_eq!(seen.look(one(9), at(7_500)), [false; 5]);
    }
}

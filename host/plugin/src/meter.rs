//! CPU of guests: what a poll of a guest's future took, summed, and the limit on the sum.
//!
//! Used by everything that runs a guest. Short polls are measured by the monotonic clock, which
//! costs 25 ns; a long one may have lost the processor to somebody else, so it is bounded by the
//! thread's own CPU clock since the last long one.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ticker::Ticker;

/// A poll longer than this is checked against the thread's CPU clock.
const LONG_NS: u64 = 300_000;

thread_local! {
    /// The thread's CPU clock when it was last read.
    static LAST_CPU_NS: Cell<u64> = const { Cell::new(0) };
}

/// The CPU of one guest.
#[derive(Debug)]
pub(crate) struct Meter {
    used_ns: AtomicU64,
    booked_ns: AtomicU64,
    poll_began_ns: AtomicU64,
    limit_ns: u64,
}

impl Meter {
    pub(crate) fn new(limit_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            used_ns: AtomicU64::new(0),
            booked_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            limit_ns: limit_ms.saturating_mul(1_000_000),
        })
    }

    /// CPU used up to the last poll.
    pub(crate) fn used_ns(&self) -> u64 {
        self.used_ns.load(Relaxed)
    }

    /// CPU used since this was last asked, for the books.
    pub(crate) fn book_ns(&self) -> u64 {
        let used_ns = self.used_ns();
        used_ns.saturating_sub(self.booked_ns.swap(used_ns, Relaxed))
    }

    /// Whether the guest was busy for a good part of what it may use: if it is late, it is its own fault.
    pub(crate) fn busy(&self) -> bool {
        self.used_ns() > self.limit_ns / 4
    }

    /// How long the current poll has lasted.
    pub(crate) fn slice_ns(&self) -> u64 {
        clock_ns(libc::CLOCK_MONOTONIC).saturating_sub(self.poll_began_ns.load(Relaxed))
    }

    /// Whether the guest has used up what it may, the current poll included.
    pub(crate) fn exhausted(&self, slice_ns: u64) -> bool {
        // A poll that was interrupted counts when it ends; a slice is short, so it is enough to
        // let it push the sum over the limit by one slice.
        self.used_ns().saturating_add(slice_ns.min(20_000_000)) > self.limit_ns
    }

    pub(crate) fn begin(&self) {
        self.poll_began_ns.store(clock_ns(libc::CLOCK_MONOTONIC), Relaxed);
    }

    pub(crate) fn end(&self) {
        let mut slice_ns = self.slice_ns();
        if slice_ns > LONG_NS {
            let cpu_ns = clock_ns(libc::CLOCK_THREAD_CPUTIME_ID);
            let since_ns = cpu_ns.saturating_sub(LAST_CPU_NS.replace(cpu_ns));
            slice_ns = slice_ns.min(since_ns);
        }
        // One poll at a time, so a plain addition loses nothing.
        self.used_ns.store(self.used_ns().saturating_add(slice_ns), Relaxed);
    }
}

/// Runs a guest's future with its CPU counted and the epoch ticking.
pub(crate) async fn metered<F: Future>(meter: Arc<Meter>, ticker: Arc<Ticker>, guest: F) -> F::Output {
    let mut guest = pin!(guest);
    poll_fn(move |cx| {
        let _inside = ticker.enter();
        meter.begin();
        let polled = guest.as_mut().poll(cx);
        meter.end();
        polled
    })
    .await
}

/// A clock of the operating system in nanoseconds.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to fill in; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

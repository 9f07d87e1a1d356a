//! How a sender wakes the thread that owns an inbox: once a batch, not once a message.
//!
//! ```text
//!            send: push, then          the owner: clear, then drain, then sleep
//!   idle ----- first sender wakes ----> armed ----- clear() ----> idle
//!                                        | more senders: nothing to do
//! ```
//! The owner clears the flag *before* it drains, so a message pushed after the drain finds the flag
//! clear and wakes again: no message sleeps in a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::Thread;

/// What really wakes a thread: an eventfd, an unpark, a tokio notification.
pub trait Wake: Send + Sync {
    /// Wakes the thread, or makes its next wait return at once.
    fn wake(&self);
}

impl<F: Fn() + Send + Sync> Wake for F {
    fn wake(&self) {
        self();
    }
}

/// A coalescing waker. Clones are the same waker.
#[derive(Clone)]
pub struct Waker(Arc<Inner>);

struct Inner {
    armed: AtomicBool,
    wake: Box<dyn Wake>,
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waker").field("armed", &self.0.armed).finish_non_exhaustive()
    }
}

impl Waker {
    /// A waker over what really wakes.
    pub fn new(wake: impl Wake + 'static) -> Self {
        Self(Arc::new(Inner { armed: AtomicBool::new(false), wake: Box::new(wake) }))
    }

    /// Wakes the owner, unless that was done since it last cleared.
    pub fn wake(&self) {
        if !self.0.armed.swap(true, SeqCst) {
            self.0.wake.wake();
        }
    }

    /// The owner is up: further sends wake it again. Call before draining.
    pub fn clear(&self) {
        self.0.armed.store(false, SeqCst);
    }
}

/// A waker for a thread that waits with [`Parker::park`].
#[derive(Debug)]
pub struct Parker {
    waker: Waker,
}

impl Parker {
    /// Made on the thread that will park.
    #[must_use]
    pub fn new() -> Self {
        let thread: Thread = std::thread::current();
        Self { waker: Waker::new(move || thread.unpark()) }
    }

    /// For senders.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Sleeps until woken or for so long, then clears the waker.
    pub fn park(&self, at_most: std::time::Duration) {
        if !self.waker.0.armed.load(SeqCst) {
            std::thread::park_timeout(at_most);
        }
        self.waker.clear();
    }
}

impl Default for Parker {
    fn default() -> Self {
        Self::new()
    }
}

//! A bounded queue with one owner, many senders, and a waker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::waker::Waker;

/// The queue is full: what the sender does with the message is its decision, by name.
#[derive(Debug)]
pub enum Full<T> {
    /// The owner is behind; the message comes back.
    Behind(T),
    /// The owner has gone; the message comes back.
    Gone(T),
}

impl<T> Full<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Self::Behind(message) | Self::Gone(message) => message,
        }
    }
}

/// The owner's end.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: Receiver<T>,
}

/// A sender's end. Clones send into the same queue.
#[derive(Debug)]
pub struct Outlet<T> {
    queue: Sender<T>,
    waker: Waker,
    times_full: Arc<AtomicU64>,
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), waker: self.waker.clone(), times_full: self.times_full.clone() }
    }
}

/// A queue of at most `capacity` messages whose owner is woken by `waker`.
#[must_use]
pub fn inbox<T>(capacity: usize, waker: Waker) -> (Outlet<T>, Inbox<T>) {
    let (sender, receiver) = bounded(capacity);
    (Outlet { queue: sender, waker, times_full: Arc::default() }, Inbox { queue: receiver })
}

impl<T> Inbox<T> {
    /// The next message, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<T> Outlet<T> {
    /// Puts a message in and wakes the owner.
    ///
    /// # Errors
    /// When it is full, or the owner has gone; the message comes back.
    pub fn send(&self, message: T) -> Result<(), Full<T>> {
        self.put(message)?;
        self.waker.wake();
        Ok(())
    }

    /// Puts a message in without waking the owner: call [`Self::wake`] after the last of a batch. An
    /// owner that is behind is woken at once.
    ///
    /// # Errors
    /// When it is full, or the owner has gone; the message comes back.
    pub fn put(&self, message: T) -> Result<(), Full<T>> {
        self.queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) => {
                self.times_full.fetch_add(1, Relaxed);
                self.waker.wake();
                Full::Behind(message)
            }
            TrySendError::Disconnected(message) => Full::Gone(message),
        })
    }

    /// Wakes the owner if anything waits for it.
    pub fn wake(&self) {
        if !self.queue.is_empty() {
            self.waker.wake();
        }
    }

    /// Waits until there is room; for threads that no call waits for. Gives up when the owner has gone.
    pub fn send_waiting(&self, message: T) {
        if let Err(Full::Behind(message)) = self.send(message) {
            let _ = self.queue.send(message);
            self.waker.wake();
        }
    }

    /// How often a message found it full and came back, was held or had to wait; for metrics.
    #[must_use]
    pub fn times_full(&self) -> u64 {
        self.times_full.load(Relaxed)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Messages that found their queue full, kept in order by their sender until there is room.
///
/// The decision's name is *hold*: whoever holds takes no new work (a shard stops reading its
/// sockets) until the other side has caught up, so what is held stays bounded by the work in hand.
#[derive(Debug)]
pub struct Held<T>(VecDeque<T>);

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Held<T> {
    /// Puts in order: behind what is held, or at once; the owner is woken by [`Self::flush`]. What
    /// goes to an owner that has gone is dropped.
    pub fn put(&mut self, to: &Outlet<T>, message: T) {
        if self.0.is_empty() {
            if let Err(Full::Behind(message)) = to.put(message) {
                self.0.push_back(message);
            }
        } else {
            self.0.push_back(message);
        }
    }

    /// Puts what is held as far as there is room and wakes the owner; whether nothing is left.
    pub fn flush(&mut self, to: &Outlet<T>) -> bool {
        while let Some(message) = self.0.pop_front() {
            if let Err(Full::Behind(message)) = to.put(message) {
                self.0.push_front(message);
                break;
            }
        }
        to.wake();
        self.0.is_empty()
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn counting() -> (Waker, Arc<AtomicU32>) {
        let wakes = Arc::new(AtomicU32::new(0));
        let seen = wakes.clone();
        (
            Waker::new(move || {
                seen.fetch_add(1, Relaxed);
            }),
            wakes,
        )
    }

    #[test]
    fn many_sends_wake_once_until_the_owner_clears() {
        let (waker, wakes) = counting();
        let (outlet, inbox) = inbox(100, waker.clone());
        for i in 0..10 {
            outlet.send(i).unwrap();
        }
        assert_eq!(wakes.load(Relaxed), 1);
        waker.clear();
        assert_eq!(std::iter::from_fn(|| inbox.take()).count(), 10);
        outlet.send(11).unwrap();
        assert_eq!(wakes.load(Relaxed), 2);
    }

    #[test]
    fn a_full_queue_gives_the_message_back_and_holding_keeps_the_order() {
        let (waker, _) = counting();
        let (outlet, inbox) = inbox(2, waker);
        let mut held = Held::default();
        for i in 0..5 {
            held.put(&outlet, i);
        }
        assert_eq!(held.len(), 3);
        assert!(matches!(outlet.send(9), Err(Full::Behind(9))));
        let mut seen = Vec::new();
        loop {
            let done = held.flush(&outlet);
            seen.extend(std::iter::from_fn(|| inbox.take()));
            if done {
                break;
            }
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert_eq!(outlet.times_full(), 4);
        drop(inbox);
        assert!(matches!(outlet.send(1), Err(Full::Gone(1))));
    }

    #[test]
    fn no_message_sleeps_in_a_queue_under_many_senders() {
        let parker = crate::Parker::new();
        let (outlet, inbox) = inbox(64, parker.waker());
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let outlet = outlet.clone();
                std::thread::spawn(move || (0..5_000_u64).for_each(|i| outlet.send_waiting(i)))
            })
            .collect();
        let mut sum = 0;
        let mut count = 0;
        let began = std::time::Instant::now();
        while count < 20_000 {
            parker.park(std::time::Duration::from_secs(5));
            while let Some(i) = inbox.take() {
                sum += i;
                count += 1;
            }
        }
        senders.into_iter().for_each(|s| s.join().unwrap());
        assert_eq!(sum, 4 * (0..5_000).sum::<u64>());
        assert!(
            began.elapsed() < std::time::Duration::from_secs(5),
            "a wake-up was lost: it took a whole timeout"
        );
    }
}

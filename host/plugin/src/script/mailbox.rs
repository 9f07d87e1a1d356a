//! What the shard tells a script, kept until the script's fibre looks.
//!
//! Written by the shard's thread, read on the guest's; both hold the lock for nanoseconds. A change
//! of a ticket only changes the snapshot; a completion and a hang-up wake the fibre.

use std::future::{Future, poll_fn};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use cordboard_base::Id;
use cordboard_call::messages::TicketState;
use cordboard_call::script::{Done, Failure, ToScript};

/// A ticket as the script sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TicketView {
    pub(crate) state: TicketState,
    pub(crate) position: u32,
    pub(crate) wait_s: Option<u32>,
}

/// The mailbox of one script.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The verb that the fibre waits for.
    expected: u32,
    done: Option<Result<Done, Failure>>,
    tickets: Vec<(Id, TicketView)>,
    hung_up: bool,
    /// The script's task: all its futures are polled by it.
    waker: Option<Waker>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the shard says.
    pub(crate) fn put(&self, message: ToScript) {
        let mut inner = self.lock();
        match message {
            ToScript::Done { verb, result } => {
                // A late completion of a verb that a hang-up has already ended is dropped.
                if verb != inner.expected || inner.done.is_some() {
                    return;
                }
                if let Ok(Done::Queued { ticket, position, wait_s, .. }) = &result {
                    let view =
                        TicketView { state: TicketState::Waiting, position: *position, wait_s: *wait_s };
                    if !inner.tickets.iter().any(|(id, _)| id == ticket) {
                        inner.tickets.push((*ticket, view));
                    }
                }
                inner.done = Some(result);
            }
            ToScript::Ticket { ticket, state, position, wait_s } => {
                let view = TicketView { state, position, wait_s };
                match inner.tickets.iter_mut().find(|(id, _)| *id == ticket) {
                    Some((_, seen)) => *seen = view,
                    None => inner.tickets.push((ticket, view)),
                }
                return;
            }
            ToScript::HungUp => inner.hung_up = true,
        }
        wake(inner);
    }

    /// Notes which verb is waited for. False when the caller is gone: the verb need not be sent.
    pub(crate) fn expect(&self, verb: u32) -> bool {
        let mut inner = self.lock();
        inner.expected = verb;
        inner.done = None;
        !inner.hung_up
    }

    /// Marks the call as over on the script's own wish. False when it was over before.
    pub(crate) fn hang_up(&self) -> bool {
        let mut inner = self.lock();
        !std::mem::replace(&mut inner.hung_up, true)
    }

    /// Waits for the completion of a verb; the caller's hang-up completes it too.
    pub(crate) fn done(&self, verb: u32) -> impl Future<Output = Result<Done, Failure>> {
        poll_fn(move |cx| {
            let mut inner = self.lock();
            debug_assert_eq!(inner.expected, verb, "one verb at a time");
            if let Some(done) = inner.done.take() {
                Poll::Ready(done)
            } else if inner.hung_up {
                Poll::Ready(Err(Failure::HungUp))
            } else {
                inner.wait(cx.waker());
                Poll::Pending
            }
        })
    }

    /// Waits for the hang-up.
    pub(crate) fn hung_up(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            let mut inner = self.lock();
            if inner.hung_up {
                Poll::Ready(())
            } else {
                inner.wait(cx.waker());
                Poll::Pending
            }
        })
    }

    pub(crate) fn ticket(&self, id: Id) -> TicketView {
        let gone = TicketView { state: TicketState::Ended, position: 0, wait_s: None };
        self.lock().tickets.iter().find(|(ticket, _)| *ticket == id).map_or(gone, |(_, view)| *view)
    }
}

impl Inner {
    fn wait(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|held| held.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }
}

/// Wakes the script outside the lock.
fn wake(mut inner: MutexGuard<'_, Inner>) {
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

//! Messages between authorities, in one process: bounded queues with wakers.
//!
//! A [`Link`] carries envelopes from one authority to another, in order. In serialising mode every
//! envelope is encoded and decoded again, so that nothing can be smuggled through memory and the
//! same messages can later cross a wire. An [`Inbox`] is what any thread of the server wakes up
//! for. Called by the server's shells and by tests. Never drops a message: a full queue is a
//! decision with a name, see [`Full`].

pub mod inbox;
pub mod link;
pub mod waker;

pub use inbox::{Full, Held, Inbox, Outlet, inbox};
pub use link::{Carrier, Link};
pub use waker::{Parker, Wake, Waker};

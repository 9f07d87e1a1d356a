//! What must outlive the process: the journal of facts, the outbox of events with its cursors and
//! dead letters, and the records of interactions and offers. One SQLite file in WAL mode.
//!
//! One thread writes ([`journal::Journal`]), in group commits; readers ([`records::Records`],
//! [`outbox::Outbox`]) have connections of their own and never wait for it. Called by the server's
//! domain thread (which holds its outputs until they are released), the shard's thread (dialogs)
//! and the service runtime. Never decides anything, and never reads a clock of its own.

pub mod codec;
pub mod error;
pub mod journal;
pub mod outbox;
pub mod records;
mod schema;

pub use error::StoreError;
pub use journal::{Batch, Durability, Journal, Options, Stats};
pub use outbox::{DeadLetter, Outbox, Stored};
pub use records::{Filter, Records, Summary};

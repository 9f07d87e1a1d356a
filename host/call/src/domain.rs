//! The domain: one owner of tenants. It joins the stations `cti`, `interaction`, `queue`, `acd`
//! and `agent`, so that nothing can come between "not ready" and "reserve".
//!
//! Called by the shell of a domain thread, or by the simulation, with one input at a time. What it
//! returns is held by the shell until the facts among it are durable.

use crate::commands::{Command, Reply};
use crate::events::Event;
use crate::facts::Fact;
use crate::messages::{Envelope, ToDomain, ToShard};

/// What happens to a domain.
#[derive(Debug)]
pub enum Input {
    /// A shard says.
    Bus(Envelope<ToDomain>),
    /// An operator, desktop or adapter asks.
    Command {
        /// Repeated in the reply.
        request: u64,
        /// What.
        command: Command,
    },
    /// The configuration has changed.
    Configure(std::sync::Arc<crate::model::Model>),
    /// The queue policy of a plugin name was exchanged: place waiting entries anew.
    PolicyChanged {
        /// The plugin's name.
        plugin: crate::Name,
    },
    /// The clock has reached a deadline.
    Tick,
}

/// What a domain wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// Make durable before anything after it is told.
    Fact(Fact),
    /// Tell a shard, by number.
    Bus(u16, Envelope<ToShard>),
    /// Publish.
    Event(Event),
    /// Answer a command.
    Reply {
        /// The request's number.
        request: u64,
        /// The answer.
        reply: Reply,
    },
    /// For whoever watches a call live: a line was added to its timeline.
    Line(cordboard_base::Id, crate::timeline::Line),
    /// A plugin failed and the default was taken.
    PolicyFault {
        /// The plugin's name.
        plugin: crate::Name,
        /// How.
        fault: crate::policy::Fault,
    },
}

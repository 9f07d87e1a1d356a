//! The shard: one owner of many calls. It joins the stations of a call over one SIP stack, one
//! media plane and one queue of timers, and it is the judge of every offer.
//!
//! Called by the shell of a signalling thread, or by the simulation, with one input at a time.

use std::net::SocketAddr;

use bytes::Bytes;
use cordboard_base::Id;
use cordboard_media::control;

use crate::facts::Fact;
use crate::messages::{Envelope, ToDomain, ToShard};
use crate::policy::Fault;
use crate::redirect::Note;
use crate::router::{Incoming, Route};
use crate::script::{CallInfo, FromScript, ScriptId, ToScript};
use crate::Name;

/// What happens to a shard.
#[derive(Debug)]
pub enum Input {
    /// A datagram arrived.
    Datagram {
        /// On which listener.
        listener: u16,
        /// From where.
        from: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// The domain says.
    Bus(Envelope<ToShard>),
    /// The media plane says.
    Media(control::Event),
    /// The router plugin has answered, or failed to.
    Routed {
        /// The question's number.
        ask: u64,
        /// The answer.
        answer: Result<Route, Fault>,
    },
    /// A script says.
    Script(ScriptId, FromScript),
    /// The redirect role sent a call our way.
    Redirected(Note),
    /// The clock has reached a deadline.
    Tick,
    /// Take no new calls; live ones finish.
    Drain,
}

/// What a shard wants done.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// From which listener.
        listener: u16,
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Tell the domain.
    Bus(Envelope<ToDomain>),
    /// Tell the media plane.
    Media(control::Command),
    /// Ask the router plugin; answer with [`Input::Routed`].
    AskRoute {
        /// The question's number.
        ask: u64,
        /// Which plugin.
        plugin: Name,
        /// The question.
        incoming: Box<Incoming>,
    },
    /// Start a script; it answers with [`Input::Script`].
    StartScript {
        /// Its number.
        script: ScriptId,
        /// Which plugin.
        plugin: Name,
        /// What it knows.
        info: Box<CallInfo>,
    },
    /// Tell a script.
    Script(ScriptId, ToScript),
    /// Write down a dialog's life.
    Fact(Fact),
    /// A call is over and nothing of it is left.
    Gone {
        /// Which.
        interaction: Id,
    },
}

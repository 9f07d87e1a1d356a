//! One connection's state: how far it has come, what it is for, and when patience with it ends.
//!
//! Used by [`Connections`](super::Connections) alone.

use std::io;
use std::sync::Arc;

use cordboard_base::{Now, TimerId, ms};

use super::link::Link;
use super::types::{Closed, Flow, Limits, Transport, is_web};

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Dialled; the peer's kernel has not answered.
    Connecting,
    /// TLS or the WebSocket upgrade is under way.
    Settling,
    /// Messages flow.
    Open,
}

/// Since when the peer has taken nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocked {
    pub(super) since_ns: u64,
    /// Octets that its socket had taken then.
    pub(super) sent: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    /// With no connection in it, and the name under which it was dialled.
    pub(super) flow: Flow,
    pub(super) transport: Transport,
    pub(super) dialled: bool,
    /// The name that the peer had to prove.
    pub(super) name: Option<Arc<str>>,
    pub(super) link: Link,
    pub(super) stage: Stage,
    /// There may be something to read.
    pub(super) readable: bool,
    /// It stands in the queue of those to be set up or read.
    pub(super) queued: bool,
    /// It stands in the list of those to be flushed.
    pub(super) dirty: bool,
    /// The flows that name no connection and whose messages it takes: one a listener at most, of the same peer and
    /// name. They are told when it ends or never comes up.
    pub(super) users: Vec<Flow>,
    /// Why it ends with the next turn.
    pub(super) doomed: Option<Closed>,
    pub(super) messages: u64,
    pub(super) opened_ns: u64,
    /// When anything was last heard.
    pub(super) heard_ns: u64,
    /// When it was last of use.
    pub(super) used_ns: u64,
    pub(super) pinged_ns: u64,
    pub(super) unfinished_ns: Option<u64>,
    /// Something waits, and the peer takes no more of it.
    pub(super) blocked: Option<Blocked>,
    /// The timer, and when it comes.
    pub(super) timer: Option<(TimerId, u64)>,
}

impl Connection {
    pub(super) fn new(
        flow: Flow,
        transport: Transport,
        dialled: bool,
        name: Option<Arc<str>>,
        link: Link,
        now: Now,
    ) -> Self {
        Self {
            number: 0,
            flow,
            transport,
            dialled,
            name,
            link,
            stage: if dialled { Stage::Connecting } else { Stage::Settling },
            readable: false,
            queued: false,
            dirty: false,
            users: Vec::new(),
            doomed: None,
            messages: 0,
            opened_ns: now.mono_ns,
            heard_ns: now.mono_ns,
            used_ns: now.mono_ns,
            pinged_ns: 0,
            unfinished_ns: None,
            blocked: None,
            timer: None,
        }
    }

    /// Its flow with its number.
    pub(super) fn full_flow(&self) -> Flow {
        Flow { connection: Some(self.number), ..self.flow }
    }

    /// Goes on with setting up; whether messages can flow.
    pub(super) fn settle(&mut self) -> Result<bool, Closed> {
        if self.stage == Stage::Connecting {
            let Some(channel) = self.link.channel() else { return Err(Closed::ByPeer) };
            if let Ok(Some(error)) | Err(error) = channel.socket.take_error() {
                return Err(match error.kind() {
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Closed::ByPeer,
                    io::ErrorKind::TimedOut => Closed::Vanished,
                    _ => Closed::Socket(error.to_string()),
                });
            }
            match channel.remote() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
                Err(error) => return Err(Closed::Socket(error.to_string())),
            }
            self.stage = Stage::Settling;
        }
        self.link.settle()
    }

    fn is_asked(&self) -> bool {
        self.dialled || is_web(self.transport)
    }

    /// When something has to be done about it at the latest.
    pub(super) fn deadline_ns(&self, limits: &Limits) -> u64 {
        if self.stage != Stage::Open {
            return self.opened_ns + ms(limits.setup_ms);
        }
        let mut at = self.used_ns + ms(limits.idle_ms);
        if let Some(began) = self.unfinished_ns {
            at = at.min(began + ms(limits.message_ms));
        }
        if let Some(blocked) = self.blocked {
            at = at.min(blocked.since_ns + ms(limits.stall_ms));
        }
        if !self.dialled && self.messages == 0 {
            at = at.min(self.opened_ns + ms(limits.setup_ms + limits.message_ms));
        }
        if self.is_asked() {
            at = at.min(self.heard_ns.max(self.pinged_ns) + ms(limits.ping_ms));
        }
        at
    }

    /// What a deadline that has come means: the end, or a ping (true), or nothing yet.
    pub(super) fn overdue(&self, now_ns: u64, limits: &Limits) -> Result<bool, Closed> {
        let past = |since_ns: u64, after_ms: u64| now_ns >= since_ns + ms(after_ms);
        if self.stage != Stage::Open {
            return if past(self.opened_ns, limits.setup_ms) { Err(Closed::SetupTimeout) } else { Ok(false) };
        }
        if self.unfinished_ns.is_some_and(|began| past(began, limits.message_ms)) {
            return Err(Closed::MessageTimeout);
        }
        if !self.dialled && self.messages == 0 && past(self.opened_ns, limits.setup_ms + limits.message_ms) {
            return Err(Closed::MessageTimeout);
        }
        if self.blocked.is_some_and(|blocked| past(blocked.since_ns, limits.stall_ms)) {
            return Err(Closed::Behind);
        }
        if past(self.used_ns, limits.idle_ms) {
            return Err(Closed::Idle);
        }
        if self.is_asked() && past(self.heard_ns.max(self.pinged_ns), limits.ping_ms) {
            // A browser answers each ping; a TCP peer need not know CRLF, and its kernel is asked instead.
            if is_web(self.transport) && self.pinged_ns > self.heard_ns {
                return Err(Closed::Vanished);
            }
            return Ok(true);
        }
        Ok(false)
    }
}

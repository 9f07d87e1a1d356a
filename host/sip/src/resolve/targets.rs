//! The outcome of a resolution: where to send, in order, and how to go on when a target fails.

use std::net::SocketAddr;

use crate::transport::Transport;

/// One place to send to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// How.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// The name that a certificate has to have: the one that was asked for, not what DNS made of it
    /// (RFC 3263 4, RFC 5922 4).
    pub server_name: String,
}

/// Targets in the order in which they are to be tried (RFC 3263 4.3). Never empty when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    list: Vec<Target>,
    at: usize,
}

impl Targets {
    pub(super) fn new(list: Vec<Target>) -> Self {
        Self { list, at: 0 }
    }

    /// The target that is being tried; `None` when all have failed.
    #[must_use]
    pub fn current(&self) -> Option<&Target> {
        self.list.get(self.at)
    }

    /// The current target has failed: refused, unreachable, silent, 503 (4.3). The next one, to which the
    /// request goes as a new transaction with a new branch; `None` when there is none.
    pub fn fail(&mut self) -> Option<&Target> {
        self.at = (self.at + 1).min(self.list.len());
        self.current()
    }

    /// All targets, those that have failed included.
    #[must_use]
    pub fn all(&self) -> &[Target] {
        &self.list
    }

    /// How many have not been tried, the current one included.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.list.len() - self.at
    }
}

//! Hosts that only DNS knows: the shard asks the shell, goes on, and hears the addresses later.
//!
//! Called wherever something is sent for the first time: a call out, an agent's phone, a trunk's
//! registrar and its OPTIONS. Never looks anything up, and keeps no answer: the shell's cache does.

use std::collections::VecDeque;
use std::net::SocketAddr;

use cordboard_media::control;
use cordboard_sip::wire::Uri;

use super::call::CallKey;
use super::core::Core;
use super::{Output, Shard};

/// Names that are being asked for at once; one more fails at once.
const MAX_ASKED: usize = 10_000;

/// Who wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A call out.
    Dial(CallKey),
    /// An agent's phone, by its media leg.
    Ring(CallKey, control::LegId),
    /// The REGISTER of a trunk.
    Register(u64),
    /// The OPTIONS to a trunk's destination.
    Probe(u64, usize),
}

/// Where to send, as far as it is known now.
#[derive(Debug)]
pub(super) enum Way {
    /// To these, in this order.
    Known(VecDeque<SocketAddr>),
    /// It is asked for under this number.
    Asked(u64),
    /// Nowhere, and why.
    Lost(String),
}

impl Core {
    /// The addresses of a URI: at once when its host is one.
    pub(super) fn way_to(&mut self, uri: &str, asker: Asker) -> Way {
        match Uri::parse(uri) {
            Err(error) => return Way::Lost(error.to_string()),
            Ok(parsed) => {
                if let Some(address) = parsed.socket_addr() {
                    return Way::Known(VecDeque::from([address]));
                }
            }
        }
        if self.names.len() >= MAX_ASKED {
            return Way::Lost("too many names are being resolved".to_owned());
        }
        let ask = self.number();
        self.names.insert(ask, asker);
        self.out.push(Output::Resolve { ask, uri: uri.to_owned() });
        Way::Asked(ask)
    }
}

impl Shard {
    pub(super) fn resolved(&mut self, ask: u64, answer: Result<Vec<SocketAddr>, String>) {
        let answer = answer.map(VecDeque::from);
        match self.core.names.remove(&ask) {
            None => {}
            Some(Asker::Dial(key)) => self.with(key, |core, call| core.dial_resolved(call, ask, answer)),
            Some(Asker::Ring(key, media)) => {
                self.with(key, |core, call| core.ring_resolved(call, media, answer));
            }
            Some(Asker::Register(id)) => self.core.register_resolved(id, answer),
            Some(Asker::Probe(id, at)) => self.core.probe_resolved(id, at, answer),
        }
    }
}

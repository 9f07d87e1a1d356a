//! Hosts that only DNS knows: the shard asks the shell, goes on, and hears the addresses later.
//!
//! Called wherever something is sent for the first time: a call out, an agent's phone, a trunk's
//! registrar and its OPTIONS. Never looks anything up, and keeps no answer: the shell's cache does.

use std::collections::VecDeque;

use cordboard_media::control;
use cordboard_sip::endpoint::{Flow, Listener};
use cordboard_sip::transport::Hop;
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
    Known(VecDeque<Flow>),
    /// It is asked for under this number.
    Asked(u64),
    /// Nowhere, and why.
    Lost(String),
}

impl Core {
    /// The ways to a URI's host: at once when it is an address.
    pub(super) fn way_to(&mut self, uri: &str, asker: Asker) -> Way {
        match Uri::parse(uri) {
            Err(error) => return Way::Lost(error.to_string()),
            Ok(parsed) => {
                if let Some(hop) = Hop::of(&parsed) {
                    return match self.flow_to(hop) {
                        Ok(flow) => Way::Known(VecDeque::from([flow])),
                        Err(why) => Way::Lost(why),
                    };
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

    /// The listener for what a hop asks for, and its address.
    fn flow_to(&self, hop: Hop) -> Result<Flow, String> {
        let transport = hop.transport.unwrap_or_default();
        let v4 = hop.address.is_ipv4();
        let fits =
            |l: &&Listener| l.transport == transport && l.local.is_ipv4() == v4 && transport.can_connect();
        let fitting = self.config.listeners.iter().filter(fits);
        let family = if v4 { "IPv4" } else { "IPv6" };
        let listener = fitting
            .min_by_key(|l| l.id != self.config.center_listener)
            .ok_or_else(|| format!("[[listeners]] has none that calls by {transport} over {family}"))?;
        Ok(Flow { name: hop.name, ..Flow::udp(listener.id, hop.address) })
    }
}

impl Shard {
    pub(super) fn resolved(&mut self, ask: u64, answer: Result<Vec<Hop>, String>) {
        let answer = answer.and_then(|hops| {
            // One transport that we lack does not rule the others out.
            let (ways, lost): (Vec<_>, Vec<_>) =
                hops.into_iter().map(|hop| self.core.flow_to(hop)).partition(Result::is_ok);
            match lost.into_iter().next() {
                Some(Err(why)) if ways.is_empty() => Err(why),
                _ => Ok(ways.into_iter().flatten().collect::<VecDeque<_>>()),
            }
        });
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

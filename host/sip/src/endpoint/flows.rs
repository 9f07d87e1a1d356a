//! Connections: which are open, what waits on each, and the way that a request takes (RFC 3261 18,
//! RFC 5626 5.3, RFC 7118).
//!
//! The shell owns the connections and numbers them; here stands only what the machines must know:
//! whether a dialog's own connection still lives, and whom to tell when one breaks. Of UDP nothing
//! is kept.

use std::net::SocketAddr;

use cordboard_base::{Map, Now, Set};

use super::Endpoint;
use super::core::Core;
use super::txns::{Machine, Told};
use super::types::{Flow, Listener, RequestFailure};
use crate::dialog::Path;
use crate::transaction::{Input, client, invite_client, invite_server};
use crate::transport::{Hop, NameId, Transport};

/// Connections, and the transactions that live on them.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// Those that something has come in by.
    open: Map<u64, Set<u64>>,
    /// Those that the shell chooses or makes, by what it was asked for: flows without a connection.
    asked: Map<Flow, Set<u64>>,
}

impl Flows {
    pub(super) fn opened(&mut self, connection: u64) {
        self.open.entry(connection).or_default();
    }

    pub(super) fn is_open(&self, connection: u64) -> bool {
        self.open.contains_key(&connection)
    }

    pub(super) fn attach(&mut self, flow: Flow, txn: u64) {
        match flow.connection {
            Some(connection) => {
                if let Some(waiting) = self.open.get_mut(&connection) {
                    waiting.insert(txn);
                }
            }
            None => {
                self.asked.entry(flow).or_default().insert(txn);
            }
        }
    }

    pub(super) fn detach(&mut self, flow: Flow, txn: u64) {
        match flow.connection {
            Some(connection) => {
                if let Some(waiting) = self.open.get_mut(&connection) {
                    waiting.remove(&txn);
                }
            }
            None => {
                if let Some(waiting) = self.asked.get_mut(&flow) {
                    waiting.remove(&txn);
                    if waiting.is_empty() {
                        self.asked.remove(&flow);
                    }
                }
            }
        }
    }

    /// The transactions of a connection that is gone, by its number and by the flows that the shell sent on it, in the
    /// order in which they began.
    fn gone(&mut self, connection: Option<u64>, users: &[Flow]) -> Vec<u64> {
        let on_it = connection.and_then(|n| self.open.remove(&n)).unwrap_or_default();
        let meant = users.iter().filter_map(|user| self.asked.remove(user)).flatten();
        let mut all: Vec<u64> = on_it.into_iter().chain(meant).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Entries held: a leak is a number that does not come back to that of the open connections.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.asked.len()
    }
}

impl Core {
    /// A listener of a transport: the one named, else one at its address, else one of its address family.
    pub(super) fn listener_for(&self, transport: Transport, near: u16) -> Option<Listener> {
        // `transport=ws` is said of both kinds (RFC 7118 5.2.1).
        let fits = |l: &Listener| {
            l.transport == transport || transport == Transport::Ws && l.transport == Transport::Wss
        };
        let here = self.listener(near);
        if let Some(here) = here.filter(fits) {
            return Some(here);
        }
        let distance = |l: &&Listener| {
            here.map_or(0, |here| {
                u8::from(l.local.ip() != here.local.ip())
                    + u8::from(l.local.is_ipv4() != here.local.is_ipv4())
            })
        };
        self.config.listeners.iter().filter(|l| fits(l)).min_by_key(distance).copied()
    }

    /// The way to a hop, from the listener named unless the hop asks for another transport. `None` when
    /// there is no listener of that transport, or none can be opened.
    pub(super) fn flow_to(&self, near: u16, hop: Hop) -> Option<Flow> {
        let listener = match hop.transport {
            Some(transport) => self.listener_for(transport, near)?,
            None => self.listener(near)?,
        };
        listener
            .transport
            .can_connect()
            .then_some(Flow { name: hop.name, ..Flow::udp(listener.id, hop.address) })
    }

    /// The way to a contact of a redirect: UDP when it asks for nothing else (RFC 3263 4.1), whatever the
    /// one before it was reached by.
    pub(super) fn flow_to_contact(&self, near: u16, hop: Hop) -> Option<Flow> {
        let udp = self.listener_for(Transport::Udp, near).map(|l| l.transport);
        self.flow_to(near, Hop { transport: hop.transport.or(udp), ..hop })
    }

    /// The way of a request inside a dialog: the connection that the dialog lives on, while it is open and
    /// leads to the next hop. A phone behind a NAT can be reached by no other.
    pub(super) fn flow_in_dialog(&self, peer: Flow, path: &Path<'_>) -> Flow {
        let leads_there =
            || path.routes.is_empty() || path.hop.is_none_or(|hop| hop.address.ip() == peer.remote.ip());
        if peer.connection.is_some_and(|n| self.flows.is_open(n)) && leads_there() {
            return peer;
        }
        let anew = Flow { connection: None, ..peer };
        let Some(hop) = path.hop else { return anew };
        let there = self.flow_to(peer.listener, hop).unwrap_or_else(|| {
            // No listener for what the peer asks for: where it is, by what it came in by.
            let secure = hop.transport.is_some_and(Transport::is_secure);
            if secure { anew } else { Flow::udp(peer.listener, hop.address) }
        });
        // A contact is an address where the URI of the call was a name: who is there proves the name again.
        let name = peer.name.filter(|_| there.remote.ip() == peer.remote.ip());
        Flow { name, ..there }
    }
}

impl Endpoint {
    pub(super) fn on_flow_closed(&mut self, now: Now, flow: Flow, users: &[Flow]) {
        let connects = self.core.listener(flow.listener).is_some_and(|l| l.transport.can_connect());
        for id in self.core.flows.gone(flow.connection, users) {
            let Some(txn) = self.txns.get_mut(id) else { continue };
            let unheard = matches!(
                txn.machine,
                Machine::InviteClient(invite_client::State::Calling) | Machine::Client(client::State::Trying)
            );
            if txn.is_client() && (unheard || !connects) {
                // The request may never have arrived, or no answer can: 18.4 makes it a failed transport.
                self.fail_transport(now, id);
                continue;
            }
            txn.flow = if txn.is_client() {
                // Whoever has answered provisionally comes back to our sent-by (18.2.2).
                Flow { connection: None, ..txn.flow }
            } else {
                // 18.2.2: "If that connection is no longer open, the server SHOULD open a connection to the IP
                // address in the "received" parameter, if present, using the port in the "sent-by" value".
                Flow::udp(txn.flow.listener, SocketAddr::new(txn.flow.remote.ip(), txn.sent_by_port()))
            };
            self.core.flows.attach(txn.flow, id);
            // Its final response may have been lost with the connection, and no timer repeats it.
            if txn.machine == Machine::InviteServer(invite_server::State::Completed) {
                let (flow, last) = (txn.flow, txn.last.clone());
                self.core.resend(flow, &last);
            }
        }
    }

    pub(super) fn on_flow_failed(&mut self, now: Now, flow: Flow) {
        for id in self.core.flows.gone(None, &[flow]) {
            if !self.txns.send_by_udp(&mut self.core, now, id) {
                self.fail_transport(now, id);
            }
        }
    }

    fn fail_transport(&mut self, now: Now, id: u64) {
        if let Told::Over(txn, why) = self.txns.step(&mut self.core, now, id, Input::TransportError) {
            self.on_no_response(now, id, &txn, why);
        }
    }

    /// Where a request outside a dialog goes.
    pub(super) fn first_flow(
        &self,
        listener: u16,
        destination: Option<SocketAddr>,
        connection: Option<u64>,
        name: Option<NameId>,
        hop: Option<Hop>,
    ) -> Result<Flow, RequestFailure> {
        let here = self.core.listener(listener).ok_or(RequestFailure::NoDestination)?;
        let Some(remote) = destination else {
            return hop.and_then(|h| self.core.flow_to(listener, h)).ok_or(RequestFailure::NoDestination);
        };
        let connection = connection.filter(|n| self.core.flows.is_open(*n));
        if connection.is_none() && !here.transport.can_connect() {
            return Err(RequestFailure::NoDestination);
        }
        Ok(Flow { listener, remote, connection, name })
    }
}

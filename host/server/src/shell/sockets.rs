//! A shard's sockets: UDP ports and connections, seen as one thing that takes and gives whole messages.
//!
//! Used by the shard's loop. It turns readiness into inputs and outputs into bytes; pacing, holding back
//! and everything else about a round is the loop's.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use cordboard_base::Now;
use cordboard_call::shard::Input;
use cordboard_net::stream::{self, Connections};
use cordboard_net::udp::{self, BATCH, Port};
use cordboard_sip::endpoint::Flow;
use cordboard_sip::stream::stun;
use cordboard_sip::transport::{NameId, Transport};
use mio::event::Event;
use mio::{Interest, Poll, Token};

/// Rounds of reading one port before others get their turn.
const READ_ROUNDS: usize = 8;

struct Socket {
    listener: u16,
    port: Port,
    readable: bool,
    sending: Vec<(SocketAddr, Vec<u8>)>,
}

/// What the listeners have done.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// Of each UDP port, with the address that is bound.
    pub ports: Vec<(SocketAddr, udp::Counters)>,
    /// Of all connections.
    pub connections: stream::Counters,
}

/// See the module.
pub(super) struct Sockets {
    ports: Vec<Socket>,
    connections: Connections,
    /// What each listener speaks, and where.
    addresses: Vec<(u16, At)>,
}

/// Of a listener: what it speaks, and the address that is bound.
pub(super) type At = (Transport, SocketAddr);

impl Sockets {
    /// Watches them.
    ///
    /// # Errors
    /// When the system cannot.
    pub(super) fn new(poll: &Poll, ports: Vec<(u16, Port)>, connections: Connections) -> io::Result<Self> {
        let mut sockets = Vec::new();
        let mut addresses: Vec<(u16, At)> = connections.addresses().map(|(n, t, at)| (n, (t, at))).collect();
        for (i, (listener, mut port)) in ports.into_iter().enumerate() {
            poll.registry().register(&mut port, Token(i), Interest::READABLE | Interest::WRITABLE)?;
            addresses.push((listener, (Transport::Udp, port.local_addr())));
            sockets.push(Socket { listener, port, readable: true, sending: Vec::new() });
        }
        Ok(Self { ports: sockets, connections, addresses })
    }

    /// What a listener speaks, and where.
    pub(super) fn address(&self, listener: u16) -> Option<At> {
        self.addresses.iter().find(|(number, _)| *number == listener).map(|(_, at)| *at)
    }

    /// Notes an event of the poll.
    pub(super) fn event(&mut self, event: &Event) {
        if let Some(socket) = self.ports.get_mut(event.token().0) {
            socket.readable |= event.is_readable();
            if event.is_writable() {
                socket.port.flush();
            }
        } else {
            self.connections.event(event);
        }
    }

    /// Does what connections need, and reads them if `read`; [`Self::take`] has to follow. Whether there is more to do
    /// at once.
    pub(super) fn turn(
        &mut self,
        now: Now,
        read: bool,
        lets_in: impl FnMut(Transport, SocketAddr) -> bool,
    ) -> bool {
        self.connections.turn(now, read, lets_in)
    }

    /// Reads the UDP ports if `read`, and hands in what became of connections; messages come with where they were
    /// received. Whether there is more to do at once.
    pub(super) fn take(&mut self, read: bool, mut each: impl FnMut(Option<At>, Input)) -> bool {
        let mut more = false;
        for socket in self.ports.iter_mut().filter(|s| read && s.readable) {
            more |= socket.read(&mut each);
        }
        while let Some(event) = self.connections.poll() {
            let input = match event {
                stream::Event::Message(at, bytes) => Input::Datagram { flow: flow(at), bytes },
                stream::Event::Closed { flow: at, users, .. } => {
                    Input::FlowClosed { flow: flow(at), users: users.into_iter().map(flow).collect() }
                }
                stream::Event::Failed(at, why) => {
                    tracing::debug!(remote = %at.remote, %why, "nothing can be sent");
                    Input::FlowFailed { flow: flow(at) }
                }
                stream::Event::Known(at, names) => {
                    tracing::info!(remote = %at.remote, ?names, "a peer has proved its name");
                    Input::FlowKnown { flow: flow(at), names }
                }
            };
            let at = match &input {
                Input::Datagram { flow, .. } => self.address(flow.listener),
                _ => None,
            };
            each(at, input);
        }
        more
    }

    /// Takes a message, which leaves with [`Self::flush`].
    pub(super) fn send(&mut self, to: Flow, bytes: Vec<u8>) {
        match self.ports.iter_mut().find(|s| s.listener == to.listener) {
            Some(socket) => socket.sending.push((to.remote, bytes)),
            None => {
                let Flow { listener, remote, connection, name } = to;
                self.connections.send(stream::Flow { listener, remote, connection, name }, bytes);
            }
        }
    }

    /// Sends what was taken.
    pub(super) fn flush(&mut self) {
        for socket in self.ports.iter_mut().filter(|s| !s.sending.is_empty()) {
            let datagrams: Vec<(SocketAddr, &[u8])> =
                socket.sending.iter().map(|(to, bytes)| (*to, &**bytes)).collect();
            socket.port.send_batch(&datagrams);
            socket.sending.clear();
        }
        self.connections.flush();
    }

    /// When [`Self::turn`] has something to do even without an event.
    pub(super) fn next_deadline_ns(&mut self) -> Option<u64> {
        self.connections.next_deadline_ns()
    }

    /// The number of a name that a flow is to prove (see [`Connections::name`]).
    pub(super) fn name(&mut self, name: &str) -> NameId {
        self.connections.name(name)
    }

    /// Ends connections of banned sources (see [`Connections::shut_out`]).
    pub(super) fn shut_out(&mut self, banned: impl Fn(IpAddr) -> bool, spare: impl Fn(Flow) -> bool) -> bool {
        self.connections.shut_out(banned, |at| spare(flow(at)))
    }

    /// New certificates and limits.
    pub(super) fn renew(&mut self, renewal: stream::Renewal) {
        self.connections.renew(renewal);
    }

    /// Says goodbye on every connection.
    pub(super) fn close(&mut self) {
        self.connections.close_all();
    }

    /// What was done so far.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            ports: self.ports.iter().map(|s| (s.port.local_addr(), s.port.counters())).collect(),
            connections: self.connections.counters(),
        }
    }
}

impl Socket {
    /// Whether there is more to read.
    fn read(&mut self, each: &mut impl FnMut(Option<At>, Input)) -> bool {
        let listener = self.listener;
        let at = Some((Transport::Udp, self.port.local_addr()));
        for _ in 0..READ_ROUNDS {
            let room = self.sending.len() + BATCH;
            let waiting = &mut self.sending;
            let got = self.port.recv_batch(|from, bytes| {
                if stun::is_stun(bytes) {
                    // No more answers than there were questions in one reading: a flood ends here.
                    if waiting.len() < room {
                        waiting.extend(stun::answer(bytes, from).map(|answer| (from, answer)));
                    }
                    return;
                }
                let bytes = Bytes::copy_from_slice(bytes);
                each(at, Input::Datagram { flow: Flow::udp(listener, from), bytes });
            });
            match got {
                Ok(BATCH) => {}
                Ok(_) => {
                    self.readable = false;
                    return false;
                }
                Err(error) => {
                    tracing::error!(%error, address = %self.port.local_addr(), "a socket cannot be read");
                    self.readable = false;
                    return false;
                }
            }
        }
        true
    }
}

/// The same as the SIP stack's.
fn flow(stream::Flow { listener, remote, connection, name }: stream::Flow) -> Flow {
    Flow { listener, remote, connection, name }
}

//! A batched UDP port for the SIP reactor.
//!
//! Called by a signalling shard's loop: a readiness, then [`Port::recv_batch`] until it is drained;
//! at the end of the batch one [`Port::send_batch`]. Never blocks and never grows without bound:
//! what the kernel does not take waits in a backlog of fixed size, and what does not fit there is
//! dropped and counted, for SIP sends it again.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::mmsg::{self, Receiver};

/// Datagrams received with one system call at most. Fewer means that the port is drained.
pub const BATCH: usize = 64;
/// The largest datagram that UDP can carry fits.
const DATAGRAM: usize = 65_536;

/// Sizes of a port.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The kernel's receive buffer in octets. The kernel counts about 1.3 KiB for a small datagram.
    pub receive_buffer: usize,
    /// The kernel's send buffer in octets.
    pub send_buffer: usize,
    /// Datagrams that may wait here when the kernel takes no more.
    pub backlog: usize,
    /// Whether other ports of ours may have the same address: the kernel deals senders out among them.
    pub shared: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { receive_buffer: 8 << 20, send_buffer: 4 << 20, backlog: 4096, shared: false }
    }
}

/// What a port has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams that were longer than any buffer and were not handed on.
    pub truncated: u64,
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Datagrams dropped because the backlog was full.
    pub overflowed: u64,
    /// Datagrams that the kernel refused (no route, too long).
    pub refused: u64,
}

/// A UDP port. Register it with mio for [`Interest::READABLE`], and also for
/// [`Interest::WRITABLE`] to be told when to [`Port::flush`].
#[derive(Debug)]
pub struct Port {
    socket: Socket,
    local: SocketAddr,
    receiver: Receiver<BATCH>,
    backlog: VecDeque<(SocketAddr, Vec<u8>)>,
    backlog_max: usize,
    counters: Counters,
    receive_buffer: usize,
}

impl Port {
    /// Binds an address; IPv6 sockets take IPv6 alone.
    ///
    /// The receive buffer is forced beyond the system's limit where we may, else set up to it:
    /// [`Self::receive_buffer`] says what came of it.
    ///
    /// # Errors
    /// The address is not ours or is taken.
    pub fn bind(address: SocketAddr, options: Options) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        force_buffer(&socket, libc::SO_RCVBUFFORCE, options.receive_buffer)
            .or_else(|_| socket.set_recv_buffer_size(options.receive_buffer))?;
        force_buffer(&socket, libc::SO_SNDBUFFORCE, options.send_buffer)
            .or_else(|_| socket.set_send_buffer_size(options.send_buffer))?;
        socket.set_reuse_port(options.shared)?;
        socket.bind(&address.into())?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            local,
            // The kernel reports twice what it was asked for: half is its own bookkeeping.
            receive_buffer: socket.recv_buffer_size()? / 2,
            socket,
            receiver: Receiver::new(DATAGRAM),
            backlog: VecDeque::new(),
            backlog_max: options.backlog,
            counters: Counters::default(),
        })
    }

    /// The address that is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The receive buffer in octets that the system granted.
    #[must_use]
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Hands over what has come, up to [`BATCH`] datagrams, and says how many came.
    ///
    /// Call it again while it says `BATCH`: readiness is told once.
    ///
    /// # Errors
    /// The socket is broken; an empty one is no error.
    pub fn recv_batch(&mut self, each: impl FnMut(SocketAddr, &[u8])) -> io::Result<usize> {
        let count = loop {
            match self.receiver.receive(self.socket.as_raw_fd()) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        self.hand_over(count, each);
        Ok(count)
    }

    /// Makes a port of a thread that has no other to watch: from now on [`Self::wait_batch`] waits so long.
    ///
    /// # Errors
    /// The system refuses; it never does.
    pub fn set_waiting(&self, at_most: std::time::Duration) -> io::Result<()> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(at_most))
    }

    /// As [`Self::recv_batch`], waiting for the first: one system call a batch instead of two.
    ///
    /// # Errors
    /// The socket is broken; nothing in time, and a signal, are no errors.
    pub fn wait_batch(&mut self, each: impl FnMut(SocketAddr, &[u8])) -> io::Result<usize> {
        let count = match self.receiver.wait(self.socket.as_raw_fd()) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        self.hand_over(count, each);
        Ok(count)
    }

    fn hand_over(&mut self, count: usize, mut each: impl FnMut(SocketAddr, &[u8])) {
        for index in 0..count {
            let Some((bytes, from, truncated)) = self.receiver.datagram(index) else { continue };
            if truncated {
                self.counters.truncated += 1;
                continue;
            }
            self.counters.received += 1;
            each(from, bytes);
        }
    }

    /// Sends datagrams in order, after those that still wait.
    pub fn send_batch(&mut self, datagrams: &[(SocketAddr, &[u8])]) {
        self.flush();
        let mut rest = datagrams;
        if self.backlog.is_empty() {
            rest = &rest[self.push(rest)..];
        }
        self.queue(rest);
    }

    /// Sends what waits, as far as the kernel takes it; true when nothing waits any more.
    pub fn flush(&mut self) -> bool {
        while !self.backlog.is_empty() {
            let waiting = std::mem::take(&mut self.backlog);
            let batch: Vec<(SocketAddr, &[u8])> =
                waiting.iter().take(BATCH).map(|(to, bytes)| (*to, bytes.as_slice())).collect();
            let (done, whole) = (self.push(&batch), batch.len());
            self.backlog = waiting;
            self.backlog.drain(..done);
            if done < whole {
                return false;
            }
        }
        true
    }

    /// How many datagrams wait.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Keeps what the kernel did not take, as far as there is room.
    fn queue(&mut self, datagrams: &[(SocketAddr, &[u8])]) {
        for (to, bytes) in datagrams {
            if self.backlog.len() < self.backlog_max {
                self.backlog.push_back((*to, bytes.to_vec()));
            } else {
                self.counters.overflowed += 1;
            }
        }
    }

    /// Gives datagrams to the kernel until it takes no more; says how many are done with.
    fn push(&mut self, datagrams: &[(SocketAddr, &[u8])]) -> usize {
        let mut done = 0;
        while done < datagrams.len() {
            match mmsg::send(self.socket.as_raw_fd(), &datagrams[done..]) {
                Ok(sent) => {
                    done += sent;
                    self.counters.sent += sent as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        || error.raw_os_error() == Some(libc::ENOBUFS) =>
                {
                    break;
                }
                // The error is of the first datagram alone: the others go on.
                Err(_) => {
                    done += 1;
                    self.counters.refused += 1;
                }
            }
        }
        done
    }
}

impl AsRawFd for Port {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Source for Port {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).deregister(registry)
    }
}

/// Sets a buffer beyond the system's limit, which takes the right to administer the network.
fn force_buffer(socket: &Socket, option: libc::c_int, size: usize) -> io::Result<()> {
    let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
    // SAFETY: the option's value is an int, the pointer is to one that lives over the call, and the length is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(&size).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    fn bind(address: &str) -> Port {
        Port::bind(address.parse().expect("address"), Options::default()).expect("binds")
    }

    fn receive(port: &mut Port, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut poll = Poll::new().expect("poll");
        poll.registry().register(port, Token(0), Interest::READABLE).expect("registers");
        let mut got = Vec::new();
        let mut events = Events::with_capacity(4);
        while got.len() < count {
            poll.poll(&mut events, Some(Duration::from_secs(5))).expect("polls");
            assert!(!events.is_empty(), "only {} of {count} came", got.len());
            while port.recv_batch(|from, bytes| got.push((from, bytes.to_vec()))).expect("receives") == BATCH
            {
            }
        }
        got
    }

    #[test]
    fn batches_go_both_ways_over_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (mut a, mut b) = (bind(address), bind(address));
            let bodies: Vec<Vec<u8>> = (0..200_u8).map(|i| vec![i; usize::from(i) + 1]).collect();
            let to = b.local_addr();
            a.send_batch(&bodies.iter().map(|body| (to, body.as_slice())).collect::<Vec<_>>());
            let got = receive(&mut b, 200);
            assert!(got.iter().all(|(from, _)| *from == a.local_addr()));
            assert_eq!(got.into_iter().map(|(_, body)| body).collect::<Vec<_>>(), bodies);
            assert_eq!((a.counters().sent, b.counters().received), (200, 200));
        }
    }

    #[test]
    fn ports_that_share_an_address_wait_and_part_the_senders() {
        let options = Options { shared: true, ..Options::default() };
        let mut a = Port::bind("127.0.0.1:0".parse().unwrap(), options).expect("binds");
        let mut b = Port::bind(a.local_addr(), options).expect("binds the same");
        assert!(Port::bind(a.local_addr(), Options::default()).is_err(), "only who shares may");
        for port in [&a, &b] {
            port.set_waiting(Duration::from_millis(20)).expect("waits");
        }
        let mut count = [0, 0];
        for round in 0..64 {
            let sender = UdpSocket::bind("127.0.0.1:0").expect("binds");
            sender.send_to(&[round], a.local_addr()).expect("sends");
            for (port, count) in [&mut a, &mut b].into_iter().zip(&mut count) {
                *count += port.wait_batch(|_, bytes| assert_eq!(bytes, [round])).expect("receives");
            }
        }
        assert_eq!(count[0] + count[1], 64);
        assert!(count[0] > 0 && count[1] > 0, "{count:?}");
    }

    #[test]
    fn the_largest_datagram_comes_whole_and_an_empty_one_too() {
        let (mut port, other) = (bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0").expect("binds"));
        for len in [65_507, 0] {
            other.send_to(&vec![7; len], port.local_addr()).expect("sends");
            assert_eq!(receive(&mut port, 1)[0].1.len(), len);
        }
        assert_eq!(port.counters().truncated, 0);
    }

    #[test]
    fn a_datagram_that_cannot_be_sent_does_not_stop_the_others() {
        let (mut a, mut b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
        let to = b.local_addr();
        let too_long = vec![0; 70_000];
        a.send_batch(&[(to, b"one"), (to, &too_long), (to, b"two")]);
        assert_eq!(receive(&mut b, 2).len(), 2);
        assert_eq!(a.counters().refused, 1);
    }

    #[test]
    fn what_the_kernel_does_not_take_waits_in_a_bounded_backlog() {
        // The loopback is never full, so the test fills the backlog itself.
        let (mut port, mut other) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
        let to = other.local_addr();
        port.backlog_max = 3;
        port.queue(&[(to, b"0"), (to, b"1"), (to, b"2"), (to, b"3"), (to, b"4")]);
        assert_eq!((port.backlog(), port.counters().overflowed), (3, 2));
        port.send_batch(&[(to, b"5")]);
        let bodies: Vec<_> = receive(&mut other, 4).into_iter().map(|(_, body)| body[0]).collect();
        assert_eq!(bodies, *b"0125", "what waited goes first");
        assert_eq!(port.backlog(), 0);
    }
}

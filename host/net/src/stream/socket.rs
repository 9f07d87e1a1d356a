//! Sockets of connections, with the options that SIP wants.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1_024;

fn new(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A listening socket; an IPv6 one takes IPv6 alone.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new(address)?;
    // Connections of a former life that linger do not keep us from listening again.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// A socket that is being connected, from the listener's address (if it is a particular one) and any port.
pub(super) fn connect(local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = new(remote)?;
    let from: IpAddr = local.ip();
    if !from.is_unspecified() && local.is_ipv4() == remote.is_ipv4() {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    match socket.connect(&remote.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let stream = TcpStream::from_std(socket.into());
    tune(&stream);
    Ok(stream)
}

/// Small messages leave at once; a peer that lost its power is found by the kernel, in about a minute when
/// nothing is sent and in half a minute when something is.
pub(super) fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    // A kernel that knows one of these not has its own habits, which do no harm.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&probes);
    let _ = socket.set_tcp_user_timeout(Some(Duration::from_secs(30)));
}

//! Many datagrams with few system calls, for the load and the batched floor: `recvmmsg`, and one
//! `sendmsg` for up to 64 datagrams of one length (`UDP_SEGMENT`), so that the load costs less than
//! what it loads. Called by [`super::load`] and [`super::floor`].

use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr::{from_mut, from_ref, null_mut};

/// Datagrams of one call.
pub(super) const MOST: usize = 64;
/// A segmented send must fit into one IP datagram.
const MOST_OCTETS: usize = 60_000;
const BUFFER: usize = 2_048;

/// A loopback socket with buffers that hold a batch.
pub(super) fn socket(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("a loopback port");
    for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF] {
        let size: libc::c_int = 8 << 20;
        // SAFETY: the value is an int that outlives the call, and the length is its size.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                from_ref(&size).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if set == 0 {
            break;
        }
    }
    socket
}

/// Received datagrams.
pub(super) struct Received {
    buffers: Vec<[u8; BUFFER]>,
    names: [libc::sockaddr_in; MOST],
    lengths: [usize; MOST],
}

impl Received {
    pub(super) fn new() -> Self {
        // SAFETY: all zeroes is a value of this plain C structure.
        let names = unsafe { zeroed() };
        Self { buffers: vec![[0; BUFFER]; MOST], names, lengths: [0; MOST] }
    }

    /// What is there; with `wait` at least one.
    pub(super) fn receive(&mut self, socket: &UdpSocket, wait: bool) -> usize {
        // SAFETY: all zeroes is a value of these plain C structures.
        let (mut headers, mut vectors): ([libc::mmsghdr; MOST], [libc::iovec; MOST]) =
            unsafe { (zeroed(), zeroed()) };
        for (i, buffer) in self.buffers.iter_mut().enumerate() {
            vectors[i] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER };
            let header = &mut headers[i].msg_hdr;
            header.msg_name = from_mut(&mut self.names[i]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[i];
            header.msg_iovlen = 1;
        }
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: every header points to its own name, vector and buffer, which outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                MOST as libc::c_uint,
                flags as _,
                null_mut(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(count) {
            *length = header.msg_len as usize;
        }
        count
    }

    pub(super) fn bytes(&self, i: usize) -> &[u8] {
        &self.buffers[i][..self.lengths[i].min(BUFFER)]
    }

    pub(super) fn from(&self, i: usize) -> &libc::sockaddr_in {
        &self.names[i]
    }
}

/// Sends single datagrams with one system call.
pub(super) fn send_each(socket: &UdpSocket, datagrams: &[(libc::sockaddr_in, Vec<u8>)]) {
    // SAFETY: all zeroes is a value of these plain C structures.
    let (mut headers, mut vectors): ([libc::mmsghdr; MOST], [libc::iovec; MOST]) =
        unsafe { (zeroed(), zeroed()) };
    for (i, (to, bytes)) in datagrams.iter().enumerate().take(MOST) {
        vectors[i] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut headers[i].msg_hdr;
        header.msg_name = from_ref(to).cast_mut().cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = &raw mut vectors[i];
        header.msg_iovlen = 1;
    }
    // SAFETY: the headers count as many as were filled, and point to what outlives the call.
    unsafe {
        libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), datagrams.len().min(MOST) as libc::c_uint, 0)
    };
}

/// Datagrams for one receiver, which go in runs of one length.
#[derive(Default)]
pub(super) struct Sending {
    octets: Vec<u8>,
    lengths: Vec<usize>,
}

impl Sending {
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.octets.len();
        write(&mut self.octets);
        self.lengths.push(self.octets.len() - before);
    }

    /// Sends all of them, and forgets them.
    pub(super) fn flush(&mut self, socket: &UdpSocket, to: SocketAddrV4) {
        let (mut at, mut i) = (0, 0);
        while i < self.lengths.len() {
            let length = self.lengths[i];
            let same = self.lengths[i..].iter().take_while(|l| **l == length).count();
            let run = same.min(MOST).min(MOST_OCTETS / length.max(1)).max(1);
            segmented(socket, to, &self.octets[at..at + run * length], length as u16);
            at += run * length;
            i += run;
        }
        self.octets.clear();
        self.lengths.clear();
    }
}

/// One call for several datagrams of `length` octets. What the kernel does not take is lost, as on a wire.
fn segmented(socket: &UdpSocket, to: SocketAddrV4, octets: &[u8], length: u16) {
    #[repr(align(8))]
    struct Control([MaybeUninit<u8>; 64]);
    let mut control = Control([MaybeUninit::uninit(); 64]);
    let mut vector = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
    // SAFETY: all zeroes is a value of these plain C structures.
    let (mut name, mut header): (libc::sockaddr_in, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    name.sin_family = libc::AF_INET as libc::sa_family_t;
    name.sin_port = to.port().to_be();
    name.sin_addr.s_addr = u32::from(*to.ip()).to_be();
    header.msg_name = from_mut(&mut name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: the control buffer is aligned and larger than one message with a u16 in it; the header
    // points to values that outlive the call.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        libc::CMSG_DATA(message).cast::<u16>().write_unaligned(length);
        libc::sendmsg(socket.as_raw_fd(), &raw const header, 0);
    }
}

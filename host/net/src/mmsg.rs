//! Many datagrams with one system call: `recvmmsg` and `sendmmsg`.
//!
//! Used by the UDP port and the media thread, on sockets that do not block. The only module that
//! hands pointers to the kernel.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::RawFd;
use std::ptr::null_mut;

use socket2::SockAddr;

/// Buffers for up to `N` datagrams of one `recvmmsg`.
#[derive(Debug)]
pub(crate) struct Receiver<const N: usize> {
    /// `N` buffers of `size` octets, side by side; untouched pages cost no memory.
    buffers: Box<[u8]>,
    size: usize,
    /// What the last call got: length, sender, and whether the datagram was longer than its buffer.
    got: [Option<Got>; N],
}

#[derive(Debug, Clone, Copy)]
struct Got {
    len: usize,
    from: SocketAddr,
    truncated: bool,
}

impl<const N: usize> Receiver<N> {
    pub(crate) fn new(size: usize) -> Self {
        Self { buffers: vec![0; N * size].into_boxed_slice(), size, got: [None; N] }
    }

    /// Receives what is there, at most `N`. Fewer than `N` means that the socket is drained.
    pub(crate) fn receive(&mut self, fd: RawFd) -> io::Result<usize> {
        self.receive_with(fd, libc::MSG_DONTWAIT)
    }

    /// As [`Self::receive`], on a socket that blocks: waits for the first, as long as its read timeout says.
    pub(crate) fn wait(&mut self, fd: RawFd) -> io::Result<usize> {
        self.receive_with(fd, libc::MSG_WAITFORONE)
    }

    fn receive_with(&mut self, fd: RawFd, flags: libc::c_int) -> io::Result<usize> {
        // SAFETY: both are plain C structures for which all zeroes (null pointers, no lengths) is a value.
        let (mut names, mut headers): ([libc::sockaddr_storage; N], [libc::mmsghdr; N]) =
            unsafe { (zeroed(), zeroed()) };
        let mut vectors: [libc::iovec; N] = [libc::iovec { iov_base: null_mut(), iov_len: 0 }; N];
        for (((header, vector), name), buffer) in
            headers.iter_mut().zip(&mut vectors).zip(&mut names).zip(self.buffers.chunks_exact_mut(self.size))
        {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points to its own name, vector and buffer, all of which outlive the call
        // and are not touched otherwise during it; the count is that of the headers.
        let count =
            unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), N as libc::c_uint, flags as _, null_mut()) };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        let count = count as usize;
        for ((got, header), name) in self.got.iter_mut().zip(&headers).zip(&names).take(count) {
            *got = address(name).map(|from| Got {
                len: (header.msg_len as usize).min(self.size),
                from,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        Ok(count)
    }

    /// One of the datagrams of the last call: its octets, its sender, whether it was cut off.
    pub(crate) fn datagram(&mut self, index: usize) -> Option<(&mut [u8], SocketAddr, bool)> {
        let got = (*self.got.get(index)?)?;
        let start = index * self.size;
        Some((&mut self.buffers[start..start + got.len], got.from, got.truncated))
    }
}

/// Sends datagrams with one system call; says how many the kernel took, from the first on.
///
/// At most 64 are tried at once.
pub(crate) fn send(fd: RawFd, datagrams: &[(SocketAddr, &[u8])]) -> io::Result<usize> {
    const MOST: usize = 64;
    let count = datagrams.len().min(MOST);
    let mut names: [MaybeUninit<SockAddr>; MOST] = [const { MaybeUninit::uninit() }; MOST];
    let mut vectors = [libc::iovec { iov_base: null_mut(), iov_len: 0 }; MOST];
    // SAFETY: a plain C structure for which all zeroes (null pointers, no lengths) is a value.
    let mut headers: [libc::mmsghdr; MOST] = unsafe { zeroed() };
    for (i, (to, bytes)) in datagrams.iter().take(count).enumerate() {
        let name = names[i].write(SockAddr::from(*to));
        // The kernel only reads what it sends.
        vectors[i] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut headers[i].msg_hdr;
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_namelen = name.len();
        header.msg_iov = &mut vectors[i];
        header.msg_iovlen = 1;
    }
    // SAFETY: the first `count` headers point to initialised names, vectors and octets that outlive the
    // call; a `SockAddr` needs no drop, so leaving the rest uninitialised is fine.
    let sent =
        unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count as libc::c_uint, libc::MSG_DONTWAIT as _) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// The address that the kernel wrote.
fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is this structure, and a storage is large enough and aligned for it.
            let v4 = unsafe { *std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { *std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

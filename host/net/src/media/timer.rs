//! A `timerfd` for mio: wakes the loop at a moment finer than the millisecond of a poll's timeout.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// One timer, armed for one moment at a time.
#[derive(Debug)]
pub(super) struct Timer {
    fd: OwnedFd,
    armed_ns: Option<u64>,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and owned by nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, armed_ns: None })
    }

    /// Arms it for a moment of the caller's clock, or disarms it. Setting it again clears what fired,
    /// so it never has to be read.
    pub(super) fn arm(&mut self, now_ns: u64, at_ns: Option<u64>) {
        if self.armed_ns == at_ns && at_ns.is_none_or(|at_ns| at_ns > now_ns) {
            return;
        }
        self.armed_ns = at_ns;
        // Zero would disarm it.
        let ns = at_ns.map_or(0, |at_ns| at_ns.saturating_sub(now_ns).max(1));
        let value = libc::timespec {
            tv_sec: (ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (ns % 1_000_000_000) as libc::c_long,
        };
        let spec =
            libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: the specification lives over the call; the old one is not asked for.
        unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), 0, &spec, std::ptr::null_mut()) };
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

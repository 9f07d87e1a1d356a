//! The export to a Homer: every SIP message as one HEP3 datagram.
//!
//! A thread of its own encodes and sends; whoever hands a message over never waits. What finds the queue
//! full, or the kernel unwilling, is dropped and counted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};

use cordboard_sip::capture::{Content, hep3};

use super::Message;

/// Messages that wait.
const WAITING: usize = 8_192;

/// See the module. The thread ends when the last one is dropped.
#[derive(Debug)]
pub(super) struct Exporter {
    to: SocketAddr,
    id: u32,
    queue: SyncSender<(Message, String)>,
    dropped: Arc<AtomicU64>,
}

impl Exporter {
    /// Begins to send to a Homer, as the agent `id`.
    pub(super) fn start(to: SocketAddr, id: u32) -> io::Result<Self> {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        let (queue, inbox) = sync_channel::<(Message, String)>(WAITING);
        let dropped = Arc::<AtomicU64>::default();
        let unsent = dropped.clone();
        std::thread::Builder::new().name("hep".into()).spawn(move || {
            while let Ok((message, call_id)) = inbox.recv() {
                let datagram = hep3(&message.packet(), Content::Sip, id, "", &call_id);
                // Not connected: an ICMP error of a Homer that is away would fail the next message.
                if datagram.is_none_or(|bytes| socket.send_to(&bytes, to).is_err()) {
                    unsent.fetch_add(1, Relaxed);
                }
            }
        })?;
        Ok(Self { to, id, queue, dropped })
    }

    /// To whom, and as whom.
    pub(super) fn aim(&self) -> (SocketAddr, u32) {
        (self.to, self.id)
    }

    /// Messages that were not sent.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Hands a message over.
    pub(super) fn send(&self, message: &Message, call_id: &str) {
        if self.queue.try_send((message.clone(), call_id.to_owned())).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

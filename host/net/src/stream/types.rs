//! What goes into [`Connections`](super::Connections) and comes out, as plain values.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cordboard_sip::stream::Why;
pub use cordboard_sip::transport::{NameId, Transport};
use rustls::{ClientConfig, ServerConfig};

/// Whether it is a WebSocket.
pub(super) const fn is_web(transport: Transport) -> bool {
    matches!(transport, Transport::Ws | Transport::Wss)
}

/// Sizes and times, so that nobody can hold more than a known share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, of all kinds and in both directions.
    pub connections: usize,
    /// Accepted connections at once from one IPv4 address or one IPv6 network of 64 bits.
    pub per_source: usize,
    /// The largest message in octets.
    pub message_bytes: usize,
    /// Octets that may wait for a peer who does not read; one more ends the connection.
    pub waiting_bytes: usize,
    /// How long a peer may take not one octet of what waits for it.
    pub stall_ms: u64,
    /// For the whole of connecting, TLS and the WebSocket upgrade.
    pub setup_ms: u64,
    /// From a message's first octet to its last, and from accepting to the first whole message.
    pub message_ms: u64,
    /// Without a message or a keep-alive from the peer for so long, a connection ends.
    pub idle_ms: u64,
    /// How often a quiet connection that we have dialled, or a WebSocket, is asked whether it lives.
    pub ping_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_source: 500,
            message_bytes: 65_535,
            waiting_bytes: 1 << 20,
            stall_ms: 30_000,
            setup_ms: 10_000,
            message_ms: 10_000,
            idle_ms: 3_600_000,
            ping_ms: 30_000,
        }
    }
}

/// A listener to open.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The shell's number for it.
    pub listener: u16,
    /// What it speaks: not UDP.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// What it shows, for kinds with TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// For WebSockets: values of Origin that are let in; empty: all.
    pub origins: Arc<[String]>,
}

/// What a listener shows to new connections.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Which listener.
    pub listener: u16,
    /// Its certificate and what it demands, for kinds with TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// For WebSockets: values of Origin that are let in; empty: all.
    pub origins: Arc<[String]>,
}

/// What may change while connections are up; theirs stays as it was when they began.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    /// Sizes and times.
    pub limits: Limits,
    /// How we connect by TLS; none: we do not.
    pub client: Option<Arc<ClientConfig>>,
    /// By listener: what it shows, and which Origins are let in.
    pub listeners: Vec<Shown>,
    /// The names that peers must prove when we connect by TLS, whatever name led there; those not named must prove that
    /// name, or their address.
    pub server_names: Vec<(SocketAddr, String)>,
}

/// One side's end of a connection, as the SIP stack names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The listener that it came in by, or that a message was to leave from.
    pub listener: u16,
    /// The other side.
    pub remote: SocketAddr,
    /// The connection; `None` stands for any to `remote`.
    pub connection: Option<u64>,
    /// The name that `remote` must have proved when we connect to it by TLS; none: itself.
    pub name: Option<NameId>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A whole message.
    Message(Flow, Bytes),
    /// The peer has proved these names by its certificate. Comes before its first message.
    Known(Flow, Arc<[String]>),
    /// A connection that was up is gone.
    Closed {
        /// Which.
        flow: Flow,
        /// The flows that name none, and whose messages it took.
        users: Vec<Flow>,
        /// Why.
        why: Closed,
    },
    /// No connection could be made for what was sent to this flow, whose `connection` is `None`.
    Failed(Flow, Closed),
}

/// Why a connection is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The peer has ended it, or nobody listens.
    ByPeer,
    /// The peer answers no probe, or does not take what is sent.
    Vanished,
    /// Nothing came for too long.
    Idle,
    /// Connecting, TLS or the upgrade took too long.
    SetupTimeout,
    /// A message took too long, or none came at all.
    MessageTimeout,
    /// Nobody can say where the next message begins.
    Framing(Why),
    /// More waits than may, or the peer took nothing of it for too long.
    Behind,
    /// TLS failed, in words.
    Tls(String),
    /// It is no WebSocket of ours, in words.
    Upgrade(String),
    /// The WebSocket broke its rules, in words.
    Web(String),
    /// A limit of ours.
    Full,
    /// This kind of connection cannot be dialled, or not without TLS being configured.
    NoWay,
    /// The system says so.
    Socket(String),
    /// Its source may not speak to us any more.
    Banned,
}

impl Closed {
    /// A word for a metric's label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        Self::WORDS[self.index()]
    }

    /// All words, in the order of [`Counters::closed`].
    pub const WORDS: [&'static str; 14] = [
        "by-peer",
        "vanished",
        "idle",
        "setup-timeout",
        "message-timeout",
        "framing",
        "behind",
        "tls",
        "upgrade",
        "websocket",
        "full",
        "no-way",
        "socket",
        "banned",
    ];

    pub(super) const fn index(&self) -> usize {
        match self {
            Self::ByPeer => 0,
            Self::Vanished => 1,
            Self::Idle => 2,
            Self::SetupTimeout => 3,
            Self::MessageTimeout => 4,
            Self::Framing(_) => 5,
            Self::Behind => 6,
            Self::Tls(_) => 7,
            Self::Upgrade(_) => 8,
            Self::Web(_) => 9,
            Self::Full => 10,
            Self::NoWay => 11,
            Self::Socket(_) => 12,
            Self::Banned => 13,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Framing(why) => write!(f, "framing: {}", why.as_str()),
            Self::Tls(text) | Self::Upgrade(text) | Self::Web(text) | Self::Socket(text) => {
                write!(f, "{}: {text}", self.as_str())
            }
            other => f.write_str(other.as_str()),
        }
    }
}

/// What the connections have done so far, and how many are up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Up now, those included that are being set up.
    pub open: usize,
    /// Accepted.
    pub accepted: u64,
    /// Dialled.
    pub dialled: u64,
    /// Turned away since [`Limits::connections`] or [`Limits::per_source`] was reached, or by the caller's own rule.
    pub refused: u64,
    /// Whole messages received.
    pub received: u64,
    /// Messages sent, or waiting to be.
    pub sent: u64,
    /// Messages for a connection that was gone.
    pub unsent: u64,
    /// Ends, by [`Closed::WORDS`].
    pub closed: [u64; 14],
}

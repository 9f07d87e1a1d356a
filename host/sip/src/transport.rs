//! The transports that SIP runs on, and what a URI says of the way to its host.
//!
//! Used by everything that sends: dialogs, the endpoint, the resolver, the host's sockets. Holds
//! values only; which socket or connection is taken is the endpoint's business.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::wire::Uri;

/// A transport of SIP (RFC 3261 18, RFC 7118).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Transport {
    /// Datagrams; whatever is lost is repeated by the transactions.
    #[default]
    Udp,
    /// A stream.
    Tcp,
    /// A stream inside TLS.
    Tls,
    /// A WebSocket.
    Ws,
    /// A WebSocket inside TLS.
    Wss,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss];

    /// The token of a Via (RFC 3261 20.42, RFC 7118 5.1).
    #[must_use]
    pub const fn via(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// The value of a `transport` parameter; RFC 7118 5.2.1 has one for both kinds of WebSocket.
    #[must_use]
    pub const fn param(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws | Self::Wss => "ws",
        }
    }

    /// The transport that a Via token or a `transport` parameter names.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.via().eq_ignore_ascii_case(text))
    }

    /// Whether what is sent arrives or the connection is lost: nothing is repeated (RFC 3261 17).
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// Whether it runs inside TLS.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether we may open a way ourselves; a browser is reached on its own connection only (RFC 7118 5).
    #[must_use]
    pub const fn can_connect(self) -> bool {
        !matches!(self, Self::Ws | Self::Wss)
    }

    /// The port when none is written (RFC 3261 19.1.2, RFC 7118 10.1).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// The same inside TLS; TLS over UDP is not SIP's.
    #[must_use]
    pub const fn secured(self) -> Self {
        match self {
            Self::Udp | Self::Tcp | Self::Tls => Self::Tls,
            Self::Ws | Self::Wss => Self::Wss,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.via())
    }
}

/// A name that whoever we connect to over TLS must prove by its certificate (RFC 5922 4). The shell keeps the names and
/// numbers them; a number is never used for a second name in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NameId(NonZeroU64);

impl NameId {
    /// The first of a shell's life.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Where a URI sends to: by its address (RFC 3263 4.1, 4.2), or by what DNS says of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Address and port.
    pub address: SocketAddr,
    /// The transport that the URI asks for; none for a plain `sip:` that leaves it open.
    pub transport: Option<Transport>,
    /// The name that led here, where it must be proved; none: the address must prove itself.
    pub name: Option<NameId>,
}

impl Hop {
    /// The hop of a URI with an address; `None` when its host is a name, its scheme is not SIP's, or it asks for a
    /// transport that does not exist here.
    #[must_use]
    pub fn of(uri: &Uri<'_>) -> Option<Self> {
        let secure = uri.scheme.eq_ignore_ascii_case("sips");
        let named = match uri.param("transport").filter(|t| !t.is_empty()) {
            Some(text) => Some(Transport::named(text)?),
            None => None,
        };
        let transport = if secure { Some(named.unwrap_or(Transport::Tls).secured()) } else { named };
        let port = uri.port.unwrap_or_else(|| transport.unwrap_or_default().default_port());
        Some(Self { address: SocketAddr::new(uri.ip()?, port), transport, name: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_where_and_how() {
        let table = [
            ("sip:a@192.0.2.1", "192.0.2.1:5060", None),
            ("sip:a@192.0.2.1:7000;transport=UDP", "192.0.2.1:7000", Some(Transport::Udp)),
            ("sip:192.0.2.1;transport=tcp", "192.0.2.1:5060", Some(Transport::Tcp)),
            ("sip:a@192.0.2.1;transport=tls", "192.0.2.1:5061", Some(Transport::Tls)),
            ("sips:a@[2001:db8::1]", "[2001:db8::1]:5061", Some(Transport::Tls)),
            ("sips:a@192.0.2.1;transport=tcp", "192.0.2.1:5061", Some(Transport::Tls)),
            ("sip:a@192.0.2.1;transport=ws", "192.0.2.1:80", Some(Transport::Ws)),
            ("sips:a@192.0.2.1;transport=ws", "192.0.2.1:443", Some(Transport::Wss)),
        ];
        for (uri, address, transport) in table {
            let hop = Hop::of(&Uri::parse(uri).unwrap());
            assert_eq!(hop, Some(Hop { address: address.parse().unwrap(), transport, name: None }), "{uri}");
        }
        for uri in
            ["sip:a@example.com", "sip:a@192.0.2.1;transport=sctp", "tel:+49", "sip:x@df7jal23ls0d.invalid"]
        {
            assert_eq!(Hop::of(&Uri::parse(uri).unwrap()), None, "{uri}");
        }
    }
}

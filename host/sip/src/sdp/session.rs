//! A session description as lines, and what they say about streams.
//!
//! Every line is kept, known or not, in its order, so that a description prints back as it was.

use std::fmt;
use std::net::IpAddr;

use super::SdpError;
use crate::wire::host_address;

/// More `m=` lines than this are refused.
const MAX_MEDIA: usize = 32;
/// More lines than this are refused.
const MAX_LINES: usize = 1_000;

/// Which way a stream flows, seen from whoever describes it (RFC 4566 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// Only sends.
    SendOnly,
    /// Only receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// The direction that sends and receives as told.
    #[must_use]
    pub const fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether the describer sends.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the describer receives.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same stream seen from the other side (RFC 3264 6.1).
    #[must_use]
    pub const fn mirrored(self) -> Self {
        Self::of(self.receives(), self.sends())
    }

    /// What both allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self::of(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// The attribute's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive]
            .into_iter()
            .find(|d| d.as_str() == name)
    }
}

/// One line: its letter and what follows the equals sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The letter.
    pub kind: char,
    /// The value.
    pub value: String,
}

/// Where a `c=` line points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection<'a> {
    /// An address literal, without a multicast TTL.
    Address(IpAddr),
    /// A name, which nobody here resolves.
    Name(&'a str),
}

/// A stream: its `m=` line and the lines after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, `image` ...
    pub kind: String,
    /// The port; 0 is a stream refused or ended.
    pub port: u16,
    /// The number of ports, when more than one is written (`49170/2`).
    pub ports: Option<u16>,
    /// `RTP/AVP`, `UDP/TLS/RTP/SAVPF` ...
    pub protocol: String,
    /// Payload types, or what the protocol puts there, in the order of preference.
    pub formats: Vec<String>,
    /// The lines below it.
    pub lines: Vec<Line>,
}

/// A whole description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The lines above the first `m=`.
    pub lines: Vec<Line>,
    /// The streams in their order.
    pub media: Vec<Media>,
}

impl Session {
    /// Reads a description; lines may end with CRLF, LF or CR, order is not insisted on.
    ///
    /// # Errors
    /// [`SdpError::Malformed`] when it does not begin with `v=0`, a line has no letter and equals
    /// sign, an `m=` line lacks a part, or there are more than 1000 lines or 32 streams.
    pub fn parse(bytes: &[u8]) -> Result<Self, SdpError> {
        let text = String::from_utf8_lossy(bytes);
        let mut session = Self { lines: Vec::new(), media: Vec::new() };
        let mut begun = false;
        for (i, line) in text.split(['\r', '\n']).filter(|l| !l.trim().is_empty()).enumerate() {
            let malformed = |expected| SdpError::Malformed(i + 1, expected);
            if i == MAX_LINES {
                return Err(malformed("at most 1000 lines"));
            }
            let mut letters = line.chars();
            let (kind, value) = match (letters.next(), letters.next()) {
                (Some(kind), Some('=')) if kind.is_ascii_lowercase() => (kind, letters.as_str()),
                _ => return Err(malformed("a letter and an equals sign")),
            };
            if !begun && (kind != 'v' || value.trim() != "0") {
                return Err(malformed("v=0"));
            }
            begun = true;
            if kind == 'm' {
                if session.media.len() == MAX_MEDIA {
                    return Err(malformed("at most 32 streams"));
                }
                session
                    .media
                    .push(Media::parse(value).ok_or(malformed("m=<media> <port> <protocol> <format>"))?);
                continue;
            }
            let line = Line { kind, value: value.to_owned() };
            match session.media.last_mut() {
                Some(media) => media.lines.push(line),
                None => session.lines.push(line),
            }
        }
        if begun { Ok(session) } else { Err(SdpError::Malformed(1, "v=0")) }
    }

    /// The value of the first line of a kind above the streams.
    #[must_use]
    pub fn line(&self, kind: char) -> Option<&str> {
        line(&self.lines, kind)
    }

    /// The value of a session attribute: empty for a flag.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        attributes(&self.lines, name).next()
    }

    /// Where a stream's packets go: its own `c=` or the session's (RFC 4566 5.7).
    #[must_use]
    pub fn connection<'a>(&'a self, media: &'a Media) -> Option<Connection<'a>> {
        connection(line(&media.lines, 'c').or_else(|| self.line('c'))?)
    }

    /// A stream's direction: its own attribute, or the session's, or both ways.
    #[must_use]
    pub fn direction(&self, media: &Media) -> Direction {
        let find = |lines: &[Line]| {
            lines.iter().filter(|l| l.kind == 'a').find_map(|l| Direction::parse(l.value.trim()))
        };
        find(&media.lines).or_else(|| find(&self.lines)).unwrap_or_default()
    }
}

impl Media {
    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split_ascii_whitespace();
        let kind = parts.next()?.to_owned();
        let (port, ports) = match parts.next()?.split_once('/') {
            None => (value.split_ascii_whitespace().nth(1)?.parse().ok()?, None),
            Some((port, ports)) => (port.parse().ok()?, Some(ports.parse().ok()?)),
        };
        let protocol = parts.next()?.to_owned();
        let formats: Vec<_> = parts.map(str::to_owned).collect();
        (!formats.is_empty()).then_some(Self { kind, port, ports, protocol, formats, lines: Vec::new() })
    }

    /// The value of the stream's first attribute of a name: empty for a flag.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes(name).next()
    }

    /// The values of all its attributes of a name.
    pub fn attributes<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        attributes(&self.lines, name)
    }

    /// The `rtpmap` of a payload type: encoding, clock rate in Hz, channels.
    #[must_use]
    pub fn rtpmap(&self, payload_type: u8) -> Option<(&str, u32, u8)> {
        let map = self.attributes("rtpmap").find_map(|v| of_payload(v, payload_type))?;
        let mut parts = map.split('/');
        let encoding = parts.next()?.trim();
        let rate = parts.next()?.trim().parse().ok()?;
        Some((encoding, rate, parts.next().map_or(Some(1), |c| c.trim().parse().ok())?))
    }

    /// The `fmtp` of a payload type.
    #[must_use]
    pub fn fmtp(&self, payload_type: u8) -> Option<&str> {
        self.attributes("fmtp").find_map(|v| of_payload(v, payload_type))
    }

    /// The payload types in their order, each once, so that a search of the attributes for each of them has an
    /// end; formats that are no numbers are left out.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> {
        let mut seen = 0_u128;
        self.formats.iter().filter_map(|f| f.parse().ok()).filter(move |pt| {
            let bit = 1_u128.checked_shl(u32::from(*pt)).unwrap_or(0);
            let fresh = bit & !seen != 0;
            seen |= bit;
            fresh
        })
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |f: &mut fmt::Formatter<'_>, lines: &[Line]| {
            lines.iter().try_for_each(|l| write!(f, "{}={}\r\n", l.kind, l.value))
        };
        write(f, &self.lines)?;
        for media in &self.media {
            write!(f, "{media}")?;
            write(f, &media.lines)?;
        }
        Ok(())
    }
}

impl fmt::Display for Media {
    /// The `m=` line alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {}", self.kind, self.port)?;
        if let Some(ports) = self.ports {
            write!(f, "/{ports}")?;
        }
        write!(f, " {} {}\r\n", self.protocol, self.formats.join(" "))
    }
}

fn line(lines: &[Line], kind: char) -> Option<&str> {
    lines.iter().find(|l| l.kind == kind).map(|l| l.value.trim())
}

fn attributes<'a, 'n>(lines: &'a [Line], name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
    lines.iter().filter(|l| l.kind == 'a').filter_map(move |l| {
        let (n, value) = l.value.split_once(':').unwrap_or((&l.value, ""));
        (n.trim() == name).then_some(value.trim())
    })
}

fn of_payload(value: &str, payload_type: u8) -> Option<&str> {
    let (pt, rest) = value.split_once([' ', '\t'])?;
    (pt.parse() == Ok(payload_type)).then_some(rest.trim())
}

fn connection(value: &str) -> Option<Connection<'_>> {
    let mut parts = value.split_ascii_whitespace();
    let (_network, _family, address) = (parts.next()?, parts.next()?, parts.next()?);
    let address = address.split('/').next()?;
    Some(host_address(address).map_or(Connection::Name(address), Connection::Address))
}

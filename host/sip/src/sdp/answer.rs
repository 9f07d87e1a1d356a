//! Offers we make, answers we give, and what an answer settles (RFC 3264).
//!
//! One audio stream of G.711 with RFC 4733 events; every other stream is refused in its place.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::SdpError;
use super::session::{Connection, Direction, Media, Session};

/// The payload type that our offers give to telephone-event; what the field's phones use too.
const DTMF: u8 = 101;
/// Milliseconds of audio in a packet when nobody says otherwise (RFC 3551 4.5).
const DEFAULT_PTIME_MS: u16 = 20;

/// A codec that this host speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Codec {
    /// G.711 mu-law, static payload type 0.
    Pcmu,
    /// G.711 A-law, static payload type 8.
    Pcma,
}

impl Codec {
    /// The encoding name (RFC 3551 6).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// The static payload type (RFC 3551 6).
    #[must_use]
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }
}

/// Our end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// The address for `c=` and `o=`.
    pub address: IpAddr,
    /// The RTP port.
    pub port: u16,
    /// The session's identifier in `o=`: the same for the life of the dialog (RFC 3264 8).
    pub session_id: u64,
    /// The version in `o=`: one more whenever the description changes (RFC 3264 8).
    pub version: u64,
}

/// What offer and answer settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Where our packets go; the address is unspecified when the other side is on old-style hold.
    pub remote: SocketAddr,
    /// Where our RTCP goes, when the other side says so (RFC 3605); else it is the port above `remote`'s.
    pub remote_rtcp: Option<SocketAddr>,
    /// The codec, both ways.
    pub codec: Codec,
    /// The payload type that we send it with.
    pub payload_type: u8,
    /// The payload type of telephone-event at 8000 Hz, if the other side takes it.
    pub dtmf_payload_type: Option<u8>,
    /// Milliseconds of audio that the other side wants in a packet: 10 to 100, 20 if it says nothing.
    pub ptime_ms: u16,
    /// What we may do: `sends` is false while the other side holds us.
    pub direction: Direction,
}

/// An offer of one audio stream with `codecs` in our order of preference and telephone-event.
#[must_use]
pub fn offer(local: &Local, codecs: &[Codec], direction: Direction) -> String {
    let mut sdp = head(local, "0 0");
    let codecs: Vec<_> = codecs.iter().map(|c| (*c, c.payload_type())).collect();
    audio(&mut sdp, local.port, "RTP/AVP", &codecs, Some(DTMF), direction);
    sdp
}

/// The answer to an offer, and what it settles: the first audio stream over RTP/AVP that is open and
/// has a codec of ours is accepted with the first such codec of the *offer*; all other streams are
/// refused with port 0 in their place (RFC 3264 6). The direction is what `direction` and the
/// offer both allow (6.1).
///
/// # Errors
/// When nothing can be accepted; [`SdpError::status`] is the answer then.
pub fn answer(
    offer: &Session,
    local: &Local,
    codecs: &[Codec],
    direction: Direction,
) -> Result<(String, Agreed), SdpError> {
    let (at, mut agreed) = settle(offer, codecs)?;
    agreed.direction = agreed.direction.and(direction);
    // RFC 3264 6: the answer's t= is the offer's.
    let mut sdp = head(local, offer.line('t').unwrap_or("0 0"));
    for (i, media) in offer.media.iter().enumerate() {
        if i == at {
            let codec = [(agreed.codec, agreed.payload_type)];
            audio(&mut sdp, local.port, &media.protocol, &codec, agreed.dtmf_payload_type, agreed.direction);
        } else {
            let refused = Media { port: 0, ports: None, ..media.clone() };
            let _ = write!(sdp, "{refused}");
        }
    }
    Ok((sdp, agreed))
}

/// What an answer to an offer of ours settles.
///
/// # Errors
/// When the answer refuses the stream or names no codec or address that we can use.
pub fn agreed(answer: &Session) -> Result<Agreed, SdpError> {
    settle(answer, &[Codec::Pcmu, Codec::Pcma]).map(|(_, agreed)| agreed)
}

/// The stream to use and what its describer asks of us.
fn settle(theirs: &Session, codecs: &[Codec]) -> Result<(usize, Agreed), SdpError> {
    let mut error = SdpError::NoAudio;
    for (i, media) in theirs.media.iter().enumerate() {
        if media.kind != "audio" || media.port == 0 {
            continue;
        }
        let codec =
            if media.protocol.eq_ignore_ascii_case("RTP/AVP") { first_codec(media, codecs) } else { None };
        let Some((codec, payload_type)) = codec else {
            error = SdpError::NoCodec;
            continue;
        };
        let Some(Connection::Address(address)) = theirs.connection(media) else {
            error = SdpError::NoAddress;
            continue;
        };
        let mut direction = theirs.direction(media).mirrored();
        // RFC 3264 8.4: an unspecified address is hold as RFC 2543 did it.
        if address.is_unspecified() {
            direction = direction.and(Direction::RecvOnly);
        }
        let dtmf_payload_type = media.payload_types().find(|pt| {
            media
                .rtpmap(*pt)
                .is_some_and(|(name, hz, _)| name.eq_ignore_ascii_case("telephone-event") && hz == 8000)
        });
        let ptime_ms = media.attribute("ptime").and_then(|v| v.parse::<f32>().ok());
        let agreed = Agreed {
            remote: SocketAddr::new(address, media.port),
            remote_rtcp: media.attribute("rtcp").and_then(|v| rtcp(v, address)),
            codec,
            payload_type,
            dtmf_payload_type,
            ptime_ms: ptime_ms.map_or(DEFAULT_PTIME_MS, |ms| (ms as u16).clamp(10, 100)),
            direction,
        };
        return Ok((i, agreed));
    }
    Err(error)
}

fn first_codec(media: &Media, codecs: &[Codec]) -> Option<(Codec, u8)> {
    media.payload_types().find_map(|pt| {
        codecs
            .iter()
            .find(|codec| match media.rtpmap(pt) {
                Some((name, hz, channels)) => {
                    name.eq_ignore_ascii_case(codec.as_str()) && hz == 8000 && channels == 1
                }
                // A static payload type needs no rtpmap (RFC 3264 5.1).
                None => pt == codec.payload_type(),
            })
            .map(|codec| (*codec, pt))
    })
}

/// `a=rtcp:53020 IN IP4 126.16.64.4` or the port alone (RFC 3605 2.1).
fn rtcp(value: &str, media_address: IpAddr) -> Option<SocketAddr> {
    let mut parts = value.split_ascii_whitespace();
    let port = parts.next()?.parse().ok()?;
    let address = match parts.nth(2) {
        Some(address) => address.parse().ok()?,
        None => media_address,
    };
    (port != 0).then(|| SocketAddr::new(address, port))
}

fn head(local: &Local, timing: &str) -> String {
    let family = if local.address.is_ipv4() { "IP4" } else { "IP6" };
    let mut sdp = String::with_capacity(384);
    let (id, version, address) = (local.session_id, local.version, local.address);
    let _ = write!(
        sdp,
        "v=0\r\no=- {id} {version} IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt={timing}\r\n"
    );
    sdp
}

fn audio(
    sdp: &mut String,
    port: u16,
    protocol: &str,
    codecs: &[(Codec, u8)],
    dtmf: Option<u8>,
    direction: Direction,
) {
    let _ = write!(sdp, "m=audio {port} {protocol}");
    for pt in codecs.iter().map(|(_, pt)| *pt).chain(dtmf) {
        let _ = write!(sdp, " {pt}");
    }
    sdp.push_str("\r\n");
    for (codec, pt) in codecs {
        let _ = write!(sdp, "a=rtpmap:{pt} {}/8000\r\n", codec.as_str());
    }
    if let Some(pt) = dtmf {
        // RFC 4733 2.5.1.1: events 0 to 15 are the keypad; 16 (flash) is understood too.
        let _ = write!(sdp, "a=rtpmap:{pt} telephone-event/8000\r\na=fmtp:{pt} 0-16\r\n");
    }
    let _ = write!(sdp, "a=ptime:{DEFAULT_PTIME_MS}\r\na={}\r\n", direction.as_str());
}

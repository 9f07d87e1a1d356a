//! The call centre's side of a leg: its SIP dialog, its media leg and what the two have agreed on.
//!
//! Called by the shard for callers and for the legs it dials. Negotiates, and never decides what
//! a call does next.

pub mod cause;

use std::net::SocketAddr;
use std::sync::Arc;

use cordboard_media::control::{self, Law};
use cordboard_sip::endpoint::LegId;
use cordboard_sip::sdp::{self, Agreed, Codec, Direction, Local, SdpError, Session};

use crate::trunk::hunt::escape_user;

/// One leg of a call.
#[derive(Debug)]
pub struct Party {
    /// The SIP side; none before it is dialled and when it is gone.
    pub leg: Option<LegId>,
    /// The media side; none when it is closed.
    pub media: Option<control::LegId>,
    /// Our RTP address, once the media leg is open.
    pub address: Option<SocketAddr>,
    /// What the other side has offered and we have not answered yet.
    pub offer: Option<Box<Session>>,
    /// What was agreed last.
    pub agreed: Option<Agreed>,
    /// Our answer until the final response has gone, which repeats that of a provisional one.
    pub said: Option<Arc<str>>,
    /// Of our session descriptions (RFC 4566 5.2).
    session_id: u64,
    version: u64,
    /// The last play's number.
    pub play: u64,
    /// The other side has put us on hold.
    pub held: bool,
    /// It leaves OPTIONS unanswered and was heard all the same: it is not asked again.
    pub ignores_options: bool,
}

impl Party {
    /// A leg whose media leg has just been asked for.
    #[must_use]
    pub fn new(media: control::LegId, session_id: u64) -> Self {
        Self {
            leg: None,
            media: Some(media),
            address: None,
            offer: None,
            agreed: None,
            said: None,
            session_id: session_id >> 1,
            version: 0,
            play: 0,
            held: false,
            ignores_options: false,
        }
    }

    /// Whether audio can flow.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.agreed.is_some()
    }

    /// Whether its RTP may be expected: nobody holds, and both may send. False before anything is agreed.
    #[must_use]
    pub fn speaks(&self) -> bool {
        !self.held && self.agreed.as_ref().is_some_and(|a| a.direction == Direction::SendRecv)
    }

    fn local(&mut self) -> Option<Local> {
        let address = self.address?;
        self.version += 1;
        Some(Local {
            address: address.ip(),
            port: address.port(),
            session_id: self.session_id,
            version: self.version,
        })
    }

    /// Our offer, once the media leg is open.
    pub fn make_offer(&mut self, codecs: &[Codec], direction: Direction) -> Option<String> {
        let local = self.local()?;
        Some(sdp::offer(&local, codecs, direction))
    }

    /// Our answer to `offer`, and what it means for the media leg.
    ///
    /// # Errors
    /// No stream of the offer fits (488), or the media leg is not open.
    pub fn answer(
        &mut self,
        offer: &Session,
        codecs: &[Codec],
    ) -> Result<(String, control::Remote), Option<SdpError>> {
        let local = self.local().ok_or(None)?;
        let (text, agreed) = sdp::answer(offer, &local, codecs, Direction::SendRecv).map_err(Some)?;
        self.said = Some(text.as_str().into());
        Ok((text, self.agree(agreed)))
    }

    /// Takes the other side's answer to our offer.
    ///
    /// # Errors
    /// The answer accepts no audio, or is no session description.
    pub fn accept(&mut self, body: &[u8]) -> Result<control::Remote, SdpError> {
        let agreed = sdp::agreed(&Session::parse(body)?)?;
        Ok(self.agree(agreed))
    }

    /// Begins anew with another peer on the same media leg.
    pub fn restart(&mut self) {
        self.leg = None;
        self.agreed = None;
        self.offer = None;
        self.held = false;
    }

    fn agree(&mut self, agreed: Agreed) -> control::Remote {
        let remote = remote(&agreed);
        self.held = !remote.send;
        self.agreed = Some(agreed);
        remote
    }

    /// The codec agreed, to be offered first to the party that this one is joined to.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        self.agreed.as_ref().map(|a| a.codec)
    }
}

/// Both codecs, with `first` first, then in the order of `preferred`.
#[must_use]
pub fn codecs(first: Option<Codec>, preferred: &[Codec]) -> Vec<Codec> {
    let mut all = Vec::with_capacity(2);
    for codec in first.iter().chain(preferred).chain(if preferred.is_empty() { BOTH } else { &[] }) {
        if !all.contains(codec) {
            all.push(*codec);
        }
    }
    all
}

/// What we speak when nothing is configured.
pub const BOTH: &[Codec] = &[Codec::Pcma, Codec::Pcmu];

fn remote(agreed: &Agreed) -> control::Remote {
    let nowhere = agreed.remote.ip().is_unspecified() || agreed.remote.port() == 0;
    let (send, receive) = match agreed.direction {
        Direction::SendRecv => (true, true),
        Direction::SendOnly => (true, false),
        Direction::RecvOnly => (false, true),
        Direction::Inactive => (false, false),
    };
    control::Remote {
        address: agreed.remote,
        rtcp: agreed.remote_rtcp,
        law: match agreed.codec {
            Codec::Pcmu => Law::Pcmu,
            Codec::Pcma => Law::Pcma,
        },
        payload_type: agreed.payload_type,
        dtmf_payload_type: agreed.dtmf_payload_type,
        send: send && !nowhere,
        receive,
    }
}

/// A name-addr for a From of ours: the caller as the agent's phone shows it. Anonymous when withheld.
#[must_use]
pub fn from_header(number: &str, name: &str, host: SocketAddr) -> String {
    from_header_at(number, name, &host.to_string())
}

/// As [`from_header`], with a host that may be a name.
#[must_use]
pub fn from_header_at(number: &str, name: &str, host: &str) -> String {
    if number.is_empty() {
        return "\"Anonymous\" <sip:anonymous@anonymous.invalid>".to_owned();
    }
    let mut uri = "sip:".to_owned();
    escape_user(&mut uri, number);
    uri.push('@');
    uri.push_str(host);
    name_addr(name, &uri)
}

/// A name-addr (RFC 3261 25.1); `name` may hold anything, and is left out when it is empty.
#[must_use]
pub fn name_addr(name: &str, uri: &str) -> String {
    let mut text = String::with_capacity(uri.len() + name.len() + 8);
    if !name.is_empty() {
        text.push('"');
        for c in name.chars().filter(|c| !c.is_control()) {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push_str("\" ");
    }
    text.push('<');
    text.push_str(uri);
    text.push('>');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_s_name_and_number_cannot_break_out_of_the_from() {
        let host = "10.0.0.1:5060".parse().unwrap();
        assert_eq!(from_header("+49", "A \"B\" <x>", host), "\"A \\\"B\\\" <x>\" <sip:+49@10.0.0.1:5060>");
        assert_eq!(from_header("a>b@c", "", host), "<sip:a%3Eb%40c@10.0.0.1:5060>");
        assert_eq!(from_header("", "Bob", host), "\"Anonymous\" <sip:anonymous@anonymous.invalid>");
    }

    #[test]
    fn the_other_party_s_codec_is_offered_first() {
        assert_eq!(codecs(Some(Codec::Pcmu), &[Codec::Pcma, Codec::Pcmu]), [Codec::Pcmu, Codec::Pcma]);
        assert_eq!(codecs(None, &[]), BOTH);
        assert_eq!(codecs(Some(Codec::Pcmu), &[]), [Codec::Pcmu, Codec::Pcma]);
    }
}

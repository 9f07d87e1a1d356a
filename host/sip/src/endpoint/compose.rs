//! Writes the endpoint's own messages, in one pass, and derives one request from another.
//!
//! What is derived (ACK, CANCEL, the INVITE with credentials or for the next target) is derived from
//! bytes that this module wrote, so each header is one line `Name: value`.

use std::fmt;
use std::io::Write;

use super::types::{Config, Listener};
use crate::transport::Transport;

/// What the endpoint itself understands; whoever answers OPTIONS gets it added.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK, INFO, REFER";

/// The extensions that the endpoint speaks by itself. `reliable` is false in an INVITE without an offer: the
/// answer to one in a provisional response would need the user.
pub(super) fn supported(config: &Config, reliable: bool) -> &'static str {
    match (reliable, config.session_expires_s > 0) {
        (true, true) => "100rel, timer, replaces, norefersub",
        (true, false) => "100rel, replaces, norefersub",
        (false, true) => "timer, replaces, norefersub",
        (false, false) => "replaces, norefersub",
    }
}

/// Whether an option of Require is understood.
pub(super) fn is_supported(config: &Config, option: &str) -> bool {
    supported(config, true).split(", ").any(|o| o.eq_ignore_ascii_case(option))
}

/// Whether a text may stand in a header: no end of line, no other control character but TAB.
pub(super) fn is_clean(value: &str) -> bool {
    value.bytes().all(|b| b >= b' ' && b != 0x7f || b == b'\t')
}

/// A message that is being written.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn request(method: &str, uri: &str) -> Self {
        let mut w = Self(Vec::with_capacity(1024));
        w.push(&[method, " ", uri, " SIP/2.0\r\n"]);
        w
    }

    fn push(&mut self, parts: &[&str]) {
        for part in parts {
            self.0.extend_from_slice(part.as_bytes());
        }
    }

    pub(super) fn header(&mut self, name: &str, value: &str) {
        self.push(&[name, ": ", value, "\r\n"]);
    }

    /// A header of the shell's; one that could break the message open is left out.
    pub(super) fn foreign(&mut self, name: &str, value: &str) {
        if crate::wire::text::is_token(name) && is_clean(value) {
            self.header(name, value);
        }
    }

    /// `rport` asks for nothing that a connection does not give (RFC 3581).
    pub(super) fn via(&mut self, listener: Listener, branch: &str) {
        let Listener { transport, local, .. } = listener;
        let rport = if transport == Transport::Udp { ";rport" } else { "" };
        let _ = write!(self.0, "Via: SIP/2.0/{transport} {local}{rport};branch={branch}\r\n");
    }

    pub(super) fn with_tag(&mut self, name: &str, value: &str, tag: &str) {
        self.push(&[name, ": ", value, ";tag=", tag, "\r\n"]);
    }

    pub(super) fn cseq(&mut self, number: u32, method: &str) {
        let _ = write!(self.0, "CSeq: {number} {method}\r\n");
    }

    pub(super) fn contact(&mut self, listener: Listener) {
        let _ = write!(self.0, "Contact: {}\r\n", Contact(listener));
    }

    /// The last Route to a strict router is a bare remote target and gets its brackets.
    pub(super) fn route(&mut self, route: &str) {
        if route.contains('<') {
            self.header("Route", route);
        } else {
            self.push(&["Route: <", route, ">\r\n"]);
        }
    }

    pub(super) fn line(&mut self, line: &str) {
        self.push(&[line, "\r\n"]);
    }

    /// Ends the message. Content-Length is always written (RFC 3261 20.14).
    pub(super) fn finish(mut self, body: Option<(&str, &[u8])>) -> Vec<u8> {
        match body {
            Some((content_type, body)) if !body.is_empty() => {
                self.header("Content-Type", content_type);
                let _ = write!(self.0, "Content-Length: {}\r\n\r\n", body.len());
                self.0.extend_from_slice(body);
            }
            _ => self.0.extend_from_slice(b"Content-Length: 0\r\n\r\n"),
        }
        self.0
    }
}

/// Our Contact on a listener: a peer that uses it comes back by the same transport.
#[derive(Clone, Copy)]
pub(super) struct Contact(pub(super) Listener);

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listener { transport, local, .. } = self.0;
        match transport {
            Transport::Udp => write!(f, "<sip:{local}>"),
            other => write!(f, "<sip:{local};transport={}>", other.param()),
        }
    }
}

/// The content type of session descriptions.
pub(super) const SDP: &str = "application/sdp";
/// Bodies that may stand in an INVITE: SDP, by itself or as a part of one of these (RFC 5621).
pub(super) const ACCEPTED: &str =
    "application/sdp, multipart/mixed, multipart/alternative, multipart/related";

/// A name-addr: an addr-spec gets its brackets, so that a tag is the header's (20.10).
pub(super) fn bracketed(address: &str) -> String {
    if address.contains('<') { address.to_owned() } else { format!("<{address}>") }
}

/// The parts of a request that this module wrote.
struct Written<'a> {
    method: &'a str,
    uri: &'a str,
    lines: std::str::Split<'a, &'static str>,
    body: &'a [u8],
}

fn written(bytes: &[u8]) -> Option<Written<'_>> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let mut lines = std::str::from_utf8(&bytes[..end]).ok()?.split("\r\n");
    let (method, rest) = lines.next()?.split_once(' ')?;
    let (uri, _version) = rest.rsplit_once(' ')?;
    Some(Written { method, uri, lines, body: &bytes[end + 4..] })
}

fn split(line: &str) -> (&str, &str) {
    line.split_once(": ").unwrap_or((line, ""))
}

/// The ACK to a final response from 300 (17.1.1.3: the request's URI, Via, From, Call-ID, Route and
/// CSeq number, the To of the response) or the CANCEL (9.1: the same with the request's own To).
pub(super) fn derive(
    request: &[u8],
    method: &str,
    to: Option<&str>,
    reason: Option<&str>,
) -> Option<Vec<u8>> {
    let Written { uri, lines, .. } = written(request)?;
    let mut w = Writer::request(method, uri);
    for line in lines {
        let (name, value) = split(line);
        match name {
            "Via" | "From" | "Call-ID" | "Route" | "Max-Forwards" => w.line(line),
            "To" => w.header("To", to.unwrap_or(value)),
            "CSeq" => w.push(&["CSeq: ", value.split(' ').next().unwrap_or("1"), " ", method, "\r\n"]),
            _ => {}
        }
    }
    if let Some(reason) = reason {
        w.foreign("Reason", reason);
    }
    Some(w.finish(None))
}

/// What changes in a request that is sent again as a new transaction.
pub(super) struct Changes<'a> {
    pub(super) uri: Option<&'a str>,
    /// The listener that it leaves by, and the one that the former left by: our own Contact follows.
    pub(super) listener: Listener,
    pub(super) before: Listener,
    pub(super) branch: &'a str,
    pub(super) cseq: u32,
    /// Headers that replace all of their names.
    pub(super) headers: &'a [(&'a str, &'a str)],
}

/// The same request with these changes (8.1.3.4, 8.1.3.5: Call-ID, To and From stay).
pub(super) fn again(request: &[u8], changes: &Changes<'_>) -> Option<Vec<u8>> {
    let Written { method, uri, lines, body } = written(request)?;
    let mut w = Writer::request(method, changes.uri.unwrap_or(uri));
    for line in lines {
        match split(line).0 {
            "Via" => w.via(changes.listener, changes.branch),
            "Contact" if changes.listener != changes.before && is_ours(line, changes.before) => {
                w.contact(changes.listener);
            }
            "CSeq" => {
                w.cseq(changes.cseq, method);
                for (name, value) in changes.headers {
                    w.header(name, value);
                }
            }
            name if changes.headers.iter().any(|(n, _)| *n == name) => {}
            // Credentials were for the target that asked for them.
            "Authorization" | "Proxy-Authorization" if changes.uri.is_some() => {}
            _ => w.line(line),
        }
    }
    w.0.extend_from_slice(b"\r\n");
    w.0.extend_from_slice(body);
    Some(w.0)
}

fn is_ours(line: &str, listener: Listener) -> bool {
    split(line).1 == Contact(listener).to_string()
}

/// One header of a request that this module wrote.
pub(super) fn find<'a>(request: &'a [u8], name: &str) -> Option<&'a str> {
    written(request)?.lines.map(split).find(|(n, _)| *n == name).map(|(_, value)| value)
}

/// The method, URI and body of a request that this module wrote.
pub(super) fn start_line(request: &[u8]) -> Option<(&str, &str, &[u8])> {
    written(request).map(|w| (w.method, w.uri, w.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> Vec<u8> {
        let mut w = Writer::request("INVITE", "sip:bob@192.0.2.4");
        w.via(Listener::udp(0, "192.0.2.1:5060".parse().unwrap()), "z9hG4bKold");
        w.header("Max-Forwards", "70");
        w.header("Route", "<sip:192.0.2.9;lr>");
        w.with_tag("From", "<sip:alice@a>", "1");
        w.header("To", "<sip:bob@b>");
        w.header("Call-ID", "x");
        w.cseq(7, "INVITE");
        w.contact(Listener::udp(0, "192.0.2.1:5060".parse().unwrap()));
        w.header("Authorization", "Digest old");
        w.finish(Some((SDP, b"v=0\r\n\r\nrest")))
    }

    #[test]
    fn an_ack_takes_uri_via_route_and_number_from_the_invite_and_to_from_the_response() {
        let ack = derive(&invite(), "ACK", Some("<sip:bob@b>;tag=9"), None).unwrap();
        let ack = String::from_utf8(ack).unwrap();
        assert_eq!(
            ack,
            "ACK sip:bob@192.0.2.4 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bKold\r\n\
             Max-Forwards: 70\r\nRoute: <sip:192.0.2.9;lr>\r\nFrom: <sip:alice@a>;tag=1\r\n\
             To: <sip:bob@b>;tag=9\r\nCall-ID: x\r\nCSeq: 7 ACK\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_request_sent_again_keeps_its_body_and_replaces_its_credentials() {
        let udp = Listener::udp(0, "192.0.2.1:5060".parse().unwrap());
        let changes = Changes {
            uri: Some("sip:carol@192.0.2.5"),
            listener: Listener { transport: Transport::Tcp, ..udp },
            before: udp,
            branch: "z9hG4bKnew",
            cseq: 8,
            headers: &[("Authorization", "Digest new")],
        };
        let text = String::from_utf8(again(&invite(), &changes).unwrap()).unwrap();
        assert!(text.starts_with("INVITE sip:carol@192.0.2.5 SIP/2.0\r\n"));
        assert!(text.ends_with("\r\n\r\nv=0\r\n\r\nrest"));
        assert!(text.contains("CSeq: 8 INVITE\r\nAuthorization: Digest new\r\n"));
        assert!(text.contains("branch=z9hG4bKnew") && !text.contains("old"));
        assert!(text.contains("\r\nVia: SIP/2.0/TCP 192.0.2.1:5060;branch="));
        assert!(text.contains("\r\nContact: <sip:192.0.2.1:5060;transport=tcp>\r\n"));
        assert_eq!(find(text.as_bytes(), "Call-ID"), Some("x"));
        assert_eq!(start_line(text.as_bytes()).unwrap().1, "sip:carol@192.0.2.5");
    }

    #[test]
    fn a_header_that_would_break_the_message_open_is_left_out() {
        let mut w = Writer::request("BYE", "sip:x");
        w.foreign("Reason", "SIP;text=\"a\r\nEvil: 1\"");
        w.foreign("Bad Name", "x");
        w.foreign("X-Good", "y");
        assert_eq!(w.finish(None), b"BYE sip:x SIP/2.0\r\nX-Good: y\r\nContent-Length: 0\r\n\r\n");
    }
}

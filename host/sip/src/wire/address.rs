//! Addresses with a display name (From, To, Contact, Route ...) and Via values.
//!
//! Called for the few headers that a decision needs; borrows everything. Never resolves a name.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::text::{
    List, Params, cut_at, is_token, is_token_byte, number, plain_param, split_outside, trim, unescaped,
};
use super::uri::{Uri, UriError, host_address, host_and_port, plain_host};

/// A `name-addr` or `addr-spec` with the header's parameters (RFC 3261 20.10, 25.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name as it stands, without the quotes; see [`NameAddr::display_text`].
    pub display: &'a str,
    /// The URI's text.
    pub uri: &'a str,
    /// The parameters of the header (not of the URI).
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Parses one value. Without angle brackets every parameter is the header's (20.10).
    ///
    /// `None` when a bracket or a quote stays open or nothing is left for the URI; the URI itself
    /// is not looked into.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let value = trim(value);
        let (display, rest) = match value.strip_prefix('"') {
            Some(inner) => {
                let end = closing_quote(inner)?;
                (&inner[..end], trim(&inner[end + 1..]).strip_prefix('<')?)
            }
            None => match cut_at(value, b'<') {
                Some((display, rest)) => (trim(display), rest),
                None => {
                    let end = value.bytes().position(|b| b == b';');
                    let (uri, params) = value.split_at(end.unwrap_or(value.len()));
                    let uri = trim(uri);
                    // 20: a URI with a question mark must be in brackets, or nobody can tell whose
                    // the headers are.
                    return (!uri.is_empty() && !uri.bytes().any(|b| b == b'?')).then_some(Self {
                        display: "",
                        uri,
                        params: Params(params),
                    });
                }
            },
        };
        let end = memchr::memchr(b'>', rest.as_bytes())?;
        let (uri, params) = (&rest[..end], &rest[end + 1..]);
        let (uri, params) = (trim(uri), trim(params));
        // Only parameters may follow the bracket.
        if uri.is_empty() || !(params.is_empty() || params.starts_with(';')) {
            return None;
        }
        Some(Self { display, uri, params: Params(params) })
    }

    /// The display name with its escapes resolved.
    #[must_use]
    pub fn display_text(&self) -> Cow<'a, str> {
        unescaped(self.display)
    }

    /// The `tag` (RFC 3261 19.3).
    #[must_use]
    pub fn tag(&self) -> Option<&'a str> {
        self.params.get("tag").filter(|t| !t.is_empty())
    }

    /// The value of a header parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.get(name)
    }

    /// The URI taken apart.
    ///
    /// # Errors
    /// Those of [`Uri::parse`].
    pub fn parsed_uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }

    /// The contact's preference in thousandths (RFC 3261 20.10): 1000 if nothing is said, and a
    /// value that is none counts as nothing said.
    #[must_use]
    pub fn q_milli(&self) -> u16 {
        self.param("q").and_then(q_milli).unwrap_or(1000)
    }

    /// The contact's own `expires` in seconds.
    #[must_use]
    pub fn expires_s(&self) -> Option<u32> {
        self.param("expires").and_then(number)
    }
}

/// A `qvalue` (RFC 3261 25.1) in thousandths.
#[must_use]
pub fn q_milli(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut milli = fraction.parse::<u16>().unwrap_or(0);
    for _ in fraction.len()..3 {
        milli *= 10;
    }
    match whole {
        "0" => Some(milli),
        "1" if milli == 0 => Some(1000),
        _ => None,
    }
}

/// Where the quoted string that `inner` begins with (its first quote taken off) ends.
fn closing_quote(inner: &str) -> Option<usize> {
    let bytes = inner.as_bytes();
    let mut at = 0;
    loop {
        let n = memchr::memchr2(b'\\', b'"', bytes.get(at..)?)?;
        if bytes[at + n] == b'"' {
            return Some(at + n);
        }
        at += n + 2;
    }
}

/// One value of a Via (RFC 3261 20.42).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS`, `WS` ... as it is written.
    pub transport: &'a str,
    /// The host of sent-by; IPv6 without brackets.
    pub host: &'a str,
    /// The port of sent-by, if one is written.
    pub port: Option<u16>,
    /// The transaction's branch.
    pub branch: Option<&'a str>,
    /// `rport` (RFC 3581): `Some(None)` when it is there without a value.
    pub rport: Option<Option<u16>>,
    /// Where the request came from, as the next hop saw it.
    pub received: Option<&'a str>,
    /// All parameters, the ones above too.
    pub params: Params<'a>,
}

/// What a branch of RFC 3261 begins with (8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";

impl<'a> Via<'a> {
    /// Parses one value; blanks may stand around the slashes and the colon (torture test 3.1.1.1).
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        match Self::plain(value) {
            Some((via, end)) if end == value.len() => Some(via),
            _ => Self::any(value),
        }
    }

    /// The first value of a line, if it is readable.
    pub(super) fn first(line: &'a str) -> Option<Self> {
        match Self::plain(line) {
            Some((via, _)) => Some(via),
            None => Self::parse(List::new(line).next()?),
        }
    }

    /// The value that the text begins with, as nearly everybody writes one, and where it ends: at a comma, or
    /// at the end of the text.
    fn plain(text: &'a str) -> Option<(Self, usize)> {
        let rest = text.strip_prefix("SIP/2.0/")?;
        let blank = rest.bytes().position(|b| !is_token_byte(b)).filter(|n| *n > 0)?;
        let (transport, sent_by) = rest.split_at(blank);
        let sent_by = sent_by.strip_prefix(' ')?;
        let (host, port, mut at) = plain_host(sent_by, 0)?;
        let params = Params("");
        let mut via = Self { transport, host, port, branch: None, rport: None, received: None, params };
        let begin = at + 1;
        while sent_by.as_bytes().get(at) == Some(&b';') {
            let (name, value, end) = plain_param(sent_by, at + 1)?;
            via.take(name, value);
            at = end;
            via.params = Params(&sent_by[begin..end]);
        }
        let ended = matches!(sent_by.as_bytes().get(at), None | Some(b','));
        (ended && via.can_be_returned()).then(|| (via, text.len() - sent_by.len() + at))
    }

    /// Whether a response would bring its branch back as it came, which the sender knows it by. RFC 3261 25.1 has
    /// a token there; more is let through, but nothing that ends a value or could not be written again.
    fn can_be_returned(&self) -> bool {
        let breaks = |b: u8| b <= b' ' || b == 0x7f || matches!(b, b'"' | b',' | b';');
        self.branch.is_none_or(|branch| !branch.bytes().any(breaks))
    }

    fn take(&mut self, name: &str, value: &'a str) {
        match name.len() {
            6 if name.eq_ignore_ascii_case("branch") => {
                self.branch = self.branch.or(Some(value).filter(|b| !b.is_empty()));
            }
            5 if name.eq_ignore_ascii_case("rport") => {
                self.rport = self.rport.or(Some(value.parse().ok()));
            }
            8 if name.eq_ignore_ascii_case("received") => {
                self.received = self.received.or(Some(value).filter(|r| !r.is_empty()));
            }
            _ => {}
        }
    }

    fn any(value: &'a str) -> Option<Self> {
        let (head, params) = split_outside(trim(value), b';');
        let params = Params(params.unwrap_or(""));
        let (protocol, rest) = cut_at(head, b'/')?;
        let (version, rest) = cut_at(rest, b'/')?;
        // The version is the start line's business; a 505 must find its way back (3.1.2.16).
        if !trim(protocol).eq_ignore_ascii_case("SIP") || !is_token(trim(version)) {
            return None;
        }
        let rest = trim(rest);
        let (transport, sent_by) = rest.split_at(rest.bytes().position(|b| matches!(b, b' ' | b'\t'))?);
        let (host, port) = host_and_port(trim(sent_by)).ok()?;
        if !is_token(transport) {
            return None;
        }
        let mut via = Self { transport, host, port, branch: None, rport: None, received: None, params };
        for (name, value) in params.iter() {
            let value = value.unwrap_or("");
            // Quotes in the middle: written again they would end somewhere else, and so would an angle bracket whose
            // end is in a value that is written in quotes. A NUL is written as a blank, and `<NUL>branch` would be
            // a branch in the response only.
            if name.contains(['"', '<', '\0']) || has_bare_quote(value) {
                return None;
            }
            via.take(name, value);
        }
        via.can_be_returned().then_some(via)
    }

    /// Whether the branch is one of RFC 3261, which names the transaction alone (17.2.3).
    #[must_use]
    pub fn is_rfc3261(&self) -> bool {
        self.branch.is_some_and(|b| {
            b.len() > MAGIC_COOKIE.len()
                && b.as_bytes()[..MAGIC_COOKIE.len()].eq_ignore_ascii_case(MAGIC_COOKIE.as_bytes())
        })
    }

    /// Where a response goes over UDP (RFC 3261 18.2.2, RFC 3581 4): `received` and `rport` before
    /// sent-by; `None` when that is a name. `maddr` is not followed, see [`Uri::socket_addr`].
    #[must_use]
    pub fn response_addr(&self) -> Option<SocketAddr> {
        let host: IpAddr = host_address(self.received.unwrap_or(self.host))?;
        let port = self.rport.flatten().or(self.port).unwrap_or(5060);
        Some(SocketAddr::new(host, port))
    }
}

/// Whether a value without its own quotes has one that no backslash escapes (RFC 3261 25.1, quoted-string).
fn has_bare_quote(value: &str) -> bool {
    let mut bytes = value.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'"' => return true,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_shape() {
        let a = NameAddr::parse(r#""A. \"G\" <Bell>" <sip:agb@bell.com;lr> ;tag=a48s;x"#).unwrap();
        assert_eq!(
            (a.display_text().as_ref(), a.uri, a.tag()),
            (r#"A. "G" <Bell>"#, "sip:agb@bell.com;lr", Some("a48s"))
        );
        assert_eq!(a.param("x"), Some(""));
        let a = NameAddr::parse("Anonymous  Caller <sip:c8@x>;q=0.7;expires=60").unwrap();
        assert_eq!(
            (a.display, a.uri, a.q_milli(), a.expires_s()),
            ("Anonymous  Caller", "sip:c8@x", 700, Some(60))
        );
        // 20.10: without brackets the parameters are the header's
        let a = NameAddr::parse("sip:+12125551212@phone2net.com;tag=887s").unwrap();
        assert_eq!((a.uri, a.tag(), a.q_milli()), ("sip:+12125551212@phone2net.com", Some("887s"), 1000));
        assert_eq!(NameAddr::parse("<sip:a@b>").unwrap().tag(), None);
        for bad in ["", "\"open <sip:a@b>", "<sip:a@b", "<>", "\"x\" sip:a@b", ";tag=1", "sip:a@b?Route=x"] {
            assert_eq!(NameAddr::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn q_values() {
        let table = [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("0.5", Some(500)),
            ("0.123", Some(123)),
            ("1.000", Some(1000)),
            ("1.1", None),
            ("2", None),
            ("-1", None),
            ("0.1234", None),
            ("", None),
            (".5", None),
        ];
        for (text, milli) in table {
            assert_eq!(q_milli(text), milli, "{text}");
        }
    }

    #[test]
    fn vias_of_every_shape() {
        let v = Via::parse("SIP/2.0/UDP 10.1.1.1:4540;branch=z9hG4bKkjshdyff;rport").unwrap();
        assert_eq!(
            (v.transport, v.host, v.port, v.branch),
            ("UDP", "10.1.1.1", Some(4540), Some("z9hG4bKkjshdyff"))
        );
        assert_eq!((v.rport, v.received, v.is_rfc3261()), (Some(None), None, true));
        let v = Via::parse(
            "SIP  / 2.0\t/ TCP   [2001:db8::9:1] : 5070 ;received=192.0.2.1;rport=9988;branch=390skdjuw",
        )
        .unwrap();
        assert_eq!(
            (v.host, v.port, v.rport, v.is_rfc3261()),
            ("2001:db8::9:1", Some(5070), Some(Some(9988)), false)
        );
        assert_eq!(v.response_addr(), Some("192.0.2.1:9988".parse().unwrap()));
        assert_eq!(Via::parse("SIP/2.0/UDP example.com").unwrap().response_addr(), None);
        let bad = ["", "SIP/2.0/UDP", "HTTP/2.0/TCP x", "SIP/2.0/UDP ;branch=x", "SIP/2.0 UDP x"];
        for bad in bad.into_iter().chain([
            "SIP/2.0/UDP x;\0branch=z9hG4bK1",
            "SIP/2.0/UDP x;a\0",
            "SIP/2.0/UDP x;a<b=c>",
        ]) {
            assert_eq!(Via::parse(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_to_read_a_via_sees_what_the_long_one_does(
            text in r#"SIP/2\.0/(UDP|TLS|) [a-z0-9._:\[-]{0,9}(;|,|=|;branch=|;rport|;received=|"|<|>| |\\|[a-z0-9:@/\[\]]{1,4}){0,9}"#,
        ) {
            if let Some((via, end)) = Via::plain(&text) {
                proptest::prop_assert_eq!(Some(via), Via::any(&text[..end]));
                proptest::prop_assert!(end == text.len() || text[end..].starts_with(','));
                proptest::prop_assert_eq!(List::new(&text).next().and_then(Via::any), Some(via));
            }
        }
    }

    #[test]
    fn the_first_value_of_a_line_ends_at_its_comma() {
        for line in ["SIP/2.0/UDP a:5062;branch=x,SIP/2.0/TCP b", "SIP/2.0/UDP a:5062 ;branch=\"x\" , y"] {
            let via = Via::first(line).unwrap();
            assert_eq!((via.host, via.port, via.branch), ("a", Some(5062), Some("x")), "{line}");
        }
        assert_eq!(Via::first("SIP/2.0/UDP a:70000"), None);
        assert_eq!(Via::first(" , SIP/2.0/UDP a").map(|v| v.host), Some("a"));
    }
}

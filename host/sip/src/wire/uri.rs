//! URIs: taken apart without copying, compared as RFC 3261 19.1.4 says, written as they stood.
//!
//! Called by routing, by the registrar and by redirection. Never resolves a name.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::text::{Params, cut_at, number, trim};

/// Why a text is not a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UriError(&'static str);

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a URI: {}", self.0)
    }
}

impl std::error::Error for UriError {}

/// A URI, borrowed from the text that it was parsed from.
#[derive(Debug, Clone, Copy)]
pub struct Uri<'a> {
    /// The scheme as it is written (`sip`, `sips`, `tel`, ...); compare without case.
    pub scheme: &'a str,
    /// The user part, escapes kept; for `tel` the number.
    pub user: Option<&'a str>,
    /// The password after the user.
    pub password: Option<&'a str>,
    /// A name or an IPv4 literal, or an IPv6 literal without its brackets; empty unless sip or sips.
    pub host: &'a str,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// Parameters of the URI.
    pub params: Params<'a>,
    /// What follows the question mark, without it; empty if nothing does.
    pub headers: &'a str,
    /// For other schemes all that follows the colon; else empty.
    pub opaque: &'a str,
}

impl<'a> Uri<'a> {
    /// Parses a URI (RFC 3261 19.1.1, RFC 3966 for `tel`; any other scheme is kept whole).
    ///
    /// # Errors
    /// When there is no scheme, no host, a bad port, a broken escape, or a character that no URI
    /// may hold (blanks, brackets, quotes).
    pub fn parse(text: &'a str) -> Result<Self, UriError> {
        let (scheme, rest) = cut_at(text, b':').ok_or(UriError("no scheme"))?;
        let sip = is_sip(scheme);
        let mut letters = scheme.bytes();
        if !sip
            && (!letters.next().is_some_and(|b| b.is_ascii_alphabetic())
                || !letters.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')))
        {
            return Err(UriError("the scheme is not a name"));
        }
        let empty = Uri {
            scheme,
            user: None,
            password: None,
            host: "",
            port: None,
            params: Params::default(),
            headers: "",
            opaque: "",
        };
        if !sip {
            check_characters(rest)?;
        }
        if !sip && scheme.eq_ignore_ascii_case("tel") {
            let (number, params) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
            if number.is_empty() {
                return Err(UriError("no telephone number"));
            }
            return Ok(Uri { user: Some(number), params: Params(params), ..empty });
        }
        if !sip {
            return if rest.is_empty() {
                Err(UriError("nothing after the scheme"))
            } else {
                Ok(Uri { opaque: rest, ..empty })
            };
        }
        let marks = Marks::of(rest)?;
        let (user, password) = match (marks.at, marks.user_colon) {
            (Some(at), Some(colon)) => (Some(&rest[..colon]), Some(&rest[colon + 1..at])),
            (Some(at), None) => (Some(&rest[..at]), None),
            (None, _) => (None, None),
        };
        if user == Some("") {
            return Err(UriError("nothing before the @"));
        }
        let host_end = marks.host_end.unwrap_or(rest.len());
        let (host, port) = host_and_port(&rest[marks.at.map_or(0, |at| at + 1)..host_end])?;
        let params = &rest[host_end..marks.question.unwrap_or(rest.len())];
        let headers = marks.question.map_or("", |q| &rest[q + 1..]);
        Ok(Uri { user, password, host, port, params: Params(params), headers, ..empty })
    }

    /// Whether the scheme is sip or sips.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        is_sip(self.scheme)
    }

    /// The user part with its escapes resolved; empty if there is none.
    #[must_use]
    pub fn user_text(&self) -> Cow<'a, str> {
        unescape(self.user.unwrap_or(""))
    }

    /// The value of a URI parameter: empty for a flag such as `lr`.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.get(name)
    }

    /// The headers of the URI, names and values with their escapes resolved (`Replaces` and the like).
    pub fn header_pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        self.headers.split('&').filter(|h| !h.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape(name), unescape(value))
        })
    }

    /// The host as an address: a literal, or `localhost`.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        host_address(self.host)
    }

    /// Where to send when the host is an address literal or `localhost`; the port is 5060 (5061
    /// for sips) if none is written (RFC 3261 19.1.2). `maddr` is not followed: it would let a
    /// stranger choose where we send.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let default = if self.scheme.eq_ignore_ascii_case("sips") { 5061 } else { 5060 };
        Some(SocketAddr::new(self.ip()?, self.port.unwrap_or(default)))
    }

    /// Whether two URIs mean the same (RFC 3261 19.1.4): scheme, host and parameters without case,
    /// user with case, escapes resolved, headers in any order. A URI of another scheme is compared
    /// letter by letter; a `tel` number without its visual separators (RFC 3966 4).
    #[must_use]
    pub fn same_as(&self, other: &Uri<'_>) -> bool {
        if !self.scheme.eq_ignore_ascii_case(other.scheme) || self.opaque != other.opaque {
            return false;
        }
        if self.scheme.eq_ignore_ascii_case("tel") {
            let digits = |u: &str| {
                u.bytes().filter(|b| !b"-.()".contains(b)).map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>()
            };
            return digits(self.user.unwrap_or("")) == digits(other.user.unwrap_or(""))
                && same_params(&self.params, &other.params, &["isub", "ext", "phone-context"]);
        }
        let same_host = match (self.ip(), other.ip()) {
            // Two ways to write one IPv6 address are the same address (RFC 5954 4.2).
            (Some(a @ IpAddr::V6(_)), Some(b @ IpAddr::V6(_))) => a == b,
            _ => self.host.eq_ignore_ascii_case(other.host),
        };
        same_host
            && self.user.is_some() == other.user.is_some()
            && self.user_text() == other.user_text()
            && unescape(self.password.unwrap_or("")) == unescape(other.password.unwrap_or(""))
            && self.password.is_some() == other.password.is_some()
            && self.port == other.port
            // "user", "ttl", "method" and "maddr" in only one URI never match; the section's own
            // example says the same of "transport".
            && same_params(&self.params, &other.params, &["user", "ttl", "method", "maddr", "transport"])
            && same_headers(self, other)
    }
}

impl PartialEq for Uri<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.same_as(other)
    }
}

impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.opaque)?;
        if let Some(user) = self.user {
            f.write_str(user)?;
            if let Some(password) = self.password {
                write!(f, ":{password}")?;
            }
            if self.is_sip() {
                f.write_str("@")?;
            }
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(self.host)?
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.params.as_str())?;
        if self.headers.is_empty() { Ok(()) } else { write!(f, "?{}", self.headers) }
    }
}

/// An address literal (IPv6 with or without brackets) or `localhost`.
#[must_use]
pub fn host_address(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if host.contains(':') {
        ipv6(host).map(IpAddr::V6)
    } else {
        host.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    }
}

/// An IPv6 literal; the third colon that the grammar of RFC 3261 lets stand before an embedded IPv4
/// address is forgiven (RFC 5118 4.10).
fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.parse().or_else(|_| host.replacen(":::", "::", 1).parse()).ok()
}

/// `host[:port]` at `at`, when it is a name or an IPv4 address without blanks, and where it ends.
#[inline]
pub(super) fn plain_host(text: &str, at: usize) -> Option<(&str, Option<u16>, usize)> {
    let bytes = &text.as_bytes()[at..];
    let len = bytes.iter().position(|b| *b == b':' || !HOST[usize::from(*b)]).unwrap_or(bytes.len());
    let host = &text[at..at + len];
    if len == 0 || bytes.get(len) != Some(&b':') {
        return (len > 0).then_some((host, None, at + len));
    }
    let digits = bytes[len + 1..].iter().take_while(|b| b.is_ascii_digit()).take(6);
    let (port, count) = digits.fold((0, 0), |(n, count), d| (10 * n + u32::from(d - b'0'), count + 1));
    let port = u16::try_from(port).ok().filter(|_| count > 0)?;
    Some((host, Some(port), at + len + 1 + count))
}

/// `host[:port]` with the brackets of an IPv6 literal taken away (RFC 3261 25.1, RFC 5118).
pub(super) fn host_and_port(text: &str) -> Result<(&str, Option<u16>), UriError> {
    match plain_host(text, 0) {
        Some((host, port, end)) if end == text.len() => Ok((host, port)),
        _ => any_host_and_port(text),
    }
}

fn any_host_and_port(text: &str) -> Result<(&str, Option<u16>), UriError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']').ok_or(UriError("an open bracket around the host"))?;
            if ipv6(host).is_none() {
                return Err(UriError("not an IPv6 address in the brackets"));
            }
            (
                host,
                trim(rest).strip_prefix(':').map_or_else(
                    || if trim(rest).is_empty() { Ok(None) } else { Err(UriError("text after the host")) },
                    |p| Ok(Some(p)),
                )?,
            )
        }
        None => cut_at(text, b':').map_or((text, None), |(h, p)| (h, Some(p))),
    };
    let host = trim(host);
    if host.is_empty() || !host.bytes().all(|b| HOST[usize::from(b)]) {
        return Err(UriError("no host, or one with characters that no host has"));
    }
    let port = match port.map(trim) {
        None => None,
        Some(digits) => {
            let port = number(digits).ok_or(UriError("the port is not a number"))?;
            Some(port.try_into().map_err(|_| UriError("the port is above 65535"))?)
        }
    };
    Ok((host, port))
}

#[inline]
fn is_sip(scheme: &str) -> bool {
    match scheme.as_bytes() {
        [s, i, p] | [s, i, p, b's' | b'S'] => [s | 0x20, i | 0x20, p | 0x20] == *b"sip",
        _ => false,
    }
}

/// Bytes of a host: `_` is in no hostname of the RFC and in many of the world, `:` in an IPv6 address.
static HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
        i += 1;
    }
    table
};

/// What a byte may be behind the scheme: 0 one like others, else itself for a sign that separates, or `!` for
/// one that no URI holds.
static KIND: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i <= b' ' as usize {
        table[i] = b'!';
        i += 1;
    }
    let mut forbidden = b"<>\"\x7f".as_slice();
    while let [byte, rest @ ..] = forbidden {
        table[*byte as usize] = b'!';
        forbidden = rest;
    }
    let mut signs = b"%@:;?".as_slice();
    while let [byte, rest @ ..] = signs {
        table[*byte as usize] = *byte;
        signs = rest;
    }
    table
};

/// Where the parts of a SIP URI meet.
#[derive(Default)]
struct Marks {
    /// The user part may hold ';', '?' and '/' (19.1.1), so it ends at the first '@' and nowhere else.
    at: Option<usize>,
    user_colon: Option<usize>,
    /// The first ';' or '?' behind the user part.
    host_end: Option<usize>,
    question: Option<usize>,
}

impl Marks {
    /// One pass over what follows the scheme.
    fn of(rest: &str) -> Result<Self, UriError> {
        let bytes = rest.as_bytes();
        let (mut marks, mut colon) = (Self::default(), None);
        for (i, byte) in bytes.iter().enumerate() {
            match KIND[usize::from(*byte)] {
                0 => {}
                b'@' if marks.at.is_none() => {
                    marks = Self { at: Some(i), user_colon: colon, ..Self::default() };
                }
                b':' => colon = colon.or(Some(i)),
                b';' => marks.host_end = marks.host_end.or(Some(i)),
                b'?' => {
                    marks.host_end = marks.host_end.or(Some(i));
                    marks.question = marks.question.or(Some(i));
                }
                b'@' => {}
                sign => check_character(bytes, i, sign)?,
            }
        }
        Ok(marks)
    }
}

fn check_character(bytes: &[u8], at: usize, kind: u8) -> Result<(), UriError> {
    match kind {
        b'!' => Err(UriError("a blank, bracket or quote")),
        b'%' if !bytes.get(at + 1..at + 3).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)) => {
            Err(UriError("a percent sign without two hexadecimal digits"))
        }
        _ => Ok(()),
    }
}

fn check_characters(text: &str) -> Result<(), UriError> {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().try_for_each(|(i, b)| check_character(bytes, i, KIND[usize::from(*b)]))
}

/// Resolves `%xx` escapes; a broken one stays as it is, bytes that are no UTF-8 become U+FFFD.
#[must_use]
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let hex = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let pair = bytes.get(i + 1..i + 3).and_then(|h| Some(hex(h[0])? << 4 | hex(h[1])?));
        match (bytes[i], pair) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 3;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// Parameters in both must match; those of `never_alone` must be in both or in neither.
/// More parameters than this are not looked up one by one, which takes the square of their number: such URIs
/// are the same when they are written the same.
const MAX_COMPARED: usize = 64;

fn same_params(a: &Params<'_>, b: &Params<'_>, never_alone: &[&str]) -> bool {
    if [a, b].into_iter().any(|params| params.iter().nth(MAX_COMPARED).is_some()) {
        return a.as_str().eq_ignore_ascii_case(b.as_str());
    }
    let one_way = |a: &Params<'_>, b: &Params<'_>| {
        a.iter().all(|(name, value)| match b.get(name) {
            Some(theirs) => unescape(theirs).eq_ignore_ascii_case(&unescape(value.unwrap_or(""))),
            None => !never_alone.iter().any(|n| n.eq_ignore_ascii_case(name)),
        })
    };
    one_way(a, b) && one_way(b, a)
}

fn same_headers(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    if a.headers.is_empty() || b.headers.is_empty() {
        return a.headers == b.headers;
    }
    let sorted = |u: &Uri<'_>| {
        let mut all: Vec<_> =
            u.header_pairs().map(|(n, v)| (n.to_ascii_lowercase(), v.into_owned())).collect();
        all.sort();
        all
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn takes_every_part_and_prints_it_back() {
        for text in [
            "sip:alice:secret@atlanta.com:5080;transport=tcp;lr?subject=project%20x&priority=urgent",
            "sips:[2001:db8::1]:5061;maddr=239.1.1.1",
            "sip:+1-212-555-1212:1234@gateway.com;user=phone",
            "sip:user;par=u%40example.net@example.com",
            "tel:+358-555-1234567;postd=pp22",
            "soap.beep://192.0.2.103:3002",
            "SIP:x@y",
        ] {
            assert_eq!(uri(text).to_string(), text);
        }
        let u = uri("sip:alice:secret@atlanta.com:5080;transport=tcp;lr?subject=project%20x");
        assert_eq!(
            (u.user, u.password, u.host, u.port),
            (Some("alice"), Some("secret"), "atlanta.com", Some(5080))
        );
        assert_eq!((u.param("Transport"), u.param("lr"), u.param("ttl")), (Some("tcp"), Some(""), None));
        assert_eq!(u.header_pairs().next(), Some(("subject".into(), "project x".into())));
        assert_eq!(uri("sip:user;par=u%40example.net@example.com").user_text(), "user;par=u@example.net");
        let refer = uri("sip:a@b?Replaces=12%40x%3Bto-tag%3D1%3Bfrom-tag%3D2");
        assert_eq!(refer.header_pairs().next().unwrap().1, "12@x;to-tag=1;from-tag=2");
    }

    #[test]
    fn finds_the_address_of_literals_only() {
        assert_eq!(uri("sip:x@127.0.0.1:5070").socket_addr(), Some("127.0.0.1:5070".parse().unwrap()));
        assert_eq!(uri("sip:[::1]").socket_addr(), Some("[::1]:5060".parse().unwrap()));
        assert_eq!(uri("sips:x@localhost").socket_addr(), Some("127.0.0.1:5061".parse().unwrap()));
        assert_eq!(uri("sip:x@example.com").socket_addr(), None);
    }

    #[test]
    fn refuses_what_is_no_uri() {
        for text in [
            "",
            "alice",
            "sip:",
            "sip:@host",
            "sip:a@",
            "sip:a b@c",
            "sip:a@b:99999",
            "sip:a@b:",
            "<sip:a@b>",
            "sip:a%4@b",
            "sip:[1::2",
            "1sip:x",
            "tel:",
        ] {
            assert!(Uri::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn compares_as_the_examples_of_19_1_4() {
        let same = [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("sip:[2001:db8::1]", "sip:[2001:DB8:0::1]"),
            ("tel:+1-201-555-0123", "tel:+12015550123"),
        ];
        let different = [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@x", "sips:a@x"),
            ("sip:a@x;maddr=1.2.3.4", "sip:a@x"),
            ("sip:a:p@x", "sip:a@x"),
            ("mailto:a@b", "mailto:a@c"),
        ];
        for (a, b) in same {
            assert!(uri(a).same_as(&uri(b)) && uri(b).same_as(&uri(a)), "{a} {b}");
        }
        for (a, b) in different {
            assert!(!uri(a).same_as(&uri(b)) && !uri(b).same_as(&uri(a)), "{a} {b}");
        }
    }

    #[test]
    fn many_parameters_are_compared_as_they_are_written() {
        let of = |names: &mut dyn Iterator<Item = usize>| {
            names.fold("sip:a@x".to_owned(), |uri, n| format!("{uri};a{n}"))
        };
        for count in [MAX_COMPARED, MAX_COMPARED + 1] {
            let (up, down) = (of(&mut (0..count)), of(&mut (0..count).rev()));
            assert!(uri(&up).same_as(&uri(&up.to_uppercase().replace("SIP:A@", "sip:a@"))));
            assert_eq!(uri(&up).same_as(&uri(&down)), count == MAX_COMPARED);
        }
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_to_a_host_and_its_port_sees_what_the_long_one_does(
            text in r"[a-z0-9._ \[:-]{0,6}(:[0-9x]{0,7})?",
        ) {
            proptest::prop_assert_eq!(host_and_port(&text), any_host_and_port(&text));
        }
    }
}

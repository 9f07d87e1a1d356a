//! rsip 0.4 as a second reader of the same bytes, and why it reads some of them otherwise.
//!
//! Called by the target `rsip` and by `host/sip/tests/wire_rsip.rs`, which includes this file.

use bytes::Bytes;
use cordboard_sip::wire::{Message, Name, Uri};
use rsip::prelude::*;

/// What both make of a message, piece by piece, as text.
pub type Seen = Vec<(&'static str, String)>;

/// Our reading; `None` when the message cannot be framed.
pub fn ours(bytes: &[u8]) -> Option<Seen> {
    let m = Message::parse(Bytes::copy_from_slice(bytes)).ok()?;
    let via = m.top_via();
    let (number, method) =
        m.cseq().map_or((String::new(), String::new()), |(n, m)| (n.to_string(), m.to_string()));
    Some(vec![
        ("start", if m.is_request() { m.method().to_string() } else { m.status().to_string() }),
        ("uri", Uri::parse(m.request_uri()).map_or(String::new(), |u| u.to_string())),
        ("lines", m.all().count().to_string()),
        ("call-id", m.call_id().to_owned()),
        ("cseq", format!("{number} {method}")),
        ("from tag", m.from().and_then(|a| a.tag()).unwrap_or("").to_owned()),
        ("from uri", m.from().and_then(|a| a.parsed_uri().ok()).map_or(String::new(), |u| u.to_string())),
        ("to tag", m.to().and_then(|a| a.tag()).unwrap_or("").to_owned()),
        ("via", via.map_or(String::new(), |v| format!("{} {:?}", v.host, v.port))),
        ("branch", via.and_then(|v| v.branch).unwrap_or("").to_owned()),
        ("contact", m.contact().and_then(|a| a.parsed_uri().ok()).map_or(String::new(), |u| u.to_string())),
        ("max-forwards", m.max_forwards().map_or(String::new(), |n| n.to_string())),
        ("body", format!("{:?}", m.body())),
    ])
}

/// rsip's reading; `None` when it refuses.
pub fn theirs(bytes: &[u8]) -> Option<Seen> {
    let m = rsip::SipMessage::try_from(bytes).ok()?;
    let cseq = m.cseq_header().ok().and_then(|h| h.typed().ok());
    let from = m.from_header().ok().and_then(|h| h.typed().ok());
    let to = m.to_header().ok().and_then(|h| h.typed().ok());
    let via = m.via_header().ok().and_then(|h| h.typed().ok());
    let contact = m.contact_header().ok().and_then(|h| h.typed().ok());
    let text = |t: Option<String>| t.unwrap_or_default();
    let (start, uri) = match &m {
        rsip::SipMessage::Request(r) => (r.method().to_string(), r.uri().to_string()),
        rsip::SipMessage::Response(r) => (u16::from(r.status_code().clone()).to_string(), String::new()),
    };
    Some(vec![
        ("start", start),
        ("uri", uri),
        ("lines", m.headers().iter().count().to_string()),
        ("call-id", text(m.call_id_header().ok().map(|h| h.value().to_owned()))),
        ("cseq", cseq.map_or(" ".into(), |c| format!("{} {}", c.seq, c.method))),
        ("from tag", text(from.as_ref().and_then(|a| a.tag()).map(|t| t.value().to_owned()))),
        ("from uri", text(from.map(|a| a.uri.to_string()))),
        ("to tag", text(to.and_then(|a| a.tag().map(|t| t.value().to_owned())))),
        (
            "via",
            text(via.as_ref().map(|v| format!("{} {:?}", v.uri.host(), v.uri.port().map(|p| *p.value())))),
        ),
        ("branch", text(via.as_ref().and_then(|v| v.branch()).map(|b| b.value().to_owned()))),
        ("contact", text(contact.map(|c| c.uri.to_string()))),
        ("max-forwards", text(m.max_forwards_header().ok().map(|h| h.value().to_owned()))),
        ("body", format!("{:?}", m.body())),
    ])
}

/// The pieces that differ; `None` when one of the two cannot read it at all.
pub fn differences(bytes: &[u8]) -> Option<Vec<&'static str>> {
    let (a, b) = (ours(bytes)?, theirs(bytes)?);
    Some(a.iter().zip(&b).filter(|(x, y)| x.1 != y.1).map(|(x, _)| x.0).collect())
}

/// Why a piece may differ: what the message has that rsip is known to read otherwise. `None` when it has
/// nothing of the kind, so that both should agree.
pub fn explained(bytes: &[u8], piece: &str) -> Option<&'static str> {
    let m = Message::parse(Bytes::copy_from_slice(bytes)).ok()?;
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |n| n + 2);
    let head = &bytes[..end];
    let lines = || head.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let usual = |line: &[u8]| {
        line.strip_suffix(b"\r").is_some_and(|l| {
            l.iter().all(|b| matches!(b, b' '..=b'~'))
                && !matches!(l.first(), None | Some(b' '))
                && l.last() != Some(&b' ')
        })
    };
    // The empty line that ends the head may be a bare LF too, and is none of `lines`.
    if !lines().all(usual) || head.windows(2).any(|w| w == b"\n\n") {
        return Some(
            "folds, bare line ends, blanks at the end, control characters and UTF-8 are beyond it (7.3.1, 25.1)",
        );
    }
    let short = |line: &[u8]| {
        line.iter()
            .position(|b| !b.is_ascii_alphanumeric() && *b != b'-')
            .is_none_or(|n| n < 2 || line[n] != b':')
    };
    if lines().skip(1).any(short) {
        return Some(
            "compact names, names with other signs and blanks before the colon are beyond it (7.3.1, 7.3.3)",
        );
    }
    let header = |name| m.header(name).unwrap_or("");
    match piece {
        "start" if m.is_request() && !METHODS.contains(&m.method().as_str()) => {
            Some("it knows a method in any case, and no others (7.1: methods are case-sensitive)")
        }
        "uri" if !plain_uri(m.request_uri()) => Some(URI),
        "cseq" if !plain_cseq(header(Name::CSeq)) => {
            Some("it wants one blank and a method that it knows, and any number")
        }
        "from tag" | "from uri" if !plain_address(header(Name::From)) => Some(URI),
        "to tag" if !plain_address(header(Name::To)) => Some(URI),
        "contact" if !plain_address(header(Name::Contact)) => Some(URI),
        "via" | "branch" if !plain_via(header(Name::Via)) => Some(
            "several values in a line, blanks, names in other case, IPv6 and quotes in a Via are beyond it",
        ),
        "max-forwards"
            if header(Name::MaxForwards).parse::<u8>().map_or(String::new(), |n| n.to_string())
                != header(Name::MaxForwards) =>
        {
            Some("it hands over the text, whatever it is")
        }
        "body" if m.header(Name::ContentLength).is_some() => {
            let behind = m.body().as_ptr() as usize - m.as_bytes().as_ptr() as usize + m.body().len();
            (behind < bytes.len()).then_some("it ignores Content-Length (18.3)")
        }
        _ => None,
    }
}

const URI: &str = "it changes the case of parameters, loses headers of a URI, takes no escapes, IPv6 literals, \
    passwords, quotes, lists or other schemes";

const METHODS: [&str; 14] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "REGISTER",
    "INFO",
    "UPDATE",
    "PRACK",
    "SUBSCRIBE",
    "NOTIFY",
    "REFER",
    "MESSAGE",
    "PUBLISH",
];

fn word(text: &str, more: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

fn plain_host_port(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
    let port = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n.to_string() == p));
    // Labels that neither begin nor end with a hyphen, and an address only with numbers that are bytes.
    let label = |l: &str| word(l, "-") && !l.starts_with('-') && !l.ends_with('-');
    let number = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    let address = host.parse::<std::net::Ipv4Addr>().is_ok();
    port && host.split('.').all(label) && number == address && host.chars().all(|c| !c.is_ascii_uppercase())
}

/// Parameters that it has no name of its own for: it writes those that it knows in its own way.
fn plain_params<'a>(mut params: impl Iterator<Item = &'a str>, known: &[&str]) -> bool {
    params.all(|param| {
        let (name, value) = param.split_once('=').map_or((param, None), |(n, v)| (n, Some(v)));
        let own = [
            "transport",
            "user",
            "method",
            "ttl",
            "maddr",
            "lr",
            "branch",
            "received",
            "tag",
            "expires",
            "q",
        ];
        word(name, "-")
            && (known.contains(&name) || !own.iter().any(|o| o.eq_ignore_ascii_case(name)))
            && value.is_none_or(|v| word(v, "-."))
    })
}

fn plain_uri(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("sip:") else { return false };
    let mut parts = rest.split(';');
    let address = parts.next().unwrap_or("");
    let (user, host) = address.split_once('@').map_or((None, address), |(u, h)| (Some(u), h));
    user.is_none_or(|u| word(u, "_.-")) && plain_host_port(host) && plain_params(parts, &[])
}

/// `<uri>` with parameters, and at most one quoted word before it; nothing at all is plain too.
fn plain_address(value: &str) -> bool {
    if value.is_empty() {
        return true;
    }
    let rest = match value.strip_prefix('"') {
        None => value,
        Some(quoted) => match quoted.split_once("\" ") {
            Some((display, rest)) if word(display, " ") => rest,
            _ => return false,
        },
    };
    let Some((uri, params)) = rest.strip_prefix('<').and_then(|r| r.split_once('>')) else { return false };
    let mut params = params.split(';');
    params.next() == Some("") && plain_uri(uri) && plain_params(params, &["tag"])
}

fn plain_cseq(value: &str) -> bool {
    value.split_once(' ').is_some_and(|(number, method)| {
        METHODS.contains(&method) && number.parse::<u32>().is_ok_and(|n| n.to_string() == number)
    })
}

fn plain_via(value: &str) -> bool {
    let Some((transport, rest)) = value.strip_prefix("SIP/2.0/").and_then(|v| v.split_once(' ')) else {
        return false;
    };
    let mut parts = rest.split(';');
    ["UDP", "TCP", "TLS", "SCTP", "WS", "WSS"].contains(&transport)
        && plain_host_port(parts.next().unwrap_or(""))
        && plain_params(parts, &["branch", "rport"])
}

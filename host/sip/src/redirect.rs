//! Redirection: following a 3xx as a client (RFC 3261 8.1.3.4), and giving one without state.
//!
//! The client half is called by the endpoint; the server half by the redirect role and by any edge
//! that must answer without making a transaction (8.2.7): a retransmission gets the same bytes,
//! because the To tag is a keyed hash of what does not change. [`Plain`] is the server half's short
//! way for an INVITE as nearly everybody writes it; the long way, by [`Message`], gives the same bytes.

mod plain;

use std::collections::VecDeque;
use std::hash::Hasher as _;
use std::net::SocketAddr;

use siphasher::sip::SipHasher24;

use crate::wire::{Builder, Message, Name, Uri, Via};

pub use plain::Plain;

/// More contacts than this are never tried for one request.
const MAX_TARGETS: usize = 32;

/// One place to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The URI to send to.
    pub uri: String,
    /// The preference of the one who named it, in thousandths.
    pub q_milli: u16,
}

/// Where a request has been and may still go: the target set of 8.1.3.4, in which no URI is named
/// twice and what a later 3xx names comes before what is left of an earlier one.
#[derive(Debug, Clone, Default)]
pub struct TargetSet {
    named: Vec<String>,
    waiting: VecDeque<Target>,
}

impl TargetSet {
    /// A set that begins with the URI that is being tried.
    #[must_use]
    pub fn new(first: &str) -> Self {
        Self { named: vec![first.to_owned()], waiting: VecDeque::new() }
    }

    /// Adds the contacts of a 3xx, best first; how many of them are new. URIs of another scheme than
    /// sip and sips are left out, and sip where the first URI was sips (8.1.3.4: never weaker).
    pub fn add(&mut self, response: &Message) -> usize {
        let only_secure = self
            .named
            .first()
            .is_some_and(|first| Uri::parse(first).is_ok_and(|uri| uri.scheme.eq_ignore_ascii_case("sips")));
        let mut fresh: Vec<Target> = Vec::new();
        for contact in response.contacts() {
            let Ok(uri) = contact.parsed_uri() else { continue };
            let fits = uri.is_sip() && !(only_secure && uri.scheme.eq_ignore_ascii_case("sip"));
            if !fits || self.named.len() >= MAX_TARGETS || self.knows(&uri) {
                continue;
            }
            self.named.push(contact.uri.to_owned());
            fresh.push(Target { uri: contact.uri.to_owned(), q_milli: contact.q_milli() });
        }
        // Stable: equals stay in the order in which they were written.
        fresh.sort_by_key(|target| std::cmp::Reverse(target.q_milli));
        let count = fresh.len();
        for target in fresh.into_iter().rev() {
            self.waiting.push_front(target);
        }
        count
    }

    /// The next to try.
    pub fn next_target(&mut self) -> Option<Target> {
        self.waiting.pop_front()
    }

    /// How many are still to be tried.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn knows(&self, uri: &Uri<'_>) -> bool {
        self.named.iter().any(|named| Uri::parse(named).is_ok_and(|n| n.same_as(uri)))
    }
}

/// The secret behind stateless To tags and choices; the same on all nodes that answer for one address.
#[derive(Clone)]
pub struct Key([u8; 16]);

impl Key {
    /// A key from 16 secret bytes.
    #[must_use]
    pub const fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    /// A number that is the same for every retransmission of a request and for no other request:
    /// a keyed hash (SipHash-2-4) of Call-ID, top branch, From tag and CSeq number. Chooses contacts,
    /// makes tags. Who does not know the key can neither foresee nor aim at a number (19.3).
    #[must_use]
    pub fn number(&self, request: &Message) -> u64 {
        let branch = request.top_via();
        self.of(
            request.call_id(),
            branch.as_ref().and_then(|v| v.branch).unwrap_or(""),
            request.from().and_then(|f| f.tag()).unwrap_or(""),
            request.cseq().map_or(0, |(n, _)| n),
        )
    }

    fn of(&self, call_id: &str, branch: &str, from_tag: &str, cseq: u32) -> u64 {
        let mut hash = SipHasher24::new_with_key(&self.0);
        for part in [call_id, branch, from_tag] {
            hash.write(part.as_bytes());
            // No header value holds it, so that parts cannot run into each other.
            hash.write_u8(0xff);
        }
        hash.write_u32(cseq);
        hash.finish()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Where an answer to a request goes, given its top Via: to where it came from; without `rport` to the
/// port that the Via names (18.2.2, RFC 3581 4).
#[must_use]
pub fn reply_to(via: Option<&Via<'_>>, from: SocketAddr) -> SocketAddr {
    match via {
        Some(via) if via.rport.is_none() => SocketAddr::new(from.ip(), via.port.unwrap_or(5060)),
        _ => from,
    }
}

/// A final answer without state (8.2.7): the same request gets the same bytes.
///
/// The caller sends it to where the request came from, and drops the ACK that comes to it.
/// Never call it for an ACK.
#[must_use]
pub fn answer(
    request: &Message,
    source: SocketAddr,
    key: &Key,
    status: u16,
    headers: &[(&str, &str)],
) -> Vec<u8> {
    headers
        .iter()
        .fold(start(request, source, key, status), |b, (name, value)| b.header(name, value))
        .finish()
}

/// 302 with contacts, `(URI, preference in thousandths)`, in the order given (flow.md step 4).
#[must_use]
pub fn answer_302(request: &Message, source: SocketAddr, key: &Key, contacts: &[(&str, u16)]) -> Vec<u8> {
    contacts
        .iter()
        .fold(start(request, source, key, 302), |b, (uri, q_milli)| {
            let q_milli = (*q_milli).min(1000);
            // Three decimals at most (25.1).
            b.format(Name::Contact, format_args!("<{uri}>;q={}.{:03}", q_milli / 1000, q_milli % 1000))
        })
        .finish()
}

/// 503 with Retry-After in seconds (21.5.4).
#[must_use]
pub fn answer_503(request: &Message, source: SocketAddr, key: &Key, retry_after_s: u32) -> Vec<u8> {
    start(request, source, key, 503).format(Name::RetryAfter, retry_after_s).finish()
}

fn start(request: &Message, source: SocketAddr, key: &Key, status: u16) -> Builder {
    Builder::response_to(request, Some(source), status, "").to_tag(&format!("{:016x}", key.number(request)))
}

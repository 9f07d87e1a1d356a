//! The headers of digest: challenges and credentials, taken apart.

use super::{Algorithm, Counted};
use crate::wire::text::{List, trim, unquoted};

/// The parts of `Digest a=b, c="d"`: names and values, quotes taken off, escapes kept (RFC 7616
/// 3.4 hashes them as they stand).
fn parts(value: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let (scheme, rest) = trim(value).split_once([' ', '\t'])?;
    scheme.eq_ignore_ascii_case("Digest").then(|| {
        List::new(rest).filter_map(|part| {
            let (name, value) = part.split_once('=')?;
            Some((trim(name), unquoted(trim(value))))
        })
    })
}

/// `Authorization` or `Proxy-Authorization`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthorizationHeader<'a> {
    /// The user, escapes kept.
    pub username: &'a str,
    /// The realm.
    pub realm: &'a str,
    /// The nonce.
    pub nonce: &'a str,
    /// The digest-uri.
    pub uri: &'a str,
    /// The response, in hexadecimal digits.
    pub response: &'a str,
    /// The algorithm's name, if one is written.
    pub algorithm: Option<&'a str>,
    /// The quality of protection, if one is written.
    pub qop: Option<&'a str>,
    /// The nonce count as it is written.
    pub nc: Option<&'a str>,
    /// The client's nonce.
    pub cnonce: Option<&'a str>,
}

impl<'a> AuthorizationHeader<'a> {
    /// Takes a header's value apart; `None` unless it is digest with a user, realm, nonce, uri and response.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let mut h = Self::default();
        for (name, value) in parts(value)? {
            match name.to_ascii_lowercase().as_str() {
                "username" => h.username = value,
                "realm" => h.realm = value,
                "nonce" => h.nonce = value,
                "uri" => h.uri = value,
                "response" => h.response = value,
                "algorithm" => h.algorithm = Some(value),
                "qop" => h.qop = Some(value),
                "nc" => h.nc = Some(value),
                "cnonce" => h.cnonce = Some(value),
                _ => {}
            }
        }
        let whole =
            !h.username.is_empty() && !h.nonce.is_empty() && !h.uri.is_empty() && !h.response.is_empty();
        whole.then_some(h)
    }

    /// The response that these parameters must carry for a user's HA1 (RFC 7616 3.4.1; RFC 2069
    /// when there is no `qop`).
    #[must_use]
    pub fn response_for(&self, algorithm: Algorithm, ha1: &str, method: &str, body: &[u8]) -> String {
        let counted =
            self.qop.map(|qop| Counted { nc: self.nc.unwrap_or(""), cnonce: self.cnonce.unwrap_or(""), qop });
        algorithm.response(ha1, self.nonce, counted, method, self.uri, body)
    }
}

/// `WWW-Authenticate` or `Proxy-Authenticate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// The realm.
    pub realm: &'a str,
    /// The nonce.
    pub nonce: &'a str,
    /// The algorithm's name, if one is written.
    pub algorithm: Option<&'a str>,
    /// The qualities of protection on offer, comma-separated, if any are written.
    pub qop: Option<&'a str>,
    /// What the client must give back unchanged.
    pub opaque: Option<&'a str>,
    /// The last response was right and its nonce too old: try again with this one, ask nobody.
    pub stale: bool,
}

impl<'a> Challenge<'a> {
    /// Takes a header's value apart; `None` unless it is digest with a nonce.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let mut c = Self::default();
        for (name, value) in parts(value)? {
            match name.to_ascii_lowercase().as_str() {
                "realm" => c.realm = value,
                "nonce" => c.nonce = value,
                "algorithm" => c.algorithm = Some(value),
                "qop" => c.qop = Some(value),
                "opaque" => c.opaque = Some(value),
                "stale" => c.stale = value.eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        (!c.nonce.is_empty()).then_some(c)
    }
}

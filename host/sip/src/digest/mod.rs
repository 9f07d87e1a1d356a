//! Digest authentication (RFC 3261 22, RFC 7616, RFC 8760): MD5 and SHA-256, `qop=auth`.
//!
//! [`Server`] is called by whoever asks for credentials (the registrar, a trunk), [`Client`] by the
//! endpoint when a peer asks us. Time and randomness are arguments. A server keeps nothing a
//! challenge; it remembers which nonce counts were used, in a table of bounded size.

mod client;
mod header;
mod server;

pub use client::Client;
pub use header::{AuthorizationHeader, Challenge};
pub use server::{Credential, Server, Verdict};

use std::fmt::Write as _;

use md5::Md5;
use sha2::Sha256;

/// The hash of a challenge (RFC 7616 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `MD5`, which every peer knows.
    Md5,
    /// `SHA-256` (RFC 8760).
    Sha256,
}

impl Algorithm {
    /// The name as it stands in a header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// The algorithm that a header names; none named is MD5 (RFC 7616 3.3). Others, the `-sess`
    /// ones too, are not spoken here.
    #[must_use]
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None => Some(Self::Md5),
            Some(name) => {
                [Self::Md5, Self::Sha256].into_iter().find(|a| name.eq_ignore_ascii_case(a.as_str()))
            }
        }
    }

    /// The hash of some parts joined by colons, as lower-case hexadecimal digits.
    #[must_use]
    pub(crate) fn hash(self, parts: &[&[u8]]) -> String {
        match self {
            Self::Md5 => hex(&joined::<Md5>(parts)),
            Self::Sha256 => hex(&joined::<Sha256>(parts)),
        }
    }

    /// HA1 (RFC 7616 3.4.2): what a store may keep in place of the password.
    #[must_use]
    pub fn ha1(self, user: &str, realm: &str, password: &str) -> String {
        self.hash(&[user.as_bytes(), realm.as_bytes(), password.as_bytes()])
    }

    /// The response (RFC 7616 3.4.1) for `qop` given as text, or as in RFC 2069 without one.
    fn response(
        self,
        ha1: &str,
        nonce: &str,
        counted: Option<Counted<'_>>,
        method: &str,
        uri: &str,
        body: &[u8],
    ) -> String {
        let ha2 = match counted {
            Some(Counted { qop: "auth-int", .. }) => {
                let body = self.hash(&[body]);
                self.hash(&[method.as_bytes(), uri.as_bytes(), body.as_bytes()])
            }
            _ => self.hash(&[method.as_bytes(), uri.as_bytes()]),
        };
        let (ha1, nonce, ha2) = (ha1.as_bytes(), nonce.as_bytes(), ha2.as_bytes());
        match counted {
            Some(Counted { nc, cnonce, qop }) => {
                self.hash(&[ha1, nonce, nc.as_bytes(), cnonce.as_bytes(), qop.as_bytes(), ha2])
            }
            None => self.hash(&[ha1, nonce, ha2]),
        }
    }
}

/// What a response with a `qop` also covers.
#[derive(Clone, Copy)]
struct Counted<'a> {
    nc: &'a str,
    cnonce: &'a str,
    qop: &'a str,
}

fn joined<D: sha2::Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut hash = D::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    hash.finalize()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

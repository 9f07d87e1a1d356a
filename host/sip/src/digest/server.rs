//! Asking for credentials and judging them.
//!
//! A nonce is its time of issue, a number that tells it from others of that millisecond, and a keyed hash over
//! both, the realm and the algorithm, so any node with the secret can check it and none has to remember it. What is
//! remembered is which counts of a nonce were used. When that table is full the oldest nonce falls out and every nonce
//! as old counts as stale from then on: a used count is never taken twice.

use std::collections::BTreeMap;

use cordboard_base::Now;
use sha2::{Digest as _, Sha256};

use super::header::AuthorizationHeader;
use super::{Algorithm, hex};
use crate::wire::Uri;
use crate::wire::text::unescaped;

/// What a store knows of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The password itself.
    Password(String),
    /// HA1 (see [`Algorithm::ha1`]) in hexadecimal digits, for each algorithm that it was stored for.
    Ha1 {
        /// For MD5.
        md5: Option<String>,
        /// For SHA-256.
        sha256: Option<String>,
    },
}

/// What came of looking at credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They are right.
    Ok {
        /// The user, escapes resolved.
        user: String,
    },
    /// The response is right and the nonce is too old or its count was used: challenge again with
    /// `stale=true`, and the client answers without asking its user.
    Stale,
    /// They are wrong.
    Wrong,
    /// There are none for this realm that we can read: challenge.
    Missing,
}

/// Counts of one nonce that were used: the highest, and one bit for each of the 64 below and it.
#[derive(Debug, Clone, Copy)]
struct Used {
    highest: u32,
    bits: u64,
}

impl Used {
    /// Notes a count; whether it is new. UDP may reorder requests, so a little behind is fine.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let ahead = count - self.highest;
            self.bits = if ahead < 64 { self.bits << ahead | 1 } else { 1 };
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        let bit = 1_u64.checked_shl(behind).unwrap_or(0);
        let new = bit != 0 && self.bits & bit == 0;
        self.bits |= bit;
        new
    }
}

/// The server's side of digest.
#[derive(Debug)]
pub struct Server {
    secret: [u8; 32],
    lifetime_ms: i64,
    capacity: usize,
    /// By time of issue and hash, so the first is the oldest.
    used: BTreeMap<(i64, [u8; 16]), Used>,
    /// Of the next nonce. It comes round, but not within a millisecond.
    serial: u32,
    /// Nonces issued up to here are stale, because their counts may have been forgotten.
    forgotten_ms: i64,
}

/// How long a nonce may be used.
const LIFETIME_MS: i64 = 300_000;
/// How many nonces' counts are remembered.
const CAPACITY: usize = 100_000;
/// How far another node's clock may be ahead of ours.
const SKEW_MS: i64 = 5_000;

impl Server {
    /// A server whose nonces live five minutes and that remembers the counts of 100,000 of them.
    /// Nodes that share the secret take each other's nonces.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self::with_limits(secret, LIFETIME_MS, CAPACITY)
    }

    /// A server with other limits.
    #[must_use]
    pub fn with_limits(secret: [u8; 32], lifetime_ms: i64, capacity: usize) -> Self {
        let (used, forgotten_ms) = (BTreeMap::new(), i64::MIN);
        Self { secret, lifetime_ms, capacity: capacity.max(1), used, serial: 0, forgotten_ms }
    }

    /// The value of WWW-Authenticate or Proxy-Authenticate. Who takes both algorithms writes one
    /// header for each, SHA-256 first (RFC 8760 2.4). No two have the same nonce: a client counts each of its own
    /// from 1 (RFC 7616 3.4).
    #[must_use]
    pub fn challenge(&mut self, now: Now, realm: &str, algorithm: Algorithm, stale: bool) -> String {
        let issue = Issue { at_ms: now.wall_ms, serial: self.serial };
        self.serial = self.serial.wrapping_add(1);
        let seal = hex(&self.seal(issue, realm, algorithm));
        let nonce = format!("{:012x}{:08x}{seal}", issue.at_ms, issue.serial);
        let stale = if stale { ", stale=true" } else { "" };
        let algorithm = algorithm.as_str();
        format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}")
    }

    /// Judges the credentials of a request. `lookup` gives what is known of a user (escapes
    /// resolved). `request_uri` is compared with the digest-uri by user and host, since phones and
    /// proxies differ about ports and parameters (RFC 7616 3.4.6).
    pub fn verify(
        &mut self,
        now: Now,
        header: &AuthorizationHeader<'_>,
        realm: &str,
        method: &str,
        request_uri: &str,
        lookup: impl FnOnce(&str) -> Option<Credential>,
    ) -> Verdict {
        let Some(algorithm) = Algorithm::parse(header.algorithm).filter(|_| header.realm == realm) else {
            return Verdict::Missing;
        };
        let Some((issue, seal)) = read_nonce(header.nonce) else { return Verdict::Missing };
        if !same(&seal, &self.seal(issue, realm, algorithm)) {
            // A nonce of a former secret, of another server, or made up: a fresh one will tell.
            return Verdict::Missing;
        }
        let (Some("auth"), Some(nc), Some(_)) = (header.qop, header.nc, header.cnonce) else {
            return Verdict::Wrong;
        };
        let Some(count) = (nc.len() == 8).then(|| u32::from_str_radix(nc, 16).ok()).flatten() else {
            return Verdict::Wrong;
        };
        if !same_target(header.uri, request_uri) {
            return Verdict::Wrong;
        }
        let user = unescaped(header.username);
        let known = lookup(&user);
        // A user who is not known costs the same hashes as one who is.
        let ha1 = match &known {
            Some(Credential::Ha1 { md5, sha256 }) => match algorithm {
                Algorithm::Md5 => md5.clone(),
                Algorithm::Sha256 => sha256.clone(),
            },
            Some(Credential::Password(password)) => Some(algorithm.ha1(header.username, realm, password)),
            None => None,
        };
        let is_known = ha1.is_some();
        let ha1 = ha1.unwrap_or_else(|| algorithm.ha1(header.username, realm, ""));
        let expected = header.response_for(algorithm, &ha1.to_ascii_lowercase(), method, &[]);
        let right = same(expected.as_bytes(), header.response.to_ascii_lowercase().as_bytes());
        if !right || !is_known {
            return Verdict::Wrong;
        }
        let issued_ms = issue.at_ms;
        let age_ms = now.wall_ms - issued_ms;
        if age_ms > self.lifetime_ms || age_ms < -SKEW_MS || issued_ms <= self.forgotten_ms {
            return Verdict::Stale;
        }
        if self.take(now, (issued_ms, seal), count) {
            Verdict::Ok { user: user.into_owned() }
        } else {
            Verdict::Stale
        }
    }

    /// How many nonces' counts are remembered now.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.used.len()
    }

    /// Notes a count of a nonce; whether it is new.
    fn take(&mut self, now: Now, nonce: (i64, [u8; 16]), count: u32) -> bool {
        while let Some(oldest) = self.used.first_entry() {
            if oldest.key().0 + self.lifetime_ms >= now.wall_ms {
                break;
            }
            oldest.remove();
        }
        if let Some(used) = self.used.get_mut(&nonce) {
            return used.take(count);
        }
        if count == 0 {
            return false;
        }
        self.used.insert(nonce, Used { highest: count, bits: 1 });
        if self.used.len() > self.capacity
            && let Some(((issued_ms, _), _)) = self.used.pop_first()
        {
            self.forgotten_ms = self.forgotten_ms.max(issued_ms);
        }
        true
    }

    fn seal(&self, issue: Issue, realm: &str, algorithm: Algorithm) -> [u8; 16] {
        // Key, fixed-size fields, then the one of variable size; hashed twice, so that the hash
        // cannot be extended.
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update(issue.at_ms.to_be_bytes());
        hash.update(issue.serial.to_be_bytes());
        hash.update([algorithm as u8]);
        hash.update(realm.as_bytes());
        let inner = hash.finalize();
        let outer = Sha256::new().chain_update(self.secret).chain_update(inner).finalize();
        let mut seal = [0; 16];
        seal.copy_from_slice(&outer[..16]);
        seal
    }
}

/// What a nonce is made of, beside its hash.
#[derive(Debug, Clone, Copy)]
struct Issue {
    at_ms: i64,
    serial: u32,
}

/// Issue and hash of a nonce of ours.
fn read_nonce(nonce: &str) -> Option<(Issue, [u8; 16])> {
    if nonce.len() != 52 || !nonce.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let at_ms = i64::from_str_radix(&nonce[..12], 16).ok()?;
    let serial = u32::from_str_radix(&nonce[12..20], 16).ok()?;
    let seal = u128::from_str_radix(&nonce[20..], 16).ok()?;
    Some((Issue { at_ms, serial }, seal.to_be_bytes()))
}

/// Compares without telling by its duration where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y))) == 0
}

fn same_target(digest_uri: &str, request_uri: &str) -> bool {
    if digest_uri == request_uri {
        return true;
    }
    match (Uri::parse(digest_uri), Uri::parse(request_uri)) {
        (Ok(a), Ok(b)) => {
            a.is_sip() && b.is_sip() && a.user_text() == b.user_text() && a.host.eq_ignore_ascii_case(b.host)
        }
        _ => false,
    }
}

//! The terms on which calls leave by a trunk: what the configuration says, already checked.
//!
//! Part of the model. Holds no state: what a trunk's destinations and registrations are doing is the shard's.

use serde::{Deserialize, Serialize};

use super::rules::{HeaderRules, Rewrite};
use crate::Name;

/// The outbound half of a trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbound {
    /// Where calls go, in no particular order.
    pub destinations: Vec<Destination>,
    /// The tenants that may use it; empty: all.
    pub tenants: Vec<Name>,
    /// Calls out at once; one more tries the next trunk.
    pub max_calls: u32,
    /// New calls out a second (a token bucket of one second's worth); one more tries the next trunk.
    pub max_calls_per_s: u32,
    /// A destination that says nothing at all, not even 100, for so long is given up for the next, 100 to 32,000 ms.
    pub silent_ms: u64,
    /// Answers digest challenges.
    pub credentials: Option<Credentials>,
    /// Keeps a registration.
    pub register: Option<Register>,
    /// The user of From: a number that is always shown; none: the caller's.
    pub from: Option<String>,
    /// The host of From; none: our own address.
    pub domain: Option<String>,
    /// How the caller is told beside the From.
    pub identity: Identity,
    /// As which URIs.
    #[serde(default)]
    pub identity_uris: IdentityUris,
    /// How it is told which numbers the call has left.
    #[serde(default)]
    pub diversion: Diversion,
    /// A call that was diverted so often is not diverted by this trunk once more.
    #[serde(default = "usual_max_diversions")]
    pub max_diversions: u32,
    /// For the calling number.
    pub caller: Vec<Rewrite>,
    /// For the dialled number.
    pub called: Vec<Rewrite>,
    /// For headers.
    pub headers: HeaderRules,
    /// What a caller who was not answered hears before the answer.
    pub early_media: EarlyMedia,
    /// Asks the destinations by OPTIONS.
    pub health: Option<Health>,
}

fn usual_max_diversions() -> u32 {
    10
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            destinations: Vec::new(),
            tenants: Vec::new(),
            max_calls: 1_000,
            max_calls_per_s: 200,
            silent_ms: 1_500,
            credentials: None,
            register: None,
            from: None,
            domain: None,
            identity: Identity::None,
            identity_uris: IdentityUris::Sip,
            diversion: Diversion::None,
            max_diversions: usual_max_diversions(),
            caller: Vec::new(),
            called: Vec::new(),
            headers: HeaderRules::default(),
            early_media: EarlyMedia::Pass,
            health: None,
        }
    }
}

impl Outbound {
    /// Whether a tenant's calls may leave here.
    #[must_use]
    pub fn serves(&self, tenant: &str) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|t| &**t == tenant)
    }
}

/// One of a trunk's peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// A SIP URI without a user: `sip:192.0.2.10:5060`.
    pub uri: String,
    /// The lowest is tried first.
    pub priority: u16,
    /// The share among those of one priority, from 1.
    pub weight: u16,
}

/// What digest challenges are answered with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password, in clear.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A registration that is kept up (RFC 3261 10.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The registrar, a SIP URI without a user: its host is the domain of the address-of-record.
    pub registrar: String,
    /// The user of the address-of-record.
    pub user: String,
    /// Where the REGISTER is sent, when that is not the registrar's host.
    pub proxy: Option<String>,
    /// The expiry that is asked for, in seconds.
    pub expires_s: u32,
    /// Registers all numbers of the trunk at once (`bnc`, RFC 6140).
    pub bulk: bool,
}

/// A peer that registers here, as a phone does (RFC 3261 10.3): where it is is known from its REGISTER.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The user of its address-of-record, and its name in digest.
    pub user: String,
    /// Clear text, or HA1 as `md5:…` / `sha256:…`.
    pub password: String,
    /// In the challenge.
    pub realm: String,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("user", &self.user).field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// How a trunk is told who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// By the From alone; a withheld number stays with us.
    None,
    /// By P-Asserted-Identity (RFC 3325 9.1): the trunk is trusted, a withheld number goes with Privacy.
    Asserted,
    /// By P-Preferred-Identity (RFC 3325 9.2): the trunk decides what it asserts, and hears a withheld number of
    /// nobody but ourselves.
    Preferred,
}

/// The URIs of an identity that we send (RFC 3325 9.1: one, or a SIP and a tel URI).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityUris {
    /// A SIP URI.
    #[default]
    Sip,
    /// A tel URI (RFC 3966); a SIP URI where the identity is no number.
    Tel,
    /// Both.
    Both,
}

/// How a trunk is told which numbers a call has left before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Diversion {
    /// Not at all.
    #[default]
    None,
    /// By Diversion (RFC 5806).
    Diversion,
    /// By History-Info (RFC 7044).
    HistoryInfo,
    /// By both.
    Both,
}

/// What becomes of a 183 with a session description from a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EarlyMedia {
    /// It goes through with its audio.
    Pass,
    /// The caller gets 180, and hears the own network's ringing.
    Ring,
}

/// OPTIONS to every destination, with hysteresis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How often, in milliseconds.
    pub every_ms: u64,
    /// So many failures in a row make it down.
    pub down_after: u32,
    /// So many answers in a row make it up again.
    pub up_after: u32,
}

//! The configuration as the core sees it: already checked, with every default filled in.
//!
//! Made by the server from the TOML file, and by simulations and tests directly. Shared as one
//! `Arc<Model>`; a reload hands in a new one.

use std::net::IpAddr;

use cordboard_sip::sdp::Codec;
use serde::{Deserialize, Serialize};

use crate::Name;
use crate::trunk::rules::Rewrite;
use crate::trunk::terms::{Outbound, Peer};

/// Everything the stations need to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// This node's name, part of what it reports.
    pub node: Name,
    /// Who may send calls.
    pub trunks: Vec<Trunk>,
    /// Whose calls they are.
    pub tenants: Vec<Tenant>,
    /// Sizes of tables.
    pub limits: Limits,
}

/// Bounds of a node. What happens at each is in its line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Calls at once on a shard; one more is refused with 503 and Retry-After.
    pub max_calls: u32,
    /// Seconds in that Retry-After.
    pub retry_after_s: u32,
    /// How long a media leg that has spoken may be silent before its party counts as gone; 0: for ever.
    pub rtp_silence_ms: u32,
    /// How long an answered outgoing redirect target may say nothing before the next is tried.
    pub silent_target_ms: u64,
    /// Grace of a script after its caller hung up.
    pub script_grace_ms: u64,
    /// Interactions that a domain keeps at once; one more call is refused.
    pub max_interactions: u32,
    /// How often the phones of an answered call are asked by OPTIONS whether their dialog still stands,
    /// in milliseconds; a phone that says nothing and is not heard counts as gone. 0: never.
    pub dialog_probe_ms: u64,
    /// The session interval that is asked for and granted (RFC 4028), in seconds; 0: no session timers.
    pub session_expires_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_calls: 10_000,
            retry_after_s: 5,
            rtp_silence_ms: 15_000,
            silent_target_ms: 2_000,
            script_grace_ms: 2_000,
            max_interactions: 20_000,
            dialog_probe_ms: 60_000,
            session_expires_s: 180,
        }
    }
}

/// A SIP trunk: calls from these addresses and, under its terms, to its destinations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trunk {
    /// Its name in records and events.
    pub name: Name,
    /// Source networks; a source that matches no trunk is refused with 403.
    pub sources: Vec<Network>,
    /// Names in lower case: who has proved one by a certificate may send calls too, from anywhere.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// It belongs to our trust domain (RFC 3325 2.4): the identity that it asserts of a caller is believed.
    #[serde(default)]
    pub trusted: bool,
    /// The tenant of a number that no tenant claims.
    pub tenant: Option<Name>,
    /// Calls at once, in and out together; one more in gets 503, one more out tries the next trunk.
    pub max_calls: u32,
    /// New calls in a second (a token bucket of one second's worth); one more gets 503.
    pub max_calls_per_s: u32,
    /// SIP headers that the router plugin may see.
    pub pass_headers: Vec<String>,
    /// In the order preferred in offers that we make.
    pub codecs: Vec<Codec>,
    /// For the calling number of a call that comes in.
    #[serde(default)]
    pub caller: Vec<Rewrite>,
    /// For the dialled number of a call that comes in, before its tenant is looked for.
    #[serde(default)]
    pub called: Vec<Rewrite>,
    /// It registers here: its calls come from where its last REGISTER came from, and go there.
    #[serde(default)]
    pub peer: Option<Peer>,
    /// How calls leave by it; none: they do not.
    #[serde(default)]
    pub out: Option<Outbound>,
}

impl Default for Trunk {
    /// Takes and sends no calls; the usual limits.
    fn default() -> Self {
        Self {
            name: Name::from(""),
            sources: Vec::new(),
            certificates: Vec::new(),
            trusted: false,
            tenant: None,
            max_calls: 1_000,
            max_calls_per_s: 200,
            pass_headers: Vec::new(),
            codecs: Vec::new(),
            caller: Vec::new(),
            called: Vec::new(),
            peer: None,
            out: None,
        }
    }
}

/// An address with a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The network's address.
    pub address: IpAddr,
    /// Significant leading bits: 0 to 32, or to 128.
    pub prefix: u8,
    /// Only this source port, when given.
    pub port: Option<u16>,
}

impl Network {
    /// Whether `address` lies in the network. An IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: std::net::SocketAddr) -> bool {
        if self.port.is_some_and(|port| port != address.port()) {
            return false;
        }
        match (self.address.to_canonical(), address.ip().to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                (u64::from(net.to_bits()) >> shift) == (u64::from(ip.to_bits()) >> shift)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                shift == 128 || (net.to_bits() >> shift) == (ip.to_bits() >> shift)
            }
            _ => false,
        }
    }
}

/// A customer of the centre.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name; part of events' source.
    pub name: Name,
    /// Dialled numbers that are the tenant's, as exact numbers or prefixes ending in `*`.
    pub numbers: Vec<String>,
    /// The `call-router` plugin; none: straight to `script`.
    pub router: Option<Name>,
    /// The script that runs when the router names none or fails.
    pub script: Option<Name>,
    /// What a caller gets when no script can run.
    pub fallback: Fallback,
    /// The `cti-adapter` plugins that get the tenant's events.
    pub adapters: Vec<Name>,
    /// The skills, in the order that gives their numbers in policies.
    pub skills: Vec<Name>,
    /// The queues.
    pub workgroups: Vec<Workgroup>,
    /// The people.
    pub agents: Vec<Agent>,
    /// The interaction manager's rules, first match wins.
    pub qualify: Vec<Qualify>,
    /// SIP realm of the agents' phones.
    pub realm: String,
    /// After a restart, how long a caller who calls back finds the old place.
    pub call_back_grace_ms: u64,
}

/// What a caller gets when the script traps or none can be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fallback {
    /// Queue into a workgroup with its native treatment.
    Workgroup(Name),
    /// Play a prompt (none: nothing) and hang up with a Q.850 cause.
    Announce {
        /// A prompt of the library.
        prompt: Option<Name>,
        /// Q.850, 1 to 127.
        cause: u8,
    },
}

/// A queue and the agents who serve it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workgroup {
    /// Its name.
    pub name: Name,
    /// The `queue-policy` plugin; none: longest idle, first in first out.
    pub policy: Option<Name>,
    /// How long an agent's phone may ring.
    pub ring_timeout_ms: u64,
    /// Working-after-call time; 0: ready at once.
    pub wrap_up_ms: u64,
    /// Entries at once; one more is refused as `full`.
    pub max_waiting: u32,
    /// Agents offered the same call at once, each with a token: 1 is one after the other.
    pub round: u32,
    /// Unanswered offers in a row after which an agent is set not-ready.
    pub max_misses: u32,
    /// How long an agent is left alone after an unanswered offer.
    pub miss_back_off_ms: u64,
    /// The lease behind a reservation; longer than any ring time, renewed by the shard.
    pub lease_ms: u64,
    /// Music of the native treatment, a prompt of the library.
    pub music: Option<Name>,
    /// Whether callers are refused (`no-agents`) while no agent is logged in.
    pub refuse_without_agents: bool,
    /// Used by the estimate until calls have been handled.
    pub expected_handle_ms: u64,
}

/// A person with a phone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// The name in the API and in records.
    pub name: Name,
    /// Where the phone is.
    pub phone: Phone,
    /// The workgroups served.
    pub workgroups: Vec<Name>,
    /// Skills with levels 1 to 10.
    pub skills: Vec<(Name, u8)>,
    /// Logged in and ready when the centre starts.
    pub ready_at_start: bool,
}

/// An agent's phone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Phone {
    /// It registers with this user name and password (digest).
    Registered {
        /// Address-of-record user.
        user: String,
        /// Clear text, or HA1 as `md5:…` / `sha256:…`.
        password: String,
    },
    /// It is always at this SIP URI.
    Address(String),
}

/// A rule of the interaction manager: what matches, and what it does to the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Qualify {
    /// Prefix of the calling number; empty matches all.
    pub caller: String,
    /// The workgroup asked for; none matches all.
    pub workgroup: Option<Name>,
    /// Attribute that must have this value.
    pub attribute: Option<(String, String)>,
    /// Skills to require besides.
    pub add_skills: Vec<Name>,
    /// Priority to add, -100 to 100.
    pub add_priority: i16,
    /// Agent to ask first.
    pub prefer_agent: Option<Name>,
    /// Make it a direct call to this agent.
    pub direct: Option<Name>,
    /// Refuse with this reason.
    pub refuse: Option<String>,
}

impl Model {
    /// The trunk of that name.
    #[must_use]
    pub fn trunk(&self, name: &str) -> Option<&Trunk> {
        self.trunks.iter().find(|t| &*t.name == name)
    }

    /// Which trunk sends from there: the first of whose sources it is one.
    #[must_use]
    pub fn trunk_from(&self, source: std::net::SocketAddr) -> Option<usize> {
        self.trunks.iter().position(|t| t.sources.iter().any(|n| n.contains(source)))
    }

    /// The tenant of that name.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|t| &*t.name == name)
    }
}

impl Tenant {
    /// The workgroup of that name.
    #[must_use]
    pub fn workgroup(&self, name: &str) -> Option<&Workgroup> {
        self.workgroups.iter().find(|w| &*w.name == name)
    }

    /// The agent of that name.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<&Agent> {
        self.agents.iter().find(|a| &*a.name == name)
    }

    /// The number of a skill in policies.
    #[must_use]
    pub fn skill(&self, name: &str) -> Option<u32> {
        self.skills.iter().position(|s| &**s == name).map(|i| i as u32)
    }
}

//! Step 5, first half: who sends a call, whose it is, and whether it is admitted. And the way out:
//! which trunk takes a call that leaves, in [`hunt`], under the terms of [`terms`].
//!
//! Called by the shard for every new INVITE, before a call exists, and for every call out. Never
//! refuses a call that is already up, and never looks at more than the INVITE, the model and its own
//! counters. What a trunk keeps up beside calls is in [`register`] and [`health`].

pub mod diversion;
pub mod health;
pub mod hunt;
pub mod identity;
pub mod outgoing;
pub mod passages;
pub mod register;
pub mod rules;
pub mod terms;

use std::net::SocketAddr;

use cordboard_base::{Map, Now};
use cordboard_sip::wire::{Message, Uri};

use crate::model::{Limits, Model, Tenant, Trunk};
use crate::{Attributes, Name};
use identity::user_of;

/// Why a call is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The source matches no trunk: 403.
    UnknownSource,
    /// The number is nobody's: 404.
    UnknownNumber,
    /// The trunk has its calls: 503 with Retry-After.
    TrunkFull,
    /// The trunk has had its calls of this second: 503 with Retry-After.
    TrunkRate,
    /// The shard has its calls: 503 with Retry-After.
    ShardFull,
    /// The shard takes no new calls: 503 with Retry-After.
    Draining,
}

impl Refused {
    /// The SIP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::UnknownSource => 403,
            Self::UnknownNumber => 404,
            Self::TrunkFull | Self::TrunkRate | Self::ShardFull | Self::Draining => 503,
        }
    }
}

/// Where a call came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The address.
    pub remote: SocketAddr,
    /// The trunk whose registration it belongs to: ours, by the secret in the Request-URI, or its peer's, by the
    /// address that registered here.
    pub registered: Option<&'a Name>,
    /// The names that the connection's other end has proved by its certificate.
    pub proved: &'a [String],
}

/// An admitted call's owner, as indices into the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Of `model.trunks`.
    pub trunk: u32,
    /// Of `model.tenants`.
    pub tenant: u32,
    /// The dialled number, as the trunk normalises it.
    pub called: String,
}

/// What one trunk has now. Kept by name, so that a reload does not forget live calls.
#[derive(Debug, Default)]
struct Usage {
    /// In.
    calls: u32,
    /// Out.
    out: u32,
    bucket_in: Bucket,
    bucket_out: Bucket,
    totals: Totals,
}

/// What a trunk has done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Calls in that were admitted.
    pub admitted: u64,
    /// Calls in that were refused by a limit.
    pub refused: u64,
    /// Calls that went out, each trunk that was tried counted.
    pub out: u64,
    /// Calls out that a limit kept from this trunk.
    pub out_full: u64,
}

/// A token bucket of one second's worth as one number: the time at which it is full again, monotonic.
#[derive(Debug, Default)]
struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// When it is full after one more, if one more fits.
    fn next(&self, now: Now, per_s: u32) -> Option<u64> {
        let token_ns = 1_000_000_000 / u64::from(per_s.max(1));
        let full_at = self.full_at_ns.max(now.mono_ns) + token_ns;
        (per_s > 0 && full_at <= now.mono_ns + 1_000_000_000).then_some(full_at)
    }

    fn take(&mut self, now: Now, per_s: u32) -> bool {
        let next = self.next(now, per_s);
        self.full_at_ns = next.unwrap_or(self.full_at_ns);
        next.is_some()
    }
}

/// The trunks' counters.
#[derive(Debug, Default)]
pub struct Admission {
    trunks: Map<Name, Usage>,
    live: u32,
}

impl Admission {
    /// Decides on a new call from `source` to `called`. An admitted call counts until [`Self::release`].
    ///
    /// # Errors
    /// Why it is refused; nothing is counted then.
    pub fn admit(
        &mut self,
        now: Now,
        model: &Model,
        origin: Origin<'_>,
        called: String,
        draining: bool,
    ) -> Result<Admitted, Refused> {
        let (trunk_at, trunk) = model
            .trunks
            .iter()
            .enumerate()
            .find(|(_, t)| match origin.registered {
                Some(name) => t.name == *name,
                None => {
                    t.certificates.iter().any(|name| origin.proved.contains(name))
                        || t.sources.iter().any(|n| n.contains(origin.remote))
                }
            })
            .ok_or(Refused::UnknownSource)?;
        let called = rules::normalised(&trunk.called, called);
        let tenant = tenant_of(model, &called)
            .or_else(|| model.tenants.iter().position(|t| Some(&t.name) == trunk.tenant.as_ref()))
            .ok_or(Refused::UnknownNumber)?;
        if draining {
            return Err(Refused::Draining);
        }
        let Limits { max_calls, .. } = model.limits;
        if self.live >= max_calls {
            return Err(Refused::ShardFull);
        }
        let usage = self.usage(&trunk.name);
        // The carrier's channels serve both directions.
        if usage.calls + usage.out >= trunk.max_calls {
            usage.totals.refused += 1;
            return Err(Refused::TrunkFull);
        }
        if !usage.bucket_in.take(now, trunk.max_calls_per_s) {
            usage.totals.refused += 1;
            return Err(Refused::TrunkRate);
        }
        usage.totals.admitted += 1;
        usage.calls += 1;
        self.live += 1;
        Ok(Admitted { trunk: trunk_at as u32, tenant: tenant as u32, called })
    }

    /// Whether a limit would refuse the next call in by `trunk`. Counts nothing.
    #[must_use]
    pub fn is_full(&self, now: Now, limits: &Limits, trunk: &Trunk) -> bool {
        let usage = self.trunks.get(&trunk.name);
        self.live >= limits.max_calls
            || usage.is_some_and(|u| {
                u.calls + u.out >= trunk.max_calls || u.bucket_in.next(now, trunk.max_calls_per_s).is_none()
            })
    }

    fn usage(&mut self, trunk: &Name) -> &mut Usage {
        if !self.trunks.contains_key(trunk) {
            self.trunks.insert(trunk.clone(), Usage::default());
        }
        self.trunks.entry(trunk.clone()).or_default()
    }

    /// Decides on a call that is to leave by `trunk`. One that may counts until [`Self::release_out`].
    ///
    /// # Errors
    /// Why it may not; nothing is counted then.
    pub fn admit_out(&mut self, now: Now, trunk: &Trunk, out: &terms::Outbound) -> Result<(), Refused> {
        let usage = self.usage(&trunk.name);
        if usage.out >= out.max_calls || usage.calls + usage.out >= trunk.max_calls {
            usage.totals.out_full += 1;
            return Err(Refused::TrunkFull);
        }
        if !usage.bucket_out.take(now, out.max_calls_per_s) {
            usage.totals.out_full += 1;
            return Err(Refused::TrunkRate);
        }
        usage.totals.out += 1;
        usage.out += 1;
        Ok(())
    }

    /// A call that left by `trunk` is over, or goes another way.
    pub fn release_out(&mut self, trunk: &Name) {
        if let Some(usage) = self.trunks.get_mut(trunk) {
            usage.out = usage.out.saturating_sub(1);
        }
    }

    /// Calls in and out that are up on a trunk, and its totals.
    #[must_use]
    pub fn of(&self, trunk: &Name) -> (u32, u32, Totals) {
        self.trunks.get(trunk).map_or((0, 0, Totals::default()), |u| (u.calls, u.out, u.totals))
    }

    /// A call that was admitted on `trunk` is over.
    pub fn release(&mut self, trunk: &Name) {
        self.live = self.live.saturating_sub(1);
        if let Some(usage) = self.trunks.get_mut(trunk) {
            usage.calls = usage.calls.saturating_sub(1);
        }
    }

    /// Admitted calls that live.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.live
    }
}

/// The tenant that claims a number: exactly before by prefix, the longest prefix first.
#[must_use]
pub fn tenant_of(model: &Model, called: &str) -> Option<usize> {
    let mut best: Option<(usize, usize)> = None;
    for (i, tenant) in model.tenants.iter().enumerate() {
        for number in &tenant.numbers {
            let rank = match number.strip_suffix('*') {
                Some(prefix) if called.starts_with(prefix) => prefix.len(),
                None if number == called => usize::MAX,
                _ => continue,
            };
            if best.is_none_or(|(_, r)| rank > r) {
                best = Some((i, rank));
            }
        }
    }
    best.map(|(i, _)| i)
}

/// The dialled number: the user of the Request-URI, without its own parameters.
#[must_use]
pub fn called(request: &Message) -> String {
    user_of(request.request_uri())
}

/// The user of the To: whom the caller has dialled, where the Request-URI was rewritten on the way.
#[must_use]
pub fn addressed(request: &Message) -> String {
    request.to().map(|to| user_of(to.uri)).unwrap_or_default()
}

/// The SIP headers that the trunk lets the router see, in the order of the configuration; who is withheld stays
/// so there.
#[must_use]
pub fn passed(request: &Message, pass_headers: &[String], caller: &identity::Caller) -> Attributes {
    let seen = pass_headers.iter().filter(|name| outgoing::may_be_seen(name, caller));
    seen.filter_map(|name| Some((name.clone(), request.other(name)?.to_owned()))).collect()
}

/// The headers of an INVITE that some trunk copies into calls that leave by it.
#[must_use]
pub fn brought(request: &Message, model: &Model) -> Attributes {
    let mut brought = Attributes::new();
    for name in model.trunks.iter().filter_map(|t| t.out.as_ref()).flat_map(|out| &out.headers.copy) {
        if !brought.iter().any(|(n, _)| n == name)
            && let Some(value) = request.other(name)
        {
            brought.push((name.clone(), value.to_owned()));
        }
    }
    brought
}

/// What stands for a registration of ours in the Request-URI of a call to it: the `line` of its contact.
#[must_use]
pub fn line_of(request: &Message) -> Option<String> {
    Uri::parse(request.request_uri()).ok()?.param("line").map(str::to_owned)
}

/// The tenant's realm that a phone's REGISTER belongs to: by the To's host, else by the user's name.
#[must_use]
pub fn phone_tenant<'m>(model: &'m Model, host: &str, user: &str) -> Option<(&'m Tenant, &'m str)> {
    use crate::model::Phone;
    let password = |t: &'m Tenant| {
        t.agents.iter().find_map(|a| match &a.phone {
            Phone::Registered { user: u, password } if u == user => Some(password.as_str()),
            _ => None,
        })
    };
    let of_host = model.tenants.iter().filter(|t| t.realm.eq_ignore_ascii_case(host));
    of_host.chain(model.tenants.iter()).find_map(|t| Some((t, password(t)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;
    use bytes::Bytes;

    fn model() -> Model {
        let tenant = |name: &str, numbers: &[&str]| Tenant {
            name: name.into(),
            numbers: numbers.iter().map(|n| (*n).to_owned()).collect(),
            router: None,
            script: None,
            fallback: crate::model::Fallback::Announce { prompt: None, cause: 31 },
            adapters: Vec::new(),
            skills: Vec::new(),
            workgroups: Vec::new(),
            agents: Vec::new(),
            qualify: Vec::new(),
            realm: name.to_owned(),
            call_back_grace_ms: 0,
        };
        Model {
            node: "n".into(),
            trunks: vec![Trunk {
                name: "t".into(),
                sources: vec![Network { address: "10.0.0.0".parse().unwrap(), prefix: 8, port: None }],
                max_calls: 2,
                max_calls_per_s: 2,
                ..Trunk::default()
            }],
            tenants: vec![tenant("a", &["+49*"]), tenant("b", &["+4930*"]), tenant("c", &["+49301"])],
            limits: Limits { max_calls: 3, ..Limits::default() },
        }
    }

    const AT: &str = "10.1.2.3:5060";

    fn from(remote: &str) -> Origin<'static> {
        Origin { remote: remote.parse().unwrap(), registered: None, proved: &[] }
    }

    #[test]
    fn the_exact_number_wins_then_the_longest_prefix() {
        let m = model();
        assert_eq!(
            [tenant_of(&m, "+49301"), tenant_of(&m, "+49302"), tenant_of(&m, "+491"), tenant_of(&m, "1")],
            [Some(2), Some(1), Some(0), None]
        );
    }

    #[test]
    fn refusals_have_their_names() {
        let (m, now) = (model(), Now::default());
        let mut a = Admission::default();
        assert_eq!(a.admit(now, &m, from("192.0.2.1:1"), "+491".into(), false), Err(Refused::UnknownSource));
        assert_eq!(a.admit(now, &m, from(AT), "1".into(), false), Err(Refused::UnknownNumber));
        assert_eq!(a.admit(now, &m, from(AT), "+491".into(), true), Err(Refused::Draining));
        assert!(a.admit(now, &m, from(AT), "+491".into(), false).is_ok());
        assert!(a.admit(now, &m, from(AT), "+491".into(), false).is_ok());
        assert_eq!(a.admit(now, &m, from(AT), "+491".into(), false), Err(Refused::TrunkFull));
        a.release(&"t".into());
        assert_eq!(a.admit(now, &m, from(AT), "+491".into(), false), Err(Refused::TrunkRate));
        assert!(a.admit(now.plus_ns(500_000_000), &m, from(AT), "+491".into(), false).is_ok());
        assert_eq!(a.live(), 2);
    }

    #[test]
    fn a_rate_holds_over_many_seconds() {
        let mut m = model();
        m.trunks[0].max_calls = 1_000;
        m.limits.max_calls = 1_000;
        let mut a = Admission::default();
        let admitted = (0..10_000_u64)
            .filter(|i| {
                a.admit(Now::default().plus_ns(i * 1_000_000), &m, from(AT), "+491".into(), false).is_ok()
            })
            .count();
        assert!((20..=22).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_trunk_s_channels_serve_both_directions_and_calls_out_have_their_own_rate() {
        let mut m = model();
        m.limits.max_calls = 10;
        m.trunks[0].max_calls = 3;
        let out = terms::Outbound { max_calls: 2, max_calls_per_s: 100, ..terms::Outbound::default() };
        let (mut a, now) = (Admission::default(), Now::default());
        let name = m.trunks[0].name.clone();
        assert_eq!(a.admit_out(now, &m.trunks[0], &out), Ok(()));
        assert_eq!(a.admit_out(now, &m.trunks[0], &out), Ok(()));
        assert_eq!(a.admit_out(now, &m.trunks[0], &out), Err(Refused::TrunkFull), "its own limit");
        assert!(a.admit(now, &m, from(AT), "+491".into(), false).is_ok());
        assert_eq!(a.admit(now, &m, from(AT), "+491".into(), false), Err(Refused::TrunkFull), "all channels");
        a.release_out(&name);
        assert!(a.admit(now, &m, from(AT), "+491".into(), false).is_ok());
        assert_eq!(a.admit_out(now, &m.trunks[0], &out), Err(Refused::TrunkFull), "all channels");
        let (calls, outgoing, totals) = a.of(&name);
        assert_eq!((calls, outgoing, totals.admitted, totals.refused), (2, 1, 2, 1));
        assert_eq!((totals.out, totals.out_full), (2, 2));
        for _ in 0..2 {
            a.release(&name);
        }
        let slow = terms::Outbound { max_calls_per_s: 1, ..out };
        a.release_out(&name);
        assert_eq!(a.admit_out(now.plus_ns(1_000_000_000), &m.trunks[0], &slow), Ok(()));
        assert_eq!(a.admit_out(now.plus_ns(1_000_000_001), &m.trunks[0], &slow), Err(Refused::TrunkRate));
    }

    #[test]
    fn a_call_to_a_registration_is_its_trunk_s_wherever_it_comes_from() {
        let mut m = model();
        m.trunks.push(Trunk {
            name: "registered".into(),
            called: vec![rules::Rewrite::parse("0* -> +49*").unwrap()],
            ..Trunk::default()
        });
        let mut a = Admission::default();
        let (name, remote) = ("registered".into(), "192.0.2.1:1".parse().unwrap());
        let origin = Origin { remote, registered: Some(&name), proved: &[] };
        let got = a.admit(Now::default(), &m, origin, "0301".into(), false);
        assert_eq!(got, Ok(Admitted { trunk: 1, tenant: 2, called: "+49301".into() }));
    }

    #[test]
    fn a_trunk_is_known_by_the_name_that_its_certificate_proves() {
        let mut m = model();
        m.trunks.push(Trunk {
            name: "proved".into(),
            certificates: vec!["carrier.example.net".into()],
            max_calls: 1,
            ..Trunk::default()
        });
        let mut a = Admission::default();
        let remote = "192.0.2.1:1".parse().unwrap();
        let proved = ["other.example".to_owned(), "carrier.example.net".to_owned()];
        let mut admit = |proved| {
            let origin = Origin { remote, registered: None, proved };
            a.admit(Now::default(), &m, origin, "+491".into(), false).map(|admitted| admitted.trunk)
        };
        assert_eq!(admit(&proved), Ok(1));
        assert_eq!(admit(&proved[..1]), Err(Refused::UnknownSource));
        assert_eq!(admit(&[]), Err(Refused::UnknownSource));
    }

    fn invite(head: &str) -> Message {
        let text =
            format!("INVITE sip:%2b4930@10.0.0.9 SIP/2.0\r\n{head}Call-ID: a\r\nCSeq: 1 INVITE\r\n\r\n");
        Message::parse(Bytes::from(text)).unwrap()
    }

    #[test]
    fn the_router_sees_the_headers_that_the_trunk_passes() {
        let both = invite("From: \"F\" <sip:1@x>;tag=1\r\nP-Asserted-Identity: \"P\" <sip:+2@x>\r\n");
        let pai = ["p-asserted-identity".to_owned()];
        assert_eq!(passed(&both, &pai, &identity::caller(&both, false))[0].1, "\"P\" <sip:+2@x>");
        let head = "From: \"F\" <sip:1@x>;tag=1\r\nPrivacy: id\r\nP-Asserted-Identity: <sip:+2@x>\r\ny: passport\r\nX-A: 1\r\n";
        let withheld = invite(head);
        let all = ["From", "P-Asserted-Identity", "y", "Privacy", "X-A"].map(str::to_owned);
        let seen = passed(&withheld, &all, &identity::caller(&withheld, true));
        let seen: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(seen, ["Privacy", "X-A"], "nothing that says who it is");
        assert_eq!(called(&both), "+4930");
    }
}

//! Step 5, first half: who sends a call, whose it is, and whether it is admitted.
//!
//! Called by the shard for every new INVITE, before a call exists. Never refuses a call that is
//! already up, and never looks at more than the INVITE, the model and its own counters.

use std::net::SocketAddr;

use cordboard_base::{Map, Now};
use cordboard_sip::wire::{Message, Name as Header, NameAddr, Uri};

use crate::model::{Limits, Model, Tenant};
use crate::{Attributes, Name};

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

/// An admitted call's owner, as indices into the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Of `model.trunks`.
    pub trunk: u32,
    /// Of `model.tenants`.
    pub tenant: u32,
}

/// What one trunk has now. Kept by name, so that a reload does not forget live calls.
#[derive(Debug, Default)]
struct Usage {
    calls: u32,
    /// The token bucket as one number: the time at which it is full again, monotonic nanoseconds.
    full_at_ns: u64,
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
        source: SocketAddr,
        called: &str,
        draining: bool,
    ) -> Result<Admitted, Refused> {
        let (trunk_at, trunk) = model
            .trunks
            .iter()
            .enumerate()
            .find(|(_, t)| t.sources.iter().any(|n| n.contains(source)))
            .ok_or(Refused::UnknownSource)?;
        let tenant = tenant_of(model, called)
            .or_else(|| model.tenants.iter().position(|t| Some(&t.name) == trunk.tenant.as_ref()))
            .ok_or(Refused::UnknownNumber)?;
        if draining {
            return Err(Refused::Draining);
        }
        let Limits { max_calls, .. } = model.limits;
        if self.live >= max_calls {
            return Err(Refused::ShardFull);
        }
        if !self.trunks.contains_key(&trunk.name) {
            self.trunks.insert(trunk.name.clone(), Usage::default());
        }
        let usage = self.trunks.entry(trunk.name.clone()).or_default();
        if usage.calls >= trunk.max_calls {
            return Err(Refused::TrunkFull);
        }
        let token_ns = 1_000_000_000 / u64::from(trunk.max_calls_per_s.max(1));
        let full_at = usage.full_at_ns.max(now.mono_ns) + token_ns;
        if trunk.max_calls_per_s == 0 || full_at > now.mono_ns + 1_000_000_000 {
            return Err(Refused::TrunkRate);
        }
        usage.full_at_ns = full_at;
        usage.calls += 1;
        self.live += 1;
        Ok(Admitted { trunk: trunk_at as u32, tenant: tenant as u32 })
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

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// The number, empty when withheld.
    pub number: String,
    /// The name, empty when there is none or the number is withheld.
    pub name: String,
}

/// The caller's identity: P-Asserted-Identity if the trunk passes it (it then vouches for it), else From.
/// Privacy (RFC 3323) and an anonymous From make it empty.
#[must_use]
pub fn caller(request: &Message, pass_headers: &[String]) -> Caller {
    let asserted = pass_headers.iter().any(|h| h.eq_ignore_ascii_case("P-Asserted-Identity"));
    if request
        .header(Header::Privacy)
        .is_some_and(|p| p.split([';', ',']).any(|p| p.trim().eq_ignore_ascii_case("id")))
    {
        return Caller::default();
    }
    let identity = asserted
        .then(|| request.headers(Header::PAssertedIdentity).find_map(NameAddr::parse))
        .flatten()
        .or_else(|| request.from());
    let Some(identity) = identity else { return Caller::default() };
    let number = user_of(identity.uri);
    if number.eq_ignore_ascii_case("anonymous") || identity.uri.contains("anonymous.invalid") {
        return Caller::default();
    }
    Caller { number, name: identity.display_text().into_owned() }
}

/// The dialled number: the user of the Request-URI, without its own parameters.
#[must_use]
pub fn called(request: &Message) -> String {
    user_of(request.request_uri())
}

fn user_of(uri: &str) -> String {
    let Ok(uri) = Uri::parse(uri) else { return String::new() };
    let user = uri.user_text();
    user.split(';').next().unwrap_or("").to_owned()
}

/// The SIP headers that the trunk lets the router see, in the order of the configuration.
#[must_use]
pub fn passed(request: &Message, pass_headers: &[String]) -> Attributes {
    pass_headers.iter().filter_map(|name| Some((name.clone(), request.other(name)?.to_owned()))).collect()
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
    use crate::model::{Network, Trunk};
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
                tenant: None,
                max_calls: 2,
                max_calls_per_s: 2,
                pass_headers: Vec::new(),
                codecs: Vec::new(),
            }],
            tenants: vec![tenant("a", &["+49*"]), tenant("b", &["+4930*"]), tenant("c", &["+49301"])],
            limits: Limits { max_calls: 3, ..Limits::default() },
        }
    }

    const AT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3)), 5060);

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
        assert_eq!(
            a.admit(now, &m, "192.0.2.1:1".parse().unwrap(), "+491", false),
            Err(Refused::UnknownSource)
        );
        assert_eq!(a.admit(now, &m, AT, "1", false), Err(Refused::UnknownNumber));
        assert_eq!(a.admit(now, &m, AT, "+491", true), Err(Refused::Draining));
        assert!(a.admit(now, &m, AT, "+491", false).is_ok());
        assert!(a.admit(now, &m, AT, "+491", false).is_ok());
        assert_eq!(a.admit(now, &m, AT, "+491", false), Err(Refused::TrunkFull));
        a.release(&"t".into());
        assert_eq!(a.admit(now, &m, AT, "+491", false), Err(Refused::TrunkRate));
        assert!(a.admit(now.plus_ns(500_000_000), &m, AT, "+491", false).is_ok());
        assert_eq!(a.live(), 2);
    }

    #[test]
    fn a_rate_holds_over_many_seconds() {
        let mut m = model();
        m.trunks[0].max_calls = 1_000;
        m.limits.max_calls = 1_000;
        let mut a = Admission::default();
        let admitted = (0..10_000_u64)
            .filter(|i| a.admit(Now::default().plus_ns(i * 1_000_000), &m, AT, "+491", false).is_ok())
            .count();
        assert!((20..=22).contains(&admitted), "{admitted}");
    }

    fn invite(head: &str) -> Message {
        let text =
            format!("INVITE sip:%2b4930@10.0.0.9 SIP/2.0\r\n{head}Call-ID: a\r\nCSeq: 1 INVITE\r\n\r\n");
        Message::parse(Bytes::from(text)).unwrap()
    }

    #[test]
    fn the_caller_is_whom_the_trunk_asserts_and_nobody_when_withheld() {
        let both = invite("From: \"F\" <sip:1@x>;tag=1\r\nP-Asserted-Identity: \"P\" <sip:+2@x>\r\n");
        assert_eq!(caller(&both, &[]), Caller { number: "1".into(), name: "F".into() });
        let pai = ["p-asserted-identity".to_owned()];
        assert_eq!(caller(&both, &pai), Caller { number: "+2".into(), name: "P".into() });
        assert_eq!(passed(&both, &pai)[0].1, "\"P\" <sip:+2@x>");
        for head in [
            "From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1\r\n",
            "From: <sip:1@x>;tag=1\r\nPrivacy: id;user\r\n",
        ] {
            assert_eq!(caller(&invite(head), &pai), Caller::default());
        }
        assert_eq!(called(&both), "+4930");
    }
}

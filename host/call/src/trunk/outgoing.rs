//! Who is said to call on an INVITE that leaves by a trunk: From, identity and privacy (RFC 3325, RFC 3323),
//! and the trunk's header rules.
//!
//! Called by the shard for each attempt. Never sends anything.

use std::net::SocketAddr;

use cordboard_sip::wire::Name;

use super::hunt::escape_user;
use super::identity::{Caller, is_number};
use super::rules;
use super::terms::{Diversion, Identity, IdentityUris, Outbound};
use crate::Attributes;
use crate::center;

/// What says who calls: never taken over from the caller's INVITE where it may not be known or was not believed.
const OF_IDENTITY: [&str; 5] =
    ["P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Identity", "Privacy"];
/// Where a caller's own address stands, too.
const NAMES: [&str; 4] = ["From", "Contact", "Referred-By", "Identity-Info"];
/// Which numbers the call has left.
const OF_HISTORY: [&str; 2] = ["Diversion", "History-Info"];
/// What a caller says of himself, and a privacy service leaves out (RFC 3323 5.3 and the table of 4.1).
const OF_THE_USER: [&str; 6] = ["Call-Info", "In-Reply-To", "Organization", "Reply-To", "Subject", "Warning"];

/// The caller of a call that goes out.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// All that is known.
    pub caller: &'a Caller,
    /// Headers of the caller's INVITE that some trunk copies.
    pub brought: &'a Attributes,
}

/// The From, and all headers that go with it. `own` are those that every leg of ours has.
#[must_use]
pub fn identify(
    out: &Outbound,
    who: Who<'_>,
    local: SocketAddr,
    mut own: Vec<(String, String)>,
) -> (String, Vec<(String, String)>) {
    let host = out.domain.clone().unwrap_or_else(|| local.to_string());
    let withheld = who.caller.withheld();
    let caller = rules::normalised(&out.caller, who.caller.number.clone());
    let (shown, name) = match &out.from {
        Some(fixed) if !withheld => (fixed.as_str(), who.caller.name.as_str()),
        // The number is ours and not the caller's.
        Some(fixed) if out.identity == Identity::None => (fixed.as_str(), ""),
        _ if withheld => ("", ""),
        _ => (caller.as_str(), who.caller.name.as_str()),
    };
    let from = center::from_header_at(shown, name, &host);
    // RFC 3325 9.1: what is asserted is there for the network, whatever the other party may see. A trunk that is
    // only told what we prefer is a service of ours and no part of the network: it never hears who is withheld.
    let (header, known) = match out.identity {
        Identity::None => (None, None),
        Identity::Asserted => (Some("P-Asserted-Identity"), Some(caller)),
        Identity::Preferred => (Some("P-Preferred-Identity"), Some(caller).filter(|_| !withheld)),
    };
    if let Some(header) = header {
        let known = known.filter(|number| !number.is_empty());
        let is_the_caller = known.is_some();
        if let Some(number) = known.or_else(|| out.from.clone()) {
            let uri = who.caller.uri.as_deref().filter(|_| is_the_caller);
            let name = if is_the_caller && who.caller.asserted { who.caller.name.as_str() } else { "" };
            own.push((header.to_owned(), identities(out, &number, name, uri, &host)));
        }
        let mut privacy = who.caller.privacy;
        privacy.id |= withheld;
        own.extend(privacy.value().map(|value| ("Privacy".to_owned(), value)));
    }
    let brought: Attributes =
        who.brought.iter().filter(|(name, _)| may_follow(name, out, who.caller)).cloned().collect();
    out.headers.apply(&mut own, &brought);
    (from, own)
}

/// One or two values (RFC 3325 9.1), with the caller's name.
fn identities(out: &Outbound, number: &str, name: &str, uri: Option<&str>, host: &str) -> String {
    let sip = uri.map_or_else(
        || {
            let mut sip = "sip:".to_owned();
            escape_user(&mut sip, number);
            format!("{sip}@{host}")
        },
        str::to_owned,
    );
    // RFC 3966 5.1.5: a number that is not global needs the context that it is one in.
    let tel = is_number(number).then_some(number).and_then(|number| match &out.domain {
        _ if number.starts_with('+') => Some(format!("tel:{number}")),
        Some(domain) if !domain.starts_with('[') => Some(format!("tel:{number};phone-context={domain}")),
        _ => None,
    });
    let uris = match (out.identity_uris, tel) {
        (IdentityUris::Tel, Some(tel)) => vec![tel],
        (IdentityUris::Both, Some(tel)) => vec![sip, tel],
        _ => vec![sip],
    };
    let values: Vec<String> = uris.iter().map(|uri| center::name_addr(name, uri)).collect();
    values.join(", ")
}

/// Whether a header is one of these, however its name is written.
fn is_one_of(name: &str, names: &[&str]) -> bool {
    let long = match Name::recognise(name.as_bytes()).as_str() {
        "" => name,
        known => known,
    };
    names.iter().any(|n| n.eq_ignore_ascii_case(long))
}

/// Whether a header of the caller's INVITE may be shown to the router: nothing that says who a withheld caller is.
#[must_use]
pub fn may_be_seen(name: &str, caller: &Caller) -> bool {
    let says_who = is_one_of(name, &OF_IDENTITY) || is_one_of(name, &OF_THE_USER) || is_one_of(name, &NAMES);
    let who = caller.withheld() && says_who && !is_one_of(name, &["Privacy"]);
    let history = caller.privacy.history && is_one_of(name, &OF_HISTORY);
    !(who || history)
}

/// Whether a header of the caller's INVITE may be copied into one that leaves here.
fn may_follow(name: &str, out: &Outbound, caller: &Caller) -> bool {
    let is_of = |names: &[&str]| is_one_of(name, names);
    if is_of(&OF_IDENTITY) {
        // RFC 3325 5: nobody is told what a stranger asserts, nor outside of the trust domain who is withheld.
        // Where we say it ourselves it is not said twice.
        return caller.asserted && !caller.withheld() && out.identity == Identity::None;
    }
    if is_of(&OF_HISTORY) {
        return !caller.privacy.history && out.diversion == Diversion::None;
    }
    !(is_of(&OF_THE_USER) && (caller.privacy.user || caller.privacy.header))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trunk::identity::Privacy;
    use crate::trunk::rules::{HeaderRules, Rewrite};

    fn ann(number: &str) -> Caller {
        Caller { number: number.into(), name: "Ann".into(), ..Caller::default() }
    }

    fn said_of(out: &Outbound, caller: &Caller, brought: &[(&str, &str)]) -> (String, Vec<String>) {
        let brought: Attributes = brought.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let who = Who { caller, brought: &brought };
        let (from, headers) = identify(out, who, "10.0.0.1:5060".parse().unwrap(), Vec::new());
        (from, headers.into_iter().map(|(n, v)| format!("{n}: {v}")).collect())
    }

    fn said(out: &Outbound, caller: &Caller) -> (String, Vec<String>) {
        said_of(out, caller, &[])
    }

    const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

    fn by(identity: Identity) -> Outbound {
        Outbound { identity, domain: Some("carrier.test".into()), ..Outbound::default() }
    }

    #[test]
    fn the_caller_is_shown_as_the_trunk_wants_it() {
        let plain = Outbound::default();
        assert_eq!(said(&plain, &ann("+491")), ("\"Ann\" <sip:+491@10.0.0.1:5060>".into(), vec![]));
        assert_eq!(said(&plain, &ann("")), (ANONYMOUS.into(), vec![]));
        let fixed = Outbound {
            from: Some("100".into()),
            caller: vec![Rewrite::parse("+49* -> 0*").unwrap()],
            ..by(Identity::Asserted)
        };
        let (from, headers) = said(&fixed, &ann("+491"));
        assert_eq!(from, "\"Ann\" <sip:100@carrier.test>");
        assert_eq!(headers, ["P-Asserted-Identity: <sip:01@carrier.test>"]);
    }

    #[test]
    fn a_withheld_number_stays_withheld_and_the_trusted_trunk_is_asked_to_keep_it() {
        let out = Outbound { from: Some("100".into()), identity: Identity::Asserted, ..Outbound::default() };
        let (from, headers) = said(&out, &ann(""));
        assert_eq!(from, ANONYMOUS);
        assert_eq!(headers, ["P-Asserted-Identity: <sip:100@10.0.0.1:5060>", "Privacy: id"]);
    }

    #[test]
    fn privacy_is_honoured_as_the_trunk_is_trusted() {
        let asks = |privacy| Caller { privacy, asserted: true, ..ann("+491") };
        let id = Privacy { id: true, ..Privacy::default() };
        let user = Privacy { user: true, critical: true, ..Privacy::default() };
        for (privacy, passed) in [(id, "Privacy: id"), (user, "Privacy: user;id;critical")] {
            let caller = asks(privacy);
            let (from, headers) = said(&by(Identity::Asserted), &caller);
            let asserted = "P-Asserted-Identity: \"Ann\" <sip:+491@carrier.test>";
            assert_eq!((from.as_str(), headers), (ANONYMOUS, vec![asserted.to_owned(), passed.to_owned()]));
            assert_eq!(said(&by(Identity::None), &caller), (ANONYMOUS.into(), vec![]));
            let ours = Outbound { from: Some("100".into()), ..by(Identity::Preferred) };
            let expected = ["P-Preferred-Identity: <sip:100@carrier.test>", passed];
            assert_eq!(said(&ours, &caller), (ANONYMOUS.into(), expected.map(str::to_owned).to_vec()));
            assert_eq!(said(&by(Identity::Preferred), &caller).1, [passed], "nobody is preferred");
        }
        // RFC 3323 4.2: no privacy is asked for, and nobody after us may give it.
        let none = asks(Privacy { none: true, ..Privacy::default() });
        let (from, headers) = said(&by(Identity::Asserted), &none);
        assert_eq!(
            (from.as_str(), headers[1].as_str()),
            ("\"Ann\" <sip:+491@carrier.test>", "Privacy: none")
        );
    }

    #[test]
    fn an_identity_is_a_sip_uri_a_tel_uri_or_both() {
        let of = |uris, number: &str, caller: &Caller| {
            let out = Outbound { identity_uris: uris, ..by(Identity::Asserted) };
            said(&out, &Caller { number: number.into(), ..caller.clone() }).1[0].clone()
        };
        let (plain, header) = (ann(""), "P-Asserted-Identity:");
        assert_eq!(of(IdentityUris::Tel, "+491", &plain), format!("{header} <tel:+491>"));
        let both = format!("{header} <sip:+491@carrier.test>, <tel:+491>");
        assert_eq!(of(IdentityUris::Both, "+491", &plain), both);
        let local = format!("{header} <tel:091;phone-context=carrier.test>");
        assert_eq!(of(IdentityUris::Tel, "091", &plain), local);
        assert_eq!(of(IdentityUris::Both, "ann", &plain), format!("{header} <sip:ann@carrier.test>"));
        // What a trusted trunk has asserted and is no number goes on as it is.
        let home = Caller { uri: Some("sip:ann@home.test".into()), asserted: true, ..plain };
        let both = format!("{header} \"Ann\" <sip:ann@home.test>, \"Ann\" <tel:+491>");
        assert_eq!(of(IdentityUris::Both, "+491", &home), both);
    }

    #[test]
    fn no_copied_header_gives_away_who_is_withheld() {
        let copy = ["P-Asserted-Identity", "Remote-Party-ID", "Subject", "X-Ref"].map(str::to_owned).to_vec();
        let headers = HeaderRules { copy, ..HeaderRules::default() };
        let brought = [
            ("P-Asserted-Identity", "<sip:+491@x>"),
            ("Remote-Party-ID", "<sip:+491@x>"),
            ("Subject", "s"),
            ("X-Ref", "7"),
        ];
        let copied = |identity, caller: &Caller| -> Vec<String> {
            let out = Outbound { headers: headers.clone(), ..by(identity) };
            let said = said_of(&out, caller, &brought).1;
            said.iter().map(|h| h.split(':').next().unwrap().to_owned()).collect()
        };
        let asserted = Caller { asserted: true, ..ann("+491") };
        let all = ["P-Asserted-Identity", "Remote-Party-ID", "Subject", "X-Ref"];
        assert_eq!(copied(Identity::None, &asserted), all);
        assert_eq!(copied(Identity::None, &ann("+491")), ["Subject", "X-Ref"], "nobody has vouched for it");
        let mut hidden = asserted.clone();
        hidden.privacy.id = true;
        assert_eq!(copied(Identity::None, &hidden), ["Subject", "X-Ref"]);
        hidden.privacy.user = true;
        assert_eq!(copied(Identity::None, &hidden), ["X-Ref"]);
        assert_eq!(copied(Identity::Asserted, &asserted), ["P-Asserted-Identity", "Subject", "X-Ref"]);
    }
}

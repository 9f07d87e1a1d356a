//! Who is said to call on an INVITE that leaves by a trunk: From, identity and privacy (RFC 3325, RFC 3323),
//! and the trunk's header rules.
//!
//! Called by the shard for each attempt. Never sends anything.

use std::net::SocketAddr;

use super::hunt::escape_user;
use super::rules;
use super::terms::{Identity, Outbound};
use crate::Attributes;
use crate::center;

/// The caller of a call that goes out.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The number, empty when withheld.
    pub number: &'a str,
    /// The name, empty when there is none.
    pub name: &'a str,
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
    let caller = rules::normalised(&out.caller, who.number.to_owned());
    let withheld = caller.is_empty();
    let shown = match &out.from {
        Some(fixed) if !withheld || out.identity == Identity::None => fixed.clone(),
        _ => caller.clone(),
    };
    let name = if out.from.is_some() && withheld { "" } else { who.name };
    let from = center::from_header_at(&shown, name, &host);
    let header = match out.identity {
        Identity::None => None,
        Identity::Asserted => Some("P-Asserted-Identity"),
        Identity::Preferred => Some("P-Preferred-Identity"),
    };
    if let Some(header) = header {
        // RFC 3325 9.1: what is asserted is there for the network, whatever the other party may see.
        let known = if withheld { out.from.clone() } else { Some(caller) };
        if let Some(number) = known {
            let mut uri = "<sip:".to_owned();
            escape_user(&mut uri, &number);
            own.push((header.to_owned(), format!("{uri}@{host}>")));
        }
        if withheld {
            own.push(("Privacy".to_owned(), "id".to_owned()));
        }
    }
    out.headers.apply(&mut own, who.brought);
    (from, own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trunk::rules::Rewrite;

    fn said(out: &Outbound, number: &str) -> (String, Vec<String>) {
        let who = Who { number, name: "Ann", brought: &Attributes::new() };
        let (from, headers) = identify(out, who, "10.0.0.1:5060".parse().unwrap(), Vec::new());
        (from, headers.into_iter().map(|(n, v)| format!("{n}: {v}")).collect())
    }

    #[test]
    fn the_caller_is_shown_as_the_trunk_wants_it() {
        let plain = Outbound::default();
        assert_eq!(said(&plain, "+491"), ("\"Ann\" <sip:+491@10.0.0.1:5060>".into(), vec![]));
        let (from, headers) = said(&plain, "");
        assert!(from.contains("anonymous.invalid") && headers.is_empty());
        let fixed = Outbound {
            from: Some("100".into()),
            domain: Some("carrier.test".into()),
            caller: vec![Rewrite::parse("+49* -> 0*").unwrap()],
            identity: Identity::Asserted,
            ..plain
        };
        let (from, headers) = said(&fixed, "+491");
        assert_eq!(from, "\"Ann\" <sip:100@carrier.test>");
        assert_eq!(headers, ["P-Asserted-Identity: <sip:01@carrier.test>"]);
    }

    #[test]
    fn a_withheld_number_stays_withheld_and_the_trusted_trunk_is_asked_to_keep_it() {
        let out = Outbound { from: Some("100".into()), identity: Identity::Asserted, ..Outbound::default() };
        let (from, headers) = said(&out, "");
        assert!(from.contains("anonymous.invalid"), "{from}");
        assert_eq!(headers, ["P-Asserted-Identity: <sip:100@10.0.0.1:5060>", "Privacy: id"]);
    }
}

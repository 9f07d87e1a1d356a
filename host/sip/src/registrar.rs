//! The decisions of a registrar (RFC 3261 10.3), and the bindings of one address-of-record.
//!
//! Called by whoever owns the phones' addresses (the domain), with a REGISTER that has been
//! authenticated. Sends nothing and keeps no time: what is due is asked with the clock as an
//! argument. Deadlines are wall time, since bindings outlive the process.

use std::net::SocketAddr;

use cordboard_base::Now;
use serde::{Deserialize, Serialize};

use crate::wire::{Message, Name, NameAddr, Uri};

/// What a registrar allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Shorter times get 423 (10.3 step 7); the RFC lets only times below an hour be refused.
    pub min_expires_s: u32,
    /// Longer times are cut to this.
    pub max_expires_s: u32,
    /// When the phone names no time.
    pub default_expires_s: u32,
    /// How many contacts an address may have; the one that ends first gives way.
    pub max_contacts: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { min_expires_s: 60, max_expires_s: 7_200, default_expires_s: 3_600, max_contacts: 10 }
    }
}

/// One contact of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The Contact URI as the phone wrote it.
    pub uri: String,
    /// `+sip.instance` without its quotes (RFC 5626 4.1): the phone itself, whatever its address.
    pub instance: Option<String>,
    /// `reg-id` (RFC 5626 4.2): which of the phone's flows.
    pub reg_id: u32,
    /// Preference in thousandths.
    pub q_milli: u16,
    /// When it ends, wall clock.
    pub expires_at_ms: i64,
    /// Call-ID of the REGISTER that made or renewed it.
    pub call_id: String,
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// The listener that the REGISTER came in by.
    pub listener: u16,
    /// Where it came from: where the phone can be reached behind a NAT.
    pub source: SocketAddr,
    /// The phone's User-Agent.
    pub user_agent: Option<String>,
}

/// The bindings of one address-of-record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bindings {
    list: Vec<Binding>,
}

/// What a REGISTER did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Contacts that were not bound before.
    pub added: usize,
    /// Contacts whose time was renewed.
    pub refreshed: usize,
    /// Contacts that were taken away.
    pub removed: usize,
}

/// A REGISTER that is refused; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status to answer.
    pub status: u16,
    /// A header that the answer must have.
    pub header: Option<(&'static str, String)>,
    /// Why, for the log.
    pub reason: &'static str,
}

impl Refusal {
    fn new(status: u16, reason: &'static str) -> Self {
        Self { status, header: None, reason }
    }
}

/// The address-of-record of a REGISTER (10.3 step 5: the To URI, parameters removed, escapes resolved),
/// with the host in lower case. `None` when To is no SIP URI.
#[must_use]
pub fn address_of_record(request: &Message) -> Option<String> {
    let to = request.to()?;
    let uri = Uri::parse(to.uri).ok().filter(Uri::is_sip)?;
    let host = uri.host.to_ascii_lowercase();
    Some(match uri.user {
        Some(_) => format!("sip:{}@{host}", uri.user_text()),
        None => format!("sip:{host}"),
    })
}

impl Bindings {
    /// Carries a REGISTER out, whole or not at all (10.3 step 7).
    ///
    /// # Errors
    /// 400 for contacts that cannot be read or a bad `*`, 423 for a time that is too short, 500 for a
    /// REGISTER that is older than what it would change.
    pub fn register(
        &mut self,
        now: Now,
        request: &Message,
        listener: u16,
        source: SocketAddr,
        policy: &Policy,
    ) -> Result<Outcome, Refusal> {
        let cseq = request.cseq().map_or(0, |(n, _)| n);
        let call_id = request.call_id();
        let mut next = self.clone();
        next.expire(now);
        let mut outcome = Outcome::default();
        let values: Vec<&str> = request.headers(Name::Contact).collect();
        if values.contains(&"*") {
            // "the registrar checks that ... the Expires ... value of zero" and that it stands alone.
            if values.len() > 1 || request.expires() != Some(0) {
                return Err(Refusal::new(400, "`*` must stand alone, with Expires: 0"));
            }
            if next.list.iter().any(|b| b.is_newer_than(call_id, cseq)) {
                return Err(Refusal::new(500, "the REGISTER is older than a binding it would remove"));
            }
            outcome.removed = next.list.len();
            next.list.clear();
            *self = next;
            return Ok(outcome);
        }
        for value in values {
            let contact = NameAddr::parse(value).ok_or(Refusal::new(400, "a Contact cannot be read"))?;
            let uri = Uri::parse(contact.uri).map_err(|_| Refusal::new(400, "a Contact is no URI"))?;
            let wanted_s = contact.expires_s().or(request.expires()).unwrap_or(policy.default_expires_s);
            // "If and only if the requested expiration interval is greater than zero AND smaller than one
            // hour AND less than a registrar-configured minimum, the registrar MAY reject".
            if wanted_s > 0 && wanted_s < 3_600 && wanted_s < policy.min_expires_s {
                return Err(Refusal {
                    status: 423,
                    header: Some(("Min-Expires", policy.min_expires_s.to_string())),
                    reason: "the time is shorter than min_expires_s",
                });
            }
            let instance = contact.param("+sip.instance").map(|i| i.trim_matches('"').to_owned());
            let reg_id = contact.param("reg-id").and_then(|r| r.parse().ok()).unwrap_or(0);
            let known = next.list.iter().position(|b| b.is_same(&uri, instance.as_deref(), reg_id));
            if known.is_some_and(|i| next.list[i].is_newer_than(call_id, cseq)) {
                return Err(Refusal::new(500, "the REGISTER is older than the binding it would change"));
            }
            let before = known.map(|i| next.list.remove(i));
            match (&before, wanted_s) {
                (Some(_), 0) => outcome.removed += 1,
                (None, 0) => {}
                (Some(_), _) => outcome.refreshed += 1,
                (None, _) => outcome.added += 1,
            }
            if wanted_s == 0 {
                continue;
            }
            let life_ms = i64::from(wanted_s.min(policy.max_expires_s)) * 1_000;
            next.list.push(Binding {
                uri: contact.uri.to_owned(),
                instance,
                reg_id,
                q_milli: contact.q_milli(),
                expires_at_ms: now.wall_ms.saturating_add(life_ms),
                call_id: call_id.to_owned(),
                cseq,
                listener,
                source,
                user_agent: request.header(Name::UserAgent).map(str::to_owned),
            });
            if next.list.len() > policy.max_contacts {
                let soonest = (0..next.list.len()).min_by_key(|i| next.list[*i].expires_at_ms).unwrap_or(0);
                next.list.remove(soonest);
                outcome.removed += 1;
            }
        }
        *self = next;
        Ok(outcome)
    }

    /// Takes away what has run out; how many.
    pub fn expire(&mut self, now: Now) -> usize {
        let before = self.list.len();
        self.list.retain(|b| b.expires_at_ms > now.wall_ms);
        before - self.list.len()
    }

    /// When the next binding runs out, wall clock.
    #[must_use]
    pub fn next_expiry_ms(&self) -> Option<i64> {
        self.list.iter().map(|b| b.expires_at_ms).min()
    }

    /// The live bindings, best first: by q, then the one renewed last.
    #[must_use]
    pub fn best_first(&self, now: Now) -> Vec<&Binding> {
        let mut live: Vec<&Binding> =
            self.list.iter().rev().filter(|b| b.expires_at_ms > now.wall_ms).collect();
        live.sort_by_key(|b| std::cmp::Reverse(b.q_milli));
        live
    }

    /// Whether nothing is bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The Contact values of the 200 (10.3 step 8): every binding, with the seconds that it still has.
    #[must_use]
    pub fn contact_values(&self, now: Now) -> Vec<String> {
        let live = self.list.iter().filter(|b| b.expires_at_ms > now.wall_ms);
        live.map(|b| {
            let left_s = (b.expires_at_ms - now.wall_ms + 999) / 1_000;
            let mut value = format!("<{}>;expires={left_s}", b.uri);
            if b.q_milli < 1000 {
                value.push_str(&format!(";q=0.{:03}", b.q_milli));
            }
            if let Some(instance) = &b.instance {
                value.push_str(&format!(";+sip.instance=\"{instance}\""));
                if b.reg_id > 0 {
                    value.push_str(&format!(";reg-id={}", b.reg_id));
                }
            }
            value
        })
        .collect()
    }
}

impl Binding {
    /// The same phone (RFC 5626 6: instance and flow), or the same URI (19.1.4).
    fn is_same(&self, uri: &Uri<'_>, instance: Option<&str>, reg_id: u32) -> bool {
        match (&self.instance, instance) {
            (Some(mine), Some(theirs)) => mine == theirs && self.reg_id == reg_id,
            _ => Uri::parse(&self.uri).is_ok_and(|mine| mine.same_as(uri)),
        }
    }

    /// "if the Call-ID ... agree, the CSeq must be higher": a REGISTER that was overtaken changes nothing.
    fn is_newer_than(&self, call_id: &str, cseq: u32) -> bool {
        self.call_id == call_id && self.cseq >= cseq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn register(cseq: u32, rest: &str) -> Message {
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\n\
             From: <sip:ann@example.com>;tag=1\nTo: <sip:%41nn@Example.com;x=1>\nCall-ID: c\n\
             CSeq: {cseq} REGISTER\n{rest}\n\n"
        );
        Message::parse(Bytes::from(text.replace('\n', "\r\n"))).unwrap()
    }

    fn at(s: i64) -> Now {
        Now { mono_ns: 0, wall_ms: s * 1_000 }
    }

    fn apply(bindings: &mut Bindings, now: Now, cseq: u32, rest: &str) -> Result<Outcome, Refusal> {
        let source = "192.0.2.1:5060".parse().unwrap();
        bindings.register(now, &register(cseq, rest), 0, source, &Policy::default())
    }

    fn outcome(added: usize, refreshed: usize, removed: usize) -> Result<Outcome, Refusal> {
        Ok(Outcome { added, refreshed, removed })
    }

    #[test]
    fn the_address_is_the_to_uri_without_parameters_and_escapes() {
        assert_eq!(address_of_record(&register(1, "")).as_deref(), Some("sip:Ann@example.com"));
    }

    #[test]
    fn bindings_are_added_refreshed_listed_removed_and_run_out() {
        let mut b = Bindings::default();
        let two = "Contact: <sip:ann@192.0.2.1:5062>;expires=120;q=0.5, <sip:ann@192.0.2.3>\nExpires: 300";
        assert_eq!(apply(&mut b, at(0), 1, two), outcome(2, 0, 0));
        assert_eq!(
            b.contact_values(at(20)),
            ["<sip:ann@192.0.2.1:5062>;expires=100;q=0.500", "<sip:ann@192.0.2.3>;expires=280"]
        );
        assert_eq!(b.best_first(at(20))[0].uri, "sip:ann@192.0.2.3");
        assert_eq!(apply(&mut b, at(20), 2, ""), outcome(0, 0, 0), "a query changes nothing");
        // The same URI, written in another way (19.1.4).
        assert_eq!(
            apply(&mut b, at(20), 3, "Contact: <SIP:ann@192.0.2.1:5062>;expires=600"),
            outcome(0, 1, 0)
        );
        assert_eq!(b.next_expiry_ms(), Some(300_000));
        assert_eq!((b.expire(at(299)), b.expire(at(300))), (0, 1));
        assert_eq!(
            apply(&mut b, at(300), 4, "Contact: <sip:ann@192.0.2.1:5062>;expires=0"),
            outcome(0, 0, 1)
        );
        assert!(b.is_empty());
    }

    #[test]
    fn too_short_is_refused_with_the_minimum_and_too_long_is_cut() {
        let mut b = Bindings::default();
        let refusal = apply(&mut b, at(0), 1, "Contact: <sip:a@192.0.2.1>;expires=59").unwrap_err();
        assert_eq!((refusal.status, refusal.header), (423, Some(("Min-Expires", "60".to_owned()))));
        assert!(b.is_empty());
        assert_eq!(
            apply(&mut b, at(0), 2, "Contact: <sip:a@192.0.2.1>\nExpires: 4000000000"),
            outcome(1, 0, 0)
        );
        assert_eq!(b.next_expiry_ms(), Some(7_200_000));
    }

    #[test]
    fn a_star_removes_all_and_only_with_expires_zero_and_alone() {
        let mut b = Bindings::default();
        apply(&mut b, at(0), 1, "Contact: <sip:a@192.0.2.1>, <sip:b@192.0.2.1>").unwrap();
        for bad in ["Contact: *", "Contact: *\nExpires: 1", "Contact: *, <sip:c@192.0.2.1>\nExpires: 0"] {
            assert_eq!(apply(&mut b, at(0), 9, bad).unwrap_err().status, 400, "{bad}");
        }
        assert_eq!(apply(&mut b, at(0), 1, "Contact: *\nExpires: 0").unwrap_err().status, 500);
        assert_eq!(b.contact_values(at(0)).len(), 2);
        assert_eq!(apply(&mut b, at(0), 2, "Contact: *\nExpires: 0"), outcome(0, 0, 2));
    }

    #[test]
    fn an_overtaken_register_changes_nothing_at_all() {
        let mut b = Bindings::default();
        apply(&mut b, at(0), 5, "Contact: <sip:a@192.0.2.1>;expires=600").unwrap();
        let before = b.clone();
        let late = "Contact: <sip:new@192.0.2.1>, <sip:a@192.0.2.1>;expires=0";
        assert_eq!(apply(&mut b, at(1), 4, late).unwrap_err().status, 500);
        assert_eq!(b, before);
    }

    #[test]
    fn a_phone_that_moved_replaces_itself_by_its_instance() {
        let mut b = Bindings::default();
        let at_port =
            |port: u16| format!("Contact: <sip:a@192.0.2.1:{port}>;+sip.instance=\"<urn:uuid:1>\";reg-id=1");
        assert_eq!(apply(&mut b, at(0), 1, &at_port(1111)), outcome(1, 0, 0));
        assert_eq!(apply(&mut b, at(0), 2, &at_port(2222)), outcome(0, 1, 0));
        assert_eq!(
            b.contact_values(at(0)),
            ["<sip:a@192.0.2.1:2222>;expires=3600;+sip.instance=\"<urn:uuid:1>\";reg-id=1"]
        );
    }

    #[test]
    fn the_contact_that_ends_first_gives_way_to_one_too_many() {
        let mut b = Bindings::default();
        for i in 0..11 {
            let contact = format!("Contact: <sip:a@192.0.2.1:{}>;expires={}", 5000 + i, 1_000 + i);
            apply(&mut b, at(0), i + 1, &contact).unwrap();
        }
        assert_eq!(b.contact_values(at(0)).len(), 10);
        assert!(!b.contact_values(at(0)).iter().any(|c| c.contains(":5000>")));
    }
}

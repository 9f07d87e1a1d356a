//! Where agents' phones are: a registrar's bindings (RFC 3261 10.3) for one tenant.
//!
//! Called by the domain for REGISTERs whose digest the shard has found right. Expiry is wall time,
//! so that a binding survives a restart. Never answers by itself.

use std::collections::BTreeMap;

use cordboard_sip::wire::Uri;

use crate::facts::Edge;
use crate::messages::{Contact, Flow, Register};

/// Phones at once behind one user.
pub(crate) const MAX_CONTACTS: usize = 10;
/// The longest that a binding lasts unrefreshed; a longer wish is cut (RFC 3261 10.3 step 7).
pub(crate) const MAX_EXPIRES_S: u32 = 7_200;

/// One phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) uri: String,
    pub(crate) flow: Flow,
    pub(crate) expires_ms: i64,
    q: u16,
    instance: Option<String>,
    reg_id: u32,
    /// Empty after a restart: then any REGISTER may change it.
    call_id: String,
    cseq: u32,
}

impl Binding {
    /// The same phone and flow (RFC 5626 6), or the same URI.
    fn is(&self, contact: &Contact) -> bool {
        match (&self.instance, &contact.instance) {
            (Some(mine), Some(theirs)) if self.reg_id > 0 && contact.reg_id > 0 => {
                mine == theirs && self.reg_id == contact.reg_id
            }
            _ => self.uri == contact.uri,
        }
    }

    /// What a later life of the process can use of the flow.
    pub(crate) fn edge(&self) -> Edge {
        Edge { listener: self.flow.listener, remote: self.flow.remote }
    }

    /// Until when a later life may count on it: a connection dies with this one.
    pub(crate) fn durable_ms(&self) -> i64 {
        if self.flow.connection.is_some() { 0 } else { self.expires_ms }
    }
}

/// All bindings of a tenant, by address-of-record user.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    users: BTreeMap<String, Vec<Binding>>,
}

/// A refused REGISTER, by its SIP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) u16);

impl Bindings {
    /// Applies a REGISTER whole or not at all; what changed is returned, for the journal: a removed
    /// binding comes with an expiry in the past.
    pub(crate) fn register(&mut self, wall_ms: i64, register: &Register) -> Result<Vec<Binding>, Refused> {
        let mut phones = self.users.get(&register.user).cloned().unwrap_or_default();
        phones.retain(|b| b.expires_ms > wall_ms);
        let mut changed = Vec::new();
        if register.remove_all {
            // Step 6: the same Call-ID needs a higher CSeq.
            if phones.iter().any(|b| b.call_id == register.call_id && b.cseq >= register.cseq) {
                return Err(Refused(500));
            }
            changed.extend(phones.drain(..).map(|b| Binding { expires_ms: 0, ..b }));
        }
        for contact in &register.contacts {
            let known = phones.iter().position(|b| b.is(contact));
            // Step 7: an old request may not undo a newer one of the same phone.
            if known.is_some_and(|i| {
                phones[i].call_id == register.call_id
                    && phones[i].cseq > register.cseq
                    && !register.call_id.is_empty()
            }) {
                return Err(Refused(500));
            }
            let expires_ms = match contact.expires_s {
                0 => 0,
                s => wall_ms + i64::from(s.min(MAX_EXPIRES_S)) * 1_000,
            };
            let binding = Binding {
                uri: contact.uri.clone(),
                flow: register.flow,
                expires_ms,
                q: contact.q,
                instance: contact.instance.clone(),
                reg_id: contact.reg_id,
                call_id: register.call_id.clone(),
                cseq: register.cseq,
            };
            match known {
                Some(i) if expires_ms == 0 => {
                    phones.remove(i);
                }
                Some(i) => {
                    let before = std::mem::replace(&mut phones[i], binding.clone());
                    // The phone has moved: its former URI means nothing any more.
                    if before.uri != binding.uri {
                        changed.push(Binding { expires_ms: 0, ..before });
                    }
                }
                None if expires_ms == 0 => continue,
                None if phones.len() >= MAX_CONTACTS => return Err(Refused(403)),
                None => phones.push(binding.clone()),
            }
            changed.push(binding);
        }
        self.put(&register.user, phones);
        Ok(changed)
    }

    /// Takes up a binding of a former life.
    pub(crate) fn restore(&mut self, user: &str, uri: &str, edge: Edge, expires_ms: i64, wall_ms: i64) {
        let mut phones = self.users.remove(user).unwrap_or_default();
        phones.retain(|b| b.uri != uri);
        if expires_ms > wall_ms && phones.len() < MAX_CONTACTS {
            phones.push(Binding {
                uri: uri.to_owned(),
                flow: Flow::udp(edge.listener, edge.remote),
                expires_ms,
                q: 1_000,
                instance: None,
                reg_id: 0,
                call_id: String::new(),
                cseq: 0,
            });
        }
        self.put(user, phones);
    }

    /// Drops the phones of a connection; the users who have none left.
    pub(crate) fn close(&mut self, flow: Flow, wall_ms: i64) -> Vec<String> {
        let on_it = |b: &Binding| b.flow.connection.is_some() && b.flow.connection == flow.connection;
        let affected: Vec<String> = self
            .users
            .iter()
            .filter(|(_, phones)| phones.iter().any(on_it))
            .map(|(u, _)| u.clone())
            .collect();
        for user in &affected {
            if let Some(phones) = self.users.get_mut(user) {
                phones.retain(|b| !on_it(b));
            }
        }
        affected.into_iter().filter(|user| self.expire(user, wall_ms)).collect()
    }

    /// Drops what has expired; true when the user has no phone left.
    pub(crate) fn expire(&mut self, user: &str, wall_ms: i64) -> bool {
        let Some(mut phones) = self.users.remove(user) else { return true };
        phones.retain(|b| b.expires_ms > wall_ms);
        let gone = phones.is_empty();
        self.put(user, phones);
        gone
    }

    /// The phone to ring: the highest q, then the latest refreshed.
    pub(crate) fn best(&self, user: &str, wall_ms: i64) -> Option<&Binding> {
        self.users.get(user)?.iter().filter(|b| b.expires_ms > wall_ms).max_by_key(|b| (b.q, b.expires_ms))
    }

    /// The phone that has registered this contact.
    pub(crate) fn at(&self, uri: &str, wall_ms: i64) -> Option<&Binding> {
        let uri = Uri::parse(uri).ok()?;
        let is = |b: &&Binding| b.expires_ms > wall_ms && Uri::parse(&b.uri).is_ok_and(|b| b.same_as(&uri));
        self.users.values().flatten().find(is)
    }

    /// The next expiry of a user's phones.
    pub(crate) fn next_expiry_ms(&self, user: &str) -> Option<i64> {
        self.users.get(user)?.iter().map(|b| b.expires_ms).min()
    }

    /// Contacts with their remaining seconds, for the 200.
    pub(crate) fn contacts(&self, user: &str, wall_ms: i64) -> Vec<Contact> {
        let live = self.users.get(user).into_iter().flatten().filter(|b| b.expires_ms > wall_ms);
        live.map(|b| Contact {
            uri: b.uri.clone(),
            expires_s: ((b.expires_ms - wall_ms + 999) / 1_000) as u32,
            q: b.q,
            instance: b.instance.clone(),
            reg_id: b.reg_id,
        })
        .collect()
    }

    /// Every binding, for a snapshot.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &Binding)> {
        self.users.iter().flat_map(|(user, phones)| phones.iter().map(move |b| (user, b)))
    }

    /// Users with a binding.
    pub(crate) fn users(&self) -> impl Iterator<Item = &String> {
        self.users.keys()
    }

    fn put(&mut self, user: &str, phones: Vec<Binding>) {
        if phones.is_empty() {
            self.users.remove(user);
        } else {
            self.users.insert(user.to_owned(), phones);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(uri: &str, expires_s: u32) -> Contact {
        Contact { uri: uri.to_owned(), expires_s, q: 1_000, instance: None, reg_id: 0 }
    }

    fn register(call_id: &str, cseq: u32, contacts: &[(&str, u32)]) -> Register {
        Register {
            request: 1,
            tenant: "acme".into(),
            user: "alice".into(),
            call_id: call_id.into(),
            cseq,
            remove_all: false,
            contacts: contacts.iter().map(|(uri, s)| contact(uri, *s)).collect(),
            flow: Flow::udp(2, "127.0.0.1:5070".parse().expect("an address")),
        }
    }

    #[test]
    fn a_refresh_replaces_and_a_zero_expiry_removes() {
        let mut b = Bindings::default();
        assert_eq!(b.register(0, &register("c", 1, &[("sip:a@h", 60)])).map(|c| c.len()), Ok(1));
        assert_eq!(b.contacts("alice", 0), [contact("sip:a@h", 60)]);
        assert_eq!(b.register(30_000, &register("c", 2, &[("sip:a@h", 60)])).map(|c| c.len()), Ok(1));
        assert_eq!(b.contacts("alice", 31_000), [contact("sip:a@h", 59)]);
        let gone = b.register(32_000, &register("c", 3, &[("sip:a@h", 0)])).expect("accepted");
        assert_eq!(gone[0].expires_ms, 0);
        assert!(b.best("alice", 32_000).is_none());
    }

    #[test]
    fn an_older_request_of_the_same_phone_changes_nothing() {
        let mut b = Bindings::default();
        b.register(0, &register("c", 5, &[("sip:a@h", 60)])).expect("accepted");
        assert_eq!(b.register(0, &register("c", 4, &[("sip:b@h", 60), ("sip:a@h", 0)])), Err(Refused(500)));
        assert_eq!(b.contacts("alice", 0), [contact("sip:a@h", 60)], "refused whole");
    }

    #[test]
    fn expiry_is_wall_time_and_phones_are_bounded() {
        let mut b = Bindings::default();
        b.register(0, &register("c", 1, &[("sip:a@h", 10)])).expect("accepted");
        assert!(b.best("alice", 9_999).is_some() && b.best("alice", 10_000).is_none());
        assert!(b.expire("alice", 10_000));
        let many: Vec<String> = (0..=MAX_CONTACTS).map(|i| format!("sip:{i}@h")).collect();
        let many: Vec<(&str, u32)> = many.iter().map(|u| (u.as_str(), 60)).collect();
        assert_eq!(b.register(0, &register("d", 1, &many)), Err(Refused(403)));
        assert_eq!(b.contacts("alice", 0).len(), 0, "refused whole");
    }

    #[test]
    fn a_phone_that_comes_back_by_another_connection_replaces_itself_and_leaves_with_it() {
        let mut b = Bindings::default();
        let over = |connection: u64, uri: &str| {
            let named = Contact { instance: Some("<urn:uuid:1>".into()), reg_id: 1, ..contact(uri, 60) };
            let flow = Flow { connection: Some(connection), ..register("c", 1, &[]).flow };
            Register { contacts: vec![named], flow, ..register(&format!("c{connection}"), 1, &[]) }
        };
        b.register(0, &over(7, "sip:x@one.invalid")).expect("accepted");
        let changed = b.register(0, &over(8, "sip:x@two.invalid")).expect("accepted");
        assert_eq!(changed.len(), 2, "the former URI is taken away");
        assert_eq!(b.contacts("alice", 0).len(), 1);
        assert!(changed.iter().all(|c| c.durable_ms() == 0), "no connection outlives the process");
        let closed = |n| Flow { connection: Some(n), ..over(n, "").flow };
        assert!(b.close(closed(7), 0).is_empty(), "it has moved from there");
        assert_eq!(b.close(closed(8), 0), ["alice"]);
        assert!(b.best("alice", 0).is_none());
    }

    #[test]
    fn a_star_removes_all() {
        let mut b = Bindings::default();
        b.register(0, &register("c", 1, &[("sip:a@h", 60), ("sip:b@h", 60)])).expect("accepted");
        let all = Register { remove_all: true, ..register("c", 2, &[]) };
        assert_eq!(b.register(0, &all).map(|c| c.len()), Ok(2));
        assert_eq!(b.contacts("alice", 0).len(), 0);
    }
}

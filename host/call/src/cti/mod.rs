//! The order of events: what desktops and adapters are told, numbered for each tenant.
//!
//! Called by the domain when something has happened that others may hear. Keeps nothing but the
//! numbers: a block of them is journaled ahead, so that they grow over restarts too.

use cordboard_base::Id;
use serde::Serialize;

use crate::Name;
use crate::events::Event;

/// Numbers that one fact reserves.
pub(crate) const BLOCK: u64 = 1_024;

/// The numbering of one tenant's events.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    last: u64,
    reserved: u64,
}

impl Sequence {
    /// Takes up where a former life may have ended.
    pub(crate) fn restore(&mut self, up_to: u64) {
        self.last = self.last.max(up_to);
        self.reserved = self.reserved.max(up_to);
    }

    /// The next number, and a new reservation to write down first if the block is used up.
    pub(crate) fn next(&mut self) -> (u64, Option<u64>) {
        self.last += 1;
        if self.last > self.reserved {
            self.reserved = self.last + BLOCK - 1;
            return (self.last, Some(self.reserved));
        }
        (self.last, None)
    }

    /// What the journal holds.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved
    }
}

/// Composes an event.
pub(crate) fn event<D: Serialize>(
    sequence: u64,
    tenant: &Name,
    wall_ms: i64,
    subject: Subject<'_>,
    kind: &str,
    data: &D,
) -> Event {
    let (interaction, subject) = match subject {
        Subject::Interaction(id) => (Some(id), id.to_string()),
        Subject::Agent(name) => (None, format!("agent/{name}")),
    };
    Event {
        sequence,
        tenant: tenant.clone(),
        kind: kind.to_owned(),
        interaction,
        subject,
        wall_ms,
        // Plain structs of strings and numbers: there is nothing that could fail.
        data: serde_json::to_string(data).unwrap_or_else(|_| "{}".to_owned()),
    }
}

/// What an event is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    Interaction(Id),
    Agent(&'a str),
}

/// The data of each kind of event, as JSON objects.
pub(crate) mod data {
    use std::collections::BTreeMap;

    use cordboard_base::Id;
    use serde::{Serialize, Serializer};

    use crate::Attributes;
    use crate::commands::AgentStateName;

    fn object<S: Serializer>(attributes: &&Attributes, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(attributes.iter().map(|(k, v)| (k, v)).collect::<BTreeMap<_, _>>())
    }

    /// `call.new`, `interaction.created`
    #[derive(Serialize)]
    pub(crate) struct Call<'a> {
        pub(crate) interaction: Id,
        pub(crate) trunk: &'a str,
        pub(crate) caller: &'a str,
        pub(crate) caller_name: &'a str,
        pub(crate) called: &'a str,
        pub(crate) call_id: &'a str,
        #[serde(serialize_with = "object")]
        pub(crate) attributes: &'a Attributes,
    }

    /// `queue.entered`
    #[derive(Serialize)]
    pub(crate) struct Entered<'a> {
        pub(crate) ticket: Id,
        pub(crate) workgroup: &'a str,
        pub(crate) position: u32,
        pub(crate) wait_s: Option<u32>,
        pub(crate) priority: u8,
        pub(crate) direct: bool,
        pub(crate) called_back: bool,
    }

    /// `queue.left`
    #[derive(Serialize)]
    pub(crate) struct Left<'a> {
        pub(crate) ticket: Id,
        pub(crate) workgroup: &'a str,
        pub(crate) reason: &'a str,
        pub(crate) waited_ms: u64,
    }

    /// `agent.offered`: the screen-pop.
    #[derive(Serialize)]
    pub(crate) struct Offered<'a> {
        pub(crate) agent: &'a str,
        pub(crate) token: Id,
        pub(crate) ticket: Id,
        pub(crate) workgroup: &'a str,
        pub(crate) caller: &'a str,
        pub(crate) caller_name: &'a str,
        pub(crate) called: &'a str,
        pub(crate) waited_ms: u64,
        #[serde(serialize_with = "object")]
        pub(crate) attributes: &'a Attributes,
    }

    /// `offer.ended`, `call.bridged`, `call.returned`
    #[derive(Serialize)]
    pub(crate) struct Offer<'a> {
        pub(crate) agent: &'a str,
        pub(crate) token: Id,
        pub(crate) ticket: Id,
        pub(crate) workgroup: &'a str,
        pub(crate) result: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(crate) rang_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(crate) talked_ms: Option<u64>,
    }

    /// `agent.state`
    #[derive(Serialize)]
    pub(crate) struct State<'a> {
        pub(crate) agent: &'a str,
        pub(crate) state: AgentStateName,
        pub(crate) reason: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(crate) interaction: Option<Id>,
    }

    /// `attributes.changed`; an empty value was removed.
    #[derive(Serialize)]
    pub(crate) struct Changed<'a> {
        #[serde(serialize_with = "object")]
        pub(crate) attributes: &'a Attributes,
    }

    /// `call.ended`
    #[derive(Serialize)]
    pub(crate) struct Ended<'a> {
        pub(crate) cause: u8,
        pub(crate) by: &'a str,
        pub(crate) text: &'a str,
        pub(crate) status: u16,
        pub(crate) answered: bool,
        pub(crate) duration_ms: u64,
        pub(crate) waited_ms: u64,
        pub(crate) talked_ms: u64,
        pub(crate) agent: &'a str,
        pub(crate) workgroup: &'a str,
        pub(crate) recordings: &'a [String],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_by_one_and_never_come_twice_over_a_restart() {
        let mut s = Sequence::default();
        assert_eq!(s.next(), (1, Some(BLOCK)));
        assert_eq!(s.next(), (2, None));
        let mut later = Sequence::default();
        later.restore(s.reserved());
        assert_eq!(later.next(), (BLOCK + 1, Some(2 * BLOCK)));
    }

    #[test]
    fn data_is_json_however_odd_the_text() {
        let attributes = vec![("na\"me".to_owned(), "li\nne".to_owned())];
        let e = event(
            1,
            &"acme".into(),
            5,
            Subject::Interaction(Id(3)),
            "attributes.changed",
            &data::Changed { attributes: &attributes },
        );
        assert_eq!(e.data, r#"{"attributes":{"na\"me":"li\nne"}}"#);
        assert_eq!(e.subject, Id(3).to_string());
    }
}

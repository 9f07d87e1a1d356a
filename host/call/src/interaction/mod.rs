//! The interaction manager: one record a call, from its creation (once) to its close (once).
//!
//! Called by the domain. Holds the timeline, the attributes and the offers, all bounded; never
//! touches SIP and never decides about agents.

pub(crate) mod qualify;

use std::collections::VecDeque;
use std::sync::Arc;

use cordboard_base::{Id, Map, Set};

use crate::facts::{OfferRecord, Record};
use crate::messages::{CallEnded, CallNew, Place, Refusal};
use crate::timeline::Line;
use crate::{Attributes, Name};

/// Lines that a timeline holds; the last place is kept for the end of the call.
pub(crate) const MAX_LINES: usize = 512;
/// Attributes of an interaction.
pub(crate) const MAX_ATTRIBUTES: usize = 64;
/// The longest value of an attribute, in bytes.
pub(crate) const MAX_VALUE: usize = 4_096;
/// The longest name of an attribute, in bytes.
pub(crate) const MAX_NAME: usize = 128;
/// Offers that a record lists.
pub(crate) const MAX_OFFERS: usize = 256;
/// Enqueues of one interaction.
pub(crate) const MAX_ENQUEUES: usize = 64;
/// Ended interactions that are remembered, so that a late message does not create one anew.
const REMEMBERED: usize = 4_096;

/// A live interaction.
#[derive(Debug)]
pub(crate) struct Interaction {
    pub(crate) tenant: u16,
    pub(crate) tenant_name: Name,
    pub(crate) trunk: Name,
    pub(crate) caller: String,
    pub(crate) caller_name: String,
    pub(crate) called: String,
    pub(crate) call_id: String,
    pub(crate) began_ms: i64,
    pub(crate) shard: u16,
    pub(crate) shard_epoch: u64,
    pub(crate) attributes: Attributes,
    pub(crate) offers: Vec<OfferRecord>,
    pub(crate) lines: Vec<Arc<Line>>,
    /// What each enqueue was answered.
    pub(crate) enqueues: Vec<(u32, Result<Place, Refusal>)>,
    /// The live place.
    pub(crate) ticket: Option<Id>,
    pub(crate) workgroup: String,
    pub(crate) agent: String,
    pub(crate) waited_ms: u64,
    pub(crate) talked_ms: u64,
    pub(crate) estimate_ms: Option<(u64, u64)>,
    pub(crate) first_queued_ms: Option<i64>,
    pub(crate) first_accepted_ms: Option<i64>,
}

/// What a change of attributes did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Those that are now different; an empty value was removed.
    pub(crate) set: Attributes,
    /// Those that found no room.
    pub(crate) dropped: usize,
}

impl Interaction {
    pub(crate) fn new(tenant: u16, shard: (u16, u64), began_ms: i64, call: &CallNew) -> Self {
        let mut interaction = Self {
            tenant,
            tenant_name: call.tenant.clone(),
            trunk: call.trunk.clone(),
            caller: call.caller.clone(),
            caller_name: call.caller_name.clone(),
            called: call.called.clone(),
            call_id: call.call_id.clone(),
            began_ms,
            shard: shard.0,
            shard_epoch: shard.1,
            attributes: Vec::new(),
            offers: Vec::new(),
            lines: Vec::new(),
            enqueues: Vec::new(),
            ticket: None,
            workgroup: String::new(),
            agent: String::new(),
            waited_ms: 0,
            talked_ms: 0,
            estimate_ms: None,
            first_queued_ms: None,
            first_accepted_ms: None,
        };
        interaction.set(&call.attributes);
        interaction
    }

    /// Sets attributes within the bounds.
    pub(crate) fn set(&mut self, set: &Attributes) -> Changed {
        let mut changed = Changed::default();
        for (name, value) in set {
            let at = self.attributes.iter().position(|(n, _)| n == name);
            match at {
                Some(i) if value.is_empty() => {
                    self.attributes.remove(i);
                }
                None if value.is_empty() => continue,
                _ if name.is_empty() || name.len() > MAX_NAME || value.len() > MAX_VALUE => {
                    changed.dropped += 1;
                    continue;
                }
                Some(i) if self.attributes[i].1 == *value => continue,
                Some(i) => self.attributes[i].1.clone_from(value),
                None if self.attributes.len() >= MAX_ATTRIBUTES => {
                    changed.dropped += 1;
                    continue;
                }
                None => self.attributes.push((name.clone(), value.clone())),
            }
            changed.set.push((name.clone(), value.clone()));
        }
        changed
    }

    /// Writes a line, if there is room; `last` may use the place that is kept for the end.
    pub(crate) fn write(&mut self, line: Arc<Line>, last: bool) -> bool {
        let room = self.lines.len() < if last { MAX_LINES } else { MAX_LINES - 1 };
        if room {
            self.lines.push(line);
        }
        room
    }

    /// What an enqueue with this number was answered before.
    pub(crate) fn answered(&self, key: u32) -> Option<&Result<Place, Refusal>> {
        self.enqueues.iter().find(|(k, _)| *k == key).map(|(_, answer)| answer)
    }

    /// The record of an offer.
    pub(crate) fn offer_mut(&mut self, token: Id) -> Option<&mut OfferRecord> {
        self.offers.iter_mut().rev().find(|o| o.token == token)
    }

    /// The record as it stands.
    pub(crate) fn record(&self, interaction: Id, ended_ms: i64, end: CallEnded) -> Record {
        Record {
            interaction,
            tenant: self.tenant_name.clone(),
            trunk: self.trunk.clone(),
            caller: self.caller.clone(),
            called: self.called.clone(),
            call_id: self.call_id.clone(),
            began_ms: self.began_ms,
            ended_ms,
            end,
            attributes: self.attributes.clone(),
            offers: self.offers.clone(),
            workgroup: self.workgroup.clone(),
            agent: self.agent.clone(),
            waited_ms: self.waited_ms,
            talked_ms: self.talked_ms,
            estimate_ms: self.estimate_ms,
            lines: self.lines.clone(),
        }
    }

    /// The record, without copying: the interaction is over.
    pub(crate) fn into_record(self, interaction: Id, ended_ms: i64, end: CallEnded) -> Record {
        Record {
            interaction,
            tenant: self.tenant_name,
            trunk: self.trunk,
            caller: self.caller,
            called: self.called,
            call_id: self.call_id,
            began_ms: self.began_ms,
            ended_ms,
            end,
            attributes: self.attributes,
            offers: self.offers,
            workgroup: self.workgroup,
            agent: self.agent,
            waited_ms: self.waited_ms,
            talked_ms: self.talked_ms,
            estimate_ms: self.estimate_ms,
            lines: self.lines,
        }
    }
}

/// The live interactions, and a bounded memory of those that have ended.
#[derive(Debug, Default)]
pub(crate) struct Interactions {
    // Boxed: a table has room for more than it holds.
    live: Map<Id, Box<Interaction>>,
    ended: Set<Id>,
    ended_order: VecDeque<Id>,
}

impl Interactions {
    /// Whether this identifier was ever created, as far as is remembered.
    pub(crate) fn knows(&self, id: Id) -> bool {
        self.live.contains_key(&id) || self.ended.contains(&id)
    }

    pub(crate) fn insert(&mut self, id: Id, interaction: Interaction) {
        self.live.insert(id, Box::new(interaction));
    }

    pub(crate) fn get(&self, id: Id) -> Option<&Interaction> {
        self.live.get(&id).map(|i| &**i)
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut Interaction> {
        self.live.get_mut(&id).map(|i| &mut **i)
    }

    /// Takes one out for its close.
    pub(crate) fn close(&mut self, id: Id) -> Option<Interaction> {
        let interaction = self.live.remove(&id)?;
        if self.ended.insert(id) {
            self.ended_order.push_back(id);
        }
        if self.ended_order.len() > REMEMBERED
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        Some(*interaction)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Id, &Interaction)> {
        self.live.iter().map(|(id, i)| (id, &**i))
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Step;

    fn interaction() -> Interaction {
        let call = CallNew {
            tenant: "acme".into(),
            trunk: "pstn".into(),
            caller: "+49".into(),
            caller_name: String::new(),
            called: "100".into(),
            call_id: "c".into(),
            attributes: vec![("a".into(), "1".into())],
        };
        Interaction::new(0, (0, 1), 0, &call)
    }

    #[test]
    fn attributes_are_bounded_in_number_and_length() {
        let mut i = interaction();
        assert_eq!(i.set(&vec![("a".into(), "1".into())]), Changed::default(), "nothing new");
        assert_eq!(i.set(&vec![("big".into(), "x".repeat(MAX_VALUE + 1))]).dropped, 1);
        let many: Attributes = (0..MAX_ATTRIBUTES).map(|n| (format!("n{n}"), "v".into())).collect();
        assert_eq!(i.set(&many).dropped, 1, "one place was taken");
        assert_eq!(i.attributes.len(), MAX_ATTRIBUTES);
        assert_eq!(i.set(&vec![("a".into(), String::new())]).set.len(), 1, "an empty value removes");
        assert_eq!(i.attributes.len(), MAX_ATTRIBUTES - 1);
    }

    #[test]
    fn a_timeline_always_has_room_for_its_end() {
        let mut i = interaction();
        let line = Arc::new(Line {
            step: Step::After,
            mono_ns: 0,
            wall_ms: 0,
            call_id: None,
            cseq: None,
            bus_seq: None,
            ticket: None,
            token: None,
            detail: "".into(),
        });
        let written = (0..2 * MAX_LINES).filter(|_| i.write(line.clone(), false)).count();
        assert_eq!(written, MAX_LINES - 1);
        assert!(i.write(line.clone(), true) && !i.write(line, true));
    }

    #[test]
    fn an_ended_interaction_is_remembered_within_bounds() {
        let mut all = Interactions::default();
        for n in 0..(REMEMBERED as u128 + 10) {
            all.insert(Id(n), interaction());
            assert!(all.close(Id(n)).is_some() && all.close(Id(n)).is_none());
        }
        assert!(all.knows(Id(REMEMBERED as u128)) && !all.knows(Id(3)));
        assert_eq!(all.ended.len(), REMEMBERED);
    }
}

//! What facts add up to. Recovery folds the journal into a ledger and goes on from there; tests
//! compare the ledger of a snapshot with the ledger of all facts.

use std::collections::{BTreeMap, BTreeSet};

use cordboard_base::Id;

use crate::Attributes;
use crate::Name;
use crate::commands::AgentStateName;
use crate::facts::{Edge, Fact, OfferRecord};
use crate::messages::{OfferResult, TalkEnd};

/// An open interaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) tenant: Name,
    pub(super) trunk: Name,
    pub(super) caller: String,
    pub(super) caller_name: String,
    pub(super) called: String,
    pub(super) call_id: String,
    pub(super) began_ms: i64,
    pub(super) shard: (u16, u64),
    pub(super) attributes: Attributes,
    pub(super) offers: Vec<OfferRecord>,
    pub(super) workgroup: String,
    pub(super) first_queued_ms: Option<i64>,
    pub(super) first_accepted_ms: Option<i64>,
}

/// How a place stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Waiting,
    /// So many phones ring.
    Offered(u32),
    Taken,
    Returned,
    /// Remembered until this time.
    Ghost(i64),
}

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) interaction: Id,
    pub(super) number: u32,
    pub(super) tenant: Name,
    pub(super) workgroup: Name,
    pub(super) direct: Option<Name>,
    pub(super) key_ms: i64,
    pub(super) arrived_ms: i64,
    pub(super) caller: String,
    pub(super) skills: Vec<Name>,
    pub(super) priority: u8,
    pub(super) standing: Standing,
}

/// The sum of the facts.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Ledger {
    pub(super) calls: BTreeMap<Id, Call>,
    pub(super) places: BTreeMap<Id, Place>,
    /// State, reason, misses, since.
    pub(super) agents: BTreeMap<(Name, Name), (AgentStateName, String, u32, i64)>,
    /// By tenant, user and URI.
    pub(super) bindings: BTreeMap<(Name, String, String), (Edge, i64)>,
    pub(super) sequences: BTreeMap<Name, u64>,
    /// Interactions of which a dialog was confirmed: their callers were answered. The shards write
    /// that, so it may stand before `Opened`.
    pub(super) answered: BTreeSet<Id>,
    /// The interaction of each offer that an open one lists.
    tokens: BTreeMap<Id, Id>,
}

impl Ledger {
    /// Adds one fact. A fact about what is not there adds nothing.
    pub(super) fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Opened {
                interaction,
                tenant,
                trunk,
                caller,
                caller_name,
                called,
                call_id,
                wall_ms,
                shard,
            } => {
                let call = Call {
                    tenant,
                    trunk,
                    caller,
                    caller_name,
                    called,
                    call_id,
                    began_ms: wall_ms,
                    shard,
                    attributes: Vec::new(),
                    offers: Vec::new(),
                    workgroup: String::new(),
                    first_queued_ms: None,
                    first_accepted_ms: None,
                };
                self.calls.entry(interaction).or_insert(call);
            }
            Fact::Carried(past) => {
                if let Some(call) = self.calls.get_mut(&past.interaction) {
                    self.tokens.extend(past.offers.iter().map(|o| (o.token, past.interaction)));
                    call.attributes = past.attributes;
                    call.offers = past.offers;
                    call.workgroup = past.workgroup;
                    call.first_queued_ms = past.first_queued_ms;
                    call.first_accepted_ms = past.first_accepted_ms;
                }
            }
            Fact::AttributesSet { interaction, set } => {
                if let Some(call) = self.calls.get_mut(&interaction) {
                    for (name, value) in set {
                        let at = call.attributes.iter().position(|(n, _)| *n == name);
                        match at {
                            Some(i) if value.is_empty() => {
                                call.attributes.remove(i);
                            }
                            Some(i) => call.attributes[i].1 = value,
                            None => call.attributes.push((name, value)),
                        }
                    }
                }
            }
            Fact::Queued {
                ticket,
                interaction,
                key,
                tenant,
                workgroup,
                direct,
                key_ms,
                arrived_ms,
                caller,
                skills,
                priority,
            } => {
                if let Some(call) = self.calls.get_mut(&interaction) {
                    call.workgroup = workgroup.to_string();
                    call.first_queued_ms.get_or_insert(ticket_ms(ticket));
                }
                let place = Place {
                    interaction,
                    number: key,
                    tenant,
                    workgroup,
                    direct,
                    key_ms,
                    arrived_ms,
                    caller,
                    skills,
                    priority,
                    standing: Standing::Waiting,
                };
                self.places.insert(ticket, place);
            }
            Fact::Placed { ticket, key_ms } => {
                if let Some(place) = self.places.get_mut(&ticket) {
                    place.key_ms = key_ms;
                }
            }
            Fact::Ghost { ticket, until_ms } => {
                if let Some(place) = self.places.get_mut(&ticket) {
                    place.standing = Standing::Ghost(until_ms);
                }
            }
            Fact::Unqueued { ticket, .. } => {
                self.places.remove(&ticket);
            }
            Fact::Offered { token, ticket, agent, .. } => self.offered(token, ticket, agent),
            Fact::Settled { token, ticket, result, wall_ms } => self.settled(token, ticket, result, wall_ms),
            Fact::TalkEnded { token, ticket, how, talked_ms } => {
                if let Some(offer) = self.offer(token) {
                    offer.talked_ms = talked_ms;
                }
                if let Some(place) = self.places.get_mut(&ticket)
                    && place.standing == Standing::Taken
                    && how == TalkEnd::AgentVanished
                {
                    place.standing = Standing::Returned;
                }
            }
            Fact::AgentState { tenant, agent, state, reason, misses, wall_ms } => {
                self.agents.insert((tenant, agent), (state, reason, misses, wall_ms));
            }
            Fact::Bound { tenant, user, uri, flow, expires_ms } => {
                if expires_ms == 0 {
                    self.bindings.remove(&(tenant, user, uri));
                } else {
                    self.bindings.insert((tenant, user, uri), (flow, expires_ms));
                }
            }
            Fact::Sequence { tenant, up_to } => {
                let held = self.sequences.entry(tenant).or_default();
                *held = (*held).max(up_to);
            }
            Fact::Closed(record) => self.over(record.interaction),
            Fact::Recorded { interaction } => self.over(interaction),
            Fact::DialogUp { interaction, .. } => {
                self.answered.insert(interaction);
            }
            Fact::DialogDown { .. } => {}
        }
    }

    fn offered(&mut self, token: Id, ticket: Id, agent: Name) {
        let Some(place) = self.places.get_mut(&ticket) else { return };
        place.standing = match place.standing {
            Standing::Offered(n) => Standing::Offered(n + 1),
            _ => Standing::Offered(1),
        };
        if let Some(call) = self.calls.get_mut(&place.interaction)
            && call.offers.len() < crate::interaction::MAX_OFFERS
            && !call.offers.iter().any(|o| o.token == token)
        {
            let offered_ms = ticket_ms(token);
            self.tokens.insert(token, place.interaction);
            call.offers.push(OfferRecord {
                token,
                ticket,
                agent,
                offered_ms,
                result: None,
                rang_ms: 0,
                talked_ms: 0,
            });
        }
    }

    fn over(&mut self, interaction: Id) {
        self.answered.remove(&interaction);
        for offer in self.calls.remove(&interaction).into_iter().flat_map(|call| call.offers) {
            self.tokens.remove(&offer.token);
        }
    }

    fn settled(&mut self, token: Id, ticket: Id, result: OfferResult, wall_ms: i64) {
        let accepted = result == OfferResult::Accepted;
        if let Some(place) = self.places.get_mut(&ticket) {
            match place.standing {
                Standing::Offered(_) if accepted => place.standing = Standing::Taken,
                Standing::Offered(0 | 1) => place.standing = Standing::Waiting,
                Standing::Offered(n) => place.standing = Standing::Offered(n - 1),
                _ => {}
            }
            if accepted && let Some(call) = self.calls.get_mut(&place.interaction) {
                call.first_accepted_ms.get_or_insert(wall_ms);
            }
        }
        if let Some(offer) = self.offer(token)
            && offer.result.is_none()
        {
            offer.rang_ms = (wall_ms - offer.offered_ms).max(0) as u64;
            offer.result = Some(result);
        }
    }

    fn offer(&mut self, token: Id) -> Option<&mut OfferRecord> {
        let call = self.calls.get_mut(self.tokens.get(&token)?)?;
        call.offers.iter_mut().find(|o| o.token == token)
    }
}

/// An identifier's own time: it was made when the fact was.
pub(super) fn ticket_ms(id: Id) -> i64 {
    (id.0 >> 80) as i64
}

//! The judge: what must hold in every run, whatever is lost, late or crossing.
//!
//! It sees what passes between the authorities and keeps a model of its own, so small that it can
//! be checked by reading. It never looks into the machines, but for their counts at the end.

use std::collections::BTreeMap;

use cordboard_base::{Id, Now};
use cordboard_call::Name;
use cordboard_call::commands::{QueueView, Reply};
use cordboard_call::domain::Output as DomainOutput;
use cordboard_call::facts::Fact;
use cordboard_call::messages::{Envelope, OfferResult, TalkEnd, TicketState, ToDomain, ToShard};
use cordboard_call::model::Model;

/// What the judge knows of a place.
#[derive(Debug)]
struct Place {
    key_ms: i64,
    workgroup: Name,
    winner: Option<Id>,
    /// Tokens that ring or talk.
    active: u32,
}

/// What the judge knows of an offer.
#[derive(Debug)]
struct Token {
    ticket: Id,
    agent: Name,
    settled: Option<OfferResult>,
    talking: bool,
}

#[derive(Debug, Default)]
struct Person {
    active: Option<Id>,
    misses: u32,
    wrap_up_until_ms: i64,
    blocked: bool,
    logged_out: bool,
}

/// The model and its verdicts.
#[derive(Debug)]
pub struct Judge {
    model: std::sync::Arc<Model>,
    places: BTreeMap<Id, Place>,
    keys: BTreeMap<(Id, u32), Id>,
    tokens: BTreeMap<Id, Token>,
    people: BTreeMap<Name, Person>,
    opened: BTreeMap<Id, u32>,
    ended: BTreeMap<Id, u32>,
    closed: BTreeMap<Id, u32>,
    /// What must not be. A run with any is a failure.
    pub violations: Vec<String>,
    /// What happened, for the report.
    pub accepted: u64,
    /// Offers that ended without a winner.
    pub unanswered: u64,
    /// Entries that waited when somebody was offered another.
    pub waited: u64,
}

const MOST_VIOLATIONS: usize = 50;

impl Judge {
    /// A judge of one run.
    #[must_use]
    pub fn new(model: std::sync::Arc<Model>) -> Self {
        Self {
            model,
            places: BTreeMap::new(),
            keys: BTreeMap::new(),
            tokens: BTreeMap::new(),
            people: BTreeMap::new(),
            opened: BTreeMap::new(),
            ended: BTreeMap::new(),
            closed: BTreeMap::new(),
            violations: Vec::new(),
            accepted: 0,
            unanswered: 0,
            waited: 0,
        }
    }

    /// Notes what must not be.
    pub fn wrong(&mut self, now: Now, what: String) {
        if self.violations.len() < MOST_VIOLATIONS {
            self.violations.push(format!("{:.3} s: {what}", now.mono_ns as f64 / 1e9));
        }
    }

    /// A fact became durable.
    pub fn fact(&mut self, now: Now, fact: &Fact) {
        match fact {
            Fact::Opened { interaction, .. } => {
                let times = self.opened.entry(*interaction).or_default();
                *times += 1;
                if *times > 1 {
                    self.wrong(
                        now,
                        format!("interaction {interaction} was created {} times", self.opened[interaction]),
                    );
                }
            }
            Fact::Queued { ticket, interaction, key, key_ms, workgroup, .. } => {
                if self.keys.insert((*interaction, *key), *ticket).is_some_and(|old| old != *ticket) {
                    self.wrong(now, format!("enqueue {key} of {interaction} has two places"));
                }
                self.places.insert(
                    *ticket,
                    Place { key_ms: *key_ms, workgroup: workgroup.clone(), winner: None, active: 0 },
                );
            }
            Fact::Placed { ticket, key_ms } => {
                if let Some(place) = self.places.get_mut(ticket) {
                    place.key_ms = *key_ms;
                }
            }
            Fact::Unqueued { ticket, .. } => {
                self.places.remove(ticket);
            }
            Fact::Closed(record) => {
                let times = self.closed.entry(record.interaction).or_default();
                *times += 1;
                if *times > 1 {
                    self.wrong(now, format!("the record of {} was closed twice", record.interaction));
                }
                for offer in &record.offers {
                    if offer.result.is_none() && record.end.text != "node-lost" {
                        self.wrong(
                            now,
                            format!("the record of {} has an offer without an end", record.interaction),
                        );
                    }
                }
            }
            _ => {}
        }
    }

    /// A message of the domain leaves.
    pub fn to_shard(&mut self, now: Now, envelope: &Envelope<ToShard>) {
        let ToShard::Offer(offer) = &envelope.body else { return };
        match self.places.get(&offer.ticket) {
            None => self.wrong(now, format!("place {} is offered and does not exist", offer.ticket)),
            Some(place) if place.winner.is_some() => {
                self.wrong(now, format!("place {} is offered while an agent has it", offer.ticket));
            }
            Some(place) => {
                let earlier = self.places.iter().find(|(_, other)| {
                    other.workgroup == place.workgroup && other.key_ms < place.key_ms && other.active == 0
                });
                if let Some((ticket, _)) = earlier {
                    let text = format!("place {} is offered before {ticket}, which is earlier", offer.ticket);
                    self.wrong(now, text);
                }
            }
        }
        for offered in &offer.agents {
            let person = self.people.entry(offered.agent.clone()).or_default();
            let mut wrong = Vec::new();
            if let Some(other) = person.active {
                wrong.push(format!(
                    "agent {} is offered {} while {other} is on",
                    offered.agent, offered.token
                ));
            }
            if person.blocked {
                wrong.push(format!(
                    "agent {} is offered a call after {} misses",
                    offered.agent, person.misses
                ));
            }
            if person.logged_out {
                wrong.push(format!("agent {} is offered a call and is logged out", offered.agent));
            }
            if now.wall_ms < person.wrap_up_until_ms {
                wrong.push(format!("agent {} is offered a call in wrap-up", offered.agent));
            }
            person.active = Some(offered.token);
            if let Some(place) = self.places.get_mut(&offer.ticket) {
                place.active += 1;
            }
            for text in wrong {
                self.wrong(now, text);
            }
            let token =
                Token { ticket: offer.ticket, agent: offered.agent.clone(), settled: None, talking: false };
            if self.tokens.insert(offered.token, token).is_some() {
                self.wrong(now, format!("token {} is offered twice", offered.token));
            }
        }
    }

    /// A message of the shard arrives for the first time.
    pub fn to_domain(&mut self, now: Now, envelope: &Envelope<ToDomain>) {
        match &envelope.body {
            ToDomain::Settled(settled) => {
                let Some(token) = self.tokens.get_mut(&settled.token) else {
                    return self
                        .wrong(now, format!("token {} is settled and was never offered", settled.token));
                };
                if let Some(before) = token.settled.replace(settled.result.clone()) {
                    let text =
                        format!("token {} is settled twice: {before:?}, {:?}", settled.token, settled.result);
                    return self.wrong(now, text);
                }
                let max_misses = self.places.get(&settled.ticket).and_then(|place| {
                    Some(self.model.tenants.first()?.workgroup(&place.workgroup)?.max_misses)
                });
                let person = self.people.entry(settled.agent.clone()).or_default();
                if settled.result == OfferResult::Accepted {
                    token.talking = true;
                    person.misses = 0;
                    self.accepted += 1;
                    if let Some(place) = self.places.get_mut(&settled.ticket)
                        && let Some(other) = place.winner.replace(settled.token)
                    {
                        self.wrong(
                            now,
                            format!("place {} has two winners: {other}, {}", settled.ticket, settled.token),
                        );
                    }
                    return;
                }
                // Unless its call ended before the offer came: then the agent was free from there on.
                if person.active == Some(settled.token) {
                    person.active = None;
                }
                if let Some(place) = self.places.get_mut(&settled.ticket) {
                    place.active = place.active.saturating_sub(1);
                }
                self.unanswered += 1;
                if settled.result == OfferResult::NoAnswer {
                    person.misses += 1;
                    person.blocked |= max_misses.is_some_and(|most| person.misses >= most);
                }
            }
            ToDomain::TalkEnded { token, ticket, how, .. } => {
                let wrap_up_ms = self.places.get(ticket).and_then(|place| {
                    Some(self.model.tenants.first()?.workgroup(&place.workgroup)?.wrap_up_ms)
                });
                let Some(known) = self.tokens.get_mut(token) else {
                    return self.wrong(now, format!("a conversation of {token} ends that never began"));
                };
                if !std::mem::take(&mut known.talking) {
                    let text = format!("a conversation of {token} ends twice, or without an accept");
                    return self.wrong(now, text);
                }
                let person = self.people.entry(known.agent.clone()).or_default();
                person.active = None;
                if *how != TalkEnd::AgentVanished {
                    person.wrap_up_until_ms = now.wall_ms + wrap_up_ms.unwrap_or(0) as i64;
                }
                if let Some(place) = self.places.get_mut(&known.ticket) {
                    place.winner = None;
                    place.active = place.active.saturating_sub(1);
                }
            }
            ToDomain::CallEnded(_) => {
                let Some(interaction) = envelope.interaction else {
                    return self.wrong(now, "a call ends without its interaction".to_owned());
                };
                let times = self.ended.entry(interaction).or_default();
                *times += 1;
                if *times > 1 {
                    self.wrong(now, format!("call {interaction} ended twice"));
                }
                // What rang was settled before. An offer that is on its way crosses this message and
                // will find no call: nobody's phone rings for it, so its agent is free.
                let crossing = self.tokens.iter().filter(|(_, t)| {
                    t.settled.is_none()
                        && self.keys.iter().any(|((of, _), ticket)| *of == interaction && *ticket == t.ticket)
                });
                for (token, Token { agent, .. }) in crossing {
                    if let Some(person) = self.people.get_mut(agent)
                        && person.active == Some(*token)
                    {
                        person.active = None;
                    }
                }
            }
            _ => {}
        }
    }

    /// An operator changed an agent's state, and the domain has said yes.
    pub fn agent_set(&mut self, agent: &Name, ready: bool, logged_out: bool) {
        let person = self.people.entry(agent.clone()).or_default();
        person.logged_out = logged_out;
        if ready {
            person.blocked = false;
            person.misses = 0;
            person.wrap_up_until_ms = 0;
        }
    }

    /// A log-out was handled: what rings must be revoked in the same step.
    pub fn logged_out(&mut self, now: Now, agent: &Name, outputs: &[DomainOutput]) {
        let Some(token) = self.people.get(agent).and_then(|person| person.active) else { return };
        let rings = self.tokens.get(&token).is_some_and(|t| t.settled.is_none());
        let revoked = outputs.iter().any(|output| {
            matches!(output, DomainOutput::Bus(_, Envelope { body: ToShard::Revoke { token: t }, .. }) if *t == token)
        });
        if rings && !revoked {
            self.wrong(now, format!("agent {agent} logged out while {token} rang, and it was not revoked"));
        }
    }

    /// The queues as the domain shows them: the order must be that of the keys in the facts.
    pub fn queues(&mut self, now: Now, reply: &Reply) {
        let Reply::Queues(queues) = reply else { return };
        for queue in queues {
            self.queue(now, queue);
        }
    }

    fn queue(&mut self, now: Now, queue: &QueueView) {
        let mut last = i64::MIN;
        for entry in
            queue.entries.iter().filter(|e| matches!(e.state, TicketState::Waiting | TicketState::Returned))
        {
            self.waited += 1;
            let Some(place) = self.places.get(&entry.ticket) else {
                self.wrong(
                    now,
                    format!("queue {} shows {}, of which no fact tells", queue.workgroup, entry.ticket),
                );
                continue;
            };
            if place.key_ms < last {
                let text = format!("queue {} shows {} behind a later place", queue.workgroup, entry.ticket);
                self.wrong(now, text);
                return;
            }
            last = place.key_ms;
        }
    }

    /// Everything is quiet: nothing may be left.
    pub fn at_rest(&mut self, now: Now) {
        let open: Vec<String> = self
            .opened
            .keys()
            .filter(|id| !self.closed.contains_key(*id))
            .map(|id| format!("interaction {id} never closed"))
            .chain(
                self.tokens
                    .iter()
                    .filter(|(_, t)| t.settled.is_none())
                    .map(|(id, t)| format!("token {id} for {} was never settled", t.agent)),
            )
            .chain(
                self.tokens
                    .iter()
                    .filter(|(_, t)| t.talking)
                    .map(|(id, _)| format!("the talk of {id} never ended")),
            )
            .chain(self.places.keys().map(|id| format!("place {id} is still there")))
            .chain(self.people.iter().filter_map(|(name, person)| {
                person.active.map(|token| format!("agent {name} is stuck with {token}"))
            }))
            .collect();
        for text in open {
            self.wrong(now, text);
        }
    }
}

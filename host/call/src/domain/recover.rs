//! After a crash: facts make the former life's sum, and what cannot go on is closed.
//!
//! Calls died with their node. Their interactions close as `node-lost`, their places are kept for
//! callers who call back, agents are free in the state they had asked for, and phones stay bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cordboard_base::Id;

use super::bus::{NODE_LOST, node_lost};
use super::ledger::{Call, Ledger, Place, Standing, ticket_ms};
use super::{Domain, Output};
use crate::Name;
use crate::acd::reservations::Phase;
use crate::cti::{Subject, data};
use crate::facts::{Carried, Fact, Record};
use crate::messages::{OfferResult, TalkEnd, TicketState};
use crate::queue::ghosts::Ghost;

impl Domain {
    /// Applies the facts of a former life to a new domain, and closes what that life left open. Call
    /// it once, before the first input. The outputs are new facts and events: journal and publish them.
    ///
    /// Facts about tenants, agents and workgroups that are no longer configured are dropped.
    pub fn recover(
        &mut self,
        now: cordboard_base::Now,
        facts: impl IntoIterator<Item = Fact>,
    ) -> Vec<Output> {
        self.now = now;
        let mut ledger = Ledger::default();
        for fact in facts {
            ledger.apply(fact);
        }
        let mut out = Vec::new();
        for (name, up_to) in &ledger.sequences {
            if let Some(slot) = self.tenant_slots.get(name) {
                self.tenants[*slot as usize].sequence.restore(*up_to);
            }
        }
        for ((tenant, agent), (state, reason, misses, since_ms)) in &ledger.agents {
            let Some(slot) = self.tenant_slots.get(tenant).copied() else { continue };
            let held = &mut self.tenants[slot as usize];
            if let Some(number) = held.agent_slots.get(agent).copied() {
                held.agents[number as usize].agent.restore(*state, reason.clone(), *misses, *since_ms);
            }
        }
        for ((tenant, user, uri), (flow, expires_ms)) in &ledger.bindings {
            if let Some(slot) = self.tenant_slots.get(tenant).copied() {
                self.tenants[slot as usize].bindings.restore(user, uri, *flow, *expires_ms, now.wall_ms);
            }
        }
        self.recover_places(&ledger, &mut out);
        let Ledger { calls, places, answered, agents, .. } = ledger;
        let mut places: BTreeMap<Id, (Id, Place)> = places
            .into_iter()
            .filter(|(_, place)| !matches!(place.standing, Standing::Ghost(_)))
            .map(|(ticket, place)| (place.interaction, (ticket, place)))
            .collect();
        // Whoever heard last that an agent rings or talks has to hear that it is over.
        let mut agents: BTreeSet<(Name, Name)> = agents.into_keys().collect();
        for (id, call) in calls {
            let held = call.offers.iter().map(|o| (call.tenant.clone(), o.agent.clone()));
            agents.extend(held);
            self.close_lost(id, call, places.remove(&id), answered.contains(&id), &mut out);
        }
        // Counts and ready sets from the restored states.
        let model = std::sync::Arc::clone(&self.model);
        self.configure(model, &mut out);
        for (tenant, agent) in agents {
            self.tell_restored(&tenant, &agent, &mut out);
        }
        for slot in 0..self.tenants.len() {
            self.arm_bindings(slot as u16);
            self.arm_ghosts(slot as u16);
        }
        out
    }

    /// The places of callers who were lost, now or in a life before, wait for their callers.
    fn recover_places(&mut self, ledger: &Ledger, out: &mut Vec<Output>) {
        for (ticket, place) in &ledger.places {
            let Some(slot) = self.tenant_slots.get(&place.tenant).copied() else { continue };
            let until_ms = match place.standing {
                Standing::Ghost(until_ms) if until_ms <= self.now.wall_ms => {
                    self.fact(out, Fact::Unqueued { ticket: *ticket, why: "grace".to_owned() });
                    continue;
                }
                Standing::Ghost(until_ms) => until_ms,
                _ => 0,
            };
            let ghost = Ghost {
                ticket: *ticket,
                interaction: place.interaction,
                number: place.number,
                key_ms: place.key_ms,
                arrived_ms: place.arrived_ms,
                direct: place.direct.clone(),
                skills: place.skills.clone(),
                priority: place.priority,
                until_ms,
            };
            self.keep_ghost(slot, place.workgroup.clone(), place.caller.clone(), ghost, out);
        }
    }

    /// How an agent stands after the crash, for desktops: calls and wrap-up are over.
    fn tell_restored(&mut self, tenant: &Name, agent: &Name, out: &mut Vec<Output>) {
        let Some(slot) = self.tenant_slots.get(tenant).copied() else { return };
        let held = &self.tenants[slot as usize];
        let Some(number) = held.agent_slots.get(agent) else { return };
        let of = &held.agents[*number as usize];
        if of.index.is_some() {
            let (state, reason) = (of.agent.state, of.agent.reason.clone());
            let data = data::State { agent, state, reason: &reason, interaction: None };
            self.event(out, slot, Subject::Agent(agent), "agent.state", &data);
        }
    }

    /// What the crash has ended of a call that was open: its offers, its conversation, its place.
    fn tell_lost(
        &mut self,
        tenant: u16,
        id: Id,
        record: &Record,
        place: Option<(Id, Place)>,
        out: &mut Vec<Output>,
    ) {
        let taken = place.as_ref().filter(|(_, p)| p.standing == Standing::Taken).map(|(ticket, _)| *ticket);
        let talking = record
            .offers
            .iter()
            .rposition(|o| Some(o.ticket) == taken && o.result == Some(OfferResult::Accepted));
        for (number, offer) in record.offers.iter().enumerate() {
            if offer.result.is_some() && Some(number) != talking {
                continue;
            }
            let data = data::Offer {
                agent: &offer.agent,
                token: offer.token,
                ticket: offer.ticket,
                workgroup: &record.workgroup,
                result: NODE_LOST,
                rang_ms: None,
                talked_ms: None,
            };
            self.event(out, tenant, Subject::Interaction(id), "offer.ended", &data);
        }
        if let (Some((ticket, place)), None) = (place, taken) {
            let waited_ms = (self.now.wall_ms - ticket_ms(ticket)).max(0) as u64;
            let data = data::Left { ticket, workgroup: &place.workgroup, reason: NODE_LOST, waited_ms };
            self.event(out, tenant, Subject::Interaction(id), "queue.left", &data);
        }
    }

    fn close_lost(
        &mut self,
        id: Id,
        call: Call,
        place: Option<(Id, Place)>,
        answered: bool,
        out: &mut Vec<Output>,
    ) {
        let now_ms = self.now.wall_ms;
        let end = node_lost(call.began_ms, now_ms, answered || call.first_accepted_ms.is_some());
        let agent = call.offers.iter().rev().find(|o| o.result == Some(OfferResult::Accepted));
        let agent = agent.map_or(String::new(), |o| o.agent.to_string());
        let waited_ms = call
            .first_queued_ms
            .map_or(0, |from| (call.first_accepted_ms.unwrap_or(now_ms) - from).max(0) as u64);
        self.totals.closed += 1;
        self.totals.node_lost += 1;
        let record = Record {
            interaction: id,
            tenant: call.tenant.clone(),
            trunk: call.trunk,
            caller: call.caller,
            called: call.called,
            call_id: call.call_id,
            began_ms: call.began_ms,
            ended_ms: now_ms,
            end: end.clone(),
            attributes: call.attributes,
            talked_ms: call.offers.iter().map(|o| o.talked_ms).sum(),
            offers: call.offers,
            workgroup: call.workgroup.clone(),
            agent: agent.clone(),
            waited_ms,
            estimate_ms: None,
            lines: Vec::new(),
        };
        let talked_ms = record.talked_ms;
        self.fact(out, Fact::Closed(Arc::new(record.clone())));
        if let Some(slot) = self.tenant_slots.get(&call.tenant).copied() {
            self.tell_lost(slot, id, &record, place, out);
            let data = data::Ended {
                cause: end.cause,
                by: &end.by,
                text: &end.text,
                status: end.status,
                answered: end.answered,
                duration_ms: end.duration_ms,
                waited_ms,
                talked_ms,
                agent: &agent,
                workgroup: &call.workgroup,
                recordings: &[],
            };
            self.event(out, slot, Subject::Interaction(id), "call.ended", &data);
        }
    }

    /// The state as facts, for the journal's compaction: recovering from these equals recovering
    /// from all facts so far. The dialogs of live legs are the shards' facts, and not among them.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for held in &self.tenants {
            if held.sequence.reserved() > 0 {
                facts.push(Fact::Sequence { tenant: held.name.clone(), up_to: held.sequence.reserved() });
            }
            for slot in &held.agents {
                if let Some((state, reason, misses, wall_ms)) = slot.agent.told().cloned() {
                    let (tenant, agent) = (held.name.clone(), slot.agent.name.clone());
                    facts.push(Fact::AgentState { tenant, agent, state, reason, misses, wall_ms });
                }
            }
            for (user, binding) in held.bindings.all() {
                facts.push(Fact::Bound {
                    tenant: held.name.clone(),
                    user: user.clone(),
                    uri: binding.uri.clone(),
                    flow: binding.edge(),
                    expires_ms: binding.durable_ms(),
                });
            }
            for (workgroup, caller, ghost) in held.ghosts.all() {
                facts.push(Fact::Queued {
                    ticket: ghost.ticket,
                    interaction: ghost.interaction,
                    key: ghost.number,
                    tenant: held.name.clone(),
                    workgroup: workgroup.clone(),
                    direct: ghost.direct.clone(),
                    key_ms: ghost.key_ms,
                    arrived_ms: ghost.arrived_ms,
                    caller: caller.clone(),
                    skills: ghost.skills.clone(),
                    priority: ghost.priority,
                });
                facts.push(Fact::Ghost { ticket: ghost.ticket, until_ms: ghost.until_ms });
            }
        }
        let mut ids: Vec<Id> = self.interactions.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        for id in ids {
            self.snapshot_call(id, &mut facts);
        }
        facts
    }

    fn snapshot_call(&self, id: Id, facts: &mut Vec<Fact>) {
        let Some(i) = self.interactions.get(id) else { return };
        facts.push(Fact::Opened {
            interaction: id,
            tenant: i.tenant_name.clone(),
            trunk: i.trunk.clone(),
            caller: i.caller.clone(),
            caller_name: i.caller_name.clone(),
            called: i.called.clone(),
            call_id: i.call_id.clone(),
            wall_ms: i.began_ms,
            shard: (i.shard, i.shard_epoch),
        });
        let carried = Carried {
            interaction: id,
            attributes: i.attributes.clone(),
            offers: i.offers.clone(),
            workgroup: i.workgroup.clone(),
            first_queued_ms: i.first_queued_ms,
            first_accepted_ms: i.first_accepted_ms,
        };
        facts.push(Fact::Carried(Box::new(carried)));
        if let Some(ticket) = i.ticket {
            self.snapshot_place(ticket, facts);
        }
    }

    fn snapshot_place(&self, ticket: Id, facts: &mut Vec<Fact>) {
        let Some(e) = self.entries.get(&ticket) else { return };
        let held = &self.tenants[e.home.tenant as usize];
        let queue = self.queue(e.home);
        let direct = queue.agent.map(|a| held.agents[a as usize].agent.name.clone());
        facts.push(Fact::Queued {
            ticket,
            interaction: e.interaction,
            key: e.number,
            tenant: held.name.clone(),
            workgroup: queue.config.name.clone(),
            direct,
            key_ms: e.key.0,
            arrived_ms: e.arrived_ms,
            caller: e.caller.clone(),
            skills: e.skill_names.clone(),
            priority: e.priority,
        });
        for token in &e.tokens {
            let Some(r) = self.reservations.get(*token) else { continue };
            let lease_until_ms = self.wall_of(r.lease_until_ns);
            facts.push(Fact::Offered {
                token: *token,
                ticket,
                tenant: held.name.clone(),
                agent: held.agents[r.agent as usize].agent.name.clone(),
                lease_until_ms,
            });
            if r.phase == Phase::Talking {
                let wall_ms = r.accepted_ms;
                facts.push(Fact::Settled { token: *token, ticket, result: OfferResult::Accepted, wall_ms });
            }
        }
        if e.state == TicketState::Returned {
            // The last conversation, from which the call came back.
            let last = self.interactions.get(e.interaction).and_then(|i| {
                i.offers.iter().rev().find(|o| o.ticket == ticket && o.result == Some(OfferResult::Accepted))
            });
            let token = last.map_or(Id::default(), |o| o.token);
            let (tenant, agent) = (held.name.clone(), last.map_or_else(|| "".into(), |o| o.agent.clone()));
            let talked_ms = last.map_or(0, |o| o.talked_ms);
            let (result, wall_ms) = (OfferResult::Accepted, self.now.wall_ms);
            facts.push(Fact::Offered { token, ticket, tenant, agent, lease_until_ms: 0 });
            facts.push(Fact::Settled { token, ticket, result, wall_ms });
            facts.push(Fact::TalkEnded { token, ticket, how: TalkEnd::AgentVanished, talked_ms });
        }
    }

    fn wall_of(&self, mono_ns: u64) -> i64 {
        let ahead_ms = mono_ns.saturating_sub(self.now.mono_ns) / 1_000_000;
        self.now.wall_ms.saturating_add_unsigned(ahead_ms)
    }
}

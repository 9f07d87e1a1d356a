//! What shards say: idempotency, the life of interactions, phones, and what the others handle.

use std::sync::Arc;

use cordboard_base::Id;

use super::{AgentRef, Domain, Output, bug};
use crate::acd::reservations::Phase;
use crate::agent;
use crate::cti::{Subject, data};
use crate::facts::Fact;
use crate::interaction::Interaction;
use crate::messages::{
    CallEnded, CallNew, Contact, Envelope, Flow, OfferResult, Register, TalkEnd, TicketState, ToDomain,
    ToShard,
};
use crate::policy::Policies;
use crate::queue::ghosts::Ghost;
use crate::script::Left;
use crate::timeline::Step;
use crate::{Attributes, Name};

/// Q.850 'temporary failure', for calls whose node was lost.
const CAUSE_NODE_LOST: u8 = 41;
/// How records and events say that a call's node died.
pub(super) const NODE_LOST: &str = "node-lost";

/// Sender, life and number of the message that is being handled.
#[derive(Debug, Clone, Copy)]
pub(super) struct From {
    pub(super) shard: u16,
    pub(super) epoch: u64,
    pub(super) seq: u64,
}

impl Domain {
    pub(super) fn on_bus(
        &mut self,
        envelope: Envelope<ToDomain>,
        policies: &mut dyn Policies,
        out: &mut Vec<Output>,
    ) {
        let from = From { shard: envelope.from, epoch: envelope.epoch, seq: envelope.seq };
        if !self.is_fresh(from, out) {
            self.totals.repeated += 1;
            return;
        }
        let Envelope { interaction, mut lines, body, .. } = envelope;
        for line in &mut lines {
            line.bus_seq.get_or_insert(from.seq);
        }
        let Some(id) = interaction else {
            match body {
                ToDomain::Register(register) => self.on_register(from, register, out),
                ToDomain::Renew { tokens } => self.on_renew(from.shard, None, &tokens, out),
                ToDomain::Watch { tenant, agent, on } => self.on_watch(from.shard, tenant, agent, on, out),
                ToDomain::FlowClosed(flow) => self.on_flow_closed(flow),
                ToDomain::ShardUp | ToDomain::Note => {}
                _ => self.totals.unknown += 1,
            }
            return;
        };
        // The interaction exists from its first message on; its lines come before what they led to.
        let body = match body {
            ToDomain::CallNew(call) => {
                if !self.open(from, id, &call, out) {
                    return;
                }
                None
            }
            body => Some(body),
        };
        for line in lines {
            self.write(out, id, line, false);
        }
        match body {
            None => self.tell_opened(from, id, out),
            Some(ToDomain::Attributes { set }) => self.on_attributes(id, &set, out),
            Some(ToDomain::Enqueue { key, workgroup, request }) => {
                self.on_enqueue(from, id, key, &workgroup, &request, policies, out);
            }
            Some(ToDomain::Leave { request, ticket }) => {
                let result = self.leave(id, ticket, out);
                self.send(out, from.shard, interaction, ToShard::Left { request, result });
            }
            Some(ToDomain::Protect { request, ticket, on }) => {
                let result = self.protect(id, ticket, on);
                self.send(out, from.shard, interaction, ToShard::Left { request, result });
            }
            Some(ToDomain::Locate { request, user, uri }) => {
                let tenant = self.interactions.get(id).map(|i| i.tenant);
                let phone = tenant.and_then(|tenant| self.locate(tenant, user.as_deref(), &uri));
                self.send(out, from.shard, interaction, ToShard::Located { request, phone });
            }
            Some(ToDomain::Settled(settled)) => self.on_settled(&settled, out),
            Some(ToDomain::Renew { tokens }) => self.on_renew(from.shard, interaction, &tokens, out),
            Some(ToDomain::TalkEnded { token, talked_ms, how, .. }) => {
                self.on_talk_ended(token, talked_ms, how, out);
            }
            Some(ToDomain::CallEnded(end)) => self.on_call_ended(id, end, out),
            Some(ToDomain::Register(register)) => self.on_register(from, register, out),
            Some(ToDomain::FlowClosed(flow)) => self.on_flow_closed(flow),
            Some(ToDomain::Note | ToDomain::ShardUp | ToDomain::CallNew(_) | ToDomain::Watch { .. }) => {}
        }
    }

    /// Whether a message is heard for the first time and comes from the shard's present life. The
    /// first message of a new life ends the calls of the former ones.
    fn is_fresh(&mut self, from: From, out: &mut Vec<Output>) -> bool {
        let link = self.links.entry(from.shard).or_default();
        if from.epoch < link.epoch {
            return false;
        }
        if from.epoch > link.epoch {
            link.epoch = from.epoch;
            link.highest = 0;
            link.window = 0;
            self.lose_shard(from.shard, from.epoch, out);
            self.watchers.values_mut().for_each(|shards| _ = shards.remove(&from.shard));
        }
        let Some(link) = self.links.get_mut(&from.shard) else { return false };
        if from.seq > link.highest {
            let ahead = from.seq - link.highest;
            link.window = if ahead >= 64 { 0 } else { link.window << ahead };
            // The former highest stands `ahead` behind the new one.
            if link.highest > 0 && ahead <= 64 {
                link.window |= 1 << (ahead - 1);
            }
            link.highest = from.seq;
            return true;
        }
        let behind = link.highest - from.seq;
        if behind == 0 || behind > 64 || link.window >> (behind - 1) & 1 == 1 {
            return false;
        }
        link.window |= 1 << (behind - 1);
        true
    }

    /// Steps 6 and 7, first half: the interaction is created, exactly once.
    fn open(&mut self, from: From, id: Id, call: &CallNew, out: &mut Vec<Output>) -> bool {
        if self.interactions.knows(id) {
            self.totals.repeated += 1;
            return false;
        }
        let tenant = self.tenant_slots.get(&call.tenant).copied();
        let Some(tenant) = tenant.filter(|t| self.tenants[*t as usize].index.is_some()) else {
            let text = format!("this domain has no tenant named {:?}", call.tenant);
            self.send(out, from.shard, Some(id), ToShard::Refuse { status: 404, text });
            return false;
        };
        if self.interactions.len() >= self.model.limits.max_interactions as usize {
            let text = format!("the domain holds {} calls, as many as it may", self.interactions.len());
            self.send(out, from.shard, Some(id), ToShard::Refuse { status: 503, text });
            return false;
        }
        self.totals.opened += 1;
        let interaction = Interaction::new(tenant, (from.shard, from.epoch), self.now.wall_ms, call);
        self.fact(
            out,
            Fact::Opened {
                interaction: id,
                tenant: call.tenant.clone(),
                trunk: call.trunk.clone(),
                caller: call.caller.clone(),
                caller_name: call.caller_name.clone(),
                called: call.called.clone(),
                call_id: call.call_id.clone(),
                wall_ms: self.now.wall_ms,
                shard: (from.shard, from.epoch),
            },
        );
        if !interaction.attributes.is_empty() {
            let set = interaction.attributes.clone();
            self.fact(out, Fact::AttributesSet { interaction: id, set });
        }
        self.interactions.insert(id, interaction);
        true
    }

    /// Steps 6 and 7, second half: who listens hears of it.
    fn tell_opened(&mut self, from: From, id: Id, out: &mut Vec<Output>) {
        let Some(i) = self.interactions.get(id) else { return };
        let (tenant, call_id) = (i.tenant, i.call_id.clone());
        let call = (
            i.trunk.clone(),
            i.caller.clone(),
            i.caller_name.clone(),
            i.called.clone(),
            i.attributes.clone(),
        );
        let data = data::Call {
            interaction: id,
            trunk: &call.0,
            caller: &call.1,
            caller_name: &call.2,
            called: &call.3,
            call_id: &call_id,
            attributes: &call.4,
        };
        let at: Arc<str> = call_id.as_str().into();
        for (kind, step, detail) in [
            ("call.new", Step::CtiTold, format!("call.new from {} to {}", call.1, call.3)),
            ("interaction.created", Step::InteractionCreated, format!("{} attributes", call.4.len())),
        ] {
            self.event(out, tenant, Subject::Interaction(id), kind, &data);
            let mut line = self.line(step, detail);
            line.bus_seq = Some(from.seq);
            line.call_id = Some(at.clone());
            self.write(out, id, line, false);
        }
    }

    pub(super) fn on_attributes(&mut self, id: Id, set: &Attributes, out: &mut Vec<Output>) {
        let Some(interaction) = self.interactions.get_mut(id) else {
            self.totals.unknown += 1;
            return;
        };
        let tenant = interaction.tenant;
        let changed = interaction.set(set);
        self.totals.dropped += changed.dropped as u64;
        if !changed.set.is_empty() {
            self.fact(out, Fact::AttributesSet { interaction: id, set: changed.set.clone() });
            let data = data::Changed { attributes: &changed.set };
            self.event(out, tenant, Subject::Interaction(id), "attributes.changed", &data);
        }
    }

    /// The script gives a place up, if it is not too late.
    fn leave(&mut self, id: Id, ticket: Id, out: &mut Vec<Output>) -> Left {
        match self.entries.get(&ticket).filter(|e| e.interaction == id).map(|e| e.state) {
            Some(TicketState::Offered) => Left::Offered,
            Some(TicketState::Taken) => Left::Taken,
            Some(_) => {
                self.end_place(ticket, "left", out);
                Left::Left
            }
            None => Left::Left,
        }
    }

    /// A span in which no agent is offered the call.
    fn protect(&mut self, id: Id, ticket: Id, on: bool) -> Left {
        let Some(entry) = self.entries.get_mut(&ticket).filter(|e| e.interaction == id) else {
            return Left::Left;
        };
        match entry.state {
            TicketState::Offered if on => return Left::Offered,
            TicketState::Taken if on => return Left::Taken,
            _ => entry.protected = on,
        }
        self.list_place(ticket);
        Left::Left
    }

    fn on_call_ended(&mut self, id: Id, end: CallEnded, out: &mut Vec<Output>) {
        if self.interactions.get(id).is_none() {
            self.totals.unknown += 1;
            return;
        }
        self.free_tokens(id, out);
        if let Some(ticket) = self.interactions.get(id).and_then(|i| i.ticket) {
            self.end_place(ticket, "caller-gone", out);
        }
        self.close(id, end, out);
    }

    /// Whatever the call still holds of agents is free.
    pub(super) fn free_tokens(&mut self, id: Id, out: &mut Vec<Output>) {
        let tokens: Vec<Id> = match self.interactions.get(id) {
            Some(i) => {
                i.offers.iter().map(|o| o.token).filter(|t| self.reservations.get(*t).is_some()).collect()
            }
            None => return,
        };
        for token in tokens {
            match self.reservations.get(token).map(|r| (r.phase, r.accepted_ms)) {
                Some((Phase::Talking, accepted_ms)) => {
                    let talked_ms = (self.now.wall_ms - accepted_ms).max(0) as u64;
                    self.on_talk_ended(token, talked_ms, TalkEnd::CallerGone, out);
                }
                Some((Phase::Ringing, _)) => self.settle(token, &OfferResult::CallerGone, None, out),
                None => {}
            }
        }
    }

    fn close(&mut self, id: Id, end: CallEnded, out: &mut Vec<Output>) {
        let Some(interaction) = self.interactions.close(id) else { return };
        self.totals.closed += 1;
        let tenant = interaction.tenant;
        let record = interaction.into_record(id, self.now.wall_ms, end);
        let data = data::Ended {
            cause: record.end.cause,
            by: &record.end.by,
            text: &record.end.text,
            status: record.end.status,
            answered: record.end.answered,
            duration_ms: record.end.duration_ms,
            waited_ms: record.waited_ms,
            talked_ms: record.talked_ms,
            agent: &record.agent,
            workgroup: &record.workgroup,
            recordings: &record.end.recordings,
        };
        let at = out.len();
        self.event(out, tenant, Subject::Interaction(id), "call.ended", &data);
        self.totals.facts += 1;
        out.insert(at, Output::Fact(Fact::Closed(Arc::new(record))));
    }

    /// The calls of a shard's former lives are dead.
    fn lose_shard(&mut self, shard: u16, epoch: u64, out: &mut Vec<Output>) {
        let mut lost: Vec<Id> = self
            .interactions
            .iter()
            .filter(|(_, i)| i.shard == shard && i.shard_epoch < epoch)
            .map(|(id, _)| *id)
            .collect();
        lost.sort_unstable();
        for id in lost {
            self.lose(id, out);
        }
    }

    /// Closes an interaction whose node was lost; its place is remembered for a caller who calls back.
    pub(super) fn lose(&mut self, id: Id, out: &mut Vec<Output>) {
        let Some(interaction) = self.interactions.get(id) else { return };
        let (tenant, began_ms, ticket) = (interaction.tenant, interaction.began_ms, interaction.ticket);
        let answered = interaction.first_accepted_ms.is_some();
        self.totals.node_lost += 1;
        if let Some(ticket) = ticket
            && let Some(entry) = self.entries.get(&ticket)
        {
            let queue = &self.tenants[tenant as usize].queues[entry.home.queue as usize];
            let place = Ghost {
                ticket,
                interaction: id,
                number: entry.number,
                key_ms: entry.key.0,
                arrived_ms: entry.arrived_ms,
                direct: queue
                    .agent
                    .map(|a| self.tenants[tenant as usize].agents[a as usize].agent.name.clone()),
                skills: entry.skill_names.clone(),
                priority: entry.priority,
                until_ms: 0,
            };
            let (workgroup, caller) = (queue.config.name.clone(), entry.caller.clone());
            let waits = entry.state != TicketState::Taken;
            let waited_ms = (self.now.wall_ms - entry.waiting_since_ms).max(0) as u64;
            self.keep_ghost(tenant, workgroup.clone(), caller, place, out);
            self.drop_place(ticket);
            if waits {
                let data = data::Left { ticket, workgroup: &workgroup, reason: NODE_LOST, waited_ms };
                self.event(out, tenant, Subject::Interaction(id), "queue.left", &data);
            }
        }
        self.free_tokens(id, out);
        let end = node_lost(began_ms, self.now.wall_ms, answered);
        let line = self.line(Step::After, "node-lost: the node that owned the call is gone".to_owned());
        self.write(out, id, line, true);
        self.close(id, end, out);
    }

    /// Remembers a place, if anybody could come back to it.
    pub(super) fn keep_ghost(
        &mut self,
        tenant: u16,
        workgroup: Name,
        caller: String,
        mut ghost: Ghost,
        out: &mut Vec<Output>,
    ) {
        let held = &self.tenants[tenant as usize];
        let grace_ms = super::tenant::config(&self.model, held).map_or(0, |t| t.call_back_grace_ms);
        if caller.is_empty() || grace_ms == 0 {
            self.fact(out, Fact::Unqueued { ticket: ghost.ticket, why: NODE_LOST.to_owned() });
            return;
        }
        if ghost.until_ms == 0 {
            ghost.until_ms = self.now.wall_ms.saturating_add_unsigned(grace_ms);
            self.fact(out, Fact::Ghost { ticket: ghost.ticket, until_ms: ghost.until_ms });
        }
        if let Some(other) = self.tenants[tenant as usize].ghosts.keep(workgroup, caller, ghost) {
            self.fact(out, Fact::Unqueued { ticket: other.ticket, why: NODE_LOST.to_owned() });
        }
        self.arm_ghosts(tenant);
    }

    fn on_register(&mut self, from: From, register: Register, out: &mut Vec<Output>) {
        let (status, contacts) = self.register(&register, out);
        let request = register.request;
        self.send(out, from.shard, None, ToShard::Registered { request, status, contacts });
    }

    /// Phones that registered over a connection are gone with it (RFC 5626 6).
    fn on_flow_closed(&mut self, flow: Flow) {
        let wall_ms = self.now.wall_ms;
        let mut agents = Vec::new();
        for (tenant, held) in self.tenants.iter_mut().enumerate() {
            for user in held.bindings.close(flow, wall_ms) {
                let of_user = held.users.get(&user).into_iter().flatten();
                agents.extend(of_user.map(|agent| AgentRef { tenant: tenant as u16, agent: *agent }));
            }
        }
        for agent in agents {
            self.relist(agent);
        }
    }

    /// A shard's phones begin or end to watch an agent.
    fn on_watch(&mut self, shard: u16, tenant: Name, agent: Name, on: bool, out: &mut Vec<Output>) {
        let at = self.tenant_slots.get(&tenant).and_then(|slot| {
            let held = &self.tenants[*slot as usize];
            let number = held.agent_slots.get(&agent).copied()?;
            let known = held.agents[number as usize].index.is_some();
            known.then_some(AgentRef { tenant: *slot, agent: number })
        });
        if !on {
            if let Some(shards) = at.and_then(|at| self.watchers.get_mut(&at)) {
                shards.remove(&shard);
            }
            return;
        }
        let state = at.map(|at| {
            self.watchers.entry(at).or_default().insert(shard);
            self.tenants[at.tenant as usize].agents[at.agent as usize].agent.state
        });
        self.send(out, shard, None, ToShard::AgentState { tenant, agent, state });
    }

    fn register(&mut self, register: &Register, out: &mut Vec<Output>) -> (u16, Vec<Contact>) {
        let wall_ms = self.now.wall_ms;
        let Some(tenant) = self.tenant_slots.get(&register.tenant).copied() else { return (404, Vec::new()) };
        let held = &mut self.tenants[tenant as usize];
        let Some(agents) = held.users.get(&register.user).cloned() else { return (404, Vec::new()) };
        let changed = match held.bindings.register(wall_ms, register) {
            Ok(changed) => changed,
            Err(refused) => return (refused.0, Vec::new()),
        };
        let contacts = held.bindings.contacts(&register.user, wall_ms);
        for binding in changed {
            self.fact(
                out,
                Fact::Bound {
                    tenant: register.tenant.clone(),
                    user: register.user.clone(),
                    flow: binding.edge(),
                    expires_ms: binding.durable_ms(),
                    uri: binding.uri,
                },
            );
        }
        self.arm_bindings(tenant);
        for agent in agents {
            self.relist(AgentRef { tenant, agent });
        }
        (200, contacts)
    }

    /// One step of an agent's machine with all that follows from it. False when the state forbids it.
    pub(super) fn agent_event(
        &mut self,
        at: AgentRef,
        event: agent::Event,
        out: &mut Vec<Output>,
    ) -> Result<(), agent::Illegal> {
        let tenant = &mut self.tenants[at.tenant as usize];
        let slot = &mut tenant.agents[at.agent as usize];
        let before = (slot.agent.is_logged_in(), slot.agent.is_working());
        let interaction = slot.agent.token.and_then(|t| self.reservations.get(t)).map(|r| r.interaction);
        let effects = slot.agent.apply(self.now, event)?;
        let after = (slot.agent.is_logged_in(), slot.agent.is_working());
        let told = slot.agent.untold(self.now);
        let name = slot.agent.name.clone();
        if before != after {
            for queue in &slot.serves {
                let queue = &mut tenant.queues[*queue as usize];
                queue.logged_in = queue.logged_in + u32::from(after.0) - u32::from(before.0);
                queue.working = queue.working + u32::from(after.1) - u32::from(before.1);
            }
        }
        if effects.stop_timer || effects.wrap_up_ms.is_some() || effects.back_off_ms.is_some() {
            self.clock.cancel(&mut slot.timer);
        }
        if let Some(ms) = effects.wrap_up_ms.or(effects.back_off_ms) {
            let deadline = self.now.after_ns(cordboard_base::ms(ms));
            slot.timer = Some(self.clock.set(deadline, super::clock::Wake::Agent(at)));
        }
        if let Some((state, reason, misses, wall_ms)) = told {
            let tenant = self.tenants[at.tenant as usize].name.clone();
            let agent = name.clone();
            self.fact(out, Fact::AgentState { tenant, agent, state, reason, misses, wall_ms });
        }
        if effects.changed {
            let agent = &self.tenants[at.tenant as usize].agents[at.agent as usize].agent;
            let interaction =
                agent.token.and_then(|t| self.reservations.get(t)).map(|r| r.interaction).or(interaction);
            let (state, reason) = (agent.state, agent.reason.clone());
            let data = data::State { agent: &name, state, reason: &reason, interaction };
            self.event(out, at.tenant, Subject::Agent(&name), "agent.state", &data);
            let watchers = self.watchers.get(&at).cloned().unwrap_or_default();
            for shard in watchers {
                let tenant = self.tenants[at.tenant as usize].name.clone();
                let body = ToShard::AgentState { tenant, agent: name.clone(), state: Some(state) };
                self.send(out, shard, None, body);
            }
        }
        if let Some(token) = effects.revoke
            && !bug!(self, revoke_ignored)
            && let Some(held) = self.reservations.get(token)
        {
            let (shard, interaction) = (held.shard, held.interaction);
            self.send(out, shard, Some(interaction), ToShard::Revoke { token });
        }
        self.relist(at);
        Ok(())
    }

    /// Puts an agent into the ready sets or takes it out, as the state and the phone say.
    pub(super) fn relist(&mut self, at: AgentRef) {
        let wall_ms = self.now.wall_ms;
        let tenant = &mut self.tenants[at.tenant as usize];
        let reachable = tenant.reachable(at.agent, wall_ms);
        let slot = &mut tenant.agents[at.agent as usize];
        let mut free = slot.agent.is_free();
        if bug!(self, double_offer_same_agent) {
            free |= slot.agent.state == crate::commands::AgentStateName::Reserved;
        }
        let wanted = (free && reachable && slot.index.is_some()).then_some(slot.agent.idle_since_ns);
        if slot.listed == wanted {
            return;
        }
        let former = std::mem::replace(&mut slot.listed, wanted);
        for queue in &slot.serves {
            let ready = &mut tenant.queues[*queue as usize].ready;
            if let Some(since) = former {
                ready.remove(&(since, at.agent));
            }
            if let Some(since) = wanted {
                ready.insert((since, at.agent));
            }
        }
        if let Some(since) = former {
            self.backlog.agents.remove(&(since, at));
        }
        if let Some(since) = wanted {
            self.backlog.agents.insert((since, at));
        }
    }
}

/// How a call ends whose node is gone.
pub(super) fn node_lost(began_ms: i64, now_ms: i64, answered: bool) -> CallEnded {
    CallEnded {
        cause: CAUSE_NODE_LOST,
        by: "host".to_owned(),
        text: NODE_LOST.to_owned(),
        status: if answered { 200 } else { 503 },
        answered,
        duration_ms: (now_ms - began_ms).max(0) as u64,
        recordings: Vec::new(),
    }
}

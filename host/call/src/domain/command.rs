//! What operators, desktops and the command line ask.

use std::sync::Arc;

use cordboard_base::Id;

use super::tenant::Tenant;
use super::{AgentRef, Domain, Output};
use crate::agent::Event;
use crate::commands::{AgentView, CallView, Command, EntryView, QueueView, Reply};
use crate::interaction::Interaction;
use crate::messages::{CallEnded, TicketState, ToShard};
use crate::model::Model;
use crate::queue::estimate::seconds;
use crate::queue::{Entry, Queue, QueueRef};

impl Domain {
    pub(super) fn on_command(&mut self, command: Command, out: &mut Vec<Output>) -> Reply {
        match command {
            Command::LogIn { tenant, agent, ready } => {
                self.ask_agent(&tenant, &agent, Event::LogIn { ready }, out)
            }
            Command::LogOut { tenant, agent } => self.ask_agent(&tenant, &agent, Event::LogOut, out),
            Command::SetReady { tenant, agent, ready, reason } => {
                self.ask_agent(&tenant, &agent, Event::SetReady { ready, reason }, out)
            }
            Command::Agents => Reply::Agents(self.agents()),
            Command::Queues => Reply::Queues(self.queues()),
            Command::Calls => Reply::Calls(self.calls()),
            Command::Call { interaction } => match self.interactions.get(interaction) {
                Some(i) => {
                    Reply::Call(Box::new(i.record(interaction, self.now.wall_ms, live(i, self.now.wall_ms))))
                }
                None => no_call(interaction),
            },
            Command::Control { interaction, command } => {
                match self.interactions.get(interaction).map(|i| i.shard) {
                    Some(shard) => {
                        self.send(out, shard, Some(interaction), ToShard::Command(command));
                        Reply::Done
                    }
                    None => no_call(interaction),
                }
            }
        }
    }

    fn ask_agent(&mut self, tenant: &str, agent: &str, event: Event, out: &mut Vec<Output>) -> Reply {
        let error = |status, text| Reply::Error { status, text };
        let Some(slot) = self.tenant_slots.get(tenant).copied() else {
            return error(404, format!("no tenant is named {tenant:?}: the configuration has the names"));
        };
        let held = &self.tenants[slot as usize];
        let number =
            held.agent_slots.get(agent).copied().filter(|a| held.agents[*a as usize].index.is_some());
        let Some(number) = number else {
            return error(
                404,
                format!("tenant {tenant} has no agent named {agent:?}: list them with `agents`"),
            );
        };
        match self.agent_event(AgentRef { tenant: slot, agent: number }, event, out) {
            Ok(()) => Reply::Done,
            Err(illegal) => error(409, illegal.0),
        }
    }

    fn agents(&self) -> Vec<AgentView> {
        let mut views = Vec::new();
        for tenant in self.tenants.iter().filter(|t| t.index.is_some()) {
            for (number, slot) in tenant.agents.iter().enumerate().filter(|(_, s)| s.index.is_some()) {
                let agent = &slot.agent;
                views.push(AgentView {
                    tenant: tenant.name.clone(),
                    agent: agent.name.clone(),
                    state: agent.state,
                    reason: agent.reason.clone(),
                    since_ms: agent.since_ms,
                    interaction: agent.token.and_then(|t| self.reservations.get(t)).map(|r| r.interaction),
                    misses: agent.misses,
                    calls: agent.calls,
                    reachable: tenant.reachable(number as u32, self.now.wall_ms),
                    workgroups: workgroups(tenant, &slot.serves),
                });
            }
        }
        views
    }

    fn queues(&self) -> Vec<QueueView> {
        let mut views = Vec::new();
        for (t, tenant) in self.tenants.iter().enumerate() {
            for (q, queue) in tenant.queues.iter().enumerate() {
                let idle = queue.order.is_empty() && queue.taken == 0;
                // Agents' own queues and queues of former workgroups show only while somebody is in them.
                if queue.index.is_none() && idle {
                    continue;
                }
                views.push(self.queue_view(QueueRef { tenant: t as u16, queue: q as u32 }, tenant, queue));
            }
        }
        views
    }

    fn queue_view(&self, at: QueueRef, tenant: &Tenant, queue: &Queue) -> QueueView {
        let now_ms = self.now.wall_ms;
        let waited = |e: &Entry| (now_ms - e.waiting_since_ms).max(0) as u64;
        let mut entries = Vec::with_capacity(queue.order.len() + queue.taken as usize);
        for ((_, ticket), position) in queue.order.iter().zip(1..) {
            if let Some(e) = self.entries.get(ticket) {
                entries.push(entry_view(*ticket, e, position, waited(e)));
            }
        }
        let longest_wait_ms = entries.iter().map(|e| e.waited_ms).max().unwrap_or(0);
        if queue.taken > 0 {
            let mut taken: Vec<_> =
                self.entries.iter().filter(|(_, e)| e.home == at && e.state == TicketState::Taken).collect();
            taken.sort_unstable_by_key(|(ticket, _)| **ticket);
            entries.extend(taken.into_iter().map(|(ticket, e)| entry_view(*ticket, e, 0, 0)));
        }
        for (_, caller, ghost) in tenant.ghosts.all().filter(|(w, ..)| **w == queue.config.name) {
            entries.push(EntryView {
                ticket: ghost.ticket,
                interaction: ghost.interaction,
                caller: caller.clone(),
                position: 0,
                state: TicketState::Waiting,
                waited_ms: (now_ms - ghost.arrived_ms).max(0) as u64,
                awaiting_call_back: true,
            });
        }
        QueueView {
            tenant: tenant.name.clone(),
            workgroup: queue.config.name.clone(),
            waiting: queue.order.len() as u32 - queue.offered,
            offered: queue.offered,
            taken: queue.taken,
            longest_wait_ms,
            estimate_s: queue.wait_ms(queue.order.len() as u32 + 1).map(seconds),
            agents_ready: queue.ready.len() as u32,
            agents_logged_in: queue.logged_in,
            entered: queue.entered,
            served: queue.served,
            abandoned: queue.abandoned,
            estimate_error_ms: queue.estimator.error_ms(),
            entries,
        }
    }

    fn calls(&self) -> Vec<CallView> {
        let mut views: Vec<CallView> =
            self.interactions.iter().map(|(id, i)| self.call_view(*id, i)).collect();
        views.sort_unstable_by_key(|v| v.interaction);
        views
    }

    fn call_view(&self, id: Id, i: &Interaction) -> CallView {
        let entry = i.ticket.and_then(|t| self.entries.get(&t));
        let state = match entry.map(|e| e.state) {
            Some(TicketState::Waiting | TicketState::Returned) => "waiting",
            Some(TicketState::Offered) => "offered",
            Some(TicketState::Taken) => "talking",
            Some(TicketState::Ended) | None => "ivr",
        };
        let held = entry.and_then(|e| e.tokens.first()).and_then(|t| self.reservations.get(*t));
        CallView {
            interaction: id,
            tenant: i.tenant_name.clone(),
            caller: i.caller.clone(),
            called: i.called.clone(),
            state: state.to_owned(),
            began_ms: i.began_ms,
            workgroup: entry.map(|e| self.queue(e.home).config.name.clone()),
            agent: held
                .map(|r| self.tenants[r.home.tenant as usize].agents[r.agent as usize].agent.name.clone()),
            attributes: i.attributes.clone(),
            last: i.lines.last().cloned(),
        }
    }

    /// Takes over a configuration. Calls go on; places of workgroups that are gone end.
    pub(super) fn configure(&mut self, model: Arc<Model>, out: &mut Vec<Output>) {
        self.model = Arc::clone(&model);
        for tenant in &mut self.tenants {
            tenant.index = None;
            tenant.agents.iter_mut().for_each(|slot| slot.index = None);
            tenant.queues.iter_mut().for_each(|queue| queue.index = None);
        }
        for (index, config) in model.tenants.iter().enumerate() {
            let slot = match self.tenant_slots.get(&config.name) {
                Some(slot) => *slot,
                None => {
                    let slot = self.tenants.len() as u16;
                    self.tenant_slots.insert(config.name.clone(), slot);
                    self.tenants.push(Tenant::new(config.name.clone()));
                    slot
                }
            };
            self.tenants[slot as usize].configure(index, config, self.now);
        }
        self.refresh_places(out);
        self.refresh_staff(out);
    }

    /// Skills have new numbers, workgroups may be gone: every place is listed anew.
    fn refresh_places(&mut self, out: &mut Vec<Output>) {
        let mut tickets: Vec<Id> = self.entries.keys().copied().collect();
        tickets.sort_unstable();
        for ticket in &tickets {
            self.unlist_place(*ticket);
        }
        // Nothing is listed under old numbers any more.
        for ticket in tickets {
            let Some(entry) = self.entries.get(&ticket) else { continue };
            let (home, waits) = (entry.home, entry.waits());
            let required = self.skill_numbers(home.tenant, &entry.skill_names);
            let queue = self.queue(home);
            let gone = match queue.agent {
                Some(agent) => self.tenants[home.tenant as usize].agents[agent as usize].index.is_none(),
                None => queue.index.is_none(),
            };
            if waits && gone {
                self.end_place(ticket, "workgroup-removed", out);
                continue;
            }
            if waits && queue.config.policy.is_some() {
                self.backlog.replace.push_back(ticket);
            }
            if let Some(entry) = self.entries.get_mut(&ticket) {
                entry.required = required;
                entry.offer_to.truncate(1);
            }
            self.list_place(ticket);
        }
    }

    /// Staff counts and ready sets, from nothing; agents who are no longer configured are logged out.
    fn refresh_staff(&mut self, out: &mut Vec<Output>) {
        self.backlog.agents.clear();
        let mut gone = Vec::new();
        for (t, tenant) in self.tenants.iter_mut().enumerate() {
            for queue in &mut tenant.queues {
                queue.ready.clear();
                queue.logged_in = 0;
                queue.working = 0;
            }
            for (number, slot) in tenant.agents.iter_mut().enumerate() {
                slot.listed = None;
                for queue in &slot.serves {
                    let queue = &mut tenant.queues[*queue as usize];
                    queue.logged_in += u32::from(slot.agent.is_logged_in());
                    queue.working += u32::from(slot.agent.is_working());
                }
                if slot.index.is_none() && slot.agent.is_logged_in() {
                    gone.push(AgentRef { tenant: t as u16, agent: number as u32 });
                }
            }
        }
        for at in gone {
            let _ = self.agent_event(at, Event::LogOut, out);
        }
        for t in 0..self.tenants.len() {
            for agent in 0..self.tenants[t].agents.len() {
                self.relist(AgentRef { tenant: t as u16, agent: agent as u32 });
            }
        }
    }
}

fn workgroups(tenant: &Tenant, serves: &[u32]) -> Vec<crate::Name> {
    let queues = serves.iter().map(|q| &tenant.queues[*q as usize]);
    queues.filter(|q| q.agent.is_none()).map(|q| q.config.name.clone()).collect()
}

fn entry_view(ticket: Id, e: &Entry, position: u32, waited_ms: u64) -> EntryView {
    EntryView {
        ticket,
        interaction: e.interaction,
        caller: e.caller.clone(),
        position,
        state: e.state,
        waited_ms,
        awaiting_call_back: false,
    }
}

/// The end of a call that has not ended.
fn live(i: &Interaction, now_ms: i64) -> CallEnded {
    CallEnded {
        cause: 0,
        by: String::new(),
        text: "live".to_owned(),
        status: 0,
        answered: i.first_accepted_ms.is_some(),
        duration_ms: (now_ms - i.began_ms).max(0) as u64,
        recordings: Vec::new(),
    }
}

fn no_call(interaction: Id) -> Reply {
    Reply::Error {
        status: 404,
        text: format!("no live call is {interaction}: it may have ended, see the records"),
    }
}

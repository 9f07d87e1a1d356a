//! What is done in batches and when the clock says so.

use cordboard_base::{Id, ms};

use super::clock::Wake;
use super::{AgentRef, BATCH, Domain, Output};
use crate::Name;
use crate::agent::Event;
use crate::facts::Fact;
use crate::messages::ToShard;
use crate::policy::{self, Policies};
use crate::queue::estimate::seconds;
use crate::queue::{Key, QueueRef};

/// A ticket's position is told at most so often.
pub(super) const TELL_EVERY_MS: u64 = 1_000;
/// One that is far from the head, less often.
const TELL_FAR_EVERY_MS: u64 = 5_000;
/// From this position on it is far.
const FAR: u32 = 10;
/// How long after a 'nobody yet' a policy is asked again.
pub(super) const ASK_AGAIN_MS: u64 = 1_000;
/// Timers run for each tick.
const TIMERS_A_TICK: usize = 256;

impl Domain {
    /// Runs the timers that are due, at most a batch of them.
    pub(super) fn run_timers(&mut self, out: &mut Vec<Output>) {
        for _ in 0..TIMERS_A_TICK {
            let Some(wake) = self.clock.expired(self.now.mono_ns) else { return };
            match wake {
                Wake::Lease(token) => self.on_lease(token, out),
                Wake::Agent(at) => self.on_agent_timer(at, out),
                Wake::Plan(ticket) => {
                    if let Some(entry) = self.entries.get_mut(&ticket) {
                        entry.plan_timer = None;
                    }
                    self.run_plan(ticket, out);
                }
                Wake::Positions(at) => {
                    let now_ns = self.now.mono_ns;
                    let sweep = &mut self.queue_mut(at).sweep;
                    sweep.timer = None;
                    sweep.dirty = false;
                    sweep.last_ns = Some(now_ns);
                    sweep.cursor = Some(((i64::MIN, 0), 0));
                    self.backlog.sweeps.push_back(at);
                }
                Wake::Deferred(at) => self.ask_deferred_again(at),
                Wake::Bindings(tenant) => self.expire_bindings(tenant, out),
                Wake::Ghosts(tenant) => {
                    self.tenants[tenant as usize].ghosts_timer = None;
                    for ticket in self.tenants[tenant as usize].ghosts.expire(self.now.wall_ms) {
                        self.fact(out, Fact::Unqueued { ticket, why: "grace".to_owned() });
                    }
                    self.arm_ghosts(tenant);
                }
            }
        }
    }

    fn on_agent_timer(&mut self, at: AgentRef, out: &mut Vec<Output>) {
        let slot = &mut self.tenants[at.tenant as usize].agents[at.agent as usize];
        slot.timer = None;
        let event = if slot.agent.back_off { Event::BackOffOver } else { Event::WrapUpOver };
        // A timer that lost its meaning was cancelled; were one to come, the machine refuses it.
        let _ = self.agent_event(at, event, out);
    }

    fn ask_deferred_again(&mut self, at: QueueRef) {
        let queue = self.queue_mut(at);
        queue.deferred_timer = None;
        for ticket in std::mem::take(&mut queue.deferred) {
            if let Some(entry) = self.entries.get_mut(&ticket) {
                entry.deferred = false;
                if entry.indexed {
                    self.backlog.places.insert((entry.key, ticket));
                }
            }
        }
    }

    /// Waits for the next expiry of a tenant's bindings.
    pub(super) fn arm_bindings(&mut self, tenant: u16) {
        let held = &mut self.tenants[tenant as usize];
        self.clock.cancel(&mut held.bindings_timer);
        let next = held.bindings.users().filter_map(|user| held.bindings.next_expiry_ms(user)).min();
        if let Some(at_ms) = next {
            let deadline = self.now.after_ns(ms((at_ms - self.now.wall_ms).max(0) as u64));
            held.bindings_timer = Some(self.clock.set(deadline, Wake::Bindings(tenant)));
        }
    }

    fn expire_bindings(&mut self, tenant: u16, _: &mut Vec<Output>) {
        let wall_ms = self.now.wall_ms;
        let held = &mut self.tenants[tenant as usize];
        held.bindings_timer = None;
        let users: Vec<String> = held.bindings.users().cloned().collect();
        let mut agents: Vec<u32> = Vec::new();
        for user in &users {
            if held.bindings.expire(user, wall_ms) {
                agents.extend(held.users.get(user).into_iter().flatten());
            }
        }
        for agent in agents {
            self.relist(AgentRef { tenant, agent });
        }
        self.arm_bindings(tenant);
    }

    /// Waits for the next end of a tenant's remembered places.
    pub(super) fn arm_ghosts(&mut self, tenant: u16) {
        let held = &mut self.tenants[tenant as usize];
        self.clock.cancel(&mut held.ghosts_timer);
        if let Some(at_ms) = held.ghosts.next_expiry_ms() {
            let deadline = self.now.after_ns(ms((at_ms - self.now.wall_ms).max(0) as u64));
            held.ghosts_timer = Some(self.clock.set(deadline, Wake::Ghosts(tenant)));
        }
    }

    /// A policy was exchanged: its waiting places are placed anew, in batches.
    pub(super) fn on_policy_changed(&mut self, plugin: &Name) {
        for tenant in &self.tenants {
            for queue in tenant.queues.iter().filter(|q| q.config.policy.as_ref() == Some(plugin)) {
                self.backlog.replace.extend(queue.order.values());
            }
        }
        // Asked for twice before the first was done: the second round does it all.
        let mut seen = cordboard_base::Set::default();
        self.backlog.replace.retain(|ticket| seen.insert(*ticket));
    }

    /// Works off a batch of what was put off.
    pub(super) fn work(&mut self, policies: &mut dyn Policies, out: &mut Vec<Output>) {
        for _ in 0..BATCH {
            let Some(ticket) = self.backlog.replace.pop_front() else { break };
            self.place_anew(ticket, policies, out);
        }
        self.match_backlog(policies, out);
        if let Some(at) = self.backlog.sweeps.pop_front()
            && !self.tell_positions(at, out)
        {
            self.backlog.sweeps.push_back(at);
        }
    }

    fn place_anew(&mut self, ticket: Id, policies: &mut dyn Policies, out: &mut Vec<Output>) {
        let Some(entry) = self.entries.get(&ticket).filter(|e| e.waits()) else { return };
        let home = entry.home;
        let required = self.skill_numbers(home.tenant, &entry.skill_names);
        let question = policy::Entry {
            arrived_ms: entry.arrived_ms,
            now_ms: self.now.wall_ms,
            priority: entry.priority,
            skills: required.clone(),
            misses: entry.misses,
        };
        policies.about(entry.interaction);
        let placement = self.ask_placement(home, &question, policies, out);
        self.unlist_place(ticket);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.required = required;
            entry.offer_to.truncate(1);
        }
        self.move_place(ticket, placement.key_ms, out);
        self.adopt_plan(ticket, placement.plan, out);
        self.list_place(ticket);
    }

    /// Tells a batch of a queue's positions. True when the walk is at its end.
    fn tell_positions(&mut self, at: QueueRef, out: &mut Vec<Output>) -> bool {
        let now_ns = self.now.mono_ns;
        let queue = self.queue(at);
        let Some((from, mut position)) = queue.sweep.cursor else { return true };
        let batch: Vec<(Key, Id)> = queue.order.range(from..).take(BATCH).map(|(k, t)| (*k, *t)).collect();
        let mut put_off = false;
        for (_, ticket) in &batch {
            position += 1;
            let Some(entry) = self.entries.get_mut(ticket) else { continue };
            if entry.told_position == position {
                continue;
            }
            let every_ms = if position > FAR { TELL_FAR_EVERY_MS } else { TELL_EVERY_MS };
            if now_ns.saturating_sub(entry.told_ns) < ms(every_ms) {
                put_off = true;
                continue;
            }
            entry.told_position = position;
            entry.told_ns = now_ns;
            let (id, state) = (entry.interaction, entry.state);
            let wait_s = self.queue(at).wait_ms(position).map(seconds);
            let Some(shard) = self.interactions.get(id).map(|i| i.shard) else { continue };
            self.totals.positions_told += 1;
            self.send(out, shard, Some(id), ToShard::Ticket { ticket: *ticket, state, position, wait_s });
        }
        let done = batch.len() < BATCH;
        let sweep = &mut self.queue_mut(at).sweep;
        sweep.dirty |= put_off;
        sweep.cursor = match batch.last() {
            Some(((key_ms, arrival), _)) if !done => Some(((*key_ms, arrival + 1), position)),
            _ => None,
        };
        if done && sweep.dirty {
            self.mark_positions(at);
        }
        done
    }
}

//! The life of a place between its entry and its end: listed for agents, planned, told, returned.

use cordboard_base::{Id, ms};

use super::clock::Wake;
use super::{Domain, Output, bug};
use crate::cti::{Subject, data};
use crate::facts::Fact;
use crate::messages::{TicketState, ToShard};
use crate::policy::{PlanAction, PlanStep};
use crate::queue::estimate::seconds;
use crate::queue::{Queue, QueueRef};

impl Domain {
    pub(super) fn queue(&self, at: QueueRef) -> &Queue {
        &self.tenants[at.tenant as usize].queues[at.queue as usize]
    }

    pub(super) fn queue_mut(&mut self, at: QueueRef) -> &mut Queue {
        &mut self.tenants[at.tenant as usize].queues[at.queue as usize]
    }

    /// Lists a place for agents or takes it off the list, as its state says, and lets it look for one.
    pub(super) fn list_place(&mut self, ticket: Id) {
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        let wanted = entry.waits() && !entry.protected;
        if entry.indexed != wanted {
            entry.indexed = wanted;
            let queues = &mut self.tenants[entry.home.tenant as usize].queues;
            for queue in &entry.offer_to {
                let queue = &mut queues[*queue as usize];
                if wanted {
                    queue.list(&entry.required, entry.key, ticket);
                } else {
                    queue.unlist(&entry.required, entry.key);
                }
            }
        }
        if wanted {
            self.backlog.places.insert((entry.key, ticket));
        } else {
            self.backlog.places.remove(&(entry.key, ticket));
        }
    }

    /// Takes a place off the lists before its key, its skills or its queues change.
    pub(super) fn unlist_place(&mut self, ticket: Id) {
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        if std::mem::take(&mut entry.indexed) {
            let queues = &mut self.tenants[entry.home.tenant as usize].queues;
            for queue in &entry.offer_to {
                queues[*queue as usize].unlist(&entry.required, entry.key);
            }
        }
        self.backlog.places.remove(&(entry.key, ticket));
    }

    /// Gives a place another key; the arrival number stays.
    pub(super) fn move_place(&mut self, ticket: Id, key_ms: i64, out: &mut Vec<Output>) {
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        if entry.key.0 == key_ms {
            return;
        }
        let (home, old) = (entry.home, entry.key);
        let listed = entry.indexed;
        self.unlist_place(ticket);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.key.0 = key_ms;
            let key = entry.key;
            let order = &mut self.queue_mut(home).order;
            if order.remove(&old).is_some() {
                order.insert(key, ticket);
            }
        }
        self.fact(out, Fact::Placed { ticket, key_ms });
        self.mark_positions(home);
        if listed {
            self.list_place(ticket);
        }
    }

    /// Takes over a plan, from its first step; what is due is done at once.
    pub(super) fn adopt_plan(&mut self, ticket: Id, mut plan: Vec<PlanStep>, out: &mut Vec<Output>) {
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        plan.reverse();
        entry.plan = plan;
        self.clock.cancel(&mut entry.plan_timer);
        self.run_plan(ticket, out);
    }

    /// Does the steps that are due and waits for the next.
    pub(super) fn run_plan(&mut self, ticket: Id, out: &mut Vec<Output>) {
        loop {
            let Some(entry) = self.entries.get_mut(&ticket) else { return };
            self.clock.cancel(&mut entry.plan_timer);
            let Some(next) = entry.plan.last() else { return };
            let due_ms = entry.arrived_ms.saturating_add_unsigned(next.after_ms);
            if due_ms > self.now.wall_ms {
                let deadline = self.now.after_ns(ms((due_ms - self.now.wall_ms) as u64));
                entry.plan_timer = Some(self.clock.set(deadline, Wake::Plan(ticket)));
                return;
            }
            let Some(step) = entry.plan.pop() else { return };
            let (key_ms, tenant) = (entry.key.0, entry.home.tenant);
            match step.action {
                PlanAction::RaiseMs(by) => self.move_place(ticket, key_ms.saturating_sub(by), out),
                PlanAction::DropSkills(drop) => {
                    self.unlist_place(ticket);
                    if let Some(entry) = self.entries.get_mut(&ticket) {
                        entry.required.retain(|skill| !drop.contains(skill));
                    }
                    self.list_place(ticket);
                }
                PlanAction::Overflow(workgroup) => {
                    let queue = self.tenants[tenant as usize].workgroups.get(workgroup as usize).copied();
                    self.unlist_place(ticket);
                    if let (Some(entry), Some(queue)) = (self.entries.get_mut(&ticket), queue)
                        && !entry.offer_to.contains(&queue)
                    {
                        entry.offer_to.push(queue);
                    }
                    self.list_place(ticket);
                }
            }
        }
    }

    /// Tells the shard how a place stands.
    pub(super) fn tell_place(&mut self, ticket: Id, out: &mut Vec<Output>) {
        let Some(entry) = self.entries.get(&ticket) else { return };
        let (state, id) = (entry.state, entry.interaction);
        let kept = entry.waits() || state == TicketState::Offered;
        let position = if kept { self.queue(entry.home).position(entry.key) } else { 0 };
        let wait_s = if kept { self.queue(entry.home).wait_ms(position).map(seconds) } else { None };
        let now_ns = self.now.mono_ns;
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.told_position = position;
            entry.told_ns = now_ns;
        }
        let Some(shard) = self.interactions.get(id).map(|i| i.shard) else { return };
        self.send(out, shard, Some(id), ToShard::Ticket { ticket, state, position, wait_s });
    }

    /// Back into the queue, at the same key and arrival number.
    pub(super) fn return_place(&mut self, ticket: Id, state: TicketState, out: &mut Vec<Output>) {
        let wall_ms = self.now.wall_ms;
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        let (home, was) = (entry.home, entry.state);
        entry.state = state;
        entry.tokens.clear();
        if bug!(self, place_reset_on_return) {
            self.arrivals += 1;
            let queue = &mut self.tenants[home.tenant as usize].queues[home.queue as usize];
            queue.order.remove(&entry.key);
            entry.key = (wall_ms, self.arrivals);
            queue.order.insert(entry.key, ticket);
        }
        let key = entry.key;
        let plan = if was == TicketState::Taken {
            entry.waiting_since_ms = wall_ms;
            !entry.plan.is_empty()
        } else {
            false
        };
        let id = entry.interaction;
        let queue = self.queue_mut(home);
        match was {
            TicketState::Offered => queue.offered -= 1,
            TicketState::Taken => {
                queue.taken -= 1;
                queue.order.insert(key, ticket);
                self.mark_positions(home);
            }
            _ => {}
        }
        if let Some(interaction) = self.interactions.get_mut(id) {
            interaction.ticket = Some(ticket);
        }
        self.tell_place(ticket, out);
        self.list_place(ticket);
        if plan {
            self.run_plan(ticket, out);
        }
    }

    /// The end of a place. Those who listen hear why, unless it was left for an agent before.
    pub(super) fn end_place(&mut self, ticket: Id, why: &str, out: &mut Vec<Output>) {
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        let (home, id, was) = (entry.home, entry.interaction, entry.state);
        let waited_ms = (self.now.wall_ms - entry.waiting_since_ms).max(0) as u64;
        self.fact(out, Fact::Unqueued { ticket, why: why.to_owned() });
        self.drop_place(ticket);
        let Some(interaction) = self.interactions.get_mut(id) else { return };
        let shard = interaction.shard;
        if was != TicketState::Taken {
            interaction.waited_ms += waited_ms;
            if why == "caller-gone" {
                self.totals.abandoned += 1;
                self.queue_mut(home).abandoned += 1;
            }
            let workgroup = self.queue(home).config.name.clone();
            let data = data::Left { ticket, workgroup: &workgroup, reason: why, waited_ms };
            self.event(out, home.tenant, Subject::Interaction(id), "queue.left", &data);
        }
        self.send(
            out,
            shard,
            Some(id),
            ToShard::Ticket { ticket, state: TicketState::Ended, position: 0, wait_s: None },
        );
    }

    /// Removes a place from every table.
    pub(super) fn drop_place(&mut self, ticket: Id) {
        self.unlist_place(ticket);
        let Some(mut entry) = self.entries.remove(&ticket) else { return };
        self.clock.cancel(&mut entry.plan_timer);
        let queue = self.queue_mut(entry.home);
        let moved = queue.order.remove(&entry.key).is_some();
        match entry.state {
            TicketState::Offered => queue.offered -= 1,
            TicketState::Taken => queue.taken -= 1,
            _ => {}
        }
        if moved {
            self.mark_positions(entry.home);
        }
        if let Some(interaction) = self.interactions.get_mut(entry.interaction)
            && interaction.ticket == Some(ticket)
        {
            interaction.ticket = None;
        }
    }

    /// The order of a queue has changed: its positions will be told, at most once a second.
    pub(super) fn mark_positions(&mut self, at: QueueRef) {
        let now_ns = self.now.mono_ns;
        let sweep = &mut self.tenants[at.tenant as usize].queues[at.queue as usize].sweep;
        sweep.dirty = true;
        if sweep.timer.is_none() && sweep.cursor.is_none() {
            let due_ns =
                sweep.last_ns.map_or(now_ns, |last| last.saturating_add(ms(super::work::TELL_EVERY_MS)));
            sweep.timer = Some(self.clock.set(due_ns.max(now_ns), Wake::Positions(at)));
        }
    }
}

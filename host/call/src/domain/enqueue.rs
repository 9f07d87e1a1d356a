//! Steps 9 to 12 as one transaction: qualify, place, estimate, record.

use cordboard_base::Id;

use super::bus::From;
use super::{Domain, Output, tenant};
use crate::Name;
use crate::cti::{Subject, data};
use crate::facts::Fact;
use crate::interaction::MAX_ENQUEUES;
use crate::interaction::qualify::{Qualified, qualify, refusal};
use crate::messages::{Place, QueueRequest, Refusal, TicketState, ToShard};
use crate::policy::{self, Placement, Policies};
use crate::queue::estimate::seconds;
use crate::queue::ghosts::Ghost;
use crate::queue::{Entry, QueueRef, Skills, plan};
use crate::timeline::Step;

/// What a qualified request asks of its queue.
struct Wish {
    home: QueueRef,
    skills: Vec<Name>,
    priority: u8,
    preferred: Option<u32>,
    direct: Option<Name>,
    rule: usize,
}

impl Domain {
    #[allow(clippy::too_many_arguments, reason = "one message's parts and the decision's surroundings")]
    pub(super) fn on_enqueue(
        &mut self,
        from: From,
        id: Id,
        key: u32,
        asked: &str,
        request: &QueueRequest,
        policies: &mut dyn Policies,
        out: &mut Vec<Output>,
    ) {
        let Some(interaction) = self.interactions.get(id) else {
            self.totals.unknown += 1;
            let result = Err(refusal("no-call", "the domain does not know the call".to_owned()));
            self.send(out, from.shard, Some(id), ToShard::Enqueued { key, result });
            return;
        };
        if let Some(result) = interaction.answered(key) {
            // Asked twice: the same place, as it stands now.
            let result = result.clone();
            self.send(out, from.shard, Some(id), ToShard::Enqueued { key, result });
            return;
        }
        self.on_attributes(id, &request.attributes, out);
        let result = self.enqueue(from, id, key, asked, request, policies, out);
        if let Err(refusal) = &result {
            self.totals.refused += 1;
            let mut line =
                self.line(Step::Qualified, format!("refused: {}: {}", refusal.reason, refusal.text));
            line.bus_seq = Some(from.seq);
            self.write(out, id, line, false);
        }
        if let Some(interaction) = self.interactions.get_mut(id)
            && interaction.enqueues.len() < MAX_ENQUEUES
        {
            interaction.enqueues.push((key, result.clone()));
        }
        self.send(out, from.shard, Some(id), ToShard::Enqueued { key, result });
    }

    #[allow(clippy::too_many_arguments, reason = "as above")]
    fn enqueue(
        &mut self,
        from: From,
        id: Id,
        key: u32,
        asked: &str,
        request: &QueueRequest,
        policies: &mut dyn Policies,
        out: &mut Vec<Output>,
    ) -> Result<Place, Refusal> {
        let wish = self.wish(id, asked, request)?;
        // One place a call: a new request gives the old place up, unless an agent is involved, or there is
        // no room for it elsewhere.
        let old = self.interactions.get(id).and_then(|i| i.ticket);
        let held = old.and_then(|old| self.entries.get(&old)).map(|e| (e.state, e.home));
        match held {
            Some((TicketState::Offered, _)) => {
                return Err(refusal("offered", "the call rings at an agent".to_owned()));
            }
            Some((TicketState::Taken, _)) => {
                return Err(refusal("taken", "an agent has the call".to_owned()));
            }
            _ => self.room(wish.home, held.is_some_and(|(_, home)| home == wish.home))?,
        }
        if let Some(old) = old {
            self.end_place(old, "moved", out);
        }
        let place = self.place(from, id, key, &wish, policies, out);
        place.ok_or_else(|| refusal("no-call", "the domain does not know the call".to_owned()))
    }

    /// Step 11: the interaction manager decides what the request is.
    fn wish(&mut self, id: Id, asked: &str, request: &QueueRequest) -> Result<Wish, Refusal> {
        let unknown = || refusal("no-call", "the domain does not know the call".to_owned());
        let interaction = self.interactions.get(id).ok_or_else(unknown)?;
        if interaction.enqueues.len() >= MAX_ENQUEUES {
            return Err(refusal("full", format!("the call has queued {MAX_ENQUEUES} times: no more")));
        }
        let slot = interaction.tenant;
        let held = &self.tenants[slot as usize];
        let gone = || refusal("no-workgroup", "the tenant is no longer configured".to_owned());
        let config = tenant::config(&self.model, held).ok_or_else(gone)?;
        match qualify(config, &interaction.caller, &interaction.attributes, asked, request)? {
            Qualified::Acd { workgroup, skills, priority, preferred, rule } => {
                let queue = held.queue_slots.get(&workgroup).copied().ok_or_else(gone)?;
                let preferred = preferred.and_then(|name| held.agent_slots.get(&name).copied());
                let home = QueueRef { tenant: slot, queue };
                Ok(Wish { home, skills, priority, preferred, direct: None, rule })
            }
            Qualified::Direct { agent, priority, rule } => {
                let number = held.agent_slots.get(&agent).copied().ok_or_else(gone)?;
                if !held.agents[number as usize].agent.is_logged_in() {
                    return Err(refusal("no-agent", format!("agent {agent} is not logged in")));
                }
                let queue = self.tenants[slot as usize].own_queue(number);
                let home = QueueRef { tenant: slot, queue };
                Ok(Wish { home, skills: Vec::new(), priority, preferred: None, direct: Some(agent), rule })
            }
        }
    }

    /// Whether the queue takes one more; `within`: one who gives up another place of it.
    fn room(&self, home: QueueRef, within: bool) -> Result<(), Refusal> {
        let queue = self.queue(home);
        let config = &queue.config;
        if queue.order.len() - usize::from(within) >= config.max_waiting as usize {
            return Err(refusal(
                "full",
                format!("{} callers wait in {}, as many as may", queue.order.len(), config.name),
            ));
        }
        if config.refuse_without_agents && queue.logged_in == 0 {
            return Err(refusal("no-agents", format!("no agent of {} is logged in", config.name)));
        }
        Ok(())
    }

    /// Steps 10 and 12: the place, its number and the estimate.
    fn place(
        &mut self,
        from: From,
        id: Id,
        number: u32,
        wish: &Wish,
        policies: &mut dyn Policies,
        out: &mut Vec<Output>,
    ) -> Option<Place> {
        let (now, home) = (self.now, wish.home);
        let caller = self.interactions.get(id)?.caller.clone();
        let workgroup = self.queue(home).config.name.clone();
        let ghost = self.tenants[home.tenant as usize].ghosts.claim(&workgroup, &caller, now.wall_ms);
        if let Some(ghost) = &ghost {
            self.fact(out, Fact::Unqueued { ticket: ghost.ticket, why: "called-back".to_owned() });
            self.arm_ghosts(home.tenant);
        }
        let arrived_ms = ghost.as_ref().map_or(now.wall_ms, |g| g.arrived_ms);
        let required = self.skill_numbers(home.tenant, &wish.skills);
        let question = policy::Entry {
            arrived_ms,
            now_ms: now.wall_ms,
            priority: wish.priority,
            skills: required.clone(),
            misses: 0,
        };
        policies.about(id);
        let Placement { key_ms, plan } = self.ask_placement(home, &question, policies, out);
        let key_ms = ghost.as_ref().map_or(key_ms, |g: &Ghost| g.key_ms.min(key_ms));
        self.arrivals += 1;
        let ticket = Id::new(now, &mut self.random);
        let entry = Entry {
            interaction: id,
            home,
            number,
            key: (key_ms, self.arrivals),
            arrived_ms,
            entered_ms: now.wall_ms,
            waiting_since_ms: now.wall_ms,
            caller: caller.clone(),
            skill_names: wish.skills.clone(),
            required,
            priority: wish.priority,
            preferred: wish.preferred,
            misses: 0,
            state: TicketState::Waiting,
            tokens: Vec::new(),
            protected: false,
            offer_to: vec![home.queue],
            indexed: false,
            plan: Vec::new(),
            plan_timer: None,
            lease_strikes: 0,
            told_position: 0,
            told_ns: now.mono_ns,
            estimate_ms: None,
            deferred: false,
        };
        self.fact(
            out,
            Fact::Queued {
                ticket,
                interaction: id,
                key: number,
                tenant: self.tenants[home.tenant as usize].name.clone(),
                workgroup: workgroup.clone(),
                direct: wish.direct.clone(),
                key_ms,
                arrived_ms,
                caller,
                skills: wish.skills.clone(),
                priority: wish.priority,
            },
        );
        self.totals.entered += 1;
        let queue = self.queue_mut(home);
        queue.entered += 1;
        queue.order.insert(entry.key, ticket);
        let position = queue.position(entry.key);
        let wait_ms = queue.wait_ms(position);
        let (music, behind) = (queue.config.music.clone(), queue.order.len() as u32 - position);
        self.entries.insert(ticket, Entry { told_position: position, estimate_ms: wait_ms, ..entry });
        if let Some(interaction) = self.interactions.get_mut(id) {
            interaction.ticket = Some(ticket);
            interaction.workgroup = workgroup.to_string();
            interaction.first_queued_ms.get_or_insert(now.wall_ms);
        }
        let wait_s = wait_ms.map(seconds);
        let direct = wish.direct.is_some();
        self.tell_placed(from, ticket, wish, position, wait_s, ghost.is_some(), out);
        self.adopt_plan(ticket, plan, out);
        self.list_place(ticket);
        if behind > 0 {
            self.mark_positions(home);
        }
        Some(Place { ticket, workgroup, direct, position, wait_s, music })
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one event and three lines")]
    fn tell_placed(
        &mut self,
        from: From,
        ticket: Id,
        wish: &Wish,
        position: u32,
        wait_s: Option<u32>,
        called_back: bool,
        out: &mut Vec<Output>,
    ) {
        let Some(id) = self.entries.get(&ticket).map(|e| e.interaction) else { return };
        let workgroup = self.queue(wish.home).config.name.clone();
        let direct = wish.direct.is_some();
        let data = data::Entered {
            ticket,
            workgroup: &workgroup,
            position,
            wait_s,
            priority: wish.priority,
            direct,
            called_back,
        };
        self.event(out, wish.home.tenant, Subject::Interaction(id), "queue.entered", &data);
        let entered =
            if called_back { format!("{workgroup}, back at the old place") } else { workgroup.to_string() };
        let mut qualified = if direct { "direct".to_owned() } else { "ACD".to_owned() };
        if wish.rule > 0 {
            qualified.push_str(&format!(" by rule {}", wish.rule));
        }
        if !wish.skills.is_empty() {
            qualified.push_str(&format!(", skills {}", wish.skills.join(" ")));
        }
        qualified.push_str(&format!(", priority {}", wish.priority));
        let time = match wait_s {
            Some(s) => format!("position {position}, about {s} s"),
            None => format!("position {position}, wait unknown: nobody is logged in"),
        };
        for (step, detail) in
            [(Step::EnteredQueue, entered), (Step::Qualified, qualified), (Step::QueueTime, time)]
        {
            let mut line = self.line(step, detail);
            line.bus_seq = Some(from.seq);
            line.ticket = Some(ticket);
            self.write(out, id, line, false);
        }
    }

    /// The numbers of skills in the tenant's table, sorted; one that is no longer there is not required.
    pub(super) fn skill_numbers(&self, tenant: u16, names: &[Name]) -> Skills {
        let table = &self.tenants[tenant as usize].skills;
        let mut numbers: Skills = names.iter().filter_map(|name| table.get(name).copied()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The policy's placement, or the default.
    pub(super) fn ask_placement(
        &mut self,
        home: QueueRef,
        question: &policy::Entry,
        policies: &mut dyn Policies,
        out: &mut Vec<Output>,
    ) -> Placement {
        let held = &self.tenants[home.tenant as usize];
        let queue = &held.queues[home.queue as usize];
        let Some(plugin) = &queue.config.policy else { return plan::default_placement(question) };
        let (skills, workgroups) = (held.skills.len() as u32, held.workgroups.len() as u32);
        let answer = policies
            .place(&held.name, &queue.config.name, plugin, question)
            .and_then(|placement| plan::check(question, placement, skills, workgroups));
        match answer {
            Ok(placement) => placement,
            Err(fault) => {
                let plugin = plugin.clone();
                self.policy_fault(out, &plugin, fault);
                plan::default_placement(question)
            }
        }
    }
}

//! Steps 14, 15 and what becomes of an offer: places meet agents, the shard judges, the domain applies.
//!
//! A decision is one step: from the filter over the ranking to the reservation nothing comes between.

use std::collections::BTreeMap;

use cordboard_base::{Id, ms};

use super::clock::Wake;
use super::{AgentRef, BATCH, Domain, Output, bug};
use crate::acd::choose::{self, Row};
use crate::acd::reservations::{Phase, Reservation};
use crate::agent::{self, Event, Release};
use crate::cti::{Subject, data};
use crate::facts::{Fact, OfferRecord};
use crate::interaction::MAX_OFFERS;
use crate::messages::{Flow, Offer, OfferResult, Offered, Settled, TalkEnd, TicketState, ToShard};
use crate::model::Phone;
use crate::policy::{self, MAX_CANDIDATES, Policies};
use crate::queue::estimate::word;
use crate::queue::{Key, has_skills};
use crate::timeline::Step;

/// Places that a free agent tries at most before the next event.
const MAX_TRIES: usize = 16;
/// Leases of one place that may run out in a row.
const MAX_LEASE_STRIKES: u8 = 2;
/// The lease outlasts the ring timer by so much at least.
const LEASE_MARGIN_MS: u64 = 5_000;
/// How long a shard may take to confirm a token whose lease ran out. It answers in milliseconds, and
/// a renewal that still stands in the domain's own inbox is read meanwhile.
const LEASE_GRACE_MS: u64 = 5_000;

impl Domain {
    /// Places that look for agents and agents who look for places, the earliest place first: were an
    /// agent served out of turn, a round or a ranking could take a neighbour's earlier caller's agent.
    pub(super) fn match_backlog(&mut self, policies: &mut dyn Policies, out: &mut Vec<Output>) {
        let mut heads: BTreeMap<(Key, AgentRef), Vec<Key>> = BTreeMap::new();
        for _ in 0..BATCH {
            let Some((_, at)) = self.backlog.agents.pop_first() else { break };
            if let Some((key, _)) = self.head(at, &[]) {
                heads.insert((key, at), Vec::new());
            }
        }
        for _ in 0..2 * BATCH {
            let place = self.backlog.places.first().copied();
            let head = heads.first_key_value().map(|(head, _)| *head);
            match (place, head) {
                (None, None) => break,
                (Some((key, ticket)), head) if head.is_none_or(|(other, _)| key <= other) => {
                    self.backlog.places.pop_first();
                    if self.entries.get(&ticket).is_some_and(|e| e.indexed) {
                        self.try_offer(ticket, policies, out);
                    }
                }
                _ => {
                    let Some(((key, at), mut tried)) = heads.pop_first() else { break };
                    // Another may have taken the place in the meantime; then the next head counts.
                    let same = self.head(at, &tried).filter(|(now, _)| *now == key);
                    if same.is_some_and(|(_, ticket)| !self.try_offer(ticket, policies, out)) {
                        tried.push(key);
                    }
                    if tried.len() < MAX_TRIES
                        && let Some((next, _)) = self.head(at, &tried)
                    {
                        heads.insert((next, at), tried);
                    }
                }
            }
        }
        // Not looked at any more in this step: they go on with the next. Those who have tried wait until
        // the policy is asked again, or 'nobody yet' would keep the domain busy for ever.
        for ((_, at), tried) in heads {
            if tried.is_empty()
                && let Some(since) = self.tenants[at.tenant as usize].agents[at.agent as usize].listed
            {
                self.backlog.agents.insert((since, at));
            }
        }
    }

    /// The earliest place that a free agent may take: the heads of its queues are compared by key.
    fn head(&self, at: AgentRef, tried: &[Key]) -> Option<(Key, Id)> {
        let tenant = &self.tenants[at.tenant as usize];
        let slot = &tenant.agents[at.agent as usize];
        if slot.listed.is_none() || !slot.agent.is_free() {
            return None;
        }
        slot.serves.iter().filter_map(|q| tenant.queues[*q as usize].head(&slot.skills, tried)).min()
    }

    /// Offers a place to the best of the agents who may take it. False: to nobody now.
    fn try_offer(&mut self, ticket: Id, policies: &mut dyn Policies, out: &mut Vec<Output>) -> bool {
        let Some(entry) = self.entries.get(&ticket) else { return false };
        let home = entry.home;
        let tenant = &self.tenants[home.tenant as usize];
        let queue = &tenant.queues[home.queue as usize];
        let round = queue.config.round.max(1) as usize;
        let free = |agent: u32| {
            let slot = &tenant.agents[agent as usize];
            (slot.agent.is_free() || bug!(self, double_offer_same_agent))
                && has_skills(&slot.skills, &entry.required)
                && tenant.reachable(agent, self.now.wall_ms)
        };
        let chosen: Vec<u32> = if queue.config.policy.is_none() && entry.offer_to.len() == 1 {
            // The default needs no columns: the preferred agent, then the longest idle.
            let preferred = entry.preferred.filter(|agent| {
                let slot = &tenant.agents[*agent as usize];
                slot.listed.is_some() && slot.serves.contains(&home.queue) && free(*agent)
            });
            let others = queue.ready.iter().map(|(_, a)| *a).filter(|a| Some(*a) != preferred && free(*a));
            preferred.into_iter().chain(others).take(round).collect()
        } else {
            let mut ready: Vec<(u64, u32)> = Vec::new();
            for queue in &entry.offer_to {
                let listed = tenant.queues[*queue as usize].ready.iter().copied();
                ready.extend(listed.filter(|(_, a)| free(*a)).take(MAX_CANDIDATES));
            }
            ready.sort_unstable();
            ready.dedup();
            ready.truncate(MAX_CANDIDATES);
            if ready.is_empty() {
                return false;
            }
            self.rank(ticket, &ready, policies, out).into_iter().take(round).collect()
        };
        if chosen.is_empty() {
            return false;
        }
        self.offer(ticket, &chosen, out)
    }

    /// Asks the policy for the order of these agents, and checks its answer.
    fn rank(
        &mut self,
        ticket: Id,
        ready: &[(u64, u32)],
        policies: &mut dyn Policies,
        out: &mut Vec<Output>,
    ) -> Vec<u32> {
        let Some(entry) = self.entries.get(&ticket) else { return Vec::new() };
        let tenant = &self.tenants[entry.home.tenant as usize];
        let queue = &tenant.queues[entry.home.queue as usize];
        let rows: Vec<Row> = ready
            .iter()
            .map(|(since_ns, agent)| {
                let slot = &tenant.agents[*agent as usize];
                let level = |skill: &u32| {
                    slot.skills
                        .binary_search_by_key(skill, |(s, _)| *s)
                        .map_or(0, |i| u64::from(slot.skills[i].1))
                };
                Row {
                    agent: slot.index.unwrap_or(u32::MAX),
                    idle_ms: self.now.mono_ns.saturating_sub(*since_ns) / 1_000_000,
                    calls: slot.agent.calls,
                    busy_ms: slot.agent.busy_ms,
                    skill_level: entry.required.iter().map(level).sum(),
                    skill_count: slot.skills.len() as u64,
                    preferred: entry.preferred == Some(*agent),
                }
            })
            .collect();
        let columns = choose::columns(&rows);
        let order = match &queue.config.policy {
            None => choose::default_order(&columns),
            Some(plugin) => {
                let question = policy::Entry {
                    arrived_ms: entry.arrived_ms,
                    now_ms: self.now.wall_ms,
                    priority: entry.priority,
                    skills: entry.required.clone(),
                    misses: entry.misses,
                };
                policies.about(entry.interaction);
                let answer = policies
                    .rank(&tenant.name, &queue.config.name, plugin, &question, &columns)
                    .and_then(|ranking| choose::check(ranking, rows.len()));
                match answer {
                    Ok(order) => order,
                    Err(fault) => {
                        let plugin = plugin.clone();
                        self.policy_fault(out, &plugin, fault);
                        choose::default_order(&columns)
                    }
                }
            }
        };
        if order.is_empty() {
            self.defer(ticket);
        }
        order.into_iter().map(|i| ready[i as usize].1).collect()
    }

    /// The policy said 'nobody yet': it is asked again when an agent comes free, and after a while.
    fn defer(&mut self, ticket: Id) {
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        if std::mem::replace(&mut entry.deferred, true) {
            return;
        }
        let home = entry.home;
        let deadline = self.now.after_ns(ms(super::work::ASK_AGAIN_MS));
        let queue = &mut self.tenants[home.tenant as usize].queues[home.queue as usize];
        queue.deferred.push(ticket);
        if queue.deferred_timer.is_none() {
            queue.deferred_timer = Some(self.clock.set(deadline, Wake::Deferred(home)));
        }
    }

    /// Steps 14 to 16: reserve, leave the queue provisionally, screen first, then the phones.
    fn offer(&mut self, ticket: Id, agents: &[u32], out: &mut Vec<Output>) -> bool {
        let Some(entry) = self.entries.get(&ticket) else { return false };
        let (home, id, since_ms) = (entry.home, entry.interaction, entry.waiting_since_ms);
        let Some(interaction) = self.interactions.get(id) else { return false };
        let shard = interaction.shard;
        let config = &self.queue(home).config;
        let (workgroup, ring_timeout_ms) = (config.name.clone(), config.ring_timeout_ms);
        let lease_ms = config.lease_ms.max(ring_timeout_ms.saturating_add(LEASE_MARGIN_MS));
        let waited_ms = (self.now.wall_ms - since_ms).max(0) as u64;

        let mut round = Vec::with_capacity(agents.len());
        for agent in agents {
            let at = AgentRef { tenant: home.tenant, agent: *agent };
            let Some((uri, flow)) = self.phone(at) else { continue };
            let token = Id::new(self.now, &mut self.random);
            let name = self.tenants[home.tenant as usize].agents[*agent as usize].agent.name.clone();
            self.reserve(token, ticket, id, at, shard, lease_ms);
            let reserve_at = out.len();
            if self.agent_event(at, Event::Reserve(token), out).is_err()
                && !bug!(self, double_offer_same_agent)
            {
                if let Some(mut held) = self.reservations.spend(token) {
                    self.clock.cancel(&mut held.timer);
                }
                continue;
            }
            self.totals.offers += 1;
            self.totals.facts += 1;
            let fact = Fact::Offered {
                token,
                ticket,
                tenant: self.tenants[home.tenant as usize].name.clone(),
                agent: name.clone(),
                lease_until_ms: self.now.wall_ms.saturating_add_unsigned(lease_ms),
            };
            out.insert(reserve_at, Output::Fact(fact));
            round.push(Offered { agent: name, token, uri, flow });
        }
        if round.is_empty() {
            return false;
        }
        self.unlist_place(ticket);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.state = TicketState::Offered;
            entry.tokens = round.iter().map(|o| o.token).collect();
        }
        self.queue_mut(home).offered += 1;
        // The message's number is the evidence of lines that are written before it leaves.
        let bus_seq = self.links.get(&shard).map_or(0, |link| link.sent) + 2;
        for offered in &round {
            self.pop_screen(id, ticket, &workgroup, offered, waited_ms, out);
            let mut line = self.line(Step::AgentReserved, format!("agent {} of {workgroup}", offered.agent));
            (line.ticket, line.token, line.bus_seq) = (Some(ticket), Some(offered.token), Some(bus_seq));
            self.write(out, id, line, false);
        }
        let mut line = self.line(
            Step::ExitsQueue,
            format!("after {waited_ms} ms; the place is kept until an agent accepts"),
        );
        (line.ticket, line.bus_seq) = (Some(ticket), Some(bus_seq));
        line.token = round.first().map(|o| o.token);
        self.write(out, id, line, false);
        self.tell_place(ticket, out);
        let sent = self.send(
            out,
            shard,
            Some(id),
            ToShard::Offer(Offer { ticket, agents: round, ring_timeout_ms, lease_ms, workgroup }),
        );
        debug_assert_eq!(sent, bus_seq, "the lines name the message that carries the offer");
        true
    }

    /// The screen-pop: published before the phone rings, and never waited for.
    fn pop_screen(
        &mut self,
        id: Id,
        ticket: Id,
        workgroup: &str,
        offered: &Offered,
        waited_ms: u64,
        out: &mut Vec<Output>,
    ) {
        let Some(interaction) = self.interactions.get_mut(id) else { return };
        if interaction.offers.len() < MAX_OFFERS {
            interaction.offers.push(OfferRecord {
                token: offered.token,
                ticket,
                agent: offered.agent.clone(),
                offered_ms: self.now.wall_ms,
                result: None,
                rang_ms: 0,
                talked_ms: 0,
            });
        }
        let tenant = interaction.tenant;
        let (caller, caller_name) = (interaction.caller.clone(), interaction.caller_name.clone());
        let (called, attributes) = (interaction.called.clone(), interaction.attributes.clone());
        let data = data::Offered {
            agent: &offered.agent,
            token: offered.token,
            ticket,
            workgroup,
            caller: &caller,
            caller_name: &caller_name,
            called: &called,
            waited_ms,
            attributes: &attributes,
        };
        self.event(out, tenant, Subject::Interaction(id), "agent.offered", &data);
    }

    fn phone(&self, at: AgentRef) -> Option<(String, Option<Flow>)> {
        let tenant = &self.tenants[at.tenant as usize];
        match &tenant.agents[at.agent as usize].phone {
            Phone::Address(uri) => Some((uri.clone(), None)),
            Phone::Registered { user, .. } => {
                tenant.bindings.best(user, self.now.wall_ms).map(|b| (b.uri.clone(), Some(b.flow)))
            }
        }
    }

    /// The phone of an agent or user of that name; else the one that has registered this very contact.
    pub(super) fn locate(
        &self,
        tenant: u16,
        user: Option<&str>,
        uri: &str,
    ) -> Option<(String, Option<Flow>)> {
        let (held, wall_ms) = (&self.tenants[tenant as usize], self.now.wall_ms);
        let named = user.map(|user| {
            let number = held.agent_slots.get(user).copied();
            match number.filter(|n| held.agents[*n as usize].index.is_some()) {
                Some(agent) => self.phone(AgentRef { tenant, agent }),
                None => held.bindings.best(user, wall_ms).map(|b| (b.uri.clone(), Some(b.flow))),
            }
        });
        named.unwrap_or_else(|| held.bindings.at(uri, wall_ms).map(|b| (b.uri.clone(), Some(b.flow))))
    }

    fn reserve(&mut self, token: Id, ticket: Id, interaction: Id, at: AgentRef, shard: u16, lease_ms: u64) {
        let Some(home) = self.entries.get(&ticket).map(|e| e.home) else { return };
        let lease_until_ns = self.now.after_ns(ms(lease_ms));
        let timer = Some(self.clock.set(lease_until_ns, Wake::Lease(token)));
        let held = Reservation {
            ticket,
            interaction,
            home,
            agent: at.agent,
            shard,
            phase: Phase::Ringing,
            offered_ms: self.now.wall_ms,
            accepted_ms: 0,
            lease_ms,
            lease_until_ns,
            asked: false,
            timer,
        };
        self.reservations.reserve(token, held);
    }

    /// Leases run anew. A token that the domain does not hold is not the shard's either: it hears so.
    pub(super) fn on_renew(&mut self, shard: u16, id: Option<Id>, tokens: &[Id], out: &mut Vec<Output>) {
        for token in tokens {
            if self.reservations.get(*token).is_some() {
                self.renew(*token);
            } else if id.is_some() {
                self.totals.stale += 1;
                self.send(out, shard, id, ToShard::Lapsed { token: *token });
            }
        }
    }

    fn renew(&mut self, token: Id) {
        let now = self.now;
        if let Some(held) = self.reservations.get_mut(token) {
            held.lease_until_ns = now.after_ns(ms(held.lease_ms));
            held.asked = false;
        }
    }

    /// A lease's timer fired. It was renewed since; or the shard is asked; or it was asked, said
    /// nothing, and is dead to us.
    pub(super) fn on_lease(&mut self, token: Id, out: &mut Vec<Output>) {
        let now = self.now;
        let Some(held) = self.reservations.get_mut(token) else { return };
        held.timer = None;
        if held.lease_until_ns > now.mono_ns {
            held.timer = Some(self.clock.set(held.lease_until_ns, Wake::Lease(token)));
            return;
        }
        if !std::mem::replace(&mut held.asked, true) {
            // The clock may have gone on while the domain stood still, with the renewal in its inbox.
            held.timer = Some(self.clock.set(now.after_ns(ms(LEASE_GRACE_MS)), Wake::Lease(token)));
            let (shard, id) = (held.shard, held.interaction);
            self.send(out, shard, Some(id), ToShard::Confirm { token });
            return;
        }
        self.totals.leases_expired += 1;
        let (phase, ticket, accepted_ms) = (held.phase, held.ticket, held.accepted_ms);
        let (shard, id) = (held.shard, held.interaction);
        let strikes = self.entries.get_mut(&ticket).map_or(0, |e| {
            e.lease_strikes += 1;
            e.lease_strikes
        });
        let line = self.line(Step::After, "the lease ran out: the call's shard is silent".to_owned());
        self.write(out, id, line, false);
        // Should the shard live after all, it ends what it still has of this offer, before it hears of another.
        self.send(out, shard, Some(id), ToShard::Lapsed { token });
        match phase {
            Phase::Ringing => self.settle(token, &OfferResult::NoCall, None, out),
            Phase::Talking => {
                let talked_ms = (self.now.wall_ms - accepted_ms).max(0) as u64;
                self.talk_ended(token, talked_ms, TalkEnd::AgentVanished, Release::Free, out);
            }
        }
        if strikes >= MAX_LEASE_STRIKES && self.entries.contains_key(&ticket) {
            self.end_place(ticket, "lease", out);
        }
    }

    pub(super) fn on_settled(&mut self, settled: &Settled, out: &mut Vec<Output>) {
        self.settle(settled.token, &settled.result, Some(settled.rang_ms), out);
    }

    /// Applies an outcome by compare-and-swap: a stale or second one changes nothing. `rang_ms` is
    /// none when it is the domain's own conclusion (the lease, the end of the call).
    pub(super) fn settle(
        &mut self,
        token: Id,
        result: &OfferResult,
        rang_ms: Option<u64>,
        out: &mut Vec<Output>,
    ) {
        if *result == OfferResult::Accepted {
            self.accept(token, rang_ms.unwrap_or(0), out);
            return;
        }
        let Some(mut held) = self.reservations.take(token, Phase::Ringing) else {
            self.totals.stale += 1;
            return;
        };
        if !bug!(self, lease_timer_leaked) {
            self.clock.cancel(&mut held.timer);
        }
        let at = AgentRef { tenant: held.home.tenant, agent: held.agent };
        let from_shard = rang_ms.is_some();
        let rang_ms = rang_ms.unwrap_or_else(|| (self.now.wall_ms - held.offered_ms).max(0) as u64);
        self.totals.ended(result);
        self.tell_settled(token, &held, result, rang_ms, out);

        let config = &self.queue(held.home).config;
        let (max_misses, back_off_ms) = (config.max_misses, config.miss_back_off_ms);
        let missed = |reason| match bug!(self, miss_not_counted) {
            true => Release::BackOff { ms: back_off_ms },
            false => Release::Missed { max_misses, back_off_ms, reason },
        };
        let (release, counts_for_place) = match result {
            OfferResult::NoAnswer => (missed(agent::RING_NO_ANSWER), true),
            OfferResult::Declined { .. } => (missed(agent::DECLINED), true),
            OfferResult::Busy => (Release::BackOff { ms: back_off_ms }, true),
            OfferResult::Unreachable { .. } => (Release::NotReady(agent::PHONE_UNREACHABLE), true),
            _ => (Release::Free, false),
        };
        // A spent token of another round may not free an agent who is held by a new one.
        let _ = self.agent_event(at, Event::Release(release), out);

        let Some(entry) = self.entries.get_mut(&held.ticket) else { return };
        entry.misses += u32::from(counts_for_place);
        if from_shard {
            entry.lease_strikes = 0;
        }
        if entry.state != TicketState::Offered {
            return;
        }
        entry.tokens.retain(|t| *t != token);
        let last = entry.tokens.is_empty();
        match result {
            OfferResult::CallerGone => self.end_place(held.ticket, "caller-gone", out),
            OfferResult::NoCall if from_shard => self.end_place(held.ticket, "no-call", out),
            _ if last || bug!(self, cas_removed) => self.return_place(held.ticket, TicketState::Waiting, out),
            _ => {}
        }
    }

    fn tell_settled(
        &mut self,
        token: Id,
        held: &Reservation,
        result: &OfferResult,
        rang_ms: u64,
        out: &mut Vec<Output>,
    ) {
        self.fact(
            out,
            Fact::Settled { token, ticket: held.ticket, result: result.clone(), wall_ms: self.now.wall_ms },
        );
        if let Some(offer) = self.interactions.get_mut(held.interaction).and_then(|i| i.offer_mut(token)) {
            offer.result = Some(result.clone());
            offer.rang_ms = rang_ms;
        }
        let (kind, result) = match result {
            OfferResult::Accepted => ("call.bridged", "accepted"),
            other => ("offer.ended", word(other)),
        };
        self.tell_offer(kind, token, held, result, Some(rang_ms), None, out);
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one event")]
    fn tell_offer(
        &mut self,
        kind: &str,
        token: Id,
        held: &Reservation,
        result: &str,
        rang_ms: Option<u64>,
        talked_ms: Option<u64>,
        out: &mut Vec<Output>,
    ) {
        let tenant = &self.tenants[held.home.tenant as usize];
        let name = tenant.agents[held.agent as usize].agent.name.clone();
        let workgroup = tenant.queues[held.home.queue as usize].config.name.clone();
        let ticket = held.ticket;
        let data =
            data::Offer { agent: &name, token, ticket, workgroup: &workgroup, result, rang_ms, talked_ms };
        self.event(out, held.home.tenant, Subject::Interaction(held.interaction), kind, &data);
    }

    /// Step 17 as the shard has judged it.
    fn accept(&mut self, token: Id, rang_ms: u64, out: &mut Vec<Output>) {
        let ticket = self.reservations.get(token).filter(|r| r.phase == Phase::Ringing).map(|r| r.ticket);
        let open = ticket
            .and_then(|t| self.entries.get(&t))
            .is_some_and(|e| e.state == TicketState::Offered && e.tokens.contains(&token));
        if ticket.is_some() && !open && !bug!(self, cas_removed) {
            // A second winner of one place: against the rules, so this one has lost.
            self.totals.stale += 1;
            self.settle(token, &OfferResult::Lost, Some(rang_ms), out);
            return;
        }
        let Some(held) = self.reservations.accept(token, self.now.wall_ms) else {
            self.totals.stale += 1;
            return;
        };
        self.renew(token);
        self.totals.ended(&OfferResult::Accepted);
        self.totals.served += 1;
        let at = AgentRef { tenant: held.home.tenant, agent: held.agent };
        let agent_name = self.tenants[at.tenant as usize].agents[at.agent as usize].agent.name.to_string();
        let (wall_ms, id, ticket) = (self.now.wall_ms, held.interaction, held.ticket);
        self.tell_settled(token, &held, &OfferResult::Accepted, rang_ms, out);
        let _ = self.agent_event(at, Event::Accept, out);

        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        let was = entry.state;
        entry.state = TicketState::Taken;
        entry.tokens = vec![token];
        entry.lease_strikes = 0;
        self.clock.cancel(&mut entry.plan_timer);
        let waited_ms = (wall_ms - entry.waiting_since_ms).max(0) as u64;
        let first = entry.entered_ms == entry.waiting_since_ms;
        let (key, estimate_ms) = (entry.key, entry.estimate_ms.filter(|_| first));
        let queue = self.queue_mut(held.home);
        queue.order.remove(&key);
        queue.offered -= u32::from(was == TicketState::Offered);
        queue.taken += 1;
        queue.served += 1;
        if let Some(estimate_ms) = estimate_ms {
            queue.estimator.check(estimate_ms, waited_ms);
        }
        let workgroup = queue.config.name.clone();
        self.mark_positions(held.home);
        if let Some(interaction) = self.interactions.get_mut(id) {
            interaction.waited_ms += waited_ms;
            interaction.agent = agent_name;
            interaction.first_accepted_ms.get_or_insert(wall_ms);
            if let Some(estimate_ms) = estimate_ms {
                interaction.estimate_ms.get_or_insert((estimate_ms, waited_ms));
            }
        }
        let data = data::Left { ticket, workgroup: &workgroup, reason: "served", waited_ms };
        self.event(out, held.home.tenant, Subject::Interaction(id), "queue.left", &data);
        self.tell_place(ticket, out);
    }

    pub(super) fn on_talk_ended(&mut self, token: Id, talked_ms: u64, how: TalkEnd, out: &mut Vec<Output>) {
        let Some(held) = self.reservations.get(token) else {
            self.totals.stale += 1;
            return;
        };
        let release = if how == TalkEnd::AgentVanished {
            Release::NotReady(agent::PHONE_LOST)
        } else {
            let wrap_up_ms = match bug!(self, wrap_up_skipped) {
                true => 0,
                false => self.queue(held.home).config.wrap_up_ms,
            };
            Release::Talked { wrap_up_ms, talked_ms }
        };
        self.talk_ended(token, talked_ms, how, release, out);
    }

    fn talk_ended(
        &mut self,
        token: Id,
        talked_ms: u64,
        how: TalkEnd,
        release: Release,
        out: &mut Vec<Output>,
    ) {
        let Some(mut held) = self.reservations.take(token, Phase::Talking) else {
            self.totals.stale += 1;
            return;
        };
        if !bug!(self, lease_timer_leaked) {
            self.clock.cancel(&mut held.timer);
        }
        let (ticket, id) = (held.ticket, held.interaction);
        self.fact(out, Fact::TalkEnded { token, ticket, how, talked_ms });
        if let Some(interaction) = self.interactions.get_mut(id) {
            interaction.talked_ms += talked_ms;
            if let Some(offer) = interaction.offer_mut(token) {
                offer.talked_ms = talked_ms;
            }
        }
        let (kind, result) = match how {
            TalkEnd::AgentVanished => ("call.returned", "agent-vanished"),
            TalkEnd::AgentLeft => ("offer.ended", "agent-left"),
            TalkEnd::CallerGone => ("offer.ended", "caller-gone"),
            TalkEnd::Transferred => ("offer.ended", "transferred"),
        };
        self.tell_offer(kind, token, &held, result, None, Some(talked_ms), out);
        if let Release::Talked { wrap_up_ms, .. } = &release {
            let handled_ms = talked_ms.saturating_add(*wrap_up_ms);
            self.queue_mut(held.home).estimator.handled(handled_ms);
        }
        let at = AgentRef { tenant: held.home.tenant, agent: held.agent };
        let _ = self.agent_event(at, Event::Release(release), out);
        let taken = self
            .entries
            .get(&ticket)
            .is_some_and(|e| e.state == TicketState::Taken && e.tokens.contains(&token));
        if !taken {
            return;
        }
        if how == TalkEnd::AgentVanished {
            self.return_place(ticket, TicketState::Returned, out);
        } else {
            self.end_place(ticket, "served", out);
        }
    }
}

//! What a domain holds for each tenant, and how it follows the configuration.
//!
//! Agents and queues live in slots that outlast reloads, so that a reference never points to
//! another. A slot whose name is no longer configured has no index in the model.

use std::sync::Arc;

use cordboard_base::{Map, Now, TimerId};

use crate::Name;
use crate::agent::Agent;
use crate::agent::bindings::Bindings;
use crate::cti::Sequence;
use crate::model::{self, Model, Phone};
use crate::queue::ghosts::Ghosts;
use crate::queue::{Queue, plan};

/// An agent with what the configuration says.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) agent: Agent,
    /// The index in the model; none when no longer configured.
    pub(crate) index: Option<u32>,
    pub(crate) phone: Phone,
    /// Sorted by the skill's number.
    pub(crate) skills: Vec<(u32, u8)>,
    /// Queues served, an own one among them once it exists.
    pub(crate) serves: Vec<u32>,
    /// Wrap-up or back-off.
    pub(crate) timer: Option<TimerId>,
    /// Under which key it stands in the ready sets.
    pub(crate) listed: Option<u64>,
}

/// A tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: Name,
    /// As configured; none when the tenant is no longer.
    pub(crate) index: Option<usize>,
    pub(crate) agents: Vec<Slot>,
    pub(crate) agent_slots: Map<Name, u32>,
    pub(crate) queues: Vec<Queue>,
    pub(crate) queue_slots: Map<Name, u32>,
    /// By the workgroup's index in the model.
    pub(crate) workgroups: Vec<u32>,
    pub(crate) skills: Map<Name, u32>,
    /// Agents by their phone's user.
    pub(crate) users: Map<String, Vec<u32>>,
    pub(crate) bindings: Bindings,
    pub(crate) bindings_timer: Option<TimerId>,
    pub(crate) ghosts: Ghosts,
    pub(crate) ghosts_timer: Option<TimerId>,
    pub(crate) sequence: Sequence,
}

impl Tenant {
    pub(crate) fn new(name: Name) -> Self {
        Self {
            name,
            index: None,
            agents: Vec::new(),
            agent_slots: Map::default(),
            queues: Vec::new(),
            queue_slots: Map::default(),
            workgroups: Vec::new(),
            skills: Map::default(),
            users: Map::default(),
            bindings: Bindings::default(),
            bindings_timer: None,
            ghosts: Ghosts::default(),
            ghosts_timer: None,
            sequence: Sequence::default(),
        }
    }

    /// Takes over a configuration. Ready sets and staff counts are made anew by the caller.
    pub(crate) fn configure(&mut self, index: usize, config: &model::Tenant, now: Now) {
        self.index = Some(index);
        self.skills = config.skills.iter().zip(0..).map(|(name, i)| (name.clone(), i)).collect();
        for queue in &mut self.queues {
            queue.index = None;
        }
        self.workgroups.clear();
        for (workgroup, index) in config.workgroups.iter().zip(0..) {
            let slot = match self.queue_slots.get(&workgroup.name) {
                Some(slot) => {
                    let queue = &mut self.queues[*slot as usize];
                    queue.estimator.expect(workgroup.expected_handle_ms);
                    queue.config = workgroup.clone();
                    queue.index = Some(index);
                    *slot
                }
                None => self.add_queue(Queue::new(workgroup.clone(), Some(index), None)),
            };
            self.workgroups.push(slot);
        }
        for slot in &mut self.agents {
            slot.index = None;
        }
        for (agent, index) in config.agents.iter().zip(0..) {
            let slot = match self.agent_slots.get(&agent.name) {
                Some(slot) => *slot,
                None => {
                    let slot = self.agents.len() as u32;
                    self.agents.push(Slot {
                        agent: Agent::new(agent.name.clone(), agent.ready_at_start, now),
                        index: None,
                        phone: agent.phone.clone(),
                        skills: Vec::new(),
                        serves: Vec::new(),
                        timer: None,
                        listed: None,
                    });
                    self.agent_slots.insert(agent.name.clone(), slot);
                    slot
                }
            };
            let mut skills: Vec<(u32, u8)> = agent
                .skills
                .iter()
                .filter_map(|(name, level)| Some((*self.skills.get(name)?, *level)))
                .collect();
            skills.sort_unstable();
            let own = self.queues.iter().position(|q| q.agent == Some(slot)).map(|q| q as u32);
            let serves = agent.workgroups.iter().filter_map(|w| self.queue_slots.get(w).copied()).chain(own);
            let serves: Vec<u32> = serves.collect();
            let held = &mut self.agents[slot as usize];
            held.serves = serves;
            held.skills = skills;
            held.phone = agent.phone.clone();
            held.index = Some(index);
        }
        self.users.clear();
        for (i, slot) in self.agents.iter().enumerate() {
            if let (Some(_), Phone::Registered { user, .. }) = (slot.index, &slot.phone) {
                self.users.entry(user.clone()).or_default().push(i as u32);
            }
        }
    }

    /// The agent's own queue, made when it is first called directly.
    pub(crate) fn own_queue(&mut self, agent: u32) -> u32 {
        if let Some(queue) = self.queues.iter().position(|q| q.agent == Some(agent)) {
            return queue as u32;
        }
        let slot = &self.agents[agent as usize];
        let like = slot.serves.first().map(|q| self.queues[*q as usize].config.clone());
        let name: Name = Arc::from(format!("agent:{}", slot.agent.name));
        let mut queue = Queue::new(plan::direct_workgroup(name, like.as_ref()), None, Some(agent));
        queue.logged_in = u32::from(slot.agent.is_logged_in());
        queue.working = u32::from(slot.agent.is_working());
        queue.ready.extend(slot.listed.map(|since| (since, agent)));
        let queue = self.add_queue(queue);
        self.agents[agent as usize].serves.push(queue);
        queue
    }

    /// Whether the slot's phone can be rung.
    pub(crate) fn reachable(&self, agent: u32, wall_ms: i64) -> bool {
        match &self.agents[agent as usize].phone {
            Phone::Address(_) => true,
            Phone::Registered { user, .. } => self.bindings.best(user, wall_ms).is_some(),
        }
    }

    fn add_queue(&mut self, queue: Queue) -> u32 {
        let slot = self.queues.len() as u32;
        self.queue_slots.insert(queue.config.name.clone(), slot);
        self.queues.push(queue);
        slot
    }
}

/// The tenant's part of the model.
pub(crate) fn config<'a>(model: &'a Model, tenant: &Tenant) -> Option<&'a model::Tenant> {
    model.tenants.get(tenant.index?)
}

//! What lives in a domain, so that a leak is visible, and totals for metrics.

use super::Domain;
pub use super::clock::TimerCounts;
use crate::Name;
use crate::acd::reservations::Phase;
use crate::commands::AgentStateName;
use crate::messages::{OfferResult, TicketState};

/// What lives now, and totals since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Live interactions.
    pub interactions: usize,
    /// Places that wait, returned ones among them.
    pub waiting: usize,
    /// Places that ring at agents.
    pub offered: usize,
    /// Places whose caller an agent has.
    pub taken: usize,
    /// Places that agents may be offered now.
    pub listed: usize,
    /// Remembered places of lost callers.
    pub ghosts: usize,
    /// Tokens that ring.
    pub ringing: usize,
    /// Tokens that talk.
    pub talking: usize,
    /// Agents in the state reserved.
    pub agents_reserved: usize,
    /// Agents in the state busy.
    pub agents_busy: usize,
    /// Agents who may be offered a call now.
    pub agents_ready: usize,
    /// Work that was put off to the next input or tick.
    pub backlog: usize,
    /// Timers by kind.
    pub timers: TimerCounts,
    /// Totals.
    pub totals: Totals,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Interactions created.
    pub opened: u64,
    /// Interactions closed.
    pub closed: u64,
    /// Of these, closed because their node was lost.
    pub node_lost: u64,
    /// Places given.
    pub entered: u64,
    /// Places left for an agent.
    pub served: u64,
    /// Places whose caller gave up.
    pub abandoned: u64,
    /// Enqueues refused.
    pub refused: u64,
    /// Offers made.
    pub offers: u64,
    /// Offers by how they ended.
    pub accepted: u64,
    /// 18 fired.
    pub no_answer: u64,
    /// 486, 600.
    pub busy: u64,
    /// 603, 403, 480…
    pub declined: u64,
    /// No phone.
    pub unreachable: u64,
    /// Another of the round was faster.
    pub lost: u64,
    /// The caller hung up.
    pub caller_gone: u64,
    /// Withdrawn in time.
    pub revoked: u64,
    /// The shard did not know the call.
    pub no_call: u64,
    /// Leases that ran out.
    pub leases_expired: u64,
    /// Outcomes that came for a spent token and changed nothing.
    pub stale: u64,
    /// Messages heard before, or of a shard's former life.
    pub repeated: u64,
    /// Messages about interactions that are not (or no longer) here.
    pub unknown: u64,
    /// Defaults taken because a policy failed.
    pub policy_faults: u64,
    /// Lines and attributes that found no room.
    pub dropped: u64,
    /// Events published.
    pub events: u64,
    /// Facts written.
    pub facts: u64,
    /// Positions told to shards.
    pub positions_told: u64,
}

/// Queues and agents as metrics show them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Board {
    /// The queues of workgroups.
    pub queues: Vec<QueueFigures>,
    /// Agents by state, every state with its name.
    pub agents: [(&'static str, usize); 6],
}

/// A queue in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFigures {
    /// Whose.
    pub tenant: Name,
    /// Which.
    pub workgroup: Name,
    /// Waiting, not offered.
    pub waiting: u32,
    /// The longest wait of those in the queue.
    pub longest_wait_ms: u64,
}

impl Totals {
    pub(super) fn ended(&mut self, result: &OfferResult) {
        let total = match result {
            OfferResult::Accepted => &mut self.accepted,
            OfferResult::NoAnswer => &mut self.no_answer,
            OfferResult::Busy => &mut self.busy,
            OfferResult::Declined { .. } => &mut self.declined,
            OfferResult::Unreachable { .. } => &mut self.unreachable,
            OfferResult::Lost => &mut self.lost,
            OfferResult::CallerGone => &mut self.caller_gone,
            OfferResult::Revoked => &mut self.revoked,
            OfferResult::NoCall => &mut self.no_call,
        };
        *total += 1;
    }
}

impl Domain {
    /// What lives now, and totals. Walks over all that lives: for metrics and tests, not for each event.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut c = Counts {
            interactions: self.interactions.len(),
            backlog: self.backlog.len(),
            timers: self.clock.counts(),
            totals: self.totals,
            ..Counts::default()
        };
        for entry in self.entries.values() {
            match entry.state {
                TicketState::Waiting | TicketState::Returned => c.waiting += 1,
                TicketState::Offered => c.offered += 1,
                TicketState::Taken => c.taken += 1,
                TicketState::Ended => {}
            }
        }
        for (_, held) in self.reservations.iter() {
            match held.phase {
                Phase::Ringing => c.ringing += 1,
                Phase::Talking => c.talking += 1,
            }
        }
        for tenant in &self.tenants {
            c.ghosts += tenant.ghosts.len();
            c.listed += tenant.queues.iter().map(|q| q.listed()).sum::<usize>();
            for slot in &tenant.agents {
                match slot.agent.state {
                    crate::commands::AgentStateName::Reserved => c.agents_reserved += 1,
                    crate::commands::AgentStateName::Busy => c.agents_busy += 1,
                    _ => {}
                }
                c.agents_ready += usize::from(slot.listed.is_some());
            }
        }
        c
    }

    /// Queues and agents in figures, as of `wall_ms`. Walks over those who wait: for metrics, several
    /// times a second.
    #[must_use]
    pub fn board(&self, wall_ms: i64) -> Board {
        let mut queues = Vec::new();
        let mut agents = [
            ("logged-out", 0),
            ("not-ready", 0),
            ("ready", 0),
            ("reserved", 0),
            ("busy", 0),
            ("working-after-call", 0),
        ];
        for tenant in &self.tenants {
            for queue in &tenant.queues {
                // As `Command::Queues`: agents' own queues and former ones only while somebody is in them.
                if queue.index.is_none() && queue.order.is_empty() && queue.taken == 0 {
                    continue;
                }
                let since = queue.order.values().filter_map(|ticket| self.entries.get(ticket));
                let oldest_ms = since.map(|entry| entry.waiting_since_ms).min();
                queues.push(QueueFigures {
                    tenant: tenant.name.clone(),
                    workgroup: queue.config.name.clone(),
                    waiting: queue.order.len() as u32 - queue.offered,
                    longest_wait_ms: oldest_ms.map_or(0, |since_ms| (wall_ms - since_ms).max(0) as u64),
                });
            }
            let configured = tenant.index.is_some();
            for slot in tenant.agents.iter().filter(|slot| configured && slot.index.is_some()) {
                agents[match slot.agent.state {
                    AgentStateName::LoggedOut => 0,
                    AgentStateName::NotReady => 1,
                    AgentStateName::Ready => 2,
                    AgentStateName::Reserved => 3,
                    AgentStateName::Busy => 4,
                    AgentStateName::WorkingAfterCall => 5,
                }]
                .1 += 1;
            }
        }
        Board { queues, agents }
    }
}

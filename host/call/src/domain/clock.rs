//! The domain's timers, each with its reason, counted by kind so that a leak is visible.

use cordboard_base::{Id, TimerId, Timers};

use super::AgentRef;
use crate::queue::QueueRef;

/// Why the domain wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// A token's lease may have run out.
    Lease(Id),
    /// An agent's wrap-up or back-off is over.
    Agent(AgentRef),
    /// A step of a place's plan is due.
    Plan(Id),
    /// A queue's positions may be told again.
    Positions(QueueRef),
    /// Places whose policy said 'nobody yet' are asked for again.
    Deferred(QueueRef),
    /// A tenant's bindings may have expired.
    Bindings(u16),
    /// A tenant's remembered places may have had their time.
    Ghosts(u16),
}

const KINDS: usize = 7;

impl Wake {
    fn kind(self) -> usize {
        match self {
            Self::Lease(_) => 0,
            Self::Agent(_) => 1,
            Self::Plan(_) => 2,
            Self::Positions(_) => 3,
            Self::Deferred(_) => 4,
            Self::Bindings(_) => 5,
            Self::Ghosts(_) => 6,
        }
    }
}

/// Running timers of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimerCounts {
    /// One for each live token.
    pub leases: usize,
    /// Wrap-up and back-off.
    pub agents: usize,
    /// Places with a plan.
    pub plans: usize,
    /// Queues whose positions have changed.
    pub positions: usize,
    /// Queues with places whose policy said 'nobody yet'.
    pub deferred: usize,
    /// Tenants with registered phones.
    pub bindings: usize,
    /// Tenants with remembered places.
    pub ghosts: usize,
}

/// The timers.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    timers: Timers<Wake>,
    running: [usize; KINDS],
}

impl Clock {
    pub(crate) fn set(&mut self, deadline_ns: u64, wake: Wake) -> TimerId {
        self.running[wake.kind()] += 1;
        self.timers.set(deadline_ns, wake)
    }

    /// Stops a timer, if it runs.
    pub(crate) fn cancel(&mut self, timer: &mut Option<TimerId>) {
        if let Some(wake) = timer.take().and_then(|id| self.timers.cancel(id)) {
            self.running[wake.kind()] -= 1;
        }
    }

    pub(crate) fn expired(&mut self, now_ns: u64) -> Option<Wake> {
        let wake = self.timers.expired(now_ns)?;
        self.running[wake.kind()] -= 1;
        Some(wake)
    }

    pub(crate) fn next_deadline(&mut self) -> Option<u64> {
        self.timers.next_deadline()
    }

    pub(crate) fn counts(&self) -> TimerCounts {
        let [leases, agents, plans, positions, deferred, bindings, ghosts] = self.running;
        TimerCounts { leases, agents, plans, positions, deferred, bindings, ghosts }
    }
}

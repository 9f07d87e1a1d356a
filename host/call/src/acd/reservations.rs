//! The live tokens. A token stands for one agent held for one place, first ringing, then talking.
//!
//! ```text
//!  reserve ──> ringing ── accept ──> talking ── end ──> (gone)
//!                 └────── settle, lease ──────────────> (gone)
//! ```
//!
//! Every change names the token and the phase that it expects; a stale or second message finds
//! another phase, or nothing, and changes nothing. Called by the domain.

use cordboard_base::{Id, Map, TimerId};

use crate::queue::QueueRef;

/// Where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The phone rings.
    Ringing,
    /// The agent has the call.
    Talking,
}

/// What a token holds.
#[derive(Debug, Clone)]
pub(crate) struct Reservation {
    pub(crate) ticket: Id,
    pub(crate) interaction: Id,
    /// The queue of the place.
    pub(crate) home: QueueRef,
    pub(crate) agent: u32,
    pub(crate) shard: u16,
    pub(crate) phase: Phase,
    pub(crate) offered_ms: i64,
    /// When the conversation began.
    pub(crate) accepted_ms: i64,
    pub(crate) lease_ms: u64,
    /// Monotonic; moved by each renewal without touching the timer.
    pub(crate) lease_until_ns: u64,
    /// The lease ran out, and the shard was asked whether the token stands.
    pub(crate) asked: bool,
    pub(crate) timer: Option<TimerId>,
}

/// All live tokens of a domain.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    live: Map<Id, Reservation>,
    /// Of spent tokens, when the compare-and-swap is taken out for a test of the tests.
    #[cfg(feature = "seeded-bugs")]
    pub(crate) spent: Option<Map<Id, Reservation>>,
}

impl Reservations {
    pub(crate) fn reserve(&mut self, token: Id, reservation: Reservation) {
        self.live.insert(token, reservation);
    }

    pub(crate) fn get(&self, token: Id) -> Option<&Reservation> {
        self.live.get(&token)
    }

    pub(crate) fn get_mut(&mut self, token: Id) -> Option<&mut Reservation> {
        self.live.get_mut(&token)
    }

    /// Ringing becomes talking. None: the token is spent, unknown or talking already.
    pub(crate) fn accept(&mut self, token: Id, wall_ms: i64) -> Option<Reservation> {
        #[cfg(feature = "seeded-bugs")]
        self.revive(token);
        let held = self.live.get_mut(&token).filter(|r| r.phase == Phase::Ringing)?;
        held.phase = Phase::Talking;
        held.accepted_ms = wall_ms;
        Some(held.clone())
    }

    /// Spends the token if it stands where `expected` says.
    pub(crate) fn take(&mut self, token: Id, expected: Phase) -> Option<Reservation> {
        #[cfg(feature = "seeded-bugs")]
        self.revive(token);
        if self.live.get(&token)?.phase != expected {
            return None;
        }
        self.spend(token)
    }

    /// Spends the token wherever it stands: its call is over.
    pub(crate) fn spend(&mut self, token: Id) -> Option<Reservation> {
        let spent = self.live.remove(&token)?;
        #[cfg(feature = "seeded-bugs")]
        if let Some(memory) = &mut self.spent {
            memory.insert(token, Reservation { phase: Phase::Ringing, timer: None, ..spent.clone() });
        }
        Some(spent)
    }

    #[cfg(feature = "seeded-bugs")]
    fn revive(&mut self, token: Id) {
        if let Some(memory) = &mut self.spent
            && let Some(old) = memory.remove(&token)
        {
            self.live.entry(token).or_insert(old);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Id, &Reservation)> {
        self.live.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reservation() -> Reservation {
        Reservation {
            ticket: Id(1),
            interaction: Id(2),
            home: QueueRef { tenant: 0, queue: 0 },
            agent: 0,
            shard: 0,
            phase: Phase::Ringing,
            offered_ms: 0,
            accepted_ms: 0,
            lease_ms: 1,
            lease_until_ns: 1,
            asked: false,
            timer: None,
        }
    }

    #[test]
    fn a_token_is_accepted_once_and_spent_once() {
        let mut r = Reservations::default();
        r.reserve(Id(7), reservation());
        assert!(r.take(Id(7), Phase::Talking).is_none(), "it rings");
        assert!(r.accept(Id(7), 5).is_some());
        assert!(r.accept(Id(7), 6).is_none(), "accepted before");
        assert!(r.take(Id(7), Phase::Ringing).is_none(), "a late 'no answer' changes nothing");
        assert_eq!(r.take(Id(7), Phase::Talking).map(|t| t.accepted_ms), Some(5));
        assert!(r.take(Id(7), Phase::Talking).is_none() && r.accept(Id(7), 7).is_none());
        assert_eq!(r.iter().count(), 0);
    }
}

//! Places of callers who were lost in a crash: a caller who calls back in time finds the old place.
//!
//! Called by the domain when interactions are lost and when a caller queues. Bounded by the places
//! that there were.

use std::collections::BTreeMap;

use cordboard_base::Id;

use crate::Name;

/// A remembered place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ghost {
    pub(crate) ticket: Id,
    pub(crate) interaction: Id,
    pub(crate) number: u32,
    pub(crate) key_ms: i64,
    pub(crate) arrived_ms: i64,
    pub(crate) direct: Option<Name>,
    pub(crate) skills: Vec<Name>,
    pub(crate) priority: u8,
    /// Unix milliseconds; forgotten then.
    pub(crate) until_ms: i64,
}

/// The remembered places of a tenant, by workgroup and calling number.
#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    places: BTreeMap<(Name, String), Ghost>,
}

impl Ghosts {
    /// Remembers a place. Of two of one caller in one queue the earlier stays; the other's ticket is returned.
    pub(crate) fn keep(&mut self, workgroup: Name, caller: String, ghost: Ghost) -> Option<Ghost> {
        let slot = (workgroup, caller);
        match self.places.get(&slot) {
            Some(old) if old.key_ms <= ghost.key_ms => Some(ghost),
            _ => self.places.insert(slot, ghost),
        }
    }

    /// Gives the place of a caller who is back.
    pub(crate) fn claim(&mut self, workgroup: &Name, caller: &str, wall_ms: i64) -> Option<Ghost> {
        if caller.is_empty() || self.places.is_empty() {
            return None;
        }
        let slot = (workgroup.clone(), caller.to_owned());
        if self.places.get(&slot)?.until_ms <= wall_ms {
            return None;
        }
        self.places.remove(&slot)
    }

    /// Forgets what has had its time; the tickets are returned.
    pub(crate) fn expire(&mut self, wall_ms: i64) -> Vec<Id> {
        let mut gone = Vec::new();
        self.places.retain(|_, ghost| {
            let keep = ghost.until_ms > wall_ms;
            if !keep {
                gone.push(ghost.ticket);
            }
            keep
        });
        gone
    }

    pub(crate) fn next_expiry_ms(&self) -> Option<i64> {
        self.places.values().map(|g| g.until_ms).min()
    }

    /// All of them: workgroup, caller, place.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Name, &String, &Ghost)> {
        self.places.iter().map(|((workgroup, caller), ghost)| (workgroup, caller, ghost))
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ghost(ticket: u128, key_ms: i64) -> Ghost {
        Ghost {
            ticket: Id(ticket),
            interaction: Id(9),
            number: 1,
            key_ms,
            arrived_ms: key_ms,
            direct: None,
            skills: Vec::new(),
            priority: 0,
            until_ms: 1_000,
        }
    }

    #[test]
    fn a_place_is_claimed_once_and_only_in_time() {
        let mut g = Ghosts::default();
        g.keep("support".into(), "+49".into(), ghost(1, 10));
        assert!(g.claim(&"sales".into(), "+49", 0).is_none());
        assert!(g.claim(&"support".into(), "", 0).is_none(), "withheld numbers find nothing");
        assert!(g.claim(&"support".into(), "+49", 1_000).is_none(), "too late");
        assert_eq!(g.claim(&"support".into(), "+49", 999).map(|g| g.ticket), Some(Id(1)));
        assert!(g.claim(&"support".into(), "+49", 999).is_none());
    }

    #[test]
    fn of_two_places_of_one_caller_the_earlier_stays() {
        let mut g = Ghosts::default();
        assert!(g.keep("support".into(), "+49".into(), ghost(1, 20)).is_none());
        assert_eq!(g.keep("support".into(), "+49".into(), ghost(2, 10)).map(|g| g.ticket), Some(Id(1)));
        assert_eq!(g.keep("support".into(), "+49".into(), ghost(3, 30)).map(|g| g.ticket), Some(Id(3)));
        assert_eq!(g.expire(1_000), [Id(2)]);
        assert_eq!(g.next_expiry_ms(), None);
    }
}

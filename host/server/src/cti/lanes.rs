//! What one adapter still has to be told: a lane for each subject, in order, and how far the cursor
//! may move. Pure; the delivery task drives it.
//!
//! ```text
//!   push ──▶ lane (subject) ──take──▶ in flight ──done──▶ gone, the cursor may pass
//!                 ▲                      │
//!                 └────────retry─────────┘ the lane rests, later events of the subject behind it
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cordboard_base::Map;
use cordboard_store::Stored;

/// Events of one adapter.
#[derive(Debug)]
pub struct Lanes {
    lanes: Map<String, Lane>,
    /// Subjects that may be taken now, in the order in which they became so.
    ready: VecDeque<String>,
    /// Subjects that rest, by when they are ready again.
    resting: BTreeSet<(u64, String)>,
    /// Places that are not dealt with.
    open: BTreeSet<u64>,
    /// The highest place that was pushed or passed.
    seen: u64,
}

#[derive(Debug, Default)]
struct Lane {
    events: VecDeque<(Stored, Tries)>,
    in_flight: usize,
}

/// What has been tried with an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// When it was first handed over, Unix milliseconds; 0: never.
    pub first_ms: i64,
    /// Faults of the plugin with this event.
    pub faults: u32,
}

impl Lanes {
    /// Everything up to and with this place has been dealt with.
    #[must_use]
    pub fn new(cursor: u64) -> Self {
        Self {
            lanes: Map::default(),
            ready: VecDeque::new(),
            resting: BTreeSet::new(),
            open: BTreeSet::new(),
            seen: cursor,
        }
    }

    /// The place after which events are expected.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Events that are not dealt with.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Subjects that could be taken now, at least one event each.
    #[must_use]
    pub fn takeable(&self) -> usize {
        self.ready.len()
    }

    /// The cursor: everything up to and with this place is dealt with.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.open.first().map_or(self.seen, |first| first - 1)
    }

    /// Passes over an event that is not this adapter's.
    pub fn pass(&mut self, place: u64) {
        self.seen = self.seen.max(place);
    }

    /// Takes an event in; one that was seen before is nothing.
    pub fn push(&mut self, event: Stored) {
        if event.place <= self.seen {
            return;
        }
        self.seen = event.place;
        self.open.insert(event.place);
        let subject = event.event.subject.clone();
        let lane = self.lanes.entry(subject.clone()).or_default();
        lane.events.push_back((event, Tries::default()));
        if lane.events.len() == 1 {
            self.ready.push_back(subject);
        }
    }

    /// Wakes lanes that have rested; when the next one will have.
    pub fn wake(&mut self, now_ns: u64) -> Option<u64> {
        while let Some((at, _)) = self.resting.first() {
            if *at > now_ns {
                return Some(*at);
            }
            if let Some((_, subject)) = self.resting.pop_first() {
                self.ready.push_back(subject);
            }
        }
        None
    }

    /// Events for one batch, at most `limit`: whole runs of subjects that nobody else works on.
    pub fn take(&mut self, limit: usize) -> Vec<(Stored, Tries)> {
        let mut batch = Vec::new();
        while batch.len() < limit {
            let Some(subject) = self.ready.pop_front() else { break };
            let Some(lane) = self.lanes.get_mut(&subject) else { continue };
            let room = limit - batch.len();
            // An event that made the plugin fail goes alone, so that it can be told from its neighbours.
            if lane.events.front().is_some_and(|(_, tries)| tries.faults > 0) {
                if !batch.is_empty() {
                    self.ready.push_front(subject);
                    break;
                }
                lane.in_flight = 1;
                batch.extend(lane.events.front().cloned());
                break;
            }
            lane.in_flight = lane.events.iter().take(room).take_while(|(_, tries)| tries.faults == 0).count();
            batch.extend(lane.events.iter().take(lane.in_flight).cloned());
        }
        batch
    }

    /// The events of a subject at the head of its lane were dealt with, so many of them; if one was
    /// to be tried again, the lane rests until then.
    pub fn done(
        &mut self,
        subject: &str,
        dealt_with: usize,
        rest_until_ns: Option<u64>,
        again: Option<Tries>,
    ) {
        let Some(lane) = self.lanes.get_mut(subject) else { return };
        for (event, _) in lane.events.drain(..dealt_with.min(lane.in_flight)) {
            self.open.remove(&event.place);
        }
        lane.in_flight = 0;
        if let (Some(tries), Some(front)) = (again, lane.events.front_mut()) {
            front.1 = tries;
        }
        if lane.events.is_empty() {
            self.lanes.remove(subject);
        } else if let Some(at) = rest_until_ns {
            self.resting.insert((at, subject.to_owned()));
        } else {
            self.ready.push_back(subject.to_owned());
        }
    }
}

/// The runs of subjects in a batch, in order: subject and how many.
#[must_use]
pub fn runs(batch: &[(Stored, Tries)]) -> Vec<(String, usize)> {
    let mut runs: BTreeMap<usize, (String, usize)> = BTreeMap::new();
    let mut last: Option<usize> = None;
    for (i, (event, _)) in batch.iter().enumerate() {
        match last.and_then(|l| runs.get_mut(&l)) {
            Some((subject, count)) if *subject == event.event.subject => *count += 1,
            _ => {
                runs.insert(i, (event.event.subject.clone(), 1));
                last = Some(i);
            }
        }
    }
    runs.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordboard_call::events::Event;
    use std::sync::Arc;

    fn event(place: u64, subject: &str) -> Stored {
        let event = Event {
            sequence: place,
            tenant: "t".into(),
            kind: "call.new".into(),
            interaction: None,
            subject: subject.into(),
            wall_ms: 0,
            data: "{}".into(),
        };
        Stored { place, event: Arc::new(event) }
    }

    fn places(batch: &[(Stored, Tries)]) -> Vec<u64> {
        batch.iter().map(|(e, _)| e.place).collect()
    }

    #[test]
    fn a_subject_is_worked_on_once_at_a_time_and_in_order() {
        let mut lanes = Lanes::new(0);
        for (place, subject) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
            lanes.push(event(place, subject));
        }
        lanes.push(event(3, "a"));
        assert_eq!(places(&lanes.take(2)), [1, 3]);
        lanes.push(event(5, "a"));
        assert_eq!(places(&lanes.take(10)), [2, 4], "a is in flight");
        assert_eq!(lanes.cursor(), 0);
        lanes.done("a", 2, None, None);
        assert_eq!(lanes.cursor(), 1, "2 is open");
        lanes.done("b", 1, None, None);
        lanes.done("c", 1, None, None);
        assert_eq!(lanes.cursor(), 4);
        assert_eq!(places(&lanes.take(10)), [5]);
        lanes.done("a", 1, None, None);
        lanes.pass(9);
        assert_eq!((lanes.cursor(), lanes.is_empty()), (9, true));
    }

    #[test]
    fn a_retried_event_holds_its_subject_and_nobody_else() {
        let mut lanes = Lanes::new(0);
        for (place, subject) in [(1, "a"), (2, "a"), (3, "b")] {
            lanes.push(event(place, subject));
        }
        let batch = lanes.take(10);
        assert_eq!(runs(&batch), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        lanes.done("a", 0, Some(100), None);
        lanes.done("b", 1, None, None);
        assert!(lanes.take(10).is_empty());
        assert_eq!(lanes.wake(50), Some(100));
        assert_eq!(lanes.wake(100), None);
        assert_eq!(places(&lanes.take(10)), [1, 2]);
    }

    #[test]
    fn an_event_that_made_the_plugin_fail_goes_alone() {
        let mut lanes = Lanes::new(0);
        for (place, subject) in [(1, "a"), (2, "a"), (3, "b")] {
            lanes.push(event(place, subject));
        }
        lanes.take(10);
        lanes.done("a", 0, None, Some(Tries { first_ms: 1, faults: 1 }));
        lanes.done("b", 0, None, None);
        assert_eq!(places(&lanes.take(10)), [1]);
        lanes.done("a", 1, None, None);
        assert_eq!(places(&lanes.take(10)), [3, 2]);
    }
}

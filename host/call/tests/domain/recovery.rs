//! After a crash: places for those who call back, nobody stuck, every record closed.

use std::sync::Arc;

use cordboard_base::Random;
use cordboard_call::commands::AgentStateName as State;
use cordboard_call::domain::{Domain, Output};
use cordboard_call::facts::Fact;
use cordboard_call::messages::*;
use cordboard_sip::endpoint::DialogRecord;

use crate::harness::*;

fn queue_from(w: &mut World, caller: &str) -> cordboard_base::Id {
    let id = w.call_from(caller);
    w.ask(id, 1, "support", QueueRequest::default()).expect("a place").ticket
}

#[test]
fn the_queue_stands_in_its_old_order_for_those_who_call_back() {
    let mut w = World::new(small());
    for caller in ["+1", "+2", "+3"] {
        queue_from(&mut w, caller);
        w.pass_ms(1_000);
    }
    let out = w.restart();
    assert_eq!(out.iter().filter(|o| matches!(o, Output::Fact(Fact::Closed(_)))).count(), 3);
    assert!(w.closed().iter().all(|r| r.end.text == "node-lost" && r.end.cause == 41));
    assert_eq!(w.domain.counts().ghosts, 3);
    assert_eq!(w.queue("support").entries.iter().filter(|e| e.awaiting_call_back).count(), 3);
    w.pass_ms(1_000);
    let new = queue_from(&mut w, "+9");
    let third = queue_from(&mut w, "+3");
    let first = queue_from(&mut w, "+1");
    w.pass_ms(3_000);
    let order: Vec<_> =
        w.queue("support").entries.iter().filter(|e| !e.awaiting_call_back).map(|e| e.ticket).collect();
    assert_eq!(order, [first, third, new]);
    w.log_in("alice");
    assert_eq!(w.offer().1, first);
}

#[test]
fn a_remembered_place_lives_through_another_crash_and_ends_with_its_grace() {
    let mut w = World::new(small());
    queue_from(&mut w, "+1");
    w.restart();
    w.pass_ms(30_000);
    w.restart();
    assert_eq!(w.domain.counts().ghosts, 1);
    w.pass_ms(30_000);
    assert_eq!(
        (w.domain.counts().ghosts, w.domain.counts().timers.ghosts),
        (0, 0),
        "a minute after the first crash"
    );
    w.restart();
    assert_eq!(w.domain.counts().ghosts, 0);
}

#[test]
fn agents_keep_what_they_asked_for_and_are_free() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.log_in("bob");
    w.queued("support");
    let first = w.offer();
    w.settle(&first, OfferResult::Accepted);
    w.queued("support");
    w.offer();
    w.log_out("alice");
    assert_eq!(w.state("alice").0, State::Busy);
    w.restart();
    assert_eq!(w.state("alice").0, State::LoggedOut, "asked for during the call");
    assert_eq!(w.state("bob").0, State::Ready, "was ringing");
    let c = w.domain.counts();
    assert_eq!((c.ringing, c.talking, c.interactions, c.agents_ready), (0, 0, 0, 1));
    let offers: Vec<_> = w.closed().into_iter().flat_map(|r| r.offers).map(|o| o.result).collect();
    assert_eq!(offers, [Some(OfferResult::Accepted), None]);
    w.queued("support");
    assert_eq!(w.offer().2, "bob");
}

#[test]
fn listeners_hear_of_everything_that_the_crash_has_ended() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.log_in("bob");
    let (talking, _) = w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    let (ringing, _) = w.queued("support");
    w.offer();
    let (waiting, _) = w.queued("support");
    let out = w.restart();
    let events: Vec<_> =
        out.iter().filter_map(|o| if let Output::Event(e) = o { Some(e) } else { None }).collect();
    let of = |id| -> Vec<&str> {
        events.iter().filter(|e| e.interaction == Some(id)).map(|e| e.kind.as_str()).collect()
    };
    assert_eq!(of(talking), ["offer.ended", "call.ended"]);
    assert_eq!(of(ringing), ["offer.ended", "queue.left", "call.ended"]);
    assert_eq!(of(waiting), ["queue.left", "call.ended"]);
    assert!(
        events
            .iter()
            .filter(|e| e.kind == "offer.ended" || e.kind == "queue.left")
            .all(|e| e.data.contains("node-lost"))
    );
    let states: Vec<_> = events.iter().filter(|e| e.kind == "agent.state").map(|e| e.data.as_str()).collect();
    assert_eq!(states.len(), 2);
    assert!(states[0].contains(r#""agent":"alice","state":"ready""#), "{states:?}");
    assert!(states[1].contains(r#""agent":"bob","state":"ready""#), "{states:?}");
}

#[test]
fn a_caller_whom_the_script_had_answered_is_in_the_record_as_answered() {
    let mut w = World::new(small());
    let (answered, unanswered) = (w.call(), w.call());
    // The shard's fact may overtake the domain's.
    let dialog = DialogRecord {
        call_id: "call@id".into(),
        local: "<sip:100@h>;tag=1".into(),
        remote: "<sip:+4930@h>;tag=2".into(),
        target: "sip:+4930@10.0.1.1".into(),
        routes: Vec::new(),
        local_cseq: 1,
        remote_cseq: Some(1),
        listener: 0,
        destination: "10.0.1.1:5060".parse().unwrap(),
    };
    w.facts.insert(0, Fact::DialogUp { leg: 7, interaction: answered, dialog: dialog.into() });
    w.restart();
    let of =
        |id| w.closed().into_iter().find(|r| r.interaction == id).map(|r| (r.end.answered, r.end.status));
    assert_eq!((of(answered), of(unanswered)), (Some((true, 200)), Some((false, 503))));
}

#[test]
fn event_numbers_go_on_growing() {
    let mut w = World::new(small());
    w.queued("support");
    let last = w.events.last().map(|e| e.sequence).expect("events");
    let out = w.restart();
    let numbers: Vec<_> =
        out.iter().filter_map(|o| if let Output::Event(e) = o { Some(e.sequence) } else { None }).collect();
    assert!(!numbers.is_empty() && numbers.iter().all(|n| *n > last));
}

#[test]
fn late_messages_of_the_former_life_change_nothing() {
    let mut w = World::new(small());
    w.log_in("alice");
    let (id, _) = w.queued("support");
    let at = w.offer();
    w.restart();
    w.settle(&at, OfferResult::Accepted);
    w.end(id);
    assert_eq!(w.closed().len(), 1);
    assert_eq!(w.domain.counts().talking, 0);
}

#[test]
fn a_snapshot_is_as_good_as_all_facts() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.log_in("bob");
    w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.talk_ended(&at, TalkEnd::AgentVanished, 500);
    let talking = w.offer();
    w.settle(&talking, OfferResult::Accepted);
    queue_from(&mut w, "+5");
    let gone = w.call();
    w.end(gone);
    assert_same(&w);
}

/// Recovering from a snapshot and from all facts gives the same new facts and the same state.
pub(crate) fn assert_same(w: &World) {
    let recovered = |facts: Vec<Fact>| {
        let mut domain = Domain::new(Arc::clone(&w.model), 100, 99, Random::seeded(99), w.now);
        let out = domain.recover(w.now, facts);
        let mut told: Vec<Fact> = out
            .into_iter()
            .filter_map(|o| match o {
                Output::Fact(Fact::Closed(mut record)) => {
                    // The facts do not say for how long a phone rang: derived from their times it is close.
                    Arc::make_mut(&mut record).offers.iter_mut().for_each(|o| o.rang_ms = 0);
                    Some(Fact::Closed(record))
                }
                Output::Fact(fact) => Some(fact),
                _ => None,
            })
            .collect();
        told.sort_by_key(|f| format!("{f:?}"));
        let mut snapshot = domain.snapshot();
        snapshot.sort_by_key(|f| format!("{f:?}"));
        (told, snapshot)
    };
    let (all, snapshot) = (recovered(w.facts.clone()), recovered(w.domain.snapshot()));
    for (a, b) in all.0.iter().zip(&snapshot.0).chain(all.1.iter().zip(&snapshot.1)) {
        assert_eq!(a, b);
    }
    assert_eq!((all.0.len(), all.1.len()), (snapshot.0.len(), snapshot.1.len()));
}

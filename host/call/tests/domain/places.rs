//! Places: given once, kept over returns, left, protected, told.

use cordboard_call::facts::Fact;
use cordboard_call::messages::*;
use cordboard_call::script::Left;

use crate::harness::*;

fn answer(w: &World) -> Left {
    match w.sent.last().map(|e| &e.body) {
        Some(ToShard::Left { result, .. }) => *result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn asking_twice_queues_once_and_gives_the_same_answer() {
    let mut w = World::new(small());
    let id = w.call();
    let first = w.ask(id, 1, "support", QueueRequest::default());
    let again = w.ask(id, 1, "support", QueueRequest::default());
    assert_eq!(first, again);
    assert_eq!(w.facts.iter().filter(|f| matches!(f, Fact::Queued { .. })).count(), 1);
    let refused = w.ask(id, 2, "nowhere", QueueRequest::default());
    assert_eq!(refused.as_ref().map_err(|r| r.reason.as_str()), Err("no-workgroup"));
    assert_eq!(w.ask(id, 2, "support", QueueRequest::default()), refused, "the same key, the same answer");
    assert_eq!(w.queue("support").waiting, 1);
}

#[test]
fn a_call_has_one_place_and_a_new_request_moves_it() {
    let mut w = World::new(model(vec![workgroup("support"), workgroup("sales")], vec![]));
    let (id, old) = w.queued("support");
    let new = w.ask(id, 2, "sales", QueueRequest::default()).expect("a place").ticket;
    assert_ne!(old, new);
    assert_eq!((w.queue("support").waiting, w.queue("sales").waiting), (0, 1));
    assert_eq!(w.told(old), Some((TicketState::Ended, 0)));
}

#[test]
fn a_move_that_is_refused_leaves_the_old_place() {
    let mut full = workgroup("sales");
    full.max_waiting = 1;
    let mut w = World::new(model(vec![workgroup("support"), full], vec![agent("alice", &["support"], &[])]));
    let (other, _) = w.queued("sales");
    let (id, old) = w.queued("support");
    assert!(w.ask(id, 2, "sales", QueueRequest::default()).is_err());
    assert_eq!((w.queue("support").waiting, w.queue("sales").waiting), (1, 1));
    assert_ne!(w.told(old), Some((TicketState::Ended, 0)));
    // Within the full queue there is room for the one who is in it.
    assert!(w.ask(other, 2, "sales", QueueRequest::default()).is_ok());
    assert_eq!(w.queue("sales").waiting, 1);
    w.log_in("alice");
    assert_eq!(w.offer().1, old);
}

#[test]
fn a_full_queue_and_an_unstaffed_one_refuse() {
    let mut full = workgroup("support");
    full.max_waiting = 1;
    let mut unstaffed = workgroup("sales");
    unstaffed.refuse_without_agents = true;
    let mut w = World::new(model(vec![full, unstaffed], vec![agent("alice", &["sales"], &[])]));
    w.queued("support");
    let id = w.call();
    let reason = |r: Result<Place, Refusal>| r.map_err(|r| r.reason).err().unwrap_or_default();
    let result = w.ask(id, 1, "support", QueueRequest::default());
    assert_eq!(reason(result), "full");
    let result = w.ask(id, 2, "sales", QueueRequest::default());
    assert_eq!(reason(result), "no-agents");
    w.log_in("alice");
    assert!(w.ask(id, 3, "sales", QueueRequest::default()).is_ok());
}

#[test]
fn a_place_is_kept_over_offers_that_are_not_taken() {
    let mut w = World::new(small());
    let (first, first_ticket) = w.queued("support");
    w.pass_ms(10);
    let (_, second) = w.queued("support");
    w.log_in("alice");
    let at = w.offer();
    assert_eq!(at.0, first);
    assert_eq!(w.told(first_ticket), Some((TicketState::Offered, 1)), "offered, the place kept");
    w.settle(&at, OfferResult::NoAnswer);
    assert_eq!(w.told(first_ticket), Some((TicketState::Waiting, 1)));
    w.log_in("bob");
    assert_eq!(w.offer().1, first_ticket, "it was first and still is");
    assert!(w.queue("support").entries.iter().any(|e| e.ticket == second && e.position == 2));
}

#[test]
fn a_caller_whose_agent_s_phone_vanished_waits_at_the_old_place() {
    let mut w = World::new(small());
    let (_, first) = w.queued("support");
    w.log_in("alice");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.pass_ms(1_000);
    w.queued("support");
    w.talk_ended(&at, TalkEnd::AgentVanished, 1_000);
    assert_eq!(w.told(first), Some((TicketState::Returned, 1)));
    assert_eq!(w.state("alice"), (cordboard_call::commands::AgentStateName::NotReady, "phone-lost".into()));
    w.log_in("bob");
    assert_eq!(w.offer().1, first);
    assert!(w.kinds().contains(&"call.returned"));
}

#[test]
fn leaving_may_be_too_late() {
    let mut w = World::new(small());
    let (id, ticket) = w.queued("support");
    w.log_in("alice");
    let at = w.offer();
    w.say(id, ToDomain::Leave { request: 1, ticket });
    assert_eq!(answer(&w), Left::Offered);
    w.settle(&at, OfferResult::NoAnswer);
    w.say(id, ToDomain::Leave { request: 2, ticket });
    assert_eq!(answer(&w), Left::Left);
    assert_eq!(w.told(ticket), Some((TicketState::Ended, 0)));
    w.say(id, ToDomain::Leave { request: 3, ticket });
    assert_eq!(answer(&w), Left::Left, "gone is gone");
    let place = w.ask(id, 2, "support", QueueRequest::default()).expect("again").ticket;
    w.log_in("bob");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.say(id, ToDomain::Leave { request: 4, ticket: place });
    assert_eq!(answer(&w), Left::Taken);
}

#[test]
fn a_protected_caller_is_not_offered_and_then_is() {
    let mut w = World::new(small());
    let (id, ticket) = w.queued("support");
    w.say(id, ToDomain::Protect { request: 1, ticket, on: true });
    assert_eq!(answer(&w), Left::Left);
    w.log_in("alice");
    assert!(w.offers().is_empty());
    let (other, _) = w.queued("support");
    assert_eq!(w.offer().0, other, "others pass");
    w.log_in("bob");
    assert!(w.offers().is_empty());
    w.say(id, ToDomain::Protect { request: 2, ticket, on: false });
    assert_eq!(w.offer().0, id);
    w.say(id, ToDomain::Protect { request: 3, ticket, on: true });
    assert_eq!(answer(&w), Left::Offered, "too late");
}

#[test]
fn positions_are_told_at_most_once_a_second_and_in_batches() {
    let mut w = World::new(small());
    let calls: Vec<_> = (0..500).map(|_| w.queued("support")).collect();
    w.pass_ms(10_000);
    w.sent.clear();
    for (id, _) in &calls[..20] {
        w.end(*id);
    }
    let tickets = |w: &World| {
        w.sent
            .iter()
            .filter(|e| matches!(e.body, ToShard::Ticket { state: TicketState::Waiting, .. }))
            .count()
    };
    assert!(tickets(&w) <= 64 * 20, "one batch an input at most: {}", tickets(&w));
    w.pass_ms(0);
    let mut told = std::collections::BTreeMap::new();
    for e in &w.sent {
        if let ToShard::Ticket { ticket, state: TicketState::Waiting, .. } = e.body {
            *told.entry(ticket).or_insert(0) += 1;
        }
    }
    assert!(told.values().all(|n| *n == 1), "a ticket is told once in one second");
    w.pass_ms(6_000);
    let view = w.queue("support");
    assert_eq!(view.entries.len(), 480);
    for (_, ticket) in &calls[20..] {
        let position = view.entries.iter().find(|e| e.ticket == *ticket).map(|e| e.position);
        assert_eq!(w.told(*ticket).map(|(_, p)| p), position, "in the end everybody knows");
    }
    assert_eq!(w.domain.counts().backlog, 0);
}

#[test]
fn the_estimate_is_unknown_without_agents_and_checked_when_taken() {
    let mut w = World::new(small());
    let id = w.call();
    assert_eq!(
        w.ask(id, 1, "support", QueueRequest::default()).map(|p| (p.position, p.wait_s)),
        Ok((1, None))
    );
    w.end(id);
    w.log_in("alice");
    let busy = w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    let id = w.call();
    assert_eq!(
        w.ask(id, 1, "support", QueueRequest::default()).map(|p| (p.position, p.wait_s)),
        Ok((1, Some(60)))
    );
    w.pass_ms(20_000);
    w.talk_ended(&at, TalkEnd::AgentLeft, 20_000);
    w.end(busy.0);
    w.pass_ms(5_000);
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    // Free agents meant no wait for the first, which was right; the second was told 60 s and waited 25.
    assert_eq!(w.queue("support").estimate_error_ms, Some(17_500));
    w.end(id);
    assert_eq!(w.closed().pop().and_then(|r| r.estimate_ms), Some((60_000, 25_000)));
}

#[test]
fn priority_moves_a_caller_ahead_by_ten_seconds_a_point() {
    let mut w = World::new(small());
    let (_, plain) = w.queued("support");
    w.pass_ms(15_000);
    let id = w.call();
    let urgent = QueueRequest { priority: 2, ..QueueRequest::default() };
    let place = w.ask(id, 1, "support", urgent).expect("a place");
    assert_eq!(place.position, 1);
    w.pass_ms(2_000);
    assert_eq!(w.told(plain), Some((TicketState::Waiting, 2)), "the other is told");
}

#[test]
fn skills_decide_who_is_asked_and_a_later_caller_may_be_first() {
    let agents =
        vec![agent("alice", &["support"], &[("en", 5)]), agent("bob", &["support"], &[("en", 5), ("fr", 3)])];
    let mut w = World::new(model(vec![workgroup("support")], agents));
    let french = w.call();
    let skills = QueueRequest { skills: vec!["fr".into()], ..QueueRequest::default() };
    w.ask(french, 1, "support", skills).expect("a place");
    let (plain, _) = w.queued("support");
    w.log_in("alice");
    let at = w.offer();
    assert_eq!((at.0, at.2.as_str()), (plain, "alice"));
    w.log_in("bob");
    let at = w.offer();
    assert_eq!((at.0, at.2.as_str()), (french, "bob"));
}

#[test]
fn a_direct_call_waits_for_its_agent_alone() {
    let mut w = World::new(small());
    let id = w.call();
    let refused = w.ask(id, 1, "agent:alice", QueueRequest::default());
    assert_eq!(refused.map_err(|r| r.reason), Err("no-agent".into()), "not logged in");
    w.log_in("alice");
    let busy = w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    let place = w.ask(id, 2, "agent:alice", QueueRequest::default()).expect("a place");
    assert!(place.direct && &*place.workgroup == "agent:alice");
    w.log_in("bob");
    assert!(w.offers().is_empty(), "bob is not asked");
    assert_eq!(w.queue("agent:alice").waiting, 1);
    w.talk_ended(&at, TalkEnd::AgentLeft, 1_000);
    w.end(busy.0);
    w.pass_ms(5_000);
    let at = w.offer();
    assert_eq!((at.0, at.2.as_str()), (id, "alice"));
}

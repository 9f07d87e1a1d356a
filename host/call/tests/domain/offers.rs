//! Offers: one winner, compare-and-swap, rounds, leases.

use cordboard_call::commands::AgentStateName as State;
use cordboard_call::facts::Fact;
use cordboard_call::messages::*;

use crate::harness::*;

#[test]
fn a_second_or_stale_outcome_changes_nothing() {
    let mut w = World::new(small());
    w.log_in("alice");
    let (_, ticket) = w.queued("support");
    let old = w.offer();
    w.settle(&old, OfferResult::NoAnswer);
    w.pass_ms(10_000);
    let new = w.offer();
    let before = (w.domain.counts(), w.facts.len(), w.state("alice"));
    for result in [OfferResult::Accepted, OfferResult::NoAnswer, OfferResult::Unreachable { status: 404 }] {
        w.settle(&old, result);
    }
    let counts = w.domain.counts();
    assert_eq!((counts.ringing, counts.talking, w.facts.len()), (1, 0, before.1));
    assert_eq!(counts.totals.stale, 3);
    assert_eq!(w.state("alice"), before.2);
    w.settle(&new, OfferResult::Accepted);
    w.settle(&new, OfferResult::NoAnswer);
    w.settle(&new, OfferResult::Accepted);
    assert_eq!(w.told(ticket).map(|t| t.0), Some(TicketState::Taken));
    assert_eq!(w.agent("alice").calls, 1);
}

#[test]
fn a_round_rings_several_and_one_wins() {
    let mut m = small();
    m.tenants[0].workgroups[0].round = 2;
    let mut w = World::new(m);
    w.log_in("alice");
    w.log_in("bob");
    let (id, ticket) = w.queued("support");
    let offers = w.offers();
    assert_eq!(offers[0].1.agents.len(), 2);
    let at = |i: usize| {
        let o = &offers[0].1.agents[i];
        (id, ticket, o.agent.to_string(), o.token)
    };
    w.settle(&at(0), OfferResult::Busy);
    assert_eq!(w.domain.counts().offered, 1, "the round goes on with the other");
    w.settle(&at(1), OfferResult::Accepted);
    assert_eq!((w.domain.counts().taken, w.domain.counts().ringing), (1, 0));
}

#[test]
fn of_two_winners_of_one_place_the_first_has_it() {
    let mut m = small();
    m.tenants[0].workgroups[0].round = 2;
    let mut w = World::new(m);
    w.log_in("alice");
    w.log_in("bob");
    let (id, ticket) = w.queued("support");
    let offer = w.offers().remove(0).1;
    for o in &offer.agents {
        w.settle(&(id, ticket, o.agent.to_string(), o.token), OfferResult::Accepted);
    }
    assert_eq!(w.state("alice").0, State::Busy);
    assert_eq!(w.state("bob").0, State::Ready, "against the rules, so it has lost");
    w.settle(&(id, ticket, "bob".into(), offer.agents[1].token), OfferResult::Lost);
    assert_eq!(w.domain.counts().talking, 1);
}

#[test]
fn a_round_in_which_nobody_answers_gives_the_place_back_once() {
    let mut m = small();
    m.tenants[0].workgroups[0].round = 2;
    let mut w = World::new(m);
    w.log_in("alice");
    w.log_in("bob");
    let (id, ticket) = w.queued("support");
    let offer = w.offers().remove(0).1;
    w.settle(&(id, ticket, "alice".into(), offer.agents[0].token), OfferResult::NoAnswer);
    assert_eq!(w.queue("support").offered, 1);
    w.settle(&(id, ticket, "bob".into(), offer.agents[1].token), OfferResult::NoAnswer);
    assert_eq!((w.queue("support").offered, w.queue("support").waiting), (0, 1));
}

#[test]
fn two_callers_and_one_agent_are_served_in_turn() {
    let mut w = World::new(small());
    let (first, _) = w.queued("support");
    w.pass_ms(1);
    let (second, _) = w.queued("support");
    w.log_in("alice");
    let at = w.offer();
    assert_eq!(at.0, first);
    w.settle(&at, OfferResult::Accepted);
    assert!(w.offers().is_empty());
    w.talk_ended(&at, TalkEnd::AgentLeft, 1);
    w.end(first);
    w.pass_ms(5_000);
    assert_eq!(w.offer().0, second);
}

#[test]
fn a_lease_that_is_not_renewed_frees_the_agent_and_keeps_the_place() {
    let mut w = World::new(small());
    w.log_in("alice");
    let (id, ticket) = w.queued("support");
    let at = w.offer();
    for _ in 0..10 {
        w.pass_ms(10_000);
        w.say(id, ToDomain::Renew { tokens: vec![at.3] });
    }
    assert_eq!(w.domain.counts().ringing, 1, "renewed in time");
    w.pass_ms(30_000);
    assert!(w.sent.iter().any(|e| e.body == ToShard::Confirm { token: at.3 }), "asked first");
    assert_eq!(w.domain.counts().ringing, 1);
    w.pass_ms(5_000);
    let (again, again_ticket, _, token) = w.offer();
    assert_eq!((again, again_ticket), (id, ticket), "back at its place, and offered anew");
    assert_ne!(token, at.3);
    assert_eq!(w.domain.counts().totals.leases_expired, 1);
    w.pass_ms(35_000);
    assert!(w.offers().is_empty(), "a dead shard does not get the call for ever");
    assert_eq!(w.state("alice").0, State::Ready);
    assert!(matches!(w.facts.last(), Some(Fact::Unqueued { why, .. }) if why == "lease"));
    let c = w.domain.counts();
    assert_eq!((c.ringing, c.timers.leases), (0, 0));
}

#[test]
fn a_lease_covers_a_conversation_too() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.pass_ms(34_999);
    assert_eq!(w.state("alice").0, State::Busy);
    w.pass_ms(1);
    assert_eq!(w.domain.counts().talking, 0, "the agent is not stuck");
    w.settle(&at, OfferResult::NoAnswer);
    w.talk_ended(&at, TalkEnd::AgentLeft, 5);
    assert_eq!(w.domain.counts().totals.stale, 2);
}

#[test]
fn a_shard_that_confirms_in_time_keeps_what_it_has() {
    let mut w = World::new(small());
    w.log_in("alice");
    let (id, _) = w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.pass_ms(34_000);
    assert!(w.sent.iter().any(|e| e.body == ToShard::Confirm { token: at.3 }));
    w.say(id, ToDomain::Renew { tokens: vec![at.3] });
    w.pass_ms(29_000);
    assert_eq!((w.domain.counts().talking, w.domain.counts().totals.leases_expired), (1, 0));
    w.talk_ended(&at, TalkEnd::AgentLeft, 60_000);
    w.end(id);
    assert_eq!(w.domain.counts().timers.leases, 0);
}

#[test]
fn a_shard_that_comes_back_too_late_hears_that_its_conversation_is_over_before_the_next_offer() {
    let mut w = World::new(small());
    w.log_in("alice");
    let (id, ticket) = w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    w.pass_ms(35_000);
    let find = |w: &World, wanted: &dyn Fn(&ToShard) -> bool| w.sent.iter().position(|e| wanted(&e.body));
    let lapsed = find(&w, &|m| *m == ToShard::Lapsed { token: at.3 }).expect("told");
    let offered =
        find(&w, &|m| matches!(m, ToShard::Offer(o) if o.agents[0].token != at.3)).expect("offered anew");
    assert!(lapsed < offered);
    // What the shard still says of the old token changes nothing, and it is told again.
    let new = w.offer();
    assert_eq!((new.0, new.1), (id, ticket));
    w.sent.clear();
    w.say(id, ToDomain::Renew { tokens: vec![at.3] });
    assert!(w.sent.iter().any(|e| e.body == ToShard::Lapsed { token: at.3 }));
    w.talk_ended(&at, TalkEnd::AgentVanished, 35_000);
    assert_eq!((w.domain.counts().ringing, w.domain.counts().talking), (1, 0));
    w.settle(&new, OfferResult::Accepted);
    assert_eq!(w.state("alice").0, State::Busy);
}

#[test]
fn a_shard_that_does_not_know_the_call_ends_its_place() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::NoCall);
    assert_eq!((w.domain.counts().waiting, w.state("alice").0), (0, State::Ready));
    assert!(w.offers().is_empty());
}

#[test]
fn a_caller_who_hangs_up_frees_everything_at_every_step() {
    // 0: before the queue, 1: waiting, 2: ringing, 3: ringing and settled, 4: talking, 5: talk ended.
    for step in 0..6 {
        let mut w = World::new(small());
        let id = w.call();
        if step >= 2 {
            w.log_in("alice");
        }
        if step >= 1 {
            w.ask(id, 1, "support", QueueRequest::default()).expect("a place");
        }
        if step >= 2 {
            let at = w.offer();
            match step {
                3 => w.settle(&at, OfferResult::CallerGone),
                4 | 5 => w.settle(&at, OfferResult::Accepted),
                _ => {}
            }
            if step == 5 {
                w.talk_ended(&at, TalkEnd::CallerGone, 10);
            }
        }
        w.end(id);
        w.pass_ms(5_000);
        let c = w.domain.counts();
        assert_eq!(
            (c.interactions, c.waiting, c.offered, c.taken, c.ringing, c.talking),
            (0, 0, 0, 0, 0, 0),
            "{step}"
        );
        assert_eq!((c.timers.leases, c.timers.agents, c.timers.plans, c.backlog), (0, 0, 0, 0), "{step}");
        assert_eq!(w.closed().len(), 1);
        if step >= 2 {
            assert_eq!(w.state("alice"), (State::Ready, String::new()), "{step}");
        }
        assert_eq!(c.totals.abandoned, u64::from((1..=3).contains(&step)), "{step}");
    }
}

#[test]
fn a_preferred_agent_is_asked_first_if_free() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.pass_ms(1_000);
    w.log_in("bob");
    let prefer = QueueRequest { preferred_agent: Some("bob".into()), ..QueueRequest::default() };
    let id = w.call();
    w.ask(id, 1, "support", prefer.clone()).expect("a place");
    assert_eq!(w.offer().2, "bob");
    let id = w.call();
    w.ask(id, 1, "support", prefer).expect("a place");
    assert_eq!(w.offer().2, "alice", "bob rings already");
}

#[test]
fn an_agent_of_two_queues_takes_the_earlier_head() {
    let m = model(
        vec![workgroup("support"), workgroup("sales")],
        vec![agent("alice", &["support", "sales"], &[])],
    );
    let mut w = World::new(m);
    let (sales, _) = w.queued("sales");
    w.pass_ms(1);
    w.queued("support");
    w.log_in("alice");
    assert_eq!(w.offer().0, sales);
}

#[test]
fn many_agents_and_many_callers_cost_a_bounded_step() {
    let agents: Vec<_> = (0..300).map(|i| agent(&format!("a{i}"), &["support"], &[])).collect();
    let mut w = World::new(model(vec![workgroup("support")], agents));
    for _ in 0..1_000 {
        w.queued("support");
    }
    for i in 0..300 {
        w.log_in(&format!("a{i}"));
    }
    assert_eq!(w.offers().len(), 300);
    let c = w.domain.counts();
    assert_eq!((c.waiting, c.offered, c.agents_ready, c.backlog.min(1)), (700, 300, 0, c.backlog.min(1)));
}

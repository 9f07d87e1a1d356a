//! Policies: asked, checked, replaced by the default, exchanged.

use cordboard_call::Name;
use cordboard_call::domain::{BATCH, Input, Output};
use cordboard_call::facts::Fact;
use cordboard_call::messages::*;
use cordboard_call::model::Model;
use cordboard_call::policy::{Candidates, Entry, Fault, Placement, PlanAction, PlanStep, Policies};

use crate::harness::*;

type Place = Box<dyn FnMut(&Entry) -> Result<Placement, Fault>>;
type Rank = Box<dyn FnMut(&Entry, &Candidates) -> Result<Vec<u32>, Fault>>;

struct Fake {
    place: Place,
    rank: Rank,
}

impl Policies for Fake {
    fn place(&mut self, _: &Name, _: &Name, _: &Name, entry: &Entry) -> Result<Placement, Fault> {
        (self.place)(entry)
    }

    fn rank(&mut self, _: &Name, _: &Name, _: &Name, e: &Entry, c: &Candidates) -> Result<Vec<u32>, Fault> {
        (self.rank)(e, c)
    }
}

fn fifo(entry: &Entry) -> Result<Placement, Fault> {
    Ok(Placement { key_ms: entry.arrived_ms, plan: Vec::new() })
}

fn in_order(_: &Entry, c: &Candidates) -> Result<Vec<u32>, Fault> {
    Ok((0..c.agents.len() as u32).collect())
}

fn with_policy() -> Model {
    let mut m = model(
        vec![workgroup("support"), workgroup("sales")],
        vec![
            agent("alice", &["support"], &[("en", 5)]),
            agent("bob", &["support"], &[("en", 9), ("fr", 2)]),
            agent("carol", &["sales"], &[]),
        ],
    );
    m.tenants[0].workgroups[0].policy = Some("p".into());
    m
}

fn world(place: Place, rank: Rank) -> World {
    let mut w = World::new(with_policy());
    w.policies = Box::new(Fake { place, rank });
    w
}

fn faults(w: &World) -> usize {
    w.last.iter().filter(|o| matches!(o, Output::PolicyFault { .. })).count()
}

#[test]
fn the_policy_s_order_holds() {
    let mut w = world(
        Box::new(fifo),
        Box::new(|e, c| {
            assert_eq!(e.skills, [0]);
            assert_eq!((c.skill_level.clone(), c.skill_count.clone()), (vec![5, 9], vec![1, 2]));
            assert_eq!(c.agents, [0, 1]);
            Ok(vec![1, 0])
        }),
    );
    w.log_in("alice");
    w.log_in("bob");
    let id = w.call();
    let request = QueueRequest { skills: vec!["en".into()], ..QueueRequest::default() };
    w.ask(id, 1, "support", request).expect("a place");
    assert_eq!(w.offer().2, "bob");
}

#[test]
fn nonsense_and_faults_give_the_default_and_are_reported() {
    for bad in 0..4 {
        let mut w = world(
            Box::new(fifo),
            Box::new(move |_, c| match bad {
                0 => Ok(vec![c.agents.len() as u32]),
                1 => Ok(vec![0, 0]),
                2 => Err(Fault::Trap("unreachable".into())),
                _ => Err(Fault::Timeout),
            }),
        );
        w.log_in("alice");
        w.pass_ms(1);
        w.log_in("bob");
        w.queued("support");
        assert_eq!(faults(&w), 1, "{bad}");
        assert_eq!(w.offer().2, "alice", "longest idle");
        assert_eq!(w.domain.counts().totals.policy_faults, 1);
    }
    let mut w = world(
        Box::new(|e| {
            Ok(Placement {
                key_ms: i64::MIN,
                plan: vec![PlanStep { after_ms: e.arrived_ms as u64, action: PlanAction::Overflow(9) }],
            })
        }),
        Box::new(in_order),
    );
    w.queued("support");
    assert_eq!(faults(&w), 1);
    assert_eq!(w.queue("support").waiting, 1);
}

#[test]
fn nobody_yet_is_asked_again_after_a_while_and_when_an_agent_comes() {
    let mut w = world(
        Box::new(fifo),
        Box::new(|e, c| {
            let enough = c.agents.len() == 2 || e.now_ms - e.arrived_ms >= 3_000;
            Ok(if enough { vec![0] } else { vec![] })
        }),
    );
    w.log_in("alice");
    let (first, _) = w.queued("support");
    assert!(w.offers().is_empty());
    w.log_in("bob");
    assert_eq!(w.offer().0, first);
    let (second, _) = w.queued("support");
    assert!(w.offers().is_empty());
    w.pass_ms(3_500);
    assert_eq!(w.offer().0, second);
    w.pass_ms(2_000);
    assert_eq!(w.domain.counts().timers.deferred, 0);
}

#[test]
fn a_plan_drops_skills_raises_and_overflows_in_its_time() {
    let plan = |e: &Entry| {
        let step = |after_ms, action| PlanStep { after_ms, action };
        Ok(Placement {
            key_ms: e.arrived_ms,
            plan: vec![
                step(1_000, PlanAction::DropSkills(vec![1])),
                step(2_000, PlanAction::RaiseMs(60_000)),
                step(3_000, PlanAction::Overflow(1)),
            ],
        })
    };
    let mut w = world(Box::new(plan), Box::new(in_order));
    let id = w.call();
    let request = QueueRequest { skills: vec!["fr".into()], ..QueueRequest::default() };
    let ticket = w.ask(id, 1, "support", request).expect("a place").ticket;
    w.log_in("alice");
    assert!(w.offers().is_empty(), "alice has no French");
    w.pass_ms(1_000);
    let at = w.offer();
    assert_eq!(at.2, "alice", "no longer required");
    w.settle(&at, OfferResult::Unreachable { status: 404 });
    w.pass_ms(1_000);
    assert!(w.facts.iter().any(|f| matches!(f, Fact::Placed { ticket: t, .. } if *t == ticket)));
    w.log_in("carol");
    assert!(w.offers().is_empty());
    w.pass_ms(1_000);
    assert_eq!(w.offer().2, "carol", "of the other workgroup");
    assert_eq!(w.domain.counts().timers.plans, 0);
}

#[test]
fn a_policy_change_places_anew_in_batches_and_old_plans_fall() {
    let plan = |e: &Entry| {
        let raise = PlanStep { after_ms: 5_000, action: PlanAction::RaiseMs(1) };
        Ok(Placement { key_ms: e.arrived_ms, plan: vec![raise] })
    };
    let mut w = world(Box::new(plan), Box::new(in_order));
    let mut tickets = Vec::new();
    for _ in 0..BATCH + 10 {
        tickets.push(w.queued("support").1);
        w.pass_ms(1);
    }
    assert_eq!(w.domain.counts().timers.plans, BATCH + 10);
    // The new policy: last in, first out, without a plan.
    w.policies = Box::new(Fake {
        place: Box::new(|e| Ok(Placement { key_ms: 2 * START.wall_ms - e.arrived_ms, plan: Vec::new() })),
        rank: Box::new(in_order),
    });
    w.input(Input::PolicyChanged { plugin: "p".into() });
    let placed = |w: &World| w.facts.iter().filter(|f| matches!(f, Fact::Placed { .. })).count();
    assert!(placed(&w) <= BATCH, "a bounded step");
    w.pass_ms(0);
    assert_eq!(w.domain.counts().timers.plans, 0, "old timers have fallen");
    tickets.reverse();
    let order: Vec<_> = w.queue("support").entries.iter().map(|e| e.ticket).collect();
    assert_eq!(order, tickets);
    w.pass_ms(10_000);
    assert_eq!(order, w.queue("support").entries.iter().map(|e| e.ticket).collect::<Vec<_>>());
}

#[test]
fn a_reload_keeps_places_and_agents_and_ends_what_is_gone() {
    let mut w = world(Box::new(fifo), Box::new(in_order));
    let (_, kept) = w.queued("support");
    let (_, gone) = w.queued("sales");
    w.log_in("carol");
    let at = w.offer();
    assert_eq!(at.2, "carol");
    w.settle(&at, OfferResult::NoAnswer);
    let mut m = with_policy();
    m.tenants[0].workgroups.remove(1);
    m.tenants[0].skills.reverse();
    m.tenants[0].agents.truncate(2);
    w.input(Input::Configure(std::sync::Arc::new(m)));
    assert_eq!(w.told(gone), Some((TicketState::Ended, 0)));
    w.pass_ms(20_000);
    w.log_in("bob");
    assert_eq!(w.offer().1, kept);
    assert_eq!(w.domain.counts().agents_ready, 0);
    let (tenant, agent) = ("acme".to_owned(), "carol".to_owned());
    let reply = w.command(cordboard_call::commands::Command::LogOut { tenant, agent });
    assert!(matches!(reply, cordboard_call::commands::Reply::Error { status: 404, .. }));
}

#[test]
fn a_policy_that_never_answers_anybody_does_not_keep_the_domain_busy() {
    let mut m = with_policy();
    m.tenants[0].agents = (0..100).map(|i| agent(&format!("a{i}"), &["support"], &[])).collect();
    let mut w = World::new(m);
    w.policies = Box::new(Fake { place: Box::new(fifo), rank: Box::new(|_, _| Ok(Vec::new())) });
    for _ in 0..200 {
        w.queued("support");
    }
    for i in 0..100 {
        w.log_in(&format!("a{i}"));
    }
    // Everybody at once, as after a reload.
    let model = std::sync::Arc::clone(&w.model);
    w.input(Input::Configure(model));
    let steps = (0..1_000).take_while(|_| {
        w.input(Input::Tick);
        w.domain.counts().backlog > 0
    });
    assert!(steps.count() < 100);
    assert!(w.offers().is_empty());
}

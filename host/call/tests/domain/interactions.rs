//! The life of an interaction: created once, closed once, lost with its node.

use cordboard_call::commands::{Command, Reply};
use cordboard_call::domain::{Input, Output};
use cordboard_call::facts::Fact;
use cordboard_call::messages::*;
use cordboard_call::model::Qualify;
use cordboard_call::timeline::Step;

use crate::harness::*;

#[test]
fn a_call_is_created_once_however_often_the_message_comes() {
    let mut w = World::new(small());
    let id = cordboard_base::Id(77);
    let mut envelope = w.envelope(Some(id), ToDomain::CallNew(call_new("+49")));
    envelope.lines = vec![line(Step::InviteToRedirect), line(Step::Redirected), line(Step::NewCall)];
    for _ in 0..3 {
        w.input(Input::Bus(envelope.clone()));
    }
    // The same call in a new envelope, and again after it has ended.
    w.say(id, ToDomain::CallNew(call_new("+49")));
    assert_eq!(w.facts.iter().filter(|f| matches!(f, Fact::Opened { .. })).count(), 1);
    assert_eq!(w.kinds(), ["call.new", "interaction.created"]);
    assert_eq!(w.steps(id), [3, 4, 5, 6, 7]);
    w.end(id);
    w.end(id);
    w.say(id, ToDomain::CallNew(call_new("+49")));
    assert_eq!(w.closed().len(), 1);
    assert_eq!(w.domain.counts().interactions, 0);
}

#[test]
fn lines_carry_the_number_of_the_message_that_brought_them() {
    let mut w = World::new(small());
    let id = w.call();
    let mut envelope = w.envelope(Some(id), ToDomain::Note);
    envelope.lines = vec![line(Step::ScriptStarted)];
    let seq = envelope.seq;
    w.input(Input::Bus(envelope));
    let lines = &w.lines[&id];
    assert_eq!(
        lines.iter().map(|l| (l.step.number(), l.bus_seq)).collect::<Vec<_>>(),
        [(6, Some(1)), (7, Some(1)), (8, Some(seq))]
    );
}

#[test]
fn envelopes_out_of_order_are_each_heard_once() {
    let mut w = World::new(small());
    let id = w.call();
    let notes: Vec<_> = (0..5)
        .map(|_| {
            let mut e = w.envelope(Some(id), ToDomain::Note);
            e.lines = vec![line(Step::After)];
            e
        })
        .collect();
    for i in [4, 0, 2, 2, 1, 3, 4, 0] {
        w.input(Input::Bus(notes[i].clone()));
    }
    assert_eq!(w.lines[&id].iter().filter(|l| l.step == Step::After).count(), 5);
    assert_eq!(w.domain.counts().totals.repeated, 3);
}

#[test]
fn a_fact_stands_before_what_tells_about_it() {
    let mut w = World::new(small());
    w.log_in("alice");
    let id = w.call();
    let position =
        |w: &World, what: &dyn Fn(&Output) -> bool| w.last.iter().position(what).expect("is there");
    let opened = position(&w, &|o| matches!(o, Output::Fact(Fact::Opened { .. })));
    let told = position(&w, &|o| matches!(o, Output::Event(e) if e.kind == "call.new"));
    assert!(opened < told);
    w.ask(id, 1, "support", QueueRequest::default()).expect("a place");
    let queued = position(&w, &|o| matches!(o, Output::Fact(Fact::Queued { .. })));
    let answer =
        position(&w, &|o| matches!(o, Output::Bus(_, e) if matches!(e.body, ToShard::Enqueued { .. })));
    let reserved = position(&w, &|o| matches!(o, Output::Fact(Fact::Offered { .. })));
    let pop = position(&w, &|o| matches!(o, Output::Event(e) if e.kind == "agent.offered"));
    let offer = position(&w, &|o| matches!(o, Output::Bus(_, e) if matches!(e.body, ToShard::Offer(_))));
    assert!(queued < answer && answer < reserved && reserved < pop && pop < offer);
    w.end(id);
    let closed = position(&w, &|o| matches!(o, Output::Fact(Fact::Closed(_))));
    let told = position(&w, &|o| matches!(o, Output::Event(e) if e.kind == "call.ended"));
    assert!(closed < told);
}

#[test]
fn the_timeline_of_a_whole_call_has_the_domain_s_steps_in_order() {
    let mut w = World::new(small());
    w.log_in("alice");
    let (id, _) = w.queued("support");
    assert_eq!(w.steps(id), [6, 7, 10, 11, 12, 14, 15]);
    let at = w.offer();
    let offer_seq = w.lines[&id].iter().find(|l| l.step == Step::AgentReserved).and_then(|l| l.bus_seq);
    let sent = w.last.iter().find_map(|o| match o {
        Output::Bus(_, e) if matches!(e.body, ToShard::Offer(_)) => Some(e.seq),
        _ => None,
    });
    assert_eq!(offer_seq, sent, "the evidence is the number of the offer's message");
    assert!(
        w.lines[&id].iter().filter(|l| matches!(l.step.number(), 14 | 15)).all(|l| l.token == Some(at.3))
    );
    w.settle(&at, OfferResult::Accepted);
    w.pass_ms(20_000);
    w.talk_ended(&at, TalkEnd::AgentLeft, 20_000);
    w.end(id);
    let record = w.closed().remove(0);
    assert_eq!(record.agent, "alice");
    assert_eq!((record.workgroup.as_str(), record.talked_ms), ("support", 20_000));
    assert_eq!(record.offers.len(), 1);
    assert_eq!(record.offers[0].result, Some(OfferResult::Accepted));
    assert_eq!((record.offers[0].rang_ms, record.offers[0].talked_ms), (100, 20_000));
    assert_eq!(
        w.kinds(),
        [
            "agent.state",
            "call.new",
            "interaction.created",
            "queue.entered",
            "agent.state",
            "agent.offered",
            "call.bridged",
            "agent.state",
            "queue.left",
            "offer.ended",
            "agent.state",
            "call.ended"
        ]
    );
    let numbers: Vec<u64> = w.events.iter().map(|e| e.sequence).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn attributes_are_set_told_and_kept_in_the_record() {
    let mut w = World::new(small());
    let id = w.call();
    w.say(
        id,
        ToDomain::Attributes {
            set: vec![("survey.score".into(), "5".into()), ("account".into(), "".into())],
        },
    );
    assert_eq!(w.events.last().map(|e| e.kind.as_str()), Some("attributes.changed"));
    let told = w.events.len();
    w.say(id, ToDomain::Attributes { set: vec![("survey.score".into(), "5".into())] });
    assert_eq!(w.events.len(), told, "nothing has changed");
    w.end(id);
    assert_eq!(w.closed()[0].attributes, [("survey.score".to_owned(), "5".to_owned())]);
}

#[test]
fn a_call_of_an_unknown_tenant_or_over_the_limit_is_refused() {
    let mut m = small();
    m.limits.max_interactions = 1;
    let mut w = World::new(m);
    w.say(cordboard_base::Id(1), ToDomain::CallNew(CallNew { tenant: "zed".into(), ..call_new("+49") }));
    assert!(matches!(w.sent.pop().map(|e| e.body), Some(ToShard::Refuse { status: 404, .. })));
    w.call();
    w.call();
    assert!(matches!(w.sent.pop().map(|e| e.body), Some(ToShard::Refuse { status: 503, .. })));
    assert_eq!(w.domain.counts().interactions, 1);
}

#[test]
fn a_shard_that_starts_anew_loses_its_calls_and_frees_the_agents() {
    let mut w = World::new(small());
    w.log_in("alice");
    w.log_in("bob");
    let (talking, _) = w.queued("support");
    let at = w.offer();
    w.settle(&at, OfferResult::Accepted);
    let (ringing, _) = w.queued("support");
    let (waiting, ticket) = w.queued("support");
    assert_eq!(w.domain.counts().waiting, 1);
    w.shard_epoch += 1;
    w.seq = 0;
    let up = w.envelope(None, ToDomain::ShardUp);
    w.input(Input::Bus(up));
    let closed = w.closed();
    let mut lost: Vec<_> = closed.iter().map(|r| r.interaction).collect();
    lost.sort_unstable();
    let mut all = vec![talking, ringing, waiting];
    all.sort_unstable();
    assert_eq!(lost, all);
    assert!(closed.iter().all(|r| r.end.text == "node-lost" && r.end.by == "host"));
    let c = w.domain.counts();
    assert_eq!((c.interactions, c.ringing, c.talking, c.timers.leases), (0, 0, 0, 0));
    let left: Vec<_> =
        w.events.iter().filter(|e| e.kind == "queue.left").filter_map(|e| e.interaction).collect();
    assert_eq!(left, [talking, ringing, waiting], "the first left for the agent, the others now");
    // All three have one number, so one place is remembered: the earliest.
    assert_eq!(c.ghosts, 1);
    assert!(
        !w.facts.iter().any(|f| matches!(f, Fact::Ghost { ticket: t, .. } if *t == ticket)) || c.ghosts == 1
    );
    assert_eq!(w.state("bob").0, cordboard_call::commands::AgentStateName::Ready);
    // A late message of the former life changes nothing.
    w.input(Input::Bus(Envelope {
        from: 0,
        epoch: w.shard_epoch - 1,
        seq: 999,
        interaction: Some(cordboard_base::Id(5)),
        lines: Vec::new(),
        body: ToDomain::CallNew(call_new("+49")),
    }));
    assert_eq!(w.domain.counts().interactions, 0);
}

#[test]
fn rules_qualify_a_call_and_the_timeline_says_which() {
    let mut m = small();
    m.tenants[0].qualify = vec![
        Qualify { caller: "+33".into(), refuse: Some("closed to them".into()), ..Qualify::default() },
        Qualify { add_priority: 10, ..Qualify::default() },
    ];
    let mut w = World::new(m);
    let blocked = w.call_from("+33");
    let refusal = w.ask(blocked, 1, "support", QueueRequest::default()).expect_err("refused");
    assert_eq!(refusal.reason, "qualified");
    assert_eq!(w.steps(blocked), [6, 7, 11]);
    let (id, _) = w.queued("support");
    let line = w.lines[&id].iter().find(|l| l.step == Step::Qualified).expect("line 11");
    assert_eq!(line.detail, "ACD by rule 2, priority 10");
}

#[test]
fn a_third_party_controls_a_live_call_and_is_told_of_a_dead_one() {
    let mut w = World::new(small());
    let id = w.call();
    let hold = Command::Control { interaction: id, command: CallCommand::Hold };
    assert_eq!(w.command(hold.clone()), Reply::Done);
    assert!(matches!(w.sent.last().map(|e| &e.body), Some(ToShard::Command(CallCommand::Hold))));
    assert!(matches!(w.command(Command::Call { interaction: id }), Reply::Call(_)));
    w.end(id);
    assert!(matches!(w.command(hold), Reply::Error { status: 404, .. }));
}

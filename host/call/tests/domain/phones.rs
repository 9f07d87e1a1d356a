//! Registered phones: who can be rung, where, and until when.

use cordboard_call::commands::AgentStateName;
use cordboard_call::domain::{Input, Output};
use cordboard_call::messages::*;
use cordboard_call::model::{Model, Phone};

use crate::harness::*;

fn registered() -> Model {
    let mut m = small();
    m.tenants[0].agents[0].phone = Phone::Registered { user: "alice".into(), password: "secret".into() };
    m
}

fn contact(uri: &str, expires_s: u32) -> Contact {
    Contact { uri: uri.to_owned(), expires_s, q: 1_000, instance: None, reg_id: 0 }
}

fn register(w: &mut World, cseq: u32, contacts: &[(&str, u32)]) -> (u16, Vec<(String, u32)>) {
    let register = Register {
        request: u64::from(cseq),
        tenant: "acme".into(),
        user: "alice".into(),
        call_id: "reg".into(),
        cseq,
        remove_all: false,
        contacts: contacts.iter().map(|(uri, s)| contact(uri, *s)).collect(),
        flow: Flow::udp(3, "127.0.0.1:5099".parse().expect("an address")),
    };
    let envelope = w.envelope(None, ToDomain::Register(register));
    w.input(Input::Bus(envelope));
    let answer = w.last.iter().find_map(|o| match o {
        Output::Bus(_, e) => match &e.body {
            ToShard::Registered { status, contacts, .. } => {
                Some((*status, contacts.iter().map(|c| (c.uri.clone(), c.expires_s)).collect()))
            }
            _ => None,
        },
        _ => None,
    });
    answer.expect("every REGISTER is answered")
}

#[test]
fn an_agent_without_a_phone_is_not_asked_until_it_registers() {
    let mut w = World::new(registered());
    w.log_in("alice");
    assert!(!w.agent("alice").reachable);
    w.queued("support");
    assert!(w.offers().is_empty());
    assert_eq!(
        register(&mut w, 1, &[("sip:alice@127.0.0.1:5099", 60)]),
        (200, vec![("sip:alice@127.0.0.1:5099".into(), 60)])
    );
    let offer = w.offers().remove(0).1;
    assert_eq!(offer.agents[0].uri, "sip:alice@127.0.0.1:5099");
    assert_eq!(offer.agents[0].flow.map(|f| f.listener), Some(3));
}

#[test]
fn an_expired_registration_is_a_phone_that_is_not_there() {
    let mut w = World::new(registered());
    w.log_in("alice");
    register(&mut w, 1, &[("sip:alice@h", 60)]);
    w.pass_ms(30_000);
    register(&mut w, 2, &[("sip:alice@h", 60)]);
    w.pass_ms(59_999);
    assert_eq!(w.domain.counts().agents_ready, 1);
    w.pass_ms(1);
    assert_eq!(w.domain.counts().agents_ready, 0);
    assert_eq!(w.domain.counts().timers.bindings, 0);
    w.queued("support");
    assert!(w.offers().is_empty());
}

#[test]
fn a_deregistration_takes_effect_at_once_and_strangers_are_refused() {
    let mut w = World::new(registered());
    w.log_in("alice");
    register(&mut w, 1, &[("sip:alice@h", 60)]);
    assert_eq!(register(&mut w, 2, &[("sip:alice@h", 0)]), (200, Vec::new()));
    assert_eq!(w.domain.counts().agents_ready, 0);
    let stranger = Register {
        request: 9,
        tenant: "acme".into(),
        user: "mallory".into(),
        call_id: "x".into(),
        cseq: 1,
        remove_all: false,
        contacts: Vec::new(),
        flow: Flow::udp(3, "127.0.0.1:5099".parse().expect("an address")),
    };
    let envelope = w.envelope(None, ToDomain::Register(stranger));
    w.input(Input::Bus(envelope));
    assert!(matches!(w.sent.last().map(|e| &e.body), Some(ToShard::Registered { status: 404, .. })));
}

#[test]
fn a_phone_is_found_by_its_agent_its_user_and_its_contact() {
    let mut m = registered();
    m.tenants[0].agents[0].name = "al".into();
    let mut w = World::new(m);
    let id = w.call();
    let locate = |w: &mut World, user: Option<&str>, uri: &str| {
        w.say(id, ToDomain::Locate { request: 9, user: user.map(str::to_owned), uri: uri.to_owned() });
        match w.sent.last().map(|e| &e.body) {
            Some(ToShard::Located { request: 9, phone }) => phone.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(locate(&mut w, Some("al"), "sip:al@acme"), None, "it has not registered");
    register(&mut w, 1, &[("sip:alice@127.0.0.1:5099;ob", 60)]);
    let flow = Flow::udp(3, "127.0.0.1:5099".parse().expect("an address"));
    let there = Some(("sip:alice@127.0.0.1:5099;ob".to_owned(), Some(flow)));
    assert_eq!(locate(&mut w, Some("al"), "sip:al@acme"), there, "the agent");
    assert_eq!(locate(&mut w, Some("alice"), "sip:alice@acme"), there, "the user");
    assert_eq!(locate(&mut w, None, "sip:alice@127.0.0.1:5099;ob"), there, "the contact");
    let bob = Some(("sip:bob@127.0.0.1:5070".to_owned(), None));
    assert_eq!(locate(&mut w, Some("bob"), "sip:bob@acme"), bob, "a phone that does not register");
    assert_eq!(locate(&mut w, None, "sip:alice@127.0.0.1:5098"), None);
    assert_eq!(locate(&mut w, Some("mallory"), "sip:mallory@acme"), None);
    w.pass_ms(60_000);
    assert_eq!(locate(&mut w, None, "sip:alice@127.0.0.1:5099;ob"), None, "it has expired");
}

#[test]
fn a_connection_that_closes_takes_its_phones_along() {
    let mut w = World::new(registered());
    w.log_in("alice");
    let flow = Flow { connection: Some(7), ..Flow::udp(3, "127.0.0.1:5099".parse().expect("an address")) };
    let register = Register {
        request: 1,
        tenant: "acme".into(),
        user: "alice".into(),
        call_id: "reg".into(),
        cseq: 1,
        remove_all: false,
        contacts: vec![contact("sip:alice@one.invalid", 60)],
        flow,
    };
    let envelope = w.envelope(None, ToDomain::Register(register));
    w.input(Input::Bus(envelope));
    assert!(w.agent("alice").reachable);
    // As the shard says it: about no call.
    let envelope = w.envelope(None, ToDomain::FlowClosed(flow));
    w.input(Input::Bus(envelope));
    assert!(!w.agent("alice").reachable);
}

#[test]
fn a_shard_that_watches_an_agent_hears_of_each_change() {
    let mut w = World::new(registered());
    let watch = |w: &mut World, agent: &str, on| {
        let (tenant, agent) = ("acme".into(), agent.into());
        let envelope = w.envelope(None, ToDomain::Watch { tenant, agent, on });
        w.input(Input::Bus(envelope));
    };
    let heard = |w: &mut World| -> Vec<Option<AgentStateName>> {
        let of = |e: Envelope<ToShard>| match e.body {
            ToShard::AgentState { state, .. } => Some(state),
            _ => None,
        };
        std::mem::take(&mut w.sent).into_iter().filter_map(of).collect()
    };
    watch(&mut w, "alice", true);
    assert_eq!(heard(&mut w), [Some(AgentStateName::LoggedOut)], "at once");
    w.log_in("alice");
    w.log_in("bob");
    assert_eq!(heard(&mut w), [Some(AgentStateName::Ready)], "and of nobody else");
    w.set_ready("alice", false, "lunch");
    assert_eq!(heard(&mut w), [Some(AgentStateName::NotReady)]);
    watch(&mut w, "nobody", true);
    assert_eq!(heard(&mut w), [None]);
    watch(&mut w, "alice", false);
    w.set_ready("alice", true, "");
    assert_eq!(heard(&mut w), []);
}

//! Who calls and by which ways, from trunk to trunk: asserted identities and privacy (RFC 3325, RFC 3323).

use cordboard_call::messages::ToDomain;
use cordboard_call::model::{Model, Network, Trunk};
use cordboard_call::router::Route;
use cordboard_call::script::Verb;
use cordboard_call::trunk::passages::{HEADER, Key};
use cordboard_call::trunk::rules::HeaderRules;
use cordboard_call::trunk::terms::{Destination, Diversion, Identity, Outbound};
use cordboard_sip::wire::Name;

use crate::world::{SHARD, World, agent_at, at, model};

/// A trunk that leads to agent `n`'s phone.
pub fn trunk(name: &str, n: usize, terms: Outbound) -> Trunk {
    let destinations = vec![Destination { uri: format!("sip:{}", agent_at(n)), priority: 1, weight: 1 }];
    Trunk { name: name.into(), out: Some(Outbound { destinations, ..terms }), ..Trunk::default() }
}

/// A world with a router.
pub fn with(trunks: Vec<Trunk>) -> Model {
    let mut model = model();
    model.tenants[0].router = Some("router".into());
    model.trunks.extend(trunks);
    model
}

pub fn bridge(w: &mut World, address: &str) {
    w.route(Ok(Route::Bridge { address: address.into(), ring_timeout_ms: 20_000, attributes: vec![] }));
}

const FROM: &str = "\"Ann\" <sip:+331@10.0.1.1>";

#[test]
fn a_caller_who_asks_for_privacy_is_known_to_trusted_trunks_alone() {
    let asserted = Outbound { identity: Identity::Asserted, ..Outbound::default() };
    let mut model = with(vec![trunk("friend", 1, asserted), trunk("stranger", 2, Outbound::default())]);
    model.trunks[0].trusted = true;
    let mut w = World::with(model);
    let headers = [("P-Asserted-Identity", "\"Ann\" <sip:+332@x>, <tel:+332>"), ("Privacy", "id")];
    w.dial_with("+4930", true, FROM, &headers);
    assert_eq!((w.asked[0].2.caller.as_str(), w.asked[0].2.caller_name.as_str()), ("", ""));
    let told = w.told.iter().find_map(|(_, m)| if let ToDomain::CallNew(n) = m { Some(n) } else { None });
    assert_eq!(told.unwrap().caller, "", "nor do agents and records see it");
    bridge(&mut w, "trunk:friend,stranger");
    let (friend, anonymous) = (w.agents[0].invite(0), "sip:anonymous@anonymous.invalid");
    assert_eq!(friend.from().unwrap().uri, anonymous);
    assert!(friend.header(Name::PAssertedIdentity).unwrap().starts_with("\"Ann\" <sip:+332@"));
    assert_eq!(friend.header(Name::Privacy), Some("id"));
    w.refuse(1, 503);
    let stranger = w.agents[1].invite(0);
    assert_eq!(stranger.from().unwrap().uri, anonymous);
    let text = String::from_utf8_lossy(stranger.as_bytes()).into_owned();
    assert!(!text.contains("+33") && !text.contains("Ann\"") && !text.contains("Asserted"), "{text}");
    w.hang_up();
    w.over();
}

#[test]
fn what_an_untrusted_trunk_asserts_is_not_believed() {
    let asserted = Outbound { identity: Identity::Asserted, ..Outbound::default() };
    for (trusted, number) in [(false, "+331"), (true, "+332")] {
        let mut model = with(vec![trunk("friend", 1, asserted.clone())]);
        model.trunks[0].trusted = trusted;
        let mut w = World::with(model);
        w.dial_with("+4930", true, FROM, &[("P-Asserted-Identity", "<sip:+332@x>")]);
        assert_eq!(w.asked[0].2.caller, number);
        bridge(&mut w, "trunk:friend");
        let invite = w.agents[0].invite(0);
        assert!(invite.header(Name::PAssertedIdentity).unwrap().contains(&format!("sip:{number}@")));
        assert_eq!(invite.header(Name::Privacy), None);
        w.hang_up();
        w.over();
    }
}

#[test]
fn privacy_that_cannot_be_kept_fails_the_call_when_it_is_critical() {
    let mut w = World::new();
    w.dial_with("+4930", true, FROM, &[("Privacy", "x-invisible;critical")]);
    assert_eq!(w.caller.refused().unwrap().0, 500);
    assert!(w.lines.iter().any(|l| l.detail.contains("Privacy is critical")), "{:#?}", w.lines);
    w.over();
    let mut w = World::new();
    w.dial_with("+4930", true, FROM, &[("Privacy", "x-invisible")]);
    assert!(w.caller.refused().is_none());
    w.hang_up();
    w.over();
}

// ---- Numbers that a call has left ----

fn by(diversion: Diversion, max_diversions: u32) -> Outbound {
    Outbound { diversion, max_diversions, ..Outbound::default() }
}

const DIVERTED: (&str, &str) = ("Diversion", "<sip:+4931@pbx>;reason=no-answer;counter=2");

#[test]
fn the_number_that_was_dialled_first_is_an_attribute_of_the_interaction() {
    let mut w = World::with(with(vec![]));
    w.dial_with("+4930", true, FROM, &[DIVERTED]);
    let expected = [
        ("diversion.original", "+4931"),
        ("diversion.from", "+4931"),
        ("diversion.reason", "no-answer"),
        ("diversion.count", "2"),
    ]
    .map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(w.asked[0].2.attributes, expected, "for the router");
    let told = w.told.iter().find_map(|(_, m)| if let ToDomain::CallNew(n) = m { Some(n) } else { None });
    assert_eq!(told.unwrap().attributes, expected, "for the interaction");
    let set = vec![("diversion.reason".to_owned(), "lunch".to_owned())];
    w.route(Ok(Route::Script { script: "ivr".into(), attributes: set }));
    let script = &w.started[0].2.attributes;
    assert_eq!(script[0], expected[0], "for the script");
    assert!(script.contains(&("diversion.reason".to_owned(), "lunch".to_owned())) && script.len() == 4);
    w.hang_up();
    w.over();
}

#[test]
fn a_call_that_is_diverted_by_a_trunk_says_so_and_one_that_passes_through_does_not() {
    let model = with(vec![trunk("out", 1, by(Diversion::Both, 10))]);
    let mut w = World::with(model.clone());
    w.dial_with("+4930", true, FROM, &[DIVERTED]);
    bridge(&mut w, "trunk:out/+336");
    let invite = w.agents[0].invite(0);
    let said: Vec<&str> = invite.headers(Name::Diversion).collect();
    let ours = "<sip:+4930@10.0.0.1:5060>;reason=unconditional;counter=1";
    assert_eq!(said, [ours, "<sip:+4931@pbx>;reason=no-answer;counter=2"]);
    let last = invite.headers(Name::HistoryInfo).last().unwrap();
    assert_eq!(last, format!("<sip:+336@{};cause=302>;index=1.1.1.1;mp=1.1.1", agent_at(1)));
    w.hang_up();
    w.over();
    let mut w = World::with(model);
    w.dial_with("+4930", true, FROM, &[]);
    bridge(&mut w, "trunk:out");
    assert_eq!(w.agents[0].invite(0).header(Name::Diversion), None);
    w.hang_up();
    w.over();
}

#[test]
fn a_script_s_transfer_by_a_trunk_is_a_deflection() {
    let mut model = with(vec![trunk("out", 1, by(Diversion::Diversion, 10))]);
    model.tenants[0].router = None;
    let mut w = World::with(model);
    w.dial("+4930", true);
    w.verb(Verb::Transfer { address: "trunk:out/+336".into(), ring_timeout_ms: 5_000 });
    let said = w.agents[0].invite(0).header(Name::Diversion).map(str::to_owned);
    assert_eq!(said.as_deref(), Some("<sip:+4930@10.0.0.1:5060>;reason=deflection;counter=1"));
    w.hang_up();
    w.over();
}

#[test]
fn a_call_that_was_diverted_too_often_goes_no_further() {
    for (max, goes) in [(2, false), (3, true)] {
        let mut w = World::with(with(vec![trunk("out", 1, by(Diversion::None, max))]));
        w.dial_with("+4930", true, FROM, &[DIVERTED]);
        bridge(&mut w, "trunk:out/+336");
        assert_eq!(w.agents[0].invites(), usize::from(goes));
        if goes {
            w.hang_up();
        } else {
            assert_eq!(w.caller.refused().unwrap().0, 482);
            assert!(w.lines.iter().any(|l| l.detail.contains("diverted 2 times")), "{:#?}", w.lines);
        }
        w.over();
        assert_eq!(w.shard.trunks(w.now)[1].calls_out, 0);
    }
}

// ---- Calls that come back ----

/// A trunk by which calls leave to ourselves and come in from ourselves.
fn ourselves(headers: HeaderRules) -> Model {
    let mut own = trunk("ourselves", 1, Outbound { headers, ..Outbound::default() });
    own.sources = vec![Network { address: at(SHARD).ip(), prefix: 32, port: None }];
    own.out.as_mut().unwrap().destinations[0].uri = format!("sip:{SHARD}");
    with(vec![own])
}

fn calls(w: &World) -> usize {
    w.told.iter().filter(|(_, m)| matches!(m, ToDomain::CallNew(_))).count()
}

#[test]
fn a_rule_that_dials_ourselves_is_a_loop_at_once() {
    let mut w = World::with(ourselves(HeaderRules::default()));
    w.dial_with("+4930", true, FROM, &[]);
    bridge(&mut w, "trunk:ourselves");
    assert_eq!(calls(&w), 2, "the call, and its return");
    assert_eq!(w.asked.len(), 1, "the second time nobody is asked");
    assert_eq!(w.caller.refused().unwrap().0, 482);
    let text = "a loop: we have sent this call to +4930 ourselves";
    assert!(w.lines.iter().any(|l| l.detail.contains(text)), "{:#?}", w.lines);
    assert_eq!(w.ended().iter().map(|e| (e.status, e.cause)).collect::<Vec<_>>(), [(482, 25), (482, 25)]);
    w.pass(70_000);
    assert!(w.shard.counts().idle(), "{:#?}", w.shard.counts());
}

#[test]
fn a_spiral_over_other_numbers_ends_when_it_comes_round() {
    let mut w = World::with(ourselves(HeaderRules::default()));
    w.dial_with("+4930", true, FROM, &[]);
    for number in ["+4931", "+4932", "+4930"] {
        bridge(&mut w, &format!("trunk:ourselves/{number}"));
    }
    assert_eq!((calls(&w), w.asked.len()), (4, 3));
    assert_eq!(w.caller.refused().unwrap().0, 482);
    assert!(
        w.lines.iter().any(|l| l.detail.contains("was here for +4930, 3 passages ago")),
        "{:#?}",
        w.lines
    );
    w.pass(70_000);
    assert!(w.shard.counts().idle());
}

#[test]
fn where_the_way_back_loses_the_header_hops_end_the_loop() {
    let headers = HeaderRules { remove: vec!["X-Cordboard-Passages".into()], ..HeaderRules::default() };
    let mut w = World::with(ourselves(headers));
    w.dial_with("+4930", true, FROM, &[("Max-Forwards", "3")]);
    while w.caller.refused().is_none() {
        bridge(&mut w, "trunk:ourselves");
        assert!(calls(&w) < 10);
    }
    assert_eq!((calls(&w), w.caller.refused().unwrap().0), (3, 483));
    w.pass(70_000);
    assert!(w.shard.counts().idle());
}

#[test]
fn a_loop_over_another_node_or_a_restart_is_found_where_the_secret_is_the_same() {
    let [shared, other] = [1, 2].map(|n| Key::new(&std::array::from_fn(|i| if i == 0 { n } else { 0 })));
    for (first, second, found) in [
        (Some(&shared), Some(&shared), true),
        (Some(&shared), Some(&other), false),
        (Some(&shared), None, false),
        (None, None, false),
    ] {
        // Two lives of one node, or two nodes: what they make up themselves differs.
        let node = |seed, key: Option<&Key>| {
            let model = with(vec![trunk("out", 1, Outbound::default())]);
            World::tuned(model, seed, |config| config.passages = key.cloned())
        };
        let mut one = node(1, first);
        one.dial_with("+4930", true, FROM, &[]);
        bridge(&mut one, "trunk:out");
        let passages = one.agents[0].invite(0).other(HEADER).expect("the header").to_owned();
        let mut two = node(2, second);
        two.dial_with("+4930", true, FROM, &[(HEADER, &passages)]);
        assert_eq!(two.caller.refused().is_some_and(|(status, _)| status == 482), found);
        assert_eq!(two.asked.is_empty(), found);
    }
}

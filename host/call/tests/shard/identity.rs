//! Who calls and by which ways, from trunk to trunk: asserted identities and privacy (RFC 3325, RFC 3323).

use cordboard_call::messages::ToDomain;
use cordboard_call::model::{Model, Trunk};
use cordboard_call::router::Route;
use cordboard_call::trunk::terms::{Destination, Identity, Outbound};
use cordboard_sip::wire::Name;

use crate::world::{World, agent_at, model};

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

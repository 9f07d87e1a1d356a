//! An agent's pjsua2 phone hands its caller on, blind and after having asked.

use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::s;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::Setup;
use serde_json::json;

use crate::flow::{answers, caller, talk};

/// What the colleague's phone sends, and what the caller's does (see `flow`).
const BOB_HZ: u32 = 1_300;
const CALLER_HZ: u32 = 1_000;
const ALICE_HZ: u32 = 700;

/// A colleague's phone that is not registered, and its address.
fn colleague() -> (Phone, String) {
    let mut bob = Phone::start("bob");
    bob.order(&json!({ "do": "account", "name": "bob", "id": "sip:bob@127.0.0.1",
        "answer": { "status": 200, "tone": BOB_HZ, "listen": [CALLER_HZ] } }));
    bob.order(&json!({ "do": "where" }));
    let address = bob.hears("where", s(2), |_| true)["address"].as_str().expect("an address").to_owned();
    (bob, address)
}

/// The caller and Bob hear each other, and the hang-up of either reaches the other.
fn ends_well(centre: &Centre, phone: &mut Phone, bob: &mut Phone, bobs: &str, caller_hangs_up: bool) {
    phone.listen_anew("c");
    bob.listen_anew(bobs);
    phone.hears_tone("c", BOB_HZ);
    bob.hears_tone(bobs, CALLER_HZ);
    if caller_hangs_up {
        phone.hang_up("c");
    } else {
        bob.hang_up(bobs);
    }
    phone.ended("c");
    assert_eq!(bob.ended(bobs)["status"], 200);
    let record = centre.record();
    assert_eq!(record["agent"], "alice", "{record}");
}

#[test]
fn a_blind_transfer_by_an_agent_s_phone_joins_the_caller_with_the_target() {
    for caller_hangs_up in [true, false] {
        let scene = Scene::new(&format!("blind-transfer-{caller_hangs_up}"));
        let mut setup = Setup::default();
        setup.agent("alice");
        let centre = Centre::start(&scene, &setup);
        let mut alice = Phone::agent(&centre, "alice", answers());
        let (mut bob, address) = colleague();
        centre.agent("alice", "login");
        let mut phone = Phone::caller("4930111");
        phone.call(&centre, "c", "100", CALLER_HZ, &[ALICE_HZ, BOB_HZ]);
        talk(&mut phone, "c", &mut alice, "alice-1");
        alice.order(&json!({ "do": "transfer", "call": "alice-1", "to": format!("sip:bob@{address}") }));
        alice.hears("transfer", s(10), |e| e["status"] == 200 && e["final"] == true);
        alice.ended("alice-1");
        ends_well(&centre, &mut phone, &mut bob, "bob-1", caller_hangs_up);
        centre.finish();
    }
}

#[test]
fn a_blind_transfer_reaches_a_colleague_whose_phone_has_registered() {
    let scene = Scene::new("blind-transfer-registered");
    let mut setup = Setup::default();
    setup.agent("alice").agent("bob");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    let answer = json!({ "status": 200, "tone": BOB_HZ, "listen": [CALLER_HZ] });
    let mut bob = Phone::agent(&centre, "bob", answer);
    centre.agent("alice", "login");
    let mut phone = Phone::caller("4930111");
    phone.call(&centre, "c", "100", CALLER_HZ, &[ALICE_HZ, BOB_HZ]);
    talk(&mut phone, "c", &mut alice, "alice-1");
    let to = format!("sip:bob@127.0.0.1:{}", centre.ports.centre);
    alice.order(&json!({ "do": "transfer", "call": "alice-1", "to": to }));
    alice.hears("transfer", s(10), |e| e["status"] == 200 && e["final"] == true);
    alice.ended("alice-1");
    ends_well(&centre, &mut phone, &mut bob, "bob-1", true);
    centre.finish();
}

#[test]
fn an_attended_transfer_puts_the_caller_where_the_agent_s_consultation_was() {
    let scene = Scene::new("attended-transfer");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    let (mut bob, address) = colleague();
    centre.agent("alice", "login");
    let mut phone = Phone::caller("4930111");
    phone.call(&centre, "c", "100", CALLER_HZ, &[ALICE_HZ, BOB_HZ]);
    talk(&mut phone, "c", &mut alice, "alice-1");
    alice.order(&json!({ "do": "hold", "call": "alice-1" }));
    alice.order(&json!({ "do": "call", "account": "alice", "call": "consultation",
        "uri": format!("sip:bob@{address}"), "tone": ALICE_HZ, "listen": [BOB_HZ] }));
    alice.confirmed("consultation");
    alice.hears_tone("consultation", BOB_HZ);
    alice.order(&json!({ "do": "transfer-to", "call": "alice-1", "other": "consultation" }));
    bob.hears("replaced", s(10), |e| e["call"] == "bob-1");
    bob.confirmed("bob-1-new");
    bob.ended("bob-1");
    alice.ended("alice-1");
    alice.ended("consultation");
    ends_well(&centre, &mut phone, &mut bob, "bob-1-new", true);
    centre.finish();
}

#[test]
fn a_transfer_that_is_refused_leaves_the_caller_with_the_agent() {
    let scene = Scene::new("refused-transfer");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    let (mut bob, address) = colleague();
    bob.order(&json!({ "do": "answering", "account": "bob", "answer": { "status": 486 } }));
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    alice.order(&json!({ "do": "transfer", "call": "alice-1", "to": format!("sip:bob@{address}") }));
    alice.hears("transfer", s(10), |e| e["status"] == 486 && e["final"] == true);
    phone.listen_anew("c");
    alice.listen_anew("alice-1");
    talk(&mut phone, "c", &mut alice, "alice-1");
    phone.hang_up("c");
    phone.ended("c");
    assert_eq!(alice.ended("alice-1")["status"], 200);
    centre.finish();
}

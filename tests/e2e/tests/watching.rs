//! A colleague's pjsua2 phone watches an agent: SUBSCRIBE and NOTIFY of presence between two stacks.

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::s;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::Setup;
use serde_json::json;

use crate::flow::{answers, caller, talk};

#[test]
fn a_phone_sees_how_its_colleague_is() {
    let scene = Scene::new("watching");
    let mut setup = Setup::default();
    setup.agent("alice").agent("bob");
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    let mut alice = Phone::agent(&centre, "alice", answers());
    let mut bob = Phone::agent(&centre, "bob", json!({}));
    let uri = format!("sip:alice@127.0.0.1:{}", centre.ports.centre);
    bob.order(&json!({ "do": "watch", "account": "bob", "uri": uri }));
    let mut sees = |online: bool, busy: bool, away: bool| {
        let what = format!("online {online}, busy {busy}, away {away}");
        let seen =
            bob.hears("presence", s(10), |e| e["online"] == online && e["busy"] == busy && e["away"] == away);
        println!("{what}: {seen}");
    };
    sees(false, false, false);
    centre.agent("alice", "login");
    sees(true, false, false);
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    sees(true, true, false);
    phone.hang_up("c");
    phone.ended("c");
    centre.agent("alice", "not-ready");
    sees(true, false, true);
    bob.order(&json!({ "do": "unwatch" }));
    bob.hears("subscription", s(10), |e| e["uri"] == uri);
    capture.nothing_malformed(1, 40);
    centre.finish();
}

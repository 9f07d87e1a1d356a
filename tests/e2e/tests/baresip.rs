//! baresip as an agent's phone.

use md5::{Digest, Md5};

use cordboard_e2e::baresip::Baresip;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::Setup;
use cordboard_e2e::{eventually, ms, s};

use crate::flow::caller;

/// Its digest knows MD5 alone, and gives up when SHA-256 is offered too: a password kept as MD5 offers nothing else.
pub(crate) fn md5_only(setup: &mut Setup, agent: &str) {
    let ha1 = Md5::digest(format!("{agent}:acme:secret-{agent}"))
        .iter()
        .fold(String::new(), |t, b| t + &format!("{b:02x}"));
    setup.edits.push((format!("secret-{agent}"), format!("md5:{ha1}")));
}

/// An agent's phone that registers at the centre's address `at`.
pub(crate) fn agent(scene: &Scene, centre: &Centre, name: &str, host: &str, at: &str, hz: u32) -> Baresip {
    let account = format!("<sip:{name}@{at}>;auth_user={name};auth_pass=secret-{name};regint=60");
    let phone = Baresip::start(scene, name, host, &account, hz, None);
    eventually("baresip has registered", s(10), || {
        let agents = centre.items("/v1/agents");
        agents.iter().any(|a| a["agent"] == name && a["reachable"] == true).then_some(())
    });
    phone
}

#[test]
fn baresip_registers_answers_and_is_heard_and_hears() {
    let scene = Scene::new("baresip");
    let mut setup = Setup::default();
    setup.agent("alice");
    md5_only(&mut setup, "alice");
    let centre = Centre::start(&scene, &setup);
    let at = format!("127.0.0.1:{}", centre.ports.centre);
    let mut phone = agent(&scene, &centre, "alice", "127.0.0.1", &at, 700);
    centre.agent("alice", "login");
    let mut caller = caller(&centre, "4930111");
    caller.hears_tone("c", 700);
    std::thread::sleep(s(2));
    caller.hang_up("c");
    assert_eq!(caller.ended("c")["status"], 200);
    centre.agent_becomes("alice", "ready");
    let record = centre.record();
    assert_eq!(
        (record["agent"].as_str(), record["offers"][0]["result"].as_str()),
        (Some("alice"), Some("accepted"))
    );
    std::thread::sleep(ms(500));
    phone.leave();
    let heard = phone.heard_ms(1_000);
    assert!(heard > 500, "baresip has heard only {heard} ms of the caller's tone");
    centre.finish();
}

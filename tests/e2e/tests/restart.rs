//! kill -9 and restart: places, orphans, agents and records; and the orderly ends: drain and reload.

use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::raw::RawUa;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::Setup;
use cordboard_e2e::{eventually, ms, s};
use serde_json::json;

use crate::endings::redirect_of;
use crate::flow::{answers, caller, talk};

#[test]
fn after_kill_9_callers_who_call_back_stand_in_their_old_order() {
    let scene = Scene::new("kill-9");
    let mut agent = RawUa::new();
    let mut setup = Setup::default();
    setup.agent_at("alice", &agent.uri("alice")).agent("bob");
    let mut centre = Centre::start(&scene, &setup);
    // One talks with alice, three wait.
    let mut talking = RawUa::new();
    let _ = talking.call_answered(redirect_of(&centre), "100", "4930000");
    let invite = agent.expect_request("INVITE", s(5));
    agent.reply(&invite, 200, "OK", true);
    agent.expect_request("ACK", s(3));
    centre.agent_becomes("alice", "busy");
    let numbers = ["4930001", "4930002", "4930003"];
    let mut callers: Vec<RawUa> = numbers.iter().map(|_| RawUa::new()).collect();
    for (n, ua) in callers.iter_mut().enumerate() {
        let _ = ua.call_answered(redirect_of(&centre), "100", numbers[n]);
        let _ = centre.waiting(n + 2);
    }
    centre.kill9();
    centre.spawn();
    for ua in callers.iter_mut().chain([&mut talking]) {
        ua.hung_up(s(5));
    }
    agent.hung_up(s(5));
    let (state, _) = centre.agent_state("alice");
    assert!(state == "ready" || state == "not-ready", "alice is stuck as {state}");
    let records = centre.records(4);
    for record in &records {
        assert_eq!(
            (&record["end"]["by"], &record["end"]["text"]),
            (&json!("host"), &json!("node-lost")),
            "{record}"
        );
    }
    // They call back, the last first.
    centre.agent("alice", "not-ready");
    let mut dialogs = Vec::new();
    for n in [2, 0, 1] {
        dialogs.push((n, callers[n].call_answered(redirect_of(&centre), "100", numbers[n])));
        eventually("the caller is in the queue again", s(5), || {
            let queue = centre.items("/v1/queues").remove(0);
            let entries = queue["entries"].as_array()?;
            entries
                .iter()
                .any(|e| e["caller"] == numbers[n] && e["awaiting_call_back"] == false)
                .then_some(())
        });
    }
    // Who talked may call back too, and does not: that place is still kept, and holds nobody up.
    let queue = centre.items("/v1/queues").remove(0);
    let present =
        queue["entries"].as_array().into_iter().flatten().filter(|e| e["awaiting_call_back"] == false);
    let order: Vec<_> = present.map(|e| e["caller"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(order, numbers, "the old order");
    centre.agent("alice", "ready");
    for (n, number) in numbers.iter().enumerate() {
        let invite = agent.expect_request("INVITE", s(5));
        agent.reply(&invite, 200, "OK", true);
        agent.expect_request("ACK", s(3));
        let call = eventually("someone talks", s(3), || {
            centre.items("/v1/calls").into_iter().find(|c| c["state"] == "talking")
        });
        assert_eq!(call["caller"], *number, "served in the old order");
        let mut dialog = agent.dialog_of(&invite);
        agent.bye(&mut dialog);
        callers[n].hung_up(s(5));
    }
    let _ = centre.records(7);
    centre.no_panics();
    centre.finish();
}

#[test]
fn sigterm_refuses_new_calls_and_lets_live_ones_finish() {
    let scene = Scene::new("drain");
    let mut setup = Setup::default();
    setup.agent("alice");
    let mut centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    centre.term();
    std::thread::sleep(ms(500));
    let mut ua = RawUa::new();
    let mut dialog = ua.invite(redirect_of(&centre), "100", "4930222");
    let refused = ua.expect_status(503, "INVITE", s(2));
    assert!(!refused.header("retry-after").is_empty(), "the redirect role says when to come again");
    ua.ack(&mut dialog, &refused);
    let mut dialog =
        ua.invite(std::net::SocketAddr::from(([127, 0, 0, 1], centre.ports.centre)), "100", "4930222");
    let refused = ua.expect_status(503, "INVITE", s(2));
    assert!(!refused.header("retry-after").is_empty(), "the centre says when to come again");
    ua.ack(&mut dialog, &refused);
    phone.listen_anew("c");
    alice.listen_anew("alice-1");
    talk(&mut phone, "c", &mut alice, "alice-1");
    alice.hang_up("alice-1");
    assert_eq!(phone.ended("c")["status"], 200);
    assert!(centre.ended(s(5)).success());
    centre.no_panics();
}

#[test]
fn a_reload_drops_no_call_and_a_wrong_file_changes_nothing() {
    let scene = Scene::new("reload");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    let still_talking = |phone: &mut Phone, alice: &mut Phone| {
        phone.listen_anew("c");
        alice.listen_anew("alice-1");
        talk(phone, "c", alice, "alice-1");
    };
    // By SIGHUP: a new agent.
    setup.agent("bob");
    centre.write(&setup);
    centre.hup();
    eventually("bob is there", s(10), || {
        centre.items("/v1/agents").iter().any(|a| a["agent"] == "bob").then_some(())
    });
    still_talking(&mut phone, &mut alice);
    // By the command line: another one.
    setup.agent("carol");
    centre.write(&setup);
    let done = centre.cli(&["reload"]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(centre.items("/v1/agents").len(), 3);
    still_talking(&mut phone, &mut alice);
    // A wrong one: a workgroup that is not there, and a key that is none.
    let right = std::fs::read_to_string(centre.config()).expect("the configuration");
    let wrong = right
        .replace("workgroups = [\"support\"]", "workgroups = [\"suport\"]")
        .replace("ring_timeout_s", "ring_timeout");
    std::fs::write(centre.config(), &wrong).expect("it is written");
    let line_of = |text: &str| wrong.lines().position(|l| l.starts_with(text)).map_or(0, |n| n + 1);
    let refused = centre.cli(&["reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "a wrong configuration was taken");
    for expected in [
        format!("centre.toml:{}: ", line_of("workgroups = [\"suport\"]")),
        "did you mean `support`".into(),
        format!("centre.toml:{}: ", line_of("ring_timeout =")),
        "did you mean `ring_timeout_s`".into(),
    ] {
        assert!(said.contains(&expected), "{expected:?} is not in: {said}");
    }
    let checked = std::process::Command::new(cordboard_e2e::place::binary())
        .arg("check")
        .arg(centre.config())
        .output()
        .expect("check runs");
    assert!(
        !checked.status.success()
            && String::from_utf8_lossy(&checked.stderr).contains("did you mean `support`")
    );
    centre.hup();
    eventually("the log says that the old one holds", s(5), || {
        centre.log().contains("the old one holds").then_some(())
    });
    assert_eq!(centre.items("/v1/agents").len(), 3, "the old configuration holds");
    still_talking(&mut phone, &mut alice);
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    assert_eq!(alice.ended("alice-1")["status"], 200);
    centre.finish();
}

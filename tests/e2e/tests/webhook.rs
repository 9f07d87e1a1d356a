//! The CTI adapter and its HTTP server: one that fails for a while, one that refuses, one that is not there.

use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::webhook::Webhook;
use cordboard_e2e::{eventually, ms, s};
use serde_json::Value;

use crate::flow::{answers, caller, talk};

const LIFE: [&str; 6] =
    ["call.new", "interaction.created", "queue.entered", "agent.offered", "call.bridged", "call.ended"];

/// A call from end to end; its interaction. However the server is, the call is as ever.
fn one_call(centre: &Centre, alice: &mut Phone, number: &str, nth: usize) -> String {
    let mut phone = caller(centre, number);
    let there = format!("alice-{nth}");
    talk(&mut phone, "c", alice, &there);
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    assert_eq!(alice.ended(&there)["status"], 200);
    centre.agent_becomes("alice", "ready");
    let records = centre.records(nth);
    records[0]["interaction"].as_str().expect("an identifier").to_owned()
}

/// The life of an interaction as the server has heard it, each event once.
fn told(hook: &Webhook, id: &str) -> Vec<&'static str> {
    let once = hook.types_once().remove(id).unwrap_or_default();
    once.iter().filter_map(|t| LIFE.into_iter().find(|l| t.ends_with(l))).collect()
}

fn dead_letters(centre: &Centre) -> Vec<Value> {
    centre.items("/v1/dead-letters")
}

#[test]
fn events_wait_for_a_server_that_fails_and_come_whole_and_in_order() {
    let scene = Scene::new("webhook-recovers");
    let hook = Webhook::start();
    let mut setup = Setup { rtp_ports: 40, ..Setup::default() };
    setup.webhook(&hook.url()).agent("alice");
    let mut centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    hook.answer(503);
    let first = one_call(&centre, &mut alice, "4930111", 1);
    hook.answer(429);
    let second = one_call(&centre, &mut alice, "4930222", 2);
    assert!(told(&hook, &first).is_empty() && told(&hook, &second).is_empty());
    assert!(hook.refused() >= 2, "the server was asked again: {}", hook.refused());
    // They wait on disk: a death of the process loses none.
    centre.at_rest();
    centre.kill9();
    centre.spawn();
    hook.answer(204);
    for id in [&first, &second] {
        eventually("the server has heard it all", s(30), || {
            (told(&hook, id).last() == Some(&"call.ended")).then_some(())
        });
        assert_eq!(told(&hook, id), LIFE, "{id}");
    }
    assert_eq!(dead_letters(&centre).len(), 0);
    centre.finish();
}

#[test]
fn what_a_server_refuses_for_good_is_a_dead_letter_and_the_next_events_pass() {
    let scene = Scene::new("webhook-refuses");
    let hook = Webhook::start();
    let mut setup = Setup { rtp_ports: 40, ..Setup::default() };
    setup.webhook(&hook.url()).agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    hook.answer(403);
    let first = one_call(&centre, &mut alice, "4930111", 1);
    let letters = eventually("all events of the call are dead letters", s(15), || {
        let letters = dead_letters(&centre);
        let of_call = letters.iter().filter(|l| l.to_string().contains(&first));
        let kinds: Vec<&str> = LIFE
            .into_iter()
            .filter(|l| of_call.clone().any(|letter| letter.to_string().contains(l)))
            .collect();
        (kinds == LIFE).then_some(letters)
    });
    assert!(letters[0].to_string().contains("403"), "the letter says why: {}", letters[0]);
    hook.answer(204);
    let second = one_call(&centre, &mut alice, "4930222", 2);
    eventually("the server hears of the second call", s(15), || {
        (told(&hook, &second).last() == Some(&"call.ended")).then_some(())
    });
    assert_eq!(told(&hook, &second), LIFE);
    assert!(told(&hook, &first).is_empty(), "what is dead stays dead");
    // By the command line: shown, and forgotten.
    let shown = centre.cli(&["plugin", "dead-letters", "--json"]);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains(&first), "{shown:?}");
    let id = letters[0]["id"].to_string();
    let id = id.trim_matches('"');
    let forgot = centre.cli(&["plugin", "dead-letters", "--forget", id]);
    assert!(forgot.status.success(), "{forgot:?}");
    eventually("it is forgotten", s(5), || {
        dead_letters(&centre).iter().all(|l| l["id"] != letters[0]["id"]).then_some(())
    });
    centre.finish();
}

#[test]
fn a_server_that_is_never_there_costs_no_call_and_its_events_are_given_up_in_the_end() {
    let scene = Scene::new("webhook-away");
    let mut setup = Setup { rtp_ports: 40, ..Setup::default() };
    // Nobody listens there.
    setup.webhook(&format!("http://127.0.0.1:{}/events", free_port())).agent("alice");
    setup.set("cti-webhook", "give_up_after_s", "4");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    let began = std::time::Instant::now();
    let id = one_call(&centre, &mut alice, "4930111", 1);
    assert!(began.elapsed() < s(10), "the call was delayed: {:?}", began.elapsed());
    eventually("its events are given up", s(40), || {
        let letters = dead_letters(&centre);
        let ended = letters.iter().any(|l| {
            let text = l.to_string();
            text.contains(&id) && text.contains("call.ended") && text.contains("given up")
        });
        ended.then_some(())
    });
    std::thread::sleep(ms(100));
    centre.finish();
}

//! How calls end when something goes otherwise than planned: each test says how it ended for everyone.

use std::net::SocketAddr;

use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::raw::RawUa;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sound::{MUSIC_HZ, PROMPT_HZ};
use cordboard_e2e::{eventually, ms, s};
use serde_json::{Value, json};

use crate::flow::{answers, caller, talk};

pub(crate) fn redirect_of(centre: &Centre) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], centre.ports.redirect))
}

fn results(record: &Value) -> Vec<String> {
    let name = |r: &Value| {
        r.as_str().map_or_else(
            || r.as_object().and_then(|o| o.keys().next().cloned()).unwrap_or_default(),
            str::to_owned,
        )
    };
    record["offers"].as_array().into_iter().flatten().map(|o| name(&o["result"])).collect()
}

fn end_of(record: &Value) -> (String, u64) {
    (
        record["end"]["by"].as_str().unwrap_or_default().to_owned(),
        record["end"]["cause"].as_u64().unwrap_or_default(),
    )
}

fn by(who: &str, cause: u64) -> (String, u64) {
    (who.to_owned(), cause)
}

#[test]
fn a_caller_who_gives_up_after_the_302_leaves_nothing() {
    let scene = Scene::new("gives-up-after-302");
    let centre = Centre::start(&scene, &Setup::default());
    let mut ua = RawUa::new();
    let mut dialog = ua.invite(redirect_of(&centre), "100", "4930111");
    let moved = ua.expect_status(302, "INVITE", s(2));
    ua.ack(&mut dialog, &moved);
    assert!(moved.contact().contains(&centre.ports.centre.to_string()), "{}", moved.contact());
    std::thread::sleep(ms(300));
    assert_eq!(centre.items("/v1/records").len(), 0, "a redirect alone is no call");
    centre.finish();
}

#[test]
fn a_caller_who_cancels_before_the_answer_gets_487() {
    let scene = Scene::new("cancels-before-answer");
    let mut setup = Setup::default();
    // A bridge to a phone that only rings keeps the INVITE unanswered.
    let mut callee = RawUa::new();
    setup.rules = format!("* -> bridge {} ring=20", callee.uri("bob"));
    let centre = Centre::start(&scene, &setup);
    let mut ua = RawUa::new();
    let mut dialog = ua.call(redirect_of(&centre), "100", "4930111");
    let invite = callee.expect_request("INVITE", s(3));
    callee.reply(&invite, 180, "Ringing", false);
    ua.expect_status(180, "INVITE", s(2));
    ua.cancel(&dialog);
    ua.expect_status(200, "CANCEL", s(2));
    let end = ua.expect_status(487, "INVITE", s(2));
    ua.ack(&mut dialog, &end);
    let cancel = callee.expect_request("CANCEL", s(2));
    callee.reply(&cancel, 200, "OK", false);
    callee.reply(&invite, 487, "Request Terminated", false);
    callee.expect_request("ACK", s(2));
    let record = centre.record();
    assert_eq!(
        (record["end"]["by"].as_str(), record["end"]["answered"].as_bool()),
        (Some("caller"), Some(false))
    );
    centre.finish();
}

#[test]
fn a_caller_who_hangs_up_in_the_menu_ends_the_script() {
    let scene = Scene::new("hangs-up-in-menu");
    let mut setup = Setup::default();
    setup.set("ivr-support", "menu", "true").agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut phone = caller(&centre, "4930111");
    phone.confirmed("c");
    std::thread::sleep(ms(400));
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    let record = centre.record();
    assert_eq!(end_of(&record), by("caller", 16));
    assert_eq!(results(&record).len(), 0);
    centre.finish();
}

#[test]
fn a_caller_who_hangs_up_while_waiting_leaves_the_queue() {
    let scene = Scene::new("hangs-up-waiting");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut phone = caller(&centre, "4930111");
    phone.hears_tone("c", MUSIC_HZ);
    let _ = centre.waiting(1);
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    let record = centre.record();
    assert_eq!(end_of(&record), by("caller", 16));
    let _ = centre.waiting(0);
    assert_eq!(centre.items("/v1/queues")[0]["abandoned"], 1);
    centre.finish();
}

#[test]
fn a_caller_who_hangs_up_while_the_agent_rings_silences_the_phone() {
    let scene = Scene::new("hangs-up-ringing");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", json!({}));
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    alice.hears("incoming", s(5), |_| true);
    std::thread::sleep(ms(300));
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    assert_eq!(alice.ended("alice-1")["status"], 487, "the phone was cancelled");
    let record = centre.record();
    assert_eq!(end_of(&record), by("caller", 16));
    assert_eq!(results(&record), ["caller-gone"]);
    centre.agent_becomes("alice", "ready");
    centre.finish();
}

#[test]
fn a_caller_who_hangs_up_at_the_moment_of_answer_ends_both_legs() {
    for bye_first in [true, false] {
        let scene = Scene::new("hangs-up-at-answer");
        let mut setup = Setup::default();
        let mut agent = RawUa::new();
        setup.agent_at("alice", &agent.uri("alice"));
        let centre = Centre::start(&scene, &setup);
        let mut ua = RawUa::new();
        let mut dialog = ua.call_answered(redirect_of(&centre), "100", "4930111");
        let invite = agent.expect_request("INVITE", s(5));
        agent.reply(&invite, 180, "Ringing", false);
        // Both are on their way before either can have been heard of.
        if bye_first {
            ua.request_in(&mut dialog, "BYE", "", "");
            agent.reply(&invite, 200, "OK", true);
        } else {
            agent.reply(&invite, 200, "OK", true);
            ua.request_in(&mut dialog, "BYE", "", "");
        }
        ua.expect_status(200, "BYE", s(3));
        // Whoever was first: the agent's leg is acknowledged and ended.
        agent.expect_request("ACK", s(3));
        agent.hung_up(s(3));
        let record = centre.record();
        assert_eq!(end_of(&record), by("caller", 16));
        assert_eq!(results(&record), [if bye_first { "caller-gone" } else { "accepted" }]);
        centre.agent_becomes("alice", "ready");
        centre.finish();
    }
}

#[test]
fn a_caller_who_hangs_up_in_the_survey_or_the_voicemail_ends_the_script() {
    let scene = Scene::new("hangs-up-late");
    let mut setup = Setup::default();
    let mut agent = RawUa::new();
    setup
        .set("ivr-support", "survey", "true")
        .set("ivr-support", "voicemail", "true")
        .agent_at("alice", &agent.uri("alice"));
    let centre = Centre::start(&scene, &setup);
    // In the survey.
    let mut ua = RawUa::new();
    let mut dialog = ua.call_answered(redirect_of(&centre), "100", "4930111");
    let invite = agent.expect_request("INVITE", s(5));
    agent.reply(&invite, 200, "OK", true);
    agent.expect_request("ACK", s(3));
    let mut talk = agent.dialog_of(&invite);
    agent.bye(&mut talk);
    std::thread::sleep(ms(300));
    ua.bye(&mut dialog);
    let record = centre.record();
    assert_eq!((end_of(&record), results(&record)), (by("caller", 16), vec!["accepted".to_owned()]));
    // In the voicemail, which began with the exit key.
    centre.agent("alice", "not-ready");
    let mut ua = RawUa::new();
    let mut dialog = ua.call_answered(redirect_of(&centre), "100", "4930222");
    let _ = centre.waiting(1);
    ua.request_in(
        &mut dialog,
        "INFO",
        "Content-Type: application/dtmf-relay\r\n",
        "Signal=*\r\nDuration=100\r\n",
    );
    ua.expect_status(200, "INFO", s(2));
    std::thread::sleep(ms(1_500));
    ua.bye(&mut dialog);
    let records = centre.records(2);
    assert_eq!(end_of(&records[0]), by("caller", 16));
    let _ = centre.waiting(0);
    centre.finish();
}

#[test]
fn two_ring_timeouts_make_an_agent_not_ready_and_keep_the_caller() {
    let scene = Scene::new("ring-timeout-twice");
    let mut setup = Setup::default();
    setup.agent("alice").agent("bob").group("ring_timeout_s", "1");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", json!({}));
    let mut bob = Phone::agent(&centre, "bob", answers());
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    let place = centre.waiting(1)[0]["ticket"].clone();
    assert_eq!(alice.ended("alice-1")["status"], 487, "the first ring was cancelled");
    assert_eq!(centre.waiting(1)[0]["ticket"], place, "the place is kept");
    assert_eq!(alice.ended("alice-2")["status"], 487, "the second ring was cancelled");
    centre.agent_becomes("alice", "not-ready");
    assert_eq!(centre.agent_state("alice").1, "ring-no-answer");
    assert_eq!(centre.waiting(1)[0]["ticket"], place, "the place is kept");
    phone.hears_tone("c", MUSIC_HZ);
    centre.agent("bob", "login");
    talk(&mut phone, "c", &mut bob, "bob-1");
    bob.hang_up("bob-1");
    assert_eq!(bob.ended("bob-1")["status"], 200);
    assert_eq!(phone.ended("c")["status"], 200);
    let record = centre.record();
    assert_eq!(results(&record), ["no-answer", "no-answer", "accepted"]);
    assert_eq!(record["agent"], "bob");
    centre.finish();
}

#[test]
fn an_agent_who_is_busy_declines_or_is_not_there_passes_the_call_on() {
    for (status, result) in [(486, "busy"), (603, "declined"), (404, "unreachable")] {
        let scene = Scene::new(&format!("agent-says-{status}"));
        let mut setup = Setup::default();
        setup.agent("alice").agent("bob");
        let centre = Centre::start(&scene, &setup);
        let mut alice = Phone::agent(&centre, "alice", json!({ "status": status, "ring": false }));
        let mut bob = Phone::agent(&centre, "bob", answers());
        centre.agent("alice", "login");
        let mut phone = caller(&centre, "4930111");
        assert_eq!(alice.ended("alice-1")["status"], status);
        if status == 404 {
            centre.agent_becomes("alice", "not-ready");
            assert_eq!(centre.agent_state("alice").1, "phone-unreachable");
        } else {
            centre.agent("alice", "not-ready");
        }
        centre.agent("bob", "login");
        talk(&mut phone, "c", &mut bob, "bob-1");
        phone.hang_up("c");
        assert_eq!(phone.ended("c")["status"], 200);
        assert_eq!(bob.ended("bob-1")["status"], 200);
        let record = centre.record();
        let results = results(&record);
        assert!(
            results.len() >= 2 && results[0] == result && results.last().is_some_and(|r| r == "accepted"),
            "{results:?}"
        );
        centre.finish();
    }
}

#[test]
fn an_answer_that_crosses_the_ring_timeout_is_acknowledged_and_ended() {
    let scene = Scene::new("answer-crosses-timeout");
    let mut setup = Setup::default();
    let mut agent = RawUa::new();
    setup.agent_at("alice", &agent.uri("alice")).group("ring_timeout_s", "1").group("max_misses", "1");
    let centre = Centre::start(&scene, &setup);
    let mut ua = RawUa::new();
    let mut dialog = ua.call_answered(redirect_of(&centre), "100", "4930111");
    let invite = agent.expect_request("INVITE", s(5));
    agent.reply(&invite, 180, "Ringing", false);
    // The CANCEL is here, and the phone has just been picked up: 200 to both.
    let cancel = agent.expect_request("CANCEL", s(3));
    agent.reply(&invite, 200, "OK", true);
    agent.reply(&cancel, 200, "OK", false);
    agent.expect_request("ACK", s(3));
    agent.hung_up(s(3));
    centre.agent_becomes("alice", "not-ready");
    assert_eq!(centre.agent_state("alice").1, "ring-no-answer");
    let _ = centre.waiting(1);
    eventually("the crossing is counted", s(2), || {
        (centre.metric("cordboard_offers_crossed_total") == 1.0).then_some(())
    });
    ua.bye(&mut dialog);
    let record = centre.record();
    assert_eq!(results(&record), ["no-answer"], "the outcome stays what it was");
    centre.finish();
}

#[test]
fn an_agent_whose_phone_vanishes_gives_the_caller_back_to_the_queue() {
    let scene = Scene::new("agent-vanishes");
    let mut setup = Setup::default();
    setup.agent("alice").agent("bob").limit("rtp_silence_s", "1");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    let mut bob = Phone::agent(&centre, "bob", answers());
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    phone.listen_anew("c");
    alice.vanish();
    phone.hears_tone("c", MUSIC_HZ);
    centre.agent_becomes("alice", "not-ready");
    assert_eq!(centre.agent_state("alice").1, "phone-lost");
    let entry = centre.waiting(1).remove(0);
    assert_eq!(entry["position"], 1, "{entry}");
    phone.listen_anew("c");
    centre.agent("bob", "login");
    talk(&mut phone, "c", &mut bob, "bob-1");
    bob.hang_up("bob-1");
    assert_eq!(bob.ended("bob-1")["status"], 200);
    assert_eq!(phone.ended("c")["status"], 200);
    let record = centre.record();
    assert_eq!(results(&record), ["accepted", "accepted"]);
    assert_eq!(record["agent"], "bob");
    centre.at_rest_within(s(40));
    centre.finish();
}

#[test]
fn two_callers_and_one_agent_are_served_one_after_the_other() {
    let scene = Scene::new("two-callers-one-agent");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    let mut first = caller(&centre, "4930111");
    let _ = centre.waiting(1);
    let mut second = caller(&centre, "4930222");
    let entries = centre.waiting(2);
    assert_eq!((&entries[0]["caller"], &entries[1]["caller"]), (&json!("4930111"), &json!("4930222")));
    centre.agent("alice", "login");
    talk(&mut first, "c", &mut alice, "alice-1");
    second.hears_tone("c", MUSIC_HZ);
    assert!(!second.has("tone", |e| e["hz"] == 700), "the second caller hears no agent yet");
    alice.hang_up("alice-1");
    assert_eq!(first.ended("c")["status"], 200);
    talk(&mut second, "c", &mut alice, "alice-2");
    second.hang_up("c");
    assert_eq!(second.ended("c")["status"], 200);
    assert_eq!(alice.ended("alice-2")["status"], 200);
    for record in centre.records(2) {
        assert_eq!(results(&record), ["accepted"]);
    }
    centre.finish();
}

#[test]
fn without_agents_a_caller_waits_or_is_refused_by_configuration() {
    let scene = Scene::new("no-agents");
    let mut setup = Setup::default();
    setup.agent("alice").group("refuse_without_agents", "true");
    let centre = Centre::start(&scene, &setup);
    let mut phone = Phone::caller("4930111");
    phone.call(&centre, "c", "100", 1_000, &[PROMPT_HZ]);
    assert_eq!(phone.ended("c")["status"], 200, "told so, and hung up");
    let record = centre.record();
    assert_eq!(end_of(&record), by("script", 20), "subscriber absent");
    setup.group("refuse_without_agents", "false");
    centre.write(&setup);
    let reload = centre.cli(&["reload"]);
    assert!(reload.status.success(), "{reload:?}");
    let mut phone = caller(&centre, "4930222");
    phone.hears_tone("c", MUSIC_HZ);
    let entry = centre.waiting(1).remove(0);
    assert_eq!(entry["position"], 1);
    let queue = centre.items("/v1/queues").remove(0);
    assert!(queue["estimate_s"].is_null(), "nobody is logged in, so the wait is unknown: {queue}");
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    centre.finish();
}

#[test]
fn a_script_that_ends_or_traps_while_its_caller_waits_keeps_the_place() {
    for mode in ["queued-return", "queued-trap", "queued-error", "queued-loop"] {
        let scene = Scene::new(&format!("script-{mode}"));
        let mut setup = Setup { rules: "* -> script misbehave-ivr".into(), ..Setup::default() };
        setup.plugin("misbehave-ivr", "misbehave-ivr").set("misbehave-ivr", "mode", mode).agent("alice");
        setup.limit("script_cpu_ms", "300");
        let centre = Centre::start(&scene, &setup);
        let mut first = caller(&centre, "4930111");
        let before = centre.waiting(1).remove(0);
        let mut second = caller(&centre, "4930222");
        let _ = centre.waiting(2);
        eventually("both scripts have ended", s(15), || {
            (centre.metric("cordboard_scripts") == 0.0).then_some(())
        });
        let after = centre.waiting(2);
        assert_eq!(after[0]["ticket"], before["ticket"], "{mode}: the place is kept");
        assert_eq!(after[1]["caller"], "4930222");
        // The workgroup's own treatment goes on: music.
        first.listen_anew("c");
        first.hears_tone("c", MUSIC_HZ);
        let mut alice = Phone::agent(&centre, "alice", answers());
        centre.agent("alice", "login");
        talk(&mut first, "c", &mut alice, "alice-1");
        alice.hang_up("alice-1");
        assert_eq!(first.ended("c")["status"], 200, "{mode}: served and hung up");
        talk(&mut second, "c", &mut alice, "alice-2");
        second.hang_up("c");
        assert_eq!(second.ended("c")["status"], 200);
        assert_eq!(alice.ended("alice-2")["status"], 200);
        for record in centre.records(2) {
            assert_eq!(results(&record), ["accepted"], "{mode}");
        }
        centre.finish();
    }
}

#[test]
fn a_302_to_a_dead_node_leads_to_the_next_within_two_seconds() {
    let scene = Scene::new("dead-node");
    let mut setup = Setup::default();
    // A node that says nothing and is not probed: named, and dead.
    let silent = RawUa::new();
    setup.redirect = format!(
        "capacity = 1\n[[redirect.nodes]]\nid = \"dead\"\naddress = \"127.0.0.1:{}\"\ncapacity = 100000\nprobe = false\n",
        silent.port
    );
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    // Both are named, the dead one nearly always first.
    let mut ua = RawUa::new();
    let mut dialog = ua.invite(redirect_of(&centre), "100", "4930111");
    let moved = ua.expect_status(302, "INVITE", s(2));
    ua.ack(&mut dialog, &moved);
    let contacts: Vec<String> = moved
        .headers
        .iter()
        .filter(|(n, _)| n == "contact")
        .flat_map(|(_, v)| v.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(contacts.len(), 2, "{contacts:?}");
    assert!(contacts[0].contains(&silent.port.to_string()) && contacts[0].contains("q="), "{contacts:?}");
    assert!(contacts[1].contains(&centre.ports.centre.to_string()), "{contacts:?}");
    // Our own client follows such a 302: a second centre bridges its calls to the first one's redirect role.
    let rules = format!("* -> bridge sip:100@127.0.0.1:{} ring=20", centre.ports.redirect);
    let front = Setup { rules, ..Setup::default() };
    let front_dir = scene.dir().join("front");
    std::fs::create_dir_all(&front_dir).expect("a folder");
    let front = Centre::start_in(&front_dir, &front);
    let mut phone = Phone::caller("4930222");
    let began = std::time::Instant::now();
    phone.call(&front, "c", "100", 1_000, &[700, MUSIC_HZ]);
    phone.confirmed("c");
    let took = began.elapsed();
    assert!(took < ms(4_000), "the next contact was tried after {took:?}");
    assert!(took > ms(1_000), "the silent contact was tried first, yet the call took only {took:?}");
    phone.hears_tone("c", MUSIC_HZ);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    talk(&mut phone, "c", &mut alice, "alice-1");
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    assert_eq!(alice.ended("alice-1")["status"], 200);
    front.finish();
    centre.finish();
}

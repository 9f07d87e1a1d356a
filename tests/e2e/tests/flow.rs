//! The whole flow, steps 3 to 18, with real phones at both ends.

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::raw::RawUa;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sound::{MUSIC_HZ, PROMPT_HZ};
use cordboard_e2e::webhook::Webhook;
use cordboard_e2e::{eventually, ms, s};
use serde_json::{Value, json};

/// What the agent's phone sends, and what the caller's does.
const AGENT_HZ: u32 = 700;
const CALLER_HZ: u32 = 1_000;

/// An agent's phone that answers and listens for the caller's tone.
pub(crate) fn answers() -> Value {
    json!({ "status": 200, "tone": AGENT_HZ, "listen": [CALLER_HZ] })
}

/// Every step of the flow is on the timeline with its evidence, in the partial order of flow.md:
/// 3 4 5 before 6 7, those before 9, 9 before 10 11 12, those before 14, then 15 16 17 18, with 8 after 5
/// and 13 between 10 and 17.
pub(crate) fn steps_in_order(call: &Value) {
    let lines = call["timeline"].as_array().expect("a timeline");
    let at = |step: u64| {
        lines
            .iter()
            .position(|l| l["step"] == step)
            .unwrap_or_else(|| panic!("step {step} is not on the timeline: {lines:#?}"))
    };
    let before = |earlier: &[u64], later: &[u64]| {
        for e in earlier {
            for l in later {
                assert!(
                    lines[at(*e)]["mono_ns"].as_u64() <= lines[at(*l)]["mono_ns"].as_u64(),
                    "step {e} is later than step {l}: {lines:#?}"
                );
            }
        }
    };
    before(&[3], &[4]);
    before(&[4], &[5]);
    before(&[3, 4, 5], &[6, 7]);
    before(&[6], &[7]);
    before(&[5], &[8]);
    before(&[3, 4, 5, 6, 7], &[9]);
    before(&[9], &[10, 11, 12]);
    before(&[10], &[13]);
    before(&[13], &[17]);
    before(&[10, 11, 12], &[14]);
    before(&[14], &[15]);
    before(&[15], &[16]);
    before(&[16], &[17]);
    before(&[17], &[18]);
    for (step, evidence) in [
        (3, &["call_id", "cseq"][..]),
        (4, &["call_id", "cseq"]),
        (5, &["call_id", "cseq"]),
        (6, &["bus_seq"]),
        (7, &["bus_seq"]),
        (9, &["bus_seq"]),
        (10, &["ticket"]),
        (12, &["ticket"]),
        (14, &["ticket", "token"]),
        (15, &["ticket", "token"]),
        (16, &["call_id", "cseq", "token"]),
        (17, &["token"]),
        (18, &["token"]),
    ] {
        let line = &lines[at(step)];
        for key in evidence {
            assert!(!line[key].is_null(), "step {step} has no {key}: {line}");
        }
    }
    for (one, other) in [(3, 5), (4, 5)] {
        assert_eq!(
            lines[at(one)]["call_id"],
            lines[at(other)]["call_id"],
            "the redirected INVITE keeps its Call-ID"
        );
    }
    for step in [15, 16, 17, 18] {
        assert_eq!(lines[at(step)]["token"], lines[at(14)]["token"], "one offer from 14 to 18");
    }
}

#[test]
fn a_call_travels_all_steps_and_ends_with_a_survey() {
    let scene = Scene::new("whole-flow");
    let hook = Webhook::start();
    let mut setup = Setup::default();
    setup
        .set("ivr-support", "menu", "true")
        .set("ivr-support", "survey", "true")
        .agent("alice")
        .webhook(&hook.url());
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    let mut alice = Phone::agent(&centre, "alice", answers());
    let mut caller = Phone::caller("4930111");
    caller.call(&centre, "c", "100", CALLER_HZ, &[AGENT_HZ, MUSIC_HZ, PROMPT_HZ]);
    caller.hears("redirected", s(3), |_| true);
    caller.confirmed("c");
    caller.press("c", "1");
    let waiting = centre.waiting(1);
    caller.hears_tone("c", MUSIC_HZ);
    assert_eq!(waiting[0]["caller"], "4930111");
    centre.agent("alice", "login");
    alice.confirmed("alice-1");
    caller.hears_tone("c", AGENT_HZ);
    alice.hears_tone("alice-1", CALLER_HZ);
    assert_eq!(centre.agent_state("alice").0, "busy");
    let live = centre.calls(1).remove(0);
    let id = live["interaction"].as_str().expect("an identifier").to_owned();
    assert_eq!(live["state"], "talking");
    steps_in_order(&centre.json(&format!("/v1/calls/{id}")));
    alice.hang_up("alice-1");
    assert_eq!(alice.ended("alice-1")["status"], 200);
    // The survey.
    caller.listen_anew("c");
    std::thread::sleep(s(1));
    caller.press("c", "4");
    let ended = caller.ended("c");
    assert_eq!(ended["status"], 200, "the centre hung up an answered call");
    let record = centre.record();
    steps_in_order(&record);
    assert_eq!(record["interaction"], *id);
    assert_eq!(attribute(&record, "survey.score"), "4");
    assert_eq!(attribute(&record, "language"), "en");
    assert_eq!((&record["agent"], &record["workgroup"]), (&json!("alice"), &json!("support")));
    assert_eq!((&record["end"]["by"], &record["end"]["cause"]), (&json!("script"), &json!(16)));
    assert_eq!(record["offers"].as_array().map(Vec::len), Some(1));
    assert_eq!(record["offers"][0]["result"], "accepted");
    let wanted =
        ["call.new", "interaction.created", "queue.entered", "agent.offered", "call.bridged", "call.ended"];
    let types = eventually("the webhook has heard of the end", s(5), || {
        Some(hook.types_about(&id)).filter(|t| t.iter().any(|t| t.contains("call.ended")))
    });
    let order: Vec<Option<usize>> =
        wanted.iter().map(|w| types.iter().position(|t| t.ends_with(w))).collect();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "events {types:?}");
    for event in hook.events() {
        assert_eq!(event["specversion"], "1.0", "{event}");
        assert!(event["id"].is_string() && event["source"].is_string(), "{event}");
    }
    let json = centre.cli(&["call", &id, "--json"]);
    assert!(json.status.success(), "{json:?}");
    steps_in_order(&serde_json::from_slice(&json.stdout).expect("JSON"));
    capture.nothing_malformed(15, 100);
    centre.finish();
}

#[test]
fn the_caller_hangs_up_and_both_legs_end() {
    for codec in ["PCMU", "PCMA"] {
        let scene = Scene::new("caller-hangs-up");
        let mut setup = Setup::default();
        setup.agent("alice");
        let centre = Centre::start(&scene, &setup);
        // The agent speaks the other law: the centre transcodes.
        let mut alice = Phone::with_codec("alice", Some("PCMU"));
        alice.register(&centre, "alice", answers());
        centre.agent("alice", "login");
        let mut caller = Phone::with_codec("4930111", Some(codec));
        caller.order(&json!({ "do": "account", "name": "4930111", "id": "sip:4930111@127.0.0.1" }));
        caller.call(&centre, "c", "100", CALLER_HZ, &[AGENT_HZ]);
        caller.hears_tone("c", AGENT_HZ);
        alice.hears_tone("alice-1", CALLER_HZ);
        caller.hang_up("c");
        assert_eq!(caller.ended("c")["status"], 200);
        assert_eq!(alice.ended("alice-1")["status"], 200, "the hang-up reached the agent");
        let record = centre.record();
        assert_eq!((&record["end"]["by"], &record["end"]["cause"]), (&json!("caller"), &json!(16)));
        assert_eq!(record["offers"][0]["result"], "accepted");
        centre.agent_becomes("alice", "ready");
        centre.finish();
    }
}

#[test]
fn hold_gives_the_other_party_music_and_resume_the_conversation() {
    let scene = Scene::new("hold");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    phone.listen_anew("c");
    alice.order(&json!({ "do": "hold", "call": "alice-1" }));
    phone.hears_tone("c", MUSIC_HZ);
    std::thread::sleep(s(1));
    alice.order(&json!({ "do": "resume", "call": "alice-1" }));
    std::thread::sleep(ms(500));
    phone.listen_anew("c");
    alice.listen_anew("alice-1");
    talk(&mut phone, "c", &mut alice, "alice-1");
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    assert_eq!(alice.ended("alice-1")["status"], 200);
    centre.finish();
}

#[test]
fn the_exit_key_leads_to_voicemail_and_the_message_is_what_was_said() {
    let scene = Scene::new("voicemail");
    let mut setup = Setup::default();
    setup.set("ivr-support", "voicemail", "true").agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut phone = caller(&centre, "4930111");
    phone.hears_tone("c", MUSIC_HZ);
    phone.press("c", "*");
    std::thread::sleep(s(5));
    phone.press("c", "#");
    assert_eq!(phone.ended("c")["status"], 200, "thanked, and hung up");
    let record = centre.record();
    let name = attribute(&record, "voicemail");
    assert!(!name.is_empty(), "{record}");
    let file = find(&centre.dir().join("data"), &name).unwrap_or_else(|| panic!("no recording {name}"));
    let heard = cordboard_e2e::sound::heard_ms(&file, CALLER_HZ);
    assert!(heard > 2_000, "only {heard} ms of the caller's tone are in {}", file.display());
    let _ = centre.waiting(0);
    centre.finish();
}

fn find(folder: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|n| n.to_string_lossy().contains(name)) || path.ends_with(name)
        {
            return Some(path);
        }
    }
    None
}

#[test]
fn an_invite_without_sdp_gets_our_offer_and_is_answered_in_the_ack() {
    let scene = Scene::new("delayed-offer");
    let centre = Centre::start(&scene, &Setup::default());
    let mut ua = RawUa::new();
    let mut dialog =
        ua.invite(std::net::SocketAddr::from(([127, 0, 0, 1], centre.ports.redirect)), "100", "4930111");
    let moved = ua.expect_status(302, "INVITE", s(2));
    ua.ack(&mut dialog, &moved);
    dialog.target = moved.contact();
    dialog.remote = std::net::SocketAddr::from(([127, 0, 0, 1], centre.ports.centre));
    let contact = format!("Contact: <sip:raw@127.0.0.1:{}>\r\n", ua.port);
    ua.request_in(&mut dialog, "INVITE", &contact, "");
    let ok = ua.expect_status(200, "INVITE", s(3));
    assert!(ok.body.contains("m=audio") && ok.body.contains("telephone-event"), "our offer: {}", ok.body);
    // The answer comes in the ACK.
    dialog.to = ok.header("to").to_owned();
    dialog.target = ok.contact();
    dialog.cseq -= 1;
    let sdp = ua.sdp();
    ua.request_in(&mut dialog, "ACK", "Content-Type: application/sdp\r\n", &sdp);
    let _ = centre.waiting(1);
    ua.bye(&mut dialog);
    let _ = centre.record();
    centre.finish();
}

/// Shared with other modules: a caller talks with an agent, tones both ways.
pub(crate) fn talk(caller: &mut Phone, call: &str, agent: &mut Phone, agent_call: &str) {
    caller.hears_tone(call, AGENT_HZ);
    agent.hears_tone(agent_call, CALLER_HZ);
}

/// A caller who sends the caller's tone and listens for the agent's and the music.
pub(crate) fn caller(centre: &Centre, number: &str) -> Phone {
    let mut phone = Phone::caller(number);
    phone.call(centre, "c", "100", CALLER_HZ, &[AGENT_HZ, MUSIC_HZ]);
    phone
}

/// An attribute of a record; empty when it has none of that name.
pub(crate) fn attribute(record: &Value, name: &str) -> String {
    let pairs = record["attributes"].as_array();
    let value = pairs.into_iter().flatten().find(|pair| pair[0] == name).and_then(|pair| pair[1].as_str());
    value.unwrap_or_default().to_owned()
}

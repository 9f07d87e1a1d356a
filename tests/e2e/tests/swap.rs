//! Plugins are replaced while calls are up.

use std::collections::BTreeSet;

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::sound::{MUSIC_HZ, PROMOTION_HZ, tone, tone_ms};
use cordboard_e2e::webhook::Webhook;
use cordboard_e2e::{component, eventually, ms, s};
use serde_json::Value;

use crate::endings::redirect_of;
use crate::flow::attribute;
use crate::load::crowd;

/// The tone of a version of `marked-ivr`: greeting, music and farewell of its calls.
fn tone_of(version: u32) -> u32 {
    400 + 150 * version
}

#[test]
fn each_kind_of_plugin_is_replaced_ten_times_under_fifty_calls_a_second() {
    const ROUNDS: u32 = 10;
    let scene = Scene::new("swap");
    let prompts = scene.dir().join("prompts");
    std::fs::create_dir_all(&prompts).expect("a folder");
    for version in 0..=ROUNDS {
        tone(&prompts.join(format!("mark-{version:02}.wav")), tone_of(version), 200);
    }
    let hook = Webhook::start();
    let agents = Sipp::agents(&scene, 100);
    let mut setup = Setup {
        rtp_ports: 8_000,
        redirect: "policy = \"redirect-spare\"".into(),
        router: Some("marked-router".into()),
        script: Some("marked-ivr".into()),
        ..Setup::default()
    };
    setup
        .plugin("marked-router", "marked-router")
        .plugin("marked-ivr", "marked-ivr")
        .plugin("redirect-spare", "redirect-spare")
        .webhook(&hook.url());
    // So few that callers wait while versions change, however long that takes on a busy machine.
    crowd(&mut setup, &agents, 4);
    setup.group("max_waiting", "5000");
    let centre = Centre::start(&scene, &setup);
    let mut capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    let before = centre.digests();
    let calls = Sipp::callers(&scene, "crowd", redirect_of(&centre), "100", 100_000, 50, &[]);
    std::thread::sleep(s(1));
    let began = std::time::Instant::now();
    let mut seen = BTreeSet::new();
    for round in 1..=ROUNDS {
        for name in ["marked-router", "marked-ivr", "policy-longest-idle", "redirect-spare", "cti-webhook"] {
            let file = match name.starts_with("marked-") {
                true => component::marked(scene.dir(), name, round),
                false => component::version(scene.dir(), name, round),
            };
            let load = centre.cli(&["plugin", "load", &file.display().to_string(), "--name", name]);
            let said = String::from_utf8_lossy(&load.stdout).into_owned();
            assert!(load.status.success(), "{name}, version {round}: {load:?}");
            assert!(seen.insert(said.clone()), "the version is not new: {said}");
        }
    }
    assert_eq!(seen.len(), 5 * ROUNDS as usize);
    let after = centre.digests();
    assert!(before.iter().all(|(name, digest)| name == "ivr-support" || after[name] != *digest), "{after:?}");
    println!("{} versions were put into service in {:?}", seen.len(), began.elapsed());
    std::thread::sleep(s(1));
    let made = calls.stop_well(s(60));
    assert!(made >= 200, "only {made} calls were made meanwhile");
    let records = centre.records(made as usize);
    let mut served = [0_usize; ROUNDS as usize + 1];
    let mut routed = [0_usize; ROUNDS as usize + 1];
    for record in &records {
        assert_eq!(record["end"]["cause"], 16, "{record}");
        assert_eq!(record["agent"].as_str().map(|a| a.starts_with("agent")), Some(true), "{record}");
        let (begin, end) = (attribute(record, "script.begin"), attribute(record, "script.end"));
        assert_eq!(begin, end, "a call was begun by one version and ended by another: {record}");
        let number = |text: String| text.parse::<usize>().expect("the digits of a version");
        served[number(begin)] += 1;
        routed[number(attribute(record, "router"))] += 1;
    }
    println!("{made} calls; by version of the script {served:?}, of the router {routed:?}");
    assert!(served.iter().chain(&routed).all(|calls| *calls > 0), "a version had no call: nothing is proved");
    first_come_first_offered(&records);
    // What was sent to each caller, as tshark heard it: the sound of one version, and the records' numbers agree.
    let mut heard = [0_usize; ROUNDS as usize + 1];
    // Ports that this centre has named: another centre on the machine may use others of the same range.
    let answers = format!("sip.Status-Code == 200 && sdp && udp.srcport == {}", centre.ports.centre);
    let named: BTreeSet<u16> =
        capture.fields(&answers, &["sdp.media.port"]).iter().map(|p| p.parse().expect("a port")).collect();
    for (stream, samples) in capture.ulaw_from(centre.ports.rtp) {
        if !named.contains(&stream.0) {
            continue;
        }
        let tones: Vec<usize> =
            (0..=ROUNDS).filter(|v| tone_ms(&samples, 8_000, tone_of(*v)) > 0).map(|v| v as usize).collect();
        assert_eq!(tones.len(), 1, "the caller of {stream:?} heard the versions {tones:?}");
        heard[tones[0]] += 1;
    }
    assert_eq!(heard, served, "streams by the version that was heard, calls by the version in their record");
    assert_eq!(centre.metric("cordboard_plugin_defaults_total"), 0.0, "no call had to take a default");
    // The adapter's versions took over where the one before had stopped: nothing is missing, nothing out of order.
    let wanted =
        ["call.new", "interaction.created", "queue.entered", "agent.offered", "call.bridged", "call.ended"];
    let ended = || {
        hook.events().iter().filter(|e| e["type"].as_str().is_some_and(|t| t.ends_with("call.ended"))).count()
    };
    eventually("the webhook has heard of every end", s(20), || (ended() >= records.len()).then_some(()));
    let told = hook.types_once();
    for record in &records {
        let id = record["interaction"].as_str().unwrap_or_default();
        let types: Vec<&str> =
            told[id].iter().filter_map(|t| wanted.iter().find(|w| t.ends_with(**w)).copied()).collect();
        assert_eq!(types, wanted, "{id}: {:?}", told[id]);
    }
    capture.nothing_malformed(15 * made as usize, 1_000);
    centre.finish();
    drop(agents);
}

/// However often the policy was replaced: who entered the queue first was offered to an agent first.
fn first_come_first_offered(records: &[Value]) {
    let at = |record: &Value, step: u64| {
        let line = record["timeline"].as_array().and_then(|t| t.iter().find(|l| l["step"] == step));
        line.and_then(|l| l["mono_ns"].as_u64()).expect("the step is on the timeline")
    };
    let mut calls: Vec<(u64, u64)> = records.iter().map(|r| (at(r, 10), at(r, 14))).collect();
    calls.sort_unstable();
    let waited = calls.iter().filter(|(entered, offered)| offered - entered > 20_000_000).count();
    println!("{waited} of {} callers waited more than 20 ms", calls.len());
    assert!(waited * 10 > calls.len(), "too few waited for their order to be of interest");
    let mut latest = 0;
    for (entered, offered) in calls {
        assert!(offered >= latest, "who entered at {entered} ns was offered before an earlier one");
        latest = offered;
    }
}

#[test]
fn a_live_call_ends_on_its_version_and_a_new_call_takes_the_new_one() {
    let scene = Scene::new("pinned-version");
    let mut setup = Setup::default();
    setup.set("ivr-support", "promotions", "").agent("alice");
    let centre = Centre::start(&scene, &setup);
    let listen = [MUSIC_HZ, PROMOTION_HZ[0]];
    let mut old = cordboard_e2e::phone::Phone::caller("4930111");
    old.call(&centre, "c", "100", 0, &listen);
    old.hears_tone("c", MUSIC_HZ);
    // The new version of the script plays something else.
    setup.set("ivr-support", "music", "promotion-1");
    centre.write(&setup);
    assert!(centre.cli(&["reload"]).status.success());
    let mut new = cordboard_e2e::phone::Phone::caller("4930222");
    new.call(&centre, "c", "100", 0, &listen);
    new.hears_tone("c", PROMOTION_HZ[0]);
    old.listen_anew("c");
    std::thread::sleep(s(3));
    old.hears_tone("c", MUSIC_HZ);
    for (phone, own, other) in [(&mut old, MUSIC_HZ, PROMOTION_HZ[0]), (&mut new, PROMOTION_HZ[0], MUSIC_HZ)]
    {
        phone.hang_up("c");
        let heard = phone.ended("c")["heard"].clone();
        let of = |hz: u32| heard[hz.to_string()].as_u64().unwrap_or(0);
        assert!(of(own) > 1_000 && of(other) <= 40, "a mixture was heard: {heard}");
    }
    std::thread::sleep(ms(100));
    centre.finish();
}

#[test]
fn a_watched_folder_puts_a_new_version_into_service() {
    let scene = Scene::new("watched");
    let mut setup = Setup::default();
    setup.agent("alice");
    // The folder of this test holds copies that the test may change.
    let folder = scene.dir().join("plugins");
    std::fs::create_dir_all(&folder).expect("a folder");
    for entry in std::fs::read_dir(cordboard_e2e::place::plugins()).expect("components").flatten() {
        std::fs::copy(entry.path(), folder.join(entry.file_name())).expect("copied");
    }
    setup.more = "#watch\n".into();
    setup.plugin_dir = Some(folder.clone());
    let centre = Centre::start(&scene, &setup);
    let new = component::version(scene.dir(), "ivr-support", 1);
    let before = centre.digests();
    std::fs::copy(new, folder.join("ivr-support.wasm")).expect("copied");
    eventually("the new version is in service", s(20), || (centre.digests() != before).then_some(()));
    // One that is none is refused, and the good one stays.
    std::fs::write(folder.join("ivr-support.wasm"), b"no component").expect("written");
    eventually("the log says why it is refused", s(10), || {
        centre.log().contains("the new version is refused").then_some(())
    });
    let mut phone = crate::flow::caller(&centre, "4930111");
    phone.hears_tone("c", MUSIC_HZ);
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    centre.finish();
}

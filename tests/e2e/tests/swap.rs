//! Plugins are replaced while calls are up.

use cordboard_e2e::centre::Centre;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::sound::{MUSIC_HZ, PROMOTION_HZ};
use cordboard_e2e::webhook::Webhook;
use cordboard_e2e::{component, eventually, ms, s};

use crate::endings::redirect_of;
use crate::load::crowd;

#[test]
fn each_kind_of_plugin_is_replaced_ten_times_under_fifty_calls_a_second() {
    let scene = Scene::new("swap");
    let hook = Webhook::start();
    let agents = Sipp::agents(&scene, 100);
    let mut setup =
        Setup { rtp_ports: 8_000, redirect: "policy = \"redirect-spare\"".into(), ..Setup::default() };
    setup.set("ivr-support", "menu", "true").plugin("redirect-spare", "redirect-spare").webhook(&hook.url());
    crowd(&mut setup, &agents, 40);
    let centre = Centre::start(&scene, &setup);
    let kinds = ["router-numbers", "ivr-support", "policy-longest-idle", "redirect-spare", "cti-webhook"];
    let before = centre.digests();
    let calls = Sipp::callers(&scene, "crowd", redirect_of(&centre), "100", 100_000, 50, &[]);
    std::thread::sleep(s(1));
    let began = std::time::Instant::now();
    let mut seen = std::collections::BTreeSet::new();
    for round in 1..=10 {
        for name in kinds {
            let file = component::version(scene.dir(), name, round);
            let load = centre.cli(&["plugin", "load", &file.display().to_string(), "--name", name]);
            let said = String::from_utf8_lossy(&load.stdout).into_owned();
            assert!(load.status.success(), "{name}, version {round}: {load:?}");
            assert!(seen.insert(said.clone()), "the version is not new: {said}");
        }
    }
    assert_eq!(seen.len(), 50);
    let after = centre.digests();
    for name in kinds {
        assert!(!after[name].is_empty() && before[name] != after[name], "{name}: {before:?}, {after:?}");
    }
    println!("50 versions were put into service in {:?}", began.elapsed());
    std::thread::sleep(s(1));
    let made = calls.stop_well(s(60));
    assert!(made >= 200, "only {made} calls were made meanwhile");
    let records = centre.records(made as usize);
    for record in &records {
        assert_eq!(record["end"]["cause"], 16, "{record}");
        assert_eq!(record["agent"].as_str().map(|a| a.starts_with("agent")), Some(true), "{record}");
    }
    assert_eq!(centre.metric("cordboard_plugin_defaults_total"), 0.0, "no call had to take a default");
    let ended = || {
        hook.events().iter().filter(|e| e["type"].as_str().is_some_and(|t| t.ends_with("call.ended"))).count()
    };
    eventually("the webhook has heard of every end", s(20), || (ended() >= records.len()).then_some(()));
    centre.finish();
    drop(agents);
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
    phone.ended("c");
    centre.finish();
}

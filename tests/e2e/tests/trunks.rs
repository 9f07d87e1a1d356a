//! Trunks against programs from elsewhere: Kamailio as a registrar that challenges, pjsua2 and SIPp as
//! the far ends.

use std::net::UdpSocket;
use std::time::Instant;

use cordboard_e2e::capture::Capture;
use cordboard_e2e::carrier::{Carrier, PASSWORD, USER};
use cordboard_e2e::centre::Centre;
use cordboard_e2e::names::Names;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::{eventually, ms, s};
use serde_json::{Value, json};

use crate::endings::redirect_of;

/// A far end that answers at once, sends 700 Hz and listens for 1,000 Hz.
fn answers() -> Value {
    json!({ "status": 200, "tone": 700, "listen": [1_000] })
}

/// A centre whose every call leaves by `trunks`, described by `more`.
pub(crate) fn leaving(route: &str, more: &str) -> Setup {
    let mut setup = Setup { more: more.to_owned(), rtp_ports: 1_200, ..Setup::default() };
    setup.rules = format!("200 -> script ivr-support\n* -> {route}");
    setup
}

/// How a trunk is.
pub(crate) fn trunk(centre: &Centre, name: &str) -> Value {
    let all = centre.items("/v1/trunks");
    all.into_iter().find(|t| t["trunk"] == name).unwrap_or_else(|| panic!("no trunk {name}"))
}

/// A call of a pjsua2 phone through the centre to a far end, both of whom hear the other, and the far
/// end's hang-up reaches the caller.
pub(crate) fn talks(centre: &Centre, caller: &mut Phone, far: &mut Phone, call: &str, number: &str) {
    let there = format!("{}-{}", far.name, far.count("incoming") + 1);
    caller.call(centre, call, number, 1_000, &[700]);
    caller.confirmed(call);
    caller.hears_tone(call, 700);
    far.hears_tone(&there, 1_000);
    far.hang_up(&there);
    far.ended(&there);
    assert_eq!(caller.ended(call)["status"], 200);
}

fn a_registrar_s_trunk(algorithm: &str) {
    let scene = Scene::new(&format!("trunk-{algorithm}"));
    let port = free_port();
    let carrier = Carrier::start(&scene, port, algorithm);
    let at = format!("sip:127.0.0.1:{}", carrier.port);
    let mut setup = leaving(
        "bridge trunk:kamailio",
        &format!(
            "[[trunks]]\nname = \"kamailio\"\ntenant = \"acme\"\n[trunks.out]\ndestinations = [{{ address = \"{at}\" }}]\n\
             user = \"{USER}\"\npassword = \"{PASSWORD}\"\nhealth_s = 1\nregister = {{ registrar = \"{at}\" }}\n"
        ),
    );
    setup.rules = format!("4930200 -> bridge sip:far@127.0.0.1:{port}\n{}", setup.rules);
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.centre, carrier.port], centre.ports.rtp);
    let mut far = Phone::at("far", port, &answers());
    eventually("the trunk is registered", s(5), || {
        (trunk(&centre, "kamailio")["registration"]["state"] == "registered").then_some(())
    });
    assert!(carrier.log().contains("REGISTERED"));
    let left = trunk(&centre, "kamailio")["registration"]["expires_in_s"].as_u64().unwrap();
    assert!(left <= 30, "{left} s: what Kamailio has granted, not what we asked for");
    assert_eq!(centre.metric("cordboard_trunk_registered{trunk=\"kamailio\"}"), 1.0);
    let printed = String::from_utf8(centre.cli(&["trunks"]).stdout).unwrap();
    assert!(printed.contains("registered, ") && printed.contains("serves, 200"), "{printed}");

    // Out: the INVITE is challenged by 407.
    let mut caller = Phone::caller("4930111");
    talks(&centre, &mut caller, &mut far, "out", "100");

    // In: a stranger of the carrier's calls the contact that we have registered.
    let mut outside = Phone::caller("outside");
    outside.call_uri("in", &format!("sip:4930200@127.0.0.1:{}", carrier.port), 1_000, &[700]);
    let live = centre.calls(1);
    assert_eq!((&live[0]["caller"], &live[0]["called"]), (&json!("outside"), &json!("4930200")));
    outside.confirmed("in");
    far.hears_tone("far-2", 1_000);
    outside.hears_tone("in", 700);
    outside.hang_up("in");
    outside.ended("in");
    for call in ["far-1", "far-2"] {
        far.ended(call);
    }
    let records = centre.records(2);
    let trunks: Vec<&Value> = records.iter().map(|r| &r["trunk"]).collect();
    assert!(trunks.contains(&&json!("kamailio")) && trunks.contains(&&json!("carrier")), "{trunks:?}");
    std::thread::sleep(ms(300));
    let view = trunk(&centre, "kamailio");
    assert_eq!((&view["out"], &view["admitted"], &view["calls_out"]), (&json!(1), &json!(1), &json!(0)));
    capture.nothing_malformed(30, 50);
    centre.finish();
}

#[test]
fn a_trunk_registers_at_kamailio_and_calls_both_ways_md5() {
    a_registrar_s_trunk("MD5");
}

#[test]
fn a_trunk_registers_at_kamailio_and_calls_both_ways_sha256() {
    a_registrar_s_trunk("SHA-256");
}

#[test]
fn wrong_credentials_are_seen_and_do_not_hammer() {
    let scene = Scene::new("trunk-wrong");
    let carrier = Carrier::start(&scene, free_port(), "MD5");
    let at = format!("sip:127.0.0.1:{}", carrier.port);
    let setup = leaving(
        "bridge trunk:kamailio",
        &format!(
            "[[trunks]]\nname = \"kamailio\"\n[trunks.out]\ndestinations = [{{ address = \"{at}\" }}]\n\
             user = \"{USER}\"\npassword = \"wrong\"\nhealth_s = 0\nregister = {{ registrar = \"{at}\" }}\n"
        ),
    );
    let centre = Centre::start(&scene, &setup);
    eventually("the failure is seen", s(5), || {
        let registration = trunk(&centre, "kamailio")["registration"].clone();
        (registration["state"] == "failed" && registration["status"] == 401).then_some(())
    });
    assert_eq!(centre.metric("cordboard_trunk_registered{trunk=\"kamailio\"}"), 0.0);
    assert!(centre.log().contains("trunk kamailio: the registration failed: 401"), "{}", centre.log());
    let mut caller = Phone::caller("4930111");
    caller.call(&centre, "c", "100", 1_000, &[]);
    let status = caller.ended("c")["status"].clone();
    assert_eq!(status, 500, "the challenge is between us and the carrier");
    std::thread::sleep(s(2));
    assert_eq!(
        trunk(&centre, "kamailio")["registration"]["failures"],
        1,
        "the next try is half a minute away"
    );
    centre.finish();
}

#[test]
fn a_dead_destination_costs_less_than_two_seconds_once() {
    let scene = Scene::new("trunk-failover");
    let dead = UdpSocket::bind("127.0.0.1:0").expect("a port that says nothing");
    let port = free_port();
    let setup = leaving(
        "bridge trunk:pair",
        &format!(
            "[[trunks]]\nname = \"pair\"\n[trunks.out]\nhealth_s = 0\ndestinations = [{{ address = \"sip:127.0.0.1:{}\", priority = 1 }}, {{ address = \"sip:127.0.0.1:{port}\", priority = 2 }}]\n",
            dead.local_addr().unwrap().port(),
        ),
    );
    let centre = Centre::start(&scene, &setup);
    let mut far = Phone::at("far", port, &answers());
    let mut caller = Phone::caller("4930111");
    for (call, limit) in [("first", ms(2_000)), ("second", ms(700))] {
        let began = Instant::now();
        let there = format!("far-{}", far.count("incoming") + 1);
        caller.call(&centre, call, "100", 1_000, &[700]);
        caller.confirmed(call);
        let took = began.elapsed();
        assert!(took < limit, "the {call} call took {took:?}");
        caller.hears_tone(call, 700);
        far.hears_tone(&there, 1_000);
        caller.hang_up(call);
        caller.ended(call);
        far.ended(&there);
    }
    std::thread::sleep(ms(300));
    let view = trunk(&centre, "pair");
    let (first, second) = (&view["destinations"][0], &view["destinations"][1]);
    assert_eq!((&first["serves"], &first["calls"], &first["failed"]), (&json!(false), &json!(1), &json!(1)));
    assert_eq!((&second["serves"], &second["calls"]), (&json!(true), &json!(2)));
    centre.finish();
}

#[test]
fn weights_spread_calls_and_a_full_trunk_gives_way_to_the_next() {
    let scene = Scene::new("trunk-load");
    let far: Vec<Sipp> = ["a", "b", "spare"].iter().map(|name| Sipp::far(&scene, name, 1_500)).collect();
    let at = |n: usize| format!("sip:127.0.0.1:{}", far[n].port);
    let setup = leaving(
        "bridge trunk:main,spare",
        &format!(
            "[[trunks]]\nname = \"main\"\nmax_calls = 60\n[trunks.out]\nhealth_s = 0\ndestinations = [{{ address = \"{}\", weight = 1 }}, {{ address = \"{}\", weight = 3 }}]\n\
             [[trunks]]\nname = \"spare\"\n[trunks.out]\nhealth_s = 0\ndestinations = [{{ address = \"{}\" }}]\n",
            at(0),
            at(1),
            at(2)
        ),
    );
    let centre = Centre::start(&scene, &setup);
    // 50 a second for 1.5 s each are 75 at once: more than the trunk has.
    let calls = 400;
    let crowd = Sipp::callers(&scene, "crowd", redirect_of(&centre), "100", calls, 50, &[]);
    let mut most = 0;
    for _ in 0..40 {
        most = most.max(trunk(&centre, "main")["calls_out"].as_u64().unwrap());
        std::thread::sleep(ms(150));
    }
    crowd.all_well(u64::from(calls), s(60));
    assert_eq!(most, 60, "the trunk was full, and never fuller");
    std::thread::sleep(ms(300));
    let (main, spare) = (trunk(&centre, "main"), trunk(&centre, "spare"));
    let count = |v: &Value| v.as_u64().unwrap();
    let (a, b) = (count(&main["destinations"][0]["calls"]), count(&main["destinations"][1]["calls"]));
    println!("{a} and {b} by weights 1 and 3, {} by the spare trunk", spare["out"]);
    assert_eq!(a + b + count(&spare["out"]), u64::from(calls));
    assert!(count(&spare["out"]) > 20 && count(&main["out_full"]) == count(&spare["out"]));
    let share = a as f64 / (a + b) as f64;
    assert!((0.17..0.33).contains(&share), "{share}: a quarter was expected");
    centre.finish();
}

#[test]
fn a_trunk_s_caps_hold_inward_with_a_time_to_come_back() {
    let scene = Scene::new("trunk-caps");
    let port = free_port();
    let mut setup = leaving(
        "bridge trunk:far",
        &format!(
            "[[trunks]]\nname = \"far\"\n[trunks.out]\nhealth_s = 0\ndestinations = [{{ address = \"sip:127.0.0.1:{port}\" }}]\n"
        ),
    );
    setup.edits.push(("max_calls_per_s = 1000".into(), "max_calls_per_s = 1".into()));
    let centre = Centre::start(&scene, &setup);
    let mut far = Phone::at("far", port, &answers());
    let mut caller = Phone::caller("4930111");
    caller.call(&centre, "one", "100", 1_000, &[700]);
    caller.call(&centre, "two", "100", 1_000, &[700]);
    let refused = caller.ended("two");
    assert_eq!((&refused["status"], &refused["connected"]), (&json!(503), &json!(false)));
    caller.confirmed("one");
    caller.hears_tone("one", 700);
    far.hears_tone("far-1", 1_000);
    std::thread::sleep(ms(1_100));
    caller.call(&centre, "three", "100", 1_000, &[700]);
    caller.confirmed("three");
    for call in ["one", "three"] {
        caller.hang_up(call);
        caller.ended(call);
    }
    for call in ["far-1", "far-2"] {
        far.ended(call);
    }
    eventually("the counters are as they must be", s(2), || {
        let view = trunk(&centre, "carrier");
        (view["admitted"] == 2 && view["refused"] == 1 && view["calls_in"] == 0).then_some(())
    });
    centre.finish();
}

/// Offered ten times what it may take, a trunk gets what it may take, and a time to come back for the rest.
#[test]
fn ten_times_the_capacity_leaves_the_capacity_served() {
    const CAPACITY: u32 = 40;
    const SECONDS: u32 = 6;
    let scene = Scene::new("trunk-overload");
    let port = free_port();
    let mut setup = leaving(
        "bridge trunk:far",
        &format!(
            "[[trunks]]\nname = \"far\"\n[trunks.out]\nhealth_s = 0\ndestinations = [{{ address = \"sip:127.0.0.1:{port}\" }}]\n"
        ),
    );
    setup.edits.push(("max_calls_per_s = 1000".into(), format!("max_calls_per_s = {CAPACITY}")));
    let centre = Centre::start(&scene, &setup);
    let _far = Sipp::run(&scene, "far", port, &["-sn".into(), "uas".into(), "127.0.0.1".into()]);
    let calls = 10 * CAPACITY * SECONDS;
    let scenario = cordboard_e2e::place::beside("sipp/overload.xml").display().to_string();
    let (number, rate) = (calls.to_string(), (10 * CAPACITY).to_string());
    let at = format!("127.0.0.1:{}", centre.ports.centre);
    let args = ["-sf", &scenario, "-s", "100", "-m", &number, "-r", &rate, "-d", "300", "-l", "3000", &at];
    let load = Sipp::run(&scene, "load", free_port(), &args.map(str::to_owned));
    let done = eventually("SIPp has ended every call", s(60), || {
        let (well, failed) = (load.figure("SuccessfulCall(C)")?, load.figure("FailedCall(C)")?);
        (well + failed >= u64::from(calls)).then_some((well, failed))
    });
    assert_eq!(done, (u64::from(calls), 0), "each was served, or refused with a time to come back");
    let (served, refused) = (load.figure("GenericCounter1(C)"), load.figure("GenericCounter2(C)"));
    let (served, refused) = (served.expect("a counter"), refused.expect("a counter"));
    assert_eq!(served + refused, u64::from(calls));
    // The bucket of one second is full at the beginning; the machine may be slow to offer the rest.
    let fair = u64::from(CAPACITY * SECONDS);
    assert!(
        (fair * 9 / 10..=fair * 13 / 10).contains(&served),
        "{served} of {calls} were served, {fair} is fair"
    );
    assert_eq!(centre.records(served as usize).len(), served as usize);
    centre.finish();
}

#[test]
fn names_are_resolved_by_naptr_and_srv_with_failover_and_a_cache() {
    let scene = Scene::new("trunk-dns");
    let dead = UdpSocket::bind("127.0.0.1:0").expect("a port that says nothing");
    let (port, desk) = (free_port(), free_port());
    let names = Names::start(
        &scene,
        &[
            "naptr-record=far.test,10,10,S,SIP+D2U,,_sip._udp.far.test".to_owned(),
            format!("srv-host=_sip._udp.far.test,dead.far.test,{},1,10", dead.local_addr().unwrap().port()),
            format!("srv-host=_sip._udp.far.test,live.far.test,{port},2,10"),
            "host-record=dead.far.test,127.0.0.1,60".to_owned(),
            "host-record=live.far.test,127.0.0.1,60".to_owned(),
            "host-record=desk.test,127.0.0.1,60".to_owned(),
        ],
    );
    let mut setup = leaving(
        "bridge trunk:named",
        &format!(
            "[dns]\nservers = [\"{}\"]\n[[trunks]]\nname = \"named\"\n[trunks.out]\nhealth_s = 0\ndestinations = [{{ address = \"sip:far.test\" }}]\n",
            names.at
        ),
    );
    setup.rules =
        "300 -> bridge sip:far@far.test\n400 -> bridge sip:x@absent.test\n500 -> workgroup support\n"
            .to_owned()
            + &setup.rules;
    setup.agent_at("desk", &format!("sip:desk@desk.test:{desk}"));
    let centre = Centre::start(&scene, &setup);
    let mut far = Phone::at("far", port, &answers());
    let mut phone = Phone::at("desk", desk, &answers());
    let mut caller = Phone::caller("4930111");
    for (call, number) in [("trunk", "100"), ("address", "300")] {
        let began = Instant::now();
        talks(&centre, &mut caller, &mut far, call, number);
        assert!(began.elapsed() < s(8), "{call}: {:?}", began.elapsed());
    }
    assert_eq!(names.asked(&scene, "_sip._udp.far.test"), 1, "the second call took it from the cache");
    assert!(names.asked(&scene, "query[NAPTR] far.test") >= 1);
    talks(&centre, &mut caller, &mut phone, "agent", "500");
    caller.call(&centre, "absent", "400", 1_000, &[]);
    assert_eq!(caller.ended("absent")["status"], 502);
    let records = centre.records(4);
    let absent = records.iter().find(|r| r["called"] == "400").unwrap();
    assert!(
        absent["end"]["text"].as_str().unwrap().contains("absent.test: DNS knows no such host"),
        "{absent}"
    );
    drop(dead);
    centre.finish();
}

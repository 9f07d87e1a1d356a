//! Kamailio as a proxy in the middle: in front of the centre, and between the centre and its agents' phones. And as
//! a PBX that registers here.

use std::net::SocketAddr;

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::kamailio::Kamailio;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::raw::{Message, RawUa};
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::{eventually, ms, s};
use md5::{Digest, Md5};
use serde_json::{Value, json};

use crate::endings::redirect_of;
use crate::flow::{answers, talk};
use crate::trunks::{leaving, talks, trunk};

/// A phone that has registered with the proxy as somebody.
fn registered(proxy: &Kamailio, phone: &str, user: &str, answer: &Value) -> Phone {
    let mut phone = Phone::start(phone);
    let name = phone.name.clone();
    phone.order(&json!({
        "do": "account", "name": name, "id": proxy.uri(user), "registrar": format!("sip:127.0.0.1:{}", proxy.port),
        "user": user, "password": "not-asked-for", "answer": answer,
    }));
    phone.hears("registered", s(5), |e| e["status"] == 200);
    phone
}

#[test]
fn a_call_through_a_proxy_on_either_side_follows_its_routes() {
    let scene = Scene::new("kamailio");
    let proxy = Kamailio::start(&scene);
    let mut setup = Setup { rtp_ports: 40, ..Setup::default() };
    setup.agent_at("alice", &proxy.uri("alice"));
    let centre = Centre::start(&scene, &setup);
    let mut capture =
        Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre, proxy.port], centre.ports.rtp);
    // Both phones ring; one is answered after a while.
    let mut desk = registered(
        &proxy,
        "desk",
        "alice",
        &json!({ "status": 200, "after_ms": 700, "tone": 700, "listen": [1_000] }),
    );
    let mut mobile = registered(&proxy, "mobile", "alice", &json!({}));
    let mut caller = Phone::start("4930111");
    caller.order(&json!({
        "do": "account", "name": "4930111", "id": "sip:4930111@127.0.0.1",
        "proxy": format!("sip:127.0.0.1:{};lr", proxy.port),
    }));
    for (round, caller_ends) in [(1, true), (2, false)] {
        let call = format!("c{round}");
        let (there, rings) = (format!("desk-{round}"), format!("mobile-{round}"));
        caller.call(&centre, &call, "100", 1_000, &[700]);
        mobile.hears("incoming", s(5), |e| e["call"] == rings);
        talk(&mut caller, &call, &mut desk, &there);
        // RFC 3261 16.7, step 10: the proxy cancels the branch that was not answered.
        assert_eq!(mobile.ended(&rings)["status"], 487, "the other phone stops ringing");
        // A request within the dialog, by the centre and by the phone: hold and resume.
        caller.listen_anew(&call);
        desk.order(&json!({ "do": "hold", "call": there }));
        caller.hears_tone_absent(&call, 700, ms(600));
        desk.order(&json!({ "do": "resume", "call": there }));
        std::thread::sleep(ms(300));
        caller.listen_anew(&call);
        desk.listen_anew(&there);
        talk(&mut caller, &call, &mut desk, &there);
        match caller_ends {
            true => caller.hang_up(&call),
            false => desk.hang_up(&there),
        }
        assert_eq!(caller.ended(&call)["status"], 200, "the hang-up reached the caller");
        assert_eq!(desk.ended(&there)["status"], 200, "the hang-up reached the phone");
        centre.agent_becomes("alice", "ready");
        for record in centre.records(round) {
            assert_eq!(record["end"]["cause"], 16, "{record}");
        }
    }
    centre.at_rest();
    // Everything inside a dialog that the centre sent to the proxy named it in a Route, and was taken.
    let within = format!(
        "udp.srcport == {} && udp.dstport == {} && (sip.Method == \"BYE\" || (sip.Method == \"ACK\"))",
        centre.ports.centre, proxy.port
    );
    let routes = capture.fields(&within, &["sip.Method", "sip.Route"]);
    assert!(routes.len() >= 3, "ACKs and BYEs of two calls: {routes:?}");
    for line in &routes {
        let (_, route) = line.split_once('\t').unwrap_or_default();
        assert!(
            route.contains(&format!("127.0.0.1:{};", proxy.port))
                || route.contains(&format!("127.0.0.1:{}>", proxy.port)),
            "no Route: {line}"
        );
    }
    let refused = format!("sip.Status-Code == 404 && udp.srcport == {}", proxy.port);
    assert!(capture.find(&refused).is_empty(), "the proxy turned a request away");
    capture.nothing_malformed(40, 200);
    centre.finish();
}

#[test]
fn two_phones_behind_a_proxy_answer_at_once_and_one_of_them_is_let_go() {
    let scene = Scene::new("kamailio-twins");
    let proxy = Kamailio::start(&scene);
    let mut setup = Setup { rtp_ports: 40, ..Setup::default() };
    setup.agent_at("alice", &proxy.uri("alice"));
    let centre = Centre::start(&scene, &setup);
    let mut twins = [RawUa::new(), RawUa::new()];
    for twin in &mut twins {
        twin.register(SocketAddr::from(([127, 0, 0, 1], proxy.port)), "alice");
    }
    let mut caller = RawUa::new();
    let mut dialog = caller.call_answered(redirect_of(&centre), "100", "4930111");
    let invites: Vec<Message> = twins.iter_mut().map(|twin| twin.expect_request("INVITE", s(5))).collect();
    // Both are picked up before the proxy can have cancelled either.
    for (twin, invite) in twins.iter().zip(&invites) {
        twin.reply(invite, 200, "OK", true);
    }
    // RFC 3261 13.2.2.4: every 2xx is acknowledged, and the dialogs that are not wanted are ended.
    for twin in &mut twins {
        let ack = twin.expect_request("ACK", s(3));
        assert!(ack.start.contains(&format!(":{}", twin.port)), "the ACK is for its contact: {}", ack.start);
    }
    let mut ended = Vec::new();
    eventually("one of the two gets a BYE", s(5), || {
        for (n, twin) in twins.iter_mut().enumerate() {
            if let Some(bye) = twin.may_get(ms(50), |m| m.method() == "BYE") {
                assert!(bye.to_tag() == format!("r{}", twin.port), "{}", bye.header("to"));
                twin.reply(&bye, 200, "OK", false);
                ended.push(n);
            }
        }
        (!ended.is_empty()).then_some(())
    });
    std::thread::sleep(ms(300));
    assert_eq!(ended.len(), 1);
    let winner = 1 - ended[0];
    assert!(twins[winner].may_get(ms(200), |m| m.method() == "BYE").is_none(), "the winner talks on");
    let talking = centre.calls(1).remove(0);
    assert_eq!(talking["state"], "talking", "{talking}");
    caller.bye(&mut dialog);
    twins[winner].hung_up(s(5));
    let record = centre.record();
    assert_eq!(record["offers"].as_array().map(Vec::len), Some(1), "one offer, one outcome: {record}");
    assert_eq!(record["offers"][0]["result"], "accepted");
    centre.agent_becomes("alice", "ready");
    centre.at_rest_within(s(40));
    centre.finish();
}

#[test]
fn a_caller_behind_a_proxy_who_gives_up_while_it_rings_silences_all_phones() {
    let scene = Scene::new("kamailio-gives-up");
    let proxy = Kamailio::start(&scene);
    let mut setup = Setup { rtp_ports: 40, ..Setup::default() };
    setup.agent_at("alice", &proxy.uri("alice"));
    let centre = Centre::start(&scene, &setup);
    let mut desk = registered(&proxy, "desk", "alice", &json!({}));
    let mut mobile = registered(&proxy, "mobile", "alice", &answers_never());
    let mut caller = Phone::caller("4930111");
    caller.call(&centre, "c", "100", 1_000, &[700]);
    desk.hears("incoming", s(5), |_| true);
    mobile.hears("incoming", s(5), |_| true);
    std::thread::sleep(ms(300));
    caller.hang_up("c");
    assert_eq!(caller.ended("c")["status"], 200);
    assert_eq!(desk.ended("desk-1")["status"], 487);
    assert_eq!(mobile.ended("mobile-1")["status"], 487);
    let record = centre.record();
    assert_eq!(record["offers"][0]["result"], "caller-gone", "{record}");
    centre.agent_becomes("alice", "ready");
    centre.finish();
}

/// As the phones of [`answers`], but nobody picks it up.
fn answers_never() -> Value {
    let mut answer = answers();
    answer.as_object_mut().expect("an object").remove("status");
    answer
}

#[test]
fn a_pbx_that_registers_here_calls_and_is_called_where_it_registered_from() {
    let scene = Scene::new("kamailio-pbx");
    let port = free_port();
    // Kamailio's registrations know MD5 alone.
    let ha1 = Md5::digest("pbx:pbx:secret-pbx").iter().fold(String::new(), |t, b| t + &format!("{b:02x}"));
    let mut setup = leaving(
        "bridge trunk:pbx",
        &format!(
            "[[trunks]]\nname = \"pbx\"\ntenant = \"acme\"\nregisters = {{ user = \"pbx\", password = \"md5:{ha1}\" }}\n[trunks.out]\nhealth_s = 0\n"
        ),
    );
    setup.rules = format!("4930200 -> bridge sip:far@127.0.0.1:{port}\n{}", setup.rules);
    let centre = Centre::start(&scene, &setup);
    let mut caller = Phone::caller("4930111");
    caller.call(&centre, "early", "4930555", 1_000, &[]);
    assert_eq!(caller.ended("early")["status"], 503, "nobody has registered");
    let pbx = Kamailio::registering(&scene, "pbx", centre.ports.centre);
    let capture = Capture::start(&scene, &[centre.ports.centre, pbx.port], centre.ports.rtp);
    let at = json!(format!("127.0.0.1:{}", pbx.port));
    eventually("the PBX has registered", s(10), || (trunk(&centre, "pbx")["peer"] == at).then_some(()));
    // To an extension of its, which has a phone.
    let mut desk = registered(&pbx, "desk", "4930555", &answers());
    talks(&centre, &mut caller, &mut desk, "in", "4930555");
    // And from there.
    let mut far = Phone::at("far", port, &answers());
    desk.order(&json!({ "do": "account", "name": "desk", "id": pbx.uri("4930555"), "proxy": format!("sip:127.0.0.1:{};lr", pbx.port) }));
    desk.call_uri("out", &format!("sip:4930200@127.0.0.1:{}", centre.ports.centre), 1_000, &[700]);
    desk.confirmed("out");
    desk.hears_tone("out", 700);
    far.hears_tone("far-1", 1_000);
    desk.hang_up("out");
    desk.ended("out");
    assert_eq!(far.ended("far-1")["status"], 200);
    let records = centre.records(3);
    assert_eq!((&records[0]["trunk"], &records[0]["caller"]), (&json!("pbx"), &json!("4930555")));
    assert_eq!(trunk(&centre, "pbx")["admitted"], 1, "known by where it has registered from");
    capture.nothing_malformed(20, 50);
    centre.finish();
}

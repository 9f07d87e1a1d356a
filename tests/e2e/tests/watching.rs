//! A colleague watches an agent: SUBSCRIBE and NOTIFY of presence with a pjsua2 phone, of dialogs with SIPp.

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::play::{CONTACT, Play, has, tells};
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::{eventually, s};
use md5::{Digest, Md5};
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

#[test]
fn a_busy_lamp_follows_the_agent_s_call() {
    let scene = Scene::new("busy-lamp");
    let mut setup = Setup::default();
    setup.agent("alice").agent("bob");
    // SIPp 3.6 knows MD5 alone.
    let ha1 = Md5::digest("bob:acme:secret-bob").iter().fold(String::new(), |t, b| t + &format!("{b:02x}"));
    setup.edits.push(("secret-bob".into(), format!("md5:{ha1}")));
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    let answer = json!({ "status": 200, "after_ms": 500, "tone": 700, "listen": [1_000] });
    let mut alice = Phone::agent(&centre, "alice", answer);
    centre.agent("alice", "login");
    let mut lamp = Play::of("<sip:bob@acme>");
    let (uri, to) = ("sip:alice@[remote_ip]:[remote_port]", "To: <sip:alice@[remote_ip]:[remote_port]>");
    let dialogs = format!(
        "{CONTACT}Event: dialog\n      Accept: application/dialog-info+xml\n      Expires: 600\n      "
    );
    let credentials = "[authentication username=bob password=secret-bob]\n      ";
    lamp.request("SUBSCRIBE", uri, to, &dialogs, false).step("<recv response=\"401\" auth=\"true\"/>");
    lamp.request("SUBSCRIBE", uri, to, &format!("{dialogs}{credentials}"), false);
    lamp.gets_with(200, &[has("Expires", "^ *600$")]);
    // RFC 4235 4.1: whole each time, with a version that counts.
    let news = |version: u32, body: &str| {
        [
            has("Event", "^ *dialog$"),
            has("Subscription-State", "^ *active;expires=[0-9]+$"),
            has("Content-Type", "^ *application/dialog-info[+]xml$"),
            tells(&format!("version=\"{version}\" state=\"full\" entity=\"sip:alice@[^\"]*\">[^<]*{body}")),
        ]
    };
    let states = [
        "</dialog-info>",
        "<dialog [^>]*><state>early</state>",
        "<dialog [^>]*><state>confirmed</state>",
        "</dialog-info>",
    ];
    for (version, body) in (0..).zip(states) {
        lamp.asked("NOTIFY", &news(version, body)).respond(200, "OK", false);
        lamp.step(&format!("<nop><action><exec command=\"touch told-{version}\"/></action></nop>"));
    }
    // What SIPp signs is by itself the address alone, and no Request-URI of ours.
    let at = format!("127.0.0.1:{}", centre.ports.centre);
    let signed = format!("alice@{at}");
    let args = ["-m", "1", "-recv_timeout", "20000", "-auth_uri", &signed, &at].map(str::to_owned);
    let lamp = lamp.run(&scene, "lamp", free_port(), &args);
    let told = || scene.dir().join("told-0").exists().then_some(());
    eventually("the lamp is told of an agent who is free", s(5), told);
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    phone.hang_up("c");
    phone.ended("c");
    assert_eq!(alice.ended("alice-1")["status"], 200);
    lamp.all_well(1, s(20));
    capture.nothing_malformed(10, 40);
    centre.finish();
}

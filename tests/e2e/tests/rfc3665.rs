//! The basic call flows of RFC 3665, played by SIPp on both sides of the centre: section 2 (registration), and
//! of section 3 the sessions that a back-to-back user agent has a part in. 3.6, the redirect, is in every call of
//! the other tests; 3.2 to 3.5 are about proxies.

use std::net::SocketAddr;

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::play::{CONTACT, LAST_TO, Play, REMOTE, TO};
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::{eventually, s};
use md5::{Digest, Md5};

fn to_centre(centre: &Centre, more: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = more.iter().map(|a| (*a).to_owned()).collect();
    args.extend(["-m", "1", "-recv_timeout", "20000"].map(str::to_owned));
    args.push(SocketAddr::from(([127, 0, 0, 1], centre.ports.centre)).to_string());
    args
}

fn far_end(scene: &Scene, name: &str, port: u16, play: &Play) -> Sipp {
    play.run(scene, name, port, &["-m".into(), "1".into(), "127.0.0.1".into()])
}

#[test]
fn registrations_of_section_2() {
    let scene = Scene::new("rfc3665-2");
    let mut setup = Setup { rtp_ports: 40, ..Setup::default() };
    setup.agent("bob");
    let ha1 = Md5::digest("bob:acme:secret-bob").iter().fold(String::new(), |t, b| t + &format!("{b:02x}"));
    // SIPp 3.6 knows MD5 alone.
    setup.edits.push(("secret-bob".into(), format!("md5:{ha1}")));
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    let registrar = "sip:[remote_ip]:[remote_port]";
    let me = "To: <sip:bob@acme>";
    // A challenged REGISTER and its repetition with credentials.
    let challenged = |play: &mut Play, password: &str, headers: &str| {
        play.request("REGISTER", registrar, me, headers, false)
            .step("<recv response=\"401\" auth=\"true\"/>");
        let credentials = format!("[authentication username=bob password={password}]\n      ");
        play.request("REGISTER", registrar, me, &format!("{headers}{credentials}"), false);
    };
    let binding = |pattern: &str, present: bool| {
        let check = if present { "check_it=\"true\"" } else { "check_it_inverse=\"true\"" };
        format!(
            "<recv response=\"200\"><action><ereg regexp=\"{pattern}\" search_in=\"msg\" {check} assign_to=\"found\"/></action></recv>\n  <Reference variables=\"found\"/>"
        )
    };
    let desk = "Contact: <sip:bob@[local_ip]:[local_port]>\n      Expires: 300\n      ";
    let second = "Contact: <sip:bob-home@[local_ip]:[local_port]>;expires=200\n      ";
    // 2.1 and 2.2: a registration, and one more contact.
    let mut play = Play::default();
    challenged(&mut play, "secret-bob", desk);
    play.step("<recv response=\"200\"/>");
    challenged(&mut play, "secret-bob", second);
    play.step(&binding("bob-home@", true));
    play.run(&scene, "update", free_port(), &to_centre(&centre, &[])).all_well(1, s(30));
    assert_eq!(centre.items("/v1/agents")[0]["reachable"], true);
    // 2.3: what is registered.
    let mut play = Play::default();
    challenged(&mut play, "secret-bob", "");
    play.step(&binding("bob-home@", true));
    play.run(&scene, "query", free_port(), &to_centre(&centre, &[])).all_well(1, s(30));
    // 2.4: nothing any more.
    let mut play = Play::default();
    challenged(&mut play, "secret-bob", "Contact: *\n      Expires: 0\n      ");
    play.step(&binding("bob-home@", false));
    play.run(&scene, "cancel", free_port(), &to_centre(&centre, &[])).all_well(1, s(30));
    assert_eq!(centre.items("/v1/agents")[0]["reachable"], false);
    // 2.5: a wrong password.
    let mut play = Play::default();
    challenged(&mut play, "guessed", desk);
    play.step("<recv response=\"401\" optional=\"true\" next=\"1\"/>").step("<recv response=\"403\"/>");
    play.step("<label id=\"1\"/>");
    play.run(&scene, "wrong", free_port(), &to_centre(&centre, &[])).all_well(1, s(30));
    assert_eq!(centre.items("/v1/agents")[0]["reachable"], false);
    capture.nothing_malformed(10, 0);
    centre.finish();
}

#[test]
fn sessions_of_section_3() {
    let scene = Scene::new("rfc3665-3");
    let far = free_port();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket that says nothing");
    let dead = silent.local_addr().expect("its address").port();
    let rules = format!(
        "dead -> bridge sip:far@127.0.0.1:{dead} ring=20\n* -> bridge sip:far@127.0.0.1:{far} ring=20"
    );
    let setup = Setup { rules, rtp_ports: 100, ..Setup::default() };
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    let mut calls = 0;
    let mut cause = |expected: u64, by: &str| {
        calls += 1;
        let record = centre.records(calls).remove(0);
        assert_eq!(record["end"]["cause"], expected, "{record}");
        assert_eq!(record["end"]["by"], by, "{record}");
        centre.at_rest_within(s(40));
    };
    // 3.1, with SIPp's own two scenarios.
    let own = |name: &str| vec!["-sn".to_owned(), name.to_owned(), "-m".to_owned(), "1".to_owned()];
    let uas = Sipp::run(&scene, "uas", far, &[own("uas"), vec!["127.0.0.1".into()]].concat());
    let mut args = own("uac");
    args.splice(0..0, ["-d", "300", "-s", "100"].map(str::to_owned));
    args.push(format!("127.0.0.1:{}", centre.ports.centre));
    Sipp::run(&scene, "uac", free_port(), &args).all_well(1, s(20));
    uas.all_well(1, s(20));
    cause(16, "caller");
    // 3.7: a session changed by a re-INVITE, and then the far end hangs up.
    let mut play = Play::default();
    play.step("<recv request=\"INVITE\"/>").respond(180, "Ringing", false).respond(200, "OK", true);
    play.step("<recv request=\"ACK\"/>").step("<recv request=\"INVITE\" optional=\"true\" next=\"1\"/>");
    play.step("<recv request=\"BYE\" next=\"2\"/>").step("<label id=\"1\"/>");
    play.respond(200, "OK", true).step("<recv request=\"ACK\"/>").step("<recv request=\"BYE\"/>");
    play.step("<label id=\"2\"/>").respond(200, "OK", false);
    let there = far_end(&scene, "far-reinvite", far, &play);
    let mut play = Play::default();
    play.request("INVITE", REMOTE, TO, CONTACT, true).gets(200, "");
    play.request("ACK", "[next_url]", LAST_TO, "", false).step("<pause milliseconds=\"200\"/>");
    play.request("INVITE", "[next_url]", LAST_TO, CONTACT, true).gets(200, "");
    play.request("ACK", "[next_url]", LAST_TO, "", false).step("<pause milliseconds=\"200\"/>");
    play.request("BYE", "[next_url]", LAST_TO, "", false).gets(200, "");
    play.run(&scene, "reinvite", free_port(), &to_centre(&centre, &[])).all_well(1, s(20));
    there.all_well(1, s(20));
    cause(16, "caller");
    // 3.8: nobody answers, and the caller gives up.
    let mut play = Play::default();
    play.called(&[]).respond(180, "Ringing", false).asked("CANCEL", &[]).respond(200, "OK", false);
    play.terminated();
    let there = far_end(&scene, "far-cancel", far, &play);
    let mut play = Play::default();
    play.request("INVITE", REMOTE, TO, CONTACT, true).step("<recv response=\"100\" optional=\"true\"/>");
    play.step("<recv response=\"180\"/>").step("<pause milliseconds=\"300\"/>");
    play.request("CANCEL", REMOTE, TO, "", false).step("<recv response=\"200\"/>");
    play.step("<recv response=\"487\"/>").request("ACK", REMOTE, LAST_TO, "", false);
    play.run(&scene, "cancels", free_port(), &to_centre(&centre, &[])).all_well(1, s(20));
    there.all_well(1, s(20));
    cause(16, "caller");
    // 3.9 and 3.11: busy, and temporarily unavailable: the caller is told so.
    for (status, reason, q850) in [(486, "Busy Here", 17), (480, "Temporarily Unavailable", 18)] {
        let mut play = Play::default();
        play.step("<recv request=\"INVITE\"/>").respond(180, "Ringing", false);
        play.respond(status, reason, false).step("<recv request=\"ACK\"/>");
        let there = far_end(&scene, &format!("far-{status}"), far, &play);
        let mut play = Play::default();
        play.request("INVITE", REMOTE, TO, CONTACT, true).gets(status, "");
        play.request("ACK", REMOTE, LAST_TO, "", false);
        play.run(&scene, &format!("gets-{status}"), free_port(), &to_centre(&centre, &[])).all_well(1, s(20));
        there.all_well(1, s(20));
        cause(q850, "host");
    }
    // 3.10: no response at all.
    let began = std::time::Instant::now();
    let mut play = Play::default();
    play.request("INVITE", &REMOTE.replace("100", "dead"), &TO.replace("100", "dead"), CONTACT, true);
    play.step("<recv response=\"100\" optional=\"true\"/>");
    for status in [404, 480, 502, 503, 504] {
        play.step(&format!("<recv response=\"{status}\" optional=\"true\" next=\"1\"/>"));
    }
    play.step("<recv response=\"408\"/>").step("<label id=\"1\"/>");
    play.request("ACK", &REMOTE.replace("100", "dead"), LAST_TO, "", false);
    play.run(&scene, "silence", free_port(), &to_centre(&centre, &[])).all_well(1, s(20));
    assert!(began.elapsed() < s(6), "a silent target is given up after 2 s: {:?}", began.elapsed());
    eventually("its record is written", s(5), || (centre.items("/v1/records").len() == 6).then_some(()));
    capture.nothing_malformed(40, 0);
    centre.at_rest_within(s(40));
    centre.finish();
    drop(silent);
}

#[test]
fn a_session_by_ipv6() {
    let scene = Scene::new("ipv6");
    let far = free_port();
    let mut setup = Setup {
        rules: format!("* -> bridge sip:far@[::1]:{far} ring=20"),
        rtp_ports: 40,
        ..Setup::default()
    };
    for name in ["redirect", "centre"] {
        setup.edits.push((format!("\n{name} = \"127.0.0.1:"), format!("\n{name} = \"[::1]:")));
    }
    setup.edits.push(("127.0.0.0/8".into(), "::1".into()));
    let centre = Centre::start(&scene, &setup);
    let mut capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    let own = |name: &str, to: String| -> Vec<String> {
        ["-sn", name, "-m", "1", "-d", "300", "-s", "100"]
            .map(str::to_owned)
            .into_iter()
            .chain([to])
            .collect()
    };
    let uas = Sipp::run_at(&scene, "uas", "::1", far, &own("uas", "::1".into()));
    let to = format!("[::1]:{}", centre.ports.centre);
    Sipp::run_at(&scene, "uac", "::1", free_port(), &own("uac", to)).all_well(1, s(20));
    uas.all_well(1, s(20));
    let record = centre.record();
    assert_eq!((&record["end"]["by"], &record["end"]["cause"]), (&"caller".into(), &16.into()), "{record}");
    // Both descriptions of ours name an address of the same family, and nothing went by IPv4.
    let ours = capture.fields("sdp && ipv6 && sip", &["udp.srcport", "sdp.connection_info.address"]);
    let of_centre: Vec<&String> =
        ours.iter().filter(|l| l.starts_with(&format!("{}\t", centre.ports.centre))).collect();
    assert!(of_centre.len() >= 2 && of_centre.iter().all(|l| l.ends_with("\t::1")), "{ours:?}");
    assert!(capture.find("sip && ip").is_empty());
    capture.nothing_malformed(10, 0);
    centre.finish();
}

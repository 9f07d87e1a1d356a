//! Who must not get through, and what it may not cost others: scanners, guessers, floods of strangers and of
//! a trunk that is far above its limit.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cordboard_e2e::centre::Centre;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::{eventually, ms, place, s};
use serde_json::Value;

use crate::endings::redirect_of;
use crate::flow::caller;
use crate::transports::listener;

/// Where the scanner is; the carrier is everything else on loopback.
const SCANNER: &str = "127.66.6.6";

fn centre(scene: &Scene) -> Centre {
    let mut setup = Setup::default();
    setup.agent("alice");
    setup.edits.push(("sources = [\"127.0.0.0/8\"]".into(), "sources = [\"127.0.0.0/24\"]".into()));
    Centre::start(scene, &setup)
}

/// What a program of sipvicious prints.
fn sipvicious(program: &str, args: &[&str]) -> String {
    let mut command: Command = place::program(program, "sipvicious");
    let output = command.args(args).stdin(Stdio::null()).output().expect("it runs");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn banned(centre: &Centre) -> Vec<String> {
    centre.items("/v1/bans").iter().map(|b| b["source"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn sipvicious_gets_nothing_at_any_listener_and_calls_go_on() {
    let scene = Scene::new("sipvicious");
    let centre = centre(&scene);
    for method in ["OPTIONS", "INVITE", "REGISTER"] {
        for port in [centre.ports.redirect, centre.ports.centre] {
            assert!(banned(&centre).is_empty());
            let port = port.to_string();
            let found =
                sipvicious("svmap", &["-b", SCANNER, "-x", SCANNER, "-m", method, "-p", &port, "127.0.0.1"]);
            assert!(found.contains("found nothing"), "svmap has found us:\n{found}");
            assert_eq!(banned(&centre), [SCANNER]);
            let output = centre.cli(&["unban", SCANNER]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let port = centre.ports.centre.to_string();
    let _ = sipvicious("svmap", &["-b", SCANNER, "-x", SCANNER, "-p", &port, "127.0.0.1"]);
    let listed = centre.cli(&["bans", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed["items"][0]["source"], SCANNER);
    // Everybody else is served.
    let mut phone = caller(&centre, "4930111");
    phone.confirmed("c");
    phone.hang_up("c");
    phone.ended("c");
    let _ = centre.record();
    centre.finish();
}

/// svwar and svcrack call from 127.0.0.1 whatever they are told, so here that is nobody's address.
#[test]
fn sipvicious_learns_no_extension_and_no_password_even_when_it_guesses_right() {
    const ITS_OWN: &str = "127.0.0.1";
    let scene = Scene::new("sipvicious-guesses");
    let mut setup = Setup::default();
    setup.agent("alice");
    setup.edits.push(("sources = [\"127.0.0.0/8\"]".into(), "sources = [\"127.0.0.9\"]".into()));
    let centre = Centre::start(&scene, &setup);
    let port = centre.ports.centre.to_string();
    let words = |name: &str, words: &[&str]| {
        let file = scene.dir().join(name);
        std::fs::write(&file, words.join("\n") + "\n").expect("a dictionary");
        file.display().to_string()
    };
    let names = words("names", &["bob", "alice", "carol"]);
    let passwords = words("passwords", &["1234", "secret-alice", "password"]);
    let own = ["-p", &port, "--maximumtime", "3"];
    for (program, more) in [
        ("svwar", ["-d", &names, "-m", "REGISTER", "--force"].as_slice()),
        ("svwar", &["-d", &names, "-m", "INVITE", "--force"]),
        ("svcrack", &["-u", "alice", "-d", &passwords, "--domain", "acme"]),
    ] {
        let said = sipvicious(program, &[&own, more, &["127.0.0.1"]].concat());
        // A table of what was found has the extension between bars.
        let found = said.lines().any(|l| l.starts_with('|') && l.contains("alice"));
        assert!(!found && !said.contains("secret-alice"), "{program} has learnt something:\n{said}");
        assert_eq!(banned(&centre), [ITS_OWN], "{program}:\n{said}");
        assert!(centre.cli(&["unban", ITS_OWN]).status.success());
    }
    centre.finish();
}

#[test]
fn who_guesses_under_an_honest_name_is_banned_after_a_few_guesses() {
    let scene = Scene::new("guesser");
    let centre = centre(&scene);
    let socket = UdpSocket::bind((SCANNER, 0)).expect("loopback has room");
    socket.set_read_timeout(Some(ms(300))).expect("a timeout");
    let to = ("127.0.0.1", centre.ports.centre);
    let port = socket.local_addr().expect("its address").port();
    let mut answered = 0;
    for guess in 0..40 {
        let text = format!(
            "REGISTER sip:acme SIP/2.0\r\nVia: SIP/2.0/UDP {SCANNER}:{port};rport;branch=z9hG4bKg{guess}\r\nMax-Forwards: 70\r\n\
             From: <sip:guess{guess}@acme>;tag=g{guess}\r\nTo: <sip:guess{guess}@acme>\r\nCall-ID: g{guess}\r\nCSeq: 1 REGISTER\r\n\
             Contact: <sip:g@{SCANNER}:{port}>\r\nUser-Agent: Honest Phone 1.0\r\nContent-Length: 0\r\n\r\n"
        );
        socket.send_to(text.as_bytes(), to).expect("it is sent");
        let mut bytes = [0; 2_048];
        match socket.recv(&mut bytes) {
            Ok(_) => answered += 1,
            Err(_) => break,
        }
    }
    assert!((5..=15).contains(&answered), "{answered} of 40 guesses were answered");
    assert_eq!(banned(&centre), [SCANNER]);
    centre.finish();
}

#[test]
fn a_ban_for_what_came_by_udp_ends_connections_and_an_unban_lets_them_in_again() {
    let scene = Scene::new("banned-connections");
    let tcp = free_port();
    let mut setup = Setup::default();
    setup.agent("alice");
    setup.edits.push(("sources = [\"127.0.0.0/8\"]".into(), "sources = [\"127.0.0.9\"]".into()));
    setup.more = listener("tcp", "127.0.0.1", tcp, "");
    let centre = Centre::start(&scene, &setup);
    let options = |agent: &str, transport: &str| {
        format!(
            "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:9;rport;branch=z9hG4bK{agent}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@127.0.0.1>;tag=a\r\nTo: <sip:127.0.0.1>\r\nCall-ID: {agent}{transport}\r\nCSeq: 1 OPTIONS\r\n\
             User-Agent: {agent}\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", tcp)).expect("the kernel takes it");
        stream.set_read_timeout(Some(s(5))).expect("a timeout");
        stream
    };
    let answer = |stream: &mut TcpStream| {
        // The kernel may say already that nobody is there.
        let _ = stream.write_all(options("phone", "TCP").as_bytes());
        let mut bytes = [0; 4_096];
        match stream.read(&mut bytes) {
            Ok(n) => Some(n).filter(|n| *n > 0),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
    };
    let mut open = connect();
    assert!(answer(&mut open).is_some(), "a stranger who asks gets an answer");
    let scanner = UdpSocket::bind(("127.0.0.1", 0)).expect("loopback has room");
    let to = ("127.0.0.1", centre.ports.centre);
    scanner.send_to(options("friendly-scanner", "UDP").as_bytes(), to).expect("it is sent");
    eventually("the ban", s(5), || (banned(&centre) == ["127.0.0.1"]).then_some(()));
    let ended = open.read(&mut [0; 16]);
    assert!(matches!(&ended, Ok(0)), "what is open ends without another word: {ended:?}");
    assert_eq!(answer(&mut connect()), None, "and nothing new is let in");
    assert!(centre.cli(&["unban", "127.0.0.1"]).status.success());
    assert!(answer(&mut connect()).is_some());
    centre.finish();
}

#[test]
fn a_flood_of_a_stranger_is_cut_and_costs_no_trunk_a_call() {
    let scene = Scene::new("flood");
    let centre = centre(&scene);
    let (socket, to) = (UdpSocket::bind((SCANNER, 0)).expect("room"), ("127.0.0.1", centre.ports.centre));
    let flood = std::thread::spawn(move || {
        for i in 0..40_000_u32 {
            let text = format!(
                "OPTIONS sip:100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {SCANNER};rport;branch=z9hG4bKf{i}\r\nMax-Forwards: 70\r\n\
                 From: <sip:f@x>;tag={i}\r\nTo: <sip:100@127.0.0.1>\r\nCall-ID: f{i}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            let _ = socket.send_to(text.as_bytes(), to);
            if i % 20 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let mut phone = caller(&centre, "4930111");
    phone.confirmed("c");
    phone.hang_up("c");
    phone.ended("c");
    let _ = centre.record();
    flood.join().expect("it floods");
    eventually("most of the flood is shed", s(5), || {
        let text = centre.get("/metrics").ok()?.text();
        let shed =
            text.lines().find_map(|l| l.strip_prefix("cordboard_gate_packets_total{verdict=\"shed\"} "))?;
        (shed.parse::<f64>().ok()? > 20_000.0).then_some(())
    });
    assert!(banned(&centre).is_empty(), "a flood alone is no offence: its sender's address may be forged");
    centre.finish();
}

#[test]
fn a_trunk_that_floods_gets_503_with_a_time_to_come_back_and_takes_nobody_s_calls() {
    let scene = Scene::new("trunk-flood");
    let mut setup = Setup::default();
    // Far more than a second's calls come from it; both its limits are small.
    setup.edits.push((
        "[[trunks]]\nname = \"carrier\"\nsources = [\"127.0.0.0/8\"]".into(),
        format!(
            "[[trunks]]\nname = \"flood\"\nsources = [\"{SCANNER}\"]\nmax_calls = 10\nmax_calls_per_s = 10\n\n\
             [[trunks]]\nname = \"carrier\"\nsources = [\"127.0.0.0/8\"]"
        ),
    ));
    let centre = Centre::start(&scene, &setup);
    let scenario = place::beside("sipp/follower.xml").display().to_string();
    let callers = |name: &str| {
        let args = ["-sf", &scenario, "-s", "100", "-m", "100", "-r", "20", "-recv_timeout", "20000"];
        let mut args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        args.push(redirect_of(&centre).to_string());
        let began = Instant::now();
        Sipp::run(&scene, name, free_port(), &args).all_well(100, s(60));
        began.elapsed()
    };
    let alone = callers("alone");

    let socket = UdpSocket::bind((SCANNER, 0)).expect("room");
    socket.set_read_timeout(Some(ms(500))).expect("a timeout");
    let (sender, to) = (socket.try_clone().expect("a second handle"), centre.ports.centre);
    let flooding = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let goes_on = flooding.clone();
    let flood = std::thread::spawn(move || {
        let (mut sent, port) = (0_u64, sender.local_addr().expect("its address").port());
        while goes_on.load(std::sync::atomic::Ordering::Relaxed) {
            for _ in 0..40 {
                let text = format!(
                    "INVITE sip:100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {SCANNER}:{port};rport;branch=z9hG4bKt{sent}\r\nMax-Forwards: 70\r\n\
                     From: <sip:f@x>;tag={sent}\r\nTo: <sip:100@127.0.0.1>\r\nCall-ID: t{sent}\r\nCSeq: 1 INVITE\r\n\
                     Contact: <sip:f@{SCANNER}:{port}>\r\nContent-Length: 0\r\n\r\n"
                );
                let _ = sender.send_to(text.as_bytes(), ("127.0.0.1", to));
                sent += 1;
            }
            std::thread::sleep(ms(1));
        }
        sent
    });
    let answers = std::thread::spawn(move || {
        let (mut refused, mut wrong, mut bytes) = (0_u64, Vec::new(), [0; 4_096]);
        while let Ok(length) = socket.recv(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.starts_with("SIP/2.0 503 ") && text.contains("\r\nRetry-After: ") {
                refused += 1;
            } else if !["SIP/2.0 1", "SIP/2.0 2", "BYE ", "OPTIONS "].iter().any(|ok| text.starts_with(ok)) {
                wrong.push(text.lines().next().unwrap_or_default().to_owned());
            }
        }
        (refused, wrong)
    });
    let flooded = callers("flooded");
    flooding.store(false, std::sync::atomic::Ordering::Relaxed);
    let sent = flood.join().expect("it floods");
    let (refused, wrong) = answers.join().expect("it counts");
    eprintln!(
        "{sent} INVITEs of the flood in {flooded:?}, {refused} answered by 503, {} shed at the door; 100 calls took {alone:?} alone",
        centre.metric("cordboard_shard_shed_total")
    );
    assert!(wrong.is_empty(), "{:?}", &wrong[..wrong.len().min(5)]);
    assert!(refused > 1_000, "{refused} of {sent}");
    // The flood's own calls were never acknowledged: they go after 32 s.
    centre.at_rest_within(s(60));
    centre.finish();
}

//! The redirect role in front of other nodes: who is named, in which order, and for how long.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::raw::RawUa;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::{eventually, ms, place, s};
use serde_json::json;

use crate::endings::redirect_of;
use crate::flow::{answers, talk};

/// A process whose redirect role names others only.
fn front(scene: &Scene, nodes: &[(&str, u16, u32)], more: &str) -> Centre {
    let mut redirect = format!("name_self = false\n{more}\n");
    for (id, port, capacity) in nodes {
        redirect.push_str(&format!(
            "[[redirect.nodes]]\nid = \"{id}\"\naddress = \"127.0.0.1:{port}\"\ncapacity = {capacity}\n"
        ));
    }
    Centre::start(scene, &Setup { redirect, ..Setup::default() })
}

fn all_named(front: &Centre, count: usize) {
    eventually(&format!("{count} nodes may be named"), s(10), || {
        (front.metric("cordboard_redirect_nodes") == count as f64).then_some(())
    });
}

/// The ports of the contacts of a 302, best first; none for a 503.
fn named(ua: &mut RawUa, front: &Centre) -> Vec<u16> {
    let mut dialog = ua.invite(redirect_of(front), "100", "4930111");
    let answer = ua.expect("an answer", s(5), |m| m.status() >= 300);
    ua.ack(&mut dialog, &answer);
    let contacts: Vec<u16> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "contact")
        .map(|(_, value)| {
            assert!(value.starts_with("<sip:100@127.0.0.1:") && value.contains(">;q="), "{value}");
            let port = value.trim_start_matches("<sip:100@127.0.0.1:");
            port.split('>').next().and_then(|p| p.parse().ok()).expect("a port")
        })
        .collect();
    assert_eq!(answer.status(), if contacts.is_empty() { 503 } else { 302 });
    contacts
}

/// A node of a few lines: answers OPTIONS by a status that the test sets, everything else with 486, and
/// knows when each INVITE came. For moments that no other program lets us choose.
struct Node {
    port: u16,
    status: Arc<AtomicU16>,
    invited: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Says nothing at all.
const SILENT: u16 = 0;

impl Node {
    fn start(status: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(ms(50))).expect("a timeout");
        let port = socket.local_addr().expect("its address").port();
        let (shown, stop) = (Arc::new(AtomicU16::new(status)), Arc::new(AtomicBool::new(false)));
        let invited: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let (ends, of, at) = (stop.clone(), shown.clone(), invited.clone());
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 65_536];
            while !ends.load(Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                let invite = text.starts_with("INVITE");
                if invite {
                    at.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                }
                let options = of.load(Relaxed);
                if options == SILENT || text.starts_with("ACK") {
                    continue;
                }
                let kept: String = text
                    .lines()
                    .filter(|l| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|n| l.starts_with(n)))
                    .map(|l| format!("{l}\r\n"))
                    .collect();
                let to = text.lines().find(|l| l.starts_with("To:")).unwrap_or_default();
                let status = if invite { 486 } else { options };
                let answer = format!("SIP/2.0 {status} So\r\n{kept}{to};tag=n\r\nContent-Length: 0\r\n\r\n");
                let _ = socket.send_to(answer.as_bytes(), from);
            }
        });
        Self { port, status: shown, invited, stop, thread: Some(thread) }
    }

    fn first_invite(&self) -> Option<Instant> {
        self.invited.lock().unwrap_or_else(PoisonError::into_inner).first().copied()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How much later than asked for a thread of this machine wakes up, at worst, while it is measured.
struct Slack {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Slack {
    fn measure() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while !ends.load(Relaxed) {
                let before = Instant::now();
                std::thread::sleep(ms(1));
                worst = worst.max(before.elapsed() - ms(1));
            }
            worst
        });
        Self { stop, thread }
    }

    fn end(self) -> Duration {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("it sleeps")
    }
}

#[test]
fn a_retransmitted_invite_gets_the_same_octets_at_every_door() {
    let scene = Scene::new("same-octets");
    let (a, b) = (Node::start(200), Node::start(200));
    let front = front(&scene, &[("a", a.port, 100), ("b", b.port, 100)], "threads = 3");
    all_named(&front, 2);
    let invite = |branch: &str| {
        format!(
            "INVITE sip:100@127.0.0.1:{0} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5999;rport;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:1@127.0.0.1>;tag=a\r\nTo: <sip:100@127.0.0.1:{0}>\r\nCall-ID: same@{branch}\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:1@127.0.0.1:5999>\r\nContent-Length: 0\r\n\r\n",
            front.ports.redirect
        )
    };
    let ask = |socket: &UdpSocket, text: &str| {
        socket.send_to(text.as_bytes(), redirect_of(&front)).expect("it is sent");
        let mut bytes = [0; 2_048];
        let length = socket.recv(&mut bytes).expect("an answer");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut different = BTreeSet::new();
    for call in 0..20 {
        let text = invite(&format!("call{call}"));
        let mut answers = BTreeSet::new();
        // From several ports, so that the system deals them out to several doors.
        for _ in 0..6 {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            socket.set_read_timeout(Some(s(5))).expect("a timeout");
            let first = ask(&socket, &text);
            assert!(first.starts_with("SIP/2.0 302 Moved Temporarily\r\n"), "{first}");
            assert_eq!(ask(&socket, &text), first, "the same sender, the same octets");
            // T1 later, when beats have come in between.
            if call == 0 {
                std::thread::sleep(ms(600));
                assert_eq!(ask(&socket, &text), first);
            }
            let port = socket.local_addr().expect("its address").port();
            assert!(first.contains(&format!(";rport={port}")), "{first}");
            answers.insert(first.replace(&format!(";rport={port}"), ";rport"));
        }
        assert_eq!(answers.len(), 1, "{answers:#?}");
        different.extend(answers);
    }
    assert_eq!(different.len(), 20, "another call, another answer");
    front.finish();
}

#[test]
fn nodes_come_first_in_proportion_to_their_weights() {
    let scene = Scene::new("redirect-weights");
    let (a, b) = (Node::start(200), Node::start(200));
    let front = front(&scene, &[("a", a.port, 300), ("b", b.port, 100)], "");
    all_named(&front, 2);
    let mut ua = RawUa::new();
    let first_a = (0..600).filter(|_| named(&mut ua, &front)[0] == a.port).count();
    assert!((405..495).contains(&first_a), "{first_a} of 600; three quarters are 450");
    front.finish();
}

#[test]
fn a_centre_elsewhere_reports_its_calls_and_leaves_the_answers_when_it_drains() {
    let scene = Scene::new("redirect-report");
    let mut small = Setup::default();
    small.limit("max_calls", "20");
    let folder = scene.dir().join("small");
    std::fs::create_dir_all(&folder).expect("a folder");
    let small = Centre::start_in(&folder, &small);
    let large = Node::start(200);
    // Both are configured alike: it is the small centre's own report that makes it small.
    let front = front(&scene, &[("small", small.ports.centre, 1_000), ("large", large.port, 1_000)], "");
    all_named(&front, 2);
    let mut ua = RawUa::new();
    let first_small = (0..400).filter(|_| named(&mut ua, &front)[0] == small.ports.centre).count();
    assert!((1..32).contains(&first_small), "{first_small} of 400; 20 of 1,020 are 8");
    assert_eq!(named(&mut ua, &front).len(), 2);

    small.post("/v1/drain", &json!({}));
    // The next OPTIONS, half a second away at most, is answered with 503.
    let began = Instant::now();
    eventually("a draining node is not named", s(2), || {
        (named(&mut ua, &front) == [large.port]).then_some(())
    });
    assert!(began.elapsed() < ms(1_500), "{:?}", began.elapsed());
    for _ in 0..50 {
        assert_eq!(named(&mut ua, &front), [large.port]);
    }
    large.status.store(503, Relaxed);
    eventually("without a node it is 503", s(2), || named(&mut ua, &front).is_empty().then_some(()));
    large.status.store(404, Relaxed);
    eventually("whoever answers is there", s(2), || (named(&mut ua, &front) == [large.port]).then_some(()));
    front.finish();
}

#[test]
fn somebody_else_s_call_servers_share_the_calls_and_a_dead_one_is_gone_within_two_seconds() {
    let scene = Scene::new("redirect-foreign");
    let ports = [free_port(), free_port()];
    let foreign = |i: usize| {
        let scenario = place::beside("sipp/foreign.xml").display().to_string();
        Sipp::run(&scene, &format!("foreign{i}"), ports[i], &["-sf".into(), scenario, "127.0.0.1".into()])
    };
    let (first, second) = (foreign(0), foreign(1));
    let front = front(&scene, &[("first", ports[0], 100), ("second", ports[1], 100)], "");
    all_named(&front, 2);
    let callers = |name: &str, calls: u32| {
        let scenario = place::beside("sipp/follower.xml").display().to_string();
        let args =
            ["-sf", &scenario, "-s", "100", "-m", &calls.to_string(), "-r", "50", "-recv_timeout", "10000"];
        let mut args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        args.push(redirect_of(&front).to_string());
        Sipp::run(&scene, name, free_port(), &args).all_well(u64::from(calls), s(30));
    };
    callers("both", 100);

    let slack = Slack::measure();
    drop(second);
    let died = Instant::now();
    let mut ua = RawUa::new();
    let gone = loop {
        let asked = Instant::now();
        if !named(&mut ua, &front).contains(&ports[1]) {
            break asked - died;
        }
        assert!(died.elapsed() < s(10), "a dead node is still named");
        std::thread::sleep(ms(5));
    };
    let slack = slack.end();
    eprintln!("the dead node left the answers {gone:?} after its death; slack {slack:?}");
    assert!(gone <= s(2) + slack + ms(10), "{gone:?}, with a slack of {slack:?}");
    callers("survivor", 50);
    drop(first);
    front.finish();
}

#[test]
fn a_call_reaches_somebody_else_s_call_server_with_audio_both_ways() {
    let scene = Scene::new("redirect-foreign-audio");
    let port = free_port();
    let mut server = Phone::at("server", port, &answers());
    let front = front(&scene, &[("server", port, 100)], "");
    all_named(&front, 1);
    let mut phone = crate::flow::caller(&front, "4930111");
    phone.confirmed("c");
    talk(&mut phone, "c", &mut server, "server-1");
    phone.hang_up("c");
    phone.ended("c");
    assert_eq!(server.ended("server-1")["status"], 200);
    front.finish();
}

#[test]
fn our_client_tries_the_next_contact_two_seconds_after_a_silent_one() {
    let scene = Scene::new("redirect-silent");
    let (dead, live) = (Node::start(SILENT), Node::start(200));
    // The silent one is not asked, so it is named, and first.
    let nodes = format!(
        "name_self = false\n[[redirect.nodes]]\nid = \"dead\"\naddress = \"127.0.0.1:{}\"\ncapacity = 100000\nprobe = false\n\
         [[redirect.nodes]]\nid = \"live\"\naddress = \"127.0.0.1:{}\"\ncapacity = 1\n",
        dead.port, live.port
    );
    let behind = Centre::start(&scene, &Setup { redirect: nodes, ..Setup::default() });
    all_named(&behind, 2);
    let rules = format!("* -> bridge sip:100@127.0.0.1:{} ring=20", behind.ports.redirect);
    let folder = scene.dir().join("client");
    std::fs::create_dir_all(&folder).expect("a folder");
    let client = Centre::start_in(&folder, &Setup { rules, ..Setup::default() });
    let mut ua = RawUa::new();
    let slack = Slack::measure();
    let mut dialog = ua.call(redirect_of(&client), "100", "4930111");
    let end = ua.expect("the end", s(10), |m| m.status() >= 300 && m.header("cseq").starts_with("2 "));
    ua.ack(&mut dialog, &end);
    let slack = slack.end();
    let (tried, next) = (dead.first_invite().expect("the first"), live.first_invite().expect("the next"));
    let gap = next - tried;
    eprintln!("the next contact was tried {gap:?} after the silent one; slack {slack:?}");
    assert!(gap >= ms(1_990), "{gap:?}: the first had less than its two seconds");
    assert!(gap <= s(2) + slack + ms(10), "{gap:?}, with a slack of {slack:?}");
    client.finish();
    behind.finish();
}

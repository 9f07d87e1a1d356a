//! What no honest peer sends: datagrams, API requests and components. Each gets a clear error or
//! silence, nothing goes down, and a call works afterwards.

use std::net::SocketAddr;

use cordboard_e2e::centre::Centre;
use cordboard_e2e::http;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::raw::RawUa;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::{READER, Setup, TOKEN};
use cordboard_e2e::{component, ms, place, s};

use crate::endings::redirect_of;
use crate::flow::{answers, caller, talk};

/// A call by two phones, tones both ways: the centre lives.
fn a_call_works(centre: &Centre) {
    let mut alice = Phone::agent(centre, "alice", answers());
    centre.agent("alice", "login");
    let mut phone = caller(centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    alice.hang_up("alice-1");
    assert_eq!(alice.ended("alice-1")["status"], 200);
    assert_eq!(phone.ended("c")["status"], 200);
    centre.agent("alice", "logout");
}

/// Small numbers that look random, the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// An INVITE to begin with, whole.
fn invite(ua: &RawUa, to: SocketAddr, n: usize) -> String {
    let sdp = ua.sdp();
    format!(
        "INVITE sip:100@{to} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{0};branch=z9hG4bK-m{n};rport\r\nMax-Forwards: 70\r\nFrom: <sip:x@127.0.0.1:{0}>;tag=m{n}\r\nTo: <sip:100@{to}>\r\nCall-ID: malformed-{n}\r\nCSeq: 1 INVITE\r\nContact: <sip:x@127.0.0.1:{0}>\r\nContent-Type: application/sdp\r\nContent-Length: {1}\r\n\r\n{sdp}",
        ua.port,
        sdp.len(),
    )
}

#[test]
fn malformed_datagrams_take_nothing_down() {
    let scene = Scene::new("malformed-sip");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let ua = RawUa::new();
    let places = [redirect_of(&centre), SocketAddr::from(([127, 0, 0, 1], centre.ports.centre))];
    let mut sent = 0;
    for to in places {
        let whole = invite(&ua, to, 0);
        let swap = |from: &str, into: &str| whole.replacen(from, into, 1).into_bytes();
        // After RFC 4475, section 3.1.2 and 3.3: what a parser meets on a bad day.
        let wrong: Vec<Vec<u8>> = vec![
            swap("SIP/2.0\r\n", "SIP/7.0\r\n"),
            swap("INVITE sip:100", "INVITE  sip:100"),
            swap("INVITE sip:", "INVITE <sip:"),
            swap("CSeq: 1 INVITE", "CSeq: 36893488147419103232 INVITE"),
            swap("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"),
            swap("CSeq: 1 INVITE\r\n", ""),
            swap("Content-Length: ", "Content-Length: 99999"),
            swap("Content-Length: ", "Content-Length: -"),
            swap("Max-Forwards: 70", "Max-Forwards: 0"),
            swap("Max-Forwards: 70", "Max-Forwards: 300"),
            swap("Max-Forwards: 70", "Max-Forwards: \u{0}"),
            swap("Via: SIP/2.0/UDP", "Via: SIP/2.0/UDP;;;,,,"),
            swap("Via: ", "Via:\r\n\r\n"),
            swap("From: <sip:x", "From: \"unterminated <sip:x"),
            swap("To: <sip:100", "To: <<<<sip:100"),
            swap("tag=m0", "tag="),
            swap("Call-ID: malformed-0\r\n", ""),
            swap("Call-ID: malformed-0", &format!("Call-ID: {}", "x".repeat(60_000))),
            swap("Contact: <", "Contact: *, <"),
            swap("Contact: <sip:x@127.0.0.1", "Contact: <sip:x@999.999.999.999"),
            swap("m=audio 9", "m=audio 70000"),
            swap("m=audio 9 RTP/AVP 0 101", "m=audio 9 RTP/AVP"),
            swap("v=0\r\n", "v=9\r\n"),
            swap("c=IN IP4 127.0.0.1", "c=IN IP6 not-an-address"),
            swap("application/sdp", "application/nonsense"),
            swap("INVITE sip:100", "NEWMETHOD sip:100"),
            swap("sip:100@", "tel:100;"),
            swap("sip:100@", "http://"),
            b"SIP/2.0 200 OK\r\n\r\n".to_vec(),
            b"SIP/2.0 999 Nothing\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\nCSeq: 1 INVITE\r\n\r\n".to_vec(),
            b"ACK sip:x SIP/2.0\r\n\r\n".to_vec(),
            b"BYE sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKy\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: none\r\nCSeq: 1 BYE\r\n\r\n".to_vec(),
            b"\r\n\r\n".to_vec(),
            b"\0".to_vec(),
            vec![b'A'; 65_000],
            vec![b'\n'; 2_000],
        ];
        for datagram in wrong {
            ua.send(to, &datagram[..datagram.len().min(65_000)]);
            sent += 1;
        }
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
        // Cut off anywhere.
        for length in (0..whole.len()).step_by(7) {
            ua.send(to, &whole.as_bytes()[..length]);
            sent += 1;
        }
        // A byte wrong anywhere, and noise.
        for n in 0..1_500 {
            let mut bytes = invite(&ua, to, n + 1).into_bytes();
            if n % 3 == 0 {
                bytes = (0..numbers.next() % 1_200).map(|_| numbers.next() as u8).collect();
            } else {
                for _ in 0..=numbers.next() % 6 {
                    let at = (numbers.next() as usize) % bytes.len();
                    bytes[at] = numbers.next() as u8;
                }
            }
            ua.send(to, &bytes);
            sent += 1;
            if n % 100 == 0 {
                std::thread::sleep(ms(10));
            }
        }
    }
    // RTP ports too, open or not.
    let mut numbers = Numbers(7);
    for n in 0..500_u16 {
        let noise: Vec<u8> = (0..numbers.next() % 300).map(|_| numbers.next() as u8).collect();
        ua.send(SocketAddr::from(([127, 0, 0, 1], centre.ports.rtp.0 + n % 40)), &noise);
    }
    println!("{sent} malformed datagrams sent");
    std::thread::sleep(ms(500));
    // Mutations that were still INVITEs have made calls that nobody ACKs or ends: an operator clears them.
    for call in centre.items("/v1/calls") {
        let _ = centre.request(
            "POST",
            &format!("/v1/calls/{}/clear", call["interaction"].as_str().unwrap_or_default()),
            b"",
        );
    }
    assert_eq!(centre.get("/v1/healthz").map(|a| a.status).unwrap_or(0), 200);
    a_call_works(&centre);
    // An answered call whose ACK never comes is ended after 64*T1 (RFC 3261 13.3.1.4).
    centre.at_rest_within(s(75));
    centre.finish();
}

/// Method, path, Authorization, body, and the statuses that may answer.
type Case<'a> = (&'a str, &'a str, Option<&'a str>, &'a [u8], &'a [u16]);

#[test]
fn malformed_api_requests_get_problems_in_words() {
    let scene = Scene::new("malformed-api");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let operator = format!("Bearer {TOKEN}");
    let reader = format!("Bearer {READER}");
    let huge = vec![b'x'; 4 << 20];
    let cases: Vec<Case<'_>> = vec![
        ("GET", "/v1/calls", None, b"", &[401]),
        ("GET", "/v1/calls", Some("Bearer wrong"), b"", &[401]),
        ("GET", "/v1/calls", Some("Basic eDp5"), b"", &[401]),
        ("POST", "/v1/agents/acme/alice/login", Some(&reader), b"{}", &[403]),
        ("POST", "/v1/agents/acme/alice/login", Some(&operator), b"{", &[400]),
        ("POST", "/v1/agents/acme/alice/login", Some(&operator), b"[1,2]", &[400]),
        ("POST", "/v1/agents/acme/alice/login", Some(&operator), b"{\"redy\": true}", &[400]),
        ("POST", "/v1/agents/acme/alice/login", Some(&operator), b"\xff\xfe", &[400]),
        ("POST", "/v1/agents/acme/alice/login", Some(&operator), &huge, &[400, 413]),
        ("POST", "/v1/agents/acme/alice/dance", Some(&operator), b"", &[404]),
        ("POST", "/v1/agents/acme/nobody/login", Some(&operator), b"", &[404]),
        ("POST", "/v1/agents/nowhere/alice/login", Some(&operator), b"", &[404]),
        ("GET", "/v1/calls/not-an-id", Some(&operator), b"", &[400]),
        ("GET", "/v1/calls/01ARZ3NDEKTSV4RRFFQ69G5FAV", Some(&operator), b"", &[404]),
        ("POST", "/v1/calls/01ARZ3NDEKTSV4RRFFQ69G5FAV/clear", Some(&operator), b"", &[404]),
        ("GET", "/v1/records?limit=many", Some(&operator), b"", &[400]),
        ("GET", "/v1/records?limit=0", Some(&operator), b"", &[400]),
        ("GET", "/v1/records?nonsense=1", Some(&operator), b"", &[400]),
        ("GET", "/v1/records/export?format=xml", Some(&operator), b"", &[400]),
        ("GET", "/v1/nothing", Some(&operator), b"", &[404]),
        ("GET", "/../../etc/passwd", Some(&operator), b"", &[400, 404]),
        ("PATCH", "/v1/calls", Some(&operator), b"", &[405]),
        ("PUT", "/v1/plugins/ivr-support", Some(&operator), b"", &[400]),
        ("PUT", "/v1/plugins/ivr-suport", Some(&operator), b"\0asm", &[404]),
        ("PUT", "/v1/plugins/ivr-support", Some(&operator), b"no component", &[422]),
        ("DELETE", "/v1/dead-letters/x", Some(&operator), b"", &[400]),
        ("GET", "/v1/dead-letters?limit=x", Some(&operator), b"", &[400]),
    ];
    for (method, path, token, body, expected) in cases {
        let headers: Vec<(&str, &str)> = token.iter().map(|t| ("Authorization", *t)).collect();
        let answer = match http::request(centre.api(), method, path, &headers, body) {
            Ok(answer) => answer,
            // A body that is too long may be cut off by a reset after the answer.
            Err(_) if body.len() > 1 << 20 => continue,
            Err(error) => panic!("{method} {path}: {error}"),
        };
        assert!(
            expected.contains(&answer.status),
            "{method} {path} gave {}: {}",
            answer.status,
            answer.text()
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{method} {path}: {}",
            answer.text()
        );
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status);
        assert!(problem["detail"].as_str().is_some_and(|d| d.len() > 10), "{problem}");
    }
    // No HTTP at all.
    for noise in [&b"\0\0\0\0"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", &[b'x'; 100_000]] {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(centre.api()).expect("it listens");
        let _ = stream.write_all(noise);
    }
    assert_eq!(centre.agent_state("alice").0, "logged-out", "nothing has changed");
    a_call_works(&centre);
    centre.finish();
}

#[test]
fn malformed_components_are_refused_with_what_is_missing() {
    let scene = Scene::new("malformed-components");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let whole = std::fs::read(place::component("ivr-support")).expect("the component");
    let file = |name: &str, bytes: &[u8]| {
        let path = scene.dir().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    for byte in &mut damaged[middle..middle + 400] {
        *byte ^= 0x5A;
    }
    let cases = [
        (place::component("misbehave-cti"), "ivr-script"),
        (place::component("router-numbers"), "ivr-script"),
        (file("truncated.wasm", &whole[..whole.len() / 3]), ""),
        (file("damaged.wasm", &damaged), ""),
        (file("core.wasm", b"\0asm\x01\0\0\0"), "component"),
        (file("noise.wasm", &[0x42; 5_000]), ""),
        (file("empty.wasm", b""), "empty"),
    ];
    let before = centre.digests();
    for (path, expected) in &cases {
        let load = centre.cli(&["plugin", "load", &path.display().to_string(), "--name", "ivr-support"]);
        let said = String::from_utf8_lossy(&load.stderr).into_owned();
        assert_eq!(load.status.code(), Some(1), "{}: {load:?}", path.display());
        assert!(
            said.len() > 30 && said.contains(expected),
            "{}: {expected:?} is not in: {said}",
            path.display()
        );
        println!("{}: {}", path.file_name().unwrap_or_default().to_string_lossy(), said.trim());
    }
    let after = centre.digests();
    assert_eq!(before, after, "what was in service stays");
    let good = component::version(scene.dir(), "ivr-support", 1);
    assert!(
        centre
            .cli(&["plugin", "load", &good.display().to_string(), "--name", "ivr-support"])
            .status
            .success()
    );
    a_call_works(&centre);
    centre.finish();
}

#[test]
fn malformed_configurations_are_refused_with_file_line_and_what_was_expected() {
    let scene = Scene::new("malformed-configurations");
    let mut setup = Setup::default();
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let right = std::fs::read_to_string(centre.config()).expect("the configuration");
    let folder = scene.dir();
    for (from, into, expected) in [
        ("node = \"e2e\"", "node = ", "not TOML"),
        ("[listen]", "[listne]", "listen"),
        (
            "policy-longest-idle\"\n\n[[tenants.agents]]",
            "policy-longest-idel\"\n\n[[tenants.agents]]",
            "policy-longest-idle",
        ),
        ("max_misses = 2", "max_misses = 0", "1 to 100"),
        ("max_misses = 2", "max_misses = \"two\"", "a whole number"),
        ("sources = [\"127.0.0.0/8\"]", "sources = [\"127.0.0.0/99\"]", "network"),
        ("music = \"music\"", "music = \"musik\"", "there is no prompt"),
        ("script = \"ivr-support\"", "script = \"router-numbers\"", "a `ivr-script` is needed here"),
        ("skills = { en = 5", "skills = { de = 5", "there is no skill `de`"),
    ] {
        assert!(right.contains(from), "{from:?} is not in the configuration:\n{right}");
        let wrong = right.replacen(from, into, 1);
        let file = folder.join("wrong.toml");
        std::fs::write(&file, &wrong).expect("written");
        let out =
            std::process::Command::new(place::binary()).arg("check").arg(&file).output().expect("check runs");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{into:?} was taken: {out:?}");
        assert!(
            said.contains("wrong.toml:") && said.contains(expected),
            "{into:?}: {expected:?} is not in: {said}"
        );
        let line = wrong[..wrong.find(into.lines().next().unwrap_or(into)).unwrap_or(0)].lines().count();
        let near = (line.saturating_sub(2)..=line + 2).any(|l| said.contains(&format!("wrong.toml:{l}:")));
        assert!(near, "{into:?}: the line is not near {line}: {said}");
    }
    let out = std::process::Command::new(place::binary())
        .arg("check")
        .arg(centre.config())
        .output()
        .expect("check runs");
    assert!(out.status.success(), "{out:?}");
    centre.finish();
}

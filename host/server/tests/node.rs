//! A whole node in this process, without plugins: the API's doors, a reload, agents, a drain, and a
//! restart that finds what the former life has decided.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cordboard::api::openapi::ROUTES;
use cordboard::config::{self, Overrides};
use cordboard::node::{Node, ServeOptions};
use sha2::{Digest, Sha256};

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn hex(token: &str) -> String {
    Sha256::digest(token).iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes a configuration into the folder.
fn write_config(folder: &Path, centre: u16, redirect: u16, more: &str) {
    let text = format!(
        r#"
serialise_bus = true
[listen]
redirect = "127.0.0.1:{redirect}"
centre = "127.0.0.1:{centre}"
[media]
ports = "35000-35399"
[limits]
drain_timeout_s = 1
max_scripts = 100
[api]
listen = "127.0.0.1:0"
[[api.tokens]]
name = "boss"
sha256 = "{}"
[[api.tokens]]
name = "wallboard"
may = "read"
sha256 = "{}"
[log]
level = "warn"
[[trunks]]
name = "loopback"
sources = ["127.0.0.0/8"]
tenant = "acme"
[[tenants]]
name = "acme"
numbers = ["100"]
[tenants.fallback]
workgroup = "support"
[[tenants.workgroups]]
name = "support"
[[tenants.agents]]
name = "alice"
phone = {{ address = "sip:alice@127.0.0.1:9" }}
workgroups = ["support"]
{more}
"#,
        hex("secret"),
        hex("look"),
    );
    std::fs::write(folder.join("centre.toml"), text).unwrap();
}

fn start(folder: &Path) -> Node {
    let config = config::load(&folder.join("centre.toml"), &Overrides::default()).unwrap();
    Node::start(config, ServeOptions::default()).unwrap()
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn send(api: SocketAddr, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
    let mut stream = TcpStream::connect(api).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let authorization = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: x\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.body))
}

#[test]
fn the_api_s_doors_and_what_it_says_when_asked_wrongly() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), free_port(), free_port(), "");
    let node = start(folder.path());
    let api = node.api;
    assert_eq!(send(api, "GET", "/v1/healthz", None, "").status, 200);
    for route in ROUTES {
        let path = route
            .path
            .replace("{id}", "x")
            .replace("{tenant}", "acme")
            .replace("{agent}", "alice")
            .replace("{action}", "login")
            .replace("{name}", "x");
        let method = route.method.to_uppercase();
        let answer = send(api, &method, &path, None, "");
        if route.guarded {
            assert_eq!(
                answer.status, 401,
                "{method} {path}: the document lists it, and it must ask for a token"
            );
            assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
            assert!(answer.head.contains("application/problem+json"), "{}", answer.head);
            assert_eq!(send(api, &method, &path, Some("wrong"), "").status, 401);
        } else {
            assert_eq!(answer.status, 200, "{method} {path}");
        }
    }
    let document = json(&send(api, "GET", "/openapi.json", None, ""));
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(
        send(api, "POST", "/v1/agents/acme/alice/login", Some("look"), "").status,
        403,
        "a token that may only read"
    );
    assert_eq!(send(api, "GET", "/v1/agents", Some("look"), "").status, 200);
    assert_eq!(send(api, "GET", "/v1/no-such-thing", Some("secret"), "").status, 404);
    assert_eq!(send(api, "DELETE", "/v1/agents", Some("secret"), "").status, 405);
    for (method, path, body, status) in [
        ("GET", "/v1/calls/not-an-id", "", 400),
        ("GET", "/v1/calls/01JD3QZ6X8M2V7T4K9P5R0W1YB", "", 404),
        ("GET", "/v1/records?colour=red", "", 400),
        ("GET", "/v1/records?limit=0", "", 400),
        ("GET", "/v1/records/export?format=xml", "", 400),
        ("POST", "/v1/agents/acme/nobody/login", "", 404),
        ("POST", "/v1/agents/acme/alice/dance", "", 404),
        ("POST", "/v1/agents/acme/alice/login", "{\"ready\": 3}", 400),
        ("POST", "/v1/agents/acme/alice/login", "{", 400),
        ("PUT", "/v1/plugins/x", "not wasm", 404),
        ("PUT", "/v1/plugins/x", "", 400),
    ] {
        let answer = send(api, method, path, Some("secret"), body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        let problem = json(&answer);
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().is_some_and(|d| d.len() > 10), "{problem}");
    }
    let metrics = send(api, "GET", "/metrics", Some("look"), "").body;
    assert!(metrics.contains("cordboard_up 1\n"), "{metrics}");
    assert!(metrics.contains("cordboard_agents{state=\"logged-out\"} 1\n"), "{metrics}");
    assert!(metrics.contains("cordboard_journal_commits_total "), "{metrics}");
    node.stop();
}

#[test]
fn agents_change_state_and_keep_it_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), free_port(), free_port(), "");
    let node = start(folder.path());
    assert_eq!(send(node.api, "POST", "/v1/agents/acme/alice/login", Some("secret"), "").status, 200);
    let answer =
        send(node.api, "POST", "/v1/agents/acme/alice/not-ready", Some("secret"), "{\"reason\": \"lunch\"}");
    assert_eq!(answer.status, 200, "{}", answer.body);
    // Not stopped in order: what was answered must be durable without that.
    std::mem::forget(node);
    let copy = tempfile::tempdir().unwrap();
    write_config(copy.path(), free_port(), free_port(), "");
    std::fs::create_dir_all(copy.path().join("data")).unwrap();
    for file in ["cordboard.db", "cordboard.db-wal"] {
        std::fs::copy(folder.path().join("data").join(file), copy.path().join("data").join(file)).unwrap();
    }
    let again = start(copy.path());
    let agents = json(&send(again.api, "GET", "/v1/agents", Some("secret"), ""));
    assert_eq!(agents["items"][0]["state"], "not-ready", "{agents}");
    assert_eq!(agents["items"][0]["reason"], "lunch", "{agents}");
    again.stop();
}

#[test]
fn a_reload_is_checked_whole_and_applied_while_running() {
    let folder = tempfile::tempdir().unwrap();
    let (centre, redirect) = (free_port(), free_port());
    write_config(folder.path(), centre, redirect, "");
    let node = start(folder.path());
    let bob = "[[tenants.agents]]\nname = \"bob\"\nphone = { address = \"sip:bob@127.0.0.1:9\" }\n";
    write_config(folder.path(), centre, redirect, &format!("{bob}workgroups = [\"suport\"]"));
    let refused = send(node.api, "POST", "/v1/reload", Some("secret"), "");
    assert_eq!(refused.status, 422);
    assert!(
        json(&refused)["detail"].as_str().unwrap().contains("did you mean `support`?"),
        "{}",
        refused.body
    );
    let agents = |node: &Node| {
        json(&send(node.api, "GET", "/v1/agents", Some("secret"), ""))["items"].as_array().unwrap().len()
    };
    assert_eq!(agents(&node), 1, "nothing of a wrong file is applied");
    write_config(folder.path(), centre, free_port(), &format!("{bob}workgroups = [\"support\"]"));
    let done = send(node.api, "POST", "/v1/reload", Some("secret"), "");
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(json(&done)["needs_restart"], serde_json::json!(["listen"]));
    assert_eq!(agents(&node), 2);
    node.stop();
}

fn ask(socket: &UdpSocket, to: SocketAddr, request: &str) -> Option<String> {
    socket.send_to(request.as_bytes(), to).unwrap();
    let mut buffer = [0; 65_536];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn request(method: &str, number: &str, socket: &UdpSocket, to: SocketAddr) -> String {
    let local = socket.local_addr().unwrap();
    format!(
        "{method} sip:{number}@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{method}{number}x{};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:caller@{local}>;tag=1\r\nTo: <sip:{number}@{to}>\r\nCall-ID: {method}{number}{}@x\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:caller@{local}>\r\nContent-Length: 0\r\n\r\n",
        to.port(),
        to.port(),
    )
}

#[test]
fn the_sockets_answer_and_a_draining_node_is_not_named() {
    let folder = tempfile::tempdir().unwrap();
    let (centre, redirect) = (free_port(), free_port());
    write_config(folder.path(), centre, redirect, "");
    let node = start(folder.path());
    let (centre, redirect): (SocketAddr, SocketAddr) =
        (([127, 0, 0, 1], centre).into(), ([127, 0, 0, 1], redirect).into());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let moved = ask(&socket, redirect, &request("INVITE", "100", &socket, redirect))
        .expect("the redirect role answers");
    assert!(moved.starts_with("SIP/2.0 302 "), "{moved}");
    assert!(moved.contains(&format!("sip:100@{centre}")), "{moved}");
    let options =
        ask(&socket, centre, &request("OPTIONS", "100", &socket, centre)).expect("the centre answers");
    assert!(options.starts_with("SIP/2.0 200 "), "{options}");
    // What is no SIP takes nothing down.
    for garbage in [&b"\0\0\0"[..], b"INVITE", &[0xff; 3_000]] {
        socket.send_to(garbage, centre).unwrap();
        socket.send_to(garbage, redirect).unwrap();
    }
    node.shared.drain();
    let began = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let number = format!("1{}", began.elapsed().as_millis());
        let answer =
            ask(&socket, redirect, &request("INVITE", &number, &socket, redirect)).unwrap_or_default();
        if answer.starts_with("SIP/2.0 503 ") {
            assert!(answer.contains("Retry-After: "), "{answer}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(2), "a draining node was named: {answer}");
    }
    assert_eq!(send(node.api, "GET", "/v1/healthz", None, "").status, 503);
    node.block_on(node.drain(&AtomicBool::new(false)));
    node.stop();
}

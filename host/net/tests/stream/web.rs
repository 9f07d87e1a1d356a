//! WebSocket (RFC 7118): subprotocol, Origin, frames, pings, over TLS too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use cordboard_net::stream::{Closed, Flow, Limits, Transport};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

use crate::bench::{Bench, options};

/// What a browser would send, from a thread of its own.
fn browser(
    at: SocketAddr,
    protocol: Option<&'static str>,
    origin: Option<&'static str>,
) -> thread::JoinHandle<Result<WebSocket<TcpStream>, String>> {
    thread::spawn(move || {
        let mut request = format!("ws://{at}/sip").into_client_request().unwrap();
        if let Some(protocol) = protocol {
            request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(protocol));
        }
        if let Some(origin) = origin {
            request.headers_mut().insert("Origin", HeaderValue::from_static(origin));
        }
        let socket = TcpStream::connect(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        match tungstenite::client(request, socket) {
            Ok((socket, response)) => {
                assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "sip");
                Ok(socket)
            }
            Err(error) => Err(error.to_string()),
        }
    })
}

fn open(bench: &mut Bench, at: SocketAddr) -> WebSocket<TcpStream> {
    let browser = browser(at, Some("foo, sip"), None);
    bench.until("the upgrade", |_| browser.is_finished());
    browser.join().unwrap().unwrap()
}

#[test]
fn each_frame_is_a_message_whatever_its_kind_and_fragments_are_joined() {
    let mut bench = Bench::limited(Limits::default());
    let at = bench.listen(5, Transport::Ws);
    let mut socket = open(&mut bench, at);
    socket.send(Message::text(options("text"))).unwrap();
    socket.send(Message::binary(options("binary").into_bytes())).unwrap();
    socket.send(Message::Ping("are you there".into())).unwrap();
    socket.send(Message::text("\r\n\r\n")).unwrap();
    bench.until("two messages", |b| b.messages.len() == 2);
    bench.wait(50);
    assert_eq!(bench.messages[0].1, options("text").as_bytes());
    assert_eq!(bench.messages[1].1, options("binary").as_bytes());
    let flow = bench.messages[0].0;
    bench.send(flow, options("answer"));
    bench.send(flow, b"SIP/2.0 200 \xff\xfe".to_vec());
    bench.wait(50);
    assert_eq!(socket.read().unwrap(), Message::Pong("are you there".into()));
    assert_eq!(socket.read().unwrap(), Message::text("\r\n"), "a CRLF ping gets its pong");
    assert_eq!(socket.read().unwrap(), Message::text(options("answer")));
    assert!(socket.read().unwrap().is_binary(), "what is no UTF-8 goes as a binary frame");
    socket.close(None).unwrap();
    bench.until("closed", |b| b.closed == [(flow, Closed::ByPeer)]);
    // Nobody dials a browser.
    let to = Flow { connection: None, ..flow };
    bench.send(to, "x");
    bench.wait(10);
    assert_eq!(bench.failed, [(to, Closed::NoWay)]);
}

#[test]
fn who_does_not_speak_sip_or_comes_from_elsewhere_is_turned_away_with_words() {
    let mut bench = Bench::limited(Limits { setup_ms: 300, ..Limits::default() });
    let at = bench.listen_at(5, Transport::Ws, "127.0.0.1:0", None, &["https://desk.example.com"]);
    for (protocol, origin, status) in [
        (Some("sip"), Some("https://desk.example.com"), None),
        (Some("sip"), Some("https://evil.example"), Some("403")),
        (Some("sip"), None, Some("403")),
        (Some("xmpp"), Some("https://desk.example.com"), Some("400")),
        (None, Some("https://desk.example.com"), Some("400")),
    ] {
        let browser = browser(at, protocol, origin);
        bench.until("an answer", |_| browser.is_finished());
        match (browser.join().unwrap(), status) {
            (Ok(_), None) => {}
            (Err(error), Some(status)) => assert!(error.contains(status), "{error}"),
            (other, _) => panic!("{protocol:?} from {origin:?}: {other:?}"),
        }
    }
    bench.until("four turned away", |b| b.closed_for("upgrade") == 4);
    // Plain HTTP, SIP without an upgrade, and one who says nothing.
    let mut silent = TcpStream::connect(at).unwrap();
    for text in [String::from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), options("x")] {
        let mut socket = TcpStream::connect(at).unwrap();
        socket.write_all(text.as_bytes()).unwrap();
        bench.wait(50);
    }
    assert_eq!(bench.closed_for("upgrade"), 6);
    bench.until("patience ends", |b| b.closed_for("setup-timeout") == 1);
    assert_eq!(silent.read(&mut [0; 8]).unwrap_or(0), 0);
    assert!(bench.messages.is_empty());
}

#[test]
fn a_browser_that_answers_no_ping_is_gone_and_one_that_does_is_not() {
    let mut bench = Bench::limited(Limits { ping_ms: 80, ..Limits::default() });
    let at = bench.listen(5, Transport::Ws);
    let mut alive = open(&mut bench, at);
    let mut dead = open(&mut bench, at);
    for socket in [&mut alive, &mut dead] {
        socket.send(Message::text(options("x"))).unwrap();
    }
    alive.get_mut().set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    for _ in 0..30 {
        bench.wait(15);
        // Reading answers pings.
        let _ = alive.read();
        let _ = alive.flush();
    }
    assert_eq!(bench.closed.len(), 1, "{:?}", bench.closed);
    assert_eq!(bench.closed[0].1, Closed::Vanished);
    assert_eq!(bench.closed[0].0.remote, dead.get_ref().local_addr().unwrap());
}

#[test]
fn half_a_message_has_as_long_as_on_any_stream_and_pings_buy_no_time() {
    let limits = Limits { message_ms: 200, ..Limits::default() };
    let mut bench = Bench::limited(limits);
    let at = bench.listen(5, Transport::Ws);
    let mut good = open(&mut bench, at);
    let (mut half, mut fragments) = (open(&mut bench, at), open(&mut bench, at));
    for socket in [&mut good, &mut half, &mut fragments] {
        socket.send(Message::text(options("x"))).unwrap();
    }
    bench.until("three messages", |b| b.messages.len() == 3);
    // A head that promises a hundred octets, and ten of them; the first of several fragments.
    half.get_mut().write_all(&[&[0x81, 0x80 | 100, 0, 0, 0, 0][..], &[b'x'; 10]].concat()).unwrap();
    fragments.get_mut().write_all(&[0x01, 0x80 | 1, 0, 0, 0, 0, b'x']).unwrap();
    for _ in 0..8 {
        bench.wait(20);
        fragments.get_mut().write_all(&[0x89, 0x80, 0, 0, 0, 0]).unwrap();
    }
    assert!(bench.closed.is_empty());
    bench.until("both are closed", |b| b.closed_for("message-timeout") == 2);
    bench.wait(300);
    assert_eq!((bench.messages.len(), bench.connections.counters().open), (3, 1));
}

#[test]
fn a_frame_beyond_the_limit_ends_the_connection() {
    let mut bench = Bench::limited(Limits { message_bytes: 4_096, ..Limits::default() });
    let at = bench.listen(5, Transport::Ws);
    let mut socket = open(&mut bench, at);
    socket.send(Message::text("x".repeat(5_000))).unwrap();
    bench.until("closed", |b| b.closed_for("framing") == 1);
    assert!(bench.messages.is_empty());
}

//! TCP in the clear: framing, keep-alives, reuse, limits, ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cordboard_net::stream::{Closed, Flow, Limits, Transport};
use cordboard_sip::stream::Why;

use crate::bench::{Bench, options};

fn connect(bench: &mut Bench, at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let before = bench.connections.counters();
    bench.until("accepted or refused", |b| {
        let now = b.connections.counters();
        now.accepted + now.refused > before.accepted + before.refused
    });
    stream
}

/// Whether the other side has closed it: the end, or a reset.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 4096]) {
        Ok(n) => n == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn messages_split_and_joined_anyhow_come_whole_and_answers_go_back_in_order() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let mut bench = Bench::limited(Limits::default());
        let at = bench.listen_at(7, Transport::Tcp, address, None, &[]);
        let mut peer = connect(&mut bench, at);
        let text = options("one") + &options("two") + "\r\n\r\n" + &options("three");
        let (first, rest) = text.as_bytes().split_at(71);
        peer.write_all(first).unwrap();
        bench.wait(30);
        assert!(bench.messages.is_empty());
        peer.write_all(rest).unwrap();
        bench.until("three messages", |b| b.messages.len() == 3);
        let flow = bench.messages[0].0;
        assert_eq!(
            (flow.listener, flow.remote),
            (7, peer.local_addr().unwrap()),
            "the flow names listener and peer"
        );
        assert!(flow.connection.is_some_and(|n| n != 0));
        for (message, call_id) in bench.messages.iter().zip(["one", "two", "three"]) {
            assert_eq!(message.1, options(call_id).as_bytes());
            assert_eq!(message.0, flow);
        }
        // The double CRLF was a ping (RFC 5626 4.4.1), and its pong comes before what is sent now.
        bench.send(flow, "first");
        bench.send(flow, "second");
        bench.wait(20);
        let mut got = [0; 64];
        let n = peer.read(&mut got).unwrap();
        assert_eq!(&got[..n], b"\r\nfirstsecond");
        drop(peer);
        bench.until("the end is told", |b| b.closed == [(flow, Closed::ByPeer)]);
        bench.send(flow, "late");
        assert_eq!(bench.connections.counters().unsent, 1, "a connection that is gone takes nothing");
        assert_eq!(bench.connections.counters().open, 0);
    }
}

#[test]
fn one_connection_is_dialled_for_a_peer_and_used_again_until_it_ends() {
    let mut bench = Bench::limited(Limits::default());
    bench.listen(1, Transport::Tcp);
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = Flow { listener: 1, remote: far.local_addr().unwrap(), connection: None, name: None };
    bench.send(flow, "a");
    bench.send(flow, "b");
    bench.until("sent", |b| b.connections.counters().sent == 2);
    let (mut peer, from) = far.accept().unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(from.ip(), "127.0.0.1".parse::<std::net::IpAddr>().unwrap());
    bench.wait(20);
    bench.send(flow, "c");
    bench.wait(20);
    let mut got = [0; 3];
    peer.read_exact(&mut got).unwrap();
    assert_eq!((&got, bench.connections.counters().dialled), (b"abc", 1));
    // What comes on it has the listener of the send and a number.
    peer.write_all(options("back").as_bytes()).unwrap();
    bench.until("a message", |b| b.messages.len() == 1);
    let back = bench.messages[0].0;
    assert_eq!((back.listener, back.remote), (1, flow.remote));
    drop(peer);
    bench.until("the end is told", |b| b.closed.len() == 1);
    assert_eq!(bench.closed[0].0, back);
    bench.send(flow, "d");
    bench.wait(20);
    let (mut peer, _) = far.accept().unwrap();
    let mut got = [0; 1];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(bench.connections.counters().dialled, 2, "a new connection after the end of the first");
    assert_ne!(Some(bench.closed[0].0.connection), None);
}

#[test]
fn a_peer_who_cannot_be_reached_fails_once_for_all_that_waited() {
    let mut bench = Bench::limited(Limits::default());
    bench.listen(1, Transport::Tcp);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let flow = Flow { listener: 1, remote: gone, connection: None, name: None };
    bench.send(flow, "a");
    bench.send(flow, "b");
    bench.until("told", |b| !b.failed.is_empty());
    bench.wait(20);
    assert_eq!(bench.failed, [(flow, Closed::ByPeer)]);
    // No listener of that number: there is nothing to dial from.
    let nowhere = Flow { listener: 9, ..flow };
    bench.send(nowhere, "x");
    bench.wait(10);
    assert_eq!(bench.failed[1], (nowhere, Closed::NoWay));
}

#[test]
fn an_end_is_told_to_those_who_used_the_connection_and_to_nobody_else() {
    let mut bench = Bench::limited(Limits { waiting_bytes: 1_000, ..Limits::default() });
    bench.listen(1, Transport::Tcp);
    let second = bench.listen(2, Transport::Tcp);
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = far.local_addr().unwrap();
    let of = |listener| Flow { listener, remote, connection: None, name: None };
    // The second rides on what the first has dialled.
    bench.send(of(1), "a");
    bench.until("dialled", |b| b.connections.counters().sent == 1);
    bench.wait(20);
    bench.send(of(2), "b");
    bench.wait(20);
    let (mut peer, _) = far.accept().unwrap();
    peer.write_all(options("x").as_bytes()).unwrap();
    bench.until("a message", |b| b.messages.len() == 1);
    // Another connection from the very same address and port comes and goes: it is nobody's.
    let again = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    again.set_reuse_address(true).unwrap();
    drop(far);
    again.bind(&remote.into()).unwrap();
    again.connect(&second.into()).unwrap();
    let mut again = TcpStream::from(again);
    again.write_all(options("y").as_bytes()).unwrap();
    bench.until("its message", |b| b.messages.len() == 2);
    assert_eq!(bench.messages[1].0.remote, remote);
    drop(again);
    bench.until("its end", |b| b.closed.len() == 1);
    assert_eq!(bench.users, [vec![]]);
    assert_eq!(bench.connections.counters().dialled, 1);
    drop(peer);
    bench.until("the end", |b| b.closed.len() == 2);
    assert_eq!(bench.users[1], [of(1), of(2)]);
    assert_eq!(bench.closed[1].0, bench.messages[0].0);
}

#[test]
fn between_two_turns_a_flow_has_one_connection_even_when_it_breaks() {
    let mut bench = Bench::limited(Limits { waiting_bytes: 1_000, ..Limits::default() });
    bench.listen(1, Transport::Tcp);
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = Flow { listener: 1, remote: far.local_addr().unwrap(), connection: None, name: None };
    bench.send(flow, "a");
    bench.until("dialled", |b| b.connections.counters().sent == 1);
    bench.wait(20);
    // The second message is too much; the third is lost with it, and not sent on a connection that lives.
    for octets in [900, 900, 1] {
        bench.send(flow, vec![b'x'; octets]);
    }
    let counters = bench.connections.counters();
    assert_eq!((counters.dialled, counters.unsent), (1, 2));
    bench.turn();
    assert_eq!((&bench.closed[0].1, &bench.users), (&Closed::Behind, &vec![vec![flow]]));
    bench.send(flow, "b");
    bench.wait(20);
    assert_eq!((bench.connections.counters().dialled, bench.failed.len()), (2, 0));
    // The same of one that cannot be dialled: one word for all that was sent.
    let nowhere = Flow { listener: 9, ..flow };
    bench.send(nowhere, "x");
    bench.send(nowhere, "y");
    bench.wait(10);
    assert_eq!(bench.failed, [(nowhere, Closed::NoWay)]);
}

#[test]
fn slow_senders_and_silent_ones_are_closed_in_time_and_quick_ones_are_not() {
    let limits = Limits { setup_ms: 150, message_ms: 200, idle_ms: 700, ..Limits::default() };
    let mut bench = Bench::limited(limits);
    let at = bench.listen(1, Transport::Tcp);
    let mut silent = connect(&mut bench, at);
    let mut slow = connect(&mut bench, at);
    let mut good = connect(&mut bench, at);
    let text = options("slow");
    good.write_all(options("good").as_bytes()).unwrap();
    // An octet every 20 ms would take minutes: progress does not help.
    for byte in text.as_bytes().iter().take(15) {
        let _ = slow.write_all(std::slice::from_ref(byte));
        bench.wait(20);
    }
    assert!(is_closed(&mut slow), "a message has {} ms", limits.message_ms);
    assert_eq!(bench.closed_for("message-timeout"), 1);
    assert!(!is_closed(&mut good));
    bench.wait(100);
    assert!(is_closed(&mut silent), "nobody may hold a connection without a word");
    assert_eq!(bench.closed_for("message-timeout"), 2);
    bench.until("the good one has been idle", |b| b.closed_for("idle") == 1);
    assert!(is_closed(&mut good));
    assert_eq!(bench.connections.counters().open, 0);
}

#[test]
fn keep_alives_hold_an_accepted_connection() {
    let limits = Limits { idle_ms: 200, ..Limits::default() };
    let mut bench = Bench::limited(limits);
    let at = bench.listen(1, Transport::Tcp);
    let mut peer = connect(&mut bench, at);
    peer.write_all(options("x").as_bytes()).unwrap();
    for _ in 0..6 {
        bench.wait(100);
        peer.write_all(b"\r\n\r\n").unwrap();
    }
    bench.wait(50);
    let mut pongs = [0; 64];
    let n = peer.read(&mut pongs).unwrap();
    assert_eq!(&pongs[..n], b"\r\n".repeat(6));
    bench.until("idle at last", |b| b.closed_for("idle") == 1);
}

#[test]
fn garbage_is_refused_and_counted() {
    let mut bench = Bench::limited(Limits { message_bytes: 8_192, ..Limits::default() });
    let at = bench.listen(1, Transport::Tcp);
    let whole = options("x");
    let long = whole.replacen("Max-Forwards", &format!("X-Long: {}\r\nMax-Forwards", "x".repeat(10_000)), 1);
    let bodied = whole.replace("Content-Length: 0", "Content-Length: 9000");
    let without = whole.replace("Content-Length: 0\r\n", "");
    let cases: [(&[u8], Why, &str); 5] = [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Why::NotSip, ""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Why::NotSip, ""),
        (long.as_bytes(), Why::HeadTooLarge, "SIP/2.0 513"),
        (bodied.as_bytes(), Why::MessageTooLarge, "SIP/2.0 513"),
        (without.as_bytes(), Why::NoContentLength, "SIP/2.0 400"),
    ];
    for (i, (bytes, why, answer)) in cases.into_iter().enumerate() {
        let mut peer = connect(&mut bench, at);
        peer.write_all(bytes).unwrap();
        bench.until("closed", |b| b.closed.len() == i + 1);
        assert_eq!(bench.closed[i].1, Closed::Framing(why));
        let mut said = Vec::new();
        let _ = peer.read_to_end(&mut said);
        assert!(
            said.starts_with(answer.as_bytes()) && said.is_empty() == answer.is_empty(),
            "{why:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }
    assert_eq!(bench.closed_for("framing"), 5);
    assert!(bench.messages.is_empty());
}

/// A connection from another address of this machine.
fn connect_from(ip: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ip.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    TcpStream::from(socket)
}

#[test]
fn who_is_banned_is_not_let_in_and_loses_what_is_open_except_what_is_spared() {
    let mut bench = Bench::limited(Limits::default());
    let at = bench.listen(1, Transport::Tcp);
    let bad: IpAddr = "127.0.0.2".parse().unwrap();
    let (mut good, mut trusted, mut idle) =
        (connect(&mut bench, at), connect_from("127.0.0.2", at), connect_from("127.0.0.2", at));
    for (peer, name) in [(&mut good, "good"), (&mut trusted, "trusted"), (&mut idle, "idle")] {
        peer.write_all(options(name).as_bytes()).unwrap();
    }
    bench.until("three messages", |b| b.messages.len() == 3);
    let spared = trusted.local_addr().unwrap();
    assert!(!bench.connections.shut_out(|ip| ip == bad, |flow| flow.remote == spared));
    bench.until("the end of one", |b| b.closed.len() == 1);
    assert_eq!((bench.closed[0].0.remote, &bench.closed[0].1), (idle.local_addr().unwrap(), &Closed::Banned));
    bench.banned = Some(bad);
    let mut again = connect_from("127.0.0.2", at);
    bench.until("nobody is let in", |b| b.connections.counters().refused == 1);
    assert!(
        is_closed(&mut again) && is_closed(&mut idle) && !is_closed(&mut good) && !is_closed(&mut trusted)
    );
    assert_eq!(bench.connections.counters().open, 2);
}

#[test]
fn connections_in_all_and_of_one_source_are_limited_and_freed_again() {
    let mut bench = Bench::limited(Limits { connections: 5, per_source: 3, ..Limits::default() });
    let at = bench.listen(1, Transport::Tcp);
    let mut held: Vec<TcpStream> = (0..3).map(|_| connect(&mut bench, at)).collect();
    let mut one_more = connect(&mut bench, at);
    assert!(is_closed(&mut one_more));
    assert_eq!((bench.connections.counters().refused, bench.connections.counters().open), (1, 3));
    // Another source has its own share, within the whole.
    held.extend(["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(|ip| connect_from(ip, at)));
    bench.until("the sixth is refused", |b| b.connections.counters().refused == 2);
    assert_eq!(bench.connections.counters().open, 5);
    held.clear();
    bench.until("all are free", |b| b.connections.counters().open == 0);
    let _again = connect(&mut bench, at);
    assert_eq!(bench.connections.counters().open, 1);
}

#[test]
fn a_peer_who_does_not_read_is_let_go_before_memory_is() {
    let mut bench = Bench::limited(Limits { waiting_bytes: 256 * 1024, ..Limits::default() });
    let at = bench.listen(1, Transport::Tcp);
    let mut peer = connect(&mut bench, at);
    peer.write_all(options("x").as_bytes()).unwrap();
    bench.until("a message", |b| b.messages.len() == 1);
    let flow = bench.messages[0].0;
    for _ in 0..400 {
        bench.send(flow, vec![b'x'; 64 * 1024]);
        bench.turn();
        if !bench.closed.is_empty() {
            break;
        }
    }
    assert_eq!(bench.closed, [(flow, Closed::Behind)]);
}

#[test]
fn a_peer_who_reads_slowly_is_kept_as_long_as_it_goes_on() {
    let limits = Limits { waiting_bytes: 32 << 20, stall_ms: 300, ..Limits::default() };
    let mut bench = Bench::limited(limits);
    let at = bench.listen(1, Transport::Tcp);
    let mut peer = connect(&mut bench, at);
    peer.write_all(options("x").as_bytes()).unwrap();
    bench.until("a message", |b| b.messages.len() == 1);
    let flow = bench.messages[0].0;
    // More than the buffers of both kernels hold.
    for _ in 0..24 {
        bench.send(flow, vec![b'x'; 1 << 20]);
    }
    // Some of it each tenth of a second, so that something always waits.
    let mut part = vec![0; 512 * 1024];
    for _ in 0..12 {
        bench.wait(100);
        peer.read_exact(&mut part).unwrap();
    }
    assert!(bench.closed.is_empty(), "four times the limit, and never without progress");
    // What both kernels still take is taken; then nothing is for the limit.
    bench.until("its end", |b| b.closed == [(flow, Closed::Behind)]);
}

#[test]
fn a_quiet_dialled_connection_is_pinged() {
    let mut bench = Bench::limited(Limits { ping_ms: 50, ..Limits::default() });
    bench.listen(1, Transport::Tcp);
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = Flow { listener: 1, remote: far.local_addr().unwrap(), connection: None, name: None };
    bench.send(flow, "a");
    bench.until("dialled", |b| b.connections.counters().sent == 1);
    let (mut peer, _) = far.accept().unwrap();
    bench.wait(130);
    let mut got = [0; 64];
    let n = peer.read(&mut got).unwrap();
    assert!(got[..n].starts_with(b"a\r\n\r\n"), "{:?}", &got[..n]);
}

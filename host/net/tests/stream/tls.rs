//! TLS: names, client certificates, new certificates under connections, dialling.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cordboard_net::stream::tls::{self, Clients, Identity};
use cordboard_net::stream::{Closed, Flow, Limits, Renewal, Shown, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConnection, RootCertStore, ServerConnection, StreamOwned};

use crate::bench::{Authority, Bench, options};

type Client = StreamOwned<ClientConnection, TcpStream>;

/// A client with rustls's own ideas of names, not ours.
fn foreign(ca: &Path, own: Option<&Identity>) -> Arc<rustls::ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&own.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&own.key).unwrap(),
            )
            .unwrap(),
    })
}

fn client(config: Arc<rustls::ClientConfig>, name: &'static str, to: SocketAddr) -> Client {
    let socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    StreamOwned::new(ClientConnection::new(config, ServerName::try_from(name).unwrap()).unwrap(), socket)
}

/// Says something and hears the echo, on a thread; `Err` is what TLS said.
fn talk(mut client: Client, call_id: &'static str) -> thread::JoinHandle<std::io::Result<Client>> {
    thread::spawn(move || {
        client.write_all(options(call_id).as_bytes())?;
        let mut got = [0; 4];
        client.read_exact(&mut got)?;
        assert_eq!(&got, b"echo");
        Ok(client)
    })
}

fn echo(bench: &mut Bench, messages: usize) -> Flow {
    bench.until("a message over TLS", |b| b.messages.len() == messages);
    let flow = bench.messages[messages - 1].0;
    bench.send(flow, "echo");
    bench.wait(50);
    flow
}

#[test]
fn messages_go_both_ways_and_a_new_certificate_holds_for_new_connections_alone() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let mut bench = Bench::limited(Limits::default());
    let config = |a: &Authority| tls::server(&a.sign("server", &["sip.example.com"]), None).unwrap();
    let at = bench.listen_at(2, Transport::Tls, "127.0.0.1:0", Some(config(&old)), &[]);
    let first = talk(client(foreign(&old.file(), None), "sip.example.com", at), "one");
    let flow = echo(&mut bench, 1);
    let mut first = first.join().unwrap().unwrap();
    bench.connections.renew(Renewal {
        listeners: vec![Shown { listener: 2, tls: Some(config(&new)), origins: Arc::from([]) }],
        ..Renewal::default()
    });
    let second = talk(client(foreign(&new.file(), None), "sip.example.com", at), "two");
    echo(&mut bench, 2);
    second.join().unwrap().unwrap();
    let third = talk(client(foreign(&old.file(), None), "sip.example.com", at), "three");
    bench.wait(100);
    assert!(third.join().unwrap().is_err(), "the old certificate is not shown any more");
    // The first connection has not noticed.
    first.write_all(options("still").as_bytes()).unwrap();
    bench.until("the first one's message", |b| b.messages.len() == 3);
    assert_eq!(bench.messages[2].0, flow);
    assert_eq!(bench.closed_for("tls"), 1, "the client's alert is counted");
}

#[test]
fn a_client_certificate_is_demanded_verified_and_its_names_handed_up() {
    let (ours, theirs, strangers) = (Authority::new("ours"), Authority::new("theirs"), Authority::new("x"));
    let own = ours.sign("server", &["sip.example.com"]);
    let demand = |required| tls::server(&own, Some(&Clients { ca: theirs.file(), required })).unwrap();
    let mut bench = Bench::limited(Limits::default());
    let at = bench.listen_at(1, Transport::Tls, "127.0.0.1:0", Some(demand(true)), &[]);
    let carrier = theirs.sign("carrier", &["carrier.example.net", "sip:Carrier.Example.ORG"]);
    let known = talk(client(foreign(&ours.file(), Some(&carrier)), "sip.example.com", at), "known");
    let flow = echo(&mut bench, 1);
    known.join().unwrap().unwrap();
    assert_eq!(bench.known.len(), 1);
    assert_eq!(bench.known[0].0, flow);
    // RFC 5922 7.1: with a SIP URI in it, DNS names do not count.
    assert_eq!(&*bench.known[0].1, ["carrier.example.org"]);
    let stranger = strangers.sign("stranger", &["carrier.example.net"]);
    for own in [None, Some(&stranger)] {
        let refused = talk(client(foreign(&ours.file(), own), "sip.example.com", at), "refused");
        bench.wait(150);
        assert!(refused.join().unwrap().is_err());
    }
    assert_eq!((bench.messages.len(), bench.closed_for("tls")), (1, 2));
    // Where it is only asked for, one may come without, and has no name.
    let at = bench.listen_at(3, Transport::Tls, "127.0.0.1:0", Some(demand(false)), &[]);
    let nameless = talk(client(foreign(&ours.file(), None), "sip.example.com", at), "nameless");
    echo(&mut bench, 2);
    nameless.join().unwrap().unwrap();
    assert_eq!(bench.known.len(), 1);
}

/// A TLS server that answers the first message with one of its own.
fn far_end(config: Arc<rustls::ServerConfig>) -> (SocketAddr, thread::JoinHandle<std::io::Result<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (socket, _) = listener.accept()?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        let mut got = vec![0; 5];
        stream.read_exact(&mut got)?;
        stream.write_all(options("back").as_bytes())?;
        stream.flush()?;
        Ok(got)
    });
    (at, served)
}

#[test]
fn a_server_that_we_dial_must_prove_the_name_that_is_wanted_without_wildcards() {
    let (ours, strangers) = (Authority::new("ours"), Authority::new("x"));
    let own = ours.sign("own", &["cordboard.example"]);
    let cases: [(&Authority, &[&str], Option<&str>, bool); 8] = [
        (&ours, &["127.0.0.1"], None, true),
        (&ours, &["sip.example.com"], None, false),
        (&ours, &["sip.example.com"], Some("SIP.example.com"), true),
        (&ours, &["sip:example.com"], Some("example.com"), true),
        (&ours, &["*.example.com"], Some("sip.example.com"), false),
        (&ours, &["sip.example.com", "sip:other.example"], Some("sip.example.com"), false),
        (&ours, &["sip.example.com"], Some("common.example"), false),
        (&strangers, &["127.0.0.1"], None, false),
    ];
    for (authority, names, wanted, fits) in cases {
        let shown = authority.sign("far", names);
        // It wants to see our certificate too.
        let clients = Clients { ca: ours.file(), required: true };
        let (at, served) = far_end(tls::server(&shown, Some(&clients)).unwrap());
        let mut bench = Bench::new(Renewal {
            client: Some(tls::client(Some(&ours.file()), Some(&own)).unwrap()),
            server_names: wanted.map(|name| (at, name.to_owned())).into_iter().collect(),
            ..Renewal::default()
        });
        let listening = tls::server(&own, None).unwrap();
        bench.listen_at(4, Transport::Tls, "127.0.0.1:0", Some(listening), &[]);
        let flow = Flow { listener: 4, remote: at, connection: None, name: None };
        bench.send(flow, "hello");
        let case = format!("{names:?} for {wanted:?}");
        if fits {
            bench.until(&case, |b| b.messages.len() == 1);
            assert_eq!(served.join().unwrap().unwrap(), b"hello", "{case}");
            assert!(bench.failed.is_empty());
        } else {
            bench.until(&case, |b| b.failed.len() == 1);
            assert!(
                matches!(&bench.failed[0], (f, Closed::Tls(_)) if *f == flow),
                "{case}: {:?}",
                bench.failed
            );
            assert!(served.join().unwrap().is_err(), "{case}");
        }
    }
}

#[test]
fn files_that_do_not_fit_are_named_with_what_is_wrong() {
    let authority = Authority::new("ours");
    let (one, other) = (authority.sign("one", &["a.example"]), authority.sign("other", &["b.example"]));
    let mixed = Identity { key: other.key.clone(), ..one.clone() };
    let missing = Identity { certificate: "missing.pem".into(), ..one.clone() };
    let swapped = Identity { certificate: one.key.clone(), key: one.certificate.clone() };
    for (wrong, file, word) in [
        (&mixed, &mixed.key, "is not the key of"),
        (&missing, &missing.certificate, "cannot be read"),
        (&swapped, &swapped.certificate, "has no certificate"),
    ] {
        let error = tls::server(wrong, None).unwrap_err();
        assert_eq!(&error.file, file);
        assert!(error.why.contains(word), "{error}");
    }
    let clients = Clients { ca: one.key.clone(), required: true };
    assert!(tls::server(&one, Some(&clients)).is_err());
    assert!(tls::client(None, Some(&one)).is_ok(), "the public authorities need no file");
}

#[test]
fn large_messages_cross_tls_whole_both_ways() {
    let authority = Authority::new("ours");
    let mut bench = Bench::limited(Limits::default());
    let config = tls::server(&authority.sign("server", &["sip.example.com"]), None).unwrap();
    let at = bench.listen_at(2, Transport::Tls, "127.0.0.1:0", Some(config), &[]);
    let mut peer = client(foreign(&authority.file(), None), "sip.example.com", at);
    let body = "x".repeat(60_000);
    let large = options("large")
        .replace("Content-Length: 0\r\n\r\n", &format!("Content-Length: 60000\r\n\r\n{body}"));
    let sent = large.clone();
    let far = thread::spawn(move || {
        for _ in 0..8 {
            peer.write_all(sent.as_bytes()).unwrap();
        }
        let mut got = vec![0; 900_000];
        peer.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|b| *b == b'y'));
    });
    bench.until("eight large messages", |b| b.messages.len() == 8);
    assert!(bench.messages.iter().all(|(_, bytes)| *bytes == large.as_bytes()));
    let flow = bench.messages[0].0;
    for _ in 0..9 {
        bench.send(flow, vec![b'y'; 100_000]);
    }
    bench.until("the far end has read all", |_| far.is_finished());
    far.join().unwrap();
}

/// A TLS server that takes connections one after the other and answers each one's first message with its number.
fn far_ends(config: Arc<rustls::ServerConfig>, connections: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open = Vec::new();
        for n in 0..connections {
            let (socket, _) = listener.accept().unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
            if stream.read_exact(&mut [0; 5]).is_ok() {
                stream.write_all(options(&n.to_string()).as_bytes()).unwrap();
                stream.flush().unwrap();
            }
            open.push(stream);
        }
        // Each stays open until its peer ends it.
        for stream in &mut open {
            let _ = stream.read(&mut [0; 1]);
        }
    });
    at
}

#[test]
fn two_names_at_one_address_each_take_a_connection_that_proved_them() {
    let ours = Authority::new("ours");
    // One certificate for one of the two names, and the address itself: RFC 5922 7.2.
    let shown = ours.sign("far", &["one.example", "127.0.0.1"]);
    let at = far_ends(tls::server(&shown, None).unwrap(), 3);
    let mut bench = Bench::new(Renewal {
        client: Some(tls::client(Some(&ours.file()), None).unwrap()),
        ..Renewal::default()
    });
    let own = ours.sign("own", &["cordboard.example"]);
    bench.listen_at(4, Transport::Tls, "127.0.0.1:0", Some(tls::server(&own, None).unwrap()), &[]);
    // Both were resolved before anything is sent, and the last that was resolved is not the first that is used.
    let (one, other) = (bench.connections.name("One.example"), bench.connections.name("other.example"));
    let to = |name| Flow { listener: 4, remote: at, connection: None, name };
    bench.send(to(Some(one)), "hello");
    bench.until("the name that is proved", |b| b.messages.len() == 1);
    assert_eq!(bench.messages[0].0.name, Some(one), "it stays with the flow");
    bench.send(to(Some(other)), "hello");
    bench.until("the name that is not", |b| b.failed.len() == 1);
    assert_eq!(bench.failed[0].0, to(Some(other)));
    bench.send(to(None), "hello");
    bench.until("the address", |b| b.messages.len() == 2);
    let numbers: Vec<_> = bench.messages.iter().map(|(flow, _)| flow.connection).collect();
    assert_ne!(numbers[0], numbers[1], "the address did not ride on what a name had proved");
    assert_eq!(bench.connections.counters().dialled, 3);
}

//! SIP over connections: TCP, TLS, WebSocket, and IPv6 below any of them. Phones are pjsua2, the carrier is
//! SIPp, the browser is JsSIP, and OpenSSL looks at certificates.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use cordboard_e2e::baresip::Baresip;
use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::names::Names;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::place;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::{eventually, ms, s};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use crate::baresip;
use crate::flow::answers;
use crate::trunks::{leaving, talks};

/// What the agent's phone sends, and what the caller's does.
const AGENT_HZ: u32 = 700;
const CALLER_HZ: u32 = 1_000;

/// One of `[[listeners]]`.
pub(crate) fn listener(transport: &str, address: &str, port: u16, more: &str) -> String {
    format!("[[listeners]]\ntransport = \"{transport}\"\naddress = \"{address}:{port}\"\n{more}\n")
}

/// An authority that signs certificates for 127.0.0.1.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(scene: &Scene, name: &str) -> Self {
        let dir = scene.dir().to_owned();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("an authority");
        std::fs::write(dir.join(format!("{name}-ca.pem")), certificate.pem()).expect("written");
        Self { dir, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}-ca.pem"))
    }

    /// Writes `FILE.pem` and `FILE.key`.
    fn sign(&self, file: &str, common_name: &str) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::DnsName(common_name.try_into().expect("a name")),
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(self.dir.join(format!("{file}.pem")), certificate.pem()).expect("written");
        std::fs::write(self.dir.join(format!("{file}.key")), key.serialize_pem()).expect("written");
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A caller who is known by address, over some transport of pjsua2.
fn caller(number: &str, start: Value, account: Value) -> Phone {
    let mut phone = Phone::with(number, start);
    let mut order = json!({ "do": "account", "name": number, "id": format!("sip:{number}@127.0.0.1") });
    for (key, value) in account.as_object().expect("an object") {
        order[key] = value.clone();
    }
    phone.order(&order);
    phone
}

/// Tones cross both ways.
fn both_hear(caller: &mut Phone, call: &str, agent: &mut Phone, offered: &str) {
    caller.hears_tone(call, AGENT_HZ);
    agent.hears_tone(offered, CALLER_HZ);
}

#[test]
fn calls_over_tcp_and_tls_carry_audio_both_ways_and_end_at_both_ends() {
    let scene = Scene::new("transports-calls");
    let authority = Authority::new(&scene, "ours");
    authority.sign("centre", "sip.acme.example");
    let (tcp, tls) = (free_port(), free_port());
    let mut setup = Setup::default();
    setup.agent("alice").agent("bob");
    setup.more = format!(
        "[tls]\ncertificate = \"centre.pem\"\nkey = \"centre.key\"\nca = \"ours-ca.pem\"\n\n{}{}",
        listener("tcp", "127.0.0.1", tcp, ""),
        listener("tls", "127.0.0.1", tls, ""),
    );
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.centre, tcp], centre.ports.rtp);
    let secure = json!({ "transport": "tls", "ca": text(&authority.file("ours")) });
    let at_tcp = format!("sip:127.0.0.1:{tcp};transport=tcp");
    let at_tls = format!("sip:127.0.0.1:{tls};transport=tls");
    let mut alice = Phone::with("alice", json!({ "transport": "tcp" }));
    alice.register_at(&at_tcp, "alice", answers(), json!({}));
    let mut bob = Phone::with("bob", secure.clone());
    bob.register_at(&at_tls, "bob", answers(), json!({}));
    let mut by_tcp = caller("4930111", json!({ "transport": "tcp" }), json!({}));
    let mut by_tls = caller("4930222", secure, json!({}));
    let mut by_udp = caller("4930333", json!({}), json!({}));
    let mut round = 0_u32;
    for (number, phone, uri) in [
        ("tcp", &mut by_tcp, format!("sip:100@127.0.0.1:{tcp};transport=tcp")),
        ("tls", &mut by_tls, format!("sip:100@127.0.0.1:{tls};transport=tls")),
        ("udp", &mut by_udp, format!("sip:100@127.0.0.1:{}", centre.ports.centre)),
    ] {
        for (name, agent) in [("alice", &mut alice), ("bob", &mut bob)] {
            round += 1;
            let call = format!("{number}-{name}");
            centre.agent(name, "login");
            phone.call_uri(&call, &uri, CALLER_HZ, &[AGENT_HZ]);
            let rung = format!("{name}-{}", round.div_ceil(2));
            agent.confirmed(&rung);
            both_hear(phone, &call, agent, &rung);
            // Each end hangs up in turn.
            if round.is_multiple_of(2) {
                agent.hang_up(&rung);
            } else {
                phone.hang_up(&call);
            }
            agent.ended(&rung);
            phone.ended(&call);
            centre.agent_becomes(name, "ready");
            centre.agent(name, "logout");
        }
    }
    for record in centre.records(6) {
        assert_eq!(record["offers"][0]["result"], "accepted", "{record}");
    }
    // Agents were called on the connection that they had opened: none was dialled.
    let metrics = centre.get("/metrics").expect("metrics").text();
    assert!(metrics.contains("cordboard_connections_total{what=\"dialled\"} 0"), "{metrics}");
    assert!(metrics.contains("cordboard_connections_closed_total{why=\"framing\"} 0"));
    capture.nothing_malformed(40, 250);
    centre.finish();
}

/// A far end that answers on a transport and port of its own.
fn far_end(name: &str, port: u16, mut start: Value) -> Phone {
    start["port"] = port.into();
    let mut phone = Phone::with(name, start);
    let id = format!("sip:{name}@127.0.0.1:{port}");
    phone.order(&json!({ "do": "account", "name": name, "id": id, "answer": answers() }));
    phone
}

#[test]
fn calls_leave_by_tcp_and_tls_to_addresses_and_to_names_that_must_be_proved() {
    let scene = Scene::new("transports-out");
    let authority = Authority::new(&scene, "ours");
    authority.sign("safe", "safe.test");
    authority.sign("liar", "elsewhere.test");
    let (plain, safe, liar) = (free_port(), free_port(), free_port());
    let names = Names::start(
        &scene,
        &[
            format!("srv-host=_sips._tcp.safe.test,a.safe.test,{safe},1,10"),
            format!("srv-host=_sips._tcp.liar.test,a.safe.test,{liar},1,10"),
            "host-record=a.safe.test,127.0.0.1,60".to_owned(),
        ],
    );
    let mut setup = leaving(
        "bridge trunk:plain",
        &format!(
            "[dns]\nservers = [\"{}\"]\n[tls]\nca = \"ours-ca.pem\"\n\n{}{}",
            names.at,
            listener("tcp", "127.0.0.1", free_port(), ""),
            listener("tls", "127.0.0.1", free_port(), "certificate = \"safe.pem\"\nkey = \"safe.key\"\n"),
        ),
    );
    for (name, address) in [
        ("plain", format!("sip:127.0.0.1:{plain};transport=tcp")),
        ("address", format!("sip:127.0.0.1:{safe};transport=tls")),
        ("safe", "sip:safe.test;transport=tls".to_owned()),
        ("liar", "sip:liar.test;transport=tls".to_owned()),
    ] {
        setup.more += &format!(
            "[[trunks]]\nname = \"{name}\"\n[trunks.out]\nhealth_s = 0\ndestinations = [{{ address = \"{address}\" }}]\n"
        );
    }
    setup.rules = "300 -> bridge trunk:address\n400 -> bridge trunk:safe\n500 -> bridge trunk:liar\n"
        .to_owned()
        + &setup.rules;
    let centre = Centre::start(&scene, &setup);
    let mut by_tcp = far_end("plain", plain, json!({ "transport": "tcp" }));
    let shows = |file: &str| {
        let of = |kind: &str| text(&scene.dir().join(format!("{file}.{kind}")));
        json!({ "transport": "tls", "cert": of("pem"), "key": of("key") })
    };
    let mut by_tls = far_end("safe", safe, shows("safe"));
    let elsewhere = far_end("liar", liar, shows("liar"));
    let mut caller = Phone::caller("4930111");
    talks(&centre, &mut caller, &mut by_tcp, "tcp", "100");
    talks(&centre, &mut caller, &mut by_tls, "tls", "300");
    talks(&centre, &mut caller, &mut by_tls, "name", "400");
    caller.call(&centre, "liar", "500", CALLER_HZ, &[]);
    let refused = caller.ended("liar");
    assert_eq!(refused["connected"], false, "{refused}");
    assert_eq!(elsewhere.count("incoming"), 0, "who does not prove the name that was asked for gets no call");
    centre.finish();
}

#[test]
fn a_phone_learns_its_address_by_stun_on_the_port_of_sip() {
    let scene = Scene::new("transports-stun");
    let centre = Centre::start(&scene, &Setup::default());
    let mut phone = Phone::caller("4930111");
    phone.order(&json!({ "do": "stun", "server": format!("127.0.0.1:{}", centre.ports.centre) }));
    let told = phone.hears("stun", s(10), |_| true);
    assert_eq!(told["status"], 0, "{told}");
    assert!(told["address"].as_str().is_some_and(|a| a.starts_with("127.0.0.1:")), "{told}");
    // And the port is SIP's as before.
    assert_eq!(centre.metric("cordboard_up"), 1.0);
    centre.finish();
}

#[test]
fn sipp_places_200_calls_over_one_connection_and_over_many() {
    let scene = Scene::new("transports-sipp");
    let tcp = free_port();
    let mut setup = Setup::default();
    setup.group("ring_timeout_s", "10");
    let agents = Sipp::agents(&scene, 200);
    for n in 0..20 {
        setup.agent_at(&format!("agent{n}"), &format!("sip:agent{n}@127.0.0.1:{}", agents.port));
    }
    setup.more = listener("tcp", "127.0.0.1", tcp, "");
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.centre, tcp], centre.ports.rtp);
    let to = SocketAddr::from(([127, 0, 0, 1], tcp));
    let calls = |name: &str, transport: &[&str], calls: u32| {
        let scenario = place::beside("sipp/direct.xml").display().to_string();
        let mut args: Vec<String> = transport.iter().map(|t| (*t).to_owned()).collect();
        for arg in ["-sf", &scenario, "-s", "100", "-r", "40", "-l", "3000", "-recv_timeout", "120000", "-m"]
        {
            args.push(arg.to_owned());
        }
        args.extend([calls.to_string(), to.to_string()]);
        Sipp::run(&scene, name, free_port(), &args).all_well(calls.into(), s(60));
    };
    calls("one", &["-t", "t1"], 200);
    let accepted = |centre: &Centre| {
        let text = centre.get("/metrics").map(|a| a.text()).unwrap_or_default();
        text.lines().find_map(|l| {
            l.strip_prefix("cordboard_connections_total{what=\"accepted\"} ")?.parse::<u64>().ok()
        })
    };
    eventually("one connection for 200 calls", s(2), || accepted(&centre).filter(|n| *n == 1));
    calls("many", &["-t", "tn", "-max_socket", "500"], 100);
    eventually("a connection a call", s(2), || accepted(&centre).filter(|n| *n == 101));
    assert_eq!(centre.records(300).len(), 300);
    capture.nothing_malformed(1_000, 0);
    centre.at_rest();
    drop(agents);
    centre.finish();
}

#[test]
fn calls_over_ipv6_by_udp_and_tcp_carry_audio_both_ways() {
    let scene = Scene::new("transports-ipv6");
    let (udp, tcp) = (free_port(), free_port());
    let mut setup = Setup::default();
    setup.agent("alice");
    baresip::md5_only(&mut setup, "alice");
    setup.edits.push(("[media]\n".into(), "[media]\naddress = \"::1\"\n".into()));
    setup.edits.push(("sources = [\"127.0.0.0/8\"]".into(), "sources = [\"::1\"]".into()));
    setup.more = listener("udp", "[::1]", udp, "") + &listener("tcp", "[::1]", tcp, "");
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[udp, tcp], centre.ports.rtp);
    let mut alice = baresip::agent(&scene, &centre, "alice", "[::1]", &format!("[::1]:{udp}"), AGENT_HZ);
    centre.agent("alice", "login");
    for (number, uri) in [
        ("4930111", format!("sip:100@[::1]:{udp}")),
        ("4930222", format!("sip:100@[::1]:{tcp};transport=tcp")),
    ] {
        let account = format!("<sip:{number}@[::1]>;regint=0");
        let mut caller = Baresip::start(&scene, number, "[::1]", &account, CALLER_HZ, Some(&uri));
        centre.agent_becomes("alice", "busy");
        std::thread::sleep(s(2));
        caller.leave();
        centre.agent_becomes("alice", "ready");
        let heard = caller.heard_ms(AGENT_HZ);
        assert!(heard > 500, "the caller has heard {heard} ms of the agent's tone");
    }
    alice.leave();
    let heard = alice.heard_ms(CALLER_HZ);
    assert!(heard > 500, "the agent has heard {heard} ms of the caller's tone");
    capture.nothing_malformed(20, 200);
    centre.finish();
}

/// Passes a phone's connections on until it is told to cut them.
struct Relay {
    port: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    closed: Arc<AtomicBool>,
}

impl Relay {
    fn to(centre: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let closed = Arc::new(AtomicBool::new(false));
        let (kept, shut) = (streams.clone(), closed.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // Once cut, it lets nobody through again.
                if shut.load(Relaxed) {
                    continue;
                }
                let far = TcpStream::connect(centre).expect("the centre listens");
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) =
                        (from.try_clone().expect("cloned"), to.try_clone().expect("cloned"));
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend([near, far]);
            }
        });
        Self { port, streams, closed }
    }

    fn cut(&self) {
        self.closed.store(true, Relaxed);
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[test]
fn a_call_outlives_its_connection_and_its_bye_takes_a_new_one() {
    let scene = Scene::new("transports-cut");
    let tcp = free_port();
    let mut setup = Setup::default();
    setup.agent("alice");
    setup.more = listener("tcp", "127.0.0.1", tcp, "");
    let centre = Centre::start(&scene, &setup);
    let relay = Relay::to(SocketAddr::from(([127, 0, 0, 1], tcp)));
    // It listens by itself too, and says so in its Contact.
    let mut alice = Phone::with("alice", json!({ "transport": "tcp", "port": free_port() }));
    let registrar = format!("sip:127.0.0.1:{};transport=tcp", relay.port);
    alice.register_at(&registrar, "alice", answers(), json!({ "own_contact": true }));
    centre.agent("alice", "login");
    let mut caller = caller("4930111", json!({}), json!({}));
    caller.call_uri("c", &format!("sip:100@127.0.0.1:{}", centre.ports.centre), CALLER_HZ, &[AGENT_HZ]);
    alice.confirmed("alice-1");
    both_hear(&mut caller, "c", &mut alice, "alice-1");
    relay.cut();
    eventually("the centre has noticed", s(5), || {
        (centre.metric("cordboard_connections") == 0.0).then_some(())
    });
    std::thread::sleep(ms(500));
    caller.listen_anew("c");
    alice.listen_anew("alice-1");
    both_hear(&mut caller, "c", &mut alice, "alice-1");
    caller.hang_up("c");
    caller.ended("c");
    let end = alice.ended("alice-1");
    assert_eq!(end["connected"], true, "{end}");
    let metrics = centre.get("/metrics").expect("metrics").text();
    assert!(metrics.contains("cordboard_connections_total{what=\"dialled\"} 1"), "{metrics}");
    assert_eq!(centre.record()["offers"][0]["result"], "accepted");
    centre.finish();
}

/// An address of this machine, at whose port 9 nobody listens.
const NOWHERE: &str = "127.0.0.9";

#[test]
fn a_phone_with_outbound_is_called_over_its_flow_though_its_contact_leads_nowhere() {
    let scene = Scene::new("transports-outbound");
    let tcp = free_port();
    let mut setup = Setup::default();
    setup.agent("alice");
    setup.more = listener("tcp", "127.0.0.1", tcp, "");
    let centre = Centre::start(&scene, &setup);
    let mut capture = Capture::start(&scene, &[centre.ports.centre, tcp], centre.ports.rtp);
    let mut alice = Phone::with("alice", json!({ "transport": "tcp" }));
    let registrar = format!("sip:127.0.0.1:{tcp};transport=tcp");
    alice.register_at(
        &registrar,
        "alice",
        answers(),
        json!({ "contact": format!("<sip:alice@{NOWHERE}:9;transport=tcp;ob>") }),
    );
    centre.agent("alice", "login");
    let mut caller = caller("4930111", json!({}), json!({}));
    for (call, rung, caller_ends) in [("c", "alice-1", true), ("d", "alice-2", false)] {
        caller.call_uri(call, &format!("sip:100@127.0.0.1:{}", centre.ports.centre), CALLER_HZ, &[AGENT_HZ]);
        alice.confirmed(rung);
        both_hear(&mut caller, call, &mut alice, rung);
        match caller_ends {
            true => caller.hang_up(call),
            false => alice.hang_up(rung),
        }
        caller.ended(call);
        assert_eq!(alice.ended(rung)["status"], 200);
        centre.agent_becomes("alice", "ready");
    }
    // RFC 5626 4.2.1 and 6: the phone named its flow, and was told that it is what it will be reached by.
    let named =
        capture.fields("sip.Method == \"REGISTER\" && sip.Authorization", &["sip.Contact", "sip.Supported"]);
    let flow = |line: &String| {
        let named = line.contains("reg-id=1") && line.contains("+sip.instance=") && line.contains("outbound");
        named && line.contains(&format!("@{NOWHERE}:9;"))
    };
    assert!(!named.is_empty() && named.iter().all(flow), "{named:?}");
    let told = capture.fields("sip.CSeq.method == \"REGISTER\" && sip.Status-Code == 200", &["sip.Require"]);
    assert!(!told.is_empty() && told.iter().all(|require| require == "outbound"), "{told:?}");
    let metrics = centre.get("/metrics").expect("metrics").text();
    assert!(metrics.contains("cordboard_connections_total{what=\"dialled\"} 0"), "{metrics}");
    capture.nothing_malformed(20, 100);
    centre.finish();
}

#[test]
fn naptr_says_by_which_transport_a_call_leaves() {
    let scene = Scene::new("transports-naptr");
    let authority = Authority::new(&scene, "ours");
    authority.sign("safe", "safe.test");
    let (plain, safe) = (free_port(), free_port());
    let mut records = vec!["host-record=a.test,127.0.0.1,60".to_owned()];
    // The same two ways for either name, in the other order.
    for (name, tls, udp) in [("safe.test", 10, 20), ("open.test", 20, 10)] {
        records.extend([
            format!("naptr-record={name},{tls},10,S,SIPS+D2T,,_sips._tcp.{name}"),
            format!("naptr-record={name},{udp},10,S,SIP+D2U,,_sip._udp.{name}"),
            format!("srv-host=_sips._tcp.{name},a.test,{safe},1,10"),
            format!("srv-host=_sip._udp.{name},a.test,{plain},1,10"),
        ]);
    }
    let names = Names::start(&scene, &records);
    let mut setup = leaving(
        "bridge trunk:safe",
        &format!(
            "[dns]\nservers = [\"{}\"]\n[tls]\nca = \"ours-ca.pem\"\n\n{}",
            names.at,
            listener("tls", "127.0.0.1", free_port(), "certificate = \"safe.pem\"\nkey = \"safe.key\"\n"),
        ),
    );
    for name in ["safe", "open"] {
        setup.more += &format!(
            "[[trunks]]\nname = \"{name}\"\n[trunks.out]\nhealth_s = 0\ndestinations = [{{ address = \"sip:{name}.test\" }}]\n"
        );
    }
    setup.rules = "300 -> bridge trunk:open\n".to_owned() + &setup.rules;
    let centre = Centre::start(&scene, &setup);
    let of = |kind: &str| text(&scene.dir().join(format!("safe.{kind}")));
    let mut by_tls =
        far_end("safe", safe, json!({ "transport": "tls", "cert": of("pem"), "key": of("key") }));
    let mut by_udp = far_end("plain", plain, json!({}));
    let mut caller = Phone::caller("4930111");
    talks(&centre, &mut caller, &mut by_tls, "tls", "100");
    assert_eq!((by_tls.count("incoming"), by_udp.count("incoming")), (1, 0));
    talks(&centre, &mut caller, &mut by_udp, "udp", "300");
    assert_eq!((by_tls.count("incoming"), by_udp.count("incoming")), (1, 1));
    centre.finish();
}

/// What OpenSSL says of the certificate that a port shows.
fn shown(port: u16) -> String {
    let out = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::null())
        .output()
        .expect("the program `openssl` is missing: install the Debian package openssl");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn certificates_are_renewed_by_a_reload_while_a_call_is_up() {
    let scene = Scene::new("transports-renewal");
    let (old, new) = (Authority::new(&scene, "old"), Authority::new(&scene, "new"));
    old.sign("centre", "old.example");
    let tls = free_port();
    let mut setup = Setup::default();
    setup.agent("alice");
    setup.more = listener("tls", "127.0.0.1", tls, "certificate = \"centre.pem\"\nkey = \"centre.key\"\n");
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::with("alice", json!({ "transport": "tls", "ca": text(&old.file("old")) }));
    alice.register_at(&format!("sip:127.0.0.1:{tls};transport=tls"), "alice", answers(), json!({}));
    centre.agent("alice", "login");
    let mut first = caller("4930111", json!({ "transport": "tls", "ca": text(&old.file("old")) }), json!({}));
    let uri = format!("sip:100@127.0.0.1:{tls};transport=tls");
    first.call_uri("c", &uri, CALLER_HZ, &[AGENT_HZ]);
    alice.confirmed("alice-1");
    both_hear(&mut first, "c", &mut alice, "alice-1");
    assert!(shown(tls).contains("CN = old.example"), "{}", shown(tls));
    // A key that is another's changes nothing.
    new.sign("centre", "new.example");
    let right = std::fs::read(scene.dir().join("centre.key")).expect("the key");
    new.sign("other", "other.example");
    std::fs::copy(scene.dir().join("other.key"), scene.dir().join("centre.key")).expect("copied");
    let refused = centre.cli(&["reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("is not the key of"), "{said}");
    assert!(shown(tls).contains("CN = old.example"));
    std::fs::write(scene.dir().join("centre.key"), right).expect("written");
    assert!(centre.cli(&["reload"]).status.success());
    eventually("the new one is shown", s(3), || shown(tls).contains("CN = new.example").then_some(()));
    first.listen_anew("c");
    alice.listen_anew("alice-1");
    both_hear(&mut first, "c", &mut alice, "alice-1");
    alice.hang_up("alice-1");
    first.ended("c");
    alice.ended("alice-1");
    centre.agent_becomes("alice", "ready");
    // A newcomer believes the new one, and the agent is rung over the old connection.
    let mut second =
        caller("4930222", json!({ "transport": "tls", "ca": text(&new.file("new")) }), json!({}));
    second.call_uri("d", &uri, CALLER_HZ, &[AGENT_HZ]);
    alice.confirmed("alice-2");
    both_hear(&mut second, "d", &mut alice, "alice-2");
    second.hang_up("d");
    second.ended("d");
    alice.ended("alice-2");
    // Who believes the old one alone is not fooled.
    let mut third = caller("4930333", json!({ "transport": "tls", "ca": text(&old.file("old")) }), json!({}));
    third.call_uri("e", &uri, CALLER_HZ, &[AGENT_HZ]);
    let end = third.ended("e");
    assert_eq!((end["connected"].as_bool(), end["status"].as_u64()), (Some(false), Some(503)), "{end}");
    centre.finish();
}

#[test]
fn who_has_no_certificate_is_refused_where_one_is_demanded() {
    let scene = Scene::new("transports-mutual");
    let authority = Authority::new(&scene, "ours");
    authority.sign("centre", "sip.acme.example");
    authority.sign("carrier", "carrier.example.net");
    Authority::new(&scene, "strange").sign("stranger", "carrier.example.net");
    let tls = free_port();
    let mut setup = Setup::default();
    setup.agent("alice");
    setup.more = listener(
        "tls",
        "127.0.0.1",
        tls,
        "certificate = \"centre.pem\"\nkey = \"centre.key\"\nclient_ca = \"ours-ca.pem\"\n",
    );
    // Its address says nothing: the trunk is known by the certificate alone.
    setup.edits.push((
        "sources = [\"127.0.0.0/8\"]".into(),
        "sources = []\ncertificates = [\"Carrier.example.net\"]".into(),
    ));
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    let uri = format!("sip:100@127.0.0.1:{tls};transport=tls");
    let ca = text(&authority.file("ours"));
    let file = |name: &str| text(&scene.dir().join(name));
    let mut carrier = caller(
        "4930111",
        json!({ "transport": "tls", "ca": ca, "cert": file("carrier.pem"), "key": file("carrier.key") }),
        json!({}),
    );
    carrier.call_uri("c", &uri, CALLER_HZ, &[AGENT_HZ]);
    alice.confirmed("alice-1");
    both_hear(&mut carrier, "c", &mut alice, "alice-1");
    carrier.hang_up("c");
    carrier.ended("c");
    alice.ended("alice-1");
    assert!(
        centre.log().contains("carrier.example.net"),
        "the name that was proved is told:\n{}",
        centre.log()
    );
    for (number, start) in [
        ("4930222", json!({ "transport": "tls", "ca": ca })),
        (
            "4930333",
            json!({ "transport": "tls", "ca": ca, "cert": file("stranger.pem"), "key": file("stranger.key") }),
        ),
    ] {
        let mut phone = caller(number, start, json!({}));
        phone.call_uri("x", &uri, CALLER_HZ, &[AGENT_HZ]);
        let end = phone.ended("x");
        assert_eq!(end["connected"], false, "{end}");
    }
    // Without a connection that proves a name there is no trunk.
    let mut plain = caller("4930444", json!({}), json!({}));
    plain.call_uri("p", &format!("sip:100@127.0.0.1:{}", centre.ports.centre), CALLER_HZ, &[AGENT_HZ]);
    assert_eq!(plain.ended("p")["status"], 403);
    eventually("both are counted", s(2), || {
        let metrics = centre.get("/metrics").ok()?.text();
        let refused = metrics.lines().find_map(|l| {
            l.strip_prefix("cordboard_connections_closed_total{why=\"tls\"} ")?.parse::<u32>().ok()
        });
        (refused >= Some(2)).then_some(())
    });
    assert_eq!(centre.records(1).len(), 1, "one call came through");
    centre.finish();
}

#[test]
fn slow_malformed_and_too_many_connections_are_refused_and_counted_and_calls_go_on() {
    let scene = Scene::new("transports-abuse");
    let tcp = free_port();
    let mut setup = Setup::default();
    setup.agent("alice");
    setup.more = format!(
        "[connections]\nmax_per_source = 20\nmessage_timeout_s = 1\nsetup_timeout_s = 1\nmax_message_bytes = 8192\n\n{}",
        listener("tcp", "127.0.0.1", tcp, "")
    );
    let centre = Centre::start(&scene, &setup);
    let mut alice = Phone::with("alice", json!({ "transport": "tcp" }));
    alice.register_at(&format!("sip:127.0.0.1:{tcp};transport=tcp"), "alice", answers(), json!({}));
    centre.agent("alice", "login");
    let mut caller = caller("4930111", json!({ "transport": "tcp" }), json!({}));
    caller.call_uri("c", &format!("sip:100@127.0.0.1:{tcp};transport=tcp"), CALLER_HZ, &[AGENT_HZ]);
    alice.confirmed("alice-1");
    both_hear(&mut caller, "c", &mut alice, "alice-1");
    let connect = || TcpStream::connect(("127.0.0.1", tcp)).expect("it listens");
    let closed = |mut stream: TcpStream, what: &str| {
        stream.set_read_timeout(Some(s(5))).expect("a time-out");
        let mut said = Vec::new();
        // The end, or a reset: both are an end.
        if let Err(error) = stream.read_to_end(&mut said) {
            let kind = error.kind();
            assert!(kind == std::io::ErrorKind::ConnectionReset, "{what}: still open: {error}");
        }
        String::from_utf8_lossy(&said).into_owned()
    };
    // Header lines of 10,000 octets; noise; another protocol; a body that would never end.
    let head = |more: &str| {
        format!(
            "OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n{more}\r\n\r\n"
        )
    };
    let long = head(&format!("X-Long: {}\r\nContent-Length: 0", "x".repeat(10_000)));
    for (bytes, answer) in [
        (long.into_bytes(), "SIP/2.0 513"),
        (vec![0xA5; 10_000], ""),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), ""),
        (head("Content-Length: 99999999").into_bytes(), "SIP/2.0 513"),
        (head("X-None: 1").into_bytes(), "SIP/2.0 400"),
    ] {
        let mut stream = connect();
        let _ = stream.write_all(&bytes);
        let said = closed(stream, answer);
        assert!(said.starts_with(answer), "{answer:?}: {said:?}");
    }
    let ended = |why: &str| {
        let text = centre.get("/metrics").map(|a| a.text()).unwrap_or_default();
        let line = format!("cordboard_connections_closed_total{{why=\"{why}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&line)?.parse::<u32>().ok()).unwrap_or(0)
    };
    eventually("five are counted", s(2), || (ended("framing") == 5).then_some(()));
    // One who sends an octet now and then.
    let mut slow = connect();
    let begun = std::time::Instant::now();
    for byte in head("Content-Length: 0").bytes() {
        if slow.write_all(&[byte]).is_err() || begun.elapsed() > s(2) {
            break;
        }
        std::thread::sleep(ms(100));
    }
    closed(slow, "the slow one");
    eventually("the slow one is counted", s(2), || (ended("message-timeout") >= 1).then_some(()));
    // Two are the phones'.
    let held: Vec<TcpStream> = (0..18).map(|_| connect()).collect();
    eventually("20 are up", s(2), || (centre.metric("cordboard_connections") == 20.0).then_some(()));
    closed(connect(), "the 21st");
    eventually("the refused one is counted", s(2), || {
        let metrics = centre.get("/metrics").ok()?.text();
        metrics.contains("cordboard_connections_total{what=\"refused\"} 1").then_some(())
    });
    drop(held);
    // The call has noticed nothing of it.
    caller.listen_anew("c");
    alice.listen_anew("alice-1");
    both_hear(&mut caller, "c", &mut alice, "alice-1");
    caller.hang_up("c");
    caller.ended("c");
    alice.ended("alice-1");
    centre.finish();
}

/// A JsSIP in Node.
struct Browser {
    process: Child,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Browser {
    fn start(url: &str, origin: &str) -> Self {
        let mut process = place::program("node", "nodejs")
            .arg(place::beside("e2e/peers/jssip.js"))
            .env("JSSIP", place::jssip().parent().expect("its folder"))
            .envs([
                ("URL", url),
                ("USER", "alice"),
                ("PASSWORD", "secret-alice"),
                ("REALM", "acme"),
                ("ORIGIN", origin),
            ])
            .env("NODE_TLS_REJECT_UNAUTHORIZED", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Node starts");
        let lines = BufReader::new(process.stdout.take().expect("its output"));
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let told = events.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str::<Value>(&line) {
                    told.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                }
            }
        });
        Self { process, events }
    }

    fn hears(&self, event: &str) -> Value {
        eventually(&format!("JsSIP says {event}"), s(10), || {
            let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            events.iter().find(|e| e["event"] == event).cloned()
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_browsers_sip_registers_asks_and_is_rung_over_its_websocket() {
    let scene = Scene::new("transports-web");
    let authority = Authority::new(&scene, "ours");
    authority.sign("centre", "sip.acme.example");
    let (ws, wss) = (free_port(), free_port());
    let mut setup = Setup::default();
    setup.agent("alice");
    // So does JsSIP's.
    baresip::md5_only(&mut setup, "alice");
    setup.more = listener("ws", "127.0.0.1", ws, "origins = [\"https://desk.acme.example\"]\n")
        + &listener("wss", "127.0.0.1", wss, "certificate = \"centre.pem\"\nkey = \"centre.key\"\n");
    let centre = Centre::start(&scene, &setup);
    let stranger = Browser::start(&format!("ws://127.0.0.1:{ws}"), "https://evil.example");
    stranger.hears("disconnected");
    drop(stranger);
    let reachable = |is: bool| {
        eventually("the agent's phone is known or forgotten", s(10), || {
            let agents = centre.items("/v1/agents");
            agents.iter().any(|a| a["agent"] == "alice" && a["reachable"] == is).then_some(())
        });
    };
    for (n, url) in [(1, format!("ws://127.0.0.1:{ws}")), (2, format!("wss://127.0.0.1:{wss}"))] {
        let mut browser = Browser::start(&url, "https://desk.acme.example");
        browser.hears("registered");
        assert_eq!(browser.hears("options")["status"], 200);
        // The centre keeps no messages; the answer comes back over the same WebSocket.
        assert!(browser.hears("message")["status"].as_u64() >= Some(400));
        reachable(true);
        // A call goes out on the browser's own connection; without WebRTC in Node JsSIP declines it.
        centre.agent("alice", "login");
        let mut caller = caller("4930111", json!({}), json!({}));
        caller.call_uri("c", &format!("sip:100@127.0.0.1:{}", centre.ports.centre), CALLER_HZ, &[AGENT_HZ]);
        caller.confirmed("c");
        eventually("the offer reached JsSIP and was declined", s(10), || {
            let live = centre.calls(1).remove(0);
            let call = centre.json(&format!("/v1/calls/{}", live["interaction"].as_str()?));
            call.to_string().contains("488 Not Acceptable").then_some(())
        });
        caller.hang_up("c");
        caller.ended("c");
        centre.agent("alice", "logout");
        drop(browser.process.stdin.take());
        eventually("JsSIP has left", s(10), || browser.process.try_wait().ok().flatten());
        reachable(false);
        assert_eq!(centre.records(n).len(), n);
    }
    let metrics = centre.get("/metrics").expect("metrics").text();
    assert!(!metrics.contains("cordboard_connections_closed_total{why=\"upgrade\"} 0\n"), "{metrics}");
    centre.finish();
}

//! More programs from elsewhere: linphone as an agent's phone, digests by SHA-256 from two stacks, sipsak.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Instant;

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::place;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sound::{MUSIC_HZ, heard_ms, tone};
use cordboard_e2e::{eventually, ms, s};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::flow::{answers, caller, talk};

/// linphonec with a home of its own, which answers by itself, plays one file and records another.
struct Linphone {
    process: Child,
    heard: std::path::PathBuf,
}

impl Linphone {
    fn start(scene: &Scene, centre: &Centre, agent: &str) -> Self {
        let home = scene.dir().join("linphone");
        // Without the folder of its database it does nothing, and does not say so.
        for folder in [".local/share/linphone", ".config/linphone"] {
            std::fs::create_dir_all(home.join(folder)).expect("a folder");
        }
        let (says, heard) = (home.join("says.wav"), home.join("heard.wav"));
        tone(&says, 700, 30_000);
        // RTP has an even port (RFC 3550 11), and here one that is not SIP's.
        let rtp = std::iter::repeat_with(free_port).find(|port| port % 2 == 0).expect("an even port");
        let (sip, registrar) = (free_port(), centre.ports.centre);
        let config = format!(
            "[sip]\nsip_port={sip}\nsip_tcp_port=-1\nsip_tls_port=-1\nuse_ipv6=0\ndefault_proxy=0\nmedia_encryption=none\n\n\
             [rtp]\naudio_rtp_port={rtp}\n\n[net]\nfirewall_policy=none\n\n\
             [proxy_0]\nreg_proxy=sip:127.0.0.1:{registrar}\nreg_identity=sip:{agent}@127.0.0.1\nreg_expires=300\nreg_sendregister=1\n\n\
             [auth_info_0]\nusername={agent}\npasswd=secret-{agent}\nrealm=acme\n\n[sound]\nuse_files=1\n"
        );
        std::fs::write(home.join("linphonerc"), config).expect("written");
        let log = std::fs::File::create(scene.dir().join("linphone.log")).expect("a log");
        let mut process = place::program("linphonec", "linphone-cli")
            .args(["-a", "-c"])
            .arg(home.join("linphonerc"))
            .env("HOME", &home)
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("linphone starts");
        let orders = process.stdin.as_mut().expect("its input");
        writeln!(orders, "soundcard use files\nplay {}\nrecord {}", says.display(), heard.display())
            .expect("linphone takes orders");
        Self { process, heard }
    }

    fn quit(mut self) {
        if let Some(orders) = self.process.stdin.as_mut() {
            let _ = writeln!(orders, "quit");
        }
        let process = &mut self.process;
        eventually("linphone ends", s(10), || process.try_wait().ok().flatten());
    }
}

impl Drop for Linphone {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The algorithms in the Authorization headers that reached the centre, as tshark read them.
fn algorithms(capture: &mut Capture, centre: &Centre) -> Vec<String> {
    let filter = format!("sip.auth.digest.response && udp.dstport == {}", centre.ports.centre);
    capture.fields(&filter, &["sip.auth.algorithm"])
}

#[test]
fn linphone_registers_by_sha_256_answers_and_is_heard_and_hears() {
    let scene = Scene::new("linphone");
    let mut setup = Setup { rtp_ports: 40, ..Setup::default() };
    setup.agent("alice");
    let centre = Centre::start(&scene, &setup);
    let mut capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    let phone = Linphone::start(&scene, &centre, "alice");
    eventually("linphone has registered", s(20), || {
        centre
            .items("/v1/agents")
            .iter()
            .any(|a| a["agent"] == "alice" && a["reachable"] == true)
            .then_some(())
    });
    centre.agent("alice", "login");
    // One call that the caller ends.
    let mut caller = caller(&centre, "4930111");
    caller.hears_tone("c", 700);
    std::thread::sleep(s(2));
    caller.hang_up("c");
    assert_eq!(caller.ended("c")["status"], 200);
    centre.agent_becomes("alice", "ready");
    let record = centre.record();
    assert_eq!(
        (record["agent"].as_str(), record["offers"][0]["result"].as_str()),
        (Some("alice"), Some("accepted"))
    );
    assert_eq!((record["end"]["by"].as_str(), record["end"]["cause"].as_u64()), (Some("caller"), Some(16)));
    std::thread::sleep(ms(500));
    let heard = phone.heard.clone();
    phone.quit();
    let heard = heard_ms(&heard, 1_000);
    assert!(heard > 1_000, "linphone has heard only {heard} ms of the caller's tone");
    let used = algorithms(&mut capture, &centre);
    assert!(!used.is_empty() && used.iter().all(|a| a == "SHA-256"), "digests by {used:?}");
    // The hang-up reached linphone: it has answered the centre's BYE.
    let byes = format!(
        "sip.CSeq.method == \"BYE\" && sip.Status-Code == 200 && udp.dstport == {}",
        centre.ports.centre
    );
    assert_eq!(capture.find(&byes).len(), 1, "linphone answered the BYE");
    capture.nothing_malformed(10, 100);
    centre.finish();
}

#[test]
fn pjsip_registers_by_sha_256_and_a_wrong_password_gets_nowhere() {
    let scene = Scene::new("sha-256");
    let mut setup = Setup { rtp_ports: 40, ..Setup::default() };
    setup.agent("alice").agent("bob");
    // Offered both, pjsip takes MD5: what is kept as SHA-256 offers nothing else.
    let ha1 =
        Sha256::digest("alice:acme:secret-alice").iter().fold(String::new(), |t, b| t + &format!("{b:02x}"));
    setup.edits.push(("secret-alice".into(), format!("sha256:{ha1}")));
    let centre = Centre::start(&scene, &setup);
    let mut capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    let mut alice = Phone::agent(&centre, "alice", answers());
    let mut other = Phone::start("bob");
    other.order(&serde_json::json!({
        "do": "account", "name": "bob", "id": "sip:bob@acme", "registrar": format!("sip:127.0.0.1:{}", centre.ports.centre),
        "user": "bob", "password": "not-the-password",
    }));
    let refused = other.hears("registered", s(5), |e| e["status"] != 200);
    assert!(matches!(refused["status"].as_u64(), Some(401 | 403)), "{refused}");
    assert!(centre.items("/v1/agents").iter().all(|a| a["agent"] != "bob" || a["reachable"] == false));
    centre.agent("alice", "login");
    let mut phone = caller(&centre, "4930111");
    talk(&mut phone, "c", &mut alice, "alice-1");
    alice.hang_up("alice-1");
    assert_eq!(alice.ended("alice-1")["status"], 200);
    assert_eq!(phone.ended("c")["status"], 200);
    let used = algorithms(&mut capture, &centre);
    assert!(used.contains(&"SHA-256".to_owned()), "digests by {used:?}");
    capture.nothing_malformed(10, 40);
    centre.finish();
}

/// sipsak's exit code and what it printed.
fn sipsak(args: &[&str]) -> (Option<i32>, String) {
    let out = place::program("timeout", "coreutils")
        .args(["30", "sipsak"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("sipsak starts");
    let text = [out.stdout, out.stderr].concat();
    (out.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// A sipsak that ends with the test, however that ends.
struct Flood(Child);

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One call that waits with music. The phone is to stay: what the flood has drowned it must send again.
fn hears_music(mut phone: Phone) -> Phone {
    phone.hears_tone("c", MUSIC_HZ);
    phone.hang_up("c");
    assert_eq!(phone.ended("c")["status"], 200);
    phone
}

#[test]
fn sipsak_asks_registers_floods_and_sends_rubbish() {
    let _ = place::program("sipsak", "sipsak");
    let scene = Scene::new("sipsak");
    let mut setup = Setup { rtp_ports: 40, ..Setup::default() };
    setup.agent("alice");
    // sipsak knows MD5 alone.
    let ha1 =
        Md5::digest("alice:acme:secret-alice").iter().fold(String::new(), |t, b| t + &format!("{b:02x}"));
    setup.edits.push(("secret-alice".into(), format!("md5:{ha1}")));
    let centre = Centre::start(&scene, &setup);
    let mut capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    for port in [centre.ports.redirect, centre.ports.centre] {
        let uri = format!("sip:127.0.0.1:{port}");
        let (code, said) = sipsak(&["-s", &uri]);
        assert_eq!(code, Some(0), "OPTIONS to {uri}: {said}");
    }
    let to = format!("sip:alice@127.0.0.1:{}", centre.ports.centre);
    let contact = format!("sip:alice@127.0.0.1:{}", free_port());
    let register = ["-U", "-C", &contact, "-u", "alice", "-a", "secret-alice", "-x", "60", "-s", &to];
    for _ in 0..20 {
        let (code, said) = sipsak(&register);
        assert_eq!(code, Some(0), "REGISTER: {said}");
    }
    assert_eq!(centre.items("/v1/agents")[0]["reachable"], true);
    let (code, said) = sipsak(&["-U", "-C", &contact, "-u", "alice", "-a", "wrong", "-x", "60", "-s", &to]);
    assert_ne!(code, Some(0), "a wrong password: {said}");
    // Rubbish: OPTIONS with characters at random places overwritten, more of them each time.
    let uri = format!("sip:127.0.0.1:{}", centre.ports.centre);
    let began = Instant::now();
    let _ = sipsak(&["-R", "-t", "40", "-D", "4", "-s", &uri]);
    println!("rubbish for {:?}", began.elapsed());
    // A flood of OPTIONS from the carrier's own address, which the gate lets pass: it is passed over, and the
    // same carrier's calls go on meanwhile.
    let mut flood = Flood(
        place::program("sipsak", "sipsak")
            .args(["-F", "-e", "100000000", "-s", &uri])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sipsak starts"),
    );
    eventually("the shard is pressed", s(10), || {
        (centre.metric("cordboard_shard_passed_over_total") > 1_000.0).then_some(())
    });
    // The system drops what the socket's buffer cannot hold, a call's messages too: their sender repeats them,
    // at the latest when the flood is over.
    let phones = [caller(&centre, "4930111"), caller(&centre, "4930112")];
    std::thread::sleep(s(3));
    let lasted = flood.0.try_wait().expect("sipsak's state").is_none();
    assert!(lasted, "the flood has lasted while the calls came");
    drop(flood);
    let phones = phones.map(hears_music);
    assert_eq!(centre.metric("cordboard_shard_shed_total"), 0.0, "no call was shed");
    // What still lies in the socket's buffer is answered first.
    eventually("the shard has caught up", s(10), || {
        let before = centre.metric("cordboard_udp_datagrams_total");
        std::thread::sleep(ms(600));
        (centre.metric("cordboard_udp_datagrams_total") - before < 10.0).then_some(())
    });
    let last = hears_music(caller(&centre, "4930113"));
    let received = centre.metric("cordboard_udp_datagrams_total");
    println!("{received} datagrams received and sent");
    let ours = format!("udp.srcport == {} || udp.srcport == {}", centre.ports.redirect, centre.ports.centre);
    let malformed =
        capture.find(&format!("({ours}) && (_ws.malformed || (_ws.expert.severity == error && sip))"));
    assert!(malformed.is_empty(), "what we sent is whole, whatever we got: {malformed:?}");
    assert_eq!(centre.records(3).len(), 3);
    drop((phones, last));
    centre.finish();
}

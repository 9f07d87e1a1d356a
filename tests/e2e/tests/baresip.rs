//! baresip as an agent's phone: another stack, with ears of its own (a WAV file of what it heard).

use std::process::{Child, Stdio};

use md5::{Digest, Md5};

use cordboard_e2e::centre::Centre;
use cordboard_e2e::place;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sound::{heard_ms, tone};
use cordboard_e2e::{eventually, ms, s};

use crate::flow::caller;

/// Ends the program with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn baresip_registers_answers_and_is_heard_and_hears() {
    let scene = Scene::new("baresip");
    let mut setup = Setup::default();
    setup.agent("alice");
    // Its digest knows MD5 alone, and gives up when SHA-256 is offered too: a password kept as MD5 offers nothing else.
    let ha1 =
        Md5::digest("alice:acme:secret-alice").iter().fold(String::new(), |t, b| t + &format!("{b:02x}"));
    setup.edits.push(("secret-alice".into(), format!("md5:{ha1}")));
    let centre = Centre::start(&scene, &setup);
    let home = scene.dir().join("baresip");
    std::fs::create_dir_all(&home).expect("a folder");
    let says = home.join("says.wav");
    tone(&says, 700, 30_000);
    let port = free_port();
    let modules = [
        "/usr/lib/baresip/modules",
        "/usr/lib/x86_64-linux-gnu/baresip/modules",
        "/usr/lib/aarch64-linux-gnu/baresip/modules",
    ];
    let modules = modules
        .into_iter()
        .find(|m| std::path::Path::new(m).is_dir())
        .expect("baresip's modules: install the Debian package baresip-core");
    let config = format!(
        "sip_listen 127.0.0.1:{port}\nsip_transports udp\nmodule_path {modules}\nmodule g711.so\nmodule aufile.so\nmodule sndfile.so\nsnd_path {}\n\
         module_app account.so\nmodule_app menu.so\naudio_source aufile,{}\n\
         ausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\nrtp_ports {}-{}\n",
        home.display(),
        says.display(),
        11_000,
        11_100,
    );
    std::fs::write(home.join("config"), config).expect("written");
    std::fs::write(home.join("contacts"), "").expect("written");
    let account = format!(
        "<sip:alice@127.0.0.1:{}>;auth_user=alice;auth_pass=secret-alice;answermode=auto;regint=60;audio_codecs=PCMU/8000/1\n",
        centre.ports.centre,
    );
    std::fs::write(home.join("accounts"), account).expect("written");
    let log = std::fs::File::create(scene.dir().join("baresip.log")).expect("a log");
    let phone = place::program("baresip", "baresip-core")
        .arg("-f")
        .arg(&home)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("baresip starts");
    let phone = Ended(phone);
    eventually("baresip has registered", s(10), || {
        centre
            .items("/v1/agents")
            .iter()
            .any(|a| a["agent"] == "alice" && a["reachable"] == true)
            .then_some(())
    });
    centre.agent("alice", "login");
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
    std::thread::sleep(ms(500));
    drop(phone);
    // Its own recording of what it decoded.
    let wav = std::fs::read_dir(&home)
        .expect("its folder")
        .flatten()
        .map(|e| e.path())
        .find(|p| p.to_string_lossy().ends_with("dec.wav"));
    let heard = heard_ms(&wav.expect("a recording of what was heard"), 1_000);
    assert!(heard > 500, "baresip has heard only {heard} ms of the caller's tone");
    centre.finish();
}

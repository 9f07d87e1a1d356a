//! The whole flow: redirect, router, IVR in WebAssembly, queue policy in WebAssembly, agent leg,
//! bridge, CTI events to a listening HTTP server, a record. Once signalling only (SIPp offers its
//! audio as `inactive`, so prompts and music run their time unheard) and once with the prompts and
//! music sent to the callers as RTP.

use cordboard_e2e::centre::Centre;
use cordboard_e2e::place;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::webhook::Webhook;
use cordboard_e2e::{eventually, s};

use crate::Figure;
use crate::process::{cpu_s, resident_kib};

const CALLS: u32 = 1_000;
/// The rate and the agents of the baseline.
const PER_S: u32 = 200;
const AGENTS: u32 = 300;
const TALK_MS: u32 = 1_000;

pub(crate) fn run() -> Vec<Figure> {
    let silent = whole_flow("bench-flow", false);
    let heard = whole_flow("bench-flow-rtp", true);
    let asterisk = "Asterisk app_queue, 300 agents (its lower figure)";
    let figure =
        |name, value, unit, baseline, of| Figure { name, value, unit, baseline, baseline_value: Some(of) };
    vec![
        figure("flow_cpu_s_per_1000", silent.cpu_s, "s", asterisk, 5.1),
        figure("flow_rtp_cpu_s_per_1000", heard.cpu_s, "s", asterisk, 5.1),
        figure("waiting_call_kib", waiting_call_kib(), "KiB", "Asterisk, a bridged call with media", 306.0),
        figure("flow_failed", f64::from(silent.failed), "calls", "of 1,000; none may fail", 0.0),
        figure("flow_rtp_failed", f64::from(heard.failed), "calls", "of 1,000; none may fail", 0.0),
    ]
}

/// What a run of 1,000 calls cost.
struct Run {
    cpu_s: f64,
    failed: u32,
}

/// The configuration of the demo, with agents at SIPp and waits cut to what a load can afford.
fn setup() -> Setup {
    let mut setup = Setup {
        rtp_ports: 8_000,
        serialise_bus: false,
        policy: Some("policy-skills".into()),
        ..Setup::default()
    };
    setup.plugin("policy-skills", "policy-skills").set("ivr-support", "menu", "true").group("wrap_up_s", "0");
    setup
}

/// A scenario of `tests/sipp`, its audio inactive unless it is to be heard.
fn scenario(scene: &Scene, name: &str, audio: bool) -> String {
    let text =
        std::fs::read_to_string(place::beside(&format!("sipp/{name}.xml"))).expect("the scenario is there");
    let text = if audio {
        text
    } else {
        text.replace("a=rtpmap:0 PCMU/8000", "a=rtpmap:0 PCMU/8000\n      a=inactive")
    };
    let file = scene.dir().join(format!("{name}.xml"));
    std::fs::write(&file, text).expect("the scenario can be written");
    file.display().to_string()
}

fn callers(scene: &Scene, name: &str, audio: bool, centre: &Centre, calls: u32, per_s: u32) -> Sipp {
    let args = [
        "-sf".to_owned(),
        scenario(scene, "caller", audio),
        "-s".to_owned(),
        "100".to_owned(),
        "-m".to_owned(),
        calls.to_string(),
        "-r".to_owned(),
        per_s.to_string(),
        "-l".to_owned(),
        "3000".to_owned(),
        "-recv_timeout".to_owned(),
        "120000".to_owned(),
        format!("127.0.0.1:{}", centre.ports.redirect),
    ];
    Sipp::run(scene, name, free_port(), &args)
}

fn whole_flow(name: &str, audio: bool) -> Run {
    let scene = Scene::new(name);
    let webhook = Webhook::start();
    let port = free_port();
    let args = [
        "-sf".to_owned(),
        scenario(&scene, "agent", audio),
        "-d".to_owned(),
        TALK_MS.to_string(),
        "-l".to_owned(),
        "3000".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    let _agents = Sipp::run(&scene, "agents", port, &args);
    let mut setup = setup();
    setup.webhook(&webhook.url());
    for i in 0..AGENTS {
        setup.agent_at(&format!("agent{i}"), &format!("sip:agent{i}@127.0.0.1:{port}"));
    }
    let centre = Centre::start(&scene, &setup);
    // The first calls make what is made once: instances, connections, the cache of prompts.
    let warm_up = 50;
    callers(&scene, "warm-up", audio, &centre, warm_up, 50).all_well(u64::from(warm_up), s(120));
    let before = cpu_s(centre.pid());
    let load = callers(&scene, "callers", audio, &centre, CALLS, PER_S);
    let well = eventually("SIPp has ended every call", s(300), || {
        let well = load.figure("SuccessfulCall(C)")?;
        (well + load.figure("FailedCall(C)")? >= u64::from(CALLS)).then_some(well)
    });
    let failed = CALLS - well as u32;
    let records = eventually("every call has its record", s(60), || {
        let records = centre.items("/v1/records?limit=10000").len() as u32;
        (records >= CALLS + warm_up - failed).then_some(records)
    });
    let cpu_s = cpu_s(centre.pid()) - before;
    eprintln!(
        "{name}: {CALLS} calls at {PER_S} a second, {AGENTS} agents, {records} records, {} events at the HTTP server, {cpu_s:.2} s of CPU; {}",
        webhook.events().len(),
        if audio {
            "prompts and music sent as RTP, none sent by callers and agents"
        } else {
            "no RTP either way"
        }
    );
    Run { cpu_s: cpu_s * 1_000.0 / f64::from(CALLS), failed }
}

/// 1,000 callers wait in a fresh process, and hear its music; nobody is there to take them.
fn waiting_call_kib() -> f64 {
    let scene = Scene::new("bench-waiting");
    let mut setup = setup();
    setup.agent("nobody");
    let centre = Centre::start(&scene, &setup);
    let before = resident_kib(centre.pid());
    let _callers = callers(&scene, "callers", true, &centre, CALLS, 100);
    eventually("1,000 callers wait", s(120), || {
        let queues = centre.items("/v1/queues");
        (queues.first()?["waiting"].as_u64()? >= u64::from(CALLS)).then_some(())
    });
    (resident_kib(centre.pid()) - before) / f64::from(CALLS)
}

//! Back-to-back calls: INVITE through the router in WebAssembly to a bridge, two legs, media anchored,
//! a record for each call; both ends are SIPp with its own scenarios, without RTP.

use cordboard_e2e::centre::Centre;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::{eventually, s};

use crate::Figure;
use crate::process::{cpu_s, resident_kib};

/// The rates of the figure, in calls a second, and the calls at each.
const RATES: [(u32, u32); 2] = [(300, 3_000), (1_000, 6_000)];
/// Rates that are tried for the highest without a retransmission.
const STEPS: [u32; 8] = [500, 1_000, 1_500, 2_000, 2_500, 3_000, 4_000, 5_000];
/// Seconds of each step.
const STEP_S: u32 = 3;
/// Calls that are up at once for their memory.
const ESTABLISHED: u32 = 2_000;

pub(crate) fn run() -> Vec<Figure> {
    let asterisk = "Asterisk, two legs with media (its lower figure)";
    let mut figures = Vec::new();
    let mut failed = 0;
    for (per_s, calls) in RATES {
        let load = Load::start(&format!("bench-bridge-{per_s}"));
        load.calls("warm-up", 200, 100, 100);
        let before = load.cpu_s();
        let run = load.calls("load", calls, per_s, 1_000);
        failed += run.failed;
        let recorded = u64::from(200 + calls - run.failed);
        eventually("every call has its record", s(60), || {
            (load.centre.metric("cordboard_calls_closed_total") >= recorded as f64).then_some(())
        });
        let cpu_s = load.cpu_s() - before;
        eprintln!(
            "bridge: {calls} calls at {per_s} a second, {} failed, {} retransmissions, {cpu_s:.2} s of CPU; no RTP",
            run.failed, run.retransmissions
        );
        figures.push(Figure {
            name: if per_s == 300 { "bridge_cpu_s_per_1000" } else { "bridge_cpu_s_per_1000_at_1000" },
            value: cpu_s * 1_000.0 / f64::from(calls),
            unit: "s",
            baseline: asterisk,
            baseline_value: Some(2.0),
        });
    }
    figures.push(Figure {
        name: "bridge_max_per_s",
        value: f64::from(highest()),
        unit: "calls/s",
        baseline: "asked on one core; here SIPp's two ends share the machine's cores",
        baseline_value: Some(4_000.0),
    });
    let (whole, leg) = (established_kib(), crate::legs::leg_kib(u64::from(2 * ESTABLISHED)));
    for (name, value, baseline, baseline_value) in [
        (
            "established_call_kib",
            whole - 2.0 * leg,
            "asked: both dialogs, without the two media legs",
            Some(12.0),
        ),
        ("established_whole_call_kib", whole, "with its two media legs", None),
        ("media_leg_kib", leg, "a leg by itself, in a process without calls", None),
    ] {
        figures.push(Figure { name, value, unit: "KiB", baseline, baseline_value });
    }
    figures.push(Figure {
        name: "bridge_failed",
        value: f64::from(failed),
        unit: "calls",
        baseline: "of all at both rates; none may fail",
        baseline_value: Some(0.0),
    });
    figures
}

/// A centre that bridges every call to SIPp.
struct Load {
    // Ended in this order: the ends, the centre, the folder.
    _far: Sipp,
    centre: Centre,
    scene: Scene,
}

struct Run {
    failed: u32,
    retransmissions: u64,
}

impl Load {
    fn start(name: &str) -> Self {
        let scene = Scene::new(name);
        let port = free_port();
        let far = Sipp::run(&scene, "far", port, &["-sn".into(), "uas".into(), "127.0.0.1".into()]);
        let mut setup = Setup { rtp_ports: 12_000, serialise_bus: false, ..Setup::default() };
        setup.rules = format!("* -> bridge sip:far@127.0.0.1:{port} ring=20");
        setup.limit("max_calls", "10000");
        setup.edits = vec![
            ("max_calls = 5000".into(), "max_calls = 10000".into()),
            ("max_calls_per_s = 1000".into(), "max_calls_per_s = 100000".into()),
        ];
        let centre = Centre::start(&scene, &setup);
        Self { _far: far, centre, scene }
    }

    fn cpu_s(&self) -> f64 {
        cpu_s(self.centre.pid())
    }

    fn callers(&self, name: &str, calls: u32, per_s: u32, talk_ms: u32) -> Sipp {
        let centre = format!("127.0.0.1:{}", self.centre.ports.centre);
        let args = ["-sn", "uac", "-s", "4930100", "-m", &calls.to_string(), "-r", &per_s.to_string()]
            .into_iter()
            .chain(["-d", &talk_ms.to_string(), "-l", "20000", "-recv_timeout", "60000", &centre])
            .map(str::to_owned)
            .collect::<Vec<_>>();
        Sipp::run(&self.scene, name, free_port(), &args)
    }

    fn calls(&self, name: &str, calls: u32, per_s: u32, talk_ms: u32) -> Run {
        let callers = self.callers(name, calls, per_s, talk_ms);
        let failed = eventually("SIPp has ended every call", s(120), || {
            let (well, failed) = (callers.figure("SuccessfulCall(C)")?, callers.figure("FailedCall(C)")?);
            (well + failed >= u64::from(calls)).then_some(failed)
        });
        Run { failed: failed as u32, retransmissions: callers.figure("Retransmissions(C)").unwrap_or(0) }
    }
}

/// The highest of the rates at which neither end repeats a message and every call ends well.
fn highest() -> u32 {
    let load = Load::start("bench-bridge-max");
    load.calls("warm-up", 200, 100, 100);
    let mut highest = 0;
    for per_s in STEPS {
        let run = load.calls(&format!("at-{per_s}"), per_s * STEP_S, per_s, 200);
        eprintln!(
            "bridge: at {per_s} a second {} failed, {} retransmissions",
            run.failed, run.retransmissions
        );
        if run.failed > 0 || run.retransmissions > 0 {
            break;
        }
        highest = per_s;
    }
    highest
}

/// Calls that stand: memory of each in a fresh process, both dialogs and both media legs. The transactions
/// that set them up are over: RFC 3261 and 6026 keep them for 32 s.
fn established_kib() -> f64 {
    let load = Load::start("bench-established");
    load.calls("warm-up", 10, 10, 10);
    let before = resident_kib(load.centre.pid());
    let _callers = load.callers("stand", ESTABLISHED, 200, 150_000);
    eventually("the calls stand", s(60), || {
        (load.centre.metric("cordboard_calls") >= f64::from(ESTABLISHED)).then_some(())
    });
    eventually("their INVITEs are over", s(60), || {
        (load.centre.metric("cordboard_sip_transactions") == 0.0).then_some(())
    });
    // What is free now goes back to the system within a second.
    std::thread::sleep(s(2));
    (resident_kib(load.centre.pid()) - before) / f64::from(ESTABLISHED)
}

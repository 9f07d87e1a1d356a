//! Figures beside their baselines. A figure is never a verdict: nothing here passes or fails.
//!
//! The server is a process of its own with a journal on disk; its CPU time and memory come from the
//! operating system, the load from SIPp. Called by `cargo xtask bench`.

use std::process::ExitCode;

mod bridge;
mod flow;
mod legs;
mod process;
mod redirect;
mod wire;

/// One figure.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    baseline: &'static str,
    baseline_value: Option<f64>,
}

impl Figure {
    fn json(&self) -> String {
        serde_json::json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "baseline_value": self.baseline_value,
        })
        .to_string()
    }

    fn row(&self) -> String {
        let baseline = self.baseline_value.map(|v| format!("{v} {}", self.unit)).unwrap_or_default();
        format!("{:24} {:>10.3} {:10} {:>10}  {}", self.name, self.value, self.unit, baseline, self.baseline)
    }
}

type Bench = (&'static str, &'static str, fn() -> Vec<Figure>);

const BENCHES: &[Bench] = &[
    ("bridge", "back-to-back calls through the router to a bridge: CPU, rate, memory", bridge::run),
    ("flow", "the whole flow, signalling by SIPp; memory of waiting calls", flow::run),
    (
        "redirect",
        "INVITE, 302, ACK at the redirect role, beside the kernel's floor and Kamailio",
        redirect::run,
    ),
    ("wire", "an INVITE indexed, framed and let in, beside rsip", wire::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if redirect::part(&arguments) {
        return ExitCode::SUCCESS;
    }
    if arguments.first().is_some_and(|word| word == legs::PART) {
        legs::run(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    let json = arguments.iter().any(|argument| argument == "--json");
    let Some(name) = arguments.iter().find(|argument| !argument.starts_with('-')) else {
        for (name, about, _) in BENCHES {
            println!("{name:10} {about}");
        }
        return ExitCode::SUCCESS;
    };
    let Some((_, _, run)) = BENCHES.iter().find(|(bench, ..)| bench == name) else {
        eprintln!("bench: no bench {name:?}; without a name the command lists them");
        return ExitCode::FAILURE;
    };
    for figure in run() {
        println!("{}", if json { figure.json() } else { figure.row() });
    }
    ExitCode::SUCCESS
}

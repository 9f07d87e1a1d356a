//! Steps 3 and 4 alone: INVITE, 302, ACK at a `cordboard serve` process with the redirect role and
//! nothing else, its configuration as shipped apart from addresses; beside it, in the same run and
//! under the same load, what the kernel alone costs, and Kamailio's dispatcher where it is installed.
//!
//! Every server has the first processor and the load the last one. Saturated means that the server
//! is never idle: the load keeps [`WINDOW`] requests under way and costs less than any server.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cordboard_e2e::raw::RawUa;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::{eventually, place, s};
use serde_json::Value;

use crate::Figure;
use crate::process::cpu_s;

mod batch;
mod floor;
mod load;

/// Requests under way at once, over [`SOCKETS`] senders. Kamailio's receive buffer holds 154 INVITEs.
const WINDOW: u64 = 128;
const SOCKETS: u64 = 8;
const SECONDS: u64 = 5;
/// Runs of each server; the one that costs the median counts.
const RUNS: usize = 3;

/// What one server did under the load.
#[derive(Clone, Copy)]
struct Cost {
    cpu_us: f64,
    per_s: f64,
}

pub(crate) fn run() -> Vec<Figure> {
    let scene = Scene::new("bench-redirect");
    let floor = measure("kernel floor, recvfrom and sendto", |port| floor_process(port, "plain"));
    let batched = measure("kernel floor, recvmmsg and sendmmsg", |port| floor_process(port, "batched"));
    let ours = measure("cordboard", |port| cordboard(scene.dir(), port));
    let kamailio = kamailio_is_there().then(|| {
        let packaged = measure("Kamailio as packaged", |port| kamailio(scene.dir(), port, &[]));
        let fastest =
            measure("Kamailio -x fm -X fm", |port| kamailio(scene.dir(), port, &["-x", "fm", "-X", "fm"]));
        (packaged, fastest)
    });
    let mut beside = vec![
        ("kernel floor: recvfrom, recvfrom, sendto", Some(floor)),
        ("kernel floor: recvmmsg, sendmmsg", Some(batched)),
    ];
    match kamailio {
        Some((packaged, fastest)) => {
            beside.push(("Kamailio, dispatcher, as packaged", Some(packaged)));
            beside.push(("Kamailio, dispatcher, -x fm -X fm", Some(fastest)));
        }
        None => beside.push(("Kamailio (not installed here; another machine's lower figures)", None)),
    }
    let elsewhere = Cost { cpu_us: 8.3, per_s: 116_000.0 };
    let figure =
        |name, value, unit, baseline, of| Figure { name, value, unit, baseline, baseline_value: Some(of) };
    let cpu = beside.iter().map(|(what, cost)| {
        figure("redirect_cpu_us", ours.cpu_us, "us", *what, cost.unwrap_or(elsewhere).cpu_us)
    });
    let rate = beside.iter().map(|(what, cost)| {
        figure("redirect_per_s", ours.per_s, "1/s", *what, cost.unwrap_or(elsewhere).per_s)
    });
    cpu.chain(rate).collect()
}

/// The programs beside the bench: whether the arguments ask for one of them, which then has run.
pub(crate) fn part(arguments: &[String]) -> bool {
    match arguments.first().map(String::as_str) {
        Some("redirect-load") => load::run(&arguments[1..]),
        Some("redirect-floor") => floor::run(&arguments[1..]),
        _ => return false,
    }
    true
}

/// A server process that ends with its value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Kamailio's children end with their parent, when it is asked to end.
        // SAFETY: the process is our child and has not been waited for.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        for _ in 0..100 {
            if self.0.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(name: &str, start: impl Fn(u16) -> Command) -> Cost {
    let mut runs: Vec<Cost> = (0..RUNS).map(|_| measure_once(name, &start)).collect();
    runs.sort_by(|a, b| a.cpu_us.total_cmp(&b.cpu_us));
    runs[RUNS / 2]
}

fn measure_once(name: &str, start: impl Fn(u16) -> Command) -> Cost {
    let port = free_port();
    let child = start(port).stdin(Stdio::null()).spawn().expect("the server starts");
    let server = Server(child);
    let to = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    if !name.starts_with("kernel") {
        let mut ua = RawUa::new();
        let mut dialog = None;
        let moved = eventually(&format!("{name} redirects"), s(60), || {
            dialog = Some(ua.invite(to, "100", "4930111"));
            ua.may_get(Duration::from_millis(200), |m| m.status() == 302)
        });
        ua.ack(dialog.as_mut().expect("an INVITE was sent"), &moved);
    }
    // The first requests make what is made once.
    loaded(port, 1);
    let pid = server.0.id() as i32;
    let before = tree_cpu_s(pid);
    let result = loaded(port, SECONDS);
    let cpu = tree_cpu_s(pid) - before;
    let of = |key: &str| result[key].as_f64().unwrap_or(0.0);
    let (answered, seconds) = (of("answered"), of("seconds"));
    let cost = Cost { cpu_us: cpu * 1e6 / answered, per_s: answered / seconds };
    eprintln!(
        "{name}: {:.2} us of CPU a request, {:.0} a second, its processor {:.0} % busy; sent again {}, not redirected {}",
        cost.cpu_us,
        cost.per_s,
        cpu / seconds * 100.0,
        of("again"),
        of("other"),
    );
    cost
}

fn loaded(port: u16, seconds: u64) -> Value {
    let numbers = [u64::from(port), SOCKETS, WINDOW / SOCKETS, seconds].map(|n| n.to_string());
    let output =
        ourselves(last_processor()).arg("redirect-load").args(numbers).output().expect("the load runs");
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("the load's figures: {e}: {text}"))
}

/// User and system time of a process and its children, in seconds.
fn tree_cpu_s(pid: i32) -> f64 {
    let children = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let child: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent: i32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        (parent == pid).then_some(child)
    });
    cpu_s(pid) + children.map(cpu_s).sum::<f64>()
}

fn last_processor() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) - 1
}

fn on_processor(number: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = place::program("taskset", "util-linux");
    command.args(["-c", &number.to_string()]).arg(program);
    command
}

fn ourselves(processor: usize) -> Command {
    on_processor(processor, std::env::current_exe().expect("our own path"))
}

fn floor_process(port: u16, how: &str) -> Command {
    let mut command = ourselves(0);
    command.args(["redirect-floor", &port.to_string(), how]);
    command
}

/// Two nodes elsewhere, which are not asked: their answers would cost CPU that is no request's.
fn cordboard(folder: &Path, port: u16) -> Command {
    let folder = folder.join(format!("cordboard-{port}"));
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("redirect.toml");
    let mut text = format!(
        "node = \"bench\"\nroles = [\"redirect\"]\ndata = \"{}\"\n[listen]\nredirect = \"127.0.0.1:{port}\"\n\
         [api]\nlisten = \"127.0.0.1:{}\"\n[[trunks]]\nname = \"carrier\"\nsources = [\"127.0.0.0/8\"]\n",
        folder.join("data").display(),
        free_port(),
    );
    for i in 1..=2 {
        let _ = write!(
            text,
            "[[redirect.nodes]]\nid = \"node{i}\"\naddress = \"127.0.0.1:{}\"\nprobe = false\n",
            free_port()
        );
    }
    fs::write(&file, text).expect("a configuration");
    let mut command = on_processor(0, place::binary());
    command.args(["serve", "--config"]).arg(file);
    log_to(&mut command, &folder.join("serve.log"));
    command
}

fn kamailio_is_there() -> bool {
    Command::new("kamailio").arg("-v").output().is_ok_and(|output| output.status.success())
}

/// One receiver on one socket; a destination by hash of the Call-ID; nothing looked up, nothing logged.
fn kamailio(folder: &Path, port: u16, allocators: &[&str]) -> Command {
    let folder = folder.join(format!("kamailio-{port}"));
    fs::create_dir_all(&folder).expect("a folder");
    let list = folder.join("dispatcher.list");
    fs::write(&list, "1 sip:127.0.0.1:9001\n1 sip:127.0.0.1:9002\n").expect("a list");
    let config = folder.join("kamailio.cfg");
    let text = format!(
        "debug=0\nlog_stderror=yes\nfork=yes\nchildren=1\ndisable_tcp=yes\nauto_aliases=no\ndns=no\nrev_dns=no\n\
         listen=udp:127.0.0.1:{port}\nloadmodule \"pv.so\"\nloadmodule \"sl.so\"\nloadmodule \"dispatcher.so\"\n\
         modparam(\"dispatcher\", \"list_file\", \"{}\")\n\
         request_route {{\n  if (method == \"INVITE\") {{\n    if (!ds_select_domain(\"1\", \"0\")) {{\n      sl_send_reply(\"503\", \"No Node\");\n      exit;\n    }}\n    sl_send_reply(\"302\", \"Moved Temporarily\");\n  }}\n  exit;\n}}\n",
        list.display()
    );
    fs::write(&config, text).expect("a configuration");
    let mut command = on_processor(0, "kamailio");
    command.args(["-DD", "-E", "-m", "64", "-M", "8", "-w"]).arg(&folder).arg("-Y").arg(&folder);
    command.arg("-P").arg(folder.join("pid")).arg("-f").arg(config).args(allocators);
    log_to(&mut command, &folder.join("kamailio.log"));
    command
}

fn log_to(command: &mut Command, file: &Path) {
    let log = File::create(file).expect("a log");
    command.stdout(log.try_clone().expect("a log")).stderr(log);
}

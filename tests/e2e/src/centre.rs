//! The centre under test: a `cordboard serve` process with a configuration, ports and a store of its
//! own. At the end of a test it must be at rest: no call, no leg, no agent left behind, no panic in
//! the log, and SIGTERM must end it in peace.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::capture::Tap;
use crate::http::{self, Answer};
use crate::scene::{Scene, free_port, rtp_range};
use crate::setup::{Ports, READER, Setup, TOKEN};
use crate::{eventually, place, s, sound};

/// See the module.
#[derive(Debug)]
pub struct Centre {
    dir: PathBuf,
    /// Its ports, the same over restarts.
    pub ports: Ports,
    process: Option<Child>,
    life: u32,
    tap: Option<Tap>,
    deaf: Option<std::io::PipeWriter>,
}

impl Centre {
    /// Writes the configuration and starts the process.
    ///
    /// # Panics
    /// When it does not come up within 60 s (the first start compiles the components).
    #[must_use]
    pub fn start(scene: &Scene, setup: &Setup) -> Self {
        Self::start_in(scene.dir(), setup)
    }

    /// As [`Self::start`], in a folder of its own: for a second centre in a test.
    ///
    /// # Panics
    /// When it does not come up within 60 s.
    #[must_use]
    pub fn start_in(folder: &Path, setup: &Setup) -> Self {
        Self::start_with(folder, setup, Self::free_ports(setup), None)
    }

    fn free_ports(setup: &Setup) -> Ports {
        Ports {
            redirect: free_port(),
            centre: free_port(),
            api: free_port(),
            rtp: match setup.rtp_first {
                Some(first) => (first, first + setup.rtp_ports - 1),
                None => rtp_range(setup.rtp_ports),
            },
        }
    }

    /// As [`Self::start`], with a standard error whose other end is the test's to read, or not to read.
    ///
    /// # Panics
    /// When it does not come up within 60 s.
    #[must_use]
    pub fn start_unread(scene: &Scene, setup: &Setup) -> (Self, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let ports = Self::free_ports(setup);
        (Self::start_with(scene.dir(), setup, ports, Some(writer)), reader)
    }

    fn start_with(folder: &Path, setup: &Setup, ports: Ports, deaf: Option<std::io::PipeWriter>) -> Self {
        let mut centre = Self { dir: folder.to_owned(), ports, process: None, life: 0, tap: None, deaf };
        sound::library(&centre.dir.join("prompts"));
        centre.write(setup);
        centre.tap = Some(Tap::start(folder, [ports.redirect, ports.centre]));
        centre.spawn();
        centre
    }

    /// Writes a configuration without telling the process.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, setup: &Setup) {
        let text = setup.toml(&self.ports, &self.dir.join("prompts"), &self.store());
        std::fs::write(self.config(), text).expect("the configuration is written");
    }

    fn store(&self) -> PathBuf {
        self.dir.join("data/cordboard.db")
    }

    /// The configuration's file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("centre.toml")
    }

    /// The folder of its files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts (again), on the same store.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn spawn(&mut self) {
        self.life += 1;
        let code = self.store().with_file_name("code");
        share(&compiled(), &code);
        let log = File::create(self.log_file()).expect("a log");
        let child = Command::new(place::binary())
            .args(["serve", "--config"])
            .arg(self.config())
            .env_remove("CORDBOARD_PLUGINS_DIR")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(self.deaf.take().map_or_else(|| Stdio::from(log), Stdio::from))
            .spawn()
            .expect("the binary starts");
        self.process = Some(child);
        let end = Instant::now() + s(60);
        loop {
            if self.get("/v1/healthz").is_ok_and(|a| a.status == 200) {
                share(&code, &compiled());
                return;
            }
            if let Some(status) = self.process.as_mut().and_then(|p| p.try_wait().ok().flatten()) {
                panic!("the centre ended at once ({status}):\n{}", self.log());
            }
            assert!(Instant::now() < end, "the centre did not come up:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join(format!("centre-{}.log", self.life))
    }

    /// What this life has logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.as_ref().expect("the centre runs").id() as i32
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and has not been waited for, so the number is its own.
        unsafe { libc::kill(self.pid(), signal) };
    }

    /// SIGKILL, and waits for the end.
    pub fn kill9(&mut self) {
        self.signal(libc::SIGKILL);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }

    /// SIGTERM, without waiting.
    pub fn term(&self) {
        self.signal(libc::SIGTERM);
    }

    /// SIGHUP.
    pub fn hup(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Waits for the process's end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let process = self.process.as_mut().expect("the centre runs");
        let status = eventually("the centre's process ends", within, || process.try_wait().ok().flatten());
        self.process = None;
        status
    }

    /// Where the admin API is.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.api))
    }

    /// A request to the API.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> std::io::Result<Answer> {
        http::request(self.api(), method, path, &[("Authorization", &format!("Bearer {TOKEN}"))], body)
    }

    /// GET.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn get(&self, path: &str) -> std::io::Result<Answer> {
        http::request(self.api(), "GET", path, &[("Authorization", &format!("Bearer {READER}"))], b"")
    }

    /// GET whose answer must be 200, as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path).unwrap_or_else(|e| panic!("GET {path}: {e}"));
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// The list of a path.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn items(&self, path: &str) -> Vec<Value> {
        self.json(path)["items"].as_array().expect("a list").clone()
    }

    /// POST that must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn post(&self, path: &str, body: &Value) {
        let answer = self
            .request("POST", path, body.to_string().as_bytes())
            .unwrap_or_else(|e| panic!("POST {path}: {e}"));
        assert_eq!(answer.status, 200, "POST {path}: {}", answer.text());
    }

    /// Runs the command line against this centre.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Output {
        Command::new(place::binary())
            .args(args)
            .env("CORDBOARD_API", format!("http://{}", self.api()))
            .env("CORDBOARD_TOKEN", TOKEN)
            .output()
            .expect("the command line starts")
    }

    /// An action on an agent: `login`, `logout`, `ready`, `not-ready`.
    pub fn agent(&self, name: &str, action: &str) {
        self.post(&format!("/v1/agents/acme/{name}/{action}"), &serde_json::json!({}));
    }

    /// The state of an agent, and the reason.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn agent_state(&self, name: &str) -> (String, String) {
        let agents = self.items("/v1/agents");
        let agent = agents.iter().find(|a| a["agent"] == name).expect("an agent of that name");
        let text = |key: &str| agent[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"))
    }

    /// Waits until an agent is in a state.
    pub fn agent_becomes(&self, name: &str, state: &str) {
        eventually(&format!("{name} becomes {state}"), s(10), || {
            (self.agent_state(name).0 == state).then_some(())
        });
    }

    /// Waits until so many callers are known to the domain; returns them.
    #[must_use]
    pub fn calls(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} calls are up"), s(10), || {
            Some(self.items("/v1/calls")).filter(|c| c.len() == count)
        })
    }

    /// Waits until so many wait in the queue (offered ones too); returns the entries in order.
    #[must_use]
    pub fn waiting(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} callers wait"), s(10), || {
            let entries = self.items("/v1/queues")[0]["entries"].as_array().cloned().unwrap_or_default();
            Some(entries).filter(|e| e.len() == count)
        })
    }

    /// Waits for the records of so many calls; newest first, whole ones with timeline.
    #[must_use]
    pub fn records(&self, count: usize) -> Vec<Value> {
        let ids = eventually(&format!("{count} records are written"), s(15), || {
            Some(self.items("/v1/records?limit=10000")).filter(|r| r.len() == count)
        });
        ids.iter()
            .map(|r| self.json(&format!("/v1/records/{}", r["interaction"].as_str().unwrap_or_default())))
            .collect()
    }

    /// Waits for the only call's record.
    #[must_use]
    pub fn record(&self) -> Value {
        self.records(1).remove(0)
    }

    /// The digests of the components in service, by the plugins' names.
    #[must_use]
    pub fn digests(&self) -> BTreeMap<String, String> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        self.items("/v1/plugins").iter().map(|p| (text(&p["name"]), text(&p["active"]))).collect()
    }

    /// A metric's value without labels, or the sum over them.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").map(|a| a.text()).unwrap_or_default();
        text.lines()
            .filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// The centre holds nothing any more: no calls, legs, media, scripts, rings, reservations; no agent
    /// is in a call or offered one; no forbidden hand-off has happened.
    ///
    /// # Panics
    /// When something is left after ten seconds.
    pub fn at_rest(&self) {
        self.at_rest_within(s(10));
    }

    /// As [`Self::at_rest`], with more patience: a BYE to a phone that has vanished is repeated for 32 s
    /// (RFC 3261 17.1.2.2, timer F).
    ///
    /// # Panics
    /// When something is left.
    pub fn at_rest_within(&self, within: Duration) {
        let gauges = [
            "calls",
            "legs",
            "media_legs",
            "scripts",
            "rings",
            "interactions",
            "reservations",
            "media_legs_open",
        ];
        let mut left = Vec::new();
        let end = Instant::now() + within;
        loop {
            let text = self.get("/metrics").map(|a| a.text()).unwrap_or_default();
            let value = |name: &str| {
                text.lines().find_map(|l| l.strip_prefix(&format!("cordboard_{name} "))?.parse::<f64>().ok())
            };
            left.clear();
            for name in gauges {
                match value(name) {
                    Some(0.0) => {}
                    other => left.push(format!("{name} {other:?}")),
                }
            }
            for agent in self.items("/v1/agents") {
                if agent["state"] == "busy" || agent["state"] == "reserved" || !agent["interaction"].is_null()
                {
                    left.push(agent.to_string());
                }
            }
            if left.is_empty() {
                assert_eq!(
                    value("illegal_hand_offs_total"),
                    Some(0.0),
                    "forbidden hand-offs between stations"
                );
                return;
            }
            assert!(Instant::now() < end, "the centre is not at rest: {}", left.join(", "));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// At rest, ended by SIGTERM in peace, no panic in any life's log, no SIP sent that tshark calls malformed.
    ///
    /// # Panics
    /// When one of these does not hold.
    pub fn finish(mut self) {
        self.at_rest();
        self.term();
        let status = self.ended(s(10));
        assert!(status.success(), "SIGTERM ended the centre with {status}");
        self.no_panics();
        if let Some(tap) = self.tap.take() {
            tap.judge();
        }
    }

    /// No life's log has a panic in it.
    ///
    /// # Panics
    /// When one has.
    pub fn no_panics(&self) {
        for life in 1..=self.life {
            let log = std::fs::read(self.dir.join(format!("centre-{life}.log"))).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            // Guests' panics are told by the plugin host as lines of theirs; one of the host's names its thread.
            let panicked = log.lines().any(|l| l.starts_with("thread '") && l.contains("panicked at"));
            assert!(!panicked, "a panic in life {life}:\n{log}");
        }
    }
}

/// Where the suite keeps compiled components, so that only the first centre compiles them.
fn compiled() -> PathBuf {
    std::env::temp_dir().join(format!("cordboard-e2e-{}", std::process::id())).join("compiled")
}

/// Links the host's compiled code from one folder to another. Folders are ours alone: the host takes no other.
fn share(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to);
    for file in std::fs::read_dir(from).into_iter().flatten().flatten() {
        if file.path().extension().is_some_and(|e| e == "cwasm") {
            let _ = std::fs::hard_link(file.path(), to.join(file.file_name()));
        }
    }
}

impl Drop for Centre {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

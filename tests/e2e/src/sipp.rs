//! SIPp as carrier and as agents' phones, with the scenarios of `tests/sipp`.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::scene::{Scene, free_port};
use crate::{eventually, place};

/// See the module.
#[derive(Debug)]
pub struct Sipp {
    process: Child,
    dir: PathBuf,
    name: String,
    /// Where it listens.
    pub port: u16,
}

impl Sipp {
    /// Agents' phones: each call is answered, kept for `talk_ms`, and hung up.
    #[must_use]
    pub fn agents(scene: &Scene, talk_ms: u32) -> Self {
        Self::far(scene, "agents", talk_ms)
    }

    /// As [`Self::agents`], under a name of its own: one of several far ends.
    #[must_use]
    pub fn far(scene: &Scene, name: &str, talk_ms: u32) -> Self {
        let port = free_port();
        Self::run(
            scene,
            name,
            port,
            &[
                "-sf".into(),
                place::beside("sipp/agent.xml").display().to_string(),
                "-d".into(),
                talk_ms.to_string(),
                "-l".into(),
                "3000".into(),
                "127.0.0.1".into(),
            ],
        )
    }

    /// A carrier: so many calls at a rate, by the redirect role.
    #[must_use]
    pub fn callers(
        scene: &Scene,
        name: &str,
        redirect: SocketAddr,
        number: &str,
        calls: u32,
        per_second: u32,
        more: &[&str],
    ) -> Self {
        let port = free_port();
        let mut args: Vec<String> = vec![
            "-sf".into(),
            place::beside("sipp/caller.xml").display().to_string(),
            "-s".into(),
            number.into(),
            "-m".into(),
            calls.to_string(),
            "-r".into(),
            per_second.to_string(),
            "-l".into(),
            "3000".into(),
            "-recv_timeout".into(),
            "120000".into(),
        ];
        args.extend(more.iter().map(|m| (*m).to_owned()));
        args.push(redirect.to_string());
        Self::run(scene, name, port, &args)
    }

    /// Any scenario, with whatever arguments it needs; `-i`, `-p` and the statistics are given.
    ///
    /// # Panics
    /// When SIPp cannot be started.
    #[must_use]
    pub fn run(scene: &Scene, name: &str, port: u16, args: &[String]) -> Self {
        Self::run_at(scene, name, "127.0.0.1", port, args)
    }

    /// As [`Self::run`], at another address, such as `::1`.
    ///
    /// # Panics
    /// When SIPp cannot be started.
    #[must_use]
    pub fn run_at(scene: &Scene, name: &str, address: &str, port: u16, args: &[String]) -> Self {
        let out = File::create(scene.dir().join(format!("sipp-{name}.log"))).expect("a log");
        let process = place::program("sipp", "sip-tester")
            .args(args)
            .args([
                "-i",
                address,
                "-p",
                &port.to_string(),
                "-nostdin",
                "-trace_err",
                "-trace_stat",
                "-fd",
                "1",
                "-skip_rlimit",
            ])
            .args(["-error_file", &format!("sipp-{name}.errors.log"), "-stf", &format!("sipp-{name}.csv")])
            .current_dir(scene.dir())
            .env("TERM", "dumb")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("SIPp starts");
        Self { process, dir: scene.dir().to_owned(), name: name.into(), port }
    }

    /// The column of the statistics' last line.
    #[must_use]
    pub fn figure(&self, column: &str) -> Option<u64> {
        let csv = std::fs::read_to_string(self.dir.join(format!("sipp-{}.csv", self.name))).ok()?;
        let index = csv.lines().next()?.split(';').position(|c| c == column)?;
        csv.lines().last()?.split(';').nth(index)?.parse().ok()
    }

    /// Waits for its end; every call must have gone as the scenario says.
    ///
    /// # Panics
    /// When a call failed, with SIPp's errors.
    pub fn all_well(mut self, calls: u64, within: Duration) {
        let what = format!("SIPp {} ends", self.name);
        let process = &mut self.process;
        let status = eventually(&what, within, || process.try_wait().ok().flatten());
        let errors = std::fs::read_to_string(self.dir.join(format!("sipp-{}.errors.log", self.name)))
            .unwrap_or_default();
        let errors: String = errors.lines().take(60).collect::<Vec<_>>().join("\n");
        assert_eq!(
            (self.figure("SuccessfulCall(C)"), self.figure("FailedCall(C)"), status.code()),
            (Some(calls), Some(0), Some(0)),
            "SIPp {}: calls that went well, that failed, exit code; its errors:\n{errors}",
            self.name,
        );
    }
}

impl Sipp {
    /// Makes no new calls, waits until those that are up have ended, and returns how many there were;
    /// none may have failed.
    ///
    /// # Panics
    /// When a call failed.
    #[must_use]
    pub fn stop_well(mut self, within: Duration) -> u64 {
        // SAFETY: the process is our child and has not been waited for. SIGUSR1 is SIPp's own for this.
        unsafe { libc::kill(self.process.id() as i32, libc::SIGUSR1) };
        let process = &mut self.process;
        eventually("SIPp ends", within, || process.try_wait().ok().flatten());
        let errors = std::fs::read_to_string(self.dir.join(format!("sipp-{}.errors.log", self.name)))
            .unwrap_or_default();
        let errors: String = errors.lines().take(60).collect::<Vec<_>>().join("\n");
        let made = self.figure("TotalCallCreated").unwrap_or(0);
        assert_eq!(
            (self.figure("SuccessfulCall(C)"), self.figure("FailedCall(C)")),
            (Some(made), Some(0)),
            "calls that went well, and that failed:\n{errors}"
        );
        made
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

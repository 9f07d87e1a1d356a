//! baresip as a party: another stack, with ears of its own (a WAV file of what it heard).

use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::scene::{Scene, free_port};
use crate::sound::{heard_ms, tone};
use crate::{eventually, place, s};

/// One that runs; it is ended with the test.
pub struct Baresip {
    process: Child,
    home: PathBuf,
}

impl Baresip {
    /// Starts it on an address (of either family) with an account's line of its configuration. It answers
    /// every call, sends a tone of `hz`, and places a call at once if `dial` says to whom.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(scene: &Scene, name: &str, host: &str, account: &str, hz: u32, dial: Option<&str>) -> Self {
        let home = scene.dir().join(name);
        std::fs::create_dir_all(&home).expect("a folder");
        let says = home.join("says.wav");
        tone(&says, hz, 30_000);
        let modules = [
            "/usr/lib/baresip/modules",
            "/usr/lib/x86_64-linux-gnu/baresip/modules",
            "/usr/lib/aarch64-linux-gnu/baresip/modules",
        ];
        let modules = modules
            .into_iter()
            .find(|m| std::path::Path::new(m).is_dir())
            .expect("baresip's modules: install the Debian package baresip-core");
        let port = free_port();
        // It takes the next one for TLS, asked or not.
        let _ = free_port();
        let config = format!(
            "sip_listen {host}:{port}\nnet_interface {}\nmodule_path {modules}\nmodule g711.so\n\
             module aufile.so\nmodule sndfile.so\nsnd_path {}\nmodule_app account.so\nmodule_app menu.so\n\
             audio_source aufile,{}\nausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\n\
             rtp_ports 11000-11100\n",
            host.trim_matches(['[', ']']),
            home.display(),
            says.display(),
        );
        std::fs::write(home.join("config"), config).expect("written");
        std::fs::write(home.join("contacts"), "").expect("written");
        let account = format!("{account};answermode=auto;audio_codecs=PCMU/8000/1\n");
        std::fs::write(home.join("accounts"), account).expect("written");
        let log = std::fs::File::create(scene.dir().join(format!("{name}.log"))).expect("a log");
        let mut command = place::program("baresip", "baresip-core");
        command.arg("-f").arg(&home);
        if let Some(uri) = dial {
            command.args(["-e", &format!("/dial {uri}")]);
        }
        let process = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("baresip starts");
        Self { process, home }
    }

    /// Hangs up whatever it is in, and ends. Its recording is whole then.
    ///
    /// # Panics
    /// When it stays.
    pub fn leave(&mut self) {
        let pid = self.process.id().to_string();
        let told = std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(told.success(), "baresip is there to be told");
        eventually("baresip leaves", s(10), || self.process.try_wait().ok().flatten());
    }

    /// How much of a tone it has heard, in milliseconds, by its own recording of what it decoded.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn heard_ms(&self, hz: u32) -> u32 {
        let wav = std::fs::read_dir(&self.home)
            .expect("its folder")
            .flatten()
            .map(|e| e.path())
            .find(|p| p.to_string_lossy().ends_with("dec.wav"));
        heard_ms(&wav.expect("a recording of what was heard"), hz)
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

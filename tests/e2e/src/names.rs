//! A name server of a test's own: dnsmasq on a free port, with the records that the test gives it.

use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};

use crate::scene::{Scene, free_port};
use crate::{eventually, s};

/// See the module.
#[derive(Debug)]
pub struct Names {
    process: Child,
    /// Where it listens.
    pub at: SocketAddr,
}

impl Names {
    /// Starts it with lines of its configuration: `srv-host=_sip._udp.far.test,a.far.test,5060,1,10`,
    /// `address=/a.far.test/127.0.0.1`, `naptr-record=…`. Other names of `.test` do not exist.
    ///
    /// # Panics
    /// When dnsmasq cannot be started.
    #[must_use]
    pub fn start(scene: &Scene, records: &[String]) -> Self {
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let file = scene.dir().join("dnsmasq.conf");
        let text = format!(
            "port={}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nlocal-ttl=60\nlocal=/test/\nlog-queries\nlog-facility=-\nuser=\n{}\n",
            at.port(),
            records.join("\n")
        );
        std::fs::write(&file, text).expect("a configuration");
        let log = File::create(scene.dir().join("dnsmasq.log")).expect("a log");
        let process = Command::new("dnsmasq")
            .arg("--keep-in-foreground")
            .arg("--pid-file")
            .arg(format!("--conf-file={}", file.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("dnsmasq starts: apt-get install dnsmasq-base");
        eventually("dnsmasq listens", s(5), || UdpSocket::bind(at).is_err().then_some(()));
        Self { process, at }
    }

    /// How often it was asked for a name.
    #[must_use]
    pub fn asked(&self, scene: &Scene, what: &str) -> usize {
        let log = std::fs::read_to_string(scene.dir().join("dnsmasq.log")).unwrap_or_default();
        log.lines().filter(|l| l.contains("query[") && l.contains(what)).count()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

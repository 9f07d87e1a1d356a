//! tshark on the loopback interface: an independent listener to all SIP and RTP of a test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use crate::scene::Scene;
use crate::{eventually, place, s, sound};

/// See the module.
#[derive(Debug)]
pub struct Capture {
    process: Option<Child>,
    file: PathBuf,
    sip_ports: Vec<u16>,
}

impl Capture {
    /// Begins to listen to some SIP ports, and to the RTP ports from `rtp.0` to `rtp.1`.
    ///
    /// # Panics
    /// When tshark may not capture.
    #[must_use]
    pub fn start(scene: &Scene, sip_ports: &[u16], rtp: (u16, u16)) -> Self {
        let file = scene.dir().join("capture.pcap");
        let mut filter: Vec<String> = sip_ports.iter().map(|p| format!("udp port {p}")).collect();
        filter.push(format!("udp portrange {}-{}", rtp.0, rtp.1));
        let process = place::program("tshark", "tshark")
            .args(["-q", "-i", "lo", "-B", "64", "-F", "pcap", "-f", &filter.join(" or "), "-w"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tshark starts");
        eventually("tshark captures", s(10), || file.metadata().ok().filter(|m| m.len() >= 24));
        std::thread::sleep(crate::ms(300));
        Self { process: Some(process), file, sip_ports: sip_ports.to_vec() }
    }

    /// The mu-law audio that was sent from some ports, a stream a source port and SSRC, in the order in which it
    /// was sent.
    ///
    /// # Panics
    /// When tshark cannot read its own file.
    pub fn ulaw_from(&mut self, from: (u16, u16)) -> BTreeMap<(u16, String), Vec<i16>> {
        let filter = format!("rtp.p_type == 0 && udp.srcport >= {} && udp.srcport <= {}", from.0, from.1);
        let fields = ["udp.srcport", "rtp.ssrc", "rtp.payload"];
        let mut streams: BTreeMap<(u16, String), Vec<i16>> = BTreeMap::new();
        for line in self.read(&filter, &fields) {
            let mut fields = line.split('\t');
            let (Some(port), Some(ssrc), Some(payload)) = (fields.next(), fields.next(), fields.next())
            else {
                panic!("tshark printed {line:?}");
            };
            let digits: Vec<u8> = payload.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
            let samples = digits.chunks_exact(2).map(|d| sound::from_ulaw(d[0] << 4 | d[1]));
            streams.entry((port.parse().expect("a port"), ssrc.to_owned())).or_default().extend(samples);
        }
        streams
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            std::thread::sleep(crate::ms(500));
            // SAFETY: the process is our child and has not been waited for.
            unsafe { libc::kill(process.id() as i32, libc::SIGINT) };
            let _ = process.wait();
        }
    }

    /// Lines of the packets that a display filter finds, with the time, addresses and info.
    ///
    /// # Panics
    /// When tshark cannot read its own file.
    pub fn find(&mut self, filter: &str) -> Vec<String> {
        self.read(filter, &[])
    }

    /// Fields of the packets that a display filter finds, a line a packet, with tabs between them.
    ///
    /// # Panics
    /// When tshark cannot read its own file.
    pub fn fields(&mut self, filter: &str, fields: &[&str]) -> Vec<String> {
        self.read(filter, fields)
    }

    fn read(&mut self, filter: &str, fields: &[&str]) -> Vec<String> {
        self.stop();
        let mut command = place::program("tshark", "tshark");
        command.arg("-r").arg(&self.file);
        for port in &self.sip_ports {
            command.args(["-d", &format!("udp.port=={port},sip")]);
        }
        if !fields.is_empty() {
            command.args(["-T", "fields"]);
            fields.iter().for_each(|field| _ = command.args(["-e", field]));
        }
        let out =
            command.args(["--enable-heuristic", "rtp_udp", "-Y", filter]).output().expect("tshark starts");
        assert!(out.status.success(), "tshark: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
    }

    /// SIP and RTP were seen, and no packet of either that tshark calls malformed.
    ///
    /// # Panics
    /// When that is not so.
    pub fn nothing_malformed(mut self, least_sip: usize, least_rtp: usize) {
        let sip = self.find("sip").len();
        let rtp = self.find("rtp").len();
        assert!(
            sip >= least_sip && rtp >= least_rtp,
            "too little was captured to judge: {sip} SIP, {rtp} RTP"
        );
        let malformed =
            self.find("_ws.malformed || (_ws.expert.severity == error && (sip || sdp || rtp || rtcp))");
        assert!(
            malformed.is_empty(),
            "{} malformed packets, such as:\n{}",
            malformed.len(),
            malformed[..malformed.len().min(20)].join("\n")
        );
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

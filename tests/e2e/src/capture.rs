//! tshark on the loopback interface: an independent listener to all SIP and RTP of a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::scene::Scene;
use crate::{eventually, place, s, sound};

/// See the module.
#[derive(Debug)]
pub struct Capture {
    process: Option<Child>,
    file: PathBuf,
    sip_ports: Vec<u16>,
    check_sums: bool,
}

impl Capture {
    /// Begins to listen to some SIP ports, and to the RTP ports from `rtp.0` to `rtp.1`.
    ///
    /// # Panics
    /// When tshark may not capture.
    #[must_use]
    pub fn start(scene: &Scene, sip_ports: &[u16], rtp: (u16, u16)) -> Self {
        let file = scene.dir().join("capture.pcap");
        let mut filter: Vec<String> = sip_ports.iter().map(|p| format!("port {p}")).collect();
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
        Self { process: Some(process), file, sip_ports: sip_ports.to_vec(), check_sums: false }
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

    /// A file that another program wrote, with SIP on some ports.
    #[must_use]
    pub fn of(file: &Path, sip_ports: &[u16]) -> Self {
        Self { process: None, file: file.to_owned(), sip_ports: sip_ports.to_vec(), check_sums: false }
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

    /// As [`Self::fields`], with the columns taken apart, and with sums of IP and UDP checked.
    ///
    /// # Panics
    /// When tshark cannot read its own file.
    pub fn rows(&mut self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        self.check_sums = true;
        self.read(filter, fields).iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    fn read(&mut self, filter: &str, fields: &[&str]) -> Vec<String> {
        self.stop();
        let mut command = place::program("tshark", "tshark");
        command.arg("-r").arg(&self.file);
        for port in &self.sip_ports {
            command.args(["-d", &format!("udp.port=={port},sip"), "-d", &format!("tcp.port=={port},sip")]);
        }
        if !fields.is_empty() {
            command.args(["-T", "fields"]);
            fields.iter().for_each(|field| _ = command.args(["-e", field]));
        }
        if self.check_sums {
            command.args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
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

/// What a centre sends, in every test: nothing of it may be malformed, whatever it was sent.
#[derive(Debug)]
pub struct Tap {
    process: Child,
    file: PathBuf,
    ports: [u16; 2],
}

impl Tap {
    /// Begins to listen to a centre's SIP ports.
    ///
    /// # Panics
    /// When dumpcap may not capture.
    #[must_use]
    pub fn start(folder: &Path, ports: [u16; 2]) -> Self {
        let file = folder.join("tap.pcap");
        let filter = format!("udp port {} or udp port {}", ports[0], ports[1]);
        // dumpcap comes with tshark, and is up sooner. After 20 MB it has seen enough of a long run.
        let process = place::program("dumpcap", "wireshark-common")
            .args(["-q", "-P", "-i", "lo", "-B", "8", "-a", "filesize:20000", "-f", &filter, "-w"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dumpcap starts");
        eventually("dumpcap captures", s(10), || file.metadata().ok().filter(|m| m.len() >= 24));
        Self { process, file, ports }
    }

    /// Stops, and has tshark judge.
    ///
    /// # Panics
    /// When a packet from the centre is malformed in tshark's eyes.
    pub fn judge(mut self) {
        // SAFETY: the process is our child and has not been waited for.
        unsafe { libc::kill(self.process.id() as i32, libc::SIGINT) };
        let _ = self.process.wait();
        let [a, b] = self.ports;
        let out = place::program("tshark", "tshark")
            .arg("-r")
            .arg(&self.file)
            .args(["-d", &format!("udp.port=={a},sip"), "-d", &format!("udp.port=={b},sip"), "-Y"])
            .arg(format!(
                "(udp.srcport == {a} || udp.srcport == {b}) && (_ws.malformed || (_ws.expert.severity == error && (sip || sdp)))"
            ))
            .output()
            .expect("tshark starts");
        assert!(out.status.success(), "tshark: {}", String::from_utf8_lossy(&out.stderr));
        let malformed = String::from_utf8_lossy(&out.stdout);
        assert!(malformed.is_empty(), "the centre has sent malformed packets:\n{malformed}");
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
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

//! What other programs make of our captures: tshark of a pcap file, sngrep of HEP. They have to be there,
//! so the end-to-end suite runs these, which has them: elsewhere ask with `-- --ignored`.
//! That suite reads whole calls the same way.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the readers are other processes")]

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cordboard_sip::capture::{Content, Packet, Pcap, hep3};
use cordboard_sip::transport::Transport;
use cordboard_sip::wire::{Builder, Name};

fn message(call_id: &str, padding: usize) -> Vec<u8> {
    Builder::request("INVITE", "sip:b@192.0.2.2")
        .header(Name::Via, "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1")
        .header(Name::From, "<sip:a@192.0.2.1>;tag=1")
        .header(Name::To, "<sip:b@192.0.2.2>")
        .header(Name::CallId, call_id)
        .header(Name::CSeq, "1 INVITE")
        .header(Name::MaxForwards, "70")
        .header("X-Padding", &"x".repeat(padding))
        .body("application/sdp", b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n")
        .finish()
}

/// What tshark prints of a file.
fn tshark(file: &Path, arguments: &[&str]) -> Vec<String> {
    let checksums = ["ip.check_checksum", "udp.check_checksum", "tcp.check_checksum"];
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(checksums.iter().flat_map(|c| ["-o".to_owned(), format!("{c}:TRUE")]));
    let out = command.args(arguments).output().expect("tshark is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
}

const WRONG: &str = "_ws.malformed || ip.checksum.status == Bad || udp.checksum.status == Bad || tcp.checksum.status == Bad \
     || tcp.analysis.lost_segment || tcp.analysis.retransmission || tcp.analysis.out_of_order";

fn written(name: &str, write: impl FnOnce(&mut Pcap, &mut Vec<u8>)) -> PathBuf {
    let mut bytes = Pcap::HEADER.to_vec();
    write(&mut Pcap::default(), &mut bytes);
    let file = std::env::temp_dir().join(format!("cordboard-{name}-{}.pcap", std::process::id()));
    fs::write(&file, bytes).expect("a file can be written");
    file
}

#[test]
#[ignore = "needs tshark"]
fn tshark_reads_a_file_of_every_transport_without_a_complaint() {
    let (a4, b4) = ("192.0.2.1:5060", "192.0.2.2:5060");
    let (a6, b6) = ("[2001:db8::1]:5060", "[2001:db8::2]:5060");
    let file = written("pcap", |pcap, out| {
        let mut at_unix_us = 1_700_000_000_000_001;
        for (transport, from, to) in [
            (Transport::Udp, a4, b4),
            (Transport::Udp, b6, a6),
            (Transport::Tcp, a4, b4),
            (Transport::Tcp, b4, a4),
            (Transport::Tcp, a6, b6),
            (Transport::Tcp, a4, b4),
        ] {
            for padding in [0, 1, 1_500, 30_000] {
                let payload = message(&format!("{padding}"), padding);
                let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
                pcap.write(&Packet { at_unix_us, transport, from, to, payload: &payload }, out);
                at_unix_us += 1_000_000;
            }
        }
    });
    assert_eq!(tshark(&file, &["-Y", WRONG]), [""; 0]);
    let ids = tshark(&file, &["-Y", "sip.Method == INVITE", "-T", "fields", "-e", "sip.Call-ID"]);
    assert_eq!(ids.len(), 24, "{ids:?}");
    let sdp = tshark(&file, &["-Y", "sdp", "-T", "fields", "-e", "frame.time_epoch"]);
    assert_eq!((sdp.len(), sdp[0].as_str()), (24, "1700000000.000001000"));
    fs::remove_file(file).expect("it is there");
}

#[test]
#[ignore = "needs sngrep and tshark"]
fn sngrep_takes_our_hep_for_the_message_that_is_in_it() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = std::env::temp_dir().join(format!("cordboard-hep-{}.pcap", std::process::id()));
    let mut sngrep = Command::new("sngrep")
        .args(["-N", "-q", "-L", &format!("udp:127.0.0.1:{port}"), "-O"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sngrep is installed");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let payload = message("in-hep", 10);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (from, to) in [("192.0.2.1:5060", "192.0.2.2:5070"), ("192.0.2.2:5070", "192.0.2.1:5060")] {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let packet = Packet {
            at_unix_us: 1_700_000_000_123_456,
            transport: Transport::Udp,
            from,
            to,
            payload: &payload,
        };
        let hep = hep3(&packet, Content::Sip, 2_001, "", "interaction-7").expect("it fits");
        socket.send_to(&hep, ("127.0.0.1", port)).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
    // An orderly end, so that it writes what it has.
    let _ = Command::new("kill").args(["-INT", &sngrep.id().to_string()]).status();
    sngrep.wait().expect("it ends");
    let fields =
        ["-T", "fields", "-e", "frame.time_epoch", "-e", "ip.src", "-e", "udp.dstport", "-e", "sip.Call-ID"];
    let seen = tshark(&file, &fields);
    assert_eq!(
        seen,
        ["1700000000.123456000\t192.0.2.1\t5070\tin-hep", "1700000000.123456000\t192.0.2.2\t5060\tin-hep",]
    );
    fs::remove_file(file).expect("it is there");
}

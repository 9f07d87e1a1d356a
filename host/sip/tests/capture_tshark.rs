//! Wireshark's reading of what we write. Needs tshark, so it is asked for:
//! `cargo test -p cordboard-sip --test capture_tshark -- --ignored`. The end-to-end suite, which has
//! tshark, reads whole calls the same way.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

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
fn tshark(file: &PathBuf, arguments: &[&str]) -> Vec<String> {
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
#[ignore = "needs tshark"]
fn tshark_finds_the_sip_and_the_correlation_in_hep() {
    let payload = message("in-hep", 10);
    let file = written("hep", |pcap, out| {
        for (from, to) in [("192.0.2.1:5060", "192.0.2.2:5061"), ("[2001:db8::1]:5060", "[2001:db8::2]:5061")]
        {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let at_unix_us = 1_700_000_000_123_456;
            let inner = Packet { at_unix_us, transport: Transport::Tls, from, to, payload: &payload };
            let hep = hep3(&inner, Content::Sip, 2_001, "secret", "interaction-7").expect("it fits");
            let (from, to) = ("198.51.100.1:40000".parse().unwrap(), "198.51.100.2:9060".parse().unwrap());
            pcap.write(&Packet { at_unix_us, transport: Transport::Udp, from, to, payload: &hep }, out);
        }
    });
    assert_eq!(tshark(&file, &["-d", "udp.port==9060,hep", "-Y", WRONG]), [""; 0]);
    let fields = ["-d", "udp.port==9060,hep", "-Y", "hep && sip", "-T", "fields", "-e", "sip.Call-ID"];
    assert_eq!(tshark(&file, &fields), ["in-hep", "in-hep"]);
    let all = tshark(&file, &["-d", "udp.port==9060,hep", "-V"]).join("\n");
    for text in ["interaction-7", "192.0.2.1", "2001:db8::2", "5061", "secret"] {
        assert!(all.contains(text), "{text} in {all}");
    }
    fs::remove_file(file).expect("it is there");
}

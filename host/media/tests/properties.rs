//! What must hold for any bytes and any order of things: nothing panics, what is written reads back,
//! digits come once and in order, and a leg's stream stays one stream.

use std::net::SocketAddr;

use cordboard_base::{Now, Random, ms};
use cordboard_media::control::{Event, Item, Law, LegId, Remote};
use cordboard_media::dtmf::{self, Key, Step};
use cordboard_media::leg::{Leg, Output, PACKET_LEN};
use cordboard_media::rtp::Header;
use cordboard_media::{rtcp, wav};
use proptest::collection::vec;
use proptest::prelude::*;

fn phone(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn remote(port: u16, law: Law, dtmf_payload_type: Option<u8>) -> Remote {
    let payload_type = law.payload_type();
    Remote {
        address: phone(port),
        rtcp: None,
        law,
        payload_type,
        dtmf_payload_type,
        send: true,
        receive: true,
    }
}

fn leg(id: u64, port: u16, law: Law) -> Leg {
    let now = Now { mono_ns: ms(1000), wall_ms: 1_700_000_000_000 };
    let mut leg = Leg::new(LegId(id), now, &mut Random::seeded(id));
    leg.set_remote(now, remote(port, law, Some(101)));
    leg
}

fn at(now_ms: u64) -> Now {
    Now { mono_ns: ms(now_ms), wall_ms: 1_700_000_000_000 + now_ms as i64 }
}

/// Bytes that often look like the beginning of what is parsed.
fn almost(head: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    (0..=head.len(), vec(any::<u8>(), 0..200)).prop_map(|(keep, tail)| [&head[..keep], &tail].concat())
}

proptest! {
    #[test]
    fn rtp_never_panics_and_keeps_the_payload_inside(bytes in almost(&[0xb2, 0x00])) {
        if let Some((_, payload)) = Header::parse(&bytes) {
            prop_assert!(payload.start >= 12 && payload.end <= bytes.len() && payload.start <= payload.end);
        }
    }

    #[test]
    fn rtp_reads_back(marker: bool, payload_type in 0..64_u8, sequence: u16, timestamp: u32, ssrc: u32, payload in vec(any::<u8>(), 0..50)) {
        let header = Header { marker, payload_type, sequence, timestamp, ssrc };
        let bytes = [&header.to_bytes()[..], &payload].concat();
        prop_assert_eq!(Header::parse(&bytes), Some((header, 12..bytes.len())));
    }

    #[test]
    fn rtcp_never_panics(bytes in almost(&[0x81, 200, 0, 12])) {
        let _ = rtcp::parse(&bytes);
    }

    #[test]
    fn rtcp_reads_back(ssrc: u32, ntp: u64, lost in -0x80_0000..0x7f_ffff_i32, fraction_lost: u8, cname in "[a-z]{0,60}", bye: bool) {
        let sender = rtcp::Sender { ntp, timestamp: 1, packets: 2, octets: 3 };
        let block = rtcp::Block { ssrc: 9, fraction_lost, lost, ..rtcp::Block::default() };
        let mut out = Vec::new();
        rtcp::write(ssrc, Some(sender), Some(block), &cname, bye, &mut out);
        let packets = rtcp::parse(&out).expect("valid");
        prop_assert_eq!(&packets[0], &rtcp::Packet::Report { ssrc, sender: Some(sender), blocks: vec![block] });
        prop_assert_eq!(&packets[1], &rtcp::Packet::Description { ssrc, cname: Some(cname.as_bytes()) });
        prop_assert_eq!(packets.len(), 2 + usize::from(bye));
    }

    #[test]
    fn wav_never_panics(bytes in almost(b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00")) {
        let _ = wav::read(&bytes);
    }

    #[test]
    fn a_wav_with_wrong_octets_never_panics(samples in vec(any::<i16>(), 0..100), place in 0..44_usize, octet: u8) {
        let mut bytes = wav::write(&samples);
        bytes[place] = octet;
        let _ = wav::read(&bytes);
    }

    #[test]
    fn a_wav_reads_back(samples in vec(any::<i16>(), 0..1000)) {
        prop_assert_eq!(wav::read(&wav::write(&samples)), Ok(samples));
    }

    #[test]
    fn a_leg_never_panics_on_what_comes(packets in vec((almost(&[0x80, 101, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]), 1..4_u16), 0..60)) {
        let (mut a, mut b) = (leg(1, 1, Law::Pcmu), leg(2, 2, Law::Pcma));
        let mut out = Output::default();
        for (i, (mut bytes, port)) in packets.into_iter().enumerate() {
            let now = at(1000 + i as u64 * 7);
            if let Some(inbound) = a.on_packet(now, &bytes, phone(port), &mut out) {
                let _ = b.forward(now, &inbound, &mut bytes);
            }
            a.on_rtcp(now, &bytes, phone(port));
            a.on_frame(now, &mut [0; PACKET_LEN], &mut out);
        }
    }

    /// However packets of events are lost and doubled: a digit of which one arrives is heard once, in its place.
    #[test]
    fn digits_come_once_in_order(digits in "[0-9A-D*#]{1,8}", fate in vec(0..4_u8, 7 * 8), swap: bool) {
        let (mut sender, mut receiver) = (dtmf::Sender::default(), dtmf::Receiver::default());
        sender.push(&digits, 100, 60);
        let (mut heard, mut expected, mut sent) = (String::new(), String::new(), 0);
        let (mut timestamp, mut arrived) = (0, false);
        let mut held_back = None;
        for frame in 0..300_u32 {
            let now_ns = u64::from(frame) * ms(20);
            let mut key = |key| if let Key::Released(digit, _) = key { heard.push(digit) };
            let step = sender.frame();
            if let Step::First(_) = step {
                timestamp = u32::MAX - 10_000 + frame * 160;
                arrived = false;
            }
            if let Step::First(payload) | Step::More(payload) = step {
                let times = fate.get(sent).copied().unwrap_or(1);
                sent += 1;
                if times > 0 && !arrived {
                    arrived = true;
                    expected.push(dtmf::digit_of(payload.event).expect("a digit"));
                }
                for _ in 0..times {
                    receiver.packet(now_ns, timestamp, payload, &mut key);
                }
                // A packet of the digit before that comes once more, late.
                if let (true, Some((timestamp, payload))) = (swap && times > 0, held_back) {
                    receiver.packet(now_ns, timestamp, payload, &mut key);
                }
                held_back = (times > 0).then_some((timestamp, payload)).or(held_back);
            }
            receiver.tick(now_ns, &mut key);
        }
        prop_assert_eq!(heard, expected);
    }

    /// Relay with loss, plays, digits, holds and changes of source in any order: to the other side it is
    /// one source with no step back and no number twice.
    #[test]
    fn a_leg_s_stream_stays_one_stream(steps in vec((0..12_u8, 0..5_u16), 1..150), first: u16, start: u32) {
        let (mut a, mut b) = (leg(1, 1, Law::Pcmu), leg(2, 2, Law::Pcma));
        let mut out = Output::default();
        let (mut ssrc, mut sequence, mut timestamp) = (77, first, start);
        let mut sent: Vec<Header> = Vec::new();
        let mut lost = 0_usize;
        for (i, (step, amount)) in steps.into_iter().enumerate() {
            let now = at(1000 + i as u64 * 20);
            let mut gap = 0;
            match step {
                0 => b.play(i as u64, vec![Item::Tone { hz: 400, ms: u32::from(amount) * 30, level_dbm0: -10 }], false, false, &mut out),
                1 => b.stop(None, &mut out),
                2 => b.send_digits("5", 60, 40),
                3 => {
                    // The source begins anew.
                    (ssrc, sequence, timestamp) = (ssrc + 1, sequence.wrapping_mul(31), timestamp.wrapping_mul(77));
                }
                4 => b.set_remote(now, Remote { send: false, ..remote(2, Law::Pcma, Some(101)) }),
                5 => b.set_remote(now, remote(2, Law::Pcma, Some(101))),
                // Some are lost on the way to us.
                6 | 7 => gap = amount,
                _ => {}
            }
            lost += usize::from(gap);
            sequence = sequence.wrapping_add(gap);
            let header = Header { marker: false, payload_type: 0, sequence, timestamp, ssrc };
            let mut bytes = [&header.to_bytes()[..], &[0xff; 160]].concat();
            sequence = sequence.wrapping_add(1);
            timestamp = timestamp.wrapping_add(160);
            if let Some(inbound) = a.on_packet(now, &bytes, phone(1), &mut out)
                && let Some((range, to)) = b.forward(now, &inbound, &mut bytes)
            {
                prop_assert_eq!(to, phone(2));
                sent.push(Header::parse(&bytes[range]).expect("RTP").0);
            }
            let mut packet = [0; PACKET_LEN];
            if b.is_ticking()
                && let Some((len, _)) = b.on_frame(now, &mut packet, &mut out)
            {
                sent.push(Header::parse(&packet[..len]).expect("RTP").0);
            }
        }
        let mut missing = 0;
        for pair in sent.windows(2) {
            prop_assert_eq!(pair[0].ssrc, pair[1].ssrc);
            let step = pair[1].sequence.wrapping_sub(pair[0].sequence);
            prop_assert!((1..100).contains(&step), "{:?}", pair);
            missing += usize::from(step) - 1;
            let later = pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32;
            // Packets of one event share its timestamp.
            let same_event = pair[0].payload_type == 101 && pair[1].payload_type == 101 && !pair[1].marker;
            prop_assert!(later > 0 || (same_event && later == 0), "{:?}", pair);
        }
        prop_assert!(missing <= lost, "only what was lost is missing");
        let ended = out.events.iter().filter(|event| matches!(event, Event::PlayEnded { .. })).count();
        prop_assert!(ended <= 150);
    }
}

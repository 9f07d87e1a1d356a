//! One leg, step by step in virtual time.

use std::net::SocketAddr;
use std::path::PathBuf;

use cordboard_base::{Now, Random, ms};
use cordboard_media::control::{Event, Item, Law, LegId, PlayEnd, RecordEnd, Remote};
use cordboard_media::dtmf::Payload;
use cordboard_media::leg::{FileJob, Leg, Output, PACKET_LEN};
use cordboard_media::rtp::Header;

const PHONE: ([u8; 4], u16) = ([192, 0, 2, 1], 4000);

fn at(now_ms: u64) -> Now {
    Now { mono_ns: ms(10_000 + now_ms), wall_ms: 1_700_000_000_000 + now_ms as i64 }
}

fn remote() -> Remote {
    Remote {
        address: PHONE.into(),
        rtcp: None,
        law: Law::Pcmu,
        payload_type: 0,
        dtmf_payload_type: Some(101),
        send: true,
        receive: true,
    }
}

fn leg(id: u64) -> Leg {
    let mut leg = Leg::new(LegId(id), at(0), &mut Random::seeded(id));
    leg.set_remote(at(0), remote());
    leg
}

fn packet(payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header { marker: false, payload_type, sequence, timestamp, ssrc: 5 };
    [&header.to_bytes()[..], payload].concat()
}

fn audio(sequence: u16) -> Vec<u8> {
    // The timestamp goes on where the sequence wraps.
    packet(0, sequence, u32::from(sequence.wrapping_add(1000)) * 160, &[0x55; 160])
}

/// Gives a packet to `a` and what comes of it to `b`.
fn relay(a: &mut Leg, b: &mut Leg, now: Now, mut bytes: Vec<u8>) -> Option<(Header, Vec<u8>)> {
    let inbound = a.on_packet(now, &bytes, PHONE.into(), &mut Output::default())?;
    let (range, _) = b.forward(now, &inbound, &mut bytes)?;
    let (header, payload) = Header::parse(&bytes[range.clone()])?;
    Some((header, bytes[range][payload].to_vec()))
}

#[test]
fn a_loss_and_a_swap_of_the_source_are_the_same_loss_and_swap_to_the_other_side() {
    let (mut a, mut b) = (leg(1), leg(2));
    let mut out = Vec::new();
    for (i, sequence) in [65_534, 65_535, 1, 2, 4, 3, 5].into_iter().enumerate() {
        out.push(relay(&mut a, &mut b, at(i as u64 * 20), audio(sequence)).expect("relayed").0.sequence);
    }
    let steps: Vec<u16> = out.iter().map(|sequence| sequence.wrapping_sub(out[0])).collect();
    assert_eq!(steps, [0, 1, 3, 4, 6, 5, 7]);
    assert_eq!(a.stats().lost_packets, 1);
}

#[test]
fn numbers_keep_running_for_hours() {
    let (mut a, mut b) = (leg(1), leg(2));
    let mut last: Option<Header> = None;
    for i in 0..200_000_u32 {
        let bytes = packet(0, i as u16, i.wrapping_mul(160), &[1; 20]);
        let header = relay(&mut a, &mut b, at(u64::from(i) * 20), bytes).expect("relayed").0;
        if let Some(last) = last {
            assert_eq!(header.sequence, last.sequence.wrapping_add(1));
            assert_eq!(header.timestamp, last.timestamp.wrapping_add(160));
            assert!(!header.marker);
        }
        last = Some(header);
    }
}

#[test]
fn laws_payload_types_and_extensions_are_translated() {
    let (mut a, mut b) = (leg(1), leg(2));
    b.set_remote(at(0), Remote { law: Law::Pcma, payload_type: 8, dtmf_payload_type: Some(96), ..remote() });
    let mut bytes = audio(1);
    // A header extension of one word, which is not for the other side.
    bytes[0] |= 0x10;
    bytes.splice(12..12, [0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
    let (header, payload) = relay(&mut a, &mut b, at(0), bytes).expect("relayed");
    assert_eq!((header.payload_type, payload.len()), (8, 160));
    let (was, is) = (Law::Pcmu.decode(0x55), Law::Pcma.decode(payload[0]));
    assert!((was - is).abs() <= was.abs() / 16 + 16, "{was} {is}");
    let event = Payload { event: 5, end: false, volume: 10, duration: 160 };
    let (header, payload) =
        relay(&mut a, &mut b, at(20), packet(101, 2, 1002 * 160, &event.to_bytes())).expect("relayed");
    assert_eq!((header.payload_type, payload), (96, event.to_bytes().to_vec()));
}

#[test]
fn an_event_keeps_its_place_on_the_timeline_of_the_audio() {
    let (mut a, mut b) = (leg(1), leg(2));
    let first = relay(&mut a, &mut b, at(0), audio(1)).expect("relayed").0;
    let payload = |duration| Payload { event: 1, end: false, volume: 10, duration }.to_bytes();
    for (i, duration) in [160_u16, 320, 480].into_iter().enumerate() {
        let bytes = packet(101, 2 + i as u16, 1002 * 160, &payload(duration));
        let header = relay(&mut a, &mut b, at(20 + i as u64 * 20), bytes).expect("relayed").0;
        assert_eq!(header.timestamp.wrapping_sub(first.timestamp), 160);
    }
    let after = relay(&mut a, &mut b, at(80), packet(0, 5, 1005 * 160, &[1; 160])).expect("relayed").0;
    assert_eq!(after.timestamp.wrapping_sub(first.timestamp), 640);
}

#[test]
fn comfort_noise_is_left_out_without_a_hole() {
    let (mut a, mut b) = (leg(1), leg(2));
    let first = relay(&mut a, &mut b, at(0), audio(1)).expect("relayed").0;
    assert!(relay(&mut a, &mut b, at(20), packet(13, 2, 320, &[60])).is_none());
    let next = relay(&mut a, &mut b, at(40), audio(3)).expect("relayed").0;
    assert_eq!(next.sequence, first.sequence.wrapping_add(1));
}

#[test]
fn a_hold_by_address_zero_sends_nothing_and_hears_nothing_worse() {
    let (mut a, mut b) = (leg(1), leg(2));
    b.set_remote(at(0), Remote { address: ([0, 0, 0, 0], 4000).into(), ..remote() });
    assert!(relay(&mut a, &mut b, at(0), audio(1)).is_none());
    b.play(1, vec![Item::Silence { ms: 20 }], false, false, &mut Output::default());
    let mut out = Output::default();
    assert!(b.on_frame(at(20), &mut [0; PACKET_LEN], &mut out).is_none());
    assert_eq!(out.events, [Event::PlayEnded { leg: LegId(2), play: 1, reason: PlayEnd::Finished }]);
}

#[test]
fn what_the_other_side_may_not_send_is_not_heard() {
    let (mut a, mut b) = (leg(1), leg(2));
    a.set_remote(at(0), Remote { receive: false, ..remote() });
    assert!(relay(&mut a, &mut b, at(0), audio(1)).is_none());
    assert_eq!(a.stats().received_packets, 1);
}

#[test]
fn packets_before_an_answer_and_of_other_payloads_are_dropped_and_counted() {
    let mut early = Leg::new(LegId(1), at(0), &mut Random::seeded(1));
    let mut out = Output::default();
    assert!(early.on_packet(at(0), &audio(1), PHONE.into(), &mut out).is_none());
    let mut a = leg(1);
    assert!(a.on_packet(at(0), &packet(111, 1, 1, &[0; 50]), PHONE.into(), &mut out).is_none());
    assert!(a.on_packet(at(0), &packet(0, 1, 1, &[]), PHONE.into(), &mut out).is_none());
    assert_eq!((early.stats().dropped_packets, a.stats().dropped_packets), (1, 2));
    assert!(out.events.is_empty());
}

#[test]
fn a_finishing_digit_ends_the_recording_when_it_is_pressed() {
    let mut a = leg(1);
    let mut out = Output::default();
    a.record(at(0), 9, PathBuf::from("x.wav"), 60_000, None, false, "#*".into(), &mut out);
    for i in 0..10_u16 {
        a.on_packet(at(u64::from(i) * 20), &audio(i), PHONE.into(), &mut out);
        a.on_frame(at(u64::from(i) * 20), &mut [0; PACKET_LEN], &mut out);
    }
    let press =
        |event| packet(101, 10 + u16::from(event), 1010 * 160 + u32::from(event), &[event, 10, 0, 160]);
    a.on_packet(at(200), &press(3), PHONE.into(), &mut out);
    assert_eq!(out.files.len(), 1, "3 is no finishing digit");
    a.on_packet(at(200), &press(11), PHONE.into(), &mut out);
    let [FileJob::Begin { .. }, FileJob::Samples { samples, .. }, FileJob::End { duration_ms, reason, .. }] =
        &out.files[..]
    else {
        panic!("{:?}", out.files)
    };
    assert_eq!((samples.len(), *duration_ms, *reason), (1600, 200, RecordEnd::Digit('#')));
    assert!(a.is_ticking(), "the key is still held");
}

#[test]
fn a_source_whose_clock_runs_fast_never_makes_a_step_back() {
    let (mut a, mut b) = (leg(1), leg(2));
    let mut out = Output::default();
    let mut newest = None;
    // 1 % fast for 20 s: 200 ms ahead of our own clock.
    for i in 0..1010_u32 {
        let now = at(u64::from(i) * 198 / 10);
        newest =
            relay(&mut a, &mut b, now, packet(0, i as u16, i * 160, &[1; 160])).map(|(header, _)| header);
    }
    b.play(1, vec![Item::Silence { ms: 100 }], false, false, &mut out);
    let mut frame = [0; PACKET_LEN];
    b.on_frame(at(20_000), &mut frame, &mut out).expect("sends");
    let (header, _) = Header::parse(&frame).expect("RTP");
    let newest = newest.expect("relayed");
    assert_eq!(header.sequence, newest.sequence.wrapping_add(1));
    assert!(header.marker && header.timestamp.wrapping_sub(newest.timestamp) as i32 >= 160);
}

#[test]
fn a_digit_that_begins_under_a_hold_is_still_a_digit_of_its_own() {
    let mut a = leg(1);
    let mut out = Output::default();
    a.send_digits("55", 60, 40);
    let mut sent = Vec::new();
    for frame in 0..12_u64 {
        // Held while the second digit begins.
        a.set_remote(at(frame * 20), Remote { send: frame != 5 && frame != 6, ..remote() });
        let mut packet = [0; PACKET_LEN];
        if let Some((len, _)) = a.on_frame(at(frame * 20), &mut packet, &mut out) {
            sent.push(Header::parse(&packet[..len]).expect("RTP").0);
        }
    }
    let starts: Vec<u32> =
        sent.iter().filter(|header| header.marker).map(|header| header.timestamp).collect();
    assert_eq!(starts.len(), 2, "{sent:?}");
    assert!(starts[1].wrapping_sub(starts[0]) >= 640);
    assert!(sent.iter().all(|header| starts.contains(&header.timestamp)));
}

#[test]
fn a_leg_is_small() {
    assert!(size_of::<Leg>() <= 1024, "{}", size_of::<Leg>());
    let _: SocketAddr = PHONE.into();
}

#[test]
fn a_phone_that_saves_its_silence_lives_by_its_reports() {
    let mut a = leg(1);
    a.watch(at(0), 15_000);
    let silent = |a: &mut Leg, now_ms: u64| {
        let mut out = Output::default();
        a.on_deadline(at(now_ms), &mut out);
        out.events.contains(&Event::Silent { leg: LegId(1) })
    };
    let mut report = Vec::new();
    cordboard_media::rtcp::write(5, None, None, "phone", false, &mut report);
    let rtcp = |port: u16| SocketAddr::from((PHONE.0, port));
    a.on_rtcp(at(100), &report, rtcp(4001));
    assert!(!silent(&mut a, 20_000), "one that has never spoken is not missed");
    assert!(a.on_packet(at(20_000), &audio(1), PHONE.into(), &mut Output::default()).is_some());
    a.on_rtcp(at(30_000), &report, rtcp(4001));
    assert!(!silent(&mut a, 44_000), "it has reported");
    // A stranger's report, and no report at all, are no life.
    let mut strange = Vec::new();
    cordboard_media::rtcp::write(77, None, None, "stranger", false, &mut strange);
    a.on_rtcp(at(44_000), &strange, ([203, 0, 113, 9], 4001).into());
    a.on_rtcp(at(44_000), b"noise", rtcp(4001));
    assert!(silent(&mut a, 45_000));
}

//! The media thread against real sockets on the loopback: what a phone outside hears and says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use cordboard_media::Clip;
use cordboard_media::control::{Command, Event, Item, Law, LegId, PlayEnd, RecordEnd, Remote};
use cordboard_media::dtmf::{self, Key, Step};
use cordboard_media::rtcp;
use cordboard_media::rtp::Header;
use cordboard_media::tone::{Detector, amplitude, sample};
use cordboard_media::wav;
use cordboard_net::Clock;
use cordboard_net::media::{Config, MediaThread};
use crossbeam_channel::{Receiver, unbounded};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A media thread and what it reported.
struct Rig {
    media: MediaThread,
    events: Receiver<Event>,
    legs: u64,
}

impl Rig {
    fn start(ports: std::ops::RangeInclusive<u16>) -> Self {
        Self::with(Config::new(LOCAL, LOCAL, ports, [7; 32]))
    }

    fn with(config: Config) -> Self {
        let (to, events) = unbounded();
        let media = MediaThread::start(config, Clock::start(), move |batch| {
            for event in batch {
                let _ = to.send(event);
            }
        })
        .expect("starts");
        Self { media, events, legs: 0 }
    }

    fn send(&self, command: Command) {
        self.media.send(command).expect("taken");
    }

    /// Waits for the event that `want` picks; others are passed over.
    fn wait<T>(&self, what: &str, mut want: impl FnMut(&Event) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let event = self.events.recv_deadline(end).unwrap_or_else(|_| panic!("no {what} within 10 s"));
            if let Some(found) = want(&event) {
                return found;
            }
        }
    }

    /// A leg and the phone at its other end.
    fn leg(&mut self, law: Law, dtmf: bool) -> (LegId, Phone) {
        self.legs += 1;
        let leg = LegId(self.legs);
        self.send(Command::Open { leg });
        let address = self.wait("Opened", |event| match event {
            Event::Opened { leg: opened, address } if *opened == leg => Some(*address),
            Event::OpenFailed { reason, .. } => panic!("{reason}"),
            _ => None,
        });
        let phone = Phone::new(address, law);
        self.send(Command::Remote { leg, remote: phone.remote(dtmf) });
        (leg, phone)
    }
}

/// A telephone: sends what it is told, paced, and keeps what it hears.
struct Phone {
    socket: UdpSocket,
    to: SocketAddr,
    law: Law,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    heard: Vec<(Instant, Header, Vec<u8>)>,
}

impl Phone {
    fn new(to: SocketAddr, law: Law) -> Self {
        let socket = UdpSocket::bind((LOCAL, 0)).expect("binds");
        socket.set_nonblocking(true).expect("sets");
        let ssrc = u32::from(socket.local_addr().expect("address").port());
        Self { socket, to, law, sequence: 65_500, timestamp: u32::MAX - 4000, ssrc, heard: Vec::new() }
    }

    fn remote(&self, dtmf: bool) -> Remote {
        Remote {
            address: self.socket.local_addr().expect("address"),
            rtcp: None,
            law: self.law,
            payload_type: self.law.payload_type(),
            dtmf_payload_type: dtmf.then_some(101),
            send: true,
            receive: true,
        }
    }

    fn packet(&mut self, marker: bool, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let header = Header { marker, payload_type, sequence: self.sequence, timestamp, ssrc: self.ssrc };
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send_to(&[&header.to_bytes(), payload].concat(), self.to).expect("sends");
    }

    fn audio(&mut self, hz: u16) {
        let start = self.timestamp as usize;
        let law = self.law;
        let payload: Vec<u8> = (0..160)
            .map(|n| law.encode(sample(hz, start.wrapping_add(n) % 8000, amplitude(-10)) as i16))
            .collect();
        self.packet(false, law.payload_type(), self.timestamp, &payload);
        self.timestamp = self.timestamp.wrapping_add(160);
    }

    fn hear(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((len, _)) = self.socket.recv_from(&mut buffer) {
            let (header, payload) = Header::parse(&buffer[..len]).expect("we send RTP");
            self.heard.push((Instant::now(), header, buffer[payload].to_vec()));
        }
    }

    /// What it heard as samples, packet by packet as they came.
    fn samples(&self) -> Vec<i16> {
        self.heard
            .iter()
            .filter(|(_, header, _)| header.payload_type == self.law.payload_type())
            .flat_map(|(_, _, payload)| payload.iter().map(|octet| self.law.decode(*octet)))
            .collect()
    }

    fn hears(&self, hz: u16) -> bool {
        Detector::new(hz).feed(self.samples().into_iter()).is_some()
    }

    /// The digits it heard as telephone events.
    fn digits(&self, payload_type: u8) -> String {
        let mut receiver = dtmf::Receiver::default();
        let mut digits = String::new();
        for (_, header, payload) in
            self.heard.iter().filter(|(_, header, _)| header.payload_type == payload_type)
        {
            let event = dtmf::Payload::parse(payload).expect("an event");
            receiver.packet(0, header.timestamp, event, |key| {
                if let Key::Released(digit, _) = key {
                    digits.push(digit);
                }
            });
        }
        digits
    }

    /// The stream has one source, no hole in its sequence and no step back in time.
    fn check_continuity(&self) {
        for pair in self.heard.windows(2) {
            let (a, b) = (&pair[0].1, &pair[1].1);
            assert_eq!(a.ssrc, b.ssrc);
            assert_eq!(b.sequence, a.sequence.wrapping_add(1));
            assert!(b.timestamp.wrapping_sub(a.timestamp) < 80_000, "{} to {}", a.timestamp, b.timestamp);
        }
    }
}

/// Lets time go by in frames of 20 ms; `each` is told the number of the frame.
fn frames(count: u32, phones: &mut [&mut Phone], mut each: impl FnMut(u32, &mut [&mut Phone])) {
    let start = Instant::now();
    for frame in 0..count {
        each(frame, phones);
        let next = start + Duration::from_millis(20) * (frame + 1);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        phones.iter_mut().for_each(|phone| phone.hear());
    }
}

fn send_digit(phone: &mut Phone, digits: &str) {
    let mut sender = dtmf::Sender::default();
    sender.push(digits, 60, 40);
    let mut started = phone.timestamp;
    while !sender.is_idle() {
        let (first, payload) = match sender.frame() {
            Step::First(payload) => {
                started = phone.timestamp;
                (true, Some(payload))
            }
            Step::More(payload) => (false, Some(payload)),
            Step::Free => (false, None),
        };
        if let Some(payload) = payload {
            phone.packet(first, 101, started, &payload.to_bytes());
        }
        phone.timestamp = phone.timestamp.wrapping_add(160);
        std::thread::sleep(Duration::from_millis(20));
        phone.hear();
    }
}

fn tone(hz: u16, ms: u32) -> Item {
    Item::Tone { hz, ms, level_dbm0: -10 }
}

#[test]
fn joined_legs_hear_each_other_across_the_laws_and_the_detectors_hear_them() {
    let mut rig = Rig::start(21_000..=21_099);
    let ((a, mut alice), (b, mut bob)) = (rig.leg(Law::Pcmu, true), rig.leg(Law::Pcma, true));
    rig.send(Command::Join { a, b });
    rig.send(Command::Detect { leg: a, hz: 440 });
    rig.send(Command::Detect { leg: b, hz: 620 });
    frames(40, &mut [&mut alice, &mut bob], |_, phones| {
        phones[0].audio(440);
        phones[1].audio(620);
    });
    assert!(bob.hears(440) && !bob.hears(620));
    assert!(alice.hears(620) && !alice.hears(440));
    alice.check_continuity();
    bob.check_continuity();
    assert!(alice.heard.len() >= 38 && bob.heard.len() >= 38, "{} {}", alice.heard.len(), bob.heard.len());
    let mut heard = Vec::new();
    rig.wait("both tones", |event| {
        if let Event::Tone { leg, hz, .. } = event {
            heard.push((*leg, *hz));
        }
        (heard.len() == 2).then_some(())
    });
    assert!(heard.contains(&(a, 440)) && heard.contains(&(b, 620)));
    rig.send(Command::Close { leg: a });
    let stats =
        rig.wait("Closed", |event| if let Event::Closed { stats, .. } = event { Some(*stats) } else { None });
    assert_eq!((stats.received_packets, stats.lost_packets), (40, 0));
    assert!(stats.sent_packets >= 38 && stats.jitter_ms < 20.0);
}

#[test]
fn a_play_gives_way_to_the_relay_and_comes_back_on_one_timeline() {
    let mut rig = Rig::start(21_100..=21_199);
    let ((a, mut alice), (b, mut bob)) = (rig.leg(Law::Pcmu, true), rig.leg(Law::Pcmu, true));
    let music =
        Arc::new(Clip::from_samples(&(0..8000).map(|n| sample(300, n, 5000.0) as i16).collect::<Vec<_>>()));
    rig.send(Command::Play {
        leg: a,
        play: 1,
        items: vec![Item::Clip(music.clone())],
        repeat: true,
        barge: false,
    });
    rig.send(Command::Play { leg: b, play: 2, items: vec![tone(350, 60_000)], repeat: false, barge: false });
    frames(15, &mut [&mut alice, &mut bob], |_, _| {});
    rig.send(Command::Join { a, b });
    let mut ended = Vec::new();
    rig.wait("both plays to end", |event| {
        if let Event::PlayEnded { leg, play, reason } = event {
            ended.push((*leg, *play, *reason));
        }
        (ended.len() == 2).then_some(())
    });
    assert_eq!(ended, [(a, 1, PlayEnd::Joined), (b, 2, PlayEnd::Joined)]);
    frames(15, &mut [&mut alice, &mut bob], |_, phones| phones[1].audio(620));
    rig.send(Command::Part { a, b });
    rig.send(Command::Play { leg: a, play: 3, items: vec![tone(900, 200)], repeat: false, barge: false });
    frames(20, &mut [&mut alice, &mut bob], |_, phones| phones[1].audio(620));
    rig.wait("Finished", |event| match event {
        Event::PlayEnded { play: 3, reason, .. } => {
            assert_eq!(*reason, PlayEnd::Finished);
            Some(())
        }
        _ => None,
    });
    alice.check_continuity();
    assert!(alice.hears(300) && alice.hears(620) && alice.hears(900));
    let markers = alice.heard.iter().filter(|(_, header, _)| header.marker).count();
    assert_eq!(markers, 3, "one for each beginning");
}

#[test]
fn a_loop_is_paced_at_twenty_milliseconds() {
    let mut rig = Rig::start(21_200..=21_299);
    let (leg, mut alice) = rig.leg(Law::Pcma, false);
    rig.send(Command::Play { leg, play: 1, items: vec![tone(440, 70)], repeat: true, barge: false });
    frames(50, &mut [&mut alice], |_, _| {});
    rig.send(Command::Stop { leg, play: Some(9) });
    rig.send(Command::Stop { leg, play: Some(1) });
    rig.wait("Stopped", |event| {
        matches!(event, Event::PlayEnded { play: 1, reason: PlayEnd::Stopped, .. }).then_some(())
    });
    alice.check_continuity();
    assert!((48..=52).contains(&alice.heard.len()), "{}", alice.heard.len());
    for pair in alice.heard.windows(2) {
        assert_eq!(pair[1].1.timestamp.wrapping_sub(pair[0].1.timestamp), 160);
    }
    assert!(alice.hears(440));
}

#[test]
fn digits_go_both_ways_and_through_a_relay_with_other_payload_types() {
    let mut rig = Rig::start(21_300..=21_399);
    let ((a, mut alice), (b, mut bob)) = (rig.leg(Law::Pcmu, true), rig.leg(Law::Pcmu, true));
    let remote = Remote { dtmf_payload_type: Some(96), ..bob.remote(true) };
    rig.send(Command::Remote { leg: b, remote });
    alice.audio(440);
    // To the leg.
    send_digit(&mut alice, "12");
    let mut digits = String::new();
    rig.wait("two digits", |event| {
        if let Event::Digit { leg, digit, duration_ms } = event {
            assert_eq!((*leg, *duration_ms), (a, 60));
            digits.push(*digit);
        }
        (digits.len() == 2).then_some(())
    });
    assert_eq!(digits, "12");
    // From the leg.
    rig.send(Command::SendDigits { leg: a, digits: "90*".into(), duration_ms: 60, gap_ms: 40 });
    frames(30, &mut [&mut alice], |_, _| {});
    assert_eq!(alice.digits(101), "90*");
    alice.check_continuity();
    // Through.
    rig.send(Command::Join { a, b });
    frames(5, &mut [&mut alice, &mut bob], |_, phones| phones[0].audio(440));
    send_digit(&mut alice, "7#");
    frames(5, &mut [&mut alice, &mut bob], |_, phones| phones[0].audio(440));
    assert_eq!(bob.digits(96), "7#");
    bob.check_continuity();
}

#[test]
fn a_leg_without_events_gets_a_relayed_digit_as_sound() {
    let mut rig = Rig::start(21_400..=21_499);
    let ((a, mut alice), (b, mut bob)) = (rig.leg(Law::Pcmu, true), rig.leg(Law::Pcmu, false));
    rig.send(Command::Join { a, b });
    alice.audio(440);
    send_digit(&mut alice, "5");
    frames(10, &mut [&mut alice, &mut bob], |_, _| {});
    let samples = bob.samples();
    assert!(samples.len() >= 1000 && samples.iter().any(|s| s.abs() > 8000));
    assert!(bob.heard.iter().all(|(_, header, _)| header.payload_type == 0));
}

#[test]
fn the_first_digit_ends_a_play_that_may_be_barged_and_no_other() {
    let mut rig = Rig::start(21_500..=21_599);
    let (leg, mut alice) = rig.leg(Law::Pcmu, true);
    rig.send(Command::Play { leg, play: 1, items: vec![tone(440, 10_000)], repeat: false, barge: false });
    alice.audio(300);
    send_digit(&mut alice, "1");
    rig.send(Command::Play { leg, play: 2, items: vec![tone(440, 10_000)], repeat: false, barge: true });
    frames(3, &mut [&mut alice], |_, _| {});
    send_digit(&mut alice, "2");
    let mut order = Vec::new();
    rig.wait("the second digit", |event| {
        match event {
            Event::PlayEnded { play, reason, .. } => order.push(format!("{play} {reason:?}")),
            Event::Digit { digit, .. } => order.push(format!("digit {digit}")),
            _ => {}
        }
        (order.last().map(String::as_str) == Some("digit 2")).then_some(())
    });
    assert_eq!(order, ["digit 1", "1 Replaced", "2 Barged", "digit 2"]);
    alice.hear();
    let before = alice.heard.len();
    frames(5, &mut [&mut alice], |_, _| {});
    assert_eq!(alice.heard.len(), before, "nothing is heard after the barge");
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("cordboard-media-{}", std::process::id()));
    folder.join(name)
}

#[test]
fn what_a_leg_sends_is_recorded_after_the_beep() {
    let mut rig = Rig::start(21_600..=21_699);
    let (leg, mut alice) = rig.leg(Law::Pcmu, true);
    let path = scratch("voicemail.wav");
    let record = |recording, path: PathBuf, finish: &str| Command::Record {
        leg,
        recording,
        path,
        max_ms: 30_000,
        end_silence_ms: Some(5000),
        beep: true,
        finish_digits: finish.into(),
    };
    rig.send(record(1, path.clone(), "#"));
    frames(75, &mut [&mut alice], |frame, phones| {
        if frame % 10 != 9 {
            phones[0].audio(440);
        } else {
            // Lost on the way.
            phones[0].sequence += 1;
            phones[0].timestamp = phones[0].timestamp.wrapping_add(160);
        }
    });
    send_digit(&mut alice, "#");
    let (duration_ms, reason) = rig.wait("Recorded", |event| match event {
        Event::Recorded { recording: 1, duration_ms, reason, .. } => Some((*duration_ms, *reason)),
        Event::RecordFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    });
    assert_eq!(reason, RecordEnd::Digit('#'));
    assert!(alice.hears(1000), "the beep");
    let samples = wav::read(&std::fs::read(&path).expect("the file")).expect("a WAV");
    assert_eq!(samples.len() / 8, duration_ms as usize);
    assert!((1150..=1400).contains(&duration_ms), "{duration_ms}");
    assert!(Detector::new(440).feed(samples.iter().copied()).is_some());
    let nothing = samples.iter().filter(|sample| **sample == 0).count() as f64 / samples.len() as f64;
    assert!((0.05..0.25).contains(&nothing), "a tenth was lost and is silence: {nothing}");
    // A file that cannot be made is reported, and closing comes last.
    rig.send(record(2, PathBuf::from("/dev/null/no.wav"), ""));
    rig.wait("RecordFailed", |event| matches!(event, Event::RecordFailed { recording: 2, .. }).then_some(()));
    rig.send(record(3, path.with_extension("b.wav"), ""));
    rig.send(Command::Close { leg });
    let mut order = Vec::new();
    rig.wait("Closed", |event| {
        match event {
            Event::Recorded { recording, reason, .. } => order.push(format!("{recording} {reason:?}")),
            Event::Closed { .. } => order.push("closed".into()),
            _ => {}
        }
        (order.last().map(String::as_str) == Some("closed")).then_some(())
    });
    assert_eq!(order, ["3 Closed", "closed"]);
    let _ = std::fs::remove_dir_all(scratch(""));
}

#[test]
fn packets_go_where_they_come_from_and_not_where_garbage_comes_from() {
    let mut rig = Rig::start(21_700..=21_799);
    let (leg, mut signalled) = rig.leg(Law::Pcmu, true);
    rig.send(Command::Play { leg, play: 1, items: vec![tone(440, 100)], repeat: true, barge: false });
    frames(5, &mut [&mut signalled], |_, _| {});
    assert!(signalled.heard.len() >= 3, "at first to the signalled address");
    let mut real = Phone::new(signalled.to, Law::Pcmu);
    let stranger = UdpSocket::bind((LOCAL, 0)).expect("binds");
    frames(15, &mut [&mut real], |frame, phones| {
        phones[0].audio(300);
        for garbage in [&b""[..], b"\0", b"OPTIONS sip:x SIP/2.0\r\n\r\n", &[0x80; 40], &[0xff; 200]] {
            stranger.send_to(garbage, signalled.to).expect("sends");
        }
        if frame == 0 {
            signalled.hear();
            signalled.heard.clear();
        }
    });
    signalled.hear();
    assert!(real.heard.len() >= 11, "{}", real.heard.len());
    assert!(signalled.heard.len() <= 4, "{}", signalled.heard.len());
    let mut thief = Phone::new(signalled.to, Law::Pcmu);
    frames(15, &mut [&mut real, &mut thief], |_, phones| {
        phones[0].audio(300);
        phones[1].audio(300);
    });
    assert_eq!(thief.heard.len(), 0);
}

#[test]
fn a_leg_that_falls_silent_is_reported_once_and_never_before_it_spoke() {
    let mut rig = Rig::start(21_800..=21_899);
    let (leg, mut alice) = rig.leg(Law::Pcmu, true);
    rig.send(Command::Watch { leg, silent_after_ms: 200 });
    frames(20, &mut [&mut alice], |_, _| {});
    assert!(rig.events.try_iter().next().is_none());
    frames(20, &mut [&mut alice], |_, phones| phones[0].audio(440));
    let spoke = Instant::now();
    assert_eq!(rig.events.try_iter().collect::<Vec<_>>(), [Event::FirstPacket { leg }]);
    rig.wait("Silent", |event| matches!(event, Event::Silent { .. }).then_some(()));
    let after = spoke.elapsed();
    assert!((150..400).contains(&after.as_millis()), "{after:?}");
    std::thread::sleep(Duration::from_millis(400));
    assert!(rig.events.try_iter().next().is_none());
}

#[test]
fn hold_stops_what_we_send_and_a_new_remote_moves_it() {
    let mut rig = Rig::start(21_900..=21_999);
    let (leg, mut alice) = rig.leg(Law::Pcmu, true);
    rig.send(Command::Play { leg, play: 1, items: vec![tone(440, 100)], repeat: true, barge: false });
    frames(5, &mut [&mut alice], |_, _| {});
    assert!(alice.heard.len() >= 3);
    rig.send(Command::Remote { leg, remote: Remote { send: false, ..alice.remote(true) } });
    frames(3, &mut [&mut alice], |_, _| {});
    alice.heard.clear();
    frames(10, &mut [&mut alice], |_, _| {});
    assert_eq!(alice.heard.len(), 0);
    let mut moved = Phone::new(alice.to, Law::Pcma);
    rig.send(Command::Remote { leg, remote: moved.remote(true) });
    frames(10, &mut [&mut alice, &mut moved], |_, _| {});
    assert_eq!(alice.heard.len(), 0);
    assert!(moved.heard.len() >= 8 && moved.hears(440));
    assert!(moved.heard[0].1.marker);
}

#[test]
fn reports_are_exchanged_and_the_last_one_says_goodbye() {
    let mut rig = Rig::start(22_000..=22_099);
    let (leg, mut alice) = rig.leg(Law::Pcmu, true);
    let control = UdpSocket::bind((LOCAL, 0)).expect("binds");
    control.set_read_timeout(Some(Duration::from_secs(9))).expect("sets");
    rig.send(Command::Remote {
        leg,
        remote: Remote { rtcp: control.local_addr().ok(), ..alice.remote(true) },
    });
    rig.send(Command::Play { leg, play: 1, items: vec![tone(440, 100)], repeat: true, barge: false });
    frames(10, &mut [&mut alice], |frame, phones| {
        if frame != 5 {
            phones[0].audio(440);
        } else {
            phones[0].sequence += 1;
        }
    });
    let mut buffer = [0; 1500];
    let (len, from) = control.recv_from(&mut buffer).expect("a report within 7.5 s");
    assert_eq!(from.port(), alice.to.port() + 1);
    let packets = rtcp::parse(&buffer[..len]).expect("a compound");
    let [
        rtcp::Packet::Report { ssrc, sender: Some(sender), blocks },
        rtcp::Packet::Description { cname: Some(_), .. },
    ] = &packets[..]
    else {
        panic!("{packets:?}")
    };
    assert!(sender.packets >= 100 && *ssrc == alice.heard[0].1.ssrc);
    assert_eq!((blocks[0].ssrc, blocks[0].lost), (alice.ssrc, 1));
    // Our answer, 30 ms later, makes the round trip known.
    std::thread::sleep(Duration::from_millis(30));
    let block = rtcp::Block {
        ssrc: *ssrc,
        fraction_lost: 64,
        last_sr: rtcp::ntp_middle(sender.ntp),
        delay_since_sr: 0,
        ..rtcp::Block::default()
    };
    let mut answer = Vec::new();
    rtcp::write(alice.ssrc, None, Some(block), "alice", false, &mut answer);
    control.send_to(&answer, from).expect("sends");
    std::thread::sleep(Duration::from_millis(50));
    rig.send(Command::Close { leg });
    let stats =
        rig.wait("Closed", |event| if let Event::Closed { stats, .. } = event { Some(*stats) } else { None });
    let round_trip_ms = stats.round_trip_ms.expect("known");
    assert!((25.0..200.0).contains(&round_trip_ms), "{round_trip_ms}");
    assert_eq!((stats.remote_loss, stats.lost_packets), (Some(0.25), 1));
    let (len, _) = control.recv_from(&mut buffer).expect("goodbye");
    assert!(
        rtcp::parse(&buffer[..len])
            .expect("a compound")
            .iter()
            .any(|packet| matches!(packet, rtcp::Packet::Bye { .. }))
    );
}

#[test]
fn ports_and_legs_are_bounded_and_come_back() {
    let mut rig = Rig::start(22_100..=22_105);
    let legs: Vec<LegId> = (0..3).map(|_| rig.leg(Law::Pcmu, true).0).collect();
    rig.send(Command::Open { leg: LegId(99) });
    let reason = rig.wait("OpenFailed", |event| {
        if let Event::OpenFailed { reason, .. } = event { Some(reason.clone()) } else { None }
    });
    assert!(reason.contains("range"), "{reason}");
    rig.send(Command::Close { leg: legs[1] });
    rig.wait("Closed", |event| matches!(event, Event::Closed { .. }).then_some(()));
    rig.leg(Law::Pcmu, true);
    rig.send(Command::Play { leg: LegId(1234), play: 5, items: vec![], repeat: false, barge: false });
    rig.wait("the end of a play on no leg", |event| {
        matches!(event, Event::PlayEnded { play: 5, .. }).then_some(())
    });
    assert_eq!(rig.media.handle().counters().legs.load(Relaxed), 3);
}

//! What must hold for any bytes. Each function is one target and panics when its promise is broken.
//!
//! Called by libFuzzer (`fuzz_targets/`) and, on a stable toolchain, by `host/sip/tests/fuzz.rs`, which
//! includes this file. No target reads a clock or randomness of its own: an input says all.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use cordboard_base::{Now, Random};
use cordboard_sip::digest::{Algorithm, AuthorizationHeader, Challenge, Client, Credential, Server, Verdict};
use cordboard_sip::resolve::{Abilities, Answer, Kind, Record, Request, Resolution, Step};
use cordboard_sip::sdp::{Codec, Direction, Local, Session, agreed, answer};
use cordboard_sip::stream::{Framer, Piece, stun};
use cordboard_sip::transport::Transport;
use cordboard_sip::wire::{Builder, MAX_MESSAGE, Message, Name, NameAddr, Uri, Via};

use super::second_opinion;

/// What a target is handed.
pub type Target = fn(&[u8]);

/// Every target by its name, which is its corpus' folder too.
pub const ALL: &[(&str, Target)] = &[
    ("wire", wire),
    ("sdp", sdp),
    ("digest", digest),
    ("stream", stream),
    ("stun", stun),
    ("resolve", resolve),
    ("rsip", rsip),
];

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], 5066))
}

/// A message is kept as it came, every accessor answers, what we answer is whole.
pub fn wire(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let (message, status) = match Message::parse(bytes) {
        Ok(message) => match message.check() {
            Ok(()) => (message, Some(200)),
            Err(error) => (message, error.status),
        },
        Err(error) => match error.message {
            Some(message) => (message, error.status),
            None => return assert_eq!(error.status, None),
        },
    };
    assert_eq!(&message.as_bytes()[..], data, "kept byte for byte");
    let behind = message.body().as_ptr() as usize - message.as_bytes().as_ptr() as usize;
    assert!(behind + message.body().len() <= data.len());
    assert!(message.is_request() == (message.status() == 0));
    for (name, value) in message.all() {
        assert!(!name.is_empty() && !value.contains(['\r', '\n']));
        let _ = (Via::parse(value), message.other(name).expect("it is there"));
        if let Some(address) = NameAddr::parse(value) {
            let _ = (address.display_text(), address.tag(), address.q_milli(), address.expires_s());
        }
    }
    for uri in [message.request_uri()].into_iter().chain(message.contacts().map(|c| c.uri)) {
        if let Ok(uri) = Uri::parse(uri) {
            let printed = uri.to_string();
            let again = Uri::parse(&printed).expect("what we print can be read");
            assert_eq!(again.to_string(), printed);
            let _ = (uri.same_as(&again), uri.socket_addr(), uri.user_text(), uri.header_pairs().count());
        }
    }
    for name in Name::ALL {
        let _ = message.headers(*name).count();
    }
    let _ = (message.expires(), message.max_forwards(), message.cseq(), message.has_sdp());
    let _ = message.not_understood(&["application/sdp"]);
    if let Some(body) = message.whole_body() {
        assert!(body.parts().count() <= 32);
    }
    if let Some(status) = status.filter(|_| message.is_request()) {
        let response = Builder::response_to(&message, Some(peer()), status, "").to_tag("t").finish();
        let response = Message::parse(response.into()).expect("what we answer can be read");
        assert_eq!(response.status(), status);
        if status == 200 {
            response.check().expect("an answer to a good request is good");
            assert_eq!((response.call_id(), response.cseq()), (message.call_id(), message.cseq()));
            let branch = |m: &Message| m.top_via().and_then(|v| v.branch.map(str::to_owned));
            assert_eq!(branch(&response), branch(&message), "or the sender would not know it");
        }
    }
}

/// Descriptions print back, and offers are answered as both sides understand it.
pub fn sdp(data: &[u8]) {
    let Ok(session) = Session::parse(data) else { return };
    let printed = session.to_string();
    let again = Session::parse(printed.as_bytes()).expect("what we print can be read");
    assert_eq!(again.to_string(), printed);
    for media in &session.media {
        let _ = (session.connection(media), session.direction(media), media.payload_types().count());
    }
    let local = Local { address: IpAddr::from([192, 0, 2, 1]), port: 4_000, session_id: 1, version: 1 };
    if let Ok((text, ours)) = answer(&session, &local, &[Codec::Pcma, Codec::Pcmu], Direction::SendRecv) {
        let answered = Session::parse(text.as_bytes()).expect("our answer can be read");
        assert_eq!(answered.media.len(), session.media.len(), "a line for each line (RFC 3264 6)");
        let theirs = agreed(&answered).expect("our answer can be used");
        assert_eq!((theirs.codec, theirs.payload_type), (ours.codec, ours.payload_type));
        assert_eq!(theirs.direction, ours.direction.mirrored());
    }
}

/// Lines of challenges, or of credentials after a line that is empty.
pub fn digest(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (challenges, credentials) = text.split_once("\n\n").unwrap_or((&text, ""));
    let lines: Vec<&str> = challenges.lines().take(8).collect();
    let mut random = Random::seeded(1);
    if let Some(value) =
        Client::default().answer(&lines, "REGISTER", "sip:x", "us\"er", "p\\w", b"body", &mut random)
    {
        assert!(!value.contains(['\r', '\n']) || challenges.contains('\r'));
        assert!(lines.iter().any(|line| Challenge::parse(line).is_some()));
    }
    let now = Now { mono_ns: 0, wall_ms: 1_700_000_000_000 };
    let mut server = Server::new([7; 32]);
    let nonce = server.challenge(now, "realm", Algorithm::Sha256, false);
    let nonce = Challenge::parse(&nonce).expect("our challenge can be read").nonce.to_owned();
    for line in credentials.lines().take(8) {
        // So that an input can get as far as the password.
        let line = line.replace("NONCE", &nonce);
        let Some(header) = AuthorizationHeader::parse(&line) else { continue };
        let verdict = server.verify(now, &header, "realm", "REGISTER", "sip:x", |user| {
            (user == "alice").then(|| Credential::Password("secret nobody types".to_owned()))
        });
        assert!(!matches!(verdict, Verdict::Ok { .. }), "nobody knows the password");
    }
}

/// The first byte says where the stream is cut, the rest is the stream.
pub fn stream(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let now = Now::default();
    let run = |step: usize| {
        let mut framer = Framer::accepted(2_048);
        let mut pieces = Vec::new();
        for chunk in stream.chunks(step) {
            framer.push(now, chunk);
            loop {
                match framer.next_piece() {
                    Ok(Some(piece)) => pieces.push(piece),
                    Ok(None) => break,
                    Err(lost) => {
                        let _ = lost.answer(peer());
                        return (pieces, Some(lost.why));
                    }
                }
            }
            assert!(framer.waiting_bytes() <= 2_048 + step);
        }
        (pieces, None)
    };
    let (whole, cut) = (run(stream.len().max(1)), run(usize::from(*cut) + 1));
    assert_eq!(whole, cut, "however it is cut");
    for piece in &whole.0 {
        let Piece::Message(bytes) = piece else { continue };
        assert!(bytes.len() <= 2_048);
        match Message::parse(bytes.clone()) {
            Ok(message) => {
                let behind = message.body().as_ptr() as usize - message.as_bytes().as_ptr() as usize;
                assert_eq!(behind + message.body().len(), bytes.len(), "both see the same end");
            }
            // The framer looks at nothing but the length.
            Err(error) => assert!(
                bytes.len() <= MAX_MESSAGE && error.reason != "the body is shorter than Content-Length says"
            ),
        }
    }
}

/// Only whole binding requests are answered.
pub fn stun(data: &[u8]) {
    let answered = stun::answer(data, peer());
    assert!(!stun::is_stun(data) || Message::parse(Bytes::copy_from_slice(data)).is_err(), "never both");
    if let Some(answer) = answered {
        assert!(stun::is_stun(data) && stun::is_stun(&answer) && answer[8..20] == data[8..20]);
        let id = data[8..20].try_into().expect("twelve bytes");
        let error = answer[..2] == [1, 0x11];
        assert_eq!(stun::mapped_address(&answer, id), (!error).then(peer));
        assert_eq!(stun::answer(&answer, peer()), None, "answers are not answered");
    }
    let _ = stun::mapped_address(data, [0; 12]);
}

/// The first line is a URI; each further byte chooses a record of an answer.
pub fn resolve(data: &[u8]) {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let Some(uri) = std::str::from_utf8(&data[..end]).ok().and_then(|text| Uri::parse(text).ok()) else {
        return;
    };
    let Ok(request) = Request::of_uri(&uri) else { return };
    let mut rest = data[end..].iter().copied();
    let mut random = Random::seeded(3);
    let abilities = Abilities {
        transports: vec![Transport::Tcp, Transport::Udp, Transport::Tls],
        v4: true,
        v6: true,
        prefer_v6: true,
    };
    let names = ["a.org", "b.org.", ".", "", "192.0.2.1", "x..y", "_sip._udp.c.org"];
    let services = ["SIP+D2U", "SIPS+D2T", "SIP+D2T", "other"];
    let (mut resolution, mut step) = Resolution::start(&request, &abilities);
    let mut rounds = 0;
    let result = loop {
        let questions = match step {
            Step::Done(result) => break result,
            Step::Ask(questions) => questions,
        };
        rounds += 1;
        assert!(rounds <= 3 && (1..=48).contains(&questions.len()), "{questions:?}");
        step = Step::Ask(Vec::new());
        for question in &questions {
            let mut byte = || rest.next().unwrap_or(0);
            let mut records = Vec::new();
            let count = byte();
            for _ in 0..count % 32 {
                let (a, b) = (byte(), byte());
                let target = names[usize::from(a) % names.len()].to_owned();
                records.push(match question.kind {
                    Kind::Naptr => Record::Naptr {
                        order: u16::from(a >> 4),
                        preference: u16::from(b >> 6),
                        flags: ["s", "A", "u", ""][usize::from(b) % 4].to_owned(),
                        service: services[usize::from(b >> 2) % 4].to_owned(),
                        regexp: if b & 32 == 0 { String::new() } else { "!x!y!".to_owned() },
                        replacement: target,
                    },
                    Kind::Srv => Record::Srv {
                        priority: u16::from(a & 3),
                        weight: u16::from(b),
                        port: u16::from(b) * 16,
                        target,
                    },
                    Kind::A => Record::Address(IpAddr::from([192, 0, a, b])),
                    Kind::Aaaa => {
                        Record::Address(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, u16::from(a), u16::from(b)]))
                    }
                });
            }
            let answer = match count {
                32..64 => Answer::Absent,
                64..96 => Answer::Failed,
                _ => Answer::Records(records),
            };
            step = resolution.answer(question, answer, &mut random);
        }
    };
    if let Ok(mut targets) = result {
        let secure = uri.scheme.eq_ignore_ascii_case("sips");
        assert!((1..=32).contains(&targets.all().len()));
        assert!(targets.all().iter().all(|t| t.transport.is_secure() || !secure));
        while targets.fail().is_some() {}
    }
}

/// rsip's reading of a good message differs from ours for known reasons only.
pub fn rsip(data: &[u8]) {
    let good = Message::parse(Bytes::copy_from_slice(data)).is_ok_and(|m| m.check().is_ok());
    if !good {
        return;
    }
    if let Some(differences) = second_opinion::differences(data) {
        for piece in differences {
            assert!(
                second_opinion::explained(data, piece).is_some(),
                "an unexplained difference in {piece}: {:?} and {:?}",
                second_opinion::ours(data),
                second_opinion::theirs(data)
            );
        }
    }
}

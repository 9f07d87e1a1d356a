//! What must hold for any bytes. Each function is one target and panics when its promise is broken.
//!
//! Called by libFuzzer (`fuzz_targets/`) and, on a stable toolchain, by `host/sip/tests/fuzz.rs`, which
//! includes this file. No target reads a clock or randomness of its own: an input says all.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use cordboard_base::{Map, Now, Random, ms, secs};
use cordboard_sip::digest::{Algorithm, AuthorizationHeader, Challenge, Client, Credential, Server, Verdict};
use cordboard_sip::endpoint::{
    Config, Credentials, End, Endpoint, Event, Flow, Invite, LegId, Listener, OutRequest, Output, TxnId,
};
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
    ("endpoint", endpoint),
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
            let below = |m: &Message| m.headers(Name::Via).skip(1).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(below(&response), below(&message), "the way back is copied (8.2.6.2)");
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

/// A script for one endpoint: each operation is a byte, and takes its arguments from those behind it.
pub fn endpoint(data: &[u8]) {
    let mut run = Run::new(data);
    while run.step() {}
    run.end();
}

const SDP: &str =
    "v=0\r\no=a 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
const METHODS: [&str; 12] = [
    "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "UPDATE", "PRACK", "REFER", "NOTIFY", "MESSAGE",
    "XYZZY",
];
const STATUSES: [u16; 16] = [100, 180, 183, 199, 200, 202, 302, 401, 407, 408, 422, 481, 486, 491, 503, 603];

struct Run<'a> {
    script: &'a [u8],
    now: Now,
    endpoint: Endpoint,
    legs: Vec<LegId>,
    offers: Vec<LegId>,
    requests: Vec<TxnId>,
    /// Requests that the endpoint has sent, to be answered.
    sent: Vec<(Flow, Message)>,
    /// The To tag that it gave to a Call-ID.
    tags: Map<String, String>,
}

impl<'a> Run<'a> {
    fn new(script: &'a [u8]) -> Self {
        let local: SocketAddr = SocketAddr::from(([192, 0, 2, 1], 5060));
        let config = Config {
            listeners: vec![Listener::udp(0, local), Listener { id: 1, transport: Transport::Tcp, local }],
            max_legs: 12,
            max_transactions: 40,
            user_agent: "fuzz".to_owned(),
            ..Config::default()
        };
        Self {
            script,
            now: Now { mono_ns: secs(1), wall_ms: 1_700_000_000_000 },
            endpoint: Endpoint::new(config, Random::seeded(5)),
            legs: Vec::new(),
            offers: Vec::new(),
            requests: Vec::new(),
            sent: Vec::new(),
            tags: Map::default(),
        }
    }

    fn byte(&mut self) -> u8 {
        match self.script.split_first() {
            Some((byte, rest)) => {
                self.script = rest;
                *byte
            }
            None => 0,
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let byte = usize::from(self.byte());
        from.get(byte % from.len().max(1)).copied()
    }

    fn leg(&mut self) -> Option<LegId> {
        let legs = self.legs.clone();
        self.pick(&legs)
    }

    fn flow(&mut self) -> Flow {
        match self.byte() % 4 {
            0 | 1 => Flow::udp(0, peer()),
            2 => Flow::udp(0, SocketAddr::from(([192, 0, 2, 10], 5060))),
            n => Flow { listener: 1, remote: peer(), connection: Some(u64::from(n)), name: None },
        }
    }

    fn step(&mut self) -> bool {
        if self.script.is_empty() {
            return false;
        }
        let (now, sdp) = (self.now, SDP);
        match self.byte() % 18 {
            0 => {
                let wait = u64::from(self.byte());
                self.run_ms(wait * wait);
            }
            1..=4 => self.request_comes(),
            5..=7 => self.response_comes(),
            8 => {
                let length = usize::from(self.byte()).min(self.script.len());
                let (raw, rest) = self.script.split_at(length);
                self.script = rest;
                let flow = self.flow();
                self.endpoint.receive(now, flow, Bytes::copy_from_slice(raw));
            }
            9 => {
                let byte = self.byte();
                let tcp = byte & 1 != 0;
                let invite = Invite {
                    listener: u16::from(tcp),
                    target: format!("sip:b@192.0.2.9:5066{}", if tcp { ";transport=tcp" } else { "" }),
                    from: "<sip:a@192.0.2.1>".to_owned(),
                    to: "<sip:b@192.0.2.9>".to_owned(),
                    sdp: (byte & 2 != 0).then(|| SDP.to_owned()),
                    credentials: (byte & 4 != 0)
                        .then(|| Credentials { user: "u".to_owned(), password: "p".to_owned() }),
                    redirects: byte >> 6,
                    silent_target_ms: if byte & 8 != 0 { 2_000 } else { 0 },
                    ..Invite::default()
                };
                if let Ok(leg) = self.endpoint.invite(now, invite) {
                    self.legs.push(leg);
                }
            }
            10 => {
                let status = 101 + u16::from(self.byte() % 99);
                let body = (self.byte() & 1 != 0).then_some(sdp);
                if let Some(leg) = self.leg() {
                    self.endpoint.progress(now, leg, status, body);
                }
            }
            11 => {
                let body = (self.byte() & 3 != 0).then_some(sdp);
                if let Some(leg) = self.leg() {
                    self.endpoint.answer(now, leg, body);
                }
            }
            12 => {
                let status = 300 + u16::from(self.byte());
                if let Some(leg) = self.leg() {
                    self.endpoint.hang_up(now, leg, (status & 1 != 0).then_some("Q.850;cause=16"));
                }
            }
            13 => {
                if let Some(leg) = self.leg() {
                    match self.byte() % 4 {
                        0 => {
                            self.endpoint.reoffer(now, leg, sdp);
                        }
                        1 => self.endpoint.ack(now, leg, sdp),
                        2 => {
                            self.endpoint.leg_request(now, leg, "INFO", None, b"");
                        }
                        _ => {
                            let _ = (self.endpoint.dialog(leg), self.endpoint.call_id(leg));
                        }
                    }
                }
            }
            14 => {
                let byte = self.byte();
                let offers = self.offers.clone();
                if let Some(leg) = self.pick(&offers) {
                    self.offers.retain(|l| *l != leg);
                    match byte & 1 {
                        0 => self.endpoint.accept_offer(now, leg, Some(sdp)),
                        _ => self.endpoint.refuse_offer(now, leg, 488),
                    }
                }
            }
            15 => {
                let status = STATUSES[usize::from(self.byte()) % 16];
                if let Some(txn) = self.requests.pop() {
                    self.endpoint.respond(now, txn, status, &[], None);
                }
            }
            16 => {
                let flow = Flow { listener: 1, remote: peer(), connection: Some(3), name: None };
                match self.byte() & 1 {
                    0 => self.endpoint.flow_closed(now, flow, &[Flow { connection: None, ..flow }]),
                    _ => self.endpoint.flow_failed(now, Flow { connection: None, ..flow }),
                }
            }
            _ => {
                let method = METHODS[usize::from(self.byte()) % METHODS.len()];
                let request = OutRequest {
                    method: method.to_owned(),
                    target: "sip:b@192.0.2.9:5066".to_owned(),
                    from: "<sip:a@192.0.2.1>".to_owned(),
                    to: "<sip:b@192.0.2.9>".to_owned(),
                    ..OutRequest::default()
                };
                self.endpoint.request(now, request);
            }
        }
        self.drain();
        true
    }

    /// A request of a few that can meet each other: four calls, few branches, tags and numbers.
    fn request_comes(&mut self) {
        let (method, call, numbers, kind) = (self.byte(), self.byte() % 4, self.byte(), self.byte());
        let method = METHODS[usize::from(method) % METHODS.len()];
        let flow = self.flow();
        let ours: Vec<_> = self.tags.keys().cloned().collect();
        // In a call that we placed, the other side's requests have our Call-ID and tags.
        let back = (kind & 16 != 0).then(|| ours.get(usize::from(call)).cloned()).flatten();
        let call_id = back.unwrap_or_else(|| format!("call-{call}"));
        let tag = self.tags.get(&call_id).filter(|_| kind & 1 != 0).cloned();
        let tag = tag.map_or(String::new(), |tag| format!(";tag={tag}"));
        let mut b = Builder::request(method, "sip:a@192.0.2.1:5060")
            .format(
                Name::Via,
                format_args!(
                    "SIP/2.0/{} 192.0.2.9:5066;branch=z9hG4bK{call}{}{}",
                    if flow.connection.is_some() { "TCP" } else { "UDP" },
                    numbers & 3,
                    if kind & 32 != 0 { ";rport" } else { "" }
                ),
            )
            .format(Name::From, format_args!("<sip:b@192.0.2.9>;tag=f{}", (numbers >> 2) & 1))
            .format(Name::To, format_args!("<sip:a@192.0.2.1>{tag}"))
            .header(Name::CallId, &call_id)
            .format(Name::CSeq, format_args!("{} {method}", 1 + (numbers >> 3) % 8))
            .header(Name::Contact, "<sip:b@192.0.2.9:5066>")
            .header(Name::MaxForwards, "70");
        if kind & 8 != 0 {
            b = b.header(Name::Supported, "timer, 100rel, replaces").header(Name::SessionExpires, "90");
        }
        if kind & 64 != 0 {
            b = b.header(Name::Require, if kind & 128 != 0 { "100rel" } else { "unheard-of" });
        }
        if kind & 192 == 128 {
            b = b.header("RAck", "1 1 INVITE").header(Name::ReferTo, "<sip:c@192.0.2.11>");
        }
        if kind & 2 != 0 {
            b = b.body("application/sdp", SDP.as_bytes());
        }
        self.endpoint.receive(self.now, flow, b.finish().into());
    }

    /// A response to one of the requests that were sent.
    fn response_comes(&mut self) {
        let (which, status, kind) = (self.byte(), self.byte(), self.byte());
        if self.sent.is_empty() {
            return;
        }
        let (flow, request) = self.sent[usize::from(which) % self.sent.len()].clone();
        let status = STATUSES[usize::from(status) % 16];
        let mut b = Builder::response(&request, status, "").to_tag(if kind & 1 != 0 { "t1" } else { "t2" });
        b = b.header(Name::Contact, "<sip:b@192.0.2.9:5066>");
        if status == 401 || status == 407 {
            let name = if status == 401 { Name::WwwAuthenticate } else { Name::ProxyAuthenticate };
            b = b.header(name, "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"");
        }
        if kind & 8 != 0 {
            b = b.header(Name::Require, "100rel").format("RSeq", 1 + (kind >> 5));
        }
        if kind & 16 != 0 {
            b = b.header(Name::Require, "timer").header(Name::SessionExpires, "90;refresher=uac");
        }
        if kind & 2 != 0 {
            b = b.body("application/sdp", SDP.as_bytes());
        }
        self.endpoint.receive(self.now, flow, b.finish().into());
    }

    /// Time passes from timer to timer.
    fn run_ms(&mut self, for_ms: u64) {
        let end = self.now.after_ns(ms(for_ms));
        while let Some(due) = self.endpoint.next_deadline_ns().filter(|due| *due <= end) {
            self.now = self.now.plus_ns(due.saturating_sub(self.now.mono_ns));
            self.endpoint.tick(self.now);
            self.drain();
        }
        self.now = self.now.plus_ns(end - self.now.mono_ns);
    }

    fn drain(&mut self) {
        let mut count = 0;
        while let Some(output) = self.endpoint.poll() {
            count += 1;
            assert!(count < 1_000, "one input makes no flood");
            match output {
                Output::Send(datagram) => {
                    let message = Message::parse(datagram.bytes.into()).expect("what is sent can be read");
                    if message.status() != 400 {
                        message.check().expect("what is sent is whole");
                    }
                    let tag = if message.is_request() { message.from() } else { message.to() };
                    if let Some(tag) = tag.and_then(|a| a.tag()) {
                        self.tags.insert(message.call_id().to_owned(), tag.to_owned());
                    }
                    if message.is_request() {
                        let connection =
                            datagram.flow.connection.or((datagram.flow.listener == 1).then_some(3));
                        let flow = Flow { connection, ..datagram.flow };
                        if self.sent.len() >= 64 {
                            self.sent.remove(0);
                        }
                        self.sent.push((flow, message));
                    }
                }
                Output::Event(event) => self.hear(event),
            }
        }
        let counts = self.endpoint.counts();
        assert!(counts.legs <= 12 && counts.transactions <= 200, "bounded: {counts:?}");
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Incoming { leg, .. } => self.legs.push(leg),
            Event::Offer { leg, .. } => self.offers.push(leg),
            Event::Request { txn, .. } => self.requests.push(txn),
            Event::Rejected { leg, .. } | Event::Released { leg, .. } => self.gone(leg),
            Event::Ended { leg, cause } => {
                if let End::Bye(request) | End::Cancelled(request) = &cause {
                    assert!(request.is_request());
                }
                self.gone(leg);
            }
            _ => {}
        }
    }

    fn gone(&mut self, leg: LegId) {
        assert!(self.legs.contains(&leg), "{leg} ends once, and was there before");
        self.legs.retain(|l| *l != leg);
        self.offers.retain(|l| *l != leg);
    }

    /// Everything is let go; when all timers have run nothing is left.
    fn end(&mut self) {
        for txn in std::mem::take(&mut self.requests) {
            self.endpoint.respond(self.now, txn, 200, &[], None);
        }
        for leg in self.legs.clone() {
            self.endpoint.hang_up(self.now, leg, None);
        }
        self.drain();
        // Requests that came meanwhile are answered too; four minutes are longer than any timer of SIP.
        for _ in 0..8 {
            self.run_ms(30_000);
            for txn in std::mem::take(&mut self.requests) {
                self.endpoint.respond(self.now, txn, 200, &[], None);
            }
            self.drain();
        }
        let counts = self.endpoint.counts();
        let live = (counts.legs, counts.transactions, counts.timers, counts.requests);
        assert_eq!(live, (0, 0, 0, 0), "something is left: {counts:?}");
        assert!(self.legs.is_empty(), "legs that nobody hears the end of: {:?}", self.legs);
    }
}

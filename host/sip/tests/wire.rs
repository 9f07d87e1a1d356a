//! Messages: reading, checking and writing them, by behaviour.

use bytes::Bytes;
use cordboard_sip::wire::{Builder, Fault, Message, Method, Name};

const INVITE: &str = "INVITE sip:bob@biloxi.com SIP/2.0\r\n\
Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds;rport, SIP/2.0/TCP 10.0.0.1:5070;branch=z9hG4bKx\r\n\
v: SIP/2.0/UDP [2001:db8::1];branch=z9hG4bKy\r\n\
Max-Forwards: 70\r\n\
t: Bob <sip:bob@biloxi.com>\r\n\
F: \"Alice, A.\" <sip:alice@atlanta.com>;tag=1928301774\r\n\
Call-ID : a84b4c76e66710@pc33.atlanta.com\r\n\
CSEQ: 314159   INVITE\r\n\
Subject: one\r\n two\r\n\
Record-Route: <sip:p1;lr>\r\n\
Record-Route: <sip:p2;lr>, <sip:p3;lr>\r\n\
X-Own: value\r\n\
m: <sip:alice@pc33.atlanta.com;transport=udp>;q=0.5, sip:alice@home\r\n\
Content-Type: application/sdp;charset=utf-8\r\n\
l: 4\r\n\
\r\nv=0\ntrailing";

fn parse(text: impl AsRef<[u8]>) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_ref())).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(text: impl AsRef<[u8]>) -> (Fault, Option<u16>) {
    let error = match Message::parse(Bytes::copy_from_slice(text.as_ref())) {
        Ok(message) => message.check().expect_err("should be refused"),
        Err(error) => error,
    };
    (error.fault, error.status)
}

#[test]
fn a_request_is_read_in_all_its_parts() {
    let m = parse(INVITE);
    assert!(m.is_request());
    assert_eq!((m.method(), m.request_uri(), m.status()), (Method::Invite, "sip:bob@biloxi.com", 0));
    assert_eq!(m.call_id(), "a84b4c76e66710@pc33.atlanta.com");
    assert_eq!(m.cseq(), Some((314_159, Method::Invite)));
    assert_eq!(m.header(Name::Subject).unwrap().split_whitespace().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(m.headers(Name::Via).count(), 3);
    let via = m.top_via().unwrap();
    assert_eq!(
        (via.host, via.port, via.branch, via.rport),
        ("pc33.atlanta.com", None, Some("z9hG4bK776asdhds"), Some(None))
    );
    assert_eq!(m.from().unwrap().display, "Alice, A.");
    assert_eq!((m.from().unwrap().tag(), m.to().unwrap().tag()), (Some("1928301774"), None));
    assert_eq!(
        m.contacts().map(|c| (c.uri, c.q_milli())).collect::<Vec<_>>(),
        [("sip:alice@pc33.atlanta.com;transport=udp", 500), ("sip:alice@home", 1000)]
    );
    assert_eq!(
        m.headers(Name::RecordRoute).collect::<Vec<_>>(),
        ["<sip:p1;lr>", "<sip:p2;lr>", "<sip:p3;lr>"]
    );
    assert_eq!((m.other("x-OWN"), m.other("X-None"), m.other("via").is_some()), (Some("value"), None, true));
    assert_eq!((m.content_type(), m.has_sdp(), m.max_forwards()), (Some("application/sdp"), true, Some(70)));
    // 18.3: what follows the body is not part of it
    assert_eq!(m.body(), b"v=0\n");
    assert_eq!(m.as_bytes(), INVITE.as_bytes());
    m.check().unwrap();
}

#[test]
fn a_response_is_read_in_all_its_parts() {
    let m = parse(
        "SIP/2.0 486 Busy \u{fc}ber all\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nTo: <sip:b@b>;tag=2\r\nFrom: <sip:a@a>;tag=1\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n\r\n",
    );
    assert_eq!(
        (m.is_request(), m.status(), m.reason(), m.method()),
        (false, 486, "Busy \u{fc}ber all", Method::Bye)
    );
    m.check().unwrap();
    assert_eq!(parse("SIP/2.0 200\r\n\r\n").reason(), "");
    assert_eq!(parse("SIP/2.0 200 \r\n\r\n").reason(), "");
}

#[test]
fn a_response_copies_what_8_2_6_2_says_and_records_the_source() {
    let request = parse(INVITE);
    let source = "192.0.2.9:4444".parse().unwrap();
    let built = Builder::response_to(&request, Some(source), 180, "")
        .to_tag("t1")
        .header(Name::Contact, "<sip:me@here>")
        .finish();
    let r = parse(&built);
    r.check().unwrap();
    assert_eq!((r.status(), r.reason()), (180, "Ringing"));
    assert_eq!(r.to().unwrap().tag(), Some("t1"));
    assert_eq!(r.header(Name::From), request.header(Name::From));
    assert_eq!((r.call_id(), r.cseq()), (request.call_id(), request.cseq()));
    assert_eq!(r.headers(Name::Via).count(), 3);
    assert_eq!(r.headers(Name::RecordRoute).count(), 3);
    let via = r.top_via().unwrap();
    assert_eq!(
        (via.received, via.rport, via.branch),
        (Some("192.0.2.9"), Some(Some(4444)), Some("z9hG4bK776asdhds"))
    );
    assert_eq!(via.response_addr(), Some(source));
    assert_eq!(r.body(), b"");
    // A 100 makes no dialog, so it has no route; nor has a failure (12.1.1).
    assert_eq!(parse(Builder::response(&request, 100, "").finish()).headers(Name::RecordRoute).count(), 0);
    assert_eq!(parse(Builder::response(&request, 404, "").finish()).headers(Name::RecordRoute).count(), 0);
    // The request's own tag stays.
    let tagged = parse(Builder::response(&r, 200, "").to_tag("other").finish());
    assert_eq!(tagged.to().unwrap().tag(), Some("t1"));
}

#[test]
fn a_lying_via_is_corrected() {
    let request = parse(
        "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5062;received=6.6.6.6;branch=z9hG4bK1;x=\"a b\"\r\nTo: <sip:b@b>\r\nFrom: <sip:a@a>;tag=1\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n",
    );
    let r =
        parse(Builder::response_to(&request, Some("[2001:db8::7]:5099".parse().unwrap()), 200, "").finish());
    let via = r.top_via().unwrap();
    assert_eq!(
        (via.received, via.rport, via.host, via.port),
        (Some("2001:db8::7"), None, "10.0.0.1", Some(5062))
    );
    assert_eq!((via.params.get("x"), via.branch), (Some("a b"), Some("z9hG4bK1")));
    // 18.2.2: without rport the answer goes to the port of sent-by.
    assert_eq!(via.response_addr(), Some("[2001:db8::7]:5062".parse().unwrap()));
}

#[test]
fn the_way_back_behind_the_first_via_is_copied_as_it_is() {
    let source = Some("192.0.2.9:4444".parse().unwrap());
    let rest = "To: <sip:b@b>\r\nFrom: <sip:a@a>;tag=1\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n";
    let vias = |via: &[u8]| {
        let request = parse([b"OPTIONS sip:x SIP/2.0\r\n", via, rest.as_bytes()].concat());
        request.check().unwrap();
        let built = Builder::response_to(&request, source, 200, "").finish();
        let response = parse(&built);
        assert_eq!(response.headers(Name::Via).count(), request.headers(Name::Via).count());
        (response.top_via().unwrap().received.map(str::to_owned), built)
    };
    // Octets that are no UTF-8 in a branch of another hop (8.2.6.2).
    let (_, built) = vias(b"Via: SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bK\xff2\r\n");
    assert!(built.windows(11).any(|w| w == b"=z9hG4bK\xff2\r"));
    // Empty values and an empty line before the first: a response with one Via more is dropped (8.1.3.3).
    for via in ["Via: , SIP/2.0/UDP a;branch=z9hG4bK1\r\n", "Via:\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n"]
    {
        assert_eq!(vias(via.as_bytes()).0.as_deref(), Some("192.0.2.9"), "{via}");
    }
}

#[test]
fn no_value_can_start_a_line() {
    let evil = "x\r\nVia: SIP/2.0/UDP evil\nX: y\0";
    let bytes = Builder::request("INVITE", "sip:a\r\nEvil: 1")
        .header("X-One", evil)
        .header("Bad Name", "v")
        .header("X\r\nEvil", "v")
        .header(Name::ContentLength, "999")
        .format("X-Two", evil)
        .body("text/plain\r\nEvil: 1", b"hello")
        .finish();
    let m = parse(&bytes);
    let names: Vec<_> = m.all().map(|(n, _)| n).collect();
    assert_eq!(names, ["X-One", "X-Two", "Content-Type", "Content-Length"]);
    assert_eq!(m.body(), b"hello");
    // Nor can a peer's value that is echoed.
    let request = parse(
        "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nTo: <sip:b@b>\r\nFrom: a\rEvil: 1 <sip:a@a>;tag=1\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n",
    );
    let response = Builder::response(&request, 200, "").finish();
    for (i, byte) in response.iter().enumerate() {
        assert!(*byte != b'\r' || response[i + 1] == b'\n', "a carriage return alone at {i}");
        assert!(*byte != b'\n' || response[i - 1] == b'\r', "a line feed alone at {i}");
    }
    assert_eq!(parse(&response).other("Evil"), None);
}

#[test]
fn latin1_is_readable_and_is_echoed_as_it_came() {
    let mut text = INVITE.replace("Bob <", "Bob? <").into_bytes();
    let at = text.iter().position(|b| *b == b'?').unwrap();
    text[at] = 0xfc;
    let m = parse(&text);
    assert_eq!(m.to().unwrap().display, "Bob?");
    m.check().unwrap();
    let response = Builder::response(&m, 200, "").finish();
    assert!(response.windows(6).any(|w| w == b"Bob\xfc <"));
}

#[test]
fn bytes_that_cannot_be_framed_are_refused_with_the_answer_they_deserve() {
    let head = INVITE.split("\r\nContent-Type").next().unwrap();
    let table: &[(&str, String, Fault, Option<u16>)] = &[
        ("keep-alive", "\r\n\r\n".into(), Fault::KeepAlive, None),
        ("empty", String::new(), Fault::KeepAlive, None),
        ("not sip", "GET / HTTP/1.1\r\n\r\n".into(), Fault::NotSip, None),
        ("stun", "\0\u{1}\0\0!\u{12}".into(), Fault::NotSip, None),
        ("bad status", "SIP/2.0 4294967301 x\r\n\r\n".into(), Fault::NotSip, None),
        ("status 700", "SIP/2.0 700 x\r\n\r\n".into(), Fault::NotSip, None),
        ("cut before the empty line", head.into(), Fault::Truncated, Some(400)),
        ("short body", format!("{head}\r\nContent-Length: 10\r\n\r\nabc"), Fault::Truncated, Some(400)),
        ("negative length", format!("{head}\r\nContent-Length: -1\r\n\r\nabc"), Fault::Framing, Some(400)),
        ("two lengths", format!("{head}\r\nl: 1\r\nContent-Length: 2\r\n\r\nabc"), Fault::Framing, Some(400)),
        ("too many lines", format!("{head}\r\n{}\r\n", "a: b\r\n".repeat(600)), Fault::TooLarge, Some(513)),
        ("too long", format!("{head}\r\nX: {}\r\n\r\n", "x".repeat(70_000)), Fault::TooLarge, None),
        (
            "an ACK is never answered",
            "ACK sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n".into(),
            Fault::Truncated,
            None,
        ),
        ("nor is a response", "SIP/2.0 200 OK\r\nl: 9\r\n\r\n".into(), Fault::Truncated, None),
    ];
    for (what, text, fault, status) in table {
        assert_eq!(refused(text), (*fault, *status), "{what}");
    }
}

#[test]
fn messages_that_cannot_be_served_are_refused_with_the_answer_they_deserve() {
    let with = |from: &str, to: &str| INVITE.replace(from, to);
    let table: &[(&str, String, Fault, Option<u16>)] = &[
        ("version", with("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), Fault::Version, Some(505)),
        (
            "brackets",
            with("sip:bob@biloxi.com SIP", "<sip:bob@biloxi.com> SIP"),
            Fault::RequestUri,
            Some(400),
        ),
        (
            "uri headers",
            with("sip:bob@biloxi.com SIP", "sip:bob@biloxi.com?Route=x SIP"),
            Fault::RequestUri,
            Some(400),
        ),
        ("blanks", with("INVITE sip", "INVITE  sip"), Fault::RequestUri, Some(400)),
        ("method mismatch", with("314159   INVITE", "314159   BYE"), Fault::Header, Some(400)),
        ("cseq too large", with("314159", "2147483648"), Fault::Header, Some(400)),
        ("no from", with("F: ", "X: "), Fault::Header, Some(400)),
        ("two tos", with("Subject: one", "To: <sip:x@y>"), Fault::Header, Some(400)),
        ("to is no address", with("Bob <sip:bob@biloxi.com>", "<sip:bob"), Fault::Header, Some(400)),
        ("max-forwards", with("70", "300"), Fault::Header, Some(400)),
        ("junk line", with("X-Own: value", "X-Own value"), Fault::RequestUri, Some(400)),
    ];
    for (what, text, fault, status) in table {
        assert_eq!(refused(text), (*fault, *status), "{what}");
    }
}

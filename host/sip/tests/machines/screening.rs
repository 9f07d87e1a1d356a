//! What comes in from outside, as raw text: what is refused and how, and where answers go.

use cordboard_sip::endpoint::{Event, Flow};
use cordboard_sip::wire::Message;

use crate::harness::{Net, SDP_A, SDP_B};

const FROM: &str = "10.0.0.9:5077";

/// A request whose lines can be replaced; `rest` is more headers, or headers, an empty line and a body.
fn request(method: &str, branch: &str, rest: &str) -> String {
    format!(
        "{method} sip:b@10.0.0.1 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.9:5077;branch={branch}
From: <sip:x@y>;tag=1
To: <sip:b@10.0.0.1>
Call-ID: screened
CSeq: 1 {method}
Contact: <sip:x@10.0.0.9>
Max-Forwards: 70
{rest}"
    )
}

fn answers(net: &mut Net) -> Vec<Message> {
    net.run_ms(10);
    net.stray.drain(..).map(|(_, m)| m).collect()
}

/// The one answer to a request of nobody.
fn answer_to(text: &str) -> Message {
    let mut net = Net::new(1);
    net.raw(FROM, 0, text);
    let mut all = answers(&mut net);
    assert!(net.drained(0).is_empty(), "a refused request is not heard of");
    let last = all.pop().expect("an answer");
    net.assert_nothing_left();
    last
}

#[test]
fn refusals_are_those_of_the_rfc() {
    let invite = |rest: &str| request("INVITE", "z9hG4bKa", rest);
    let tagged = |method: &str| {
        request(method, "z9hG4bKa", "").replace("To: <sip:b@10.0.0.1>", "To: <sip:b@10.0.0.1>;tag=none")
    };
    type Row = (&'static str, String, u16, Option<(&'static str, &'static str)>);
    let table: &[Row] = &[
        ("unknown method", request("DANCE", "z9hG4bKa", ""), 501, Some(("Allow", "INVITE"))),
        ("unknown extension", invite("Require: 100rel, magic\n"), 420, Some(("Unsupported", "magic"))),
        (
            "other body",
            invite("Content-Type: text/plain\n\nhello"),
            415,
            Some(("Accept", "application/sdp, multipart/mixed, multipart/alternative, multipart/related")),
        ),
        (
            "packed body",
            invite("Content-Type: application/sdp\nContent-Encoding: gzip\n\nv=0"),
            415,
            Some(("Accept-Encoding", "identity")),
        ),
        (
            "a part that must be understood",
            invite(&parts("", "application/isup;version=itu-t92+", "signal;handling=required")),
            415,
            Some(("Accept", "multipart/mixed")),
        ),
        (
            "parts without a boundary",
            invite(&parts("", "text/plain", "render").replace("boundary=b", "x=b")),
            415,
            None,
        ),
        ("no wish for SDP", invite("Accept: text/plain, application/*;q=0\n"), 406, Some(("Warning", "399"))),
        (
            "a REGISTER for no SIP user",
            register("<tel:+4930>", "<sip:x@10.0.0.9>"),
            400,
            Some(("Warning", "To")),
        ),
        (
            "a REGISTER of nothing",
            register("<sip:b@10.0.0.1>", "sip:x@y?a=b"),
            400,
            Some(("Warning", "Contact")),
        ),
        ("no hops left", invite("").replace("Forwards: 70", "Forwards: 0"), 483, None),
        (
            "no contact",
            invite("").replace("Contact: <sip:x@10.0.0.9>\n", ""),
            400,
            Some(("Warning", "Contact")),
        ),
        ("scheme", invite("").replace("INVITE sip:b@10.0.0.1", "INVITE xmpp:b@10.0.0.1"), 416, None),
        ("BYE of nothing", request("BYE", "z9hG4bKa", ""), 481, None),
        ("BYE of a dialog of nobody", tagged("BYE"), 481, None),
        ("re-INVITE of a dialog of nobody", tagged("INVITE"), 481, None),
        ("UPDATE of nothing", request("UPDATE", "z9hG4bKa", ""), 481, None),
        ("CANCEL of nothing", request("CANCEL", "z9hG4bKa", ""), 481, None),
        ("PRACK of nothing", request("PRACK", "z9hG4bKa", ""), 481, None),
        ("no Call-ID", invite("").replace("Call-ID: screened\n", ""), 400, None),
        ("two Call-IDs", invite("Call-ID: again\n"), 400, None),
        ("version", invite("").replace("SIP/2.0\nVia", "SIP/7.0\nVia"), 505, None),
        ("CSeq of another method", invite("").replace("1 INVITE", "1 BYE"), 400, None),
    ];
    for (what, text, status, header) in table {
        let answer = answer_to(text);
        assert_eq!(answer.status(), *status, "{what}: {answer:?}");
        if let Some((name, part)) = header {
            let value = answer.other(name).unwrap_or("");
            assert!(value.contains(part), "{what}: {name}: {value}");
        }
        assert!(answer.to().unwrap().tag().is_some(), "{what}: 8.2.6.2");
    }
}

/// Headers and a body of two parts: SDP with more headers, and another.
fn parts(sdp_headers: &str, other: &str, disposition: &str) -> String {
    let sdp = SDP_A.replace("\r\n", "\n");
    format!(
        "Content-Type: multipart/mixed;boundary=b\n\n--b\nContent-Type: {other}\n\
         Content-Disposition: {disposition}\n\nx\n--b\nContent-Type: application/sdp\n{sdp_headers}\n{sdp}\n--b--\n"
    )
}

fn register(to: &str, contact: &str) -> String {
    request("REGISTER", "z9hG4bKa", "").replace("<sip:b@10.0.0.1>", to).replace("<sip:x@10.0.0.9>", contact)
}

#[test]
fn what_may_be_ignored_or_is_wanted_is_no_reason_to_refuse() {
    for rest in [
        parts("", "application/isup", "signal;handling=optional"),
        parts("Content-Disposition: session\n", "image/png", "icon; handling = OPTIONAL"),
        "Accept: text/html, application/SDP;level=1\n".to_owned(),
        "Accept: */*\n".to_owned(),
    ] {
        let mut net = Net::new(1);
        net.raw(FROM, 0, &request("INVITE", "z9hG4bKa", &rest));
        let Some(Event::Incoming { request, .. }) = net.next(0, 10) else { panic!("no call: {rest}") };
        assert_eq!(request.has_sdp(), rest.contains("multipart"), "{rest}");
    }
}

#[test]
fn a_client_of_rfc_2543_without_a_contact_is_reached_at_its_from() {
    let old = "INVITE sip:b@10.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.9:5077\nFrom: <sip:x@10.0.0.9:5077>\n\
               To: <sip:b@10.0.0.1>\nCall-ID: old\nCSeq: 1 INVITE\n\n";
    let mut net = Net::new(1);
    net.raw(FROM, 0, old);
    let leg = net.incoming(0);
    net.ends[0].answer(net.now, leg, Some(SDP_B));
    let ok = answers(&mut net).into_iter().find(|m| m.status() == 200).expect("200");
    let to = ok.header(cordboard_sip::wire::Name::To).unwrap();
    let ack = old.replace("INVITE", "ACK").replace("To: <sip:b@10.0.0.1>", &format!("To: {to}"));
    net.raw(FROM, 0, &ack);
    assert!(matches!(net.next(0, 10), Some(Event::Confirmed { .. })));
    net.ends[0].hang_up(net.now, leg, None);
    let bye = answers(&mut net).into_iter().find(|m| m.is_request()).expect("a BYE");
    assert_eq!((bye.method().as_str(), bye.request_uri()), ("BYE", "sip:x@10.0.0.9:5077"));
}

#[test]
fn an_optional_body_of_another_type_is_passed_on() {
    let mut net = Net::new(1);
    net.raw(
        FROM,
        0,
        &request(
            "INVITE",
            "z9hG4bKa",
            "Content-Type: text/plain\nContent-Disposition: render; handling = optional\n\nhello",
        ),
    );
    assert!(matches!(net.next(0, 10), Some(Event::Incoming { .. })));
}

#[test]
fn the_same_request_by_two_ways_gets_482() {
    let mut net = Net::new(1);
    net.raw(FROM, 0, &request("INVITE", "z9hG4bKa", ""));
    let leg = net.incoming(0);
    net.raw(FROM, 0, &request("INVITE", "z9hG4bKb", ""));
    assert!(answers(&mut net).iter().any(|m| m.status() == 482));
    assert!(net.drained(0).is_empty());
    net.ends[0].hang_up(net.now, leg, None);
    net.assert_nothing_left();
    net.drained(0);
    // When all is over it is a new call.
    net.raw(FROM, 0, &request("INVITE", "z9hG4bKb", ""));
    net.incoming(0);
}

#[test]
fn a_repeated_invite_gets_the_last_answer_again_and_is_heard_once() {
    let mut net = Net::new(1);
    let invite = request("INVITE", "z9hG4bKa", "");
    net.raw(FROM, 0, &invite);
    let leg = net.incoming(0);
    net.raw(FROM, 0, &invite);
    net.ends[0].progress(net.now, leg, 180, None);
    net.raw(FROM, 0, &invite);
    let statuses: Vec<_> = answers(&mut net).iter().map(Message::status).collect();
    assert_eq!(statuses, [100, 100, 180, 180]);
    net.ends[0].answer(net.now, leg, Some(SDP_B));
    answers(&mut net);
    net.raw(FROM, 0, &invite);
    assert!(answers(&mut net).is_empty(), "RFC 6026: absorbed after a 2xx");
    assert_eq!(net.ends[0].counts().absorbed, 3);
    assert!(net.drained(0).is_empty());
}

#[test]
fn a_failure_is_repeated_until_its_ack_and_the_ack_needs_no_cookie_in_the_branch() {
    for branch in ["z9hG4bKa", "old-style"] {
        let mut net = Net::new(1);
        net.raw(FROM, 0, &request("INVITE", branch, ""));
        let leg = net.incoming(0);
        net.ends[0].reject(net.now, leg, 486, &[]);
        net.run_ms(1_600);
        assert_eq!(net.sent(0, "SIP/2.0 486"), 3, "0, 0.5 and 1.5 s");
        let ack =
            request("INVITE", branch, "").replace("INVITE sip:", "ACK sip:").replace("1 INVITE", "1 ACK");
        net.raw(FROM, 0, &ack);
        net.run_ms(2_000);
        assert_eq!(net.sent(0, "SIP/2.0 486"), 3);
        net.assert_nothing_left();
    }
}

#[test]
fn a_client_of_rfc_2543_is_matched_without_a_branch() {
    let mut net = Net::new(1);
    let invite = request("INVITE", "x", "").replace(";branch=x", "");
    net.raw(FROM, 0, &invite);
    let leg = net.incoming(0);
    net.raw(FROM, 0, &invite);
    assert!(net.drained(0).is_empty());
    let cancel = invite.replace("INVITE sip:", "CANCEL sip:").replace("1 INVITE", "1 CANCEL");
    net.raw(FROM, 0, &cancel);
    assert!(matches!(net.next(0, 10), Some(Event::Ended { leg: ended, .. }) if ended == leg));
}

#[test]
fn two_clients_may_use_the_same_branch() {
    let mut net = Net::new(1);
    net.raw(FROM, 0, &request("INVITE", "z9hG4bKa", ""));
    net.raw(
        "10.0.0.8:5060",
        0,
        &request("INVITE", "z9hG4bKa", "").replace("10.0.0.9:5077", "10.0.0.8").replace("screened", "other"),
    );
    assert!(matches!(net.drained(0)[..], [Event::Incoming { .. }, Event::Incoming { .. }]));
}

#[test]
fn answers_go_to_the_source_with_rport_and_else_to_the_port_of_sent_by() {
    for (via, to, expected) in [
        ("10.0.0.9:5077;branch=z9hG4bKa", "203.0.113.5:1024", "received=203.0.113.5"),
        ("10.0.0.9:5077;rport;branch=z9hG4bKa", "203.0.113.5:1024", "rport=1024"),
        ("phone.example;branch=z9hG4bKa", "203.0.113.5:1024", "received=203.0.113.5"),
    ] {
        let mut net = Net::new(1);
        let text = request("OPTIONS", "x", "").replace("10.0.0.9:5077;branch=x", via);
        net.raw(to, 0, &text);
        let Some(Event::Request { txn, .. }) = net.next(0, 10) else { panic!() };
        net.ends[0].respond(net.now, txn, 200, &[], None);
        net.run_ms(10);
        let (address, answer) = net.stray.pop_front().unwrap();
        let port = if via.contains("rport") {
            1024
        } else if via.contains("5077") {
            5077
        } else {
            5060
        };
        assert_eq!(address, format!("203.0.113.5:{port}").parse().unwrap());
        assert!(answer.other("Via").unwrap().contains(expected), "{answer:?}");
    }
}

#[test]
fn stray_responses_keep_alives_and_noise_are_counted_and_dropped() {
    use bytes::Bytes;
    let mut net = Net::new(1);
    let from = FROM.parse().unwrap();
    for bytes in [&b"\r\n\r\n"[..], b"", b"\0\0\0\0", b"hello", b"INVITE sip:x SIP/2.0\r\n", &[0xff; 2000]] {
        net.ends[0].receive(net.now, Flow::udp(0, from), Bytes::copy_from_slice(bytes));
    }
    let ok = "SIP/2.0 200 OK
Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK0000000000aaaaaaaaaaaaaaaa
From: <sip:x@y>;tag=1
To: <sip:b@10.0.0.1>;tag=2
Call-ID: nobody
CSeq: 1 INVITE
";
    net.raw(FROM, 0, ok);
    net.raw(
        FROM,
        0,
        &ok.replace("SIP/2.0 200 OK", "ACK sip:x@10.0.0.1 SIP/2.0").replace("1 INVITE", "1 ACK"),
    );
    net.ends[0].receive(net.now, Flow::udp(42, from), Bytes::from_static(b"x"));
    let counts = net.ends[0].counts();
    assert_eq!((counts.received, counts.unmatched, counts.sent), (9, 2, 0));
    assert!(counts.malformed >= 4, "{counts:?}");
    net.assert_nothing_left();
}

#[test]
fn a_request_that_nobody_answers_is_forgotten_after_32_s() {
    let mut net = Net::new(1);
    net.raw(FROM, 0, &request("OPTIONS", "z9hG4bKa", ""));
    let Some(Event::Request { txn, .. }) = net.next(0, 10) else { panic!() };
    net.run_ms(32_001);
    assert_eq!(net.ends[0].counts().transactions, 0);
    net.ends[0].respond(net.now, txn, 200, &[], None);
    assert_eq!(net.sent(0, "SIP/2.0"), 0);
}

#[test]
fn when_transactions_run_out_requests_get_503_without_state() {
    let mut net = Net::with(1, 1, |c| c.max_transactions = 1);
    net.raw(FROM, 0, &request("OPTIONS", "z9hG4bKa", ""));
    let second = request("OPTIONS", "z9hG4bKb", "").replace("screened", "second");
    net.raw(FROM, 0, &second);
    net.raw(FROM, 0, &second);
    let all = answers(&mut net);
    assert_eq!(all.iter().map(Message::status).collect::<Vec<_>>(), [503, 503]);
    assert_eq!(all[0].to().unwrap().tag(), all[1].to().unwrap().tag(), "8.2.7");
    assert_eq!(net.ends[0].counts().transactions, 1);
}

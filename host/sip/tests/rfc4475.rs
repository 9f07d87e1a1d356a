//! The torture messages of RFC 4475 and, for IPv6, of RFC 5118: what becomes of each, and why.

use bytes::Bytes;
use cordboard_sip::sdp::{Connection, Session};
use cordboard_sip::wire::{Builder, Fault, Message, Method, Name, Uri};
use sipx_testkit::{rfc4475, rfc5118};

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It goes on to the transaction layer.
    Served,
    /// It is answered at once.
    Answered(u16, Fault),
    /// It is dropped: a response, or nothing that could be answered.
    Dropped(Fault),
}
use Outcome::{Answered, Dropped, Served};

fn outcome(bytes: &[u8]) -> Outcome {
    let error = match Message::parse(Bytes::copy_from_slice(bytes)) {
        Ok(message) => match message.check() {
            Ok(()) => return Served,
            Err(error) => error,
        },
        Err(error) => error,
    };
    match error.status {
        Some(status) => {
            let request = error.message.expect("an error with a status has its message");
            let answer = Message::parse(
                Builder::response(&request, status, &error.reason).to_tag("t").finish().into(),
            );
            assert_eq!(answer.expect("our answer is whole").status(), status);
            Answered(status, error.fault)
        }
        None => Dropped(error.fault),
    }
}

/// Name, what becomes of it, and what the RFC asks (section in the corpus' own table).
const RFC4475: &[(&str, Outcome)] = &[
    ("wsinv", Served),
    ("intmeth", Served),
    ("esc01", Served),
    ("escnull", Served),
    ("esc02", Served),
    ("lwsdisp", Served),
    ("longreq", Served),
    ("dblreq", Served), // the second request is behind Content-Length and is dropped
    ("semiuri", Served),
    ("transports", Served),
    ("mpart01", Served),
    ("unreason", Served),
    ("noreason", Served),
    ("clerr", Answered(400, Fault::Truncated)),
    ("ncl", Answered(400, Fault::Framing)),
    ("ltgtruri", Answered(400, Fault::RequestUri)),
    ("lwsruri", Answered(400, Fault::RequestUri)),
    ("lwsstart", Answered(400, Fault::RequestUri)),
    ("trws", Answered(400, Fault::RequestUri)),
    ("bigcode", Dropped(Fault::NotSip)),
    ("badinv01", Answered(400, Fault::Header)),
    ("scalar02", Answered(400, Fault::Header)),
    ("scalarlg", Dropped(Fault::Header)), // a response is never answered
    ("quotbal", Answered(400, Fault::Header)),
    ("baddate", Served),  // nobody here reads Date; the RFC lets an element ignore it
    ("regbadct", Served), // 400 from the endpoint, see below
    ("badaspec", Served), // "elements attempting to be liberal may ignore the spaces"
    ("baddn", Answered(400, Fault::Truncated)), // the archive's file lacks the empty line
    ("escruri", Answered(400, Fault::RequestUri)),
    ("badvers", Answered(505, Fault::Version)),
    ("mismatch01", Answered(400, Fault::Header)),
    ("mismatch02", Answered(501, Fault::Header)),
    ("badbranch", Served), // and is matched as RFC 2543 says, see below
    ("insuf", Answered(400, Fault::Header)),
    ("unkscm", Served),  // 416 from the endpoint
    ("novelsc", Served), // 416 from the endpoint
    ("unksm2", Served),  // 400 from the endpoint
    ("bext01", Served),  // 420 from the endpoint
    ("invut", Served),   // 415 from the endpoint
    ("regaut01", Served),
    ("multi01", Answered(400, Fault::Header)),
    ("mcl01", Answered(400, Fault::Framing)),
    ("bcast", Served),
    ("zeromf", Served), // 483 is for proxies
    ("cparam01", Served),
    ("cparam02", Served),
    ("regescrt", Served),
    ("sdp01", Served), // 406 from the endpoint
    ("inv2543", Served),
    ("test", Dropped(Fault::NotSip)),
];

#[test]
fn every_message_of_rfc_4475_meets_its_fate() {
    assert_eq!(RFC4475.len(), rfc4475::CASES.len());
    for case in rfc4475::CASES {
        let (_, expected) = RFC4475.iter().find(|(name, _)| *name == case.name).expect(case.name);
        assert_eq!(outcome(case.bytes), *expected, "{} ({}) {}", case.name, case.section, case.title);
    }
}

#[test]
fn every_message_of_rfc_5118_meets_its_fate() {
    for case in rfc5118::CASES {
        let expected = if case.name == "ipv6-bad" { Answered(400, Fault::RequestUri) } else { Served };
        assert_eq!(outcome(&case.wire()), expected, "{} ({})", case.name, case.section);
    }
}

fn case(name: &str) -> Message {
    let case = rfc4475::case(name).expect(name);
    Message::parse(Bytes::from_static(case.bytes)).expect(name)
}

fn case6(name: &str) -> Message {
    Message::parse(rfc5118::case(name).expect(name).wire()).expect(name)
}

#[test]
fn wsinv_is_read_through_its_folds_and_blanks() {
    let m = case("wsinv");
    assert_eq!(
        (m.method(), m.request_uri()),
        (Method::Invite, "sip:vivekg@chair-dnrc.example.com;unknownparam")
    );
    assert_eq!(m.to().unwrap().tag(), Some("1918181833n"));
    let from = m.from().unwrap();
    assert_eq!(
        (from.display_text().as_ref(), from.uri, from.tag()),
        ("J Rosenberg \\\"", "sip:jdrosen@example.com", Some("98asjd8"))
    );
    assert_eq!((m.max_forwards(), m.cseq()), (Some(68), Some((9, Method::Invite))));
    let vias: Vec<_> = m.headers(Name::Via).map(|v| cordboard_sip::wire::Via::parse(v).unwrap()).collect();
    let seen: Vec<_> = vias.iter().map(|v| (v.transport, v.host, v.branch)).collect();
    assert_eq!(
        seen,
        [
            ("UDP", "192.0.2.2", Some("390skdjuw")),
            ("TCP", "spindle.example.com", Some("z9hG4bK9ikj8")),
            ("UDP", "192.168.255.111", Some("z9hG4bK30239")),
        ]
    );
    assert_eq!(m.header(Name::Subject), Some(""));
    let contact = m.contact().unwrap();
    assert_eq!(
        (contact.display_text().as_ref(), contact.param("newparam"), contact.q_milli()),
        ("Quoted string \"\"", Some("newvalue"), 330)
    );
    assert_eq!(
        m.headers(Name::Route).collect::<Vec<_>>(),
        ["<sip:services.example.com;lr;unknownwith=value;unknown-no-value>"]
    );
    assert_eq!(m.body().len(), 150);
}

#[test]
fn characters_of_every_kind_survive() {
    let m = case("intmeth");
    assert_eq!(m.method().as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
    let uri = Uri::parse(m.request_uri()).unwrap();
    assert_eq!((uri.host, uri.password), ("example.com", Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)")));
    assert_eq!(m.to().unwrap().display_text(), "BEL:\u{7} NUL:\0 DEL:\u{7f}");
    assert_eq!(m.from().unwrap().tag(), Some("_token~1'+`*%!-."));
    assert_eq!(m.other("extensionHeader-!.%*+_`'~"), Some("\u{feff}大停電"));
    // And a response echoes them, the NUL too.
    let response = Builder::response(&m, 200, "").finish();
    assert!(response.windows(6).any(|w| w == b"NUL:\\\0"));

    let m = case("esc01");
    assert_eq!(Uri::parse(m.request_uri()).unwrap().user_text(), "sips:user@example.com");
    assert!(m.to().unwrap().parsed_uri().unwrap().same_as(&Uri::parse("sip:user@example.com").unwrap()));
    let contact = m.contact().unwrap().parsed_uri().unwrap();
    assert_eq!((contact.user_text().as_ref(), contact.params.iter().count()), ("caller", 2));

    let m = case("escnull");
    let nulls: Vec<_> = m.contacts().map(|c| c.parsed_uri().unwrap().user_text().into_owned()).collect();
    assert_eq!(nulls, ["\0", "\0\0"]);
    let uris: Vec<_> = m.contacts().map(|c| c.parsed_uri().unwrap()).collect();
    assert!(!uris[0].same_as(&uris[1]));

    // Percent signs escape only in URIs: this is neither REGISTER nor Contact.
    let m = case("esc02");
    assert_eq!((m.method(), m.contacts().count()), (Method::Other("RE%47IST%45R"), 2));
    assert_eq!(m.to().unwrap().display, "%Z%45");
    assert_eq!(m.top_via().unwrap().branch, Some("z9hG4bK209%fzsnel234"));

    assert_eq!(case("lwsdisp").from().unwrap().display, "caller");
    assert_eq!(Uri::parse(case("semiuri").request_uri()).unwrap().user_text(), "user;par=u@example.net");
    assert!(case("unreason").reason().starts_with("= 2**3 * 5**2 но сто"));
    assert_eq!((case("noreason").status(), case("noreason").reason()), (100, ""));
}

#[test]
fn framing_and_matching_are_what_the_rfc_says() {
    let m = case("dblreq");
    assert_eq!((m.method(), m.body()), (Method::Register, &b""[..]));
    assert_eq!(case("mpart01").body().len(), 553);
    let long = case("longreq");
    assert_eq!((long.headers(Name::Via).count(), long.body().len()), (34, 150));
    assert!(!case("badbranch").top_via().unwrap().is_rfc3261());
    let transports: Vec<_> = case("transports")
        .headers(Name::Via)
        .filter_map(|v| Some(cordboard_sip::wire::Via::parse(v)?.transport.to_owned()))
        .collect();
    assert_eq!(transports, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
    assert_eq!(case("regbadct").contacts().count(), 0);
    assert_eq!(
        case("regescrt").contact().unwrap().parsed_uri().unwrap().header_pairs().next().unwrap().1,
        "<sip:sip.example.com>"
    );
    assert_eq!(case("cparam01").contact().unwrap().param("unknownparam"), Some(""));
    assert_eq!(case("cparam02").contact().unwrap().param("unknownparam"), None);
    assert_eq!(case("inv2543").from().unwrap().tag(), None);
    assert_eq!(case("badaspec").to().unwrap().uri, "sip:t.watson@example.org");
}

#[test]
fn ipv6_is_read_wherever_it_stands() {
    let host = |m: &Message| Uri::parse(m.request_uri()).map(|u| (u.host.to_owned(), u.port)).unwrap();
    assert_eq!(host(&case6("ipv6-good")), ("2001:db8::10".into(), None));
    // 4.3: the port was put inside the brackets, and means an address.
    assert_eq!(host(&case6("port-ambiguous")), ("2001:db8::10:5070".into(), None));
    assert_eq!(host(&case6("port-unambiguous")), ("2001:db8::10".into(), Some(5070)));
    for name in ["via-received-param-with-delim", "via-received-param-no-delim"] {
        let m = case6(name);
        assert_eq!(
            m.top_via().unwrap().response_addr(),
            Some("[2001:db8::9:255]:5060".parse().unwrap()),
            "{name}"
        );
    }
    let (three, two) = (case6("ipv6-bug-abnf-3-colons"), case6("ipv6-correct-abnf-2-colons"));
    assert!(Uri::parse(three.request_uri()).unwrap().same_as(&Uri::parse(two.request_uri()).unwrap()));
    let m = case6("mult-ip-in-sdp");
    let sdp = Session::parse(m.body()).unwrap();
    let at = |i: usize| sdp.connection(&sdp.media[i]);
    assert_eq!(at(0), Some(Connection::Address("192.0.2.1".parse().unwrap())));
    assert_eq!(at(1), Some(Connection::Address("2001:db8::1".parse().unwrap())));
    let mapped = case6("ipv4-mapped-ipv6");
    assert_eq!(
        mapped.contact().unwrap().parsed_uri().unwrap().socket_addr(),
        Some("[::ffff:192.0.2.2]:5060".parse().unwrap())
    );
}

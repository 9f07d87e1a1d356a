//! A second opinion: rsip 0.4 reads the same bytes. Where both can read, both must read the same;
//! where they differ, the table says why, and a difference that goes away is noticed too.
//!
//! rsip is used here and nowhere else in this crate. What we build is written by `Builder`, whose
//! values are plain text, so its typed headers would only add copies; what we read, it cannot be
//! trusted with (the table below). It stays the independent reader that our tests need.

use cordboard_sip::wire::{Builder, Message, Name};
use proptest::prelude::*;
use sipx_testkit::rfc4475;

#[allow(unreachable_pub, reason = "the fuzz targets share it")]
#[path = "../fuzz/src/second_opinion.rs"]
mod second_opinion;

use second_opinion::{differences, explained, ours, theirs};

/// `same`, `rsip refuses`, `we refuse`, `both refuse`, or the pieces that differ.
fn verdict(bytes: &[u8]) -> String {
    match (ours(bytes).is_some(), theirs(bytes).is_some()) {
        (false, false) => "both refuse".into(),
        (false, true) => "we refuse".into(),
        (true, false) => "rsip refuses".into(),
        (true, true) => match differences(bytes) {
            Some(pieces) if !pieces.is_empty() => pieces.join(", "),
            _ => "same".into(),
        },
    }
}

/// The torture messages on which the readers differ, how, and why ours stands.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("wsinv", "rsip refuses", "it knows no folded lines (7.3.1)"),
    ("intmeth", "rsip refuses", "it takes only the methods that it knows"),
    ("esc01", "rsip refuses", "a folded Contact"),
    ("esc02", "rsip refuses", "an unknown method, RE%47IST%45R"),
    ("longreq", "rsip refuses", "blanks between a name and its colon, and folds"),
    (
        "dblreq",
        "call-id, body",
        "the compact I is an unknown header to it, and it ignores Content-Length (18.3)",
    ),
    ("semiuri", "rsip refuses", "folded Accept"),
    ("clerr", "we refuse", "the body is cut short: 400 (18.3)"),
    ("ncl", "we refuse", "a negative Content-Length: 400"),
    ("ltgtruri", "uri", "brackets around the Request-URI: 400 from check(), it keeps them as a host"),
    ("lwsruri", "rsip refuses", "we index it, and check() answers 400"),
    ("lwsstart", "rsip refuses", "we index it, and check() answers 400"),
    ("trws", "rsip refuses", "we index it, and check() answers 400"),
    ("baddn", "we refuse", "no empty line ends the headers: cut short"),
    ("scalar02", "rsip refuses", "a folded Contact"),
    ("escruri", "rsip refuses", "headers in a URI are beyond it; check() answers 400"),
    ("badvers", "rsip refuses", "we index it, so that check() can answer 505"),
    ("mismatch02", "rsip refuses", "an unknown method"),
    ("unkscm", "rsip refuses", "an opaque URI; the endpoint answers 416"),
    ("unksm2", "contact", "an opaque URI in Contact"),
    ("mcl01", "we refuse", "two Content-Lengths that differ: 400"),
    ("regescrt", "contact", "it loses the headers of a URI"),
];

#[test]
fn both_read_the_torture_messages_alike_but_for_the_differences_that_are_explained() {
    for case in rfc4475::CASES {
        let verdict = verdict(case.bytes);
        match DIFFERENCES.iter().find(|(name, ..)| *name == case.name) {
            Some((_, expected, why)) => {
                assert_eq!(verdict, *expected, "{}: expected to differ, because {why}", case.name)
            }
            None => assert!(verdict == "same" || verdict == "both refuse", "{}: {verdict}", case.name),
        }
        // What the fuzzer forgives has to be enough for what is known.
        for piece in differences(case.bytes).unwrap_or_default() {
            assert!(explained(case.bytes, piece).is_some(), "{}: {piece}", case.name);
        }
    }
}

/// What rsip gets wrong in everyday messages: the reasons why it does not stand at the door.
#[test]
fn everyday_messages_that_rsip_cannot_be_trusted_with() {
    let build = |uri: &str, contact: &str| {
        Builder::request("INVITE", uri)
            .header(Name::Via, "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1")
            .header(Name::From, "<sip:a@a>;tag=1")
            .header(Name::To, "<sip:b@b>")
            .header(Name::CallId, "c")
            .header(Name::CSeq, "1 INVITE")
            .header(Name::Contact, contact)
            .finish()
    };
    assert_eq!(verdict(&build("sip:b@b", "<sip:a@10.0.0.1:5070>")), "same");
    // It rewrites the case of what it knows, so a target does not go back as it came (12.2.1.1).
    assert_eq!(verdict(&build("sip:b@b", "<sip:a@10.0.0.1:5070;transport=udp>")), "contact");
    assert_eq!(verdict(&build("sip:b@[2001:db8::1]", "<sip:a@a>")), "rsip refuses");
    assert_eq!(verdict(&build("sip:b@b", "<sip:a@[2001:db8::1]>")), "contact");
    let compact = String::from_utf8(build("sip:b@b", "<sip:a@a>"))
        .unwrap()
        .replace("Call-ID", "i")
        .replace("From", "f");
    assert_eq!(verdict(compact.as_bytes()), "call-id, from tag, from uri");
}

fn host() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,8}[a-z0-9]\\.example|10\\.[1-9]\\.[1-9]\\.[1-9]"
}

fn sip_uri() -> impl Strategy<Value = String> {
    ("[a-z0-9_.-]{1,10}", host(), prop::option::of(1_u16..), prop::option::of("[a-z0-9]{1,6}")).prop_map(
        |(user, host, port, param)| {
            let port = port.map(|p| format!(":{p}")).unwrap_or_default();
            let param = param.map(|p| format!(";x{p}=1")).unwrap_or_default();
            format!("sip:{user}@{host}{port}{param}")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    /// In the part of the grammar that both know, they agree on every piece.
    #[test]
    fn both_read_what_we_build_alike(
        method in prop::sample::select(vec!["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "INFO", "UPDATE", "PRACK", "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "PUBLISH"]),
        status in prop::option::of(prop::sample::select(vec![100_u16, 180, 183, 200, 302, 401, 404, 486, 487, 500, 503, 600, 603])),
        uris in prop::collection::vec(sip_uri(), 4),
        display in prop::option::of("[A-Za-z][A-Za-z ,]{0,12}[a-z]"),
        tags in prop::collection::vec("[a-z0-9]{1,10}", 3),
        call_id in "[a-z0-9.-]{1,20}(@[a-z0-9.]{1,10})?",
        cseq in 0_u32..(1 << 31),
        via in (host(), prop::option::of(1_u16..)),
        hops in any::<u8>(),
        body in "[ -~]{0,60}",
    ) {
        let port = via.1.map(|p| format!(":{p}")).unwrap_or_default();
        let display = display.map(|d| format!("\"{d}\" ")).unwrap_or_default();
        let request = Builder::request(method, &uris[0])
            .format(Name::Via, format_args!("SIP/2.0/UDP {}{port};branch=z9hG4bK{}", via.0, tags[0]))
            .format(Name::MaxForwards, hops)
            .format(Name::From, format_args!("{display}<{}>;tag={}", uris[1], tags[1]))
            .format(Name::To, format_args!("<{}>;tag={}", uris[2], tags[2]))
            .header(Name::CallId, &call_id)
            .format(Name::CSeq, format_args!("{cseq} {method}"))
            .format(Name::Contact, format_args!("<{}>", uris[3]))
            .header("X-Own", "anything: at all")
            .body("text/plain", body.as_bytes())
            .finish();
        prop_assert_eq!(verdict(&request), "same", "{}", String::from_utf8_lossy(&request));
        if let Some(status) = status {
            let request = Message::parse(request.into()).unwrap();
            let response = Builder::response(&request, status, "").format(Name::Contact, format_args!("<{}>", uris[3])).finish();
            prop_assert_eq!(verdict(&response), "same", "{}", String::from_utf8_lossy(&response));
        }
    }
}

//! Bodies in parts: where the session description is found, and what must be understood.

use bytes::Bytes;
use cordboard_sip::wire::{Message, Part};
use proptest::prelude::*;
use sipx_testkit::rfc4475;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n";

fn message(headers: &str, body: &str) -> Message {
    let text = format!(
        "INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Message::parse(Bytes::from(text)).unwrap()
}

fn mixed(parts: &[(&str, &str)]) -> String {
    let mut body = String::from("for those who cannot read MIME\r\n");
    for (head, bytes) in parts {
        body += &format!("--b1\r\n{head}\r\n{bytes}\r\n");
    }
    body + "--b1--\r\nbehind the end"
}

#[test]
fn a_description_is_found_wherever_it_lies() {
    let part = ("Content-Type: application/sdp\r\n", SDP);
    let isup = (
        "Content-Type: application/ISUP;version=itu-t92+\r\nContent-Disposition: signal;handling=optional\r\n",
        "\u{1}\u{0}x",
    );
    let nested = format!("--i\r\n{}\r\n{SDP}\r\n--i--", part.0);
    let cases = [
        ("plain", "c: application/sdp\r\n", SDP.to_owned(), true),
        (
            "plain, other case and parameters",
            "Content-Type: Application/SDP ; charset=x\r\n",
            SDP.to_owned(),
            true,
        ),
        ("mixed, second", "c: multipart/mixed;boundary=b1\r\n", mixed(&[isup, part]), true),
        ("quoted boundary", "c: multipart/mixed;boundary=\"b1\"\r\n", mixed(&[part, isup]), true),
        (
            "alternative",
            "c: multipart/alternative;boundary=b1\r\n",
            mixed(&[("\r\n", "hello"), part]).replace("\r\n\r\n\r\n", "\r\n\r\n"),
            true,
        ),
        (
            "nested",
            "c: multipart/mixed;boundary=b1\r\n",
            mixed(&[("Content-Type: multipart/alternative;\r\n boundary=\"i\"\r\n", &nested)]),
            true,
        ),
        ("bare line ends", "c: multipart/mixed;boundary=b1\r\n", mixed(&[part]).replace("\r\n", "\n"), true),
        (
            "the end is missing",
            "c: multipart/mixed;boundary=b1\r\n",
            format!("--b1\r\n{}\r\n{SDP}", part.0),
            true,
        ),
        (
            "for another purpose",
            "c: multipart/mixed;boundary=b1\r\n",
            mixed(&[("Content-Type: application/sdp\r\nContent-Disposition: early-session\r\n", SDP)]),
            false,
        ),
        (
            "base64",
            "c: multipart/mixed;boundary=b1\r\n",
            mixed(&[("Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n", "dj0w")]),
            false,
        ),
        ("compressed", "c: application/sdp\r\ne: gzip\r\n", SDP.to_owned(), false),
        ("no boundary", "c: multipart/mixed\r\n", mixed(&[part]), false),
        ("another boundary", "c: multipart/mixed;boundary=b\r\n", mixed(&[part]), false),
        ("another type", "c: text/plain\r\n", SDP.to_owned(), false),
        ("no type", "", SDP.to_owned(), false),
        ("nothing", "c: application/sdp\r\n", String::new(), false),
    ];
    for (name, headers, body, found) in cases {
        let m = message(headers, &body);
        let sdp = m.sdp().map(|sdp| String::from_utf8_lossy(sdp).replace("\r\n", "\n").trim_end().to_owned());
        assert_eq!(sdp, found.then(|| SDP.replace("\r\n", "\n").trim_end().to_owned()), "{name}");
        assert_eq!(m.has_sdp(), found, "{name}");
    }
    // Of alternatives the last, of a mixture the first.
    let two = [(part.0, "v=0\r\ns=one\r\n"), (part.0, "v=0\r\ns=two\r\n")];
    let body = mixed(&two);
    let which = |kind: &str| {
        let m = message(&format!("c: multipart/{kind};boundary=b1\r\n"), &body);
        String::from_utf8(m.sdp().unwrap()[7..10].to_vec()).unwrap()
    };
    assert_eq!(
        (which("mixed"), which("alternative"), which("related")),
        ("one".into(), "two".into(), "one".into())
    );
}

#[test]
fn what_must_be_understood_is_named() {
    let known = &["application/sdp"];
    let sdp = ("Content-Type: application/sdp\r\n", SDP);
    let unknown = ("Content-Type: application/x-secret\r\n", "x");
    let optional =
        ("Content-Type: application/x-secret\r\nContent-Disposition: x;handling=Optional\r\n", "x");
    let wrong = |headers: &str, body: &str| message(headers, body).not_understood(known).map(str::to_owned);
    let of = |kind: &str, parts: &[(&str, &str)]| {
        wrong(&format!("c: multipart/{kind};boundary=b1\r\n"), &mixed(parts))
    };
    let secret = Some("application/x-secret".to_owned());
    assert_eq!(wrong("", ""), None);
    assert_eq!(wrong("c: application/sdp\r\n", SDP), None);
    assert_eq!(wrong("c: application/x-secret\r\n", "x"), secret);
    assert_eq!(
        wrong("c: application/x-secret\r\nContent-Disposition: render;handling=optional\r\n", "x"),
        None
    );
    assert_eq!(wrong("c: application/sdp\r\ne: gzip\r\n", SDP), Some("application/sdp".to_owned()));
    let required =
        ("Content-Type: application/x-secret\r\nContent-Disposition: x;handling=required\r\n", "x");
    assert_eq!(of("mixed", &[sdp, required]), secret);
    assert_eq!(of("mixed", &[sdp, unknown]), None, "nobody insists on it, and the session is described");
    assert_eq!(of("mixed", &[unknown]), secret, "there is nothing else");
    assert_eq!(of("mixed", &[sdp, optional]), None);
    assert_eq!(of("alternative", &[unknown, sdp]), None);
    assert_eq!(of("alternative", &[unknown, unknown]), secret);
    assert_eq!(of("mixed", &[]), Some("multipart/mixed".to_owned()));
    assert_eq!(wrong("c: multipart/mixed\r\n", &mixed(&[sdp])), Some("multipart/mixed".to_owned()));
    let early =
        ("Content-Type: application/sdp\r\nContent-Disposition: early-session;handling=required\r\n", SDP);
    assert_eq!(of("mixed", &[sdp, early]), Some("application/sdp".to_owned()));
    assert_eq!(
        of(
            "mixed",
            &[
                sdp,
                (
                    "Content-Type: application/sdp\r\nContent-Disposition: early-session;handling=optional\r\n",
                    SDP
                )
            ]
        ),
        None
    );
}

#[test]
fn the_parts_of_the_torture_test_are_read() {
    let case = rfc4475::case("mpart01").unwrap();
    let m = Message::parse(Bytes::from_static(case.bytes)).unwrap();
    let body = m.whole_body().unwrap();
    assert_eq!(body.content_type, "multipart/mixed");
    let parts: Vec<Part<'_>> = body.parts().collect();
    let seen: Vec<_> =
        parts.iter().map(|p| (p.content_type, p.disposition, p.encoded, p.bytes.len())).collect();
    assert_eq!(seen[0], ("text/plain", None, false, 5), "Hello");
    assert_eq!((seen.len(), seen[1].0), (2, "application/octet-stream"));
    // The second is a binary S/MIME signature with line ends in it: not one byte may be lost.
    let whole = case.bytes.windows(4).rposition(|w| w == b"\r\n--").unwrap();
    let end = parts[1].bytes.as_ptr() as usize + parts[1].bytes.len() - m.as_bytes().as_ptr() as usize;
    assert_eq!(end, whole);
}

proptest! {
    #[test]
    fn parts_come_back_as_they_were_written(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..10),
        boundary in "[A-Za-z0-9'()+_,./:=?-]{1,70}",
    ) {
        // A boundary may not occur in what it separates.
        let marker = format!("--{boundary}");
        prop_assume!(parts.iter().all(|p| !p.windows(marker.len()).any(|w| w == marker.as_bytes())));
        let mut body = Vec::new();
        for part in &parts {
            body.extend_from_slice(format!("{marker}\r\nContent-Type: x/y\r\n\r\n").as_bytes());
            body.extend_from_slice(part);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("{marker}--\r\n").as_bytes());
        let mut text = format!("INVITE sip:x SIP/2.0\r\nc: multipart/mixed;boundary=\"{boundary}\"\r\nl: {}\r\n\r\n", body.len()).into_bytes();
        text.extend_from_slice(&body);
        let m = Message::parse(text.into()).unwrap();
        let read: Vec<Vec<u8>> = m.whole_body().unwrap().parts().map(|p| p.bytes.to_vec()).collect();
        prop_assert_eq!(read, parts);
    }

    #[test]
    fn no_body_makes_it_panic_or_go_round_for_ever(body in "(--b|--|b|\r\n|\n|Content-Type: (multipart/mixed;boundary=b|application/sdp)|x){0,60}") {
        let m = message("c: multipart/mixed;boundary=b\r\n", &body);
        prop_assert!(m.whole_body().is_none_or(|b| b.parts().count() <= 32));
        let _ = (m.sdp(), m.not_understood(&["application/sdp"]));
    }
}

//! Digest and redirection, by behaviour.

use bytes::Bytes;
use cordboard_base::{Now, Random};
use cordboard_sip::digest::{Algorithm, AuthorizationHeader, Challenge, Client, Credential, Server, Verdict};
use cordboard_sip::redirect::{Key, TargetSet, answer_302, answer_503};
use cordboard_sip::wire::{Message, Name};

const URI: &str = "sip:example.com";

fn at(wall_ms: i64) -> Now {
    Now { mono_ns: 0, wall_ms }
}

fn password(user: &str) -> Option<Credential> {
    (user == "bob").then(|| Credential::Password("zanzibar".into()))
}

struct Pair {
    server: Server,
    client: Client,
    random: Random,
}

impl Pair {
    fn new() -> Self {
        Self { server: Server::new([7; 32]), client: Client::default(), random: Random::seeded(1) }
    }

    fn credentials(&mut self, challenges: &[&str], user: &str, password: &str) -> String {
        self.client.answer(challenges, "REGISTER", URI, user, password, b"", &mut self.random).unwrap()
    }

    fn verify(&mut self, now: Now, value: &str) -> Verdict {
        let header = AuthorizationHeader::parse(value).unwrap();
        self.server.verify(now, &header, "example.com", "REGISTER", URI, password)
    }
}

/// RFC 7616 3.9.1: both algorithms, one set of inputs.
#[test]
fn the_responses_are_those_of_rfc_7616() {
    let table = [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ];
    for (name, response) in table {
        let algorithm = Algorithm::parse(Some(name)).unwrap();
        let ha1 = algorithm.ha1("Mufasa", "http-auth@example.org", "Circle of Life");
        let value = format!(
            "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm={name}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\""
        );
        let header = AuthorizationHeader::parse(&value).unwrap();
        assert_eq!(header.response_for(algorithm, &ha1, "GET", b""), response);
    }
}

#[test]
fn right_credentials_are_taken_for_both_algorithms_and_both_kinds_of_store() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let mut p = Pair::new();
        let challenge = p.server.challenge(at(1_000), "example.com", algorithm, false);
        let value = p.credentials(&[&challenge], "bob", "zanzibar");
        assert!(value.contains(&format!("algorithm={}", algorithm.as_str())));
        assert_eq!(p.verify(at(2_000), &value), Verdict::Ok { user: "bob".into() });
        let value = p.credentials(&[&challenge], "bob", "zanzibar");
        let stored = algorithm.ha1("bob", "example.com", "zanzibar").to_uppercase();
        let header = AuthorizationHeader::parse(&value).unwrap();
        let verdict = p.server.verify(at(2_000), &header, "example.com", "REGISTER", URI, |_| {
            Some(match algorithm {
                Algorithm::Md5 => Credential::Ha1 { md5: Some(stored), sha256: None },
                Algorithm::Sha256 => Credential::Ha1 { md5: None, sha256: Some(stored) },
            })
        });
        assert_eq!(verdict, Verdict::Ok { user: "bob".into() });
    }
}

#[test]
fn a_nonce_serves_many_requests_and_each_count_once() {
    let mut p = Pair::new();
    let challenge = p.server.challenge(at(0), "example.com", Algorithm::Sha256, false);
    let values: Vec<_> = (0..40).map(|_| p.credentials(&[&challenge], "bob", "zanzibar")).collect();
    assert!(values[9].contains("nc=0000000a"), "{}", values[9]);
    // Reordered on the way: each is taken all the same, and none twice.
    for i in (0..40).map(|i| i ^ 3) {
        assert_eq!(p.verify(at(10), &values[i]), Verdict::Ok { user: "bob".into() }, "{i}");
    }
    for value in &values {
        assert_eq!(p.verify(at(10), value), Verdict::Stale);
    }
}

#[test]
fn wrong_credentials_are_refused_for_what_they_are() {
    let mut p = Pair::new();
    let challenge = p.server.challenge(at(0), "example.com", Algorithm::Sha256, false);
    let wrong = p.credentials(&[&challenge], "bob", "zanzibaR");
    assert_eq!(p.verify(at(1), &wrong), Verdict::Wrong);
    let unknown = p.credentials(&[&challenge], "eve", "");
    assert_eq!(p.verify(at(1), &unknown), Verdict::Wrong);
    let good = p.credentials(&[&challenge], "bob", "zanzibar");
    let header = AuthorizationHeader::parse(&good).unwrap();
    // Taken for another method, realm or target.
    assert_eq!(p.server.verify(at(1), &header, "example.com", "INVITE", URI, password), Verdict::Wrong);
    assert_eq!(p.server.verify(at(1), &header, "other.com", "REGISTER", URI, password), Verdict::Missing);
    assert_eq!(
        p.server.verify(at(1), &header, "example.com", "REGISTER", "sip:elsewhere.com", password),
        Verdict::Wrong
    );
    // Ports and parameters of the target may differ.
    assert!(matches!(
        p.server.verify(
            at(1),
            &header,
            "example.com",
            "REGISTER",
            "sip:example.com:5070;transport=udp",
            password
        ),
        Verdict::Ok { .. }
    ));
    // Downgraded: the nonce was for the other algorithm.
    let again = p.credentials(&[&challenge], "bob", "zanzibar").replace("SHA-256", "MD5");
    assert_eq!(p.verify(at(1), &again), Verdict::Missing);
    // Another server's nonce; no qop.
    let foreign = Server::new([8; 32]).challenge(at(0), "example.com", Algorithm::Md5, false);
    let foreign = p.credentials(&[&foreign], "bob", "zanzibar");
    assert_eq!(p.verify(at(1), &foreign), Verdict::Missing);
    let bare = p.credentials(&[&challenge.replace(", qop=\"auth\"", "")], "bob", "zanzibar");
    assert_eq!(p.verify(at(1), &bare), Verdict::Wrong);
    for text in ["", "Basic abc", "Digest", "Digest username=\"bob\""] {
        assert_eq!(AuthorizationHeader::parse(text), None);
    }
}

#[test]
fn an_old_nonce_is_stale_only_with_the_right_password() {
    let mut p = Pair::new();
    let challenge = p.server.challenge(at(0), "example.com", Algorithm::Md5, true);
    assert!(Challenge::parse(&challenge).unwrap().stale);
    let good = p.credentials(&[&challenge], "bob", "zanzibar");
    let bad = p.credentials(&[&challenge], "bob", "x");
    assert_eq!(p.verify(at(300_001), &good), Verdict::Stale);
    assert_eq!(p.verify(at(300_001), &bad), Verdict::Wrong);
    // From the future by more than clocks may differ.
    assert_eq!(p.verify(at(-6_000), &good), Verdict::Stale);
}

#[test]
fn two_challenges_of_one_millisecond_are_answered_each_from_the_first_count_on() {
    let mut p = Pair::new();
    let both = [1, 2].map(|_| p.server.challenge(at(1_000), "example.com", Algorithm::Sha256, false));
    for challenge in both {
        // Each client counts from 1, and neither knows of the other.
        let value = Pair::new().credentials(&[&challenge], "bob", "zanzibar");
        assert!(value.contains("nc=00000001"));
        assert_eq!(p.verify(at(1_000), &value), Verdict::Ok { user: "bob".into() });
        assert_eq!(p.verify(at(1_000), &value), Verdict::Stale, "and no count is taken twice");
        let other = value.replace("nonce=\"0000000003e800000000", "nonce=\"0000000003e800000007");
        assert!(other == value || p.verify(at(1_000), &other) == Verdict::Missing, "the number is sealed");
    }
    assert_eq!(p.server.remembered(), 2);
}

#[test]
fn the_table_of_counts_is_bounded_and_forgets_on_the_safe_side() {
    let mut p = Pair::new();
    p.server = Server::with_limits([7; 32], 300_000, 4);
    let mut first = None;
    for i in 0..10 {
        let challenge = p.server.challenge(at(i), "example.com", Algorithm::Md5, false);
        let value = p.credentials(&[&challenge], "bob", "zanzibar");
        assert_eq!(p.verify(at(i), &value), Verdict::Ok { user: "bob".into() });
        first.get_or_insert(value);
        assert!(p.server.remembered() <= 4);
    }
    // Its count is forgotten, and it is not taken again.
    assert_eq!(p.verify(at(11), &first.unwrap()), Verdict::Stale);
    // Old ones leave by themselves.
    let challenge = p.server.challenge(at(900_000), "example.com", Algorithm::Md5, false);
    let value = p.credentials(&[&challenge], "bob", "zanzibar");
    p.verify(at(900_000), &value);
    assert_eq!(p.server.remembered(), 1);
}

#[test]
fn the_client_takes_the_strongest_and_gives_back_what_it_must() {
    let mut p = Pair::new();
    let md5 = r#"Digest realm="a \"b\"", nonce="n1", qop="auth-int, auth", opaque="o,p""#;
    let sha = r#"Digest realm="r", nonce="n2", algorithm=SHA-256, qop="auth-int""#;
    let value = p.credentials(&["Basic realm=x", md5, sha], "bob", "p");
    assert!(value.contains("algorithm=SHA-256") && value.contains("qop=auth-int"));
    let value = p.credentials(&[md5], "b\"o", "p");
    assert!(value.contains(r#"username="b\"o""#) && value.contains(r#"realm="a \"b\"""#), "{value}");
    assert!(value.contains(r#"opaque="o,p""#) && value.contains("qop=auth,") && !value.contains("algorithm"));
    assert_eq!(
        p.client.answer(
            &[r#"Digest realm="r", nonce="n", algorithm=SHA-512-256"#],
            "A",
            "b",
            "c",
            "d",
            b"",
            &mut p.random
        ),
        None
    );
}

fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

const HEAD: &str = "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n";

fn moved(contacts: &str) -> Message {
    message(&format!("SIP/2.0 302 Moved\r\n{HEAD}{contacts}\r\n"))
}

#[test]
fn targets_come_by_preference_and_none_twice() {
    let mut set = TargetSet::new("sip:b@b");
    let first = moved(
        "Contact: <sip:low@x>;q=0.1, <sip:b@B>, <tel:+1>\r\nm: <sip:best@x>, <sip:second@x>;q=1.0\r\nContact: <sip:low@x>;q=0.9\r\n",
    );
    assert_eq!(set.add(&first), 3);
    assert_eq!(set.next_target().unwrap().uri, "sip:best@x");
    // What that one names comes before what is left; a loop ends.
    assert_eq!(set.add(&moved("Contact: <sip:deep@x>;q=0.2,<sip:best@x>\r\n")), 1);
    let rest: Vec<_> = std::iter::from_fn(|| set.next_target()).map(|t| (t.uri, t.q_milli)).collect();
    assert_eq!(
        rest,
        [("sip:deep@x".to_owned(), 200), ("sip:second@x".to_owned(), 1000), ("sip:low@x".to_owned(), 100)]
    );
    assert_eq!(set.add(&first), 0);
    // Equals stay in the order in which they were written.
    let mut equals = TargetSet::new("sip:b@b");
    let thirty: String = (0..30).map(|i| format!("Contact: <sip:{i}@x>;q=0.{}\r\n", i % 2)).collect();
    assert_eq!(equals.add(&moved(&thirty)), 30);
    let order: Vec<_> = std::iter::from_fn(|| equals.next_target()).map(|t| t.uri).collect();
    let expected: Vec<_> =
        (0..15).map(|i| 2 * i + 1).chain((0..15).map(|i| 2 * i)).map(|i| format!("sip:{i}@x")).collect();
    assert_eq!(order, expected);
    // Bounded, whatever they send.
    let many: String = (0..200).map(|i| format!("Contact: <sip:{i}@x>\r\n")).collect();
    assert!(set.add(&moved(&many)) <= 32);
    // 8.1.3.4: sips is never left for sip.
    assert_eq!(TargetSet::new("sips:b@b").add(&moved("Contact: <sip:x@x>, <sips:y@y>\r\n")), 1);
}

#[test]
fn stateless_answers_are_the_same_for_a_retransmission_and_no_other_request() {
    let text = format!("INVITE sip:b@b SIP/2.0\r\n{HEAD}\r\n");
    let (request, key) = (message(&text), Key::new([1; 16]));
    let source = "10.0.0.9:5066".parse().unwrap();
    let contacts = [("sip:cc1@10.0.0.2:5070", 1000), ("sip:cc2@10.0.0.3:5070", 250)];
    let bytes = answer_302(&request, source, &key, &contacts);
    assert_eq!(bytes, answer_302(&message(&text), source, &key, &contacts));
    let response = message(std::str::from_utf8(&bytes).unwrap());
    response.check().unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(response.contacts().map(|c| (c.uri, c.q_milli())).collect::<Vec<_>>(), contacts);
    assert_eq!(response.top_via().unwrap().response_addr(), Some(source));
    let tag = response.to().unwrap().tag().unwrap().to_owned();
    assert_eq!(tag.len(), 16);
    for other in [
        text.replace("z9hG4bK1", "z9hG4bK2"),
        text.replace("Call-ID: c", "Call-ID: d"),
        text.replace("CSeq: 1", "CSeq: 2"),
        text.replace("tag=1", "tag=2"),
    ] {
        assert_ne!(key.number(&message(&other)), key.number(&request));
    }
    let busy = message(std::str::from_utf8(&answer_503(&request, source, &key, 5)).unwrap());
    assert_eq!((busy.status(), busy.header(Name::RetryAfter)), (503, Some("5")));
    assert_eq!(busy.to().unwrap().tag(), Some(tag.as_str()));
}

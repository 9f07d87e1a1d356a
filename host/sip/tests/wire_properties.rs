//! What holds for every input: nothing panics, what is built is read back, what is refused can be answered.

use bytes::Bytes;
use cordboard_base::{Now, Random};
use cordboard_sip::digest::{AuthorizationHeader, Challenge, Client, Credential, Server, Verdict};
use cordboard_sip::redirect::TargetSet;
use cordboard_sip::sdp::{Codec, Direction, Local, Session, agreed, answer, offer};
use cordboard_sip::wire::text::{List, split_outside};
use cordboard_sip::wire::{Builder, Message, Name, NameAddr, Params, Uri, Via};
use proptest::prelude::*;

/// Calls every accessor; none may panic, and each text must be what was in the head.
fn exercise(message: &Message) {
    let _ = (message.method(), message.request_uri(), message.status(), message.reason(), message.call_id());
    let _ =
        (message.cseq(), message.top_via(), message.from(), message.to(), message.contact(), message.body());
    let _ = (message.content_type(), message.has_sdp(), message.expires(), message.max_forwards());
    let _ = Uri::parse(message.request_uri());
    for name in Name::ALL {
        for value in message.headers(*name) {
            let _ = (
                NameAddr::parse(value),
                Via::parse(value),
                Params::new(value).iter().count(),
                Uri::parse(value),
            );
            let _ = (AuthorizationHeader::parse(value), Challenge::parse(value));
        }
        let _ = message.other(name.as_str());
    }
    let _ = (message.all().count(), format!("{message:?}"));
    TargetSet::new("sip:a@b").add(message);
    let _ = Session::parse(message.body());
}

/// Bytes that are often nearly SIP: pieces of messages, shuffled.
fn nearly_sip() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"INVITE sip:a@b SIP/2.0\r\n".to_vec()),
        Just(b"SIP/2.0 200 OK\r\n".to_vec()),
        Just(b"Via: SIP/2.0/UDP [::1]:5060;branch=z9hG4bKa;rport\r\n".to_vec()),
        Just(b"v: SIP / 2.0 / UDP h ; branch\r\n =x, SIP/2.0/TCP y\r\n".to_vec()),
        Just(b"To: \"a \\\" <b\" <sip:a@b;x=\"y\">;tag=1\r\n".to_vec()),
        Just(b"From: sip:a@b;tag=2\r\n".to_vec()),
        Just(b"Call-ID: x@y\r\nCSeq: 1 INVITE\r\n".to_vec()),
        Just(b"Content-Length: 5\r\n".to_vec()),
        Just(b"Contact: *, <sip:a@b>;q=0.5\r\n".to_vec()),
        Just(b"Content-Type: application/sdp\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b" ".to_vec()),
        Just(b":".to_vec()),
        Just(b"v=0\r\nm=audio 5 RTP/AVP 0\r\nc=IN IP4 1.2.3.4\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|p| p.concat())
}

/// A header value: printable, no line ends, no blanks at its ends.
fn value() -> impl Strategy<Value = String> {
    "[!-~äя][ -~äя]{0,30}[!-~äя]|[!-~]?".prop_map(|s| s)
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.!%*_+`'~-]{1,12}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop_oneof![nearly_sip(), prop::collection::vec(any::<u8>(), 0..400)]) {
        let bytes = Bytes::from(bytes);
        match Message::parse(bytes.clone()) {
            Ok(message) => {
                exercise(&message);
                prop_assert_eq!(message.as_bytes(), &bytes);
                if let Err(error) = message.check() {
                    prop_assert!(error.message.is_some());
                }
            }
            Err(error) => {
                prop_assert!(error.status.is_none() || error.message.is_some());
                if let (Some(status), Some(request)) = (error.status, &error.message) {
                    exercise(request);
                    prop_assert!(request.is_request());
                    let answer = Builder::response_to(request, Some("[::2]:9".parse().unwrap()), status, &error.reason).to_tag("t").finish();
                    prop_assert_eq!(Message::parse(answer.into()).unwrap().status(), status);
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_small_grammars_panic(text in "\\PC{0,40}|[ -~]{0,40}|[\"<>;,=\\\\a:@%\\[\\]]{0,20}") {
        let _ = (NameAddr::parse(&text), Via::parse(&text), Uri::parse(&text).map(|u| u.same_as(&u)), Params::new(&text).get("a"));
        let _ = (AuthorizationHeader::parse(&format!("Digest {text}")), Challenge::parse(&format!("Digest {text}")), Session::parse(text.as_bytes()));
        // Cutting loses nothing but the separators.
        let mut rest = Some(text.as_str());
        let mut length = 0;
        while let Some(t) = rest {
            let (head, tail) = split_outside(t, b',');
            length += head.len() + usize::from(tail.is_some());
            rest = tail;
        }
        prop_assert_eq!(length, text.len());
        prop_assert!(List::new(&text).all(|v| !v.is_empty()));
    }

    #[test]
    fn what_is_built_is_read_back(
        method in token(),
        headers in prop::collection::vec((token(), value()), 0..40),
        body in prop::collection::vec(any::<u8>(), 0..200),
        at in prop::collection::vec(any::<prop::sample::Index>(), 4),
    ) {
        // Names of one letter may be compact forms; ours are written long.
        let headers: Vec<_> = headers.into_iter().map(|(n, v)| (format!("X-{n}"), v)).collect();
        let mut builder = Builder::request(method.as_str(), "sip:a@b")
            .header(Name::Via, "SIP/2.0/UDP h;branch=z9hG4bK1")
            .format(Name::CSeq, format_args!("7 {method}"));
        for (name, value) in &headers {
            builder = builder.header(name, value);
        }
        let bytes = builder.body("application/octet-stream", &body).finish();
        let message = Message::parse(bytes.clone().into()).unwrap();
        prop_assert_eq!(message.method().as_str(), method.as_str());
        prop_assert_eq!(message.cseq().map(|(n, m)| (n, m.as_str())), Some((7, method.as_str())));
        prop_assert_eq!(message.body(), &body[..]);
        let read: Vec<_> = message.all().filter(|(n, _)| n.starts_with("X-")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        prop_assert_eq!(read, headers);
        // Folding lines at blanks changes no value but the width of its blanks (7.3.1), and no response byte but blanks.
        let text = String::from_utf8_lossy(&bytes[..bytes.len() - body.len()]).into_owned();
        let blanks: Vec<_> = text.match_indices(": ").map(|(i, _)| i + 1).collect();
        let mut folded = text.into_bytes();
        let mut chosen: Vec<_> = at.iter().map(|i| blanks[i.index(blanks.len())]).collect();
        chosen.sort_unstable();
        chosen.dedup();
        for i in chosen.into_iter().rev() {
            folded.splice(i..=i, *b"\r\n\t ");
        }
        folded.extend_from_slice(&body);
        let again = Message::parse(folded.into()).unwrap();
        let squeezed = |m: &Message| m.all().map(|(n, v)| (n.to_owned(), v.split_whitespace().collect::<Vec<_>>().join(" "))).collect::<Vec<_>>();
        prop_assert_eq!(squeezed(&again), squeezed(&message));
        prop_assert_eq!(again.body(), &body[..]);
    }

    #[test]
    fn a_uri_prints_back_and_is_the_same_as_itself(
        user in prop::option::of("[a-z0-9&=+$,;?/_.!~*'()-]{1,8}(%[0-9a-f]{2})?"),
        host in "[a-z][a-z0-9.-]{0,10}|10\\.0\\.0\\.[1-9]|\\[2001:db8::[1-9]\\]",
        port in prop::option::of(any::<u16>()),
        params in prop::collection::vec(("[a-z]{1,6}", prop::option::of("[a-zA-Z0-9%+.-]{1,6}")), 0..4),
        headers in "(\\?[a-z]=[a-z%]{0,4}(&[a-z]=x)?)?",
    ) {
        use std::fmt::Write as _;
        let mut text = String::from("sip:");
        if let Some(user) = &user { let _ = write!(text, "{user}@"); }
        text += &host;
        if let Some(port) = port { let _ = write!(text, ":{port}"); }
        for (name, value) in &params {
            let _ = write!(text, ";{name}");
            if let Some(value) = value { let _ = write!(text, "={value}"); }
        }
        text += &headers;
        if let Ok(uri) = Uri::parse(&text) {
            prop_assert_eq!(uri.to_string(), text.as_str());
            prop_assert_eq!((uri.user, uri.port), (user.as_deref(), port));
            prop_assert_eq!(uri.host, host.trim_matches(['[', ']']));
            let doubled = params.iter().enumerate().any(|(i, (n, _))| params[..i].iter().any(|(m, _)| m == n));
            prop_assert!(doubled || uri.same_as(&uri));
        } else {
            prop_assert!(text.contains('%'), "{}", text);
        }
    }

    #[test]
    fn offer_and_answer_always_agree(
        codecs in prop::sample::subsequence(vec![Codec::Pcmu, Codec::Pcma], 1..=2).prop_shuffle(),
        ours in prop::sample::select(vec![Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]),
        theirs in prop::sample::select(vec![Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]),
        ports in (1_u16.., 1_u16..),
    ) {
        let a = Local { address: "192.0.2.1".parse().unwrap(), port: ports.0, session_id: 1, version: 1 };
        let b = Local { address: "::1".parse().unwrap(), port: ports.1, session_id: 2, version: 1 };
        let offered = Session::parse(offer(&a, &codecs, ours).as_bytes()).unwrap();
        let (text, at_b) = answer(&offered, &b, &[Codec::Pcma, Codec::Pcmu], theirs).unwrap();
        let at_a = agreed(&Session::parse(text.as_bytes()).unwrap()).unwrap();
        prop_assert_eq!((at_a.codec, at_b.codec), (codecs[0], codecs[0]));
        prop_assert_eq!((at_a.remote.port(), at_b.remote.port()), (ports.1, ports.0));
        // Nobody sends to one who does not receive, and nobody does what they did not want.
        prop_assert_eq!(at_a.direction, at_b.direction.mirrored());
        prop_assert_eq!(at_a.direction.and(ours), at_a.direction);
        prop_assert_eq!(at_b.direction.and(theirs), at_b.direction);
    }

    #[test]
    fn descriptions_print_back(text in "v=0(\r\n[a-z]=[!-~][ -~]{0,10}){0,8}(\r\nm=audio [0-9]{1,4} RTP/AVP 0( 8)?(\r\na=[!-~]{1,9}){0,3}){0,3}\r\n") {
        if let Ok(session) = Session::parse(text.as_bytes()) {
            let printed = session.to_string();
            let again = Session::parse(printed.as_bytes()).unwrap();
            prop_assert_eq!(again.to_string(), printed);
            prop_assert_eq!(again, session);
        }
    }

    #[test]
    fn client_and_server_agree_for_any_user_and_password(
        user in "[ -~]{1,12}", password in "\\PC{0,12}", realm in "[a-z.]{1,12}", seed in any::<u64>(), md5 in any::<bool>(),
    ) {
        use cordboard_sip::digest::Algorithm;
        let now = Now { mono_ns: 0, wall_ms: 1_700_000_000_000 };
        let mut server = Server::new([3; 32]);
        let algorithm = if md5 { Algorithm::Md5 } else { Algorithm::Sha256 };
        let challenge = server.challenge(now, &realm, algorithm, false);
        let value = Client::default()
            .answer(&[&challenge], "INVITE", "sip:x@y", &user, &password, b"", &mut Random::seeded(seed)).unwrap();
        let header = AuthorizationHeader::parse(&value).unwrap();
        let verdict = server.verify(now, &header, &realm, "INVITE", "sip:x@y", |u| {
            (u == user).then(|| Credential::Password(password.clone()))
        });
        prop_assert_eq!(verdict, Verdict::Ok { user });
    }
}

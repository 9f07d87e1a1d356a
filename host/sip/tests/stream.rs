//! Streams into messages: however the bytes are cut, the same pieces; what is lost says so, once.

use bytes::Bytes;
use cordboard_base::{Now, ms};
use cordboard_sip::stream::{Framer, Lost, PING, PONG, Piece, Why, websocket};
use cordboard_sip::wire::{Builder, Fault, MAX_MESSAGE, Message, Name};
use proptest::prelude::*;
use sipx_testkit::{rfc4475, rfc5118};

fn now(at_ms: u64) -> Now {
    Now { mono_ns: ms(at_ms), wall_ms: 0 }
}

/// Every piece of `bytes`, pushed in chunks that end at `cuts`, and how it ended.
fn framed(framer: &mut Framer, bytes: &[u8], cuts: &[usize]) -> (Vec<Piece>, Option<Lost>) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(bytes.len())).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let (mut pieces, mut from) = (Vec::new(), 0);
    for cut in cuts {
        framer.push(now(0), &bytes[from..cut]);
        from = cut;
        loop {
            match framer.next_piece() {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => break,
                Err(lost) => {
                    assert_eq!(framer.next_piece(), Ok(None), "a loss is told once");
                    framer.push(now(0), b"OPTIONS sip:x SIP/2.0\r\nl:0\r\n\r\n");
                    assert_eq!((framer.next_piece(), framer.waiting_bytes()), (Ok(None), 0));
                    return (pieces, Some(lost));
                }
            }
        }
    }
    (pieces, None)
}

fn whole(bytes: &[u8]) -> (Vec<Piece>, Option<Lost>) {
    framed(&mut Framer::accepted(MAX_MESSAGE), bytes, &[])
}

fn why(bytes: &[u8]) -> Option<Why> {
    whole(bytes).1.map(|lost| lost.why)
}

fn message(bytes: &[u8]) -> Piece {
    Piece::Message(Bytes::copy_from_slice(bytes))
}

fn options(body: &[u8]) -> Vec<u8> {
    Builder::request("OPTIONS", "sip:a@example.com")
        .header(Name::Via, "SIP/2.0/TCP 192.0.2.9:5062;branch=z9hG4bK1")
        .header(Name::From, "<sip:b@example.com>;tag=1")
        .header(Name::To, "<sip:a@example.com>")
        .header(Name::CallId, "one")
        .header(Name::CSeq, "1 OPTIONS")
        .body("text/plain", body)
        .finish()
}

#[test]
fn each_torture_message_that_has_a_length_comes_out_whole_and_byte_for_byte() {
    let corpora: Vec<(&str, Vec<u8>)> = (rfc4475::CASES.iter().map(|c| (c.name, c.bytes.to_vec())))
        .chain(rfc5118::CASES.iter().map(|c| (c.name, c.wire().to_vec())))
        .collect();
    let mut seen = 0;
    for (name, bytes) in corpora {
        let Ok(parsed) = Message::parse(bytes.clone().into()) else { continue };
        if parsed.header(Name::ContentLength).is_none() {
            continue;
        }
        seen += 1;
        // Alone, and three in a row with keep-alives between them.
        let end = bytes.len() - (bytes.len() - head_and_body(&parsed));
        let one = &bytes[..end];
        let mut stream = Vec::new();
        for _ in 0..3 {
            stream.extend_from_slice(one);
            stream.extend_from_slice(PING);
        }
        let (pieces, lost) = whole(&stream);
        assert_eq!(lost, None, "{name}");
        let one = message(one);
        let expected = [one.clone(), Piece::Ping, one.clone(), Piece::Ping, one, Piece::Ping];
        assert!(pieces == expected, "{name}: {pieces:?}");
    }
    assert!(seen > 40, "{seen}");
}

/// Bytes of the head, its empty line and the body: what is behind them belongs to the next message.
fn head_and_body(message: &Message) -> usize {
    let all = message.as_bytes();
    message.body().as_ptr() as usize - all.as_ptr() as usize + message.body().len()
}

#[test]
fn the_second_message_behind_a_length_is_a_message_of_its_own() {
    let case = rfc4475::case("dblreq").unwrap();
    let (pieces, lost) = whole(case.bytes);
    let methods: Vec<String> = pieces
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Message(bytes) => Some(Message::parse(bytes).unwrap().method().as_str().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(methods, ["REGISTER", "INVITE"]);
    // The RFC's second message has three bytes more than its Content-Length says: over a stream, the
    // beginning of nothing.
    assert_eq!(lost.map(|lost| lost.why), Some(Why::NotSip));
}

#[test]
fn lengths_are_read_in_every_way_that_the_grammar_has() {
    for line in
        ["Content-Length: 3", "l:3", "CONTENT-LENGTH  :\r\n\t3  ", "L\t: 3\r", "l:3\r\nContent-Length:003"]
    {
        let text = format!(
            "OPTIONS sip:x SIP/2.0\r\nf: l: 9\r\n l: 9\r\n{line}\r\nX: y\r\n\r\nabcSIP/2.0 200 OK\nl:0\n\n"
        );
        let (pieces, lost) = whole(text.as_bytes());
        assert_eq!((pieces.len(), lost), (2, None), "{line:?}");
        let Piece::Message(first) = &pieces[0] else { panic!("{pieces:?}") };
        assert_eq!(Message::parse(first.clone()).unwrap().body(), b"abc", "{line:?}");
    }
}

#[test]
fn what_has_no_length_or_a_wrong_one_or_too_much_of_it_is_lost_and_answered() {
    let head = "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n";
    let lines = [
        ("X: y\r\n\r\n", Why::NoContentLength, 400),
        ("l: -1\r\n\r\n", Why::BadContentLength, 400),
        ("l: 1 1\r\n\r\n", Why::BadContentLength, 400),
        ("l: 1\r\nl: 2\r\n\r\n", Why::BadContentLength, 400),
        ("l:\r\n\r\n", Why::BadContentLength, 400),
        ("l: 70000\r\n\r\n", Why::MessageTooLarge, 513),
        ("l: 99999999999999999999\r\n\r\n", Why::MessageTooLarge, 513),
    ];
    let long = format!("{head}X: {}", "y".repeat(MAX_MESSAGE));
    for (bytes, expected, status) in lines
        .iter()
        .map(|(line, why, status)| (format!("{head}{line}abc"), *why, *status))
        .chain([(long, Why::HeadTooLarge, 513)])
    {
        let lost = whole(bytes.as_bytes()).1.unwrap();
        assert_eq!(lost.why, expected, "{lost}");
        let answer = lost.answer("192.0.2.3:4000".parse().unwrap()).unwrap();
        let answer = Message::parse(answer.into()).unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.top_via().unwrap().received, Some("192.0.2.3"));
    }
    for silent in [
        "ACK sip:x SIP/2.0\r\nVia: SIP/2.0/TCP h\r\n\r\n",
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP h\r\n\r\n",
        "OPTIONS sip:x SIP/2.0\r\n\r\n",
    ] {
        let lost = whole(silent.as_bytes()).1.unwrap();
        assert_eq!(lost.answer("192.0.2.3:4000".parse().unwrap()), None, "{silent}");
    }
}

#[test]
fn what_is_not_sip_is_known_at_once_and_never_answered() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01",
        b"\r\n\r\n\0",
        b"SIP/2.0 20 OK\r\n",
        b"INVITE\r\n",
        b"\nSSH-2.0-x\r\n",
    ] {
        let lost = whole(bytes).1.unwrap();
        assert_eq!(
            (lost.why, lost.answer("192.0.2.3:4000".parse().unwrap())),
            (Why::NotSip, None),
            "{bytes:?}"
        );
    }
    assert_eq!(why(b"INVITE sip:x SIP/2.0"), None, "the line may go on");
}

#[test]
fn a_limit_counts_head_and_body_together() {
    let bytes = options(&[b'x'; 100]);
    for (limit, expected) in
        [(bytes.len(), None), (bytes.len() - 1, Some(Why::MessageTooLarge)), (60, Some(Why::HeadTooLarge))]
    {
        let (pieces, lost) = framed(&mut Framer::accepted(limit), &bytes, &[]);
        assert_eq!(lost.map(|l| l.why), expected, "{limit}");
        assert_eq!(pieces.len(), usize::from(expected.is_none()));
        // A sender who dribbles is found out as soon as the limit is passed, not at the end.
        let mut framer = Framer::accepted(limit);
        let cuts: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(framed(&mut framer, &bytes, &cuts).1.map(|l| l.why), expected);
    }
}

#[test]
fn a_start_line_beyond_the_limit_is_too_large_however_it_is_cut() {
    let bytes = [&[b'A'; 130][..], b"\r\n"].concat();
    for cuts in [&[][..], &[100], &[128], &[129, 130]] {
        let lost = framed(&mut Framer::accepted(128), &bytes, cuts).1.unwrap();
        assert_eq!(lost.why, Why::HeadTooLarge, "{cuts:?}");
    }
}

#[test]
fn pings_are_answered_however_they_are_cut_and_pongs_are_not_taken_for_them() {
    let bytes = options(b"");
    let mut stream = PING.to_vec();
    stream.extend_from_slice(&bytes);
    stream.extend_from_slice(PING);
    stream.extend_from_slice(PING);
    for cut in 0..stream.len() {
        let (pieces, lost) = framed(&mut Framer::accepted(MAX_MESSAGE), &stream, &[cut]);
        assert_eq!(pieces, [Piece::Ping, message(&bytes), Piece::Ping, Piece::Ping], "{cut}");
        assert_eq!(lost, None);
    }
    // The side that pings gets single line ends, each by itself, and between messages.
    let mut client = Framer::opened(MAX_MESSAGE);
    for _ in 0..3 {
        assert_eq!(framed(&mut client, PONG, &[]).0, [Piece::Pong]);
    }
    assert_eq!(
        framed(&mut client, &[PONG, &bytes, PONG].concat(), &[]).0,
        [Piece::Pong, message(&bytes), Piece::Pong]
    );
    // On an accepted connection one line end before a message is only RFC 3261 7.5's.
    let mut server = Framer::accepted(MAX_MESSAGE);
    assert_eq!(framed(&mut server, PONG, &[]).0, []);
    assert_eq!(framed(&mut server, &bytes, &[]).0, [Piece::Pong, message(&bytes)]);
}

#[test]
fn a_sender_who_never_ends_can_be_told_by_the_time() {
    let mut framer = Framer::accepted(MAX_MESSAGE);
    framer.push(now(5), PING);
    assert_eq!(framer.next_piece(), Ok(Some(Piece::Ping)));
    assert_eq!((framer.next_piece(), framer.unfinished_since_ns()), (Ok(None), None));
    let bytes = options(b"abc");
    for (i, byte) in bytes.iter().enumerate() {
        framer.push(now(10 + i as u64), &[*byte]);
        let piece = framer.next_piece().unwrap();
        let last = i + 1 == bytes.len();
        assert_eq!(piece.is_some(), last);
        assert_eq!(framer.unfinished_since_ns(), (!last).then_some(ms(10)), "{i}");
    }
    // The next message's time is its own, also when it began in the same push.
    framer.push(now(900), &[&bytes[..], b"OPT"].concat());
    assert!(matches!(framer.next_piece(), Ok(Some(Piece::Message(_)))));
    assert_eq!((framer.next_piece(), framer.unfinished_since_ns()), (Ok(None), Some(ms(900))));
}

#[test]
fn a_websocket_message_is_one_message() {
    let bytes = Bytes::from(options(b"abc"));
    assert_eq!(websocket(bytes.clone()), Ok(Piece::Message(bytes)));
    let no_length = Bytes::from_static(b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/WS h\r\n\r\nabc");
    assert_eq!(websocket(no_length.clone()), Ok(Piece::Message(no_length)));
    assert_eq!(websocket(Bytes::from_static(PING)), Ok(Piece::Ping));
    assert_eq!(websocket(Bytes::from_static(PONG)), Ok(Piece::Pong));
    assert_eq!(websocket(Bytes::from_static(b"{}")), Err(Fault::NotSip));
    assert_eq!(websocket(Bytes::new()), Err(Fault::NotSip));
    assert_eq!(websocket(vec![b'x'; MAX_MESSAGE + 1].into()), Err(Fault::TooLarge));
}

/// Lines that a stream may hold, some of which break the framing.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("INVITE sip:x SIP/2.0".to_owned()),
        Just("SIP/2.0 200 OK".to_owned()),
        Just(String::new()),
        "[lL]: ?[0-9]{1,3}",
        Just("Content-Length\t:\r\n 2".to_owned()),
        "[A-Za-z-]{1,8}:[ -~]{0,8}",
        "[ \t][ -~]{0,5}",
        "[\r\n -~]{0,6}",
    ]
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_its_pieces_are_the_same(
        lines in prop::collection::vec((line(), prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n"])), 0..24),
        cuts in prop::collection::vec(0_usize..300, 0..12),
        limit in 20_usize..400,
        opened in any::<bool>(),
    ) {
        let text: String = lines.iter().flat_map(|(line, end)| [line.as_str(), end]).collect();
        let new = || if opened { Framer::opened(limit) } else { Framer::accepted(limit) };
        let (one, two) = (framed(&mut new(), text.as_bytes(), &[]), framed(&mut new(), text.as_bytes(), &cuts));
        // A pong is told as soon as it is there, so a cut decides between two pongs and a ping.
        let count = |pieces: &[Piece]| pieces.iter().map(|p| match p { Piece::Pong => 1, Piece::Ping => 2, _ => 0 }).sum::<usize>();
        let messages = |pieces: Vec<Piece>| pieces.into_iter().filter(|p| matches!(p, Piece::Message(_))).collect::<Vec<_>>();
        prop_assert_eq!(count(&one.0), count(&two.0));
        if !opened {
            prop_assert_eq!(&one.0, &two.0);
        }
        prop_assert_eq!(one.1.map(|l| l.why), two.1.map(|l| l.why));
        prop_assert_eq!(messages(one.0), messages(two.0));
    }

    #[test]
    fn a_frame_ends_where_the_parser_sees_the_body_end(
        lines in prop::collection::vec(line(), 0..8), length in 0_usize..20, behind in "[ -~]{20}",
    ) {
        let head: String = lines.iter().flat_map(|l| [l, "\r\n"]).collect();
        let text = format!("OPTIONS sip:x SIP/2.0\r\n{head}l: {length}\r\n\r\n{behind}");
        let parsed = Message::parse(text.clone().into());
        match (whole(text.as_bytes()).0.first(), parsed) {
            (Some(Piece::Message(framed)), Ok(message)) => {
                let end = head_and_body(&message);
                // Without a length the datagram's end is the message's, and the stream's framing is lost.
                prop_assert_eq!(&framed[..], &text.as_bytes()[..end]);
            }
            (Some(Piece::Message(framed)), Err(error)) => {
                prop_assert!(matches!(Message::parse(framed.clone()), Err(again) if again.fault == error.fault));
            }
            (Some(other), _) => prop_assert!(false, "{other:?}"),
            // An empty line ended the head before the length.
            (None, Ok(message)) => prop_assert!(message.header(Name::ContentLength).is_none_or(|l| l.parse::<usize>().unwrap() > 20)),
            (None, Err(_)) => {}
        }
    }
}

//! Offer and answer, by behaviour.

use cordboard_sip::sdp::{Codec, Connection, Direction, Local, SdpError, Session, agreed, answer, offer};

const BOTH: &[Codec] = &[Codec::Pcmu, Codec::Pcma];

fn local() -> Local {
    Local { address: "192.0.2.1".parse().unwrap(), port: 30_000, session_id: 7, version: 1 }
}

fn parse(text: &str) -> Session {
    Session::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

const PHONE: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 host.anywhere.com\r\ns=call\r\ni=extra\r\nc=IN IP4 203.0.113.9\r\nb=AS:84\r\nt=0 0\r\na=x-own:1\r\n\
m=video 51372 RTP/AVP 31 32\r\na=rtpmap:31 H261/90000\r\n\
m=audio 49170/2 RTP/AVP 9 8 0 96\r\na=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\na=ptime:30\r\na=rtcp:49200 IN IP4 203.0.113.10\r\n\
m=audio 49180 RTP/AVP 0\r\n";

#[test]
fn a_description_prints_back_as_it_was() {
    assert_eq!(parse(PHONE).to_string(), PHONE);
    let session = parse(&PHONE.replace("\r\n", "\n"));
    assert_eq!((session.line('i'), session.attribute("x-own")), (Some("extra"), Some("1")));
    let audio = &session.media[1];
    assert_eq!(
        (audio.port, audio.ports, audio.rtpmap(8), audio.fmtp(96)),
        (49_170, Some(2), Some(("PCMA", 8000, 1)), Some("0-15"))
    );
    assert_eq!(session.connection(audio), Some(Connection::Address("203.0.113.9".parse().unwrap())));
}

#[test]
fn a_payload_type_counts_once_however_often_it_is_named() {
    let session = parse("v=0\r\nm=audio 4000 RTP/AVP 99 8 99 128 8 x 300 127 127 0\r\n");
    assert_eq!(session.media[0].payload_types().collect::<Vec<_>>(), [99, 8, 127, 0]);
    assert_eq!(session.media[0].formats.len(), 10);
}

#[test]
fn an_offer_is_accepted_with_its_first_codec_that_is_ours_and_the_rest_refused_in_order() {
    let (sdp, agreed) = answer(&parse(PHONE), &local(), BOTH, Direction::SendRecv).unwrap();
    let mine = parse(&sdp);
    assert_eq!(
        mine.media.iter().map(|m| (m.kind.as_str(), m.port)).collect::<Vec<_>>(),
        [("video", 0), ("audio", 30_000), ("audio", 0)]
    );
    assert_eq!(mine.media[1].formats, ["8", "96"]);
    assert_eq!((agreed.codec, agreed.payload_type, agreed.dtmf_payload_type), (Codec::Pcma, 8, Some(96)));
    assert_eq!(agreed.remote, "203.0.113.9:49170".parse().unwrap());
    assert_eq!(agreed.remote_rtcp, Some("203.0.113.10:49200".parse().unwrap()));
    assert_eq!((agreed.ptime_ms, agreed.direction), (30, Direction::SendRecv));
    // Our wish for PCMU alone goes before the offer's order.
    let (_, agreed) = answer(&parse(PHONE), &local(), &[Codec::Pcmu], Direction::SendRecv).unwrap();
    assert_eq!(agreed.codec, Codec::Pcmu);
}

#[test]
fn our_offer_and_its_answer_agree_on_both_sides() {
    for (codecs, ours) in [(BOTH, Direction::SendRecv), (&[Codec::Pcma][..], Direction::SendOnly)] {
        let mine = offer(&local(), codecs, ours);
        let there =
            Local { address: "2001:db8::5".parse().unwrap(), port: 40_000, session_id: 9, version: 3 };
        let (theirs, at_them) = answer(&parse(&mine), &there, BOTH, Direction::SendRecv).unwrap();
        let at_us = agreed(&parse(&theirs)).unwrap();
        assert_eq!(at_us.remote, "[2001:db8::5]:40000".parse().unwrap());
        assert_eq!(at_them.remote, "192.0.2.1:30000".parse().unwrap());
        assert_eq!(
            (at_us.codec, at_us.payload_type, at_us.dtmf_payload_type, at_us.ptime_ms),
            (codecs[0], codecs[0].payload_type(), Some(101), 20)
        );
        assert_eq!((at_us.direction, at_them.direction), (ours, ours.mirrored()));
    }
}

#[test]
fn hold_is_seen_in_all_its_forms() {
    let base = offer(&local(), BOTH, Direction::SendRecv);
    let table = [
        ("a=sendrecv", "a=sendonly", Direction::RecvOnly),
        ("a=sendrecv", "a=inactive", Direction::Inactive),
        ("a=sendrecv", "a=recvonly", Direction::SendOnly),
        ("a=sendrecv\r\n", "", Direction::SendRecv),
        ("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0", Direction::RecvOnly),
        ("c=IN IP4 192.0.2.1", "c=IN IP6 ::", Direction::RecvOnly),
        ("s=-", "s=-\r\na=inactive", Direction::SendRecv), // the stream's own word goes before the session's
    ];
    for (from, to, ours) in table {
        let (_, agreed) =
            answer(&parse(&base.replace(from, to)), &local(), BOTH, Direction::SendRecv).unwrap();
        assert_eq!(agreed.direction, ours, "{to}");
    }
    let session_level = base.replace("a=sendrecv\r\n", "").replace("s=-", "s=-\r\na=inactive");
    assert_eq!(agreed(&parse(&session_level)).unwrap().direction, Direction::Inactive);
    // We hold them: what we want and what they allow.
    let (sdp, agreed) = answer(&parse(&base), &local(), BOTH, Direction::SendOnly).unwrap();
    assert_eq!(agreed.direction, Direction::SendOnly);
    assert!(sdp.contains("a=sendonly"));
}

#[test]
fn what_cannot_be_used_is_said_with_its_status() {
    let good = offer(&local(), BOTH, Direction::SendRecv);
    let table = [
        ("m=audio 30000", "m=audio 0", SdpError::NoAudio),
        ("m=audio", "m=video", SdpError::NoAudio),
        ("RTP/AVP", "UDP/TLS/RTP/SAVPF", SdpError::NoCodec),
        ("RTP/AVP 0 8 101", "RTP/AVP 18 101", SdpError::NoCodec),
        (
            "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000",
            "a=rtpmap:0 PCMU/16000\r\na=rtpmap:8 PCMA/8000/2",
            SdpError::NoCodec,
        ),
        ("c=IN IP4 192.0.2.1\r\n", "", SdpError::NoAddress),
        ("c=IN IP4 192.0.2.1", "c=IN IP4 media.example.com", SdpError::NoAddress),
    ];
    for (from, to, error) in table {
        let text = good.replace(from, to);
        assert_ne!(text, good);
        assert_eq!(answer(&parse(&text), &local(), BOTH, Direction::SendRecv).unwrap_err(), error, "{to}");
        assert_eq!(error.status(), 488);
    }
    for bad in [
        "",
        "hello",
        "o=- 1 1 IN IP4 1.1.1.1",
        "v=0\r\nnonsense",
        "v=0\r\nm=audio x RTP/AVP 0",
        "v=0\r\nm=audio 1 RTP/AVP",
        "v=1\r\n",
    ] {
        assert_eq!(Session::parse(bad.as_bytes()).unwrap_err().status(), 400, "{bad}");
    }
    assert!(Session::parse(format!("v=0\r\n{}", "m=audio 1 RTP/AVP 0\r\n".repeat(33)).as_bytes()).is_err());
}

#[test]
fn a_dynamic_payload_type_may_name_g711() {
    let text = offer(&local(), BOTH, Direction::SendRecv)
        .replace("RTP/AVP 0 8 101", "RTP/AVP 110")
        .replace("rtpmap:8 PCMA", "rtpmap:110 pcma");
    let agreed = agreed(&parse(&text)).unwrap();
    assert_eq!((agreed.codec, agreed.payload_type, agreed.dtmf_payload_type), (Codec::Pcma, 110, None));
}

//! Reliable provisional responses (RFC 3262), UPDATE (RFC 3311) and session timers (RFC 4028), both roles
//! against each other and against raw text.

use cordboard_sip::endpoint::{End, Event, LegId};
use cordboard_sip::wire::{Message, Method, Name};

use crate::harness::{Fate, Net, SDP_A, SDP_B};

fn progress(net: &mut Net, end: usize) -> Option<(u16, Message)> {
    match net.next(end, 5_000) {
        Some(Event::Progress { status, response, .. }) => Some((status, response)),
        _ => None,
    }
}

/// End 0 calls end 1, which has sent a 183 with its answer that is acknowledged by PRACK.
fn early(net: &mut Net) -> (LegId, LegId) {
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].progress(net.now, b, 183, Some(SDP_B));
    let (status, response) = progress(net, 0).expect("a 183");
    assert_eq!(status, 183);
    assert_eq!(response.header(Name::Require), Some("100rel"));
    net.run_ms(100);
    (a, b)
}

#[test]
fn a_183_with_audio_is_acknowledged_and_the_200_follows() {
    let mut net = Net::new(2);
    let (a, b) = early(&mut net);
    assert_eq!((net.sent(0, "PRACK"), net.sent(1, "SIP/2.0 183")), (1, 1));
    net.ends[1].progress(net.now, b, 180, None);
    assert_eq!(progress(&mut net, 0).map(|p| p.0), Some(180));
    net.ends[1].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(0, 1_000), Some(Event::Answered { leg, .. }) if leg == a));
    assert!(matches!(net.next(1, 1_000), Some(Event::Confirmed { .. })));
    net.ends[0].hang_up(net.now, a, None);
    assert!(
        matches!(net.next(1, 1_000), Some(Event::Ended { cause: End::Bye(bye), .. })
        if bye.cseq().map(|c| c.0) == Some(3)),
        "the numbers of the early dialog go on"
    );
    net.assert_nothing_left();
}

#[test]
fn a_lost_183_is_sent_again_and_heard_once_and_the_200_waits_for_its_prack() {
    let mut net = Net::new(2);
    let mut lost = 0;
    net.filter = Some(Box::new(move |from, m| {
        let drop =
            from == 1 && m.status() == 183 || from == 0 && m.is_request() && m.method() == Method::Prack;
        lost += u32::from(drop);
        if drop && lost <= 3 { Fate::Drop } else { Fate::Pass }
    }));
    net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].progress(net.now, b, 183, Some(SDP_B));
    net.ends[1].progress(net.now, b, 180, Some(SDP_B));
    net.ends[1].answer(net.now, b, Some(SDP_B));
    let mut heard = Vec::new();
    while let Some(event) = net.next(0, 10_000) {
        match event {
            Event::Progress { status, .. } => heard.push(status),
            Event::Answered { .. } => heard.push(200),
            other => panic!("{other:?}"),
        }
    }
    // What waited behind the 183 is overtaken by the answer.
    assert_eq!(heard, [183, 200]);
    assert!(net.sent(1, "SIP/2.0 183") > 2);
    let first_200 = net.wire.iter().position(|(from, l)| *from == 1 && l.starts_with("SIP/2.0 200")).unwrap();
    let prack = net.wire.iter().position(|(_, l)| l.starts_with("PRACK")).unwrap();
    assert!(prack < first_200);
    net.ends[1].hang_up(net.now, b, None);
    net.assert_nothing_left();
}

#[test]
fn a_caller_that_never_acknowledges_gets_504_and_the_callee_hears_it() {
    let mut net = Net::new(2);
    net.filter =
        Some(Box::new(
            |_, m| {
                if m.is_request() && m.method() == Method::Prack { Fate::Drop } else { Fate::Pass }
            },
        ));
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].progress(net.now, b, 183, Some(SDP_B));
    assert!(progress(&mut net, 0).is_some());
    assert!(matches!(net.next(1, 40_000), Some(Event::Ended { leg, cause: End::NoPrack }) if leg == b));
    assert!(matches!(net.next(0, 1_000), Some(Event::Rejected { leg, status: 504, .. }) if leg == a));
    net.assert_nothing_left();
}

const REQUIRED: &str = "INVITE sip:bob@10.0.0.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKr1
From: <sip:a@192.0.2.1>;tag=raw
To: <sip:bob@10.0.0.1>
Call-ID: raw
CSeq: 7 INVITE
Max-Forwards: 70
Contact: <sip:a@192.0.2.1>
Require: 100rel
Content-Type: application/sdp

";

#[test]
fn who_requires_100rel_gets_every_provisional_so_and_a_wrong_prack_481() {
    let mut net = Net::new(1);
    net.raw("192.0.2.1:5060", 0, &format!("{REQUIRED}{SDP_A}"));
    let leg = net.incoming(0);
    net.ends[0].progress(net.now, leg, 180, None);
    net.ends[0].progress(net.now, leg, 183, Some(SDP_B));
    net.run_ms(100);
    let of = |net: &Net, status: u16| net.stray.iter().filter(|(_, m)| m.status() == status).count();
    assert_eq!((of(&net, 180), of(&net, 183)), (1, 0), "the second waits for the PRACK of the first");
    let ringing = net.stray.iter().find(|(_, m)| m.status() == 180).unwrap().1.clone();
    let rseq: u32 = ringing.header(Name::RSeq).unwrap().parse().unwrap();
    let to = ringing.header(Name::To).unwrap().to_owned();
    let prack = |n: u32, rack: String| {
        format!(
            "PRACK sip:10.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKp{n}\n\
             From: <sip:a@192.0.2.1>;tag=raw\nTo: {to}\nCall-ID: raw\nCSeq: {n} PRACK\nMax-Forwards: 70\nRAck: {rack}\n\n"
        )
    };
    for (n, rack) in
        [(8, format!("{} 7 INVITE", rseq + 1)), (9, format!("{rseq} 8 INVITE")), (10, "x".to_owned())]
    {
        net.stray.clear();
        net.raw("192.0.2.1:5060", 0, &prack(n, rack));
        net.run_ms(10);
        assert_eq!((of(&net, 481), of(&net, 183)), (1, 0));
    }
    net.stray.clear();
    net.raw("192.0.2.1:5060", 0, &prack(11, format!("{rseq} 7 INVITE")));
    net.run_ms(10);
    assert_eq!((of(&net, 200), of(&net, 183)), (1, 1));
    let next = net.stray.iter().find(|(_, m)| m.status() == 183).unwrap().1.clone();
    assert_eq!(next.header(Name::RSeq), Some((rseq + 1).to_string().as_str()));
    // An offer in the PRACK is answered in its 200 (RFC 3262 5); here it is a part of the body.
    net.stray.clear();
    let parts = "Content-Type: multipart/mixed;boundary=b";
    let offer = prack(12, format!("{} 7 INVITE\n{parts}", rseq + 1))
        + &format!("--b\n\nhello\n--b\nContent-Type: application/sdp\n\n{SDP_A}\n--b--\n");
    net.raw("192.0.2.1:5060", 0, &offer);
    assert!(matches!(net.next(0, 10), Some(Event::Offer { request, .. }) if request.has_sdp()));
    net.ends[0].accept_offer(net.now, leg, Some(SDP_B));
    net.run_ms(10);
    assert!(net.stray.iter().any(|(_, m)| m.status() == 200 && m.has_sdp()));
    // Whoever requires what we have not is told so.
    net.stray.clear();
    let strange = REQUIRED.replace("100rel", "100rel, strange").replace("raw", "raw2").replace("KR1", "Kr2");
    net.raw("192.0.2.1:5060", 0, &format!("{strange}{SDP_A}").replace("z9hG4bKr1", "z9hG4bKr9"));
    net.run_ms(10);
    let refusal = &net.stray.iter().find(|(_, m)| m.status() == 420).expect("420").1;
    assert_eq!(refusal.header(Name::Unsupported), Some("strange"));
    net.ends[0].reject(net.now, leg, 486, &[]);
    net.run_ms(100_000);
    assert_eq!(net.ends[0].counts().legs, 0);
}

#[test]
fn both_sides_may_offer_by_update_before_the_answer() {
    let mut net = Net::new(2);
    let (a, b) = early(&mut net);
    for (from, to, (mine, theirs)) in [(0, 1, (a, b)), (1, 0, (b, a))] {
        assert!(net.ends[from].update(net.now, mine, SDP_A), "end {from}");
        assert!(matches!(net.next(to, 1_000), Some(Event::Offer { leg, request })
            if leg == theirs && request.method() == Method::Update && request.has_sdp()));
        net.ends[to].accept_offer(net.now, theirs, Some(SDP_B));
        assert!(
            matches!(net.next(from, 1_000), Some(Event::OfferResult { leg, result: Ok(_) }) if leg == mine)
        );
    }
    net.ends[1].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(0, 1_000), Some(Event::Answered { .. })));
    assert!(matches!(net.next(1, 1_000), Some(Event::Confirmed { .. })));
    assert!(net.ends[1].update(net.now, b, SDP_A));
    assert!(matches!(net.next(0, 1_000), Some(Event::Offer { .. })));
    net.ends[0].refuse_offer(net.now, a, 488);
    assert!(matches!(net.next(1, 1_000), Some(Event::OfferResult { result: Err(488), .. })));
    net.ends[1].hang_up(net.now, b, None);
    net.assert_nothing_left();
}

#[test]
fn an_update_before_any_answer_is_refused_and_two_at_once_are_glare_that_ends() {
    let mut net = Net::new(2);
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    assert!(!net.ends[0].update(net.now, a, SDP_A) && !net.ends[1].update(net.now, b, SDP_A));
    net.ends[1].answer(net.now, b, Some(SDP_B));
    net.next(0, 1_000);
    net.next(1, 1_000);
    assert!(net.ends[0].update(net.now, a, SDP_A) && net.ends[1].update(net.now, b, SDP_B));
    let mut done = 0;
    for _ in 0..60 {
        net.run_ms(200);
        for (end, leg) in [(0, a), (1, b)] {
            for event in net.drained(end) {
                match event {
                    Event::Offer { .. } => net.ends[end].accept_offer(net.now, leg, Some(SDP_B)),
                    Event::OfferResult { result: Ok(_), .. } => done += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(done, 2);
    assert!(net.sent(0, "SIP/2.0 491") + net.sent(1, "SIP/2.0 491") >= 2);
    net.ends[0].hang_up(net.now, a, None);
    net.assert_nothing_left();
}

#[test]
fn a_session_is_refreshed_for_hours_and_ends_when_a_side_is_gone() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    assert_eq!(
        (net.ends[0].session_interval_s(a), net.ends[1].session_interval_s(b)),
        (Some(180), Some(180))
    );
    net.run_ms(3_600_000);
    assert!(net.drained(0).is_empty() && net.drained(1).is_empty(), "nobody has to hear of it");
    let updates = net.sent(0, "UPDATE") + net.sent(1, "UPDATE");
    assert!((38..=41).contains(&updates), "every 90 seconds: {updates}");
    // The refresher's cable is cut: the other side notices by itself.
    net.filter = Some(Box::new(|from, _| if from == 0 { Fate::Drop } else { Fate::Pass }));
    assert!(matches!(net.next(1, 181_000), Some(Event::Ended { cause: End::NoAnswer, .. })));
    assert!(matches!(net.next(0, 181_000), Some(Event::Ended { .. })));
    net.filter = None;
    net.assert_nothing_left();
}

#[test]
fn an_interval_that_is_too_small_is_raised_in_both_roles() {
    // The callee wants more than the caller asks for: 422, and the caller asks again.
    let mut net = Net::with(2, 1, |config| {
        if config.shard == 1 {
            (config.min_se_s, config.session_expires_s) = (600, 1_200);
        }
    });
    let (a, b) = net.established();
    assert_eq!((net.sent(1, "SIP/2.0 422"), net.sent(0, "INVITE")), (1, 2));
    assert_eq!(
        (net.ends[0].session_interval_s(a), net.ends[1].session_interval_s(b)),
        (Some(600), Some(600))
    );
    net.ends[0].hang_up(net.now, a, None);
    net.assert_nothing_left();
    // Without timers on one side there are none.
    let mut net = Net::with(2, 1, |config| config.session_expires_s *= u32::from(config.shard == 0));
    let (a, b) = net.established();
    assert_eq!((net.ends[0].session_interval_s(a), net.ends[1].session_interval_s(b)), (None, None));
    net.run_ms(1_000_000);
    assert_eq!(net.sent(0, "UPDATE") + net.sent(1, "UPDATE"), 0);
    net.ends[0].hang_up(net.now, a, None);
    net.assert_nothing_left();
}

#[test]
fn a_phone_without_update_is_refreshed_by_re_invite_with_what_was_said_last() {
    let mut net = Net::new(1);
    let invite = REQUIRED.replace(
        "Require: 100rel",
        "Supported: timer\nSession-Expires: 300;refresher=uas\nAllow: INVITE, BYE",
    );
    net.raw("192.0.2.1:5060", 0, &format!("{invite}{SDP_A}"));
    let leg = net.incoming(0);
    net.ends[0].answer(net.now, leg, Some(SDP_B));
    net.run_ms(10);
    let ok = net.stray.iter().find(|(_, m)| m.status() == 200).unwrap().1.clone();
    assert_eq!(ok.header(Name::SessionExpires), Some("180;refresher=uas"));
    let to = ok.header(Name::To).unwrap();
    net.raw(
        "192.0.2.1:5060",
        0,
        &format!(
            "ACK sip:10.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKack\nFrom: <sip:a@192.0.2.1>;tag=raw\n\
             To: {to}\nCall-ID: raw\nCSeq: 7 ACK\nMax-Forwards: 70\n\n"
        ),
    );
    assert!(matches!(net.next(0, 10), Some(Event::Confirmed { .. })));
    net.stray.clear();
    net.run_ms(91_000);
    let refresh = &net.stray.front().expect("a refresh").1;
    assert_eq!((refresh.method(), refresh.body()), (Method::Invite, SDP_B.as_bytes()));
    assert_eq!(refresh.header(Name::SessionExpires), Some("180;refresher=uac"));
    // Nobody answers it: the session is over.
    assert!(matches!(net.next(0, 100_000), Some(Event::Ended { cause: End::NoAnswer, .. })));
    net.assert_nothing_left();
}

/// A response of a fork to the last INVITE that was sent to nobody.
fn fork(invite: &Message, status: &str, tag: &str, more: &str) -> String {
    let copied = |name: &str| invite.other(name).unwrap();
    format!(
        "SIP/2.0 {status}\nVia: {}\nFrom: {}\nTo: {};tag={tag}\nCall-ID: {}\nCSeq: {}\nContact: <sip:{tag}@10.0.0.3{}>\n{more}",
        copied("Via"),
        copied("From"),
        copied("To"),
        copied("Call-ID"),
        copied("CSeq"),
        if tag == "one" { "1" } else { "2" },
    )
}

#[test]
fn each_fork_s_reliable_response_is_acknowledged_in_its_own_dialog_and_one_fork_wins() {
    let mut net = Net::new(1);
    let a = net.place(0, net.invite(7));
    net.run_ms(10);
    let invite = net.stray.pop_front().unwrap().1;
    let rel = |rseq: u32| format!("Require: 100rel\nRSeq: {rseq}\n");
    let say = |net: &mut Net, text: String| net.raw("10.0.0.8:5060", 0, &text);
    say(&mut net, fork(&invite, "183 Session Progress", "one", &rel(17)));
    say(&mut net, fork(&invite, "180 Ringing", "two", &rel(900)));
    // Again, out of order, and the next in order.
    say(&mut net, fork(&invite, "183 Session Progress", "one", &rel(17)));
    say(&mut net, fork(&invite, "180 Ringing", "one", &rel(19)));
    say(&mut net, fork(&invite, "180 Ringing", "one", &rel(18)));
    net.run_ms(20);
    let pracks: Vec<_> = net
        .stray
        .iter()
        .filter(|(_, m)| m.method() == Method::Prack)
        .map(|(to, m)| format!("{} {to} {}", m.header(Name::RAck).unwrap(), m.cseq().unwrap().0))
        .collect();
    assert_eq!(
        pracks,
        ["17 1 INVITE 10.0.0.31:5060 2", "900 1 INVITE 10.0.0.32:5060 2", "18 1 INVITE 10.0.0.31:5060 3"]
    );
    let heard: Vec<u16> = net
        .drained(0)
        .into_iter()
        .map(|e| if let Event::Progress { status, .. } = e { status } else { panic!("{e:?}") })
        .collect();
    assert_eq!(heard, [183, 180, 180], "each once");
    net.stray.clear();
    say(&mut net, fork(&invite, "200 OK", "two", ""));
    say(&mut net, fork(&invite, "200 OK", "one", ""));
    net.run_ms(20);
    assert!(matches!(net.next(0, 10), Some(Event::Answered { leg, .. }) if leg == a));
    let of = |net: &Net, method: Method<'static>| -> Vec<_> {
        net.stray.iter().filter(|(_, m)| m.method() == method).map(|(to, _)| to.to_string()).collect()
    };
    assert_eq!(of(&net, Method::Ack), ["10.0.0.32:5060", "10.0.0.31:5060"]);
    assert_eq!(of(&net, Method::Bye), ["10.0.0.31:5060"], "the loser");
    net.ends[0].hang_up(net.now, a, None);
    net.assert_nothing_left();
}

/// Two ends that talk; what end 1 hears of a REFER of end 0.
fn referred(net: &mut Net, a: LegId, to: &str) -> (cordboard_sip::endpoint::TxnId, String, Option<String>) {
    net.ends[0].refer(net.now, a, to, Some("<sip:a@x>")).expect("sent");
    match net.next(1, 1_000) {
        Some(Event::Refer { txn, target, replaces, referred_by, quiet: false, .. }) => {
            assert_eq!(referred_by.as_deref(), Some("<sip:a@x>"));
            (txn, target, replaces)
        }
        other => panic!("{other:?}"),
    }
}

/// The bodies of the NOTIFYs that end 0 gets, each answered.
fn notified(net: &mut Net) -> Vec<(String, String)> {
    net.run_ms(200);
    let mut seen = Vec::new();
    for event in net.drained(0) {
        match event {
            Event::Request { txn, request, .. } => {
                assert_eq!(request.content_type(), Some("message/sipfrag"));
                let event = request.header(Name::Event).unwrap().to_owned();
                seen.push((event, String::from_utf8_lossy(request.body()).trim().to_owned()));
                net.ends[0].respond(net.now, txn, 200, &[], None);
            }
            Event::Response { result, .. } => assert_eq!(result.expect("an answer").status(), 202),
            other => panic!("{other:?}"),
        }
    }
    seen
}

#[test]
fn a_transfer_is_reported_and_a_second_one_is_told_apart() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    let (txn, target, replaces) =
        referred(&mut net, a, "<sip:c@10.0.0.9?Replaces=x%40y%3Bto-tag%3D1%3Bfrom-tag%3D2>");
    assert_eq!(target, "sip:c@10.0.0.9");
    assert_eq!(replaces.as_deref(), Some("x@y;to-tag=1;from-tag=2"));
    let refer = net.ends[1].accept_refer(net.now, txn, b).expect("accepted");
    net.ends[1].refer_news(net.now, refer, 180);
    net.ends[1].refer_news(net.now, refer, 486);
    net.ends[1].refer_news(net.now, refer, 200);
    let plain = |text: &str| ("refer".to_owned(), text.to_owned());
    let heard = notified(&mut net);
    assert_eq!(
        heard,
        [plain("SIP/2.0 100 Trying"), plain("SIP/2.0 180 Ringing"), plain("SIP/2.0 486 Busy Here")],
        "nothing after the last word"
    );
    let (txn, ..) = referred(&mut net, a, "<sip:d@10.0.0.9>");
    let refer = net.ends[1].accept_refer(net.now, txn, b).expect("accepted");
    let heard = notified(&mut net);
    assert!(heard[0].0.starts_with("refer;id="), "{heard:?}");
    // The call may end before the transfer: the report goes on in what was its dialog.
    net.ends[1].hang_up(net.now, b, None);
    assert!(matches!(net.next(0, 1_000), Some(Event::Ended { .. })));
    net.run_ms(100);
    let before = net.sent(1, "NOTIFY");
    net.ends[1].refer_news(net.now, refer, 200);
    net.run_ms(100);
    assert_eq!(net.sent(1, "NOTIFY"), before + 1);
    assert_eq!(net.ends[1].counts().refers, 0);
    net.assert_nothing_left();
}

#[test]
fn a_refer_that_names_nobody_or_somebody_strange_is_refused() {
    let mut net = Net::new(2);
    let (a, _) = net.established();
    for (to, status) in [("<mailto:x@y>", 416), ("<sip:x@y;method=BYE>", 501), ("", 400)] {
        let number = net.ends[0].refer(net.now, a, to, None).expect("sent");
        match net.next(0, 1_000) {
            Some(Event::Response { request, result: Ok(response) }) => {
                assert_eq!((request, response.status()), (number, status), "{to}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(net.drained(1).is_empty());
    // One that nobody decides about is given up by its client, and forgotten.
    net.ends[0].refer(net.now, a, "<sip:c@10.0.0.9>", None).expect("sent");
    net.run_ms(70_000);
    net.ends[0].hang_up(net.now, a, None);
    net.run_ms(10);
    net.drained(1);
    net.assert_nothing_left();
}

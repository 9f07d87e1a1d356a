//! Calls in both directions: answer, refusal, cancelling, hanging up, and what the network loses.

use cordboard_sip::endpoint::{End, Event};

use crate::harness::{Fate, Net, SDP_A, SDP_B, address};

#[test]
fn a_call_is_answered_confirmed_and_hung_up_by_the_caller() {
    let mut net = Net::new(2);
    let a = net.place(0, net.invite(1));
    let b = match net.next(1, 1_000) {
        Some(Event::Incoming { leg, source, request, .. }) => {
            assert_eq!(source.remote, address(0));
            assert_eq!(request.body(), SDP_A.as_bytes());
            assert_eq!(net.ends[1].call_id(leg), Some(&request.call_id().into()));
            leg
        }
        other => panic!("{other:?}"),
    };
    net.ends[1].progress(net.now, b, 180, None);
    assert!(matches!(net.next(0, 1_000), Some(Event::Progress { leg, status: 180, .. }) if leg == a));
    net.ends[1].answer(net.now, b, Some(SDP_B));
    match net.next(0, 1_000) {
        Some(Event::Answered { leg, response }) => {
            assert_eq!((leg, response.body()), (a, SDP_B.as_bytes()));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(net.next(1, 1_000), Some(Event::Confirmed { leg, .. }) if leg == b));
    let (ours, theirs) = (net.ends[0].dialog(a).unwrap(), net.ends[1].dialog(b).unwrap());
    assert_eq!((&ours.local, &ours.remote), (&theirs.remote, &theirs.local));
    assert_eq!(ours.call_id, theirs.call_id);
    net.run_ms(60_000);
    net.ends[0].hang_up(net.now, a, Some("Q.850;cause=16"));
    match net.next(1, 1_000) {
        Some(Event::Ended { leg, cause: End::Bye(bye) }) => {
            assert_eq!((leg, bye.other("Reason")), (b, Some("Q.850;cause=16")));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(net.next(0, 1_000), Some(Event::Released { leg, crossed: false }) if leg == a));
    net.assert_nothing_left();
    assert_eq!(net.ends[0].counts().retransmitted, 0);
    assert_eq!(net.ends[1].counts().retransmitted, 0);
}

#[test]
fn the_callee_hangs_up() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    net.ends[1].hang_up(net.now, b, None);
    assert!(matches!(net.next(0, 1_000), Some(Event::Ended { leg, cause: End::Bye(_) }) if leg == a));
    assert!(matches!(net.next(1, 1_000), Some(Event::Released { leg, .. }) if leg == b));
    net.assert_nothing_left();
}

#[test]
fn a_busy_callee_s_refusal_reaches_the_caller_with_its_headers() {
    let mut net = Net::new(2);
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].reject(net.now, b, 486, &[("Retry-After", "30")]);
    match net.next(0, 1_000) {
        Some(Event::Rejected { leg, status: 486, response: Some(response), .. }) => {
            assert_eq!((leg, response.other("Retry-After")), (a, Some("30")));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(net.sent(0, "ACK"), 1);
    net.assert_nothing_left();
    assert!(net.drained(1).is_empty(), "a leg that was rejected is never heard of again");
}

#[test]
fn an_invite_that_nobody_hears_times_out_with_408_after_seven_sendings() {
    let mut net = Net::new(1);
    let start = net.now;
    let a = net.place(0, net.invite(5));
    let event = net.next(0, 100_000);
    assert!(matches!(event, Some(Event::Rejected { leg, status: 408, response: None, .. }) if leg == a));
    assert_eq!((net.now.mono_ns - start.mono_ns) / 1_000_000, 32_000);
    assert_eq!(net.sent(0, "INVITE"), 7);
    net.assert_nothing_left();
}

#[test]
fn a_cancelled_call_ends_on_both_sides() {
    let mut net = Net::new(2);
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].progress(net.now, b, 180, None);
    net.next(0, 1_000);
    net.ends[0].hang_up(net.now, a, Some("SIP;cause=200;text=\"Call completed elsewhere\""));
    match net.next(1, 1_000) {
        Some(Event::Ended { leg, cause: End::Cancelled(cancel) }) => {
            assert_eq!(leg, b);
            assert!(cancel.other("Reason").is_some_and(|r| r.contains("elsewhere")));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(net.next(0, 1_000), Some(Event::Released { leg, crossed: false }) if leg == a));
    assert_eq!((net.sent(1, "SIP/2.0 487"), net.sent(1, "SIP/2.0 200")), (1, 1));
    net.assert_nothing_left();
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut net = Net::new(2);
    // The first two INVITEs are lost, so nothing comes back before the third.
    let mut invites = 0;
    net.filter = Some(Box::new(move |from, m| {
        if from == 0 && m.is_request() && m.method().as_str() == "INVITE" {
            invites += 1;
            if invites < 3 {
                return Fate::Drop;
            }
        }
        Fate::Pass
    }));
    let a = net.place(0, net.invite(1));
    net.run_ms(100);
    net.ends[0].hang_up(net.now, a, None);
    net.run_ms(1_000);
    assert_eq!(net.sent(0, "CANCEL"), 0, "9.1: not before a provisional response");
    assert!(matches!(net.next(0, 5_000), Some(Event::Released { crossed: false, .. })));
    assert_eq!(net.sent(0, "CANCEL"), 1);
    assert!(matches!(
        net.drained(1)[..],
        [Event::Incoming { .. }, Event::Ended { cause: End::Cancelled(_), .. }]
    ));
    net.assert_nothing_left();
}

#[test]
fn a_cancel_that_no_final_response_follows_frees_the_leg_after_64_t1() {
    let mut net = Net::new(2);
    net.filter = Some(Box::new(|from, m| {
        if from == 1 && m.status() > 100 || m.method().as_str() == "CANCEL" { Fate::Drop } else { Fate::Pass }
    }));
    let a = net.place(0, net.invite(1));
    net.run_ms(1_000);
    net.ends[0].hang_up(net.now, a, None);
    assert!(matches!(net.next(0, 40_000), Some(Event::Released { crossed: false, .. })));
    let b = net.incoming(1);
    net.ends[1].hang_up(net.now, b, None);
    net.assert_nothing_left();
}

#[test]
fn answer_crossing_cancel_is_acked_and_released() {
    let mut net = Net::new(2);
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].progress(net.now, b, 180, None);
    net.next(0, 1_000);
    // At the same moment: the CANCEL and the 200 pass each other on the wire.
    net.ends[0].hang_up(net.now, a, None);
    net.ends[1].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(0, 1_000), Some(Event::Released { leg, crossed: true }) if leg == a));
    let events = net.drained(1);
    assert!(
        matches!(events[..], [Event::Confirmed { .. }, Event::Ended { cause: End::Bye(_), .. }]),
        "{events:?}"
    );
    net.assert_nothing_left();
}

#[test]
fn bye_crossing_bye_releases_both_sides() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    net.ends[0].hang_up(net.now, a, None);
    net.ends[1].hang_up(net.now, b, None);
    assert!(matches!(net.next(0, 1_000), Some(Event::Released { leg, .. }) if leg == a));
    assert!(matches!(net.next(1, 1_000), Some(Event::Released { leg, .. }) if leg == b));
    assert!(net.drained(0).is_empty() && net.drained(1).is_empty());
    net.assert_nothing_left();
}

#[test]
fn bye_before_the_ack_ends_the_call_and_the_late_ack_is_absorbed() {
    let mut net = Net::new(2);
    net.filter = Some(Box::new(|_, m| match m.method().as_str() {
        "ACK" => Fate::Late(300),
        _ => Fate::Pass,
    }));
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(0, 100), Some(Event::Answered { .. })));
    net.ends[0].hang_up(net.now, a, None);
    assert!(matches!(net.next(1, 100), Some(Event::Ended { leg, cause: End::Bye(_) }) if leg == b));
    net.assert_nothing_left();
    assert!(net.drained(1).is_empty());
}

#[test]
fn a_callee_that_hangs_up_before_the_ack_waits_for_it() {
    let mut net = Net::new(2);
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].answer(net.now, b, Some(SDP_B));
    net.ends[1].hang_up(net.now, b, None);
    assert_eq!(net.sent(1, "BYE"), 0, "15: not before the ACK");
    assert!(matches!(net.next(1, 1_000), Some(Event::Released { leg, .. }) if leg == b));
    assert!(matches!(
        net.drained(0)[..],
        [Event::Answered { .. }, Event::Ended { leg, cause: End::Bye(_) }] if leg == a
    ));
    net.assert_nothing_left();
}

#[test]
fn a_lost_200_is_repeated_until_its_ack_and_each_200_gets_one() {
    let mut net = Net::new(2);
    let mut oks = 0;
    net.filter = Some(Box::new(move |from, m| {
        if from == 1 && m.status() == 200 {
            oks += 1;
            if oks <= 2 {
                return Fate::Drop;
            }
        }
        // The first ACK is lost too, so a 200 comes that was acknowledged before.
        if m.method().as_str() == "ACK" && m.is_request() && oks == 3 { Fate::Drop } else { Fate::Pass }
    }));
    let (a, _) = net.established();
    assert_eq!((net.sent(1, "SIP/2.0 200"), net.sent(0, "ACK")), (4, 2));
    net.run_ms(60_000);
    assert_eq!(net.sent(1, "SIP/2.0 200"), 4, "the ACK stops it");
    net.ends[0].hang_up(net.now, a, None);
    net.assert_nothing_left();
}

#[test]
fn without_an_ack_the_callee_sends_bye_after_64_t1() {
    let mut net = Net::new(2);
    net.filter =
        Some(Box::new(
            |_, m| if m.is_request() && m.method().as_str() == "ACK" { Fate::Drop } else { Fate::Pass },
        ));
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    let start = net.now;
    net.ends[1].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(1, 40_000), Some(Event::Ended { leg, cause: End::NoAck }) if leg == b));
    assert_eq!((net.now.mono_ns - start.mono_ns) / 1_000_000, 32_000);
    // 0, 0.5, 1.5, 3.5, then every 4 s.
    assert_eq!(net.sent(1, "SIP/2.0 200"), 11);
    net.run_ms(1_000);
    assert!(matches!(
        net.drained(0)[..],
        [Event::Answered { .. }, Event::Ended { leg, cause: End::Bye(_) }] if leg == a
    ));
    net.assert_nothing_left();
}

#[test]
fn delayed_offer_puts_the_answer_into_the_ack() {
    let mut net = Net::new(2);
    let mut invite = net.invite(1);
    invite.sdp = None;
    let a = net.place(0, invite);
    let b = net.incoming(1);
    net.ends[1].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(0, 1_000), Some(Event::Answered { .. })));
    assert_eq!(net.sent(0, "ACK"), 0);
    net.run_ms(2_000);
    assert!(net.drained(0).is_empty(), "repetitions of the 200 are absorbed");
    net.ends[0].ack(net.now, a, SDP_A);
    match net.next(1, 1_000) {
        Some(Event::Confirmed { leg, ack }) => assert_eq!((leg, ack.body()), (b, SDP_A.as_bytes())),
        other => panic!("{other:?}"),
    }
    net.ends[1].hang_up(net.now, b, None);
    net.assert_nothing_left();
}

#[test]
fn early_media_reaches_the_caller_and_a_long_ringing_is_repeated_every_minute() {
    let mut net = Net::new(2);
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].progress(net.now, b, 183, Some(SDP_B));
    match net.next(0, 1_000) {
        Some(Event::Progress { status: 183, response, .. }) => assert_eq!(response.body(), SDP_B.as_bytes()),
        other => panic!("{other:?}"),
    }
    net.run_ms(125_000);
    assert_eq!(net.sent(1, "SIP/2.0 183"), 3);
    net.ends[0].hang_up(net.now, a, None);
    net.assert_nothing_left();
}

#[test]
fn a_caller_may_hang_up_an_unanswered_call_with_bye_too() {
    // 15: the caller's UA may send BYE for an early dialog. Ours never does; a raw one does.
    let mut net = Net::new(1);
    let invite = "INVITE sip:b@10.0.0.1 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1
From: <sip:x@y>;tag=1
To: <sip:b@10.0.0.1>
Call-ID: early
CSeq: 1 INVITE
Contact: <sip:x@10.0.0.9>
Max-Forwards: 70
";
    net.raw("10.0.0.9:5060", 0, invite);
    let b = net.incoming(0);
    net.ends[0].progress(net.now, b, 180, None);
    net.run_ms(10);
    let tag = net.stray.back().unwrap().1.to().unwrap().tag().unwrap().to_owned();
    let bye = invite
        .replace("INVITE", "BYE")
        .replace("To: <sip:b@10.0.0.1>", &format!("To: <sip:b@10.0.0.1>;tag={tag}"))
        .replace("bK1", "bK2")
        .replace("CSeq: 1", "CSeq: 2");
    net.raw("10.0.0.9:5060", 0, &bye);
    assert!(matches!(net.next(0, 100), Some(Event::Ended { leg, cause: End::Bye(_) }) if leg == b));
    assert_eq!((net.sent(0, "SIP/2.0 200"), net.sent(0, "SIP/2.0 487")), (1, 1));
    net.assert_nothing_left();
}

#[test]
fn a_full_endpoint_answers_503_with_retry_after_and_bye_still_gets_in() {
    let mut net = Net::with(2, 1, |c| c.max_legs = 1);
    let (a, _) = net.established();
    let mut second = Net::new(0);
    std::mem::swap(&mut second.stray, &mut net.stray);
    net.raw(
        "10.0.0.9:5060",
        1,
        "INVITE sip:b@10.0.0.2 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1
From: <sip:x@y>;tag=1
To: <sip:b@10.0.0.2>
Call-ID: full
CSeq: 1 INVITE
Contact: <sip:x@10.0.0.9>
",
    );
    net.run_ms(10);
    let response = net.stray.pop_front().unwrap().1;
    assert_eq!(response.status(), 503);
    assert!(response.other("Retry-After").is_some());
    assert_eq!(net.ends[1].counts().refused_full, 1);
    net.ends[0].hang_up(net.now, a, None);
    assert!(matches!(net.next(1, 100), Some(Event::Ended { .. })));
    net.assert_nothing_left();
}

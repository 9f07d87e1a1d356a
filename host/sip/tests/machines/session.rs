//! Inside a dialog: offers both ways, glare, UPDATE, INFO, order of numbers, routes, orphans.

use cordboard_sip::endpoint::{Counts, End, Event, RequestFailure};

use crate::harness::{Fate, Net, SDP_A, SDP_B};

#[test]
fn either_side_offers_again_and_the_other_accepts() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    for (from, to, from_leg, to_leg) in [(0, 1, a, b), (1, 0, b, a), (0, 1, a, b)] {
        assert!(net.ends[from].reoffer(net.now, from_leg, SDP_A));
        match net.next(to, 1_000) {
            Some(Event::Offer { leg, request }) => {
                assert_eq!((leg, request.body()), (to_leg, SDP_A.as_bytes()));
            }
            other => panic!("{other:?}"),
        }
        net.ends[to].accept_offer(net.now, to_leg, Some(SDP_B));
        match net.next(from, 1_000) {
            Some(Event::OfferResult { leg, result: Ok(response) }) => {
                assert_eq!((leg, response.body()), (from_leg, SDP_B.as_bytes()));
            }
            other => panic!("{other:?}"),
        }
        net.run_ms(1_000);
    }
    assert_eq!((net.ends[0].counts().retransmitted, net.ends[1].counts().retransmitted), (0, 0));
    net.ends[0].hang_up(net.now, a, None);
    net.run_ms(1_000);
    assert!(matches!(net.drained(1)[..], [Event::Ended { .. }]), "no Confirmed for re-INVITEs");
    net.assert_nothing_left();
}

#[test]
fn a_refused_offer_leaves_the_call_up() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    assert!(net.ends[0].reoffer(net.now, a, SDP_A));
    assert!(!net.ends[0].reoffer(net.now, a, SDP_A), "one at a time");
    net.next(1, 1_000);
    assert!(!net.ends[1].reoffer(net.now, b, SDP_B), "theirs is open");
    net.ends[1].refuse_offer(net.now, b, 488);
    assert!(matches!(net.next(0, 1_000), Some(Event::OfferResult { result: Err(488), .. })));
    net.run_ms(60_000);
    assert!(net.drained(0).is_empty() && net.drained(1).is_empty());
    net.ends[1].hang_up(net.now, b, None);
    net.assert_nothing_left();
}

#[test]
fn offers_that_meet_get_491_and_the_callee_s_retry_comes_first() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    let start = net.now;
    assert!(net.ends[0].reoffer(net.now, a, SDP_A));
    assert!(net.ends[1].reoffer(net.now, b, SDP_B));
    // The callee does not own the Call-ID, so it waits 0 to 2 s; the caller 2.1 to 4 s (14.1).
    assert!(matches!(net.next(0, 2_100), Some(Event::Offer { leg, .. }) if leg == a));
    net.ends[0].accept_offer(net.now, a, Some(SDP_A));
    assert!(matches!(net.next(1, 1_000), Some(Event::OfferResult { result: Ok(_), .. })));
    assert!(matches!(net.next(1, 5_000), Some(Event::Offer { leg, .. }) if leg == b));
    let waited_ms = (net.now.mono_ns - start.mono_ns) / 1_000_000;
    assert!((2_100..4_100).contains(&waited_ms), "{waited_ms}");
    net.ends[1].accept_offer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(0, 1_000), Some(Event::OfferResult { result: Ok(_), .. })));
    assert_eq!((net.sent(0, "SIP/2.0 491"), net.sent(1, "SIP/2.0 491")), (1, 1));
    net.ends[0].hang_up(net.now, a, None);
    net.assert_nothing_left();
}

#[test]
fn a_call_that_ends_while_an_offer_is_open_answers_it_487() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    assert!(net.ends[0].reoffer(net.now, a, SDP_A));
    net.next(1, 1_000);
    net.ends[1].hang_up(net.now, b, None);
    assert!(matches!(net.next(0, 1_000), Some(Event::OfferResult { result: Err(487), .. })));
    assert!(matches!(net.next(0, 1_000), Some(Event::Ended { cause: End::Bye(_), .. })));
    assert!(matches!(net.next(1, 1_000), Some(Event::Released { .. })));
    net.ends[1].accept_offer(net.now, b, Some(SDP_B));
    net.assert_nothing_left();
}

#[test]
fn a_bye_that_meets_the_200_of_a_reoffer_leaves_nothing_behind() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    assert!(net.ends[0].reoffer(net.now, a, SDP_A));
    net.next(1, 1_000);
    net.ends[1].accept_offer(net.now, b, Some(SDP_B));
    net.ends[0].hang_up(net.now, a, None);
    assert!(matches!(net.next(1, 1_000), Some(Event::Ended { .. })));
    assert!(matches!(net.next(0, 1_000), Some(Event::Released { .. })));
    net.assert_nothing_left();
}

#[test]
fn a_peer_that_vanishes_is_noticed_by_the_next_request_and_gets_a_bye() {
    let mut net = Net::new(2);
    let (a, _) = net.established();
    net.filter = Some(Box::new(|_, _| Fate::Drop));
    assert!(net.ends[0].reoffer(net.now, a, SDP_A));
    assert!(matches!(net.next(0, 40_000), Some(Event::OfferResult { result: Err(408), .. })));
    assert!(matches!(net.next(0, 0), Some(Event::Ended { leg, cause: End::NoAnswer }) if leg == a));
    net.run_ms(40_000);
    assert_eq!(net.sent(0, "BYE"), 11);
    assert_eq!(net.ends[0].counts().legs, 0);
}

#[test]
fn info_travels_in_the_dialog_and_its_answer_comes_back() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    let n = net.ends[1].leg_request(net.now, b, "INFO", Some("application/dtmf-relay"), b"Signal=5").unwrap();
    match net.next(0, 1_000) {
        Some(Event::Request { txn, leg: Some(leg), request, .. }) => {
            assert_eq!(
                (leg, request.body(), request.content_type()),
                (a, &b"Signal=5"[..], Some("application/dtmf-relay"))
            );
            net.ends[0].respond(net.now, txn, 200, &[("X-A", "1")], None);
            // A second answer is nobody's.
            net.ends[0].respond(net.now, txn, 500, &[], None);
        }
        other => panic!("{other:?}"),
    }
    match net.next(1, 1_000) {
        Some(Event::Response { request, result: Ok(response) }) => {
            assert_eq!((request, response.status(), response.other("X-A")), (n, 200, Some("1")));
        }
        other => panic!("{other:?}"),
    }
    for method in ["BYE", "INVITE", "CANCEL", "ACK", "bad method"] {
        assert_eq!(net.ends[1].leg_request(net.now, b, method, None, b""), None, "{method}");
    }
    net.ends[0].hang_up(net.now, a, None);
    net.assert_nothing_left();
}

#[test]
fn a_request_whose_leg_ends_first_says_so() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    let n = net.ends[0].leg_request(net.now, a, "INFO", None, b"").unwrap();
    assert!(matches!(net.next(1, 1_000), Some(Event::Request { .. })));
    net.ends[1].hang_up(net.now, b, None);
    assert!(matches!(net.next(0, 1_000),
        Some(Event::Response { request, result: Err(RequestFailure::LegGone) }) if request == n));
    assert!(matches!(net.next(0, 0), Some(Event::Ended { .. })));
    net.assert_nothing_left();
}

#[test]
fn a_481_to_a_request_inside_the_dialog_ends_the_leg() {
    let mut net = Net::new(2);
    let (a, _) = net.established();
    let n = net.ends[0].leg_request(net.now, a, "INFO", None, b"").unwrap();
    let Some(Event::Request { txn, .. }) = net.next(1, 1_000) else { panic!() };
    net.ends[1].respond(net.now, txn, 481, &[], None);
    assert!(matches!(net.next(0, 1_000), Some(Event::Response { request, result: Ok(_) }) if request == n));
    assert!(matches!(net.next(0, 0), Some(Event::Ended { cause: End::NoAnswer, .. })));
    assert!(matches!(net.next(1, 1_000), Some(Event::Ended { cause: End::Bye(_), .. })));
    net.assert_nothing_left();
}

/// A caller made of text, so that a test can send what our own caller never would.
const INVITE: &str = "INVITE sip:b@10.0.0.1 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1
Record-Route: <sip:10.0.0.8;lr>
From: <sip:x@y>;tag=1
To: <sip:b@10.0.0.1>
Call-ID: raw
CSeq: 10 INVITE
Contact: <sip:x@10.0.0.9:5099>
Max-Forwards: 70
";

/// Answers `INVITE` and gives our tag.
fn raw_call(net: &mut Net) -> (cordboard_sip::endpoint::LegId, String) {
    net.raw("10.0.0.9:5060", 0, INVITE);
    let b = net.incoming(0);
    net.ends[0].answer(net.now, b, Some(SDP_B));
    net.run_ms(10);
    let ok = net.stray.pop_back().unwrap().1;
    assert_eq!(ok.other("Record-Route"), Some("<sip:10.0.0.8;lr>"));
    let tag = ok.to().unwrap().tag().unwrap().to_owned();
    net.raw("10.0.0.9:5060", 0, &in_dialog("ACK", 10, &tag, ""));
    assert!(matches!(net.next(0, 10), Some(Event::Confirmed { .. })));
    net.stray.clear();
    (b, tag)
}

fn in_dialog(method: &str, cseq: u32, tag: &str, rest: &str) -> String {
    format!(
        "{method} sip:10.0.0.1 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK{method}{cseq}
From: <sip:x@y>;tag=1
To: <sip:b@10.0.0.1>;tag={tag}
Call-ID: raw
CSeq: {cseq} {method}
Contact: <sip:x@10.0.0.9:5098>
Max-Forwards: 70
{rest}"
    )
}

fn answer(net: &mut Net) -> cordboard_sip::wire::Message {
    net.run_ms(10);
    net.stray.pop_front().expect("an answer").1
}

#[test]
fn a_lower_cseq_gets_500_and_is_not_heard() {
    let mut net = Net::new(1);
    let (b, tag) = raw_call(&mut net);
    net.raw("10.0.0.9:5060", 0, &in_dialog("INFO", 9, &tag, ""));
    assert_eq!(answer(&mut net).status(), 500);
    net.raw("10.0.0.9:5060", 0, &in_dialog("BYE", 8, &tag, ""));
    assert_eq!(answer(&mut net).status(), 500);
    assert!(net.drained(0).is_empty());
    net.ends[0].hang_up(net.now, b, None);
    net.assert_nothing_left();
}

#[test]
fn update_with_an_offer_is_one_and_without_it_only_moves_the_target() {
    let mut net = Net::new(1);
    let (b, tag) = raw_call(&mut net);
    net.raw("10.0.0.9:5060", 0, &in_dialog("UPDATE", 11, &tag, ""));
    assert_eq!(answer(&mut net).status(), 200);
    assert_eq!(net.ends[0].dialog(b).unwrap().target, "sip:x@10.0.0.9:5098");
    let offer = in_dialog("UPDATE", 12, &tag, "Content-Type: application/sdp\n\nv=0\r\n");
    net.raw("10.0.0.9:5060", 0, &offer);
    assert!(matches!(net.next(0, 10), Some(Event::Offer { leg, .. }) if leg == b));
    // RFC 3311 5.2: another one before the first is answered gets 500 with Retry-After.
    net.raw("10.0.0.9:5060", 0, &offer.replace("UPDATE12", "UPDATE13").replace("12 UPDATE", "13 UPDATE"));
    let refused = answer(&mut net);
    assert_eq!((refused.status(), refused.other("Retry-After").is_some()), (500, true));
    net.ends[0].accept_offer(net.now, b, Some(SDP_B));
    let ok = answer(&mut net);
    assert_eq!((ok.status(), ok.body()), (200, SDP_B.as_bytes()));
    // While ours is out, theirs is refused with 491.
    assert!(net.ends[0].reoffer(net.now, b, SDP_B));
    net.raw("10.0.0.9:5060", 0, &in_dialog("UPDATE", 14, &tag, "Content-Type: application/sdp\n\nv=0\r\n"));
    net.run_ms(10);
    assert!(net.stray.iter().any(|(_, m)| m.status() == 491));
    net.ends[0].hang_up(net.now, b, None);
    net.run_ms(60_000);
    net.assert_nothing_left();
}

#[test]
fn requests_inside_the_dialog_follow_the_route_set() {
    let mut net = Net::new(1);
    let (b, _) = raw_call(&mut net);
    net.ends[0].hang_up(net.now, b, None);
    net.run_ms(10);
    let (to, bye) = net.stray.pop_front().unwrap();
    assert_eq!(to, "10.0.0.8:5060".parse().unwrap());
    assert_eq!((bye.request_uri(), bye.other("Route")), ("sip:x@10.0.0.9:5099", Some("<sip:10.0.0.8;lr>")));
    net.assert_nothing_left();
}

#[test]
fn a_reinvite_without_sdp_gets_our_offer_and_its_ack_is_heard() {
    let mut net = Net::new(1);
    let (b, tag) = raw_call(&mut net);
    net.raw("10.0.0.9:5060", 0, &in_dialog("INVITE", 11, &tag, ""));
    match net.next(0, 10) {
        Some(Event::Offer { leg, request }) => assert_eq!((leg, request.body().len()), (b, 0)),
        other => panic!("{other:?}"),
    }
    net.ends[0].accept_offer(net.now, b, Some(SDP_B));
    let ack = in_dialog("ACK", 11, &tag, &format!("Content-Type: application/sdp\n\n{SDP_A}"));
    net.raw("10.0.0.9:5060", 0, &ack);
    match net.next(0, 10) {
        Some(Event::Confirmed { leg, ack }) => assert_eq!((leg, ack.body()), (b, SDP_A.as_bytes())),
        other => panic!("{other:?}"),
    }
    net.ends[0].hang_up(net.now, b, None);
    net.assert_nothing_left();
}

#[test]
fn a_cancelled_reinvite_gets_487_and_the_call_stays() {
    let mut net = Net::new(1);
    let (b, tag) = raw_call(&mut net);
    let invite = in_dialog("INVITE", 11, &tag, "");
    net.raw("10.0.0.9:5060", 0, &invite);
    assert!(matches!(net.next(0, 10), Some(Event::Offer { .. })));
    net.raw(
        "10.0.0.9:5060",
        0,
        &invite.replace("INVITE sip", "CANCEL sip").replace("11 INVITE", "11 CANCEL"),
    );
    net.run_ms(10);
    let statuses: Vec<u16> = net.stray.iter().map(|(_, m)| m.status()).collect();
    assert_eq!(statuses, [100, 200, 487]);
    assert!(net.ends[0].dialog(b).is_some());
    assert!(net.ends[0].reoffer(net.now, b, SDP_B), "nothing is in the way");
    net.ends[0].hang_up(net.now, b, None);
    net.run_ms(60_000);
    net.assert_nothing_left();
}

#[test]
fn an_orphan_of_a_former_life_gets_its_bye() {
    let mut net = Net::new(2);
    let (a, b) = net.established();
    let record = net.ends[0].dialog(a).unwrap();
    // The caller's process dies and comes back without a memory of the call.
    let mut fresh = Net::with(1, 99, |_| {});
    std::mem::swap(&mut net.ends[0], &mut fresh.ends[0]);
    net.ends[0].end_orphan(net.now, &record, "SIP;cause=500;text=\"node lost\"");
    match net.next(1, 1_000) {
        Some(Event::Ended { leg, cause: End::Bye(bye) }) => {
            assert_eq!(leg, b);
            assert!(bye.cseq().unwrap().0 > 1_000);
            assert!(bye.other("Reason").is_some_and(|r| r.contains("node lost")));
        }
        other => panic!("{other:?}"),
    }
    net.run_ms(60_000);
    assert_eq!(net.ends[0].counts(), Counts { received: 1, sent: 1, ..Counts::default() });
}

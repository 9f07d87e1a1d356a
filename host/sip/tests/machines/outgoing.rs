//! Calls and requests that we place: forks, redirects, silent targets, credentials.

use cordboard_base::Now;
use cordboard_sip::digest::{Algorithm, AuthorizationHeader, Credential, Server, Verdict};
use cordboard_sip::endpoint::{Credentials, End, Event, Invite, OutRequest, RequestFailure};
use cordboard_sip::wire::Message;

use crate::harness::{Fate, Net, SDP_A, SDP_B, address};

/// A 200 of a stranger to the last INVITE that was sent to nobody.
fn ok_from(invite: &Message, tag: &str, contact: &str) -> String {
    format!(
        "SIP/2.0 200 OK
Via: {}
From: {}
To: {};tag={tag}
Call-ID: {}
CSeq: {}
Contact: <sip:{contact}>
",
        invite.other("Via").unwrap(),
        invite.other("From").unwrap(),
        invite.other("To").unwrap(),
        invite.call_id(),
        invite.other("CSeq").unwrap(),
    )
}

#[test]
fn the_second_2xx_of_a_fork_gets_ack_and_bye_and_the_first_stays() {
    let mut net = Net::new(1);
    let a = net.place(0, net.invite(7));
    net.run_ms(10);
    let invite = net.stray.pop_front().unwrap().1;
    net.raw("10.0.0.8:5060", 0, &ok_from(&invite, "one", "10.0.0.21"));
    assert!(matches!(net.next(0, 10), Some(Event::Answered { leg, .. }) if leg == a));
    net.raw("10.0.0.8:5060", 0, &ok_from(&invite, "two", "10.0.0.22"));
    // And once more, since its ACK was lost.
    net.raw("10.0.0.8:5060", 0, &ok_from(&invite, "two", "10.0.0.22"));
    net.run_ms(20);
    let sent: Vec<_> = net.stray.iter().map(|(to, m)| format!("{} {to}", m.method())).collect();
    assert_eq!(
        sent,
        ["ACK 10.0.0.21:5060", "ACK 10.0.0.22:5060", "BYE 10.0.0.22:5060", "ACK 10.0.0.22:5060"]
    );
    assert_eq!(net.ends[0].dialog(a).unwrap().target, "sip:10.0.0.21");
    assert!(net.drained(0).is_empty());
    net.ends[0].hang_up(net.now, a, None);
    net.assert_nothing_left();
}

#[test]
fn a_200_after_the_leg_is_gone_gets_ack_and_bye() {
    let mut net = Net::new(1);
    let mut invite = net.invite(7);
    invite.redirects = 1;
    invite.silent_target_ms = 2_000;
    net.place(0, invite);
    net.run_ms(10);
    let first = net.stray.pop_front().unwrap().1;
    let moved = ok_from(&first, "r", "10.0.0.21").replace("200 OK", "302 Moved");
    net.raw("10.0.0.8:5060", 0, &moved);
    assert!(matches!(net.next(0, 10), Some(Event::Redirected { .. })));
    assert!(matches!(net.next(0, 2_100), Some(Event::Rejected { status: 408, .. })));
    let second = net.stray.iter().rev().find(|(_, m)| m.method().as_str() == "INVITE").unwrap().1.clone();
    net.stray.clear();
    net.raw("10.0.0.21:5060", 0, &ok_from(&second, "late", "10.0.0.21"));
    net.run_ms(10);
    let sent: Vec<_> = net.stray.iter().map(|(_, m)| m.method().as_str().to_owned()).collect();
    assert_eq!(sent, ["ACK", "BYE"]);
    net.assert_nothing_left();
}

#[test]
fn a_silent_target_that_wakes_up_is_cancelled() {
    let mut net = Net::new(3);
    // End 1 redirects to a dead node and then to end 2; the dead node is end 3's address: nobody.
    let leg = redirected(&mut net, &["<sip:10.0.0.9>;q=0.9", "<sip:10.0.0.3>;q=0.5"]);
    assert!(matches!(net.next(0, 10), Some(Event::Redirected { to, .. }) if to == "sip:10.0.0.9"));
    let start = net.now;
    assert!(matches!(net.next(0, 3_000), Some(Event::Redirected { to, .. }) if to == "sip:10.0.0.3"));
    assert_eq!((net.now.mono_ns - start.mono_ns) / 1_000_000, 2_000);
    let dead = net.stray.back().unwrap().1.clone();
    net.raw("10.0.0.9:5060", 0, &ok_from(&dead, "x", "10.0.0.9").replace("200 OK", "180 Ringing"));
    net.run_ms(10);
    assert_eq!(net.stray.back().unwrap().1.method().as_str(), "CANCEL");
    let b = net.incoming(2);
    net.ends[2].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(0, 1_000), Some(Event::Answered { leg: l, .. }) if l == leg));
    net.ends[0].hang_up(net.now, leg, None);
    net.assert_nothing_left();
}

/// End 0 calls end 1, which redirects to `contacts`.
fn redirected(net: &mut Net, contacts: &[&str]) -> cordboard_sip::endpoint::LegId {
    let invite = Invite { redirects: 3, silent_target_ms: 2_000, ..net.invite(1) };
    let a = net.place(0, invite);
    let b = net.incoming(1);
    let headers: Vec<_> = contacts.iter().map(|c| ("Contact", *c)).collect();
    net.ends[1].reject(net.now, b, 302, &headers);
    a
}

#[test]
fn a_redirect_is_followed_best_contact_first_with_the_same_call_id_and_from_tag() {
    let mut net = Net::new(4);
    let a = redirected(
        &mut net,
        &["<sip:x@10.0.0.4>;q=0.2", "<sip:x@10.0.0.3?Subject=no>;q=0.7", "<sip:names.only>;q=1"],
    );
    let b = net.incoming(2);
    let record = net.ends[2].call_id(b).unwrap().to_owned();
    assert_eq!(net.ends[0].call_id(a), Some(&record));
    assert_eq!((net.ends[0].cseq(a), net.ends[2].cseq(b)), (Some(2), Some(2)));
    // It cannot serve: the next by q is tried.
    net.ends[2].reject(net.now, b, 503, &[]);
    let c = net.incoming(3);
    assert_eq!(net.ends[3].cseq(c), Some(3));
    net.ends[3].answer(net.now, c, Some(SDP_B));
    let events = {
        net.run_ms(100);
        net.drained(0)
    };
    assert!(
        matches!(&events[..], [Event::Redirected { to, .. }, Event::Redirected { to: second, .. }, Event::Answered { .. }]
            if to == "sip:x@10.0.0.3" && second == "sip:x@10.0.0.4"),
        "{events:?}"
    );
    net.ends[3].hang_up(net.now, c, None);
    net.assert_nothing_left();
}

#[test]
fn a_redirect_target_s_busy_is_the_answer_and_no_other_target_is_asked() {
    let mut net = Net::new(4);
    redirected(&mut net, &["<sip:10.0.0.3>;q=0.7", "<sip:10.0.0.4>;q=0.2"]);
    let b = net.incoming(2);
    net.ends[2].reject(net.now, b, 486, &[]);
    assert!(matches!(net.next(0, 1_000), Some(Event::Redirected { .. })));
    assert!(matches!(net.next(0, 1_000), Some(Event::Rejected { status: 486, .. })));
    net.assert_nothing_left();
    assert!(net.drained(3).is_empty());
}

#[test]
fn redirects_that_go_in_circles_or_are_not_wanted_end() {
    let mut net = Net::new(2);
    let a = redirected(&mut net, &["<sip:10.0.0.2>"]);
    for _ in 0..1 {
        let b = net.incoming(1);
        net.ends[1].reject(net.now, b, 302, &[("Contact", "<sip:10.0.0.2>")]);
    }
    assert!(matches!(net.next(0, 100), Some(Event::Redirected { .. })));
    assert!(matches!(net.next(0, 100), Some(Event::Rejected { leg, status: 302, .. }) if leg == a));
    net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].reject(net.now, b, 302, &[("Contact", "<sip:10.0.0.9>")]);
    assert!(matches!(net.next(0, 100), Some(Event::Rejected { status: 302, response: Some(_), .. })));
    net.assert_nothing_left();
}

#[test]
fn a_call_that_is_hung_up_while_a_redirect_is_on_its_way_is_not_redirected() {
    let mut net = Net::new(3);
    let a = redirected(&mut net, &["<sip:10.0.0.3>"]);
    net.ends[0].hang_up(net.now, a, None);
    assert!(matches!(net.next(0, 1_000), Some(Event::Released { leg, crossed: false }) if leg == a));
    net.assert_nothing_left();
    assert!(net.drained(2).is_empty());
}

/// Answers end 1's next request with the verdict of a digest server: challenges until it is right.
fn judge(net: &mut Net, server: &mut Server, now: Now) -> u16 {
    let (request, leg, txn) = match net.next(1, 1_000) {
        Some(Event::Incoming { leg, request, .. }) => (request, Some(leg), None),
        Some(Event::Request { txn, request, .. }) => (request, None, Some(txn)),
        other => panic!("{other:?}"),
    };
    let header = request.other("Authorization").map(str::to_owned);
    let verdict = match header.as_deref().and_then(AuthorizationHeader::parse) {
        None => Verdict::Missing,
        Some(header) => {
            let find = |user: &str| (user == "ann").then(|| Credential::Password("secret".to_owned()));
            server.verify(now, &header, "x", request.method().as_str(), request.request_uri(), find)
        }
    };
    let stale = matches!(verdict, Verdict::Stale);
    let challenge = server.challenge(now, "x", Algorithm::Sha256, stale);
    let status = if matches!(verdict, Verdict::Ok { .. }) { 200 } else { 401 };
    let headers = [("WWW-Authenticate", challenge.as_str())];
    match (leg, txn, status) {
        (Some(leg), _, 200) => net.ends[1].answer(net.now, leg, Some(SDP_B)),
        (Some(leg), ..) => net.ends[1].reject(net.now, leg, 401, &headers),
        (_, Some(txn), 200) => net.ends[1].respond(net.now, txn, 200, &[], None),
        (_, Some(txn), _) => net.ends[1].respond(net.now, txn, 401, &headers, None),
        _ => unreachable!(),
    }
    status
}

fn credentials(password: &str) -> Option<Credentials> {
    Some(Credentials { user: "ann".to_owned(), password: password.to_owned() })
}

#[test]
fn a_challenged_call_is_placed_again_with_credentials_and_a_wrong_password_is_tried_once() {
    let mut net = Net::new(2);
    let mut server = Server::new([7; 32]);
    let a = net.place(0, Invite { credentials: credentials("secret"), ..net.invite(1) });
    let now = net.now;
    assert_eq!([judge(&mut net, &mut server, now), judge(&mut net, &mut server, now)], [401, 200]);
    assert!(matches!(net.next(0, 1_000), Some(Event::Answered { leg, .. }) if leg == a));
    assert_eq!(net.ends[0].cseq(a), Some(2));
    net.ends[0].hang_up(net.now, a, None);
    net.run_ms(1_000);
    net.drained(0);
    net.drained(1);

    let a = net.place(0, Invite { credentials: credentials("wrong"), ..net.invite(1) });
    assert_eq!([judge(&mut net, &mut server, now), judge(&mut net, &mut server, now)], [401, 401]);
    assert!(matches!(net.next(0, 1_000), Some(Event::Rejected { leg, status: 401, .. }) if leg == a));
    net.assert_nothing_left();
}

#[test]
fn a_stale_nonce_is_no_wrong_password() {
    let mut net = Net::new(2);
    let mut server = Server::new([7; 32]);
    let request = OutRequest {
        method: "REGISTER".to_owned(),
        target: format!("sip:{}", address(1)),
        from: "sip:ann@x".to_owned(),
        to: "sip:ann@x".to_owned(),
        cseq: Some(7),
        credentials: credentials("secret"),
        ..OutRequest::default()
    };
    let n = net.ends[0].request(net.now, request);
    let long_ago = net.now;
    let later = net.now.plus_ns(cordboard_base::secs(100_000));
    assert_eq!(judge(&mut net, &mut server, long_ago), 401);
    assert_eq!(judge(&mut net, &mut server, later), 401);
    assert_eq!(judge(&mut net, &mut server, later), 200);
    match net.next(0, 1_000) {
        Some(Event::Response { request, result: Ok(response) }) => {
            assert_eq!((request, response.cseq().unwrap().0), (n, 9));
        }
        other => panic!("{other:?}"),
    }
    net.assert_nothing_left();
}

#[test]
fn requests_outside_dialogs_get_their_answer_or_say_why_not() {
    let mut net = Net::new(2);
    let options = OutRequest {
        method: "OPTIONS".to_owned(),
        target: format!("sip:{}", address(1)),
        from: "sip:ann@x".to_owned(),
        to: "<sip:bob@y>".to_owned(),
        ..OutRequest::default()
    };
    let n = net.ends[0].request(net.now, options.clone());
    let Some(Event::Request { txn, leg: None, .. }) = net.next(1, 1_000) else { panic!() };
    net.ends[1].respond(net.now, txn, 200, &[], Some(("text/plain", b"hello")));
    match net.next(0, 1_000) {
        Some(Event::Response { request, result: Ok(response) }) => {
            assert_eq!((request, response.body()), (n, &b"hello"[..]));
            assert!(response.other("Allow").unwrap().contains("INVITE"), "11.2");
        }
        other => panic!("{other:?}"),
    }
    let cases = [
        (
            OutRequest { target: "sip:name.example".to_owned(), ..options.clone() },
            RequestFailure::NoDestination,
        ),
        (OutRequest { listener: 9, ..options.clone() }, RequestFailure::NoDestination),
        (OutRequest { method: "INVITE".to_owned(), ..options.clone() }, RequestFailure::BadValue),
        (OutRequest { from: "sip:a@b\r\nX: 1".to_owned(), ..options.clone() }, RequestFailure::BadValue),
        (OutRequest { target: "sip:10.0.0.99".to_owned(), ..options }, RequestFailure::Timeout),
    ];
    for (request, failure) in cases {
        let n = net.ends[0].request(net.now, request);
        assert!(
            matches!(net.next(0, 40_000), Some(Event::Response { request, result: Err(f) }) if (request, f) == (n, failure)),
            "{failure:?}"
        );
    }
    net.assert_nothing_left();
}

#[test]
fn an_invite_that_cannot_be_written_or_sent_is_refused_at_once() {
    let mut net = Net::new(1);
    let bad = [
        Invite { target: "not a uri".to_owned(), ..net.invite(1) },
        Invite { headers: vec![("X".to_owned(), "a\r\nEvil: 1".to_owned())], ..net.invite(1) },
        Invite { headers: vec![("Via".to_owned(), "x".to_owned())], ..net.invite(1) },
        Invite { target: "sip:name.example".to_owned(), ..net.invite(1) },
        Invite { listener: 3, ..net.invite(1) },
        Invite { from: "<sip:a@b>;tag=mine".to_owned(), ..net.invite(1) },
        Invite { from: String::new(), ..net.invite(1) },
        Invite { call_id: Some("two words".to_owned()), ..net.invite(1) },
    ];
    for invite in bad {
        let now = net.now;
        assert!(net.ends[0].invite(now, invite.clone()).is_err(), "{invite:?}");
    }
    assert_eq!(net.ends[0].counts().legs, 0);
    // A route says where to send when the target is a name.
    let routed = Invite {
        target: "sip:name.example".to_owned(),
        headers: vec![("Route".to_owned(), "<sip:10.0.0.8;lr>".to_owned())],
        sdp: Some(SDP_A.to_owned()),
        ..net.invite(1)
    };
    net.place(0, routed);
    net.run_ms(10);
    assert_eq!(net.stray.pop_front().unwrap().0, "10.0.0.8:5060".parse().unwrap());
}

#[test]
fn a_bye_from_a_callee_whose_200_was_never_seen_ends_the_call() {
    let mut net = Net::new(2);
    net.filter = Some(Box::new(|from, m| {
        let ok = from == 1 && m.status() == 200 && m.method().as_str() == "INVITE";
        if ok { Fate::Drop } else { Fate::Pass }
    }));
    let a = net.place(0, net.invite(1));
    let b = net.incoming(1);
    net.ends[1].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(1, 40_000), Some(Event::Ended { cause: End::NoAck, .. })));
    assert!(matches!(net.next(0, 1_000), Some(Event::Ended { leg, cause: End::Bye(_) }) if leg == a));
    net.assert_nothing_left();
}

#[test]
fn the_same_seed_mints_the_same_names_and_another_seed_others() {
    let names = |seed| {
        let mut net = Net::with(1, seed, |_| {});
        let leg = net.place(0, net.invite(1));
        net.ends[0].call_id(leg).unwrap().to_owned()
    };
    assert_eq!(names(3), names(3));
    assert_ne!(names(3), names(4));
}

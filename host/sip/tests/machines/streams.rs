//! Connections: nothing is repeated on them, what they carry comes back on them, and when they break
//! the calls on them go on if they can.

use cordboard_sip::endpoint::{Event, Flow, Listener, OutRequest, RequestFailure, Transport};
use cordboard_sip::transport::NameId;
use cordboard_sip::wire::Name;

use crate::harness::{Fate, Net, SDP_A, SDP_B, address};

/// Two ends that have UDP as listener 0 and this as listener 1.
fn net(transport: Transport) -> Net {
    Net::with(2, 1, |config| {
        let local = config.listeners[0].local;
        config.listeners.push(Listener { id: 1, transport, local });
    })
}

/// End 0 calls end 1 over listener 1.
fn call(net: &mut Net) -> (cordboard_sip::endpoint::LegId, cordboard_sip::endpoint::LegId) {
    let mut invite = net.invite(1);
    invite.listener = 1;
    let a = net.place(0, invite);
    (a, net.incoming(1))
}

#[test]
fn a_call_over_tcp_repeats_nothing_however_slow_the_way() {
    let mut net = net(Transport::Tcp);
    net.delay_ms = (1_500, 0);
    let (a, b) = call(&mut net);
    let now = net.now;
    net.ends[1].progress(now, b, 180, None);
    assert!(matches!(net.next(0, 10_000), Some(Event::Progress { status: 180, .. })));
    net.ends[1].reject(net.now, b, 486, &[]);
    assert!(matches!(net.next(0, 10_000), Some(Event::Rejected { status: 486, .. })));
    net.run_ms(3_000);
    for start in ["INVITE", "ACK"] {
        assert_eq!(net.sent(0, start), 1, "{start}: {:?}", net.wire);
    }
    assert_eq!(net.sent(1, "SIP/2.0 486"), 1);
    // D, I, J and K are zero on a stream: nothing lingers.
    assert_eq!([net.ends[0].counts().transactions, net.ends[1].counts().transactions], [0, 0]);
    let (a, b) = {
        let _ = a;
        call(&mut net)
    };
    net.ends[1].answer(net.now, b, Some(SDP_B));
    let Some(Event::Answered { response, .. }) = net.next(0, 10_000) else { panic!("not answered") };
    assert_eq!(response.contact().unwrap().uri, "sip:10.0.0.2:5060;transport=tcp");
    assert_eq!(response.top_via().unwrap().transport, "TCP");
    // The 2xx is the one thing that is repeated end to end, whatever the transport (13.3.1.4).
    assert!(matches!(net.next(1, 10_000), Some(Event::Confirmed { .. })));
    net.ends[0].hang_up(net.now, a, None);
    assert!(matches!(net.next(1, 10_000), Some(Event::Ended { .. })));
    assert!(matches!(net.next(0, 10_000), Some(Event::Released { .. })));
    assert_eq!((net.sent(0, "BYE"), net.streams.len()), (1, 1), "one connection carried it all");
    net.assert_nothing_left();
}

#[test]
fn a_refused_connection_fails_the_call_at_once_and_the_next_target_is_tried() {
    let mut net = net(Transport::Tcp);
    net.refuse = true;
    let mut invite = net.invite(1);
    invite.target = "sip:bob@10.0.0.2:5060;transport=tcp".to_owned();
    net.place(0, invite.clone());
    match net.next(0, 1_000) {
        Some(Event::Rejected { status: 503, reason, .. }) => {
            assert!(reason.contains("connection"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    let now = net.now;
    let request = OutRequest {
        listener: 1,
        method: "OPTIONS".to_owned(),
        target: invite.target.clone(),
        from: invite.from.clone(),
        to: invite.to.clone(),
        ..OutRequest::default()
    };
    let number = net.ends[0].request(now, request);
    match net.next(0, 1_000) {
        Some(Event::Response { request, result: Err(RequestFailure::Unreachable) }) => {
            assert_eq!(request, number)
        }
        other => panic!("{other:?}"),
    }
    // A redirect to a place that takes no connection goes on to the next contact.
    let leg = net.place(0, cordboard_sip::endpoint::Invite { redirects: 3, ..net.invite(1) });
    let b = net.incoming(1);
    let contacts =
        [("Contact", "<sip:bob@10.0.0.2;transport=tcp>;q=0.9"), ("Contact", "<sip:bob@10.0.0.2>;q=0.5")];
    net.ends[1].reject(net.now, b, 302, &contacts);
    assert!(matches!(net.next(0, 1_000), Some(Event::Redirected { to, .. }) if to.contains("tcp")));
    assert!(matches!(net.next(0, 1_000), Some(Event::Redirected { to, .. }) if !to.contains("tcp")));
    let b = net.incoming(1);
    net.ends[1].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(0, 1_000), Some(Event::Answered { leg: l, .. }) if l == leg));
    net.ends[0].hang_up(net.now, leg, None);
    net.assert_nothing_left();
}

#[test]
fn a_connection_that_breaks_before_any_answer_fails_and_one_that_breaks_later_is_replaced() {
    let mut net = net(Transport::Tcp);
    let (a, b) = call(&mut net);
    net.ends[1].progress(net.now, b, 180, None);
    assert!(matches!(net.next(0, 1_000), Some(Event::Progress { .. })));
    net.cut(1);
    net.run_ms(100);
    // 18.2.2: the response goes to the port of sent-by over a new connection.
    net.ends[1].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(0, 2_000), Some(Event::Answered { leg, .. }) if leg == a));
    assert!(matches!(net.next(1, 2_000), Some(Event::Confirmed { .. })));
    assert_eq!(net.streams.values().next().map(|s| s[1].1), Some(address(0)));
    // The dialog lives on; its BYE takes a third connection.
    net.cut(2);
    net.run_ms(100);
    net.ends[1].hang_up(net.now, b, None);
    assert!(matches!(net.next(0, 2_000), Some(Event::Ended { .. })));
    assert!(matches!(net.next(1, 2_000), Some(Event::Released { .. })));
    assert_eq!(net.sent(1, "BYE"), 1);

    net.filter = None;
    net.delay_ms = (200, 0);
    let mut invite = net.invite(1);
    invite.listener = 1;
    net.place(0, invite);
    net.run_ms(100);
    let last = *net.streams.keys().last().unwrap();
    net.cut(last);
    assert!(matches!(net.next(0, 1_000), Some(Event::Rejected { status: 503, .. })));
    net.assert_nothing_left();
}

#[test]
fn a_break_reaches_all_who_used_the_connection_by_whatever_listener_and_nobody_else() {
    let mut net = Net::with(2, 1, |config| {
        let local = config.listeners[0].local;
        for id in [1, 2] {
            config.listeners.push(Listener { id, transport: Transport::Tcp, local });
        }
    });
    net.delay_ms = (100, 0);
    let ask = |net: &mut Net, listener, name| {
        let request = OutRequest {
            listener,
            method: "OPTIONS".to_owned(),
            target: "sip:bob@10.0.0.2:5060;transport=tcp".to_owned(),
            destination: Some(address(1)),
            name,
            from: "<sip:alice@10.0.0.1>".to_owned(),
            to: "<sip:bob@10.0.0.2>".to_owned(),
            ..OutRequest::default()
        };
        let now = net.now;
        net.ends[0].request(now, request)
    };
    // The harness, like the shell, sends by address and name: the first two share a connection.
    let mut on_the_first: Vec<u64> = [1, 2].map(|listener| ask(&mut net, listener, None)).into();
    let on_the_second = ask(&mut net, 1, Some(NameId::FIRST));
    net.run_ms(10);
    assert_eq!(net.streams.len(), 2);
    net.cut(1);
    while let Some(event) = net.next(0, 150) {
        match event {
            Event::Response { request, result: Err(RequestFailure::Unreachable) } => {
                assert_eq!(request, on_the_first.remove(0));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(on_the_first.is_empty(), "both at once");
    let Some(Event::Request { txn, .. }) = net.next(1, 1_000) else { panic!("no request") };
    let now = net.now;
    net.ends[1].respond(now, txn, 200, &[], None);
    assert!(matches!(net.next(0, 1_000),
        Some(Event::Response { request, result: Ok(_) }) if request == on_the_second));
}

#[test]
fn the_name_that_a_call_s_first_connection_proved_is_asked_of_the_next_one_too() {
    let mut net = net(Transport::Tls);
    let (one, other) = (NameId::FIRST, NameId::FIRST.next());
    let mut calls = Vec::new();
    for name in [one, other] {
        let invite = cordboard_sip::endpoint::Invite {
            listener: 1,
            destination: Some(address(1)),
            name: Some(name),
            ..net.invite(1)
        };
        let a = net.place(0, invite);
        let b = net.incoming(1);
        net.ends[1].answer(net.now, b, Some(SDP_B));
        assert!(matches!(net.next(0, 2_000), Some(Event::Answered { .. })));
        assert!(matches!(net.next(1, 2_000), Some(Event::Confirmed { .. })));
        calls.push(a);
    }
    let names = |net: &Net| net.dialled.values().map(|flow| flow.name).collect::<Vec<_>>();
    assert_eq!(names(&net), [Some(one), Some(other)], "one address, and a connection for each name");
    // The contact is an address: it is no reason to ask for less than the name.
    net.cut(1);
    net.cut(2);
    net.run_ms(100);
    for (a, name) in calls.into_iter().zip([one, other]) {
        net.ends[0].hang_up(net.now, a, None);
        assert!(matches!(net.next(0, 2_000), Some(Event::Released { .. })));
        assert_eq!(names(&net).last(), Some(&Some(name)));
    }
    assert_eq!(net.dialled.len(), 4);
}

#[test]
fn a_refusal_that_is_lost_with_its_connection_is_sent_again() {
    let mut net = net(Transport::Tcp);
    net.delay_ms = (50, 0);
    let (_, b) = call(&mut net);
    net.run_ms(200);
    net.ends[1].reject(net.now, b, 486, &[]);
    net.run_ms(10);
    net.cut(1);
    assert!(matches!(net.next(0, 2_000), Some(Event::Rejected { status: 486, .. })));
    net.assert_nothing_left();
}

#[test]
fn a_browser_is_called_on_its_own_connection_or_not_at_all() {
    let mut net = net(Transport::Ws);
    // The browser's first message makes the connection; nobody dials it.
    let register = "REGISTER sip:10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bKx\r\n\
        From: <sip:b@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: r\r\nCSeq: 1 REGISTER\r\nMax-Forwards: 70\r\n\
        Contact: <sip:b@df7jal23ls0d.invalid;transport=ws>\r\nContent-Length: 0\r\n\r\n";
    net.streams.insert(7, [(1, "10.0.0.2:51000".parse().unwrap()), (0, address(0))]);
    let flow =
        Flow { listener: 1, remote: "10.0.0.2:51000".parse().unwrap(), connection: Some(7), name: None };
    net.ends[0].receive(net.now, flow, register.as_bytes().to_vec().into());
    let Some(Event::Request { txn, source, .. }) = net.next(0, 100) else { panic!("no request") };
    assert_eq!(source, flow);
    net.ends[0].respond(net.now, txn, 200, &[], None);
    net.run_ms(100);
    let invite = cordboard_sip::endpoint::Invite {
        listener: 1,
        target: "sip:b@df7jal23ls0d.invalid;transport=ws".to_owned(),
        destination: Some(flow.remote),
        connection: flow.connection,
        sdp: Some(SDP_A.to_owned()),
        ..net.invite(1)
    };
    let a = net.place(0, invite.clone());
    let Some(Event::Incoming { leg: b, request, .. }) = net.next(1, 1_000) else { panic!("no call") };
    assert_eq!(request.top_via().unwrap().transport, "WS");
    assert_eq!(request.request_uri(), "sip:b@df7jal23ls0d.invalid;transport=ws");
    assert_eq!(request.header(Name::Contact), Some("<sip:10.0.0.1:5060;transport=ws>"));
    net.ends[1].answer(net.now, b, Some(SDP_B));
    assert!(matches!(net.next(0, 1_000), Some(Event::Answered { .. })));
    net.ends[0].hang_up(net.now, a, None);
    assert!(matches!(net.next(0, 1_000), Some(Event::Released { .. })));
    assert_eq!(net.sent(0, "BYE"), 1);

    net.drained(1);
    net.place(0, invite.clone());
    net.incoming(1);
    net.cut(7);
    let ended = net.next(0, 1_000);
    assert!(matches!(ended, Some(Event::Rejected { status: 503, .. })), "{ended:?}");
    let refused = net.ends[0].invite(net.now, invite);
    assert_eq!(refused, Err(cordboard_sip::endpoint::Full::NoDestination));
    for end in 0..2 {
        for event in net.drained(end) {
            if let Event::Incoming { leg, .. } = event {
                net.ends[end].reject(net.now, leg, 480, &[]);
            }
        }
    }
    net.run_ms(100_000);
    assert_eq!(net.ends[0].counts().transactions, 0);
}

#[test]
fn a_long_request_goes_by_tcp_where_that_is_wanted_and_by_udp_when_nobody_listens() {
    for refuse in [false, true] {
        let mut net = Net::with(2, 1, |config| {
            let local = config.listeners[0].local;
            config.listeners.push(Listener { id: 1, transport: Transport::Tcp, local });
            config.stream_above_bytes = 1_300;
        });
        net.refuse = refuse;
        let mut invite = net.invite(1);
        invite.headers.push(("X-Long".to_owned(), "x".repeat(1_000)));
        let a = net.place(0, invite);
        let Some(Event::Incoming { leg: b, source, request, .. }) = net.next(1, 1_000) else {
            panic!("no call")
        };
        assert_eq!(source.connection.is_none(), refuse);
        let (via, contact) = if refuse {
            ("UDP", "<sip:10.0.0.1:5060>")
        } else {
            ("TCP", "<sip:10.0.0.1:5060;transport=tcp>")
        };
        assert_eq!(
            (request.top_via().unwrap().transport, request.header(Name::Contact)),
            (via, Some(contact))
        );
        net.ends[1].answer(net.now, b, Some(SDP_B));
        assert!(matches!(net.next(0, 1_000), Some(Event::Answered { .. })));
        net.ends[0].hang_up(net.now, a, None);
        assert!(matches!(net.next(0, 1_000), Some(Event::Released { .. })));
        net.assert_nothing_left();
    }
}

#[test]
fn udp_stays_udp_beside_a_stream_listener() {
    let mut net = net(Transport::Tcp);
    let lost = std::cell::Cell::new(false);
    net.filter = Some(Box::new(
        move |_, m| {
            if m.is_request() && !lost.replace(true) { Fate::Drop } else { Fate::Pass }
        },
    ));
    let (a, b) = net.established();
    assert!(net.sent(0, "INVITE") > 1, "repeated over UDP");
    net.ends[1].hang_up(net.now, b, None);
    assert!(matches!(net.next(0, 1_000), Some(Event::Ended { leg, .. }) if leg == a));
    assert_eq!(net.ends[0].counts().flows, 0);
    net.assert_nothing_left();
}

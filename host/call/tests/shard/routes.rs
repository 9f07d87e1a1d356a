//! Step 5 and the routes: who is let in, where calls go, and what is no call at all.

use cordboard_call::facts::Fact;
use cordboard_call::messages::{OfferResult, Place, Refusal, ToDomain, ToShard};
use cordboard_call::policy::Fault;
use cordboard_call::router::Route;
use cordboard_call::script::{Done, Failure, Verb};
use cordboard_call::shard::Input;
use cordboard_call::timeline::Step;
use cordboard_sip::endpoint::{Credentials, Event, Flow, OutRequest};
use cordboard_sip::wire::Name;

use crate::steps::play;
use crate::world::{CALLER, SHARD, World, agent_at, at, model};

fn routed(answer: Result<Route, Fault>) -> World {
    let mut model = model();
    model.tenants[0].router = Some("router".into());
    let mut w = World::with(model);
    w.dial("+4930", true);
    assert_eq!(&*w.asked[0].1, "router");
    w.route(answer);
    w
}

fn to_workgroup() -> Route {
    Route::Workgroup {
        workgroup: "support".into(),
        skills: vec!["fr".into()],
        priority: 7,
        attributes: vec![],
    }
}

fn to_address(n: usize) -> Route {
    Route::Bridge {
        address: format!("sip:desk@{}", agent_at(n)),
        ring_timeout_ms: 10_000,
        attributes: vec![],
    }
}

// ---- Admission ----

#[test]
fn a_source_that_is_no_trunk_is_refused_with_403() {
    let mut w = World::new();
    w.agents[0].events.clear();
    let sdp = w.agents[0].sdp(cordboard_sip::sdp::Direction::SendRecv);
    let invite = cordboard_sip::endpoint::Invite {
        listener: 1,
        target: format!("sip:+4930@{SHARD}"),
        from: "<sip:x@10.0.2.1>".to_owned(),
        to: "<sip:+4930@x>".to_owned(),
        sdp: Some(sdp),
        ..Default::default()
    };
    w.agents[0].sip.invite(w.now, invite).unwrap();
    w.run();
    assert_eq!(w.agents[0].refused().unwrap().0, 403);
    assert!(w.told.iter().all(|(_, m)| *m == ToDomain::ShardUp), "no call came of it");
    w.pass(70_000);
    assert!(w.shard.counts().idle());
}

#[test]
fn a_number_of_nobody_is_refused_with_404() {
    let mut w = World::new();
    w.dial("0800", true);
    assert_eq!(w.caller.refused().unwrap().0, 404);
}

#[test]
fn beyond_a_limit_it_is_503_with_a_time_to_come_back() {
    let mut model = model();
    model.trunks[0].max_calls = 1;
    let mut w = World::with(model);
    w.dial("+4930", true);
    let first = w.leg;
    w.dial("+4931", true);
    let (status, response) = w.caller.refused().unwrap();
    assert_eq!((status, response.unwrap().header(Name::RetryAfter)), (503, Some("5")));
    w.leg = first;
    w.hang_up();
    w.over();
    w.dial("+4932", true);
    assert_eq!(
        w.told.iter().filter(|(_, m)| matches!(m, ToDomain::CallNew(_))).count(),
        2,
        "there is room again"
    );
}

#[test]
fn a_drained_shard_takes_no_new_calls_and_finishes_the_old() {
    let mut w = World::new();
    w.talking();
    w.input(Input::Drain);
    let live = w.leg;
    w.dial("+4931", true);
    assert_eq!(w.caller.refused().unwrap().0, 503);
    assert_eq!(w.media.joined.len(), 1);
    w.leg = live;
    w.hang_up();
    w.over();
}

#[test]
fn the_domain_may_refuse_a_call() {
    let mut w = World::new();
    w.dial("+4930", true);
    w.tell(ToShard::Refuse { status: 503, text: "full".to_owned() });
    assert_eq!(w.caller.refused().unwrap().0, 503);
    w.over();
}

#[test]
fn no_media_port_is_503() {
    let mut w = World::new();
    w.media.fail_opens = true;
    w.dial("+4930", true);
    assert_eq!(w.caller.refused().unwrap().0, 503);
    w.media.fail_opens = false;
    w.over();
}

// ---- The router ----

#[test]
fn the_router_sees_what_the_trunk_passes() {
    let mut model = model();
    model.tenants[0].router = Some("router".into());
    let mut w = World::with(model);
    w.dial("+4930", true);
    let incoming = &w.asked[0].2;
    assert_eq!(
        (incoming.caller.as_str(), incoming.caller_name.as_str(), incoming.called.as_str()),
        ("+331", "Ann", "+4930")
    );
    assert_eq!(incoming.headers, [("X-Extra".to_owned(), "extra".to_owned())]);
    w.hang_up();
    w.over();
}

#[test]
fn a_router_that_fails_or_answers_nonsense_or_nothing_gets_the_default_script() {
    let nonsense =
        Route::Workgroup { workgroup: "nowhere".into(), skills: vec![], priority: 0, attributes: vec![] };
    for answer in [Err(Fault::Trap("x".into())), Ok(nonsense)] {
        let mut w = routed(answer);
        assert_eq!(&*w.started[0].1, "ivr");
        assert!(w.lines.iter().any(|l| l.detail.contains("the default holds")));
        w.hang_up();
        w.over();
    }
    let mut model = model();
    model.tenants[0].router = Some("router".into());
    let mut w = World::with(model);
    w.dial("+4930", true);
    w.pass(199);
    assert!(w.started.is_empty());
    w.pass(1);
    assert_eq!(&*w.started[0].1, "ivr", "a question that is lost holds nobody up");
    w.hang_up();
    w.over();
}

#[test]
fn a_route_to_a_script_gives_it_its_attributes() {
    let attributes = vec![("lang".to_owned(), "fr".to_owned())];
    let mut w = routed(Ok(Route::Script { script: "other".into(), attributes: attributes.clone() }));
    assert_eq!((&*w.started[0].1, &w.started[0].2.attributes), ("other", &attributes));
    assert!(w.told.iter().any(|(_, m)| *m == ToDomain::Attributes { set: attributes.clone() }));
    w.hang_up();
    w.over();
}

#[test]
fn a_route_to_a_workgroup_answers_queues_plays_and_bridges() {
    let mut w = routed(Ok(to_workgroup()));
    let (ticket, request) = w
        .told
        .iter()
        .find_map(|(_, m)| {
            if let ToDomain::Enqueue { request, .. } = m { Some((w.ids, request.clone())) } else { None }
        })
        .unwrap();
    assert_eq!((request.priority, request.skills.as_slice()), (7, &["fr".to_owned()][..]));
    assert!(w.caller_hears_music());
    let token = w.offer(cordboard_base::Id(ticket), &[1])[0];
    w.accept(1);
    assert_eq!(w.settled(token), [OfferResult::Accepted]);
    use Step::*;
    assert_eq!(w.steps(), [NewCall, SentToWorkgroup, MusicStarted, SentToAgent, Bridged, RingTimer]);
    w.agent_hangs_up(1);
    assert_eq!(w.caller.ended(), 1);
    w.over();
}

#[test]
fn a_workgroup_that_refuses_leads_to_the_fallback() {
    let mut model = model();
    model.tenants[0].router = Some("router".into());
    let mut w = World::with(model);
    w.queue = false;
    w.dial("+4930", true);
    w.route(Ok(to_workgroup()));
    w.tell(ToShard::Enqueued { key: 1, result: Err(Refusal { reason: "full".into(), text: "full".into() }) });
    assert_eq!(w.media.playing.len(), 1, "the announcement");
    w.play_ends(cordboard_media::control::PlayEnd::Finished);
    assert_eq!(w.over().cause, 31);
}

#[test]
fn a_workgroup_that_refuses_leads_to_the_fallback_s_workgroup_once() {
    let mut model = model();
    model.tenants[0].router = Some("router".into());
    model.tenants[0].fallback = cordboard_call::model::Fallback::Workgroup("spare".into());
    let refused = |key| {
        let refusal = Refusal { reason: "full".into(), text: "full".into() };
        ToShard::Enqueued { key, result: Err(refusal) }
    };
    let asked = |w: &World| -> Vec<String> {
        let asked = w.told.iter().filter_map(|(_, m)| match m {
            ToDomain::Enqueue { workgroup, .. } => Some(workgroup.clone()),
            _ => None,
        });
        asked.collect()
    };
    for takes in [true, false] {
        let mut w = World::with(model.clone());
        w.queue = false;
        w.dial("+4930", true);
        w.route(Ok(to_workgroup()));
        w.queue = takes;
        w.tell(refused(1));
        assert_eq!(asked(&w), ["support", "spare"]);
        if takes {
            assert!(w.caller_hears_music());
            w.hang_up();
            w.over();
        } else {
            w.tell(refused(2));
            assert_eq!(asked(&w).len(), 2, "not for ever");
            assert_eq!(w.over().cause, 41);
        }
    }
}

#[test]
fn an_offer_may_follow_its_place_at_once() {
    let mut model = model();
    model.tenants[0].router = Some("router".into());
    let mut w = World::with(model);
    w.queue = false;
    w.media.hold_opens = true;
    w.dial("+4930", true);
    w.route(Ok(to_workgroup()));
    let ticket = w.id();
    let place =
        Place { ticket, workgroup: "support".into(), direct: false, position: 1, wait_s: None, music: None };
    w.tell(ToShard::Enqueued { key: 1, result: Ok(place) });
    let token = w.offer(ticket, &[1])[0];
    w.media.hold_opens = false;
    for (i, leg) in std::mem::take(&mut w.media.held).into_iter().enumerate() {
        let address = at(&format!("10.0.0.1:{}", 9_000 + 2 * i));
        w.input(Input::Media(cordboard_media::control::Event::Opened { leg, address }));
        w.run();
    }
    w.accept(1);
    assert_eq!((w.settled(token), w.media.joined.len()), (vec![OfferResult::Accepted], 1));
    w.hang_up();
    w.over();
}

#[test]
fn a_redirection_is_a_302_with_preferences() {
    let mut w =
        routed(Ok(Route::Redirect { contacts: vec!["sip:a@10.9.9.9".into(), "sip:b@10.9.9.9".into()] }));
    let response = w.caller.refused().unwrap().1.unwrap();
    let contacts: Vec<_> = response.contacts().map(|c| (c.uri.to_owned(), c.q_milli())).collect();
    assert_eq!(response.status(), 302);
    assert_eq!(
        contacts.iter().map(|(u, _)| u.as_str()).collect::<Vec<_>>(),
        ["sip:a@10.9.9.9", "sip:b@10.9.9.9"]
    );
    assert!(contacts[0].1 > contacts[1].1);
    let end = w.over();
    assert_eq!((end.status, end.text.as_str()), (302, "redirected"));
}

#[test]
fn a_refusal_has_its_status_and_its_q850_reason() {
    let mut w = routed(Ok(Route::Refuse { status: 404, cause: 1, text: "no such line".into() }));
    let (status, response) = w.caller.refused().unwrap();
    let response = response.unwrap();
    assert_eq!((status, response.other("Reason")), (404, Some("Q.850;cause=1;text=\"no such line\"")));
    let end = w.over();
    assert_eq!((end.cause, end.status), (1, 404));
}

// ---- Straight to an address ----

#[test]
fn a_bridge_passes_the_ringing_and_joins_on_the_answer() {
    let mut w = routed(Ok(to_address(2)));
    w.ring(2);
    let progress = |w: &World| {
        w.caller.events.iter().filter(|e| matches!(e, Event::Progress { status: 180, .. })).count()
    };
    assert_eq!(progress(&w), 1);
    assert!(w.media.joined.is_empty());
    w.accept(2);
    assert_eq!(w.media.joined.len(), 1);
    assert!(w.caller.events.iter().any(|e| matches!(e, Event::Answered { .. })));
    w.pass(1_000);
    w.agent_hangs_up(2);
    assert_eq!(w.caller.ended(), 1);
    w.over();
}

#[test]
fn early_audio_of_a_bridge_goes_through() {
    let mut w = routed(Ok(to_address(2)));
    let leg = w.agents[1].ringing().unwrap();
    let (now, sdp) = (w.now, w.agents[1].sdp(cordboard_sip::sdp::Direction::SendRecv));
    w.agents[1].sip.progress(now, leg, 183, Some(&sdp));
    w.run();
    assert_eq!(w.media.joined.len(), 1);
    let early = w.caller.events.iter().find_map(|e| match e {
        Event::Progress { status: 183, response, .. } => Some(response.body().to_vec()),
        _ => None,
    });
    w.accept(2);
    let answered = w.caller.events.iter().find_map(|e| match e {
        Event::Answered { response, .. } => Some(response.body().to_vec()),
        _ => None,
    });
    assert_eq!(early, answered, "the 200 repeats the answer of the 183");
    w.hang_up();
    assert_eq!(w.agents[1].ended(), 1);
    w.over();
}

#[test]
fn a_bridge_that_fails_gives_the_caller_its_status() {
    for (status, mapped, cause) in [(486, 486, 17), (404, 404, 1), (603, 603, 21), (401, 500, 41)] {
        let mut w = routed(Ok(to_address(2)));
        w.refuse(2, status);
        assert_eq!(w.caller.refused().unwrap().0, mapped);
        assert_eq!(w.over().cause, cause);
    }
    let mut w = routed(Ok(to_address(2)));
    w.ring(2);
    w.pass(10_000);
    assert_eq!(w.caller.refused().unwrap().0, 480, "nobody answers");
    assert_eq!(w.agents[1].ended(), 1);
    w.over();
}

#[test]
fn a_bridge_follows_a_302() {
    let mut w = routed(Ok(to_address(2)));
    let leg = w.agents[1].ringing().unwrap();
    let (now, contact) = (w.now, format!("<sip:desk@{}>", agent_at(1)));
    w.agents[1].sip.reject(now, leg, 302, &[("Contact", &contact)]);
    w.run();
    w.accept(1);
    assert_eq!(w.media.joined.len(), 1);
    w.hang_up();
    w.over();
}

#[test]
fn a_caller_who_gives_up_during_a_bridge_s_ringing_stops_it() {
    let mut w = routed(Ok(to_address(2)));
    w.ring(2);
    w.hang_up();
    assert_eq!(w.agents[1].ended(), 1);
    assert_eq!(w.over().status, 487);
}

#[test]
fn a_transfer_that_nobody_answers_gives_the_script_its_call_back() {
    let mut w = World::new();
    w.dial("+4930", true);
    w.does(Verb::Answer).unwrap();
    let transfer = |n| Verb::Transfer { address: format!("sip:x@{}", agent_at(n)), ring_timeout_ms: 5_000 };
    let verb = w.verb(transfer(1));
    assert!(w.caller_hears_music(), "a ringing tone");
    w.ring(1);
    w.pass(5_000);
    assert_eq!(w.result(verb), Some(Err(Failure::Timeout)));
    assert!(!w.caller_hears_music());
    let verb = w.verb(transfer(1));
    w.refuse(1, 486);
    assert!(matches!(w.result(verb), Some(Err(Failure::Other(text))) if text.contains("486")));
    let verb = w.verb(play());
    assert_eq!(w.result(verb), None, "the script has its caller again");
    w.play_ends(cordboard_media::control::PlayEnd::Finished);
    let verb = w.verb(transfer(2));
    w.accept(2);
    assert_eq!((w.result(verb), w.media.joined.len()), (None, 1));
    w.agent_hangs_up(2);
    assert_eq!(w.result(verb), Some(Err(Failure::HungUp)));
    w.over();
}

// ---- Everything that is no call ----

fn register(w: &mut World, user: &str, password: Option<&str>, cseq: u32) -> u64 {
    let request = OutRequest {
        listener: 1,
        method: "REGISTER".to_owned(),
        target: "sip:demo.test".to_owned(),
        destination: Some(at(SHARD)),
        from: format!("<sip:{user}@demo.test>"),
        to: format!("<sip:{user}@demo.test>"),
        call_id: Some("reg".to_owned()),
        cseq: Some(cseq),
        headers: vec![("Contact".to_owned(), format!("<sip:{user}@{}>;expires=60", agent_at(3)))],
        credentials: password.map(|p| Credentials { user: user.to_owned(), password: p.to_owned() }),
        ..OutRequest::default()
    };
    let now = w.now;
    let number = w.agents[2].sip.request(now, request);
    w.run();
    number
}

fn response(w: &World, number: u64) -> Option<(u16, Option<String>)> {
    w.agents[2].events.iter().find_map(|e| match e {
        Event::Response { request, result: Ok(m) } if *request == number => {
            Some((m.status(), m.header(Name::Contact).map(str::to_owned)))
        }
        _ => None,
    })
}

#[test]
fn a_phone_registers_with_the_right_password_only() {
    let mut w = World::new();
    let wrong = register(&mut w, "carol", Some("guess"), 1);
    assert_eq!(response(&w, wrong).unwrap().0, 403);
    // Nobody learns who exists: a stranger is asked and refused like carol.
    let nobody = register(&mut w, "mallory", Some("x"), 1);
    assert_eq!(response(&w, nobody).unwrap().0, 403);
    let nobody = register(&mut w, "mallory", None, 1);
    assert_eq!(response(&w, nobody).unwrap().0, 401);
    assert!(w.strangers.len() >= 2 && w.strangers.iter().all(|s| *s == agent_at(3)), "{:?}", w.strangers);
    let none = register(&mut w, "carol", None, 1);
    assert_eq!(response(&w, none).unwrap().0, 401);
    let right = register(&mut w, "carol", Some("secret"), 5);
    assert_eq!(response(&w, right), None, "the domain has the word");
    let asked = w
        .told
        .iter()
        .find_map(|(_, m)| if let ToDomain::Register(r) = m { Some(r.clone()) } else { None })
        .unwrap();
    assert_eq!((asked.user.as_str(), &*asked.tenant, asked.contacts[0].expires_s), ("carol", "demo", 60));
    assert_eq!(asked.flow.remote, agent_at(3));
    let contacts = vec![cordboard_call::messages::Contact { expires_s: 59, ..asked.contacts[0].clone() }];
    let envelope = cordboard_call::messages::Envelope {
        from: 0,
        epoch: 1,
        seq: 500,
        interaction: None,
        lines: vec![],
        body: ToShard::Registered { request: asked.request, status: 200, contacts },
    };
    w.input(Input::Bus(envelope));
    w.run();
    assert_eq!(response(&w, right), Some((200, Some(format!("<sip:carol@{}>;expires=59", agent_at(3))))));
    assert_eq!(w.shard.counts().registers, 0);
}

#[test]
fn a_register_that_the_domain_never_answers_is_503() {
    let mut w = World::new();
    let right = register(&mut w, "carol", Some("secret"), 1);
    w.pass(5_000);
    assert_eq!(response(&w, right).unwrap().0, 503);
    assert_eq!((w.shard.counts().registers, w.shard.counts().timers), (0, 0));
}

#[test]
fn options_is_answered_and_the_unknown_refused() {
    let mut w = World::new();
    for (method, status) in [("OPTIONS", 200), ("MESSAGE", 405), ("PUBLISH", 405)] {
        let request = OutRequest {
            listener: 1,
            method: method.to_owned(),
            target: format!("sip:{SHARD}"),
            from: format!("<sip:{CALLER}>"),
            to: format!("<sip:{SHARD}>"),
            ..OutRequest::default()
        };
        let now = w.now;
        let number = w.agents[2].sip.request(now, request);
        w.run();
        assert_eq!(response(&w, number).map(|r| r.0), Some(status), "{method}");
    }
}

#[test]
fn a_registered_phone_is_rung_through_its_flow() {
    let mut w = World::new();
    let ticket = w.queued();
    let (tokens, mut offer) = w.make_offer(ticket, &[3]);
    if let ToShard::Offer(offer) = &mut offer {
        offer.agents[0].uri = "sip:carol@192.168.7.7:5062".to_owned();
        offer.agents[0].flow = Some(Flow::udp(1, agent_at(3)));
    }
    w.tell(offer);
    assert_eq!(w.agents[2].invite(0).request_uri(), "sip:carol@192.168.7.7:5062");
    w.refuse(3, 486);
    assert_eq!(w.settled(tokens[0]), [OfferResult::Busy]);
    w.hang_up();
    w.over();
}

#[test]
fn a_reload_leaves_live_calls_under_their_configuration() {
    let mut w = World::new();
    let ticket = w.queued();
    let mut other = model();
    other.tenants.clear();
    other.trunks.clear();
    w.shard.configure(std::sync::Arc::new(other), std::sync::Arc::new(cordboard_call::shard::NoPrompts));
    w.offer(ticket, &[1]);
    w.accept(1);
    assert_eq!(w.media.joined.len(), 1);
    w.hang_up();
    w.over();
}

#[test]
fn after_a_crash_the_orphans_get_their_bye() {
    let mut w = World::new();
    w.talking();
    let dialogs: Vec<_> = w
        .facts
        .iter()
        .filter_map(|f| if let Fact::DialogUp { dialog, .. } = f { Some((**dialog).clone()) } else { None })
        .collect();
    assert_eq!(dialogs.len(), 2, "the caller's and the agent's");
    let mut next = World::new();
    let mut out = Vec::new();
    next.shard.end_orphans(next.now, dialogs, &mut out);
    let byes: Vec<_> = out
        .into_iter()
        .filter_map(|o| {
            if let cordboard_call::shard::Output::Send { flow, bytes } = o {
                Some((flow.remote, bytes))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(byes.len(), 2);
    for (to, bytes) in byes {
        let now = w.now;
        let phone = if to == w.caller.at { &mut w.caller } else { &mut w.agents[0] };
        phone.sip.receive(now, Flow::udp(1, at(SHARD)), bytes.into());
    }
    // Not the old shard's: what it would say to the phones' answers is of no interest.
    for phone in [&mut w.caller, &mut w.agents[0]] {
        let mut ended = 0;
        while let Some(output) = phone.sip.poll() {
            ended +=
                usize::from(matches!(output, cordboard_sip::endpoint::Output::Event(Event::Ended { .. })));
        }
        assert_eq!(ended, 1);
    }
}

#[test]
fn garbage_on_every_port_of_entry_changes_nothing() {
    let mut w = World::new();
    w.talking();
    for bytes in [&b"\0\xff garbage"[..], b"INVITE", b"SIP/2.0 200 OK\r\n\r\n", b"\r\n\r\n"] {
        w.input(Input::Datagram { flow: Flow::udp(1, at(CALLER)), bytes: bytes.to_vec().into() });
    }
    w.input(Input::Media(cordboard_media::control::Event::Silent {
        leg: cordboard_media::control::LegId(999),
    }));
    w.input(Input::Routed { ask: 999, answer: Err(Fault::Timeout) });
    let verb = cordboard_call::script::FromScript::Verb { verb: 1, attributes: vec![], what: Verb::Answer };
    w.input(Input::Script(cordboard_call::script::ScriptId(999), verb));
    w.run();
    assert_eq!(w.media.joined.len(), 1);
    assert!(matches!(w.does(Verb::Answer), Err(Failure::Taken)));
    w.hang_up();
    w.over();
    let _ = Done::Ok;
}

#[test]
fn a_call_goes_on_with_one_hop_less() {
    let mut model = model();
    model.tenants[0].router = Some("router".into());
    let mut w = World::with(model);
    let sdp = w.caller.sdp(cordboard_sip::sdp::Direction::SendRecv);
    let invite = cordboard_sip::endpoint::Invite {
        listener: 1,
        target: format!("sip:+4930@{SHARD}"),
        from: "<sip:+331@10.0.1.1>".to_owned(),
        to: "<sip:+4930@x>".to_owned(),
        headers: vec![("Max-Forwards".to_owned(), "9".to_owned())],
        sdp: Some(sdp),
        ..Default::default()
    };
    w.leg = Some(w.caller.sip.invite(w.now, invite).unwrap());
    w.run();
    w.route(Ok(to_address(2)));
    assert_eq!(w.agents[1].invite(0).max_forwards(), Some(8));
    w.hang_up();
    w.over();
}

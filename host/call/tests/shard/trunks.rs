//! Calls that leave by a trunk, and what a trunk keeps up beside calls. The agents' phones play the
//! trunks' peers.

use cordboard_call::model::{Model, Trunk};
use cordboard_call::router::Route;
use cordboard_call::script::{Failure, Verb};
use cordboard_call::shard::Input;
use cordboard_call::trunk::terms::{
    Credentials, Destination, EarlyMedia, Health, Identity, Outbound, Register,
};
use cordboard_sip::endpoint::{Event, TxnId};
use cordboard_sip::transport::{Hop, Transport};
use cordboard_sip::wire::{Message, Method, Name};

use crate::world::{CALLER, SHARD, World, agent_at, model};

/// A trunk whose destinations are agents' phones: number and priority of each.
fn trunk(name: &str, peers: &[(usize, u16)]) -> Trunk {
    let destinations = peers
        .iter()
        .map(|(n, priority)| Destination {
            uri: format!("sip:{}", agent_at(*n)),
            priority: *priority,
            weight: 1,
        })
        .collect();
    Trunk {
        name: name.into(),
        out: Some(Outbound { destinations, ..Outbound::default() }),
        ..Trunk::default()
    }
}

fn with(trunks: Vec<Trunk>) -> Model {
    let mut model = model();
    model.tenants[0].router = Some("router".into());
    model.trunks.extend(trunks);
    model
}

fn out(model: &mut Model, at: usize) -> &mut Outbound {
    model.trunks[at].out.as_mut().unwrap()
}

/// A call that the router sends to `address`.
fn call(w: &mut World, address: &str) {
    w.dial("+4930", true);
    w.route(Ok(Route::Bridge { address: address.into(), ring_timeout_ms: 20_000, attributes: vec![] }));
}

/// The last request of a method at a peer.
fn request(w: &World, n: usize, method: Method<'_>) -> Option<(TxnId, Message)> {
    w.agents[n - 1].events.iter().rev().find_map(|e| match e {
        Event::Request { txn, request, .. } if request.method() == method => Some((*txn, request.clone())),
        _ => None,
    })
}

fn respond(w: &mut World, n: usize, method: Method<'_>, status: u16, headers: &[(&str, &str)]) {
    let (txn, _) = request(w, n, method).expect("a request");
    let now = w.now;
    w.agents[n - 1].sip.respond(now, txn, status, headers, None);
    w.agents[n - 1].events.retain(|e| !matches!(e, Event::Request { txn: t, .. } if *t == txn));
    w.run();
}

// ---- Calls out ----

#[test]
fn a_call_leaves_by_a_trunk_and_joins_on_the_answer() {
    let mut model = with(vec![trunk("carrier", &[(1, 1)])]);
    let o = out(&mut model, 1);
    o.called = vec![cordboard_call::trunk::rules::Rewrite::parse("+49* -> 0*").unwrap()];
    o.identity = Identity::Asserted;
    o.headers.add = vec![("X-Account".into(), "7".into())];
    o.headers.copy = vec!["X-Extra".into()];
    let mut w = World::with(model);
    call(&mut w, "trunk:carrier");
    let invite = w.agents[0].invite(0);
    assert_eq!(invite.request_uri(), format!("sip:030@{}", agent_at(1)), "the number as the trunk wants it");
    assert!(invite.header(Name::PAssertedIdentity).unwrap().contains("sip:+331@"));
    assert_eq!((invite.other("X-Account"), invite.other("X-Extra")), (Some("7"), Some("extra")));
    assert_eq!(w.shard.trunks(w.now)[1].calls_out, 1);
    w.ring(1);
    w.accept(1);
    assert_eq!(w.media.joined.len(), 1);
    w.agent_hangs_up(1);
    assert_eq!(w.caller.ended(), 1);
    w.over();
    let view = &w.shard.trunks(w.now)[1];
    assert_eq!((view.calls_out, view.out, view.destinations[0].calls), (0, 1, 1));
}

#[test]
fn a_silent_destination_costs_a_second_and_a_half_and_later_calls_nothing() {
    let mut w = World::with(with(vec![trunk("carrier", &[(1, 1), (2, 2)])]));
    w.agents[0].unplugged = true;
    call(&mut w, "trunk:carrier/+4930");
    assert_eq!(w.agents[1].invites(), 0);
    w.pass(1_500);
    assert_eq!(w.agents[1].invites(), 1, "within two seconds");
    w.accept(2);
    assert_eq!(w.media.joined.len(), 1);
    w.hang_up();
    assert_eq!(w.agents[1].ended(), 1);
    let view = w.shard.trunks(w.now)[1].clone();
    assert_eq!((view.destinations[0].serves, view.destinations[0].last_status), (false, Some(0)));
    w.dial("+4931", true);
    w.route(Ok(Route::Bridge {
        address: "trunk:carrier".into(),
        ring_timeout_ms: 20_000,
        attributes: vec![],
    }));
    assert_eq!(w.agents[1].invites(), 2, "at once");
}

#[test]
fn who_cannot_serve_is_passed_over_and_a_refusal_is_the_answer() {
    for (status, tried) in [(503, true), (500, true), (486, false), (404, false), (603, false)] {
        let mut w = World::with(with(vec![trunk("a", &[(1, 1)]), trunk("b", &[(2, 1)])]));
        call(&mut w, "trunk:a,b/+4930");
        w.refuse(1, status);
        assert_eq!(w.agents[1].invites() == 1, tried, "{status}");
        if tried {
            let (a, b) = (w.shard.trunks(w.now)[1].calls_out, w.shard.trunks(w.now)[2].calls_out);
            assert_eq!((a, b), (0, 1), "it counts where it is");
            w.accept(2);
            assert_eq!(w.media.joined.len(), 1);
            w.hang_up();
        } else {
            assert_eq!(w.caller.refused().unwrap().0, status);
        }
        w.over();
    }
}

#[test]
fn when_all_fail_the_caller_hears_the_last_failure_once() {
    let mut w = World::with(with(vec![trunk("a", &[(1, 1)]), trunk("b", &[(2, 1)])]));
    call(&mut w, "trunk:a,b/+4930");
    w.refuse(1, 503);
    w.refuse(2, 502);
    assert_eq!(w.caller.refused().unwrap().0, 502);
    w.over();
}

#[test]
fn a_full_trunk_is_no_way_and_the_next_one_is() {
    let mut model = with(vec![trunk("a", &[(1, 1)]), trunk("b", &[(2, 1)])]);
    out(&mut model, 1).max_calls = 0;
    let mut w = World::with(model.clone());
    call(&mut w, "trunk:a,b/+4930");
    assert_eq!((w.agents[0].invites(), w.agents[1].invites()), (0, 1));
    w.accept(2);
    w.hang_up();
    w.over();
    assert_eq!(w.shard.trunks(w.now)[1].out_full, 1);
    let mut w = World::with(model);
    call(&mut w, "trunk:a/+4930");
    let (status, response) = w.caller.refused().unwrap();
    assert_eq!((status, response.unwrap().header(Name::RetryAfter)), (503, Some("5")));
    w.over();
}

#[test]
fn early_audio_of_a_failed_destination_is_parted_and_a_trunk_may_ring_instead() {
    let mut model = with(vec![trunk("a", &[(1, 1)]), trunk("b", &[(2, 1)])]);
    out(&mut model, 2).early_media = EarlyMedia::Ring;
    let mut w = World::with(model);
    call(&mut w, "trunk:a,b/+4930");
    let early = |w: &mut World, n: usize| {
        let (now, sdp) = (w.now, w.agents[n - 1].sdp(cordboard_sip::sdp::Direction::SendRecv));
        let leg = w.agents[n - 1].ringing().unwrap();
        w.agents[n - 1].sip.progress(now, leg, 183, Some(&sdp));
        w.run();
    };
    early(&mut w, 1);
    assert_eq!(w.media.joined.len(), 1);
    w.refuse(1, 503);
    assert!(w.media.joined.is_empty());
    early(&mut w, 2);
    assert!(w.media.joined.is_empty(), "this trunk only rings");
    let last = w.caller.events.iter().rev().find_map(|e| match e {
        Event::Progress { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(last, Some(180));
    w.accept(2);
    assert_eq!(w.media.joined.len(), 1);
    w.hang_up();
    w.over();
}

#[test]
fn a_script_transfers_by_a_trunk_and_gets_its_caller_back_when_nobody_can() {
    let mut model = with(vec![trunk("a", &[(1, 1)])]);
    model.tenants[0].router = None;
    let mut w = World::with(model);
    w.dial("+4930", true);
    w.does(Verb::Answer).unwrap();
    let verb = w.verb(Verb::Transfer { address: "trunk:a/+33".into(), ring_timeout_ms: 5_000 });
    w.refuse(1, 503);
    assert!(matches!(w.result(verb), Some(Err(Failure::Other(text))) if text.contains("503")));
    let verb = w.verb(Verb::Transfer { address: "trunk:absent/+33".into(), ring_timeout_ms: 5_000 });
    assert!(matches!(w.result(verb), Some(Err(Failure::Other(text))) if text.contains("absent")));
    w.verb(Verb::Transfer { address: "trunk:a/+33".into(), ring_timeout_ms: 5_000 });
    w.accept(1);
    w.agent_hangs_up(1);
    assert_eq!(w.caller.ended(), 1, "the other party's hang-up ends the call");
    w.over();
}

#[test]
fn a_caller_who_gives_up_while_it_rings_frees_the_trunk() {
    let mut w = World::with(with(vec![trunk("a", &[(1, 1)])]));
    call(&mut w, "trunk:a/+4930");
    w.ring(1);
    w.hang_up();
    assert_eq!(w.agents[0].ended(), 1);
    w.over();
    assert_eq!(w.shard.trunks(w.now)[1].calls_out, 0);
}

#[test]
fn whom_a_trunk_calls_is_no_stranger_and_may_not_call_for_that() {
    let mut named = trunk("named", &[(1, 1)]);
    named.out.as_mut().unwrap().destinations[0].uri = "sip:far.test".into();
    let mut w = World::with(with(vec![named]));
    let at = |n: usize, port: u16| {
        cordboard_sip::endpoint::Flow::udp(1, std::net::SocketAddr::new(agent_at(n).ip(), port))
    };
    // Where a router sends a call without a trunk is anybody's.
    call(&mut w, &format!("sip:desk@{}", agent_at(2)));
    w.hang_up();
    assert!(!w.shard.is_trunk(w.now, at(2, 5060)) && !w.shard.is_trunk(w.now, at(1, 5060)));
    call(&mut w, "trunk:named/+4930");
    resolves(&mut w, "far.test", &[1]);
    w.accept(1);
    assert!(w.shard.is_trunk(w.now, at(1, 5060)), "what DNS says of a trunk's destination");
    assert!(w.shard.is_trunk(w.now, at(1, 40_000)), "and whatever port it sends from");
    w.hang_up();
    let invite = cordboard_sip::endpoint::Invite {
        listener: 1,
        target: "sip:+4940@10.0.0.1".into(),
        from: "<sip:+331@x>".into(),
        to: "<sip:+4940@x>".into(),
        ..Default::default()
    };
    let now = w.now;
    w.agents[0].sip.invite(now, invite).unwrap();
    w.run();
    assert_eq!(w.agents[0].refused().unwrap().0, 403);
    w.pass(3_600_000);
    assert!(!w.shard.is_trunk(w.now, at(1, 5060)), "known for an hour after the last call");
}

// ---- Registration ----

fn registering() -> Model {
    let mut model = with(vec![trunk("carrier", &[(1, 1)])]);
    model.trunks[1].tenant = Some("demo".into());
    let o = out(&mut model, 1);
    o.credentials = Some(Credentials { user: "acme".into(), password: "secret".into() });
    o.register = Some(Register {
        registrar: format!("sip:{}", agent_at(1)),
        user: "acme".into(),
        proxy: None,
        expires_s: 60,
        bulk: false,
    });
    model
}

fn registered(w: &mut World) -> String {
    w.pass(200);
    respond(
        w,
        1,
        Method::Register,
        401,
        &[("WWW-Authenticate", "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"")],
    );
    let (_, again) = request(w, 1, Method::Register).unwrap();
    assert!(again.header(Name::Authorization).unwrap().contains("username=\"acme\""));
    assert_eq!(again.expires(), Some(60));
    let contact = again.contacts().next().unwrap().uri.to_owned();
    respond(w, 1, Method::Register, 200, &[("Contact", &format!("<{contact}>;expires=60"))]);
    contact
}

#[test]
fn a_registration_answers_its_challenge_is_refreshed_and_taken_back() {
    let mut w = World::with(registering());
    registered(&mut w);
    let view = w.shard.trunks(w.now)[1].registration.clone().unwrap();
    assert_eq!((view.state.as_str(), view.expires_in_s), ("registered", Some(60)));
    assert_eq!(w.notices, [(true, "trunk carrier: registered".to_owned())]);
    assert!(w.shard.counts().idle(), "a registration keeps no drained node");
    w.pass(44_000);
    assert!(request(&w, 1, Method::Register).is_none());
    w.pass(8_000);
    let (_, refresh) = request(&w, 1, Method::Register).expect("before the minute is over");
    respond(
        &mut w,
        1,
        Method::Register,
        200,
        &[("Contact", &format!("<{}>;expires=60", refresh.contacts().next().unwrap().uri))],
    );
    w.input(Input::Drain);
    w.run();
    let (_, last) = request(&w, 1, Method::Register).unwrap();
    assert_eq!(last.expires(), Some(0));
    respond(&mut w, 1, Method::Register, 200, &[]);
    w.pass(120_000);
    assert!(request(&w, 1, Method::Register).is_none(), "and that was the last one");
    assert_eq!(w.shard.trunks(w.now)[1].registration.clone().unwrap().state, "removed");
}

#[test]
fn all_numbers_of_a_trunk_are_registered_at_once_when_it_is_asked_for() {
    let mut model = registering();
    let register = out(&mut model, 1).register.as_mut().unwrap();
    register.bulk = true;
    let mut w = World::with(model);
    w.pass(200);
    let (_, sent) = request(&w, 1, Method::Register).unwrap();
    assert_eq!((sent.header(Name::Require), sent.other("Proxy-Require")), (Some("gin"), Some("gin")));
    let contact = sent.contacts().next().unwrap().uri.to_owned();
    assert_eq!(contact, format!("sip:{SHARD};bnc"));
    respond(&mut w, 1, Method::Register, 200, &[("Contact", &format!("<{contact}>;expires=60"))]);
    assert_eq!(w.shard.trunks(w.now)[1].registration.clone().unwrap().state, "registered");
}

#[test]
fn a_refused_registration_is_seen_and_tried_again_later() {
    let mut w = World::with(registering());
    w.pass(200);
    respond(&mut w, 1, Method::Register, 403, &[]);
    let view = w.shard.trunks(w.now)[1].registration.clone().unwrap();
    assert_eq!((view.state.as_str(), view.status, view.failures), ("failed", Some(403), 1));
    assert!(!w.notices[0].0 && w.notices[0].1.contains("403"));
    w.pass(14_000);
    assert!(request(&w, 1, Method::Register).is_none());
    w.pass(17_000);
    assert!(request(&w, 1, Method::Register).is_some());
}

#[test]
fn a_call_to_our_registration_is_the_trunk_s_though_its_address_is_nobody_s() {
    let mut w = World::with(registering());
    let contact = registered(&mut w);
    let sdp = w.agents[1].sdp(cordboard_sip::sdp::Direction::SendRecv);
    let invite = |target: &str| cordboard_sip::endpoint::Invite {
        listener: 1,
        target: target.to_owned(),
        from: "<sip:+331@x>".to_owned(),
        to: "<sip:+4977@carrier.test>".to_owned(),
        sdp: Some(sdp.clone()),
        ..Default::default()
    };
    let now = w.now;
    w.agents[1].sip.invite(now, invite(&contact)).unwrap();
    w.run();
    assert_eq!((w.asked[0].2.trunk.to_string(), w.asked[0].2.called.as_str()), ("carrier".into(), "+4977"));
    let guessed = contact.split("line=").next().unwrap().to_owned() + "line=0000000000000000";
    w.agents[1].sip.invite(now, invite(&guessed)).unwrap();
    w.run();
    assert_eq!(w.agents[1].refused().unwrap().0, 403);
    assert!(CALLER.starts_with("10.0.1."), "the address of the trunk that goes by address");
}

#[test]
fn a_reload_ends_what_has_gone_and_keeps_what_is_the_same() {
    let model = registering();
    let mut w = World::with(model.clone());
    registered(&mut w);
    let prompts = std::sync::Arc::new(cordboard_call::shard::NoPrompts);
    w.shard.configure(std::sync::Arc::new(model.clone()), prompts.clone());
    w.input(Input::Tick);
    w.run();
    assert!(request(&w, 1, Method::Register).is_none(), "nothing has changed");
    let mut changed = model.clone();
    out(&mut changed, 1).register.as_mut().unwrap().user = "other".into();
    w.shard.configure(std::sync::Arc::new(changed), prompts);
    w.input(Input::Tick);
    w.run();
    let (_, gone) = request(&w, 1, Method::Register).unwrap();
    assert_eq!((gone.expires(), gone.to().unwrap().uri.contains("acme@")), (Some(0), true));
    respond(&mut w, 1, Method::Register, 200, &[]);
    w.pass(200);
    assert!(request(&w, 1, Method::Register).unwrap().1.to().unwrap().uri.contains("other@"));
}

fn reload(w: &mut World, model: &Model) {
    w.shard
        .configure(std::sync::Arc::new(model.clone()), std::sync::Arc::new(cordboard_call::shard::NoPrompts));
    w.input(Input::Tick);
    w.run();
}

#[test]
fn a_registration_at_a_name_is_taken_back_by_a_reload_before_another_takes_its_place() {
    for stays in [true, false] {
        let mut model = registering();
        out(&mut model, 1).register.as_mut().unwrap().registrar = "sip:far.test".into();
        let mut w = World::with(model.clone());
        w.pass(200);
        resolves(&mut w, "far.test", &[1]);
        let (_, first) = request(&w, 1, Method::Register).unwrap();
        let contact = first.contacts().next().unwrap().uri.to_owned();
        respond(&mut w, 1, Method::Register, 200, &[("Contact", &format!("<{contact}>;expires=60"))]);
        if stays {
            out(&mut model, 1).register.as_mut().unwrap().expires_s = 120;
        } else {
            model.trunks.pop();
        }
        reload(&mut w, &model);
        w.pass(1_000);
        assert!(request(&w, 1, Method::Register).is_none(), "DNS has not answered");
        resolves(&mut w, "far.test", &[1]);
        let (_, last) = request(&w, 1, Method::Register).expect("an end");
        assert_eq!((last.expires(), last.call_id()), (Some(0), first.call_id()));
        assert_eq!(last.contacts().next().unwrap().uri, contact);
        w.pass(1_000);
        assert!(w.names.is_empty(), "the new one waits for the old one's end");
        respond(&mut w, 1, Method::Register, 200, &[]);
        w.pass(200);
        assert_eq!(w.names.len(), usize::from(stays));
        if stays {
            resolves(&mut w, "far.test", &[1]);
            let (_, new) = request(&w, 1, Method::Register).unwrap();
            assert_eq!(new.expires(), Some(120));
            assert_ne!(new.call_id(), first.call_id());
        }
    }
}

#[test]
fn a_registration_that_a_reload_overtakes_is_taken_back_when_it_was_granted() {
    for (status, granted) in [(200, true), (403, false)] {
        let mut model = registering();
        let mut w = World::with(model.clone());
        w.pass(200);
        let (txn, asked) = request(&w, 1, Method::Register).unwrap();
        model.trunks.pop();
        reload(&mut w, &model);
        let now = w.now;
        w.agents[0].sip.respond(now, txn, status, &[], None);
        w.agents[0].events.clear();
        w.run();
        let last = request(&w, 1, Method::Register).map(|(_, r)| (r.expires(), r.call_id().to_owned()));
        assert_eq!(last, granted.then(|| (Some(0), asked.call_id().to_owned())));
    }
}

#[test]
fn a_registrar_whose_name_is_lost_is_asked_for_once_and_keeps_no_successor_waiting() {
    let mut model = registering();
    out(&mut model, 1).register.as_mut().unwrap().registrar = "sip:far.test".into();
    let mut w = World::with(model.clone());
    w.pass(200);
    resolves(&mut w, "far.test", &[1]);
    respond(&mut w, 1, Method::Register, 200, &[]);
    out(&mut model, 1).register.as_mut().unwrap().expires_s = 120;
    reload(&mut w, &model);
    resolves(&mut w, "far.test", &[]);
    assert!(w.names.is_empty());
    w.pass(200);
    resolves(&mut w, "far.test", &[1]);
    assert_eq!(request(&w, 1, Method::Register).unwrap().1.expires(), Some(120));
}

// ---- Health ----

#[test]
fn options_finds_a_dead_destination_before_a_call_does_and_its_return() {
    let mut model = with(vec![trunk("carrier", &[(1, 1), (2, 2)])]);
    out(&mut model, 1).health = Some(Health { every_ms: 5_000, down_after: 2, up_after: 2 });
    let mut w = World::with(model);
    w.pass(5_500);
    assert!(w.shard.trunks(w.now)[1].destinations.iter().all(|d| d.serves && d.last_status == Some(200)));
    w.agents[0].unplugged = true;
    w.pass(5_500);
    assert!(w.shard.trunks(w.now)[1].destinations[0].serves, "once is not enough");
    w.pass(10_000);
    assert!(!w.shard.trunks(w.now)[1].destinations[0].serves);
    assert!(w.notices.iter().any(|(well, text)| !well && text.contains("is silent")));
    call(&mut w, "trunk:carrier/+4930");
    assert_eq!(w.agents[1].invites(), 1, "at once");
    w.accept(2);
    w.hang_up();
    w.agents[0].unplugged = false;
    w.pass(10_500);
    assert!(w.shard.trunks(w.now)[1].destinations[0].serves);
    assert!(w.notices.iter().any(|(well, text)| *well && text.contains("is back")));
}

// ---- Names ----

/// DNS answers the last question.
fn resolves(w: &mut World, name: &str, peers: &[usize]) {
    let (ask, uri) = w.names.pop().expect("a question");
    assert!(uri.contains(name), "{uri}");
    let answer = if peers.is_empty() {
        Err(format!("{name}: DNS knows no such host"))
    } else {
        let hop = |n: &usize| Hop { address: agent_at(*n), transport: Some(Transport::Udp), name: None };
        Ok(peers.iter().map(hop).collect())
    };
    w.input(Input::Resolved { ask, answer });
    w.run();
}

#[test]
fn a_name_is_resolved_and_its_addresses_are_tried_one_after_the_other() {
    for address in ["sip:desk@far.test", "trunk:named/+4930"] {
        let mut named = trunk("named", &[(1, 1)]);
        named.out.as_mut().unwrap().destinations[0].uri = "sip:far.test".into();
        let mut w = World::with(with(vec![named]));
        w.agents[0].unplugged = true;
        call(&mut w, address);
        resolves(&mut w, "far.test", &[1, 2]);
        w.pass(2_000);
        let uri = w.agents[1].invite(0).request_uri().to_owned();
        assert!(uri.ends_with("@far.test"), "the name stays in the Request-URI: {uri}");
        w.accept(2);
        assert_eq!(w.media.joined.len(), 1);
        w.hang_up();
        assert_eq!(w.agents[1].ended(), 1);
        w.over();
    }
}

#[test]
fn a_name_that_does_not_resolve_ends_the_attempt_and_says_so() {
    let mut named = trunk("named", &[(1, 1)]);
    named.out.as_mut().unwrap().destinations[0].uri = "sip:far.test".into();
    let mut w = World::with(with(vec![named, trunk("other", &[(2, 1)])]));
    call(&mut w, "trunk:named,other/+4930");
    resolves(&mut w, "far.test", &[]);
    assert_eq!(w.agents[1].invites(), 1, "the next trunk");
    w.accept(2);
    w.hang_up();
    w.over();
    let mut w = World::with(with(Vec::new()));
    call(&mut w, "sip:desk@far.test");
    resolves(&mut w, "far.test", &[]);
    assert_eq!(w.caller.refused().unwrap().0, 502);
    let end = w.over();
    assert!(end.text.contains("DNS knows no such host") && end.cause == 38, "{end:?}");
}

#[test]
fn a_caller_who_leaves_while_dns_is_asked_leaves_nothing() {
    let mut w = World::with(with(Vec::new()));
    call(&mut w, "sip:desk@far.test");
    w.hang_up();
    resolves(&mut w, "far.test", &[1]);
    assert_eq!(w.agents[0].invites(), 0);
    w.over();
}

#[test]
fn an_agent_s_phone_may_be_a_name() {
    let mut w = World::new();
    let ticket = w.queued();
    w.agents[0].unplugged = true;
    let offer = |w: &mut World| {
        let token = w.id();
        let agent = cordboard_call::messages::Offered {
            agent: "alice".into(),
            token,
            uri: "sip:alice@desk.test".into(),
            flow: None,
        };
        let offer = cordboard_call::messages::Offer {
            ticket,
            agents: vec![agent],
            ring_timeout_ms: 20_000,
            lease_ms: 60_000,
            workgroup: "support".into(),
        };
        w.tell(cordboard_call::messages::ToShard::Offer(offer));
        token
    };
    let token = offer(&mut w);
    resolves(&mut w, "desk.test", &[]);
    assert_eq!(w.settled(token), [cordboard_call::messages::OfferResult::Unreachable { status: 0 }]);
    let token = offer(&mut w);
    resolves(&mut w, "desk.test", &[1, 2]);
    w.pass(2_000);
    w.accept(2);
    assert_eq!(w.settled(token), [cordboard_call::messages::OfferResult::Accepted]);
    w.hang_up();
    w.over();
}

// ---- A peer that registers ----

#[test]
fn a_peer_that_registers_is_known_by_where_it_registered_from_and_called_there() {
    let mut pbx = trunk("pbx", &[]);
    pbx.tenant = Some("demo".into());
    let (user, password) = ("pbx".to_owned(), "secret".to_owned());
    pbx.peer = Some(cordboard_call::trunk::terms::Peer { user, password, realm: "pbx.test".into() });
    let mut w = World::with(with(vec![pbx]));
    call(&mut w, "trunk:pbx/+4930");
    assert_eq!(w.caller.refused().unwrap().0, 503, "it has not registered");
    let request = cordboard_sip::endpoint::OutRequest {
        listener: 1,
        method: "REGISTER".into(),
        target: "sip:10.0.0.1".into(),
        from: "<sip:pbx@pbx.test>".into(),
        to: "<sip:pbx@pbx.test>".into(),
        headers: vec![("Contact".into(), "<sip:trunk@192.168.0.7:5062;bnc>;expires=9999".into())],
        credentials: Some(cordboard_sip::endpoint::Credentials {
            user: "pbx".into(),
            password: "secret".into(),
        }),
        ..Default::default()
    };
    let now = w.now;
    w.agents[2].sip.request(now, request);
    w.run();
    let answer = w.agents[2].events.iter().find_map(|e| match e {
        Event::Response { result: Ok(r), .. } => {
            Some((r.status(), r.contacts().next().and_then(|c| c.expires_s())))
        }
        _ => None,
    });
    assert_eq!(answer, Some((200, Some(600))));
    assert_eq!(w.shard.trunks(w.now)[1].peer.as_deref(), Some(&*agent_at(3).to_string()));
    w.dial("+4931", true);
    w.route(Ok(Route::Bridge { address: "trunk:pbx".into(), ring_timeout_ms: 20_000, attributes: vec![] }));
    assert_eq!(w.agents[2].invite(0).request_uri(), "sip:+4931@192.168.0.7:5062");
    w.accept(3);
    assert_eq!(w.media.joined.len(), 1);
    w.hang_up();
    let sdp = w.agents[2].sdp(cordboard_sip::sdp::Direction::SendRecv);
    let invite = cordboard_sip::endpoint::Invite {
        listener: 1,
        target: "sip:+4940@10.0.0.1".into(),
        from: "<sip:+331@x>".into(),
        to: "<sip:+4940@x>".into(),
        sdp: Some(sdp),
        ..Default::default()
    };
    let now = w.now;
    w.agents[2].sip.invite(now, invite.clone()).unwrap();
    w.run();
    assert_eq!(w.asked.last().unwrap().2.trunk.to_string(), "pbx");
    w.pass(601_000);
    assert_eq!(w.shard.trunks(w.now)[1].peer, None);
    let now = w.now;
    w.agents[2].sip.invite(now, invite).unwrap();
    w.run();
    assert_eq!(w.agents[2].refused().unwrap().0, 403, "its time is over");
}

//! Transfers by an agent's phone: blind, attended, refused, and a leg that another takes the place of.

use cordboard_call::messages::TalkEnd;
use cordboard_call::script::{ScriptEnd, Verb};
use cordboard_media::control;
use cordboard_sip::endpoint::{Event, Flow, Invite, LegId};
use cordboard_sip::sdp::Direction;
use cordboard_sip::wire::{Method, Name};

use crate::world::{SHARD, World, agent_at, at};

/// What the phone was told of its transfer, in order.
fn news(w: &World, n: usize) -> Vec<String> {
    let events = &w.agents[n - 1].events;
    let bodies = events.iter().filter_map(|e| match e {
        Event::Request { request, .. } if request.method() == Method::Notify => {
            assert_eq!(request.header(Name::Event), Some("refer"));
            let over = request.header(Name::SubscriptionState).is_some_and(|s| s.starts_with("terminated"));
            let text = String::from_utf8_lossy(request.body()).trim().to_owned();
            assert_eq!(over, !text.starts_with("SIP/2.0 1"), "{text}");
            Some(text)
        }
        _ => None,
    });
    bodies.collect()
}

fn leg_of(w: &World, n: usize) -> LegId {
    w.agents[n - 1].ringing().expect("a call at the agent's phone")
}

fn refer(w: &mut World, n: usize, to: &str) {
    let (leg, now) = (leg_of(w, n), w.now);
    w.agents[n - 1].sip.refer(now, leg, to, Some("<sip:alice@demo.test>")).expect("a REFER");
    w.run();
}

fn joined_to_caller(w: &World) -> control::LegId {
    let caller = w.media.opened[0];
    let pair = w.media.joined.iter().find(|(a, b)| *a == caller || *b == caller).expect("joined");
    if pair.0 == caller { pair.1 } else { pair.0 }
}

#[test]
fn a_blind_transfer_joins_the_caller_with_the_target_and_frees_the_agent() {
    let mut w = World::new();
    w.talking();
    refer(&mut w, 1, &format!("<sip:bob@{}>", agent_at(2)));
    assert_eq!(w.agents[0].ended(), 0, "the agent waits for the outcome");
    let invite = w.agents[1].invite(0);
    assert_eq!(invite.header(Name::ReferredBy), Some("<sip:alice@demo.test>"));
    w.ring(2);
    w.accept(2);
    assert_eq!(news(&w, 1), ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]);
    assert_eq!((w.agents[0].ended(), w.talk_ends()), (1, vec![TalkEnd::AgentLeft]));
    assert_eq!(joined_to_caller(&w), w.media.opened[2]);
    // The hang-up of either reaches the other.
    w.agent_hangs_up(2);
    assert_eq!(w.caller.ended(), 1);
    let end = w.over();
    assert_eq!(end.cause, 16);
}

#[test]
fn a_target_at_our_own_address_is_the_colleague_of_that_name() {
    let mut w = World::new();
    w.talking();
    w.phones.push(("bob".into(), format!("sip:desk@{}", agent_at(2)), None));
    refer(&mut w, 1, &format!("<sip:bob@{SHARD}>"));
    assert_eq!(w.agents[1].invite(0).request_uri(), format!("sip:desk@{}", agent_at(2)));
    w.accept(2);
    assert_eq!(w.agents[0].ended(), 1);
    w.hang_up();
    assert_eq!(w.agents[1].ended(), 1);
    w.over();
}

const BEHIND_A_NAT: &str = "sip:carol@192.168.7.7:5062";

#[test]
fn a_colleague_whose_phone_has_registered_is_rung_through_its_flow() {
    // By the agent's name at our address, by the phone's user in the realm, and by the contact itself.
    let targets = [format!("sip:carol@{SHARD}"), "sip:carol@demo.test".to_owned(), BEHIND_A_NAT.to_owned()];
    for target in targets {
        let mut w = World::new();
        w.phones.push(("carol".into(), BEHIND_A_NAT.into(), Some(Flow::udp(1, agent_at(3)))));
        w.talking();
        refer(&mut w, 1, &format!("<{target}>"));
        let invite = w.agents[2].invite(0);
        assert_eq!(invite.request_uri(), BEHIND_A_NAT, "{target}");
        w.ring(3);
        w.accept(3);
        assert_eq!(news(&w, 1).last().map(String::as_str), Some("SIP/2.0 200 OK"), "{target}");
        w.hang_up();
        assert_eq!(w.agents[2].ended(), 1);
        w.over();
    }
}

#[test]
fn a_colleague_without_a_phone_is_refused_and_the_agent_keeps_the_caller() {
    let mut w = World::new();
    w.talking();
    refer(&mut w, 1, &format!("<sip:carol@{SHARD}>"));
    assert_eq!(news(&w, 1), ["SIP/2.0 100 Trying", "SIP/2.0 480 Temporarily Unavailable"]);
    assert!(w.lines.iter().any(|l| l.detail.contains("carol has no phone")), "{:#?}", w.lines);
    assert_eq!((w.talk_ends().len(), w.media.joined.len()), (0, 1));
    w.hang_up();
    w.over();
}

#[test]
fn an_attended_transfer_reaches_a_colleague_s_consultation_through_its_flow() {
    let mut w = World::new();
    w.phones.push(("carol".into(), BEHIND_A_NAT.into(), Some(Flow::udp(1, agent_at(3)))));
    w.talking();
    let invite = Invite {
        listener: 1,
        target: format!("sip:carol@{}", agent_at(3)),
        from: format!("<sip:alice@{}>", agent_at(1)),
        to: format!("<sip:carol@{SHARD}>"),
        sdp: Some(w.agents[0].sdp(Direction::SendRecv)),
        ..Invite::default()
    };
    let now = w.now;
    let consultation = w.agents[0].sip.invite(now, invite).unwrap();
    w.run();
    let at_carol = leg_of(&w, 3);
    w.accept(3);
    let escaped: String = replaces(&w, 1, consultation).replace(';', "%3B").replace('=', "%3D");
    refer(&mut w, 1, &format!("<sip:carol@{SHARD}?Replaces={escaped}>"));
    let named = w.agents[2].events.iter().rev().find_map(|e| match e {
        Event::Incoming { replaces, .. } => Some(*replaces),
        _ => None,
    });
    assert_eq!(named, Some(Some(at_carol)), "the caller's leg takes the place of the consultation");
    w.accept(3);
    let now = w.now;
    w.agents[2].sip.hang_up(now, at_carol, None);
    w.run();
    assert_eq!(news(&w, 1).last().map(String::as_str), Some("SIP/2.0 200 OK"));
    w.hang_up();
    w.over();
}

#[test]
fn a_target_that_refuses_leaves_the_caller_with_the_agent() {
    let mut w = World::new();
    w.talking();
    let before = joined_to_caller(&w);
    refer(&mut w, 1, &format!("<sip:bob@{}>", agent_at(2)));
    w.refuse(2, 486);
    assert_eq!(news(&w, 1), ["SIP/2.0 100 Trying", "SIP/2.0 486 Busy Here"]);
    assert!(w.talk_ends().is_empty());
    assert_eq!(joined_to_caller(&w), before);
    assert!(!w.caller_hears_music(), "no ringing tone is left");
    // Once more, and now somebody is there: the second transfer of a dialog is told apart by its number.
    let (leg, now) = (leg_of(&w, 1), w.now);
    let target = format!("<sip:carol@{}>", agent_at(3));
    w.agents[0].sip.refer(now, leg, &target, None).expect("a REFER");
    w.run();
    w.accept(3);
    assert_eq!(w.talk_ends(), [TalkEnd::AgentLeft]);
    w.hang_up();
    assert_eq!(w.agents[2].ended(), 1);
    w.over();
}

#[test]
fn an_agent_who_hangs_up_at_once_loses_no_caller() {
    let mut w = World::new();
    w.talking();
    refer(&mut w, 1, &format!("<sip:bob@{}>", agent_at(2)));
    w.agent_hangs_up(1);
    assert_eq!((w.talk_ends(), w.caller.ended()), (vec![TalkEnd::AgentLeft], 0));
    w.accept(2);
    assert_eq!(joined_to_caller(&w), w.media.opened[2]);
    w.hang_up();
    assert_eq!(w.agents[1].ended(), 1);
    w.over();
}

#[test]
fn a_script_that_ends_with_its_agent_ends_no_transfer() {
    for returns in [true, false] {
        let mut w = World::new();
        w.talking();
        refer(&mut w, 1, &format!("<sip:bob@{}>", agent_at(2)));
        w.agent_hangs_up(1);
        if returns {
            w.script_ends(ScriptEnd::Returned);
        } else {
            w.verb(Verb::HangUp { cause: 16 });
        }
        assert_eq!(w.caller.ended(), 0, "the caller is on the way to bob");
        w.accept(2);
        assert_eq!(joined_to_caller(&w), w.media.opened[2]);
        w.agent_hangs_up(2);
        assert_eq!(w.caller.ended(), 1);
        w.over();
    }
    // When bob will not, the script's word holds.
    let mut w = World::new();
    w.talking();
    refer(&mut w, 1, &format!("<sip:bob@{}>", agent_at(2)));
    w.agent_hangs_up(1);
    w.verb(Verb::HangUp { cause: 31 });
    w.refuse(2, 486);
    assert_eq!(w.caller.ended(), 1);
    assert_eq!(w.over().cause, 31);
}

#[test]
fn a_caller_who_hangs_up_during_a_transfer_ends_it_for_all() {
    let mut w = World::new();
    w.talking();
    refer(&mut w, 1, &format!("<sip:bob@{}>", agent_at(2)));
    w.hang_up();
    assert_eq!(news(&w, 1).last().map(String::as_str), Some("SIP/2.0 487 Request Terminated"));
    assert_eq!(w.agents[0].ended(), 1);
    w.over();
}

#[test]
fn callers_and_strangers_transfer_nothing() {
    let mut w = World::new();
    w.talking();
    let (leg, now) = (w.leg.unwrap(), w.now);
    w.caller.sip.refer(now, leg, &format!("<sip:bob@{}>", agent_at(2)), None).expect("a REFER");
    w.run();
    let refused = w
        .caller
        .events
        .iter()
        .any(|e| matches!(e, Event::Response { result: Ok(response), .. } if response.status() == 603));
    assert!(refused);
    assert_eq!(w.agents[1].invites(), 0);
    w.hang_up();
    w.over();
}

/// A Replaces value for the dialog of a phone's leg, as the other side of it is to see it.
fn replaces(w: &World, n: usize, leg: LegId) -> String {
    let dialog = w.agents[n - 1].sip.dialog(leg).expect("a dialog");
    let tag = |text: &str| text.rsplit_once(";tag=").expect("a tag").1.to_owned();
    format!("{};to-tag={};from-tag={}", dialog.call_id, tag(&dialog.remote), tag(&dialog.local))
}

#[test]
fn an_attended_transfer_puts_the_caller_where_the_consultation_was() {
    let mut w = World::new();
    w.talking();
    // Alice asks Bob first, from phone to phone.
    let invite = Invite {
        listener: 1,
        target: format!("sip:bob@{}", agent_at(2)),
        from: format!("<sip:alice@{}>", agent_at(1)),
        to: format!("<sip:bob@{}>", agent_at(2)),
        sdp: Some(w.agents[0].sdp(Direction::SendRecv)),
        ..Invite::default()
    };
    let now = w.now;
    let consultation = w.agents[0].sip.invite(now, invite).unwrap();
    w.run();
    let at_bob = leg_of(&w, 2);
    w.accept(2);
    let value = replaces(&w, 1, consultation);
    let escaped: String = value.replace(';', "%3B").replace('=', "%3D");
    refer(&mut w, 1, &format!("<sip:bob@{}?Replaces={escaped}>", agent_at(2)));
    let (new, named) = w.agents[1]
        .events
        .iter()
        .rev()
        .find_map(|e| match e {
            Event::Incoming { leg, replaces, .. } => Some((*leg, *replaces)),
            _ => None,
        })
        .expect("the caller's leg");
    assert_eq!(named, Some(at_bob));
    w.accept(2);
    let now = w.now;
    w.agents[1].sip.hang_up(now, at_bob, None);
    w.run();
    assert_ne!(new, at_bob);
    assert_eq!(news(&w, 1).last().map(String::as_str), Some("SIP/2.0 200 OK"));
    assert_eq!(w.agents[0].ended(), 2, "the call and the consultation");
    assert_eq!(joined_to_caller(&w), w.media.opened[2]);
    w.hang_up();
    w.over();
}

#[test]
fn an_invite_with_replaces_takes_the_place_of_a_leg_of_ours() {
    let mut w = World::new();
    w.talking();
    let leg = leg_of(&w, 1);
    let value = replaces(&w, 1, leg);
    let invite = |w: &World, value: &str| Invite {
        listener: 1,
        target: format!("sip:{SHARD}"),
        destination: Some(at(SHARD)),
        from: format!("<sip:bob@{}>", agent_at(2)),
        to: format!("<sip:{SHARD}>"),
        headers: vec![("Replaces".to_owned(), value.to_owned())],
        sdp: Some(w.agents[1].sdp(Direction::SendRecv)),
        ..Invite::default()
    };
    let now = w.now;
    let wrong = invite(&w, &value.replace("to-tag=", "to-tag=0"));
    w.agents[1].sip.invite(now, wrong).unwrap();
    w.run();
    assert!(w.agents[1].events.iter().any(|e| matches!(e, Event::Rejected { status: 481, .. })));
    let right = invite(&w, &value);
    let new = w.agents[1].sip.invite(now, right).unwrap();
    w.run();
    assert!(w.agents[1].events.iter().any(|e| matches!(e, Event::Answered { leg, .. } if *leg == new)));
    assert_eq!(
        (w.agents[0].ended(), w.talk_ends().len()),
        (1, 0),
        "the conversation goes on on another phone"
    );
    assert_eq!(w.media.remotes[&joined_to_caller(&w)].address.port(), w.agents[1].media_port);
    w.hang_up();
    assert!(w.agents[1].events.iter().any(|e| matches!(e, Event::Ended { leg, .. } if *leg == new)));
    w.over();
}

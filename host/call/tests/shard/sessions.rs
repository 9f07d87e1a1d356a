//! Session descriptions: delayed offers, what does not fit, hold and resume, refreshes.

use cordboard_call::script::{Done, Verb};
use cordboard_media::control::{self, Law};
use cordboard_sip::endpoint::{Event, Invite, LegId};
use cordboard_sip::sdp::{self, Codec, Direction, Local, Session};

use crate::steps::play;
use crate::world::{SHARD, World};

fn invite(w: &mut World, headers: Vec<(String, String)>, sdp: Option<String>) -> LegId {
    let invite = Invite {
        listener: 1,
        target: format!("sip:+4930@{SHARD}"),
        from: "<sip:+331@10.0.1.1>".to_owned(),
        to: "<sip:+4930@x>".to_owned(),
        headers,
        sdp,
        ..Default::default()
    };
    let leg = w.caller.sip.invite(w.now, invite).unwrap();
    w.leg = Some(leg);
    w.run();
    leg
}

#[test]
fn an_invite_without_an_offer_gets_ours_in_the_200_and_audio_waits_for_the_ack() {
    let mut w = World::new();
    w.dial("+4930", false);
    let verb = w.verb(play());
    let answered = w.caller.events.iter().find_map(|e| match e {
        Event::Answered { response, .. } => Some(response.clone()),
        _ => None,
    });
    let offer = Session::parse(answered.unwrap().body()).unwrap();
    assert!(w.media.playing.is_empty(), "nobody can hear it yet");
    let local = Local { address: w.caller.at.ip(), port: 4_000, session_id: 9, version: 1 };
    let (answer, _) = sdp::answer(&offer, &local, &[Codec::Pcmu], Direction::SendRecv).unwrap();
    let (now, leg) = (w.now, w.leg.unwrap());
    w.caller.sip.ack(now, leg, &answer);
    w.run();
    assert_eq!(w.media.playing.len(), 1);
    assert_eq!(w.result(verb), None);
    assert_eq!(w.media.remotes[&w.media.opened[0]].law, Law::Pcmu);
    w.hang_up();
    w.over();
}

#[test]
fn a_session_description_is_found_among_the_parts_of_a_body_wherever_one_may_come() {
    // In the INVITE, the agent's 200, and offers of both during the call.
    let mut w = World::new();
    w.in_parts = true;
    w.talking();
    let (caller, agent) = (w.media.opened[0], w.media.opened[1]);
    assert_eq!(w.media.remotes[&caller].address.port(), w.caller.media_port);
    assert_eq!(w.media.remotes[&agent].address.port(), w.agents[0].media_port);
    reinvite(&mut w, 1, Direction::SendOnly);
    assert!(w.caller_hears_music());
    reinvite(&mut w, 1, Direction::SendRecv);
    w.caller.media_port = 6_000;
    let (now, leg, sdp) = (w.now, w.leg.unwrap(), w.caller.sdp(Direction::SendRecv));
    assert!(w.caller.sip.update(now, leg, &sdp));
    w.run();
    assert_eq!(w.media.remotes[&caller].address.port(), 6_000);
    w.hang_up();
    w.over();
    // In the ACK, which answers the offer of our 200.
    let mut w = World::new();
    w.in_parts = true;
    w.dial("+4930", false);
    w.verb(play());
    let answer = w.caller.sdp(Direction::SendRecv);
    let (now, leg) = (w.now, w.leg.unwrap());
    w.caller.sip.ack(now, leg, &answer);
    w.run();
    assert_eq!(w.media.remotes[&w.media.opened[0]].address.port(), w.caller.media_port);
    w.hang_up();
    w.over();
}

#[test]
fn an_offer_without_a_codec_of_ours_is_488_before_anything_else_happens() {
    let mut w = World::new();
    let sdp =
        "v=0\r\no=- 1 1 IN IP4 10.0.1.1\r\ns=-\r\nc=IN IP4 10.0.1.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 18\r\n";
    invite(&mut w, vec![], Some(sdp.to_owned()));
    assert_eq!(w.caller.refused().unwrap().0, 488);
    assert!(w.started.is_empty() && w.media.opened.is_empty());
    assert_eq!(w.shard.counts().totals.refused_media, 1);
}

#[test]
fn the_first_codec_of_the_offer_is_taken_and_the_agent_is_offered_it_first() {
    let mut w = World::new();
    w.caller.codecs = vec![Codec::Pcmu, Codec::Pcma];
    let ticket = w.queued();
    w.offer(ticket, &[1]);
    let offer = Session::parse(w.agents[0].invite(0).body()).unwrap();
    assert_eq!(offer.media[0].payload_types().next(), Some(0), "PCMU first, so that nobody transcodes");
    w.hang_up();
    w.over();
}

fn reinvite(w: &mut World, who: usize, direction: Direction) {
    let now = w.now;
    let (phone, leg) = match who {
        0 => {
            let leg = w.leg.unwrap();
            (&mut w.caller, leg)
        }
        n => {
            let phone = &mut w.agents[n - 1];
            let leg = phone.ringing().unwrap();
            (phone, leg)
        }
    };
    let sdp = phone.sdp(direction);
    assert!(phone.sip.reoffer(now, leg, &sdp));
    w.run();
}

fn last_answer(events: &[Event]) -> Session {
    let answer = events.iter().rev().find_map(|e| match e {
        Event::OfferResult { result: Ok(message), .. } => Some(message.body().to_vec()),
        _ => None,
    });
    Session::parse(&answer.expect("the re-INVITE is answered")).unwrap()
}

#[test]
fn an_agent_s_hold_gives_the_caller_music_until_the_resume() {
    let mut w = World::new();
    w.talking();
    let agent = w.media.opened[1];
    reinvite(&mut w, 1, Direction::SendOnly);
    let answer = last_answer(&w.agents[0].events);
    assert_eq!(answer.direction(&answer.media[0]), Direction::RecvOnly);
    assert!(w.caller_hears_music());
    assert_eq!(w.media.joined.len(), 1, "the join stays; what plays is heard instead");
    assert!(!w.media.remotes[&agent].send);
    assert_eq!(w.media.watch[&agent], 0, "a phone on hold may be silent");
    reinvite(&mut w, 1, Direction::SendRecv);
    assert!(!w.caller_hears_music());
    assert!(w.media.remotes[&agent].send);
    assert_eq!(w.media.watch[&agent], 15_000);
    w.hang_up();
    w.over();
}

#[test]
fn a_party_that_may_not_speak_is_not_taken_for_gone() {
    for direction in [Direction::SendOnly, Direction::RecvOnly, Direction::Inactive] {
        for talking in [false, true] {
            let mut w = World::new();
            if talking {
                w.talking();
            } else {
                w.queued();
            }
            let caller = w.media.opened[0];
            assert_eq!(w.media.watch[&caller], 15_000);
            reinvite(&mut w, 0, direction);
            assert_eq!(w.media.watch[&caller], 0, "{direction:?}");
            // Reported before the media plane heard of the hold.
            w.input(cordboard_call::shard::Input::Media(control::Event::Silent { leg: caller }));
            w.run();
            assert_eq!(w.caller.ended(), 0, "{direction:?}, talking: {talking}");
            reinvite(&mut w, 0, Direction::SendRecv);
            assert_eq!(w.media.watch[&caller], 15_000);
            w.input(cordboard_call::shard::Input::Media(control::Event::Silent { leg: caller }));
            w.run();
            assert_eq!(w.over().cause, 41);
        }
    }
}

#[test]
fn a_caller_s_hold_gives_the_agent_music() {
    let mut w = World::new();
    w.talking();
    let agent = w.media.opened[1];
    reinvite(&mut w, 0, Direction::Inactive);
    assert!(w.media.playing.contains_key(&agent));
    reinvite(&mut w, 0, Direction::SendRecv);
    assert!(!w.media.playing.contains_key(&agent));
    w.hang_up();
    w.over();
}

#[test]
fn a_caller_who_moves_is_followed() {
    let mut w = World::new();
    w.talking();
    w.caller.media_port = 6_000;
    reinvite(&mut w, 0, Direction::SendRecv);
    assert_eq!(w.media.remotes[&w.media.opened[0]].address.port(), 6_000);
    assert!(w.media.playing.is_empty());
    w.hang_up();
    w.over();
}

/// A request inside the caller's dialog that the phone's own stack would not send.
fn raw(w: &World, method: &str, more_cseq: u32, body: &str) -> bytes::Bytes {
    let d = w.caller.sip.dialog(w.leg.unwrap()).unwrap();
    let cseq = d.local_cseq + more_cseq;
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1:5060;branch=z9hG4bKraw{method}{cseq}\r\nFrom: {}\r\nTo: {}\r\n\
         Call-ID: {}\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContact: <sip:10.0.1.1:5060>\r\n{kind}\
         Content-Length: {}\r\n\r\n{body}",
        d.target,
        d.local,
        d.remote,
        d.call_id,
        body.len()
    )
    .into()
}

#[test]
fn a_reinvite_without_an_offer_gets_ours_and_its_ack_is_taken_as_the_answer() {
    let mut w = World::new();
    w.talking();
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let keep = seen.clone();
    w.lose = Some(Box::new(move |_, to, bytes| {
        let raw = to == crate::world::at(crate::world::CALLER) && bytes.windows(3).any(|w| w == b"raw");
        if raw {
            keep.borrow_mut().push(bytes.to_vec());
        }
        raw
    }));
    let caller = w.caller.at;
    let reinvite = raw(&w, "INVITE", 1, "");
    w.input(cordboard_call::shard::Input::Datagram {
        flow: cordboard_sip::endpoint::Flow::udp(1, caller),
        bytes: reinvite,
    });
    w.run();
    let ok = seen.borrow().iter().find_map(|b| {
        let message = cordboard_sip::wire::Message::parse(b.clone().into()).ok()?;
        (message.status() == 200).then_some(message)
    });
    let offer = Session::parse(ok.expect("a 200").body()).expect("with an offer");
    let local = Local { address: caller.ip(), port: 7_000, session_id: 9, version: 2 };
    let (answer, _) = sdp::answer(&offer, &local, &[Codec::Pcmu], Direction::SendRecv).unwrap();
    let ack = raw(&w, "ACK", 1, &answer);
    w.input(cordboard_call::shard::Input::Datagram {
        flow: cordboard_sip::endpoint::Flow::udp(1, caller),
        bytes: ack,
    });
    w.run();
    let remote = &w.media.remotes[&w.media.opened[0]];
    assert_eq!((remote.address.port(), remote.law), (7_000, Law::Pcmu));
    w.lose = None;
    w.agent_hangs_up(1);
    w.verb(Verb::HangUp { cause: 16 });
    w.over();
}

#[test]
fn an_agent_who_hangs_up_during_the_hold_leaves_no_music_behind() {
    let mut w = World::new();
    w.talking();
    reinvite(&mut w, 1, Direction::SendOnly);
    assert!(w.caller_hears_music());
    w.agent_hangs_up(1);
    assert!(!w.caller_hears_music());
    w.hang_up();
    w.over();
}

#[test]
fn an_offer_in_the_call_that_does_not_fit_is_refused_and_the_call_goes_on() {
    let mut w = World::new();
    w.talking();
    let (now, leg) = (w.now, w.leg.unwrap());
    let sdp =
        "v=0\r\no=- 1 2 IN IP4 10.0.1.1\r\ns=-\r\nc=IN IP4 10.0.1.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 18\r\n";
    assert!(w.caller.sip.reoffer(now, leg, sdp));
    w.run();
    assert!(w.caller.events.iter().any(|e| matches!(e, Event::OfferResult { result: Err(488), .. })));
    assert_eq!(w.media.joined.len(), 1);
    w.hang_up();
    w.over();
}

#[test]
fn a_caller_who_never_acknowledges_is_given_up() {
    let mut w = World::new();
    w.dial("+4930", true);
    w.lose = Some(Box::new(|from, _, bytes| {
        from == crate::world::at(crate::world::CALLER) && bytes.starts_with(b"ACK")
    }));
    assert_eq!(w.does(Verb::Answer), Ok(Done::Ok));
    w.pass(40_000);
    w.lose = None;
    let end = w.over();
    assert_eq!((end.cause, end.by.as_str()), (102, "host"));
}

#[test]
fn a_lossy_network_changes_the_time_and_not_the_outcome() {
    // Every third datagram is lost; retransmissions bring the call through.
    let mut w = World::new();
    let count = std::cell::Cell::new(0_u32);
    w.lose = Some(Box::new(move |_, _, _| {
        count.set(count.get() + 1);
        count.get().is_multiple_of(3)
    }));
    w.dial("+4930", true);
    w.pass(5_000);
    w.does(Verb::Answer).unwrap();
    w.pass(10_000);
    let ticket = w.enqueue();
    let token = w.offer(ticket, &[1])[0];
    w.pass(5_000);
    w.accept(1);
    w.pass(5_000);
    assert_eq!(w.settled(token), [cordboard_call::messages::OfferResult::Accepted]);
    w.hang_up();
    w.over();
}

#[test]
fn digits_by_info_reach_the_other_party_of_a_conversation() {
    let mut w = World::new();
    w.talking();
    let (caller, agent) = (w.media.opened[0], w.media.opened[1]);
    let (now, leg) = (w.now, w.leg.unwrap());
    w.caller.sip.leg_request(now, leg, "INFO", Some("application/dtmf-relay"), b"Signal=7\r\n");
    w.run();
    let leg = w.agents[0].ringing().unwrap();
    w.agents[0].sip.leg_request(now, leg, "INFO", Some("application/dtmf"), b"11");
    w.run();
    assert_eq!(w.media.digits, [(agent, "7".to_owned()), (caller, "#".to_owned())]);
    w.hang_up();
    w.over();
}

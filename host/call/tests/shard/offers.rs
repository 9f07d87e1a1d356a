//! One judge: every way in which an offer can end, and what follows for everyone.

use cordboard_base::Id;
use cordboard_call::messages::{CallCommand, OfferResult, TalkEnd, TicketState, ToDomain, ToShard};
use cordboard_call::script::{Done, Failure, ScriptEnd, ToScript, Verb};
use cordboard_call::timeline::Step;
use cordboard_media::control::Event;

use crate::steps::{music, play};
use crate::world::World;

#[test]
fn the_ring_timer_ends_the_offer_and_the_caller_keeps_waiting() {
    let mut w = World::new();
    let ticket = w.queued();
    let waits = w.verb(music(60_000));
    let token = w.offer(ticket, &[1])[0];
    w.ring(1);
    w.pass(19_999);
    assert!(w.settled(token).is_empty());
    w.pass(1);
    assert_eq!(w.settled(token), [OfferResult::NoAnswer]);
    assert_eq!(w.agents[0].ended(), 1, "the phone stops ringing");
    assert!(w.line(Step::RingTimer).detail.contains("fired after 20000 ms"));
    assert!(w.caller_hears_music());
    assert_eq!(w.result(waits), None);
    let again = w.offer(ticket, &[2])[0];
    w.accept(2);
    assert_eq!(w.settled(again), [OfferResult::Accepted]);
    w.hang_up();
    w.over();
}

#[test]
fn a_200_that_crosses_the_cancel_is_acked_and_released_and_stays_no_answer() {
    let mut w = World::new();
    let ticket = w.queued();
    let token = w.offer(ticket, &[1])[0];
    w.ring(1);
    // The phone answers while the CANCEL is under way.
    w.accept_unrun(1);
    w.now = w.now.plus_ns(20_000_000_000);
    w.input(cordboard_call::shard::Input::Tick);
    w.run();
    assert_eq!(w.settled(token), [OfferResult::NoAnswer]);
    assert!(w.media.joined.is_empty());
    assert_eq!(w.agents[0].ended(), 1, "the phone got ACK and BYE");
    assert_eq!(w.shard.counts().totals.crossed, 1);
    w.hang_up();
    w.over();
}

#[test]
fn a_phone_s_refusal_is_told_as_what_it_is_and_the_place_is_kept() {
    let table = [
        (486, OfferResult::Busy),
        (600, OfferResult::Busy),
        (603, OfferResult::Declined { status: 603 }),
        (480, OfferResult::Declined { status: 480 }),
        (404, OfferResult::Unreachable { status: 404 }),
        (503, OfferResult::Unreachable { status: 503 }),
    ];
    for (status, result) in table {
        let mut w = World::new();
        let ticket = w.queued();
        let token = w.offer(ticket, &[1])[0];
        w.refuse(1, status);
        assert_eq!(w.settled(token), [result]);
        assert_eq!(w.shard.counts().timers, 1, "no timer is left behind but the dialog's probe");
        let again = w.offer(ticket, &[1])[0];
        w.accept(1);
        assert_eq!(w.settled(again), [OfferResult::Accepted]);
        w.hang_up();
        w.over();
    }
}

#[test]
fn one_of_a_round_wins_and_the_others_are_lost() {
    let mut w = World::new();
    let ticket = w.queued();
    let tokens = w.offer(ticket, &[1, 2]);
    w.ring(1);
    w.ring(2);
    w.accept(2);
    assert_eq!(w.settled(tokens[1]), [OfferResult::Accepted]);
    assert_eq!(w.settled(tokens[0]), [OfferResult::Lost]);
    assert_eq!((w.agents[0].ended(), w.agents[1].ended()), (1, 0));
    assert_eq!(w.media.open.len(), 2);
    w.hang_up();
    w.over();
}

#[test]
fn two_who_answer_at_once_are_one_winner_and_one_who_is_let_go() {
    let mut w = World::new();
    let ticket = w.queued();
    let tokens = w.offer(ticket, &[1, 2]);
    w.accept_unrun(1);
    w.accept_unrun(2);
    w.run();
    let mut results = [w.settled(tokens[0]), w.settled(tokens[1])];
    results.sort_by_key(|r| r[0] == OfferResult::Lost);
    assert_eq!(results, [vec![OfferResult::Accepted], vec![OfferResult::Lost]]);
    assert_eq!(w.media.joined.len(), 1);
    assert_eq!(w.agents[0].ended() + w.agents[1].ended(), 1);
    w.hang_up();
    w.over();
}

#[test]
fn the_last_of_a_round_to_refuse_ends_it() {
    let mut w = World::new();
    let ticket = w.queued();
    let tokens = w.offer(ticket, &[1, 2]);
    w.refuse(1, 486);
    assert_eq!((w.settled(tokens[0]), w.settled(tokens[1])), (vec![OfferResult::Busy], vec![]));
    w.refuse(2, 603);
    assert_eq!(w.settled(tokens[1]), [OfferResult::Declined { status: 603 }]);
    assert_eq!(w.shard.counts().timers, 1, "the dialog's probe");
    w.hang_up();
    w.over();
}

#[test]
fn a_revoke_in_time_withdraws_and_one_too_late_changes_nothing() {
    let mut w = World::new();
    let ticket = w.queued();
    let token = w.offer(ticket, &[1])[0];
    w.ring(1);
    w.tell(ToShard::Revoke { token });
    assert_eq!(w.settled(token), [OfferResult::Revoked]);
    assert_eq!(w.agents[0].ended(), 1);
    let token = w.offer(ticket, &[2])[0];
    w.accept(2);
    w.tell(ToShard::Revoke { token });
    assert_eq!(w.settled(token), [OfferResult::Accepted]);
    assert_eq!(w.agents[1].ended(), 0, "the conversation goes on");
    w.hang_up();
    w.over();
}

#[test]
fn a_token_that_stands_is_confirmed_and_one_that_is_settled_is_not() {
    let renewals = |w: &World, token: Id| {
        w.told.iter().filter(|(_, m)| *m == ToDomain::Renew { tokens: vec![token] }).count()
    };
    let mut w = World::new();
    let ticket = w.queued();
    let missed = w.offer(ticket, &[1])[0];
    w.tell(ToShard::Confirm { token: missed });
    assert_eq!(renewals(&w, missed), 1, "it rings");
    w.refuse(1, 486);
    w.tell(ToShard::Confirm { token: missed });
    assert_eq!(renewals(&w, missed), 1, "its outcome is told already");
    let token = w.offer(ticket, &[2])[0];
    w.accept(2);
    w.tell(ToShard::Confirm { token });
    assert_eq!(renewals(&w, token), 1, "they talk");
    w.hang_up();
    w.over();
}

#[test]
fn a_lapsed_token_ends_its_ringing_or_its_conversation_and_the_next_offer_is_taken() {
    for talking in [false, true] {
        let mut w = World::new();
        let ticket = w.queued();
        let token = w.offer(ticket, &[1])[0];
        w.ring(1);
        if talking {
            w.accept(1);
        }
        w.tell(ToShard::Lapsed { token });
        assert_eq!(w.agents[0].ended(), 1, "the agent may get another call at once");
        assert_eq!((w.talk_ends().len(), w.caller.ended()), (usize::from(talking), 0));
        w.tell(ToShard::Lapsed { token });
        let again = w.offer(ticket, &[1])[0];
        w.accept(1);
        assert_eq!(w.settled(again), [OfferResult::Accepted]);
        assert_eq!(w.media.joined.len(), 1);
        w.hang_up();
        w.over();
    }
}

#[test]
fn an_offer_for_a_call_that_is_gone_or_has_no_such_place_is_no_call() {
    let mut w = World::new();
    let ticket = w.queued();
    let stranger = w.offer(Id(77), &[1])[0];
    assert_eq!(w.settled(stranger), [OfferResult::NoCall]);
    let first = w.offer(ticket, &[1])[0];
    let second = w.offer(ticket, &[2])[0];
    assert_eq!((w.settled(first).len(), w.settled(second)), (0, vec![OfferResult::NoCall]));
    w.hang_up();
    let late = w.offer(ticket, &[1])[0];
    assert_eq!(w.settled(late), [OfferResult::NoCall]);
    assert_eq!(w.agents[1].invites(), 0);
}

#[test]
fn an_offer_that_comes_twice_rings_once() {
    let mut w = World::new();
    let ticket = w.queued();
    let (tokens, body) = w.make_offer(ticket, &[1]);
    let interaction = Some(w.interaction());
    for _ in 0..2 {
        let envelope = cordboard_call::messages::Envelope {
            from: 0,
            epoch: 1,
            seq: 1_000,
            interaction,
            lines: Vec::new(),
            body: body.clone(),
        };
        w.input(cordboard_call::shard::Input::Bus(envelope));
        w.run();
    }
    assert_eq!((w.agents[0].invites(), w.settled(tokens[0]).len()), (1, 0));
    assert_eq!(w.shard.counts().totals.duplicates, 1);
    w.hang_up();
    w.over();
}

#[test]
fn leases_are_renewed_while_it_rings_and_while_they_talk() {
    let renewals = |w: &World, token: Id| {
        w.told.iter().filter(|(_, m)| *m == ToDomain::Renew { tokens: vec![token] }).count()
    };
    let mut w = World::new();
    let ticket = w.queued();
    let (tokens, mut offer) = w.make_offer(ticket, &[1]);
    if let ToShard::Offer(offer) = &mut offer {
        offer.lease_ms = 15_000;
    }
    w.tell(offer);
    w.pass(12_000);
    assert_eq!(renewals(&w, tokens[0]), 2);
    w.accept(1);
    w.pass(50_000);
    assert_eq!(renewals(&w, tokens[0]), 12);
    w.hang_up();
    w.pass(50_000);
    assert_eq!(renewals(&w, tokens[0]), 12, "not after the end");
    w.over();
}

#[test]
fn no_media_for_the_agent_s_leg_is_unreachable() {
    let mut w = World::new();
    let ticket = w.queued();
    w.media.fail_opens = true;
    let token = w.offer(ticket, &[1])[0];
    assert_eq!(w.settled(token), [OfferResult::Unreachable { status: 0 }]);
    w.media.fail_opens = false;
    w.hang_up();
    w.over();
}

#[test]
fn a_phone_without_an_address_is_unreachable_and_the_timeline_says_why() {
    let mut w = World::new();
    let ticket = w.queued();
    let (tokens, mut offer) = w.make_offer(ticket, &[1]);
    if let ToShard::Offer(offer) = &mut offer {
        offer.agents[0].uri = "sip:alice@an address with blanks".to_owned();
    }
    w.tell(offer);
    assert_eq!(w.settled(tokens[0]), [OfferResult::Unreachable { status: 0 }]);
    assert!(w.lines.iter().any(|l| l.detail.contains("alice")), "{:#?}", w.lines);
    w.hang_up();
    w.over();
}

#[test]
fn an_agent_who_answers_without_audio_is_let_go() {
    let mut w = World::new();
    let ticket = w.queued();
    let token = w.offer(ticket, &[1])[0];
    let leg = w.agents[0].ringing().unwrap();
    let (now, sdp) = (
        w.now,
        "v=0\r\no=- 1 1 IN IP4 10.0.2.1\r\ns=-\r\nc=IN IP4 10.0.2.1\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\n",
    );
    w.agents[0].sip.answer(now, leg, Some(sdp));
    w.run();
    assert_eq!(w.settled(token), [OfferResult::Unreachable { status: 488 }]);
    assert_eq!(w.agents[0].ended(), 1);
    let again = w.offer(ticket, &[2])[0];
    w.accept(2);
    assert_eq!(w.settled(again), [OfferResult::Accepted], "the round was over, the caller waited");
    w.hang_up();
    w.over();
}

#[test]
fn different_codecs_are_left_to_the_media_plane() {
    use cordboard_media::control::Law;
    use cordboard_sip::sdp::Codec;
    let mut w = World::new();
    w.agents[0].codecs = vec![Codec::Pcmu];
    w.talking();
    let laws: Vec<Law> = w.media.opened.iter().map(|leg| w.media.remotes[leg].law).collect();
    assert_eq!(laws, [Law::Pcma, Law::Pcmu]);
    w.hang_up();
    w.over();
}

// ---- The conversation ----

#[test]
fn when_the_agent_leaves_the_script_goes_on() {
    let mut w = World::new();
    let (ticket, token) = w.talking();
    assert_eq!(w.does(play()), Err(Failure::Taken));
    let outcome = w.verb(Verb::Outcome { ticket });
    w.pass(5_000);
    w.agent_hangs_up(1);
    let talked = w.told.iter().find_map(|(_, m)| match m {
        ToDomain::TalkEnded { token: t, talked_ms, how, .. } if *t == token => Some((*talked_ms, *how)),
        _ => None,
    });
    assert_eq!(talked, Some((5_000, TalkEnd::AgentLeft)));
    let Some(Ok(Done::Outcome(outcome))) = w.result(outcome) else { panic!() };
    assert_eq!((outcome.end.as_str(), outcome.talked_ms), ("agent-left", 5_000));
    assert_eq!(w.caller.ended(), 0, "the caller is still there");
    // Another queue, another agent.
    let ticket = w.enqueue();
    w.offer(ticket, &[2]);
    w.accept(2);
    w.agent_hangs_up(2);
    w.verb(Verb::HangUp { cause: 16 });
    assert_eq!(w.caller.ended(), 1);
    let end = w.over();
    assert_eq!((end.by.as_str(), end.cause), ("script", 16));
}

#[test]
fn a_script_that_asks_late_still_gets_the_outcome() {
    let mut w = World::new();
    let (ticket, _) = w.talking();
    w.agent_hangs_up(1);
    assert!(matches!(w.does(Verb::Outcome { ticket }), Ok(Done::Outcome(o)) if o.end == "agent-left"));
    w.hang_up();
    w.over();
}

#[test]
fn without_a_script_the_call_ends_with_the_agent() {
    let mut w = World::new();
    w.talking();
    w.script_ends(ScriptEnd::Returned);
    assert_eq!(w.caller.ended(), 0, "a script that ends leaves the conversation alone");
    w.agent_hangs_up(1);
    assert_eq!(w.caller.ended(), 1);
    let end = w.over();
    assert_eq!((end.by.as_str(), end.cause), ("agent", 16));
}

#[test]
fn an_agent_whose_phone_vanishes_gives_the_caller_the_old_place_and_music_back() {
    for with_script in [true, false] {
        let mut w = World::new();
        let (ticket, token) = w.talking();
        let outcome = w.verb(Verb::Outcome { ticket });
        if !with_script {
            w.script_ends(ScriptEnd::Fault(cordboard_call::policy::Fault::Trap("test".to_owned())));
        }
        w.agents[0].unplugged = true;
        let leg = w.media.opened[1];
        w.input(cordboard_call::shard::Input::Media(Event::Silent { leg }));
        w.run();
        assert_eq!(w.talk_ends(), [TalkEnd::AgentVanished]);
        assert!(w.caller_hears_music());
        if with_script {
            assert!(matches!(w.result(outcome), Some(Ok(Done::Outcome(o))) if o.end == "returned"));
            let states: Vec<_> = w
                .heard
                .iter()
                .filter_map(|(_, t)| if let ToScript::Ticket { state, .. } = t { Some(*state) } else { None })
                .collect();
            assert_eq!(states, [TicketState::Taken, TicketState::Returned]);
        }
        let again = w.offer(ticket, &[2])[0];
        w.accept(2);
        assert_eq!(
            (w.settled(token), w.settled(again)),
            (vec![OfferResult::Accepted], vec![OfferResult::Accepted])
        );
        assert!(!w.caller_hears_music());
        w.hang_up();
        w.over();
    }
}

#[test]
fn a_script_s_hang_up_waits_until_the_agent_has_left() {
    let mut w = World::new();
    w.talking();
    let verb = w.verb(Verb::HangUp { cause: 16 });
    assert_eq!((w.result(verb), w.caller.ended(), w.agents[0].ended()), (None, 0, 0));
    w.agent_hangs_up(1);
    assert_eq!(w.caller.ended(), 1);
    w.over();
}

#[test]
fn both_hanging_up_at_once_is_one_end() {
    let mut w = World::new();
    w.talking();
    let (now, caller) = (w.now, w.leg.unwrap());
    let agent = w.agents[0].ringing().unwrap();
    w.caller.sip.hang_up(now, caller, None);
    w.agents[0].sip.hang_up(now, agent, None);
    w.run();
    assert_eq!(w.talk_ends().len(), 1);
    w.over();
}

#[test]
fn an_operator_holds_retrieves_and_clears() {
    let mut w = World::new();
    w.talking();
    w.tell(ToShard::Command(CallCommand::Hold));
    assert!(w.caller_hears_music() && w.media.joined.is_empty());
    w.tell(ToShard::Command(CallCommand::Hold));
    w.tell(ToShard::Command(CallCommand::Retrieve));
    assert!(!w.caller_hears_music() && w.media.joined.len() == 1);
    w.tell(ToShard::Command(CallCommand::Clear { cause: 31 }));
    assert_eq!((w.caller.ended(), w.agents[0].ended()), (1, 1));
    let end = w.over();
    assert_eq!((end.by.as_str(), end.cause), ("operator", 31));
}

#[test]
fn a_caller_who_was_never_answered_is_answered_by_the_agent() {
    let mut w = World::new();
    w.dial("+4930", true);
    let ticket = w.enqueue();
    assert!(!w.caller.events.iter().any(|e| matches!(e, cordboard_sip::endpoint::Event::Answered { .. })));
    w.offer(ticket, &[1]);
    w.accept(1);
    assert!(w.caller.events.iter().any(|e| matches!(e, cordboard_sip::endpoint::Event::Answered { .. })));
    assert_eq!(w.media.joined.len(), 1);
    w.hang_up();
    assert!(w.over().answered);
}

#[test]
fn what_the_domain_says_late_does_not_undo_the_judgement() {
    let mut w = World::new();
    let (ticket, _) = w.talking();
    let say = |state| ToShard::Ticket { ticket, state, position: 1, wait_s: None };
    let before = w.heard.len();
    for state in [TicketState::Offered, TicketState::Waiting, TicketState::Ended] {
        w.tell(say(state));
    }
    assert_eq!(w.heard.len(), before, "a talking script hears nothing of the queue");
    w.agent_hangs_up(1);
    w.tell(say(TicketState::Taken));
    assert!(!matches!(w.heard.last(), Some((_, ToScript::Ticket { state: TicketState::Taken, .. }))));
    w.hang_up();
    w.over();
}

#[test]
fn a_place_that_ends_while_it_rings_for_an_unscripted_caller_ends_the_call_with_the_ringing() {
    let mut w = World::new();
    let ticket = w.queued();
    w.script_ends(ScriptEnd::Returned);
    let token = w.offer(ticket, &[1])[0];
    w.tell(ToShard::Ticket { ticket, state: TicketState::Ended, position: 0, wait_s: None });
    assert_eq!(w.caller.ended(), 0, "somebody may still answer");
    w.refuse(1, 486);
    assert_eq!((w.settled(token), w.caller.ended()), (vec![OfferResult::Busy], 1));
    assert_eq!(w.over().cause, 41);
}

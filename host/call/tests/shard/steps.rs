//! The eighteen steps in their order, and the caller's hang-up at each of them.

use cordboard_call::messages::{OfferResult, TalkEnd, ToDomain};
use cordboard_call::redirect::Note;
use cordboard_call::script::{Done, Failure, Sound, Verb};
use cordboard_call::shard::Input;
use cordboard_call::timeline::Step;
use cordboard_media::clip::Clip;
use cordboard_media::control::PlayEnd;

use crate::world::World;

pub fn sound() -> Sound {
    Sound::Clip { name: "p".to_owned(), clip: std::sync::Arc::new(Clip::from_samples(&[0; 80])) }
}

pub fn music(for_ms: u32) -> Verb {
    Verb::PlayMusic { sound: sound(), for_ms }
}

pub fn play() -> Verb {
    Verb::Play { sounds: vec![sound()], barge_in: true, clear_digits: false }
}

#[test]
fn a_call_through_a_script_and_a_queue_to_an_agent_leaves_its_lines_in_order() {
    let mut w = World::new();
    let ticket = w.queued();
    let waits = w.verb(music(30_000));
    assert!(w.caller_hears_music());
    let token = w.offer(ticket, &[1])[0];
    w.ring(1);
    assert!(w.caller_hears_music(), "music goes on while it rings");
    w.accept(1);
    assert_eq!(w.result(waits), Some(Err(Failure::Taken)));
    assert!(!w.caller_hears_music());
    assert_eq!(w.settled(token), [OfferResult::Accepted]);
    use Step::*;
    assert_eq!(
        w.steps(),
        [NewCall, ScriptStarted, SentToWorkgroup, MusicStarted, SentToAgent, Bridged, RingTimer],
        "{:#?}",
        w.lines
    );
    let line = w.line(SentToAgent);
    assert_eq!((line.token, line.ticket, line.cseq), (Some(token), Some(ticket), Some(1)));
    assert_eq!(line.call_id.as_deref(), Some(w.agents[0].invite(0).call_id()));
    assert_eq!(w.line(NewCall).cseq, Some(1));
    assert_eq!(w.line(Bridged).token, Some(token));
    assert_eq!(w.line(MusicStarted).ticket, Some(ticket));
    w.hang_up();
    assert_eq!(w.talk_ends(), [TalkEnd::CallerGone]);
    assert_eq!(w.agents[0].ended(), 1, "the agent's phone got a BYE");
    let end = w.over();
    assert_eq!((end.cause, end.by.as_str(), end.status, end.answered), (16, "caller", 200, true));
}

#[test]
fn the_patch_comes_before_everything_else_that_an_accept_leads_to() {
    let mut w = World::new();
    let ticket = w.queued();
    w.offer(ticket, &[1, 2]);
    w.order.clear();
    w.accept(1);
    let at = |what: &str| {
        w.order.iter().position(|o| o.starts_with(what)).unwrap_or_else(|| panic!("{what}: {:?}", w.order))
    };
    assert!(at("send ACK") < at("media Join"));
    assert!(at("media Join") < at("bus Settled"));
    assert!(at("media Join") < at("send CANCEL"));
}

#[test]
fn the_redirect_role_s_note_becomes_lines_three_and_four_whenever_it_comes() {
    for late in [false, true] {
        let mut w = World::new();
        let note = |call_id: &str| Note {
            call_id: call_id.to_owned(),
            cseq: 1,
            invite_at: (1, 2),
            answered_at: (3, 4),
            contacts: vec!["sip:a".to_owned()],
        };
        if late {
            w.dial("+4930", true);
            let call_id = w.line(Step::NewCall).call_id.clone().unwrap();
            w.input(Input::Redirected(note(&call_id)));
        } else {
            let sdp = w.caller.sdp(cordboard_sip::sdp::Direction::SendRecv);
            w.input(Input::Redirected(note("known@call")));
            let invite = cordboard_sip::endpoint::Invite {
                listener: 1,
                target: format!("sip:+4930@{}", crate::world::SHARD),
                from: "<sip:+331@10.0.1.1>".to_owned(),
                to: "<sip:+4930@x>".to_owned(),
                call_id: Some("known@call".to_owned()),
                sdp: Some(sdp),
                ..Default::default()
            };
            w.leg = Some(w.caller.sip.invite(w.now, invite).unwrap());
            w.run();
        }
        let mut steps = w.steps();
        steps.sort();
        assert_eq!(steps, [Step::InviteToRedirect, Step::Redirected, Step::NewCall]);
        assert_eq!(w.line(Step::Redirected).mono_ns, 3);
        w.hang_up();
        w.over();
    }
}

// ---- The caller hangs up ----

#[test]
fn while_the_router_is_asked() {
    let mut model = crate::world::model();
    model.tenants[0].router = Some("router".into());
    let mut w = World::with(model);
    w.dial("+4930", true);
    w.hang_up();
    assert_eq!(w.caller.refused().map(|(s, _)| s).unwrap_or(487), 487);
    w.route(Err(cordboard_call::policy::Fault::Timeout));
    assert!(w.started.is_empty(), "an answer that is late starts nothing");
    let end = w.over();
    assert_eq!((end.status, end.by.as_str(), end.answered), (487, "caller", false));
}

#[test]
fn before_the_media_leg_is_open() {
    let mut w = World::new();
    w.media.hold_opens = true;
    w.dial("+4930", true);
    let verb = w.verb(Verb::Answer);
    assert_eq!(w.result(verb), None);
    w.hang_up();
    assert_eq!(w.result(verb), Some(Err(Failure::HungUp)));
    assert_eq!(w.hung_up_told(), 1);
    w.over();
}

#[test]
fn during_each_kind_of_verb() {
    let verbs: Vec<fn() -> Verb> = vec![
        play,
        || music(10_000),
        || Verb::Wait { ms: 10_000 },
        || Verb::SendDigits { digits: "123".to_owned() },
        || Verb::Record {
            path: "x.wav".into(),
            name: "voicemail".to_owned(),
            max_ms: 10_000,
            silence_ms: 0,
            beep: true,
            finish: "#".to_owned(),
        },
        || Verb::Gather {
            sounds: vec![sound()],
            min_digits: 1,
            max_digits: 4,
            first_timeout_ms: 5_000,
            digit_timeout_ms: 2_000,
            finish: Some('#'),
            clear_digits: false,
        },
        || Verb::Transfer { address: format!("sip:x@{}", crate::world::agent_at(1)), ring_timeout_ms: 9_000 },
    ];
    for what in verbs {
        let mut w = World::new();
        w.dial("+4930", true);
        assert_eq!(w.does(Verb::Answer), Ok(Done::Ok));
        let verb = w.verb(what());
        assert_eq!(w.result(verb), None, "{:?} waits", what());
        w.hang_up();
        assert_eq!(w.result(verb), Some(Err(Failure::HungUp)), "{:?}", what());
        assert_eq!(w.hung_up_told(), 1);
        let end = w.over();
        let recorded = matches!(what(), Verb::Record { .. });
        assert_eq!(end.recordings.len(), usize::from(recorded), "a message ended by the hang-up counts");
    }
}

#[test]
fn while_the_place_is_asked_for() {
    let mut w = World::new();
    w.queue = false;
    w.dial("+4930", true);
    let what = Verb::Enqueue { workgroup: "support".to_owned(), request: Default::default() };
    let verb = w.verb(what);
    w.hang_up();
    assert_eq!(w.result(verb), Some(Err(Failure::HungUp)));
    w.over();
}

#[test]
fn while_waiting_frees_the_place_at_once_even_if_the_script_lingers() {
    let mut w = World::new();
    w.scripts_end = false;
    w.queued();
    w.hang_up();
    assert_eq!(w.ended().len(), 1, "the place must not wait for the script's grace");
    assert_eq!(w.shard.counts().scripts, 1);
    w.script_ends(cordboard_call::script::ScriptEnd::Abandoned);
    w.over();
}

#[test]
fn without_a_place_the_record_waits_for_the_script_s_last_word_but_not_for_ever() {
    let mut w = World::new();
    w.scripts_end = false;
    w.dial("+4930", true);
    w.does(Verb::Answer).unwrap();
    w.hang_up();
    assert!(w.ended().is_empty());
    let script = w.started[0].0;
    let set = vec![("survey.score".to_owned(), "5".to_owned())];
    let late = cordboard_call::script::FromScript::Verb { verb: 9, attributes: set.clone(), what: play() };
    w.input(Input::Script(script, late));
    w.run();
    assert_eq!(w.result(9), Some(Err(Failure::HungUp)));
    assert!(w.told.iter().any(|(_, m)| *m == ToDomain::Attributes { set: set.clone() }));
    w.pass(2_499);
    assert!(w.ended().is_empty());
    w.pass(1);
    assert_eq!(w.ended().len(), 1);
    w.script_ends(cordboard_call::script::ScriptEnd::Abandoned);
    w.over();
}

#[test]
fn while_an_agent_s_phone_rings() {
    let mut w = World::new();
    let ticket = w.queued();
    let tokens = w.offer(ticket, &[1, 2]);
    w.ring(1);
    w.ring(2);
    w.hang_up();
    for (n, token) in [(1, tokens[0]), (2, tokens[1])] {
        assert_eq!(w.settled(token), [OfferResult::CallerGone]);
        assert_eq!(w.agent(n).ended(), 1, "the phone stops ringing");
    }
    assert_eq!(w.steps().last(), Some(&Step::RingTimer));
    w.over();
}

#[test]
fn before_an_agent_s_media_leg_is_open() {
    let mut w = World::new();
    let ticket = w.queued();
    w.media.hold_opens = true;
    let tokens = w.offer(ticket, &[1]);
    assert_eq!(w.agents[0].invites(), 0);
    w.hang_up();
    assert_eq!(w.settled(tokens[0]), [OfferResult::CallerGone]);
    w.over();
    assert_eq!(w.agents[0].invites(), 0);
}

#[test]
fn at_the_very_moment_when_the_agent_answers() {
    for hang_up_first in [true, false] {
        let mut w = World::new();
        let ticket = w.queued();
        let token = w.offer(ticket, &[1])[0];
        w.ring(1);
        let leg = w.leg.unwrap();
        if hang_up_first {
            w.caller.sip.hang_up(w.now, leg, None);
            w.accept_unrun(1);
        } else {
            w.accept_unrun(1);
            w.caller.sip.hang_up(w.now, leg, None);
        }
        w.run();
        let settled = w.settled(token);
        assert_eq!(settled.len(), 1);
        match settled[0] {
            OfferResult::Accepted => assert_eq!(w.talk_ends(), [TalkEnd::CallerGone]),
            OfferResult::CallerGone => assert!(w.talk_ends().is_empty()),
            ref other => panic!("{other:?}"),
        }
        assert_eq!(w.agents[0].ended(), 1, "the agent is let go in either order");
        w.over();
    }
}

#[test]
fn during_the_survey_after_the_agent_has_left() {
    let mut w = World::new();
    let (ticket, _) = w.talking();
    let outcome = w.verb(Verb::Outcome { ticket });
    w.agent_hangs_up(1);
    let Some(Ok(Done::Outcome(outcome))) = w.result(outcome) else { panic!() };
    assert_eq!((outcome.end.as_str(), outcome.agent.as_str()), ("agent-left", "alice"));
    let survey = w.verb(play());
    assert_eq!(w.result(survey), None, "verbs work again");
    w.play_ends(PlayEnd::Finished);
    assert_eq!(w.result(survey), Some(Ok(Done::Played { by_digit: false })));
    w.hang_up();
    w.over();
}

#[test]
fn a_caller_who_vanishes_is_given_up_by_the_silence_of_the_audio() {
    let mut w = World::new();
    w.talking();
    let (agent, caller) = (w.media.opened[1], w.media.opened[0]);
    assert_eq!((w.media.watch[&caller], w.media.watch[&agent]), (15_000, 15_000));
    w.caller.unplugged = true;
    w.input(Input::Media(cordboard_media::control::Event::Silent { leg: caller }));
    w.run();
    assert_eq!(w.agents[0].ended(), 1);
    let end = w.over();
    assert_eq!((end.cause, end.by.as_str()), (41, "host"));
}

#[test]
fn phones_that_answer_are_asked_every_minute_and_left_alone() {
    let mut w = World::new();
    w.agents[0].answers_options = 405;
    w.talking();
    w.pass(190_000);
    assert_eq!((w.caller.probed(), w.agents[0].probed()), (3, 3));
    assert_eq!(w.media.joined.len(), 1, "whatever they answer, they are there");
    w.hang_up();
    w.over();
    assert_eq!(w.caller.probed(), 3, "not after the end");
}

#[test]
fn an_agent_s_phone_that_died_without_a_word_of_audio_gives_the_caller_the_place_back() {
    for status in [0, 481] {
        let mut w = World::new();
        let (ticket, _) = w.talking();
        if status == 0 {
            w.agents[0].unplugged = true;
        } else {
            w.agents[0].answers_options = status;
        }
        w.pass(60_000 + 33_000);
        assert_eq!(w.talk_ends(), [TalkEnd::AgentVanished], "{status}");
        assert!(w.caller_hears_music());
        let again = w.offer(ticket, &[2])[0];
        w.accept(2);
        assert_eq!(w.settled(again), [OfferResult::Accepted]);
        w.hang_up();
        w.over();
    }
}

#[test]
fn a_phone_that_knows_no_options_keeps_its_call_while_it_is_heard_and_is_asked_once() {
    let mut w = World::new();
    w.agents[0].answers_options = 481;
    w.media.heard_ago_ms = Some(20);
    w.talking();
    w.pass(400_000);
    assert_eq!(w.media.joined.len(), 1, "it talks");
    assert_eq!((w.caller.probed(), w.agents[0].probed()), (6, 1));
    assert!(w.talk_ends().is_empty());
    w.hang_up();
    assert_eq!(w.agents[0].ended(), 1);
    w.over();
    // One that was heard long ago and answers nothing is gone.
    let mut w = World::new();
    w.media.heard_ago_ms = Some(90_000);
    w.talking();
    w.agents[0].unplugged = true;
    w.pass(60_000 + 33_000);
    assert_eq!(w.talk_ends(), [TalkEnd::AgentVanished]);
    w.hang_up();
    w.over();
}

#[test]
fn a_caller_who_vanished_while_waiting_is_found() {
    let mut w = World::new();
    w.queued();
    w.caller.unplugged = true;
    w.pass(60_000 + 33_000);
    let end = w.over();
    assert_eq!((end.cause, end.by.as_str()), (41, "host"));
}

#[test]
fn nobody_is_asked_when_the_configuration_says_so() {
    let mut model = crate::world::model();
    model.limits.dialog_probe_ms = 0;
    let mut w = World::with(model);
    w.talking();
    w.pass(200_000);
    assert_eq!((w.caller.probed(), w.agents[0].probed()), (0, 0));
    w.hang_up();
    w.over();
}

#[test]
fn the_caller_s_dialog_is_written_down_with_the_200_and_not_with_its_ack() {
    let mut w = World::new();
    w.dial("+4930", true);
    w.lose = Some(Box::new(|from, _, bytes| {
        from == crate::world::at(crate::world::CALLER) && bytes.starts_with(b"ACK")
    }));
    w.verb(Verb::Answer);
    let up = |w: &World| {
        w.facts.iter().filter(|f| matches!(f, cordboard_call::facts::Fact::DialogUp { .. })).count()
    };
    assert_eq!(up(&w), 1);
    w.lose = None;
    w.pass(2_000);
    assert_eq!(up(&w), 1, "once");
    w.hang_up();
    w.over();
}

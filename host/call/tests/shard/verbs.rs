//! Verbs of the script, one by one, and what follows the script's own end.

use cordboard_call::messages::{QueueRequest, Refusal, ToDomain, ToShard};
use cordboard_call::model::Fallback;
use cordboard_call::policy::Fault;
use cordboard_call::script::{Done, Failure, GatherEnd, Left, ScriptEnd, Verb};
use cordboard_call::shard::Input;
use cordboard_call::timeline::Step;
use cordboard_media::control::{Event, PlayEnd, RecordEnd};

use crate::steps::{music, play, sound};
use crate::world::{World, model};

fn answered() -> World {
    let mut w = World::new();
    w.dial("+4930", true);
    assert_eq!(w.does(Verb::Answer), Ok(Done::Ok));
    w
}

fn gather(prompts: bool, min: u8, max: u8) -> Verb {
    Verb::Gather {
        sounds: if prompts { vec![sound()] } else { vec![] },
        min_digits: min,
        max_digits: max,
        first_timeout_ms: 5_000,
        digit_timeout_ms: 2_000,
        finish: Some('#'),
        clear_digits: false,
    }
}

fn digits(digits: &str, end: GatherEnd) -> Option<Result<Done, Failure>> {
    Some(Ok(Done::Gathered { digits: digits.to_owned(), end }))
}

#[test]
fn a_play_answers_the_call_first() {
    let mut w = World::new();
    w.media.hold_opens = true;
    w.dial("+4930", true);
    let verb = w.verb(play());
    assert!(w.media.playing.is_empty());
    let leg = w.media.held[0];
    w.input(Input::Media(Event::Opened { leg, address: "10.0.0.1:9000".parse().unwrap() }));
    w.run();
    assert_eq!(w.media.playing.len(), 1);
    w.play_ends(PlayEnd::Finished);
    assert_eq!(w.result(verb), Some(Ok(Done::Played { by_digit: false })));
    w.hang_up();
    assert!(w.over().answered);
}

#[test]
fn a_digit_stops_a_prompt_and_is_kept_for_the_next_gather() {
    let mut w = answered();
    let verb = w.verb(play());
    w.digit('5');
    w.play_ends(PlayEnd::Barged);
    assert_eq!(w.result(verb), Some(Ok(Done::Played { by_digit: true })));
    assert_eq!(w.does(play()), Ok(Done::Played { by_digit: true }), "typed ahead: nothing is played");
    let verb = w.verb(gather(true, 1, 1));
    assert_eq!(w.result(verb), digits("5", GatherEnd::Complete));
    let clear = Verb::Play { sounds: vec![sound()], barge_in: true, clear_digits: true };
    w.digit('1');
    let verb = w.verb(clear);
    assert_eq!(w.result(verb), None, "cleared: it plays");
    w.hang_up();
    w.over();
}

#[test]
fn gather_ends_by_number_by_the_finishing_digit_and_by_time() {
    let mut w = answered();
    let verb = w.verb(gather(true, 1, 2));
    w.digit('1');
    w.play_ends(PlayEnd::Barged);
    w.digit('2');
    assert_eq!(w.result(verb), digits("12", GatherEnd::Complete));

    let verb = w.verb(gather(false, 1, 9));
    w.digit('7');
    w.digit('#');
    assert_eq!(w.result(verb), digits("7", GatherEnd::FinishDigit));

    let verb = w.verb(gather(true, 1, 9));
    w.pass(9_000);
    assert_eq!(w.result(verb), None, "the first timeout runs from the prompt's end");
    w.play_ends(PlayEnd::Finished);
    w.pass(4_999);
    assert_eq!(w.result(verb), None);
    w.pass(1);
    assert_eq!(w.result(verb), digits("", GatherEnd::Timeout));

    let verb = w.verb(gather(false, 3, 9));
    w.digit('1');
    w.pass(1_999);
    w.digit('2');
    w.pass(1_999);
    assert_eq!(w.result(verb), None);
    w.pass(1);
    assert_eq!(w.result(verb), digits("12", GatherEnd::Timeout));
    w.hang_up();
    w.over();
}

#[test]
fn digits_by_info_are_digits() {
    let mut w = answered();
    let verb = w.verb(gather(true, 1, 2));
    let (now, leg) = (w.now, w.leg.unwrap());
    w.caller.sip.leg_request(
        now,
        leg,
        "INFO",
        Some("application/dtmf-relay"),
        b"Signal=4\r\nDuration=160\r\n",
    );
    w.run();
    assert!(w.media.playing.is_empty(), "the prompt stops, though the media plane heard no digit");
    w.caller.sip.leg_request(
        now,
        leg,
        "INFO",
        Some("application/dtmf-relay"),
        b"Signal=2\r\nDuration=160\r\n",
    );
    w.run();
    assert_eq!(w.result(verb), digits("42", GatherEnd::Complete));
    w.hang_up();
    w.over();
}

#[test]
fn music_ends_by_time_or_by_a_digit() {
    let mut w = answered();
    let verb = w.verb(music(3_000));
    w.pass(3_000);
    assert_eq!(w.result(verb), Some(Ok(Done::Played { by_digit: false })));
    assert!(w.media.playing.is_empty());
    let verb = w.verb(music(3_000));
    w.digit('*');
    w.play_ends(PlayEnd::Barged);
    assert_eq!(w.result(verb), Some(Ok(Done::Played { by_digit: true })));
    let verb = w.verb(music(3_000));
    assert_eq!(w.result(verb), None, "an unused digit does not turn a naive loop into a busy one");
    w.hang_up();
    w.over();
}

#[test]
fn waiting_and_sending_digits_take_their_time() {
    let mut w = answered();
    let verb = w.verb(Verb::Wait { ms: 700 });
    w.pass(699);
    assert_eq!(w.result(verb), None);
    w.pass(1);
    assert_eq!(w.result(verb), Some(Ok(Done::Ok)));
    let verb = w.verb(Verb::SendDigits { digits: "12".to_owned() });
    w.pass(360);
    assert_eq!(w.result(verb), Some(Ok(Done::Ok)));
    w.hang_up();
    w.over();
}

#[test]
fn a_recording_is_reported_and_its_name_is_in_the_record() {
    let mut w = answered();
    let record = |name: &str| Verb::Record {
        path: "v.wav".into(),
        name: name.to_owned(),
        max_ms: 60_000,
        silence_ms: 3_000,
        beep: true,
        finish: "#".to_owned(),
    };
    let verb = w.verb(record("v-1"));
    let leg = w.media.opened[0];
    let recording = w.media.recording[&leg];
    w.digit('#');
    w.input(Input::Media(Event::Recorded {
        leg,
        recording,
        duration_ms: 4_000,
        reason: RecordEnd::Digit('#'),
    }));
    w.run();
    assert_eq!(w.result(verb), Some(Ok(Done::Recorded { name: "v-1".to_owned(), duration_ms: 4_000 })));
    let verb = w.verb(gather(false, 1, 1));
    assert_eq!(w.result(verb), None, "the finishing digit is not typed ahead");
    w.digit('1');
    let verb = w.verb(record("v-2"));
    let recording = w.media.recording[&leg];
    w.input(Input::Media(Event::RecordFailed { leg, recording, reason: "disk full".to_owned() }));
    w.run();
    assert_eq!(w.result(verb), Some(Err(Failure::Media("disk full".to_owned()))));
    w.hang_up();
    assert_eq!(w.over().recordings, ["v-1"]);
}

#[test]
fn the_queue_s_refusal_is_an_answer() {
    let mut w = answered();
    w.queue = false;
    let verb = w.verb(Verb::Enqueue { workgroup: "support".to_owned(), request: QueueRequest::default() });
    let refusal = Refusal { reason: "full".to_owned(), text: "full".to_owned() };
    w.tell(ToShard::Enqueued { key: 9, result: Err(refusal.clone()) });
    assert_eq!(w.result(verb), None, "the answer to another question");
    w.tell(ToShard::Enqueued { key: 1, result: Err(refusal.clone()) });
    assert_eq!(w.result(verb), Some(Ok(Done::Refused(refusal))));
    w.queue = true;
    w.enqueue();
    let keys: Vec<u32> = w
        .told
        .iter()
        .filter_map(|(_, m)| if let ToDomain::Enqueue { key, .. } = m { Some(*key) } else { None })
        .collect();
    assert_eq!(keys, [1, 2], "each enqueue has a key of its own");
    w.hang_up();
    w.over();
}

#[test]
fn leave_and_protect_ask_the_domain() {
    let mut w = World::new();
    let ticket = w.queued();
    assert!(matches!(
        w.does(Verb::Enqueue { workgroup: "support".to_owned(), request: QueueRequest::default() }),
        Err(Failure::Other(_))
    ));
    let request = |w: &World| {
        w.told.iter().rev().find_map(|(_, m)| match m {
            ToDomain::Leave { request, .. } | ToDomain::Protect { request, .. } => Some(*request),
            _ => None,
        })
    };
    let verb = w.verb(Verb::Protect { ticket, on: true });
    let number = request(&w).unwrap();
    w.tell(ToShard::Left { request: number, result: Left::Left });
    assert_eq!(w.result(verb), Some(Ok(Done::Left(Left::Left))));
    let verb = w.verb(Verb::Leave { ticket });
    let number = request(&w).unwrap();
    w.tell(ToShard::Left { request: number, result: Left::Offered });
    assert_eq!(w.result(verb), Some(Ok(Done::Left(Left::Offered))), "too late");
    let verb = w.verb(Verb::Leave { ticket });
    let number = request(&w).unwrap();
    w.tell(ToShard::Left { request: number, result: Left::Left });
    assert_eq!(w.result(verb), Some(Ok(Done::Left(Left::Left))));
    assert_eq!(w.does(Verb::Leave { ticket }), Ok(Done::Left(Left::Left)), "twice is no error");
    w.hang_up();
    w.over();
}

#[test]
fn an_accept_that_crosses_a_leave_is_taken() {
    let mut w = World::new();
    let ticket = w.queued();
    w.offer(ticket, &[1]);
    let verb = w.verb(Verb::Leave { ticket });
    w.accept(1);
    assert_eq!(w.result(verb), Some(Ok(Done::Left(Left::Taken))));
    w.hang_up();
    w.over();
}

#[test]
fn attributes_travel_with_the_next_verb_and_before_what_it_does() {
    let mut w = answered();
    let script = w.started[0].0;
    let set = vec![("a".to_owned(), "1".to_owned())];
    let what = Verb::Enqueue { workgroup: "support".to_owned(), request: QueueRequest::default() };
    let from = cordboard_call::script::FromScript::Verb { verb: 5, attributes: set.clone(), what };
    w.input(Input::Script(script, from));
    w.run();
    let at = |f: &dyn Fn(&ToDomain) -> bool| w.told.iter().position(|(_, m)| f(m)).unwrap();
    assert!(
        at(&|m| matches!(m, ToDomain::Attributes { set: s } if *s == set))
            < at(&|m| matches!(m, ToDomain::Enqueue { .. }))
    );
    w.hang_up();
    w.over();
}

// ---- The script's own end ----

#[test]
fn a_script_that_returns_hangs_up() {
    let mut w = answered();
    w.script_ends(ScriptEnd::Returned);
    assert_eq!(w.caller.ended(), 1);
    let end = w.over();
    assert_eq!((end.by.as_str(), end.cause), ("script", 16));
}

#[test]
fn a_script_that_ends_while_its_caller_waits_leaves_the_place_and_the_native_treatment() {
    for how in [ScriptEnd::Returned, ScriptEnd::Error("x".to_owned()), ScriptEnd::Fault(Fault::Memory)] {
        let mut w = World::new();
        let ticket = w.queued();
        w.script_ends(how);
        assert!(w.caller_hears_music());
        assert!(!w.told.iter().any(|(_, m)| matches!(m, ToDomain::Leave { .. })));
        w.offer(ticket, &[1]);
        w.accept(1);
        assert_eq!(w.media.joined.len(), 1);
        w.agent_hangs_up(1);
        assert_eq!(w.caller.ended(), 1);
        w.over();
    }
}

#[test]
fn a_script_that_traps_gives_the_caller_the_tenant_s_fallback() {
    let mut w = answered();
    w.script_ends(ScriptEnd::Fault(Fault::Trap("unreachable".to_owned())));
    assert_eq!((w.media.playing.len(), w.caller.ended()), (1, 0), "the announcement plays");
    assert!(w.lines.iter().any(|l| l.detail.contains("trapped: unreachable")));
    w.play_ends(PlayEnd::Finished);
    let end = w.over();
    assert_eq!((end.by.as_str(), end.cause), ("host", 31));

    let mut model = model();
    model.tenants[0].fallback = Fallback::Workgroup("support".into());
    let mut w = World::with(model);
    w.dial("+4930", true);
    w.script_ends(ScriptEnd::Fault(Fault::Missing));
    assert!(w.line(Step::ScriptStarted).detail.contains("no such plugin"));
    assert!(w.caller_hears_music(), "queued natively");
    w.hang_up();
    w.over();
}

#[test]
fn a_fallback_without_its_prompt_refuses_an_unanswered_call_by_the_cause() {
    let mut model = model();
    model.tenants[0].fallback = Fallback::Announce { prompt: Some("absent".into()), cause: 17 };
    model.tenants[0].script = None;
    let mut w = World::with(model);
    w.dial("+4930", true);
    let (status, response) = w.caller.refused().unwrap();
    assert_eq!(status, 486);
    assert!(response.unwrap().other("Reason").unwrap().contains("cause=17"));
    w.over();
}

#[test]
fn a_script_hangs_up_before_the_answer_with_the_status_of_its_cause() {
    let mut w = World::new();
    w.dial("+4930", true);
    let verb = w.verb(Verb::HangUp { cause: 21 });
    assert_eq!(w.result(verb), None, "hanging up has no completion");
    assert_eq!(w.caller.refused().unwrap().0, 603);
    assert_eq!(w.hung_up_told(), 1);
    w.over();
}

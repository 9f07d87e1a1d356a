//! The support line against callers in virtual time.

use cordboard_sdk::ivr::TicketState;
use cordboard_sdk::ivr::testing::{Caller, Event, Report};
use cordboard_sdk::log::Level;
use cordboard_sdk::testing::{lines, settings};

use super::Support;
use super::words::WORDS;

fn call(caller: Caller) -> Report {
    settings([("workgroup", "support")]);
    caller.run::<Support>()
}

fn open() -> Caller {
    Caller::new().hours("office", true)
}

fn takes(talks_s: u64, end: &'static str) -> Event {
    Event::Takes { agent: "ann", talks_s, end }
}

#[test]
fn the_second_key_chooses_french_as_language_and_skill() {
    let report = call(open().types("2").at_s(60, Event::HangsUp));
    assert_eq!(report.result, Ok(()));
    let (workgroup, request) = &report.requests[0];
    assert_eq!(workgroup, "support");
    assert_eq!(request.skills, ["fr"]);
    assert_eq!(report.attributes["language"], "fr");
    assert!(report.has_heard("Vous êtes le prochain"));
    assert!(!report.has_heard("You are next"));
}

#[test]
fn a_silent_caller_is_asked_twice_and_gets_the_default_language() {
    let report = call(open().keeps_silent().keeps_silent().at_s(60, Event::HangsUp));
    assert_eq!(report.heard.iter().filter(|heard| heard.contains("press one")).count(), 2);
    assert_eq!(report.heard.iter().filter(|heard| heard.contains("Welcome")).count(), 1);
    assert_eq!(report.requests[0].1.skills, ["en"]);
}

#[test]
fn a_wrong_key_is_asked_once_more() {
    let report = call(open().types("7").types("2").at_s(60, Event::HangsUp));
    assert_eq!(report.requests[0].1.skills, ["fr"]);
}

#[test]
fn an_agent_ends_the_music_and_the_survey_follows() {
    let report = call(open().types("1").types("4").at_s(25, takes(90, "agent-left")));
    assert_eq!(report.result, Ok(()));
    assert_eq!(report.attributes["survey.score"], "4");
    assert_eq!(report.cause, Some(16));
    assert!(report.has_heard("How content"));
    assert!(report.ended_at_ms >= 115_000, "{report:?}");
}

#[test]
fn a_digit_that_is_no_score_is_asked_once_more_and_then_let_go() {
    let report = call(open().types("1").types("9").types("0").at_s(25, takes(9, "agent-left")));
    assert!(!report.attributes.contains_key("survey.score"));
    assert_eq!(report.heard.iter().filter(|heard| heard.contains("How content")).count(), 2);
    assert_eq!(report.cause, Some(16));
}

#[test]
fn a_caller_who_is_sent_back_hears_an_apology_and_keeps_waiting() {
    let report =
        call(open().types("1").types("5").at_s(25, takes(10, "returned")).at_s(70, takes(30, "agent-left")));
    assert!(report.has_heard("sorry that you were sent back"));
    assert_eq!(report.attributes["survey.score"], "5");
    assert_eq!(report.requests.len(), 1, "it was queued once");
}

#[test]
fn a_caller_who_ends_the_conversation_gets_no_survey() {
    let report = call(open().types("1").at_s(25, takes(10, "caller-gone")));
    assert_eq!(report.result, Ok(()));
    assert!(!report.has_heard("How content"));
    assert_eq!(report.cause, None);
}

#[test]
fn music_and_both_promotions_alternate_and_the_place_is_announced_each_round() {
    let report = call(open().types("1").queue(3, Some(100)).at_s(130, Event::HangsUp));
    let about = |part: &str| report.heard.iter().filter(|heard| heard.contains(part)).count();
    assert!(about("number three") >= 2 && about("about two minutes") >= 2, "{:?}", report.heard);
    let order: Vec<&str> = report
        .heard
        .iter()
        .map(String::as_str)
        .filter(|heard| heard.starts_with("music:") || heard.starts_with("promotion"))
        .take(6)
        .collect();
    assert_eq!(
        order,
        ["music:music", "promotion-1", "music:music", "music:music", "promotion-2", "music:music"]
    );
}

#[test]
fn while_a_phone_rings_no_place_is_announced() {
    let report = call(open().types("1").at_s(14, Event::Rings).at_s(120, Event::HangsUp));
    assert_eq!(report.heard.iter().filter(|heard| heard.contains("You are next")).count(), 1);
}

#[test]
fn the_exit_key_leads_to_voicemail_and_gives_the_place_up() {
    let report = call(open().types("1").at_s(30, Event::Presses('*')).speaks_ms(8_000));
    assert_eq!(report.recorded, [("voicemail".to_owned(), 8_000)]);
    assert_eq!(report.attributes["voicemail"], "voicemail-1.wav");
    assert_eq!(report.ticket, Some(TicketState::Ended));
    assert_eq!(report.cause, Some(16));
    assert!(report.has_heard("We will call you back"));
}

#[test]
fn no_agent_is_offered_a_caller_who_is_leaving_a_message() {
    let report = call(
        open().types("1").at_s(30, Event::Presses('*')).at_s(36, takes(10, "agent-left")).speaks_ms(20_000),
    );
    assert_eq!(report.attributes["voicemail"], "voicemail-1.wav");
    assert!(!report.has_heard("How content"));
}

#[test]
fn a_caller_who_leaves_no_message_twice_keeps_the_place() {
    let report = call(
        open()
            .types("1")
            .at_s(30, Event::Presses('*'))
            .speaks_ms(200)
            .speaks_ms(300)
            .at_s(90, takes(20, "agent-left"))
            .types("3"),
    );
    assert_eq!(report.recorded.len(), 2);
    assert!(report.has_heard("heard no message"));
    assert_eq!(report.attributes["survey.score"], "3", "the agent came after all");
}

#[test]
fn the_exit_key_is_too_late_when_a_phone_rings() {
    let report = call(
        open()
            .types("1")
            .at_s(29, Event::Rings)
            .at_s(30, Event::Presses('*'))
            .at_s(35, takes(5, "agent-left"))
            .types("2"),
    );
    assert!(report.recorded.is_empty());
    assert_eq!(report.attributes["survey.score"], "2");
}

#[test]
fn another_key_than_the_exit_key_changes_nothing() {
    let report = call(open().types("1").at_s(30, Event::Presses('5')).at_s(60, Event::HangsUp));
    assert!(report.recorded.is_empty());
    assert!(report.caller_gone);
}

#[test]
fn outside_business_hours_a_message_is_taken() {
    let report = call(Caller::new().hours("office", false).types("2").speaks_ms(5_000));
    assert!(report.requests.is_empty());
    assert!(report.has_heard("fermés") && report.has_heard("rappellerons"));
    assert_eq!(report.cause, Some(16));
}

#[test]
fn a_calendar_that_does_not_exist_is_reported_and_taken_for_open() {
    let report = call(Caller::new().types("1").at_s(60, Event::HangsUp));
    assert_eq!(report.requests.len(), 1);
    assert!(lines().iter().any(|(level, text)| *level == Level::Warn && text.contains("office")));
}

#[test]
fn a_refused_caller_leaves_a_message_or_goes_with_a_cause() {
    let report = call(open().types("1").refused("full", "64 callers wait").speaks_ms(4_000));
    assert_eq!(report.attributes["voicemail"], "voicemail-1.wav");
    settings([("workgroup", "support"), ("voicemail", "false")]);
    let report = open().types("1").refused("full", "64 callers wait").run::<Support>();
    assert!(report.has_heard("Nobody can take your call"));
    assert_eq!(report.cause, Some(42));
}

#[test]
fn a_direct_agent_is_waited_for_like_a_queue() {
    let report = call(open().direct().types("1").types("5").at_s(20, takes(30, "agent-left")));
    assert_eq!(report.attributes["survey.score"], "5");
}

#[test]
fn a_hang_up_anywhere_is_no_error() {
    for at_s in 0..60 {
        let report = call(open().types("2").at_s(at_s, Event::HangsUp));
        assert_eq!(report.result, Ok(()), "hung up at {at_s} s");
        assert!(report.caller_gone);
    }
}

#[test]
fn a_missing_prompt_or_music_does_not_cost_the_call() {
    settings([("workgroup", "support"), ("voice", "recorded")]);
    let report = open()
        .types("1")
        .without_prompt("en-connecting")
        .without_prompt("promotion-1")
        .at_s(60, takes(5, "agent-left"))
        .types("1")
        .run::<Support>();
    assert_eq!(report.result, Ok(()));
    assert_eq!(report.attributes["survey.score"], "1");
}

#[test]
fn without_its_workgroup_the_line_says_what_to_mend() {
    settings([]);
    let report = open().run::<Support>();
    assert_eq!(
        report.result,
        Err("setting workgroup is missing: give it in the plugin's settings".to_owned())
    );
}

#[test]
fn every_prompt_that_is_used_is_listed_and_every_text_has_a_fallback() {
    let listed = include_str!("../prompts.toml");
    settings([("workgroup", "support")]);
    let mut names = Vec::new();
    for caller in [
        open().types("1").queue(9, Some(900)).at_s(30, Event::Presses('*')).speaks_ms(9_000),
        open().types("2").queue(2, Some(30)).at_s(60, takes(3, "returned")).at_s(99, takes(3, "agent-left")),
        Caller::new().hours("office", false).types("2"),
    ] {
        let report = caller.run::<Support>();
        assert_eq!(report.heard.len(), report.prompt_names.len(), "a text has no fallback");
        names.extend(report.prompt_names);
    }
    assert!(names.len() > 40);
    for name in names.iter().filter(|name| *name != "music") {
        assert!(listed.contains(&format!("name = \"{name}\"\n")), "{name} is not in prompts.toml");
    }
}

#[test]
fn the_list_of_prompts_is_the_table_of_words() {
    let listed = include_str!("../prompts.toml");
    let mut expected = String::new();
    for (name, english, french) in WORDS {
        for (language, text) in [("en", english), ("fr", french)] {
            expected.push_str(&format!(
                "\n[[prompt]]\nname = \"{language}-{name}\"\nlanguage = \"{language}\"\ntext = \"{text}\"\n"
            ));
        }
    }
    assert!(listed.contains(&expected), "prompts.toml should contain:\n{expected}");
}

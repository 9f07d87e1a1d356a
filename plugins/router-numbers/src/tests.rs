//! The table against calls at given hours.

use cordboard_sdk::router::testing::incoming;
use cordboard_sdk::router::*;
use cordboard_sdk::testing::settings;

use super::Numbers;

const TABLE: &str = "
# number    conditions                     answer
+4930100*   mon-fri 08:00-18:00         -> script ivr-support
+4930100*   from +33* sat,sun           -> script ivr-weekend  tone=soft
+4930100*                               -> script ivr-closed reason=night
+4930200                                -> workgroup support skills=fr,vip priority=5 campaign=spring
+4930300                                -> bridge sip:1000@192.0.2.7 ring=30
+4930301                                -> bridge trunk:a,b/+33 ring=30
+4930400                                -> redirect sip:a@192.0.2.8,sip:b@192.0.2.9
+4930500    fri 22:00-06:00             -> script ivr-night
*                                       -> refuse 404 cause=1 No such number
";

fn ask(table: &str, call: &Incoming) -> Result<Route, NoRoute> {
    settings([("rules", table)]);
    Numbers::route(call)
}

fn at(called: &str, weekday: u8, hour: u8, minute: u8) -> Route {
    ask(TABLE, &incoming("+33123", called, weekday, hour, minute)).unwrap()
}

#[test]
fn the_first_rule_that_matches_answers() {
    assert_eq!(at("+493010077", 1, 8, 0), script("ivr-support").into());
    assert_eq!(at("+4930100", 5, 17, 59), script("ivr-support").into());
    assert_eq!(at("+4930100", 5, 18, 0), script("ivr-closed").attribute("reason", "night").into());
    assert_eq!(at("+4930100", 1, 7, 59), script("ivr-closed").attribute("reason", "night").into());
    assert_eq!(at("+4930100", 6, 12, 0), script("ivr-weekend").attribute("tone", "soft").into());
}

#[test]
fn a_rule_can_ask_who_calls() {
    let german = incoming("+49171", "+4930100", 6, 12, 0);
    assert_eq!(ask(TABLE, &german).unwrap(), script("ivr-closed").attribute("reason", "night").into());
}

#[test]
fn each_kind_of_answer_is_read_with_its_options() {
    assert_eq!(
        at("+4930200", 1, 0, 0),
        workgroup("support").skill("fr").skill("vip").priority(5).attribute("campaign", "spring").into()
    );
    assert_eq!(at("+4930300", 1, 0, 0), bridge("sip:1000@192.0.2.7").ring_s(30).into());
    assert_eq!(at("+4930301", 1, 0, 0), bridge("trunk:a,b/+33").ring_s(30).into());
    assert_eq!(at("+4930400", 1, 0, 0), redirect(["sip:a@192.0.2.8", "sip:b@192.0.2.9"]).into());
    assert_eq!(at("+1", 1, 0, 0), refuse(404, 1, "No such number").into());
}

#[test]
fn a_refusal_without_a_cause_gets_the_one_of_its_status() {
    let call = incoming("", "1", 1, 0, 0);
    assert_eq!(ask("* -> refuse 486 Busy", &call).unwrap(), refuse(486, 17, "Busy").into());
    assert_eq!(ask("* -> refuse 599", &call).unwrap(), refuse(599, 31, "").into());
}

#[test]
fn a_span_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let night: Route = script("ivr-night").into();
    assert_eq!(at("+4930500", 5, 23, 0), night);
    assert_eq!(at("+4930500", 6, 5, 59), night);
    for (weekday, hour) in [(5, 5), (5, 21), (6, 6), (6, 23)] {
        assert_ne!(at("+4930500", weekday, hour, 0), night, "day {weekday} at {hour}");
    }
}

#[test]
fn an_exact_number_is_not_a_beginning() {
    assert_eq!(at("+49302001", 1, 0, 0), refuse(404, 1, "No such number").into());
}

#[test]
fn a_wrong_line_costs_only_the_calls_that_come_to_it() {
    let table = "1 -> script one\n\n# note\n2 -> teleport home\n3 -> script three\n";
    let ask = |called| ask(table, &incoming("", called, 1, 0, 0));
    assert_eq!(ask("1").unwrap(), script("one").into());
    let problem = ask("3").unwrap_err();
    assert!(problem.text().starts_with("rules, line 4: \"teleport\" is not one of"), "{problem:?}");
}

#[test]
fn describe_counts_the_rules_and_names_the_problems() {
    settings([("rules", "1 -> script one\n2 => script two\n3 -> bridge 1000\n")]);
    let attributes = Numbers::attributes();
    assert_eq!(attributes[0], ("rules".to_owned(), "1".to_owned()));
    assert!(attributes[1].1.starts_with("line 2: no ->"), "{attributes:?}");
    assert!(attributes[2].1.starts_with("line 3: \"1000\" is not a SIP URI"), "{attributes:?}");
}

#[test]
fn every_way_to_get_a_line_wrong_says_what_was_expected() {
    for (line, part) in [
        ("-> script a", "no number before ->"),
        ("1 ->", "no answer after ->"),
        ("1 -> script", "script what?"),
        ("1 -> script a b", "\"b\" is not name=value"),
        ("1 -> workgroup g priority=101", "priority: \"101\" is not a number from 0 to 100"),
        ("1 -> bridge sip: ", "is not a SIP URI"),
        ("1 -> bridge trunk:", "names no trunk"),
        ("1 -> bridge sip:a ring=0", "ring: \"0\""),
        ("1 -> redirect sip:a, sip:b", "is not a SIP URI"),
        ("1 -> redirect sip:a sip:b", "put commas"),
        ("1 -> refuse 302", "the status: \"302\" is not a number from 400 to 699"),
        ("1 -> refuse 404 cause=128", "cause: \"128\""),
        ("1 mon-funday -> script a", "is neither days"),
        ("1 08:00-25:00 -> script a", "span of hours"),
        ("1 08:00 -> script a", "span of hours"),
        ("1 08:70-09:00 -> script a", "span of hours"),
        ("1 2000:00-09:00 -> script a", "span of hours"),
        ("1 99999:00-09:00 -> script a", "span of hours"),
        ("1 from -> script a", "no calling number after from"),
        ("1*2 -> script a", "at the end of a number only"),
    ] {
        let problem = ask(line, &incoming("", "1", 1, 0, 0)).unwrap_err();
        assert!(problem.text().contains(part), "{line:?} gave {:?}", problem.text());
    }
}

#[test]
fn a_call_without_a_rule_and_a_table_without_rules_have_no_route() {
    let call = incoming("", "7", 1, 0, 0);
    assert_eq!(ask("1 -> script a", &call).unwrap_err().text(), "no rule for 7");
    settings([]);
    assert!(Numbers::route(&call).unwrap_err().text().contains("setting rules is missing"));
}

#[test]
fn days_may_wrap_around_the_week() {
    let table = "1 fri-mon -> script weekend";
    for (weekday, found) in [(4, false), (5, true), (7, true), (1, true), (2, false)] {
        let route = ask(table, &incoming("", "1", weekday, 12, 0));
        assert_eq!(route.is_ok(), found, "day {weekday}");
    }
}

#[test]
fn no_table_makes_it_panic() {
    // Every prefix of a good table, and every one of its bytes replaced by something unfit.
    let call = incoming("+33123", "+4930500", 6, 5, 0);
    for end in 0..TABLE.len() {
        let _ = ask(&TABLE[..end], &call);
        for unfit in ["-", ":", "=", "9", "é", "\n"] {
            let mut table = TABLE.to_owned();
            table.replace_range(end..=end, unfit);
            let _ = ask(&table, &call);
        }
    }
}

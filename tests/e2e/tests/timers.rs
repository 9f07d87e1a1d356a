//! What two stacks agree on beside the call itself: reliable provisional responses (RFC 3262), session timers
//! (RFC 4028), and what happens when both change the session at once (RFC 3261 14). pjsua2 and SIPp are the others.

use std::net::SocketAddr;

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::play::{CONTACT, LAST_TO, Play, has, keep, lacks};
use cordboard_e2e::s;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use serde_json::json;

use crate::flow::{answers, talk};

/// A caller who knows timers.
const TIMER: &str = "Supported: timer";

fn address(centre: &Centre) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], centre.ports.centre))
}

/// A centre that asks for sessions of 90 s, and whose probes are never due: only their timers keep sessions up.
fn timed(rules: String) -> Setup {
    let mut setup = Setup { rules, rtp_ports: 100, ..Setup::default() };
    setup.agent("alice").limit("dialog_probe_s", "0").limit("session_expires_s", "90");
    setup
}

#[test]
fn provisional_responses_are_acknowledged_on_both_legs() {
    let scene = Scene::new("prack");
    let far = free_port();
    let centre = Centre::start(&scene, &timed(format!("* -> bridge sip:far@127.0.0.1:{far} ring=20")));
    let capture = Capture::start(&scene, &[centre.ports.centre], centre.ports.rtp);
    // The far end sends its 183 reliably, and answers once it has the PRACK.
    let mut there = Play::default();
    there.called(&[has("Supported", "100rel")]);
    let reliable = "[last_CSeq:]\n      Require: 100rel\n      RSeq: 4711\n      ";
    there.respond_with(183, "Session Progress", reliable, true);
    there.asked("PRACK", &[has("RAck", "^ *4711 1 INVITE$")]).respond(200, "OK", false);
    there.answer_held(200, "OK", true).asked("ACK", &[]).hung_up(&[]);
    let called = there.is_called(&scene, "far", far);
    // So does the centre to the caller, who demands it.
    let mut caller = Play::default();
    caller.invites("100", &["Require: 100rel"]).step("<recv response=\"100\" optional=\"true\"/>");
    let checks =
        [has("Require", "100rel"), keep("RSeq", "[0-9]+", "rseq"), keep("Contact", "sip:[^>]*", "target")];
    let checks = checks.concat();
    caller.step(&format!("<recv response=\"183\"><action>{checks}</action></recv>"));
    caller.request("PRACK", "[$target]", LAST_TO, "RAck: [$rseq] 1 INVITE\n      ", false);
    caller.step("<recv response=\"200\"><action><ereg regexp=\"PRACK\" search_in=\"hdr\" header=\"CSeq:\" check_it=\"true\" assign_to=\"found\"/></action></recv>");
    caller.gets_with(200, &[has("CSeq", "INVITE")]).within("ACK", "", false).pause(100).hangs_up("");
    caller.calls(&scene, "caller", "127.0.0.1", address(&centre)).all_well(1, s(20));
    called.all_well(1, s(20));
    capture.nothing_malformed(10, 0);
    centre.finish();
}

#[test]
fn an_interval_that_is_too_small_is_refused_and_refreshes_of_either_kind_are_granted() {
    let scene = Scene::new("refreshes");
    let far = free_port();
    let centre = Centre::start(&scene, &timed(format!("* -> bridge sip:far@127.0.0.1:{far} ring=20")));
    let capture = Capture::start(&scene, &[centre.ports.centre], centre.ports.rtp);
    let mut there = Play::default();
    // The far end wants longer ones: its 422 is taken at its word.
    there.called(&[has("Supported", "timer"), has("Session-Expires", "^ *90$")]);
    let longer = "[last_CSeq:]\n      Min-SE: 120\n      ";
    there.respond_with(422, "Session Interval Too Small", longer, false).asked("ACK", &[]);
    there.called(&[has("Session-Expires", "^ *120$"), has("Min-SE", "^ *120$")]).answers().hung_up(&[]);
    let called = there.is_called(&scene, "far", far);
    let (short, long) = ("Session-Expires: 60", "Session-Expires: 1800;refresher=uac");
    let granted = [has("Session-Expires", "^ *90;refresher=uac$"), has("Require", "timer")];
    let mut caller = Play::default();
    caller.invites("100", &[TIMER, short]).refused(422, &[has("Min-SE", "^ *90$")]);
    caller.invites("100", &[TIMER, long]).gets_with(200, &granted).within("ACK", "", false);
    let headers = |interval: &str| format!("{CONTACT}{TIMER}\n      {interval}\n      ");
    caller.within("UPDATE", &headers(long), false).gets_with(200, &granted);
    caller.within("UPDATE", &headers(short), false).gets_with(422, &[has("Min-SE", "^ *90$")]);
    caller.within("INVITE", &headers(long), true).gets_with(200, &granted).within("ACK", "", false);
    caller.hangs_up("");
    caller.calls(&scene, "caller", "127.0.0.1", address(&centre)).all_well(1, s(20));
    called.all_well(1, s(20));
    capture.nothing_malformed(10, 0);
    centre.finish();
}

/// Calls that are up for a minute, all at once.
#[test]
fn a_session_lasts_as_long_as_somebody_refreshes_it_and_ends_at_both_ends_when_nobody_does() {
    let scene = Scene::new("session-timers");
    let ports = [free_port(), free_port(), free_port()];
    let [lapses, lapsed, glares] = ports;
    let rules = format!(
        "301 -> bridge sip:far@127.0.0.1:{lapses} ring=20\n302 -> bridge sip:far@127.0.0.1:{lapsed} ring=20\n303 -> bridge sip:far@127.0.0.1:{glares} ring=20\n* -> script ivr-support"
    );
    let centre = Centre::start(&scene, &timed(rules));
    let capture = Capture::start(&scene, &[centre.ports.centre], centre.ports.rtp);
    let mut sides = Vec::new();
    // A caller who promises to refresh and does not, and a far end who does not know timers.
    let mut play = Play::default();
    sides.push(play.called(&[]).answers().hung_up(&[]).is_called(&scene, "lapses-far", lapses));
    let mut play = Play::default();
    play.invites("301", &[TIMER, "Session-Expires: 90;refresher=uac"]);
    play.gets_with(200, &[has("Session-Expires", "^ *90;refresher=uac$")]).within("ACK", "", false);
    sides.push(play.hung_up(&[]).calls(&scene, "lapses", "127.0.0.1", address(&centre)));
    // The far end promises, and it is the caller who knows no timers.
    let mut play = Play::default();
    let promise = "[last_CSeq:]\n      Require: timer\n      Session-Expires: 90;refresher=uas\n      ";
    play.called(&[]).respond_with(200, "OK", promise, true).asked("ACK", &[]).hung_up(&[]);
    sides.push(play.is_called(&scene, "lapsed-far", lapsed));
    let mut play = Play::default();
    play.invites("302", &[]).gets_with(200, &[lacks("Session-Expires")]).within("ACK", "", false);
    sides.push(play.hung_up(&[]).calls(&scene, "lapsed", "127.0.0.1", address(&centre)));
    // Who has no UPDATE is refreshed by re-INVITE; here its own crosses ours, and both sides say 491.
    let mut play = Play::default();
    sides.push(play.called(&[]).answers().hung_up(&[]).is_called(&scene, "glares-far", glares));
    let mut play = Play::default();
    play.invites("303", &[TIMER, "Session-Expires: 90;refresher=uas", "Allow: INVITE, ACK, CANCEL, BYE"]);
    play.gets_with(200, &[has("Session-Expires", "^ *90;refresher=uas$")]).within("ACK", "", false);
    play.held("INVITE", &[has("Session-Expires", "^ *90;refresher=uac$")]);
    play.within("INVITE", CONTACT, true).refused_within(491);
    play.answer_held(491, "Request Pending", false).asked("ACK", &[]);
    let again = [has("Session-Expires", "^ *90;refresher=uac$")];
    let taken = "[last_CSeq:]\n      Require: timer\n      Session-Expires: 90;refresher=uac\n      ";
    play.asked("INVITE", &again).respond_with(200, "OK", taken, true).asked("ACK", &[]);
    // The lapsed ones have ended long before.
    play.pause(20_000).hangs_up("");
    sides.push(play.calls(&scene, "glares", "127.0.0.1", address(&centre)));
    // A phone that refreshes as it has promised: PJSUA_100REL_MANDATORY, PJSUA_SIP_TIMER_ALWAYS.
    let mut alice = Phone::agent(&centre, "alice", answers());
    centre.agent("alice", "login");
    let mut phone = Phone::start("4930111");
    phone.order(&json!({ "do": "account", "name": "4930111", "id": "sip:4930111@127.0.0.1",
        "prack": 1, "timer": 3, "session_s": 90 }));
    phone.call(&centre, "c", "100", 1_000, &[700]);
    talk(&mut phone, "c", &mut alice, "alice-1");
    let names = ["lapses-far", "lapses", "lapsed-far", "lapsed", "glares-far", "glares"];
    for (side, _) in sides.into_iter().zip(names) {
        side.all_well(1, s(80));
    }
    phone.listen_anew("c");
    alice.listen_anew("alice-1");
    talk(&mut phone, "c", &mut alice, "alice-1");
    phone.hang_up("c");
    phone.ended("c");
    assert_eq!(alice.ended("alice-1")["status"], 200);
    for record in centre.records(4) {
        let lasted = record["end"]["duration_ms"].as_u64().expect("a duration");
        let (from, to) = match record["called"].as_str() {
            Some("301" | "302") => (58_000, 62_000),
            _ => (62_000, 75_000),
        };
        assert!((from..to).contains(&lasted), "{lasted} ms: {record}");
    }
    capture.nothing_malformed(30, 100);
    centre.finish();
}

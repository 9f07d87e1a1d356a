//! What a leg tells the next one of who calls, which numbers the call has left and why it ended, by what SIPp sends
//! on one side and finds on the other: RFC 3323 and 3325, RFC 5806 and 7044, RFC 3326. And calls that come back.

use std::net::SocketAddr;
use std::process::Stdio;

use cordboard_e2e::capture::Capture;
use cordboard_e2e::centre::Centre;
use cordboard_e2e::kamailio::Kamailio;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::place;
use cordboard_e2e::play::{Play, REMOTE, TO, has, lacks, tells};
use cordboard_e2e::s;
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::Setup;
use serde_json::{Value, json};

use crate::trunks::leaving;

/// The trunk that is trusted has this source, and one that is not the other.
const TRUSTED: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";

/// A trusted and a strange trunk in, and trunks out to `far`, each with what its `[trunks.out]` has besides. By the
/// first goes what is dialled to 101, and what is dialled to 201 goes by it to another number; and so on.
fn between(far: u16, out: &[(&str, &str)]) -> Setup {
    let mut more =
        format!("[[trunks]]\nname = \"strangers\"\nsources = [\"{STRANGER}\"]\ntenant = \"acme\"\n");
    let mut rules = String::new();
    for (n, (name, keys)) in out.iter().enumerate() {
        more += &format!(
            "[[trunks]]\nname = \"{name}\"\n[trunks.out]\nhealth_s = 0\ndestinations = [{{ address = \"sip:127.0.0.1:{far}\" }}]\n{keys}\n"
        );
        rules += &format!("10{0} -> bridge trunk:{name}\n20{0} -> bridge trunk:{name}/+336\n", n + 1);
    }
    let mut setup = leaving("refuse 1", &more);
    setup.rules = rules + &setup.rules;
    setup
        .edits
        .push(("sources = [\"127.0.0.0/8\"]".into(), format!("trusted = true\nsources = [\"{TRUSTED}\"]")));
    setup
}

fn address(centre: &Centre) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], centre.ports.centre))
}

/// A far end that is called by an INVITE that stands the checks, and hung up.
fn finds(checks: &[String]) -> Play {
    let mut play = Play::default();
    play.called(checks).answers().hung_up(&[]);
    play
}

/// A caller, with these headers, who talks a moment and hangs up.
fn says(number: &str, headers: &[&str]) -> Play {
    let mut play = Play::of("\"Ann\" <sip:+331@[local_ip]:[local_port]>");
    play.invites(number, headers).answered().pause(100).hangs_up("");
    play
}

/// Plays both sides of one call to their ends.
fn both(scene: &Scene, centre: &Centre, name: &str, from: &str, caller: &Play, far: (&Play, u16)) {
    let there = far.0.is_called(scene, &format!("{name}-far"), far.1);
    caller.calls(scene, name, from, address(centre)).all_well(1, s(20));
    there.all_well(1, s(20));
}

const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous\\.invalid>";

#[test]
fn who_calls_is_told_to_trusted_trunks_and_kept_from_others_when_the_caller_asks_for_it() {
    let scene = Scene::new("identity");
    let far = free_port();
    let setup = between(
        far,
        &[
            ("friend", "identity = \"asserted\"\nidentity_uris = \"both\"\n"),
            ("elsewhere", ""),
            ("service", "identity = \"preferred\"\nfrom = \"4930900\"\ndomain = \"service.test\""),
        ],
    );
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.centre], centre.ports.rtp);
    let asserts = "P-Asserted-Identity: \"Ann A\" <sip:+332@carrier.test>, <tel:+332>";
    let at = format!("@127.0.0.1:{}", centre.ports.centre);
    let asserted = |name: &str, number: &str| {
        has("P-Asserted-Identity", &format!("^ *{name}<sip:\\+{number}{at}>, *{name}<tel:\\+{number}>"))
    };
    let hidden = || lacks("[+]33|Ann|-Identity:");
    let id = "Privacy: id";
    // Shown: a trusted trunk hears what is asserted, another the same number as the From of old.
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [&'a str], Vec<String>);
    let cases: [Case<'_>; 8] = [
        ("101", TRUSTED, "+332", &[asserts], vec![asserted("\"Ann A\" ", "332"), lacks("\nPrivacy:")]),
        (
            "102",
            TRUSTED,
            "+332",
            &[asserts],
            vec![has("From", &format!("^ *\"Ann A\" <sip:\\+332{at}>")), lacks("-Identity:")],
        ),
        // Withheld: the network hears the number, and that it is to keep it.
        (
            "101",
            TRUSTED,
            "",
            &[asserts, id],
            vec![has("From", ANONYMOUS), asserted("\"Ann A\" ", "332"), has("Privacy", "^ *id")],
        ),
        ("102", TRUSTED, "", &[asserts, id], vec![has("From", ANONYMOUS), hidden()]),
        (
            "103",
            TRUSTED,
            "",
            &[asserts, id],
            vec![has("P-Preferred-Identity", "<sip:4930900@service\\.test>"), lacks("[+]33|Ann|P-Asserted")],
        ),
        // RFC 3323 5.3: what the caller says of himself goes, too.
        (
            "101",
            TRUSTED,
            "",
            &[asserts, "Privacy: user;header", "Subject: it is Ann"],
            vec![has("Privacy", "user.*id"), has("From", ANONYMOUS), lacks("Subject")],
        ),
        // What a stranger asserts is nothing; his From is what it says it is.
        ("101", STRANGER, "+331", &[asserts], vec![asserted("", "331"), lacks("[+]332")]),
        ("102", STRANGER, "", &[asserts, id], vec![has("From", ANONYMOUS), hidden()]),
    ];
    for (n, (number, from, caller, headers, checks)) in cases.iter().enumerate() {
        both(&scene, &centre, &format!("case-{n}"), from, &says(number, headers), (&finds(checks), far));
        let record = centre.records(n + 1).remove(0);
        assert_eq!((&record["caller"], &record["called"]), (&json!(caller), &json!(number)), "{record}");
    }
    // What must be hidden and cannot be is not sent on.
    let mut play = Play::default();
    play.invites("100", &["Privacy: x-invisible;critical"]).refused(500, &[]);
    play.calls(&scene, "critical", TRUSTED, address(&centre)).all_well(1, s(20));
    capture.nothing_malformed(50, 0);
    centre.finish();
}

#[test]
fn the_numbers_that_a_call_has_left_are_told_on_with_one_more_when_we_divert_it() {
    let scene = Scene::new("diversions");
    let far = free_port();
    let setup = between(
        far,
        &[
            ("both", "diversion = \"both\""),
            ("friend", "diversion = \"both\"\nidentity = \"asserted\""),
            ("silent", ""),
            ("few", "diversion = \"diversion\"\nmax_diversions = 2"),
        ],
    );
    let centre = Centre::start(&scene, &setup);
    let capture = Capture::start(&scene, &[centre.ports.centre], centre.ports.rtp);
    let at = format!("@127.0.0.1:{}", centre.ports.centre);
    let diversion = "Diversion: <sip:+4931@pbx.test>;reason=no-answer;counter=2";
    let history = "History-Info: <sip:+4931@pbx.test>;index=1, <sip:+4932@pbx.test;cause=486>;index=1.1;mp=1, \
                   <sip:100@us.test;cause=302>;index=1.1.1;mp=1.1";
    let private = "Diversion: <sip:+4931@pbx.test>;reason=away;privacy=full";
    let passed = "<sip:\\+4931@pbx\\.test>;reason=no-answer;counter=2";
    let ours = |number: &str| format!("<sip:{number}{at}>;reason=unconditional;counter=1");
    let cases: [(&str, &str, Vec<String>, [&str; 4]); 6] = [
        // Passed through, and as a history with a step for what the counter counts.
        (
            "101",
            diversion,
            vec![
                has("Diversion", &format!("^ *{passed}$")),
                has(
                    "History-Info",
                    "<sip:\\+4931@pbx\\.test;cause=404>;index=1\\.1;mp=1, *<sip:101@[^>]*;cause=408>;index=1\\.1\\.1;mp=1\\.1$",
                ),
            ],
            ["+4931", "+4931", "no-answer", "2"],
        ),
        // Diverted once more here.
        (
            "201",
            diversion,
            vec![
                tells(&format!("\nDiversion: {}[^<]*{passed}", ours("201"))),
                has("History-Info", "<sip:\\+336@[^>]*;cause=302>;index=1\\.1\\.1\\.1;mp=1\\.1\\.1$"),
            ],
            ["+4931", "+4931", "no-answer", "2"],
        ),
        // RFC 7044 is understood, and said as RFC 5806 has it, the newest first.
        (
            "101",
            history,
            vec![tells(
                "\nDiversion: <sip:\\+4932@pbx\\.test>;reason=unconditional;counter=1[^<]*<sip:\\+4931@pbx\\.test>;reason=user-busy;counter=1",
            )],
            ["+4931", "+4932", "unconditional", "2"],
        ),
        // A private number is told to a friend alone.
        (
            "101",
            private,
            vec![
                has(
                    "Diversion",
                    "^ *<sip:anonymous@anonymous\\.invalid>;reason=away;counter=1;privacy=full$",
                ),
                lacks("4931"),
            ],
            ["", "", "away", "1"],
        ),
        (
            "102",
            private,
            vec![
                has("Diversion", "^ *<sip:\\+4931@pbx\\.test>;reason=away;counter=1;privacy=full$"),
                has("History-Info", "4931@pbx\\.test\\?Privacy=history>"),
            ],
            ["", "", "away", "1"],
        ),
        // A trunk that is not to be told.
        ("203", diversion, vec![lacks("Diversion|History-Info|4931")], ["+4931", "+4931", "no-answer", "2"]),
    ];
    for (n, (number, header, checks, known)) in cases.iter().enumerate() {
        let name = format!("case-{n}");
        both(&scene, &centre, &name, TRUSTED, &says(number, &[header]), (&finds(checks), far));
        let record = centre.records(n + 1).remove(0);
        let attribute = |name: &str| {
            let (key, all) = (format!("diversion.{name}"), record["attributes"].as_array().expect("a list"));
            all.iter().find(|a| a[0] == key.as_str()).and_then(|a| a[1].as_str()).unwrap_or_default()
        };
        assert_eq!(["original", "from", "reason", "count"].map(attribute), *known, "{record}");
    }
    // Twice is as often as this trunk diverts.
    let mut play = Play::default();
    play.invites("204", &[diversion]).refused(482, &[]);
    play.calls(&scene, "often", TRUSTED, address(&centre)).all_well(1, s(20));
    capture.nothing_malformed(50, 0);
    centre.finish();
}

#[test]
fn why_a_leg_has_ended_is_told_to_the_other() {
    let scene = Scene::new("reasons");
    let far = free_port();
    let centre = Centre::start(&scene, &between(far, &[("far", "")]));
    let capture = Capture::start(&scene, &[centre.ports.centre], centre.ports.rtp);
    let no_circuit = "Reason: Q.850;cause=34;text=\"no circuit\", SIP;cause=503\n      ";
    let told = [has("Reason", "Q\\.850;cause=34;text=\"no circuit\", *SIP;cause=503")];
    let elsewhere = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\n      ";
    let changed = "Reason: Q.850;cause=22;text=\"changed\"\n      ";
    let gives_up = |play: &mut Play| {
        let (uri, to) = (REMOTE.replace("100", "101"), TO.replace("100", "101"));
        play.step("<recv response=\"100\" optional=\"true\"/>").step("<recv response=\"180\"/>");
        play.request("CANCEL", &uri, &to, elsewhere, false).gets(200, "").refused(487, &[]);
    };
    type Side<'a> = &'a dyn Fn(&mut Play);
    let plays: [(&str, u64, Side<'_>, Side<'_>); 4] = [
        (
            "caller-hangs-up",
            34,
            &|caller| {
                caller.answered().pause(100).hangs_up(no_circuit);
            },
            &|far| {
                far.answers().hung_up(&told);
            },
        ),
        (
            "far-hangs-up",
            34,
            &|caller| {
                caller.answered().hung_up(&told);
            },
            &|far| {
                far.answers().pause(100).hangs_up(no_circuit);
            },
        ),
        (
            "far-refuses",
            22,
            &|caller| {
                caller.refused(404, &[has("Reason", "^ *Q\\.850;cause=22;text=\"changed\"$")]);
            },
            &|far| {
                far.respond(180, "Ringing", false);
                far.respond_with(404, "Not Found", &format!("[last_CSeq:]\n      {changed}"), false);
                far.asked("ACK", &[]);
            },
        ),
        ("caller-gives-up", 16, &gives_up, &|far| {
            far.respond(180, "Ringing", false);
            far.asked("CANCEL", &[has("Reason", "SIP;cause=200;text=\"Call completed elsewhere\"$")]);
            far.respond(200, "OK", false).terminated();
        }),
    ];
    for (n, (name, cause, caller, there)) in plays.iter().enumerate() {
        let (mut near, mut called) = (Play::default(), Play::default());
        caller(near.invites("101", &[]));
        there(called.called(&[]));
        both(&scene, &centre, name, TRUSTED, &near, (&called, far));
        let record = centre.records(n + 1).remove(0);
        assert_eq!(record["end"]["cause"], *cause, "{name}: {record}");
    }
    capture.nothing_malformed(30, 0);
    centre.finish();
}

#[test]
fn a_call_that_a_proxy_sends_back_ends_as_a_loop() {
    let scene = Scene::new("loops");
    let proxy = Kamailio::start(&scene);
    let more = format!(
        "[[trunks]]\nname = \"proxy\"\n[trunks.out]\nhealth_s = 0\ndestinations = [{{ address = \"sip:127.0.0.1:{}\" }}]\n",
        proxy.port
    );
    let centre = Centre::start(&scene, &leaving("bridge trunk:proxy", &more));
    let capture = Capture::start(&scene, &[centre.ports.redirect, centre.ports.centre], centre.ports.rtp);
    // What the proxy knows: 100 is at the centre, as are 101 for 102 and 102 for 101.
    for (number, contact) in [("100", "100"), ("101", "102"), ("102", "101")] {
        let contact = format!("sip:{contact}@127.0.0.1:{}", centre.ports.centre);
        let to = proxy.uri(number);
        let out = place::program("sipsak", "sipsak")
            .args(["-U", "-C", &contact, "-x", "60", "-s", &to])
            .stdin(Stdio::null())
            .output()
            .expect("sipsak starts");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    }
    let mut caller = Phone::caller("4930111");
    let mut records = 0;
    for (number, passages) in [("100", 2), ("101", 3)] {
        caller.call(&centre, number, number, 1_000, &[]);
        let end = caller.ended(number);
        assert_eq!((&end["status"], &end["connected"]), (&json!(482), &json!(false)), "{end}");
        records += passages;
        let looped = centre.records(records);
        let ended: Vec<&Value> = looped.iter().map(|r| &r["end"]["cause"]).collect();
        assert!(ended.iter().all(|cause| **cause == 25), "every passage is a loop's: {ended:?}");
        let said = looped.iter().any(|r| r["timeline"].to_string().contains("a loop: "));
        assert!(said, "{looped:#?}");
    }
    capture.nothing_malformed(20, 0);
    centre.finish();
}

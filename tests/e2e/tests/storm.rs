//! Loss of 5 %, duplication and reordering in both directions, through the relay: calls set up and clear all
//! the same, and nothing is left behind.

use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::place;
use cordboard_e2e::relay::{ALIAS, Relay, STORM};
use cordboard_e2e::scene::{Scene, free_port};
use cordboard_e2e::setup::{Agent, Setup};
use cordboard_e2e::sipp::Sipp;
use cordboard_e2e::{eventually, ms, s};
use serde_json::json;

/// A centre that names its aliases, and has patience with phones that are hard to reach.
fn stormy(setup: &mut Setup) {
    setup.limit("silent_target_s", "16").group("ring_timeout_s", "20").group("max_misses", "100");
    setup.edits.push(("[listen]\n".into(), format!("[listen]\nadvertised = \"{ALIAS}\"\n")));
}

/// No transaction, no timer: what was retransmitted has come to its end (64 * T1, RFC 3261 17).
fn nothing_leaks(centre: &Centre) {
    centre.at_rest_within(s(45));
    eventually("no transaction and no timer is left", s(45), || {
        let left = centre.metric("cordboard_sip_transactions") + centre.metric("cordboard_shard_timers");
        (left == 0.0).then_some(())
    });
}

#[test]
fn in_a_storm_every_call_of_a_crowd_is_served_and_none_leaks() {
    const CALLS: u32 = 300;
    const AGENTS: usize = 20;
    let scene = Scene::new("storm-crowd");
    let relay = Relay::start(1, STORM);
    let phones = free_port();
    let sipp = |name: &str, port: u16, scenario: &str, more: &[&str]| {
        let mut args = vec!["-sf".to_owned(), place::beside(scenario).display().to_string()];
        // What comes late or twice is no reason to give a call up.
        args.extend(["-default_behaviors", "all,-abortunexp", "-key", "alias", ALIAS].map(str::to_owned));
        args.extend(more.iter().map(|m| (*m).to_owned()));
        Sipp::run(&scene, name, port, &args)
    };
    let mut setup = Setup { rtp_ports: 2_000, ..Setup::default() };
    stormy(&mut setup);
    for n in 0..AGENTS {
        let address = Some(format!("sip:agent{n}@{ALIAS}:{phones}"));
        setup.agents.push(Agent {
            name: format!("agent{n}"),
            address,
            skills: vec!["en".into()],
            ready: true,
        });
    }
    let agents = sipp("agents", phones, "sipp/storm-agent.xml", &["-d", "300", "-l", "3000"]);
    let centre = Centre::start(&scene, &setup);
    let callers = free_port();
    relay.alias([centre.ports.redirect, centre.ports.centre, phones, callers]);
    let to = format!("{ALIAS}:{}", centre.ports.redirect);
    let count = CALLS.to_string();
    let crowd = sipp(
        "crowd",
        callers,
        "sipp/storm-caller.xml",
        &["-s", "100", "-m", &count, "-r", "20", "-l", "3000", "-recv_timeout", "60000", &to],
    );
    crowd.all_well(u64::from(CALLS), s(120));
    let records = centre.records(CALLS as usize);
    for record in &records {
        let offers = record["offers"].as_array().cloned().unwrap_or_default();
        assert_eq!(offers.last().map(|o| &o["result"]), Some(&json!("accepted")), "{record}");
        assert_eq!(record["end"]["cause"], 16, "{record}");
    }
    nothing_leaks(&centre);
    relay.was_bad(150);
    let again = centre.metric("cordboard_sip_odd_messages_total");
    assert!(again > 100.0, "only {again} retransmissions and strays were seen");
    centre.finish();
    drop(agents);
}

#[test]
fn in_a_storm_phones_hear_each_other_and_hang_up() {
    let scene = Scene::new("storm-phones");
    let relay = Relay::start(2, STORM);
    let mut setup = Setup { rtp_ports: 60, ..Setup::default() };
    stormy(&mut setup);
    setup.agent("alice").agent("bob");
    let centre = Centre::start(&scene, &setup);
    relay.alias([centre.ports.redirect, centre.ports.centre]);
    relay.alias(centre.ports.rtp.0..=centre.ports.rtp.1);
    let mut phones = ["alice", "bob"].map(|name| {
        let mut phone = Phone::seen_as(name, ALIAS);
        phone.register(&centre, name, json!({ "status": 200, "tone": 700, "listen": [1_000] }));
        centre.agent(name, "login");
        phone
    });
    let mut caller = Phone::seen_as("4930111", ALIAS);
    caller.order(&json!({ "do": "account", "name": "4930111", "id": format!("sip:4930111@{ALIAS}") }));
    let mut calls = [0; 2];
    for round in 1..=8 {
        let call = format!("c{round}");
        caller.call_uri(&call, &format!("sip:100@{ALIAS}:{}", centre.ports.redirect), 1_000, &[700]);
        // The one who has been idle for longer is asked.
        let (agent, name) = match round % 2 {
            1 => (0, "alice"),
            _ => (1, "bob"),
        };
        calls[agent] += 1;
        let there = format!("{name}-{}", calls[agent]);
        phones[agent].hears("confirmed", s(30), |e| e["call"] == there);
        caller.hears("tone", s(10), |e| e["call"] == call && e["hz"] == 700);
        phones[agent].hears("tone", s(10), |e| e["call"] == there && e["hz"] == 1_000);
        // Either side hangs up.
        match round % 4 < 2 {
            true => caller.hang_up(&call),
            false => phones[agent].hang_up(&there),
        }
        caller.hears("ended", s(40), |e| e["call"] == call);
        phones[agent].hears("ended", s(40), |e| e["call"] == there);
        centre.agent_becomes(name, "ready");
        std::thread::sleep(ms(50));
    }
    for record in centre.records(8) {
        assert_eq!(record["end"]["cause"], 16, "{record}");
        assert_eq!(record["offers"].as_array().map(Vec::len), Some(1), "{record}");
    }
    relay.was_bad(20);
    centre.at_rest_within(s(45));
    centre.finish();
}

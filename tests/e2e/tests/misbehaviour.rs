//! Plugins that trap, loop, eat memory and answer nonsense, in each world: their calls end by the
//! named default, and a neighbour who talks meanwhile hears no gap.

use cordboard_e2e::centre::Centre;
use cordboard_e2e::phone::Phone;
use cordboard_e2e::raw::RawUa;
use cordboard_e2e::scene::Scene;
use cordboard_e2e::setup::Setup;
use cordboard_e2e::webhook::Webhook;
use cordboard_e2e::{eventually, ms, s};
use serde_json::json;

use crate::endings::redirect_of;
use crate::flow::{answers, caller, talk};

/// Two who talk while others misbehave.
struct Neighbours {
    caller: Phone,
    agent: Phone,
}

impl Neighbours {
    fn meet(centre: &Centre) -> Self {
        let mut agent = Phone::agent(centre, "alice", answers());
        centre.agent("alice", "login");
        let mut caller = caller(centre, "4930999");
        talk(&mut caller, "c", &mut agent, "alice-1");
        Self { caller, agent }
    }

    /// They still hear each other.
    fn go_on(&mut self) {
        self.caller.listen_anew("c");
        self.agent.listen_anew("alice-1");
        talk(&mut self.caller, "c", &mut self.agent, "alice-1");
    }

    fn part(mut self) {
        self.go_on();
        self.agent.hang_up("alice-1");
        assert_eq!(self.agent.ended("alice-1")["status"], 200);
        assert_eq!(self.caller.ended("c")["status"], 200);
    }
}

#[test]
fn a_misbehaving_router_leads_to_the_tenants_script() {
    let scene = Scene::new("bad-router");
    let mut setup = Setup { router: Some("misbehave-router".into()), ..Setup::default() };
    setup
        .plugin("misbehave-router", "misbehave-router")
        .set("misbehave-router", "script", "ivr-support")
        .agent("alice");
    // Each mode is asked twice, since a router that traps is asked once more: keep it out of quarantine.
    setup.limit("quarantine_faults", "1000");
    let centre = Centre::start(&scene, &setup);
    let mut neighbours = Neighbours::meet(&centre);
    let modes =
        ["trap", "loop", "memory", "stack", "flood", "error", "other", "nonsense", "nonsense-status", "huge"];
    for mode in modes {
        let mut ua = RawUa::new();
        let began = std::time::Instant::now();
        let mut dialog = ua.call_answered(redirect_of(&centre), &format!("misbehave-{mode}"), "4930111");
        assert!(began.elapsed() < s(2), "{mode}: the default came only after {:?}", began.elapsed());
        // Besides the neighbour, whose place is taken.
        let _ = centre.waiting(2);
        ua.bye(&mut dialog);
        let _ = centre.waiting(1);
        neighbours.go_on();
    }
    neighbours.part();
    assert!(centre.metric("cordboard_plugin_defaults_total") >= modes.len() as f64 - 1.0);
    let _ = centre.records(modes.len() + 1);
    centre.finish();
}

#[test]
fn a_misbehaving_script_costs_only_its_own_call() {
    let scene = Scene::new("bad-script");
    let rules = "misbehave-* -> script misbehave-ivr\n* -> script ivr-support".into();
    let mut setup = Setup { rules, ..Setup::default() };
    setup
        .plugin("misbehave-ivr", "misbehave-ivr")
        .agent("alice")
        .limit("script_cpu_ms", "300")
        .limit("quarantine_faults", "1000");
    let centre = Centre::start(&scene, &setup);
    let mut neighbours = Neighbours::meet(&centre);
    let ends = ["trap", "loop", "memory", "stack", "flood", "error", "spin-calls"];
    for mode in ends {
        let mut ua = RawUa::new();
        let _ = ua.call_answered(redirect_of(&centre), &format!("misbehave-{mode}"), "4930111");
        // The tenant's fallback: hung up, cause 41.
        ua.hung_up(s(10));
        neighbours.go_on();
    }
    // Returning without a word, and asking for nonsense: the script is at its end, or plays on until the caller goes.
    let mut ua = RawUa::new();
    let _ = ua.call_answered(redirect_of(&centre), "misbehave-return", "4930111");
    ua.hung_up(s(5));
    for mode in ["nonsense", "deaf"] {
        let mut ua = RawUa::new();
        let mut dialog = ua.call_answered(redirect_of(&centre), &format!("misbehave-{mode}"), "4930111");
        std::thread::sleep(ms(500));
        ua.bye(&mut dialog);
        neighbours.go_on();
    }
    neighbours.part();
    let records = centre.records(ends.len() + 4);
    for mode in ends {
        let record = records.iter().find(|r| r["called"] == format!("misbehave-{mode}")).expect("a record");
        assert_eq!(
            (&record["end"]["by"], &record["end"]["cause"]),
            (&json!("host"), &json!(41)),
            "{mode}: {}",
            record["end"]
        );
    }
    centre.finish();
}

#[test]
fn a_misbehaving_queue_policy_is_replaced_by_the_default_for_its_question() {
    let scene = Scene::new("bad-policy");
    let mut setup = Setup { policy: Some("misbehave-policy".into()), ..Setup::default() };
    setup
        .plugin("misbehave-policy", "misbehave-policy")
        .agent("alice")
        .agent("bob")
        .limit("quarantine_faults", "1000");
    let centre = Centre::start(&scene, &setup);
    let mut neighbours = Neighbours::meet(&centre);
    let mut bob = RawUa::new();
    let modes = ["trap", "loop", "memory", "stack", "flood", "out-of-range", "duplicate", "steps", "huge"];
    // Bob's phone is moved to a socket of ours by another configuration of the same name.
    setup.agents[1].address = Some(bob.uri("bob"));
    for mode in modes {
        setup.set("misbehave-policy", "mode", mode);
        centre.write(&setup);
        let reload = centre.cli(&["reload"]);
        assert!(reload.status.success(), "{mode}: {reload:?}");
        let mut first = RawUa::new();
        let mut second = RawUa::new();
        let _ = first.call_answered(redirect_of(&centre), "100", "4930111");
        let _ = centre.waiting(2);
        let _ = second.call_answered(redirect_of(&centre), "100", "4930222");
        let entries = centre.waiting(3);
        let order: Vec<_> =
            entries.iter().filter(|e| e["state"] != "taken").map(|e| e["caller"].clone()).collect();
        assert_eq!(order, ["4930111", "4930222"], "{mode}: first come, first served");
        centre.agent("bob", "login");
        for ua in [&mut first, &mut second] {
            let invite = bob.expect_request("INVITE", s(5));
            bob.reply(&invite, 200, "OK", true);
            bob.expect_request("ACK", s(3));
            let mut dialog = bob.dialog_of(&invite);
            bob.bye(&mut dialog);
            ua.hung_up(s(5));
        }
        centre.agent("bob", "logout");
        neighbours.go_on();
    }
    assert!(centre.metric("cordboard_policy_faults_total") >= modes.len() as f64);
    neighbours.part();
    let _ = centre.records(modes.len() * 2 + 1);
    centre.finish();
}

#[test]
fn a_misbehaving_redirect_policy_is_replaced_by_spare_capacity() {
    for mode in ["trap", "loop", "memory", "nonsense", "huge"] {
        let scene = Scene::new(&format!("bad-redirect-{mode}"));
        let mut setup = Setup { redirect: "policy = \"misbehave-redirect\"".into(), ..Setup::default() };
        setup
            .plugin("misbehave-redirect", "misbehave-redirect")
            .set("misbehave-redirect", "mode", mode)
            .agent("alice");
        let centre = Centre::start(&scene, &setup);
        eventually("the policy has been asked and has failed", s(5), || {
            centre.log().contains("the redirect policy failed").then_some(())
        });
        let neighbours = Neighbours::meet(&centre);
        neighbours.part();
        centre.finish();
    }
}

#[test]
fn a_misbehaving_adapter_delays_no_call_and_no_other_adapter() {
    for mode in ["trap", "loop", "memory", "few", "many", "retry", "dead"] {
        let scene = Scene::new(&format!("bad-adapter-{mode}"));
        let hook = Webhook::start();
        let mut setup = Setup::default();
        setup
            .plugin("misbehave-cti", "misbehave-cti")
            .set("misbehave-cti", "mode", mode)
            .agent("alice")
            .webhook(&hook.url());
        setup.adapters.push("misbehave-cti".into());
        let centre = Centre::start(&scene, &setup);
        let neighbours = Neighbours::meet(&centre);
        neighbours.part();
        let id = centre.record()["interaction"].as_str().unwrap_or_default().to_owned();
        eventually(&format!("{mode}: the webhook hears of the end"), s(5), || {
            hook.types_about(&id).iter().any(|t| t.ends_with("call.ended")).then_some(())
        });
        centre.finish();
    }
}

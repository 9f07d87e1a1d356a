//! Versions: swap, roll back, quarantine, listing, the code cache.

use std::time::{Duration, Instant};

use cordboard_call::Name;
use cordboard_call::policy::{Entry, Fault, Policies};
use cordboard_call::router::{Incoming, Route};
use cordboard_plugin::{Limits, PluginEvent, Refused, Routers, WasmPolicies, World};

use crate::harness::{Host, eventually, limits, noon, wait};

fn incoming() -> Incoming {
    Incoming {
        tenant: "demo".into(),
        trunk: "trunk".into(),
        caller: String::new(),
        caller_name: String::new(),
        called: "1".into(),
        headers: Vec::new(),
        attributes: Vec::new(),
    }
}

pub(crate) fn route(host: &Host) -> Result<Route, Fault> {
    wait(Routers::new(host.registry.clone()).ask_route(&"router".into(), &incoming(), noon()))
}

#[test]
fn many_traps_put_a_version_in_quarantine_and_the_last_good_one_back() {
    let host = Host::with(Limits { quarantine_faults: 4, route_ms: 2_000, ..limits() }, 16);
    let good = host.load("router", "misbehave_router", World::CallRouter);
    assert!(route(&host).is_ok());
    let bad = host
        .load_with("router", "misbehave_router", World::CallRouter, &[("mode", "trap")])
        .expect("it is installed: it describes itself well");
    assert!(bad.generation() > good.generation());
    assert!(matches!(route(&host), Err(Fault::Trap(_))), "two faults: it is asked twice");
    assert!(matches!(route(&host), Err(Fault::Trap(_))), "four");
    assert!(route(&host).is_ok(), "the good one is back");
    let events = host.events.lock().unwrap().clone();
    let quarantined = events.iter().find_map(|event| match event {
        PluginEvent::Quarantined { fault, now, .. } => Some((fault.clone(), *now)),
        _ => None,
    });
    let (fault, now) = quarantined.expect("an event says so");
    assert!(matches!(fault, Fault::Trap(_)));
    assert_eq!(now, Some(good.digest()));
    let listed = &host.registry.list()[0];
    assert!(listed.earlier.iter().any(|(_, quarantined)| *quarantined), "{listed:?}");
    assert!(!listed.quarantined);
}

#[test]
fn a_version_without_an_earlier_one_rests_and_is_tried_again() {
    let host =
        Host::with(Limits { quarantine_faults: 2, quarantine_rest_ms: 300, route_ms: 2_000, ..limits() }, 16);
    host.load_with("router", "misbehave_router", World::CallRouter, &[("mode", "trap")]).expect("installed");
    assert!(matches!(route(&host), Err(Fault::Trap(_))));
    assert_eq!(route(&host), Err(Fault::Missing), "it rests: no CPU is spent on it");
    assert!(host.registry.list()[0].quarantined);
    eventually("it is tried again", || matches!(route(&host), Err(Fault::Trap(_))));
    assert!(host.events.lock().unwrap().iter().any(|event| matches!(event, PluginEvent::OnProbation { .. })));
}

/// The domain's thread puts its policy in quarantine: it must not wait for a compiler.
#[test]
fn a_policy_goes_into_quarantine_while_another_component_is_examined() {
    let describe_ms = 4_000;
    let host = Host::with(Limits { quarantine_faults: 2, describe_ms, ..limits() }, 16);
    let good = host.load("policy", "misbehave_policy", World::QueuePolicy);
    host.load_with("policy", "misbehave_policy", World::QueuePolicy, &[("mode", "trap")]).expect("installed");
    std::thread::scope(|scope| {
        let install = scope.spawn(|| {
            host.load_with("router", "misbehave_router", World::CallRouter, &[("mode", "describe-loop")])
        });
        std::thread::sleep(Duration::from_millis(300));
        let since = Instant::now();
        let mut policies = WasmPolicies::new(host.registry.clone());
        let entry = Entry { arrived_ms: 1, now_ms: 2, priority: 0, skills: Vec::new(), misses: 0 };
        let at: (Name, Name) = ("demo".into(), "support".into());
        let answer = policies.place(&at.0, &at.1, &"policy".into(), &entry);
        assert!(matches!(answer, Err(Fault::Trap(_))), "{answer:?}");
        assert!(policies.place(&at.0, &at.1, &"policy".into(), &entry).is_ok(), "the good one is back");
        assert!(!install.is_finished(), "the component is still being examined");
        assert!(since.elapsed() < Duration::from_millis(describe_ms / 2), "{:?}", since.elapsed());
        assert_eq!(host.registry.active("policy").expect("in service").digest(), good.digest());
        let refused = install.join().expect("it comes to an end").expect_err("it describes nothing");
        assert!(refused.to_string().contains("describe"), "{refused}");
    });
    assert!(host.registry.active("router").is_none());
}

#[test]
fn the_operator_can_go_back_and_the_same_component_is_no_change() {
    let host = Host::new();
    let first = host.load("policy", "policy_longest_idle", World::QueuePolicy);
    let again = host.load("policy", "policy_longest_idle", World::QueuePolicy);
    assert_eq!(first.generation(), again.generation());
    assert!(matches!(host.registry.roll_back("policy"), Err(Refused::NoEarlier(_))));
    assert!(matches!(host.registry.roll_back("nobody"), Err(Refused::NoPlugin(_))));
    let second = host.load("policy", "policy_skills", World::QueuePolicy);
    assert_ne!(second.digest(), first.digest());
    assert_eq!(host.registry.roll_back("policy").expect("goes back").digest(), first.digest());
    assert_eq!(host.registry.active("policy").expect("in service").digest(), first.digest());
    let listed = &host.registry.list()[0];
    assert_eq!(listed.description.as_ref().expect("described").name, "policy-longest-idle");
    assert!(serde_json::to_string(listed).expect("it can be printed").contains("\"world\":\"queue-policy\""));
}

#[test]
fn swapping_under_load_loses_no_question() {
    let host = Host::with(Limits { route_ms: 10_000, ..limits() }, 64);
    host.load("router", "misbehave_router", World::CallRouter);
    let routers = Routers::new(host.registry.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let asked = 400;
    for at in 0..asked {
        let tell = tell.clone();
        routers.ask("router".into(), Box::new(incoming()), noon(), move |answer| {
            let _ = tell.send(answer);
        });
        if at % 40 == 0 {
            let script = format!("script-{at}");
            host.load_with("router", "misbehave_router", World::CallRouter, &[("script", &script)])
                .expect("swapped");
        }
    }
    for _ in 0..asked {
        let answer = told.recv_timeout(crate::harness::PATIENCE).expect("an answer");
        assert!(matches!(answer, Ok(Route::Script { .. })), "{answer:?}");
    }
}

//! A policy in the domain's thread.

use std::time::Instant;

use cordboard_call::Name;
use cordboard_call::policy::{Candidates, Entry, Fault, Policies};
use cordboard_plugin::{Limits, WasmPolicies, World};

use crate::harness::{Host, limits};

const ARRIVED_MS: i64 = 1_700_000_000_000;

fn entry() -> Entry {
    Entry { arrived_ms: ARRIVED_MS, now_ms: ARRIVED_MS + 5, priority: 0, skills: vec![1], misses: 0 }
}

fn three() -> Candidates {
    Candidates {
        agents: vec![7, 8, 9],
        idle_ms: vec![10, 30, 20],
        calls: vec![0; 3],
        busy_ms: vec![0; 3],
        skill_level: vec![1; 3],
        skill_count: vec![1; 3],
        preferred: vec![0; 3],
    }
}

/// A host with a policy in a mode, and the answers to both questions.
fn asked(mode: &str) -> (Host, Result<i64, Fault>, Result<Vec<u32>, Fault>) {
    // 5 ms are for a real machine; here others build at the same time.
    let host = Host::with(Limits { policy_ms: 2_000, ..limits() }, 16);
    host.load_with("policy", "misbehave_policy", World::QueuePolicy, &[("mode", mode)]).expect("installed");
    let mut policies = WasmPolicies::new(host.registry.clone());
    let (tenant, group, plugin): (Name, Name, Name) = ("demo".into(), "support".into(), "policy".into());
    let place = policies.place(&tenant, &group, &plugin, &entry()).map(|placement| placement.key_ms);
    let rank = policies.rank(&tenant, &group, &plugin, &entry(), &three());
    (host, place, rank)
}

#[test]
fn a_policy_places_and_ranks() {
    let (host, place, rank) = asked("");
    assert_eq!(place, Ok(ARRIVED_MS));
    assert_eq!(rank, Ok(vec![1, 2, 0]));
    assert_eq!(host.registry.stats("policy").expect("counted").questions, 2);
}

#[test]
fn each_way_to_fail_has_its_name() {
    for mode in ["trap", "stack"] {
        let (host, place, rank) = asked(mode);
        assert!(matches!(place, Err(Fault::Trap(_))), "{mode}: {place:?}");
        assert!(matches!(rank, Err(Fault::Trap(_))), "{mode}: {rank:?}");
        assert_eq!(
            host.registry.stats("policy").expect("counted").traps,
            4,
            "{mode}: each question was asked twice"
        );
    }
    let (_host, place, rank) = asked("memory");
    assert_eq!((place, rank), (Err(Fault::Memory), Err(Fault::Memory)));
    let (_host, place, rank) = asked("out-of-range");
    assert!(matches!(place, Err(Fault::Nonsense(_))), "{place:?}");
    assert!(matches!(rank, Err(Fault::Nonsense(_))), "{rank:?}");
    let (_host, place, rank) = asked("duplicate");
    assert!(matches!(place, Err(Fault::Nonsense(_))), "{place:?}");
    assert!(matches!(rank, Err(Fault::Nonsense(text)) if text.contains("twice")));
    let (_host, place, _) = asked("steps");
    assert!(matches!(place, Err(Fault::Nonsense(text)) if text.contains("1000 steps")));
    let (_host, place, rank) = asked("huge");
    assert!(matches!(place, Err(Fault::Nonsense(_))), "{place:?}");
    assert!(matches!(rank, Err(Fault::Nonsense(_))), "{rank:?}");
}

#[test]
fn a_policy_that_loops_gives_the_domain_its_thread_back() {
    let host = Host::new();
    host.load_with("policy", "misbehave_policy", World::QueuePolicy, &[("mode", "loop"), ("in", "rank")])
        .expect("installed");
    let mut policies = WasmPolicies::new(host.registry.clone());
    let (tenant, group, plugin): (Name, Name, Name) = ("demo".into(), "support".into(), "policy".into());
    let since = Instant::now();
    assert_eq!(policies.rank(&tenant, &group, &plugin, &entry(), &three()), Err(Fault::Timeout));
    println!("a looping policy was given up after {} us", since.elapsed().as_micros());
    assert!(since.elapsed().as_millis() < 1_000);
    let place = policies.place(&tenant, &group, &plugin, &entry());
    assert!(place.is_ok(), "a new instance places: {place:?}");
}

#[test]
fn a_new_version_is_taken_between_two_questions() {
    let host = Host::new();
    host.load_with("policy", "misbehave_policy", World::QueuePolicy, &[("mode", "duplicate")])
        .expect("installed");
    let mut policies = WasmPolicies::new(host.registry.clone());
    let (tenant, group, plugin): (Name, Name, Name) = ("demo".into(), "support".into(), "policy".into());
    let mut rank = || policies.rank(&tenant, &group, &plugin, &entry(), &three());
    assert!(matches!(rank(), Err(Fault::Nonsense(_))));
    host.load("policy", "policy_longest_idle", World::QueuePolicy);
    assert_eq!(rank(), Ok(vec![1, 2, 0]));
    host.registry.remove("policy");
    assert_eq!(rank(), Err(Fault::Missing));
    host.load("policy", "policy_longest_idle", World::QueuePolicy);
    assert_eq!(rank(), Ok(vec![1, 2, 0]));
}

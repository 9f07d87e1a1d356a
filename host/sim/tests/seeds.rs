//! Ten thousand calls with loss, reordering and crossings, and the bugs that they must find.
//!
//! `CORDBOARD_SEED=7 cargo test -p cordboard-sim` runs one more seed; a failure prints its own.

use std::sync::Arc;

use cordboard_call::model::{Agent, Fallback, Limits, Model, Network, Phone, Tenant, Trunk, Workgroup};
use cordboard_call::{domain, shard};
use cordboard_sim::world::{Options, Report, run};
use cordboard_sip::sdp::Codec;

fn workgroup(name: &str, round: u32) -> Workgroup {
    Workgroup {
        name: name.into(),
        policy: None,
        ring_timeout_ms: 4_000,
        wrap_up_ms: 1_500,
        max_waiting: 500,
        round,
        max_misses: 2,
        miss_back_off_ms: 1_000,
        lease_ms: 30_000,
        music: Some("music".into()),
        refuse_without_agents: false,
        expected_handle_ms: 10_000,
    }
}

fn model() -> Arc<Model> {
    let agent = |i: usize| Agent {
        name: format!("agent{i}").into(),
        phone: Phone::Address(format!("sip:agent{i}@10.0.2.1:5060")),
        // Every agent serves one of the queues, so that "the head is offered first" can be judged.
        workgroups: vec![if i.is_multiple_of(2) { "support".into() } else { "sales".into() }],
        skills: Vec::new(),
        ready_at_start: true,
    };
    Arc::new(Model {
        node: "sim".into(),
        trunks: vec![Trunk {
            name: "carrier".into(),
            sources: vec![Network { address: "10.0.1.0".parse().unwrap(), prefix: 24, port: None }],
            max_calls_per_s: 100,
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            ..Trunk::default()
        }],
        tenants: vec![Tenant {
            name: "acme".into(),
            numbers: vec!["+49800100".to_owned()],
            router: Some("router".into()),
            script: Some("support".into()),
            fallback: Fallback::Workgroup("sales".into()),
            adapters: Vec::new(),
            skills: Vec::new(),
            workgroups: vec![workgroup("support", 1), workgroup("sales", 2)],
            agents: (0..24).map(agent).collect(),
            qualify: Vec::new(),
            realm: "acme".to_owned(),
            call_back_grace_ms: 60_000,
        }],
        limits: Limits::default(),
    })
}

fn options(seed: u64, calls: u32) -> Options {
    Options {
        seed,
        calls,
        calls_per_s: 2,
        lost_per_mille: 30,
        doubled_per_mille: 20,
        jitter_ms: 30,
        model: model(),
        domain_bugs: domain::Bugs::default(),
        shard_bugs: shard::Bugs::default(),
    }
}

fn assert_good(seed: u64, calls: u32, report: &Report) {
    assert!(report.violations.is_empty(), "seed {seed}:\n{}", report.violations.join("\n"));
    // A simulation in which nothing happens proves nothing.
    assert!(report.accepted > u64::from(calls) / 3, "seed {seed}: {report:?}");
    assert!(report.heard * 10 > report.accepted * 7, "seed {seed}: too few were heard both ways: {report:?}");
    assert!(report.unanswered > u64::from(calls) / 20, "seed {seed}: {report:?}");
    assert!(report.taken > 0 && report.lost > 0 && report.script_faults > 0, "seed {seed}: {report:?}");
}

#[test]
fn ten_thousand_calls_end_well_for_everyone() {
    let seeds = std::env::var("CORDBOARD_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in (1..=5).chain(seeds) {
        let report = run(options(seed, 2_000));
        println!(
            "seed {seed}: {} accepted, {} offers not, {} heard both ways, {:.0} virtual s, {} steps",
            report.accepted, report.unanswered, report.heard, report.seconds, report.steps
        );
        assert_good(seed, 2_000, &report);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (a, b) = (run(options(11, 200)), run(options(11, 200)));
    assert_eq!((a.steps, a.accepted, a.lost, a.refused), (b.steps, b.accepted, b.lost, b.refused));
}

#[test]
fn a_perfect_network_needs_no_retransmission_to_end_well() {
    let report = run(Options { lost_per_mille: 0, doubled_per_mille: 0, jitter_ms: 1, ..options(12, 500) });
    assert!(report.violations.is_empty(), "{}", report.violations.join("\n"));
    assert_eq!(report.lost, 0);
}

/// Each bug must be found within a few hundred calls of some seed.
fn finds(name: &str, with: impl Fn(&mut Options)) {
    for seed in 21..=26 {
        let mut options = options(seed, 400);
        with(&mut options);
        let report = run(options);
        if let Some(first) = report.violations.first() {
            println!("{name}: seed {seed}: {first}");
            return;
        }
    }
    panic!("the simulation does not find the seeded bug {name}");
}

macro_rules! seeded {
    ($($test:ident: $whose:ident.$bug:ident;)*) => {
        $(#[test]
        fn $test() {
            finds(stringify!($bug), |options| options.$whose.$bug = true);
        })*
    };
}

seeded! {
    finds_a_removed_compare_and_swap: domain_bugs.cas_removed;
    finds_a_place_that_is_reset_on_return: domain_bugs.place_reset_on_return;
    finds_a_leaked_lease_timer: domain_bugs.lease_timer_leaked;
    finds_a_miss_that_is_not_counted: domain_bugs.miss_not_counted;
    finds_a_skipped_wrap_up: domain_bugs.wrap_up_skipped;
    finds_a_double_offer: domain_bugs.double_offer_same_agent;
    finds_an_ignored_log_out: domain_bugs.revoke_ignored;
    finds_an_ignored_cancel_crossing: shard_bugs.cancel_crossing_ignored;
    finds_a_leaked_ring_timer: shard_bugs.ring_timer_leaked;
    finds_a_second_outcome: shard_bugs.settled_twice;
    finds_an_outcome_that_never_comes: shard_bugs.settled_never_on_caller_hang_up;
    finds_a_leaked_media_leg: shard_bugs.media_leg_leaked;
    finds_a_script_that_is_not_told_taken: shard_bugs.taken_not_delivered;
    finds_a_call_that_ends_twice: shard_bugs.call_ended_twice;
}

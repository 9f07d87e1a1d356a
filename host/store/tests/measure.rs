//! Figures behind two decisions; run with `--ignored --nocapture`. Never a verdict.

use std::time::Instant;

use cordboard_base::Id;
use cordboard_call::facts::Fact;
use cordboard_store::{Batch, Journal, Options, codec};

fn facts(n: u64) -> Vec<Fact> {
    vec![
        Fact::Queued {
            ticket: Id(u128::MAX / 3 + u128::from(n)),
            interaction: Id(u128::MAX / 5 + u128::from(n)),
            key: 1,
            tenant: "acme".into(),
            workgroup: "support".into(),
            direct: None,
            key_ms: 1_763_843_000_000,
            arrived_ms: 1_763_843_000_000,
            caller: "+33123456789".into(),
            skills: vec!["en".into()],
            priority: 5,
        },
        Fact::Offered {
            token: Id(u128::MAX / 7 + u128::from(n)),
            ticket: Id(u128::MAX / 3 + u128::from(n)),
            tenant: "acme".into(),
            agent: "alice".into(),
            lease_until_ms: 1_763_843_060_000,
        },
    ]
}

#[test]
#[ignore = "a measurement"]
fn postcard_against_json() {
    let sample: Vec<Fact> = (0..1_000).flat_map(facts).collect();
    let began = Instant::now();
    let binary: usize = sample.iter().map(|f| codec::encode(f).len()).sum();
    let binary_time = began.elapsed();
    let began = Instant::now();
    let json: usize = sample.iter().map(|f| serde_json::to_vec(f).unwrap().len()).sum();
    println!("postcard {binary} bytes {binary_time:?}; JSON {json} bytes {:?}", began.elapsed());
}

#[test]
#[ignore = "a measurement"]
fn commits() {
    for gather_ms in [0, 1, 10] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { gather_ms, ..Options::new(folder.path().join("x.db")) };
        let (journal, running, _) =
            Journal::open(options, |_: cordboard_store::journal::Committed<()>| {}).unwrap();
        let began = Instant::now();
        for n in 0..4_000 {
            journal.submit(Batch { facts: facts(n), events: vec![], held: () }).unwrap();
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        running.stop();
        let stats = journal.stats();
        let get = |v: &std::sync::atomic::AtomicU64| v.load(std::sync::atomic::Ordering::Relaxed);
        println!(
            "gather {gather_ms} ms: 4,000 batches in {:?}, {} commits, {:.1} us a commit, {:.1} us a batch",
            began.elapsed(),
            get(&stats.commits),
            get(&stats.busy_ns) as f64 / 1e3 / get(&stats.commits) as f64,
            get(&stats.busy_ns) as f64 / 1e3 / 4_000.0,
        );
    }
}

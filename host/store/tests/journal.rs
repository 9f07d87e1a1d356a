//! The journal against the promises in its first paragraph.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, mpsc};

use cordboard_base::Id;
use cordboard_call::events::Event;
use cordboard_call::facts::{Fact, OfferRecord, Record};
use cordboard_call::messages::{CallEnded, OfferResult};
use cordboard_sip::endpoint::DialogRecord;
use cordboard_store::{Batch, Filter, Journal, Options, Outbox, Records, StoreError};

fn placed(n: u64) -> Fact {
    Fact::Placed { ticket: Id(u128::from(n)), key_ms: n as i64 }
}

fn event(n: u64) -> Event {
    Event {
        sequence: n,
        tenant: "acme".into(),
        kind: "call.new".into(),
        interaction: Some(Id(u128::from(n))),
        subject: Id(u128::from(n)).to_string(),
        wall_ms: n as i64,
        data: "{}".into(),
    }
}

fn dialog(leg: u64) -> Fact {
    Fact::DialogUp {
        leg,
        interaction: Id(1),
        dialog: Arc::new(DialogRecord {
            call_id: format!("call-{leg}"),
            local: "<sip:a@127.0.0.1>;tag=1".into(),
            remote: "<sip:b@127.0.0.1>;tag=2".into(),
            target: "sip:b@127.0.0.1:5070".into(),
            routes: vec![],
            local_cseq: 1,
            remote_cseq: Some(1),
            listener: 1,
            destination: "127.0.0.1:5070".parse().unwrap(),
        }),
    }
}

fn record(n: u64) -> Record {
    Record {
        interaction: Id(u128::from(n)),
        tenant: "acme".into(),
        trunk: "carrier".into(),
        caller: format!("+33{n}"),
        called: "100".into(),
        call_id: format!("call-{n}"),
        began_ms: n as i64 * 1_000,
        ended_ms: n as i64 * 1_000 + 500,
        end: CallEnded {
            cause: 16,
            by: "caller".into(),
            text: "normal, \"quoted\"".into(),
            status: 200,
            answered: true,
            duration_ms: 500,
            recordings: vec![],
        },
        attributes: vec![("a".into(), "=1+1".into())],
        offers: vec![OfferRecord {
            token: Id(7),
            ticket: Id(8),
            agent: "alice".into(),
            offered_ms: 1,
            result: Some(OfferResult::Declined { status: 603 }),
            rang_ms: 2,
            talked_ms: 3,
        }],
        workgroup: "support".into(),
        agent: if n.is_multiple_of(2) { "alice".into() } else { String::new() },
        waited_ms: 10,
        talked_ms: 20,
        estimate_ms: Some((1, 2)),
        lines: vec![],
    }
}

fn quiet(path: &std::path::Path) -> Options {
    Options { gather_ms: 0, ..Options::new(path) }
}

fn batch(facts: Vec<Fact>, events: Vec<Event>, held: u64) -> Batch<u64> {
    Batch { facts, events, held }
}

#[test]
fn facts_come_back_in_order_and_releases_run_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/x.db");
    let released = Arc::new(Mutex::new(Vec::new()));
    let seen = released.clone();
    let (journal, running, before) =
        Journal::open(quiet(&path), move |c| seen.lock().unwrap().push(c.held)).unwrap();
    assert!(before.facts.is_empty());
    assert!(journal.is_idle());
    for n in 0..1_000 {
        journal.submit(batch(vec![placed(n), placed(n)], vec![], n)).unwrap();
    }
    running.stop();
    assert!(journal.is_idle());
    assert_eq!(*released.lock().unwrap(), (0..1_000).collect::<Vec<_>>());
    assert!(journal.submit(batch(vec![], vec![], 0)).is_err(), "a closed store takes nothing");
    let (_, running, after) = Journal::<u64>::open(quiet(&path), |_| {}).unwrap();
    let expected: Vec<_> = (0..1_000).flat_map(|n| [placed(n), placed(n)]).collect();
    assert_eq!(after.facts, expected);
    running.stop();
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let (_journal, running, _) = Journal::<u64>::open(quiet(&path), |_| {}).unwrap();
    assert!(matches!(Journal::<u64>::open(quiet(&path), |_| {}), Err(StoreError::InUse { .. })));
    running.stop();
}

#[test]
fn a_snapshot_replaces_what_was_before_and_keeps_live_dialogs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let options = Options { compact_after_rows: 3, ..quiet(&path) };
    let (released, done) = mpsc::channel();
    let (journal, running, _) = Journal::open(options, move |c| released.send(c.held).unwrap()).unwrap();
    journal.note(vec![dialog(1), dialog(2)]);
    for n in 0..10 {
        journal.submit(batch(vec![placed(n)], vec![], n)).unwrap();
        done.recv().unwrap();
    }
    assert!(journal.wants_snapshot());
    assert!(!journal.wants_snapshot(), "asked once, not with every batch");
    journal.note(vec![Fact::DialogDown { leg: 1 }]);
    journal.compact(vec![placed(100)]);
    journal.submit(batch(vec![placed(101)], vec![], 0)).unwrap();
    running.stop();
    assert_eq!(journal.stats().compactions.load(Relaxed), 1);
    let (_, running, after) = Journal::<u64>::open(quiet(&path), |_| {}).unwrap();
    assert_eq!(after.facts, [placed(100), dialog(2), placed(101)]);
    running.stop();
}

#[test]
fn a_damaged_row_is_a_clear_error_and_what_stands_before_it_can_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let (released, done) = mpsc::channel();
    let (journal, running, _) = Journal::open(quiet(&path), move |c| released.send(c.held).unwrap()).unwrap();
    for n in 0..10 {
        journal.submit(batch(vec![placed(n)], vec![], n)).unwrap();
        done.recv().unwrap();
    }
    running.stop();
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute("UPDATE journal SET body = x'0102' WHERE seq = 8", []).unwrap();
    drop(db);
    let error = Journal::<u64>::open(quiet(&path), |_| {}).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("row 8 of 10") && text.contains("--journal-keep-whole"), "{text}");
    let (journal, running, kept) = Journal::open(
        Options { keep_whole: true, ..quiet(&path) },
        |_: cordboard_store::journal::Committed<u64>| {},
    )
    .unwrap();
    assert_eq!(kept.facts, (0..7).map(placed).collect::<Vec<_>>());
    assert_eq!(kept.rows_given_up, 3);
    journal.submit(batch(vec![placed(50)], vec![], 1)).unwrap();
    running.stop();
    let (_, running, again) = Journal::<u64>::open(quiet(&path), |_| {}).unwrap();
    assert_eq!(again.facts.last(), Some(&placed(50)));
    running.stop();
}

#[test]
fn missing_rows_are_damage_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let (released, done) = mpsc::channel();
    let (journal, running, _) = Journal::open(quiet(&path), move |c| released.send(c.held).unwrap()).unwrap();
    for n in 0..5 {
        journal.submit(batch(vec![placed(n)], vec![], n)).unwrap();
        done.recv().unwrap();
    }
    running.stop();
    rusqlite::Connection::open(&path).unwrap().execute("DELETE FROM journal WHERE seq = 3", []).unwrap();
    let error = Journal::<u64>::open(quiet(&path), |_| {}).unwrap_err().to_string();
    assert!(error.contains("rows between are missing"), "{error}");
}

#[test]
fn a_file_that_is_no_database_and_one_of_a_later_version_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    std::fs::write(&path, "this is not a database, and it is long enough to be looked at".repeat(40))
        .unwrap();
    assert!(Journal::<u64>::open(quiet(&path), |_| {}).unwrap_err().to_string().contains("x.db"));
    let path = folder.path().join("y.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Journal::<u64>::open(quiet(&path), |_| {}), Err(StoreError::Later { found: 99, .. })));
}

#[test]
fn events_are_delivered_from_a_cursor_and_kept_until_every_adapter_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let (released, done) = mpsc::channel();
    let (journal, running, _) =
        Journal::open(quiet(&path), move |c| released.send(c.events).unwrap()).unwrap();
    journal.adapters(vec!["crm".into(), "wallboard".into()]);
    let mut places = Vec::new();
    for n in 1..=10 {
        journal.submit(batch(vec![], vec![event(n), event(n + 100)], n)).unwrap();
        places.extend(done.recv().unwrap().into_iter().map(|s| s.place));
    }
    assert_eq!(places, (1..=20).collect::<Vec<_>>());
    let outbox = Outbox::open(&path).unwrap();
    assert_eq!(outbox.cursor("crm").unwrap(), Some(0));
    assert_eq!(outbox.cursor("nobody").unwrap(), None);
    let some = outbox.after(3, 4).unwrap();
    assert_eq!((some[0].place, some[0].event.sequence), (4, 102));
    assert!(journal.advance("crm", 20));
    assert!(journal.advance("wallboard", 5));
    journal.bury("crm", some[0].clone(), "400 from the other side", 1);
    running.stop();
    let (journal, running, _) =
        Journal::open(quiet(&path), |_: cordboard_store::journal::Committed<u64>| {}).unwrap();
    assert_eq!(outbox.cursor("crm").unwrap(), Some(20));
    assert_eq!(outbox.after(outbox.cursor("wallboard").unwrap().unwrap(), 100).unwrap().len(), 15);
    let letters = outbox.dead_letters(10).unwrap();
    assert_eq!(
        (letters.len(), &*letters[0].reason, letters[0].event.sequence),
        (1, "400 from the other side", 102)
    );
    journal.adapters(vec!["crm".into()]);
    journal.forget(letters[0].id);
    journal.submit(batch(vec![], vec![event(500)], 0)).unwrap();
    running.stop();
    assert_eq!(outbox.dead_letters(10).unwrap().len(), 0);
    let left = outbox.after(0, 100).unwrap();
    assert_eq!(
        left.iter().map(|s| s.place).collect::<Vec<_>>(),
        [21],
        "an adapter that is no more holds nothing back"
    );
}

#[test]
fn records_are_listed_filtered_paged_exported_and_retained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let (journal, running, _) =
        Journal::open(quiet(&path), |_: cordboard_store::journal::Committed<u64>| {}).unwrap();
    let facts = (1..=10).map(|n| Fact::Closed(Arc::new(record(n)))).collect();
    journal.submit(batch(facts, vec![], 0)).unwrap();
    journal.submit(batch(vec![Fact::Closed(Arc::new(record(10)))], vec![], 0)).unwrap();
    running.stop();
    let records = Records::open(&path).unwrap();
    assert_eq!(records.get(Id(3)).unwrap(), Some(record(3)));
    assert_eq!(records.get(Id(99)).unwrap(), None);
    assert_eq!(records.offers(Id(3)).unwrap()[0].result, "declined 603");
    let all = records.list(&Filter::default()).unwrap();
    assert_eq!(all.len(), 10, "a record heard twice is there once");
    assert_eq!(all[0].caller, "+3310");
    let of = |filter: Filter| records.list(&filter).unwrap().len();
    assert_eq!(of(Filter { agent: Some("alice".into()), ..Filter::default() }), 5);
    assert_eq!(of(Filter { since_ms: Some(8_500), until_ms: Some(9_500), ..Filter::default() }), 1);
    assert_eq!(
        of(Filter { caller: Some("+335".into()), workgroup: Some("support".into()), ..Filter::default() }),
        1
    );
    assert_eq!(of(Filter { cause: Some(17), ..Filter::default() }), 0);
    let page = records.list(&Filter { limit: 4, ..Filter::default() }).unwrap();
    let next =
        records.list(&Filter { limit: 4, before_row: Some(page[3].row), ..Filter::default() }).unwrap();
    assert_eq!(next[0].caller, "+336");
    let mut csv = Vec::new();
    assert_eq!(records.export_csv(&Filter::default(), &mut csv).unwrap(), 10);
    let csv = String::from_utf8(csv).unwrap();
    assert_eq!(csv.lines().count(), 11);
    assert!(csv.contains("\"normal, \"\"quoted\"\"\""), "{csv}");
    let mut json = Vec::new();
    records.export_json_lines(&Filter { limit: 2, ..Filter::default() }, &mut json).unwrap();
    let first: Record = serde_json::from_slice(json.split(|b| *b == b'\n').next().unwrap()).unwrap();
    assert_eq!(first, record(10));
    let (journal, running, _) = Journal::<u64>::open(quiet(&path), |_| {}).unwrap();
    journal.retain(5_000);
    running.stop();
    assert_eq!(of(Filter::default()), 6);
    assert!(records.offers(Id(3)).unwrap().is_empty());
}

#[test]
fn retention_goes_on_in_steps_until_nothing_old_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let (released, done) = mpsc::channel();
    let (journal, running, _) = Journal::open(quiet(&path), move |c| released.send(c.held).unwrap()).unwrap();
    let facts = (1..=12_000).map(|n| Fact::Closed(Arc::new(record(n)))).collect();
    journal.submit(batch(facts, vec![], 0)).unwrap();
    done.recv().unwrap();
    let before = journal.stats().commits.load(Relaxed);
    // The last one that goes ended at 11,990,500.
    journal.retain(11_991_000);
    let records = Records::open(&path).unwrap();
    let began = std::time::Instant::now();
    let left = || records.list(&Filter { limit: 20_000, ..Filter::default() }).unwrap().len();
    while left() > 10 {
        assert!(began.elapsed().as_secs() < 30, "{} are left", left());
        // Others' commits go between the steps.
        journal.submit(batch(vec![placed(1)], vec![], 7)).unwrap();
        assert_eq!(done.recv().unwrap(), 7);
    }
    assert!(journal.stats().commits.load(Relaxed) - before >= 20, "in short steps");
    assert!(running.stop());
    assert_eq!(left(), 10, "what is younger stays");
    assert!(records.offers(Id(11_990)).unwrap().is_empty());
    assert_eq!(records.offers(Id(11_991)).unwrap().len(), 1);
}

/// Makes every commit fail, or go through again.
fn ail(path: &std::path::Path, ill: bool) {
    let (from, to) = if ill { ("journal", "hidden") } else { ("hidden", "journal") };
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
}

#[test]
fn stopping_on_an_ill_disk_ends_and_nobody_is_told_what_was_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let (released, told) = mpsc::channel();
    let options = Options { stop_patience_ms: 300, max_pending: 4, ..quiet(&path) };
    let (journal, running, _) = Journal::open(options, move |c| released.send(c.held).unwrap()).unwrap();
    journal.submit(batch(vec![placed(1)], vec![], 1)).unwrap();
    assert_eq!(told.recv().unwrap(), 1);
    ail(&path, true);
    journal.submit(batch(vec![placed(2)], vec![], 2)).unwrap();
    while !journal.stats().failing.load(Relaxed) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // The queue is full as well, and somebody waits to submit.
    let waits = {
        let journal = journal.clone();
        std::thread::spawn(move || (3..9).all(|n| journal.submit(batch(vec![], vec![], n)).is_ok()))
    };
    while journal.pending() < 4 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let began = std::time::Instant::now();
    assert!(!running.stop(), "it says that not all is kept");
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    assert!(!waits.join().unwrap(), "whoever waited gets its batch back");
    assert!(told.recv().is_err(), "nothing was released that is not durable");
    ail(&path, false);
    let (_, running, after) = Journal::<u64>::open(quiet(&path), |_| {}).unwrap();
    assert_eq!(after.facts, [placed(1)]);
    running.stop();
}

#[test]
fn stopping_waits_for_a_disk_that_gets_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let (released, told) = mpsc::channel();
    let options = Options { stop_patience_ms: 20_000, ..quiet(&path) };
    let (journal, running, _) = Journal::open(options, move |c| released.send(c.held).unwrap()).unwrap();
    ail(&path, true);
    journal.submit(batch(vec![placed(1)], vec![], 1)).unwrap();
    while !journal.stats().failing.load(Relaxed) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let stopping = std::thread::spawn(move || running.stop());
    std::thread::sleep(std::time::Duration::from_millis(150));
    ail(&path, false);
    assert!(stopping.join().unwrap());
    assert_eq!(told.recv().unwrap(), 1);
    let (_, running, after) = Journal::<u64>::open(quiet(&path), |_| {}).unwrap();
    assert_eq!(after.facts, [placed(1)]);
    running.stop();
}

/// The other process of the test below; does nothing in an ordinary run.
#[test]
fn child_that_commits_until_it_is_killed() {
    let Ok(path) = std::env::var("CORDBOARD_STORE_CHILD") else { return };
    let (journal, _running, before) =
        Journal::open(Options::new(path), |c: cordboard_store::journal::Committed<u64>| {
            // Released: from here on others may know it.
            println!("released {}", c.held);
        })
        .unwrap();
    let first = before.facts.len() as u64;
    for n in first.. {
        journal.submit(batch(vec![placed(n)], vec![event(n)], n)).unwrap();
        if n % 64 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

#[test]
fn what_was_released_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    for life in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_commits_until_it_is_killed", "--nocapture"])
            .env("CORDBOARD_STORE_CHILD", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = None;
        let mut heard = 0;
        while let Some(Ok(line)) = lines.next() {
            if let Some(n) = line.strip_prefix("released ") {
                last = n.parse::<u64>().ok();
                heard += 1;
            }
            if heard == 100 + life * 37 {
                // SIGKILL, in the middle of a stream of commits.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let last = last.expect("something was released");
        let (_, running, recovered) = Journal::<u64>::open(quiet(&path), |_| {}).unwrap();
        running.stop();
        assert!(
            recovered.facts.len() as u64 > last,
            "life {life}: {last} was told and only {} facts are there",
            recovered.facts.len()
        );
        let expected: Vec<_> = (0..recovered.facts.len() as u64).map(placed).collect();
        assert_eq!(recovered.facts, expected, "no hole and no doubles");
        let events = Outbox::open(&path).unwrap().after(0, usize::MAX).unwrap();
        assert_eq!(events.len(), recovered.facts.len(), "an event stands or falls with its fact");
    }
}

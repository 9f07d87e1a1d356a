//! A script and its shard.

use std::time::{Duration, Instant};

use cordboard_base::Id;
use cordboard_call::messages::{Outcome, TicketState};
use cordboard_call::policy::Fault;
use cordboard_call::script::{Done, Failure, FromScript, Left, ScriptEnd, Sound, ToScript, Verb};
use cordboard_plugin::{Limits, World};

use crate::harness::{Host, eventually, limits};

fn misbehaving() -> Host {
    let host = Host::new();
    host.load("ivr", "misbehave_ivr", World::IvrScript);
    host
}

#[test]
fn a_script_says_its_verbs_one_after_the_other_and_ends_once() {
    let host = misbehaving();
    let line = host.call(1, "ivr", &[("misbehave", "well")]).answered();
    for _ in 0..3 {
        let (verb, what, _) = line.verb();
        assert!(
            matches!(&what, Verb::PlayMusic { sound: Sound::Clip { name, .. }, .. } if name == "music"),
            "{what:?}"
        );
        line.silent_for(Duration::from_millis(20));
        line.done(verb, Ok(Done::Played { by_digit: false }));
    }
    let (verb, ..) = line.verb();
    line.done(verb, Err(Failure::HungUp));
    line.tell(ToScript::HungUp);
    assert_eq!(line.ended(), ScriptEnd::Returned);
    line.silent_for(Duration::from_millis(20));
    assert_eq!(host.scripts.running(), 0);
    let stats = host.registry.stats("ivr").expect("counted");
    assert_eq!((stats.questions, stats.running), (1, 0));
}

#[test]
fn each_way_to_fail_has_its_name() {
    let host = misbehaving();
    for (at, mode) in
        ["trap", "stack", "loop", "memory", "flood", "spin-calls", "error", "return"].iter().enumerate()
    {
        let line = host.call(at as u64, "ivr", &[("misbehave", mode)]).answered();
        let how = line.ended();
        let right = match *mode {
            "trap" | "stack" | "flood" => matches!(how, ScriptEnd::Fault(Fault::Trap(_))),
            "spin-calls" => matches!(how, ScriptEnd::Fault(Fault::Trap(_) | Fault::Timeout)),
            "loop" => how == ScriptEnd::Fault(Fault::Timeout),
            "memory" => how == ScriptEnd::Fault(Fault::Memory),
            "error" => matches!(&how, ScriptEnd::Error(text) if text.contains("told to give up")),
            _ => how == ScriptEnd::Returned,
        };
        assert!(right, "{mode}: {how:?}");
    }
    let line = host.call(99, "nobody", &[]);
    assert_eq!(line.ended(), ScriptEnd::Fault(Fault::Missing));
    assert_eq!(host.scripts.running(), 0);
}

#[test]
fn a_neighbour_goes_on_beside_loops_and_memory_bombs() {
    let host = Host::with(Limits { script_cpu_ms: 60_000, ..limits() }, 64);
    host.load("ivr", "misbehave_ivr", World::IvrScript);
    let loops: Vec<_> =
        (10..14).map(|id| host.call(id, "ivr", &[("misbehave", "loop")]).answered()).collect();
    let bomb = host.call(20, "ivr", &[("misbehave", "memory")]).answered();
    let well = host.call(1, "ivr", &[("misbehave", "well")]).answered();
    std::thread::sleep(Duration::from_millis(50));
    let began = Instant::now();
    let mut waits = Vec::new();
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(1));
        let (verb, ..) = well.verb();
        let since = Instant::now();
        well.done(verb, Ok(Done::Played { by_digit: false }));
        // The next verb is the sign that it went on.
        let (verb, ..) = well.verb();
        waits.push(since.elapsed());
        well.done(verb, Ok(Done::Played { by_digit: false }));
    }
    waits.sort();
    let lasted = began.elapsed();
    println!("beside 4 loops: a verb's turn p50 {:?} p95 {:?} max {:?}", waits[100], waits[190], waits[199]);
    // Four loops on two threads with slices of 1 ms: a turn comes within some 3 ms of CPU.
    assert!(waits[100] < Duration::from_millis(50), "{:?}", waits[100]);
    assert_eq!(bomb.ended(), ScriptEnd::Fault(Fault::Memory));
    for line in loops {
        host.scripts.stop(line.id);
        assert_eq!(line.ended(), ScriptEnd::Abandoned);
    }
    let looped_ns = host.registry.stats("ivr").expect("counted").cpu_ns;
    println!("in {lasted:?} the loops used {} ms of CPU", looped_ns / 1_000_000);
    assert!(u128::from(looped_ns) > lasted.as_nanos() / 4, "they did loop: {looped_ns} ns in {lasted:?}");
}

#[test]
fn a_hang_up_wakes_the_script_even_without_a_completion() {
    let host = misbehaving();
    let line = host.call(1, "ivr", &[]).answered();
    line.verb();
    line.tell(ToScript::HungUp);
    assert_eq!(line.ended(), ScriptEnd::Returned);
}

#[test]
fn a_script_that_is_deaf_is_dropped_after_its_grace_time() {
    let host = misbehaving();
    let line = host.call(1, "ivr", &[("misbehave", "deaf")]).answered();
    line.verb();
    let since = Instant::now();
    line.tell(ToScript::HungUp);
    // `deaf` never stops calling, so either the grace time ends it or the limit of calls does.
    let how = line.ended();
    assert!(
        matches!(how, ScriptEnd::Abandoned | ScriptEnd::Fault(Fault::Trap(_) | Fault::Timeout)),
        "{how:?}"
    );
    assert!(since.elapsed() < Duration::from_secs(10));
    assert_eq!(host.scripts.running(), 0);
}

#[test]
fn nonsense_in_verbs_is_refused_and_the_script_goes_on() {
    let host = misbehaving();
    let line = host.call(1, "ivr", &[("misbehave", "nonsense")]).answered();
    // Whatever reaches the shard is in order; the rest has been refused. Then it plays music.
    loop {
        let (verb, what, attributes) = line.verb();
        assert!(attributes.len() <= 64, "{}", attributes.len());
        match what {
            Verb::PlayMusic { .. } => break,
            Verb::Record { path, .. } => panic!("a recording outside of its folder: {}", path.display()),
            Verb::Transfer { address, .. } => panic!("a transfer to `{address}`"),
            _ => line.done(verb, Err(Failure::Other("no".into()))),
        }
    }
    assert!(host.logged("nonsense:"), "it told how much was refused");
    line.tell(ToScript::HungUp);
    assert_eq!(line.ended(), ScriptEnd::Returned);
}

#[test]
fn running_scripts_end_on_their_version_and_new_ones_take_the_new_one() {
    let host = misbehaving();
    let old: Vec<_> = (0..20).map(|id| host.call(id, "ivr", &[]).answered()).collect();
    for line in &old {
        let (verb, ..) = line.verb();
        line.done(verb, Ok(Done::Played { by_digit: false }));
    }
    host.load_with("ivr", "ivr_support", World::IvrScript, &[("workgroup", "support")]).expect("swapped");
    let new = host.call(100, "ivr", &[]);
    for line in &old {
        let (verb, what, _) = line.verb();
        assert!(matches!(what, Verb::PlayMusic { .. }), "still the old one: {what:?}");
        line.done(verb, Err(Failure::HungUp));
        line.tell(ToScript::HungUp);
        assert_eq!(line.ended(), ScriptEnd::Returned);
    }
    let (_, what, _) = new.verb();
    assert!(!matches!(what, Verb::PlayMusic { .. }), "the new one begins otherwise: {what:?}");
    new.tell(ToScript::HungUp);
    assert!(matches!(new.ended(), ScriptEnd::Returned | ScriptEnd::Error(_)));
}

#[test]
fn a_script_queues_is_taken_and_hears_how_it_went() {
    let host = misbehaving();
    let line = host.call(1, "ivr", &[("misbehave", "served-return")]).answered();
    let (verb, what, _) = line.verb();
    assert!(matches!(&what, Verb::Enqueue { workgroup, .. } if workgroup == "support"), "{what:?}");
    let ticket = Id(7);
    line.done(verb, Ok(Done::Queued { ticket, direct: false, position: 3, wait_s: Some(60) }));
    let (verb, what, _) = line.verb();
    assert!(matches!(what, Verb::PlayMusic { .. }));
    line.tell(ToScript::Ticket { ticket, state: TicketState::Offered, position: 0, wait_s: None });
    line.silent_for(Duration::from_millis(20));
    line.tell(ToScript::Ticket { ticket, state: TicketState::Taken, position: 0, wait_s: None });
    line.done(verb, Err(Failure::Taken));
    let (verb, what, _) = line.verb();
    assert!(matches!(what, Verb::Outcome { ticket: asked } if asked == ticket), "{what:?}");
    let outcome = Outcome { end: "agent-left".into(), agent: "bea".into(), talked_ms: 5_000 };
    line.done(verb, Ok(Done::Outcome(outcome)));
    assert_eq!(line.ended(), ScriptEnd::Returned);
    assert!(host.logged("outcome agent-left"));
}

#[test]
fn a_completion_of_the_wrong_kind_is_a_failure_and_not_a_crash() {
    let host = misbehaving();
    let line = host.call(1, "ivr", &[]);
    let (verb, ..) = line.verb();
    line.done(verb + 1, Ok(Done::Ok));
    line.silent_for(Duration::from_millis(20));
    line.done(verb, Ok(Done::Left(Left::Left)));
    let how = line.ended();
    assert!(matches!(how, ScriptEnd::Error(_)), "{how:?}");
}

/// The shipped script from greeting to survey, with recorded prompts instead of a synthesiser.
#[test]
fn the_shipped_script_runs_a_whole_call() {
    let host = Host::new();
    host.load_with("ivr", "ivr_support", World::IvrScript, &[("workgroup", "support")]).expect("installed");
    let line = host.call(1, "ivr", &[]);
    let ticket = Id(9);
    let mut seen = Vec::new();
    let mut attributes = Vec::new();
    let mut music = 0;
    let how = loop {
        let (verb, what, set) = match line.next() {
            FromScript::Verb { verb, what, attributes } => (verb, what, attributes),
            FromScript::Ended { how, attributes: set } => {
                attributes.extend(set);
                break how;
            }
        };
        attributes.extend(set);
        let result = match what {
            Verb::Answer => Ok(Done::Ok),
            Verb::Play { .. } => Ok(Done::Played { by_digit: false }),
            Verb::Gather { .. } => {
                seen.push("gather");
                let digits = if seen.contains(&"outcome") { "5" } else { "2" };
                Ok(Done::Gathered { digits: digits.into(), end: cordboard_call::script::GatherEnd::Complete })
            }
            Verb::Enqueue { request, .. } => {
                seen.push("enqueue");
                assert_eq!(request.skills, ["fr"], "2 is French");
                Ok(Done::Queued { ticket, direct: false, position: 1, wait_s: None })
            }
            Verb::PlayMusic { .. } => {
                music += 1;
                if music < 4 { Ok(Done::Played { by_digit: false }) } else { Err(Failure::Taken) }
            }
            Verb::Outcome { .. } => {
                seen.push("outcome");
                Ok(Done::Outcome(Outcome { end: "agent-left".into(), agent: "bea".into(), talked_ms: 1 }))
            }
            Verb::HangUp { .. } => {
                line.tell(ToScript::HungUp);
                continue;
            }
            Verb::Wait { .. } => Ok(Done::Ok),
            other => panic!("{other:?}"),
        };
        line.done(verb, result);
    };
    assert_eq!(how, ScriptEnd::Returned);
    assert_eq!(seen, ["gather", "enqueue", "outcome", "gather"]);
    assert!(attributes.contains(&("survey.score".to_owned(), "5".to_owned())), "{attributes:?}");
}

#[test]
fn a_thousand_scripts_wait_at_once_and_each_is_woken() {
    let host = Host::with(limits(), 1_100);
    host.load("ivr", "misbehave_ivr", World::IvrScript);
    let before_kib = resident_kib();
    let lines: Vec<_> = (0..1_000).map(|id| host.call(id, "ivr", &[]).answered()).collect();
    let verbs: Vec<u32> = lines.iter().map(|line| line.verb().0).collect();
    eventually("all wait", || host.scripts.running() == 1_000);
    let per_script = (resident_kib() - before_kib) / 1_000;
    println!("1,000 suspended scripts: {per_script} KiB resident each");
    assert!(per_script < 200, "{per_script} KiB");
    for (line, verb) in lines.iter().zip(verbs) {
        line.done(verb, Err(Failure::HungUp));
        line.tell(ToScript::HungUp);
        assert_eq!(line.ended(), ScriptEnd::Returned);
    }
    assert_eq!(host.scripts.running(), 0);
}

/// One more than the limit is told so, and the others go on.
#[test]
fn a_script_too_many_is_not_started() {
    let host = Host::with(Limits { scripts: 2, ..limits() }, 16);
    host.load("ivr", "misbehave_ivr", World::IvrScript);
    let _first = host.call(1, "ivr", &[]).answered();
    let _second = host.call(2, "ivr", &[]).answered();
    assert_eq!(host.call(3, "ivr", &[]).ended(), ScriptEnd::Fault(Fault::Missing));
    assert_eq!(host.scripts.running(), 2);
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

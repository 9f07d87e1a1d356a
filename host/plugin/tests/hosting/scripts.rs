//! A script and its shard.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use cordboard_base::Id;
use cordboard_call::messages::{Outcome, TicketState};
use cordboard_call::policy::Fault;
use cordboard_call::script::{Done, Failure, FromScript, Left, ScriptEnd, ScriptId, Sound, ToScript, Verb};
use cordboard_plugin::{Limits, VerbSink, World};

use crate::harness::{Host, PATIENCE, eventually, info, limits};

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
        line.tell(ToScript::HungUp);
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
fn a_script_too_many_is_not_started_and_the_plugin_is_not_to_blame() {
    let host = Host::with(Limits { scripts: 2, quarantine_faults: 1, ..limits() }, 16);
    host.load("ivr", "misbehave_ivr", World::IvrScript);
    let first = host.call(1, "ivr", &[]).answered();
    let _second = host.call(2, "ivr", &[]).answered();
    for id in 3..6 {
        let how = host.call(id, "ivr", &[]).ended();
        assert!(
            matches!(&how, ScriptEnd::Fault(Fault::Full(text)) if text.contains("max_scripts")),
            "{how:?}"
        );
    }
    assert_eq!(host.scripts.running(), 2);
    assert_eq!(host.registry.stats("ivr").expect("counted").no_room, 3);
    let told = host.logs.lock().unwrap().iter().filter(|line| line.text.contains("max_scripts")).count();
    assert!((1..=2).contains(&told), "the log says it once a second, not once a call: {told}");
    first.verb();
    first.tell(ToScript::HungUp);
    assert_eq!(first.ended(), ScriptEnd::Returned);
    let _third = host.call(6, "ivr", &[]).answered();
    assert!(!host.registry.list()[0].quarantined);
}

#[test]
fn a_second_script_of_a_number_ends_and_the_first_goes_on() {
    let host = misbehaving();
    let line = host.call(1, "ivr", &[]).answered();
    let (verb, ..) = line.verb();
    assert!(matches!(host.call(1, "ivr", &[]).ended(), ScriptEnd::Fault(Fault::Full(_))));
    line.done(verb, Ok(Done::Played { by_digit: false }));
    line.verb();
    assert_eq!(host.scripts.running(), 1);
}

/// The caller's thread may be the one that empties the queue behind the sink: it must not wait for itself.
#[test]
fn an_end_at_once_is_told_on_another_thread() {
    let host = Host::with(Limits { scripts: 0, ..limits() }, 16);
    host.load("ivr", "misbehave_ivr", World::IvrScript);
    for plugin in ["ivr", "nobody"] {
        let (tell, told) = mpsc::channel();
        let sink: Arc<dyn VerbSink> = Arc::new(move |id: ScriptId, message: FromScript| {
            drop(tell.send((id, message, std::thread::current().id())));
        });
        host.scripts.start(ScriptId(9), &plugin.into(), info(&[]), sink);
        let (id, message, thread) = told.recv_timeout(PATIENCE).expect("it ends");
        assert!(matches!(message, FromScript::Ended { how: ScriptEnd::Fault(_), .. }), "{message:?}");
        assert_eq!(id, ScriptId(9));
        assert_ne!(thread, std::thread::current().id());
    }
}

#[test]
fn a_full_pool_is_named_and_not_held_against_the_plugins() {
    let host = Host::with(Limits { quarantine_faults: 1, route_ms: 5_000, ..limits() }, 4);
    host.load("ivr", "misbehave_ivr", World::IvrScript);
    host.load("router", "misbehave_router", World::CallRouter);
    let mut waiting = Vec::new();
    let mut refused = 0;
    for id in 0..8 {
        let line = host.call(id, "ivr", &[]);
        match line.next() {
            FromScript::Verb { .. } => waiting.push(line),
            FromScript::Ended { how: ScriptEnd::Fault(Fault::Full(_)), .. } => refused += 1,
            FromScript::Ended { how, .. } => panic!("{how:?}"),
        }
    }
    assert_eq!((waiting.len(), refused), (4, 4));
    let answer = crate::registry::route(&host);
    assert!(matches!(answer, Err(Fault::Full(_))), "{answer:?}");
    assert!(host.logged("raise the pool"));
    for line in waiting {
        line.tell(ToScript::HungUp);
        line.ended();
    }
    assert!(crate::registry::route(&host).is_ok(), "there is room again");
    let _line = host.call(9, "ivr", &[]).answered();
    assert!(host.registry.list().iter().all(|plugin| !plugin.quarantined));
    let stats = host.registry.stats("ivr").expect("counted");
    assert_eq!((stats.no_room, stats.traps), (4, 0));
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

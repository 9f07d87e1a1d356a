//! Figures of the plugin host, printed: what a script, a question and a waiting script cost. No
//! verdicts. `cargo run --release -p cordboard-plugin --example figures -- PLUGINS_DIR [WORKERS]`

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use cordboard_base::Id;
use cordboard_call::Name;
use cordboard_call::messages::Outcome;
use cordboard_call::policy::{Candidates, Entry, Policies};
use cordboard_call::router::Incoming;
use cordboard_call::script::{CallInfo, Done, Failure, FromScript, GatherEnd, ScriptId, ToScript, Verb};
use cordboard_media::clip::Clip;
use cordboard_plugin::{
    Engine, EngineConfig, Fetch, Grants, Hours, Install, LocalTime, Prompts, Registry, Routers, Scripts,
    VerbSink, WasmPolicies, World,
};

struct Library(Arc<Clip>);

impl Prompts for Library {
    fn clip(&self, _: &Name, _: &str) -> Fetch {
        Fetch::Now(Ok(self.0.clone()))
    }

    fn speech(&self, _: &Name, _: &str, _: &str) -> Fetch {
        Fetch::Now(Ok(self.0.clone()))
    }
}

struct Noon;

impl Hours for Noon {
    fn now(&self, _: &Name) -> LocalTime {
        LocalTime { year: 2026, month: 11, day: 23, hour: 12, weekday: 1, ..LocalTime::default() }
    }

    fn open(&self, _: &Name, _: &str) -> Option<bool> {
        Some(true)
    }
}

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("the folder of the components"));
    let mut config = EngineConfig::new(Arc::new(|_| ()));
    if let Some(workers) = std::env::args().nth(2) {
        config.workers = workers.parse().expect("a number of workers");
    }
    let engine = Engine::new(config).expect("an engine");
    println!("{}", engine.sizing());
    let registry = Registry::new(engine, |_| ());
    let load = |name: &str, component: &str, world, settings: &[(&str, &str)]| {
        load(&registry, &folder, name, component, world, settings)
    };
    load("small", "misbehave_ivr", World::IvrScript, &[("mode", "return")]);
    load("wait", "misbehave_ivr", World::IvrScript, &[]);
    load("ivr", "ivr_support", World::IvrScript, &[("workgroup", "support")]);
    load("router", "misbehave_router", World::CallRouter, &[]);
    load("policy", "policy_longest_idle", World::QueuePolicy, &[]);
    let library = Library(Arc::new(Clip::from_samples(&[0; 160])));
    let scripts = Scripts::new(registry.clone(), Arc::new(library), Arc::new(Noon), "/nonexistent".into());

    whole(&scripts, "small", 20_000, "answer and return, answered on the guest's thread");
    whole(&scripts, "ivr", 10_000, "ivr-support from greeting to survey, answered on the guest's thread");
    across(&scripts, "ivr", 10_000);
    routers(&registry);
    policies(&registry);
    waiting(&scripts);
    for listed in registry.list() {
        let stats = listed.stats;
        println!(
            "{}: {} questions, {} us of CPU each by the meter",
            listed.name,
            stats.questions,
            stats.cpu_ns / 1_000 / stats.questions.max(1)
        );
    }
}

fn load(
    registry: &Registry,
    folder: &Path,
    name: &str,
    component: &str,
    world: World,
    settings: &[(&str, &str)],
) {
    // Cargo writes underscores; whoever gathers plugins may keep their own names.
    let bytes = std::fs::read(folder.join(format!("{component}.wasm")))
        .or_else(|_| std::fs::read(folder.join(format!("{}.wasm", component.replace('_', "-")))))
        .expect("a component");
    let since = Instant::now();
    registry
        .install(&Install {
            name,
            world: Some(world),
            bytes: &bytes,
            manifest: None,
            settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            grant: Grants::default(),
        })
        .expect("installed");
    println!("{component}: {} KB, in service after {:?}", bytes.len() / 1_000, since.elapsed());
}

/// What a call centre with a ready agent would answer.
fn answer(what: &Verb, gathered: &mut u32, music: &mut u32) -> Option<Result<Done, Failure>> {
    Some(match what {
        Verb::Answer | Verb::Wait { .. } => Ok(Done::Ok),
        Verb::Play { .. } => Ok(Done::Played { by_digit: false }),
        Verb::Gather { .. } => {
            *gathered += 1;
            Ok(Done::Gathered { digits: "1".into(), end: GatherEnd::Complete })
        }
        Verb::Enqueue { .. } => Ok(Done::Queued { ticket: Id(1), direct: false, position: 1, wait_s: None }),
        Verb::PlayMusic { .. } => {
            *music += 1;
            if *music < 3 { Ok(Done::Played { by_digit: false }) } else { Err(Failure::Taken) }
        }
        Verb::Outcome { .. } => {
            Ok(Done::Outcome(Outcome { end: "agent-left".into(), agent: "a".into(), talked_ms: 1 }))
        }
        Verb::HangUp { .. } => return None,
        _ => Err(Failure::HungUp),
    })
}

fn info() -> CallInfo {
    CallInfo {
        interaction: Id(42),
        tenant: "demo".into(),
        trunk: "trunk".into(),
        caller: "+4930123".into(),
        caller_name: String::new(),
        called: "+49301000".into(),
        attributes: Vec::new(),
    }
}

/// Scripts one after the other, whose verbs are completed where they are asked.
fn whole(scripts: &Scripts, plugin: &str, count: u64, what: &str) {
    let (ended, end) = mpsc::sync_channel::<()>(64);
    let verbs = Arc::new(AtomicU64::new(0));
    let slot: Arc<OnceLock<Scripts>> = Arc::default();
    let _ = slot.set(scripts.clone());
    let before = cpu();
    let since = Instant::now();
    let mut running = 0;
    for id in 0..count {
        let (scripts, ended, verbs) = (scripts.clone(), ended.clone(), verbs.clone());
        let state = std::sync::Mutex::new((0, 0));
        let sink: Arc<dyn VerbSink> = Arc::new(move |id: ScriptId, message: FromScript| match message {
            FromScript::Verb { verb, what, .. } => {
                verbs.fetch_add(1, Relaxed);
                let mut state = state.lock().expect("one at a time");
                let (gathered, music) = &mut *state;
                match answer(&what, gathered, music) {
                    Some(result) => scripts.tell(id, ToScript::Done { verb, result }),
                    None => scripts.tell(id, ToScript::HungUp),
                }
            }
            FromScript::Ended { .. } => drop(ended.send(())),
        });
        scripts_start(&slot, id, plugin, sink);
        running += 1;
        if running >= 64 {
            end.recv().expect("an end");
            running -= 1;
        }
    }
    for _ in 0..running {
        end.recv().expect("an end");
    }
    report(what, count, verbs.load(Relaxed), before, since);
}

fn scripts_start(scripts: &OnceLock<Scripts>, id: u64, plugin: &str, sink: Arc<dyn VerbSink>) {
    scripts.get().expect("set").start(ScriptId(id), &plugin.into(), info(), sink);
}

/// The same with a thread as the shard: every verb crosses threads twice.
fn across(scripts: &Scripts, plugin: &str, count: u64) {
    let (to_shard, from_scripts) = mpsc::channel();
    let sink: Arc<dyn VerbSink> =
        Arc::new(move |id: ScriptId, message: FromScript| drop(to_shard.send((id, message))));
    let before = cpu();
    let since = Instant::now();
    let mut verbs = 0;
    let mut started = 0;
    let mut ended = 0;
    let mut state = vec![(0, 0); count as usize];
    while ended < count {
        while started < count && started - ended < 64 {
            scripts.start(ScriptId(started), &plugin.into(), info(), sink.clone());
            started += 1;
        }
        let (id, message) = from_scripts.recv().expect("a message");
        match message {
            FromScript::Verb { verb, what, .. } => {
                verbs += 1;
                let (gathered, music) = &mut state[id.0 as usize];
                match answer(&what, gathered, music) {
                    Some(result) => scripts.tell(id, ToScript::Done { verb, result }),
                    None => scripts.tell(id, ToScript::HungUp),
                }
            }
            FromScript::Ended { .. } => ended += 1,
        }
    }
    report("ivr-support, its shard on another thread", count, verbs, before, since);
}

fn routers(registry: &Registry) {
    let routers = Routers::new(registry.clone());
    let incoming = Incoming {
        tenant: "demo".into(),
        trunk: "trunk".into(),
        caller: "+4930123".into(),
        caller_name: String::new(),
        called: "+49301000".into(),
        headers: Vec::new(),
        attributes: Vec::new(),
    };
    let (tell, told) = mpsc::channel();
    let before = cpu();
    let since = Instant::now();
    for _ in 0..20_000 {
        let tell = tell.clone();
        routers.ask("router".into(), Box::new(incoming.clone()), LocalTime::default(), move |answer| {
            drop(tell.send(answer))
        });
        told.recv().expect("an answer").expect("a route");
    }
    report("a router's question, one after the other from another thread", 20_000, 0, before, since);
}

fn policies(registry: &Registry) {
    let mut policies = WasmPolicies::new(registry.clone());
    let (tenant, group, plugin): (Name, Name, Name) = ("demo".into(), "support".into(), "policy".into());
    let entry = Entry { arrived_ms: 1, now_ms: 2, priority: 0, skills: vec![1], misses: 0 };
    for agents in [3_u64, 100] {
        let column: Vec<u64> = (0..agents).collect();
        let candidates = Candidates {
            agents: (0..agents as u32).collect(),
            idle_ms: column.clone(),
            calls: column.clone(),
            busy_ms: column.clone(),
            skill_level: column.clone(),
            skill_count: column.clone(),
            preferred: vec![0; agents as usize],
        };
        let before = cpu();
        let since = Instant::now();
        for _ in 0..20_000 {
            policies.rank(&tenant, &group, &plugin, &entry, &candidates).expect("an order");
        }
        report(&format!("a policy ranks {agents} agents"), 20_000, 0, before, since);
    }
}

/// As many scripts as the pool holds, all of them waiting.
fn waiting(scripts: &Scripts) {
    let count = 9_000;
    let (to_shard, from_scripts) = mpsc::channel();
    let sink: Arc<dyn VerbSink> =
        Arc::new(move |id: ScriptId, message: FromScript| drop(to_shard.send((id, message))));
    let before_kib = resident_kib();
    let mut refused = 0;
    for id in 0..count {
        scripts.start(ScriptId(id), &"wait".into(), info(), sink.clone());
    }
    let mut waiting = 0;
    while waiting + refused < count {
        match from_scripts.recv().expect("a message") {
            (id, FromScript::Verb { verb, what: Verb::Answer, .. }) => {
                scripts.tell(id, ToScript::Done { verb, result: Ok(Done::Ok) });
            }
            (_, FromScript::Verb { .. }) => waiting += 1,
            (_, FromScript::Ended { .. }) => refused += 1,
        }
    }
    let each = (resident_kib() - before_kib) / waiting.max(1) as i64;
    println!("{waiting} scripts wait at once ({refused} refused): {each} KiB resident each");
    let before = cpu();
    std::thread::sleep(Duration::from_secs(1));
    println!("and a second of waiting costs {:?} of CPU", cpu() - before);
    for id in 0..count {
        scripts.tell(ScriptId(id), ToScript::HungUp);
    }
    while scripts.running() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn report(what: &str, count: u64, verbs: u64, before: Duration, since: Instant) {
    let cpu_us = (cpu() - before).as_secs_f64() * 1e6 / count as f64;
    let wall_us = since.elapsed().as_secs_f64() * 1e6 / count as f64;
    println!(
        "{what}: {cpu_us:.2} us of CPU, {wall_us:.2} us of time each ({:.1} verbs)",
        verbs as f64 / count as f64
    );
}

/// CPU of the whole process, by its own account.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
    Duration::from_millis(ticks * 10)
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

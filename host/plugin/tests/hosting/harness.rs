//! A host with small limits, and a shard of strings and channels.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cordboard_base::Id;
use cordboard_call::Name;
use cordboard_call::script::{CallInfo, Done, Failure, FromScript, ScriptEnd, ScriptId, ToScript, Verb};
use cordboard_media::clip::Clip;
use cordboard_plugin::{
    Engine, EngineConfig, Fetch, Grants, Hours, Install, Limits, LocalTime, LogLine, PluginEvent, Prompts,
    Refused, Registry, Scripts, VerbSink, Version, World,
};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A host under test.
pub(crate) struct Host {
    pub(crate) registry: Registry,
    pub(crate) scripts: Scripts,
    pub(crate) logs: Arc<Mutex<Vec<LogLine>>>,
    pub(crate) events: Arc<Mutex<Vec<PluginEvent>>>,
}

/// Limits for tests: no quarantine unless a test asks for it.
pub(crate) fn limits() -> Limits {
    Limits { quarantine_faults: 1_000_000, script_cpu_ms: 300, grace_ms: 300, ..Limits::default() }
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::with(limits(), 64)
    }

    pub(crate) fn with(limits: Limits, instances: u32) -> Self {
        let logs = Arc::new(Mutex::new(Vec::new()));
        let events = Arc::new(Mutex::new(Vec::new()));
        let config = EngineConfig {
            limits,
            instances,
            heavy_instances: 2,
            workers: 2,
            cache: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("code")),
            logs: Arc::new({
                let logs = logs.clone();
                move |line| logs.lock().unwrap().push(line)
            }),
        };
        let engine = Engine::new(config).expect("an engine");
        let registry = Registry::new(engine, {
            let events = events.clone();
            move |event| events.lock().unwrap().push(event)
        });
        let recordings = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("recordings");
        let scripts = Scripts::new(registry.clone(), Arc::new(Library), Arc::new(Noon), recordings);
        Self { registry, scripts, logs, events }
    }

    /// Installs a component of the plugins' folder.
    pub(crate) fn load(&self, name: &str, component: &str, world: World) -> Arc<Version> {
        self.load_with(name, component, world, &[]).expect("it is installed")
    }

    pub(crate) fn load_with(
        &self,
        name: &str,
        component: &str,
        world: World,
        settings: &[(&str, &str)],
    ) -> Result<Arc<Version>, Refused> {
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.registry.install(&Install {
            name,
            world: Some(world),
            bytes: &component_bytes(component),
            manifest: None,
            settings,
            grant: Grants::default(),
        })
    }

    pub(crate) fn logged(&self, text: &str) -> bool {
        self.logs.lock().unwrap().iter().any(|line| line.text.contains(text))
    }

    /// Starts a script whose shard is the returned line.
    pub(crate) fn call(&self, id: u64, plugin: &str, attributes: &[(&str, &str)]) -> Line {
        let (sink, from_script) = mpsc::channel();
        let sink = Mutex::new(sink);
        let sink: Arc<dyn VerbSink> = Arc::new(move |_: ScriptId, message: FromScript| {
            let _ = sink.lock().unwrap().send(message);
        });
        let id = ScriptId(id);
        self.scripts.start(id, &plugin.into(), info(attributes), sink);
        Line { id, scripts: self.scripts.clone(), from_script }
    }
}

pub(crate) fn info(attributes: &[(&str, &str)]) -> CallInfo {
    CallInfo {
        interaction: Id(42),
        tenant: "demo".into(),
        trunk: "trunk".into(),
        caller: "+4930123".into(),
        caller_name: "Ada".into(),
        called: "+49301000".into(),
        attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

/// Where a component is.
pub(crate) fn component_bytes(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("CORDBOARD_PLUGINS_DIR").map_or_else(
        || {
            let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
                || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
                PathBuf::from,
            );
            target.join("wasm32-wasip2/release")
        },
        PathBuf::from,
    );
    // Cargo writes underscores; whoever gathers plugins may keep their own names.
    let mut path = folder.join(format!("{name}.wasm"));
    if !path.exists() {
        path = folder.join(format!("{}.wasm", name.replace('_', "-")));
    }
    std::fs::read(&path).unwrap_or_else(|e| {
        panic!(
            "{}: {e}. Build the components (`cargo xtask plugins`), or set CORDBOARD_PLUGINS_DIR to their folder",
            path.display()
        )
    })
}

/// The shard's side of one script.
pub(crate) struct Line {
    pub(crate) id: ScriptId,
    scripts: Scripts,
    from_script: Receiver<FromScript>,
}

impl Line {
    pub(crate) fn next(&self) -> FromScript {
        self.from_script.recv_timeout(PATIENCE).expect("the script says something")
    }

    /// The next verb, its number and the attributes that came with it.
    pub(crate) fn verb(&self) -> (u32, Verb, Vec<(String, String)>) {
        match self.next() {
            FromScript::Verb { verb, attributes, what } => (verb, what, attributes),
            FromScript::Ended { how, .. } => panic!("a verb was expected, the script ended: {how:?}"),
        }
    }

    pub(crate) fn done(&self, verb: u32, result: Result<Done, Failure>) {
        self.tell(ToScript::Done { verb, result });
    }

    pub(crate) fn tell(&self, message: ToScript) {
        self.scripts.tell(self.id, message);
    }

    /// Answers the `answer` verb that every test script begins with.
    pub(crate) fn answered(self) -> Self {
        let (verb, what, _) = self.verb();
        assert!(matches!(what, Verb::Answer), "{what:?}");
        self.done(verb, Ok(Done::Ok));
        self
    }

    /// The end, whatever verbs come before it; each is left unanswered.
    pub(crate) fn ended(&self) -> ScriptEnd {
        loop {
            if let FromScript::Ended { how, .. } = self.next() {
                return how;
            }
        }
    }

    pub(crate) fn silent_for(&self, time: Duration) {
        match self.from_script.recv_timeout(time) {
            // Disconnected: the script is gone, and stays silent.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            Ok(message) => panic!("silence was expected, got {message:?}"),
        }
    }
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// All prompts exist but `missing…`; there is no synthesiser, except for `slow…`, which takes for ever.
struct Library;

impl Prompts for Library {
    fn clip(&self, _: &Name, name: &str) -> Fetch {
        if name.starts_with("missing") || name.contains('/') || name.len() > 64 {
            return Fetch::Now(Err(format!("no prompt `{name}`")));
        }
        Fetch::Now(Ok(Arc::new(Clip::from_samples(&[0; 160]))))
    }

    fn speech(&self, _: &Name, text: &str, _: &str) -> Fetch {
        if text.starts_with("slow") {
            return Fetch::Later(Box::pin(std::future::pending()));
        }
        Fetch::Now(Err("no synthesiser".into()))
    }
}

/// Monday noon; `office` is open.
struct Noon;

impl Hours for Noon {
    fn now(&self, _: &Name) -> LocalTime {
        noon()
    }

    fn open(&self, _: &Name, hours: &str) -> Option<bool> {
        (hours == "office").then_some(true)
    }
}

pub(crate) fn noon() -> LocalTime {
    LocalTime {
        year: 2026,
        month: 11,
        day: 23,
        hour: 12,
        minute: 0,
        second: 0,
        weekday: 1,
        utc_offset_minutes: 60,
    }
}

pub(crate) fn settings(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Runs a future on a small runtime of the test's own.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(future)
}

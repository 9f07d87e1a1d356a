//! One question, one fresh instance, 50 ms.

use std::time::Instant;

use cordboard_call::policy::Fault;
use cordboard_call::router::{Incoming, Route};
use cordboard_plugin::{Limits, Routers, World};

use crate::harness::{Host, limits, noon, wait};

fn incoming(mode: &str) -> Incoming {
    Incoming {
        tenant: "demo".into(),
        trunk: "trunk".into(),
        caller: "+4930123".into(),
        caller_name: String::new(),
        called: format!("misbehave-{mode}"),
        headers: vec![("X-A".into(), "b".into())],
        attributes: Vec::new(),
    }
}

fn router(limits: Limits) -> (Host, Routers) {
    let host = Host::with(limits, 16);
    host.load_with("router", "misbehave_router", World::CallRouter, &[("script", "ivr")]).expect("installed");
    let routers = Routers::new(host.registry.clone());
    (host, routers)
}

#[test]
fn a_router_answers() {
    let (host, routers) = router(limits());
    let route = wait(routers.ask_route(&"router".into(), &incoming("well"), noon()));
    assert_eq!(route, Ok(Route::Script { script: "ivr".into(), attributes: Vec::new() }));
    let stats = host.registry.stats("router").expect("counted");
    assert_eq!((stats.questions, stats.traps), (1, 0));
    assert!(stats.cpu_ns > 0 && stats.memory_peak_bytes > 0, "{stats:?}");
}

#[test]
fn each_way_to_fail_has_its_name() {
    // Time enough for the machine, so that only the loop misses the deadline.
    let (host, routers) = router(Limits { route_ms: 2_000, ..limits() });
    let ask = |mode: &str| wait(routers.ask_route(&"router".into(), &incoming(mode), noon()));
    assert!(matches!(ask("trap"), Err(Fault::Trap(_))), "{:?}", ask("trap"));
    assert!(host.logged("told to trap"), "the panic's text is in the log");
    assert!(matches!(ask("stack"), Err(Fault::Trap(_))), "{:?}", ask("stack"));
    assert_eq!(ask("memory"), Err(Fault::Memory));
    assert!(matches!(ask("flood"), Err(Fault::Trap(text)) if text.contains("calls into the host")));
    assert!(matches!(ask("other"), Err(Fault::Nonsense(_))));
    assert!(matches!(ask("huge"), Err(Fault::Nonsense(_))));
    assert_eq!(ask("error"), Err(Fault::Error("told to know no route".into())));
    let missing = wait(routers.ask_route(&"nobody".into(), &incoming("well"), noon()));
    assert_eq!(missing, Err(Fault::Missing));
    assert!(ask("well").is_ok(), "and none of it hurt the next question");
    let stats = host.registry.stats("router").expect("counted");
    assert!(stats.traps >= 6 && stats.memory >= 2 && stats.nonsense >= 2 && stats.errors >= 1, "{stats:?}");
    assert!(stats.log_lines_dropped > 0, "the flood was cut off");
}

#[test]
fn a_router_that_loops_misses_its_deadline() {
    let (_host, routers) = router(limits());
    let since = Instant::now();
    let answer = wait(routers.ask_route(&"router".into(), &incoming("loop"), noon()));
    assert_eq!(answer, Err(Fault::Timeout));
    let lasted_ms = since.elapsed().as_millis();
    assert!(lasted_ms >= 45, "{lasted_ms} ms");
    println!("a looping router was given up after {lasted_ms} ms");
}

#[test]
fn the_shipped_router_routes_by_number() {
    let host = Host::new();
    let rules = "+49301000 -> workgroup support skills=fr priority=5\n* -> script ivr-support\n";
    let bytes = crate::harness::component_bytes("router_numbers");
    let manifest =
        cordboard_plugin::Manifest::parse(include_str!("../../../../plugins/router-numbers/plugin.toml"));
    let manifest = manifest.expect("its manifest is good");
    let key = manifest.settings.keys().find(|key| key.contains("rule") || key.contains("table"));
    let key = key.expect("a setting for the rules").clone();
    host.registry
        .install(&cordboard_plugin::Install {
            name: "numbers",
            world: Some(World::CallRouter),
            bytes: &bytes,
            manifest: Some(manifest),
            settings: crate::harness::settings(&[(key.as_str(), rules)]),
            grant: Default::default(),
        })
        .expect("installed");
    let routers = Routers::new(host.registry.clone());
    let call = Incoming { called: "+49301000".into(), ..incoming("") };
    let route = wait(routers.ask_route(&"numbers".into(), &call, noon()));
    assert!(
        matches!(&route, Ok(Route::Workgroup { workgroup, skills, priority: 5, .. }) if workgroup == "support" && skills == &["fr"]),
        "{route:?}"
    );
}

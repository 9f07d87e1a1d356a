//! What may not come in, and whether the reason can be understood.

use cordboard_plugin::{Limits, Problem, Vetter, World};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

use crate::harness::{Host, component_bytes};

fn vetter() -> Vetter {
    Vetter::new(&Limits::default()).expect("the contract parses")
}

/// A component of this WIT whose functions all trap.
fn dummy(wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    if wit.contains("wasi:sockets") {
        resolve
            .push_source("sockets", "package wasi:sockets@0.2.0; interface tcp { connect: func(); }")
            .expect("sockets");
    }
    let package = resolve.push_source("test", wit).expect("the WIT parses");
    let world = resolve.select_world(&[package], Some(world)).expect("the world is there");
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("metadata");
    ComponentEncoder::default()
        .module(&module)
        .expect("a module")
        .validate(true)
        .encode()
        .expect("a component")
}

fn problems(bytes: &[u8], world: World) -> Vec<Problem> {
    vetter().check(bytes, Some(world)).expect_err("it is refused")
}

fn text(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_components_are_what_they_say() {
    for (name, world) in [
        ("ivr_support", World::IvrScript),
        ("router_numbers", World::CallRouter),
        ("policy_longest_idle", World::QueuePolicy),
        ("policy_skills", World::QueuePolicy),
        ("redirect_spare", World::RedirectPolicy),
        ("cti_webhook", World::CtiAdapter),
    ] {
        let vetted = vetter().check(&component_bytes(name), None).expect("it is good");
        assert_eq!(vetted.world, world, "{name}");
    }
}

#[test]
fn a_component_of_another_world_is_refused_with_what_is_missing() {
    let found = problems(&component_bytes("misbehave_cti"), World::IvrScript);
    let text = text(&found);
    assert!(text.contains("it is a cti-adapter@0.1.0, and a ivr-script@0.1.0 is wanted here"), "{text}");
    assert!(text.contains("it does not export `run: func(call: call) -> result<_, string>`"), "{text}");
}

#[test]
fn a_router_is_refused_as_a_policy_by_the_registry_too() {
    let host = Host::new();
    host.load("policy", "policy_longest_idle", World::QueuePolicy);
    let before = host.registry.active("policy").expect("in service").digest();
    let refused =
        host.load_with("policy", "router_numbers", World::QueuePolicy, &[]).expect_err("another world");
    let text = refused.to_string();
    assert!(text.contains("call-router") && text.contains("place: func"), "{text}");
    assert_eq!(host.registry.active("policy").expect("still in service").digest(), before);
}

#[test]
fn bytes_that_are_no_component_are_named() {
    let core = [0, b'a', b's', b'm', 1, 0, 0, 0];
    assert!(text(&problems(&core, World::IvrScript)).contains("wasm32-wasip2"));
    assert!(text(&problems(b"#!/bin/sh", World::IvrScript)).contains("it begins with \"#!/bin/s\""));
    assert!(text(&problems(b"", World::IvrScript)).contains("not WebAssembly"));
    let mut cut = component_bytes("router_numbers");
    cut.truncate(cut.len() / 2);
    assert!(text(&problems(&cut, World::CallRouter)).contains("not a valid component"));
    let limits = Limits { component_bytes: 100, ..Limits::default() };
    let large = Vetter::new(&limits).expect("parses").check(&component_bytes("router_numbers"), None);
    assert!(text(&large.expect_err("too large")).contains("component_bytes"));
}

#[test]
fn random_bytes_never_panic() {
    let good = component_bytes("policy_longest_idle");
    let vetter = vetter();
    let mut random = cordboard_base::Random::seeded(7);
    for _ in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(8) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next_u32() as u8;
        }
        let _ = vetter.check(&bytes, Some(World::QueuePolicy));
    }
}

#[test]
fn a_changed_contract_is_named_where_it_changed() {
    let wit = World::CallRouter.wit();
    let found =
        text(&problems(&dummy(&wit.replace("caller-name: string,", ""), "call-router"), World::CallRouter));
    assert!(found.contains("export `route`") && found.contains("lacks the field `caller-name`"), "{found}");
    let more = wit.replace("refuse(refusal),", "refuse(refusal),\n    park(string),");
    let found = text(&problems(&dummy(&more, "call-router"), World::CallRouter));
    assert!(found.contains("the variant `route` has a case `park` too many"), "{found}");
    let other = wit.replace("status: u16,", "status: u32,");
    let found = text(&problems(&dummy(&other, "call-router"), World::CallRouter));
    assert!(found.contains("in the field `status`, `u16` is wanted, it has `u32`"), "{found}");
    let lacking = wit.replace("  export describe: func() -> description;\n", "");
    let found = text(&problems(&dummy(&lacking, "call-router"), World::CallRouter));
    assert!(found.contains("does not export `describe: func() -> description`"), "{found}");
}

#[test]
fn what_the_host_does_not_offer_is_named() {
    let wit = World::CallRouter.wit();
    let newer = wit.replace("setting: func(key: string)", "teleport: func();\n  setting: func(key: string)");
    let found = text(&problems(&dummy(&newer, "call-router"), World::CallRouter));
    assert!(found.contains("cordboard:router/host@0.1.0 teleport") && found.contains("newer"), "{found}");
    let version = wit.replace("cordboard:router@0.1.0", "cordboard:router@0.2.0");
    let found = text(&problems(&dummy(&version, "call-router"), World::CallRouter));
    assert!(found.contains("it was built for version 0.2.0, and this host serves 0.1.0"), "{found}");
    let sockets = wit.replace("import host;", "import host;\n  import wasi:sockets/tcp@0.2.0;");
    let found = text(&problems(&dummy(&sockets, "call-router"), World::CallRouter));
    assert!(found.contains("no plugin gets: sockets would pass by the grants"), "{found}");
}

#[test]
fn a_component_that_cannot_describe_itself_is_refused() {
    let host = Host::new();
    let refused = host.registry.install(&cordboard_plugin::Install {
        name: "dummy",
        world: None,
        bytes: &dummy(World::QueuePolicy.wit(), "queue-policy"),
        manifest: None,
        settings: Default::default(),
        grant: Default::default(),
    });
    let text = refused.expect_err("its `describe` traps").to_string();
    assert!(text.contains("`describe` failed: the plugin trapped"), "{text}");
    assert!(host.registry.active("dummy").is_none());
}

#[test]
fn a_description_that_loops_or_eats_memory_is_refused_in_every_world() {
    let host = Host::with(cordboard_plugin::Limits { describe_ms: 1_000, ..crate::harness::limits() }, 16);
    for (component, world) in [
        ("misbehave_ivr", World::IvrScript),
        ("misbehave_router", World::CallRouter),
        ("misbehave_policy", World::QueuePolicy),
        ("misbehave_redirect", World::RedirectPolicy),
        ("misbehave_cti", World::CtiAdapter),
    ] {
        for (mode, why) in [("describe-loop", "did not answer"), ("describe-memory", "memory")] {
            let refused = host.load_with(component, component, world, &[("mode", mode)]);
            let text = refused.expect_err("it is refused").to_string();
            assert!(text.contains(why), "{component} {mode}: {text}");
        }
    }
}

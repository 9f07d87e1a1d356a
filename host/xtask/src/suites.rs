//! The suites of `cargo xtask test`, in the order of their cost.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::cargo::{Run, cargo, release_binary, root};
use crate::{direction, needs, plugins};

/// Crates that build in seconds: tested with debug assertions on.
const PURE: &[&str] =
    &["cordboard-base", "cordboard-sip", "cordboard-media", "cordboard-call", "cordboard-net", "xtask"];
/// Crates on top of wasmtime and SQLite: tested as they ship, so that they are compiled once.
const HEAVY: &[&str] = &["cordboard-bus", "cordboard-store", "cordboard-plugin", "cordboard"];

type Suite = (&'static str, &'static str, fn() -> Result<()>);

const SUITES: &[Suite] = &[
    ("lint", "formatting, clippy with warnings as errors, direction of dependencies", lint),
    ("pure", "the machines: unit and property tests, and mutations of the fuzz corpora for 20 seconds", pure),
    ("plugins", "SDK and plugins: build, and their own unit tests", plugin_tests),
    ("host", "plugin host, store, server", heavy),
    ("simulation", "seeded calls in virtual time, and the seeded bugs that it must find", simulation),
    ("e2e", "calls with SIPp, pjsua2, baresip, linphone, Kamailio and tshark", end_to_end),
    ("demo", "one call through the steps, as the README shows it", demo),
];

/// Runs all suites, or the named ones.
pub(crate) fn test(names: &[String]) -> Result<()> {
    if names.iter().any(|name| name == "--list") {
        for (name, about, _) in SUITES {
            println!("{name:12} {about}");
        }
        return Ok(());
    }
    if let Some(unknown) = names.iter().find(|name| !SUITES.iter().any(|(suite, ..)| suite == name)) {
        bail!("no suite {unknown:?}; `cargo xtask test --list` names them");
    }
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, about, suite) in SUITES {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("== {name}: {about}");
        let start = Instant::now();
        match suite() {
            Ok(()) => {
                passed += 1;
                println!("== {name}: passed in {:.0} s", start.elapsed().as_secs_f64());
            }
            Err(error) => {
                println!("== {name}: FAILED after {:.0} s: {error:#}", start.elapsed().as_secs_f64());
                failed.push(*name);
            }
        }
    }
    println!("suites: {passed} passed, {} failed", failed.len());
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// Formatting is repaired on a developer's machine and only checked in CI.
pub(crate) fn lint() -> Result<()> {
    let check: &[&str] = if std::env::var_os("CI").is_some() { &["--check"] } else { &[] };
    cargo().args(["fmt", "--all"]).args(check).run()?;
    for package in plugins::packages()?.into_iter().chain([root().join("sdk/rust")]) {
        cargo().args(["fmt"]).args(check).dir(&package).run()?;
    }
    cargo()
        .args(["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"])
        .run()?;
    direction::check()
}

fn pure() -> Result<()> {
    pure_tests(&[]).run()?;
    // The same seed for everybody, so that a change is judged by what it does and not by luck; without FUZZ_SEED
    // the test takes another one each time. What is found lies in a file that the failure names.
    let fuzz = ["--test", "fuzz", "--", "--ignored"];
    pure_tests(&fuzz).env("FUZZ_SECONDS", "20").env("FUZZ_SEED", "1").run()
}

/// Always all of these crates: a choice among them would have other features, and be compiled again.
fn pure_tests(arguments: &[&str]) -> Run {
    let packages = PURE.iter().flat_map(|name| ["-p", name]);
    cargo().args(["test", "--quiet", "--locked"]).args(packages).args(arguments)
}

fn plugin_tests() -> Result<()> {
    needs::wasm_target()?;
    plugins::build_all()?;
    let test = |package: &Path, features: &[&str]| {
        cargo()
            .args(["test", "--quiet", "--locked"])
            .args(features)
            .env("CARGO_TARGET_DIR", crate::cargo::guests_dir())
            .dir(package)
            .run()
    };
    test(&root().join("sdk/rust"), &["--all-features"])?;
    plugins::packages()?.iter().try_for_each(|package| test(package, &[]))
}

fn heavy() -> Result<()> {
    needs::wasm_target()?;
    needs::programs(&["espeak-ng"])?;
    let components = plugins::build_all()?;
    cargo()
        .args(["test", "--release", "--quiet", "--locked"])
        .args(HEAVY.iter().flat_map(|name| ["-p", name]))
        .env("CORDBOARD_PLUGINS_DIR", components)
        .run()
}

fn simulation() -> Result<()> {
    cargo().args(["test", "--release", "--quiet", "--locked", "-p", "cordboard-sim"]).run()
}

fn end_to_end() -> Result<()> {
    needs::wasm_target()?;
    needs::all_programs()?;
    let python = needs::pjsua2()?;
    let jssip = needs::jssip()?;
    // What other programs make of our captures.
    pure_tests(&["--test", "capture_tshark", "--", "--ignored"]).run()?;
    let components = plugins::build_all()?;
    crate::host("cordboard")?;
    cargo()
        .args(["test", "--release", "--quiet", "--locked", "-p", "cordboard-e2e", "--", "--test-threads=1"])
        .env("CORDBOARD_BINARY", release_binary("cordboard"))
        .env("CORDBOARD_PLUGINS_DIR", components)
        .env("CORDBOARD_PJSUA2_PYTHON", python)
        .env("CORDBOARD_JSSIP", jssip)
        .run()
}

fn demo() -> Result<()> {
    crate::demo(&["--once".to_owned()])
}

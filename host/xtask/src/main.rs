//! The one command of a developer: `cargo xtask test`, `demo`, `bench`, `plugins`, `lint`.
//!
//! It only arranges: it installs what a check needs, builds into a cache outside the checkout so
//! that the next checkout finds it built, and runs the programs that do the work.

use std::process::ExitCode;

use anyhow::{Result, bail};

mod cargo;
mod direction;
mod needs;
mod plugins;
mod suites;

const HELP: &str = "\
Usage: cargo xtask COMMAND

  test [SUITE...]     format, lint, and run every suite (or the named ones: `cargo xtask test --list`)
  demo [--once]       build everything and run one call through the steps of the flow
  bench NAME [--json] print figures beside their baselines (`cargo xtask bench` lists the names)
  plugins             build every plugin to a WebAssembly component and print where they are
  lint                formatting, clippy and the direction of dependencies only

Build output goes to $CORDBOARD_CACHE (by default ~/.cache/cordboard), which may be deleted.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    if matches!(arguments.first().map(String::as_str), Some("test" | "demo" | "bench" | "plugins" | "lint")) {
        cargo::claim_cache(&plugins::own_crates()?)?;
    }
    match arguments.first().map(String::as_str) {
        Some("test") => suites::test(rest),
        Some("demo") => demo(rest),
        Some("bench") => bench(rest),
        Some("plugins") => {
            needs::wasm_target()?;
            println!("{}", plugins::build_all()?.display());
            Ok(())
        }
        Some("lint") => suites::lint(),
        None | Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("no command {other:?}\n\n{HELP}"),
    }
}

/// Builds the host and the plugins, then hands over to the demo program.
fn demo(arguments: &[String]) -> Result<()> {
    needs::wasm_target()?;
    let components = plugins::build_all()?;
    host("cordboard")?;
    host("cordboard-sim")?;
    cargo::program(cargo::release_binary("cordboard-demo"))
        .args(arguments)
        .env("CORDBOARD_BINARY", cargo::release_binary("cordboard"))
        .env("CORDBOARD_PLUGINS_DIR", components)
        .run()
}

/// Builds the host and the plugins, then hands over to the bench program.
fn bench(arguments: &[String]) -> Result<()> {
    needs::wasm_target()?;
    needs::programs(&["sipp"])?;
    let components = plugins::build_all()?;
    host("cordboard")?;
    host("cordboard-bench")?;
    cargo::program(cargo::release_binary("cordboard-bench"))
        .args(arguments)
        .env("CORDBOARD_BINARY", cargo::release_binary("cordboard"))
        .env("CORDBOARD_PLUGINS_DIR", components)
        .run()
}

/// Builds one package as it ships. One at a time: built together, packages share their features,
/// and the server must not get the simulation's.
fn host(package: &str) -> Result<()> {
    cargo::cargo().args(["build", "--release", "--quiet", "--locked", "-p", package]).run()
}

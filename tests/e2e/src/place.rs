//! Where programs, components and scenarios are. Everything has a default; what is missing fails the
//! test that needs it, and says how to get it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The same folder as `xtask` uses.
fn cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("CORDBOARD_CACHE") {
        return dir.into();
    }
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(std::env::temp_dir).join("cordboard")
}

fn existing(path: PathBuf, how: &str) -> PathBuf {
    assert!(path.exists(), "{} is missing: {how}", path.display());
    path
}

/// The `cordboard` binary: `CORDBOARD_BINARY`, or the release build in the cache.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("CORDBOARD_BINARY")
        .map_or_else(|| cache().join("target/release/cordboard"), PathBuf::from);
    existing(path, "build it with `cargo build --release -p cordboard` and set CORDBOARD_BINARY to it")
}

/// The folder with `NAME.wasm` and `NAME.toml`: `CORDBOARD_PLUGINS_DIR`, or the cache.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn plugins() -> PathBuf {
    let path =
        std::env::var_os("CORDBOARD_PLUGINS_DIR").map_or_else(|| cache().join("plugins"), PathBuf::from);
    existing(path, "build the components with `cargo xtask plugins`, or set CORDBOARD_PLUGINS_DIR")
}

/// A component.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn component(name: &str) -> PathBuf {
    existing(plugins().join(format!("{name}.wasm")), "build the components with `cargo xtask plugins`")
}

/// The Python with pjsua2 in it: `CORDBOARD_PJSUA2_PYTHON`, or the cache's virtual environment.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn pjsua2_python() -> PathBuf {
    let path = std::env::var_os("CORDBOARD_PJSUA2_PYTHON")
        .map_or_else(|| cache().join("pjsua2/bin/python"), PathBuf::from);
    existing(
        path,
        "`cargo xtask test` makes it: a virtual environment with pjsua2-python; or set CORDBOARD_PJSUA2_PYTHON",
    )
}

/// The folder with JsSIP in its `node_modules`: `CORDBOARD_JSSIP`, or that of the cache.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn jssip() -> PathBuf {
    let path = std::env::var_os("CORDBOARD_JSSIP").map_or_else(|| cache().join("jssip"), PathBuf::from);
    existing(
        path.join("node_modules"),
        "`cargo xtask test` makes it: `npm install --prefix FOLDER jssip ws`; or set CORDBOARD_JSSIP",
    )
}

/// The collector of spans, beside pjsua2 in its virtual environment.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn rotel() -> PathBuf {
    let venv = pjsua2_python().ancestors().nth(2).map(Path::to_owned).unwrap_or_default();
    let packages = std::fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
    let found =
        packages.map(|python| python.path().join("site-packages/rotel/rotel-agent")).find(|p| p.exists());
    existing(
        found.unwrap_or_else(|| venv.join("rotel-agent")),
        "`cargo xtask test` installs it: the Python package rotel beside pjsua2-python",
    )
}

/// A program on the PATH.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn program(name: &str, package: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    assert!(found, "the program `{name}` is missing: install the Debian package {package}");
    Command::new(name)
}

/// A file beside the suite, from `tests/`.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn beside(path: &str) -> PathBuf {
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path), "the checkout is not whole")
}

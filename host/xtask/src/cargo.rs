//! Running programs, with the build cache in place.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A command that says what it ran when it fails.
pub(crate) struct Run(Command);

/// Any program, in the root of the checkout.
pub(crate) fn program(path: impl AsRef<OsStr>) -> Run {
    let mut command = Command::new(path);
    command.current_dir(root()).env("CARGO_TARGET_DIR", target_dir());
    Run(command)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Run {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

impl Run {
    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs elsewhere than in the root of the checkout.
    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.0.current_dir(dir);
        self
    }

    /// Runs it and takes anything but success for an error.
    pub(crate) fn run(mut self) -> Result<()> {
        let shown = format!("{:?}", self.0);
        let status = self.0.status().with_context(|| format!("could not start {shown}"))?;
        if !status.success() {
            bail!("{shown} ended with {status}");
        }
        Ok(())
    }

    /// Whether it runs and succeeds; what it prints is thrown away.
    pub(crate) fn succeeds(mut self) -> bool {
        self.0.output().is_ok_and(|output| output.status.success())
    }

    /// What it prints.
    pub(crate) fn output(mut self) -> Result<String> {
        let shown = format!("{:?}", self.0);
        let output = self.0.output().with_context(|| format!("could not start {shown}"))?;
        if !output.status.success() {
            bail!("{shown} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Where everything that can be made again is kept.
pub(crate) fn cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("CORDBOARD_CACHE") {
        return dir.into();
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("cordboard")
}

/// The target directory of all builds.
pub(crate) fn target_dir() -> PathBuf {
    cache().join("target")
}

/// A binary of the release profile.
pub(crate) fn release_binary(name: &str) -> PathBuf {
    target_dir().join("release").join(name)
}

/// Makes the cache this checkout's. Cargo names a workspace's crates by their path within it and
/// judges them by time stamps, so what another checkout has built would pass for ours: when the
/// checkout has changed, our own crates are built anew, and what they depend on is kept.
pub(crate) fn claim_cache(ours: &[String]) -> Result<()> {
    let owner = cache().join("checkout");
    let here = root().display().to_string();
    if std::fs::read_to_string(&owner).is_ok_and(|last| last == here) {
        return Ok(());
    }
    let fingerprints =
        ["debug", "release", "wasm32-wasip2/release"].map(|profile| format!("{profile}/.fingerprint"));
    for folder in [target_dir(), guests_dir()].iter().flat_map(|t| fingerprints.iter().map(|f| t.join(f))) {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if ours.iter().any(|crate_name| name.to_string_lossy().starts_with(crate_name.as_str())) {
                std::fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot clear {}", entry.path().display()))?;
            }
        }
    }
    std::fs::create_dir_all(cache())
        .and_then(|()| std::fs::write(&owner, here))
        .context("cannot write into the cache")
}

/// The target directory of the plugins.
pub(crate) fn guests_dir() -> PathBuf {
    cache().join("guests")
}

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

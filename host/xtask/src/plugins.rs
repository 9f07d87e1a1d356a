//! Building plugins to components.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo::{cache, cargo, guests_dir, root};

/// Folders whose packages are plugins.
const FOLDERS: &[&str] = &["plugins", "tests/plugins"];

/// The packages of the plugins, in alphabetical order a folder.
pub(crate) fn packages() -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for folder in FOLDERS {
        let dir = root().join(folder);
        let mut here: Vec<PathBuf> = match std::fs::read_dir(&dir) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(_) => continue,
        };
        here.retain(|path| path.join("Cargo.toml").is_file());
        here.sort();
        packages.extend(here);
    }
    Ok(packages)
}

/// How the names of this repository's own crates begin.
pub(crate) fn own_crates() -> Result<Vec<String>> {
    let mut names = vec!["cordboard".to_owned(), "xtask".to_owned()];
    let folder = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    names.extend(packages()?.iter().filter_map(folder));
    Ok(names)
}

/// Builds every plugin and gathers component and manifest in one folder, `NAME.wasm` beside `NAME.toml`.
pub(crate) fn build_all() -> Result<PathBuf> {
    let gathered = cache().join("plugins");
    std::fs::create_dir_all(&gathered).with_context(|| format!("cannot make {}", gathered.display()))?;
    for package in packages()? {
        build(&package, &gathered)?;
    }
    Ok(gathered)
}

fn build(package: &Path, gathered: &Path) -> Result<()> {
    let name = package.file_name().and_then(|name| name.to_str()).context("a plugin's folder has a name")?;
    let target = guests_dir();
    cargo()
        .args(["build", "--release", "--quiet", "--locked", "--target", "wasm32-wasip2"])
        .env("CARGO_TARGET_DIR", &target)
        .dir(package)
        .run()?;
    let built = target.join("wasm32-wasip2").join("release").join(format!("{}.wasm", name.replace('-', "_")));
    let component = gathered.join(format!("{name}.wasm"));
    let bytes = std::fs::read(&built).with_context(|| {
        format!(
            "{} did not build {}: its package name and its folder's name must agree",
            name,
            built.display()
        )
    })?;
    // Left alone when nothing has changed, so that a watched folder does not see a new version.
    if std::fs::read(&component).ok().as_ref() != Some(&bytes) {
        std::fs::write(&component, bytes).with_context(|| format!("cannot write {}", component.display()))?;
    }
    let manifest = package.join("plugin.toml");
    if manifest.is_file() {
        std::fs::copy(&manifest, gathered.join(format!("{name}.toml")))
            .with_context(|| format!("cannot copy {}", manifest.display()))?;
    }
    Ok(())
}

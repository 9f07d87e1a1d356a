//! The direction of dependencies: pure crates know no world, and nothing knows the server.

use anyhow::{Context, Result, bail};

use crate::cargo::root;

/// A crate of the host and which of the host's crates it may depend on.
const MAY_USE: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("sip", &["base"]),
    ("media", &["base"]),
    ("call", &["base", "sip", "media"]),
    ("plugin", &["base", "call", "media"]),
    ("net", &["base", "sip", "media"]),
    ("bus", &["base", "call"]),
    ("store", &["base", "call"]),
    ("server", &["base", "sip", "media", "call", "plugin", "net", "bus", "store"]),
];

/// Crates that pure code may not even name.
const WORLDLY: &[&str] =
    &["tokio", "mio", "wasmtime", "wasmtime-wasi", "socket2", "hyper", "axum", "rusqlite", "libc"];
const PURE: &[&str] = &["base", "sip", "media", "call"];

/// Checks the manifests.
pub(crate) fn check() -> Result<()> {
    let mut wrong = Vec::new();
    for (name, may_use) in MAY_USE {
        let path = root().join("host").join(name).join("Cargo.toml");
        let manifest =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for dependency in dependencies(&manifest) {
            if let Some(ours) = dependency.strip_prefix("cordboard-")
                && ours != *name
                && !may_use.contains(&ours)
            {
                wrong.push(format!(
                    "host/{name} depends on {dependency}; it may depend on: {}",
                    may_use.join(", ")
                ));
            }
            if PURE.contains(name) && WORLDLY.contains(&dependency.as_str()) {
                wrong.push(format!("host/{name} is pure and depends on {dependency}"));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

/// Names under `[dependencies]`; what only tests and builds use does not count.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once(['=', '.', ' ']) {
            names.push(name.trim().to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_is_linked_counts() {
        let manifest = "[dependencies]\na.workspace = true\nb = \"1\"\n[dev-dependencies]\nc = \"1\"\n";
        assert_eq!(super::dependencies(manifest), ["a", "b"]);
    }

    #[test]
    fn the_checkout_obeys() {
        super::check().unwrap();
    }
}

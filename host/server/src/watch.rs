//! What runs beside the calls: the watched plugin folder, and the housekeeping of records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::library::wall_ms;
use crate::node::Shared;

/// Deletes records beyond their retention, and recordings with them.
pub async fn housekeeping(shared: Arc<Shared>) {
    loop {
        let days = shared.config().store.retention_days;
        if days > 0 {
            let shared = shared.clone();
            let before_ms = wall_ms() - i64::from(days) * 86_400_000;
            let _ = tokio::task::spawn_blocking(move || {
                shared.journal.retain(before_ms);
                let oldest = SystemTime::now() - Duration::from_secs(u64::from(days) * 86_400);
                old_recordings(&shared.config().store.recordings, oldest);
            })
            .await;
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
}

/// Deletes recordings that are older than the records that name them.
fn old_recordings(folder: &Path, oldest: SystemTime) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            old_recordings(&path, oldest);
        } else if path.extension().is_some_and(|kind| kind == "wav" || kind == "part")
            && meta.modified().is_ok_and(|at| at < oldest)
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(file = %path.display(), %error, "an old recording cannot be deleted");
        }
    }
}

type Stamp = (SystemTime, u64);

fn stamp(file: &PathBuf) -> Option<Stamp> {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// Looks at the components' files once a second; one that has changed and then stayed the same for a
/// second is vetted and put into service. A refused one is reported once and what was in service stays.
pub async fn plugin_folder(shared: Arc<Shared>) {
    let files = |shared: &Shared| -> Vec<(String, PathBuf)> {
        shared.config().plugins.iter().map(|p| (p.name.to_string(), p.file.clone())).collect()
    };
    let mut served: BTreeMap<PathBuf, Option<Stamp>> =
        files(&shared).into_iter().map(|(_, f)| (f.clone(), stamp(&f))).collect();
    let mut seen: BTreeMap<PathBuf, Option<Stamp>> = BTreeMap::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !shared.config().watch_plugins {
            continue;
        }
        for (name, file) in files(&shared) {
            let now = stamp(&file);
            // A file that is being written is left alone until it has come to rest.
            let at_rest = seen.insert(file.clone(), now) == Some(now);
            let known = served.entry(file.clone()).or_insert(now);
            if *known == now || !at_rest || now.is_none() {
                continue;
            }
            *known = now;
            let shared = shared.clone();
            let _ = tokio::task::spawn_blocking(move || match std::fs::read(&file) {
                Ok(bytes) => {
                    if let Err(problem) = shared.install(&name, &bytes) {
                        tracing::error!(plugin = name, file = %file.display(), "the new version is refused: {}", problem.detail);
                    }
                }
                Err(error) => tracing::error!(plugin = name, file = %file.display(), %error, "the new version cannot be read"),
            })
            .await;
        }
    }
}

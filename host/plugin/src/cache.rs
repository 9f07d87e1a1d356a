//! Compiled code between starts.
//!
//! Compiled code is machine code that the host will run, so only files that this host wrote are
//! loaded: regular files of our own user in a folder that nobody else can write to, opened once
//! and checked on the open descriptor. A file's name holds the component's digest and wasmtime's
//! own hash of everything that the code depends on. Called by [`crate::engine`] when a component
//! is made ready; a cache that cannot be used is only slower.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::Digest;

/// A folder of compiled code, or none.
pub(crate) struct Cache {
    folder: Option<PathBuf>,
    written: AtomicU64,
    pub(crate) hits: AtomicU64,
}

impl Cache {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, written: AtomicU64::new(0), hits: AtomicU64::new(0) }
    }

    /// The component's code: from the cache, or compiled and then cached.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<Component, String> {
        let path = self.folder.as_ref().map(|folder| folder.join(name(engine, digest)));
        if let Some(component) = path.as_deref().and_then(|path| load(engine, path)) {
            self.hits.fetch_add(1, Relaxed);
            return Ok(component);
        }
        let code = engine.precompile_component(bytes).map_err(|e| format!("it does not compile: {e:#}"))?;
        if let Some(path) = path
            && self.store(&path, &code).is_ok()
            && let Some(component) = load(engine, &path)
        {
            // Loaded from the file, its pages are shared and can be dropped under pressure.
            return Ok(component);
        }
        // SAFETY: the bytes were made by this engine a moment ago and have not left this function.
        unsafe { Component::deserialize(engine, &code) }
            .map_err(|e| format!("its code cannot be loaded: {e:#}"))
    }

    /// Writes beside and renames, so that a reader sees a whole file or none.
    fn store(&self, path: &Path, code: &[u8]) -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let beside =
            path.with_extension(format!("{}-{}.new", std::process::id(), self.written.fetch_add(1, Relaxed)));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(code)?;
            file.sync_data()?;
            fs::rename(&beside, path)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }
}

fn load(engine: &Engine, path: &Path) -> Option<Component> {
    let folder = fs::symlink_metadata(path.parent()?).ok()?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    if !folder.is_dir() || !ours(&folder) || !file.metadata().is_ok_and(|meta| meta.is_file() && ours(&meta))
    {
        return None;
    }
    // SAFETY: the file was written by this host from its own compiler's output: it and its folder
    // belong to our user and nobody else may write to them, which was checked on the descriptor
    // that is opened here by its number. wasmtime checks version and settings itself.
    let component = unsafe { Component::deserialize_file(engine, descriptor(&file)) };
    component.ok()
}

fn descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn ours(meta: &fs::Metadata) -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let user = unsafe { libc::geteuid() };
    meta.uid() == user && meta.mode() & 0o022 == 0
}

fn name(engine: &Engine, digest: Digest) -> String {
    let mut hash = Stable(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hash);
    let hash = hash.0.finalize();
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}.cwasm", digest.to_string().trim_start_matches("sha256:"))
}

/// A hasher whose result is the same in every build.
struct Stable(Sha256);

impl Hasher for Stable {
    fn finish(&self) -> u64 {
        let hash = self.0.clone().finalize();
        u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

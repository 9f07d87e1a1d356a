//! The cache of synthesised texts on disk: so many bytes, and what was used longest ago goes first.
//!
//! Called by [`super::Speech`]; the folder is read once, when the first text is asked for. Times of use
//! are kept as the files' modification times, so that they outlive the process.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::{Key, hex};

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    max_bytes: u64,
    bytes: Arc<AtomicU64>,
    files: Mutex<Option<Files>>,
}

#[derive(Debug, Default)]
struct Files {
    /// Bytes and turn of the last use.
    known: HashMap<Key, (u64, u64)>,
    by_use: BTreeMap<u64, Key>,
    next: u64,
    bytes: u64,
}

impl Files {
    fn used(&mut self, key: Key, bytes: u64) {
        self.forget(&key);
        self.known.insert(key, (bytes, self.next));
        self.by_use.insert(self.next, key);
        self.next += 1;
        self.bytes += bytes;
    }

    fn forget(&mut self, key: &Key) {
        if let Some((bytes, turn)) = self.known.remove(key) {
            self.by_use.remove(&turn);
            self.bytes -= bytes;
        }
    }
}

fn key_of(file: &Path) -> Option<Key> {
    let name = file.file_name()?.to_str()?.strip_suffix(".wav")?;
    let mut key = [0; 32];
    if name.len() != 64 || !name.is_ascii() {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(name.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

impl Disk {
    /// At most `max_bytes` in a folder. How many there are is told in `bytes`.
    pub(super) fn new(folder: PathBuf, max_bytes: u64, bytes: Arc<AtomicU64>) -> Self {
        Self { folder, max_bytes, bytes, files: Mutex::new(None) }
    }

    fn file(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{}.wav", hex(key)))
    }

    /// What is known of the folder, read when it is first wanted. Other files are nobody's business here.
    fn files(&self) -> MutexGuard<'_, Option<Files>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.is_none() {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|kind| kind.to_string_lossy().starts_with("part")) {
                    // Left by a process that ended while it wrote.
                    let _ = std::fs::remove_file(&path);
                } else if let (Some(key), Ok(meta)) = (key_of(&path), entry.metadata()) {
                    found.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), key, meta.len()));
                }
            }
            found.sort_unstable();
            let mut read = Files::default();
            found.into_iter().for_each(|(_, key, bytes)| read.used(key, bytes));
            self.make_room(&mut read);
            *files = Some(read);
        }
        files
    }

    fn make_room(&self, files: &mut Files) {
        while files.bytes > self.max_bytes
            && let Some((_, oldest)) = files.by_use.first_key_value()
        {
            let oldest = *oldest;
            if let Err(error) = std::fs::remove_file(self.file(&oldest))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, file = %self.file(&oldest).display(), "synthesised speech cannot be deleted");
            }
            files.forget(&oldest);
        }
        self.bytes.store(files.bytes, Relaxed);
    }

    /// A text's WAV, if it is there. Reads the disk.
    pub(super) fn get(&self, key: &Key) -> Option<Vec<u8>> {
        if self.max_bytes == 0 {
            return None;
        }
        let path = self.file(key);
        let bytes = std::fs::read(&path).ok();
        let mut files = self.files();
        let files = files.as_mut()?;
        match &bytes {
            Some(bytes) => {
                files.used(*key, bytes.len() as u64);
                // Only the order after a restart depends on it.
                let now = FileTimes::new().set_modified(SystemTime::now());
                let _ = File::options().write(true).open(&path).and_then(|file| file.set_times(now));
            }
            None => files.forget(key),
        }
        self.bytes.store(files.bytes, Relaxed);
        bytes
    }

    /// Keeps a text's WAV; what was used longest ago makes room for it. Writes the disk.
    pub(super) fn put(&self, key: &Key, wav: &[u8]) -> io::Result<()> {
        if wav.len() as u64 > self.max_bytes {
            return Ok(());
        }
        let file = self.file(key);
        let partial = file.with_extension(format!("part{}", std::process::id()));
        std::fs::create_dir_all(&self.folder)?;
        let mut files = self.files();
        std::fs::write(&partial, wav)?;
        std::fs::rename(&partial, &file)?;
        if let Some(files) = files.as_mut() {
            files.used(*key, wav.len() as u64);
            self.make_room(files);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(folder: &Path) -> Disk {
        Disk::new(folder.to_owned(), 1_000, Arc::default())
    }

    #[test]
    fn what_was_used_longest_ago_makes_room_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let d = disk(folder.path());
        for key in 1..=3 {
            d.put(&[key; 32], &[key; 300]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(15));
        }
        assert_eq!(d.bytes.load(Relaxed), 900);
        assert_eq!(d.get(&[1; 32]).unwrap(), [1; 300]);
        d.put(&[4; 32], &[4; 300]).unwrap();
        assert!(d.get(&[2; 32]).is_none(), "the second was used longest ago");
        // Another life knows from the files what was used when: 3 before 1 before 4.
        std::fs::write(folder.path().join("x.part77"), "left over").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "not ours").unwrap();
        let d = disk(folder.path());
        d.put(&[5; 32], &[5; 300]).unwrap();
        let there = |key: u8| folder.path().join(format!("{}.wav", hex(&[key; 32]))).exists();
        assert_eq!([1, 2, 3, 4, 5].map(there), [true, false, false, true, true]);
        assert!(folder.path().join("notes.txt").exists() && !folder.path().join("x.part77").exists());
        assert_eq!(d.bytes.load(Relaxed), 900);
    }

    #[test]
    fn what_is_larger_than_the_cache_is_not_kept_and_a_file_that_was_deleted_is_no_longer_counted() {
        let folder = tempfile::tempdir().unwrap();
        let d = disk(folder.path());
        d.put(&[1; 32], &[0; 1_001]).unwrap();
        assert!(d.get(&[1; 32]).is_none());
        d.put(&[2; 32], &[0; 500]).unwrap();
        std::fs::remove_file(d.file(&[2; 32])).unwrap();
        assert!(d.get(&[2; 32]).is_none());
        assert_eq!(d.bytes.load(Relaxed), 0);
    }
}

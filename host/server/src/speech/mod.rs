//! `say`: text to a clip by a program that is called like espeak-ng, with a cache in memory and on
//! disk by text and language.
//!
//! Called on behalf of scripts. At most so many processes run at once, each within its time, and so many
//! texts wait for one; a text that is asked for while it is being made is made once. The text goes in by
//! standard input, so no text can be taken for an option. Without the program the error says how to get
//! it, and the plugin host plays the script's fallback prompt.

mod disk;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cordboard_media::clip::Clip;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::{OnceCell, Semaphore};

use self::disk::Disk;
use crate::config;
use crate::library::wall_ms;

/// The synthesiser.
#[derive(Debug)]
pub struct Speech {
    config: config::Speech,
    runtime: tokio::runtime::Handle,
    places: Semaphore,
    memory: Mutex<Memory>,
    disk: Arc<Disk>,
    /// Texts that are being fetched or made; who asks for one of them waits with the first.
    making: Mutex<HashMap<Key, Making>>,
    /// Until when the program counts as absent, so that a busy centre does not look for it all the time.
    absent_until_ms: AtomicI64,
    /// Texts found in a cache.
    pub hits: AtomicU64,
    /// Texts synthesised.
    pub spoken: AtomicU64,
    /// Times that a text was asked for while it was being made.
    pub shared: AtomicU64,
    /// Texts that could not be.
    pub failed: AtomicU64,
    /// Texts that wait for a process now.
    pub waiting: AtomicUsize,
    /// Bytes on disk.
    pub disk_bytes: Arc<AtomicU64>,
}

/// The SHA-256 of language and text.
type Key = [u8; 32];
type Making = Arc<OnceCell<Result<Arc<Clip>, String>>>;

#[derive(Debug, Default)]
struct Memory {
    clips: BTreeMap<Key, Arc<Clip>>,
    order: VecDeque<Key>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Arc<Clip>, String>> + Send>>;

const ABSENT_MS: i64 = 30_000;
/// Texts that may wait for a process; one more fails at once.
const MAX_WAITING: usize = 256;

fn key(text: &str, language: &str) -> Key {
    let mut hash = Sha256::new();
    hash.update(language);
    hash.update([0]);
    hash.update(text);
    hash.finalize().into()
}

fn hex(key: &Key) -> String {
    key.iter().map(|b| format!("{b:02x}")).collect()
}

impl Speech {
    /// On a runtime that can run processes.
    #[must_use]
    pub fn new(config: config::Speech, runtime: tokio::runtime::Handle) -> Self {
        let disk_bytes = Arc::<AtomicU64>::default();
        Self {
            places: Semaphore::new(config.max_processes),
            disk: Arc::new(Disk::new(config.cache.clone(), config.cache_bytes, disk_bytes.clone())),
            making: Mutex::default(),
            config,
            runtime,
            memory: Mutex::default(),
            absent_until_ms: AtomicI64::new(0),
            hits: AtomicU64::new(0),
            spoken: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            disk_bytes,
        }
    }

    /// The clip, if it is in memory.
    #[must_use]
    pub fn cached(&self, text: &str, language: &str) -> Option<Arc<Clip>> {
        let clip = self
            .memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clips
            .get(&key(text, language))
            .cloned();
        if clip.is_some() {
            self.hits.fetch_add(1, Relaxed);
        }
        clip
    }

    /// The clip, from the disk's cache or made now.
    #[must_use]
    pub fn say(self: &Arc<Self>, text: String, language: String) -> Answer {
        let me = self.clone();
        // Processes need a runtime with input and output, which the plugins' has not.
        let task = self.runtime.spawn(async move { me.fetch(&text, &language).await });
        Box::pin(async move { task.await.unwrap_or_else(|_| Err("the centre is stopping".into())) })
    }

    async fn fetch(&self, text: &str, language: &str) -> Result<Arc<Clip>, String> {
        let fits = (2..=16).contains(&language.len())
            && language.starts_with(|c: char| c.is_ascii_alphabetic())
            && language.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !fits {
            return Err(format!("{language:?} is not a language; expected one such as `en` or `fr-CA`"));
        }
        let key = key(text, language);
        let making = {
            let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            match making.get(&key) {
                Some(making) => {
                    self.shared.fetch_add(1, Relaxed);
                    making.clone()
                }
                None => making.entry(key).or_default().clone(),
            }
        };
        let answer = making.get_or_init(|| self.make(key, text, language)).await.clone();
        // Whoever comes from now on finds it in memory, or tries again.
        let mut all = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&key).is_some_and(|there| Arc::ptr_eq(there, &making)) {
            all.remove(&key);
        }
        answer
    }

    /// The clip from the disk, or from a process of its own.
    async fn make(&self, key: Key, text: &str, language: &str) -> Result<Arc<Clip>, String> {
        let disk = self.disk.clone();
        let found = tokio::task::spawn_blocking(move || disk.get(&key)).await.ok().flatten();
        if let Some(clip) = found.and_then(|bytes| Clip::from_wav(&bytes).ok()) {
            self.hits.fetch_add(1, Relaxed);
            return Ok(self.keep(key, clip));
        }
        let made = match self.absent_until_ms.load(Relaxed) > wall_ms() {
            true => Err(self.absent()),
            false => self.synthesise(text, language).await,
        };
        let clip = made.and_then(|wav| match Clip::from_wav(&wav) {
            Ok(clip) => Ok((wav, clip)),
            Err(e) => Err(format!("{} wrote audio that cannot be read: {e}", self.config.command)),
        });
        let (wav, clip) = clip.inspect_err(|_| {
            self.failed.fetch_add(1, Relaxed);
        })?;
        self.spoken.fetch_add(1, Relaxed);
        let clip = self.keep(key, clip);
        // Nobody waits for the disk.
        let disk = self.disk.clone();
        self.runtime.spawn_blocking(move || {
            if let Err(error) = disk.put(&key, &wav) {
                tracing::warn!(%error, "speech cannot be cached on disk");
            }
        });
        Ok(clip)
    }

    async fn synthesise(&self, text: &str, language: &str) -> Result<Vec<u8>, String> {
        let command = &self.config.command;
        let time = Duration::from_millis(self.config.timeout_ms);
        let run = async {
            let place = {
                let _waits = Waits::one(&self.waiting).ok_or_else(|| {
                    format!(
                        "{MAX_WAITING} texts wait for the synthesiser already: raise `speech.max_processes`, or say less at once"
                    )
                })?;
                self.places.acquire().await
            };
            let _place = place.map_err(|_| "the centre is stopping".to_owned())?;
            let child = tokio::process::Command::new(command)
                .args(["--stdin", "--stdout", "-v", language])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn();
            let mut child = child.map_err(|e| {
                if e.kind() == std::io::ErrorKind::NotFound {
                    self.absent_until_ms.store(wall_ms() + ABSENT_MS, Relaxed);
                    self.absent()
                } else {
                    format!("the synthesiser `{command}` cannot be started: {e}")
                }
            })?;
            if let Some(mut input) = child.stdin.take() {
                let _ = input.write_all(text.as_bytes()).await;
            }
            let output =
                child.wait_with_output().await.map_err(|e| format!("the synthesiser `{command}`: {e}"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(format!(
                    "the synthesiser `{command}` failed ({}): {}",
                    output.status,
                    said.trim()
                ));
            }
            Ok(repair(output.stdout))
        };
        tokio::time::timeout(time, run).await.unwrap_or_else(|_| {
            Err(format!("the synthesiser `{command}` was not ready within {} ms", self.config.timeout_ms))
        })
    }

    fn absent(&self) -> String {
        format!(
            "the synthesiser `{}` is not installed: on Debian `apt install espeak-ng`, or name another in `speech.command`",
            self.config.command
        )
    }

    fn keep(&self, key: Key, clip: Clip) -> Arc<Clip> {
        let clip = Arc::new(clip);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.clips.insert(key, clip.clone()).is_none() {
            memory.order.push_back(key);
        }
        // The oldest goes: it is on disk all the same.
        while memory.order.len() > self.config.max_clips {
            if let Some(oldest) = memory.order.pop_front() {
                memory.clips.remove(&oldest);
            }
        }
        clip
    }
}

/// Counts a text among those that wait, as long as it lives.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    /// None when so many wait that this one may not.
    fn one(waiting: &'a AtomicUsize) -> Option<Self> {
        let before = waiting.fetch_add(1, Relaxed);
        let waits = Self(waiting);
        (before < MAX_WAITING).then_some(waits)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// espeak-ng writes to a pipe before it knows the length: the sizes in the header are corrected here.
fn repair(mut wav: Vec<u8>) -> Vec<u8> {
    if wav.len() > 44 && wav.starts_with(b"RIFF") && &wav[36..40] == b"data" {
        let (all, data) = ((wav.len() - 8) as u32, (wav.len() - 44) as u32);
        wav[4..8].copy_from_slice(&all.to_le_bytes());
        wav[40..44].copy_from_slice(&data.to_le_bytes());
    }
    wav
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(command: &str, folder: &std::path::Path) -> Arc<Speech> {
        within(300, command, folder)
    }

    fn within(timeout_ms: u64, command: &str, folder: &std::path::Path) -> Arc<Speech> {
        let config = config::Speech {
            command: command.into(),
            max_processes: 1,
            timeout_ms,
            cache: folder.into(),
            cache_bytes: 1 << 20,
            max_clips: 2,
        };
        Arc::new(Speech::new(config, tokio::runtime::Handle::current()))
    }

    /// A program that speaks 8 kHz mono silence, as a shell script.
    fn program(folder: &std::path::Path, body: &str) -> String {
        let path = folder.join("speaker");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn an_absent_program_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let s = speech("no-such-synthesiser", folder.path());
        let error = s.say("hello".into(), "en".into()).await.unwrap_err();
        assert!(error.contains("apt install espeak-ng"), "{error}");
    }

    #[tokio::test]
    async fn a_text_is_spoken_once_and_then_comes_from_memory_or_disk() {
        let folder = tempfile::tempdir().unwrap();
        let wav = folder.path().join("x.wav");
        std::fs::write(&wav, cordboard_media::wav::write(&[0; 800])).unwrap();
        let command = program(folder.path(), &format!("cat >/dev/null; cat {}", wav.display()));
        let s = speech(&command, folder.path());
        let clip = s.say("hello".into(), "en".into()).await.unwrap();
        assert_eq!(clip.samples(), 800);
        assert!(s.cached("hello", "en").is_some());
        assert!(s.cached("hello", "fr").is_none());
        // Another process life: no memory, the disk answers even without the program.
        while s.disk_bytes.load(Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let again = speech("no-such-synthesiser", folder.path());
        assert_eq!(again.say("hello".into(), "en".into()).await.unwrap().samples(), 800);
        assert_eq!(again.spoken.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn a_program_that_hangs_or_fails_and_a_language_that_is_none_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let s = speech(&program(folder.path(), "sleep 10"), folder.path());
        assert!(s.say("a".into(), "en".into()).await.unwrap_err().contains("300 ms"));
        let s = speech(&program(folder.path(), "echo no voice >&2; exit 1"), folder.path());
        assert!(s.say("a".into(), "en".into()).await.unwrap_err().contains("no voice"));
        assert!(s.say("a".into(), "--help".into()).await.unwrap_err().contains("not a language"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_text_that_many_ask_for_at_once_is_made_by_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let wav = folder.path().join("x.wav");
        std::fs::write(&wav, cordboard_media::wav::write(&[0; 800])).unwrap();
        let runs = folder.path().join("runs");
        let body = format!("cat >/dev/null; echo x >>{}; sleep 0.2; cat {}", runs.display(), wav.display());
        let s = within(10_000, &program(folder.path(), &body), folder.path());
        let asked: Vec<_> = (0..50).map(|_| s.say("the same".into(), "en".into())).collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap().samples(), 800);
        }
        assert_eq!(std::fs::read_to_string(&runs).unwrap(), "x\n");
        assert_eq!(s.spoken.load(Relaxed), 1);
        assert!(s.making.lock().unwrap().is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn texts_beyond_those_that_may_wait_are_refused_at_once_and_the_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let s = within(3_000, &program(folder.path(), "sleep 10"), folder.path());
        let asked: Vec<_> = (0..MAX_WAITING + 40).map(|i| s.say(format!("text {i}"), "en".into())).collect();
        let mut refused = 0;
        for answer in asked {
            let why = answer.await.unwrap_err();
            refused += usize::from(why.contains("wait for the synthesiser already"));
        }
        // One has the process; it may have counted as one that waits for a moment.
        assert!((39..=40).contains(&refused), "{refused}");
        assert_eq!(s.waiting.load(Relaxed), 0);
    }
}

//! `say`: text to a clip by a program that is called like espeak-ng, with a cache in memory and on
//! disk by text and language.
//!
//! Called on behalf of scripts. At most so many processes run at once, each within its time; the
//! text goes in by standard input, so no text can be taken for an option. Without the program the
//! error says how to get it, and the plugin host plays the script's fallback prompt.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cordboard_media::clip::Clip;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::config;
use crate::library::wall_ms;

/// The synthesiser.
#[derive(Debug)]
pub struct Speech {
    config: config::Speech,
    runtime: tokio::runtime::Handle,
    places: Semaphore,
    memory: Mutex<Memory>,
    /// Until when the program counts as absent, so that a busy centre does not look for it all the time.
    absent_until_ms: AtomicI64,
    /// Texts found in a cache.
    pub hits: AtomicU64,
    /// Texts synthesised.
    pub spoken: AtomicU64,
    /// Texts that could not be.
    pub failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Memory {
    clips: BTreeMap<[u8; 32], Arc<Clip>>,
    order: VecDeque<[u8; 32]>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Arc<Clip>, String>> + Send>>;

const ABSENT_MS: i64 = 30_000;
/// Texts that may wait for a process; one more fails at once.
const MAX_WAITING: usize = 256;

fn key(text: &str, language: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(language);
    hash.update([0]);
    hash.update(text);
    hash.finalize().into()
}

fn hex(key: &[u8; 32]) -> String {
    key.iter().map(|b| format!("{b:02x}")).collect()
}

impl Speech {
    /// On a runtime that can run processes.
    #[must_use]
    pub fn new(config: config::Speech, runtime: tokio::runtime::Handle) -> Self {
        Self {
            places: Semaphore::new(config.max_processes),
            config,
            runtime,
            memory: Mutex::default(),
            absent_until_ms: AtomicI64::new(0),
            hits: AtomicU64::new(0),
            spoken: AtomicU64::new(0),
            failed: AtomicU64::new(0),
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
        let file = self.config.cache.join(format!("{}.wav", hex(&key)));
        if let Ok(bytes) = tokio::fs::read(&file).await
            && let Ok(clip) = Clip::from_wav(&bytes)
        {
            self.hits.fetch_add(1, Relaxed);
            return Ok(self.keep(key, clip));
        }
        if self.absent_until_ms.load(Relaxed) > wall_ms() {
            return Err(self.absent());
        }
        let result = self.synthesise(text, language).await;
        match result {
            Ok(bytes) => {
                let clip = Clip::from_wav(&bytes)
                    .map_err(|e| format!("{} wrote audio that cannot be read: {e}", self.config.command))?;
                self.spoken.fetch_add(1, Relaxed);
                self.store(&file, &bytes).await;
                Ok(self.keep(key, clip))
            }
            Err(why) => {
                self.failed.fetch_add(1, Relaxed);
                Err(why)
            }
        }
    }

    async fn synthesise(&self, text: &str, language: &str) -> Result<Vec<u8>, String> {
        let command = &self.config.command;
        let time = Duration::from_millis(self.config.timeout_ms);
        let run = async {
            let _place = self.places.acquire().await.map_err(|_| "the centre is stopping".to_owned())?;
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
        if self.waiting() > MAX_WAITING {
            return Err("too many texts wait for the synthesiser".into());
        }
        tokio::time::timeout(time, run).await.unwrap_or_else(|_| {
            Err(format!("the synthesiser `{command}` was not ready within {} ms", self.config.timeout_ms))
        })
    }

    fn waiting(&self) -> usize {
        if self.places.available_permits() == 0 { self.config.max_processes } else { 0 }
    }

    fn absent(&self) -> String {
        format!(
            "the synthesiser `{}` is not installed: on Debian `apt install espeak-ng`, or name another in `speech.command`",
            self.config.command
        )
    }

    fn keep(&self, key: [u8; 32], clip: Clip) -> Arc<Clip> {
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

    async fn store(&self, file: &PathBuf, bytes: &[u8]) {
        let partial = file.with_extension(format!("{}.part", std::process::id()));
        let stored = async {
            tokio::fs::create_dir_all(&self.config.cache).await?;
            tokio::fs::write(&partial, bytes).await?;
            tokio::fs::rename(&partial, file).await
        };
        if let Err(error) = stored.await {
            tracing::warn!(%error, file = %file.display(), "speech cannot be cached on disk");
        }
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
        let config = config::Speech {
            command: command.into(),
            max_processes: 1,
            timeout_ms: 300,
            cache: folder.into(),
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
}

//! One test's surroundings: a folder for its files, free ports, and the promise that no other test
//! runs beside it. When the test fails the ends of all logs are printed and the folder stays.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

static ALONE: Mutex<()> = Mutex::new(());
static NEXT: AtomicU16 = AtomicU16::new(0);
static RTP: AtomicU16 = AtomicU16::new(0);

/// See the module.
#[derive(Debug)]
pub struct Scene {
    dir: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    /// Waits for its turn and makes the folder.
    ///
    /// # Panics
    /// When the folder cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = std::env::temp_dir().join(format!("cordboard-e2e-{}", std::process::id())).join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a folder for the test");
        Self { dir, _alone: alone }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
            return;
        }
        eprintln!("the test's files are in {}", self.dir.display());
        let mut logs: Vec<PathBuf> =
            std::fs::read_dir(&self.dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|e| e == "log"));
        logs.sort();
        for log in logs {
            let bytes = std::fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("---- the end of {}", log.display());
            for line in &lines[lines.len().saturating_sub(60)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// A loopback port that nobody has now, neither for UDP nor for TCP, and that the system gives to nobody by
/// itself (Linux gives away 32768 and up).
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    for _ in 0..4_000 {
        let port = 28_500
            + (std::process::id() as u16).wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Relaxed)) % 4_000;
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from 28500 to 32499");
}

/// A range of RTP ports below the range that the system gives away by itself.
#[must_use]
pub fn rtp_range(ports: u16) -> (u16, u16) {
    let begin = (std::process::id() % 8) as u16 * 2_000;
    let at = (begin + RTP.fetch_add(ports, Relaxed)) % (16_000 - ports);
    let first = 12_000 + (at & !1);
    (first, first + ports - 1)
}

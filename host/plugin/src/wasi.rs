//! The little of WASI that a guest gets: standard output and error as log lines, clocks, randomness,
//! an empty environment and an empty file system.
//!
//! Linked by [`crate::engine`]. There are no sockets: what a plugin may reach goes through imports
//! whose grants are checked. A queue policy gets a WASI of its own that never waits and whose
//! clock and randomness are those of the question, so that a decision can be replayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult, bindings};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder, WasiView};

use crate::guest::{Guest, Level, Log};

/// Interfaces of WASI 0.2 that a guest may import; vetting reads this list.
pub(crate) const OFFERED: [&str; 18] = [
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/wall-clock",
    "wasi:clocks/monotonic-clock",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:cli/exit",
    "wasi:cli/environment",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
];

/// Two more, to keep the list above in lines of one kind.
pub(crate) const OFFERED_TOO: [&str; 2] = ["wasi:cli/terminal-stdout", "wasi:cli/terminal-stderr"];

const MAX_RANDOM_BYTES: usize = 1 << 16;

/// The time and the seed of one question to a policy.
#[derive(Debug, Default)]
pub(crate) struct Question {
    /// Milliseconds since the Unix epoch.
    pub(crate) now_ms: AtomicU64,
    /// What the randomness is made of.
    pub(crate) seed: AtomicU64,
    /// The thread's CPU clock when the question was asked; the guest does not see it.
    pub(crate) began_cpu_ns: AtomicU64,
}

impl<W> Guest<W> {
    fn question_ns(&self) -> u64 {
        self.question.as_ref().map_or(0, |question| question.now_ms.load(Relaxed).saturating_mul(1_000_000))
    }

    /// The next number of the question's sequence (SplitMix64: a replay needs repetition, not secrecy).
    fn question_random(&mut self) -> u64 {
        let Some(question) = &self.question else { return 0 };
        let state = question.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// WASI for guests on fibres.
pub(crate) fn link_async<W: Send + 'static>(l: &mut Linker<Guest<W>>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::bindings::io::error::add_to_linker::<_, HasTable>(l, |t| t.ctx().table)?;
    wasmtime_wasi::p2::bindings::io::poll::add_to_linker::<_, HasTable>(l, |t| t.ctx().table)?;
    wasmtime_wasi::p2::bindings::io::streams::add_to_linker::<_, HasTable>(l, |t| t.ctx().table)?;
    bindings::filesystem::types::add_to_linker::<_, WasiFilesystem>(l, Guest::filesystem)?;
    bindings::clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)?;
    bindings::random::random::add_to_linker::<_, WasiRandom>(l, |t| t.ctx().ctx.random())?;
    bindings::random::insecure::add_to_linker::<_, WasiRandom>(l, |t| t.ctx().ctx.random())?;
    bindings::random::insecure_seed::add_to_linker::<_, WasiRandom>(l, |t| t.ctx().ctx.random())?;
    link_common(l)
}

/// WASI for a policy: nothing in it waits, because it would hold up the domain's thread.
pub(crate) fn link_sync<W: Send + 'static>(l: &mut Linker<Guest<W>>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::bindings::io::error::add_to_linker::<_, HasTable>(l, |t| t.ctx().table)?;
    bindings::sync::io::poll::add_to_linker::<_, HasTable>(l, |t| t.ctx().table)?;
    bindings::sync::io::streams::add_to_linker::<_, HasTable>(l, |t| t.ctx().table)?;
    bindings::sync::filesystem::types::add_to_linker::<_, WasiFilesystem>(l, Guest::filesystem)?;
    // The clock's pollables are all that could wait for long; the streams are always ready.
    let mut clock = l.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    clock.func_wrap("now", |guest, (): ()| Ok((guest.data().question_ns(),)))?;
    clock.func_wrap("resolution", |_, (): ()| Ok((1_000_000_u64,)))?;
    clock.func_wrap("subscribe-instant", |_, (_,): (u64,)| no_waiting())?;
    clock.func_wrap("subscribe-duration", |_, (_,): (u64,)| no_waiting())?;
    for name in ["wasi:random/random@0.2.12", "wasi:random/insecure@0.2.12"] {
        let insecure = if name.contains("insecure") { "insecure-" } else { "" };
        let mut random = l.instance(name)?;
        random.func_wrap(&format!("get-{insecure}random-bytes"), |mut guest, (len,): (u64,)| {
            let len = usize::try_from(len).ok().filter(|len| *len <= MAX_RANDOM_BYTES);
            let len = len
                .ok_or_else(|| wasmtime::format_err!("more than {MAX_RANDOM_BYTES} random bytes at once"))?;
            Ok(((0..len).map(|_| guest.data_mut().question_random() as u8).collect::<Vec<u8>>(),))
        })?;
        random.func_wrap(&format!("get-{insecure}random-u64"), |mut guest, (): ()| {
            Ok((guest.data_mut().question_random(),))
        })?;
    }
    l.instance("wasi:random/insecure-seed@0.2.12")?.func_wrap("insecure-seed", |mut guest, (): ()| {
        let guest = guest.data_mut();
        Ok(((guest.question_random(), guest.question_random()),))
    })?;
    link_common(l)
}

fn no_waiting() -> wasmtime::Result<(Resource<DynPollable>,)> {
    Err(wasmtime::format_err!("a queue policy must not wait: it has 5 ms and no clock but the question's"))
}

fn link_common<W: Send + 'static>(l: &mut Linker<Guest<W>>) -> wasmtime::Result<()> {
    use bindings::{cli, clocks, filesystem};
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(l, Guest::clocks)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, Guest::filesystem)?;
    cli::exit::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::environment::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, Guest::cli)?;
    Ok(())
}

/// The context of one instance.
pub(crate) fn context(log: &Log, question: Option<Arc<Question>>) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    builder.stdout(Lines { log: log.clone(), level: Level::Info });
    builder.stderr(Lines { log: log.clone(), level: Level::Error });
    builder.max_random_size(MAX_RANDOM_BYTES as u64);
    if let Some(question) = question {
        builder.wall_clock(QuestionClock(question));
    }
    builder.build()
}

struct QuestionClock(Arc<Question>);

impl HostWallClock for QuestionClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now_ms.load(Relaxed))
    }
}

/// Standard output or error: a line of text is a line of the log.
#[derive(Clone)]
struct Lines {
    log: Log,
    level: Level,
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let text = String::from_utf8_lossy(&bytes);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.log.line(self.level, line);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(4_096)
    }
}

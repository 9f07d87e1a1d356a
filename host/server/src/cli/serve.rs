//! `serve` and `check`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, Overrides, Role};
use crate::node::{Node, ServeOptions};
use crate::telemetry;

pub(super) fn serve(file: &Path, overrides: Overrides, journal_keep_whole: bool) -> Result<()> {
    let config = config::load(file, &overrides)?;
    telemetry::start_log(&config.log);
    let _last_lines = LastLines;
    descriptors();
    die_whole();
    let roles: Vec<String> = config.roles.iter().map(|r| format!("{r:?}").to_lowercase()).collect();
    let (redirect, centre) = (config.has(Role::Redirect), config.has(Role::Centre));
    let listen = config.listen;
    let node = Node::start(config, ServeOptions { overrides, journal_keep_whole })?;
    let mut places = Vec::new();
    if redirect {
        places.push(format!("redirect sip:{}", listen.redirect));
    }
    if centre {
        places.push(format!("centre sip:{}", listen.centre));
    }
    places.push(format!("api http://{}", node.api));
    println!("cordboard ready: roles {}; {}", roles.join(", "), places.join("; "));
    let hurry = Arc::new(AtomicBool::new(false));
    node.block_on(until_told(&node, &hurry))?;
    node.stop();
    Ok(())
}

/// The last lines of the log are written before the process ends, however it ends.
struct LastLines;

impl Drop for LastLines {
    fn drop(&mut self) {
        telemetry::flush(Duration::from_secs(1));
    }
}

/// Serves reloads until SIGTERM or SIGINT, drains, and stops early when told a second time.
async fn until_told(node: &Node, hurry: &Arc<AtomicBool>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be heard")?;
    let mut hang_up = signal(SignalKind::hangup()).context("SIGHUP cannot be heard")?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                let shared = node.shared.clone();
                if let Ok(Err(error)) = tokio::task::spawn_blocking(move || shared.reload()).await {
                    tracing::error!("the configuration was not read anew, the old one holds: {error}");
                }
            }
        }
    }
    let drained = node.drain(hurry);
    tokio::pin!(drained);
    loop {
        tokio::select! {
            () = &mut drained => break,
            _ = terminate.recv() => hurry.store(true, Relaxed),
            _ = interrupt.recv() => hurry.store(true, Relaxed),
        }
    }
    Ok(())
}

/// A panic of a thread that owns calls, queues or the journal ends the process: half a node that looks
/// healthy loses callers, and a restart recovers from the journal. Plugins' threads may panic alone.
fn die_whole() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        if name.starts_with("shard")
            || name.starts_with("redirect")
            || matches!(name, "domain" | "journal" | "media" | "media-writer")
        {
            tracing::error!(
                thread = name,
                "a core thread has panicked; the process ends and is to be started again"
            );
            telemetry::flush(Duration::from_millis(500));
            std::process::abort();
        }
    }));
}

/// As many descriptors as the system allows: each media leg takes one or two.
fn descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid structure that outlives both calls, which only read and write it.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    tracing::info!(descriptors = limit.rlim_cur, raised, "open files");
}

pub(super) fn check(file: &Path, overrides: &Overrides) -> Result<()> {
    let config = config::load(file, overrides)?;
    let vetter =
        cordboard_plugin::Vetter::new(&cordboard_plugin::Limits::default()).map_err(anyhow::Error::msg)?;
    let mut wrong = Vec::new();
    for plugin in &config.plugins {
        let bytes = std::fs::read(&plugin.file).with_context(|| format!("{}", plugin.file.display()))?;
        if let Err(problems) = vetter.check(&bytes, plugin.expected_world()) {
            for problem in problems {
                wrong.push(format!(
                    "{}:{}: plugins `{}`: {}: {problem}",
                    file.display(),
                    plugin.line,
                    plugin.name,
                    plugin.file.display()
                ));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    let model = &config.model;
    println!(
        "{} is right: {} trunks, {} tenants, {} workgroups, {} agents, {} plugins",
        file.display(),
        model.trunks.len(),
        model.tenants.len(),
        model.tenants.iter().map(|t| t.workgroups.len()).sum::<usize>(),
        model.tenants.iter().map(|t| t.agents.len()).sum::<usize>(),
        config.plugins.len(),
    );
    Ok(())
}

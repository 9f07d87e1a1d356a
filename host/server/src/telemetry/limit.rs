//! Leaves out warnings that repeat: the same line of code, for the same plugin, more than a few times
//! a second, as when every call meets the same fault. How many were left out is told once a second.
//!
//! Asked by `tracing` for each event that the filter lets through; it decides about warnings and errors
//! alone, and never about what the program does.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::log::Counts;

/// Lines of one kind that pass in a window.
const BURST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);
/// Kinds that are watched at once; beyond that, lines pass.
const KINDS: usize = 1_024;
/// Of a line's message, for telling what was left out.
const TEXT: usize = 160;

#[derive(Debug)]
struct Window {
    began: Instant,
    passed: u32,
    left_out: u64,
    message: String,
    whose: String,
}

/// See the module. A clone shares the windows.
#[derive(Debug, Clone)]
pub struct Limiter {
    windows: Arc<Mutex<HashMap<u64, Window, BuildHasherDefault<DefaultHasher>>>>,
    counts: Arc<Counts>,
}

/// The message of an event, and whose fault it is about.
#[derive(Default)]
struct About {
    message: String,
    whose: String,
}

impl Visit for About {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = match field.name() {
            "message" => &mut self.message,
            "plugin" | "adapter" | "policy" | "trunk" => &mut self.whose,
            _ => return,
        };
        text.clear();
        let _ = write!(text, "{value:?}");
    }
}

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(TEXT) {
        text.truncate(at);
        text.push('…');
    }
    text
}

impl Limiter {
    /// Counts what it leaves out in `counts`.
    #[must_use]
    pub fn new(counts: Arc<Counts>) -> Self {
        Self { windows: Arc::default(), counts }
    }

    fn passes(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN {
            return true;
        }
        let mut about = About::default();
        event.record(&mut about);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = windows.hasher().hash_one((metadata.callsite(), &about.whose));
        if windows.len() >= KINDS && !windows.contains_key(&kind) {
            return true;
        }
        let window = windows.entry(kind).or_insert_with(|| Window {
            began: now,
            passed: 0,
            left_out: 0,
            message: String::new(),
            whose: String::new(),
        });
        // One that has ended and left lines out waits for `tell`, which comes within a second.
        if now.duration_since(window.began) >= WINDOW && window.left_out == 0 {
            (window.began, window.passed) = (now, 0);
        }
        if window.passed < BURST {
            window.passed += 1;
            return true;
        }
        if window.left_out == 0 {
            (window.message, window.whose) = (cut(about.message), cut(about.whose));
        }
        window.left_out += 1;
        self.counts.repeated.fetch_add(1, Relaxed);
        false
    }

    /// Tells what was left out in windows that have ended, and forgets them.
    pub fn tell(&self) {
        for window in self.ended(Instant::now()) {
            let Window { left_out, message, whose, .. } = window;
            tracing::warn!(left_out, %whose, like = %message, "repeated lines of the log were left out");
        }
    }

    /// Takes the windows that have ended; returns those that left something out.
    fn ended(&self, now: Instant) -> Vec<Window> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows
            .extract_if(|_, window| now.duration_since(window.began) >= WINDOW)
            .filter_map(|(_, window)| (window.left_out > 0).then_some(window))
            .collect()
    }
}

impl<S: Subscriber> Layer<S> for Limiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.passes(event, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tracing_subscriber::layer::SubscriberExt;

    struct Seen(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_fault_of_every_call_is_told_a_few_times_and_then_counted_by_plugin() {
        let (counts, seen) = (Arc::new(Counts::default()), Arc::new(AtomicUsize::new(0)));
        let limiter = Limiter::new(counts.clone());
        let subscriber = tracing_subscriber::registry().with(limiter.clone()).with(Seen(seen.clone()));
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..100 {
                for plugin in ["one", "two"] {
                    tracing::warn!(%plugin, "it failed");
                }
            }
            assert_eq!(seen.load(Relaxed), 2 * BURST as usize);
            assert_eq!(counts.repeated.load(Relaxed), 200 - 2 * u64::from(BURST));
            // What is no warning passes always.
            for _ in 0..100 {
                tracing::info!("a call");
            }
            assert_eq!(seen.load(Relaxed), 2 * BURST as usize + 100);
        });
        let mut ended = limiter.ended(Instant::now() + WINDOW);
        ended.sort_by(|a, b| a.whose.cmp(&b.whose));
        assert_eq!(ended.len(), 2);
        assert_eq!((&*ended[0].whose, &*ended[0].message, ended[0].left_out), ("one", "it failed", 90));
        assert!(limiter.ended(Instant::now() + WINDOW).is_empty());
    }

    #[test]
    fn a_new_second_is_a_new_beginning() {
        let (counts, seen) = (Arc::new(Counts::default()), Arc::new(AtomicUsize::new(0)));
        let limiter = Limiter::new(counts);
        let subscriber = tracing_subscriber::registry().with(limiter.clone()).with(Seen(seen.clone()));
        let warn = || tracing::warn!("again");
        tracing::subscriber::with_default(subscriber, || {
            (0..50).for_each(|_| warn());
            limiter.ended(Instant::now() + WINDOW);
            (0..50).for_each(|_| warn());
        });
        assert_eq!(seen.load(Relaxed), 2 * BURST as usize);
    }
}

//! What the API shows, as JSON, where it is not the core's own type.

use cordboard_base::Id;
use cordboard_call::facts::Record;
use cordboard_call::timeline::Line;
use serde::{Deserialize, Serialize};

/// One line of a timeline, with its number and what it is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineView {
    /// The step's number in the flow, 3 to 18; 0 for what comes after.
    pub step: u8,
    /// The step in words.
    pub title: String,
    /// Unix milliseconds.
    pub wall_ms: i64,
    /// Monotonic nanoseconds on the node that wrote it.
    pub mono_ns: u64,
    /// Milliseconds since the first line.
    pub after_ms: f64,
    /// Of the leg concerned.
    pub call_id: Option<String>,
    /// Of the request concerned.
    pub cseq: Option<u32>,
    /// Of the message on the bus that carried the step.
    pub bus_seq: Option<u64>,
    /// The place in the queue.
    pub ticket: Option<String>,
    /// The offer.
    pub token: Option<String>,
    /// For a person.
    pub detail: String,
}

impl LineView {
    /// A line, seen from the first one's time.
    #[must_use]
    pub fn new(line: &Line, first_ns: u64) -> Self {
        Self {
            step: line.step.number(),
            title: line.step.title().into(),
            wall_ms: line.wall_ms,
            mono_ns: line.mono_ns,
            after_ms: (line.mono_ns as f64 - first_ns as f64) / 1e6,
            call_id: line.call_id.as_deref().map(str::to_owned),
            cseq: line.cseq,
            bus_seq: line.bus_seq,
            ticket: line.ticket.map(|id: Id| id.to_string()),
            token: line.token.map(|id: Id| id.to_string()),
            detail: line.detail.clone().into_owned(),
        }
    }
}

/// A line of a live call, as it is streamed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveLine {
    /// Whose.
    pub interaction: String,
    /// The line. `after_ms` is 0: the watcher may have come late.
    pub line: LineView,
}

/// A call with its timeline, live or ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallDetail {
    /// Whether it is up.
    pub live: bool,
    /// The record; while the call is up, as far as it goes.
    #[serde(flatten)]
    pub record: Record,
    /// The timeline with numbers and words (the record's own `lines` are left empty).
    pub timeline: Vec<LineView>,
}

impl CallDetail {
    /// From a record.
    #[must_use]
    pub fn new(mut record: Record, live: bool) -> Self {
        let lines = std::mem::take(&mut record.lines);
        let first = lines.iter().map(|l| l.mono_ns).min().unwrap_or(0);
        Self { live, timeline: lines.iter().map(|l| LineView::new(l, first)).collect(), record }
    }
}

/// A list, in an object so that it can grow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
}

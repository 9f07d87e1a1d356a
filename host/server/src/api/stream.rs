//! Live timelines as server-sent events: a line as soon as it is durable.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State as Extract};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use cordboard_base::Id;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use super::calls::{find, parse_id};
use super::views::{LineView, LiveLine};
use super::{Problem, State};
use crate::shell::release::Watched;

/// Lines that wait for a slow reader.
const WAITING: usize = 256;

/// A receiver as a stream, without another crate for it.
struct Lines(mpsc::Receiver<Event>);

impl futures_core::Stream for Lines {
    type Item = Result<Event, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|event| event.map(Ok))
    }
}

fn sse(lines: mpsc::Receiver<Event>) -> impl IntoResponse {
    Sse::new(Lines(lines)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

fn json(name: &str, value: &impl serde::Serialize) -> Event {
    Event::default().event(name).data(serde_json::to_string(value).unwrap_or_default())
}

fn live(interaction: Id, line: &cordboard_call::timeline::Line) -> Event {
    json("line", &LiveLine { interaction: interaction.to_string(), line: LineView::new(line, line.mono_ns) })
}

/// All calls: `line` and `closed` events from now on.
pub(super) async fn all(Extract(shared): State) -> impl IntoResponse {
    let mut watch = shared.releaser.watch();
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            let event = match watch.recv().await {
                Ok(Watched::Line(interaction, line)) => live(interaction, &line),
                Ok(Watched::Closed(record)) => json(
                    "closed",
                    &serde_json::json!({ "interaction": record.interaction.to_string(), "end": record.end }),
                ),
                Err(RecvError::Lagged(missed)) => json("missed", &serde_json::json!({ "lines": missed })),
                Err(RecvError::Closed) => return,
            };
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    sse(receiver)
}

/// One call: the lines so far, then the live ones, and `closed` at the end.
pub(super) async fn of_call(
    Extract(shared): State,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let id = parse_id(&id)?;
    // First the subscription, then the look-up, so that no line falls between.
    let mut watch = shared.releaser.watch();
    let call = find(&shared, id).await?;
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut seen: Vec<(u64, String)> = Vec::new();
        for line in &call.timeline {
            seen.push((line.mono_ns, line.detail.clone()));
            if sender
                .send(json("line", &LiveLine { interaction: id.to_string(), line: line.clone() }))
                .await
                .is_err()
            {
                return;
            }
        }
        if !call.live {
            let _ = sender
                .send(json(
                    "closed",
                    &serde_json::json!({ "interaction": id.to_string(), "end": call.record.end }),
                ))
                .await;
            return;
        }
        loop {
            let (event, last) = match watch.recv().await {
                Ok(Watched::Line(of, line)) if of == id => {
                    if seen.iter().any(|(at, detail)| *at == line.mono_ns && *detail == line.detail) {
                        continue;
                    }
                    (live(of, &line), false)
                }
                Ok(Watched::Closed(record)) if record.interaction == id => (
                    json("closed", &serde_json::json!({ "interaction": id.to_string(), "end": record.end })),
                    true,
                ),
                Ok(_) => continue,
                Err(RecvError::Lagged(missed)) => {
                    (json("missed", &serde_json::json!({ "lines": missed })), false)
                }
                Err(RecvError::Closed) => return,
            };
            if sender.send(event).await.is_err() || last {
                return;
            }
        }
    });
    Ok(sse(receiver))
}

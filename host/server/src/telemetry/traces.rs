//! One span tree a call, exported as OTLP/HTTP with JSON (opentelemetry-proto 1.x): the call, its steps and
//! its offers, made from its record when it has closed, and what plugins were asked for it, as they answer.
//! A span's parent may reach the collector after it, as the protocol allows.
//!
//! Nothing on the path of a call waits for it: the export reads closed records from a broadcast, and
//! when the collector is slow, records are passed over and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cordboard_base::Id;
use cordboard_call::Name;
use cordboard_call::facts::Record;
use cordboard_call::timeline::Line;
use cordboard_net::Clock;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::hooks::{Hook, Hooks};
use crate::http::HttpClient;
use crate::shell::release::Watched;

/// The export of spans.
#[derive(Debug, Default)]
pub struct Exporter {
    /// Spans that the collector has taken.
    pub exported: AtomicU64,
    /// Spans that it has not: it was slow, away, or refused; and closed calls that were passed over.
    pub lost: AtomicU64,
}

/// Spans in one request, but for those of the call that comes last.
const BATCH: usize = 1_024;

impl Exporter {
    /// Exports every closed call to the collector at `url`, and what is noted by the hooks.
    #[must_use]
    pub fn start(
        url: &str,
        node: &Name,
        runtime: &tokio::runtime::Handle,
        watch: broadcast::Receiver<Watched>,
        clock: Clock,
    ) -> (Arc<Self>, Hooks) {
        let me = Arc::new(Self::default());
        let url = format!("{url}/v1/traces");
        let client = HttpClient::new(runtime.clone());
        let (hooks, noted) = Hooks::new(clock);
        runtime.spawn(me.clone().run(url, node.clone(), client, watch, noted));
        (me, hooks)
    }

    async fn run(
        self: Arc<Self>,
        url: String,
        node: Name,
        client: HttpClient,
        mut watch: broadcast::Receiver<Watched>,
        mut noted: mpsc::Receiver<Hook>,
    ) {
        let headers = [("content-type".to_owned(), "application/json".to_owned())];
        let (mut failing, mut hooks_so_far) = (false, 0);
        loop {
            let mut spans = Vec::new();
            let deadline = tokio::time::sleep(Duration::from_secs(3600));
            tokio::pin!(deadline);
            while spans.len() < BATCH {
                let first = spans.is_empty();
                tokio::select! {
                    watched = watch.recv() => match watched {
                        Ok(Watched::Closed(record)) => spans.extend(spans_of(&record)),
                        Ok(Watched::Line(..)) => {}
                        Err(RecvError::Lagged(missed)) => {
                            self.lost.fetch_add(missed, Relaxed);
                        }
                        Err(RecvError::Closed) => return,
                    },
                    Some(hook) = noted.recv() => {
                        hooks_so_far += 1;
                        spans.push(span_of(&hook, hooks_so_far));
                    }
                    () = &mut deadline => break,
                }
                if first && !spans.is_empty() {
                    deadline.as_mut().reset(tokio::time::Instant::now() + Duration::from_secs(1));
                }
            }
            if spans.is_empty() {
                continue;
            }
            let count = spans.len() as u64;
            let body = serde_json::to_vec(&request(&node, &spans)).unwrap_or_default();
            let answer = client.exchange("POST", &url, &headers, body, Duration::from_secs(10)).await;
            let (lost, why) = match answer {
                Ok(response) if response.status < 300 => {
                    (rejected(&response.body).min(count), "the collector refuses some".to_owned())
                }
                Ok(response) => (count, format!("the collector answers {}", response.status)),
                Err(error) => (count, format!("{error:?}")),
            };
            if lost > 0 && !failing {
                tracing::warn!(url, lost, why, "spans cannot be exported");
            }
            failing = lost > 0;
            self.exported.fetch_add(count - lost, Relaxed);
            self.lost.fetch_add(lost, Relaxed);
        }
    }
}

/// How many spans a collector that answered 200 has refused all the same (`ExportTracePartialSuccess`).
fn rejected(body: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let count = &answer["partialSuccess"]["rejectedSpans"];
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

/// A question to a plugin, below its call.
fn span_of(hook: &Hook, number: u64) -> Value {
    let length_ns = hook.ended.mono_ns.saturating_sub(hook.began.mono_ns);
    let began = hook.began.wall_ms.max(0) as u64 * 1_000_000 + hook.began.mono_ns % 1_000_000;
    let (code, message) = match &hook.outcome {
        Ok(_) => (1, ""),
        Err(why) => (2, &**why),
    };
    let outcome = match &hook.outcome {
        Ok(outcome) | Err(outcome) => outcome,
    };
    json!({
        "traceId": trace(hook.interaction), "spanId": span_id(hook.interaction, (1 << 32) + number),
        "parentSpanId": span_id(hook.interaction, 0), "name": format!("plugin {}", hook.hook), "kind": 1,
        "startTimeUnixNano": began.to_string(), "endTimeUnixNano": (began + length_ns).to_string(),
        "status": { "code": code, "message": message },
        "attributes": [
            text("cordboard.plugin", &hook.plugin), text("cordboard.hook", hook.hook), text("cordboard.outcome", outcome),
        ],
    })
}

fn request(node: &Name, spans: &[Value]) -> Value {
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", "cordboard"), text("service.instance.id", node)] },
        "scopeSpans": [{ "scope": { "name": "cordboard", "version": env!("CARGO_PKG_VERSION") }, "spans": spans }],
    }]})
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn nanos(wall_ms: i64) -> String {
    (wall_ms.max(0) as u64 * 1_000_000).to_string()
}

/// The 16 bytes of an interaction are its trace; a span's 8 bytes are a hash of what it is about.
fn trace(id: Id) -> String {
    format!("{:032x}", id.0.max(1))
}

fn span_id(interaction: Id, part: u64) -> String {
    let mut z =
        (interaction.0 as u64) ^ ((interaction.0 >> 64) as u64) ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:016x}", (z ^ (z >> 31)).max(1))
}

/// A line's wall time with the precision of the monotonic clock.
fn at(line: &Line, first: &Line) -> String {
    let ns = first.wall_ms.max(0) as i128 * 1_000_000 + (line.mono_ns as i128 - first.mono_ns as i128);
    ns.max(0).to_string()
}

/// The tree: the call, below it each step (until the next one begins) and each offer.
#[must_use]
pub fn spans_of(record: &Record) -> Vec<Value> {
    let root = span_id(record.interaction, 0);
    let trace_id = trace(record.interaction);
    let failed = record.end.by == "host";
    let mut spans = vec![json!({
        "traceId": trace_id, "spanId": root, "name": "call", "kind": 2,
        "startTimeUnixNano": nanos(record.began_ms), "endTimeUnixNano": nanos(record.ended_ms.max(record.began_ms)),
        "status": { "code": if failed { 2 } else { 1 }, "message": record.end.text },
        "attributes": [
            text("cordboard.interaction", &record.interaction.to_string()), text("cordboard.tenant", &record.tenant),
            text("cordboard.trunk", &record.trunk), text("cordboard.called", &record.called),
            text("cordboard.workgroup", &record.workgroup), text("cordboard.agent", &record.agent),
            text("sip.call_id", &record.call_id), text("cordboard.ended_by", &record.end.by),
            json!({ "key": "cordboard.cause", "value": { "intValue": record.end.cause.to_string() } }),
        ],
    })];
    if let Some(first) = record.lines.first() {
        for (i, line) in record.lines.iter().enumerate() {
            let end = record.lines.get(i + 1).filter(|next| next.mono_ns > line.mono_ns).unwrap_or(line);
            let mut attributes = vec![
                text("cordboard.step", &line.step.number().to_string()),
                text("cordboard.detail", &line.detail),
            ];
            attributes.extend(line.call_id.as_ref().map(|id| text("sip.call_id", id)));
            attributes.extend(line.ticket.map(|id| text("cordboard.ticket", &id.to_string())));
            attributes.extend(line.token.map(|id| text("cordboard.token", &id.to_string())));
            spans.push(json!({
                "traceId": trace_id, "spanId": span_id(record.interaction, i as u64 + 1), "parentSpanId": root,
                "name": line.step.title(), "kind": 1,
                "startTimeUnixNano": at(line, first), "endTimeUnixNano": at(end, first), "attributes": attributes,
            }));
        }
    }
    for (i, offer) in record.offers.iter().enumerate() {
        let length = (offer.rang_ms + offer.talked_ms) as i64;
        spans.push(json!({
            "traceId": trace_id, "spanId": span_id(record.interaction, i as u64 + 1_000_000), "parentSpanId": root,
            "name": "offer", "kind": 3,
            "startTimeUnixNano": nanos(offer.offered_ms), "endTimeUnixNano": nanos(offer.offered_ms + length),
            "attributes": [
                text("cordboard.agent", &offer.agent), text("cordboard.token", &offer.token.to_string()),
                text("cordboard.result", &cordboard_store::records::result_name(offer.result.as_ref())),
            ],
        }));
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordboard_call::messages::CallEnded;
    use cordboard_call::timeline::Step;

    #[test]
    fn a_call_is_one_tree_whose_spans_lie_within_it() {
        let line = |step, mono_ns| Line {
            step,
            mono_ns,
            wall_ms: 1_000,
            call_id: Some("x".into()),
            cseq: None,
            bus_seq: None,
            ticket: None,
            token: None,
            detail: "d".into(),
        };
        let record = Record {
            interaction: Id(7 << 80 | 9),
            tenant: "t".into(),
            trunk: "k".into(),
            caller: "1".into(),
            called: "2".into(),
            call_id: "x".into(),
            began_ms: 1_000,
            ended_ms: 2_000,
            end: CallEnded {
                cause: 16,
                by: "caller".into(),
                text: "".into(),
                status: 200,
                answered: true,
                duration_ms: 1_000,
                recordings: vec![],
            },
            attributes: vec![],
            offers: vec![],
            workgroup: "w".into(),
            agent: String::new(),
            waited_ms: 0,
            talked_ms: 0,
            estimate_ms: None,
            lines: vec![line(Step::NewCall, 5_000_000).into(), line(Step::CtiTold, 6_500_000).into()],
        };
        let spans = spans_of(&record);
        assert_eq!(spans.len(), 3);
        let ids: std::collections::BTreeSet<_> = spans.iter().map(|s| s["spanId"].to_string()).collect();
        assert_eq!(ids.len(), 3);
        for span in &spans[1..] {
            assert_eq!(span["parentSpanId"], spans[0]["spanId"]);
            assert_eq!(span["traceId"], spans[0]["traceId"]);
        }
        assert_eq!(spans[1]["startTimeUnixNano"], "1000000000");
        assert_eq!(spans[1]["endTimeUnixNano"], "1001500000");
    }
}

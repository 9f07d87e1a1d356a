//! One span tree a call, made from its timeline when it has closed, exported as OTLP/HTTP with JSON
//! (opentelemetry-proto 1.x).
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
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::http::HttpClient;
use crate::shell::release::Watched;

/// The export of spans.
#[derive(Debug, Default)]
pub struct Exporter {
    /// Calls exported.
    pub exported: AtomicU64,
    /// Calls that were not: the collector was slow, away, or refused.
    pub lost: AtomicU64,
}

/// Calls in one request.
const BATCH: usize = 64;

impl Exporter {
    /// Exports every closed call to the collector at `url`.
    #[must_use]
    pub fn start(
        url: &str,
        node: &Name,
        runtime: &tokio::runtime::Handle,
        watch: broadcast::Receiver<Watched>,
    ) -> Arc<Self> {
        let me = Arc::new(Self::default());
        let url = format!("{url}/v1/traces");
        let client = HttpClient::new(runtime.clone());
        runtime.spawn(me.clone().run(url, node.clone(), client, watch));
        me
    }

    async fn run(
        self: Arc<Self>,
        url: String,
        node: Name,
        client: HttpClient,
        mut watch: broadcast::Receiver<Watched>,
    ) {
        let headers = [("content-type".to_owned(), "application/json".to_owned())];
        let mut failing = false;
        loop {
            let mut spans = Vec::new();
            let mut calls = 0;
            let deadline = tokio::time::sleep(Duration::from_secs(3600));
            tokio::pin!(deadline);
            loop {
                tokio::select! {
                    watched = watch.recv() => match watched {
                        Ok(Watched::Closed(record)) => {
                            spans.extend(spans_of(&record));
                            calls += 1;
                            if calls == 1 {
                                deadline.as_mut().reset(tokio::time::Instant::now() + Duration::from_secs(1));
                            }
                            if calls == BATCH {
                                break;
                            }
                        }
                        Ok(Watched::Line(..)) => {}
                        Err(RecvError::Lagged(missed)) => drop(self.lost.fetch_add(missed, Relaxed)),
                        Err(RecvError::Closed) => return,
                    },
                    () = &mut deadline => break,
                }
            }
            if calls == 0 {
                continue;
            }
            let body = serde_json::to_vec(&request(&node, &spans)).unwrap_or_default();
            let answer = client.exchange("POST", &url, &headers, body, Duration::from_secs(10)).await;
            match answer {
                Ok(response) if response.status < 300 => {
                    failing = false;
                    self.exported.fetch_add(calls as u64, Relaxed);
                }
                other => {
                    self.lost.fetch_add(calls as u64, Relaxed);
                    if !failing {
                        failing = true;
                        tracing::warn!(url, answer = ?other.map(|r| r.status), "spans cannot be exported");
                    }
                }
            }
        }
    }
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
            lines: vec![line(Step::NewCall, 5_000_000), line(Step::CtiTold, 6_500_000)],
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

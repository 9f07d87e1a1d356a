//! Detail records: listed, shown and exported.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State as Extract};
use axum::http::header;
use axum::response::IntoResponse;
use cordboard_store::Filter;
use serde::Deserialize;

use super::calls::parse_id;
use super::views::{CallDetail, List};
use super::{Problem, State};

/// The query of `records`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    tenant: Option<String>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    caller: Option<String>,
    called: Option<String>,
    workgroup: Option<String>,
    agent: Option<String>,
    cause: Option<u8>,
    before_row: Option<i64>,
    limit: Option<u32>,
    format: Option<String>,
}

impl Wanted {
    fn filter(self, limit: u32) -> Filter {
        Filter {
            tenant: self.tenant,
            since_ms: self.since_ms,
            until_ms: self.until_ms,
            caller: self.caller,
            called: self.called,
            workgroup: self.workgroup,
            agent: self.agent,
            cause: self.cause,
            before_row: self.before_row,
            limit,
        }
    }
}

type Asked = Result<Query<Wanted>, axum::extract::rejection::QueryRejection>;

fn wanted(query: Asked) -> Result<Wanted, Problem> {
    query
        .map(|Query(wanted)| wanted)
        .map_err(|e| Problem::new(400, format!("the query is not what was expected: {}", e.body_text())))
}

pub(super) async fn list(Extract(shared): State, query: Asked) -> Result<impl IntoResponse, Problem> {
    let wanted = wanted(query)?;
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=10_000).contains(&limit) {
        return Err(Problem::new(400, "`limit` is 1 to 10,000"));
    }
    let filter = wanted.filter(limit);
    let items = shared.with_records(move |records| records.list(&filter)).await?;
    Ok(Json(List { items }))
}

pub(super) async fn one(
    Extract(shared): State,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let id = parse_id(&id)?;
    let found = shared.with_records(move |records| records.get(id)).await?;
    found.map(|record| Json(CallDetail::new(record, false))).ok_or_else(|| {
        Problem::new(404, format!("there is no record of {id}; a live call is under /v1/calls"))
    })
}

/// A writer whose bytes go out as the body, with back-pressure.
struct Out(tokio::sync::mpsc::Sender<Result<bytes::Bytes, std::io::Error>>);

impl std::io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .blocking_send(Ok(bytes::Bytes::copy_from_slice(bytes)))
            .map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Chunks(tokio::sync::mpsc::Receiver<Result<bytes::Bytes, std::io::Error>>);

impl futures_core::Stream for Chunks {
    type Item = Result<bytes::Bytes, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

pub(super) async fn export(Extract(shared): State, query: Asked) -> Result<impl IntoResponse, Problem> {
    let wanted = wanted(query)?;
    let (csv, kind) = match wanted.format.as_deref().unwrap_or("csv") {
        "csv" => (true, "text/csv; charset=utf-8"),
        "jsonl" => (false, "application/jsonl"),
        other => return Err(Problem::new(400, format!("`format` is `csv` or `jsonl`, not {other:?}"))),
    };
    let limit = wanted.limit.unwrap_or(0);
    let filter = wanted.filter(limit);
    let path = shared.store_path();
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        let mut out = std::io::BufWriter::with_capacity(64 << 10, Out(sender.clone()));
        let done = cordboard_store::Records::open(&path).and_then(|records| {
            if csv {
                records.export_csv(&filter, &mut out)
            } else {
                records.export_json_lines(&filter, &mut out)
            }
        });
        let flushed = std::io::Write::flush(&mut out);
        if let Err(error) = done {
            // The head is sent: cutting the body off is the only way to say that it is not whole.
            let _ = sender.blocking_send(Err(std::io::Error::other(error.to_string())));
        } else if let Err(error) = flushed {
            let _ = sender.blocking_send(Err(error));
        }
    });
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(Chunks(receiver))))
}

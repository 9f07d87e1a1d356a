//! Who is shut out by the gate, and letting them in again.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::response::IntoResponse;
use serde_json::json;

use super::{Problem, State};

pub(super) async fn list(Extract(shared): State) -> impl IntoResponse {
    let bans: Vec<_> = shared
        .gate
        .bans(shared.clock.now())
        .iter()
        .map(|b| json!({ "source": b.source.to_string(), "until_ms": b.until_wall_ms, "times": b.times }))
        .collect();
    Json(json!({ "items": bans }))
}

pub(super) async fn lift(
    Extract(shared): State,
    Path(source): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let address: IpAddr = source
        .split('/')
        .next()
        .unwrap_or_default()
        .parse()
        .map_err(|_| Problem::new(400, format!("{source:?} is not an IP address")))?;
    if !shared.gate.unban(shared.clock.now(), address) {
        return Err(Problem::new(404, format!("{address} is not banned; GET /v1/bans lists who is")));
    }
    tracing::info!(%address, "a ban is lifted");
    Ok(Json(json!({ "done": true })))
}

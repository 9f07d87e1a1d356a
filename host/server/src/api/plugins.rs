//! Plugins in service, new versions, and what adapters have given up.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State as Extract};
use axum::response::IntoResponse;
use cordboard_store::Outbox;
use serde::Deserialize;

use super::views::List;
use super::{Problem, State};

pub(super) async fn list(Extract(shared): State) -> impl IntoResponse {
    Json(List { items: shared.registry.list() })
}

/// The body is the component. It takes settings, grants and manifest of the configured plugin.
pub(super) async fn load(
    Extract(shared): State,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<impl IntoResponse, Problem> {
    if body.is_empty() {
        return Err(Problem::new(400, "the body is empty; expected a WebAssembly component"));
    }
    let loaded = tokio::task::spawn_blocking(move || shared.install(&name, &body)).await;
    let version = loaded.map_err(|_| Problem::new(500, "the installation ended early"))??;
    Ok(Json(version))
}

pub(super) async fn roll_back(
    Extract(shared): State,
    Path(name): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let back = tokio::task::spawn_blocking(move || shared.registry.roll_back(&name)).await;
    let version = back
        .map_err(|_| Problem::new(500, "the roll-back ended early"))?
        .map_err(|e| Problem::new(409, e.to_string()))?;
    Ok(Json(serde_json::json!({ "digest": version.digest().to_string() })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limit {
    limit: Option<usize>,
}

pub(super) async fn dead_letters(
    Extract(shared): State,
    query: Query<Limit>,
) -> Result<impl IntoResponse, Problem> {
    let limit = query.limit.unwrap_or(100).clamp(1, 10_000);
    let path = shared.store_path();
    let found = tokio::task::spawn_blocking(move || Outbox::open(&path)?.dead_letters(limit)).await;
    let items = found
        .map_err(|_| Problem::new(500, "the look-up ended early"))?
        .map_err(|e| Problem::new(500, e.to_string()))?;
    Ok(Json(List { items }))
}

pub(super) async fn forget(
    Extract(shared): State,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let id: i64 =
        id.parse().map_err(|_| Problem::new(400, format!("{id:?} is not the number of a dead letter")))?;
    shared.journal.forget(id);
    Ok(Json(serde_json::json!({ "done": true })))
}

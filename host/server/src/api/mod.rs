//! The admin API: what operators and desktops may see and do, over HTTP with bearer tokens.
//!
//! Every route stands in [`openapi::ROUTES`], from which the OpenAPI document is made. Nothing here
//! decides anything: questions go to the domain and come back when what they changed is durable.

mod auth;
mod bans;
mod calls;
mod metrics;
pub mod openapi;
mod plugins;
mod problem;
mod records;
mod sip;
mod stream;
pub mod views;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router, middleware};

pub use self::problem::Problem;
use crate::node::Shared;

/// What every handler gets.
pub type State = axum::extract::State<Arc<Shared>>;

/// The router of the whole API.
pub fn router(shared: Arc<Shared>) -> Router {
    let open = Router::new().route("/v1/healthz", get(healthz)).route("/openapi.json", get(document));
    let guarded = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route("/v1/node", get(node))
        .route("/v1/reload", post(reload))
        .route("/v1/drain", post(drain))
        .route("/v1/calls", get(calls::list))
        .route("/v1/calls/{id}", get(calls::one))
        .route("/v1/calls/{id}/events", get(stream::of_call))
        .route("/v1/calls/{id}/clear", post(calls::clear))
        .route("/v1/calls/{id}/hold", post(calls::hold))
        .route("/v1/calls/{id}/retrieve", post(calls::retrieve))
        .route("/v1/calls/{id}/sip", get(sip::list))
        .route("/v1/calls/{id}/pcap", get(sip::pcap))
        .route("/v1/timeline", get(stream::all))
        .route("/v1/agents", get(calls::agents))
        .route("/v1/agents/{tenant}/{agent}/{action}", post(calls::agent))
        .route("/v1/queues", get(calls::queues))
        .route("/v1/trunks", get(calls::trunks))
        .route("/v1/records", get(records::list))
        .route("/v1/records/export", get(records::export))
        .route("/v1/records/{id}", get(records::one))
        .route("/v1/plugins", get(plugins::list))
        .route("/v1/plugins/{name}", put(plugins::load).layer(DefaultBodyLimit::max(128 << 20)))
        .route("/v1/plugins/{name}/roll-back", post(plugins::roll_back))
        .route("/v1/bans", get(bans::list))
        .route("/v1/bans/{source}", delete(bans::lift))
        .route("/v1/dead-letters", get(plugins::dead_letters))
        .route("/v1/dead-letters/{id}", delete(plugins::forget))
        .route_layer(middleware::from_fn_with_state(shared.clone(), auth::check));
    open.merge(guarded)
        .fallback(|| async { Problem::new(404, "there is no such path; GET /openapi.json lists them") })
        .method_not_allowed_fallback(|| async {
            Problem::new(405, "the path is right, the method is not; GET /openapi.json lists them")
        })
        .layer(middleware::map_response(problem::from_plain))
        .with_state(shared)
}

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    shared: Arc<Shared>,
) -> std::io::Result<(SocketAddr, impl Future<Output = ()>)> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let app = router(shared);
    Ok((bound, async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the admin API ended");
        }
    }))
}

async fn document() -> impl IntoResponse {
    Json(openapi::document())
}

async fn healthz(axum::extract::State(shared): State) -> impl IntoResponse {
    let health = shared.health();
    let status = if health.ok { 200 } else { 503 };
    (axum::http::StatusCode::from_u16(status).unwrap_or_default(), Json(health))
}

async fn node(axum::extract::State(shared): State) -> impl IntoResponse {
    Json(shared.about())
}

async fn reload(axum::extract::State(shared): State) -> Result<impl IntoResponse, Problem> {
    let result = tokio::task::spawn_blocking(move || shared.reload())
        .await
        .map_err(|_| Problem::new(500, "the reload ended early"))?;
    match result {
        Ok(reloaded) => Ok(Json(reloaded)),
        Err(why) => Err(Problem::new(422, why.to_string())),
    }
}

async fn drain(axum::extract::State(shared): State) -> impl IntoResponse {
    shared.drain();
    Json(shared.about())
}

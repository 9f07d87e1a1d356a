//! Calls, agents and queues: questions and commands to the domain.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::response::IntoResponse;
use cordboard_base::Id;
use cordboard_call::commands::{Command, Reply};
use cordboard_call::messages::CallCommand;
use serde::Deserialize;

use super::views::{CallDetail, List};
use super::{Problem, State};
use crate::node::Shared;

/// The identifier of a call.
pub(super) fn parse_id(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|e| Problem::new(400, format!("{text:?} is {e}")))
}

fn refused(reply: Reply) -> Problem {
    match reply {
        Reply::Error { status, text } => Problem::new(status, text),
        other => Problem::new(500, format!("the domain answered something else: {other:?}")),
    }
}

pub(super) async fn list(Extract(shared): State) -> Result<impl IntoResponse, Problem> {
    match shared.ask(Command::Calls).await {
        Reply::Calls(items) => Ok(Json(List { items })),
        other => Err(refused(other)),
    }
}

/// A live call from the domain, one that has ended from the store.
pub(super) async fn find(shared: &Shared, id: Id) -> Result<CallDetail, Problem> {
    match shared.ask(Command::Call { interaction: id }).await {
        Reply::Call(record) => Ok(CallDetail::new(*record, true)),
        Reply::Error { status: 404, text } => {
            let found = shared.with_records(move |records| records.get(id)).await?;
            found.map(|record| CallDetail::new(record, false)).ok_or_else(|| Problem::new(404, text))
        }
        other => Err(refused(other)),
    }
}

pub(super) async fn one(
    Extract(shared): State,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    find(&shared, parse_id(&id)?).await.map(Json)
}

async fn control(
    shared: &Shared,
    id: &str,
    command: CallCommand,
) -> Result<Json<serde_json::Value>, Problem> {
    match shared.ask(Command::Control { interaction: parse_id(id)?, command }).await {
        Reply::Done => Ok(Json(serde_json::json!({ "done": true }))),
        other => Err(refused(other)),
    }
}

pub(super) async fn clear(
    Extract(shared): State,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    control(&shared, &id, CallCommand::Clear { cause: 16 }).await
}

pub(super) async fn hold(
    Extract(shared): State,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    control(&shared, &id, CallCommand::Hold).await
}

pub(super) async fn retrieve(
    Extract(shared): State,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    control(&shared, &id, CallCommand::Retrieve).await
}

pub(super) async fn agents(Extract(shared): State) -> Result<impl IntoResponse, Problem> {
    match shared.ask(Command::Agents).await {
        Reply::Agents(items) => Ok(Json(List { items })),
        other => Err(refused(other)),
    }
}

pub(super) async fn queues(Extract(shared): State) -> Result<impl IntoResponse, Problem> {
    match shared.ask(Command::Queues).await {
        Reply::Queues(items) => Ok(Json(List { items })),
        other => Err(refused(other)),
    }
}

pub(super) async fn trunks(Extract(shared): State) -> impl IntoResponse {
    let items = shared.centre.as_ref().map_or_else(Vec::new, |centre| centre.shard_view.trunks());
    Json(List { items })
}

/// The body of an agent's action; all of it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wish {
    /// For `login`: ready at once (the default).
    ready: Option<bool>,
    /// For `not-ready`.
    reason: String,
}

pub(super) async fn agent(
    Extract(shared): State,
    Path((tenant, agent, action)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<impl IntoResponse, Problem> {
    let wish: Wish = if body.is_empty() {
        Wish::default()
    } else {
        serde_json::from_slice(&body).map_err(|e| {
            Problem::new(
                400,
                format!("the body is not what was expected, an object with `ready` or `reason`: {e}"),
            )
        })?
    };
    if wish.reason.len() > 128 {
        return Err(Problem::new(400, "a reason has at most 128 bytes"));
    }
    let command = match &*action {
        "login" => Command::LogIn { tenant, agent, ready: wish.ready.unwrap_or(true) },
        "logout" => Command::LogOut { tenant, agent },
        "ready" => Command::SetReady { tenant, agent, ready: true, reason: String::new() },
        "not-ready" => Command::SetReady { tenant, agent, ready: false, reason: wish.reason },
        other => {
            return Err(Problem::new(
                404,
                format!("an agent has no action {other:?}; there is login, logout, ready, not-ready"),
            ));
        }
    };
    match shared.ask(command).await {
        Reply::Done => Ok(Json(serde_json::json!({ "done": true }))),
        other => Err(refused(other)),
    }
}

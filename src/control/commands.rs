//! What changes something: `POST /v1/drain` and `POST /v1/resume`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use tokio::sync::oneshot;

use super::access::Caller;
use super::problem::{Refused, bad_request, conflict, forbidden, internal, unavailable};
use super::server::{Command, Context, Peer, Reply};
use super::{ADMIN_GROUP, Draining, LogLevel, Problem, Resuming, orders};

#[utoipa::path(
    post,
    path = "/v1/drain",
    operation_id = "drain",
    tag = "station",
    responses(
        (status = 200, description = "New units are refused", body = Draining),
        (status = 400, description = "The body is not what it should be", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The caller may not change anything", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not now: the sentence says why", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn drain(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Draining>, Refused> {
    command(&context, caller, |peer, reply| Command::Drain { peer, reply }).await?;
    Ok(Json(Draining { draining: true }))
}

#[utoipa::path(
    post,
    path = "/v1/resume",
    operation_id = "resume",
    tag = "station",
    request_body(content = Option<Resuming>),
    responses(
        (status = 200, description = "New units are taken", body = Draining),
        (status = 400, description = "The body is not what it should be", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The caller may not change anything", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not now: the sentence says why", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<Draining>, Refused> {
    let body = if body.trim_ascii().is_empty() { b"{}".as_slice() } else { &body };
    let wanted: Resuming = orders::read(body)?;
    if wanted.clock {
        orders::override_clock(&context, caller, wanted.reason).await?;
    }
    command(&context, caller, |peer, reply| Command::Resume { peer, reply }).await?;
    Ok(Json(Draining { draining: false }))
}

#[utoipa::path(
    put,
    path = "/v1/log-level",
    operation_id = "putLogLevel",
    tag = "station",
    request_body(content = LogLevel),
    responses(
        (status = 200, description = "It is logged from that level on", body = LogLevel),
        (status = 400, description = "The body is not what it should be", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The caller may not change anything", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not now: the sentence says why", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn log_level(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<LogLevel>, Refused> {
    let wanted: LogLevel = orders::read(&body)
        .map_err(|it| it.with_hint("it is a JSON object such as {\"level\": \"debug\"}"))?;
    let level = wanted.level.clone();
    let done = command(&context, caller, |peer, reply| Command::LogLevel { peer, level, reply }).await;
    done.map_err(|refused| if refused.status == 409 { bad_request(refused.detail) } else { refused })?;
    Ok(Json(wanted))
}

/// Hands a command to the station, if the caller may, and waits until it is done.
async fn command(
    context: &Context,
    caller: Caller,
    make: impl FnOnce(Peer, Reply) -> Command,
) -> Result<(), Refused> {
    let peer = authorize(context, caller).await?;
    let (reply, answer) = oneshot::channel();
    context.commands.send(make(peer, reply)).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?.map_err(conflict)
}

pub(super) fn stopping() -> Refused {
    unavailable("the station is stopping")
}

pub(super) async fn authorize(context: &Context, caller: Caller) -> Result<Peer, Refused> {
    let access = context.access.clone();
    let judged = tokio::task::spawn_blocking(move || access.judge(caller)).await;
    let (peer, may) = judged.map_err(|error| internal("find out who is calling", &error))?;
    if may {
        return Ok(peer);
    }
    tracing::warn!(uid = peer.uid, name = peer.name, "a command was refused");
    let detail = format!("{} may not change anything at this station", peer.name);
    Err(forbidden(detail).with_hint(format!("run it as root or as a member of the group {ADMIN_GROUP}")))
}

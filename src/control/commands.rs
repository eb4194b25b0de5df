//! What changes the station as a whole: `POST /v1/drain`, `POST /v1/resume` and `PUT /v1/log-level`. The answer
//! comes when it is done and on disk.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};

use super::access::Caller;
use super::problem::{Refused, bad_request, forbidden, internal, unavailable};
use super::server::{Command, Context, Peer};
use super::{ADMIN_GROUP, Draining, LogLevel, Problem, Resuming, Telling, orders};
use crate::device::operator::{StationOrder, known_level};

#[utoipa::path(
    post,
    path = "/v1/drain",
    operation_id = "drain",
    tag = "station",
    request_body(content = Option<Telling>),
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
    body: Bytes,
) -> Result<Json<Draining>, Refused> {
    let wanted: Telling = orders::read(orders::or_empty(&body))?;
    command(&context, caller, (StationOrder::Drain, wanted.reason)).await?;
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
    let wanted: Resuming = orders::read(orders::or_empty(&body))?;
    if wanted.clock {
        orders::override_clock(&context, caller.clone(), wanted.reason.clone()).await?;
    }
    command(&context, caller, (StationOrder::Resume, wanted.reason)).await?;
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
    // What is no level is nobody's order: it gets neither to the station nor into its log.
    known_level(&wanted.level).map_err(bad_request)?;
    let order = (StationOrder::LogLevel(wanted.level.clone()), wanted.reason.clone());
    let done = command(&context, caller, order).await;
    done.map_err(|refused| if refused.status == 409 { bad_request(refused.detail) } else { refused })?;
    Ok(Json(wanted))
}

/// Hands an order to the station, if the caller may give it, and waits until it is done.
async fn command(
    context: &Context,
    caller: Caller,
    (order, reason): (StationOrder, Option<String>),
) -> Result<(), Refused> {
    let by = orders::who(context, caller, reason).await?;
    orders::carry_out(context, |reply| Command::Station { order, by, reply }).await
}

pub(super) fn stopping() -> Refused {
    unavailable("the station is stopping")
}

pub(super) async fn authorize(context: &Context, caller: Caller) -> Result<Peer, Refused> {
    let access = context.access.clone();
    let judged = tokio::task::spawn_blocking(move || access.judge(&caller)).await;
    let (peer, may) = judged.map_err(|error| internal("find out who is calling", &error))?;
    if may {
        return Ok(peer);
    }
    tracing::warn!(uid = peer.uid, name = peer.name, "a command was refused");
    let detail = format!("{} may not change anything at this station", peer.name);
    Err(forbidden(detail).with_hint(format!("run it as root or as a member of the group {ADMIN_GROUP}")))
}

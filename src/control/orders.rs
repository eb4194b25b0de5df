//! What is done with one device: `POST /v1/devices/{serial}/retry`, `release` and `scrap`; and the
//! override of the clock. The answer comes when the order is carried out and on disk.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::access::Caller;
use super::commands::{authorize, stopping};
use super::devices::one;
use super::problem::{Refused, bad_request, conflict, not_found};
use super::server::{Command, Context, OrderReply};
use super::{Device, Problem, Reason, query};
use crate::device::operator::{MAX_REASON_LEN, Operator, Order, Refusal};

type SerialPath = Result<Path<String>, PathRejection>;

#[utoipa::path(
    post,
    path = "/v1/devices/{serial}/retry",
    operation_id = "retryDevice",
    tag = "devices",
    params(("serial" = String, Path, description = "Its serial number, to the letter", pattern = "^[!-~]{1,128}$")),
    request_body(content = Reason),
    responses(
        (status = 200, description = "Its next try is made now", body = Device),
        (status = 400, description = "The body is not what it should be", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The caller may not change anything", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This station does not know the device", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not now: the sentence says why", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retry(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    path: SerialPath,
    body: Bytes,
) -> Result<Json<Device>, Refused> {
    order(&context, caller, (Order::Retry, path), &body).await
}

#[utoipa::path(
    post,
    path = "/v1/devices/{serial}/release",
    operation_id = "releaseDevice",
    tag = "devices",
    params(("serial" = String, Path, description = "Its serial number, to the letter", pattern = "^[!-~]{1,128}$")),
    request_body(content = Reason),
    responses(
        (status = 200, description = "It is out of quarantine", body = Device),
        (status = 400, description = "The body is not what it should be", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The caller may not change anything", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This station does not know the device", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not now: the sentence says why", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn release(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    path: SerialPath,
    body: Bytes,
) -> Result<Json<Device>, Refused> {
    order(&context, caller, (Order::Release, path), &body).await
}

#[utoipa::path(
    post,
    path = "/v1/devices/{serial}/scrap",
    operation_id = "scrapDevice",
    tag = "devices",
    params(("serial" = String, Path, description = "Its serial number, to the letter", pattern = "^[!-~]{1,128}$")),
    request_body(content = Reason),
    responses(
        (status = 200, description = "What it has in the cloud is deleted from now on", body = Device),
        (status = 400, description = "The body is not what it should be", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The caller may not change anything", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This station does not know the device", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not now: the sentence says why", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn scrap(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    path: SerialPath,
    body: Bytes,
) -> Result<Json<Device>, Refused> {
    order(&context, caller, (Order::Scrap, path), &body).await
}

#[utoipa::path(
    post,
    path = "/v1/devices/{serial}/label",
    operation_id = "labelDevice",
    tag = "devices",
    params(("serial" = String, Path, description = "Its serial number, to the letter", pattern = "^[!-~]{1,128}$")),
    request_body(content = Reason),
    responses(
        (status = 200, description = "It gets one more label, which says that it is a copy", body = Device),
        (status = 400, description = "The body is not what it should be", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The caller may not change anything", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This station does not know the device", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not now: the sentence says why", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn label(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    path: SerialPath,
    body: Bytes,
) -> Result<Json<Device>, Refused> {
    order(&context, caller, (Order::Label, path), &body).await
}

async fn order(
    context: &Context,
    caller: Caller,
    (order, path): (Order, SerialPath),
    body: &[u8],
) -> Result<Json<Device>, Refused> {
    let serial = query::serial_in_path(path)?;
    let Reason { reason } = read(body)?;
    let by = operator(context, caller, reason).await?;
    let wanted = serial.clone();
    carry_out(context, |reply| Command::Order { order, serial, by, reply }).await?;
    one(context, wanted).await.map(Json)
}

/// Goes on by a clock that is doubted.
pub(super) async fn override_clock(
    context: &Context,
    caller: Caller,
    reason: Option<String>,
) -> Result<(), Refused> {
    let reason = reason.ok_or_else(|| bad_request("with \"clock\" a \"reason\" has to be given"))?;
    let by = operator(context, caller, reason).await?;
    carry_out(context, |reply| Command::OverrideClock { by, reply }).await
}

/// A body that may be left out.
pub(super) fn or_empty(body: &[u8]) -> &[u8] {
    if matches!(body.trim_ascii(), b"" | b"null") { b"{}" } else { body }
}

/// A body that is a JSON object.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    // A list would be taken for the members in their order.
    let read = match body.trim_ascii().first() {
        Some(b'[') => Err(serde::de::Error::custom("a list is no object")),
        _ => serde_json::from_slice(body),
    };
    read.map_err(|error: serde_json::Error| {
        bad_request(format!("the request's body is not what it should be: {error}"))
            .with_hint("it is a JSON object such as {\"reason\": \"the connector was bent\"}")
    })
}

/// Who gives the order, if it may, with a reason that can be kept.
pub(super) async fn operator(context: &Context, caller: Caller, reason: String) -> Result<Operator, Refused> {
    who(context, caller, Some(reason)).await
}

/// The same where no reason has to be given.
pub(super) async fn who(
    context: &Context,
    caller: Caller,
    reason: Option<String>,
) -> Result<Operator, Refused> {
    let peer = authorize(context, caller).await?;
    if reason.as_deref().is_some_and(|it| !Operator::is_reason(it)) {
        let sentence = format!("a reason is one line of 1 to {MAX_REASON_LEN} characters");
        return Err(bad_request(sentence));
    }
    Ok(Operator { uid: peer.uid, name: peer.name, reason: reason.unwrap_or_default() })
}

pub(super) async fn carry_out(
    context: &Context,
    make: impl FnOnce(OrderReply) -> Command,
) -> Result<(), Refused> {
    let (reply, answer) = oneshot::channel();
    context.commands.send(make(reply)).await.map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?.map_err(|refusal| match refusal {
        Refusal::Unknown => {
            not_found(refusal.to_string()).with_hint("serial numbers are compared to the letter")
        }
        Refusal::NoBatch(_) => {
            not_found(refusal.to_string()).with_hint("linemint batch list shows those that there are")
        }
        Refusal::Not(_) => conflict(refusal.to_string()),
    })
}

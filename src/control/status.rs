//! `GET /v1/status`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::Status;
use super::problem::{Refused, internal};
use super::server::Context;
use crate::pki::Fingerprint;

/// The status, or `304` to whoever has it already: it bears a tag of its bytes.
#[utoipa::path(
    get,
    path = "/v1/status",
    operation_id = "showStatus",
    tag = "station",
    params(("If-None-Match" = Option<String>, Header, description = "The tag of what is known already")),
    responses(
        (status = 200, description = "What the daemon is doing", body = Status, headers(("etag" = String, description = "Tag of this status"))),
        (status = 304, description = "It is what is known already"),
    )
)]
pub(super) async fn show(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let status = context.status.borrow().clone();
    let body = serde_json::to_vec(&*status).map_err(|error| internal("show the status", &error))?;
    let tag = format!("\"{:.32}\"", Fingerprint::of(&body).to_string());
    let has = has_it(&headers, &tag);
    let tag = HeaderValue::from_str(&tag).map_err(|error| internal("show the status", &error))?;
    let headers = [(header::ETAG, tag), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if has {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((headers, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Whether `If-None-Match` names the tag; a weak one serves as well (RFC 9110, 13.1.2).
fn has_it(headers: &HeaderMap, tag: &str) -> bool {
    let named = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|it| it.to_str().ok());
    let mut named = named.flat_map(|it| it.split(',')).map(str::trim);
    named.any(|it| it == "*" || it.strip_prefix("W/").unwrap_or(it) == tag)
}

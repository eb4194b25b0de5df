//! `GET /v1/openapi.json`: the API as a document for programs, made from the handlers and the wire types.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use utoipa::OpenApi;

use super::{
    backup, batches, commands, devices, events, listening, orders, reconcile, report, server, status,
};

/// The API. A handler that is not named here is not in the document; a test finds it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "linemint, the local API",
        description = "HTTP/1.1 on the daemon's Unix socket (`api.socket`). Whatever changes something needs root, the daemon's own user or \
            the group linemint-admin. Members are only ever added: ignore those that you do not know, as the daemon does with those of a body. Two things are told \
            instead, since they would widen what is meant: an unknown parameter behind the `?`, and an unknown member of what `POST /v1/reconcile` is to \
            look at and repair. Refusals are problem documents (RFC 9457).",
    ),
    paths(
        status::show,
        devices::list,
        devices::show,
        orders::retry,
        orders::release,
        orders::scrap,
        orders::label,
        events::list,
        backup::stream,
        batches::list,
        batches::open,
        batches::show,
        batches::serials,
        batches::close,
        listening::stream,
        reconcile::run,
        report::show,
        commands::drain,
        commands::resume,
        commands::log_level,
        server::metrics,
        document,
    )
)]
struct Api;

static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| Api::openapi().to_pretty_json().unwrap_or_default() + "\n");

/// The API as an OpenAPI document.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    operation_id = "openapi",
    tag = "station",
    responses((status = 200, description = "This document", body = serde_json::Value))
)]
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

#[cfg(test)]
mod tests;

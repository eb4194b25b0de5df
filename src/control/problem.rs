//! Problem documents as answers: the caller's mistakes in detail, the daemon's own troubles in
//! general (the log has them in detail).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Problem;
use crate::error::Chain;

/// What a handler refuses with.
pub(super) type Refused = Box<Problem>;

/// The media type of problem documents (RFC 9457).
pub(super) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

fn problem(status: StatusCode, kind: &str, title: &str, detail: String) -> Refused {
    Box::new(Problem {
        kind: format!("/problems/{kind}"),
        title: title.to_owned(),
        status: status.as_u16(),
        detail,
        hint: None,
    })
}

/// The request does not say what it should.
pub(super) fn bad_request(detail: impl Into<String>) -> Refused {
    problem(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail.into())
}

/// There is no such thing.
pub(super) fn not_found(detail: impl Into<String>) -> Refused {
    problem(StatusCode::NOT_FOUND, "not-found", "Not found", detail.into())
}

/// The path is right and the verb is not; `Allow` says which are.
pub(super) fn wrong_verb(detail: impl Into<String>) -> Refused {
    problem(StatusCode::METHOD_NOT_ALLOWED, "wrong-verb", "Wrong verb", detail.into())
}

/// The request is for somebody else: it bears another's name.
pub(super) fn misdirected(detail: impl Into<String>) -> Refused {
    problem(StatusCode::MISDIRECTED_REQUEST, "misdirected", "Not this station's name", detail.into())
}

/// Somebody else's page asks.
pub(super) fn foreign(detail: impl Into<String>) -> Refused {
    problem(StatusCode::FORBIDDEN, "foreign-page", "Another page's request", detail.into())
}

/// The caller may not do that.
pub(super) fn forbidden(detail: impl Into<String>) -> Refused {
    problem(StatusCode::FORBIDDEN, "forbidden", "Not permitted", detail.into())
}

/// The station is not in a state for it.
pub(super) fn conflict(detail: impl Into<String>) -> Refused {
    problem(StatusCode::CONFLICT, "conflict", "Not now", detail.into())
}

/// The request's body is longer than it may be.
pub(super) fn too_large(limit_bytes: usize) -> Refused {
    let detail = format!("a request's body may have {limit_bytes} bytes");
    problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
}

/// The request's head is longer than it may be.
pub(super) fn head_too_large(limit_bytes: usize) -> Refused {
    let detail = format!("a request's head may have {limit_bytes} bytes and 100 headers");
    problem(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too-large", "Too large", detail)
}

/// The request's target is longer than it may be.
pub(super) fn uri_too_long() -> Refused {
    let detail = "the request's target is too long".to_owned();
    problem(StatusCode::URI_TOO_LONG, "too-large", "Too large", detail)
}

/// The request's head did not arrive in time.
pub(super) fn head_too_slow() -> Refused {
    let detail = "the request's head did not arrive in time".to_owned();
    problem(StatusCode::REQUEST_TIMEOUT, "too-slow", "Too slow", detail)
}

/// The request did not arrive in time.
pub(super) fn too_slow() -> Refused {
    let detail = "the request's body did not arrive in time".to_owned();
    problem(StatusCode::REQUEST_TIMEOUT, "too-slow", "Too slow", detail)
}

/// The daemon cannot answer now.
pub(super) fn unavailable(detail: impl Into<String>) -> Refused {
    problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available", detail.into())
}

/// Something broke in the daemon: the log learns what, the caller where to look.
pub(super) fn internal(doing: &str, error: &(dyn std::error::Error + 'static)) -> Refused {
    tracing::error!(error = %Chain(error), "failed to {doing}");
    let detail = format!("failed to {doing}");
    problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something broke", detail)
        .with_hint("the daemon's log says what: journalctl -u linemint")
}

impl Problem {
    /// The same with what to do about it.
    pub(super) fn with_hint(mut self: Box<Self>, hint: impl Into<String>) -> Refused {
        self.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for Box<Problem> {
    fn into_response(self) -> Response {
        // Strings and a number: cannot fail.
        let body = serde_json::to_vec(&*self).unwrap_or_default();
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

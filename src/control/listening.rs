//! `GET /v1/fixtures/{name}/traffic`: what is on a fixture's line, as it happens. The port stays the station's.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Problem;
use super::door::EndlessAnswer;
use super::events::{into_json, wants_stream};
use super::problem::{Refused, bad_request, not_found, unavailable};
use super::server::Context;
use super::tap::Listener;
use super::traffic::{Sighting, Traffic};

/// JSON, one document a line.
const MEDIA_TYPE: &str = "application/x-ndjson";

/// What goes over a fixture's line, as it happens.
#[utoipa::path(
    get,
    path = "/v1/fixtures/{name}/traffic",
    operation_id = "fixtureTraffic",
    tag = "fixtures",
    params(("name" = String, Path, description = "The fixture's name, as it is configured")),
    responses(
        (status = 200, description = "JSON, a document a line, or server-sent events with `Accept: text/event-stream`; without end",
            content((serde_json::Value = "application/x-ndjson"), (String = "text/event-stream"))),
        (status = 400, description = "The name is no text", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such fixture", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many listen", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn stream(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Refused> {
    let Path(fixture) = name.map_err(|rejection| bad_request(rejection.body_text()))?;
    let taps = context.taps.borrow().clone();
    let Some(tap) = taps.get(&fixture) else {
        let names: Vec<&str> = taps.keys().map(String::as_str).collect();
        let missing = not_found("the configuration has no fixture of this name");
        return Err(missing.with_hint(format!("the fixtures are {}", names.join(", "))));
    };
    let permit = context.listeners.clone().try_acquire_owned().map_err(|_| {
        let limit = context.limits.listeners;
        unavailable(format!("{limit} readers of fixtures' traffic are there already, and that is the limit"))
    })?;
    let wire = Wire { fixture, listener: tap.listen(), ending: context.ending.clone(), _permit: permit };
    let mut response = if wants_stream(&headers) {
        let keep_alive = KeepAlive::new().interval(context.limits.keep_alive);
        Sse::new(events(wire)).keep_alive(keep_alive).into_response()
    } else {
        ([(header::CONTENT_TYPE, MEDIA_TYPE)], Body::from_stream(lines(wire))).into_response()
    };
    response.extensions_mut().insert(EndlessAnswer);
    Ok(response)
}

/// A reader of one fixture's line.
struct Wire {
    fixture: String,
    listener: Listener,
    ending: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Wire {
    /// What is seen next; none when the daemon ends.
    async fn next(&mut self) -> Option<Traffic> {
        let sighting = tokio::select! {
            biased;
            () = self.ending.cancelled() => return None,
            sighting = self.listener.next() => sighting?,
        };
        Some(Traffic { fixture: self.fixture.clone(), sighting: Sighting::clone(&sighting) })
    }
}

fn lines(wire: Wire) -> impl Stream<Item = Result<Bytes, serde_json::Error>> {
    stream::unfold(wire, |mut wire| async move {
        let traffic = wire.next().await?;
        let line = serde_json::to_vec(&traffic).map(|mut line| {
            line.push(b'\n');
            Bytes::from(line)
        });
        Some((line, wire))
    })
}

fn events(wire: Wire) -> impl Stream<Item = Result<sse::Event, serde_json::Error>> {
    stream::unfold(wire, |mut wire| async move {
        let traffic = wire.next().await?;
        Some((sse::Event::default().json_data(traffic).map_err(into_json), wire))
    })
}

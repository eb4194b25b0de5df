//! `GET /v1/events`: the journal's events, a page of them or as they happen.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::door::EndlessAnswer;
use super::problem::{Refused, bad_request, internal, unavailable};
use super::reading::Reading;
use super::server::Context;
use super::{Event, EventPage, Problem, query, view};

/// Records that are read at a time: a page or stream holds no more in memory at once.
const CHUNK: usize = 100;

/// A page ends early after so many bytes of events.
const MAX_PAGE_BYTES: usize = 8 << 20;

/// The greatest sequence number that can be asked for: up to there every program's numbers are exact (RFC 8259).
const LAST: u64 = (1 << 53) - 1;

/// The parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventQuery {
    after: Option<String>,
    limit: Option<String>,
}

#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "listEvents",
    tag = "events",
    params(
        ("after" = Option<u64>, Query, description = "Begin after this sequence number; 0 if it is not given", minimum = 0, maximum = 9_007_199_254_740_991_i64),
        ("limit" = Option<u32>, Query, description = "At most so many, 1 to 1000; 100 for a page if it is not given, no end for a stream", minimum = 1, maximum = 1000),
        ("Last-Event-ID" = Option<String>, Header, description = "Where a stream goes on: the sequence number of an event, or empty; goes before `after`", pattern = "^([0-9]{1,15}|null)?$"),
    ),
    responses(
        (status = 200, description = "A page of events; with `Accept: text/event-stream` server-sent events, each with its sequence number as id. \
            A stream is read from the journal: whoever was cut off for taking nothing goes on by Last-Event-ID, and misses nothing. \
            That is why no event marks a gap: there is none, and the sequence numbers, which have none either, show it",
            content((EventPage = "application/json"), (String = "text/event-stream"))),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many streams are open", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(context): State<Arc<Context>>,
    headers: HeaderMap,
    parameters: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Response, Refused> {
    let parameters = query::parameters(parameters)?;
    // Looked at even where it does not count: nonsense is told.
    let resumed = resumes_after(&headers)?;
    let after = query::number("after", parameters.after, 0..=LAST)?.unwrap_or(0);
    if !wants_stream(&headers) {
        let page = page(&context.reading, after, query::limit(parameters.limit)?).await?;
        return Ok(Json(page).into_response());
    }
    // Without a limit a stream goes on; with one it ends after so many events.
    let limited = query::given(parameters.limit.clone()).is_some();
    let left = if limited { Some(query::limit(parameters.limit)?) } else { None };
    let after = resumed.unwrap_or(after);
    let permit = context.streams.clone().try_acquire_owned().map_err(|_| {
        let sentence =
            format!("{} event streams are open already, and that is the limit", context.limits.streams);
        unavailable(sentence)
    })?;
    let tail = Tail {
        reading: context.reading.clone(),
        durable: context.reading.durable(),
        ending: context.ending.clone(),
        after,
        left,
        chunk: VecDeque::new(),
        _permit: permit,
    };
    let keep_alive = KeepAlive::new().interval(context.limits.keep_alive);
    let mut response = Sse::new(stream_of(tail)).keep_alive(keep_alive).into_response();
    response.extensions_mut().insert(EndlessAnswer);
    Ok(response)
}

pub(super) fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
    accepted
        .flat_map(|it| it.split(','))
        .filter_map(|it| it.split(';').next())
        .any(|it| it.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Where a reader that was cut off goes on. Goes before the query: that is still the first request's.
fn resumes_after(headers: &HeaderMap) -> Result<Option<u64>, Refused> {
    // A script that has none yet sends an empty one, or its word for nothing.
    let none = |it: &&HeaderValue| matches!(it.as_bytes(), b"" | b"null");
    let Some(value) = headers.get("last-event-id").filter(|it| !none(it)) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|it| it.trim().parse().ok());
    number
        .filter(|it| *it <= LAST)
        .map(Some)
        .ok_or_else(|| bad_request("Last-Event-ID is the sequence number of an event"))
}

async fn page(reading: &Reading, after: u64, limit: usize) -> Result<EventPage, Refused> {
    let durable = *reading.durable().borrow();
    let mut events = Vec::new();
    let (mut last, mut bytes) = (after, 0);
    while events.len() < limit && bytes < MAX_PAGE_BYTES {
        let chunk = chunk(reading, last, durable, CHUNK.min(limit - events.len())).await?;
        let Some(event) = chunk.last() else { break };
        last = event.seq;
        bytes += chunk.iter().map(size_of).sum::<usize>();
        events.extend(chunk);
    }
    let next = (!events.is_empty() && last < durable).then_some(last);
    Ok(EventPage { events, next })
}

fn size_of(event: &Event) -> usize {
    // Counted as it will be sent; what cannot be written counts nothing and fails later.
    serde_json::to_vec(event).map_or(0, |it| it.len())
}

/// The events after `after` as far as they are on disk.
async fn chunk(reading: &Reading, after: u64, durable: u64, limit: usize) -> Result<Vec<Event>, Refused> {
    if after >= durable {
        return Ok(Vec::new());
    }
    let records = reading.read("read events", move |store| store.events(after, limit)).await?;
    let events = records.iter().take_while(|it| it.seq <= durable).map(view::event).collect::<Result<_, _>>();
    events.map_err(|error| internal("show events", &error))
}

/// A reader that follows the journal.
#[derive(Debug)]
struct Tail {
    reading: Reading,
    durable: watch::Receiver<u64>,
    ending: tokio_util::sync::CancellationToken,
    after: u64,
    left: Option<usize>,
    chunk: VecDeque<Event>,
    _permit: OwnedSemaphorePermit,
}

fn stream_of(tail: Tail) -> impl Stream<Item = Result<sse::Event, serde_json::Error>> {
    stream::unfold(tail, |mut tail| async move {
        let event = tail.next().await?;
        let id = event.seq.to_string();
        Some((sse::Event::default().id(id).json_data(event).map_err(into_json), tail))
    })
}

/// The data is JSON without line breaks: only writing it can fail.
pub(super) fn into_json(error: axum::Error) -> serde_json::Error {
    serde::ser::Error::custom(error)
}

impl Tail {
    /// The next event; none when the daemon ends, the limit is reached or the journal cannot be read.
    async fn next(&mut self) -> Option<Event> {
        if self.left == Some(0) {
            return None;
        }
        while self.chunk.is_empty() {
            let durable = *self.durable.borrow_and_update();
            if self.after < durable {
                self.read(durable).await?;
                continue;
            }
            tokio::select! {
                biased;
                () = self.ending.cancelled() => return None,
                changed = self.durable.changed() => changed.ok()?,
            }
        }
        if self.ending.is_cancelled() {
            return None;
        }
        let event = self.chunk.pop_front()?;
        self.after = event.seq;
        self.left = self.left.map(|it| it - 1);
        Some(event)
    }

    async fn read(&mut self, durable: u64) -> Option<()> {
        match chunk(&self.reading, self.after, durable, CHUNK).await {
            Ok(events) if events.is_empty() => {
                tracing::error!(after = self.after, durable, "the journal has no events where it should");
                None
            }
            Ok(events) => {
                self.chunk = events.into();
                Some(())
            }
            // Logged already; the reader comes again with the last id that it has seen.
            Err(_) => None,
        }
    }
}

//! `GET /v1/report`: the report of a shift, a time or a batch.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Problem;
use super::door::EndlessAnswer;
use super::problem::{Refused, bad_request, conflict, not_found, unavailable};
use super::query;
use super::server::Context;
use super::{REPORT_BALANCE, Status};
use crate::clock::TimeSource;
use crate::error::Chain;
use crate::journal::JournalError;
use crate::journal::store::Store;
use crate::reconcile::newest::Look;
use crate::report::cloud::hold_against;
use crate::report::fold::{Live, Maker};
use crate::report::model::{Handover, Report};
use crate::report::render::{csv, html, text};
use crate::report::selection::Selection;
use crate::report::source::Source as _;
use crate::shift::moment::Moment;
use crate::shift::{Calendar, NoShift, ShiftSpan};

/// Bytes of a long answer that are sent at a time.
const CHUNK: usize = 64 << 10;

/// Chunks that wait for the reader.
const CHUNKS: usize = 4;

/// What the API makes reports with.
#[derive(Clone)]
pub struct Reporting {
    /// What all of them have in common.
    pub maker: Maker,
    /// Tells the time.
    pub clock: Arc<dyn TimeSource>,
}

impl std::fmt::Debug for Reporting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporting").field("maker", &self.maker).finish_non_exhaustive()
    }
}

/// The parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportQuery {
    shift: Option<String>,
    batch: Option<String>,
    since: Option<String>,
    until: Option<String>,
    format: Option<String>,
    corrects: Option<String>,
    version: Option<String>,
    reconciled: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Csv,
    Html,
}

impl Format {
    fn parse(text: Option<&str>) -> Result<Self, Refused> {
        Ok(match text.unwrap_or("json") {
            "text" => Self::Text,
            "json" => Self::Json,
            "csv" => Self::Csv,
            "html" => Self::Html,
            _ => return Err(bad_request("format is none of text, json, csv and html")),
        })
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Html => "text/html; charset=utf-8",
        })
    }
}

impl ReportQuery {
    fn selection(&self, calendar: &Calendar, now: Timestamp) -> Result<Selection, Refused> {
        let given = |it: &Option<String>| query::given(it.clone());
        let (shift, batch) = (given(&self.shift), given(&self.batch));
        let (since, until) = (given(&self.since), given(&self.until));
        match (shift, batch, since, until) {
            (shift, None, None, None) => shift_of(calendar, shift.as_deref().unwrap_or("current"), now),
            (None, Some(batch), None, None) => Ok(Selection::Batch(batch)),
            (None, None, Some(since), until) => {
                let begin = instant("since", &since, calendar)?;
                let end = until.map_or(Ok(now), |it| instant("until", &it, calendar))?;
                match begin < end {
                    true => Ok(Selection::Time { begin, end }),
                    false => Err(bad_request("until is not after since")),
                }
            }
            _ => Err(bad_request("say a shift, or a batch, or since and until, and not several of them")),
        }
    }

    /// Which version of which report it is to be.
    fn correction(&self) -> Result<Option<(u32, String)>, Refused> {
        let version = query::number("version", self.version.clone(), 2..=10_000)?.unwrap_or(2);
        let Some(old) = query::given(self.corrects.clone()) else { return Ok(None) };
        if old.len() != 64 || !old.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad_request("corrects is the SHA-256 of a report, 64 digits"));
        }
        Ok(Some((version, old)))
    }
}

fn shift_of(calendar: &Calendar, wanted: &str, now: Timestamp) -> Result<Selection, Refused> {
    span_of(calendar, wanted, now).map(Selection::Shift)
}

/// The shift that a request asks for.
pub(super) fn span_of(calendar: &Calendar, wanted: &str, now: Timestamp) -> Result<ShiftSpan, Refused> {
    calendar.asked(wanted, now).map_err(|error| match error {
        NoShift::NotYet | NoShift::ToCome(_) => not_found(error.to_string()),
        error => bad_request(error.to_string())
            .with_hint("write a day and a shift, as in 2026-11-22/early, or current or last"),
    })
}

/// RFC 3339, or a date and time on the station's wall.
fn instant(name: &str, text: &str, calendar: &Calendar) -> Result<Timestamp, Refused> {
    let moment = text.parse().and_then(|it: Moment| it.instant(&calendar.timezone));
    moment.map_err(|hint| bad_request(format!("{name} is no time")).with_hint(hint.to_string()))
}

/// What a report is called, and what it is about.
#[derive(Debug, Serialize)]
struct Named {
    name: Option<String>,
    kind: &'static str,
    station: String,
    begin: Option<Timestamp>,
    end: Option<Timestamp>,
}

impl Named {
    fn of(selection: &Selection, station: &str) -> Self {
        let (begin, end) = selection.span().unzip();
        Self { name: selection.name(), kind: selection.kind(), station: station.to_owned(), begin, end }
    }
}

/// The report of a shift, a batch or a time.
#[utoipa::path(
    get,
    path = "/v1/report",
    operation_id = "report",
    tag = "report",
    params(
        ("shift" = Option<String>, Query, description = "`2026-11-22/early`, `current` or `last`"),
        ("batch" = Option<String>, Query, description = "A batch's id"),
        ("since" = Option<String>, Query, description = "From this time on"),
        ("until" = Option<String>, Query, description = "Before this time"),
        ("format" = Option<String>, Query, description = "`text`, `json`, `csv` or `html`", pattern = "^(text|json|csv|html)?$"),
        ("name" = Option<bool>, Query, description = "Only what the report is called that would be made, and what it is about: `{\"name\": \"2026-11-22/early\", \"kind\": \"shift\", \"station\": \"L3-S07\", \"begin\": \"…\", \"end\": \"…\"}`; a time has no name, a batch neither begin nor end"),
        ("corrects" = Option<String>, Query, description = "The report is a correction of the one with this SHA-256, and says so", pattern = "^([0-9a-f]{64})?$"),
        ("version" = Option<u32>, Query, description = "Which version the correction is; 2 if it does not say. It counts only with `corrects`", minimum = 2, maximum = 10000),
        ("reconciled" = Option<bool>, Query, description = "With what the newest look at the account for the same devices has shown"),
    ),
    responses(
        (status = 200, description = "The report; its schema is docs/report.schema.json",
            headers(("linemint-balance" = String, description = "Whether its balance `closes` or `does-not-close`; with `name` it is not there")),
            content((serde_json::Value = "application/json"), (String = "text/plain"), (String = "text/csv"), (String = "text/html"))),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such batch is known, or the shift has not begun yet", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The account was not looked at for these devices", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reports are read, or the station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(context): State<Arc<Context>>,
    parameters: Result<Query<ReportQuery>, QueryRejection>,
) -> Result<Response, Refused> {
    let wanted = query::parameters(parameters)?;
    let Reporting { maker, clock } = context.reporting();
    let now = clock.now().wall;
    let format = Format::parse(query::given(wanted.format.clone()).as_deref())?;
    let selection = wanted.selection(&maker.calendar, now)?;
    let correction = wanted.correction()?;
    if query::flag("name", wanted.name)? == Some(true) {
        return Ok(Json(Named::of(&selection, &maker.station.id)).into_response());
    }
    let look = match query::flag("reconciled", wanted.reconciled)? {
        Some(true) => Some(look_at(&maker, &selection)?),
        _ => None,
    };
    let live = live(&context.status());
    let (making, chosen) = (maker.clone(), selection.clone());
    let made = context.reading.read("make a report", move |store| {
        if let Selection::Batch(id) = &chosen
            && store.batch(id)?.is_none()
            && making.orders.as_ref().map_or(Ok(None), |it| it.order(id))?.is_none()
        {
            return Ok(None);
        }
        making.make(store, &chosen, now, live).map(Some)
    });
    let Some(mut report) = made.await? else {
        return Err(not_found("no device of that batch was presented here, and no order is known"));
    };
    if let Some((version, old)) = correction {
        (report.version, report.corrects) = (version, Some(old));
    }
    if let Some(look) = look {
        hold_against(&mut report, &look);
    }
    let balance = if report.balance.closes { "closes" } else { "does-not-close" };
    let body = match format {
        Format::Csv => lines(&context, &report, selection)?,
        _ => Body::from(rendered(&maker, &report, format)),
    };
    let mut response = ([(header::CONTENT_TYPE, format.media_type())], body).into_response();
    response.headers_mut().insert(REPORT_BALANCE, HeaderValue::from_static(balance));
    if format == Format::Csv {
        response.extensions_mut().insert(EndlessAnswer);
    }
    Ok(response)
}

/// The newest look at the account, if it was at the devices of that selection.
fn look_at(maker: &Maker, selection: &Selection) -> Result<Arc<Look>, Refused> {
    let (batch, since, until) = match selection {
        Selection::Shift(it) => (None, Some(it.begin), Some(it.end)),
        Selection::Time { begin, end } => (None, Some(*begin), Some(*end)),
        Selection::Batch(id) => (Some(id.as_str()), None, None),
    };
    maker.looks.of(batch, since, until).ok_or_else(|| {
        conflict("no look at the account for just these devices has come to its end since the daemon's start")
            .with_hint(
                "POST /v1/reconcile with the same selection first; `linemint report --reconcile` does both",
            )
    })
}

fn rendered(maker: &Maker, report: &Report, format: Format) -> String {
    match format {
        Format::Html => html::render(report),
        Format::Text => text::render(report),
        Format::Json | Format::Csv => maker.json(report),
    }
}

/// The lines of the CSV, as they are taken.
fn lines(context: &Context, report: &Report, selection: Selection) -> Result<Body, Refused> {
    let (chunks, taken) = mpsc::channel(CHUNKS);
    let (begin, end) = (report.selection.begin, report.selection.end);
    let begun = context.reading.list(move |store, permit| {
        let mut out = Chunks { _permit: permit, chunks, chunk: Vec::with_capacity(CHUNK) };
        match write_lines(store, &selection, (begin, end), &mut out) {
            Ok(()) => {}
            Err(LinesError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                tracing::debug!("whoever read a report's lines has hung up");
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "a report's lines were cut off");
                // The reader sees a broken answer. Nobody may be there any more.
                let _ = out.chunks.blocking_send(Err(io::Error::other("the lines were cut off")));
            }
        }
    });
    if !begun {
        return Err(unavailable("the lines of two reports are being read already, and that is the limit"));
    }
    let body = stream::unfold(taken, |mut taken| async move { Some((taken.recv().await?, taken)) });
    Ok(Body::from_stream(body))
}

/// Why the lines of a report ended early.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum LinesError {
    #[error("failed to read the journal")]
    Journal(#[from] JournalError),
    #[error("failed to write the lines")]
    Output(#[from] io::Error),
}

/// Writes a line for each device of a selection that lies in that time. Reads no further than `out` takes it.
///
/// # Errors
/// The journal cannot be read, or `out` takes nothing more.
pub fn write_lines(
    store: &Store,
    selection: &Selection,
    (begin, end): (Timestamp, Timestamp),
    out: &mut impl Write,
) -> Result<(), LinesError> {
    let mut lines = csv::Lines::new(&mut *out)?;
    let mut failed = None;
    store.summaries(begin, end, &mut |it| {
        let other = matches!(selection, Selection::Batch(id) if it.batch.as_ref() != Some(id));
        if !other && it.was_presented() {
            failed = lines.device(&it).err();
        }
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    lines.finish()?.flush()?;
    Ok(())
}

/// Hands on what is written, a chunk at a time; waits for the reader.
struct Chunks {
    _permit: OwnedSemaphorePermit,
    chunks: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.chunks.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What the daemon says of itself, for a report.
#[must_use]
pub fn live(status: &Status) -> Live {
    let handover = Handover {
        state: Some(status.state.as_str().to_owned()),
        backlog: Some(status.backlog.devices),
        oldest_s: status.backlog.oldest_s,
        actions: status.reasons.clone(),
    };
    Live { calls: status.calls.clone(), handover }
}

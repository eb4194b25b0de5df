//! `GET` and `POST /v1/batches`, and what lies below.
//!
//! A list of serial numbers comes as a body of lines that is read as it comes, a part after the other; the next part
//! is taken when the one before is on disk, so that the line's own records never queue behind a million of these.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::{Extension, Json};
use futures_util::StreamExt as _;
use serde::Deserialize;

use super::Problem;
use super::access::Caller;
use super::batch::{self, BatchPage, Closing, ListedPage, NewBatch};
use super::orders::{carry_out, or_empty, read, who};
use super::problem::{Refused, bad_request, internal, not_found, too_large, too_slow};
use super::query;
use super::server::{Command, Context};
use crate::batch::{BatchId, MAX_LISTED, Order, Terms};
use crate::device::operator::Operator;
use crate::device::serial::{MAX_SERIAL_LEN, SerialNumber};
use crate::journal::store::{Listed, Store};

/// Serial numbers that are journaled between two waits for the disk: some ten records.
const PART: usize = 2_000;

/// A list's longest body, bytes.
const MAX_LIST_BYTES: u64 = MAX_LISTED * (MAX_SERIAL_LEN as u64 + 2);

/// The path of all batches.
pub(super) const PATH: &str = "/v1/batches";

/// The parameters of a page of batches.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    state: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

/// The parameters of a page of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SerialsQuery {
    missing: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

/// The parameters of an opening with a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    id: String,
    product: Option<String>,
    strict: Option<String>,
    fixtures: Option<String>,
    reason: Option<String>,
}

/// The batches, in the order of their ids.
#[utoipa::path(
    get,
    path = "/v1/batches",
    operation_id = "listBatches",
    tag = "batches",
    params(
        ("state" = Option<String>, Query, description = "`open` or `closed`", pattern = "^(open|closed)?$"),
        ("after" = Option<String>, Query, description = "Begin after this one", pattern = "^[A-Za-z0-9_-]{0,64}$"),
        ("limit" = Option<u32>, Query, description = "At most so many, 1 to 1000; 100 if it is not given", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "A page of batches", body = BatchPage),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The journal's disk does not keep up, or the station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(context): State<Arc<Context>>,
    parameters: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<BatchPage>, Refused> {
    let wanted = query::parameters(parameters)?;
    let open = match query::given(wanted.state).as_deref() {
        None => None,
        Some("open") => Some(true),
        Some("closed") => Some(false),
        Some(_) => return Err(bad_request("a batch's state is open or closed")),
    };
    let after = query::given(wanted.after).map(|it| id("after", &it)).transpose()?;
    let limit = query::limit(wanted.limit)?;
    let read = move |store: &Store| {
        store.batches(after.as_ref(), limit + 1, |it| open.is_none_or(|open| it.is_open() == open))
    };
    let mut batches = context.reading.read("list batches", read).await?;
    context.reading.on_disk(batches.iter().map(|it| it.last_seq).max().unwrap_or(0)).await?;
    let more = batches.len() > limit;
    batches.truncate(limit);
    let next = batches.last().filter(|_| more).map(|it| it.id().to_string());
    Ok(Json(BatchPage { batches: batches.into_iter().map(batch::Batch::from).collect(), next }))
}

/// A batch as it stands.
#[utoipa::path(
    get,
    path = "/v1/batches/{id}",
    operation_id = "showBatch",
    tag = "batches",
    params(
        ("id" = String, Path, description = "Its id", pattern = "^[A-Za-z0-9_-]{1,64}$"),
    ),
    responses(
        (status = 200, description = "The batch", body = batch::Batch),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This station does not know the batch", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The journal's disk does not keep up, or the station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(context): State<Arc<Context>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<batch::Batch>, Refused> {
    one(&context, id_in_path(path)?).await
}

/// A page of a batch's list.
#[utoipa::path(
    get,
    path = "/v1/batches/{id}/serials",
    operation_id = "listBatchSerials",
    tag = "batches",
    params(
        ("id" = String, Path, description = "Its id", pattern = "^[A-Za-z0-9_-]{1,64}$"),
        ("missing" = Option<bool>, Query, description = "Only those that were not presented"),
        ("after" = Option<String>, Query, description = "Begin after this one", pattern = "^[!-~]{0,128}$"),
        ("limit" = Option<u32>, Query, description = "At most so many, 1 to 1000; 100 if it is not given", minimum = 1, maximum = 1000),
    ),
    responses(
        (status = 200, description = "A page of serial numbers", body = ListedPage),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This station does not know the batch", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn serials(
    State(context): State<Arc<Context>>,
    path: Result<Path<String>, PathRejection>,
    parameters: Result<Query<SerialsQuery>, QueryRejection>,
) -> Result<Json<ListedPage>, Refused> {
    let wanted = query::parameters(parameters)?;
    let missing = query::flag("missing", wanted.missing)?.unwrap_or(false);
    let after = query::given(wanted.after).map(|it| query::serial("after", &it)).transpose()?;
    let limit = query::limit(wanted.limit)?;
    let batch = find(&context, id_in_path(path)?).await?;
    let read = move |store: &Store| store.listed(&batch, after.as_ref(), limit, |it| !missing || !it.here);
    let page = context.reading.read("read a batch's list", read).await?;
    let wire = |it: Listed| batch::Listed { serial: it.serial.into(), state: it.state, here: it.here };
    let (serials, next) = (page.found.into_iter().map(wire).collect(), page.next.map(String::from));
    Ok(Json(ListedPage { serials, next }))
}

/// Closes a batch. Its devices keep it.
#[utoipa::path(
    post,
    path = "/v1/batches/{id}/close",
    operation_id = "closeBatch",
    tag = "batches",
    params(
        ("id" = String, Path, description = "Its id", pattern = "^[A-Za-z0-9_-]{1,64}$"),
    ),
    request_body(content = Option<Closing>),
    responses(
        (status = 200, description = "It is closed", body = batch::Batch),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "This station does not know the batch", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The caller may not change anything", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not now: the sentence says why", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The station is stopping", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn close(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Result<Json<batch::Batch>, Refused> {
    let id = id_in_path(path)?;
    let Closing { reason } = read(or_empty(&body))?;
    let by = who(&context, caller, reason).await?;
    order(&context, Order::Close(id.clone()), &by).await?;
    one(&context, id).await
}

/// Whether a request brings a list that its handler reads as it comes.
pub(super) fn is_streamed<B>(request: &axum::http::Request<B>) -> bool {
    request.method() == Method::POST && request.uri().path() == PATH && is_list(request.headers())
}

/// Whether the body of a request is a list of serial numbers.
pub(super) fn is_list(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    kind.is_some_and(|it| it.starts_with("text/"))
}

/// Opens a batch, or opens one again; with a list of serial numbers as `text/plain`, one a line in ascending order, what else there is to say are parameters.
#[utoipa::path(
    post,
    path = "/v1/batches",
    operation_id = "openBatch",
    tag = "batches",
    params(
        ("id" = Option<String>, Query, description = "With a list: its id"),
        ("product" = Option<String>, Query, description = "With a list: what is made"),
        ("strict" = Option<bool>, Query, description = "With a list: whether others are refused; true if it is not given"),
        ("fixtures" = Option<String>, Query, description = "With a list: fixtures that are to present the product, with commas between"),
        ("reason" = Option<String>, Query, description = "With a list: why"),
    ),
    request_body(content((NewBatch = "application/json"), (String = "text/plain"))),
    responses(
        (status = 200, description = "It is open", body = batch::Batch),
        (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The caller may not change anything", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not now: the sentence says why", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The station is stopping", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "It is to be opened again, and this station does not know it", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The list is too long", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn open(
    State(context): State<Arc<Context>>,
    Extension(caller): Extension<Caller>,
    parameters: Result<Query<ListQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<batch::Batch>, Refused> {
    if is_list(request.headers()) {
        return open_with_list(context, caller, query::parameters(parameters)?, request.into_body()).await;
    }
    let body = axum::body::to_bytes(request.into_body(), context.limits.body_bytes).await;
    let new: NewBatch = read(&body.map_err(|_| too_large(context.limits.body_bytes))?)?;
    let batch = id("id", &new.id)?;
    let wanted = match (new.product, new.count) {
        (Some(product), Some(expected)) => {
            let terms =
                Terms { batch: batch.clone(), product, strict: false, fixtures: new.fixtures, expected };
            Order::Open(terms)
        }
        (None, None) if new.fixtures.is_empty() => {
            if new.reason.is_none() {
                let what = format!("to open {batch} again a reason has to be given");
                return Err(
                    bad_request(what).with_hint("a new batch needs a product, and a number or a list")
                );
            }
            Order::Reopen(batch.clone())
        }
        _ => {
            return Err(bad_request(
                "a new batch has a \"product\" and a \"count\", or a list of serial numbers as its body",
            ));
        }
    };
    let by = who(&context, caller, new.reason).await?;
    order(&context, wanted, &by).await?;
    one(&context, batch).await
}

async fn open_with_list(
    context: Arc<Context>,
    caller: Caller,
    wanted: ListQuery,
    mut body: Body,
) -> Result<Json<batch::Batch>, Refused> {
    let batch = id("id", &wanted.id)?;
    let product = wanted.product.ok_or_else(|| bad_request("product is missing"))?;
    let strict = query::flag("strict", wanted.strict)?.unwrap_or(true);
    let fixtures = query::given(wanted.fixtures).unwrap_or_default();
    let fixtures = fixtures.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    let terms = Terms { batch: batch.clone(), product, strict, fixtures, expected: 0 };
    let by = who(&context, caller, query::given(wanted.reason)).await?;
    // In a task of its own: a caller who hangs up ends the opening too, and in good order.
    let (taking, id) = (context.clone(), batch.clone());
    let taken = tokio::spawn(async move {
        let mut pace = Pace::new(&taking);
        let result = take_list(&taking, terms, &by, (&mut body, &mut pace)).await;
        if result.is_err() {
            // A refusal is heard by whoever has been let finish.
            drain(&mut body, &mut pace).await;
        }
        result
    });
    taken.await.map_err(|error| internal("open a batch", &error))??;
    one(&context, id).await
}

/// How fast a list has to come: while it does, no other batch can be opened.
struct Pace {
    stall: Duration,
    end: Pin<Box<tokio::time::Sleep>>,
}

impl Pace {
    fn new(context: &Context) -> Self {
        Self { stall: context.limits.stall, end: Box::pin(tokio::time::sleep(context.limits.list)) }
    }

    /// What comes next; none if it does not come in time.
    async fn next(&mut self, chunks: &mut BodyDataStream) -> Option<Option<Result<Bytes, axum::Error>>> {
        tokio::select! {
            biased;
            () = &mut self.end => None,
            next = tokio::time::timeout(self.stall, chunks.next()) => next.ok(),
        }
    }
}

async fn take_list(
    context: &Context,
    terms: Terms,
    by: &Operator,
    body: (&mut Body, &mut Pace),
) -> Result<(), Refused> {
    let batch = terms.batch.clone();
    order(context, Order::Begin(terms), by).await?;
    match take_lines(context, &batch, by, body).await {
        Ok(()) => order(context, Order::Finish(batch), by).await,
        Err(refused) => {
            // If the line has given it up itself, nothing is left to be given up.
            order(context, Order::Drop(batch), by).await?;
            Err(refused)
        }
    }
}

/// Reads the body line by line and has it journaled.
async fn take_lines(
    context: &Context,
    batch: &BatchId,
    by: &Operator,
    (body, pace): (&mut Body, &mut Pace),
) -> Result<(), Refused> {
    let mut chunks = std::mem::take(body).into_data_stream();
    let (mut lines, mut part, mut bytes) = (Lines::default(), Vec::with_capacity(PART), 0);
    loop {
        let chunk = pace.next(&mut chunks).await.ok_or_else(too_slow)?;
        let ended = chunk.is_none();
        if let Some(chunk) = chunk {
            let chunk =
                chunk.map_err(|error| bad_request(format!("the list does not come to its end: {error}")))?;
            bytes += chunk.len() as u64;
            if bytes > MAX_LIST_BYTES {
                *body = Body::from_stream(chunks);
                return Err(too_large(usize::try_from(MAX_LIST_BYTES).unwrap_or(usize::MAX)));
            }
            lines.push(&chunk);
        }
        loop {
            let line = match lines.next(ended) {
                Ok(Some(serial)) => {
                    part.push(serial);
                    true
                }
                Ok(None) => false,
                Err(refused) => {
                    *body = Body::from_stream(chunks);
                    return Err(refused);
                }
            };
            if part.len() == PART || !line && ended && !part.is_empty() {
                let part = std::mem::replace(&mut part, Vec::with_capacity(PART));
                if let Err(refused) = order(context, Order::Serials(batch.clone(), part), by).await {
                    *body = Body::from_stream(chunks);
                    return Err(refused);
                }
            }
            if !line {
                break;
            }
        }
        if ended {
            return Ok(());
        }
    }
}

/// Takes the rest of a body and forgets it.
async fn drain(body: &mut Body, pace: &mut Pace) {
    let mut chunks = std::mem::take(body).into_data_stream();
    let mut bytes = 0;
    while let Some(Some(Ok(chunk))) = pace.next(&mut chunks).await {
        bytes += chunk.len() as u64;
        if bytes > MAX_LIST_BYTES {
            return;
        }
    }
}

/// Serial numbers, one a line.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    read: usize,
    number: u64,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// The next one, if its line is there; at the end also one without a line feed.
    fn next(&mut self, ended: bool) -> Result<Option<SerialNumber>, Refused> {
        loop {
            let rest = &self.bytes[self.read..];
            let (line, length) = match rest.iter().position(|it| *it == b'\n') {
                Some(length) => (&rest[..length], length + 1),
                None if ended && !rest.is_empty() => (rest, rest.len()),
                None if rest.len() > MAX_SERIAL_LEN + 1 => (rest, rest.len()),
                None => return Ok(None),
            };
            self.read += length;
            self.number += 1;
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let serial = SerialNumber::parse(&String::from_utf8_lossy(line));
            let bad = |error| {
                bad_request(format!("line {}: {error}", self.number)).with_hint(
                    "the body is a list of serial numbers, one a line, in ascending order (LC_ALL=C sort -u)",
                )
            };
            return serial.map(Some).map_err(bad);
        }
    }
}

async fn one(context: &Context, id: BatchId) -> Result<Json<batch::Batch>, Refused> {
    Ok(Json(find(context, id).await?.into()))
}

async fn find(context: &Context, id: BatchId) -> Result<crate::batch::Batch, Refused> {
    let wanted = id.clone();
    let found = context.reading.read("read a batch", move |store| store.find_batch(&wanted)).await?;
    let unknown = || not_found(format!("this station's journal knows no batch {id}"));
    let found = found.ok_or_else(unknown)?;
    context.reading.on_disk(found.last_seq).await?;
    Ok(found)
}

async fn order(context: &Context, order: Order, by: &Operator) -> Result<(), Refused> {
    let by = by.clone();
    carry_out(context, |reply| Command::Batch { order, by, reply }).await
}

fn id(name: &str, text: &str) -> Result<BatchId, Refused> {
    BatchId::parse(text).map_err(|error| bad_request(format!("{name}: {error}")))
}

fn id_in_path(path: Result<Path<String>, PathRejection>) -> Result<BatchId, Refused> {
    let Path(text) = path.map_err(|rejection| bad_request(rejection.body_text()))?;
    id("what stands in the path", &text)
}

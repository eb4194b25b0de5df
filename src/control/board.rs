//! The board: one page for the station's screen and the line lead, and its stream.
//!
//! The page is made here, whole; its script only puts newer parts in the place of older ones and says when
//! nothing newer comes. A part is sent when it has changed, and all of them to whoever begins to listen: so
//! a reader that was away misses nothing, and one that is slow gets the newest and not all that was.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::Status;
use super::door::EndlessAnswer;
use super::events::into_json;
use super::problem::{Refused, unavailable};
use super::server::Context;
use super::tally::Tally;

mod page;

use self::page::Shown;

const STYLE: &str = include_str!("../../assets/board.css");
const SCRIPT: &str = include_str!("../../assets/board.js");

/// How often the page hears that the station is there; it calls itself stale after three times that and some.
const BEAT: Duration = Duration::from_secs(2);

/// How soon a page whose stream has ended asks again: long before it calls itself stale.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Between two looks at the status, which changes some times a second.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Between two looks at the verdicts: sooner than they come.
const VERDICTS_EVERY: Duration = Duration::from_millis(100);

const FRESH: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

/// `GET /`
pub(super) async fn page(State(context): State<Arc<Context>>) -> Response {
    let html = shown(&context).document();
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], FRESH, html.into_string()).into_response()
}

/// `GET /board.css`
pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], FRESH, STYLE).into_response()
}

/// `GET /board.js`
pub(super) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], FRESH, SCRIPT).into_response()
}

/// `GET /board/parts`: what has changed, as server-sent events.
pub(super) async fn parts(State(context): State<Arc<Context>>) -> Result<Response, Refused> {
    let permit = context.board_streams.clone().try_acquire_owned().map_err(|_| {
        unavailable(format!("{} screens watch already, and that is the limit", context.limits.streams))
    })?;
    let watching = Watching {
        status: context.status.clone(),
        tally: context.sight.tally.clone(),
        sent: BTreeMap::new(),
        queue: VecDeque::new(),
        looked: None,
        beat: None,
        until: Instant::now() + context.limits.follow,
        context,
        _permit: permit,
    };
    let mut response = Sse::new(stream_of(watching)).into_response();
    response.headers_mut().extend(FRESH.map(|(name, value)| (name, header::HeaderValue::from_static(value))));
    response.extensions_mut().insert(EndlessAnswer);
    Ok(response)
}

fn shown(context: &Context) -> Shown {
    let sight = &context.sight;
    let plant = sight.plant();
    Shown {
        status: context.status.borrow().clone(),
        tally: sight.tally.borrow().clone(),
        now: sight.clock.now().wall,
        takt: plant.takt,
        timezone: plant.calendar.timezone.clone(),
    }
}

/// Somebody who watches.
struct Watching {
    context: Arc<Context>,
    status: watch::Receiver<Arc<Status>>,
    tally: watch::Receiver<Arc<Tally>>,
    /// What the page has, by the name of the part.
    sent: BTreeMap<&'static str, String>,
    queue: VecDeque<Part>,
    looked: Option<Instant>,
    beat: Option<Instant>,
    /// Whoever is there asks again then. One that never reads does not, and what is sent to it does not show that:
    /// its kernel takes it for long.
    until: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Something for the page.
#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
enum Part {
    /// The station is there, of this version, and its clock says so, milliseconds since 1970.
    Beat { version: &'static str, now: i64 },
    /// What is in the element of that name from now on.
    Part { name: &'static str, html: String },
}

fn stream_of(watching: Watching) -> impl Stream<Item = Result<sse::Event, serde_json::Error>> {
    stream::unfold(watching, |mut watching| async move {
        let part = watching.next().await?;
        let event = sse::Event::default().retry(ASK_AGAIN).json_data(part).map_err(into_json);
        Some((event, watching))
    })
}

impl Watching {
    /// The next part; none when the daemon ends, or the page has to ask again.
    async fn next(&mut self) -> Option<Part> {
        loop {
            if self.context.ending.is_cancelled() {
                return None;
            }
            if let Some(part) = self.queue.pop_front() {
                return Some(part);
            }
            let now = Instant::now();
            if now >= self.until {
                return None;
            }
            if self.beat.is_none_or(|it| now >= it + BEAT) {
                self.beat = Some(now);
                let now = self.context.sight.clock.now().wall.as_millisecond();
                return Some(Part::Beat { version: env!("CARGO_PKG_VERSION"), now });
            }
            match self.looked {
                None => self.look(now),
                Some(looked) => self.wait(looked).await?,
            }
        }
    }

    /// Waits for something new, and looks at it.
    async fn wait(&mut self, looked: Instant) -> Option<()> {
        let beat = self.beat.unwrap_or(looked) + BEAT;
        tokio::select! {
            () = self.context.ending.cancelled() => return None,
            () = tokio::time::sleep_until(beat.min(self.until)) => return Some(()),
            changed = self.tally.changed() => {
                changed.ok()?;
                tokio::time::sleep_until(looked + VERDICTS_EVERY).await;
            }
            () = async {
                tokio::time::sleep_until(looked + STATUS_EVERY).await;
                // Its end shows with the tally's.
                let _ = self.status.changed().await;
            } => {}
        }
        self.look(Instant::now());
        Some(())
    }

    fn look(&mut self, now: Instant) {
        self.looked = Some(now);
        self.tally.mark_unchanged();
        self.status.mark_unchanged();
        for (name, html) in shown(&self.context).parts() {
            let html = html.into_string();
            if self.sent.get(name) != Some(&html) {
                self.sent.insert(name, html.clone());
                self.queue.push_back(Part::Part { name, html });
            }
        }
    }
}

//! The local API's server: HTTP/1.1 on a Unix socket, for people and scripts on this host, and what of it
//! may be seen at the board's port. Nothing that a client does or leaves undone may cost the line
//! anything: all is bounded, and every answer comes from a snapshot or from the journal's reading half.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::connection::Limits;
use super::door::{self, Room};
use super::guard::Guard;
use super::metrics::{self, Format, Snapshot};
use super::problem::{Refused, not_found, wrong_verb};
use super::reading::Reading;
use super::report::{self, Reporting};
use super::sight::Sight;
use super::tap::Tap;
use super::{
    Status, backup, batches, board, commands, devices, events, listening, openapi, orders, reconcile, status,
};
use crate::batch;
use crate::device::operator::{Operator, Order, Refusal, StationOrder};
use crate::device::serial::SerialNumber;
use crate::reconcile::{Told, Wish};

pub use super::socket::{ApiError, MAX_PATH_BYTES, adopt, bind};

/// Who has given a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The user's number.
    pub uid: u32,
    /// The user's name, for the records; `uid 1000` where it has none.
    pub name: String,
}

/// The answer to an order: done, or why not. Nobody may be there to hear it any more; the order counts all
/// the same.
pub type OrderReply = oneshot::Sender<Result<(), Refusal>>;

/// What the station is told to do. The caller may: that has been seen to.
#[derive(Debug)]
pub enum Command {
    /// Do something with the station as a whole.
    Station {
        /// What.
        order: StationOrder,
        /// Who wants it, and why.
        by: Operator,
        /// Told when it is done and on disk.
        reply: OrderReply,
    },
    /// Do something with a device.
    Order {
        /// What.
        order: Order,
        /// With which device.
        serial: SerialNumber,
        /// Who wants it, and why.
        by: Operator,
        /// Told when it is done and on disk.
        reply: OrderReply,
    },
    /// Hold the account against the journal.
    Reconcile {
        /// What is wanted.
        wish: Wish,
        /// Who wants it, and why.
        by: Operator,
        /// Told where it is heard; or why not now, a sentence.
        reply: oneshot::Sender<Result<mpsc::Receiver<Told>, String>>,
    },
    /// Do something with a batch.
    Batch {
        /// What.
        order: batch::Order,
        /// Who wants it, and why.
        by: Operator,
        /// Told when it is done and on disk.
        reply: OrderReply,
    },
    /// Go on by a clock that is doubted.
    OverrideClock {
        /// Who wants it, and why.
        by: Operator,
        /// Told when it is done and on disk.
        reply: OrderReply,
    },
}

/// What the API speaks for.
#[derive(Debug)]
pub struct Api {
    /// The journal's reading half.
    pub store: crate::journal::store::Store,
    /// What the station is doing.
    pub status: watch::Receiver<Arc<Status>>,
    /// Newest sequence number on disk. Nothing beyond it is told.
    pub durable: watch::Receiver<u64>,
    /// The station's ear.
    pub commands: mpsc::Sender<Command>,
    /// Where each fixture's traffic is told, by its name.
    pub taps: watch::Receiver<BTreeMap<String, Tap>>,
    /// What is shown besides: on the board and to whoever collects metrics.
    pub sight: Sight,
    /// What reports are made with.
    pub reporting: Reporting,
}

/// Where the API is listened for.
#[derive(Debug)]
pub struct Listeners {
    /// The local socket.
    pub socket: UnixListener,
    /// The board's port, where there is one.
    pub board: Option<Board>,
}

/// The board's port.
#[derive(Debug)]
pub struct Board {
    /// Where it is listened.
    pub listener: TcpListener,
    /// Names, besides addresses and `localhost`, under which it may be asked for.
    pub names: Vec<String>,
}

/// The process's open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// How many it may have; none without a limit.
    pub limit: Option<u64>,
    /// How many of them the station needs for itself.
    pub reserve: usize,
}

/// Serves until `shutdown` is ready, then ends event streams at once, lets other requests finish for
/// at most five seconds, and returns. Dropping the future ends everything at once.
pub async fn serve(listeners: Listeners, api: Api, files: OpenFiles, shutdown: impl Future<Output = ()>) {
    let doors = 1 + usize::from(listeners.board.is_some());
    let OpenFiles { limit, reserve } = files;
    let limits = Limits::default().within(limit, reserve, doors);
    let connections = limits.connections;
    let limit = limit.map_or_else(|| "none".to_owned(), |it| it.to_string());
    if connections < Limits::default().connections {
        tracing::warn!(
            limit,
            reserve,
            doors,
            connections,
            "few files may be open: the API serves fewer connections at a time (LimitNOFILE=, ulimit -n)"
        );
    } else {
        tracing::info!(limit, reserve, doors, connections, "open files suffice for the API's connections");
    }
    let access = Access::default();
    access.warn_if_blind();
    serve_within(listeners, api, shutdown, limits, access).await;
}

/// What every handler has at hand.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) reading: Reading,
    pub(super) status: watch::Receiver<Arc<Status>>,
    pub(super) sight: Sight,
    reporting: Reporting,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) access: Access,
    pub(super) limits: Limits,
    pub(super) streams: Arc<Semaphore>,
    pub(super) taps: watch::Receiver<BTreeMap<String, Tap>>,
    pub(super) listeners: Arc<Semaphore>,
    /// Those of the board: people who watch it take no place from programs at the socket.
    pub(super) board_streams: Arc<Semaphore>,
    /// The daemon is ending.
    pub(super) ending: CancellationToken,
}

impl Context {
    /// What the station is doing.
    pub(super) fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// What reports are made with now.
    pub(super) fn reporting(&self) -> Reporting {
        let mut reporting = self.reporting.clone();
        if self.sight.plant.is_some() {
            self.sight.plant().put_into(&mut reporting.maker);
        }
        reporting
    }
}

pub(super) async fn serve_within(
    listeners: Listeners,
    api: Api,
    shutdown: impl Future<Output = ()>,
    limits: Limits,
    access: Access,
) {
    let ending = CancellationToken::new();
    let context = Arc::new(Context {
        reading: Reading::new(api.store, api.durable),
        status: api.status,
        sight: api.sight,
        reporting: api.reporting,
        commands: api.commands,
        access,
        limits,
        streams: Arc::new(Semaphore::new(limits.streams)),
        taps: api.taps,
        listeners: Arc::new(Semaphore::new(limits.listeners)),
        board_streams: Arc::new(Semaphore::new(limits.streams)),
        ending: ending.clone(),
    });
    let local = Room { router: router(context.clone()), limits, guard: None, ending: ending.clone() };
    let local = door::serve(listeners.socket, local);
    let board = async {
        if let Some(Board { listener, names }) = listeners.board {
            let guard = Some(Arc::new(Guard { names }));
            door::serve(
                listener,
                Room { router: board_router(context), limits, guard, ending: ending.clone() },
            )
            .await;
        }
    };
    let told = async {
        shutdown.await;
        ending.cancel();
    };
    tokio::join!(local, board, told);
}

fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/v1/status", get(status::show))
        .route("/v1/devices", get(devices::list))
        .route("/v1/devices/{serial}", get(devices::show))
        .route("/v1/devices/{serial}/retry", post(orders::retry))
        .route("/v1/devices/{serial}/release", post(orders::release))
        .route("/v1/devices/{serial}/scrap", post(orders::scrap))
        .route("/v1/devices/{serial}/label", post(orders::label))
        .route("/v1/batches", get(batches::list).post(batches::open))
        .route("/v1/batches/{id}", get(batches::show))
        .route("/v1/batches/{id}/serials", get(batches::serials))
        .route("/v1/batches/{id}/close", post(batches::close))
        .route("/v1/events", get(events::list))
        .route("/v1/journal/backup", get(backup::stream))
        .route("/v1/fixtures/{name}/traffic", get(listening::stream))
        .route("/v1/reconcile", post(reconcile::run))
        .route("/v1/report", get(report::show))
        .route("/v1/drain", post(commands::drain))
        .route("/v1/resume", post(commands::resume))
        .route("/v1/log-level", put(commands::log_level))
        .route("/metrics", get(metrics))
        .route("/v1/openapi.json", get(openapi::document))
        .method_not_allowed_fallback(wrong_verb_here)
        .fallback(async || {
            not_found("there is nothing at this path").with_hint("the paths begin with /v1: try /v1/status")
        })
        .with_state(context)
}

/// What the board's port serves: to be looked at, and nothing of a single device but what the board shows.
fn board_router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/", get(board::page))
        .route("/board.css", get(board::style))
        .route("/board.js", get(board::script))
        .route("/board/parts", get(board::parts))
        .route("/v1/status", get(status::show))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(wrong_verb_here)
        .fallback(async || not_found("there is nothing at this path").with_hint("the board is at /"))
        .with_state(context)
}

async fn wrong_verb_here(method: Method) -> Refused {
    wrong_verb(format!("{method} is not for this path"))
}

/// What there is to be measured.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "station",
    responses((status = 200, description = "Prometheus' text format 0.0.4, or OpenMetrics 1.0.0 to whoever accepts it",
        content((String = "text/plain; version=0.0.4"), (String = "application/openmetrics-text; version=1.0.0"))))
)]
pub(super) async fn metrics(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    let format = Format::wanted(&headers);
    let snapshot = Snapshot {
        status: context.status.borrow().clone(),
        tally: context.sight.tally.borrow().clone(),
        figures: context.sight.instruments.figures(),
        now: context.sight.clock.now().wall,
    };
    ([(header::CONTENT_TYPE, format.media_type())], metrics::render(&snapshot, format)).into_response()
}

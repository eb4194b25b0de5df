//! The local API's server: HTTP/1.1 on a Unix socket, for people and scripts on this host. Nothing
//! that a client does or leaves undone may cost the line anything: all is bounded, and every answer
//! comes from a snapshot or from the journal's reading half.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access::{Access, Caller};
use super::connection::{Held, Limits, Progress, Watched};
use super::problem::{Refused, bad_request, not_found, too_large, too_slow, unavailable, wrong_verb};
use super::reading::Reading;
use super::report::{self, Reporting};
use super::{Status, backup, commands, devices, events, orders};
use crate::device::operator::{Operator, Order, Refusal};
use crate::device::serial::SerialNumber;

pub use super::socket::{ApiError, MAX_PATH_BYTES, bind};

/// Who has given a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The user's number.
    pub uid: u32,
    /// The user's name, for the records; `uid 1000` where it has none.
    pub name: String,
}

/// The answer to a command: done, or why not now, a sentence for the caller. Nobody may be there to
/// hear it any more; the command counts all the same.
pub type Reply = oneshot::Sender<Result<(), String>>;

/// The answer to an order: done, or why not.
pub type OrderReply = oneshot::Sender<Result<(), Refusal>>;

/// What the station is told to do. The caller may: that has been seen to.
#[derive(Debug)]
pub enum Command {
    /// Take no new units.
    Drain {
        /// Who wants it.
        peer: Peer,
        /// Told when it is done.
        reply: Reply,
    },
    /// Take new units again.
    Resume {
        /// Who wants it.
        peer: Peer,
        /// Told when it is done.
        reply: Reply,
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
    /// What reports are made with.
    pub reporting: Reporting,
}

/// Serves until `shutdown` is ready, then ends event streams at once, lets other requests finish for
/// at most five seconds, and returns. Dropping the future ends everything at once.
pub async fn serve(listener: UnixListener, api: Api, shutdown: impl Future<Output = ()>) {
    serve_within(listener, api, shutdown, Limits::default(), Access::default()).await;
}

/// What every handler has at hand.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) reading: Reading,
    status: watch::Receiver<Arc<Status>>,
    pub(super) reporting: Reporting,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) access: Access,
    pub(super) limits: Limits,
    pub(super) streams: Arc<Semaphore>,
    /// The daemon is ending.
    pub(super) ending: CancellationToken,
}

impl Context {
    /// What the station is doing.
    pub(super) fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }
}

/// On an answer whose body has no end: its connection has no deadline, but for the reader's own pace.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndlessAnswer;

pub(super) async fn serve_within(
    listener: UnixListener,
    api: Api,
    shutdown: impl Future<Output = ()>,
    limits: Limits,
    access: Access,
) {
    let ending = CancellationToken::new();
    let context = Arc::new(Context {
        reading: Reading::new(api.store, api.durable),
        status: api.status,
        reporting: api.reporting,
        commands: api.commands,
        access,
        limits,
        streams: Arc::new(Semaphore::new(limits.streams)),
        ending: ending.clone(),
    });
    let router = router(context);
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            accepted = accept(&listener, &permits) => {
                let (socket, permit) = accepted;
                let serving = connection(socket, router.clone(), limits, ending.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
        }
    }
    drop(listener);
    ending.cancel();
    let rest = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if tokio::time::timeout(limits.shutdown, rest).await.is_err() {
        tracing::warn!("requests at the local API were cut off by the end");
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection at the local API ended in a bug");
    }
}

/// The next connection, once there is room for one. Errors never end it: they say that a client was
/// too quick to leave, or that the system is short of something, which may pass.
async fn accept(listener: &UnixListener, permits: &Arc<Semaphore>) -> (UnixStream, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return std::future::pending().await };
        match listener.accept().await {
            Ok((socket, _)) => return (socket, permit),
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the local API cannot accept connections");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// Whether the error is about one connection only (accept(2)), so that the next may be tried at once.
fn is_the_clients(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::PERM | Errno::CONNRESET))
}

async fn connection(socket: UnixStream, router: Router, limits: Limits, ending: CancellationToken) {
    let caller = match socket.peer_cred() {
        Ok(it) => Caller { uid: it.uid(), gid: it.gid(), pid: it.pid().filter(|pid| *pid > 0) },
        Err(error) => {
            tracing::warn!(%error, "a connection at the local API does not say whose it is");
            return;
        }
    };
    let (socket, progress) = Watched::new(socket, limits);
    let service = hyper::service::service_fn(move |request| {
        respond(request, router.clone(), caller, progress.clone(), limits)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // The socket's own deadlines are tighter; with this one hyper looks at the socket while it waits.
        .header_read_timeout(limits.idle + limits.head)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = ending.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = %crate::error::Chain(&error), "a connection at the local API broke");
    }
}

/// One request: its body in full, then its handler, each within its limits.
async fn respond(
    request: hyper::Request<Incoming>,
    router: Router,
    caller: Caller,
    progress: Progress,
    limits: Limits,
) -> Result<Response<Held>, Infallible> {
    let serving = progress.serve();
    let answered = async {
        let mut request = match whole(request, limits).await {
            Ok(request) => request,
            Err(refused) => return refused.into_response(),
        };
        request.extensions_mut().insert(caller);
        match TowerToHyperService::new(router).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    let response = match tokio::time::timeout(limits.request.mul_f32(0.9), answered).await {
        Ok(response) => response,
        Err(_) => unavailable("the daemon did not find the answer in time").into_response(),
    };
    if response.extensions().get::<EndlessAnswer>().is_some() {
        serving.stream();
    }
    Ok(response.map(|body| Held::new(body, serving)))
}

/// Takes in the body: at most [`Limits::body_bytes`], half the request's time.
async fn whole(request: hyper::Request<Incoming>, limits: Limits) -> Result<Request, Refused> {
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(too_large(limits.body_bytes));
    }
    let collecting = Limited::new(body, limits.body_bytes).collect();
    match tokio::time::timeout(limits.request / 2, collecting).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, Body::from(body.to_bytes()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limits.body_bytes)),
        Ok(Err(error)) => Err(bad_request(format!("the request's body cannot be read: {error}"))),
        Err(_) => Err(too_slow()),
    }
}

fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/devices", get(devices::list))
        .route("/v1/devices/{serial}", get(devices::show))
        .route("/v1/devices/{serial}/retry", post(orders::retry))
        .route("/v1/devices/{serial}/release", post(orders::release))
        .route("/v1/devices/{serial}/scrap", post(orders::scrap))
        .route("/v1/events", get(events::list))
        .route("/v1/journal/backup", get(backup::stream))
        .route("/v1/report", get(report::show))
        .route("/v1/drain", post(commands::drain))
        .route("/v1/resume", post(commands::resume))
        .method_not_allowed_fallback(async |method: Method| {
            wrong_verb(format!("{method} is not for this path"))
        })
        .fallback(async || {
            not_found("there is nothing at this path").with_hint("the paths begin with /v1: try /v1/status")
        })
        .with_state(context)
}

async fn status(State(context): State<Arc<Context>>) -> Json<Arc<Status>> {
    Json(context.status.borrow().clone())
}

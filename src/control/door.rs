//! A listener and its connections, whatever they come through: the Unix socket or the board's port.
//!
//! A door lets in so many connections at a time, gives each its deadlines ([`super::connection`]), takes in
//! bodies of a bounded size, and hands whole requests to its routes. A door that strangers can reach has
//! a [`Guard`] as well.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access::Caller;
use super::connection::{Held, Limits, Serving, Watched};
use super::guard::Guard;
use super::problem::{Refused, bad_request, too_large, too_slow, unavailable};
use super::{aside, batches};

/// On an answer whose body has no end: its connection has no deadline, but for the reader's own pace.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndlessAnswer;

/// What connections come through.
pub(super) trait Entrance: Send + Sync + 'static {
    /// A connection.
    type Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// What it is called in the log.
    const NAME: &'static str;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Socket>> + Send;

    /// Who is at the other end; none where the kernel cannot know.
    ///
    /// # Errors
    /// The kernel should know and does not.
    fn caller(socket: &Self::Socket) -> io::Result<Option<Caller>>;
}

impl Entrance for UnixListener {
    type Socket = UnixStream;

    const NAME: &'static str = "the local API";

    async fn accept(&self) -> io::Result<UnixStream> {
        UnixListener::accept(self).await.map(|(socket, _)| socket)
    }

    fn caller(socket: &UnixStream) -> io::Result<Option<Caller>> {
        let it = socket.peer_cred()?;
        // Who is not known by them may still be by his number.
        let groups = crate::os::peer_groups(socket.as_fd()).unwrap_or_else(|error| {
            tracing::debug!(%error, "the kernel does not tell the groups of a caller");
            Vec::new()
        });
        let pid = it.pid().filter(|pid| *pid > 0);
        Ok(Some(Caller { uid: it.uid(), gid: it.gid(), pid, groups }))
    }
}

impl Entrance for TcpListener {
    type Socket = TcpStream;

    const NAME: &'static str = "the board";

    async fn accept(&self) -> io::Result<TcpStream> {
        let (socket, _) = TcpListener::accept(self).await?;
        // An event is small and wanted now. Where it cannot be set it comes a little later.
        let _ = socket.set_nodelay(true);
        Ok(socket)
    }

    fn caller(_socket: &TcpStream) -> io::Result<Option<Caller>> {
        Ok(None)
    }
}

/// What is behind a door.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) router: Router,
    pub(super) limits: Limits,
    /// None where the file system's permissions are the guard.
    pub(super) guard: Option<Arc<Guard>>,
    /// The daemon is ending.
    pub(super) ending: CancellationToken,
}

/// Serves until the daemon ends; then lets requests under way finish for as long as the limits say.
pub(super) async fn serve<E: Entrance>(entrance: E, room: Room) {
    let permits = Arc::new(Semaphore::new(room.limits.connections));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = room.ending.cancelled() => break,
            Some(ended) = connections.join_next() => log_panic::<E>(ended),
            (socket, permit) = accept(&entrance, &permits) => {
                let serving = connection::<E>(socket, room.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
        }
    }
    drop(entrance);
    let rest = async {
        while let Some(ended) = connections.join_next().await {
            log_panic::<E>(ended);
        }
    };
    if tokio::time::timeout(room.limits.shutdown, rest).await.is_err() {
        tracing::warn!("requests at {} were cut off by the end", E::NAME);
    }
}

fn log_panic<E: Entrance>(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection at {} ended in a bug", E::NAME);
    }
}

/// The next connection, once there is room for one. Errors never end it: they say that a client was
/// too quick to leave, or that the system is short of something, which may pass.
async fn accept<E: Entrance>(entrance: &E, permits: &Arc<Semaphore>) -> (E::Socket, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return std::future::pending().await };
        match entrance.accept().await {
            Ok(socket) => return (socket, permit),
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "{} cannot accept connections", E::NAME);
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

async fn connection<E: Entrance>(socket: E::Socket, room: Room) {
    let caller = match E::caller(&socket) {
        Ok(it) => it,
        Err(error) => {
            tracing::warn!(%error, "a connection at {} does not say whose it is", E::NAME);
            return;
        }
    };
    let (limits, ending) = (room.limits, room.ending.clone());
    let (mut socket, progress) = Watched::new(socket, limits);
    socket.guarded = room.guard.is_some();
    let asked = CancellationToken::new();
    let has_asked = asked.clone();
    // At once, and not when the answer is begun: until then the socket would take what it reads for a head's.
    let service = hyper::service::service_fn(move |request| {
        let serving = progress.serve();
        has_asked.cancel();
        respond(request, room.clone(), caller.clone(), serving)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // The socket's own deadlines are tighter; with this one hyper looks at the socket while it waits.
        .header_read_timeout(limits.idle + limits.head)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    // One that was accepted a moment ago, and whose request is still on its way, would be cut off without a word. What is
    // under way ends at once: it has asked.
    let may_end = async {
        ending.cancelled().await;
        let _ = tokio::time::timeout(limits.first, asked.cancelled()).await;
    };
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = may_end => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Bad HTTP, a deadline, a peer that left: nothing that anyone here could mend.
    if let Err(error) = served {
        tracing::debug!(error = %crate::error::Chain(&error), "a connection at {} broke", E::NAME);
    }
}

/// One request: its body in full, then its handler, each within its limits.
async fn respond(
    request: hyper::Request<Incoming>,
    room: Room,
    caller: Option<Caller>,
    serving: Serving,
) -> Result<Response<Held>, Infallible> {
    let Room { router, limits, guard, .. } = room;
    if let (Some(caller), true) = (&caller, batches::is_streamed(&request)) {
        // Read by its handler as it comes, which has limits of its own; so has what it waits for.
        serving.stream();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller.clone());
        let response = match TowerToHyperService::new(router).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        return Ok(response.map(|body| Held::new(body, serving)));
    }
    let answered = async {
        if let Some(Err(refused)) = guard.as_ref().map(|it| it.admit(&request)) {
            return refused.into_response();
        }
        let mut request = match whole(request, limits).await {
            Ok(request) => request,
            Err(refused) => return refused.into_response(),
        };
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        match TowerToHyperService::new(router).call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    let mut response = match tokio::time::timeout(limits.request.mul_f32(0.9), answered).await {
        Ok(response) => response,
        Err(_) => unavailable("the daemon did not find the answer in time").into_response(),
    };
    if guard.is_some() {
        Guard::seal(response.headers_mut());
    }
    if response.extensions().get::<EndlessAnswer>().is_some() {
        serving.stream();
    }
    aside::give_way();
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

//! One connection: how long it may wait for what, and how much it may send.
//!
//! ```text
//!   fresh ──first byte──> head ──whole head──> serving ──response sent──> idle ──first byte──> head …
//!   5 s in all ─────────────┘                  30 s (an event stream: none)  30 s                5 s
//! ```
//! Besides, a peer that takes nothing for ten seconds while there is something for it is dropped. What the kernels
//! hold for it counts as taken, so one that never reads and is sent little is found out late or never: a screen
//! that follows the board has to ask again from time to time instead. The
//! deadlines live in the socket's own `poll_read` and `poll_write`, so that none can be forgotten. So does the
//! last word to whoever has begun a request that never became one ([`super::farewell`]).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body as http_body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::farewell;
use super::problem::Refused;

/// How long a connection may take for what, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections served at the same time; further ones wait in the kernel.
    pub(super) connections: usize,
    /// Event streams among them.
    pub(super) streams: usize,
    /// Readers of fixtures' traffic among them: one for each fixture that a person looks at.
    pub(super) listeners: usize,
    /// From the connection (or the first byte of a further request) to the end of the head.
    pub(super) head: Duration,
    /// From the head to the last byte of the answer.
    pub(super) request: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
    /// Without taking a byte of what there is to send.
    pub(super) stall: Duration,
    /// For the whole list of a batch: while one comes, no other batch can be opened.
    pub(super) list: Duration,
    /// Between two comments on a quiet event stream.
    pub(super) keep_alive: Duration,
    /// For which a screen follows the board; then it has to ask again.
    pub(super) follow: Duration,
    /// For the first request of a connection that was accepted and has asked nothing yet when the daemon ends.
    pub(super) first: Duration,
    /// For what is under way when the daemon ends.
    pub(super) shutdown: Duration,
    /// A request's body, bytes.
    pub(super) body_bytes: usize,
    /// A request's head, bytes. hyper's smallest is 8 KiB.
    pub(super) head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            streams: 16,
            listeners: 32,
            head: Duration::from_secs(5),
            request: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            stall: Duration::from_secs(10),
            list: Duration::from_secs(600),
            keep_alive: Duration::from_secs(15),
            follow: Duration::from_secs(120),
            first: Duration::from_secs(1),
            shutdown: Duration::from_secs(5),
            body_bytes: 64 << 10,
            head_bytes: 16 << 10,
        }
    }
}

/// Bytes of a refused request that are taken before its connection is closed, at most.
const DISCARDED: usize = 256 << 10;

/// Connections at a door that are served however few files may be open: somebody has to be able to ask why.
const FEWEST: usize = 4;

impl Limits {
    /// With so many connections that `reserve` of `open_files` are left for the station, whoever connects to its
    /// `doors`; event streams and readers of traffic have the same share of them as ever.
    pub(super) fn within(self, open_files: Option<u64>, reserve: usize, doors: usize) -> Self {
        let files = open_files.map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(usize::MAX));
        let each = files.saturating_sub(reserve) / doors.max(1);
        let connections = each.clamp(FEWEST, self.connections.max(FEWEST));
        let share = |part: usize| (part * connections / self.connections.max(1)).max(1);
        Self { connections, streams: share(self.streams), listeners: share(self.listeners), ..self }
    }
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Serving,
    Streaming,
    Idle,
}

/// What a connection is at, shared between its socket and its service. The number changes with
/// each change of phase, so that the socket knows when to wind up its timer again.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Mutex<(Phase, u64)>>);

impl Progress {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((Phase::Head, 0))))
    }

    fn read(&self) -> (Phase, u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        let mut it = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *it = (phase, it.1.wrapping_add(1));
    }

    /// A request's head is there. The connection serves until the answer is dropped.
    pub(super) fn serve(&self) -> Serving {
        self.set(Phase::Serving);
        Serving(self.clone())
    }
}

/// Held while a request is served, its answer's body included.
#[derive(Debug)]
pub(super) struct Serving(Progress);

impl Serving {
    /// The answer goes on for as long as its reader takes it.
    pub(super) fn stream(&self) {
        self.0.set(Phase::Streaming);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.set(Phase::Idle);
    }
}

/// An answer's body, with which the request is served until hyper has taken all of it.
#[derive(Debug)]
pub(super) struct Held {
    body: Body,
    _serving: Serving,
}

impl Held {
    pub(super) fn new(body: Body, serving: Serving) -> Self {
        Self { body, _serving: serving }
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A socket that ends with [`io::ErrorKind::TimedOut`] when its peer is too slow.
#[derive(Debug)]
pub(super) struct Watched<S> {
    socket: S,
    limits: Limits,
    progress: Progress,
    /// The phase's deadline, and the number of the phase for which it was set.
    deadline: (Option<Pin<Box<Sleep>>>, u64),
    /// Runs while the peer takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    /// The number of the phase [`Phase::Head`] in which the peer has been heard.
    heard: Option<u64>,
    /// What is left to be written in the place of a refusal of hyper's own.
    instead: Option<Bytes>,
    /// hyper has refused what it read.
    refused: bool,
    /// The door has a guard, whose headers every answer bears.
    pub(super) guarded: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S, limits: Limits) -> (Self, Progress) {
        let progress = Progress::new();
        let deadline = (Some(Box::pin(tokio::time::sleep(limits.head))), 0);
        let ours = progress.clone();
        let it = Self {
            socket,
            limits,
            progress: ours,
            deadline,
            stall: None,
            heard: None,
            instead: None,
            refused: false,
            guarded: false,
        };
        (it, progress)
    }

    /// Ready when the phase has lasted too long.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (phase, number) = self.progress.read();
        if self.deadline.1 != number {
            let limit = match phase {
                Phase::Head => Some(self.limits.head),
                Phase::Serving => Some(self.limits.request),
                Phase::Streaming => None,
                Phase::Idle => Some(self.limits.idle),
            };
            self.deadline = (limit.map(|it| Box::pin(tokio::time::sleep(it))), number);
        }
        match &mut self.deadline.0 {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// What to make of an attempt to write: one that got nowhere runs against both clocks.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, tried: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            self.stall = None;
            return tried;
        }
        let limit = self.limits.stall;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        let stalled = stall.as_mut().poll(cx).is_ready();
        if stalled || self.poll_deadline(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Bytes of the peer's have come.
    fn hear(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        if self.progress.read().0 == Phase::Idle {
            self.progress.set(Phase::Head);
        }
        let (phase, number) = self.progress.read();
        if phase == Phase::Head {
            let begins = self.heard != Some(number);
            self.heard = Some(number);
            if let Some(refused) = farewell::of_http_2(bytes).filter(|_| begins) {
                self.part(cx, &refused);
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(())
    }

    /// Tells the peer why it is not served, if it has begun a request: at once or not at all, and an earlier answer
    /// that it has not taken yet is not cut in two.
    fn part(&mut self, cx: &mut Context<'_>, refused: &Refused) {
        let (phase, number) = self.progress.read();
        if phase == Phase::Head && self.heard == Some(number) && self.stall.is_none() {
            self.heard = None;
            let last = farewell::bytes(refused, self.guarded);
            // It may be gone.
            let _ = Pin::new(&mut self.socket).poll_write(cx, &last);
        }
    }

    /// Takes what has come of a request that was refused, but waits for nothing: with bytes unread TCP would reset
    /// the connection, and the peer might never see why.
    fn discard(&mut self, cx: &mut Context<'_>)
    where
        S: AsyncRead,
    {
        let mut bytes = [0; 4096];
        for _ in 0..DISCARDED / bytes.len() {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                _ => return,
            }
        }
    }

    /// Writes a sentence in the place of a refusal of hyper's own; none if `written` is anything else.
    fn poll_instead(&mut self, cx: &mut Context<'_>, written: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.instead.is_none() && matches!(self.progress.read().0, Phase::Head | Phase::Idle) {
            let refused = farewell::instead_of(written, self.limits.head_bytes);
            self.instead = refused.map(|it| farewell::bytes(&it, self.guarded));
            self.refused |= self.instead.is_some();
        }
        let mut left = self.instead.take()?;
        while !left.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &left) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(taken)) => drop(left.split_to(taken)),
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => {
                    self.instead = Some(left);
                    return Some(Poll::Pending);
                }
            }
        }
        Some(Poll::Ready(Ok(written.len())))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        if let Poll::Ready(result) = Pin::new(&mut this.socket).poll_read(cx, buf) {
            let came = &buf.filled()[before..];
            if !came.is_empty() {
                this.hear(cx, came)?;
            } else if result.is_ok() && room > 0 {
                this.part(cx, &farewell::half_head());
            }
            return Poll::Ready(result);
        }
        ready!(this.poll_deadline(cx));
        this.part(cx, &farewell::slow_head());
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let tried = match this.poll_instead(cx, buf) {
            Some(tried) => tried,
            None => Pin::new(&mut this.socket).poll_write(cx, buf),
        };
        this.watch_write(cx, tried)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has no buffer of its own to flush; an attempt here must not stop the clock of a
        // write that got nowhere.
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
        if this.refused {
            this.discard(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let instead = if let [buf] = bufs { this.poll_instead(cx, buf) } else { None };
        let tried = match instead {
            Some(tried) => tried,
            None => Pin::new(&mut this.socket).poll_write_vectored(cx, bufs),
        };
        this.watch_write(cx, tried)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(600);

    fn limits() -> Limits {
        Limits { head: LONG, request: LONG, idle: LONG, stall: LONG, ..Limits::default() }
    }

    #[test]
    fn connections_leave_the_station_its_open_files() {
        let limits = |files, reserve, doors| {
            let it = Limits::default().within(files, reserve, doors);
            (it.connections, it.streams, it.listeners)
        };
        assert_eq!(limits(None, 180, 2), (64, 16, 32), "without a limit as many as there may be");
        assert_eq!(limits(Some(4096), 180, 2), (64, 16, 32));
        assert_eq!(limits(Some(260), 180, 2), (40, 10, 20));
        assert_eq!(limits(Some(260), 180, 1), (64, 16, 32));
        assert_eq!(limits(Some(64), 180, 2), (4, 1, 2), "somebody can always ask");
        assert_eq!(limits(Some(0), 0, 0), (4, 1, 2));
    }

    async fn fill(socket: &mut Watched<UnixStream>) -> io::Error {
        loop {
            if let Err(error) = socket.write_all(&[b'x'; 65_536]).await {
                return error;
            }
        }
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_dropped() {
        let (_peer, ours) = UnixStream::pair().unwrap();
        let (mut ours, _) = Watched::new(ours, Limits { head: SHORT, ..limits() });
        assert_eq!(ours.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn one_byte_after_the_other_does_not_move_the_deadline_of_a_head() {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let (mut ours, _) = Watched::new(ours, Limits { head: SHORT, ..limits() });
        let dripping = tokio::spawn(async move {
            while peer.write_u8(b'G').await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        let error = loop {
            if let Err(error) = ours.read_u8().await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(ours);
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_between_two_requests_has_its_own_deadline() {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let (mut ours, progress) = Watched::new(ours, Limits { idle: SHORT, ..limits() });
        drop(progress.serve());
        assert_eq!(ours.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(progress.serve());
        peer.write_u8(b'G').await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), b'G');
        assert_eq!(progress.read().0, Phase::Head, "the first byte begins the next head");
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_dropped_even_from_a_stream() {
        let (_peer, ours) = UnixStream::pair().unwrap();
        let (mut ours, progress) = Watched::new(ours, Limits { stall: SHORT, ..limits() });
        let serving = progress.serve();
        serving.stream();
        assert_eq!(fill(&mut ours).await.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn an_answer_has_to_be_taken_within_the_requests_deadline() {
        let (_peer, ours) = UnixStream::pair().unwrap();
        let (mut ours, progress) = Watched::new(ours, Limits { request: SHORT, ..limits() });
        let _serving = progress.serve();
        assert_eq!(fill(&mut ours).await.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_stream_may_be_quiet_for_as_long_as_it_likes() {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let limits = Limits { head: SHORT, request: SHORT, idle: SHORT, stall: SHORT, ..limits() };
        let (mut ours, progress) = Watched::new(ours, limits);
        let serving = progress.serve();
        serving.stream();
        // The timer of another connection ends; this one's does not exist.
        let waited = tokio::time::timeout(3 * SHORT, ours.read_u8()).await;
        assert!(waited.is_err(), "{waited:?}");
        ours.write_all(b"data").await.unwrap();
        assert_eq!(peer.read_u8().await.unwrap(), b'd');
    }
}

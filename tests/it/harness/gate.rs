//! The network between the station and AWS, which can be taken away.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::set_socket_reuseport;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// What becomes of a connection to AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is refused.
    Off,
    /// It leads to the simulated AWS.
    On,
    /// Every request is answered `AccessDeniedException`.
    Deny,
    /// … `InvalidSignatureException`, as by a clock that is wrong.
    Skew,
    /// … `LimitExceededException`.
    Full,
    /// … `ThrottlingException`.
    Throttle,
    /// … `InvalidRequestException`: refused for good.
    Refuse,
}

/// A port that is ours from the beginning, so that no other test takes it while it is closed.
pub(crate) struct Gate {
    address: SocketAddr,
    /// Bound and never listening: holds the number.
    _holder: OwnedFd,
    mode: watch::Sender<Mode>,
    /// Pieces that have come through, in both directions.
    pieces: watch::Sender<u64>,
    runtime: Handle,
    cloud: SocketAddr,
}

impl Gate {
    /// An open gate to `cloud`.
    pub(crate) fn new(cloud: SocketAddr, runtime: Handle) -> Self {
        let holder = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = SocketAddr::try_from(getsockname(&holder).unwrap()).unwrap();
        let (mode, pieces) = (watch::channel(Mode::Off).0, watch::channel(0).0);
        let mut gate = Self { address, _holder: holder, mode, pieces, runtime, cloud };
        gate.set(Mode::On);
        gate
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections that are open are closed.
    pub(crate) fn set(&mut self, mode: Mode) {
        let before = self.mode.send_replace(mode);
        if before == Mode::Off && mode != Mode::Off {
            let socket = bound(self.address);
            listen(&socket, 128).unwrap();
            let listener = TcpListener::from(socket);
            listener.set_nonblocking(true).unwrap();
            let pieces = self.pieces.clone();
            self.runtime.spawn(accept(listener, self.mode.subscribe(), pieces, self.cloud));
        }
    }

    /// Returns when so many more pieces of requests and answers have come through, and after
    /// `within` at the latest.
    pub(crate) fn wait_for_pieces(&self, count: u64, within: Duration) {
        let mut pieces = self.pieces.subscribe();
        let enough = *pieces.borrow() + count;
        self.runtime.block_on(async {
            // Whether in time or not: either is the moment.
            let _ = tokio::time::timeout(within, pieces.wait_for(|it| *it >= enough)).await;
        });
    }
}

fn bound(address: SocketAddr) -> OwnedFd {
    // Not for children: a station must not keep its own AWS alive.
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    set_socket_reuseport(&socket, true).unwrap();
    bind(&socket, &address).unwrap();
    socket
}

async fn accept(
    listener: TcpListener,
    mut mode: watch::Receiver<Mode>,
    pieces: watch::Sender<u64>,
    cloud: SocketAddr,
) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let accepted = tokio::select! {
            biased;
            closed = mode.wait_for(|it| *it == Mode::Off) => {
                // The gate is closed, or gone with its world: nobody listens any more.
                let _ = closed;
                return;
            }
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { return };
        let (mut mode, pieces) = (mode.clone(), pieces.clone());
        let now = *mode.borrow_and_update();
        tokio::spawn(async move {
            let serve = async {
                match now {
                    Mode::On => forward(stream, cloud, &pieces).await,
                    Mode::Deny => refuse(stream, "403 Forbidden", "AccessDeniedException").await,
                    Mode::Skew => refuse(stream, "403 Forbidden", "InvalidSignatureException").await,
                    Mode::Full => refuse(stream, "410 Gone", "LimitExceededException").await,
                    Mode::Throttle => refuse(stream, "429 Too Many Requests", "ThrottlingException").await,
                    Mode::Refuse => refuse(stream, "400 Bad Request", "InvalidRequestException").await,
                    Mode::Off => Ok(()),
                }
            };
            tokio::select! {
                // A connection that breaks is what the other side has to bear.
                _ = serve => {}
                _ = mode.changed() => {}
            }
        });
    }
}

async fn forward(
    mut stream: TcpStream,
    cloud: SocketAddr,
    pieces: &watch::Sender<u64>,
) -> std::io::Result<()> {
    let mut onward = TcpStream::connect(cloud).await?;
    let (from_station, to_station) = stream.split();
    let (from_cloud, to_cloud) = onward.split();
    tokio::try_join!(pump(from_station, to_cloud, pieces), pump(from_cloud, to_station, pieces))?;
    Ok(())
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    pieces: &watch::Sender<u64>,
) -> std::io::Result<()> {
    let mut piece = Vec::with_capacity(16 << 10);
    while from.read_buf(&mut piece).await? > 0 {
        // Told before it goes on, so that whoever waits for it may be quicker than the other end.
        pieces.send_modify(|it| *it += 1);
        to.write_all(&piece).await?;
        piece.clear();
    }
    to.shutdown().await
}

async fn refuse(mut stream: TcpStream, status: &str, code: &str) -> std::io::Result<()> {
    const BODY: &str = r#"{"message":"this is refused, whoever asks"}"#;
    let mut request = Vec::new();
    while !is_whole(&request) {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let answer = format!(
        "HTTP/1.1 {status}\r\nx-amzn-errortype: {code}\r\nx-amzn-requestid: deny-1\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Whether head and body are there.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().filter_map(|it| it.split_once(": "));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    body.len() >= length.filter_map(|(_, it)| it.parse().ok()).next().unwrap_or(0)
}

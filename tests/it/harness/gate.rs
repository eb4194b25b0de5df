//! The network between the station and AWS, which can be taken away.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_reuseport;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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
}

/// A port that is ours from the beginning, so that no other test takes it while it is closed.
pub(crate) struct Gate {
    address: SocketAddr,
    /// Bound and never listening: holds the number.
    _holder: OwnedFd,
    mode: watch::Sender<Mode>,
    runtime: Handle,
    cloud: SocketAddr,
}

impl Gate {
    /// An open gate to `cloud`.
    pub(crate) fn new(cloud: SocketAddr, runtime: Handle) -> Self {
        let holder = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = SocketAddr::try_from(getsockname(&holder).unwrap()).unwrap();
        let mut gate = Self { address, _holder: holder, mode: watch::channel(Mode::Off).0, runtime, cloud };
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
            self.runtime.spawn(accept(listener, self.mode.subscribe(), self.cloud));
        }
    }
}

fn bound(address: SocketAddr) -> OwnedFd {
    // Not for children: a station must not keep its own AWS alive.
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    set_socket_reuseport(&socket, true).unwrap();
    bind(&socket, &address).unwrap();
    socket
}

async fn accept(listener: TcpListener, mut mode: watch::Receiver<Mode>, cloud: SocketAddr) {
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
        let mut mode = mode.clone();
        let now = *mode.borrow_and_update();
        tokio::spawn(async move {
            let serve = async {
                match now {
                    Mode::On => forward(stream, cloud).await,
                    Mode::Deny => refuse(stream, "403 Forbidden", "AccessDeniedException").await,
                    Mode::Skew => refuse(stream, "403 Forbidden", "InvalidSignatureException").await,
                    Mode::Full => refuse(stream, "410 Gone", "LimitExceededException").await,
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

async fn forward(mut stream: TcpStream, cloud: SocketAddr) -> std::io::Result<()> {
    let mut onward = TcpStream::connect(cloud).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut onward).await?;
    Ok(())
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

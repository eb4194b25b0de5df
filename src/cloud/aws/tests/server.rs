//! An HTTP/1.1 server on loopback that answers from a script, well or badly.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What the server does when a request has come in whole.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Writes these bytes and keeps the connection.
    Answer(Vec<u8>),
    /// Writes these bytes and closes.
    Cut(Vec<u8>),
    /// Writes these bytes and no more.
    Stall(Vec<u8>),
    /// Resets the connection.
    Reset,
}

impl Step {
    /// An answer as AWS's front end gives it: with a request id.
    pub(super) fn aws(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers =
            [headers, &[("x-amzn-RequestId", "req-1"), ("content-type", "application/json")]].concat();
        Self::Answer(answer(status, &headers, body))
    }

    /// An error of AWS's, its code in the header as both services send it.
    pub(super) fn error(status: u16, code: &str) -> Self {
        let body = r#"{"message":"why not"}"#;
        Self::aws(status, &[("x-amzn-ErrorType", code)], body)
    }

    /// A page of somebody in between.
    pub(super) fn page(status: u16) -> Self {
        let html = "<html><body>Please sign in</body></html>";
        Self::Answer(answer(status, &[("content-type", "text/html; charset=utf-8")], html))
    }
}

/// The bytes of an answer with a content length.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{head}\r\n{body}").into_bytes()
}

/// A request that came in whole.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[derive(Debug, Default)]
struct Record {
    seen: Vec<Seen>,
    connections: usize,
    tasks: Vec<AbortHandle>,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    accepting: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.record.lock().unwrap().tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Server {
    pub(super) async fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Mutex::new(Record::default()));
        let shared = Arc::clone(&record);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = tokio::spawn(serve(stream, steps.clone(), Arc::clone(&shared)));
                let mut record = shared.lock().unwrap();
                record.connections += 1;
                record.tasks.push(serving.abort_handle());
            }
        });
        Self { address, record, accepting: accepting.abort_handle() }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.record.lock().unwrap().seen.clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.record.lock().unwrap().connections
    }
}

async fn serve(mut stream: TcpStream, steps: Vec<Step>, record: Arc<Mutex<Record>>) {
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut buffer).await {
        let step = {
            let mut record = record.lock().unwrap();
            record.seen.push(seen);
            let index = (record.seen.len() - 1).min(steps.len() - 1);
            steps[index].clone()
        };
        match step {
            Step::Answer(bytes) => stream.write_all(&bytes).await.unwrap_or_default(),
            Step::Cut(bytes) => {
                stream.write_all(&bytes).await.unwrap_or_default();
                return stream.shutdown().await.unwrap_or_default();
            }
            Step::Stall(bytes) => {
                stream.write_all(&bytes).await.unwrap_or_default();
                return std::future::pending().await;
            }
            Step::Reset => {
                // No lingering: the kernel sends RST instead of FIN.
                return rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))
                    .unwrap_or_default();
            }
        }
    }
}

/// The next request, or nothing when the peer has closed.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.lines();
    let mut start = lines.next()?.split(' ').map(str::to_owned);
    let (method, target) = (start.next()?, start.next()?);
    let headers: BTreeMap<String, String> = lines
        .filter_map(|it| it.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    let total = head_end + 4 + length;
    while buffer.len() < total {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8_lossy(&buffer[head_end + 4..total]).into_owned();
    buffer.drain(..total);
    Some(Seen { method, target, headers, body })
}

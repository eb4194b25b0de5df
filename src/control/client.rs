//! The local API's client: what the commands that speak to the daemon use.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;

use super::Problem;
use crate::error::ExitStatus;

/// Longest wait for an answer: more than the 30 s that the server gives itself, so that what it says decides.
const TIMEOUT: Duration = Duration::from_secs(35);

/// The same for a list of a million serial numbers, on a slow disk.
const LIST_TIMEOUT: Duration = Duration::from_secs(900);

/// Longest answer, bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Longest silence of an answer that is followed; the daemon says every 15 s that it goes on.
const QUIET: Duration = Duration::from_secs(60);

/// Why the daemon gave no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum ClientError {
    #[error("the daemon cannot be reached at {}: is it running?", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    #[error("you may not open {}: root and the members of its group may", path.display())]
    NotPermitted { path: PathBuf, source: io::Error },
    #[error("the connection to the daemon at {} broke", path.display())]
    Broken { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the daemon at {} has ended", path.display())]
    Ended { path: PathBuf },
    #[error("the daemon at {} did not answer within {} s", path.display(), TIMEOUT.as_secs())]
    TimedOut { path: PathBuf },
    #[error("the daemon's answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    #[error("what listens at {} does not answer as linemint does", path.display())]
    Foreign { path: PathBuf, source: Option<serde_json::Error> },
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
}

impl ClientError {
    /// What the command ends with.
    #[must_use]
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Ended { .. }
            | Self::TimedOut { .. }
            | Self::Foreign { .. } => ExitStatus::Unreachable,
            Self::NotPermitted { .. } => ExitStatus::NotPermitted,
            Self::TooLarge => ExitStatus::Io,
            Self::Refused(problem) => match problem.status {
                403 => ExitStatus::NotPermitted,
                404 => ExitStatus::Bad,
                _ => ExitStatus::Refused,
            },
        }
    }

    /// What to do about it, where the daemon said so.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => problem.hint.as_deref(),
            _ => None,
        }
    }
}

/// Speaks to the daemon: a connection for each request, and for each answer a little longer than the daemon takes
/// for one at most.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client of the daemon that listens at `path`. Nothing is opened yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `GET` of `target` answers; a target is a path with its query, encoded
    /// (see [`encoded`]).
    ///
    /// # Errors
    /// There is no daemon, it does not answer in time or refuses, or the answer is no `T`.
    pub async fn get_json<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.exchange(Method::GET, target, Bytes::new()).await
    }

    /// What `POST` of `body` to `target` answers.
    ///
    /// # Errors
    /// As [`get_json`](Self::get_json).
    pub async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        self.exchange(Method::POST, target, body.into()).await
    }

    /// Writes what `GET` of `target` answers, as it comes; says what the header named `told` says.
    ///
    /// # Errors
    /// As [`get_json`](Self::get_json); the inner one if `out` takes nothing more.
    pub async fn download(
        &self,
        target: &str,
        told: &str,
        out: &mut impl io::Write,
    ) -> Result<Result<Option<String>, io::Error>, ClientError> {
        let timed_out = || ClientError::TimedOut { path: self.path.clone() };
        let sending = self.open(Method::GET, target, ("application/json", Full::new(Bytes::new())));
        let (_driver, mut response) =
            tokio::time::timeout(TIMEOUT, sending).await.map_err(|_| timed_out())??;
        if !response.status().is_success() {
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| self.broken(error))?.to_bytes();
            return match serde_json::from_slice(&body) {
                Ok(problem) => Err(ClientError::Refused(problem)),
                Err(error) => Err(self.foreign(Some(error))),
            };
        }
        let said = response.headers().get(told).and_then(|it| it.to_str().ok()).map(str::to_owned);
        loop {
            let frame = tokio::time::timeout(TIMEOUT, response.frame()).await.map_err(|_| timed_out())?;
            let Some(frame) = frame else { return Ok(Ok(said)) };
            let frame = frame.map_err(|error| self.broken(error))?;
            if let Some(bytes) = frame.data_ref()
                && let Err(error) = out.write_all(bytes)
            {
                return Ok(Err(error));
            }
        }
    }

    /// Follows what `POST` of `body` to `target` answers line by line, a JSON document each, until `take` says
    /// that it has heard enough or the answer ends. Empty lines say only that it goes on.
    ///
    /// # Errors
    /// As [`get_json`](Self::get_json); the answer ends within a line, or nothing comes for a minute.
    pub async fn follow<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
        mut take: impl FnMut(T) -> bool,
    ) -> Result<(), ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        let mut lines = self.answer_lines(Method::POST, target, body.into()).await?;
        loop {
            let line = tokio::time::timeout(QUIET, lines.next()).await;
            let line = match line.map_err(|_| ClientError::TimedOut { path: self.path.clone() })? {
                Err(ClientError::Ended { .. }) if lines.kept.is_empty() => return Ok(()),
                Err(ClientError::Ended { .. }) => return Err(self.broken("the answer was cut off")),
                line => line?,
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            if !take(serde_json::from_slice(&line).map_err(|error| self.foreign(Some(error)))?) {
                return Ok(());
            }
        }
    }

    /// What `POST` of a list to `target` answers: `lines` are the pieces of its text, sent one after the other.
    ///
    /// # Errors
    /// As [`get_json`](Self::get_json).
    pub async fn post_lines<T: DeserializeOwned>(
        &self,
        target: &str,
        lines: impl Iterator<Item = Bytes> + Send + 'static,
    ) -> Result<T, ClientError> {
        let frames = futures_util::stream::iter(lines.map(|it| Ok::<_, Infallible>(Frame::data(it))));
        let sending = self.send(Method::POST, target, ("text/plain", StreamBody::new(frames)));
        self.told(tokio::time::timeout(LIST_TIMEOUT, sending).await)
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let sending = self.send(method, target, ("application/json", Full::new(body)));
        self.told(tokio::time::timeout(TIMEOUT, sending).await)
    }

    /// What an answer says.
    fn told<T: DeserializeOwned>(
        &self,
        exchanged: Result<Result<(StatusCode, Bytes), ClientError>, Elapsed>,
    ) -> Result<T, ClientError> {
        let (status, body) = exchanged.map_err(|_| ClientError::TimedOut { path: self.path.clone() })??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.foreign(Some(error)));
        }
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(ClientError::Refused(problem)),
            Err(error) => Err(self.foreign(Some(error))),
        }
    }

    /// What `GET` of `target` answers, line by line as they come, without end.
    ///
    /// # Errors
    /// As [`get_json`](Self::get_json).
    pub async fn lines(&self, target: &str) -> Result<AnswerLines, ClientError> {
        self.answer_lines(Method::GET, target, Bytes::new()).await
    }

    async fn answer_lines(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<AnswerLines, ClientError> {
        let opening = self.open(method, target, ("application/json", Full::new(body)));
        let opened = tokio::time::timeout(TIMEOUT, opening).await;
        let (driver, response) = opened.map_err(|_| ClientError::TimedOut { path: self.path.clone() })??;
        if response.status().is_success() {
            let (client, body) = (self.clone(), response.into_body());
            return Ok(AnswerLines { client, body, kept: Vec::new(), _driver: driver });
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect();
        let body = tokio::time::timeout(TIMEOUT, body).await;
        let body = body.map_err(|_| ClientError::TimedOut { path: self.path.clone() })?;
        let body = body.map_err(|error| self.broken(error))?.to_bytes();
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(ClientError::Refused(problem)),
            Err(error) => Err(self.foreign(Some(error))),
        }
    }

    async fn send<B>(
        &self,
        method: Method,
        target: &str,
        body: (&'static str, B),
    ) -> Result<(StatusCode, Bytes), ClientError>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    {
        let (_driver, response) = self.open(method, target, body).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        match body {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Sends a request on a connection of its own, which lasts as long as the driver.
    async fn open<B>(
        &self,
        method: Method,
        target: &str,
        (kind, body): (&'static str, B),
    ) -> Result<(Driver, Response<Incoming>), ClientError>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    {
        let socket = UnixStream::connect(&self.path).await.map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|error| self.broken(error))?;
        // Ends with whoever holds it, however that ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, kind)
            .body(body)
            .map_err(|error| self.broken(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        Ok((driver, response))
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted { path, source },
            _ => ClientError::Unreachable { path, source },
        }
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken { path: self.path.clone(), source: source.into() }
    }

    fn foreign(&self, source: Option<serde_json::Error>) -> ClientError {
        ClientError::Foreign { path: self.path.clone(), source }
    }
}

/// Moves a connection's bytes; ends with whoever holds it.
type Driver = JoinSet<Result<(), hyper::Error>>;

/// An answer that comes line by line.
#[derive(Debug)]
pub struct AnswerLines {
    client: Client,
    body: Incoming,
    /// What has come and is not given out yet.
    kept: Vec<u8>,
    _driver: Driver,
}

impl AnswerLines {
    /// The next line, without its end; waits as long as it takes. Nothing is lost if it is cancelled.
    ///
    /// # Errors
    /// The daemon has ended, the connection broke, or a line is longer than an answer may be.
    pub async fn next(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.kept[searched..].iter().position(|it| *it == b'\n') {
                let mut line: Vec<u8> = self.kept.drain(..=searched + end).collect();
                line.pop();
                return Ok(line);
            }
            searched = self.kept.len();
            if searched > MAX_ANSWER_BYTES {
                return Err(ClientError::TooLarge);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.kept.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(self.client.broken(error)),
                None => return Err(ClientError::Ended { path: self.client.path.clone() }),
            }
        }
    }
}

/// `text` as one segment of a path or one value of a query: all but letters, digits, `-`, `_` and `~`
/// is percent-encoded, the dot too, so that no `..` is ever read as a way up.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;
    use crate::control::{Draining, Status};

    /// What the client makes of an answer.
    async fn answered(answer: &'static [u8]) -> ClientError {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 1024]).await.unwrap();
            socket.write_all(answer).await.unwrap();
        };
        let client = Client::new(&path);
        let (result, ()) = tokio::join!(client.get_json::<Status>("/v1/status"), server);
        result.unwrap_err()
    }

    #[tokio::test]
    async fn no_daemon_is_told_with_the_path_and_the_question() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none.sock");
        let error = Client::new(&path).post::<Draining>("/v1/drain", &()).await.unwrap_err();
        assert_eq!(error.exit_status(), ExitStatus::Unreachable);
        let expected = format!("the daemon cannot be reached at {}: is it running?", path.display());
        assert_eq!(error.to_string(), expected);
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_at_is_no_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.sock");
        drop(UnixListener::bind(&path).unwrap());
        let error = Client::new(&path).get_json::<Status>("/v1/status").await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_daemons_words() {
        let error = answered(
            b"HTTP/1.1 404 Not Found\r\n\r\n\
            {\"type\":\"/problems/not-found\",\"title\":\"t\",\"status\":404,\"detail\":\"device A is not here\",\"hint\":\"look up\"}",
        );
        let error = error.await;
        assert_eq!((error.to_string().as_str(), error.hint()), ("device A is not here", Some("look up")));
        assert_eq!(error.exit_status(), ExitStatus::Bad);
    }

    #[tokio::test]
    async fn what_is_not_linemint_is_not_taken_for_it() {
        let answers: [&'static [u8]; 4] = [
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
            b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\noops",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"",
        ];
        for answer in answers {
            let error = answered(answer).await;
            assert_eq!(error.exit_status(), ExitStatus::Unreachable, "{error:?}");
        }
    }

    #[test]
    fn every_status_of_a_refusal_has_its_exit_status() {
        let of = |status| {
            let [kind, title, detail] = std::array::from_fn(|_| String::new());
            ClientError::Refused(Box::new(Problem { kind, title, status, detail, hint: None })).exit_status()
        };
        assert_eq!(of(403), ExitStatus::NotPermitted);
        assert_eq!(of(404), ExitStatus::Bad);
        assert_eq!([of(400), of(409), of(503)], [ExitStatus::Refused; 3]);
    }

    #[test]
    fn nothing_in_a_serial_number_is_read_as_a_way_through_the_paths() {
        assert_eq!(encoded("A-b_1~"), "A-b_1~");
        assert_eq!(encoded("../x?y#z%+ ü"), "%2E%2E%2Fx%3Fy%23z%25%2B%20%C3%BC");
    }
}

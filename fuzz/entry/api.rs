//! The local API's request parser: bytes into the real server's socket, and what comes back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use linemint::clock::SystemClock;
use linemint::control::Status;
use linemint::control::report::Reporting;
use linemint::control::server::{Api, Listeners, OpenFiles, bind, serve};
use linemint::journal::store::{JournalLock, Opened, open};
use linemint::report::fold::Maker;
use linemint::report::model::StationHead;
use linemint::shift::{Calendar, Shift};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// An answer that has not come by then never will: far beyond the server's own deadlines.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long whoever fuzzes waits for an answer: most come at once, and what is half a request never has one.
const SHORT: Duration = Duration::from_millis(10);

/// More than any answer of an empty station; a stream is left when so much has come.
const ENOUGH: usize = 1 << 20;

thread_local! {
    static SERVED: Served = Served::start();
}

/// A server with an empty journal behind it, in this thread. Ends with it.
struct Served {
    runtime: Runtime,
    socket: PathBuf,
    _dir: tempfile::TempDir,
    _opened: Opened,
    _told: (watch::Sender<Arc<Status>>, watch::Sender<u64>),
}

impl Served {
    fn start() -> Self {
        let runtime = good(Builder::new_current_thread().enable_all().build());
        let dir = good(tempfile::tempdir());
        let socket = dir.path().join("api.sock");
        let opened = good(open(good(JournalLock::take(&dir.path().join("journal")))));
        let (status_to, status) = watch::channel(Arc::new(Status::default()));
        let (durable_to, durable) = watch::channel(0);
        let (commands, mut orders) = mpsc::channel(4);
        let (taps, sight) = (watch::channel(Default::default()).1, Default::default());
        let reporting = reporting();
        let api = Api { store: opened.store.clone(), status, durable, commands, taps, sight, reporting };
        let listener = {
            let _inside = runtime.enter();
            // Rust's main ignores SIGPIPE, libFuzzer's does not: an answer to whom has gone would end the run.
            drop(good(signal(SignalKind::pipe())));
            good(bind(&socket))
        };
        let files = OpenFiles { limit: None, reserve: 0 };
        runtime.spawn(serve(Listeners { socket: listener, board: None }, api, files, std::future::pending()));
        // Whoever gives an order is told that the station is ending.
        runtime.spawn(async move { while orders.recv().await.is_some() {} });
        Self { runtime, socket, _dir: dir, _opened: opened, _told: (status_to, durable_to) }
    }

    /// The answer to `data`, whose sender has gone when the first of it is there, or at the latest after `wait`:
    /// the server forgets a request whose sender has gone.
    async fn answer(&self, data: &[u8], wait: Duration) -> Vec<u8> {
        let mut socket = good(UnixStream::connect(&self.socket).await);
        // The server may refuse and close before it has read all.
        let _ = socket.write_all(data).await;
        // Without an end of its head it is no request that anybody would answer.
        if data.windows(2).any(|it| it == b"\n\r" || it == b"\n\n") {
            let _ = tokio::time::timeout(wait, socket.readable()).await;
        }
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let mut buffer = [0; 4_096];
        while let Ok(len @ 1..) = socket.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..len]);
            let is_stream = answer.windows(17).any(|it| it == b"text/event-stream");
            if is_stream || answer.len() > ENOUGH {
                break;
            }
        }
        answer
    }
}

fn good<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("the server cannot be started: {error:?}"))
}

/// Sends `data` to the server, and panics if it does not come to an end, answers in no HTTP or with 500.
pub(crate) fn api(data: &[u8]) {
    answered(data, SHORT);
}

/// As [`api`]; an answer may take as long as `wait`. The answer.
pub(crate) fn answered(data: &[u8], wait: Duration) -> Vec<u8> {
    SERVED.with(|served| {
        let answer = async { tokio::time::timeout(PATIENCE, served.answer(data, wait)).await };
        let answer = served.runtime.block_on(answer);
        let answer = answer.unwrap_or_else(|_| panic!("no end within {} s", PATIENCE.as_secs()));
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
        let status = answer.get(9..12).unwrap_or(b"---");
        assert!(status != b"500", "{}", answer.escape_ascii());
        answer
    })
}

/// Reports of a station with one shift a day.
fn reporting() -> Reporting {
    let (id, software, config) = ("L3-S07".to_owned(), "0.1.0".to_owned(), "c".repeat(64));
    let calendar = Calendar {
        shifts: vec![Shift::whole_day()],
        timezone: jiff::tz::TimeZone::UTC,
        days_off: std::collections::BTreeSet::new(),
    };
    let maker = Maker {
        station: StationHead { id, software, config },
        journal_id: "0123456789abcdef".to_owned(),
        calendar,
        takt_ms: None,
        limits: Default::default(),
        looks: Default::default(),
        orders: None,
        signer: None,
    };
    Reporting { maker, clock: Arc::new(SystemClock::default()) }
}

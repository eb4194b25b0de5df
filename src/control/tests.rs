//! The server with a real journal behind it, spoken to over its socket in bytes.

mod batches;
mod board;
mod orders;
mod reads;
mod reconcile;
mod reports;
mod robust;
mod streams;
mod traffic;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Status;
use super::access::Access;
use super::connection::Limits;
use super::server::{Api, Board, Command, Listeners, bind, serve_within};
use super::sight::Sight;
use super::tally::Tally;
use super::tap::Tap;
use crate::device::event::{Admission, Event, PresentationKey};
use crate::device::rules::{
    CertificateRule, KeyOrigin, LockerRule, PolicyRule, ProductRules, Register, Repeat, Template,
};
use crate::device::serial::SerialNumber;
use crate::device::{Certificate, Device, KeyState};
use crate::journal::store::{JournalLock, Store, StoreWriter, open};
use crate::journal::{Entry, Journal as _, Record, Shelf as _, StationEvent, What};
use crate::pki::Fingerprint;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A served journal.
pub(crate) struct Station {
    pub(crate) path: PathBuf,
    board_at: SocketAddr,
    tally: watch::Sender<Arc<Tally>>,
    writer: StoreWriter,
    store: Store,
    seq: u64,
    durable: watch::Sender<u64>,
    pub(crate) status: watch::Sender<Arc<Status>>,
    pub(crate) commands: Option<mpsc::Receiver<Command>>,
    /// Of the fixtures `nest-1` and `nest 2`.
    pub(crate) taps: [Tap; 2],
    ending: CancellationToken,
    serving: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Station {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), Access::default())
    }

    fn with(limits: Limits, access: Access) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let journal = open(JournalLock::take(&dir.path().join("journal")).unwrap()).unwrap();
        let (durable, durable_seen) = watch::channel(0);
        let (status, status_seen) = watch::channel(Arc::new(Status::default()));
        let (tally, tally_seen) = watch::channel(Arc::default());
        let (orders, commands) = mpsc::channel(4);
        let taps = [Tap::default(), Tap::default()];
        let api = Api {
            store: journal.store.clone(),
            status: status_seen,
            durable: durable_seen,
            commands: orders,
            taps: watch::channel(
                ["nest-1", "nest 2"].map(str::to_owned).into_iter().zip(taps.clone()).collect(),
            )
            .1,
            sight: Sight { tally: tally_seen, ..Sight::default() },
            reporting: reporting(),
        };
        let ending = CancellationToken::new();
        let shutdown = ending.clone().cancelled_owned();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        port.set_nonblocking(true).unwrap();
        let board_at = port.local_addr().unwrap();
        let listener = TcpListener::from_std(port).unwrap();
        let board = Some(Board { listener, names: vec!["l3-s07.example".to_owned()] });
        let listeners = Listeners { socket: bind(&path).unwrap(), board };
        let serving = tokio::spawn(serve_within(listeners, api, shutdown, limits, access));
        let (writer, store) = (journal.writer, journal.store);
        let commands = Some(commands);
        Self {
            path,
            board_at,
            tally,
            writer,
            store,
            seq: 0,
            durable,
            status,
            commands,
            taps,
            ending,
            serving,
            _dir: dir,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + i64::try_from(self.seq).unwrap()).unwrap()
    }

    /// Journals what happened, all in one commit, and tells the API so.
    fn journal(&mut self, happened: Vec<(Option<&str>, What)>) {
        self.journal_quietly(happened);
        self.durable.send_replace(self.seq);
    }

    /// Journals what happened without telling that it is on disk.
    fn journal_quietly(&mut self, happened: Vec<(Option<&str>, What)>) {
        let mut devices: BTreeMap<SerialNumber, Device> = BTreeMap::new();
        let mut entries = Vec::new();
        for (serial, what) in happened {
            self.seq += 1;
            let serial = serial.map(|it| SerialNumber::parse(it).unwrap());
            let mut after = None;
            if let (Some(serial), What::Device(event)) = (&serial, &what) {
                let known = devices.remove(serial).or_else(|| self.store.device(serial).unwrap());
                let before = known.as_ref().map(|it| it.state);
                let device = match known {
                    Some(mut device) => {
                        device.apply(self.seq, self.now(), event).unwrap();
                        device
                    }
                    None => Device::admit(serial, self.seq, self.now(), event).unwrap(),
                };
                devices.insert(serial.clone(), device.clone());
                after = Some((Box::new(device), before));
            }
            let record = Record { seq: self.seq, at: self.now(), serial, what };
            entries.push(Entry { record, device: after });
        }
        self.writer.commit(entries).unwrap();
    }

    /// Admits devices, all in one commit.
    pub(crate) fn admit(&mut self, serials: &[String], batch: Option<&str>) {
        self.journal(serials.iter().map(|it| (Some(it.as_str()), admitted(batch))).collect());
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }

    /// What the server sends until it closes, for exactly these bytes.
    async fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut socket = self.connect().await;
        // The server may have heard enough before it has taken all.
        let _ = socket.write_all(request.as_ref()).await;
        read_all(&mut socket).await
    }

    async fn request(&self, verb: &str, target: &str, headers: &str) -> Answer {
        self.raw(format!("{verb} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")).await
    }

    async fn get(&self, target: &str) -> Answer {
        self.request("GET", target, "").await
    }

    /// Answers a `GET` that has to go well.
    pub(crate) async fn json(&self, target: &str) -> Value {
        let answer = self.get(target).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json()
    }

    pub(crate) async fn end(self) {
        self.ending.cancel();
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap();
    }
}

/// Reports of a station with one shift a day, whose clock stands a day after its records.
fn reporting() -> super::report::Reporting {
    let station = crate::report::model::StationHead {
        id: "L3-S07".to_owned(),
        software: "0.1.0".to_owned(),
        config: "c".repeat(64),
    };
    let calendar = crate::shift::Calendar {
        shifts: vec![crate::shift::Shift::whole_day()],
        timezone: jiff::tz::TimeZone::UTC,
        days_off: std::collections::BTreeSet::new(),
    };
    let key = crate::report::sign::Signer::generate().unwrap();
    let signer = crate::report::sign::Signer::from_pkcs8(&key).unwrap();
    let maker = crate::report::fold::Maker {
        station,
        journal_id: "0123456789abcdef".to_owned(),
        calendar,
        takt_ms: None,
        limits: Default::default(),
        looks: Default::default(),
        orders: None,
        signer: Some(Arc::new(signer)),
    };
    let now = Timestamp::from_second(1_790_000_000 + 86_400).unwrap();
    super::report::Reporting { maker, clock: Arc::new(crate::clock::ManualClock::at(now)) }
}

async fn read_all(socket: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    // A server that has not read everything resets; what it said before counts.
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("the server closes");
    Answer::parse(&bytes)
}

/// An HTTP answer.
#[derive(Debug)]
struct Answer {
    /// 0 if there was none.
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = line.split(' ').nth(1).map_or(0, |it| it.parse().unwrap());
        Self { status, headers: headers.to_owned(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.split_once(": ").filter(|it| it.0 == name)).map(|it| it.1)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The body of a problem document with that status and kind.
    #[track_caller]
    fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("/problems/{kind}"));
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }
}

fn presentation(id: u64) -> PresentationKey {
    PresentationKey { fixture: "nest-1".to_owned(), boot: 3, id }
}

fn rules() -> ProductRules {
    let template = |text| Template::parse(text).unwrap();
    ProductRules {
        product: "lamp".to_owned(),
        station: "L3".to_owned(),
        thing: template("lamp-{serial}"),
        locker: LockerRule::Given { id: "locker-7".to_owned() },
        policy: PolicyRule::Device {
            name: template("policy-{serial}"),
            document: "{}".to_owned(),
            tags: BTreeMap::new(),
        },
        certificate: CertificateRule {
            key: KeyOrigin::Station,
            days: 1,
            common_name: template("{serial}"),
            register: Register::WithoutCa,
        },
        repeat: Repeat::Return,
        require_batch: false,
        max_certificates: 3,
        endpoint: None,
        roots: None,
        verify: crate::device::rules::Verify::None,
        article: None,
        managed_thing: None,
    }
}

fn admitted(batch: Option<&str>) -> What {
    What::Device(admitted_at(1, Some("A"), batch))
}

/// A presentation at `nest-1`.
pub(crate) fn nest_event(id: u64) -> PresentationKey {
    presentation(id)
}

pub(crate) fn admitted_at(id: u64, nest: Option<&str>, batch: Option<&str>) -> Event {
    Event::Admitted(Box::new(Admission {
        batch: batch.map(str::to_owned),
        nest: nest.map(str::to_owned),
        ..Admission::of("lamp", rules().id(), presentation(id))
    }))
}

fn rules_known() -> What {
    What::Station(StationEvent::Rules { id: rules().id(), rules: Box::new(rules()) })
}

pub(crate) fn certificate() -> Certificate {
    Certificate {
        fingerprint: Fingerprint::of(b"certificate"),
        der: b"certificate".to_vec(),
        serial_number: "0a".to_owned(),
        not_after: Timestamp::from_second(2_000_000_000).unwrap(),
        key: KeyState::Sealed,
        arn: None,
        public_key: None,
        issuer: None,
    }
}

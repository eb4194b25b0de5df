//! The fixtures' ports: each is opened, read, written, lost and opened again by a task of its own.

mod scanner;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use self::scanner::Scanning;
use super::vault::{Keys, Unloaded};
use crate::clock::TimeSource;
use crate::control::tap::Tap;
use crate::control::traffic::{Direction, Seen};
use crate::device::serial::SerialNumber;
use crate::error::Chain;
use crate::fixture::frame::{Decoded, StationDecoder, encode_station};
use crate::fixture::outages::Outages;
use crate::fixture::port::{Port, PortError, PortOptions, PortReader, PortWriter, wait_for};
use crate::fixture::scanner::Scanner;
use crate::fixture::{Credentials, FixtureMessage, StationMessage};
use crate::journal::keys::KeyStore;
use crate::line::{Input, Tag};
use crate::pki::{Fingerprint, to_pem};

/// Messages that may wait for a port.
const OUTBOX: usize = 256;

/// Bytes read at once.
const READ_LEN: usize = 8192;

/// First and longest pause between two tries to open a port that is there but refuses.
const REOPEN_MIN: Duration = Duration::from_millis(100);
const REOPEN_MAX: Duration = Duration::from_secs(2);

/// Characters of the sentence that says why a port cannot be opened: a path may be long, and holders many.
const MAX_REASON: usize = 300;

/// Where messages for a port go.
pub(super) type Outbox = mpsc::Sender<Outgoing>;

/// A message for a fixture.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// As it stands.
    Message(StationMessage, Option<Tag>),
    /// Credentials that want their private key.
    Offer { credentials: Box<Credentials>, key: Option<Fingerprint>, serial: SerialNumber },
}

impl Outgoing {
    pub(crate) fn tag(&self) -> Option<Tag> {
        match self {
            Self::Message(_, tag) => *tag,
            Self::Offer { credentials, .. } => Some(Tag::Credentials(credentials.id)),
        }
    }
}

/// What a port has seen since the start.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Where it is, in words.
    pub place: String,
    /// Frames read.
    pub frames_in: AtomicU64,
    /// Frames written.
    pub frames_out: AtomicU64,
    /// Lines that were no frame.
    pub bad_frames: AtomicU64,
    /// Frames of our own that came back.
    pub echoes: AtomicU64,
    /// The same serial number once more within a scanner's window.
    pub duplicates: AtomicU64,
    /// Times the port was opened, less the first.
    pub reopens: AtomicU64,
    outages: Mutex<Outages>,
    /// Tells whoever listens what goes over the line.
    pub traffic: Tap,
}

impl PortCounters {
    /// When the port was away.
    pub fn outages(&self) -> Outages {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Outages> {
        // Three numbers: nothing can be half changed.
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fixture's port, and what is on it.
#[derive(Debug)]
pub struct FixturePort {
    /// Which port.
    pub options: PortOptions,
    /// Stands for a scanner that is on it; none if a fixture that speaks the protocol is.
    pub scanner: Option<Box<Scanner>>,
}

/// Starts a task for each port; the first belongs to the fixture `first`.
pub(super) fn start(
    first: usize,
    ports: Vec<FixturePort>,
    keys: &Arc<KeyStore>,
    clock: &Arc<dyn TimeSource>,
    inputs: &mpsc::Sender<Input>,
) -> (Vec<Outbox>, Vec<Arc<PortCounters>>) {
    ports
        .into_iter()
        .zip(first..)
        .map(|(FixturePort { options, scanner }, fixture)| {
            let (outbox, outgoing) = mpsc::channel(OUTBOX);
            let counters =
                Arc::new(PortCounters { place: options.place.to_string(), ..PortCounters::default() });
            let tender = Tender {
                fixture,
                options,
                scanner,
                outgoing,
                inputs: inputs.clone(),
                keys: keys.clone(),
                clock: clock.clone(),
                counters: counters.clone(),
            };
            tokio::spawn(tender.run());
            (outbox, counters)
        })
        .unzip()
}

/// Tends one port.
struct Tender {
    fixture: usize,
    options: PortOptions,
    scanner: Option<Box<Scanner>>,
    outgoing: mpsc::Receiver<Outgoing>,
    inputs: mpsc::Sender<Input>,
    keys: Arc<KeyStore>,
    clock: Arc<dyn TimeSource>,
    counters: Arc<PortCounters>,
}

/// The station has ended: nobody takes inputs any more.
struct Over;

impl Tender {
    async fn run(mut self) {
        let mut opened_before = false;
        while let Some(port) = self.open().await {
            if std::mem::replace(&mut opened_before, true) {
                self.counters.reopens.fetch_add(1, Ordering::Relaxed);
            }
            self.tell_open(&port);
            self.show(None, || Seen::Opened { port: port.path().display().to_string() });
            // What was meant for an earlier opening is stale.
            while self.outgoing.try_recv().is_ok() {}
            if self.tell(Input::PortOpened(self.fixture)).await.is_err() {
                return;
            }
            match self.converse(port).await {
                Ok(error) => {
                    self.counters.lock().begin(self.clock.now());
                    tracing::warn!(error = %Chain(&error), "the fixture's port is lost");
                    self.show(None, || Seen::Lost { reason: Chain(&error).to_string() });
                }
                Err(Over) => return,
            }
            if self.tell(Input::PortLost(self.fixture)).await.is_err() {
                return;
            }
        }
    }

    fn tell_open(&self, port: &Port) {
        let away = self.counters.lock().end(self.clock.now());
        let path = port.path().display();
        match away {
            None => tracing::info!(port = %path, "the fixture's port is open"),
            Some(span) => {
                let away_s = span.as_secs_f64();
                tracing::info!(port = %path, away_s, "the fixture's port is open, after it was away");
            }
        }
    }

    /// Opens the port, however long it takes; none when the station has ended.
    async fn open(&mut self) -> Option<Port> {
        let mut pause = REOPEN_MIN;
        let mut told = String::new();
        loop {
            let error = match Port::open(&self.options) {
                Ok(port) => return Some(port),
                Err(error) => error,
            };
            self.counters.lock().begin(self.clock.now());
            let text = Chain(&error).to_string();
            if text != told {
                tracing::warn!(error = text, "the fixture's port cannot be opened; it is tried again");
                let why = text.chars().take(MAX_REASON).collect();
                self.tell(Input::PortRefused(self.fixture, why)).await.ok()?;
                told = text;
            }
            // Of any other reason it is told by the next try that it holds no more.
            let is_missing = matches!(error, PortError::Missing { .. } | PortError::NoAdapter { .. });
            let waits = async {
                tokio::time::sleep(pause).await;
                if is_missing {
                    wait_for(&self.options.place).await;
                }
            };
            tokio::select! {
                () = waits => {}
                () = self.inputs.closed() => return None,
                // The fixture is not configured any more; nothing else is sent to a port that is not open.
                said = self.outgoing.recv() => drop(said?),
            }
            pause = (pause * 2).min(REOPEN_MAX);
        }
    }

    /// Reads and writes until the port is lost.
    async fn converse(&mut self, port: Port) -> Result<PortError, Over> {
        if let Some(scanner) = &mut self.scanner {
            let (fixture, inputs) = (self.fixture, &self.inputs);
            let (counters, clock) = (&*self.counters, &self.clock);
            let scanning = Scanning { fixture, scanner, inputs, counters, clock };
            return scanning.converse(port, &mut self.outgoing).await;
        }
        let (reader, writer) = port.split();
        let reads = read(self.fixture, reader, &self.inputs, &self.counters, &*self.clock);
        let mut writing = Writing {
            fixture: self.fixture,
            baud: self.options.baud,
            writer,
            inputs: &self.inputs,
            keys: &self.keys,
            counters: &self.counters,
            clock: &*self.clock,
        };
        tokio::select! {
            ended = reads => ended,
            ended = writing.run(&mut self.outgoing) => ended,
        }
    }

    async fn tell(&self, input: Input) -> Result<(), Over> {
        self.inputs.send(input).await.map_err(|_| Over)
    }

    fn show(&self, direction: Option<Direction>, seen: impl FnOnce() -> Seen) {
        self.counters.traffic.tell(direction, || self.clock.now().wall, seen);
    }
}

async fn read(
    fixture: usize,
    mut reader: PortReader,
    inputs: &mpsc::Sender<Input>,
    counters: &PortCounters,
    clock: &dyn TimeSource,
) -> Result<PortError, Over> {
    let mut decoder = StationDecoder::new();
    let mut buffer = [0; READ_LEN];
    loop {
        let len = match reader.read(&mut buffer).await {
            Ok(len) => len,
            Err(error) => return Ok(error),
        };
        decoder.push(&buffer[..len]);
        for decoded in decoder.by_ref() {
            counters.traffic.tell(Some(Direction::In), || clock.now().wall, || seen(&decoded));
            if let Some(input) = heard(fixture, decoded, counters) {
                inputs.send(input).await.map_err(|_| Over)?;
            }
        }
    }
}

/// What a line from a fixture is to whoever listens.
fn seen(decoded: &Decoded<FixtureMessage>) -> Seen {
    match decoded {
        Decoded::Message(message) => Seen::received(message),
        Decoded::Echo => Seen::Echo,
        Decoded::Bad { reason, sample, .. } => Seen::noise(&reason.to_string(), sample),
    }
}

/// What a line from a fixture is to the line; none if it is our own echo.
pub(crate) fn heard(
    fixture: usize,
    decoded: Decoded<FixtureMessage>,
    counters: &PortCounters,
) -> Option<Input> {
    match decoded {
        Decoded::Message(message) => {
            counters.frames_in.fetch_add(1, Ordering::Relaxed);
            Some(Input::Message(fixture, message))
        }
        Decoded::Echo => {
            counters.echoes.fetch_add(1, Ordering::Relaxed);
            None
        }
        Decoded::Bad { id, reason, sample } => {
            counters.bad_frames.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(fixture, %reason, %sample, "a line from the fixture is not a frame");
            Some(Input::BadFrame(fixture, id, reason))
        }
    }
}

/// Puts the private key into credentials; if it is not there any more, what the line has to know. Nothing is to
/// be sent if it cannot be read now: as if the cable had lost it.
pub(crate) fn complete(outgoing: Outgoing, keys: &impl Keys) -> Result<Option<StationMessage>, Input> {
    let (mut credentials, key, serial) = match outgoing {
        Outgoing::Message(message, _) => return Ok(Some(message)),
        Outgoing::Offer { credentials, key, serial } => (credentials, key, serial),
    };
    let Some(fingerprint) = key else { return Ok(Some(StationMessage::Credentials(*credentials))) };
    match keys.load(&fingerprint) {
        Ok(Some(der)) => {
            credentials.private_key = Some(to_pem("PRIVATE KEY", &der));
            Ok(Some(StationMessage::Credentials(*credentials)))
        }
        Err(Unloaded::Unread(error)) => {
            tracing::error!(%serial, error, "a sealed private key cannot be read now; it is tried again");
            Ok(None)
        }
        lost => {
            if let Err(Unloaded::Lost(error)) = lost {
                tracing::error!(%serial, error, "a sealed private key cannot be opened");
            }
            Err(Input::KeyLost(serial, fingerprint))
        }
    }
}

/// The writing side of a conversation.
struct Writing<'a> {
    fixture: usize,
    baud: u32,
    writer: PortWriter,
    inputs: &'a mpsc::Sender<Input>,
    keys: &'a KeyStore,
    counters: &'a PortCounters,
    clock: &'a dyn TimeSource,
}

impl Writing<'_> {
    async fn run(&mut self, outgoing: &mut mpsc::Receiver<Outgoing>) -> Result<PortError, Over> {
        while let Some(next) = outgoing.recv().await {
            let tag = next.tag();
            let message = match complete(next, self.keys) {
                Ok(message) => message,
                Err(lost) => {
                    self.inputs.send(lost).await.map_err(|_| Over)?;
                    continue;
                }
            };
            if let Some(message) = message
                && let Err(error) = self.write(&message).await
            {
                return Ok(error);
            }
            if let Some(tag) = tag {
                let leaves_in = self.leaves_in();
                self.inputs.send(Input::Sent(self.fixture, tag, leaves_in)).await.map_err(|_| Over)?;
            }
        }
        Err(Over)
    }

    async fn write(&mut self, message: &StationMessage) -> Result<(), PortError> {
        match encode_station(message) {
            Ok(frame) => self.writer.write_all(&frame).await?,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "a message does not fit a frame; it is not sent");
                return Ok(());
            }
        }
        self.counters.frames_out.fetch_add(1, Ordering::Relaxed);
        let (traffic, now) = (&self.counters.traffic, || self.clock.now().wall);
        traffic.tell(Some(Direction::Out), now, || Seen::sent(message));
        Ok(())
    }

    /// When the last byte will have left: what the kernel still holds, ten bits a byte.
    fn leaves_in(&self) -> Duration {
        let bits = self.writer.unsent() as u64 * 10;
        Duration::from_secs_f64(bits as f64 / f64::from(self.baud.max(1)))
    }
}

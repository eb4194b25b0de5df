//! The one supervisor: signals and commands come in here, and the parts end in order.
//!
//! The first SIGTERM or SIGINT drains: fixtures hear `draining`, units in the nests finish within
//! [`DRAIN`], the rest resumes at the next start. A second one stops at once. Either way what was
//! promised is on disk. SIGKILL is survived by the journal alone.

mod reload;

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener as Passed;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};

use self::reload::Alive;
use super::bound::Bound;
use super::follower::Follower;
use super::herald::{self, Herald};
use super::instruments::Panel;
use super::picture::Painter;
use super::reconcile::Reconciler;
use super::reporter::{Reported, Reporter};
use super::setup::{Assembled, SetupError, StationCloud, assemble, ca_files, directories};
use super::shift_end::ShiftEnd;
use super::{Command, Station, StationError};
use crate::clock::TimeSource;
use crate::cloud::pace::MAX_IN_FLIGHT;
use crate::config::Config;
use crate::control::Status;
use crate::control::aside::{self, Serving};
use crate::control::report::Reporting;
use crate::control::server::{self, Api, ApiError, Board, Listeners, OpenFiles};
use crate::control::sight::Sight;
use crate::control::tally::Tally;
use crate::device::operator::{Operator, Refusal, StationOrder};
use crate::hardening;
use crate::journal::store::{JournalLock, Store};
use crate::line::{Product, Settings};
use crate::pki::Fingerprint;
use crate::reconcile::newest::Newest;
use crate::service_manager::{self, Patience};
use crate::telemetry;

/// How long units in the nests may take to finish when the station is told to end.
pub const DRAIN: Duration = Duration::from_secs(30);

/// How long ending may take after that.
const STOP: Duration = Duration::from_secs(10);

/// Open files that the station has whatever its configuration: the journal's log and index, its own ends of pipes
/// and sockets, and what is opened for a moment, such as a key, a report or a page of the journal.
const FILES: usize = 48;

/// Open files of a fixture: its port, that once more while it is opened anew, and the directory it is looked for in.
const FIXTURE_FILES: usize = 4;

/// Commands from the API that may wait.
const COMMANDS: usize = 16;

/// Why the daemon could not run on.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum RunError {
    #[error("the station cannot be set up")]
    Setup(#[from] SetupError),
    #[error("the local API cannot be served")]
    Api(#[from] ApiError),
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    #[error("the station has ended")]
    Station(#[from] StationError),
    #[error("the station did not end in time; what was promised is on disk")]
    Stuck,
}

/// Runs a station as configured until it is told to end. Its local API is served at the socket that was `passed`, if one was.
///
/// # Errors
/// It could not be set up, or had to stop.
pub async fn run(
    config: &Config,
    passed: Option<Passed>,
    clock: Arc<dyn TimeSource>,
) -> Result<(), RunError> {
    let mut signals = Signals::listen().map_err(RunError::Signals)?;
    let open_files = OpenFiles { limit: hardening::raise_open_files(), reserve: reserve(config) };
    // First of all: nobody else may touch what lies there.
    let lock = JournalLock::take(&config.journal.dir).map_err(SetupError::Journal)?;
    let patience = Patience::ask().map_err(StationError::Thread)?;
    service_manager::status("starting: the journal is being opened");
    let (listeners, is_ours) = listen(config, passed).await?;
    let assembled = match recover(config, lock, &clock, &mut signals).await? {
        Some(it) => it,
        None => {
            tracing::info!("told to end before the station was ready: nothing was begun");
            remove(&config.api.socket, is_ours);
            return Ok(());
        }
    };
    let mut daemon = Daemon::start(config, assembled, (listeners, open_files), clock)?;
    tracing::info!(station = config.station.id, "the station is ready");
    drop(patience);
    service_manager::ready(&daemon.sentence());
    let ended = daemon.attend(&mut signals).await;
    service_manager::stopping("draining: units in the nests are finished");
    let result = daemon.end(ended, &mut signals).await;
    remove(&config.api.socket, is_ours);
    result
}

/// Whoever looks for the daemon should find nothing rather than a dead socket; the next start would replace it anyway.
fn remove(socket: &Path, is_ours: bool) {
    if is_ours {
        let _ = std::fs::remove_file(socket);
    }
}

/// Opens and checks everything, which takes minutes where a long journal has lost its index; none if the station is told
/// to end meanwhile. Nothing is promised yet, and what is half done is done again by the next start, as after a kill.
async fn recover(
    config: &Config,
    lock: JournalLock,
    clock: &Arc<dyn TimeSource>,
    signals: &mut Signals,
) -> Result<Option<Assembled>, RunError> {
    // In a task of its own: it reads files, and hears nothing while it does.
    let (config, clock) = (config.clone(), clock.clone());
    let assembling = tokio::spawn(async move {
        #[cfg(debug_assertions)]
        stall();
        assemble(&config, lock, None, clock).await
    });
    tokio::select! {
        () = signals.end_only() => Ok(None),
        assembled = assembling => match assembled {
            Ok(assembled) => Ok(Some(assembled?)),
            Err(_) => Err(StationError::Ended("start").into()),
        },
    }
}

/// Hangs for ever where a test says so: a journal that takes long to open.
#[cfg(debug_assertions)]
fn stall() {
    if std::env::var_os("LINEMINT_DEBUG_STALL_START").is_some() {
        tracing::warn!("the start hangs, as this test build was told");
        loop {
            std::thread::park();
        }
    }
}

/// Open files that are kept for the station: as if all its calls to AWS were under way at once.
fn reserve(config: &Config) -> usize {
    FILES + FIXTURE_FILES * config.fixtures.len() + 2 * config.directories().len() + MAX_IN_FLIGHT
}

/// The local API's socket, and whether it was made here. The service manager's own outlives us: clients
/// wait at it for the next start.
fn socket(path: &Path, passed: Option<Passed>) -> Result<(UnixListener, bool), ApiError> {
    let Some(passed) = passed else { return Ok((server::bind(path)?, true)) };
    let there = passed.local_addr().ok().and_then(|it| it.as_pathname().map(Path::to_owned));
    if there.as_deref() != Some(path) {
        tracing::warn!(
            ?there,
            configured = %path.display(),
            "the service manager listens at another place than api.socket says: set ListenStream= of linemint.socket to it"
        );
    }
    Ok((server::adopt(passed).map_err(ApiError::Passed)?, false))
}

/// Listens where the configuration says. Nobody hears anything yet.
async fn listen(config: &Config, passed: Option<Passed>) -> Result<(Listeners, bool), ApiError> {
    let (socket, is_ours) = socket(&config.api.socket, passed)?;
    let Some(address) = config.api.board else { return Ok((Listeners { socket, board: None }, is_ours)) };
    let listener = TcpListener::bind(address).await.map_err(|source| ApiError::Board { address, source })?;
    let at = listener.local_addr().unwrap_or(address);
    if !at.ip().is_loopback() {
        tracing::warn!(
            board = %at,
            "the board is served beyond this host (api.board): whoever reaches that address sees serial numbers and figures"
        );
    }
    tracing::info!(board = %at, "the board is served");
    let board = Some(Board { listener, names: config.api.board_names.clone() });
    Ok((Listeners { socket, board }, is_ours))
}

/// A station with its API.
struct Daemon {
    station: Station,
    commands: mpsc::Receiver<server::Command>,
    status: watch::Receiver<Arc<Status>>,
    reported: watch::Receiver<Option<Reported>>,
    reconciler: Arc<Reconciler<StationCloud>>,
    api: Serving,
    /// What holds now.
    config: Config,
    /// What lay in its CAs' files at the start.
    ca_files: Vec<Option<Fingerprint>>,
    alive: Alive,
}

impl Daemon {
    fn start(
        config: &Config,
        assembled: Assembled,
        (listeners, open_files): (Listeners, OpenFiles),
        clock: Arc<dyn TimeSource>,
    ) -> Result<Self, RunError> {
        let Assembled { parts, cloud, store, journal_id, maker, ca } = assembled;
        let ca_of = (cas(&parts.settings), parts.settings.products.clone());
        // As this start finds it: the station's first record is of now.
        let last_seen = parts.journal.recovered.at;
        let station = Station::start(parts)?;
        let reconciler = Reconciler {
            newest: maker.looks.clone(),
            ..reconciler(config, &station, ca_of, (&store, &cloud, &clock))
        };
        let alive = Alive::of(config, &station, &cloud);
        let directories = directories(config);
        if !directories.is_empty() {
            let (store, clock, plant) = (store.clone(), clock.clone(), alive.plant.subscribe());
            let shift_end = ShiftEnd { store, clock, plant, last_seen, directories };
            // It ends with the process: what it tells is in the journal.
            tokio::spawn(shift_end.run());
        }
        let (tally, sight) = follow(config, (&station, &alive), (&store, &cloud, &clock));
        let painter = Painter {
            tally,
            plant: alive.plant.subscribe(),
            station: config.station.id.clone(),
            started: clock.now().mono,
            clock: clock.clone(),
            cloud,
            store: store.clone(),
            journal_id,
            ca,
            ports: alive.ports.subscribe(),
            bound: Bound::default(),
        };
        let first = painter.paint(&station.status.borrow().clone(), &painter.cloud.snapshot());
        let (status_sender, status) = watch::channel(Arc::<Status>::new(first));
        let (told, reported) = watch::channel(None);
        let herald = Herald {
            clock: painter.clock.clone(),
            line: station.status.clone(),
            status: status.clone(),
            hands: station.hands.clone(),
            reported: reported.clone(),
        };
        tokio::spawn(painter.run(station.status.clone(), status_sender));
        tokio::spawn(herald.run());
        let options = config.station.reports.clone();
        if let Some(dir) = options.dir.clone() {
            let (maker, store, clock, status) = (maker.clone(), store.clone(), clock.clone(), status.clone());
            let plant = alive.plant.subscribe();
            let line = station.status.clone();
            // It ends with the process: what it did not write is written after the next start.
            let present = Default::default();
            tokio::spawn(
                Reporter { told, maker, plant, store, clock, status, line, dir, options, present }.run(),
            );
        }
        let reporting = Reporting { maker, clock };
        let (command_sender, commands) = mpsc::channel(COMMANDS);
        let taps = alive.taps.subscribe();
        let durable = station.durable.clone();
        let status_told = status.clone();
        let api =
            Api { store, status: status_told, durable, commands: command_sender, taps, sight, reporting };
        let api = aside::start(listeners, api, open_files)?;
        let (reconciler, ca_files, config) = (Arc::new(reconciler), ca_files(config), config.clone());
        Ok(Self { station, commands, status, reported, reconciler, api, config, ca_files, alive })
    }

    /// The station in one sentence.
    fn sentence(&self) -> String {
        herald::sentence(&self.status.borrow().clone(), &self.reported.borrow())
    }

    /// Carries out commands until a signal says to end, or the station ends on its own.
    async fn attend(&mut self, signals: &mut Signals) -> Result<(), StationError> {
        loop {
            tokio::select! {
                heard = signals.next() => match heard {
                    Heard::End => return Ok(()),
                    Heard::Reload => self.reload().await,
                },
                ended = self.station.ended() => return ended,
                // Nobody could see or tell the station anything any more; the next start serves it again.
                () = self.api.ended() => return Err(StationError::Ended("API")),
                Some(command) = self.commands.recv() => self.carry_out(command).await,
            }
        }
    }

    /// Passes a command on to whoever answers it. If the station is ending, the reply is dropped, which says so.
    async fn carry_out(&self, command: server::Command) {
        let command = match command {
            server::Command::Reconcile { wish, by, reply } => {
                // Whoever asked may have hung up: then the run ends at once.
                let _ = reply.send(self.reconciler.start(wish, by));
                return;
            }
            server::Command::Station { order, by, reply } => {
                if let Err(sentence) = hear(&order, &by) {
                    // Whoever asked may have hung up.
                    let _ = reply.send(Err(Refusal::Not(sentence)));
                    return;
                }
                Command::Station { order, by, reply }
            }
            server::Command::Order { order, serial, by, reply } => {
                Command::Order { order, serial, by, reply }
            }
            server::Command::Batch { order, by, reply } => Command::Batch { order, by, reply },
            server::Command::OverrideClock { by, reply } => Command::OverrideClock { by, reply },
        };
        let _ = self.station.commands.send(command).await;
    }

    /// Intake, then work, then the store, then the API.
    async fn end(self, ended: Result<(), StationError>, signals: &mut Signals) -> Result<(), RunError> {
        // Orders that still come are answered at once: the station is going down.
        drop(self.commands);
        let result = match ended {
            Err(error) => Err(error.into()),
            Ok(()) => {
                tracing::info!("the station drains");
                tokio::select! {
                    () = self.station.drained(DRAIN) => {}
                    () = signals.end() => tracing::warn!("told to end a second time: the station stops at once"),
                }
                match tokio::time::timeout(STOP, self.station.stop()).await {
                    Ok(result) => result.map_err(RunError::from),
                    Err(_) => Err(RunError::Stuck),
                }
            }
        };
        self.api.end(STOP).await;
        tracing::info!("the station has ended");
        result
    }
}

/// Says who has told the station what, and does what the line does not: the level of the log.
fn hear(order: &StationOrder, by: &Operator) -> Result<(), String> {
    let tell = || {
        let (uid, name, reason) = (by.uid, &by.name, &by.reason);
        tracing::warn!(uid, name, reason, order = %order, "told through the API");
    };
    tell();
    if let StationOrder::LogLevel(level) = order {
        telemetry::set_level(level)?;
        // Said before and after: one of the two levels lets it through.
        tell();
    }
    Ok(())
}

/// What a part of the daemon looks at: the journal, AWS, the time.
type Looks<'a> = (&'a Store, &'a Arc<StationCloud>, &'a Arc<dyn TimeSource>);

/// Follows the journal for the board; what it shows.
fn follow(
    config: &Config,
    (station, alive): (&Station, &Alive),
    (store, cloud, clock): Looks<'_>,
) -> (watch::Receiver<Arc<Tally>>, Sight) {
    let (tally_sender, tally) = watch::channel(Arc::default());
    let follower = Follower {
        store: store.clone(),
        durable: station.durable.clone(),
        clock: clock.clone(),
        plant: alive.plant.subscribe(),
        messages: config.station.messages.clone(),
        tally: tally_sender,
        logged: 0,
    };
    tokio::spawn(follower.run());
    let panel = Panel { cloud: cloud.clone(), store: store.clone(), commits: station.commits.clone() };
    let sight = Sight {
        tally: tally.clone(),
        instruments: Arc::new(panel),
        plant: Some(alive.plant.subscribe()),
        clock: clock.clone(),
    };
    (tally, sight)
}

/// The station's CAs: that which issues first.
fn cas(settings: &Settings) -> Vec<(Fingerprint, String)> {
    let present = settings.ca.map(|it| (it, settings.ca_pem.clone()));
    let previous = settings.previous_ca.as_ref().map(|it| (it.fingerprint, it.ca_pem.clone()));
    present.into_iter().chain(previous).collect()
}

/// What holds the account against the journal, with the CAs and the products of the start.
fn reconciler(
    config: &Config,
    station: &Station,
    (cas, products): (Vec<(Fingerprint, String)>, BTreeMap<String, Product>),
    (store, cloud, clock): Looks<'_>,
) -> Reconciler<StationCloud> {
    Reconciler {
        cloud: cloud.clone(),
        store: store.clone(),
        durable: station.durable.clone(),
        clock: clock.clone(),
        commands: station.commands.clone(),
        station: config.station.id.clone(),
        products,
        cas,
        calendar: config.calendar(),
        turn: Arc::new(Semaphore::new(1)),
        foreign: Mutex::default(),
        newest: Newest::default(),
    }
}

/// What a signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// End.
    End,
    /// Read the configuration again.
    Reload,
}

/// The signals that a daemon hears.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::End,
            _ = self.interrupt.recv() => Heard::End,
            _ = self.hang_up.recv() => Heard::Reload,
        }
    }

    /// Returns when the process is told to end, and leaves SIGHUP for later.
    async fn end_only(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Returns when the process is told to end.
    async fn end(&mut self) {
        while self.next().await == Heard::Reload {
            tracing::warn!("SIGHUP: the station is ending; the configuration is read at its next start");
        }
    }
}

//! A world to rehearse in: the same station as in production, with nothing real around it.
//!
//! [`cloud`] plays AWS over HTTP on loopback, so that the very SDK clients of production speak to
//! it. [`fixture`] plays the fixtures on ptys, so that the very port code of production opens
//! them. Between the two runs what `linemint run` runs, on a journal that is really synced.

pub mod cloud;
pub mod conformance;
pub mod drain;
pub mod fixture;
mod report;
mod stage;
pub mod stations;
pub mod workbench;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use jiff::Timestamp;

pub use self::report::Report;
pub use self::stage::StageError;

use self::cloud::{CloudOptions, FaultPlan, SimulatedCloud, Throttling};
use self::fixture::{FixtureFaults, FixtureOptions, SimulatedFixture};
use self::stage::Stage;
use crate::clock::{SystemClock, TimeSource};
use crate::cloud::Quotas;
use crate::config::Config;
use crate::device::rules::KeyOrigin;
use crate::fixture::place::PortPlace;
use crate::journal::store::{JournalLock, Store};
use crate::report::fold::{Live, Maker};
use crate::report::selection::Selection;
use crate::report::slot;
use crate::station::reporter::{ReportWriteError, write_once};
use crate::station::setup::{SetupError, assemble};
use crate::station::{Station, StationError};

/// How long the station may take to come to rest when every unit has its verdict.
const SETTLE: Duration = Duration::from_secs(10);

/// How much goes wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Faults {
    /// Nothing.
    #[default]
    None,
    /// What a good plant sees in a week.
    Mild,
    /// What a bad one sees in a minute.
    Hard,
}

/// What is rehearsed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Units in all.
    pub devices: usize,
    /// Nests of each fixture.
    pub nests: usize,
    /// Decides the serials and what goes wrong.
    pub seed: u64,
    /// How much goes wrong.
    pub faults: Faults,
    /// Added to each call to AWS.
    pub rtt: Duration,
    /// The simulated account's quotas; the station is configured for the same.
    pub quotas: Quotas,
    /// How the simulated account holds them, and what the station is not told.
    pub throttling: Throttling,
    /// A configuration to rehearse instead of the built-in one.
    pub config: Option<PathBuf>,
    /// Where everything is left; else a temporary directory is used and removed.
    pub keep: Option<PathBuf>,
}

/// How far a rehearsal is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Units in all.
    pub units: usize,
    /// Units that have passed.
    pub passed: usize,
    /// Units that were given up.
    pub failed: usize,
}

/// Why a rehearsal could not be held.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum RehearsalError {
    #[error("the rehearsal cannot be set up")]
    Stage(#[from] StageError),
    #[error("the simulated AWS cannot run")]
    Cloud(#[source] cloud::CloudSimError),
    #[error("a simulated fixture cannot run")]
    Fixture(#[source] std::io::Error),
    #[error("the station cannot be set up")]
    Setup(#[from] SetupError),
    #[error("the shift report cannot be left")]
    Report(#[source] ReportWriteError),
    #[error("the station broke down")]
    Station(#[from] StationError),
}

/// The simulated world: AWS, fixtures, and a directory with all that a station needs to work in it.
/// The station itself is the caller's: in this process ([`rehearse`]), or `linemint run` in another.
#[derive(Debug)]
pub struct World {
    stage: Stage,
    cloud: SimulatedCloud,
    fixtures: Vec<SimulatedFixture>,
    serials: Vec<Vec<String>>,
    /// The configuration for a station in this world; its file is `config.path`.
    pub config: Config,
}

impl World {
    /// Makes a world and sets it going: the fixtures wait for a station.
    ///
    /// # Errors
    /// A directory, port or socket could not be made, or the configuration is wrong.
    pub async fn open(options: &Options, now: Timestamp) -> Result<Self, RehearsalError> {
        let stage = Stage::set(options, now)?;
        let cloud = SimulatedCloud::start(CloudOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            quotas: options.quotas.clone(),
            throttling: options.throttling.clone(),
            rtt: options.rtt,
            faults: cloud_faults(options.faults),
            seed: options.seed,
            ledger: options.keep.as_ref().map(|dir| dir.join("ledger.jsonl")),
            data_listen: Some(([127, 0, 0, 1], 0).into()),
            ..CloudOptions::default()
        })
        .await
        .map_err(RehearsalError::Cloud)?;
        let config = stage.config(options, &cloud)?;
        stage::furnish(&cloud, &config)?;
        let serials = stage::deal(&config, options)?;
        let fixtures = start_fixtures(&config, options, &serials).map_err(RehearsalError::Fixture)?;
        Ok(Self { stage, cloud, fixtures, serials, config })
    }

    /// Returns when every unit has its verdict; `progress` is told how far it is, ten times a second.
    pub async fn watch(&self, progress: impl Fn(Progress)) {
        watch(&self.fixtures, progress).await;
    }

    /// Begins anew with the limit over all calls to AWS together that the station is not told: its steps
    /// count from now on.
    pub fn limit_account(&self, throttling: &Throttling) {
        self.cloud.limit_account(throttling);
    }

    /// Ends the world and tells what came of it; `seconds` is what the station took.
    ///
    /// # Errors
    /// The ledger or the report could not be written.
    pub async fn close(self, options: &Options, seconds: f64) -> Result<Report, RehearsalError> {
        let mut reports = Vec::new();
        for fixture in self.fixtures {
            reports.push(fixture.stop().await);
        }
        let audits = stage::audit(&self.cloud, &self.config, &self.serials, &reports);
        let report = Report::new(options, seconds, reports, audits, &self.cloud.stats());
        self.cloud.shutdown().await.map_err(RehearsalError::Cloud)?;
        self.stage.keep(&report)?;
        Ok(report)
    }
}

/// Holds a rehearsal: a world, and a station in this process.
///
/// # Errors
/// Something of the world could not be made, or the station broke down. Failed units are no
/// error: the report tells them.
pub async fn rehearse(options: &Options, progress: impl Fn(Progress)) -> Result<Report, RehearsalError> {
    let clock: Arc<dyn TimeSource> = Arc::new(SystemClock::default());
    let world = World::open(options, clock.now().wall).await?;
    let lock = JournalLock::take(&world.config.journal.dir).map_err(SetupError::Journal)?;
    let assembled = assemble(&world.config, lock, Some(credentials()), clock.clone()).await?;
    let started = clock.now();
    let (maker, store) = (assembled.maker.clone(), assembled.store.clone());
    let mut station = Station::start(assembled.parts)?;
    tokio::select! {
        () = world.watch(progress) => {}
        ended = station.ended() => return Err(ended.err().unwrap_or(StationError::Ended("engine")).into()),
    }
    let seconds = (clock.now().mono - started.mono).as_secs_f64();
    station.drained(SETTLE).await;
    if let Some(dir) = &options.keep {
        let (dir, now) = (dir.clone(), clock.now().wall);
        // What is not journaled yet is told by the station.
        let live = Live { calls: station.status.borrow().calls.clone(), ..Live::default() };
        let written = tokio::task::spawn_blocking(move || {
            shift_report(&dir, &maker, &store, (started.wall, now), live)
        });
        written.await.map_err(|_| StationError::Ended("report"))??;
    }
    station.stop().await?;
    world.close(options, seconds).await
}

/// Leaves the shift report in all formats.
fn shift_report(
    dir: &Path,
    maker: &Maker,
    store: &Store,
    (begin, now): (Timestamp, Timestamp),
    live: Live,
) -> Result<(), RehearsalError> {
    // Full slots, so that what the journal has counted is comparable with the devices.
    let begin = slot::begin(slot::number(begin));
    let end = slot::begin(slot::number(now) + 1);
    let selection = Selection::Time { begin, end };
    write_once(dir, maker, store, &selection, now, live).map_err(RehearsalError::Report)?;
    Ok(())
}

/// The credentials that every simulation takes: no secret.
#[must_use]
pub fn credentials() -> Credentials {
    Credentials::new("AKIDREHEARSAL", "rehearsal", None, None, "rehearsal")
}

fn start_fixtures(
    config: &Config,
    options: &Options,
    serials: &[Vec<String>],
) -> std::io::Result<Vec<SimulatedFixture>> {
    config
        .fixtures
        .iter()
        .zip(serials)
        .zip(0..)
        .map(|((fixture, serials), number)| {
            let rules = &config.products[&fixture.product].rules;
            SimulatedFixture::start(FixtureOptions {
                name: fixture.name.clone(),
                nests: options.nests,
                station_key: rules.certificate.key == KeyOrigin::Station,
                with_mac: true,
                resend: fixture.resend,
                seed: options.seed.wrapping_add(number),
                faults: fixture_faults(options.faults),
                link: match &fixture.port {
                    PortPlace::Path(path) => Some(path.clone()),
                    // The stage has put a path in its place.
                    PortPlace::Usb(_) => None,
                },
                ..FixtureOptions::new(serials.clone())
            })
        })
        .collect()
}

/// Returns when every fixture is done.
async fn watch(fixtures: &[SimulatedFixture], progress: impl Fn(Progress)) {
    let mut watches: Vec<_> = fixtures.iter().map(SimulatedFixture::progress).collect();
    // The end is seen within a hundredth of a second: half a minute is measured by it.
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let mut ticks = 0_u32;
    loop {
        pace.tick().await;
        ticks = ticks.wrapping_add(1);
        let mut sum = Progress::default();
        let mut done = true;
        for watch in &mut watches {
            let now = *watch.borrow_and_update();
            sum.units += now.units;
            sum.passed += now.passed;
            sum.failed += now.failed;
            done &= now.done;
        }
        if done || ticks % 10 == 1 {
            progress(sum);
        }
        if done {
            return;
        }
    }
}

fn cloud_faults(faults: Faults) -> FaultPlan {
    match faults {
        Faults::None => FaultPlan::none(),
        Faults::Mild => FaultPlan::mild(),
        Faults::Hard => FaultPlan::hard(),
    }
}

fn fixture_faults(faults: Faults) -> FixtureFaults {
    match faults {
        Faults::None => FixtureFaults::none(),
        Faults::Mild => FixtureFaults::mild(),
        Faults::Hard => FixtureFaults::hard(),
    }
}

/// The log's name in a directory that is kept.
pub const LOG_FILE: &str = "linemint.log";

/// Makes `dir` if it is not there; it has to be empty, but for the log of this very rehearsal.
///
/// # Errors
/// It cannot be made or read, or holds something.
pub fn empty_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for entry in std::fs::read_dir(dir)? {
        if entry?.file_name() != LOG_FILE {
            return Err(std::io::Error::other("the directory is not empty"));
        }
    }
    Ok(())
}

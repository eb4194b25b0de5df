//! The station at work: puts the line (which decides) and the adapters (which do) together.
//!
//! ```text
//!  fixture ports ──> intake ──┐                    ┌──> scribe ── journal (one thread, group commit)
//!                             v                    │
//!  AWS  <── worker <────── engine (one task: Line) ├──> vault ─── CA and sealed keys (two threads)
//!                             ^                    │
//!                             │                    └──> deliveries ─ directories (a thread each)
//!                             └── durable, issued, called, destroyed, delivered
//! ```
//! The engine owns the [`Line`]: it feeds it inputs, journals its records, and holds
//! back every other action until the record that it depends on is on disk.
//!
//! Only this file and `rehearsal` construct adapters; `worker` and `scribe` see traits only, so that
//! the same code runs in production and in simulation.

mod bound;
pub(crate) mod deliveries;
mod engine;
mod follower;
mod herald;
mod instruments;
pub(crate) mod intake;
pub(crate) mod names;
mod picture;
mod prover;
pub mod reconcile;
pub mod reporter;
#[cfg(test)]
mod secrets;
mod shift_end;
mod timekeeper;
pub(crate) mod vault;
mod worker;

// Public for the benchmark, which goes the way of the station's records.
pub mod scribe;
pub mod setup;
pub mod supervisor;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::batch;
use crate::clock::{ClockSync, TimeSource};
use crate::cloud::Cloud;
use crate::device::mend::MendOrder;
use crate::device::operator::{Operator, Order, Refusal, StationOrder};
use crate::device::serial::SerialNumber;
use crate::device::{Certificate, Superseded};
use crate::journal::keys::{KeyStore, KeyStoreError};
use crate::journal::store::Opened;
use crate::journal::{JournalError, Recovered};
use crate::line::{Line, LineStatus, News, Settings};
use crate::pki::Issuer;

pub use self::intake::{FixturePort, PortCounters};

/// Inputs that may wait for the line.
const INPUTS: usize = 4096;

/// Records that may wait for the journal.
const RECORDS: usize = 4096;

/// All that a station is made of.
pub struct Parts<C> {
    /// The station's id.
    pub station: String,
    /// Where credentials are delivered, if not by the fixtures.
    pub directories: Vec<PathBuf>,
    /// What the line is told.
    pub settings: Settings,
    /// The ports of the fixtures, in the order of `settings.fixtures`.
    pub ports: Vec<FixturePort>,
    /// The opened journal.
    pub journal: Opened,
    /// Where private keys are sealed.
    pub keys: KeyStore,
    /// Makes certificates; none where AWS issues them all.
    pub issuer: Option<Arc<dyn Issuer>>,
    /// AWS, paced.
    pub cloud: Arc<C>,
    /// Tells the time.
    pub clock: Arc<dyn TimeSource>,
    /// Where the journal is, for the check of free space.
    pub journal_dir: PathBuf,
    /// Bytes that must be free there before a device is admitted.
    pub min_free: u64,
    /// What is said of the wall clock.
    pub sync: watch::Receiver<ClockSync>,
}

/// Why a station cannot go on. Each ends the process.
#[derive(Debug, thiserror::Error)]
pub enum StationError {
    /// The journal cannot be written or read: nothing more may be promised.
    #[error("the station stops: nothing more can be promised")]
    Journal(#[from] JournalError),
    /// The sealed keys cannot be swept at start.
    #[error("the station cannot start: the sealed keys are not in order")]
    Keys(#[from] KeyStoreError),
    /// A thread could not be started.
    #[error("the station cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// A part of the station has ended on its own.
    #[error("the station stops: its {0} has ended unexpectedly")]
    Ended(&'static str),
}

/// What the engine can be told from outside.
#[derive(Debug)]
pub enum Command {
    /// Take no new units, since the process is about to end. Answered when no unit in a nest waits any more.
    Drain(oneshot::Sender<()>),
    /// A person's order about the station as a whole. Answered when it is carried out and on disk.
    Station {
        /// What.
        order: StationOrder,
        /// Who, and why.
        by: Operator,
        /// Told when it is done, or why it is not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// A person's order about a device. Answered when it is carried out and on disk.
    Order {
        /// What.
        order: Order,
        /// With which device.
        serial: SerialNumber,
        /// Who, and why.
        by: Operator,
        /// Told when it is done, or why it is not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Put right what a reconciliation has found. Answered when the order is on disk; what comes of it is
    /// in the journal.
    Mend {
        /// Whose.
        serial: SerialNumber,
        /// What.
        order: MendOrder,
        /// Who, and why.
        by: Operator,
        /// Told when it is begun, or why it is not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// A person's order about batches. Answered when it is carried out and on disk.
    Batch {
        /// What.
        order: batch::Order,
        /// Who, and why.
        by: Operator,
        /// Told when it is done, or why it is not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Another configuration takes effect. Answered when that is on disk.
    Reconfigure {
        /// What it changes.
        news: Box<News>,
        /// The ports of its new fixtures, in their order in `news`.
        ports: Vec<FixturePort>,
        /// Told the counters of those ports.
        opened: oneshot::Sender<Vec<Arc<PortCounters>>>,
        /// Told when it is done.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Go on by a clock that is doubted. Answered when it is on disk.
    OverrideClock {
        /// Who, and why.
        by: Operator,
        /// Told when it is done, or why it is not.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// End at once.
    Stop,
}

/// A running station.
#[derive(Debug)]
pub struct Station {
    /// Tells it what to do.
    pub commands: mpsc::Sender<Command>,
    /// What it is doing; at most a quarter of a second old.
    pub status: watch::Receiver<Arc<LineStatus>>,
    /// The newest sequence number on disk.
    pub durable: watch::Receiver<u64>,
    /// What each fixture's port has seen.
    pub ports: Vec<Arc<PortCounters>>,
    /// How the journal's commits went.
    pub(crate) commits: Arc<instruments::Commits>,
    /// The threads that issue and destroy.
    pub(crate) hands: vault::Hands,
    engine: JoinHandle<Result<(), StationError>>,
}

impl Station {
    /// Starts a station: takes up what the journal holds, opens the ports, begins to work.
    ///
    /// # Errors
    /// The sealed keys cannot be read, or a thread cannot be started.
    pub fn start<C: Cloud + 'static>(parts: Parts<C>) -> Result<Self, StationError> {
        let Opened { store, writer, recovered, .. } = parts.journal;
        let keys = Arc::new(parts.keys);
        sweep_keys(&*keys, &recovered)?;
        let durable_seq = recovered.seq;
        let (inputs, from_adapters) = mpsc::channel(INPUTS);
        let (records, from_line) = mpsc::channel(RECORDS);
        let (durable_sender, durable) = watch::channel(durable_seq);
        let commits = Arc::new(instruments::Commits::default());
        let writer = instruments::Timed::new(writer, parts.clock.clone(), commits.clone());
        let scribe = scribe::start(writer, from_line, durable_sender).map_err(StationError::Thread)?;
        let vault = vault::start(parts.issuer, keys.clone(), parts.clock.clone(), inputs.clone())
            .map_err(StationError::Thread)?;
        let hands = vault.hands.clone();
        let (outboxes, ports) = intake::start(0, parts.ports, &keys, &parts.clock, &inputs);
        let deliveries = deliveries::start(&parts.station, &parts.directories, &keys, &inputs)
            .map_err(StationError::Thread)?;
        let (line, first) = Line::start(parts.settings, recovered, parts.clock.now());
        let (commands, from_outside) = mpsc::channel(16);
        let (status_sender, status) = watch::channel(Arc::new(line.status()));
        let engine = engine::Engine {
            sync: parts.sync,
            orders: engine::Orders::default(),
            line,
            store,
            clock: parts.clock,
            records,
            scribe,
            vault,
            deliveries,
            outboxes,
            worker: worker::Worker::new(parts.cloud, inputs.clone()),
            prover: prover::Prover::new(keys.clone(), inputs.clone()),
            keys,
            inputs,
            status: status_sender,
            held: crate::line::Held::default(),
            journal_dir: parts.journal_dir,
            min_free: parts.min_free,
            waiting_for_idle: Vec::new(),
        };
        let engine = tokio::spawn(engine.run(first, from_adapters, from_outside, durable.clone()));
        Ok(Self { commands, status, durable, ports, commits, hands, engine })
    }

    /// Takes no new units; returns when no unit in a nest waits any more and nothing is left to be
    /// destroyed, or after `within`.
    pub async fn drained(&self, within: Duration) {
        let (reply, idle) = oneshot::channel();
        if self.commands.send(Command::Drain(reply)).await.is_ok() {
            // Whether in time or not, and even if the station ends meanwhile: the caller stops it next.
            let _ = tokio::time::timeout(within, idle).await;
        }
    }

    /// Stops at once, leaving nothing half written.
    ///
    /// # Errors
    /// The station had to stop for another reason.
    pub async fn stop(self) -> Result<(), StationError> {
        // If it is gone already, its end says why.
        let _ = self.commands.send(Command::Stop).await;
        flatten(self.engine.await)
    }

    /// Waits until the station ends on its own: always an error.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn ended(&mut self) -> Result<(), StationError> {
        flatten((&mut self.engine).await)
    }
}

fn flatten(ended: Result<Result<(), StationError>, tokio::task::JoinError>) -> Result<(), StationError> {
    ended.unwrap_or(Err(StationError::Ended("engine")))
}

/// Finishes the destruction of keys that a crash has cut short, and removes keys that were sealed
/// for certificates which never came into the journal.
pub(crate) fn sweep_keys(keys: &impl vault::Keys, recovered: &Recovered) -> Result<(), StationError> {
    let mut keep = HashSet::new();
    for device in &recovered.pending {
        keep.extend(device.certificate.iter().map(Certificate::key_id));
        keep.extend(device.superseded.iter().map(Superseded::key_id));
        keep.extend(device.request.iter().map(|it| it.public_key));
    }
    let swept = keys.sweep(&keep)?;
    if !swept.is_empty() {
        tracing::info!(
            count = swept.len(),
            "destroyed private keys of certificates that were never journaled"
        );
    }
    Ok(())
}

//! Reconciliation at work: reads the journal and the account, has [`crate::reconcile`] hold the one
//! against the other, tells what it finds, and hands repairs to the line.
//!
//! ```text
//!  journal ──> roster <── lists (things, policies, certificates, lockers: 250 to 1,000 names a call)
//!                │
//!                v  what the lists do not show, and attachments and documents
//!            single reads ──> compare ──> findings ──> line (journaled orders) ──> outcomes
//! ```
//! Every call is a read of the lowest class, under the station's limiter. The journal is read first and each
//! device again before anything is told of it: one that has changed meanwhile is in flight.

mod lists;
mod ordered;
mod reads;
mod repairs;
mod strangers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use self::ordered::Ordered;
use super::Command;
use crate::clock::TimeSource;
use crate::cloud::{Answer, Call, Class, Cloud, CloudError, FailureKind, Operation, Reply};
use crate::device::operator::Operator;
use crate::device::retry;
use crate::device::rules::{ProductRules, RulesId};
use crate::device::{Device, serial::SerialNumber};
use crate::error::Chain;
use crate::journal::store::Store;
use crate::journal::{JournalError, Shelf as _};
use crate::line::Product;
use crate::pki::Fingerprint;
use crate::reconcile::newest::{Look as Looked, MAX_KEPT, Newest};
use crate::reconcile::{
    BatchLockers, Finding, Phase, Roster, Selection, SharedLocker, Summary, Taken, Told, Wish,
};
use crate::shift::Calendar;
use crate::shift::moment::Moment;

/// Tries of a read before its device is given up.
const TRIES: u32 = 8;

/// Messages that wait for the reader.
const TOLD: usize = 64;

/// Between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Devices that are read from the journal at once.
const PAGE: usize = 1_000;

/// From so many selected devices, and ordered ones that never came, on the lists are read: for fewer, single reads are as quick.
const LISTS_FROM: u64 = 300;

/// Findings that one run keeps for its repairs.
const MAX_REPAIRS: usize = 20_000;

/// Reconciles for whoever asks, one at a time.
pub struct Reconciler<C> {
    /// AWS, paced.
    pub cloud: Arc<C>,
    /// The journal's reading half.
    pub store: Store,
    /// The newest record on disk.
    pub durable: watch::Receiver<u64>,
    /// Tells the time.
    pub clock: Arc<dyn TimeSource>,
    /// The line's ear, for repairs.
    pub commands: mpsc::Sender<Command>,
    /// The station's id.
    pub station: String,
    /// The products that are configured.
    pub products: BTreeMap<String, Product>,
    /// The station's CAs: that which issues, and the one before it while it is configured. Their ids in AWS,
    /// and their certificates in PEM.
    pub cas: Vec<(Fingerprint, String)>,
    /// The shifts.
    pub calendar: Calendar,
    /// Held by the one that runs.
    pub turn: Arc<Semaphore>,
    /// Certificates that were looked into and are not this station's, in short.
    pub foreign: Mutex<HashSet<u64>>,
    /// Where a look that came to its end is kept for the report.
    pub newest: Newest,
}

/// Why a run ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// Nobody listens any more.
    #[error("nobody listens")]
    Gone,
    /// It cannot go on.
    #[error("{0}")]
    Problem(String),
    /// One device cannot be read now.
    #[error("{0}")]
    Unread(CloudError),
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Self::Problem(format!("the journal cannot be read: {}", Chain(&error)))
    }
}

/// Something that is being looked at.
type Look<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is to be repaired, each with the number of its device's newest record when it was looked at; 0 where the
/// journal did not know the device.
type Repairs = Vec<(Finding, u64)>;

/// Which devices, as instants.
#[derive(Debug, Clone, Default)]
struct Filter {
    batch: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Filter {
    fn takes(&self, device: &Device) -> bool {
        self.batch.as_ref().is_none_or(|it| device.batch.as_ref() == Some(it))
            && self.since.is_none_or(|it| device.first_at() >= it)
            && self.until.is_none_or(|it| device.first_at() < it)
    }
}

impl<C: Cloud + 'static> Reconciler<C> {
    /// The same by another configuration. Of the two one runs at a time.
    #[must_use]
    pub fn following(&self, products: BTreeMap<String, Product>, calendar: Calendar) -> Self {
        Self {
            cloud: self.cloud.clone(),
            store: self.store.clone(),
            durable: self.durable.clone(),
            clock: self.clock.clone(),
            commands: self.commands.clone(),
            station: self.station.clone(),
            products,
            cas: self.cas.clone(),
            calendar,
            turn: self.turn.clone(),
            foreign: Mutex::default(),
            newest: self.newest.clone(),
        }
    }

    /// Begins a run; what it tells comes out of the channel, and dropping that ends it.
    ///
    /// # Errors
    /// One runs already, or the selection names no shift of this station's. A sentence.
    pub fn start(self: &Arc<Self>, wish: Wish, by: Operator) -> Result<mpsc::Receiver<Told>, String> {
        let filter = self.filter(&wish.selection)?;
        let permit = self.turn.clone().try_acquire_owned();
        let permit = permit.map_err(|_| "a reconciliation is running already, and there is one at a time")?;
        let (told, heard) = mpsc::channel(TOLD);
        let this = self.clone();
        tokio::spawn(async move {
            let gone = told.clone();
            tokio::select! {
                () = gone.closed() => tracing::info!("a reconciliation was given up by who asked for it"),
                () = this.run(wish, filter, by, (told, permit)) => {}
            }
        });
        Ok(heard)
    }

    fn filter(&self, selection: &Selection) -> Result<Filter, String> {
        let Selection { batch, shift, since, until } = selection.clone();
        let instant = |name: &str, it: Option<Moment>| {
            let at = it.map(|it| it.instant(&self.calendar.timezone)).transpose();
            at.map_err(|hint| format!("{name} is no time: {hint}"))
        };
        let (since, until) = (instant("since", since)?, instant("until", until)?);
        let Some(shift) = shift else { return Ok(Filter { batch, since, until }) };
        let span = self.calendar.asked(&shift, self.clock.now().wall).map_err(|error| error.to_string())?;
        let since = since.map_or(span.begin, |it| it.max(span.begin));
        let until = until.map_or(span.end, |it| it.min(span.end));
        Ok(Filter { batch, since: Some(since), until: Some(until) })
    }

    async fn run(
        &self,
        wish: Wish,
        filter: Filter,
        by: Operator,
        (told, permit): (mpsc::Sender<Told>, OwnedSemaphorePermit),
    ) {
        let began = self.clock.now().mono;
        let run = Run {
            reconciler: self,
            wish,
            filter,
            by,
            told: told.clone(),
            progressed: Mutex::new(None),
            calls: Operation::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            after: Mutex::new(None),
            kept: Mutex::default(),
        };
        let end = match run.whole().await {
            Ok(mut summary) => {
                let took = self.clock.now().mono.saturating_sub(began).as_millis();
                summary.took_ms = u64::try_from(took).unwrap_or(u64::MAX);
                summary.calls = run.calls();
                tracing::info!(?summary, "reconciled");
                run.keep(&summary);
                Told::Summary(summary)
            }
            Err(Stop::Gone) => return,
            Err(stop) => {
                let detail = stop.to_string();
                tracing::warn!(detail, "a reconciliation could not go on");
                Told::Problem { detail, after: run.after() }
            }
        };
        // Whoever hears the end may begin the next.
        drop(permit);
        // Nobody may be there any more.
        let _ = told.send(end).await;
    }

    /// Reads the journal on a thread that may block.
    async fn journal<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, Stop> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || read(&store)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Stop::Problem("the station is stopping".to_owned())),
        }
    }

    async fn device(&self, serial: SerialNumber) -> Result<Option<Device>, Stop> {
        self.journal(move |store| store.device(&serial)).await
    }
}

/// One run.
struct Run<'a, C> {
    reconciler: &'a Reconciler<C>,
    wish: Wish,
    filter: Filter,
    by: Operator,
    told: mpsc::Sender<Told>,
    progressed: Mutex<Option<Duration>>,
    calls: Vec<AtomicU64>,
    /// Every selected device up to this one is told.
    after: Mutex<Option<String>>,
    /// The first findings, for the report.
    kept: Mutex<Vec<Finding>>,
}

/// What the journal says.
struct Journal {
    roster: Roster,
    rules: BTreeMap<RulesId, Arc<ProductRules>>,
    /// Rules that selected devices were made by.
    used: BTreeMap<RulesId, Arc<ProductRules>>,
    /// Lockers that batches of selected devices share.
    lockers: BTreeSet<SharedLocker>,
    /// All that batches' devices share.
    batch_lockers: BatchLockers,
    /// Its newest record when it was read.
    seq: u64,
    /// When its first device was admitted.
    first: Option<Timestamp>,
    /// What is on the order and was never presented here.
    ordered: Ordered,
}

impl<C: Cloud + 'static> Run<'_, C> {
    /// Keeps what came of it, if all that was selected was looked at.
    fn keep(&self, summary: &Summary) {
        if self.wish.after.is_some() {
            return;
        }
        let findings = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let Filter { batch, since, until } = self.filter.clone();
        let (at, quick) = (self.reconciler.clock.now().wall, self.wish.quick);
        let summary = summary.clone();
        self.reconciler.newest.put(Looked { at, batch, since, until, quick, summary, findings });
    }

    async fn whole(&self) -> Result<Summary, Stop> {
        let mut journal = self.read_journal().await?;
        self.read_order(&mut journal).await?;
        journal.roster.sort();
        // Of the whole selection, also where the run goes on with an earlier one.
        let taken = journal.roster.rows().len();
        let Ordered { sought, unsought, .. } = journal.ordered;
        let selected = journal.roster.selected();
        let mut summary = Summary { selected, sought, unsought, ..Summary::default() };
        if taken == 0
            && sought + unsought == 0
            && let Some(batch) = &self.filter.batch
        {
            return Err(Stop::Problem(format!("no device of this journal belongs to batch {batch:.100}")));
        }
        let all = self.wish.selection.is_all();
        if all || taken as u64 + sought >= LISTS_FROM {
            self.read_lists(&mut journal).await?;
            summary.listed = Some(journal.roster.listed());
        }
        let mut repairs = Vec::new();
        self.devices(&journal, &mut summary, &mut repairs).await?;
        self.shared_policies(&journal, &mut summary).await?;
        self.shared_lockers(&journal, &mut summary).await?;
        self.strangers(&journal, all, &mut summary, &mut repairs).await?;
        if self.wish.repair {
            self.repair(repairs, &mut summary).await?;
        }
        Ok(summary)
    }

    /// Reads every device: the selected ones to be compared, the others to be known.
    async fn read_journal(&self) -> Result<Journal, Stop> {
        let seq = *self.reconciler.durable.borrow();
        let lockers = self.reconciler.journal(Store::lockers).await?;
        let mut journal = Journal {
            roster: Roster::default(),
            rules: BTreeMap::new(),
            used: BTreeMap::new(),
            lockers: BTreeSet::new(),
            batch_lockers: lockers.into_iter().map(|(name, it)| (it.id, name)).collect(),
            seq,
            first: None,
            ordered: Ordered::default(),
        };
        let (mut after, mut done) = (self.wish.after.clone(), 0);
        let begins_behind = after.take();
        loop {
            let from = after.clone();
            let page =
                self.reconciler.journal(move |store| store.devices(from.as_deref(), PAGE, |_| true)).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.serial.to_string());
            done += page.len() as u64;
            for device in &page {
                let rules = self.rules(&mut journal.rules, device.rules).await?;
                let behind = begins_behind.as_ref().is_none_or(|it| device.serial.as_str() > it.as_str());
                let taken = match self.filter.takes(device) {
                    true if behind => Taken::Selected,
                    true => Taken::Told,
                    false => Taken::Known,
                };
                // A shared policy that no device has needed yet need not be there.
                if taken != Taken::Known && device.done.policy {
                    journal.used.entry(device.rules).or_insert_with(|| rules.clone());
                }
                if taken != Taken::Known {
                    journal.lockers.extend(SharedLocker::of(device, &journal.batch_lockers));
                }
                journal.first = journal.first.into_iter().chain([device.admitted_at]).min();
                let added = journal.roster.add(device, &rules, taken);
                added.map_err(|error| Stop::Problem(error.to_string()))?;
            }
            self.progress(Phase::Journal, done, None)?;
        }
        Ok(journal)
    }

    async fn rules(
        &self,
        known: &mut BTreeMap<RulesId, Arc<ProductRules>>,
        id: RulesId,
    ) -> Result<Arc<ProductRules>, Stop> {
        if let Some(rules) = known.get(&id) {
            return Ok(rules.clone());
        }
        let read = self.reconciler.journal(move |store| store.rules(&id)).await?;
        let rules =
            Arc::new(read.ok_or_else(|| Stop::Problem(format!("the journal has lost the rules {id}")))?);
        known.insert(id, rules.clone());
        Ok(rules)
    }

    async fn tell(&self, told: Told) -> Result<(), Stop> {
        self.told.send(told).await.map_err(|_| Stop::Gone)
    }

    /// Tells a finding, counts it, and keeps it if it is to be repaired, with the number of its device's newest
    /// record when it was looked at.
    async fn found(
        &self,
        (finding, seq): (Finding, u64),
        summary: &mut Summary,
        repairs: &mut Repairs,
    ) -> Result<(), Stop> {
        *summary.findings.entry(finding.class).or_default() += 1;
        if self.wish.repair && finding.repair.is_some() && repairs.len() < MAX_REPAIRS {
            repairs.push((finding.clone(), seq));
        }
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAX_KEPT {
                kept.push(finding.clone());
            }
        }
        self.tell(Told::Finding(Box::new(finding))).await
    }

    fn progress(&self, phase: Phase, done: u64, of: Option<u64>) -> Result<(), Stop> {
        let now = self.reconciler.clock.now().mono;
        {
            let mut last = self.progressed.lock().unwrap_or_else(PoisonError::into_inner);
            let ended = of == Some(done);
            if !ended && last.is_some_and(|it| now.saturating_sub(it) < PROGRESS_EVERY) {
                return Ok(());
            }
            *last = Some(now);
        }
        match self.told.try_send(Told::Progress { phase, done, of, after: self.after() }) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Stop::Gone),
            // The reader has enough to read.
            _ => Ok(()),
        }
    }

    fn after(&self) -> Option<String> {
        self.after.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn calls(&self) -> BTreeMap<String, u64> {
        let counts = Operation::ALL.iter().zip(&self.calls);
        let counts = counts.map(|(it, count)| (it.kebab().to_owned(), count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Asks AWS, again where that can help. None if there is no such thing.
    async fn ask(&self, call: &Call) -> Result<Option<Reply>, Stop> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.calls[call.operation() as usize].fetch_add(1, Ordering::Relaxed);
            let error = match self.reconciler.cloud.call_for(Class::Read, call).await {
                Ok(Answer { reply, .. }) => return Ok(Some(reply)),
                Err(error) => error,
            };
            match error.kind {
                FailureKind::NotFound => return Ok(None),
                FailureKind::Stop(_) => return Err(Stop::Problem(error.to_string())),
                _ if attempt >= TRIES => return Err(Stop::Unread(error)),
                _ => tokio::time::sleep(retry::delay(&error, attempt, fastrand::f64())).await,
            }
        }
    }
}

//! Follows the journal and keeps what its newest records come to: for the board, the metrics and the log.
//!
//! It reads what is on disk, some times a second at most, on a thread that may block: the line does not wait
//! for it, and it never tells what a power cut could take back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::TimeSource;
use crate::control::sight::Plant;
use crate::control::tally::{Ending, Folder, Looked, Tally, Verdict, span};
use crate::device::event::Event;
use crate::device::serial::SerialNumber;
use crate::error::Chain;
use crate::fixture::text::Messages;
use crate::journal::store::Store;
use crate::journal::{JournalError, Record, Shelf as _, What};

/// Records that are read at a time.
const CHUNK: usize = 500;

/// Between two looks: sooner than an eye is moved from the nest to the screen.
const EVERY: Duration = Duration::from_millis(100);

/// How often the calendar is looked at when nothing happens, and how long it waits after an error.
const QUIET: Duration = Duration::from_secs(5);

/// So many records before the newest are read at least, so that the nests show after a restart what they
/// showed before, even where the shift has just begun.
const AT_LEAST: u64 = 2_000;

/// What it follows.
pub(super) struct Follower {
    pub(super) store: Store,
    pub(super) durable: watch::Receiver<u64>,
    pub(super) clock: Arc<dyn TimeSource>,
    pub(super) plant: watch::Receiver<Arc<Plant>>,
    pub(super) messages: Arc<Messages>,
    pub(super) tally: watch::Sender<Arc<Tally>>,
    /// The newest record that was logged; nothing when it begins.
    pub(super) logged: u64,
}

impl Follower {
    /// Follows until the station ends.
    pub(super) async fn run(mut self) {
        let started_at = *self.durable.borrow_and_update();
        self.logged = started_at;
        let Some(first) = self.first(started_at).await else { return };
        let now = self.clock.now().wall;
        let calendar = self.plant.borrow_and_update().calendar.clone();
        let mut folder =
            Folder::new(calendar, first.saturating_sub(1), started_at, now).saying(self.messages.clone());
        loop {
            let mut caught_up = self.catch_up(&mut folder).await;
            let looked = folder.look(self.clock.now().wall);
            let changed = self.plant.has_changed().unwrap_or(false);
            if changed {
                folder.follow(self.plant.borrow_and_update().calendar.clone());
            }
            if changed || looked == Looked::Back {
                let Some(first) = self.first(folder.tally().seq).await else { return };
                folder.begin_again(first.saturating_sub(1));
                caught_up = self.catch_up(&mut folder).await;
            }
            if *folder.tally() != **self.tally.borrow() {
                self.tally.send_replace(Arc::new(folder.tally().clone()));
            }
            if let Err(error) = caught_up {
                tracing::debug!(error = %Chain(&error), "the journal cannot be followed now");
                tokio::time::sleep(QUIET).await;
                continue;
            }
            tokio::select! {
                changed = self.durable.changed() => match changed {
                    Ok(()) => tokio::time::sleep(EVERY).await,
                    Err(_) => return,
                },
                () = tokio::time::sleep(QUIET) => {}
                () = self.tally.closed() => return,
            }
        }
    }

    /// Reads and folds what has come.
    async fn catch_up(&mut self, folder: &mut Folder) -> Result<(), JournalError> {
        let newest = *self.durable.borrow_and_update();
        while folder.tally().seq < newest {
            let after = folder.tally().seq;
            let records = read(&self.store, move |store| store.events(after, CHUNK)).await?;
            if records.is_empty() {
                return Ok(());
            }
            // What is read was decided before now.
            folder.look(self.clock.now().wall);
            let is_last = records.last().is_none_or(|it| it.seq >= newest);
            let mut news = Vec::new();
            for record in records.into_iter().filter(|it| it.seq <= newest) {
                let verdict = folder.fold(&record);
                if record.seq > self.logged {
                    news.push((record, verdict));
                }
            }
            self.log_all(news).await;
            if is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Logs what is new. Of a device that was presented again the batch is in no record of that presentation: the
    /// device has it.
    async fn log_all(&mut self, mut news: Vec<(Record, Option<Verdict>)>) {
        let lacks = |it: &&Verdict| it.batch.is_none();
        let lacking = news.iter().filter_map(|it| it.1.as_ref()).filter(lacks);
        let serials: BTreeSet<_> = lacking.filter_map(|it| SerialNumber::parse(&it.serial).ok()).collect();
        // What cannot be read is logged without.
        let batches = match serials.is_empty() {
            true => BTreeMap::new(),
            false => read(&self.store, move |store| batches_of(store, serials)).await.unwrap_or_default(),
        };
        for (record, verdict) in &mut news {
            if let Some(it) = verdict.as_mut().filter(|it| it.batch.is_none()) {
                it.batch = batches.get(&it.serial).cloned();
            }
            log(record, verdict.as_ref());
            self.logged = record.seq;
        }
    }

    /// The first record to be read: that of the shift, or one before. None if the station ends meanwhile.
    async fn first(&self, newest: u64) -> Option<u64> {
        let at_least = newest.saturating_sub(AT_LEAST) + 1;
        let calendar = self.plant.borrow().calendar.clone();
        let Some(shift) = span(&calendar, self.clock.now().wall) else { return Some(at_least) };
        loop {
            let begin = shift.begin;
            match read(&self.store, move |store| store.first_since(begin, newest)).await {
                Ok(first) => return Some(first.min(at_least)),
                Err(error) => {
                    tracing::debug!(error = %Chain(&error), "the journal cannot be followed yet");
                    tokio::select! {
                        () = tokio::time::sleep(QUIET) => {}
                        () = self.tally.closed() => return None,
                    }
                }
            }
        }
    }
}

/// The batches of devices, by serial number, of those that have one.
fn batches_of(
    store: &Store,
    serials: BTreeSet<SerialNumber>,
) -> Result<BTreeMap<String, String>, JournalError> {
    let mut batches = BTreeMap::new();
    for serial in serials {
        let device = store.device(&serial)?;
        batches.extend(device.and_then(|it| it.batch).map(|it| (serial.to_string(), it)));
    }
    Ok(batches)
}

/// Reads on a thread that may block.
async fn read<T: Default + Send + 'static>(
    store: &Store,
    reading: impl FnOnce(&Store) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let store = store.clone();
    let read = tokio::task::spawn_blocking(move || reading(&store)).await;
    // It is never cancelled; a bug in it is told where it happens.
    read.unwrap_or_else(|_| Ok(T::default()))
}

/// A line for each verdict, and what a support case needs of the calls.
fn log(record: &Record, verdict: Option<&Verdict>) {
    if let Some(it) = verdict {
        let (serial, batch, fixture) = (it.serial.as_str(), it.batch.as_deref(), it.fixture.as_str());
        let (nest, took_ms) = (it.nest.as_deref(), it.took_ms);
        match &it.ending {
            Ending::Pass { again } => tracing::info!(serial, batch, fixture, nest, took_ms, again, "PASS"),
            Ending::Fail { code, sentence, deferred } => {
                tracing::info!(serial, batch, fixture, nest, took_ms, %code, sentence, deferred, "FAIL");
            }
        }
    }
    let (Some(serial), What::Device(event)) = (&record.serial, &record.what) else { return };
    match event {
        Event::Trouble { step, message, attempt, request_id } => {
            tracing::warn!(%serial, %step, attempt, request_id, said = message, "a step did not go through; it is tried again");
        }
        Event::StepDone { step, adopted, request_id, .. } => {
            tracing::debug!(%serial, %step, adopted, request_id, "a step is done");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::journal::store::{JournalLock, open};
    use crate::journal::{Entry, Journal as _, StationEvent};
    use jiff::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    #[tokio::test]
    async fn what_is_said_of_a_device_that_is_presented_again_names_its_batch() {
        use crate::control::tests::{admitted_at, nest_event};
        use crate::device::Device;
        use crate::device::event::Waited;
        use crate::fixture::FailCode;
        use crate::shift::Calendar;

        let dir = tempfile::tempdir().unwrap();
        let mut opened = open(JournalLock::take(dir.path()).unwrap()).unwrap();
        let serial = SerialNumber::parse("SN-1").unwrap();
        let (nest, attributes) = (Some("A".to_owned()), BTreeMap::new());
        let again = Event::Presented { presentation: nest_event(2), nest, mac: None, anew: None, attributes };
        let deferred = |id| {
            let (presentation, waited) = (nest_event(id), Waited::default());
            Event::Deferred { presentation, code: FailCode::Offline, message: String::new(), waited }
        };
        let events = [admitted_at(1, Some("A"), Some("WO-10")), deferred(1), again, deferred(2)];
        let mut device: Option<Device> = None;
        let mut entries = Vec::new();
        for (seq, event) in (1..).zip(events) {
            let what = What::Device(event);
            let record = Record { seq, at: at(0), serial: Some(serial.clone()), what };
            let before = device.as_ref().map(|it| it.state);
            device = crate::journal::fold::device_after(device, &record).unwrap();
            entries.push(Entry { record, device: device.clone().map(|it| (Box::new(it), before)) });
        }
        opened.writer.commit(entries).unwrap();
        let (_told, durable) = watch::channel(4);
        let mut folder = Folder::new(Calendar::default(), 0, 0, at(0));
        let mut follower = Follower {
            store: opened.store.clone(),
            durable,
            clock: Arc::new(ManualClock::at(at(0))),
            plant: watch::channel(Arc::default()).1,
            messages: Arc::default(),
            tally: watch::channel(Arc::default()).0,
            logged: 2,
        };
        let (log, _here) = crate::telemetry::capturing();
        follower.catch_up(&mut folder).await.unwrap();
        let log = log.text();
        assert!(log.contains("FAIL serial=\"SN-1\" batch=\"WO-10\"") && log.lines().count() == 1, "{log}");
    }

    #[tokio::test]
    async fn it_follows_what_is_on_disk_and_nothing_beyond_and_ends_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = open(JournalLock::take(dir.path()).unwrap()).unwrap();
        let (told, durable) = watch::channel(0);
        let (sender, mut tally) = watch::channel(Arc::default());
        let plant = watch::channel(Arc::default()).1;
        let clock = Arc::new(ManualClock::at(at(0)));
        let store = opened.store.clone();
        let following = tokio::spawn(
            Follower { store, durable, clock, plant, messages: Arc::default(), tally: sender, logged: 0 }
                .run(),
        );
        let what = What::Station(StationEvent::LineResumed);
        let entry =
            |seq| Entry { record: Record { seq, at: at(0), serial: None, what: what.clone() }, device: None };
        opened.writer.commit((1..=1_200).map(entry).collect()).unwrap();
        told.send_replace(1_100);
        tally.wait_for(|it| it.seq == 1_100).await.unwrap();
        told.send_replace(1_200);
        tally.wait_for(|it| it.seq == 1_200).await.unwrap();
        drop(tally);
        following.await.unwrap();
    }
}

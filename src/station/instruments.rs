//! What is measured of the station at work.

use std::sync::Arc;

use crate::clock::TimeSource;
use crate::control::figures::{Figures, Instruments};
use crate::histogram::Histogram;
use crate::journal::store::Store;
use crate::journal::{Entry, Journal, JournalError};

use super::setup::StationCloud;

/// Upper bounds of the time that a commit takes, seconds: from a disk with a battery to one that is dying.
const COMMIT_BOUNDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Upper bounds of the number of records in a commit.
const RECORD_BOUNDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// How the journal's commits went.
#[derive(Debug)]
pub(crate) struct Commits {
    took: Histogram,
    records: Histogram,
}

impl Default for Commits {
    fn default() -> Self {
        Self { took: Histogram::new(COMMIT_BOUNDS), records: Histogram::new(RECORD_BOUNDS) }
    }
}

/// A journal whose commits are timed.
pub(super) struct Timed<J> {
    journal: J,
    clock: Arc<dyn TimeSource>,
    commits: Arc<Commits>,
}

impl<J> Timed<J> {
    pub(super) fn new(journal: J, clock: Arc<dyn TimeSource>, commits: Arc<Commits>) -> Self {
        Self { journal, clock, commits }
    }
}

impl<J: Journal> Journal for Timed<J> {
    fn commit(&mut self, entries: Vec<Entry>) -> Result<(), JournalError> {
        let (begun, records) = (self.clock.now().mono, entries.len());
        self.journal.commit(entries)?;
        self.commits.took.observe_time(self.clock.now().mono.saturating_sub(begun));
        self.commits.records.observe(records as f64);
        Ok(())
    }
}

/// Where the daemon's figures are.
pub(super) struct Panel {
    pub(super) cloud: Arc<StationCloud>,
    pub(super) store: Store,
    pub(super) commits: Arc<Commits>,
}

impl std::fmt::Debug for Panel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Panel").field("commits", &self.commits).finish_non_exhaustive()
    }
}

impl Instruments for Panel {
    fn figures(&self) -> Figures {
        let calls = self.cloud.latencies().into_iter().map(|(operation, it)| (operation.kebab(), it));
        Figures {
            calls: calls.collect(),
            commits: Some(self.commits.took.buckets()),
            commit_records: Some(self.commits.records.buckets()),
            log_bytes: self.store.log_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::journal::{Record, StationEvent, What};
    use std::time::Duration;

    /// Takes three milliseconds for each commit, until it cannot.
    struct Disk {
        clock: ManualClock,
        left: usize,
    }

    impl Journal for Disk {
        fn commit(&mut self, _entries: Vec<Entry>) -> Result<(), JournalError> {
            self.clock.advance(Duration::from_millis(3));
            self.left =
                self.left.checked_sub(1).ok_or(JournalError::Unfit { seq: 1, what: "full".to_owned() })?;
            Ok(())
        }
    }

    fn entries(count: usize) -> Vec<Entry> {
        let record = Record {
            seq: 1,
            at: "2026-11-21T12:00:00Z".parse().unwrap(),
            serial: None,
            what: What::Station(StationEvent::LineResumed),
        };
        vec![Entry { record, device: None }; count]
    }

    #[test]
    fn each_commit_that_succeeds_counts_with_its_time_and_its_records() {
        let clock = ManualClock::at("2026-11-21T12:00:00Z".parse().unwrap());
        let commits = Arc::new(Commits::default());
        let disk = Disk { clock: clock.clone(), left: 2 };
        let mut timed = Timed::new(disk, Arc::new(clock), commits.clone());
        timed.commit(entries(1)).unwrap();
        timed.commit(entries(5)).unwrap();
        timed.commit(entries(9)).unwrap_err();
        let (took, records) = (commits.took.buckets(), commits.records.buckets());
        assert_eq!((took.count(), took.counts[5]), (2, 2), "2.5 ms to 5 ms");
        assert!((took.sum - 0.006).abs() < 1e-9);
        assert_eq!((records.counts[0], records.counts[3], records.sum), (1, 1, 6.0));
    }
}

//! The journal's writing half.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::checkpoint::Checkpoints;
use super::index::Index;
use super::{JournalLock, Shared};
use crate::journal::log::write::LogWriter;
use crate::journal::{Entry, Journal, JournalError};

/// The journal's writing half: the only one.
#[derive(Debug)]
pub struct StoreWriter {
    log: LogWriter,
    index: Index,
    checkpoints: Checkpoints,
    shared: Arc<Shared>,
    /// The index has failed: what it holds is not what the log holds.
    failed: bool,
    _lock: JournalLock,
}

impl StoreWriter {
    pub(super) fn new(
        log: LogWriter,
        index: Index,
        checkpoints: Checkpoints,
        shared: Arc<Shared>,
        lock: JournalLock,
    ) -> Self {
        Self { log, index, checkpoints, shared, failed: false, _lock: lock }
    }

    fn take_in(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let placed = self.log.append(entries.iter().map(|it| &it.record))?;
        if let Some(position) = self.checkpoints.synced()? {
            self.index.synced = position;
        }
        self.index.apply(entries, &placed)?;
        self.shared.log_bytes.store(self.log.total_bytes(), Ordering::Relaxed);
        self.shared.committed.store(self.index.position.seq, Ordering::Release);
        self.checkpoints.ask(self.index.position);
        Ok(())
    }
}

impl Journal for StoreWriter {
    fn commit(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.failed {
            return Err(JournalError::Final { dir: self.log.dir().to_owned() });
        }
        let result = self.take_in(entries);
        self.failed = result.is_err();
        result
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        self.checkpoints.end();
        // After a failure nothing is tried again: the next start finds what is there.
        if self.failed || self.checkpoints.synced().is_err() || self.index.synced == self.index.position {
            return;
        }
        if let Err(error) = self.index.sync() {
            tracing::error!(error = %crate::error::Chain(&error), "the journal's index is not synced; it is caught up at the next start");
        }
    }
}

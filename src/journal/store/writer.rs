//! The journal's writing half.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::indexer::Indexer;
use super::pending::Group;
use super::{JournalLock, Shared};
use crate::journal::log::write::LogWriter;
use crate::journal::{Entry, Journal, JournalError};

/// The journal's writing half: the only one.
#[derive(Debug)]
pub struct StoreWriter {
    log: LogWriter,
    indexer: Indexer,
    shared: Arc<Shared>,
    /// The log or the index has failed: nothing more is promised.
    failed: bool,
    _lock: JournalLock,
}

impl StoreWriter {
    pub(super) fn new(log: LogWriter, indexer: Indexer, shared: Arc<Shared>, lock: JournalLock) -> Self {
        Self { log, indexer, shared, failed: false, _lock: lock }
    }

    fn take_in(&mut self, entries: Vec<Entry>) -> Result<(), JournalError> {
        self.shared.pending.check()?;
        let placed = self.log.append(entries.iter().map(|it| &it.record))?;
        // Readers have to find it as soon as anyone hears of it.
        self.shared.pending.push(Group { entries, placed });
        self.shared.log_bytes.store(self.log.total_bytes(), Ordering::Relaxed);
        *self.shared.newest.lock().unwrap_or_else(PoisonError::into_inner) = self.log.at();
        Ok(())
    }
}

impl Journal for StoreWriter {
    fn commit(&mut self, entries: Vec<Entry>) -> Result<(), JournalError> {
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
        // What is in the log may be given to the index even after the log has failed.
        self.indexer.end();
        self.log.close();
    }
}

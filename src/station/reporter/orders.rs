//! The work orders that reports are held against: the journal's batches.

use crate::batch::{Batch, BatchId};
use crate::device::serial::SerialNumber;
use crate::journal::store::Store;
use crate::journal::{JournalError, Shelf as _};
use crate::report::source::{Expected, Orders};

/// Serial numbers that are read of a list at a time.
const PAGE: usize = 1_000;

/// The station's batches.
#[derive(Debug, Clone)]
pub(crate) struct Batches(pub(crate) Store);

impl Orders for Batches {
    fn order(&self, id: &str) -> Result<Option<Box<dyn Expected>>, JournalError> {
        // What cannot be the id of a batch is none.
        let Ok(id) = BatchId::parse(id) else { return Ok(None) };
        let found = self.0.find_batch(&id)?;
        Ok(found.map(|batch| Box::new(Order { store: self.0.clone(), batch }) as Box<dyn Expected>))
    }
}

struct Order {
    store: Store,
    batch: Batch,
}

impl Expected for Order {
    fn count(&self) -> u64 {
        self.batch.terms.expected
    }

    fn is_listed(&self) -> bool {
        self.batch.list.is_some()
    }

    fn contains(&self, serial: &SerialNumber) -> Result<bool, JournalError> {
        match self.batch.list {
            Some(list) => self.store.is_listed(list, self.batch.last_seq, serial),
            None => Ok(true),
        }
    }

    fn missing(
        &self,
        made: &dyn Fn(&SerialNumber) -> Result<bool, JournalError>,
        each: &mut dyn FnMut(&SerialNumber),
    ) -> Result<(), JournalError> {
        let mut after: Option<SerialNumber> = None;
        loop {
            let page = self.store.listed(&self.batch, after.as_ref(), PAGE, |_| true)?;
            for it in &page.found {
                if !made(&it.serial)? {
                    each(&it.serial);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

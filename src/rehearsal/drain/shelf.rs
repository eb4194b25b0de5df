//! A journal that is on disk at once.

use std::collections::HashMap;

use crate::batch::{Batch, BatchId};
use crate::device::Device;
use crate::device::event::PresentationKey;
use crate::device::serial::SerialNumber;
use crate::journal::{Entry, JournalError, KnownPresentation, Recovered, Shelf, What};

/// What is on disk.
#[derive(Debug, Default)]
pub(super) struct MemoryShelf {
    pub(super) seq: u64,
    devices: HashMap<SerialNumber, Device>,
    presentations: HashMap<(String, u64, u64), KnownPresentation>,
}

impl MemoryShelf {
    pub(super) fn commit(&mut self, entry: Entry) {
        assert_eq!(entry.record.seq, self.seq + 1, "a gap in the journal");
        self.seq = entry.record.seq;
        let (What::Device(event), Some(serial)) = (entry.record.what, entry.record.serial) else { return };
        if let Some((key, outcome)) = event.presentation() {
            let known = KnownPresentation { serial: serial.clone(), outcome };
            self.presentations.insert((key.fixture.clone(), key.boot, key.id), known);
        }
        let (device, _) = entry.device.expect("an event of a device carries it");
        self.devices.insert(serial, *device);
    }
}

impl Shelf for MemoryShelf {
    fn device(&self, serial: &SerialNumber) -> Result<Option<Device>, JournalError> {
        Ok(self.devices.get(serial).cloned())
    }

    fn presentation(&self, key: &PresentationKey) -> Result<Option<KnownPresentation>, JournalError> {
        Ok(self.presentations.get(&(key.fixture.clone(), key.boot, key.id)).cloned())
    }

    fn batch(&self, _id: &BatchId, _since: u64) -> Result<Option<Batch>, JournalError> {
        Ok(None)
    }

    fn is_listed(&self, _list: u64, _since: u64, _serial: &SerialNumber) -> Result<bool, JournalError> {
        Ok(false)
    }
}

/// What a new journal holds.
pub(super) fn nothing() -> Recovered {
    Recovered::default()
}

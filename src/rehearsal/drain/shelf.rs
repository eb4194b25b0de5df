//! A journal that is on disk at once.

use std::collections::HashMap;

use super::{Wrong, wrong};
use crate::batch::{Batch, BatchId};
use crate::device::Device;
use crate::device::event::PresentationKey;
use crate::device::serial::SerialNumber;
use crate::journal::fold::told_key;
use crate::journal::{Entry, JournalError, KnownPresentation, Recovered, Shelf, What};
use crate::pki::Fingerprint;

/// What is on disk.
#[derive(Debug, Default)]
pub(super) struct MemoryShelf {
    pub(super) seq: u64,
    devices: HashMap<SerialNumber, Device>,
    presentations: HashMap<(String, u64, u64), KnownPresentation>,
    keys: HashMap<Fingerprint, SerialNumber>,
}

impl MemoryShelf {
    pub(super) fn commit(&mut self, entry: Entry) -> Result<(), Wrong> {
        if entry.record.seq != self.seq + 1 {
            return Err(wrong("there is a gap in the journal"));
        }
        self.seq = entry.record.seq;
        if let Some((key, serial)) = told_key(&entry.record) {
            self.keys.entry(key).or_insert_with(|| serial.clone());
        }
        let (What::Device(event), Some(serial)) = (entry.record.what, entry.record.serial) else {
            return Ok(());
        };
        if let Some((key, outcome)) = event.presentation() {
            let known = KnownPresentation { serial: serial.clone(), outcome };
            self.presentations.insert((key.fixture.clone(), key.boot, key.id), known);
        }
        let (device, _) = entry.device.ok_or_else(|| wrong("an event of a device does not carry it"))?;
        self.devices.insert(serial, *device);
        Ok(())
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

    fn holder_of_key(&self, key: &Fingerprint) -> Result<Option<SerialNumber>, JournalError> {
        Ok(self.keys.get(key).cloned())
    }
}

/// What a new journal holds.
pub(super) fn nothing() -> Recovered {
    Recovered::default()
}

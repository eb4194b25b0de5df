//! The journal's index in memory: the same fold as sled's, read from the log by the same reader.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::batch::{Batch, BatchId};
use crate::device::Device;
use crate::device::event::PresentationKey;
use crate::device::rules::{ProductRules, RulesId};
use crate::device::serial::SerialNumber;
use crate::journal::book::Book;
use crate::journal::fold::{Change, change, device_after, told_key};
use crate::journal::log::Position;
use crate::journal::{JournalError, KnownPresentation, Record, Recovered, SharedLocker, Shelf, is_pending};
use crate::pki::Fingerprint;

/// What the records up to a place in the log have made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Index {
    pub(super) at: Position,
    pub(super) devices: BTreeMap<SerialNumber, Device>,
    presentations: BTreeMap<(String, u64, u64), KnownPresentation>,
    pub(super) rules: BTreeMap<RulesId, ProductRules>,
    policies: BTreeSet<String>,
    lockers: BTreeMap<String, SharedLocker>,
    boots: BTreeMap<String, u64>,
    pub(super) book: Book,
    keys: BTreeMap<Fingerprint, SerialNumber>,
    /// The latest time that a record bears.
    latest: Option<Timestamp>,
}

impl Index {
    pub(super) fn new(at: Position) -> Self {
        Self {
            at,
            devices: BTreeMap::new(),
            presentations: BTreeMap::new(),
            rules: BTreeMap::new(),
            policies: BTreeSet::new(),
            lockers: BTreeMap::new(),
            boots: BTreeMap::new(),
            book: Book::default(),
            keys: BTreeMap::new(),
            latest: None,
        }
    }

    /// Takes a record that lies at `at`; the device after it, if it is about one.
    pub(super) fn take(&mut self, record: &Record, at: Position) -> Result<Option<&Device>, String> {
        match change(record) {
            Some(Change::Presentation(key, known)) => {
                self.presentations.insert((key.fixture.clone(), key.boot, key.id), known);
            }
            Some(Change::Rules(id, rules)) => drop(self.rules.insert(*id, rules.clone())),
            Some(Change::Policy(name, true)) => drop(self.policies.insert(name.to_owned())),
            Some(Change::Locker(name, locker)) => drop(self.lockers.insert(name.to_owned(), locker)),
            Some(Change::Policy(name, false)) => drop(self.policies.remove(name)),
            Some(Change::Reset(fixture, boot)) => {
                self.presentations.retain(|(name, _, _), _| name != fixture);
                self.boots.insert(fixture.to_owned(), boot);
            }
            // The book takes what changes a batch.
            Some(
                Change::ListBegun(..) | Change::ListPart(..) | Change::ListDropped(..) | Change::Batch(..),
            )
            | None => {}
        }
        if let Some((key, serial)) = told_key(record) {
            self.keys.entry(key).or_insert_with(|| serial.clone());
        }
        self.at = at;
        self.latest = self.latest.max(Some(record.at));
        let Some(serial) = &record.serial else {
            self.book.take(record, None);
            return Ok(None);
        };
        let before = self.devices.remove(serial);
        let state = before.as_ref().map(|it| it.state);
        let after = device_after(before, record).map_err(|error| error.to_string())?;
        self.book.take(record, after.as_ref().map(|it| (it, state)));
        Ok(after.map(|it| &*self.devices.entry(serial.clone()).or_insert(it)))
    }

    pub(super) fn recovered(&self) -> Recovered {
        let mut counts = BTreeMap::new();
        for device in self.devices.values() {
            *counts.entry(device.state).or_default() += 1;
        }
        Recovered {
            seq: self.at.seq,
            pending: self.devices.values().filter(|it| is_pending(it)).cloned().collect(),
            rules: self.rules.clone(),
            policies: self.policies.iter().cloned().collect(),
            lockers: self.lockers.clone(),
            boots: self.boots.clone(),
            counts,
            at: self.latest,
            ..self.book.recovered()
        }
    }
}

impl Shelf for Index {
    fn device(&self, serial: &SerialNumber) -> Result<Option<Device>, JournalError> {
        Ok(self.devices.get(serial).cloned())
    }

    fn presentation(&self, key: &PresentationKey) -> Result<Option<KnownPresentation>, JournalError> {
        Ok(self.presentations.get(&(key.fixture.clone(), key.boot, key.id)).cloned())
    }

    fn batch(&self, id: &BatchId, _since: u64) -> Result<Option<Batch>, JournalError> {
        Ok(self.book.batches.get(id).cloned())
    }

    fn is_listed(&self, list: u64, _since: u64, serial: &SerialNumber) -> Result<bool, JournalError> {
        Ok(self.book.is_listed(list, serial))
    }

    fn holder_of_key(&self, key: &Fingerprint) -> Result<Option<SerialNumber>, JournalError> {
        Ok(self.keys.get(key).cloned())
    }
}

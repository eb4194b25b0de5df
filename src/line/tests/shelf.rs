//! A journal in memory that folds as the real one does.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::{Batch, BatchId};
use crate::device::event::{Event, PresentationKey};
use crate::device::rules::{ProductRules, RulesId};
use crate::device::serial::SerialNumber;
use crate::device::{Device, plan};
use crate::journal::book::Book;
use crate::journal::fold::told_key;
use crate::journal::{
    Entry, JournalError, KnownPresentation, Recovered, SharedLocker, Shelf, StationEvent, What, is_pending,
    record,
};
use crate::pki::Fingerprint;

/// What is on disk.
#[derive(Debug, Default)]
pub(super) struct MemoryShelf {
    pub(super) seq: u64,
    pub(super) at: Option<jiff::Timestamp>,
    pub(super) devices: BTreeMap<SerialNumber, Device>,
    presentations: BTreeMap<(String, u64, u64), KnownPresentation>,
    keys: BTreeMap<Fingerprint, SerialNumber>,
    rules: BTreeMap<RulesId, ProductRules>,
    policies: BTreeSet<String>,
    lockers: BTreeMap<String, SharedLocker>,
    boots: BTreeMap<String, u64>,
    pub(super) book: Book,
    /// Every event, oldest first.
    pub(super) events: Vec<(SerialNumber, Event)>,
    pub(super) station_events: Vec<StationEvent>,
}

impl MemoryShelf {
    /// Takes one entry, checking that it is what its record makes of the device, and that it reads back.
    pub(super) fn commit(&mut self, entry: Entry) {
        let Entry { record, device } = entry;
        assert_eq!(record.seq, self.seq + 1, "a gap in the journal");
        self.seq = record.seq;
        if let Some((key, serial)) = told_key(&record) {
            self.keys.entry(key).or_insert_with(|| serial.clone());
        }
        self.at = self.at.max(Some(record.at));
        let read: crate::journal::Record = record::decode(&record::encode(&record).unwrap()).unwrap();
        assert_eq!(read, record, "a record does not read back");
        self.book.take(&record, device.as_ref().map(|(device, before)| (&**device, *before)));
        match record.what {
            What::Device(event) => {
                let serial = record.serial.expect("an event of a device names it");
                let (after, before) = device.expect("an event of a device carries it");
                assert_eq!(
                    self.devices.get(&serial).map(|it| it.state),
                    before,
                    "the state before {event:?}"
                );
                if let (Event::Passed { .. }, Some(device)) = (&event, self.devices.get(&serial)) {
                    let complete = plan::is_complete(device, &self.rules[&device.rules]);
                    assert!(complete, "{serial} passes, but not all of its steps are done");
                }
                let folded = self.fold(&serial, record.seq, record.at, &event);
                assert_eq!(folded, *after, "the device is not what its events make of it");
                let stored: Device = record::decode(&record::encode(&folded).unwrap()).unwrap();
                assert_eq!(stored, folded, "a device does not read back");
                if let Some((key, outcome)) = event.presentation() {
                    let known = KnownPresentation { serial: serial.clone(), outcome };
                    self.presentations.insert((key.fixture.clone(), key.boot, key.id), known);
                }
                self.devices.insert(serial.clone(), folded);
                self.events.push((serial, event));
            }
            What::Station(event) => self.station(event),
        }
    }

    fn fold(&self, serial: &SerialNumber, seq: u64, at: jiff::Timestamp, event: &Event) -> Device {
        match self.devices.get(serial) {
            None => Device::admit(serial, seq, at, event).unwrap(),
            Some(device) => {
                let mut device = device.clone();
                device.apply(seq, at, event).unwrap();
                device
            }
        }
    }

    fn station(&mut self, event: StationEvent) {
        match event.clone() {
            StationEvent::Rules { id, rules } => {
                self.rules.insert(id, *rules);
            }
            StationEvent::PolicyReady { name } => {
                self.policies.insert(name);
            }
            StationEvent::PolicyLost { name } => {
                self.policies.remove(&name);
            }
            StationEvent::LockerReady { name, id, arn } => {
                self.lockers.insert(name, SharedLocker { id, arn });
            }
            StationEvent::FixtureReset { fixture, boot } => {
                self.presentations.retain(|(name, _, _), _| *name != fixture);
                self.boots.insert(fixture, boot);
            }
            _ => {}
        }
        self.station_events.push(event);
    }

    pub(super) fn recovered(&self) -> Recovered {
        let mut counts = BTreeMap::new();
        for device in self.devices.values() {
            *counts.entry(device.state).or_default() += 1;
        }
        Recovered {
            seq: self.seq,
            at: self.at,
            pending: self.devices.values().filter(|it| is_pending(it)).cloned().collect(),
            rules: self.rules.clone(),
            policies: self.policies.iter().cloned().collect(),
            lockers: self.lockers.clone(),
            boots: self.boots.clone(),
            counts,
            ..self.book.recovered()
        }
    }
}

impl Shelf for MemoryShelf {
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

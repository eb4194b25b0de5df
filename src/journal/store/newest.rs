//! Which of the records that wait for the index is the newest about a device or a presentation, and the first that tells
//! a key: thousands may wait, and each unit that comes into a nest asks.

use std::collections::HashMap;
use std::hash::Hash;

use crate::device::event::PresentationKey;
use crate::device::serial::SerialNumber;
use crate::journal::fold::told_key;
use crate::journal::{Entry, StationEvent, What};
use crate::pki::Fingerprint;

/// Numbers of records.
#[derive(Debug, Default)]
pub(super) struct Newest {
    devices: HashMap<SerialNumber, Story>,
    presentations: HashMap<PresentationKey, u64>,
    /// By fixture: a reset makes all presentations before it forgotten.
    resets: HashMap<String, u64>,
    /// The oldest: whoever told a key first keeps it.
    keys: HashMap<Fingerprint, u64>,
}

/// The records of a device.
#[derive(Debug)]
struct Story {
    /// The first that the index has not begun with.
    first: u64,
    newest: u64,
}

/// What is said of a presentation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// By that record.
    Record(u64),
    /// A reset has made it forgotten.
    Forgotten,
}

impl Newest {
    /// Takes in a record, newer than all before. `taken` is the newest with which the index has begun. The number of a
    /// record of the same device that is now neither the first nor the newest of those that follow.
    pub(super) fn take(&mut self, entry: &Entry, taken: u64) -> Option<u64> {
        let seq = entry.record.seq;
        let between = entry.device.as_ref().and_then(|(device, _)| self.follows(&device.serial, seq, taken));
        if let Some(key) = opened_or_ended(entry) {
            self.presentations.insert(key.clone(), seq);
        }
        if let Some(fixture) = reset(entry) {
            self.resets.insert(fixture.to_owned(), seq);
        }
        if let Some((key, _)) = told_key(&entry.record) {
            self.keys.entry(key).or_insert(seq);
        }
        between
    }

    fn follows(&mut self, serial: &SerialNumber, seq: u64, taken: u64) -> Option<u64> {
        let begun = Story { first: seq, newest: seq };
        match self.devices.get_mut(serial) {
            Some(story) if story.first > taken => {
                let before = std::mem::replace(&mut story.newest, seq);
                (before != story.first).then_some(before)
            }
            Some(story) => {
                *story = begun;
                None
            }
            None => {
                self.devices.insert(serial.clone(), begun);
                None
            }
        }
    }

    /// The record waits no longer.
    pub(super) fn forget(&mut self, entry: &Entry) {
        let seq = entry.record.seq;
        if let Some(serial) = &entry.record.serial
            && self.devices.get(serial).is_some_and(|it| it.newest == seq)
        {
            self.devices.remove(serial);
        }
        if let Some(key) = opened_or_ended(entry) {
            remove(&mut self.presentations, key, seq);
        }
        if let Some(fixture) = reset(entry)
            && self.resets.get(fixture) == Some(&seq)
        {
            self.resets.remove(fixture);
        }
        if let Some((key, _)) = told_key(&entry.record) {
            remove(&mut self.keys, &key, seq);
        }
    }

    /// The newest record of a device.
    pub(super) fn of_device(&self, serial: &SerialNumber) -> Option<u64> {
        self.devices.get(serial).map(|it| it.newest)
    }

    /// What is said last of a presentation.
    pub(super) fn of_presentation(&self, key: &PresentationKey) -> Option<Said> {
        let said = self.presentations.get(key).copied();
        match self.resets.get(&key.fixture) {
            Some(reset) if said.is_none_or(|it| it < *reset) => Some(Said::Forgotten),
            _ => said.map(Said::Record),
        }
    }

    /// The first record that tells a device's own public key.
    pub(super) fn of_key(&self, key: &Fingerprint) -> Option<u64> {
        self.keys.get(key).copied()
    }

    /// Nothing waits any more of which anything is known.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let Self { devices, presentations, resets, keys } = self;
        devices.is_empty() && presentations.is_empty() && resets.is_empty() && keys.is_empty()
    }
}

fn opened_or_ended(entry: &Entry) -> Option<&PresentationKey> {
    match &entry.record.what {
        What::Device(event) => event.presentation().map(|(key, _)| key),
        What::Station(_) => None,
    }
}

fn reset(entry: &Entry) -> Option<&str> {
    match &entry.record.what {
        What::Station(StationEvent::FixtureReset { fixture, .. }) => Some(fixture),
        _ => None,
    }
}

/// Removes it unless a newer record has come.
fn remove<K: Eq + Hash>(from: &mut HashMap<K, u64>, key: &K, seq: u64) {
    if from.get(key) == Some(&seq) {
        from.remove(key);
    }
}

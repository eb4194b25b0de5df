//! What is decided becomes a record; and which devices are at hand.

use std::sync::Arc;

use super::work::Work;
use super::{Action, Line};
use crate::device::event::Event;
use crate::device::rules::ProductRules;
use crate::device::serial::SerialNumber;
use crate::device::{Device, State};
use crate::journal::{Entry, JournalError, Record, Shelf, StationEvent, What};

impl Line {
    /// Journals the configured rules that the journal does not know yet.
    pub(super) fn adopt_rules(&mut self) {
        let configured: Vec<_> = self.settings.products.values().map(|it| it.rules.clone()).collect();
        for rules in configured {
            let id = rules.id();
            if self.rules.insert(id, rules.clone()).is_none() {
                self.station_event(StationEvent::Rules { id, rules: Box::new((*rules).clone()) });
            }
        }
    }

    pub(super) fn station_event(&mut self, event: StationEvent) {
        self.seq += 1;
        self.clock.note(self.now.wall);
        let record = Record { seq: self.seq, at: self.now.wall, serial: None, what: What::Station(event) };
        self.out.push(Action::Record(Box::new(Entry { record, device: None })));
    }

    /// Decides that `event` has happened to a device that the line knows: applies and journals it.
    /// An event that cannot follow is a bug here; it is told and dropped, so that one device
    /// cannot stop the line.
    pub(super) fn record(&mut self, serial: &SerialNumber, event: Event) -> bool {
        let Some(work) = self.works.get_mut(serial) else { return false };
        let before = work.device.state;
        if let Err(error) = work.apply(self.seq + 1, self.now.wall, &event) {
            tracing::error!(serial = %serial, %error, "a decision does not fit the device; it is dropped");
            debug_assert!(false, "{error}");
            return false;
        }
        let device = Box::new(work.device.clone());
        self.count(Some(before), device.state);
        self.push_record(serial, event, device, Some(before));
        true
    }

    /// Takes in a device that was never seen before.
    pub(super) fn admit(&mut self, serial: &SerialNumber, event: Event, rules: Arc<ProductRules>) {
        match Device::admit(serial, self.seq + 1, self.now.wall, &event) {
            Ok(device) => {
                self.works.insert(serial.clone(), Work::new(device.clone(), rules, self.seq + 1));
                self.count(None, device.state);
                self.push_record(serial, event, Box::new(device), None);
            }
            Err(error) => tracing::error!(serial = %serial, %error, "a device cannot be admitted"),
        }
    }

    pub(super) fn push_record(
        &mut self,
        serial: &SerialNumber,
        event: Event,
        device: Box<Device>,
        before: Option<State>,
    ) {
        self.seq += 1;
        self.clock.note(self.now.wall);
        let record = Record {
            seq: self.seq,
            at: self.now.wall,
            serial: Some(serial.clone()),
            what: What::Device(event),
        };
        self.out.push(Action::Record(Box::new(Entry { record, device: Some((device, before)) })));
    }

    pub(super) fn count(&mut self, before: Option<State>, after: State) {
        if let Some(before) = before {
            let count = self.counts.entry(before).or_default();
            *count = count.saturating_sub(1);
        }
        *self.counts.entry(after).or_default() += 1;
    }

    /// Makes sure that the device is at hand if the journal knows it.
    pub(super) fn fetch(&mut self, serial: &SerialNumber, shelf: &dyn Shelf) -> Result<bool, JournalError> {
        if self.works.contains_key(serial) {
            return Ok(true);
        }
        let Some(device) = shelf.device(serial)? else { return Ok(false) };
        let Some(rules) = self.rules.get(&device.rules).cloned() else {
            return Err(JournalError::Damaged {
                dir: std::path::PathBuf::new(),
                what: format!("the rules {} of device {serial} are missing", device.rules),
            });
        };
        let seq = device.last_seq;
        self.works.insert(serial.clone(), Work::new(device, rules, 0).recovered());
        self.leaving.push_back((seq, serial.clone()));
        Ok(true)
    }

    /// Lets go of devices that need nothing more and are safely on disk.
    pub(super) fn forget_finished(&mut self) {
        for _ in 0..self.leaving.len().min(64) {
            let Some((seq, serial)) = self.leaving.pop_front() else { return };
            if seq > self.durable {
                self.leaving.push_front((seq, serial));
                return;
            }
            let Some(work) = self.works.get(&serial) else { continue };
            if work.device.last_seq > self.durable && work.is_over() {
                self.leaving.push_back((work.device.last_seq, serial));
            } else if work.is_over() {
                self.works.remove(&serial);
            }
        }
    }

    /// Notes that a device may be forgotten once it is on disk.
    pub(super) fn may_leave(&mut self, serial: &SerialNumber) {
        if let Some(work) = self.works.get(serial).filter(|it| it.is_over()) {
            self.leaving.push_back((work.device.last_seq, serial.clone()));
        }
    }
}

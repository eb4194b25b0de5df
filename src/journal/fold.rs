//! What records make of the devices and of the index: the one fold, whoever keeps its results.

use crate::batch::{Batch, BatchId, Tally};
use crate::device::State;
use crate::device::event::{Event, Outcome, PresentationKey};
use crate::device::rules::{ProductRules, RulesId};
use crate::device::serial::SerialNumber;
use crate::device::{Device, IllegalTransition};
use crate::pki::Fingerprint;

use super::{KnownPresentation, Opened, Record, SharedLocker, StationEvent, What};

/// The device after a record; none if the record is about none. `before` is the device so far, if there
/// is one.
///
/// # Errors
/// The record cannot follow.
pub fn device_after(before: Option<Device>, record: &Record) -> Result<Option<Device>, IllegalTransition> {
    let (Some(serial), What::Device(event)) = (&record.serial, &record.what) else { return Ok(before) };
    match before {
        None => Device::admit(serial, record.seq, record.at, event),
        Some(mut device) => device.apply(record.seq, record.at, event).map(|()| device),
    }
    .map(Some)
}

/// What a record changes beside its device.
#[derive(Debug, PartialEq)]
pub enum Change<'a> {
    /// A presentation was opened or has ended.
    Presentation(&'a PresentationKey, KnownPresentation),
    /// There are new rules.
    Rules(&'a RulesId, &'a ProductRules),
    /// Whether a shared policy is there.
    Policy(&'a str, bool),
    /// A shared locker is there.
    Locker(&'a str, SharedLocker),
    /// A fixture was reset: what it presented before can be asked for no more.
    Reset(&'a str, u64),
    /// A list of serial numbers is begun, for that batch. The record's number is the list's.
    ListBegun(&'a BatchId),
    /// A part of a list.
    ListPart(u64, &'a [SerialNumber]),
    /// A list is forgotten.
    ListDropped(u64),
    /// A batch is opened, closed or opened again; its list is complete. See [`batch_after`].
    Batch(&'a BatchId, Option<u64>),
}

/// What a record changes beside its device, if anything.
#[must_use]
pub fn change(record: &Record) -> Option<Change<'_>> {
    match &record.what {
        What::Device(event) => presented(event, record.serial.as_ref()?),
        What::Station(StationEvent::Rules { id, rules }) => Some(Change::Rules(id, rules)),
        What::Station(StationEvent::PolicyReady { name }) => Some(Change::Policy(name, true)),
        What::Station(StationEvent::PolicyLost { name }) => Some(Change::Policy(name, false)),
        What::Station(StationEvent::LockerReady { name, id, arn }) => {
            Some(Change::Locker(name, SharedLocker { id: id.clone(), arn: arn.clone() }))
        }
        What::Station(StationEvent::FixtureReset { fixture, boot }) => Some(Change::Reset(fixture, *boot)),
        What::Station(StationEvent::BatchOpening { batch, .. }) => Some(Change::ListBegun(batch)),
        What::Station(StationEvent::BatchSerials { list, serials }) => Some(Change::ListPart(*list, serials)),
        What::Station(StationEvent::BatchDropped { list, .. }) => Some(Change::ListDropped(*list)),
        What::Station(StationEvent::BatchOpened(it)) => Some(Change::Batch(&it.terms.batch, it.list)),
        What::Station(
            StationEvent::BatchClosed { batch, .. } | StationEvent::BatchReopened { batch, .. },
        ) => Some(Change::Batch(batch, None)),
        What::Station(_) => None,
    }
}

/// A batch after a record; `before` is the batch so far, if there is one.
#[must_use]
pub fn batch_after(before: Option<Batch>, record: &Record) -> Option<Batch> {
    let What::Station(event) = &record.what else { return before };
    match (event, before) {
        (StationEvent::BatchOpened(opened), _) => {
            let Opened { terms, list, by } = (**opened).clone();
            let (opened_at, tally, last_seq) = (record.at, Tally::default(), record.seq);
            let (reopened, closed) = (None, None);
            Some(Batch { terms, list, opened_at, opened_by: by, reopened, closed, tally, last_seq })
        }
        (StationEvent::BatchClosed { by, .. }, Some(batch)) => {
            Some(Batch { closed: Some((record.at, by.clone())), last_seq: record.seq, ..batch })
        }
        (StationEvent::BatchReopened { by, .. }, Some(batch)) => {
            let reopened = Some((record.at, by.clone()));
            Some(Batch { reopened, closed: None, last_seq: record.seq, ..batch })
        }
        (_, before) => before,
    }
}

/// What a record of a device changes in the device's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move<'a> {
    /// The batch.
    pub batch: &'a str,
    /// The device is not on its list.
    pub extra: bool,
    /// The device's state before; none if it was not of this batch.
    pub before: Option<State>,
    /// Its state now.
    pub after: State,
}

/// What a record changes in the batch of its device, which is `device` after it and was in `before`. One that was never
/// presented counts in none.
#[must_use]
pub fn moved<'a>(record: &Record, device: &'a Device, before: Option<State>) -> Option<Move<'a>> {
    let batch = device.batch.as_deref().filter(|_| device.was_presented())?;
    let What::Device(event) = &record.what else { return None };
    let joins = device.comes_late() || event.admission().is_some_and(|it| it.batch.is_some());
    let before = before.filter(|_| !joins);
    Some(Move { batch, extra: device.extra, before, after: device.state })
}

/// The public key that a device tells in this record as its own (SHA-256 of the SubjectPublicKeyInfo).
#[must_use]
pub fn told_key(record: &Record) -> Option<(Fingerprint, &SerialNumber)> {
    let What::Device(event) = &record.what else { return None };
    let key = event.admission()?.device_key.as_ref()?;
    Some((key.fingerprint(), record.serial.as_ref()?))
}

fn presented<'a>(event: &'a Event, serial: &SerialNumber) -> Option<Change<'a>> {
    let (key, outcome): (_, Option<Outcome>) = event.presentation()?;
    Some(Change::Presentation(key, KnownPresentation { serial: serial.clone(), outcome }))
}

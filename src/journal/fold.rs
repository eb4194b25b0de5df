//! What records make of the devices and of the index: the one fold, whoever keeps its results.

use crate::device::event::{Event, Outcome, PresentationKey};
use crate::device::rules::{ProductRules, RulesId};
use crate::device::serial::SerialNumber;
use crate::device::{Device, IllegalTransition};
use crate::pki::Fingerprint;

use super::{KnownPresentation, Record, StationEvent, What};

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
    /// A fixture was reset: what it presented before can be asked for no more.
    Reset(&'a str, u64),
}

/// What a record changes beside its device, if anything.
#[must_use]
pub fn change(record: &Record) -> Option<Change<'_>> {
    match &record.what {
        What::Device(event) => presented(event, record.serial.as_ref()?),
        What::Station(StationEvent::Rules { id, rules }) => Some(Change::Rules(id, rules)),
        What::Station(StationEvent::PolicyReady { name }) => Some(Change::Policy(name, true)),
        What::Station(StationEvent::PolicyLost { name }) => Some(Change::Policy(name, false)),
        What::Station(StationEvent::FixtureReset { fixture, boot }) => Some(Change::Reset(fixture, *boot)),
        What::Station(_) => None,
    }
}

/// The public key that a device tells in this record as its own (SHA-256 of the SubjectPublicKeyInfo).
#[must_use]
pub fn told_key(record: &Record) -> Option<(Fingerprint, &SerialNumber)> {
    let What::Device(event) = &record.what else { return None };
    let admission = match event {
        Event::Admitted(it) | Event::Renewed(it) => it,
        Event::Presented { anew: Some(it), .. } => it,
        _ => return None,
    };
    let key = admission.device_key.as_ref()?;
    Some((key.fingerprint(), record.serial.as_ref()?))
}

fn presented<'a>(event: &'a Event, serial: &SerialNumber) -> Option<Change<'a>> {
    let (key, outcome): (_, Option<Outcome>) = event.presentation()?;
    Some(Change::Presentation(key, KnownPresentation { serial: serial.clone(), outcome }))
}

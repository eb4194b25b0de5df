//! The clone alarm: a public key that another device has told as its own.
//!
//! A key that a device makes for itself is made once in the world. Two serials with one key are a copied
//! image, a random number generator that is none, or a board that was labelled twice: whichever it is,
//! the second must not get an identity by which it passes for the first.

use super::Line;
use super::unit::Presented;
use crate::device::State;
use crate::device::event::{Event, Waited};
use crate::device::serial::SerialNumber;
use crate::fixture::{FailCode, NakCode};
use crate::journal::{JournalError, Shelf};
use crate::pki::DevicePublicKey;

impl Line {
    /// Refuses a unit whose key is another device's; whether it was refused.
    pub(super) fn is_clone(
        &mut self,
        fixture: usize,
        it: &Presented,
        shelf: &dyn Shelf,
    ) -> Result<bool, JournalError> {
        let Some(key) = &it.key else { return Ok(false) };
        let Some(holder) = self.holder_of_key(key, &it.serial, shelf)? else { return Ok(false) };
        let serial = &it.serial;
        let detail = format!("clone alarm: {serial} has the public key of {holder}; each unit needs its own");
        tracing::error!(%serial, %holder, key = %key.fingerprint(), "clone alarm: two serial numbers with one public key");
        if !self.fetch(serial, shelf)? {
            if let Some(reason) = self.refuse_new() {
                self.nak(fixture, Some(it.id), NakCode::Busy, &reason);
                return Ok(true);
            }
            self.admit_clone(fixture, it, &detail);
        } else if !matches!(self.works[serial].device.state, State::Quarantined | State::Scrapped) {
            self.quarantine(serial, FailCode::Quarantined, &detail);
        }
        self.nak(fixture, Some(it.id), NakCode::Quarantined, &detail);
        Ok(true)
    }

    /// It is kept, so that it cannot pass later without a person having looked at it; without the key, so
    /// that it may come back with one of its own.
    fn admit_clone(&mut self, fixture: usize, it: &Presented, detail: &str) {
        let rules = self.settings.products[&it.product].rules.clone();
        let mut admission = self.admission((fixture, it), &rules, Default::default(), None);
        (admission.device_key, admission.request) = (None, None);
        let presentation = Some(admission.presentation.clone());
        self.admit(&it.serial, Event::Admitted(Box::new(admission)), rules);
        let (code, message) = (FailCode::Quarantined, detail.to_owned());
        let waited = Waited::default();
        self.record(&it.serial, Event::Quarantined { presentation, code, message, waited });
        self.may_leave(&it.serial);
    }

    /// The device other than `serial` that has told this key: one on disk, or one that is worked on and is not
    /// there yet.
    fn holder_of_key(
        &self,
        key: &DevicePublicKey,
        serial: &SerialNumber,
        shelf: &dyn Shelf,
    ) -> Result<Option<SerialNumber>, JournalError> {
        let kept = shelf.holder_of_key(&key.fingerprint())?;
        if kept.is_some() {
            return Ok(kept.filter(|it| it != serial));
        }
        let tells = |(other, work): &(&SerialNumber, &super::work::Work)| {
            *other != serial && work.device.device_key.as_ref() == Some(key)
        };
        Ok(self.works.iter().find(tells).map(|(other, _)| other.clone()))
    }
}

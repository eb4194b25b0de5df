//! What a fixture reports of a unit: `written`, `write-failed`, `removed`.

use super::Line;
use super::link::LinkState;
use crate::device::event::{Admission, Event, Outcome, Waited};
use crate::device::serial::SerialNumber;
use crate::device::{State, plan};
use crate::fixture::{FailCode, StationMessage};
use crate::journal::{JournalError, KnownPresentation, Shelf};
use crate::pki::Fingerprint;
use crate::sabotage::sabotaged;

/// What a `written` says of the certificate that it names.
enum Claim {
    /// It is the serial's present one, and the device is one that may pass.
    Present,
    /// It is the present one of a device that has passed.
    Passed,
    /// It is the present one, but the cloud is not done yet: the fixture will say it again.
    TooEarly,
    /// It is the present one of a device that may not pass.
    Quarantined,
    /// It is an earlier one.
    Superseded,
    /// It is none of this serial's.
    Foreign,
}

impl Line {
    pub(super) fn written(
        &mut self,
        fixture: usize,
        id: u64,
        serial: &str,
        sha256: &str,
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        if self.links[fixture].state != LinkState::Ready {
            return Ok(());
        }
        let named = SerialNumber::parse(serial).ok();
        let claim = match (&named, sha256.parse::<Fingerprint>()) {
            (Some(named), Ok(fingerprint)) if self.fetch(named, shelf)? => self.claim(named, fingerprint),
            _ => Claim::Foreign,
        };
        match (claim, named) {
            (Claim::Present, Some(named)) => self.pass(fixture, id, &named, shelf)?,
            (Claim::Passed, _) => {
                let outcome = self.known(fixture, id, shelf)?.and_then(|it| it.outcome);
                let again = matches!(outcome, Some(Outcome::Passed { again: true }));
                self.say(fixture, StationMessage::Pass { id, serial: serial.to_owned(), again }, None);
                self.nest_freed(fixture);
            }
            (Claim::TooEarly, _) => {}
            (Claim::Quarantined, _) => self.fail(fixture, id, serial, FailCode::Quarantined, ""),
            (Claim::Superseded, _) => self.fail(fixture, id, serial, FailCode::Superseded, ""),
            (Claim::Foreign | Claim::Present, named) => self.mismatch(fixture, id, serial, named, shelf)?,
        }
        Ok(())
    }

    pub(super) fn write_failed(
        &mut self,
        fixture: usize,
        id: u64,
        serial: &str,
        reason: &str,
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        if self.links[fixture].state != LinkState::Ready {
            return Ok(());
        }
        let offered = self.links[fixture].open.get(&id).is_some_and(|it| it.offer.is_some());
        let detail: String = reason.chars().filter(|it| !it.is_control()).take(200).collect();
        self.give_up(fixture, id, serial, (FailCode::WriteFailed, detail, offered), shelf)
    }

    pub(super) fn removed(
        &mut self,
        fixture: usize,
        id: u64,
        serial: &str,
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        if self.links[fixture].state != LinkState::Ready {
            return Ok(());
        }
        self.give_up(fixture, id, serial, (FailCode::Removed, String::new(), false), shelf)
    }

    /// The presentation ends with `fail`, or is answered as it was. `failed` says whether it
    /// counts as a failure of the device; else the device stays as it is.
    fn give_up(
        &mut self,
        fixture: usize,
        id: u64,
        serial: &str,
        (code, detail, failed): (FailCode, String, bool),
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        let known = self.known(fixture, id, shelf)?.filter(|it| it.serial.as_str() == serial);
        match known.map(|it| (it.serial, it.outcome)) {
            Some((_, Some(outcome))) if outcome != Outcome::Closed => {
                self.say_outcome(fixture, id, serial, &outcome);
            }
            Some((named, None)) if self.links[fixture].open.contains_key(&id) => {
                let presentation = self.links[fixture].key(id);
                let message = detail.clone();
                let event = if failed {
                    Event::Failed { presentation, code, message }
                } else {
                    Event::Deferred { presentation, code, message, waited: self.waited(&named) }
                };
                self.record(&named, event);
                self.end(fixture, id, &named, &Outcome::failed(code, &detail));
                self.may_leave(&named);
            }
            _ => self.fail(fixture, id, serial, code, &detail),
        }
        Ok(())
    }

    fn claim(&self, serial: &SerialNumber, fingerprint: Fingerprint) -> Claim {
        let work = &self.works[serial];
        let device = &work.device;
        if device.fingerprint() == Some(fingerprint) || sabotaged!(WrittenUncompared) {
            return match device.state {
                State::Quarantined | State::Scrapped => Claim::Quarantined,
                State::Passed => Claim::Passed,
                _ if plan::is_complete(device, &work.rules) => Claim::Present,
                _ => Claim::TooEarly,
            };
        }
        if device.superseded.iter().any(|it| it.fingerprint == fingerprint) {
            if device.scrap.is_some() { Claim::Quarantined } else { Claim::Superseded }
        } else {
            Claim::Foreign
        }
    }

    /// The device has proved its present certificate, under whatever id.
    fn pass(
        &mut self,
        fixture: usize,
        id: u64,
        serial: &SerialNumber,
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        let place = self.place_of(serial);
        let own = self.known(fixture, id, shelf)?.is_none_or(|it| it.serial == *serial);
        let presentation = match place {
            Some((fixture, id)) => self.links[fixture].key(id),
            None if own => self.links[fixture].key(id),
            // The id is another unit's, which keeps it.
            None => self.works[serial].device.presentation.key.clone(),
        };
        let label = self.label_directory(serial).is_some();
        let (directory, waited) = (None, self.waited(serial));
        let passed = Event::Passed { presentation: presentation.clone(), directory, label, waited };
        if !self.record(serial, passed) {
            return Ok(());
        }
        if let Some(work) = self.works.get_mut(serial) {
            work.wait_for(self.seq);
        }
        let outcome = Outcome::Passed { again: false };
        if let Some((open_fixture, open_id)) = place {
            if (open_fixture, open_id) == (fixture, id) {
                self.end(fixture, id, serial, &outcome);
            } else {
                self.forget_open(open_fixture, open_id, serial, &outcome);
                self.say_outcome(fixture, id, serial.as_str(), &outcome);
            }
        } else {
            let known = KnownPresentation { serial: serial.clone(), outcome: Some(outcome.clone()) };
            if let Some(link) = self.links.iter_mut().find(|it| it.key(presentation.id) == presentation) {
                link.remember(presentation.id, known);
            }
            self.say_outcome(fixture, id, serial.as_str(), &outcome);
        }
        self.progress(serial);
        self.may_leave(serial);
        Ok(())
    }

    /// Two devices may have been swapped: the serial that is named and the one that the id stands
    /// for are both put aside.
    fn mismatch(
        &mut self,
        fixture: usize,
        id: u64,
        serial: &str,
        named: Option<SerialNumber>,
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        let meant = self.known(fixture, id, shelf)?.map(|it| it.serial);
        let detail = format!("presentation {id} reported a certificate that was not issued for {serial:.60}");
        let mut answered = false;
        for it in [named.clone(), meant.clone()].into_iter().flatten() {
            if self.fetch(&it, shelf)? {
                answered |= it.as_str() == serial && self.place_of(&it) == Some((fixture, id));
                self.quarantine(&it, FailCode::Mismatch, &detail);
            } else {
                self.admit_quarantined(fixture, &it, &detail, shelf)?;
            }
        }
        if !answered {
            self.fail(fixture, id, serial, FailCode::Mismatch, &detail);
        }
        Ok(())
    }

    /// A serial that was never presented, but claimed: it is kept, so that it cannot pass later
    /// without a person having looked at it.
    fn admit_quarantined(
        &mut self,
        fixture: usize,
        serial: &SerialNumber,
        detail: &str,
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        let product = self.product(fixture);
        if SerialNumber::parse_as(serial.as_str(), &product.serial).is_err() {
            return Ok(());
        }
        let rules = product.rules.clone();
        // What the batch would not take is of none.
        let joining = self.joins(&rules.product, serial, shelf)?.ok().flatten();
        let admission = Admission {
            extra: joining.as_ref().is_some_and(|it| it.extra),
            batch: joining.map(|it| it.batch.into()),
            // No presentation has the number 0: it was not presented.
            ..Admission::of(&rules.product, rules.id(), self.links[fixture].key(0))
        };
        let presentation = Some(admission.presentation.clone());
        self.admit(serial, Event::Admitted(Box::new(admission)), rules);
        let message = detail.to_owned();
        let (code, waited) = (FailCode::Mismatch, Waited::default());
        self.record(serial, Event::Quarantined { presentation, code, message, waited });
        self.may_leave(serial);
        Ok(())
    }

    /// Says `fail` without a record of its own.
    pub(super) fn fail(&mut self, fixture: usize, id: u64, serial: &str, code: FailCode, detail: &str) {
        let message = self.settings.messages.fail(code, detail);
        let retry = code.may_retry();
        self.say(fixture, StationMessage::Fail { id, serial: serial.to_owned(), code, message, retry }, None);
        self.nest_freed(fixture);
    }
}

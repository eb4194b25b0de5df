//! What a reconciliation has the line put right: what the account has lost is made again, certificates that
//! are no device's are retired, and what the journal does not know is taken into it and scrapped. Each order
//! is a record with who gave it and why before AWS is called, so that a restart goes on with it.

use super::Line;
use crate::device::event::{Admission, Event, Output};
use crate::device::mend::{MendOrder, Orphan};
use crate::device::operator::{Operator, Refusal};
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::journal::{JournalError, Shelf};

impl Line {
    /// Carries out an order of a reconciliation.
    pub(super) fn mend(
        &mut self,
        serial: &SerialNumber,
        order: MendOrder,
        by: Operator,
        shelf: &dyn Shelf,
    ) -> Result<Result<(), Refusal>, JournalError> {
        let known = self.fetch(serial, shelf)?;
        tracing::info!(%serial, ?order, uid = by.uid, name = by.name, reason = by.reason, "ordered to repair");
        let result = match order {
            MendOrder::Clear { product } if !known => self.clear(serial, &product, by),
            MendOrder::Clear { .. } => Err(Refusal::Not(format!("{serial} is known by now"))),
            _ if !known => Err(Refusal::Unknown),
            MendOrder::Finish { steps, der, seq } => {
                self.finish(serial, seq, Event::Mending { by, steps, der })
            }
            MendOrder::Retire { orphan, seq } => self.retire(serial, seq, orphan, by),
        };
        self.may_leave(serial);
        Ok(result)
    }

    /// Whether the device is as it was when the account was looked at, and rests.
    fn as_seen(&self, serial: &SerialNumber, seq: u64) -> Result<(), Refusal> {
        let Some(work) = self.works.get(serial) else { return Err(Refusal::Unknown) };
        let rests = work.running.is_empty() && self.place_of(serial).is_none();
        if rests && work.device.last_seq == seq {
            return Ok(());
        }
        Err(Refusal::Not(format!("{serial} is being worked on, or was meanwhile")))
    }

    fn finish(&mut self, serial: &SerialNumber, seq: u64, event: Event) -> Result<(), Refusal> {
        self.as_seen(serial, seq)?;
        if !self.works[serial].device.can_be_mended() {
            let state = self.works[serial].device.state.as_str();
            return Err(Refusal::Not(format!("{serial} cannot be repaired now: it is {state}")));
        }
        self.begin_mending(serial, event);
        Ok(())
    }

    fn retire(
        &mut self,
        serial: &SerialNumber,
        seq: u64,
        orphan: Box<Orphan>,
        by: Operator,
    ) -> Result<(), Refusal> {
        self.as_seen(serial, seq)?;
        let device = &self.works[serial].device;
        let busy = device.to_retire().is_some() || device.state.is_unfinished() || device.is_scrapping();
        if busy || device.fingerprint() == Some(orphan.fingerprint) {
            return Err(Refusal::Not(format!("{serial} is being worked on, or has that certificate by now")));
        }
        self.begin_mending(serial, Event::OrphanFound { by, orphan });
        Ok(())
    }

    fn begin_mending(&mut self, serial: &SerialNumber, event: Event) {
        if self.record(serial, event) {
            // Nothing is done in the account of which no record says who wanted it, and why.
            self.calls_wait(serial);
            self.progress(serial);
        }
    }

    /// A thing of this station's that the journal does not know: it is taken in as made, and given up.
    fn clear(&mut self, serial: &SerialNumber, product: &str, by: Operator) -> Result<(), Refusal> {
        let not = |why: &str| Err(Refusal::Not(format!("{serial} {why}")));
        let Some(product) = self.settings.products.get(product) else {
            return not("is of a product that is not configured");
        };
        if SerialNumber::parse_as(serial.as_str(), &product.serial).is_err() || self.links.is_empty() {
            return not("is no serial number of that product");
        }
        let rules = product.rules.clone();
        // No presentation has the number 0: it was not presented.
        let presentation =
            self.links.iter().find(|it| !it.settings.name.is_empty()).unwrap_or(&self.links[0]).key(0);
        let admission = Admission::of(&rules.product, rules.id(), presentation.clone());
        self.admit(serial, Event::Admitted(Box::new(admission)), rules);
        let thing =
            Event::StepDone { step: Step::Thing, output: Output::Nothing, adopted: true, request_id: None };
        self.record(serial, thing);
        let Some(work) = self.works.get(serial) else { return Err(Refusal::Unknown) };
        let policy = Subject { device: &work.device, rules: &work.rules, ca_pem: "" }.policy_name();
        let message =
            format!("made by this station and not in its journal; cleared by {}: {}", by.name, by.reason);
        let event = Event::Scrapping {
            presentation: Some(presentation),
            by,
            policy,
            message,
            asked: false,
            managed_thing: false,
        };
        self.begin_mending(serial, event);
        Ok(())
    }

    /// Whether `step` makes something again that was there before.
    pub(super) fn is_mending(&self, serial: &SerialNumber, step: Step) -> bool {
        let mend = self.works.get(serial).and_then(|it| it.device.mend.as_ref());
        mend.is_some_and(|it| it.steps.contains(&step))
    }

    /// Something cannot be made again: that is told, and the device stays as it is.
    pub(super) fn mend_failed(&mut self, serial: &SerialNumber, step: Step, message: &str) {
        tracing::error!(%serial, %step, message, "a repair has failed");
        self.forget_step(serial, step);
        self.record(serial, Event::MendFailed { step, message: message.chars().take(300).collect() });
        self.progress(serial);
        self.may_leave(serial);
    }
}

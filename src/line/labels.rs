//! Labels: each device that passes is owed one where its product has a directory for them. That it is owed is part
//! of the record `passed`; that it is on disk is one of its own, `labelled`. So a crash between the two writes the
//! same label again, and only a later one says that it is a copy. No unit waits for its label.

use std::path::PathBuf;

use super::{Line, Timer};
use crate::device::event::Event;
use crate::device::operator::{Operator, Refusal};
use crate::device::serial::SerialNumber;
use crate::label::Label;
use crate::sabotage::sabotaged;

/// A label on its way into a directory.
#[derive(Debug)]
pub struct Labelling {
    /// The device.
    pub serial: SerialNumber,
    /// Where to.
    pub directory: PathBuf,
    /// The label.
    pub label: Label,
    /// What must be on disk first.
    pub after: u64,
}

impl Line {
    /// The directory that a device's label goes into, by what its product says now.
    pub(super) fn label_directory(&self, serial: &SerialNumber) -> Option<&PathBuf> {
        let work = self.works.get(serial)?;
        self.settings.products.get(&work.device.product)?.labels.as_ref()
    }

    /// Has the label written that a device is owed, unless that is under way or waits for its next try.
    pub(super) fn label(&mut self, serial: &SerialNumber) {
        let Some(number) = self.works.get(serial).and_then(|it| it.device.label_due) else {
            // It was scrapped meanwhile, say.
            self.labels.forget(serial);
            return;
        };
        if self.labels.has(serial) {
            return;
        }
        let Some(directory) = self.label_directory(serial).cloned() else {
            // The product had one when the device passed.
            self.labels.forget(serial);
            self.record(serial, Event::Labelled { number, directory: None });
            return self.may_leave(serial);
        };
        let Some(work) = self.works.get(serial) else { return };
        let label = Label {
            serial: serial.to_string(),
            product: work.device.product.clone(),
            article: work.rules.article.clone(),
            number,
        };
        self.labels.begin(serial, &directory);
        let (serial, after) = (serial.clone(), self.seq);
        self.out.push(super::Action::Label(Box::new(Labelling { serial, directory, label, after })));
    }

    /// A label is on disk, or not.
    pub(super) fn labelled(&mut self, serial: &SerialNumber, number: u32, result: Result<(), String>) {
        let due = self.works.get(serial).and_then(|it| it.device.label_due);
        if due != Some(number) {
            self.labels.forget(serial);
            return;
        }
        let result = if sabotaged!(LabelPresumed) { Ok(()) } else { result };
        match result {
            Ok(()) => {
                // Where it was sent to, whatever the configuration says by now.
                let directory = self.labels.forget(serial).map(|it| it.to_string_lossy().into_owned());
                self.record(serial, Event::Labelled { number, directory });
                self.may_leave(serial);
            }
            Err(message) => {
                let (random, timer) = (self.random.f64(), self.next_epoch());
                let error = message.clone();
                let Some((attempt, pause)) = self.labels.fails(serial, timer, message, random) else {
                    return;
                };
                if attempt <= 3 || attempt.is_power_of_two() {
                    tracing::warn!(%serial, attempt, error, "a label could not be written; it is tried again");
                }
                self.later(pause, Timer::Label(serial.clone(), timer));
            }
        }
    }

    pub(super) fn label_due(&mut self, serial: &SerialNumber, number: u64) {
        if self.labels.is_due(serial, number) {
            self.label(serial);
        }
    }

    /// A person wants one more label of a device.
    pub(super) fn label_again(&mut self, serial: &SerialNumber, by: Operator) -> Result<(), Refusal> {
        let Some(work) = self.works.get(serial) else { return Err(Refusal::Unknown) };
        let not = |why: &str| Err(Refusal::Not(format!("{serial} {why}")));
        if work.device.scrap.is_some() {
            return not("is scrapped");
        }
        if work.device.passed_at.is_none() {
            return not("has not passed: it gets its label when it does");
        }
        if self.label_directory(serial).is_none() {
            return not("is of a product without labels: the configuration names no directory for them");
        }
        self.record(serial, Event::LabelAsked { by });
        self.labels.hurry(serial);
        self.label(serial);
        Ok(())
    }
}

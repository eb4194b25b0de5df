//! Credentials go into a directory, where the fixture can store none: without a presentation as well, since
//! the files wait for nobody. Files first, then the record `passed`, then `pass`, then the key is destroyed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::{Action, Line, Timer};
use crate::device::event::{Event, Outcome};
use crate::device::serial::SerialNumber;
use crate::device::{State, plan};
use crate::fixture::Credentials;
use crate::journal::KnownPresentation;
use crate::pki::Fingerprint;
use crate::sabotage::sabotaged;

/// The first and the longest pause before a delivery is tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Where a product's credentials go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Deliver {
    /// To the fixture, which stores them in the device.
    #[default]
    Fixture,
    /// Into files in this directory.
    Directory(PathBuf),
}

/// Credentials on their way into a directory.
#[derive(Debug)]
pub struct Delivery {
    /// The device.
    pub serial: SerialNumber,
    /// Its certificate, to be named in the answer.
    pub fingerprint: Fingerprint,
    /// Where to.
    pub directory: PathBuf,
    /// What the device is.
    pub product: String,
    /// When it was decided.
    pub at: Timestamp,
    /// All but the private key.
    pub credentials: Credentials,
    /// The name under which the key that is to be put in is sealed.
    pub key: Option<Fingerprint>,
    /// What must be on disk first.
    pub after: u64,
}

/// Deliveries that are not done.
#[derive(Debug, Default)]
pub(super) struct Deliveries(BTreeMap<SerialNumber, Pending>);

#[derive(Debug)]
struct Pending {
    directory: PathBuf,
    /// It was asked for and is not answered.
    is_out: bool,
    /// Number of the timer that it waits for.
    waits: Option<u64>,
    attempt: u32,
    /// Why it failed last.
    trouble: Option<String>,
}

impl Deliveries {
    /// Whether a device's is under way, or waits for its next try.
    pub(super) fn has(&self, serial: &SerialNumber) -> bool {
        self.0.get(serial).is_some_and(|it| it.is_out || it.waits.is_some())
    }

    /// A device's is under way from now on.
    pub(super) fn begin(&mut self, serial: &SerialNumber, directory: &Path) {
        let pending = self.0.entry(serial.clone()).or_insert_with(|| Pending {
            directory: directory.to_owned(),
            is_out: false,
            waits: None,
            attempt: 0,
            trouble: None,
        });
        pending.directory = directory.to_owned();
        pending.is_out = true;
        pending.attempt += 1;
    }

    /// A device's has failed and waits for the timer `number`: how often it was tried, and how long it waits.
    pub(super) fn fails(
        &mut self,
        serial: &SerialNumber,
        number: u64,
        message: String,
        random: f64,
    ) -> Option<(u32, Duration)> {
        let pending = self.0.get_mut(serial)?;
        pending.is_out = false;
        pending.waits = Some(number);
        pending.trouble = Some(message);
        let attempt = pending.attempt;
        let longest = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(6)).min(LONGEST_PAUSE);
        Some((attempt, longest.mul_f64(0.5 + random / 2.0)))
    }

    /// Whether that timer is what a device's waits for; then it waits no more.
    pub(super) fn is_due(&mut self, serial: &SerialNumber, number: u64) -> bool {
        let waits = self.0.get_mut(serial).filter(|it| it.waits == Some(number));
        waits.is_some_and(|it| it.waits.take().is_some())
    }

    /// A device's that waits for its next try waits no more. Whether there is one.
    pub(super) fn hurry(&mut self, serial: &SerialNumber) -> bool {
        self.0.get_mut(serial).is_some_and(|it| it.waits.take().is_some())
    }

    /// What an operator is told, a sentence for each directory. `whose` is what waits for it, in the plural.
    pub(super) fn told(&self, whose: &str) -> Vec<String> {
        let mut by_directory: BTreeMap<&PathBuf, (usize, &str)> = BTreeMap::new();
        for it in self.0.values() {
            if let Some(trouble) = &it.trouble {
                by_directory.entry(&it.directory).or_insert((0, trouble)).0 += 1;
            }
        }
        let sentence = |(directory, (count, why)): (&PathBuf, (usize, &str))| {
            format!("{count} {whose} wait for the directory {}: {why}", directory.display())
        };
        by_directory.into_iter().map(sentence).collect()
    }

    /// A device's is over; the directory that it went into, or was to go into.
    pub(super) fn forget(&mut self, serial: &SerialNumber) -> Option<PathBuf> {
        self.0.remove(serial).map(|it| it.directory)
    }

    /// Why a device's credentials are not where they should be.
    pub(super) fn trouble(&self, serial: &SerialNumber) -> Option<String> {
        let pending = self.0.get(serial)?;
        let unanswered = || format!("the directory {} does not answer", pending.directory.display());
        pending.trouble.clone().or_else(|| pending.is_out.then(unanswered))
    }
}

impl Line {
    /// The directory that a device's credentials go into, by what its product says now.
    pub(super) fn directory_of(&self, serial: &SerialNumber) -> Option<PathBuf> {
        let work = self.works.get(serial)?;
        match &self.settings.products.get(&work.device.product)?.deliver {
            Deliver::Fixture => None,
            Deliver::Directory(directory) => Some(directory.clone()),
        }
    }

    /// Has a complete device's credentials put into their directory, unless that is under way or waits for
    /// its next try.
    pub(super) fn deliver(&mut self, serial: &SerialNumber, directory: PathBuf) {
        if self.deliveries.has(serial) {
            return;
        }
        // No presentation has the number 0: it is for none.
        let Some((credentials, key)) = self.credentials(0, serial) else { return };
        let Some(work) = self.works.get(serial) else { return };
        let Some(fingerprint) = work.device.fingerprint() else { return };
        self.deliveries.begin(serial, &directory);
        let product = work.device.product.clone();
        let (serial, at, after) = (serial.clone(), self.now.wall, self.seq);
        let delivery = Delivery { serial, fingerprint, directory, product, at, credentials, key, after };
        self.out.push(Action::Deliver(Box::new(delivery)));
    }

    /// The files are on disk, or not.
    pub(super) fn delivered(
        &mut self,
        serial: &SerialNumber,
        fingerprint: Fingerprint,
        result: Result<(), String>,
    ) {
        let Some(work) = self.works.get(serial) else {
            self.deliveries.forget(serial);
            return;
        };
        let device = &work.device;
        let may_pass = device.fingerprint() == Some(fingerprint)
            && (device.state.is_unfinished() || device.state == State::Failed)
            && plan::is_complete(device, &work.rules);
        let result = if sabotaged!(PassedUndelivered) { Ok(()) } else { result };
        match result {
            Ok(()) if may_pass => {
                let directory = self.deliveries.forget(serial);
                self.pass_delivered(serial, directory);
            }
            Err(message) if may_pass => self.deliver_later(serial, message),
            result => {
                self.deliveries.forget(serial);
                if result.is_ok() {
                    tracing::warn!(%serial, "credentials were delivered for a device that may not pass any more");
                }
                self.progress(serial);
            }
        }
    }

    /// It is tried again after a pause.
    fn deliver_later(&mut self, serial: &SerialNumber, message: String) {
        let random = self.random.f64();
        let number = self.next_epoch();
        let error = message.clone();
        let Some((attempt, pause)) = self.deliveries.fails(serial, number, message, random) else { return };
        if attempt <= 3 || attempt.is_power_of_two() {
            tracing::warn!(%serial, attempt, error, "credentials could not be delivered; it is tried again");
        }
        self.later(pause, Timer::Deliver(serial.clone(), number));
    }

    pub(super) fn deliver_due(&mut self, serial: &SerialNumber, number: u64) {
        if !self.deliveries.is_due(serial, number) {
            return;
        }
        if self.works.get(serial).is_some_and(|it| it.device.state.is_unfinished()) {
            self.progress(serial);
        } else {
            self.deliveries.forget(serial);
        }
    }

    /// A person has said so: a delivery that waits for its next try is tried now. Whether there is one.
    pub(super) fn deliver_now(&mut self, serial: &SerialNumber) -> bool {
        let unfinished = self.works.get(serial).is_some_and(|it| it.device.state.is_unfinished());
        unfinished && self.deliveries.hurry(serial)
    }

    /// The files stand for the device's own word that it has its credentials.
    fn pass_delivered(&mut self, serial: &SerialNumber, directory: Option<PathBuf>) {
        let place = self.place_of(serial);
        let Some(work) = self.works.get(serial) else { return };
        let presentation = match place {
            Some((fixture, id)) => self.links[fixture].key(id),
            None => work.device.presentation.key.clone(),
        };
        let directory = directory.map(|it| it.to_string_lossy().into_owned());
        let label = self.label_directory(serial).is_some();
        let waited = self.waited(serial);
        let passed = Event::Passed { presentation: presentation.clone(), directory, label, waited };
        if !self.record(serial, passed) {
            return;
        }
        self.calls_wait(serial);
        let outcome = Outcome::Passed { again: false };
        match place {
            Some((fixture, id)) if self.links[fixture].open.get(&id).is_some_and(|it| it.acked) => {
                self.end(fixture, id, serial, &outcome);
            }
            // `ack` comes first: both are said when the unit is presented once more.
            Some((fixture, id)) => self.forget_open(fixture, id, serial, &outcome),
            None => {
                let known = KnownPresentation { serial: serial.clone(), outcome: Some(outcome) };
                if let Some(link) = self.links.iter_mut().find(|it| it.key(presentation.id) == presentation) {
                    link.remember(presentation.id, known);
                }
            }
        }
        self.progress(serial);
        self.may_leave(serial);
    }
}

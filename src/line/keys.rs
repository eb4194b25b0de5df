//! Private keys that are sealed on this station: lost ones are replaced, delivered ones destroyed.

use std::collections::hash_map::Entry;
use std::time::Duration;

use super::{Action, KnownCa, Line, Timer};
use crate::device::event::Event;
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::device::{Certificate, Device, Superseded};
use crate::journal::{JournalError, Shelf};
use crate::pki::Fingerprint;

/// Before the destruction of a key that has failed is tried again: at first, and at most.
const DESTROYED_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// The destruction of a key.
#[derive(Debug, Default)]
pub(super) struct Destruction {
    /// It was asked for and has not been answered; else it waits for its next try.
    pub(super) asked: bool,
    /// Tries that have failed.
    failed: u32,
}

impl Line {
    pub(super) fn key_lost(&mut self, serial: &SerialNumber, key: Fingerprint) {
        let Some(work) = self.works.get(serial).filter(|it| it.device.state.is_unfinished()) else { return };
        if work.device.certificate.as_ref().is_some_and(|it| it.key_id() == key) {
            tracing::warn!(serial = %serial, %key, "the private key to be delivered is not here any more; a new certificate is issued");
            self.replace_certificate(serial);
        }
        // A delivery of an earlier certificate may have held up the present one's.
        self.progress(serial);
    }

    /// Whether an unfinished device has a certificate of a CA that is neither the station's nor the one before.
    pub(super) fn has_certificate_of_another_ca(&self, serial: &SerialNumber) -> bool {
        let work = self.works.get(serial).filter(|it| it.device.state.is_unfinished());
        let issuer = work.and_then(|it| it.device.certificate.as_ref()?.issuer);
        matches!((issuer, self.settings.ca), (Some(before), Some(now)) if before != now)
            && self.previous_ca(issuer).is_none()
    }

    fn previous_ca(&self, issuer: Option<Fingerprint>) -> Option<&KnownCa> {
        self.settings.previous_ca.as_ref().filter(|it| Some(it.fingerprint) == issuer)
    }

    /// The certificate of the CA that has issued a device's, and what a device gets above its own, both PEM.
    pub(super) fn ca_of(&self, device: &Device) -> (&str, &str) {
        let issuer = device.certificate.as_ref().and_then(|it| it.issuer);
        match self.previous_ca(issuer) {
            Some(previous) => (&previous.ca_pem, &previous.chain_pem),
            // One that bears no issuer is the present CA's: earlier versions knew no other.
            None => (&self.settings.ca_pem, &self.settings.chain_pem),
        }
    }

    /// An unfinished device gets another certificate than the one it has.
    pub(super) fn replace_certificate(&mut self, serial: &SerialNumber) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let Some(fingerprint) = work.device.fingerprint() else { return };
        self.deliveries.forget(serial);
        // It may wait for a later day; the next certificate has its own.
        work.running.remove(&Step::Sweep);
        work.running.remove(&Step::Verify);
        work.running.remove(&Step::Connect);
        let policy = Subject { device: &work.device, rules: &work.rules, ca_pem: "" }.policy_name();
        if let Some((fixture, id)) = self.place_of(serial)
            && let Some(open) = self.links[fixture].open.get_mut(&id)
        {
            open.offer = None;
            // The unit waits for the cloud once more.
            let timer = Timer::Patience(fixture, id, open.epoch);
            let patience = self.links[fixture].settings.patience;
            self.later(patience, timer);
        }
        self.record(serial, Event::KeyLost { fingerprint, policy });
    }

    pub(super) fn key_destroyed(
        &mut self,
        serial: &SerialNumber,
        fingerprint: Fingerprint,
        shelf: &dyn Shelf,
    ) -> Result<(), JournalError> {
        if self.fetch(serial, shelf)? {
            if let Some(work) = self.works.get_mut(serial) {
                work.destroying.remove(&fingerprint);
            }
            // Of a certificate that was issued in vain nothing was ever recorded.
            if self.knows_key(serial, fingerprint) {
                self.record(serial, Event::KeyDestroyed { fingerprint });
            }
            self.scrapped_if_cleared(serial);
            self.may_leave(serial);
        }
        Ok(())
    }

    /// A key could not be destroyed: it is tried again, ever less often.
    pub(super) fn key_kept(&mut self, serial: &SerialNumber, fingerprint: Fingerprint) {
        let Some(work) = self.works.get_mut(serial) else { return };
        // One that nothing has named is destroyed at the next start.
        let Some(it) = work.destroying.get_mut(&fingerprint) else { return };
        it.asked = false;
        it.failed += 1;
        let (first, most) = DESTROYED_AGAIN;
        let wait = first.saturating_mul(1 << (it.failed - 1).min(10)).min(most);
        self.later(wait, Timer::Destroy(serial.clone(), fingerprint));
    }

    pub(super) fn destroy_again(&mut self, serial: &SerialNumber, fingerprint: Fingerprint) {
        let after = self.seq;
        let Some(work) = self.works.get_mut(serial) else { return };
        let waits = work.destroying.get_mut(&fingerprint).filter(|it| !it.asked);
        if let Some(it) = waits {
            it.asked = true;
            self.out.push(Action::DestroyKey { serial: serial.clone(), fingerprint, after });
        }
    }

    fn knows_key(&self, serial: &SerialNumber, fingerprint: Fingerprint) -> bool {
        let Some(work) = self.works.get(serial) else { return false };
        let Device { certificate, request, superseded, useless_keys, .. } = &work.device;
        let present = certificate.iter().map(Certificate::key_id);
        let asked = request.iter().map(|it| it.public_key).chain(useless_keys.iter().copied());
        present.chain(asked).chain(superseded.iter().map(Superseded::key_id)).any(|it| it == fingerprint)
    }

    pub(super) fn destroy_keys(&mut self, serial: &SerialNumber) {
        let after = self.seq;
        let Some(work) = self.works.get_mut(serial) else { return };
        for fingerprint in work.device.keys_to_destroy() {
            if let Entry::Vacant(new) = work.destroying.entry(fingerprint) {
                new.insert(Destruction { asked: true, failed: 0 });
                self.out.push(Action::DestroyKey { serial: serial.clone(), fingerprint, after });
            }
        }
    }
}

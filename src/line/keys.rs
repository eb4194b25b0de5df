//! Private keys that are sealed on this station: lost ones are replaced, delivered ones destroyed.

use super::{Action, Line, Timer};
use crate::device::event::Event;
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::device::{Certificate, Device, Superseded};
use crate::journal::{JournalError, Shelf};
use crate::pki::Fingerprint;

impl Line {
    pub(super) fn key_lost(&mut self, serial: &SerialNumber, key: Fingerprint) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let certificate = work.device.certificate.as_ref().filter(|it| it.key_id() == key);
        let Some(fingerprint) = certificate.map(|it| it.fingerprint) else { return };
        if !work.device.state.is_unfinished() {
            return;
        }
        // It may wait for a later day; the next certificate has its own.
        work.running.remove(&Step::Sweep);
        tracing::warn!(serial = %serial, %fingerprint, "the private key to be delivered is not here any more; a new certificate is issued");
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
        self.progress(serial);
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

    fn knows_key(&self, serial: &SerialNumber, fingerprint: Fingerprint) -> bool {
        let Some(work) = self.works.get(serial) else { return false };
        let Device { certificate, request, superseded, .. } = &work.device;
        let present = certificate.iter().map(Certificate::key_id);
        let asked = request.iter().map(|it| it.public_key);
        present.chain(asked).chain(superseded.iter().map(Superseded::key_id)).any(|it| it == fingerprint)
    }

    pub(super) fn destroy_keys(&mut self, serial: &SerialNumber) {
        let after = self.seq;
        let Some(work) = self.works.get_mut(serial) else { return };
        let keys: Vec<_> = work.device.keys_to_destroy().filter(|it| !work.destroying.contains(it)).collect();
        for fingerprint in keys {
            work.destroying.insert(fingerprint);
            self.out.push(Action::DestroyKey { serial: serial.clone(), fingerprint, after });
        }
    }
}

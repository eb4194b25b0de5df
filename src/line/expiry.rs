//! Private keys that nobody has fetched: after a time they are destroyed.

use std::time::Duration;

use jiff::SignedDuration;

use super::Line;
use crate::device::event::Event;
use crate::device::serial::SerialNumber;
use crate::device::steps::Subject;

/// How often it is looked for them.
const EVERY: Duration = Duration::from_secs(1);

impl Line {
    /// Gives up the keys that have been kept for too long, if the clock can be relied on for that.
    pub(super) fn expire_keys(&mut self) {
        let keep = self.settings.keep_undelivered;
        if self.now.mono < self.look_for_keys_at || !self.clock.proves(keep) {
            return;
        }
        self.look_for_keys_at = self.now.mono + EVERY;
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        let waits_too_long = |serial: &SerialNumber, work: &super::work::Work| {
            let since = work.device.waits_since();
            since.is_some_and(|it| self.now.wall.duration_since(it) >= keep)
                // A call that is out may be about this certificate; it has an end.
                && !work.is_calling()
                // In a nest it is about to be fetched.
                && self.place_of(serial).is_none()
        };
        let works = self.works.iter().filter(|(serial, work)| waits_too_long(serial, work));
        let mut serials: Vec<_> = works.map(|(serial, _)| serial.clone()).collect();
        // The order of a hash map is not the same twice; a simulation's has to be.
        serials.sort();
        for serial in serials {
            self.expire_key(&serial);
        }
    }

    fn expire_key(&mut self, serial: &SerialNumber) {
        self.leave_shared(serial);
        if self.works.get(serial).is_some_and(|it| it.device.awaits_answer()) {
            // Nobody waits for that answer. What was made with the key is found when the device has another.
            self.record(serial, Event::CertificateInDoubt);
        }
        let Some(work) = self.works.get_mut(serial) else { return };
        let asked = work.device.request.as_ref().map(|it| it.public_key);
        let Some(fingerprint) = work.device.fingerprint().or(asked) else { return };
        work.running.clear();
        let policy = Subject { device: &work.device, rules: &work.rules, ca_pem: "" }.policy_name();
        let message = "its credentials were not fetched in time and are destroyed; present the unit again";
        tracing::warn!(serial = %serial, %fingerprint, "an undelivered private key is destroyed: nobody has fetched it");
        let event = Event::KeyExpired { fingerprint, policy, message: message.to_owned() };
        if self.record(serial, event) {
            self.calls_wait(serial);
            self.progress(serial);
        }
    }
}

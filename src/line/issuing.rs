//! A certificate from the station's CA, or the request for one of AWS's: made once, and journaled before
//! anything is done with it.

use super::health::not_issued;
use super::work::Work;
use super::{Action, Line};
use crate::cloud::{FailureKind, StopCause};
use crate::device::event::Event;
use crate::device::rules::{KeyOrigin, Register};
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::device::{Certificate, KeyState};
use crate::fixture::FailCode;
use crate::pki::{Fingerprint, LeafKey, LeafRequest};
use crate::sabotage::sabotaged;

impl Line {
    /// Asks the CA for a certificate, unless the clock cannot be gone by.
    pub(super) fn issue(&mut self, serial: &SerialNumber) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let limit = work.max_certificates();
        if work.device.certificates_issued >= limit {
            let detail = format!("{serial} has used up its {limit} certificates");
            self.quarantine(serial, FailCode::Quarantined, &detail);
            return;
        }
        let rule = &work.rules.certificate;
        let key = match (rule.key, &work.device.device_key) {
            (KeyOrigin::Station, _) => LeafKey::Station,
            (KeyOrigin::Device, Some(key)) if rule.register != Register::Aws => LeafKey::Device(key.clone()),
            // Never a key of the station's for a device that is to have its own.
            (KeyOrigin::Device, _) => {
                let detail = format!("{serial} has not told its own key: release it, present it again");
                self.quarantine(serial, FailCode::Internal, &detail);
                return;
            }
        };
        if let Some(reason) = self.clock.closed() {
            let running = work.running.entry(Step::Issue).or_default();
            running.last = Some((FailureKind::Stop(StopCause::Clock), reason.to_owned()));
            return;
        }
        let running = work.running.entry(Step::Issue).or_default();
        running.issuing = true;
        // It does not wait for the clock any more.
        running.last.take_if(|(kind, _)| *kind == FailureKind::Stop(StopCause::Clock));
        if work.rules.certificate.register == Register::Aws {
            self.make_csr(serial);
            return;
        }
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: "" };
        let request =
            LeafRequest { common_name: subject.common_name(), days: work.rules.certificate.days, key };
        let (generation, after) = (work.device.generation, work.barrier());
        self.out.push(Action::Issue { serial: serial.clone(), generation, request, after });
    }

    pub(super) fn issued(
        &mut self,
        serial: &SerialNumber,
        generation: u32,
        result: Result<Certificate, String>,
    ) {
        if result.is_ok() {
            // Whoever it was for: the CA issues.
            self.issuer_trouble = None;
        }
        if !self.works.get_mut(serial).is_some_and(|it| it.takes_issued(generation)) {
            let sealed = result.ok().filter(|it| it.key == KeyState::Sealed);
            self.issued_in_vain(serial, sealed.map(|it| it.key_id()));
            return;
        }
        match result {
            Ok(certificate) => {
                self.forget_step(serial, Step::Issue);
                if self.record(serial, Event::Issued { certificate }) {
                    if !sabotaged!(CertificateUnjournaled) {
                        self.calls_wait(serial);
                    }
                    self.progress(serial);
                }
            }
            Err(message) => {
                tracing::error!(serial = %serial, message, "no certificate could be issued");
                self.issuer_trouble = Some(message.clone());
                self.try_later(serial, Step::Issue, &not_issued(message));
            }
        }
    }

    /// Why the station's CA does not issue, while somebody waits for it.
    pub(super) fn issuer_stops(&self) -> Option<&str> {
        let clock = FailureKind::Stop(StopCause::Clock);
        let waits = |it: &Work| {
            let last = it.running.get(&Step::Issue).and_then(|it| it.last.as_ref());
            it.device.state.is_unfinished() && last.is_some_and(|(kind, _)| *kind != clock)
        };
        self.issuer_trouble.as_deref().filter(|_| self.works.values().any(waits))
    }

    /// A certificate or request that nobody wants any more: nothing has named it, and its key is
    /// destroyed.
    pub(super) fn issued_in_vain(&mut self, serial: &SerialNumber, sealed: Option<Fingerprint>) {
        if let Some(fingerprint) = sealed {
            let after = self.seq;
            self.out.push(Action::DestroyKey { serial: serial.clone(), fingerprint, after });
        }
        if let Some(work) = self.works.get_mut(serial).filter(|it| !it.device.state.is_unfinished()) {
            work.running.remove(&Step::Issue);
        }
        self.progress(serial);
        self.may_leave(serial);
    }
}

//! Certificates that AWS issues: asked for once, and looked for whenever an answer was lost.

use std::time::Duration;

use super::survey::{Extent, Kind, Seeker, Sight};
use super::{Action, Line, Timer};
use crate::cloud::{Call, CloudError};
use crate::device::event::{Event, Output};
use crate::device::request::{CLOCKS_DIFFER, CertificateRequest, SETTLED_AFTER};
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::device::{Certificate, KeyState};
use crate::fixture::FailCode;
use crate::line::health::not_issued;
use crate::pki::Fingerprint;
use crate::sabotage::sabotaged;

/// How long is waited before each look for a certificate whose call was not answered: AWS's lists are
/// behind by up to some seconds. If the last one finds nothing, the certificate is asked for again.
const LOOKS: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1_500), Duration::from_secs(3)];

/// Before a look goes on where the last one had to stop.
const NEXT_PART: Duration = Duration::from_millis(200);

impl Line {
    /// Has the request made that AWS will get.
    pub(super) fn make_csr(&mut self, serial: &SerialNumber) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: "" };
        let common_name = subject.common_name();
        let (generation, after) = (work.device.generation, work.barrier());
        self.out.push(Action::MakeCsr { serial: serial.clone(), generation, common_name, after });
    }

    pub(super) fn csr_made(
        &mut self,
        serial: &SerialNumber,
        generation: u32,
        result: Result<CertificateRequest, String>,
    ) {
        if !self.works.get_mut(serial).is_some_and(|it| it.takes_issued(generation)) {
            let sealed = result.ok().filter(|it| it.key == KeyState::Sealed);
            self.issued_in_vain(serial, sealed.map(|it| it.public_key));
            return;
        }
        match result {
            Ok(request) => {
                self.forget_step(serial, Step::Issue);
                if self.record(serial, Event::CsrMade { request }) {
                    self.calls_wait(serial);
                    self.progress(serial);
                }
            }
            Err(message) => {
                tracing::error!(serial = %serial, message, "no certificate signing request could be made");
                self.try_later(serial, Step::Issue, &not_issued(message));
            }
        }
    }

    /// Asks AWS for the certificate, unless an earlier call may have made it: then it is looked for.
    pub(super) fn ask_for_certificate(&mut self, serial: &SerialNumber) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let running = work.running.entry(Step::Certificate).or_default();
        let Some(request) = &work.device.request else { return };
        let attempt = request.asked + 1;
        let intended = request.open_since.is_some();
        let (in_vain, looks) = (running.in_vain, running.looks);
        if intended && in_vain {
            // What was intended has certainly not been done.
            self.send_request(serial);
            return;
        }
        if intended {
            // This process has not made that call: the last one was cut off before its answer.
            self.record(serial, Event::CertificateInDoubt);
        }
        let Some(work) = self.works.get(serial) else { return };
        if work.device.request_is_in_doubt() && looks < LOOKS.len() {
            self.look_for_certificates(serial, Step::Certificate);
            return;
        }
        let limit = work.max_certificates();
        if work.device.certificates_issued >= limit {
            let detail = format!("{serial} has used up its {limit} certificates");
            self.quarantine(serial, FailCode::Quarantined, &detail);
            return;
        }
        if sabotaged!(IntentUnrecorded) || self.record(serial, Event::CertificateAsked { attempt }) {
            self.calls_wait(serial);
            self.send_request(serial);
        }
    }

    fn send_request(&mut self, serial: &SerialNumber) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: "" };
        let Some(call) = subject.call(Step::Certificate) else { return };
        if let Some(running) = work.running.get_mut(&Step::Certificate) {
            running.attempt += 1;
            running.in_vain = false;
        }
        self.call(serial, Step::Certificate, call);
    }

    /// The call has certainly done nothing: it may be repeated as it is.
    pub(super) fn asked_in_vain(&mut self, serial: &SerialNumber, call: &Call) {
        let asked = matches!(call, Call::CreateCertificateFromCsr { .. });
        let running = self.works.get_mut(serial).and_then(|it| it.running.get_mut(&Step::Certificate));
        if let Some(running) = running.filter(|_| asked) {
            running.in_vain = true;
        }
    }

    /// Nobody knows whether the certificate was made.
    pub(super) fn answer_lost(&mut self, serial: &SerialNumber, error: &CloudError) {
        self.note_trouble(serial, Step::Certificate, error);
        self.record(serial, Event::CertificateInDoubt);
        let Some(work) = self.works.get_mut(serial) else { return };
        let Some(running) = work.running.get_mut(&Step::Certificate) else { return };
        running.looks = 0;
        self.look_later(serial, Step::Certificate, LOOKS[0]);
    }

    /// AWS has issued, in this answer or an earlier one.
    pub(super) fn issued_by_aws(&mut self, serial: &SerialNumber, certificate: Certificate, adopted: bool) {
        let Some(work) = self.works.get_mut(serial) else { return };
        if adopted {
            tracing::info!(serial = %serial, "a certificate whose answer was lost is found");
        }
        work.running.remove(&Step::Certificate);
        if let Some(key) = certificate.public_key {
            self.surveys.remember(certificate.fingerprint, key);
        }
        if self.record(serial, Event::Issued { certificate }) {
            if !sabotaged!(ActivatedUnrecorded) {
                self.calls_wait(serial);
            }
            self.progress(serial);
        }
    }

    /// Looks for certificates that were made beside the device's own, when the time has come.
    pub(super) fn sweep(&mut self, serial: &SerialNumber) {
        let Some(work) = self.works.get_mut(serial) else { return };
        if !work.device.needs_sweep() {
            work.running.remove(&Step::Sweep);
            return;
        }
        if work.device.awaits_answer() {
            // A scrapped device whose call was out: the last process was cut off before its answer.
            self.record(serial, Event::CertificateInDoubt);
        }
        let Some(work) = self.works.get_mut(serial) else { return };
        work.running.entry(Step::Sweep).or_default();
        let left = self.now.wall.duration_until(work.device.sweep_due_at()).min(SETTLED_AFTER);
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => self.look_later(serial, Step::Sweep, left),
            _ => self.look_for_certificates(serial, Step::Sweep),
        }
    }

    fn look_later(&mut self, serial: &SerialNumber, step: Step, wait: Duration) {
        let Some(work) = self.works.get(serial) else { return };
        let generation = work.device.generation;
        self.later(wait, Timer::Retry(serial.clone(), step, generation));
    }

    fn look_for_certificates(&mut self, serial: &SerialNumber, step: Step) {
        let number = self.next_epoch();
        let Some(work) = self.works.get_mut(serial) else { return };
        let since = work.device.doubts.iter().map(|it| it.since).min().unwrap_or(self.now.wall);
        let seeker = Seeker {
            number,
            serial: serial.clone(),
            step,
            generation: work.device.generation,
            since: since.checked_sub(CLOCKS_DIFFER).unwrap_or(since),
            name: None,
        };
        if let Some(running) = work.running.get_mut(&step) {
            running.seeking = Some(number);
        }
        self.seek(Kind::Certificates, seeker);
    }

    /// A look is held up: those who wait for it tell why.
    pub(super) fn search_is_held_up(&mut self, seeker: &Seeker, error: &CloudError) {
        let running = self.seeking(seeker).and_then(|it| it.running.get_mut(&seeker.step));
        if let Some(running) = running {
            running.last = Some((error.kind, error.to_string()));
        }
    }

    /// The device, if it still waits for that look.
    fn seeking(&mut self, seeker: &Seeker) -> Option<&mut super::work::Work> {
        let work = self.works.get_mut(&seeker.serial)?;
        let waits = work.running.get(&seeker.step).is_some_and(|it| it.seeking == Some(seeker.number));
        (waits && work.device.generation == seeker.generation).then_some(work)
    }

    /// What a look has shown, for one of those who have waited for it.
    pub(super) fn looked(&mut self, seeker: &Seeker, sight: &Sight) {
        let Some(work) = self.seeking(seeker) else { return };
        if let Some(running) = work.running.get_mut(&seeker.step) {
            running.seeking = None;
        }
        let serial = &seeker.serial;
        if !work.still_wants(seeker.step) {
            work.running.remove(&seeker.step);
            self.may_leave(serial);
            return;
        }
        match seeker.step {
            Step::Locker | Step::DeleteLocker => return self.looked_for_locker(seeker, sight),
            Step::Certificate | Step::Sweep => {}
            _ => return,
        }
        let device = &work.device;
        let mut found: Vec<(Fingerprint, Fingerprint)> = Vec::new();
        for doubt in &device.doubts {
            let ids = sight.certificates.get(&doubt.public_key).into_iter().flatten();
            let new = ids.filter(|it| !device.knows_certificate(it));
            found.extend(new.map(|id| (*id, doubt.public_key)));
            if sabotaged!(KeyUncompared) {
                let all = sight.certificates.values().flatten().filter(|it| !device.knows_certificate(it));
                found.extend(all.map(|id| (*id, doubt.public_key)));
            }
        }
        if seeker.step == Step::Sweep {
            self.found_beside(serial, &found, sight.extent);
        } else {
            self.found_asked_for(serial, &found, sight.extent);
        }
    }

    fn found_asked_for(
        &mut self,
        serial: &SerialNumber,
        found: &[(Fingerprint, Fingerprint)],
        extent: Extent,
    ) {
        let Some(work) = self.works.get_mut(serial) else { return };
        let Some(key) = work.device.request.as_ref().map(|it| it.public_key) else { return };
        let Some(running) = work.running.get_mut(&Step::Certificate) else { return };
        // What was made for an earlier request is of no use for this one.
        let own = found.iter().find(|(_, of)| *of == key).map(|it| it.0);
        running.looks = match (own, extent) {
            (None, Extent::Whole | Extent::Cut) => running.looks + 1,
            _ => 0,
        };
        let looks = running.looks;
        self.put_aside(serial, found.iter().filter(|(id, _)| Some(*id) != own));
        match (own, extent) {
            (Some(id), _) => {
                self.call(serial, Step::Certificate, Call::DescribeCertificate { id: id.to_string() });
            }
            (None, Extent::Part) => self.look_later(serial, Step::Certificate, NEXT_PART),
            (None, Extent::Cut) => {
                let detail = format!(
                    "whether AWS made a certificate for {serial} can no longer be told: too many are newer"
                );
                self.quarantine(serial, FailCode::Conflict, &detail);
            }
            (None, Extent::Whole) => match LOOKS.get(looks) {
                Some(wait) => self.look_later(serial, Step::Certificate, *wait),
                None => self.ask_for_certificate(serial),
            },
        }
        // Spares go at once.
        self.progress(serial);
    }

    fn found_beside(&mut self, serial: &SerialNumber, found: &[(Fingerprint, Fingerprint)], extent: Extent) {
        if extent == Extent::Part && found.is_empty() {
            self.look_later(serial, Step::Sweep, NEXT_PART);
            return;
        }
        self.forget_step(serial, Step::Sweep);
        let Some(work) = self.works.get(serial) else { return };
        if work.device.to_retire().is_some() {
            // It must not come between the steps of another: looked for again when that is retired.
            self.progress(serial);
            return;
        }
        self.put_aside(serial, found.iter());
        if found.is_empty() {
            if extent == Extent::Cut {
                tracing::warn!(serial = %serial, "too many certificates are newer: one made twice would not be found");
            }
            let (step, output) = (Step::Sweep, Output::Nothing);
            self.record(serial, Event::StepDone { step, output, adopted: false, request_id: None });
        }
        self.progress(serial);
        self.may_leave(serial);
    }

    /// AWS has issued for a device that was given up meanwhile: deleted with the rest.
    pub(super) fn issued_too_late(&mut self, serial: &SerialNumber, certificate: &Certificate) {
        let Some(public_key) = certificate.public_key else { return };
        let known =
            self.works.get(serial).is_some_and(|it| it.device.knows_certificate(&certificate.fingerprint));
        if !known {
            self.put_aside(serial, [(certificate.fingerprint, public_key)].iter());
        }
    }

    /// Whether the call for a certificate is out, so that its answer will be told: then it is known what came
    /// of it, and nothing has to be waited for.
    pub(super) fn certificate_is_asked_for(&self, serial: &SerialNumber) -> bool {
        let running = self.works.get(serial).and_then(|it| it.running.get(&Step::Certificate));
        running.is_some_and(|it| matches!(it.call(), Some(Call::CreateCertificateFromCsr { .. })))
    }

    /// A call for a certificate was intended and has certainly made none.
    pub(super) fn nothing_was_issued(&mut self, serial: &SerialNumber) {
        if self.works.get(serial).is_some_and(|it| it.device.awaits_answer()) {
            self.record(serial, Event::StepUndone { step: Step::Certificate });
        }
    }

    /// Whether the call that was intended has not been carried out: it was refused, or never left.
    pub(super) fn has_asked_in_vain(&self, serial: &SerialNumber) -> bool {
        let running = self.works.get(serial).and_then(|it| it.running.get(&Step::Certificate));
        running.is_some_and(|it| it.call().is_none() && (it.in_vain || it.parked().is_some()))
    }

    /// Certificates of the device's keys that it will not have: they are deleted.
    fn put_aside<'a>(
        &mut self,
        serial: &SerialNumber,
        spares: impl Iterator<Item = &'a (Fingerprint, Fingerprint)>,
    ) {
        for (fingerprint, public_key) in spares.filter(|_| !sabotaged!(SpareKept)) {
            let (fingerprint, public_key) = (*fingerprint, *public_key);
            tracing::warn!(serial = %serial, %fingerprint, "a second certificate was made; it is deleted");
            self.record(serial, Event::SpareFound { fingerprint, public_key });
        }
        // Nothing is taken away of which no record says why.
        self.calls_wait(serial);
    }
}

/// The request that a device has sent itself.
#[must_use]
pub(super) fn of_device(spki_der: &[u8], csr: Vec<u8>) -> CertificateRequest {
    let public_key = Fingerprint::of(spki_der);
    CertificateRequest { public_key, csr, key: KeyState::Device, asked: 0, open_since: None, made_at: None }
}

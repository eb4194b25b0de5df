//! Which event may follow what.

use super::event::Event;
use super::mend::mends;
use super::steps::Step;
use super::{Device, IllegalTransition, State};

impl Device {
    /// Whether `event` can come next.
    pub(super) fn may_follow(&self, event: &Event) -> bool {
        use State as S;
        match event {
            Event::Admitted(_) => false,
            Event::Presented { .. } => self.state.is_unfinished() || self.state == S::Failed,
            Event::Repeated { .. } | Event::Renewed(_) => self.state == S::Passed || self.has_passed_before(),
            Event::Issued { .. } => self.state.is_unfinished() && self.certificate.is_none(),
            Event::CsrMade { .. } => {
                self.state.is_unfinished() && self.certificate.is_none() && self.request.is_none()
            }
            Event::CertificateAsked { .. } => self.state.is_unfinished() && self.request.is_some(),
            // The answer to a call that was out when the device was put aside or given up may be lost yet.
            Event::CertificateInDoubt => self.state != S::Scrapped && self.request.is_some(),
            Event::SpareFound { fingerprint, .. } => {
                self.state != S::Scrapped && !self.knows_certificate(fingerprint)
            }
            Event::StepDone { step, .. } => match step {
                Step::Deactivate | Step::DetachPolicy | Step::DetachThing | Step::Delete => {
                    self.to_retire().is_some()
                }
                step if step.clears() => self.is_scrapping(),
                _ => self.state != S::Scrapped,
            },
            Event::StepUndone { step: Step::Certificate } => {
                (self.state.is_unfinished() || self.is_scrapping()) && self.awaits_answer()
            }
            Event::StepUndone { .. } => self.state.is_unfinished(),
            Event::Offered { .. } => {
                matches!(self.state, S::Provisioning | S::Delivering) && self.certificate.is_some()
            }
            Event::Passed { .. } => {
                matches!(self.state, S::Delivering | S::Provisioning | S::Failed)
                    && self.certificate.is_some()
            }
            Event::Labelled { number, .. } => self.label_due == Some(*number),
            Event::LabelAsked { .. } => self.passed_at.is_some() && self.scrap.is_none(),
            Event::Failed { .. } => matches!(self.state, S::Delivering | S::Provisioning | S::Failed),
            Event::Deferred { .. } | Event::Closed { .. } => self.state != S::Scrapped,
            Event::Quarantined { .. } => self.state != S::Scrapped && self.scrap.is_none(),
            Event::KeyLost { .. } => self.certificate.is_some() && self.state.is_unfinished(),
            Event::KeyExpired { fingerprint, .. } => {
                let asked = self.request.as_ref().map(|it| it.public_key);
                [self.fingerprint(), asked].contains(&Some(*fingerprint))
                    && !matches!(self.state, S::Passed | S::Scrapped)
            }
            Event::Retried { .. } => self.state != S::Scrapped,
            Event::Released { .. } => self.state == S::Quarantined && self.scrap.is_none(),
            Event::Scrapping { .. } => self.state != S::Scrapped && self.scrap.is_none(),
            Event::Scrapped => self.is_scrapping() && self.is_cleared(),
            Event::Mending { steps, .. } => {
                self.can_be_mended() && !steps.is_empty() && steps.iter().all(|it| mends(*it))
            }
            Event::MendFailed { step, .. } => self.mend.as_ref().is_some_and(|it| it.steps.contains(step)),
            Event::OrphanFound { orphan, .. } => {
                self.to_retire().is_none()
                    && !self.state.is_unfinished()
                    && !self.is_scrapping()
                    && self.fingerprint() != Some(orphan.fingerprint)
            }
            Event::Trouble { .. } | Event::KeyDestroyed { .. } => true,
        }
    }

    pub(super) fn illegal(&self, event: &Event) -> IllegalTransition {
        IllegalTransition { event: event.name(), serial: self.serial.clone(), state: self.state.as_str() }
    }
}

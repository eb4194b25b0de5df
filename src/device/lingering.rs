//! What a call may have put back that was given up and took effect late: after it was taken away.
//!
//! An attaching of which no answer came may be done minutes later, when the certificate has been detached and is to be
//! deleted. Then AWS refuses the deletion, for as long as nobody detaches it again. So what is refused is followed by the whole
//! order once more, for each certificate that may be meant:
//!
//! | refused | said once more, for |
//! |---|---|
//! | delete, delete-certificate | the certificate: deactivate, detach its policy, detach its thing |
//! | delete-thing, delete-policy | each of the device's certificates: the same, and delete it; one that a late registration has made again is gone then |
//!
//! Each of these calls may find nothing to do. Once in a try: then it waits, longer each time, since it may be something else that AWS
//! does not let go of.

use super::Superseded;
use super::steps::{Step, Subject, Verdict};
use crate::cloud::{Answer, Call, CertificateStatus, CloudError, FailureKind};
use crate::sabotage::sabotaged;

impl Subject<'_> {
    /// What follows a deletion that is refused since something still hangs on what is to be deleted.
    pub(super) fn refused(&self, step: Step) -> Verdict {
        let first = self.lingering(step).into_iter().next().filter(|_| !sabotaged!(DetachedOnce));
        first.map_or(Verdict::Again, Verdict::OnceMore)
    }

    /// What the answer to `call` means if it is one of those that are said once more.
    pub(super) fn judge_lingering(
        &self,
        step: Step,
        call: &Call,
        result: &Result<Answer, CloudError>,
    ) -> Option<Verdict> {
        let all = self.lingering(step);
        let at = all.iter().position(|it| it == call)?;
        let is_answered = match result {
            Ok(_) => true,
            // Not there, or not now: what it meant is seen when the deletion is tried again.
            Err(error) => {
                matches!(error.kind, FailureKind::NotFound | FailureKind::Conflict | FailureKind::Refused)
            }
        };
        let next = all.into_iter().nth(at + 1).or_else(|| self.call(step)).filter(|_| is_answered);
        Some(next.map_or(Verdict::Again, Verdict::Ask))
    }

    fn lingering(&self, step: Step) -> Vec<Call> {
        let device = self.device;
        match step {
            Step::Delete | Step::DeleteCertificate => {
                device.to_retire().map_or_else(Vec::new, |it| self.loosened(it))
            }
            Step::DeleteThing | Step::DeletePolicy => {
                let each = |it: &Superseded| {
                    let mut calls = self.loosened(it);
                    calls.push(Call::DeleteCertificate { id: it.fingerprint.to_string() });
                    calls
                };
                device.superseded.iter().filter(|it| it.arn.is_some()).flat_map(each).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What takes everything from a certificate that this station may have given it.
    fn loosened(&self, it: &Superseded) -> Vec<Call> {
        // A spare never had anything.
        let Some(arn) = it.arn.as_ref().filter(|_| !it.spare) else { return Vec::new() };
        let id = it.fingerprint.to_string();
        let mut calls = vec![Call::UpdateCertificate { id, status: CertificateStatus::Inactive }];
        if let Some(policy) = it.policy.clone().or_else(|| self.policy_name()) {
            calls.push(Call::DetachPolicy { policy, target: arn.clone() });
        }
        let thing = it.thing.clone().unwrap_or_else(|| self.thing_name());
        calls.push(Call::DetachThingPrincipal { thing, principal: arn.clone() });
        calls
    }
}

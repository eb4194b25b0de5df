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
//! Where the certificate's ARN is not known, AWS is asked for it first. Each of these calls may find nothing to do. Once in a try: then it waits, longer each time, since it may be something else that AWS
//! does not let go of.

use super::Superseded;
use super::steps::{Step, Subject, Verdict};
use crate::cloud::{Answer, Call, CertificateStatus, CloudError, FailureKind, Reply};
use crate::sabotage::sabotaged;

impl Subject<'_> {
    /// What follows a deletion that is refused since something still hangs on what is to be deleted.
    pub(super) fn refused(&self, step: Step) -> Verdict {
        let first =
            self.nameless(step).map(|it| Call::DescribeCertificate { id: it.fingerprint.to_string() });
        let first =
            first.or_else(|| self.lingering(step).into_iter().next()).filter(|_| !sabotaged!(DetachedOnce));
        first.map_or(Verdict::Again, Verdict::OnceMore)
    }

    /// What the answer to `call` means if it is one of those that are said once more.
    pub(super) fn judge_lingering(
        &self,
        step: Step,
        call: &Call,
        result: &Result<Answer, CloudError>,
    ) -> Option<Verdict> {
        // Not there, or not now: what it meant is seen when the deletion is tried again.
        let is_answered = match result {
            Ok(_) => true,
            Err(error) => {
                matches!(error.kind, FailureKind::NotFound | FailureKind::Conflict | FailureKind::Refused)
            }
        };
        let next = if let Some(it) = self.nameless(step) {
            self.after_nameless(it, call, result)?
        } else {
            let all = self.lingering(step);
            let at = all.iter().position(|it| it == call)?;
            all.into_iter().nth(at + 1)
        };
        let next = next.or_else(|| self.call(step)).filter(|_| is_answered);
        Some(next.map_or(Verdict::Again, Verdict::Ask))
    }

    /// The certificate to be deleted, where it was given up before its ARN was known: its registration may have
    /// been answered, and what hangs on it attached, by a process that was cut off.
    fn nameless(&self, step: Step) -> Option<&Superseded> {
        let is_deletion = matches!(step, Step::Delete | Step::DeleteCertificate);
        self.device.to_retire().filter(|it| is_deletion && it.arn.is_none() && !it.spare)
    }

    /// What is asked after `call` of a certificate whose ARN AWS has to tell first; the inner none is the
    /// deletion again.
    #[expect(clippy::option_option, reason = "not one of these calls, or the last of them")]
    fn after_nameless(
        &self,
        it: &Superseded,
        call: &Call,
        result: &Result<Answer, CloudError>,
    ) -> Option<Option<Call>> {
        let thing = |arn: &String| {
            let thing = it.thing.clone().unwrap_or_else(|| self.thing_name());
            Call::DetachThingPrincipal { thing, principal: arn.clone() }
        };
        match (call, result) {
            (
                Call::DescribeCertificate { .. },
                Ok(Answer { reply: Reply::CertificateDescription { arn, .. }, .. }),
            ) => {
                let policy = it.policy.clone().or_else(|| self.policy_name());
                let detach = policy.map(|policy| Call::DetachPolicy { policy, target: arn.clone() });
                Some(Some(detach.unwrap_or_else(|| thing(arn))))
            }
            (Call::DetachPolicy { target, .. }, _) => Some(Some(thing(target))),
            (Call::DescribeCertificate { .. } | Call::DetachThingPrincipal { .. }, _) => Some(None),
            _ => None,
        }
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

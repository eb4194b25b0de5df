//! What the cloud says of a device before it may pass (`verify = "cloud"`): thing, principal, policy and
//! status are read and compared with what was made.
//!
//! ```text
//! DescribeThing ─ ListThingPrincipals ─ ListAttachedPolicies ─ DescribeCertificate ─ proved
//! ```
//! What does not show yet is asked for again from the start: AWS's reads are behind its writes.

use super::{Subject, Verdict, done, found, never};
use crate::cloud::{Answer, Call, CertificateStatus, CloudError, FailureKind, Reply};
use crate::device::event::Output;
use crate::device::rules::Register;
use crate::fixture::FailCode;

impl Subject<'_> {
    /// What a result of the read-back means.
    pub(super) fn judge_proof(&self, call: &Call, result: &Result<Answer, CloudError>) -> Verdict {
        let answer = match result {
            Ok(answer) => answer,
            Err(error) if error.kind == FailureKind::Refused => {
                return never(FailCode::Rejected, &format!("AWS refuses to be read: {error}"));
            }
            Err(_) => return Verdict::Again,
        };
        match (&answer.reply, call) {
            (Reply::ThingDescription { name, attributes, .. }, _) => {
                self.once(self.judge_thing(name, attributes), || self.after_thing())
            }
            (Reply::Principals { arns, next }, Call::ListThingPrincipals { thing, .. }) => {
                let ours = self.certificate_arn().is_some_and(|it| arns.contains(&it));
                let more =
                    |token| Call::ListThingPrincipals { thing: thing.clone(), next_token: Some(token) };
                self.once(found(ours, next.as_ref(), more), || self.after_principals())
            }
            (Reply::Policies { names, next }, Call::ListAttachedPolicies { target, .. }) => {
                let ours = self.policy_name().is_some_and(|it| names.contains(&it));
                let more =
                    |marker| Call::ListAttachedPolicies { target: target.clone(), marker: Some(marker) };
                self.once(found(ours, next.as_ref(), more), || self.after_policies())
            }
            (Reply::CertificateDescription { id, status, .. }, _) => self.judge_live(id, *status),
            _ => Verdict::Again,
        }
    }

    /// What comes next when this is as it should be.
    fn once(&self, verdict: Verdict, next: impl FnOnce() -> Option<Call>) -> Verdict {
        match verdict {
            Verdict::Done { .. } => next().map_or(done(Output::Nothing), Verdict::Ask),
            other => other,
        }
    }

    fn after_thing(&self) -> Option<Call> {
        // The device's first connection makes all the rest.
        let jitp = self.rules.certificate.register == Register::Jitp;
        (!jitp).then(|| Call::ListThingPrincipals { thing: self.thing_name(), next_token: None })
    }

    fn after_principals(&self) -> Option<Call> {
        match self.policy_name() {
            Some(_) => Some(Call::ListAttachedPolicies { target: self.certificate_arn()?, marker: None }),
            None => self.after_policies(),
        }
    }

    fn after_policies(&self) -> Option<Call> {
        Some(Call::DescribeCertificate { id: self.device.fingerprint()?.to_string() })
    }

    fn judge_live(&self, id: &str, status: CertificateStatus) -> Verdict {
        if self.device.fingerprint().is_none_or(|it| it.to_string() != id) {
            return Verdict::Again;
        }
        match status {
            CertificateStatus::Active => done(Output::Nothing),
            // Made active a moment ago, perhaps.
            CertificateStatus::Inactive => Verdict::Later,
            CertificateStatus::Revoked | CertificateStatus::Other => {
                never(FailCode::Conflict, &format!("certificate {id} is in AWS but revoked or in transfer"))
            }
        }
    }
}

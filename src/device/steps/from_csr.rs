//! The step by which AWS issues: what is asked, and what an answer means. It is the one call that AWS
//! carries out anew each time it comes.

use std::collections::BTreeMap;

use super::{Subject, Verdict, never};
use crate::cloud::{Answer, Call, CloudError, FailureKind, Reply, StopCause};
use crate::device::request;
use crate::device::rules::LockerRule;
use crate::fixture::FailCode;
use crate::pki::leaf::read_leaf;
use crate::pki::to_pem;

impl Subject<'_> {
    pub(super) fn create_certificate(&self) -> Option<Call> {
        let csr = &self.device.request.as_ref()?.csr;
        Some(Call::CreateCertificateFromCsr { csr_pem: to_pem("CERTIFICATE REQUEST", csr).to_string() })
    }

    /// Whether these tags are those that the device's locker was to get. AWS may add others.
    #[must_use]
    pub fn locker_tags_fit(&self, tags: &BTreeMap<String, String>) -> bool {
        let (LockerRule::Device { tags: ours, .. } | LockerRule::Batch { tags: ours, .. }) =
            &self.rules.locker
        else {
            return false;
        };
        self.fill_all(ours).iter().all(|(key, value)| tags.get(key) == Some(value))
    }

    pub(super) fn judge_from_csr(&self, call: &Call, result: &Result<Answer, CloudError>) -> Verdict {
        let asked = matches!(call, Call::CreateCertificateFromCsr { .. });
        match result {
            Ok(Answer { reply: Reply::IssuedCertificate { arn, pem, .. }, .. }) => {
                self.issued(arn, pem, false).unwrap_or(Verdict::InDoubt)
            }
            Ok(Answer { reply: Reply::CertificateDescription { arn, pem: Some(pem), .. }, .. }) => {
                self.issued(arn, pem, true).unwrap_or(Verdict::Again)
            }
            // No answer to that question: something else than AWS has spoken.
            Ok(_) => if_asked(asked),
            Err(error) => match error.kind {
                // In the wrong account it was made all the same: asked again, there would be one more.
                FailureKind::Unknown | FailureKind::Stop(StopCause::Account) => if_asked(asked),
                FailureKind::Throttled
                | FailureKind::Unreachable
                | FailureKind::NotFound
                | FailureKind::Stop(_) => Verdict::Again,
                FailureKind::Exists | FailureKind::Conflict | FailureKind::Refused => {
                    never(FailCode::Rejected, &format!("AWS refused for good: {error}"))
                }
            },
        }
    }

    /// The certificate, if it is one of the key that was sent.
    fn issued(&self, arn: &str, pem: &str, adopted: bool) -> Option<Verdict> {
        let request = self.device.request.as_ref()?;
        let leaf = read_leaf(pem).filter(|it| it.public_key == request.public_key)?;
        if leaf.is_ca {
            // It is inactive, and stays so.
            return Some(never(FailCode::Rejected, "AWS has issued a CA's certificate for the request"));
        }
        let certificate = request::certificate(leaf, arn.to_owned(), request.key);
        Some(Verdict::Issued { certificate: Box::new(certificate), adopted })
    }
}

/// A read can simply be repeated.
fn if_asked(asked: bool) -> Verdict {
    if asked { Verdict::InDoubt } else { Verdict::Again }
}

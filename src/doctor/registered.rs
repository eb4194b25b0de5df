//! Whether the account has the station's CA: AWS registers certificates of no other with `register = "with-ca"`, and lets in no
//! device of another with `"jitp"`, which nothing here would notice.

use std::time::Duration;

use super::{CA_REGISTERED, Finding};
use crate::cloud::aws::{AwsCloud, RegisteredCa};
use crate::cloud::{CloudError, FailureKind, StopCause};
use crate::config::Config;
use crate::device::rules::Register;
use crate::durable_fs::read_regular_text;
use crate::pki::Fingerprint;
use crate::pki::summary::name_of;

/// For the file and for AWS, each.
const WITHIN: Duration = Duration::from_secs(10);

/// Longest file of certificates that is read.
const MAX_CERTIFICATE_LEN: u64 = 1 << 20;

/// What makes it true.
const REMEDY: &str = "register it and make it active with `linemint ca register`";

/// The check.
pub(super) async fn look(config: &Config, cloud: &AwsCloud) -> Finding {
    let has = |wanted| config.products.values().any(|it| it.rules.certificate.register == wanted);
    let (registers, first_connection) = (has(Register::WithCa), has(Register::Jitp));
    let Some(pki) = config.pki.as_ref().filter(|_| registers || first_connection) else {
        return CA_REGISTERED.skipped("no product wants a CA that AWS knows");
    };
    let path = pki.ca_certificate.clone();
    // The file may lie on a share that has gone away.
    let read = tokio::task::spawn_blocking(move || read_regular_text(&path, MAX_CERTIFICATE_LEN));
    let read = tokio::time::timeout(WITHIN, read).await;
    let Some((id, subject)) = read.ok().and_then(|it| name_of(&it.ok()?.ok()?)) else {
        return CA_REGISTERED.skipped("the CA's certificate cannot be read");
    };
    match tokio::time::timeout(WITHIN, cloud.describe_ca(&id)).await {
        Ok(found) => judge(&subject, &id, found, first_connection),
        Err(_) => CA_REGISTERED.skipped("not known: no answer in time"),
    }
}

fn judge(
    subject: &str,
    id: &Fingerprint,
    found: Result<Option<RegisteredCa>, CloudError>,
    first_connection: bool,
) -> Finding {
    match found {
        Ok(None) => {
            CA_REGISTERED.failed(format!("{subject}, {id}, is not registered in the account"), REMEDY)
        }
        Ok(Some(ca)) if !ca.active => {
            CA_REGISTERED.failed(format!("{subject} is registered in the account, but not active"), REMEDY)
        }
        Ok(Some(ca)) if first_connection && !ca.auto_registration => CA_REGISTERED.failed(
            format!("{subject} is active, but AWS registers no device of it at its first connection"),
            "`linemint ca register --jitp-template NAME` says how to set the template",
        ),
        Ok(Some(ca)) => CA_REGISTERED.ok(format!("{subject} is registered and active, mode {}", ca.mode)),
        Err(error) if error.kind == FailureKind::Stop(StopCause::Permission) => CA_REGISTERED
            .skipped("not known: the station's credentials may not ask (iot:DescribeCACertificate)"),
        Err(error) => CA_REGISTERED.skipped(format!("not known: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::Operation;
    use crate::doctor::Verdict;

    #[test]
    fn a_ca_that_aws_does_not_have_or_has_asleep_is_told_and_one_that_nobody_may_ask_for_is_skipped() {
        let id = Fingerprint::of(b"a CA");
        let ca = |active, auto_registration| {
            let (arn, mode) = ("arn".to_owned(), "DEFAULT".to_owned());
            Ok(Some(RegisteredCa { arn, active, mode, auto_registration }))
        };
        let error = |kind| Err(CloudError::new(Operation::DescribeCaCertificate, kind, "words"));
        for (found, first_connection, status, part) in [
            (Ok(None), false, Verdict::Failed, "is not registered"),
            (ca(false, false), false, Verdict::Failed, "not active"),
            (ca(true, false), false, Verdict::Ok, "registered and active"),
            (ca(true, false), true, Verdict::Failed, "at its first connection"),
            (ca(true, true), true, Verdict::Ok, "registered and active"),
            (error(FailureKind::Stop(StopCause::Permission)), false, Verdict::Skipped, "may not ask"),
            (error(FailureKind::Unreachable), false, Verdict::Skipped, "not known"),
        ] {
            let finding = judge("CN=Line 3", &id, found, first_connection);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.detail.contains(part), "{finding:?}");
        }
    }
}

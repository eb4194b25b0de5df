//! What AWS itself issues: another certificate at each call, in lists that are behind and come in pages.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::cloud::{Account, Made, Moment, PAGE, Registered, arn, der_of};
use super::plan::BEGIN;
use super::x509;
use crate::cloud::testing::failure;
use crate::cloud::{Call, CertificateStatus, CloudError, FailureKind, ListedCertificate, Reply};
use crate::pki::{Fingerprint, to_pem};

impl Account {
    /// AWS issues, inactive, whatever it has issued for that key before.
    pub(super) fn issue(&mut self, csr_pem: &str, at: Moment<'_>) -> Option<Reply> {
        let request = der_of(csr_pem);
        let key = x509::key_in(&request)?;
        self.made += 1;
        let der = x509::certificate(self.made, key);
        let id = Fingerprint::of(&der).to_string();
        let pem = to_pem("CERTIFICATE", &der).to_string();
        let made =
            Made { number: self.made, at: at.now, shows_from: at.now + at.lag, pem: Some(pem.clone()) };
        let certificate = Registered::new(CertificateStatus::Inactive, at.serial, made);
        self.certificates.insert(id.clone(), certificate);
        Some(Reply::IssuedCertificate { arn: arn(&id), id, pem })
    }

    /// One page, the newest first.
    pub(super) fn list(&self, marker: Option<&str>, now: Duration) -> Reply {
        let before = marker.map_or(u64::MAX, |it| it.parse().unwrap());
        let shown = self.certificates.iter().filter(|(_, it)| it.made.shows_from <= now);
        let mut all: Vec<_> = shown.filter(|(_, it)| it.made.number < before).collect();
        all.sort_by_key(|(_, it)| std::cmp::Reverse(it.made.number));
        let next = (all.len() > PAGE).then(|| all[PAGE - 1].1.made.number.to_string());
        let items = all.iter().take(PAGE).map(|(id, it)| ListedCertificate {
            id: id.parse().unwrap(),
            status: it.status,
            created: wall(it.made.at),
        });
        Reply::Certificates { items: items.collect(), next }
    }

    /// Nothing goes while it is active or something hangs on it.
    pub(super) fn delete(&mut self, call: &Call, id: &str) -> Result<Reply, CloudError> {
        let says = |kind| Err(failure(call.operation(), kind));
        let Some(it) = self.certificates.get(id) else { return says(FailureKind::NotFound) };
        if it.status == CertificateStatus::Active {
            return says(FailureKind::Refused);
        }
        let arn = arn(id);
        if !it.policies.is_empty() || self.things.values().any(|it| it.principals.contains_key(&arn)) {
            return says(FailureKind::Conflict);
        }
        self.certificates.remove(id);
        Ok(Reply::Empty)
    }
}

/// What AWS's clock shows then.
fn wall(at: Duration) -> Timestamp {
    BEGIN + SignedDuration::try_from(at).unwrap()
}

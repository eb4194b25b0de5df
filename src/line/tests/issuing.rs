//! AWS's own CA, and the lists in which what it has made is found: as its API reference describes them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rcgen::{CertificateParams, CertificateSigningRequestParams, DnType, Issuer, KeyPair, SerialNumber};

use super::account::{Account, arn};
use crate::cloud::testing::failure;
use crate::cloud::{
    Call, CertificateStatus, CloudError, FailureKind, ListedCertificate, ListedLocker, Reply,
};
use crate::pki::Fingerprint;

/// A certificate that AWS has issued.
#[derive(Debug, Clone)]
pub(super) struct IssuedHere {
    pub(super) pem: String,
    pub(super) created: Timestamp,
    /// Common name of the CSR: whose it is.
    pub(super) owner: String,
    /// Place in the order of creation.
    order: u64,
}

/// A locker that AWS has made.
#[derive(Debug, Clone)]
pub(super) struct LockerHere {
    pub(super) name: String,
    pub(super) created: Timestamp,
    pub(super) tags: std::collections::BTreeMap<String, String>,
}

static AUTHORITY: LazyLock<Issuer<'static, KeyPair>> =
    LazyLock::new(|| Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap()));

static ISSUED: AtomicU64 = AtomicU64::new(1);

impl Account {
    /// AWS makes another certificate at each call.
    pub(super) fn create_from_csr(&mut self, csr_pem: &str) -> Reply {
        let (id, _, pem) = self.issue_from(csr_pem);
        Reply::IssuedCertificate { arn: arn(&id), id, pem }
    }

    /// Issues for that request, whoever asks; id and owner.
    pub(super) fn issue_from(&mut self, csr_pem: &str) -> (String, String, String) {
        let csr = CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        let owner = match csr.params.distinguished_name.get(&DnType::CommonName) {
            Some(rcgen::DnValue::Utf8String(it)) => it.clone(),
            other => panic!("a CSR of an unexpected subject: {other:?}"),
        };
        let order = ISSUED.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&order.to_be_bytes()));
        let made = params.signed_by(&csr.public_key, &*AUTHORITY).unwrap();
        let id = Fingerprint::of(made.der()).to_string();
        let created = self.now;
        let it = IssuedHere { pem: made.pem(), created, owner: owner.clone(), order };
        self.issued.insert(id.clone(), it);
        self.certificates.insert(id.clone(), CertificateStatus::Inactive);
        (id, owner, made.pem())
    }

    /// Newest first; what was made just now may be missing.
    pub(super) fn list_certificates(&self, marker: Option<&str>) -> Reply {
        let shown = |it: &&(&String, &IssuedHere)| it.1.created + self.lists_are_behind <= self.now;
        let mut all: Vec<_> = self.issued.iter().filter(|it| shown(&it)).collect();
        all.sort_by_key(|(_, it)| std::cmp::Reverse((it.created, it.order)));
        let begin: usize = marker.map_or(0, |it| it.parse().unwrap());
        let size = if self.page == 0 { 250 } else { self.page };
        let next = (begin + size < all.len()).then(|| (begin + size).to_string());
        let items = all.into_iter().skip(begin).take(size).map(|(id, it)| ListedCertificate {
            id: id.parse().unwrap(),
            status: self.certificates[id],
            created: it.created,
        });
        Reply::Certificates { items: items.collect(), next }
    }

    /// The certificates that AWS has issued for a serial and still holds.
    pub(super) fn issued_for(&self, serial: &str) -> Vec<String> {
        let mut ids: Vec<_> =
            self.issued.iter().filter(|(_, it)| it.owner == serial).map(|(id, it)| (it.order, id)).collect();
        ids.sort();
        ids.into_iter().map(|(_, id)| id.clone()).collect()
    }

    pub(super) fn list_lockers(&self, token: Option<&str>) -> Reply {
        let begin: usize = token.map_or(0, |it| it.parse().unwrap());
        let size = if self.page == 0 { 1000 } else { self.page };
        let next = (begin + size < self.lockers_made.len()).then(|| (begin + size).to_string());
        let items = self.lockers_made.iter().skip(begin).take(size).map(|(id, it)| ListedLocker {
            id: id.clone(),
            arn: format!("arn:aws:locker/{id}"),
            name: Some(it.name.clone()),
            created: it.created,
        });
        Reply::Lockers { items: items.collect(), next }
    }

    /// Somebody else makes a locker.
    pub(super) fn make_locker(&mut self, id: &str, it: LockerHere) {
        self.lockers_made.insert(id.to_owned(), it);
    }

    /// AWS forgets every client token.
    pub(super) fn forget_tokens(&mut self) {
        let old = std::mem::take(&mut self.lockers);
        self.lockers = old.into_iter().map(|(token, it)| (format!("forgotten {token}"), it)).collect();
    }

    /// Calls whose answer was given up arrive after all.
    pub(super) fn land(&mut self) {
        for call in std::mem::take(&mut self.under_way) {
            // Nobody hears the answer.
            let _ = self.act(&call);
        }
    }

    pub(super) fn look(&mut self, call: &Call) -> Result<Reply, CloudError> {
        let failed = |kind| failure(call.operation(), kind);
        match call {
            Call::CreateCertificateFromCsr { csr_pem } => Ok(self.create_from_csr(csr_pem)),
            Call::ListCertificates { marker } => Ok(self.list_certificates(marker.as_deref())),
            Call::ListCredentialLockers { next_token } => Ok(self.list_lockers(next_token.as_deref())),
            Call::GetCredentialLocker { id } => {
                let it = self.lockers_made.get(id).ok_or_else(|| failed(FailureKind::NotFound))?;
                let (arn, tags) = (format!("arn:aws:locker/{id}"), it.tags.clone());
                Ok(Reply::LockerDescription { id: id.clone(), arn, tags })
            }
            other => panic!("no such call is expected: {other:?}"),
        }
    }
}

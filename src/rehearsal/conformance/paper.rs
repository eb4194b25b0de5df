//! Credentials to test with: well formed, fresh, and worth nothing.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair,
};
use zeroize::Zeroizing;

use crate::fixture::{Credentials, Unit};
use crate::pki::Fingerprint;

/// What every test certificate's subject says.
const MARK: &str = "WORTHLESS: linemint fixture check";

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make a test certificate")]
pub struct PaperError(#[from] rcgen::Error);

/// A CA of this minute, whose key nobody keeps.
pub(super) struct Paper {
    issuer: Issuer<'static, KeyPair>,
    root: Certificate,
}

impl std::fmt::Debug for Paper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Paper")
    }
}

impl Paper {
    pub(super) fn new() -> Result<Self, PaperError> {
        let key = KeyPair::generate()?;
        let mut params = marked("test CA")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let root = params.self_signed(&key)?;
        Ok(Self { issuer: Issuer::new(params, key), root })
    }

    /// Credentials as the station would send them to `unit`. With a key made here, unless it brings a CSR.
    pub(super) fn credentials(&self, unit: &Unit) -> Result<Credentials, PaperError> {
        let params = marked(&unit.serial)?;
        let request = unit.csr.as_deref().map(CertificateSigningRequestParams::from_pem);
        let (leaf, private_key) = match request {
            // What is wrong with a CSR has its own rule; the rest is tried with a key made here.
            Some(Ok(csr)) => (params.signed_by(&csr.public_key, &self.issuer)?, None),
            _ => {
                let key = KeyPair::generate()?;
                let pem = Zeroizing::new(key.serialize_pem());
                (params.signed_by(&key, &self.issuer)?, Some(pem))
            }
        };
        Ok(Credentials {
            id: unit.id,
            serial: unit.serial.clone(),
            thing: unit.serial.clone(),
            certificate: lf(&leaf.pem()),
            certificate_sha256: Fingerprint::of(leaf.der()).to_string(),
            private_key: private_key.map(|it| Zeroizing::new(lf(&it))),
            ca: Some(lf(&self.root.pem())),
            endpoint: Some("linemint-fixture-check.invalid".to_owned()),
            locker_id: Some("0000000000000000".to_owned()),
        })
    }
}

fn marked(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::OrganizationName, MARK);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// The station's PEM has plain LFs.
fn lf(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::leaf::read_leaf;

    #[test]
    fn a_test_certificate_is_sound_new_each_time_and_says_what_it_is() {
        let paper = Paper::new().unwrap();
        let unit = Unit { id: 7, serial: "SN1".into(), ..Unit::default() };
        let (one, two) = (paper.credentials(&unit).unwrap(), paper.credentials(&unit).unwrap());
        assert_ne!(one.certificate_sha256, two.certificate_sha256);
        let leaf = read_leaf(&one.certificate).unwrap();
        assert_eq!(leaf.fingerprint.to_string(), one.certificate_sha256);
        assert!(leaf.der.windows(MARK.len()).any(|it| it == MARK.as_bytes()));
        assert!(one.private_key.is_some() && !one.certificate.contains('\r'));
    }
}

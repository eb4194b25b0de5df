//! A device certificate that somebody else has issued, read for what the station keeps of it.

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::{Fingerprint, hex, pem};

/// What the station keeps of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// SHA-256 of the DER.
    pub fingerprint: Fingerprint,
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// SHA-256 of its public key (the SubjectPublicKeyInfo, DER).
    pub public_key: Fingerprint,
    /// Certificate serial number, lower-case hex.
    pub serial_number: String,
    /// Valid until.
    pub not_after: Timestamp,
    /// Whether it may issue others.
    pub is_ca: bool,
    /// Its subject's common name, where it has one that is text.
    pub common_name: Option<String>,
}

/// Reads a text that holds one certificate in PEM and no other; none if it is anything else.
#[must_use]
pub fn read_leaf(text: &str) -> Option<Leaf> {
    let blocks = pem::blocks(text).ok()?;
    let [block] = blocks.as_slice() else { return None };
    if block.label != "CERTIFICATE" {
        return None;
    }
    let Ok(([], parsed)) = X509Certificate::from_der(&block.der) else { return None };
    Some(Leaf {
        fingerprint: Fingerprint::of(&block.der),
        der: block.der.to_vec(),
        public_key: Fingerprint::of(parsed.public_key().raw),
        serial_number: hex(parsed.raw_serial()),
        not_after: Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?,
        is_ca: parsed.is_ca(),
        common_name: parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|it| Some(it.as_str().ok()?.to_owned())),
    })
}

/// Whether the CA whose certificate `ca_pem` begins with has signed `leaf`, DER: nobody else can have.
#[must_use]
pub fn is_signed_by(leaf: &[u8], ca_pem: &str) -> bool {
    let Ok(blocks) = pem::blocks(ca_pem) else { return false };
    let Some(ca) = blocks.first() else { return false };
    let (Ok((_, ca)), Ok(([], leaf))) = (X509Certificate::from_der(&ca.der), X509Certificate::from_der(leaf))
    else {
        return false;
    };
    leaf.issuer().as_raw() == ca.subject().as_raw() && leaf.verify_signature(Some(ca.public_key())).is_ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};

    use super::*;

    #[test]
    fn a_certificate_tells_its_key_and_its_end() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[1, 0xab]));
        params.not_after = rcgen::date_time_ymd(2049, 12, 31);
        let made = params.self_signed(&key).unwrap();
        let leaf = read_leaf(&made.pem()).unwrap();
        assert_eq!(leaf.fingerprint, Fingerprint::of(made.der()));
        assert_eq!(leaf.public_key, Fingerprint::of(&key.subject_public_key_info()));
        assert_eq!((leaf.serial_number.as_str(), leaf.not_after.as_second()), ("01ab", 2_524_521_600));
    }

    #[test]
    fn only_the_ca_that_has_signed_it_is_its_signer() {
        let ca = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let pem = params.self_signed(&key).unwrap().pem();
            (rcgen::Issuer::new(params, key), pem)
        };
        let ((ours, pem), (_, of_that_name)) = (ca("line 3"), ca("line 3"));
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "SN1");
        let made = params.signed_by(&KeyPair::generate().unwrap(), &ours).unwrap();
        assert!(is_signed_by(made.der(), &pem));
        assert!(!is_signed_by(made.der(), &of_that_name), "a name is no proof");
        assert!(!is_signed_by(made.der(), "") && !is_signed_by(b"x", &pem));
        assert_eq!(read_leaf(&made.pem()).unwrap().common_name.as_deref(), Some("SN1"));
    }

    #[test]
    fn anything_else_is_no_certificate() {
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        let other =
            [String::new(), key.serialize_pem(), format!("{pem}{pem}"), pem.replacen("MII", "AAA", 1)];
        assert!(other.iter().all(|it| read_leaf(it).is_none()));
    }
}

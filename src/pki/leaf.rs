//! A device certificate that somebody else has issued, read for what the station keeps of it.

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::{Fingerprint, pem};

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
        serial_number: parsed.raw_serial().iter().map(|it| format!("{it:02x}")).collect(),
        not_after: Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?,
    })
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
    fn anything_else_is_no_certificate() {
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        let other =
            [String::new(), key.serialize_pem(), format!("{pem}{pem}"), pem.replacen("MII", "AAA", 1)];
        assert!(other.iter().all(|it| read_leaf(it).is_none()));
    }
}

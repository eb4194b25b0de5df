//! Makes the certificate signing request that goes to AWS, where AWS issues.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use zeroize::{Zeroize as _, Zeroizing};

use super::issuer::{check_common_name, new_key};
use super::{Fingerprint, IssueError};

/// A new key pair with the request for its certificate.
pub struct MadeRequest {
    /// The PKCS #10 request, DER.
    pub csr: Vec<u8>,
    /// SHA-256 of the public key (the SubjectPublicKeyInfo, DER).
    pub public_key: Fingerprint,
    /// The private key (PKCS #8 DER). Wiped on drop.
    pub private_key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for MadeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeRequest").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

/// Makes a P-256 key pair and a request with `common_name` as its subject and nothing else.
///
/// # Errors
/// The name does not fit a certificate, or the cryptographic library refuses.
pub fn make_request(common_name: &str) -> Result<MadeRequest, IssueError> {
    check_common_name(common_name).map_err(IssueError::Request)?;
    let (public_key, private_key) = new_key()?;
    let mut key = KeyPair::try_from(private_key.as_slice()).map_err(IssueError::KeyPair)?;
    // rcgen keeps the key's DER beside the parsed key, and signs without it.
    key.zeroize();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let csr = params.serialize_request(&key).map_err(IssueError::Sign)?;
    Ok(MadeRequest { csr: csr.der().to_vec(), public_key: Fingerprint::of(&public_key), private_key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::csr::check_csr;
    use crate::pki::to_pem;

    #[test]
    fn a_request_is_one_that_the_station_itself_would_take() {
        let made = make_request("SN0001").unwrap();
        let pem = to_pem("CERTIFICATE REQUEST", &made.csr);
        let key = check_csr(&pem).unwrap();
        assert_eq!(Fingerprint::of(&key.spki_der), made.public_key);
        assert!(!format!("{made:?}").contains("private"));
        assert_ne!(make_request("SN0001").unwrap().public_key, made.public_key);
    }

    #[test]
    fn a_name_that_fits_no_certificate_is_refused() {
        assert!(make_request("").is_err() && make_request(&"x".repeat(65)).is_err());
    }
}

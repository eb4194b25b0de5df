//! The CA that AWS keeps for `CreateCertificateFromCsr`.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::account::ISSUED_HERE;
use super::refusal::Refusal;
use super::x509::Certificate;
use crate::cloud::Service;

/// Longest CSR that AWS takes, characters.
const MAX_CSR: usize = 4096;

/// 2049-12-31T23:59:59Z, when every certificate that AWS IoT makes expires (Developer Guide).
const NOT_AFTER_UNIX_SECONDS: i64 = 2_524_607_999;

/// Issues certificates from CSRs under a key that lives as long as the simulation.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// A CSR whose signature was good.
pub(crate) struct SigningRequest {
    params: CertificateSigningRequestParams,
    pub(crate) common_name: Option<String>,
}

impl std::fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningRequest").field("common_name", &self.common_name).finish_non_exhaustive()
    }
}

impl SigningRequest {
    /// Reads a CSR and checks that its maker holds the key.
    ///
    /// # Errors
    /// `InvalidRequestException`: too long, not PEM, not a CSR, or a wrong signature.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, Refusal> {
        let refuse = |message: &str| Refusal::invalid(Service::Iot, message);
        if pem.is_empty() || pem.len() > MAX_CSR {
            return Err(refuse("the CSR has to have 1 to 4,096 characters"));
        }
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
            .map_err(|_| refuse("the certificate signing request is not PEM"))?;
        let params = CertificateSigningRequestParams::from_der(&block.contents.as_slice().into())
            .map_err(|_| refuse("the certificate signing request is not valid"))?;
        let common_name = X509CertificationRequest::from_der(&block.contents).ok().and_then(|(_, it)| {
            let subject = &it.certification_request_info.subject;
            subject.iter_common_name().next().and_then(|it| it.as_str().ok()).map(str::to_owned)
        });
        Ok(Self { params, common_name })
    }
}

impl Authority {
    /// Makes the CA.
    ///
    /// # Errors
    /// No key could be made.
    pub(crate) fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = name("linemint simulated AWS IoT CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Ok(Self { issuer: Issuer::new(params, KeyPair::generate()?) })
    }

    /// Issues a certificate. Of the CSR only the public key is used, as AWS does it: what else the
    /// device asks for is not its to decide. `number` makes each one distinct.
    ///
    /// # Errors
    /// `InvalidRequestException` for a key that AWS IoT does not take.
    pub(crate) fn issue(
        &self,
        request: &SigningRequest,
        number: u64,
        now_unix_seconds: i64,
    ) -> Result<Certificate, Refusal> {
        let refuse = |_| Refusal::invalid(Service::Iot, "the key of the CSR is not supported");
        let internal = |_| Refusal::internal(Service::Iot);
        let mut params = CertificateParams::new(Vec::new()).map_err(internal)?;
        params.distinguished_name = name(ISSUED_HERE);
        params.serial_number = Some(SerialNumber::from_slice(&serial(number)));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let now = OffsetDateTime::from_unix_timestamp(now_unix_seconds)
            .map_err(|_| Refusal::internal(Service::Iot))?;
        params.not_before = now - Duration::minutes(2);
        params.not_after = OffsetDateTime::from_unix_timestamp(NOT_AFTER_UNIX_SECONDS)
            .map_err(|_| Refusal::internal(Service::Iot))?;
        let issued = params.signed_by(&request.params.public_key, &self.issuer).map_err(internal)?;
        Certificate::from_der(issued.der().to_vec()).map_err(|_| refuse(()))
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// A positive certificate serial number that no other `number` has.
fn serial(number: u64) -> [u8; 9] {
    let mut bytes = [1; 9];
    bytes[1..].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A CSR with a new key, PEM; it asks to become a CA.
    pub(crate) fn csr(common_name: &str) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = name(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn one_csr_gives_another_certificate_each_time_and_never_a_ca() {
        let authority = Authority::new().unwrap();
        let request = SigningRequest::from_pem(&csr("SN1")).unwrap();
        let now = 1_795_000_000;
        let first = authority.issue(&request, 1, now).unwrap();
        let second = authority.issue(&request, 2, now).unwrap();
        assert_ne!(first.fingerprint, second.fingerprint);
        assert!(!first.is_ca);
        assert_eq!(first.not_after, NOT_AFTER_UNIX_SECONDS);
        assert_eq!(request.common_name.as_deref(), Some("SN1"));
    }

    #[test]
    fn a_csr_with_a_wrong_signature_is_refused() {
        let mut der = x509_parser::pem::parse_x509_pem(csr("SN1").as_bytes()).unwrap().1.contents;
        let last = der.len() - 1;
        der[last] ^= 1;
        let pem = crate::pki::to_pem("CERTIFICATE REQUEST", &der);
        assert_eq!(SigningRequest::from_pem(&pem).unwrap_err().code, "InvalidRequestException");
    }
}

//! The device's certificate signing request: proof that it holds a private key, and no more.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::error::X509Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA};
use x509_parser::prelude::FromDer as _;

use super::DevicePublicKey;
use super::pem::{self, PemError};
use super::public_key::{self, KeyRefused};

/// AWS IoT's limit for a CSR, characters; a device's is no longer, whoever issues.
const MAX_CSR_CHARS: usize = 4096;
/// Above this a verification is dear, and no device has it.
pub(crate) const MAX_DEVICE_RSA_BITS: usize = 4096;

/// Why a CSR is not accepted. The device that sent it is told in a line that has room for about 60 characters of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum CsrError {
    #[error("the CSR is longer than {MAX_CSR_CHARS} characters")]
    TooLong,
    #[error("bad CSR")]
    Pem(#[source] PemError),
    #[error("send one PEM block CERTIFICATE REQUEST, not {found}")]
    Label { found: String },
    #[error("the CSR is not a PKCS #10 certification request")]
    Malformed,
    #[error(transparent)]
    Key(KeyRefused),
    #[error("sign the CSR with SHA-256 or SHA-384, RSA by PKCS #1 v1.5")]
    Algorithm,
    #[error("the CSR's signature does not fit its key")]
    Signature,
    #[error("the CSR asks for a CA's rights: leave its extensions out")]
    AsksForCa,
}

/// Takes the public key out of a CSR in PEM, if the signature shows that the device holds
/// the private one. Whatever else it asks for, subject, CA rights, extensions, is ignored:
/// what a certificate says is the station's to decide. Where AWS issues, see [`read_csr_for_aws`].
///
/// # Errors
/// It is too long, no CSR, of a key that AWS IoT or this station does not accept, or not
/// signed with that key.
pub fn check_csr(pem: &str) -> Result<DevicePublicKey, CsrError> {
    read_csr(pem).map(|(key, _)| key)
}

/// As [`check_csr`], with the request itself (DER): what AWS gets where AWS issues.
///
/// # Errors
/// As for [`check_csr`].
pub fn read_csr(pem: &str) -> Result<(DevicePublicKey, Vec<u8>), CsrError> {
    if pem.chars().count() > MAX_CSR_CHARS {
        return Err(CsrError::TooLong);
    }
    let blocks = pem::blocks(pem).map_err(CsrError::Pem)?;
    let [block] = blocks.as_slice() else {
        return Err(CsrError::Label { found: format!("{} blocks", blocks.len()) });
    };
    if !matches!(block.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err(CsrError::Label { found: block.label.clone() });
    }
    let Ok(([], csr)) = X509CertificationRequest::from_der(&block.der) else {
        return Err(CsrError::Malformed);
    };
    let spki = &csr.certification_request_info.subject_pki;
    public_key::kind_of(spki, MAX_DEVICE_RSA_BITS).map_err(CsrError::Key)?;
    let algorithm = &csr.signature_algorithm.algorithm;
    if *algorithm == OID_PKCS1_SHA1WITHRSA || *algorithm == OID_SHA1_WITH_RSA {
        return Err(CsrError::Algorithm);
    }
    // A signature is whole bytes; the verification would not look.
    if csr.signature_value.unused_bits != 0 {
        return Err(CsrError::Malformed);
    }
    csr.verify_signature().map_err(|error| match error {
        X509Error::SignatureUnsupportedAlgorithm => CsrError::Algorithm,
        // Most likely salted otherwise than with as many bytes as the hash has.
        _ if *algorithm == OID_PKCS1_RSASSAPSS => CsrError::Algorithm,
        _ => CsrError::Signature,
    })?;
    Ok((DevicePublicKey { spki_der: spki.raw.to_vec() }, block.der.to_vec()))
}

/// As [`read_csr`], for AWS to issue: AWS gets the whole request, so that it may not ask for a CA's rights. What else it
/// says of itself is AWS's to take or to leave.
///
/// # Errors
/// As for [`check_csr`]; it asks for a CA's rights.
pub fn read_csr_for_aws(pem: &str) -> Result<(DevicePublicKey, Vec<u8>), CsrError> {
    let (key, der) = read_csr(pem)?;
    let (_, csr) = X509CertificationRequest::from_der(&der).map_err(|_| CsrError::Malformed)?;
    let attributes = csr.certification_request_info.iter_attributes();
    let requests = attributes.filter_map(|it| match it.parsed_attribute() {
        ParsedCriAttribute::ExtensionRequest(it) => Some(&it.extensions),
        _ => None,
    });
    let asks = requests.flatten().any(|it| is_a_cas(it.parsed_extension()));
    if asks { Err(CsrError::AsksForCa) } else { Ok((key, der)) }
}

/// Whether it is what only a CA has.
fn is_a_cas(extension: &ParsedExtension<'_>) -> bool {
    match extension {
        ParsedExtension::BasicConstraints(it) => it.ca,
        ParsedExtension::KeyUsage(it) => it.key_cert_sign() || it.crl_sign(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;

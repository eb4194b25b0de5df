//! Certificates as AWS IoT looks at them: parsed for real, and refused for what AWS refuses.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::refusal::Refusal;
use crate::pki::Fingerprint;

/// Longest PEM that AWS takes, characters.
const MAX_PEM: usize = 65_536;

/// Signature algorithms that AWS IoT takes (Developer Guide, X.509 client certificates): RSA
/// with SHA-256/384/512, RSASSA-PSS, DSA with SHA-256, ECDSA with SHA-256/384/512.
const SIGNATURE_ALGORITHMS: [&str; 8] = [
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
    "1.2.840.113549.1.1.10",
    "2.16.840.1.101.3.4.3.2",
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
];

/// Curves that AWS IoT takes: P-256, P-384, P-521.
const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];

/// What the account has to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) der: Vec<u8>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) common_name: Option<String>,
    /// DER of the names, for finding the issuer.
    pub(crate) subject: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) is_ca: bool,
    /// Unix seconds.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// `CertificateValidationException`: not PEM, not X.509, or a key or a signature algorithm
    /// that AWS IoT does not take.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, Refusal> {
        if pem.is_empty() || pem.len() > MAX_PEM {
            return Err(Refusal::new(
                "InvalidRequestException",
                400,
                "the PEM has to have 1 to 65,536 characters",
            ));
        }
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
            .map_err(|_| not_valid("the certificate is not PEM"))?;
        if block.label != "CERTIFICATE" {
            return Err(not_valid("the PEM does not hold a certificate"));
        }
        Self::from_der(block.contents)
    }

    /// Reads a certificate.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub(crate) fn from_der(der: Vec<u8>) -> Result<Self, Refusal> {
        let (rest, parsed) =
            X509Certificate::from_der(&der).map_err(|_| not_valid("the certificate cannot be parsed"))?;
        if !rest.is_empty() {
            return Err(not_valid("something follows the certificate"));
        }
        check_key(parsed.public_key())?;
        let algorithm = parsed.signature_algorithm.algorithm.to_id_string();
        if !SIGNATURE_ALGORITHMS.contains(&algorithm.as_str()) {
            return Err(not_valid("the signature algorithm is not supported"));
        }
        let common_name =
            parsed.subject().iter_common_name().next().and_then(|it| it.as_str().ok()).map(str::to_owned);
        let it = Self {
            fingerprint: Fingerprint::of(&der),
            common_name,
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            is_ca: parsed.is_ca(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            der: Vec::new(),
        };
        Ok(Self { der, ..it })
    }

    /// Whether `ca` has issued this certificate: the names match and the signature verifies.
    pub(crate) fn is_issued_by(&self, ca: &Self) -> bool {
        self.issuer == ca.subject && verifies(&self.der, &ca.der).unwrap_or(false)
    }
}

fn not_valid(message: &str) -> Refusal {
    Refusal::new("CertificateValidationException", 400, message)
}

fn check_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), Refusal> {
    let supported = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => rsa.key_size() >= 2048,
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|it| it.as_oid().ok());
            curve.is_some_and(|it| CURVES.contains(&it.to_id_string().as_str()))
        }
        _ => false,
    };
    if supported { Ok(()) } else { Err(not_valid("the key's type or size is not supported")) }
}

fn verifies(leaf: &[u8], ca: &[u8]) -> Option<bool> {
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    let (_, ca) = X509Certificate::from_der(ca).ok()?;
    let key = ca.public_key();
    let bits = &*key.subject_public_key.data;
    let curve = key.algorithm.parameters.as_ref().and_then(|it| it.as_oid().ok());
    let curve = curve.map(|it| it.to_id_string()).unwrap_or_default();
    let algorithm = leaf.signature_algorithm.algorithm.to_id_string();
    let candidates = algorithms(&algorithm, &curve);
    Some(candidates.iter().any(|it| {
        UnparsedPublicKey::new(*it, bits)
            .verify(leaf.tbs_certificate.as_ref(), &leaf.signature_value.data)
            .is_ok()
    }))
}

/// The verifiers for a signature's OID and the issuer's curve; none if we cannot tell.
fn algorithms(signature: &str, curve: &str) -> Vec<&'static dyn VerificationAlgorithm> {
    match (signature, curve) {
        ("1.2.840.113549.1.1.11", _) => vec![&signature::RSA_PKCS1_2048_8192_SHA256],
        ("1.2.840.113549.1.1.12", _) => vec![&signature::RSA_PKCS1_2048_8192_SHA384],
        ("1.2.840.113549.1.1.13", _) => vec![&signature::RSA_PKCS1_2048_8192_SHA512],
        // The hash is in the parameters; trying the three is as good as reading them.
        ("1.2.840.113549.1.1.10", _) => vec![
            &signature::RSA_PSS_2048_8192_SHA256,
            &signature::RSA_PSS_2048_8192_SHA384,
            &signature::RSA_PSS_2048_8192_SHA512,
        ],
        ("1.2.840.10045.4.3.2", "1.2.840.10045.3.1.7") => vec![&signature::ECDSA_P256_SHA256_ASN1],
        ("1.2.840.10045.4.3.3", "1.2.840.10045.3.1.7") => vec![&signature::ECDSA_P256_SHA384_ASN1],
        ("1.2.840.10045.4.3.2", "1.3.132.0.34") => vec![&signature::ECDSA_P384_SHA256_ASN1],
        ("1.2.840.10045.4.3.3", "1.3.132.0.34") => vec![&signature::ECDSA_P384_SHA384_ASN1],
        ("1.2.840.10045.4.3.4", "1.3.132.0.35") => vec![&signature::ECDSA_P521_SHA512_ASN1],
        _ => Vec::new(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    /// A CA for tests, and leaves from it.
    pub(crate) struct TestCa {
        pub(crate) pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    impl TestCa {
        pub(crate) fn new(name: &str) -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            Self { pem, issuer: Issuer::new(params, key) }
        }

        /// A leaf with this common name, PEM; another one each time.
        pub(crate) fn leaf(&self, name: &str) -> String {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().pem()
        }
    }

    #[test]
    fn a_leaf_is_its_own_cas_and_no_other_cas_of_the_same_name() {
        let (ca, twin) = (TestCa::new("Plant CA"), TestCa::new("Plant CA"));
        let leaf = Certificate::from_pem(&ca.leaf("SN1")).unwrap();
        assert_eq!(leaf.common_name.as_deref(), Some("SN1"));
        assert!(leaf.is_issued_by(&Certificate::from_pem(&ca.pem).unwrap()));
        assert!(!leaf.is_issued_by(&Certificate::from_pem(&twin.pem).unwrap()));
        assert!(Certificate::from_pem(&ca.pem).unwrap().is_ca && !leaf.is_ca);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let cut = &TestCa::new("CA").leaf("SN1")[..200];
        let key = KeyPair::generate().unwrap().serialize_pem();
        for bad in ["x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", cut, &key] {
            assert_eq!(Certificate::from_pem(bad).unwrap_err().code, "CertificateValidationException");
        }
    }

    #[test]
    fn an_ed25519_key_is_refused_as_aws_refuses_it() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let pem = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        assert_eq!(Certificate::from_pem(&pem).unwrap_err().code, "CertificateValidationException");
    }
}

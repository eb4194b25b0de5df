//! The station's CA certificate and what stands above it, checked once at start.

use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::pem::{self, PemError};
use super::public_key::{self, KeyKind, KeyRefused};
use super::summary::CaEnd;
use super::{IssueError, to_pem};

/// Certificates in the CA's file at most: webpki follows no more than six above a leaf.
const MAX_CERTIFICATES: usize = 6;
/// What AWS-LC signs and verifies with.
const MAX_CA_RSA_BITS: usize = 8192;

/// Why a CA certificate or its key is not fit to issue. Found at start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum CaError {
    #[error("failed to read the CA certificate")]
    CertificatePem(#[source] PemError),
    #[error("the CA's file holds {found}, where only certificates are expected")]
    NotACertificate { found: String },
    #[error("the CA's file holds more than {MAX_CERTIFICATES} certificates")]
    TooMany,
    #[error("certificate {number} of the CA's file is broken")]
    Malformed { number: usize },
    #[error("{subject} is not a CA's certificate: its basic constraints do not say CA")]
    NotACa { subject: String },
    #[error("{subject} may not sign certificates: its key usage lacks keyCertSign")]
    MayNotSign { subject: String },
    #[error("{subject} is not valid now: it is valid from {not_before} to {not_after}")]
    NotValid { subject: String, not_before: Timestamp, not_after: Timestamp },
    #[error("the key of {subject} is too weak or of the wrong kind")]
    WeakKey { subject: String, source: KeyRefused },
    #[error(
        "the CA's file is out of order: after {subject} must come its issuer, {issuer}, but {found} does"
    )]
    Order { subject: String, issuer: String, found: String },
    #[error("the path length of {subject} allows no CA as far below as the station's")]
    PathLength { subject: String },
    #[error("{subject} cannot be a trust anchor: {reason}")]
    Anchor { subject: String, reason: webpki::Error },
    #[error("failed to read the CA key")]
    KeyPem(#[source] PemError),
    #[error("the CA key's file must hold one private key; it holds {found}")]
    NotAKey { found: usize },
    #[error(
        "the CA key cannot be used: neither ECDSA on P-256 or P-384 nor RSA of 2048 bits and more, or broken"
    )]
    Key,
    #[error("the CA key is not the key of {subject}: certificate and key are of different pairs")]
    KeyMismatch { subject: String },
    #[error(
        "the subject {subject} cannot be copied into certificates without change: \
         linemint needs a CA whose subject has each attribute once, and one in each part"
    )]
    Subject { subject: String },
    #[error("a CA key in a token has to be ECDSA on P-256 or P-384; that of {subject} is RSA")]
    TokenKind { subject: String },
    #[error("failed to start the token's thread")]
    TokenThread(#[source] std::io::Error),
    #[error("the CA failed its test: a certificate that it issued for trial")]
    Trial(#[source] IssueError),
}

/// The issuing CA's certificate, and those above it as far as they were given.
pub(crate) struct CaChain {
    /// The issuing CA's certificate, DER.
    pub(crate) der: CertificateDer<'static>,
    /// The issuing CA's certificate alone, PEM.
    pub(crate) pem: String,
    /// What follows a leaf in what a device gets, PEM: no root.
    pub(crate) follow_pem: String,
    /// The issuing CA's subject, for people.
    pub(crate) subject: String,
    /// The issuing CA's subject, DER.
    pub(crate) subject_der: Vec<u8>,
    /// The issuing CA's public key as it stands in the certificate.
    pub(crate) public_key: Vec<u8>,
    /// What kind of key it is.
    pub(crate) kind: KeyKind,
    pub(crate) not_before: Timestamp,
    /// The first end of all certificates in the file: past it nothing verifies, and no start takes the file.
    pub(crate) end: CaEnd,
    /// Whether one of them holds what is below it to names.
    pub(crate) constrained: bool,
    /// All of the CA's file, PEM.
    pub(crate) file_pem: String,
    /// Certificates in the CA's file.
    pub(crate) length: usize,
    /// Those above the issuing CA but for the anchor, with the issuing CA before them.
    intermediates: Vec<CertificateDer<'static>>,
    /// The last of the file: trusted, because the operator named it.
    anchor: TrustAnchor<'static>,
}

impl CaChain {
    /// Reads the issuing CA's certificate, followed by none, some or all of those above it,
    /// each the issuer of the one before.
    pub(crate) fn parse(ca_pem: &str, now: Timestamp) -> Result<Self, CaError> {
        let ders = certificates(ca_pem)?;
        let mut certificates = Vec::with_capacity(ders.len());
        for (i, der) in ders.iter().enumerate() {
            let Ok(([], certificate)) = X509Certificate::from_der(der) else {
                return Err(CaError::Malformed { number: i + 1 });
            };
            certificates.push(certificate);
        }
        // First their order: in another one, what stands above what means nothing.
        certificates.windows(2).try_for_each(|it| check_order(&it[0], &it[1]))?;
        let mut kinds = Vec::with_capacity(ders.len());
        for (below, certificate) in certificates.iter().enumerate() {
            kinds.push(check_ca(certificate, below, now)?);
        }

        let follow = certificates.iter().zip(&ders).filter(|(it, _)| !is_self_issued(it));
        let follow_pem = follow.map(|(_, der)| to_pem("CERTIFICATE", der).to_string()).collect();
        let issuing = &certificates[0];
        let (not_before, _) = validity(issuing);
        let (anchor_der, below_anchor) = ders.split_last().ok_or(CaError::TooMany)?;
        let anchor = webpki::anchor_from_trusted_cert(anchor_der)
            .map_err(|reason| CaError::Anchor { subject: subject(&certificates[ders.len() - 1]), reason })?;
        Ok(Self {
            der: ders[0].clone(),
            pem: to_pem("CERTIFICATE", &ders[0]).to_string(),
            follow_pem,
            subject: subject(issuing),
            subject_der: issuing.subject().as_raw().to_vec(),
            public_key: issuing.public_key().subject_public_key.data.to_vec(),
            kind: kinds[0],
            not_before,
            end: end(&certificates),
            constrained: certificates.iter().any(|it| !matches!(it.name_constraints(), Ok(None))),
            file_pem: ders.iter().map(|it| to_pem("CERTIFICATE", it).to_string()).collect(),
            length: ders.len(),
            intermediates: below_anchor.to_vec(),
            anchor: anchor.to_owned(),
        })
    }

    /// Verifies a leaf up to the last certificate of the CA's file, as a TLS client's.
    pub(crate) fn verify(&self, leaf: &CertificateDer<'_>, now: Timestamp) -> Result<(), webpki::Error> {
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        EndEntityCert::try_from(leaf)?.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            std::slice::from_ref(&self.anchor),
            &self.intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            KeyUsage::client_auth(),
            None,
            None,
        )?;
        Ok(())
    }
}

fn certificates(ca_pem: &str) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let blocks = pem::blocks(ca_pem).map_err(CaError::CertificatePem)?;
    if blocks.len() > MAX_CERTIFICATES {
        return Err(CaError::TooMany);
    }
    blocks
        .into_iter()
        .map(|it| match it.label.as_str() {
            "CERTIFICATE" => Ok(CertificateDer::from(it.der.to_vec())),
            _ => Err(CaError::NotACertificate { found: it.label }),
        })
        .collect()
}

/// Checks one certificate of the file. The leaf's signer has none `below` it, and so on.
fn check_ca(certificate: &X509Certificate<'_>, below: usize, now: Timestamp) -> Result<KeyKind, CaError> {
    let subject = subject(certificate);
    let constraints = certificate.basic_constraints().ok().flatten().filter(|it| it.value.ca);
    let Some(constraints) = constraints else { return Err(CaError::NotACa { subject }) };
    if constraints.value.path_len_constraint.is_some_and(|it| (it as usize) < below) {
        return Err(CaError::PathLength { subject });
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if usage.value.key_cert_sign() => {}
        // Without the extension a key is not restricted (RFC 5280, 4.2.1.3); `openssl req -x509` makes such.
        Ok(None) => {}
        _ => return Err(CaError::MayNotSign { subject }),
    }
    let (not_before, not_after) = validity(certificate);
    if !(not_before..=not_after).contains(&now) {
        return Err(CaError::NotValid { subject, not_before, not_after });
    }
    public_key::kind_of(certificate.public_key(), MAX_CA_RSA_BITS)
        .map_err(|source| CaError::WeakKey { subject, source })
}

fn check_order(certificate: &X509Certificate<'_>, next: &X509Certificate<'_>) -> Result<(), CaError> {
    if certificate.issuer().as_raw() == next.subject().as_raw() && !is_self_issued(certificate) {
        return Ok(());
    }
    Err(CaError::Order {
        subject: subject(certificate),
        issuer: certificate.issuer().to_string(),
        found: subject(next),
    })
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == certificate.subject().as_raw()
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    certificate.subject().to_string()
}

/// The first of the ends. Of several at one time it is the lowest's.
fn end(certificates: &[X509Certificate<'_>]) -> CaEnd {
    let ends = certificates.iter().enumerate().map(|(above, it)| (validity(it).1, above));
    let (at, above) = ends.min().unwrap_or((Timestamp::MAX, 0));
    CaEnd { at, above: (above > 0).then(|| subject(&certificates[above])) }
}

/// From, until.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    // "No end" is written as the year 9999's last second, which is a day past the last
    // timestamp; nothing issued here lives to see the difference.
    let time = |it: ASN1Time, beyond| Timestamp::from_second(it.timestamp()).unwrap_or(beyond);
    let validity = certificate.validity();
    (time(validity.not_before, Timestamp::MIN), time(validity.not_after, Timestamp::MAX))
}

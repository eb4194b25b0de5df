//! Makes leaves under the station's own CA.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber, SigningKey, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, DnsName};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::chain::CaChain;
use super::csr::MAX_DEVICE_RSA_BITS;
use super::public_key::{self, KeyKind};
use super::summary::CaEnd;
use super::{Fingerprint, IssueError, IssuedLeaf, Issuer, LeafKey, LeafRequest, hex, pem};

pub use super::chain::CaError;
pub use super::csr::{CsrError, check_csr};
pub use super::pem::PemError;
pub use super::public_key::KeyRefused;

/// How far notBefore lies back: devices' clocks run late.
pub(crate) const BACK_DATED: SignedDuration = SignedDuration::from_hours(1);
/// X.520's upper bound for a common name, characters.
const MAX_COMMON_NAME_CHARS: usize = 64;

/// A CA whose key the station holds: in memory, or as `K` in a device of its own.
pub struct StationIssuer<K = KeyPair> {
    chain: CaChain,
    issuer: rcgen::Issuer<'static, K>,
}

impl<K> std::fmt::Debug for StationIssuer<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StationIssuer").field("subject", &self.chain.subject).finish_non_exhaustive()
    }
}

impl StationIssuer {
    /// Takes a CA certificate in PEM, which may be followed by those above it up to the root,
    /// and its key in PEM (PKCS #8, SEC 1 or PKCS #1, not encrypted). The text of the key is
    /// wiped.
    ///
    /// # Errors
    /// The certificate is not fit to issue now, the key is not its key, or a certificate
    /// issued for trial does not verify.
    pub fn load(ca_pem: &str, key_pem: Zeroizing<String>, now: Timestamp) -> Result<Self, CaError> {
        // First the certificate: what is wrong with it is said better there than by the key.
        let chain = CaChain::parse(ca_pem, now)?;
        let mut keys = pem::blocks(&key_pem).map_err(CaError::KeyPem)?;
        drop(key_pem);
        keys.retain(|it| it.label.ends_with("PRIVATE KEY"));
        let [key] = keys.as_slice() else { return Err(CaError::NotAKey { found: keys.len() }) };
        let mut key = KeyPair::try_from(key.der.as_slice()).map_err(|_| CaError::Key)?;
        // rcgen keeps the key's DER beside the parsed key, and signs without it.
        key.zeroize();
        Self::checked(chain, key, now)
    }
}

impl<K: SigningKey> StationIssuer<K> {
    /// As [`StationIssuer::load`], with a key that is held elsewhere.
    ///
    /// # Errors
    /// As for [`StationIssuer::load`].
    pub fn with_key(ca_pem: &str, key: K, now: Timestamp) -> Result<Self, CaError> {
        Self::checked(CaChain::parse(ca_pem, now)?, key, now)
    }

    fn checked(chain: CaChain, key: K, now: Timestamp) -> Result<Self, CaError> {
        let subject = || chain.subject.clone();
        if key.der_bytes() != chain.public_key {
            return Err(CaError::KeyMismatch { subject: subject() });
        }
        let issuer = rcgen::Issuer::from_ca_cert_der(&chain.der, key)
            .map_err(|_| CaError::Subject { subject: subject() })?;
        let it = Self { chain, issuer };
        it.try_out(now)?;
        Ok(it)
    }

    /// Issues and verifies a leaf that nobody gets. Finds what the checks before it cannot,
    /// as a CA that may issue for servers only, or an issuer's broken signature.
    fn try_out(&self, now: Timestamp) -> Result<(), CaError> {
        // Not a host name: a CA may be constrained to some, and the trial is not about that.
        let common_name = "linemint trial".to_owned();
        let request = LeafRequest { common_name, days: 1, key: LeafKey::Station };
        let leaf = self.sign(&request, now).map_err(CaError::Trial)?;
        let issuer = X509Certificate::from_der(&leaf.der).map(|(_, it)| it.issuer().as_raw().to_vec());
        if issuer.as_ref() != Ok(&self.chain.subject_der) {
            return Err(CaError::Subject { subject: self.chain.subject.clone() });
        }
        self.verify(&leaf, &request, now).map_err(CaError::Trial)
    }

    /// The issuing CA's subject, for people.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.chain.subject
    }

    /// The CA's file as it was read, written anew: the issuing certificate and those above it, PEM.
    #[must_use]
    pub fn file_pem(&self) -> &str {
        &self.chain.file_pem
    }

    /// When it can issue no more: the end of every leaf's life.
    #[must_use]
    pub const fn end(&self) -> &CaEnd {
        &self.chain.end
    }

    /// Whether it, or a CA above it in its file, holds its leaves to names.
    #[must_use]
    pub const fn is_constrained(&self) -> bool {
        self.chain.constrained
    }

    fn sign(&self, request: &LeafRequest, now: Timestamp) -> Result<IssuedLeaf, IssueError> {
        check_common_name(&request.common_name).map_err(IssueError::Request)?;
        let (not_before, not_after, shortened) = self.validity(request.days, now)?;
        let (public_key, private_key) = match &request.key {
            LeafKey::Station => {
                let (public_key, private_key) = new_key()?;
                (public_key, Some(private_key))
            }
            LeafKey::Device(key) => (key.spki_der.clone(), None),
        };
        let (public_key, kind) = subject_key(&public_key)?;
        let serial_number = random_serial()?;
        let mut params = leaf_profile(&request.common_name, kind)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial_number));
        params.not_before = date(not_before)?;
        params.not_after = date(not_after)?;
        let certificate = params.signed_by(&public_key, &self.issuer).map_err(IssueError::Sign)?;
        let der = certificate.der().to_vec();
        Ok(IssuedLeaf {
            fingerprint: Fingerprint::of(&der),
            der,
            serial_number: hex(&serial_number),
            not_before,
            not_after,
            shortened,
            private_key,
        })
    }

    fn verify(&self, leaf: &IssuedLeaf, request: &LeafRequest, now: Timestamp) -> Result<(), IssueError> {
        let verified = self.chain.verify(&CertificateDer::from(leaf.der.as_slice()), now);
        verified.map_err(|error| match error {
            webpki::Error::NameConstraintViolation => IssueError::Name { name: request.common_name.clone() },
            error => IssueError::Verify(error),
        })
    }

    /// From, until, and whether until was cut. Whole seconds, as certificates have them.
    fn validity(&self, days: u32, now: Timestamp) -> Result<(Timestamp, Timestamp, bool), IssueError> {
        let (ca_from, ca_until) = (self.chain.not_before, self.chain.end.at);
        if now < ca_from {
            return Err(IssueError::CaNotValidYet { not_before: ca_from });
        }
        if now > ca_until {
            return Err(IssueError::CaEnded { whose: self.chain.end.whose(), not_after: ca_until });
        }
        if days == 0 {
            return Err(IssueError::Request("a certificate for 0 days is of no use".to_owned()));
        }
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let from = now.checked_sub(BACK_DATED).map_or(ca_from, |it| it.max(ca_from));
        // 2^32 days are past the end of time as well as of the CA.
        let life = SignedDuration::from_secs(i64::from(days) * 24 * 60 * 60);
        let until = now.checked_add(life).unwrap_or(Timestamp::MAX);
        Ok((from, until.min(ca_until), until > ca_until))
    }
}

impl<K: SigningKey + Send + Sync> Issuer for StationIssuer<K> {
    fn issue(&self, request: &LeafRequest, now: Timestamp) -> Result<IssuedLeaf, IssueError> {
        let leaf = self.sign(request, now)?;
        self.verify(&leaf, request, now)?;
        Ok(leaf)
    }

    fn ca(&self) -> Fingerprint {
        Fingerprint::of(&self.chain.der)
    }

    fn ca_pem(&self) -> &str {
        &self.chain.pem
    }

    fn chain_pem(&self) -> &str {
        &self.chain.follow_pem
    }
}

/// Of a CA that issues no more: its certificate's SHA-256, the certificate, and what follows its leaves, PEM.
///
/// # Errors
/// It could not issue now either.
pub(crate) fn read_chain(ca_pem: &str, now: Timestamp) -> Result<(Fingerprint, String, String), CaError> {
    let chain = CaChain::parse(ca_pem, now)?;
    Ok((Fingerprint::of(&chain.der), chain.pem, chain.follow_pem))
}

/// Everything in a leaf that is the same for each kind of key. Nothing comes from a CSR.
fn leaf_profile(common_name: &str, kind: KeyKind) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![alternative_name(common_name)?];
    // This is also what makes rcgen write the subject key identifier.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if matches!(kind, KeyKind::Rsa { .. }) {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A dNSName where the common name is a legal host name, else a URN.
fn alternative_name(common_name: &str) -> Result<SanType, IssueError> {
    // rustls takes underscores and a final dot as well, which RFC 1123 and 5280 do not.
    let is_host =
        DnsName::try_from(common_name).is_ok() && !common_name.contains('_') && !common_name.ends_with('.');
    let name = if is_host {
        common_name.to_owned()
    } else {
        format!("urn:linemint:device:{}", percent_encoded(common_name))
    };
    let name = name.try_into().map_err(IssueError::Sign)?;
    Ok(if is_host { SanType::DnsName(name) } else { SanType::URI(name) })
}

/// All but RFC 3986's unreserved characters as `%XX` of their UTF-8.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Checks a subject common name: 1 to 64 characters, none of them a control character.
pub(crate) fn check_common_name(common_name: &str) -> Result<(), String> {
    if !(1..=MAX_COMMON_NAME_CHARS).contains(&common_name.chars().count()) {
        return Err(format!("a common name has 1 to {MAX_COMMON_NAME_CHARS} characters"));
    }
    if common_name.chars().any(char::is_control) {
        return Err("a common name has no control characters".to_owned());
    }
    Ok(())
}

/// A new P-256 key pair: SubjectPublicKeyInfo and PKCS #8, both DER.
pub(crate) fn new_key() -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), IssueError> {
    let failed = |_| IssueError::KeyPair(rcgen::Error::RingUnspecified);
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?;
    let public_key: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(failed)?;
    // The document wipes itself.
    let private_key = Zeroizing::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec());
    Ok((public_key.as_ref().to_vec(), private_key))
}

/// Reads a public key, and holds it to what [`check_csr`] holds it to: it may have been
/// in a journal meanwhile.
fn subject_key(spki_der: &[u8]) -> Result<(SubjectPublicKeyInfo, KeyKind), IssueError> {
    let refused = |it: KeyRefused| IssueError::Request(format!("the public key cannot be certified: {it}"));
    let Ok(([], spki)) = x509_parser::x509::SubjectPublicKeyInfo::from_der(spki_der) else {
        return Err(refused(KeyRefused::Encoding));
    };
    let kind = public_key::kind_of(&spki, MAX_DEVICE_RSA_BITS).map_err(refused)?;
    let key = SubjectPublicKeyInfo::from_der(spki_der).map_err(IssueError::Sign)?;
    Ok((key, kind))
}

/// A certificate serial number: 16 random bytes, positive, with a first byte that is not
/// zero, so that it reads the same in DER, in hex and in other tools.
pub(crate) fn random_serial() -> Result<[u8; 16], IssueError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| IssueError::Entropy)?;
    serial[0] &= 0x7f;
    if serial[0] == 0 {
        serial[0] = 1;
    }
    Ok(serial)
}

/// A point in time as rcgen wants it.
pub(crate) fn date(at: Timestamp) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(at.as_second())
        .map_err(|_| IssueError::Request(format!("{at} cannot be written into a certificate")))
}

#[cfg(test)]
mod tests;

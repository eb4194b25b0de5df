//! Makes a station CA: a root for trials, or the key and the request for one under the company's root.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SerialNumber, SigningKey,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::issuer::{BACK_DATED, check_common_name, date, new_key, random_serial};
use super::{Fingerprint, IssueError, to_pem};

/// Life of a CA, calendar years: longer than that of the devices it is for.
const YEARS: i64 = 25;

/// A new CA: self-signed, P-256, path length 0.
pub struct NewRoot {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS #8 in PEM. Wiped on drop.
    pub key_pem: Zeroizing<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// Valid until.
    pub not_after: Timestamp,
}

/// Makes a CA that is valid for 25 years from `now`, back-dated an hour.
///
/// # Errors
/// The common name is not one, or the cryptographic library refuses.
pub fn make_root(common_name: &str, now: Timestamp) -> Result<NewRoot, IssueError> {
    check_common_name(common_name).map_err(IssueError::Request)?;
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let too_late = |_| IssueError::Request(format!("{YEARS} years from {now} are past the calendar's end"));
    let not_after = now.to_zoned(TimeZone::UTC).checked_add(YEARS.years()).map_err(too_late)?.timestamp();
    let not_before = now.checked_sub(BACK_DATED).unwrap_or(now);

    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    params.not_before = date(not_before)?;
    params.not_after = date(not_after)?;

    let (_, pkcs8) = new_key()?;
    let mut key = KeyPair::try_from(pkcs8.as_slice()).map_err(IssueError::KeyPair)?;
    key.zeroize();
    let certificate = params.self_signed(&key).map_err(IssueError::Sign)?;
    Ok(NewRoot {
        certificate_pem: certificate.pem(),
        key_pem: to_pem("PRIVATE KEY", &pkcs8),
        fingerprint: Fingerprint::of(certificate.der()),
        not_after,
    })
}

/// The key of a CA and the request for its certificate, which the company's CA is to sign.
pub struct NewAuthority {
    /// The PKCS #10 request, PEM.
    pub csr_pem: String,
    /// The private key, PKCS #8 in PEM. Wiped on drop.
    pub key_pem: Zeroizing<String>,
}

/// Makes a P-256 key and the request for a CA certificate of path length 0.
///
/// # Errors
/// As for [`make_root`].
pub fn request_authority(common_name: &str) -> Result<NewAuthority, IssueError> {
    let (_, pkcs8) = new_key()?;
    let mut key = KeyPair::try_from(pkcs8.as_slice()).map_err(IssueError::KeyPair)?;
    key.zeroize();
    let csr_pem = authority_csr(common_name, &key)?;
    Ok(NewAuthority { csr_pem, key_pem: to_pem("PRIVATE KEY", &pkcs8) })
}

/// The request for a CA certificate of path length 0, signed with `key`, PEM.
///
/// # Errors
/// As for [`make_root`].
pub fn authority_csr(common_name: &str, key: &impl SigningKey) -> Result<String, IssueError> {
    check_common_name(common_name).map_err(IssueError::Request)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let csr = params.serialize_request(key).map_err(IssueError::Sign)?;
    Ok(to_pem("CERTIFICATE REQUEST", csr.der()).to_string())
}

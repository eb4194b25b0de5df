//! What a CA's certificate says, for people.

use jiff::{SignedDuration, Timestamp};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use super::chain::{CaChain, CaError, validity};
use super::public_key::KeyKind;
use super::{Fingerprint, hex, pem};

/// A CA certificate that may issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaSummary {
    /// Its subject.
    pub subject: String,
    /// Who has issued it.
    pub issuer: String,
    /// Its serial number, lower-case hex.
    pub serial_number: String,
    /// SHA-256 of the DER: its id in AWS IoT.
    pub fingerprint: Fingerprint,
    /// The subject key identifier, lower-case hex, where it has one: what its leaves name.
    pub key_id: Option<String>,
    /// The kind of its key: `P-256`, `RSA 2048`.
    pub key: String,
    /// How many further CAs it may stand above; none: as many as one likes.
    pub path_length: Option<u32>,
    /// Whether it holds its leaves to names.
    pub name_constraints: bool,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// When it can issue no more.
    pub end: CaEnd,
    /// Certificates in its file.
    pub certificates: usize,
    /// It alone, PEM: what is registered with AWS.
    pub pem: String,
}

/// Reads a CA's file, the issuing certificate first.
///
/// # Errors
/// It is not fit to issue now.
pub fn read_authority(ca_pem: &str, now: Timestamp) -> Result<CaSummary, CaError> {
    let chain = CaChain::parse(ca_pem, now)?;
    let Ok((_, certificate)) = X509Certificate::from_der(&chain.der) else {
        return Err(CaError::Malformed { number: 1 });
    };
    let key_id = certificate.extensions().iter().find_map(|it| match it.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(hex(id.0)),
        _ => None,
    });
    let key = match chain.kind {
        KeyKind::P256 => "P-256".to_owned(),
        KeyKind::P384 => "P-384".to_owned(),
        KeyKind::Rsa { bits } => format!("RSA {bits}"),
    };
    let constraints = certificate.basic_constraints().ok().flatten();
    Ok(CaSummary {
        issuer: certificate.issuer().to_string(),
        serial_number: hex(certificate.raw_serial()),
        fingerprint: Fingerprint::of(&chain.der),
        key_id,
        key,
        path_length: constraints.and_then(|it| it.value.path_len_constraint),
        name_constraints: certificate.name_constraints().ok().flatten().is_some(),
        subject: chain.subject,
        not_before: chain.not_before,
        not_after: validity(&certificate).1,
        end: chain.end,
        certificates: chain.length,
        pem: chain.pem,
    })
}

/// The SHA-256 and the subject of a certificate in PEM, if it is one.
pub(crate) fn name_of(certificate_pem: &str) -> Option<(Fingerprint, String)> {
    let block = pem::blocks(certificate_pem).ok()?.into_iter().next()?;
    let (_, certificate) = X509Certificate::from_der(&block.der).ok()?;
    Some((Fingerprint::of(&block.der), certificate.subject().to_string()))
}

/// Earlier than this a CA's end is no matter: renewing one takes a company weeks or months.
const WARNED_BEFORE: SignedDuration = SignedDuration::from_hours(365 * 24);

/// When a CA can issue no more: at its own end, or at that of a certificate above it in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaEnd {
    /// The first of these.
    pub at: Timestamp,
    /// The subject of the certificate above that ends first; none if it is the CA's own.
    pub above: Option<String>,
}

impl CaEnd {
    /// Whose end it is, for the middle of a sentence.
    #[must_use]
    pub fn whose(&self) -> String {
        self.above.as_ref().map_or_else(|| "the CA".to_owned(), |it| format!("{it}, above the CA,"))
    }
}

/// What has to be done about a CA that ends within a year, in one sentence.
#[must_use]
pub fn expiry_warning(end: &CaEnd, now: Timestamp) -> Option<String> {
    let left = end.at.duration_since(now);
    if left >= WARNED_BEFORE {
        return None;
    }
    let (whose, day) = (end.whose(), end.at.strftime("%F"));
    Some(if left.is_negative() {
        format!("{whose} has ended on {day}, and nothing is issued any more")
    } else {
        let days = left.as_hours() / 24;
        format!("{whose} ends on {day}, in {days} days; have it renewed: what is issued ends with it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::authority::make_root;

    #[test]
    fn a_cas_end_is_told_a_year_ahead() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let end = |days: i64| CaEnd { at: now + SignedDuration::from_hours(24 * days), above: None };
        let in_days = |days: i64| expiry_warning(&end(days), now);
        assert_eq!(in_days(365), None);
        assert!(in_days(364).unwrap().starts_with("the CA ends on 2027-11-20, in 364 days; have it renewed"));
        assert!(in_days(-1).unwrap().starts_with("the CA has ended on 2026-11-20"));
        let above = CaEnd { above: Some("CN=Policy".to_owned()), ..end(3) };
        let told = expiry_warning(&above, now).unwrap();
        assert!(told.starts_with("CN=Policy, above the CA, ends on 2026-11-24, in 3 days; "), "{told}");
    }

    #[test]
    fn a_ca_tells_what_it_is_and_an_expired_one_only_that() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let root = make_root("Line 3", now).unwrap();
        let it = read_authority(&root.certificate_pem, now).unwrap();
        assert_eq!(
            (it.subject.as_str(), it.issuer.as_str(), it.key.as_str()),
            ("CN=Line 3", "CN=Line 3", "P-256")
        );
        assert_eq!((it.path_length, it.name_constraints, it.certificates), (Some(0), false, 1));
        assert_eq!(
            (it.fingerprint, it.not_after, it.pem),
            (root.fingerprint, root.not_after, root.certificate_pem.clone())
        );
        assert_eq!(it.key_id.map(|it| it.len()), Some(40));
        let later = root.not_after + jiff::SignedDuration::from_secs(1);
        let error = read_authority(&root.certificate_pem, later).unwrap_err();
        assert!(matches!(error, CaError::NotValid { .. }) && error.to_string().contains("is not valid now"));
    }
}

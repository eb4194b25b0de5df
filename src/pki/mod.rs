//! Identity: what a device certificate holds, and who makes it.

pub mod authority;
mod chain;
pub mod csr;
pub mod issuer;
pub mod leaf;
mod pem;
pub mod pkcs11;
mod public_key;
pub mod request;
pub mod summary;
pub mod token;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// SHA-256 of a certificate's DER. In lower-case hex it is the certificate's id in AWS IoT.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint([u8; 32]);

/// The text is not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hex digits")]
pub struct NotAFingerprint;

impl Fingerprint {
    /// The fingerprint of `der`, a certificate or a public key.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// That of which these are the bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first 64 bits, where many are to be kept and a rare mistake can be found out.
    #[must_use]
    pub fn short(&self) -> u64 {
        self.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        if text.len() != 64 || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(NotAFingerprint);
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| NotAFingerprint)?;
        }
        Ok(Self(bytes))
    }
}

impl From<Fingerprint> for String {
    fn from(it: Fingerprint) -> Self {
        it.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NotAFingerprint;

    fn try_from(text: String) -> Result<Self, NotAFingerprint> {
        text.parse()
    }
}

/// A leaf to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRequest {
    /// Subject CN, and the subject alternative name: a dNSName where it is a legal host name, else a URI.
    pub common_name: String,
    /// Life in days from now; cut to the end of the CA or of what is above it.
    pub days: u32,
    /// Whose key is certified.
    pub key: LeafKey,
}

/// Whose key a leaf certifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafKey {
    /// The station makes one (P-256) and hands it over.
    Station,
    /// The device made one; this is its public half as checked by [`check_csr`](issuer::check_csr).
    Device(DevicePublicKey),
}

/// A device's own public key: a SubjectPublicKeyInfo in DER whose private half the device has
/// proved to hold and whose type AWS IoT accepts (P-256, P-384, RSA of 2,048 bits and more).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DevicePublicKey {
    /// The SubjectPublicKeyInfo, DER, base64 in records.
    #[serde(with = "crate::pki::base64_der")]
    pub spki_der: Vec<u8>,
}

impl DevicePublicKey {
    /// SHA-256 of the SubjectPublicKeyInfo: by this two keys are compared.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.spki_der)
    }
}

/// A leaf that was issued and verified against its chain.
pub struct IssuedLeaf {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// SHA-256 of `der`.
    pub fingerprint: Fingerprint,
    /// Certificate serial number, lower-case hex.
    pub serial_number: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// Whether its life was cut to the CA's end.
    pub shortened: bool,
    /// The private key (PKCS#8 DER) if the station made it. Wiped on drop.
    pub private_key: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for IssuedLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedLeaf")
            .field("fingerprint", &self.fingerprint)
            .field("serial_number", &self.serial_number)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .field("has_private_key", &self.private_key.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a leaf was not issued, or the CA cannot issue.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum IssueError {
    #[error("failed to make a key pair")]
    KeyPair(#[source] rcgen::Error),
    #[error("failed to sign the certificate")]
    Sign(#[source] rcgen::Error),
    #[error("the certificate that was made does not verify against the CA: {0}")]
    Verify(webpki::Error),
    #[error("the CA is not valid now: it is valid from {not_before} on")]
    CaNotValidYet { not_before: Timestamp },
    #[error("the CA's name constraints do not allow {name}")]
    Name { name: String },
    #[error("{whose} is not valid any more: it has ended at {not_after}")]
    CaEnded { whose: String, not_after: Timestamp },
    #[error("{0}")]
    Request(String),
    #[error("the system has no random numbers")]
    Entropy,
    #[error("the CA's key is in a token, which cannot sign: {0}")]
    Token(String),
    #[error("the CA's key is in a token, which lets nobody in: {0}")]
    TokenPin(String),
    #[error("the CA's key is not the one in the token: {0}")]
    TokenKey(String),
}

/// Makes leaves. Called on a thread that may block.
pub trait Issuer: Send + Sync {
    /// Issues one leaf: random 128-bit positive serial number, clientAuth, notBefore an hour
    /// before `now`, verified with webpki before it is returned.
    ///
    /// # Errors
    /// The CA is not valid now, the key cannot be used, or the result does not verify.
    fn issue(&self, request: &LeafRequest, now: Timestamp) -> Result<IssuedLeaf, IssueError>;

    /// SHA-256 of the CA certificate.
    fn ca(&self) -> Fingerprint;

    /// The CA certificate in PEM, as registered with AWS.
    fn ca_pem(&self) -> &str;

    /// What follows the leaf in a chain handed to a device: the intermediates in PEM, possibly empty.
    fn chain_pem(&self) -> &str;
}

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// Wraps DER as PEM under `label` (`CERTIFICATE`, `PRIVATE KEY`), 64 characters a line, LF.
#[must_use]
pub fn to_pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    use base64::Engine as _;
    let body = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(der));
    // Reserved whole, so that no copy of a key is left behind by a growing string.
    let mut pem = Zeroizing::new(String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40));
    pem.push_str("-----BEGIN ");
    pem.push_str(label);
    pem.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

/// Serde for DER as base64 text.
pub mod base64_der {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes bytes as base64.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads bytes from base64.
    ///
    /// # Errors
    /// The deserializer's, or the text is not base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_what_it_prints_and_refuses_the_rest() {
        let it = Fingerprint::of(b"linemint");
        assert_eq!(it.to_string().parse(), Ok(it));
        assert_eq!(it.to_string().to_uppercase().parse(), Ok(it));
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65), &"+f".repeat(32)] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(NotAFingerprint), "{bad}");
        }
    }

    #[test]
    fn pem_has_lines_of_64() {
        let pem = to_pem("CERTIFICATE", &[7; 100]);
        assert!(pem.lines().all(|line| line.len() <= 64));
        assert!(
            pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.ends_with("-----END CERTIFICATE-----\n")
        );
    }
}

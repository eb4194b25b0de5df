//! The signature of a report: a detached JSON Web Signature (RFC 7515, appendix F) with ES256 over the report's
//! canonical JSON. The signed report is that JSON with one more member:
//!
//! ```text
//! "signature": {"jws": "HEADER..SIGNATURE", "key": {"crv": "P-256", "kty": "EC", "x": "…", "y": "…"}}
//! ```
//! What is signed is all the rest, in canonical form, with the journal's head hash in it and in the header.

mod unique;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use self::unique::Unique;
use super::model::{Report, SCHEMA};
use super::render::json::canonical;
use crate::pki::hex;

/// What a P-256 public key begins with as SubjectPublicKeyInfo (RFC 5480).
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// An uncompressed point of P-256, bytes.
const POINT: usize = 65;

/// The station's report key.
pub struct Signer {
    pair: EcdsaKeyPair,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", thumbprint(self.pair.public_key().as_ref()))
    }
}

/// Why a report is not taken for what its station has made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum Untrue {
    #[error("it is no report of linemint's: {0}")]
    Foreign(String),
    #[error("it carries no signature")]
    Unsigned,
    #[error("its signature cannot be read")]
    Form,
    #[error("it is signed by another key ({0})")]
    OtherKey(String),
    #[error("it was changed after it was signed")]
    Changed,
    #[error("the public key cannot be read: it has to be a P-256 key in PEM (report.pub)")]
    Key,
    #[error("the signature cannot be made")]
    Unmade,
}

/// A report whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The key's thumbprint (RFC 7638).
    pub key: String,
    /// SHA-256 of the canonical JSON without the signature.
    pub hash: String,
    /// The report.
    pub report: Report,
}

impl Signer {
    /// Makes a key: what it is kept as, PKCS#8 DER.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn generate() -> Result<zeroize::Zeroizing<Vec<u8>>, Untrue> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| Untrue::Unmade)?;
        let der = pair.to_pkcs8v1().map_err(|_| Untrue::Unmade)?;
        Ok(zeroize::Zeroizing::new(der.as_ref().to_vec()))
    }

    /// The key of a PKCS#8 DER.
    ///
    /// # Errors
    /// It is no P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Untrue> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| Untrue::Key)?;
        Ok(Self { pair })
    }

    /// The public key, PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        let der = [&SPKI_HEAD[..], self.pair.public_key().as_ref()].concat();
        let text = STANDARD.encode(der);
        let (first, second) = text.split_at(64);
        format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n")
    }

    /// The report's canonical JSON with its signature. Without random numbers it is unsigned, which whoever
    /// verifies it is told.
    #[must_use]
    pub fn signed(&self, report: &Report) -> String {
        let payload = canonical(report);
        let point = self.pair.public_key().as_ref();
        let header = json!({"alg": "ES256", "journal": report.journal.head_hash, "kid": thumbprint(point), "typ": SCHEMA});
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(&payload));
        let mut value = serde_json::to_value(report).unwrap_or_default();
        if let Ok(signature) = self.pair.sign(&SystemRandom::new(), message.as_bytes()) {
            let jws = format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
            value["signature"] = json!({"jws": jws, "key": jwk(point)});
        }
        canonical(&value)
    }
}

/// SHA-256 of a report's canonical JSON, without a signature.
#[must_use]
pub fn hash(report: &Report) -> String {
    hex(digest(&SHA256, canonical(report).as_bytes()).as_ref())
}

/// Whether a signed report is what its station has made: by one of the keys in `pems` or, without any, by the key that it
/// carries itself, which shows that it was not changed, but not by whom it was made.
///
/// # Errors
/// It is not, and why.
pub fn verify(text: &str, pems: &[String]) -> Result<Verified, Untrue> {
    let Unique(mut value) = serde_json::from_str(text).map_err(|error| Untrue::Foreign(error.to_string()))?;
    if value["schema"] != SCHEMA {
        return Err(Untrue::Foreign(format!("its schema is not {SCHEMA}")));
    }
    let members = value.as_object_mut().ok_or(Untrue::Form)?;
    let signature = members.remove("signature").ok_or(Untrue::Unsigned)?;
    let point = point_of_jwk(&signature["key"]).ok_or(Untrue::Form)?;
    let known: Vec<_> =
        pems.iter().map(|it| point_of_pem(it).ok_or(Untrue::Key)).collect::<Result<_, _>>()?;
    let jws = signature["jws"].as_str().ok_or(Untrue::Form)?;
    let (header, made) = jws.split_once("..").ok_or(Untrue::Form)?;
    let head = URL_SAFE_NO_PAD.decode(header).map_err(|_| Untrue::Form)?;
    let head: Value = serde_json::from_slice(&head).map_err(|_| Untrue::Form)?;
    if head["alg"] != "ES256" {
        return Err(Untrue::Form);
    }
    if !known.is_empty() && !known.contains(&point) {
        return Err(Untrue::OtherKey(thumbprint(&point)));
    }
    let payload = canonical(&value);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(&payload));
    let made = URL_SAFE_NO_PAD.decode(made).map_err(|_| Untrue::Form)?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point);
    key.verify(message.as_bytes(), &made).map_err(|_| Untrue::Changed)?;
    if head["journal"] != value["journal"]["head_hash"] {
        return Err(Untrue::Changed);
    }
    let hash = hex(digest(&SHA256, payload.as_bytes()).as_ref());
    let report = serde_json::from_value(value).map_err(|error| Untrue::Foreign(error.to_string()))?;
    Ok(Verified { key: thumbprint(&point), hash, report })
}

fn jwk(point: &[u8]) -> Value {
    let half = |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
    json!({"crv": "P-256", "kty": "EC", "x": half(1), "y": half(33)})
}

/// RFC 7638: what names a key.
fn thumbprint(point: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical(&jwk(point)).as_bytes()))
}

fn point_of_jwk(key: &Value) -> Option<Vec<u8>> {
    let half = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok().filter(|it| it.len() == 32);
    Some([vec![4], half("x")?, half("y")?].concat())
}

fn point_of_pem(pem: &str) -> Option<Vec<u8>> {
    let body: String = pem.lines().filter(|it| !it.starts_with("-----")).map(str::trim).collect();
    let der = STANDARD.decode(body).ok()?;
    let point = der.strip_prefix(&SPKI_HEAD[..])?;
    (point.len() == POINT).then(|| point.to_vec())
}

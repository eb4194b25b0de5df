//! Which public keys are good enough, for a CA and for a device.

use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_RSASSAPSS, OID_SIG_ED25519,
};
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

/// The largest exponent that AWS-LC verifies with: 33 bits.
const MAX_RSA_EXPONENT: u64 = (1 << 33) - 1;

/// A kind of key that AWS IoT accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// RSA with a modulus of so many bits.
    Rsa { bits: usize },
}

/// Why a public key is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum KeyRefused {
    #[error("the key is {kind}; use P-256, P-384 or RSA 2048-{max_rsa_bits}")]
    Kind { kind: &'static str, max_rsa_bits: usize },
    #[error("the RSA key has {bits} bits; use P-256, P-384 or RSA 2048-{max_rsa_bits}")]
    RsaLength { bits: usize, max_rsa_bits: usize },
    #[error("the RSA key's exponent is not an odd number from 3 to 2^33")]
    RsaExponent,
    #[error("the key's encoding is broken or unusual")]
    Encoding,
}

/// The kind of a key, if it is one that is accepted.
pub(crate) fn kind_of(spki: &SubjectPublicKeyInfo<'_>, max_rsa_bits: usize) -> Result<KeyKind, KeyRefused> {
    let kind = match spki.parsed() {
        Ok(PublicKey::EC(_)) if spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
            curve_of(spki, max_rsa_bits)?
        }
        Ok(PublicKey::RSA(key)) if spki.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION => {
            KeyKind::Rsa { bits: rsa_bits(&key, max_rsa_bits)? }
        }
        Ok(_) => return Err(other_kind(spki, max_rsa_bits)),
        Err(_) => return Err(KeyRefused::Encoding),
    };
    // A certificate gets the key as rcgen writes it: that must be what the holder has proved.
    let written = rcgen::SubjectPublicKeyInfo::from_der(spki.raw)
        .map(|it| rcgen::PublicKeyData::subject_public_key_info(&it));
    if written.as_deref() != Ok(spki.raw) {
        return Err(KeyRefused::Encoding);
    }
    Ok(kind)
}

fn curve_of(spki: &SubjectPublicKeyInfo<'_>, max_rsa_bits: usize) -> Result<KeyKind, KeyRefused> {
    // Explicit parameters are a sequence, which `as_oid` would read all the same.
    let named = spki.algorithm.parameters.as_ref().filter(|it| it.tag() == Tag::Oid);
    let curve = named.and_then(|it| it.as_oid().ok());
    let (kind, point_len) = match curve {
        Some(it) if it == OID_EC_P256 => (KeyKind::P256, 65),
        Some(it) if it == OID_NIST_EC_P384 => (KeyKind::P384, 97),
        Some(it) if it == OID_NIST_EC_P521 => {
            return Err(KeyRefused::Kind { kind: "ECDSA on P-521", max_rsa_bits });
        }
        Some(_) => {
            return Err(KeyRefused::Kind { kind: "of another curve", max_rsa_bits });
        }
        None => return Err(KeyRefused::Encoding),
    };
    // Uncompressed: the one form that every TLS peer reads.
    let point = &spki.subject_public_key.data;
    if point.len() != point_len || point[0] != 4 {
        return Err(KeyRefused::Encoding);
    }
    Ok(kind)
}

fn rsa_bits(key: &RSAPublicKey<'_>, max_rsa_bits: usize) -> Result<usize, KeyRefused> {
    let first = key.modulus.iter().position(|it| *it != 0).ok_or(KeyRefused::Encoding)?;
    if key.modulus[0] & 0x80 != 0 || key.modulus.last().is_none_or(|it| it % 2 == 0) {
        return Err(KeyRefused::Encoding);
    }
    let digits = &key.modulus[first..];
    let bits = digits.len() * 8 - digits[0].leading_zeros() as usize;
    if !(2048..=max_rsa_bits).contains(&bits) {
        return Err(KeyRefused::RsaLength { bits, max_rsa_bits });
    }
    let exponent = key.try_exponent().map_err(|_| KeyRefused::RsaExponent)?;
    if exponent < 3 || exponent % 2 == 0 || exponent > MAX_RSA_EXPONENT {
        return Err(KeyRefused::RsaExponent);
    }
    Ok(bits)
}

fn other_kind(spki: &SubjectPublicKeyInfo<'_>, max_rsa_bits: usize) -> KeyRefused {
    let algorithm = &spki.algorithm.algorithm;
    let kind = if *algorithm == OID_SIG_ED25519 {
        "Ed25519"
    } else if *algorithm == OID_PKCS1_RSASSAPSS {
        "RSA-PSS"
    } else {
        "of another kind"
    };
    KeyRefused::Kind { kind, max_rsa_bits }
}

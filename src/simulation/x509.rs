//! Requests and certificates as bytes that are quickly made: each key and each certificate another, always
//! the same for the same number, and as much X.509 as is read of them. Nobody checks their signatures.

use crate::pki::Fingerprint;

/// What stands before the point of a P-256 key in its `SubjectPublicKeyInfo`.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Bytes of such a `SubjectPublicKeyInfo`.
const SPKI_BYTES: usize = P256.len() + 65;

/// `AlgorithmIdentifier` of ECDSA with SHA-256.
const ECDSA: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// Valid until the end of 2049, as what AWS issues.
const VALIDITY: &[u8] = b"\x30\x1e\x17\x0d260101000000Z\x17\x0d491231235959Z";

/// A public key that is another for each number.
pub(super) fn public_key(number: u64) -> Vec<u8> {
    let point = Fingerprint::of(format!("key {number}").as_bytes()).to_string();
    [&P256[..], &[4], point.as_bytes()].concat()
}

/// The public key in a request.
pub(super) fn key_in(request: &[u8]) -> Option<&[u8]> {
    let at = request.windows(P256.len()).position(|it| it == P256)?;
    request.get(at..at + SPKI_BYTES)
}

/// A PKCS #10 request for a public key.
pub(super) fn request(public_key: &[u8]) -> Vec<u8> {
    let info = der(0x30, &[&[2, 1, 0], &der(0x30, &[]), public_key, &[0xa0, 0]]);
    der(0x30, &[&info, &ECDSA, &signature()])
}

/// The certificate of that number for a public key.
pub(super) fn certificate(number: u64, public_key: &[u8]) -> Vec<u8> {
    let serial = [&[2, 9, 1][..], &number.to_be_bytes()].concat();
    let nobody = der(0x30, &[]);
    let to_be_signed =
        der(0x30, &[&[0xa0, 3, 2, 1, 2], &serial, &ECDSA, &nobody, VALIDITY, &nobody, public_key]);
    der(0x30, &[&to_be_signed, &ECDSA, &signature()])
}

fn signature() -> Vec<u8> {
    der(3, &[&[0, 0x30, 6, 2, 1, 1, 2, 1, 1]])
}

/// An element of DER, at most 64 KiB long.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let head: &[u8] = match body.len() {
        0..0x80 => &[tag, length[1]],
        0x80..0x100 => &[tag, 0x81, length[1]],
        _ => &[tag, 0x82, length[0], length[1]],
    };
    [head, &body].concat()
}

#[test]
fn what_is_made_is_read_as_what_it_is() {
    use crate::pki::leaf::read_leaf;
    use crate::pki::to_pem;
    let key = public_key(7);
    assert_eq!(key_in(&request(&key)), Some(&key[..]));
    let leaf = |number| read_leaf(&to_pem("CERTIFICATE", &certificate(number, &key))).unwrap();
    assert_eq!(leaf(1).public_key, Fingerprint::of(&key));
    assert_eq!(leaf(1).not_after.as_second(), 2_524_607_999);
    assert_ne!(leaf(1).fingerprint, leaf(2).fingerprint);
}

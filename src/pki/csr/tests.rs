use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm, SigningKey,
};

use super::*;
use crate::pki::to_pem;

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "what the device calls itself");
    params
}

fn csr_of(key: &impl SigningKey) -> String {
    params().serialize_request(key).unwrap().pem().unwrap()
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

/// An RSA key that nobody has: the shape is what is looked at.
struct MadeUpRsa(Vec<u8>);

impl MadeUpRsa {
    fn new(modulus: &[u8], exponent: &[u8]) -> Self {
        let content = [integer(modulus), integer(exponent)].concat();
        Self(tagged(0x30, &content))
    }
}

fn integer(magnitude: &[u8]) -> Vec<u8> {
    let padding: &[u8] = if magnitude[0] & 0x80 == 0 { &[] } else { &[0] };
    tagged(2, &[padding, magnitude].concat())
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        0..128 => vec![tag, length[1]],
        128..256 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    [head.as_slice(), content].concat()
}

impl PublicKeyData for MadeUpRsa {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

impl SigningKey for MadeUpRsa {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(vec![1; 256])
    }
}

#[test]
fn the_key_and_only_the_key_is_taken_from_a_csr() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA256] {
        let key = key(algorithm);
        let expected = DevicePublicKey { spki_der: key.subject_public_key_info() };
        let pem = csr_of(&key);
        assert_eq!(check_csr(&pem), Ok(expected.clone()));
        assert_eq!(check_csr(&pem.replace("CERTIFICATE REQ", "NEW CERTIFICATE REQ")), Ok(expected.clone()));
        assert_eq!(check_csr(&pem.replace('\n', "\r\n")), Ok(expected));
    }
}

#[test]
fn extensions_that_nobody_knows_do_not_matter() {
    let key = key(&PKCS_ECDSA_P256_SHA256);
    let mut params = params();
    let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0x05, 0x00]);
    unknown.set_criticality(true);
    params.custom_extensions = vec![unknown];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    assert_eq!(check_csr(&pem), Ok(DevicePublicKey { spki_der: key.subject_public_key_info() }));
}

#[test]
fn a_changed_csr_proves_nothing() {
    let pem = csr_of(&key(&PKCS_ECDSA_P256_SHA256));
    let der = pem::blocks(&pem).unwrap().remove(0).der;
    let csr = X509CertificationRequest::from_der(&der).unwrap().1;
    let signed = 3..3 + csr.certification_request_info.raw.len();
    assert_eq!(der[signed.clone()], *csr.certification_request_info.raw);
    let signature = der.len() - csr.signature_value.data.len() - 1..der.len();
    // Between them stands the algorithm's name, whose tag the parser does not mind.
    for i in signed.chain(signature) {
        let mut changed = der.to_vec();
        changed[i] ^= 1;
        let taken = check_csr(&to_pem("CERTIFICATE REQUEST", &changed));
        assert!(taken.is_err(), "byte {i}");
    }
    let mut subject = der.to_vec();
    let at = subject.windows(6).position(|it| it == b"device").unwrap();
    subject[at] = b'D';
    assert_eq!(check_csr(&to_pem("CERTIFICATE REQUEST", &subject)), Err(CsrError::Signature));
}

#[test]
fn what_is_not_one_csr_is_refused() {
    let pem = csr_of(&key(&PKCS_ECDSA_P256_SHA256));
    let der = pem::blocks(&pem).unwrap().remove(0).der;
    assert_eq!(check_csr(""), Err(CsrError::Pem(PemError::NoBlock)));
    assert_eq!(
        check_csr(&pem.replace("CERTIFICATE REQUEST", "CERTIFICATE")),
        Err(CsrError::Label { found: "CERTIFICATE".to_owned() })
    );
    assert_eq!(check_csr(&pem.repeat(2)), Err(CsrError::Label { found: "2 blocks".to_owned() }));
    let trailing = [der.as_slice(), &[0]].concat();
    for bad in [&trailing[..], &der[..der.len() - 1], b"", b"\x30\x00"] {
        assert_eq!(check_csr(&to_pem("CERTIFICATE REQUEST", bad)), Err(CsrError::Malformed));
    }
}

#[test]
fn a_csr_may_have_4096_characters() {
    let pem = csr_of(&key(&PKCS_ECDSA_P256_SHA256));
    let padded = |length: usize| format!("{}{pem}", "é".repeat(length - pem.len()));
    assert!(check_csr(&padded(4096)).is_ok());
    assert_eq!(check_csr(&padded(4097)), Err(CsrError::TooLong));
}

#[test]
fn kinds_of_key_that_are_not_accepted_are_named() {
    for (algorithm, name) in [(&PKCS_ED25519, "Ed25519"), (&PKCS_ECDSA_P521_SHA512, "ECDSA on P-521")] {
        let Err(CsrError::Key(KeyRefused::Kind { kind, .. })) = check_csr(&csr_of(&key(algorithm))) else {
            panic!("{name} was taken");
        };
        assert_eq!(kind, name);
    }
}

#[test]
fn an_rsa_key_has_2048_to_4096_bits_and_a_sane_exponent() {
    let modulus = |bits: usize| {
        let mut it = vec![0x55; bits.div_ceil(8)];
        it[0] = 1 << ((bits - 1) % 8);
        it
    };
    let check = |modulus: &[u8], exponent: &[u8]| check_csr(&csr_of(&MadeUpRsa::new(modulus, exponent)));
    let f4: &[u8] = &[1, 0, 1];
    for bits in [512, 1024, 2047, 4097] {
        let expected = KeyRefused::RsaLength { bits, max_rsa_bits: 4096 };
        assert_eq!(check(&modulus(bits), f4), Err(CsrError::Key(expected)));
    }
    for exponent in [&[1][..], &[2], &[1, 0, 0], &[4, 0, 0, 0, 1], &[1; 9]] {
        assert_eq!(check(&modulus(2048), exponent), Err(CsrError::Key(KeyRefused::RsaExponent)));
    }
    let even = [&modulus(2048)[..255], &[2]].concat();
    assert_eq!(check(&even, f4), Err(CsrError::Key(KeyRefused::Encoding)));
    // Everything about these is in order, except that nobody has signed.
    for (bits, exponent) in [(2048, f4), (4096, f4), (2048, &[3])] {
        assert_eq!(check(&modulus(bits), exponent), Err(CsrError::Signature));
    }
}

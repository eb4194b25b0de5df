//! Whatever holds a private key shows none when it is printed.

use std::fmt::Debug;

use zeroize::Zeroizing;

use super::intake::Outgoing;
use crate::clock::{SystemClock, TimeSource as _};
use crate::device::serial::SerialNumber;
use crate::fixture::frame::{Decoded, FixtureDecoder, encode_station};
use crate::fixture::{Credentials, StationMessage};
use crate::journal::keys::{KeyStore, SealKey};
use crate::pki::authority::NewRoot;
use crate::pki::issuer::StationIssuer;
use crate::pki::{Issuer as _, LeafKey, LeafRequest, authority, to_pem};

/// Fails if `it` shows any part of one of the secrets: as it is, in hex, in base64, as a list of numbers.
fn shows_none(name: &str, it: &dyn Debug, secrets: &[&[u8]]) {
    use base64::Engine as _;
    for text in [format!("{it:?}"), format!("{it:#?}")] {
        let plain: String = text.chars().filter(|it| !it.is_whitespace()).collect();
        assert!(!plain.contains("PRIVATEKEY"), "{name}: {text}");
        for secret in secrets {
            for part in secret.chunks_exact(12) {
                let hex: String = part.iter().map(|it| format!("{it:02x}")).collect();
                let numbers = part.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                let base64 = base64::engine::general_purpose::STANDARD.encode(part);
                let raw = String::from_utf8_lossy(part).into_owned();
                for shown in [hex, numbers, base64, raw] {
                    assert!(!plain.contains(&shown), "{name} shows {shown}");
                }
            }
        }
    }
}

#[test]
fn whatever_holds_a_private_key_shows_none_when_it_is_printed() {
    let now = SystemClock::default().now().wall;
    let NewRoot { certificate_pem, key_pem, .. } = authority::make_root("a CA", now).unwrap();
    let issuer = StationIssuer::load(&certificate_pem, key_pem.clone(), now).unwrap();
    let request = LeafRequest { common_name: "SN1".to_owned(), days: 1, key: LeafKey::Station };
    let leaf = issuer.issue(&request, now).unwrap();
    let key: Zeroizing<Vec<u8>> = leaf.private_key.clone().unwrap();
    let pem = to_pem("PRIVATE KEY", &key);
    let body: String = pem.lines().filter(|it| !it.starts_with('-')).collect();
    let dir = tempfile::tempdir().unwrap();
    let seal_path = dir.path().join("seal.key");
    let seal_key = SealKey::load_or_create(&seal_path, true).unwrap();
    let seal_bytes = std::fs::read(&seal_path).unwrap();
    let ca_body: String = key_pem.lines().filter(|it| !it.starts_with('-')).collect();
    // The first bytes say what kind of key it is, as in every certificate.
    let secrets = [&key[36..68], &body.as_bytes()[48..], &ca_body.as_bytes()[48..], &seal_bytes];

    shows_none("the issuer", &issuer, &secrets);
    shows_none("a leaf", &leaf, &secrets);
    shows_none("the seal key", &seal_key, &secrets);
    let keys = KeyStore::open(dir.path().join("keys"), "0", seal_key).unwrap();
    keys.store_many(vec![(leaf.fingerprint, key.clone())]).unwrap();
    shows_none("the key store", &keys, &secrets);
    let credentials = Credentials {
        id: 1,
        serial: "SN1".to_owned(),
        thing: "SN1".to_owned(),
        certificate: to_pem("CERTIFICATE", &leaf.der).to_string(),
        certificate_sha256: leaf.fingerprint.to_string(),
        private_key: Some(pem.clone()),
        ca: None,
        endpoint: None,
        locker_id: None,
    };
    shows_none("credentials", &credentials, &secrets);
    let serial = SerialNumber::parse("SN1").unwrap();
    let offer =
        Outgoing::Offer { credentials: Box::new(credentials.clone()), key: Some(leaf.fingerprint), serial };
    shows_none("an offer", &offer, &secrets);
    let message = StationMessage::Credentials(credentials);
    shows_none("a message", &message, &secrets);
    let mut decoder = FixtureDecoder::new();
    let frame = encode_station(&message).unwrap();
    // Half a line that holds the key, then the rest of it.
    let (first, second) = frame.split_at(frame.len() - 5);
    decoder.push(first);
    shows_none("half a line", &decoder, &secrets);
    decoder.push(second);
    let decoded: Vec<Decoded<StationMessage>> = decoder.by_ref().collect();
    assert_eq!(decoded.len(), 1);
    shows_none("what was read", &decoded, &secrets);
    shows_none("a message to be sent", &Outgoing::Message(message, None), &secrets);
}

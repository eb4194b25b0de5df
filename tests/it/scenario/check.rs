//! What holds for every message of the station, whatever the scenario.

use std::collections::HashMap;

use linemint::pki::Fingerprint;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, PublicKeyData as _};
use serde_json::Value;
use x509_parser::pem::Pem;

/// Signing requests by the name of their key.
#[derive(Default)]
pub(crate) struct Keys(HashMap<String, KeyPair>);

impl Keys {
    /// A signing request with the key of that name; one that wants to be a CA if so.
    pub(crate) fn csr(&mut self, name: &str, ca: bool) -> String {
        let key = self.0.entry(name.to_owned()).or_insert_with(|| KeyPair::generate().unwrap());
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "whoever it says");
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.serialize_request(key).unwrap().pem().unwrap()
    }
}

/// Panics if a message is not as every message has to be.
pub(crate) fn message(it: &Value) {
    match it["type"].as_str().unwrap() {
        "nak" | "fail" => verdict(it),
        "credentials" => credentials(it),
        _ => {}
    }
}

fn verdict(it: &Value) {
    let text = it["message"].as_str().unwrap();
    let legal = !text.is_empty() && text.chars().count() <= 120 && !text.contains(char::is_control);
    assert!(legal, "the operator cannot read {text:?}");
    if it["type"] == "fail" {
        let final_codes = ["rejected", "conflict", "mismatch", "quarantined", "superseded"];
        let retry = !final_codes.contains(&it["code"].as_str().unwrap());
        assert_eq!(it["retry"], retry, "{it}");
    }
}

fn credentials(it: &Value) {
    let pems: Vec<Pem> = Pem::iter_from_buffer(it["certificate"].as_str().unwrap().as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    let leaf = &pems[0];
    assert_eq!(Fingerprint::of(&leaf.contents).to_string(), it["certificate_sha256"]);
    let leaf = leaf.parse_x509().unwrap();
    assert!(!leaf.is_ca(), "the station has issued a CA");
    let names: Vec<_> = leaf.subject().iter_common_name().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(names, [it["serial"].as_str().unwrap()]);
    if let Some(key) = it["private_key"].as_str() {
        let key = KeyPair::from_pem(key).unwrap();
        assert_eq!(key.der_bytes(), &*leaf.public_key().subject_public_key.data, "the key is another one's");
    }
}

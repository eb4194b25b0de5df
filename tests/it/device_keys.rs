//! Keys that devices make: what a CSR is not taken for, and what is taken from one.

use linemint::pki::to_pem;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData as _,
};
use serde_json::{Value, json};
use x509_parser::pem::Pem;

use crate::authority::{has_openssl, openssl};
use crate::harness::World;

const OVER: &str = "[product.thermostat.certificate]\nkey = \"device\"\n";

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "SN0000000001");
    params
}

fn der(pem: &str) -> Vec<u8> {
    Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap().contents
}

/// Requests that no device may come with, each with what is told of it.
fn bad(world: &World) -> Vec<(String, &'static str)> {
    let good = params().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let mut forged = der(&good);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut all = vec![
        (format!("{good}{}", "\n".repeat(5 * 1024 - good.len())), "the CSR is longer than 4096 characters"),
        ("-----BEGIN NOTHING".to_owned(), "PEM"),
        (to_pem("CERTIFICATE REQUEST", b"nonsense").to_string(), "CSR"),
        (to_pem("CERTIFICATE REQUEST", &forged).to_string(), "signature"),
        (params().serialize_request(&edwards).unwrap().pem().unwrap(), "Ed25519"),
    ];
    if has_openssl("a CSR with a weak key") {
        let weak = "req -new -newkey rsa:1024 -nodes -keyout weak.key -out weak.csr -subj /CN=SN0000000001";
        openssl(&world.path(""), &weak.split_whitespace().collect::<Vec<_>>());
        all.push((std::fs::read_to_string(world.path("weak.csr")).unwrap(), "1024 bits"));
    }
    all
}

#[test]
fn a_bad_csr_is_told_at_once_and_nothing_is_made_for_it() {
    let (world, mut fixture) = World::running(OVER);
    for (id, (csr, sentence)) in (1..).zip(bad(&world)) {
        fixture.send(&json!({ "type": "unit", "id": id, "serial": "SN0000000001", "csr": csr }));
        let nak = fixture.expect(&json!({ "type": "nak", "id": id, "code": "bad-unit" }));
        let told = nak["message"].as_str().unwrap();
        assert!(told.contains(sentence), "{sentence}: {told}");
    }
    assert_eq!(world.get("/v1/devices").unwrap()["devices"], json!([]), "none is admitted");
    let made: Vec<_> = world.cloud().rows().into_iter().filter(|it| it.effect).collect();
    assert!(made.is_empty(), "{made:?}");
}

/// AWS gets the whole of it, and would sign what it asks for.
#[test]
fn a_csr_that_asks_aws_for_a_cas_rights_is_refused() {
    let (world, mut fixture) =
        World::running("[product.thermostat.certificate]\nkey = \"device\"\nissuer = \"aws\"\n");
    let key = KeyPair::generate().unwrap();
    let (mut ca, mut signs, mut nobody) = (params(), params(), params());
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    signs.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    nobody.distinguished_name = DistinguishedName::new();
    let csr = |it: &CertificateParams| it.serialize_request(&key).unwrap().pem().unwrap();
    let refused = [(ca, "asks for a CA's rights"), (signs, "asks for a CA's rights")];
    for (id, (params, sentence)) in (1..).zip(refused) {
        fixture.send(&json!({ "type": "unit", "id": id, "serial": "SN0000000001", "csr": csr(&params) }));
        let nak = fixture.expect(&json!({ "type": "nak", "id": id, "code": "bad-unit" }));
        assert!(nak["message"].as_str().unwrap().contains(sentence), "{sentence}: {nak}");
    }
    for (id, serial, key, params) in
        [(8, "SN0000000001", &key, params()), (9, "SN0000000002", &KeyPair::generate().unwrap(), nobody)]
    {
        let csr = params.serialize_request(key).unwrap().pem().unwrap();
        fixture.send(&json!({ "type": "unit", "id": id, "serial": serial, "csr": csr }));
        let credentials = fixture.until(&["credentials"]);
        let leaf = der(credentials["certificate"].as_str().unwrap());
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        assert!(!leaf.is_ca() && leaf.public_key().raw == key.subject_public_key_info());
    }
    assert_eq!(world.get("/v1/devices").unwrap()["devices"].as_array().unwrap().len(), 2);
}

#[test]
fn of_a_csr_that_asks_for_much_only_the_key_is_taken() {
    let (world, mut fixture) = World::running(OVER);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["SN9999999999".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "SN9999999999");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": "SN0000000001", "csr": csr }));
    fixture.expect(&json!({ "type": "ack", "id": 1 }));
    let credentials = fixture.expect(&json!({ "type": "credentials", "id": 1, "serial": "SN0000000001" }));
    assert_eq!(credentials.get("private_key"), None);
    let leaf = der(credentials["certificate"].as_str().unwrap());
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert_eq!(leaf.subject().to_string(), "CN=SN0000000001");
    assert!(!leaf.is_ca() && leaf.public_key().raw == key.subject_public_key_info());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    let names = format!("{:?}", leaf.subject_alternative_name().unwrap());
    assert!(names.contains("SN0000000001") && !names.contains("SN9999999999"), "{names}");
    assert!(
        !world.path("state/keys").exists() || world.files("state/keys").is_empty(),
        "no key is kept here"
    );
    let sha256 = &credentials["certificate_sha256"];
    fixture
        .send(&json!({ "type": "written", "id": 1, "serial": "SN0000000001", "certificate_sha256": sha256 }));
    fixture.expect(&json!({ "type": "pass", "id": 1 }));
    world.assert_audit(&["SN0000000001"]);
    // The same key once more is another device that bears it: a clone.
    fixture.send(&json!({ "type": "unit", "id": 2, "serial": "SN0000000002", "csr": csr }));
    let told = fixture.until(&["nak", "fail"]);
    assert!(told["message"].as_str().is_some_and(|it| it.contains("SN0000000001")), "{told}");
    assert_ne!(world.get("/v1/devices/SN0000000001").unwrap()["state"], Value::Null);
}

use std::collections::HashSet;

use rcgen::{
    BasicConstraints, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512,
    PKCS_RSA_SHA256, PublicKeyData as _, SignatureAlgorithm,
};
use x509_parser::extensions::GeneralName;

use super::*;
use crate::pki::DevicePublicKey;
use crate::pki::authority::make_root;
use crate::pki::to_pem;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn now() -> Timestamp {
    "2026-11-21T10:00:00.5Z".parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn new_issuer() -> StationIssuer {
    let root = make_root("Test CA", now()).unwrap();
    StationIssuer::load(&root.certificate_pem, root.key_pem, now()).unwrap()
}

fn request(common_name: &str) -> LeafRequest {
    LeafRequest { common_name: common_name.to_owned(), days: 3650, key: LeafKey::Station }
}

fn parse(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).unwrap().1
}

/// A CA as others make them, to be spoilt.
fn ca_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date(at("2020-01-01T00:00:00Z")).unwrap();
    params.not_after = date(at("2040-01-01T00:00:00Z")).unwrap();
    params
}

fn p256() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn load_self_signed(params: &CertificateParams, key: &KeyPair) -> Result<StationIssuer, CaError> {
    let pem = params.self_signed(key).unwrap().pem();
    StationIssuer::load(&pem, key.serialize_pem().into(), now())
}

#[test]
fn a_leaf_is_exactly_what_the_profile_says() {
    let issuer = new_issuer();
    let leaf = issuer.issue(&request("SN-000042"), now()).unwrap();
    let certificate = parse(&leaf.der);
    assert_eq!(certificate.subject().to_string(), "CN=SN-000042");
    assert_eq!(certificate.issuer().to_string(), "CN=Test CA");
    assert_eq!(hex(certificate.raw_serial()), leaf.serial_number);
    assert_eq!(leaf.fingerprint, Fingerprint::of(&leaf.der));

    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(!constraints.value.ca && constraints.critical);
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature());
    assert_eq!(usage.value.flags, 1, "and nothing else");
    let extended = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth && !extended.any && extended.other.is_empty());
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::DNSName("SN-000042")]);

    let ca = parse(&issuer.chain.der);
    let extension = |it: &X509Certificate<'_>, dotted: &str| {
        it.extensions().iter().find(|it| it.oid.to_id_string() == dotted).unwrap().value.to_vec()
    };
    let ca_key_id = &extension(&ca, "2.5.29.14")[2..];
    assert!(extension(&certificate, "2.5.29.35").ends_with(ca_key_id), "AKI is the CA's SKI");
    assert_ne!(&extension(&certificate, "2.5.29.14")[2..], ca_key_id);

    assert_eq!(leaf.not_before, at("2026-11-21T09:00:00Z"));
    assert_eq!(leaf.not_after, at("2036-11-18T10:00:00Z"));
    assert!(!leaf.shortened);
    assert_eq!(certificate.validity().not_before.timestamp(), leaf.not_before.as_second());
    assert_eq!(certificate.validity().not_after.timestamp(), leaf.not_after.as_second());
}

#[test]
fn the_private_key_is_that_of_the_certificate() {
    let leaf = new_issuer().issue(&request("a"), now()).unwrap();
    let key = KeyPair::try_from(leaf.private_key.as_ref().unwrap().as_slice()).unwrap();
    assert_eq!(parse(&leaf.der).public_key().raw, key.subject_public_key_info());
    let shown = format!("{leaf:?}");
    assert!(shown.contains("has_private_key: true") && shown.len() < 400, "{shown}");
}

#[test]
fn serial_numbers_are_positive_16_bytes_and_never_the_same() {
    let issuer = new_issuer();
    let device = LeafKey::Device(DevicePublicKey { spki_der: p256().subject_public_key_info() });
    let request = LeafRequest { common_name: "a".to_owned(), days: 1, key: device };
    let mut seen = HashSet::new();
    for _ in 0..64 {
        let leaf = issuer.issue(&request, now()).unwrap();
        assert!(seen.insert(leaf.serial_number.clone()));
        assert_eq!(leaf.serial_number.len(), 32);
        assert!((b'0'..=b'7').contains(&leaf.serial_number.as_bytes()[0]));
        assert_eq!(leaf.private_key, None);
        assert!(seen.insert(leaf.fingerprint.to_string()), "the same key twice is two certificates");
    }
}

#[test]
fn the_alternative_name_is_a_host_name_or_a_urn() {
    let long = "a".repeat(64);
    for host in ["a", "sensor-1.plant.example", "1a", "0.1a", "A-9"] {
        assert_eq!(alternative_name(host).unwrap(), SanType::DnsName(host.try_into().unwrap()));
    }
    for (other, encoded) in [
        ("123456789012", "123456789012"),
        ("10.0.0.1", "10.0.0.1"),
        ("a_b", "a_b"),
        ("a.", "a."),
        ("-a", "-a"),
        ("a-", "a-"),
        (".", "."),
        ("a..b", "a..b"),
        (&long, &long),
        ("a b/c", "a%20b%2Fc"),
        ("50%", "50%25"),
        ("Gerät:7~", "Ger%C3%A4t%3A7~"),
    ] {
        let urn = format!("urn:linemint:device:{encoded}");
        assert_eq!(alternative_name(other).unwrap(), SanType::URI(urn.try_into().unwrap()), "{other}");
    }
    let leaf = new_issuer().issue(&request("Gerät 7"), now()).unwrap();
    let certificate = parse(&leaf.der);
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::URI("urn:linemint:device:Ger%C3%A4t%207")]);
    assert_eq!(certificate.subject().iter_common_name().next().unwrap().as_str(), Ok("Gerät 7"));
}

#[test]
fn common_names_that_do_not_fit_are_refused() {
    let issuer = new_issuer();
    for bad in ["", &"x".repeat(65), "a\nb", "a\0", "a\u{85}"] {
        assert!(matches!(issuer.issue(&request(bad), now()), Err(IssueError::Request(_))), "{bad:?}");
    }
    assert!(issuer.issue(&request(&"é".repeat(64)), now()).is_ok());
    let none = LeafRequest { days: 0, ..request("a") };
    assert!(matches!(issuer.issue(&none, now()), Err(IssueError::Request(_))));
}

#[test]
fn a_leafs_life_stays_within_its_cas() {
    let issuer = new_issuer();
    let end = issuer.end().at;
    for (days, shortened) in [(25 * 365, false), (26 * 365, true), (u32::MAX, true)] {
        let leaf = issuer.issue(&LeafRequest { days, ..request("a") }, now()).unwrap();
        assert_eq!(leaf.shortened, shortened, "{days}");
        assert_eq!(leaf.not_after == end, shortened);
    }
    // The CA is back-dated an hour itself: a leaf made as early as that begins with it.
    let early = now() - SignedDuration::from_mins(30);
    let leaf = issuer.issue(&request("a"), early).unwrap();
    assert_eq!(leaf.not_before, at("2026-11-21T09:00:00Z"));
    let late = issuer.issue(&request("a"), end).unwrap();
    assert_eq!((late.not_after, late.shortened), (end, true));
}

/// Past it nothing verifies: not a leaf that lives on, nor one that is issued then.
#[test]
fn a_leafs_life_stays_within_those_of_the_certificates_above_its_ca() {
    let it = tower(|name, params| {
        if name == "intermediate" {
            params.not_after = date(at("2027-01-01T00:00:00Z")).unwrap();
        }
    });
    let file = [&it.issuing, &it.intermediate, &it.root];
    let issuer = it.load(&file).unwrap();
    let end = CaEnd { at: at("2027-01-01T00:00:00Z"), above: Some("CN=intermediate".to_owned()) };
    assert_eq!(*issuer.end(), end);
    let leaf = issuer.issue(&request("SN1"), now()).unwrap();
    assert_eq!((leaf.not_after, leaf.shortened), (end.at, true));
    let late = issuer.issue(&request("SN1"), end.at + DAY).unwrap_err().to_string();
    assert_eq!(
        late,
        "CN=intermediate, above the CA, is not valid any more: it has ended at 2027-01-01T00:00:00Z"
    );
    let summary = crate::pki::summary::read_authority(&file.map(String::as_str).concat(), now()).unwrap();
    assert_eq!((summary.not_after, summary.end), (at("2040-01-01T00:00:00Z"), end));
}

#[test]
fn a_ca_that_is_not_valid_now_issues_nothing() {
    let issuer = new_issuer();
    for wrong in [now() - SignedDuration::from_hours(2), issuer.end().at + DAY] {
        let error = issuer.issue(&request("a"), wrong).unwrap_err();
        let told = matches!(error, IssueError::CaNotValidYet { .. } | IssueError::CaEnded { .. });
        assert!(told && error.to_string().starts_with("the CA is not valid "), "{error}");
    }
    let key = p256();
    for (from, until) in
        [("2027-01-01T00:00:00Z", "2040-01-01T00:00:00Z"), ("2020-01-01T00:00:00Z", "2026-11-20T00:00:00Z")]
    {
        let mut params = ca_params("CA");
        params.not_before = date(at(from)).unwrap();
        params.not_after = date(at(until)).unwrap();
        assert!(matches!(load_self_signed(&params, &key), Err(CaError::NotValid { .. })));
    }
}

#[test]
fn a_ca_without_end_is_taken() {
    let mut params = ca_params("CA");
    params.not_after = date(Timestamp::MAX).unwrap();
    // The usual "no end" is a second that a timestamp does not reach.
    params.not_after = params.not_after.replace_day(31).unwrap().replace_hour(23).unwrap();
    let issuer = load_self_signed(&params, &p256()).unwrap();
    let leaf = issuer.issue(&LeafRequest { days: u32::MAX, ..request("a") }, now()).unwrap();
    assert_eq!(leaf.not_after, issuer.end().at);
}

#[test]
fn a_csr_that_asks_to_be_a_ca_gets_a_leaf() {
    let key = p256();
    let mut wish = CertificateParams::default();
    wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wish.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wish.distinguished_name.push(DnType::CommonName, "root of all");
    wish.subject_alt_names = vec![SanType::DnsName("aws.example".try_into().unwrap())];
    let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
    let device = LeafKey::Device(check_csr(&csr).unwrap());
    let leaf = new_issuer().issue(&LeafRequest { key: device, ..request("SN1") }, now()).unwrap();
    let certificate = parse(&leaf.der);
    assert!(!certificate.is_ca());
    assert_eq!(certificate.key_usage().unwrap().unwrap().value.flags, 1);
    assert_eq!(certificate.subject().to_string(), "CN=SN1");
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(*names, [GeneralName::DNSName("SN1")]);
    assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
}

#[test]
fn devices_keys_of_each_kind_are_certified_under_cas_of_each_kind() {
    let keys: Vec<KeyPair> = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA256]
        .map(|it| KeyPair::generate_for(it).unwrap())
        .into();
    for ca_key in &keys {
        let issuer = load_self_signed(&ca_params("CA"), ca_key).unwrap();
        for key in &keys {
            let device = DevicePublicKey { spki_der: key.subject_public_key_info() };
            let request = LeafRequest { key: LeafKey::Device(device), ..request("a") };
            let leaf = issuer.issue(&request, now()).unwrap();
            let is_rsa = key.algorithm() == &PKCS_RSA_SHA256;
            let usage = parse(&leaf.der).key_usage().unwrap().unwrap().value.flags;
            assert_eq!(usage, if is_rsa { 0b101 } else { 0b001 });
        }
    }
}

#[test]
fn a_public_key_that_no_csr_check_would_pass_is_not_certified() {
    let issuer = new_issuer();
    let p521 = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap().subject_public_key_info();
    for spki_der in [vec![], b"nonsense".to_vec(), p521] {
        let request = LeafRequest { key: LeafKey::Device(DevicePublicKey { spki_der }), ..request("a") };
        assert!(matches!(issuer.issue(&request, now()), Err(IssueError::Request(_))));
    }
}

#[test]
fn keys_load_from_pkcs8_sec1_and_pkcs1() {
    use aws_lc_rs::encoding::{AsDer as _, EcPrivateKeyRfc5915Der};
    let ec = p256();
    let raw = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, ec.serialized_der()).unwrap();
    let sec1: EcPrivateKeyRfc5915Der<'_> = raw.private_key().as_der().unwrap();
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    // PKCS #8 of an RSA key is 26 bytes of frame around PKCS #1.
    let pkcs1 = &rsa.serialized_der()[26..];
    let parameters = to_pem("EC PARAMETERS", &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
    for (key, pem) in [
        (&ec, to_pem("PRIVATE KEY", ec.serialized_der()).to_string()),
        (&ec, parameters.to_string() + &to_pem("EC PRIVATE KEY", sec1.as_ref())),
        (&rsa, to_pem("PRIVATE KEY", rsa.serialized_der()).to_string()),
        (&rsa, to_pem("RSA PRIVATE KEY", pkcs1).to_string()),
    ] {
        let ca = ca_params("CA").self_signed(key).unwrap().pem();
        StationIssuer::load(&ca, pem.into(), now()).unwrap();
    }
}

#[test]
fn a_key_that_cannot_be_used_is_refused_by_reason() {
    let ca = ca_params("CA").self_signed(&p256()).unwrap().pem();
    let load = |key: &str| StationIssuer::load(&ca, key.to_owned().into(), now()).unwrap_err();
    assert!(matches!(load(&p256().serialize_pem()), CaError::KeyMismatch { .. }));
    assert!(matches!(load(""), CaError::KeyPem(PemError::NoBlock)));
    assert!(matches!(load(&ca), CaError::NotAKey { found: 0 }));
    assert!(matches!(load(&p256().serialize_pem().repeat(2)), CaError::NotAKey { found: 2 }));
    assert!(matches!(load(&to_pem("PRIVATE KEY", b"nonsense")), CaError::Key));
    let encrypted = load(&to_pem("ENCRYPTED PRIVATE KEY", b"x"));
    assert!(matches!(encrypted, CaError::KeyPem(PemError::Encrypted { .. })));
}

#[test]
fn a_certificate_that_may_not_issue_is_refused_by_reason() {
    let key = p256();
    let refused = |spoil: fn(&mut CertificateParams)| {
        let mut params = ca_params("CA");
        spoil(&mut params);
        load_self_signed(&params, &key).unwrap_err()
    };
    assert!(matches!(refused(|it| it.is_ca = IsCa::NoCa), CaError::NotACa { .. }));
    assert!(matches!(refused(|it| it.is_ca = IsCa::ExplicitNoCa), CaError::NotACa { .. }));
    let crl_only = refused(|it| it.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert!(matches!(crl_only, CaError::MayNotSign { .. }));
    // As `openssl req -x509` makes them: without the extension all is allowed.
    let mut unrestricted = ca_params("CA");
    unrestricted.key_usages = vec![];
    load_self_signed(&unrestricted, &key).unwrap();
}

#[test]
fn a_weak_ca_key_is_refused() {
    let p521 = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
    assert!(matches!(load_self_signed(&ca_params("CA"), &p521), Err(CaError::WeakKey { .. })));
    // RSA with 1,024 bits, under another's signature.
    let modulus = [&[0x30, 0x81, 0x89, 2, 0x81, 0x81, 0][..], &[0xc1; 128], &[2, 3, 1, 0, 1]].concat();
    struct Weak(Vec<u8>);
    impl rcgen::PublicKeyData for Weak {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static SignatureAlgorithm {
            &PKCS_RSA_SHA256
        }
    }
    let (root, key) = (ca_params("root"), p256());
    let weak = ca_params("CA").signed_by(&Weak(modulus), &rcgen::Issuer::new(root, &key)).unwrap();
    let error = StationIssuer::load(&weak.pem(), key.serialize_pem().into(), now()).unwrap_err();
    let text = crate::error::Chain(&error).to_string();
    assert!(text.contains("has 1024 bits"), "{text}");
}

#[test]
fn a_subject_that_leaves_would_not_repeat_is_refused() {
    let mut params = ca_params("CA");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "Line 3");
    // The same attribute under another name of rcgen's: two OUs in the certificate.
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 11]), "Plant 1");
    let key = p256();
    let error = load_self_signed(&params, &key).unwrap_err();
    assert!(matches!(&error, CaError::Subject { subject } if subject.contains("Plant 1")), "{error}");
    // Each attribute once, of several kinds and encodings, is no trouble.
    let mut params = ca_params("CA é");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "Line 3");
    params
        .distinguished_name
        .push(DnType::CountryName, rcgen::DnValue::PrintableString("AT".try_into().unwrap()));
    load_self_signed(&params, &key).unwrap();
}

#[test]
fn a_ca_for_servers_only_fails_its_trial() {
    let (root, root_key, key) = (ca_params("root"), p256(), p256());
    let mut params = ca_params("CA");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let ca = params.signed_by(&key, &rcgen::Issuer::new(root, &root_key)).unwrap();
    let error = StationIssuer::load(&(ca.pem() + &root_pem), key.serialize_pem().into(), now()).unwrap_err();
    assert!(matches!(error, CaError::Trial(IssueError::Verify(_))), "{error}");
}

/// Root, intermediate and issuing CA, each made with `spoil` applied.
struct Tower {
    root: String,
    intermediate: String,
    issuing: String,
    key: KeyPair,
}

fn tower(spoil: impl Fn(&str, &mut CertificateParams)) -> Tower {
    let params = |name: &str| {
        let mut params = ca_params(name);
        spoil(name, &mut params);
        params
    };
    let [root_key, intermediate_key, key] = [p256(), p256(), p256()];
    let root = params("root").self_signed(&root_key).unwrap().pem();
    let root_issuer = rcgen::Issuer::new(params("root"), &root_key);
    let intermediate = params("intermediate").signed_by(&intermediate_key, &root_issuer).unwrap().pem();
    let issuer = rcgen::Issuer::new(params("intermediate"), &intermediate_key);
    let issuing = params("issuing").signed_by(&key, &issuer).unwrap().pem();
    Tower { root, intermediate, issuing, key }
}

impl Tower {
    fn load(&self, pems: &[&String]) -> Result<StationIssuer, CaError> {
        let file: String = pems.iter().map(|it| it.as_str()).collect();
        StationIssuer::load(&file, self.key.serialize_pem().into(), now())
    }
}

#[test]
fn a_device_gets_the_chain_but_not_the_root() {
    let it = tower(|_, _| ());
    let (issuing, above) = (&it.issuing, it.issuing.clone() + &it.intermediate);
    for (file, follow) in [
        (vec![issuing], issuing),
        (vec![issuing, &it.intermediate], &above),
        (vec![issuing, &it.intermediate, &it.root], &above),
    ] {
        let issuer = it.load(&file).unwrap();
        assert_eq!((issuer.ca_pem(), issuer.chain_pem()), (issuing.as_str(), follow.as_str()));
        issuer.issue(&request("a"), now()).unwrap();
    }
    let own = new_issuer();
    assert_eq!(own.chain_pem(), "");
    assert!(own.ca_pem().starts_with("-----BEGIN CERTIFICATE-----\n"));
}

#[test]
fn a_chain_that_does_not_hold_is_refused_by_reason() {
    let it = tower(|_, _| ());
    let other = tower(|_, _| ());
    assert!(matches!(it.load(&[&it.issuing, &it.root]), Err(CaError::Order { .. })));
    assert!(matches!(it.load(&[&it.root, &it.intermediate]), Err(CaError::Order { .. })));
    assert!(matches!(it.load(&[&it.intermediate, &it.root]), Err(CaError::KeyMismatch { .. })));
    let impostor = it.load(&[&it.issuing, &other.intermediate, &other.root]);
    assert!(matches!(impostor, Err(CaError::Trial(IssueError::Verify(_)))));
    let key = &it.key.serialize_pem();
    assert!(matches!(it.load(&[&it.issuing, key]), Err(CaError::NotACertificate { .. })));
    assert!(matches!(it.load(&[&it.issuing; 7]), Err(CaError::TooMany)));
    assert!(matches!(it.load(&[]), Err(CaError::CertificatePem(_))));
    let broken = to_pem("CERTIFICATE", b"nonsense").to_string();
    assert!(matches!(it.load(&[&it.issuing, &broken]), Err(CaError::Malformed { number: 2 })));
}

#[test]
fn a_path_length_that_leaves_no_room_for_the_station_is_refused() {
    for (spoilt, length, fits) in [
        ("root", 1, false),
        ("root", 2, true),
        ("intermediate", 0, false),
        ("intermediate", 1, true),
        ("issuing", 0, true),
    ] {
        let it = tower(|name, params| {
            if name == spoilt {
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
            }
        });
        let loaded = it.load(&[&it.issuing, &it.intermediate, &it.root]);
        match loaded {
            Ok(_) => assert!(fits, "{spoilt} {length}"),
            Err(error) => assert!(!fits && matches!(error, CaError::PathLength { .. }), "{spoilt}: {error}"),
        }
    }
}

#[test]
fn a_key_held_elsewhere_signs_too_and_its_bad_signature_is_found() {
    struct Held {
        key: KeyPair,
        breaks: bool,
    }
    impl rcgen::PublicKeyData for Held {
        fn der_bytes(&self) -> &[u8] {
            rcgen::PublicKeyData::der_bytes(&self.key)
        }
        fn algorithm(&self) -> &'static SignatureAlgorithm {
            self.key.algorithm()
        }
    }
    impl SigningKey for Held {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
            self.key.sign(if self.breaks { b"another message" } else { message })
        }
    }
    let key = p256();
    let pem = ca_params("CA").self_signed(&key).unwrap().pem();
    let copy = || KeyPair::try_from(key.serialized_der()).unwrap();
    let issuer = StationIssuer::with_key(&pem, Held { key: copy(), breaks: false }, now()).unwrap();
    issuer.issue(&request("a"), now()).unwrap();
    let broken = StationIssuer::with_key(&pem, Held { key: copy(), breaks: true }, now());
    assert!(matches!(broken, Err(CaError::Trial(IssueError::Verify(_)))));
}

#[test]
fn a_new_root_is_what_the_station_needs() {
    let root = make_root("Line 3", now()).unwrap();
    let block = pem::blocks(&root.certificate_pem).unwrap().remove(0);
    let certificate = parse(&block.der);
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    assert_eq!(certificate.raw_serial().len(), 16);
    assert_eq!(certificate.validity().not_before.timestamp(), at("2026-11-21T09:00:00Z").as_second());
    assert_eq!(certificate.validity().not_after.timestamp(), at("2051-11-21T10:00:00Z").as_second());
    assert_eq!(root.fingerprint, Fingerprint::of(&block.der));
    certificate.verify_signature(None).unwrap();
    assert!(matches!(make_root("", now()), Err(IssueError::Request(_))));
    assert!(make_root("a", at("2024-02-29T00:00:00Z")).is_ok());
    assert!(matches!(make_root("a", Timestamp::MAX), Err(IssueError::Request(_))));
}

#[test]
fn an_issuer_shows_its_name_and_not_its_key() {
    assert_eq!(format!("{:?}", new_issuer()), "StationIssuer { subject: \"CN=Test CA\", .. }");
}

#[test]
fn a_name_that_the_cas_constraints_exclude_is_told_by_name() {
    let within = |at: &'static str| {
        let it = tower(move |name, params| {
            let only = rcgen::GeneralSubtree::DnsName("plant.example".to_owned());
            if name == at {
                params.name_constraints = Some(rcgen::NameConstraints {
                    permitted_subtrees: vec![only],
                    excluded_subtrees: vec![],
                });
            }
        });
        it.load(&[&it.issuing, &it.intermediate, &it.root]).unwrap()
    };
    for (at, constrained) in [("", false), ("issuing", true), ("intermediate", true)] {
        let issuer = within(at);
        assert_eq!(issuer.is_constrained(), constrained, "{at}");
        issuer.issue(&request("sn1.plant.example"), now()).unwrap();
        let other = issuer.issue(&request("sn1.elsewhere.example"), now());
        let told = other.err().map(|it| it.to_string());
        let sentence = "the CA's name constraints do not allow sn1.elsewhere.example";
        assert_eq!(told.as_deref(), constrained.then_some(sentence), "{at}");
    }
}

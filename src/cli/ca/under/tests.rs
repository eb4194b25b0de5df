//! The way from a request to a CA that issues, and what is refused on it.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::KeyUsagePurpose;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, KeyPair};

use super::*;
use crate::error::Chain;
use crate::pki::{Issuer as _, LeafKey, LeafRequest, to_pem};

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

/// The company's root, and what it signs.
struct Company {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2040, 1, 1));
    params
}

impl Company {
    fn new() -> Self {
        let (params, key) = (ca_params("Company root"), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    fn issuer(&self) -> rcgen::Issuer<'_, &KeyPair> {
        rcgen::Issuer::from_params(&self.params, &self.key)
    }

    /// Signs the request in `dir`, with `spoil` applied to what it would sign.
    fn sign(&self, dir: &Path, spoil: impl Fn(&mut CertificateParams)) -> String {
        let csr = std::fs::read_to_string(request_path(dir)).unwrap();
        let csr = CertificateSigningRequestParams::from_pem(&csr).unwrap();
        assert!(matches!(csr.params.is_ca, IsCa::Ca(BasicConstraints::Constrained(0))), "what it asks for");
        let mut params = ca_params("Station CA");
        spoil(&mut params);
        params.signed_by(&csr.public_key, &self.issuer()).unwrap().pem()
    }
}

fn requested(dir: &Path) {
    make(&CsrArgs { dir: dir.to_owned(), common_name: "Station CA".to_owned() }).unwrap();
}

fn import_pems(dir: &Path, pems: &[&str]) -> Result<CaSummary, Error> {
    let files: Vec<PathBuf> = (0..pems.len()).map(|it| dir.join(format!("in-{it}.pem"))).collect();
    for (file, pem) in files.iter().zip(pems) {
        let _ = std::fs::remove_file(file);
        durable_fs::create_new(file, 0o644, pem.as_bytes()).unwrap();
    }
    take(&ImportArgs { dir: dir.to_owned(), files }, now())
}

/// Imports what is wrong, and gives back what is said.
fn refused(dir: &Path, pems: &[&str]) -> String {
    let error = import_pems(dir, pems).unwrap_err();
    assert!(matches!(error.exit_status(), ExitStatus::Bad), "{error}");
    assert!(!certificate_path(dir).exists(), "nothing is written");
    Chain(&error).to_string()
}

#[test]
fn a_request_that_the_company_signs_becomes_a_ca_that_issues() {
    let dir = tempfile::tempdir().unwrap();
    let company = Company::new();
    requested(dir.path());
    assert_eq!(key_path(dir.path()).metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let signed = company.sign(dir.path(), |_| ());
    let summary = import_pems(dir.path(), &[&signed, &company.pem]).unwrap();
    assert_eq!((summary.issuer.as_str(), summary.certificates), ("CN=Company root", 2));
    let [pem, key] =
        [certificate_path(dir.path()), key_path(dir.path())].map(|it| std::fs::read_to_string(it).unwrap());
    let issuer = StationIssuer::load(&pem, key.into(), now()).unwrap();
    let request = LeafRequest { common_name: "SN1".to_owned(), days: 10, key: LeafKey::Station };
    issuer.issue(&request, now()).unwrap();
    assert!(issuer.chain_pem().starts_with(&signed), "a device gets the intermediate");
    assert!(!issuer.chain_pem().contains(&company.pem), "and not the root");
    // Neither is ever overwritten.
    let again = import_pems(dir.path(), &[&signed]).unwrap_err();
    assert!(again.to_string().contains("ca.pem exists"), "{again}");
    let again = make(&CsrArgs { dir: dir.path().to_owned(), common_name: "x".to_owned() }).unwrap_err();
    assert!(again.to_string().contains("never overwrites"), "{again}");
}

#[test]
fn what_the_company_cannot_have_meant_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let company = Company::new();
    requested(dir);
    let good = company.sign(dir, |_| ());
    let leaf = company.sign(dir, |it| it.is_ca = IsCa::ExplicitNoCa);
    let expired = company.sign(dir, |it| it.not_after = rcgen::date_time_ymd(2025, 1, 1));
    let signs_nothing = company.sign(dir, |it| it.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let other_key =
        ca_params("Station CA").signed_by(&KeyPair::generate().unwrap(), &company.issuer()).unwrap().pem();
    let impostor = Company::new();
    for (pems, sentence) in [
        (vec![leaf.as_str()], "is not a CA's certificate: its basic constraints do not say CA"),
        (
            vec![expired.as_str()],
            "is not valid now: it is valid from 2020-01-01T00:00:00Z to 2025-01-01T00:00:00Z",
        ),
        (vec![signs_nothing.as_str()], "may not sign certificates: its key usage lacks keyCertSign"),
        (vec![other_key.as_str()], "certificate and key are of different pairs"),
        (vec![company.pem.as_str(), good.as_str()], "the CA's file is out of order"),
        (vec![good.as_str(), impostor.pem.as_str()], "does not verify against the CA"),
        (vec!["nonsense"], "there is no PEM block"),
    ] {
        let said = refused(dir, &pems);
        assert!(said.contains(sentence), "{said}");
    }
    // A key is not told by its own file either.
    let key = std::fs::read_to_string(key_path(dir)).unwrap();
    let said = refused(dir, &[&good, &key]);
    assert!(
        said.contains("PRIVATE KEY, where only certificates are expected") && !said.contains("MII"),
        "{said}"
    );
    import_pems(dir, &[&good, &company.pem]).unwrap();
}

#[test]
fn a_path_length_of_the_roots_that_leaves_no_room_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut company = Company::new();
    company.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    company.pem = company.params.self_signed(&company.key).unwrap().pem();
    requested(dir.path());
    let signed = company.sign(dir.path(), |_| ());
    let said = refused(dir.path(), &[&signed, &company.pem]);
    assert!(said.contains("the path length of CN=Company root allows no CA as far below"), "{said}");
}

#[test]
fn a_constrained_ca_certifies_names_within_its_constraints_only() {
    let dir = tempfile::tempdir().unwrap();
    let company = Company::new();
    requested(dir.path());
    let signed = company.sign(dir.path(), |it| {
        let permitted = vec![rcgen::GeneralSubtree::DnsName("plant.example".to_owned())];
        it.name_constraints =
            Some(rcgen::NameConstraints { permitted_subtrees: permitted, excluded_subtrees: vec![] });
    });
    assert!(import_pems(dir.path(), &[&signed, &company.pem]).unwrap().name_constraints);
    let [pem, key] =
        [certificate_path(dir.path()), key_path(dir.path())].map(|it| std::fs::read_to_string(it).unwrap());
    let issuer = StationIssuer::load(&pem, key.into(), now()).unwrap();
    let issue = |name: &str| {
        let request = LeafRequest { common_name: name.to_owned(), days: 10, key: LeafKey::Station };
        issuer.issue(&request, now())
    };
    issue("sn1.plant.example").unwrap();
    let error = issue("sn1.elsewhere.example").unwrap_err();
    assert!(error.to_string().contains("name constraints do not allow"), "{error}");
}

#[test]
fn the_constraints_of_the_companys_root_hold_for_what_the_station_issues() {
    let dir = tempfile::tempdir().unwrap();
    let mut company = Company::new();
    let excluded = vec![rcgen::GeneralSubtree::DnsName("office.example".to_owned())];
    company.params.name_constraints =
        Some(rcgen::NameConstraints { permitted_subtrees: vec![], excluded_subtrees: excluded });
    company.pem = company.params.self_signed(&company.key).unwrap().pem();
    requested(dir.path());
    let signed = company.sign(dir.path(), |_| ());
    import_pems(dir.path(), &[&signed, &company.pem]).unwrap();
    let [pem, key] =
        [certificate_path(dir.path()), key_path(dir.path())].map(|it| std::fs::read_to_string(it).unwrap());
    let issuer = StationIssuer::load(&pem, key.into(), now()).unwrap();
    let issue = |name: &str| {
        let request = LeafRequest { common_name: name.to_owned(), days: 10, key: LeafKey::Station };
        issuer.issue(&request, now())
    };
    issue("sn1.plant.example").unwrap();
    let error = issue("sn1.office.example").unwrap_err();
    assert!(error.to_string().contains("name constraints do not allow"), "{error}");
}

#[test]
fn a_ca_of_another_keys_request_is_told_before_the_key_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let company = Company::new();
    requested(dir.path());
    let signed = company.sign(dir.path(), |_| ());
    std::fs::remove_file(key_path(dir.path())).unwrap();
    let error = import_pems(dir.path(), &[&signed]).unwrap_err();
    assert!(error.to_string().contains("`linemint ca csr --dir DIR` makes it"), "{error}");
    // A key that others may read is refused as well.
    let key = to_pem("PRIVATE KEY", b"whatever");
    durable_fs::create_new(&key_path(dir.path()), 0o644, key.as_bytes()).unwrap();
    let said = Chain(&import_pems(dir.path(), &[&signed]).unwrap_err()).to_string();
    assert!(said.contains("others"), "{said}");
}

//! Certificates under a registered CA.

use aws_sdk_iot::types::CertificateMode;

use super::*;

async fn register_ca(rig: &Rig, ca: &TestCa, active: bool) {
    let request = rig.iot.register_ca_certificate().ca_certificate(&ca.pem).set_as_active(active);
    request.certificate_mode(CertificateMode::SniOnly).send().await.unwrap();
}

async fn refusal(rig: &Rig, leaf: &str, ca: Option<&str>) -> String {
    let request = rig.iot.register_certificate().certificate_pem(leaf);
    let sent = request.set_ca_certificate_pem(ca.map(str::to_owned)).send().await;
    sent.map_or_else(|error| code(&error).to_owned(), |_| String::new())
}

#[tokio::test]
async fn a_certificate_needs_its_ca_registered_and_active() {
    let rig = Rig::easy().await;
    let (ca, sleeping, stranger) = (TestCa::new("A"), TestCa::new("B"), TestCa::new("A"));
    assert_eq!(refusal(&rig, &ca.leaf("SN1"), None).await, "CertificateValidationException");
    register_ca(&rig, &ca, true).await;
    register_ca(&rig, &sleeping, false).await;
    assert_eq!(refusal(&rig, &ca.leaf("SN1"), None).await, "");
    assert_eq!(refusal(&rig, &ca.leaf("SN2"), Some(&ca.pem)).await, "");
    assert_eq!(refusal(&rig, &sleeping.leaf("SN3"), None).await, "CertificateValidationException");
    assert_eq!(refusal(&rig, &stranger.leaf("SN4"), None).await, "CertificateValidationException");
    assert_eq!(
        refusal(&rig, &stranger.leaf("SN4"), Some(&stranger.pem)).await,
        "CertificateValidationException"
    );
    assert_eq!(refusal(&rig, &ca.leaf("SN5"), Some(&sleeping.pem)).await, "CertificateValidationException");
}

#[tokio::test]
async fn two_cas_of_one_name_have_to_be_told_apart_by_the_caller() {
    let rig = Rig::easy().await;
    let (old, new) = (TestCa::new("Plant CA"), TestCa::new("Plant CA"));
    register_ca(&rig, &old, true).await;
    register_ca(&rig, &new, true).await;
    let leaf = new.leaf("SN1");
    assert_eq!(refusal(&rig, &leaf, None).await, "CertificateConflictException");
    assert_eq!(refusal(&rig, &leaf, Some(&old.pem)).await, "CertificateValidationException");
    assert_eq!(refusal(&rig, &leaf, Some(&new.pem)).await, "");
}

#[tokio::test]
async fn in_default_mode_a_ca_has_to_certify_the_registration_code() {
    let rig = Rig::easy().await;
    let ca = TestCa::new("Plant CA");
    let code_of = rig.iot.get_registration_code().send().await.unwrap();
    let register = |verification: String| {
        let request = rig.iot.register_ca_certificate().ca_certificate(&ca.pem);
        request.verification_certificate(verification).send()
    };
    let wrong = register(ca.leaf("something else")).await.unwrap_err();
    assert_eq!(code(&wrong), "RegistrationCodeValidationException");
    let registration_code = code_of.registration_code().unwrap();
    let foreign = register(TestCa::new("Plant CA").leaf(registration_code)).await.unwrap_err();
    assert_eq!(code(&foreign), "CertificateValidationException");
    let registered = register(ca.leaf(registration_code)).await.unwrap();
    let described = rig.iot.describe_ca_certificate().certificate_id(registered.certificate_id().unwrap());
    let described = described.send().await.unwrap();
    assert_eq!(described.certificate_description().unwrap().status().unwrap().as_str(), "INACTIVE");
    let again = register(ca.leaf(registration_code)).await.unwrap_err();
    assert_eq!(code(&again), "ResourceAlreadyExistsException");
}

#[tokio::test]
async fn a_leaf_is_no_ca() {
    let rig = Rig::easy().await;
    let leaf = TestCa::new("CA").leaf("SN1");
    let request = rig.iot.register_ca_certificate().ca_certificate(leaf);
    let error = request.certificate_mode(CertificateMode::SniOnly).send().await.unwrap_err();
    assert_eq!(code(&error), "CertificateValidationException");
}

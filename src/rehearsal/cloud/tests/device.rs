//! One device's way through the SDK's clients, and what a repeat of each step gives.

use aws_sdk_iot::operation::RequestId as _;
use aws_sdk_iot::types::{AttributePayload, CertificateStatus};

use super::super::authority::tests::csr;
use super::super::{AuditScope, LockerScope};
use super::*;

#[tokio::test]
async fn a_device_is_made_by_the_sdks_clients_and_the_audit_finds_it_right() {
    let rig = Rig::easy().await;
    let pem = TestCa::new("Plant CA").leaf("SN0001");
    let locker = rig.lockers.create_credential_locker().name("SN0001").client_token("t-1");
    let locker = locker.tags("product", "p").send().await.unwrap();
    let arn = locker.arn().unwrap();
    assert!(arn.starts_with("arn:aws:iotmanagedintegrations:eu-west-1:123456789012:credential-locker/"));
    let read = rig.lockers.get_credential_locker().identifier(locker.id().unwrap()).send().await.unwrap();
    assert_eq!((read.name(), read.tags().unwrap()["product"].as_str()), (Some("SN0001"), "p"));

    rig.iot.create_policy().policy_name("SN0001").policy_document(DOCUMENT).send().await.unwrap();
    let certificate = rig.iot.register_certificate_without_ca().certificate_pem(&pem);
    let certificate = certificate.status(CertificateStatus::Active).send().await.unwrap();
    assert!(certificate.request_id().is_some());
    let attributes = AttributePayload::builder().attributes("linemint", "L3-S07").build();
    let thing = rig.iot.create_thing().thing_name("SN0001").attribute_payload(attributes);
    assert_eq!(
        thing.send().await.unwrap().thing_arn(),
        Some("arn:aws:iot:eu-west-1:123456789012:thing/SN0001")
    );
    let arn = certificate.certificate_arn().unwrap();
    rig.iot.attach_policy().policy_name("SN0001").target(arn).send().await.unwrap();
    rig.iot.attach_thing_principal().thing_name("SN0001").principal(arn).send().await.unwrap();

    let policies = rig.iot.list_attached_policies().target(arn).send().await.unwrap();
    assert_eq!(policies.policies()[0].policy_name(), Some("SN0001"));
    let principals = rig.iot.list_thing_principals().thing_name("SN0001").send().await.unwrap();
    assert_eq!(principals.principals(), [arn.to_owned()]);
    let things = rig.iot.list_principal_things().principal(arn).send().await.unwrap();
    assert_eq!(things.things(), ["SN0001".to_owned()]);
    let described = rig.iot.describe_thing().thing_name("SN0001").send().await.unwrap();
    assert_eq!(described.attributes().unwrap()["linemint"], "L3-S07");

    let audit = rig.cloud.audit(&["SN0001"], AuditScope::default());
    assert!(audit.ok, "{audit:?}");
    assert_eq!((audit.certificates, audit.active_certificates, audit.lockers), (1, 1, 1));
    assert!(
        !rig.cloud.audit(&["SN0001"], AuditScope { locker: LockerScope::None, ..AuditScope::default() }).ok
    );
}

#[tokio::test]
async fn the_same_token_gives_the_same_locker_and_other_parameters_a_conflict() {
    let rig = Rig::easy().await;
    let create = |name: &str, token: &str| {
        rig.lockers.create_credential_locker().name(name).client_token(token).send()
    };
    let first = create("SN1", "t1").await.unwrap();
    assert_eq!(create("SN1", "t1").await.unwrap().id(), first.id());
    assert_ne!(create("SN1", "t2").await.unwrap().id(), first.id());
    let error = create("SN2", "t1").await.unwrap_err();
    assert_eq!((code(&error), error.raw_response().unwrap().status().as_u16()), ("ConflictException", 409));
    let tagged = rig.lockers.create_credential_locker().name("SN1").client_token("t1").tags("a", "b");
    assert_eq!(code(&tagged.send().await.unwrap_err()), "ConflictException");
    assert_eq!(rig.cloud.stats().calls["create-credential-locker"].effects, 2);
}

#[tokio::test]
async fn a_policy_conflicts_even_with_the_same_document() {
    let rig = Rig::easy().await;
    let create = || rig.iot.create_policy().policy_name("SN1").policy_document(DOCUMENT).send();
    create().await.unwrap();
    let error = create().await.unwrap_err().into_service_error();
    let existing = match error {
        aws_sdk_iot::operation::create_policy::CreatePolicyError::ResourceAlreadyExistsException(it) => it,
        other => panic!("{other}"),
    };
    assert_eq!(existing.resource_id(), Some("SN1"));
    assert_eq!(existing.resource_arn(), Some("arn:aws:iot:eu-west-1:123456789012:policy/SN1"));
}

#[tokio::test]
async fn a_thing_can_be_created_again_only_as_it_is() {
    let rig = Rig::easy().await;
    let create = |station: &str| {
        let attributes = AttributePayload::builder().attributes("linemint", station).build();
        rig.iot.create_thing().thing_name("a:1").attribute_payload(attributes).send()
    };
    let first = create("L1").await.unwrap();
    assert_eq!(create("L1").await.unwrap().thing_id(), first.thing_id());
    let error = create("L2").await.unwrap_err();
    assert_eq!(code(&error), "ResourceAlreadyExistsException");
}

#[tokio::test]
async fn the_same_certificate_meets_itself_under_the_hash_of_its_bytes() {
    let rig = Rig::easy().await;
    let pem = TestCa::new("CA").leaf("SN1");
    let register = || rig.iot.register_certificate_without_ca().certificate_pem(&pem).send();
    let first = register().await.unwrap();
    let der = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents;
    let id = crate::pki::Fingerprint::of(&der).to_string();
    assert_eq!(first.certificate_id(), Some(id.as_str()));
    let described = rig.iot.describe_certificate().certificate_id(&id).send().await.unwrap();
    let described = described.certificate_description().unwrap();
    assert_eq!(described.status(), Some(&CertificateStatus::Inactive));
    assert_eq!(described.certificate_pem().unwrap().trim(), pem.trim().replace('\r', ""));
    let error = register().await.unwrap_err().into_service_error();
    assert_eq!(error.meta().code(), Some("ResourceAlreadyExistsException"));
    let text = format!("{error:?}");
    assert!(text.contains(&id) && text.contains("arn:aws:iot:eu-west-1:123456789012:cert/"), "{text}");
}

#[tokio::test]
async fn one_csr_makes_another_certificate_each_time() {
    let rig = Rig::easy().await;
    let csr = csr("SN1");
    let create =
        || rig.iot.create_certificate_from_csr().certificate_signing_request(&csr).set_as_active(true);
    let (first, second) = (create().send().await.unwrap(), create().send().await.unwrap());
    assert_ne!(first.certificate_id(), second.certificate_id());
    let der =
        x509_parser::pem::parse_x509_pem(first.certificate_pem().unwrap().as_bytes()).unwrap().1.contents;
    let id = crate::pki::Fingerprint::of(&der).to_string();
    assert_eq!(first.certificate_id(), Some(id.as_str()));
    let described = rig.iot.describe_certificate().certificate_id(&id).send().await.unwrap();
    assert_eq!(described.certificate_description().unwrap().status(), Some(&CertificateStatus::Active));
}

#[tokio::test]
async fn the_endpoint_has_the_region_and_an_unknown_kind_has_none() {
    let rig = Rig::easy().await;
    let endpoint = rig.iot.describe_endpoint().endpoint_type("iot:Data-ATS").send().await.unwrap();
    assert!(endpoint.endpoint_address().unwrap().ends_with("-ats.iot.eu-west-1.amazonaws.com"));
    let error = rig.iot.describe_endpoint().endpoint_type("iot:Coffee").send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidRequestException");
}

//! Scrapping a device: the order that AWS forces.

use super::*;

fn id_of(arn: &str) -> &str {
    arn.rsplit_once('/').unwrap().1
}

#[tokio::test]
async fn nothing_goes_while_something_hangs_on_it() {
    let rig = Rig::easy().await;
    let arn = rig.make_device("SN1").await;
    let certificate = format!("/certificates/{}", id_of(&arn));
    assert_eq!(
        rig.call("DELETE", &certificate, &Value::Null).await.error(),
        (406, "CertificateStateException")
    );
    assert_eq!(
        rig.call("DELETE", "/policies/SN1", &Value::Null).await.error(),
        (409, "DeleteConflictException")
    );
    assert_eq!(
        rig.call("DELETE", "/things/SN1", &Value::Null).await.error(),
        (400, "InvalidRequestException")
    );

    rig.call("PUT", &format!("{certificate}?newStatus=INACTIVE"), &Value::Null).await.ok();
    assert_eq!(
        rig.call("DELETE", &certificate, &Value::Null).await.error(),
        (409, "DeleteConflictException")
    );
    rig.principal("DELETE", "SN1", &arn).await.ok();
    rig.call("DELETE", "/things/SN1", &Value::Null).await.ok();
    rig.call("POST", "/target-policies/SN1", &json!({ "target": arn })).await.ok();
    rig.call("DELETE", "/policies/SN1", &Value::Null).await.ok();
    rig.call("DELETE", &certificate, &Value::Null).await.ok();
    let audit = rig.cloud.audit(&[""; 0], super::super::AuditScope::default());
    assert_eq!((audit.things, audit.policies, audit.certificates, audit.orphans.lockers), (0, 0, 0, 1));
}

#[tokio::test]
async fn deleting_twice_is_not_found_except_for_things() {
    let rig = Rig::easy().await;
    let locker = rig.call("POST", "/credential-lockers", &json!({ "Name": "SN1" })).await.ok();
    assert_eq!(locker.status, 201);
    let path = format!("/credential-lockers/{}", locker.body["Id"].as_str().unwrap());
    rig.call("DELETE", &path, &Value::Null).await.ok();
    let again = rig.call("DELETE", &path, &Value::Null).await;
    assert_eq!(again.error(), (404, "ResourceNotFoundException"));
    assert!(again.body["Message"].is_string() && again.body["message"].is_null());
    let again = rig.call("DELETE", "/policies/SN1", &Value::Null).await;
    assert_eq!(again.error(), (404, "ResourceNotFoundException"));
    assert!(again.body["message"].is_string());
    rig.call("DELETE", "/things/SN1", &Value::Null).await.ok();
}

#[tokio::test]
async fn a_revoked_certificate_stays_revoked() {
    let rig = Rig::easy().await;
    let arn = rig.register(&TestCa::new("CA").leaf("SN1")).await;
    let path = format!("/certificates/{}?newStatus=", id_of(&arn));
    rig.call("PUT", &format!("{path}REVOKED"), &Value::Null).await.ok();
    rig.call("PUT", &format!("{path}REVOKED"), &Value::Null).await.ok();
    let again = rig.call("PUT", &format!("{path}ACTIVE"), &Value::Null).await;
    assert_eq!(again.error(), (406, "CertificateStateException"));
    let transfer = rig.call("PUT", &format!("{path}PENDING_TRANSFER"), &Value::Null).await;
    assert_eq!(transfer.error(), (400, "InvalidRequestException"));
}

#[tokio::test]
async fn force_passes_over_policies_but_not_over_things() {
    let rig = Rig::easy().await;
    let arn = rig.make_device("SN1").await;
    let path = format!("/certificates/{}", id_of(&arn));
    rig.call("PUT", &format!("{path}?newStatus=INACTIVE"), &Value::Null).await.ok();
    let forced = format!("{path}?forceDelete=true");
    assert_eq!(rig.call("DELETE", &forced, &Value::Null).await.error(), (409, "DeleteConflictException"));
    rig.principal("DELETE", "SN1", &arn).await.ok();
    assert_eq!(rig.call("DELETE", &path, &Value::Null).await.error(), (409, "DeleteConflictException"));
    rig.call("DELETE", &forced, &Value::Null).await.ok();
    rig.call("DELETE", "/policies/SN1", &Value::Null).await.ok();
}

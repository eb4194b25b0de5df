//! The audit finds what is missing, double, half made or left over.

use super::super::{Audit, AuditScope, CertificateScope, LockerScope, PolicyScope};
use super::*;

/// The one thing that is wrong.
fn problem(audit: &Audit) -> &str {
    assert!(!audit.ok);
    assert_eq!(audit.problems.len(), 1, "{audit:?}");
    &audit.problems[0].what
}

fn audit(rig: &Rig, serial: &str) -> Audit {
    rig.cloud.audit(&[serial], AuditScope::default())
}

#[tokio::test]
async fn a_second_locker_a_missing_attribute_and_a_missing_policy_are_found() {
    let rig = Rig::easy().await;
    rig.make_device("SN1").await;
    assert!(audit(&rig, "SN1").ok);
    rig.call("POST", "/credential-lockers", &json!({ "Name": "SN1" })).await.ok();
    assert_eq!(problem(&audit(&rig, "SN1")), "there are 2 lockers of that name, not 1");

    let rig = Rig::easy().await;
    rig.call("POST", "/things/SN1", &Value::Null).await.ok();
    let arn = rig.make_device_without_thing("SN1").await;
    rig.attach_thing("SN1", &arn).await.ok();
    assert_eq!(problem(&audit(&rig, "SN1")), "the thing has no attribute linemint");

    rig.call("POST", "/target-policies/SN1", &json!({ "target": arn })).await.ok();
    rig.call("DELETE", "/policies/SN1", &Value::Null).await.ok();
    let what: Vec<_> = audit(&rig, "SN1").problems.into_iter().map(|it| it.what).collect();
    assert!(what.contains(&"there is no policy".to_owned()), "{what:?}");
    assert!(what.contains(&"its certificate carries 0 policies: ".to_owned()), "{what:?}");
}

#[tokio::test]
async fn a_device_that_is_not_there_at_all_is_found() {
    let rig = Rig::easy().await;
    rig.make_device("SN1").await;
    let audit = rig.cloud.audit(&["SN1", "SN2", "SN1"], AuditScope::default());
    assert_eq!(audit.serials, 2);
    assert!(audit.problems.iter().all(|it| it.serial.as_deref() == Some("SN2")) && !audit.ok);
    assert!(audit.problems.iter().any(|it| it.what == "there is no thing"));
}

#[tokio::test]
async fn two_active_certificates_are_a_problem_and_an_inactive_one_is_none() {
    let rig = Rig::easy().await;
    rig.make_device("SN1").await;
    let second = rig.register(&TestCa::new("CA").leaf("SN1")).await;
    rig.attach_thing("SN1", &second).await.ok();
    assert_eq!(problem(&audit(&rig, "SN1")), "2 active certificates are attached, not 1");
    let id = second.rsplit_once('/').unwrap().1;
    rig.call("PUT", &format!("/certificates/{id}?newStatus=INACTIVE"), &Value::Null).await.ok();
    let audit = audit(&rig, "SN1");
    assert!(audit.ok, "{audit:?}");
    assert_eq!((audit.certificates, audit.active_certificates), (2, 1));
}

#[tokio::test]
async fn a_certificate_at_two_things_or_with_a_second_policy_is_found() {
    let rig = Rig::easy().await;
    let first = rig.make_device("SN1").await;
    rig.make_device("SN2").await;
    rig.attach_policy("SN2", &first).await.ok();
    let audit = rig.cloud.audit(&["SN1", "SN2"], AuditScope::default());
    assert_eq!(problem(&audit), "its certificate carries 2 policies: SN1, SN2");
    rig.attach_thing("SN2", &first).await.ok();
    let audit = rig.cloud.audit(&["SN1", "SN2"], AuditScope::default());
    let what: Vec<_> = audit.problems.iter().map(|it| it.what.as_str()).collect();
    assert!(what.contains(&"its certificate is attached to 2 things"), "{what:?}");
}

#[tokio::test]
async fn whatever_belongs_to_nobody_is_an_orphan() {
    let rig = Rig::easy().await;
    rig.make_device("SN1").await;
    rig.make_device("SN2").await;
    rig.register(&TestCa::new("CA").leaf("SN1")).await;
    let audit = audit(&rig, "SN1");
    let orphans = audit.orphans;
    assert_eq!((orphans.lockers, orphans.policies, orphans.things, orphans.certificates), (1, 1, 1, 1));
    assert_eq!(orphans.active_unattached, 1);
    assert!(!audit.ok && audit.problem_count == 5);
}

#[tokio::test]
async fn other_scopes_want_other_things() {
    let rig = Rig::easy().await;
    rig.call("POST", "/policies/shared", &json!({ "policyDocument": DOCUMENT })).await.ok();
    let attributes = json!({ "attributePayload": { "attributes": { "linemint": "L1" } } });
    rig.call("POST", "/things/SN1", &attributes).await.ok();
    let scope = AuditScope {
        locker: LockerScope::None,
        policy: PolicyScope::Shared,
        certificate: CertificateScope::Jitp,
    };
    assert!(rig.cloud.audit(&["SN1"], scope).ok);
    let arn = rig.register(&TestCa::new("CA").leaf("SN1")).await;
    rig.attach_thing("SN1", &arn).await.ok();
    assert_eq!(problem(&rig.cloud.audit(&["SN1"], scope)), "1 certificates are attached, not 0");
    let scope = AuditScope { certificate: CertificateScope::Cloud, ..scope };
    assert!(!rig.cloud.audit(&["SN1"], scope).ok);
    rig.attach_policy("shared", &arn).await.ok();
    assert!(rig.cloud.audit(&["SN1"], scope).ok);
}

#[tokio::test]
async fn the_audit_can_be_asked_for_over_http() {
    let rig = Rig::easy().await;
    rig.make_device("SN1").await;
    let ask =
        |query: &'static str, serials: &'static str| send_raw(rig.cloud.addr(), "POST", query, "", serials);
    let reply = ask("/__audit", "SN1\r\n\n  SN1 \n").await.unwrap().unwrap().ok();
    assert_eq!((&reply.body["ok"], &reply.body["serials"]), (&json!(true), &json!(1)));
    assert_eq!(reply.body["problems"], json!([]));
    assert_eq!(reply.body["calls"]["create-policy"]["ok"], 1);
    let reply = ask("/__audit?locker=none&policy=shared&certificate=jitp", "SN1").await.unwrap().unwrap();
    assert_eq!((reply.status, &reply.body["ok"]), (200, &json!(false)));
    assert_eq!(ask("/__audit?locker=some", "").await.unwrap().unwrap().status, 400);
    assert_eq!(ask("/__audit?colour=red", "").await.unwrap().unwrap().status, 400);
    let stats = send_raw(rig.cloud.addr(), "GET", "/__stats", "", "").await.unwrap().unwrap().ok();
    assert_eq!(stats.body["requests"], 6);
}

impl Rig {
    /// Everything of a device but its thing. Returns the certificate's ARN.
    async fn make_device_without_thing(&self, serial: &str) -> String {
        self.call("POST", "/credential-lockers", &json!({ "Name": serial })).await.ok();
        self.call("POST", &format!("/policies/{serial}"), &json!({ "policyDocument": DOCUMENT })).await.ok();
        let arn = self.register(&TestCa::new("CA").leaf(serial)).await;
        self.attach_policy(serial, &arn).await.ok();
        arn
    }
}

#[tokio::test]
async fn a_certificate_that_aws_has_issued_and_that_is_at_no_thing_is_an_orphan_though_inactive() {
    let rig = Rig::easy().await;
    rig.make_device("SN1").await;
    let csr = json!({ "certificateSigningRequest": super::super::authority::tests::csr("SN1") });
    let made = rig.call("POST", "/certificates", &csr).await.ok();
    let found = audit(&rig, "SN1");
    assert_eq!(found.orphans.issued_unattached, 1);
    assert!(problem(&found).contains("was issued by AWS and is at no thing"), "{found:?}");
    let id = made.body["certificateId"].as_str().unwrap();
    rig.call("DELETE", &format!("/certificates/{id}"), &Value::Null).await.ok();
    assert!(audit(&rig, "SN1").ok);
}

#[tokio::test]
async fn a_token_that_is_forgotten_makes_a_second_locker() {
    let rig = Rig::easy().await;
    rig.make_device("SN1").await;
    let locker = json!({ "Name": "SN1", "ClientToken": "SN1" });
    rig.call("POST", "/credential-lockers", &locker).await.ok();
    assert!(audit(&rig, "SN1").ok);
    rig.cloud.forget_tokens();
    rig.call("POST", "/credential-lockers", &locker).await.ok();
    assert_eq!(problem(&audit(&rig, "SN1")), "there are 2 lockers of that name, not 1");
}

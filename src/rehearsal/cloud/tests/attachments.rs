//! Attaching: what has to be there, how often it may be repeated, when it shows.

use std::time::Duration;

use super::super::Fault;
use super::*;

#[tokio::test]
async fn attaching_needs_both_ends_and_may_be_repeated() {
    let rig = Rig::easy().await;
    let arn = rig.register(&TestCa::new("CA").leaf("SN1")).await;
    let unknown = format!("{}{}", &arn[..arn.len() - 4], "0000");
    let not_found = (404, "ResourceNotFoundException");
    assert_eq!(rig.attach_policy("SN1", &arn).await.error(), not_found);
    assert_eq!(rig.attach_thing("SN1", &arn).await.error(), not_found);
    let arn = rig.make_device("SN2").await;
    assert_eq!(rig.attach_policy("SN2", &unknown).await.error(), not_found);
    assert_eq!(rig.attach_thing("SN2", &unknown).await.error(), not_found);
    assert_eq!(rig.attach_policy("SN2", "group").await.error(), (400, "InvalidRequestException"));
    rig.attach_policy("SN2", &arn).await.ok();
    rig.attach_thing("SN2", &arn).await.ok();
    let calls = rig.cloud.stats().calls;
    assert_eq!((calls["attach-policy"].ok, calls["attach-policy"].effects), (2, 1));
    assert_eq!((calls["attach-thing-principal"].ok, calls["attach-thing-principal"].effects), (2, 1));
}

#[tokio::test]
async fn a_certificate_takes_ten_policies_and_no_more() {
    let rig = Rig::easy().await;
    let arn = rig.register(&TestCa::new("CA").leaf("SN1")).await;
    for number in 0..11 {
        let path = format!("/policies/p{number}");
        rig.call("POST", &path, &json!({ "policyDocument": DOCUMENT })).await.ok();
        let attached = rig.attach_policy(&format!("p{number}"), &arn).await;
        match number {
            10 => assert_eq!(attached.error(), (410, "LimitExceededException")),
            _ => assert_eq!(attached.status, 200),
        }
    }
    rig.attach_policy("p0", &arn).await.ok();
}

#[tokio::test]
async fn detaching_may_be_repeated() {
    let rig = Rig::easy().await;
    let arn = rig.make_device("SN1").await;
    for _ in 0..2 {
        rig.iot.detach_policy().policy_name("SN1").target(&arn).send().await.unwrap();
        rig.iot.detach_thing_principal().thing_name("SN1").principal(&arn).send().await.unwrap();
    }
    let policies = rig.iot.list_attached_policies().target(&arn).send().await.unwrap();
    assert!(policies.policies().is_empty());
    let targets = rig.iot.list_targets_for_policy().policy_name("SN1").send().await.unwrap();
    assert!(targets.targets().is_empty());
}

#[tokio::test]
async fn an_exclusive_principal_goes_to_one_thing() {
    let rig = Rig::easy().await;
    let arn = rig.register(&TestCa::new("CA").leaf("SN1")).await;
    for thing in ["a", "b"] {
        rig.call("POST", &format!("/things/{thing}"), &Value::Null).await.ok();
    }
    let attach = |thing: &'static str| {
        let kind = aws_sdk_iot::types::ThingPrincipalType::ExclusiveThing;
        rig.iot.attach_thing_principal().thing_name(thing).principal(&arn).thing_principal_type(kind).send()
    };
    attach("a").await.unwrap();
    attach("a").await.unwrap();
    assert_eq!(code(&attach("b").await.unwrap_err()), "InvalidRequestException");
}

#[tokio::test]
async fn an_attachment_shows_late_in_every_list() {
    let faults =
        FaultPlan { late_attachments: 1.0, hidden_for: Duration::from_secs(10), ..FaultPlan::none() };
    let rig = Rig::start(CloudOptions { faults, ..easy() }).await;
    let arn = rig.make_device("SN1").await;
    let lists = || async {
        let policies =
            rig.call("POST", &format!("/attached-policies/{}", encode(&arn)), &Value::Null).await.ok();
        let principals = rig.call("GET", "/things/SN1/principals", &Value::Null).await.ok();
        let targets = rig.call("POST", "/policy-targets/SN1", &Value::Null).await.ok();
        let things = rig.iot.list_principal_things().principal(&arn).send().await.unwrap();
        [
            policies.body["policies"].as_array().unwrap().len(),
            principals.body["principals"].as_array().unwrap().len(),
            targets.body["targets"].as_array().unwrap().len(),
            things.things().len(),
        ]
    };
    assert_eq!(lists().await, [0; 4]);
    rig.clock.advance(Duration::from_secs(10));
    assert_eq!(lists().await, [1; 4]);
}

#[tokio::test]
async fn what_was_just_made_is_not_found_by_attach_for_a_while() {
    let faults = FaultPlan { late_resources: 1.0, absent_for: Duration::from_secs(10), ..FaultPlan::none() };
    let rig = Rig::start(CloudOptions { faults, ..easy() }).await;
    let arn = rig.register(&TestCa::new("CA").leaf("SN1")).await;
    rig.call("POST", "/policies/SN1", &json!({ "policyDocument": DOCUMENT })).await.ok();
    rig.call("GET", "/policies/SN1", &Value::Null).await.ok();
    assert_eq!(rig.attach_policy("SN1", &arn).await.error(), (404, "ResourceNotFoundException"));
    rig.clock.advance(Duration::from_secs(10));
    rig.attach_policy("SN1", &arn).await.ok();
    assert_eq!(rig.cloud.stats().faults[&Fault::NotVisibleYet], 1);
}

#[tokio::test]
async fn not_being_found_ends_even_if_the_time_stands_still() {
    let faults = FaultPlan { late_resources: 1.0, absent_for: Duration::from_secs(10), ..FaultPlan::none() };
    let rig = Rig::start(CloudOptions { faults, ..easy() }).await;
    let arn = rig.register(&TestCa::new("CA").leaf("SN1")).await;
    rig.call("POST", "/things/SN1", &Value::Null).await.ok();
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(rig.attach_thing("SN1", &arn).await.status);
    }
    assert_eq!(statuses, [404, 404, 404, 404, 200]);
}

//! Throttling and the quota of lockers, as each service words them.

use std::time::Duration;

use super::*;
use crate::clock::TimeSource as _;

#[tokio::test]
async fn throttling_is_400_on_iot_and_429_on_managed_integrations() {
    let rig = Rig::start(CloudOptions { quotas: Quotas::aws_default(), ..easy() }).await;
    for number in 0..10 {
        rig.lockers.create_credential_locker().name("SN").send().await.unwrap();
        let name = format!("SN{number}");
        rig.iot.create_policy().policy_name(name).policy_document(DOCUMENT).send().await.unwrap();
    }
    let locker = rig.lockers.create_credential_locker().name("SN").send().await.unwrap_err();
    let policy =
        rig.iot.create_policy().policy_name("SN").policy_document(DOCUMENT).send().await.unwrap_err();
    assert_eq!(
        (code(&locker), locker.raw_response().unwrap().status().as_u16()),
        ("ThrottlingException", 429)
    );
    assert_eq!(
        (code(&policy), policy.raw_response().unwrap().status().as_u16()),
        ("ThrottlingException", 400)
    );
    rig.clock.advance(Duration::from_millis(100));
    rig.lockers.create_credential_locker().name("SN").send().await.unwrap();
    let calls = rig.cloud.stats().calls["create-credential-locker"];
    assert_eq!((calls.ok, calls.throttled, calls.errors), (11, 1, 0));
}

#[tokio::test]
async fn an_account_wide_limit_can_come_and_go_while_it_runs() {
    let rig = Rig::easy().await;
    rig.cloud.set_account_limit(Some(1.0));
    rig.call("GET", "/endpoint", &Value::Null).await.ok();
    let throttled = rig.call("GET", "/policies", &Value::Null).await;
    assert_eq!(throttled.error(), (400, "ThrottlingException"));
    rig.cloud.set_account_limit(None);
    rig.call("GET", "/policies", &Value::Null).await.ok();
    assert_eq!(rig.clock.now().wall, "2026-11-21T12:00:00Z".parse().unwrap());
}

#[tokio::test]
async fn too_many_lockers_are_a_quota_and_402() {
    let rig = Rig::start(CloudOptions { max_lockers: Some(1), ..easy() }).await;
    rig.lockers.create_credential_locker().name("SN1").client_token("t").send().await.unwrap();
    rig.lockers.create_credential_locker().name("SN1").client_token("t").send().await.unwrap();
    let error = rig.lockers.create_credential_locker().name("SN2").send().await.unwrap_err();
    let status = error.raw_response().unwrap().status().as_u16();
    assert_eq!((code(&error), status), ("ServiceQuotaExceededException", 402));
}

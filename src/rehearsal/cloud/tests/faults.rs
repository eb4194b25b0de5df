//! Every fault as it looks from the client's side, and what it leaves in the account.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::super::Fault;
use super::*;

/// One faulty request, as bytes, and whether it had an effect.
async fn meet(fault: Fault) -> (io::Result<Option<Reply>>, bool) {
    let rig = Rig::start(CloudOptions { faults: FaultPlan::always(fault), ..easy() }).await;
    let body = json!({ "policyDocument": DOCUMENT }).to_string();
    let reply = send(rig.cloud.addr(), "POST", "/policies/SN1", &body, None).await;
    assert_eq!(rig.cloud.rows()[0].fault, Some(fault));
    (reply, rig.cloud.rows()[0].effect)
}

#[tokio::test]
async fn a_fault_before_the_effect_leaves_nothing_behind() {
    for (fault, status, error) in [
        (Fault::Throttled, 400, "ThrottlingException"),
        (Fault::InternalBefore, 500, "InternalFailureException"),
        (Fault::Unavailable, 503, "ServiceUnavailableException"),
        (Fault::ProxyPageBefore, 200, ""),
    ] {
        let (reply, effect) = meet(fault).await;
        assert_eq!(reply.unwrap().unwrap().error(), (status, error));
        assert!(!effect, "{fault:?}");
    }
    let (reply, effect) = meet(Fault::ClosedBefore).await;
    assert!(reply.unwrap().is_none() && !effect);
}

#[tokio::test]
async fn a_hanging_request_has_no_answer_and_no_effect() {
    let rig = Rig::start(CloudOptions { faults: FaultPlan::always(Fault::Hang), ..easy() }).await;
    let addr = rig.cloud.addr();
    let call = tokio::spawn(async move { send(addr, "POST", "/things/SN1", "", None).await });
    let arrived = async {
        while rig.cloud.stats().requests == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), arrived).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    assert!(!rig.cloud.rows()[0].effect);
}

#[tokio::test]
async fn a_fault_after_the_effect_hides_it() {
    let (reply, effect) = meet(Fault::InternalAfter).await;
    assert_eq!(reply.unwrap().unwrap().error(), (500, "InternalFailureException"));
    assert!(effect);
    let (reply, effect) = meet(Fault::BadGatewayAfter).await;
    let reply = reply.unwrap().unwrap();
    assert!(reply.status == 502 && reply.text.contains("<html>") && effect);
    assert!(!reply.headers.contains_key("x-amzn-requestid"));
    let (reply, effect) = meet(Fault::ResetAfter).await;
    assert!(reply.unwrap_err().kind() == io::ErrorKind::ConnectionReset && effect);
}

#[tokio::test]
async fn a_200_from_a_proxy_has_a_page_and_no_request_id() {
    for fault in [Fault::ProxyPageBefore, Fault::ProxyPageAfter] {
        let (reply, effect) = meet(fault).await;
        let reply = reply.unwrap().unwrap();
        assert!(reply.status == 200 && reply.headers["content-type"] == "text/html");
        assert!(!reply.headers.contains_key("x-amzn-requestid"));
        assert_eq!(effect, fault == Fault::ProxyPageAfter);
    }
}

#[tokio::test]
async fn a_cut_answer_announces_more_than_it_brings() {
    let (reply, effect) = meet(Fault::CutAfter).await;
    let reply = reply.unwrap().unwrap();
    let announced: usize = reply.headers["content-length"].parse().unwrap();
    assert!(!reply.text.is_empty() && reply.text.len() < announced && effect);
    assert!(reply.headers.contains_key("x-amzn-requestid"));
}

#[tokio::test]
async fn the_sdk_sees_an_error_in_every_fault_but_the_proxys_empty_success() {
    let after = [Fault::ResetAfter, Fault::InternalAfter, Fault::CutAfter, Fault::BadGatewayAfter];
    let before = [Fault::ClosedBefore, Fault::Unavailable, Fault::InternalBefore, Fault::Throttled];
    for fault in after.into_iter().chain(before) {
        let rig = Rig::start(CloudOptions { faults: FaultPlan::always(fault), ..easy() }).await;
        let sent = rig.iot.create_policy().policy_name("SN1").policy_document(DOCUMENT).send().await;
        assert!(sent.is_err(), "{fault:?}");
        let effects = rig.cloud.stats().calls["create-policy"].effects;
        assert_eq!(effects == 1, fault.is_after_effect(), "{fault:?}");
    }
}

/// Makes `serial`'s thing and policy with as many tries as it takes.
async fn stubborn(addr: SocketAddr, serial: String) {
    let policy = json!({ "policyDocument": DOCUMENT }).to_string();
    for (path, body) in
        [(format!("/policies/{serial}"), policy), (format!("/things/{serial}"), String::new())]
    {
        for _ in 0..60 {
            if let Ok(Some(reply)) = send(addr, "POST", &path, &body, None).await
                && reply.headers.contains_key("x-amzn-requestid")
                && matches!(reply.status, 200 | 409)
            {
                break;
            }
        }
    }
}

/// What happened to each resource in turn, in a run with so many devices at a time.
async fn run(at_a_time: usize, seed: u64) -> BTreeMap<String, Vec<(u16, bool)>> {
    // A client that gives up decides by the clock what comes next; nothing else may.
    let mut faults = FaultPlan::hard();
    faults.odds.retain(|(fault, _)| *fault != Fault::Hang);
    let rig = Rig::start(CloudOptions { faults, seed, ..easy() }).await;
    let serials = (0..40).map(|it| format!("SN{it}"));
    let addr = rig.cloud.addr();
    futures_util::stream::iter(serials).for_each_concurrent(at_a_time, |it| stubborn(addr, it)).await;
    let mut happened: BTreeMap<String, Vec<(u16, bool)>> = BTreeMap::new();
    for row in rig.cloud.rows() {
        happened
            .entry(format!("{} {}", row.operation, row.resource))
            .or_default()
            .push((row.status, row.effect));
    }
    happened
}

#[tokio::test]
async fn a_seed_repeats_its_run_whatever_the_concurrency() {
    let one_by_one = run(1, 3).await;
    assert!(one_by_one.values().any(|it| it.len() > 2));
    assert!(one_by_one.values().all(|it| it.iter().filter(|(_, effect)| *effect).count() == 1));
    assert_eq!(run(16, 3).await, one_by_one);
    assert_ne!(run(16, 4).await, one_by_one);
}

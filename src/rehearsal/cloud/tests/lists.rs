//! Lists come in pages, and every page leads to the next.

use super::super::authority::tests::csr;
use super::*;

#[tokio::test]
async fn certificates_are_listed_newest_first_unless_asked_otherwise() {
    let rig = Rig::easy().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        let body = json!({ "certificateSigningRequest": csr("SN1") });
        let reply = rig.call("POST", "/certificates?setAsActive=true", &body).await.ok();
        made.push(reply.body["certificateId"].as_str().unwrap().to_owned());
    }
    for ascending in [false, true] {
        let mut listed = Vec::new();
        let mut marker = None;
        loop {
            let page = rig.iot.list_certificates().page_size(2).ascending_order(ascending);
            let page = page.set_marker(marker).send().await.unwrap();
            assert!(page.certificates().len() <= 2);
            listed.extend(page.certificates().iter().map(|it| it.certificate_id().unwrap().to_owned()));
            marker = page.next_marker().map(str::to_owned);
            if marker.is_none() {
                break;
            }
        }
        if !ascending {
            listed.reverse();
        }
        assert_eq!(listed, made);
    }
}

#[tokio::test]
async fn things_can_be_listed_by_attribute_and_policies_and_lockers_by_page() {
    let rig = Rig::easy().await;
    for number in 0..5 {
        let station = if number == 3 { "L2" } else { "L1" };
        let attributes = json!({ "attributePayload": { "attributes": { "linemint": station } } });
        rig.call("POST", &format!("/things/SN{number}"), &attributes).await.ok();
        let policy = json!({ "policyDocument": DOCUMENT });
        rig.call("POST", &format!("/policies/SN{number}"), &policy).await.ok();
        rig.call("POST", "/credential-lockers", &json!({ "Name": format!("SN{number}") })).await.ok();
    }
    let things = rig.iot.list_things().attribute_name("linemint").attribute_value("L1").max_results(2);
    let things: Vec<_> = things.into_paginator().items().send().collect::<Result<_, _>>().await.unwrap();
    let names: Vec<_> = things.iter().filter_map(|it| it.thing_name()).collect();
    assert_eq!(names, ["SN0", "SN1", "SN2", "SN4"]);
    let policies = rig.iot.list_policies().page_size(2).into_paginator().items().send();
    assert_eq!(policies.collect::<Result<Vec<_>, _>>().await.unwrap().len(), 5);
    let lockers = rig.lockers.list_credential_lockers().max_results(2).into_paginator().items().send();
    let lockers: Vec<_> = lockers.collect::<Result<_, _>>().await.unwrap();
    let mut names: Vec<_> = lockers.iter().filter_map(|it| it.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["SN0", "SN1", "SN2", "SN3", "SN4"]);
}

#[tokio::test]
async fn a_page_size_or_a_token_out_of_bounds_is_refused() {
    let rig = Rig::easy().await;
    for path in
        ["/policies?pageSize=251", "/policies?pageSize=0", "/things?maxResults=x", "/policies?marker=*"]
    {
        let reply = rig.call("GET", path, &Value::Null).await;
        assert_eq!(reply.error(), (400, "InvalidRequestException"), "{path}");
    }
    let reply = rig.call("GET", "/credential-lockers?MaxResults=1001", &Value::Null).await;
    assert_eq!(reply.error(), (400, "ValidationException"));
}

#[tokio::test]
async fn a_new_certificate_may_show_in_the_list_a_little_later() {
    let faults = FaultPlan {
        late_attachments: 1.0,
        hidden_for: std::time::Duration::from_secs(9),
        ..FaultPlan::none()
    };
    let rig = Rig::start(CloudOptions { faults, ..easy() }).await;
    let csr = json!({ "certificateSigningRequest": super::super::authority::tests::csr("SN1") });
    let made = rig.call("POST", "/certificates", &csr).await.ok();
    let list = async || {
        let list = rig.call("GET", "/certificates", &Value::Null).await.ok();
        list.body["certificates"].as_array().unwrap().len()
    };
    assert_eq!(list().await, 0);
    let id = made.body["certificateId"].as_str().unwrap();
    rig.call("GET", &format!("/certificates/{id}"), &Value::Null).await.ok();
    rig.clock.advance(std::time::Duration::from_secs(9));
    assert_eq!(list().await, 1);
}

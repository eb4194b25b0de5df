//! What AWS's front end looks at before anything else, and the simulation's own pages.

use std::time::Duration;

use super::*;
use crate::clock::{SystemClock, TimeSource as _};

#[tokio::test]
async fn every_answer_has_a_request_id_of_its_own_and_says_what_is_wrong() {
    let rig = Rig::easy().await;
    let signed = authorization(Service::Iot);
    let addr = rig.cloud.addr();
    let cases = [
        ("GET", "/coffee", signed.as_str(), "", 404, "UnknownOperationException"),
        ("PATCH", "/things/a", signed.as_str(), "", 404, "UnknownOperationException"),
        ("GET", "/things/a", "", "", 403, "MissingAuthenticationTokenException"),
        ("GET", "/credential-lockers", signed.as_str(), "", 403, "InvalidSignatureException"),
        ("POST", "/policies/p", signed.as_str(), "{", 400, "SerializationException"),
        ("POST", "/policies/p", signed.as_str(), "[]", 400, "SerializationException"),
        ("POST", "/policies/p", signed.as_str(), r#"{"policyDocument":1}"#, 400, "SerializationException"),
        ("POST", "/policies/p", signed.as_str(), "{}", 400, "InvalidRequestException"),
        (
            "POST",
            "/policies/p",
            signed.as_str(),
            r#"{"policyDocument":"x"}"#,
            400,
            "MalformedPolicyException",
        ),
        (
            "POST",
            "/policies/a%20b",
            signed.as_str(),
            r#"{"policyDocument":"{}"}"#,
            400,
            "InvalidRequestException",
        ),
        ("POST", "/things/a.b", signed.as_str(), "{}", 400, "InvalidRequestException"),
        ("GET", "/certificates/abc", signed.as_str(), "", 400, "InvalidRequestException"),
        ("PUT", "/things/a/principals", signed.as_str(), "", 400, "InvalidRequestException"),
        ("GET", "/things/a", signed.as_str(), "", 404, "ResourceNotFoundException"),
    ];
    let mut ids = std::collections::BTreeSet::new();
    for (method, path, headers, body, status, error) in cases {
        let reply = send_raw(addr, method, path, headers, body).await.unwrap().unwrap();
        assert_eq!(reply.error(), (status, error), "{method} {path} {body}");
        assert!(reply.body["message"].is_string() || reply.body["Message"].is_string(), "{reply:?}");
        assert!(ids.insert(reply.headers["x-amzn-requestid"].clone()), "{reply:?}");
    }
    assert!(rig.cloud.rows().iter().all(|it| !it.effect));
}

#[tokio::test]
async fn unknown_members_are_passed_over_and_names_are_decoded() {
    let rig = Rig::easy().await;
    let body = json!({ "policyDocument": DOCUMENT, "colour": "red", "tags": [{ "Key": "a", "Value": "b" }] });
    let reply = rig.call("POST", "/policies/a%2Bb%40c", &body).await.ok();
    assert_eq!(reply.body["policyName"], "a+b@c");
    let reply = rig.call("POST", "/things/a%3A1", &Value::Null).await.ok();
    assert_eq!(reply.body["thingName"], "a:1");
}

#[tokio::test]
async fn bad_members_are_refused_by_the_services_own_exception() {
    let rig = Rig::easy().await;
    for body in [
        json!({ "Name": "" }),
        json!({ "Name": "a/b" }),
        json!({ "Name": "x".repeat(129) }),
        json!({ "Name": "a", "ClientToken": "x".repeat(65) }),
        json!({ "Name": "a", "Tags": {} }),
        json!({ "Name": "a", "Tags": { "k": "x".repeat(257) } }),
    ] {
        let reply = rig.call("POST", "/credential-lockers", &body).await;
        assert_eq!(reply.error(), (400, "ValidationException"), "{body}");
    }
    for body in [
        json!({ "attributePayload": { "attributes": { "a b": "c" } } }),
        json!({ "attributePayload": { "attributes": { "a": "c d" } } }),
        json!({ "attributePayload": { "attributes": { "a": "1", "b": "2", "c": "3", "d": "4" } } }),
    ] {
        let reply = rig.call("POST", "/things/SN1", &body).await;
        assert_eq!(reply.error(), (400, "InvalidRequestException"), "{body}");
    }
}

#[tokio::test]
async fn a_body_beyond_one_mebibyte_is_refused() {
    let rig = Rig::easy().await;
    let headers = authorization(Service::Iot);
    let body = "x".repeat(1024 * 1024 + 1);
    let sent = send_raw(rig.cloud.addr(), "POST", "/policies/p", &headers, &body).await;
    // The rest of the body may meet a connection that is closed already.
    if let Ok(Some(reply)) = sent {
        assert_eq!(reply.status, 413);
    }
    let rows = rig.cloud.rows();
    assert_eq!(rows.last().map(|it| (it.status, it.effect)), Some((413, false)));
}

#[tokio::test]
async fn the_round_trip_time_is_added_to_each_request_side_by_side() {
    let rtt = Duration::from_millis(100);
    let rig = Rig::start(CloudOptions { rtt, ..easy() }).await;
    let clock = SystemClock::default();
    let calls = (0..100).map(|_| rig.call("GET", "/endpoint", &Value::Null));
    futures_util::future::join_all(calls).await;
    let taken = clock.now().mono;
    assert!(taken >= rtt && taken < rtt * 50, "{taken:?}");
}

#[tokio::test]
async fn a_request_takes_effect_though_its_sender_dies() {
    let rig = Rig::start(CloudOptions { rtt: Duration::from_millis(50), ..easy() }).await;
    let mut stream = TcpStream::connect(rig.cloud.addr()).await.unwrap();
    let headers = authorization(Service::Iot);
    let request = format!("POST /things/SN1 HTTP/1.1\r\nhost: a\r\n{headers}content-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(stream);
    let made = async {
        while rig.cloud.stats().requests == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), made).await.unwrap();
    assert!(rig.cloud.rows()[0].effect);
}

#[tokio::test]
async fn another_region_is_refused_if_the_account_has_one() {
    let rig = Rig::start(CloudOptions { region: "us-east-1".to_owned(), ..easy() }).await;
    assert_eq!(rig.call("GET", "/endpoint", &Value::Null).await.error(), (403, "InvalidSignatureException"));
}

#[tokio::test]
async fn the_ledger_file_has_every_request_once_the_simulation_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.jsonl");
    let rig = Rig::start(CloudOptions { ledger: Some(path.clone()), ..easy() }).await;
    rig.make_device("SN1").await;
    rig.call("GET", "/things/SN2", &Value::Null).await;
    rig.cloud.shutdown().await.unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(rows.len(), 7);
    let last = json!({
        "seq": 7, "ms": 0, "operation": "describe-thing", "resource": "SN2", "status": 404,
        "code": "ResourceNotFoundException", "effect": false,
    });
    assert_eq!(rows[6], last);
    assert_eq!(rows.iter().filter(|it| it["effect"] == true).count(), 6);
}

#[tokio::test]
async fn after_the_end_nobody_listens() {
    let rig = Rig::easy().await;
    let addr = rig.cloud.addr();
    let idle = TcpStream::connect(addr).await.unwrap();
    rig.cloud.shutdown().await.unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_it() {
    let rig = Rig::easy().await;
    let error = SimulatedCloud::start(CloudOptions { listen: rig.cloud.addr(), ..easy() }).await.unwrap_err();
    assert!(error.to_string().contains(&rig.cloud.addr().to_string()));
}

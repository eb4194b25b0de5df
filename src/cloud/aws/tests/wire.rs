//! What goes over the wire for each call, and what comes back from a good answer.

use serde_json::json;

use super::super::super::{CertificateStatus, Reply};
use super::*;

/// The reply to `call` when AWS answers 200 with `body`, and the one request that was sent.
async fn good(call: Call, body: serde_json::Value) -> (Reply, Seen) {
    let (outcome, mut seen) = play(call, vec![Step::aws(200, &[], &body.to_string())]).await;
    let answer = outcome.unwrap();
    assert_eq!(answer.request_id.as_deref(), Some("req-1"));
    assert_eq!(seen.len(), 1);
    (answer.reply, seen.remove(0))
}

/// The reply to `call` when AWS answers 200 with nothing.
async fn empty(call: Call) -> Seen {
    let (outcome, mut seen) = play(call, vec![Step::aws(200, &[], "")]).await;
    assert_eq!(outcome, Ok(Answer { reply: Reply::Empty, request_id: Some("req-1".into()) }));
    assert_eq!(seen.len(), 1);
    seen.remove(0)
}

fn certificate() -> serde_json::Value {
    json!({"certificateId": certificate_id().to_uppercase(), "certificateArn": certificate_arn()})
}

#[tokio::test]
async fn create_credential_locker_carries_name_token_and_tags() {
    let arn = format!("arn:aws:iotmanagedintegrations:eu-west-1:{ACCOUNT}:credential-locker/abc123");
    let body = json!({"Id": "abc123", "Arn": arn, "CreatedAt": 1_700_000_000});
    let (reply, seen) = good(create_locker(), body).await;
    assert_eq!(reply, Reply::Locker { id: "abc123".into(), arn });
    assert_eq!(seen.line(), "POST /credential-lockers");
    assert_eq!(
        seen.json(),
        json!({"Name": "LM0001", "ClientToken": "token-1", "Tags": {"product": "thermostat"}})
    );
    assert!(seen.headers["authorization"].contains("/eu-west-1/iotmanagedintegrations/aws4_request"));
    assert!(
        seen.headers["x-amz-user-agent"].contains("lib/linemint"),
        "{}",
        seen.headers["x-amz-user-agent"]
    );
}

#[tokio::test]
async fn create_policy_carries_the_document_as_a_string_and_tags_as_a_list() {
    let (reply, seen) = good(create_policy(), serde_json::from_str(&policy_made()).unwrap()).await;
    let document = r#"{"Version":"2012-10-17"}"#;
    let policy =
        Reply::Policy { name: "LM0001".into(), arn: iot_arn("policy/LM0001"), document: document.into() };
    assert_eq!(reply, policy);
    assert_eq!(seen.line(), "POST /policies/LM0001");
    assert_eq!(seen.json(), json!({"policyDocument": document, "tags": [{"Key": "batch", "Value": "B1"}]}));
    assert!(seen.headers["authorization"].contains("/eu-west-1/iot/aws4_request"));
    assert_eq!(seen.headers["amz-sdk-request"], "attempt=1; max=1");
}

#[tokio::test]
async fn no_tags_and_no_attributes_are_left_out() {
    let call = Call::CreatePolicy { name: "LM0001".into(), document: "{}".into(), tags: BTreeMap::new() };
    let (_, seen) = good(call, serde_json::from_str(&policy_made()).unwrap()).await;
    assert_eq!(seen.json(), json!({"policyDocument": "{}"}));
    let call = Call::CreateThing { name: "LM0001".into(), attributes: BTreeMap::new() };
    let body = json!({"thingName": "LM0001", "thingArn": iot_arn("thing/LM0001")});
    let (_, seen) = good(call, body).await;
    assert_eq!(seen.json(), json!({}));
}

#[tokio::test]
async fn a_name_is_percent_encoded_in_the_path() {
    let name = "a+b=c,d@e";
    let body = json!({"policyName": name, "policyArn": iot_arn("policy/a+b=c,d@e"), "policyDocument": "{}"});
    let (reply, seen) = good(Call::GetPolicy { name: name.into() }, body).await;
    assert_eq!(seen.line(), "GET /policies/a%2Bb%3Dc%2Cd%40e");
    assert_eq!(seen.body, "");
    assert!(matches!(reply, Reply::Policy { document, .. } if document == "{}"));
}

#[tokio::test]
async fn a_certificate_is_registered_active_without_a_ca() {
    let (reply, seen) =
        good(Call::RegisterCertificateWithoutCa { certificate_pem: "PEM".into() }, certificate()).await;
    assert_eq!(reply, Reply::Certificate { id: certificate_id(), arn: certificate_arn() });
    assert_eq!(seen.line(), "POST /certificate/register-no-ca");
    assert_eq!(seen.json(), json!({"certificatePem": "PEM", "status": "ACTIVE"}));
}

#[tokio::test]
async fn a_certificate_is_registered_active_with_its_ca() {
    let call = Call::RegisterCertificate { certificate_pem: "PEM".into(), ca_certificate_pem: "CA".into() };
    let (reply, seen) = good(call, certificate()).await;
    assert_eq!(reply, Reply::Certificate { id: certificate_id(), arn: certificate_arn() });
    assert_eq!(seen.line(), "POST /certificate/register");
    assert_eq!(seen.json(), json!({"certificatePem": "PEM", "caCertificatePem": "CA", "status": "ACTIVE"}));
}

#[tokio::test]
async fn describe_certificate_tells_the_status() {
    let words = [
        ("ACTIVE", CertificateStatus::Active),
        ("INACTIVE", CertificateStatus::Inactive),
        ("REVOKED", CertificateStatus::Revoked),
        ("PENDING_TRANSFER", CertificateStatus::Other),
        ("WHAT_AWS_MAY_INVENT", CertificateStatus::Other),
    ];
    for (word, status) in words {
        let mut description = certificate();
        description["status"] = word.into();
        let body = json!({"certificateDescription": description});
        let (reply, seen) = good(Call::DescribeCertificate { id: certificate_id() }, body).await;
        assert_eq!(seen.line(), format!("GET /certificates/{}", certificate_id()));
        assert_eq!(
            reply,
            Reply::CertificateDescription { id: certificate_id(), arn: certificate_arn(), status, pem: None }
        );
    }
}

#[tokio::test]
async fn update_certificate_puts_the_status_in_the_query() {
    let call = Call::UpdateCertificate { id: certificate_id(), status: CertificateStatus::Inactive };
    let seen = empty(call).await;
    assert_eq!(seen.line(), format!("PUT /certificates/{}?newStatus=INACTIVE", certificate_id()));
    assert_eq!(seen.body, "");
}

#[tokio::test]
async fn what_is_deleted_is_named_in_the_path_and_nothing_is_forced() {
    let seen = empty(Call::DeleteCertificate { id: certificate_id() }).await;
    assert_eq!(seen.line(), format!("DELETE /certificates/{}", certificate_id()));
    let seen = empty(Call::DeleteThing { name: "th:1".into() }).await;
    assert_eq!(seen.line(), "DELETE /things/th%3A1");
    let seen = empty(Call::DeletePolicy { name: "LM0001".into() }).await;
    assert_eq!(seen.line(), "DELETE /policies/LM0001");
    let seen = empty(Call::DeleteCredentialLocker { id: "abc123".into() }).await;
    assert_eq!(seen.line(), "DELETE /credential-lockers/abc123");
    assert!(seen.headers["authorization"].contains("/eu-west-1/iotmanagedintegrations/aws4_request"));
}

#[tokio::test]
async fn create_thing_carries_its_attributes_in_a_payload() {
    let attributes = BTreeMap::from([("linemint".to_owned(), "L3-S07".to_owned())]);
    let call = Call::CreateThing { name: "th:1".into(), attributes };
    let body = json!({"thingName": "th:1", "thingArn": iot_arn("thing/th:1"), "thingId": "x"});
    let (reply, seen) = good(call, body).await;
    assert_eq!(reply, Reply::Thing { name: "th:1".into(), arn: iot_arn("thing/th:1") });
    assert_eq!(seen.line(), "POST /things/th%3A1");
    assert_eq!(seen.json(), json!({"attributePayload": {"attributes": {"linemint": "L3-S07"}}}));
}

#[tokio::test]
async fn describe_thing_brings_its_attributes() {
    let body = json!({
        "thingName": "LM0001", "thingArn": iot_arn("thing/LM0001"), "attributes": {"linemint": "L3-S07"},
    });
    let (reply, seen) = good(Call::DescribeThing { name: "LM0001".into() }, body).await;
    assert_eq!(seen.line(), "GET /things/LM0001");
    let attributes = BTreeMap::from([("linemint".to_owned(), "L3-S07".to_owned())]);
    let arn = iot_arn("thing/LM0001");
    assert_eq!(reply, Reply::ThingDescription { name: "LM0001".into(), arn, attributes });
}

#[tokio::test]
async fn a_policy_is_attached_and_detached_by_target_in_the_body() {
    let seen = empty(attach_policy()).await;
    assert_eq!(seen.line(), "PUT /target-policies/LM0001");
    assert_eq!(seen.json(), json!({"target": certificate_arn()}));
    let seen = empty(Call::DetachPolicy { policy: "LM0001".into(), target: certificate_arn() }).await;
    assert_eq!(seen.line(), "POST /target-policies/LM0001");
    assert_eq!(seen.json(), json!({"target": certificate_arn()}));
}

#[tokio::test]
async fn a_principal_travels_in_a_header() {
    let call = Call::AttachThingPrincipal { thing: "LM0001".into(), principal: certificate_arn() };
    let seen = empty(call).await;
    assert_eq!(seen.line(), "PUT /things/LM0001/principals");
    assert_eq!(seen.headers["x-amzn-principal"], certificate_arn());
    assert_eq!(seen.body, "");
    let call = Call::DetachThingPrincipal { thing: "LM0001".into(), principal: certificate_arn() };
    let seen = empty(call).await;
    assert_eq!(seen.line(), "DELETE /things/LM0001/principals");
    assert_eq!(seen.headers["x-amzn-principal"], certificate_arn());
}

#[tokio::test]
async fn list_attached_policies_encodes_the_arn_in_the_path_and_pages() {
    let call = Call::ListAttachedPolicies { target: certificate_arn(), marker: Some("bTE=".into()) };
    let body = json!({
        "policies": [{"policyName": "LM0001", "policyArn": iot_arn("policy/LM0001")}], "nextMarker": "bTI=",
    });
    let (reply, seen) = good(call, body).await;
    assert_eq!(reply, Reply::Policies { names: vec!["LM0001".into()], next: Some("bTI=".into()) });
    let arn = certificate_arn().replace(':', "%3A").replace('/', "%2F");
    let (path, query) = seen.target.split_once('?').unwrap();
    assert_eq!((seen.method.as_str(), path), ("POST", format!("/attached-policies/{arn}").as_str()));
    assert!(query.split('&').any(|it| it == "marker=bTE%3D"), "{query}");
    assert_eq!(seen.body, "");
}

#[tokio::test]
async fn list_thing_principals_pages() {
    let call = Call::ListThingPrincipals { thing: "LM0001".into(), next_token: Some("t1".into()) };
    let (reply, seen) = good(call, json!({"principals": [certificate_arn()]})).await;
    assert_eq!(reply, Reply::Principals { arns: vec![certificate_arn()], next: None });
    let (path, query) = seen.target.split_once('?').unwrap();
    assert_eq!((seen.method.as_str(), path), ("GET", "/things/LM0001/principals"));
    assert!(query.split('&').any(|it| it == "nextToken=t1"), "{query}");
}

#[tokio::test]
async fn an_empty_list_right_after_attaching_is_an_empty_list() {
    let call = Call::ListAttachedPolicies { target: certificate_arn(), marker: None };
    for body in [json!({"policies": []}), json!({})] {
        let (reply, _) = good(call.clone(), body).await;
        assert_eq!(reply, Reply::Policies { names: vec![], next: None });
    }
}

#[tokio::test]
async fn the_clients_share_their_connections() {
    let server = Server::start(vec![Step::error(404, "ResourceNotFoundException")]).await;
    let cloud = client(options(&server.url()));
    for _ in 0..5 {
        cloud.call(&create_locker()).await.unwrap_err();
        cloud.call(&create_policy()).await.unwrap_err();
    }
    assert_eq!((server.seen().len(), server.connections()), (10, 1));
}

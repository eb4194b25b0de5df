//! Answers that are cut, late, missing, or not AWS's.

use serde_json::json;

use super::super::super::{FailureKind, Reply, StopCause};
use super::*;

/// A call's error, and that it cost exactly one request.
async fn error(call: Call, step: Step) -> CloudError {
    let (outcome, seen) = play(call, vec![step]).await;
    assert_eq!(seen.len(), 1, "one call is one request");
    outcome.unwrap_err()
}

#[tokio::test]
async fn a_200_from_a_proxy_is_not_an_answer() {
    for call in [create_policy(), create_locker()] {
        let error = error(call, Step::page(200)).await;
        assert_eq!(error.kind, FailureKind::Unknown);
        assert_eq!(error.status, Some(200));
    }
}

#[tokio::test]
async fn a_200_from_a_proxy_to_an_attachment_has_no_request_id() {
    let page = server::answer(200, &[("content-type", "text/html"), ("x-amzn-RequestId", "forged")], "<p>");
    for step in [Step::page(200), Step::Answer(page)] {
        let (outcome, seen) = play(attach_policy(), vec![step]).await;
        assert_eq!(outcome, Ok(Answer { reply: Reply::Empty, request_id: None }));
        assert_eq!(seen.len(), 1);
    }
}

#[tokio::test]
async fn a_200_without_members_is_unknown() {
    for call in [
        create_policy(),
        create_locker(),
        Call::RegisterCertificateWithoutCa { certificate_pem: "PEM".into() },
        Call::DescribeCertificate { id: certificate_id() },
        Call::CreateThing { name: "LM0001".into(), attributes: BTreeMap::new() },
        Call::DescribeThing { name: "LM0001".into() },
    ] {
        for body in ["{}", ""] {
            let error = error(call.clone(), Step::aws(200, &[], body)).await;
            assert_eq!(error.kind, FailureKind::Unknown, "{call:?}");
            assert!(error.message.contains("has no"), "{}", error.message);
        }
    }
}

#[tokio::test]
async fn an_absent_list_that_bears_no_request_id_is_no_list() {
    let step = Step::Answer(server::answer(200, &[("content-type", "application/json")], "{}"));
    let call = Call::ListThingPrincipals { thing: "LM0001".into(), next_token: None };
    assert_eq!(error(call, step).await.kind, FailureKind::Unknown);
}

#[tokio::test]
async fn a_success_about_another_name_is_unknown() {
    let other = json!({
        "policyName": "LM0002", "policyArn": iot_arn("policy/LM0002"), "policyDocument": "{}",
    });
    let foreign_arn = json!({
        "policyName": "LM0001", "policyArn": iot_arn("policy/LM0002"), "policyDocument": "{}",
    });
    let no_arn = json!({"policyName": "LM0001", "policyArn": "policy/LM0001", "policyDocument": "{}"});
    for body in [other, foreign_arn, no_arn] {
        let error = error(create_policy(), Step::aws(200, &[], &body.to_string())).await;
        assert_eq!(error.kind, FailureKind::Unknown, "{body}");
    }
    let body = json!({"certificateId": "0123", "certificateArn": iot_arn("cert/0123")});
    let call = Call::RegisterCertificateWithoutCa { certificate_pem: "PEM".into() };
    assert_eq!(error(call, Step::aws(200, &[], &body.to_string())).await.kind, FailureKind::Unknown);
}

#[tokio::test]
async fn another_account_stops_the_line() {
    let arn = "arn:aws:iot:eu-west-1:999999999999:policy/LM0001";
    let body = json!({"policyName": "LM0001", "policyArn": arn, "policyDocument": "{}"});
    let error = error(create_policy(), Step::aws(200, &[], &body.to_string())).await;
    assert_eq!(error.kind, FailureKind::Stop(StopCause::Account));
    assert!(error.message.contains("999999999999"), "{}", error.message);
}

#[tokio::test]
async fn half_a_body_is_unknown() {
    let whole = server::answer(200, &[("x-amzn-RequestId", "req-1")], &policy_made());
    let half = whole[..whole.len() - 40].to_vec();
    for call in [create_policy(), attach_policy()] {
        let error = error(call, Step::Cut(half.clone())).await;
        assert_eq!(error.kind, FailureKind::Unknown);
        assert_eq!(error.status, Some(200));
    }
    // Here the length agrees and the JSON ends early.
    let text = policy_made();
    let error = error(create_policy(), Step::aws(200, &[], &text[..text.len() / 2])).await;
    assert_eq!(error.kind, FailureKind::Unknown);
}

#[tokio::test]
async fn a_closed_and_a_reset_connection_are_unknown_and_not_retried() {
    let half_head = b"HTTP/1.1 200 OK\r\ncontent-le".to_vec();
    for step in [Step::Cut(vec![]), Step::Cut(half_head), Step::Reset] {
        for call in [create_policy(), create_locker(), attach_policy()] {
            let error = error(call, step.clone()).await;
            assert_eq!(error.kind, FailureKind::Unknown, "{step:?}");
            assert_eq!((error.code, error.status), (None, None));
            assert!(!error.message.is_empty());
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_http_are_unknown() {
    let error = error(create_policy(), Step::Cut(b"SSH-2.0-OpenSSH_9.7\r\n".to_vec())).await;
    assert_eq!(error.kind, FailureKind::Unknown);
}

/// The second of two calls, whose answer stops after `bytes`; the first has made the connection.
async fn against_a_stall(bytes: Vec<u8>) -> (CloudError, usize) {
    let ready = Step::error(404, "ResourceNotFoundException");
    let server = Server::start(vec![ready, Step::Stall(bytes)]).await;
    let limit = Duration::from_millis(300);
    let cloud = client(AwsOptions { call_timeout: limit, ..options(&server.url()) });
    cloud.call(&create_policy()).await.unwrap_err();
    let error = cloud.call(&create_policy()).await.unwrap_err();
    (error, server.seen().len() - 1)
}

#[tokio::test]
async fn a_held_back_head_ends_at_the_call_timeout() {
    let (error, requests) = against_a_stall(vec![]).await;
    assert_eq!((error.kind, requests), (FailureKind::Unknown, 1));
    assert!(error.message.contains("time for a call"), "{}", error.message);
}

#[tokio::test]
async fn a_stalled_body_ends_at_the_call_timeout() {
    let whole = server::answer(200, &[("x-amzn-RequestId", "req-1")], &policy_made());
    let (error, requests) = against_a_stall(whole[..whole.len() - 40].to_vec()).await;
    assert_eq!((error.kind, requests), (FailureKind::Unknown, 1));
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    // Bound and dropped: nobody listens at this port now.
    let server = Server::start(vec![Step::Reset]).await;
    let url = server.url();
    drop(server);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("http://{free}"), url.replace("127.0.0.1", "127.0.0.2")] {
        let error = client(options(&url)).call(&create_policy()).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Unreachable, "{url}");
        assert!(error.message.contains("onnect"), "{}", error.message);
        let told = error.to_string();
        assert!(told.contains(": AWS cannot be reached: Connection refused"), "{told}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unreachable() {
    // Too long for DNS, so that no resolver is asked.
    let cloud = client(options(&format!("http://{}.invalid", "a".repeat(64))));
    let error = cloud.call(&create_policy()).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Unreachable);
}

#[tokio::test]
async fn a_connection_that_is_never_accepted_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let patience = Duration::from_millis(100);
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, patience) {
        queued.push(stream);
        assert!(queued.len() < 1000, "the queue of unaccepted connections has no end");
    }
    let url = format!("http://{address}");
    let cloud = client(AwsOptions { call_timeout: Duration::from_millis(500), ..options(&url) });
    let error = cloud.call(&create_policy()).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Unreachable, "{error}");
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let plain = b"HTTP/1.1 400 The plain HTTP request was sent to HTTPS port\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, plain).await.unwrap_or_default();
        }
    });
    let credentials = Credentials::new("AKIATESTTESTTEST0000", "a-test-secret", None, None, "test");
    let provider = SharedCredentialsProvider::new(credentials);
    let cloud = AwsCloud::assemble(options(&url), transport::trusting_nobody(), provider, None).unwrap();
    let error = cloud.call(&create_policy()).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Unreachable, "{error}");
    accepting.abort();
}

#[tokio::test]
async fn an_endless_body_is_given_up() {
    let body = "x".repeat(3 << 20);
    let error = error(create_policy(), Step::aws(200, &[], &body)).await;
    assert_eq!(error.kind, FailureKind::Unknown);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_second_request() {
    let gone = Step::Cut(server::answer(404, &[("x-amzn-ErrorType", "ResourceNotFoundException")], "{}"));
    let server = Server::start(vec![gone]).await;
    let cloud = client(options(&server.url()));
    for call in 1..=20 {
        let error = cloud.call(&create_policy()).await.unwrap_err();
        assert!(matches!(error.kind, FailureKind::NotFound | FailureKind::Unknown));
        assert_eq!(server.seen().len(), call);
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_built_is_refused_and_not_sent() {
    let server = Server::start(vec![Step::Reset]).await;
    let cloud = client(options(&server.url()));
    let nameless = Call::GetPolicy { name: String::new() };
    let odd = Call::UpdateCertificate {
        id: certificate_id(),
        status: super::super::super::CertificateStatus::Other,
    };
    for call in [nameless, odd] {
        let error = cloud.call(&call).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Refused);
    }
    assert_eq!(server.seen().len(), 0);
}

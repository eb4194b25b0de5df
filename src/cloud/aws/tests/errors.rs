//! AWS's own errors, by name, and what is not AWS's.

use serde_json::json;

use super::super::super::{FailureKind, Operation, StopCause};
use super::*;

/// The error of the one request that `call` makes when `step` is the answer.
async fn error(call: Call, step: Step) -> CloudError {
    let (outcome, seen) = play(call, vec![step]).await;
    assert_eq!(seen.len(), 1, "one call is one request");
    outcome.unwrap_err()
}

/// Every error that the model lists, with the status that it gives it.
async fn modelled(call: Call, errors: &[(&str, u16, FailureKind)]) {
    for (code, status, kind) in errors {
        let error = error(call.clone(), Step::error(*status, code)).await;
        assert_eq!(error.kind, *kind, "{code}");
        assert_eq!(error.code.as_deref(), Some(*code));
        assert_eq!(error.status, Some(*status));
        assert_eq!(error.request_id.as_deref(), Some("req-1"));
        assert_eq!(error.message, "why not");
        assert_eq!(error.operation, call.operation());
    }
}

#[tokio::test]
async fn every_modelled_error_of_create_credential_locker() {
    let errors = [
        ("ValidationException", 400, FailureKind::Refused),
        ("AccessDeniedException", 403, FailureKind::Stop(StopCause::Permission)),
        ("InternalServerException", 500, FailureKind::Unknown),
        ("ServiceQuotaExceededException", 402, FailureKind::Stop(StopCause::Quota)),
        ("ConflictException", 409, FailureKind::Conflict),
        ("ServiceUnavailableException", 503, FailureKind::Unknown),
        ("ThrottlingException", 429, FailureKind::Throttled),
    ];
    modelled(create_locker(), &errors).await;
}

#[tokio::test]
async fn every_modelled_error_of_create_policy() {
    let errors = [
        ("ResourceAlreadyExistsException", 409, FailureKind::Exists),
        ("MalformedPolicyException", 400, FailureKind::Refused),
        ("InvalidRequestException", 400, FailureKind::Refused),
        ("ThrottlingException", 400, FailureKind::Throttled),
        ("UnauthorizedException", 401, FailureKind::Stop(StopCause::Permission)),
        ("ServiceUnavailableException", 503, FailureKind::Unknown),
        ("InternalFailureException", 500, FailureKind::Unknown),
    ];
    modelled(create_policy(), &errors).await;
}

#[tokio::test]
async fn the_errors_of_registering_a_certificate() {
    let errors = [
        ("ResourceAlreadyExistsException", 409, FailureKind::Exists),
        ("CertificateConflictException", 409, FailureKind::Conflict),
        ("CertificateStateException", 406, FailureKind::Refused),
        ("CertificateValidationException", 400, FailureKind::Refused),
    ];
    let call = Call::RegisterCertificate { certificate_pem: "PEM".into(), ca_certificate_pem: "CA".into() };
    modelled(call, &errors).await;
}

/// AWS has one code for a certificate that is wrong and for a CA that it does not have.
#[tokio::test]
async fn a_certificate_that_is_refused_for_its_cas_sake_stops_the_line_and_one_for_its_own_does_not() {
    let now = "2026-11-21T10:00:00Z".parse().unwrap();
    let ca = crate::pki::authority::make_root("Line 3", now).unwrap();
    let described = |status: &str| {
        let body = json!({ "certificateDescription": {
            "certificateArn": iot_arn(&format!("cacert/{}", ca.fingerprint)),
            "certificateId": ca.fingerprint.to_string(), "status": status,
        } });
        Step::aws(200, &[], &body.to_string())
    };
    let stop = FailureKind::Stop(StopCause::Ca);
    for (answer, kind, part) in [
        (Step::error(404, "ResourceNotFoundException"), stop, "is not registered in the account"),
        (described("INACTIVE"), stop, "is registered in the account, but not active"),
        (described("ACTIVE"), FailureKind::Refused, "why not"),
        // Whoever may not ask, or is not answered, says no more than is known.
        (Step::error(403, "AccessDeniedException"), FailureKind::Refused, "could not be asked"),
        (Step::error(429, "ThrottlingException"), FailureKind::Throttled, "why not"),
        (Step::error(503, "ServiceUnavailableException"), FailureKind::Unknown, "why not"),
    ] {
        let refused = Step::error(400, "CertificateValidationException");
        let call = Call::RegisterCertificate {
            certificate_pem: "PEM".into(),
            ca_certificate_pem: ca.certificate_pem.clone(),
        };
        let (outcome, seen) = play(call, vec![refused, answer]).await;
        let error = outcome.unwrap_err();
        assert_eq!(seen.len(), 2);
        assert_eq!((error.operation, error.kind), (Operation::RegisterCertificate, kind), "{error}");
        assert!(error.message.contains(part), "{error}");
        assert_eq!(error.message.starts_with("CN=Line 3, "), kind == stop, "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_deleted_yet_is_told_by_name() {
    let id = || Call::DeleteCertificate { id: certificate_id() };
    let errors = [
        ("CertificateStateException", 406, FailureKind::Refused),
        ("DeleteConflictException", 409, FailureKind::Conflict),
        ("ResourceNotFoundException", 404, FailureKind::NotFound),
    ];
    modelled(id(), &errors).await;
    let errors = [
        ("DeleteConflictException", 409, FailureKind::Conflict),
        ("ResourceNotFoundException", 404, FailureKind::NotFound),
    ];
    modelled(Call::DeletePolicy { name: "LM0001".into() }, &errors).await;
    let errors = [
        ("VersionConflictException", 409, FailureKind::Conflict),
        ("InvalidRequestException", 400, FailureKind::Refused),
    ];
    modelled(Call::DeleteThing { name: "LM0001".into() }, &errors).await;
    let errors = [("ResourceNotFoundException", 404, FailureKind::NotFound)];
    modelled(Call::DeleteCredentialLocker { id: "abc123".into() }, &errors).await;
}

#[tokio::test]
async fn the_front_ends_errors_that_no_model_lists() {
    let errors = [
        ("ExpiredTokenException", 403, FailureKind::Stop(StopCause::Credentials)),
        ("UnrecognizedClientException", 403, FailureKind::Stop(StopCause::Credentials)),
        ("InvalidSignatureException", 403, FailureKind::Stop(StopCause::Clock)),
        ("AccessDeniedException", 403, FailureKind::Stop(StopCause::Permission)),
        ("SerializationException", 400, FailureKind::Refused),
        ("SomethingNewException", 400, FailureKind::Refused),
        ("SomethingNewException", 500, FailureKind::Unknown),
        ("SomethingNewException", 429, FailureKind::Throttled),
    ];
    modelled(create_policy(), &errors).await;
}

#[tokio::test]
async fn a_limit_is_a_quota_and_no_throttle_whatever_the_sdks_say() {
    let errors = [("LimitExceededException", 410, FailureKind::Stop(StopCause::Quota))];
    modelled(attach_policy(), &errors).await;
}

#[tokio::test]
async fn a_code_is_read_from_the_body_and_cut_at_the_colon() {
    let in_body = Step::aws(400, &[], r#"{"__type":"ThrottlingException","message":"slow"}"#);
    assert_eq!(error(create_policy(), in_body).await.kind, FailureKind::Throttled);
    let with_url = Step::error(403, "InvalidSignatureException:http://internal.amazon.com/coral/");
    let error = error(create_policy(), with_url).await;
    assert_eq!(error.kind, FailureKind::Stop(StopCause::Clock));
    assert_eq!(error.code.as_deref(), Some("InvalidSignatureException"));
}

/// AWS's own sentences: one code for a wrong clock, a wrong key and a wrong Region.
#[tokio::test]
async fn a_wrong_secret_is_not_told_as_a_wrong_clock() {
    let kind_of = async |message: &str| {
        let body = serde_json::json!({ "message": message }).to_string();
        let step = Step::aws(403, &[("x-amzn-ErrorType", "InvalidSignatureException")], &body);
        error(create_policy(), step).await.kind
    };
    let secret = "The request signature we calculated does not match the signature you provided.";
    assert_eq!(kind_of(secret).await, FailureKind::Stop(StopCause::Credentials));
    let region = "Credential should be scoped to a valid region.";
    assert_eq!(kind_of(region).await, FailureKind::Stop(StopCause::Credentials));
    let clock = "Signature expired: 20261122T050000Z is now earlier than 20261122T051000Z";
    assert_eq!(kind_of(clock).await, FailureKind::Stop(StopCause::Clock));
}

#[tokio::test]
async fn what_exists_already_is_named() {
    let arn = iot_arn("cert/abc");
    let body = serde_json::json!({"message": "there", "resourceId": "abc", "resourceArn": arn}).to_string();
    let step = Step::aws(409, &[("x-amzn-ErrorType", "ResourceAlreadyExistsException")], &body);
    let error = error(Call::RegisterCertificateWithoutCa { certificate_pem: "PEM".into() }, step).await;
    assert_eq!(error.kind, FailureKind::Exists);
    assert_eq!(error.resource_id.as_deref(), Some("abc"));
    assert_eq!(error.resource_arn, Some(arn));
}

#[tokio::test]
async fn a_429_without_a_code_is_a_throttle() {
    let step = Step::Answer(server::answer(429, &[], ""));
    assert_eq!(error(create_locker(), step).await.kind, FailureKind::Throttled);
}

#[tokio::test]
async fn a_throttle_tells_how_long_to_stay_away() {
    let throttled = |headers: &[(&str, &str)]| {
        let headers = [headers, &[("x-amzn-ErrorType", "ThrottlingException")]].concat();
        Step::aws(400, &headers, "{}")
    };
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Headers<'_>, Option<Duration>); 5] = [
        (&[("x-amz-retry-after", "1500")], Some(Duration::from_millis(1500))),
        (&[("Retry-After", "2")], Some(Duration::from_secs(2))),
        (&[("Retry-After", "2"), ("x-amz-retry-after", "1500")], Some(Duration::from_millis(1500))),
        (&[("Retry-After", "86400")], Some(Duration::from_secs(300))),
        (&[("Retry-After", "Fri, 31 Dec 2027 23:59:59 GMT")], None),
    ];
    for (headers, wait) in cases {
        let error = error(create_policy(), throttled(headers)).await;
        assert_eq!((error.kind, error.retry_after), (FailureKind::Throttled, wait), "{headers:?}");
    }
}

#[tokio::test]
async fn a_proxys_page_is_unknown_whatever_its_status() {
    for status in [302, 401, 403, 404, 407, 409, 500, 502, 503] {
        let error = error(create_policy(), Step::page(status)).await;
        assert_eq!(error.kind, FailureKind::Unknown, "{status}");
        assert_eq!((error.code, error.status), (None, Some(status)));
        assert_eq!(error.message, "the answer is not AWS's, but text/html");
    }
}

#[tokio::test]
async fn a_proxys_own_json_code_is_not_aws_refusing() {
    let body = r#"{"code":"BLOCKED_BY_POLICY","message":"category: cloud"}"#;
    let step = Step::Answer(server::answer(403, &[("content-type", "application/json")], body));
    assert_eq!(error(create_policy(), step).await.kind, FailureKind::Unknown);
}

#[tokio::test]
async fn an_error_message_is_bounded_and_carries_no_token() {
    let body = serde_json::json!({"message": format!(
        "bad signature\n\nThe Canonical String for this request should have been\nx-amz-security-token:{}",
        "IQoJb3JpZ2luX2Vj".repeat(40)
    )});
    let step = Step::aws(403, &[("x-amzn-ErrorType", "InvalidSignatureException")], &body.to_string());
    assert_eq!(error(create_policy(), step).await.message, "bad signature");
}

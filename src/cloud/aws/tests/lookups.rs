//! The calls that AWS would do twice, and the lists in which their effect is looked for.

use jiff::Timestamp;
use serde_json::json;

use super::super::super::{
    CertificateStatus, FailureKind, ListedCertificate, ListedLocker, Reply, StopCause,
};
use super::*;
use crate::pki::Fingerprint;

/// A certificate in PEM, with its id and ARN.
fn made() -> (String, String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let id = Fingerprint::of(made.der()).to_string();
    (made.pem(), iot_arn(&format!("cert/{id}")), id)
}

fn locker_arn(id: &str) -> String {
    format!("arn:aws:iotmanagedintegrations:eu-west-1:{ACCOUNT}:credential-locker/{id}")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn create() -> Call {
    Call::CreateCertificateFromCsr { csr_pem: "CSR".into() }
}

async fn good(call: Call, body: serde_json::Value) -> (Reply, Seen) {
    let (outcome, mut seen) = play(call, vec![Step::aws(200, &[], &body.to_string())]).await;
    assert_eq!(seen.len(), 1, "one call is one request");
    (outcome.unwrap().reply, seen.remove(0))
}

#[tokio::test]
async fn a_certificate_is_made_from_a_csr_and_never_active() {
    let (pem, arn, id) = made();
    let body = json!({"certificateArn": arn, "certificateId": id, "certificatePem": pem});
    let (reply, seen) = good(create(), body).await;
    assert_eq!(reply, Reply::IssuedCertificate { id, arn, pem });
    assert_eq!(seen.line(), "POST /certificates?setAsActive=false");
    assert_eq!(seen.json(), json!({"certificateSigningRequest": "CSR"}));
}

#[tokio::test]
async fn a_certificate_that_is_not_the_one_of_its_id_is_no_answer() {
    let ((pem, arn, id), (other, ..)) = (made(), made());
    let bodies = [
        json!({"certificateArn": arn, "certificateId": id, "certificatePem": other}),
        json!({"certificateArn": arn, "certificateId": id, "certificatePem": "PEM"}),
        json!({"certificateArn": arn, "certificateId": id}),
        json!({"certificateId": id, "certificatePem": pem}),
        json!({}),
    ];
    for body in bodies {
        let (outcome, seen) = play(create(), vec![Step::aws(200, &[], &body.to_string())]).await;
        assert_eq!((outcome.unwrap_err().kind, seen.len()), (FailureKind::Unknown, 1), "{body}");
    }
    let description = json!({"certificateArn": arn, "certificateId": id, "status": "INACTIVE",
        "certificatePem": other});
    let body = json!({ "certificateDescription": description }).to_string();
    let (outcome, _) = play(Call::DescribeCertificate { id }, vec![Step::aws(200, &[], &body)]).await;
    assert_eq!(outcome.unwrap_err().kind, FailureKind::Unknown);
}

#[tokio::test]
async fn a_description_brings_the_certificate_itself() {
    let (pem, arn, id) = made();
    let description =
        json!({"certificateArn": arn, "certificateId": id, "status": "INACTIVE", "certificatePem": pem});
    let body = json!({ "certificateDescription": description });
    let (reply, _) = good(Call::DescribeCertificate { id: id.clone() }, body).await;
    let status = CertificateStatus::Inactive;
    assert_eq!(reply, Reply::CertificateDescription { id, arn, status, pem: Some(pem) });
}

#[tokio::test]
async fn certificates_are_listed_newest_first_in_pages() {
    let (_, arn, id) = made();
    let item = json!({"certificateArn": arn, "certificateId": id, "status": "INACTIVE",
        "certificateMode": "DEFAULT", "creationDate": 1_795_000_000.25});
    let body = json!({"certificates": [item], "nextMarker": "bTI="});
    let (reply, seen) = good(Call::ListCertificates { marker: Some("bTE=".into()) }, body).await;
    let created = Timestamp::from_millisecond(1_795_000_000_250).unwrap();
    let item = ListedCertificate { id: id.parse().unwrap(), status: CertificateStatus::Inactive, created };
    assert_eq!(reply, Reply::Certificates { items: vec![item], next: Some("bTI=".into()) });
    let (path, query) = seen.target.split_once('?').unwrap();
    let mut query: Vec<&str> = query.split('&').collect();
    query.sort_unstable();
    assert_eq!((seen.method.as_str(), path), ("GET", "/certificates"));
    assert_eq!(query, ["isAscendingOrder=false", "marker=bTE%3D", "pageSize=250"]);
}

#[tokio::test]
async fn a_certificate_is_deleted_without_force() {
    let (outcome, seen) =
        play(Call::DeleteCertificate { id: certificate_id() }, vec![Step::aws(200, &[], "")]).await;
    assert_eq!(outcome.unwrap().reply, Reply::Empty);
    assert_eq!(seen[0].line(), format!("DELETE /certificates/{}", certificate_id()));
}

#[tokio::test]
async fn lockers_are_listed_by_the_thousand_and_read_by_id() {
    let item = json!({"Id": "abc", "Arn": locker_arn("abc"), "Name": "LM0001", "CreatedAt": 1_795_000_000});
    let nameless = json!({"Id": "def", "Arn": locker_arn("def"), "CreatedAt": 1_795_000_001});
    let body = json!({"Items": [item, nameless], "NextToken": "t2"});
    let (reply, seen) = good(Call::ListCredentialLockers { next_token: Some("t1".into()) }, body).await;
    let item = |id: &str, name: Option<&str>, second| ListedLocker {
        id: id.into(),
        arn: locker_arn(id),
        name: name.map(str::to_owned),
        created: at(second),
    };
    let items = vec![item("abc", Some("LM0001"), 1_795_000_000), item("def", None, 1_795_000_001)];
    assert_eq!(reply, Reply::Lockers { items, next: Some("t2".into()) });
    let (path, query) = seen.target.split_once('?').unwrap();
    assert_eq!((seen.method.as_str(), path), ("GET", "/credential-lockers"));
    assert!(query.contains("MaxResults=1000") && query.contains("NextToken=t1"), "{query}");

    let body = json!({"Id": "abc", "Arn": locker_arn("abc"), "Name": "LM0001", "Tags": {"product": "lamp"}});
    let (reply, seen) = good(Call::GetCredentialLocker { id: "abc".into() }, body).await;
    let tags = BTreeMap::from([("product".to_owned(), "lamp".to_owned())]);
    assert_eq!(reply, Reply::LockerDescription { id: "abc".into(), arn: locker_arn("abc"), tags });
    assert_eq!(seen.line(), "GET /credential-lockers/abc");
}

#[tokio::test]
async fn an_entry_without_its_time_is_no_list_of_awss() {
    let (_, arn, id) = made();
    let certificate = json!({"certificateArn": arn, "certificateId": id, "status": "INACTIVE"});
    let locker = json!({"Id": "abc", "Arn": locker_arn("abc"), "Name": "LM0001"});
    let lists = [
        (Call::ListCertificates { marker: None }, json!({"certificates": [certificate]})),
        (Call::ListCredentialLockers { next_token: None }, json!({"Items": [locker]})),
    ];
    for (call, body) in lists {
        let (outcome, _) = play(call, vec![Step::aws(200, &[], &body.to_string())]).await;
        assert_eq!(outcome.unwrap_err().kind, FailureKind::Unknown);
    }
}

/// Every error that the models list for these calls.
#[tokio::test]
async fn every_modelled_error_by_its_name() {
    let stop = FailureKind::Stop(StopCause::Permission);
    let common = [
        ("ThrottlingException", 400, FailureKind::Throttled),
        ("UnauthorizedException", 401, stop),
        ("InvalidRequestException", 400, FailureKind::Refused),
        ("ServiceUnavailableException", 503, FailureKind::Unknown),
        ("InternalFailureException", 500, FailureKind::Unknown),
    ];
    let of_deletion = [
        ("CertificateStateException", 406, FailureKind::Refused),
        ("DeleteConflictException", 409, FailureKind::Conflict),
        ("ResourceNotFoundException", 404, FailureKind::NotFound),
    ];
    let of_lockers = [
        ("ThrottlingException", 429, FailureKind::Throttled),
        ("ValidationException", 400, FailureKind::Refused),
        ("AccessDeniedException", 403, stop),
        ("InternalServerException", 500, FailureKind::Unknown),
        ("ServiceUnavailableException", 503, FailureKind::Unknown),
    ];
    let delete = Call::DeleteCertificate { id: certificate_id() };
    let calls: [(Call, Vec<&[_]>); 5] = [
        (create(), vec![&common]),
        (Call::ListCertificates { marker: None }, vec![&common]),
        (delete, vec![&common, &of_deletion]),
        (Call::ListCredentialLockers { next_token: None }, vec![&of_lockers]),
        (Call::GetCredentialLocker { id: "abc".into() }, vec![&of_lockers, &of_deletion[2..]]),
    ];
    for (call, errors) in calls {
        for (code, status, kind) in errors.into_iter().flatten() {
            let (outcome, seen) = play(call.clone(), vec![Step::error(*status, code)]).await;
            let error = outcome.unwrap_err();
            assert_eq!((error.kind, error.code.as_deref()), (*kind, Some(*code)), "{call:?}");
            assert_eq!((error.operation, seen.len()), (call.operation(), 1));
        }
    }
}

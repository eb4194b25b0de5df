//! What AWS may answer, and what is made of it.

use super::super::Verdict::{Failed, Ok as Fine, Skipped, Warning};
use super::super::tests::{config, config_with};
use super::*;
use crate::cloud::{Call, Operation, Quotas, Reply};

fn error(kind: FailureKind, code: Option<&str>) -> Outcome {
    Some(Err(CloudError {
        code: code.map(str::to_owned),
        status: code.map(|_| 403),
        ..CloudError::new(Operation::DescribeThing, kind, "words")
    }))
}

fn not_found() -> Outcome {
    error(FailureKind::NotFound, Some("ResourceNotFoundException"))
}

fn stop(cause: StopCause) -> Outcome {
    error(FailureKind::Stop(cause), Some("Code"))
}

fn done() -> Outcome {
    Some(Ok(Answer { reply: Reply::Empty, request_id: Some("1".to_owned()) }))
}

fn now() -> Timestamp {
    "2026-11-22T06:00:00Z".parse().unwrap()
}

#[test]
fn not_found_is_leave_to_look_and_a_denial_names_the_permission() {
    let of = |outcomes: &[Outcome]| permission("iot:GetPolicy", outcomes);
    assert_eq!(of(&[not_found(), done()]).status, Fine);
    let denied = of(&[not_found(), stop(StopCause::Permission)]);
    assert_eq!(denied.status, Failed);
    assert_eq!(
        denied.remedy.as_deref(),
        Some("allow iot:GetPolicy as `linemint check-config --iam` prints it")
    );
    assert_eq!(of(&[error(FailureKind::Throttled, Some("ThrottlingException"))]).status, Warning);
    let unknown = of(&[error(FailureKind::Unreachable, None)]);
    assert_eq!((unknown.status, unknown.detail.as_str()), (Skipped, "not known: AWS cannot be reached"));
    assert_eq!(of(&[None]).status, Skipped);
}

#[test]
fn what_cannot_be_tried_is_listed() {
    let probe =
        |action: &str, calls: Vec<Call>| Probe { action: action.to_owned(), service: Service::Iot, calls };
    let call = Call::DescribeThing { name: "x".to_owned() };
    let tried = [
        (probe("iot:DescribeThing", vec![call]), vec![not_found()]),
        (probe("iot:CreateThing", vec![]), vec![]),
    ];
    let findings = permissions(&tried);
    assert_eq!(findings[0].subject.as_deref(), Some("iot:DescribeThing"));
    assert_eq!((findings[0].status, findings[1].status), (Fine, Skipped));
    assert!(findings[1].detail.contains("iot:CreateThing;"), "{findings:?}");
}

#[test]
fn credentials_are_good_if_aws_takes_them() {
    let of = |outcome: &Outcome, until: Option<&str>| {
        credentials(&[outcome], until.map(|it| it.parse().unwrap()), now()).status
    };
    assert_eq!(of(&not_found(), None), Fine);
    assert_eq!(of(&not_found(), Some("2026-11-22T07:00:00Z")), Fine);
    assert_eq!(of(&not_found(), Some("2026-11-22T05:00:00Z")), Failed);
    assert_eq!(of(&stop(StopCause::Credentials), None), Failed);
    assert_eq!(of(&stop(StopCause::Clock), None), Failed);
    assert_eq!(of(&error(FailureKind::Unreachable, None), None), Fine, "that is the endpoint's fault");
}

#[test]
fn an_endpoint_answers_if_aws_does_whatever_it_says() {
    let of = |outcome: &Outcome| endpoint(&[outcome], "https://x").status;
    assert_eq!(of(&not_found()), Fine);
    assert_eq!(of(&stop(StopCause::Permission)), Fine);
    assert_eq!(of(&error(FailureKind::Unreachable, None)), Failed);
    assert_eq!(of(&error(FailureKind::Unknown, None)), Failed, "a proxy's page");
    assert_eq!(of(&None), Failed);
    assert_eq!(endpoint(&[], "https://x").status, Skipped);
}

#[test]
fn another_account_than_the_configured_one_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let account = |it: &str| Ok(it.to_owned());
    assert_eq!(whose(&config, account("1"), &[]).status, Fine);
    config.aws.account = Some("2".to_owned());
    assert_eq!(whose(&config, account("2"), &[]).status, Fine);
    assert_eq!(whose(&config, account("1"), &[]).status, Failed);
    assert_eq!(whose(&config, Err("no way".to_owned()), &[]).status, Skipped);
    assert_eq!(whose(&config, account("2"), &[&stop(StopCause::Account)]).status, Failed);
}

#[test]
fn lockers_exist_in_two_regions() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    assert_eq!(region(&config).status, Fine);
    config.aws.region = "eu-central-1".to_owned();
    assert_eq!(region(&config).status, Failed);
    let mut without = config_with(dir.path(), "locker = { scope = \"none\" }\n");
    without.aws.region = "eu-central-1".to_owned();
    assert_eq!(region(&without).status, Fine);
}

#[test]
fn managed_things_exist_where_lockers_do() {
    let dir = tempfile::tempdir().unwrap();
    let managed = "upc = \"036000291452\"\nmanaged_thing = { role = \"device\" }\n";
    let only = format!("locker = {{ scope = \"none\" }}\n{managed}");
    for (product, what, without) in [
        ("", "a product wants lockers", "or locker = { scope = \"none\" }"),
        (only.as_str(), "a product wants managed things", "or take managed_thing out"),
        (
            managed,
            "a product wants lockers and managed things",
            "or locker = { scope = \"none\" } and no managed_thing",
        ),
    ] {
        let mut config = config_with(dir.path(), product);
        for here in LOCKER_REGIONS {
            config.aws.region = here.to_owned();
            assert_eq!(region(&config).status, Fine, "{product}");
        }
        config.aws.region = "eu-central-1".to_owned();
        let found = region(&config);
        assert_eq!(found.status, Failed, "{product}");
        assert!(found.detail.ends_with(what), "{found:?}");
        assert!(found.remedy.as_deref().unwrap().ends_with(without), "{found:?}");
    }
}

#[test]
fn quotas_stand_beside_awss_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.aws.quotas = Quotas::aws_default().shared(0.5);
    let found = quotas(&config);
    assert_eq!(found.status, Fine);
    assert!(
        found.detail.contains("create-policy 5 of 10") && found.detail.contains("create-thing 50 of 100")
    );
    assert!(!found.detail.contains("register-thing"), "not in use");
    assert!(found.detail.contains("AWS is not asked what it applies to this account"), "{found:?}");
    config.aws.quotas.rates.insert(Operation::CreatePolicy, 20.0);
    let found = quotas(&config);
    assert_eq!(found.status, Warning);
    assert!(found.remedy.unwrap().contains("(create-policy)"));
    config.aws.quotas = Quotas::unlimited();
    assert_eq!(quotas(&config).status, Warning);
    // Canada allows fewer things.
    config.aws.quotas = Quotas::aws_default();
    config.aws.region = "ca-central-1".to_owned();
    assert!(quotas(&config).remedy.unwrap().contains("create-thing"));
}

#[test]
fn sts_is_where_what_stands_in_for_aws_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut aws = config(dir.path()).aws;
    assert_eq!(stand_in(&aws).as_deref(), Some("http://127.0.0.1:1"));
    aws.iot_endpoint = Some("https://vpce-0a1b-iot.eu-west-1.vpce.amazonaws.com".to_owned());
    assert_eq!(stand_in(&aws), None);
    aws.iot_endpoint = None;
    assert_eq!(stand_in(&aws), None);
}

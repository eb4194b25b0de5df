//! Credentials, clocks, proxies and trust.

use std::io::Write;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials};
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::super::super::{FailureKind, StopCause};
use super::*;

/// A provider that fails as it is told.
#[derive(Debug)]
struct Failing(fn() -> CredentialsError);

impl ProvideCredentials for Failing {
    fn provide_credentials<'a>(&'a self) -> provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        provider::future::ProvideCredentials::ready(Err((self.0)()))
    }
}

/// A provider that never answers.
#[derive(Debug)]
struct Silent;

impl ProvideCredentials for Silent {
    fn provide_credentials<'a>(&'a self) -> provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        provider::future::ProvideCredentials::new(std::future::pending())
    }
}

async fn without_credentials(
    provider: impl ProvideCredentials + 'static,
    call_timeout: Duration,
) -> (CloudError, usize) {
    let server = Server::start(vec![Step::Reset]).await;
    let http = transport::client(None, ProxyConfig::disabled()).unwrap();
    let options = AwsOptions { call_timeout, ..options(&server.url()) };
    let cloud = AwsCloud::assemble(options, http, SharedCredentialsProvider::new(provider), None).unwrap();
    let error = cloud.call(&create_policy()).await.unwrap_err();
    (error, server.seen().len())
}

#[tokio::test]
async fn a_credentials_lookup_that_fails_stops_the_line_before_anything_is_sent() {
    let failures: [fn() -> CredentialsError; 3] = [
        || CredentialsError::not_loaded("nothing found"),
        || CredentialsError::invalid_configuration("profile loops"),
        || CredentialsError::provider_error("helper exited with 1"),
    ];
    for failure in failures {
        let (error, requests) = without_credentials(Failing(failure), PATIENCE).await;
        assert_eq!((error.kind, requests), (FailureKind::Stop(StopCause::Credentials), 0));
        assert!(!error.message.is_empty());
    }
}

#[tokio::test]
async fn a_credentials_lookup_that_hangs_is_an_outage_within_half_a_call() {
    let (error, requests) = without_credentials(Silent, Duration::from_millis(80)).await;
    assert_eq!((error.kind, requests), (FailureKind::Unreachable, 0));
}

/// What the SDK says when a `credential_process` fails; the helper's words are the last.
fn helper(said: &str) -> CredentialsError {
    CredentialsError::provider_error(format!(
        "Error retrieving credentials: external process exited with code exit status: 1. Stderr: {said}"
    ))
}

#[tokio::test]
async fn credentials_that_cannot_be_fetched_without_network_are_an_outage_and_no_refusal() {
    let failures: [fn() -> CredentialsError; 4] = [
        || CredentialsError::provider_timed_out(Duration::from_secs(1)),
        || helper("dial tcp: lookup rolesanywhere.eu-west-1.amazonaws.com: no such host\n"),
        || helper("dial tcp 10.0.0.1:443: i/o timeout"),
        || CredentialsError::provider_error(ConnectorError::io("connection reset".into())),
    ];
    for failure in failures {
        let (error, requests) = without_credentials(Failing(failure), PATIENCE).await;
        assert_eq!((error.kind, requests), (FailureKind::Unreachable, 0), "{error}");
    }
}

#[tokio::test]
async fn a_helper_that_fails_is_named_with_what_it_said_and_no_secret() {
    let (error, _) = without_credentials(Failing(|| helper("no such host: x\n")), PATIENCE).await;
    assert_eq!(error.message, "the credentials helper failed: exit status: 1: no such host: x");
    let failing = || helper(&["the key AKIA", "IOSFODNN7EXAMPLE is revoked"].concat());
    let (error, _) = without_credentials(Failing(failing), PATIENCE).await;
    assert_eq!(error.kind, FailureKind::Stop(StopCause::Credentials));
    assert_eq!(error.message, "the credentials helper failed: exit status: 1: the key [hidden] is revoked");
    assert_eq!((error.code, error.status), (None, None), "AWS has said nothing");
}

#[tokio::test]
async fn no_secret_is_in_what_debug_prints() {
    let cloud = client(options("http://127.0.0.1:1"));
    let printed = format!("{cloud:?}");
    assert!(!printed.contains("a-test-secret"));
}

/// The signing time of the second of two requests, the first of which was answered with `first`.
async fn second_signing_time(first: Vec<u8>) -> String {
    let server = Server::start(vec![Step::Answer(first), Step::error(400, "ThrottlingException")]).await;
    let cloud = client(options(&server.url()));
    for _ in 0..2 {
        cloud.call(&create_policy()).await.unwrap_err();
    }
    server.seen()[1].headers["x-amz-date"].clone()
}

const IN_2040: (&str, &str) = ("date", "Sun, 01 Jan 2040 12:00:00 GMT");

#[tokio::test]
async fn a_wrong_station_clock_heals_by_the_date_of_one_aws_answer() {
    let first = server::answer(
        403,
        &[IN_2040, ("x-amzn-RequestId", "r"), ("x-amzn-ErrorType", "InvalidSignatureException")],
        "{}",
    );
    // 12:00:00, less what the first call took.
    let signed = second_signing_time(first).await;
    assert!(signed.starts_with("20400101T1"), "{signed}");
}

#[tokio::test]
async fn a_proxys_date_does_not_poison_the_signatures() {
    for first in [
        server::answer(503, &[IN_2040, ("content-type", "text/html")], "<p>"),
        server::answer(200, &[IN_2040, ("content-type", "text/html"), ("x-amzn-RequestId", "r")], "<p>"),
    ] {
        assert!(!second_signing_time(first).await.starts_with("2040"));
    }
}

async fn by_way_of(proxy: ProxyConfig, endpoint: &str) -> Result<Answer, CloudError> {
    let http = transport::client(None, proxy).unwrap();
    let credentials = Credentials::new("AKIATESTTESTTEST0000", "a-test-secret", None, None, "test");
    let provider = SharedCredentialsProvider::new(credentials);
    AwsCloud::assemble(options(endpoint), http, provider, None).unwrap().call(&create_policy()).await
}

#[tokio::test]
async fn a_far_endpoint_is_reached_through_the_proxy_and_loopback_never_is() {
    let proxy = Server::start(vec![Step::aws(200, &[], &policy_made())]).await;
    let config = ProxyConfig::all(proxy.url()).unwrap();
    by_way_of(config.clone(), "http://iot.invalid").await.unwrap();
    assert_eq!(proxy.seen()[0].line(), "POST http://iot.invalid/policies/LM0001");
    let near = Server::start(vec![Step::aws(200, &[], &policy_made())]).await;
    by_way_of(config, &near.url()).await.unwrap();
    assert_eq!((proxy.seen().len(), near.seen().len()), (1, 1));
}

#[tokio::test]
async fn no_proxy_is_honoured() {
    let proxy = Server::start(vec![Step::aws(200, &[], &policy_made())]).await;
    // Reaches this host on Linux, and is not a loopback address by its looks.
    let near = Server::start(vec![Step::aws(200, &[], &policy_made())]).await;
    let url = near.url().replace("127.0.0.1", "0.0.0.0");
    let config = ProxyConfig::all(proxy.url()).unwrap();
    by_way_of(config.clone().no_proxy("0.0.0.0"), &url).await.unwrap();
    assert_eq!((proxy.seen().len(), near.seen().len()), (0, 1));
    by_way_of(config, &url).await.unwrap();
    assert_eq!((proxy.seen().len(), near.seen().len()), (1, 1));
}

#[test]
fn an_endpoint_without_scheme_or_host_is_refused() {
    for url in ["", "iot.eu-west-1.amazonaws.com", "ftp://host", "http://", "unix:/run/x"] {
        assert!(matches!(transport::check_endpoint(url), Err(AwsSetupError::Endpoint { .. })), "{url}");
    }
    for url in ["http://127.0.0.1:4599", "https://vpce-1.iot.eu-west-1.vpce.amazonaws.com", "http://[::1]:80"]
    {
        transport::check_endpoint(url).unwrap();
    }
}

fn bundle(content: &[u8]) -> Result<(), AwsSetupError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    transport::client(Some(file.path()), ProxyConfig::disabled()).map(|_| ())
}

#[test]
fn a_ca_bundle_is_tried_before_it_is_trusted() {
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().pem();
    bundle(format!("a comment\n{pem}{pem}").as_bytes()).unwrap();
    let broken = pem.replacen("MII", "AAA", 1);
    for content in [String::new(), "no PEM".to_owned(), broken, key.serialize_pem()] {
        let error = bundle(content.as_bytes()).unwrap_err();
        assert!(matches!(error, AwsSetupError::Bundle { .. }), "{error}");
    }
    let missing = transport::client(Some("/no/such/bundle.pem".as_ref()), ProxyConfig::disabled());
    assert!(matches!(missing, Err(AwsSetupError::ReadBundle { .. })));
}

//! The adapter against a server whose every byte is written here.

mod broken;
mod errors;
mod lookups;
mod server;
mod setup;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_smithy_http_client::proxy::ProxyConfig;

use super::super::{Answer, Call, Cloud, CloudError};
use super::*;
use server::{Seen, Server, Step};

const ACCOUNT: &str = "123456789012";
/// Far longer than an answer on loopback takes, and never waited for unless a test shortens it.
const PATIENCE: Duration = Duration::from_secs(20);

fn options(url: &str) -> AwsOptions {
    AwsOptions {
        region: "eu-west-1".to_owned(),
        iot_endpoint: Some(url.to_owned()),
        managed_integrations_endpoint: Some(url.to_owned()),
        call_timeout: PATIENCE,
        account: Some(ACCOUNT.to_owned()),
        ca_bundle: None,
    }
}

/// Clients with made-up credentials, whatever proxy this machine's environment names.
fn client(options: AwsOptions) -> AwsCloud {
    let http = transport::client(None, ProxyConfig::disabled()).unwrap();
    let credentials = Credentials::new("AKIATESTTESTTEST0000", "a-test-secret", None, None, "test");
    AwsCloud::assemble(options, http, SharedCredentialsProvider::new(credentials), None).unwrap()
}

/// One call against a server that goes through `steps`; the last one is repeated for ever.
async fn play(call: Call, steps: Vec<Step>) -> (Result<Answer, CloudError>, Vec<Seen>) {
    let server = Server::start(steps).await;
    let outcome = client(options(&server.url())).call(&call).await;
    (outcome, server.seen())
}

fn create_locker() -> Call {
    let tags = BTreeMap::from([("product".to_owned(), "thermostat".to_owned())]);
    Call::CreateCredentialLocker { name: "LM0001".into(), client_token: "token-1".into(), tags }
}

fn create_policy() -> Call {
    let tags = BTreeMap::from([("batch".to_owned(), "B1".to_owned())]);
    Call::CreatePolicy { name: "LM0001".into(), document: r#"{"Version":"2012-10-17"}"#.into(), tags }
}

fn attach_policy() -> Call {
    Call::AttachPolicy { policy: "LM0001".into(), target: certificate_arn() }
}

fn certificate_id() -> String {
    "0123456789abcdef".repeat(4)
}

fn certificate_arn() -> String {
    iot_arn(&format!("cert/{}", certificate_id()))
}

fn iot_arn(resource: &str) -> String {
    format!("arn:aws:iot:eu-west-1:{ACCOUNT}:{resource}")
}

/// AWS's answer to [`create_policy`].
fn policy_made() -> String {
    serde_json::json!({
        "policyName": "LM0001", "policyArn": iot_arn("policy/LM0001"),
        "policyDocument": r#"{"Version":"2012-10-17"}"#, "policyVersionId": "1",
    })
    .to_string()
}

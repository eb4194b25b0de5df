//! The simulated AWS over its sockets: with the SDK's own clients, and with bytes.

mod attachments;
mod audits;
mod deletions;
mod device;
mod faults;
mod http;
mod lists;
mod managed;
mod quotas;
mod registration;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_sdk_iot::config::retry::RetryConfig;
use aws_sdk_iot::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_iot::error::ProvideErrorMetadata;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::x509::tests::TestCa;
use super::{CloudOptions, FaultPlan, SimulatedCloud};
use crate::clock::ManualClock;
use crate::cloud::{Quotas, Service};

const DOCUMENT: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;

/// A running simulation and the SDK's clients for it.
struct Rig {
    cloud: SimulatedCloud,
    clock: ManualClock,
    iot: aws_sdk_iot::Client,
    lockers: aws_sdk_iotmanagedintegrations::Client,
}

impl Rig {
    async fn start(options: CloudOptions) -> Self {
        let clock = ManualClock::at("2026-11-21T12:00:00Z".parse().unwrap());
        let cloud = SimulatedCloud::start_at(options, Arc::new(clock.clone())).await.unwrap();
        let credentials = Credentials::new("AKIDEXAMPLE", "not-a-secret", None, None, "test");
        let iot = aws_sdk_iot::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-west-1"))
            .endpoint_url(cloud.url())
            .retry_config(RetryConfig::disabled())
            .credentials_provider(credentials.clone())
            .build();
        let lockers = aws_sdk_iotmanagedintegrations::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-west-1"))
            .endpoint_url(cloud.url())
            .retry_config(RetryConfig::disabled())
            .credentials_provider(credentials)
            .build();
        let iot = aws_sdk_iot::Client::from_conf(iot);
        let lockers = aws_sdk_iotmanagedintegrations::Client::from_conf(lockers);
        Self { cloud, clock, iot, lockers }
    }

    /// Without quotas and faults.
    async fn easy() -> Self {
        Self::start(easy()).await
    }

    /// One request as bytes; panics if no whole answer comes.
    async fn call(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        send(self.cloud.addr(), method, path, &body, None).await.unwrap().unwrap()
    }

    /// A device as it should be. Returns the certificate's ARN.
    async fn make_device(&self, serial: &str) -> String {
        self.call("POST", "/credential-lockers", &json!({ "Name": serial, "ClientToken": serial }))
            .await
            .ok();
        self.call("POST", &format!("/policies/{serial}"), &json!({ "policyDocument": DOCUMENT })).await.ok();
        let attributes = json!({ "attributePayload": { "attributes": { "linemint": "L1" } } });
        self.call("POST", &format!("/things/{serial}"), &attributes).await.ok();
        let arn = self.register(&TestCa::new("CA").leaf(serial)).await;
        self.attach_policy(serial, &arn).await.ok();
        self.attach_thing(serial, &arn).await.ok();
        arn
    }

    /// Registers a certificate as active and returns its ARN.
    async fn register(&self, pem: &str) -> String {
        let body = json!({ "certificatePem": pem, "status": "ACTIVE" });
        let reply = self.call("POST", "/certificate/register-no-ca", &body).await.ok();
        reply.body["certificateArn"].as_str().unwrap().to_owned()
    }

    async fn attach_policy(&self, policy: &str, target: &str) -> Reply {
        self.call("PUT", &format!("/target-policies/{policy}"), &json!({ "target": target })).await
    }

    async fn attach_thing(&self, thing: &str, principal: &str) -> Reply {
        self.principal("PUT", thing, principal).await
    }

    async fn principal(&self, method: &str, thing: &str, principal: &str) -> Reply {
        let path = format!("/things/{thing}/principals");
        send(self.cloud.addr(), method, &path, "", Some(principal)).await.unwrap().unwrap()
    }
}

fn easy() -> CloudOptions {
    CloudOptions {
        quotas: Quotas::unlimited(),
        faults: FaultPlan::none(),
        seed: 7,
        ..CloudOptions::default()
    }
}

/// A whole answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    text: String,
    body: Value,
}

impl Reply {
    fn error(&self) -> (u16, &str) {
        let code = self.headers.get("x-amzn-errortype").map_or("", |it| it.split(':').next().unwrap_or(""));
        (self.status, code)
    }

    fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{self:?}");
        self
    }
}

/// Sends a signed request on a connection of its own. `Ok(None)` is a connection closed without
/// an answer.
async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    principal: Option<&str>,
) -> io::Result<Option<Reply>> {
    let managed = ["/credential-lockers", "/managed-things"].iter().any(|it| path.starts_with(it));
    let signed = authorization(if managed { Service::ManagedIntegrations } else { Service::Iot });
    let principal = principal.map(|it| format!("x-amzn-principal: {it}\r\n")).unwrap_or_default();
    send_raw(addr, method, path, &format!("{signed}{principal}"), body).await
}

/// As [`send`], with these headers only.
async fn send_raw(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> io::Result<Option<Reply>> {
    let mut stream = TcpStream::connect(addr).await?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer).unwrap();
    let Some((head, text)) = answer.split_once("\r\n\r\n") else { return Ok(None) };
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|it| it.split_once(": "));
    let headers = headers.map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned())).collect();
    let body = serde_json::from_str(text).unwrap_or_default();
    Ok(Some(Reply { status, headers, text: text.to_owned(), body }))
}

fn authorization(service: Service) -> String {
    let name = match service {
        Service::Iot => "iot",
        Service::ManagedIntegrations => "iotmanagedintegrations",
    };
    let signature = "0".repeat(64);
    format!(
        "authorization: AWS4-HMAC-SHA256 Credential=AKID/20261121/eu-west-1/{name}/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature={signature}\r\nx-amz-date: 20261121T120000Z\r\n"
    )
}

fn encode(text: &str) -> String {
    text.replace(':', "%3A").replace('/', "%2F")
}

fn code<E: ProvideErrorMetadata>(error: &E) -> &str {
    error.code().unwrap_or_default()
}

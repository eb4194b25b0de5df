//! Whose the credentials are. For `doctor` only: a station at work learns it from each ARN it is answered.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use jiff::Timestamp;

use super::classify::{chain, credentials_cause, one_line};
use super::{AwsOptions, AwsSetupError, Common, behavior, transport};

/// How long the lookup and the question may take, each.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks AWS whose credentials the SDK's default chain yields.
#[derive(Debug)]
pub struct Caller {
    credentials: SharedCredentialsProvider,
    sts: aws_sdk_sts::Client,
}

impl Caller {
    /// As [`AwsCloud::connect`](super::AwsCloud::connect), and with the same chain. `sts_endpoint` stands in
    /// for the Region's STS.
    ///
    /// # Errors
    /// As there.
    pub async fn connect(options: &AwsOptions, sts_endpoint: Option<String>) -> Result<Self, AwsSetupError> {
        let http = transport::client(options.ca_bundle.as_deref(), ProxyConfig::from_env())?;
        let found = super::found(options, &http).await;
        let provider = found.credentials_provider().ok_or(AwsSetupError::NoCredentialsChain)?;
        Self::assemble(options, (http, provider), Some(&found), sts_endpoint)
    }

    /// As [`AwsCloud::with_credentials`](super::AwsCloud::with_credentials).
    ///
    /// # Errors
    /// As there.
    pub fn with_credentials(
        options: &AwsOptions,
        sts_endpoint: Option<String>,
        credentials: Credentials,
    ) -> Result<Self, AwsSetupError> {
        let http = transport::client(options.ca_bundle.as_deref(), ProxyConfig::from_env())?;
        Self::assemble(options, (http, SharedCredentialsProvider::new(credentials)), None, sts_endpoint)
    }

    fn assemble(
        options: &AwsOptions,
        (http, credentials): (SharedHttpClient, SharedCredentialsProvider),
        found: Option<&SdkConfig>,
        sts_endpoint: Option<String>,
    ) -> Result<Self, AwsSetupError> {
        if let Some(url) = &sts_endpoint {
            transport::check_endpoint(url)?;
        }
        let common = Common::new(options, http, credentials.clone(), found);
        Ok(Self { credentials, sts: sts(&common, sts_endpoint) })
    }

    /// Looks the credentials up: when they end, if they do.
    ///
    /// # Errors
    /// Why there are none, in one line without secrets.
    pub async fn credentials(&self) -> Result<Option<Timestamp>, String> {
        let lookup = tokio::time::timeout(PATIENCE, self.credentials.provide_credentials());
        match lookup.await {
            Ok(Ok(found)) => Ok(found.expiry().and_then(|it| Timestamp::try_from(it).ok())),
            Ok(Err(error)) => Err(credentials_cause(&error)),
            Err(_) => Err(format!("the lookup took longer than {} s", PATIENCE.as_secs())),
        }
    }

    /// The number of the account that they belong to (`GetCallerIdentity`, which everybody may call).
    ///
    /// # Errors
    /// Why nobody says so, in one line without secrets.
    pub async fn account(&self) -> Result<String, String> {
        let asked = tokio::time::timeout(PATIENCE, self.sts.get_caller_identity().send());
        match asked.await {
            Ok(Ok(identity)) => identity.account.ok_or_else(|| "STS names no account".to_owned()),
            Ok(Err(error)) => Err(match (error.code(), error.message()) {
                (Some(code), Some(message)) => one_line(&format!("{code}: {message}")),
                (Some(code), None) => one_line(code),
                _ => chain(&error),
            }),
            Err(_) => Err(format!("STS did not answer within {} s", PATIENCE.as_secs())),
        }
    }
}

fn sts(common: &Common, endpoint: Option<String>) -> aws_sdk_sts::Client {
    let mut config = aws_sdk_sts::Config::builder()
        .behavior_version(behavior())
        .region(common.region.clone())
        .http_client(common.http.clone())
        .credentials_provider(common.credentials.clone())
        .identity_cache(common.identities.clone())
        .timeout_config(common.timeouts.clone())
        .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
        .use_fips(common.fips)
        .use_dual_stack(common.dual_stack);
    config.set_endpoint_url(endpoint);
    aws_sdk_sts::Client::from_conf(config.build())
}

//! The two AWS SDK clients behind [`Cloud`].
//!
//! One [`Call`] is one HTTP request. The SDK's retries are off, because whether a request may be
//! repeated is the device's matter (`device::retry`), and because two layers of retries multiply.
//! Nothing that an environment variable or a profile says can turn them on again: the service
//! clients are built here from nothing, and of `aws-config` only the credentials, FIPS and
//! dual-stack are taken. In particular `AWS_ENDPOINT_URL` does not divert a station; the
//! configuration's endpoints do.
//!
//! An answer counts only if it is AWS's: see `answers` for a success, `classify` for a failure.

mod answers;
mod authority;
mod caller;
mod classify;
mod lookups;
mod requests;
mod transport;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_iot::config::{
    FrameworkMetadata, IdentityCache, SharedIdentityCache, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use super::{Answer, Call, Cloud, CloudError};
use crate::clock::{SystemClock, TimeSource};

pub use self::authority::{CaMode, CaRegistration, RegisteredCa};
pub use self::caller::Caller;

/// A connection is refused or made within this, whatever the call may take as a whole.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(3);

/// A credentials lookup (a helper process, STS) may take this long, and half of a call.
const CREDENTIALS_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Where AWS is, and how long it may take.
#[derive(Debug, Clone)]
pub struct AwsOptions {
    /// The AWS Region, `eu-west-1`: signs the requests and, without endpoints, routes them.
    pub region: String,
    /// Base URL of AWS IoT's control plane instead of the Region's.
    pub iot_endpoint: Option<String>,
    /// Base URL of managed integrations instead of the Region's.
    pub managed_integrations_endpoint: Option<String>,
    /// For a whole call: credentials, connection, head and body.
    pub call_timeout: Duration,
    /// The twelve digits that every ARN in an answer must carry.
    pub account: Option<String>,
    /// PEM file of further roots to trust, for a proxy that opens TLS.
    pub ca_bundle: Option<PathBuf>,
}

/// Why the AWS clients cannot be set up. Always the configuration's fault.
#[derive(Debug, thiserror::Error)]
pub enum AwsSetupError {
    /// The SDK was built without a way to look credentials up.
    #[error("the AWS SDK offers no way to look up credentials")]
    NoCredentialsChain,
    /// The endpoint is no base URL.
    #[error("{url:?} is not a URL that begins with http:// or https:// and names a host")]
    Endpoint {
        /// What was given.
        url: String,
    },
    /// The CA bundle cannot be read.
    #[error("failed to read the CA bundle {}", path.display())]
    ReadBundle {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The CA bundle holds something that cannot be trusted as a root.
    #[error("the CA bundle {} is unusable: {reason}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Which certificate, and why.
        reason: String,
    },
}

/// AWS IoT and managed integrations, over HTTPS.
#[derive(Debug)]
pub struct AwsCloud {
    iot: aws_sdk_iot::Client,
    managed_integrations: aws_sdk_iotmanagedintegrations::Client,
    account: Option<String>,
    clock: SystemClock,
}

impl AwsCloud {
    /// Clients whose credentials come from the SDK's default chain: environment, profile,
    /// web identity, container, instance. Nothing is sent yet, save what the chain itself does.
    ///
    /// # Errors
    /// An endpoint or the CA bundle is unusable. Missing credentials are not an error here;
    /// each call then fails with `Stop(Credentials)` until they appear.
    pub async fn connect(options: AwsOptions) -> Result<Self, AwsSetupError> {
        let http = transport::client(options.ca_bundle.as_deref(), ProxyConfig::from_env())?;
        let found = found(&options, &http).await;
        let provider = found.credentials_provider().ok_or(AwsSetupError::NoCredentialsChain)?;
        Self::assemble(options, http, provider, Some(&found))
    }

    /// Clients with the given credentials, for simulations and tests. No environment variable,
    /// file or metadata service is asked for others.
    ///
    /// # Errors
    /// As [`AwsCloud::connect`].
    pub fn with_credentials(options: AwsOptions, credentials: Credentials) -> Result<Self, AwsSetupError> {
        let http = transport::client(options.ca_bundle.as_deref(), ProxyConfig::from_env())?;
        Self::assemble(options, http, SharedCredentialsProvider::new(credentials), None)
    }

    fn assemble(
        options: AwsOptions,
        http: SharedHttpClient,
        credentials: SharedCredentialsProvider,
        found: Option<&SdkConfig>,
    ) -> Result<Self, AwsSetupError> {
        for url in [&options.iot_endpoint, &options.managed_integrations_endpoint].into_iter().flatten() {
            transport::check_endpoint(url)?;
        }
        let common = Common::new(&options, http, credentials, found);
        Ok(Self {
            iot: common.iot(options.iot_endpoint),
            managed_integrations: common.managed_integrations(options.managed_integrations_endpoint),
            account: options.account,
            clock: SystemClock::default(),
        })
    }
}

/// What the environment and the profiles say, of which only little is taken.
async fn found(options: &AwsOptions, http: &SharedHttpClient) -> SdkConfig {
    let chain = aws_config::defaults(behavior()).region(Region::new(options.region.clone()));
    chain.http_client(http.clone()).load().await
}

/// Pinned: a newer one may bring other defaults, which is a change to be tested, not to be had by surprise.
fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// What both service clients share, among it the connections and the cached credentials.
struct Common {
    region: Region,
    http: SharedHttpClient,
    credentials: SharedCredentialsProvider,
    identities: SharedIdentityCache,
    timeouts: TimeoutConfig,
    agent: Option<FrameworkMetadata>,
    fips: bool,
    dual_stack: bool,
}

impl Common {
    fn new(
        options: &AwsOptions,
        http: SharedHttpClient,
        credentials: SharedCredentialsProvider,
        found: Option<&SdkConfig>,
    ) -> Self {
        let half = options.call_timeout / 2;
        Self {
            region: Region::new(options.region.clone()),
            http,
            credentials,
            identities: IdentityCache::lazy().load_timeout(half.min(CREDENTIALS_TIMEOUT_MAX)).build(),
            timeouts: TimeoutConfig::builder()
                .connect_timeout(half.min(CONNECT_TIMEOUT_MAX))
                .operation_timeout(options.call_timeout)
                .build(),
            agent: FrameworkMetadata::new("linemint", Some(env!("CARGO_PKG_VERSION"))).ok(),
            fips: found.and_then(SdkConfig::use_fips).unwrap_or(false),
            dual_stack: found.and_then(SdkConfig::use_dual_stack).unwrap_or(false),
        }
    }

    fn iot(&self, endpoint: Option<String>) -> aws_sdk_iot::Client {
        let mut config = aws_sdk_iot::Config::builder()
            .behavior_version(behavior())
            .region(self.region.clone())
            .http_client(self.http.clone())
            .credentials_provider(self.credentials.clone())
            .identity_cache(self.identities.clone())
            .timeout_config(self.timeouts.clone())
            .retry_config(RetryConfig::disabled())
            // The operation's time limit covers a stalled body.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // Safe, since `transport` lets no other `Date` than AWS's through.
            .disable_clock_skew_correction(false)
            .use_fips(self.fips)
            .use_dual_stack(self.dual_stack);
        config.set_endpoint_url(endpoint);
        if let Some(agent) = &self.agent {
            config.push_framework_metadata(agent.clone());
        }
        aws_sdk_iot::Client::from_conf(config.build())
    }

    fn managed_integrations(&self, endpoint: Option<String>) -> aws_sdk_iotmanagedintegrations::Client {
        let mut config = aws_sdk_iotmanagedintegrations::Config::builder()
            .behavior_version(behavior())
            .region(self.region.clone())
            .http_client(self.http.clone())
            .credentials_provider(self.credentials.clone())
            .identity_cache(self.identities.clone())
            .timeout_config(self.timeouts.clone())
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .disable_clock_skew_correction(false)
            .use_fips(self.fips);
        config.set_endpoint_url(endpoint);
        if let Some(agent) = &self.agent {
            config.push_framework_metadata(agent.clone());
        }
        aws_sdk_iotmanagedintegrations::Client::from_conf(config.build())
    }
}

impl Cloud for AwsCloud {
    async fn call(&self, call: &Call) -> Result<Answer, CloudError> {
        let started = self.clock.now().mono;
        let outcome = self.send(call).await;
        let millis = self.clock.now().mono.saturating_sub(started).as_millis();
        log(call, &outcome, u64::try_from(millis).unwrap_or(u64::MAX));
        outcome
    }
}

/// One line for each call. Never a body: they carry certificates and policies.
fn log(call: &Call, outcome: &Result<Answer, CloudError>, ms: u64) {
    let operation = call.operation().aws_name();
    let resource = resource(call);
    match outcome {
        Ok(answer) => {
            tracing::debug!(
                operation,
                resource,
                request_id = answer.request_id.as_deref(),
                ms,
                "AWS answered"
            );
        }
        Err(error) => tracing::debug!(
            operation,
            resource,
            kind = %error.kind,
            code = error.code.as_deref(),
            status = error.status,
            request_id = error.request_id.as_deref(),
            ms,
            "AWS call failed"
        ),
    }
}

/// The name of what the call is about; a certificate to be registered has none yet, and a list is about
/// everything.
fn resource(call: &Call) -> &str {
    match call {
        Call::CreateCredentialLocker { name, .. }
        | Call::CreatePolicy { name, .. }
        | Call::GetPolicy { name }
        | Call::DeletePolicy { name }
        | Call::CreateThing { name, .. }
        | Call::DescribeThing { name }
        | Call::DeleteThing { name } => name,
        Call::CreateManagedThing { serial, .. } => serial,
        Call::RegisterCertificateWithoutCa { .. }
        | Call::RegisterCertificate { .. }
        | Call::CreateCertificateFromCsr { .. }
        | Call::ListCertificates { .. }
        | Call::ListPolicies { .. }
        | Call::ListThings { .. }
        | Call::ListCredentialLockers { .. } => "",
        Call::DescribeCertificate { id }
        | Call::ListCertificatesByCa { ca: id, .. }
        | Call::ListPrincipalThings { principal: id, .. }
        | Call::UpdateCertificate { id, .. }
        | Call::DeleteCertificate { id }
        | Call::GetCredentialLocker { id }
        | Call::GetManagedThing { id }
        | Call::DeleteManagedThing { id }
        | Call::DeleteCredentialLocker { id } => id,
        Call::AttachPolicy { target, .. }
        | Call::DetachPolicy { target, .. }
        | Call::ListAttachedPolicies { target, .. } => target,
        Call::AttachThingPrincipal { thing, .. }
        | Call::DetachThingPrincipal { thing, .. }
        | Call::ListThingPrincipals { thing, .. } => thing,
    }
}

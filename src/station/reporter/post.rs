//! One report sent to a server with POST.

use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;

/// How long one try may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Why a report was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("{url} cannot be asked")]
    Request { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{url} cannot be reached")]
    Unreachable { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{url} did not answer within {} s", WITHIN.as_secs())]
    TimedOut { url: String },
    #[error("{url} answered {status}")]
    Refused { url: String, status: u16 },
}

impl PostError {
    /// Whether it may go well later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Request { .. } => false,
        }
    }
}

/// Sends it once.
pub(super) async fn post(url: &str, body: &[u8]) -> Result<(), PostError> {
    let mut request = HttpRequest::new(SdkBody::from(body));
    let wrong = |source| PostError::Request { url: url.to_owned(), source };
    request.set_method("POST").map_err(|it| wrong(it.into()))?;
    request.set_uri(url).map_err(|it| wrong(it.into()))?;
    request.headers_mut().insert("content-type", "application/json");
    request.headers_mut().insert("content-length", body.len().to_string());
    let connector = if url.starts_with("https:") {
        Connector::builder().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build()
    } else {
        Connector::builder().build_http()
    };
    let answered = tokio::time::timeout(WITHIN, connector.call(request)).await;
    let answer = answered.map_err(|_| PostError::TimedOut { url: url.to_owned() })?;
    let answer = answer.map_err(|it| PostError::Unreachable { url: url.to_owned(), source: it.into() })?;
    match answer.status().as_u16() {
        200..=299 => Ok(()),
        status => Err(PostError::Refused { url: url.to_owned(), status }),
    }
}

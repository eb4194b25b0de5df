//! The HTTP client under both services: connections, trust, proxies, and what is stripped
//! from answers that are not AWS's.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_types::request_id::RequestId;
use http_body_util::Limited;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::AwsSetupError;

/// The longest answer that is read, bytes. AWS's longest is a policy document of 404,600 characters.
const BODY_MAX: usize = 1 << 20;

/// Fails unless `url` is an absolute http(s) URL with a host.
pub(super) fn check_endpoint(url: &str) -> Result<(), AwsSetupError> {
    let parsed = url.parse::<hyper::Uri>().ok();
    let sound =
        parsed.is_some_and(|it| matches!(it.scheme_str(), Some("http" | "https")) && it.host().is_some());
    if sound { Ok(()) } else { Err(AwsSetupError::Endpoint { url: url.to_owned() }) }
}

/// The client that both services and the credentials chain use: one pool of connections.
pub(super) fn client(bundle: Option<&Path>, proxies: ProxyConfig) -> Result<SharedHttpClient, AwsSetupError> {
    let trust = match bundle {
        Some(path) => TrustStore::default().with_pem_certificate(read_bundle(path)?),
        None => TrustStore::default(),
    };
    Ok(SharedHttpClient::new(Transport { trust, proxies, pools: Mutex::default() }))
}

/// A client that knows no root at all, so that a test does not depend on the machine's.
#[cfg(test)]
pub(super) fn trusting_nobody() -> SharedHttpClient {
    let (trust, proxies) = (TrustStore::empty(), ProxyConfig::disabled());
    SharedHttpClient::new(Transport { trust, proxies, pools: Mutex::default() })
}

/// The bundle's bytes, each certificate tried: the SDK would panic over one that it cannot use.
fn read_bundle(path: &Path) -> Result<Vec<u8>, AwsSetupError> {
    let failed = |source| AwsSetupError::ReadBundle { path: path.to_owned(), source };
    // Opening a FIFO would hold the daemon's start for ever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("not a regular file")));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let unusable = |reason| AwsSetupError::Bundle { path: path.to_owned(), reason };
    let mut count = 0_usize;
    for der in CertificateDer::pem_slice_iter(&bytes) {
        count += 1;
        let der = der.map_err(|it| unusable(format!("PEM block {count}: {it}")))?;
        webpki::anchor_from_trusted_cert(&der)
            .map_err(|it| unusable(format!("certificate {count}: {it}")))?;
    }
    if count == 0 { Err(unusable("it holds no certificate".to_owned())) } else { Ok(bytes) }
}

/// How long connecting and reading may take.
type Timeouts = (Option<Duration>, Option<Duration>);

/// Keeps one [`Pool`] for each pair of timeouts; the services have one pair, the credentials chain a few more.
struct Transport {
    trust: TrustStore,
    proxies: ProxyConfig,
    pools: Mutex<HashMap<Timeouts, SharedHttpConnector>>,
}

impl fmt::Debug for Transport {
    // A proxy's URL may carry a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl HttpClient for Transport {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let key = (settings.connect_timeout(), settings.read_timeout());
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.entry(key).or_insert_with(|| {
            let mut builder = Connector::builder().connector_settings(settings.clone());
            builder.set_sleep_impl(components.sleep_impl());
            let (trust, proxies) = (self.trust.clone(), self.proxies.clone());
            let make = move |route: Route| {
                let trust = if route.secure { trust.clone() } else { TrustStore::empty() };
                let proxies = if route.loopback { ProxyConfig::disabled() } else { proxies.clone() };
                let context = TlsContext::builder().with_trust_store(trust).build().unwrap_or_default();
                let tls = builder.clone().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
                tls.tls_context(context).proxy_config(proxies).build()
            };
            SharedHttpConnector::new(Pool { make: Arc::new(make), connectors: Default::default() })
        });
        pool.clone()
    }
}

/// What decides how a host is spoken to.
#[derive(Clone, Copy)]
struct Route {
    /// TLS. The system's roots are read at the first such request only, so that a simulation
    /// on loopback runs on a machine that has none.
    secure: bool,
    /// This very host: no proxy can reach it, whatever the environment says.
    loopback: bool,
}

impl Route {
    fn of(uri: &str) -> Self {
        let parsed = uri.parse::<hyper::Uri>().unwrap_or_default();
        let host = parsed.host().unwrap_or_default().trim_matches(['[', ']']);
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
        Self { secure: parsed.scheme_str() != Some("http"), loopback }
    }

    fn index(self) -> usize {
        usize::from(self.secure) * 2 + usize::from(self.loopback)
    }
}

/// The connections of one pair of timeouts, a connector for each [`Route`].
struct Pool {
    make: Arc<dyn Fn(Route) -> Connector + Send + Sync>,
    connectors: [OnceLock<Connector>; 4],
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

impl HttpConnector for Pool {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let route = Route::of(request.uri());
        let connector = self.connectors[route.index()].get_or_init(|| (self.make)(route));
        let answer = connector.call(request);
        HttpConnectorFuture::new(async move { answer.await.and_then(sober) })
    }
}

/// An answer without the marks that only AWS may set.
///
/// - A page in HTML has no request id: a portal that answers 200 to everything must not pass
///   for AWS where the operation answers nothing.
/// - Without a request id there is no `Date`. The SDK signs all later requests by the last
///   `Date` it saw. From AWS this heals a wrong station clock at the cost of one refused call;
///   from a proxy whose clock is wrong it would make AWS refuse every signature.
fn sober(mut response: HttpResponse) -> Result<HttpResponse, ConnectorError> {
    let page =
        response.headers().get("content-type").is_some_and(|it| it.trim_start().starts_with("text/html"));
    if page && response.status().is_success() {
        response.headers_mut().remove("x-amzn-requestid");
        response.headers_mut().remove("x-amz-request-id");
    }
    if response.request_id().is_none() {
        response.headers_mut().remove("date");
    }
    Ok(response.map(|body| SdkBody::from_body_1_x(Limited::new(body, BODY_MAX))))
}

//! Connects to AWS IoT's data endpoint as a device would: TLS with its certificate and key, the server
//! checked by its name and the product's roots.
//!
//! With TLS 1.3 a client has done its part of the handshake before the server has looked at its certificate:
//! the refusal comes afterwards. So a connection counts when it still stands a moment later, and when the
//! server has asked for the certificate at all: one that lets everybody in has proved nothing.

use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::line::Unproved;

/// MQTT over TLS, where AWS IoT asks for client certificates.
const PORT: u16 = 8883;

/// For the connection and the handshake together.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection has to stand.
const SETTLED: Duration = Duration::from_millis(500);

/// Tries it. `chain_pem` is the device's certificate and those above it, `key` its private key (PKCS #8 DER).
///
/// # Errors
/// Why it does not prove that the device would be let in.
pub async fn connect(
    endpoint: &str,
    roots_pem: &str,
    chain_pem: &str,
    key: &Zeroizing<Vec<u8>>,
) -> Result<(), Unproved> {
    let (host, port) = split(endpoint)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Unproved::Misconfigured(format!("{host:?} is not the name of a host")))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let shown = Arc::new(Shown::new(&provider, chain_pem, key)?);
    let config = config(provider, roots_pem, shown.clone())?;
    let unreachable = |what: &str| Unproved::Unreachable(format!("{endpoint} {what}"));
    let connected = async {
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| unreachable(&format!("cannot be reached: {error}")))?;
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| judge(endpoint, &error))
    };
    let mut stream = tokio::time::timeout(PATIENCE, connected)
        .await
        .map_err(|_| unreachable("does not answer in time"))??;
    let hung_up = || Unproved::Refused(format!("{endpoint} has hung up on the certificate"));
    // The handshake is over: a server that asks has asked by now.
    if !shown.asked.load(Ordering::Relaxed) {
        let what = "has not asked for the device's certificate: it is no endpoint for devices";
        return Err(Unproved::Misconfigured(format!("{endpoint} {what}")));
    }
    let mut first = [0; 1];
    match tokio::time::timeout(SETTLED, stream.read(&mut first)).await {
        // Silence: a server waits for its client to begin.
        Err(_) => Ok(()),
        Ok(Ok(0)) => Err(hung_up()),
        Ok(Ok(_)) => Ok(()),
        // Some servers do so without a word of TLS.
        Ok(Err(error)) if matches!(error.kind(), UnexpectedEof | ConnectionReset) => Err(hung_up()),
        Ok(Err(error)) => Err(judge(endpoint, &error)),
    }
}

fn split(endpoint: &str) -> Result<(&str, u16), Unproved> {
    match endpoint.rsplit_once(':') {
        None => Ok((endpoint, PORT)),
        Some((host, port)) => match port.parse() {
            Ok(port) => Ok((host, port)),
            Err(_) => Err(Unproved::Misconfigured(format!("{endpoint:?} has no port behind its colon"))),
        },
    }
}

/// The device's certificate and key, and whether the server has asked for them and was given them.
#[derive(Debug)]
struct Shown {
    identity: Arc<CertifiedKey>,
    asked: AtomicBool,
}

impl Shown {
    fn new(provider: &CryptoProvider, chain_pem: &str, key: &Zeroizing<Vec<u8>>) -> Result<Self, Unproved> {
        let chain = read(chain_pem).map_err(|error| wrong("the certificate cannot be read", &error))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_vec()));
        let identity = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| wrong("the certificate and its key cannot be used", &error))?;
        Ok(Self { identity: Arc::new(identity), asked: AtomicBool::new(false) })
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _roots: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // A server that takes no signature of this kind of key is given an empty certificate.
        self.identity.key.choose_scheme(schemes)?;
        self.asked.store(true, Ordering::Relaxed);
        Some(self.identity.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn config(
    provider: Arc<CryptoProvider>,
    roots_pem: &str,
    shown: Arc<Shown>,
) -> Result<ClientConfig, Unproved> {
    let mut roots = RootCertStore::empty();
    for root in read(roots_pem).map_err(|error| wrong("the product's roots cannot be read", &error))? {
        roots.add(root).map_err(|error| wrong("the product's roots cannot be trusted", &error))?;
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("TLS cannot be set up", &error))?;
    Ok(builder.with_root_certificates(roots).with_client_cert_resolver(shown))
}

fn read(pem: &str) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect()
}

fn wrong(what: &str, error: &dyn std::fmt::Display) -> Unproved {
    Unproved::Misconfigured(format!("{what}: {error}"))
}

/// What ended the connection: the server's word counts, the network's does not.
fn judge(endpoint: &str, error: &std::io::Error) -> Unproved {
    let tls = error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(alert)) => {
            Unproved::Refused(format!("{endpoint} does not take the certificate ({alert:?})"))
        }
        Some(rustls::Error::InvalidCertificate(why)) => Unproved::Misconfigured(format!(
            "{endpoint} is not trusted by the product's roots, or is another server ({why})"
        )),
        _ => Unproved::Unreachable(format!("{endpoint} has cut the connection: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::server::TlsStream;

    use super::*;

    /// What a server does after the handshake with the connection of a device that it knows, or, where it
    /// asks for no certificate, of anybody.
    async fn after(
        asks: bool,
        what: impl FnOnce(TlsStream<TcpStream>) -> Option<TlsStream<TcpStream>>,
    ) -> Result<(), Unproved> {
        let rcgen::CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let own = KeyPair::generate().unwrap();
        let device = rcgen::CertificateParams::default().self_signed(&own).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut known = RootCertStore::empty();
        known.add(device.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(known), provider.clone());
        let server =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let server = match asks {
            true => server.with_client_cert_verifier(verifier.build().unwrap()),
            false => server.with_no_client_auth(),
        };
        let server = server.with_single_cert(vec![cert.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("localhost:{}", listener.local_addr().unwrap().port());
        let (device, own) = (device.pem(), own.serialize_der());
        let own = Zeroizing::new(own);
        let (roots, serving) = (cert.pem(), async {
            let (stream, _) = listener.accept().await.unwrap();
            what(acceptor.accept(stream).await.unwrap())
        });
        let (connected, left) = tokio::join!(connect(&endpoint, &roots, &device, &own), serving);
        drop(left);
        connected
    }

    #[tokio::test]
    async fn a_server_that_asks_for_no_certificate_proves_nothing() {
        let result = after(false, Some).await;
        let Err(Unproved::Misconfigured(why)) = &result else { panic!("{result:?}") };
        assert!(why.contains("has not asked for the device's certificate"), "{why}");
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_without_a_word_has_refused_the_certificate() {
        assert!(matches!(after(true, Some).await, Ok(())));
        // Neither says that TLS is over; the second does not even end the connection in good order.
        let ended = after(true, |it| {
            drop(it.into_inner().0);
            None
        });
        assert!(
            matches!(&ended.await, Err(Unproved::Refused(why)) if why.ends_with("hung up on the certificate"))
        );
        let reset = after(true, |it| {
            let socket = rustix::net::sockopt::set_socket_linger(it.get_ref().0, Some(Duration::ZERO));
            socket.unwrap();
            drop(it.into_inner().0);
            None
        });
        assert!(
            matches!(&reset.await, Err(Unproved::Refused(why)) if why.ends_with("hung up on the certificate"))
        );
    }
}

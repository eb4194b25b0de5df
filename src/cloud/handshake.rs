//! Connects to AWS IoT's data endpoint as a device would: TLS with its certificate and key, the server
//! checked by its name and the product's roots.
//!
//! With TLS 1.3 a client has done its part of the handshake before the server has looked at its certificate:
//! the refusal comes afterwards. So a connection counts when it still stands a moment later.

use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
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
    let config = config(roots_pem, chain_pem, key)?;
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

fn config(roots_pem: &str, chain_pem: &str, key: &Zeroizing<Vec<u8>>) -> Result<ClientConfig, Unproved> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| Unproved::Misconfigured(format!("{what}: {error}"));
    let read = |pem: &str| -> Result<Vec<CertificateDer<'static>>, _> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect()
    };
    let mut roots = RootCertStore::empty();
    for root in read(roots_pem).map_err(|error| wrong("the product's roots cannot be read", &error))? {
        roots.add(root).map_err(|error| wrong("the product's roots cannot be trusted", &error))?;
    }
    let chain = read(chain_pem).map_err(|error| wrong("the certificate cannot be read", &error))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_vec()));
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("TLS cannot be set up", &error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| wrong("the certificate and its key cannot be used", &error))
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
    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use rustls::ServerConfig;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::server::TlsStream;

    use super::*;

    /// What a server that shakes hands with everybody does after that with the connection.
    async fn after(
        what: impl FnOnce(TlsStream<TcpStream>) -> Option<TlsStream<TcpStream>>,
    ) -> Result<(), Unproved> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("localhost:{}", listener.local_addr().unwrap().port());
        let own = KeyPair::generate().unwrap();
        let device = rcgen::CertificateParams::default().self_signed(&own).unwrap().pem();
        let own = Zeroizing::new(own.serialize_der());
        let (roots, serving) = (cert.pem(), async {
            let (stream, _) = listener.accept().await.unwrap();
            what(acceptor.accept(stream).await.unwrap())
        });
        let (connected, left) = tokio::join!(connect(&endpoint, &roots, &device, &own), serving);
        drop(left);
        connected
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_without_a_word_has_refused_the_certificate() {
        assert!(matches!(after(Some).await, Ok(())));
        // Neither says that TLS is over; the second does not even end the connection in good order.
        let ended = after(|it| {
            drop(it.into_inner().0);
            None
        });
        assert!(
            matches!(&ended.await, Err(Unproved::Refused(why)) if why.ends_with("hung up on the certificate"))
        );
        let reset = after(|it| {
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

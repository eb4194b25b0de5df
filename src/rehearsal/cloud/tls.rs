//! Where devices connect: a TLS server that demands a client certificate, and takes those that the account
//! has registered and active. What is spoken over the connection is not simulated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::CloudSimError;
use super::world::Simulation;
use crate::pki::Fingerprint;

/// Devices that are connected at a time.
const MAX_CONNECTIONS: usize = 1024;
/// A device that has said nothing for so long is let go.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// Pause after an accept that failed.
const BACK_OFF: Duration = Duration::from_millis(50);

/// The server. It ends with the simulation.
#[derive(Debug)]
pub(crate) struct DataEndpoint {
    pub(crate) addr: SocketAddr,
    /// What it is trusted by.
    pub(crate) roots_pem: String,
    let_in: Arc<AtomicU64>,
}

impl DataEndpoint {
    /// Listens, under a CA of its own.
    pub(crate) async fn start(
        address: SocketAddr,
        simulation: Arc<Simulation>,
        stop: CancellationToken,
    ) -> Result<Self, CloudSimError> {
        let (config, roots_pem) = config(simulation)?;
        let listen = |source| CloudSimError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let let_in = Arc::new(AtomicU64::new(0));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(accept(listener, acceptor, let_in.clone(), stop));
        Ok(Self { addr, roots_pem, let_in })
    }

    /// Devices that were let in so far.
    pub(crate) fn let_in(&self) -> u64 {
        self.let_in.load(Ordering::Relaxed)
    }
}

fn config(simulation: Arc<Simulation>) -> Result<(ServerConfig, String), CloudSimError> {
    let authority = |source| CloudSimError::Authority { source };
    let mut params = CertificateParams::new(Vec::new()).map_err(authority)?;
    params.distinguished_name.push(DnType::CommonName, "linemint simulated AWS root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().map_err(authority)?;
    let root = params.self_signed(&root_key).map_err(authority)?;
    let issuer = Issuer::new(params, root_key);
    let key = KeyPair::generate().map_err(authority)?;
    let mut params =
        CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).map_err(authority)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own = params.signed_by(&key, &issuer).map_err(authority)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let tls = |source| CloudSimError::Tls { source };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Registered { simulation, provider: provider.clone() });
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.der().clone()], key)
        .map_err(tls)?;
    Ok((config, root.pem()))
}

/// Takes the certificates that the account has, active, whoever has signed them: as AWS IoT does.
#[derive(Debug)]
struct Registered {
    simulation: Arc<Simulation>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Registered {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let world = self.simulation.world();
        let known = world.account.certificates.get(&Fingerprint::of(end_entity));
        match known.map(|it| it.status) {
            Some("ACTIVE") => Ok(ClientCertVerified::assertion()),
            Some(_) => Err(CertificateError::Revoked.into()),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    let_in: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = stream else {
            tokio::time::sleep(BACK_OFF).await;
            continue;
        };
        let (acceptor, let_in, stop) = (acceptor.clone(), let_in.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = tokio::time::timeout(MAX_IDLE, serve(stream, &acceptor, &let_in)) => {}
            }
            drop(place);
        });
    }
}

/// Lets a device in, and waits until it goes.
async fn serve(stream: TcpStream, acceptor: &TlsAcceptor, let_in: &AtomicU64) {
    match acceptor.accept(stream).await {
        Ok(mut stream) => {
            let_in.fetch_add(1, Ordering::Relaxed);
            let mut buffer = [0; 256];
            while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
        }
        Err(error) => tracing::debug!(%error, "a device is not let in"),
    }
}

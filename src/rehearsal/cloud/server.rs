//! The sockets: HTTP/1.1 with keep-alive, one task for each connection.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::account::{Account, Done, ManagedThing};
use super::attachments::{PolicyTarget, ThingPrincipal};
use super::audit::{Audit, AuditScope, Names, audit};
use super::authority::Authority;
use super::cas::RegisterCa;
use super::certificates::RegisterCertificate;
use super::faults::Faults;
use super::ledger::{Ledger, LedgerRow, Stats};
use super::limits::Limits;
use super::lockers::CreateLocker;
use super::policies::CreatePolicy;
use super::service::{Dropped, Service};
use super::things::CreateThing;
use super::tls::DataEndpoint;
use super::world::{Simulation, World};
use super::x509::Certificate;
use super::{CloudOptions, CloudSimError, Throttling};
use crate::clock::{SystemClock, TimeSource};
use crate::cloud::Quotas;

/// Most connections at a time; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 4096;
/// A connection that brings no request for so long is closed; longer than the SDK keeps one idle.
const MAX_IDLE: Duration = Duration::from_secs(120);
/// What answers still under way get at the end.
const GRACE: Duration = Duration::from_secs(2);
/// Pause after an accept that failed for want of resources.
const BACK_OFF: Duration = Duration::from_millis(50);
/// How often the ledger is handed to the system.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Buffer of the ledger's file, bytes.
const LEDGER_BUFFER: usize = 64 * 1024;

/// The simulated AWS, running. It ends with [`shutdown`](Self::shutdown), or when it is dropped.
#[derive(Debug)]
pub struct SimulatedCloud {
    addr: SocketAddr,
    simulation: Arc<Simulation>,
    stop: CancellationToken,
    accepting: Option<JoinHandle<()>>,
    data: Option<DataEndpoint>,
    ledger: Option<PathBuf>,
}

impl SimulatedCloud {
    /// Listens, and serves on the runtime that this is called in.
    ///
    /// # Errors
    /// The address cannot be listened on, the ledger cannot be made, or there is no key for the CA.
    pub async fn start(options: CloudOptions) -> Result<Self, CloudSimError> {
        Self::start_at(options, Arc::new(SystemClock::default())).await
    }

    /// As [`start`](Self::start), by another clock: quotas, delays and dates follow it. The
    /// round-trip time and the sockets' limits follow tokio's.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_at(options: CloudOptions, clock: Arc<dyn TimeSource>) -> Result<Self, CloudSimError> {
        let address = options.listen;
        let listen = |source| CloudSimError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let file = options.ledger.clone().map(open_ledger).transpose()?;
        let authority = Authority::new().map_err(|source| CloudSimError::Authority { source })?;
        let world = World {
            account: Account::new(options.account, options.seed, options.max_lockers),
            limits: Limits::new(&options.quotas, &options.throttling, clock.now().mono),
            faults: Faults::new(options.faults, options.seed),
            ledger: Ledger::new(file),
        };
        let simulation = Arc::new(Simulation::new(world, authority, clock, options.region));
        let stop = CancellationToken::new();
        let data = match options.data_listen {
            Some(address) => Some(DataEndpoint::start(address, Arc::clone(&simulation), stop.clone()).await?),
            None => None,
        };
        let service = Service::new(Arc::clone(&simulation), options.rtt);
        let accepting = tokio::spawn(accept(listener, service, stop.clone()));
        Ok(Self { addr, simulation, stop, accepting: Some(accepting), data, ledger: options.ledger })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The endpoint for both services, `http://ADDR:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where devices connect, if anywhere, `localhost:PORT`.
    #[must_use]
    pub fn data_endpoint(&self) -> Option<String> {
        self.data.as_ref().map(|it| format!("localhost:{}", it.addr.port()))
    }

    /// What devices trust that server by, PEM; empty if there is none.
    #[must_use]
    pub fn data_roots(&self) -> &str {
        self.data.as_ref().map_or("", |it| &it.roots_pem)
    }

    /// Devices that have connected and were let in.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.data.as_ref().map_or(0, DataEndpoint::let_in)
    }

    /// Holds the account against what it should hold for `serials`, by which everything is named.
    #[must_use]
    pub fn audit(&self, serials: &[impl AsRef<str>], scope: AuditScope) -> Audit {
        let devices: Vec<_> = serials.iter().map(|it| Names::from(it.as_ref())).collect();
        self.audit_named(&devices, scope)
    }

    /// As [`audit`](Self::audit), for devices whose things are called otherwise.
    #[must_use]
    pub fn audit_named(&self, devices: &[Names], scope: AuditScope) -> Audit {
        let world = self.simulation.world();
        audit(&world.account, devices, scope, world.ledger.stats().calls.clone())
    }

    /// Puts an active CA into the account (`SNI_ONLY`), as it is where a station's was registered before.
    ///
    /// # Errors
    /// What AWS would say, in words.
    pub fn place_ca(&self, pem: &str) -> Result<(), String> {
        let command = Certificate::from_pem(pem).map(RegisterCa::without_challenge);
        self.simulation.place(|account, at| account.register_ca(command?, at))
    }

    /// Puts a policy into the account, as somebody else has made it before.
    ///
    /// # Errors
    /// What AWS would say, in words.
    pub fn place_policy(&self, name: &str, document: &str) -> Result<(), String> {
        let (name, document) = (name.to_owned(), document.to_owned());
        self.simulation
            .place(|account, at| account.create_policy(CreatePolicy { name, document, tagged: false }, at))
    }

    /// Puts a whole device into the account, as `station` has made it: all of one name, and attached. The
    /// locker's id and the certificate's ARN.
    ///
    /// # Errors
    /// What AWS would say, in words.
    pub fn place_device(
        &self,
        name: &str,
        station: &str,
        document: &str,
        certificate_pem: &str,
    ) -> Result<(String, String), String> {
        let mut placed = (String::new(), String::new());
        self.simulation.place(|account, at| {
            let text = |done: &Done, member: &str| {
                let value = done.body.as_ref().and_then(|it| it[member].as_str());
                value.unwrap_or_default().to_owned()
            };
            let locker = account.create_locker(CreateLocker::named(name), at)?;
            account.create_thing(CreateThing::of_station(name, station), at)?;
            let (policy, document) = (name.to_owned(), document.to_owned());
            account.create_policy(CreatePolicy { name: policy.clone(), document, tagged: false }, at)?;
            let certificate = RegisterCertificate::without_ca(Certificate::from_pem(certificate_pem)?);
            let registered = account.register_certificate(certificate, at)?;
            placed = (text(&locker, "Id"), text(&registered, "certificateArn"));
            let target = placed.1.clone();
            account.attach_policy(&PolicyTarget { policy, target: target.clone() }, at)?;
            account.attach_thing_principal(&ThingPrincipal::new(name.to_owned(), target), at)
        })?;
        Ok(placed)
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.simulation.world().ledger.stats().clone()
    }

    /// The last 200,000 requests, oldest first.
    #[must_use]
    pub fn rows(&self) -> Vec<LedgerRow> {
        self.simulation.world().ledger.rows().cloned().collect()
    }

    /// Holds other quotas from now on, and no hidden limit.
    pub fn set_quotas(&self, quotas: &Quotas) {
        let now = self.simulation.now().mono;
        self.simulation.world().limits = Limits::new(quotas, &Throttling::default(), now);
    }

    /// Sets or lifts a limit over all operations together, calls a second: what another user of
    /// the same account leaves over. 0 lets nothing through; `None` lifts it.
    pub fn set_account_limit(&self, rate: Option<f64>) {
        let now = self.simulation.now().mono;
        self.simulation.world().limits.set_account(rate.map(|it| it.max(0.0)), now);
    }

    /// Begins anew with the limit over all operations together: its steps count from now on.
    pub fn limit_account(&self, throttling: &Throttling) {
        let now = self.simulation.now().mono;
        self.simulation.world().limits.limit_account(throttling, now);
    }

    /// The managed things that the account holds.
    #[must_use]
    pub fn managed_things(&self) -> Vec<ManagedThing> {
        self.simulation.world().account.managed_things.values().cloned().collect()
    }

    /// Forgets every client token: a locker asked for with one of them is made anew.
    pub fn forget_tokens(&self) {
        self.simulation.world().account.forget_tokens();
    }

    /// Stops listening, lets answers under way finish for at most two seconds, and closes the
    /// ledger.
    ///
    /// # Errors
    /// The ledger could not be written whole.
    pub async fn shutdown(mut self) -> Result<(), CloudSimError> {
        self.stop.cancel();
        if let Some(Err(error)) = match self.accepting.take() {
            Some(accepting) => Some(accepting.await),
            None => None,
        } {
            tracing::warn!(%error, "the simulated AWS did not end by itself");
        }
        let closed = self.simulation.world().ledger.close();
        closed
            .map_err(|source| CloudSimError::Ledger { path: self.ledger.take().unwrap_or_default(), source })
    }
}

impl Drop for SimulatedCloud {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn open_ledger(path: PathBuf) -> Result<Box<dyn Write + Send>, CloudSimError> {
    match File::create(&path) {
        Ok(file) => Ok(Box::new(BufWriter::with_capacity(LEDGER_BUFFER, file))),
        Err(source) => Err(CloudSimError::Ledger { path, source }),
    }
}

async fn accept(listener: TcpListener, service: Service, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut flush = tokio::time::interval(FLUSH_EVERY);
    flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = flush.tick() => service.flush(),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, service.clone(), stop.clone()));
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "the simulated AWS cannot accept a connection");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
    drop(listener);
    // What is not done by then is dropped with the set.
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, drained).await.is_err() {
        tracing::debug!("answers under way were dropped");
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::Interrupted | K::WouldBlock)
}

async fn connection(stream: TcpStream, service: Service, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection was gone at once");
        return;
    }
    let reset = AtomicBool::new(false);
    let answer = service_fn(|request| {
        let (service, reset) = (service.clone(), &reset);
        async move {
            let answered = service.answer(request).await;
            if matches!(answered, Err(Dropped::Reset)) {
                reset.store(true, Ordering::Relaxed);
            }
            answered
        }
    });
    let mut served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_IDLE)
        .serve_connection(TokioIo::new(stream), answer);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = stop.cancelled() => {
            std::pin::Pin::new(&mut served).graceful_shutdown();
            (&mut served).await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended early");
    }
    if reset.load(Ordering::Relaxed) {
        // Closing with nothing to linger for sends RST instead of FIN.
        let stream = served.into_parts().io.into_inner();
        if let Err(error) = stream.set_zero_linger() {
            tracing::debug!(%error, "the connection was gone before its reset");
        }
    }
}

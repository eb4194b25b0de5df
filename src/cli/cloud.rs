//! `linemint cloud simulate`: the simulated AWS alone, for whoever wants to point something at it.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Chain, ExitStatus};
use crate::rehearsal::cloud::{Account, CloudOptions, FaultPlan, QuotaError, SimulatedCloud, read_quotas};

/// Runs a simulated AWS until it is interrupted: AWS IoT and managed integrations on one address.
///
/// POST /__audit with serial numbers, one a line, tells what the account holds for them and
/// what it should hold; GET /__stats tells the counters.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4599")]
    pub listen: SocketAddr,

    /// Calls a second: aws-default, unlimited, or a file of lines such as `create-policy = 10` (docs/pace.md)
    #[arg(long, value_name = "PRESET|FILE", default_value = "aws-default")]
    pub quota: String,

    /// What goes wrong: none, mild or hard
    #[arg(long, value_name = "none|mild|hard", default_value = "none")]
    pub faults: FaultPlan,

    /// Round-trip time to add to every call, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub rtt: u64,

    /// Decides which calls meet a fault
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,

    /// Where devices connect by TLS with their certificates (verify = "tls"); port 0 takes a free one
    #[arg(long, value_name = "ADDR", requires = "data_roots")]
    pub data_listen: Option<SocketAddr>,

    /// Write what that server is trusted by to this file, PEM; a product's `roots`
    #[arg(long, value_name = "FILE", requires = "data_listen")]
    pub data_roots: Option<PathBuf>,

    /// Write every call to this file, as JSON lines; an existing file is emptied
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

/// Runs it. Says `listening on http://…` on stdout when it is ready; ends at SIGINT or SIGTERM.
pub async fn simulate(args: SimulateArgs) -> ExitStatus {
    let Account { quotas, throttling } = match read_quotas(&args.quota) {
        Ok(account) => account,
        Err(error @ QuotaError::Read { .. }) => return fail(&error, ExitStatus::Io),
        Err(error) => return fail(&error, ExitStatus::Configuration),
    };
    let options = CloudOptions {
        listen: args.listen,
        quotas,
        throttling,
        rtt: Duration::from_millis(args.rtt),
        faults: args.faults,
        seed: args.seed,
        ledger: args.ledger,
        data_listen: args.data_listen,
        ..CloudOptions::default()
    };
    let (mut interrupt, mut terminate) =
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => return fail(&error, ExitStatus::Io),
        };
    let cloud = match SimulatedCloud::start(options).await {
        Ok(cloud) => cloud,
        Err(error) => return fail(&error, ExitStatus::Io),
    };
    if let Some(path) = &args.data_roots
        && let Err(error) = crate::durable_fs::replace(path, 0o644, cloud.data_roots().as_bytes())
    {
        return fail(&error, ExitStatus::Io);
    }
    if let Err(error) = announce(&cloud.url(), cloud.data_endpoint().as_deref()) {
        return fail(&error, ExitStatus::Io);
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    match cloud.shutdown().await {
        Ok(()) => ExitStatus::Done,
        Err(error) => fail(&error, ExitStatus::Io),
    }
}

fn announce(url: &str, data: Option<&str>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {url}")?;
    if let Some(data) = data {
        writeln!(stdout, "devices connect to {data}")?;
    }
    stdout.flush()
}

fn fail(error: &(dyn std::error::Error + 'static), status: ExitStatus) -> ExitStatus {
    // Nobody is left to be told if stderr is gone.
    let _ = writeln!(io::stderr(), "error: {}", Chain(error));
    status
}

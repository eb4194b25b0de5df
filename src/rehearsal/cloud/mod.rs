//! AWS, simulated: the two services that a device's identity lives in, on one HTTP address.
//!
//! A request goes through these hands:
//!
//! ```text
//! server ─ request ─ command ──┐ parsed and checked by AWS's documented constraints
//!                              ▼
//!   limits ─ faults ─ account (lockers policies certificates cas things attachments)
//!                              ▼
//!                  ledger ─ answer ─ server, which also makes the faults of the wire
//! ```
//!
//! Everything but the server is synchronous, deterministic for a seed, and under one lock. What
//! AWS documents it does to the letter (`x-amzn-ErrorType`, 402 for a quota, 400 for throttling
//! on `iot` and 429 on managed integrations, 410, 406); what AWS does not document is named
//! where it is decided. Nothing leaves the loopback interface unless the caller listens elsewhere.

mod account;
mod attachments;
mod audit;
mod authority;
mod cas;
mod certificates;
mod check;
mod command;
mod faults;
mod ledger;
mod limits;
mod lockers;
mod managed;
mod policies;
mod quota;
mod refusal;
mod reply;
mod request;
mod server;
mod service;
#[cfg(test)]
mod tests;
mod things;
mod tls;
mod world;
mod x509;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::cloud::Quotas;

pub use account::ManagedThing;
pub use audit::{
    Audit, AuditScope, CertificateScope, LockerScope, Names, Orphans, PolicyScope, Problem, UnknownScope,
};
pub(super) use limits::Limits;

pub use faults::{Fault, FaultPlan, UnknownFaults};
pub use ledger::{Calls, LedgerRow, Stats};
pub use limits::{Kind, Throttling};
pub use quota::{Account, QuotaError, Wrong, parse_quotas, read_quotas};
pub use server::SimulatedCloud;

/// What the simulated AWS is like.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Calls a second, account-wide.
    pub quotas: Quotas,
    /// How it holds them, and what it does not tell.
    pub throttling: Throttling,
    /// Added to every request, half before its effect and half after it.
    pub rtt: Duration,
    /// What goes wrong.
    pub faults: FaultPlan,
    /// Decides every fault and every generated id.
    pub seed: u64,
    /// Where every request is written down, as JSON lines. An existing file is emptied.
    pub ledger: Option<PathBuf>,
    /// The account's number, twelve digits.
    pub account: String,
    /// The Region; requests signed for another one are refused. Empty: each request is answered
    /// in the Region that it is signed for.
    pub region: String,
    /// Where devices connect: TLS that demands a client certificate. None: nowhere.
    pub data_listen: Option<SocketAddr>,
    /// Most credential lockers. AWS has such a quota and does not publish it.
    pub max_lockers: Option<usize>,
}

impl Default for CloudOptions {
    /// A faultless AWS with its documented quotas, on a free port of the loopback interface.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            quotas: Quotas::aws_default(),
            throttling: Throttling::default(),
            rtt: Duration::ZERO,
            faults: FaultPlan::none(),
            seed: 0,
            ledger: None,
            account: "123456789012".to_owned(),
            region: String::new(),
            data_listen: None,
            max_lockers: None,
        }
    }
}

/// Why the simulated AWS did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum CloudSimError {
    #[error("failed to listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("failed to write the ledger {}", path.display())]
    Ledger { path: PathBuf, source: std::io::Error },
    #[error("failed to make the simulated AWS's own CA")]
    Authority { source: rcgen::Error },
    #[error("failed to set up the simulated AWS's TLS")]
    Tls { source: rustls::Error },
}

//! The configuration, checked whole before anything starts.
//!
//! The file goes through two stages. [`Config::parse`] reads its tables key by key, with
//! each value's type, unit and line; what it makes of them is the valid [`Config`] below, in
//! which nothing has to be asked again: paths start at the configuration's directory, templates
//! yield only names that AWS takes, the policy document is read, quotas carry the station's
//! share. Everything that is wrong is told at once ([`ConfigErrors`]), with file, line, key and hint.
//!
//! This file is what a configuration is; its siblings are how it is read.

mod aws;
mod changes;
mod errors;
mod files;
mod fixtures;
mod iam;
mod load;
mod messages;
mod names;
mod places;
mod policy;
mod product;
mod quota;
mod reports;
mod scanner;
mod secret;
pub(crate) mod serials;
mod shifts;
mod station;
mod table;
pub(crate) mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::device::rules::ProductRules;
use crate::device::serial::SerialPattern;
use crate::fixture::place::{PortPlace, Raised};
use crate::fixture::scanner::ScannerOptions;
use crate::fixture::text::Messages;
use crate::line::Deliver;
use crate::pki::Fingerprint;
use crate::pki::token::TokenUri;
use crate::shift::{Calendar, Shift};

pub use changes::Changes;
pub use errors::{ConfigError, ConfigErrors};
pub use files::{Files, SystemFiles};
pub use iam::iam_policy;
pub(crate) use load::mistake;
pub use places::{DEFAULT_SOCKET, PlaceError, journal_in, socket_in};
pub use quota::documented as documented_quotas;
pub use secret::{NoCredential, SecretRef};

/// Where the configuration is looked for when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/linemint/linemint.toml";

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// This host.
    pub station: Station,
    /// What is remembered, and where.
    pub journal: Journal,
    /// The local API.
    pub api: Api,
    /// The account and how fast it may be called.
    pub aws: Aws,
    /// The station's certificate authority; there whenever a product's certificates are issued here.
    pub pki: Option<Pki>,
    /// The fixtures, at least one; names and ports are unique.
    pub fixtures: Vec<Fixture>,
    /// The products by name; there is one for each fixture.
    pub products: BTreeMap<String, Product>,
    /// The shift calendar, at least one; shifts do not overlap.
    pub shifts: Vec<Shift>,
    /// Hash of its content and of the documents that it names, but for the words in which things are told. Comments,
    /// white space and the order of keys do not change it.
    pub hash: Fingerprint,
}

impl Config {
    /// The shift calendar.
    #[must_use]
    pub fn calendar(&self) -> Calendar {
        Calendar {
            shifts: self.shifts.clone(),
            timezone: self.station.timezone.clone(),
            days_off: self.station.days_off.clone(),
        }
    }
}

/// `[station]`.
#[derive(Debug, Clone)]
pub struct Station {
    /// Its id, `[A-Za-z0-9_-]{1,64}`.
    pub id: String,
    /// The shift calendar's time zone.
    pub timezone: jiff::tz::TimeZone,
    /// The time zone's IANA name.
    pub timezone_name: String,
    /// Days on which no shift begins.
    pub days_off: std::collections::BTreeSet<jiff::civil::Date>,
    /// The planned time for a device, where there is one.
    pub takt: Option<Duration>,
    /// The reports that are made at each shift's end.
    pub reports: Reports,
    /// Unfinished devices that are taken in at most; at least one.
    pub backlog: usize,
    /// What operators read; English unless `messages` names a file that says it in their language.
    pub messages: Arc<Messages>,
}

/// The reports that are made at each shift's end.
#[derive(Debug, Clone)]
pub struct Reports {
    /// How long after it.
    pub grace: Duration,
    /// Where they go; none are made without one.
    pub dir: Option<PathBuf>,
    /// How many are kept.
    pub keep: usize,
    /// The program that is called with each, and its arguments; empty if there is none.
    pub hook: Vec<String>,
    /// Where each is sent to, an http(s) URL.
    pub url: Option<String>,
}

/// `[journal]`.
#[derive(Debug, Clone)]
pub struct Journal {
    /// Its directory.
    pub dir: PathBuf,
    /// Free space in bytes below which no new device is admitted.
    pub min_free: u64,
    /// What wraps the private keys that are not delivered yet. The default is `seal.key` beside `dir`.
    pub seal_key: SecretRef,
    /// How long an undelivered private key is kept.
    pub keep_undelivered: Duration,
}

/// `[api]`.
#[derive(Debug, Clone)]
pub struct Api {
    /// The local API's Unix socket.
    pub socket: PathBuf,
    /// Where the read-only web board is served, if it is.
    pub board: Option<SocketAddr>,
    /// Names, besides addresses and `localhost`, under which the board may be asked for; lower case.
    pub board_names: Vec<String>,
}

/// `[aws]`.
#[derive(Debug, Clone)]
pub struct Aws {
    /// The Region.
    pub region: String,
    /// Another endpoint for AWS IoT Core than AWS's own, an http(s) URL without a path.
    pub iot_endpoint: Option<String>,
    /// Another endpoint for managed integrations, likewise.
    pub managed_integrations_endpoint: Option<String>,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// The only account to work in, 12 digits.
    pub account: Option<String>,
    /// Roots that AWS's servers are trusted by beside the system's, PEM.
    pub ca_bundle: Option<PathBuf>,
    /// Calls a second; the station's share is taken off.
    pub quotas: crate::cloud::Quotas,
}

/// `[pki]`.
#[derive(Debug, Clone)]
pub struct Pki {
    /// The CA's certificate, PEM, with the intermediates above it if there are any.
    pub ca_certificate: PathBuf,
    /// The CA's private key.
    pub ca_key: CaKeyRef,
    /// `[pki.previous]`: the certificate of the CA that issued before, PEM as above. Devices in flight keep
    /// what it has issued for them.
    pub previous: Option<PathBuf>,
}

/// Where the CA's private key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaKeyRef {
    /// In a file or a credential.
    Secret(SecretRef),
    /// In a token, which it never leaves.
    Token {
        /// Which token and key.
        uri: Box<TokenUri>,
        /// The PKCS #11 module.
        module: PathBuf,
        /// The user's PIN.
        pin: SecretRef,
    },
}

/// One `[[fixture]]`.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// Its name, `[A-Za-z0-9_-]{1,64}`.
    pub name: String,
    /// Its serial port.
    pub port: PortPlace,
    /// What it speaks.
    pub driver: Driver,
    /// Baud rate.
    pub baud: u32,
    /// The product that it tests unless an open batch says another.
    pub product: String,
    /// How long an answer is waited for before the frame is sent again.
    pub resend: Duration,
    /// How long the fixture may take to answer `credentials`.
    pub answer_within: Duration,
    /// How long a unit waits in its nest for the cloud.
    pub patience: Duration,
    /// What DTR says while the port is open.
    pub dtr: Raised,
    /// What RTS says while the port is open.
    pub rts: Raised,
}

/// What a fixture speaks.
#[derive(Debug, Clone)]
pub enum Driver {
    /// SFP/1.
    Sfp,
    /// Plain lines.
    Scanner(Box<ScannerOptions>),
}

/// One `[product.NAME]`.
#[derive(Debug, Clone)]
pub struct Product {
    /// What a device of it becomes.
    pub rules: Arc<ProductRules>,
    /// What its serial numbers look like.
    pub serial: SerialPattern,
    /// The same as it is written in the file.
    pub pattern_text: String,
    /// Where its devices' credentials go.
    pub deliver: Deliver,
    /// The directory that its devices' labels go into, if they get any.
    pub labels: Option<PathBuf>,
}

#[cfg(test)]
mod tests;

//! From a configuration to the parts of a station: what has to be right before anything is
//! promised is opened and checked here, in this order: lock, CA, journal, keys, AWS.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use jiff::Timestamp;

use super::reporter::orders::Batches;
use super::{FixturePort, Parts, StationError, names, reporter, timekeeper};
use crate::clock::{ClockSync, TimeSource, made_at};
use crate::cloud::aws::{AwsCloud, AwsOptions, AwsSetupError};
use crate::cloud::pace::{MAX_IN_FLIGHT, Paced};
use crate::cloud::{Operation, Quotas};
use crate::config::{CaKeyRef, Config, Driver, NoCredential, Pki, SecretRef};
use crate::device::rules::{ProductRules, RulesId};
use crate::durable_fs::{FileError, read_regular_text, read_secret};
use crate::error::{Chain, ExitStatus};
use crate::fixture::MAX_ID;
use crate::fixture::port::PortOptions;
use crate::fixture::scanner::Scanner;
use crate::fixture::text::Messages;
use crate::journal::JournalError;
use crate::journal::keys::{KeyStore, KeyStoreError, SealKey, SealKeyError, stored_in};
use crate::journal::store::{self, JournalLock, Store};
use crate::line::{Deliver, FixtureSettings, KnownCa, News, Product, Settings};
use crate::pki::issuer::{CaError, StationIssuer};
use crate::pki::pkcs11::{TokenIssuer, TokenOptions};
use crate::pki::summary::{CaEnd, expiry_warning};
use crate::pki::{Fingerprint, IssueError, Issuer};
use crate::report::fold::Maker;
use crate::report::keys::ReportKeyError;
use crate::timesync::Keepers;
use zeroize::Zeroizing;

/// Twice two round trips of half a second, which is how far away the farthest Region is, and slow.
const AHEAD: Duration = Duration::from_secs(2);

/// Devices of the backlog that are begun at a time, at least: so that one that is tried again later
/// does not keep the others waiting.
const MIN_IN_PROGRESS: usize = 8;

/// What a device's first calls may be.
const FIRST_CALLS: [Operation; 6] = [
    Operation::CreateCredentialLocker,
    Operation::CreatePolicy,
    Operation::CreateThing,
    Operation::RegisterCertificateWithoutCa,
    Operation::RegisterCertificate,
    Operation::CreateCertificateFromCsr,
];

/// The longest private key file of a CA, bytes.
const MAX_KEY_LEN: usize = 64 << 10;

/// Longest file of certificates that is read.
const MAX_CERTIFICATE_LEN: u64 = 1 << 20;

/// The limiter over the AWS clients.
pub type StationCloud = Paced<AwsCloud>;

/// A station ready to start, and what others want to look at.
pub struct Assembled {
    /// The parts.
    pub parts: Parts<StationCloud>,
    /// AWS, paced.
    pub cloud: Arc<StationCloud>,
    /// The journal's reading half.
    pub store: Store,
    /// The journal's id.
    pub journal_id: String,
    /// What reports are made with.
    pub maker: Maker,
    /// The CA's subject and when it can issue no more, if the station has one.
    pub ca: Option<(String, CaEnd)>,
}

/// Why a station cannot be set up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum SetupError {
    #[error("the station cannot start")]
    Journal(#[source] JournalError),
    #[error("failed to read the CA certificate {}", path.display())]
    CaCertificate { path: PathBuf, source: std::io::Error },
    #[error("failed to read the CA's private key")]
    CaKeyFile(#[source] FileError),
    #[error("the CA cannot issue certificates")]
    Ca(#[source] CaError),
    #[error("the CA's token cannot be used yet; as a service linemint tries again until it can")]
    Token(#[source] CaError),
    #[error(
        "the CA cannot issue certificates by a clock that cannot be right, {now:.0}: set the clock; as a service linemint tries again until it is"
    )]
    Clock { now: Timestamp, source: CaError },
    #[error("a secret is missing")]
    Credential(#[source] NoCredential),
    #[error("the key that seals undelivered private keys cannot be used")]
    SealKey(#[source] SealKeyError),
    #[error("the sealed private keys cannot be used")]
    Keys(#[source] KeyStoreError),
    #[error("reports cannot be signed")]
    ReportKey(#[source] ReportKeyError),
    #[error("AWS cannot be set up")]
    Aws(#[source] AwsSetupError),
    #[error("failed to make {}", path.display())]
    Directory { path: PathBuf, source: FileError },
}

impl SetupError {
    /// What the process ends with.
    #[must_use]
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Journal(JournalError::Held { .. }) => ExitStatus::Busy,
            Self::Journal(_) | Self::Keys(_) | Self::Directory { .. } | Self::ReportKey(_) => ExitStatus::Io,
            // Of themselves these come right, and systemd tries again: a token that is plugged in, a clock that is set.
            Self::Token(_) | Self::Clock { .. } => ExitStatus::Io,
            Self::CaCertificate { .. }
            | Self::CaKeyFile(_)
            | Self::Ca(_)
            | Self::Credential(_)
            | Self::SealKey(_)
            | Self::Aws(_) => ExitStatus::Configuration,
        }
    }
}

impl StationError {
    /// What the process ends with.
    #[must_use]
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Journal(_) | Self::Keys(_) | Self::Thread(_) => ExitStatus::Io,
            Self::Ended(_) => ExitStatus::Bug,
        }
    }
}

/// Opens and checks everything that the configuration names, holding the journal's `lock`.
///
/// `credentials` are for a simulation; without them the SDK's default chain is asked.
///
/// # Errors
/// Something is missing, wrong, or in use.
pub async fn assemble(
    config: &Config,
    lock: JournalLock,
    credentials: Option<Credentials>,
    clock: Arc<dyn TimeSource>,
) -> Result<Assembled, SetupError> {
    // With the lock held nobody else makes calls from this journal: none was made since.
    let held = clock.now();
    let now = held.wall;
    let (issuer, previous_ca) = match &config.pki {
        Some(pki) => match load_ca(pki, now) {
            Ok(ca) => (Some(ca), previous_ca(pki, now)),
            Err(error) if credentials.is_some() => return Err(error),
            Err(error) => return Err(by_the_clock(error, now, &Keepers::default().ask().await)),
        },
        None => (None, None),
    };
    if let Some(warning) = issuer.as_ref().and_then(|it| expiry_warning(&it.end, now)) {
        tracing::warn!(warning);
    }
    for warning in issuer.iter().flat_map(|it| names::refused(config, it, now)) {
        tracing::warn!(warning);
    }
    store::refuse_if_gone(&config.journal.dir, &keys_dir(config), |dir| stored_in(dir, |_| true))
        .map_err(SetupError::Journal)?;
    let journal = store::open(lock).map_err(SetupError::Journal)?;
    if let Some(other) = other_station(&journal.recovered.rules, &config.station.id) {
        let id = &config.station.id;
        tracing::warn!(
            "station.id is {id}, but the journal is that of {other}: what was made as {other} is a conflict now"
        );
    }
    let keys = open_keys(config, &journal.id)?;
    let options = aws_options(&config.aws);
    let simulated = credentials.is_some();
    let aws = match credentials {
        Some(credentials) => AwsCloud::with_credentials(options, credentials),
        None => AwsCloud::connect(options).await,
    };
    let aws = aws.map_err(SetupError::Aws)?;
    let cloud = Paced::new(aws, config.aws.quotas.clone(), clock.clone(), MAX_IN_FLIGHT);
    let cloud = Arc::new(cloud.resting_since(held.mono));
    Ok(Assembled {
        cloud: cloud.clone(),
        store: journal.store.clone(),
        journal_id: journal.id.clone(),
        maker: Maker {
            orders: Some(Arc::new(Batches(journal.store.clone()))),
            ..reporter::maker(config, &journal.id).map_err(SetupError::ReportKey)?
        },
        ca: issuer.as_ref().map(|it| (it.subject.clone(), it.end.clone())),
        parts: Parts {
            settings: Settings { previous_ca, ..settings(config, issuer.as_ref().map(|it| &*it.issuer)) },
            station: config.station.id.clone(),
            directories: config.directories().into_iter().cloned().collect(),
            ports: config.fixtures.iter().map(|it| fixture_port(it, &config.station.messages)).collect(),
            journal,
            keys,
            issuer: issuer.map(|it| it.issuer),
            cloud,
            clock,
            journal_dir: config.journal.dir.clone(),
            min_free: config.journal.min_free,
            sync: if simulated { timekeeper::unsaid() } else { timekeeper::start().await },
        },
    })
}

/// The station whose journal it is, if `id` has never worked with it: things bear the id, and another's are conflicts.
fn other_station(rules: &BTreeMap<RulesId, ProductRules>, id: &str) -> Option<String> {
    let others: BTreeSet<&str> = rules.values().map(|it| it.station.as_str()).collect();
    (!others.is_empty() && !others.contains(id)).then(|| others.into_iter().collect::<Vec<_>>().join(", "))
}

/// Where AWS is.
pub(crate) fn aws_options(aws: &crate::config::Aws) -> AwsOptions {
    AwsOptions {
        region: aws.region.clone(),
        iot_endpoint: aws.iot_endpoint.clone(),
        managed_integrations_endpoint: aws.managed_integrations_endpoint.clone(),
        call_timeout: aws.call_timeout,
        account: aws.account.clone(),
        ca_bundle: aws.ca_bundle.clone(),
    }
}

/// The station's CA, ready to issue.
pub(crate) struct StationCa {
    pub(crate) issuer: Arc<dyn Issuer>,
    /// Its subject, for people.
    pub(crate) subject: String,
    /// When it can issue no more.
    pub(crate) end: CaEnd,
    /// Whether it holds its leaves to names.
    pub(crate) constrained: bool,
}

/// Reads the CA and tries it out.
pub(crate) fn load_ca(pki: &Pki, now: Timestamp) -> Result<StationCa, SetupError> {
    let path = &pki.ca_certificate;
    let pem = read_regular_text(path, MAX_CERTIFICATE_LEN)
        .map_err(|source| SetupError::CaCertificate { path: path.clone(), source })?;
    match &pki.ca_key {
        CaKeyRef::Secret(key) => {
            let issuer = StationIssuer::load(&pem, secret(key)?, now).map_err(SetupError::Ca)?;
            let (subject, end) = (issuer.subject().to_owned(), issuer.end().clone());
            let constrained = issuer.is_constrained();
            Ok(StationCa { issuer: Arc::new(issuer), subject, end, constrained })
        }
        CaKeyRef::Token { uri, module, pin } => {
            // A PIN in a file often ends with a line.
            let pin = Zeroizing::new(secret(pin)?.trim_end_matches(['\r', '\n']).to_owned());
            let options = TokenOptions { uri: (**uri).clone(), module: module.clone(), pin };
            let issuer = TokenIssuer::open(&pem, options, now).map_err(not_opened)?;
            let (subject, end) = (issuer.subject().to_owned(), issuer.end().clone());
            let constrained = issuer.is_constrained();
            Ok(StationCa { issuer: Arc::new(issuer), subject, end, constrained })
        }
    }
}

/// A token that is not there, or does not answer, may be in a moment. A PIN that it has refused is not given to it again: it
/// would lock itself; and one that has another key will not have this one tomorrow.
fn not_opened(error: CaError) -> SetupError {
    match error {
        CaError::Trial(IssueError::Token(_)) => SetupError::Token(error),
        error => SetupError::Ca(error),
    }
}

/// That a CA is not valid now is a matter of its certificate, unless the clock cannot be right.
fn by_the_clock(error: SetupError, now: Timestamp, sync: &ClockSync) -> SetupError {
    let doubted = now < made_at() || matches!(sync, ClockSync::Unsynchronised(_));
    match error {
        SetupError::Ca(source @ CaError::NotValid { .. }) if doubted => SetupError::Clock { now, source },
        error => error,
    }
}

fn secret(it: &SecretRef) -> Result<Zeroizing<String>, SetupError> {
    let bytes = read_secret(&resolve(it)?, MAX_KEY_LEN).map_err(SetupError::CaKeyFile)?;
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The CA that issued before. If it is of no use any more that stops nobody: devices in flight then get
/// certificates of the present one.
fn previous_ca(pki: &Pki, now: Timestamp) -> Option<KnownCa> {
    let path = pki.previous.as_ref()?;
    match read_certificate(path, now) {
        Ok(it) => Some(it),
        Err(error) => {
            let error = Chain(&error);
            tracing::warn!(%error, "the CA of [pki.previous] is not used: what it issued is issued anew");
            None
        }
    }
}

/// What lies in the files of the CAs' certificates now: the present one's, then that of the previous one. None for one that
/// cannot be read.
pub(super) fn ca_files(config: &Config) -> Vec<Option<Fingerprint>> {
    let paths = config.pki.iter().flat_map(|it| [Some(&it.ca_certificate), it.previous.as_ref()]).flatten();
    let read = |path: &PathBuf| read_regular_text(path, MAX_CERTIFICATE_LEN).ok();
    paths.map(|it| read(it).map(|it| Fingerprint::of(it.as_bytes()))).collect()
}

/// A CA by its certificate alone.
pub(crate) fn read_certificate(path: &Path, now: Timestamp) -> Result<KnownCa, SetupError> {
    let pem = read_regular_text(path, MAX_CERTIFICATE_LEN)
        .map_err(|source| SetupError::CaCertificate { path: path.to_owned(), source })?;
    let chain = crate::pki::issuer::read_chain(&pem, now).map_err(SetupError::Ca)?;
    let (fingerprint, ca_pem, chain_pem) = chain;
    Ok(KnownCa { fingerprint, ca_pem, chain_pem })
}

/// Sealed keys lie in `keys/` beside the journal, so that no copy of the journal takes them along.
fn keys_dir(config: &Config) -> PathBuf {
    config.journal.dir.parent().unwrap_or(Path::new("/")).join("keys")
}

fn open_keys(config: &Config, journal_id: &str) -> Result<KeyStore, SetupError> {
    let dir = keys_dir(config);
    // A seal key that is handed over by systemd is not ours to make.
    let may_create = matches!(config.journal.seal_key, SecretRef::Path(_));
    let path = resolve(&config.journal.seal_key)?;
    if may_create && !path.exists() {
        warn_of_lost_keys(&dir, journal_id, &path);
    }
    let seal_key = SealKey::load_or_create(&path, may_create).map_err(SetupError::SealKey)?;
    KeyStore::open(dir, journal_id, seal_key).map_err(SetupError::Keys)
}

/// Says so if a new seal key takes the place of one that sealed what still lies there: those private
/// keys are lost, and their devices get new certificates.
fn warn_of_lost_keys(dir: &Path, journal_id: &str, seal_key: &Path) {
    let Ok(count) = stored_in(dir, |name| name.starts_with(journal_id)) else { return };
    if count > 0 {
        tracing::error!(
            seal_key = %seal_key.display(),
            count,
            "the seal key is gone: undelivered private keys cannot be opened any more, their devices get new certificates; \
             stop the station and put the seal key back if you have it"
        );
    }
}

fn resolve(secret: &SecretRef) -> Result<PathBuf, SetupError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    secret.resolve(credentials.as_deref()).map_err(SetupError::Credential)
}

fn line_fixtures(config: &Config) -> Vec<FixtureSettings> {
    let fixtures = config.fixtures.iter().map(|it| FixtureSettings {
        name: it.name.clone(),
        product: it.product.clone(),
        resend: it.resend,
        answer_within: it.answer_within,
        patience: it.patience,
    });
    fixtures.collect()
}

/// The products as the line has them.
pub(super) fn line_products(config: &Config) -> BTreeMap<String, Product> {
    let products = config.products.iter().map(|(name, it)| {
        let (rules, serial, deliver) = (it.rules.clone(), it.serial.clone(), it.deliver.clone());
        (name.clone(), Product { rules, serial, deliver, labels: it.labels.clone() })
    });
    products.collect()
}

/// What the line and its ports are told of another configuration than `old`.
pub(super) fn news(old: &Config, new: &Config, changed: Vec<String>) -> (News, Vec<FixturePort>) {
    let ports = new.fixtures_without(old);
    let ports = ports.into_iter().map(|it| fixture_port(it, &new.station.messages)).collect();
    let news = News {
        fixtures: line_fixtures(new),
        products: line_products(new),
        config_hash: new.hash.to_string(),
        keep_undelivered: new.journal.keep_undelivered,
        backlog: new.station.backlog,
        in_progress: in_progress(&new.aws.quotas),
        changed,
    };
    (news, ports)
}

fn settings(config: &Config, issuer: Option<&dyn Issuer>) -> Settings {
    Settings {
        station: config.station.id.clone(),
        fixtures: line_fixtures(config),
        products: line_products(config),
        ca: issuer.map(|it| it.ca()),
        ca_pem: issuer.map_or("", |it| it.ca_pem()).to_owned(),
        chain_pem: issuer.map_or("", |it| it.chain_pem()).to_owned(),
        previous_ca: None,
        config_hash: config.hash.to_string(),
        keep_undelivered: config.journal.keep_undelivered,
        backlog: config.station.backlog,
        messages: config.station.messages.clone(),
        in_progress: in_progress(&config.aws.quotas),
        built_at: crate::clock::made_at(),
        seed: fastrand::u64(..),
    }
}

/// How many devices of the backlog are begun at a time: as many as the tightest quota takes in
/// [`AHEAD`], so that it has work whatever the round trips are, and few enough to be finished soon.
pub(crate) fn in_progress(quotas: &Quotas) -> usize {
    let rates = FIRST_CALLS.iter().filter_map(|it| quotas.rates.get(it)).copied();
    let tightest = rates.chain(quotas.device_certificates).reduce(f64::min);
    let wanted = tightest.map_or(MAX_IN_FLIGHT as f64, |it| (it * AHEAD.as_secs_f64()).ceil());
    // From a float it is cut to what fits.
    (wanted as usize).clamp(MIN_IN_PROGRESS, MAX_IN_FLIGHT)
}

/// Every directory that credentials are delivered into, once.
pub(super) fn directories(config: &Config) -> Vec<PathBuf> {
    let directory = |it: &crate::config::Product| match &it.deliver {
        Deliver::Fixture => None,
        Deliver::Directory(directory) => Some(directory.clone()),
    };
    let mut directories: Vec<PathBuf> = config.products.values().filter_map(directory).collect();
    directories.sort();
    directories.dedup();
    directories
}

fn fixture_port(fixture: &crate::config::Fixture, messages: &Arc<Messages>) -> FixturePort {
    let scanner = match &fixture.driver {
        Driver::Sfp => None,
        Driver::Scanner(options) => {
            // Its numbers begin anew at each start: so this one has to be another each time.
            let boot = fastrand::u64(1..=MAX_ID);
            let waits = (fixture.resend, fixture.patience);
            let scanner = Scanner::new(fixture.name.clone(), waits, (**options).clone(), boot);
            Some(Box::new(scanner.saying(messages.clone())))
        }
    };
    FixturePort { options: port_options(fixture), scanner }
}

fn port_options(fixture: &crate::config::Fixture) -> PortOptions {
    PortOptions { place: fixture.port.clone(), baud: fixture.baud, dtr: fixture.dtr, rts: fixture.rts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::authority::make_root;

    fn seconds(now: Timestamp, by: i64) -> Timestamp {
        now.checked_add(jiff::SignedDuration::from_secs(by)).unwrap()
    }

    /// The token that this names is nowhere.
    fn in_a_token(ca_certificate: PathBuf, pin: PathBuf) -> Pki {
        let uri = Box::new("pkcs11:token=Line3;object=ca".parse().unwrap());
        let (module, pin) = (PathBuf::from("/none.so"), SecretRef::Path(pin));
        Pki { ca_certificate, ca_key: CaKeyRef::Token { uri, module, pin }, previous: None }
    }

    #[test]
    fn a_station_whose_token_is_not_there_yet_is_started_again_and_with_a_refused_pin_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, pin) = (dir.path().join("ca.pem"), dir.path().join("pin"));
        let now = made_at();
        crate::durable_fs::create_new(
            &ca,
            0o644,
            make_root("Line 3", now).unwrap().certificate_pem.as_bytes(),
        )
        .unwrap();
        crate::durable_fs::create_new(&pin, 0o600, b"123456\n").unwrap();
        let error = load_ca(&in_a_token(ca, pin), now).err().unwrap();
        let said = Chain(&error).to_string();
        assert!(said.contains("tries again") && said.contains("/none.so cannot be loaded"), "{said}");
        assert_eq!(error.exit_status(), ExitStatus::Io);
        let refused = not_opened(CaError::Trial(IssueError::TokenPin("it is 6 digits".to_owned())));
        assert_eq!(refused.exit_status(), ExitStatus::Configuration, "the token would lock itself");
        let another = not_opened(CaError::Trial(IssueError::TokenKey("it is another key".to_owned())));
        assert_eq!(another.exit_status(), ExitStatus::Configuration, "nothing mends that but a person");
    }

    #[test]
    fn a_ca_that_is_not_valid_by_a_doubted_clock_only_is_waited_for() {
        let made = made_at();
        let root = make_root("Line 3", seconds(made, 86_400)).unwrap();
        let at = |now: Timestamp, sync: &ClockSync| {
            let source = crate::pki::issuer::read_chain(&root.certificate_pem, now).unwrap_err();
            assert!(matches!(source, CaError::NotValid { .. }), "{source}");
            by_the_clock(SetupError::Ca(source), now, sync)
        };
        let doubting = ClockSync::Unsynchronised("chronyd".to_owned());
        let centuries = seconds(made, 200 * 366 * 86_400);
        for (now, sync, waits) in [
            (seconds(made, -1), &ClockSync::Unsaid, true),
            (seconds(made, -1), &ClockSync::Synchronised, true),
            (made, &doubting, true),
            (made, &ClockSync::Unsaid, false),
            (centuries, &ClockSync::Synchronised, false),
        ] {
            let error = at(now, sync);
            let status = if waits { ExitStatus::Io } else { ExitStatus::Configuration };
            assert_eq!(error.exit_status(), status, "{now} {sync:?}");
            assert_eq!(error.to_string().contains("set the clock"), waits, "{error}");
        }
        let other = by_the_clock(SetupError::Ca(CaError::Key), seconds(made, -1), &doubting);
        assert_eq!(other.exit_status(), ExitStatus::Configuration);
    }
}

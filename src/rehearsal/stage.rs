//! The stage of a rehearsal: a directory with a CA, a policy and a configuration, and who
//! presents which serial numbers.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::cloud::{Audit, AuditScope, CertificateScope, LockerScope, Names, PolicyScope, SimulatedCloud};
use super::fixture::FixtureReport;
use super::report::Report;
use super::{Faults, Options, empty_dir};
use crate::cloud::Quotas;
use crate::config::{CaKeyRef, Config, ConfigErrors, Driver, Files, Pki, SecretRef, SystemFiles, serials};
use crate::device::rules::{Filling, LockerRule, PolicyRule, ProductRules, Register, Verify};
use crate::device::serial::{Mac, SerialNumber};
use crate::durable_fs::{FileError, create_new};
use crate::line::Deliver;
use crate::pki::IssueError;
use crate::pki::authority::make_root;

/// The built-in product's policy: what it may do follows from the thing that it is attached to.
const POLICY: &str = include_str!("../../config/policies/thermostat.json");

/// Why the stage cannot be set.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum StageError {
    #[error("failed to use the directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("failed to read the configuration file {}; name the file with --config", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("failed to write a file of the rehearsal")]
    File(#[from] FileError),
    #[error("failed to make the rehearsal's CA")]
    Ca(#[from] IssueError),
    #[error("the configuration is wrong:\n{0}")]
    Config(ConfigErrors),
    #[error("{0}")]
    Unfit(String),
}

/// A directory in which a rehearsal is held.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
    keep: bool,
    /// Removes the directory at the end, unless it is kept.
    _temporary: Option<tempfile::TempDir>,
}

impl Stage {
    pub(super) fn set(options: &Options, now: Timestamp) -> Result<Self, StageError> {
        let (dir, temporary) = match &options.keep {
            Some(dir) => {
                empty_dir(dir).map_err(|source| StageError::Directory { path: dir.clone(), source })?;
                let dir = std::path::absolute(dir)
                    .map_err(|source| StageError::Directory { path: dir.clone(), source })?;
                (dir, None)
            }
            None => {
                let made = tempfile::Builder::new().prefix("linemint-").tempdir();
                let made =
                    made.map_err(|source| StageError::Directory { path: std::env::temp_dir(), source })?;
                (made.path().to_owned(), Some(made))
            }
        };
        let ca = make_root("linemint rehearsal CA", now)?;
        create_new(&dir.join("ca.key"), 0o600, ca.key_pem.as_bytes())?;
        create_new(&dir.join("ca.pem"), 0o644, ca.certificate_pem.as_bytes())?;
        create_new(&dir.join("policy.json"), 0o644, POLICY.as_bytes())?;
        Ok(Self { dir, keep: options.keep.is_some(), _temporary: temporary })
    }

    /// The configuration: the built-in one, or the given one with its surroundings replaced.
    pub(super) fn config(&self, options: &Options, cloud: &SimulatedCloud) -> Result<Config, StageError> {
        let url = &cloud.url();
        let path = self.dir.join("linemint.toml");
        let Some(given) = &options.config else {
            let text = built_in(options, url);
            create_new(&path, 0o644, text.as_bytes())?;
            return Config::load(&path).map_err(StageError::Config);
        };
        let text = std::fs::read_to_string(given)
            .map_err(|source| StageError::Unreadable { path: given.clone(), source })?;
        let files = StandIns { ca: self.dir.join("ca.pem") };
        let mut config = Config::parse(&text, given, &files).map_err(StageError::Config)?;
        create_new(&path, 0o644, text.as_bytes())?;
        config.journal.dir = self.dir.join("journal");
        config.journal.seal_key = SecretRef::Path(self.dir.join("seal.key"));
        config.api.socket = self.dir.join("api.sock");
        config.aws.iot_endpoint = Some(url.to_owned());
        config.aws.managed_integrations_endpoint = Some(url.to_owned());
        config.aws.account = None;
        config.aws.ca_bundle = None;
        config.aws.quotas = options.quotas.clone();
        config.pki = config.pki.map(|_| Pki {
            ca_certificate: self.dir.join("ca.pem"),
            ca_key: CaKeyRef::Secret(SecretRef::Path(self.dir.join("ca.key"))),
            previous: None,
        });
        for product in config.products.values_mut() {
            // There are no work orders in a rehearsal.
            let rules = Arc::make_mut(&mut product.rules);
            rules.require_batch = false;
            if rules.verify == Verify::Tls {
                // Not the account's own endpoint, which knows nothing of this.
                rules.endpoint = cloud.data_endpoint();
                rules.roots = Some(cloud.data_roots().to_owned());
            }
        }
        for (number, fixture) in config.fixtures.iter_mut().enumerate() {
            fixture.port = self.dir.join(format!("fixture-{number}")).into();
            // What is simulated here speaks the protocol and stores what it gets.
            fixture.driver = Driver::Sfp;
        }
        config.products.values_mut().for_each(|it| it.deliver = Deliver::Fixture);
        Ok(config)
    }

    /// Leaves what came of the rehearsal in a directory that is kept; the station's own report lies beside it.
    pub(super) fn keep(&self, report: &Report) -> Result<(), StageError> {
        if self.keep {
            create_new(&self.dir.join("rehearsal.txt"), 0o644, report.to_string().as_bytes())?;
            create_new(&self.dir.join("rehearsal.json"), 0o644, report.to_json().as_bytes())?;
        }
        Ok(())
    }
}

/// Deals the serial numbers to the fixtures, each fitting its fixture's product.
pub(super) fn deal(config: &Config, options: &Options) -> Result<Vec<Vec<String>>, StageError> {
    let fixtures = config.fixtures.len();
    let mut dealt = Vec::with_capacity(fixtures);
    let mut seen = std::collections::HashSet::new();
    for (number, fixture) in config.fixtures.iter().enumerate() {
        let count = options.devices / fixtures + usize::from(number < options.devices % fixtures);
        let product = &config.products[&fixture.product];
        let made = serials::matching(&product.pattern_text, count, options.seed ^ number as u64, &mut seen);
        let made = made.ok_or_else(|| {
            StageError::Unfit(format!(
                "the serial pattern of product {} does not allow {count} different serial numbers",
                fixture.product
            ))
        })?;
        dealt.push(made);
    }
    Ok(dealt)
}

/// Puts into the account what has to be there before a station starts: its CA where certificates are
/// registered with it, and policies that products only name.
pub(super) fn furnish(cloud: &SimulatedCloud, config: &Config) -> Result<(), StageError> {
    let unfit = |what: &str, why: String| StageError::Unfit(format!("{what} cannot be rehearsed: {why}"));
    let rules = || config.products.values().map(|it| &it.rules);
    if let Some(pki) = &config.pki
        && rules().any(|it| it.certificate.register == Register::WithCa)
    {
        let path = &pki.ca_certificate;
        let pem = std::fs::read_to_string(path)
            .map_err(|source| StageError::Directory { path: path.clone(), source })?;
        cloud.place_ca(&pem).map_err(|why| unfit("the CA", why))?;
    }
    let given: BTreeSet<_> = rules()
        .filter_map(|it| match &it.policy {
            PolicyRule::Given { name } => Some(name),
            _ => None,
        })
        .collect();
    for name in given {
        cloud.place_policy(name, POLICY).map_err(|why| unfit(&format!("the policy {name}"), why))?;
    }
    Ok(())
}

/// Has the account audited, product by product. Where several products share the account only
/// the first audit can tell orphans, so there is one for all products of the same scope.
pub(super) fn audit(
    cloud: &SimulatedCloud,
    config: &Config,
    serials: &[Vec<String>],
    reports: &[FixtureReport],
) -> Vec<Audit> {
    let mut scopes: Vec<(AuditScope, Vec<Names>)> = Vec::new();
    for ((fixture, serials), report) in config.fixtures.iter().zip(serials).zip(reports) {
        let rules = &config.products[&fixture.product].rules;
        let named = serials.iter().map(|it| names(config, rules, it, report.macs.get(it)));
        let scope = scope(rules);
        match scopes.iter_mut().find(|(it, _)| *it == scope) {
            Some((_, all)) => all.extend(named),
            None => scopes.push((scope, named.collect())),
        }
    }
    scopes.into_iter().map(|(scope, devices)| cloud.audit_named(&devices, scope)).collect()
}

/// What the station calls a device's things.
fn names(config: &Config, rules: &ProductRules, serial: &str, mac: Option<&String>) -> Names {
    let plain = Names::from(serial);
    let Ok(parsed) = SerialNumber::parse(serial) else { return plain };
    let mac = mac.and_then(|it| Mac::parse(it).ok());
    let with = Filling {
        serial: &parsed,
        mac: mac.as_ref(),
        batch: None,
        station: &config.station.id,
        product: &rules.product,
    };
    Names {
        thing: rules.thing.fill(&with),
        policy: match &rules.policy {
            PolicyRule::Device { name, .. } => name.fill(&with),
            _ => plain.policy,
        },
        locker: match &rules.locker {
            LockerRule::Device { name, .. } => name.fill(&with),
            _ => plain.locker,
        },
        subject: rules.certificate.common_name.fill(&with),
        serial: plain.serial,
    }
}

fn scope(rules: &ProductRules) -> AuditScope {
    AuditScope {
        locker: match rules.locker {
            LockerRule::Device { .. } => LockerScope::Device,
            LockerRule::Batch { .. } | LockerRule::Given { .. } | LockerRule::None => LockerScope::None,
        },
        policy: match rules.policy {
            PolicyRule::Device { .. } => PolicyScope::Device,
            PolicyRule::Product { .. } | PolicyRule::Given { .. } => PolicyScope::Shared,
            PolicyRule::None => PolicyScope::None,
        },
        certificate: match rules.certificate.register {
            Register::Jitp => CertificateScope::Jitp,
            Register::WithoutCa | Register::WithCa | Register::Aws => CertificateScope::Cloud,
        },
    }
}

fn built_in(options: &Options, url: &str) -> String {
    // With faults some calls hang until they are given up: a rehearsal should not wait as long as
    // a real station does.
    let (call_timeout, resend) = match options.faults {
        Faults::None => ("10s", "2s"),
        Faults::Mild | Faults::Hard => ("1s", "300ms"),
    };
    format!(
        r#"# The configuration of a rehearsal. Everything around the station is simulated.
[station]
id = "REHEARSAL"

[journal]
dir = "journal"
min_free = "16MiB"

[api]
socket = "api.sock"

[aws]
region = "eu-west-1"
iot_endpoint = "{url}"
managed_integrations_endpoint = "{url}"
call_timeout = "{call_timeout}"

[aws.quota]
{quotas}
[pki]
ca_certificate = "ca.pem"
ca_key = "ca.key"

[[fixture]]
name = "nest-1"
port = "fixture-0"
product = "thermostat"
resend = "{resend}"
answer_within = "10s"

[product.thermostat]
serial = "^[A-Z0-9]{{12}}$"
policy = {{ scope = "device", name = "{{serial}}", document = "policy.json" }}
certificate = {{ issuer = "station", key = "station", days = 3650 }}
endpoint = "simulated-ats.iot.eu-west-1.amazonaws.com"
"#,
        quotas = quota_lines(&options.quotas)
    )
}

/// The quotas as lines of the configuration.
fn quota_lines(quotas: &Quotas) -> String {
    use std::fmt::Write as _;
    if *quotas == Quotas::aws_default() {
        return "preset = \"aws-default\"\n".to_owned();
    }
    let mut lines = "preset = \"unlimited\"\n".to_owned();
    for (operation, rate) in &quotas.rates {
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{} = {rate:?}", operation.kebab());
    }
    if let Some(rate) = quotas.device_certificates {
        let _ = writeln!(lines, "device-certificates = {rate:?}");
    }
    lines
}

/// The files beside a configuration that is rehearsed; a CA that is not on this machine, or that only the daemon's
/// user may read, is stood in for: it is replaced anyway.
struct StandIns {
    ca: PathBuf,
}

impl Files for StandIns {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        match SystemFiles.read(path, limit) {
            Err(error) if is_away(&error) && is_certificate(path) => SystemFiles.read(&self.ca, limit),
            other => other,
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        // Keys and ports are replaced anyway.
        let _ = path;
        Ok(true)
    }
}

fn is_away(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

fn is_certificate(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "pem" || it == "crt")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_ca_that_only_the_daemons_user_may_read_is_stood_in_for_and_a_policy_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        create_new(&path("stand-in.pem"), 0o644, b"stand-in").unwrap();
        std::fs::create_dir(path("ca")).unwrap();
        std::fs::set_permissions(path("ca"), std::fs::Permissions::from_mode(0o000)).unwrap();
        let files = StandIns { ca: path("stand-in.pem") };
        // Root finds nothing there, and everybody else may not look.
        assert_eq!(files.read(&path("ca/ca.pem"), 100).unwrap(), b"stand-in");
        assert!(files.read(&path("ca/policy.json"), 100).is_err());
        assert!(is_away(&io::ErrorKind::PermissionDenied.into()), "what root cannot be shown");
        assert!(!is_away(&io::ErrorKind::FileTooLarge.into()));
    }
}

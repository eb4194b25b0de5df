//! `linemint ca register` and `ca show`: the station's CA, and what the account knows of it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::told;
use crate::cli::text::plain;
use crate::cloud::aws::{AwsCloud, AwsSetupError, CaMode, CaRegistration, RegisteredCa};
use crate::cloud::{CloudError, FailureKind};
use crate::config::{Config, DEFAULT_PATH, NoCredential, Pki};
use crate::durable_fs;
use crate::error::{Chain, ExitStatus};
use crate::pki::issuer::CaError;
use crate::pki::summary::{CaSummary, read_authority};
use crate::pki::{Fingerprint, IssueError, LeafKey, LeafRequest, to_pem};
use crate::station::setup::{self, SetupError};

/// Longest file of certificates that is read.
const MAX_CERTIFICATE: u64 = 1 << 20;

/// Registering the CA.
#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// The configuration file
    #[arg(long, value_name = "F", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// DEFAULT: one account of a Region has the CA, and it proves that it holds the key. SNI_ONLY: several
    /// accounts may have it, and devices name their server
    #[arg(long, value_name = "MODE", default_value = "DEFAULT")]
    pub mode: Mode,
    /// The provisioning template by which devices are registered at their first connection (register =
    /// "jitp")
    #[arg(long, value_name = "NAME")]
    pub jitp_template: Option<String>,
}

/// AWS's words for the mode of a CA.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Mode {
    /// One account, with proof of the key.
    #[value(name = "DEFAULT", alias = "default")]
    Default,
    /// Several accounts.
    #[value(name = "SNI_ONLY", alias = "sni_only")]
    SniOnly,
}

/// Looking at the CA.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The configuration file
    #[arg(long, value_name = "F", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Do not ask AWS whether it knows the CA
    #[arg(long)]
    pub offline: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Config(crate::config::ConfigErrors),
    #[error(
        "the configuration has no [pki]: AWS issues the certificates, and there is no CA of the station's"
    )]
    NoCa,
    #[error("the CA cannot be used")]
    Setup(#[source] SetupError),
    #[error(
        "the CA's key is the credential {name:?}, which systemd hands to the service alone, and mode DEFAULT wants proof of the \
         key: set CREDENTIALS_DIRECTORY to the directory in which the key lies under that name, have systemd hand it to this \
         command too (`systemd-run --pipe -p LoadCredential={name}:PATH linemint ca register`), or use --mode SNI_ONLY"
    )]
    NotHandedOver { name: String },
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot issue", path.display())]
    Unfit { path: PathBuf, source: CaError },
    #[error("AWS cannot be set up")]
    Aws(#[source] AwsSetupError),
    #[error("failed to certify AWS's registration code")]
    Certify(#[source] IssueError),
    #[error("AWS did not do it")]
    Cloud(#[source] CloudError),
    #[error(
        "the CA is registered already, in mode {found}, and AWS does not change the mode of a registered CA: \
         go on with it, or delete the registration with the AWS command line first"
    )]
    OtherMode { found: String },
    #[error(
        "the CA is registered already, and AWS registers no device of it at its first connection: set the template with \
         `aws iot update-ca-certificate --certificate-id {id} --new-auto-registration-status ENABLE \
         --registration-config templateName={template}`"
    )]
    NoTemplate { id: Fingerprint, template: String },
    #[error("AWS has registered the CA, but does not show it as active; ask again with `linemint ca show`")]
    NotActive,
}

impl Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Config(_) | Self::NoCa | Self::NotHandedOver { .. } | Self::Unfit { .. } | Self::Aws(_) => {
                ExitStatus::Configuration
            }
            Self::Setup(error) => error.exit_status(),
            Self::Read { .. } => ExitStatus::Io,
            Self::Cloud(CloudError { kind: FailureKind::Stop(_), .. }) => ExitStatus::NotPermitted,
            Self::Certify(_) => ExitStatus::Bug,
            Self::Cloud(_) | Self::OtherMode { .. } | Self::NoTemplate { .. } | Self::NotActive => {
                ExitStatus::Bad
            }
        }
    }
}

/// Runs `ca register`.
pub(super) async fn register(args: &RegisterArgs, now: Timestamp) -> ExitStatus {
    match registered(args, now).await {
        Ok((subject, ca, was)) => {
            let mut out = io::stdout().lock();
            let said = writeln!(out, "{}: {was}, active, mode {}, {}", plain(&subject), ca.mode, ca.arn);
            if said.and_then(|()| out.flush()).is_ok() { ExitStatus::Done } else { ExitStatus::Io }
        }
        Err(error) => told(&error, error.exit_status()),
    }
}

/// Repeatable: what is registered is found, what sleeps is woken.
async fn registered(
    args: &RegisterArgs,
    now: Timestamp,
) -> Result<(String, RegisteredCa, &'static str), Error> {
    let config = Config::load(&args.config).map_err(Error::Config)?;
    let pki = config.pki.as_ref().ok_or(Error::NoCa)?;
    let ca = read(&pki.ca_certificate, now)?;
    let aws = AwsCloud::connect(setup::aws_options(&config.aws)).await.map_err(Error::Aws)?;
    let mode = match args.mode {
        Mode::Default => CaMode::Default,
        Mode::SniOnly => CaMode::SniOnly,
    };
    let (id, subject) = (ca.fingerprint, ca.subject.clone());
    // What was registered before, by whomever, has the template that it was registered with.
    let templated = |found: RegisteredCa| match &args.jitp_template {
        Some(template) if !found.auto_registration => {
            Err(Error::NoTemplate { id, template: template.clone() })
        }
        _ => Ok(found),
    };
    let was = match aws.describe_ca(&id).await.map_err(Error::Cloud)? {
        Some(found) if found.mode != mode.as_str() => return Err(Error::OtherMode { found: found.mode }),
        Some(found) if found.active => return Ok((subject, templated(found)?, "was registered before")),
        Some(_) => {
            aws.activate_ca(&id).await.map_err(Error::Cloud)?;
            "was registered before and is woken"
        }
        None => {
            let verification = match mode {
                CaMode::SniOnly => None,
                CaMode::Default => Some(verification(pki, &aws, now).await?),
            };
            let (ca_pem, jitp_template) = (ca.pem.as_str(), args.jitp_template.as_deref());
            let it =
                CaRegistration { ca_pem, verification_pem: verification.as_deref(), mode, jitp_template };
            match aws.register_ca(&it).await {
                // Another station of this CA was quicker, or an earlier answer was lost.
                Err(error) if error.kind != FailureKind::Exists => return Err(Error::Cloud(error)),
                _ => "registered",
            }
        }
    };
    // What AWS says of it counts, not that it took the call.
    match aws.describe_ca(&id).await.map_err(Error::Cloud)? {
        Some(found) if found.active => Ok((subject, templated(found)?, was)),
        _ => Err(Error::NotActive),
    }
}

/// The CA's signature under AWS's registration code, PEM: the one thing here that needs the CA's key.
async fn verification(pki: &Pki, aws: &AwsCloud, now: Timestamp) -> Result<String, Error> {
    let issuer = setup::load_ca(pki, now).map_err(|error| match error {
        SetupError::Credential(NoCredential { name }) => Error::NotHandedOver { name },
        error => Error::Setup(error),
    })?;
    let code = aws.registration_code().await.map_err(Error::Cloud)?;
    // A leaf like any other, whose private key nobody keeps.
    let request = LeafRequest { common_name: code, days: 1, key: LeafKey::Station };
    let leaf = issuer.issuer.issue(&request, now).map_err(Error::Certify)?;
    Ok(to_pem("CERTIFICATE", &leaf.der).to_string())
}

/// What is shown of a CA.
struct Shown {
    role: &'static str,
    /// Or why it is of no use: an old one that is not keeps nobody from looking at the other.
    known: Result<Known, String>,
}

struct Known {
    summary: CaSummary,
    /// None if AWS was not asked; else what it knows, or why that is not known.
    registered: Option<Result<Option<RegisteredCa>, String>>,
}

/// Runs `ca show`. What AWS knows is beside the point if it cannot be asked.
pub(super) async fn show(args: &ShowArgs, now: Timestamp) -> ExitStatus {
    match shown(args, now).await {
        Ok(all) => {
            let out = &mut io::stdout().lock();
            let said = if args.json { print_json(&all, now, out) } else { print_text(&all, now, out) };
            if said.and_then(|()| out.flush()).is_ok() { ExitStatus::Done } else { ExitStatus::Io }
        }
        Err(error) => told(&error, error.exit_status()),
    }
}

async fn shown(args: &ShowArgs, now: Timestamp) -> Result<Vec<Shown>, Error> {
    let config = Config::load(&args.config).map_err(Error::Config)?;
    let pki = config.pki.as_ref().ok_or(Error::NoCa)?;
    let aws = match args.offline {
        true => None,
        false => Some(AwsCloud::connect(setup::aws_options(&config.aws)).await.map_err(Error::Aws)?),
    };
    let issuing = known(read(&pki.ca_certificate, now)?, aws.as_ref()).await;
    let mut all = vec![Shown { role: "issuing", known: Ok(issuing) }];
    if let Some(path) = &pki.previous {
        let known = match read(path, now) {
            Ok(summary) => Ok(known(summary, aws.as_ref()).await),
            Err(error) => Err(Chain(&error).to_string()),
        };
        all.push(Shown { role: "previous", known });
    }
    Ok(all)
}

fn read(path: &Path, now: Timestamp) -> Result<CaSummary, Error> {
    let pem = durable_fs::read_regular_text(path, MAX_CERTIFICATE)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    read_authority(&pem, now).map_err(|source| Error::Unfit { path: path.to_owned(), source })
}

async fn known(summary: CaSummary, aws: Option<&AwsCloud>) -> Known {
    let registered = match aws {
        Some(aws) => Some(aws.describe_ca(&summary.fingerprint).await.map_err(|it| Chain(&it).to_string())),
        None => None,
    };
    Known { summary, registered }
}

fn days_left(it: &CaSummary, now: Timestamp) -> i64 {
    it.end.at.duration_since(now).as_hours() / 24
}

fn print_text(all: &[Shown], now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    for (number, Shown { role, known }) in all.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        let Known { summary: it, registered } = match known {
            Ok(it) => it,
            Err(why) => {
                writeln!(out, "{role:<12} of no use: {}", plain(why))?;
                continue;
            }
        };
        let length = it.path_length.map_or_else(|| "any".to_owned(), |it| it.to_string());
        writeln!(out, "{role:<12} {}", plain(&it.subject))?;
        writeln!(out, "issuer       {}", plain(&it.issuer))?;
        writeln!(out, "key          {}, id {}", it.key, it.key_id.as_deref().unwrap_or("none"))?;
        writeln!(out, "valid        {} to {}", it.not_before.strftime("%F"), it.not_after.strftime("%F"))?;
        writeln!(out, "left         {} days", days_left(it, now))?;
        if let Some(above) = &it.end.above {
            writeln!(out, "ends with    {}, on {}", plain(above), it.end.at.strftime("%F"))?;
        }
        writeln!(out, "path length  {length}")?;
        writeln!(
            out,
            "names        {}",
            if it.name_constraints { "constrained" } else { "not constrained" }
        )?;
        writeln!(out, "file         {} certificates", it.certificates)?;
        writeln!(out, "sha-256      {}", it.fingerprint)?;
        match registered {
            None => {}
            Some(Ok(None)) => writeln!(out, "AWS          not registered")?,
            Some(Ok(Some(ca))) => {
                let state = if ca.active { "active" } else { "NOT active" };
                let first = if ca.auto_registration { ", the first connection registers" } else { "" };
                writeln!(out, "AWS          registered, {state}, mode {}{first}", plain(&ca.mode))?;
            }
            Some(Err(why)) => writeln!(out, "AWS          could not be asked: {}", plain(why))?,
        }
    }
    Ok(())
}

fn print_json(all: &[Shown], now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let shown = |Shown { role, known }: &Shown| {
        let Known { summary: it, registered } = match known {
            Ok(it) => it,
            Err(why) => return json!({ "role": role, "message": why }),
        };
        let aws: Value = match registered {
            None => Value::Null,
            Some(Ok(None)) => json!({ "registered": false }),
            Some(Ok(Some(ca))) => json!({
                "registered": true,
                "arn": ca.arn,
                "active": ca.active,
                "mode": ca.mode,
                "auto_registration": ca.auto_registration,
            }),
            Some(Err(why)) => json!({ "registered": null, "message": why }),
        };
        json!({
            "role": role,
            "subject": it.subject,
            "issuer": it.issuer,
            "serial_number": it.serial_number,
            "sha256": it.fingerprint,
            "key": it.key,
            "key_id": it.key_id,
            "path_length": it.path_length,
            "name_constraints": it.name_constraints,
            "not_before": it.not_before,
            "not_after": it.not_after,
            "days_left": days_left(it, now),
            "ends_with": it.end.above,
            "certificates": it.certificates,
            "aws": aws,
        })
    };
    writeln!(out, "{:#}", json!({ "cas": all.iter().map(shown).collect::<Vec<_>>() }))
}

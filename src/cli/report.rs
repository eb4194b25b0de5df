//! `linemint report`: the report of a shift, a time or a batch; verifying and merging reports.

mod merge;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::daemon::{CommandError, DaemonArgs, ended, tell};
use crate::control::REPORT_BALANCE;
use crate::control::client::{Client, ClientError, encoded};
use crate::durable_fs::sync_dir;
use crate::error::{Chain, ExitStatus};
use crate::report::sign::{Untrue, Verified, verify};
use crate::shift::moment::Moment;

/// Longest report or key that is read, bytes: a report names 200,000 serial numbers at most.
const MAX_FILE: u64 = 16 << 20;

/// The report of a shift, a time or a batch: the present shift if nothing is said. Exit status 0 if its balance
/// closes, 1 if not, 4 if there is none, as of a batch that nobody knows.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ReportArgs {
    #[command(subcommand)]
    command: Option<ReportCommand>,

    /// A shift: 2026-11-22/early, current, or last for the one that ended last
    #[arg(long, value_name = "D/NAME", conflicts_with_all = ["batch", "since", "until"])]
    pub shift: Option<String>,

    /// A batch
    #[arg(long, value_name = "ID", conflicts_with_all = ["since", "until"])]
    pub batch: Option<String>,

    /// Devices first presented from then on: RFC 3339, or the station's own clock as 2026-11-22T06:00
    #[arg(long, value_name = "T")]
    pub since: Option<Moment>,

    /// With --since: devices first presented before then; now if it is not given
    #[arg(long, value_name = "T", requires = "since")]
    pub until: Option<Moment>,

    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    pub format: FormatArg,

    /// Writes it there instead of to stdout: all of it or nothing
    #[arg(long, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// Makes it a correction of this earlier report (JSON), which it names
    #[arg(long, value_name = "FILE")]
    pub corrects: Option<PathBuf>,

    /// Holds it against what the account really has first, and says in it what differs; exit status 1 then
    #[arg(long)]
    pub reconcile: bool,

    /// Verifies the signature of a report (JSON) instead; needs no daemon
    #[arg(long, value_name = "FILE", conflicts_with_all = ["shift", "batch", "since", "until", "output", "corrects"])]
    pub verify: Option<PathBuf>,

    /// With --verify: the station's public key (report.pub); else the report's own is taken
    #[arg(long, value_name = "PUB", requires = "verify")]
    pub key: Option<PathBuf>,

    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

#[derive(Debug, Subcommand)]
enum ReportCommand {
    Merge(merge::MergeArgs),
}

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// For the terminal.
    #[default]
    Text,
    /// One signed JSON document.
    Json,
    /// A line for each device.
    Csv,
    /// One page for the board and for A4.
    Html,
}

impl FormatArg {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Html => "html",
        }
    }
}

/// Why a file of a report is of no use.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} cannot be trusted", path.display())]
    Untrue { path: PathBuf, source: Untrue },
    #[error("{0}")]
    Unfit(String),
    #[error("failed to write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("failed to write")]
    Output(#[from] io::Error),
}

impl FileError {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ExitStatus::NotPermitted
            }
            Self::Read { .. } | Self::Unwritable { .. } | Self::Output(_) => ExitStatus::Io,
            Self::Untrue { .. } => ExitStatus::Bad,
            Self::Unfit(_) => ExitStatus::Usage,
        }
    }
}

/// Runs the command.
pub async fn run(args: ReportArgs) -> ExitStatus {
    let mut out = io::stdout();
    if let Some(ReportCommand::Merge(args)) = &args.command {
        return told(merge::run(args, &mut out), &mut io::stderr());
    }
    if let Some(path) = &args.verify {
        return told(show_verified(path, args.key.as_deref(), &mut out), &mut io::stderr());
    }
    let corrects = match args.corrects.as_deref().map(|it| verified(it, &[])).transpose() {
        Ok(old) => old,
        Err(error) => return told(Err(error), &mut io::stderr()),
    };
    let mut err = io::stderr();
    let result = match &args.output {
        Some(path) => to_file(&args, corrects.as_ref(), path, &mut err).await,
        None => show(&args, corrects.as_ref(), &mut out, &mut err).await,
    };
    finished(result, &mut err)
}

/// As every command ends; but 1 is the status of a report that does not balance, so that what there is no report
/// of is a refusal like any other.
fn finished(result: Result<ExitStatus, CommandError>, err: &mut impl Write) -> ExitStatus {
    let unknown = matches!(&result, Err(CommandError::Daemon(ClientError::Refused(it))) if it.status == 404);
    let status = ended(result, err);
    if unknown { ExitStatus::Refused } else { status }
}

fn told(result: Result<ExitStatus, FileError>, err: &mut impl Write) -> ExitStatus {
    match result {
        Ok(status) => status,
        Err(FileError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitStatus::Done,
        Err(error) => {
            // Where stderr is gone too, the exit status still says it.
            let _ = writeln!(err, "error: {}", super::text::plain(&Chain(&error).to_string()));
            error.exit_status()
        }
    }
}

/// What to ask the daemon for, with the shift by that name.
fn target(args: &ReportArgs, shift: Option<&str>, corrects: Option<&Verified>) -> String {
    let mut target = format!("/v1/report?format={}", args.format.as_str());
    let version = corrects.map(|it| (it.report.version + 1).to_string());
    let (since, until) = (args.since.map(String::from), args.until.map(String::from));
    for (name, value) in [
        ("shift", shift),
        ("batch", args.batch.as_deref()),
        ("since", since.as_deref()),
        ("until", until.as_deref()),
        ("corrects", corrects.map(|it| it.hash.as_str())),
        ("version", version.as_deref()),
    ] {
        if let Some(value) = value {
            target.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    target
}

async fn show(
    args: &ReportArgs,
    corrects: Option<&Verified>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<ExitStatus, CommandError> {
    let client = args.daemon.client()?;
    let corrected = match corrects {
        Some(old) => corrected_shift(&client, args, old).await?,
        None => None,
    };
    if !args.reconcile {
        let shift = corrected.as_deref().or(args.shift.as_deref());
        return written(&client, &target(args, shift, corrects), out).await;
    }
    // A look takes minutes, in which a shift may end: what it is called now is what the report is asked for.
    let shift = match corrected {
        Some(name) => Some(name),
        None => full_name(&client, args).await?,
    };
    let selection = (shift.as_deref(), args.batch.as_deref(), args.since, args.until);
    let looked = super::reconcile::before_a_report(&args.daemon, selection, err).await;
    let target = target(args, shift.as_deref(), corrects);
    // If the account could not be looked at there is the report all the same, and the exit status says it.
    let why_not = match looked {
        Ok(looked @ (ExitStatus::Done | ExitStatus::Bad)) => {
            match written(&client, &(target.clone() + "&reconciled=true"), out).await {
                Ok(status) => return Ok(if looked == ExitStatus::Done { status } else { looked }),
                // Somebody else has looked at other devices meanwhile.
                Err(CommandError::Daemon(ClientError::Refused(why))) if why.status == 409 => {
                    Some(ClientError::Refused(why))
                }
                Err(error) => return Err(error),
            }
        }
        // It has said why itself.
        Ok(ExitStatus::Refused) => None,
        Ok(_) => Some(ClientError::Ended { path: client.path().to_owned() }),
        Err(CommandError::Daemon(error)) if is_there(&error) => Some(error),
        Err(error) => return Err(error),
    };
    if let Some(error) = why_not {
        tell(&error.into(), err)?;
    }
    written(&client, &target, out).await?;
    Ok(ExitStatus::Refused)
}

/// Whether a daemon has answered, whatever came of it.
fn is_there(error: &ClientError) -> bool {
    !matches!(error, ClientError::Unreachable { .. } | ClientError::NotPermitted { .. })
}

/// Writes the report that the daemon has for `target`; whether it balances.
async fn written(client: &Client, target: &str, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let balance = client.download(target, REPORT_BALANCE, out).await??;
    out.flush()?;
    Ok(if balance.as_deref() == Some("closes") { ExitStatus::Done } else { ExitStatus::Bad })
}

/// What a report is called.
#[derive(Debug, serde::Deserialize)]
struct Named {
    name: String,
}

/// What a report would be about.
#[derive(Debug, serde::Deserialize)]
struct About {
    name: Option<String>,
    kind: String,
    station: String,
    begin: Option<Timestamp>,
    end: Option<Timestamp>,
}

/// The name of the shift that a correction is of, if it is of one.
///
/// # Errors
/// The report that is to be corrected is of something else, or another station's.
async fn corrected_shift(
    client: &Client,
    args: &ReportArgs,
    old: &Verified,
) -> Result<Option<String>, CommandError> {
    let asked = target(args, args.shift.as_deref(), None) + "&name=true";
    let now: About = client.get_json(&asked).await?;
    let (span, station) = (&old.report.selection, &old.report.station.id);
    let times = now.name.is_some() || (now.begin, now.end) == (Some(span.begin), Some(span.end));
    if (&now.kind, &now.name, &now.station) == (&span.kind, &span.name, station) && times {
        return Ok(now.name.filter(|_| span.kind == "shift"));
    }
    let of = match (now.name, now.begin, now.end) {
        (Some(name), ..) => format!("{} {name}", now.kind),
        (None, Some(begin), Some(end)) => format!("the time from {begin} to {end}"),
        (None, ..) => now.kind,
    };
    Err(CommandError::Usage(format!(
        "a correction is of what the report is of that it corrects: that one is of {}, station {station}; asked for is {of}, station {}",
        span.words(),
        now.station
    )))
}

/// The shift that is asked for by the name that it keeps: `2026-11-22/early` for `current`; none where a batch
/// or a time is asked for.
async fn full_name(client: &Client, args: &ReportArgs) -> Result<Option<String>, CommandError> {
    let wanted = match (&args.shift, &args.batch, &args.since) {
        (Some(shift), ..) => shift.as_str(),
        (None, None, None) => "current",
        _ => return Ok(None),
    };
    if !matches!(wanted, "current" | "last") {
        return Ok(Some(wanted.to_owned()));
    }
    let Named { name } = client.get_json(&format!("/v1/report?shift={wanted}&name=true")).await?;
    Ok(Some(name))
}

/// Into a file, which gets its name when all of it is on disk.
async fn to_file(
    args: &ReportArgs,
    corrects: Option<&Verified>,
    path: &Path,
    err: &mut impl Write,
) -> Result<ExitStatus, CommandError> {
    let failed = |source| CommandError::Unwritable { path: path.to_owned(), source };
    let mut draft = Draft::beside(path).map_err(failed)?;
    let status = match show(args, corrects, draft.file(), err).await {
        Err(CommandError::Output(source)) => return Err(failed(source)),
        shown => shown?,
    };
    draft.keep().map_err(failed)?;
    Ok(status)
}

/// A file without a name yet, beside the one that it is to be.
struct Draft<'a> {
    file: tempfile::NamedTempFile,
    path: &'a Path,
}

impl<'a> Draft<'a> {
    fn beside(path: &'a Path) -> io::Result<Self> {
        let dir = directory(path);
        // What is said of a temporary file's name helps nobody.
        let plain = |error: io::Error| match std::fs::metadata(dir) {
            Err(why) => why,
            Ok(_) => error.kind().into(),
        };
        Ok(Self { file: tempfile::NamedTempFile::new_in(dir).map_err(plain)?, path })
    }

    fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Gives it its name, for everybody to read, durably.
    fn keep(self) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        self.file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        self.file.as_file().sync_all()?;
        self.file.persist(self.path).map_err(|it| it.error)?;
        sync_dir(directory(self.path)).map_err(io::Error::other)
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn read(path: &Path) -> Result<String, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    io::Read::read_to_string(&mut io::Read::take(file, MAX_FILE + 1), &mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than a report")));
    }
    Ok(text)
}

/// A report whose signature holds.
/// A report that one of these keys has signed; its own if there are none.
fn verified(path: &Path, keys: &[&Path]) -> Result<Verified, FileError> {
    let text = read(path)?;
    let keys = keys.iter().map(|it| read(it)).collect::<Result<Vec<_>, _>>()?;
    verify(&text, &keys).map_err(|source| FileError::Untrue { path: path.to_owned(), source })
}

fn show_verified(path: &Path, key: Option<&Path>, out: &mut impl Write) -> Result<ExitStatus, FileError> {
    let it = verified(path, key.as_slice())?;
    let report = &it.report;
    let name = report.selection.name.as_deref().unwrap_or(&report.selection.kind);
    writeln!(out, "authentic      {} of station {}, version {}", name, report.station.id, report.version)?;
    writeln!(out, "balance        {}", report.balance.headline())?;
    writeln!(
        out,
        "journal        {}, head {} {}",
        report.journal.id, report.journal.head, report.journal.head_hash
    )?;
    writeln!(out, "report         sha-256 {}", it.hash)?;
    match key {
        Some(_) => writeln!(out, "key            {}", it.key)?,
        None => writeln!(
            out,
            "key            {}, the report's own: it shows that nothing was changed; by whom it was made shows --key report.pub",
            it.key
        )?,
    }
    out.flush()?;
    Ok(ExitStatus::Done)
}

#[cfg(test)]
mod tests;

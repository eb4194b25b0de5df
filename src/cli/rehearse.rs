//! `linemint rehearse`: the station in a simulated world.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::{Chain, ExitStatus};
use crate::rehearsal::cloud::{Account, read_quotas};
use crate::rehearsal::{self, Faults, LOG_FILE, Options, Progress, RehearsalError, StageError};
use crate::telemetry;

/// Runs the station against a simulated AWS and a simulated fixture: no account, no hardware, no
/// configuration needed. Exits with 0 only if every device passed and the simulated account holds
/// exactly what it should.
#[derive(Debug, Args)]
pub struct RehearseArgs {
    /// Devices in all
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub devices: u32,

    /// Nests of each fixture
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub nests: u16,

    /// Decides the serial numbers and what goes wrong
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,

    /// How much goes wrong
    #[arg(long, value_enum, default_value_t)]
    pub faults: FaultsArg,

    /// Round-trip time to add to every call, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 40, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub rtt: u64,

    /// The account's calls a second: aws-default, unlimited, or a file of lines such as `create-policy = 10` (docs/pace.md)
    #[arg(long, value_name = "aws-default|unlimited|F", default_value = "aws-default")]
    pub quota: String,

    /// A configuration to rehearse; AWS, ports, CA and journal in it are replaced
    #[arg(long, value_name = "F")]
    pub config: Option<PathBuf>,

    /// Leaves configuration, journal, log and report in this directory, which has to be empty
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,

    /// Prints the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// How much goes wrong in a simulation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FaultsArg {
    /// Nothing.
    #[default]
    None,
    /// A little.
    Mild,
    /// A lot.
    Hard,
}

/// Where the log goes: a file in the directory that is kept, else only errors are shown.
///
/// # Errors
/// The directory cannot be used.
fn start_log(keep: Option<&Path>) -> io::Result<()> {
    let Some(dir) = keep else {
        telemetry::start("error", None);
        return Ok(());
    };
    rehearsal::empty_dir(dir)?;
    telemetry::start("info", Some(File::create(dir.join(LOG_FILE))?));
    Ok(())
}

/// Runs the command.
pub async fn run(args: RehearseArgs) -> ExitStatus {
    if let Err(error) = start_log(args.keep.as_deref()) {
        return fail(&error, ExitStatus::Io);
    }
    let Account { quotas, throttling } = match read_quotas(&args.quota) {
        Ok(account) => account,
        Err(error) => return fail(&error, ExitStatus::Configuration),
    };
    let options = Options {
        devices: args.devices as usize,
        nests: usize::from(args.nests),
        seed: args.seed,
        faults: match args.faults {
            FaultsArg::None => Faults::None,
            FaultsArg::Mild => Faults::Mild,
            FaultsArg::Hard => Faults::Hard,
        },
        rtt: Duration::from_millis(args.rtt),
        quotas,
        throttling,
        config: args.config,
        keep: args.keep,
    };
    let bar = progress_bar(options.devices);
    let result = rehearsal::rehearse(&options, |it| show(&bar, it)).await;
    bar.finish_and_clear();
    match result {
        Ok(report) => {
            let text = if args.json { report.to_json() } else { report.to_string() };
            match io::stdout().lock().write_all(text.as_bytes()) {
                Ok(()) if report.ok => ExitStatus::Done,
                Ok(()) => ExitStatus::Bad,
                Err(error) => fail(&error, ExitStatus::Io),
            }
        }
        Err(error) => {
            let status = match &error {
                RehearsalError::Stage(
                    StageError::Config(_) | StageError::Unfit(_) | StageError::Unreadable { .. },
                ) => ExitStatus::Configuration,
                RehearsalError::Setup(error) => error.exit_status(),
                RehearsalError::Station(error) => error.exit_status(),
                _ => ExitStatus::Io,
            };
            fail(&error, status)
        }
    }
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar(devices: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(devices as u64), ProgressDrawTarget::hidden());
    }
    let bar = ProgressBar::new(devices as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} passed {msg} {per_sec} eta {eta}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_position(progress.passed as u64);
    if progress.failed > 0 {
        bar.set_message(format!("{} failed", progress.failed));
    }
}

fn fail(error: &(dyn std::error::Error + 'static), status: ExitStatus) -> ExitStatus {
    // Nobody is left to be told if stderr is gone.
    let _ = writeln!(io::stderr(), "error: {}", Chain(error));
    status
}

//! `linemint fixture`: what has to do with the serial line.

mod scanner;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::SignedDuration;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Chain, ExitStatus};
use crate::rehearsal::fixture::{FixtureFaults, FixtureOptions, FixtureReport, SimulatedFixture, serials};

/// Most units that one simulated fixture presents.
const MAX_UNITS: u64 = 1_000_000;

/// Lines of each list in the summary; `--json` has them all.
const MAX_LISTED: usize = 10;

/// What to do with a fixture.
#[derive(Debug, Subcommand)]
pub enum FixtureCommand {
    /// Be a fixture on a pseudo-terminal, for a station to talk to
    Simulate(SimulateArgs),
}

/// The simulated fixture that is asked for.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Make a link to the pseudo-terminal here, to name it in the station's configuration
    #[arg(long, value_name = "PATH")]
    pub link: Option<PathBuf>,
    /// Units in the fixture at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub nests: u16,
    /// Serial numbers of the units, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "count")]
    pub serials: Option<PathBuf>,
    /// Make up this many serial numbers
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=MAX_UNITS))]
    pub count: u64,
    /// What chance (serial numbers, faults) is drawn from
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// What goes wrong: on the cable, in the units, with the power
    #[arg(long, value_enum, default_value_t)]
    pub faults: Faults,
    /// The fixture's name, as configured at the station
    #[arg(long, default_value = "nest-1")]
    pub name: String,
    /// How long to wait for an answer before saying it again
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub resend: Duration,
    /// How long a unit takes to store its credentials
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub write_time: Duration,
    /// How long a nest stays empty between two units
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub think_time: Duration,
    /// Units make their own keys and bring a CSR
    #[arg(long)]
    pub device_key: bool,
    /// Units tell a MAC address
    #[arg(long)]
    pub mac: bool,
    /// Print JSON lines: the port, then the report
    #[arg(long)]
    pub json: bool,
    /// What else it may speak
    #[command(flatten)]
    pub scanner: scanner::ScannerArgs,
}

/// How much goes wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Faults {
    /// Nothing
    #[default]
    None,
    /// A bad day on a sound line
    Mild,
    /// A line that should be repaired
    Hard,
}

impl Faults {
    /// The same as probabilities.
    #[must_use]
    pub const fn probabilities(self) -> FixtureFaults {
        match self {
            Self::None => FixtureFaults::none(),
            Self::Mild => FixtureFaults::mild(),
            Self::Hard => FixtureFaults::hard(),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration =
        text.parse().map_err(|_| "give a number and a unit, such as 500ms or 2s".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "it cannot be negative".to_owned())
}

/// Runs the command to its end, or until SIGINT or SIGTERM.
pub async fn run(command: FixtureCommand) -> ExitStatus {
    let FixtureCommand::Simulate(args) = command;
    match simulate(args).await {
        Ok(status) => status,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", Chain(&error));
            ExitStatus::Io
        }
    }
}

/// What reading or writing failed.
#[derive(Debug, thiserror::Error)]
enum SimulateError {
    #[error("failed to read the serial numbers in {}", path.display())]
    Serials { path: PathBuf, source: io::Error },
    #[error("failed to start the simulated fixture")]
    Start(#[source] io::Error),
    #[error("the simulated scanner has lost its pty")]
    Pty(#[source] io::Error),
    #[error("failed to wait for signals")]
    Signals(#[source] io::Error),
    #[error("failed to write to standard output")]
    Output(#[source] io::Error),
}

async fn simulate(args: SimulateArgs) -> Result<ExitStatus, SimulateError> {
    if args.resend.is_zero() {
        let _ = writeln!(io::stderr(), "error: --resend has to be longer than nothing");
        return Ok(ExitStatus::Usage);
    }
    let serials = match &args.serials {
        None => serials(args.seed, usize::try_from(args.count).unwrap_or(usize::MAX)),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SimulateError::Serials { path: path.clone(), source })?;
            text.lines().map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
        }
    };
    if serials.is_empty() {
        let _ = writeln!(io::stderr(), "error: there is no serial number in the file");
        return Ok(ExitStatus::Usage);
    }
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SimulateError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(SimulateError::Signals)?;
    let json = args.json;
    if args.scanner.driver == scanner::Driver::Scanner {
        let end = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        return scanner::simulate(args, serials, end).await;
    }
    let fixture = SimulatedFixture::start(options(args, serials)).map_err(SimulateError::Start)?;
    announce(fixture.port(), json).map_err(SimulateError::Output)?;
    tokio::select! {
        () = fixture.wait_done() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let report = fixture.stop().await;
    print(&report, json).map_err(SimulateError::Output)?;
    Ok(if report.is_clean() { ExitStatus::Done } else { ExitStatus::Bad })
}

fn options(args: SimulateArgs, serials: Vec<String>) -> FixtureOptions {
    FixtureOptions {
        name: args.name,
        nests: usize::from(args.nests),
        station_key: !args.device_key,
        with_mac: args.mac,
        resend: args.resend,
        seed: args.seed,
        faults: args.faults.probabilities(),
        write_time: args.write_time,
        think_time: args.think_time,
        link: args.link,
        ..FixtureOptions::new(serials)
    }
}

/// Says where the port is, at once: whoever started this waits for it.
fn announce(port: &Path, json: bool) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let port = port.display();
    if json {
        writeln!(stdout, "{}", serde_json::json!({ "ready": port.to_string() }))?;
    } else {
        writeln!(stdout, "ready {port}")?;
    }
    stdout.flush()
}

fn print(report: &FixtureReport, json: bool) -> io::Result<()> {
    let text = if json { serde_json::to_string(report)? + "\n" } else { summary(report) };
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// The report for people.
fn summary(report: &FixtureReport) -> String {
    let mut text = format!(
        "passed      {} of {}, {} at the first attempt\n\
         failed      {}\n\
         unfinished  {}\n\
         latency     p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms\n\
         frames      {} sent, {} received, {} bad\n",
        report.passed,
        report.units,
        report.first_pass,
        report.failed.len(),
        report.unfinished,
        report.latency.p50_ms,
        report.latency.p99_ms,
        report.latency.max_ms,
        report.frames.sent,
        report.frames.received,
        report.frames.bad,
    );
    if report.resets > 0 {
        line(&mut text, "resets", &report.resets.to_string());
    }
    let failed: Vec<_> = report.failed.iter().map(|it| format!("{} {}", it.serial, it.code)).collect();
    list(&mut text, "failed unit", &failed, failed.len() as u64);
    let twice = &report.two_certificates;
    list(&mut text, "two certificates", twice, twice.len() as u64);
    list(&mut text, "violation", &report.violations, report.violation_count);
    text
}

fn list(text: &mut String, name: &str, lines: &[String], count: u64) {
    for it in lines.iter().take(MAX_LISTED) {
        line(text, name, it);
    }
    let more = count.saturating_sub(MAX_LISTED.min(lines.len()) as u64);
    if more > 0 {
        line(text, name, &format!("and {more} more"));
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{name:<11} {value}");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::rehearsal::fixture::FailedUnit;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: FixtureCommand,
    }

    fn parse(line: &str) -> Result<SimulateArgs, clap::Error> {
        let FixtureCommand::Simulate(args) = Cli::try_parse_from(line.split(' '))?.command;
        Ok(args)
    }

    #[test]
    fn the_command_line_has_the_defaults_of_the_contract() {
        let args = parse("fixture simulate --link port").unwrap();
        assert_eq!((args.nests, args.count, args.name.as_str()), (4, 10, "nest-1"));
        assert_eq!((args.faults, args.resend), (Faults::None, Duration::from_secs(2)));
        let args = parse("fixture simulate --faults hard --resend 500ms --count 3").unwrap();
        assert_eq!((args.faults, args.resend, args.count), (Faults::Hard, Duration::from_millis(500), 3));
        for bad in ["--nests 0", "--count 0", "--resend 2", "--resend -2s", "--serials f --count 2"] {
            assert!(parse(&format!("fixture simulate {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_summary_names_what_went_wrong_and_how_much_more() {
        let failed = |n: usize| FailedUnit { serial: format!("SN{n}"), code: "rejected".to_owned() };
        let report = FixtureReport {
            units: 20,
            passed: 8,
            failed: (0..12).map(failed).collect(),
            ..FixtureReport::default()
        };
        let text = summary(&report);
        assert!(text.starts_with("passed      8 of 20"), "{text}");
        assert!(text.contains("failed unit SN9 rejected\nfailed unit and 2 more\n"), "{text}");
        assert!(!text.contains("violation"), "{text}");
    }

    #[tokio::test]
    async fn a_missing_list_of_serials_is_an_input_error() {
        let args = parse("fixture simulate --serials /nonexistent/serials").unwrap();
        assert_eq!(run(FixtureCommand::Simulate(args)).await, ExitStatus::Io);
    }
}

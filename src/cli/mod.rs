//! The command line: one file for each command.

pub mod batch;
pub mod ca;
pub mod check_config;
pub mod cloud;
pub mod daemon;
pub mod device;
pub mod doctor;
pub mod drain;
pub mod fixture;
pub mod journal;
pub mod manual;
pub mod reconcile;
pub mod rehearse;
pub mod report;
pub mod run;
pub mod status;
mod text;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::clock::{SystemClock, TimeSource as _};
use crate::error::{Chain, ExitStatus};
use crate::{hardening, os, telemetry};

/// Gives manufactured devices their identity, on the line, exactly once.
#[derive(Debug, Parser)]
#[command(name = "linemint", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Rehearse(rehearse::RehearseArgs),
    CheckConfig(check_config::CheckConfig),
    Doctor(doctor::Doctor),
    /// What the daemon is doing
    Status(status::StatusArgs),
    /// Devices and their history
    Device(device::DeviceArgs),
    /// Work order, journal and cloud: what is missing, half-made, extra, orphaned
    Reconcile(reconcile::ReconcileArgs),
    /// Work orders: opened, closed and shown
    Batch(batch::BatchArgs),
    Report(Box<report::ReportArgs>),
    /// Tells the station to take no new units
    Drain(drain::Drain),
    /// Tells the station to take new units again
    Resume(drain::Resume),
    /// The station's certificate authority
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// The journal: verify, export, back up, restore
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Fixtures on the serial line
    #[command(subcommand)]
    Fixture(fixture::FixtureCommand),
    /// The simulated AWS
    #[command(subcommand)]
    Cloud(CloudCommand),
    Completions(manual::Completions),
    Man(manual::ManArgs),
}

#[derive(Debug, Subcommand)]
enum CloudCommand {
    Simulate(cloud::SimulateArgs),
}

/// Reads the command line and runs the command.
#[must_use]
pub fn main() -> ExitStatus {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no error.
            let status = if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Done };
            return error.print().map_or(ExitStatus::Io, |()| status);
        }
    };
    match cli.command {
        Command::CheckConfig(args) => {
            // It tries the CA's key.
            hardening::harden();
            check_config::run(&args, SystemClock::default().now().wall)
        }
        Command::Doctor(args) => {
            hardening::harden();
            on_runtime(doctor::run(args))
        }
        Command::Ca(command) => {
            hardening::harden();
            on_runtime(ca::run(command, SystemClock::default().now().wall))
        }
        Command::Run(args) => {
            telemetry::start_as("info", args.log_format);
            hardening::harden();
            os::keep_little();
            on_runtime(run::run(args))
        }
        Command::Rehearse(args) => {
            hardening::harden();
            on_runtime(rehearse::run(args))
        }
        Command::Status(args) => on_runtime(status::run(args)),
        Command::Device(args) => on_runtime(device::run(args)),
        Command::Reconcile(args) => on_runtime(reconcile::run(args)),
        Command::Batch(args) => on_runtime(batch::run(args)),
        Command::Report(args) => on_runtime(report::run(*args)),
        Command::Drain(args) => on_runtime(drain::run_drain(args)),
        Command::Resume(args) => on_runtime(drain::run_resume(args)),
        Command::Journal(command) => {
            telemetry::start("warn", None);
            journal::run(&command)
        }
        Command::Fixture(command) => on_runtime(fixture::run(command)),
        Command::Cloud(CloudCommand::Simulate(args)) => on_runtime(cloud::simulate(args)),
        Command::Completions(args) => manual::completions(&args, Cli::command()),
        Command::Man(args) => manual::man(&args, Cli::command()),
    }
}

fn on_runtime(command: impl Future<Output = ExitStatus>) -> ExitStatus {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let status = runtime.block_on(command);
            // What may still block (a name server that is away, a disk that hangs) keeps nobody waiting.
            runtime.shutdown_background();
            status
        }
        Err(error) => {
            tracing::error!(error = %Chain(&error), "the runtime cannot start");
            ExitStatus::Io
        }
    }
}

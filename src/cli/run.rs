//! `linemint run`: the daemon, in the foreground.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::SystemClock;
use crate::config::{Config, DEFAULT_PATH};
use crate::error::{Chain, ExitStatus};
use crate::station::supervisor::{self, RunError};
use crate::telemetry::Format;

/// Runs the station in the foreground, as the service manager wants it.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The configuration file
    #[arg(long, value_name = "F", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// How logs are written
    #[arg(long, value_enum, default_value_t)]
    pub log_format: Format,
}

/// Runs the command.
pub async fn run(args: RunArgs) -> ExitStatus {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            // Nobody is left to be told if stderr is gone.
            let _ = writeln!(io::stderr(), "{errors}");
            return ExitStatus::Configuration;
        }
    };
    match supervisor::run(&config, Arc::new(SystemClock::default())).await {
        Ok(()) => ExitStatus::Done,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", Chain(&error));
            match error {
                RunError::Setup(error) => error.exit_status(),
                RunError::Station(error) => error.exit_status(),
                RunError::Api(_) | RunError::Signals(_) => ExitStatus::Io,
                RunError::Stuck => ExitStatus::Bug,
            }
        }
    }
}

//! `linemint run`: the daemon, in the foreground.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::SystemClock;
use crate::config::{Config, DEFAULT_PATH};
use crate::control::last_words;
use crate::control::server::ApiError;
use crate::error::{Chain, ExitStatus};
use crate::service_manager;
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
    let passed = match service_manager::passed_socket(service_manager::API_SOCKET) {
        Ok(it) => it,
        Err(error) => return ended(&format!("error: {}", Chain(&ApiError::Passed(error))), ExitStatus::Io),
    };
    // What is served is closed with the station; whoever waits beyond that may have to be told something.
    let waiting = passed.as_ref().and_then(|it| it.try_clone().ok());
    let (why, status) = match Config::load(&args.config) {
        Err(errors) => (errors.to_string(), ExitStatus::Configuration),
        Ok(config) => match supervisor::run(&config, passed, Arc::new(SystemClock::default())).await {
            Ok(()) => return ExitStatus::Done,
            Err(error) => (format!("error: {}", Chain(&error)), status_of(&error)),
        },
    };
    ended(&why, status);
    if let (Some(waiting), ExitStatus::Configuration | ExitStatus::Busy) = (waiting, status) {
        // The service manager starts it no more, unless somebody waits at its socket.
        service_manager::status("it does not start; whoever asks is told why");
        match last_words::tell(waiting, why.strip_prefix("error: ").unwrap_or(&why)).await {
            Ok(0) => {}
            Ok(clients) => tracing::info!(clients, "clients that waited at the socket were told why"),
            Err(error) => tracing::warn!(%error, "clients that wait at the socket cannot be told why"),
        }
    }
    status
}

fn ended(why: &str, status: ExitStatus) -> ExitStatus {
    // Nobody is left to be told if stderr is gone.
    let _ = writeln!(io::stderr(), "{why}");
    status
}

fn status_of(error: &RunError) -> ExitStatus {
    match error {
        RunError::Setup(error) => error.exit_status(),
        RunError::Station(error) => error.exit_status(),
        RunError::Api(_) | RunError::Signals(_) => ExitStatus::Io,
        RunError::Stuck => ExitStatus::Bug,
    }
}

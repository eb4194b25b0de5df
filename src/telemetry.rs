//! Logs: readable lines on stderr, or in a file. What is logged holds no secret: messages to
//! fixtures print their kind, calls to AWS their operation.

use std::fs::File;
use std::io::IsTerminal as _;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Starts logging at `level` (`info`, or directives as `tracing` has them), which the environment
/// variable `LINEMINT_LOG` overrides. A second start is ignored.
pub fn start(level: &str, file: Option<File>) {
    let filter = EnvFilter::try_from_env("LINEMINT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let ansi = file.is_none() && std::io::stderr().is_terminal();
    let writer = match file {
        Some(file) => BoxMakeWriter::new(Mutex::new(file)),
        None => BoxMakeWriter::new(std::io::stderr),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_target(false)
        .with_writer(writer);
    // Only a second start fails, and the first one stands.
    let _ = subscriber.try_init();
}

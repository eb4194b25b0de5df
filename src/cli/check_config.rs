//! `linemint check-config`: says whether the configuration is right, and what is not.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::config::{Config, DEFAULT_PATH, iam_policy};
use crate::error::ExitStatus;

/// Checks the configuration file: every error with file, line, key and a hint.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckConfig {
    /// The configuration file.
    #[arg(long, value_name = "F", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Prints the IAM policy that this configuration needs, and no more.
    #[arg(long)]
    pub iam: bool,
}

/// Runs the command.
#[must_use]
pub fn run(args: &CheckConfig) -> ExitStatus {
    // A closed pipe is not worth a word: `check-config --iam | head` has what it wanted.
    write_to(args, &mut io::stdout().lock(), &mut io::stderr().lock()).unwrap_or(ExitStatus::Io)
}

fn write_to(args: &CheckConfig, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitStatus> {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            writeln!(err, "{errors}")?;
            return Ok(ExitStatus::Configuration);
        }
    };
    if args.iam {
        writeln!(out, "{:#}", iam_policy(&config))?;
    } else {
        let fixtures = count(config.fixtures.len(), "fixture");
        let products = count(config.products.len(), "product");
        writeln!(out, "{}: ok, {fixtures}, {products}", args.config.display())?;
    }
    out.flush()?;
    Ok(ExitStatus::Done)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

//! How errors are shown, and what the process says when it ends.

use std::error::Error;
use std::fmt;
use std::process::{ExitCode, Termination};

/// What the process ends with; the values are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done.
    Done = 0,
    /// Done, and the answer is bad: a device failed, a check failed, a report does not balance.
    Bad = 1,
    /// The command line was wrong.
    Usage = 2,
    /// The daemon cannot be reached.
    Unreachable = 3,
    /// The daemon refused.
    Refused = 4,
    /// A bug in linemint.
    Bug = 70,
    /// Reading or writing failed.
    Io = 74,
    /// Another instance holds the journal.
    Busy = 75,
    /// Not permitted.
    NotPermitted = 77,
    /// The configuration is wrong.
    Configuration = 78,
}

impl Termination for ExitStatus {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Shows an error with all its sources in one line: `failed to a: b: c`.
///
/// Errors of this crate never repeat their source in their own text.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to read {path}")]
    struct Outer {
        path: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = Outer { path: "ca.pem", source: std::io::Error::other("disk on fire") };
        assert_eq!(Chain(&error).to_string(), "failed to read ca.pem: disk on fire");
    }
}

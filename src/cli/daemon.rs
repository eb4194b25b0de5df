//! What the commands that speak to the daemon share: where it is, and how they end.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::{self, DEFAULT_PATH, PlaceError};
use crate::control::client::{Client, ClientError};
use crate::error::{Chain, ExitStatus};

/// Where the daemon's socket is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DaemonArgs {
    /// The daemon's socket; the configuration says where, if this does not.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The configuration file that says where the socket is.
    #[arg(long, value_name = "F")]
    pub config: Option<PathBuf>,
}

impl DaemonArgs {
    pub(super) fn client(&self) -> Result<Client, CommandError> {
        socket_path(self.socket.as_deref(), self.config.as_deref()).map(Client::new)
    }
}

/// The socket's path: the one given, else the given configuration's, else that of the usual
/// configuration if there is one, else the usual path.
fn socket_path(socket: Option<&Path>, config: Option<&Path>) -> Result<PathBuf, CommandError> {
    if let Some(socket) = socket {
        return Ok(socket.to_owned());
    }
    let path = config.unwrap_or(Path::new(DEFAULT_PATH));
    match config::socket_in(path) {
        Ok(socket) => Ok(socket),
        // Whoever only asks need not be able to read the station's configuration.
        Err(PlaceError::Read(_)) if config.is_none() => Ok(PathBuf::from(config::DEFAULT_SOCKET)),
        Err(source) => Err(CommandError::Socket { path: path.to_owned(), source }),
    }
}

/// Why a command did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error(transparent)]
    Daemon(#[from] ClientError),
    #[error("failed to find the daemon's socket in {}; name it with --socket", path.display())]
    Socket { path: PathBuf, source: PlaceError },
    #[error("{0}")]
    Usage(String),
    #[error("failed to write the answer")]
    Output(#[from] io::Error),
    #[error("failed to write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

/// What the command ends with, after telling `err` why. A reader that has read enough and closed
/// the pipe is no error.
pub(super) fn ended(result: Result<ExitStatus, CommandError>, err: &mut impl Write) -> ExitStatus {
    let error = match result {
        Ok(status) => return status,
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitStatus::Done;
        }
        Err(error) => error,
    };
    // Where stderr is gone too, the exit status still says it.
    let _ = tell(&error, err);
    match error {
        CommandError::Daemon(error) => error.exit_status(),
        CommandError::Socket { .. } => ExitStatus::Configuration,
        CommandError::Usage(_) => ExitStatus::Usage,
        CommandError::Output(_) | CommandError::Unwritable { .. } => ExitStatus::Io,
    }
}

/// The sentence of an error, with what to do about it.
pub(super) fn tell(error: &CommandError, err: &mut impl Write) -> io::Result<()> {
    match error {
        // These sentences say it all; what the system calls it helps nobody.
        CommandError::Daemon(
            error @ (ClientError::Unreachable { .. } | ClientError::NotPermitted { .. }),
        ) => {
            writeln!(err, "{error}")?;
        }
        error => writeln!(err, "{}", super::text::plain(&Chain(error).to_string()))?,
    }
    if let CommandError::Daemon(error) = error
        && let Some(hint) = error.hint()
    {
        writeln!(err, "  hint: {}", super::text::plain(hint))?;
    }
    Ok(())
}

/// Writes one JSON document, laid out for people and programs alike.
pub(super) fn write_json(value: &Value, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{value:#}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::control::Problem;

    fn told(error: CommandError) -> (ExitStatus, String) {
        let mut err = Vec::new();
        let status = ended(Err(error), &mut err);
        (status, String::from_utf8(err).unwrap())
    }

    #[test]
    fn no_daemon_is_told_in_one_sentence_with_status_3() {
        let error = ClientError::Unreachable {
            path: "/run/linemint/linemint.sock".into(),
            source: io::ErrorKind::NotFound.into(),
        };
        let sentence = "the daemon cannot be reached at /run/linemint/linemint.sock: is it running?\n";
        assert_eq!(told(error.into()), (ExitStatus::Unreachable, sentence.to_owned()));
    }

    #[test]
    fn a_refusal_comes_with_its_hint_and_without_control_characters() {
        let problem = Problem {
            kind: "/problems/forbidden".to_owned(),
            title: "Not permitted".to_owned(),
            status: 403,
            detail: "bob may not\u{1b}[2J".to_owned(),
            hint: Some("ask ada".to_owned()),
        };
        let text = "bob may not?[2J\n  hint: ask ada\n".to_owned();
        let error = ClientError::Refused(Box::new(problem));
        assert_eq!(told(error.into()), (ExitStatus::NotPermitted, text));
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is() {
        let closed: io::Error = io::ErrorKind::BrokenPipe.into();
        assert_eq!(told(closed.into()), (ExitStatus::Done, String::new()));
        let full: io::Error = io::ErrorKind::StorageFull.into();
        let (status, text) = told(full.into());
        assert_eq!(status, ExitStatus::Io);
        assert!(text.starts_with("failed to write the answer: "), "{text}");
    }

    #[test]
    fn a_socket_that_is_given_is_taken_and_a_wrong_configuration_is_told() {
        let given = socket_path(Some(Path::new("a.sock")), Some(Path::new("f.toml"))).unwrap();
        assert_eq!(given, Path::new("a.sock"));
        let error = socket_path(None, Some(Path::new("/nonexistent/f.toml"))).unwrap_err();
        assert_eq!(told(error).0, ExitStatus::Configuration);
    }
}

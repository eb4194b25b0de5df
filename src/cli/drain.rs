//! `linemint drain` and `linemint resume`: take no new units; take them again.

use std::io::{self, Write};

use super::daemon::{CommandError, DaemonArgs, ended};
use crate::control::Draining;
use crate::error::ExitStatus;

/// Tells the station to take no new units; those that it has are finished.
#[derive(Debug, Clone, clap::Args)]
pub struct Drain {
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Tells the station to take new units again.
#[derive(Debug, Clone, clap::Args)]
pub struct Resume {
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Runs `linemint drain`.
pub async fn run_drain(args: Drain) -> ExitStatus {
    ended(tell(&args.daemon, "/v1/drain", &mut io::stdout()).await, &mut io::stderr())
}

/// Runs `linemint resume`.
pub async fn run_resume(args: Resume) -> ExitStatus {
    ended(tell(&args.daemon, "/v1/resume", &mut io::stdout()).await, &mut io::stderr())
}

async fn tell(daemon: &DaemonArgs, target: &str, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let now: Draining = daemon.client()?.post(target, &serde_json::json!({})).await?;
    let sentence = if now.draining {
        "draining: the station takes no new units, and finishes those that it has"
    } else {
        "resumed: the station takes new units"
    };
    writeln!(out, "{sentence}")?;
    Ok(ExitStatus::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::server::Command;
    use crate::control::tests::Station;

    #[tokio::test]
    async fn the_station_is_told_and_the_answer_printed() {
        let mut station = Station::new();
        let daemon = DaemonArgs { socket: Some(station.path.clone()), config: None };
        let mut commands = station.commands.take().unwrap();
        let answering = tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                let (Command::Drain { reply, .. } | Command::Resume { reply, .. }) = command;
                reply.send(Ok(())).unwrap();
            }
        });
        for (target, word) in [("/v1/drain", "draining: "), ("/v1/resume", "resumed: ")] {
            let mut out = Vec::new();
            assert_eq!(tell(&daemon, target, &mut out).await.unwrap(), ExitStatus::Done);
            assert!(String::from_utf8(out).unwrap().starts_with(word));
        }
        station.end().await;
        answering.await.unwrap();
    }

    #[tokio::test]
    async fn without_a_daemon_the_status_is_3() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = DaemonArgs { socket: Some(dir.path().join("none")), config: None };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let result = tell(&daemon, "/v1/drain", &mut out).await;
        assert_eq!(ended(result, &mut err), ExitStatus::Unreachable);
        assert!(out.is_empty() && !err.is_empty());
    }
}

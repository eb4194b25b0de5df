//! `linemint drain` and `linemint resume`: take no new units; take them again.

use std::io::{self, Write};

use serde::Serialize;

use super::daemon::{CommandError, DaemonArgs, ended};
use crate::control::{Draining, Resuming, Telling};
use crate::error::ExitStatus;

/// Tells the station to take no new units; those that it has are finished.
#[derive(Debug, Clone, clap::Args)]
pub struct Drain {
    /// Why, in one line: kept in the journal with who says it.
    #[arg(long, value_name = "TEXT", value_parser = super::device::order::reason)]
    pub reason: Option<String>,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Tells the station to take new units again.
#[derive(Debug, Clone, clap::Args)]
pub struct Resume {
    /// Goes on although the clock is doubted, until the doubt is another or the daemon is started again.
    #[arg(long, requires = "reason")]
    pub clock: bool,
    /// Why, in one line: kept in the journal with who says it.
    #[arg(long, value_name = "TEXT", value_parser = super::device::order::reason)]
    pub reason: Option<String>,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Runs `linemint drain`.
pub async fn run_drain(args: Drain) -> ExitStatus {
    let told = tell(&args.daemon, "/v1/drain", &Telling { reason: args.reason }, &mut io::stdout()).await;
    ended(told, &mut io::stderr())
}

/// Runs `linemint resume`.
pub async fn run_resume(args: Resume) -> ExitStatus {
    let resuming = Resuming { clock: args.clock, reason: args.reason };
    ended(tell(&args.daemon, "/v1/resume", &resuming, &mut io::stdout()).await, &mut io::stderr())
}

async fn tell(
    daemon: &DaemonArgs,
    target: &str,
    body: &impl Serialize,
    out: &mut impl Write,
) -> Result<ExitStatus, CommandError> {
    let now: Draining = daemon.client()?.post(target, body).await?;
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
            let mut told = Vec::new();
            while let Some(command) = commands.recv().await {
                match command {
                    Command::Station { order, by, reply } => {
                        told.push(format!("{order}: {}", by.reason));
                        reply.send(Ok(())).unwrap();
                    }
                    Command::OverrideClock { by, reply } => {
                        assert_eq!(by.reason, "no time server today");
                        reply.send(Ok(())).unwrap();
                    }
                    Command::Order { .. } | Command::Reconcile { .. } | Command::Batch { .. } => {
                        unreachable!("it was not asked for")
                    }
                }
            }
            told
        });
        let clock = Resuming { clock: true, reason: Some("no time server today".to_owned()) };
        for (target, body, word) in [
            ("/v1/drain", serde_json::json!({}), "draining: "),
            ("/v1/drain", serde_json::json!({ "reason": "the shift is over" }), "draining: "),
            ("/v1/resume", serde_json::json!({}), "resumed: "),
            ("/v1/resume", serde_json::to_value(&clock).unwrap(), "resumed: "),
        ] {
            let mut out = Vec::new();
            assert_eq!(tell(&daemon, target, &body, &mut out).await.unwrap(), ExitStatus::Done);
            assert!(String::from_utf8(out).unwrap().starts_with(word));
        }
        station.end().await;
        let told = answering.await.unwrap();
        assert_eq!(told, ["drain: ", "drain: the shift is over", "resume: ", "resume: no time server today"]);
    }

    #[tokio::test]
    async fn without_a_daemon_the_status_is_3() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = DaemonArgs { socket: Some(dir.path().join("none")), config: None };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let result = tell(&daemon, "/v1/drain", &Resuming::default(), &mut out).await;
        assert_eq!(ended(result, &mut err), ExitStatus::Unreachable);
        assert!(out.is_empty() && !err.is_empty());
    }
}

//! The daemon, if it runs.

use super::{DAEMON, Finding};
use crate::control::client::{Client, ClientError};
use crate::control::{StationState, Status};
use crate::error::Chain;

/// Asks it how it is.
pub(super) async fn look(client: &Client) -> Finding {
    match client.get_json::<Status>("/v1/status").await {
        Ok(status) => judge(&status),
        Err(ClientError::Unreachable { .. }) => {
            DAEMON.ok(format!("it does not run: nobody listens at {}", client.path().display()))
        }
        Err(error @ ClientError::NotPermitted { .. }) => DAEMON.skipped(Chain(&error).to_string()),
        Err(error) => {
            let remedy = "look into its log: journalctl -u linemint";
            DAEMON.failed(Chain(&error).to_string(), remedy)
        }
    }
}

fn judge(status: &Status) -> Finding {
    let what = format!("station {} runs and is {}", status.station, status.state.as_str());
    let why = || match status.reasons.as_slice() {
        [] => what.clone(),
        reasons => format!("{what}: {}", reasons.join("; ")),
    };
    match status.state {
        StationState::Ready | StationState::Starting | StationState::Draining => DAEMON.ok(what),
        StationState::Degraded => DAEMON.warning(why(), "see the checks below, and `linemint status`"),
        StationState::Stopped => DAEMON.failed(why(), "see the checks below, and `linemint status`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_station_that_has_stopped_says_why() {
        let status = |state, reasons: &[&str]| Status {
            station: "L3".to_owned(),
            state,
            reasons: reasons.iter().map(|it| (*it).to_owned()).collect(),
            ..Status::default()
        };
        let finding = judge(&status(StationState::Stopped, &["no credentials", "no clock"]));
        assert_eq!(finding.status, Verdict::Failed);
        assert_eq!(finding.detail, "station L3 runs and is stopped: no credentials; no clock");
        assert_eq!(judge(&status(StationState::Degraded, &["slow"])).status, Verdict::Warning);
        assert_eq!(judge(&status(StationState::Draining, &[])).status, Verdict::Ok);
    }

    #[tokio::test]
    async fn no_daemon_is_no_fault_and_one_that_answers_nonsense_is() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let finding = look(&Client::new(&socket)).await;
        assert_eq!(finding.status, Verdict::Ok);
        assert!(finding.detail.starts_with("it does not run"), "{finding:?}");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let hangs_up = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"SMTP ready\r\n\r\n").await.unwrap();
        };
        let (finding, ()) = tokio::join!(async { look(&Client::new(&socket)).await }, hangs_up);
        assert_eq!(finding.status, Verdict::Failed, "{finding:?}");
    }
}

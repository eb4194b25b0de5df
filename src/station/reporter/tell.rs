//! Who is told of a report: a program, and a server.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::sync::mpsc;

use super::post;
use crate::config::Reports;
use crate::error::Chain;

/// How long the hook may take.
const HOOK_WITHIN: Duration = Duration::from_secs(60);

/// How often is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Pauses between the tries to send a report.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(900),
];

/// Tells of reports, one after the other.
pub(super) struct Teller {
    pub(super) hook: Vec<String>,
    pub(super) url: Option<String>,
    pub(super) hook_within: Duration,
    pub(super) pauses: Vec<Duration>,
}

impl Teller {
    pub(super) fn new(options: &Reports) -> Self {
        let (hook, url) = (options.hook.clone(), options.url.clone());
        Self { hook, url, hook_within: HOOK_WITHIN, pauses: PAUSES.to_vec() }
    }

    pub(super) async fn run(self, mut reports: mpsc::Receiver<PathBuf>) {
        while let Some(report) = reports.recv().await {
            self.tell(&report).await;
        }
    }

    pub(super) async fn tell(&self, report: &Path) {
        if !self.hook.is_empty() {
            let (hook, path, within) = (self.hook.clone(), report.to_owned(), self.hook_within);
            let ended = tokio::task::spawn_blocking(move || run_hook(&hook, &path, within)).await;
            match ended.unwrap_or_else(|_| Err("the daemon is ending".to_owned())) {
                Ok(()) => tracing::info!(report = %report.display(), "the report's hook has run"),
                Err(why) => tracing::error!(report = %report.display(), why, "the report's hook has failed"),
            }
        }
        if let Some(url) = &self.url {
            self.send(report, url).await;
        }
    }

    async fn send(&self, report: &Path, url: &str) {
        let path = report.to_owned();
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let body = match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(report = %report.display(), %error, "the report cannot be read to be sent");
                return;
            }
        };
        let mut pauses = self.pauses.iter();
        loop {
            let error = match post::post(url, &body).await {
                Ok(()) => {
                    tracing::info!(report = %report.display(), "the report is sent");
                    return;
                }
                Err(error) => error,
            };
            match pauses.next().filter(|_| error.may_pass()) {
                Some(pause) => {
                    tracing::warn!(report = %report.display(), error = %Chain(&error), again_in_s = pause.as_secs(), "the report could not be sent");
                    tokio::time::sleep(*pause).await;
                }
                None => {
                    tracing::error!(report = %report.display(), error = %Chain(&error), "the report is not sent; it lies in report_dir");
                    return;
                }
            }
        }
    }
}

/// Runs the hook with the report's path behind its arguments. It sees nothing of the daemon's environment, in
/// which there may be credentials, but where programs and the time zone are.
pub(super) fn run_hook(hook: &[String], report: &Path, within: Duration) -> Result<(), String> {
    use std::os::unix::process::CommandExt as _;
    let [program, arguments @ ..] = hook else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).arg(report).env_clear().process_group(0);
    for name in ["PATH", "LANG", "TZ"] {
        command.envs(std::env::var_os(name).map(|it| (name, it)));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
    let looks = within.as_millis().div_ceil(LOOK_EVERY.as_millis().max(1));
    for _ in 0..looks {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("{program} ended with {status}")),
            Ok(None) => std::thread::park_timeout(LOOK_EVERY),
            Err(error) => return Err(format!("{program} cannot be waited for: {error}")),
        }
    }
    kill(&mut child);
    Err(format!("{program} did not end within {} s and was killed", within.as_secs()))
}

/// Ends the hook and what it has started.
fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended by itself meanwhile.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

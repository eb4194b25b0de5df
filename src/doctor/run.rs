//! The order of the checks, and the time that each may take.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use tokio::sync::oneshot;

use super::{
    CA, CA_LIFE, DIRECTORY_FREE, DIRECTORY_WRITABLE, DISK_FREE, JOURNAL_SYNC, JOURNAL_WRITABLE, PORT,
};
use super::{CHECKS, CLOCK, CONFIGURATION, Check, Finding, Report, ca, daemon, disk, folders, ports};
use crate::clock::{ClockSync, TimeSource, made_at};
use crate::config::{Config, ConfigErrors, Fixture};
use crate::control::client::Client;
use crate::fixture::port::System;
use crate::timesync::Keepers;

/// How long a disk, a file or `/proc` may take. A share that has gone away hangs for ever.
const WITHIN: Duration = Duration::from_secs(10);

/// What surrounds the station.
#[derive(Clone)]
pub struct Surroundings {
    /// Where the kernel and udev show what they know.
    pub system: System,
    /// Who keeps the clock.
    pub keepers: Keepers,
    /// The clock.
    pub clock: Arc<dyn TimeSource>,
    /// Credentials of a simulation; without them the SDK's default chain is asked.
    pub credentials: Option<Credentials>,
}

/// Makes every check for the configuration at `path`.
pub async fn run(path: &Path, around: &Surroundings) -> Report {
    let file = path.to_owned();
    let config = match bounded(move || Config::load(&file)).await {
        Some(Ok(config)) => Arc::new(config),
        Some(Err(errors)) => return without(&wrong(&errors), around).await,
        None => {
            let remedy = "look at the disk that it lies on";
            let hangs = CONFIGURATION.failed(format!("{} cannot be read in time", path.display()), remedy);
            return without(&hangs, around).await;
        }
    };
    let mut checks = vec![right(&config)];
    checks.push(daemon::look(&Client::new(&config.api.socket)).await);
    checks.extend(station(&config, around).await);
    for fixture in &config.fixtures {
        checks.extend(port(fixture, around).await);
    }
    checks.extend(super::aws::look(&config, around.credentials.clone(), around.clock.clone()).await);
    Report { checks }
}

fn right(config: &Config) -> Finding {
    let fixtures: Vec<_> = config.fixtures.iter().map(|it| it.name.as_str()).collect();
    let path = config.path.display();
    CONFIGURATION.ok(format!(
        "{path} is right: station {}, fixtures {}",
        config.station.id,
        fixtures.join(", ")
    ))
}

fn wrong(errors: &ConfigErrors) -> Finding {
    CONFIGURATION.failed(errors.to_string(), "put it right; `linemint check-config` says the same")
}

/// What can be said without a configuration.
async fn without(failed: &Finding, around: &Surroundings) -> Report {
    let mut checks = vec![failed.clone()];
    for check in CHECKS.iter().filter(|it| it.id != CONFIGURATION.id) {
        checks.push(match check.id == CLOCK.id {
            true => clock(around).await,
            false => check.skipped("the configuration is wrong"),
        });
    }
    Report { checks }
}

async fn station(config: &Arc<Config>, around: &Surroundings) -> Vec<Finding> {
    let (journal, time) = (config.journal.clone(), around.clock.clone());
    let mut findings = bounded(move || disk::look(&journal, &*time)).await.unwrap_or_else(|| {
        let rest = [&JOURNAL_SYNC, &DISK_FREE].map(|it| it.skipped("the disk does not answer"));
        std::iter::once(late(&JOURNAL_WRITABLE, "the journal's disk")).chain(rest).collect()
    });
    findings.extend(folders(config).await);
    findings.push(clock(around).await);
    let (whole, now) = (config.clone(), around.clock.now().wall);
    findings.extend(bounded(move || ca::look(&whole, now)).await.unwrap_or_else(|| {
        vec![late(&CA, "the CA's file"), CA_LIFE.skipped("the CA's file cannot be read in time")]
    }));
    findings
}

async fn folders(config: &Config) -> Vec<Finding> {
    let (all, min_free) = (folders::all(config), config.journal.min_free);
    if all.is_empty() {
        return folders::none();
    }
    let mut findings = Vec::new();
    for folder in all {
        let subject = folder.subject();
        findings.extend(bounded(move || folders::look(&folder, min_free)).await.unwrap_or_else(|| {
            let free = DIRECTORY_FREE.skipped("the disk does not answer");
            [late(&DIRECTORY_WRITABLE, "the directory's disk"), free].map(|it| it.about(&subject)).into()
        }));
    }
    findings
}

async fn port(fixture: &Fixture, around: &Surroundings) -> Vec<Finding> {
    let (system, name, fixture) = (around.system.clone(), fixture.name.clone(), fixture.clone());
    let looked = bounded(move || ports::look(&system, &fixture)).await;
    looked.unwrap_or_else(|| {
        let skipped = ports::NEED_PORT.iter().map(|it| it.skipped("the system does not answer"));
        std::iter::once(late(&PORT, "the system")).chain(skipped).map(|it| it.about(&name)).collect()
    })
}

fn late(check: &'static Check, what: &str) -> Finding {
    let detail = format!("{what} did not answer within {} s", WITHIN.as_secs());
    check.failed(detail, "look at the kernel's log (dmesg) and at what is mounted")
}

async fn clock(around: &Surroundings) -> Finding {
    let now = around.clock.now().wall;
    let remedy = "set it, and have it kept: systemctl enable --now systemd-timesyncd, or chronyd";
    if now < made_at() {
        let detail = format!("it says {now:.0}, before this version of linemint was made ({})", made_at());
        return CLOCK.failed(detail, remedy);
    }
    match around.keepers.ask().await {
        ClockSync::Synchronised => CLOCK.ok(format!("it says {now:.0} and is synchronised")),
        ClockSync::Unsynchronised(who) => {
            CLOCK.failed(format!("{who} says that it is not synchronised"), remedy)
        }
        ClockSync::Unsaid => {
            let detail =
                format!("it says {now:.0}; neither systemd-timesyncd nor chronyd says whether that is right");
            CLOCK.warning(detail, remedy)
        }
    }
}

/// What `work` yields, if it does in time. It runs on a thread of its own, which is left behind where it
/// hangs, so that the doctor can end.
async fn bounded<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("doctor".to_owned());
    // Whoever waited may have gone.
    let started = thread.spawn(move || drop(done.send(work())));
    started.ok()?;
    tokio::time::timeout(WITHIN, result).await.ok()?.ok()
}

//! The report of each shift, written by itself when the shift has ended: into a directory, in four formats, then
//! to whoever wants it. Which reports there are is seen from the directory, so that one that was missed while the
//! station was down is made at the next start, and none is made twice: a shift that was given another name has the
//! report that lies there. Nothing is written while the clock may be wrong, and what was written by a clock that was
//! ahead is corrected when the shift has truly ended.
//!
//! The JSON gets its name last: a report whose JSON is there is whole.

mod files;
pub(crate) mod orders;
mod post;
mod present;
mod tell;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};

use self::files::WriteError;
use self::present::{Directory, Present};
use self::tell::Teller;
use crate::clock::TimeSource;
use crate::cloud::Quotas;
use crate::config::{self, Config};
use crate::control::Status;
use crate::control::report::live;
use crate::control::sight::Plant;
use crate::error::Chain;
use crate::journal::store::Store;
use crate::line::LineStatus;
use crate::reconcile::newest::Newest;
use crate::report::fold::{Live, Maker};
use crate::report::keys::{ReportKeyError, load_or_create};
use crate::report::limits::{CERTIFICATES, Limits};
use crate::report::model::StationHead;
use crate::report::selection::Selection;
use crate::shift::ShiftSpan;

/// How often the clock is looked at: it may be set.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long is waited after a report that could not be written.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Shifts that are looked back for at most: a week of three a day.
const MISSED: usize = 21;

/// Reports that wait to be told.
const WAITING: usize = 32;

/// What all reports of a station have in common. Makes the station's report key at its first use.
///
/// # Errors
/// The report key cannot be read or made.
pub fn maker(config: &Config, journal_id: &str) -> Result<Maker, ReportKeyError> {
    Ok(Maker {
        station: StationHead {
            id: config.station.id.clone(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            config: config.hash.to_string(),
        },
        journal_id: journal_id.to_owned(),
        calendar: config.calendar(),
        takt_ms: config.station.takt.and_then(|it| u64::try_from(it.as_millis()).ok()),
        limits: limits(&config.aws.quotas),
        looks: Newest::default(),
        orders: None,
        signer: Some(Arc::new(load_or_create(&key_dir(config))?)),
    })
}

/// The configured rates as reports show them.
pub(super) fn limits(quotas: &Quotas) -> Limits {
    // From a float it is cut to what fits.
    let milli = |rate: f64| (rate * 1000.0).round() as u64;
    let rates = |share: f64| {
        let each = quotas.rates.iter().map(|(operation, rate)| (operation.kebab(), *rate));
        let all = each.chain(quotas.device_certificates.map(|rate| (CERTIFICATES, rate)));
        all.map(|(name, rate)| (name.to_owned(), milli(rate / share))).collect()
    };
    Limits { station: rates(1.0), account: rates(quotas.share) }
}

/// Where the report key lies: beside the seal key, or beside the journal where systemd hands that over.
fn key_dir(config: &Config) -> PathBuf {
    let beside = match &config.journal.seal_key {
        config::SecretRef::Path(path) => path.parent(),
        config::SecretRef::Credential(_) => config.journal.dir.parent(),
    };
    beside.map(PathBuf::from).unwrap_or_default()
}

/// What came of the newest report, for the service manager's line, until the next shift has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reported {
    /// When its shift ended.
    ended: Timestamp,
    /// What came of it.
    pub(super) sentence: String,
}

/// Writes reports.
pub(super) struct Reporter {
    pub(super) told: watch::Sender<Option<Reported>>,
    pub(super) maker: Maker,
    pub(super) plant: watch::Receiver<Arc<Plant>>,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn TimeSource>,
    pub(super) status: watch::Receiver<Arc<Status>>,
    /// The line's own pictures, which tell whether the clock can be right.
    pub(super) line: watch::Receiver<Arc<LineStatus>>,
    pub(super) dir: PathBuf,
    pub(super) options: config::Reports,
    /// What lies in the directory.
    pub(super) present: Mutex<Directory>,
}

impl Reporter {
    /// Writes each shift's report, for as long as the process runs.
    pub(super) async fn run(self) {
        let (reports, waiting) = mpsc::channel(WAITING);
        tokio::spawn(Teller::new(&self.options).run(waiting));
        let it = Arc::new(self);
        loop {
            let worker = it.clone();
            let made = tokio::task::spawn_blocking(move || worker.catch_up()).await;
            let pause = match made {
                Ok((made, result)) => {
                    for path in made {
                        if reports.try_send(path.clone()).is_err() {
                            tracing::warn!(report = %path.display(), "too many reports wait to be told: nobody is told of this one");
                        }
                    }
                    match result {
                        Ok(()) => LOOK_EVERY,
                        Err(error) => {
                            tracing::error!(error = %Chain(&error), "a shift's report cannot be written; it is tried again");
                            AGAIN_AFTER
                        }
                    }
                }
                // The runtime is ending.
                Err(_) => return,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// By the configuration as it is now.
    fn maker(&self) -> Maker {
        let mut maker = self.maker.clone();
        self.plant.borrow().put_into(&mut maker);
        maker
    }

    /// Makes what is missing, the oldest first; the paths of the JSON files, which are there whatever came after
    /// them.
    fn catch_up(&self) -> (Vec<PathBuf>, Result<(), WriteError>) {
        let mut made = Vec::new();
        let result = self.make_missing(&mut made);
        (made, result)
    }

    fn make_missing(&self, made: &mut Vec<PathBuf>) -> Result<(), WriteError> {
        // What is signed by a wrong clock stays signed.
        if self.line.borrow().clock_proven.is_none_or(|it| it < self.options.grace) {
            return Ok(());
        }
        let now = self.clock.now().wall;
        let due = self.due(now)?;
        if due.is_empty() {
            self.forget(now);
        }
        for span in due {
            let written = self.write(&span);
            self.tell(&span, &written);
            let (path, closes) = written?;
            let report = path.display();
            match closes {
                true => {
                    tracing::info!(shift = %span, %report, "the shift has ended: its report is written, and balances")
                }
                false => {
                    tracing::warn!(shift = %span, %report, "the shift has ended: its report is written, and DOES NOT BALANCE")
                }
            }
            made.push(path);
        }
        if !made.is_empty() {
            files::prune(&self.dir, self.options.keep, &self.maker().calendar)?;
        }
        Ok(())
    }

    /// Says what came of a shift's report.
    fn tell(&self, span: &ShiftSpan, written: &Result<(PathBuf, bool), WriteError>) {
        let what = match written {
            Ok((_, true)) => "written, balances".to_owned(),
            Ok((_, false)) => "written, DOES NOT BALANCE".to_owned(),
            Err(error) => format!("cannot be written: {}", Chain(error)),
        };
        let sentence = format!("report of {span} {what}");
        self.told.send_replace(Some(Reported { ended: span.end, sentence }));
    }

    /// Says nothing more of a report when a later shift has ended and all that were due are written.
    fn forget(&self, now: Timestamp) {
        let newest = self.maker().calendar.ended_by(now).next().map(|it| it.end);
        self.told.send_if_modified(|told| {
            let old = told.as_ref().is_some_and(|it| newest.is_some_and(|newest| it.ended < newest));
            if old {
                *told = None;
            }
            old
        });
    }

    /// The shifts that have ended, and whose reports are not there, the oldest first.
    fn due(&self, now: Timestamp) -> Result<Vec<ShiftSpan>, WriteError> {
        let grace = SignedDuration::try_from(self.options.grace).unwrap_or_default();
        let Ok(by) = now.checked_sub(grace) else { return Ok(Vec::new()) };
        let look_back = MISSED.min(self.options.keep);
        let calendar = self.maker().calendar;
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.look(&self.dir, &calendar)?;
        let mut due = Vec::new();
        let mut others = Vec::new();
        for span in calendar.ended_by(by).take(look_back) {
            match present.named(&files::stem(&span)) {
                Some(Some(it)) if self.was_early(it, &span)? => due.push(span),
                Some(_) => {}
                None => match present.over(&span) {
                    Some(other) => others.push((span.clone(), other.to_owned())),
                    None => due.push(span),
                },
            }
        }
        for (span, other) in others {
            if !present.told.contains(&span) {
                let (begin, end) = (span.begin, span.end);
                tracing::warn!(shift = %span, report = %other, %begin, %end, "this shift gets no report by itself, since that report tells of a part of its time: `linemint report --since --until` makes one of the rest");
                present.told.push(span);
            }
        }
        if due.is_empty() {
            return Ok(due);
        }
        // Before its first record there was no station.
        let begun = self.store.events(0, 1)?.first().map_or(now, |it| it.at);
        due.retain(|it| it.end > begun);
        due.reverse();
        Ok(due)
    }

    /// Whether a report was made before its shift had ended, by a clock that was ahead: by what it says itself, or
    /// since what the journal holds behind it was before that end.
    fn was_early(&self, it: &Present, span: &ShiftSpan) -> Result<bool, WriteError> {
        let end = it.selection.end.min(span.end);
        if it.made_at < end {
            return Ok(true);
        }
        if it.journal.id != self.maker.journal_id {
            return Ok(false);
        }
        Ok(self.store.events(it.journal.head, 1)?.first().is_some_and(|it| it.at < end))
    }

    fn write(&self, span: &ShiftSpan) -> Result<(PathBuf, bool), WriteError> {
        let now = self.clock.now().wall;
        let selection = Selection::Shift(span.clone());
        let live = live(&self.status.borrow().clone());
        let maker = self.maker();
        let mut report = maker.make(&self.store, &selection, now, live)?;
        let stem = files::stem(span);
        if let Some((version, old)) = present::signed(&self.dir.join(files::name(span, "json"))) {
            (report.version, report.corrects) = (version.saturating_add(1), Some(old));
        }
        let path = files::write(&self.dir, &stem, &maker, (&self.store, &selection), &report)?;
        Ok((path, report.balance.closes))
    }
}

/// Writes a report of `selection` in all formats as `dir/report.*`.
///
/// # Errors
/// The journal cannot be read, or the files not be written.
pub fn write_once(
    dir: &std::path::Path,
    maker: &Maker,
    store: &Store,
    selection: &Selection,
    now: Timestamp,
    live: Live,
) -> Result<crate::report::model::Report, WriteError> {
    let report = maker.make(store, selection, now, live)?;
    files::write(dir, "report", maker, (store, selection), &report)?;
    Ok(report)
}

pub use self::files::WriteError as ReportWriteError;

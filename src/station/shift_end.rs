//! The line at the end of a shift: what was delivered into directories. It is read from the journal, so that a
//! restart within the shift leaves nothing out, and a shift that ended while the station was off is told at its start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::clock::TimeSource;
use crate::control::sight::Plant;
use crate::device::event::Event;
use crate::error::Chain;
use crate::journal::store::Store;
use crate::journal::{JournalError, What};
use crate::report::source::Source as _;
use crate::shift::ShiftSpan;

/// How often the clock is looked at: it may be set.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// … and how often at most, close to a shift's end.
const LOOK_MIN: Duration = Duration::from_millis(50);

/// Records that are read at once.
const PAGE: usize = 1_000;

/// Serial numbers in one line of the log: what the system's journal takes as one.
const MAX_LISTED: usize = 200;

/// Lines for one directory: more devices than AWS's quotas allow a station in a day. What is beyond is told by its
/// number.
const MAX_LINES: usize = 2_000;

/// What is watched.
pub(super) struct ShiftEnd {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn TimeSource>,
    pub(super) plant: watch::Receiver<Arc<Plant>>,
    /// The latest time in the journal before this start; none in a new one.
    pub(super) last_seen: Option<Timestamp>,
    /// Told even if nothing was delivered there.
    pub(super) directories: Vec<PathBuf>,
}

/// What was delivered into one directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Delivered {
    count: usize,
    /// As many of them as the lines hold.
    serials: Vec<String>,
}

impl ShiftEnd {
    /// Tells it at the end of each shift, for as long as the process runs.
    pub(super) async fn run(self) {
        let mut running = self.left_off();
        loop {
            let wait = self.look(&mut running).await;
            tokio::time::sleep(wait).await;
        }
    }

    /// The shift in which the station was there last. If its end lies before the first look it has not been told:
    /// who was there to tell it wrote a record after it when it was stopped, if not before.
    fn left_off(&self) -> Option<ShiftSpan> {
        self.last_seen.and_then(|it| self.plant.borrow().calendar.at(it))
    }

    /// Tells the shift that has ended since the last look, if one has. How long until the next.
    async fn look(&self, running: &mut Option<ShiftSpan>) -> Duration {
        let now = self.clock.now().wall;
        let present = self.plant.borrow().calendar.at(now);
        if let Some(ended) = ended(running, present, now) {
            self.tell(ended).await;
        }
        // A station that is stopped just after the end has told it by then.
        let left = running.as_ref().map(|it| now.duration_until(it.end));
        let left = left.and_then(|it| Duration::try_from(it).ok());
        left.map_or(LOOK_EVERY, |it| it.clamp(LOOK_MIN, LOOK_EVERY))
    }

    async fn tell(&self, shift: ShiftSpan) {
        let (store, directories) = (self.store.clone(), self.directories.clone());
        let (begin, end) = (shift.begin, shift.end);
        let read = tokio::task::spawn_blocking(move || delivered(&store, directories, begin, end)).await;
        match read {
            Ok(Ok(all)) => {
                for (directory, it) in all {
                    let (shift, begin, count) = (&shift.name, shift.begin, it.count);
                    for (part, serials) in it.lines() {
                        tracing::info!(shift, %begin, directory, count, part, serials, "the shift has ended: credentials delivered");
                    }
                }
            }
            Ok(Err(error)) => {
                tracing::error!(error = %Chain(&error), "what the shift has delivered cannot be read from the journal");
            }
            // The runtime is ending.
            Err(_) => {}
        }
    }
}

/// The shift that has ended since the last look. One that the clock was set back out of has not.
fn ended(running: &mut Option<ShiftSpan>, present: Option<ShiftSpan>, now: Timestamp) -> Option<ShiftSpan> {
    if *running == present {
        return None;
    }
    std::mem::replace(running, present).filter(|it| it.end <= now)
}

impl Delivered {
    /// What the lines list, each with which part of all it is: `2/3`.
    fn lines(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let parts = self.serials.len().div_ceil(MAX_LISTED).max(1);
        (1..=parts).map(move |part| {
            let listed = self.serials.chunks(MAX_LISTED).nth(part - 1).unwrap_or_default();
            let mut list = listed.join(" ");
            if part == parts && self.count > self.serials.len() {
                list.push_str(&format!(" and {} more", self.count - self.serials.len()));
            }
            (format!("{part}/{parts}"), list)
        })
    }
}

/// What the records of that time say, by directory.
fn delivered(
    store: &Store,
    directories: Vec<PathBuf>,
    begin: Timestamp,
    end: Timestamp,
) -> Result<BTreeMap<String, Delivered>, JournalError> {
    let directories =
        directories.into_iter().map(|it| (it.to_string_lossy().into_owned(), Delivered::default()));
    let mut all: BTreeMap<String, Delivered> = directories.collect();
    let mut after = store.first_since(begin, store.head()?.seq)?.saturating_sub(1);
    loop {
        let page = store.events(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(all) };
        let over = last.at >= end;
        after = last.seq;
        for record in page.into_iter().filter(|it| (begin..end).contains(&it.at)) {
            if let (What::Device(Event::Passed { directory: Some(directory), .. }), Some(serial)) =
                (record.what, record.serial)
            {
                let it = all.entry(directory).or_default();
                it.count += 1;
                if it.serials.len() < MAX_LISTED * MAX_LINES {
                    it.serials.push(serial.to_string());
                }
            }
        }
        if over {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests;

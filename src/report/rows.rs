//! Rows that follow from what was counted by time: downtime, what the hours lost, what people ordered.

use super::model::{Downtime, Hour, Override};
use super::slot::{self, Down, Slot};
use super::source::Source;
use crate::journal::{Called, JournalError};
use jiff::Timestamp;

/// Failures of one code.
#[derive(Default)]
pub(super) struct Failing {
    pub(super) failures: u64,
    pub(super) devices: u64,
    /// The first of them.
    pub(super) serials: Vec<String>,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
}

/// What kept the station from its work, the longest first.
pub(super) fn downtime(slot: &Slot) -> Vec<Downtime> {
    let row = |(what, it): (&String, &Down)| {
        let (cause, of) = match what.split_once(' ') {
            Some((cause, of)) => (cause, Some(of.to_owned())),
            None => (what.as_str(), None),
        };
        Downtime { cause: cause.to_owned(), of, times: it.times, ms: it.ms }
    };
    let mut rows: Vec<_> = slot.down.iter().map(row).collect();
    rows.sort_by_key(|it| (std::cmp::Reverse(it.ms), it.cause.clone(), it.of.clone()));
    rows
}

/// What each hour lost, and to what for the longest.
pub(super) fn losses(
    source: &dyn Source,
    hours: &mut [Hour],
    end: Timestamp,
    now: Timestamp,
) -> Result<(), JournalError> {
    let ends: Vec<_> = hours.iter().skip(1).map(|it| it.begin).chain([end]).collect();
    for (hour, end) in hours.iter_mut().zip(ends).filter(|(it, _)| it.seconds > 0) {
        let slot = source.slots(hour.begin, end, now)?;
        let longest = slot.down.iter().filter(|(_, it)| it.ms > 0).max_by_key(|(_, it)| it.ms);
        hour.failed = slot.failed;
        hour.cause = longest.map(|(cause, _)| cause.clone());
        // Hindrances that overlap count each for itself, but an hour has no more than its minutes.
        let sum = slot.down.values().map(|it| it.ms).sum::<u64>();
        hour.down_ms = sum.min(hour.seconds * 1000);
    }
    Ok(())
}

/// Adds to the slots from `begin` up to `end`, of which `now` is the newest instant, what AWS was called for and is
/// not journaled yet.
///
/// The daemon says that before the journal is read, so that it may have been journaled in between: by since when
/// it was counted it is told whether it is in the slots already. A line begins to count anew after each
/// record of it, with a later time; where the clock was set back meanwhile, it is left out until it is journaled.
pub(super) fn take_live(
    source: &dyn Source,
    slots: &mut Slot,
    called: &Called,
    (begin, end, now): (Timestamp, Timestamp, Timestamp),
) -> Result<(), JournalError> {
    let (number, news) = slot::of_calls(called, Slot::default());
    let (first, next) = (slot::begin(number), slot::begin(number.saturating_add(1)));
    if !(begin..end).contains(&first) {
        return Ok(());
    }
    let is_newer = |it: &Slot| it.calls_since < news.calls_since;
    if is_newer(slots) {
        slots.add(&news);
    }
    // The busiest five minutes may be those, with what is journaled of them and what is not.
    let mut own = source.slots(first, next, now)?;
    if is_newer(&own) {
        own.add(&news);
    }
    for (operation, it) in &own.calls {
        if let Some(calls) = slots.calls.get_mut(operation) {
            calls.most = calls.most.max(it.count.calls);
        }
    }
    Ok(())
}

/// What people have ordered the station to do all the same, the first of it.
pub(super) fn overrides(slot: &Slot) -> Vec<Override> {
    let row = |it: &super::slot::Said| Override {
        at: it.at,
        what: it.what.clone(),
        who: it.by.name.clone(),
        why: it.by.reason.clone(),
    };
    slot.said.iter().map(row).collect()
}

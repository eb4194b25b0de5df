//! Rows that follow from what was counted by time: downtime, what the hours lost, what people ordered.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::model::{Downtime, FailureRow, Hour, Outside, Override};
use super::selection::Selection;
use super::slot::{self, Down, Slot};
use super::source::Source;
use super::summary::Fails;
use crate::device::serial::SerialNumber;
use crate::fixture::FailCode;
use crate::fixture::text::Messages;
use crate::journal::{Called, JournalError};
use crate::shift::Calendar;
use jiff::Timestamp;

/// Serial numbers that are named with a reason.
const NAMED: usize = 5;

/// Failures of one code.
#[derive(Default)]
struct Failing {
    failures: u64,
    devices: u64,
    /// The first of them.
    serials: Vec<String>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// Failures, or deferrals, by code.
#[derive(Default)]
pub(super) struct Reasons(BTreeMap<FailCode, Failing>);

impl Reasons {
    /// Those of one more device.
    pub(super) fn take(&mut self, serial: &SerialNumber, all: &[Fails]) {
        for fails in all {
            let row = self.0.entry(fails.code).or_default();
            row.failures += u64::from(fails.times);
            row.devices += 1;
            row.first = Some(row.first.map_or(fails.first, |first| first.min(fails.first)));
            row.last = row.last.max(Some(fails.last));
            if row.serials.len() < NAMED {
                row.serials.push(serial.to_string());
            }
        }
    }

    /// How many there are.
    pub(super) fn sum(&self) -> u64 {
        self.0.values().map(|it| it.failures).sum()
    }

    /// The most frequent reason first.
    pub(super) fn rows(&self) -> Vec<FailureRow> {
        let mut rows: Vec<_> = self.0.iter().collect();
        rows.sort_by_key(|(code, it)| (std::cmp::Reverse(it.failures), **code));
        let all = self.sum();
        let mut so_far = 0;
        let share = |part: u64| (part * 10_000).checked_div(all).unwrap_or(0);
        let row = |(code, it): (&FailCode, &Failing)| {
            so_far += it.failures;
            FailureRow {
                code: code.to_string(),
                failures: it.failures,
                devices: it.devices,
                share: share(it.failures),
                cumulative: share(so_far),
                serials: it.serials.clone(),
                first: it.first,
                last: it.last,
                remedy: Messages::default().fail(*code, ""),
            }
        };
        rows.into_iter().map(row).collect()
    }
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

/// Devices that came after the shift before and outside every one: no other report tells of them.
pub(super) fn outside(
    source: &dyn Source,
    selection: &Selection,
    calendar: &Calendar,
) -> Result<Option<Outside>, JournalError> {
    let Selection::Shift(span) = selection else { return Ok(None) };
    let Some(since) = calendar.ended_by(span.begin).next().map(|it| it.end) else { return Ok(None) };
    let mut devices = 0;
    source.summaries(since, span.begin, &mut |it| {
        devices += u64::from(it.was_presented() && calendar.at(it.first).is_none());
        ControlFlow::Continue(())
    })?;
    Ok((devices > 0).then_some(Outside { since, devices }))
}

/// What each hour lost, and to what for the longest; the first has what is counted from `counted` on, and the last up
/// to `end`.
pub(super) fn losses(
    source: &dyn Source,
    hours: &mut [Hour],
    (counted, end, now): (Timestamp, Timestamp, Timestamp),
) -> Result<(), JournalError> {
    let ends: Vec<_> = hours.iter().skip(1).map(|it| it.begin).chain([end]).collect();
    let begins: Vec<_> = [counted].into_iter().chain(hours.iter().skip(1).map(|it| it.begin)).collect();
    for (hour, (begin, end)) in hours.iter_mut().zip(begins.into_iter().zip(ends)) {
        let slot = source.slots(begin, end, now)?;
        let longest = slot.down.iter().filter(|(_, it)| it.ms > 0).max_by_key(|(_, it)| it.ms);
        (hour.failed, hour.deferred) = (slot.failed, slot.deferred);
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

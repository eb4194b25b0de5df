//! A report's time, and its hours or days, on the clock of the wall.

use std::collections::BTreeMap;

use jiff::{Timestamp, Zoned};

use super::fold::Context;
use super::model::{Hour, Span};
use super::selection::Selection;

/// Longer than this it is told by the day.
const BY_THE_HOUR_MINUTES: i64 = 2 * 24 * 60 + 120;

/// Hours or days that are told at most.
const MAX_ROWS: usize = 400;

/// What the selection is, for the header.
pub(super) fn span(selection: &Selection, begin: Timestamp, end: Timestamp, context: &Context) -> Span {
    let calendar = &context.calendar;
    let local =
        |at: Timestamp| at.to_zoned(calendar.timezone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string();
    let extra_minutes = match selection {
        Selection::Shift(it) => it.extra_minutes,
        Selection::Time { .. } | Selection::Batch(_) => 0,
    };
    let mut odd_days = BTreeMap::new();
    let days = std::iter::successors(Some(calendar.day_of(begin)), |it| it.tomorrow().ok()).take(MAX_ROWS);
    for day in days.take_while(|it| *it <= calendar.day_of(end)) {
        odd_days.extend(calendar.odd_hours(day).map(|hours| (day.to_string(), hours)));
    }
    Span {
        kind: selection.kind().to_owned(),
        name: selection.name(),
        timezone: calendar.timezone.iana_name().unwrap_or("UTC").to_owned(),
        begin,
        end,
        begin_local: local(begin),
        end_local: local(end),
        minutes: (end.as_second() - begin.as_second()) / 60,
        extra_minutes,
        odd_days,
        over: end <= context.now,
    }
}

/// The hours of a time, or its days.
pub(super) fn hours(begin: Timestamp, end: Timestamp, context: &Context) -> Vec<Hour> {
    let by_hour = (end.as_second() - begin.as_second()) / 60 <= BY_THE_HOUR_MINUTES;
    let zoned = |at: Timestamp| at.to_zoned(context.calendar.timezone.clone());
    let mut rows: Vec<Hour> = Vec::new();
    let mut at = begin;
    while at < end && rows.len() < MAX_ROWS {
        let here = zoned(at);
        let next = if by_hour { next_hour(&here) } else { next_day(&here) }.min(end);
        if next <= at {
            break;
        }
        let over = next.min(context.now.max(at));
        let label = here.strftime(if by_hour { "%H:%M" } else { "%Y-%m-%d" }).to_string();
        // An hour that comes twice in a night is told apart by its offset.
        let label = match rows.last_mut().filter(|it| by_hour && it.label == label) {
            Some(before) => {
                before.label = zoned(before.begin).strftime("%H:%M %:z").to_string();
                here.strftime("%H:%M %:z").to_string()
            }
            None => label,
        };
        let seconds = u64::try_from(over.as_second() - at.as_second()).unwrap_or(0);
        rows.push(Hour {
            begin: at,
            label,
            seconds,
            presented: 0,
            passed: 0,
            target: None,
            failed: 0,
            deferred: 0,
            down_ms: 0,
            cause: None,
        });
        at = next;
    }
    rows
}

/// The next full hour on the wall; offsets that are no full hours make it the wall's all the same.
fn next_hour(here: &Zoned) -> Timestamp {
    let past = i64::from(here.minute()) * 60 + i64::from(here.second());
    let second = here.timestamp().as_second() + 3600 - past;
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

fn next_day(here: &Zoned) -> Timestamp {
    let next = here.tomorrow().and_then(|it| it.start_of_day());
    next.map_or(Timestamp::MAX, |it| it.timestamp())
}

/// The row that a time lies in; the time is none before the first.
pub(super) fn hour_of(hours: &mut [Hour], at: Timestamp) -> Option<&mut Hour> {
    let number = hours.partition_point(|it| it.begin <= at);
    hours.get_mut(number.checked_sub(1)?)
}

//! What AWS was called for: journaled every five minutes, and told by the daemon up to then.

use std::cell::Cell;

use super::super::fold::make;
use super::super::model::OperationRow;
use super::super::selection::Selection;
use super::*;
use crate::journal::{CallCount, Called};

fn called(since: &str, calls: u64) -> Called {
    let count = CallCount { calls, throttled: 1, errors: 0, bound_ms: 10 };
    let operations = BTreeMap::from([("create-thing".to_owned(), count)]);
    Called { since: at(since), busy_ms: 100, operations, learned: BTreeMap::new() }
}

fn journaled(calls: &[(&str, Called)]) -> History {
    let mut history = History::default();
    for (now, called) in calls {
        history.station(at(now), StationEvent::Called(Box::new(called.clone())));
    }
    history
}

/// The row of the report of that morning, and how long devices waited.
fn row(source: &dyn Source, live: Option<Called>, shift: &str) -> Option<(OperationRow, u64)> {
    let mut context = context(at("2026-11-20T13:10:00Z"));
    context.live.calls = live;
    let shift = context.calendar.named(shift).unwrap();
    let report = make(source, &Selection::Shift(shift), &context, None).unwrap();
    report.quota.map(|it| (it.operations[0].clone(), it.busy_ms))
}

const EARLY: &str = "2026-11-20/early";

#[test]
fn what_is_journaled_while_a_report_is_made_is_counted_once() {
    // The daemon was stopped and started within the five minutes from 11:00 on: they have two parts.
    let first = ("2026-11-20T11:02:00Z", called("2026-11-20T11:00:10Z", 10));
    let live = called("2026-11-20T11:03:00Z", 20);
    let busiest_else = ("2026-11-20T08:05:01Z", called("2026-11-20T08:00:00Z", 25));
    let second = ("2026-11-20T11:05:00Z", live.clone());
    let before = journaled(&[busiest_else.clone(), first.clone()]);
    let after = journaled(&[busiest_else, first, second]);
    for reads in 0..=20 {
        let racing = Coming { slots_then: Cell::new(reads), ..Coming::new(&before, &before, &after) };
        let (row, busy_ms) = row(&racing, Some(live.clone()), EARLY).unwrap();
        assert_eq!((row.calls, row.throttled, busy_ms), (55, 3, 300), "{reads} reads before");
        // 30 in 300 s: the two parts together, and more than the 25 before.
        assert_eq!(row.peak_milli, 100, "{reads} reads before");
    }
    assert_eq!(row(&after, None, EARLY).map(|it| (it.0.calls, it.0.peak_milli)), Some((55, 100)));
}

#[test]
fn what_is_not_journaled_yet_is_of_its_own_five_minutes_and_shift() {
    let live = called("2026-11-20T11:03:00Z", 20);
    let others = journaled(&[("2026-11-20T08:05:01Z", called("2026-11-20T08:00:00Z", 25))]);
    assert_eq!(
        row(&others, Some(live.clone()), EARLY).map(|it| (it.0.calls, it.0.peak_milli)),
        Some((45, 84))
    );
    assert_eq!(row(&History::default(), Some(live.clone()), EARLY).map(|it| it.0.calls), Some(20));
    assert_eq!(row(&others, Some(live), "2026-11-19/late"), None);
}

#[test]
fn rows_of_before_do_not_say_since_when_they_count() {
    let (_, slot) = slot::of_calls(&called("2026-11-20T11:03:00Z", 20), Slot::default());
    assert_eq!(slot.calls_since, Some(at("2026-11-20T11:03:00Z")));
    let mut row = serde_json::to_value(&slot).unwrap();
    assert_eq!(serde_json::from_value::<Slot>(row.clone()).unwrap(), slot);
    row.as_object_mut().unwrap().remove("calls_since").unwrap();
    let old: Slot = serde_json::from_value(row).unwrap();
    assert_eq!((old.calls_since, old.calls), (None, slot.calls));
    let empty = serde_json::to_value(Slot::default()).unwrap();
    assert_eq!(empty, serde_json::json!({ "seq": 0 }));
}

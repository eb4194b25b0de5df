//! Which of AWS's limits a shift came near to, and how many more such stations they would carry.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::model::{OperationRow, Quota};
use super::slot::{Calls, SECONDS, Slot};
use crate::cloud::Operation;

/// The rates that are configured, thousandths of a call a second, by operation in kebab case. What is not
/// among them is unlimited.
pub type Limits = BTreeMap<String, u64>;

/// The limit that all calls share which register a certificate.
pub const CERTIFICATES: &str = "device-certificates";

/// What was called of AWS in a time of `ms` milliseconds from `since` on; none if nothing was.
pub(super) fn quota(slot: &Slot, (since, ms): (Timestamp, u64), limits: &Limits) -> Option<Quota> {
    let registers = |name: &str| name.parse().is_ok_and(Operation::registers_certificate);
    let mut calls = slot.calls.clone();
    let mut shared = Calls::default();
    for it in slot.calls.iter().filter(|(name, _)| registers(name)).map(|(_, it)| it) {
        shared.count.add(&it.count);
        shared.most += it.most;
    }
    if shared.count.calls > 0 && limits.contains_key(CERTIFICATES) {
        calls.insert(CERTIFICATES.to_owned(), shared);
    }
    let share = |part: u64| (part * 10_000).checked_div(ms).unwrap_or(0).min(10_000);
    let row = |(name, it): (&String, &Calls)| OperationRow {
        operation: name.clone(),
        limit_milli: limits.get(name).copied(),
        calls: it.count.calls,
        throttled: it.count.throttled,
        errors: it.count.errors,
        bound_share: share(it.count.bound_ms),
        // A slot has so many seconds; rounded up, so that what was called is never none.
        peak_milli: (it.most * 1000).div_ceil(SECONDS.unsigned_abs()),
    };
    let rows: Vec<_> = calls.iter().map(row).collect();
    let bound = calls.iter().max_by_key(|(_, it)| it.count.bound_ms).filter(|(_, it)| it.count.bound_ms > 0);
    let used = |it: &OperationRow| Some((it.peak_milli * 10_000).checked_div(it.limit_milli?).unwrap_or(0));
    let more = |it: &OperationRow| {
        let carried = (it.limit_milli? * 1000).checked_div(it.peak_milli)?;
        Some(carried.saturating_sub(1000))
    };
    let tightest = rows.iter().filter(|it| it.peak_milli > 0).max_by_key(|it| used(it));
    let tightest = tightest.and_then(|it| Some((it.operation.clone(), used(it)?, more(it))));
    (!rows.is_empty()).then(|| Quota {
        since: Some(since),
        binding: bound.map(|(name, _)| name.clone()),
        binding_share: bound.map_or(0, |(_, it)| share(it.count.bound_ms)),
        more_stations_milli: tightest.as_ref().and_then(|it| it.2),
        tightest_share: tightest.as_ref().map(|it| it.1),
        tightest: tightest.map(|it| it.0),
        busy_ms: slot.busy_ms,
        operations: rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::CallCount;

    fn calls(calls: u64, most: u64, bound_ms: u64) -> Calls {
        Calls { count: CallCount { calls, throttled: 1, errors: 0, bound_ms }, most }
    }

    #[test]
    fn the_limit_that_the_busiest_minutes_came_nearest_to_says_how_many_more_stations_fit() {
        let slot = Slot {
            calls: BTreeMap::from([
                ("create-policy".to_owned(), calls(3_000, 600, 5_000)),
                ("create-thing".to_owned(), calls(3_000, 600, 0)),
                ("register-certificate".to_owned(), calls(1_000, 900, 9_000)),
                ("register-certificate-without-ca".to_owned(), calls(2_000, 900, 0)),
            ]),
            busy_ms: 77,
            ..Slot::default()
        };
        let limits = Limits::from([
            ("create-policy".to_owned(), 10_000),
            ("create-thing".to_owned(), 50_000),
            (CERTIFICATES.to_owned(), 15_000),
        ]);
        let it = quota(&slot, (Timestamp::UNIX_EPOCH, 90_000), &limits).unwrap();
        assert_eq!(it.operations.len(), 5);
        assert_eq!(it.operations[0].peak_milli, 2_000);
        // 1,800 in 300 s are 6 of 15 a second; 2 of 10 and 2 of 50 are less.
        assert_eq!((it.tightest.as_deref(), it.tightest_share), (Some(CERTIFICATES), Some(4_000)));
        assert_eq!(it.more_stations_milli, Some(1_500));
        assert_eq!((it.binding.as_deref(), it.binding_share), (Some("register-certificate"), 1_000));
        assert_eq!(it.busy_ms, 77);
        assert!(quota(&Slot::default(), (Timestamp::UNIX_EPOCH, 1), &limits).is_none());
        let unlimited = quota(&slot, (Timestamp::UNIX_EPOCH, 0), &Limits::new()).unwrap();
        assert_eq!((unlimited.tightest, unlimited.more_stations_milli), (None, None));
    }
}

//! Which of AWS's limits a shift came near to, and how many more such stations they would carry.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::model::{OperationRow, Quota};
use super::slot::{Calls, SECONDS, Slot};
use crate::cloud::{ACCOUNT, DEVICE_CERTIFICATES, Operation};

/// The rates that are configured, thousandths of a call a second, by operation in kebab case. What is not
/// among them is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// What this station may call.
    pub station: BTreeMap<String, u64>,
    /// What the whole account may, where the station's is a share of it.
    pub account: BTreeMap<String, u64>,
}

impl Limits {
    /// The account's rate of that name; the station's own where it is all of it.
    fn of_account(&self, name: &str) -> Option<u64> {
        self.account.get(name).or_else(|| self.station.get(name)).copied()
    }
}

impl<const N: usize> From<[(String, u64); N]> for Limits {
    /// The whole account is the station's.
    fn from(rates: [(String, u64); N]) -> Self {
        Self { station: rates.into(), account: BTreeMap::new() }
    }
}

/// The limit that all calls share which register a certificate.
pub const CERTIFICATES: &str = DEVICE_CERTIFICATES;

/// What was called of AWS in a time of `ms` milliseconds from `since` on; none if nothing was.
pub(super) fn quota(slot: &Slot, (since, ms): (Timestamp, u64), limits: &Limits) -> Option<Quota> {
    let calls = with_shared(slot, limits);
    let share = |part: u64| (part * 10_000).checked_div(ms).unwrap_or(0).min(10_000);
    let row = |(name, it): (&String, &Calls)| OperationRow {
        operation: name.clone(),
        limit_milli: limits.station.get(name).copied(),
        learned_milli: learned(slot, name, it),
        calls: it.count.calls,
        throttled: it.count.throttled,
        errors: it.count.errors,
        bound_share: share(it.count.bound_ms),
        bound_ms: Some(it.count.bound_ms),
        // A slot has so many seconds; rounded up, so that what was called is never none.
        peak_milli: (it.most * 1000).div_ceil(SECONDS.unsigned_abs()),
    };
    let rows: Vec<_> = calls.iter().map(row).collect();
    // While the account holds calls back, they wait for their operation's turn too: that is not its limit's doing. Only
    // sums are known, so where it did so for a lesser part of the time, nothing is taken off the operations'.
    let ruled = |it: &&Calls| learned(slot, ACCOUNT, it).is_some();
    let accounts = calls.get(ACCOUNT).filter(ruled).map_or(0, |it| it.count.bound_ms);
    let by_itself = |(name, it): &(&String, &Calls)| match name.as_str() {
        ACCOUNT => it.count.bound_ms,
        _ => it.count.bound_ms.saturating_sub(accounts),
    };
    let bound = calls.iter().max_by_key(by_itself).filter(|(_, it)| it.count.bound_ms > 0);
    let tightest = rows.iter().filter(|it| it.peak_milli > 0).max_by_key(|it| used(it));
    let tightest = tightest.and_then(|it| Some((it.operation.clone(), used(it)?, more(it, limits))));
    (!rows.is_empty()).then(|| Quota {
        since: Some(since),
        binding: bound.map(|(name, _)| name.clone()),
        binding_share: bound.map_or(0, |(_, it)| share(it.count.bound_ms)),
        more_stations_milli: tightest.as_ref().and_then(|it| it.2),
        tightest_share: tightest.as_ref().map(|it| it.1),
        tightest: tightest.map(|it| it.0),
        busy_ms: slot.busy_ms,
        binding_ms: bound.map(|(_, it)| it.count.bound_ms),
        operations: rows,
    })
}

/// What was called under each limit: operations, and what they share.
fn with_shared(slot: &Slot, limits: &Limits) -> BTreeMap<String, Calls> {
    let registers = |name: &str| name.parse().is_ok_and(Operation::registers_certificate);
    let mut calls = slot.calls.clone();
    let (mut certificates, mut account) = (Calls::default(), Calls::default());
    for (name, it) in &slot.calls {
        for sum in [Some(&mut account), registers(name).then_some(&mut certificates)].into_iter().flatten() {
            sum.count.add(&it.count);
            sum.most += it.most;
        }
    }
    if certificates.count.calls > 0 && limits.station.contains_key(CERTIFICATES) {
        calls.insert(CERTIFICATES.to_owned(), certificates);
    }
    if let Some(learned) = slot.learned.get(ACCOUNT) {
        account.count.bound_ms = learned.bound_ms;
        calls.insert(ACCOUNT.to_owned(), account);
    }
    calls
}

/// What AWS was found to allow, if for most of the time that calls waited it gave less than is configured.
fn learned(slot: &Slot, name: &str, it: &Calls) -> Option<u64> {
    let learned = slot.learned.get(name)?;
    let waited = match name {
        // Its own row has only the time in which it gave less: what calls waited is the operations'.
        ACCOUNT => slot.calls.values().map(|it| it.count.bound_ms).max().unwrap_or(0),
        _ => it.count.bound_ms,
    };
    (learned.bound_ms * 2 >= waited).then_some(learned.limit_milli)
}

/// The part of the limit that was used in the busiest five minutes, ten-thousandths.
fn used(it: &OperationRow) -> Option<u64> {
    let used = |limit: u64| (it.peak_milli * 10_000).checked_div(limit).unwrap_or(0);
    match it.learned_milli {
        // It need not have been as low in those.
        Some(learned) => Some(used(learned).min(10_000)),
        None => it.limit_milli.map(used),
    }
}

/// The stations that it would carry besides, thousandths. What AWS refuses this one it has not for another.
fn more(it: &OperationRow, limits: &Limits) -> Option<u64> {
    if it.learned_milli.is_some() {
        return Some(0);
    }
    let carried = (limits.of_account(&it.operation)? * 1000).checked_div(it.peak_milli)?;
    Some(carried.saturating_sub(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{CallCount, LearnedLimit};

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
        let unlimited = quota(&slot, (Timestamp::UNIX_EPOCH, 0), &Limits::default()).unwrap();
        assert_eq!((unlimited.tightest, unlimited.more_stations_milli), (None, None));
    }

    #[test]
    fn what_is_left_is_left_of_the_account_and_not_of_the_stations_share() {
        let slot = Slot {
            calls: BTreeMap::from([("create-policy".to_owned(), calls(1_500, 1_500, 60_000))]),
            ..Slot::default()
        };
        let rate = |milli| BTreeMap::from([("create-policy".to_owned(), milli)]);
        let limits = Limits { station: rate(5_000), account: rate(10_000) };
        let it = quota(&slot, (Timestamp::UNIX_EPOCH, 300_000), &limits).unwrap();
        // Five a second are all of this station's, and half of the account's.
        assert_eq!((it.operations[0].limit_milli, it.tightest_share), (Some(5_000), Some(10_000)));
        assert_eq!(it.more_stations_milli, Some(1_000));
    }

    #[test]
    fn a_limit_over_the_whole_account_is_named_and_carries_no_other_station() {
        let ops = ["create-policy", "create-thing", "register-certificate-without-ca"];
        let mut slot = Slot {
            calls: ops.map(|it| (it.to_owned(), calls(750, 750, 60_000))).into(),
            learned: BTreeMap::from([(
                ACCOUNT.to_owned(),
                LearnedLimit { bound_ms: 55_000, limit_milli: 7_600 },
            )]),
            ..Slot::default()
        };
        let limits = Limits::from(ops.map(|it| (it.to_owned(), 10_000)));
        let it = quota(&slot, (Timestamp::UNIX_EPOCH, 300_000), &limits).unwrap();
        let account = it.operations.iter().find(|it| it.operation == ACCOUNT).unwrap();
        assert_eq!((account.limit_milli, account.learned_milli), (None, Some(7_600)));
        assert_eq!((account.calls, account.throttled, account.peak_milli), (2_250, 3, 7_500));
        assert_eq!((it.binding.as_deref(), it.binding_share), (Some(ACCOUNT), 1_833));
        assert_eq!((it.binding_ms, account.bound_ms), (Some(55_000), Some(55_000)));
        assert_eq!((it.tightest.as_deref(), it.tightest_share), (Some(ACCOUNT), Some(9_868)));
        assert_eq!(it.more_stations_milli, Some(0), "and not the 3 that the quotas would carry");
        // A short while of it does not take the binding from an operation that waited for its own limit.
        slot.learned.get_mut(ACCOUNT).unwrap().bound_ms = 4_000;
        let it = quota(&slot, (Timestamp::UNIX_EPOCH, 300_000), &limits).unwrap();
        assert_eq!(it.binding.as_deref(), Some("register-certificate-without-ca"));
        let account = it.operations.iter().find(|it| it.operation == ACCOUNT).unwrap();
        assert_eq!((account.learned_milli, account.bound_share), (None, 133), "it is told, and not believed");
        assert_eq!((it.tightest.as_deref(), it.tightest_share), (Some(ops[2]), Some(2_500)));
        assert_eq!(it.more_stations_milli, Some(3_000), "as many as the quotas carry");
    }

    #[test]
    fn an_operations_own_limit_that_gives_less_than_is_configured_carries_no_other_station() {
        let learned = |bound_ms| {
            let learned = LearnedLimit { bound_ms, limit_milli: 5_500 };
            let slot = Slot {
                calls: BTreeMap::from([("create-policy".to_owned(), calls(1_500, 1_500, 60_000))]),
                learned: BTreeMap::from([("create-policy".to_owned(), learned)]),
                ..Slot::default()
            };
            let limits = Limits::from([("create-policy".to_owned(), 10_000)]);
            let it = quota(&slot, (Timestamp::UNIX_EPOCH, 300_000), &limits).unwrap();
            (it.operations[0].learned_milli, it.tightest_share, it.more_stations_milli)
        };
        assert_eq!(learned(40_000), (Some(5_500), Some(9_090), Some(0)));
        assert_eq!(learned(20_000), (None, Some(5_000), Some(1_000)), "for the lesser part of the time");
    }
}

//! The checker against the simulated fixture, in a time of its own: as it is, and with one thing wrong.

mod crooked;
mod wrong;

use std::time::Duration;

use self::crooked::Fixture;
use super::*;

/// Between what one end says and what the other hears.
const CABLE: Duration = Duration::from_millis(2);

/// No check takes so long.
const LIMIT: Duration = Duration::from_secs(1_800);

/// Runs a check to its end; the report, and how long it took for those who were there.
fn checked(mut fixture: Fixture, options: CheckOptions) -> (Report, Duration) {
    let mut check = Conformance::new(options).unwrap();
    let mut now = Duration::from_secs(50);
    let begin = now;
    check.on_time(now);
    while !check.is_done() {
        assert!(now - begin < LIMIT, "the check does not end");
        while check.next_note().is_some_and(|it| it.starts_with("now reset the fixture")) {
            fixture.lose_power();
        }
        while let Some(bytes) = check.output() {
            now += CABLE;
            check.flushed(now);
            fixture.receive(&bytes, now);
        }
        let said = fixture.said(now);
        if !said.is_empty() {
            now += CABLE;
            check.on_bytes(&said, now);
            continue;
        }
        // What is due next, here or there.
        let next = [check.wake_at(), fixture.wake_at()].into_iter().flatten().min();
        now = next.unwrap_or(now + CABLE).max(now + Duration::from_micros(1));
        check.on_time(now);
    }
    (check.report(), now - begin)
}

fn of(report: &Report, status: Verdict) -> Vec<&'static str> {
    report.checks.iter().filter(|it| it.status == status).map(|it| it.id).collect()
}

fn told(report: &Report) -> String {
    let lines = report.checks.iter().map(|it| format!("{:?} {}: {}", it.status, it.id, it.seen));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_simulated_fixture_keeps_every_rule() {
    let pattern = Regex::new("^SN[0-9]+$").unwrap();
    for device_key in [false, true] {
        let options = CheckOptions {
            name: Some("nest-1".into()),
            serial: Some(pattern.clone()),
            device_key: Some(device_key),
            reset: true,
            ..CheckOptions::default()
        };
        let (report, took) = checked(Fixture::with_keys(12, device_key), options);
        assert_eq!(of(&report, Verdict::Failed), [""; 0], "{}", told(&report));
        assert_eq!(of(&report, Verdict::Skipped), [""; 0], "{}", told(&report));
        assert_eq!(report.checks.len(), RULES.len());
        assert_eq!(report.fixture.as_deref(), Some("nest-1"));
        assert!(took < Duration::from_secs(240), "{took:?}");
    }
}

#[test]
fn one_nest_is_enough_and_what_it_cannot_show_is_skipped() {
    let (report, _) = checked(Fixture::with_nests(8, 1), CheckOptions::default());
    assert_eq!(of(&report, Verdict::Failed), [""; 0], "{}", told(&report));
    assert_eq!(of(&report, Verdict::Skipped), ["boot-differs-after-reset", "nests-independent"]);
}

#[test]
fn an_empty_fixture_is_told_and_everything_ends() {
    let options = CheckOptions { patience: Duration::from_secs(20), ..CheckOptions::default() };
    let (report, took) = checked(Fixture::with_nests(0, 4), options);
    assert_eq!(of(&report, Verdict::Failed), ["unit-presented"], "{}", told(&report));
    assert!(took < Duration::from_secs(120), "{took:?}");
}

#[test]
fn nobody_there_is_told() {
    let mut check = Conformance::new(CheckOptions::default()).unwrap();
    let mut now = Duration::ZERO;
    check.on_time(now);
    while !check.is_done() {
        while check.output().is_some() {
            check.flushed(now);
        }
        now = check.wake_at().unwrap_or(now);
        check.on_time(now);
        assert!(now < LIMIT);
    }
    let report = check.report();
    assert_eq!(of(&report, Verdict::Failed), ["hello-answered"]);
    assert!(report.checks[0].seen.starts_with("nothing came"), "{}", report.checks[0].seen);
    assert!(!report.is_sound());
}

#[test]
fn rules_have_ids_of_their_own_and_say_what_they_demand() {
    let mut ids: Vec<_> = RULES.iter().map(|it| it.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), RULES.len());
    assert!(RULES.iter().all(|it| it.demand.ends_with('.')));
}

//! Three recorded shifts: the night in which the clocks are set back, a morning with an outage, an afternoon of
//! rework. Each is told as the records of a station would tell it.

use super::super::cloud::hold_against;
use super::super::fold::{Context, make};
use super::super::model::Report;
use super::super::render::text;
use super::super::selection::Selection;
use super::*;
use crate::batch::BatchId;
use crate::journal::{CallCount, Called, Cause};
use crate::reconcile::newest::Look;
use crate::reconcile::{Class, Finding, Summary};

/// A night of nine hours: a device every ten minutes, one in nine of which has to be presented again.
pub(crate) fn clocks_set_back() -> (History, Report) {
    let mut history = History::default();
    let begin = at("2026-10-24T20:00:00Z");
    history
        .station(seconds(begin, -60), StationEvent::Started { version: "0.1.0".into(), config: "c".into() });
    // From the shift before: it passes in this one.
    let early = serial("TH000999");
    history.device(seconds(begin, -30), &early, Event::Admitted(Box::new(admission(None, "nest-1", 999))));
    history.make(seconds(begin, -30), &early, 20);
    history.fail(
        seconds(begin, -5),
        &early,
        FailCode::Removed,
        "Put the unit back and present it once more.",
    );
    history.present(seconds(begin, 100), &early, 1_999);
    history.pass(seconds(begin, 101), &early, 4);
    for number in 0..54_u64 {
        let now = seconds(begin, number as i64 * 600 + 7);
        let serial = serial(&format!("TH{:06}", 1_000 + number));
        // Twice at half past two: the two lie an hour apart.
        if let Some(batch) = [(27, "WO-4709"), (33, "WO-4710")].into_iter().find(|it| it.0 == number) {
            let (batch, by) = (BatchId::parse(batch.1).unwrap(), operator("two more were asked for"));
            history.station(seconds(now, -7), StationEvent::BatchReopened { batch, by });
        }
        history.device(now, &serial, Event::Admitted(Box::new(admission(None, nest(number), number + 1))));
        history.make(now, &serial, 6 + (number % 5) as i64);
        history.waited = Waited { cloud: 8_000 + number * 31, quota: 300, journal: 48 };
        let offered = seconds(now, 12);
        calls(&mut history, offered, 0);
        if number % 9 == 4 {
            history.fail(
                offered,
                &serial,
                FailCode::WriteFailed,
                "Seat the unit again and present it once more.",
            );
            history.present(seconds(offered, 45), &serial, 2_000 + number);
            history.pass(seconds(offered, 46), &serial, 5);
        } else {
            history.pass(offered, &serial, 3);
        }
    }
    let report = report(&history, "2026-10-24/night", "2026-10-25T05:10:00Z", |_| {});
    (history, report)
}

fn nest(number: u64) -> &'static str {
    if number.is_multiple_of(3) { "nest-2" } else { "nest-1" }
}

/// A morning in which AWS is not reached for fifty minutes, the line is stopped for ten, and a fixture is away.
pub(crate) fn outage() -> (History, Report) {
    let mut history = History::default();
    let begin = at("2026-11-20T05:00:00Z");
    for number in 0..96_u64 {
        let now = seconds(begin, number as i64 * 300 + 11);
        let serial = serial(&format!("TH{:06}", 5_000 + number));
        calls(&mut history, seconds(begin, number as i64 * 300 + 2), number);
        trouble(&mut history, begin, number);
        if (24..34).contains(&number) {
            wait_for_the_cloud(&mut history, now, &serial, number, begin);
        } else if number < 94 {
            history.device(
                now,
                &serial,
                Event::Admitted(Box::new(admission(Some("WO-4711"), nest(number), number + 1))),
            );
            history.make(now, &serial, 8);
            let quota = if (34..40).contains(&number) { 2_600 } else { 40 };
            history.waited = Waited { cloud: 5_200, quota, journal: 35 };
            history.pass(seconds(now, 9), &serial, 3);
        } else {
            history.device(
                now,
                &serial,
                Event::Admitted(Box::new(admission(Some("WO-4711"), nest(number), number + 1))),
            );
        }
    }
    let report = report(&history, "2026-11-20/early", "2026-11-20T13:10:00Z", |context| {
        let handover = &mut context.live.handover;
        handover.state = Some("ready".to_owned());
        handover.backlog = Some(2);
        handover.oldest_s = Some(889);
    });
    (history, report)
}

/// What keeps the station from its work, as it comes and goes.
fn trouble(history: &mut History, begin: Timestamp, number: u64) {
    let now = seconds(begin, number as i64 * 300 + 5);
    let event = match number {
        23 => StationEvent::Hindered {
            cause: Cause::Offline,
            of: Some("iot".into()),
            since: seconds(now, -5),
            message: "AWS IoT does not answer".into(),
        },
        33 => StationEvent::Unhindered { cause: Cause::Offline, of: Some("iot".into()) },
        34 => StationEvent::Hindered {
            cause: Cause::Throttled,
            of: None,
            since: seconds(now, -5),
            message: "AWS answers that it is called too often".into(),
        },
        35 => StationEvent::Unhindered { cause: Cause::Throttled, of: None },
        40 => StationEvent::ClockOverridden {
            message: "the clock is 40 minutes behind the time server".into(),
            by: operator("the time server is wrong, the clock on the wall is right"),
        },
        50 => StationEvent::LineStopped { message: "the credentials are refused".into() },
        52 => StationEvent::LineResumed,
        70 => StationEvent::Hindered {
            cause: Cause::FixtureAway,
            of: Some("nest-2".into()),
            since: seconds(now, -5),
            message: "fixture nest-2 is away".into(),
        },
        71 => StationEvent::Unhindered { cause: Cause::FixtureAway, of: Some("nest-2".into()) },
        _ => return,
    };
    history.station(now, event);
}

/// What AWS was called for in the five minutes before.
fn calls(history: &mut History, now: Timestamp, number: u64) {
    let (calls, throttled, errors, bound_ms) = match number {
        24..=33 => (6, 0, 6, 0),
        35 => (1_260, 48, 0, 95_000),
        _ => (1, 0, 0, 0),
    };
    let policies = CallCount { calls, throttled, errors, bound_ms };
    let others = CallCount { calls: calls.min(12), throttled: 0, errors, bound_ms: 0 };
    let operations = BTreeMap::from([
        ("create-policy".to_owned(), policies),
        ("create-thing".to_owned(), others),
        ("register-certificate-without-ca".to_owned(), others),
    ]);
    let called =
        Called { since: seconds(now, -300), busy_ms: 4_000 + bound_ms, operations, learned: BTreeMap::new() };
    history.station(now, StationEvent::Called(Box::new(called)));
}

/// It waits on the rack until the outage is over, and is presented again.
fn wait_for_the_cloud(
    history: &mut History,
    now: Timestamp,
    it: &SerialNumber,
    number: u64,
    begin: Timestamp,
) {
    history.device(now, it, Event::Admitted(Box::new(admission(Some("WO-4711"), nest(number), number + 1))));
    let presentation = history.devices[it].presentation.key.clone();
    let message = "Put the unit on the waiting rack; the cloud cannot be reached.".to_owned();
    let (code, waited) = (FailCode::Offline, Waited::default());
    history.device(seconds(now, 60), it, Event::Deferred { presentation, code, message, waited });
    let over = seconds(begin, 34 * 300 + number as i64 * 20);
    history.make(over, it, 8);
    history.present(seconds(over, 60), it, 4_000 + number);
    history.pass(seconds(over, 61), it, 3);
}

/// An afternoon in which devices come back, are released, renewed and scrapped.
pub(crate) fn rework() -> (History, Report) {
    let mut history = History::default();
    let begin = at("2026-11-21T13:00:00Z");
    for number in 0..40_u64 {
        let now = seconds(begin, number as i64 * 700 + 3);
        let serial = serial(&format!("TH{:06}", 7_000 + number));
        history.device(
            now,
            &serial,
            Event::Admitted(Box::new(admission(Some("WO-4712"), nest(number), number + 1))),
        );
        history.make(now, &serial, 7);
        calls(&mut history, seconds(now, 7), 0);
        history.waited = Waited { cloud: 6_300, quota: 150, journal: 41 };
        rework_one(&mut history, seconds(now, 8), &serial, number);
    }
    let mut report = report(&history, "2026-11-21/late", "2026-11-21T21:10:00Z", |_| {});
    hold_against(&mut report, &look());
    (history, report)
}

/// What the account held when the report was made: somebody has deactivated a certificate.
fn look() -> Look {
    let finding = Finding {
        class: Class::Inactive,
        serial: Some("TH007011".to_owned()),
        resource: "certificate 5f0c4a".to_owned(),
        expected: "active".to_owned(),
        held: "INACTIVE".to_owned(),
        remedy: "find out who has deactivated it, and why".to_owned(),
        repair: None,
    };
    let findings = BTreeMap::from([(Class::Inactive, 1)]);
    let summary = Summary {
        selected: 40,
        compared: 39,
        in_flight: 1,
        listed: Some(214),
        findings,
        ..Summary::default()
    };
    Look { at: at("2026-11-21T21:09:20Z"), summary, findings: vec![finding], ..Look::default() }
}

fn rework_one(history: &mut History, now: Timestamp, it: &SerialNumber, number: u64) {
    let key = history.devices[it].presentation.key.clone();
    let code = FailCode::Mismatch;
    let message = "Stop: units may be swapped. <b>Put both aside</b> & call the line engineer.".to_owned();
    let quarantined =
        Event::Quarantined { presentation: Some(key), code, message, waited: Waited::default() };
    match number {
        5..=7 => history.device(now, it, quarantined),
        8 | 9 => {
            history.device(now, it, quarantined);
            let by = operator("labels were swapped, put right");
            history.device(seconds(now, 900), it, Event::Released { by });
            history.present(seconds(now, 930), it, 600 + number);
            history.pass(seconds(now, 931), it, 4);
        }
        14 => {
            let by = operator("fell from the bench");
            let scrap = Event::Scrapping {
                presentation: None,
                by,
                policy: None,
                message: "scrapped".into(),
                asked: false,
                managed_thing: false,
            };
            history.device(now, it, scrap);
        }
        20 => {
            for time in 0..4 {
                history.fail(
                    seconds(now, time * 40),
                    it,
                    FailCode::WriteFailed,
                    "Seat the unit again and present it once more.",
                );
                history.present(seconds(now, time * 40 + 30), it, 700 + u64::try_from(time).unwrap());
            }
            history.pass(seconds(now, 151), it, 4);
        }
        25 => history.fail(now, it, FailCode::Removed, "Put the unit back and present it once more."),
        30 | 31 => {
            history.pass(now, it, 3);
            history.device(
                seconds(now, 400),
                it,
                Event::Renewed(Box::new(admission(None, "nest-1", 800 + number))),
            );
            history.device(
                seconds(now, 403),
                it,
                Event::Issued { certificate: certificate(&format!("new {it}")) },
            );
            let output = Output::Certificate { arn: format!("arn:new:{it}") };
            let done = Event::StepDone { step: Step::Certificate, output, adopted: false, request_id: None };
            history.device(seconds(now, 404), it, done);
            history.pass(seconds(now, 410), it, 3);
        }
        35 => {
            history.pass(now, it, 3);
            for time in 1..4 {
                let again = Event::Repeated {
                    presentation: presentation("nest-1", 900 + time),
                    nest: None,
                    attributes: Default::default(),
                };
                history.device(seconds(now, 20 * i64::try_from(time).unwrap()), it, again);
            }
        }
        _ => history.pass(now, it, 3),
    }
}

fn report(history: &History, shift: &str, now: &str, set: impl FnOnce(&mut Context)) -> Report {
    let mut context = context(at(now));
    set(&mut context);
    let shift = context.calendar.named(shift).unwrap();
    make(history, &Selection::Shift(shift), &context, None).unwrap()
}

#[test]
fn the_night_in_which_the_clocks_are_set_back_has_nine_hours_and_says_so() {
    let (_, it) = clocks_set_back();
    assert_eq!((it.selection.minutes, it.selection.extra_minutes), (540, 60));
    assert_eq!(it.selection.odd_days["2026-10-25"], 25);
    let labels: Vec<_> = it.pace.hours.iter().map(|it| it.label.as_str()).collect();
    assert_eq!(
        labels,
        ["22:00", "23:00", "00:00", "01:00", "02:00 +02:00", "02:00 +01:00", "03:00", "04:00", "05:00"]
    );
    assert!(it.pace.hours.iter().all(|it| (it.presented, it.seconds, it.target) == (6, 3_600, Some(6))));
    let balance = &it.balance;
    assert_eq!(
        (balance.total, balance.first_pass, balance.after_retest, balance.from_earlier),
        (54, 48, 6, 1)
    );
    assert_eq!(it.times.devices, 54);
    assert_eq!((it.times.p50_ms, it.times.p99_ms), (Some(15_000), Some(15_000)));
    assert_eq!(it.times.operator_ms, 6 * 45_000);
    assert_eq!(it.yields.first_pass.share, Some(8_888));
    let page = text::render(&it);
    for told in ["02:30:00 +02:00 by ada: open batch WO-4709", "02:30:00 +01:00 by ada: open batch WO-4710"] {
        assert!(page.contains(&format!("    2026-10-25 {told} again")), "{page}");
    }
}

#[test]
fn times_with_day_and_offset_find_room() {
    let (_, mut it) = clocks_set_back();
    let (first, last) = (at("2026-10-25T00:10:00Z"), at("2026-10-25T01:10:00Z"));
    (it.failures[0].first, it.failures[0].last) = (Some(first), Some(last));
    (it.pace.longest_gap_ms, it.pace.longest_gap_at) = (3_600_000, Some(first));
    let page = text::render(&it);
    let column = format!("\n{}2026-10-25 02:10:00 +01:00\n", " ".repeat(58));
    assert!(page.contains("  2026-10-25 02:10:00 +02:00 -\n") && page.contains(&column), "{page}");
    let said = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("longest gap 1 h 0 min from 2026-10-25 02:10:00 +02:00 "), "{page}");
    assert!(page.lines().all(|it| it.chars().count() <= text::WIDTH) && !page.contains('…'), "{page}");
}

#[test]
fn an_outage_is_told_with_its_cause_and_where_the_time_went() {
    let (_, it) = outage();
    assert!(it.balance.closes);
    assert_eq!((it.balance.after_retest, it.balance.in_progress, it.balance.total), (10, 2, 96));
    let rows: Vec<_> =
        it.downtime.iter().map(|it| (it.cause.as_str(), it.of.as_deref(), it.times, it.ms)).collect();
    let expected = [
        ("offline", Some("iot"), 1, 3_005_000),
        ("line-stopped", None, 1, 600_000),
        ("fixture-away", Some("nest-2"), 1, 305_000),
        ("throttled", None, 1, 305_000),
    ];
    assert_eq!(rows, expected);
    let deferred = &it.deferrals[0];
    assert_eq!((it.failures.len(), deferred.code.as_str(), deferred.failures), (0, "offline", 10));
    let attempts = &it.yields.attempts;
    assert_eq!((attempts.part, attempts.whole), (94, 94), "who is deferred has not failed");
    assert!(it.times.operator_ms > it.times.making_ms, "they lay on the rack");
    assert_eq!(it.times.cloud_ms, Some(94 * 5_200));
    assert_eq!(it.pace.hours.iter().map(|it| (it.failed, it.deferred)).max(), Some((0, 10)));
    let lost: Vec<_> = it.pace.hours.iter().map(|it| (it.down_ms / 60_000, it.cause.as_deref())).collect();
    assert_eq!(lost[2], (50, Some("offline iot")), "{lost:?}");
    assert_eq!((lost[0], lost[4]), ((0, None), (10, Some("line-stopped"))));
    let quota = it.quota.as_ref().unwrap();
    assert_eq!((quota.tightest.as_deref(), quota.tightest_share), (Some("create-policy"), Some(4_200)));
    assert_eq!(quota.more_stations_milli, Some(1_380));
    assert_eq!(it.overrides[0].who, "ada");
    assert_eq!(it.batches["WO-4711"], 96);
}

#[test]
fn rework_is_told_by_device() {
    let (history, it) = rework();
    let balance = &it.balance;
    assert!(balance.closes);
    assert_eq!((balance.first_pass, balance.after_retest, balance.after_rework), (30, 1, 4));
    assert_eq!((balance.scrapped, balance.quarantined, balance.failed), (1, 3, 1));
    assert_eq!((balance.duplicates, balance.duplicated_devices), (3, 1));
    assert_eq!(it.exceptions.ordered.count, 3, "two releases and a scrap");
    assert_eq!(it.exceptions.often_retested.devices[0].why, "write-failed 4");
    assert_eq!(it.exceptions.scrapped.devices[0].why, "scrap by ada: fell from the bench");
    assert_eq!(it.yields.rework.part, 4);
    assert_eq!(it.yields.retest.part, 3, "two were released and presented once more, one was re-tested");
    let cloud = it.cloud.as_ref().unwrap();
    assert_eq!(
        cloud.headline(),
        "THE CLOUD DIFFERS: 39 devices held against the account, 1 finding (1 inactive)"
    );
    assert!(it.handover.actions.iter().any(|it| it.starts_with("THE CLOUD DIFFERS")));
    assert_eq!(it.certificates.issued, 42);
    // By the batch it is the same, and what is missing is told.
    let order = Order((0..41).map(|it| serial(&format!("TH{:06}", 7_000 + it))).collect());
    let of_batch =
        make(&history, &Selection::Batch("WO-4712".into()), &context(it.made_at), Some(&order)).unwrap();
    assert!(of_batch.balance.closes);
    assert_eq!((of_batch.balance.missing, of_batch.balance.good()), (1, balance.good()));
    assert_eq!(of_batch.exceptions.missing.devices[0].serial, "TH007040");
}

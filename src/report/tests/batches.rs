//! Orders while devices are coming, and what devices come into a batch late; certificates by who knows of them.

use super::super::fold::make;
use super::super::model::Report;
use super::super::selection::Selection;
use super::*;
use crate::journal::{CallCount, Called, Cause};

fn name(number: u64) -> SerialNumber {
    serial(&format!("D{number}"))
}

fn order() -> Order {
    Order((0..5).map(name).collect())
}

/// Devices 0 to 3 of the batch and device 4 of none; after that device 5, which was not ordered, and
/// device 1 before the others' time; at last device 4 comes into the batch.
fn history(moves: usize) -> History {
    let mut history = History::default();
    let mut begin = at("2026-11-20T08:00:00Z");
    let moves_of = [(0, true), (2, true), (4, false), (3, true), (5, true), (1, true)];
    for (number, batch) in moves_of.into_iter().take(moves) {
        begin = seconds(begin, 10);
        let batch = batch.then_some("WO-1");
        history.device(
            begin,
            &name(number),
            Event::Admitted(Box::new(admission(batch, "nest-1", number + 1))),
        );
    }
    if moves > 6 {
        let anew = Some(Box::new(admission(Some("WO-1"), "nest-1", 20)));
        let event = Event::Presented {
            presentation: presentation("nest-1", 20),
            nest: None,
            mac: None,
            anew,
            attributes: BTreeMap::new(),
        };
        history.device(seconds(begin, 10), &name(4), event);
    }
    history
}

fn of_batch(source: &dyn Source) -> Report {
    let context = context(at("2026-11-20T12:00:00Z"));
    make(source, &Selection::Batch("WO-1".to_owned()), &context, Some(&order())).unwrap()
}

#[test]
fn an_order_is_weighed_as_of_one_record_while_devices_are_coming() {
    for head in 1..=7 {
        let then = history(head);
        let quiet = of_batch(&then).balance;
        assert!(quiet.closes, "{}", quiet.headline());
        for passed_by in head..=7 {
            for now in passed_by..=7 {
                let (passed_by, now) = (&history(passed_by), &history(now));
                let balance = of_batch(&Coming::new(&then, passed_by, now)).balance;
                assert!(balance.closes, "{}", balance.headline());
                assert_eq!(balance.missing, quiet.missing, "what came later is missing yet");
                assert_eq!(balance.extras, quiet.extras);
            }
        }
    }
}

#[test]
fn a_device_that_comes_into_a_batch_later_is_counted_there() {
    let before = of_batch(&history(6));
    assert_eq!((before.balance.missing, before.batches["WO-1"]), (1, 4));
    let after = of_batch(&history(7));
    assert_eq!((after.balance.missing, after.batches["WO-1"], after.balance.extras), (0, 5, 1));
}

/// A device that has all, and passes if so said; `by_aws` if AWS has made its certificate and `active` if that
/// was made active; none of it where AWS registers the certificate when the device connects.
fn with_certificate(by_aws: Option<bool>, registered: bool, passes: bool) -> Report {
    let mut history = History::default();
    let (begin, serial) = (at("2026-11-20T08:00:00Z"), serial("D1"));
    let admission = Event::Admitted(Box::new(admission(None, "nest-1", 1)));
    history.device(begin, &serial, admission);
    let mut certificate = certificate("D1");
    certificate.public_key = by_aws.map(|_| Fingerprint::of(b"its key"));
    if by_aws.is_some() {
        certificate.arn = Some("arn:D1".to_owned());
    }
    history.device(begin, &serial, Event::Issued { certificate });
    let done = |step, output| Event::StepDone { step, output, adopted: false, request_id: None };
    if registered {
        let arn = "arn:D1".to_owned();
        history.device(begin, &serial, done(Step::Certificate, Output::Certificate { arn }));
    }
    history.device(begin, &serial, done(Step::Thing, Output::Nothing));
    if by_aws == Some(true) {
        history.device(begin, &serial, done(Step::Activate, Output::Nothing));
    }
    if passes {
        history.pass(seconds(begin, 5), &serial, 3);
    } else {
        history.fail(seconds(begin, 5), &serial, FailCode::WriteFailed, "it did not take it");
    }
    let context = context(at("2026-11-20T12:00:00Z"));
    let shift = context.calendar.named("2026-11-20/early").unwrap();
    make(&history, &Selection::Shift(shift), &context, None).unwrap()
}

#[test]
fn what_registers_itself_has_not_passed_without_an_active_certificate() {
    let it = with_certificate(None, false, true).certificates;
    assert_eq!((it.active, it.passed_without_active, it.active_without_pass), (0, 0, 0));
    let it = with_certificate(None, true, true).certificates;
    assert_eq!((it.active, it.passed_without_active, it.active_without_pass), (1, 0, 0));
}

#[test]
fn what_aws_has_issued_is_active_when_it_was_made_so() {
    let it = with_certificate(Some(false), false, false).certificates;
    assert_eq!((it.active, it.active_without_pass), (0, 0), "it has an ARN and is inactive");
    let it = with_certificate(Some(true), false, false).certificates;
    assert_eq!((it.active, it.active_without_pass), (1, 1));
    let it = with_certificate(Some(false), false, true).certificates;
    assert_eq!((it.active, it.passed_without_active), (0, 1));
}

/// Five devices in five nests, all passed after the last had come; then a re-test after an outage, a day of rework, and
/// what comes of the devices when the batch is long over.
pub(crate) fn to_its_end() -> History {
    let mut history = History::default();
    let begin = at("2026-11-20T08:02:10.250Z");
    history.station(begin, StationEvent::Started { version: "1".to_owned(), config: "c".to_owned() });
    let call = CallCount { calls: 5, ..CallCount::default() };
    let operations = [("create-thing".to_owned(), call)].into();
    let called = Called { since: seconds(begin, 1), operations, busy_ms: 5_000, learned: BTreeMap::new() };
    for number in 0..5 {
        history.device(
            seconds(begin, 1),
            &name(number),
            Event::Admitted(Box::new(admission(Some("WO-1"), &format!("nest-{number}"), number + 1))),
        );
    }
    (0..3).for_each(|it| history.make(seconds(begin, 2), &name(it), 4));
    (0..3).for_each(|it| history.pass(seconds(begin, 7), &name(it), 2));
    history.station(seconds(begin, 15), StationEvent::Called(Box::new(called)));
    // Two wait for AWS, which is away for forty minutes; one of them is given up, and let out on the next day.
    let (iot, message) = (Some("iot".to_owned()), "why".to_owned());
    let (cause, since) = (Cause::Offline, seconds(begin, 20));
    history.station(seconds(begin, 30), StationEvent::Hindered { cause, of: iot.clone(), since, message });
    let away = seconds(begin, 2_420);
    history.station(away, StationEvent::Unhindered { cause: Cause::Offline, of: iot });
    (3..5).for_each(|it| history.make(away, &name(it), 4));
    history.fail(seconds(away, 5), &name(3), FailCode::WriteFailed, "it did not take it");
    history.present(seconds(away, 60), &name(3), 8);
    history.pass(seconds(away, 61), &name(3), 2);
    let (message, waited) = ("look at it".to_owned(), Waited::default());
    let quarantined = Event::Quarantined { presentation: None, code: FailCode::Mismatch, message, waited };
    history.device(seconds(away, 90), &name(4), quarantined);
    let next = seconds(begin, 86_400);
    history.device(next, &name(4), Event::Released { by: operator("it is right") });
    history.present(seconds(next, 60), &name(4), 9);
    history.pass(seconds(next, 61), &name(4), 2);
    // A year later.
    let by = operator("it came back");
    let presentation =
        Event::Repeated { presentation: presentation("nest-1", 10), nest: None, attributes: BTreeMap::new() };
    history.device(seconds(begin, 365 * 86_400), &name(0), presentation);
    let scrapping = Event::Scrapping {
        presentation: None,
        by,
        policy: None,
        message: "scrapped".to_owned(),
        asked: false,
        managed_thing: false,
    };
    history.device(seconds(begin, 365 * 86_400 + 60), &name(0), scrapping);
    history
}

#[test]
fn a_batch_lasts_until_its_last_device_was_worked_on_and_no_longer() {
    let history = to_its_end();
    let context = context(at("2028-01-01T00:00:00Z"));
    let it = make(&history, &Selection::Batch("WO-1".to_owned()), &context, None).unwrap();
    let span = &it.selection;
    let last = at("2026-11-21T08:03:13.251Z");
    assert_eq!((span.begin, span.end), (at("2026-11-20T08:02:11.250Z"), last));
    let hours: Vec<_> =
        it.pace.hours.iter().map(|it| (it.presented, it.passed, it.failed, it.down_ms)).collect();
    assert_eq!(hours.first(), Some(&(5, 4, 1, 2_400_000)));
    assert_eq!(hours.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1)), (5, 5));
    let down: Vec<_> = it.downtime.iter().map(|it| (it.cause.as_str(), it.times, it.ms)).collect();
    assert_eq!(down, [("offline", 1, 2_400_000)]);
    let quota = it.quota.unwrap();
    let calls: Vec<_> = quota.operations.iter().map(|it| (it.operation.as_str(), it.calls)).collect();
    assert_eq!(calls, [("create-thing", 5)], "the five minutes in which it began are its own");
    assert_eq!((it.balance.first_pass, it.balance.scrapped, it.balance.closes), (2, 1, true));
}

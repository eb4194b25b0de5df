//! Orders while devices are coming, and what devices come into a batch late; certificates by who knows of them.

use super::super::fold::make;
use super::super::model::Report;
use super::super::selection::Selection;
use super::*;

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

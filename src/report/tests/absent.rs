//! What came into the journal without a presentation is in no figure, and is named all the same.

use super::super::fold::make;
use super::super::render::{csv, html, text};
use super::super::selection::Selection;
use super::super::summary::Class;
use super::*;

fn admitted(id: u64) -> Event {
    Event::Admitted(Box::new(admission(None, "nest-1", id)))
}

/// A repair has found a thing that the journal does not know, and deletes it.
fn delete(history: &mut History, at: Timestamp, serial: &SerialNumber) {
    history.device(at, serial, admitted(0));
    let adopted =
        Event::StepDone { step: Step::Thing, output: Output::Nothing, adopted: true, request_id: None };
    history.device(at, serial, adopted);
    let scrapping = Event::Scrapping {
        presentation: Some(presentation("nest-1", 0)),
        by: operator("not one of ours"),
        policy: None,
        message: "cleared by ada".to_owned(),
        asked: false,
        managed_thing: false,
    };
    history.device(at, serial, scrapping);
}

fn csv_of(history: &History) -> String {
    let mut lines = csv::Lines::new(Vec::new()).unwrap();
    let mut take = |it: Summary| {
        if it.was_presented() {
            lines.device(&it).unwrap();
        }
        ControlFlow::Continue(())
    };
    history.summaries(Timestamp::MIN, Timestamp::MAX, &mut take).unwrap();
    String::from_utf8(lines.finish().unwrap()).unwrap()
}

#[test]
fn an_extra_that_is_deleted_and_a_device_that_was_only_claimed_are_lines_of_their_own() {
    let mut history = History::default();
    let begin = at("2026-10-24T12:05:00Z");
    for number in 1..=3 {
        let (now, it) = (seconds(begin, number * 60), serial(&format!("SN{number}")));
        history.device(now, &it, admitted(u64::try_from(number).unwrap()));
        history.make(now, &it, 2);
        history.pass(seconds(now, 3), &it, 1);
    }
    let of = |history: &History, name: &str| {
        let context = context(at("2026-10-25T23:00:00Z"));
        let shift = context.calendar.named(name).unwrap();
        make(history, &Selection::Shift(shift), &context, None).unwrap()
    };
    let before = of(&history, "2026-10-24/late");
    assert_eq!((before.balance.total, before.balance.absent().count()), (3, 0));

    delete(&mut history, seconds(begin, 300), &serial("EXTRA1"));
    let claimed = serial("CLAIMED1");
    history.device(seconds(begin, 400), &claimed, admitted(0));
    let (presentation, message) = (Some(presentation("nest-1", 0)), "was not issued for SN1".to_owned());
    let quarantined =
        Event::Quarantined { presentation, code: FailCode::Mismatch, message, waited: Waited::default() };
    history.device(seconds(begin, 400), &claimed, quarantined);

    let after = of(&history, "2026-10-24/late");
    let balance = &after.balance;
    assert!(balance.closes, "{}", balance.headline());
    assert_eq!((balance.total, balance.scrapped, balance.quarantined), (3, 0, 0));
    assert_eq!((balance.extras_deleted, balance.never_presented), (1, 1));
    assert_eq!(after.yields, before.yields, "no yield is lowered");
    assert_eq!(
        (&after.failures, &after.products, &after.serials),
        (&before.failures, &before.products, &before.serials)
    );
    let presented: u64 = after.pace.hours.iter().map(|it| it.presented).sum();
    let failed: u64 = after.pace.hours.iter().map(|it| it.failed).sum();
    assert_eq!((presented, failed), (3, 0));
    assert_eq!(after.exceptions.scrapped.count, 0);
    let ordered = &after.exceptions.ordered.devices[0];
    assert_eq!(ordered.why, "delete what the journal did not know by ada: not one of ours");
    assert!(
        after.exceptions.quarantined.devices[0].why.starts_with("never presented; "),
        "{:?}",
        after.exceptions
    );
    let (text, page) = (text::render(&after), html::render(&after));
    for words in ["not in the journal, deleted from the account", "known and never presented"] {
        let line = text.lines().find(|it| it.contains(words)).unwrap();
        assert!(line.ends_with(" 1"), "{line}");
        assert!(page.contains(words), "{words}");
    }
    assert_eq!(csv_of(&history).lines().count(), 4, "a line for each that was presented");

    // A person lets it in, and it comes on the next day: that is where it counts.
    history.device(seconds(begin, 500), &claimed, Event::Released { by: operator("it is a spare") });
    let let_in = of(&history, "2026-10-24/late");
    assert_eq!((let_in.balance.never_presented, let_in.balance.closes), (1, true));
    assert!(let_in.exceptions.quarantined.devices.is_empty(), "{:?}", let_in.exceptions);
    let to_do = "1 device is known and was never presented: find out what it is, then present it, in quarantine \
                 after `linemint device release`, or `scrap` it";
    assert!(let_in.handover.actions.iter().any(|it| it == to_do), "{:?}", let_in.handover.actions);
    let came = at("2026-10-25T06:00:00Z");
    history.present(came, &claimed, 9);
    let (late, next) = (of(&history, "2026-10-24/late"), of(&history, "2026-10-25/early"));
    assert_eq!((late.balance.total, late.balance.never_presented, late.balance.closes), (3, 0, true));
    assert_eq!((next.balance.total, next.balance.in_progress, next.balance.closes), (1, 1, true));

    // It passes at once: what a fixture claimed of it, and that a person let it in, was before.
    history.make(came, &claimed, 2);
    history.pass(seconds(came, 3), &claimed, 1);
    let next = of(&history, "2026-10-25/early");
    assert_eq!((next.balance.total, next.balance.first_pass, next.balance.after_rework), (1, 1, 0));
    assert!(next.balance.closes && next.failures.is_empty(), "{:?}", next.failures);
    let it = history.summary(&claimed).unwrap().unwrap();
    assert_eq!((it.class(), it.failed_times(), it.passed_in), (Class::FirstPass, 0, 1));
    assert_eq!((it.spent.making, it.spent.operator, it.spent.fixture), (3_000, 0, 1_000));
}

#[test]
fn devices_between_two_shifts_are_told_by_the_report_of_the_next() {
    let mut history = History::default();
    // The early shift ends at noon; these come before the late one, in it, and before the night.
    for (number, time) in (1_u64..).zip(["11:30", "12:05", "12:30", "13:00", "20:59"]) {
        let now = at(&format!("2026-11-20T{time}:00Z"));
        history.device(now, &serial(&format!("SN{number}")), admitted(number));
    }
    let mut context = context(at("2026-11-21T23:00:00Z"));
    context.calendar.shifts[0].end = crate::shift::parse_time("13:00").unwrap();
    let of = |context: &super::super::fold::Context, name: &str| {
        let shift = context.calendar.named(name).unwrap();
        make(&history, &Selection::Shift(shift), context, None).unwrap()
    };
    let late = of(&context, "2026-11-20/late");
    let outside = late.outside.unwrap();
    assert_eq!((outside.since, outside.devices, late.balance.total), (at("2026-11-20T12:00:00Z"), 2, 2));
    let words = "presented outside every shift since";
    assert!(text::render(&late).contains(words) && html::render(&late).contains(words));
    assert_eq!(of(&context, "2026-11-20/night").outside, None);
    context.calendar.shifts[0].end = crate::shift::parse_time("14:00").unwrap();
    assert_eq!(of(&context, "2026-11-20/late").outside, None);
}

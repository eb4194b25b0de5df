use jiff::ToSpan as _;

use super::*;
use crate::control::tests::{admitted_at, nest_event};
use crate::device::event::{CloseReason, Output, Waited};
use crate::shift::parse_time;

const MORNING: &str = "2026-11-03T06:00:00Z";

/// A folder with the records of a day, written one after the other.
struct Day {
    folder: Folder,
    now: Timestamp,
    seq: u64,
}

impl Day {
    fn new() -> Self {
        let shift = |name: &str, start, end| Shift {
            name: name.to_owned(),
            start: parse_time(start).unwrap(),
            end: parse_time(end).unwrap(),
            days: crate::shift::Days::ALL,
        };
        let shifts = vec![shift("early", "06:00", "14:00"), shift("late", "15:00", "23:00")];
        let now: Timestamp = MORNING.parse().unwrap();
        let calendar = Calendar { shifts, timezone: jiff::tz::TimeZone::UTC, days_off: BTreeSet::new() };
        Self { folder: Folder::new(calendar, 0, 0, now), now, seq: 0 }
    }

    fn later(&mut self, seconds: i64) {
        self.now = self.now.checked_add(seconds.seconds()).unwrap();
    }

    fn tell(&mut self, serial: &str, event: Event) -> Option<Verdict> {
        self.seq += 1;
        let serial = Some(SerialNumber::parse(serial).unwrap());
        let record = Record { seq: self.seq, at: self.now, serial, what: What::Device(event) };
        self.folder.look(self.now);
        self.folder.fold(&record)
    }

    fn passes(&mut self, serial: &str, id: u64, nest: &str) -> Verdict {
        self.tell(serial, admitted_at(id, Some(nest), Some("B1")));
        self.later(2);
        self.tell(
            serial,
            Event::Passed {
                presentation: nest_event(id),
                directory: None,
                label: false,
                waited: Waited::default(),
            },
        )
        .unwrap()
    }

    fn fails(&mut self, serial: &str, id: u64, nest: &str) -> Verdict {
        let nest = Some(nest.to_owned());
        let presentation = nest_event(id);
        self.tell(
            serial,
            Event::Presented { presentation, nest, mac: None, anew: None, attributes: Default::default() },
        );
        self.later(1);
        let (code, message) = (FailCode::WriteFailed, "no answer".to_owned());
        self.tell(serial, Event::Failed { presentation: nest_event(id), code, message }).unwrap()
    }

    fn defers(&mut self, serial: &str, id: u64, nest: &str) -> Verdict {
        self.tell(serial, admitted_at(id, Some(nest), Some("B1")));
        self.later(60);
        let (presentation, waited) = (nest_event(id), Waited::default());
        let (code, message) = (FailCode::Offline, String::new());
        self.tell(serial, Event::Deferred { presentation, code, message, waited }).unwrap()
    }

    fn place(&self, nest: &str) -> &Place {
        &self.folder.tally().places[&("nest-1".to_owned(), nest.to_owned())]
    }

    fn figures(&self) -> (u64, u64, u64) {
        let today = self.folder.tally().today(self.now, None);
        (today.passed, today.passed_at_once, today.failed)
    }
}

#[test]
fn a_nest_shows_its_unit_then_its_verdict_until_the_next_unit() {
    let mut day = Day::new();
    day.tell("SN-1", admitted_at(1, Some("A"), Some("B1")));
    let unit = day.place("A").unit().cloned().unwrap();
    assert_eq!(
        (unit.serial.as_str(), unit.state, unit.batch.as_deref()),
        ("SN-1", State::Admitted, Some("B1"))
    );
    let done =
        Event::StepDone { step: Step::Thing, output: Output::Nothing, adopted: false, request_id: None };
    day.tell("SN-1", done);
    assert_eq!(day.place("A").unit().unwrap().state, State::Provisioning);
    day.tell("SN-1", Event::Offered { presentation: nest_event(1), waited: Waited::default() });
    assert_eq!(day.place("A").unit().unwrap().state, State::Delivering);
    day.later(3);
    let verdict = day
        .tell(
            "SN-1",
            Event::Passed {
                presentation: nest_event(1),
                directory: None,
                label: false,
                waited: Waited::default(),
            },
        )
        .unwrap();
    assert_eq!(
        (verdict.took_ms, verdict.batch.as_deref(), verdict.nest.as_deref()),
        (Some(3000), Some("B1"), Some("A"))
    );
    assert_eq!(*day.place("A"), Place { units: Vec::new(), verdict: Some(verdict) });
    day.later(3600);
    assert!(day.place("A").verdict.is_some(), "it stays");
    day.tell("SN-2", admitted_at(2, Some("A"), None));
    assert!(day.place("A").verdict.is_none() && day.place("A").unit().is_some());
}

#[test]
fn a_failure_says_what_to_do_and_one_that_was_taken_away_says_nothing() {
    let mut day = Day::new();
    let verdict = day.fails("SN-1", 1, "B");
    let Ending::Fail { code, sentence, deferred: false } = verdict.ending else { panic!("{verdict:?}") };
    assert_eq!(
        (code, sentence.as_str()),
        (FailCode::WriteFailed, "Seat the unit again and present it once more. (no answer)")
    );
    day.tell("SN-2", admitted_at(2, Some("B"), None));
    day.tell(
        "SN-2",
        Event::Closed { presentation: nest_event(2), why: CloseReason::NewBoot, waited: Waited::default() },
    );
    assert_eq!(*day.place("B"), Place::default());
    // The verdict of a presentation that began before anything is known finds the fixture's only nest.
    let late = day
        .tell(
            "SN-3",
            Event::Passed {
                presentation: nest_event(9),
                directory: None,
                label: false,
                waited: Waited::default(),
            },
        )
        .unwrap();
    assert_eq!((late.nest.as_deref(), late.took_ms), (Some("B"), None));
}

#[test]
fn a_device_counts_once_by_its_last_word() {
    let mut day = Day::new();
    day.passes("SN-1", 1, "A");
    assert_eq!(day.figures(), (1, 1, 0));
    day.fails("SN-2", 2, "B");
    day.fails("SN-2", 3, "B");
    assert_eq!(day.figures(), (1, 1, 1));
    day.tell(
        "SN-2",
        Event::Passed {
            presentation: nest_event(4),
            directory: None,
            label: false,
            waited: Waited::default(),
        },
    );
    assert_eq!(day.figures(), (2, 1, 0), "passed, but not at once");
    day.tell(
        "SN-1",
        Event::Repeated { presentation: nest_event(5), nest: None, attributes: Default::default() },
    );
    assert_eq!(day.figures(), (2, 1, 0), "a repeat is no further device");
    day.fails("SN-1", 6, "A");
    assert_eq!(day.figures(), (1, 0, 1));
    day.fails("SN-2", 7, "A");
    assert_eq!(day.figures(), (0, 0, 2));
    let today = day.folder.tally().today(day.now, None);
    assert_eq!((today.yield_share(), Today::default().yield_share()), (Some(0.0), None));
    assert_eq!(day.folder.tally().recent.len(), 7);
    assert_eq!(day.folder.tally().recent[0].serial, "SN-2");
}

/// An extra that a repair deletes, and a device that a fixture has only claimed, have the presentation 0.
#[test]
fn what_was_never_presented_lies_in_no_nest_and_is_in_no_figure() {
    let mut day = Day::new();
    day.passes("SN-1", 1, "A");
    let (presentation, message) = (Some(nest_event(0)), "why".to_owned());
    let by = crate::device::operator::Operator { uid: 0, name: "ada".to_owned(), reason: "why".to_owned() };
    let (policy, asked, managed_thing) = (None, false, false);
    let scrapping = Event::Scrapping {
        presentation: presentation.clone(),
        by,
        policy,
        message: message.clone(),
        asked,
        managed_thing,
    };
    let (code, waited) = (FailCode::Mismatch, Waited::default());
    let quarantined = Event::Quarantined { presentation, code, message, waited };
    for (serial, event) in [("EXTRA", scrapping), ("CLAIMED", quarantined)] {
        assert_eq!(day.tell(serial, admitted_at(0, None, None)), None);
        assert_eq!(day.tell(serial, event), None, "no verdict on the board");
    }
    assert_eq!(day.figures(), (1, 1, 0));
    assert_eq!(day.folder.tally().places.len(), 1);
    assert_eq!(day.folder.tally().recent.len(), 1);
}

#[test]
fn a_deferred_device_has_not_failed_and_is_in_no_yield() {
    let mut day = Day::new();
    let deferred = |day: &Day| day.folder.tally().today(day.now, None).deferred;
    for id in 1..=12 {
        let verdict = day.defers(&format!("SN-{id}"), id, "A");
        assert!(matches!(verdict.ending, Ending::Fail { code: FailCode::Offline, deferred: true, .. }));
    }
    let today = day.folder.tally().today(day.now, None);
    assert_eq!((day.figures(), deferred(&day), today.yield_share()), ((0, 0, 0), 12, None));
    day.passes("SN-20", 20, "A");
    let today = day.folder.tally().today(day.now, None);
    assert_eq!((today.yield_share(), today.first_pass_share()), (Some(1.0), Some(1.0)));
    // The cloud is there again: it took two presentations. One fails after all, and one that had failed is deferred.
    day.passes("SN-1", 21, "A");
    day.fails("SN-2", 22, "A");
    assert_eq!((day.figures(), deferred(&day)), ((2, 1, 1), 10));
    day.defers("SN-2", 23, "A");
    assert_eq!((day.figures(), deferred(&day)), ((2, 1, 0), 11));
    // One is given up while it lies in no nest: that is its last word. Of one that has passed it is none.
    for serial in ["SN-3", "SN-1"] {
        let (code, message, waited) = (FailCode::Rejected, String::new(), Waited::default());
        day.tell(serial, Event::Quarantined { presentation: None, code, message, waited });
    }
    assert_eq!((day.figures(), deferred(&day)), ((2, 1, 1), 10));
    let (fingerprint, policy) = (crate::pki::Fingerprint::of(b"its"), None);
    day.tell("SN-4", Event::KeyExpired { fingerprint, policy, message: String::new() });
    assert_eq!((day.figures(), deferred(&day)), ((2, 1, 2), 9));
    assert_eq!(day.folder.tally().today(day.now, None).minutes.iter().sum::<u64>(), 2);
    day.later(10 * 3600);
    day.folder.look(day.now);
    assert_eq!((day.figures(), deferred(&day)), ((0, 0, 0), 0), "a new shift");
}

#[test]
fn a_new_shift_counts_anew_and_a_gap_keeps_the_last_one() {
    let mut day = Day::new();
    day.passes("SN-1", 1, "A");
    day.later(9 * 3600 - 1800);
    day.folder.look(day.now);
    assert_eq!(
        day.folder.tally().today(day.now, None).shift.as_deref(),
        Some("early"),
        "14:30 is in no shift"
    );
    assert_eq!(day.figures(), (1, 1, 0));
    day.later(1800);
    day.folder.look(day.now);
    let today = day.folder.tally().today(day.now, None);
    assert_eq!((today.shift.as_deref(), today.passed), (Some("late"), 0));
    assert!(day.place("A").verdict.is_some(), "the nest still shows what was said");
    day.passes("SN-1", 2, "A");
    assert_eq!(day.figures(), (1, 1, 0), "it is judged anew");
    day.later(-10 * 3600);
    day.folder.look(day.now);
    assert_eq!(day.figures(), (1, 1, 0), "a clock that goes back begins no old shift again");
}

#[test]
fn the_pace_is_that_of_the_last_half_hour_and_the_minutes_those_of_the_last_hour() {
    let mut day = Day::new();
    for id in 1..=240 {
        day.passes(&format!("SN-{id}"), id, "A");
        day.later(13);
    }
    let takt = Some(std::time::Duration::from_secs(15));
    let today = day.folder.tally().today(day.now, takt);
    assert_eq!(
        (today.minutes.len(), today.minutes.iter().sum::<u64>(), today.takt_s),
        (60, 240 - 4, Some(15.0))
    );
    assert!((today.pace_s.unwrap() - 15.0).abs() < 0.3, "{today:?}");
    day.later(2 * 3600);
    let today = day.folder.tally().today(day.now, takt);
    assert_eq!((today.minutes.iter().sum::<u64>(), today.pace_s, today.passed), (0, None, 240));
}

#[test]
fn the_same_records_come_to_the_same_and_steps_count_from_the_daemons_start_only() {
    let trouble = |attempt| Event::Trouble {
        step: Step::Locker,
        message: "slow".to_owned(),
        attempt,
        request_id: Some("r-1".to_owned()),
    };
    let told = |steps_after| {
        let mut day = Day::new();
        day.folder.steps_after = steps_after;
        day.tell("SN-1", admitted_at(1, Some("A"), None));
        day.tell("SN-1", trouble(1));
        day.tell("SN-1", trouble(2));
        let adopted =
            Event::StepDone { step: Step::Locker, output: Output::Nothing, adopted: true, request_id: None };
        day.tell("SN-1", adopted);
        day.folder.tally().clone()
    };
    let (first, again) = (told(0), told(2));
    let steps = |adopted, trouble| StepCounts { adopted, trouble, ..StepCounts::default() };
    assert_eq!(first.steps[&Step::Locker], steps(1, 2));
    assert_eq!(again.steps[&Step::Locker], steps(1, 1));
    assert_eq!(Tally { steps: BTreeMap::new(), ..first }, Tally { steps: BTreeMap::new(), ..again });
}

#[test]
fn where_nests_have_no_names_one_waits_on_while_another_is_done() {
    let mut day = Day::new();
    for (id, serial) in [(1, "SN-1"), (2, "SN-2"), (3, "SN-3")] {
        day.tell(serial, admitted_at(id, None, Some("B1")));
        day.later(1);
    }
    let waits = |day: &Day| day.place("").unit().map(|it| it.serial.clone());
    let passed = |day: &mut Day, id: u64, serial: &str| {
        let (presentation, waited) = (nest_event(id), Waited::default());
        day.tell(serial, Event::Passed { presentation, directory: None, label: false, waited }).unwrap();
    };
    assert_eq!(waits(&day).as_deref(), Some("SN-3"), "who came last");
    passed(&mut day, 3, "SN-3");
    assert_eq!(waits(&day).as_deref(), Some("SN-2"), "the others still wait");
    assert_eq!(day.place("").verdict.as_ref().unwrap().serial, "SN-3");
    day.tell("SN-1", Event::Offered { presentation: nest_event(1), waited: Waited::default() });
    passed(&mut day, 2, "SN-2");
    assert_eq!(day.place("").unit().unwrap().state, State::Delivering, "SN-1");
    let (presentation, waited) = (nest_event(1), Waited::default());
    day.tell("SN-1", Event::Closed { presentation, why: CloseReason::NewBoot, waited });
    assert_eq!(waits(&day), None);
    // Those of a nest that has a name have taken each other's place.
    day.tell("SN-4", admitted_at(4, Some("A"), None));
    day.tell("SN-5", admitted_at(5, Some("A"), None));
    assert_eq!(day.place("A").units.len(), 1);
    for id in 100..=300 {
        day.tell(&format!("SN-{id}"), admitted_at(id, None, None));
    }
    assert!(day.place("").units.len() <= MAX_PLACES, "no more than are open");
}

#[test]
fn a_fixture_that_invents_nests_fills_nothing() {
    let mut day = Day::new();
    for id in 1..=500 {
        day.tell(&format!("SN-{id}"), admitted_at(id, Some(&format!("nest {id}")), None));
        day.later(1);
    }
    let tally = day.folder.tally();
    assert_eq!((tally.places.len(), day.folder.open.len()), (MAX_PLACES, MAX_PLACES));
    assert!(tally.places.contains_key(&("nest-1".to_owned(), "nest 500".to_owned())));
}

#[test]
fn a_record_from_next_week_does_not_end_todays_count() {
    let mut day = Day::new();
    day.passes("SN-1", 1, "A");
    let real = day.now;
    // The journal holds a record of a clock that was ahead, and the daemon has looked at the right one since.
    day.seq += 1;
    let at = real.checked_add((7 * 24).hours()).unwrap();
    let (presentation, serial) = (nest_event(2), Some(SerialNumber::parse("SN-2").unwrap()));
    let passed = |seq, at| Record {
        seq,
        at,
        serial: serial.clone(),
        what: What::Device(Event::Passed {
            presentation: presentation.clone(),
            directory: None,
            label: false,
            waited: Waited::default(),
        }),
    };
    let verdict = day.folder.fold(&passed(day.seq, at)).unwrap();
    assert_eq!(verdict.at, real, "it was decided by now");
    assert_eq!(day.figures(), (2, 2, 0));
    day.later(60);
    day.passes("SN-3", 3, "A");
    assert_eq!(day.figures(), (3, 3, 0), "the count goes on");
    let today = day.folder.tally().today(day.now, None);
    assert_eq!(today.minutes.iter().sum::<u64>(), 3, "{:?}", today.minutes);
    // Read anew after a restart, it was at the time of the record before.
    let calendar = day.folder.calendar.clone();
    let mut folder = Folder::new(calendar, 0, 9, day.now);
    let begun = real.checked_sub(5.minutes()).unwrap();
    folder.fold(&passed(1, begun));
    assert_eq!(folder.fold(&passed(2, at)).unwrap().at, begun);
}

#[test]
fn a_clock_that_was_set_back_out_of_the_shift_has_it_counted_again() {
    let mut day = Day::new();
    day.passes("SN-1", 1, "A");
    let real = day.now;
    let done =
        Event::StepDone { step: Step::Thing, output: Output::Nothing, adopted: false, request_id: None };
    // The clock is set ahead into another day, and back.
    day.later(3 * 86_400);
    day.passes("SN-2", 2, "A");
    day.tell("SN-2", done.clone());
    assert_eq!(day.figures(), (1, 1, 0));
    assert_eq!(day.folder.look(real), Looked::Back);
    let newest = day.seq;
    day.folder.begin_again(0);
    (day.now, day.seq) = (MORNING.parse().unwrap(), 0);
    day.folder.look(real);
    day.passes("SN-1", 1, "A");
    assert_eq!(day.seq, 2);
    day.now = real.checked_add((3 * 24).hours()).unwrap();
    let record = |seq, event| Record {
        seq,
        at: day.now,
        serial: Some(SerialNumber::parse("SN-2").unwrap()),
        what: What::Device(event),
    };
    let records = [
        record(3, admitted_at(2, Some("A"), Some("B1"))),
        record(
            4,
            Event::Passed {
                presentation: nest_event(2),
                directory: None,
                label: false,
                waited: Waited::default(),
            },
        ),
        record(newest, done),
    ];
    day.folder.look(real);
    for it in &records {
        day.folder.fold(it);
    }
    day.now = real;
    assert_eq!(day.figures(), (2, 2, 0), "what was counted under another day is today's");
    assert_eq!(day.folder.tally().steps[&Step::Thing].done, 1, "a step counts once");
}

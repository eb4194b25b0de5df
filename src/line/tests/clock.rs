//! A clock that cannot be right.

use jiff::{SignedDuration, Timestamp};

use super::harness::Harness;
use super::setup::unit;
use crate::clock::ClockSync;
use crate::device::State;
use crate::device::operator::Refusal;
use crate::journal::StationEvent;
use crate::line::Input;

fn unsynchronised() -> ClockSync {
    ClockSync::Unsynchronised("chronyd".to_owned())
}

/// What was journaled of the clock.
fn told(h: &Harness) -> Vec<&'static str> {
    let word = |it: &StationEvent| match it {
        StationEvent::ClockDoubted { .. } => Some("doubted"),
        StationEvent::ClockTrusted => Some("trusted"),
        StationEvent::ClockOverridden { .. } => Some("overridden"),
        _ => None,
    };
    h.shelf.station_events.iter().filter_map(word).collect()
}

#[test]
fn no_new_device_is_taken_in_and_it_heals_by_itself() {
    let mut h = Harness::ready();
    h.clock(unsynchronised());
    assert_eq!(h.unit(0, unit(1, "SN1")), ["nak busy 1"]);
    let reasons = h.line.status().degraded;
    assert!(reasons.iter().any(|it| it.starts_with("clock: chronyd says")), "{reasons:?}");
    h.clock(ClockSync::Synchronised);
    h.pass(0, 1, "SN1");
    assert!(h.line.status().degraded.is_empty() || h.line.status().degraded.len() == 1, "the second fixture");
    assert_eq!(told(&h), ["doubted", "trusted"]);
}

#[test]
fn a_fixture_is_not_asked_for_units_meanwhile() {
    let mut h = Harness::ready();
    h.idle(0);
    h.clock(unsynchronised());
    h.hear_all(0);
    h.seconds(60);
    assert!(h.hear_all(0).is_empty());
    h.clock(ClockSync::Unsaid);
    assert_eq!(h.hear_all(0), ["pull"]);
}

#[test]
fn who_has_a_certificate_goes_on_and_who_has_none_waits() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.removed(0, 1, "SN1");
    h.issues = false;
    h.unit(0, unit(2, "SN2"));
    h.to_issue.clear();
    h.crash(usize::MAX);
    h.issues = true;
    h.set_clock(SignedDuration::from_mins(-10));
    h.connect(0, 2);
    h.clock(ClockSync::Unsaid);
    h.hear(0);
    h.pass(0, 3, "SN1");
    assert_eq!(h.unit(0, unit(4, "SN2")), ["ack 4"]);
    h.crash(usize::MAX);
    h.connect(0, 3);
    h.hear(0);
    assert_eq!(h.unit(0, unit(5, "SN2")), ["ack 5"]);
    let issued = h.issued.len();
    h.seconds(61);
    assert_eq!(h.hear(0), ["fail clock 5 SN2"]);
    h.seconds(250);
    assert_eq!(h.issued.len(), issued, "no certificate is issued");
    h.set_clock(SignedDuration::from_mins(10));
    h.clock(ClockSync::Unsaid);
    assert_eq!(h.issued.len(), issued + 1, "what has waited is taken up");
    h.pass(0, 6, "SN2");
}

#[test]
fn a_clock_before_the_newest_record_by_more_than_five_minutes_is_wrong() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    h.set_clock(SignedDuration::from_secs(-299));
    h.restart();
    h.clock(ClockSync::Unsaid);
    h.hear(0);
    h.pass(0, 2, "SN2");
    h.set_clock(SignedDuration::from_secs(-2));
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(3, "SN3")), ["nak busy 3"]);
    // While it is wrong the records bear the wrong time; the newest right one counts.
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(4, "SN4")).len(), 1);
}

#[test]
fn a_clock_before_this_version_was_made_is_wrong() {
    let mut h = Harness::ready();
    h.now.wall = Timestamp::UNIX_EPOCH;
    h.clock(ClockSync::Unsaid);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["nak busy 1"]);
    assert!(h.line.status().degraded.iter().any(|it| it.contains("before linemint was built")));
}

#[test]
fn a_person_can_go_on_by_it_until_the_doubt_is_another() {
    let mut h = Harness::ready();
    assert!(matches!(h.override_clock(), Err(Refusal::Not(_))), "there is nothing to override");
    h.clock(unsynchronised());
    h.override_clock().unwrap();
    h.clock(unsynchronised());
    h.pass(0, 1, "SN1");
    assert!(h.line.status().degraded.iter().any(|it| it.contains("overridden by ada")));
    h.set_clock(SignedDuration::from_mins(-20));
    h.clock(unsynchronised());
    assert_eq!(h.unit(0, unit(2, "SN2")), ["nak busy 2"], "this was not overridden");
    h.set_clock(SignedDuration::from_mins(20));
    h.clock(unsynchronised());
    assert_eq!(h.unit(0, unit(2, "SN2")), ["nak busy 2"], "nor is it any more");
    assert_eq!(told(&h), ["doubted", "overridden", "doubted", "doubted"]);
}

#[test]
fn an_override_is_over_with_the_daemon() {
    let mut h = Harness::ready();
    h.clock(unsynchronised());
    h.override_clock().unwrap();
    h.restart();
    h.clock(unsynchronised());
    h.hear(0);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["nak busy 1"]);
    h.input(Input::Clock(ClockSync::Unsaid));
    h.pass(0, 1, "SN1");
    assert_eq!(h.state("SN1"), State::Passed);
}

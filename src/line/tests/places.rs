//! Rule 6: one serial, one place; and what a restart or a lost port leaves open.

use super::harness::Harness;
use super::setup::{Setup, unit, unit_in};
use crate::device::State;
use crate::fixture::Unit;
use crate::line::Input;

fn two() -> Harness {
    let mut h = Harness::ready();
    h.connect(1, 1);
    h.hear(1);
    h
}

#[test]
fn a_serial_that_is_open_in_another_nest_is_elsewhere() {
    let mut h = two();
    h.unit(0, unit_in(1, "SN1", "a"));
    assert_eq!(h.unit(0, unit_in(2, "SN1", "b")), ["nak elsewhere 2"]);
    assert_eq!(h.unit(1, unit_in(1, "SN1", "a")), ["nak elsewhere 1"]);
    assert_eq!(h.unit(0, unit_in(1, "SN1", "a")), ["ack 1", "credentials 1 SN1"], "the first stays");
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
    assert_eq!(h.unit(1, unit_in(1, "SN1", "a")), ["pass 1 SN1 again"]);
}

#[test]
fn a_serial_that_was_removed_or_failed_may_go_elsewhere() {
    let mut h = two();
    h.unit(0, unit_in(1, "SN1", "a"));
    h.removed(0, 1, "SN1");
    assert_eq!(h.unit(1, unit_in(1, "SN1", "a")), ["ack 1", "credentials 1 SN1"]);
    h.write_failed(1, 1, "SN1");
    assert_eq!(h.unit(0, unit_in(2, "SN1", "b")), ["ack 2", "credentials 2 SN1"]);
}

#[test]
fn a_new_id_in_the_same_nest_closes_what_was_open_there() {
    let mut h = Harness::ready();
    h.unit(0, unit_in(1, "SN1", "a"));
    assert_eq!(h.unit(0, unit_in(2, "SN2", "a")), ["ack 2", "credentials 2 SN2"]);
    assert_eq!(h.state("SN1"), State::Delivering, "the device stays as it is");
    h.seconds(2);
    assert_eq!(h.hear(0), ["credentials 2 SN2"], "SN1 is not offered any more");
    assert_eq!(h.unit(0, unit_in(3, "SN1", "b")), ["ack 3", "credentials 3 SN1"]);
    assert_eq!(h.line.status().links[0].nests.len(), 2);
}

#[test]
fn a_refused_unit_too_has_taken_the_others_place() {
    let mut h = Harness::ready();
    h.unit(0, unit_in(1, "SN1", "a"));
    assert_eq!(h.unit(0, unit_in(2, "?", "a")), ["nak bad-serial 2"]);
    assert_eq!(h.unit(0, unit_in(3, "SN1", "b")), ["ack 3", "credentials 3 SN1"]);
}

#[test]
fn a_closed_presentation_is_closed_before_that_is_on_disk() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit_in(1, "SN1", "a"));
    h.syncs = false;
    h.unit(0, unit_in(2, "SN2", "a"));
    h.removed(0, 1, "SN1");
    h.sync(usize::MAX);
    assert_eq!(h.hear(0), ["ack 2", "fail removed 1 SN1"]);
    assert_eq!(h.line.status().links[0].nests.len(), 1);
    h.syncs = true;
    h.unit(0, unit_in(3, "SN1", "c"));
    h.syncs = false;
    h.unit(0, unit_in(4, "SN4", "c"));
    // A delayed copy of the closed one is a presentation of its own nest, not a second of SN1's.
    h.unit(0, unit_in(3, "SN1", "c"));
    h.sync(usize::MAX);
    let nests = h.line.status().links[0].nests.clone();
    assert_eq!(nests.iter().filter(|it| it.nest.as_deref() == Some("c")).count(), 1, "{nests:?}");
}

#[test]
fn a_new_boot_closes_what_was_open_and_ids_begin_anew() {
    let mut h = two();
    h.unit(0, unit_in(1, "SN1", "a"));
    h.unit(0, unit_in(2, "SN2", "b"));
    h.unit(1, unit_in(1, "SN3", "a"));
    h.hello(0, 2);
    assert!(h.hear(0).is_empty());
    assert_eq!(h.state("SN1"), State::Delivering, "the devices stay as they are");
    h.seconds(2);
    assert!(h.hear(0).is_empty());
    assert_eq!(h.hear(1).last().map(String::as_str), Some("credentials 1 SN3"), "the other fixture goes on");
    assert_eq!(h.unit(0, unit_in(1, "SN2", "a")), ["ack 1", "credentials 1 SN2"]);
    assert_eq!(h.unit(0, unit_in(2, "SN1", "b")), ["ack 2", "credentials 2 SN1"]);
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
}

#[test]
fn hello_with_the_same_boot_closes_nothing() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.hello(0, 1);
    h.seconds(2);
    assert_eq!(h.hear(0), ["credentials 1 SN1"]);
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
}

#[test]
fn a_new_boot_across_a_restart_closes_too() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.crash(usize::MAX);
    h.connect(0, 2);
    assert_eq!(h.unit(0, unit(1, "SN2")), ["hello", "ack 1"]);
    assert_eq!(h.unit(0, unit_in(2, "SN1", "b")), ["ack 2"]);
}

#[test]
fn the_same_boot_across_a_restart_goes_on_where_it_was() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.answers = false;
    h.unit(0, unit_in(2, "SN2", "b"));
    h.restart();
    assert_eq!(h.hear(0), ["hello"]);
    h.answer_all();
    assert!(h.hear(0).is_empty(), "ack may never have been heard, and credentials do not come first");
    assert_eq!(h.unit(0, unit_in(2, "SN2", "b")), ["ack 2", "credentials 2 SN2"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    assert_eq!(h.unit(0, unit_in(3, "SN1", "c")), ["nak elsewhere 3"]);
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
    assert_eq!(h.written(0, 2, "SN2"), ["pass 2 SN2"]);
    h.account.assert_holds("SN2", h.issued[1].1);
}

#[test]
fn without_a_boot_number_a_fixture_that_counts_from_one_again_was_reset_once() {
    for writes_at_once in [true, false] {
        let mut h = Harness::new(Setup::default());
        h.answers = false;
        h.connect(0, 0);
        h.unit(0, unit_in(1, "SN1", "a"));
        h.unit(0, unit_in(2, "SN2", "b"));
        h.hear(0);
        h.syncs = writes_at_once;
        let mut heard = h.unit(0, unit_in(1, "SN3", "a"));
        heard.extend(h.unit(0, unit_in(2, "SN4", "b")));
        heard.extend(h.unit(0, unit_in(3, "SN1", "c")));
        heard.extend(h.unit(0, unit_in(4, "SN2", "d")));
        h.sync(usize::MAX);
        heard.extend(h.hear(0));
        assert_eq!(heard, ["ack 1", "ack 2", "ack 3", "ack 4"]);
        assert_eq!(h.line.status().links[0].nests.len(), 4, "nothing was closed twice");
    }
}

#[test]
fn a_fixture_without_nests_presents_the_same_serial_again_in_its_place() {
    let mut h = Harness::ready();
    let without = |id, serial: &str| Unit { nest: None, ..unit(id, serial) };
    h.answers = false;
    assert_eq!(h.unit(0, without(1, "SN1")), ["ack 1"]);
    assert_eq!(h.unit(0, without(2, "SN1")), ["ack 2"]);
    assert_eq!(h.unit(0, without(3, "SN3")), ["ack 3"]);
}

#[test]
fn a_port_that_is_back_in_time_finds_its_units_as_they_were() {
    let mut h = two();
    h.unit(0, unit(1, "SN1"));
    h.input(Input::PortLost(0));
    h.seconds(30);
    assert_eq!(h.unit(1, unit(1, "SN1")), ["nak elsewhere 1"]);
    h.connect(0, 1);
    assert_eq!(h.hear(0).last().map(String::as_str), Some("credentials 1 SN1"));
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
}

#[test]
fn a_fixture_that_stays_away_gives_its_units_free() {
    let mut h = two();
    h.unit(0, unit(1, "SN1"));
    h.input(Input::PortLost(0));
    h.seconds(61);
    assert_eq!(h.unit(1, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    h.connect(0, 1);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["hello", "nak elsewhere 1"]);
}

#[test]
fn a_port_that_is_open_again_but_silent_or_foreign_gives_its_units_free_too() {
    for foreign in [false, true] {
        let mut h = two();
        h.unit(0, unit(1, "SN1"));
        h.seconds(59);
        h.input(Input::PortLost(0));
        h.seconds(5);
        h.input(Input::PortOpened(0));
        if foreign {
            let fixture = "jig-9".to_owned();
            h.say(0, crate::fixture::FixtureMessage::Hello { protocol: 1, fixture, boot: 1, firmware: None });
        }
        h.seconds(61);
        assert_eq!(h.unit(1, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    }
}

#[test]
fn a_fixture_that_is_not_there_after_a_restart_gives_its_units_free() {
    let mut h = two();
    h.unit(0, unit(1, "SN1"));
    h.crash(usize::MAX);
    h.connect(1, 1);
    h.hear(1);
    assert_eq!(h.unit(1, unit(1, "SN1")), ["nak elsewhere 1"]);
    h.seconds(61);
    assert_eq!(h.unit(1, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
}

#[test]
fn a_fixture_that_is_not_configured_any_more_holds_nothing() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.setup.fixtures = vec!["jig-8".to_owned(), "jig-9".to_owned()];
    h.crash(usize::MAX);
    h.connect(0, 1);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["hello", "ack 1", "credentials 1 SN1"]);
}

#[test]
fn a_unit_that_its_fixture_does_not_say_again_after_a_restart_does_not_hold_its_serial_for_ever() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.restart();
    h.answers = true;
    h.answer_all();
    h.hear(0);
    // It was reset, its hello was lost, and its ids went on.
    assert_eq!(h.unit(0, unit_in(2, "SN1", "b")), ["nak elsewhere 2"]);
    h.seconds(61);
    assert!(h.hear(0).is_empty(), "nothing is said before its ack");
    assert_eq!(h.unit(0, unit_in(3, "SN1", "b")), ["ack 3", "credentials 3 SN1"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "fail timeout 1 SN1"], "if it has it after all");
    assert_eq!(h.written(0, 3, "SN1"), ["pass 3 SN1"]);
}

#[test]
fn a_unit_that_was_acknowledged_and_then_closed_hears_a_verdict_if_its_device_was_given_up() {
    let mut h = Harness::ready();
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    h.input(Input::PortLost(0));
    h.seconds(61);
    assert_eq!(h.order(crate::device::operator::Order::Scrap, "SN1"), Ok(()));
    h.connect(0, 1);
    h.hear(0);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "fail quarantined 1 SN1"]);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["nak quarantined 2"]);
}

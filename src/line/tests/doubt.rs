//! A fixture whose reset nobody has heard of: what its units say contradicts what is known of their ids.

use std::time::Duration;

use super::harness::Harness;
use super::setup::{RESEND, Setup, unit, unit_in};
use crate::device::State;
use crate::fixture::Unit;
use crate::line::{Input, Tag};

fn holding(id: u64, serial: &str, holds: &str) -> Unit {
    Unit { holds: Some(holds.to_owned()), ..unit(id, serial) }
}

/// A station whose fixture has presented SN1 under the id 1, and AWS does not answer.
fn presented() -> Harness {
    let mut h = Harness::ready();
    h.answers = false;
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    h
}

#[test]
fn a_fixture_whose_id_stands_for_another_serial_is_asked_and_its_new_boot_is_believed() {
    for (id, serial) in [(1, "SN2"), (1, "SN3")] {
        let mut h = presented();
        assert_eq!(h.unit(0, unit(id, serial)), ["nak busy 1", "hello"]);
        assert_eq!(h.shelf.devices.len(), 1, "it is not taken yet");
        h.hello(0, 2);
        h.hear(0);
        assert_eq!(h.unit(0, unit(id, serial)), ["ack 1"]);
        assert_eq!(h.unit(0, unit_in(2, "SN1", "b")), ["ack 2"], "the other one is free");
    }
}

#[test]
fn the_question_waits_behind_the_answer_where_the_disk_is_slow() {
    let mut h = presented();
    h.syncs = false;
    assert!(h.unit(0, unit_in(2, "SN9", "b")).is_empty(), "its record is not on disk");
    assert!(h.unit(0, unit(1, "SN2")).is_empty());
    h.sync(usize::MAX);
    assert_eq!(h.hear(0), ["ack 2", "nak busy 1", "hello"]);
}

#[test]
fn if_the_boot_is_the_same_the_next_contradiction_is_final_and_the_one_after_it_is_asked_about_again() {
    let mut h = presented();
    assert_eq!(h.unit(0, unit_in(1, "SN2", "b")), ["nak busy 1", "hello"]);
    h.hello(0, 1);
    h.hear(0);
    assert_eq!(h.unit(0, unit_in(1, "SN2", "b")), ["nak bad-unit 1"]);
    assert_eq!(h.shelf.devices.len(), 1);
    // A reset since then would look the same.
    assert_eq!(h.unit(0, unit_in(1, "SN2", "b")), ["nak busy 1", "hello"]);
    h.hello(0, 2);
    h.hear(0);
    assert_eq!(h.unit(0, unit_in(1, "SN2", "b")), ["ack 1"]);
}

#[test]
fn what_was_confirmed_for_one_unit_is_not_confirmed_for_another() {
    let mut h = presented();
    h.unit(0, unit(1, "SN2"));
    h.hello(0, 1);
    h.hear(0);
    assert_eq!(h.unit(0, unit(1, "SN3")), ["nak busy 1", "hello"]);
    assert_eq!(h.unit(0, unit(1, "SN2")), ["nak busy 1"]);
}

#[test]
fn a_fixture_is_asked_once_in_a_period_counted_from_the_last_byte() {
    let mut h = presented();
    h.leaves_in = None;
    assert_eq!(h.unit(0, unit(1, "SN2")), ["nak busy 1", "hello"]);
    h.seconds(30);
    assert_eq!(h.unit(0, unit(1, "SN2")), ["nak busy 1"], "the first waits for the port");
    h.sent(0, Tag::Hello, Duration::from_millis(500));
    h.wait(RESEND + Duration::from_millis(400));
    assert_eq!(h.unit(0, unit(1, "SN2")), ["nak busy 1"]);
    h.wait(Duration::from_millis(100));
    assert_eq!(h.unit(0, unit(1, "SN2")), ["nak busy 1", "hello"]);
    h.seconds(600);
    assert!(h.hear(0).iter().all(|it| it != "hello"), "and not unasked");
}

#[test]
fn after_a_restart_and_a_lost_cable_it_is_asked_all_the_same() {
    let mut h = presented();
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(1, "SN2")), ["nak busy 1", "hello"]);
    h.input(Input::PortLost(0));
    h.connect(0, 1);
    h.hear(0);
    assert_eq!(h.unit(0, unit(1, "SN2")), ["nak busy 1", "hello"], "what was asked for is forgotten");
}

#[test]
fn the_other_nests_go_on_meanwhile() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.unit(0, unit_in(1, "SN2", "b")), ["nak busy 1", "hello"]);
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
    assert_eq!(h.unit(0, unit_in(2, "SN3", "c")), ["ack 2", "credentials 2 SN3"]);
}

#[test]
fn a_passed_unit_that_lost_its_credentials_in_a_reset_does_not_pass_by_its_old_id() {
    let mut h = Harness::ready_with(Setup::with(|it| it.repeat = crate::device::rules::Repeat::Renew));
    h.pass(0, 1, "SN1");
    assert_eq!(h.unit(0, holding(1, "SN1", "")), ["nak busy 1", "hello"]);
    h.hello(0, 2);
    h.hear(0);
    assert_eq!(h.unit(0, holding(1, "SN1", "")), ["ack 1", "credentials 1 SN1"]);
    assert_eq!(h.issued.len(), 2);
    // If it was not reset, the presentation is what it was.
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    assert_eq!(h.unit(0, holding(1, "SN1", &"0".repeat(64))), ["nak busy 1", "hello"]);
    h.hello(0, 1);
    h.hear(0);
    assert_eq!(h.unit(0, holding(1, "SN1", &"0".repeat(64))), ["ack 1", "pass 1 SN1"]);
    assert_eq!(h.state("SN1"), State::Passed);
}

#[test]
fn a_unit_in_another_nest_than_its_id_is_open_in_is_asked_about() {
    let mut h = presented();
    assert_eq!(h.unit(0, unit_in(1, "SN1", "b")), ["nak busy 1", "hello"]);
    h.hello(0, 2);
    h.hear(0);
    assert_eq!(h.unit(0, unit_in(1, "SN1", "b")), ["ack 1"]);
    let nests = h.line.status().links[0].nests.clone();
    assert_eq!((nests.len(), nests[0].nest.as_deref()), (1, Some("b")));
}

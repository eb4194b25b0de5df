//! Rules 1, 2 and 7: who speaks, who repeats, who is left alone.

use std::time::Duration;

use super::harness::Harness;
use super::setup::{RESEND, Setup, unit, unit_in};
use crate::device::operator::StationOrder;
use crate::fixture::FixtureMessage;
use crate::fixture::frame::BadReason;
use crate::journal::StationEvent;
use crate::line::{Input, Tag, Timer};

fn opened() -> Harness {
    let mut h = Harness::new(Setup::default());
    h.input(Input::PortOpened(0));
    h
}

#[test]
fn hello_is_repeated_until_the_fixture_says_it_and_never_answered_with_hello() {
    let mut h = opened();
    assert_eq!(h.hear_all(0), ["hello"]);
    h.wait(RESEND - Duration::from_millis(1));
    assert!(h.hear_all(0).is_empty());
    h.wait(Duration::from_millis(1));
    assert_eq!(h.hear_all(0), ["hello"]);
    h.hello(0, 1);
    assert_eq!(h.hear_all(0), ["pull"]);
    h.hello(0, 1);
    h.hello(0, 2);
    assert!(!h.hear_all(0).contains(&"hello".to_owned()));
    h.idle(0);
    h.seconds(10);
    assert!(!h.hear_all(0).contains(&"hello".to_owned()));
}

#[test]
fn hello_waits_for_no_record() {
    let mut h = Harness::new(Setup::default());
    h.syncs = false;
    h.input(Input::PortOpened(0));
    assert_eq!(h.hear_all(0), ["hello"]);
}

#[test]
fn a_unit_before_the_fixtures_hello_is_answered_busy_and_not_taken() {
    let mut h = opened();
    assert_eq!(h.unit(0, unit(1, "SN1")), ["hello", "nak busy 1"]);
    assert!(h.shelf.devices.is_empty());
    h.hello(0, 1);
    h.hear(0);
    h.input(Input::PortLost(0));
    h.input(Input::PortOpened(0));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["hello", "nak busy 1"], "since the port was opened, not ever");
}

#[test]
fn a_foreign_protocol_or_name_is_refused_and_left_alone_until_the_right_one_comes() {
    for (protocol, name, nak) in [(2, "jig-1", "nak protocol"), (1, "jig-2", "nak wrong-fixture")] {
        let mut h = opened();
        h.hear(0);
        let hello = FixtureMessage::Hello { protocol, fixture: name.to_owned(), boot: 1, firmware: None };
        h.say(0, hello);
        assert_eq!(h.hear_all(0), [nak]);
        h.seconds(600);
        assert!(h.hear_all(0).is_empty(), "it is left alone");
        assert_eq!(h.unit(0, unit(1, "SN1")), [format!("{nak} 1")]);
        assert!(h.shelf.devices.is_empty());
        h.hello(0, 1);
        assert_eq!(h.hear_all(0), ["pull"]);
    }
}

#[test]
fn what_is_decided_while_a_foreign_fixture_is_on_the_cable_is_not_said_to_it() {
    let mut h = Harness::ready();
    h.account.down = Some(crate::cloud::FailureKind::Unreachable);
    h.unit(0, unit(1, "SN1"));
    h.input(Input::PortLost(0));
    h.input(Input::PortOpened(0));
    h.say(0, FixtureMessage::Hello { protocol: 1, fixture: "jig-9".to_owned(), boot: 1, firmware: None });
    h.hear_all(0);
    h.seconds(600);
    assert!(h.hear_all(0).is_empty());
    h.hello(0, 1);
    h.hear(0);
}

#[test]
fn nothing_but_hello_is_said_before_the_fixture_has_said_who_it_is() {
    let mut h = Harness::ready();
    h.account.down = Some(crate::cloud::FailureKind::Unreachable);
    h.unit(0, unit(1, "SN1"));
    h.input(Input::PortLost(0));
    h.input(Input::PortOpened(0));
    h.seconds(600);
    assert!(h.hear_all(0).iter().all(|it| it == "hello"));
}

#[test]
fn pull_is_repeated_from_its_last_byte_on() {
    let mut h = Harness::new(Setup::default());
    h.leaves_in = None;
    h.connect(0, 1);
    assert_eq!(h.hear_all(0), ["hello", "pull"]);
    h.seconds(60);
    assert!(h.hear_all(0).is_empty(), "a second copy waits for the first");
    h.sent(0, Tag::Pull, Duration::from_secs(3));
    h.wait(Duration::from_millis(4999));
    assert!(h.hear_all(0).is_empty());
    h.wait(Duration::from_millis(1));
    assert_eq!(h.hear_all(0), ["pull"]);
}

#[test]
fn a_unit_that_crosses_a_pull_does_not_make_a_second_one_wait_behind_it() {
    let mut h = Harness::new(Setup::default());
    h.leaves_in = None;
    h.connect(0, 1);
    h.hear_all(0);
    // The first pull has not left yet: it asks for the next unit already.
    h.unit(0, unit(1, "SN1"));
    h.unit(0, unit_in(2, "SN2", "b"));
    h.idle(0);
    h.seconds(30);
    assert!(h.hear_all(0).iter().all(|it| it != "pull"));
    h.sent(0, Tag::Pull, Duration::ZERO);
    h.unit(0, unit_in(3, "SN3", "c"));
    assert_eq!(h.spoken.iter().filter(|(_, it)| it == "pull").count(), 2);
}

#[test]
fn pull_comes_after_hello_after_each_unit_and_a_period_after_idle_and_one_is_open() {
    let mut h = Harness::new(Setup::default());
    h.connect(0, 1);
    assert_eq!(h.hear_all(0), ["hello", "pull"]);
    h.answers = false;
    h.say(0, FixtureMessage::Unit(unit(1, "SN1")));
    assert_eq!(h.hear_all(0), ["ack 1", "pull"]);
    h.say(0, FixtureMessage::Unit(unit(2, "ä")));
    assert_eq!(h.hear_all(0), ["nak bad-serial 2", "pull"]);
    h.idle(0);
    assert!(h.hear_all(0).is_empty());
    h.wait(RESEND - Duration::from_millis(1));
    assert!(h.hear_all(0).is_empty());
    h.wait(Duration::from_millis(1));
    assert_eq!(h.hear_all(0), ["pull"]);
}

#[test]
fn pull_comes_after_each_pass_and_fail_without_waiting_out_an_idle() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.idle(0);
    h.hear_all(0);
    let sha256 = h.credentials("SN1").certificate_sha256.clone();
    let written = FixtureMessage::Written { id: 1, serial: "SN1".to_owned(), certificate_sha256: sha256 };
    h.say(0, written);
    assert_eq!(h.hear_all(0), ["pass 1 SN1", "pull"]);
    h.idle(0);
    h.say(0, FixtureMessage::Removed { id: 7, serial: "SN7".to_owned() });
    assert_eq!(h.hear_all(0), ["fail removed 7 SN7", "pull"]);
}

#[test]
fn credentials_are_repeated_until_they_are_answered_and_at_most_for_answer_within() {
    let mut h = Harness::ready();
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    for _ in 0..29 {
        h.wait(RESEND);
        assert_eq!(h.hear(0), ["credentials 1 SN1"]);
    }
    h.wait(RESEND - Duration::from_millis(1));
    assert!(h.hear(0).is_empty());
    h.wait(Duration::from_millis(1));
    assert_eq!(h.hear(0).last().map(String::as_str), Some("fail timeout 1 SN1"));
    h.seconds(600);
    assert!(h.hear(0).is_empty());
    assert_eq!(h.state("SN1").as_str(), "failed");
}

#[test]
fn credentials_are_counted_from_the_last_byte_and_no_second_copy_is_queued() {
    let mut h = Harness::ready();
    h.leaves_in = None;
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    // Still in our own queue, then in the kernel's: a repeated unit is acknowledged, and that is all.
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    h.seconds(30);
    h.sent(0, Tag::Credentials(1), Duration::from_secs(5));
    h.seconds(3);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    h.seconds(3);
    assert!(h.hear(0).is_empty(), "two seconds have not passed since the last byte");
    h.seconds(1);
    assert_eq!(h.hear(0), ["credentials 1 SN1"]);
    h.sent(0, Tag::Credentials(1), Duration::ZERO);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
}

#[test]
fn the_time_for_an_answer_begins_when_the_first_copy_has_left() {
    let mut h = Harness::ready();
    h.leaves_in = None;
    h.unit(0, unit(1, "SN1"));
    h.seconds(100);
    assert!(h.hear(0).is_empty(), "no copy has left yet");
    h.sent(0, Tag::Credentials(1), Duration::from_secs(10));
    h.seconds(69);
    assert!(!h.hear(0).contains(&"fail timeout 1 SN1".to_owned()));
    h.seconds(1);
    assert!(h.hear(0).contains(&"fail timeout 1 SN1".to_owned()));
}

#[test]
fn the_time_for_an_answer_begins_anew_when_the_cable_is_back() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.seconds(50);
    h.input(Input::PortLost(0));
    h.seconds(5);
    h.connect(0, 1);
    assert_eq!(h.hear(0).last().map(String::as_str), Some("credentials 1 SN1"));
    h.seconds(58);
    assert!(!h.hear(0).contains(&"fail timeout 1 SN1".to_owned()));
    h.seconds(2);
    assert!(h.hear(0).contains(&"fail timeout 1 SN1".to_owned()));
}

#[test]
fn each_answer_stops_the_repeating() {
    for answer in ["written", "write-failed", "removed"] {
        let mut h = Harness::ready();
        h.unit(0, unit(1, "SN1"));
        match answer {
            "written" => drop(h.written(0, 1, "SN1")),
            "write-failed" => drop(h.write_failed(0, 1, "SN1")),
            _ => drop(h.removed(0, 1, "SN1")),
        }
        h.seconds(300);
        assert!(h.hear(0).is_empty(), "{answer}");
    }
}

#[test]
fn answers_are_not_repeated_unasked() {
    let mut h = Harness::ready();
    h.answers = false;
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    h.seconds(59);
    assert!(h.hear(0).is_empty());
}

#[test]
fn bad_frames_are_answered_at_most_five_times_a_second() {
    let mut h = Harness::ready();
    h.input(Input::BadFrame(0, Some(9), BadReason::NotJson));
    assert!(
        h.sentence(0).starts_with("Not understood: the frame is not one JSON object"),
        "{}",
        h.sentence(0)
    );
    assert_eq!(h.hear(0), ["nak bad-frame 9"], "with the id, when the checksum was right");
    for _ in 0..100 {
        h.input(Input::BadFrame(0, None, BadReason::WrongChecksum));
    }
    assert_eq!(h.hear(0), ["nak bad-frame"; 4]);
    h.wait(Duration::from_millis(999));
    h.input(Input::BadFrame(0, None, BadReason::WrongChecksum));
    assert!(h.hear(0).is_empty());
    h.wait(Duration::from_millis(1));
    h.input(Input::BadFrame(0, None, BadReason::WrongChecksum));
    assert_eq!(h.hear(0), ["nak bad-frame"]);
    h.input(Input::Message(0, FixtureMessage::Unit(unit(1, "SN1"))));
    assert_eq!(h.hear(0), ["ack 1", "credentials 1 SN1"], "the link goes on");
}

#[test]
fn draining_stops_pulling_and_new_units_but_lets_known_ones_finish() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.unit(0, unit_in(5, "SN5", "e"));
    h.written(0, 5, "SN5");
    h.input(Input::Drain);
    assert_eq!(h.unit(0, unit_in(2, "SN2", "b")), ["nak draining 2"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
    assert!(h.line.is_idle());
    h.idle(0);
    h.seconds(20);
    assert!(h.hear_all(0).is_empty(), "no pull");
    assert_eq!(h.station(StationOrder::Resume), Some(Ok(())));
    assert_eq!(h.hear_all(0), ["pull"]);
    assert_eq!(h.unit(0, unit_in(2, "SN2", "b")), ["ack 2", "credentials 2 SN2"]);
}

#[test]
fn a_person_who_drains_and_resumes_is_on_record_before_the_answer() {
    let mut h = Harness::ready();
    assert_eq!(h.station(StationOrder::Drain), Some(Ok(())));
    assert_eq!(h.unit(0, unit_in(2, "SN2", "b")), ["nak draining 2"]);
    assert_eq!(h.station(StationOrder::LogLevel("debug".to_owned())), Some(Ok(())));
    assert_eq!(h.station(StationOrder::Resume), Some(Ok(())));
    assert_eq!(h.unit(0, unit_in(2, "SN2", "b")), ["ack 2", "credentials 2 SN2"]);
    let told = h.shelf.station_events.iter().filter_map(|it| match it {
        StationEvent::Drained { by } => Some(("drained", by.reason.as_str())),
        StationEvent::Resumed { by } => Some(("resumed", by.reason.as_str())),
        StationEvent::LogLevel { level, .. } => Some(("log-level", level.as_str())),
        _ => None,
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [("drained", "lunch"), ("log-level", "debug"), ("resumed", "lunch")]
    );
}

#[test]
fn a_closed_gate_keeps_new_devices_out_and_says_why() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.input(Input::Gate(Some("the disk is nearly full".to_owned())));
    h.say(0, FixtureMessage::Unit(unit_in(2, "SN2", "b")));
    assert!(h.sentence(0).contains("the disk is nearly full"));
    assert_eq!(h.hear_all(0), ["nak busy 2"], "and no pull");
    assert!(h.shelf.devices.len() == 1);
    assert_eq!(h.unit(0, unit(3, "SN1")), ["ack 3"], "what is in the journal goes on");
    h.input(Input::Gate(None));
    assert_eq!(h.hear_all(0), ["pull"]);
    assert_eq!(h.unit(0, unit_in(2, "SN2", "b")), ["ack 2"]);
}

/// Offers of before were dropped by their timers meanwhile, and nothing made them again.
#[test]
fn another_fixture_on_the_cable_for_a_while_costs_no_unit_its_credentials() {
    let mut h = Harness::ready();
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    let hello =
        |name: &str| FixtureMessage::Hello { protocol: 1, fixture: name.to_owned(), boot: 1, firmware: None };
    h.say(0, hello("jig-9"));
    h.seconds(30);
    assert_eq!(h.hear(0), ["nak wrong-fixture"]);
    h.say(0, hello("jig-1"));
    assert_eq!(h.hear(0), ["credentials 1 SN1"]);
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
}

/// Else a fast station would keep each until the patience with its unit is over.
#[test]
fn nothing_is_due_of_a_presentation_that_has_ended() {
    let mut h = Harness::ready();
    for n in 0..20 {
        let serial = format!("SN{n}");
        h.unit(0, unit(3 * n + 1, &serial));
        if n % 2 == 0 {
            h.pass(0, 3 * n + 1, &serial);
        } else {
            h.removed(0, 3 * n + 1, &serial);
        }
        // The same again, taken out with its credentials on the way.
        h.unit(0, unit(3 * n + 2, &serial));
        h.removed(0, 3 * n + 2, &serial);
    }
    let of_a_unit =
        |it: &&Timer| matches!(it, Timer::Resend(..) | Timer::AnswerWithin(..) | Timer::Patience(..));
    assert_eq!(h.line.timers.values().find(of_a_unit), None);
}

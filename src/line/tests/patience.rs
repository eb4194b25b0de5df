//! Rule 8: how long a unit waits for the cloud, and what it is told.

use std::time::Duration;

use super::account::Fault;
use super::harness::Harness;
use super::setup::{Setup, shared_policy, unit, unit_in};
use crate::cloud::{Class, FailureKind, Operation, StopCause};
use crate::device::State;
use crate::line::Input;

const CAUSES: [(FailureKind, &str); 8] = [
    (FailureKind::Unreachable, "offline"),
    (FailureKind::Unknown, "offline"),
    (FailureKind::Throttled, "throttled"),
    (FailureKind::Stop(StopCause::Quota), "quota"),
    (FailureKind::Stop(StopCause::Credentials), "unauthorized"),
    (FailureKind::Stop(StopCause::Permission), "unauthorized"),
    (FailureKind::Stop(StopCause::Account), "unauthorized"),
    (FailureKind::Stop(StopCause::Clock), "clock"),
];

#[test]
fn a_unit_waits_for_the_cloud_as_long_as_its_patience_and_is_told_the_cause() {
    for (kind, code) in CAUSES {
        let mut h = Harness::ready();
        h.account.down = Some(kind);
        assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
        h.wait(Duration::from_millis(59_999));
        assert!(h.hear(0).is_empty(), "{kind:?}");
        h.wait(Duration::from_millis(1));
        assert_eq!(h.hear(0), [format!("fail {code} 1 SN1")], "{kind:?}");
        assert!(h.state("SN1").is_unfinished(), "deferred, not failed");
        assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", format!("fail {code} 1 SN1").as_str()]);
    }
}

#[test]
fn the_work_goes_on_and_the_unit_goes_straight_to_credentials_when_it_is_back() {
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Unreachable);
    h.unit(0, unit(1, "SN1"));
    h.seconds(120);
    h.hear(0);
    h.account.down = None;
    h.seconds(60);
    assert!(h.hear(0).is_empty(), "nobody is offered anything");
    h.account.assert_holds("SN1", h.issued[0].1);
    h.account.log.clear();
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    assert!(h.account.log.is_empty());
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
}

#[test]
fn calls_that_wait_go_to_the_backlog_with_their_device_and_come_back_with_it() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let all_are =
        |h: &Harness, class| !h.calls.is_empty() && h.calls.iter().all(|it| it.urgency.class() == class);
    assert!(all_are(&h, Class::NestNew), "{:?}", h.calls);
    h.seconds(60);
    assert_eq!(h.hear(0), ["fail throttled 1 SN1"]);
    assert!(all_are(&h, Class::BacklogNew), "{:?}", h.calls);
    h.unit(0, unit(2, "SN1"));
    assert!(all_are(&h, Class::NestNew), "{:?}", h.calls);
}

#[test]
fn a_deferred_device_goes_on_after_a_restart() {
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Throttled);
    h.unit(0, unit(1, "SN1"));
    h.seconds(61);
    h.hear(0);
    h.account.down = None;
    h.crash(usize::MAX);
    h.account.assert_holds("SN1", h.issued[0].1);
    h.connect(0, 1);
    assert_eq!(h.hear(0), ["hello"]);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
}

#[test]
fn a_unit_whose_calls_are_out_and_unanswered_is_told_to_wait_too() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.seconds(60);
    assert_eq!(h.hear(0), ["fail throttled 1 SN1"]);
}

#[test]
fn who_waits_for_something_to_show_is_not_told_of_an_outage() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.seconds(57);
    h.account.always.insert(Operation::AttachPolicy, Fault::Fail(FailureKind::NotFound));
    h.answers = true;
    h.answer_all();
    h.seconds(3);
    assert!(h.sentence(0).contains("AttachPolicy"), "{}", h.sentence(0));
    assert_eq!(h.hear(0), ["fail throttled 1 SN1"]);
}

#[test]
fn the_worst_of_several_causes_is_told() {
    let mut h = Harness::ready();
    h.account.always.insert(Operation::CreateCredentialLocker, Fault::Fail(FailureKind::Throttled));
    h.account.always.insert(Operation::CreatePolicy, Fault::Fail(FailureKind::Stop(StopCause::Quota)));
    h.account.always.insert(Operation::CreateThing, Fault::Fail(FailureKind::Unreachable));
    h.unit(0, unit(1, "SN1"));
    h.seconds(60);
    assert!(h.sentence(0).contains("quota"), "{}", h.sentence(0));
    assert_eq!(h.hear(0), ["fail quota 1 SN1"]);
}

#[test]
fn who_waits_for_a_shared_policy_is_told_what_holds_it_up() {
    let mut h = Harness::ready_with(Setup::with(|it| it.policy = shared_policy()));
    h.account.always.insert(Operation::CreatePolicy, Fault::Fail(FailureKind::Stop(StopCause::Permission)));
    h.unit(0, unit_in(1, "SN1", "a"));
    h.unit(0, unit_in(2, "SN2", "b"));
    h.seconds(60);
    assert_eq!(h.hear(0), ["fail unauthorized 1 SN1", "fail unauthorized 2 SN2"]);
}

#[test]
fn a_ca_that_cannot_issue_is_not_the_clouds_fault() {
    let mut h = Harness::ready();
    h.issues = false;
    h.unit(0, unit(1, "SN1"));
    let (serial, generation, _) = h.to_issue.remove(0);
    h.input(Input::Issued { serial, generation, result: Err("the CA is not valid now".to_owned()) });
    h.seconds(60);
    assert!(h.sentence(0).contains("the CA is not valid now"), "{}", h.sentence(0));
    assert_eq!(h.hear(0), ["fail internal 1 SN1"]);
    assert_eq!(h.line.status().stopped, ["the CA is not valid now"]);
    assert!(!h.to_issue.is_empty(), "it is tried again");
    h.issues = true;
    h.issue();
    h.go_on();
    assert!(h.line.status().stopped.is_empty(), "it goes on by itself");
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
}

#[test]
fn patience_is_for_the_cloud_and_not_for_a_lost_cable() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.seconds(30);
    h.input(Input::PortLost(0));
    h.answer_all();
    h.seconds(40);
    h.connect(0, 1);
    assert_eq!(h.hear(0).last().map(String::as_str), Some("credentials 1 SN1"));
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
}

#[test]
fn a_unit_that_has_its_credentials_is_not_deferred() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.seconds(59);
    h.account.down = Some(FailureKind::Unreachable);
    h.hear(0);
    h.wait(Duration::from_millis(999));
    assert!(h.hear(0).iter().all(|it| it == "credentials 1 SN1"));
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
}

#[test]
fn a_key_that_is_lost_late_does_not_keep_the_unit_waiting_for_ever() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.seconds(59);
    h.input(Input::PortLost(0));
    h.keys.clear();
    h.account.down = Some(FailureKind::Unreachable);
    h.seconds(10);
    h.connect(0, 1);
    h.hear(0);
    h.seconds(60);
    assert_eq!(h.hear(0), ["fail offline 1 SN1"]);
}

#[test]
fn the_line_says_when_it_stops_and_when_it_goes_on() {
    use crate::journal::StationEvent;
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Stop(StopCause::Credentials));
    h.unit(0, unit(1, "SN1"));
    h.seconds(100);
    assert!(!h.line.status().stopped.is_empty());
    h.account.down = None;
    h.seconds(100);
    assert!(h.line.status().stopped.is_empty());
    let told: Vec<_> = h
        .shelf
        .station_events
        .iter()
        .filter(|it| matches!(it, StationEvent::LineStopped { .. } | StationEvent::LineResumed))
        .collect();
    assert!(matches!(told[..], [StationEvent::LineStopped { .. }, StationEvent::LineResumed]), "{told:?}");
    assert_eq!(h.state("SN1"), State::Provisioning);
}

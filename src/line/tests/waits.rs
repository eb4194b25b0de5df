//! What devices waited for and what AWS was called for is journaled, for the reports.

use std::time::Duration;

use super::account::Fault;
use super::harness::{Harness, Pending};
use super::setup::unit;
use crate::cloud::{FailureKind, Operation};
use crate::device::event::{Event, Waited};
use crate::journal::{Called, Cause, StationEvent};
use crate::line::Input;

/// Answers all calls that are out, each having waited so long for its turn.
fn answer(h: &mut Harness, waited: Duration) {
    for Pending { serial, step, generation, call } in std::mem::take(&mut h.calls) {
        let result = h.reply(&call);
        h.input(Input::Called { serial, step, generation, result, waited });
    }
}

/// What the record of the newest offer says.
fn offered(h: &Harness) -> Waited {
    let waited = |it: &Event| match it {
        Event::Offered { waited, .. } => Some(*waited),
        _ => None,
    };
    h.shelf.events.iter().rev().find_map(|(_, it)| waited(it)).expect("none was offered")
}

fn told(h: &Harness) -> Vec<Called> {
    let called = |it: &StationEvent| match it {
        StationEvent::Called(it) => Some((**it).clone()),
        _ => None,
    };
    h.shelf.station_events.iter().filter_map(called).collect()
}

#[test]
fn what_a_device_waited_for_is_in_the_record_of_its_offer() {
    let mut h = Harness::ready();
    (h.answers, h.syncs) = (false, false);
    h.unit(0, unit(1, "SN1"));
    // The record is on its way to the disk for 20 ms; nothing is asked of AWS before.
    h.wait(Duration::from_millis(20));
    assert!(h.calls.is_empty());
    h.syncs = true;
    h.sync(usize::MAX);
    while !h.was_offered("SN1") {
        assert!(!h.calls.is_empty());
        // Each call waits 300 ms for its turn and is answered 90 ms later.
        h.wait(Duration::from_millis(390));
        answer(&mut h, Duration::from_millis(300));
    }
    let Waited { cloud, quota, journal } = offered(&h);
    assert_eq!(journal, 20);
    assert_eq!((cloud % 90, quota % 300, quota / 300), (0, 0, cloud / 90), "steps side by side count once");
    assert!((2..=4).contains(&(cloud / 90)), "{cloud}");
}

#[test]
fn what_was_waited_for_in_an_earlier_presentation_is_none_of_this_one() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.wait(Duration::from_secs(3));
    h.removed(0, 1, "SN1");
    h.wait(Duration::from_secs(30));
    h.unit(0, unit(2, "SN1"));
    h.wait(Duration::from_millis(50));
    answer(&mut h, Duration::from_secs(33));
    h.answers = true;
    h.answer_all();
    let waited = offered(&h);
    assert_eq!(waited.cloud + waited.quota + waited.journal, 50, "{waited:?}");
}

#[test]
fn what_aws_was_called_for_is_journaled_when_its_five_minutes_are_over_and_at_a_stop() {
    let mut h = Harness::ready();
    h.account.fault(Operation::CreateThing, Fault::Fail(FailureKind::Throttled));
    h.unit(0, unit(1, "SN1"));
    h.seconds(5);
    h.written(0, 1, "SN1");
    h.input(Input::Gate(None));
    assert!(told(&h).is_empty(), "not yet");
    assert_eq!(h.line.status().calls.unwrap().operations["create-policy"].calls, 1);
    h.seconds(300);
    h.input(Input::Gate(None));
    let all = told(&h);
    assert_eq!(all.len(), 1);
    let things = all[0].operations["create-thing"];
    assert_eq!((things.calls, things.throttled, things.errors), (2, 1, 0));
    h.seconds(400);
    h.input(Input::Gate(None));
    assert_eq!(told(&h).len(), 1, "nothing was called");
    h.unit(0, unit(2, "SN2"));
    let actions = h.line.stop(h.now);
    let last = |it: &crate::line::Action| match it {
        crate::line::Action::Record(entry) => {
            matches!(entry.record.what, crate::journal::What::Station(StationEvent::Called(_)))
        }
        _ => false,
    };
    assert!(actions.iter().any(last), "{actions:?}");
}

#[test]
fn throttling_that_goes_on_is_a_hindrance_and_a_call_refused_now_and_then_is_none() {
    let mut h = Harness::ready();
    let hindered = |h: &Harness| {
        let of = |it: &&StationEvent| match it {
            StationEvent::Hindered { cause, .. } | StationEvent::Unhindered { cause, .. } => {
                *cause == Cause::Throttled
            }
            _ => false,
        };
        h.shelf.station_events.iter().filter(of).count()
    };
    let tick = |h: &mut Harness, seconds: u64| {
        for _ in 0..seconds * 4 {
            h.wait(Duration::from_millis(250));
            h.input(Input::Gate(None));
        }
    };
    h.account.fault(Operation::CreateThing, Fault::Fail(FailureKind::Throttled));
    h.unit(0, unit(1, "SN1"));
    tick(&mut h, 20);
    assert_eq!(hindered(&h), 0);
    h.account.always.insert(Operation::CreateThing, Fault::Fail(FailureKind::Throttled));
    h.unit(0, unit(2, "SN2"));
    h.unit(0, unit(3, "SN3"));
    tick(&mut h, 20);
    assert_eq!(hindered(&h), 1, "it has begun");
    h.account.always.clear();
    tick(&mut h, 60);
    assert_eq!(hindered(&h), 2, "and ended");
}

//! What devices waited for and what AWS was called for is journaled, for the reports.

use std::time::Duration;

use super::account::Fault;
use super::harness::{Harness, Pending};
use super::setup::{Setup, unit, unit_in};
use crate::cloud::{ACCOUNT, FailureKind, HeldBack, Operation};
use crate::device::State;
use crate::device::event::Waited;
use crate::journal::{Called, Cause, LearnedLimit, StationEvent};
use crate::line::{Deliver, Input};

/// Answers all calls that are out, each having waited so long for its turn.
fn answer(h: &mut Harness, waited: Duration) {
    for Pending { serial, step, generation, call, .. } in std::mem::take(&mut h.calls) {
        let result = h.reply(&call);
        h.input(Input::Called { serial, step, generation, result, waited });
    }
}

/// What the newest record of that name says.
fn waited(h: &Harness, name: &str) -> Waited {
    let newest = h.shelf.events.iter().rev().find(|(_, it)| it.name() == name);
    *newest.and_then(|(_, it)| it.waited()).expect("there is no such record")
}

fn offered(h: &Harness) -> Waited {
    waited(h, "offered")
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
    let Waited { cloud, quota, journal } = offered(&h);
    assert_eq!(cloud + quota + journal, 50, "{cloud} {quota} {journal}");
}

fn seconds(cloud: u64, quota: u64, journal: u64) -> Waited {
    Waited { cloud: 1_000 * cloud, quota: 1_000 * quota, journal: 1_000 * journal }
}

#[test]
fn what_a_unit_waited_for_in_vain_is_in_the_record_of_its_end() {
    // AWS is away: the calls fail, wait for their next try, and are held back.
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Unreachable);
    h.unit(0, unit(1, "SN1"));
    h.seconds(60);
    assert_eq!(h.hear(0), ["fail offline 1 SN1"]);
    assert_eq!(waited(&h, "deferred"), seconds(60, 0, 0));
    // What it waits for without a nest is none of it; presented again, it counts from there on.
    h.seconds(300);
    h.unit(0, unit(2, "SN1"));
    h.seconds(7);
    h.account.down = None;
    h.seconds(30);
    let Waited { cloud, quota, journal } = offered(&h);
    assert!((7_000..=17_000).contains(&cloud), "{cloud}");
    assert_eq!((quota, journal), (0, 0));
    h.written(0, 2, "SN1");
    assert_eq!(waited(&h, "passed"), Waited::default(), "nothing twice");
}

#[test]
fn what_a_unit_waited_for_that_ends_in_quarantine_is_in_that_record() {
    let mut h = Harness::ready();
    h.answers = false;
    h.account.policies.insert("SN1".to_owned(), "{}".to_owned());
    h.unit(0, unit(1, "SN1"));
    for _ in 0..2 {
        // That there is a policy, and that it is another.
        assert_eq!(h.state("SN1"), State::Provisioning);
        h.wait(Duration::from_millis(390));
        answer(&mut h, Duration::from_millis(300));
    }
    assert_eq!(h.state("SN1"), State::Quarantined);
    let Waited { cloud, quota, journal } = waited(&h, "quarantined");
    assert!(cloud >= 2 * 90 && quota >= 300, "{cloud} {quota}");
    assert_eq!((cloud + quota, journal), (2 * 390, 0));
}

#[test]
fn a_call_that_is_not_answered_counts_too() {
    let mut h = Harness::ready();
    (h.answers, h.syncs) = (false, false);
    h.unit(0, unit(1, "SN1"));
    h.seconds(4);
    h.syncs = true;
    h.sync(usize::MAX);
    assert!(!h.calls.is_empty());
    h.seconds(5);
    // Another unit lies in its nest.
    h.unit(0, unit(2, "SN2"));
    assert_eq!(waited(&h, "closed"), seconds(5, 0, 4));
    h.seconds(60);
    assert_eq!(waited(&h, "deferred"), seconds(10, 50, 0), "a call takes no longer than ten seconds");
    h.syncs = false;
    h.unit(0, unit(3, "SN3"));
    h.seconds(60);
    h.syncs = true;
    h.sync(usize::MAX);
    assert_eq!(waited(&h, "deferred"), seconds(0, 0, 60), "nothing was asked of AWS before it was on disk");
}

#[test]
fn what_a_unit_waited_for_whose_credentials_go_into_a_directory_is_in_the_record_that_it_has_passed() {
    let deliver = Deliver::Directory("/out".into());
    let mut h = Harness::ready_with(Setup { deliver, ..Setup::default() });
    h.answers = false;
    let passes = |h: &mut Harness, serial: &str| {
        while h.state(serial) != State::Passed {
            assert!(!h.calls.is_empty());
            h.wait(Duration::from_millis(390));
            answer(h, Duration::from_millis(300));
        }
        waited(h, "passed")
    };
    h.unit(0, unit(1, "SN1"));
    let Waited { cloud, quota, journal } = passes(&mut h, "SN1");
    assert_eq!((cloud % 90, quota % 300, quota / 300, journal), (0, 0, cloud / 90, 0));
    assert!((2..=4).contains(&(cloud / 90)), "{cloud}");
    // One that has left its nest waits there for nothing.
    h.unit(0, unit(2, "SN2"));
    h.removed(0, 2, "SN2");
    assert_eq!(passes(&mut h, "SN2"), Waited::default());
}

#[test]
fn what_was_on_disk_before_a_restart_is_waited_for_by_nobody() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.syncs = false;
    h.crash(usize::MAX);
    assert!(!h.calls.is_empty(), "the device is on disk");
    h.connect(0, 1);
    h.wait(Duration::from_millis(500));
    // Now the first record of this process is.
    h.syncs = true;
    h.sync(usize::MAX);
    answer(&mut h, Duration::from_millis(500));
    h.answers = true;
    h.answer_all();
    h.unit(0, unit(1, "SN1"));
    assert_eq!(offered(&h), Waited { cloud: 0, quota: 500, journal: 0 });
}

/// Time passes; for how long devices waited for AWS so far.
fn busy(h: &mut Harness, seconds: u64) -> u64 {
    for _ in 0..seconds * 4 {
        h.wait(Duration::from_millis(250));
        h.input(Input::Gate(None));
    }
    h.line.status().calls.map_or(0, |it| it.busy_ms)
}

#[test]
fn devices_wait_for_aws_while_it_is_away_and_not_while_the_stations_ca_signs() {
    let mut h = Harness::ready();
    h.issues = false;
    h.unit(0, unit(1, "SN1"));
    assert_eq!(busy(&mut h, 20), 0);
    assert!(h.line.status().calls.is_some_and(|it| !it.operations.is_empty()));
    h.issues = true;
    h.issue();
    h.go_on();
    assert!(h.was_offered("SN1"));
    h.account.down = Some(FailureKind::Unreachable);
    h.unit(0, unit_in(2, "SN2", "b"));
    h.unit(0, unit_in(3, "SN3", "c"));
    let before = busy(&mut h, 30);
    assert_eq!(busy(&mut h, 20) - before, 20_000, "its calls are held back");
}

#[test]
fn in_an_outage_the_time_counts_from_the_beginning_of_each_five_minutes() {
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Unreachable);
    h.unit(0, unit(1, "SN1"));
    h.unit(0, unit_in(2, "SN2", "b"));
    busy(&mut h, 30);
    let all = |h: &Harness| {
        let now = h.line.status().calls.map_or(0, |it| it.busy_ms);
        now + told(h).iter().map(|it| it.busy_ms).sum::<u64>()
    };
    let before = all(&h);
    busy(&mut h, 1_000);
    assert_eq!(all(&h) - before, 1_000_000);
    assert!((3..=5).contains(&told(&h).len()), "{:?}", told(&h));
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

fn held(limit: &'static str, rate: f64, ceiling: Option<f64>) -> HeldBack {
    HeldBack { limit, rate: Some(rate), ceiling, paused_until: None }
}

#[test]
fn what_aws_was_found_to_allow_is_journaled_while_calls_wait_for_it() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.written(0, 1, "SN1");
    let look = |h: &mut Harness, rate: Option<f64>| {
        h.wait(Duration::from_millis(250));
        h.input(Input::HeldBack(rate.map(|rate| held(ACCOUNT, rate, None)).into_iter().collect()));
        h.input(Input::Gate(None));
        h.line.status().calls.and_then(|it| it.learned.get(ACCOUNT).copied())
    };
    // The station rests: nobody waits.
    assert_eq!(look(&mut h, Some(15.0)), None);
    h.answers = false;
    h.unit(0, unit(2, "SN2"));
    assert_eq!(look(&mut h, None), None);
    look(&mut h, Some(14.0));
    let learned = look(&mut h, Some(13.5));
    assert_eq!(learned, Some(LearnedLimit { bound_ms: 500, limit_milli: 14_000 }));
    assert_eq!(look(&mut h, None), learned, "what is not said again is over");
    h.wait(Duration::from_millis(250));
    h.input(Input::Gate(None));
    assert_eq!(h.line.status().calls.unwrap().learned.get(ACCOUNT).copied(), learned);
    let mut journaled = h.line.stop(h.now).into_iter().filter_map(|it| match it {
        crate::line::Action::Record(entry) => match entry.record.what {
            crate::journal::What::Station(StationEvent::Called(it)) => it.learned.get(ACCOUNT).copied(),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(journaled.next(), learned);
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

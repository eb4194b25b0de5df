//! The backlog: how many devices are begun at a time, in which order, and who goes before them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::harness::{Harness, Pending};
use super::setup::{Setup, shared_policy, unit_in};
use crate::cloud::{Call, FailureKind, Operation};
use crate::device::operator::Order;
use crate::device::plan;

/// A station that had no AWS for a minute, with `count` devices that no nest waits for any more. AWS is
/// there again, and answers when the test says so.
fn buffered(setup: Setup, count: u64) -> Harness {
    let mut h = Harness::ready_with(setup);
    h.account.down = Some(FailureKind::Unreachable);
    for id in 1..=count {
        h.unit(0, unit_in(id, &format!("SN{id}"), &format!("n{id}")));
        h.wait(Duration::from_millis(10));
    }
    h.seconds(61);
    h.hear(0);
    assert_eq!(h.line.status().buffered as u64, count);
    h.account.down = None;
    h.answers = false;
    h.seconds(11);
    h
}

fn with(in_progress: usize) -> Setup {
    Setup { in_progress, ..Setup::default() }
}

/// Devices that AWS is asked for, or holds a part of.
fn begun(h: &Harness) -> BTreeSet<String> {
    let out = h.calls.iter().map(|it| it.serial.to_string());
    let halves = h.shelf.devices.values().filter(|it| {
        let some = it.done.thing || it.done.policy || it.done.locker.is_some();
        some && !plan::is_complete(it, &h.setup.rules)
    });
    out.chain(halves.map(|it| it.serial.to_string())).collect()
}

/// Answers one call after the other until nothing is left to do; most devices begun at a time.
fn drain(h: &mut Harness) -> usize {
    let mut most = 0;
    for _ in 0..100_000 {
        most = most.max(begun(h).len());
        if h.calls.is_empty() {
            if h.line.status().buffered == 0 {
                return most;
            }
            h.seconds(11);
            continue;
        }
        let Pending { serial, step, call, .. } = &h.calls[0];
        let (serial, step, call) = (serial.to_string(), *step, call.clone());
        let result = h.reply(&call);
        h.answer(&serial, step, result);
    }
    panic!("the backlog does not drain");
}

#[test]
fn no_more_devices_are_begun_at_a_time_than_are_to_be() {
    for in_progress in [1, 8, 20] {
        let mut h = buffered(with(in_progress), 60);
        let most = drain(&mut h);
        assert_eq!(most, in_progress);
        assert_eq!(h.account.things.len(), 60);
        assert_eq!(h.account.principals.len(), 60);
    }
}

#[test]
fn who_came_first_is_begun_first_also_after_a_restart() {
    for restart in [false, true] {
        let mut h = buffered(with(3), 40);
        if restart {
            h.crash(usize::MAX);
        }
        let number = |it: &Call| match it {
            Call::CreateThing { name, .. } => name[2..].parse::<u64>().ok(),
            _ => None,
        };
        let before = h.account.log.len();
        drain(&mut h);
        let order: Vec<u64> = h.account.log[before..].iter().filter_map(number).collect();
        assert!(order.is_sorted(), "{order:?}");
        assert_eq!(order.last(), Some(&40));
    }
}

#[test]
fn a_unit_that_comes_back_to_a_nest_is_begun_at_once() {
    let mut h = buffered(with(1), 30);
    let asked = |h: &Harness, serial: &str| h.calls.iter().filter(|it| it.serial.as_str() == serial).count();
    // One call tries for each service; when it went through, the nests are free.
    while !h.line.status().degraded.iter().all(|it| it.starts_with("fixture ")) {
        let Pending { serial, step, call, .. } = &h.calls[0];
        let (serial, step, call) = (serial.to_string(), *step, call.clone());
        let result = h.reply(&call);
        h.answer(&serial, step, result);
    }
    assert_eq!(asked(&h, "SN29"), 0);
    h.unit(0, unit_in(129, "SN29", "a"));
    assert_eq!(asked(&h, "SN29"), 4, "all of its first calls");
    // A person may have one begun out of turn.
    assert_eq!(asked(&h, "SN28"), 0);
    assert_eq!(h.order(Order::Retry, "SN28"), Ok(()));
    assert_eq!(asked(&h, "SN28"), 4);
    drain(&mut h);
    assert_eq!(h.account.principals.len(), 30);
}

#[test]
fn a_shared_policy_is_made_once_for_all_of_the_backlog() {
    let mut h = buffered(Setup { in_progress: 2, ..Setup::with(|it| it.policy = shared_policy()) }, 30);
    drain(&mut h);
    assert_eq!(h.account.policies.len(), 1);
    assert_eq!(h.account.attached.len(), 30);
}

#[test]
fn the_status_says_how_many_devices_wait_for_which_operation() {
    let mut h = buffered(with(2), 30);
    let waiting = h.line.status().waiting;
    for operation in [
        Operation::CreateCredentialLocker,
        Operation::CreatePolicy,
        Operation::CreateThing,
        Operation::RegisterCertificateWithoutCa,
    ] {
        assert_eq!(waiting.get(&operation), Some(&30), "{operation}");
    }
    assert_eq!(waiting.get(&Operation::AttachPolicy), None);
    drain(&mut h);
    assert!(h.line.status().waiting.is_empty());
}

//! AWS as it fails: lost answers, proxies, what does not show yet, crashes in between.

use std::collections::BTreeSet;

use super::account::Fault;
use super::harness::Harness;
use super::setup::{MAKING, Setup, shared_policy, unit};
use crate::cloud::testing::failure;
use crate::cloud::{Answer, Call, FailureKind, Operation, Reply};
use crate::device::State;
use crate::device::rules::PolicyRule;
use crate::device::steps::Step;
use crate::line::Input;

#[test]
fn a_lost_answer_repeats_the_same_request_and_makes_nothing_twice() {
    for operation in MAKING {
        let mut h = Harness::ready();
        h.account.fault(operation, Fault::Lost);
        h.account.fault(operation, Fault::Fail(FailureKind::Unknown));
        h.unit(0, unit(1, "SN1"));
        h.seconds(5);
        assert!(h.hear(0).contains(&"credentials 1 SN1".to_owned()), "{operation}");
        h.account.assert_holds("SN1", h.issued[0].1);
        let requests: BTreeSet<_> = h
            .account
            .log
            .iter()
            .filter(|it| it.operation() == operation)
            .map(|it| format!("{it:?}"))
            .collect();
        assert_eq!((requests.len(), h.account.count(operation)), (1, 3), "{operation}");
        assert_eq!(h.issued.len(), 1);
    }
}

#[test]
fn a_crash_after_each_call_repeats_the_same_request_and_makes_nothing_twice() {
    for answered in 0..=6 {
        for kept in [0, usize::MAX] {
            let mut h = Harness::ready();
            h.answers = false;
            h.unit(0, unit(1, "SN1"));
            for n in 0..answered {
                let next = h.calls.remove(0);
                let result = h.account.answer(&next.call);
                h.syncs = n + 1 < answered;
                let (serial, step, generation) = (next.serial, next.step, next.generation);
                h.input(Input::Called {
                    serial,
                    step,
                    generation,
                    result,
                    waited: std::time::Duration::ZERO,
                });
            }
            // What is still out arrives at AWS, but its answer finds nobody.
            for out in std::mem::take(&mut h.calls) {
                let _ = h.account.answer(&out.call);
            }
            (h.answers, h.syncs) = (true, true);
            h.crash(kept);
            h.connect(0, 1);
            h.hear(0);
            let heard = h.unit(0, unit(1, "SN1"));
            assert_eq!(heard, ["ack 1", "credentials 1 SN1"], "{answered} {kept}");
            assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
            h.account.assert_holds("SN1", h.issued.last().unwrap().1);
            assert_eq!(h.issued.len(), 1);
            let tokens: BTreeSet<_> = h
                .account
                .log
                .iter()
                .filter(|it| matches!(it, Call::CreateCredentialLocker { .. }))
                .map(|it| format!("{it:?}"))
                .collect();
            assert_eq!(tokens.len(), 1);
        }
    }
}

#[test]
fn an_empty_answer_that_is_not_aws_s_is_read_back() {
    for (attach, list) in [
        (Operation::AttachPolicy, Operation::ListAttachedPolicies),
        (Operation::AttachThingPrincipal, Operation::ListThingPrincipals),
    ] {
        for page in [0, 1] {
            let mut h = Harness::ready();
            h.account.page = page;
            h.account.fault(attach, Fault::Unsigned);
            assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
            assert_eq!((h.account.count(attach), h.account.count(list)), (1, 1));
        }
        let mut h = Harness::ready();
        h.account.fault(attach, Fault::Proxy);
        assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"], "it has not happened");
        h.seconds(5);
        assert!(h.hear(0).contains(&"credentials 1 SN1".to_owned()));
        h.account.assert_holds("SN1", h.issued[0].1);
    }
}

#[test]
fn a_list_is_read_to_its_end() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    while !h.calls.iter().any(|it| it.step == Step::AttachPolicy) {
        let next = h.calls.remove(0);
        let result = h.account.answer(&next.call);
        let (serial, step, generation) = (next.serial, next.step, next.generation);
        h.input(Input::Called { serial, step, generation, result, waited: std::time::Duration::ZERO });
    }
    h.answer("SN1", Step::AttachPolicy, Ok(Answer { reply: Reply::Empty, request_id: None }));
    let page = |names: &[&str], next: Option<&str>| {
        let names = names.iter().map(ToString::to_string).collect();
        let reply = Reply::Policies { names, next: next.map(str::to_owned) };
        Ok(Answer { reply, request_id: Some("req".to_owned()) })
    };
    h.answer("SN1", Step::AttachPolicy, page(&["other"], Some("m1")));
    let out = h.calls.iter().find(|it| it.step == Step::AttachPolicy).unwrap();
    assert!(matches!(&out.call, Call::ListAttachedPolicies { marker: Some(it), .. } if it == "m1"));
    h.answer("SN1", Step::AttachPolicy, page(&["SN1"], None));
    assert!(h.calls.iter().all(|it| it.step != Step::AttachPolicy));
    h.answer_all();
    assert!(h.hear(0).contains(&"credentials 1 SN1".to_owned()));
}

#[test]
fn a_list_without_end_is_left_alone_for_a_while() {
    let mut h = Harness::ready();
    h.account.always.insert(Operation::AttachPolicy, Fault::Unsigned);
    let endless = Reply::Policies { names: vec!["other".to_owned()], next: Some("m".to_owned()) };
    h.account.always.insert(Operation::ListAttachedPolicies, Fault::Says(endless));
    h.unit(0, unit(1, "SN1"));
    assert!(h.account.count(Operation::ListAttachedPolicies) <= 10);
    h.account.always.clear();
    h.seconds(30);
    assert!(h.hear(0).contains(&"credentials 1 SN1".to_owned()));
}

#[test]
fn what_does_not_show_yet_is_waited_for() {
    for attach in [Operation::AttachPolicy, Operation::AttachThingPrincipal] {
        let mut h = Harness::ready();
        for _ in 0..4 {
            h.account.fault(attach, Fault::Fail(FailureKind::NotFound));
        }
        h.unit(0, unit(1, "SN1"));
        h.seconds(30);
        assert!(h.hear(0).contains(&"credentials 1 SN1".to_owned()));
        assert_eq!(h.account.count(attach), 5);
        assert_eq!(h.account.log.len(), 10);
    }
}

#[test]
fn what_does_not_show_for_long_is_made_again() {
    for (attach, make) in [
        (Operation::AttachPolicy, Operation::CreatePolicy),
        (Operation::AttachThingPrincipal, Operation::CreateThing),
    ] {
        let mut h = Harness::ready();
        h.answers = false;
        h.unit(0, unit(1, "SN1"));
        while h.calls.iter().all(|it| it.call.operation() != attach) {
            let next = h.calls.remove(0);
            let result = h.account.answer(&next.call);
            let (serial, step, generation) = (next.serial, next.step, next.generation);
            h.input(Input::Called { serial, step, generation, result, waited: std::time::Duration::ZERO });
        }
        // A hand in the account takes it away.
        h.account.policies.clear();
        h.account.things.clear();
        h.answers = true;
        h.answer_all();
        h.seconds(300);
        assert!(h.account.count(make) >= 2, "{attach}");
        h.hear(0);
        assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
        h.account.assert_holds("SN1", h.issued[0].1);
    }
}

#[test]
fn what_never_shows_is_given_to_a_person_within_minutes() {
    for attach in [Operation::AttachPolicy, Operation::AttachThingPrincipal] {
        let mut h = Harness::ready();
        h.account.always.insert(attach, Fault::Fail(FailureKind::NotFound));
        h.unit(0, unit(1, "SN1"));
        h.seconds(600);
        assert_eq!(h.state("SN1"), State::Quarantined);
        assert!(h.account.count(attach) <= 40, "{}", h.account.count(attach));
    }
}

#[test]
fn a_shared_policy_that_has_vanished_is_made_again() {
    let mut h = Harness::ready_with(Setup::with(|it| it.policy = shared_policy()));
    h.pass(0, 1, "SN1");
    h.account.policies.clear();
    h.unit(0, unit(2, "SN2"));
    h.seconds(300);
    assert_eq!(h.account.count(Operation::CreatePolicy), 2);
    h.hear(0);
    assert_eq!(h.unit(0, unit(3, "SN2")), ["ack 3", "credentials 3 SN2"]);
}

#[test]
fn a_given_policy_that_is_not_there_does_not_take_devices_out_of_the_line_at_once() {
    let given = PolicyRule::Given { name: "all-lamps".to_owned() };
    let mut h = Harness::ready_with(Setup::with(|it| it.policy = given));
    h.unit(0, unit(1, "SN1"));
    h.seconds(10);
    assert!(h.state("SN1").is_unfinished());
    h.account.policies.insert("all-lamps".to_owned(), "{}".to_owned());
    h.seconds(20);
    assert!(h.hear(0).contains(&"credentials 1 SN1".to_owned()));
}

#[test]
fn what_aws_asks_to_wait_is_waited() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let mut throttled = failure(Operation::CreateThing, FailureKind::Throttled);
    throttled.retry_after = Some(std::time::Duration::from_secs(17));
    h.answer("SN1", Step::Thing, Err(throttled));
    h.seconds(16);
    assert!(h.calls.iter().all(|it| it.step != Step::Thing));
    h.seconds(1);
    assert!(h.calls.iter().any(|it| it.step == Step::Thing));
}

#[test]
fn a_second_answer_to_one_call_changes_nothing() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let Some(at) = h.calls.iter().position(|it| it.step == Step::Thing) else { panic!("no thing is made") };
    let thing = h.calls.remove(at);
    for _ in 0..2 {
        let (serial, step, generation) = (thing.serial.clone(), thing.step, thing.generation);
        let result = Err(failure(Operation::CreateThing, FailureKind::Refused));
        h.input(Input::Called { serial, step, generation, result, waited: std::time::Duration::ZERO });
    }
    assert_eq!(h.history("SN1").iter().filter(|it| **it == "quarantined").count(), 1);
}

#[test]
fn of_a_long_trouble_only_a_few_records_are_kept() {
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Unreachable);
    h.unit(0, unit(1, "SN1"));
    h.seconds(8 * 3600);
    let records = h.history("SN1").iter().filter(|it| **it == "trouble").count();
    assert!((4..100).contains(&records), "{records}");
    assert!(h.account.log.len() > 2 * 1000, "it is tried all the time");
}

#[test]
fn throttling_alone_makes_no_records() {
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Throttled);
    h.unit(0, unit(1, "SN1"));
    h.seconds(600);
    assert!(!h.history("SN1").contains(&"trouble"));
}

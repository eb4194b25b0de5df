//! A locker whose answer was lost over an hour ago is looked for before it is asked for again.

use std::collections::BTreeMap;

use super::account::Fault;
use super::harness::Harness;
use super::issuing::LockerHere;
use super::setup::{Setup, unit};
use crate::cloud::{FailureKind, Operation};
use crate::device::State;
use crate::device::event::{Event, Output};
use crate::device::operator::Order;
use crate::device::rules::LockerRule;

const CREATE: Operation = Operation::CreateCredentialLocker;
const LIST: Operation = Operation::ListCredentialLockers;
const GET: Operation = Operation::GetCredentialLocker;

/// A station whose first call for SN1's locker has ended as `first` says, and every later one with 503.
fn unanswered(first: Fault) -> Harness {
    let mut h = Harness::ready();
    h.account.fault(CREATE, first);
    h.account.always.insert(CREATE, Fault::Fail(FailureKind::Unknown));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    h
}

fn lockers(h: &Harness) -> Vec<&str> {
    h.account.lockers_made.iter().filter(|(_, it)| it.name == "SN1").map(|(id, _)| id.as_str()).collect()
}

fn locker_step(h: &Harness) -> (Output, bool) {
    let done = h.shelf.events.iter().find_map(|(_, it)| match it {
        Event::StepDone { output: output @ Output::Locker { .. }, adopted, .. } => {
            Some((output.clone(), *adopted))
        }
        _ => None,
    });
    done.expect("the locker is there")
}

#[test]
fn a_locker_made_by_an_answer_lost_over_an_hour_ago_is_found_though_the_token_is_forgotten() {
    let mut h = unanswered(Fault::Lost);
    h.seconds(3500);
    assert_eq!(h.account.count(LIST), 0, "within an hour the token is relied on");
    assert!(h.account.count(CREATE) > 1);
    h.account.forget_tokens();
    h.seconds(200);
    assert!(h.account.count(LIST) > 0);
    assert_eq!(lockers(&h).len(), 1);
    let (output, adopted) = locker_step(&h);
    assert!(adopted);
    assert!(matches!(output, Output::Locker { id, others, .. } if id == "locker1" && others.is_empty()));
    h.account.always.clear();
    h.unit(0, unit(2, "SN1"));
    assert_eq!(h.credentials("SN1").locker_id.as_deref(), Some("locker1"));
}

#[test]
fn one_that_is_not_there_is_asked_for_again_with_the_same_token_and_looked_for_each_time() {
    let mut h = unanswered(Fault::Fail(FailureKind::Unknown));
    h.seconds(3590);
    h.account.log.clear();
    h.seconds(120);
    let calls: Vec<_> =
        h.account.operations().into_iter().filter(|it| matches!(*it, CREATE | LIST)).collect();
    let after = calls.iter().position(|it| *it == LIST).expect("it is looked for");
    assert!(
        calls[after..].chunks(2).all(|it| it == [LIST, CREATE] || it == [LIST]),
        "no call without a look: {calls:?}"
    );
    h.account.always.clear();
    h.seconds(60);
    assert_eq!(lockers(&h), ["locker1"]);
    assert!(!locker_step(&h).1);
}

#[test]
fn after_a_restart_whatever_is_open_for_over_an_hour_is_looked_for_first() {
    let mut h = unanswered(Fault::Lost);
    h.account.forget_tokens();
    h.now = h.now.later(std::time::Duration::from_secs(7200));
    h.account.always.clear();
    h.account.log.clear();
    h.crash(usize::MAX);
    assert_eq!(h.account.operations().first(), Some(&LIST));
    assert_eq!((h.account.count(CREATE), lockers(&h).len()), (0, 1));
    // Within the hour the token is as good as a look.
    let mut h = unanswered(Fault::Lost);
    h.account.always.clear();
    h.crash(usize::MAX);
    assert_eq!((h.account.count(LIST), lockers(&h).len()), (0, 1));
}

#[test]
fn of_several_the_oldest_that_was_made_since_and_bears_the_tags_is_taken_and_the_others_are_named() {
    let mut h = unanswered(Fault::Lost);
    let began = h.now.wall;
    let tags = BTreeMap::from([("product".to_owned(), "thermostat".to_owned())]);
    let at = |seconds: i64| began + jiff::SignedDuration::from_secs(seconds);
    let locker = |seconds, tags: &BTreeMap<_, _>| LockerHere {
        name: "SN1".to_owned(),
        created: at(seconds),
        tags: tags.clone(),
    };
    h.account.make_locker("a-before", locker(-86_400, &tags));
    h.account.make_locker("b-untagged", locker(-60, &BTreeMap::new()));
    h.account.make_locker("z-later", locker(900, &tags));
    h.account.page = 2;
    h.account.forget_tokens();
    h.seconds(3700);
    let (output, _) = locker_step(&h);
    let others = vec!["z-later".to_owned()];
    assert!(matches!(output, Output::Locker { id, others: it, .. } if id == "locker1" && it == others));
    assert_eq!(h.account.count(GET), 2, "that of another time is not even asked for");
    assert_eq!(lockers(&h).len(), 4, "and none is touched");
}

#[test]
fn without_tags_the_name_is_enough() {
    let mut h = Harness::ready_with(Setup::with(|it| {
        if let LockerRule::Device { tags, .. } = &mut it.locker {
            tags.clear();
        }
    }));
    h.account.fault(CREATE, Fault::Lost);
    h.account.always.insert(CREATE, Fault::Fail(FailureKind::Unknown));
    h.unit(0, unit(1, "SN1"));
    h.account.forget_tokens();
    h.seconds(3700);
    assert!(locker_step(&h).1);
    assert_eq!((h.account.count(GET), lockers(&h).len()), (0, 1));
}

#[test]
fn looks_that_fail_are_tried_again_and_ten_devices_share_one() {
    let mut h = Harness::ready();
    h.account.always.insert(CREATE, Fault::Fail(FailureKind::Unknown));
    for id in 1..=10 {
        let place = format!("n{id}");
        h.unit(0, super::setup::unit_in(id, &format!("SN{id:02}"), &place));
    }
    h.answers = false;
    h.now = h.now.later(std::time::Duration::from_secs(7200));
    h.account.always.clear();
    h.calls.clear();
    h.crash(usize::MAX);
    h.answers = true;
    for kind in [FailureKind::Throttled, FailureKind::Unknown, FailureKind::Refused] {
        h.account.fault(LIST, Fault::Fail(kind));
    }
    h.answer_all();
    h.seconds(120);
    // One call by the first device that asked, one by all the others; and those that failed.
    assert!((2..=5).contains(&h.account.count(LIST)), "{}", h.account.count(LIST));
    assert_eq!(h.account.lockers_made.len(), 10);
    assert!((1..=10).all(|id| h.device(&format!("SN{id:02}")).done.locker.is_some()));
    assert_ne!(h.state("SN01"), State::Quarantined);
}

/// SN1, whose locker call was not answered `since` seconds ago, is given up; AWS has forgotten its token.
fn given_up_after(first: Fault, since: u64) -> Harness {
    let mut h = unanswered(first);
    h.account.always.insert(LIST, Fault::Fail(FailureKind::Throttled));
    h.seconds(since);
    h.account.forget_tokens();
    h.account.always.clear();
    h.account.log.clear();
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.seconds(600);
    assert_eq!(h.state("SN1"), State::Scrapped, "{:?}", h.history("SN1"));
    h
}

#[test]
fn the_locker_of_a_scrapped_device_that_may_have_been_made_over_an_hour_ago_is_looked_for_and_deleted() {
    let h = given_up_after(Fault::Lost, 3700);
    assert!(h.account.lockers_made.is_empty(), "{:?}", h.account.lockers_made);
    assert_eq!(h.account.count(CREATE), 0);
    assert!(locker_step(&h).1, "it is told which one it was");
}

#[test]
fn after_a_restart_the_locker_of_a_scrapped_device_is_looked_for_too() {
    let mut h = unanswered(Fault::Lost);
    h.now = h.now.later(std::time::Duration::from_secs(7200));
    h.account.forget_tokens();
    h.account.always.clear();
    h.account.down = Some(FailureKind::Unreachable);
    h.crash(usize::MAX);
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.account.log.clear();
    h.account.down = None;
    h.seconds(600);
    assert_eq!(h.state("SN1"), State::Scrapped);
    assert!(h.account.lockers_made.is_empty(), "{:?}", h.account.lockers_made);
    assert_eq!(h.account.count(CREATE), 0);
}

#[test]
fn a_scrapped_devices_locker_that_is_not_found_is_asked_for_by_its_token_and_deleted() {
    let mut h = unanswered(Fault::Fail(FailureKind::Unknown));
    h.seconds(3700);
    h.account.always.clear();
    h.account.log.clear();
    // Its last call is done, and shows in no list yet: the token still finds it.
    h.answers = false;
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.answers = true;
    h.answer_all();
    h.seconds(600);
    assert_eq!(h.state("SN1"), State::Scrapped);
    assert!(h.account.lockers_made.is_empty());
    assert!(h.account.count(LIST) > 0);
}

#[test]
fn within_the_hour_a_scrapped_devices_token_is_relied_on() {
    let mut h = unanswered(Fault::Lost);
    h.seconds(600);
    h.account.always.clear();
    h.account.log.clear();
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.seconds(600);
    assert_eq!(h.state("SN1"), State::Scrapped);
    assert!(h.account.lockers_made.is_empty());
    assert_eq!(h.account.count(LIST), 0);
}

#[test]
fn lockers_of_others_are_not_deleted_with_a_scrapped_device() {
    let mut h = unanswered(Fault::Fail(FailureKind::Unknown));
    let tags = BTreeMap::from([("product".to_owned(), "lamp".to_owned())]);
    let theirs = LockerHere { name: "SN1".to_owned(), created: h.now.wall, tags };
    h.account.make_locker("theirs", theirs);
    h.seconds(3700);
    h.account.always.clear();
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.seconds(600);
    assert_eq!(h.state("SN1"), State::Scrapped);
    assert_eq!(h.account.lockers_made.keys().collect::<Vec<_>>(), ["theirs"]);
}

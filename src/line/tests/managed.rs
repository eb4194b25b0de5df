//! Managed things: one for a device, in its locker, gone with it.

use super::account::Fault;
use super::harness::Harness;
use super::setup::{Setup, unit};
use crate::cloud::{Call, FailureKind, Operation};
use crate::device::State;
use crate::device::article::ArticleNumber;
use crate::device::operator::Order;
use crate::device::rules::{LockerRule, ManagedRole, ManagedThingRule, Repeat};

const CREATE: Operation = Operation::CreateManagedThing;

fn ready_with(locker: Option<LockerRule>) -> Harness {
    Harness::ready_with(Setup::with(|it| {
        it.article = Some(ArticleNumber::parse("036000291452").unwrap());
        it.managed_thing = Some(ManagedThingRule { role: ManagedRole::Device });
        it.repeat = Repeat::Renew;
        if let Some(locker) = locker {
            it.locker = locker;
        }
    }))
}

fn there(h: &Harness) -> Vec<&str> {
    h.account.managed_things.values().filter(|it| it.2).map(|it| it.1.as_str()).collect()
}

#[test]
fn a_device_has_one_in_its_locker_before_its_credentials_and_keeps_it_when_it_is_renewed() {
    let mut h = ready_with(None);
    h.pass(0, 1, "SN1");
    assert_eq!(there(&h), ["SN:SN1;UPC:036000291452"]);
    let locker = h.device("SN1").done.locker.clone();
    assert!(locker.is_some());
    let asked = h.account.log.iter().find_map(|it| match it {
        Call::CreateManagedThing { controller, serial, locker, .. } => {
            Some((*controller, serial.clone(), locker.clone()))
        }
        _ => None,
    });
    assert_eq!(asked, Some((false, "SN1".to_owned(), locker)));
    let done = h.device("SN1").done.managed_thing.clone();
    assert!(done.is_some());
    h.pass(0, 2, "SN1");
    assert_eq!((h.account.count(CREATE), &h.device("SN1").done.managed_thing), (1, &done));
}

#[test]
fn without_a_locker_it_waits_for_none() {
    let mut h = ready_with(Some(LockerRule::None));
    h.pass(0, 1, "SN1");
    assert_eq!(there(&h).len(), 1);
}

#[test]
fn an_answer_that_is_lost_makes_no_second_one_over_a_restart() {
    let mut h = ready_with(None);
    h.account.fault(CREATE, Fault::Lost);
    h.account.always.insert(CREATE, Fault::Fail(FailureKind::Unknown));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    h.restart();
    h.account.always.clear();
    h.seconds(60);
    assert_eq!(h.account.managed_things.len(), 1);
    assert!(h.device("SN1").done.managed_thing.is_some());
}

#[test]
fn a_given_locker_that_is_not_there_is_named_after_half_a_minute_and_not_looked_for_for_ever() {
    let mut h = ready_with(Some(LockerRule::Given { id: "NOSUCHLOCKER1".to_owned() }));
    h.account.always.insert(CREATE, Fault::Fail(FailureKind::NotFound));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    h.seconds(1);
    assert!(h.state("SN1").is_unfinished(), "it may not be visible yet");
    h.seconds(58);
    assert!(h.sentence(0).contains("the locker NOSUCHLOCKER1 is not there"), "{}", h.sentence(0));
    assert_eq!((h.hear(0), h.state("SN1")), (vec!["fail rejected 1 SN1".to_owned()], State::Quarantined));
    let asked = h.account.count(CREATE);
    h.seconds(600);
    assert_eq!(h.account.count(CREATE), asked);
}

#[test]
fn one_that_somebody_else_has_made_is_a_conflict() {
    let mut h = ready_with(None);
    let theirs = ("theirs".to_owned(), "SN:SN1;UPC:036000291452".to_owned(), true);
    h.account.managed_things.insert("other".to_owned(), theirs);
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.state("SN1"), State::Quarantined);
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.seconds(60);
    assert_eq!((h.state("SN1"), there(&h).len()), (State::Scrapped, 1), "it is left");
}

#[test]
fn a_scrapped_devices_is_deleted_also_if_its_answer_was_lost() {
    let mut h = ready_with(None);
    h.pass(0, 1, "SN1");
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.seconds(60);
    assert_eq!((h.state("SN1"), there(&h).len()), (State::Scrapped, 0));
    h.account.fault(CREATE, Fault::Lost);
    h.account.always.insert(CREATE, Fault::Fail(FailureKind::Unknown));
    h.unit(0, unit(2, "SN2"));
    assert_eq!(there(&h).len(), 1);
    assert_eq!(h.order(Order::Scrap, "SN2"), Ok(()));
    h.account.always.clear();
    h.seconds(60);
    assert_eq!((h.state("SN2"), there(&h).len()), (State::Scrapped, 0));
    // One that was never asked for is not made to be deleted.
    h.account.always.insert(Operation::CreateCredentialLocker, Fault::Fail(FailureKind::Unreachable));
    h.unit(0, unit(3, "SN3"));
    assert_eq!(h.order(Order::Scrap, "SN3"), Ok(()));
    h.account.always.clear();
    h.seconds(60);
    assert_eq!((h.state("SN3"), h.account.managed_things.len()), (State::Scrapped, 2));
}

#[test]
fn a_scrapped_devices_is_deleted_also_if_its_rules_have_none_any_more() {
    let mut h = ready_with(None);
    h.pass(0, 1, "SN1");
    let id = h.device("SN1").done.managed_thing.clone().unwrap();
    let without = Setup::with(|it| it.repeat = Repeat::Renew);
    assert_eq!(h.reload(&without), Some(Ok(())));
    h.setup = without;
    h.pass(0, 2, "SN1");
    assert_eq!(h.device("SN1").done.managed_thing.as_ref(), Some(&id));
    h.restart();
    h.account.log.clear();
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.seconds(60);
    let deleted = h.account.log.iter().filter_map(|it| match it {
        Call::DeleteManagedThing { id } => Some(id.clone()),
        _ => None,
    });
    assert_eq!((deleted.collect::<Vec<_>>(), h.account.count(CREATE)), (vec![id], 0));
    assert_eq!((h.state("SN1"), there(&h).len()), (State::Scrapped, 0));
}

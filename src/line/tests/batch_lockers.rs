//! One locker for a batch: made once, before its first device has its credentials, whatever happens meanwhile.

use std::collections::BTreeMap;

use super::account::Fault;
use super::harness::Harness;
use super::setup::{Setup, text, unit, unit_in};
use crate::batch::{BatchId, Order as BatchOrder, Terms};
use crate::cloud::{FailureKind, Operation};
use crate::device::State;
use crate::device::operator::Order;
use crate::device::rules::{LockerRule, Repeat};

const CREATE: Operation = Operation::CreateCredentialLocker;
const LIST: Operation = Operation::ListCredentialLockers;

fn opened(h: &mut Harness, batch: &str) {
    let terms = Terms {
        batch: BatchId::parse(batch).unwrap(),
        product: "thermostat".to_owned(),
        strict: false,
        fixtures: Vec::new(),
        expected: 9,
    };
    assert_eq!(h.batch(BatchOrder::Open(terms)), Some(Ok(())));
}

fn ready() -> Harness {
    let mut h = Harness::ready_with(Setup::with(|it| {
        it.require_batch = true;
        let tags = [("product".to_owned(), text("{product}"))].into();
        it.locker = LockerRule::Batch { name: text("{product} {batch}"), tags };
    }));
    opened(&mut h, "WO-1");
    h
}

fn names(h: &Harness) -> Vec<&str> {
    h.account.lockers_made.values().map(|it| it.name.as_str()).collect()
}

#[test]
fn the_devices_of_a_batch_have_one_locker_and_those_of_the_next_another() {
    let mut h = ready();
    h.pass(0, 1, "SN1");
    h.pass(0, 2, "SN2");
    h.restart();
    h.pass(0, 3, "SN3");
    assert_eq!((names(&h), h.account.count(CREATE)), (vec!["thermostat WO-1"], 1));
    let id = h.device("SN1").done.locker.clone();
    for serial in ["SN1", "SN2", "SN3"] {
        assert_eq!(h.device(serial).done.locker, id);
        assert_eq!(h.credentials(serial).locker_id, id);
    }
    assert_eq!(h.batch(BatchOrder::Close(BatchId::parse("WO-1").unwrap())), Some(Ok(())));
    opened(&mut h, "WO-2");
    h.pass(0, 4, "SN4");
    assert_eq!(names(&h), ["thermostat WO-1", "thermostat WO-2"]);
}

#[test]
fn who_comes_while_it_is_made_waits_and_asks_for_none() {
    let mut h = ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.unit(0, unit_in(2, "SN2", "b"));
    h.answer_all();
    h.answers = true;
    h.go_on();
    h.seconds(5);
    assert_eq!(h.account.count(CREATE), 1);
    assert_eq!(h.device("SN1").done.locker, h.device("SN2").done.locker);
    assert!(h.device("SN2").done.locker.is_some());
}

#[test]
fn if_its_maker_is_given_up_the_next_device_has_the_same_locker_made() {
    let mut h = ready();
    h.account.fault(CREATE, Fault::Lost);
    h.account.always.insert(CREATE, Fault::Fail(FailureKind::Unknown));
    h.unit(0, unit(1, "SN1"));
    h.unit(0, unit_in(2, "SN2", "b"));
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.account.always.clear();
    h.seconds(120);
    assert_eq!(names(&h), ["thermostat WO-1"], "the token and the look find what was made");
    assert!(h.device("SN2").done.locker.is_some());
    assert_eq!(h.state("SN1"), State::Scrapped);
    assert_eq!(h.account.count(Operation::DeleteCredentialLocker), 0, "it is the others'");
}

#[test]
fn a_batchs_locker_of_which_only_the_account_knows_is_found() {
    let mut h = ready();
    h.account.fault(CREATE, Fault::Lost);
    h.account.always.insert(CREATE, Fault::Fail(FailureKind::Unknown));
    h.unit(0, unit(1, "SN1"));
    h.account.always.clear();
    h.account.forget_tokens();
    h.restart();
    h.seconds(60);
    assert!(h.account.count(LIST) > 0);
    assert_eq!(names(&h), ["thermostat WO-1"]);
    assert!(h.device("SN1").done.locker.is_some());
}

/// The rules of now are the device's alone, its locker is not.
#[test]
fn a_batchs_locker_stays_when_one_of_its_devices_is_made_by_other_rules_and_given_up() {
    let mut h = ready();
    h.pass(0, 1, "SN1");
    h.pass(0, 2, "SN2");
    let batchs = h.device("SN1").done.locker.clone();
    let other = Setup::with(|it| {
        it.repeat = Repeat::Renew;
        it.locker = LockerRule::Device { name: text("{serial}"), tags: BTreeMap::new() };
    });
    assert_eq!(h.reload(&other), Some(Ok(())));
    h.setup = other;
    h.pass(0, 3, "SN1");
    h.pass(0, 4, "SN3");
    h.pass(0, 5, "SN2");
    assert_eq!((&h.device("SN1").done.locker, &h.device("SN2").done.locker), (&batchs, &batchs));
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.seconds(60);
    assert_eq!(h.state("SN1"), State::Scrapped);
    assert_eq!(h.account.count(Operation::DeleteCredentialLocker), 0, "it is the others'");
    // A restart knows it too.
    h.restart();
    assert_eq!(h.order(Order::Scrap, "SN2"), Ok(()));
    h.seconds(60);
    assert_eq!(h.state("SN2"), State::Scrapped);
    assert_eq!(h.account.count(Operation::DeleteCredentialLocker), 0, "nor any more");
    // One of its own goes with its device.
    assert_eq!(h.order(Order::Scrap, "SN3"), Ok(()));
    h.seconds(60);
    assert_eq!(h.account.count(Operation::DeleteCredentialLocker), 1);
}

//! Delivery into a directory: files, record, `pass`, destruction, in this order, and by itself.

use super::harness::Harness;
use super::setup::{Setup, unit, unit_in};
use crate::device::operator::Order;
use crate::device::rules::Repeat;
use crate::device::{KeyState, State};
use crate::fixture::Unit;
use crate::line::{Deliver, Input};

fn setup() -> Setup {
    Setup { deliver: Deliver::Directory("/out".into()), ..Setup::default() }
}

fn ready() -> Harness {
    Harness::ready_with(setup())
}

fn repeating(repeat: Repeat) -> Harness {
    let mut setup = setup();
    setup.rules.repeat = repeat;
    Harness::ready_with(setup)
}

/// What a scanner presents: no nest.
fn scan(id: u64, serial: &str) -> Unit {
    Unit { id, serial: serial.to_owned(), ..Unit::default() }
}

#[test]
fn a_unit_hears_ack_then_pass_and_never_its_credentials() {
    let mut h = ready();
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "pass 1 SN1"]);
    assert_eq!(h.directory, [("SN1".to_owned(), h.issued[0].1)]);
    assert_eq!(h.state("SN1"), State::Passed);
    let history = h.history("SN1");
    assert!(!history.contains(&"offered"), "{history:?}");
    assert_eq!(history[history.len() - 2..], ["passed", "key-destroyed"]);
    assert!(!h.device("SN1").unclaimed);
}

#[test]
fn files_then_record_then_pass_then_the_keys_destruction() {
    let mut h = ready();
    h.delivers = false;
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    let key = h.issued[0].1;
    assert_eq!((h.to_deliver.len(), h.state("SN1")), (1, State::Provisioning));
    h.syncs = false;
    h.put(Ok(()));
    h.go_on();
    assert!(h.hear(0).is_empty() && h.keys.contains(&key), "the record is not on disk");
    h.sync(1);
    assert_eq!(h.hear(0), ["pass 1 SN1"]);
    assert!(!h.keys.contains(&key));
}

#[test]
fn files_wait_for_the_records_of_what_they_hold() {
    let mut h = ready();
    h.syncs = false;
    h.unit(0, unit(1, "SN1"));
    for _ in 0..20 {
        assert!(h.to_deliver.is_empty());
        h.sync(1);
        if !h.directory.is_empty() {
            break;
        }
    }
    // The harness has checked at that moment that the certificate is on disk.
    assert_eq!(h.directory.len(), 1);
}

#[test]
fn a_crash_at_each_record_delivers_the_same_certificate_and_passes_once() {
    for kept in 0..12 {
        let mut h = ready();
        h.syncs = false;
        h.unit(0, unit(1, "SN1"));
        for _ in 0..kept {
            h.sync(1);
        }
        h.crash(0);
        h.syncs = true;
        h.go_on();
        h.connect(0, 1);
        h.hear(0);
        let heard = h.unit(0, unit(1, "SN1"));
        let answered = heard == ["ack 1", "pass 1 SN1"];
        assert!(answered, "after {kept} records: {heard:?}");
        assert_eq!(h.state("SN1"), State::Passed);
        let certificate = h.device("SN1").fingerprint().unwrap();
        assert!(h.directory.iter().all(|it| it.1 == certificate), "after {kept} records: two certificates");
        assert_eq!(h.history("SN1").iter().filter(|it| **it == "passed").count(), 1);
        assert!(h.keys.is_empty(), "after {kept} records: a key is left");
    }
}

#[test]
fn after_a_restart_it_goes_on_with_nobody_there() {
    let mut h = ready();
    h.delivers = false;
    h.unit(0, unit(1, "SN1"));
    h.crash(usize::MAX);
    assert_eq!(h.to_deliver.len(), 1);
    h.put(Ok(()));
    h.go_on();
    assert_eq!(h.state("SN1"), State::Passed);
    assert_eq!(h.device("SN1").certificate.as_ref().unwrap().key, KeyState::Destroyed);
}

#[test]
fn pass_never_comes_before_ack() {
    let mut h = ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    // It dies before anybody knows whether `ack` has left; the files are there before the unit comes again.
    h.answers = true;
    h.restart();
    assert_eq!(h.state("SN1"), State::Passed);
    assert_eq!(h.hear(0), ["hello"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "pass 1 SN1"]);
}

#[test]
fn a_directory_that_takes_nothing_is_tried_again_and_told_and_nothing_is_lost() {
    let mut h = ready();
    h.delivers = false;
    h.unit(0, unit(1, "SN1"));
    h.put(Err("the directory /out is not there"));
    h.go_on();
    let told = h.line.status().degraded;
    let sentence = "1 devices wait for the directory /out: the directory /out is not there";
    assert!(told.contains(&sentence.to_owned()), "{told:?}");
    assert!(h.to_deliver.is_empty());
    let mut tries = 1;
    for _ in 0..59 {
        h.seconds(1);
        if !h.to_deliver.is_empty() {
            tries += 1;
            h.put(Err("the directory /out is not there"));
            h.go_on();
        }
    }
    assert!((5..=8).contains(&tries), "{tries} tries in a minute");
    assert!(h.hear(0).is_empty(), "not a failure of the unit yet");
    h.seconds(2);
    assert!(h.sentence(0).contains("/out"), "{}", h.sentence(0));
    assert_eq!(h.hear(0), ["fail internal 1 SN1"]);
    assert_eq!(h.state("SN1"), State::Provisioning, "it is deferred, not failed");
    // It is there again: the device passes by itself, and is told so when it is presented.
    h.delivers = true;
    h.seconds(61);
    h.put(Ok(()));
    h.go_on();
    assert_eq!((h.state("SN1"), h.directory.len()), (State::Passed, 1));
    assert!(h.line.status().degraded.iter().all(|it| !it.contains("/out")));
    assert!(h.hear(0).is_empty());
    assert_eq!(h.unit(0, unit(2, "SN1")), ["pass 2 SN1 again"]);
    assert_eq!(h.issued.len(), 1);
}

#[test]
fn what_was_told_to_come_again_passes_whatever_the_product_does_with_others() {
    for repeat in [Repeat::Return, Repeat::Reject, Repeat::Renew] {
        let mut h = repeating(repeat);
        h.delivers = false;
        h.unit(0, scan(1, "SN1"));
        h.seconds(61);
        assert_eq!(h.hear(0).len(), 1, "it is told to come again");
        h.put(Ok(()));
        h.go_on();
        assert!(h.device("SN1").unclaimed);
        h.delivers = true;
        assert_eq!(h.unit(0, scan(2, "SN1")), ["pass 2 SN1 again"], "{repeat:?}");
        assert!(!h.device("SN1").unclaimed);
        let third = h.unit(0, scan(3, "SN1"));
        match repeat {
            Repeat::Return => assert_eq!(third, ["pass 3 SN1 again"]),
            Repeat::Reject => assert_eq!(third, ["nak duplicate 3"]),
            Repeat::Renew => assert_eq!(third, ["ack 3", "pass 3 SN1"]),
        }
    }
}

#[test]
fn another_mac_address_is_a_clone_even_when_nobody_was_told() {
    let mut h = repeating(Repeat::Reject);
    h.delivers = false;
    let with_mac = |id, mac: &str| Unit { mac: Some(mac.to_owned()), ..scan(id, "SN1") };
    h.unit(0, with_mac(1, "AABBCCDDEE01"));
    h.seconds(61);
    h.put(Ok(()));
    h.go_on();
    h.hear(0);
    assert_eq!(h.unit(0, with_mac(2, "AABBCCDDEE02")), ["nak duplicate 2"]);
    assert!(h.device("SN1").unclaimed);
}

#[test]
fn a_renewal_is_delivered_beside_and_the_old_one_retired_after_it() {
    let mut h = repeating(Repeat::Renew);
    h.unit(0, scan(1, "SN1"));
    h.unit(0, scan(2, "SN1"));
    let certificates: Vec<_> = h.issued.iter().map(|it| it.1).collect();
    assert_eq!(h.directory.iter().map(|it| it.1).collect::<Vec<_>>(), certificates);
    assert_eq!(certificates.len(), 2);
    assert_eq!(h.device("SN1").fingerprint(), Some(certificates[1]));
}

#[test]
fn a_key_that_is_lost_is_replaced_before_anything_is_delivered() {
    let mut h = ready();
    h.answers = false;
    h.unit(0, scan(1, "SN1"));
    h.keys.clear();
    h.keys_were_lost = true;
    h.answers = true;
    h.answer_all();
    assert!(h.history("SN1").contains(&"key-lost"));
    assert_eq!(h.directory, [("SN1".to_owned(), h.issued[1].1)]);
    assert_eq!(h.state("SN1"), State::Passed);
}

#[test]
fn what_is_delivered_for_a_device_that_was_put_aside_is_no_pass() {
    let mut h = ready();
    h.delivers = false;
    h.unit(0, unit(1, "SN1"));
    h.order(Order::Scrap, "SN1").unwrap();
    h.put(Ok(()));
    h.go_on();
    assert!(matches!(h.state("SN1"), State::Quarantined | State::Scrapped));
    assert!(!h.history("SN1").contains(&"passed"));
}

#[test]
fn an_order_to_retry_does_not_wait_for_the_pause() {
    let mut h = ready();
    h.delivers = false;
    h.unit(0, unit(1, "SN1"));
    for _ in 0..6 {
        h.put(Err("it is full"));
        h.go_on();
        h.seconds(40);
    }
    h.put(Err("it is full"));
    h.go_on();
    h.delivers = true;
    h.order(Order::Retry, "SN1").unwrap();
    assert_eq!(h.state("SN1"), State::Passed);
}

#[test]
fn an_answer_for_a_certificate_that_is_not_the_present_one_counts_for_nothing() {
    let mut h = ready();
    h.delivers = false;
    h.unit(0, unit(1, "SN1"));
    let fingerprint = crate::pki::Fingerprint::of(b"another");
    let serial = h.to_deliver[0].serial.clone();
    h.input(Input::Delivered { serial, fingerprint, result: Ok(()) });
    assert_eq!(h.state("SN1"), State::Provisioning);
}

#[test]
fn many_scanned_units_wait_side_by_side() {
    let mut h = ready();
    h.delivers = false;
    for id in 1..=20 {
        assert_eq!(h.unit(0, scan(id, &format!("SN{id}"))), [format!("ack {id}")]);
    }
    h.delivers = true;
    h.put(Ok(()));
    h.go_on();
    assert_eq!(h.hear(0).len(), 20);
    // One serial, one place: the same serial at another fixture.
    h.delivers = false;
    h.unit(0, scan(30, "SN30"));
    h.connect(1, 1);
    h.hear(1);
    assert_eq!(h.unit(1, unit_in(1, "SN30", "b")), ["nak elsewhere 1"]);
}

#[test]
fn a_configuration_that_changes_moves_what_is_in_flight() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.state("SN1"), State::Delivering);
    h.setup.deliver = Deliver::Directory("/out".into());
    h.restart();
    assert_eq!((h.state("SN1"), h.directory.len()), (State::Passed, 1));
    assert_eq!(h.issued.len(), 1);
}

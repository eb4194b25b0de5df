//! Rule 3, `unit`: what a unit is answered, from the journal.

use std::collections::BTreeMap;

use rcgen::{CertificateParams, KeyPair};

use super::harness::Harness;
use super::setup::{Setup, text, unit, unit_in};
use crate::cloud::{FailureKind, Operation};
use crate::device::State;
use crate::device::rules::{KeyOrigin, LockerRule, Repeat};
use crate::fixture::Unit;

const MAC: &str = "AA:BB:CC:DD:EE:01";
const OTHER_MAC: &str = "aabbccddee02";

fn holding(id: u64, serial: &str, holds: &str) -> Unit {
    Unit { holds: Some(holds.to_owned()), ..unit(id, serial) }
}

fn with_mac(id: u64, serial: &str, mac: &str) -> Unit {
    Unit { mac: Some(mac.to_owned()), ..unit(id, serial) }
}

/// A station that has passed SN1 in presentation 1.
fn passed(repeat: Repeat) -> Harness {
    let mut h = Harness::ready_with(Setup::with(|it| it.repeat = repeat));
    h.pass(0, 1, "SN1");
    h
}

fn csr() -> String {
    let key = KeyPair::generate().unwrap();
    CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
}

fn with_csr(id: u64, serial: &str, csr: &str) -> Unit {
    Unit { csr: Some(csr.to_owned()), ..unit(id, serial) }
}

#[test]
fn an_unknown_serial_is_journaled_before_it_is_acknowledged() {
    let mut h = Harness::ready();
    h.syncs = false;
    assert!(h.unit(0, unit(1, "SN1")).is_empty());
    assert!(h.account.log.is_empty(), "nothing is asked of AWS for what is not on disk");
    h.sync(1);
    assert_eq!(h.hear(0), ["ack 1"]);
    assert_eq!(h.state("SN1"), State::Admitted);
}

#[test]
fn a_unit_passes_in_the_order_of_the_protocol() {
    let mut h = Harness::ready();
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    let credentials = h.credentials("SN1").clone();
    assert_eq!(credentials.thing, "SN1");
    assert!(credentials.certificate.starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert!(credentials.certificate.ends_with("-----END CERTIFICATE-----\nthe chain\n"), "leaf, then chain");
    assert_eq!(credentials.certificate_sha256, h.issued[0].1.to_string());
    assert!(credentials.private_key.is_some());
    assert_eq!(credentials.locker_id.as_deref(), Some("locker1"));
    assert_eq!(credentials.endpoint.as_deref(), Some("abc-ats.iot.eu-west-1.amazonaws.com"));
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
    assert_eq!(h.state("SN1"), State::Passed);
    h.account.assert_holds("SN1", h.issued[0].1);
}

#[test]
fn a_known_presentation_is_answered_where_it_stands() {
    let mut h = Harness::ready();
    h.answers = false;
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"], "nothing yet");
    h.answer_all();
    assert_eq!(h.hear(0), ["credentials 1 SN1"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    h.written(0, 1, "SN1");
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "pass 1 SN1"], "not again: it is the same presentation");
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
    h.unit(0, unit(2, "SN2"));
    h.answer_all();
    h.hear(0);
    h.write_failed(0, 2, "SN2");
    assert_eq!(h.unit(0, unit(2, "SN2")), ["ack 2", "fail write-failed 2 SN2"]);
    assert_eq!(h.device("SN1").presentations, 1);
}

#[test]
fn a_known_presentation_is_answered_the_same_after_a_restart() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    h.unit(0, unit(2, "SN2"));
    h.write_failed(0, 2, "SN2");
    h.unit(0, unit_in(3, "SN3", "c"));
    h.account.down = Some(FailureKind::Unreachable);
    h.unit(0, unit_in(4, "SN4", "d"));
    h.restart();
    assert_eq!(h.hear(0), ["hello"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "pass 1 SN1"]);
    assert_eq!(h.unit(0, unit(2, "SN2")), ["ack 2", "fail write-failed 2 SN2"]);
    assert_eq!(h.unit(0, unit_in(3, "SN3", "c")), ["ack 3", "credentials 3 SN3"]);
    assert_eq!(h.unit(0, unit_in(4, "SN4", "d")), ["ack 4"]);
}

#[test]
fn an_unfinished_or_failed_serial_goes_on_with_the_same_certificate() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    let first = h.credentials("SN1").certificate_sha256.clone();
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    assert_eq!(h.write_failed(0, 2, "SN1"), ["fail write-failed 2 SN1"]);
    assert_eq!(h.state("SN1"), State::Failed);
    assert_eq!(h.unit(0, unit(3, "SN1")), ["ack 3", "credentials 3 SN1"]);
    assert_eq!(h.credentials("SN1").certificate_sha256, first);
    assert_eq!(h.written(0, 3, "SN1"), ["pass 3 SN1"]);
    assert_eq!(h.issued.len(), 1);
    assert_eq!(h.account.log.len(), 6);
}

#[test]
fn another_mac_or_public_key_than_before_is_a_clone() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, with_mac(1, "SN1", MAC));
    assert_eq!(h.unit(0, with_mac(2, "SN1", "aa-bb-cc-dd-ee-01")), ["ack 2"], "the same, written otherwise");
    assert_eq!(h.unit(0, unit(3, "SN1")), ["ack 3"], "it does not say");
    assert_eq!(h.unit(0, with_mac(4, "SN1", OTHER_MAC)), ["nak quarantined 4"]);
    assert_eq!(h.state("SN1"), State::Quarantined);

    let mut h = Harness::ready_with(Setup::with(|it| it.certificate.key = KeyOrigin::Device));
    let (own, other) = (csr(), csr());
    assert_eq!(h.unit(0, with_csr(1, "SN1", &own)), ["ack 1", "credentials 1 SN1"]);
    assert!(h.credentials("SN1").private_key.is_none());
    h.write_failed(0, 1, "SN1");
    assert_eq!(h.unit(0, with_csr(2, "SN1", &own)), ["ack 2", "credentials 2 SN1"]);
    h.write_failed(0, 2, "SN1");
    assert_eq!(h.unit(0, with_csr(3, "SN1", &other)), ["nak quarantined 3"], "of a failed one too");
    assert_eq!(h.state("SN1"), State::Quarantined);
    assert_eq!(h.unit(0, with_csr(4, "SN1", &own)), ["nak quarantined 4"]);
}

#[test]
fn a_mac_that_comes_later_is_kept() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.unit(0, with_mac(2, "SN1", MAC));
    assert_eq!(h.unit(0, with_mac(3, "SN1", OTHER_MAC)), ["nak quarantined 3"]);
}

#[test]
fn a_passed_serial_that_holds_the_live_certificate_passes_again_whatever_the_rules() {
    for repeat in [Repeat::Return, Repeat::Renew, Repeat::Reject] {
        let mut h = passed(repeat);
        let live = h.issued[0].1.to_string();
        for (id, holds) in [(2, live.clone()), (3, live.to_uppercase())] {
            assert_eq!(h.unit(0, holding(id, "SN1", &holds)), [format!("pass {id} SN1 again")], "{repeat:?}");
        }
        assert_eq!(h.unit(0, holding(2, "SN1", &live)), ["ack 2", "pass 2 SN1 again"]);
        h.restart();
        h.hear(0);
        assert_eq!(h.unit(0, holding(2, "SN1", &live)), ["ack 2", "pass 2 SN1 again"]);
        assert_eq!(h.written_as(0, 2, "SN1", &live), ["pass 2 SN1 again"]);
        assert_eq!((h.issued.len(), h.state("SN1")), (1, State::Passed));
    }
}

#[test]
fn with_return_a_passed_serial_passes_again_unless_it_says_it_holds_something_else() {
    let mut h = passed(Repeat::Return);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["pass 2 SN1 again"]);
    assert_eq!(h.state("SN1"), State::Passed);
    for holds in ["", &"0".repeat(64)] {
        let mut h = passed(Repeat::Return);
        assert_eq!(h.unit(0, holding(2, "SN1", holds)), ["fail mismatch 2 SN1"], "{holds:?}");
        assert_eq!(h.state("SN1"), State::Quarantined);
        assert_eq!(h.unit(0, holding(2, "SN1", holds)), ["ack 2", "fail mismatch 2 SN1"]);
        assert_eq!(h.unit(0, unit(3, "SN1")), ["nak quarantined 3"]);
    }
}

#[test]
fn with_return_another_mac_under_a_passed_serial_is_not_passed() {
    let mut h = Harness::ready();
    h.unit(0, with_mac(1, "SN1", MAC));
    h.written(0, 1, "SN1");
    assert_eq!(h.unit(0, with_mac(2, "SN1", MAC)), ["pass 2 SN1 again"]);
    assert_eq!(h.unit(0, with_mac(3, "SN1", OTHER_MAC)), ["fail mismatch 3 SN1"]);
    assert_eq!(h.state("SN1"), State::Quarantined);
}

#[test]
fn with_reject_a_passed_serial_is_a_duplicate() {
    for holds in [None, Some(String::new()), Some("0".repeat(64))] {
        let mut h = passed(Repeat::Reject);
        assert_eq!(h.unit(0, Unit { holds, ..unit(2, "SN1") }), ["nak duplicate 2"]);
        assert_eq!(h.state("SN1"), State::Passed);
    }
}

#[test]
fn with_renew_a_passed_serial_gets_a_new_certificate() {
    for holds in [None, Some(String::new()), Some("0".repeat(64))] {
        let mut h = passed(Repeat::Renew);
        assert_eq!(h.unit(0, Unit { holds, ..unit(2, "SN1") }), ["ack 2", "credentials 2 SN1"]);
        assert_eq!(h.credentials("SN1").certificate_sha256, h.issued[1].1.to_string());
        assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
    }
}

#[test]
fn a_quarantined_serial_is_refused_and_stays_so_after_a_restart() {
    let mut h = Harness::ready();
    h.account.fault(Operation::CreateThing, super::account::Fault::Fail(FailureKind::Refused));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "fail rejected 1 SN1"]);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["nak quarantined 2"]);
    let calls = h.account.log.len();
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["nak quarantined 2"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "fail rejected 1 SN1"]);
    h.seconds(60);
    assert_eq!(h.account.log.len(), calls, "nothing more is asked for it");
}

#[test]
fn what_does_not_match_the_products_pattern_is_a_bad_serial() {
    let mut h = Harness::ready();
    let long = "A".repeat(10_000);
    for serial in ["", "sn1", "SN 1", "SN1\n", "Ä", "A", long.as_str()] {
        assert_eq!(h.unit(0, unit(1, serial)), ["nak bad-serial 1"], "{serial:?}");
    }
    assert!(h.shelf.devices.is_empty());
}

#[test]
fn a_bad_mac_a_missing_an_unwanted_or_a_broken_csr_is_a_bad_unit() {
    let mut h = Harness::ready();
    for bad in ["", "aabbccddee", "aabbccddeeff00", "ggbbccddeeff", "aa bb cc dd ee ff"] {
        assert_eq!(h.unit(0, with_mac(1, "SN1", bad)), ["nak bad-unit 1"], "{bad:?}");
    }
    assert_eq!(h.unit(0, with_csr(1, "SN1", &csr())), ["nak bad-unit 1"], "the station makes the keys");
    assert_eq!(h.unit(0, holding(1, "SN1", "not hex")), ["nak bad-unit 1"]);
    let attributes: BTreeMap<_, _> = (0..17).map(|it| (it.to_string(), String::new())).collect();
    assert_eq!(h.unit(0, Unit { attributes, ..unit(1, "SN1") }), ["nak bad-unit 1"]);
    assert!(h.shelf.devices.is_empty());

    let mut h = Harness::ready_with(Setup::with(|it| it.certificate.key = KeyOrigin::Device));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["nak bad-unit 1"]);
    assert_eq!(h.unit(0, with_csr(1, "SN1", "no CSR")), ["nak bad-unit 1"]);
    assert!(h.shelf.devices.is_empty());
}

#[test]
fn a_product_with_the_mac_in_a_name_needs_it() {
    let name = LockerRule::Device { name: text("{mac}"), tags: BTreeMap::new() };
    let mut h = Harness::ready_with(Setup::with(|it| it.locker = name));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["nak bad-unit 1"]);
    assert_eq!(h.unit(0, with_mac(1, "SN1", MAC)), ["ack 1", "credentials 1 SN1"]);
    assert_eq!(h.account.lockers.values().next().unwrap().0, "aabbccddee01");
}

#[test]
fn sixteen_attributes_are_journaled() {
    let mut h = Harness::ready();
    let attributes: BTreeMap<_, _> = (0..16).map(|it| (it.to_string(), "x".to_owned())).collect();
    h.unit(0, Unit { attributes: attributes.clone(), ..unit(1, "SN1") });
    assert_eq!(h.device("SN1").attributes, attributes);
}

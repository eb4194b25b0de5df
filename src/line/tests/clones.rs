//! One public key under two serial numbers.

use super::harness::Harness;
use super::setup::{Setup, unit, unit_in};
use crate::device::State;
use crate::device::operator::Order;
use crate::device::rules::KeyOrigin;
use crate::fixture::Unit;
use crate::pki::to_pem;

fn csr() -> String {
    to_pem("CERTIFICATE REQUEST", &crate::pki::request::make_request("whatever").unwrap().csr).to_string()
}

fn station() -> Harness {
    Harness::ready_with(Setup::with(|it| it.certificate.key = KeyOrigin::Device))
}

fn assert_alarm(h: &mut Harness, heard: &[String], serial: &str) {
    assert!(heard.len() == 1 && heard[0].contains("quarantined"), "{heard:?}");
    assert_eq!(h.state(serial), State::Quarantined);
    let failure = h.device(serial).failure.clone().unwrap();
    let sentence = format!("clone alarm: {serial} has the public key of SN1; each unit needs its own");
    assert_eq!(failure.message, sentence);
    assert_eq!(h.state("SN1"), State::Passed, "the first one is left alone");
}

#[test]
fn a_second_serial_with_the_same_key_is_a_clone_alarm_whenever_it_comes() {
    for later in ["at once", "after a restart"] {
        let mut h = station();
        let key = csr();
        h.unit(0, Unit { csr: Some(key.clone()), ..unit(1, "SN1") });
        h.written(0, 1, "SN1");
        assert_eq!(h.state("SN1"), State::Passed);
        if later == "after a restart" {
            // The first one is on disk alone then.
            h.crash(0);
            h.restart();
            h.connect(0, 1);
            h.hello(0, 1);
            h.hear(0);
        }
        let calls = h.account.log.len();
        let heard = h.unit(0, Unit { csr: Some(key), ..unit(2, "SN2") });
        assert_alarm(&mut h, &heard, "SN2");
        h.seconds(600);
        assert_eq!(h.account.log.len(), calls, "AWS hears nothing of a clone");
    }
}

#[test]
fn two_units_with_one_key_at_the_same_time_are_told_apart() {
    let mut h = station();
    let key = csr();
    h.answers = false;
    h.unit(0, Unit { csr: Some(key.clone()), ..unit_in(1, "SN1", "a") });
    let heard = h.unit(0, Unit { csr: Some(key), ..unit_in(2, "SN2", "b") });
    assert!(heard.iter().any(|it| it.contains("quarantined")), "{heard:?}");
    assert_eq!((h.state("SN1"), h.state("SN2")), (State::Provisioning, State::Quarantined));
}

#[test]
fn a_clone_that_is_released_passes_with_a_key_of_its_own_only() {
    let mut h = station();
    let key = csr();
    h.unit(0, Unit { csr: Some(key.clone()), ..unit(1, "SN1") });
    h.written(0, 1, "SN1");
    h.unit(0, Unit { csr: Some(key.clone()), ..unit(2, "SN2") });
    h.order(Order::Release, "SN2").unwrap();
    let heard = h.unit(0, Unit { csr: Some(key), ..unit(3, "SN2") });
    assert_alarm(&mut h, &heard, "SN2");
    h.order(Order::Release, "SN2").unwrap();
    h.unit(0, Unit { csr: Some(csr()), ..unit(4, "SN2") });
    h.written(0, 4, "SN2");
    assert_eq!(h.state("SN2"), State::Passed);
}

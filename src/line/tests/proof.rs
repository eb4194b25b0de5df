//! Proof before PASS.

use super::account::Fault;
use super::harness::Harness;
use super::setup::{MAKING, Setup, unit};
use crate::cloud::{CertificateStatus, FailureKind, Operation, Reply};
use crate::device::State;
use crate::device::rules::{KeyOrigin, Register, Verify};
use crate::line::{Input, Unproved};
use crate::pki::Fingerprint;

fn cloud() -> Setup {
    Setup::with(|it| it.verify = Verify::Cloud)
}

fn tls() -> Setup {
    Setup::with(|it| {
        it.verify = Verify::Tls;
        it.roots = Some("the roots".to_owned());
    })
}

const READS: [Operation; 4] = [
    Operation::DescribeThing,
    Operation::ListThingPrincipals,
    Operation::ListAttachedPolicies,
    Operation::DescribeCertificate,
];

#[test]
fn what_was_made_is_read_back_before_the_credentials_leave() {
    let mut h = Harness::ready_with(cloud());
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    let operations = h.account.operations();
    assert_eq!(operations.len(), 10);
    assert_eq!(operations[6..], READS, "after all that makes it");
    assert!(MAKING.iter().all(|it| operations[..6].contains(it)));
    h.written(0, 1, "SN1");
    assert_eq!(h.state("SN1"), State::Passed);
    let history = h.history("SN1");
    assert_eq!(history.iter().filter(|it| **it == "step-done").count(), 7);
}

#[test]
fn what_does_not_show_yet_is_read_again_and_for_ever_only_by_a_person() {
    let mut h = Harness::ready_with(cloud());
    h.account.fault(Operation::DescribeThing, Fault::Fail(FailureKind::NotFound));
    h.unit(0, unit(1, "SN1"));
    assert!(!h.was_offered("SN1"));
    h.seconds(5);
    assert!(h.was_offered("SN1"), "it has come to light");
    h.written(0, 1, "SN1");

    h.answers = false;
    h.unit(0, unit(2, "SN2"));
    h.answers = true;
    let none = Fault::Says(Reply::Principals { arns: Vec::new(), next: None });
    h.account.always.insert(Operation::ListThingPrincipals, none);
    h.answer_all();
    h.seconds(120);
    assert_eq!(h.state("SN2"), State::Quarantined);
    let failure = h.device("SN2").failure.clone().unwrap();
    assert!(failure.message.starts_with("AWS does not show what was made for SN2"), "{}", failure.message);
}

#[test]
fn a_certificate_that_somebody_has_revoked_meanwhile_does_not_pass() {
    let mut h = Harness::ready_with(cloud());
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let id = h.device("SN1").fingerprint().unwrap().to_string();
    while h.calls.iter().all(|it| it.call.operation() != Operation::DescribeThing) {
        let pending = h.calls.remove(0);
        let result = h.reply(&pending.call);
        let (serial, step, generation) = (pending.serial, pending.step, pending.generation);
        h.input(Input::Called { serial, step, generation, result, waited: std::time::Duration::ZERO });
    }
    h.account.certificates.insert(id, CertificateStatus::Revoked);
    h.answers = true;
    h.answer_all();
    assert_eq!(h.state("SN1"), State::Quarantined);
    assert!(!h.was_offered("SN1"));
}

#[test]
fn a_crash_between_proof_and_delivery_repeats_it_harmlessly() {
    for kept in 0..16 {
        let mut h = Harness::ready_with(cloud());
        h.syncs = false;
        h.unit(0, unit(1, "SN1"));
        h.sync(kept);
        h.crash(0);
        h.syncs = true;
        h.restart();
        h.connect(0, 1);
        h.hello(0, 1);
        h.hear(0);
        h.unit(0, unit(1, "SN1"));
        h.seconds(1);
        h.written(0, 1, "SN1");
        assert_eq!(h.state("SN1"), State::Passed, "{kept}");
        h.account.assert_holds("SN1", h.device("SN1").fingerprint().unwrap());
    }
}

#[test]
fn where_the_first_connection_makes_the_rest_only_the_thing_is_read() {
    let mut h = Harness::ready_with(Setup::with(|it| {
        (it.verify, it.certificate.register) = (Verify::Cloud, Register::Jitp);
    }));
    h.pass(0, 1, "SN1");
    assert_eq!(h.account.count(Operation::DescribeThing), 1);
    assert_eq!(h.account.count(Operation::DescribeCertificate), 0);
}

/// Answers the newest trial.
fn tried(h: &mut Harness, result: Result<(), Unproved>) {
    let trial = h.trials.remove(0);
    h.input(Input::Connected { serial: trial.serial, fingerprint: trial.fingerprint, result });
}

#[test]
fn a_connection_is_tried_when_all_is_made_and_before_the_credentials_leave() {
    let mut h = Harness::ready_with(tls());
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"]);
    let trial = &h.trials[0];
    let device = h.device("SN1");
    assert_eq!((Some(trial.fingerprint), trial.key), (device.fingerprint(), device.fingerprint().unwrap()));
    assert_eq!(
        (trial.endpoint.as_str(), trial.roots_pem.as_str()),
        ("abc-ats.iot.eu-west-1.amazonaws.com", "the roots")
    );
    assert!(trial.chain_pem.ends_with("-----\nthe chain\n"));
    assert_eq!(h.account.log.len(), 6);
    tried(&mut h, Ok(()));
    assert_eq!(h.hear(0), ["credentials 1 SN1"]);
    h.written(0, 1, "SN1");
    assert_eq!(h.state("SN1"), State::Passed);
    assert!(h.trials.is_empty());
}

#[test]
fn a_server_that_cannot_be_reached_is_waited_for_and_one_that_refuses_is_not() {
    let mut h = Harness::ready_with(tls());
    h.unit(0, unit(1, "SN1"));
    for _ in 0..40 {
        tried(&mut h, Err(Unproved::Unreachable("it is away".to_owned())));
        h.seconds(31);
    }
    assert_eq!(h.state("SN1"), State::Provisioning);
    for _ in 0..8 {
        tried(&mut h, Err(Unproved::Refused("it says no".to_owned())));
        h.seconds(31);
        assert_eq!(h.state("SN1"), State::Provisioning, "the endpoint may not know it yet");
    }
    tried(&mut h, Err(Unproved::Refused("it says no".to_owned())));
    assert_eq!(h.state("SN1"), State::Quarantined);
    let failure = h.device("SN1").failure.clone().unwrap();
    assert_eq!(failure.message, "the endpoint does not take the certificate of SN1: it says no");
}

#[test]
fn what_is_told_of_an_earlier_certificate_or_a_device_with_its_own_key_proves_nothing() {
    let mut h = Harness::ready_with(tls());
    h.unit(0, unit(1, "SN1"));
    let serial = h.trials[0].serial.clone();
    let fingerprint = Fingerprint::of(b"another");
    h.input(Input::Connected { serial, fingerprint, result: Ok(()) });
    assert!(!h.was_offered("SN1"));
    assert_eq!(h.trials.len(), 2, "it is tried with the present one");

    let mut h = Harness::ready_with(Setup {
        rules: {
            let mut it = tls().rules;
            it.certificate.key = KeyOrigin::Station;
            it
        },
        ..tls()
    });
    h.unit(0, unit(1, "SN1"));
    let key = h.trials[0].key;
    h.keys.remove(&key);
    let serial = h.trials.remove(0).serial;
    h.input(Input::KeyLost(serial, key));
    assert_ne!(h.device("SN1").fingerprint(), Some(key), "another certificate takes its place");
    assert_eq!(h.trials.len(), 1);
    tried(&mut h, Ok(()));
    assert!(h.was_offered("SN1"));
}

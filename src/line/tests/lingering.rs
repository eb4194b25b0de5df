//! A call that was given up takes effect when what it did has been undone already.

use super::account::{Fault, arn};
use super::harness::Harness;
use super::setup::{Setup, unit};
use crate::cloud::{CertificateStatus, FailureKind, Operation};
use crate::device::State;
use crate::device::operator::Order;
use crate::device::rules::{Register, Repeat};
use crate::pki::Fingerprint;

fn certificates(h: &Harness, serial: &str) -> Vec<Fingerprint> {
    h.issued.iter().filter(|(it, _)| it == serial).map(|(_, id)| *id).collect()
}

/// What a late attaching leaves: the certificate hangs on policy and thing again.
fn attach(h: &mut Harness, id: &str) {
    h.account.attached.entry(arn(id)).or_default().insert("SN1".to_owned());
    h.account.principals.entry("SN1".to_owned()).or_default().insert(arn(id));
}

/// A passed device whose scrapping waits before its certificate is deleted.
fn waiting_for(operation: Operation) -> (Harness, String) {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    h.account.fault(operation, Fault::Fail(FailureKind::Throttled));
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Quarantined);
    let id = h.issued[0].1.to_string();
    (h, id)
}

#[test]
fn what_is_attached_after_it_was_detached_is_detached_again() {
    let (mut h, id) = waiting_for(Operation::DeleteCertificate);
    attach(&mut h, &id);
    // So was its activation.
    h.account.certificates.insert(id, CertificateStatus::Active);
    h.seconds(20);
    assert_eq!(h.state("SN1"), State::Scrapped, "{:?}", h.history("SN1"));
    h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
    assert_eq!(h.account.count(Operation::DetachPolicy), 2);
}

#[test]
fn a_certificate_that_a_late_registration_has_made_again_does_not_keep_policy_and_thing() {
    for operation in [Operation::DeletePolicy, Operation::DescribeThing] {
        let (mut h, id) = waiting_for(operation);
        assert!(!h.account.certificates.contains_key(&id), "it is deleted already");
        h.account.certificates.insert(id.clone(), CertificateStatus::Active);
        attach(&mut h, &id);
        h.seconds(60);
        assert_eq!(h.state("SN1"), State::Scrapped, "{operation}: {:?}", h.history("SN1"));
        h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
    }
}

/// The device's first connection: its template registers the certificate and attaches it.
fn provisioned(more: &[&str]) -> (Harness, String) {
    provisioned_by(Register::Jitp, more, |_| ())
}

/// The same where `register` may have done it, and something happens before the device is scrapped.
fn provisioned_by(register: Register, more: &[&str], before: impl FnOnce(&mut Harness)) -> (Harness, String) {
    let mut h = Harness::ready_with(Setup::with(|it| it.certificate.register = register));
    h.pass(0, 1, "SN1");
    let id = h.issued[0].1.to_string();
    h.account.certificates.insert(id.clone(), CertificateStatus::Active);
    attach(&mut h, &id);
    let policies = h.account.attached.entry(arn(&id)).or_default();
    policies.extend(more.iter().map(|it| (*it).to_owned()));
    before(&mut h);
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.seconds(60);
    (h, id)
}

#[test]
fn a_device_that_its_first_connection_has_provisioned_is_scrapped_whole() {
    let (h, _) = provisioned(&[]);
    assert_eq!(h.state("SN1"), State::Scrapped, "{:?}", h.history("SN1"));
    h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
}

#[test]
fn what_its_template_has_attached_beside_keeps_the_certificate_and_nothing_else() {
    let (mut h, id) = provisioned(&["everybodys"]);
    // It might be a detaching that is slow to take effect.
    h.seconds(600);
    assert_eq!(h.account.count(Operation::DeleteCertificate), 8, "four tries, each with a second look");
    assert_eq!(h.state("SN1"), State::Scrapped, "{:?}", h.history("SN1"));
    assert_eq!(h.account.certificates[&id], CertificateStatus::Inactive);
    assert_eq!(h.account.attached[&arn(&id)].iter().collect::<Vec<_>>(), ["everybodys"]);
    assert!(!h.account.things.contains_key("SN1") && !h.account.policies.contains_key("SN1"));
}

#[test]
fn detaching_that_takes_effect_late_leaves_no_certificate_that_its_first_connection_has_provisioned() {
    // Each try asks twice, the second time when it has been detached once more.
    for refusals in 1..=7 {
        let (mut h, _) = provisioned_by(Register::Jitp, &[], |h| {
            let refused = || Fault::Fail(FailureKind::Conflict);
            (0..refusals).for_each(|_| h.account.fault(Operation::DeleteCertificate, refused()));
        });
        h.seconds(600);
        assert_eq!(h.state("SN1"), State::Scrapped, "{refusals}: {:?}", h.history("SN1"));
        h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
        assert_eq!(h.account.count(Operation::DeleteCertificate), 1 + refusals);
    }
}

#[test]
fn what_the_station_has_registered_itself_is_not_left_though_devices_are_provisioned_by_a_template_now() {
    let (mut h, id) = provisioned_by(Register::WithCa, &["everybodys"], |h| {
        let now = Setup::with(|it| {
            it.certificate.register = Register::Jitp;
            it.repeat = Repeat::Renew;
        });
        assert_eq!(h.reload(&now), Some(Ok(())));
        // Its second certificate is by the rules of now, and so is the device.
        h.pass(0, 2, "SN1");
    });
    assert!(h.device("SN1").superseded[0].arn.is_some() && h.device("SN1").superseded[1].arn.is_none());
    h.seconds(24 * 3_600);
    assert_eq!(h.state("SN1"), State::Quarantined, "{:?}", h.history("SN1"));
    assert_eq!(h.account.certificates[&id], CertificateStatus::Inactive);
    // A person takes off what is not the device's.
    h.account.attached.get_mut(&arn(&id)).unwrap().clear();
    h.seconds(2 * 3_600);
    assert_eq!(h.state("SN1"), State::Scrapped, "{:?}", h.history("SN1"));
    h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
}

#[test]
fn each_call_of_it_may_fail_like_any_other() {
    let all = [Operation::UpdateCertificate, Operation::DetachPolicy, Operation::DetachThingPrincipal];
    for operation in all {
        for fault in [
            Fault::Lost,
            Fault::Proxy,
            Fault::Fail(FailureKind::Throttled),
            Fault::Fail(FailureKind::Unreachable),
            Fault::Fail(FailureKind::NotFound),
            Fault::Fail(FailureKind::Conflict),
        ] {
            let (mut h, id) = waiting_for(Operation::DeleteCertificate);
            attach(&mut h, &id);
            h.account.fault(operation, fault.clone());
            h.seconds(4_000);
            assert_eq!(h.state("SN1"), State::Scrapped, "{operation} {fault:?}: {:?}", h.history("SN1"));
            h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
        }
    }
}

#[test]
fn what_aws_never_lets_go_is_asked_for_ever_less_often() {
    let (mut h, _) = waiting_for(Operation::DeleteCertificate);
    h.account.always.insert(Operation::DeleteCertificate, Fault::Fail(FailureKind::Conflict));
    h.seconds(24 * 3_600);
    assert_eq!(h.state("SN1"), State::Quarantined);
    let (deletions, detachings) =
        (h.account.count(Operation::DeleteCertificate), h.account.count(Operation::DetachPolicy));
    // Twice in a try: the second time when it has been detached once more.
    assert!(deletions <= 2 * (10 + 2 * 24), "{deletions}");
    assert!(detachings <= deletions / 2 + 1, "{detachings} for {deletions}");
    h.account.always.clear();
    h.seconds(2 * 3_600);
    assert_eq!(h.state("SN1"), State::Scrapped);
}

#[test]
fn a_replaced_certificate_that_aws_has_issued_goes_all_the_same() {
    let mut h = Harness::ready_with(Setup::with(|it| {
        it.certificate.register = Register::Aws;
        it.repeat = Repeat::Renew;
    }));
    h.pass(0, 1, "SN1");
    h.unit(0, unit(2, "SN1"));
    h.account.fault(Operation::DeleteCertificate, Fault::Fail(FailureKind::Throttled));
    h.written(0, 2, "SN1");
    let old = h.device("SN1").superseded[0].fingerprint.to_string();
    attach(&mut h, &old);
    h.seconds(20);
    assert!(!h.account.certificates.contains_key(&old), "{:?}", h.history("SN1"));
    assert_eq!(h.state("SN1"), State::Passed);
}

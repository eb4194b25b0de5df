//! A passed serial gets a new certificate: the old one goes when the new one is confirmed, not before.

use super::account::{Fault, arn};
use super::harness::Harness;
use super::setup::{Setup, unit, unit_in};
use crate::cloud::{Call, CertificateStatus, FailureKind, Operation};
use crate::device::State;
use crate::device::rules::{PolicyRule, Register, Repeat};
use crate::fixture::Unit;

/// A station that renews, with SN1 passed in presentation 1.
fn passed() -> Harness {
    let mut h = Harness::ready_with(Setup::with(|it| it.repeat = Repeat::Renew));
    h.pass(0, 1, "SN1");
    h.account.log.clear();
    h
}

fn status(h: &Harness, number: usize) -> CertificateStatus {
    h.account.certificates[&h.issued[number].1.to_string()]
}

#[test]
fn a_renewal_costs_three_calls_and_then_three_to_retire_the_old_in_awss_order() {
    let mut h = passed();
    h.unit(0, unit(2, "SN1"));
    assert_eq!(
        h.account.operations(),
        [Operation::RegisterCertificateWithoutCa, Operation::AttachPolicy, Operation::AttachThingPrincipal]
    );
    assert_eq!(status(&h, 0), CertificateStatus::Active, "the old one lives until the new one is confirmed");
    h.account.log.clear();
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
    let old = h.issued[0].1.to_string();
    assert_eq!(
        h.account.log,
        [
            Call::UpdateCertificate { id: old.clone(), status: CertificateStatus::Inactive },
            Call::DetachPolicy { policy: "SN1".to_owned(), target: arn(&old) },
            Call::DetachThingPrincipal { thing: "SN1".to_owned(), principal: arn(&old) },
        ]
    );
    h.account.assert_holds("SN1", h.issued[1].1);
    assert_eq!(h.device("SN1").generation, 2);
    assert!(h.keys.is_empty());
}

#[test]
fn the_old_certificate_is_deactivated_only_once_the_new_ones_confirmation_is_on_disk() {
    let mut h = passed();
    h.unit(0, unit(2, "SN1"));
    h.account.log.clear();
    h.syncs = false;
    h.written(0, 2, "SN1");
    assert!(h.account.log.is_empty());
    h.crash(0);
    h.syncs = true;
    assert_eq!((status(&h, 0), h.state("SN1")), (CertificateStatus::Active, State::Delivering));
    h.connect(0, 1);
    h.hear(0);
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
    assert_eq!(status(&h, 0), CertificateStatus::Inactive);
}

#[test]
fn a_renewal_that_fails_keeps_the_old_certificate_and_goes_on_with_the_new() {
    let mut h = passed();
    h.unit(0, unit(2, "SN1"));
    assert_eq!(h.write_failed(0, 2, "SN1"), ["fail write-failed 2 SN1"]);
    h.seconds(600);
    assert_eq!(status(&h, 0), CertificateStatus::Active);
    assert_eq!(h.unit(0, unit(3, "SN1")), ["ack 3", "credentials 3 SN1"]);
    assert_eq!(h.issued.len(), 2, "the same certificate is offered again");
    h.written(0, 3, "SN1");
    assert_eq!(status(&h, 0), CertificateStatus::Inactive);
}

#[test]
fn retiring_is_finished_after_a_restart() {
    for done in 0..3 {
        let mut h = passed();
        h.unit(0, unit(2, "SN1"));
        h.answers = false;
        h.written(0, 2, "SN1");
        for _ in 0..done {
            let next = h.calls.remove(0);
            let result = h.account.answer(&next.call);
            let (serial, step, generation) = (next.serial, next.step, next.generation);
            h.input(crate::line::Input::Called {
                serial,
                step,
                generation,
                result,
                waited: std::time::Duration::ZERO,
            });
        }
        h.answers = true;
        h.crash(usize::MAX);
        h.account.assert_holds("SN1", h.issued[1].1);
        assert_eq!(status(&h, 0), CertificateStatus::Inactive);
        let before = h.account.log.len();
        h.crash(usize::MAX);
        assert_eq!(h.account.log.len(), before, "and then left alone");
    }
}

#[test]
fn retiring_survives_what_aws_may_say() {
    let all = [Operation::UpdateCertificate, Operation::DetachPolicy, Operation::DetachThingPrincipal];
    for operation in all {
        for fault in [
            Fault::Lost,
            Fault::Proxy,
            Fault::Fail(FailureKind::Throttled),
            Fault::Fail(FailureKind::Refused),
            Fault::Fail(FailureKind::Conflict),
        ] {
            let mut h = passed();
            h.unit(0, unit(2, "SN1"));
            h.account.fault(operation, fault.clone());
            assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
            h.seconds(4000);
            assert_eq!(
                (status(&h, 0), h.state("SN1")),
                (CertificateStatus::Inactive, State::Passed),
                "{fault:?}"
            );
            h.account.assert_holds("SN1", h.issued[1].1);
        }
        let mut h = passed();
        h.unit(0, unit(2, "SN1"));
        h.account.fault(operation, Fault::Fail(FailureKind::NotFound));
        h.written(0, 2, "SN1");
        assert_eq!(h.state("SN1"), State::Passed, "what is not there is retired");
        assert_eq!(h.account.count(operation), 1);
    }
}

#[test]
fn a_second_renewal_while_the_first_is_retired_retires_both() {
    let mut h = passed();
    h.setup.rules.max_certificates = 9;
    h.crash(usize::MAX);
    h.connect(0, 1);
    h.hear(0);
    h.unit(0, unit(2, "SN1"));
    h.account.always.insert(Operation::UpdateCertificate, Fault::Fail(FailureKind::Throttled));
    h.written(0, 2, "SN1");
    assert_eq!(h.unit(0, unit(3, "SN1")), ["ack 3", "credentials 3 SN1"]);
    h.account.always.clear();
    h.written(0, 3, "SN1");
    h.seconds(60);
    h.account.assert_holds("SN1", h.issued[2].1);
    assert_eq!((status(&h, 0), status(&h, 1)), (CertificateStatus::Inactive, CertificateStatus::Inactive));
}

#[test]
fn a_device_that_is_quarantined_while_its_old_certificate_is_retired_is_left_alone() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.write_failed(0, 1, "SN1");
    h.keys.clear();
    h.unit(0, unit(2, "SN1"));
    h.answers = false;
    h.written(0, 2, "SN1");
    let holds = Some("0".repeat(64));
    assert_eq!(h.unit(0, Unit { holds, ..unit(3, "SN1") }), ["fail mismatch 3 SN1"]);
    h.answer_all();
    h.restart();
    assert_eq!(h.state("SN1"), State::Quarantined);
    assert!(h.calls.is_empty());
}

#[test]
fn a_renewal_is_a_new_device_to_the_gate() {
    let mut h = passed();
    h.input(crate::line::Input::Gate(Some("the disk is full".to_owned())));
    assert_eq!(h.unit(0, unit(2, "SN1")), ["nak busy 2"]);
    assert_eq!(h.state("SN1"), State::Passed);
}

#[test]
fn a_renewal_in_another_nest_while_one_is_open_is_elsewhere() {
    let mut h = passed();
    h.unit(0, unit_in(2, "SN1", "a"));
    assert_eq!(h.unit(0, unit_in(3, "SN1", "b")), ["nak elsewhere 3"]);
    assert_eq!(h.issued.len(), 2);
}

#[test]
fn with_jitp_or_without_a_policy_only_what_is_there_is_retired() {
    let mut h = Harness::ready_with(Setup::with(|it| {
        it.repeat = Repeat::Renew;
        it.policy = PolicyRule::None;
    }));
    h.pass(0, 1, "SN1");
    h.unit(0, unit(2, "SN1"));
    h.account.log.clear();
    h.written(0, 2, "SN1");
    assert_eq!(h.account.operations(), [Operation::UpdateCertificate, Operation::DetachThingPrincipal]);

    let mut h = Harness::ready_with(Setup::with(|it| {
        it.repeat = Repeat::Renew;
        it.certificate.register = Register::Jitp;
    }));
    h.pass(0, 1, "SN1");
    h.unit(0, unit(2, "SN1"));
    h.account.log.clear();
    h.written(0, 2, "SN1");
    assert_eq!(
        h.account.operations(),
        [Operation::UpdateCertificate],
        "it may have registered itself meanwhile"
    );
}

/// Found by the simulation: a device passes while AWS cannot yet say what else is attached to its thing,
/// and after a crash nobody asked any more.
#[test]
fn certificates_of_an_earlier_life_are_looked_for_after_a_crash_too() {
    use crate::pki::Fingerprint;
    let mut h = Harness::ready();
    let old = Fingerprint::of(b"of an earlier life").to_string();
    h.account.certificates.insert(old.clone(), CertificateStatus::Active);
    h.account.policies.insert("SN1".to_owned(), super::setup::DOCUMENT.to_owned());
    let ours = ("linemint".to_owned(), super::setup::STATION.to_owned());
    h.account.things.insert("SN1".to_owned(), [ours].into());
    h.account.principals.insert("SN1".to_owned(), [arn(&old)].into());
    h.account.attached.insert(arn(&old), ["SN1".to_owned()].into());
    h.account.always.insert(Operation::ListThingPrincipals, Fault::Fail(FailureKind::Unreachable));
    h.pass(0, 1, "SN1");
    h.account.always.clear();
    h.restart();
    h.seconds(60);
    assert_eq!(h.account.certificates[&old], CertificateStatus::Inactive);
    let live = h.device("SN1").fingerprint().unwrap();
    h.account.assert_holds("SN1", live);
}

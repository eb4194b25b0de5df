//! Certificates that AWS issues: one for each device, whatever becomes of the answers.

mod looks;

use std::time::Duration;

use super::account::{Account, Fault, arn};
use super::harness::{Harness, Pending};
use super::setup::{Setup, unit, unit_in};
use crate::cloud::testing::failure;
use crate::cloud::{Call, CertificateStatus, Class, FailureKind, Operation, StopCause};
use crate::device::event::Event;
use crate::device::rules::{KeyOrigin, Register, Repeat};
use crate::device::steps::Step;
use crate::device::{KeyState, State};
use crate::fixture::Unit;
use crate::line::Input;
use crate::pki::{Fingerprint, to_pem};

const CREATE: Operation = Operation::CreateCertificateFromCsr;
const LIST: Operation = Operation::ListCertificates;
const DESCRIBE: Operation = Operation::DescribeCertificate;
const DELETE: Operation = Operation::DeleteCertificate;

fn setup() -> Setup {
    Setup::with(|it| it.certificate.register = Register::Aws)
}

fn station() -> Harness {
    Harness::ready_with(setup())
}

/// The events about the certificate, in order.
fn story(h: &Harness) -> Vec<&'static str> {
    let about = ["csr-made", "certificate-asked", "certificate-in-doubt", "spare-found", "issued"];
    h.history("SN1").into_iter().filter(|it| about.contains(it)).collect()
}

/// Whether SN1 has been sent its credentials, once or again.
fn is_offered(h: &mut Harness) -> bool {
    let heard = h.hear(0);
    heard.iter().any(|it| it.starts_with("credentials 1 SN1")) && heard.iter().all(|it| it.ends_with("1 SN1"))
}

/// Presents SN1, confirms it, and lets the time pass in which something may still turn up.
fn brought_to_its_end(h: &mut Harness) {
    let mut heard = h.unit(0, unit(1, "SN1"));
    for _ in 0..60 {
        if heard.contains(&"credentials 1 SN1".to_owned()) {
            break;
        }
        h.seconds(1);
        heard = h.hear(0);
    }
    h.written(0, 1, "SN1");
    h.seconds(1200);
    assert_exactly_one(h);
}

/// SN1 has passed, and AWS holds the one certificate of it and no other.
fn assert_exactly_one(h: &Harness) {
    assert_eq!(h.state("SN1"), State::Passed);
    let device = h.device("SN1");
    let certificate = device.certificate.as_ref().unwrap();
    h.account.assert_holds("SN1", certificate.fingerprint);
    assert_eq!(h.account.issued_for("SN1"), [certificate.fingerprint.to_string()]);
    assert!(device.doubts.is_empty() && device.to_retire().is_none(), "{device:#?}");
    assert_eq!(certificate.key, KeyState::Destroyed);
    assert!(h.keys.is_empty());
}

#[test]
fn a_device_costs_seven_calls_in_two_round_trips_and_gets_no_chain_of_the_stations() {
    let mut h = station();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let out = |h: &Harness| h.calls.iter().map(|it| it.step).collect::<Vec<_>>();
    assert!(out(&h).contains(&Step::Certificate), "{:?}", out(&h));
    assert_eq!(h.calls.len(), 4);
    for _ in 0..4 {
        let Pending { serial, step, generation, call, .. } = h.calls.remove(0);
        let result = h.reply(&call);
        h.input(Input::Called { serial, step, generation, result, waited: Duration::ZERO });
    }
    assert_eq!(out(&h), [Step::Activate, Step::AttachPolicy, Step::AttachThing]);
    h.answer_all();
    assert!(is_offered(&mut h));
    let credentials = h.credentials("SN1").clone();
    let certificate = h.device("SN1").certificate.clone().unwrap();
    assert_eq!(credentials.certificate, *to_pem("CERTIFICATE", &certificate.der));
    assert_eq!(credentials.certificate_sha256, certificate.fingerprint.to_string());
    assert!(credentials.private_key.is_some());
    h.written(0, 1, "SN1");
    h.seconds(3600);
    assert_eq!(h.account.log.len(), 7);
    assert_eq!(story(&h), ["csr-made", "certificate-asked", "issued"]);
    assert_exactly_one(&h);
}

#[test]
fn the_intent_is_on_disk_before_the_call_and_the_certificate_before_it_is_made_active() {
    let mut h = station();
    h.syncs = false;
    h.unit(0, unit(1, "SN1"));
    // The harness refuses a call whose record is not on disk; here each record is late.
    for _ in 0..30 {
        h.sync(1);
    }
    assert_eq!(h.account.count(CREATE), 1);
    h.syncs = true;
    h.sync(usize::MAX);
    h.written(0, 1, "SN1");
    assert_exactly_one(&h);
}

#[test]
fn an_answer_lost_after_the_effect_is_found_by_its_key_and_not_asked_for_again() {
    let mut h = station();
    h.account.fault(CREATE, Fault::Lost);
    brought_to_its_end(&mut h);
    assert_eq!(h.account.count(CREATE), 1);
    assert_eq!(story(&h), ["csr-made", "certificate-asked", "certificate-in-doubt", "issued"]);
}

#[test]
fn a_list_that_is_behind_is_read_again_before_the_call_is_repeated() {
    for (behind, asked) in [(400, 1), (1500, 1), (4000, 1)] {
        let mut h = station();
        h.account.lists_are_behind = Duration::from_millis(behind);
        h.account.fault(CREATE, Fault::Lost);
        brought_to_its_end(&mut h);
        assert_eq!(h.account.count(CREATE), asked, "{behind} ms");
    }
}

#[test]
fn what_shows_only_after_the_call_was_repeated_is_deleted_before_the_credentials_go_out() {
    let mut h = station();
    h.account.fault(CREATE, Fault::Lost);
    h.account.lists_are_behind = Duration::from_secs(30);
    // The second call is answered when the first one's effect has come to light.
    h.account.fault(CREATE, Fault::Fail(FailureKind::Throttled));
    h.unit(0, unit(1, "SN1"));
    h.seconds(10);
    assert_eq!(h.account.issued_for("SN1").len(), 2);
    h.account.lists_are_behind = Duration::ZERO;
    h.seconds(60);
    h.written(0, 1, "SN1");
    h.seconds(1200);
    assert_exactly_one(&h);
}

#[test]
fn an_answer_lost_before_the_effect_costs_three_looks_and_a_second_call() {
    let mut h = station();
    h.account.fault(CREATE, Fault::Fail(FailureKind::Unknown));
    h.unit(0, unit(1, "SN1"));
    h.seconds(10);
    // Three before the repetition, one before the credentials.
    assert_eq!((h.account.count(CREATE), h.account.count(LIST)), (2, 4));
    assert!(is_offered(&mut h));
    h.written(0, 1, "SN1");
    h.seconds(1200);
    assert_eq!(h.account.count(LIST), 5, "and a last one when nothing can come any more");
    assert_exactly_one(&h);
    let asked = ["csr-made", "certificate-asked", "certificate-in-doubt", "certificate-asked", "issued"];
    assert_eq!(story(&h), asked);
}

#[test]
fn a_call_that_arrives_late_is_deleted_whenever_that_is() {
    // Before the first look, between the looks, before the credentials, after the device has passed.
    for land_after_ms in [100, 1000, 3000, 5500, 20_000, 300_000, 880_000] {
        let mut h = station();
        h.account.fault(CREATE, Fault::Late);
        h.unit(0, unit(1, "SN1"));
        if land_after_ms < 6000 {
            h.wait(Duration::from_millis(land_after_ms));
            h.account.now = h.now.wall;
            h.account.land();
        }
        h.seconds(10);
        assert!(is_offered(&mut h), "{land_after_ms}");
        h.written(0, 1, "SN1");
        if land_after_ms >= 6000 {
            h.wait(Duration::from_millis(land_after_ms - 10_000));
            h.account.now = h.now.wall;
            h.account.land();
            assert_eq!(h.account.issued_for("SN1").len(), 2, "{land_after_ms}");
        }
        h.seconds(1200);
        assert_exactly_one(&h);
    }
}

#[test]
fn the_last_look_is_not_forgotten_over_a_restart() {
    let mut h = station();
    h.account.fault(CREATE, Fault::Late);
    h.unit(0, unit(1, "SN1"));
    h.seconds(10);
    h.written(0, 1, "SN1");
    h.crash(usize::MAX);
    h.seconds(600);
    h.account.now = h.now.wall;
    h.account.land();
    h.crash(usize::MAX);
    assert_eq!(h.account.issued_for("SN1").len(), 2);
    h.seconds(600);
    assert_exactly_one(&h);
    let before = h.account.log.len();
    h.crash(usize::MAX);
    h.seconds(3600);
    assert_eq!(h.account.log.len(), before, "and then it is left alone");
}

#[test]
fn several_that_were_made_are_brought_down_to_one_in_awss_order() {
    let mut h = station();
    h.account.fault(CREATE, Fault::Lost);
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let csr = h.calls.iter().find_map(|it| match &it.call {
        Call::CreateCertificateFromCsr { csr_pem } => Some(csr_pem.clone()),
        _ => None,
    });
    // One more, as a proxy that repeats by itself would make it.
    h.account.now = h.now.wall;
    let (oldest, ..) = h.account.issue_from(&csr.unwrap());
    h.seconds(1);
    h.answers = true;
    h.answer_all();
    h.account.log.clear();
    h.seconds(10);
    let left = h.account.issued_for("SN1");
    assert_eq!(left, std::slice::from_ref(&oldest), "the oldest is kept");
    let deleted: Vec<&Call> = h
        .account
        .log
        .iter()
        .filter(|it| match it {
            Call::UpdateCertificate { status, .. } => *status == CertificateStatus::Inactive,
            Call::DeleteCertificate { .. } => true,
            _ => false,
        })
        .collect();
    let loser = match deleted[0] {
        Call::UpdateCertificate { id, .. } => id.clone(),
        other => panic!("{other:?}"),
    };
    assert_ne!(loser, oldest);
    assert_eq!(deleted[1..], [&Call::DeleteCertificate { id: loser.clone() }]);
    assert!(h.shelf.events.iter().any(
        |(_, it)| matches!(it, Event::SpareFound { fingerprint, .. } if fingerprint.to_string() == loser)
    ));
    assert!(is_offered(&mut h));
    h.written(0, 1, "SN1");
    h.seconds(1200);
    assert_exactly_one(&h);
}

#[test]
fn a_crash_at_each_record_with_the_call_done_or_not_leaves_one_certificate() {
    for done in [false, true] {
        for kept in 0..12 {
            let mut h = station();
            (h.syncs, h.answers) = (false, false);
            h.unit(0, unit(1, "SN1"));
            for _ in 0..kept {
                h.sync(1);
                if let Some(at) = h.calls.iter().position(|it| it.step != Step::Certificate) {
                    let Pending { serial, step, generation, call, .. } = h.calls.remove(at);
                    let result = h.reply(&call);
                    h.input(Input::Called { serial, step, generation, result, waited: Duration::ZERO });
                }
            }
            if done {
                for out in std::mem::take(&mut h.calls) {
                    let _ = h.reply(&out.call);
                }
            }
            h.crash(0);
            (h.syncs, h.answers) = (true, true);
            h.sync(usize::MAX);
            h.answer_all();
            h.connect(0, 1);
            h.hear(0);
            brought_to_its_end(&mut h);
            assert!(h.account.count(CREATE) <= 2, "done {done}, kept {kept}");
        }
    }
}

#[test]
fn a_crash_after_the_answer_and_before_its_record_finds_the_certificate() {
    let mut h = station();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.syncs = false;
    h.answer_all();
    assert_eq!(h.account.count(CREATE), 1);
    h.crash(0);
    (h.syncs, h.answers) = (true, true);
    h.answer_all();
    h.seconds(30);
    h.connect(0, 1);
    h.hear(0);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    assert_eq!(h.account.count(CREATE), 1);
    h.written(0, 1, "SN1");
    h.seconds(1200);
    assert_exactly_one(&h);
}

#[test]
fn a_call_that_certainly_did_nothing_is_repeated_without_a_look() {
    for kind in [FailureKind::Throttled, FailureKind::Unreachable] {
        let mut h = station();
        (0..5).for_each(|_| h.account.fault(CREATE, Fault::Fail(kind)));
        h.unit(0, unit(1, "SN1"));
        h.seconds(30);
        assert_eq!((h.account.count(CREATE), h.account.count(LIST)), (6, 0), "{kind}");
        assert_eq!(story(&h), ["csr-made", "certificate-asked", "issued"]);
        h.written(0, 1, "SN1");
        assert_exactly_one(&h);
    }
}

#[test]
fn what_aws_refuses_for_good_is_put_aside() {
    let mut h = station();
    h.account.fault(CREATE, Fault::Fail(FailureKind::Refused));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "fail rejected 1 SN1"]);
    assert_eq!(h.state("SN1"), State::Quarantined);
}

#[test]
fn an_outage_uses_up_no_certificates() {
    let mut h = station();
    h.account.always.insert(CREATE, Fault::Fail(FailureKind::Unknown));
    h.unit(0, unit(1, "SN1"));
    h.seconds(600);
    assert!(h.account.count(CREATE) > 10);
    assert_eq!((h.state("SN1"), h.device("SN1").certificates_issued), (State::Provisioning, 0));
    h.account.always.clear();
    h.seconds(60);
    h.hear(0);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
}

#[test]
fn certificates_of_others_are_neither_taken_nor_touched() {
    let mut h = station();
    let csr = crate::pki::request::make_request("SN1").unwrap().csr;
    let pem = to_pem("CERTIFICATE REQUEST", &csr).to_string();
    h.account.now = h.now.wall;
    let (foreign, ..) = h.account.issue_from(&pem);
    h.account.fault(CREATE, Fault::Lost);
    h.unit(0, unit(1, "SN1"));
    h.seconds(10);
    assert!(is_offered(&mut h));
    assert_ne!(h.device("SN1").fingerprint().map(|it| it.to_string()), Some(foreign.clone()));
    h.written(0, 1, "SN1");
    h.seconds(1200);
    assert_eq!(h.account.certificates[&foreign], CertificateStatus::Inactive);
    assert_eq!(h.account.count(DELETE), 0);
}

#[test]
fn deletion_and_activation_survive_what_aws_may_say() {
    let faults = [
        Fault::Lost,
        Fault::Proxy,
        Fault::Unsigned,
        Fault::Fail(FailureKind::Throttled),
        Fault::Fail(FailureKind::Unknown),
    ];
    for fault in faults {
        for operation in [Operation::UpdateCertificate, DELETE] {
            let mut h = station();
            h.account.fault(CREATE, Fault::Late);
            h.account.fault(operation, fault.clone());
            h.unit(0, unit(1, "SN1"));
            h.seconds(30);
            h.written(0, 1, "SN1");
            h.account.now = h.now.wall;
            h.account.land();
            h.seconds(3 * 3600);
            assert_exactly_one(&h);
        }
    }
}

#[test]
fn a_key_that_is_lost_gets_another_certificate_and_the_first_is_deleted() {
    let mut h = station();
    h.unit(0, unit(1, "SN1"));
    h.write_failed(0, 1, "SN1");
    h.keys.clear();
    h.keys_were_lost = true;
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    assert_eq!(h.account.issued_for("SN1").len(), 2);
    let first: Fingerprint = h.account.issued_for("SN1")[0].parse().unwrap();
    assert_eq!(
        h.account.certificates[&first.to_string()],
        CertificateStatus::Active,
        "until the new one is confirmed"
    );
    h.written(0, 2, "SN1");
    assert_exactly_one(&h);
}

#[test]
fn a_renewal_deactivates_detaches_and_deletes_the_old_certificate_in_awss_order() {
    let mut setup = setup();
    setup.rules.repeat = Repeat::Renew;
    let mut h = Harness::ready_with(setup);
    h.pass(0, 1, "SN1");
    let old = h.account.issued_for("SN1")[0].clone();
    h.account.log.clear();
    h.unit(0, unit(2, "SN1"));
    assert_eq!(h.account.certificates[&old], CertificateStatus::Active);
    h.account.log.clear();
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
    assert_eq!(
        h.account.log,
        [
            Call::UpdateCertificate { id: old.clone(), status: CertificateStatus::Inactive },
            Call::DetachPolicy { policy: "SN1".to_owned(), target: arn(&old) },
            Call::DetachThingPrincipal { thing: "SN1".to_owned(), principal: arn(&old) },
            Call::DeleteCertificate { id: old.clone() },
        ]
    );
    assert_exactly_one(&h);
}

/// A unit that makes its own key, and its request.
fn own_key(id: u64) -> (Unit, Vec<u8>) {
    let csr = crate::pki::request::make_request("SN1").unwrap().csr;
    let pem = to_pem("CERTIFICATE REQUEST", &csr).to_string();
    (Unit { csr: Some(pem), ..unit(id, "SN1") }, csr)
}

#[test]
fn a_device_with_its_own_key_has_its_own_request_sent() {
    for fault in [None, Some(Fault::Lost), Some(Fault::Late)] {
        let mut setup = setup();
        setup.rules.certificate.key = KeyOrigin::Device;
        let mut h = Harness::ready_with(setup);
        if let Some(fault) = fault {
            h.account.fault(CREATE, fault);
        }
        let (unit, csr) = own_key(1);
        h.unit(0, unit);
        h.seconds(30);
        assert!(h.account.log.iter().any(|it| matches!(it,
            Call::CreateCertificateFromCsr { csr_pem } if super::account::der_of(csr_pem) == csr)));
        assert!(h.credentials("SN1").private_key.is_none());
        h.written(0, 1, "SN1");
        h.account.now = h.now.wall;
        h.account.land();
        h.seconds(1200);
        assert_eq!(h.state("SN1"), State::Passed);
        let held: Vec<_> = h.account.issued.keys().cloned().collect();
        assert_eq!(held, [h.device("SN1").fingerprint().unwrap().to_string()]);
        assert_eq!(h.device("SN1").certificate.as_ref().unwrap().key, KeyState::Device);
    }
}

#[test]
fn an_answer_that_holds_another_key_is_no_answer() {
    let mut h = station();
    let other = crate::pki::request::make_request("SN9").unwrap().csr;
    let mut elsewhere = Account { now: h.now.wall, ..Account::default() };
    h.account.fault(CREATE, Fault::Says(elsewhere.create_from_csr(&to_pem("CERTIFICATE REQUEST", &other))));
    h.unit(0, unit(1, "SN1"));
    assert_eq!(story(&h), ["csr-made", "certificate-asked", "certificate-in-doubt"]);
    h.seconds(10);
    assert!(is_offered(&mut h));
    h.written(0, 1, "SN1");
    h.seconds(1200);
    assert_exactly_one(&h);
}

/// It tells by the ARN of what it has made: asked again, it would make one more.
#[test]
fn a_wrong_account_gets_at_most_one_certificate() {
    let mut h = station();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let wrong = |operation| Err(failure(operation, FailureKind::Stop(StopCause::Account)));
    for _ in 0..600 {
        for Pending { serial, step, generation, call, .. } in std::mem::take(&mut h.calls) {
            let _ = h.reply(&call);
            h.input(Input::Called {
                serial,
                step,
                generation,
                result: wrong(call.operation()),
                waited: Duration::ZERO,
            });
        }
        for (number, call) in std::mem::take(&mut h.surveys) {
            let _ = h.reply(&call);
            h.input(Input::Surveyed { number, result: wrong(call.operation()) });
        }
        h.seconds(2);
    }
    assert_eq!(h.account.count(CREATE), 1);
    assert_eq!(h.account.issued_for("SN1").len(), 1);
}

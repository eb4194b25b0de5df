//! What happens to calls that cannot go through: one tries, the others wait, and all go on together.

use super::account::Fault;
use super::harness::Harness;
use super::setup::{Setup, unit_in};
use crate::cloud::testing::failure;
use crate::cloud::{CloudError, FailureKind, Operation, Service, StopCause};
use crate::device::State;
use crate::device::rules::Register;
use crate::device::steps::Step;
use crate::fixture::FailCode;
use crate::line::Input;
use crate::line::breaker::{Breakers, OUTAGE_AFTER};

/// Presents `count` units one after the other, each in a nest of its own.
fn present(h: &mut Harness, first: u64, count: u64) {
    for id in first..first + count {
        h.unit(0, unit_in(id, &format!("SN{id}"), &format!("n{id}")));
    }
}

/// What the status says of AWS; the harness's second fixture is not there.
fn away(h: &Harness) -> Vec<String> {
    h.line.status().degraded.into_iter().filter(|it| !it.starts_with("fixture ")).collect()
}

fn all_offered(h: &Harness, first: u64, count: u64) -> bool {
    (first..first + count).all(|id| h.was_offered(&format!("SN{id}")))
}

#[test]
fn in_an_outage_one_call_tries_for_all_of_them() {
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Unreachable);
    present(&mut h, 1, 60);
    h.seconds(5);
    let before = h.account.log.len();
    h.seconds(600);
    // Two services, each with a probe every five to ten seconds.
    let probes = h.account.log.len() - before;
    assert!((110..=250).contains(&probes), "{probes} calls in ten minutes");
    assert_eq!(away(&h).len(), 2, "one sentence for each service");
    h.account.down = None;
    let before = h.account.log.len();
    h.seconds(11);
    assert!(h.account.log.len() - before >= 4 * 60, "all of them go on with the first answer");
    h.seconds(60);
    for id in 1..=60 {
        let serial = format!("SN{id}");
        assert!(matches!(h.state(&serial), State::Provisioning | State::Delivering), "{serial}");
        h.account.assert_holds(&serial, h.device(&serial).fingerprint().unwrap());
    }
    assert_eq!(away(&h), [""; 0]);
}

#[test]
fn a_unit_that_never_got_to_call_is_told_of_the_outage() {
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Unreachable);
    present(&mut h, 1, 30);
    h.seconds(61);
    let heard = h.hear(0);
    for id in 1..=30 {
        assert!(heard.contains(&format!("fail offline {id} SN{id}")), "{id}: {heard:?}");
    }
}

#[test]
fn an_outage_of_one_service_does_not_hold_the_other_back() {
    let mut h = Harness::ready();
    h.account.always.insert(Operation::CreateCredentialLocker, Fault::Fail(FailureKind::Unknown));
    present(&mut h, 1, 50);
    h.seconds(30);
    for operation in [Operation::CreatePolicy, Operation::AttachThingPrincipal] {
        assert_eq!(h.account.count(operation), 50, "{operation}");
    }
    assert!(h.account.count(Operation::CreateCredentialLocker) < 70);
    h.account.always.clear();
    h.seconds(11);
    assert!(all_offered(&h, 1, 50));
    assert_eq!(Operation::CreateCredentialLocker.service(), Service::ManagedIntegrations);
}

#[test]
fn single_losses_open_nothing() {
    let mut h = Harness::ready();
    for _ in 1..OUTAGE_AFTER {
        h.account.fault(Operation::CreateThing, Fault::Fail(FailureKind::Unknown));
    }
    h.answers = false;
    present(&mut h, 1, 4);
    // Only things are lost, and other answers come between.
    h.answers = true;
    h.answer_all();
    assert_eq!(h.line.breakers.outages().count(), 0);
    h.seconds(10);
    assert!(all_offered(&h, 1, 4));
}

#[test]
fn a_missing_permission_stops_its_operation_and_is_tried_until_it_is_given() {
    for cause in [StopCause::Permission, StopCause::Quota] {
        let mut h = Harness::ready();
        h.account.always.insert(Operation::CreatePolicy, Fault::Fail(FailureKind::Stop(cause)));
        present(&mut h, 1, 100);
        h.seconds(600);
        let tries = h.account.count(Operation::CreatePolicy);
        assert!((20..=150).contains(&tries), "{tries} tries of 100 devices in ten minutes");
        assert_eq!(h.account.count(Operation::CreateThing), 100, "what is allowed is done");
        let stopped = h.line.status().stopped;
        assert!(matches!(&stopped[..], [it] if it.starts_with("CreatePolicy: ")), "{stopped:?}");
        h.account.always.clear();
        h.seconds(31);
        assert!(h.line.status().stopped.is_empty());
        assert_eq!(h.account.policies.len(), 100);
    }
}

#[test]
fn a_stop_says_what_is_missing_and_what_to_ask_for() {
    let lockers = Operation::CreateCredentialLocker;
    for (operation, cause, told) in [
        (Operation::CreatePolicy, StopCause::Permission, "allow iot:CreatePolicy in"),
        (lockers, StopCause::Permission, "allow iotmanagedintegrations:CreateCredentialLocker in"),
        (lockers, StopCause::Quota, "more credential lockers"),
        (Operation::CreatePolicy, StopCause::Quota, "more policies"),
        (Operation::RegisterCertificateWithoutCa, StopCause::Quota, "more certificates"),
    ] {
        let mut h = Harness::ready();
        h.account.always.insert(operation, Fault::Fail(FailureKind::Stop(cause)));
        present(&mut h, 1, 1);
        h.seconds(1);
        let stopped = h.line.status().stopped;
        assert!(matches!(&stopped[..], [it] if it.contains(told)), "{stopped:?}");
        assert!(stopped[0].contains("AWS says: as AWS says it"), "{stopped:?}");
    }
}

/// Not each device is quarantined for it, and it goes on by itself.
#[test]
fn a_ca_that_aws_does_not_have_stops_the_line_until_it_is_registered() {
    let mut h = Harness::ready_with(Setup::with(|it| it.certificate.register = Register::WithCa));
    let refused = Fault::Fail(FailureKind::Stop(StopCause::Ca));
    h.account.always.insert(Operation::RegisterCertificate, refused);
    present(&mut h, 1, 5);
    h.seconds(20);
    let stopped = h.line.status().stopped;
    assert!(matches!(&stopped[..], [it] if it.contains("with `linemint ca register`")), "{stopped:?}");
    assert!((1..=5).all(|it| h.state(&format!("SN{it}")) == State::Provisioning));
    h.account.always.clear();
    h.seconds(31);
    assert!(h.line.status().stopped.is_empty() && all_offered(&h, 1, 5));
}

#[test]
fn what_aws_says_of_a_stop_is_told_in_one_bounded_line() {
    let mut h = Harness::ready();
    h.answers = false;
    present(&mut h, 1, 1);
    let message =
        format!("not authorized to perform:\n iot:CreatePolicy on\tresource x {}", "y".repeat(5000));
    let refused = failure(Operation::CreatePolicy, FailureKind::Stop(StopCause::Permission));
    h.answer("SN1", Step::Policy, Err(CloudError { message, ..refused }));
    let stopped = h.line.status().stopped;
    assert!(stopped[0].contains("(AWS says: not authorized to perform: iot:CreatePolicy on resource x y"));
    assert!(stopped[0].len() < 500 && !stopped[0].contains(char::is_control), "{stopped:?}");
}

#[test]
fn what_a_helper_says_is_not_told_as_awss_words() {
    let mut h = Harness::ready();
    h.answers = false;
    present(&mut h, 1, 1);
    let (kind, said) = (FailureKind::Stop(StopCause::Credentials), "the credentials helper failed: no key");
    h.answer("SN1", Step::Policy, Err(CloudError::new(Operation::CreatePolicy, kind, said)));
    let stopped = h.line.status().stopped;
    assert!(stopped[0].ends_with("(the credentials helper failed: no key)"), "{stopped:?}");
}

#[test]
fn a_stopped_line_goes_on_admitting() {
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Stop(StopCause::Credentials));
    present(&mut h, 1, 50);
    h.seconds(61);
    let heard = h.hear(0);
    for id in 1..=50 {
        assert!(heard.contains(&format!("fail {} {id} SN{id}", FailCode::Unauthorized)), "{id}");
        assert_eq!(h.device(&format!("SN{id}")).certificates_issued, 1, "issued and journaled all the same");
    }
    assert_eq!(h.line.status().buffered, 50);
    assert_eq!(h.line.status().oldest_s, Some(61));
    assert!(h.account.log.len() < 60, "{} calls", h.account.log.len());
}

#[test]
fn credentials_that_work_again_may_still_lack_a_permission() {
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Stop(StopCause::Credentials));
    present(&mut h, 1, 5);
    h.seconds(20);
    h.account.down = None;
    let denied = Fault::Fail(FailureKind::Stop(StopCause::Permission));
    h.account.always.insert(Operation::CreateCredentialLocker, denied);
    h.seconds(60);
    let stopped = h.line.status().stopped;
    assert!(matches!(&stopped[..], [it] if it.starts_with("CreateCredentialLocker: ")), "{stopped:?}");
    assert_eq!(h.account.policies.len(), 5);
}

#[test]
fn one_operation_that_is_refused_does_not_keep_the_others_from_trying_another_account() {
    let mut h = Harness::ready();
    h.account.down = Some(FailureKind::Stop(StopCause::Account));
    present(&mut h, 1, 5);
    h.seconds(20);
    h.account.down = None;
    // The one that always tried first.
    let full = Fault::Fail(FailureKind::Stop(StopCause::Quota));
    h.account.always.insert(Operation::CreateCredentialLocker, full);
    h.seconds(120);
    let stopped = h.line.status().stopped;
    assert!(matches!(&stopped[..], [it] if it.starts_with("CreateCredentialLocker: ")), "{stopped:?}");
    assert_eq!(h.account.policies.len(), 5);
}

#[test]
fn being_throttled_is_no_outage_and_no_permission() {
    let mut h = Harness::ready();
    h.account.always.insert(Operation::CreatePolicy, Fault::Fail(FailureKind::Throttled));
    present(&mut h, 1, 20);
    h.seconds(30);
    assert_eq!((away(&h), h.line.status().stopped), (vec![], vec![]));
    h.account.always.clear();
    h.seconds(11);
    assert!(all_offered(&h, 1, 20));
}

#[test]
fn a_probe_whose_device_was_taken_back_does_not_keep_the_others_waiting() {
    let mut h = Harness::ready_with(Setup::with(|it| it.repeat = crate::device::rules::Repeat::Renew));
    h.account.down = Some(FailureKind::Unreachable);
    present(&mut h, 1, 20);
    h.seconds(30);
    // The next probes go out, and are never answered.
    h.answers = false;
    h.seconds(15);
    let lost = std::mem::take(&mut h.calls);
    assert!(!lost.is_empty());
    h.account.down = None;
    h.answers = true;
    h.seconds(200);
    for out in lost {
        let result = h.account.answer(&out.call);
        let (serial, step, generation) = (out.serial, out.step, out.generation);
        h.input(Input::Called { serial, step, generation, result, waited: std::time::Duration::ZERO });
    }
    h.seconds(30);
    assert_eq!(h.account.policies.len(), 20);
}

/// What another account holds already, lists or forbids does not make it the configured one: else each answer would
/// let all calls go there that wait.
#[test]
fn only_a_success_that_names_the_account_ends_a_stop_for_another_one() {
    use std::time::Duration;
    let mut breakers = Breakers::default();
    let mut at = Duration::ZERO;
    let mut ends = |operation: Operation, kind: Option<FailureKind>| {
        at += Duration::from_secs(31);
        breakers.admit(operation, at);
        let error = kind.map(|kind| failure(operation, kind));
        breakers.ended(operation, error.as_ref(), at, 0.5).resumed
    };
    let account = Some(FailureKind::Stop(StopCause::Account));
    assert!(!ends(Operation::CreateThing, account));
    let exists = Some(FailureKind::Exists);
    for (operation, kind) in [
        (Operation::CreatePolicy, exists),
        (Operation::RegisterCertificateWithoutCa, exists),
        (Operation::ListCertificates, None),
        (Operation::DeleteThing, None),
        // Called by its id, which is the same in any account.
        (Operation::UpdateCertificate, None),
        (Operation::GetPolicy, Some(FailureKind::NotFound)),
        (Operation::CreateThing, Some(FailureKind::Throttled)),
        (Operation::CreatePolicy, account),
    ] {
        assert!(!ends(operation, kind), "{operation} {kind:?}");
    }
    assert!(ends(Operation::CreatePolicy, None));
    // Of credentials any answer shows that they are good again.
    assert!(!ends(Operation::CreateThing, Some(FailureKind::Stop(StopCause::Credentials))));
    assert!(ends(Operation::CreatePolicy, exists));
}

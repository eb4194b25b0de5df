//! Private keys that nobody fetches.

use std::time::Duration;

use jiff::SignedDuration;

use super::account::Fault;
use super::harness::Harness;
use super::setup::{KEEP, Setup, unit};
use crate::clock::ClockSync;
use crate::cloud::{CertificateStatus, FailureKind, Operation};
use crate::device::State;
use crate::device::operator::Order;
use crate::device::rules::Register;
use crate::fixture::FailCode;
use crate::line::Input;

/// A device that has its credentials ready, but was taken out of its nest.
fn unfetched() -> Harness {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.removed(0, 1, "SN1"), ["fail removed 1 SN1"]);
    h.input(Input::PortLost(0));
    h
}

/// The fixture is back, and its unit with it.
fn pass(h: &mut Harness) {
    h.connect(0, 1);
    h.hear(0);
    h.pass(0, 2, "SN1");
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

/// The clock is looked at once a day.
fn live(h: &mut Harness, for_days: u64, sync: &ClockSync) {
    for _ in 0..for_days {
        h.wait(days(1));
        h.clock(sync.clone());
    }
}

#[test]
fn a_key_that_nobody_fetches_is_destroyed_and_its_certificate_deactivated() {
    let mut h = unfetched();
    let old = h.issued[0].1;
    live(&mut h, 6, &ClockSync::Synchronised);
    assert!(h.keys.contains(&old), "it is not time yet");
    live(&mut h, 1, &ClockSync::Synchronised);
    assert!(h.keys.is_empty());
    assert_eq!(h.account.certificates[&old.to_string()], CertificateStatus::Inactive);
    assert!(h.account.principals["SN1"].is_empty() && h.account.attached.values().all(|it| it.is_empty()));
    let device = h.device("SN1");
    assert_eq!((device.state, device.failure.as_ref().unwrap().code), (State::Failed, FailCode::Timeout));
    assert!(device.certificate.is_none());
    live(&mut h, 30, &ClockSync::Synchronised);
    assert_eq!(h.issued.len(), 1, "no other one is made before it comes again");
    let calls = h.account.count(Operation::CreateThing);
    pass(&mut h);
    assert_eq!(h.device("SN1").certificates_issued, 2, "it counts");
    assert_eq!(h.account.count(Operation::CreateThing), calls, "the rest is there");
    h.account.assert_holds("SN1", h.issued[1].1);
}

#[test]
fn it_is_finished_after_a_restart() {
    for kept in 0..6 {
        let mut h = unfetched();
        h.wait(KEEP);
        (h.syncs, h.destroys) = (false, false);
        h.clock(ClockSync::Synchronised);
        for _ in 0..kept {
            h.sync(1);
        }
        h.crash(0);
        (h.syncs, h.destroys) = (true, true);
        h.clock(ClockSync::Synchronised);
        assert!(h.keys.is_empty(), "{kept}");
        let status = h.account.certificates[&h.issued[0].1.to_string()];
        assert_eq!(status, CertificateStatus::Inactive, "{kept}");
        pass(&mut h);
    }
}

#[test]
fn a_unit_in_its_nest_keeps_its_key_and_so_does_who_has_confirmed() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    h.answers = false;
    h.unit(0, unit(2, "SN2"));
    h.wait(Duration::from_secs(30));
    h.set_clock(SignedDuration::from_hours(24 * 8));
    h.clock(ClockSync::Synchronised);
    assert_eq!((h.state("SN1"), h.keys.len()), (State::Passed, 1));
    // In the rack it waits like any other.
    h.seconds(31);
    h.answer_all();
    h.clock(ClockSync::Synchronised);
    assert_eq!((h.state("SN2"), h.keys.len()), (State::Failed, 0));
}

#[test]
fn a_call_that_is_out_is_waited_for() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.removed(0, 1, "SN1");
    h.set_clock(SignedDuration::from_hours(24 * 8));
    h.clock(ClockSync::Synchronised);
    assert_eq!(h.keys.len(), 1, "its registration may go through at this instant");
    h.account.always.insert(Operation::RegisterCertificateWithoutCa, Fault::Fail(FailureKind::Unreachable));
    h.answers = true;
    h.answer_all();
    h.clock(ClockSync::Synchronised);
    h.seconds(1);
    h.clock(ClockSync::Synchronised);
    assert_eq!(h.keys.len(), 0);
    assert!(h.account.certificates.is_empty(), "nothing of it was ever registered");
}

#[test]
fn a_clock_that_was_set_ahead_destroys_nothing() {
    let ten_years = SignedDuration::from_hours(24 * 3650);
    // Nobody says that it is right.
    let mut h = unfetched();
    live(&mut h, 1, &ClockSync::Unsaid);
    h.set_clock(ten_years);
    live(&mut h, 6, &ClockSync::Unsaid);
    assert_eq!(h.keys.len(), 1, "it was not lived through");
    live(&mut h, 2, &ClockSync::Unsaid);
    assert_eq!(h.keys.len(), 0, "seven days after it was set they have passed all the same");
    // Nor at a start.
    let mut h = unfetched();
    h.set_clock(ten_years);
    h.crash(usize::MAX);
    live(&mut h, 6, &ClockSync::Unsaid);
    assert_eq!(h.keys.len(), 1);
    // It is said to be wrong, and a person goes on by it all the same.
    let mut h = unfetched();
    h.set_clock(ten_years);
    h.clock(ClockSync::Unsynchronised("chronyd".to_owned()));
    h.override_clock().unwrap();
    live(&mut h, 30, &ClockSync::Unsynchronised("chronyd".to_owned()));
    assert_eq!(h.keys.len(), 1);
}

#[test]
fn a_key_kept_too_long_in_quarantine_goes_too() {
    let mut h = Harness::ready();
    h.account.policies.insert("SN1".to_owned(), "{}".to_owned());
    h.unit(0, unit(1, "SN1"));
    assert_eq!((h.state("SN1"), h.keys.len()), (State::Quarantined, 1));
    h.input(Input::PortLost(0));
    h.wait(KEEP);
    h.clock(ClockSync::Synchronised);
    assert_eq!((h.state("SN1"), h.keys.len()), (State::Quarantined, 0));
    assert_eq!(h.account.certificates[&h.issued[0].1.to_string()], CertificateStatus::Inactive);
}

#[test]
fn the_span_is_the_configurations() {
    let mut h = Harness::ready_with(Setup { keep: Duration::from_secs(5), ..Setup::default() });
    h.unit(0, unit(1, "SN1"));
    h.removed(0, 1, "SN1");
    h.seconds(4);
    h.clock(ClockSync::Synchronised);
    assert_eq!(h.keys.len(), 1);
    h.seconds(1);
    h.clock(ClockSync::Synchronised);
    assert_eq!(h.keys.len(), 0);
}

#[test]
fn the_key_of_a_request_that_was_never_answered_goes_too() {
    for lost in [false, true] {
        let mut h = Harness::ready_with(Setup::with(|it| it.certificate.register = Register::Aws));
        let create = Operation::CreateCertificateFromCsr;
        let fault = if lost { Fault::Lost } else { Fault::Fail(FailureKind::Refused) };
        h.account.always.insert(create, fault);
        if lost {
            h.account.policies.insert("SN1".to_owned(), "{}".to_owned());
        }
        h.unit(0, unit(1, "SN1"));
        assert_eq!((h.state("SN1"), h.keys.len()), (State::Quarantined, 1));
        h.input(Input::PortLost(0));
        h.wait(KEEP.saturating_sub(Duration::from_secs(1)));
        h.clock(ClockSync::Synchronised);
        assert_eq!(h.keys.len(), 1, "it is not time yet");
        h.wait(Duration::from_secs(2));
        h.clock(ClockSync::Synchronised);
        let device = h.device("SN1");
        assert!(h.keys.is_empty() && device.request.is_none() && device.useless_keys.is_empty());
        assert_eq!(device.state, State::Quarantined);
        assert_eq!(device.doubts.len(), 1, "what was made may turn up yet");
        h.account.always.clear();
        h.account.policies.clear();
        h.order(Order::Release, "SN1").unwrap();
        h.connect(0, 1);
        h.hear(0);
        // What may have been made with the old key is looked for before it gets its credentials.
        let mut heard = h.unit(0, unit(2, "SN1"));
        h.seconds(20);
        heard.extend(h.hear(0));
        assert!(heard.contains(&"credentials 2 SN1".to_owned()), "{heard:?}");
        assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
        h.seconds(2000);
        let live = h.device("SN1").fingerprint().unwrap();
        h.account.assert_holds("SN1", live);
        assert_eq!(
            h.account.issued_for("SN1"),
            [live.to_string()],
            "what was made with the old key is deleted"
        );
        assert!(h.keys.is_empty());
    }
}

#[test]
fn the_request_of_a_device_in_flight_keeps_its_key() {
    let mut h = Harness::ready_with(Setup::with(|it| it.certificate.register = Register::Aws));
    h.account.always.insert(Operation::CreateCertificateFromCsr, Fault::Fail(FailureKind::Throttled));
    h.unit(0, unit(1, "SN1"));
    h.removed(0, 1, "SN1");
    h.set_clock(SignedDuration::from_hours(24 * 8));
    h.clock(ClockSync::Synchronised);
    assert_eq!((h.state("SN1"), h.keys.len()), (State::Provisioning, 1));
}

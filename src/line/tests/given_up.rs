//! Certificates that AWS issues, and a device that is given up, a key that nobody fetches, a clock that
//! cannot be right.

use std::time::Duration;

use jiff::SignedDuration;

use super::account::Fault;
use super::harness::Harness;
use super::setup::{Setup, unit};
use crate::clock::ClockSync;
use crate::cloud::testing::failure;
use crate::cloud::{FailureKind, Operation};
use crate::device::State;
use crate::device::operator::Order;
use crate::device::rules::Register;
use crate::device::steps::Step;
use crate::line::Input;

const CREATE: Operation = Operation::CreateCertificateFromCsr;

/// After this AWS takes no request any more that was asked before.
const SETTLED: u64 = 1_000;

fn station() -> Harness {
    Harness::ready_with(Setup::with(|it| it.certificate.register = Register::Aws))
}

/// SN1 is scrapped, and of no certificate that was ever made for it is anything left.
fn assert_gone(h: &Harness) {
    assert_eq!(h.state("SN1"), State::Scrapped, "{:?}", h.history("SN1"));
    let issued: Vec<_> = h.issued.iter().map(|(_, id)| *id).collect();
    h.account.assert_holds_nothing("SN1", &issued);
    assert!(h.account.issued_for("SN1").is_empty());
    assert!(h.keys.is_empty(), "{:?}", h.history("SN1"));
}

#[test]
fn a_scrapped_device_keeps_no_certificate_that_aws_has_issued() {
    let mut h = station();
    h.pass(0, 1, "SN1");
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_gone(&h);
    assert_eq!(h.account.count(Operation::DeleteCertificate), 1, "once");
}

#[test]
fn a_request_that_comes_after_the_scrapping_is_of_no_use_and_its_key_is_destroyed() {
    let mut h = station();
    h.issues = false;
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.issue();
    h.go_on();
    assert_gone(&h);
    assert_eq!(h.account.count(CREATE), 0);
}

#[test]
fn a_certificate_that_is_issued_after_the_scrapping_is_deleted() {
    let mut h = station();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert!(h.keys.is_empty(), "the key of the request is of no use");
    h.answer_all();
    assert_gone(&h);
    assert_eq!(h.account.count(CREATE), 1);
    assert!(!h.history("SN1").contains(&"certificate-in-doubt"), "the answer has come");
}

#[test]
fn a_call_that_was_out_at_the_scrapping_and_did_nothing_holds_nothing_up() {
    for kind in [FailureKind::Throttled, FailureKind::Unreachable, FailureKind::Refused] {
        let mut h = station();
        h.answers = false;
        h.unit(0, unit(1, "SN1"));
        assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
        h.answer("SN1", Step::Certificate, Err(failure(CREATE, kind)));
        h.answers = true;
        h.answer_all();
        assert_gone(&h);
        assert_eq!(h.account.count(Operation::ListCertificates), 0, "{kind}");
    }
}

#[test]
fn a_call_that_has_done_nothing_before_the_scrapping_holds_nothing_up() {
    for kind in [FailureKind::Throttled, FailureKind::Unreachable] {
        let mut h = station();
        h.account.always.insert(CREATE, Fault::Fail(kind));
        h.unit(0, unit(1, "SN1"));
        h.seconds(5);
        assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
        h.seconds(60);
        assert_gone(&h);
    }
}

#[test]
fn a_call_that_was_out_at_the_scrapping_and_was_never_answered_is_waited_out() {
    for crash in [false, true] {
        let mut h = station();
        h.answers = false;
        h.unit(0, unit(1, "SN1"));
        assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
        let at = h.calls.iter().position(|it| it.step == Step::Certificate).unwrap();
        h.account.under_way.push(h.calls[at].call.clone());
        if crash {
            h.crash(usize::MAX);
        } else {
            h.answer("SN1", Step::Certificate, Err(failure(CREATE, FailureKind::Unknown)));
        }
        h.answers = true;
        h.answer_all();
        h.seconds(800);
        h.account.now = h.now.wall;
        h.account.land();
        assert_eq!(h.account.issued_for("SN1").len(), 1);
        assert_ne!(h.state("SN1"), State::Scrapped, "one may still come");
        h.seconds(SETTLED - 800);
        assert_gone(&h);
    }
}

#[test]
fn a_second_call_that_is_answered_at_the_scrapping_does_not_settle_the_doubt_about_the_first() {
    let mut h = station();
    h.account.fault(CREATE, Fault::Late);
    h.unit(0, unit(1, "SN1"));
    h.seconds(4);
    h.answers = false;
    h.seconds(2);
    h.answer_all();
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.answers = true;
    h.answer_all();
    h.seconds(300);
    h.account.now = h.now.wall;
    h.account.land();
    assert_ne!(h.state("SN1"), State::Scrapped);
    h.seconds(SETTLED);
    assert_gone(&h);
    assert_eq!(h.account.count(CREATE), 2);
}

#[test]
fn a_device_is_not_scrapped_before_a_certificate_whose_answer_was_lost_is_deleted() {
    for (fault, crash) in
        [(Fault::Lost, false), (Fault::Lost, true), (Fault::Late, false), (Fault::Late, true)]
    {
        let mut h = station();
        h.account.fault(CREATE, fault);
        h.unit(0, unit(1, "SN1"));
        assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
        h.account.land();
        assert_eq!(h.account.issued_for("SN1").len(), 1, "AWS has made it");
        h.seconds(SETTLED - 200);
        assert_ne!(h.state("SN1"), State::Scrapped, "one may still come");
        if crash {
            h.crash(usize::MAX);
        }
        h.seconds(200);
        assert_gone(&h);
    }
}

#[test]
fn a_device_that_is_scrapped_after_a_crash_with_its_call_out_is_looked_for() {
    let mut h = station();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let create = h.calls.iter().find(|it| it.call.operation() == CREATE).unwrap().call.clone();
    h.reply(&create).unwrap();
    h.crash(usize::MAX);
    h.answers = true;
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.answer_all();
    h.seconds(SETTLED);
    assert_gone(&h);
}

#[test]
fn a_certificate_that_nobody_fetches_is_deleted_and_the_next_one_is_another() {
    let mut h = station();
    h.unit(0, unit(1, "SN1"));
    h.removed(0, 1, "SN1");
    h.input(Input::PortLost(0));
    assert_eq!((h.keys.len(), h.account.issued_for("SN1").len()), (1, 1));
    for _ in 0..7 {
        h.wait(Duration::from_secs(86_400));
        h.clock(ClockSync::Synchronised);
    }
    assert!(h.keys.is_empty(), "the key goes by the name that it is sealed under");
    assert!(h.account.issued_for("SN1").is_empty());
    assert_eq!(h.state("SN1"), State::Failed);
    h.connect(0, 1);
    h.hear(0);
    h.pass(0, 2, "SN1");
    let present = h.device("SN1").fingerprint().unwrap();
    h.account.assert_holds("SN1", present);
    assert_eq!(h.account.issued_for("SN1"), [present.to_string()]);
}

#[test]
fn no_request_is_made_by_a_clock_that_cannot_be_right() {
    let mut h = station();
    h.issues = false;
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.to_request.len(), 1);
    h.crash(usize::MAX);
    h.to_request.clear();
    h.set_clock(SignedDuration::from_mins(-10));
    h.crash(usize::MAX);
    h.clock(ClockSync::Unsaid);
    assert!(h.to_request.is_empty(), "it waits");
    h.set_clock(SignedDuration::from_mins(10));
    h.clock(ClockSync::Unsaid);
    assert_eq!(h.to_request.len(), 1, "what has waited is taken up");
    h.issues = true;
    h.issue();
    h.connect(0, 2);
    h.hear(0);
    h.pass(0, 2, "SN1");
}

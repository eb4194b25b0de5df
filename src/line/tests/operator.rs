//! What a person tells the station to do with a device.

use super::account::{Fault, arn};
use super::harness::Harness;
use super::setup::{Setup, shared_policy, unit};
use crate::cloud::{CertificateStatus, FailureKind, Operation};
use crate::device::State;
use crate::device::operator::{Order, Refusal};
use crate::device::rules::{LockerRule, PolicyRule, Repeat};
use crate::fixture::Unit;

/// Why an order was not carried out.
fn refused(result: Result<(), Refusal>) -> String {
    match result {
        Err(Refusal::Not(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn certificates(h: &Harness, serial: &str) -> Vec<crate::pki::Fingerprint> {
    h.issued.iter().filter(|(it, _)| it == serial).map(|(_, id)| *id).collect()
}

/// A device whose policy somebody else has made: in quarantine.
fn quarantined(h: &mut Harness) {
    h.account.policies.insert("SN1".to_owned(), "{}".to_owned());
    assert_eq!(h.unit(0, unit(1, "SN1")).last().unwrap(), "fail conflict 1 SN1");
}

#[test]
fn an_order_about_nobody_is_refused() {
    let mut h = Harness::ready();
    for order in Order::ALL {
        assert_eq!(h.order(order, "SN9"), Err(Refusal::Unknown));
    }
}

#[test]
fn an_order_is_answered_when_it_is_on_disk() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    h.syncs = false;
    assert_eq!(h.ordered(Order::Scrap, "SN1"), None);
    assert_eq!(h.account.count(Operation::UpdateCertificate), 0, "AWS is not told before");
    h.sync(usize::MAX);
    assert!(h.account.count(Operation::UpdateCertificate) > 0);
}

#[test]
fn scrapping_a_passed_device_leaves_nothing_of_it() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    h.pass(0, 2, "SN2");
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Scrapped);
    h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
    h.account.assert_holds("SN2", certificates(&h, "SN2")[0]);
    let order: Vec<_> = h.account.operations().into_iter().rev().take(8).collect();
    let expected = [
        Operation::DeleteCredentialLocker,
        Operation::DeletePolicy,
        Operation::DeleteThing,
        Operation::DescribeThing,
        Operation::DeleteCertificate,
        Operation::DetachThingPrincipal,
        Operation::DetachPolicy,
        Operation::UpdateCertificate,
    ];
    assert_eq!(order, expected);
    assert_eq!(h.unit(0, unit(3, "SN1")), ["nak quarantined 3"]);
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()), "once more changes nothing");
    assert_eq!(h.history("SN1").iter().filter(|it| it.starts_with("scrapp")).count(), 2);
    assert!(refused(h.order(Order::Release, "SN1")).contains("for good"));
    assert!(refused(h.order(Order::Retry, "SN1")).contains("scrapped"));
}

/// SN1 gets a locker of its own and is renewed by rules that say another thing of it, by which SN2 is made; both are
/// scrapped. With SN1's locker.
fn scrapped_by_other_rules(locker: impl FnOnce(&str) -> LockerRule) -> (Harness, String) {
    let mut h = Harness::ready_with(Setup::with(|it| it.repeat = Repeat::Renew));
    h.pass(0, 1, "SN1");
    let own = h.device("SN1").done.locker.clone().unwrap();
    let other = Setup::with(|it| (it.repeat, it.locker) = (Repeat::Renew, locker(&own)));
    assert_eq!(h.reload(&other), Some(Ok(())));
    h.setup = other;
    h.pass(0, 2, "SN1");
    h.pass(0, 3, "SN2");
    for serial in ["SN1", "SN2"] {
        assert_eq!(h.order(Order::Scrap, serial), Ok(()));
        h.seconds(60);
        assert_eq!(h.state(serial), State::Scrapped);
    }
    (h, own)
}

/// Which locker is to be deleted is on record: the rules by which the device was renewed since may make none.
#[test]
fn a_locker_of_its_own_goes_whatever_the_rules_of_now_make() {
    for locker in [LockerRule::Given { id: "given".to_owned() }, LockerRule::None] {
        let (h, own) = scrapped_by_other_rules(|_| locker);
        h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
        assert_eq!(h.account.deleted_lockers.iter().collect::<Vec<_>>(), [&own], "and none that was given");
    }
}

/// The pilot's locker has become everybody's.
#[test]
fn a_locker_of_its_own_stays_that_the_rules_of_now_give_to_all() {
    let (h, _) = scrapped_by_other_rules(|own| LockerRule::Given { id: own.to_owned() });
    assert!(h.account.deleted_lockers.is_empty(), "{:?}", h.account.deleted_lockers);
}

#[test]
fn a_unit_that_is_scrapped_in_its_nest_hears_fail() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    let key = h.issued[0].1;
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.hear(0), ["fail quarantined 1 SN1"]);
    assert!(h.sentence(0).is_empty(), "it is heard");
    assert!(!h.keys.contains(&key), "the undelivered key is destroyed");
    assert_eq!(h.state("SN1"), State::Scrapped);
    h.account.assert_holds_nothing("SN1", &[key]);
    // What it was given late is no device's any more.
    assert_eq!(h.written(0, 1, "SN1"), ["fail quarantined 1 SN1"]);
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["nak quarantined 2"]);
}

#[test]
fn scrapping_waits_for_what_is_asked_already() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.calls.len(), 4, "locker, policy, thing, certificate");
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.calls.len(), 4, "nothing is deleted that may be made in the same instant");
    h.answer_all();
    assert_eq!(h.state("SN1"), State::Scrapped);
    h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
}

#[test]
fn a_certificate_that_comes_after_the_scrapping_is_of_no_use_and_its_key_is_destroyed() {
    let mut h = Harness::ready();
    h.issues = false;
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_ne!(h.state("SN1"), State::Scrapped);
    h.issue();
    h.go_on();
    assert_eq!(h.state("SN1"), State::Scrapped);
    assert!(h.keys.is_empty());
    h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
}

#[test]
fn scrapping_goes_on_after_a_restart_wherever_it_was() {
    for kept in 0..14 {
        let mut h = Harness::ready();
        h.pass(0, 1, "SN1");
        h.syncs = false;
        let _ = h.ordered(Order::Scrap, "SN1");
        for _ in 0..kept {
            h.sync(1);
        }
        h.crash(0);
        h.syncs = true;
        h.connect(0, 1);
        h.sync(usize::MAX);
        if kept == 0 {
            assert_eq!(h.state("SN1"), State::Passed, "it was never on disk");
            continue;
        }
        assert_eq!(h.state("SN1"), State::Scrapped, "{kept}: {:?}", h.history("SN1"));
        h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
    }
}

#[test]
fn what_aws_will_not_let_go_yet_is_tried_until_it_does() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    for operation in [
        Operation::DeleteCertificate,
        Operation::DeleteThing,
        Operation::DeletePolicy,
        Operation::DeleteCredentialLocker,
    ] {
        h.account.fault(operation, Fault::Fail(FailureKind::Conflict));
        h.account.fault(operation, Fault::Fail(FailureKind::Refused));
        h.account.fault(operation, Fault::Fail(FailureKind::Throttled));
        h.account.fault(operation, Fault::Proxy);
        h.account.fault(operation, Fault::Lost);
    }
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Quarantined, "it is not done");
    assert!(refused(h.order(Order::Release, "SN1")).contains("for good"));
    h.seconds(6 * 3600);
    assert_eq!(h.state("SN1"), State::Scrapped);
    h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
}

#[test]
fn retry_hurries_a_scrapping_that_waits() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    // Once more at once, since something may have been attached late; then it waits.
    for _ in 0..2 {
        h.account.fault(Operation::DeletePolicy, Fault::Fail(FailureKind::Conflict));
    }
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Quarantined);
    assert_eq!(h.order(Order::Retry, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Scrapped);
}

#[test]
fn what_another_station_has_made_stays() {
    let mut h = Harness::ready();
    let theirs = [("linemint".to_owned(), "L9".to_owned())].into();
    h.account.things.insert("SN1".to_owned(), theirs);
    assert_eq!(h.unit(0, unit(1, "SN1")).last().unwrap(), "fail conflict 1 SN1");
    assert!(h.account.policies.contains_key("SN1"));
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Scrapped);
    assert!(h.account.things.contains_key("SN1"), "their thing stays");
    assert!(h.account.policies.contains_key("SN1"), "and the policy, which may be theirs");
    assert_eq!(h.account.count(Operation::DeleteThing) + h.account.count(Operation::DeletePolicy), 0);
    assert!(certificates(&h, "SN1").iter().all(|it| !h.account.certificates.contains_key(&it.to_string())));
}

#[test]
fn a_policy_with_another_document_stays() {
    let mut h = Harness::ready();
    quarantined(&mut h);
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Scrapped);
    assert!(h.account.policies.contains_key("SN1"));
    assert_eq!(h.account.count(Operation::DeletePolicy), 0);
    assert!(!h.account.things.contains_key("SN1"));
}

#[test]
fn what_devices_share_stays() {
    let setup = Setup::with(|it| {
        it.policy = shared_policy();
        it.locker = LockerRule::Given { id: "theirs".to_owned() };
    });
    let mut h = Harness::ready_with(setup);
    h.pass(0, 1, "SN1");
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Scrapped);
    assert!(h.account.policies.contains_key("lamps"));
    assert_eq!(h.account.count(Operation::DeleteCredentialLocker), 0);
    h.pass(0, 2, "SN2");
    let mut h = Harness::ready_with(Setup::with(|it| it.policy = PolicyRule::None));
    h.pass(0, 1, "SN1");
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Scrapped);
}

#[test]
fn a_locker_whose_making_was_never_answered_is_found_by_its_token_and_deleted() {
    let mut h = Harness::ready();
    h.account.fault(Operation::CreateCredentialLocker, Fault::Lost);
    h.account.always.insert(Operation::CreateThing, Fault::Fail(FailureKind::Refused));
    assert_eq!(h.unit(0, unit(1, "SN1")).last().unwrap(), "fail rejected 1 SN1");
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Scrapped);
    h.account.assert_holds_nothing("SN1", &certificates(&h, "SN1"));
}

#[test]
fn every_certificate_of_a_renewed_device_goes() {
    let mut h = Harness::ready_with(Setup::with(|it| it.repeat = Repeat::Renew));
    h.pass(0, 1, "SN1");
    h.pass(0, 2, "SN1");
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    let issued = certificates(&h, "SN1");
    assert_eq!((issued.len(), h.state("SN1")), (2, State::Scrapped));
    h.account.assert_holds_nothing("SN1", &issued);
}

#[test]
fn release_lets_a_device_come_again_with_the_certificate_that_it_has() {
    let mut h = Harness::ready();
    quarantined(&mut h);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["nak quarantined 2"]);
    assert!(refused(h.order(Order::Retry, "SN1")).contains("release it first"));
    h.account.policies.remove("SN1");
    assert_eq!(h.order(Order::Release, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Failed);
    assert!(refused(h.order(Order::Release, "SN1")).contains("not in quarantine"));
    h.restart();
    h.hear(0);
    h.pass(0, 3, "SN1");
    assert_eq!(h.issued.len(), 1, "it is the same certificate");
}

#[test]
fn retry_takes_up_a_released_device_before_it_comes_again() {
    let mut h = Harness::ready();
    quarantined(&mut h);
    h.account.policies.remove("SN1");
    assert_eq!(h.order(Order::Release, "SN1"), Ok(()));
    assert_eq!(h.order(Order::Retry, "SN1"), Ok(()));
    assert_eq!(h.state("SN1"), State::Provisioning);
    assert!(h.account.policies.contains_key("SN1"), "the work is done meanwhile");
    let calls = h.account.log.len();
    h.pass(0, 2, "SN1");
    assert_eq!(h.account.log.len(), calls, "it goes straight to its credentials");
}

#[test]
fn a_release_allows_one_certificate_more() {
    let mut h = Harness::ready_with(Setup::with(|it| it.max_certificates = 1));
    h.unit(0, unit(1, "SN1"));
    h.keys.clear();
    assert_eq!(h.unit(0, unit(2, "SN1")).last().unwrap(), "fail quarantined 2 SN1");
    assert!(h.device("SN1").failure.as_ref().unwrap().message.contains("used up"));
    assert_eq!(h.order(Order::Release, "SN1"), Ok(()));
    h.pass(0, 3, "SN1");
    assert_eq!((h.issued.len(), h.device("SN1").allowance), (2, 1));
    let old = h.account.certificates[&h.issued[0].1.to_string()];
    assert_eq!(old, CertificateStatus::Inactive);
}

#[test]
fn a_released_device_that_had_passed_shows_its_certificate_or_gets_another() {
    let other = |id| Unit { holds: Some("0".repeat(64)), ..unit(id, "SN1") };
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    assert_eq!(h.unit(0, other(2)), ["fail mismatch 2 SN1"]);
    assert_eq!(h.order(Order::Release, "SN1"), Ok(()));
    let live = h.issued[0].1.to_string();
    let holding = Unit { holds: Some(live), ..unit(3, "SN1") };
    assert_eq!(h.unit(0, holding), ["ack 3", "pass 3 SN1 again"].map(str::to_owned)[1..]);
    assert_eq!(h.state("SN1"), State::Passed);
    assert_eq!(h.unit(0, other(4)), ["fail mismatch 4 SN1"]);
    assert_eq!(h.order(Order::Release, "SN1"), Ok(()));
    h.pass(0, 5, "SN1");
    assert_eq!(h.issued.len(), 2, "whoever looked at it decided: it gets a new one");
    h.account.assert_holds("SN1", h.issued[1].1);
    assert_eq!(h.account.certificates[&h.issued[0].1.to_string()], CertificateStatus::Inactive);
}

#[test]
fn retry_provides_nothing_for_a_released_device_that_had_passed() {
    let other = |id| Unit { holds: Some("0".repeat(64)), ..unit(id, "SN1") };
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    h.destroys = false;
    h.pass(0, 2, "SN2");
    assert_eq!(h.unit(0, Unit { holds: Some("0".repeat(64)), ..unit(3, "SN2") }), ["fail mismatch 3 SN2"]);
    assert_eq!(h.order(Order::Release, "SN2"), Ok(()));
    // Its key is still to be destroyed: there is something to retry, but nothing to provide.
    h.order(Order::Retry, "SN2").unwrap();
    assert_eq!(h.state("SN2"), State::Failed);
    assert_eq!(h.unit(0, other(4)), ["fail mismatch 4 SN1"]);
    assert_eq!(h.order(Order::Release, "SN1"), Ok(()));
    assert!(refused(h.order(Order::Retry, "SN1")).contains("present"));
    assert_eq!(h.state("SN1"), State::Failed);
}

#[test]
fn retry_does_not_wait_out_the_delay() {
    let mut h = Harness::ready();
    h.account.always.insert(Operation::CreateThing, Fault::Fail(FailureKind::Unreachable));
    h.unit(0, unit(1, "SN1"));
    h.seconds(50);
    h.account.always.clear();
    let calls = h.account.count(Operation::CreateThing);
    assert_eq!(h.order(Order::Retry, "SN1"), Ok(()));
    assert_eq!(h.account.count(Operation::CreateThing), calls + 1);
    assert_eq!(h.hear(0), ["credentials 1 SN1"]);
    assert!(refused(h.order(Order::Retry, "SN1")).contains("waits for its fixture"));
    assert_eq!(h.history("SN1").iter().filter(|it| **it == "retried").count(), 1);
}

#[test]
fn retry_of_what_is_being_tried_is_no_error_and_no_record() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let calls = h.calls.len();
    assert_eq!(h.order(Order::Retry, "SN1"), Ok(()));
    assert_eq!(h.calls.len(), calls);
    assert!(!h.history("SN1").contains(&"retried"));
}

#[test]
fn there_is_nothing_to_retry_for_who_has_passed_or_has_to_come_again() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    assert!(refused(h.order(Order::Retry, "SN1")).contains("nothing to retry"));
    h.unit(0, unit(2, "SN2"));
    h.write_failed(0, 2, "SN2");
    assert!(refused(h.order(Order::Retry, "SN2")).contains("present the unit again"));
}

#[test]
fn what_was_asked_for_before_the_quarantine_is_noted_when_it_is_answered() {
    let mut h = Harness::ready();
    h.account.policies.insert("SN1".to_owned(), "{}".to_owned());
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    // The policy is asked for and then read; meanwhile the others are out.
    for _ in 0..2 {
        let at = h.calls.iter().position(|it| it.step == crate::device::steps::Step::Policy).unwrap();
        let call = h.calls[at].call.clone();
        let result = h.account.answer(&call);
        h.answer("SN1", crate::device::steps::Step::Policy, result);
    }
    assert_eq!(h.state("SN1"), State::Quarantined);
    assert!(refused(h.order(Order::Retry, "SN1")).contains("release it first"));
    h.answer_all();
    let device = h.device("SN1");
    assert!(device.done.thing && device.done.locker.is_some());
    let id = h.issued[0].1.to_string();
    assert_eq!(device.certificate.as_ref().unwrap().arn, Some(arn(&id)));
    assert_eq!(h.state("SN1"), State::Quarantined);
}

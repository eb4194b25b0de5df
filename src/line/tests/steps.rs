//! The steps in AWS: how many calls, in which order, and what is found is compared before it is ours.

use std::collections::{BTreeMap, BTreeSet};

use super::account::{Fault, arn};
use super::harness::Harness;
use super::setup::{DOCUMENT, MAKING, STATION, Setup, shared_policy, unit, unit_in};
use crate::cloud::testing::failure;
use crate::cloud::{Call, CertificateStatus, FailureKind, Operation, Reply};
use crate::device::State;
use crate::device::event::Event;
use crate::device::rules::{LockerRule, PolicyRule, Register};
use crate::device::steps::Step;
use crate::pki::Fingerprint;

fn steps_out(h: &Harness) -> BTreeSet<Step> {
    h.calls.iter().map(|it| it.step).collect()
}

/// The certificate that the CA will issue as number `number`, registered already as `status`.
fn registered_before(h: &mut Harness, number: usize, serial: &str, status: CertificateStatus) -> String {
    let der = format!("certificate {number} of {serial} as {serial}");
    let id = Fingerprint::of(der.as_bytes()).to_string();
    h.account.certificates.insert(id.clone(), status);
    id
}

fn adopted(h: &Harness, serial: &str, wanted: Step) -> bool {
    h.shelf.events.iter().any(|(it, event)| {
        it.as_str() == serial
            && matches!(event, Event::StepDone { step, adopted: true, .. } if *step == wanted)
    })
}

#[test]
fn a_device_costs_six_calls_in_two_round_trips() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    assert_eq!(steps_out(&h), BTreeSet::from([Step::Locker, Step::Policy, Step::Thing, Step::Certificate]));
    for _ in 0..4 {
        let call = h.calls.remove(0);
        let result = h.account.answer(&call.call);
        h.input(crate::line::Input::Called {
            serial: call.serial,
            step: call.step,
            generation: call.generation,
            result,
            waited: std::time::Duration::ZERO,
        });
    }
    assert_eq!(steps_out(&h), BTreeSet::from([Step::AttachPolicy, Step::AttachThing]));
    assert!(h.hear(0).iter().all(|it| !it.starts_with("credentials")));
    h.answer_all();
    assert_eq!(h.hear(0), ["credentials 1 SN1"]);
    h.written(0, 1, "SN1");
    h.seconds(600);
    assert_eq!(h.account.log.len(), 6);
}

#[test]
fn credentials_wait_for_the_last_of_the_calls_whichever_it_is() {
    for held_up in MAKING {
        let mut h = Harness::ready();
        h.account.always.insert(held_up, Fault::Fail(FailureKind::Throttled));
        assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1"], "{held_up}");
        h.seconds(20);
        assert!(h.hear(0).is_empty());
        h.account.always.clear();
        h.seconds(20);
        assert_eq!(h.hear(0)[0], "credentials 1 SN1");
    }
}

#[test]
fn the_requests_are_what_the_rules_say() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    let tags = BTreeMap::from([("product".to_owned(), "thermostat".to_owned())]);
    assert!(h.account.log.iter().any(|it| matches!(it,
        Call::CreateCredentialLocker { name, client_token, tags: t }
            if name == "SN1" && client_token.len() <= 64 && !client_token.is_empty() && *t == tags)));
    let attributes = BTreeMap::from([("linemint".to_owned(), STATION.to_owned())]);
    assert!(h.account.log.contains(&Call::CreateThing { name: "SN1".to_owned(), attributes }));
    let policy =
        Call::CreatePolicy { name: "SN1".to_owned(), document: DOCUMENT.to_owned(), tags: BTreeMap::new() };
    assert!(h.account.log.contains(&policy));
    let target = arn(&h.issued[0].1.to_string());
    assert!(h.account.log.contains(&Call::AttachPolicy { policy: "SN1".to_owned(), target: target.clone() }));
    assert!(
        h.account.log.contains(&Call::AttachThingPrincipal { thing: "SN1".to_owned(), principal: target })
    );
}

#[test]
fn a_certificate_is_registered_with_the_ca_where_the_rules_say_so() {
    let mut h = Harness::ready_with(Setup::with(|it| it.certificate.register = Register::WithCa));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    assert!(h.account.log.iter().any(|it| matches!(it,
        Call::RegisterCertificate { ca_certificate_pem, .. } if ca_certificate_pem == "the CA\n")));
}

#[test]
fn with_jitp_neither_the_certificate_nor_its_attachments_are_made_here() {
    let mut h = Harness::ready_with(Setup::with(|it| it.certificate.register = Register::Jitp));
    h.pass(0, 1, "SN1");
    let made: BTreeSet<_> = h.account.operations().into_iter().collect();
    let wanted = [Operation::CreateCredentialLocker, Operation::CreatePolicy, Operation::CreateThing];
    assert_eq!(made, BTreeSet::from(wanted));
    assert_eq!(h.account.log.len(), 3);
}

#[test]
fn a_given_locker_and_policy_are_used_and_not_made() {
    let mut h = Harness::ready_with(Setup::with(|it| {
        it.locker = LockerRule::Given { id: "household7".to_owned() };
        it.policy = PolicyRule::Given { name: "all-lamps".to_owned() };
    }));
    h.account.policies.insert("all-lamps".to_owned(), "{}".to_owned());
    h.pass(0, 1, "SN1");
    assert_eq!(h.credentials("SN1").locker_id.as_deref(), Some("household7"));
    assert_eq!(h.account.log.len(), 4);
    assert_eq!(
        h.account.attached[&arn(&h.issued[0].1.to_string())],
        BTreeSet::from(["all-lamps".to_owned()])
    );
}

#[test]
fn without_locker_and_policy_nothing_of_them_is_called() {
    let mut h = Harness::ready_with(Setup::with(|it| {
        it.locker = LockerRule::None;
        it.policy = PolicyRule::None;
    }));
    h.pass(0, 1, "SN1");
    assert_eq!(h.credentials("SN1").locker_id, None);
    assert_eq!(
        h.account.operations(),
        [Operation::CreateThing, Operation::RegisterCertificateWithoutCa, Operation::AttachThingPrincipal]
    );
}

#[test]
fn a_policy_shared_by_a_product_is_made_once() {
    let mut h = Harness::ready_with(Setup::with(|it| it.policy = shared_policy()));
    h.answers = false;
    for id in 1..=20 {
        h.unit(0, unit_in(id, &format!("SN{id:02}"), &id.to_string()));
    }
    h.answer_all();
    assert_eq!(h.account.count(Operation::CreatePolicy), 1);
    assert_eq!(h.account.count(Operation::AttachPolicy), 20);
    let credentials = h.hear(0).iter().filter(|it| it.starts_with("credentials")).count();
    assert_eq!(credentials, 20);
    h.crash(usize::MAX);
    h.connect(0, 2);
    h.answers = true;
    h.pass(0, 1, "SN99");
    assert_eq!(h.account.count(Operation::CreatePolicy), 1, "a restart knows it");
    assert_eq!(h.account.policies.len(), 1);
}

#[test]
fn a_device_that_was_to_make_a_shared_policy_and_fails_leaves_it_to_the_next() {
    let mut h = Harness::ready_with(Setup::with(|it| it.policy = shared_policy()));
    h.answers = false;
    for id in 1..=3 {
        h.unit(0, unit_in(id, &format!("SN{id}"), &id.to_string()));
    }
    let refused = Err(failure(Operation::CreateThing, FailureKind::Refused));
    h.answer("SN1", Step::Thing, refused);
    assert_eq!(h.state("SN1"), State::Quarantined);
    h.answer_all();
    let heard = h.hear(0);
    assert!(
        heard.contains(&"credentials 2 SN2".to_owned()) && heard.contains(&"credentials 3 SN3".to_owned())
    );
}

#[test]
fn a_shared_policy_that_is_lost_after_a_crash_is_adopted() {
    let mut h = Harness::ready_with(Setup::with(|it| it.policy = shared_policy()));
    h.answers = false;
    h.unit(0, unit_in(1, "SN1", "a"));
    h.unit(0, unit_in(2, "SN2", "b"));
    let policy = h.calls.iter().find(|it| it.step == Step::Policy).unwrap().call.clone();
    h.account.answer(&policy).unwrap();
    h.answers = true;
    h.restart();
    assert_eq!(h.account.count(Operation::CreatePolicy), 2);
    assert_eq!(h.account.count(Operation::GetPolicy), 1);
    h.hear(0);
    assert_eq!(h.unit(0, unit_in(1, "SN1", "a")), ["ack 1", "credentials 1 SN1"]);
    assert_eq!(h.unit(0, unit_in(2, "SN2", "b")), ["ack 2", "credentials 2 SN2"]);
}

#[test]
fn a_shared_policy_with_another_document_is_a_conflict_for_all_who_wait() {
    let mut h = Harness::ready_with(Setup::with(|it| it.policy = shared_policy()));
    h.account.policies.insert("lamps".to_owned(), r#"{"Statement":"other"}"#.to_owned());
    h.answers = false;
    h.unit(0, unit_in(1, "SN1", "a"));
    h.unit(0, unit_in(2, "SN2", "b"));
    h.answer_all();
    let heard = h.hear(0);
    assert!(
        heard.contains(&"fail conflict 1 SN1".to_owned())
            && heard.contains(&"fail conflict 2 SN2".to_owned())
    );
}

#[test]
fn a_policy_that_exists_is_ours_if_it_says_the_same() {
    let mut h = Harness::ready();
    let same = "{ \"Statement\" : [],\n \"Version\":\"2012-10-17\" }";
    h.account.policies.insert("SN1".to_owned(), same.to_owned());
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    assert!(adopted(&h, "SN1", Step::Policy));
    h.account.policies.insert("SN2".to_owned(), r#"{"Version":"2012-10-17"}"#.to_owned());
    assert_eq!(h.unit(0, unit(2, "SN2")), ["ack 2", "fail conflict 2 SN2"]);
    assert_eq!(h.state("SN2"), State::Quarantined);
    assert_eq!(h.account.policies["SN2"], r#"{"Version":"2012-10-17"}"#, "it is left as it was");
}

#[test]
fn a_thing_that_exists_is_ours_if_this_station_made_it() {
    let mut h = Harness::ready();
    let attributes = |station: &str| BTreeMap::from([("linemint".to_owned(), station.to_owned())]);
    let mut ours = attributes(STATION);
    ours.insert("colour".to_owned(), "red".to_owned());
    h.account.things.insert("SN1".to_owned(), ours);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    assert!(adopted(&h, "SN1", Step::Thing));
    h.account.things.insert("SN2".to_owned(), attributes("L3-S08"));
    h.say(0, crate::fixture::FixtureMessage::Unit(unit(2, "SN2")));
    assert!(h.sentence(0).contains("name is taken"), "{}", h.sentence(0));
    assert_eq!(h.hear(0), ["ack 2", "fail conflict 2 SN2"], "another station made it");
    h.account.things.insert("SN3".to_owned(), BTreeMap::new());
    assert_eq!(h.unit(0, unit(3, "SN3")), ["ack 3", "fail conflict 3 SN3"], "nobody knows who made it");
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(4, "SN3")), ["nak quarantined 4"]);
}

#[test]
fn a_certificate_that_is_registered_is_ours_and_made_active() {
    let mut h = Harness::ready();
    registered_before(&mut h, 0, "SN1", CertificateStatus::Active);
    let id = registered_before(&mut h, 1, "SN2", CertificateStatus::Inactive);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    assert!(adopted(&h, "SN1", Step::Certificate));
    assert_eq!(h.unit(0, unit(2, "SN2")), ["ack 2", "credentials 2 SN2"]);
    assert_eq!(h.account.certificates[&id], CertificateStatus::Active);
    registered_before(&mut h, 2, "SN3", CertificateStatus::Revoked);
    assert_eq!(h.unit(0, unit(3, "SN3")), ["ack 3", "fail conflict 3 SN3"]);
}

#[test]
fn a_registration_that_names_another_certificate_is_a_conflict() {
    let mut h = Harness::ready();
    let id = "0".repeat(64);
    let other = Reply::Certificate { arn: arn(&id), id };
    h.account.fault(Operation::RegisterCertificateWithoutCa, Fault::Says(other));
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "fail conflict 1 SN1"]);

    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    let mut exists = failure(Operation::RegisterCertificateWithoutCa, FailureKind::Exists);
    exists.resource_id = Some("0".repeat(64));
    h.answer("SN1", Step::Certificate, Err(exists));
    assert_eq!(h.hear(0), ["fail conflict 1 SN1"]);
}

#[test]
fn each_refusal_and_each_conflict_quarantines_with_its_code() {
    for operation in MAKING {
        for (kind, code) in [(FailureKind::Refused, "rejected"), (FailureKind::Conflict, "conflict")] {
            let mut h = Harness::ready();
            h.account.fault(operation, Fault::Fail(kind));
            assert_eq!(
                h.unit(0, unit(1, "SN1")),
                ["ack 1", format!("fail {code} 1 SN1").as_str()],
                "{operation}"
            );
            assert_eq!(h.state("SN1"), State::Quarantined);
            let calls = h.account.log.len();
            h.seconds(300);
            assert_eq!(h.account.log.len(), calls, "it is not tried again");
        }
    }
}

#[test]
fn a_device_that_needs_more_certificates_than_it_may_is_quarantined() {
    let mut h = Harness::ready_with(Setup::with(|it| {
        it.max_certificates = 1;
        it.repeat = crate::device::rules::Repeat::Renew;
    }));
    h.pass(0, 1, "SN1");
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "fail quarantined 2 SN1"]);
    assert_eq!(h.issued.len(), 1);
    assert_eq!(h.state("SN1"), State::Quarantined);
}

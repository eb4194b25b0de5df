//! Rules and names that change under a device: what was wrong is put right, and the old is retired where it is.

use super::account::{Fault, arn};
use super::harness::Harness;
use super::setup::{DOCUMENT, KEEP, Setup, text, unit, unit_in};
use crate::clock::ClockSync;
use crate::cloud::{Call, CertificateStatus, FailureKind, Operation, StopCause};
use crate::device::State;
use crate::device::operator::Order;
use crate::device::rules::{KeyOrigin, PolicyRule, Register, Repeat};
use crate::device::serial::SerialNumber;
use crate::fixture::Unit;
use crate::line::Input;
use crate::pki::{Fingerprint, LeafKey, to_pem};

const CORRECTED: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow"}]}"#;

fn policy(document: &str) -> PolicyRule {
    let PolicyRule::Device { name, tags, .. } = Setup::default().rules.policy else {
        panic!("another policy")
    };
    PolicyRule::Device { name, document: document.to_owned(), tags }
}

/// A station whose policy document AWS refuses, with SN1 in quarantine because of it; then the document is
/// corrected, and the station started again.
fn corrected(setup: Setup) -> Harness {
    let mut h = Harness::ready_with(setup);
    // By then its certificate is there.
    h.account.fault(Operation::CreatePolicy, Fault::Fail(FailureKind::Throttled));
    h.account.always.insert(Operation::CreatePolicy, Fault::Fail(FailureKind::Refused));
    let mut heard = h.unit(0, unit(1, "SN1"));
    h.seconds(30);
    heard.extend(h.hear(0));
    assert_eq!(heard.last().unwrap(), "fail rejected 1 SN1");
    h.account.always.clear();
    h.setup.rules.policy = policy(CORRECTED);
    h.restart();
    h.hear(0);
    h
}

fn csr() -> String {
    let csr = crate::pki::request::make_request("SN1").unwrap().csr;
    to_pem("CERTIFICATE REQUEST", &csr).to_string()
}

fn with_mac(id: u64, mac: &str) -> Unit {
    Unit { mac: Some(mac.to_owned()), ..unit(id, "SN1") }
}

#[test]
fn a_released_device_is_made_by_the_rules_of_now() {
    for register in [Register::WithoutCa, Register::Aws] {
        let mut h = corrected(Setup::with(|it| it.certificate.register = register));
        assert_eq!(h.unit(0, unit(2, "SN1")), ["nak quarantined 2"], "not before a person says so");
        assert_eq!(h.order(Order::Release, "SN1"), Ok(()));
        // It may have been asked for, and is then looked for first.
        let mut heard = h.unit(0, unit(3, "SN1"));
        h.seconds(20);
        heard.extend(h.hear(0));
        assert!(heard.contains(&"credentials 3 SN1".to_owned()), "{heard:?}");
        assert_eq!(h.written(0, 3, "SN1"), ["pass 3 SN1"]);
        h.seconds(2000);
        assert_eq!(h.account.policies["SN1"], CORRECTED);
        let live = h.device("SN1").fingerprint().unwrap();
        h.account.assert_holds("SN1", live);
        let active = h.account.certificates.values().filter(|it| **it == CertificateStatus::Active);
        assert_eq!(active.count(), 1, "what was made under the old rules is retired");
        assert!(h.keys.is_empty());
    }
}

#[test]
fn a_device_that_nobody_released_keeps_the_rules_it_was_admitted_with() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.write_failed(0, 1, "SN1");
    let before = h.device("SN1").rules;
    h.setup.rules.policy = policy(CORRECTED);
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    assert_eq!((h.device("SN1").rules, h.issued.len()), (before, 1));
    // A release is for the next presentation, and no longer.
    let mut h = corrected(Setup::default());
    h.order(Order::Release, "SN1").unwrap();
    h.unit(0, unit(2, "SN1"));
    h.write_failed(0, 2, "SN1");
    h.setup.rules.policy = policy(DOCUMENT);
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(3, "SN1")), ["ack 3", "credentials 3 SN1"]);
    assert_eq!(h.account.policies["SN1"], CORRECTED);
}

#[test]
fn the_same_rules_after_a_release_cost_no_second_certificate() {
    let mut h = corrected(Setup::default());
    h.setup.rules.policy = policy(DOCUMENT);
    h.restart();
    h.hear(0);
    h.order(Order::Release, "SN1").unwrap();
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    assert_eq!(h.issued.len(), 1);
}

#[test]
fn what_was_asked_under_the_old_rules_is_answered_before_the_new_ones_hold() {
    let mut h = corrected(Setup::default());
    h.order(Order::Release, "SN1").unwrap();
    h.input(Input::PortLost(0));
    h.answers = false;
    h.wait(KEEP);
    h.clock(ClockSync::Synchronised);
    assert_eq!(h.calls.len(), 1, "its key has expired, and its old certificate is being deactivated");
    h.connect(0, 1);
    h.hear(0);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["nak busy 2"]);
    h.answers = true;
    h.answer_all();
    assert_eq!(h.unit(0, unit(3, "SN1")), ["ack 3", "credentials 3 SN1"]);
    assert_eq!(h.account.policies["SN1"], CORRECTED);
}

#[test]
fn a_renewal_under_another_name_detaches_the_old_certificate_from_the_old_thing() {
    for register in [Register::WithoutCa, Register::Aws] {
        let mut h = Harness::ready_with(Setup::with(|it| {
            it.repeat = Repeat::Renew;
            it.certificate.register = register;
        }));
        h.pass(0, 1, "SN1");
        let old = h.device("SN1").fingerprint().unwrap();
        h.setup.rules.thing = text("new-{serial}");
        h.restart();
        h.hear(0);
        h.unit(0, unit(2, "SN1"));
        h.written(0, 2, "SN1");
        h.seconds(1200);
        let detach = Call::DetachThingPrincipal { thing: "SN1".to_owned(), principal: arn(&old.to_string()) };
        assert!(h.account.log.contains(&detach), "{:#?}", h.account.log);
        assert!(h.account.principals["SN1"].is_empty());
        let device = h.device("SN1");
        assert!(device.to_retire().is_none());
        let live = arn(&device.fingerprint().unwrap().to_string());
        assert_eq!(h.account.principals["new-SN1"], [live].into());
        if register == Register::Aws {
            assert!(!h.account.certificates.contains_key(&old.to_string()), "what AWS has issued is deleted");
        }
    }
}

#[test]
fn a_renewal_with_another_mac_makes_the_thing_of_that_name() {
    let mut h = Harness::ready_with(Setup::with(|it| {
        it.repeat = Repeat::Renew;
        it.thing = text("{mac}");
    }));
    h.unit(0, with_mac(1, "AA:BB:CC:DD:EE:01"));
    h.written(0, 1, "SN1");
    let old = arn(&h.issued[0].1.to_string());
    assert_eq!(h.account.principals["aabbccddee01"], [old].into());
    assert_eq!(h.unit(0, with_mac(2, "AA:BB:CC:DD:EE:02")), ["ack 2", "credentials 2 SN1"]);
    assert_eq!(h.credentials("SN1").thing, "aabbccddee02");
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
    assert!(h.account.principals["aabbccddee01"].is_empty());
    let live = arn(&h.issued[1].1.to_string());
    assert_eq!(h.account.principals["aabbccddee02"], [live].into());
    assert!(h.device("SN1").to_retire().is_none());
}

#[test]
fn a_renewal_that_tells_no_mac_forgets_none() {
    let mut h = Harness::ready_with(Setup::with(|it| it.repeat = Repeat::Renew));
    h.unit(0, with_mac(1, "AA:BB:CC:DD:EE:01"));
    h.written(0, 1, "SN1");
    let mac = h.device("SN1").mac.clone();
    assert!(mac.is_some());
    h.unit(0, unit(2, "SN1"));
    h.written(0, 2, "SN1");
    assert_eq!(h.device("SN1").mac, mac);
}

#[test]
fn a_serial_of_another_product_is_not_taken() {
    for passes in [true, false] {
        let mut h = Harness::ready();
        h.unit(0, unit(1, "SN1"));
        if passes {
            h.written(0, 1, "SN1");
        } else {
            h.write_failed(0, 1, "SN1");
        }
        h.setup.rules.product = "lamp".to_owned();
        h.restart();
        h.hear(0);
        let before = h.device("SN1").clone();
        h.say(0, crate::fixture::FixtureMessage::Unit(unit(2, "SN1")));
        assert!(
            h.sentence(0).contains("SN1 is a thermostat, this fixture's product is a lamp"),
            "{}",
            h.sentence(0)
        );
        assert_eq!(h.hear(0), ["nak bad-unit 2"]);
        assert_eq!(*h.device("SN1"), before);
    }
}

#[test]
fn a_claimed_serial_that_is_released_tells_its_key_when_it_comes() {
    let mut h = Harness::ready_with(Setup::with(|it| it.certificate.key = KeyOrigin::Device));
    let nobodys = Fingerprint::of(b"nobody's").to_string();
    assert_eq!(h.written_as(0, 9, "SN1", &nobodys), ["fail mismatch 9 SN1"]);
    h.order(Order::Release, "SN1").unwrap();
    h.issues = false;
    let csr = csr();
    assert_eq!(h.unit(0, Unit { csr: Some(csr.clone()), ..unit(1, "SN1") }), ["ack 1"]);
    assert!(matches!(&h.to_issue[0].2.key, LeafKey::Device(_)));
    h.issue();
    h.go_on();
    assert_eq!(h.hear(0), ["credentials 1 SN1"]);
    assert!(h.keys.is_empty());
}

/// Journals of earlier versions have devices that a person has released, and that never told a key.
#[test]
fn a_device_that_is_to_have_its_own_key_never_gets_one_of_the_stations() {
    for register in [Register::WithoutCa, Register::Aws] {
        let mut h = Harness::ready_with(Setup::with(|it| {
            it.certificate.key = KeyOrigin::Device;
            it.certificate.register = register;
        }));
        let nobodys = Fingerprint::of(b"nobody's").to_string();
        h.written_as(0, 9, "SN1", &nobodys);
        h.order(Order::Release, "SN1").unwrap();
        let serial = SerialNumber::parse("SN1").unwrap();
        h.shelf.devices.get_mut(&serial).unwrap().released = false;
        h.restart();
        h.hear(0);
        let unit = |id| Unit { csr: Some(csr()), ..unit(id, "SN1") };
        assert_eq!(h.unit(0, unit(1)).last().unwrap(), "fail internal 1 SN1");
        assert_eq!(h.state("SN1"), State::Quarantined);
        assert!(h.keys.is_empty() && h.issued.is_empty() && h.to_request.is_empty());
        h.order(Order::Release, "SN1").unwrap();
        assert_eq!(h.unit(0, unit(2)).last().unwrap(), "credentials 2 SN1");
        assert!(h.keys.is_empty());
    }
}

#[test]
fn an_unfinished_device_gets_a_certificate_of_the_ca_that_the_station_has() {
    for register in [Register::WithoutCa, Register::WithCa] {
        let mut h = Harness::ready_with(Setup::with(|it| it.certificate.register = register));
        h.pass(0, 1, "SN1");
        h.unit(0, unit(2, "SN2"));
        h.removed(0, 2, "SN2");
        h.unit(0, unit(3, "SN3"));
        let old: Vec<_> = ["SN2", "SN3"].map(|it| h.device(it).fingerprint().unwrap()).into();
        h.setup.ca = "another CA";
        h.restart();
        h.seconds(10);
        h.hear(0);
        assert_eq!(h.written_as(0, 3, "SN3", &old[1].to_string()), ["fail superseded 3 SN3"]);
        assert_eq!(h.unit(0, unit_in(4, "SN2", "b")), ["ack 4", "credentials 4 SN2"]);
        assert_eq!(h.written(0, 4, "SN2"), ["pass 4 SN2"]);
        assert_eq!(h.unit(0, unit(5, "SN3")), ["ack 5", "credentials 5 SN3"]);
        assert_eq!(h.written(0, 5, "SN3"), ["pass 5 SN3"]);
        for (serial, old) in ["SN2", "SN3"].into_iter().zip(old) {
            let live = h.device(serial).fingerprint().unwrap();
            assert_ne!(live, old);
            h.account.assert_holds(serial, live);
            assert_eq!(h.account.certificates[&old.to_string()], CertificateStatus::Inactive);
        }
        assert_eq!(h.device("SN1").certificates_issued, 1, "who has passed keeps what it has");
        assert!(h.keys.is_empty());
        h.restart();
        assert_eq!(h.issued.len(), 5);
    }
}

#[test]
fn when_the_ca_is_rotated_devices_in_flight_keep_what_the_old_one_has_issued() {
    let mut h = Harness::ready_with(Setup::with(|it| it.certificate.register = Register::WithCa));
    h.answers = false;
    h.unit(0, unit_in(1, "SN1", "a"));
    let old = h.device("SN1").fingerprint().unwrap();
    (h.setup.ca, h.setup.previous_ca) = ("another CA", Some("the CA"));
    h.answers = true;
    h.restart();
    h.seconds(10);
    h.connect(0, 1);
    h.hello(0, 1);
    h.unit(0, unit_in(1, "SN1", "a"));
    h.written_as(0, 1, "SN1", &old.to_string());
    h.pass(0, 2, "SN2");
    assert_eq!((h.state("SN1"), h.device("SN1").fingerprint()), (State::Passed, Some(old)));
    assert_eq!(h.device("SN1").certificates_issued, 1);
    let cas: Vec<&str> = h
        .account
        .log
        .iter()
        .filter_map(|it| match it {
            Call::RegisterCertificate { ca_certificate_pem, .. } => Some(ca_certificate_pem.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(cas.last(), Some(&"another CA\n"), "the newer one issues");
    assert!(cas[..cas.len() - 1].iter().all(|it| *it == "the CA\n"), "{cas:?}");
    // And each device gets the chain above its own.
    assert!(h.credentials("SN1").certificate.ends_with("the chain of the CA\n"));
    assert!(h.credentials("SN2").certificate.ends_with("-----\nthe chain\n"));
}

#[test]
fn a_ca_of_before_that_aws_does_not_have_any_more_stops_nobody_else() {
    let mut h = Harness::ready_with(Setup::with(|it| it.certificate.register = Register::WithCa));
    h.answers = false;
    h.unit(0, unit_in(1, "SN1", "a"));
    (h.setup.ca, h.setup.previous_ca) = ("another CA", Some("the CA"));
    let refused = Fault::Fail(FailureKind::Stop(StopCause::Ca));
    h.account.always.insert(Operation::RegisterCertificate, refused);
    h.answers = true;
    h.restart();
    h.seconds(10);
    assert_eq!(h.state("SN1"), State::Quarantined);
    assert!(h.line.status().stopped.is_empty());
    h.account.always.clear();
    h.connect(0, 1);
    h.hello(0, 1);
    h.pass(0, 2, "SN2");
}

//! Rule 3, `written`, `write-failed`, `removed`, and rule 4: what is durable before it is said.

use super::harness::Harness;
use super::setup::{unit, unit_in};
use crate::device::operator::Order;
use crate::device::{KeyState, State};
use crate::line::Input;

#[test]
fn pass_and_the_keys_destruction_wait_for_the_record() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    let key = h.issued[0].1;
    h.syncs = false;
    assert!(h.written(0, 1, "SN1").is_empty());
    assert!(h.keys.contains(&key));
    h.sync(1);
    assert_eq!(h.hear(0), ["pass 1 SN1"]);
    assert!(!h.keys.contains(&key));
    h.sync(usize::MAX);
    assert_eq!(h.device("SN1").certificate.as_ref().unwrap().key, KeyState::Destroyed);
}

#[test]
fn fail_waits_for_the_record() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.syncs = false;
    assert!(h.write_failed(0, 1, "SN1").is_empty());
    h.sync(1);
    assert_eq!(h.hear(0), ["fail write-failed 1 SN1"]);
}

#[test]
fn credentials_and_the_registration_wait_for_the_certificates_record() {
    let mut h = Harness::ready();
    h.syncs = false;
    h.issues = false;
    h.unit(0, unit(1, "SN1"));
    h.sync(usize::MAX);
    h.sync(usize::MAX);
    assert_eq!(h.account.log.len(), 3, "locker, policy, thing");
    h.issue();
    h.go_on();
    assert_eq!(h.account.log.len(), 3, "the certificate is not on disk yet");
    h.sync(usize::MAX);
    assert_eq!(h.account.log.len(), 6);
    assert!(h.hear(0).contains(&"ack 1".to_owned()));
    h.sync(usize::MAX);
    assert_eq!(h.hear(0), ["credentials 1 SN1"]);
}

#[test]
fn a_crash_between_the_promise_and_the_disk_takes_the_promise_back() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.syncs = false;
    h.written(0, 1, "SN1");
    h.crash(0);
    h.syncs = true;
    h.connect(0, 1);
    assert_eq!(h.state("SN1"), State::Delivering);
    assert_eq!(h.written(0, 1, "SN1"), ["hello", "pass 1 SN1"]);
}

#[test]
fn a_restart_finishes_the_destruction_of_a_key() {
    let mut h = Harness::ready();
    h.destroys = false;
    h.pass(0, 1, "SN1");
    let key = h.issued[0].1;
    assert!(h.keys.contains(&key));
    h.destroys = true;
    h.crash(0);
    assert!(!h.keys.contains(&key));
    assert_eq!(h.device("SN1").certificate.as_ref().unwrap().key, KeyState::Destroyed);
    h.crash(usize::MAX);
    assert!(h.to_destroy.is_empty());
    assert_eq!(h.history("SN1").iter().filter(|it| **it == "key-destroyed").count(), 1);
}

#[test]
fn a_restart_finishes_the_destruction_of_a_delivered_key_even_in_quarantine() {
    let mut h = Harness::ready();
    h.destroys = false;
    h.pass(0, 1, "SN1");
    assert_eq!(h.written_as(0, 1, "SN1", &"0".repeat(64)), ["fail mismatch 1 SN1"]);
    assert_eq!(h.state("SN1"), State::Quarantined);
    h.destroys = true;
    h.crash(0);
    assert!(!h.keys.contains(&h.issued[0].1));
}

#[test]
fn an_undelivered_key_is_kept_through_failure_and_restart() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.write_failed(0, 1, "SN1");
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    assert!(h.keys.contains(&h.issued[0].1));
    assert_eq!(h.issued.len(), 1);
}

#[test]
fn written_with_the_present_certificate_passes_whatever_the_id() {
    // Unknown id, an id that timed out, an id of an earlier presentation, another fixture's.
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.written(0, 99, "SN1"), ["pass 99 SN1"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "pass 1 SN1"]);

    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.seconds(61);
    h.hear(0);
    assert_eq!(h.state("SN1"), State::Failed);
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
    assert_eq!(h.state("SN1"), State::Passed);

    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.unit(0, unit(2, "SN1"));
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "pass 2 SN1"]);
    assert_eq!(h.removed(0, 2, "SN1"), ["pass 2 SN1"]);

    let mut h = Harness::ready();
    h.connect(1, 1);
    h.hear(1);
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.written(1, 1, "SN1"), ["pass 1 SN1"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "pass 1 SN1"]);
    h.seconds(120);
    assert!(h.hear(0).is_empty());
}

#[test]
fn a_late_written_changes_the_answer_for_good() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.seconds(61);
    h.written(0, 1, "SN1");
    h.hear(0);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "pass 1 SN1"]);
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "pass 1 SN1"]);
}

#[test]
fn a_confirmation_under_another_units_id_leaves_that_units_presentation_alone() {
    for restarts in [false, true] {
        let mut h = Harness::ready();
        h.unit(0, unit_in(1, "SN1", "a"));
        h.seconds(61);
        h.unit(0, unit_in(2, "SN2", "b"));
        assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
        if restarts {
            h.restart();
            h.hear(0);
        }
        assert_eq!(h.unit(0, unit_in(2, "SN2", "b")), ["ack 2", "credentials 2 SN2"]);
        assert_eq!(h.written(0, 2, "SN2"), ["pass 2 SN2"]);
    }
    // The same when the other unit is done already.
    let mut h = Harness::ready();
    h.unit(0, unit_in(1, "SN1", "a"));
    h.seconds(61);
    h.pass(0, 2, "SN2");
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
    h.restart();
    h.hear(0);
    assert_eq!(h.unit(0, unit(2, "SN2")), ["ack 2", "pass 2 SN2"]);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "pass 1 SN1"]);
}

#[test]
fn written_with_an_earlier_certificate_is_superseded_and_nothing_changes() {
    let mut h = Harness::ready_with(super::setup::Setup::with(|it| {
        it.repeat = crate::device::rules::Repeat::Renew;
    }));
    h.pass(0, 1, "SN1");
    h.unit(0, unit(2, "SN1"));
    let before = h.device("SN1").clone();
    let old = h.issued[0].1.to_string();
    assert_eq!(h.written_as(0, 2, "SN1", &old), ["fail superseded 2 SN1"]);
    assert_eq!(h.written_as(0, 77, "SN1", &old), ["fail superseded 77 SN1"]);
    assert_eq!(*h.device("SN1"), before);
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
    assert_eq!(h.written_as(0, 2, "SN1", &old), ["fail superseded 2 SN1"], "after it has passed, too");
    assert_eq!(h.state("SN1"), State::Passed);
}

#[test]
fn written_with_a_foreign_certificate_quarantines_the_named_and_the_meant() {
    // The id stands for SN1, the certificate and the name are SN2's mixed with it.
    let mut h = Harness::ready();
    h.unit(0, unit_in(1, "SN1", "a"));
    h.unit(0, unit_in(2, "SN2", "b"));
    let sha256_of_2 = h.credentials("SN2").certificate_sha256.clone();
    assert_eq!(h.written_as(0, 1, "SN1", &sha256_of_2), ["fail mismatch 1 SN1"]);
    assert_eq!((h.state("SN1"), h.state("SN2")), (State::Quarantined, State::Delivering));

    let mut h = Harness::ready();
    h.unit(0, unit_in(1, "SN1", "a"));
    h.unit(0, unit_in(2, "SN2", "b"));
    let mut heard = h.written_as(0, 1, "SN2", &"0".repeat(64));
    heard.sort();
    assert_eq!(heard, ["fail mismatch 1 SN1", "fail mismatch 1 SN2", "fail mismatch 2 SN2"]);
    assert_eq!((h.state("SN1"), h.state("SN2")), (State::Quarantined, State::Quarantined));
    assert_eq!(h.unit(0, unit_in(3, "SN2", "b")), ["nak quarantined 3"]);
    h.seconds(300);
    assert!(h.hear(0).is_empty(), "nothing is repeated for either");
    assert_eq!(
        h.written_as(0, 1, "SN2", &"0".repeat(64)),
        ["fail mismatch 1 SN2"],
        "the same when asked again"
    );
}

#[test]
fn a_serial_that_was_never_presented_but_claimed_is_quarantined() {
    let mut h = Harness::ready();
    assert_eq!(h.written_as(0, 5, "SN9", &"0".repeat(64)), ["fail mismatch 5 SN9"]);
    assert_eq!(h.state("SN9"), State::Quarantined);
    assert_eq!(h.unit(0, unit(6, "SN9")), ["nak quarantined 6"]);
    for (serial, sha256) in [("no serial", "0".repeat(64)), ("SN8", "no hash".to_owned())] {
        assert_eq!(h.written_as(0, 7, serial, &sha256), [format!("fail mismatch 7 {serial}")]);
    }
    assert!(h.account.log.is_empty());
}

#[test]
fn written_for_a_quarantined_device_does_not_pass() {
    let mut h = Harness::ready();
    h.unit(0, unit_in(1, "SN1", "a"));
    let own = h.credentials("SN1").certificate_sha256.clone();
    h.written_as(0, 1, "SN1", &"0".repeat(64));
    assert_eq!(h.written_as(0, 1, "SN1", &own), ["fail quarantined 1 SN1"]);
    assert_eq!(h.state("SN1"), State::Quarantined);
}

#[test]
fn write_failed_fails_and_the_next_presentation_goes_on() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.write_failed(0, 1, "SN1"), ["fail write-failed 1 SN1"]);
    assert_eq!(h.state("SN1"), State::Failed);
    assert_eq!(h.write_failed(0, 1, "SN1"), ["fail write-failed 1 SN1"], "the same when it is repeated");
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
    assert_eq!(h.write_failed(0, 9, "SN9"), ["fail write-failed 9 SN9"]);
}

#[test]
fn removed_closes_that_presentation_only() {
    let mut h = Harness::ready();
    h.unit(0, unit_in(1, "SN1", "a"));
    h.unit(0, unit_in(2, "SN2", "b"));
    assert_eq!(h.removed(0, 1, "SN1"), ["fail removed 1 SN1"]);
    assert_eq!(h.state("SN1"), State::Delivering, "the device stays as it is");
    assert_eq!(h.removed(0, 1, "SN1"), ["fail removed 1 SN1"]);
    h.seconds(2);
    assert_eq!(h.hear(0), ["credentials 2 SN2"]);
    assert_eq!(h.unit(0, unit_in(3, "SN1", "a")), ["ack 3", "credentials 3 SN1"]);
}

#[test]
fn removed_while_the_cloud_works_leaves_the_work_going_on() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.removed(0, 1, "SN1"), ["fail removed 1 SN1"]);
    h.answer_all();
    assert!(h.hear(0).is_empty());
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    assert_eq!(h.account.log.len(), 6);
}

#[test]
fn removed_after_passed_is_answered_with_pass() {
    let mut h = Harness::ready();
    h.pass(0, 1, "SN1");
    assert_eq!(h.removed(0, 1, "SN1"), ["pass 1 SN1"]);
    h.restart();
    h.hear(0);
    assert_eq!(h.removed(0, 1, "SN1"), ["pass 1 SN1"]);
    assert_eq!(h.state("SN1"), State::Passed);
}

#[test]
fn removed_for_what_nobody_knows_is_answered_and_changes_nothing() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    // The answer to credentials that are for another unit than the one in the nest (rule 5) names
    // what was received; these were made up on the cable.
    assert_eq!(h.removed(0, 1, "SN2"), ["fail removed 1 SN2"]);
    assert_eq!(h.removed(0, 8, "SN1"), ["fail removed 8 SN1"]);
    h.seconds(2);
    assert_eq!(h.hear(0), ["credentials 1 SN1"], "SN1 is still offered");
    assert!(!h.shelf.devices.contains_key(&crate::device::serial::SerialNumber::parse("SN2").unwrap()));
}

#[test]
fn a_lost_key_means_a_new_certificate_and_the_old_one_is_retired() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.keys.clear();
    h.answers = true;
    h.answer_all();
    assert_eq!(h.issued.len(), 2);
    assert_eq!(h.hear(0).last().map(String::as_str), Some("credentials 1 SN1"));
    assert_eq!(h.credentials("SN1").certificate_sha256, h.issued[1].1.to_string());
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
    h.account.assert_holds("SN1", h.issued[1].1);
    let old = h.issued[0].1.to_string();
    assert_eq!(h.account.certificates[&old], crate::cloud::CertificateStatus::Inactive);
}

#[test]
fn keys_that_are_lost_again_and_again_end_in_quarantine() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    for id in 2..=3 {
        h.write_failed(0, id - 1, "SN1");
        h.keys.clear();
        assert_eq!(h.unit(0, unit(id, "SN1")), [format!("ack {id}"), format!("credentials {id} SN1")]);
    }
    h.write_failed(0, 3, "SN1");
    h.keys.clear();
    assert_eq!(h.unit(0, unit(4, "SN1")), ["ack 4", "fail quarantined 4 SN1"]);
    assert_eq!(h.issued.len(), 3, "max_certificates");
    assert_eq!(h.state("SN1"), State::Quarantined);
}

/// Found by the simulation: `presented` and `offered` were one commit, and a crash between its sync and
/// the sending of `ack` made a restart believe that `ack` had gone out.
#[test]
fn a_complete_unit_presented_again_hears_ack_first_after_a_crash() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.write_failed(0, 1, "SN1"), ["fail write-failed 1 SN1"]);
    h.syncs = false;
    assert!(h.unit(0, unit(2, "SN1")).is_empty());
    h.crash(usize::MAX);
    h.syncs = true;
    h.connect(0, 1);
    assert!(!h.hear(0).iter().any(|it| it.starts_with("credentials")), "ack has not been said");
    assert_eq!(h.unit(0, unit(2, "SN1")), ["ack 2", "credentials 2 SN1"]);
    assert_eq!(h.written(0, 2, "SN1"), ["pass 2 SN1"]);
}

/// Found by the simulation: the same for an `ack` that is said again to a unit known from the journal.
#[test]
fn a_unit_known_from_the_journal_hears_its_new_ack_first_after_a_crash() {
    let mut h = Harness::ready();
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    h.crash(usize::MAX);
    h.answers = true;
    h.connect(0, 1);
    h.hear(0);
    h.answer_all();
    h.syncs = false;
    // Something is decided and not on disk yet, so that the ack has to wait.
    h.unit(0, unit_in(2, "SN2", "b"));
    h.unit(0, unit(1, "SN1"));
    h.crash(usize::MAX);
    h.syncs = true;
    h.connect(0, 1);
    assert!(!h.hear(0).iter().any(|it| it.starts_with("credentials 1")), "ack has not been said");
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
}

#[test]
fn a_key_that_cannot_be_destroyed_is_tried_again_ever_less_often_and_keeps_nobody() {
    let mut h = Harness::ready();
    h.destroys = false;
    h.pass(0, 1, "SN1");
    let keep = |h: &mut Harness| {
        let (serial, key) = h.to_destroy.remove(0);
        h.input(Input::KeyKept(serial, key));
    };
    assert!(!h.line.is_idle());
    for wait in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
        keep(&mut h);
        assert!(h.line.is_idle(), "a stop does not wait for what cannot be done");
        h.seconds(wait - 1);
        assert!(h.to_destroy.is_empty());
        h.seconds(1);
        assert_eq!(h.to_destroy.len(), 1, "after {wait} s");
    }
    h.destroy();
    h.go_on();
    h.seconds(8000);
    assert!(h.keys.is_empty() && h.to_destroy.is_empty());
    assert_eq!(h.device("SN1").certificate.as_ref().unwrap().key, KeyState::Destroyed);
    assert_eq!(h.history("SN1").iter().filter(|it| **it == "key-destroyed").count(), 1);
    // A person may have it tried at once.
    h.pass(0, 2, "SN2");
    keep(&mut h);
    assert_eq!(h.order(Order::Retry, "SN2"), Ok(()));
    assert_eq!(h.to_destroy.len(), 1);
}

/// Its file may be there all the same, and readable later: it must not outlive what replaces it.
#[test]
fn the_file_of_a_lost_key_is_destroyed_before_it_counts_as_destroyed() {
    let mut h = Harness::ready();
    h.unit(0, unit(1, "SN1"));
    h.removed(0, 1, "SN1");
    let (lost, serial) = (h.issued[0].1, h.device("SN1").serial.clone());
    h.destroys = false;
    h.unit(0, unit(2, "SN1"));
    h.input(Input::KeyLost(serial.clone(), lost));
    assert_eq!(h.device("SN1").superseded[0].key, KeyState::Sealed);
    assert_eq!(h.to_destroy, [(serial, lost)]);
    h.crash(usize::MAX);
    assert_eq!(h.to_destroy.len(), 1, "a start finishes it");
    h.destroy();
    h.go_on();
    assert_eq!(h.device("SN1").superseded[0].key, KeyState::Destroyed);
    assert!(!h.keys.contains(&lost) && h.keys.contains(&h.issued[1].1));
}

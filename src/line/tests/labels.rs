//! Labels: one for each device that passes, on disk after `passed`, the same after a crash, a copy when asked for.

use std::time::Duration;

use super::harness::Harness;
use super::setup::{Setup, unit};
use crate::device::State;
use crate::device::event::Event;
use crate::device::operator::{Order, Refusal};
use crate::device::rules::Repeat;

fn ready() -> Harness {
    ready_with(|_| {})
}

fn ready_with(change: impl FnOnce(&mut Setup)) -> Harness {
    let mut setup = Setup { labels: Some("/labels".into()), ..Setup::default() };
    change(&mut setup);
    Harness::ready_with(setup)
}

fn written(h: &Harness) -> Vec<u32> {
    h.labelled.iter().map(|it| it.1).collect()
}

#[test]
fn a_device_that_passes_gets_its_label_and_no_other_when_it_comes_again() {
    let mut h = ready();
    h.pass(0, 1, "SN1");
    assert_eq!(h.labelled, [("SN1".to_owned(), 1)]);
    assert_eq!((h.device("SN1").labels, h.device("SN1").label_due), (1, None));
    assert_eq!(h.unit(0, unit(2, "SN1")), ["pass 2 SN1 again"]);
    assert_eq!(written(&h), [1]);
}

#[test]
fn no_label_before_the_device_has_passed_on_disk() {
    let mut h = ready();
    h.unit(0, unit(1, "SN1"));
    assert!(h.labelled.is_empty());
    h.syncs = false;
    let sha256 = h.credentials("SN1").certificate_sha256.clone();
    h.written_as(0, 1, "SN1", &sha256);
    assert!(h.labelled.is_empty(), "passed is not on disk");
    h.sync(1);
    assert_eq!(written(&h), [1]);
}

#[test]
fn after_a_crash_between_label_and_record_it_is_the_same_label_again() {
    let mut h = ready();
    h.unit(0, unit(1, "SN1"));
    h.syncs = false;
    let sha256 = h.credentials("SN1").certificate_sha256.clone();
    h.written_as(0, 1, "SN1", &sha256);
    h.sync(1);
    assert_eq!((written(&h), h.device("SN1").label_due), (vec![1], Some(1)));
    h.crash(0);
    h.syncs = true;
    h.go_on();
    assert_eq!(written(&h), [1, 1], "what was not recorded is written again, and is no copy");
    assert_eq!((h.device("SN1").labels, h.device("SN1").label_due), (1, None));
}

#[test]
fn a_directory_that_takes_no_labels_holds_up_no_unit_and_is_tried_again() {
    let mut h = ready();
    h.labels = Err("the directory /labels is not there".to_owned());
    h.pass(0, 1, "SN1");
    assert_eq!(h.state("SN1"), State::Passed);
    let told = h.line.status().degraded;
    let sentence = "1 labels wait for the directory /labels: the directory /labels is not there";
    assert!(told.contains(&sentence.to_owned()), "{told:?}");
    h.restart();
    h.labels = Ok(());
    h.seconds(90);
    assert_eq!(written(&h), [1]);
    let told = h.line.status().degraded;
    assert!(!told.iter().any(|it| it.contains("labels")), "{told:?}");
}

#[test]
fn another_identity_means_a_copy() {
    let mut h = ready_with(|it| it.rules.repeat = Repeat::Renew);
    h.pass(0, 1, "SN1");
    h.pass(0, 2, "SN1");
    assert_eq!(written(&h), [1, 2]);
}

#[test]
fn a_person_may_have_one_more_and_it_is_a_copy() {
    let mut h = ready();
    let not = |why: &str| Err(Refusal::Not(format!("SN1 {why}")));
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.order(Order::Label, "SN1"), not("has not passed: it gets its label when it does"));
    assert_eq!(h.written(0, 1, "SN1"), ["pass 1 SN1"]);
    h.restart();
    for number in 2..4 {
        assert_eq!(h.order(Order::Label, "SN1"), Ok(()));
        assert_eq!(h.device("SN1").labels, number);
    }
    assert_eq!(written(&h), [1, 2, 3]);
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    assert_eq!(h.order(Order::Label, "SN1"), not("is scrapped"));
}

#[test]
fn a_product_without_labels_owes_none_any_more() {
    let mut h = ready();
    h.labels = Err("full".to_owned());
    h.pass(0, 1, "SN1");
    assert_eq!(h.device("SN1").label_due, Some(1));
    h.setup.labels = None;
    h.restart();
    assert_eq!((h.device("SN1").labels, h.device("SN1").label_due), (0, None));
    let refused = "SN1 is of a product without labels: the configuration names no directory for them";
    assert_eq!(h.order(Order::Label, "SN1"), Err(Refusal::Not(refused.to_owned())));
    // With a directory again, the one that is asked for is the first.
    h.setup.labels = Some("/labels".into());
    h.labels = Ok(());
    h.restart();
    assert_eq!(h.order(Order::Label, "SN1"), Ok(()));
    assert_eq!(written(&h), [1]);
}

fn waiting(h: &Harness) -> Vec<String> {
    h.line.status().degraded.into_iter().filter(|it| it.contains("labels")).collect()
}

/// Two devices have passed, and their labels wait for their directory.
fn two_wait() -> Harness {
    let mut h = ready();
    h.labels = Err("full".to_owned());
    h.pass(0, 1, "SN1");
    h.pass(0, 2, "SN2");
    assert_eq!(waiting(&h), ["2 labels wait for the directory /labels: full"]);
    h
}

#[test]
fn the_label_of_a_scrapped_device_waits_for_no_directory() {
    let mut h = two_wait();
    assert_eq!(h.order(Order::Scrap, "SN2"), Ok(()));
    while h.state("SN2") != State::Scrapped {
        h.wait(Duration::from_millis(100));
    }
    assert_eq!(h.device("SN2").label_due, None);
    assert_eq!(waiting(&h), ["1 labels wait for the directory /labels: full"]);
}

#[test]
fn labels_wait_for_no_directory_that_the_configuration_does_not_name_any_more() {
    let mut h = two_wait();
    assert_eq!(h.reload(&Setup::default()), Some(Ok(())));
    h.seconds(60);
    assert_eq!([h.device("SN1").label_due, h.device("SN2").label_due], [None, None]);
    assert_eq!(waiting(&h), Vec::<String>::new());
    assert!(h.labelled.is_empty());
}

#[test]
fn a_label_is_where_it_was_sent_to_whatever_the_configuration_says_by_then() {
    let mut h = ready();
    h.unit(0, unit(1, "SN1"));
    h.syncs = false;
    let sha256 = h.credentials("SN1").certificate_sha256.clone();
    h.written_as(0, 1, "SN1", &sha256);
    // It is on its way: `passed` has yet to be on disk.
    assert_eq!((h.reload(&Setup::default()), written(&h)), (None, vec![]));
    h.syncs = true;
    h.go_on();
    assert_eq!(written(&h), [1]);
    let labelled = h.shelf.events.iter().filter_map(|(_, it)| match it {
        Event::Labelled { number, directory } => Some((*number, directory.as_deref())),
        _ => None,
    });
    assert_eq!(labelled.collect::<Vec<_>>(), [(1, Some("/labels"))]);
    let with = h.setup.clone();
    assert_eq!(h.reload(&with), Some(Ok(())));
    assert_eq!(h.order(Order::Label, "SN1"), Ok(()));
    assert_eq!(written(&h), [1, 2], "and the next is a copy");
}

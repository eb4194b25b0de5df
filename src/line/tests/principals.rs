//! Certificates of an earlier life are found on whichever page of the list they stand.

use super::account::{Account, Fault, arn};
use super::harness::Harness;
use super::setup::{DOCUMENT, STATION, unit};
use crate::cloud::{Call, CertificateStatus, FailureKind, Operation, Reply};
use crate::device::State;
use crate::device::operator::Order;
use crate::device::steps::Step;
use crate::fixture::Unit;
use crate::pki::Fingerprint;

const LIST: Operation = Operation::ListThingPrincipals;

/// What a station that lost its journal has left behind for SN1: so many certificates at its thing.
fn earlier_life(account: &mut Account, certificates: usize) -> Vec<String> {
    account.policies.insert("SN1".to_owned(), DOCUMENT.to_owned());
    let attributes = [("linemint".to_owned(), STATION.to_owned())].into();
    account.things.insert("SN1".to_owned(), attributes);
    let id = |number| Fingerprint::of(format!("earlier {number}").as_bytes()).to_string();
    let ids: Vec<String> = (0..certificates).map(id).collect();
    for id in &ids {
        account.certificates.insert(id.clone(), CertificateStatus::Active);
        account.principals.entry("SN1".to_owned()).or_default().insert(arn(id));
    }
    ids
}

fn assert_retired(h: &Harness, earlier: &[String]) {
    for id in earlier {
        assert_eq!(h.account.certificates[id], CertificateStatus::Inactive, "{id}");
    }
    h.account.assert_holds("SN1", h.issued[0].1);
}

#[test]
fn every_page_is_read() {
    for (certificates, page, pages) in [(1, 250, 1), (5, 2, 3), (6, 7, 1), (30, 4, 8)] {
        let mut h = Harness::ready();
        h.account.page = page;
        let earlier = earlier_life(&mut h.account, certificates);
        // Ours is among them by then.
        h.pass(0, 1, "SN1");
        h.seconds(60);
        assert_eq!(h.account.count(LIST), pages, "{certificates} by {page}");
        assert_retired(&h, &earlier);
    }
}

#[test]
fn a_page_that_fails_is_tried_again_from_the_first_and_nothing_is_counted_twice() {
    for kind in [FailureKind::Throttled, FailureKind::Unknown, FailureKind::NotFound] {
        let mut h = Harness::ready();
        h.account.page = 2;
        let earlier = earlier_life(&mut h.account, 7);
        h.answers = false;
        h.unit(0, unit(1, "SN1"));
        let mut left = 3;
        while let Some(at) = h.calls.iter().position(|_| true) {
            let (serial, step, call) = {
                let it = &h.calls[at];
                (it.serial.to_string(), it.step, it.call.clone())
            };
            let is_later = matches!(&call, Call::ListThingPrincipals { next_token: Some(_), .. });
            let fails = step == Step::Principals && is_later && left > 0;
            left -= i32::from(fails);
            let result = if fails { Err(crate::cloud::testing::failure(LIST, kind)) } else { h.reply(&call) };
            h.answer(&serial, step, result);
            h.seconds(10);
        }
        h.answers = true;
        h.unit(0, unit(2, "SN1"));
        h.written(0, 2, "SN1");
        h.seconds(60);
        assert_retired(&h, &earlier);
        assert_eq!(h.device("SN1").superseded.len(), 7, "{kind}");
    }
}

#[test]
fn a_crash_between_two_pages_begins_anew() {
    let mut h = Harness::ready();
    h.account.page = 2;
    let earlier = earlier_life(&mut h.account, 5);
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    while !h.calls.iter().any(|it| matches!(&it.call, Call::ListThingPrincipals { next_token: Some(_), .. }))
    {
        let it = h.calls.remove(0);
        let result = h.reply(&it.call);
        let (serial, step, generation) = (it.serial, it.step, it.generation);
        h.input(crate::line::Input::Called {
            serial,
            step,
            generation,
            result,
            waited: std::time::Duration::ZERO,
        });
    }
    h.restart();
    h.answers = true;
    h.answer_all();
    h.hear(0);
    assert_eq!(h.unit(0, unit(1, "SN1")), ["ack 1", "credentials 1 SN1"]);
    h.written(0, 1, "SN1");
    h.seconds(60);
    assert_retired(&h, &earlier);
}

#[test]
fn half_a_list_is_not_taken_for_the_whole_when_the_device_is_put_aside() {
    let mut h = Harness::ready();
    h.account.page = 2;
    let earlier = earlier_life(&mut h.account, 5);
    h.answers = false;
    h.unit(0, unit(1, "SN1"));
    while h.calls.iter().any(|it| it.step != Step::Principals) || h.calls.is_empty() {
        let at = h.calls.iter().position(|it| it.step != Step::Principals).unwrap();
        let (serial, step) = (h.calls[at].serial.to_string(), h.calls[at].step);
        let result = h.reply(&h.calls[at].call.clone());
        h.answer(&serial, step, result);
    }
    // The first page is out when the other end of the line presents a clone.
    let clone = Unit { mac: Some("aa:bb:cc:dd:ee:09".to_owned()), ..unit(2, "SN1") };
    h.unit(0, Unit { mac: Some("aa:bb:cc:dd:ee:08".to_owned()), ..unit(3, "SN1") });
    h.unit(0, clone);
    assert_eq!(h.state("SN1"), State::Quarantined);
    h.answers = true;
    h.answer_all();
    assert!(!h.device("SN1").done.principals, "two of five pages are not the list");
    assert_eq!(h.order(Order::Release, "SN1"), Ok(()));
    h.pass(0, 4, "SN1");
    h.seconds(60);
    assert_retired(&h, &earlier);
}

#[test]
fn a_list_without_an_end_is_not_read_for_ever() {
    let mut h = Harness::ready();
    earlier_life(&mut h.account, 1);
    let page = Reply::Principals { arns: Vec::new(), next: Some("more".to_owned()) };
    h.account.always.insert(LIST, Fault::Says(page));
    h.pass(0, 1, "SN1");
    h.seconds(600);
    assert_eq!(h.account.count(LIST), 100);
    assert_eq!(h.state("SN1"), State::Passed);
}

#[test]
fn a_scrapped_device_leaves_nothing_of_an_earlier_life_on_any_page() {
    let mut h = Harness::ready();
    h.account.page = 2;
    let earlier = earlier_life(&mut h.account, 5);
    h.unit(0, unit(1, "SN1"));
    assert_eq!(h.order(Order::Scrap, "SN1"), Ok(()));
    h.seconds(600);
    assert_eq!(h.state("SN1"), State::Scrapped);
    let ids: Vec<Fingerprint> = earlier.iter().map(|it| it.parse().unwrap()).collect();
    h.account.assert_holds_nothing("SN1", &ids);
}

/// The last page's answer stands for all of them, and keeps its request's number.
#[test]
fn what_all_pages_come_to_is_one_record() {
    let mut h = Harness::ready();
    h.account.page = 2;
    earlier_life(&mut h.account, 5);
    h.pass(0, 1, "SN1");
    h.seconds(60);
    let done: Vec<_> = h
        .shelf
        .events
        .iter()
        .filter_map(|(_, it)| match it {
            crate::device::event::Event::StepDone { step: Step::Principals, output, request_id, .. } => {
                Some((output.clone(), request_id.clone()))
            }
            _ => None,
        })
        .collect();
    let [(crate::device::event::Output::Principals { others, .. }, request_id)] = done.as_slice() else {
        panic!("{done:?}")
    };
    assert_eq!((others.len(), request_id.as_deref()), (5, Some("req-1")));
}

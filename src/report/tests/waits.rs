//! Where a device's time went: what it waited for counts however its presentation ended, and once.

use super::*;

fn waited(cloud: u64) -> Waited {
    Waited { cloud, quota: 0, journal: 2 }
}

fn begun(id: u64) -> (History, SerialNumber, Timestamp) {
    let (mut history, it, begin) = (History::default(), serial("SN1"), at("2026-10-24T06:00:00Z"));
    history.device(begin, &it, Event::Admitted(Box::new(admission(None, "nest-1", id))));
    (history, it, begin)
}

#[test]
fn what_was_waited_for_in_vain_is_no_work_of_the_stations() {
    let (mut history, it, begin) = begun(1);
    let (code, message, presentation_1) = (FailCode::Offline, String::new(), presentation("nest-1", 1));
    let deferred = Event::Deferred { presentation: presentation_1, code, message, waited: waited(59_000) };
    history.device(seconds(begin, 60), &it, deferred);
    history.present(seconds(begin, 100), &it, 2);
    let (presentation_2, why) = (presentation("nest-1", 2), CloseReason::NewUnit);
    let closed = Event::Closed { presentation: presentation_2, why, waited: waited(9_000) };
    history.device(seconds(begin, 110), &it, closed);
    history.present(seconds(begin, 200), &it, 3);
    history.make(seconds(begin, 200), &it, 4);
    history.waited = waited(3_000);
    history.pass(seconds(begin, 205), &it, 3);
    let spent = history.summary(&it).unwrap().unwrap().spent;
    assert_eq!(spent.waited, Waited { cloud: 71_000, quota: 0, journal: 6 });
    assert_eq!((spent.operator, spent.making, spent.fixture), (130_000, 75_000, 3_000));
}

#[test]
fn credentials_in_a_directory_end_it_too_and_nothing_counts_after_the_first_pass() {
    let (mut history, it, begin) = begun(1);
    history.make(begin, &it, 20);
    let (directory, presentation_1) = (Some("/out".to_owned()), presentation("nest-1", 1));
    let passed =
        Event::Passed { presentation: presentation_1, directory, label: false, waited: waited(18_000) };
    history.device(seconds(begin, 21), &it, passed);
    history.device(seconds(begin, 60), &it, Event::Renewed(Box::new(admission(None, "nest-1", 2))));
    let (presentation_2, why) = (presentation("nest-1", 2), CloseReason::NewUnit);
    let closed = Event::Closed { presentation: presentation_2, why, waited: waited(30_000) };
    history.device(seconds(begin, 90), &it, closed);
    let spent = history.summary(&it).unwrap().unwrap().spent;
    assert_eq!((spent.waited, spent.making), (waited(18_000), 21_000));
}

#[test]
fn what_is_waited_for_after_the_offer_is_the_fixtures_time() {
    let (mut history, it, begin) = begun(1);
    history.make(begin, &it, 20);
    let presentation = presentation("nest-1", 1);
    let offered = Event::Offered { presentation: presentation.clone(), waited: waited(18_000) };
    history.device(seconds(begin, 21), &it, offered);
    let passed = Event::Passed { presentation, directory: None, label: false, waited: waited(9_000) };
    history.device(seconds(begin, 30), &it, passed);
    let spent = history.summary(&it).unwrap().unwrap().spent;
    assert_eq!((spent.waited, spent.making, spent.fixture), (waited(18_000), 21_000, 9_000));
}

//! The store as a station uses it, and what it makes of what it finds at a start.

mod batches;
mod disk;
mod faults;
mod found;
mod newer;
mod rebuilt;
mod rework;
mod scan;

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::device::State;
use crate::device::event::{Admission, Event, Outcome, Waited};
use crate::fixture::FailCode;
use crate::journal::record::encode;
use crate::journal::{Entry, Journal as _, StationEvent, What};
use crate::pki::Fingerprint;

const AT: &str = "2026-11-21T12:00:00Z";

pub(super) fn key(id: u64) -> PresentationKey {
    PresentationKey { fixture: "nest-1".to_owned(), boot: 7, id }
}

pub(super) fn admission(id: u64) -> Event {
    Event::Admitted(Box::new(Admission::of("lamp", Fingerprint::of(b"rules"), key(id))))
}

pub(super) fn presented(id: u64) -> Event {
    Event::Presented { presentation: key(id), nest: None, mac: None, anew: None, attributes: BTreeMap::new() }
}

/// A device's events from `first` on, as entries.
pub(super) fn entries(serial: &str, first: u64, events: &[Event]) -> Vec<Entry> {
    let serial = SerialNumber::parse(serial).unwrap();
    let at = AT.parse().unwrap();
    let mut device: Option<Device> = None;
    let mut made = Vec::new();
    for (seq, event) in (first..).zip(events) {
        let before = device.as_ref().map(|it| it.state);
        let now = match device.take() {
            None => Device::admit(&serial, seq, at, event).unwrap(),
            Some(mut now) => {
                now.apply(seq, at, event).unwrap();
                now
            }
        };
        let record = Record { seq, at, serial: Some(serial.clone()), what: What::Device(event.clone()) };
        made.push(Entry { record, device: Some((Box::new(now.clone()), before)) });
        device = Some(now);
    }
    made
}

pub(super) fn station(seq: u64, event: StationEvent) -> Entry {
    let record = Record { seq, at: AT.parse().unwrap(), serial: None, what: What::Station(event) };
    Entry { record, device: None }
}

fn open_in(dir: &Path) -> Result<Opened, JournalError> {
    open(JournalLock::take(dir)?)
}

pub(super) fn quarantine(id: u64) -> Event {
    let (presentation, message) = (Some(key(id)), "why".to_owned());
    Event::Quarantined { presentation, code: FailCode::Rejected, message, waited: Waited::default() }
}

/// Else a clock that is wrong would be right at the next start, by the records that it has stamped.
#[test]
fn the_latest_time_of_all_records_is_found_though_the_newest_bears_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    assert_eq!(opened.recovered.at, None);
    let mut early = station(2, StationEvent::Stopped);
    early.record.at = "1970-01-01T00:01:00Z".parse().unwrap();
    opened.writer.commit(vec![station(1, StationEvent::LineResumed)]).unwrap();
    opened.writer.commit(vec![early]).unwrap();
    drop(opened);
    let latest = Some(AT.parse().unwrap());
    assert_eq!(open_in(dir.path()).unwrap().recovered.at, latest);
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    assert_eq!(open_in(dir.path()).unwrap().recovered.at, latest, "also when the index is made again");
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    assert_eq!(opened.recovered.seq, 0);
    let id = opened.id.clone();
    opened.writer.commit(entries("A1", 1, &[admission(1)])).unwrap();
    opened.writer.commit(entries("B2", 2, &[admission(2), quarantine(2)])).unwrap();
    let boot = StationEvent::FixtureReset { fixture: "other".to_owned(), boot: 9 };
    let policy = StationEvent::PolicyReady { name: "p".to_owned() };
    let arn = Some("arn:l".to_owned());
    let locker = StationEvent::LockerReady { name: "B 1".to_owned(), id: "l1".to_owned(), arn: arn.clone() };
    opened.writer.commit(vec![station(4, boot), station(5, policy), station(6, locker)]).unwrap();
    drop(opened);

    let Opened { store, recovered, id: again, .. } = open_in(dir.path()).unwrap();
    assert_eq!(again, id);
    assert_eq!(recovered.seq, 6);
    assert_eq!(
        recovered.lockers,
        BTreeMap::from([("B 1".to_owned(), crate::journal::SharedLocker { id: "l1".to_owned(), arn })])
    );
    assert_eq!(recovered.pending.iter().map(|it| it.serial.as_str()).collect::<Vec<_>>(), ["A1"]);
    assert_eq!(recovered.counts[&State::Admitted], 1);
    assert_eq!(recovered.counts[&State::Quarantined], 1);
    assert_eq!(recovered.policies, ["p"]);
    assert_eq!(recovered.boots["other"], 9);
    let b2 = SerialNumber::parse("B2").unwrap();
    assert_eq!(store.device(&b2).unwrap().unwrap().state, State::Quarantined);
    assert_eq!(store.history(&b2, 10).unwrap().iter().map(|it| it.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(store.history(&b2, 1).unwrap()[0].seq, 3);
    assert_eq!(store.events(1, 2).unwrap().iter().map(|it| it.seq).collect::<Vec<_>>(), [2, 3]);
    let known = store.presentation(&key(2)).unwrap().unwrap();
    assert_eq!(known.outcome, Some(Outcome::failed(FailCode::Rejected, "why")));
    assert_eq!(store.presentation(&key(1)).unwrap().unwrap().outcome, None);
}

#[test]
fn a_serial_that_begins_with_another_has_a_history_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    opened.writer.commit(entries("A1", 1, &[admission(1)])).unwrap();
    opened.writer.commit(entries("A12", 2, &[admission(2)])).unwrap();
    let history = opened.store.history(&SerialNumber::parse("A1").unwrap(), 10).unwrap();
    assert_eq!(history.iter().map(|it| it.seq).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_fixtures_reset_forgets_its_earlier_presentations_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    opened.writer.commit(entries("A1", 1, &[admission(1)])).unwrap();
    let other = StationEvent::FixtureReset { fixture: "nest-10".to_owned(), boot: 1 };
    opened.writer.commit(vec![station(2, other)]).unwrap();
    assert!(opened.store.presentation(&key(1)).unwrap().is_some());
    let reset = StationEvent::FixtureReset { fixture: "nest-1".to_owned(), boot: 8 };
    opened.writer.commit(vec![station(3, reset)]).unwrap();
    assert!(opened.store.presentation(&key(1)).unwrap().is_none());
}

#[test]
fn a_second_instance_is_refused_and_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open_in(dir.path()).unwrap();
    let error = open_in(dir.path()).unwrap_err();
    assert!(matches!(&error, JournalError::Held { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(opened);
    open_in(dir.path()).unwrap();
}

#[test]
fn records_are_read_from_the_log_across_its_files_and_no_further_than_committed() {
    let dir = tempfile::tempdir().unwrap();
    let lock = JournalLock::take(dir.path()).unwrap();
    let disk = Box::<crate::journal::log::disk::SystemDisk>::default();
    let mut opened = open::open_on(lock, disk, 2000).unwrap();
    for n in 1..=7 {
        opened.writer.commit(entries(&format!("S{}", n % 7), n, &[admission(n)])).unwrap();
    }
    for n in 8..=120 {
        let again = entries(&format!("S{}", n % 7), n - 1, &[admission(n - 1), presented(n)]);
        opened.writer.commit(again[1..].to_vec()).unwrap();
    }
    for after in [0, 1, 59, 118, 119] {
        let seqs: Vec<_> = opened.store.events(after, 1000).unwrap().iter().map(|it| it.seq).collect();
        assert_eq!(seqs, (after + 1..=120).collect::<Vec<_>>());
        let next = opened.store.events(after, 1).unwrap();
        assert_eq!(next[0].seq, after + 1);
    }
    assert!(opened.store.events(120, 10).unwrap().is_empty());
    assert!(opened.store.events(u64::MAX, 10).unwrap().is_empty());
    let s3 = SerialNumber::parse("S3").unwrap();
    let seqs: Vec<_> = opened.store.history(&s3, 3).unwrap().iter().map(|it| it.seq).collect();
    assert_eq!(seqs, [101, 108, 115]);
    assert_eq!(opened.store.history(&s3, 1000).unwrap().len(), 17);
}

#[test]
fn a_long_history_is_kept_whole_in_rows_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    let trouble = |attempt| Event::Trouble {
        step: crate::device::steps::Step::Thing,
        message: "slow".to_owned(),
        attempt,
        request_id: None,
    };
    let events: Vec<_> = std::iter::once(admission(1)).chain((1..200).map(trouble)).collect();
    let all = entries("A1", 1, &events);
    opened.writer.commit(all[..150].to_vec()).unwrap();
    drop(opened);
    let mut opened = open_in(dir.path()).unwrap();
    opened.writer.commit(all[150..].to_vec()).unwrap();
    let a1 = SerialNumber::parse("A1").unwrap();
    let history: Vec<_> = opened.store.history(&a1, 1000).unwrap().iter().map(|it| it.seq).collect();
    assert_eq!(history, (1..=200).collect::<Vec<_>>());
}

#[test]
fn a_history_without_end_keeps_its_newest_records_and_does_not_fill_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    let trouble = |attempt| Event::Trouble {
        step: crate::device::steps::Step::Thing,
        message: "slow".to_owned(),
        attempt,
        request_id: None,
    };
    let events: Vec<_> = std::iter::once(admission(1)).chain((1..2000).map(trouble)).collect();
    for some in entries("A1", 1, &events).chunks(100) {
        opened.writer.commit(some.to_vec()).unwrap();
    }
    let a1 = SerialNumber::parse("A1").unwrap();
    let history: Vec<_> = opened.store.history(&a1, 3000).unwrap().iter().map(|it| it.seq).collect();
    assert!((1024..=1600).contains(&history.len()), "{}", history.len());
    assert_eq!(history, (2001 - history.len() as u64..=2000).collect::<Vec<_>>());
    assert_eq!(opened.store.events(0, 3000).unwrap().len(), 2000, "the log has them all");
}

#[test]
fn a_device_of_any_length_takes_no_row_longer_than_sled_keeps_safe() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    let arns = |count: u64| {
        let arn =
            |n: u64| format!("arn:aws:iot:eu-west-1:123456789012:cert/{}", Fingerprint::of(&n.to_be_bytes()));
        (0..count).map(arn).collect()
    };
    let met = |count| Event::StepDone {
        step: crate::device::steps::Step::Principals,
        output: crate::device::event::Output::Principals {
            others: arns(count),
            policy: Some("p".repeat(120)),
        },
        adopted: false,
        request_id: None,
    };
    let events: Vec<_> = std::iter::once(admission(1)).chain([1, 10, 100, 1000].map(met)).collect();
    let all = entries("A1", 1, &events);
    let a1 = SerialNumber::parse("A1").unwrap();
    for entry in &all {
        opened.writer.commit(vec![entry.clone()]).unwrap();
        let (device, _) = entry.device.as_ref().unwrap();
        let listed = opened.store.devices(None, 10, |_| true).unwrap();
        assert_eq!(listed, [(**device).clone()]);
        assert_eq!(opened.store.stored(&a1).unwrap().as_ref(), Some(&**device), "from the index");
        for row in opened.store.db.iter() {
            let (row, value) = row.unwrap();
            assert!(value.len() <= device_row::MAX_VALUE, "{row:?}: {} bytes", value.len());
        }
    }
    let pieces = opened.store.db.scan_prefix(super::key(b'x', "A1")).map(Result::unwrap);
    let of: Vec<_> = pieces.map(|(key, _)| key[..key.len() - 4].to_vec()).collect();
    assert!(of.len() > 10 && of.iter().all(|it| *it == of[0]), "something is left of an earlier state");
    drop(opened);
    let opened = open_in(dir.path()).unwrap();
    assert_eq!(opened.recovered.pending, [(*all[4].device.as_ref().unwrap().0).clone()]);
}

#[test]
fn a_lock_of_sleds_that_is_on_its_way_out_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_in(dir.path()).unwrap());
    let db = index::open_sled(&dir.path().join("sled")).unwrap();
    let path = dir.path().to_owned();
    let opening = std::thread::spawn(move || open_in(&path).map(|it| it.recovered.seq));
    drop(db);
    assert_eq!(opening.join().unwrap().unwrap(), 0);
    assert!(!dir.path().join("sled.damaged-1").exists(), "a healthy index was set aside");
}

#[test]
fn an_index_with_segments_of_another_size_is_opened_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sled");
    for size in [128 << 10, 512 << 10] {
        let path = path.join(format!("{size}"));
        let config = sled::Config::default().path(&path).segment_size(size).flush_every_ms(None);
        let earlier = config.open().unwrap();
        earlier.insert("row", "kept").unwrap();
        drop(earlier);
        let db = index::open_sled(&path).unwrap();
        assert_eq!(db.get("row").unwrap().as_deref(), Some(b"kept".as_slice()), "{size}");
    }
}

#[test]
fn the_first_record_of_a_time_is_found_by_halves() {
    let dir = tempfile::tempdir().unwrap();
    let at = |second: i64| jiff::Timestamp::from_second(1_790_000_000 + second).unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    let what = What::Station(StationEvent::LineResumed);
    // Three records each ten seconds.
    let entries = (1..=90_u64).map(|seq| {
        let at = at(i64::try_from((seq - 1) / 3 * 10).unwrap());
        Entry { record: Record { seq, at, serial: None, what: what.clone() }, device: None }
    });
    opened.writer.commit(entries.collect()).unwrap();
    for (begin, first) in [(-5, 1), (0, 1), (1, 4), (10, 4), (289, 88), (290, 88), (291, 91)] {
        assert_eq!(opened.store.first_since(at(begin), 90).unwrap(), first, "{begin}");
    }
    assert_eq!(opened.store.first_since(at(0), 0).unwrap(), 1);
}

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::device::event::{Admission, Event, Outcome};
use crate::fixture::FailCode;
use crate::pki::Fingerprint;

const AT: &str = "2026-11-21T12:00:00Z";

fn key(id: u64) -> PresentationKey {
    PresentationKey { fixture: "nest-1".to_owned(), boot: 7, id }
}

fn admission(id: u64) -> Event {
    Event::Admitted(Box::new(Admission {
        product: "lamp".to_owned(),
        rules: Fingerprint::of(b"rules"),
        batch: None,
        presentation: key(id),
        nest: None,
        mac: None,
        device_key: None,
        attributes: BTreeMap::new(),
        replaces_policy: None,
    }))
}

/// A device's events from `first` on, as entries.
fn entries(serial: &str, first: u64, events: &[Event]) -> Vec<Entry> {
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

fn station(seq: u64, event: StationEvent) -> Entry {
    let record = Record { seq, at: AT.parse().unwrap(), serial: None, what: What::Station(event) };
    Entry { record, device: None }
}

fn open_in(dir: &Path) -> Result<Opened, JournalError> {
    open(JournalLock::take(dir)?)
}

fn quarantine(id: u64) -> Event {
    Event::Quarantined { presentation: Some(key(id)), code: FailCode::Rejected, message: "why".to_owned() }
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    assert_eq!(opened.recovered.seq, 0);
    let id = opened.id.clone();
    opened.writer.commit(&entries("A1", 1, &[admission(1)])).unwrap();
    opened.writer.commit(&entries("B2", 2, &[admission(2), quarantine(2)])).unwrap();
    let boot = StationEvent::FixtureReset { fixture: "other".to_owned(), boot: 9 };
    let policy = StationEvent::PolicyReady { name: "p".to_owned() };
    opened.writer.commit(&[station(4, boot), station(5, policy)]).unwrap();
    drop(opened);

    let Opened { store, recovered, id: again, .. } = open_in(dir.path()).unwrap();
    assert_eq!(again, id);
    assert_eq!(recovered.seq, 5);
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
    opened.writer.commit(&entries("A1", 1, &[admission(1)])).unwrap();
    opened.writer.commit(&entries("A12", 2, &[admission(2)])).unwrap();
    let history = opened.store.history(&SerialNumber::parse("A1").unwrap(), 10).unwrap();
    assert_eq!(history.iter().map(|it| it.seq).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_fixtures_reset_forgets_its_earlier_presentations_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    opened.writer.commit(&entries("A1", 1, &[admission(1)])).unwrap();
    let other = StationEvent::FixtureReset { fixture: "nest-10".to_owned(), boot: 1 };
    opened.writer.commit(&[station(2, other)]).unwrap();
    assert!(opened.store.presentation(&key(1)).unwrap().is_some());
    let reset = StationEvent::FixtureReset { fixture: "nest-1".to_owned(), boot: 8 };
    opened.writer.commit(&[station(3, reset)]).unwrap();
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
fn a_journal_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_in(dir.path()).unwrap());
    let db = sled::open(dir.path().join("sled")).unwrap();
    db.insert(super::key(b'm', "format"), encode(&(FORMAT + 1)).unwrap()).unwrap();
    drop(db);
    assert!(matches!(open_in(dir.path()), Err(JournalError::Newer { found, .. }) if found == FORMAT + 1));
}

#[test]
fn somebody_elses_sled_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = sled::open(dir.path().join("sled")).unwrap();
    db.insert("theirs", "value").unwrap();
    drop(db);
    assert!(matches!(open_in(dir.path()), Err(JournalError::Foreign { .. })));
}

#[test]
fn a_damaged_database_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    for n in 0..200 {
        opened.writer.commit(&entries(&format!("S{n}"), n + 1, &[admission(n + 1)])).unwrap();
    }
    drop(opened);
    for file in std::fs::read_dir(dir.path().join("sled")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("snap")) {
            std::fs::remove_file(path).unwrap();
        }
    }
    let path = dir.path().join("sled/db");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle..middle + 4096].fill(0xA5);
    let mut file = File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let opened = open_in(dir.path());
    // Whether sled notices or only loses: never a panic, and what is read is never wrong.
    match opened {
        Err(JournalError::Damaged { .. } | JournalError::Foreign { .. } | JournalError::Store { .. }) => {}
        Err(other) => panic!("{other}"),
        Ok(opened) => assert!(opened.recovered.seq <= 200),
    }
}

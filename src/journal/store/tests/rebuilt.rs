//! The fold of the log gives what the station had: whatever its history was, wherever it stopped.

use proptest::prelude::*;

use super::*;
use crate::device::event::{CloseReason, Output, Waited};
use crate::device::mend::Orphan;
use crate::device::operator::Operator;
use crate::device::steps::Step;
use crate::device::{Certificate, Device, KeyState};
use crate::journal::Journal as _;

/// A step of a history: which device, what happens, whether a commit ends here.
type Move = (u8, u8, bool);

fn certificate(seq: u64) -> Certificate {
    Certificate {
        fingerprint: Fingerprint::of(&seq.to_be_bytes()),
        der: vec![7; 40],
        serial_number: "01".to_owned(),
        not_after: "2036-11-21T12:00:00Z".parse().unwrap(),
        key: KeyState::Sealed,
        arn: None,
        public_key: None,
        issuer: None,
    }
}

fn done(step: Step, output: Output) -> Event {
    Event::StepDone { step, output, adopted: false, request_id: None }
}

fn event(which: u8, seq: u64, device: Option<&Device>) -> Event {
    let presentation = device.map_or_else(|| key(seq), |it| it.presentation.key.clone());
    let message = "why".to_owned();
    let Event::Admitted(admission) = admission(seq) else { unreachable!() };
    let fingerprint = device.and_then(Device::fingerprint).unwrap_or_else(|| Fingerprint::of(b"none"));
    let by = Operator { uid: 0, name: "root".to_owned(), reason: "why".to_owned() };
    match which % 27 {
        0 => Event::Admitted(admission),
        1 => Event::Presented {
            presentation: key(seq),
            nest: None,
            mac: None,
            anew: None,
            attributes: [("lot".to_owned(), seq.to_string())].into(),
        },
        2 => Event::Repeated { presentation: key(seq), nest: None, attributes: Default::default() },
        3 => Event::Renewed(admission),
        4 => Event::Issued { certificate: certificate(seq) },
        5 => done(Step::Locker, Output::Locker { id: "l".to_owned(), arn: None, others: Vec::new() }),
        6 => done(Step::Certificate, Output::Certificate { arn: "a".to_owned() }),
        7 => done(Step::Thing, Output::Nothing),
        8 => done(Step::Deactivate, Output::Nothing),
        9 => Event::Offered { presentation, waited: Waited::default() },
        10 => Event::Passed { presentation, directory: None, label: false, waited: Waited::default() },
        11 => Event::Failed { presentation, code: FailCode::Rejected, message },
        12 => Event::Closed { presentation, why: CloseReason::NewUnit, waited: Waited::default() },
        13 => Event::KeyDestroyed { fingerprint },
        14 => Event::KeyLost { fingerprint, policy: None },
        15 => Event::KeyExpired { fingerprint, policy: None, message },
        16 => Event::Retried { by },
        17 => Event::Released { by },
        18 => Event::Scrapping {
            presentation: Some(presentation),
            by,
            policy: None,
            message,
            asked: false,
            managed_thing: false,
        },
        19 => done(Step::DeleteCertificate, Output::Nothing),
        20 => done(Step::DeleteThing, Output::Left),
        21 => done(Step::DeletePolicy, Output::Nothing),
        22 => done(Step::DeleteLocker, Output::Nothing),
        23 if device.is_some_and(Device::is_scrapping) => Event::Scrapped,
        24 => Event::Mending { by, steps: vec![Step::Locker, Step::Certificate], der: b"der".to_vec() },
        25 => Event::MendFailed { step: Step::Locker, message },
        26 => {
            let (policy, thing) = (Some("policy".to_owned()), None);
            let fingerprint = Fingerprint::of(&seq.to_be_bytes());
            let orphan = Orphan { fingerprint, public_key: fingerprint, arn: "a".to_owned(), policy, thing };
            Event::OrphanFound { by, orphan: Box::new(orphan) }
        }
        _ => {
            let (presentation, waited) = (Some(presentation), Waited::default());
            Event::Quarantined { presentation, code: FailCode::Rejected, message, waited }
        }
    }
}

/// The commits of a history: of the moves, those that may happen.
fn history(moves: &[Move]) -> Vec<Vec<Entry>> {
    let mut devices: BTreeMap<u8, Device> = BTreeMap::new();
    let mut commits = vec![Vec::new()];
    let mut seq = 0;
    for (number, which, ends) in moves {
        let next = seq + 1;
        let at = AT.parse().unwrap();
        let entry = if *number == 0 {
            station(next, station_event(*which, next))
        } else {
            let before = devices.get(number);
            let event = event(*which, next, before);
            let serial = SerialNumber::parse(&format!("D{number}")).unwrap();
            let after = match before.cloned() {
                None => Device::admit(&serial, next, at, &event),
                Some(mut device) => device.apply(next, at, &event).map(|()| device),
            };
            let Ok(after) = after else { continue };
            let state = before.map(|it| it.state);
            devices.insert(*number, after.clone());
            let record = Record { seq: next, at, serial: Some(serial), what: What::Device(event) };
            Entry { record, device: Some((Box::new(after), state)) }
        };
        seq = next;
        commits.last_mut().unwrap().push(entry);
        if *ends {
            commits.push(Vec::new());
        }
    }
    commits
}

fn station_event(which: u8, seq: u64) -> StationEvent {
    let name = format!("p{}", which % 2);
    match which % 5 {
        0 => StationEvent::PolicyReady { name },
        1 => StationEvent::PolicyLost { name },
        2 => StationEvent::FixtureReset { fixture: "nest-1".to_owned(), boot: seq },
        3 => StationEvent::LockerReady { name, id: seq.to_string(), arn: None },
        _ => StationEvent::LineResumed,
    }
}

/// All rows of an index, but for the note of what was synced.
fn rows(dir: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let index = index::Index::open(&dir.join("sled")).unwrap();
    let rows = index.db.iter().map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap());
    rows.filter(|(row, _)| row != b"msynced").collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn an_index_made_from_the_log_is_the_one_that_was_lost(
        moves in proptest::collection::vec((0..6_u8, any::<u8>(), proptest::bool::weighted(0.4)), 1..250),
        restart in any::<proptest::sample::Index>(),
    ) {
        let commits = history(&moves);
        let restart = restart.index(commits.len());
        let dir = tempfile::tempdir().unwrap();
        let begin = |dir: &Path| {
            let disk = Box::<crate::journal::log::disk::SystemDisk>::default();
            open::open_on(JournalLock::take(dir).unwrap(), disk, 6000).unwrap()
        };
        let mut opened = begin(dir.path());
        for (number, commit) in commits.iter().enumerate() {
            if number == restart {
                drop(opened);
                opened = begin(dir.path());
            }
            opened.writer.commit(commit.clone()).unwrap();
        }
        drop(opened);
        let original = rows(dir.path());
        std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
        drop(begin(dir.path()));
        prop_assert_eq!(rows(dir.path()), original);
    }
}

//! What a report reads of the index: the rows of the time, and no more memory than the cache may have.

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::clock::{SystemClock, TimeSource as _};
use crate::report::slot::Slot;
use crate::report::source::Source as _;
use crate::report::summary::Summary;

/// Devices of the large journal.
const DEVICES: u64 = 40_000;

/// What scans of them may add to what is resident, KiB: it is 4,900, and is 28,500 with sled's ranges alone.
const MOST_KIB: u64 = 14 << 10;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn all(store: &Store) -> Vec<Summary> {
    let mut all = Vec::new();
    let mut take = |it| {
        all.push(it);
        ControlFlow::Continue(())
    };
    store.summaries(Timestamp::UNIX_EPOCH, Timestamp::MAX, &mut take).unwrap();
    all
}

/// Says to the process of the test that it is the one that scans, and where.
const SCANS: &str = "LINEMINT_TEST_SCANS";

fn fill(dir: &Path) {
    let mut opened = open_in(dir).unwrap();
    let Event::Admitted(model) = admission(1) else { unreachable!() };
    for first in (1..=DEVICES).step_by(2_000) {
        let mut commit = Vec::new();
        for number in first..first + 2_000 {
            let mut it = model.clone();
            it.presentation.id = number;
            it.attributes = BTreeMap::from([("lot".to_owned(), "L".repeat(300))]);
            // What is not finished is read at the start.
            let events = [Event::Admitted(it), quarantine(number)];
            commit.extend(entries(&format!("TH{number:012}"), 2 * number - 1, &events));
        }
        opened.writer.commit(commit).unwrap();
    }
}

/// What is resident before a scan, and at most in two of them; and how long the second one took.
fn scan(dir: &Path) -> (u64, u64, Duration) {
    let store = open_in(dir).unwrap().store;
    let (before, clock) = (resident_kib(), SystemClock::default());
    let (mut most, mut took) = (before, Duration::ZERO);
    for _ in 0..2 {
        let (mut count, began) = (0, clock.now().mono);
        let mut take = |_| {
            count += 1;
            if count % 1_000 == 0 {
                most = most.max(resident_kib());
            }
            ControlFlow::Continue(())
        };
        store.summaries(Timestamp::UNIX_EPOCH, Timestamp::MAX, &mut take).unwrap();
        took = clock.now().mono.saturating_sub(began);
        assert_eq!(count, DEVICES);
    }
    (before, most, took)
}

/// Reports of a large shift took as much memory as the shift has rows: see `scan`.
#[test]
fn a_scan_of_many_rows_stays_within_the_cache() {
    // What has made the journal has much resident already.
    if let Some(dir) = std::env::var_os(SCANS) {
        assert!(crate::os::keep_little());
        let (before, most, took) = scan(Path::new(&dir));
        eprintln!("{DEVICES} rows in {took:?}: {before} KiB resident before, {most} KiB at most");
        assert!(most < before + MOST_KIB, "{before} KiB before, {most} KiB at most");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let name = "journal::store::tests::scan::a_scan_of_many_rows_stays_within_the_cache";
    let mut other = std::process::Command::new(std::env::current_exe().unwrap());
    other.args(["--exact", name, "--nocapture"]).env(SCANS, dir.path());
    assert!(other.status().unwrap().success());
}

/// Else the batch and its report would not say the same.
#[test]
fn a_batch_counts_a_device_from_its_first_presentation_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    let (id, by_whom) = (crate::batch::BatchId::parse("WO-1").unwrap(), by());
    let (product, strict, fixtures, expected) = ("lamp".to_owned(), true, Vec::new(), 2);
    let terms = crate::batch::Terms { batch: id.clone(), product, strict, fixtures, expected };
    let serials = ["A1", "B2"].map(|it| SerialNumber::parse(it).unwrap()).to_vec();
    let begun = StationEvent::BatchOpening { batch: id.clone(), product: "lamp".to_owned() };
    let batch = crate::journal::Opened { terms, list: Some(1), by: by_whom };
    opened.writer.commit(vec![station(1, begun)]).unwrap();
    opened.writer.commit(vec![station(2, StationEvent::BatchSerials { list: 1, serials })]).unwrap();
    opened.writer.commit(vec![station(3, StationEvent::BatchOpened(Box::new(batch)))]).unwrap();
    let Event::Admitted(mut claimed) = admission(0) else { unreachable!() };
    claimed.batch = Some("WO-1".to_owned());
    let released = Event::Released { by: by() };
    let again = presented(9);
    let mut all = entries("A1", 4, &[Event::Admitted(claimed), quarantine(0), released, again]);
    let came = all.split_off(3);
    let counted = |store: &Store| {
        let batch = store.find_batch(&id).unwrap().unwrap();
        let missing = store.listed(&batch, None, 10, |it| !it.here).unwrap().found;
        (batch.tally.on_list(), missing.len())
    };
    opened.writer.commit(all).unwrap();
    assert_eq!(counted(&opened.store), (0, 2), "it is on the list, and never came");
    drop(opened);
    let mut opened = open_in(dir.path()).unwrap();
    assert_eq!(counted(&opened.store), (0, 2));
    assert!(!dir.path().join("sled.damaged-1").exists(), "the index is as it was");
    opened.writer.commit(came).unwrap();
    assert_eq!(counted(&opened.store), (1, 1));
    drop(opened);
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    assert_eq!(counted(&open_in(dir.path()).unwrap().store), (1, 1));
}

/// A device that a fixture has claimed before it was presented, or that came in only to be deleted.
#[test]
fn a_device_is_found_by_its_first_presentation_and_counted_in_that_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    let Event::Admitted(model) = admission(0) else { unreachable!() };
    let claimed = entries("A1", 1, &[Event::Admitted(model), quarantine(0), Event::Released { by: by() }]);
    let later = at("2026-11-22T08:00:00Z");
    let mut device = (**claimed[2].device.as_ref().map(|(it, _)| it).unwrap()).clone();
    let slots = |store: &Store, begin: &str, end: &str| {
        let Slot { admitted, failed, .. } = store.slots(at(begin), at(end), later).unwrap();
        (admitted, failed)
    };
    opened.writer.commit(claimed).unwrap();
    let absent = all(&opened.store);
    assert_eq!((absent.len(), absent[0].first, absent[0].was_presented()), (1, at(AT), false));
    assert_eq!(slots(&opened.store, "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z"), (0, 0));

    let again = presented(9);
    let before = device.state;
    device.apply(4, later, &again).unwrap();
    let record = Record { seq: 4, at: later, serial: Some(device.serial.clone()), what: What::Device(again) };
    opened.writer.commit(vec![Entry { record, device: Some((Box::new(device), Some(before))) }]).unwrap();
    let check = |store: &Store| {
        let present = all(store);
        assert_eq!((present.len(), present[0].first, present[0].presentations), (1, later, 1), "{present:?}");
        assert_eq!(slots(store, "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"), (0, 0));
        assert_eq!(slots(store, "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"), (1, 0));
    };
    check(&opened.store);
    drop(opened);
    check(&open_in(dir.path()).unwrap().store);
    // A power cut may take from sled single rows that were written since its last sync: the removal of the row at the
    // earlier place, or what the slot of the presentation counts.
    for (times, lost) in [(1, b't'), (2, b'q')] {
        {
            let db = index::open_sled(&dir.path().join("sled")).unwrap();
            let id: String = index::read(&db, dir.path(), b"mid").unwrap().unwrap();
            let (row, value) = db.scan_prefix([lost]).next_back().unwrap().unwrap();
            if lost == b't' {
                let before = crate::journal::record::encode(&absent[0]).unwrap();
                let place = (at(AT).as_millisecond().cast_unsigned() ^ (1 << 63)).to_be_bytes();
                let earlier = [&b"t"[..], &place, b"A1"].concat();
                assert_ne!(earlier, row.to_vec());
                db.insert(earlier, before).unwrap();
            } else {
                let mut slot: Slot = crate::journal::record::decode(&value).unwrap();
                assert_eq!((slot.admitted, slot.seq), (1, 4));
                (slot.admitted, slot.seq) = (0, 0);
                db.insert(row, crate::journal::record::encode(&slot).unwrap()).unwrap();
            }
            let nothing = crate::journal::log::Position::genesis(&id);
            db.insert(b"msynced", crate::journal::record::encode(&nothing).unwrap()).unwrap();
            db.flush().unwrap();
        }
        check(&open_in(dir.path()).unwrap().store);
        assert!(dir.path().join(format!("sled.damaged-{times}")).exists(), "{}", char::from(lost));
    }
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    check(&open_in(dir.path()).unwrap().store);
}

fn by() -> crate::device::operator::Operator {
    crate::device::operator::Operator { uid: 0, name: "root".to_owned(), reason: "why".to_owned() }
}

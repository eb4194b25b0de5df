//! Batches and their lists: what the index says of them, whatever became of it.

use super::*;
use crate::batch::{BatchId, Terms, pieces};
use crate::device::operator::Operator;
use crate::journal::book::Book;
use crate::journal::{Journal as _, Opened as OpenedBatch};
use crate::report::fold::make;
use crate::report::selection::Selection;
use crate::report::tests as reports;

fn id(text: &str) -> BatchId {
    BatchId::parse(text).unwrap()
}

fn by() -> Operator {
    Operator { uid: 0, name: "root".to_owned(), reason: "as planned".to_owned() }
}

fn serial(number: u64) -> SerialNumber {
    SerialNumber::parse(&format!("SN{number:07}")).unwrap()
}

fn opened(batch: &str, list: Option<u64>, expected: u64) -> StationEvent {
    let product = "lamp".to_owned();
    let terms = Terms { batch: id(batch), product, strict: list.is_some(), fixtures: Vec::new(), expected };
    StationEvent::BatchOpened(Box::new(OpenedBatch { terms, list, by: by() }))
}

fn opening(batch: &str) -> StationEvent {
    StationEvent::BatchOpening { batch: id(batch), product: "lamp".to_owned() }
}

/// A journal that is written record by record, and what its records make in memory.
struct Written {
    opened: Opened,
    seq: u64,
    book: Book,
}

impl Written {
    fn begin(dir: &Path) -> Self {
        Self { opened: open_in(dir).unwrap(), seq: 0, book: Book::default() }
    }

    fn commit(&mut self, entries: Vec<Entry>) {
        for entry in &entries {
            self.seq = entry.record.seq;
            let device = entry.device.as_ref().map(|(device, before)| (&**device, *before));
            self.book.take(&entry.record, device);
        }
        self.opened.writer.commit(entries).unwrap();
    }

    fn happens(&mut self, event: StationEvent) {
        self.commit(vec![station(self.seq + 1, event)]);
    }

    /// A list of every second number below `twice`, in the number of records that the line would make.
    fn list(&mut self, batch: &str, twice: u64) -> u64 {
        self.happens(opening(batch));
        let list = self.seq;
        let all = (0..twice).step_by(2).map(serial).collect();
        for serials in pieces(all) {
            self.happens(StationEvent::BatchSerials { list, serials });
        }
        list
    }

    fn device(&mut self, serial: &str, batch: &str, extra: bool, quarantined: bool) {
        let seq = self.seq + 1;
        let Event::Admitted(mut admission) = admission(seq) else { unreachable!() };
        (admission.batch, admission.extra) = (Some(batch.to_owned()), extra);
        let mut events = vec![Event::Admitted(admission)];
        events.extend(quarantined.then(|| quarantine(seq)));
        self.commit(entries(serial, seq, &events));
    }

    /// A device that was admitted without a batch, and came into one when it was presented once more.
    fn late_device(&mut self, serial: &str, batch: &str) {
        let seq = self.seq + 1;
        let Event::Admitted(mut anew) = admission(seq + 1) else { unreachable!() };
        anew.batch = Some(batch.to_owned());
        let presentation = anew.presentation.clone();
        let again = Event::Presented {
            presentation,
            nest: None,
            mac: None,
            anew: Some(anew),
            attributes: std::collections::BTreeMap::new(),
        };
        self.commit(entries(serial, seq, &[admission(seq), again]));
    }

    /// What the index says is what the records make.
    fn check(&self) {
        let store = &self.opened.store;
        let batches = store.batches(None, usize::MAX, |_| true).unwrap();
        assert_eq!(batches, self.book.batches.values().cloned().collect::<Vec<_>>());
        for batch in &batches {
            assert_eq!(store.find_batch(batch.id()).unwrap().as_ref(), Some(batch));
            assert_eq!(store.batch(batch.id(), self.seq).unwrap().as_ref(), Some(batch));
            let expected: Vec<SerialNumber> =
                batch.list.map(|it| self.book.lists[&it].iter().cloned().collect()).unwrap_or_default();
            for limit in [7, 700] {
                let (mut all, mut after) = (Vec::new(), None);
                loop {
                    let page = store.listed(batch, after.as_ref(), limit, |_| true).unwrap();
                    all.extend(page.found.iter().map(|it| it.serial.clone()));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(all, expected, "{}", batch.id());
            }
        }
    }
}

/// A batch with a long list, one that was given up, and one without a list; devices of both.
fn written(dir: &Path) -> Written {
    let mut it = Written::begin(dir);
    let dropped = it.list("WO-0", 3_000);
    it.happens(StationEvent::BatchDropped { batch: id("WO-0"), list: dropped });
    let list = it.list("WO-1", 5_000);
    it.happens(opened("WO-1", Some(list), 2_500));
    it.happens(opened("WO-2", None, 9));
    it.device("SN0000000", "WO-1", false, false);
    it.device("SN0000002", "WO-1", false, true);
    it.device("SN0000003", "WO-1", true, true);
    it.device("OTHER", "WO-2", false, false);
    it.device("STRAY", "WO-9", false, false);
    it.happens(StationEvent::BatchClosed { batch: id("WO-2"), by: by() });
    it
}

#[test]
fn a_list_says_of_each_serial_number_whether_it_is_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let it = written(dir.path());
    it.check();
    let store = &it.opened.store;
    let batch = store.find_batch(&id("WO-1")).unwrap().unwrap();
    let list = batch.list.unwrap();
    for number in 0..5_100 {
        let expected = number < 5_000 && number % 2 == 0;
        assert_eq!(store.is_listed(list, it.seq, &serial(number)).unwrap(), expected, "{number}");
    }
    for other in ["A", "SN", "SN00000000", "ZZ"] {
        assert!(!store.is_listed(list, it.seq, &SerialNumber::parse(other).unwrap()).unwrap(), "{other}");
    }
    assert!(!store.is_listed(1, it.seq, &serial(0)).unwrap(), "the one that was given up");
    assert_eq!((batch.seen(), batch.missing(), batch.extra()), (3, 2_498, 1));
    assert_eq!((batch.tally.of(State::Quarantined), batch.tally.of(State::Admitted)), (2, 1));
    let page = store.listed(&batch, None, 3, |_| true).unwrap();
    let first: Vec<_> = page.found.into_iter().map(|it| (it.serial, it.state, it.here)).collect();
    let expected = [
        (serial(0), Some(State::Admitted), true),
        (serial(2), Some(State::Quarantined), true),
        (serial(4), None, false),
    ];
    assert_eq!(first, expected);
    assert_eq!(store.batches(Some(&id("WO-1")), 5, |_| true).unwrap().len(), 1);
    assert_eq!(store.batches(None, 5, |it| !it.is_open()).unwrap()[0].id(), &id("WO-2"));
}

#[test]
fn no_row_of_a_list_is_long_and_nothing_of_one_that_was_given_up_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let it = written(dir.path());
    it.check();
    let rows = |letter: u8| it.opened.store.db.scan_prefix([letter]).map(Result::unwrap).collect::<Vec<_>>();
    let parts = rows(b'e');
    assert!(parts.iter().all(|(_, value)| value.len() < 4_096));
    assert_eq!(parts.len(), 10, "256 in a row");
    assert!(rows(b'o').is_empty());
}

#[test]
fn an_index_made_from_the_log_has_the_same_batches_and_lists() {
    let dir = tempfile::tempdir().unwrap();
    let before = written(dir.path());
    let (book, seq) = (before.book.clone(), before.seq);
    drop(before);
    for rebuilt in [false, true] {
        if rebuilt {
            std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
        }
        let opened = open_in(dir.path()).unwrap();
        assert_eq!(opened.recovered.batches.len(), 1, "one is open");
        assert!(opened.recovered.lists.is_empty());
        Written { opened, seq, book: book.clone() }.check();
    }
}

#[test]
fn a_list_that_was_cut_off_is_told_to_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut it = written(dir.path());
    let list = it.list("WO-3", 2_000);
    let (book, seq) = (it.book.clone(), it.seq);
    drop(it);
    let opened = open_in(dir.path()).unwrap();
    assert_eq!(opened.recovered.lists, [(list, id("WO-3"))]);
    assert!(opened.store.find_batch(&id("WO-3")).unwrap().is_none());
    let mut it = Written { opened, seq, book };
    it.happens(StationEvent::BatchDropped { batch: id("WO-3"), list });
    it.check();
    drop(it);
    assert!(open_in(dir.path()).unwrap().recovered.lists.is_empty());
}

/// A power cut may take single rows from sled that were written since its last sync.
#[test]
fn an_index_that_has_lost_a_part_of_a_list_or_a_batch_is_made_again() {
    for lost in [b'e', b'w'] {
        let dir = tempfile::tempdir().unwrap();
        let it = written(dir.path());
        let (book, seq) = (it.book.clone(), it.seq);
        drop(it);
        {
            let db = super::super::index::open_sled(&dir.path().join("sled")).unwrap();
            let id: String = super::super::index::read(&db, dir.path(), b"mid").unwrap().unwrap();
            let row = db.scan_prefix([lost]).next().unwrap().unwrap();
            match lost {
                b'e' => drop(db.remove(&row.0).unwrap()),
                _ => {
                    let mut batch: crate::batch::Batch = crate::journal::record::decode(&row.1).unwrap();
                    batch.last_seq -= 1;
                    drop(db.insert(&row.0, encode(&batch).unwrap()).unwrap());
                }
            }
            // As if nothing had been synced yet.
            db.insert(b"msynced", encode(&Position::genesis(&id)).unwrap()).unwrap();
            db.flush().unwrap();
        }
        let opened = open_in(dir.path()).unwrap();
        assert!(dir.path().join("sled.damaged-1").exists(), "{}", char::from(lost));
        Written { opened, seq, book }.check();
    }
}

#[test]
fn batches_of_version_1_of_the_log_are_read_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal-v1");
    let frozen = std::fs::read(kept.join("batches.log")).unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    crate::durable_fs::replace(&dir.path().join("log/00000000000000000001.log"), 0o600, &frozen).unwrap();
    let opened = open_in(dir.path()).unwrap();
    let batches = opened.store.batches(None, 10, |_| true).unwrap();
    let told: Vec<_> = batches.iter().map(|it| (it.id().as_str(), it.is_open(), it.terms.expected)).collect();
    assert_eq!(told, [("WO-1", true, 3), ("WO-2", false, 9)]);
    let (listed, counted) = (&batches[0], &batches[1]);
    assert!(listed.terms.strict && !counted.terms.strict);
    assert_eq!(counted.terms.fixtures, ["nest-1"]);
    assert_eq!((listed.seen(), listed.missing(), listed.extra()), (2, 2, 1));
    assert_eq!(listed.reopened.as_ref().map(|(_, by)| by.reason.as_str()), Some("as planned"));
    let page = opened.store.listed(listed, None, 10, |_| true).unwrap();
    let serials: Vec<_> = page.found.iter().map(|it| it.serial.to_string()).collect();
    assert_eq!(serials, ["SN0000000", "SN0000002", "SN0000004"]);
    assert_eq!(opened.recovered.lists.len(), 1, "an opening without an end");
    let verified = crate::journal::copy::verify(dir.path()).unwrap();
    let last = std::fs::read_to_string(kept.join("batches-last-hash")).unwrap();
    assert_eq!(verified.last_hash.to_string(), last.trim());
}

#[test]
fn a_device_that_came_into_its_batch_later_is_in_the_batchs_report() {
    let dir = tempfile::tempdir().unwrap();
    let mut it = Written::begin(dir.path());
    it.happens(opened("WO-1", None, 2));
    it.late_device("SN0000001", "WO-1");
    let report = || {
        let now = "2026-11-23T00:00:00Z".parse().unwrap();
        let of = Selection::Batch("WO-1".to_owned());
        make(&it.opened.store, &of, &reports::context(now), Some(&reports::Count(2))).unwrap()
    };
    let first = report();
    assert_eq!((first.balance.in_progress, first.balance.missing), (1, 1));
    assert_eq!(first.batches["WO-1"], 1);
}

/// The records of a station that was killed in an outage, and of a batch that goes on after its last new device.
fn ended_by_a_kill() -> reports::History {
    let mut history = reports::batches::to_its_end();
    let begin = reports::at("2028-02-01T08:00:00Z");
    let (cause, of) = (crate::journal::Cause::Offline, Some("iot".to_owned()));
    let message = "why".to_owned();
    history.station(begin, StationEvent::Hindered { cause, of, since: begin, message });
    let by = reports::operator("as planned");
    history.station(reports::seconds(begin, 3_600), StationEvent::Resumed { by });
    let started = StationEvent::Started { version: "1".to_owned(), config: "c".to_owned() };
    history.station(reports::seconds(begin, 9_000), started);
    history
}

#[test]
fn a_batchs_time_and_what_was_away_before_a_kill_are_the_same_in_the_index_and_made_again_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let history = ended_by_a_kill();
    let mut opened = open_in(dir.path()).unwrap();
    // One record at a time, so that each row is read and written again.
    for entry in &history.entries {
        opened.writer.commit(vec![entry.clone()]).unwrap();
    }
    let context = reports::context("2028-02-02T00:00:00Z".parse().unwrap());
    let (begin, end) = ("2028-02-01T00:00:00Z".parse().unwrap(), "2028-02-02T00:00:00Z".parse().unwrap());
    let selections = [Selection::Batch("WO-1".to_owned()), Selection::Time { begin, end }];
    let hold = |opened: &Opened| {
        for selection in &selections {
            let mut of_history = make(&history, selection, &context, None).unwrap();
            let of_store = make(&opened.store, selection, &context, None).unwrap();
            of_history.journal.head_hash.clone_from(&of_store.journal.head_hash);
            assert_eq!(of_store, of_history);
            assert_eq!(
                of_store.downtime[0].ms,
                if selection.kind() == "batch" { 2_400_000 } else { 3_600_000 }
            );
        }
    };
    hold(&opened);
    drop(opened);
    let opened = open_in(dir.path()).unwrap();
    assert!(!dir.path().join("sled.damaged-1").exists());
    hold(&opened);
    drop(opened);
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    hold(&open_in(dir.path()).unwrap());
}

#[test]
fn an_index_in_which_a_power_cut_took_a_batchs_time_back_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    use crate::report::source::Source as _;
    let mut opened = open_in(dir.path()).unwrap();
    let row = super::super::key(b'y', "WO-1");
    let entries = ended_by_a_kill().entries;
    let device = entries.iter().rposition(|it| it.device.is_some()).unwrap();
    opened.writer.commit(entries[..device].to_vec()).unwrap();
    opened.store.head().unwrap();
    let before = opened.store.db.get(&row).unwrap().unwrap();
    opened.writer.commit(entries[device..].to_vec()).unwrap();
    opened.store.head().unwrap();
    opened.store.db.insert(&row, before).unwrap();
    drop(opened);
    let db = super::super::index::open_sled(&dir.path().join("sled")).unwrap();
    let id: String = super::super::index::read(&db, dir.path(), b"mid").unwrap().unwrap();
    // As if nothing had been synced yet.
    db.insert(b"msynced", encode(&Position::genesis(&id)).unwrap()).unwrap();
    db.flush().unwrap();
    drop(db);
    drop(open_in(dir.path()).unwrap());
    assert!(dir.path().join("sled.damaged-1").exists());
}

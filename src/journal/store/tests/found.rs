//! What is found at a start: damage, leftovers, other versions, other people's files.

use std::io::Write as _;
use std::path::PathBuf;

use super::*;
use crate::journal::log::read::{file_path, files};
use crate::station::setup::SetupError;

/// A journal of `count` devices, closed.
fn journal(count: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    for n in 1..=count {
        opened.writer.commit(entries(&format!("S{n}"), n, &[admission(n)])).unwrap();
    }
    dir
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

fn log_file(dir: &Path) -> PathBuf {
    let dir = log::dir_of(dir);
    file_path(&dir, *files(&dir).unwrap().last().unwrap())
}

fn aside(dir: &Path) -> usize {
    let is_aside = |it: &std::fs::DirEntry| it.file_name().to_string_lossy().starts_with("sled.damaged-");
    dir.read_dir().unwrap().map(Result::unwrap).filter(is_aside).count()
}

/// Puts back what was in sled's directory at an earlier time.
fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in from.read_dir().unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to)
        } else {
            put(&to, &std::fs::read(entry.path()).unwrap())
        }
    }
}

#[test]
fn an_index_that_is_gone_is_made_again() {
    let dir = journal(20);
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let opened = open_in(dir.path()).unwrap();
    assert_eq!((opened.recovered.seq, opened.recovered.pending.len()), (20, 20));
    assert_eq!(aside(dir.path()), 0);
}

#[test]
fn an_index_that_is_behind_is_caught_up() {
    let dir = journal(20);
    copy_dir(&dir.path().join("sled"), &dir.path().join("earlier"));
    let mut opened = open_in(dir.path()).unwrap();
    opened.writer.commit(entries("T", 21, &[admission(21), quarantine(21)])).unwrap();
    drop(opened);
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    std::fs::rename(dir.path().join("earlier"), dir.path().join("sled")).unwrap();
    let opened = open_in(dir.path()).unwrap();
    assert_eq!(opened.recovered.seq, 22);
    let t = SerialNumber::parse("T").unwrap();
    assert_eq!(opened.store.device(&t).unwrap().unwrap().state, State::Quarantined);
    assert_eq!(aside(dir.path()), 0);
}

#[test]
fn a_garbled_or_cut_index_is_kept_aside_and_made_again() {
    for seed in 0..24 {
        let dir = journal(150);
        let path = dir.path().join("sled/db");
        if seed % 2 == 0 {
            for entry in dir.path().join("sled").read_dir().unwrap().map(Result::unwrap) {
                if entry.file_name().to_string_lossy().starts_with("snap") {
                    std::fs::remove_file(entry.path()).unwrap();
                }
            }
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = std::fs::read(&path).unwrap();
        if seed % 3 == 0 {
            bytes.truncate(random.usize(..bytes.len()));
        } else {
            let from = random.usize(..bytes.len() - 600);
            bytes[from..from + 600].iter_mut().for_each(|it| *it = random.u8(..));
        }
        put(&path, &bytes);
        let opened = open_in(dir.path()).unwrap();
        assert_eq!((opened.recovered.seq, opened.recovered.pending.len()), (150, 150), "seed {seed}");
        assert_eq!(opened.store.events(0, 1000).unwrap().len(), 150, "seed {seed}");
        drop(opened);
        assert_eq!(open_in(dir.path()).unwrap().recovered.seq, 150, "seed {seed}");
    }
}

#[test]
fn an_index_that_holds_an_old_state_is_found_out() {
    let dir = journal(3);
    let early = index::Index::open(&dir.path().join("sled")).unwrap();
    let key = super::super::key(b'd', "S2");
    let old = early.db.get(&key).unwrap().unwrap();
    // As after a power cut in which the last sync was never seen through.
    let synced = early.db.get(super::super::key(b'm', "synced")).unwrap().unwrap();
    drop(early);
    let s2 = SerialNumber::parse("S2").unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    let device = opened.store.device(&s2).unwrap().unwrap();
    let mut after = device.clone();
    let record = Record {
        seq: 4,
        at: AT.parse().unwrap(),
        serial: Some(s2.clone()),
        what: What::Device(quarantine(2)),
    };
    after.apply(4, record.at, &quarantine(2)).unwrap();
    opened
        .writer
        .commit(vec![Entry { record, device: Some((Box::new(after), Some(device.state))) }])
        .unwrap();
    drop(opened);
    let stale = index::Index::open(&dir.path().join("sled")).unwrap();
    stale.db.insert(&key, old).unwrap();
    stale.db.insert(super::super::key(b'm', "synced"), synced).unwrap();
    drop(stale);
    let opened = open_in(dir.path()).unwrap();
    assert_eq!(opened.store.device(&s2).unwrap().unwrap().state, State::Quarantined);
    assert_eq!(aside(dir.path()), 1);
}

#[test]
fn a_log_that_is_gone_is_refused_and_nothing_is_made_in_its_place() {
    let dir = journal(5);
    std::fs::remove_dir_all(log::dir_of(dir.path())).unwrap();
    for _ in 0..2 {
        let error = open_in(dir.path()).unwrap_err();
        assert!(matches!(error, JournalError::NoLog { .. }), "{error}");
        assert!(error.to_string().contains("journal restore"), "{error}");
        assert!(!log::dir_of(dir.path()).exists());
    }
}

#[test]
fn a_journal_that_is_gone_with_keys_left_behind_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, keys) = (dir.path().join("journal"), dir.path().join("keys"));
    let refuse = || refuse_if_gone(&journal, &keys, |it| crate::journal::keys::stored_in(it, |_| true));
    refuse().unwrap();
    std::fs::create_dir(&keys).unwrap();
    refuse().unwrap();
    put(&keys.join("0011223344556677-a.key"), b"sealed");
    let error = refuse().unwrap_err();
    assert!(error.to_string().contains("1 undelivered private keys"), "{error}");
    assert_eq!(SetupError::Journal(error).exit_status(), crate::error::ExitStatus::Io);
    drop(open_in(&journal).unwrap());
    refuse().unwrap();
    std::fs::remove_dir_all(journal.join("log")).unwrap();
    // What is left of it says more when it is opened.
    refuse().unwrap();
}

#[test]
fn a_journal_that_was_moved_aside_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, keys) = (dir.path().join("journal"), dir.path().join("keys"));
    let refuse = || refuse_if_gone(&journal, &keys, |it| crate::journal::keys::stored_in(it, |_| true));
    let shows = |trace: &std::path::Path| {
        let error = refuse().unwrap_err();
        assert!(matches!(&error, JournalError::MovedAway { trace: it, .. } if it == trace), "{error}");
        assert_eq!(SetupError::Journal(error).exit_status(), crate::error::ExitStatus::Io);
    };
    for name in ["journal", "journal.conf", "journal2"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    refuse().unwrap();
    // As a daemon that has no device without its key leaves it.
    std::fs::create_dir(&keys).unwrap();
    let slots = keys.join("0011223344556677.slots");
    put(&slots, &[0; 4096]);
    shows(&slots);
    std::fs::remove_file(&slots).unwrap();
    refuse().unwrap();
    let aside = journal.join("sled.damaged-1");
    std::fs::create_dir(&aside).unwrap();
    shows(&aside);
    std::fs::remove_dir(&aside).unwrap();
    drop(open_in(&journal).unwrap());
    // Another station's is none of its business; its own is, under whatever name it is kept.
    std::fs::rename(&journal, dir.path().join("journal2/of another")).unwrap();
    refuse().unwrap();
    let moved = dir.path().join("journal.damaged-2026");
    std::fs::rename(dir.path().join("journal2/of another"), &moved).unwrap();
    shows(&moved);
    drop(open_in(&journal).unwrap());
    refuse().unwrap();
}

#[test]
fn a_log_that_has_lost_its_end_is_refused_and_left_alone() {
    let dir = journal(5);
    let path = log_file(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let mut walk = Walk::from_start(&log::dir_of(dir.path())).unwrap();
    let mut ends = vec![walk.at().end];
    while walk.next_commit().unwrap().is_some() {
        ends.push(walk.at().end);
    }
    // At each record, and within one.
    for end in ends[..5].iter().flat_map(|it| [*it, it + 9]) {
        let cut = &whole[..usize::try_from(end).unwrap()];
        put(&path, cut);
        let error = open_in(dir.path()).unwrap_err();
        assert!(matches!(error, JournalError::Log(_) | JournalError::Lost { .. }), "{end}: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), cut, "it is left as it is");
        assert_eq!(aside(dir.path()), 0);
    }
}

#[test]
fn one_flipped_bit_of_the_log_is_refused_by_whoever_reads_there() {
    let dir = journal(4);
    let path = log_file(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let mut last = Walk::from_start(&log::dir_of(dir.path())).unwrap();
    let mut start = 0;
    while let Some(commit) = last.next_commit().unwrap() {
        start = usize::try_from(commit[0].at.start).unwrap();
    }
    for bit in (0..whole.len() * 8).step_by(7) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        put(&path, &bytes);
        let found = crate::journal::copy::verify(dir.path()).unwrap_err();
        assert!(matches!(found, JournalError::Log(_)), "bit {bit}: {found}");
        // An index that is in order spares a start what lies behind; without one all is read.
        if (bit / 8) >= start || bit / 8 < crate::journal::log::frame::HEADER_BYTES {
            let error = open_in(dir.path()).unwrap_err();
            assert!(matches!(error, JournalError::Log(_)), "bit {bit}: {error}");
        }
    }
    let mut bytes = whole.clone();
    bytes[start - 1] ^= 1;
    put(&path, &bytes);
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let error = open_in(dir.path()).unwrap_err();
    assert!(error.to_string().contains("record 3 is the first bad one, the last good hash is"), "{error}");
}

#[test]
fn a_torn_end_is_cut_off_and_the_journal_goes_on() {
    let dir = journal(3);
    let path = log_file(dir.path());
    let before = std::fs::read(&path).unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    // sled as it was before the commit that is torn.
    copy_dir(&dir.path().join("sled"), &dir.path().join("earlier"));
    opened.writer.commit(entries("T", 4, &[admission(4), quarantine(4)])).unwrap();
    drop(opened);
    let after = std::fs::read(&path).unwrap();
    for length in [before.len() + 1, before.len() + 48, after.len() - 1] {
        put(&path, &after[..length]);
        std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
        copy_dir(&dir.path().join("earlier"), &dir.path().join("sled"));
        let mut opened = open_in(dir.path()).unwrap();
        assert_eq!(opened.recovered.seq, 3);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        opened.writer.commit(entries("U", 4, &[admission(4)])).unwrap();
        drop(opened);
        assert_eq!(crate::journal::copy::verify(dir.path()).unwrap().records, 4);
    }
}

#[test]
fn a_journal_of_a_newer_version_is_refused_and_left_alone() {
    let dir = journal(1);
    let db = index::open_sled(&dir.path().join("sled")).unwrap();
    db.insert(super::super::key(b'm', "format"), encode(&(FORMAT + 1)).unwrap()).unwrap();
    drop(db);
    assert!(matches!(open_in(dir.path()), Err(JournalError::Newer { found, .. }) if found == FORMAT + 1));
    assert_eq!(aside(dir.path()), 0);
}

#[test]
fn an_index_of_an_earlier_format_is_made_again_and_without_a_log_refused() {
    let dir = journal(3);
    let earlier = |dir: &Path| {
        let db = index::open_sled(&dir.join("sled")).unwrap();
        db.insert(super::super::key(b'm', "format"), encode(&(FORMAT - 1)).unwrap()).unwrap();
        // As that format had it: a place is a row, which this one cannot read.
        db.insert(seq_key(b'l', 1), encode(&(1, 72)).unwrap()).unwrap();
    };
    earlier(dir.path());
    let opened = open_in(dir.path()).unwrap();
    assert_eq!((opened.recovered.seq, opened.recovered.pending.len(), aside(dir.path())), (3, 3, 1));
    assert_eq!(opened.store.events(0, 10).unwrap().len(), 3);
    drop(opened);
    assert_eq!((open_in(dir.path()).unwrap().recovered.seq, aside(dir.path())), (3, 1), "made once");
    earlier(dir.path());
    std::fs::remove_dir_all(log::dir_of(dir.path())).unwrap();
    assert!(matches!(open_in(dir.path()), Err(JournalError::NoLog { .. })));
}

#[test]
fn a_history_of_which_a_power_cut_took_a_row_back_is_found_out() {
    let trouble = |attempt| Event::Trouble {
        step: crate::device::steps::Step::Thing,
        message: "slow".to_owned(),
        attempt,
        request_id: None,
    };
    let events: Vec<_> = std::iter::once(admission(1)).chain((1..150).map(trouble)).collect();
    let all = entries("A1", 1, &events);
    let a1 = SerialNumber::parse("A1").unwrap();
    let row = [&history_prefix(&a1)[..], &[0]].concat();
    for (before, kept_aside) in [(100, 1), (140, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = open_in(dir.path()).unwrap();
        opened.writer.commit(all[..before].to_vec()).unwrap();
        drop(opened);
        let index = index::Index::open(&dir.path().join("sled")).unwrap();
        let old = index.db.get(&row).unwrap().unwrap();
        let synced = index.db.get(super::super::key(b'm', "synced")).unwrap().unwrap();
        drop(index);
        let mut opened = open_in(dir.path()).unwrap();
        opened.writer.commit(all[before..].to_vec()).unwrap();
        drop(opened);
        let index = index::Index::open(&dir.path().join("sled")).unwrap();
        index.db.insert(&row[..], old).unwrap();
        index.db.insert(super::super::key(b'm', "synced"), synced).unwrap();
        drop(index);
        let opened = open_in(dir.path()).unwrap();
        assert_eq!(aside(dir.path()), kept_aside, "{before} records before the cut");
        let history: Vec<_> = opened.store.history(&a1, 1000).unwrap().iter().map(|it| it.seq).collect();
        assert_eq!(history, (1..=150).collect::<Vec<_>>());
    }
}

#[test]
fn somebody_elses_sled_is_refused_and_beside_our_log_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = |dir: &Path| {
        let db = sled::open(dir.join("sled")).unwrap();
        db.insert("theirs", "value").unwrap();
    };
    theirs(dir.path());
    assert!(matches!(open_in(dir.path()), Err(JournalError::Foreign { .. })));
    let dir = journal(4);
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    theirs(dir.path());
    assert_eq!(open_in(dir.path()).unwrap().recovered.seq, 4);
    assert_eq!(aside(dir.path()), 1);
}

#[test]
fn another_journals_index_is_kept_aside() {
    let (dir, other) = (journal(4), journal(9));
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    copy_dir(&other.path().join("sled"), &dir.path().join("sled"));
    assert_eq!(open_in(dir.path()).unwrap().recovered.seq, 4);
    assert_eq!(aside(dir.path()), 1);
}

#[test]
fn a_foreign_log_file_is_refused_and_left_alone() {
    let dir = journal(2);
    let path = log_file(dir.path());
    put(&path, &[b'#'; 1000]);
    assert!(matches!(open_in(dir.path()), Err(JournalError::Foreign { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), [b'#'; 1000]);
}

#[test]
fn the_journal_of_the_version_before_the_log_is_read_into_one_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<Entry> =
        [entries("A1", 1, &[admission(1)]), entries("B2", 2, &[admission(2), quarantine(2)])].concat();
    let db = index::open_sled(&dir.path().join("sled")).unwrap();
    let key = super::super::key;
    db.insert(key(b'm', "format"), encode(&1_u32).unwrap()).unwrap();
    db.insert(key(b'm', "id"), encode(&"00112233445566aa").unwrap()).unwrap();
    db.insert(key(b'm', "seq"), encode(&3_u64).unwrap()).unwrap();
    for entry in &all {
        db.insert(seq_key(b'e', entry.record.seq), encode(&entry.record).unwrap()).unwrap();
    }
    drop(db);
    let opened = open_in(dir.path()).unwrap();
    assert_eq!((opened.id.as_str(), opened.recovered.seq), ("00112233445566aa", 3));
    assert_eq!(opened.recovered.counts[&State::Quarantined], 1);
    assert_eq!(
        opened.store.events(0, 10).unwrap(),
        all.iter().map(|it| it.record.clone()).collect::<Vec<_>>()
    );
    assert_eq!(aside(dir.path()), 1);
    drop(opened);
    assert_eq!(open_in(dir.path()).unwrap().recovered.seq, 3);
}

#[test]
fn a_start_that_was_cut_off_is_begun_again() {
    let dir = journal(3);
    std::fs::rename(dir.path().join("sled"), dir.path().join("sled.new")).unwrap();
    std::fs::create_dir(dir.path().join("log.new")).unwrap();
    assert_eq!(open_in(dir.path()).unwrap().recovered.seq, 3);
    assert!(!dir.path().join("sled.new").exists() && !dir.path().join("log.new").exists());
    // Killed before the first file of a new journal was there.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    assert_eq!(open_in(dir.path()).unwrap().recovered.seq, 0);
}

#[test]
fn version_1_of_the_log_is_read_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let frozen = include_bytes!("../../../../tests/journal-v1/00000000000000000001.log");
    std::fs::create_dir(dir.path().join("log")).unwrap();
    put(&dir.path().join("log/00000000000000000001.log"), frozen);
    let opened = open_in(dir.path()).unwrap();
    assert_eq!((opened.id.as_str(), opened.recovered.seq), ("0123456789abcdef", 5));
    assert_eq!(opened.recovered.counts[&State::Admitted], 1);
    assert_eq!(opened.recovered.counts[&State::Quarantined], 1);
    assert_eq!(opened.recovered.boots["nest-1"], 7);
    let verified = crate::journal::copy::verify(dir.path()).unwrap();
    assert_eq!(verified.last_hash.to_string(), include_str!("../../../../tests/journal-v1/last-hash").trim());
    assert_eq!(std::fs::read(dir.path().join("log/00000000000000000001.log")).unwrap(), frozen);
}

#[test]
fn the_first_device_to_tell_a_key_is_known_by_it_also_to_an_index_that_was_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    let told = |id: u64, key: u8| {
        let Event::Admitted(mut it) = admission(id) else { panic!("an admission") };
        it.device_key = Some(crate::pki::DevicePublicKey { spki_der: vec![key; 91] });
        Event::Admitted(it)
    };
    for (n, key) in [(1, 7), (2, 8), (3, 7)] {
        opened.writer.commit(entries(&format!("S{n}"), n, &[told(n, key)])).unwrap();
        if n == 2 {
            // Waits for the index: the third comes while the first is no longer in memory.
            opened.store.lockers().unwrap();
        }
    }
    opened.writer.commit(entries("S4", 4, &[admission(4)])).unwrap();
    let holder = |store: &Store, key: u8| {
        store.holder_of_key(&Fingerprint::of(&[key; 91])).unwrap().map(|it| it.as_str().to_owned())
    };
    let holders = |store: &Store| [7, 8, 9].map(|key| holder(store, key));
    let expected = [Some("S1".to_owned()), Some("S2".to_owned()), None];
    assert_eq!(holders(&opened.store), expected);
    opened.store.lockers().unwrap();
    assert_eq!(holders(&opened.store), expected);
    drop(opened);
    assert_eq!(holders(&open_in(dir.path()).unwrap().store), expected);
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    assert_eq!(holders(&open_in(dir.path()).unwrap().store), expected);
}

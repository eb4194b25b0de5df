//! The log by itself: what a crash, a disk and a person can do to its files.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::disk::SystemDisk;
use super::frame::HEADER_BYTES;
use super::read::{Torn, Walk, file_path, files};
use super::write::LogWriter;
use super::{ChainHash, MAX_FILE_BYTES};
use crate::journal::{JournalError, Record, StationEvent, What};

const ID: &str = "0123456789abcdef";

fn record(seq: u64) -> Record {
    let message = format!("record {seq} {}", "x".repeat(usize::try_from(seq % 7).unwrap()));
    let what = What::Station(StationEvent::LineStopped { message });
    Record { seq, at: "2026-11-21T12:00:00Z".parse().unwrap(), serial: None, what }
}

fn append(log: &mut LogWriter, seqs: std::ops::RangeInclusive<u64>) {
    let records: Vec<Record> = seqs.map(record).collect();
    log.append(records.iter()).unwrap();
}

/// A log of the commits 1, 2–4, 5, 6–8, in files of at least `max_file_bytes`.
fn eight(dir: &Path, max_file_bytes: u64) {
    let mut log = LogWriter::create(dir, ID, Box::<SystemDisk>::default(), max_file_bytes).unwrap();
    for commit in [1..=1, 2..=4, 5..=5, 6..=8] {
        append(&mut log, commit);
    }
    log.close();
}

/// The numbers read, and what was left behind them.
fn read(dir: &Path) -> Result<(Vec<u64>, Option<Torn>), JournalError> {
    let mut walk = Walk::from_start(dir)?;
    let mut seqs = Vec::new();
    while let Some(commit) = walk.next_commit()? {
        for found in commit {
            assert_eq!(found.record, record(found.at.seq));
            seqs.push(found.at.seq);
        }
    }
    Ok((seqs, walk.torn()))
}

fn overwrite(path: &Path, bytes: &[u8]) {
    // Not synced, as nothing in these tests: thousands of times that would be minutes.
    File::create(path).unwrap().write_all(bytes).unwrap();
}

/// Where each frame ends in a file, the header's end first.
fn ends(dir: &Path, file: u64) -> Vec<usize> {
    let mut walk = Walk::from_start(dir).unwrap();
    let mut ends = vec![HEADER_BYTES];
    while let Some(commit) = walk.next_commit().unwrap() {
        let here = commit.iter().filter(|it| it.at.file == file);
        ends.extend(here.map(|it| usize::try_from(it.at.end).unwrap()));
    }
    ends
}

#[test]
fn what_was_appended_is_read_across_files() {
    for (max_file_bytes, count) in [(MAX_FILE_BYTES, 1), (300, 2), (1, 4)] {
        let dir = tempfile::tempdir().unwrap();
        eight(dir.path(), max_file_bytes);
        assert_eq!(read(dir.path()).unwrap(), ((1..=8).collect(), None));
        assert_eq!(files(dir.path()).unwrap().len(), count);
    }
}

#[test]
fn a_torn_end_is_known_at_every_byte_and_a_commit_is_all_or_none() {
    let dir = tempfile::tempdir().unwrap();
    eight(dir.path(), MAX_FILE_BYTES);
    let path = file_path(dir.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    let ends = ends(dir.path(), 1);
    for length in ends[4]..whole.len() {
        overwrite(&path, &whole[..length]);
        let kept = if length < ends[5] { 4 } else { 5 };
        let (seqs, torn) = read(dir.path()).unwrap();
        assert_eq!(seqs, (1..=kept).collect::<Vec<u64>>(), "{length} bytes");
        let keep = ends[usize::try_from(kept).unwrap()];
        // The zeros that a frame begins with are no more than room.
        let begun = whole[keep..length].iter().any(|it| *it != 0);
        assert_eq!(torn.is_some(), begun, "{length} bytes");
        assert!(torn.is_none_or(|it| it.keep == Some(keep as u64)), "{length} bytes");
        // Room that was given ahead, or that the file system has given the file but never written.
        overwrite(&path, &[&whole[..length], &[0; 4096][..]].concat());
        let (seqs, torn) = read(dir.path()).unwrap();
        let expected = (usize::try_from(kept).unwrap(), begun);
        assert_eq!((seqs.len(), torn.is_some()), expected, "{length} bytes");
        assert!(torn.is_none_or(|it| it.keep == Some(keep as u64)), "{length} bytes");
    }
}

#[test]
fn room_given_ahead_is_the_end_and_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::create(dir.path(), ID, Box::<SystemDisk>::default(), MAX_FILE_BYTES).unwrap();
    append(&mut log, 1..=3);
    let (path, end) = (file_path(dir.path(), 1), log.at().end);
    let length = || path.metadata().unwrap().len();
    let reserved = length();
    assert!(reserved > end, "{reserved} bytes");
    assert_eq!(read(dir.path()).unwrap(), (vec![1, 2, 3], None));
    append(&mut log, 4..=5);
    assert_eq!(length(), reserved, "a commit within the room does not make the file longer");
    // A bit that a disk flips there is nothing of ours.
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    overwrite(&path, &bytes);
    let (seqs, torn) = read(dir.path()).unwrap();
    assert_eq!((seqs.len(), torn.unwrap().keep), (5, Some(log.at().end)));
    log.close();
    assert_eq!(length(), log.at().end);
    assert_eq!(read(dir.path()).unwrap(), ((1..=5).collect(), None));
}

#[test]
fn room_behind_the_last_record_of_any_file_but_the_newest_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    eight(dir.path(), 300);
    let path = file_path(dir.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    overwrite(&path, &[&whole[..], &[0; 100]].concat());
    assert!(matches!(read(dir.path()), Err(JournalError::Log(_))));
}

#[test]
fn a_page_that_was_not_written_within_the_last_commit_is_a_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    eight(dir.path(), MAX_FILE_BYTES);
    let path = file_path(dir.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let ends = ends(dir.path(), 1);
    // 6 is not there, 7 and 8 are.
    bytes[ends[5]..ends[6]].fill(0);
    overwrite(&path, &bytes);
    assert_eq!(read(dir.path()).unwrap().0, (1..=5).collect::<Vec<u64>>());
    // 5 is not there, and a later commit is: 5 had been promised.
    std::fs::remove_file(&path).unwrap();
    eight(dir.path(), MAX_FILE_BYTES);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[ends[4]..ends[5]].fill(0);
    overwrite(&path, &bytes);
    match read(dir.path()) {
        Err(JournalError::Log(damage)) => {
            assert_eq!((damage.seq, damage.offset), (5, ends[4] as u64));
            assert!(damage.what.contains("later ones follow"), "{damage}");
        }
        other => panic!("{other:?}"),
    }
}

/// What a newer version has written counts as promised too.
#[test]
fn a_commit_that_is_not_there_before_one_of_a_newer_version_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    eight(dir.path(), MAX_FILE_BYTES);
    let path = file_path(dir.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let ends = ends(dir.path(), 1);
    bytes[ends[5]..ends[8]].fill(0);
    super::frame::push(&mut bytes, &ChainHash([7; 32]), br#"{"seq":9,"event":"gilded"}"#, 0, 0);
    overwrite(&path, &bytes);
    let error = read(dir.path()).unwrap_err();
    assert!(matches!(&error, JournalError::Log(it) if it.what.contains("later ones follow")), "{error}");
}

/// It is as it was written, and in the chain: whoever has written it, no crash has.
#[test]
fn a_whole_record_that_is_not_the_next_is_damage_and_not_cut_off() {
    for (body, place, left) in [
        (&br#"{"seq":11,"at":"2026-11-21T12:00:00Z","event":"line-resumed"}"#[..], 0, 0),
        (br#"{"seq":9,"at":"2026-11-21T12:00:00Z","event":"line-resumed"}"#, 1, 0),
        (br#"{"at":"2026-11-21T12:00:00Z","event":"line-resumed"}"#, 0, 0),
        (b"gilded", 0, 0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        eight(dir.path(), MAX_FILE_BYTES);
        let mut walk = Walk::from_start(dir.path()).unwrap();
        while walk.next_commit().unwrap().is_some() {}
        let path = file_path(dir.path(), 1);
        let mut bytes = std::fs::read(&path).unwrap();
        super::frame::push(&mut bytes, &walk.at().hash, body, place, left);
        overwrite(&path, &bytes);
        let error = read_bodies(dir.path()).unwrap_err();
        assert!(matches!(&error, JournalError::Log(it) if it.seq == 9), "{error}");
    }
}

#[test]
fn one_flipped_bit_anywhere_is_damage_and_names_the_record() {
    let dir = tempfile::tempdir().unwrap();
    eight(dir.path(), 300);
    for first in files(dir.path()).unwrap() {
        let path = file_path(dir.path(), first);
        let whole = std::fs::read(&path).unwrap();
        let ends = ends(dir.path(), first);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            overwrite(&path, &bytes);
            match read(dir.path()) {
                Err(JournalError::Log(damage)) => {
                    let frames_before = ends.iter().filter(|it| **it <= bit / 8).count() as u64;
                    let expected = if frames_before == 0 { first } else { first + frames_before - 1 };
                    assert_eq!(damage.seq, expected, "bit {bit} of file {first}: {damage}");
                }
                other => panic!("bit {bit} of file {first}: {other:?}"),
            }
        }
        overwrite(&path, &whole);
    }
}

#[test]
fn a_file_that_is_missing_cut_or_of_another_journal_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    eight(dir.path(), 1);
    let all = files(dir.path()).unwrap();
    let bytes: Vec<_> = all.iter().map(|it| std::fs::read(file_path(dir.path(), *it)).unwrap()).collect();
    for (number, first) in all.iter().enumerate().take(3) {
        let path = file_path(dir.path(), *first);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read(dir.path()), Err(JournalError::Log(_))), "file {first} is missing");
        crate::durable_fs::create_new(&path, 0o600, &bytes[number][..bytes[number].len() - 1]).unwrap();
        assert!(matches!(read(dir.path()), Err(JournalError::Log(_))), "file {first} is cut");
        overwrite(&path, &bytes[number]);
    }
    let other = tempfile::tempdir().unwrap();
    let mut log =
        LogWriter::create(other.path(), &ID.replace('0', "f"), Box::<SystemDisk>::default(), 1).unwrap();
    append(&mut log, 1..=1);
    append(&mut log, 2..=4);
    let theirs = std::fs::read(file_path(other.path(), 2)).unwrap();
    overwrite(&file_path(dir.path(), 2), &theirs);
    assert!(matches!(read(dir.path()), Err(JournalError::Log(_))));
}

#[test]
fn a_record_that_was_changed_with_its_checksum_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    eight(dir.path(), MAX_FILE_BYTES);
    let path = file_path(dir.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let ends = ends(dir.path(), 1);
    // The first record again, with another text and all that one can compute without the chain.
    let forged = serde_json::to_vec(&record(1)).unwrap();
    let forged = String::from_utf8(forged).unwrap().replace("record 1", "record 9");
    let mut frame = Vec::new();
    super::frame::push(&mut frame, &ChainHash::genesis(ID), forged.as_bytes(), 0, 0);
    bytes.splice(ends[0]..ends[1], frame);
    overwrite(&path, &bytes);
    match read_bodies(dir.path()) {
        Err(JournalError::Log(damage)) => assert_eq!(damage.seq, 2, "{damage}"),
        other => panic!("{other:?}"),
    }
}

fn read_bodies(dir: &Path) -> Result<usize, JournalError> {
    let mut walk = Walk::from_start(dir)?;
    let mut count = 0;
    while let Some(commit) = walk.next_commit()? {
        count += commit.len();
    }
    Ok(count)
}

#[test]
fn a_rotation_that_was_cut_off_is_a_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    eight(dir.path(), MAX_FILE_BYTES);
    let path = file_path(dir.path(), 9);
    for length in 0..HEADER_BYTES {
        crate::durable_fs::create_new(&path, 0o600, &vec![0; length]).unwrap();
        let (seqs, torn) = read(dir.path()).unwrap();
        assert_eq!(seqs.len(), 8);
        assert_eq!(torn, Some(Torn { file: 9, keep: None, dropped: length as u64 }));
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_later_format_and_a_foreign_file_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    eight(dir.path(), MAX_FILE_BYTES);
    let path = file_path(dir.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[11] = 2;
    let checksum = crc32fast::hash(&bytes[..68]);
    bytes[68..72].copy_from_slice(&checksum.to_be_bytes());
    overwrite(&path, &bytes);
    assert!(matches!(read(dir.path()), Err(JournalError::Newer { found: 2, known: 1, .. })));
    overwrite(&path, &[b'#'; 500]);
    assert!(matches!(read(dir.path()), Err(JournalError::Foreign { .. })));
}

#[test]
fn a_gap_or_a_record_that_is_too_long_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogWriter::create(dir.path(), ID, Box::<SystemDisk>::default(), MAX_FILE_BYTES).unwrap();
    assert!(matches!(log.append([&record(2)].into_iter()), Err(JournalError::Unfit { seq: 2, .. })));
    let message = "x".repeat(super::frame::MAX_BODY_BYTES);
    let what = What::Station(StationEvent::LineStopped { message });
    let long = Record { what, ..record(1) };
    assert!(matches!(log.append([&long].into_iter()), Err(JournalError::Unfit { seq: 1, .. })));
    append(&mut log, 1..=1);
    assert_eq!(read(dir.path()).unwrap(), (vec![1], None));
}

#[test]
fn a_reader_from_a_noted_place_checks_the_record_before_it() {
    let dir = tempfile::tempdir().unwrap();
    eight(dir.path(), MAX_FILE_BYTES);
    let mut walk = Walk::from_start(dir.path()).unwrap();
    walk.next_commit().unwrap();
    walk.next_commit().unwrap();
    let at = walk.at();
    let mut again = Walk::from(dir.path(), ID, at).unwrap();
    assert_eq!(again.next_commit().unwrap().unwrap()[0].at.seq, 5);
    let path = file_path(dir.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[usize::try_from(at.end).unwrap() - 1] ^= 1;
    overwrite(&path, &bytes);
    assert!(matches!(Walk::from(dir.path(), ID, at), Err(JournalError::Log(_))));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Walk::from(dir.path(), ID, at), Err(JournalError::NoLog { .. })));
}

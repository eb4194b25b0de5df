//! What a newer version has written: refused with a sentence, and left as it is, wherever it lies.

use std::io::Write as _;
use std::path::PathBuf;

use super::*;
use crate::error::ExitStatus;
use crate::journal::VOCABULARY;
use crate::journal::log::ChainHash;
use crate::journal::log::frame::{Header, push};
use crate::journal::log::read::{file_path, files};
use crate::station::setup::SetupError;

/// What no version knows yet.
const UNKNOWN: &str = r#""at":"2026-11-21T12:00:00Z","serial":"S1","event":"gilded","carats":24"#;

/// A journal of two devices, closed, with its index.
fn journal() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    for n in 1..=2 {
        opened.writer.commit(entries(&format!("S{n}"), n, &[admission(n)])).unwrap();
    }
    dir
}

fn end(dir: &Path) -> (String, Position) {
    let mut walk = Walk::from_start(&log::dir_of(dir)).unwrap();
    while walk.next_commit().unwrap().is_some() {}
    (walk.id().to_owned(), walk.at())
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

/// Appends a commit of those bodies to the newest file, as a newer version does.
fn append(dir: &Path, bodies: &[String]) -> ChainHash {
    let (_, at) = end(dir);
    let path = file_path(&log::dir_of(dir), at.file);
    let mut bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, at.end);
    let mut hash = at.hash;
    for (place, body) in (0..).zip(bodies) {
        let left = u32::try_from(bodies.len()).unwrap() - place - 1;
        hash = push(&mut bytes, &hash, body.as_bytes(), place, left);
    }
    put(&path, &bytes);
    hash
}

fn log_bytes(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let log_dir = log::dir_of(dir);
    let paths = files(&log_dir).unwrap().into_iter().map(|it| file_path(&log_dir, it));
    paths.map(|it| (it.clone(), std::fs::read(it).unwrap())).collect()
}

fn aside(dir: &Path) -> usize {
    let is_aside = |it: &std::fs::DirEntry| it.file_name().to_string_lossy().starts_with("sled.damaged-");
    dir.read_dir().unwrap().map(Result::unwrap).filter(is_aside).count()
}

/// Record `seq` is refused, whoever reads, and nothing is touched by that.
fn assert_refused(dir: &Path, seq: u64) {
    let before = log_bytes(dir);
    for with_index in [true, true, false, false] {
        if !with_index && dir.join("sled").exists() {
            std::fs::remove_dir_all(dir.join("sled")).unwrap();
        }
        let error = open_in(dir).unwrap_err();
        assert!(matches!(error, JournalError::NewerRecord { seq: it, .. } if it == seq), "{error}");
        let said = error.to_string();
        let version = env!("CARGO_PKG_VERSION");
        for word in [&format!("record {seq} "), "by a newer linemint", version, "install that version"] {
            assert!(said.contains(word), "{said}");
        }
        assert_eq!(SetupError::Journal(error).exit_status(), ExitStatus::Io);
        assert_eq!(log_bytes(dir), before, "the log is left as it is");
        assert_eq!(aside(dir), 0, "the index is not what is wrong");
        assert_eq!(dir.join("sled").exists(), with_index);
    }
    let verified = crate::journal::copy::verify(dir).unwrap_err();
    assert!(matches!(verified, JournalError::NewerRecord { .. }), "{verified}");
}

#[test]
fn the_newest_records_are_not_cut_off_because_an_older_version_does_not_know_them() {
    let dir = journal();
    append(dir.path(), &[format!(r#"{{"seq":3,{UNKNOWN}}}"#)]);
    assert_refused(dir.path(), 3);
    // Behind one of the same commit that it does know.
    let dir = journal();
    let known = r#"{"seq":3,"at":"2026-11-21T12:00:00Z","event":"line-resumed"}"#.to_owned();
    append(dir.path(), &[known, format!(r#"{{"seq":4,{UNKNOWN}}}"#)]);
    assert_refused(dir.path(), 4);
    // A known event with a value that is not.
    let dir = journal();
    let cause = r#"{"seq":3,"at":"2026-11-21T12:00:00Z","event":"unhindered","cause":"flood"}"#;
    append(dir.path(), &[cause.to_owned()]);
    assert_refused(dir.path(), 3);
}

#[test]
fn in_a_file_before_the_newest_they_are_no_damage() {
    let dir = journal();
    let (id, _) = end(dir.path());
    let hash = append(dir.path(), &[format!(r#"{{"seq":3,{UNKNOWN}}}"#)]);
    let mut bytes = Header { id, first: 4, previous: hash }.encode().to_vec();
    push(&mut bytes, &hash, br#"{"seq":4,"at":"2026-11-21T12:00:00Z","event":"line-resumed"}"#, 0, 0);
    put(&file_path(&log::dir_of(dir.path()), 4), &bytes);
    assert_refused(dir.path(), 3);
}

/// A newer version that has stopped in good order leaves an index that holds all, so that nobody would come to
/// its records at a start.
#[test]
fn an_index_at_which_a_newer_version_was_at_work_is_refused_and_left_alone() {
    let dir = journal();
    let before = log_bytes(dir.path());
    let row = super::super::key(b'm', "vocabulary");
    let open_index = || index::open_sled(&dir.path().join("sled")).unwrap();
    let noted = open_index().get(&row).unwrap().unwrap();
    assert_eq!(crate::journal::record::decode::<u32>(&noted).unwrap(), VOCABULARY);
    open_index().insert(&row, encode(&(VOCABULARY + 1)).unwrap()).unwrap();
    let error = open_in(dir.path()).unwrap_err();
    let found = matches!(error, JournalError::NewerVocabulary { found, .. } if found == VOCABULARY + 1);
    assert!(found && error.to_string().contains("install that version"), "{error}");
    assert_eq!(SetupError::Journal(error).exit_status(), ExitStatus::Io);
    assert_eq!((log_bytes(dir.path()), aside(dir.path())), (before, 0));
    // By the log alone it is told whether there is anything new in it.
    std::fs::remove_dir_all(dir.path().join("sled")).unwrap();
    assert_eq!(open_in(dir.path()).unwrap().recovered.seq, 2);
    // An index from before there was such a note gets it.
    open_index().remove(&row).unwrap();
    drop(open_in(dir.path()).unwrap());
    assert_eq!(open_index().get(&row).unwrap(), Some(noted));
}

/// Whoever adds an event here raises [`VOCABULARY`], unless that was done since the last release.
#[test]
fn the_vocabulary_is_raised_with_each_new_event() {
    let names = |error: String| {
        let expected = error.split_once("expected one of ").unwrap().1.split('`');
        expected.skip(1).step_by(2).collect::<Vec<_>>().join(" ")
    };
    let asked = serde_json::json!({ "event": "?" });
    let device = names(serde_json::from_value::<Event>(asked.clone()).unwrap_err().to_string());
    let station = names(serde_json::from_value::<StationEvent>(asked).unwrap_err().to_string());
    assert_eq!((VOCABULARY, device.as_str(), station.as_str()), (1, DEVICE, STATION));
}

const DEVICE: &str = "admitted presented repeated renewed csr-made certificate-asked certificate-in-doubt \
     spare-found issued step-done step-undone trouble offered passed labelled label-asked failed deferred closed \
     quarantined key-destroyed key-lost key-expired retried released scrapping scrapped mending mend-failed orphan-found";
const STATION: &str = "started stopped reconfigured rules policy-ready policy-lost locker-ready fixture-reset \
     line-stopped line-resumed clock-doubted clock-trusted clock-overridden drained resumed log-level batch-opening \
     batch-serials batch-dropped batch-opened batch-closed batch-reopened hindered called unhindered";

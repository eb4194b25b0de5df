//! A disk that fails, by the number of the call.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::error::ExitStatus;
use crate::journal::log::disk::{Disk, SystemDisk};
use crate::station::setup::SetupError;

/// Fails at one call, after writing a part where it is a write.
#[derive(Debug)]
struct Failing {
    calls: Arc<AtomicUsize>,
    fails_at: usize,
    errno: rustix::io::Errno,
    disk: SystemDisk,
}

impl Failing {
    fn fails(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if call == self.fails_at { Err(self.errno.into()) } else { Ok(()) }
    }
}

impl Disk for Failing {
    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.fails()?;
        self.disk.create(path, bytes)
    }

    fn resume(&mut self, path: &Path, length: u64) -> io::Result<()> {
        self.disk.resume(path, length)
    }

    fn cut(&mut self, path: &Path, length: Option<u64>) -> io::Result<()> {
        self.fails()?;
        self.disk.cut(path, length)
    }

    fn reserve(&mut self, from: u64, bytes: u64) -> io::Result<bool> {
        self.fails()?;
        self.disk.reserve(from, bytes)
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        if let Err(error) = self.fails() {
            self.disk.write(&bytes[..bytes.len() / 2], at)?;
            return Err(error);
        }
        self.disk.write(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.fails()?;
        self.disk.sync()
    }
}

#[test]
fn after_a_failed_write_or_sync_nothing_more_is_promised_and_nothing_promised_is_lost() {
    for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::IO, rustix::io::Errno::ROFS] {
        // The first call syncs what the start has read. Files so small that each commit but the first makes
        // one: cut, create, reserve, write, sync.
        for fails_at in 2..=17 {
            let dir = tempfile::tempdir().unwrap();
            let calls = Arc::new(AtomicUsize::new(0));
            let disk = Failing { calls: calls.clone(), fails_at, errno, disk: SystemDisk::default() };
            let lock = JournalLock::take(dir.path()).unwrap();
            let mut opened = open::open_on(lock, Box::new(disk), 100).unwrap();
            let mut promised = 0;
            for n in 1..=6 {
                match opened.writer.commit(entries(&format!("S{n}"), n, &[admission(n)])) {
                    Ok(()) => promised = n,
                    Err(error) => {
                        let text = error.to_string();
                        assert!(matches!(error, JournalError::Io { .. }), "{text}");
                        let status = SetupError::Journal(error).exit_status();
                        assert_eq!(status, ExitStatus::Io);
                        break;
                    }
                }
            }
            assert!(promised < 6, "call {fails_at} did not fail");
            let asked = calls.load(Ordering::Relaxed);
            let again = opened.writer.commit(entries("T", promised + 1, &[admission(9)]));
            assert!(matches!(again, Err(JournalError::Final { .. })), "call {fails_at}: {again:?}");
            assert_eq!(calls.load(Ordering::Relaxed), asked, "the disk was asked again");
            assert_eq!(opened.store.events(0, 10).unwrap().len() as u64, promised);
            drop(opened);
            // The one that failed may be there or not; what was promised is.
            let seq = open_in(dir.path()).unwrap().recovered.seq;
            assert!(seq == promised || seq == promised + 1, "{seq} after {promised}");
        }
    }
}

#[test]
fn a_record_that_does_not_continue_the_log_ends_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    let error = opened.writer.commit(entries("A1", 2, &[admission(1)])).unwrap_err();
    assert!(matches!(error, JournalError::Unfit { seq: 2, .. }), "{error}");
    let again = opened.writer.commit(entries("A1", 1, &[admission(1)]));
    assert!(matches!(again, Err(JournalError::Final { .. })));
    drop(opened);
    assert_eq!(open_in(dir.path()).unwrap().recovered.seq, 0);
}

/// Does as it is told, but has no room to give ahead; notes what it was asked for.
#[derive(Debug)]
struct Noting {
    calls: Arc<Mutex<Vec<&'static str>>>,
    disk: SystemDisk,
}

impl Noting {
    fn note(&self, call: &'static str) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Disk for Noting {
    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.note("create");
        self.disk.create(path, bytes)
    }

    fn resume(&mut self, path: &Path, length: u64) -> io::Result<()> {
        self.disk.resume(path, length)
    }

    fn cut(&mut self, path: &Path, length: Option<u64>) -> io::Result<()> {
        self.note("cut");
        self.disk.cut(path, length)
    }

    fn reserve(&mut self, _: u64, _: u64) -> io::Result<bool> {
        self.note("reserve");
        Ok(false)
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.note("write");
        self.disk.write(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.note("sync");
        self.disk.sync()
    }
}

#[test]
fn a_commit_is_one_write_and_one_sync_and_a_disk_without_room_to_spare_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let lock = JournalLock::take(dir.path()).unwrap();
    let noting = Noting { calls: calls.clone(), disk: SystemDisk::default() };
    let mut opened = open::open_on(lock, Box::new(noting), 100).unwrap();
    let told = |calls: &Mutex<Vec<&'static str>>| std::mem::take(&mut *calls.lock().unwrap());
    assert_eq!(told(&calls), ["sync"], "what was read is synced before it is acted upon");
    let group: Vec<Entry> = (1..=64).flat_map(|n| entries(&format!("S{n}"), n, &[admission(n)])).collect();
    opened.writer.commit(group).unwrap();
    assert_eq!(told(&calls), ["reserve", "write", "sync"]);
    // The next one begins a file, and leaves nothing behind the last record of the one before.
    opened.writer.commit(entries("T", 65, &[admission(65)])).unwrap();
    assert_eq!(told(&calls), ["cut", "create", "reserve", "write", "sync"]);
    drop(opened);
    assert_eq!(crate::journal::copy::verify(dir.path()).unwrap().records, 65);
}

#[test]
fn an_index_that_failed_ends_the_journal_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open_in(dir.path()).unwrap();
    opened.writer.commit(entries("A1", 1, &[admission(1)])).unwrap();
    opened.store.shared.pending.fail(damaged(dir.path(), "sled cannot write it"));
    let error = opened.writer.commit(entries("B2", 2, &[admission(2)])).unwrap_err();
    assert!(error.to_string().contains("sled cannot write it"), "{error}");
    let again = opened.writer.commit(entries("B2", 2, &[admission(2)]));
    assert!(matches!(again, Err(JournalError::Final { .. })), "{again:?}");
    let a1 = SerialNumber::parse("A1").unwrap();
    assert!(matches!(opened.store.device(&a1), Err(JournalError::Final { .. })));
    assert!(matches!(opened.store.presentation(&super::key(1)), Err(JournalError::Final { .. })));
    assert!(matches!(opened.store.events(0, 10), Err(JournalError::Final { .. })));
    drop(opened);
    assert_eq!(open_in(dir.path()).unwrap().recovered.seq, 1);
}

#[test]
fn a_panic_of_sleds_is_an_error_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let error = guard::guarded::<()>(dir.path(), || panic!("as sled does")).unwrap_err();
    assert!(matches!(&error, JournalError::Damaged { what, .. } if what.contains("sled")), "{error}");
}

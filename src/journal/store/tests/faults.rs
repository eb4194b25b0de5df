//! A disk that fails, by the number of the call.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

    fn resume(&mut self, path: &Path) -> io::Result<()> {
        self.disk.resume(path)
    }

    fn cut(&mut self, path: &Path, length: Option<u64>) -> io::Result<()> {
        self.disk.cut(path, length)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.fails() {
            self.disk.append(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.disk.append(bytes)
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
        // one: create, append, sync.
        for fails_at in 2..=13 {
            let dir = tempfile::tempdir().unwrap();
            let calls = Arc::new(AtomicUsize::new(0));
            let disk = Failing { calls: calls.clone(), fails_at, errno, disk: SystemDisk::default() };
            let lock = JournalLock::take(dir.path()).unwrap();
            let mut opened = open::open_on(lock, Box::new(disk), 100).unwrap();
            let mut promised = 0;
            for n in 1..=6 {
                match opened.writer.commit(&entries(&format!("S{n}"), n, &[admission(n)])) {
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
            let again = opened.writer.commit(&entries("T", promised + 1, &[admission(9)]));
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
    let error = opened.writer.commit(&entries("A1", 2, &[admission(1)])).unwrap_err();
    assert!(matches!(error, JournalError::Unfit { seq: 2, .. }), "{error}");
    let again = opened.writer.commit(&entries("A1", 1, &[admission(1)]));
    assert!(matches!(again, Err(JournalError::Final { .. })));
    drop(opened);
    assert_eq!(open_in(dir.path()).unwrap().recovered.seq, 0);
}

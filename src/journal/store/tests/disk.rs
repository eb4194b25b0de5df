//! A real file system of a few megabytes, full and then read-only: a tmpfs in a mount namespace of its
//! own, which a child process (this test again) lives in.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::process::Command;

use super::*;

/// Says to the child where its disk is.
const DISK: &str = "LINEMINT_TEST_DISK";

const DISK_MIB: u32 = 24;

#[test]
fn a_full_disk_and_a_read_only_one_lose_nothing_and_promise_nothing() {
    if let Some(disk) = std::env::var_os(DISK) {
        fill(Path::new(&disk));
        read_only(Path::new(&disk));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (disk, itself) = (dir.path(), std::env::current_exe().unwrap());
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(disk).arg(&itself);
        command.env(DISK, disk).output()
    };
    let mount = format!("mount -t tmpfs -o size={DISK_MIB}m tmpfs \"$1\"");
    match unshare(&mount) {
        Ok(output) if output.status.success() => {}
        refused => {
            let why = "skipped: no mount namespace of one's own is to be had here";
            writeln!(io::stderr(), "a_full_disk_and_a_read_only_one: {why}: {refused:?}").unwrap();
            return;
        }
    }
    let test =
        "journal::store::tests::disk::a_full_disk_and_a_read_only_one_lose_nothing_and_promise_nothing";
    let output = unshare(&format!("{mount} && exec \"$2\" --exact {test} --nocapture")).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("1 passed"), "{told}");
}

/// The number that the system has given an error.
fn errno(error: &JournalError) -> Option<i32> {
    match error {
        JournalError::Io { source, .. } | JournalError::Store { source: sled::Error::Io(source), .. } => {
            // Two layers below it may have worded it again.
            let inner =
                source.get_ref().and_then(|it| it.source()).and_then(|it| it.downcast_ref::<io::Error>());
            source.raw_os_error().or_else(|| inner.and_then(io::Error::raw_os_error))
        }
        _ => None,
    }
}

fn fill(disk: &Path) {
    let (dir, ballast) = (disk.join("journal"), disk.join("ballast"));
    std::fs::File::create(&ballast).unwrap().write_all(&vec![1; 12 << 20]).unwrap();
    let mut opened = open_in(&dir).unwrap();
    let mut promised = 0;
    let error = loop {
        let next = promised + 1;
        match opened.writer.commit(entries(&format!("S{next}"), next, &[admission(next)])) {
            Ok(()) => promised = next,
            Err(error) => break error,
        }
        assert!(promised < 1_000_000, "the disk is never full");
    };
    assert!(promised > 1000, "{promised}: there was room for more than that");
    let full = rustix::io::Errno::NOSPC.raw_os_error();
    let text = crate::error::Chain(&error).to_string();
    assert!(errno(&error) == Some(full) || text.to_lowercase().contains("no space"), "{text}: {error:?}");
    let again = opened.writer.commit(entries("T", promised + 1, &[admission(1)]));
    assert!(matches!(again, Err(JournalError::Final { .. })), "{again:?}");
    drop(opened);
    // As long as it is full a start says so, or goes well; it never takes anything back or apart.
    match open_in(&dir) {
        Ok(opened) => assert!(opened.recovered.seq >= promised),
        Err(error) => {
            let text = crate::error::Chain(&error).to_string();
            assert!(errno(&error) == Some(full) || text.to_lowercase().contains("no space"), "{text}");
        }
    }
    std::fs::remove_file(&ballast).unwrap();
    assert!(!dir.join("sled.damaged-1").exists(), "a full disk is no reason to make the index again");
    let mut opened = open_in(&dir).unwrap();
    let seq = opened.recovered.seq;
    assert!(seq == promised || seq == promised + 1, "{seq} after {promised}");
    assert_eq!(opened.recovered.pending.len() as u64, seq);
    opened.writer.commit(entries("U", seq + 1, &[admission(1)])).unwrap();
    drop(opened);
    assert_eq!(crate::journal::copy::verify(&dir).unwrap().records, seq + 1);
}

fn read_only(disk: &Path) {
    let dir = disk.join("journal");
    let records = crate::journal::copy::verify(&dir).unwrap().records;
    let remount = [OsStr::new("-o"), OsStr::new("remount,ro"), disk.as_os_str()];
    assert!(Command::new("mount").args(remount).status().unwrap().success());
    let error = open_in(&dir).unwrap_err();
    assert_eq!(errno(&error), Some(rustix::io::Errno::ROFS.raw_os_error()), "{error:?}");
    assert!(error.to_string().starts_with("failed to open "), "{error}");
    assert_eq!(crate::journal::copy::verify(&dir).unwrap().records, records, "it can still be read");
}

//! The journal's disk: can it be written, how fast does it sync, how much is free.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{DISK_FREE, Finding, JOURNAL_SYNC, JOURNAL_WRITABLE};
use crate::clock::TimeSource;
use crate::config::Journal;
use crate::durable_fs::free_bytes;

/// Blocks that are synced one by one.
const SYNCS: usize = 20;
const BLOCK: [u8; 4096] = [0x55; 4096];

/// A median above this is warned of: a disk without a write cache that is safe takes some milliseconds.
const SLOW: Duration = Duration::from_millis(50);

/// All three, within the time that the disk takes.
pub(super) fn look(journal: &Journal, clock: &dyn TimeSource) -> Vec<Finding> {
    let dir = &journal.dir;
    let there = nearest(dir);
    let new =
        if there == *dir { String::new() } else { format!("; {} is made at the first start", dir.display()) };
    let place = there.display();
    let mut findings = Vec::new();
    match scratch(&there).and_then(|file| times(file, clock)) {
        Ok(mut times) => {
            findings.push(JOURNAL_WRITABLE.ok(format!("{place} can be written{new}")));
            findings.push(sync_time(&mut times));
        }
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied if there != *dir => {
                    // What is there is not the station's: only the directory that is to be made is.
                    let home = dir.parent().unwrap_or(dir).display();
                    format!(
                        "make the directory for the daemon's user: install -d -m 0700 -o linemint {home}; or run the doctor as that user"
                    )
                }
                io::ErrorKind::PermissionDenied => {
                    format!(
                        "give {place} to the daemon's user: chown -R linemint: {place}; or run the doctor as that user"
                    )
                }
                io::ErrorKind::ReadOnlyFilesystem => format!("mount the disk of {place} for writing"),
                io::ErrorKind::StorageFull => format!("make room on the disk of {place}"),
                _ => format!(
                    "put journal.dir on a disk that works; {place} is the nearest directory that is there"
                ),
            };
            findings.push(JOURNAL_WRITABLE.failed(format!("{place} cannot be written: {error}"), remedy));
            findings.push(JOURNAL_SYNC.skipped("nothing can be written"));
        }
    }
    findings.push(free(&there, journal.min_free));
    findings
}

/// The directory, or the nearest above it that is there.
fn nearest(dir: &Path) -> PathBuf {
    dir.ancestors().find(|it| it.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// A file that nobody else sees and that is gone when it is closed.
fn scratch(dir: &Path) -> io::Result<File> {
    let mut file = tempfile::tempfile_in(dir)?;
    // As the journal's: room is made ahead, so that a sync writes what is new and no more.
    file.write_all(&BLOCK.repeat(SYNCS))?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn times(mut file: File, clock: &dyn TimeSource) -> io::Result<Vec<Duration>> {
    (0..SYNCS)
        .map(|_| {
            let start = clock.now().mono;
            file.write_all(&BLOCK)?;
            file.sync_data()?;
            Ok(clock.now().mono.saturating_sub(start))
        })
        .collect()
}

fn sync_time(times: &mut [Duration]) -> Finding {
    times.sort();
    let millis = |it: Duration| it.as_secs_f64() * 1e3;
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    let detail = format!(
        "a sync takes {:.1} ms, the longest of {} {:.1} ms",
        millis(median),
        times.len(),
        millis(longest)
    );
    if median > SLOW {
        let remedy = "put journal.dir on a local SSD, best one with power-loss protection; no network share, no SD card";
        return JOURNAL_SYNC.warning(detail, remedy);
    }
    JOURNAL_SYNC.ok(detail)
}

fn free(dir: &Path, min_free: u64) -> Finding {
    let free = match free_bytes(dir) {
        Ok(free) => free,
        Err(error) => return DISK_FREE.skipped(format!("{} cannot be asked: {error}", dir.display())),
    };
    let mib = |bytes: u64| bytes >> 20;
    let detail = format!("{} MiB are free, journal.min_free is {} MiB", mib(free), mib(min_free));
    let remedy = "make room on that disk, or move the journal to a larger one";
    if free < min_free {
        DISK_FREE.failed(format!("{detail}: no new device is admitted"), remedy)
    } else if free < min_free.saturating_mul(2) {
        DISK_FREE.warning(detail, remedy)
    } else {
        DISK_FREE.ok(detail)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::SecretRef;
    use crate::doctor::Verdict;

    fn journal(dir: PathBuf, min_free: u64) -> Journal {
        let seal_key = SecretRef::Path(dir.join("seal.key"));
        Journal { dir, min_free, seal_key, keep_undelivered: Duration::from_secs(1) }
    }

    fn verdicts(findings: &[Finding]) -> Vec<Verdict> {
        findings.iter().map(|it| it.status).collect()
    }

    #[test]
    fn a_good_disk_is_measured_and_nothing_is_left_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let findings = look(&journal(dir.path().join("a/b"), 1), &SystemClock::default());
        assert_eq!(verdicts(&findings)[0], Verdict::Ok);
        assert!(findings[0].detail.ends_with("a/b is made at the first start"), "{findings:?}");
        assert!(findings[1].detail.starts_with("a sync takes "), "{findings:?}");
        assert_eq!(findings[2].status, Verdict::Ok);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_disk_that_is_slow_or_full_is_told() {
        let mut slow = [60, 51, 1, 70, 2].map(Duration::from_millis);
        let finding = sync_time(&mut slow);
        assert_eq!(
            (finding.status, finding.detail.as_str()),
            (Verdict::Warning, "a sync takes 51.0 ms, the longest of 5 70.0 ms")
        );
        assert_eq!(sync_time(&mut [50, 50, 90].map(Duration::from_millis)).status, Verdict::Ok);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(free(dir.path(), u64::MAX).status, Verdict::Failed);
        let available = free_bytes(dir.path()).unwrap();
        assert_eq!(free(dir.path(), available / 4 * 3).status, Verdict::Warning);
        assert_eq!(free(dir.path(), available / 4).status, Verdict::Ok);
        assert_eq!(free(Path::new("/nonexistent"), 1).status, Verdict::Skipped);
    }

    #[test]
    fn a_directory_that_cannot_be_written_fails_and_the_sync_is_skipped() {
        // Nobody, root included, makes files in proc.
        let findings = look(&journal(PathBuf::from("/proc/self/journal"), 1), &SystemClock::default());
        assert_eq!(verdicts(&findings)[..2], [Verdict::Failed, Verdict::Skipped]);
        assert!(findings[0].remedy.is_some());
        let remedy = findings[0].remedy.clone().unwrap();
        assert!(!remedy.contains("chown"), "what is above it is not the station's: {remedy}");
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
        let findings = look(&journal(dir.path().to_owned(), 1), &SystemClock::default());
        let root = rustix::process::geteuid().is_root();
        assert_eq!(findings[0].status, if root { Verdict::Ok } else { Verdict::Failed });
    }
}

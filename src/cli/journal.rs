//! `linemint journal`: checks, exports, backs up and restores the journal.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rustix::fs::{AtFlags, CWD, Dir, Gid, Mode, OFlags, Uid, chownat, openat};
use rustix::io::Errno;

use crate::config::{DEFAULT_PATH, PlaceError, journal_in};
use crate::error::{Chain, ExitStatus};
use crate::journal::JournalError;
use crate::journal::copy::{self, ExportError, Summary};
use crate::journal::store::JournalLock;

/// What can be done with a journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Read all of the log and say whether it is what was written; beside a running station too
    Verify(Where),
    /// Write every record as a line of JSON; beside a running station too
    Export(Where),
    /// Copy the log of a running station or of one that is stopped, and verify the copy
    Backup(BackupArgs),
    /// Make a journal from a backup, where there is none
    Restore(RestoreArgs),
}

/// Which journal.
#[derive(Debug, Clone, Default, Args)]
pub struct Where {
    /// The configuration that says where the journal is
    #[arg(long, value_name = "F", conflicts_with = "dir")]
    pub config: Option<PathBuf>,
    /// The journal's directory, or a backup's
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// What is backed up, and where to.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// Which journal
    #[command(flatten)]
    pub journal: Where,
    /// Where the backup goes; made if missing, and no backup in it is ever overwritten
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// What is restored, and where to.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// Which journal: there must be none yet
    #[command(flatten)]
    pub journal: Where,
    /// The backup: a directory, or a file that a running station has sent
    #[arg(long, value_name = "DIR|FILE")]
    pub from: PathBuf,
}

/// Why a command did not get to its end.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("failed to find the journal by {}; name its directory with --dir", path.display())]
    Place { path: PathBuf, source: PlaceError },
    #[error("the restored journal in {} could not be given to the owner of the directory above: `chown -R` it", dir.display())]
    Owner { dir: PathBuf, source: io::Error },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("failed to write the answer")]
    Output(#[from] io::Error),
}

/// Runs the command. What was asked for goes to stdout, all else to stderr.
#[must_use]
pub fn run(command: &JournalCommand) -> ExitStatus {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = carry_out(command, &mut out, &mut io::stderr()).and_then(|status| {
        out.flush()?;
        Ok(status)
    });
    ended(result, &mut io::stderr())
}

fn carry_out(
    command: &JournalCommand,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<ExitStatus, Failure> {
    match command {
        JournalCommand::Verify(journal) => {
            let dir = journal.dir()?;
            match copy::verify(&dir) {
                Ok(summary) => writeln!(out, "{}intact", told(&summary))?,
                Err(JournalError::Log(damage)) => {
                    writeln!(out, "DAMAGED: {}", damage.what)?;
                    writeln!(out, "file              {}", damage.file.display())?;
                    writeln!(out, "offset            {}", damage.offset)?;
                    writeln!(out, "first bad record  {}", damage.seq)?;
                    if let Some(hash) = damage.last_good {
                        writeln!(out, "last good hash    {hash}")?;
                    }
                    return Ok(ExitStatus::Bad);
                }
                Err(error) => return Err(error.into()),
            }
        }
        JournalCommand::Export(journal) => {
            copy::export(&journal.dir()?, out)?;
        }
        JournalCommand::Backup(args) => {
            let summary = copy::backup(&args.journal.dir()?, &args.to)?;
            writeln!(out, "{}backed up to {}", told(&summary), args.to.display())?;
        }
        JournalCommand::Restore(args) => {
            let dir = args.journal.dir()?;
            let (owner, is_new) = (owner_of(&dir), !dir.exists());
            let restored = JournalLock::take(&dir).and_then(|lock| copy::restore(&args.from, lock));
            // Also what a failure left: the next try would take its owner for the one above. But nothing that was there.
            let given = match owner.filter(|_| restored.is_ok() || is_new) {
                Some((owner, first)) => {
                    give_to(owner, CWD, &first).map_err(|source| Failure::Owner { dir: first, source })
                }
                None => Ok(()),
            };
            let summary = restored?;
            given?;
            writeln!(out, "{}restored to {}", told(&summary), dir.display())?;
            writeln!(
                err,
                "private keys are in no backup: who had not got theirs is issued a new certificate\n  \
                 hint: what the station did after this backup is not in it: compare with the account before the line starts"
            )?;
        }
    }
    Ok(ExitStatus::Done)
}

impl Where {
    fn dir(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        let config = self.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        journal_in(config).map_err(|source| Failure::Place { path: config.to_owned(), source })
    }
}

/// Who owns the nearest directory above that is there: the daemon's user, as a rule, while the one who restores is root;
/// and the first directory below it, which is made with all in it. None where nobody but root could give a file away.
fn owner_of(dir: &Path) -> Option<((u32, u32), PathBuf)> {
    let dir = std::path::absolute(dir).ok()?;
    let above: Vec<_> = dir.ancestors().collect();
    let there = above.iter().skip(1).position(|it| it.exists())?;
    let known = std::fs::metadata(above[there + 1]).ok()?;
    rustix::process::geteuid().is_root().then(|| ((known.uid(), known.gid()), above[there].to_owned()))
}

/// Gives a directory and all that is in it away. Links are not followed, nor one that the new owner puts there meanwhile.
fn give_to((uid, gid): (u32, u32), above: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(above, name, flags, Mode::empty()) {
        Ok(dir) => {
            for entry in Dir::read_from(&dir)? {
                let entry = entry?;
                let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
                if name != Path::new(".") && name != Path::new("..") {
                    give_to((uid, gid), dir.as_fd(), name)?;
                }
            }
        }
        Err(Errno::NOTDIR | Errno::LOOP) => {}
        Err(error) => return Err(error.into()),
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    Ok(chownat(above, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn told(it: &Summary) -> String {
    let mut text = format!(
        "journal           {}\nrecords           {}\nfiles             {}\nlast hash         {}\n",
        it.id, it.records, it.files, it.last_hash
    );
    if it.unfinished_bytes > 0 {
        text.push_str(&format!(
            "unfinished        {} bytes at the end: being written, or cut off by a crash; never promised\n",
            it.unfinished_bytes
        ));
    }
    text
}

fn ended(result: Result<ExitStatus, Failure>, err: &mut impl Write) -> ExitStatus {
    let failure = match result {
        Ok(status) => return status,
        Err(Failure::Output(error) | Failure::Export(ExportError::Output(error)))
            if error.kind() == io::ErrorKind::BrokenPipe =>
        {
            return ExitStatus::Done;
        }
        Err(failure) => failure,
    };
    // Where stderr is gone too, the exit status still says it.
    let _ = writeln!(err, "error: {}", Chain(&failure));
    match &failure {
        Failure::Place { .. } => ExitStatus::Configuration,
        Failure::Owner { .. } => ExitStatus::Io,
        Failure::Journal(error) | Failure::Export(ExportError::Journal(error)) => status(error),
        Failure::Export(ExportError::Output(_)) | Failure::Output(_) => ExitStatus::Io,
    }
}

fn status(error: &JournalError) -> ExitStatus {
    match error {
        JournalError::Held { .. } => ExitStatus::Busy,
        JournalError::Log(_)
        | JournalError::Damaged { .. }
        | JournalError::BadBackup { .. }
        | JournalError::Lost { .. } => ExitStatus::Bad,
        JournalError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            ExitStatus::NotPermitted
        }
        _ => ExitStatus::Io,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom};

    use super::*;
    use crate::journal::store::{Opened, open};
    use crate::journal::{Entry, Journal as _, Record, StationEvent, What};

    fn at(dir: &Path) -> Where {
        Where { config: None, dir: Some(dir.to_owned()) }
    }

    fn journal(dir: &Path, records: u64) -> Opened {
        let mut opened = open(JournalLock::take(dir).unwrap()).unwrap();
        for seq in opened.recovered.seq + 1..=records {
            let message = format!("record {seq}");
            let what = What::Station(StationEvent::LineStopped { message });
            let record = Record { seq, at: "2026-11-21T12:00:00Z".parse().unwrap(), serial: None, what };
            opened.writer.commit(vec![Entry { record, device: None }]).unwrap();
        }
        opened
    }

    fn tell(command: &JournalCommand) -> (ExitStatus, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let result = carry_out(command, &mut out, &mut err);
        let status = ended(result, &mut err);
        (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn flip(dir: &Path, byte: u64) {
        let path = dir.join("log/00000000000000000001.log");
        let mut file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let mut at = [0];
        file.seek(SeekFrom::Start(byte)).unwrap();
        io::Read::read_exact(&mut file, &mut at).unwrap();
        file.seek(SeekFrom::Start(byte)).unwrap();
        file.write_all(&[at[0] ^ 4]).unwrap();
    }

    #[test]
    fn a_running_stations_journal_is_verified_and_damage_is_located() {
        let dir = tempfile::tempdir().unwrap();
        let running = journal(dir.path(), 3);
        let (status, out, err) = tell(&JournalCommand::Verify(at(dir.path())));
        assert_eq!((status, err.as_str()), (ExitStatus::Done, ""));
        assert!(out.contains("records           3\n") && out.ends_with("\nintact\n"), "{out}");
        let hash = out.lines().find_map(|it| it.strip_prefix("last hash")).unwrap().trim().to_owned();
        drop(running);
        flip(dir.path(), 80);
        let (status, out, _) = tell(&JournalCommand::Verify(at(dir.path())));
        assert_eq!(status, ExitStatus::Bad);
        assert!(out.contains("first bad record  1\n") && out.contains("last good hash    "), "{out}");
        assert!(!out.contains(&hash), "{out}");
    }

    #[test]
    fn an_export_is_a_header_and_a_line_for_each_record() {
        let dir = tempfile::tempdir().unwrap();
        let running = journal(dir.path(), 3);
        let (status, out, _) = tell(&JournalCommand::Export(at(dir.path())));
        assert_eq!(status, ExitStatus::Done);
        let lines: Vec<serde_json::Value> = out.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        assert_eq!(lines[0]["schema"], "linemint-journal/1");
        assert_eq!(lines[0]["journal"], running.id);
        let seqs: Vec<_> = lines[1..].iter().map(|it| it["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, [1, 2, 3]);
        assert_eq!(lines[1]["event"], "line-stopped");
    }

    #[test]
    fn a_running_stations_backup_is_restored_elsewhere_and_never_over_a_journal() {
        let dir = tempfile::tempdir().unwrap();
        let (here, backup, there) =
            (dir.path().join("here"), dir.path().join("backup"), dir.path().join("there"));
        let running = journal(&here, 40);
        let to = JournalCommand::Backup(BackupArgs { journal: at(&here), to: backup.clone() });
        assert_eq!(tell(&to).0, ExitStatus::Done);
        let (status, _, err) = tell(&to);
        assert_eq!(status, ExitStatus::Io);
        assert!(err.contains("is in the way"), "{err}");
        let restore =
            |to: &Path| tell(&JournalCommand::Restore(RestoreArgs { journal: at(to), from: backup.clone() }));
        let (status, out, err) = restore(&there);
        assert_eq!(status, ExitStatus::Done, "{err}");
        assert!(out.contains("records           40\n"), "{out}");
        let restored = journal(&there, 41);
        assert_eq!((restored.recovered.seq, &restored.id), (40, &running.id));
        drop(restored);
        assert_eq!(restore(&there).0, ExitStatus::Io);
        assert_eq!(restore(&here).0, ExitStatus::Busy);
        assert_eq!(std::fs::read_dir(&backup).unwrap().count(), 1, "nothing but the log");
    }

    #[test]
    fn what_is_restored_belongs_to_whom_the_directory_above_belongs_to() {
        use std::os::unix::fs::chown;
        let dir = tempfile::tempdir().unwrap();
        let (backup, state) = (dir.path().join("backup"), dir.path().join("state"));
        let running = journal(&dir.path().join("here"), 4);
        let to = BackupArgs { journal: at(&dir.path().join("here")), to: backup.clone() };
        assert_eq!(tell(&JournalCommand::Backup(to)).0, ExitStatus::Done);
        drop(running);
        std::fs::create_dir(&state).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&state, Some(65_534), Some(65_534)).unwrap();
        }
        let owner = |path: &Path| {
            let it = path.symlink_metadata().unwrap();
            (it.uid(), it.gid())
        };
        let there = state.join("new/journal");
        let restore = |from: &Path| {
            tell(&JournalCommand::Restore(RestoreArgs { journal: at(&there), from: from.to_owned() }))
        };
        let (status, _, err) = restore(&state);
        assert_eq!(status, ExitStatus::Bad);
        assert!(err.contains("cannot be restored: no journal's log lies in it"), "{err}");
        assert_eq!(restore(&backup).0, ExitStatus::Done);
        let mut all = vec![state.join("new")];
        while let Some(path) = all.pop() {
            assert_eq!(owner(&path), owner(&state), "{}", path.display());
            if path.is_dir() {
                all.extend(path.read_dir().unwrap().map(|it| it.unwrap().path()));
            }
        }
    }

    #[test]
    fn a_backup_that_was_sent_is_restored_if_every_byte_of_it_came() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there, sent) =
            (dir.path().join("here"), dir.path().join("there"), dir.path().join("sent"));
        let mut running = journal(&here, 20);
        let mut bytes = Vec::new();
        running.store.backup(&mut bytes).unwrap();
        // What comes after it is not in it.
        let what = What::Station(StationEvent::LineResumed);
        let record = Record { seq: 21, at: "2026-11-21T12:00:00Z".parse().unwrap(), serial: None, what };
        running.writer.commit(vec![Entry { record, device: None }]).unwrap();
        let restore = |bytes: &[u8]| {
            std::fs::File::create(&sent).unwrap().write_all(bytes).unwrap();
            tell(&JournalCommand::Restore(RestoreArgs { journal: at(&there), from: sent.clone() }))
        };
        for length in (0..bytes.len()).step_by(41).chain([bytes.len() - 52, bytes.len() - 1]) {
            let (status, _, err) = restore(&bytes[..length]);
            assert_eq!(status, ExitStatus::Bad, "{length} bytes: {err}");
            assert!(err.contains("it is cut off; take another one"), "{length} bytes: {err}");
        }
        for byte in (0..bytes.len()).step_by(37) {
            let mut bad = bytes.clone();
            bad[byte] ^= 4;
            let (status, _, err) = restore(&bad);
            assert_eq!(status, ExitStatus::Bad, "byte {byte}: {err}");
        }
        assert_eq!(restore(&[&bytes[..], b"x"].concat()).0, ExitStatus::Bad);
        assert!(!there.join("log").exists() && !there.join("log.new").exists());
        let (status, out, err) = restore(&bytes);
        assert_eq!(status, ExitStatus::Done, "{err}");
        assert!(out.contains("records           20\n"), "{out}");
        assert_eq!(restore(&bytes).0, ExitStatus::Io, "never over a journal");
        let restored = journal(&there, 21);
        assert_eq!((restored.recovered.seq, &restored.id), (20, &running.id));
    }

    #[test]
    fn a_damaged_backup_is_not_restored() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        drop(journal(&here, 5));
        flip(&here, 100);
        let restore = RestoreArgs { journal: at(&there), from: here };
        assert_eq!(tell(&JournalCommand::Restore(restore)).0, ExitStatus::Bad);
        assert!(!there.join("log").exists() && !there.join("sled").exists());
    }

    #[test]
    fn a_journal_that_is_not_there_and_a_wrong_configuration_are_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(tell(&JournalCommand::Verify(at(dir.path()))).0, ExitStatus::Io);
        let config = Some(dir.path().join("none.toml"));
        let (status, _, err) = tell(&JournalCommand::Verify(Where { config, dir: None }));
        assert_eq!(status, ExitStatus::Configuration);
        assert!(err.starts_with("error: failed to find the journal by ") && err.contains("--dir"), "{err}");
        // Nothing else of it has to be right: it may name files that this machine does not have yet.
        let half = dir.path().join("half.toml");
        let text =
            format!("[pki]\nca_certificate = \"/nowhere\"\n[journal]\ndir = {:?}\n", dir.path().join("j"));
        crate::durable_fs::create_new(&half, 0o600, text.as_bytes()).unwrap();
        drop(journal(&dir.path().join("j"), 2));
        let (status, out, err) = tell(&JournalCommand::Verify(Where { config: Some(half), dir: None }));
        assert_eq!(status, ExitStatus::Done, "{out}{err}");
    }
}

//! The directories that deliveries, labels and reports go into: can they be written, how much is free.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::{DIRECTORY_FREE, DIRECTORY_WRITABLE, Finding};
use crate::config::Config;
use crate::durable_fs::free_bytes;
use crate::line::Deliver;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    /// Where.
    path: PathBuf,
    /// The keys of the configuration that name it.
    keys: Vec<String>,
    /// The daemon makes what is above it too.
    made_whole: bool,
}

impl Folder {
    /// What the check is about.
    pub(super) fn subject(&self) -> String {
        self.path.display().to_string()
    }
}

/// All that the configuration names, each once.
pub(super) fn all(config: &Config) -> Vec<Folder> {
    let mut all: BTreeMap<PathBuf, Folder> = BTreeMap::new();
    let mut add = |path: &Path, key: String, made_whole| {
        let new = || Folder { path: path.to_owned(), keys: Vec::new(), made_whole: false };
        let folder = all.entry(path.to_owned()).or_insert_with(new);
        folder.keys.push(key);
        folder.made_whole |= made_whole;
    };
    if let Some(dir) = &config.station.reports.dir {
        add(dir, "station.report_dir".to_owned(), true);
    }
    for (name, product) in &config.products {
        if let Deliver::Directory(dir) = &product.deliver {
            add(dir, format!("product.{name}.directory"), false);
        }
        if let Some(dir) = &product.labels {
            add(dir, format!("product.{name}.labels"), false);
        }
    }
    all.into_values().collect()
}

/// Where the configuration names none.
pub(super) fn none() -> Vec<Finding> {
    let detail = "neither deliveries nor labels nor reports go into a directory";
    vec![DIRECTORY_WRITABLE.skipped(detail), DIRECTORY_FREE.skipped(detail)]
}

/// Both, within the time that the disk takes.
pub(super) fn look(folder: &Folder, min_free: u64) -> Vec<Finding> {
    let about = folder.subject();
    let findings = match place(folder) {
        Ok(place) => vec![writable(folder, &place), free(&place, min_free)],
        Err(failed) => vec![failed, DIRECTORY_FREE.skipped("the directory is not there")],
    };
    findings.into_iter().map(|it| it.about(&about)).collect()
}

/// The directory, or the one that the daemon makes it in.
fn place(folder: &Folder) -> Result<PathBuf, Finding> {
    let (path, keys) = (&folder.path, folder.keys.join(", "));
    if path.is_dir() {
        return Ok(path.clone());
    }
    if path.symlink_metadata().is_ok() {
        let remedy = format!("move it away, or name another directory in {keys}");
        return Err(DIRECTORY_WRITABLE.failed(format!("{} is no directory", path.display()), remedy));
    }
    // As the start does: what is above a delivery's may be a share that is not mounted yet.
    let depth = if folder.made_whole { usize::MAX } else { 1 };
    let above = path.ancestors().skip(1).take(depth).find(|it| it.is_dir());
    above.map(Path::to_owned).ok_or_else(|| {
        let detail = format!("{} is not there, and neither is what it lies in", path.display());
        DIRECTORY_WRITABLE.failed(detail, format!("mount the share, or make the directory of {keys}"))
    })
}

fn writable(folder: &Folder, place: &Path) -> Finding {
    let (path, keys) = (folder.path.display(), folder.keys.join(", "));
    let here = place.display();
    let new = if place == folder.path { String::new() } else { format!("; {path} is made at the start") };
    let error = match scratch(place) {
        Ok(()) => return DIRECTORY_WRITABLE.ok(format!("{here} can be written, for {keys}{new}")),
        Err(error) => error,
    };
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied if place != folder.path => {
            format!(
                "make it for the daemon's user: install -d -o linemint {path}; or run the doctor as that user"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("give it to the daemon's user: chown linemint: {path}; or run the doctor as that user")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("mount its disk for writing; in the unit it has to be in ReadWritePaths=, as {path}")
        }
        io::ErrorKind::StorageFull => "make room on its disk".to_owned(),
        _ => format!("put {keys} on a disk that works"),
    };
    DIRECTORY_WRITABLE.failed(format!("{here} cannot be written, for {keys}: {error}"), remedy)
}

/// A file that nobody else sees and that is gone when it is closed, where the file system has such files.
fn scratch(dir: &Path) -> io::Result<()> {
    let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(dir, nameless, Mode::RUSR | Mode::WUSR) {
        Ok(file) => fill(&mut File::from(file)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => named(dir, |it| fill(it.as_file_mut())),
        Err(error) => Err(error.into()),
    }
}

/// The same by a name. That it cannot be removed is told: it would be left at each look.
fn named(dir: &Path, fill: impl FnOnce(&mut NamedTempFile) -> io::Result<()>) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(dir)?;
    fill(&mut file)?;
    file.close()
}

fn fill(file: &mut File) -> io::Result<()> {
    file.write_all(&[0x55; 4096])?;
    file.sync_all()
}

fn free(dir: &Path, min_free: u64) -> Finding {
    let free = match free_bytes(dir) {
        Ok(free) => free,
        Err(error) => return DIRECTORY_FREE.skipped(format!("{} cannot be asked: {error}", dir.display())),
    };
    let mib = |bytes: u64| bytes >> 20;
    let detail = format!("{} MiB are free, journal.min_free is {} MiB", mib(free), mib(min_free));
    if free < min_free {
        return DIRECTORY_FREE
            .warning(detail, "make room on that disk: what does not go there stays with the station");
    }
    DIRECTORY_FREE.ok(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use crate::doctor::tests::config_with;

    fn folder(path: PathBuf, made_whole: bool) -> Folder {
        Folder { path, keys: vec!["station.report_dir".to_owned()], made_whole }
    }

    fn verdicts(folder: &Folder) -> Vec<Verdict> {
        look(folder, 1).iter().map(|it| it.status).collect()
    }

    #[test]
    fn each_directory_that_is_configured_is_looked_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let product = "deliver = \"directory\"\ndirectory = \"out\"\nlabels = \"out\"\n";
        let config = config_with(dir.path(), product);
        let all = all(&config);
        let keys: Vec<_> = all.iter().map(|it| it.keys.clone()).collect();
        assert_eq!(keys, [["product.thermostat.directory", "product.thermostat.labels"]]);
        assert_eq!(all[0].path, dir.path().join("out"));
        let found = look(&all[0], 1);
        assert!(found[0].detail.ends_with("out is made at the start"), "{found:?}");
        assert_eq!(verdicts(&all[0]), [Verdict::Ok; 2]);
        assert!(!dir.path().join("out").exists(), "nothing is made");
        std::fs::create_dir(dir.path().join("out")).unwrap();
        assert_eq!(look(&all[0], u64::MAX)[1].status, Verdict::Warning);
        assert_eq!(dir.path().join("out").read_dir().unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn where_a_file_has_to_have_a_name_it_is_removed_and_told_if_it_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        let there = || dir.path().read_dir().unwrap().count();
        named(dir.path(), |it| {
            assert!(it.path().file_name().unwrap().to_str().unwrap().starts_with(".tmp"));
            assert_eq!(there(), 1);
            fill(it.as_file_mut())
        })
        .unwrap();
        assert_eq!(there(), 0, "nothing is left");
        let error = named(dir.path(), |it| std::fs::remove_file(it.path())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "it could not be removed");
    }

    #[test]
    fn what_cannot_be_written_fails_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("share/out");
        assert_eq!(verdicts(&folder(deep.clone(), true)), [Verdict::Ok; 2], "the daemon makes all of it");
        let missing = look(&folder(deep, false), 1);
        assert_eq!(missing[0].status, Verdict::Failed);
        assert!(missing[0].remedy.as_ref().unwrap().contains("mount the share"), "{missing:?}");
        let file = dir.path().join("file");
        crate::durable_fs::create_new(&file, 0o600, b"").unwrap();
        assert_eq!(verdicts(&folder(file, true)), [Verdict::Failed, Verdict::Skipped]);
        // Nobody, root included, makes files in proc.
        let found = look(&folder(PathBuf::from("/proc/self/out"), false), 1);
        assert_eq!(found[0].status, Verdict::Failed);
        assert_eq!(found[0].subject.as_deref(), Some("/proc/self/out"));
        assert!(found[0].detail.contains("for station.report_dir"), "{found:?}");
    }
}

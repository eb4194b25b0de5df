//! The files of a report: `shift-2026-11-22-early.{csv,html,txt,json}`.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;

use crate::control::report::{LinesError, write_lines};
use crate::durable_fs::{self, FileError, create_dir, parent, replace, sync_dir};
use crate::journal::JournalError;
use crate::journal::store::Store;
use crate::report::fold::Maker;
use crate::report::model::Report;
use crate::report::render::{html, text};
use crate::report::selection::Selection;
use crate::shift::{Calendar, ShiftSpan};

/// The formats, in the order in which they are written.
const FORMATS: [&str; 4] = ["csv", "html", "txt", "json"];

/// Who may read a report is for the directory to say; whatever umask the daemon has, its files are alike.
const FILE_MODE: u32 = 0o644;

/// Of the directory and those above it, where the daemon makes them itself.
const DIR_MODE: u32 = 0o755;

/// Why a report is not there.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum WriteError {
    #[error("failed to read the journal")]
    Journal(#[from] JournalError),
    #[error("failed to write the report")]
    File(#[from] FileError),
    #[error("failed to write {}", path.display())]
    Lines { path: PathBuf, source: LinesError },
    #[error("failed to {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
}

/// A shift's files, without their endings.
pub(super) fn stem(span: &ShiftSpan) -> String {
    format!("shift-{}-{}", span.day, span.name)
}

pub(super) fn name(span: &ShiftSpan, format: &str) -> String {
    format!("{}.{format}", stem(span))
}

/// Writes all four; the JSON last, whose path it returns.
pub(super) fn write(
    dir: &Path,
    stem: &str,
    maker: &Maker,
    (store, selection): (&Store, &Selection),
    report: &Report,
) -> Result<PathBuf, WriteError> {
    make_dir(dir)?;
    let path = |format: &str| dir.join(format!("{stem}.{format}"));
    lines(&path("csv"), store, selection, report)?;
    replace(&path("html"), FILE_MODE, html::render(report).as_bytes())?;
    replace(&path("txt"), FILE_MODE, text::render(report).as_bytes())?;
    replace(&path("json"), FILE_MODE, maker.json(report).as_bytes())?;
    Ok(path("json"))
}

/// Makes the directory where it is missing; one that is there keeps its mode.
fn make_dir(dir: &Path) -> Result<(), WriteError> {
    let missing: Vec<_> =
        dir.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.is_dir()).collect();
    create_dir(dir, DIR_MODE)?;
    for made in missing {
        let failed = |source| WriteError::Io { attempt: "open to readers", path: made.to_owned(), source };
        std::fs::set_permissions(made, Permissions::from_mode(DIR_MODE)).map_err(failed)?;
    }
    Ok(())
}

/// The lines of a hundred thousand devices are not held in memory.
fn lines(path: &Path, store: &Store, selection: &Selection, report: &Report) -> Result<(), WriteError> {
    let new = path.with_extension("csv.new");
    let failed = |attempt: &'static str| {
        let path = new.clone();
        move |source| WriteError::Io { attempt, path, source }
    };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new);
    let file = file.map_err(failed("make"))?;
    // The umask has taken from the mode.
    file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(failed("open to readers"))?;
    let mut out = BufWriter::new(file);
    let span = (report.selection.begin, report.selection.end);
    write_lines(store, selection, span, &mut out)
        .map_err(|source| WriteError::Lines { path: new.clone(), source })?;
    out.flush().map_err(failed("write"))?;
    out.get_ref().sync_all().map_err(failed("sync"))?;
    std::fs::rename(&new, path).map_err(failed("rename"))?;
    Ok(sync_dir(parent(path))?)
}

/// Removes the reports of the oldest shifts beyond the newest `keep`; files of other names are left alone.
pub(super) fn prune(dir: &Path, keep: usize, calendar: &Calendar) -> Result<(), WriteError> {
    let failed = |attempt: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| WriteError::Io { attempt, path, source }
    };
    let mut stems = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed("list", dir))? {
        let name = entry.map_err(failed("list", dir))?.file_name().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(".json")
            && let Some(begin) = begin_of(stem, calendar)
        {
            stems.push((begin, stem.to_owned()));
        }
    }
    stems.sort();
    stems.reverse();
    for (_, stem) in stems.iter().skip(keep) {
        // The JSON first: what is left of a report that is half removed is no report.
        for format in FORMATS.iter().rev() {
            let path = dir.join(format!("{stem}.{format}"));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
    }
    durable_fs::sync_dir(dir)?;
    Ok(())
}

/// When the shift of `shift-2026-11-22-early` began; none if the name is not one of ours. One that the calendar
/// does not know any more began with its day.
pub(super) fn begin_of(stem: &str, calendar: &Calendar) -> Option<Timestamp> {
    let name = stem.strip_prefix("shift-")?;
    let day: Date = name.get(..10)?.parse().ok()?;
    let shift = name.get(10..)?.strip_prefix('-')?;
    match calendar.named(&format!("{day}/{shift}")) {
        Ok(span) => Some(span.begin),
        Err(_) => day.to_zoned(calendar.timezone.clone()).ok().map(|it| it.timestamp()),
    }
}

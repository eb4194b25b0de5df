//! The reports that lie in the directory already, by what they say of themselves. Each is read once, and again when its
//! file is another.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Deserialize;

use super::files::{self, WriteError};
use crate::report::sign::verify;
use crate::shift::{Calendar, ShiftSpan};

/// Longer than this no report is.
const MAX_BYTES: u64 = 64 << 20;

/// What a report says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Present {
    pub(super) made_at: Timestamp,
    pub(super) selection: Time,
    pub(super) journal: Range,
}

/// What it is of.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Time {
    pub(super) begin: Timestamp,
    pub(super) end: Timestamp,
}

/// Of which journal it is, and the newest record that there was.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Range {
    pub(super) id: String,
    pub(super) head: u64,
}

impl Present {
    /// Whether a shift has time in common with what it is of.
    pub(super) fn overlaps(&self, span: &ShiftSpan) -> bool {
        self.selection.begin < span.end && span.begin < self.selection.end
    }
}

/// A file as it was read: when it was changed last, its length, and what it says; nothing if it is no report.
type Seen = (Option<SystemTime>, u64, Option<Present>);

/// The reports in the directory, by their names without the ending.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    reports: BTreeMap<String, Seen>,
    /// Shifts of which it was said that they get no report.
    pub(super) told: Vec<ShiftSpan>,
}

impl Directory {
    /// Looks at the directory; one that is not there yet has none.
    pub(super) fn look(&mut self, dir: &Path, calendar: &Calendar) -> Result<(), WriteError> {
        let failed =
            |attempt: &'static str| move |source| WriteError::Io { attempt, path: dir.to_owned(), source };
        let mut before = std::mem::take(&mut self.reports);
        // What else is in the way is told by the attempt to write.
        let is_none =
            |it: &io::Error| matches!(it.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        let entries = match std::fs::read_dir(dir) {
            Err(error) if is_none(&error) => return Ok(()),
            entries => entries.map_err(failed("list"))?,
        };
        for entry in entries {
            let entry = entry.map_err(failed("list"))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".json") else { continue };
            if files::begin_of(stem, calendar).is_none() {
                continue;
            }
            let about = entry.metadata().map_err(failed("look at a file of"))?;
            let (changed, length) = (about.modified().ok(), about.len());
            let seen = match before.remove(stem).filter(|it| (it.0, it.1) == (changed, length)) {
                Some(seen) => seen,
                None => (changed, length, present(&entry.path(), length)),
            };
            self.reports.insert(stem.to_owned(), seen);
        }
        Ok(())
    }

    /// Whether there is a file of that name, and what it says of itself.
    pub(super) fn named(&self, stem: &str) -> Option<Option<&Present>> {
        self.reports.get(stem).map(|it| it.2.as_ref())
    }

    /// A report of any part of that time.
    pub(super) fn over(&self, span: &ShiftSpan) -> Option<&str> {
        let of = |seen: &Seen| seen.2.as_ref().is_some_and(|it| it.overlaps(span));
        self.reports.iter().find(|(_, seen)| of(seen)).map(|(stem, _)| stem.as_str())
    }
}

fn present(path: &Path, length: u64) -> Option<Present> {
    let text = Some(path).filter(|_| length <= MAX_BYTES).and_then(|it| std::fs::read_to_string(it).ok())?;
    serde_json::from_str(&text).ok()
}

/// The version and the hash of the signed report in that file.
pub(super) fn signed(path: &Path) -> Option<(u32, String)> {
    let found = verify(&std::fs::read_to_string(path).ok()?, &[]).ok()?;
    Some((found.report.version, found.hash))
}

//! `linemint report merge`: one report of several stations.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Draft, FileError, verified};
use crate::error::ExitStatus;
use crate::report::merge::merge;
use crate::report::model::{MAX_LISTED, Report, Twice};
use crate::report::render::{html, json, text};

/// Stations that can be merged.
const MAX_REPORTS: usize = 1_000;

/// Adds up the reports of several stations. Serial numbers that are at two of them are found; those of a
/// report that does not name its own are read from the CSV beside the JSON, as `report_dir` has them. Exit status 0 if every balance closes and no serial number is twice.
#[derive(Debug, Clone, Args)]
pub(super) struct MergeArgs {
    /// The stations' reports, JSON
    #[arg(value_name = "FILE", required = true, num_args = 2..)]
    pub(super) files: Vec<PathBuf>,

    /// A station's public key (report.pub), once for each station; else each report's own is taken
    #[arg(long = "key", value_name = "FILE")]
    pub(super) keys: Vec<PathBuf>,

    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: MergedFormat,

    /// Writes it there instead of to stdout: all of it or nothing
    #[arg(long, value_name = "PATH")]
    pub(super) output: Option<PathBuf>,
}

/// How a merged report is written. It has no lines for devices: the stations' CSV files have them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum MergedFormat {
    /// For the terminal.
    #[default]
    Text,
    /// One JSON document, without a signature of its own.
    Json,
    /// One page for the board and for A4.
    Html,
}

pub(super) fn run(args: &MergeArgs, out: &mut impl Write) -> Result<ExitStatus, FileError> {
    if args.files.len() > MAX_REPORTS {
        return Err(FileError::Unfit(format!("at most {MAX_REPORTS} reports can be merged")));
    }
    let keys: Vec<&Path> = args.keys.iter().map(PathBuf::as_path).collect();
    let reports = args.files.iter().map(|it| verified(it, &keys).map(|it| (it.report, it.hash)));
    let reports: Vec<(Report, String)> = reports.collect::<Result<_, FileError>>()?;
    let lists: Vec<_> = args.files.iter().map(|it| it.with_extension("csv")).collect();
    let found = twice(&reports, &lists)?;
    let mut merged = merge(&reports, found).map_err(|error| FileError::Unfit(error.to_string()))?;
    let unnamed = |it: &(&PathBuf, &(Report, String))| it.1.0.serials.is_none() && !it.0.exists();
    for (path, (report, _)) in lists.iter().zip(&reports).filter(unnamed) {
        let action = format!(
            "{}: its serial numbers were not compared: the report does not name them, and there is no {}",
            report.station.id,
            path.display()
        );
        merged.handover.actions.push(action);
    }
    let text = match args.format {
        MergedFormat::Text => text::render(&merged),
        MergedFormat::Json => json::render(&merged),
        MergedFormat::Html => html::render(&merged),
    };
    match &args.output {
        Some(path) => {
            let failed = |source| FileError::Unwritable { path: path.clone(), source };
            let mut draft = Draft::beside(path).map_err(failed)?;
            draft.file().write_all(text.as_bytes()).and_then(|()| draft.keep()).map_err(failed)?;
        }
        None => {
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
    }
    let agrees = merged.cloud_headline().is_none_or(|(agrees, _)| agrees);
    Ok(if merged.balance.closes && agrees { ExitStatus::Done } else { ExitStatus::Bad })
}

/// The serial numbers that several lists have: how many, and the first of them. Of a CSV's in memory is a number for
/// each serial, and the serials of those that look the same.
fn twice(reports: &[(Report, String)], lists: &[PathBuf]) -> Result<(u64, Vec<Twice>), FileError> {
    // Chosen anew each time, so that nobody can make serials that look the same.
    let hasher = std::collections::hash_map::RandomState::new();
    let mut first: HashMap<u64, u16> = HashMap::new();
    let mut again: HashMap<u64, ()> = HashMap::new();
    for (station, ((report, _), list)) in (0_u16..).zip(reports.iter().zip(lists)) {
        each_serial(report, list, |serial| {
            let hash = hasher.hash_one(serial);
            if *first.entry(hash).or_insert(station) != station {
                again.insert(hash, ());
            }
        })?;
    }
    drop(first);
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for ((report, _), list) in reports.iter().zip(lists) {
        each_serial(report, list, |serial| {
            if again.contains_key(&hasher.hash_one(serial)) {
                let stations = found.entry(serial.to_owned()).or_default();
                if stations.last() != Some(&report.station.id) {
                    stations.push(report.station.id.clone());
                }
            }
        })?;
    }
    let mut found: Vec<_> = found.into_iter().filter(|(_, stations)| stations.len() > 1).collect();
    found.sort();
    let count = found.len() as u64;
    let rows = found.into_iter().take(MAX_LISTED).map(|(serial, stations)| Twice { serial, stations });
    Ok((count, rows.collect()))
}

/// Tells each serial number of a report, or of its lines in the file; none where there is no such file.
fn each_serial(report: &Report, path: &Path, mut each: impl FnMut(&str)) -> Result<(), FileError> {
    if let Some(serials) = &report.serials {
        serials.iter().for_each(|it| each(it));
        return Ok(());
    }
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(FileError::Read { path: path.to_owned(), source }),
    };
    let mut lines = csv::Reader::from_reader(BufReader::new(file));
    let mut line = csv::StringRecord::new();
    let failed = |error: csv::Error| FileError::Read { path: path.to_owned(), source: error.into() };
    while lines.read_record(&mut line).map_err(failed)? {
        if let Some(serial) = line.get(0) {
            each(serial.strip_prefix('\'').unwrap_or(serial));
        }
    }
    Ok(())
}

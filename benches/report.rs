//! What a report costs: `cargo bench --bench report [-- --devices N --shift N --pairs N]`.
//!
//! A journal of many devices is made (1,000,000 of 6 records each unless it is said otherwise, 100,000 of them in
//! one shift), and the report of that shift made from it while records go on being promised: how long the text
//! takes and how large the page is, in a process of its own for the memory; and what a promise takes with and
//! without reports beside it, in interleaved pairs.

#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use linemint::clock::{SystemClock, TimeSource as _};
use linemint::device::event::{Admission, Event, Output, PresentationKey};
use linemint::device::serial::SerialNumber;
use linemint::device::steps::Step;
use linemint::device::{Certificate, Device, KeyState};
use linemint::journal::store::{JournalLock, Opened, Store, StoreWriter, open};
use linemint::journal::{Entry, Journal as _, Record, What};
use linemint::pki::Fingerprint;
use linemint::report::fold::{Context, Selection, make};
use linemint::report::model::{Handover, StationHead};
use linemint::report::render::{html, text};
use linemint::shift::{Calendar, Shift};

type Failure = Box<dyn std::error::Error>;

/// When the shift begins that is reported.
const BEGIN: i64 = 1_795_392_000;

static CLOCK: LazyLock<SystemClock> = LazyLock::new(SystemClock::default);

/// The monotonic clock.
fn now() -> Duration {
    CLOCK.now().mono
}

/// Writes devices as a station would: six records each.
struct Line {
    seq: u64,
    number: u64,
}

impl Line {
    fn device(&mut self, at: Timestamp) -> Result<Vec<Entry>, Failure> {
        self.number += 1;
        let serial =
            SerialNumber::parse(&format!("TH{:012}", self.number.wrapping_mul(7_919) % 1_000_000_007))?;
        let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 1, id: self.number };
        let fingerprint = Fingerprint::of(serial.as_str().as_bytes());
        let certificate = Certificate {
            fingerprint,
            der: vec![7; 600],
            serial_number: "0f".repeat(16),
            not_after: at.checked_add(SignedDuration::from_hours(24 * 3650))?,
            key: KeyState::Sealed,
            arn: None,
            public_key: None,
            issuer: None,
        };
        let output =
            Output::Certificate { arn: format!("arn:aws:iot:eu-west-1:123456789012:cert/{fingerprint}") };
        let done = Event::StepDone { step: Step::Certificate, output, adopted: false, request_id: None };
        let events = [
            Event::Admitted(Box::new(admission(presentation.clone()))),
            Event::Issued { certificate },
            done,
            Event::Offered { presentation: presentation.clone() },
            Event::Passed { presentation, directory: None, label: false },
            Event::KeyDestroyed { fingerprint },
        ];
        let mut device: Option<Device> = None;
        let mut entries = Vec::with_capacity(events.len());
        for (milliseconds, event) in (0..).step_by(400).zip(events) {
            self.seq += 1;
            let at = at.checked_add(SignedDuration::from_millis(milliseconds))?;
            let before = device.as_ref().map(|it| it.state);
            let after = match device.take() {
                None => Device::admit(&serial, self.seq, at, &event)?,
                Some(mut it) => it.apply(self.seq, at, &event).map(|()| it)?,
            };
            let record =
                Record { seq: self.seq, at, serial: Some(serial.clone()), what: What::Device(event) };
            entries.push(Entry { record, device: Some((Box::new(after.clone()), before)) });
            device = Some(after);
        }
        Ok(entries)
    }
}

fn admission(presentation: PresentationKey) -> Admission {
    Admission {
        product: "thermostat".to_owned(),
        rules: Fingerprint::of(b"rules"),
        batch: Some("WO-4711".to_owned()),
        extra: false,
        presentation,
        nest: None,
        mac: None,
        device_key: None,
        request: None,
        attributes: BTreeMap::new(),
        replaces_policy: None,
        replaces_thing: None,
    }
}

/// The instants of `count` devices spread over one day of eight hours from `begin`.
fn instant(begin: i64, number: u64, count: u64) -> Result<Timestamp, Failure> {
    let second = begin + i64::try_from(number * 28_800 / count.max(1))?;
    Ok(Timestamp::from_second(second)?)
}

/// A journal of `devices`, `shift` of them in the shift that is reported.
fn fill(writer: &mut StoreWriter, line: &mut Line, devices: u64, shift: u64) -> Result<(), Failure> {
    let mut group = Vec::new();
    for number in 0..devices {
        let at = match number.checked_sub(devices - shift) {
            Some(inside) => instant(BEGIN, inside, shift)?,
            None => instant(BEGIN - 9 * 86_400, number, devices)?,
        };
        group.extend(line.device(at)?);
        if group.len() >= 500 {
            writer.commit(std::mem::take(&mut group))?;
        }
    }
    Ok(writer.commit(group)?)
}

fn context() -> Result<(Context, Selection), Failure> {
    let calendar =
        Calendar { shifts: vec![Shift::whole_day()], timezone: TimeZone::UTC, days_off: BTreeSet::new() };
    let span = calendar.at(Timestamp::from_second(BEGIN)?).ok_or("no shift")?;
    let context = Context {
        station: StationHead {
            id: "L3-S07".to_owned(),
            software: "bench".to_owned(),
            config: "c".repeat(64),
        },
        journal_id: "0123456789abcdef".to_owned(),
        now: span.end,
        calendar,
        takt_ms: Some(288),
        quota: None,
        handover: Handover::default(),
    };
    Ok((context, Selection::Shift(span)))
}

/// The time of one text, and the sizes of text and page.
fn report(store: &Store) -> Result<(Duration, usize, usize, u64), Failure> {
    let (context, selection) = context()?;
    let began = now();
    let report = make(store, &selection, &context, None)?;
    let text = text::render(&report);
    let took = now() - began;
    Ok((took, text.len(), html::render(&report).len(), report.balance.total))
}

/// What one promise takes at the 99th percentile, milliseconds: 1,000 devices of the next day, each a commit.
fn promises(writer: &mut StoreWriter, line: &mut Line) -> Result<f64, Failure> {
    let mut took = Vec::new();
    for number in 0..1_000 {
        let entries = line.device(instant(BEGIN + 2 * 86_400, number, 1_000)?)?;
        let began = now();
        writer.commit(entries)?;
        took.push(now() - began);
    }
    took.sort_unstable();
    Ok(took[took.len() * 99 / 100].as_secs_f64() * 1000.0)
}

/// Promises with reports being made all the time, or without.
fn with_reports(opened: &mut Opened, line: &mut Line, reports: bool) -> Result<f64, Failure> {
    let ended = AtomicBool::new(!reports);
    let store = opened.store.clone();
    std::thread::scope(|scope| {
        let reporting = scope.spawn(|| -> Result<(), String> {
            while !ended.load(Ordering::Relaxed) {
                report(&store).map_err(|error| error.to_string())?;
            }
            Ok(())
        });
        let took = promises(&mut opened.writer, line);
        ended.store(true, Ordering::Relaxed);
        reporting.join().map_err(|_| "the reports panicked")??;
        took
    })
}

/// Most memory that this process had resident, MiB.
fn peak_mib() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn number(name: &str, default: u64) -> u64 {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|it| it == name);
    at.and_then(|it| args.get(it + 1)).and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// In a process of its own: opens the journal and makes one report.
fn child(dir: &Path) -> Result<(), Failure> {
    let opened = open(JournalLock::take(dir)?)?;
    let before = peak_mib()?;
    for _ in 0..3 {
        let (took, text, page, total) = report(&opened.store)?;
        println!("text {:.3} s ({text} bytes), page {page} bytes, {total} devices", took.as_secs_f64());
    }
    println!("resident at most {:.0} MiB, {before:.0} MiB before the reports", peak_mib()?);
    Ok(())
}

fn main() -> Result<(), Failure> {
    if let Some(dir) = std::env::var_os("LINEMINT_BENCH_REPORT") {
        return child(Path::new(&dir));
    }
    let (devices, shift, pairs) =
        (number("--devices", 1_000_000), number("--shift", 100_000), number("--pairs", 5));
    let dir = tempfile::tempdir()?;
    let journal = dir.path().join("journal");
    let mut opened = open(JournalLock::take(&journal)?)?;
    let mut line = Line { seq: 0, number: 0 };
    let began = now();
    fill(&mut opened.writer, &mut line, devices, shift)?;
    println!("{devices} devices, {shift} in the shift, written in {:.0} s", (now() - began).as_secs_f64());
    println!(
        "index {:.0} bytes a device",
        (opened.store.size_on_disk() - opened.store.log_bytes()) as f64 / devices as f64
    );
    for _ in 0..pairs {
        let without = with_reports(&mut opened, &mut line, false)?;
        let with = with_reports(&mut opened, &mut line, true)?;
        println!("p99 of a promise {without:.2} ms alone, {with:.2} ms beside reports");
    }
    drop(opened);
    let status = std::process::Command::new(std::env::current_exe()?)
        .env("LINEMINT_BENCH_REPORT", &journal)
        .status()?;
    if status.success() { Ok(()) } else { Err("the reports failed".into()) }
}

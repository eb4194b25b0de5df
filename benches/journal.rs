//! What the journal costs: `cargo bench --bench journal [-- --full] [-- --dir DIR]`.
//!
//! Promises a second with 1, 8 and 64 in flight, each group one commit as the station makes them,
//! beside bare appends with `fdatasync` of the same bytes on the same disk; a restart with many finished and
//! some unfinished devices, in a process of its own, so that its memory is its own; bytes on disk for
//! a finished device. All of it is really synced; DIR says on which disk (default: here).

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use linemint::clock::{SystemClock, TimeSource as _};
use linemint::device::event::{Admission, Event, Output, PresentationKey};
use linemint::device::serial::SerialNumber;
use linemint::device::steps::Step;
use linemint::device::{Certificate, Device, KeyState};
use linemint::journal::store::{JournalLock, Opened, open};
use linemint::journal::{Entry, Journal as _, Record, What};
use linemint::pki::Fingerprint;

type Failure = Box<dyn std::error::Error>;

/// Unfinished devices at a restart.
const UNFINISHED: u64 = 1000;

/// How long each rate is measured.
const MEASURE: Duration = Duration::from_secs(3);

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| args.iter().position(|it| it == name).and_then(|at| args.get(at + 1));
    if let Some(dir) = value("--restart") {
        return restart(Path::new(dir));
    }
    let base = value("--dir").map_or(".", String::as_str);
    let dir = tempfile::Builder::new().prefix("journal-bench-").tempdir_in(base)?;
    let mut ok = true;
    for in_flight in [1, 8, 64] {
        ok &= promises(dir.path(), in_flight)?;
    }
    let finished = if args.iter().any(|it| it == "--full") { 1_000_000 } else { 100_000 };
    ok &= restarts(dir.path(), finished)?;
    if ok { Ok(()) } else { Err("a figure misses what is required".into()) }
}

/// The rate of promises beside that of bare syncs.
fn promises(dir: &Path, in_flight: u64) -> Result<bool, Failure> {
    let journal = dir.join(format!("promises-{in_flight}"));
    let mut opened = open(JournalLock::take(&journal)?)?;
    let mut factory = Factory::default();
    let clock = SystemClock::default();
    let bare = bare_syncs(dir)?;
    let (mut promised, begin) = (0, clock.now().mono);
    while clock.now().mono - begin < MEASURE {
        // Whoever waits for a promise has one record in the group that is being synced.
        let group: Vec<Entry> = (0..in_flight).map(|_| factory.next_admission()).collect();
        opened.writer.commit(&group)?;
        promised += in_flight;
    }
    let rate = promised as f64 / (clock.now().mono - begin).as_secs_f64();
    let ratio = rate / bare;
    let required = match in_flight {
        1 => Some(0.7),
        64 => Some(10.0),
        _ => None,
    };
    let ok = required.is_none_or(|it| ratio >= it);
    let verdict =
        required.map_or(String::new(), |it| format!("(≥ {it}: {})", if ok { "ok" } else { "MISSED" }));
    println!(
        "{in_flight:>2} in flight: {rate:>8.0} promises/s, bare fdatasync {bare:>6.0}/s, ratio {ratio:.2} {verdict}"
    );
    Ok(ok)
}

/// Appends of a record's size, each synced.
fn bare_syncs(dir: &Path) -> Result<f64, Failure> {
    let mut file = File::create(dir.join("bare"))?;
    let clock = SystemClock::default();
    let (mut count, begin) = (0, clock.now().mono);
    while clock.now().mono - begin < MEASURE {
        file.write_all(&[b'x'; 400])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / (clock.now().mono - begin).as_secs_f64())
}

/// Fills a journal, and measures its start in another process.
fn restarts(dir: &Path, finished: u64) -> Result<bool, Failure> {
    let journal = dir.join("restart");
    let mut opened = open(JournalLock::take(&journal)?)?;
    let mut factory = Factory::default();
    let mut group = Vec::new();
    for number in 0..finished + UNFINISHED {
        group.extend(factory.life(number < finished));
        if group.len() >= 500 {
            opened.writer.commit(&group)?;
            group.clear();
        }
    }
    opened.writer.commit(&group)?;
    let bytes = opened.store.size_on_disk() as f64 / (finished + UNFINISHED) as f64;
    let Opened { writer, store, .. } = opened;
    drop(writer);
    drop(store);
    println!("{finished} finished devices: {bytes:.0} bytes on disk each, log and index");
    let output = Command::new(std::env::current_exe()?).arg("--restart").arg(&journal).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let mut figures = text.split_whitespace().map(str::parse::<f64>);
    let (seconds, mib) = (figures.next().ok_or("no time")??, figures.next().ok_or("no memory")??);
    let ok = seconds < 2.0 && mib < 100.0;
    let verdict = if ok { "ok" } else { "MISSED" };
    println!(
        "restart with {UNFINISHED} unfinished ones: {seconds:.2} s, {mib:.0} MiB (< 2 s, < 100 MiB: {verdict})"
    );
    Ok(ok)
}

/// In the other process: seconds until the journal is open, peak memory in MiB.
fn restart(dir: &Path) -> Result<(), Failure> {
    let clock = SystemClock::default();
    let begin = clock.now().mono;
    let opened = open(JournalLock::take(dir)?)?;
    let seconds = (clock.now().mono - begin).as_secs_f64();
    if opened.recovered.pending.len() as u64 != UNFINISHED {
        return Err(format!("{} unfinished devices were recovered", opened.recovered.pending.len()).into());
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").trim().parse()?;
    println!("{seconds} {}", kib / 1024.0);
    Ok(())
}

/// Makes devices and their records, as the station does.
#[derive(Default)]
struct Factory {
    seq: u64,
    devices: u64,
}

impl Factory {
    fn next_admission(&mut self) -> Entry {
        self.life(false).swap_remove(0)
    }

    /// The records of one device: all, or none after the first.
    fn life(&mut self, finishes: bool) -> Vec<Entry> {
        self.devices += 1;
        let number = self.devices;
        let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 7, id: number };
        let admission = Event::Admitted(Box::new(Admission {
            product: "thermostat".to_owned(),
            rules: Fingerprint::of(b"rules"),
            batch: None,
            presentation: presentation.clone(),
            nest: Some("1".to_owned()),
            mac: None,
            device_key: None,
            request: None,
            attributes: BTreeMap::new(),
            replaces_policy: None,
        }));
        let mut events = vec![admission];
        if finishes {
            events.extend(rest_of_life(number, presentation));
        }
        let Ok(serial) = SerialNumber::parse(&format!("BENCH{number:010}")) else { return Vec::new() };
        let at = Timestamp::UNIX_EPOCH;
        let mut device: Option<Device> = None;
        let mut made = Vec::with_capacity(events.len());
        for event in events {
            self.seq += 1;
            let before = device.as_ref().map(|it| it.state);
            let after = match device.take() {
                None => Device::admit(&serial, self.seq, at, &event),
                Some(mut it) => it.apply(self.seq, at, &event).map(|()| it),
            };
            let Ok(after) = after else { return made };
            let record =
                Record { seq: self.seq, at, serial: Some(serial.clone()), what: What::Device(event) };
            made.push(Entry { record, device: Some((Box::new(after.clone()), before)) });
            device = Some(after);
        }
        made
    }
}

fn rest_of_life(number: u64, presentation: PresentationKey) -> Vec<Event> {
    let fingerprint = Fingerprint::of(&number.to_be_bytes());
    let certificate = Certificate {
        fingerprint,
        der: vec![0x5A; 420],
        serial_number: "00112233445566778899aabbccddeeff".to_owned(),
        not_after: Timestamp::UNIX_EPOCH,
        key: KeyState::Sealed,
        arn: None,
        public_key: None,
    };
    let done = |step, output| Event::StepDone {
        step,
        output,
        adopted: false,
        request_id: Some("8f2c1b1e-0000-4000-8000-001122334455".to_owned()),
    };
    let arn = |what: &str| format!("arn:aws:iot:eu-west-1:123456789012:{what}/{fingerprint}");
    let locker =
        Output::Locker { id: format!("locker-{number}"), arn: Some(arn("locker")), others: Vec::new() };
    vec![
        Event::Issued { certificate },
        done(Step::Locker, locker),
        done(Step::Policy, Output::Nothing),
        done(Step::Thing, Output::Nothing),
        done(Step::Certificate, Output::Certificate { arn: arn("cert") }),
        done(Step::AttachPolicy, Output::Nothing),
        done(Step::AttachThing, Output::Nothing),
        Event::Offered { presentation: presentation.clone() },
        Event::Passed { presentation },
        Event::KeyDestroyed { fingerprint },
    ]
}

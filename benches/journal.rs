//! What the journal costs: `cargo bench --bench journal -- [--full] [--only PART] [--dir DIR]`, where PART is
//! `promises`, `rework` or `restart`.
//!
//! Promises a second with 1, 8 and 64 devices in flight, on the way that the station's records go: each
//! device sends its next record to the journal's thread as soon as the one before it is on disk. Beside
//! that, in turns of a fraction of a second, so that what else the disk does falls on both: bare writes
//! and `fdatasync` calls of the same bytes, at the end of a file, and (the log's own way) into a file that
//! was given room ahead. The ratio is
//! the median of the turns; what is required is measured against the bare calls.
//!
//! Then the index under rework, a restart with many finished and some unfinished devices, in a process of
//! its own, so that its memory is its own, and bytes on disk for a finished device. All of it is really
//! synced; DIR says on which disk (default: here).

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use linemint::clock::{SystemClock, TimeSource as _};
use linemint::device::event::{Admission, CloseReason, Event, Output, PresentationKey, Waited};
use linemint::device::serial::SerialNumber;
use linemint::device::steps::Step;
use linemint::device::{Certificate, Device, KeyState};
use linemint::journal::store::{JournalLock, Opened, open};
use linemint::journal::{Entry, Journal as _, Record, StationEvent, What};
use linemint::pki::Fingerprint;
use linemint::station::scribe;
use tokio::sync::{mpsc, watch};

type Failure = Box<dyn std::error::Error>;

/// Unfinished devices at a restart.
const UNFINISHED: u64 = 1000;

/// How often the same devices are presented again. A device of the index keeps the numbers of its newest
/// 1,088 to 1,600 records, two to a round: it is at its largest after 800 rounds, the half.
const ROUNDS: u64 = 1600;

/// One turn of either, and how many each has.
const TURN: Duration = Duration::from_millis(250);
const TURNS: usize = 24;

/// After a turn of promises: longer than the index waits before it is synced.
const SETTLE: Duration = Duration::from_millis(700);

/// Room given ahead to the file of the bare writes: what the log gives its own.
const RESERVE_BYTES: u64 = 4 << 20;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| args.iter().position(|it| it == name).and_then(|at| args.get(at + 1));
    if let Some(dir) = value("--restart") {
        return restart(Path::new(dir));
    }
    let base = value("--dir").map_or(".", String::as_str);
    let only = value("--only").map(String::as_str);
    let wanted = |part| only.is_none_or(|it| it == part);
    let dir = tempfile::Builder::new().prefix("journal-bench-").tempdir_in(base)?;
    let mut ok = true;
    if wanted("promises") {
        for in_flight in [1, 8, 64] {
            ok &= promises(dir.path(), in_flight)?;
        }
    }
    if wanted("rework") {
        ok &= rework(dir.path(), ROUNDS)?;
    }
    if wanted("restart") {
        let finished = if args.iter().any(|it| it == "--full") { 1_000_000 } else { 100_000 };
        ok &= restarts(dir.path(), finished)?;
    }
    if ok { Ok(()) } else { Err("a figure misses what is required".into()) }
}

/// The rate of promises beside that of bare syncs.
fn promises(dir: &Path, in_flight: usize) -> Result<bool, Failure> {
    let journal = dir.join(format!("promises-{in_flight}"));
    let Opened { writer, store, .. } = open(JournalLock::take(&journal)?)?;
    let (records, from_line) = mpsc::channel(4096);
    let (durable, newest) = watch::channel(0);
    let end = scribe::start(writer, from_line, durable)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut line = Line { records, newest, lives: Vec::new(), factory: Factory::default() };
    line.lives.resize_with(in_flight, Life::default);
    // Files and threads are warm before anything counts.
    runtime.block_on(line.turn())?;
    let mut bare = [Bare::new(dir, false)?, Bare::new(dir, true)?];
    let mut turns = Vec::new();
    let mut bytes = 0;
    for _ in 0..TURNS {
        // What the index still has to write is no matter of the bare syncs.
        store.devices(None, 1, |_| true)?;
        runtime.block_on(async { tokio::time::sleep(SETTLE).await });
        bytes = store.log_bytes() / line.factory.seq;
        let mut synced = [0.0; 2];
        for (bare, synced) in bare.iter_mut().zip(&mut synced) {
            rustix::fs::syncfs(&bare.file)?;
            *synced = bare.turn(bytes)?;
        }
        rustix::fs::syncfs(&bare[0].file)?;
        let promised = runtime.block_on(line.turn())?;
        turns.push((promised, synced));
    }
    drop(line);
    runtime.block_on(end)??;
    let promised = median(turns.iter().map(|(promised, _)| *promised));
    let [synced, with_room] = [0, 1].map(|it| median(turns.iter().map(|(_, synced)| synced[it])));
    let [ratio, to_room] =
        [0, 1].map(|it| median(turns.iter().map(|(promised, synced)| promised / synced[it])));
    let required = match in_flight {
        1 => Some(0.7),
        64 => Some(10.0),
        _ => None,
    };
    let ok = required.is_none_or(|it| ratio >= it);
    let verdict =
        required.map_or(String::new(), |it| format!("(≥ {it}: {})", if ok { "ok" } else { "MISSED" }));
    println!(
        "{in_flight:>2} in flight: {promised:>7.0} promises/s, {synced:>6.0} bare syncs/s of {bytes} bytes, ratio {ratio:.2} {verdict}; \
         into room given ahead {with_room:>6.0} syncs/s, ratio {to_room:.2}"
    );
    Ok(ok)
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Writes of a record's size at the end of a file, each synced.
struct Bare {
    file: File,
    /// The file is given room ahead, as the log gives its own: a sync has no new length to write then.
    has_room: bool,
    end: u64,
    reserved: u64,
}

impl Bare {
    fn new(dir: &Path, has_room: bool) -> Result<Self, Failure> {
        let file = File::create(dir.join(if has_room { "bare-with-room" } else { "bare" }))?;
        Ok(Self { file, has_room, end: 0, reserved: 0 })
    }

    /// How many a second.
    fn turn(&mut self, bytes: u64) -> Result<f64, Failure> {
        let record = vec![b'x'; usize::try_from(bytes)?];
        let clock = SystemClock::default();
        let (mut count, begin) = (0, clock.now().mono);
        while clock.now().mono - begin < TURN {
            if self.has_room && self.end + bytes > self.reserved {
                let flags = rustix::fs::FallocateFlags::empty();
                rustix::fs::fallocate(&self.file, flags, self.reserved, RESERVE_BYTES)?;
                self.reserved += RESERVE_BYTES;
            }
            self.file.write_all_at(&record, self.end)?;
            self.file.sync_data()?;
            self.end += bytes;
            count += 1;
        }
        Ok(f64::from(count) / (clock.now().mono - begin).as_secs_f64())
    }
}

/// A device in flight: what is still to happen to it, and the record it waits for.
#[derive(Default)]
struct Life {
    rest: VecDeque<Event>,
    serial: Option<SerialNumber>,
    device: Option<Device>,
    waits_for: u64,
}

/// What the engine does: sends each device's next record when the one before it is on disk.
struct Line {
    records: mpsc::Sender<Box<Entry>>,
    newest: watch::Receiver<u64>,
    lives: Vec<Life>,
    factory: Factory,
}

impl Line {
    /// How many promises a second. Each device has one record on its way; at the end all are on disk.
    async fn turn(&mut self) -> Result<f64, Failure> {
        let clock = SystemClock::default();
        let (mut promised, begin) = (0, clock.now().mono);
        for life in &mut self.lives {
            let entry = self.factory.next_of(life).ok_or("a device cannot go on")?;
            self.records.send(Box::new(entry)).await?;
        }
        let mut open = self.lives.len();
        while open > 0 {
            self.newest.changed().await?;
            let newest = *self.newest.borrow_and_update();
            let goes_on = clock.now().mono - begin < TURN;
            for life in self.lives.iter_mut().filter(|it| it.waits_for != 0 && it.waits_for <= newest) {
                promised += 1;
                life.waits_for = 0;
                if goes_on {
                    let entry = self.factory.next_of(life).ok_or("a device cannot go on")?;
                    self.records.send(Box::new(entry)).await?;
                } else {
                    open -= 1;
                }
            }
        }
        Ok(f64::from(promised) / (clock.now().mono - begin).as_secs_f64())
    }
}

/// The same devices presented again and again: the index has to stop growing, once no presentation is
/// kept for longer than its fixture's reset.
fn rework(dir: &Path, rounds: u64) -> Result<bool, Failure> {
    const DEVICES: u64 = 1000;
    let journal = dir.join("rework");
    let mut opened = open(JournalLock::take(&journal)?)?;
    let mut factory = Factory::default();
    let mut lives: Vec<Life> = Vec::new();
    let mut group = Vec::new();
    for _ in 0..DEVICES {
        let mut life = Life::default();
        while life.device.is_none() || !life.rest.is_empty() {
            group.push(factory.next_of(&mut life).ok_or("a device cannot go on")?);
        }
        lives.push(life);
    }
    let mut sizes = Vec::new();
    for round in 1..=rounds {
        for life in &mut lives {
            let presentation = factory.presentation(round);
            let nest = Some("1".to_owned());
            life.rest.push_back(Event::Repeated {
                presentation: presentation.clone(),
                nest,
                attributes: Default::default(),
            });
            life.rest.push_back(Event::Closed {
                presentation,
                why: CloseReason::NewUnit,
                waited: Waited::default(),
            });
            while !life.rest.is_empty() {
                group.push(factory.next_of(life).ok_or("a device cannot be presented again")?);
            }
            if group.len() >= 500 {
                opened.writer.commit(std::mem::take(&mut group))?;
            }
        }
        group.push(factory.reset(round + 1));
        opened.writer.commit(std::mem::take(&mut group))?;
        if round % (rounds / 8) == 0 {
            // What was promised is in the index when it is asked for all devices.
            opened.store.devices(None, 1, |_| true)?;
            sizes.push(dir_bytes(&journal.join("sled"))?);
        }
    }
    let grown = sizes[7] as f64 / sizes[3] as f64;
    let ok = grown < 1.2;
    println!(
        "{DEVICES} devices presented {rounds} times: index {} KiB after each eighth, the second half grows it {grown:.2} times (< 1.2: {})",
        sizes.iter().map(|it| (it >> 10).to_string()).collect::<Vec<_>>().join(", "),
        if ok { "ok" } else { "MISSED" }
    );
    Ok(ok)
}

fn dir_bytes(dir: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in dir.read_dir()? {
        let entry = entry?;
        bytes +=
            if entry.file_type()?.is_dir() { dir_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
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
            opened.writer.commit(std::mem::take(&mut group))?;
        }
    }
    opened.writer.commit(group)?;
    opened.store.devices(None, 1, |_| true)?;
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
    presentations: u64,
}

impl Factory {
    /// The records of one device: all, or none after the first.
    fn life(&mut self, finishes: bool) -> Vec<Entry> {
        let mut life = Life::default();
        let mut made = Vec::new();
        while let Some(entry) = self.next_of(&mut life) {
            made.push(entry);
            if !finishes || life.rest.is_empty() {
                break;
            }
        }
        made
    }

    /// The next record of a device; the first of a new one where it has come to its end.
    fn next_of(&mut self, life: &mut Life) -> Option<Entry> {
        let event = match life.rest.pop_front() {
            Some(event) => event,
            None => self.admission(life)?,
        };
        let serial = life.serial.clone()?;
        self.seq += 1;
        let at = Timestamp::UNIX_EPOCH;
        let before = life.device.as_ref().map(|it| it.state);
        let after = match life.device.take() {
            None => Device::admit(&serial, self.seq, at, &event),
            Some(mut it) => it.apply(self.seq, at, &event).map(|()| it),
        };
        let after = after.ok()?;
        life.device = Some(after.clone());
        life.waits_for = self.seq;
        let record = Record { seq: self.seq, at, serial: Some(serial), what: What::Device(event) };
        Some(Entry { record, device: Some((Box::new(after), before)) })
    }

    fn admission(&mut self, life: &mut Life) -> Option<Event> {
        self.devices += 1;
        let presentation = self.presentation(1);
        life.serial = SerialNumber::parse(&format!("BENCH{:010}", self.devices)).ok();
        life.device = None;
        life.rest = rest_of_life(self.devices, presentation.clone()).into();
        Some(Event::Admitted(Box::new(Admission {
            nest: Some("1".to_owned()),
            ..Admission::of("thermostat", Fingerprint::of(b"rules"), presentation)
        })))
    }

    fn presentation(&mut self, boot: u64) -> PresentationKey {
        self.presentations += 1;
        PresentationKey { fixture: "nest-1".to_owned(), boot, id: self.presentations }
    }

    fn reset(&mut self, boot: u64) -> Entry {
        self.seq += 1;
        let event = StationEvent::FixtureReset { fixture: "nest-1".to_owned(), boot };
        let what = What::Station(event);
        let record = Record { seq: self.seq, at: Timestamp::UNIX_EPOCH, serial: None, what };
        Entry { record, device: None }
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
        issuer: None,
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
        Event::Offered { presentation: presentation.clone(), waited: Waited::default() },
        Event::Passed { presentation, directory: None, label: false, waited: Waited::default() },
        Event::KeyDestroyed { fingerprint },
    ]
}

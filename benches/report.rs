//! What a report costs: `cargo bench --bench report [-- --devices N --shift N --pairs N --live N]`.
//!
//! A journal is made of 1,000,000 devices with 6 records each, 100,000 of them in one shift of eight hours. `linemint run`
//! is started with it as a process of its own, with a fixture of 16 nests on a pty and the simulated AWS over
//! HTTP on loopback, 50 ms away, on the same processors, and makes further devices. In every second run it is
//! asked for the report of that shift all the time, one report after the other. So what is measured is
//! how long the text takes over the socket while devices are made, what the station has resident at most, from its
//! start on, and what the reports do to the time from presentation to PASS.

#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use linemint::clock::{SystemClock, TimeSource as _};
use linemint::cloud::Quotas;
use linemint::control::client::Client;
use linemint::device::event::{Admission, Event, Output, PresentationKey, Waited};
use linemint::device::serial::SerialNumber;
use linemint::device::steps::Step;
use linemint::device::{Certificate, Device, KeyState};
use linemint::journal::store::{JournalLock, StoreWriter, open};
use linemint::journal::{Entry, Journal as _, Record, What};
use linemint::pki::Fingerprint;
use linemint::rehearsal::cloud::Throttling;
use linemint::rehearsal::{Faults, Options, World};

type Failure = Box<dyn std::error::Error>;

/// How far away AWS is.
const RTT: Duration = Duration::from_millis(50);

/// What is required: the text, what is resident, the page, and how much later 99 of 100 devices may pass.
const TEXT_SECONDS: f64 = 1.0;
const RESIDENT_MIB: f64 = 150.0;
const PAGE_BYTES: usize = 2_000_000;
const LATER: f64 = 0.1;
const LATER_MS: f64 = 5.0;

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
            Event::Offered { presentation: presentation.clone(), waited: Waited::default() },
            Event::Passed { presentation, directory: None, label: false, waited: Waited::default() },
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
        batch: Some("WO-4711".to_owned()),
        ..Admission::of("thermostat", Fingerprint::of(b"rules"), presentation)
    }
}

/// The instants of `count` devices spread over one day of eight hours from `begin`.
fn instant(begin: i64, number: u64, count: u64) -> Result<Timestamp, Failure> {
    let second = begin + i64::try_from(number * 28_800 / count.max(1))?;
    Ok(Timestamp::from_second(second)?)
}

/// A journal of `devices`, `shift` of them in the shift that begins at `begin`.
fn fill(writer: &mut StoreWriter, begin: i64, devices: u64, shift: u64) -> Result<(), Failure> {
    let mut line = Line { seq: 0, number: 0 };
    let mut group = Vec::new();
    for number in 0..devices {
        let at = match number.checked_sub(devices - shift) {
            Some(inside) => instant(begin, inside, shift)?,
            None => instant(begin - 9 * 86_400, number, devices)?,
        };
        group.extend(line.device(at)?);
        if group.len() >= 500 {
            writer.commit(std::mem::take(&mut group))?;
        }
    }
    Ok(writer.commit(group)?)
}

/// What is prepared, and asked for.
struct Setup {
    /// Where the journal lies between two runs.
    journal: PathBuf,
    /// The report, but for its format.
    target: String,
    /// Devices that are made in a run.
    live: usize,
}

/// What one run has shown.
#[derive(Debug, Default)]
struct Run {
    /// 99 of 100 devices had passed after so many milliseconds.
    p99_ms: f64,
    /// How long each text took, seconds.
    texts: Vec<f64>,
    text_bytes: usize,
    page_bytes: usize,
    resident_mib: f64,
}

impl Setup {
    /// Makes devices, with reports all the time or without.
    async fn run(&self, seed: u64, reports: bool) -> Result<Run, Failure> {
        let options = Options {
            devices: self.live,
            nests: 16,
            seed,
            faults: Faults::None,
            rtt: RTT,
            quotas: Quotas::unlimited(),
            throttling: Throttling::default(),
            config: None,
            keep: None,
        };
        let clock = SystemClock::default();
        let world = World::open(&options, clock.now().wall).await?;
        let dir = world.config.journal.dir.clone();
        std::fs::create_dir_all(dir.parent().ok_or("a journal has a parent")?)?;
        std::fs::rename(&self.journal, &dir)?;
        let mut station = start(&world.config.path)?;
        while tokio::net::UnixStream::connect(&world.config.api.socket).await.is_err() {
            if let Some(status) = station.try_wait()? {
                return Err(format!("the station ended with {status}").into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let began = clock.now().mono;
        let client = Client::new(&world.config.api.socket);
        let mut run = Run::default();
        if reports {
            tokio::select! {
                () = world.watch(|_| {}) => {}
                ended = self.ask(&client, &mut run) => ended?,
            }
            run.page_bytes = self.report(&client, "html").await?.1;
        } else {
            world.watch(|_| {}).await;
        }
        run.resident_mib = resident(station.id())?;
        end(&mut station)?;
        std::fs::rename(&dir, &self.journal)?;
        let report = world.close(&options, (clock.now().mono - began).as_secs_f64()).await?;
        run.p99_ms = report.p99_ms;
        if report.ok { Ok(run) } else { Err(format!("the run was not clean: {report:?}").into()) }
    }

    /// Asks for texts, one after the other, for as long as it is let.
    async fn ask(&self, client: &Client, run: &mut Run) -> Result<(), Failure> {
        loop {
            let (took, bytes) = self.report(client, "text").await?;
            run.texts.push(took.as_secs_f64());
            run.text_bytes = bytes;
        }
    }

    /// How long a report took, and its length.
    async fn report(&self, client: &Client, format: &str) -> Result<(Duration, usize), Failure> {
        let clock = SystemClock::default();
        let (began, mut text) = (clock.now().mono, Vec::new());
        let target = format!("{}&format={format}", self.target);
        let balance = client.download(&target, "linemint-balance", &mut text).await??;
        let took = clock.now().mono - began;
        match balance.as_deref() {
            Some("closes") => Ok((took, text.len())),
            other => Err(format!("the balance: {other:?}").into()),
        }
    }
}

fn start(config: &Path) -> Result<Child, Failure> {
    Ok(Command::new(env!("CARGO_BIN_EXE_linemint"))
        .arg("run")
        .arg("--config")
        .arg(config)
        .env("AWS_ACCESS_KEY_ID", "AKIDBENCH")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("LINEMINT_LOG", "warn")
        .stdin(Stdio::null())
        .spawn()?)
}

fn end(station: &mut Child) -> Result<(), Failure> {
    let pid = rustix::process::Pid::from_child(station);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let status = station.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the station ended with {status}").into()) }
}

/// Most memory that a process had resident, MiB.
fn resident(pid: u32) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn number(name: &str, default: u64) -> u64 {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|it| it == name);
    at.and_then(|it| args.get(it + 1)).and_then(|it| it.parse().ok()).unwrap_or(default)
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints a figure beside what is required of it; whether it is met.
fn judge(what: &str, figure: String, ok: bool) -> bool {
    println!("  {what:<56} {figure:<34} {}", if ok { "ok" } else { "MISSED" });
    ok
}

fn main() -> Result<(), Failure> {
    let (devices, shift) = (number("--devices", 1_000_000), number("--shift", 100_000));
    let (pairs, live) = (number("--pairs", 5).max(1), number("--live", 1_000));
    let clock = SystemClock::default();
    let dir = tempfile::tempdir()?;
    // Some days ago, so that the journal ends before the present.
    let begin = (clock.now().wall.as_second() / 86_400 - 3) * 86_400;
    let journal = dir.path().join("journal");
    let began = clock.now().mono;
    {
        let mut opened = open(JournalLock::take(&journal)?)?;
        fill(&mut opened.writer, begin, devices, shift)?;
        let index = (opened.store.size_on_disk() - opened.store.log_bytes()) as f64 / devices as f64;
        let took = (clock.now().mono - began).as_secs_f64();
        println!("{devices} devices, {shift} in the shift, in {took:.0} s; index {index:.0} bytes a device");
    }
    let (from, to) = (Timestamp::from_second(begin)?, Timestamp::from_second(begin + 28_800)?);
    let target = format!("/v1/report?since={from}&until={to}");
    let setup = Setup { journal, target, live: usize::try_from(live)? };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Not measured: the first start after so many records at once puts the index in order.
    runtime.block_on(setup.run(0, false))?;
    let mut runs = Vec::new();
    for pair in 0..pairs {
        let without = runtime.block_on(setup.run(2 * pair + 1, false))?;
        let with = runtime.block_on(setup.run(2 * pair + 2, true))?;
        println!(
            "p99 {:.0} ms alone, {:.0} ms beside {} reports of {:.3} s (median)",
            without.p99_ms,
            with.p99_ms,
            with.texts.len(),
            median(with.texts.iter().copied())
        );
        runs.push((without, with));
    }
    if verdict(&runs) { Ok(()) } else { Err("a figure misses what is required".into()) }
}

/// Whether all is as it is required.
fn verdict(runs: &[(Run, Run)]) -> bool {
    let texts: Vec<f64> = runs.iter().flat_map(|(_, it)| it.texts.iter().copied()).collect();
    let text = median(texts.iter().copied());
    let slowest = texts.iter().copied().fold(0.0, f64::max);
    let resident = runs.iter().map(|(a, b)| a.resident_mib.max(b.resident_mib)).fold(0.0, f64::max);
    let page = runs.iter().map(|(_, it)| it.page_bytes).max().unwrap_or(usize::MAX);
    let alone = median(runs.iter().map(|(it, _)| it.p99_ms));
    let later = median(runs.iter().map(|(without, with)| with.p99_ms - without.p99_ms));
    let made = runs.iter().map(|(_, it)| it.text_bytes).max().unwrap_or(0);
    println!("{} reports, texts of {made} bytes, while devices are made:", texts.len());
    let mut ok = judge(
        "text, median of all, at most 1 s",
        format!("{text:.3} s, the slowest {slowest:.3} s"),
        text <= TEXT_SECONDS,
    );
    ok &= judge(
        "resident from the start on, at most 150 MiB",
        format!("{resident:.0} MiB"),
        resident <= RESIDENT_MIB,
    );
    ok &= judge("page below 2 MB", format!("{page} bytes"), page < PAGE_BYTES);
    let bound = (alone * LATER).max(LATER_MS);
    ok & judge(
        "p99 later, median of the pairs, at most 10 % or 5 ms",
        format!("{later:+.1} ms, bound {bound:.1} ms"),
        later <= bound,
    )
}

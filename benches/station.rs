//! How fast a station is: `cargo bench --bench station [-- --json] [--only NAME] [--soak DEVICES]`.
//!
//! Each case starts `linemint run` as a process of its own, with a journal that is really synced, a
//! fixture on a pty, and the simulated AWS over HTTP on loopback (in this process, on the same cores).
//! What is reported was measured in this run; "required" is what the project has promised itself, "before"
//! is what a thread pool with the SDK's retries came to on a simulated account like this one.
//!
//! `--soak 100000` passes so many devices in one run, without quotas, and looks at the memory that the
//! station has resident after each tenth of them. It takes some minutes, so that it is none of the rest.

#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use linemint::clock::{SystemClock, TimeSource as _};
use linemint::cloud::Quotas;
use linemint::control::client::Client;
use linemint::rehearsal::cloud::Throttling;
use linemint::rehearsal::{Faults, Options, Report, World};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// One measurement.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    what: &'static str,
    devices: usize,
    nests: usize,
    rtt: Duration,
    quotas: fn() -> Quotas,
    judge: fn(&Measured) -> Vec<Figure>,
}

/// What was measured.
struct Measured {
    report: Report,
    /// Most memory that the station had resident, MiB.
    peak_mib: f64,
    /// The station's own processor time for one device, milliseconds.
    cpu_ms: f64,
    rtt_ms: f64,
    /// What was resident when each tenth of the devices had passed, MiB.
    resident_mib: Vec<f64>,
}

/// One figure beside what is required of it.
struct Figure {
    name: &'static str,
    value: f64,
    required: String,
    /// What it was before linemint, where somebody has measured it.
    before: &'static str,
    ok: bool,
}

impl Figure {
    fn before(self, before: &'static str) -> Self {
        Self { before, ..self }
    }
}

const CASES: [Case; 4] = [
    Case {
        name: "unlimited",
        what: "no quota, no latency, 64 nests",
        devices: 2000,
        nests: 64,
        rtt: Duration::ZERO,
        quotas: Quotas::unlimited,
        judge: |it| {
            vec![
                at_least("devices/s", it.report.devices_per_s, 600.0).before("70"),
                at_most("cpu ms/device", it.cpu_ms, 2.0).before("12 to 16"),
                at_most("peak MiB", it.peak_mib, 80.0),
                told("p99 ms", it.report.p99_ms),
            ]
        },
    },
    Case {
        name: "aws-default",
        what: "AWS's default quotas, 16 nests",
        devices: 300,
        nests: 16,
        rtt: Duration::ZERO,
        quotas: Quotas::aws_default,
        judge: |it| {
            // 300 calls at the tightest quota, ten a second, have 299 even intervals between them.
            let ideal_s = (it.report.devices as f64 - 1.0) / 10.0;
            vec![
                at_least("% of the ideal", 100.0 * ideal_s / it.report.seconds, 99.0).before("91"),
                at_most("% throttled", 100.0 * it.report.throttled as f64 / it.report.calls as f64, 0.2),
                told("devices/s", it.report.devices_per_s).before("9.1"),
            ]
        },
    },
    Case {
        name: "one-by-one",
        what: "80 ms round trip, unlimited, one nest",
        devices: 100,
        nests: 1,
        rtt: Duration::from_millis(80),
        quotas: Quotas::unlimited,
        judge: |it| vec![at_most("p50 round trips", it.report.p50_ms / it.rtt_ms, 2.2)],
    },
    Case {
        name: "sixteen",
        what: "80 ms round trip, unlimited, 16 nests",
        devices: 400,
        nests: 16,
        rtt: Duration::from_millis(80),
        quotas: Quotas::unlimited,
        judge: |it| vec![at_most("p99 round trips", it.report.p99_ms / it.rtt_ms, 3.0)],
    },
];

/// Many devices in one run.
const SOAK: Case = Case {
    name: "soak",
    what: "no quota, no latency, 64 nests, memory that stays flat",
    judge: |it| {
        let after = |tenth: usize| it.resident_mib.get(tenth - 1).copied().unwrap_or(f64::NAN);
        vec![
            at_most("peak MiB", it.peak_mib, 80.0),
            at_most("MiB, last half", after(10) - after(5), 2.0),
            told("MiB after 1/10", after(1)),
            told("MiB after 5/10", after(5)),
            told("MiB after 10/10", after(10)),
            told("devices/s", it.report.devices_per_s).before("70"),
            told("cpu ms/device", it.cpu_ms).before("12 to 16"),
        ]
    },
    ..CASES[0]
};

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let json = args.iter().any(|it| it == "--json");
    let value = |name: &str| args.iter().position(|it| it == name).and_then(|at| args.get(at + 1));
    let only = value("--only");
    let cases = match value("--soak") {
        Some(devices) => vec![Case { devices: devices.parse()?, ..SOAK }],
        None => CASES.to_vec(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    let mut ok = true;
    for case in cases.iter().filter(|it| only.is_none_or(|name| name == it.name)) {
        let measured = runtime.block_on(measure(case))?;
        let figures = (case.judge)(&measured);
        ok &= figures.iter().all(|it| it.ok) && measured.report.ok;
        if json {
            rows.push(row(case, &measured, &figures));
        } else {
            print(case, &measured, &figures);
        }
    }
    if json {
        println!("{:#}", json!({ "bench": "station", "ok": ok, "machine": machine(), "cases": rows }));
    } else {
        println!("\nmachine: {}", machine());
    }
    if ok { Ok(()) } else { Err("a figure misses what is required, or a run was not clean".into()) }
}

async fn measure(case: &Case) -> Result<Measured, Failure> {
    let options = Options {
        devices: case.devices,
        nests: case.nests,
        seed: 1,
        faults: Faults::None,
        rtt: case.rtt,
        quotas: (case.quotas)(),
        throttling: Throttling::default(),
        config: None,
        keep: None,
    };
    let clock = SystemClock::default();
    let world = World::open(&options, clock.now().wall).await?;
    let mut station = start(&world.config.path)?;
    // From the moment that the station is up: what a shift sees, not what a boot costs. The socket is there
    // before the journal is open; an answer comes after.
    let client = Client::new(&world.config.api.socket);
    while client.get_json::<Value>("/v1/status").await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let started = clock.now().mono;
    let resident = Mutex::new(Vec::new());
    world
        .watch(|progress| {
            let mut resident = resident.lock().unwrap_or_else(PoisonError::into_inner);
            // Looked at ten times a second: what was jumped over has no figure of its own.
            while progress.passed * 10 >= case.devices * (resident.len() + 1) {
                resident.push(memory(station.id(), "VmRSS:").unwrap_or(f64::NAN));
            }
        })
        .await;
    let seconds = (clock.now().mono - started).as_secs_f64();
    let (peak_mib, cpu_ms) = usage(station.id(), case.devices)?;
    end(&mut station)?;
    let report = world.close(&options, seconds).await?;
    let resident_mib = resident.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Measured { report, peak_mib, cpu_ms, rtt_ms: case.rtt.as_secs_f64() * 1e3, resident_mib })
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

/// Peak memory in MiB, and processor time in milliseconds a device, from /proc.
fn usage(pid: u32, devices: usize) -> Result<(f64, f64), Failure> {
    let peak_mib = memory(pid, "VmHWM:")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit(')').next().ok_or("no stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // utime and stime are the 14th and 15th fields of all, in ticks of 10 ms.
    let ticks: f64 = fields.get(11).ok_or("no utime")?.parse::<f64>()?
        + fields.get(12).ok_or("no stime")?.parse::<f64>()?;
    Ok((peak_mib, ticks * 10.0 / devices as f64))
}

/// One of the sizes that /proc tells, MiB.
fn memory(pid: u32, name: &str) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let size = status.lines().find_map(|it| it.strip_prefix(name)).ok_or("no such size")?;
    let kib: f64 = size.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

fn end(station: &mut Child) -> Result<(), Failure> {
    let pid = rustix::process::Pid::from_child(station);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let status = station.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the station ended with {status}").into()) }
}

fn at_least(name: &'static str, value: f64, bound: f64) -> Figure {
    Figure { name, value, required: format!("≥ {bound}"), before: "", ok: value >= bound }
}

fn at_most(name: &'static str, value: f64, bound: f64) -> Figure {
    Figure { name, value, required: format!("≤ {bound}"), before: "", ok: value <= bound }
}

fn told(name: &'static str, value: f64) -> Figure {
    Figure { name, value, required: String::new(), before: "", ok: true }
}

fn print(case: &Case, measured: &Measured, figures: &[Figure]) {
    let audit = if measured.report.ok { "audit holds" } else { "NOT CLEAN" };
    println!(
        "\n{}: {}, {} devices, {:.2} s, {audit}",
        case.name, case.what, case.devices, measured.report.seconds
    );
    for it in figures {
        let verdict = match (it.required.is_empty(), it.ok) {
            (true, _) => "",
            (false, true) => "ok",
            (false, false) => "MISSED",
        };
        let before = if it.before.is_empty() { String::new() } else { format!("before: {}", it.before) };
        println!("  {:<18} {:>9.2}  {:<8} {verdict:<8}{before}", it.name, it.value, it.required);
    }
}

fn row(case: &Case, measured: &Measured, figures: &[Figure]) -> Value {
    let figures: Vec<Value> = figures
        .iter()
        .map(|it| {
            json!({
                "name": it.name, "value": it.value, "required": it.required, "before": it.before, "ok": it.ok
            })
        })
        .collect();
    json!({
        "case": case.name, "what": case.what, "devices": case.devices, "seconds": measured.report.seconds,
        "clean": measured.report.ok, "peak_mib": measured.peak_mib, "cpu_ms_per_device": measured.cpu_ms,
        "resident_mib": measured.resident_mib, "figures": figures,
    })
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|it| it.strip_prefix("model name"))
        .unwrap_or("")
        .trim_start_matches(['\t', ':', ' ']);
    format!("{cores} cores, {model}")
}

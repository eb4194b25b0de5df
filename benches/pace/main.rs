//! How near the station comes to what the account allows: `cargo bench --bench pace`.
//!
//! `known` and `hidden` drive `linemint run` in a process of its own, against the simulated AWS and
//! simulated fixtures over HTTP and ptys. The cases with many stations run the real limiter on a
//! simulated clock, and so does `backlog`: one station after an outage. `--json` prints one JSON document, and `--only NAME` runs one case. `--seed S` draws other
//! lots for the simulated stations. `--docs docs` measures nothing in real time, and makes the simulated tables of
//! `docs/pace.md` and `docs/pace.svg` anew; with `--only backlog` the table of that name alone.

#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

mod simulated;
mod tables;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use linemint::clock::{SystemClock, TimeSource as _};
use linemint::cloud::Quotas;
use linemint::control::client::Client;
use linemint::rehearsal::cloud::Throttling;
use linemint::rehearsal::workbench::SEQUENCES;
use linemint::rehearsal::{Faults, Options, Report, World};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// The hidden limit, calls a second, and the second from which it holds.
const STEPS: &[(f64, f64)] = SEQUENCES[0].steps;

/// Calls that a device needs.
const CALLS: f64 = 6.0;

/// Devices a second that the tightest of AWS's default quotas allow.
const TIGHTEST: f64 = 10.0;

const MINUTE: Duration = Duration::from_secs(60);

/// One figure beside what is required of it, and what a thread pool over the SDK's retries reached.
struct Figure {
    name: String,
    value: f64,
    required: String,
    ok: bool,
    baseline: &'static str,
}

struct Row {
    case: String,
    figures: Vec<Figure>,
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let json = args.iter().any(|it| it == "--json");
    let value = |key: &str| args.iter().position(|it| it == key).and_then(|at| args.get(at + 1));
    if let Some(folder) = value("--docs") {
        return tables::write(Path::new(folder), value("--only").map(String::as_str));
    }
    let only = value("--only");
    let wanted = |name: &str| only.is_none_or(|it| it == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    if wanted("known") {
        rows.push(runtime.block_on(known())?);
    }
    if wanted("hidden") {
        rows.push(runtime.block_on(hidden())?);
    }
    let several =
        [2, 8, 20, 50].into_iter().filter(|it| wanted("stations") || wanted(&format!("stations-{it}")));
    rows.extend(several.map(together));
    if wanted("stations") || wanted("join-and-leave") {
        rows.push(join_and_leave());
    }
    if wanted("random") {
        rows.push(random());
    }
    if wanted("backlog") {
        rows.push(backlog()?);
    }
    let ok = rows.iter().all(|it| it.figures.iter().all(|it| it.ok));
    if json {
        let cases: Vec<Value> = rows.iter().map(to_json).collect();
        println!("{:#}", json!({ "bench": "pace", "ok": ok, "cases": cases }));
    } else {
        print(&rows);
    }
    if ok { Ok(()) } else { Err("a figure misses what is required".into()) }
}

/// AWS's default quotas, known to the station.
async fn known() -> Result<Row, Failure> {
    let options = options(300, 16, Throttling::default());
    let (report, seconds, _) = station(&options).await?;
    let ideal = (report.devices as f64 - 1.0) / TIGHTEST;
    let figures = vec![
        at_least("% of the ideal", 100.0 * ideal / seconds, 99.0, "91 (9.1 devices/s)"),
        at_most("% throttled", 100.0 * throttled(&report), 0.2, "-"),
        told("devices/s", report.devices as f64 / seconds),
        told("clean (1: yes)", f64::from(u8::from(report.ok))),
    ];
    Ok(Row { case: "known: AWS's default quotas, 300 devices, HTTP".to_owned(), figures })
}

/// A limit over all calls that moves, and of which the station is told nothing.
async fn hidden() -> Result<Row, Failure> {
    let steps = STEPS.iter().skip(1);
    let options = options(
        630,
        32,
        Throttling {
            account: STEPS.first().map(|it| it.1),
            steps: steps.map(|(at, rate)| (Duration::from_secs_f64(*at), Some(*rate))).collect(),
            ..Throttling::default()
        },
    );
    let (report, seconds, done) = station(&options).await?;
    let ideal = allowed(seconds) / CALLS;
    let mut figures = vec![
        at_least("% of the ideal", 100.0 * report.devices as f64 / ideal, 93.0, "93 standard, 80 adaptive"),
        at_most("% throttled", 100.0 * throttled(&report), 3.0, "-"),
        beside("throttled calls", report.throttled as f64, "1,507 standard, 84 adaptive"),
        beside("devices/s", report.devices as f64 / seconds, "5.0 standard, 4.3 adaptive of 5.4"),
        told("clean (1: yes)", f64::from(u8::from(report.ok))),
    ];
    for (from, rate) in [(50.0, 40.0), (100.0, 60.0)] {
        let name = format!("s until {rate}/s are reached");
        figures.push(at_most(&name, reached(&done, from, rate / CALLS), 4.0, "-"));
    }
    Ok(Row { case: "hidden: 50, 15, 40, 8, 60 calls/s over all, HTTP".to_owned(), figures })
}

/// Calls that the hidden limit allows in the first `seconds`.
fn allowed(seconds: f64) -> f64 {
    let ends = STEPS.iter().skip(1).map(|it| it.0).chain([f64::INFINITY]);
    STEPS.iter().zip(ends).map(|((from, rate), end)| (seconds.min(end) - from).max(0.0) * rate).sum()
}

/// Seconds after `from` when, over two seconds, nine tenths of `rate` devices a second pass.
fn reached(done: &[(f64, usize)], from: f64, rate: f64) -> f64 {
    let at = |time: f64| done.iter().rev().find(|it| it.0 <= time).map_or(0, |it| it.1);
    let passed = |time: f64| (at(time + 2.0) - at(time)) as f64 / 2.0;
    let times = (0..200).map(|it| from + f64::from(it) / 10.0);
    times.into_iter().find(|it| passed(*it) >= 0.9 * rate).map_or(99.0, |it| it - from)
}

fn options(devices: usize, nests: usize, throttling: Throttling) -> Options {
    Options {
        devices,
        nests,
        seed: 1,
        faults: Faults::None,
        rtt: Duration::ZERO,
        quotas: Quotas::aws_default(),
        throttling,
        config: None,
        keep: None,
    }
}

/// Runs a station through a world: the report, how long it took, and how many units had passed when.
async fn station(options: &Options) -> Result<(Report, f64, Vec<(f64, usize)>), Failure> {
    let clock = SystemClock::default();
    let world = World::open(options, clock.now().wall).await?;
    let mut child = start(&world.config.path)?;
    // From the moment that the station is up: what a shift sees, not what a boot costs. The socket is there
    // before the journal is open; an answer comes after.
    let client = Client::new(&world.config.api.socket);
    while client.get_json::<Value>("/v1/status").await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The steps count from here on: what the simulated AWS needed to start is not the station's.
    world.limit_account(&options.throttling);
    let started = clock.now().mono;
    let since = || (clock.now().mono - started).as_secs_f64();
    let done = std::sync::Mutex::new(Vec::new());
    let note = |progress: linemint::rehearsal::Progress| {
        if let Ok(mut done) = done.lock() {
            done.push((since(), progress.passed));
        }
    };
    world.watch(note).await;
    let seconds = since();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)?;
    child.wait()?;
    let report = world.close(options, seconds).await?;
    let done = done.into_inner().map_err(|_| "the progress was lost")?;
    Ok((report, seconds, done))
}

fn start(config: &Path) -> Result<Child, Failure> {
    Ok(Command::new(env!("CARGO_BIN_EXE_linemint"))
        .arg("run")
        .arg("--config")
        .arg(config)
        .env("AWS_ACCESS_KEY_ID", "AKIDBENCH")
        .env("AWS_SECRET_ACCESS_KEY", "bench")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("LINEMINT_LOG", std::env::var("LINEMINT_LOG").unwrap_or_else(|_| "warn".to_owned()))
        .stdin(Stdio::null())
        .spawn()?)
}

/// `--seed S` of the simulated stations; 1 without it. One seed is one draw: try several.
fn seed() -> u64 {
    let mut args = std::env::args().skip_while(|it| it != "--seed").skip(1);
    args.next().and_then(|it| it.parse().ok()).unwrap_or(1)
}

fn throttled(report: &Report) -> f64 {
    report.throttled as f64 / report.calls as f64
}

/// Stations that begin together, for half an hour; the beginning counts.
fn together(stations: usize) -> Row {
    let it = simulated::together(stations, seed());
    let (of_ideal, of_calls, evenly) = ("% of the ideal", "% throttled", "Jain's index");
    let figures = match stations {
        8 => vec![
            at_least(of_ideal, it.of_ideal, 95.0, "-"),
            at_most(of_calls, it.throttled, 3.0, "-"),
            at_least(evenly, it.jain, 0.95, "-"),
        ],
        50 => vec![
            at_least(of_ideal, it.of_ideal, 90.0, "-"),
            at_most(of_calls, it.throttled, 5.0, "-"),
            told(evenly, it.jain),
        ],
        _ => vec![told(of_ideal, it.of_ideal), told(of_calls, it.throttled), told(evenly, it.jain)],
    };
    let case = format!("{stations} stations on one account, 30 min simulated");
    Row { case, figures }
}

/// One station, a part of whose calls is throttled whatever it does.
fn random() -> Row {
    const DRAWS: u64 = 3;
    let of = |(share, required): (f64, f64)| {
        let sum: f64 = (0..DRAWS).map(|draw| simulated::in_noise(share, seed() + draw)).sum();
        let name = format!("% of the ceiling, {:.0} % throttled at random", 100.0 * share);
        at_least(&name, sum / DRAWS as f64, required, "-")
    };
    let figures = [(0.02, 85.0), (0.05, 90.0), (0.1, 80.0), (0.2, 70.0)].map(of).into();
    Row { case: "throttled without reason, 5 min simulated".to_owned(), figures }
}

/// One station whose backlog of 2,000 devices drains after an outage while units come to their nests.
fn backlog() -> Result<Row, Failure> {
    let it = simulated::backlog(seed())?;
    let figures = vec![
        told("ms from unit to PASS, p99, idle", it.idle_ms),
        told("the same while the backlog drains", it.busy_ms),
        at_most("as a part of the idle station's", it.ratio(), 2.0, "-"),
        at_least("% of the quota until it is drained", it.of_quota, 97.0, "-"),
        at_most("% throttled", it.throttled, 0.2, "-"),
    ];
    Ok(Row { case: format!("a backlog of {} devices at AWS's quotas, simulated", it.devices), figures })
}

/// Four stations; a fifth comes after 20 minutes, and two leave after 50.
fn join_and_leave() -> Row {
    let it = simulated::join_and_leave(seed());
    let figures = vec![
        told("s until fair (Jain ≥ 0.9 over 2 min) after a fifth joins", it.fair_after_joining),
        told("s until 95 % are used again after two leave", it.full_after_leaving),
        told("s until fair after two leave", it.fair_after_leaving),
    ];
    Row { case: "4 stations, a fifth joins, two leave".to_owned(), figures }
}

fn at_least(name: &str, value: f64, bound: f64, baseline: &'static str) -> Figure {
    Figure { name: name.to_owned(), value, required: format!("≥ {bound}"), ok: value >= bound, baseline }
}

fn at_most(name: &str, value: f64, bound: f64, baseline: &'static str) -> Figure {
    Figure { name: name.to_owned(), value, required: format!("≤ {bound}"), ok: value <= bound, baseline }
}

fn told(name: &str, value: f64) -> Figure {
    beside(name, value, "")
}

/// Told beside what it was before.
fn beside(name: &str, value: f64, baseline: &'static str) -> Figure {
    Figure { name: name.to_owned(), value, required: String::new(), ok: true, baseline }
}

/// A table in Markdown, as `docs/pace.md` has it.
fn print(rows: &[Row]) {
    println!("| case | figure | measured | required | thread pool and SDK retries |\n|---|---|---:|---|---|");
    for row in rows {
        for it in &row.figures {
            let verdict = if it.ok { "" } else { " **missed**" };
            println!(
                "| {} | {} | {:.3} | {}{verdict} | {} |",
                row.case, it.name, it.value, it.required, it.baseline
            );
        }
    }
}

fn to_json(row: &Row) -> Value {
    let figures: Vec<Value> = row
        .figures
        .iter()
        .map(|it| {
            json!({ "name": it.name, "value": it.value, "required": it.required, "ok": it.ok, "baseline": it.baseline })
        })
        .collect();
    json!({ "case": row.case, "figures": figures })
}

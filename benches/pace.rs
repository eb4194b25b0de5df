//! How near the station comes to what the account allows: `cargo bench --bench pace`.
//!
//! `known` and `hidden` drive `linemint run` in a process of its own, against the simulated AWS and
//! simulated fixtures over HTTP and ptys. The cases with many stations run the real limiter on a
//! simulated clock. `--json` prints one JSON document, `--only NAME` runs one case, and `--plot FILE`
//! draws the rates of the stations as an SVG. `--seed S` draws other lots for the simulated stations.

#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use linemint::clock::{SystemClock, TimeSource as _};
use linemint::cloud::Quotas;
use linemint::rehearsal::cloud::Throttling;
use linemint::rehearsal::stations::{Outcome, Stations, jain, simulate};
use linemint::rehearsal::workbench::{self, LIMITS, SEQUENCES, Sequence};
use linemint::rehearsal::{Faults, Options, Report, World};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// The hidden limit, calls a second, and the second from which it holds.
const STEPS: &[(f64, f64)] = SEQUENCES[0].steps;

/// Round trips of the workbench, milliseconds.
const ROUND_TRIPS: [u64; 4] = [1, 20, 80, 200];

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
    let (only, plot) = (value("--only"), value("--plot"));
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
        let (row, outcome) = join_and_leave();
        rows.push(row);
        if let Some(path) = plot {
            std::fs::File::create(path)?.write_all(svg(&outcome).as_bytes())?;
        }
    }
    if only.is_some_and(|it| it == "workbench") {
        SEQUENCES.iter().for_each(print_workbench);
    }
    if wanted("random") {
        rows.push(random());
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
        at_most("% throttled", 100.0 * throttled(&report), 3.0, "1,507 calls standard, 84 adaptive"),
        told("devices/s", report.devices as f64 / seconds),
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
    while tokio::net::UnixStream::connect(&world.config.api.socket).await.is_err() {
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

fn shifts(shifts: Vec<(Duration, Duration)>) -> Stations {
    Stations {
        shifts,
        nests: 16,
        quotas: Quotas::aws_default(),
        throttling: Throttling::default(),
        random: 0.0,
        rtt: Duration::from_millis(50),
        seed: seed(),
    }
}

/// Stations that begin together, for half an hour; the beginning counts.
fn together(stations: usize) -> Row {
    let end = 30 * MINUTE;
    let outcome = simulate(&shifts(vec![(Duration::ZERO, end); stations]));
    let parts = outcome.between(Duration::ZERO, end);
    let late = outcome.between(end / 2, end);
    let total = 100.0 * parts.iter().sum::<f64>() / (TIGHTEST * end.as_secs_f64());
    let share = 100.0 * outcome.throttled as f64 / outcome.calls as f64;
    let (of_ideal, of_calls) = ("% of the ideal", "% throttled");
    let figures = match stations {
        8 => vec![
            at_least(of_ideal, total, 95.0, "-"),
            at_most(of_calls, share, 3.0, "-"),
            at_least("Jain's index", jain(&parts), 0.95, "-"),
        ],
        50 => vec![
            at_least(of_ideal, total, 90.0, "-"),
            at_most(of_calls, share, 5.0, "-"),
            told("Jain's index", jain(&parts)),
        ],
        _ => vec![told(of_ideal, total), told(of_calls, share), told("Jain's index", jain(&parts))],
    };
    let second_half = told("Jain's index, second half", jain(&late));
    Row {
        case: format!("{stations} stations on one account, 30 min simulated"),
        figures: figures.into_iter().chain([second_half]).collect(),
    }
}

/// A station alone, at a ceiling of ten devices a second, whose calls are throttled without reason: the
/// mean of three draws.
fn random() -> Row {
    const DRAWS: u64 = 3;
    let end = 5 * MINUTE;
    let mut figures = Vec::new();
    for (share, required) in [(0.02, 85.0), (0.05, 90.0), (0.1, 80.0), (0.2, 70.0)] {
        let devices = |draw: u64| {
            let seed = seed() + draw;
            let outcome = simulate(&Stations { random: share, seed, ..shifts(vec![(Duration::ZERO, end)]) });
            outcome.between(Duration::ZERO, end).iter().sum::<f64>()
        };
        let devices = (0..DRAWS).map(devices).sum::<f64>() / DRAWS as f64;
        let name = format!("% of the ceiling, {:.0} % throttled at random", 100.0 * share);
        figures.push(at_least(&name, 100.0 * devices / (TIGHTEST * end.as_secs_f64()), required, "-"));
    }
    Row { case: "throttled without reason, 5 min simulated".to_owned(), figures }
}

/// One sequence against every kind of limit, as `docs/pace.md` has it: the mean of three draws, and for
/// each step up the longest time.
fn print_workbench(sequence: &Sequence) {
    const DRAWS: u64 = 3;
    let held_back = if sequence.held_back { ", held back" } else { "" };
    println!(
        "\n{} calls/s{held_back}: % of the ideal / % throttled / s to reach each step up\n",
        sequence.name
    );
    println!("| limit | 1 ms | 20 ms | 80 ms | 200 ms |\n|---|---|---|---|---|");
    for (name, kind, burst) in LIMITS {
        let cells = ROUND_TRIPS.map(|rtt| {
            let rtt = Duration::from_millis(rtt);
            let scores: Vec<_> =
                (1..=DRAWS).map(|seed| workbench::run(sequence, (kind, burst), rtt, seed)).collect();
            let mean = |part: &dyn Fn(&workbench::Score) -> f64| {
                100.0 * scores.iter().map(part).sum::<f64>() / DRAWS as f64
            };
            // A ramp has too many steps to tell them all.
            let steps = Some(scores[0].reached.len()).filter(|it| *it <= 2).unwrap_or_default();
            let longest = (0..steps)
                .map(|it| scores.iter().map(|score| score.reached[it]).fold(0.0, f64::max))
                .map(|it| if it.is_finite() { format!(" {it:.1}") } else { " never".to_owned() });
            let reached: String = longest.collect();
            format!("{:.1} / {:.1} /{reached}", mean(&|it| it.of_ideal), mean(&|it| it.throttled))
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
}

/// Four stations; a fifth comes after 20 minutes, and two leave after 50.
fn join_and_leave() -> (Row, Outcome) {
    let (second, joins, leaves, end) = (Duration::from_secs(1), 20 * MINUTE, 50 * MINUTE, 80 * MINUTE);
    let whole = (Duration::ZERO, end);
    let left = (Duration::ZERO, leaves);
    let outcome = simulate(&shifts(vec![whole, whole, left, left, (joins, end)]));
    let fair = |from: Duration, to: Duration, present: &[usize]| {
        let mut at = from;
        while at + 2 * MINUTE <= to {
            let parts = outcome.between(at, at + 2 * MINUTE);
            let parts: Vec<f64> = present.iter().map(|it| parts[*it]).collect();
            if jain(&parts) >= 0.9 {
                return (at - from).as_secs_f64();
            }
            at += 5 * second;
        }
        f64::NAN
    };
    let full = |from: Duration| {
        let passed = |at: Duration| outcome.between(at, at + 10 * second).iter().sum::<f64>();
        let at = (0..1800).map(|it| from + it * second).find(|it| passed(*it) >= 95.0);
        at.map_or(f64::NAN, |it| (it - from).as_secs_f64())
    };
    let figures = vec![
        told(
            "s until fair (Jain ≥ 0.9 over 2 min) after a fifth joins",
            fair(joins, leaves, &[0, 1, 2, 3, 4]),
        ),
        told("s until 95 % are used again after two leave", full(leaves)),
        told("s until fair after two leave", fair(leaves, end, &[0, 1, 4])),
    ];
    (Row { case: "4 stations, a fifth joins, two leave".to_owned(), figures }, outcome)
}

/// Devices a second of each station, by the minute.
fn svg(outcome: &Outcome) -> String {
    const COLOURS: [&str; 5] = ["#1f6fb4", "#d1495b", "#3a9d5d", "#8e5ea2", "#c98a1b"];
    let minutes = 80_u32;
    let (x, y) = (|it: u32| 50.0 + f64::from(it) * 8.5, |it: f64| 270.0 - it * 24.0);
    let mut text = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 310\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"760\" height=\"310\" fill=\"white\"/>\n",
    );
    // Writing to a string cannot fail.
    for it in (0..=10).step_by(2) {
        let at = y(f64::from(it));
        let _ = writeln!(
            text,
            "<path d=\"M50 {at}H730\" stroke=\"#ddd\"/><text x=\"28\" y=\"{}\">{it}</text>",
            at + 4.0
        );
    }
    for it in (0..=minutes).step_by(10) {
        let _ = writeln!(text, "<text x=\"{}\" y=\"288\">{it}</text>", x(it) - 6.0);
    }
    let _ = writeln!(
        text,
        "<text x=\"330\" y=\"304\">minutes</text><text x=\"50\" y=\"20\">devices a second</text>"
    );
    let at = |it: u32| outcome.between(it * MINUTE, (it + 1) * MINUTE);
    let by_minute: Vec<Vec<f64>> = (0..minutes).map(at).collect();
    let mut draw = |colour: &str, value: &dyn Fn(&[f64]) -> f64| {
        let points = by_minute
            .iter()
            .zip(0..)
            .map(|(it, minute)| format!("{:.1},{:.1}", x(minute), y(value(it) / 60.0)));
        let points: Vec<String> = points.collect();
        let _ = writeln!(
            text,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
            points.join(" ")
        );
    };
    draw("#222", &|it| it.iter().sum());
    for (number, colour) in COLOURS.iter().enumerate() {
        draw(colour, &|it| it[number]);
    }
    text.push_str("</svg>\n");
    text
}

fn at_least(name: &str, value: f64, bound: f64, baseline: &'static str) -> Figure {
    Figure { name: name.to_owned(), value, required: format!("≥ {bound}"), ok: value >= bound, baseline }
}

fn at_most(name: &str, value: f64, bound: f64, baseline: &'static str) -> Figure {
    Figure { name: name.to_owned(), value, required: format!("≤ {bound}"), ok: value <= bound, baseline }
}

fn told(name: &str, value: f64) -> Figure {
    Figure { name: name.to_owned(), value, required: String::new(), ok: true, baseline: "" }
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

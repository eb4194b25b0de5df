//! The simulated tables of `docs/pace.md`, and `docs/pace.svg`: what `--docs` makes.
//!
//! What lies between `<!-- table: NAME -->` and `<!-- end -->` is replaced, and nothing else. The same code gives
//! the same figures on every machine.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use linemint::rehearsal::stations::Outcome;
use linemint::rehearsal::workbench::{self, LIMITS, SEQUENCES, Score, Sequence};

use super::simulated::{self, Together};
use super::{Failure, MINUTE};

/// Draws of each case: a table says what they all came to, since one is a matter of luck.
const DRAWS: usize = 10;
const DRAWS_OF_FIFTY: usize = 3;
const DRAWS_OF_BACKLOG: usize = 3;
const DRAWS_OF_NOISE: usize = 12;
const DRAWS_OF_WORKBENCH: usize = 12;

/// Round trips of the workbench, milliseconds.
const ROUND_TRIPS: [u64; 4] = [1, 20, 80, 200];

/// Writes the tables into `pace.md` of a folder, and `pace.svg` beside it; or the one that takes no minutes alone.
pub(crate) fn write(folder: &Path, only: Option<&str>) -> Result<(), Failure> {
    let path = folder.join("pace.md");
    let text = std::fs::read_to_string(&path)?;
    let text = replace(&text, BACKLOG, &backlog()?)?;
    match only {
        Some(BACKLOG) => return Ok(std::fs::File::create(&path)?.write_all(text.as_bytes())?),
        Some(other) => return Err(format!("there is no table {other:?} that is made alone").into()),
        None => {}
    }
    let changing = all(0..DRAWS, |it| simulated::join_and_leave(seed(it)));
    let text = replace(&text, "stations", &stations())?;
    let text = replace(&text, "changing", &joins_and_leaves(&changing))?;
    let text = replace(&text, "noise", &noise())?;
    let text = replace(&text, "workbench", &workbench())?;
    std::fs::File::create(&path)?.write_all(text.as_bytes())?;
    let first = changing.first().ok_or("no draw")?;
    std::fs::File::create(folder.join("pace.svg"))?.write_all(svg(&first.outcome).as_bytes())?;
    Ok(())
}

/// `text` with another table of this name.
fn replace(text: &str, name: &str, table: &str) -> Result<String, Failure> {
    let begin = format!("<!-- table: {name} -->\n");
    let missing = || format!("there is no place for the table {name:?}");
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once("<!-- end -->").ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{table}\n<!-- end -->{after}"))
}

/// Runs all of these, as many at a time as there are cores, and gives the results in order.
fn all<T: Send>(range: Range<usize>, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(range.start);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= range.end {
                        break;
                    }
                    let result = run(number);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|it| it.0);
    results.into_iter().map(|it| it.1).collect()
}

fn seed(draw: usize) -> u64 {
    draw as u64 + 1
}

fn stations() -> String {
    let mut table =
        "| stations | draws | % of the ideal | % throttled | Jain's index | required |\n|---|---|---|---|---|---|\n"
            .to_owned();
    let none = (0.0, 100.0, 0.0);
    for (stations, draws, bounds) in [
        (2, DRAWS, none),
        (4, DRAWS, none),
        (8, DRAWS, (95.0, 3.0, 0.95)),
        (20, DRAWS, none),
        (50, DRAWS_OF_FIFTY, (90.0, 5.0, 0.0)),
    ] {
        let outcomes = all(0..draws, |it| simulated::together(stations, seed(it)));
        let required = required(&outcomes, bounds);
        let total = list(&outcomes, |it| format!("{:.1}", it.of_ideal));
        let throttled = list(&outcomes, |it| format!("{:.2}", it.throttled));
        let jain = list(&outcomes, |it| format!("{:.3}", it.jain));
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {stations} | {draws} | {total} | {throttled} | {jain} | {required} |");
    }
    table
}

/// What is required of a case, and in how many draws it was missed.
fn required(outcomes: &[Together], (total, throttled, jain): (f64, f64, f64)) -> String {
    if total == 0.0 {
        return String::new();
    }
    let meets = |it: &&Together| it.of_ideal >= total && it.throttled <= throttled && it.jain >= jain;
    let met = outcomes.iter().filter(meets).count();
    let also = if jain > 0.0 { format!(", ≥ {jain}") } else { String::new() };
    let verdict = if met == outcomes.len() { "met in all".to_owned() } else { format!("**met in {met}**") };
    format!("≥ {total}, ≤ {throttled}{also}: {verdict}")
}

fn list<T>(all: &[T], show: impl Fn(&T) -> String) -> String {
    all.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn joins_and_leaves(draws: &[simulated::Changing]) -> String {
    let mut table = "| | s, ten draws |\n|---|---|\n".to_owned();
    let mut row = |name: &str, of: fn(&simulated::Changing) -> f64| {
        let _ = writeln!(table, "| {name} | {} |", list(draws, |it| format!("{:.0}", of(it))));
    };
    row("until Jain's index over 2 min is 0.9, after a fifth joined", |it| it.fair_after_joining);
    row("until 95 % of the quota are used over 10 s, after two of five left", |it| it.full_after_leaving);
    row("until Jain's index over 2 min is 0.9, after two left", |it| it.fair_after_leaving);
    table
}

const BACKLOG: &str = "backlog";

fn backlog() -> Result<String, Failure> {
    let draws = all(0..DRAWS_OF_BACKLOG, |it| simulated::backlog(seed(it)).map_err(|it| it.to_string()));
    let draws = draws.into_iter().collect::<Result<Vec<_>, String>>()?;
    let mut table = "| | three draws | required |\n|---|---|---|\n".to_owned();
    let mut row = |name: &str, required: &str, show: fn(&simulated::Backlog) -> String| {
        let _ = writeln!(table, "| {name} | {} | {required} |", list(&draws, show));
    };
    row("devices of the backlog", "", |it| it.devices.to_string());
    row("ms from `unit` to PASS, p99, idle", "", |it| format!("{:.0}", it.idle_ms));
    row("the same while the backlog drains", "", |it| format!("{:.0}", it.busy_ms));
    row("as a part of the idle station's", "≤ 2", |it| format!("{:.2}", it.ratio()));
    row("% of the quota until it is drained", "≥ 97", |it| format!("{:.1}", it.of_quota));
    row("% throttled", "≤ 0.2", |it| format!("{:.2}", it.throttled));
    Ok(table)
}

fn noise() -> String {
    let mut table =
        "| throttled at random | % of the ceiling: mean | least | required | the first limiter: mean | least |\n\
         |---|---|---|---|---|---|\n"
            .to_owned();
    // The last two are what was measured of a limiter that did not tell noise from limits.
    for (share, least, before) in [
        (0.02, None, "78.3 | 68.8"),
        (0.05, Some(90.0), "52.3 | 9.0"),
        (0.1, None, "35.9 | 15.2"),
        (0.2, Some(70.0), "10.3 | 2.9"),
    ] {
        let reached = all(0..DRAWS_OF_NOISE, |it| simulated::in_noise(share, seed(it)));
        let mean = reached.iter().sum::<f64>() / reached.len() as f64;
        let worst = reached.iter().copied().fold(f64::INFINITY, f64::min);
        let required = least.map_or_else(String::new, |least| {
            let met = reached.iter().filter(|it| **it >= least).count();
            format!("{least}, met in {met} of {DRAWS_OF_NOISE}")
        });
        let share = 100.0 * share;
        let _ = writeln!(table, "| {share:.0} % | {mean:.1} | {worst:.1} | {required} | {before} |");
    }
    table
}

fn workbench() -> String {
    SEQUENCES.iter().map(sequence).collect::<Vec<_>>().join("\n")
}

/// One sequence against every kind of limit: the mean of the draws, and for each step up the longest time.
fn sequence(sequence: &Sequence) -> String {
    let cells = LIMITS.len() * ROUND_TRIPS.len();
    let scores = all(0..cells * DRAWS_OF_WORKBENCH, |number| {
        let (cell, draw) = (number / DRAWS_OF_WORKBENCH, number % DRAWS_OF_WORKBENCH);
        let (_, kind, burst) = LIMITS[cell / ROUND_TRIPS.len()];
        let rtt = Duration::from_millis(ROUND_TRIPS[cell % ROUND_TRIPS.len()]);
        workbench::run(sequence, (kind, burst), rtt, seed(draw))
    });
    let held_back = if sequence.held_back { ", held back" } else { "" };
    let mut table = format!("**{} calls/s{held_back}**\n\n| limit |", sequence.name);
    ROUND_TRIPS.iter().for_each(|it| {
        let _ = write!(table, " {it} ms |");
    });
    let _ = writeln!(table, "\n|---|{}", "---|".repeat(ROUND_TRIPS.len()));
    let texts: Vec<String> = scores.chunks(DRAWS_OF_WORKBENCH).map(cell).collect();
    for ((name, ..), row) in LIMITS.iter().zip(texts.chunks(ROUND_TRIPS.len())) {
        let _ = writeln!(table, "| {name} | {} |", row.join(" | "));
    }
    table
}

fn cell(scores: &[Score]) -> String {
    let mean = |part: fn(&Score) -> f64| 100.0 * scores.iter().map(part).sum::<f64>() / scores.len() as f64;
    // A ramp has too many steps to tell them all.
    let steps = scores.first().map_or(0, |it| it.reached.len());
    let steps = if steps <= 2 { steps } else { 0 };
    let longest = (0..steps)
        .map(|it| scores.iter().map(|score| score.reached[it]).fold(0.0, f64::max))
        .map(|it| if it.is_finite() { format!(" {it:.1}") } else { " never".to_owned() });
    let reached: String = longest.collect();
    let end = if reached.is_empty() { String::new() } else { format!(" /{reached}") };
    format!("{:.1} / {:.1}{end}", mean(|it| it.of_ideal), mean(|it| it.throttled))
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

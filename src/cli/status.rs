//! `linemint status`: what the daemon is doing.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::daemon::{CommandError, DaemonArgs, ended, write_json};
use super::text::{Table, bytes, plain, span};
use crate::control::client::{Client, ClientError};
use crate::control::{Backlog, Binding, FixtureStatus, StationState, Status};
use crate::device::State;
use crate::error::ExitStatus;

mod lively;

/// Shows what the daemon is doing.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Shows it again each second.
    #[arg(long)]
    pub watch: bool,
    /// Prints one JSON document, with --watch one a line.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub async fn run(args: StatusArgs) -> ExitStatus {
    let terminal = io::stdout().is_terminal();
    let screen =
        Screen { terminal, colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()) };
    let client = match args.daemon.client() {
        Ok(client) => client,
        Err(error) => return ended(Err(error), &mut io::stderr()),
    };
    let result = match (args.watch, args.json) {
        (false, false) => show(&client, screen, &mut io::stdout()).await,
        (false, true) => show_json(&client, &mut io::stdout()).await,
        (true, false) => watch(&client, screen, &mut io::stdout()).await,
        (true, true) => watch_json(&client, &mut io::stdout()).await,
    };
    ended(result, &mut io::stderr())
}

/// What the text is written to.
#[derive(Debug, Clone, Copy)]
struct Screen {
    terminal: bool,
    colour: bool,
}

async fn show(client: &Client, screen: Screen, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let status: Status = client.get_json("/v1/status").await?;
    out.write_all(render(&status, screen).as_bytes())?;
    out.flush()?;
    Ok(ExitStatus::Done)
}

async fn show_json(client: &Client, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let status: Value = client.get_json("/v1/status").await?;
    write_json(&status, out)?;
    Ok(ExitStatus::Done)
}

async fn watch_json(client: &Client, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let mut ticks = seconds();
    loop {
        ticks.tick().await;
        let status: Value = client.get_json("/v1/status").await?;
        writeln!(out, "{status}")?;
        out.flush()?;
    }
}

/// Shows it until somebody ends it. A person who looks at a terminal wants to see the daemon come
/// back after a restart; a program behind a pipe wants to know that it is gone.
async fn watch(client: &Client, screen: Screen, out: &mut impl Write) -> Result<ExitStatus, CommandError> {
    let mut ticks = seconds();
    let mut first = true;
    loop {
        ticks.tick().await;
        let text = match client.get_json::<Status>("/v1/status").await {
            Ok(status) => render(&status, screen),
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Broken { .. }))
                if screen.terminal && !first =>
            {
                format!("{error}\n")
            }
            Err(error) => return Err(error.into()),
        };
        let text = if screen.terminal { redrawn(&text, first, window()) } else { format!("{text}\n") };
        out.write_all(text.as_bytes())?;
        out.flush()?;
        first = false;
    }
}

fn seconds() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Columns and rows of the terminal.
fn window() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(it) if it.ws_col > 0 && it.ws_row > 1 => (it.ws_col.into(), it.ws_row.into()),
        _ => (80, 24),
    }
}

/// `text` over what was there before: no more than the window holds, so that it never scrolls.
fn redrawn(text: &str, first: bool, (columns, rows): (usize, usize)) -> String {
    let mut drawn = if first { "\u{1b}[2J\u{1b}[H".to_owned() } else { "\u{1b}[H".to_owned() };
    for line in text.lines().take(rows - 1) {
        drawn.push_str(&cut(line, columns));
        drawn.push_str("\u{1b}[K\n");
    }
    drawn.push_str("\u{1b}[J");
    drawn
}

/// The first `columns` characters of a line; our own colours take no place.
fn cut(line: &str, columns: usize) -> String {
    let (mut kept, mut place, mut escape) = (String::new(), 0, false);
    for character in line.chars() {
        escape |= character == '\u{1b}';
        if escape {
            kept.push(character);
            escape = character != 'm';
        } else if place < columns {
            kept.push(character);
            place += 1;
        }
    }
    kept
}

fn render(status: &Status, screen: Screen) -> String {
    let Screen { terminal, colour } = screen;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}  {}  up {}  linemint {}",
        plain(&status.station),
        painted(status.state, colour),
        span(status.uptime_s),
        plain(&status.version)
    );
    for reason in &status.reasons {
        let _ = writeln!(text, "  {}", plain(reason));
    }
    for batch in &status.batches {
        let _ = writeln!(text, "Batch: {} ({})", plain(&batch.id), plain(&batch.product));
    }
    let counts = State::ALL.map(|it| format!("{it} {}", status.counts.of(it), it = it.as_str()));
    let _ = writeln!(text, "Devices: {}", counts.join(", "));
    let _ = writeln!(text, "Backlog: {}", backlog(&status.backlog));
    let lines = [
        ("Look at", lively::exceptions(&status.counts)),
        ("Shift", lively::shift(&status.today)),
        ("Pace", lively::pace(&status.today)),
        ("Last hour", terminal.then(|| lively::sparkline(&status.today.minutes))),
    ];
    for (name, line) in lines.into_iter().filter_map(|(name, line)| Some((name, line?))) {
        if !line.trim().is_empty() {
            let _ = writeln!(text, "{name}: {line}");
        }
    }
    fixtures(status, &mut text);
    nests(status, &mut text);
    operations(status, terminal, &mut text);
    if let Some(it) = &status.binding {
        let _ = writeln!(text, "Held up most by: {}", binding(it));
    }
    let journal = &status.journal;
    let _ = writeln!(
        text,
        "Journal: {} records, {} on disk, {}, id {}",
        journal.seq,
        journal.durable,
        bytes(journal.bytes),
        plain(&journal.id)
    );
    if let Some(ca) = &status.ca {
        let _ = writeln!(text, "CA: {}, until {}", plain(&ca.subject), ca.not_after);
        if let Some(warning) = &ca.warning {
            let _ = writeln!(text, "Warning: {}", plain(warning));
        }
    }
    text
}

fn painted(state: StationState, colour: bool) -> String {
    let code = match state {
        StationState::Ready => 32,
        StationState::Starting | StationState::Degraded | StationState::Draining => 33,
        StationState::Stopped => 31,
    };
    let word = state.as_str();
    if colour { format!("\u{1b}[1;{code}m{word}\u{1b}[0m") } else { word.to_owned() }
}

fn backlog(it: &Backlog) -> String {
    match it.oldest_s {
        Some(oldest_s) => format!("buffered {}, oldest {}", it.buffered, span(oldest_s)),
        None => format!("buffered {}", it.buffered),
    }
}

fn fixtures(status: &Status, text: &mut String) {
    if status.fixtures.is_empty() {
        return;
    }
    let head = [
        "FIXTURE",
        "STATE",
        "IN",
        "OUT",
        "BAD",
        "ECHOES",
        "DUPLICATES",
        "NAKS",
        "REOPENS",
        "AWAY",
        "FIRMWARE",
        "LAST",
        "PORT",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(status.fixtures.iter().map(|it| {
        [
            it.name.clone(),
            it.state.clone(),
            it.frames_in.to_string(),
            it.frames_out.to_string(),
            it.bad_frames.to_string(),
            it.echoes.to_string(),
            it.duplicates.to_string(),
            it.naks.to_string(),
            it.reopens.to_string(),
            away(it),
            or_dash(it.firmware.as_deref()),
            or_dash(it.last_verdict.as_deref()),
            it.port.clone(),
        ]
    }));
    text.push_str(&Table::new("  ").lines(&rows));
}

/// How often the port was away and how long together; `now` if it still is.
fn away(it: &FixtureStatus) -> String {
    match it.outages {
        0 => "-".to_owned(),
        count => {
            let now = if it.down_since.is_some() { ", now" } else { "" };
            format!("{count} in {}{now}", span(it.outage_s))
        }
    }
}

fn nests(status: &Status, text: &mut String) {
    let mut rows = vec![["FIXTURE", "NEST", "SERIAL", "STATE", "FOR"].map(str::to_owned)];
    for fixture in &status.fixtures {
        rows.extend(fixture.nests.iter().map(|it| {
            [
                fixture.name.clone(),
                or_dash(it.nest.as_deref()),
                it.serial.clone(),
                it.state.as_str().to_owned(),
                span(it.seconds),
            ]
        }));
    }
    if rows.len() > 1 {
        text.push_str(&Table::new("  ").lines(&rows));
    }
}

fn operations(status: &Status, terminal: bool, text: &mut String) {
    let head = [
        "OPERATION",
        "LIMIT/S",
        "RATE/S",
        "CALLS",
        "OK",
        "THROTTLED",
        "ERRORS",
        "WAITING",
        "DEVICES",
        "P50 MS",
        "P99 MS",
        if terminal { "OF ITS LIMIT" } else { "" },
    ];
    let mut rows = vec![head.map(str::to_owned)];
    let of_operations = status.operations.iter();
    let used = of_operations.filter(|it| it.calls > 0 || it.waiting > 0 || it.waiting_devices > 0);
    rows.extend(used.map(|it| {
        [
            it.operation.clone(),
            limit(it.limit, it.ceiling),
            format!("{:.1}", it.rate),
            it.calls.to_string(),
            it.ok.to_string(),
            it.throttled.to_string(),
            it.errors.to_string(),
            it.waiting.to_string(),
            it.waiting_devices.to_string(),
            it.p50_ms.map_or_else(|| "-".to_owned(), |it| format!("{it:.0}")),
            it.p99_ms.map_or_else(|| "-".to_owned(), |it| format!("{it:.0}")),
            if terminal { lively::load(it.rate, it.limit) } else { String::new() },
        ]
    }));
    // What is counted of single operations is not counted once more.
    let dash = || "-".to_owned();
    rows.extend(status.shared_limits.iter().map(|it| {
        [
            it.name.clone(),
            limit(it.limit, it.ceiling),
            format!("{:.1}", it.rate),
            dash(),
            dash(),
            dash(),
            dash(),
            it.waiting.to_string(),
            it.waiting_devices.to_string(),
            dash(),
            dash(),
            if terminal { lively::load(it.rate, it.limit) } else { String::new() },
        ]
    }));
    if rows.len() > 1 {
        text.push_str(&Table::new("  ").lines(&rows));
    }
}

fn binding(it: &Binding) -> String {
    let held = format!("{}, {:.0} % of the time", plain(&it.operation), 100.0 * it.share);
    match it.more_stations {
        Some(_) if it.learned => {
            format!("{held}; the account would carry no more stations: AWS gives less than is configured")
        }
        Some(more) => format!("{held}; the account would carry {more:.1} more stations like this one"),
        None => held,
    }
}

/// The limit, with what the configuration would allow where AWS allows less.
fn limit(limit: Option<f64>, ceiling: Option<f64>) -> String {
    match (limit, ceiling) {
        (Some(limit), Some(ceiling)) if limit < ceiling * 0.99 => format!("{limit:.1} of {ceiling:.1}"),
        (Some(limit), _) => format!("{limit:.1}"),
        (None, _) => "none".to_owned(),
    }
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::tally::Today;
    use crate::control::tests::Station;
    use crate::control::{Counts, JournalStatus, NestStatus, OperationStatus, SharedLimitStatus};

    const PLAIN: Screen = Screen { terminal: false, colour: false };

    fn fixture() -> FixtureStatus {
        let nest = NestStatus {
            nest: Some("A".to_owned()),
            serial: "SN-0001".to_owned(),
            state: State::Delivering,
            seconds: 3,
        };
        FixtureStatus {
            name: "nest-1".to_owned(),
            state: "ready".to_owned(),
            port: "/dev/ttyUSB0".to_owned(),
            firmware: Some("1.2\u{1b}[2J".to_owned()),
            nests: vec![nest],
            frames_in: 12,
            frames_out: 11,
            bad_frames: 1,
            duplicates: 4,
            outages: 2,
            outage_s: 75,
            down_since: Some("2026-11-22T06:00:00Z".parse().unwrap()),
            last_verdict: Some("SN-0000 pass".to_owned()),
            ..FixtureStatus::default()
        }
    }

    fn status() -> Status {
        let operation = |name: &str, calls, limit| OperationStatus {
            operation: name.to_owned(),
            limit,
            rate: 9.96,
            calls,
            ok: calls,
            waiting_devices: calls / 2,
            p50_ms: Some(41.6),
            ..OperationStatus::default()
        };
        Status {
            station: "L3-S07".to_owned(),
            version: "0.1.0".to_owned(),
            state: StationState::Degraded,
            reasons: vec!["AWS answers slowly".to_owned()],
            uptime_s: 11_520,
            fixtures: vec![fixture()],
            batch: None,
            batches: Vec::new(),
            products: Vec::new(),
            counts: Counts { delivering: 1, passed: 40, ..Counts::default() },
            operations: vec![
                operation("create-policy", 7, Some(5.0)),
                operation("get-policy", 0, Some(5.0)),
                operation("create-thing", 9, None),
            ],
            shared_limits: vec![SharedLimitStatus {
                name: "account".to_owned(),
                limit: Some(15.02),
                learned: true,
                rate: 14.6,
                waiting: 12,
                waiting_devices: 7,
                ..SharedLimitStatus::default()
            }],
            journal: JournalStatus { seq: 320, durable: 319, bytes: 1 << 20, id: "00ff".to_owned() },
            backlog: Backlog { devices: 213, buffered: 212, oldest_s: Some(845) },
            binding: Some(Binding {
                operation: "create-policy".to_owned(),
                share: 0.314,
                mean_rate: 3.6,
                more_stations: Some(0.39),
                learned: false,
            }),
            ca: None,
            calls: None,
            today: Today {
                shift: Some("early".to_owned()),
                passed: 40,
                passed_at_once: 38,
                minutes: vec![0, 1, 4, 2],
                pace_s: Some(14.2),
                ..Today::default()
            },
        }
    }

    #[test]
    fn the_text_says_it_all_without_colour() {
        let expected = "\
L3-S07  degraded  up 3 h 12 min  linemint 0.1.0
  AWS answers slowly
Devices: admitted 0, provisioning 0, delivering 1, passed 40, failed 0, quarantined 0, scrapped 0
Backlog: buffered 212, oldest 14 min
Shift: early, passed 40, failed 0, yield 100.0 %, at once 95.0 %
Pace: one device in 14.2 s
  FIXTURE  STATE  IN  OUT  BAD  ECHOES  DUPLICATES  NAKS  REOPENS  AWAY                  FIRMWARE  LAST          PORT
  nest-1   ready  12  11   1    0       4           0     0        2 in 1 min 15 s, now  1.2?[2J   SN-0000 pass  /dev/ttyUSB0
  FIXTURE  NEST  SERIAL   STATE       FOR
  nest-1   A     SN-0001  delivering  3 s
  OPERATION      LIMIT/S  RATE/S  CALLS  OK  THROTTLED  ERRORS  WAITING  DEVICES  P50 MS  P99 MS
  create-policy  5.0      10.0    7      7   0          0       0        3        42      -
  create-thing   none     10.0    9      9   0          0       0        4        42      -
  account        15.0     14.6    -      -   -          -       12       7        -       -
Held up most by: create-policy, 31 % of the time; the account would carry 0.4 more stations like this one
Journal: 320 records, 319 on disk, 1.0 MiB, id 00ff
";
        assert_eq!(render(&status(), PLAIN), expected);
    }

    #[test]
    fn where_aws_gives_less_than_is_configured_no_other_station_is_promised_a_part() {
        let mut status = status();
        let it = status.binding.as_mut().unwrap();
        (it.operation, it.more_stations, it.learned) = ("account".to_owned(), Some(0.0), true);
        let said = "Held up most by: account, 31 % of the time; the account would carry no more stations: AWS gives less than is configured\n";
        assert!(render(&status, PLAIN).contains(said), "{}", render(&status, PLAIN));
        status.binding.as_mut().unwrap().more_stations = None;
        assert!(render(&status, PLAIN).contains("by: account, 31 % of the time\n"));
    }

    #[test]
    fn a_terminal_shows_the_pace_and_the_quotas_as_bars_too() {
        let text = render(&status(), Screen { terminal: true, colour: false });
        assert!(text.contains("\nLast hour:  ▂█▄\n"), "{text}");
        assert!(
            text.lines().any(|it| it.contains("create-policy") && it.ends_with("██████████ 199 %")),
            "{text}"
        );
        let plain = render(&status(), PLAIN);
        assert!(plain.is_ascii(), "{plain}");
    }

    #[test]
    fn a_new_station_has_little_to_say() {
        let text = render(&Status::default(), PLAIN);
        assert!(text.contains("Backlog: buffered 0\n") && !text.contains("FIXTURE"), "{text}");
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let plain = render(&status(), PLAIN);
        let coloured = render(&status(), Screen { colour: true, ..PLAIN });
        assert_ne!(plain, coloured);
        assert_eq!(coloured.replace("\u{1b}[1;33m", "").replace("\u{1b}[0m", ""), plain);
    }

    #[test]
    fn a_redraw_never_scrolls_and_leaves_nothing_of_the_old() {
        let drawn = redrawn("\u{1b}[1;32mready\u{1b}[0m and more\nsecond\nthird\n", false, (7, 3));
        let expected = "\u{1b}[H\u{1b}[1;32mready\u{1b}[0m a\u{1b}[K\nsecond\u{1b}[K\n\u{1b}[J";
        assert_eq!(drawn, expected);
        assert!(redrawn("x", true, (80, 24)).starts_with("\u{1b}[2J"));
    }

    /// Passes on what is written, and closes the pipe after so many writes.
    struct Pipe {
        text: String,
        left: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.text.push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_daemons_status_is_shown_as_text_and_as_json() {
        let station = Station::new();
        station.status.send_replace(Arc::new(status()));
        let client = Client::new(&station.path);
        let screen = Screen { terminal: false, colour: false };
        let mut out = Vec::new();
        show(&client, screen, &mut out).await.unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), render(&status(), PLAIN));
        let mut out = Vec::new();
        show_json(&client, &mut out).await.unwrap();
        assert_eq!(serde_json::from_slice::<Status>(&out).unwrap(), status());
        let mut pipe = Pipe { text: String::new(), left: 0 };
        let ended_by_reader = watch_json(&client, &mut pipe).await;
        assert_eq!(ended(ended_by_reader, &mut Vec::new()), ExitStatus::Done);
        assert_eq!(pipe.text.lines().count(), 1, "a document is a line");
        let mut pipe = Pipe { text: String::new(), left: 0 };
        assert!(watch(&client, screen, &mut pipe).await.is_err());
        assert_eq!(pipe.text, format!("{}\n", render(&status(), PLAIN)), "no escapes, a blank line between");
        station.end().await;
    }
}

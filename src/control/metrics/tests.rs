use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use axum::http::{HeaderMap, HeaderValue};

use super::*;
use crate::control::tally::Folder;
use crate::control::tests::{admitted_at, certificate, nest_event};
use crate::control::{
    Backlog, CaStatus, Counts, FixtureStatus, JournalStatus, OperationStatus, SharedLimitStatus, StationState,
};
use crate::device::event::{Event, Output, Waited};
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::fixture::FailCode;
use crate::histogram::Histogram;
use crate::journal::{Record, What};
use crate::shift::Calendar;
use crate::shift::Shift;

fn now() -> Timestamp {
    "2026-11-22T09:00:00Z".parse().unwrap()
}

fn status() -> Status {
    let operation = |name: &str, limit| OperationStatus {
        operation: name.to_owned(),
        limit,
        ceiling: limit,
        rate: 9.5,
        calls: 12,
        ok: 9,
        throttled: 2,
        errors: 1,
        waiting: 3,
        waiting_devices: 4,
        bound_share: 0.25,
        ..OperationStatus::default()
    };
    Status {
        // A name of nobody's, to see it escaped.
        station: "L3\\S07 \"east\"\nline".to_owned(),
        version: "0.1.0".to_owned(),
        state: StationState::Degraded,
        uptime_s: 99,
        fixtures: vec![FixtureStatus {
            naks_by_code: [("busy".to_owned(), 2)].into(),
            name: "nest-1".to_owned(),
            state: "ready".to_owned(),
            frames_in: 7,
            ..FixtureStatus::default()
        }],
        counts: Counts { passed: 40, failed: 2, ..Counts::default() },
        operations: vec![operation("create-thing", Some(10.0)), operation("create-policy", None)],
        shared_limits: vec![SharedLimitStatus {
            name: "account".to_owned(),
            limit: Some(15.0),
            learned: true,
            rate: 14.5,
            waiting: 6,
            bound_share: 0.5,
            ..SharedLimitStatus::default()
        }],
        journal: JournalStatus { seq: 321, durable: 320, bytes: 1 << 20, id: "00ff".to_owned() },
        backlog: Backlog { devices: 5, buffered: 2, oldest_s: Some(77) },
        ca: Some(CaStatus {
            subject: "CN=x".to_owned(),
            not_after: "2026-12-22T09:00:00Z".parse().unwrap(),
            warning: None,
        }),
        ..Status::default()
    }
}

fn tally() -> Tally {
    let calendar = Calendar {
        shifts: vec![Shift::whole_day()],
        timezone: jiff::tz::TimeZone::UTC,
        days_off: Default::default(),
    };
    let mut folder = Folder::new(calendar, 0, 0, now());
    let done =
        Event::StepDone { step: Step::Thing, output: Output::Nothing, adopted: false, request_id: None };
    let passed = Event::Passed {
        presentation: nest_event(1),
        directory: None,
        label: false,
        waited: Waited::default(),
    };
    let issued = Event::Issued { certificate: certificate() };
    for (seq, event) in (1..).zip([admitted_at(1, Some("A"), None), issued, done, passed]) {
        let serial = Some(SerialNumber::parse("SN-1").unwrap());
        folder.fold(&Record { seq, at: now(), serial, what: What::Device(event) });
    }
    let (presentation, waited) = (nest_event(2), Waited::default());
    let (code, message) = (FailCode::Offline, String::new());
    let deferred = Event::Deferred { presentation, code, message, waited };
    for (seq, event) in (5..).zip([admitted_at(2, Some("A"), None), deferred]) {
        let serial = Some(SerialNumber::parse("SN-2").unwrap());
        folder.fold(&Record { seq, at: now(), serial, what: What::Device(event) });
    }
    folder.tally().clone()
}

fn snapshot() -> Snapshot {
    let histogram = Histogram::new(&[0.01, 0.1]);
    [0.005, 0.05, 7.0].into_iter().for_each(|it| histogram.observe(it));
    let (calls, commits) = (histogram.buckets(), Some(histogram.buckets()));
    let figures = Figures {
        calls: vec![("create-thing", calls)],
        commit_records: commits.clone(),
        commits,
        log_bytes: 4096,
    };
    Snapshot { status: Arc::new(status()), tally: Arc::new(tally()), figures, now: now() }
}

impl Kind {
    /// The word for it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    /// What is added to the name of its samples.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram => "",
        }
    }
}

impl Family {
    /// Its name without suffix.
    fn base(&self) -> String {
        match self.unit {
            Some(unit) => format!("{}_{unit}", self.stem),
            None => self.stem.to_owned(),
        }
    }

    /// The name by which it is asked for.
    fn name(&self) -> String {
        self.base() + self.kind.suffix()
    }
}

/// The table of `docs/metrics.md`, a row for each metric.
fn documented() -> String {
    let mut text = String::new();
    for it in FAMILIES {
        let labels: Vec<String> = it.labels.iter().map(|it| format!("`{it}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        let row = format!("| `{}` | {} | {labels} | {} |\n", it.name(), it.kind.as_str(), it.help);
        text.push_str(&row);
    }
    text
}

/// A family as a strict reader of text 0.0.4 takes it.
#[derive(Debug, Default)]
struct Read {
    kind: String,
    samples: BTreeMap<String, f64>,
}

/// Reads text 0.0.4 and panics at whatever is not as its description has it: HELP and TYPE once and before the
/// samples, a family's samples together, names and labels of the right letters, no sample twice, histograms whole.
fn read(text: &str) -> BTreeMap<String, Read> {
    let mut families: BTreeMap<String, Read> = BTreeMap::new();
    let mut present = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|it| it.split_once(' ')) {
            assert!(!help.is_empty() && !families.contains_key(name), "{name} twice");
            present = name.to_owned();
            families.insert(name.to_owned(), Read::default());
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            assert_eq!(name, present, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let family = families.get_mut(name).unwrap();
            assert!(family.kind.is_empty() && family.samples.is_empty(), "{line}");
            family.kind = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffixes: &[&str] =
                if families[&present].kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.iter().any(|it| name == format!("{present}{it}")), "{line} in {present}");
            assert!(
                name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_'),
                "{line}"
            );
            let value = value.parse().unwrap();
            assert!(
                families.get_mut(&present).unwrap().samples.insert(series.to_owned(), value).is_none(),
                "{line}"
            );
        }
    }
    families
}

#[test]
fn the_text_is_what_a_strict_reader_takes_and_holds_every_metric() {
    let families = read(&render(&snapshot(), Format::Text));
    let names: BTreeSet<String> = FAMILIES.iter().map(Family::name).collect();
    assert_eq!(families.keys().cloned().collect::<BTreeSet<_>>(), names);
    let of = |name: &str, series: &str| families[name].samples[&format!("{name}{series}")];
    assert_eq!(of("linemint_devices", "{state=\"passed\"}"), 40.0);
    assert_eq!(of("linemint_state", "{state=\"degraded\"}"), 1.0);
    assert_eq!(of("linemint_state", "{state=\"ready\"}"), 0.0);
    assert_eq!(of("linemint_calls_total", "{operation=\"create-policy\",outcome=\"throttled\"}"), 2.0);
    assert_eq!(of("linemint_call_limit_per_second", "{operation=\"create-thing\"}"), 10.0);
    assert_eq!(families["linemint_call_limit_per_second"].samples.len(), 1, "an unlimited one has none");
    assert_eq!(of("linemint_shared_limit_per_second", "{limit=\"account\"}"), 15.0);
    assert_eq!(of("linemint_shared_limit_rate_per_second", "{limit=\"account\"}"), 14.5);
    assert_eq!(of("linemint_shared_limit_waiting", "{limit=\"account\"}"), 6.0);
    assert_eq!(of("linemint_steps_total", "{step=\"thing\",outcome=\"done\"}"), 1.0);
    assert_eq!(of("linemint_shift_devices", "{result=\"passed\"}"), 1.0);
    assert_eq!(of("linemint_shift_devices", "{result=\"deferred\"}"), 1.0);
    assert_eq!(of("linemint_shift_devices", "{result=\"failed\"}"), 0.0, "a deferred device has not failed");
    assert_eq!(of("linemint_ca_remaining_seconds", ""), 30.0 * 86_400.0);
    let end = certificate().not_after.as_second() - now().as_second();
    assert_eq!(of("linemint_certificate_remaining_seconds", ""), end as f64);
    assert_eq!(of("linemint_backlog_oldest_seconds", ""), 77.0);
    let calls = &families["linemint_call_duration_seconds"].samples;
    let bucket = |le: &str| {
        calls[&format!("linemint_call_duration_seconds_bucket{{le=\"{le}\",operation=\"create-thing\"}}")]
    };
    assert_eq!([bucket("0.01"), bucket("0.1"), bucket("+Inf")], [1.0, 2.0, 3.0]);
    assert_eq!(calls["linemint_call_duration_seconds_count{operation=\"create-thing\"}"], 3.0);
}

#[test]
fn what_stands_in_a_label_is_escaped() {
    let text = render(&snapshot(), Format::Text);
    let line = r#"linemint_build_info{version="0.1.0",station="L3\\S07 \"east\"\nline"} 1"#;
    assert!(text.lines().any(|it| it == line), "{text}");
}

#[test]
fn openmetrics_has_units_and_an_end_and_calls_counters_without_total() {
    let open = render(&snapshot(), Format::OpenMetrics);
    assert!(open.ends_with("\n# EOF\n"));
    for line in [
        "# TYPE linemint_calls counter",
        "# TYPE linemint_build info",
        "# UNIT linemint_call_duration_seconds seconds",
        "# TYPE linemint_call_duration_seconds histogram",
    ] {
        assert!(open.lines().any(|it| it == line), "{line} in\n{open}");
    }
    let text = render(&snapshot(), Format::Text);
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    let samples =
        |it: &str| it.lines().filter(|it| !it.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(samples(&open), samples(&text));
}

#[test]
fn a_station_that_has_just_begun_has_metrics_too() {
    let nothing =
        Snapshot { status: Arc::default(), tally: Arc::default(), figures: Figures::default(), now: now() };
    let families = read(&render(&nothing, Format::Text));
    assert!(families["linemint_calls_total"].samples.is_empty());
    assert_eq!(families["linemint_backlog_oldest_seconds"].samples["linemint_backlog_oldest_seconds"], 0.0);
}

#[test]
fn the_collector_gets_what_it_likes_best() {
    let wanted = |accept: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_str(accept).unwrap());
        Format::wanted(&headers)
    };
    assert_eq!(Format::wanted(&HeaderMap::new()), Format::Text);
    for text in [
        "*/*",
        "",
        "text/plain",
        "text/html",
        "application/openmetrics-text;q=0",
        "text/plain, application/openmetrics-text;q=0.5",
        "application/openmetrics-text;q=x",
    ] {
        assert_eq!(wanted(text), Format::Text, "{text}");
    }
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                      text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for open in
        [prometheus, "application/openmetrics-text", "text/plain;q=0.1 , Application/OpenMetrics-Text; q=0.2"]
    {
        assert_eq!(wanted(open), Format::OpenMetrics, "{open}");
    }
}

#[test]
fn the_table_keeps_its_own_rules() {
    let units = ["seconds", "bytes", "ratio"];
    let mut names = BTreeSet::new();
    for it in FAMILIES {
        assert!(names.insert(it.name()), "{} twice", it.name());
        assert!(it.stem.starts_with("linemint_") && !it.stem.ends_with("_total"), "{}", it.stem);
        assert!(it.unit.is_none_or(|it| units.contains(&it)), "{}", it.stem);
        assert!(units.iter().all(|unit| !it.stem.ends_with(unit)), "{}: the unit stands apart", it.stem);
        assert!(it.help.ends_with('.') && !it.help.contains(['\\', '"', '\n', '|']), "{}", it.help);
        let labels = match (it.read)(&snapshot()) {
            Samples::Numbers(it) => it.into_iter().map(|it| it.0).collect::<Vec<_>>(),
            Samples::Histograms(it) => it.into_iter().map(|it| it.0).collect(),
        };
        assert!(!labels.is_empty(), "{} has no sample to look at", it.name());
        for labels in labels {
            assert_eq!(labels.len(), it.labels.len(), "{}", it.name());
        }
    }
}

#[test]
fn the_document_is_made_from_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let document = std::fs::read_to_string(path).unwrap();
    let head = "|---|---|---|---|\n";
    let (before, rows) = document.split_once(head).unwrap();
    if std::env::var_os("LINEMINT_UPDATE").is_some() {
        let text = format!("{before}{head}{}", documented());
        crate::durable_fs::replace(std::path::Path::new(path), 0o644, text.as_bytes()).unwrap();
        return;
    }
    assert_eq!(rows, documented(), "LINEMINT_UPDATE=1 writes docs/metrics.md anew");
}

/// Hands `input` to promtool; what it says, or none where there is no promtool.
fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring"));
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = started else { return None };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// With Debian's prometheus; the strict reader above stands in for it elsewhere.
#[test]
fn promtool_finds_nothing_to_say_against_metrics_and_rules() {
    let text = render(&snapshot(), Format::Text);
    for (arguments, input) in [
        (&["check", "metrics"][..], text.as_str()),
        (&["check", "rules", "alerts.yml"], ""),
        (&["test", "rules", "alerts-test.yml"], ""),
    ] {
        match promtool(arguments, input) {
            None => eprintln!("skipped: there is no promtool here"),
            Some((ok, said)) => assert!(ok, "{arguments:?}: {said}"),
        }
    }
}

/// The metrics that a document of `docs/monitoring` asks for.
fn asked_for(document: &str) -> BTreeSet<String> {
    let words = document.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'));
    words.filter(|it| it.starts_with("linemint_")).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let known: BTreeSet<String> = FAMILIES
        .iter()
        .flat_map(|it| {
            let name = it.name();
            let parts = ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}"));
            [name].into_iter().chain(parts)
        })
        .collect();
    for document in [
        include_str!("../../../docs/monitoring/alerts.yml"),
        include_str!("../../../docs/monitoring/dashboard.json"),
    ] {
        let asked = asked_for(document);
        assert!(asked.len() >= 8, "{asked:?}");
        assert_eq!(asked.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/monitoring/dashboard.json")).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|it| it.len() >= 8));
}

#[test]
fn the_runbook_says_what_each_alarm_means() {
    let alarms: Vec<&str> = include_str!("../../../docs/monitoring/alerts.yml")
        .lines()
        .filter_map(|it| it.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alarms.len() >= 12, "{alarms:?}");
    let runbook = include_str!("../../../docs/runbook.md");
    let unsaid = alarms.iter().filter(|it| !runbook.contains(&format!("\n| `{it}` | ")));
    assert_eq!(unsaid.collect::<Vec<_>>(), Vec::<&&str>::new());
}

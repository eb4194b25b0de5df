//! The three recorded shifts in every format, to the byte. `LINEMINT_GOLDEN=write cargo test golden` writes them
//! anew: look at them before you commit them.

use std::path::PathBuf;

use super::super::selection::Selection;
use serde_json::Value;

use super::super::merge::merge;
use super::super::model::{CloudFinding, Exception, Report, Twice};
use super::super::render::{csv, html, json, text};
use super::super::sign::{Signer, hash, verify};
use super::*;

fn lines(history: &History, report: &Report) -> String {
    let mut lines = csv::Lines::new(Vec::new()).unwrap();
    let span = &report.selection;
    history
        .summaries(span.begin, span.end, &mut |it| {
            lines.device(&it).unwrap();
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    String::from_utf8(lines.finish().unwrap()).unwrap()
}

fn hold(name: &str, (history, report): &(History, Report)) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/shifts").join(name);
    let formats = [
        ("report.txt", text::render(report)),
        ("report.json", json::render(report)),
        ("report.csv", lines(history, report)),
        ("report.html", html::render(report)),
    ];
    for (file, now) in formats {
        let path = dir.join(file);
        if std::env::var_os("LINEMINT_GOLDEN").is_some_and(|it| it == "write") {
            std::fs::create_dir_all(&dir).unwrap();
            crate::durable_fs::replace(&path, 0o644, now.as_bytes()).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let first = now.lines().zip(golden.lines()).position(|(a, b)| a != b);
        assert!(now == golden, "{name}/{file} has changed, from line {first:?} on");
    }
}

#[test]
fn golden_reports_are_what_they_were() {
    hold("clocks-set-back", &shifts::clocks_set_back());
    hold("outage", &shifts::outage());
    hold("rework", &shifts::rework());
}

/// Whether a value is what the schema says, as far as the schema's own few words go.
fn fits(value: &Value, schema: &Value, root: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        return fits(value, &root["$defs"][name], root, place);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let wanted = any.iter().find(|it| (it["type"] == "null") == value.is_null()).unwrap();
        return fits(value, wanted, root, place);
    }
    if let Some(only) = schema.get("const") {
        assert_eq!(value, only, "{place}");
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(it) if it.is_u64() || it.is_i64() => "integer",
        Value::Number(_) => "a number with a fraction",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = &schema["type"];
    assert!(
        kinds == kind || kinds.as_array().is_some_and(|it| it.iter().any(|it| it == kind)),
        "{place}: {kind}"
    );
    for (at, it) in value.as_array().into_iter().flatten().enumerate() {
        fits(it, &schema["items"], root, &format!("{place}[{at}]"));
    }
    let Some(members) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(members.contains_key(name.as_str().unwrap()), "{place} lacks {name}");
    }
    for (name, it) in members {
        let of = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        fits(
            it,
            of.unwrap_or_else(|| panic!("{place}.{name} is not in the schema")),
            root,
            &format!("{place}.{name}"),
        );
    }
}

#[test]
fn every_report_is_what_the_published_schema_says() {
    let schema =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/report.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let all = [shifts::clocks_set_back().1, shifts::outage().1, shifts::rework().1];
    let mut other = all[1].clone();
    other.station.id = "other".to_owned();
    let twice = Twice { serial: "S".to_owned(), stations: vec!["a".to_owned(), "b".to_owned()] };
    let parts = [all[1].clone(), other].map(|it| (it.clone(), hash(&it)));
    let merged = merge(&parts, (1, vec![twice])).unwrap();
    for report in all.iter().chain([&merged]) {
        fits(&serde_json::from_str(&signer.signed(report)).unwrap(), &schema, &schema, "report");
        fits(&serde_json::from_str(&json::render(report)).unwrap(), &schema, &schema, "report");
    }
}

#[test]
fn what_is_written_is_read_again() {
    for (_, report) in [shifts::clocks_set_back(), shifts::outage(), shifts::rework()] {
        let read: Report = serde_json::from_str(&json::render(&report)).unwrap();
        assert_eq!(read, report);
    }
}

#[test]
fn no_line_of_the_text_is_wider_than_the_terminal_and_no_word_of_others_is_markup() {
    for (_, report) in [shifts::clocks_set_back(), shifts::outage(), shifts::rework()] {
        let text = text::render(&report);
        assert!(text.lines().all(|it| it.chars().count() <= text::WIDTH), "{text}");
        assert!(text.lines().count() < 120, "two minutes");
    }
    let page = html::render(&shifts::rework().1);
    assert!(page.contains("&lt;b&gt;Put both aside&lt;/b&gt; &amp; call"));
    for forbidden in ["<b>Put", "<script", "http://", "https://", "url(", "@import", " on"] {
        let tags = page.split('<').filter_map(|it| it.split_once('>')).map(|(tag, _)| tag);
        let found = match forbidden {
            " on" => tags.clone().any(|it| it.contains(" onload") || it.contains(" onclick")),
            it => page.contains(it),
        };
        assert!(!found, "{forbidden}");
    }
}

#[test]
fn a_page_of_very_many_exceptions_stays_small_and_says_how_many_there_are() {
    let mut history = History::default();
    let begin = at("2026-11-20T05:00:00Z");
    for number in 0..3_000_u64 {
        let serial = serial(&format!("TH{number:048}"));
        let now = seconds(begin, number as i64);
        history.device(now, &serial, Event::Admitted(Box::new(admission(None, "nest-1", number + 1))));
        let presentation = Some(presentation("nest-1", number));
        let (code, message) = (FailCode::Mismatch, "x".repeat(400));
        history.device(
            now,
            &serial,
            Event::Quarantined { presentation, code, message, waited: Waited::default() },
        );
    }
    let context = context(at("2026-11-20T13:00:00Z"));
    let shift = context.calendar.named("2026-11-20/early").unwrap();
    let report = super::super::fold::make(&history, &Selection::Shift(shift), &context, None).unwrap();
    let page = html::render(&report);
    assert!(page.contains("in quarantine: 3,000") && page.contains("2,800 more: see the CSV."));
    assert!(page.len() < 200_000, "{}", page.len());
    assert!(text::render(&report).contains("and 2,990 more: see the CSV"));
}

#[test]
fn every_order_of_a_person_is_in_the_report_and_those_left_out_are_counted() {
    let begin = at("2026-11-20T05:00:00Z");
    let report = |orders: i64, every: i64| {
        let mut history = History::default();
        for number in 0..orders {
            let message = format!("the clock is {number} minutes behind");
            let by = operator("it is right");
            history.station(seconds(begin, number * every), StationEvent::ClockOverridden { message, by });
        }
        let context = context(at("2026-11-20T13:00:00Z"));
        let shift = context.calendar.named("2026-11-20/early").unwrap();
        super::super::fold::make(&history, &Selection::Shift(shift), &context, None).unwrap()
    };
    // More than fit into five minutes, in an hour.
    let mut hour = report(30, 120);
    hour.station.id = "L3-S08".to_owned();
    assert_eq!((hour.overrides.len(), hour.overrides_count), (30, 30));
    assert!(text::render(&hour).contains("against one of its rules: 30\n"));
    assert!(text::render(&hour).contains("    and 14 more: see the journal\n"));
    assert!(
        html::render(&hour).contains("29 minutes behind") && !html::render(&hour).contains("more are in")
    );
    // More than a list holds: 16 of each five minutes, and of these the first 200.
    let shift = report(1_440, 15);
    assert_eq!((shift.overrides.len(), shift.overrides_count), (200, 1_440));
    assert!(html::render(&shift).contains("1,240 more are in the journal."));
    assert!(text::render(&shift).contains("and 1,424 more: see the journal\n"));
    let merged = merge(&[hour, shift].map(|it| (it.clone(), hash(&it))), (0, Vec::new())).unwrap();
    assert_eq!((merged.overrides.len(), merged.overrides_count), (200, 1_470));
    // In a report of before there is no count.
    let mut old = serde_json::to_value(report(3, 1)).unwrap();
    old.as_object_mut().unwrap().remove("overrides_count");
    let old: Report = serde_json::from_value(old).unwrap();
    assert_eq!(old.overridden(), 3);
    assert!(text::render(&old).contains("against one of its rules: 3\n"));
}

#[test]
fn a_spreadsheet_takes_nothing_for_a_formula() {
    let mut history = History::default();
    let serial = serial("=1+1");
    let mut admission = admission(Some("@WO,\"1\""), "nest-1", 1);
    admission.product = "+lamp".to_owned();
    history.device(at("2026-11-20T05:00:00Z"), &serial, Event::Admitted(Box::new(admission)));
    let mut lines = csv::Lines::new(Vec::new()).unwrap();
    history
        .summaries(Timestamp::MIN, Timestamp::MAX, &mut |it| {
            lines.device(&it).unwrap();
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let text = String::from_utf8(lines.finish().unwrap()).unwrap();
    let line = text.lines().nth(1).unwrap();
    assert!(
        line.starts_with(
            "'=1+1,in-progress,admitted,'+lamp,\"'@WO,\"\"1\"\"\",nest-1,2026-11-20T05:00:00.000Z,,"
        ),
        "{line}"
    );
    assert_eq!(line.matches(',').count(), csv::COLUMNS.len(), "one comma is in the batch");
}

#[test]
fn what_is_missing_is_sought_where_it_is_and_nothing_that_is_to_be_done_is_cut() {
    let mut report = shifts::rework().1;
    report.selection.kind = "batch".to_owned();
    report.selection.name = Some("WO-4711".to_owned());
    let why = "ordered and never presented in this batch".to_owned();
    for number in 0..300 {
        let (serial, why) = (format!("SN{number}"), why.clone());
        report.exceptions.missing.push(|| Exception { serial, at: None, code: None, why });
    }
    let long = format!("Put the unit aside, {}and call the line lead.", "and then ".repeat(20));
    let word = "x".repeat(150);
    report.exceptions.quarantined.devices[0].why = long.clone();
    report.batches = (0..30).map(|it| (format!("WO-{it:04}"), it)).collect();
    let found = CloudFinding {
        class: "half-made".to_owned(),
        serial: Some("SN1".to_owned()),
        resource: word.clone(),
        expected: String::new(),
        held: long.clone(),
        remedy: long.clone(),
    };
    let mut cloud = super::super::model::CloudCheck::default();
    (cloud.devices, cloud.findings) = (vec![found], [("half-made".to_owned(), 1)].into());
    report.cloud = Some(cloud);
    let (text, page) = (text::render(&report), html::render(&report));
    assert!(text.contains("and 290 more: see `linemint batch show WO-4711 --missing`\n"), "{text}");
    assert!(page.contains("100 more: see `linemint batch show WO-4711 --missing`."));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = words(&text);
    assert_eq!(told.matches(&long).count(), 3, "{text}");
    assert!(told.replace(' ', "").contains(&word) && told.contains("WO-0029 29"), "{text}");
    assert!(text.lines().all(|it| it.chars().count() <= text::WIDTH), "{text}");
}

#[test]
fn a_report_in_which_a_member_is_there_twice_is_not_authentic() {
    let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let text = signer.signed(&shifts::outage().1);
    assert!(verify(&text, &[]).is_ok());
    // A reader that takes the first of two sees another report than the one that was signed.
    for (member, other) in [("\"version\":1", "\"version\":9"), ("\"closes\":true", "\"closes\":false")] {
        let twice = text.replacen(member, &format!("{other},{member}"), 1);
        assert_ne!(twice, text, "{member}");
        let why = verify(&twice, &[]).unwrap_err().to_string();
        assert!(why.contains("is there twice"), "{why}");
    }
}

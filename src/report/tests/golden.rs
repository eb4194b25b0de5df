//! The three recorded shifts in every format, to the byte. `LINEMINT_GOLDEN=write cargo test golden` writes them
//! anew: look at them before you commit them.

use std::path::PathBuf;

use super::super::fold::Selection;
use super::super::model::Report;
use super::super::render::{csv, html, json, text};
use super::*;

fn lines(history: &History, report: &Report) -> String {
    let mut lines = csv::Lines::new(Vec::new()).unwrap();
    let span = &report.selection;
    history.summaries(span.begin, span.end, &mut |it| lines.device(&it).unwrap()).unwrap();
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
            std::fs::write(&path, &now).unwrap();
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
        history.device(now, &serial, Event::Admitted(Box::new(admission(None, "nest-1", number))));
        let presentation = Some(presentation("nest-1", number));
        let (code, message) = (FailCode::Mismatch, "x".repeat(400));
        history.device(now, &serial, Event::Quarantined { presentation, code, message });
    }
    let context = context(at("2026-11-20T13:00:00Z"));
    let shift = context.calendar.named("2026-11-20/early").unwrap();
    let report = super::super::fold::make(&history, &Selection::Shift(shift), &context, None).unwrap();
    let page = html::render(&report);
    assert!(page.contains("in quarantine: 3,000") && page.contains("2,800 more are in the CSV"));
    assert!(page.len() < 200_000, "{}", page.len());
    assert!(text::render(&report).contains("and 2,990 more: see the CSV"));
}

#[test]
fn a_spreadsheet_takes_nothing_for_a_formula() {
    let mut history = History::default();
    let serial = serial("=1+1");
    let mut admission = admission(Some("@WO,\"1\""), "nest-1", 1);
    admission.product = "+lamp".to_owned();
    history.device(at("2026-11-20T05:00:00Z"), &serial, Event::Admitted(Box::new(admission)));
    let mut lines = csv::Lines::new(Vec::new()).unwrap();
    history.summaries(Timestamp::MIN, Timestamp::MAX, &mut |it| lines.device(&it).unwrap()).unwrap();
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

//! Reports over the socket.

use std::ops::ControlFlow;

use super::*;
use crate::control::report::{LinesError, write_lines};
use crate::report::selection::Selection;
use crate::report::sign::verify;
use crate::report::source::Source as _;

/// The day of the station's records: 2026-09-21.
const DAY: &str = "/v1/report?shift=2026-09-21/day";

fn serials(count: usize) -> Vec<String> {
    (0..count).map(|it| format!("SN-{it:05}")).collect()
}

#[tokio::test]
async fn a_shift_is_told_in_every_format_and_the_answer_says_whether_it_balances() {
    let mut station = Station::new();
    station.admit(&serials(30), Some("WO-1"));
    let json = station.get(DAY).await;
    assert_eq!(json.status, 200, "{json:?}");
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(json.header("linemint-balance"), Some("closes"));
    let verified = verify(&json.body, &[]).unwrap();
    assert_eq!((verified.report.balance.total, verified.report.balance.in_progress), (30, 30));
    assert_eq!(verified.report.journal.head, 30);
    assert_eq!(verified.report.journal.head_hash.len(), 64);
    let text = station.get(&format!("{DAY}&format=text")).await;
    assert!(
        text.body.starts_with("Shift 2026-09-21/day  ·  station L3-S07\nBALANCES: 30 presented"),
        "{}",
        text.body
    );
    let html = station.get(&format!("{DAY}&format=html")).await;
    assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(html.body.starts_with("<!DOCTYPE html>"), "{}", html.body);
    let csv = station.get(&format!("{DAY}&format=csv")).await;
    assert_eq!(csv.header("linemint-balance"), Some("closes"));
    assert_eq!(csv.body.lines().filter(|it| it.starts_with("SN-")).count(), 30, "{csv:?}");
    station.end().await;
}

#[tokio::test]
async fn what_nobody_takes_any_more_is_read_no_further() {
    struct HungUp;
    impl std::io::Write for HungUp {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let mut station = Station::new();
    station.admit(&serials(30), Some("WO-1"));
    let (begin, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
    let mut seen = 0;
    let mut two = |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    station.store.summaries(begin, end, &mut two).unwrap();
    assert_eq!(seen, 2);
    let selection = Selection::Batch("WO-1".to_owned());
    let ended = write_lines(&station.store, &selection, (begin, end), &mut HungUp).unwrap_err();
    assert!(matches!(ended, LinesError::Output(ref it) if it.kind() == std::io::ErrorKind::BrokenPipe));
    station.end().await;
}

#[tokio::test]
async fn a_batch_a_time_and_a_correction_can_be_asked_for() {
    let mut station = Station::new();
    station.admit(&serials(3), Some("WO-1"));
    station.admit(&["X1".to_owned(), "X2".to_owned()], None);
    assert_eq!(station.json("/v1/report?batch=WO-1").await["balance"]["sum"], 3);
    let all = station.json("/v1/report?since=2026-09-21T00:00:00Z&until=2026-09-22T00:00").await;
    assert_eq!(all["balance"]["total"], 5);
    let csv = station.get("/v1/report?batch=WO-1&format=csv").await;
    assert_eq!(
        csv.body.lines().filter(|it| it.starts_with("SN-") || it.starts_with('X')).count(),
        3,
        "{csv:?}"
    );
    let old = "ab".repeat(32);
    let again = station.json(&format!("{DAY}&corrects={old}&version=3")).await;
    assert_eq!((&again["version"], &again["corrects"]), (&Value::from(3), &Value::from(old)));
    assert_eq!(station.json(&format!("{DAY}&reconciled=false")).await["cloud"], Value::Null);
    // The clock stands on the day after: nothing has come yet, and the last shift that ended is the one.
    assert_eq!(station.json("/v1/report").await["balance"]["total"], 0);
    assert_eq!(station.json("/v1/report?shift=last").await["selection"]["name"], "2026-09-21/day");
    let named = station.json("/v1/report?shift=last&name=true").await;
    let about = (&named["name"], &named["kind"], &named["begin"]);
    assert_eq!(about, (&"2026-09-21/day".into(), &"shift".into(), &"2026-09-21T00:00:00Z".into()));
    assert!(named.get("balance").is_none(), "and no report is made for that");
    assert_eq!(named["station"], station.json("/v1/report").await["station"]["id"]);
    let named = station.json("/v1/report?batch=WO-1&name=true").await;
    assert_eq!((&named["name"], &named["kind"]), (&"WO-1".into(), &"batch".into()));
    let named =
        station.json("/v1/report?since=2026-09-21T00:00:00Z&until=2026-09-22T00:00:00Z&name=true").await;
    let about = (&named["name"], &named["end"]);
    assert_eq!(about, (&Value::Null, &"2026-09-22T00:00:00Z".into()));
    station.end().await;
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_with_a_reason() {
    let station = Station::new();
    for (target, status, part) in [
        ("/v1/report?shift=2026-09-21/nihgt", 400, "there is no shift"),
        ("/v1/report?shift=yesterday/x", 400, "is not a day and a shift"),
        ("/v1/report?shift=last&batch=B", 400, "not several of them"),
        ("/v1/report?until=2026-09-21T00:00:00Z", 400, "say a shift"),
        ("/v1/report?since=now", 400, "since is no time"),
        ("/v1/report?since=2026-09-21T00:00:00Z&until=2026-09-20T00:00:00Z", 400, "until is not after since"),
        ("/v1/report?format=pdf", 400, "none of text, json, csv and html"),
        ("/v1/report?batch=NONE", 404, "no order is known"),
        ("/v1/report?corrects=abc", 400, "64 digits"),
        ("/v1/report?version=1", 400, "version"),
        ("/v1/report?wrong=1", 400, "wrong"),
        ("/v1/report?name=1", 400, "name is true or false"),
        ("/v1/report?reconciled=", 400, "reconciled is true or false"),
        ("/v1/report?reconciled=1", 400, "reconciled is true or false"),
        ("/v1/report?reconciled=yes", 400, "reconciled is true or false"),
        ("/v1/report?reconciled=True", 400, "reconciled is true or false"),
        ("/v1/report?reconciled=true", 409, "no look at the account for just these devices"),
        // It is looked for before anything is counted.
        ("/v1/report?batch=NONE&reconciled=true", 409, "no look at the account for just these devices"),
    ] {
        let answer = station.get(target).await;
        assert_eq!(answer.status, status, "{target}: {answer:?}");
        assert!(answer.body.contains(part), "{target}: {answer:?}");
    }
    station.end().await;
}

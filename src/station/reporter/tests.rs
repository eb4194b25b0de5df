use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use jiff::tz::TimeZone;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::clock::ManualClock;
use crate::journal::Journal as _;
use crate::journal::store::{JournalLock, Opened, open};
use crate::report::sign::{Signer, verify};
use crate::report::tests::shifts::outage;
use crate::shift::{Calendar, Days, Shift, parse_time};

fn options(dir: &Path, keep: usize) -> config::Reports {
    let grace = Duration::from_secs(600);
    config::Reports { grace, dir: Some(dir.to_owned()), keep, hook: Vec::new(), url: None }
}

/// A journal that holds the morning of 2026-11-20, and a reporter at that time.
fn reporter(dir: &Path, keep: usize, now: &str) -> (Opened, Reporter) {
    let mut opened = open(JournalLock::take(&dir.join("journal")).unwrap()).unwrap();
    opened.writer.commit(outage().0.entries).unwrap();
    let shift = |name: &str, start, end| Shift {
        name: name.to_owned(),
        start: parse_time(start).unwrap(),
        end: parse_time(end).unwrap(),
        days: Days::ALL,
    };
    let calendar = Calendar {
        shifts: vec![
            shift("early", "06:00", "14:00"),
            shift("late", "14:00", "22:00"),
            shift("night", "22:00", "06:00"),
        ],
        timezone: TimeZone::get("Europe/Vienna").unwrap(),
        days_off: BTreeSet::new(),
    };
    let signer = Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap();
    let station = StationHead { id: "S".to_owned(), software: "1".to_owned(), config: "c".to_owned() };
    let maker = Maker {
        station,
        journal_id: opened.id.clone(),
        calendar,
        takt_ms: None,
        limits: Default::default(),
        looks: Default::default(),
        orders: None,
        signer: Some(Arc::new(signer)),
    };
    let (_, status) = watch::channel(Arc::new(Status::default()));
    let reports = dir.join("reports");
    let calendar = maker.calendar.clone();
    let plant = Plant { calendar, config: "c".to_owned(), ..Plant::default() };
    let it = Reporter {
        told: watch::channel(None).0,
        maker,
        plant: watch::channel(Arc::new(plant)).1,
        store: opened.store.clone(),
        clock: Arc::new(ManualClock::at(now.parse().unwrap())),
        status,
        line: clock_of(Some(Duration::MAX)),
        options: options(&reports, keep),
        dir: reports,
        present: Default::default(),
    };
    (opened, it)
}

/// A line whose clock is known to be right for so long.
fn clock_of(clock_proven: Option<Duration>) -> watch::Receiver<Arc<LineStatus>> {
    watch::channel(Arc::new(LineStatus { clock_proven, ..LineStatus::default() })).1
}

/// What is made when all goes well.
fn made_by(it: &Reporter) -> Vec<PathBuf> {
    let (made, result) = it.catch_up();
    result.unwrap();
    made
}

fn names(made: &[PathBuf]) -> Vec<String> {
    made.iter().map(|it| it.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_report_is_written_once_after_the_grace_in_four_formats() {
    let dir = tempfile::tempdir().unwrap();
    let (_opened, mut it) = reporter(dir.path(), 10, "2026-11-20T13:09:59Z");
    assert!(made_by(&it).is_empty(), "the grace is not over");
    it.clock = Arc::new(ManualClock::at("2026-11-20T13:10:00Z".parse().unwrap()));
    let made = made_by(&it);
    assert_eq!(names(&made), ["shift-2026-11-20-early.json"]);
    let text = std::fs::read_to_string(&made[0]).unwrap();
    let report = verify(&text, &[]).unwrap().report;
    assert_eq!((report.balance.total, report.balance.closes), (96, true));
    let lines = std::fs::read_to_string(made[0].with_extension("csv")).unwrap();
    assert_eq!(lines.lines().count(), 97);
    assert!(made[0].with_extension("html").exists() && made[0].with_extension("txt").exists());
    assert_eq!(std::fs::read_dir(&it.dir).unwrap().count(), 4, "nothing half written is left");
    assert!(made_by(&it).is_empty(), "once");
}

#[test]
fn what_came_of_the_newest_report_is_told_until_the_next_shift_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (_opened, mut it) = reporter(dir.path(), 10, "2026-11-20T13:10:00Z");
    let told = it.told.subscribe();
    let sentence = || told.borrow().as_ref().map(|it| it.sentence.clone());
    // A file is where the directory should be.
    put(&it.dir, "");
    it.catch_up().1.unwrap_err();
    let said = sentence().unwrap();
    assert!(said.starts_with("report of 2026-11-20/early cannot be written: "), "{said}");
    let early =
        std::mem::replace(&mut it.clock, Arc::new(ManualClock::at("2026-11-20T21:05:00Z".parse().unwrap())));
    it.catch_up().1.unwrap_err();
    assert_eq!(sentence(), Some(said), "a later shift has ended, and this one's is not written yet");
    it.clock = early;
    std::fs::remove_file(&it.dir).unwrap();
    made_by(&it);
    assert_eq!(sentence().as_deref(), Some("report of 2026-11-20/early written, balances"));
    let mut at = |time: &str| it.clock = Arc::new(ManualClock::at(time.parse().unwrap()));
    at("2026-11-20T20:59:59Z");
    assert!(made_by(&it).is_empty());
    assert!(sentence().is_some(), "the late shift has not ended");
    let mut at = |time: &str| it.clock = Arc::new(ManualClock::at(time.parse().unwrap()));
    at("2026-11-20T21:00:00Z");
    assert!(made_by(&it).is_empty(), "the grace is not over");
    assert_eq!(sentence(), None);
    let mut at = |time: &str| it.clock = Arc::new(ManualClock::at(time.parse().unwrap()));
    at("2026-11-20T21:10:00Z");
    assert_eq!(names(&made_by(&it)), ["shift-2026-11-20-late.json"]);
    let said = sentence().unwrap();
    assert!(said.starts_with("report of 2026-11-20/late written, "), "{said}");
    let status = Status::default();
    let line = crate::station::herald::sentence(&status, &told.borrow());
    assert!(
        line.starts_with("starting: 0 of 0 fixtures ready") && line.ends_with(&format!("; {said}")),
        "{line}"
    );
}

#[test]
fn a_report_has_the_limits_of_the_configuration_as_it_is_then() {
    let dir = tempfile::tempdir().unwrap();
    let (_opened, mut it) = reporter(dir.path(), 10, "2026-11-20T13:10:00Z");
    it.maker.limits = Limits::from([("create-thing".to_owned(), 1_000)]);
    let mut plant = (**it.plant.borrow()).clone();
    plant.limits = Limits::from([("create-thing".to_owned(), 7_000)]);
    it.plant = watch::channel(Arc::new(plant)).1;
    // The account is what the station's share of it is a share of.
    let halves = limits(&Quotas::aws_default().shared(0.5));
    let of = |it: &Limits, name: &str| (it.station.get(name).copied(), it.account.get(name).copied());
    assert_eq!(of(&halves, "create-policy"), (Some(5_000), Some(10_000)));
    assert_eq!(of(&halves, CERTIFICATES), (Some(7_500), Some(15_000)));
    let made = made_by(&it);
    let text = std::fs::read_to_string(&made[0]).unwrap();
    let quota = verify(&text, &[]).unwrap().report.quota.unwrap();
    let limits: Vec<_> = quota.operations.iter().map(|it| (it.operation.as_str(), it.limit_milli)).collect();
    let expected =
        [("create-policy", None), ("create-thing", Some(7_000)), ("register-certificate-without-ca", None)];
    assert_eq!(limits, expected);
}

#[test]
fn what_was_missed_is_made_at_the_next_start_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let (_opened, it) = reporter(dir.path(), 2, "2026-11-21T06:00:00Z");
    std::fs::create_dir(&it.dir).unwrap();
    let foreign = it.dir.join("shift-plan.json");
    put(&foreign, "{}");
    // Of the four shifts that have ended since the station began two are kept.
    let made = made_by(&it);
    assert_eq!(names(&made), ["shift-2026-11-20-late.json", "shift-2026-11-20-night.json"]);
    let (_opened2, wide) = {
        let other = tempfile::tempdir().unwrap();
        let (opened, mut wide) = reporter(other.path(), 9, "2026-11-21T06:00:00Z");
        wide.dir = it.dir.clone();
        ((opened, other), wide)
    };
    assert_eq!(names(&made_by(&wide)), ["shift-2026-11-20-early.json"], "none before the first record");
    files::prune(&it.dir, 2, &it.maker.calendar).unwrap();
    assert!(!it.dir.join("shift-2026-11-20-early.html").exists());
    assert!(it.dir.join("shift-2026-11-20-night.html").exists() && foreign.exists());
}

#[test]
fn a_report_that_was_written_is_told_whatever_goes_wrong_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_opened, it) = reporter(dir.path(), 1, "2026-11-20T13:10:00Z");
    // What is too old and no file cannot be removed.
    std::fs::create_dir_all(it.dir.join("shift-2026-11-01-early.json")).unwrap();
    let (made, result) = it.catch_up();
    assert_eq!(names(&made), ["shift-2026-11-20-early.json"]);
    assert!(matches!(result, Err(WriteError::Io { .. })), "{result:?}");
    assert!(it.catch_up().0.is_empty(), "it would never be told later");
}

#[test]
fn a_report_that_agrees_with_the_journal_on_disk_agrees_with_the_one_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (_opened, it) = reporter(dir.path(), 10, "2026-11-20T13:10:00Z");
    let (history, _) = outage();
    let now = it.clock.now().wall;
    for shift in ["2026-11-20/early", "2026-11-20/late", "2026-11-19/night"] {
        let selection = Selection::Shift(it.maker.calendar.named(shift).unwrap());
        let of_store = it.maker.make(&it.store, &selection, now, Default::default()).unwrap();
        let mut of_history = it.maker.make(&history, &selection, now, Default::default()).unwrap();
        assert_eq!(of_store.journal.head, of_history.journal.head);
        of_history.journal.head_hash.clone_from(&of_store.journal.head_hash);
        assert_eq!(of_store, of_history, "{shift}");
    }
}

/// Writes a file of the test.
fn put(path: &Path, content: impl AsRef<[u8]>) {
    crate::durable_fs::replace(path, 0o644, content.as_ref()).unwrap();
}

fn hook(dir: &Path, body: &str) -> Vec<String> {
    let path = dir.join("hook.sh");
    put(&path, format!("#!/bin/sh\n{body}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    vec![path.to_str().unwrap().to_owned(), "an argument with $HOME in it".to_owned()]
}

#[test]
fn the_hook_gets_its_arguments_and_the_path_and_is_killed_when_it_does_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let it = hook(
        dir.path(),
        &format!("printf '%s|%s|%s' \"$1\" \"$2\" \"$CARGO_MANIFEST_DIR\" > {}", out.display()),
    );
    let within = Duration::from_secs(20);
    tell::run_hook(&it, Path::new("r.json"), within).unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "an argument with $HOME in it|r.json|");
    let failed = tell::run_hook(&hook(dir.path(), "exit 3"), Path::new("r.json"), within).unwrap_err();
    assert!(failed.contains("exit status: 3"), "{failed}");
    let stuck =
        tell::run_hook(&hook(dir.path(), "exec sleep 600"), Path::new("r.json"), Duration::from_millis(200));
    assert!(stuck.unwrap_err().contains("was killed"));
    assert!(tell::run_hook(&["/nonexistent/hook".to_owned()], Path::new("r"), within).is_err());
}

#[tokio::test]
async fn a_report_is_sent_again_until_it_is_taken_and_no_more_often_than_that() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.json");
    put(&path, "{\"a\":1}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/reports", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = heard.clone();
    tokio::spawn(async move {
        for status in ["503 Busy", "201 Created", "400 No", "500 No", "500 No", "500 No"] {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            let mut text = String::new();
            while !text.ends_with("{\"a\":1}") {
                let len = socket.read(&mut bytes).await.unwrap();
                text.push_str(std::str::from_utf8(&bytes[..len]).unwrap());
            }
            hearing.lock().unwrap().push(text);
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let teller = Teller {
        hook: Vec::new(),
        url: Some(url),
        hook_within: Duration::ZERO,
        pauses: vec![Duration::ZERO; 2],
    };
    teller.tell(&path).await;
    assert_eq!(heard.lock().unwrap().len(), 2, "until it is taken");
    assert!(heard.lock().unwrap()[0].starts_with("POST /reports HTTP/1.1\r\n"));
    teller.tell(&path).await;
    assert_eq!(heard.lock().unwrap().len(), 3, "what is refused for good is not sent again");
    teller.tell(&path).await;
    assert_eq!(heard.lock().unwrap().len(), 6, "three tries");
}

#[test]
fn nothing_is_written_while_the_clock_may_be_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (_opened, mut it) = reporter(dir.path(), 10, "2026-11-20T13:10:00Z");
    for proven in [None, Some(Duration::ZERO), Some(Duration::from_secs(599))] {
        it.line = clock_of(proven);
        assert!(made_by(&it).is_empty(), "{proven:?}");
    }
    it.line = clock_of(Some(it.options.grace));
    assert_eq!(names(&made_by(&it)), ["shift-2026-11-20-early.json"]);
}

#[test]
fn what_was_written_by_a_clock_that_was_ahead_is_corrected_when_the_shift_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (mut opened, mut it) = reporter(dir.path(), 10, "2026-11-20T21:10:00Z");
    // It is early afternoon, and the clock says ten at night.
    let made = made_by(&it);
    assert_eq!(names(&made), ["shift-2026-11-20-early.json", "shift-2026-11-20-late.json"]);
    let read = |path: &Path| verify(&std::fs::read_to_string(path).unwrap(), &[]).unwrap();
    let (early, first) = (read(&made[0]), read(&made[1]));
    assert_eq!(first.report.balance.total, 0);
    // The clock is put right, and a device comes into the shift of which there is a report.
    let mut history = outage().0;
    let at = crate::report::tests::at("2026-11-20T15:00:00Z");
    let known = history.entries.len();
    let admission = crate::report::tests::admission(None, "nest-1", 9_000);
    let late = crate::report::tests::serial("LATE1");
    history.device(at, &late, crate::device::event::Event::Admitted(Box::new(admission)));
    opened.writer.commit(history.entries[known..].to_vec()).unwrap();
    it.clock = Arc::new(ManualClock::at("2026-11-20T15:00:01Z".parse().unwrap()));
    assert!(made_by(&it).is_empty(), "the shift lasts");
    it.clock = Arc::new(ManualClock::at("2026-11-20T21:10:00Z".parse().unwrap()));
    let again = made_by(&it);
    assert_eq!(names(&again), ["shift-2026-11-20-late.json"], "the other was right");
    let second = read(&again[0]).report;
    assert_eq!((second.version, second.corrects, second.balance.total), (2, Some(first.hash), 1));
    assert!(made_by(&it).is_empty(), "once");
    // One that says itself that its shift had not ended.
    let mut tale: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&made[0]).unwrap()).unwrap();
    tale["made_at"] = "2026-11-20T12:59:59Z".into();
    put(&made[0], tale.to_string());
    assert_eq!(names(&made_by(&it)), ["shift-2026-11-20-early.json"]);
    assert_eq!(read(&made[0]).report.balance, early.report.balance);
}

#[test]
fn a_shift_with_another_name_has_the_report_that_lies_there() {
    let dir = tempfile::tempdir().unwrap();
    let (_opened, mut it) = reporter(dir.path(), 10, "2026-11-20T13:10:00Z");
    assert_eq!(names(&made_by(&it)), ["shift-2026-11-20-early.json"]);
    let mut plant = (**it.plant.borrow()).clone();
    plant.calendar.shifts[0].name = "dawn".to_owned();
    it.plant = watch::channel(Arc::new(plant)).1;
    assert!(made_by(&it).is_empty(), "its devices are in a signed report");
    assert_eq!(it.present.lock().unwrap().told.len(), 1, "that is said once");
    assert!(made_by(&it).is_empty());
    assert_eq!(it.present.lock().unwrap().told.len(), 1);
    it.clock = Arc::new(ManualClock::at("2026-11-21T13:10:00Z".parse().unwrap()));
    let made = names(&made_by(&it));
    let next = ["shift-2026-11-20-late.json", "shift-2026-11-20-night.json", "shift-2026-11-21-dawn.json"];
    assert_eq!(made, next, "those that only touch it are their own");
}

#[test]
fn reports_are_read_alike_in_all_formats_and_a_directory_that_is_there_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let (_opened, mut it) = reporter(dir.path(), 10, "2026-11-20T13:10:00Z");
    it.dir = dir.path().join("line/reports");
    let made = made_by(&it);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for format in ["csv", "html", "txt", "json"] {
        assert_eq!(mode(&made[0].with_extension(format)), 0o644, "{format}");
    }
    assert_eq!((mode(&it.dir), mode(&dir.path().join("line"))), (0o755, 0o755));
    std::fs::set_permissions(&it.dir, std::fs::Permissions::from_mode(0o750)).unwrap();
    it.clock = Arc::new(ManualClock::at("2026-11-20T21:10:00Z".parse().unwrap()));
    assert_eq!(made_by(&it).len(), 1);
    assert_eq!(mode(&it.dir), 0o750, "one that is there keeps its mode");
}

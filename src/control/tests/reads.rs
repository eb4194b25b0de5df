//! What is read, and who may change something.

use std::collections::BTreeMap;

use super::*;
use crate::control::client::{Client, ClientError, encoded};
use crate::control::{Counts, DevicePage, DeviceStory, Draining, EventPage, StationState};
use crate::device::State;
use crate::device::event::{Output, Waited};
use crate::device::operator::{Operator, Refusal, StationOrder};
use crate::device::steps::Step;
use crate::error::ExitStatus;
use crate::fixture::FailCode;

#[tokio::test]
async fn the_status_is_the_newest_that_the_station_has_told() {
    let station = Station::new();
    let counts = Counts::from(&BTreeMap::from([(State::Passed, 3), (State::Failed, 1)]));
    let status =
        Status { station: "L3-S07".to_owned(), state: StationState::Ready, counts, ..Status::default() };
    station.status.send_replace(Arc::new(status.clone()));
    let json = station.json("/v1/status").await;
    let states: Vec<&str> = json["counts"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(states, State::ALL.map(State::as_str), "every state has its number");
    assert_eq!((&json["counts"]["passed"], &json["state"]), (&3.into(), &"ready".into()));
    assert!(json["batch"].is_null() && json["ca"].is_null());
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
    assert_eq!(Client::new(&station.path).get_json::<Status>("/v1/status").await.unwrap(), status);
    let head = station.request("HEAD", "/v1/status", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    station.end().await;
}

#[tokio::test]
async fn a_device_is_shown_with_its_whole_history_and_no_key() {
    let mut station = Station::new();
    let device = |event| (Some("SN-1"), What::Device(event));
    station.journal(vec![
        (None, rules_known()),
        (Some("SN-1"), admitted(Some("B1"))),
        device(Event::Issued { certificate: certificate() }),
        device(Event::StepDone {
            step: Step::Thing,
            output: Output::Nothing,
            adopted: false,
            request_id: None,
        }),
        (Some("SN-2"), admitted(None)),
        device(Event::Offered { presentation: presentation(1), waited: Waited::default() }),
    ]);
    let answer = station.get("/v1/devices/SN-1").await;
    assert!(!answer.body.contains("\"der\""), "{}", answer.body);
    let json = answer.json();
    assert_eq!(json["state"], "delivering");
    assert_eq!((&json["thing"], &json["policy"]), (&"lamp-SN-1".into(), &Value::Null));
    assert_eq!((&json["locker_id"], &json["batch"]), (&"locker-7".into(), &"B1".into()));
    assert_eq!(json["certificate"]["fingerprint"], certificate().fingerprint.to_string());
    assert_eq!(json["certificate"]["key"], "sealed");
    assert_eq!(json["presentation"]["fixture"], "nest-1");
    assert!(json["presentation"]["outcome"].is_null() && json["failure"].is_null());
    let story: DeviceStory = serde_json::from_value(json).unwrap();
    let history: Vec<_> = story.history.iter().map(|it| (it.seq, it.event.as_str())).collect();
    assert_eq!(history, [(2, "admitted"), (3, "issued"), (4, "step-done"), (6, "offered")]);
    assert_eq!(story.history[2].members["step"], "thing");
    assert!(!story.history_cut);
    station.end().await;
}

#[tokio::test]
async fn a_device_that_was_sent_to_the_rack_is_deferred_and_not_failed() {
    let mut station = Station::new();
    let (presentation, code, message) = (presentation(1), FailCode::Offline, String::new());
    let deferred = Event::Deferred { presentation, code, message, waited: Waited::default() };
    let presented = Event::Presented {
        presentation: nest_event(2),
        nest: None,
        mac: None,
        anew: None,
        attributes: Default::default(),
    };
    let (code, message) = (FailCode::Rejected, String::new());
    let given_up = Event::Quarantined { presentation: None, code, message, waited: Waited::default() };
    let (code, message) = (FailCode::WriteFailed, String::new());
    let failed = Event::Failed { presentation: nest_event(2), code, message };
    let device = |event| (Some("SN-1"), What::Device(event));
    station.journal(vec![(Some("SN-1"), admitted(None)), device(deferred.clone())]);
    let json = station.json("/v1/devices/SN-1").await;
    assert_eq!((&json["state"], &json["presentation"]["outcome"]), (&"admitted".into(), &"deferred".into()));
    let issued = Event::Issued { certificate: certificate() };
    station.journal(vec![device(presented), device(issued), device(failed)]);
    let json = station.json("/v1/devices/SN-1").await;
    assert_eq!((&json["state"], &json["presentation"]["outcome"]), (&"failed".into(), &"failed".into()));
    let another = |event| (Some("SN-2"), What::Device(event));
    station.journal(vec![(Some("SN-2"), admitted(None)), another(deferred), another(given_up)]);
    let json = station.json("/v1/devices/SN-2").await;
    assert_eq!((&json["state"], &json["presentation"]["outcome"]), (&"quarantined".into(), &"failed".into()));
    station.end().await;
}

#[tokio::test]
async fn a_long_history_is_cut_to_its_newest_thousand() {
    let mut station = Station::new();
    let mut happened = vec![(Some("SN-1"), admitted(None))];
    happened.extend((0..1_000).map(|attempt| {
        let message = "slow".to_owned();
        (Some("SN-1"), What::Device(Event::Trouble { step: Step::Thing, message, attempt, request_id: None }))
    }));
    station.journal(happened);
    let story: DeviceStory = serde_json::from_value(station.json("/v1/devices/SN-1").await).unwrap();
    assert!(story.history_cut);
    assert_eq!((story.history.len(), story.history[0].seq, story.history[999].seq), (1_000, 2, 1_001));
    station.end().await;
}

#[tokio::test]
async fn pages_show_every_device_exactly_once_in_order() {
    let mut station = Station::new();
    let mut serials: Vec<String> = (0..23).map(|it| format!("SN-{it:03}")).collect();
    serials.extend(["SN-01".to_owned(), "a/b?c=d&e#f%2F".to_owned(), "~".to_owned(), "..".to_owned()]);
    station.admit(&serials, None);
    serials.sort();
    for limit in [1, 2, 9, 27, 1_000] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let target = format!("/v1/devices?limit={limit}&after={}", encoded(&after));
            let page: DevicePage = serde_json::from_value(station.json(&target).await).unwrap();
            assert!(page.devices.len() <= limit);
            seen.extend(page.devices.into_iter().map(|it| it.serial));
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(seen, serials, "pages of {limit}");
    }
    for serial in &serials {
        let target = format!("/v1/devices/{}", encoded(serial));
        assert_eq!(station.json(&target).await["serial"], serial.as_str());
    }
    station.end().await;
}

#[tokio::test]
async fn a_list_holds_what_was_asked_for() {
    let mut station = Station::new();
    station.admit(&["A1".to_owned(), "A2".to_owned()], Some("B1"));
    station.admit(&["A3".to_owned()], Some("B2"));
    let quarantined = Event::Quarantined {
        presentation: None,
        code: FailCode::Mismatch,
        message: "two devices may have been swapped".to_owned(),
        waited: Waited::default(),
    };
    station.journal(vec![(Some("A2"), What::Device(quarantined))]);
    let list = async |query: &str| -> Vec<String> {
        let page: DevicePage =
            serde_json::from_value(station.json(&format!("/v1/devices{query}")).await).unwrap();
        page.devices.into_iter().map(|it| it.serial).collect()
    };
    assert_eq!(list("").await, ["A1", "A2", "A3"]);
    assert_eq!(list("?state=&batch=&shift=&after=").await, ["A1", "A2", "A3"]);
    assert_eq!(list("?state=quarantined").await, ["A2"]);
    assert_eq!(list("?batch=B1").await, ["A1", "A2"]);
    assert_eq!(list("?batch=B1&state=admitted").await, ["A1"]);
    assert_eq!(list("?batch=B").await, Vec::<String>::new());
    // They were presented on the day before the clock's.
    assert_eq!(list("?shift=last").await, ["A1", "A2", "A3"]);
    assert_eq!(list("?shift=2026-09-21/day&batch=B2").await, ["A3"]);
    assert_eq!(list("?shift=2026-09-20/day").await, Vec::<String>::new());
    let json = station.json("/v1/devices/A2").await;
    assert_eq!(json["failure"]["code"], "mismatch");
    station.end().await;
}

#[tokio::test]
async fn pages_of_events_show_each_once_and_nothing_that_is_not_on_disk() {
    let mut station = Station::new();
    station.journal(vec![(None, rules_known()), (None, What::Station(StationEvent::LineResumed))]);
    let serials: Vec<String> = (0..250).map(|it| format!("SN-{it:03}")).collect();
    station.admit(&serials, None);
    station.journal_quietly(vec![(None, What::Station(StationEvent::Stopped))]);
    for limit in [1, 99, 252, 1_000] {
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let target = format!("/v1/events?after={after}&limit={limit}");
            let page: EventPage = serde_json::from_value(station.json(&target).await).unwrap();
            seen.extend(page.events.into_iter().map(|it| it.seq));
            match page.next {
                Some(next) if limit > 1 || next < 5 => after = next,
                _ => break,
            }
        }
        let until = if limit == 1 { 5 } else { 252 };
        assert_eq!(seen, (1..=until).collect::<Vec<_>>(), "pages of {limit}");
    }
    let json = station.json("/v1/events").await;
    assert_eq!(json["events"].as_array().unwrap().len(), 100);
    let first = &json["events"][0];
    assert_eq!((&first["event"], &first["rules"]["product"]), (&"rules".into(), &"lamp".into()));
    assert_eq!(first.get("serial"), None);
    assert_eq!(json["events"][2]["serial"], "SN-000");
    assert_eq!(json["events"][2]["at"], "2026-09-21T14:13:23Z");
    let last: EventPage = serde_json::from_value(station.json("/v1/events?after=9999").await).unwrap();
    assert_eq!(last, EventPage::default());
    station.end().await;
}

#[tokio::test]
async fn a_device_is_not_shown_before_its_newest_record_is_on_disk() {
    let mut station = Station::new();
    station.journal_quietly(vec![(Some("SN-1"), admitted(None))]);
    let mut asked = Box::pin(station.get("/v1/devices/SN-1"));
    // The answer is waiting while another request is served from beginning to end.
    tokio::select! {
        biased;
        _ = &mut asked => panic!("shown too early"),
        _ = async { for _ in 0..20 { station.get("/v1/status").await; } } => {}
    }
    station.durable.send_replace(1);
    assert_eq!(asked.as_mut().await.status, 200);
    drop(asked);
    station.end().await;
}

/// Answers one order about the station.
fn answer(
    station: &mut Station,
    result: Result<(), String>,
) -> tokio::task::JoinHandle<(StationOrder, Operator)> {
    let mut commands = station.commands.take().unwrap();
    tokio::spawn(async move {
        let command = commands.recv().await.unwrap();
        let Command::Station { order, by, reply } = command else { panic!("{command:?}") };
        reply.send(result.map_err(Refusal::Not)).unwrap();
        (order, by)
    })
}

fn level(it: &str) -> StationOrder {
    StationOrder::LogLevel(it.to_owned())
}

#[tokio::test]
async fn the_log_level_is_put_by_who_may_and_a_wrong_one_is_told_in_a_sentence() {
    let put = |body: &str| {
        format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let debug = put(r#"{"level": "debug"}"#);
    let mut station = Station::new();
    let told = answer(&mut station, Ok(()));
    let answered = station.request("PUT", "/v1/log-level", &debug).await;
    assert_eq!((answered.status, answered.json()), (200, serde_json::json!({"level": "debug"})));
    let (order, by) = told.await.unwrap();
    assert_eq!((order, by.uid), (level("debug"), rustix::process::geteuid().as_raw()));
    assert_eq!(by.reason, "");
    // None of these reaches the station, which hears no more orders.
    let forged = r#"{"level": "x\n2026-11-22T09:00:00Z  INFO PASS"}"#;
    let problem = station.request("PUT", "/v1/log-level", &put(forged)).await.problem(400, "bad-request");
    assert_eq!(problem["detail"], "the level is one of error, warn, info, debug, trace");
    for bad in ["", "{}", r#"{"level": 3}"#, "debug"] {
        let problem = station.request("PUT", "/v1/log-level", &put(bad)).await.problem(400, "bad-request");
        assert!(problem["hint"].as_str().unwrap().contains("level"), "{problem}");
    }
    station.request("POST", "/v1/log-level", &debug).await.problem(405, "wrong-verb");
    station.end().await;
    let mut station = Station::new();
    let told = answer(&mut station, Err("the level is one of error, warn, info, debug, trace".to_owned()));
    let problem = station.request("PUT", "/v1/log-level", &debug).await.problem(400, "bad-request");
    assert_eq!(problem["detail"], "the level is one of error, warn, info, debug, trace");
    told.await.unwrap();
    station.end().await;
}

#[tokio::test]
async fn a_status_that_is_known_already_is_not_sent_again() {
    let station = Station::new();
    let first = station.get("/v1/status").await;
    let tag = first.header("etag").unwrap().to_owned();
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let answer = station.request("GET", "/v1/status", &format!("if-none-match: {known}\r\n")).await;
        assert_eq!(
            (answer.status, answer.body.as_str(), answer.header("etag")),
            (304, "", Some(tag.as_str()))
        );
    }
    station.status.send_replace(Arc::new(Status { uptime_s: 1, ..Status::default() }));
    let answer = station.request("GET", "/v1/status", &format!("if-none-match: {tag}\r\n")).await;
    assert_eq!((answer.status, &answer.json()["uptime_s"]), (200, &1.into()));
    assert_ne!(answer.header("etag"), Some(tag.as_str()));
    station.end().await;
}

#[tokio::test]
async fn the_daemons_own_user_may_drain_and_resume() {
    for (target, wanted, draining) in
        [("/v1/drain", StationOrder::Drain, true), ("/v1/resume", StationOrder::Resume, false)]
    {
        for reason in ["", "lunch"] {
            let mut station = Station::new();
            let told = answer(&mut station, Ok(()));
            let body = if reason.is_empty() {
                serde_json::json!({})
            } else {
                serde_json::json!({ "reason": reason })
            };
            let got: Draining = Client::new(&station.path).post(target, &body).await.unwrap();
            assert_eq!(got.draining, draining);
            let (order, by) = told.await.unwrap();
            assert_eq!((&order, by.uid), (&wanted, rustix::process::geteuid().as_raw()));
            assert_eq!(by.reason, reason);
            station.end().await;
        }
    }
}

#[tokio::test]
async fn a_refusal_by_the_station_comes_with_its_sentence() {
    let mut station = Station::new();
    let told = answer(&mut station, Err("the line is being stopped".to_owned()));
    let problem = station.request("POST", "/v1/drain", "").await.problem(409, "conflict");
    assert_eq!(problem["detail"], "the line is being stopped");
    told.await.unwrap();
    let gone = station.request("POST", "/v1/resume", "").await;
    gone.problem(503, "unavailable");
    assert!(gone.header("retry-after").is_some());
    station.end().await;
}

#[tokio::test]
async fn who_is_not_trusted_may_look_but_not_touch() {
    let access = Access { trusted: Vec::new(), etc: PathBuf::from("/nonexistent"), ..Access::default() };
    let mut station = Station::with(Limits::default(), access);
    for target in ["/v1/drain", "/v1/resume"] {
        let problem = station.request("POST", target, "").await.problem(403, "forbidden");
        assert!(problem["hint"].as_str().unwrap().contains("linemint-admin"));
    }
    assert_eq!(station.get("/v1/status").await.status, 200);
    assert!(station.commands.as_mut().unwrap().try_recv().is_err(), "nothing reached the station");
    let error =
        Client::new(&station.path).post::<Draining>("/v1/drain", &serde_json::json!({})).await.unwrap_err();
    assert_eq!(error.exit_status(), ExitStatus::NotPermitted);
    assert!(matches!(error, ClientError::Refused(_)));
    station.end().await;
}

/// The head and the body of an answer, as bytes.
async fn backup(station: &Station) -> (String, Vec<u8>) {
    let mut socket = station.connect().await;
    // Version 1.0 has no chunks: the body is all that comes.
    socket.write_all(b"GET /v1/journal/backup HTTP/1.0\r\nhost: x\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes[end + 4..].to_vec())
}

#[tokio::test]
async fn a_backup_of_the_running_journal_is_sent_and_can_be_restored() {
    let mut station = Station::new();
    let serials: Vec<String> = (0..500).map(|it| format!("SN-{it}")).collect();
    station.journal(vec![(None, rules_known())]);
    station.admit(&serials, None);
    let (head, bytes) = backup(&station).await;
    assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/vnd.linemint.journal"), "{head}");
    let dir = tempfile::tempdir().unwrap();
    let (file, restored) = (dir.path().join("backup"), dir.path().join("journal"));
    std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), &bytes).unwrap();
    let lock = crate::journal::store::JournalLock::take(&restored).unwrap();
    assert_eq!(crate::journal::copy::restore(&file, lock).unwrap().records, 501);
    // Another one may follow: the first has ended.
    assert_eq!(backup(&station).await.1, bytes);
    station.end().await;
}

#[tokio::test]
async fn there_is_one_backup_at_a_time_and_one_that_nobody_takes_does_not_keep_the_daemon() {
    let limits = Limits { shutdown: std::time::Duration::from_millis(100), ..Limits::default() };
    let mut station = Station::with(limits, Access::default());
    let serials: Vec<String> = (0..20_000).map(|it| format!("SERIAL-NUMBER-{it}")).collect();
    for some in serials.chunks(1000) {
        station.admit(some, None);
    }
    let mut slow = station.connect().await;
    slow.write_all(b"GET /v1/journal/backup HTTP/1.0\r\nhost: x\r\n\r\n").await.unwrap();
    // Its first byte says that it has begun; far more than the socket and the chunks hold is left.
    slow.read_u8().await.unwrap();
    station.get("/v1/journal/backup").await.problem(503, "unavailable");
    station.end().await;
}

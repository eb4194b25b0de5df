//! Orders about devices: who may give them, what they have to say, what is answered.

use super::*;
use crate::device::operator::{MAX_REASON_LEN, Operator, Order, Refusal, StationOrder};

fn body(text: &str) -> String {
    format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}

async fn post(station: &Station, target: &str, text: &str) -> Answer {
    station.raw(format!("POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{}", body(text))).await
}

/// An order and its device (none for the clock), and who gave it.
type Heard = (Option<(Order, String)>, Operator);

/// Answers every command with `result`; what was heard.
fn answering(station: &mut Station, result: Result<(), Refusal>) -> JoinHandle<Vec<Heard>> {
    let mut commands = station.commands.take().unwrap();
    tokio::spawn(async move {
        let mut heard = Vec::new();
        while let Some(command) = commands.recv().await {
            match command {
                Command::Order { order, serial, by, reply } => {
                    reply.send(result.clone()).unwrap();
                    heard.push((Some((order, serial.to_string())), by));
                }
                Command::OverrideClock { by, reply } => {
                    reply.send(result.clone()).unwrap();
                    heard.push((None, by));
                }
                Command::Station { order: StationOrder::Resume, reply, .. } => reply.send(Ok(())).unwrap(),
                it @ (Command::Station { .. } | Command::Reconcile { .. } | Command::Batch { .. }) => {
                    panic!("nobody asks for {it:?}")
                }
            }
        }
        heard
    })
}

#[tokio::test]
async fn an_order_carries_who_and_why_and_is_answered_with_the_device() {
    let mut station = Station::new();
    station.admit(&["SN/1".to_owned()], None);
    let heard = answering(&mut station, Ok(()));
    for order in Order::ALL {
        let answer = post(&station, &format!("/v1/devices/SN%2F1/{order}"), r#"{"reason":"why"}"#).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!((&answer.json()["serial"], &answer.json()["state"]), (&"SN/1".into(), &"admitted".into()));
    }
    assert_eq!(post(&station, "/v1/resume", r#"{"clock":true,"reason":"why"}"#).await.status, 200);
    assert_eq!(post(&station, "/v1/resume", "").await.status, 200);
    station.end().await;
    let heard = heard.await.unwrap();
    let uid = rustix::process::geteuid().as_raw();
    assert!(heard.iter().all(|(_, by)| by.uid == uid && by.reason == "why"), "{heard:?}");
    let orders: Vec<_> = heard.into_iter().map(|it| it.0).collect();
    let of = |it| Some((it, "SN/1".to_owned()));
    assert_eq!(orders, [of(Order::Retry), of(Order::Release), of(Order::Scrap), of(Order::Label), None]);
}

#[tokio::test]
async fn an_order_without_a_reason_that_can_be_kept_reaches_nobody() {
    let mut station = Station::new();
    station.admit(&["SN-1".to_owned()], None);
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(MAX_REASON_LEN + 1));
    for text in ["", "{}", "[]", r#"{"reason":""}"#, r#"{"reason":"a\nb"}"#, &long] {
        let answer = post(&station, "/v1/devices/SN-1/scrap", text).await;
        answer.problem(400, "bad-request");
    }
    post(&station, "/v1/resume", r#"{"clock":true}"#).await.problem(400, "bad-request");
    for target in ["/v1/drain", "/v1/resume"] {
        post(&station, target, r#"{"reason":"a\nb"}"#).await.problem(400, "bad-request");
        post(&station, target, "[]").await.problem(400, "bad-request");
    }
    // What narrows a repair has to be understood.
    for wish in
        [r#"{"repair":true,"selecton":{"batch":"B1"}}"#, r#"{"repair":true,"selection":{"bacth":"B1"}}"#]
    {
        post(&station, "/v1/reconcile", wish).await.problem(400, "bad-request");
    }
    post(&station, "/v1/reconcile", r#"{"selection":[null,null]}"#).await.problem(400, "bad-request");
    for none in ["", "null"] {
        let answer = station.request("GET", "/v1/events", &format!("last-event-id: {none}\r\n")).await;
        assert_eq!(answer.status, 200, "{none:?}");
    }
    let nonsense = station.request("GET", "/v1/events", "last-event-id: -1\r\n").await;
    nonsense.problem(400, "bad-request");
    station.get("/v1/devices?limit=").await.problem(400, "bad-request");
    post(&station, "/v1/devices/a%20b/scrap", r#"{"reason":"x"}"#).await.problem(400, "bad-request");
    assert_eq!(station.get("/v1/devices/SN-1/scrap").await.status, 405);
    assert!(station.commands.as_mut().unwrap().try_recv().is_err());
    station.end().await;
}

#[tokio::test]
async fn members_of_a_body_that_a_later_version_may_know_are_ignored() {
    let mut station = Station::new();
    station.admit(&["SN-1".to_owned()], None);
    let mut commands = station.commands.take().unwrap();
    let done = tokio::spawn(async move {
        let mut done = 0;
        while let Some(command) = commands.recv().await {
            let (Command::Station { reply, .. }
            | Command::Order { reply, .. }
            | Command::OverrideClock { reply, .. }
            | Command::Batch { reply, .. }) = command
            else {
                panic!("nobody asks for {command:?}")
            };
            reply.send(Ok(())).unwrap();
            done += 1;
        }
        done
    });
    for (target, text) in [
        ("/v1/devices/SN-1/retry", r#"{"more":[1],"reason":"why"}"#),
        ("/v1/resume", r#"{"clock":true,"reason":"why","more":{"clock":false}}"#),
        ("/v1/drain", r#"{"reason":"why","more":1}"#),
        ("/v1/resume", r#"{"more":null}"#),
    ] {
        let answer = post(&station, target, text).await;
        assert_eq!(answer.status, 200, "{target} {text}: {answer:?}");
    }
    let level = body(r#"{"level":"info","more":true}"#);
    assert_eq!(station.request("PUT", "/v1/log-level", &level).await.status, 200);
    // The order is carried out; what is shown then is not in this journal.
    let open = r#"{"id":"WO-1","product":"lamp","count":1,"more":1}"#;
    post(&station, "/v1/batches", open).await.problem(404, "not-found");
    post(&station, "/v1/batches/WO-1/close", r#"{"more":1}"#).await.problem(404, "not-found");
    station.end().await;
    assert_eq!(done.await.unwrap(), 8, "the clock is two of them");
}

#[tokio::test]
async fn a_refusal_comes_with_its_sentence_and_nobody_is_not_found() {
    for (refusal, status, kind) in
        [(Refusal::Unknown, 404, "not-found"), (Refusal::Not("it has passed".to_owned()), 409, "conflict")]
    {
        let mut station = Station::new();
        let heard = answering(&mut station, Err(refusal.clone()));
        let answer = post(&station, "/v1/devices/SN-1/retry", r#"{"reason":"x"}"#).await;
        assert_eq!(answer.problem(status, kind)["detail"], refusal.to_string());
        station.end().await;
        assert_eq!(heard.await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn who_is_not_trusted_gives_no_orders() {
    let access = Access { trusted: Vec::new(), etc: PathBuf::from("/nonexistent"), ..Access::default() };
    let mut station = Station::with(Limits::default(), access);
    for target in ["/v1/devices/SN-1/retry", "/v1/devices/SN-1/release", "/v1/devices/SN-1/scrap"] {
        let problem = post(&station, target, r#"{"reason":"x"}"#).await.problem(403, "forbidden");
        assert!(problem["hint"].as_str().unwrap().contains("linemint-admin"));
    }
    post(&station, "/v1/resume", r#"{"clock":true,"reason":"x"}"#).await.problem(403, "forbidden");
    assert!(station.commands.as_mut().unwrap().try_recv().is_err(), "nothing reached the station");
    station.end().await;
}

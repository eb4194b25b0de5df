//! Batches over the API: who may open them, what a list is read as, what is told of them.

use std::collections::BTreeSet;

use super::*;
use crate::batch::{BatchId, Order, Terms};
use crate::device::operator::{Operator, Refusal};
use crate::journal::Opened;

const LIST: &str = "/v1/batches?id=WO-1&product=lamp";

fn opened(batch: &str, list: Option<u64>, expected: u64) -> What {
    let terms = Terms {
        batch: BatchId::parse(batch).unwrap(),
        product: "lamp".to_owned(),
        strict: list.is_some(),
        fixtures: Vec::new(),
        expected,
    };
    let by = Operator { uid: 0, name: "root".to_owned(), reason: String::new() };
    What::Station(StationEvent::BatchOpened(Box::new(Opened { terms, list, by })))
}

fn listed(batch: &str, serials: &[&str]) -> Vec<(Option<&'static str>, What)> {
    let batch = BatchId::parse(batch).unwrap();
    let serials = serials.iter().map(|it| SerialNumber::parse(it).unwrap()).collect();
    vec![
        (None, What::Station(StationEvent::BatchOpening { batch, product: "lamp".to_owned() })),
        (None, What::Station(StationEvent::BatchSerials { list: 1, serials })),
    ]
}

/// A station that obeys every order but those at which `refuses` says no; what it heard.
fn obeying(
    station: &mut Station,
    refuses: impl Fn(&Order) -> bool + Send + 'static,
) -> JoinHandle<Vec<(Order, Operator)>> {
    let mut commands = station.commands.take().unwrap();
    tokio::spawn(async move {
        let mut heard = Vec::new();
        while let Some(Command::Batch { order, by, reply }) = commands.recv().await {
            let result = if refuses(&order) { Err(Refusal::Not("it is not so".to_owned())) } else { Ok(()) };
            heard.push((order, by));
            reply.send(result).unwrap();
        }
        heard
    })
}

fn chunked(target: &str, chunks: &[&str]) -> String {
    let mut text = format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    for chunk in chunks {
        text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    text + "0\r\n\r\n"
}

fn post(target: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The orders by name, with the serials of a part.
fn told(heard: &[(Order, Operator)]) -> Vec<String> {
    let serials = |it: &[SerialNumber]| it.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let name = |(order, _): &(Order, Operator)| match order {
        Order::Open(it) => format!("open {} {} {}", it.batch, it.product, it.expected),
        Order::Begin(it) => format!("begin {} {} {} {:?}", it.batch, it.product, it.strict, it.fixtures),
        Order::Serials(_, it) => format!("serials {}", serials(it)),
        Order::Finish(it) => format!("finish {it}"),
        Order::Drop(it) => format!("drop {it}"),
        Order::Close(it) => format!("close {it}"),
        Order::Reopen(it) => format!("reopen {it}"),
    };
    heard.iter().map(name).collect()
}

#[tokio::test]
async fn a_list_is_read_line_by_line_however_it_is_cut() {
    let mut station = Station::new();
    station.journal(vec![(None, opened("WO-1", None, 3))]);
    let heard = obeying(&mut station, |_| false);
    let chunks = ["SN1\r\nS", "N2", "\n\n", " SN3 \n", "SN4"];
    let target = format!("{LIST}&strict=false&fixtures=a,b&reason=as%20planned");
    let answer = station.raw(chunked(&target, &chunks)).await;
    assert_eq!((answer.status, &answer.json()["id"]), (200, &"WO-1".into()), "{answer:?}");
    station.end().await;
    let heard = heard.await.unwrap();
    let expected = ["begin WO-1 lamp false [\"a\", \"b\"]", "serials SN1 SN2 SN3 SN4", "finish WO-1"];
    assert_eq!(told(&heard), expected);
    let uid = rustix::process::geteuid().as_raw();
    assert!(heard.iter().all(|(_, by)| by.uid == uid && by.reason == "as planned"));
}

#[tokio::test]
async fn a_long_list_comes_in_parts_that_are_answered_one_after_the_other() {
    let mut station = Station::new();
    station.journal(vec![(None, opened("WO-1", None, 3))]);
    let heard = obeying(&mut station, |_| false);
    let lines: String = (0..5_001).map(|it| format!("SN{it:06}\n")).collect();
    let answer = station.raw(chunked(LIST, &[&lines])).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    station.end().await;
    let heard = heard.await.unwrap();
    let parts: Vec<usize> = heard
        .iter()
        .filter_map(|(order, _)| match order {
            Order::Serials(_, it) => Some(it.len()),
            _ => None,
        })
        .collect();
    assert_eq!(parts, [2_000, 2_000, 1_001]);
}

#[tokio::test]
async fn what_is_wrong_with_a_list_ends_the_opening_and_is_told() {
    for (chunks, refuses, detail) in [
        (vec!["SN1\nS N2\n", "SN3\n"], false, "line 2: the serial number holds blanks"),
        (vec!["SN1\n", "SN2\n"], true, "it is not so"),
    ] {
        let mut station = Station::new();
        let heard = obeying(&mut station, move |it| refuses && matches!(it, Order::Serials(..)));
        let answer = station.raw(chunked(LIST, &chunks)).await;
        assert_eq!(answer.status, if refuses { 409 } else { 400 }, "{answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(detail), "{answer:?}");
        station.end().await;
        assert_eq!(told(&heard.await.unwrap()).last().unwrap(), "drop WO-1");
    }
}

#[tokio::test]
async fn a_list_that_takes_too_long_holds_up_no_other_batch_though_it_never_stalls() {
    let limits = Limits { stall: PATIENCE, list: Duration::from_millis(50), ..Limits::default() };
    let mut station = Station::with(limits, Access::default());
    let heard = obeying(&mut station, |_| false);
    let mut socket = station.connect().await;
    let whole = chunked(LIST, &["SN1\n"]);
    let begun = whole.trim_end_matches("0\r\n\r\n").as_bytes();
    socket.write_all(begun).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(PATIENCE / 2, socket.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(std::str::from_utf8(&answer).unwrap(), "HTTP/1.1 408");
    drop(socket);
    station.end().await;
    assert_eq!(told(&heard.await.unwrap()).last().unwrap(), "drop WO-1");
}

#[tokio::test]
async fn who_hangs_up_has_opened_nothing() {
    let mut station = Station::new();
    let mut commands = station.commands.take().unwrap();
    let whole = chunked(LIST, &["SN1\n"]);
    let mut socket = Some(station.connect().await);
    let begun = whole.trim_end_matches("0\r\n\r\n").as_bytes();
    socket.as_mut().unwrap().write_all(begun).await.unwrap();
    let mut names = Vec::new();
    while names.last().is_none_or(|it| it != "drop WO-1") {
        let Some(Command::Batch { order, by, reply }) = commands.recv().await else { panic!("{names:?}") };
        names.extend(told(&[(order, by)]));
        reply.send(Ok(())).unwrap();
        // It is known to have begun: now the other end goes.
        drop(socket.take());
    }
    assert_eq!(names.first().unwrap(), "begin WO-1 lamp true []");
    assert!(!names.contains(&"finish WO-1".to_owned()), "{names:?}");
    station.end().await;
}

#[tokio::test]
async fn a_number_opens_a_reason_opens_again_and_closing_needs_neither() {
    let mut station = Station::new();
    station.journal(vec![(None, opened("WO-1", None, 3))]);
    let heard = obeying(&mut station, |_| false);
    for (target, body) in [
        ("/v1/batches", r#"{"id":"WO-1","product":"lamp","count":3}"#),
        ("/v1/batches", r#"{"id":"WO-1","reason":"ten more"}"#),
        ("/v1/batches/WO-1/close", ""),
        ("/v1/batches/WO-1/close", r#"{"reason":"done"}"#),
    ] {
        let answer = station.raw(post(target, body)).await;
        assert_eq!(answer.status, 200, "{target} {body}: {answer:?}");
    }
    for (target, body, detail) in [
        ("/v1/batches", r#"{"id":"WO-1"}"#, "to open WO-1 again a reason has to be given"),
        ("/v1/batches", r#"{"id":"WO-1","product":"lamp"}"#, "a new batch has a"),
        ("/v1/batches", r#"{"id":"WO 1","reason":"x"}"#, "id: a batch's id has"),
        ("/v1/batches", r#"{"id":"WO-1","count":"3"}"#, "the request's body is not"),
        ("/v1/batches", r#"{"id":"WO-1","number":3}"#, "to open WO-1 again a reason has to be given"),
        ("/v1/batches/WO%201/close", "", "what stands in the path: a batch's id has"),
        ("/v1/batches/WO-1/close", r#"{"reason":"two\nlines"}"#, "a reason is one line"),
    ] {
        let answer = station.raw(post(target, body)).await;
        assert_eq!(answer.status, 400, "{target} {body}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(detail), "{answer:?}");
    }
    station.end().await;
    let heard = told(&heard.await.unwrap());
    assert_eq!(heard, ["open WO-1 lamp 3", "reopen WO-1", "close WO-1", "close WO-1"]);
}

#[tokio::test]
async fn who_is_not_an_administrator_opens_and_closes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let access = Access { trusted: Vec::new(), etc: dir.path().to_owned(), ..Access::default() };
    let station = Station::with(Limits::default(), access);
    let requests = [
        chunked(LIST, &["SN1\n"]),
        post("/v1/batches", r#"{"id":"WO-1","product":"lamp","count":3}"#),
        post("/v1/batches/WO-1/close", ""),
    ];
    for request in requests {
        assert_eq!(station.raw(request).await.status, 403);
    }
    assert_eq!(station.get("/v1/batches").await.status, 200, "looking is for everyone");
    station.end().await;
}

#[tokio::test]
async fn batches_and_lists_are_told_page_by_page() {
    let mut station = Station::new();
    let mut happened = listed("WO-1", &["A1", "A2", "A3", "A4", "A5"]);
    happened.push((None, opened("WO-1", Some(1), 5)));
    happened.push((None, opened("WO-2", None, 9)));
    station.journal(happened);
    station.admit(&["A2".to_owned(), "A4".to_owned()], Some("WO-1"));
    station.admit(&["A1".to_owned()], None);
    let page = station.json("/v1/batches?limit=1").await;
    let first = &page["batches"][0];
    assert_eq!(
        (&first["id"], &first["state"], &page["next"]),
        (&"WO-1".into(), &"open".into(), &"WO-1".into())
    );
    let counts = ["expected", "seen", "missing", "extra"].map(|it| first[it].as_u64().unwrap());
    assert_eq!((counts, &first["counts"]["admitted"]), ([5, 2, 3, 0], &2.into()));
    let page = station.json("/v1/batches?after=WO-1&state=open").await;
    assert_eq!((&page["batches"][0]["id"], &page["next"]), (&"WO-2".into(), &Value::Null));
    assert_eq!(station.json("/v1/batches?state=closed").await["batches"], serde_json::json!([]));
    let mut seen = BTreeSet::new();
    let mut after = String::new();
    loop {
        let page =
            station.json(&format!("/v1/batches/WO-1/serials?missing=true&limit=2&after={after}")).await;
        seen.extend(
            page["serials"].as_array().unwrap().iter().map(|it| it["serial"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    // A1 came without a batch: this one has not had it.
    assert_eq!(seen, BTreeSet::from(["A1", "A3", "A5"].map(str::to_owned)));
    let page = station.json("/v1/batches/WO-1/serials?limit=2").await;
    let expected = serde_json::json!([
        { "serial": "A1", "state": "admitted", "here": false },
        { "serial": "A2", "state": "admitted", "here": true },
    ]);
    assert_eq!((&page["serials"], &page["next"]), (&expected, &"A2".into()));
    assert_eq!(station.get("/v1/batches/WO-9").await.status, 404);
    assert_eq!(station.get("/v1/batches/WO-9/serials").await.status, 404);
    assert_eq!(station.get("/v1/batches?state=done").await.status, 400);
    station.end().await;
}

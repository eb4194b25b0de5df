//! Listening to a fixture's line.

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;
use crate::control::client::Client;
use crate::control::traffic::{Direction, Seen, Traffic};

/// A reader of a fixture's traffic, its answer's head read.
struct Reader(BufReader<UnixStream>);

impl Reader {
    async fn open(station: &Station, target: &str, headers: &str) -> (Self, String) {
        let mut socket = station.connect().await;
        let request = format!("GET {target} HTTP/1.0\r\nhost: x\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut reader = Self(BufReader::new(socket));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push_str(&reader.line().await);
        }
        (reader, head)
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        assert!(tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap() > 0, "it has ended");
        line
    }

    async fn rest(mut self) -> String {
        let mut rest = String::new();
        tokio::time::timeout(PATIENCE, self.0.read_to_string(&mut rest)).await.unwrap().unwrap();
        rest
    }
}

fn tell(station: &Station, fixture: usize, text: &str) {
    station.taps[fixture].tell(Some(Direction::In), || station.now(), || Seen::line(text, None));
}

fn text(line: &str) -> (String, String) {
    let traffic: Traffic = serde_json::from_str(line).unwrap();
    let Seen::Line { text, .. } = traffic.sighting.seen else { panic!("{traffic:?}") };
    (traffic.fixture, text)
}

#[tokio::test]
async fn each_reader_gets_its_fixtures_lines_as_they_come_until_the_daemon_ends() {
    let station = Station::new();
    tell(&station, 0, "before anybody listens");
    let (mut one, head) = Reader::open(&station, "/v1/fixtures/nest-1/traffic", "").await;
    assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200"), "{head}");
    assert!(head.contains("content-type: application/x-ndjson"), "{head}");
    let (mut two, _) = Reader::open(&station, "/v1/fixtures/nest%202/traffic", "").await;
    tell(&station, 0, "a");
    tell(&station, 1, "b");
    tell(&station, 0, "c");
    assert_eq!(text(&one.line().await), ("nest-1".to_owned(), "a".to_owned()));
    assert_eq!(text(&one.line().await), ("nest-1".to_owned(), "c".to_owned()));
    assert_eq!(text(&two.line().await), ("nest 2".to_owned(), "b".to_owned()));
    station.end().await;
    assert_eq!((one.rest().await, two.rest().await), (String::new(), String::new()));
}

#[tokio::test]
async fn who_accepts_event_streams_gets_one() {
    let station = Station::new();
    let accept = "accept: text/event-stream\r\n";
    let (mut reader, head) = Reader::open(&station, "/v1/fixtures/nest-1/traffic", accept).await;
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    tell(&station, 0, "a");
    let line = reader.line().await;
    assert_eq!(text(line.strip_prefix("data: ").unwrap()).1, "a");
    station.end().await;
}

#[tokio::test]
async fn an_unknown_fixture_is_told_with_the_names_that_there_are() {
    let station = Station::new();
    let problem = station.get("/v1/fixtures/nest-3/traffic").await.problem(404, "not-found");
    assert_eq!(problem["hint"], "the fixtures are nest 2, nest-1");
    assert_eq!(station.request("POST", "/v1/fixtures/nest-1/traffic", "").await.status, 405);
    station.end().await;
}

#[tokio::test]
async fn there_is_room_for_so_many_readers_and_one_that_leaves_makes_room() {
    let station = Station::with(Limits { listeners: 1, ..Limits::default() }, Access::default());
    let target = "/v1/fixtures/nest-1/traffic";
    let (reader, _) = Reader::open(&station, target, "").await;
    station.get("/v1/fixtures/nest%202/traffic").await.problem(503, "unavailable");
    // Nothing is said on the line that would show that the reader has gone.
    drop(reader);
    let client = Client::new(&station.path);
    let room = async { while client.lines(target).await.is_err() {} };
    tokio::time::timeout(PATIENCE, room).await.expect("the reader's place is free again");
    station.end().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_gets_a_gap_and_delays_nobody() {
    let station = Station::new();
    let client = Client::new(&station.path);
    let mut slow = client.lines("/v1/fixtures/nest-1/traffic").await.unwrap();
    let long = "x".repeat(8 << 10);
    // Far more than sockets and tap hold; telling waits for nobody.
    let told = 2_000;
    for _ in 0..told {
        tell(&station, 0, &long);
        tokio::task::yield_now().await;
    }
    tell(&station, 0, "end");
    let (mut read, mut missed) = (0, 0);
    loop {
        let line = tokio::time::timeout(PATIENCE, slow.next()).await.unwrap().unwrap();
        let traffic: Traffic = serde_json::from_slice(&line).unwrap();
        match traffic.sighting.seen {
            Seen::Gap { missed: count } => missed += count,
            Seen::Line { text, .. } if text == "end" => break,
            _ => read += 1,
        }
    }
    assert!(missed > 0, "all of it was kept");
    assert_eq!(read + missed, told);
    station.end().await;
}

#[tokio::test]
async fn a_quiet_line_is_no_reason_to_hang_up() {
    let short = Duration::from_millis(20);
    let limits = Limits { head: short, request: 2 * short, idle: short, ..Limits::default() };
    let station = Station::with(limits, Access::default());
    let mut lines = Client::new(&station.path).lines("/v1/fixtures/nest-1/traffic").await.unwrap();
    assert!(tokio::time::timeout(5 * short, lines.next()).await.is_err());
    tell(&station, 0, "late");
    assert_eq!(text(std::str::from_utf8(&lines.next().await.unwrap()).unwrap()).1, "late");
    station.end().await;
    assert_eq!(lines.next().await.unwrap_err().exit_status(), crate::error::ExitStatus::Unreachable);
}

//! Server-sent events.

use super::*;

/// A reader of an event stream.
struct Reader {
    socket: UnixStream,
    text: String,
}

impl Reader {
    async fn open(station: &Station, target: &str, headers: &str) -> Self {
        let mut socket = station.connect().await;
        let request =
            format!("GET {target} HTTP/1.0\r\nhost: x\r\naccept: text/event-stream\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        Self { socket, text: String::new() }
    }

    /// Reads on until `wanted` has come.
    async fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            let mut bytes = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.socket.read(&mut bytes)).await.unwrap().unwrap();
            assert!(read > 0, "ended without {wanted:?}: {}", self.text);
            self.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }

    async fn rest(mut self) -> String {
        let ended = tokio::time::timeout(PATIENCE, self.socket.read_to_string(&mut self.text)).await;
        ended.expect("the stream ends").unwrap();
        self.text
    }

    fn ids(text: &str) -> Vec<u64> {
        text.lines().filter_map(|it| it.strip_prefix("id: ")).map(|it| it.parse().unwrap()).collect()
    }
}

fn resumed() -> (Option<&'static str>, What) {
    (None, What::Station(StationEvent::LineResumed))
}

#[tokio::test]
async fn a_stream_begins_where_asked_follows_the_journal_and_ends_with_the_daemon() {
    let mut station = Station::new();
    station.journal(vec![resumed(), resumed(), (Some("SN-1"), admitted(None))]);
    let mut reader = Reader::open(&station, "/v1/events?after=1", "").await;
    reader.until("id: 3").await;
    assert!(reader.text.contains("content-type: text/event-stream"));
    station.journal_quietly(vec![resumed()]);
    station.journal(vec![resumed()]);
    reader.until("id: 5").await;
    station.end().await;
    let text = reader.rest().await;
    assert_eq!(Reader::ids(&text), [2, 3, 4, 5]);
    let data: Vec<Value> = text
        .lines()
        .filter_map(|it| it.strip_prefix("data: "))
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!((&data[1]["seq"], &data[1]["serial"]), (&3.into(), &"SN-1".into()));
    assert_eq!((&data[1]["event"], data.len()), (&"admitted".into(), 4));
}

#[tokio::test]
async fn a_stream_is_taken_up_after_the_last_id_that_was_seen() {
    let mut station = Station::new();
    station.journal((0..350).map(|_| resumed()).collect());
    // The query is still the first request's: the id goes before it.
    let mut reader = Reader::open(&station, "/v1/events?after=2", "Last-Event-ID: 120\r\n").await;
    reader.until("id: 350").await;
    assert_eq!(Reader::ids(&reader.text), (121..=350).collect::<Vec<_>>());
    let bad = station.request("GET", "/v1/events", "accept: text/event-stream\r\nlast-event-id: x\r\n");
    bad.await.problem(400, "bad-request");
    station.end().await;
}

#[tokio::test]
async fn a_stream_with_a_limit_ends_after_so_many() {
    let mut station = Station::new();
    station.journal((0..5).map(|_| resumed()).collect());
    let reader = Reader::open(&station, "/v1/events?limit=3", "").await;
    assert_eq!(Reader::ids(&reader.rest().await), [1, 2, 3]);
    station.end().await;
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive_with_comments_beyond_every_deadline() {
    let short = Duration::from_millis(20);
    let limits = Limits {
        head: short,
        request: Duration::from_millis(40),
        idle: short,
        keep_alive: Duration::from_millis(15),
        ..Limits::default()
    };
    let station = Station::with(limits, Access::default());
    let mut reader = Reader::open(&station, "/v1/events", "").await;
    let comments = |text: &str| text.matches(":\n\n").count();
    while comments(&reader.text) < 6 {
        let seen = reader.text.len();
        while reader.text.len() == seen {
            let mut bytes = [0; 64];
            let read = reader.socket.read(&mut bytes).await.unwrap();
            assert!(read > 0, "ended: {}", reader.text);
            reader.text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }
    station.end().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_dropped_and_its_place_is_free_again() {
    let limits = Limits { streams: 1, stall: Duration::from_millis(50), ..Limits::default() };
    let mut station = Station::with(limits, Access::default());
    station.journal((0..5_000).map(|_| resumed()).collect());
    let slow = Reader::open(&station, "/v1/events", "").await;
    slow.socket.readable().await.unwrap();
    let accept = "accept: text/event-stream\r\n";
    let refused = station.request("GET", "/v1/events?limit=1", accept).await;
    refused.problem(503, "unavailable");
    let place_is_free =
        async { while station.request("GET", "/v1/events?limit=1", accept).await.status == 503 {} };
    tokio::time::timeout(PATIENCE, place_is_free).await.expect("the slow reader is dropped");
    assert_eq!(station.get("/v1/events?limit=1").await.status, 200);
    let seen = Reader::ids(&slow.rest().await);
    assert!(seen.len() < 5_000, "it was cut off");
    // It goes on where it was: nothing is missing, so that there is no gap to be told.
    let last = seen.last().copied().unwrap_or(0);
    let mut again =
        Reader::open(&station, "/v1/events?limit=1000", &format!("Last-Event-ID: {last}\r\n")).await;
    let next = last + 1;
    again.until(&format!("id: {next}\n")).await;
    assert_eq!(Reader::ids(&again.text)[0], next);
    station.end().await;
}

#[tokio::test]
async fn a_stream_ends_when_the_station_is_gone() {
    let mut station = Station::new();
    station.journal(vec![resumed()]);
    let mut reader = Reader::open(&station, "/v1/events", "").await;
    reader.until("id: 1").await;
    let (other, _) = watch::channel(0);
    drop(std::mem::replace(&mut station.durable, other));
    assert_eq!(Reader::ids(&reader.rest().await), [1]);
    station.end().await;
}

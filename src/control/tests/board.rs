//! The board's port: anybody's browser may be made to speak to it.

use super::*;
use crate::control::tally::Folder;
use crate::device::event::Waited;
use crate::shift::Calendar;
use crate::shift::Shift;

impl Station {
    /// What the board's port answers to exactly these bytes.
    async fn board_raw(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut socket = TcpStream::connect(self.board_at).await.unwrap();
        // The server may have heard enough before it has taken all.
        let _ = socket.write_all(request.as_ref()).await;
        read_all(&mut socket).await
    }

    async fn board(&self, verb: &str, target: &str, headers: &str) -> Answer {
        let host = self.board_at;
        self.board_raw(format!(
            "{verb} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n"
        ))
        .await
    }
}

#[tokio::test]
async fn the_metrics_are_at_both_doors_in_the_format_that_is_asked_for() {
    let station = Station::new();
    let text = "text/plain; version=0.0.4; charset=utf-8";
    for answer in [station.get("/metrics").await, station.board("GET", "/metrics", "").await] {
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(text)));
        assert!(answer.body.contains("\n# TYPE linemint_devices gauge\n"), "{}", answer.body);
    }
    let accept = "accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3\r\n";
    for answer in
        [station.request("GET", "/metrics", accept).await, station.board("GET", "/metrics", accept).await]
    {
        assert_eq!(
            answer.header("content-type"),
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        );
        assert!(answer.body.ends_with("# EOF\n"));
    }
    station.end().await;
}

#[tokio::test]
async fn the_port_shows_the_station_and_neither_single_devices_nor_the_journal() {
    let mut station = Station::new();
    station.admit(&["SN-1".to_owned()], None);
    assert_eq!(station.board("GET", "/v1/status", "").await.json()["state"], "starting");
    assert_eq!(station.board("HEAD", "/v1/status", "").await.status, 200);
    for target in [
        "/v1/devices",
        "/v1/devices/SN-1",
        "/v1/events",
        "/v1/journal/backup",
        "/v1/drain",
        "/nothing",
        "/../metrics",
    ] {
        station.board("GET", target, "").await.problem(404, "not-found");
    }
    station.end().await;
}

#[tokio::test]
async fn nothing_is_changed_through_the_port_whatever_it_is_called() {
    let mut station = Station::new();
    for target in ["/", "/metrics", "/v1/status", "/v1/drain", "/v1/resume", "/v1/devices/SN-1/scrap"] {
        for verb in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            station.board(verb, target, "content-length: 0\r\n").await.problem(405, "wrong-verb");
        }
    }
    assert!(station.commands.as_mut().unwrap().try_recv().is_err(), "no command has come");
    station.end().await;
}

#[tokio::test]
async fn a_page_from_elsewhere_gets_nothing_by_name_or_by_script() {
    let station = Station::new();
    let asked = |host: &'static str| {
        station.board_raw(format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
    };
    asked("evil.example").await.problem(421, "misdirected");
    asked("127.0.0.1.evil.example:8478").await.problem(421, "misdirected");
    assert_eq!(asked("L3-S07.example:8478").await.status, 200);
    assert_eq!(asked("localhost").await.status, 200);
    station.board_raw("GET /metrics HTTP/1.0\r\n\r\n").await.problem(400, "bad-request");
    station.board("GET", "/metrics", "origin: http://evil.example\r\n").await.problem(403, "foreign-page");
    station.board("GET", "/metrics", "origin: null\r\n").await.problem(403, "foreign-page");
    let answer = station.board("GET", "/v1/status", "").await;
    assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let refused = station.board("GET", "/nothing", "").await;
    assert!(refused.header("content-security-policy").is_some(), "{refused:?}");
    station.end().await;
}

#[tokio::test]
async fn what_is_no_http_costs_its_own_connection_only() {
    let limits = Limits { head: Duration::from_millis(50), connections: 8, ..Limits::default() };
    let station = Station::with(limits, Access::default());
    let all_bytes: Vec<u8> = (0..=255).cycle().take(50_000).collect();
    let garbage: [(&[u8], u16, &str); 5] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad-request"),
        (b"GET\r\n\r\n", 400, "bad-request"),
        (b"GET /metrics HTTP/1.1\r\nhost", 408, "too-slow"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad-request"),
        (&all_bytes, 400, "bad-request"),
    ];
    for (bytes, status, kind) in garbage {
        let answer = station.board_raw(bytes).await;
        // TCP may reset a connection of which bytes come after its end.
        if answer.status != 0 || bytes.len() < 1000 {
            answer.problem(status, kind);
        }
    }
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(station.board_at).await.unwrap());
    }
    // The local API has places of its own.
    assert_eq!(station.get("/v1/status").await.status, 200);
    let answer = tokio::time::timeout(PATIENCE, station.board("GET", "/metrics", "")).await.unwrap();
    assert_eq!(answer.status, 200, "the silent ones are dropped");
    let huge = station.board("GET", "/metrics", "content-length: 1000000000\r\n").await;
    huge.problem(413, "too-large");
    station.end().await;
}

/// Somebody who watches the board.
struct Watcher {
    socket: TcpStream,
    text: String,
}

impl Watcher {
    async fn open(station: &Station) -> Self {
        let mut socket = TcpStream::connect(station.board_at).await.unwrap();
        let request = format!(
            "GET /board/parts HTTP/1.0\r\nhost: {}\r\naccept: text/event-stream\r\n\r\n",
            station.board_at
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        Self { socket, text: String::new() }
    }

    /// What is answered first.
    async fn head(&mut self) -> String {
        let mut bytes = [0; 64];
        let read = self.socket.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    /// Reads on until `wanted` has come since the last time.
    async fn until(&mut self, wanted: &str) -> String {
        while !self.text.contains(wanted) {
            let mut bytes = [0; 8192];
            let read = tokio::time::timeout(PATIENCE, self.socket.read(&mut bytes)).await.unwrap().unwrap();
            assert!(read > 0, "ended without {wanted:?}: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        std::mem::take(&mut self.text)
    }
}

fn tally_of(events: Vec<Event>) -> Arc<Tally> {
    let now = Timestamp::from_second(1_790_000_000).unwrap();
    let calendar = Calendar {
        shifts: vec![Shift::whole_day()],
        timezone: jiff::tz::TimeZone::UTC,
        days_off: Default::default(),
    };
    let mut folder = Folder::new(calendar, 0, 0, now);
    for (seq, event) in (1..).zip(events) {
        let serial = Some(SerialNumber::parse("SN-1").unwrap());
        folder.fold(&Record { seq, at: now, serial, what: What::Device(event) });
    }
    Arc::new(folder.tally().clone())
}

#[tokio::test]
async fn the_page_comes_whole_with_its_style_and_script_under_a_strict_policy() {
    let station = Station::new();
    for (target, kind, wanted) in [
        ("/", "text/html; charset=utf-8", "<!DOCTYPE html>"),
        ("/board.css", "text/css; charset=utf-8", ".word"),
        ("/board.js", "text/javascript; charset=utf-8", "EventSource"),
    ] {
        let answer = station.board("GET", target, "").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
        assert!(answer.body.contains(wanted));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("content-security-policy").unwrap().contains("script-src 'self'"));
        station.get(target).await.problem(404, "not-found");
    }
    station.end().await;
}

#[tokio::test]
async fn a_watcher_gets_everything_then_what_changes_and_a_beat() {
    let station = Station::new();
    let mut watcher = Watcher::open(&station).await;
    let first = watcher.until("\"name\":\"recent\"").await;
    for part in ["head", "nests", "numbers", "cloud"] {
        assert!(first.contains(&format!("\"name\":\"{part}\"")), "{part}: {first}");
    }
    assert!(first.contains("\"what\":\"beat\"") && first.contains("text/event-stream"));
    station.tally.send_replace(tally_of(vec![admitted_at(1, Some("A"), None)]));
    let changed = watcher.until("WAIT").await;
    assert!(!changed.contains("\"name\":\"cloud\""), "what has not changed is not sent: {changed}");
    let passed = Event::Passed {
        presentation: nest_event(1),
        directory: None,
        label: false,
        waited: Waited::default(),
    };
    station.tally.send_replace(tally_of(vec![admitted_at(1, Some("A"), None), passed]));
    watcher.until("PASS").await;
    watcher.until("\"what\":\"beat\"").await;
    station.end().await;
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, watcher.socket.read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_screen_too_many_is_told_so_and_takes_no_place_from_programs_at_the_socket() {
    let limits = Limits { streams: 1, ..Limits::default() };
    let mut station = Station::with(limits, Access::default());
    station.journal(vec![(None, What::Station(StationEvent::LineResumed))]);
    let mut watcher = Watcher::open(&station).await;
    watcher.until("beat").await;
    station.board("GET", "/board/parts", "").await.problem(503, "unavailable");
    let accept = "accept: text/event-stream\r\n";
    assert_eq!(station.request("GET", "/v1/events?limit=1", accept).await.status, 200);
    drop(watcher);
    let place_is_free = async {
        loop {
            if Watcher::open(&station).await.head().await.contains(" 200 ") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, place_is_free).await.expect("the place is free again");
    station.end().await;
}

#[tokio::test]
async fn a_screen_that_never_reads_loses_its_place_though_nothing_stalls() {
    let limits = Limits { streams: 1, follow: Duration::from_secs(1), ..Limits::default() };
    let station = Station::with(limits, Access::default());
    let mut silent = Watcher::open(&station).await;
    silent.socket.readable().await.unwrap();
    let place_is_free = async { while Watcher::open(&station).await.head().await.contains(" 503 ") {} };
    tokio::time::timeout(PATIENCE, place_is_free).await.expect("the place is free again");
    // One that does read is told to ask again at once.
    let told = silent.until("retry: 500\n").await;
    assert!(told.contains(" 200 "), "{told}");
    station.end().await;
}

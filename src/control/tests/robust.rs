//! What clients get wrong, by mistake or on purpose.

use super::*;

#[tokio::test]
async fn paths_that_are_none_are_not_found() {
    let station = Station::new();
    for target in [
        "/",
        "/v1",
        "/v1/",
        "/v2/status",
        "/v1/status/",
        "//v1/status",
        "/v1//status",
        "/v1/../v1/status",
        "/v1/./status",
        "/v1/%73tatus",
        "/v1/devices/",
        "/v1/devices/A/",
        "/v1/devices/A/renew",
        "/v1/STATUS",
        "/metrics/",
        "/board",
    ] {
        station.get(target).await.problem(404, "not-found");
    }
    station.request("OPTIONS", "*", "").await.problem(404, "not-found");
    station.end().await;
}

#[tokio::test]
async fn a_wrong_verb_is_told_which_are_right() {
    let station = Station::new();
    for (target, allowed) in
        [("/v1/status", "GET,HEAD"), ("/v1/devices/A", "GET,HEAD"), ("/v1/events", "GET,HEAD")]
    {
        for verb in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = station.request(verb, target, "").await;
            answer.problem(405, "wrong-verb");
            assert_eq!(answer.header("allow"), Some(allowed), "{verb} {target}");
        }
    }
    for target in ["/v1/drain", "/v1/resume"] {
        let answer = station.get(target).await;
        answer.problem(405, "wrong-verb");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    station.end().await;
}

#[tokio::test]
async fn bad_parameters_are_told_in_a_sentence() {
    let station = Station::new();
    for (target, word) in [
        ("/v1/devices?limit=-1", "limit"),
        ("/v1/devices?limit=0", "limit"),
        ("/v1/devices?limit=1001", "limit"),
        ("/v1/devices?limit=1e3", "limit"),
        ("/v1/devices?limit=99999999999999999999999", "limit"),
        ("/v1/devices?limit=1&limit=2", "limit"),
        ("/v1/devices?state=PASSED", "state"),
        ("/v1/devices?state=%FF", "state"),
        ("/v1/devices?state=passed%00", "state"),
        ("/v1/devices?after=%FF", "after"),
        ("/v1/devices?after=a%20b", "after"),
        ("/v1/devices?shift=early", "shift"),
        ("/v1/devices?color=red", "color"),
        ("/v1/events?after=-1", "after"),
        ("/v1/events?after=18446744073709551616", "after"),
        ("/v1/events?after=x", "after"),
        ("/v1/events?limit=0", "limit"),
        ("/v1/events?since=1", "since"),
        ("/v1/devices/%FF", "UTF-8"),
        ("/v1/devices/a%20b", "serial number"),
        ("/v1/devices/%00", "serial number"),
        ("/v1/devices/%C3%A4", "serial number"),
    ] {
        let answer = station.get(target).await;
        let problem = answer.problem(400, "bad-request");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{target}: {problem}");
        assert!(answer.body.len() < 512, "{}", answer.body);
    }
    let long = format!("/v1/devices/{}", "A".repeat(129));
    station.get(&long).await.problem(400, "bad-request");
    let long = format!("/v1/devices?state={}", "%F0%9F%92%A9".repeat(600));
    assert!(station.get(&long).await.problem(400, "bad-request")["detail"].as_str().unwrap().len() < 512);
    station.end().await;
}

#[tokio::test]
async fn an_unknown_serial_is_not_found_whatever_it_looks_like() {
    let mut station = Station::new();
    station.admit(&["SN-1".to_owned()], None);
    for serial in ["SN-2", "sn-1", "SN-", "SN-1%2F", "%2e%2e%2fstatus", "%252e", "*", "%E2%80%8B1"] {
        let answer = station.get(&format!("/v1/devices/{serial}")).await;
        assert!([400, 404].contains(&answer.status), "{serial}: {answer:?}");
        answer.problem(answer.status, if answer.status == 404 { "not-found" } else { "bad-request" });
    }
    station.end().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused_in_a_sentence_and_the_next_is_served() {
    let station = Station::new();
    let all_bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let garbage: [&[u8]; 8] = [
        b"\r\n\r\n\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /v1/drain HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        &all_bytes,
    ];
    for bytes in garbage {
        let mut socket = station.connect().await;
        let _ = socket.write_all(bytes).await;
        let _ = socket.shutdown().await;
        let answer = read_all(&mut socket).await;
        answer.problem(400, "bad-request");
        assert_eq!(station.get("/v1/status").await.status, 200);
    }
    station.end().await;
}

#[tokio::test]
async fn the_boards_refusals_of_what_is_no_request_bear_its_headers() {
    let limits = Limits { head: Duration::from_millis(50), ..Limits::default() };
    let station = Station::with(limits, Access::default());
    let huge = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    for (bytes, status, kind) in [
        ("no http\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nhost: loc", 408, "too-slow"),
        (huge.as_str(), 431, "too-large"),
    ] {
        let mut socket = TcpStream::connect(station.board_at).await.unwrap();
        socket.write_all(bytes.as_bytes()).await.unwrap();
        let answer = read_all(&mut socket).await;
        answer.problem(status, kind);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{answer:?}");
    }
    station.end().await;
}

#[tokio::test]
async fn what_comes_after_an_answer_and_is_no_request_is_refused_behind_it() {
    let station = Station::new();
    let mut socket = station.connect().await;
    socket.write_all(b"GET /v1/devices/none HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    socket.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 404");
    socket.write_all(b"rubbish\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await.unwrap();
    let rest = String::from_utf8(rest).unwrap();
    let last = &rest[rest.find("HTTP/1.1 400").expect("it is told")..];
    Answer::parse(last.as_bytes()).problem(400, "bad-request");
    station.end().await;
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let station = Station::new();
    let huge = format!("GET /v1/status HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    station.raw(huge).await.problem(431, "too-large");
    let many: String = (0..200).map(|it| format!("x{it}: y\r\n")).collect();
    station.request("GET", "/v1/status", &many).await.problem(431, "too-large");
    let long = format!("GET /v1/{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(100_000));
    let answer = station.raw(long).await;
    assert!([414, 431].contains(&answer.status), "{answer:?}");
    answer.problem(answer.status, "too-large");
    station.end().await;
}

#[tokio::test]
async fn half_a_request_costs_its_own_connection_only() {
    let limits = Limits { head: Duration::from_millis(50), ..Limits::default() };
    let station = Station::with(limits, Access::default());
    let mut half = station.connect().await;
    half.write_all(b"GET /v1/status HTTP/1.1\r\nhost").await.unwrap();
    assert_eq!(station.get("/v1/status").await.status, 200);
    read_all(&mut half).await.problem(408, "too-slow");
    let mut cut = station.connect().await;
    cut.write_all(b"GET /v1/status HTTP/1.1\r\nhost").await.unwrap();
    cut.shutdown().await.unwrap();
    read_all(&mut cut).await.problem(400, "bad-request");
    // Who has said nothing is told nothing: it may be about to.
    let mut silent = station.connect().await;
    assert_eq!(read_all(&mut silent).await.status, 0);
    let mut gone = station.connect().await;
    gone.write_all(b"GET /v1/sta").await.unwrap();
    drop(gone);
    assert_eq!(station.get("/v1/status").await.status, 200);
    station.end().await;
}

#[tokio::test]
async fn who_was_let_in_before_the_end_is_heard_after_it() {
    let limits = Limits { first: PATIENCE, ..Limits::default() };
    let station = Station::with(limits, Access::default());
    let mut early = station.connect().await;
    // Let in one behind the other: when this one is answered, the one before it is in.
    assert_eq!(station.get("/v1/status").await.status, 200);
    station.ending.cancel();
    while tokio::net::UnixStream::connect(&station.path).await.is_ok() {
        tokio::task::yield_now().await;
    }
    early.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // Closed behind the answer.
    assert_eq!(read_all(&mut early).await.status, 200);
    station.end().await;
}

#[tokio::test]
async fn a_gigabyte_is_refused_before_it_comes() {
    let station = Station::new();
    for target in ["/v1/drain", "/v1/status", "/nowhere"] {
        station.request("POST", target, "content-length: 1000000000\r\n").await.problem(413, "too-large");
    }
    let body = "x".repeat(65_537);
    station
        .request("POST", "/v1/drain", &format!("content-length: 65537\r\n\r\n{body}"))
        .await
        .problem(413, "too-large");
    let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
    let chunks = format!("transfer-encoding: chunked\r\n\r\n{}", chunk.repeat(20));
    station.request("POST", "/v1/drain", &chunks).await.problem(413, "too-large");
    assert_eq!(station.get("/v1/status").await.status, 200);
    station.end().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = Limits { request: Duration::from_millis(200), ..Limits::default() };
    let station = Station::with(limits, Access::default());
    station.request("POST", "/v1/drain", "content-length: 5\r\n\r\nab").await.problem(408, "too-slow");
    let cut = station.request("POST", "/v1/drain", "transfer-encoding: chunked\r\n\r\nzz\r\n").await;
    cut.problem(400, "bad-request");
    station.end().await;
}

#[tokio::test]
async fn a_station_that_does_not_answer_a_command_is_not_waited_for_without_end() {
    // Long enough for the answer to leave in time on a machine that is busy.
    let limits = Limits { request: Duration::from_millis(1500), ..Limits::default() };
    let station = Station::with(limits, Access::default());
    station.request("POST", "/v1/drain", "").await.problem(503, "unavailable");
    station.end().await;
}

#[tokio::test]
async fn two_hundred_idle_connections_do_not_keep_a_request_out() {
    let limits = Limits { head: Duration::from_millis(30), ..Limits::default() };
    let station = Station::with(limits, Access::default());
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(station.connect().await);
    }
    let answer = tokio::time::timeout(PATIENCE, station.get("/v1/status")).await.unwrap();
    assert_eq!(answer.status, 200);
    drop(idle);
    station.end().await;
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other_until_it_is_idle_for_too_long() {
    let limits = Limits { idle: Duration::from_millis(50), ..Limits::default() };
    let station = Station::with(limits, Access::default());
    let mut socket = station.connect().await;
    let request = "GET /v1/devices/none HTTP/1.1\r\nhost: x\r\n\r\n";
    socket.write_all(request.repeat(3).as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await;
    ended.expect("the idle connection is closed").unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap().matches("HTTP/1.1 404").count(), 3);
    station.end().await;
}

#[tokio::test]
async fn the_end_waits_for_a_request_under_way_and_for_nothing_else() {
    let mut station = Station::new();
    let mut commands = station.commands.take().unwrap();
    let _idle = station.connect().await;
    let mut socket = station.connect().await;
    socket.write_all(b"POST /v1/drain HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let command = commands.recv().await.unwrap();
    station.ending.cancel();
    let Command::Station { reply, .. } = command else { panic!("{command:?}") };
    reply.send(Ok(())).unwrap();
    assert_eq!(read_all(&mut socket).await.status, 200);
    assert!(UnixStream::connect(&station.path).await.is_err());
    station.end().await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let limits = Limits { shutdown: Duration::from_millis(50), ..Limits::default() };
    let mut station = Station::with(limits, Access::default());
    let mut commands = station.commands.take().unwrap();
    let mut socket = station.connect().await;
    socket.write_all(b"POST /v1/drain HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let _never_answered = commands.recv().await.unwrap();
    station.end().await;
    assert_eq!(read_all(&mut socket).await.status, 0);
}

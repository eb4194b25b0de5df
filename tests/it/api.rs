//! Clients of the local API that behave badly do not disturb the line.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::harness::World;

#[test]
fn garbage_silence_and_a_gigabyte_do_not_disturb_the_line() {
    let (mut world, mut fixture) = World::running("");
    let socket = world.path("api.sock");
    let mut silent: Vec<UnixStream> = (0..16).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        // Half of them have begun to say something.
        if number % 2 == 0 {
            stream.write_all(b"GET /v1/sta").unwrap();
        }
    }
    let flood = std::thread::spawn({
        let socket = socket.clone();
        move || gigabyte(&socket)
    });
    let garbage = std::thread::spawn(move || {
        for seed in 0..50 {
            let mut stream = UnixStream::connect(&socket).unwrap();
            let mut random = fastrand::Rng::with_seed(seed);
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(2000).collect();
            // It may have hung up by now, which is its right.
            let _ = stream.write_all(&bytes);
        }
    });
    let serials: Vec<String> = (1..=20).map(|it| format!("SN{it:010}")).collect();
    for (id, serial) in (1..).zip(&serials) {
        fixture.provision(id, serial);
    }
    garbage.join().unwrap();
    let sent = flood.join().unwrap();
    assert!(sent < 1 << 30, "the station has taken all {sent} bytes of it");
    world.assert_audit(&serials);
    world.becomes("/v1/status", "/counts/passed", &json!(20));
    assert!(!world.station().ends_within(std::time::Duration::ZERO));
}

/// Sends a gigabyte as a body, as far as it is taken; how many bytes that was.
fn gigabyte(socket: &std::path::Path) -> usize {
    let mut stream = UnixStream::connect(socket).unwrap();
    let head = "POST /v1/drain HTTP/1.1\r\nhost: x\r\ncontent-length: 1073741824\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = vec![b' '; 1 << 20];
    let mut sent = 0;
    while sent < 1 << 30 {
        match stream.write(&chunk) {
            Ok(len) => sent += len,
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

#[test]
fn an_unknown_path_and_a_device_that_is_not_there_are_problem_documents() {
    let (world, _fixture) = World::running("");
    for path in ["/v1/nothing", "/v1/devices/NOBODY000001"] {
        let mut stream = UnixStream::connect(world.path("api.sock")).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 404"), "{head}");
        assert!(head.to_lowercase().contains("content-type: application/problem+json"), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], 404);
    }
}

/// The nice value of each thread of a process, by name: the 19th field of its `stat`, as proc(5) counts.
fn niceness(pid: u32) -> Vec<(String, i32)> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |dir: std::path::PathBuf| {
        // One that has ended meanwhile says nothing.
        let name = std::fs::read_to_string(dir.join("comm")).ok()?;
        let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
        let nice = stat.rsplit(')').next()?.split_whitespace().nth(16)?.parse().ok()?;
        Some((name.trim().to_owned(), nice))
    };
    threads.filter_map(|it| of(it.ok()?.path())).collect()
}

#[test]
fn the_threads_of_the_line_go_before_the_apis() {
    let (mut world, _fixture) = World::running("");
    let own = niceness(std::process::id()).into_iter().map(|it| it.1).min().unwrap();
    let threads = niceness(world.station().pid());
    let of = |name: &str| threads.iter().find(|it| it.0 == name).map(|it| it.1);
    assert_eq!((of("api"), of("journal")), (Some((own + 5).min(19)), Some(own)), "{threads:?}");
}

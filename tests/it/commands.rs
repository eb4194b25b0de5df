//! Commands that a person types, against a daemon that runs.

use serde_json::{Value, json};

use crate::harness::{Process, World, linemint};

#[test]
fn drain_refuses_new_units_and_resume_takes_them_again() {
    let (world, mut fixture) = World::running("");
    let socket = world.path("api.sock");
    let tell = |verb: &str| {
        Process::run(linemint(&[verb, "--reason", "the shift is over", "--socket"]).arg(&socket))
    };
    let (status, _, log) = tell("drain");
    assert_eq!(status, 0, "{log}");
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": "SN0000000001" }));
    fixture.expect(&json!({ "type": "nak", "id": 1, "code": "draining" }));
    let (status, _, log) = tell("resume");
    assert_eq!(status, 0, "{log}");
    // Both are records, on disk before the command had ended.
    let events = world.get("/v1/events?limit=1000").unwrap();
    let told =
        |word: &str| events["events"].as_array().unwrap().iter().find(|it| it["event"] == word).cloned();
    for word in ["drained", "resumed"] {
        let by = told(word).unwrap()["by"].clone();
        assert_eq!(by["reason"], "the shift is over");
        assert_eq!(by["uid"], rustix::process::geteuid().as_raw());
        assert!(by["name"].as_str().is_some_and(|it| !it.is_empty()), "{by}");
    }
    fixture.provision(1, "SN0000000001");
}

#[test]
fn the_log_level_is_a_record_and_takes_effect() {
    let (mut world, _fixture) = World::running("");
    let put = |level: &str| {
        let body = json!({ "level": level, "reason": "a fixture is odd" }).to_string();
        let head = format!(
            "PUT /v1/log-level HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut socket = std::os::unix::net::UnixStream::connect(world.path("api.sock")).unwrap();
        std::io::Write::write_all(&mut socket, (head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut socket, &mut answer).unwrap();
        answer
    };
    assert!(put("loud").starts_with("HTTP/1.1 400 "));
    let answer = put("debug");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let events = world.get("/v1/events?limit=1000").unwrap();
    let levels: Vec<_> =
        events["events"].as_array().unwrap().iter().filter(|it| it["event"] == "log-level").collect();
    assert_eq!(levels.len(), 1, "what was refused is no record: {levels:?}");
    assert_eq!(
        (&levels[0]["level"], &levels[0]["by"]["reason"]),
        (&json!("debug"), &json!("a fixture is odd"))
    );
    world.station().stderr.wait_for("told through the API");
}

#[test]
fn a_device_that_is_not_there_is_a_bad_answer() {
    let (world, _fixture) = World::running("");
    let (status, out, log) = world.command(&["device", "show", "NOBODY000001"]);
    assert_eq!((status, out.as_str()), (1, ""), "{log}");
    assert!(log.contains("NOBODY000001"), "{log}");
}

#[test]
fn without_a_daemon_the_commands_end_with_3() {
    let world = World::new("");
    for args in [&["status"][..], &["device", "list"], &["drain"], &["resume"]] {
        let (status, out, log) = world.command(args);
        assert_eq!((status, out.as_str()), (3, ""), "{args:?}: {log}");
        assert!(log.contains("api.sock"), "{log}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for args in [&["nonsense"][..], &["rehearse", "--devices", "0"], &["device", "show", "a b"], &[]] {
        let (status, out, log) = Process::run(&mut linemint(args));
        assert_eq!((status, out.as_str()), (2, ""), "{args:?}: {log}");
    }
    let (status, out, _) = Process::run(&mut linemint(&["--version"]));
    assert_eq!(status, 0);
    assert!(out.starts_with("linemint "), "{out}");
}

#[test]
fn ca_init_never_overwrites_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["ca", "init", "--dir", dir.path().to_str().unwrap(), "--common-name", "Line 3"];
    assert_eq!(Process::run(&mut linemint(&args)).0, 0);
    let key = std::fs::read(dir.path().join("ca.key")).unwrap();
    let (status, out, log) = Process::run(&mut linemint(&args));
    assert_ne!(status, 0);
    assert!(!out.contains("PRIVATE KEY") && !log.contains("PRIVATE KEY"));
    assert_eq!(std::fs::read(dir.path().join("ca.key")).unwrap(), key);
}

#[test]
fn the_iam_policy_is_one_json_document() {
    let world = World::new("");
    let (status, out, log) = world.command(&["check-config", "--iam"]);
    assert_eq!(status, 0, "{log}");
    let policy: Value = serde_json::from_str(&out).unwrap();
    let text = policy.to_string();
    for action in ["iot:CreateThing", "iot:AttachPolicy", "iot:RegisterCertificateWithoutCA"] {
        assert!(text.contains(action), "{action} is missing in {text}");
    }
    assert!(!text.contains("iot:*") && !text.contains("\"*:*\""), "{text}");
}

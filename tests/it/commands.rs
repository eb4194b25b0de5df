//! Commands that a person types, against a daemon that runs.

use serde_json::{Value, json};

use crate::harness::{Process, World, linemint};

#[test]
fn drain_refuses_new_units_and_resume_takes_them_again() {
    let (world, mut fixture) = World::running("");
    let socket = world.path("api.sock");
    let tell = |verb: &str| Process::run(linemint(&[verb, "--socket"]).arg(&socket));
    let (status, _, log) = tell("drain");
    assert_eq!(status, 0, "{log}");
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": "SN0000000001" }));
    fixture.expect(&json!({ "type": "nak", "id": 1, "code": "draining" }));
    let (status, _, log) = tell("resume");
    assert_eq!(status, 0, "{log}");
    fixture.provision(1, "SN0000000001");
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

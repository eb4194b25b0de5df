//! How a station starts, refuses to start, and ends.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Process, World, linemint, put};

#[test]
fn a_second_instance_ends_with_75_and_names_the_holder() {
    let (mut world, mut fixture) = World::running("");
    let (status, _, log) = world.command(&["run"]);
    assert_eq!(status, 75, "{log}");
    let holder = world.station().pid();
    assert!(log.contains(&format!("process {holder}")), "{log} does not name {holder}");
    // The first one has not noticed.
    fixture.provision(1, "SN0000000001");
}

#[test]
fn a_ca_key_of_another_ca_is_refused_with_78() {
    let world = World::new("");
    let other = world.path("other");
    assert_eq!(Process::run(&mut linemint(&["ca", "init", "--dir", other.to_str().unwrap()])).0, 0);
    std::fs::copy(other.join("ca.key"), world.path("ca/ca.key")).unwrap();
    let (status, _, log) = world.command(&["run"]);
    assert_eq!(status, 78, "{log}");
    assert!(log.contains("key"), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

#[test]
fn a_ca_key_that_others_can_read_is_refused_with_78() {
    let world = World::new("");
    let key = world.path("ca/ca.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (status, _, log) = world.command(&["run"]);
    assert_eq!(status, 78, "{log}");
    assert!(log.contains("ca.key"), "{log}");
}

#[test]
fn a_configuration_that_cannot_be_read_ends_with_78() {
    for args in [["run", "--config", "/nonexistent.toml"], ["check-config", "--config", "/nonexistent.toml"]]
    {
        let (status, out, log) = Process::run(&mut linemint(&args));
        assert_eq!((status, out.as_str()), (78, ""), "{log}");
        assert!(log.contains("/nonexistent.toml") && log.contains("hint:"), "{log}");
    }
}

#[test]
fn every_mistake_in_a_configuration_is_told_with_its_place_and_a_hint() {
    let world = World::new("");
    let path = world.path("linemint.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let (status, out, log) = world.command(&["check-config"]);
    assert_eq!((status, log.as_str()), (0, ""), "{out}");
    assert!(out.ends_with("ok, 1 fixture, 1 product"), "{out}");
    let resource = format!("arn:aws:iot:eu-west-1:123456789012:client/{}", "a".repeat(2048));
    let statement = json!({ "Effect": "Allow", "Action": "iot:Connect", "Resource": resource });
    let long = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
    put(&world.path("long.json"), long.as_bytes());
    let mistakes = [
        ("id = \"IT\"", "id = \"IT\"\ncolour = \"red\"", "station.colour"),
        ("policy.json", "missing.json", "policy"),
        ("^[A-Z0-9]{12,50}$", "^[A-Z0-9{12,50}$", "serial"),
        ("policy.json", "long.json", "2048"),
        ("[station]", "[station", "TOML"),
    ];
    for (from, to, told) in mistakes {
        assert!(good.contains(from), "{good}");
        put(&path, good.replace(from, to).as_bytes());
        for command in ["check-config", "run"] {
            let (status, out, log) = world.command(&[command]);
            assert_eq!((status, out.as_str()), (78, ""), "{to}: {log}");
            assert!(
                log.contains("linemint.toml:") && log.contains(told) && log.contains("hint:"),
                "{to}: {log}"
            );
        }
    }
}

#[test]
fn a_station_that_goes_on_under_another_id_is_told_what_that_means() {
    let (mut world, _fixture) = World::running("");
    world.terminate();
    let (_, log) = world.ended();
    assert!(!log.contains("station.id is"), "{log}");
    let path = world.path("linemint.toml");
    let other = std::fs::read_to_string(&path).unwrap().replace("id = \"IT\"", "id = \"bench-9\"");
    put(&path, other.as_bytes());
    world.start();
    world.station().stderr.wait_for("station.id is bench-9, but the journal is that of IT");
}

#[test]
fn the_first_sigterm_drains_and_the_second_ends_at_once() {
    let (mut world, mut fixture) = World::running("");
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": "SN0000000001" }));
    fixture.until(&["credentials"]);
    world.terminate();
    world.becomes("/v1/status", "/state", &json!("draining"));
    // The unit in the nest is waited for.
    assert!(!world.station().ends_within(Duration::from_millis(300)));
    world.terminate();
    let (status, log) = world.ended();
    assert_eq!(status, 0, "{log}");
    // What was promised is there.
    world.start();
    fixture.hello("nest-1", 1);
    world.becomes("/v1/devices/SN0000000001", "/state", &json!("delivering"));
}

#[test]
fn sigint_ends_an_idle_station_and_nobody_answers_any_more() {
    let (mut world, _fixture) = World::running("");
    world.station().signal(Signal::INT);
    let (status, log) = world.ended();
    assert_eq!(status, 0, "{log}");
    let (status, _, log) = world.command(&["status"]);
    assert_eq!(status, 3, "{log}");
}

#[test]
fn sighup_with_the_same_configuration_changes_nothing() {
    let (world, mut fixture) = World::running("");
    let mut world = world;
    world.station().signal(Signal::HUP);
    world.station().stderr.wait_for("it says the same");
    fixture.provision(1, "SN0000000001");
}

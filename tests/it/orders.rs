//! What a person tells the station to do: devices retried, released, scrapped; a clock overridden.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use linemint::clock::{SystemClock, TimeSource as _};
use linemint::journal::store::{JournalLock, open};
use linemint::journal::{Entry, Journal as _, Record, StationEvent, What};
use serde_json::{Value, json};

use crate::harness::{Mode, Process, TestFixture, World, linemint};

const SERIAL: &str = "SN0000000001";

/// A user who is nobody special.
const NOBODY: u32 = 65_534;

fn order(world: &World, verb: &str, serial: &str) -> (i32, String, String) {
    world.command(&["device", verb, serial, "--reason", "a test says so"])
}

fn state(world: &World, serial: &str, wanted: &str) {
    world.becomes(&format!("/v1/devices/{serial}"), "/state", &json!(wanted));
}

/// A device's records of that name.
fn records(world: &World, serial: &str, event: &str) -> Vec<Value> {
    let story = world.get(&format!("/v1/devices/{serial}")).unwrap();
    let history = story["history"].as_array().unwrap();
    history.iter().filter(|it| it["event"] == event).cloned().collect()
}

fn assert_empty(world: &World) {
    let audit = world.audit(&[""; 0]);
    assert_eq!((audit.things, audit.policies, audit.certificates), (0, 0, 0), "{audit:?}");
    assert_eq!((audit.lockers, audit.orphans.lockers), (0, 0), "{audit:?}");
}

#[test]
fn scrapping_leaves_nothing_in_the_account() {
    let (world, mut fixture) = World::running("");
    fixture.provision(1, SERIAL);
    let (status, out, log) =
        world.command(&["device", "scrap", SERIAL, "--reason", "fell off the table", "--json"]);
    assert_eq!(status, 0, "{log}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["serial"], SERIAL);
    state(&world, SERIAL, "scrapped");
    assert_empty(&world);
    let began = records(&world, SERIAL, "scrapping");
    assert_eq!(began[0]["by"]["reason"], "fell off the table");
    assert_eq!(began[0]["by"]["uid"], rustix::process::geteuid().as_raw());
    assert_eq!(records(&world, SERIAL, "scrapped").len(), 1);
    fixture.send(&json!({ "type": "unit", "id": 2, "serial": SERIAL }));
    fixture.expect(&json!({ "type": "nak", "id": 2, "code": "quarantined" }));
    // Once more changes nothing, and it is for good.
    assert_eq!(order(&world, "scrap", SERIAL).0, 0);
    let (status, _, log) = order(&world, "release", SERIAL);
    assert_eq!(status, 4, "{log}");
    assert!(log.contains("for good"), "{log}");
}

#[test]
fn what_is_attached_again_after_it_was_detached_does_not_hold_up_a_scrapping() {
    // The second deletion waits for its turn: in between comes what an earlier call has left.
    let (world, mut fixture) = World::running("[aws.quota]\ndelete-certificate = 0.1\n");
    let (first, second) = (SERIAL, "SN0000000002");
    fixture.provision(1, first);
    fixture.provision(2, second);
    let device = world.get(&format!("/v1/devices/{second}")).unwrap();
    let certificate = device["certificate"]["arn"].as_str().unwrap().to_owned();
    assert_eq!(order(&world, "scrap", first).0, 0);
    state(&world, first, "scrapped");
    assert_eq!(order(&world, "scrap", second).0, 0);
    let done = |step: &str| records(&world, second, "step-done").iter().any(|it| it["step"] == step);
    world.eventually("the certificate is detached", |_| if done("detach-thing") { Ok(()) } else { Err(()) });
    world.attach_late(second, &certificate);
    assert!(!done("delete-certificate"), "it was deleted too early for this test");
    state(&world, second, "scrapped");
    assert_empty(&world);
    assert!(records(&world, second, "trouble").is_empty(), "nobody had to wait");
}

#[test]
fn a_unit_is_scrapped_out_of_its_nest_and_a_kill_does_not_stop_it() {
    let (mut world, mut fixture) = World::running("");
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIAL }));
    fixture.until(&["credentials"]);
    world.set_cloud(Mode::Off);
    assert_eq!(order(&world, "scrap", SERIAL).0, 0);
    fixture.expect(&json!({ "type": "fail", "id": 1, "code": "quarantined", "retry": false }));
    state(&world, SERIAL, "quarantined");
    world.eventually("the undelivered key is destroyed", |world| {
        let left = world.private_keys();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    world.kill9();
    world.set_cloud(Mode::On);
    world.start();
    fixture.hello("nest-1", 1);
    state(&world, SERIAL, "scrapped");
    assert_empty(&world);
}

#[test]
fn a_released_device_passes_with_the_certificate_that_it_had() {
    let (world, mut fixture) = World::running("");
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIAL }));
    let credentials = fixture.until(&["credentials"]);
    let foreign = "0".repeat(64);
    fixture.send(&json!({ "type": "written", "id": 1, "serial": SERIAL, "certificate_sha256": foreign }));
    fixture.expect(&json!({ "type": "fail", "id": 1, "code": "mismatch" }));
    fixture.send(&json!({ "type": "unit", "id": 2, "serial": SERIAL }));
    fixture.expect(&json!({ "type": "nak", "id": 2, "code": "quarantined" }));
    let (status, _, log) = order(&world, "retry", SERIAL);
    assert_eq!(status, 4, "{log}");
    assert!(log.contains("release it first"), "{log}");
    let (status, out, log) = order(&world, "release", SERIAL);
    assert_eq!(status, 0, "{log}");
    assert!(out.contains("may be presented again"), "{out}");
    assert_eq!(records(&world, SERIAL, "released")[0]["by"]["reason"], "a test says so");
    let again = fixture.provision(3, SERIAL);
    assert_eq!(again["certificate_sha256"], credentials["certificate_sha256"]);
    world.assert_audit(&[SERIAL]);
}

#[test]
fn retry_does_not_wait_out_the_delay() {
    let (mut world, mut fixture) = World::running("");
    world.set_cloud(Mode::Deny);
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIAL }));
    fixture.expect(&json!({ "type": "ack", "id": 1 }));
    world.becomes("/v1/status", "/state", &json!("stopped"));
    world.set_cloud(Mode::On);
    let (status, out, log) = order(&world, "retry", SERIAL);
    // It may have tried by itself in the same instant, and then waits for its fixture.
    assert!(status == 0 || log.contains("waits for its fixture"), "{status} {out} {log}");
    fixture.until(&["credentials"]);
}

#[test]
fn orders_end_with_the_statuses_of_the_contract() {
    let (world, mut fixture) = World::running("");
    fixture.provision(1, SERIAL);
    for verb in ["retry", "release", "scrap"] {
        let (status, out, log) = order(&world, verb, "NOBODY000001");
        assert_eq!((status, out.as_str()), (1, ""), "{verb}: {log}");
        assert_eq!(world.command(&["device", verb, SERIAL]).0, 2, "{verb} without a reason");
        let nowhere = world.path("nowhere.sock");
        let mut command = linemint(&["device", verb, SERIAL, "--reason", "x", "--socket"]);
        assert_eq!(Process::run(command.arg(nowhere)).0, 3);
    }
    let (status, _, log) = order(&world, "release", SERIAL);
    assert_eq!(status, 4, "{log}");
    assert!(log.contains("not in quarantine"), "{log}");
    let (status, _, log) = order(&world, "retry", SERIAL);
    assert_eq!(status, 4, "{log}");
    let (status, _, log) = world.command(&["resume", "--clock", "--reason", "x"]);
    assert_eq!(status, 4, "{log}");
    assert_eq!(world.command(&["resume", "--clock"]).0, 2);
}

/// As under the unit: the kernel shows the daemon nearly everybody by the number of `nobody`.
#[test]
fn in_a_namespace_of_users_a_stranger_is_not_taken_for_nobody() {
    let unshare = |command: &str| format!("unshare --user --map-root-user {command}");
    let can = std::process::Command::new("/bin/sh").args(["-c", &unshare("true")]).status();
    if !rustix::process::geteuid().is_root() || !can.is_ok_and(|it| it.success()) {
        eprintln!("SKIPPED: another user, or a namespace, cannot be played");
        return;
    }
    let mut world = World::new("");
    let mut fixture = world.fixture("nest-1");
    world.start_after(&format!("exec {}", unshare("\"$0\" \"$@\"")));
    fixture.hello("nest-1", 1);
    for (path, mode) in [("api.sock", 0o666), ("", 0o755)] {
        std::fs::set_permissions(world.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let socket = world.path("api.sock");
    for user in [1, NOBODY] {
        let mut command = linemint(&["drain", "--socket"]);
        let Ok(output) = command.arg(&socket).uid(user).gid(user).current_dir("/").output() else {
            eprintln!("SKIPPED: another user cannot run the binary");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{user}: {said}");
        assert!(said.contains("a user without a name here (process "), "{user}: {said}");
    }
    // Root is root there, and the daemon's own user.
    let (status, _, log) = world.command(&["drain"]);
    assert_eq!(status, 0, "{log}");
}

#[test]
fn another_user_may_look_but_not_touch() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: another user cannot be played");
        return;
    }
    let (world, mut fixture) = World::running("");
    fixture.provision(1, SERIAL);
    // The socket's own mode would keep it out; here it is who calls that counts.
    for (path, mode) in [("api.sock", 0o666), ("", 0o755)] {
        std::fs::set_permissions(world.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let socket = world.path("api.sock");
    let run = |args: &[&str]| {
        let mut command = linemint(args);
        command.arg("--socket").arg(&socket).uid(NOBODY).gid(NOBODY).current_dir("/");
        // The binary may lie where nobody else comes.
        command.output()
    };
    let Ok(output) = run(&["status"]) else {
        eprintln!("another user cannot run the binary");
        return;
    };
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for args in [
        &["device", "scrap", SERIAL, "--reason", "x"][..],
        &["device", "retry", SERIAL, "--reason", "x"],
        &["device", "release", SERIAL, "--reason", "x"],
        &["resume", "--clock", "--reason", "x"],
    ] {
        let output = run(args).unwrap();
        assert_eq!(output.status.code(), Some(77), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("linemint-admin"), "{args:?}");
    }
    assert_eq!(world.get(&format!("/v1/devices/{SERIAL}")).unwrap()["state"], "passed");
    assert!(records(&world, SERIAL, "scrapping").is_empty());
}

#[test]
fn a_key_that_nobody_fetches_is_destroyed() {
    let (world, mut fixture) = World::running("[journal]\nkeep_undelivered = \"2s\"\n");
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIAL }));
    let old = fixture.until(&["credentials"]);
    fixture.send(&json!({ "type": "removed", "id": 1, "serial": SERIAL }));
    fixture.expect(&json!({ "type": "fail", "id": 1, "code": "removed" }));
    state(&world, SERIAL, "failed");
    world.eventually("key and certificate are gone", |world| {
        let left = (world.private_keys().len(), world.audit(&[""; 0]).active_certificates);
        if left == (0, 0) { Ok(()) } else { Err(left) }
    });
    assert_eq!(records(&world, SERIAL, "key-expired").len(), 1);
    let new = fixture.provision(2, SERIAL);
    assert_ne!(new["certificate_sha256"], old["certificate_sha256"]);
    world.becomes(&format!("/v1/devices/{SERIAL}"), "/certificates_issued", &json!(2));
}

/// A journal that was written at a time that has not come yet.
fn in_the_future(world: &World) {
    let mut journal = open(JournalLock::take(&world.path("state/journal")).unwrap()).unwrap();
    let at = SystemClock::default().now().later(Duration::from_secs(3600)).wall;
    let started = StationEvent::Started { version: "0".to_owned(), config: "0".to_owned() };
    let record = Record { seq: 1, at, serial: None, what: What::Station(started) };
    journal.writer.commit(vec![Entry { record, device: None }]).unwrap();
}

/// The conversation's beginning where no `pull` comes.
fn greet(fixture: &mut TestFixture) {
    fixture.until(&["hello"]);
    fixture.send(&json!({ "type": "hello", "protocol": 1, "fixture": "nest-1", "boot": 1 }));
}

fn refused_for_the_clock(fixture: &mut TestFixture) {
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIAL }));
    let nak = fixture.expect(&json!({ "type": "nak", "id": 1, "code": "busy" }));
    assert!(nak["message"].as_str().unwrap().contains("clock: "), "{nak}");
}

#[test]
fn a_clock_before_the_newest_record_stops_new_devices_until_a_person_says_otherwise() {
    let mut world = World::new("");
    in_the_future(&world);
    let mut fixture = world.fixture("nest-1");
    for _ in 0..2 {
        world.start();
        greet(&mut fixture);
        refused_for_the_clock(&mut fixture);
        let status = world.get("/v1/status").unwrap();
        assert_eq!(status["state"], "degraded");
        assert!(status["reasons"][0].as_str().unwrap().starts_with("clock: "), "{status}");
        // A restart does not make it right.
        world.kill9();
    }
    world.start();
    greet(&mut fixture);
    let (status, _, log) = world.command(&["resume", "--clock", "--reason", "the record is wrong"]);
    assert_eq!(status, 0, "{log}");
    fixture.provision(1, SERIAL);
    let events = world.get("/v1/events?limit=1000").unwrap();
    let events = events["events"].as_array().unwrap();
    let overridden = events.iter().find(|it| it["event"] == "clock-overridden").unwrap();
    assert_eq!(overridden["by"]["reason"], "the record is wrong");
    assert_eq!(overridden["by"]["uid"], rustix::process::geteuid().as_raw());
    let reasons = world.get("/v1/status").unwrap()["reasons"].clone();
    assert!(reasons[0].as_str().unwrap().contains("overridden by"), "{reasons}");
}

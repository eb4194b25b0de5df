//! Cables that are pulled, swapped and put back.

use std::fs;

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde_json::{Value, json};

use crate::harness::{TestFixture, World};

const SERIALS: [&str; 2] = ["SN0000000001", "SN0000000002"];

/// Two fixtures, each at its own port.
const TWO: &str = r#"
[[fixture]]
[[fixture]]
name = "nest-2"
port = "nest-2.tty"
product = "thermostat"
resend = "30s"
"#;

fn refused(fixture: &mut TestFixture, name: &str) {
    fixture.until(&["hello"]);
    fixture.send(&json!({ "type": "hello", "protocol": 1, "fixture": name, "boot": 1 }));
    fixture.expect(&json!({ "type": "nak", "code": "wrong-fixture" }));
}

fn state(world: &World, number: usize, wanted: &str) {
    world.becomes("/v1/status", &format!("/fixtures/{number}/state"), &json!(wanted));
}

#[test]
fn swapped_cables_are_noticed_and_no_device_is_mixed_up() {
    let mut world = World::new(TWO);
    let (mut one, mut two) = (world.fixture("nest-1"), world.fixture("nest-2"));
    world.start();
    one.hello("nest-1", 1);
    two.hello("nest-2", 1);
    let unit = |it: usize| json!({ "type": "unit", "id": 1, "serial": SERIALS[it] });
    one.send(&unit(0));
    two.send(&unit(1));
    let before = [&mut one, &mut two].map(|it| it.until(&["credentials"]));
    TestFixture::swap(&mut one, &mut two);
    refused(&mut one, "nest-1");
    refused(&mut two, "nest-2");
    state(&world, 0, "wrong-fixture");
    state(&world, 1, "wrong-fixture");
    // Left alone: what it says now is neither taken nor answered.
    let written = |it: usize| {
        let sha256 = &before[it]["certificate_sha256"];
        json!({ "type": "written", "id": 1, "serial": SERIALS[it], "certificate_sha256": sha256 })
    };
    one.send(&written(0));
    two.send(&unit(1));
    // What is refused here was read after what was said before it.
    for (fixture, name) in [(&mut one, "nest-1"), (&mut two, "nest-2")] {
        fixture.send(&json!({ "type": "hello", "protocol": 1, "fixture": name, "boot": 1 }));
        fixture.expect(&json!({ "type": "nak", "code": "wrong-fixture" }));
    }
    TestFixture::swap(&mut one, &mut two);
    one.hello("nest-1", 1);
    two.hello("nest-2", 1);
    for (number, fixture) in [&mut one, &mut two].into_iter().enumerate() {
        world.becomes(&format!("/v1/devices/{}", SERIALS[number]), "/state", &json!("delivering"));
        fixture.send(&unit(number));
        let after = fixture.until(&["credentials"]);
        assert_eq!(after["serial"], SERIALS[number]);
        assert_eq!(after["certificate_sha256"], before[number]["certificate_sha256"]);
        fixture.send(&written(number));
        fixture.until(&["pass"]);
    }
    world.assert_audit(&SERIALS);
}

#[test]
fn the_time_without_a_port_is_counted_and_its_return_is_seen_at_once() {
    let mut world = World::new("[[fixture]]\nport = \"by-id/nest-1.tty\"\n");
    world.start();
    let of = |name: &str| format!("/fixtures/0/{name}");
    // Not even the directory is there, as before the first adapter is plugged in.
    world.becomes("/v1/status", &of("outages"), &json!(1));
    fs::create_dir(world.path("by-id")).unwrap();
    let mut fixture = world.fixture("by-id/nest-1");
    fixture.hello("nest-1", 1);
    world.becomes("/v1/status", &of("down_since"), &Value::Null);
    world.station().stderr.wait_for("is open, after it was away");
    // The cable is pulled.
    drop(fixture);
    world.becomes("/v1/status", &of("state"), &json!("closed"));
    world.becomes("/v1/status", &of("outages"), &json!(2));
    let status = world.get("/v1/status").unwrap();
    assert!(status["fixtures"][0]["down_since"].is_string(), "{status}");
    let text = world.command(&["status"]).1;
    assert!(text.contains("2 in ") && text.contains(", now"), "{text}");
    let mut fixture = world.fixture("by-id/nest-1");
    fixture.hello("nest-1", 1);
    fixture.provision(1, SERIALS[0]);
    world.becomes("/v1/status", &of("down_since"), &Value::Null);
    world.becomes("/v1/status", &of("reopens"), &json!(1));
}

/// Waits until the station says why the port of its one fixture is not open.
fn says_why(world: &World, why: &str) {
    world.eventually(&format!("the status says {why:?}"), |world| {
        let status = world.get("/v1/status").map_err(|it| it.to_string())?;
        let reason = status["reasons"][0].as_str().unwrap_or_default();
        let told = reason.starts_with("fixture nest-1: the port is not open: ") && reason.contains(why);
        if told { Ok(()) } else { Err(status["reasons"].to_string()) }
    });
}

#[test]
fn the_status_says_who_holds_the_port_and_that_it_is_missing() {
    let mut world = World::new("");
    let mut fixture = world.fixture("nest-1");
    // This process takes the port before the station does, as minicom would.
    let path = fs::read_link(world.path("nest-1.tty")).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let held = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
    rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    world.start();
    let holder = format!("(pid {})", std::process::id());
    says_why(&world, "is in use by");
    says_why(&world, &holder);
    let (status, text, log) = world.command(&["status"]);
    assert!(text.contains("is in use by") && text.contains(&holder), "{status}: {text}{log}");
    // It is let go, and the station has it.
    drop(held);
    fixture.hello("nest-1", 1);
    world.becomes("/v1/status", "/reasons", &json!([]));
    // The adapter is pulled.
    drop(fixture);
    says_why(&world, "there is no port");
}

#[test]
fn a_port_that_is_pulled_while_another_program_holds_it_is_missing_then() {
    let mut world = World::new("");
    let fixture = world.fixture("nest-1");
    let path = fs::read_link(world.path("nest-1.tty")).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let held = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
    rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    world.start();
    says_why(&world, "is in use by");
    drop(fixture);
    says_why(&world, "there is no port");
}

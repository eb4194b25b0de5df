//! Rules of the line that want counting, timing or a cable to pull.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Deadline, Mode, World, frame};

const SERIAL: &str = "SN0000000001";

#[test]
fn at_most_five_bad_frames_a_second_are_answered_and_all_are_counted() {
    let (world, mut fixture) = World::running("");
    let clock = Deadline::after(Duration::from_secs(3600));
    fixture.send_raw("garbage\n".repeat(500).as_bytes());
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIAL }));
    let mut answers = 0;
    while fixture.until(&["nak", "ack"])["type"] == "nak" {
        answers += 1;
    }
    // Five at once, and five more for each second that a slow machine takes.
    let seconds = (Duration::from_secs(3600) - clock.left()).as_secs();
    assert!((1..=5 * (seconds + 1)).contains(&answers), "{answers} answers in {seconds} s");
    world.becomes("/v1/status", "/fixtures/0/bad_frames", &json!(500));
    world.becomes("/v1/status", "/fixtures/0/naks", &json!(answers));
}

#[test]
fn a_replugged_port_is_opened_again_and_nothing_in_flight_is_lost() {
    let (world, mut fixture) = World::running("");
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIAL, "nest": "A" }));
    let before = fixture.until(&["credentials"]);
    fixture.replug();
    // The same boot: the fixture kept its power, so that the presentation is open still.
    fixture.hello("nest-1", 1);
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIAL, "nest": "A" }));
    let after = fixture.until(&["credentials"]);
    assert_eq!(before["certificate_sha256"], after["certificate_sha256"]);
    assert_eq!(before["private_key"], after["private_key"]);
    let sha256 = &after["certificate_sha256"];
    fixture.send(&json!({ "type": "written", "id": 1, "serial": SERIAL, "certificate_sha256": sha256 }));
    fixture.until(&["pass"]);
    world.becomes("/v1/status", "/fixtures/0/reopens", &json!(1));
    world.assert_audit(&[SERIAL]);
}

#[test]
fn what_a_fixture_says_before_the_station_is_there_is_not_lost() {
    let mut world = World::new("");
    let mut fixture = world.fixture("nest-1");
    fixture.send(&json!({ "type": "hello", "protocol": 1, "fixture": "nest-1", "boot": 1 }));
    world.start();
    fixture.until(&["pull"]);
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let (world, mut fixture) = World::running("");
    for byte in frame(&json!({ "type": "unit", "id": 1, "serial": SERIAL })) {
        fixture.send_raw(&[byte]);
    }
    fixture.until(&["ack"]);
    world.becomes("/v1/status", "/fixtures/0/bad_frames", &json!(0));
}

#[test]
fn credentials_carry_the_chain_and_what_the_product_says() {
    let roots = "roots = \"ca/ca.pem\"\nendpoint = \"x-ats.iot.eu-west-1.amazonaws.com\"";
    let (_world, mut fixture) = World::running(&format!("[product.thermostat]\n{roots}\n"));
    let credentials = fixture.provision(1, SERIAL);
    assert_eq!(credentials["endpoint"], "x-ats.iot.eu-west-1.amazonaws.com");
    assert!(credentials["ca"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
}

#[test]
fn a_unit_repeated_after_a_crash_is_acknowledged_and_served() {
    let (mut world, mut fixture) = World::running("");
    world.set_cloud(Mode::Off);
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIAL, "nest": "A" }));
    world.eventually("the device is in the journal", |world| {
        world.get(&format!("/v1/devices/{SERIAL}")).map(|_| ())
    });
    // Whatever was said is lost with the plug, as it is when the crash comes before it is said.
    world.kill9();
    fixture.replug();
    world.set_cloud(Mode::On);
    world.start();
    fixture.until(&["hello"]);
    fixture.send(&json!({ "type": "hello", "protocol": 1, "fixture": "nest-1", "boot": 1 }));
    world.eventually("AWS holds all of it", |world| {
        let audit = world.audit(&[SERIAL]);
        if audit.ok { Ok(()) } else { Err(audit.problems) }
    });
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": SERIAL, "nest": "A" }));
    // `ack` may never have been heard: nothing about the unit comes before it.
    fixture.until(&["ack"]);
    fixture.until(&["credentials"]);
}

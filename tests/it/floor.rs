//! What happens on the floor: noise on the cable, and two programs at one port.

use std::collections::HashMap;
use std::time::Duration;

use linemint::rehearsal::fixture::{FixtureFaults, FixtureOptions, serials};
use serde_json::json;

use crate::harness::{Process, World, linemint};

/// Each way, of the frames.
const DAMAGED: f64 = 0.05;

/// Provisions so many devices on a bad cable, and looks whether each has its own identity and no other's.
fn pass_on_a_bad_cable(count: usize, span: Duration) {
    let mut world = World::new("[[fixture]]\nresend = \"300ms\"\nanswer_within = \"60s\"\n");
    let serials = serials(41, count);
    let faults = FixtureFaults { damaged: DAMAGED, ..FixtureFaults::none() };
    let fixture = world.simulated(FixtureOptions {
        nests: 16,
        resend: Duration::from_millis(300),
        with_mac: true,
        faults,
        link: Some(world.path("nest-1.tty")),
        ..FixtureOptions::new(serials.clone())
    });
    world.start();
    let done = world.within(span, fixture.wait_done());
    let report = fixture.report();
    assert!(done.is_some() && report.is_clean(), "{report:#?}");
    // Some have to have been damaged: 100 devices say some 300 frames.
    let status = world.get("/v1/status").unwrap();
    let bad = (report.frames.bad, status["fixtures"][0]["bad_frames"].as_u64().unwrap());
    assert!(bad.0 > 0 && bad.1 > 0, "nothing was damaged: {bad:?}");
    let devices = world.get("/v1/devices?limit=1000").unwrap();
    let told: HashMap<_, _> =
        devices["devices"].as_array().unwrap().iter().map(|it| (it["serial"].clone(), it)).collect();
    assert_eq!(told.len(), count);
    for (serial, certificate) in &report.certificates {
        let device = told[&json!(serial)];
        assert_eq!(
            (&device["state"], &device["certificates_issued"]),
            (&json!("passed"), &json!(1)),
            "{serial}"
        );
        let shown = world.get(&format!("/v1/devices/{serial}")).unwrap();
        assert!(shown.to_string().contains(&certificate.to_string()), "{serial} holds another's certificate");
    }
    world.assert_audit(&serials);
    eprintln!(
        "{count} devices: {} frames sent, {} received; bad at the fixture {}, at the station {}; p50 {:.0} ms, p99 {:.0} ms",
        report.frames.sent,
        report.frames.received,
        bad.0,
        bad.1,
        report.latency.p50_ms,
        report.latency.p99_ms
    );
}

#[test]
fn a_hundred_devices_pass_on_a_cable_that_damages_every_twentieth_frame() {
    pass_on_a_bad_cable(100, Duration::from_secs(120));
}

#[test]
#[ignore = "takes a minute: .ci/full runs it"]
fn five_hundred_devices_pass_on_a_cable_that_damages_every_twentieth_frame() {
    pass_on_a_bad_cable(500, Duration::from_secs(600));
}

#[test]
fn a_port_that_the_station_holds_is_taken_and_the_holder_is_named() {
    let (mut world, mut fixture) = World::running("");
    let port = world.path("nest-1.tty");
    let mut check = linemint(&["fixture", "check", port.to_str().unwrap(), "--yes"]);
    let (status, out, log) = Process::run(&mut check);
    assert_eq!((status, out.as_str()), (74, ""), "{log}");
    let holder = format!("{}", world.station().pid());
    assert!(log.contains("is in use by") && log.contains(&holder), "{log}");
    // And the station has noticed nothing of it.
    fixture.provision(1, "SN0000000001");
}

//! Proof before PASS: with the real binary, over real TLS.

use linemint::rehearsal::cloud::CloudOptions;
use serde_json::json;

use crate::harness::{World, put};

fn world() -> World {
    let data_listen = Some(([127, 0, 0, 1], 0).into());
    let world = World::with_cloud("", CloudOptions { data_listen, ..CloudOptions::default() });
    world.verify_by_tls();
    world
}

#[test]
fn a_device_passes_when_the_endpoint_has_let_its_certificate_in() {
    let mut world = world();
    let mut fixture = world.fixture("nest-1");
    world.start();
    fixture.hello("nest-1", 1);
    fixture.provision(1, "SN0000000001");
    assert_eq!(world.connections(), 1);
    world.assert_audit(&["SN0000000001"]);
    let steps = world.get("/v1/events?limit=1000").unwrap();
    let steps: Vec<_> = steps["events"].as_array().unwrap().iter().collect();
    let at = |event: &str, step: &str| {
        let found = |it: &&serde_json::Value| it["event"] == event && (step.is_empty() || it["step"] == step);
        steps.iter().position(found).unwrap_or_else(|| panic!("no {event} {step}: {steps:?}"))
    };
    assert!(at("step-done", "attach-thing") < at("step-done", "connect"));
    assert!(at("step-done", "connect") < at("offered", ""));
    // Each device shows its own.
    fixture.provision(2, "SN0000000002");
    assert_eq!(world.connections(), 2);
}

#[test]
fn a_server_that_the_products_roots_do_not_know_is_told_and_nobody_passes() {
    let mut world = world();
    // The station's own CA instead of the server's.
    put(&world.path("roots.pem"), &std::fs::read(world.path("ca/ca.pem")).unwrap());
    let _fixture = world.presented("SN0000000001");
    world.tells("SN0000000001", "is not trusted by the product's roots");
    assert_eq!(world.connections(), 0);
    world.becomes("/v1/devices/SN0000000001", "/state", &json!("provisioning"));
}

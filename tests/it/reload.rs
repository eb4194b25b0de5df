//! Another configuration while the station works: SIGHUP to the real binary.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Mode, Process, World, linemint, merged, put};

/// Has the station read `text` as its configuration, and waits for what the log says of it.
fn reload(world: &mut World, text: &str, said: &str) -> String {
    put(&world.path("linemint.toml"), text.as_bytes());
    world.station().signal(Signal::HUP);
    world.station().stderr.wait_for(said)
}

fn config(world: &World) -> String {
    fs::read_to_string(world.path("linemint.toml")).unwrap()
}

fn events(world: &World, word: &str) -> Vec<Value> {
    let events = world.get("/v1/events?limit=1000").unwrap();
    events["events"].as_array().unwrap().iter().filter(|it| it["event"] == word).cloned().collect()
}

/// The status is painted some times a second.
fn has_fixtures(world: &World, names: &[&str]) {
    world.eventually("the fixtures are those", |world| {
        let status = world.get("/v1/status").unwrap();
        let found = status["fixtures"].as_array().unwrap().iter();
        let found: Vec<_> = found.map(|it| it["name"].as_str().unwrap().to_owned()).collect();
        if found == names { Ok(()) } else { Err(found) }
    });
}

const TAKEN: &str = "the configuration is taken over";

#[test]
fn quotas_and_shifts_change_while_it_works() {
    let (mut world, mut fixture) = World::running("");
    fixture.provision(1, "SN0000000001");
    let pid = world.station().pid();
    let over =
        "[aws.quota]\ncreate-thing = 7\n[[shift]]\nname = \"all\"\nstart = \"00:00\"\nend = \"24:00\"\n";
    let text = merged(&config(&world), over);
    let line = reload(&mut world, &text, TAKEN);
    assert!(line.contains("[aws.quota], [[shift]]"), "{line}");
    world.eventually("the ceiling is the new one", |world| {
        let status = world.get("/v1/status").unwrap();
        let operations = status["operations"].as_array().unwrap().clone();
        let thing = operations.iter().find(|it| it["operation"] == "create-thing").cloned().unwrap();
        let is_new = thing["ceiling"] == 7.0 && status["today"]["shift"] == "all";
        is_new.then_some(()).ok_or_else(|| format!("{thing} {}", status["today"]))
    });
    // Reports tell the new ceiling too.
    let created = |report: &Value| {
        let rows = report["quota"]["operations"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|it| it["operation"] == "create-thing").map(|it| it["limit_milli"].clone())
    };
    world.eventually("the report's limit is the new one", |world| {
        let report = world.get("/v1/report").unwrap();
        if created(&report) == Some(json!(7_000)) { Ok(()) } else { Err(report["quota"].clone()) }
    });
    fixture.provision(2, "SN0000000002");
    // The shift's count stays.
    world.becomes("/v1/status", "/today/passed", &json!(2));
    let facts = events(&world, "reconfigured");
    assert_eq!(facts.len(), 1);
    assert_eq!(facts[0]["changed"], json!(["[aws.quota]", "[[shift]]"]));
    assert_eq!(facts[0]["config"].as_str().unwrap().len(), 64);
    assert_ne!(facts[0]["config"], events(&world, "started")[0]["config"]);
    assert_eq!(world.station().pid(), pid);
}

#[test]
fn a_products_rules_change_for_new_devices_only() {
    let (mut world, mut fixture) = World::running("");
    world.set_cloud(Mode::Off);
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": "SN0000000001" }));
    fixture.expect(&json!({ "type": "ack", "id": 1 }));
    let text = merged(&config(&world), "[product.thermostat]\nthing = \"new-{serial}\"\n");
    let line = reload(&mut world, &text, TAKEN);
    assert!(line.contains("product thermostat"), "{line}");
    world.set_cloud(Mode::On);
    let credentials = fixture.expect(&json!({ "type": "credentials", "id": 1 }));
    let sha256 = &credentials["certificate_sha256"];
    let serial = "SN0000000001";
    fixture.send(&json!({ "type": "written", "id": 1, "serial": serial, "certificate_sha256": sha256 }));
    fixture.expect(&json!({ "type": "pass", "id": 1 }));
    fixture.provision(2, "SN0000000002");
    let thing = |serial: &str| world.get(&format!("/v1/devices/{serial}")).unwrap()["thing"].clone();
    assert_eq!(thing("SN0000000001"), "SN0000000001", "admitted by the old rules");
    assert_eq!(thing("SN0000000002"), "new-SN0000000002");
}

#[test]
fn a_fixture_comes_and_goes() {
    let (mut world, mut fixture) = World::running("");
    let mut second = world.fixture("nest-2");
    let one = config(&world);
    let more = "name = \"nest-2\"\nport = \"nest-2.tty\"\nproduct = \"thermostat\"\nresend = \"30s\"";
    let two = merged(&one, &format!("[[fixture]]\n[[fixture]]\n{more}\n"));
    let line = reload(&mut world, &two, TAKEN);
    assert!(line.contains("fixture nest-2 is new"), "{line}");
    second.hello("nest-2", 4);
    second.provision(1, "SN0000000001");
    has_fixtures(&world, &["nest-1", "nest-2"]);
    world.becomes("/v1/status", "/fixtures/1/state", &json!("ready"));
    fixture.provision(1, "SN0000000002");
    let line = reload(&mut world, &one, "fixture nest-2 is gone");
    assert!(line.contains(TAKEN), "{line}");
    has_fixtures(&world, &["nest-1"]);
    fixture.provision(2, "SN0000000003");
    // It comes back, and the station still knows its reset: nothing is asked for twice.
    reload(&mut world, &two, "fixture nest-2 is new");
    has_fixtures(&world, &["nest-1", "nest-2"]);
    second.replug();
    second.hello("nest-2", 4);
    second.provision(2, "SN0000000004");
    assert_eq!(events(&world, "fixture-reset").len(), 2, "one for each fixture");
}

#[test]
fn what_is_wrong_or_takes_a_restart_changes_nothing_and_is_said() {
    let (mut world, mut fixture) = World::running("");
    let right = config(&world);
    let line = reload(&mut world, &merged(&right, "[aws]\nregion = \"the moon\"\n"), "is not taken over");
    assert!(line.contains("all stays as it was"), "{line}");
    assert!(world.station().stderr.text().contains("aws.region"), "the key that is wrong is named");
    // What could change alive does not change either where something else cannot.
    let both = merged(&right, "[aws]\nregion = \"eu-central-1\"\n[aws.quota]\ncreate-thing = 7\n");
    reload(&mut world, &both, "[aws] cannot change while the station works: restart it");
    reload(&mut world, &format!("{right}\n[station2]\n"), "station2");
    // Nobody would write the next label.
    let labels = merged(&right, "[product.thermostat]\nlabels = \"labels\"\n");
    reload(&mut world, &labels, "/labels cannot change while the station works: restart it");
    fixture.provision(1, "SN0000000001");
    assert!(events(&world, "reconfigured").is_empty());
    reload(&mut world, &right, "it says the same");
    assert!(events(&world, "reconfigured").is_empty());
}

#[test]
fn a_ca_that_is_replaced_in_its_place_takes_a_restart() {
    let (mut world, _fixture) = World::running("");
    let text = config(&world);
    reload(&mut world, &text, "it says the same");
    let made = world.path("next");
    let made = made.to_str().unwrap();
    assert_eq!(Process::run(&mut linemint(&["ca", "init", "--dir", made])).0, 0);
    for name in ["ca.pem", "ca.key"] {
        fs::rename(world.path("next").join(name), world.path("ca").join(name)).unwrap();
    }
    let line = reload(&mut world, &text, "the configuration is not taken over");
    assert!(line.contains("[pki] (a CA's certificate was replaced") && line.contains("restart it"), "{line}");
    assert!(events(&world, "reconfigured").is_empty());
}

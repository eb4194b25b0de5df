//! Work orders from the file to the report of what is missing, with the real binary.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Process, TestFixture, World, linemint, put};

const REQUIRED: &str = "[product.thermostat]\nrequire_batch = true\nthing = \"{serial}-{batch}\"\n";

/// How many serial numbers the long list has; a million, if somebody says so.
fn long() -> usize {
    std::env::var("LINEMINT_BATCH_SERIALS").ok().and_then(|it| it.parse().ok()).unwrap_or(20_000)
}

fn serial(number: usize) -> String {
    format!("SN{number:010}")
}

fn open(world: &World, args: &[&str]) -> (i32, String, String) {
    world.command(&[&["batch", "open"], args].concat())
}

fn open_listed(world: &World, id: &str, text: &str) -> (i32, String, String) {
    let path = world.path("serials.csv");
    put(&path, text.as_bytes());
    open(world, &[id, "--product", "thermostat", "--expected", path.to_str().unwrap()])
}

fn batch(world: &World, id: &str) -> Value {
    let (status, out, log) = world.command(&["batch", "show", id, "--json"]);
    assert_eq!(status, 0, "{log}");
    serde_json::from_str(&out).unwrap()
}

fn counts(world: &World, id: &str) -> [u64; 5] {
    let it = batch(world, id);
    let passed = it["counts"]["passed"].as_u64().unwrap();
    let of = |name: &str| it[name].as_u64().unwrap();
    [of("expected"), of("seen"), passed, of("missing"), of("extra")]
}

fn refused(fixture: &mut TestFixture, id: u64, serial: &str, code: &str) {
    fixture.send(&json!({ "type": "unit", "id": id, "serial": serial }));
    fixture.expect(&json!({ "type": "nak", "id": id, "code": code }));
}

/// Journal records of that name so far.
fn records(world: &World, event: &str) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = world.get(&format!("/v1/events?limit=1000&after={after}")).unwrap();
        let events = page["events"].as_array().unwrap();
        found.extend(events.iter().filter(|it| it["event"] == event).cloned());
        match page["next"].as_u64() {
            Some(next) if next != after => after = next,
            _ => return found,
        }
    }
}

#[test]
fn a_work_order_from_its_list_to_what_is_missing() {
    let (mut world, mut fixture) = World::running(REQUIRED);
    refused(&mut fixture, 1, &serial(1), "no-batch");
    let list = "Pos;Serial Number\r\n1;SN0000000003\r\n2;SN0000000001\r\n3;SN0000000002\r\n";
    let (status, out, log) = open_listed(&world, "WO-4711", list);
    assert_eq!(status, 0, "{log}");
    assert_eq!(
        out.trim(),
        "WO-4711 is open for thermostat: 3 devices ordered; other serial numbers are refused"
    );
    world.becomes("/v1/status", "/batch", &json!("WO-4711"));
    refused(&mut fixture, 2, &serial(4), "not-expected");
    let credentials = fixture.provision(3, &serial(2));
    assert_eq!(credentials["thing"], "SN0000000002-WO-4711");
    assert_eq!(counts(&world, "WO-4711"), [3, 1, 1, 2, 0]);
    // Nothing of it is forgotten by a kill.
    world.kill9();
    world.start();
    fixture.hello("nest-1", 1);
    refused(&mut fixture, 4, &serial(4), "not-expected");
    fixture.send(&json!({ "type": "unit", "id": 5, "serial": serial(1) }));
    let offered = fixture.until(&["credentials"]);
    let (status, out, log) = world.command(&["batch", "close", "WO-4711", "--reason", "the shift is over"]);
    assert_eq!(status, 0, "{log}");
    assert_eq!(out.trim(), "WO-4711 is closed: 2 of 3 seen, 1 passed, 1 missing");
    // In its nest at the close.
    let written = json!({ "type": "written", "id": 5, "serial": serial(1), "certificate_sha256": offered["certificate_sha256"] });
    fixture.send(&written);
    fixture.expect(&json!({ "type": "pass", "id": 5 }));
    refused(&mut fixture, 6, &serial(3), "no-batch");
    assert_eq!(counts(&world, "WO-4711"), [3, 2, 2, 1, 0]);
    let (status, out, _) = world.command(&["batch", "show", "WO-4711", "--missing"]);
    assert_eq!((status, out.trim()), (0, serial(3).as_str()));
    let (_, out, _) = world.command(&["batch", "show", "WO-4711"]);
    assert!(
        out.starts_with(
            "WO-4711  closed\n  product         thermostat\n  expected        3\n  missing         1\n"
        ),
        "{out}"
    );
    assert!(out.contains("  takes           only serial numbers on its list\n"), "{out}");
    assert!(out.trim_end().ends_with(": the shift is over"), "{out}");
    // Once more, with a reason.
    let (status, _, log) = open(&world, &["WO-4711", "--product", "thermostat", "--count", "3"]);
    assert_eq!(status, 4, "{log}");
    assert!(log.contains("to open it again give a reason"), "{log}");
    let (status, out, log) = open(&world, &["WO-4711", "--reason", "the last one was found"]);
    assert_eq!(status, 0, "{log}");
    assert!(out.contains("is open again for thermostat: 2 of 3 seen, 2 passed, 1 missing"), "{out}");
    fixture.provision(7, &serial(3));
    assert_eq!(counts(&world, "WO-4711"), [3, 3, 3, 0, 0]);
    let (_, out, _) = world.command(&["batch", "list"]);
    assert!(
        out.lines().nth(1).unwrap().starts_with("WO-4711  open   thermostat  3         3     3       0"),
        "{out}"
    );
    let page = world.get("/v1/devices?batch=WO-4711").unwrap();
    assert_eq!(page["devices"].as_array().unwrap().len(), 3);
    let by = &records(&world, "batch-reopened")[0]["by"];
    assert_eq!(by["reason"], "the last one was found");
    assert_eq!(by["uid"], rustix::process::geteuid().as_raw());
}

#[test]
fn a_file_with_faults_opens_nothing_and_says_on_which_lines_they_are() {
    let (world, mut fixture) = World::running("");
    let text = "serial\nSN0000000001\nnonsense\nSN0000000002\nSN0000000001\n";
    let (status, out, log) = open_listed(&world, "WO-1", text);
    assert_eq!((status, out.as_str()), (1, ""), "{log}");
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].ends_with("serials.csv is no list of serial numbers; nothing was opened:"), "{log}");
    assert_eq!(
        lines[1],
        "  line 3, column 1: nonsense: the serial number does not match the product's pattern"
    );
    assert_eq!(lines[2], "  line 5, column 1: SN0000000001 stands on line 2 already");
    assert_eq!(world.command(&["batch", "show", "WO-1"]).0, 1);
    let (status, _, log) = open(&world, &["WO-1", "--product", "lamp", "--expected", "-"]);
    assert_eq!(status, 4, "{log}");
    assert!(log.contains("no product lamp; it has thermostat"), "{log}");
    let missing = world.path("none.csv");
    let args = ["WO-1", "--product", "thermostat", "--expected", missing.to_str().unwrap()];
    assert_eq!(open(&world, &args).0, 74);
    for usage in [
        &["WO-1"][..],
        &["WO 1", "--reason", "x"],
        &["WO-1", "--product", "thermostat"],
        &["WO-1", "--product", "thermostat", "--count", "5", "--strict"],
        &["WO-1", "--product", "thermostat", "--count", "0"],
        &["WO-1", "--product", "thermostat", "--count", "5", "--expected", "f"],
        &["WO-1", "--count", "5"],
    ] {
        assert_eq!(open(&world, usage).0, 2, "{usage:?}");
    }
    // By number, and in the way of a second one.
    let (status, out, log) = open(&world, &["WO-1", "--product", "thermostat", "--count", "2", "--json"]);
    assert_eq!(status, 0, "{log}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["state"], "open");
    let (status, _, log) = open_listed(&world, "WO-2", "SN0000000001\n");
    assert_eq!(status, 4, "{log}");
    assert!(log.contains("WO-1 is open for thermostat: close it first"), "{log}");
    fixture.provision(1, &serial(9));
    assert_eq!(counts(&world, "WO-1"), [2, 1, 1, 1, 0]);
    let nowhere = world.path("nowhere.sock");
    let mut command = linemint(&["batch", "list", "--socket"]);
    assert_eq!(Process::run(command.arg(nowhere)).0, 3);
}

#[test]
fn an_opening_that_a_kill_cuts_off_has_opened_nothing() {
    let (mut world, mut fixture) = World::running("");
    let begin = |world: &World| {
        let mut socket = UnixStream::connect(world.path("api.sock")).unwrap();
        let lines: String = (0..5_000).map(|it| serial(it) + "\n").collect();
        let head = "POST /v1/batches?id=WO-1&product=thermostat HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        socket.write_all(format!("{head}{:x}\r\n{lines}\r\n", lines.len()).as_bytes()).unwrap();
        socket
    };
    let journaled = |world: &World, openings: usize| {
        world.eventually("the list is being journaled", |world| {
            let of = |it: &Value| it["serials"].as_array().map_or(0, Vec::len);
            let count: usize = records(world, "batch-serials").iter().map(of).sum();
            if count >= 4_000 * openings { Ok(()) } else { Err(count) }
        });
    };
    let socket = begin(&world);
    journaled(&world, 1);
    // The line goes on meanwhile, and not by a list that is not complete.
    fixture.provision(1, "OTHER0000001");
    world.kill9();
    drop(socket);
    world.start();
    fixture.hello("nest-1", 1);
    assert_eq!(records(&world, "batch-dropped").len(), 1);
    assert_eq!(world.get("/v1/batches").unwrap()["batches"], json!([]));
    fixture.provision(2, "OTHER0000002");
    // Who hangs up has opened nothing either.
    let socket = begin(&world);
    journaled(&world, 2);
    drop(socket);
    world.eventually("the opening is given up", |world| {
        let count = records(world, "batch-dropped").len();
        if count == 2 { Ok(()) } else { Err(count) }
    });
    let (status, _, log) = open_listed(&world, "WO-1", &(serial(7) + "\n"));
    assert_eq!(status, 0, "{log}");
    refused(&mut fixture, 3, &serial(8), "not-expected");
    fixture.provision(4, &serial(7));
    assert_eq!(counts(&world, "WO-1"), [1, 1, 1, 0, 0]);
    assert_eq!(world.command(&["journal", "verify"]).0, 0);
}

#[test]
fn a_long_list_is_opened_while_the_line_goes_on_and_survives_backup_and_restore() {
    let (mut world, mut fixture) = World::running("");
    let count = long();
    // As a spreadsheet may have it: in no order.
    let step = 7_919;
    assert!(!count.is_multiple_of(step), "every number once");
    let text: String = (0..count).map(|it| serial(it * step % count) + "\n").collect();
    let path = world.path("serials.csv");
    put(&path, text.as_bytes());
    let config = world.path("linemint.toml");
    let args = ["batch", "open", "WO-1", "--product", "thermostat", "--expected", path.to_str().unwrap()];
    let mut opening = Process::start(linemint(&args).args(["--config", config.to_str().unwrap()]));
    fixture.provision(1, "OTHER0000001");
    assert!(opening.ends_within(Duration::from_secs(600)), "{}", opening.stderr.text());
    assert_eq!(opening.wait(), 0, "{}", opening.stderr.text());
    refused(&mut fixture, 2, &serial(count), "not-expected");
    fixture.provision(3, &serial(count - 1));
    fixture.provision(4, &serial(0));
    let expected = u64::try_from(count).unwrap();
    assert_eq!(counts(&world, "WO-1"), [expected, 2, 2, expected - 2, 0]);
    // From the log alone, on another station.
    let backup = world.path("backup");
    assert_eq!(world.command(&["journal", "backup", "--to", backup.to_str().unwrap()]).0, 0);
    world.terminate();
    assert_eq!(world.ended().0, 0);
    std::fs::rename(world.path("state/journal"), world.path("state/gone")).unwrap();
    std::fs::remove_dir_all(world.path("state/keys")).unwrap();
    let (status, _, log) = world.command(&["journal", "restore", "--from", backup.to_str().unwrap()]);
    assert_eq!(status, 0, "{log}");
    world.start();
    fixture.hello("nest-1", 1);
    assert_eq!(counts(&world, "WO-1"), [expected, 2, 2, expected - 2, 0]);
    refused(&mut fixture, 5, &serial(count), "not-expected");
    fixture.provision(6, &serial(count / 2));
    let (status, out, _) = world.command(&["batch", "show", "WO-1", "--missing"]);
    assert_eq!((status, out.lines().count()), (0, count - 3));
}

#[test]
fn a_batch_changes_a_fixture_over_to_its_product() {
    let lamp = "[product.lamp]\nserial = \"^lamp-[0-9]{8}$\"\npolicy = { document = \"policy.json\" }\ncertificate = {}\n";
    let (mut world, mut fixture) = World::running(lamp);
    let (status, _, log) = open(&world, &["WO-1", "--product", "lamp", "--count", "5"]);
    assert_eq!(status, 4, "{log}");
    assert!(log.contains("no fixture presents lamp: say with --fixture which one"), "{log}");
    let (status, _, log) =
        open(&world, &["WO-1", "--product", "lamp", "--count", "5", "--fixture", "nest-1"]);
    assert_eq!(status, 0, "{log}");
    world.becomes("/v1/status", "/fixtures/0/product", &json!("lamp"));
    refused(&mut fixture, 1, &serial(1), "bad-serial");
    fixture.provision(2, "lamp-00000001");
    world.kill9();
    world.start();
    fixture.hello("nest-1", 1);
    fixture.provision(3, "lamp-00000002");
    assert_eq!(world.get("/v1/devices/lamp%2D00000002").unwrap()["product"], "lamp");
    assert_eq!(world.command(&["batch", "close", "WO-1"]).0, 0);
    refused(&mut fixture, 4, "lamp-00000003", "bad-serial");
    fixture.provision(5, &serial(1));
    assert_eq!(counts(&world, "WO-1"), [5, 2, 2, 3, 0]);
}

//! Listening to a line while the station works on it.

use linemint::rehearsal::fixture::serials;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Process, World, linemint};

/// A monitor that is listening.
fn monitor(world: &World, args: &[&str]) -> Process {
    let mut command = linemint(&["fixture", "monitor"]);
    let process = Process::start(command.args(args).arg("--socket").arg(world.path("api.sock")));
    process.stderr.wait_for("listening to nest-1");
    process
}

/// Ends it as Ctrl-C does; what it has printed.
fn interrupted(mut monitor: Process) -> String {
    monitor.signal(Signal::INT);
    assert_eq!(monitor.wait(), 0, "{}", monitor.stderr.text());
    monitor.stdout.text()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

#[test]
fn the_whole_conversation_is_shown_and_no_key_in_it() {
    let over = "[product.thermostat]\nroots = \"ca/ca.pem\"\n";
    let (world, mut fixture) = World::running(over);
    let (json, text) = (monitor(&world, &["nest-1", "--json"]), monitor(&world, &[]));
    let credentials = fixture.provision(1, "SN0000000001");
    // What comes back on the line is a key too, whole or cut anywhere.
    let echo = linemint::fixture::frame::encode(&credentials).unwrap().to_vec();
    fixture.send_raw(&echo);
    for from in [1, echo.len() / 4, echo.len() / 2] {
        fixture.send_raw(&echo[from..]);
    }
    let key = echo.windows(11).position(|it| it == b"PRIVATE KEY").unwrap() + 20;
    fixture.send_raw(&[&echo[key..key + 120], b"\n\x00\xffnoise\n"].concat());
    for _ in 0..5 {
        fixture.until(&["nak"]);
    }
    for process in [&json, &text] {
        process.stdout.wait_for("SN0000000001");
        process.stdout.wait_for("noise");
    }
    json.stdout.wait_for("00ff6e6f697365");
    text.stdout.wait_for("00 ff 6e 6f 69 73 65");
    let (json, text) = (interrupted(json), interrupted(text));

    let lines = json_lines(&json);
    let conversation: Vec<_> = lines
        .iter()
        .filter(|it| it["seen"] == "frame" && it["message"]["id"] == 1)
        .map(|it| {
            format!("{} {}", it["direction"].as_str().unwrap(), it["message"]["type"].as_str().unwrap())
        })
        .collect();
    assert_eq!(conversation, ["in unit", "out ack", "out credentials", "in written", "out pass"], "{json}");
    let shown = lines.iter().find(|it| it["message"]["type"] == "credentials").unwrap();
    for member in ["private_key", "certificate", "ca"] {
        assert!(credentials[member].as_str().unwrap().starts_with("-----BEGIN"), "{member} was sent");
        assert_eq!(shown["message"][member], "(removed)");
    }
    assert_eq!(shown["message"]["certificate_sha256"], credentials["certificate_sha256"]);
    assert!(lines.iter().any(|it| it["seen"] == "echo"), "{json}");
    assert!(lines.iter().all(|it| it["fixture"] == "nest-1" && it["at"].is_string()), "{json}");
    let line = text.lines().find(|it| it.contains("written")).unwrap();
    assert!(line.contains("nest-1  in   written       id=1 serial=SN0000000001"), "{line}");

    for shown in [&json, &text] {
        assert!(!shown.contains("BEGIN") && !shown.contains("KEY"), "{shown}");
        for member in ["private_key", "certificate", "ca"] {
            let pem = credentials[member].as_str().unwrap();
            for line in pem.lines().filter(|it| it.len() >= 16 && !it.starts_with('-')) {
                let hex: String = line.bytes().take(20).map(|it| format!("{it:02x}")).collect();
                assert!(!shown.contains(&line[..20]) && !shown.contains(&hex), "{shown}");
            }
        }
    }
    // Nobody listens any more, and the line goes on.
    fixture.provision(2, "SN0000000002");
}

#[test]
fn a_signing_request_is_not_shown() {
    let over = "[product.thermostat]\ncertificate = { key = \"device\" }\n";
    let (world, fixture) = World::running(over);
    let monitor = monitor(&world, &["nest-1", "--json"]);
    let csr = "-----BEGIN CERTIFICATE REQUEST-----\nMIHoMIGPAgEAMC0xKzApBgNVBAMMIlRoZSBk\n-----END CERTIFICATE REQUEST-----\n";
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": "SN0000000001", "csr": csr }));
    monitor.stdout.wait_for("\"nak\"");
    let lines = interrupted(monitor);
    let unit = json_lines(&lines).into_iter().find(|it| it["message"]["type"] == "unit").unwrap();
    assert_eq!(unit["message"]["csr"], "(removed)");
    assert!(!lines.contains("MIHo"), "{lines}");
}

#[test]
fn a_pulled_plug_is_told_and_so_is_the_daemons_end() {
    let (mut world, mut fixture) = World::running("");
    let mut monitor = monitor(&world, &[]);
    fixture.replug();
    monitor.stdout.wait_for("lost");
    monitor.stdout.wait_for("opened");
    fixture.hello("nest-1", 2);
    world.terminate();
    assert_eq!(monitor.wait(), 3);
    monitor.stderr.wait_for("has ended");
    assert_eq!(world.ended().0, 0);
}

#[test]
fn a_scanners_lines_are_decoded() {
    let mut world = World::new(
        r#"
[[fixture]]
driver = "scanner"
pattern = '(?:\][A-Za-z]\d)?(?<serial>[A-Z0-9]{12,50})'
resend = "300ms"
debounce = "10s"
reply_pass = "PASS {serial}\r\n"
[product.thermostat]
deliver = "directory"
directory = "out"
"#,
    );
    let scanner = world.fixture("nest-1");
    world.start();
    world.becomes("/v1/status", "/fixtures/0/state", &json!("ready"));
    let monitor = monitor(&world, &["nest-1", "--json"]);
    let serial = &serials(41, 1)[0];
    // The first line after opening may be half of one.
    scanner.send_raw(b"half\r\n");
    scanner.send_raw(format!("]C1{serial}\r\n]C1{serial}\r\nlower case\r\n").as_bytes());
    monitor.stdout.wait_for("PASS");
    monitor.stdout.wait_for("does not match");
    let lines = json_lines(&interrupted(monitor));
    let read = lines.iter().find(|it| it["seen"] == "line" && it["direction"] == "in").unwrap();
    assert_eq!((&read["text"], &read["serial"]), (&json!(format!("]C1{serial}")), &json!(serial)));
    assert!(lines.iter().any(|it| it["seen"] == "duplicate"), "{lines:?}");
    let wrote = lines.iter().find(|it| it["seen"] == "line" && it["direction"] == "out").unwrap();
    assert_eq!(wrote["text"], format!("PASS {serial}\r\n"));
    let noise = lines.iter().find(|it| it["seen"] == "noise" && it["len"] == 10).unwrap();
    assert_eq!(noise["hex"], "6c6f7765722063617365");
    world.becomes("/v1/status", "/fixtures/0/duplicates", &json!(1));
}

#[test]
fn without_a_daemon_or_a_fixture_of_that_name_it_says_so() {
    let (world, _fixture) = World::running("");
    let socket = world.path("api.sock");
    let run = |socket: &std::path::Path| {
        Process::run(linemint(&["fixture", "monitor", "nest-7", "--socket"]).arg(socket))
    };
    let (status, _, err) = run(&socket);
    assert!(status == 1 && err.contains("the fixtures are nest-1"), "{status} {err}");
    assert_eq!(run(&world.path("none.sock")).0, 3);
}

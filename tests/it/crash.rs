//! Processes as a plant runs them, and what they bear: a fixture that comes back elsewhere. What
//! `kill -9` leaves is in `torture`.

use std::fs;
use std::time::Duration;

use linemint::rehearsal::cloud::CloudOptions;
use linemint::rehearsal::fixture::serials;
use serde_json::Value;

use crate::harness::{PATIENCE, Process, World, linemint, put};

/// Starts a simulated fixture for `serials` at the station's port.
fn fixture(world: &World, serials: &[String], more: &[&str]) -> Process {
    let list = world.path("serials");
    put(&list, serials.join("\n").as_bytes());
    let link = world.path("nest-1.tty");
    let mut command = linemint(&["fixture", "simulate", "--json", "--resend", "300ms"]);
    command.arg("--link").arg(&link).arg("--serials").arg(&list).args(more);
    let fixture = Process::start(&mut command);
    fixture.stdout.wait_for("ready");
    fixture
}

/// The fixture's report, once it is done. Each unit has one certificate, and the station has kept to
/// the protocol.
fn report(fixture: &mut Process) -> Value {
    assert!(fixture.ends_within(PATIENCE * 5), "{}", fixture.stderr.text());
    fixture.wait();
    let text = fixture.stdout.text();
    let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(report["violations"], Value::Array(Vec::new()), "{report:#}");
    assert_eq!(report["two_certificates"], Value::Array(Vec::new()));
    report
}

/// The peak of a process's memory, KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn three_processes_provision_thirty_devices_and_tell_it() {
    let mut cloud = Process::start(&mut linemint(&[
        "cloud",
        "simulate",
        "--listen",
        "127.0.0.1:0",
        "--quota",
        "unlimited",
    ]));
    let url = cloud.stdout.wait_for("listening on ").split_once("http://").unwrap().1.to_owned();
    let endpoints =
        format!("[aws]\niot_endpoint = \"http://{url}\"\nmanaged_integrations_endpoint = \"http://{url}\"\n");
    let mut world = World::new(&endpoints);
    let serials = serials(5, 30);
    let mut fixture = fixture(&world, &serials, &["--nests", "4"]);
    world.start();
    assert_eq!(report(&mut fixture)["passed"], 30);

    // The picture is painted some times a second.
    world.becomes("/v1/status", "/counts/passed", &30.into());
    let (status, out, log) = world.command(&["status", "--json"]);
    assert_eq!(status, 0, "{log}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["station"], &told["counts"]["passed"]), (&"IT".into(), &30.into()));
    let (status, out, log) = world.command(&["device", "show", &serials[0], "--json"]);
    assert_eq!(status, 0, "{log}");
    let device: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&device["serial"], &device["state"]), (&serials[0].clone().into(), &"passed".into()));
    let events = device["history"].as_array().unwrap().iter().map(|it| it["event"].as_str().unwrap());
    let events: Vec<&str> = events.collect();
    for event in ["admitted", "issued", "step-done", "offered", "passed", "key-destroyed"] {
        assert!(events.contains(&event), "{event} is not among {events:?}");
    }
    let (status, out, _) = world.command(&["device", "list", "--state", "passed"]);
    assert_eq!((status, out.lines().count()), (0, 31), "{out}");
    let audit = audit(&url, &serials);
    assert_eq!(audit["ok"], true, "{audit:#}");
    cloud.signal(rustix::process::Signal::TERM);
    assert_eq!(cloud.wait(), 0);
}

/// What `POST /__audit` answers.
fn audit(address: &str, serials: &[String]) -> Value {
    use std::io::{Read as _, Write as _};
    let body = serials.join("\n");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head =
        format!("POST /__audit HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}", body.len());
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn noise_duplicates_and_hang_ups_are_asked_for_one_by_one() {
    let mut world = World::new("[[fixture]]\nresend = \"300ms\"\n");
    let serials = serials(9, 12);
    world.start();
    let asked = ["--noise", "0.3", "--duplicates", "0.3", "--hang-ups", "0.5"];
    let mut fixture = fixture(&world, &serials, &asked);
    let report = report(&mut fixture);
    assert_eq!((&report["passed"], &report["resets"]), (&12.into(), &0.into()), "{report:#}");
    let count = |it: &Value| it.as_u64().unwrap();
    let frames = &report["frames"];
    assert!(count(&frames["noise"]) > 0 && count(&frames["duplicates"]) > 0, "{report:#}");
    assert!(count(&report["hang_ups"]) > 0, "{report:#}");
    world.eventually("the station has opened the port again", |world| {
        let status = world.get("/v1/status").map_err(|it| it.to_string())?;
        let reopens = status["fixtures"][0]["reopens"].as_u64();
        if reopens >= Some(1) { Ok(()) } else { Err(format!("{reopens:?}")) }
    });
    world.assert_audit(&serials);
}

#[test]
fn hang_ups_without_a_link_are_refused_or_said_to_be_missing() {
    let (status, _, log) = Process::run(&mut linemint(&["fixture", "simulate", "--hang-ups", "0.5"]));
    assert!(status == 2 && log.contains("--link"), "{status}: {log}");
    let mut fixture = Process::start(&mut linemint(&["fixture", "simulate", "--faults", "mild"]));
    fixture.stdout.wait_for("ready");
    fixture.stderr.wait_for("without --link the port never vanishes");
    fixture.signal(rustix::process::Signal::TERM);
    fixture.wait();
}

#[test]
fn a_fixture_that_comes_back_on_another_pty_goes_on() {
    let options = CloudOptions { rtt: Duration::from_millis(20), ..CloudOptions::default() };
    let mut world = World::with_cloud("[[fixture]]\nresend = \"300ms\"\n", options);
    let serials = serials(12, 12);
    world.start();
    let first = fixture(&world, &serials, &["--nests", "3"]);
    // In the middle: some have passed, some are in the nests.
    world.eventually("some devices have passed", |world| {
        let events = world.get("/v1/status").map_err(|it| it.to_string())?;
        match events["counts"]["passed"].as_u64() {
            Some(3..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    first.kill();
    // Its units have lost their memory, and have passed before or not.
    let mut second = fixture(&world, &serials, &["--nests", "3", "--seed", "99"]);
    assert_eq!(report(&mut second)["passed"], 12);
    world.assert_audit(&serials);
}

#[test]
fn three_hundred_devices_fit_into_eighty_mebibytes() {
    let mut world = World::new("");
    let serials = serials(13, 300);
    let mut fixture = fixture(&world, &serials, &["--nests", "8"]);
    world.start();
    assert_eq!(report(&mut fixture)["passed"], 300);
    let peak = peak_kib(world.station().pid());
    assert!(peak < 80 << 10, "the station took {peak} KiB");
    world.assert_audit(&serials);
}

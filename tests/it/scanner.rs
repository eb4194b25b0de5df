//! A barcode scanner at the station, and what it gives units: files in a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use linemint::pki::Fingerprint;
use linemint::rehearsal::fixture::{ScannerSimulation, SimulatedScanner, serials};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::harness::{Deadline, PATIENCE, Process, Watch, World, linemint, put};

/// The window is short, so that what was not answered can be scanned again soon.
const SCANNER: &str = r#"
[[fixture]]
driver = "scanner"
pattern = '(?:\][A-Za-z]\d)?(?<serial>[A-Z0-9]{12,50})'
resend = "300ms"
debounce = "400ms"
reply_ack = "\u0006"
reply_pass = "PASS {serial}\r\n"
reply_fail = "FAIL {serial} {code} {message}\r\n"
[product.thermostat]
deliver = "directory"
directory = "out"
"#;

/// An operator who scans again soon what was not answered.
fn operator(world: &World, serials: &[String]) -> ScannerSimulation {
    ScannerSimulation {
        wants_verdict: true,
        rescan: Duration::from_millis(700),
        max_tries: 200,
        link: Some(world.path("nest-1.tty")),
        ..ScannerSimulation::new(serials.to_vec())
    }
}

fn open(world: &World, options: ScannerSimulation) -> SimulatedScanner {
    world.within(PATIENCE, async { SimulatedScanner::open(options) }).unwrap().unwrap()
}

/// A simulated scanner in a process of its own, which waits for ACK and verdict.
fn process(world: &World, serials: &[String], more: &[&str]) -> Process {
    let list = world.path("serials");
    put(&list, serials.join("\n").as_bytes());
    let mut command = linemint(&["fixture", "simulate", "--driver", "scanner", "--json", "--wait-for-ack"]);
    command.args(["--verdicts", "--rescan", "700ms", "--link"]).arg(world.path("nest-1.tty"));
    command.arg("--serials").arg(&list).args(more);
    let scanner = Process::start(&mut command);
    scanner.stdout.wait_for("ready");
    scanner
}

/// Its report, once it is done: every unit has passed.
fn assert_all_passed(scanner: &mut Process, units: usize) {
    assert!(scanner.ends_within(PATIENCE * 5), "{}", scanner.stdout.text());
    assert_eq!(scanner.wait(), 0, "{}", scanner.stdout.text());
    let report: Value = serde_json::from_str(scanner.stdout.text().lines().last().unwrap()).unwrap();
    assert_eq!((&report["passed"], &report["failed"]), (&json!(units), &json!([])), "{report}");
}

#[test]
fn a_scanner_whose_cable_is_pulled_goes_on() {
    let mut world = World::new(SCANNER);
    let serials = serials(33, 6);
    let mut scanner =
        process(&world, &serials, &["--hang-ups", "1", "--noise", "0.5", "--duplicates", "0.5"]);
    world.start();
    assert_all_passed(&mut scanner, 6);
    let text = scanner.stdout.text();
    let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(report["hang_ups"], 6, "{report}");
    assert!(report["noise"].as_u64() > Some(0) && report["duplicates"].as_u64() > Some(0), "{report}");
    check_directory(&world, &serials);
}

/// Lets it scan everything.
fn scan_all(world: &World, scanner: &mut SimulatedScanner) {
    let done = world.within(PATIENCE, scanner.run());
    let report = scanner.report();
    assert!(matches!(done, Some(Ok(()))) && report.is_clean(), "{report:#?}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

/// Whether the device's folder is whole: modes, hashes, a certificate of the CA's with the serial number as its
/// name, and the private key that belongs to it. Its fingerprint.
fn check_folder(world: &World, serial: &str) -> String {
    let folder = world.path("out").join(serial);
    assert_eq!(mode(&folder), 0o700);
    let manifest = manifest(&folder);
    assert_eq!((&manifest["serial"], &manifest["station"]), (&json!(serial), &json!("IT")));
    let files = manifest["files"].as_object().unwrap();
    assert_eq!(files.len(), 2, "{files:?}");
    for (name, sha256) in files {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
        let content = fs::read(folder.join(name)).unwrap();
        assert_eq!(sha256.as_str().unwrap(), Fingerprint::of(&content).to_string(), "{name}");
    }
    assert_eq!(mode(&folder.join("manifest.json")), 0o600);
    let pem = fs::read(folder.join("certificate.pem")).unwrap();
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(&pem).map(Result::unwrap).collect();
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let name = leaf.subject().iter_common_name().next().unwrap().as_str().unwrap();
    assert_eq!(name, serial);
    let ca_pem = fs::read(world.path("ca/ca.pem")).unwrap();
    let ca = CertificateDer::from_pem_slice(&ca_pem).unwrap();
    let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
    leaf.verify_signature(Some(ca.public_key())).unwrap();
    let key = PrivatePkcs8KeyDer::from_pem_slice(&fs::read(folder.join("private_key.pem")).unwrap()).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_pkcs8_der()).unwrap();
    assert_eq!(key.public_key().as_ref(), &*leaf.public_key().subject_public_key.data);
    let fingerprint = Fingerprint::of(&chain[0]).to_string();
    assert_eq!(manifest["fingerprint"], json!(fingerprint));
    fingerprint
}

/// Nothing lies in the directory but a folder for each serial number.
fn check_directory(world: &World, serials: &[String]) {
    let mut found: Vec<String> = fs::read_dir(world.path("out"))
        .unwrap()
        .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    let mut wanted = serials.to_vec();
    wanted.sort();
    assert_eq!(found, wanted);
}

/// No private key is left at the station, sooner or later.
fn keys_are_gone(world: &World) {
    world.eventually("every private key is destroyed", |world| match world.private_keys().len() {
        0 => Ok(()),
        left => Err(left),
    });
}

#[test]
fn scanned_units_pass_and_lie_in_the_directory() {
    let mut world = World::new(SCANNER);
    let serials = serials(31, 12);
    let looks = ["--terminator", "crlf", "--prefix", "]C1", "--framed", "--faults", "mild"];
    let mut scanner = process(&world, &serials, &looks);
    world.start();
    assert_all_passed(&mut scanner, 12);
    check_directory(&world, &serials);
    for serial in &serials {
        check_folder(&world, serial);
    }
    keys_are_gone(&world);
    world.assert_audit(&serials);
    let device = world.get(&format!("/v1/devices/{}", serials[0])).unwrap();
    assert_eq!(device["state"], json!("passed"), "{device}");
    // No private key is told anywhere but in its file.
    let log = world.station().stderr.text();
    assert!(!log.contains("PRIVATE KEY"));
}

#[test]
fn killed_again_and_again_it_delivers_each_device_once() {
    let mut world = World::new(SCANNER);
    let serials = serials(32, 30);
    fs::create_dir(world.path("out")).unwrap();
    let out = Watch::on(&world.path("out"));
    let mut scanner = process(&world, &serials, &["--faults", "hard", "--seed", "5"]);
    world.start();
    // A change of the directory is a temporary folder that comes, or one that gets its name: the kill falls
    // between any two steps of a delivery.
    for round in 0..8 {
        out.wait_for(1 + round % 5, Duration::from_secs(5));
        world.kill9();
        world.start();
    }
    assert_all_passed(&mut scanner, serials.len());
    check_directory(&world, &serials);
    for serial in &serials {
        check_folder(&world, serial);
        let device = world.get(&format!("/v1/devices/{serial}")).unwrap();
        assert_eq!(device["certificates_issued"], json!(1), "{device}");
    }
    keys_are_gone(&world);
    world.assert_audit(&serials);
}

#[test]
fn a_directory_that_is_not_there_is_waited_for_and_told() {
    let over = SCANNER
        .replace("directory = \"out\"", "directory = \"share/out\"")
        .replace("resend", "patience = \"1s\"\nresend");
    let mut world = World::new(&over);
    let serials = serials(33, 3);
    let mut scanner = open(&world, operator(&world, &serials));
    world.start();
    // Until the first unit has waited for longer than it may.
    let deadline = Deadline::after(PATIENCE);
    while scanner.report().last_failure.is_none() && !deadline.is_over() {
        let scanned = world.within(Duration::from_millis(2_500), scanner.run());
        assert!(scanned.is_none(), "nothing can have passed");
    }
    world.eventually("the status tells it", |world| {
        let reasons = world.get("/v1/status").map_err(|it| it.to_string())?["reasons"].to_string();
        let told = reasons.contains("wait for the directory") && reasons.contains("is not there");
        if told { Ok(()) } else { Err(reasons) }
    });
    let failure = scanner.report().last_failure.unwrap();
    assert!(failure.starts_with(&format!("FAIL {} internal ", serials[0])), "{failure}");
    assert!(failure.contains("the directory"), "{failure}");
    // The share is mounted.
    fs::create_dir_all(world.path("share/out")).unwrap();
    scan_all(&world, &mut scanner);
    let lie = |it: &String| world.path("share/out").join(it).join("manifest.json").is_file();
    assert!(serials.iter().all(lie));
    keys_are_gone(&world);
    world.assert_audit(&serials);
}

#[test]
fn a_relative_directory_is_made_beside_a_configuration_that_is_named_without_its_own() {
    let world = World::new(SCANNER);
    let mut command = linemint(&["run", "--config", "linemint.toml"]);
    let _station = Process::start(command.current_dir(world.path("")));
    world.eventually("the directory is made", |world| match world.path("out").is_dir() {
        true => Ok(()),
        false => Err("it is not there"),
    });
    assert_eq!(mode(&world.path("out")), 0o700);
}

#[test]
fn what_is_in_one_devices_way_delays_no_other() {
    let mut world = World::new(&SCANNER.replace("resend", "patience = \"4s\"\nresend"));
    let serials = serials(34, 2);
    let foreign = world.path("out").join(&serials[0]);
    fs::create_dir_all(&foreign).unwrap();
    put(&foreign.join("notes.txt"), b"mine");
    let rescan = Duration::from_secs(6);
    let mut scanner = open(&world, ScannerSimulation { max_tries: 2, rescan, ..operator(&world, &serials) });
    world.start();
    assert!(matches!(world.within(PATIENCE, scanner.run()), Some(Ok(()))));
    assert_eq!(scanner.report().failed, [serials[0].clone()], "{:#?}", scanner.report());
    check_folder(&world, &serials[1]);
    assert_eq!(fs::read(foreign.join("notes.txt")).unwrap(), b"mine");
    // A person clears the way and says so.
    fs::remove_dir_all(&foreign).unwrap();
    let (status, out, log) = world.command(&["device", "retry", &serials[0], "--reason", "moved it away"]);
    assert_eq!(status, 0, "{out}{log}");
    world.becomes(&format!("/v1/devices/{}", serials[0]), "/state", &json!("passed"));
    check_folder(&world, &serials[0]);
    world.assert_audit(&serials);
}

#[test]
fn an_instrument_is_asked_for_its_serial_number() {
    let over = SCANNER.replace("reply_ack", "poll = \"SYST:SER?\\n\"\npoll_interval = \"100ms\"\n#");
    let mut world = World::new(&over);
    let serials = serials(35, 4);
    let options = ScannerSimulation {
        query: Some("SYST:SER?".to_owned()),
        terminator: "\n".to_owned(),
        ..operator(&world, &serials)
    };
    let mut instrument = open(&world, options);
    world.start();
    scan_all(&world, &mut instrument);
    check_directory(&world, &serials);
    world.assert_audit(&serials);
    let device = world.get(&format!("/v1/devices/{}", serials[0])).unwrap();
    assert_eq!(
        device["presentations"],
        json!(1),
        "asked ten times a second, it is one presentation: {device}"
    );
}

#[test]
fn a_fixture_of_the_protocol_may_leave_the_storing_to_the_directory() {
    let (world, mut fixture) =
        World::running("[product.thermostat]\ndeliver = \"directory\"\ndirectory = \"out\"\n");
    let serial = &serials(36, 1)[0];
    fixture.send(&json!({ "type": "unit", "id": 1, "serial": serial, "nest": "a" }));
    fixture.expect(&json!({ "type": "ack", "id": 1 }));
    fixture.expect(&json!({ "type": "pass", "id": 1, "serial": serial, "again": null }));
    let fingerprint = check_folder(&world, serial);
    // It holds what lies there, and says so.
    fixture.send(&json!({ "type": "unit", "id": 2, "serial": serial, "nest": "a", "holds": fingerprint }));
    fixture.expect(&json!({ "type": "pass", "id": 2, "serial": serial, "again": true }));
    let names = ["certificate.pem", "manifest.json", "private_key.pem"];
    assert_eq!(world.files("out").len(), names.len());
    world.assert_audit(&[serial]);
}

#[test]
fn a_renewal_lies_beside_the_first_and_the_manifest_names_it() {
    let (world, mut fixture) = World::running(
        "[product.thermostat]\nrepeat = \"renew\"\ndeliver = \"directory\"\ndirectory = \"out\"\n",
    );
    let serial = &serials(37, 1)[0];
    for id in 1..=2 {
        fixture.send(&json!({ "type": "unit", "id": id, "serial": serial }));
        fixture.expect(&json!({ "type": "ack", "id": id }));
        fixture.expect(&json!({ "type": "pass", "id": id, "serial": serial }));
    }
    let folder = world.path("out").join(serial);
    let manifest = manifest(&folder);
    let newest = manifest["fingerprint"].as_str().unwrap();
    let der = |path: &Path| CertificateDer::from_pem_slice(&fs::read(path).unwrap()).unwrap();
    let first = Fingerprint::of(&der(&folder.join("certificate.pem"))).to_string();
    assert_eq!(Fingerprint::of(&der(&folder.join(newest).join("certificate.pem"))).to_string(), newest);
    assert_eq!(manifest["previous"], json!([first]));
    assert_ne!(first, newest);
    // The old one is retired once the new one is delivered.
    world.eventually("the account holds one certificate", |world| match world.audit(&[serial]) {
        it if it.ok => Ok(()),
        it => Err(it.problems),
    });
}

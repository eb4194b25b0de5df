//! The report of a running station: in every format, signed, and verified by somebody else's code.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Process, World, linemint, put};

/// Verifies a report the way its documentation says, without a line of linemint's.
const PYTHON: &str = r#"
import base64, json, sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
def unbase(text): return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
report = json.load(open(sys.argv[1], encoding="utf-8"))
signature = report.pop("signature")
key = serialization.load_pem_public_key(open(sys.argv[2], "rb").read())
header, made = signature["jws"].split("..")
head = json.loads(unbase(header))
assert head["alg"] == "ES256" and head["journal"] == report["journal"]["head_hash"], head
payload = json.dumps(report, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
message = header.encode() + b"." + base64.urlsafe_b64encode(payload).rstrip(b"=")
made = unbase(made)
assert len(made) == 64
dss = encode_dss_signature(int.from_bytes(made[:32], "big"), int.from_bytes(made[32:], "big"))
key.verify(dss, message, ec.ECDSA(hashes.SHA256()))
point = key.public_numbers()
assert unbase(signature["key"]["x"]) == point.x.to_bytes(32, "big")
assert unbase(signature["key"]["y"]) == point.y.to_bytes(32, "big")
print("verified")
"#;

/// Whether Python's `cryptography` says that the signature holds; none where there is no such thing.
fn verified_by_python(report: &Path, key: &Path) -> Option<bool> {
    let has = Command::new("python3").args(["-c", "import cryptography"]).output();
    if !has.is_ok_and(|it| it.status.success()) {
        return None;
    }
    let output = Command::new("python3").arg("-c").arg(PYTHON).args([report, key]).output().unwrap();
    Some(output.status.success() && output.stdout == b"verified\n")
}

#[test]
fn a_shift_is_reported_signed_and_verified_elsewhere() {
    let (world, mut fixture) = World::running("");
    let serials: Vec<String> = (1..=12).map(|it| format!("SN{it:010}")).collect();
    for (id, serial) in (1..).zip(&serials) {
        fixture.provision(id, serial);
    }
    let report = |args: &[&str]| world.command(&[&["report"], args].concat());
    let (status, text, log) = report(&[]);
    assert_eq!(status, 0, "{text}\n{log}");
    assert!(text.contains("BALANCES: 12 presented, 12 good, 0 not"), "{text}");
    let (status, text, log) = report(&["--reconcile"]);
    assert_eq!(status, 0, "{text}\n{log}");
    let (report_part, cloud_part) = text.split_once("\nAgainst the cloud\n").unwrap();
    assert!(report_part.contains("BALANCES") && cloud_part.contains("12"), "{text}");
    assert_eq!(world.command(&["device", "list", "--shift", "current"]).1.lines().count(), 13);
    let path = world.path("report.json");
    let file = path.to_str().unwrap();
    assert_eq!(report(&["--format", "json", "--output", file]).0, 0);
    let said: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(said["balance"]["first_pass"], 12);
    assert_eq!(said["certificates"]["keys_destroyed"], 12);
    assert!(said["quota"]["operations"].as_array().is_some_and(|it| !it.is_empty()), "{said:#}");
    let (status, csv, _) = report(&["--format", "csv"]);
    assert_eq!((status, csv.lines().count()), (0, 13), "{csv}");
    assert!(serials.iter().all(|it| csv.contains(&format!("\n{it},first-pass,passed,"))), "{csv}");
    let (_, html, _) = report(&["--format", "html"]);
    assert!(html.starts_with("<!DOCTYPE html>"), "{html}");

    // On another machine there are the report and the public key.
    let elsewhere = tempfile::tempdir().unwrap();
    let (copy, key) = (elsewhere.path().join("a.json"), elsewhere.path().join("report.pub"));
    fs::copy(&path, &copy).unwrap();
    let made = world.files("state").into_iter().find(|it| it.ends_with("report.pub"));
    fs::copy(made.expect("the public key lies beside the seal key"), &key).unwrap();
    let verify = |file: &Path| {
        Process::run(&mut linemint(&[
            "report",
            "--verify",
            file.to_str().unwrap(),
            "--key",
            key.to_str().unwrap(),
        ]))
    };
    assert_eq!(verify(&copy).0, 0, "{}", verify(&copy).2);
    match verified_by_python(&copy, &key) {
        Some(holds) => assert!(holds, "Python's cryptography does not take the signature"),
        None => eprintln!(
            "SKIPPED: there is no Python with `cryptography` here; only linemint has verified the report"
        ),
    }
    let forged = fs::read_to_string(&copy).unwrap().replacen("\"first_pass\":12", "\"first_pass\":13", 1);
    put(&copy, forged.as_bytes());
    assert_eq!(verify(&copy).0, 1);
    assert_ne!(verified_by_python(&copy, &key), Some(true));

    // A correction names the one that it corrects.
    let (status, again, log) = report(&["--format", "json", "--corrects", file]);
    assert_eq!(status, 0, "{log}");
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["version"], 2);
    assert_eq!(again["corrects"].as_str().map(str::len), Some(64));
}

#[test]
fn without_a_daemon_there_is_no_report_and_a_batch_that_nobody_knows_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let (status, out, log) = Process::run(&mut linemint(&["report", "--socket", socket.to_str().unwrap()]));
    assert_eq!((status, out.as_str()), (3, ""), "{log}");
    let (world, _fixture) = World::running("");
    let (status, _, log) = world.command(&["report", "--batch", "WO-NONE"]);
    assert_eq!(status, 1, "{log}");
    let (status, _, log) = world.command(&["report", "--shift", "2026-11-22/nihgt"]);
    assert_eq!(status, 4, "{log}");
    assert!(log.contains("there is no shift"), "{log}");
}

//! The report of a running station: in every format, signed, and verified by somebody else's code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use linemint::cloud::{Call, CertificateStatus};
use serde_json::{Value, json};

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

/// Where the test below installs it.
fn environment() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("python")
}

/// A Python that has `cryptography`.
fn python() -> Option<PathBuf> {
    let installed = environment().join("bin/python3");
    [installed, PathBuf::from("python3")].into_iter().find(|it| {
        let has = Command::new(it).args(["-c", "import cryptography"]).output();
        has.is_ok_and(|it| it.status.success())
    })
}

/// Whether Python's `cryptography` says that the signature holds; none where there is no such thing.
fn verified_by_python(report: &Path, key: &Path) -> Option<bool> {
    let output = Command::new(python()?).arg("-c").arg(PYTHON).args([report, key]).output().unwrap();
    Some(output.status.success() && output.stdout == b"verified\n")
}

/// Installs `cryptography` in an environment of its own, if that can be had; why not.
fn install() -> Result<(), String> {
    let run = |command: &mut Command| match command.output() {
        Ok(it) if it.status.success() => Ok(()),
        Ok(it) => Err(String::from_utf8_lossy(&it.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    let dir = environment();
    run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"];
    run(Command::new(dir.join("bin/python3")).args(pip).args(["--timeout", "10", "cryptography"]))
}

#[test]
#[ignore = "installs Python's cryptography"]
fn the_signature_holds_for_an_independent_implementation() {
    if !environment().exists()
        && let Err(why) = install()
    {
        let instead = if python().is_some() { "the system's is taken" } else { "SKIPPED" };
        eprintln!("{instead}: Python's `cryptography` cannot be installed here: {why}");
        // What is half there would be taken for whole the next time.
        let _ = fs::remove_dir_all(environment());
        if python().is_none() {
            return;
        }
    }
    let (world, mut fixture) = World::running("");
    fixture.provision(1, "SN0000000001");
    let path = world.path("report.json");
    assert_eq!(world.command(&["report", "--format", "json", "--output", path.to_str().unwrap()]).0, 0);
    let key = world.files("state").into_iter().find(|it| it.ends_with("report.pub")).unwrap();
    assert_eq!(verified_by_python(&path, &key), Some(true));
    let forged = fs::read_to_string(&path).unwrap().replacen("\"total\":1", "\"total\":2", 1);
    put(&path, forged.as_bytes());
    assert_eq!(verified_by_python(&path, &key), Some(false));
    eprintln!("the signature holds for {}", python().unwrap().display());
}

#[test]
fn a_shift_is_reported_signed_and_verified_elsewhere() {
    let (world, mut fixture) = World::running("");
    let serials: Vec<String> = (1..=12).map(|it| format!("SN{it:010}")).collect();
    for (id, serial) in (1..).zip(&serials) {
        fixture.provision(id, serial);
    }
    // What was called in the present five minutes is told by the status, which is painted some times a second.
    world.settles(12);
    let report = |args: &[&str]| world.command(&[&["report"], args].concat());
    let (status, text, log) = report(&[]);
    assert_eq!(status, 0, "{text}\n{log}");
    assert!(text.contains("BALANCES: 12 presented, 12 good, 0 not"), "{text}");
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
fn a_report_is_held_against_the_account_and_says_what_differs_in_every_form() {
    let (world, mut fixture) = World::running("");
    for id in 1..=12 {
        fixture.provision(id, &format!("SN{id:010}"));
    }
    world.settles(12);
    let report = |args: &[&str]| world.command(&[&["report", "--reconcile"], args].concat());
    let (status, text, log) = report(&[]);
    assert_eq!(status, 0, "{text}\n{log}");
    assert!(text.contains("BALANCES: 12 presented"), "{text}");
    assert!(text.contains("THE CLOUD AGREES: 12 devices held against the account, no findings"), "{text}");
    assert!(text.contains("CLOUD, AS IT WAS AT"), "{text}");
    assert!(log.contains("12 of 12 devices held against the account"), "{log}");

    // Somebody deactivates one.
    let devices = world.get("/v1/devices?limit=20").unwrap();
    let seventh = &devices["devices"][6];
    assert_eq!(seventh["serial"], "SN0000000007");
    let id = seventh.pointer("/certificate/fingerprint").unwrap().as_str().unwrap().to_owned();
    world.aws(vec![Call::UpdateCertificate { id, status: CertificateStatus::Inactive }]);
    let path = world.path("report.json");
    let file = path.to_str().unwrap();
    let (status, _, log) = report(&["--format", "json", "--output", file]);
    assert_eq!(status, 1, "{log}");
    let said: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(said["balance"]["closes"], true);
    assert_eq!(said["cloud"]["agrees"], false, "{said:#}");
    assert_eq!(said["cloud"]["findings"], json!({ "inactive": 1 }));
    assert_eq!(said["cloud"]["devices"][0]["serial"], "SN0000000007");
    assert_eq!(Process::run(&mut linemint(&["report", "--verify", file])).0, 0, "it is signed with it");
    let (status, html, _) = report(&["--format", "html"]);
    assert_eq!(status, 1);
    assert!(
        html.contains("THE CLOUD DIFFERS: 12 devices held against the account, 1 finding (1 inactive)"),
        "{html}"
    );
    // Of other devices nobody has looked.
    let refused = world.get("/v1/report?since=2026-01-01T00:00:00Z&reconciled=true").unwrap_err();
    assert!(refused.to_string().contains("no look at the account"), "{refused}");
}

#[test]
fn without_a_daemon_there_is_no_report_and_a_batch_that_nobody_knows_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let (status, out, log) = Process::run(&mut linemint(&["report", "--socket", socket.to_str().unwrap()]));
    assert_eq!((status, out.as_str()), (3, ""), "{log}");
    let (world, _fixture) = World::running("");
    let (status, _, log) = world.command(&["report", "--batch", "WO-NONE"]);
    assert_eq!(status, 4, "{log}");
    let (status, _, log) = world.command(&["report", "--shift", "2026-11-22/nihgt"]);
    assert_eq!(status, 4, "{log}");
    assert!(log.contains("there is no shift"), "{log}");
}

//! `linemint rehearse`: a newcomer's first command.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Process, linemint};

#[test]
fn thirty_devices_pass_on_a_hard_day() {
    let args = [
        "--devices",
        "30",
        "--faults",
        "hard",
        "--seed",
        "3",
        "--quota",
        "unlimited",
        "--rtt",
        "0",
        "--json",
    ];
    let (status, out, log) = Process::run(linemint(&["rehearse"]).args(args));
    assert_eq!(status, 0, "{out}\n{log}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["ok"], &report["passed"]), (&Value::Bool(true), &Value::from(30)));
    assert!(report["throttled"].as_u64().unwrap() > 0, "nothing went wrong on that day");
}

#[test]
fn what_is_kept_can_be_read_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let keep = dir.path().join("kept");
    let kept = keep.to_str().unwrap();
    let args = ["rehearse", "--devices", "5", "--quota", "unlimited", "--rtt", "0", "--keep", kept];
    let (status, out, log) = Process::run(&mut linemint(&args));
    assert_eq!(status, 0, "{out}\n{log}");
    assert!(out.contains("PASS"), "{out}");
    for name in [
        "linemint.toml",
        "rehearsal.txt",
        "report.txt",
        "report.csv",
        "report.html",
        "journal",
        "ledger.jsonl",
    ] {
        assert!(keep.join(name).exists(), "{name} is missing");
    }
    let read = |name: &str| serde_json::from_slice::<Value>(&fs::read(keep.join(name)).unwrap()).unwrap();
    assert_eq!(read("rehearsal.json")["passed"], 5);
    let report = read("report.json");
    assert_eq!(report["balance"]["closes"], true, "{report:#}");
    assert_eq!((&report["balance"]["total"], &report["balance"]["first_pass"]), (&5.into(), &5.into()));
    assert_eq!(report["certificates"]["active"], 5);
    let lines = fs::read_to_string(keep.join("report.csv")).unwrap();
    assert_eq!(lines.lines().count(), 6, "{lines}");
    let (file, key) = (keep.join("report.json"), keep.join("report.pub"));
    let verify = ["report", "--verify", file.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let (status, said, log) = Process::run(&mut linemint(&verify));
    assert_eq!(status, 0, "{said}\n{log}");
    let config = keep.join("linemint.toml");
    let checked = Process::run(&mut linemint(&["check-config", "--config", config.to_str().unwrap()]));
    assert_eq!(checked.0, 0, "{}", checked.2);
    // A directory that holds something is left alone.
    assert_ne!(Process::run(&mut linemint(&args)).0, 0);
}

#[test]
fn a_report_may_be_read_alike_in_all_formats_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let keep = dir.path().join("kept");
    let args = ["rehearse", "--devices", "1", "--quota", "unlimited", "--rtt", "0", "--keep"];
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "umask 077; exec \"$0\" \"$@\""])
        .arg(linemint(&[]).get_program())
        .args(args)
        .arg(&keep);
    let (status, out, log) = Process::run(&mut shell);
    assert_eq!(status, 0, "{out}\n{log}");
    for format in ["csv", "html", "txt", "json"] {
        let mode = fs::metadata(keep.join(format!("report.{format}"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644, "{format}");
    }
}

#[test]
fn a_rehearsal_of_what_is_no_configuration_ends_with_78() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bad.toml");
    crate::harness::put(&config, b"[station]\nid = 5\n");
    let (status, _, log) = Process::run(&mut linemint(&["rehearse", "--config", config.to_str().unwrap()]));
    assert_eq!(status, 78, "{log}");
    let nope = dir.path().join("nope.toml");
    let (status, _, log) = Process::run(&mut linemint(&["rehearse", "--config", nope.to_str().unwrap()]));
    assert_eq!(status, 78, "{log}");
    assert!(log.contains("the configuration file") && log.contains("nope.toml"), "{log}");
}

/// Names other than the serial number, a CA that AWS knows, a policy that is there, no certificate in the
/// cloud, work orders: what is shipped, and what a station may turn it into.
#[test]
fn any_right_configuration_can_be_rehearsed() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let minimal = fs::read_to_string(shipped.join("minimal.toml")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    fs::copy(shipped.join("policies/thermostat.json"), dir.path().join("policies/thermostat.json")).unwrap();
    let with = |name: &str, from: &str, to: &str| {
        assert!(minimal.contains(from), "{from}");
        let path = dir.path().join(name);
        crate::harness::put(&path, minimal.replacen(from, to, 1).as_bytes());
        path
    };
    let policy = minimal.lines().find(|it| it.starts_with("policy")).unwrap();
    let configurations = [
        shipped.join("linemint.toml"),
        shipped.join("minimal.toml"),
        shipped.join("shared-policy.toml"),
        with("given.toml", policy, "policy = { scope = \"given\", name = \"plant\" }"),
        with("jitp.toml", "certificate = {}", "certificate = { register = \"jitp\" }"),
        with("mac.toml", "certificate = {}", "certificate = {}\nthing = \"{mac}-{serial}\""),
    ];
    for path in &configurations {
        let args =
            ["--devices", "6", "--quota", "unlimited", "--rtt", "0", "--config", path.to_str().unwrap()];
        let (status, out, log) = Process::run(linemint(&["rehearse"]).args(args));
        assert_eq!(status, 0, "{}: {out}\n{log}", path.display());
    }
}

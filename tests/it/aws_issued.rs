//! Certificates that AWS issues: the whole station on the worst of days, and not one certificate too many.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Process, linemint};

/// A rehearsal of the shipped configuration in which AWS issues.
fn rehearsal(seed: u64, devices: u32) -> Value {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/aws-issued.toml");
    let (seed, devices) = (seed.to_string(), devices.to_string());
    let args = ["--devices", &devices, "--faults", "hard", "--seed", &seed, "--quota", "unlimited"];
    let mut command = linemint(&["rehearse", "--config", config.to_str().unwrap()]);
    let (status, out, log) = Process::run(command.args(args).args(["--rtt", "0", "--json"]));
    assert_eq!(status, 0, "seed {seed}: {out}\n{log}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn no_orphan_is_left_whatever_goes_wrong() {
    let mut unanswered = 0;
    for seed in 1..=5 {
        let report = rehearsal(seed, 8);
        assert_eq!((&report["ok"], &report["passed"]), (&Value::Bool(true), &Value::from(8)), "{report}");
        for audit in report["audits"].as_array().unwrap() {
            assert_eq!(audit["certificates"], 8, "seed {seed}: {audit}");
            assert_eq!(audit["orphans"]["issued_unattached"], 0, "seed {seed}: {audit}");
            unanswered += audit["calls"]["create-certificate-from-csr"]["errors"].as_u64().unwrap();
        }
    }
    assert!(unanswered > 0, "nothing went wrong in five hard days");
}

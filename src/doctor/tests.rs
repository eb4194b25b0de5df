//! A configuration to look at, and the doctor as a whole.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::run::{Surroundings, run};
use super::*;
use crate::clock::{Now, SystemClock, TimeSource, made_at};
use crate::config::Config;
use crate::fixture::port::tests::tree::{FTDI, Tree};
use crate::timesync::Keepers;

const POLICY: &str = include_str!("../../config/policies/thermostat.json");

/// Writes a configuration into `dir`, with a CA; `product` is added to its product.
pub(crate) fn write(dir: &Path, product: &str) -> std::path::PathBuf {
    let put = |name: &str, mode, text: &str| {
        crate::durable_fs::replace(&dir.join(name), mode, text.as_bytes()).unwrap()
    };
    let root = crate::pki::authority::make_root("Line 3", made_at()).unwrap();
    put("ca.pem", 0o644, &root.certificate_pem);
    put("ca.key", 0o600, &root.key_pem);
    put("policy.json", 0o644, POLICY);
    let text = format!(
        "[station]\nid = \"DOC\"\n[journal]\ndir = \"state/journal\"\nmin_free = \"1MiB\"\n[api]\nsocket = \"api.sock\"\n\
         [aws]\nregion = \"eu-west-1\"\niot_endpoint = \"http://127.0.0.1:1\"\n\
         managed_integrations_endpoint = \"http://127.0.0.1:1\"\n\
         [pki]\nca_certificate = \"ca.pem\"\nca_key = \"ca.key\"\n\
         [[fixture]]\nname = \"nest-1\"\nport = \"dev/serial/by-id/usb-FTDI_A1-if00-port0\"\nproduct = \"thermostat\"\n\
         [product.thermostat]\nserial = \"^[A-Z0-9]{{12,50}}$\"\npolicy = {{ document = \"policy.json\" }}\n\
         certificate = {{}}\n{product}"
    );
    put("linemint.toml", 0o644, &text);
    dir.join("linemint.toml")
}

pub(crate) fn config_with(dir: &Path, product: &str) -> Config {
    Config::load(&write(dir, product)).unwrap_or_else(|errors| panic!("{errors}"))
}

pub(super) fn config(dir: &Path) -> Config {
    config_with(dir, "")
}

/// A clock that stands still.
pub(super) struct Fixed(pub(super) Now);

impl TimeSource for Fixed {
    fn now(&self) -> Now {
        self.0
    }
}

fn around(tree: &Tree) -> Surroundings {
    Surroundings {
        system: tree.system(),
        keepers: Keepers::default(),
        clock: Arc::new(SystemClock::default()),
        credentials: Some(aws_credential_types::Credentials::for_tests()),
    }
}

fn ids(report: &Report) -> BTreeSet<&str> {
    report.checks.iter().map(|it| it.id).collect()
}

#[tokio::test]
async fn every_check_is_made_and_says_what_to_do() {
    let tree = Tree::new();
    tree.plug(&FTDI, Path::new("/dev/null"));
    let report = run(&write(&tree.path(""), ""), &around(&tree)).await;
    assert_eq!(ids(&report), CHECKS.iter().map(|it| it.id).collect());
    for finding in &report.checks {
        let troubled = matches!(finding.status, Verdict::Failed | Verdict::Warning);
        assert_eq!(finding.remedy.is_some(), troubled, "{finding:?}");
        assert!(!finding.detail.is_empty());
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_a_failed_check_and_all_others_are_skipped() {
    let tree = Tree::new();
    let path = write(&tree.path(""), "thign = \"x\"\n");
    let report = run(&path, &around(&tree)).await;
    assert_eq!(ids(&report), CHECKS.iter().map(|it| it.id).collect());
    assert!(!report.is_sound());
    let first = &report.checks[0];
    assert_eq!((first.id, first.status), ("configuration", Verdict::Failed));
    assert!(first.detail.contains("did you mean thing?"), "{first:?}");
    let others = report.checks[1..].iter().filter(|it| it.id != "clock");
    assert!(others.into_iter().all(|it| it.status == Verdict::Skipped));
}

#[tokio::test]
async fn a_clock_from_before_this_version_fails() {
    let tree = Tree::new();
    let early = made_at().checked_sub(jiff::SignedDuration::from_hours(1)).unwrap();
    let now = Now { wall: early, mono: std::time::Duration::ZERO };
    let around = Surroundings { clock: Arc::new(Fixed(now)), ..around(&tree) };
    let report = run(Path::new("/nonexistent/linemint.toml"), &around).await;
    let clock = report.checks.iter().find(|it| it.id == "clock").unwrap();
    assert_eq!(clock.status, Verdict::Failed);
    assert!(clock.detail.contains("before this version"), "{clock:?}");
}

#[test]
fn ids_are_kebab_case_and_never_twice() {
    let mut seen = BTreeSet::new();
    for check in CHECKS {
        assert!(seen.insert(check.id), "{}", check.id);
        assert!(check.id.bytes().all(|it| it.is_ascii_lowercase() || it == b'-'), "{}", check.id);
        assert!(check.about.ends_with('.'), "{}", check.id);
    }
}

#[test]
fn the_document_has_a_row_for_each_check() {
    let document = include_str!("../../docs/doctor.md");
    let rows: Vec<String> =
        CHECKS.iter().map(|it| format!("| `{}` | {} | {} |", it.id, it.name, it.about)).collect();
    let (_, section) = document.split_once("\n## The checks\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let table: Vec<&str> = section.lines().filter(|it| it.starts_with("| `")).collect();
    assert_eq!(table, rows, "the table should be:\n{}", rows.join("\n"));
}

//! `linemint fixture check` against fixtures as they are: the simulated one, that in Python, that in C.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use linemint::rehearsal::fixture::{FixtureOptions, SimulatedFixture};
use serde_json::Value;

use crate::harness::{Cable, Process, linemint, put};

/// The fixtures' period: short, and long enough for a busy machine.
const RESEND: Duration = Duration::from_millis(700);

/// Rules that need a person, or more than these fixtures show.
const MAY_BE_SKIPPED: [&str; 2] = ["boot-differs-after-reset", "fail-retry-true-comes-again"];

fn serials() -> Vec<String> {
    (0..12).map(|it| format!("SN{it:010}")).collect()
}

fn checked(port: &Path, more: &[&str]) -> (i32, Value) {
    let resend = format!("{}ms", RESEND.as_millis());
    let args = [
        "fixture",
        "check",
        port.to_str().unwrap(),
        "--yes",
        "--json",
        "--name",
        "nest-1",
        "--resend",
        &resend,
    ];
    let (status, stdout, stderr) = Process::run_within(
        &mut linemint(&[&args[..], &["--serial", "SN[0-9]{10}"], more].concat()),
        Duration::from_secs(240),
    );
    (status, serde_json::from_str(&stdout).unwrap_or_else(|it| panic!("{it}: {stdout}\n{stderr}")))
}

/// Nothing failed, and all was looked at that can be.
fn assert_sound((status, report): (i32, Value)) {
    let of = |wanted: &str| {
        let checks = report["checks"].as_array().unwrap().iter().filter(|it| it["status"] == wanted);
        checks.map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((status, of("failed")), (0, vec![]), "{report:#}");
    let unseen: Vec<_> =
        of("skipped").into_iter().filter(|it| !MAY_BE_SKIPPED.contains(&it.as_str())).collect();
    assert_eq!(unseen, [""; 0], "{report:#}");
}

#[test]
fn the_simulated_fixture_passes_the_check() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = FixtureOptions {
        resend: RESEND,
        station_key: false,
        with_mac: true,
        ..FixtureOptions::new(serials())
    };
    let fixture = runtime.block_on(async { SimulatedFixture::start(options) }).unwrap();
    assert_sound(checked(fixture.port(), &["--key", "device"]));
    runtime.block_on(fixture.stop());
}

/// A directory with serial numbers, a cable, and room for what the units store.
struct Desk {
    dir: tempfile::TempDir,
    cable: Cable,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("serials"), serials().join("\n").as_bytes());
        fs::create_dir(dir.path().join("units")).unwrap();
        Self { dir, cable: Cable::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn kit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/fixture").join(name)
}

#[test]
fn the_fixture_in_python_passes_the_check() {
    let desk = Desk::new();
    let mut command = Command::new("python3");
    command
        .arg(kit("python/linemint_fixture.py"))
        .arg(desk.cable.ends()[1])
        .arg("--serials")
        .arg(desk.path("serials"));
    command.arg("--directory").arg(desk.path("units")).args(["--nests", "4", "--again-after", "0.2"]);
    command.args(["--resend", &RESEND.as_secs_f64().to_string()]).env("PYTHONDONTWRITEBYTECODE", "1");
    match Command::new("python3").arg("--version").stdout(Stdio::null()).status() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return eprintln!("SKIPPED: python3 is not installed");
        }
        _ => {}
    }
    let _fixture = Process::start(&mut command);
    assert_sound(checked(desk.cable.ends()[0], &["--key", "station"]));
}

#[test]
fn the_fixture_in_c_passes_the_check() {
    let desk = Desk::new();
    let example = desk.path("example");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let sources = ["sfp.c", "sfp_json.c", "sfp_write.c", "sha256.c", "example_posix.c"];
    let sources = sources.map(|it| kit("c").join(it));
    let built =
        Command::new(compiler).args(["-std=c99", "-O1", "-o"]).arg(&example).args(sources).status().unwrap();
    assert!(built.success());
    let mut command = Command::new(example);
    command.arg(desk.cable.ends()[1]).args(["nest-1", "4"]).arg(desk.path("serials")).arg(desk.path("units"));
    let _fixture = Process::start(command.arg(RESEND.as_millis().to_string()));
    assert_sound(checked(desk.cable.ends()[0], &["--key", "station"]));
}

#[test]
fn nobody_is_given_worthless_credentials_without_being_asked() {
    let (status, stdout, stderr) = Process::run(&mut linemint(&["fixture", "check", "/dev/null"]));
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("worthless") && stderr.contains("--yes"), "{stderr}");
}

#[test]
fn a_fixture_that_breaks_a_rule_is_told_and_the_status_says_so() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // It calls itself by another name, and has no units.
    let options = FixtureOptions { name: "nest-9".into(), resend: RESEND, ..FixtureOptions::new(Vec::new()) };
    let fixture = runtime.block_on(async { SimulatedFixture::start(options) }).unwrap();
    let (status, report) = checked(fixture.port(), &["--wait", "2s"]);
    let failed = report["checks"].as_array().unwrap().iter().filter(|it| it["status"] == "failed");
    let failed: Vec<_> = failed.map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!((status, failed), (1, vec!["hello-right", "unit-presented"]), "{report:#}");
    runtime.block_on(fixture.stop());
}

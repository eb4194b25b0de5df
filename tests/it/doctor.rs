//! The doctor, asked about a station that is there.

use std::fs;

use serde_json::Value;

use crate::harness::{Mode, Process, World, linemint};

/// The station has no udev rule, ModemManager or time server of its own: only what a test makes counts.
const OF_THE_MACHINE: [&str; 3] = ["clock", "journal-sync", "quotas"];

struct Asked {
    status: i32,
    checks: Vec<Value>,
}

impl Asked {
    fn of(world: &World) -> Self {
        let (status, out, log) = world.command(&["doctor", "--json"]);
        let document: Value =
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{log}"));
        Self { status, checks: document["checks"].as_array().unwrap().clone() }
    }

    /// The findings of a check, as status and detail.
    fn all(&self, id: &str) -> Vec<(&str, &str)> {
        let found = self.checks.iter().filter(|it| it["id"] == id);
        found.map(|it| (it["status"].as_str().unwrap(), it["detail"].as_str().unwrap())).collect()
    }

    fn one(&self, id: &str) -> (&str, &str) {
        match self.all(id).as_slice() {
            [one] => *one,
            other => panic!("{id}: {other:?} of {:#?}", self.checks),
        }
    }

    fn failed(&self) -> Vec<&str> {
        let failed = self.checks.iter().filter(|it| it["status"] == "failed");
        let mut ids: Vec<_> = failed.map(|it| it["id"].as_str().unwrap()).collect();
        ids.retain(|it| !OF_THE_MACHINE.contains(it));
        ids.dedup();
        ids
    }
}

#[test]
fn a_station_that_is_well_is_told_so_whether_it_runs_or_not() {
    let mut world = World::new("[aws]\naccount = \"123456789012\"\n");
    let mut fixture = world.fixture("nest-1");
    let asked = Asked::of(&world);
    assert_eq!(asked.failed(), [""; 0], "{:#?}", asked.checks);
    assert!(asked.one("daemon").1.starts_with("it does not run"));
    assert!(
        asked.one("aws-account").1.contains("123456789012, as configured"),
        "{:?}",
        asked.one("aws-account")
    );
    assert_eq!(asked.all("aws-endpoint").iter().filter(|it| it.0 == "ok").count(), 2);
    let allowed = asked.all("aws-permission").iter().filter(|it| it.0 == "ok").count();
    assert_eq!(allowed, 11, "{:?}", asked.all("aws-permission"));
    assert!(!world.path("state/journal").exists(), "nothing was made");
    world.start();
    fixture.hello("nest-1", 1);
    world.becomes("/v1/status", "/state", &Value::from("ready"));
    let asked = Asked::of(&world);
    assert_eq!(asked.failed(), [""; 0], "{:#?}", asked.checks);
    assert!(asked.one("daemon").1.ends_with("runs and is ready"), "{:?}", asked.one("daemon"));
    // Nobody was disturbed.
    fixture.provision(1, "SN0000000001");
    world.becomes("/v1/status", "/fixtures/0/reopens", &Value::from(0));
    world.assert_audit(&["SN0000000001"]);
}

#[test]
fn aws_out_of_reach_and_aws_that_denies_are_told_apart() {
    let mut world = World::new("");
    let _fixture = world.fixture("nest-1");
    world.set_cloud(Mode::Off);
    let asked = Asked::of(&world);
    assert_eq!((asked.status, asked.failed()), (1, vec!["aws-endpoint"]));
    assert_eq!(asked.one("aws-account").0, "skipped");
    world.set_cloud(Mode::Deny);
    let asked = Asked::of(&world);
    assert_eq!((asked.status, asked.failed()), (1, vec!["aws-permission"]));
    let denied = asked.all("aws-permission").iter().filter(|it| it.0 == "failed").count();
    assert!(denied >= 6, "{:?}", asked.all("aws-permission"));
    let remedies: Vec<_> = asked.checks.iter().filter_map(|it| it["remedy"].as_str()).collect();
    assert!(remedies.contains(&"allow iot:DescribeThing as `linemint check-config --iam` prints it"));
    world.set_cloud(Mode::Skew);
    assert_eq!(Asked::of(&world).failed(), ["aws-credentials"]);
}

#[test]
fn without_credentials_nothing_is_asked_of_aws() {
    let world = World::new("");
    let _fixture = world.fixture("nest-1");
    let config = world.path("linemint.toml");
    let mut command = linemint(&["doctor", "--config", config.to_str().unwrap()]);
    let (status, out, _) = Process::run(
        command
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env("HOME", "/nonexistent"),
    );
    assert_eq!(status, 1);
    assert!(out.contains("[FAIL] AWS credentials: ") && out.contains("\n       -> put them where"), "{out}");
    assert!(out.contains("[skip] AWS can be reached: there are no AWS credentials"), "{out}");
}

#[test]
fn what_is_wrong_here_is_told_with_a_remedy() {
    let world = World::new(
        "[aws]\naccount = \"999999999999\"\nregion = \"eu-central-1\"\n[journal]\nmin_free = \"900TiB\"\n",
    );
    fs::remove_file(world.path("ca/ca.key")).unwrap();
    let (status, out, log) = world.command(&["doctor"]);
    // The configuration names a key that is not there: that is its fault, and all else waits.
    assert_eq!(status, 1, "{log}");
    assert!(out.contains("[FAIL] configuration: ") && out.contains("pki.ca_key"), "{out}");
    let world = World::new(
        "[aws]\naccount = \"999999999999\"\nregion = \"eu-central-1\"\n[journal]\nmin_free = \"900TiB\"\n",
    );
    let asked = Asked::of(&world);
    assert_eq!(asked.status, 1);
    assert_eq!(asked.failed(), ["disk-free", "port", "region", "aws-account"], "{:#?}", asked.checks);
    assert!(asked.one("port").1.starts_with("there is no "));
    let troubled = asked.checks.iter().filter(|it| it["status"] == "failed" || it["status"] == "warning");
    assert!(troubled.into_iter().all(|it| it["remedy"].is_string()));
}

#[test]
fn ports_are_listed_and_none_is_opened() {
    let world = World::new("");
    let (status, out, log) = world.command(&["fixture", "list", "--json"]);
    assert_eq!(status, 0, "{log}");
    let list: Value = serde_json::from_str(&out).unwrap();
    assert!(list["ports"].is_array());
    assert_eq!(
        (&list["elsewhere"][0]["fixture"], &list["elsewhere"][0]["present"]),
        (&"nest-1".into(), &false.into())
    );
    let _fixture = world.fixture("nest-1");
    let (_, out, _) = world.command(&["fixture", "list"]);
    assert!(out.contains("nest-1") && out.contains("no hardware known"), "{out}");
}

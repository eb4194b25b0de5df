//! `linemint reconcile` from outside: an account with planted differences, all found and none invented;
//! repaired, also over a kill; and how long a look takes.

mod crowd;
mod order;
mod planted;
mod tampered;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use linemint::cloud::{Call, Operation, Quotas, Reply};
use linemint::device::Device;
use linemint::device::steps::Step;
use linemint::journal::store::{JournalLock, open};
use linemint::reconcile::{Class, Finding, Repair, Summary, Told, Wish};
use linemint::rehearsal::cloud::CloudOptions;
use linemint::rehearsal::fixture::{FixtureOptions, serials};
use serde_json::{Value, json};

use self::planted::Planted;
use crate::harness::{Deadline, PATIENCE, Process, Watch, World, linemint};

/// What a run has told.
#[derive(Debug, Default)]
struct Heard {
    findings: Vec<Finding>,
    repaired: Vec<(String, Class, Option<String>)>,
    summary: Option<Summary>,
    problem: Option<String>,
    progress: usize,
}

impl Heard {
    fn summary(&self) -> &Summary {
        self.summary.as_ref().unwrap_or_else(|| panic!("{:?}", self.problem))
    }

    /// Whose, and what.
    fn found(&self) -> BTreeSet<(Class, String)> {
        let found = self.findings.iter().map(|it| (it.class, it.serial.clone().unwrap_or_default()));
        let found: BTreeSet<_> = found.collect();
        assert_eq!(found.len(), self.findings.len(), "each once: {:#?}", self.findings);
        found
    }
}

/// Runs a reconciliation through the API; what was told until it ended or broke.
fn heard(world: &World, wish: &Wish, within: Duration) -> (Heard, bool) {
    let mut heard = Heard::default();
    let client = world.client();
    let followed = world.within(
        within,
        client.follow("/v1/reconcile", wish, |told: Told| {
            match told {
                Told::Progress { .. } => heard.progress += 1,
                Told::Finding(it) => heard.findings.push(*it),
                Told::Repaired { serial, class, done, why } => {
                    assert_eq!(done, why.is_none());
                    heard.repaired.push((serial, class, why));
                }
                Told::Summary(it) => heard.summary = Some(it),
                Told::Problem { detail, .. } => heard.problem = Some(detail),
            }
            true
        }),
    );
    (heard, followed.is_some_and(|it| it.is_ok()))
}

fn look(world: &World) -> Heard {
    let (heard, whole) = heard(world, &Wish::default(), PATIENCE);
    assert!(whole, "{heard:#?}");
    heard
}

fn repair() -> Wish {
    let reason = Some("a test says so".to_owned());
    Wish { repair: true, delete_extras: true, reason, ..Wish::default() }
}

/// What a station needs to pass devices quickly.
const PASSING: &str = "[[fixture]]\nresend = \"300ms\"\n";

/// A station that has passed these devices.
fn passed(serials: &[String], over: &str) -> World {
    passed_in(World::new(&format!("{PASSING}{over}")), serials)
}

fn passed_in(mut world: World, serials: &[String]) -> World {
    let fixture = world.simulated(FixtureOptions {
        nests: 8,
        resend: Duration::from_millis(300),
        link: Some(world.path("nest-1.tty")),
        ..FixtureOptions::new(serials.to_vec())
    });
    world.start();
    let done = world.within(PATIENCE * 5, fixture.wait_done());
    let report = fixture.report();
    assert!(done.is_some() && report.is_clean(), "{report:#?}");
    world.settles(serials.len());
    world
}

/// Plants `each` of every class; finds all of them and nothing else, repairs what can be, and finds the rest.
fn all_found_none_invented(each: usize, within: Duration) {
    let serials = serials(31, each * Planted::DEVICES + 20);
    let world = passed(&serials, "");
    assert_eq!(look(&world).found(), BTreeSet::new());

    let planted = Planted::plant(&world, &serials, each);
    let (seen, whole) = heard(&world, &Wish::default(), within);
    assert!(whole);
    assert_eq!(seen.found(), planted.all);
    assert!(seen.findings.iter().all(|it| !it.remedy.is_empty() && !it.expected.is_empty()));
    let summary = seen.summary();
    assert_eq!((summary.selected, summary.compared), (serials.len() as u64, serials.len() as u64));
    assert!(!summary.is_clean() && seen.progress > 0);

    let report = || world.get("/v1/report?since=2026-01-01T00:00:00Z").unwrap();
    let before = report();
    let (mended, whole) = heard(&world, &repair(), within);
    assert!(whole);
    let after = report();
    assert_eq!(after["balance"]["extras_deleted"], json!(each), "named apart");
    for figures in ["total", "scrapped", "sum", "first_pass"] {
        assert_eq!(after["balance"][figures], before["balance"][figures], "{figures} of what was presented");
    }
    assert_eq!(after["yields"], before["yields"]);
    let (status, csv, _) = world.command(&["report", "--since", "2026-01-01T00:00:00Z", "--format", "csv"]);
    assert_eq!((status, csv.lines().count()), (0, serials.len() + 1), "{csv}");
    assert_eq!(mended.found(), planted.all, "all is shown before it is repaired");
    let outcomes: BTreeMap<_, _> =
        mended.repaired.iter().map(|(serial, class, why)| ((*class, serial.clone()), why)).collect();
    assert!(outcomes.values().all(|it| it.is_none()), "{outcomes:#?}");
    assert_eq!(outcomes.keys().cloned().collect::<BTreeSet<_>>(), planted.repairable());

    let (again, whole) = heard(&world, &repair(), within);
    assert!(whole);
    assert_eq!(
        again.found(),
        &planted.all - &planted.repairable(),
        "what a person has to look at, and no more"
    );
    assert_eq!(again.repaired, Vec::new());
    planted.assert_left_alone(&world);
}

#[test]
fn what_is_planted_is_found_and_nothing_else_and_a_repair_ends_it() {
    all_found_none_invented(20, PATIENCE * 3);
}

#[test]
#[ignore = "minutes: 200 of each class"]
fn two_hundred_of_each_class_are_found_and_repaired() {
    all_found_none_invented(200, PATIENCE * 20);
}

/// Rounds after which all is repaired to its end, so that the same devices can lose something again.
const ROUNDS: usize = 8;

/// The station is killed in the middle of a repair, `kills` times, and started again. Each time there is something new
/// to repair, and the moment is told by the records of that: on a busy machine too it lies within the repair.
fn survives(kills: usize) {
    let serials = serials(32, Planted::DEVICES + ROUNDS * Planted::LOST);
    let options = CloudOptions { rtt: Duration::from_millis(40), ..CloudOptions::default() };
    let mut world = passed_in(World::with_cloud(PASSING, options), &serials);
    let (first, rest) = serials.split_at(Planted::DEVICES);
    let mut planted = Planted::plant(&world, first, 1);
    let mut random = fastrand::Rng::with_seed(kills as u64);
    let (mut hits, mut round) = (0, 0);
    while hits < kills && round < 2 * kills {
        if round > 0 && round.is_multiple_of(ROUNDS) {
            ends_what_was_begun(&world, &planted);
        }
        let losing = &rest[round % ROUNDS * Planted::LOST..][..Planted::LOST];
        let lost = planted.lose(&world, losing, round);
        let (log, before) = (Watch::on(&world.path("state/journal/log")), orders(&world));
        let config = world.path("linemint.toml");
        let args = ["reconcile", "--repair", "--delete-extras", "--config", config.to_str().unwrap()];
        let mut command = Process::start(&mut linemint(&args));
        let late = Deadline::after(PATIENCE);
        while orders(&world) == before && !late.is_over() {
            log.wait_for(1, late.left());
        }
        log.wait_for(random.u32(0..=5), Duration::from_secs(2));
        world.kill9();
        command.wait();
        hits += usize::from(was_being_repaired(&world, &lost));
        round += 1;
        world.start();
        world.eventually("it answers again", |world| world.get("/v1/status").map(|_| ()));
    }
    eprintln!("{hits} of {round} kills have hit a repair that was running");
    assert!(2 * hits >= kills, "{hits} of {round}: the test does not try what it is for");
    ends_what_was_begun(&world, &planted);
    planted.assert_left_alone(&world);
}

fn ends_what_was_begun(world: &World, planted: &Planted) {
    world.eventually("what was begun is finished", |world| {
        let (last, whole) = heard(world, &repair(), PATIENCE);
        let left = &planted.all - &planted.repairable();
        if whole && last.found() == left { Ok(()) } else { Err(last.found()) }
    });
}

/// How many repairs the journal says were ordered, also while the station runs.
fn orders(world: &World) -> usize {
    let logs = world.files("state/journal/log").into_iter().map(|it| fs::read(it).unwrap());
    let orders = ["mending", "orphan-found", "scrapping"].map(|it| format!("\"event\":\"{it}\""));
    let count = |log: Vec<u8>| {
        let text = String::from_utf8_lossy(&log).into_owned();
        orders.iter().map(|it| text.matches(it.as_str()).count()).sum::<usize>()
    };
    logs.map(count).sum()
}

/// Whether the journal of a station that does not run has an order about one of these that is not carried out.
fn was_being_repaired(world: &World, serials: &BTreeSet<String>) -> bool {
    let opened = open(JournalLock::take(&world.path("state/journal")).unwrap()).unwrap();
    let ordered = |it: &Device| it.mend.is_some() || it.to_retire().is_some() || it.is_scrapping();
    opened.recovered.pending.iter().any(|it| serials.contains(it.serial.as_str()) && ordered(it))
}

#[test]
fn a_kill_in_the_middle_of_a_repair_loses_nothing() {
    survives(4);
}

#[test]
#[ignore = "minutes: 50 kills"]
fn fifty_kills_in_the_middle_of_a_repair_lose_nothing() {
    survives(50);
}

#[test]
fn the_command_tells_findings_and_ends_with_the_contracts_statuses() {
    let serials = serials(33, 12);
    let mut world = passed(&serials, "");
    let (status, out, log) = world.command(&["reconcile"]);
    assert_eq!(status, 0, "{out}{log}");
    assert!(out.contains("12 devices selected, 12 compared") && out.contains("no findings"), "{out}");
    assert!(log.contains("12 of 12 devices held against the account"), "{log}");

    Planted::plant(&world, &serials, 1);
    let (status, out, _) = world.command(&["reconcile", "--repair", "--dry-run"]);
    assert_eq!(status, 1, "{out}");
    for class in Class::ALL {
        assert!(out.contains(class.as_str()), "{class} is not in {out}");
    }
    assert!(out.contains("makes again: ") && !out.contains("Repairs:"), "{out}");
    let (status, out, _) = world.command(&["reconcile", "--repair", "--reason", "left over", "--json"]);
    assert_eq!(status, 1);
    let lines: Vec<Value> = out.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["line"], "summary", "{out}");
    let mended = lines.iter().find(|it| it["line"] == "repaired" && it["class"] == "missing").unwrap();
    assert_eq!(mended["done"], json!(true), "{mended}");
    assert!(!lines.iter().any(|it| it["line"] == "repaired" && it["class"] == "extra"), "not asked for");
    let story = world.get(&format!("/v1/devices/{}", mended["serial"].as_str().unwrap())).unwrap();
    let began = story["history"].as_array().unwrap().iter().find(|it| it["event"] == "mending").unwrap();
    assert_eq!(began["by"]["reason"], "left over");
    assert_eq!(began["by"]["uid"], rustix::process::geteuid().as_raw());

    let (status, _, log) = world.command(&["reconcile", "--shift", "2026-11-21/nosuch"]);
    assert_eq!(status, 4, "{log}");
    let (status, _, log) = world.command(&["reconcile", "--batch", "nosuch"]);
    assert_eq!(status, 4, "{log}");
    assert!(log.contains("no device of this journal belongs to batch nosuch"), "{log}");
    let (status, out, log) = world.command(&["reconcile", "--since", "2200-01-01T00:00:00Z"]);
    assert_eq!(status, 0, "{log}");
    assert!(out.contains("0 devices selected"), "{out}");
    assert_eq!(world.command(&["reconcile", "--delete-extras"]).0, 2);
    world.kill9();
    assert_eq!(world.command(&["reconcile"]).0, 3);
}

#[test]
fn a_selection_is_read_one_by_one_and_an_outage_is_not_taken_for_a_difference() {
    let serials = serials(34, 6);
    let mut world = passed(&serials, "");
    let calls = |world: &World| world.cloud().stats().calls.clone();
    let before = calls(&world);
    let wish = Wish { selection: today(&world), ..Wish::default() };
    let (seen, whole) = heard(&world, &wish, PATIENCE);
    assert!(whole && seen.summary().is_clean(), "{seen:#?}");
    assert_eq!((seen.summary().compared, seen.summary().listed), (6, None));
    let after = calls(&world);
    let made = |it: &str| after.get(it).map_or(0, |it| it.ok) - before.get(it).map_or(0, |it| it.ok);
    assert_eq!((made("list-things"), made("describe-thing"), made("get-policy")), (0, 6, 6));
    assert_permitted(&world, seen.summary());
    assert_permitted(&world, look(&world).summary());

    world.set_cloud(crate::harness::Mode::Deny);
    let (seen, whole) = heard(&world, &wish, PATIENCE);
    assert!(whole && seen.findings.is_empty(), "{seen:#?}");
    assert!(seen.problem.is_some() && seen.summary.is_none(), "{seen:#?}");
}

#[test]
fn a_batchs_locker_is_expected_once_and_missing_when_somebody_has_deleted_it() {
    let over =
        "[product.thermostat]\nrequire_batch = true\nlocker = { scope = \"batch\", name = \"{batch}\" }\n";
    let (world, mut fixture) = World::running(over);
    for (at, batch) in (0..).zip(["WO-1", "WO-2"]) {
        let opened = world.command(&["batch", "open", batch, "--product", "thermostat", "--count", "2"]);
        assert_eq!(opened.0, 0, "{}", opened.2);
        for id in 1..=2 {
            fixture.provision(2 * at + id, &format!("SN{:010}", 2 * at + id));
        }
        assert_eq!(world.command(&["batch", "close", batch]).0, 0);
    }
    world.settles(4);
    // Another of that name is nobody's business here, and not the devices' locker twice.
    let planted = Call::CreateCredentialLocker {
        name: "WO-1".to_owned(),
        client_token: "planted".to_owned(),
        tags: BTreeMap::new(),
    };
    world.aws(vec![planted]);
    let seen = look(&world);
    assert_eq!((seen.found(), seen.summary().compared), (BTreeSet::new(), 4));
    assert_eq!(seen.summary().calls["get-credential-locker"], 2, "one for each batch");
    assert_permitted(&world, seen.summary());

    let locker = |serial: &str| {
        let device = world.get(&format!("/v1/devices/{serial}")).unwrap();
        device["locker_id"].as_str().unwrap().to_owned()
    };
    let id = locker("SN0000000001");
    assert_eq!(id, locker("SN0000000002"));
    world.aws(vec![Call::DeleteCredentialLocker { id: id.clone() }]);
    for wish in [Wish::default(), repair()] {
        let (seen, whole) = heard(&world, &wish, PATIENCE);
        assert!(whole);
        assert_eq!(seen.found(), BTreeSet::from([(Class::Missing, String::new())]));
        assert_eq!(seen.findings[0].resource, format!("locker {id}"));
        assert_eq!((&seen.findings[0].repair, seen.repaired.len()), (&None, 0));
    }
    let of_the_other = serde_json::from_value(json!({ "batch": "WO-2" })).unwrap();
    let (seen, whole) = heard(&world, &Wish { selection: of_the_other, ..Wish::default() }, PATIENCE);
    assert!(whole && seen.findings.is_empty() && seen.summary().compared == 2, "{seen:#?}");
}

#[test]
fn a_managed_thing_that_somebody_has_deleted_is_found_and_made_again() {
    let over = "[product.thermostat]\nupc = \"036000291452\"\nmanaged_thing = { role = \"device\" }\n";
    let (world, mut fixture) = World::running(over);
    let serials = ["SN0000000001", "SN0000000002", "SN0000000003"];
    for (id, serial) in (1..).zip(serials) {
        fixture.provision(id, serial);
    }
    world.settles(3);
    let seen = look(&world);
    assert_eq!((seen.found(), seen.summary().calls["get-managed-thing"]), (BTreeSet::new(), 3));
    assert_permitted(&world, seen.summary());

    // The newest id of a device's, as its records have it.
    let id = |serial: &str| {
        let device = world.get(&format!("/v1/devices/{serial}")).unwrap();
        let history = device["history"].as_array().unwrap().clone();
        let made =
            history.iter().rev().find(|it| it["event"] == "step-done" && it["step"] == "managed-thing");
        let output = &made.unwrap()["output"];
        output["id"].as_str().unwrap_or_else(|| panic!("{output}")).to_owned()
    };
    let gone = [id(serials[0]), id(serials[2])];
    world.aws(gone.iter().map(|id| Call::DeleteManagedThing { id: id.clone() }).collect());
    assert_eq!(world.cloud().managed_things().len(), 1);
    let planted = BTreeSet::from([0, 2].map(|it| (Class::HalfMade, serials[it].to_owned())));
    let (quick, whole) = heard(&world, &Wish { quick: true, ..Wish::default() }, PATIENCE);
    assert!(whole && quick.findings.is_empty(), "a quick look reads nothing one by one");
    let seen = look(&world);
    assert_eq!(seen.found(), planted);
    assert!(seen.findings[0].held.contains(&format!("the managed thing {}", gone[0])), "{seen:#?}");
    let (mended, whole) = heard(&world, &repair(), PATIENCE);
    assert!(whole && mended.summary().is_clean() && mended.repaired.len() == 2, "{mended:#?}");
    assert_eq!((look(&world).found(), world.cloud().managed_things().len()), (BTreeSet::new(), 3));
    assert_ne!(id(serials[0]), gone[0]);

    // A locker that is made again has another id, and the managed thing that is there goes on naming the old one.
    let locker = |serial: &str| {
        world.get(&format!("/v1/devices/{serial}")).unwrap()["locker_id"].as_str().unwrap().to_owned()
    };
    let old = locker(serials[1]);
    world.aws(vec![Call::DeleteCredentialLocker { id: old.clone() }]);
    let (mended, whole) = heard(&world, &repair(), PATIENCE);
    assert!(
        whole && mended.found() == BTreeSet::from([(Class::HalfMade, serials[1].to_owned())]),
        "{mended:#?}"
    );
    assert_eq!((mended.repaired.len(), look(&world).found()), (1, in_the_old_locker(serials[1])));
    let (seen, _) = heard(&world, &repair(), PATIENCE);
    let told = &seen.findings[0];
    assert_eq!(
        (seen.repaired.len(), told.resource.clone()),
        (0, format!("managed thing {}", id(serials[1])))
    );
    assert!(told.held.ends_with(&format!("names the locker {old}")), "{told:?}");
    assert!(told.remedy.contains(&format!("--credential-locker-id {}", locker(serials[1]))), "{told:?}");
    assert_eq!(world.command(&["device", "scrap", serials[0], "--reason", "it fell"]).0, 0);
    world.eventually("its managed thing is gone with it", |world| {
        match world.cloud().managed_things().len() {
            2 => Ok(()),
            other => Err(other),
        }
    });
}

/// That a managed thing names another locker than its device has.
fn in_the_old_locker(serial: &str) -> BTreeSet<(Class, String)> {
    BTreeSet::from([(Class::AttachedToAnother, serial.to_owned())])
}

/// Every call that was made is one that `check-config --iam` allows.
fn assert_permitted(world: &World, summary: &Summary) {
    let (status, out, log) = world.command(&["check-config", "--iam"]);
    assert_eq!(status, 0, "{log}");
    assert!(summary.calls.len() >= 7, "{:?}", summary.calls);
    for operation in summary.calls.keys() {
        let operation: Operation = operation.parse().unwrap();
        let action = format!("\"{}:{}\"", operation.service().iam_prefix(), operation.aws_name());
        assert!(out.contains(&action), "{action} is not in {out}");
    }
}

/// The shift `day` in which the journal's first device was admitted.
fn first_day(world: &World) -> String {
    let page = world.get("/v1/devices?limit=1").unwrap();
    let admitted = page["devices"][0]["admitted_at"].as_str().unwrap().to_owned();
    format!("{}/day", &admitted[..10])
}

/// The station's CA, for certificates that it signs behind the journal's back.
fn ca_of(world: &World) -> (String, String) {
    let read = |name: &str| fs::read_to_string(world.path("ca").join(name)).unwrap();
    (read("ca.pem"), read("ca.key"))
}

/// At AWS's default quotas, which the simulated account holds too: lists first, then attachments and documents.
#[test]
#[ignore = "minutes: measures 4,000 devices among 50,000"]
fn four_thousand_devices_among_fifty_thousand() {
    let serials = serials(35, 4_000);
    let mut world = World::with_cloud(
        "[aws.quota]\npreset = \"aws-default\"\n",
        CloudOptions { region: "eu-west-1".to_owned(), ..CloudOptions::default() },
    );
    crowd::write_journal(&world, &serials);
    crowd::gather(&world, 46_000);
    world.cloud().set_quotas(&Quotas::aws_default());
    world.start();
    world.eventually("it answers again", |world| world.get("/v1/status").map(|_| ()));

    let (seen, whole) = heard(&world, &Wish { quick: true, ..Wish::default() }, PATIENCE * 5);
    let summary = seen.summary();
    assert!(whole && summary.is_clean() && summary.compared == 4_000, "{summary:?}");
    eprintln!("existence and status of 4,000 among {:?} names: {} ms", summary.listed, summary.took_ms);
    // Unoptimized, on a busy machine, the processors are the limit and not the quotas.
    assert!(cfg!(debug_assertions) || summary.took_ms <= 30_000, "{summary:?}");

    let selection = serde_json::from_value(json!({ "batch": crowd::FEW })).unwrap();
    let wish = Wish { selection, ..Wish::default() };
    let (seen, whole) = heard(&world, &wish, PATIENCE * 2);
    let summary = seen.summary();
    assert!(whole && summary.is_clean() && summary.compared == 290, "{summary:?}");
    let share = summary.calls["get-policy"] as f64 / (summary.took_ms as f64 / 1000.0) / 10.0;
    eprintln!("documents and attachments of 290: {} ms, {share:.3} of the tightest quota", summary.took_ms);
    assert!(cfg!(debug_assertions) || share >= 0.9, "{summary:?}");
}

fn today(world: &World) -> linemint::reconcile::Selection {
    serde_json::from_value(json!({ "shift": first_day(world) })).unwrap()
}

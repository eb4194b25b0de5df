//! AWS cannot be reached for a while: units are taken in, certificates issued, and all is made up for later.

use std::time::Duration;

use linemint::clock::{SystemClock, TimeSource as _};
use linemint::rehearsal::cloud::CloudOptions;
use linemint::rehearsal::fixture::{FixtureOptions, SimulatedFixture, serials};
use serde_json::{Value, json};

use crate::harness::{Mode, PATIENCE, TestFixture, World};

/// Nests of the fixture that fills the backlog.
const NESTS: usize = 16;

/// What is to be gone through.
struct Outage {
    units: usize,
    /// How long a unit waits in its nest, as it is written in a configuration.
    patience: &'static str,
    seconds: u64,
    rtt: Duration,
}

/// A station at AWS's default quotas whose AWS is not there, with a fixture `nest-1` that presents all units
/// and a port for another one, `live`.
fn begin(it: &Outage) -> (World, SimulatedFixture, Vec<String>) {
    let Outage { units, patience, rtt, .. } = it;
    let over = format!(
        "[aws.quota]\npreset = \"aws-default\"\n\
         [[fixture]]\nresend = \"500ms\"\npatience = \"{patience}\"\n\
         [[fixture]]\nname = \"live\"\nport = \"live.tty\"\nproduct = \"thermostat\"\nresend = \"30s\"\n"
    );
    let mut world = World::with_cloud(&over, CloudOptions { rtt: *rtt, ..CloudOptions::default() });
    world.set_cloud(Mode::Off);
    let serials = serials(31, *units);
    let fixture = presents(&world, &serials, 1);
    world.start();
    (world, fixture, serials)
}

/// `nest-1`, which presents all of them again and again.
fn presents(world: &World, serials: &[String], seed: u64) -> SimulatedFixture {
    world.simulated(FixtureOptions {
        nests: NESTS,
        resend: Duration::from_millis(500),
        max_tries: 10_000,
        seed,
        link: Some(world.path("nest-1.tty")),
        ..FixtureOptions::new(serials.to_vec())
    })
}

/// Waits until all units are taken in and the oldest has waited for so long.
fn endure(world: &World, it: &Outage) {
    let span = PATIENCE + Duration::from_secs(it.seconds);
    world.eventually_within(span, "all are taken in, and AWS is away for long enough", |world| {
        let backlog = world.get("/v1/status").map_err(|error| error.to_string())?["backlog"].clone();
        let oldest_s = backlog["oldest_s"].as_u64().unwrap_or(0);
        let devices = world.get("/v1/devices?limit=1000").map_err(|error| error.to_string())?;
        let issued = |it: &Value| it["certificates_issued"] == 1 && it["state"] == "provisioning";
        let all = devices["devices"].as_array().is_some_and(|it| it.iter().all(issued));
        if backlog["devices"] == json!(it.units) && oldest_s >= it.seconds && all {
            Ok(())
        } else {
            Err(format!("{backlog} {devices}"))
        }
    });
    let (status, text, log) = world.command(&["status"]);
    assert_eq!(status, 0, "{log}");
    assert!(text.contains("  degraded  ") && text.contains("\nBacklog: buffered "), "{text}");
    assert!(text.contains(", oldest "), "{text}");
    // The board's figures, too: who was sent to the rack has not failed.
    assert!(text.contains(", failed 0, deferred "), "{text}");
    // What was under way when it was found out; then two services, each tried once in five to ten seconds
    // at last, and more often at first.
    let calls = calls(world);
    let most = 5 * NESTS as u64 + 20 + it.seconds;
    assert!(calls <= most, "{calls} calls in {} s for {} devices", it.seconds, it.units);
    let devices = world.get("/v1/devices?limit=1000").unwrap();
    let devices = devices["devices"].as_array().unwrap();
    assert_eq!(devices.len(), it.units);
    assert!(devices.iter().all(|it| it["certificates_issued"] == 1), "the CA needs no network");
    assert!(devices.iter().all(|it| it["state"] == "provisioning"), "nobody is given up");
}

/// Calls of all operations, answered or not.
fn calls(world: &World) -> u64 {
    let status = world.get("/v1/status").unwrap();
    let operations = status["operations"].as_array().unwrap().iter();
    operations.map(|it| it["calls"].as_u64().unwrap()).sum()
}

fn end(world: &World, fixture: &SimulatedFixture, serials: &[String]) {
    let ideal = Duration::from_secs(serials.len() as u64 / 10);
    let done = world.within(PATIENCE + 2 * ideal, fixture.wait_done());
    let report = fixture.report();
    assert!(done.is_some() && report.is_clean(), "{report:#?}");
    assert_eq!(report.passed, serials.len());
    world.becomes("/v1/status", "/backlog/buffered", &json!(0));
}

#[test]
fn some_seconds_without_aws_cost_no_device() {
    let outage = Outage { units: 24, patience: "1s", seconds: 4, rtt: CloudOptions::default().rtt };
    let (mut world, fixture, serials) = begin(&outage);
    endure(&world, &outage);
    world.set_cloud(Mode::On);
    end(&world, &fixture, &serials);
    world.assert_audit(&serials);
}

/// Passes so many units one after the other; how long each lay in its nest, sorted.
fn live(fixture: &mut TestFixture, first: u64, mut go_on: impl FnMut(u64) -> bool) -> Vec<Duration> {
    let clock = SystemClock::default();
    let mut took = Vec::new();
    for id in first.. {
        if !go_on(id - first) {
            break;
        }
        let begun = clock.now().mono;
        fixture.provision(id, &format!("LIVE{id:012}"));
        took.push(clock.now().mono - begun);
    }
    took.sort_unstable();
    took
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}

/// Issue 4: three minutes in real time with the real binary.
#[test]
#[ignore = "takes some five minutes (issue 4); .ci/full runs it"]
fn three_minutes_without_aws_cost_no_device_and_live_units_keep_their_latency() {
    let rtt = Duration::from_millis(80);
    let outage = Outage { units: 400, patience: "5s", seconds: 180, rtt };
    let (mut world, fixture, serials) = begin(&outage);
    endure(&world, &outage);
    // All are on the waiting rack when AWS comes back: units in nests would be as urgent as the live ones.
    world.within(PATIENCE, fixture.stop()).expect("it stops");
    world.eventually("all nests are left", |world| {
        let buffered =
            world.get("/v1/status").map_err(|error| error.to_string())?["backlog"]["buffered"].clone();
        if buffered == json!(outage.units) { Ok(()) } else { Err(buffered.to_string()) }
    });
    let mut at_nest = world.fixture("live");
    at_nest.hello("live", 1);
    world.set_cloud(Mode::On);
    // The first one waits for the next probe.
    live(&mut at_nest, 1, |done| done < 1);
    let busy = live(&mut at_nest, 2, |_| {
        world.get("/v1/status").unwrap()["backlog"]["buffered"].as_u64().unwrap() > 0
    });
    let next = 2 + busy.len() as u64;
    let idle = live(&mut at_nest, next, |done| done < 100);
    let fixture = presents(&world, &serials, 2);
    end(&world, &fixture, &serials);
    let all = serials.iter().cloned().chain((1..next + 100).map(|id| format!("LIVE{id:012}")));
    world.assert_audit(&all.collect::<Vec<_>>());
    eprintln!(
        "{} live units while the backlog drained: p99 {:?}; {} after it: p99 {:?}",
        busy.len(),
        p99(&busy),
        idle.len(),
        p99(&idle)
    );
    assert!(busy.len() >= 20, "{}", busy.len());
    assert!(p99(&busy) <= 2 * p99(&idle), "{:?}, and {:?} at an idle station", p99(&busy), p99(&idle));
}

//! Torture: the station is killed two hundred times at moments that a seed chooses, while two
//! fixtures and AWS go on, and each of them on its worst day.

use std::collections::BTreeMap;
use std::time::Duration;

use linemint::pki::Fingerprint;
use linemint::rehearsal::cloud::{CloudOptions, FaultPlan};
use linemint::rehearsal::fixture::{FixtureFaults, FixtureOptions, SimulatedFixture, serials};
use serde_json::Value;

use crate::harness::{Deadline, PATIENCE, Watch, World};

const KILLS: u32 = 200;

/// Where another seed than the usual one is told.
const SEED: &str = "LINEMINT_TORTURE_SEED";

/// Units that a fixture is started with. When they are done, another fixture with others takes its
/// place: there is always work to be interrupted, however fast the machine.
const UNITS: usize = 16;

/// How long a life lasts at most, whatever it is waited for: AWS may let the station wait.
const LIFE: Duration = Duration::from_millis(200);

const CONFIG: &str = r#"
[aws]
call_timeout = "1s"
[[fixture]]
resend = "300ms"
[[fixture]]
name = "nest-2"
port = "nest-2.tty"
product = "thermostat"
resend = "300ms"
"#;

/// When to kill.
#[derive(Debug)]
enum Moment {
    /// So long after the process was started: mostly in the midst of its start.
    Start(Duration),
    /// So long after it was ready.
    Ready(Duration),
    /// At that change of the journal's log: between a record's write and its sync, or after it.
    Record(u32),
    /// At that change among the sealed keys: one is written, renamed, overwritten, unlinked.
    Key(u32),
    /// At that piece of a request or answer.
    Call(u64),
    /// When a unit more has passed.
    Pass,
}

/// One of the two fixtures, and those that were there before it.
struct Bench {
    name: &'static str,
    faults: FixtureFaults,
    seed: u64,
    /// None only while one takes another's place.
    fixture: Option<SimulatedFixture>,
    presented: Vec<String>,
    stored: BTreeMap<String, Fingerprint>,
}

impl Bench {
    fn new(world: &World, name: &'static str, faults: FixtureFaults, seed: u64) -> Self {
        let units = serials(seed, UNITS);
        let fixture = Some(world.simulated(options(world, name, faults, seed, &units)));
        Self { name, faults, seed, fixture, presented: units, stored: BTreeMap::new() }
    }

    fn fixture(&self) -> &SimulatedFixture {
        self.fixture.as_ref().expect("a fixture is there")
    }

    /// Puts another fixture in the place of one that is done.
    fn renew(&mut self, world: &World) {
        if self.fixture().progress().borrow().done {
            self.take_report();
            // It takes its port along.
            let gone = self.fixture.take().map(|it| world.within(PATIENCE, it.stop()));
            assert!(gone.flatten().is_some(), "{} does not end", self.name);
            self.seed += 1000;
            let units = serials(self.seed, UNITS);
            self.fixture = Some(world.simulated(options(world, self.name, self.faults, self.seed, &units)));
            self.presented.extend(units);
        }
    }

    /// Every unit has passed and saw one certificate, and the station has kept to the protocol.
    fn take_report(&mut self) {
        let report = self.fixture().report();
        assert!(report.is_clean(), "{}: {report:#?}", self.name);
        self.stored.extend(report.certificates);
    }
}

fn options(world: &World, name: &str, faults: FixtureFaults, seed: u64, units: &[String]) -> FixtureOptions {
    FixtureOptions {
        name: name.to_owned(),
        nests: 3,
        resend: Duration::from_millis(300),
        seed,
        faults,
        write_time: Duration::from_millis(50),
        // A unit's bad luck is no fault of the station's.
        max_tries: 1000,
        link: Some(world.path(&format!("{name}.tty"))),
        ..FixtureOptions::new(units.to_vec())
    }
}

/// Tells the seed of a test that fails.
struct Seed(u64);

impl Seed {
    fn told() -> Self {
        let told = std::env::var(SEED).ok();
        Self(told.map_or(1, |it| it.parse().expect("the seed is a number")))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again with {SEED}={} cargo test --test it torture", self.0);
        }
    }
}

/// The station, its two fixtures, and the chance that decides when to kill.
struct Torture {
    world: World,
    benches: [Bench; 2],
    random: fastrand::Rng,
    /// How long a start takes here.
    start: Duration,
}

impl Torture {
    fn new(seed: u64) -> Self {
        let cloud = CloudOptions {
            faults: FaultPlan::hard(),
            seed,
            rtt: Duration::from_millis(5),
            ..CloudOptions::default()
        };
        let world = World::with_cloud(CONFIG, cloud);
        let benches = [
            // On a sound cable the order of frames proves something: each breach of it is told.
            Bench::new(&world, "nest-1", FixtureFaults::none(), seed),
            Bench::new(&world, "nest-2", FixtureFaults::hard(), seed + 500),
        ];
        Self { world, benches, random: fastrand::Rng::with_seed(seed), start: Duration::ZERO }
    }

    fn moment(&mut self) -> Moment {
        let random = &mut self.random;
        match random.u8(..12) {
            0..3 => Moment::Start(self.start.mul_f64(random.f64() * 1.2)),
            3..5 => Moment::Ready(LIFE.mul_f64(random.f64())),
            5..8 => Moment::Record(random.u32(1..20)),
            8 => Moment::Key(random.u32(1..12)),
            9..11 => Moment::Call(random.u64(1..60)),
            _ => Moment::Pass,
        }
    }

    /// One life of the station.
    fn live(&mut self, moment: &Moment) {
        let (log, keys) =
            (Watch::on(&self.world.path("state/journal/log")), Watch::on(&self.world.path("state/keys")));
        let longest = self.start + LIFE;
        self.world.start();
        match moment {
            Moment::Start(after) => {
                self.world.station().ends_within(*after);
            }
            Moment::Ready(after) => {
                self.world.station().stderr.wait_for("the station is ready");
                self.world.station().ends_within(*after);
            }
            Moment::Record(count) => log.wait_for(*count, longest),
            Moment::Key(count) => keys.wait_for(*count, longest),
            Moment::Call(count) => self.world.gate().wait_for_pieces(*count, longest),
            Moment::Pass => {
                let which = self.random.usize(..self.benches.len());
                let mut progress = self.benches[which].fixture().progress();
                // Whether in time or not: either is the moment.
                let _ = self.world.within(longest, progress.changed());
            }
        }
        if self.world.station().ends_within(Duration::ZERO) {
            let (status, log) = self.world.ended();
            panic!("the station has ended by itself at {moment:?} with {status}:\n{log}");
        }
        self.world.kill9();
    }

    /// The station, left alone, finishes what is there and ends in good order.
    fn finish(&mut self) {
        self.world.start();
        for bench in &mut self.benches {
            let done = self.world.within(PATIENCE, bench.fixture().wait_done());
            assert!(done.is_some(), "{}: {:#?}", bench.name, bench.fixture().report());
            bench.take_report();
        }
        self.world.eventually("the keys are destroyed", |world| {
            let left = world.private_keys();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        self.world.terminate();
        let (status, log) = self.world.ended();
        assert_eq!(status, 0, "{log}");
    }

    /// Certificates by serial number, as the journal has them.
    fn issued(&self) -> BTreeMap<String, Vec<Fingerprint>> {
        let (status, out, log) = self.world.command(&["journal", "export"]);
        assert_eq!(status, 0, "{log}");
        let mut issued = BTreeMap::<String, Vec<_>>::new();
        for line in out.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            if record["event"] == "issued" {
                let fingerprint = record["certificate"]["fingerprint"].as_str().unwrap().parse().unwrap();
                issued.entry(record["serial"].as_str().unwrap().to_owned()).or_default().push(fingerprint);
            }
        }
        issued
    }
}

#[test]
fn a_station_killed_two_hundred_times_gives_each_device_one_identity() {
    let seed = Seed::told();
    let mut torture = Torture::new(seed.0);
    let began = Deadline::after(PATIENCE);
    torture.world.start();
    torture.world.station().stderr.wait_for("the station is ready");
    torture.start = PATIENCE.saturating_sub(began.left());
    torture.world.kill9();
    for _ in 1..KILLS {
        torture.benches.iter_mut().for_each(|it| it.renew(&torture.world));
        let moment = torture.moment();
        torture.live(&moment);
    }
    torture.finish();

    let world = &torture.world;
    let (status, out, log) = world.command(&["journal", "verify"]);
    assert_eq!(status, 0, "{out}{log}");
    let presented: Vec<_> = torture.benches.iter().flat_map(|it| it.presented.clone()).collect();
    world.assert_audit(&presented);
    let stored: BTreeMap<_, _> = torture.benches.iter().flat_map(|it| it.stored.clone()).collect();
    assert_eq!(stored.len(), presented.len());
    // Nobody was issued a second one on the way, and what a device holds is what the account knows.
    let stored: BTreeMap<_, _> = stored.into_iter().map(|(serial, it)| (serial, vec![it])).collect();
    assert_eq!(torture.issued(), stored);
}

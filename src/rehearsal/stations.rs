//! Many stations on one account, each of which knows the account's quotas and nothing of the others.
//!
//! The limiter is the real one, and so are the retries' delays; time is simulated, so that an hour of
//! fifty stations takes seconds. A device is the six calls that it is in production: locker, policy,
//! certificate and thing at once, then the two attachments.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{join, join_all, join4, select};

use super::cloud::{Limits, Throttling};
use crate::clock::TimeSource as _;
use crate::cloud::pace::world::World;
use crate::cloud::pace::{MAX_IN_FLIGHT, Paced, Paces, Sleep as _};
use crate::cloud::{Answer, Call, Class, Cloud, CloudError, FailureKind, Operation, Quotas, Reply};
use crate::device::retry;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Stations {
    /// When each station begins and ends its work.
    pub shifts: Vec<(Duration, Duration)>,
    /// Devices that each works on at a time.
    pub nests: usize,
    /// The account's quotas; each station is configured for all of them.
    pub quotas: Quotas,
    /// How the account holds them, and what it does not tell.
    pub throttling: Throttling,
    /// The part of the calls that is throttled without any reason.
    pub random: f64,
    /// Round trip of a call.
    pub rtt: Duration,
    /// Decides everything that is left to chance.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// When each station finished its devices.
    pub finished: Vec<Vec<Duration>>,
    /// Calls of all stations.
    pub calls: u64,
    /// Those that were throttled.
    pub throttled: u64,
    /// When the others came to the account.
    pub admitted: Vec<Duration>,
}

impl Outcome {
    /// Devices that each station finished between two times.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> Vec<f64> {
        let count = |it: &Vec<Duration>| it.iter().filter(|at| (from..to).contains(*at)).count() as f64;
        self.finished.iter().map(count).collect()
    }
}

/// Jain's index: 1 if all have the same, 1/n if one has all.
#[must_use]
pub fn jain(parts: &[f64]) -> f64 {
    let sum: f64 = parts.iter().sum();
    let squares: f64 = parts.iter().map(|it| it * it).sum();
    if squares > 0.0 { sum * sum / (parts.len() as f64 * squares) } else { 1.0 }
}

/// The account, as one station reaches it.
struct Account {
    world: World,
    rtt: Duration,
    random: f64,
    shared: Arc<Mutex<Shared>>,
}

/// What all stations share.
struct Shared {
    limits: Limits,
    outcome: Outcome,
    random: fastrand::Rng,
}

impl Shared {
    fn admit(&mut self, operation: Operation, random: f64, now: Duration) -> bool {
        let admitted = self.random.f64() >= random && self.limits.admit(operation, now);
        self.outcome.calls += 1;
        if admitted {
            self.outcome.admitted.push(now);
        } else {
            self.outcome.throttled += 1;
        }
        admitted
    }
}

impl Cloud for Account {
    async fn call(&self, call: &Call) -> Result<Answer, CloudError> {
        self.world.sleep(self.rtt / 2).await;
        let operation = call.operation();
        let admitted = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.admit(operation, self.random, self.world.now().mono)
        };
        self.world.sleep(self.rtt / 2).await;
        if admitted {
            return Ok(Answer { reply: Reply::Empty, request_id: None });
        }
        Err(CloudError {
            code: Some("ThrottlingException".to_owned()),
            status: Some(400),
            ..CloudError::new(operation, FailureKind::Throttled, "Rate exceeded")
        })
    }
}

/// One station.
struct Station {
    number: usize,
    paced: Paced<Account>,
    world: World,
    shared: Arc<Mutex<Shared>>,
    until: Duration,
    random: Mutex<fastrand::Rng>,
}

impl Station {
    /// Makes a call until it goes through.
    async fn settle(&self, class: Class, call: Call) {
        let mut attempt = 1;
        while let Err(error) = self.paced.call_for(class, &call).await {
            let random = self.random.lock().unwrap_or_else(PoisonError::into_inner).f64();
            self.world.sleep(retry::delay(&error, attempt, random)).await;
            attempt += 1;
        }
    }

    /// Tells how the limits fare, for ever.
    async fn tell(&self, look: &(dyn Fn(Duration, &Paces) + Sync)) {
        loop {
            self.world.sleep(LOOK).await;
            look(self.world.now().mono, &self.paced.snapshot());
        }
    }

    /// One nest: device after device.
    async fn work(&self) {
        while self.world.now().mono < self.until {
            let (name, tags) = (String::new(), BTreeMap::new());
            let locker = Call::CreateCredentialLocker {
                name: name.clone(),
                client_token: String::new(),
                tags: tags.clone(),
            };
            let policy =
                Call::CreatePolicy { name: name.clone(), document: String::new(), tags: tags.clone() };
            let certificate = Call::RegisterCertificateWithoutCa { certificate_pem: String::new() };
            let thing = Call::CreateThing { name: name.clone(), attributes: tags };
            let first = |call| self.settle(Class::NestNew, call);
            join4(first(locker), first(policy), first(certificate), first(thing)).await;
            let policy = Call::AttachPolicy { policy: name.clone(), target: String::new() };
            let thing = Call::AttachThingPrincipal { thing: name, principal: String::new() };
            let then = |call| self.settle(Class::NestBegun, call);
            join(then(policy), then(thing)).await;
            let now = self.world.now().mono;
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.outcome.finished[self.number].push(now);
        }
    }
}

/// How often it is looked at how the limits fare.
const LOOK: Duration = Duration::from_millis(250);

/// Lets the stations work until the last one ends.
#[must_use]
pub fn simulate(options: &Stations) -> Outcome {
    run(options, None)
}

/// The same; `look` is told four times a second how the limits of each station fare.
pub fn simulate_seen(options: &Stations, look: &(dyn Fn(Duration, &Paces) + Sync)) -> Outcome {
    run(options, Some(look))
}

type Look<'a> = Option<&'a (dyn Fn(Duration, &Paces) + Sync)>;

fn run(options: &Stations, look: Look<'_>) -> Outcome {
    let world = World::late_by(vec![900, 1_100, 1_400, 700, 1_000, 2_300, 800]);
    let finished = vec![Vec::new(); options.shifts.len()];
    let mut seeds = fastrand::Rng::with_seed(options.seed);
    let shared = Arc::new(Mutex::new(Shared {
        limits: Limits::new(&options.quotas, &options.throttling, Duration::ZERO),
        outcome: Outcome { finished, ..Outcome::default() },
        random: fastrand::Rng::with_seed(options.seed.wrapping_add(1)),
    }));
    let stations = options.shifts.iter().enumerate().map(|(number, (from, until))| {
        let (world, shared, seed) = (world.clone(), Arc::clone(&shared), seeds.u64(..));
        let (from, until) = (*from + Duration::from_millis(seed % 100), *until);
        async move {
            world.sleep(from).await;
            let (rtt, random) = (options.rtt, options.random);
            let account = Account { world: world.clone(), rtt, random, shared: Arc::clone(&shared) };
            let ways = (Arc::new(world.clone()) as Arc<_>, Arc::new(world.clone()) as Arc<_>);
            let paced = Paced::seeded(account, &options.quotas, ways, MAX_IN_FLIGHT, seed);
            let random = Mutex::new(fastrand::Rng::with_seed(seed));
            let station = Station { number, paced, world, shared, until, random };
            let work = join_all((0..options.nests).map(|_| station.work()));
            match look {
                Some(look) => drop(select(Box::pin(work), Box::pin(station.tell(look))).await),
                None => drop(work.await),
            }
        }
    });
    // A simulation in which everybody waits for nothing ends early; its outcome shows it.
    let _ = world.run(join_all(stations));
    let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.outcome.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A_WHILE: Duration = Duration::from_secs(1800);

    /// Jain's index that every draw reaches.
    const FAIR: f64 = 0.95;

    /// Stations that begin together: the part of the ideal that they reach, the part of their calls that
    /// is throttled, and Jain's index.
    fn together(stations: usize, seed: u64, throttling: Throttling, random: f64) -> (f64, f64, f64) {
        let outcome = simulate(&Stations {
            shifts: vec![(Duration::ZERO, A_WHILE); stations],
            nests: 16,
            quotas: Quotas::aws_default(),
            throttling,
            random,
            rtt: Duration::from_millis(50),
            seed,
        });
        let parts = outcome.between(Duration::ZERO, A_WHILE);
        let total = parts.iter().sum::<f64>() / (10.0 * A_WHILE.as_secs_f64());
        (total, outcome.throttled as f64 / outcome.calls as f64, jain(&parts))
    }

    #[test]
    fn eight_stations_share_an_account_without_knowing_of_each_other() {
        for seed in 1..=3 {
            let (total, throttled, jain) = together(8, seed, Throttling::default(), 0.0);
            assert!(total >= 0.97, "seed {seed}: {total}");
            assert!(throttled <= 0.015, "seed {seed}: {throttled}");
            assert!(jain >= FAIR, "seed {seed}: {jain}");
        }
    }

    #[test]
    fn two_and_four_stations_share_an_account_too() {
        for stations in [2, 4] {
            let (total, throttled, jain) = together(stations, 1, Throttling::default(), 0.0);
            assert!(total >= 0.95, "{stations}: {total}");
            assert!(throttled <= 0.01, "{stations}: {throttled}");
            assert!(jain >= FAIR, "{stations}: {jain}");
        }
    }

    #[test]
    fn fifty_stations_share_an_account_too() {
        let (total, throttled, jain) = together(50, 1, Throttling::default(), 0.0);
        assert!(total >= 0.95 && throttled <= 0.05 && jain >= 0.85, "{total} {throttled} {jain}");
    }

    #[test]
    fn a_station_alone_is_never_throttled() {
        let (total, throttled, _) = together(1, 1, Throttling::default(), 0.0);
        assert!(total >= 0.99, "{total}");
        assert!(throttled == 0.0, "{throttled}");
    }

    /// What a station alone makes of a ceiling of ten devices a second in five minutes, while a part of its
    /// calls is throttled whatever it does: the mean of three draws, and the least.
    fn in_noise(random: f64) -> (f64, f64) {
        let end = Duration::from_secs(300);
        let totals = (1..=3).map(|seed| {
            let outcome = simulate(&Stations {
                shifts: vec![(Duration::ZERO, end)],
                nests: 16,
                quotas: Quotas::aws_default(),
                throttling: Throttling::default(),
                random,
                rtt: Duration::from_millis(50),
                seed,
            });
            outcome.between(Duration::ZERO, end)[0] / (10.0 * end.as_secs_f64())
        });
        let totals: Vec<f64> = totals.collect();
        (totals.iter().sum::<f64>() / 3.0, totals.iter().copied().fold(1.0, f64::min))
    }

    #[test]
    fn throttling_without_reason_does_not_sink_a_station() {
        let (mean, least) = in_noise(0.05);
        assert!(mean >= 0.9 && least >= 0.85, "{mean}, {least}");
        let (mean, least) = in_noise(0.2);
        assert!(mean >= 0.7 && least >= 0.65, "{mean}, {least}");
    }

    #[test]
    fn a_hidden_limit_is_found_in_spite_of_noise() {
        let end = Duration::from_secs(300);
        for limit in [15.0, 30.0] {
            let outcome = simulate(&Stations {
                shifts: vec![(Duration::ZERO, end)],
                nests: 32,
                quotas: Quotas::aws_default(),
                throttling: Throttling { account: Some(limit), ..Throttling::default() },
                random: 0.05,
                rtt: Duration::from_millis(50),
                seed: 1,
            });
            let total = outcome.admitted.len() as f64 / (limit * end.as_secs_f64());
            let throttled = outcome.throttled as f64 / outcome.calls as f64;
            // What noise takes, and half as much again that cannot be told from it.
            assert!(total >= 0.85 && throttled <= 0.15, "{limit}: {total}, {throttled} throttled");
        }
    }

    #[test]
    fn jains_index_is_one_for_equals() {
        assert!((jain(&[3.0; 7]) - 1.0).abs() < 1e-12);
        assert!((jain(&[5.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-12);
    }
}

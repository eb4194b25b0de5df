//! The whole limiter before an account that changes its mind: whatever comes, in whatever order, nobody is
//! forgotten, nobody overtakes within a class, and no second holds more than is configured.

use super::*;

/// Two that share nothing but the account, and two that share the quota of certificates.
const OPERATIONS: [Operation; 4] = [
    Operation::GetPolicy,
    Operation::DescribeThing,
    Operation::RegisterCertificate,
    Operation::RegisterCertificateWithoutCa,
];

/// How long each of the hidden limits lasts.
const STEP: Duration = Duration::from_secs(10);

/// What is configured: for [`OPERATIONS`], and for certificates together.
#[derive(Debug, Clone, Copy)]
struct Rates {
    of: [Option<f64>; 4],
    certificates: Option<f64>,
}

impl Rates {
    fn quotas(&self) -> Quotas {
        let rates = std::iter::zip(OPERATIONS, self.of).filter_map(|(it, rate)| Some((it, rate?)));
        Quotas { rates: rates.collect(), device_certificates: self.certificates, share: 1.0 }
    }
}

/// Who comes so many milliseconds after the one before, calls until it is answered well or has tried often enough,
/// and perhaps goes away before.
#[derive(Debug, Clone)]
struct Caller {
    gap: u64,
    operation: Operation,
    class: Class,
    tries: usize,
    leaves_after: Option<u64>,
}

/// A limit for all calls of the account together that nobody is told of: a bucket of a second's worth.
struct Hidden {
    world: World,
    latency: Duration,
    /// Calls a second, each for [`STEP`], in turn.
    steps: Vec<f64>,
    /// What refusals ask for, in turn.
    retry_after: Vec<Option<Duration>>,
    state: Mutex<Bucket>,
}

#[derive(Default)]
struct Bucket {
    tokens: f64,
    filled: Duration,
    refused: usize,
    came: Vec<(Duration, Operation, usize)>,
}

impl Hidden {
    /// What becomes of a call that comes now.
    fn take(&self, operation: Operation, name: usize) -> Result<Answer, CloudError> {
        let now = self.world.now().mono;
        let mut it = self.state.lock().unwrap();
        it.came.push((now, operation, name));
        let step = (now.as_secs() / STEP.as_secs()) as usize;
        let limit = self.steps[step % self.steps.len()];
        it.tokens = limit.mul_add((now - it.filled).as_secs_f64(), it.tokens).min(limit.max(1.0));
        it.filled = now;
        if it.tokens >= 1.0 {
            it.tokens -= 1.0;
            return Ok(Answer { reply: Reply::Empty, request_id: None });
        }
        it.refused += 1;
        let asked = self.retry_after[it.refused % self.retry_after.len()];
        Err(CloudError { operation, ..throttled(asked) })
    }
}

impl Cloud for Hidden {
    async fn call(&self, call: &Call) -> Result<Answer, CloudError> {
        let outcome = self.take(call.operation(), name_of(call).parse().unwrap());
        self.world.sleep(self.latency).await;
        outcome
    }
}

fn call_of(operation: Operation, name: usize) -> Call {
    let name = name.to_string();
    match operation {
        Operation::GetPolicy => Call::GetPolicy { name },
        Operation::DescribeThing => Call::DescribeThing { name },
        Operation::RegisterCertificate => {
            Call::RegisterCertificate { certificate_pem: name, ca_certificate_pem: String::new() }
        }
        _ => Call::RegisterCertificateWithoutCa { certificate_pem: name },
    }
}

/// Who has come to the limiter, in this order; its place is the call's name.
struct Arrival {
    operation: Operation,
    class: Class,
    may_leave: bool,
    answered: bool,
}

/// The limiter, and what is seen of it.
struct Stage {
    world: World,
    paced: Paced<Hidden>,
    arrivals: Mutex<Vec<Arrival>>,
    /// What was configured from when on.
    configured: Mutex<Vec<(Duration, Rates)>>,
}

impl Stage {
    async fn visit(&self, caller: &Caller, at: Duration) {
        self.world.sleep(at).await;
        let &Caller { operation, class, .. } = caller;
        for _ in 0..caller.tries {
            let name = {
                let mut arrivals = self.arrivals.lock().unwrap();
                let may_leave = caller.leaves_after.is_some();
                arrivals.push(Arrival { operation, class, may_leave, answered: false });
                arrivals.len() - 1
            };
            let outcome = self.paced.call_for(class, &call_of(operation, name)).await;
            self.arrivals.lock().unwrap()[name].answered = true;
            self.assert_rates();
            if outcome.is_ok() {
                return;
            }
        }
    }

    /// No limit is thought to be less than the floor, or more than what is configured.
    fn assert_rates(&self) {
        let Paced { lanes, certificates, account, .. } = &self.paced;
        for lane in lanes.iter().chain([certificates, account]) {
            let ceiling = lane.ceiling().unwrap_or(f64::INFINITY);
            let rate = lane.rate().unwrap_or(ceiling);
            assert!(rate >= learner::FLOOR.min(ceiling) && rate <= ceiling, "{rate} of {ceiling}");
        }
    }

    async fn configure(&self, changes: &[(u64, Rates)]) {
        for (gap, rates) in changes {
            self.world.sleep(millis(*gap)).await;
            self.paced.set_quotas(&rates.quotas());
            self.configured.lock().unwrap().push((self.world.now().mono, *rates));
        }
    }

    /// Plays it to the end.
    fn play(&self, callers: &[Caller], changes: &[(u64, Rates)]) {
        let mut at = Duration::ZERO;
        let visits = callers.iter().map(|caller| {
            at += millis(caller.gap);
            let (visit, handle) = abortable(self.visit(caller, at));
            let leaves_at = caller.leaves_after.map(|it| at + millis(it));
            let leave = async move {
                if let Some(at) = leaves_at {
                    self.world.sleep(at).await;
                    handle.abort();
                }
            };
            join(visit, leave)
        });
        run(&self.world, join(join_all(visits), self.configure(changes)));
    }

    /// Calls that a second from `from` on may hold, where `rate` says which quota is meant.
    fn allowed(&self, from: Duration, rate: impl Fn(&Rates) -> Option<f64>) -> usize {
        let configured = self.configured.lock().unwrap();
        let ends = configured.iter().skip(1).map(|it| it.0).chain([Duration::MAX]);
        let in_force = std::iter::zip(configured.iter(), ends)
            .filter(|((begin, _), end)| *begin < from + SECOND && *end >= from);
        in_force.map(|((_, rates), _)| rate(rates).map_or(usize::MAX, |it| it.ceil() as usize)).max().unwrap()
    }

    fn assert_seconds(&self, is_meant: impl Fn(Operation) -> bool, rate: impl Fn(&Rates) -> Option<f64>) {
        let state = self.paced.inner.state.lock().unwrap();
        let times: Vec<_> = state.came.iter().filter(|it| is_meant(it.1)).map(|it| it.0).collect();
        for (first, from) in times.iter().enumerate() {
            let held = times[first..].iter().take_while(|it| **it < *from + SECOND).count();
            let allowed = self.allowed(*from, &rate);
            assert!(
                held <= allowed,
                "{held} calls in the second from {from:?}, {allowed} allowed: {times:?}"
            );
        }
    }

    fn assert_order(&self) {
        let (arrivals, state) = (self.arrivals.lock().unwrap(), self.paced.inner.state.lock().unwrap());
        for (operation, class) in OPERATIONS.iter().flat_map(|it| Class::ALL.map(|class| (*it, class))) {
            let names = state.came.iter().filter(|it| it.1 == operation).map(|it| it.2);
            let names: Vec<_> = names.filter(|it| arrivals[*it].class == class).collect();
            assert!(names.is_sorted(), "{operation} {class:?}: {names:?}");
        }
        for (name, it) in arrivals.iter().enumerate().filter(|(_, it)| !it.may_leave) {
            assert!(it.answered, "{name} was not served: {} {:?}", it.operation, it.class);
        }
    }
}

fn rates() -> impl Strategy<Value = Rates> {
    let rate = prop_oneof![4 => 1.0f64..40.0, 1 => 0.3f64..1.0, 1 => Just(10.0)];
    let of = prop::array::uniform4(prop::option::weighted(0.8, rate.clone()));
    (of, prop::option::weighted(0.8, rate)).prop_map(|(of, certificates)| Rates { of, certificates })
}

fn caller() -> impl Strategy<Value = Caller> {
    (
        prop_oneof![3 => Just(0u64), 2 => 0u64..50, 1 => 0u64..2_000],
        prop::sample::select(OPERATIONS.to_vec()),
        prop::sample::select(Class::ALL.to_vec()),
        1usize..4,
        prop::option::weighted(0.2, 0u64..8_000),
    )
        .prop_map(|(gap, operation, class, tries, leaves_after)| Caller {
            gap,
            operation,
            class,
            tries,
            leaves_after,
        })
}

/// The account: its hidden limits, what it asks of whom it refuses, how long it takes, and the timers' lateness.
fn account() -> impl Strategy<Value = (Vec<f64>, Vec<Option<u64>>, u64, Vec<u64>)> {
    let step = prop_oneof![3 => 1.0f64..60.0, 1 => 0.2f64..1.0, 1 => Just(1e9)];
    (
        prop::collection::vec(step, 1..5),
        prop::collection::vec(prop::option::weighted(0.3, 0u64..4_000), 1..5),
        0u64..300,
        prop::collection::vec(0u64..9_000, 1..20),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_is_served_in_order_and_within_what_is_configured(
        first in rates(),
        changes in prop::collection::vec((0u64..6_000, rates()), 0..6),
        callers in prop::collection::vec(caller(), 1..120),
        (steps, retry_after, latency, lateness) in account(),
        (slots, seed) in (1usize..9, any::<u64>()),
    ) {
        let world = World::late_by(lateness);
        let ways: (Arc<dyn TimeSource>, Arc<dyn Sleep>) = (Arc::new(world.clone()), Arc::new(world.clone()));
        let hidden = Hidden {
            world: world.clone(),
            latency: millis(latency),
            steps,
            retry_after: retry_after.into_iter().map(|it| it.map(millis)).collect(),
            state: Mutex::default(),
        };
        let stage = Stage {
            world,
            paced: Paced::seeded(hidden, &first.quotas(), ways, slots, seed),
            arrivals: Mutex::default(),
            configured: Mutex::new(vec![(Duration::ZERO, first)]),
        };
        stage.play(&callers, &changes);
        for (at, operation) in OPERATIONS.iter().enumerate() {
            stage.assert_seconds(|it| it == *operation, |it| it.of[at]);
        }
        stage.assert_seconds(Operation::registers_certificate, |it| it.certificates);
        stage.assert_order();
        prop_assert_eq!(stage.paced.slots.available_permits(), slots, "a slot was lost");
    }
}

//! The limiter in a world where time passes only while everybody waits.

mod property;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{abortable, join, join_all};
use proptest::prelude::*;

use super::super::{ACCOUNT, Nest, Reply, StopCause};
use super::world::World;
use super::*;
use crate::clock::SystemClock;

const SECOND: Duration = Duration::from_secs(1);

/// Runs a future in its world.
fn run<F: std::future::Future>(world: &World, future: F) -> F::Output {
    world.run(future).expect("everybody waits for nothing")
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Notes when each call came, takes `latency` over it, and fails as it is told.
struct Scribe {
    world: World,
    latency: Duration,
    came: Mutex<Vec<(Duration, String)>>,
    inside: AtomicUsize,
    most_inside: AtomicUsize,
    failures: Mutex<Vec<CloudError>>,
}

/// What a call of these tests is called.
fn name_of(call: &Call) -> &str {
    let (Call::GetPolicy { name }
    | Call::DescribeThing { name }
    | Call::RegisterCertificateWithoutCa { certificate_pem: name }
    | Call::RegisterCertificate { certificate_pem: name, .. }) = call
    else {
        panic!("not a call of these tests");
    };
    name
}

impl Cloud for Scribe {
    async fn call(&self, call: &Call) -> Result<Answer, CloudError> {
        self.came.lock().unwrap().push((self.world.now().mono, name_of(call).to_owned()));
        let inside = self.inside.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_inside.fetch_max(inside, Ordering::Relaxed);
        if !self.latency.is_zero() {
            self.world.sleep(self.latency).await;
        }
        self.inside.fetch_sub(1, Ordering::Relaxed);
        match self.failures.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => Ok(Answer { reply: Reply::Empty, request_id: None }),
        }
    }
}

fn paced(world: &World, quotas: &Quotas, latency: Duration, slots: usize) -> Paced<Scribe> {
    let scribe = Scribe {
        world: world.clone(),
        latency,
        came: Mutex::default(),
        inside: AtomicUsize::new(0),
        most_inside: AtomicUsize::new(0),
        failures: Mutex::default(),
    };
    let ways: (Arc<dyn TimeSource>, Arc<dyn Sleep>) = (Arc::new(world.clone()), Arc::new(world.clone()));
    Paced::with_sleep(scribe, quotas, ways, slots)
}

fn only(rates: &[(Operation, f64)]) -> Quotas {
    Quotas { rates: BTreeMap::from_iter(rates.iter().copied()), ..Quotas::default() }
}

fn get_policy(name: usize) -> Call {
    Call::GetPolicy { name: name.to_string() }
}

/// When the calls came, in order, and who they were.
fn came(paced: &Paced<Scribe>) -> (Vec<Duration>, Vec<usize>) {
    paced.inner.came.lock().unwrap().iter().map(|(at, name)| (*at, name.parse::<usize>().unwrap())).unzip()
}

/// The most calls in any window of one second.
fn most_in_a_second(times: &[Duration]) -> usize {
    let within = |first: usize| times[first..].iter().take_while(|it| **it < times[first] + SECOND).count();
    (0..times.len()).map(within).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_second_ever_holds_more_calls_than_the_quota(
        rate in prop_oneof![0.3f64..20.0, 20.0f64..400.0, Just(10.0), Just(7.5)],
        gaps in prop::collection::vec(prop_oneof![4 => Just(0u64), 1 => 0u64..30, 1 => 0u64..1500], 1..250),
        lateness in prop::collection::vec(0u64..9_000, 1..20),
        latency in 0u64..300,
    ) {
        let world = World::late_by(lateness);
        let paced = paced(&world, &only(&[(Operation::GetPolicy, rate)]), millis(latency), MAX_IN_FLIGHT);
        let mut arrival = Duration::ZERO;
        let calls = gaps.iter().enumerate().map(|(name, gap)| {
            arrival += millis(*gap);
            let (at, world, paced) = (arrival, &world, &paced);
            async move {
                world.sleep(at).await;
                paced.call(&get_policy(name)).await.unwrap();
            }
        });
        run(&world, join_all(calls));
        let (times, _) = came(&paced);
        prop_assert_eq!(times.len(), gaps.len());
        prop_assert!(most_in_a_second(&times) <= rate.ceil() as usize, "{} at {}/s", most_in_a_second(&times), rate);
        prop_assert!(times[0] >= Duration::from_secs_f64(1.0 / rate), "a burst at the start");
    }

    #[test]
    fn a_quota_is_used_up_whatever_its_fraction(rate in prop_oneof![0.3f64..4.0, 4.0f64..40.0], late in 0u64..5) {
        let world = World::late_by(vec![late]);
        let paced = paced(&world, &only(&[(Operation::GetPolicy, rate)]), Duration::ZERO, MAX_IN_FLIGHT);
        let calls = 100;
        run(&world, join_all((0..=calls).map(|it| paced.call_one(it))));
        let times = came(&paced).0;
        let took = (times[calls] - times[0]).as_secs_f64();
        prop_assert!(took <= 1.01 * calls as f64 / rate, "{calls} calls at {rate}/s took {took} s");
    }
}

#[test]
fn a_fresh_limiter_makes_the_first_call_wait_one_period() {
    let world = World::punctual();
    run(&world, world.sleep(millis(12_345)));
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), Duration::ZERO, MAX_IN_FLIGHT);
    run(&world, paced.call(&get_policy(0))).unwrap();
    assert_eq!(came(&paced).0[0], millis(12_345) + Duration::from_secs_f64(lane::STRETCH / 10.0));
}

#[test]
fn what_a_start_takes_is_not_waited_for_again() {
    let period = Duration::from_secs_f64(lane::STRETCH / 10.0);
    let made = millis(3_000);
    // A start of 40 ms, one of three seconds, and one that would lie ahead.
    for (since, first) in
        [(millis(2_960), millis(2_960) + period), (Duration::ZERO, made), (millis(9_000), made + period)]
    {
        let world = World::punctual();
        run(&world, world.sleep(made));
        let quotas = only(&[(Operation::GetPolicy, 10.0)]);
        let paced = paced(&world, &quotas, Duration::ZERO, MAX_IN_FLIGHT).resting_since(since);
        run(&world, join_all((0..12).map(|it| paced.call_one(it))));
        let times = came(&paced).0;
        assert_eq!(times[0], first, "{since:?}");
        // Half a period may be made up for, as after any idle time; no more.
        assert!(times[1] >= first + period - millis(50), "{since:?}: {times:?}");
        assert!(most_in_a_second(&times) <= 10, "{since:?}: {times:?}");
    }
}

#[test]
fn a_quota_just_below_one_a_second_lets_no_second_hold_two() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 0.99)]), Duration::ZERO, MAX_IN_FLIGHT);
    // The first call comes 45 ms after it might have: what is made up for is not the second itself.
    run(&world, world.sleep(millis(1_058)));
    run(&world, join_all((0..3).map(|it| paced.call_one(it))));
    let times = came(&paced).0;
    assert_eq!((times[0], most_in_a_second(&times)), (millis(1_058), 1), "{times:?}");
}

#[test]
fn an_idle_hour_saves_no_permits_up() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), Duration::ZERO, MAX_IN_FLIGHT);
    run(&world, world.sleep(Duration::from_secs(3600)));
    run(&world, join_all((0..30).map(|it| paced.call_one(it))));
    let (times, _) = came(&paced);
    assert_eq!(times[0], Duration::from_secs(3600));
    assert!(most_in_a_second(&times) <= 10);
}

impl Paced<Scribe> {
    async fn call_one(&self, name: usize) {
        self.call(&get_policy(name)).await.unwrap();
    }
}

#[test]
fn lateness_does_not_add_up() {
    // Each timer wakes 1.3 ms late, as tokio's do.
    let world = World::late_by(vec![1_300]);
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), millis(20), MAX_IN_FLIGHT);
    run(&world, join_all((0..300).map(|it| paced.call_one(it))));
    let (times, _) = came(&paced);
    let took = (times[299] - times[0]).as_secs_f64();
    assert!((29.9..=29.9 * 1.01).contains(&took), "299 intervals took {took} s");
}

#[test]
fn first_come_is_first_served() {
    let world = World::late_by(vec![0, 700, 2_500, 100]);
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 50.0)]), millis(200), MAX_IN_FLIGHT);
    run(&world, join_all((0..200).map(|it| paced.call_one(it))));
    assert_eq!(came(&paced).1, (0..200).collect::<Vec<_>>());
}

#[test]
fn calls_that_register_certificates_share_a_quota_besides_their_own() {
    let world = World::late_by(vec![900, 1_100]);
    let quotas = Quotas {
        device_certificates: Some(15.0),
        ..only(&[(Operation::RegisterCertificate, 10.0), (Operation::RegisterCertificateWithoutCa, 10.0)])
    };
    let paced = paced(&world, &quotas, millis(50), MAX_IN_FLIGHT);
    let with_ca = join_all((0..150).map(|it: usize| {
        let (pem, paced) = (it.to_string(), &paced);
        async move {
            let call = Call::RegisterCertificate { certificate_pem: pem, ca_certificate_pem: String::new() };
            paced.call(&call).await.unwrap();
        }
    }));
    let without_ca = join_all((1000..1150).map(|it: usize| {
        let (pem, paced) = (it.to_string(), &paced);
        async move {
            paced.call(&Call::RegisterCertificateWithoutCa { certificate_pem: pem }).await.unwrap();
        }
    }));
    run(&world, join(with_ca, without_ca));
    let (times, names) = came(&paced);
    let of = |range: std::ops::Range<usize>| -> Vec<Duration> {
        std::iter::zip(&times, &names).filter(|it| range.contains(it.1)).map(|it| *it.0).collect()
    };
    assert_eq!(times.len(), 300);
    assert!(most_in_a_second(&times) <= 15);
    assert!(most_in_a_second(&of(0..150)) <= 10 && most_in_a_second(&of(1000..1150)) <= 10);
    let took = (times[299] - times[0]).as_secs_f64();
    assert!((299.0 / 15.0..299.0 / 15.0 * 1.02).contains(&took), "{took} s: the shared quota is not used up");
}

#[test]
fn one_registration_does_not_hold_the_shared_quota_while_it_waits_for_its_own() {
    let world = World::punctual();
    let quotas = Quotas {
        device_certificates: Some(100.0),
        ..only(&[(Operation::RegisterCertificate, 0.1), (Operation::RegisterCertificateWithoutCa, 10.0)])
    };
    let paced = paced(&world, &quotas, Duration::ZERO, MAX_IN_FLIGHT);
    let slow = Call::RegisterCertificate { certificate_pem: "0".into(), ca_certificate_pem: String::new() };
    let quick = Call::RegisterCertificateWithoutCa { certificate_pem: "1".into() };
    let (one, other) = run(&world, join(paced.call(&slow), paced.call(&quick)));
    one.and(other).unwrap();
    let (times, names) = came(&paced);
    assert_eq!(names, [1, 0]);
    assert!(times[0] < SECOND, "{times:?}");
}

#[test]
fn a_cancelled_waiter_loses_nothing() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), Duration::ZERO, MAX_IN_FLIGHT);
    let (calls, handles): (Vec<_>, Vec<_>) = (0..40).map(|it| abortable(paced.call_one(it))).unzip();
    let cancel = async {
        // By now some have been served, one is at the head in its sleep, the rest are queued.
        world.sleep(millis(1_040)).await;
        handles.iter().skip(10).step_by(2).for_each(|it| it.abort());
    };
    run(&world, join(join_all(calls), cancel));
    let (times, names) = came(&paced);
    let expected: Vec<usize> = (0..10).chain((11..40).step_by(2)).collect();
    assert_eq!(names, expected);
    for (call, at) in times.iter().enumerate() {
        assert_eq!(
            *at,
            Duration::from_secs_f64(lane::STRETCH / 10.0) * (call as u32 + 1),
            "a permit was lost"
        );
    }
    let stats = stats_of(&paced, Operation::GetPolicy);
    assert_eq!((stats.calls, stats.ok, stats.waiting), (25, 25, 0));
}

fn stats_of(paced: &Paced<Scribe>, operation: Operation) -> OperationStats {
    paced.snapshot().operations.into_iter().find(|it| it.0 == operation).unwrap().1
}

fn shared_of(paced: &Paced<Scribe>, limit: SharedLimit) -> SharedStats {
    paced.snapshot().shared.into_iter().find(|it| it.0 == limit).unwrap().1
}

#[test]
fn calls_in_flight_are_capped_and_their_waiters_in_order() {
    let world = World::punctual();
    let paced = paced(&world, &Quotas::unlimited(), SECOND, 3);
    run(&world, join_all((0..30).map(|it| paced.call_one(it))));
    assert_eq!(paced.inner.most_inside.load(Ordering::Relaxed), 3);
    let (times, names) = came(&paced);
    assert_eq!(names, (0..30).collect::<Vec<_>>());
    assert_eq!(times[29], SECOND * 9);
    assert_eq!(paced.slots.available_permits(), 3);
}

#[test]
fn a_call_that_had_to_wait_for_a_slot_still_keeps_the_distance() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), millis(5_000), 20);
    run(&world, join_all((0..60).map(|it| paced.call_one(it))));
    assert!(most_in_a_second(&came(&paced).0) <= 10);
}

#[test]
fn waiters_of_a_slow_operation_hold_no_slots() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 1.0)]), Duration::ZERO, 2);
    let describe = Call::DescribeThing { name: "9999".into() };
    let slow = join_all((0..10).map(|it| paced.call_one(it)));
    let (_, outcome) = run(&world, join(slow, paced.call(&describe)));
    outcome.unwrap();
    let (times, names) = came(&paced);
    assert_eq!((times[0], names[0]), (Duration::ZERO, 9999));
}

fn throttled(wait: Option<Duration>) -> CloudError {
    CloudError {
        code: Some("ThrottlingException".into()),
        status: Some(400),
        retry_after: wait,
        ..CloudError::new(Operation::GetPolicy, FailureKind::Throttled, "")
    }
}

/// When the second call came, and one of another operation, after the first was throttled.
fn after_a_throttle(wait: Option<Duration>) -> (Duration, Duration) {
    let world = World::punctual();
    let rates = [(Operation::GetPolicy, 10.0), (Operation::DescribeThing, 5.0)];
    let paced = paced(&world, &only(&rates), Duration::ZERO, MAX_IN_FLIGHT);
    paced.inner.failures.lock().unwrap().push(throttled(wait));
    let second = async {
        let first = paced.call(&get_policy(0)).await;
        assert_eq!(first.unwrap_err().kind, FailureKind::Throttled);
        paced.call_one(1).await;
    };
    let other = Call::DescribeThing { name: "2".into() };
    let (_, outcome) = run(&world, join(second, paced.call(&other)));
    outcome.unwrap();
    let (times, names) = came(&paced);
    let of = |name| times[names.iter().position(|it| *it == name).unwrap()];
    (of(1) - of(0), of(2))
}

#[test]
fn a_throttle_that_names_a_time_pauses_its_lane_only() {
    let other = Duration::from_secs_f64(lane::STRETCH / 5.0);
    assert_eq!(after_a_throttle(Some(millis(2_500))), (millis(2_500), other));
}

#[test]
fn a_pause_is_bounded() {
    assert_eq!(after_a_throttle(Some(SECOND * 86_400)).0, SECOND * 300);
}

#[test]
fn a_single_throttle_without_a_time_slows_nothing() {
    let period = |rate: f64| Duration::from_secs_f64(lane::STRETCH / rate);
    assert_eq!(after_a_throttle(None), (period(10.0), period(5.0)));
}

#[test]
fn a_throttled_lane_comes_back_to_its_ceiling() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), millis(20), MAX_IN_FLIGHT);
    *paced.inner.failures.lock().unwrap() = vec![throttled(None); 8];
    for name in 0..8 {
        assert!(run(&world, paced.call(&get_policy(name))).is_err());
    }
    let slow = stats_of(&paced, Operation::GetPolicy);
    assert!(slow.limit.unwrap() < 2.0 && slow.ceiling == Some(10.0), "{slow:?}");
    assert!((slow.throttled_share() - 1.0).abs() < 1e-9);
    run(&world, join_all((100..4100).map(|it| paced.call_one(it))));
    assert_eq!(stats_of(&paced, Operation::GetPolicy).limit, Some(10.0));
    let (times, _) = came(&paced);
    assert!(most_in_a_second(&times) <= 10);
}

#[test]
fn what_throttles_everything_is_learned_as_the_accounts_and_forgotten() {
    let world = World::punctual();
    let paced = paced(&world, &Quotas::unlimited(), millis(20), MAX_IN_FLIGHT);
    let calls = |name: usize| {
        let name = name.to_string();
        [
            Call::GetPolicy { name: name.clone() },
            Call::DescribeThing { name: name.clone() },
            Call::RegisterCertificateWithoutCa { certificate_pem: name },
        ]
    };
    *paced.inner.failures.lock().unwrap() = vec![throttled(None); 3];
    for call in calls(0) {
        assert!(run(&world, paced.call(&call)).is_err());
    }
    let account = shared_of(&paced, SharedLimit::Account);
    let limit = account.limit.expect("three operations of three were throttled");
    assert!(account.learned && account.calls == 3 && account.rate > 0.0, "{account:?}");
    assert_eq!(stats_of(&paced, Operation::GetPolicy).limit, Some(limit));
    // Of three that wait it is the account that holds them back, and none of their own limits.
    let (begun, look) = (calls(0), async {
        world.sleep(millis(1)).await;
        (shared_of(&paced, SharedLimit::Account), paced.snapshot().operations, paced.held_back())
    });
    let calls_of_three = join_all(begun.iter().map(|it| paced.call(it)));
    let (made, (account, operations, held_back)) = run(&world, join(calls_of_three, look));
    assert!(made.iter().all(Result::is_ok));
    assert!(account.waiting >= 2, "{account:?}");
    let held = operations.iter().filter(|(_, it)| it.held_by == Some(SharedLimit::Account) && it.learned);
    assert_eq!(held.count() as u64, account.waiting);
    assert_eq!(
        held_back,
        [HeldBack { limit: ACCOUNT, rate: account.limit, ceiling: None, paused_until: None }]
    );
    for name in 1..400 {
        for call in calls(name) {
            run(&world, paced.call(&call)).unwrap();
        }
    }
    let account = shared_of(&paced, SharedLimit::Account);
    assert_eq!((account.limit, account.learned, account.waiting), (None, false, 0));
    assert_eq!((stats_of(&paced, Operation::GetPolicy).held_by, paced.held_back()), (None, Vec::new()));
    assert_eq!(stats_of(&paced, Operation::GetPolicy).limit, None);
    assert_eq!(paced.snapshot().share, 1.0);
    paced.set_quotas(&Quotas::aws_default().shared(0.5).shared(0.5));
    assert_eq!(paced.snapshot().share, 0.25);
}

#[test]
fn the_nests_go_first_and_the_backlog_has_its_tenth() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), Duration::ZERO, MAX_IN_FLIGHT);
    let call = |class, name| {
        let paced = &paced;
        async move { paced.call_for(class, &get_policy(name)).await.unwrap() }
    };
    let backlog = join_all((0..100).map(|it| call(Class::BacklogNew, it)));
    let reads = join_all((5000..5010).map(|it| call(Class::Read, it)));
    let new = join_all((1000..1100).map(|it| call(Class::NestNew, it)));
    let begun = join_all((2000..2100).map(|it| call(Class::NestBegun, it)));
    run(&world, join(join(reads, backlog), join(new, begun)));
    let (_, names) = came(&paced);
    let first = &names[..200];
    let of = |range: std::ops::Range<usize>| first.iter().filter(|it| range.contains(it)).count();
    assert!((18..=20).contains(&of(0..100)), "the backlog had {} of 200", of(0..100));
    assert!((1..=5).contains(&of(5000..5010)), "reads had {} of 200", of(5000..5010));
    assert_eq!(of(2000..2100), 100, "what is begun goes before what is not");
    for range in [0..100, 1000..1100, 2000..2100, 5000..5010] {
        let order: Vec<usize> = names.iter().copied().filter(|it| range.contains(it)).collect();
        assert!(order.is_sorted(), "{order:?}");
    }
}

#[test]
fn who_leaves_a_nest_or_comes_into_one_waits_among_its_new_class_from_then_on() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), Duration::ZERO, MAX_IN_FLIGHT);
    let nests: Vec<Nest> = (0..20).map(|_| Nest::default()).collect();
    nests[..10].iter().for_each(|it| it.set(true));
    let calls = join_all(nests.iter().enumerate().map(|(name, nest)| {
        let (paced, urgency) = (&paced, Urgency::of_device(false, nest.clone()));
        async move { paced.call_timed(&urgency, &get_policy(name)).await.0.unwrap() }
    }));
    let change = async {
        // Three have gone, and the next is at the head in its sleep.
        world.sleep(millis(350)).await;
        nests[3..10].iter().for_each(|it| it.set(false));
        [15, 19].iter().for_each(|it: &usize| nests[*it].set(true));
    };
    run(&world, join(calls, change));
    let expected: Vec<usize> = [0, 1, 2, 15, 19].into_iter().chain(3..15).chain(16..19).collect();
    assert_eq!(came(&paced).1, expected);
}

#[test]
fn a_pause_that_aws_asks_for_is_told_until_it_is_over() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), Duration::ZERO, MAX_IN_FLIGHT);
    paced.inner.failures.lock().unwrap().push(throttled(Some(SECOND * 90)));
    assert!(run(&world, paced.call(&get_policy(0))).is_err());
    let paused_until = Some(came(&paced).0[0] + SECOND * 90);
    let limit = Operation::GetPolicy.kebab();
    assert_eq!(paced.held_back(), [HeldBack { limit, rate: None, ceiling: Some(10.0), paused_until }]);
    run(&world, world.sleep(SECOND * 90));
    assert_eq!(paced.held_back(), []);
}

#[test]
fn a_pause_reaches_the_head_that_already_sleeps() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), millis(60), MAX_IN_FLIGHT);
    paced.inner.failures.lock().unwrap().push(throttled(Some(SECOND)));
    let first = async { paced.call(&get_policy(0)).await.unwrap_err() };
    run(&world, join(first, paced.call_one(1)));
    let (times, _) = came(&paced);
    assert_eq!(times[1], times[0] + millis(60) + SECOND);
}

#[test]
fn statistics_tell_limit_outcomes_waiters_and_latency() {
    let world = World::punctual();
    let paced = paced(&world, &only(&[(Operation::GetPolicy, 10.0)]), millis(40), MAX_IN_FLIGHT);
    let refused = CloudError { kind: FailureKind::Stop(StopCause::Permission), ..throttled(None) };
    *paced.inner.failures.lock().unwrap() = vec![refused, throttled(None)];
    let calls = join_all((0..20).map(|it| {
        let paced = &paced;
        async move { paced.call(&get_policy(it)).await.is_ok() }
    }));
    let look = async {
        world.sleep(millis(1_050)).await;
        stats_of(&paced, Operation::GetPolicy)
    };
    let (outcomes, early) = run(&world, join(calls, look));
    assert_eq!(outcomes.iter().filter(|it| **it).count(), 18);
    assert_eq!(early.calls + early.waiting, 20);
    assert!(early.waiting >= 10, "{early:?}");
    let stats = stats_of(&paced, Operation::GetPolicy);
    assert_eq!((stats.calls, stats.ok, stats.throttled, stats.errors), (20, 18, 1, 1));
    assert_eq!((stats.ceiling, stats.p50_ms, stats.p99_ms), (Some(10.0), Some(40.0), Some(40.0)));
    assert_eq!(stats.limit, Some(10.0), "one throttled call is no limit");
    assert!(stats.rate > 1.0 && stats.rate < 10.6, "{}", stats.rate);
    assert_eq!(stats_of(&paced, Operation::CreateThing), OperationStats::default());
}

#[test]
fn a_rate_that_is_no_number_is_slow_and_never_unlimited() {
    for rate in [f64::NAN, -1.0, 0.0, 1e-300] {
        let world = World::punctual();
        let paced = paced(&world, &only(&[(Operation::GetPolicy, rate)]), Duration::ZERO, MAX_IN_FLIGHT);
        run(&world, paced.call_one(0));
        assert_eq!(came(&paced).0[0], SECOND * 86_400, "{rate}");
    }
}

#[tokio::test]
async fn the_systems_clock_and_timer_pace_as_well() {
    let clock = Arc::new(SystemClock::default());
    let world = World::punctual();
    let scribe = paced(&world, &Quotas::unlimited(), Duration::ZERO, 1).inner;
    let paced = Paced::new(scribe, only(&[(Operation::GetPolicy, 500.0)]), clock.clone(), MAX_IN_FLIGHT);
    let started = clock.now().mono;
    join_all((0..50).map(|it| paced.call_one(it))).await;
    let took = clock.now().mono - started;
    assert_eq!(came(&paced).1, (0..50).collect::<Vec<_>>());
    // Fifty periods of 2.01 ms, less what the timer may be forgiven.
    assert!(took >= millis(97), "{took:?}");
}

use std::time::Duration;

use super::{Outcome, Scene, play};
use crate::cloud::{Quotas, Service};
use crate::station::setup::in_progress;

const HOUR: Duration = Duration::from_secs(3600);

fn played(scene: Scene) -> Outcome {
    play(scene).unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn a_backlog_drains_at_the_quota_and_little_of_it_is_begun_at_a_time() {
    for seed in 1..=3 {
        let outcome = played(Scene::backlog(seed));
        let buffered = outcome.at_return.buffered;
        assert!((2_000..=2_100).contains(&buffered), "{buffered}");
        let part = outcome.used(10.0).unwrap();
        assert!(part >= 0.97, "{:.1} % of the quota", 100.0 * part);
        assert_eq!(outcome.seen.throttled, 0);
        // The bound, the live unit, and for each service the one whose call had tried when its nest was left.
        let most = in_progress(&Quotas::aws_default()) + 3;
        assert!(outcome.seen.most_begun <= most, "{} were begun at a time", outcome.seen.most_begun);
        assert_eq!(outcome.at_end.buffered, 0);
    }
}

#[test]
fn while_a_backlog_drains_a_live_unit_waits_at_most_twice_as_long_as_at_an_idle_station() {
    for seed in 1..=3 {
        let idle = played(Scene::idle(seed)).p99().unwrap();
        let busy = played(Scene::backlog(seed)).p99().unwrap();
        assert!(idle < Duration::from_millis(220), "{idle:?}");
        assert!(busy <= 2 * idle, "{busy:?} while a backlog drains, {idle:?} else");
    }
}

#[test]
fn an_hour_without_aws_costs_few_calls_and_no_device() {
    let scene = Scene { away_until: HOUR, nests: 10, live: 200, ..Scene::idle(1) };
    let outcome = played(scene.clone());
    let buffered = outcome.at_return.buffered;
    assert!(buffered >= 570, "{buffered} devices in an hour");
    assert!(outcome.at_return.oldest_s >= Some(3598), "{:?}", outcome.at_return.oldest_s);
    assert_eq!(outcome.at_return.degraded.len(), 2, "a sentence for each service");
    let before = |times: &[Duration]| times.iter().filter(|it| **it < HOUR).count();
    assert_eq!(before(&outcome.issued), before(&outcome.admitted), "the CA needs no network");
    // A probe of each of two services each five to ten seconds, and the few that found out.
    let tries = outcome.seen.in_vain.len();
    assert!((700..=1_500).contains(&tries), "{tries} calls in vain for {buffered} devices");
    // It goes on within the longest pause, and all of them are made, once.
    let first = outcome.seen.calls[0].0;
    assert!(first < HOUR + Duration::from_secs(11), "{first:?}");
    assert_eq!(outcome.seen.whole.len(), outcome.admitted.len());
    assert_eq!(outcome.at_end.buffered, 0);
    assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
    let services = |service| outcome.seen.calls.iter().filter(|it| it.1.service() == service).count();
    assert_eq!(services(Service::ManagedIntegrations), outcome.seen.whole.len());
    // It drains at ten a second, with the live units beside it; one service may come back a pause later.
    let seconds = (outcome.drained().unwrap() - first).as_secs_f64();
    assert!(seconds <= buffered as f64 / 10.0 * 1.05 + 11.0, "{buffered} devices took {seconds} s");
    let idle = played(Scene { away_until: Duration::ZERO, nests: 0, ..scene }).p99().unwrap();
    // The unit that is in its nest when AWS comes back waits for the next probe.
    let mut latencies = outcome.latencies.clone();
    latencies.remove(0);
    latencies.sort_unstable();
    let p99 = latencies[latencies.len() * 99 / 100];
    assert!(p99 <= 2 * idle, "{p99:?} while the backlog drains, {idle:?} else");
}

#[test]
fn a_full_backlog_is_the_only_reason_to_refuse_a_unit() {
    let scene = Scene { away_until: HOUR, nests: 10, live: 0, backlog: 120, ..Scene::idle(2) };
    let outcome = played(scene);
    assert_eq!(outcome.admitted.len(), 120);
    assert_eq!(outcome.at_return.buffered, 120);
    assert!(!outcome.refused.is_empty());
    for it in &outcome.refused {
        assert!(it.contains("the station's backlog is full: 120 devices are not finished"), "{it}");
    }
    assert_eq!(outcome.seen.whole.len(), 120);
}

#[test]
fn what_must_not_happen_is_told_and_no_figure() {
    // Nothing is sent away in time: the unit in the live nest is.
    let wrong = play(Scene { quotas: slow(), live: 2, ..Scene::idle(1) }).unwrap_err();
    assert!(wrong.to_string().starts_with("a live unit was sent away: LIVE"), "{wrong}");
}

/// A device takes longer than a unit waits.
fn slow() -> Quotas {
    let mut quotas = Quotas::aws_default();
    quotas.rates.insert(crate::cloud::Operation::CreatePolicy, 0.01);
    quotas
}

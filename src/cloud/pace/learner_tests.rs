//! The learner against a token bucket whose rate it is not told.

use proptest::prelude::*;

use super::*;

/// What came of a run.
struct Run {
    learner: Learner,
    /// When calls went through, and when they were throttled, seconds.
    good: Vec<f64>,
    bad: Vec<f64>,
}

/// Calls as fast as the learner allows, and at most `demand` a second, for `seconds`, against a bucket
/// of one second's worth.
fn run(ceiling: Option<f64>, demand: f64, limit: impl Fn(f64) -> f64, seconds: f64) -> Run {
    let mut run = Run { learner: Learner::new(ceiling, 1), good: Vec::new(), bad: Vec::new() };
    let (mut now, mut filled, mut tokens) = (0.0, 0.0, limit(0.0));
    while now < seconds {
        let wait = 1.0 / run.learner.rate().unwrap_or(demand).min(demand);
        now = f64::max(now + wait, run.learner.hold().as_secs_f64());
        tokens = limit(now).mul_add(now - filled, tokens).min(limit(now).max(1.0));
        filled = now;
        let (sent, answered) = (Duration::from_secs_f64(now), Duration::from_secs_f64(now + 0.001));
        run.learner.sent(sent);
        if tokens >= 1.0 {
            tokens -= 1.0;
            run.good.push(now);
            run.learner.went_through(sent, answered);
        } else {
            run.bad.push(now);
            run.learner.refused(sent, answered, false);
        }
    }
    run
}

fn within(times: &[f64], from: f64, to: f64) -> f64 {
    times.iter().filter(|it| (from..to).contains(*it)).count() as f64
}

#[test]
fn a_constant_hidden_limit_is_used_up_with_few_throttled_calls() {
    for limit in [8.0, 15.0, 50.0] {
        let run = run(None, 500.0, |_| limit, 600.0);
        let (good, bad) = (run.good.len() as f64, run.bad.len() as f64);
        assert!(good >= 0.98 * 600.0 * limit, "{limit}: {good}");
        assert!(bad <= 0.03 * (good + bad), "{limit}: {bad} throttled of {}", good + bad);
    }
}

#[test]
fn a_limit_that_rises_is_found_and_one_that_is_lifted_forgotten() {
    let run = run(
        None,
        100.0,
        |at| {
            if at < 30.0 {
                8.0
            } else if at < 60.0 {
                60.0
            } else {
                1e6
            }
        },
        120.0,
    );
    assert!(within(&run.good, 35.0, 60.0) >= 0.9 * 25.0 * 60.0);
    assert_eq!(run.learner.rate(), None);
}

#[test]
fn after_pressure_the_ceiling_is_reached_again() {
    let run = run(Some(10.0), 100.0, |at| if at < 60.0 { 0.5 } else { 1e6 }, 1200.0);
    assert_eq!((run.learner.rate(), run.learner.is_learned()), (Some(10.0), false));
}

#[test]
fn a_block_of_everything_says_nothing_of_the_limit_and_is_over_when_it_ends() {
    for lasts in [5.0, 30.0, 120.0, 600.0] {
        let end = 60.0 + lasts;
        let run = run(Some(10.0), 100.0, |at| if (60.0..end).contains(&at) { 0.0 } else { 10.0 }, end + 60.0);
        let asked = within(&run.bad, 60.0, end);
        assert!(asked <= 12.0 + lasts, "{lasts} s: {asked} calls refused");
        let (soon, later) = (within(&run.good, end, end + 10.0), within(&run.good, end + 10.0, end + 60.0));
        assert!(soon >= 60.0, "{lasts} s: {soon} calls in the first ten seconds");
        assert!(later >= 0.97 * 500.0, "{lasts} s: {later} calls in the fifty seconds behind them");
    }
}

#[test]
fn after_a_block_a_part_of_a_shared_limit_is_what_it_was() {
    let run = run(Some(10.0), 100.0, |at| if (600.0..660.0).contains(&at) { 0.0 } else { 4.0 }, 780.0);
    let before = within(&run.good, 480.0, 600.0);
    let after = within(&run.good, 660.0, 780.0);
    assert!(after >= 0.9 * before, "{before} calls before, {after} behind it");
    assert!(within(&run.bad, 660.0, 780.0) <= 0.05 * after);
}

#[test]
fn one_throttled_call_at_the_ceiling_is_doubted_unless_its_limit_is_known() {
    let at = Duration::from_millis;
    let mut learner = Learner::new(Some(10.0), 1);
    for call in 0..100 {
        learner.went_through(at(call * 100), at(call * 100 + 20));
        if call % 20 == 19 {
            assert_eq!(learner.refused(at(call * 100 + 50), at(call * 100 + 70), false), Effect::Noted);
        }
    }
    assert_eq!(learner.rate(), Some(10.0));
    assert_eq!(learner.refused(at(10_000), at(10_020), true), Effect::Begun);
    assert!(learner.rate() < Some(10.0));
}

#[test]
fn answers_to_calls_under_way_do_not_lower_the_rate_again() {
    let mut learner = Learner::new(Some(10.0), 1);
    let at = Duration::from_millis;
    (0..30).for_each(|it| {
        learner.went_through(at(it * 100), at(it * 100 + 80));
    });
    assert_eq!(learner.refused(at(3000), at(3080), true), Effect::Begun);
    let rate = learner.rate();
    for sent in [3010, 3030, 3070] {
        assert_eq!(learner.refused(at(sent), at(sent + 80), true), Effect::Late);
    }
    assert_eq!(learner.rate(), rate);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_rate_stays_between_floor_and_ceiling_and_is_never_stuck(
        ceiling in prop::option::of(0.1f64..200.0),
        steps in prop::collection::vec(0.1f64..300.0, 1..6),
    ) {
        let limit = |at: f64| if at > 200.0 { 1e9 } else { steps[(at / 40.0) as usize % steps.len()] };
        let mut run = run(ceiling, 300.0, limit, 200.0);
        let rate = run.learner.rate();
        if let Some(rate) = rate {
            prop_assert!(rate.is_finite() && rate >= FLOOR.min(ceiling.unwrap_or(1.0)));
            prop_assert!(rate <= ceiling.unwrap_or(f64::INFINITY));
        }
        // Without pressure it comes back: to the ceiling, or to no limit.
        let mut now = Duration::from_secs(201);
        for _ in 0..20_000 {
            if !run.learner.is_learned() {
                break;
            }
            now += Duration::from_secs_f64(1.0 / run.learner.rate().unwrap_or(300.0).min(300.0));
            run.learner.went_through(now, now);
        }
        prop_assert_eq!(run.learner.rate(), ceiling);
    }
}

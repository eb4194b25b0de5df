//! One station against limits that nobody tells it, of every kind that an account may have.
//!
//! The real limiter, the real queue and the real blame, on a simulated clock: the same seed, the same
//! figures. `cargo bench --bench pace -- --docs docs` makes the whole table.

use std::time::Duration;

use super::cloud::{Kind, Throttling};
use super::stations::{Outcome, Stations, simulate};
use crate::cloud::Quotas;

/// Calls a second that a station can make at AWS's default quotas: six for a device, ten devices.
const DEMAND: f64 = 60.0;

/// A rate counts as reached when so much of it passes over [`REACHED_OVER`].
const REACHED: f64 = 0.9;

const REACHED_OVER: f64 = 2.0;

/// How a hidden limit moves.
#[derive(Debug, Clone, Copy)]
pub struct Sequence {
    /// What the table calls it.
    pub name: &'static str,
    /// The second from which a limit holds, and the limit, calls a second; the first at 0.
    pub steps: &'static [(f64, f64)],
    /// When it ends, seconds.
    pub end: f64,
    /// Not looked at while the limiter's constants were chosen.
    pub held_back: bool,
}

/// The sequences of the table.
pub const SEQUENCES: [Sequence; 9] = [
    Sequence {
        name: "50, 15, 40, 8, 60",
        steps: &[(0.0, 50.0), (20.0, 15.0), (50.0, 40.0), (80.0, 8.0), (100.0, 60.0)],
        end: 120.0,
        held_back: false,
    },
    Sequence { name: "15 throughout", steps: &[(0.0, 15.0)], end: 120.0, held_back: false },
    Sequence {
        name: "40, 20, 45",
        steps: &[(0.0, 40.0), (40.0, 20.0), (80.0, 45.0)],
        end: 120.0,
        held_back: false,
    },
    Sequence { name: "3, 12", steps: &[(0.0, 3.0), (60.0, 12.0)], end: 120.0, held_back: false },
    Sequence {
        name: "20, 60, 10",
        steps: &[(0.0, 20.0), (40.0, 60.0), (80.0, 10.0)],
        end: 120.0,
        held_back: true,
    },
    Sequence { name: "5, 30", steps: &[(0.0, 5.0), (60.0, 30.0)], end: 120.0, held_back: true },
    Sequence { name: "8 throughout", steps: &[(0.0, 8.0)], end: 120.0, held_back: true },
    Sequence { name: "25 throughout", steps: &[(0.0, 25.0)], end: 120.0, held_back: true },
    Sequence {
        name: "10 to 50 and back, by 4 each 5 s",
        steps: &[
            (0.0, 10.0),
            (5.0, 14.0),
            (10.0, 18.0),
            (15.0, 22.0),
            (20.0, 26.0),
            (25.0, 30.0),
            (30.0, 34.0),
            (35.0, 38.0),
            (40.0, 42.0),
            (45.0, 46.0),
            (50.0, 50.0),
            (55.0, 46.0),
            (60.0, 42.0),
            (65.0, 38.0),
            (70.0, 34.0),
            (75.0, 30.0),
            (80.0, 26.0),
            (85.0, 22.0),
            (90.0, 18.0),
            (95.0, 14.0),
            (100.0, 10.0),
        ],
        end: 120.0,
        held_back: true,
    },
];

/// The kinds of limit of the table.
pub const LIMITS: [(&str, Kind, f64); 7] = [
    ("bucket of one call", Kind::Bucket, 0.0),
    ("bucket of 0.1 s", Kind::Bucket, 0.1),
    ("bucket of 0.3 s", Kind::Bucket, 0.3),
    ("bucket of 1 s", Kind::Bucket, 1.0),
    ("bucket of 2 s", Kind::Bucket, 2.0),
    ("sliding second", Kind::Window, 0.0),
    ("fixed seconds", Kind::FixedWindow, 0.0),
];

/// What came of one run.
#[derive(Debug, Clone)]
pub struct Score {
    /// Calls that went through, as a part of what the limit allows.
    pub of_ideal: f64,
    /// Calls that were throttled, as a part of all.
    pub throttled: f64,
    /// For each step up, seconds until the new rate is reached.
    pub reached: Vec<f64>,
}

/// Lets one station of 32 nests work through a sequence.
#[must_use]
pub fn run(sequence: &Sequence, limit: (Kind, f64), rtt: Duration, seed: u64) -> Score {
    let end = Duration::from_secs_f64(sequence.end);
    let steps = sequence.steps.iter().skip(1);
    let outcome = simulate(&Stations {
        shifts: vec![(Duration::ZERO, end)],
        nests: 32,
        quotas: Quotas::aws_default(),
        throttling: Throttling {
            kind: limit.0,
            burst: Duration::from_secs_f64(limit.1),
            account: sequence.steps.first().map(|it| it.1),
            steps: steps.map(|(at, rate)| (Duration::from_secs_f64(*at), Some(*rate))).collect(),
        },
        random: 0.0,
        rtt,
        seed,
    });
    score(sequence, &outcome)
}

fn score(sequence: &Sequence, outcome: &Outcome) -> Score {
    let times: Vec<f64> = outcome.admitted.iter().map(Duration::as_secs_f64).collect();
    let count = |from: f64, to: f64| {
        (times.partition_point(|it| *it < to) - times.partition_point(|it| *it < from)) as f64
    };
    let ends = sequence.steps.iter().skip(1).map(|it| it.0).chain([sequence.end]);
    let ideal: f64 =
        sequence.steps.iter().zip(ends).map(|((from, rate), to)| (to - from) * rate.min(DEMAND)).sum();
    let reached = |from: f64, rate: f64| {
        let enough = |at: f64| count(at, at + REACHED_OVER) >= REACHED * REACHED_OVER * rate.min(DEMAND);
        (0..200).map(|it| f64::from(it) / 10.0).find(|it| enough(from + it)).unwrap_or(f64::INFINITY)
    };
    let ups = sequence.steps.windows(2).filter(|it| it[1].1 > it[0].1);
    Score {
        of_ideal: count(0.0, sequence.end) / ideal,
        throttled: outcome.throttled as f64 / outcome.calls as f64,
        reached: ups.map(|it| reached(it[1].0, it[1].1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 3;

    /// The worst of three draws, and the mean of the parts of the ideal.
    fn worst(sequence: &Sequence, limit: (Kind, f64)) -> (Score, f64) {
        let scores: Vec<Score> =
            (1..=DRAWS).map(|seed| run(sequence, limit, Duration::from_millis(20), seed)).collect();
        let mean = scores.iter().map(|it| it.of_ideal).sum::<f64>() / DRAWS as f64;
        let worst = scores.into_iter().reduce(|one, other| Score {
            of_ideal: one.of_ideal.min(other.of_ideal),
            throttled: one.throttled.max(other.throttled),
            reached: std::iter::zip(one.reached, other.reached).map(|it| it.0.max(it.1)).collect(),
        });
        (worst.unwrap(), mean)
    }

    #[test]
    fn a_hidden_limit_that_steps_is_followed_as_is_required() {
        for burst in [0.3, 1.0, 2.0] {
            let (score, mean) = worst(&SEQUENCES[0], (Kind::Bucket, burst));
            assert!(mean >= 0.96, "{burst}: {mean}");
            assert!(score.of_ideal >= 0.93, "{burst}: {score:?}");
            assert!(score.throttled <= 0.03, "{burst}: {score:?}");
            assert!(score.reached.iter().all(|it| *it <= 4.0), "{burst}: {score:?}");
        }
    }

    #[test]
    fn a_hidden_limit_of_another_kind_that_steps_is_followed_as_far_as_it_goes() {
        let bounds = [(Kind::Bucket, 0.69), (Kind::Window, 0.87), (Kind::FixedWindow, 0.87)];
        for (kind, least) in bounds {
            let (score, mean) = worst(&SEQUENCES[0], (kind, 0.0));
            assert!(mean >= least, "{kind:?}: {mean}");
            assert!(score.throttled <= 0.05, "{kind:?}: {score:?}");
        }
    }

    #[test]
    fn a_limit_of_any_kind_that_stands_is_used_up_with_few_throttled_calls() {
        for (name, kind, burst) in LIMITS {
            let (score, mean) = worst(&SEQUENCES[1], (kind, burst));
            assert!(mean >= 0.88, "{name}: {mean}");
            assert!(score.of_ideal >= 0.86, "{name}: {score:?}");
            assert!(score.throttled <= 0.04, "{name}: {score:?}");
        }
    }
}

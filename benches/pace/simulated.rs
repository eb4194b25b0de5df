//! Stations on a simulated clock, and the limiter that is real.

use std::time::Duration;

use linemint::cloud::Quotas;
use linemint::rehearsal::cloud::Throttling;
use linemint::rehearsal::drain::{Scene, play};
use linemint::rehearsal::stations::{Outcome, Stations, jain, simulate};

use super::{Failure, MINUTE, TIGHTEST};

const SECOND: Duration = Duration::from_secs(1);

/// What stations that begin together make of an account in half an hour; the beginning counts.
pub(crate) struct Together {
    /// Per cent.
    pub(crate) of_ideal: f64,
    /// Per cent.
    pub(crate) throttled: f64,
    pub(crate) jain: f64,
}

/// What becomes of four stations of which two leave, and of a fifth that joins them; seconds, `NAN` for never.
pub(crate) struct Changing {
    /// Until Jain's index over two minutes is 0.9 or more.
    pub(crate) fair_after_joining: f64,
    /// Until 95 % of the quota are used over ten seconds.
    pub(crate) full_after_leaving: f64,
    pub(crate) fair_after_leaving: f64,
    pub(crate) outcome: Outcome,
}

/// What a backlog costs the units that come to their nests while it drains.
pub(crate) struct Backlog {
    /// Devices of the backlog.
    pub(crate) devices: usize,
    /// From `unit` to `pass`, p99, of a station without a backlog; milliseconds.
    pub(crate) idle_ms: f64,
    /// The same while the backlog drains.
    pub(crate) busy_ms: f64,
    /// Per cent, until the last device of the backlog was made.
    pub(crate) of_quota: f64,
    /// Per cent.
    pub(crate) throttled: f64,
}

impl Backlog {
    /// How many times as long a unit takes.
    pub(crate) fn ratio(&self) -> f64 {
        self.busy_ms / self.idle_ms
    }
}

/// A station that AWS has left alone for a minute, and one that has rested.
pub(crate) fn backlog(seed: u64) -> Result<Backlog, Failure> {
    let (idle, busy) = (play(Scene::idle(seed))?, play(Scene::backlog(seed))?);
    let millis = |it: Option<Duration>| it.map_or(f64::NAN, |it| 1000.0 * it.as_secs_f64());
    Ok(Backlog {
        devices: busy.buffered(),
        idle_ms: millis(idle.p99()),
        busy_ms: millis(busy.p99()),
        of_quota: 100.0 * busy.used(TIGHTEST).unwrap_or(f64::NAN),
        throttled: 100.0 * busy.throttled() as f64 / busy.calls() as f64,
    })
}

/// So many stations at once.
pub(crate) fn together(stations: usize, seed: u64) -> Together {
    let end = 30 * MINUTE;
    let outcome = simulate(&shifts(vec![(Duration::ZERO, end); stations], seed));
    let parts = outcome.between(Duration::ZERO, end);
    Together {
        of_ideal: 100.0 * parts.iter().sum::<f64>() / (TIGHTEST * end.as_secs_f64()),
        throttled: 100.0 * outcome.throttled as f64 / outcome.calls as f64,
        jain: jain(&parts),
    }
}

/// Per cent of its ceiling that a station reaches in five minutes while this part of its calls is throttled
/// whatever it does.
pub(crate) fn in_noise(share: f64, seed: u64) -> f64 {
    let end = 5 * MINUTE;
    let outcome = simulate(&Stations { random: share, ..shifts(vec![(Duration::ZERO, end)], seed) });
    let devices: f64 = outcome.between(Duration::ZERO, end).iter().sum();
    100.0 * devices / (TIGHTEST * end.as_secs_f64())
}

/// Four stations; a fifth comes after 20 minutes, and two leave after 50.
pub(crate) fn join_and_leave(seed: u64) -> Changing {
    let (joins, leaves, end) = (20 * MINUTE, 50 * MINUTE, 80 * MINUTE);
    let (whole, left) = ((Duration::ZERO, end), (Duration::ZERO, leaves));
    let outcome = simulate(&shifts(vec![whole, whole, left, left, (joins, end)], seed));
    let fair = |from: Duration, to: Duration, present: &[usize]| {
        let times = (0..).map(|it| from + it * 5 * SECOND).take_while(|it| *it + 2 * MINUTE <= to);
        let is_fair = |at: &Duration| {
            let parts = outcome.between(*at, *at + 2 * MINUTE);
            jain(&present.iter().map(|it| parts[*it]).collect::<Vec<f64>>()) >= 0.9
        };
        times.into_iter().find(is_fair).map_or(f64::NAN, |it| (it - from).as_secs_f64())
    };
    let is_full = |at: &Duration| outcome.between(*at, *at + 10 * SECOND).iter().sum::<f64>() >= 95.0;
    let full = (0..1800).map(|it| leaves + it * SECOND).find(is_full);
    Changing {
        fair_after_joining: fair(joins, leaves, &[0, 1, 2, 3, 4]),
        full_after_leaving: full.map_or(f64::NAN, |it| (it - leaves).as_secs_f64()),
        fair_after_leaving: fair(leaves, end, &[0, 1, 4]),
        outcome,
    }
}

fn shifts(shifts: Vec<(Duration, Duration)>, seed: u64) -> Stations {
    Stations {
        shifts,
        nests: 16,
        quotas: Quotas::aws_default(),
        throttling: Throttling::default(),
        random: 0.0,
        rtt: Duration::from_millis(50),
        seed,
    }
}

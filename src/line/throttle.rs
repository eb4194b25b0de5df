//! Limits of AWS that hold the line up, for status and reports.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Now;
use crate::cloud::{ACCOUNT, DEVICE_CERTIFICATES, HeldBack, Operation};

/// A limit that allows less than this part of what is configured is told...
const FAR: f64 = 0.75;

/// ...until it allows this part: a limit on its way is told of once.
const NEAR: f64 = 0.9;

/// How long nobody has to wait for a limit before nothing is told of it any more.
const QUIET: Duration = Duration::from_secs(5);

/// A pause of less is none that anybody would notice.
const PAUSE: Duration = Duration::from_secs(5);

/// By what part a rate has to differ for another figure to be told: it moves with each call.
const MOVED: f64 = 0.25;

/// What holds calls up now.
#[derive(Debug, Default)]
pub(super) struct Throttles {
    slow: BTreeMap<&'static str, Slow>,
    pauses: BTreeMap<&'static str, Pause>,
}

#[derive(Debug)]
struct Slow {
    /// As it is told.
    rate: f64,
    ceiling: Option<f64>,
    /// When calls waited for it last, monotonic.
    seen: Duration,
}

#[derive(Debug)]
struct Pause {
    until: Duration,
    /// The same, as it is told.
    wall: Timestamp,
}

impl Throttles {
    /// Takes in what calls wait for now.
    pub(super) fn note(&mut self, limits: &[HeldBack], now: Now) {
        for it in limits {
            self.note_rate(it, now);
            let until = it.paused_until.unwrap_or_default();
            let left = until.saturating_sub(now.mono);
            let told = self.pauses.get(it.limit);
            if told.map_or(left >= PAUSE, |it| it.until < until) {
                let wall = now.wall.checked_add(left).unwrap_or(now.wall);
                self.pauses.insert(it.limit, Pause { until, wall });
            }
        }
        self.slow.retain(|_, it| now.mono.saturating_sub(it.seen) < QUIET);
        self.pauses.retain(|_, it| it.until > now.mono);
    }

    fn note_rate(&mut self, it: &HeldBack, now: Now) {
        let Some(rate) = it.rate else { return };
        let told = self.slow.get(it.limit);
        let part = if told.is_some() { NEAR } else { FAR };
        if it.ceiling.is_some_and(|ceiling| rate >= part * ceiling) {
            self.slow.remove(it.limit);
            return;
        }
        let same = told.map(|it| it.rate).filter(|told| (rate / told - 1.0).abs() < MOVED);
        let slow = Slow { rate: same.unwrap_or(rate), ceiling: it.ceiling, seen: now.mono };
        self.slow.insert(it.limit, slow);
    }

    /// A sentence for each.
    pub(super) fn told(&self) -> impl Iterator<Item = String> {
        let pauses = self.pauses.iter().map(|(limit, it)| {
            let until = it.wall.strftime("%H:%M:%S UTC");
            format!("AWS asks to stay away from {} until {until}", words(limit))
        });
        let slow = self.slow.iter().map(|(limit, it)| {
            let of = it.ceiling.map(|it| format!(" of {}", figure(it))).unwrap_or_default();
            format!("AWS allows {}{of} {} a second", figure(it.rate), words(limit))
        });
        pauses.chain(slow)
    }
}

/// What is limited, between a number and "a second".
fn words(limit: &'static str) -> &'static str {
    match limit {
        ACCOUNT => "calls in all",
        DEVICE_CERTIFICATES => "registrations of certificates",
        other => other.parse::<Operation>().map_or(other, Operation::aws_name),
    }
}

fn figure(rate: f64) -> String {
    let figure = if rate < 1.0 { format!("{rate:.2}") } else { format!("{rate:.1}") };
    figure.trim_end_matches('0').trim_end_matches('.').to_owned()
}

//! The metrics: what each is called, what it counts, and where it comes from, in one table ([`FAMILIES`]) from
//! which the answer to a collector and `docs/metrics.md` are both made.

mod exposition;
mod families;

use std::sync::Arc;

use jiff::Timestamp;

use super::Status;
use super::figures::Figures;
use super::tally::Tally;
use crate::histogram::Buckets;

pub(super) use self::exposition::Format;
pub(super) use self::families::FAMILIES;

/// What a metric is made from.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) status: Arc<Status>,
    pub(super) tally: Arc<Tally>,
    pub(super) figures: Figures,
    pub(super) now: Timestamp,
}

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up only, from the daemon's start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often a value lay in which range, from the daemon's start.
    Histogram,
    /// Says something by its labels; its value is 1.
    Info,
}

/// The values of a sample's labels, in the order of the family's.
pub(super) type Labels = Vec<String>;

/// What there is of a metric.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Samples {
    Numbers(Vec<(Labels, f64)>),
    Histograms(Vec<(Labels, Buckets)>),
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    /// Its name without unit and suffix.
    pub(super) stem: &'static str,
    /// A base unit, where it has one.
    pub(super) unit: Option<&'static str>,
    pub(super) kind: Kind,
    /// What it tells, in one line without quotes or backslashes.
    pub(super) help: &'static str,
    /// The labels of each sample, in order.
    pub(super) labels: &'static [&'static str],
    /// Where it comes from.
    pub(super) read: fn(&Snapshot) -> Samples,
}

/// The answer to a collector.
pub(super) fn render(snapshot: &Snapshot, format: Format) -> String {
    exposition::render(FAMILIES, snapshot, format)
}

#[cfg(test)]
mod tests;

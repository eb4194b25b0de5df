//! Counts how often a value lay in which range, without a lock: whoever observes pays for two additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The sum is kept in millionths: enough for microseconds and for whole numbers.
const PARTS: f64 = 1e6;

/// How often a value was at most each of some bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound and one for what is beyond the last.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// What a [`Histogram`] held at some time.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// The upper bound of each bucket but the last, ascending.
    pub bounds: &'static [f64],
    /// Values in each bucket, those beyond the last bound at the end: one more than there are bounds.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: f64,
}

impl Histogram {
    /// With the upper bounds of its buckets, ascending.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Takes in a value; less than nothing counts as nothing.
    pub fn observe(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        // From a float it is cut to what fits.
        self.sum.fetch_add((value.max(0.0) * PARTS).round() as u64, Ordering::Relaxed);
    }

    /// Takes in a time, in seconds.
    pub fn observe_time(&self, took: Duration) {
        self.observe(took.as_secs_f64());
    }

    /// What it holds now. What is observed meanwhile may be in one part and not yet in another.
    #[must_use]
    pub fn buckets(&self) -> Buckets {
        Buckets {
            bounds: self.bounds,
            counts: self.counts.iter().map(|it| it.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed) as f64 / PARTS,
        }
    }
}

impl Buckets {
    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_the_first_bucket_that_holds_it_and_the_last_holds_everything() {
        let histogram = Histogram::new(&[0.01, 0.1, 1.0]);
        for value in [0.0, 0.01, 0.011, 0.1, 0.5, 1.0, 1.001, 1e9, -1.0] {
            histogram.observe(value);
        }
        histogram.observe_time(Duration::from_millis(20));
        let buckets = histogram.buckets();
        assert_eq!((buckets.counts.clone(), buckets.count()), (vec![3, 3, 2, 2], 10));
        assert!((buckets.sum - 1_000_000_002.642).abs() < 1e-3, "{}", buckets.sum);
    }

    #[test]
    fn observers_on_several_threads_lose_nothing() {
        let histogram = Histogram::new(&[1.0]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|it| histogram.observe(f64::from(it % 3))));
            }
        });
        let buckets = histogram.buckets();
        assert_eq!(buckets.counts, [2668, 1332]);
        assert!((buckets.sum - 3996.0).abs() < 1e-6);
    }
}
